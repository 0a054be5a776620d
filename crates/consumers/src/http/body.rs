//! A request's body on its way out.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use strongroom_wire::{Code, Refusal};
use tokio::sync::mpsc;

/// A request's body.
pub enum BodySource {
    /// There is none.
    Empty,
    /// Here as a whole.
    Inline(Bytes),
    /// Arriving in pieces.
    Stream(BodyStream),
}

impl BodySource {
    /// A body that arrives in pieces, and its sending end. `length` is in bytes, where it is known.
    pub fn stream(length: Option<u64>) -> (BodySender, Self) {
        let (sender, pieces) = mpsc::channel(PIECES_WAITING_MAX);
        let finished = Arc::new(AtomicBool::new(false));
        (
            BodySender { pieces: sender, finished: Arc::clone(&finished) },
            Self::Stream(BodyStream { length, pieces, finished }),
        )
    }

    /// The same body once more, for a redirect that repeats it; `None` for a stream.
    pub(super) fn again(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Inline(bytes) => Some(Self::Inline(bytes.clone())),
            Self::Stream(_) => None,
        }
    }

    /// The bytes, if all of them are here.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        match self {
            Self::Empty => Some(&[]),
            Self::Inline(bytes) => Some(bytes),
            Self::Stream(_) => None,
        }
    }

    fn length(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Inline(bytes) => Some(bytes.len() as u64),
            Self::Stream(stream) => stream.length,
        }
    }
}

/// The receiving end of a body that arrives in pieces.
pub struct BodyStream {
    length: Option<u64>,
    pieces: mpsc::Receiver<Bytes>,
    finished: Arc<AtomicBool>,
}

/// The sending end of a body that arrives in pieces. Dropped before [`finish`](Self::finish), it breaks the request off.
pub struct BodySender {
    pieces: mpsc::Sender<Bytes>,
    finished: Arc<AtomicBool>,
}

impl BodySender {
    /// Sends the next piece; waits while the called host does not take any.
    ///
    /// # Errors
    /// The call has ended and needs no more of its body.
    pub async fn send(&self, piece: Bytes) -> Result<(), BodyClosed> {
        self.pieces.send(piece).await.map_err(|_| BodyClosed)
    }

    /// The body is complete.
    pub fn finish(self) {
        self.finished.store(true, Ordering::Release);
    }
}

/// The call has ended before its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the call has ended and needs no more of its body")]
pub struct BodyClosed;

/// The bytes of a call's bodies: both ways, and those of its redirects too.
#[derive(Debug, Default)]
pub struct Meter {
    max: Option<u64>,
    closed: AtomicBool,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Meter {
    /// Stops at `max` bytes, counted both ways together.
    pub fn new(max: Option<u64>) -> Self {
        Self { max, ..Self::default() }
    }

    /// The call is over: from here on nothing moves.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Bytes of request bodies that were handed to connections.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes of the answer's body, decoded and before masking.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Both together.
    pub fn moved(&self) -> u64 {
        self.sent().saturating_add(self.received())
    }

    pub(super) fn left(&self) -> u64 {
        if self.closed.load(Ordering::Relaxed) {
            return 0;
        }
        self.max.map_or(u64::MAX, |max| max.saturating_sub(self.moved()))
    }

    pub(super) fn send(&self, bytes: u64) -> Option<()> {
        self.count(&self.sent, bytes)
    }

    pub(super) fn receive(&self, bytes: u64) -> Option<()> {
        self.count(&self.received, bytes)
    }

    /// Counts bytes; `None` where there are fewer left. One thread runs all bodies of a vault.
    fn count(&self, way: &AtomicU64, bytes: u64) -> Option<()> {
        (bytes <= self.left()).then(|| {
            way.fetch_add(bytes, Ordering::Relaxed);
        })
    }
}

/// A body with its limit, as hyper sends it.
pub(super) struct OutBody {
    source: BodySource,
    left: u64,
    meter: Arc<Meter>,
    progress: Arc<Progress>,
}

/// How far a body has come, for whoever waits for the answer.
#[derive(Default)]
pub(super) struct Progress {
    sent: AtomicU64,
    ended: AtomicBool,
    failed: Mutex<Option<Refusal>>,
}

impl Progress {
    pub(super) fn bytes_sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Whether the body was sent to its end.
    pub(super) fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Why the body broke off, if it did on our side.
    pub(super) fn failure(&self) -> Option<Refusal> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl OutBody {
    /// `source`, cut off with `limit_bytes` beyond `bytes_max` or where the meter stops.
    ///
    /// # Errors
    /// `limit_bytes` at once, where the length is known and larger.
    pub(super) fn new(
        source: BodySource,
        bytes_max: u64,
        meter: &Arc<Meter>,
    ) -> Result<(Self, Arc<Progress>), Refusal> {
        if source.length().is_some_and(|length| length > bytes_max.min(meter.left())) {
            return Err(too_large());
        }
        let progress = Arc::new(Progress::default());
        progress.ended.store(source.length() == Some(0), Ordering::Relaxed);
        let left = source.length().unwrap_or(bytes_max);
        Ok((Self { source, left, meter: Arc::clone(meter), progress: Arc::clone(&progress) }, progress))
    }

    pub(super) fn source(&self) -> &BodySource {
        &self.source
    }

    /// The source again, of a body of which nothing was taken.
    pub(super) fn into_source(self) -> BodySource {
        self.source
    }

    fn fail(&self, refusal: Refusal) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        *self.progress.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal.clone());
        Poll::Ready(Some(Err(refusal)))
    }

    fn pass(&mut self, piece: Bytes) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        let len = piece.len() as u64;
        let Some(left) = self.left.checked_sub(len) else {
            let declared = matches!(&self.source, BodySource::Stream(BodyStream { length: Some(_), .. }));
            return self.fail(if declared {
                Refusal::new(Code::RequestMalformed).detail("The body is longer than announced.")
            } else {
                too_large()
            });
        };
        if self.meter.send(len).is_none() {
            return self.fail(too_large());
        }
        self.left = left;
        if left == 0 && self.source.length().is_some() {
            // hyper does not ask again once the announced length has been written.
            self.progress.ended.store(true, Ordering::Relaxed);
        }
        self.progress.sent.fetch_add(len, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl Body for OutBody {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        let piece = match &mut self.source {
            BodySource::Empty => None,
            BodySource::Inline(bytes) => Some(std::mem::take(bytes)).filter(|bytes| !bytes.is_empty()),
            BodySource::Stream(stream) => match stream.pieces.poll_recv(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(piece)) => Some(piece),
                Poll::Ready(None) if !stream.finished.load(Ordering::Acquire) => {
                    return self.fail(Refusal::new(Code::Cancelled).detail("The body was broken off."));
                }
                Poll::Ready(None) if stream.length.is_some() && self.left > 0 => {
                    return self
                        .fail(Refusal::new(Code::RequestMalformed).detail("The body is shorter than announced."));
                }
                Poll::Ready(None) => None,
            },
        };
        match piece {
            Some(piece) => self.pass(piece),
            None => {
                self.progress.ended.store(true, Ordering::Relaxed);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        // A stream of known length has ended only once its sender said so.
        match &self.source {
            BodySource::Empty => true,
            BodySource::Inline(bytes) => bytes.is_empty(),
            BodySource::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            BodySource::Stream(BodyStream { length: None, .. }) => SizeHint::default(),
            _ => SizeHint::with_exact(self.left),
        }
    }
}

fn too_large() -> Refusal {
    Refusal::new(Code::LimitBytes).detail("The request's body is larger than allowed.")
}

/// Pieces that wait between the caller and the connection.
const PIECES_WAITING_MAX: usize = 4;

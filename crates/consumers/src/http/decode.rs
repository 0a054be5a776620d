//! An answer's body as it arrives: its frames, and its content encodings undone, so that the mask sees what a reader sees.
//!
//! Decoding hands on what it has as soon as it has it. It never holds more than its window (8 MiB for zstd, as RFC 9659 asks;
//! brotli's own limit is 16 MiB), and never produces more than one buffer at a time, so that a bomb meets the body limit.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use async_compression::tokio::bufread::{BrotliDecoder, GzipDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::HeaderMap;
use http::header;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use strongroom_wire::{Code, Refusal};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt as _, BufReader};
use tokio_util::io::StreamReader;

/// A content encoding that the mask sees through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Gzip,
    Brotli,
    Zstd,
}

/// The encodings of a body, in the order in which they were applied; `None` where one is unknown or there are too many.
pub(super) fn encodings(headers: &HeaderMap) -> Option<Vec<Encoding>> {
    let mut encodings = Vec::new();
    for value in headers.get_all(header::CONTENT_ENCODING) {
        for name in value.to_str().ok()?.split(',') {
            match name.trim().to_ascii_lowercase().as_str() {
                "gzip" | "x-gzip" => encodings.push(Encoding::Gzip),
                "br" => encodings.push(Encoding::Brotli),
                "zstd" => encodings.push(Encoding::Zstd),
                "identity" | "" => {}
                _ => return None,
            }
        }
    }
    (encodings.len() <= ENCODINGS_MAX).then_some(encodings)
}

/// The data frames of a body; trailers are dropped.
pub(super) struct Frames {
    incoming: Incoming,
    idle: Duration,
    left: u64,
}

impl Frames {
    /// At most `bytes_max` bytes, and at most `idle` between two frames.
    pub(super) fn new(incoming: Incoming, idle: Duration, bytes_max: u64) -> Self {
        Self { incoming, idle, left: bytes_max }
    }

    /// The next bytes, `None` at the end.
    ///
    /// # Errors
    /// `limit_bytes`, or `http_failed` where the body breaks off or stops coming.
    async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            let frame = tokio::time::timeout(self.idle, self.incoming.frame()).await;
            let frame = match frame.map_err(|_| failed("The answer's body stopped coming."))? {
                None => return Ok(None),
                Some(frame) => frame.map_err(|_| failed("The answer's body broke off."))?,
            };
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                self.left = self.left.checked_sub(data.len() as u64).ok_or_else(|| {
                    Refusal::new(Code::LimitBytes).detail("The answer's body is larger than allowed.")
                })?;
                return Ok(Some(data));
            }
        }
    }
}

/// A body with its encodings undone.
pub(super) enum Decoded {
    Plain(Frames),
    Encoded { reader: Pin<Box<dyn AsyncRead>>, buffer: BytesMut },
}

impl Decoded {
    /// `frames` without `encodings`, which are in the order in which they were applied.
    pub(super) fn new(frames: Frames, encodings: &[Encoding]) -> Self {
        if encodings.is_empty() || frames.incoming.is_end_stream() {
            return Self::Plain(frames);
        }
        let chunks = stream::unfold(Some(frames), |frames| async move {
            let mut frames = frames?;
            match frames.next().await {
                Ok(None) => None,
                Ok(Some(chunk)) => Some((Ok(chunk), Some(frames))),
                Err(refusal) => Some((Err(io::Error::other(refusal)), None)),
            }
        });
        let mut reader: Pin<Box<dyn AsyncBufRead>> = Box::pin(StreamReader::new(chunks));
        for encoding in encodings.iter().rev() {
            reader = undo(*encoding, reader);
        }
        Self::Encoded { reader, buffer: BytesMut::new() }
    }

    /// The next bytes, `None` at the end.
    ///
    /// # Errors
    /// As [`Frames::next`], and `http_failed` where the body is not what its encoding says.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        match self {
            Self::Plain(frames) => frames.next().await,
            Self::Encoded { reader, buffer } => {
                buffer.reserve(BUFFER_BYTES);
                let read = reader.read_buf(buffer).await.map_err(refusal_inside)?;
                Ok((read > 0).then(|| buffer.split().freeze()))
            }
        }
    }
}

fn undo(encoding: Encoding, from: Pin<Box<dyn AsyncBufRead>>) -> Pin<Box<dyn AsyncBufRead>> {
    match encoding {
        Encoding::Gzip => {
            let mut decoder = GzipDecoder::new(from);
            decoder.multiple_members(true);
            Box::pin(BufReader::with_capacity(BUFFER_BYTES, decoder))
        }
        Encoding::Brotli => Box::pin(BufReader::with_capacity(BUFFER_BYTES, BrotliDecoder::new(from))),
        Encoding::Zstd => {
            let mut decoder = ZstdDecoder::with_params(from, &[DParameter::window_log_max(ZSTD_WINDOW_LOG_MAX)]);
            decoder.multiple_members(true);
            Box::pin(BufReader::with_capacity(BUFFER_BYTES, decoder))
        }
    }
}

/// The refusal that travelled through a reader, or that its own error means.
fn refusal_inside(error: io::Error) -> Refusal {
    let inner = error.into_inner().and_then(|inner| inner.downcast::<Refusal>().ok());
    inner.map_or_else(|| failed("The answer's body is not what its Content-Encoding says."), |refusal| *refusal)
}

fn failed(detail: &str) -> Refusal {
    Refusal::new(Code::HttpFailed).detail(detail)
}

const ENCODINGS_MAX: usize = 2;
const BUFFER_BYTES: usize = 16 * 1024;
/// 8 MiB (RFC 9659).
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

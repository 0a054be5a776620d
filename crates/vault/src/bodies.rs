//! Streamed bodies: request bodies on their way to a called host, and answers on their way back, each with its window.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use strongroom_consumers::http::{AnswerSink, BodySender, BodySource};
use strongroom_core::ReplyTo;
use strongroom_wire::guest::{HttpBody, HttpHead};
use strongroom_wire::{Code, Refusal, limits};
use tokio::sync::{Semaphore, mpsc};

use crate::serve::Told;

/// The bodies of requests that are under way, by the request they belong to.
#[derive(Default)]
pub(crate) struct Bodies {
    incoming: HashMap<ReplyTo, Incoming>,
    outgoing: HashMap<ReplyTo, Arc<Semaphore>>,
}

/// A request's body: pieces that nobody has taken yet, within the window that its sender was given.
struct Incoming {
    pieces: mpsc::UnboundedSender<Piece>,
    waiting: Option<mpsc::UnboundedReceiver<Piece>>,
    window: usize,
    ended: bool,
}

enum Piece {
    Data(Bytes),
    End { aborted: bool },
}

impl Bodies {
    /// A request came that a body may follow.
    pub(crate) fn expect(&mut self, to: ReplyTo) {
        let (pieces, waiting) = mpsc::unbounded_channel();
        let window = limits::STREAM_WINDOW_BYTES as usize;
        self.incoming.insert(to, Incoming { pieces, waiting: Some(waiting), window, ended: false });
    }

    /// A piece of a request's body.
    ///
    /// # Errors
    /// The sender did not keep to its window, or sent more after the end: close the channel.
    pub(crate) fn take(&mut self, to: ReplyTo, data: &[u8], last: bool, aborted: bool) -> Result<(), ()> {
        let Some(body) = self.incoming.get_mut(&to) else { return Ok(()) };
        if body.ended {
            return Err(());
        }
        body.window = body.window.checked_sub(data.len()).ok_or(())?;
        if !data.is_empty() {
            let _ = body.pieces.send(Piece::Data(Bytes::copy_from_slice(data)));
        }
        if last || aborted {
            body.ended = true;
            let _ = body.pieces.send(Piece::End { aborted });
        }
        Ok(())
    }

    /// The called host took so much: its sender may send as much again.
    pub(crate) fn widen(&mut self, to: ReplyTo, bytes: u32) {
        if let Some(body) = self.incoming.get_mut(&to) {
            body.window += bytes as usize;
        }
    }

    /// The other end may be sent so much more of an answer.
    pub(crate) fn credit(&mut self, to: ReplyTo, bytes: u32) {
        if let Some(credit) = self.outgoing.get(&to)
            && credit.available_permits() + bytes as usize <= 2 * limits::STREAM_WINDOW_BYTES as usize
        {
            credit.add_permits(bytes as usize);
        }
    }

    /// The body of a call, as the engine takes it.
    pub(crate) fn source(
        &mut self,
        to: ReplyTo,
        body: &HttpBody,
        told: &mpsc::Sender<Told>,
    ) -> Result<BodySource, Refusal> {
        let length = match body {
            HttpBody::Empty => return Ok(BodySource::Empty),
            HttpBody::Inline(bytes) => return Ok(BodySource::Inline(Bytes::from(bytes.0.clone()))),
            HttpBody::Stream { length } => *length,
        };
        let waiting = self.incoming.get_mut(&to).and_then(|body| body.waiting.take());
        let waiting = waiting.ok_or(Refusal::new(Code::RequestMalformed).detail("The body is missing."))?;
        let (sender, source) = BodySource::stream(length);
        tokio::task::spawn_local(feed(to, waiting, sender, told.clone()));
        Ok(source)
    }

    /// The sink of a call's answer.
    pub(crate) fn sink(&mut self, to: ReplyTo, told: &mpsc::Sender<Told>) -> (Sink, Rc<Cell<bool>>) {
        let credit = Arc::new(Semaphore::new(limits::STREAM_WINDOW_BYTES as usize));
        self.outgoing.insert(to, Arc::clone(&credit));
        let head_sent = Rc::new(Cell::new(false));
        (Sink { to, credit, told: told.clone(), head_sent: Rc::clone(&head_sent) }, head_sent)
    }

    /// A request is done.
    pub(crate) fn forget(&mut self, to: ReplyTo) {
        self.incoming.remove(&to);
        if let Some(credit) = self.outgoing.remove(&to) {
            credit.close();
        }
    }

    /// A channel is gone, and everything under way on it.
    pub(crate) fn forget_channel(&mut self, channel: u32) {
        self.incoming.retain(|to, _| to.channel != channel);
        self.outgoing.retain(|to, credit| {
            if to.channel == channel {
                credit.close();
            }
            to.channel != channel
        });
    }

    /// Everything is broken off.
    pub(crate) fn clear(&mut self) {
        self.incoming.clear();
        for (_, credit) in self.outgoing.drain() {
            credit.close();
        }
    }
}

async fn feed(to: ReplyTo, mut waiting: mpsc::UnboundedReceiver<Piece>, sender: BodySender, told: mpsc::Sender<Told>) {
    while let Some(piece) = waiting.recv().await {
        match piece {
            Piece::Data(bytes) => {
                let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                if sender.send(bytes).await.is_err() || told.send(Told::Taken(to, count)).await.is_err() {
                    return;
                }
            }
            Piece::End { aborted: false } => return sender.finish(),
            Piece::End { aborted: true } => return,
        }
    }
}

/// Takes an answer from the engine and passes it on within the window.
pub(crate) struct Sink {
    to: ReplyTo,
    credit: Arc<Semaphore>,
    told: mpsc::Sender<Told>,
    head_sent: Rc<Cell<bool>>,
}

impl AnswerSink for Sink {
    async fn head(&mut self, head: HttpHead) -> Result<(), Refusal> {
        self.told.send(Told::Head(self.to, head)).await.map_err(|_| Refusal::new(Code::Cancelled))?;
        self.head_sent.set(true);
        Ok(())
    }

    async fn chunk(&mut self, chunk: Bytes) -> Result<(), Refusal> {
        let count = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
        let permits = self.credit.acquire_many(count).await.map_err(|_| Refusal::new(Code::Cancelled))?;
        permits.forget();
        self.told.send(Told::Chunk(self.to, chunk)).await.map_err(|_| Code::Cancelled.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_one_end_and_keeps_to_its_window() {
        let mut bodies = Bodies::default();
        let to = ReplyTo { channel: 1, stream: 1 };
        bodies.expect(to);
        let window = vec![0; limits::STREAM_WINDOW_BYTES as usize];
        assert_eq!(bodies.take(to, &window, false, false), Ok(()));
        assert_eq!(bodies.take(to, b"x", false, false), Err(()));
        bodies.widen(to, 1);
        assert_eq!(bodies.take(to, b"x", true, false), Ok(()));
        for (last, aborted) in [(true, false), (false, true), (false, false)] {
            assert_eq!(bodies.take(to, b"", last, aborted), Err(()), "an end after the end");
        }
        bodies.forget(to);
        assert_eq!(bodies.take(to, b"x", false, false), Ok(()), "what comes late is dropped");
    }
}

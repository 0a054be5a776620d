//! Messages on a stream socket, each `u32(length) || message` (`wire::frame`), read and written in batches.
//!
//! [`Reader`] hands out slices of one buffer that grows only as bytes come in. [`Outbox`] is the buffer before a writer: many
//! tasks put messages in, one task writes whatever has gathered with one system call.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use strongroom_wire::frame::MessageTooLong;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;

/// Cuts what a stream brings into messages.
#[derive(Debug)]
pub struct Reader<R> {
    stream: R,
    buffer: Vec<u8>,
    filled: Range<usize>,
    bytes_max: usize,
}

/// Why no further message can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The stream failed.
    #[error("the stream failed")]
    Io(#[from] io::Error),
    /// The other end announced a message over the limit.
    #[error(transparent)]
    TooLong(#[from] MessageTooLong),
    /// The stream ended inside a message.
    #[error("the stream ended inside a message")]
    Truncated,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// For messages of at most `bytes_max` bytes.
    pub fn new(stream: R, bytes_max: usize) -> Self {
        Self { stream, buffer: Vec::new(), filled: 0..0, bytes_max }
    }

    /// From now on, for messages of at most `bytes_max` bytes.
    pub fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// The next message, or `None` at the end of the stream. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`ReadError`]: close the connection.
    pub async fn next(&mut self) -> Result<Option<&[u8]>, ReadError> {
        loop {
            if let Some(range) = self.cut()? {
                return Ok(Some(&self.buffer[range]));
            }
            if !self.fill().await? {
                return if self.filled.is_empty() { Ok(None) } else { Err(ReadError::Truncated) };
            }
        }
    }

    /// The next message if it is here already.
    ///
    /// # Errors
    /// As [`Reader::next`].
    pub fn next_buffered(&mut self) -> Result<Option<&[u8]>, ReadError> {
        Ok(self.cut()?.map(|range| &self.buffer[range]))
    }

    fn cut(&mut self) -> Result<Option<Range<usize>>, MessageTooLong> {
        let Some(bytes) = self.announced()? else { return Ok(None) };
        if self.filled.len() < LENGTH_BYTES + bytes {
            return Ok(None);
        }
        let start = self.filled.start + LENGTH_BYTES;
        self.filled.start = start + bytes;
        Ok(Some(start..start + bytes))
    }

    fn announced(&self) -> Result<Option<usize>, MessageTooLong> {
        let Some(length) = self.buffer[self.filled.clone()].first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let bytes = u32::from_be_bytes(*length) as usize;
        if bytes > self.bytes_max {
            return Err(MessageTooLong { bytes, bytes_max: self.bytes_max });
        }
        Ok(Some(bytes))
    }

    /// Reads more; `false` at the end of the stream.
    async fn fill(&mut self) -> Result<bool, ReadError> {
        self.make_room()?;
        let read = self.stream.read(&mut self.buffer[self.filled.end..]).await?;
        self.filled.end += read;
        Ok(read > 0)
    }

    /// Room grows with what came, not with what was announced: a peer gets no memory for four bytes.
    fn make_room(&mut self) -> Result<(), MessageTooLong> {
        if self.filled.is_empty() {
            self.filled = 0..0;
            if self.buffer.len() > KEPT_BYTES_MAX {
                self.buffer = Vec::new();
            }
        }
        let whole = LENGTH_BYTES + self.announced()?.unwrap_or(0);
        if self.filled.start > 0
            && (self.filled.start + whole > self.buffer.len() || self.filled.end == self.buffer.len())
        {
            self.buffer.copy_within(self.filled.clone(), 0);
            self.filled = 0..self.filled.len();
        }
        if self.filled.end == self.buffer.len() {
            let doubled = (self.buffer.len() * 2).max(FIRST_BYTES);
            self.buffer.resize(doubled.min(whole.max(KEPT_BYTES_MAX)), 0);
        }
        Ok(())
    }
}

/// The messages that wait to be written to one stream. Cheap to clone; all clones are the same.
#[derive(Clone, Debug)]
pub struct Outbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<Waiting>,
    /// There is something to write, or no more will come.
    filled: Notify,
    /// There is room again, or never will be.
    drained: Notify,
    bytes_high: usize,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    being_written: usize,
    end: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Write what is there, then end.
    AfterThese,
    /// End at once.
    Now,
}

/// Why a message was not put into an outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutboxError {
    /// Nothing more is written.
    #[error("the connection is closed")]
    Closed,
    /// The other end does not read: too much is waiting.
    #[error("the other end does not read")]
    Full,
}

/// Why an outbox was not written to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The stream failed.
    #[error("the stream failed")]
    Io(#[from] io::Error),
    /// The other end took nothing for too long.
    #[error("the other end does not read")]
    Stalled,
    /// It was closed at once.
    #[error("the connection was given up")]
    Aborted,
}

impl Outbox {
    /// [`Outbox::send`] waits once `bytes_high` bytes are waiting, [`Outbox::push`] refuses over `bytes_max`.
    pub fn new(bytes_high: usize, bytes_max: usize) -> Self {
        let state = Mutex::new(Waiting::default());
        Self(Arc::new(Shared { state, filled: Notify::new(), drained: Notify::new(), bytes_high, bytes_max }))
    }

    /// Puts one message in, given in parts, without waiting.
    ///
    /// # Errors
    /// [`OutboxError`]: the message was not taken.
    ///
    /// # Panics
    /// If the message is over 4 GiB.
    pub fn push(&self, parts: &[&[u8]]) -> Result<(), OutboxError> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let mut state = self.state();
        if state.end.is_some() {
            return Err(OutboxError::Closed);
        }
        if state.waiting() + bytes > self.0.bytes_max {
            return Err(OutboxError::Full);
        }
        let was_empty = state.bytes.is_empty();
        let length = u32::try_from(bytes).expect("messages are far below 4 GiB");
        state.bytes.extend_from_slice(&length.to_be_bytes());
        for part in parts {
            state.bytes.extend_from_slice(part);
        }
        drop(state);
        if was_empty {
            self.0.filled.notify_one();
        }
        Ok(())
    }

    /// Puts one message in, once there is room.
    ///
    /// # Errors
    /// [`OutboxError::Closed`]; `Full` only for a message over the limit by itself.
    pub async fn send(&self, parts: &[&[u8]]) -> Result<(), OutboxError> {
        self.room().await?;
        self.push(parts)
    }

    /// Waits until there is room.
    ///
    /// # Errors
    /// [`OutboxError::Closed`].
    pub async fn room(&self) -> Result<(), OutboxError> {
        loop {
            let drained = self.0.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            {
                let state = self.state();
                if state.end.is_some() {
                    return Err(OutboxError::Closed);
                }
                if state.waiting() < self.0.bytes_high {
                    return Ok(());
                }
            }
            drained.await;
        }
    }

    /// Waits until no further message is taken.
    pub async fn ended(&self) {
        loop {
            let drained = self.0.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            if self.state().end.is_some() {
                return;
            }
            drained.await;
        }
    }

    /// Bytes that wait.
    pub fn waiting(&self) -> usize {
        self.state().waiting()
    }

    /// Takes no further message; those that wait are still written.
    pub fn close(&self) {
        self.end(End::AfterThese);
    }

    /// Takes no further message and writes none.
    pub fn abort(&self) {
        self.end(End::Now);
    }

    /// Writes what comes until the outbox is closed. To be called once.
    ///
    /// # Errors
    /// [`WriteError`]; the outbox is closed then.
    pub async fn write_to<W: AsyncWrite + Unpin>(&self, stream: &mut W, stall: Duration) -> Result<(), WriteError> {
        let outcome = self.write_all(stream, stall).await;
        self.abort();
        outcome
    }

    async fn write_all<W: AsyncWrite + Unpin>(&self, stream: &mut W, stall: Duration) -> Result<(), WriteError> {
        let mut batch = Vec::new();
        while self.next_batch(&mut batch).await? {
            let mut rest = batch.as_slice();
            while !rest.is_empty() {
                let written = tokio::select! {
                    biased;
                    written = tokio::time::timeout(stall, stream.write(rest)) => written.map_err(|_| WriteError::Stalled)??,
                    () = self.aborted() => return Err(WriteError::Aborted),
                };
                if written == 0 {
                    return Err(io::Error::from(io::ErrorKind::WriteZero).into());
                }
                rest = &rest[written..];
                self.written(written);
            }
            batch.clear();
            batch.shrink_to(KEPT_BYTES_MAX);
        }
        Ok(())
    }

    /// Exchanges what waits for the empty `batch`; `false` when nothing more will come.
    async fn next_batch(&self, batch: &mut Vec<u8>) -> Result<bool, WriteError> {
        loop {
            {
                let mut state = self.state();
                if state.end == Some(End::Now) {
                    return Err(WriteError::Aborted);
                }
                if !state.bytes.is_empty() {
                    std::mem::swap(&mut state.bytes, batch);
                    state.being_written = batch.len();
                    return Ok(true);
                }
                if state.end.is_some() {
                    return Ok(false);
                }
            }
            self.0.filled.notified().await;
        }
    }

    fn written(&self, bytes: usize) {
        let mut state = self.state();
        let before = state.waiting();
        state.being_written -= bytes;
        let after = state.waiting();
        drop(state);
        if before >= self.0.bytes_high && after < self.0.bytes_high {
            self.0.drained.notify_waiters();
        }
    }

    async fn aborted(&self) {
        while self.state().end != Some(End::Now) {
            self.0.filled.notified().await;
        }
    }

    fn end(&self, end: End) {
        let mut state = self.state();
        if state.end.is_none() || end == End::Now {
            state.end = Some(end);
        }
        if end == End::Now {
            state.bytes = Vec::new();
        }
        drop(state);
        self.0.filled.notify_one();
        self.0.drained.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, Waiting> {
        // No code panics between two halves of a change.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn waiting(&self) -> usize {
        self.bytes.len() + self.being_written
    }
}

const LENGTH_BYTES: usize = 4;
/// A buffer's first size.
const FIRST_BYTES: usize = 8 * 1024;
/// A buffer's size between messages.
const KEPT_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use strongroom_wire::frame::with_length;

    #[tokio::test]
    async fn messages_come_out_at_any_cut() {
        let long = vec![7; 300_000];
        let sent: Vec<&[u8]> = vec![b"", b"a", &long, b"hello", b""];
        let bytes: Vec<u8> = sent.iter().flat_map(|message| with_length(message)).collect();
        for step in [1_000, 4_097, 65_536, bytes.len()] {
            let stream = Steps { bytes: &bytes, step };
            let mut reader = Reader::new(stream, 1 << 20);
            let mut seen = Vec::new();
            while let Some(message) = reader.next().await.expect("well formed") {
                seen.push(message.to_vec());
                while let Some(message) = reader.next_buffered().expect("well formed") {
                    seen.push(message.to_vec());
                }
            }
            assert_eq!(seen, sent);
            assert!(reader.buffer.len() <= 1 << 20);
        }
    }

    #[tokio::test]
    async fn too_long_and_cut_off_are_told_apart() {
        let mut reader = Reader::new(&[0, 0, 0, 17][..], 16);
        assert!(matches!(reader.next().await, Err(ReadError::TooLong(MessageTooLong { bytes: 17, bytes_max: 16 }))));
        let mut reader = Reader::new(&[0, 0, 0, 16, 1][..], 16);
        assert!(matches!(reader.next().await, Err(ReadError::Truncated)));
        let mut reader = Reader::new(&[][..], 16);
        assert!(matches!(reader.next().await, Ok(None)));
    }

    #[tokio::test]
    async fn announcing_much_gets_no_memory() {
        let mut bytes = 1_000_000u32.to_be_bytes().to_vec();
        bytes.extend_from_slice(&[0; 100]);
        let mut reader = Reader::new(bytes.as_slice(), 1 << 20);
        assert!(matches!(reader.next().await, Err(ReadError::Truncated)));
        assert!(reader.buffer.len() <= FIRST_BYTES);
    }

    #[tokio::test]
    async fn an_outbox_writes_in_order_and_bounds_what_waits() {
        let outbox = Outbox::new(10, 40);
        outbox.push(&[b"ab", b"cd"]).expect("room");
        outbox.push(&[b"efgh"]).expect("room");
        assert_eq!(outbox.waiting(), 16);
        assert_eq!(outbox.push(&[&[0; 30]]), Err(OutboxError::Full));
        let waiting = tokio::spawn({
            let outbox = outbox.clone();
            async move { outbox.send(&[b"later"]).await.map(|()| outbox.close()) }
        });
        let mut written = Vec::new();
        outbox.write_to(&mut written, Duration::from_secs(5)).await.expect("a vector takes everything");
        waiting.await.expect("no panic").expect("room came");
        assert_eq!(written, [with_length(b"abcd"), with_length(b"efgh"), with_length(b"later")].concat());
        assert_eq!(outbox.push(&[b"x"]), Err(OutboxError::Closed));
    }

    #[tokio::test]
    async fn a_reader_that_stalls_is_given_up() {
        let (mut near, _far) = tokio::io::duplex(8);
        let outbox = Outbox::new(1 << 20, 1 << 20);
        outbox.push(&[&[0; 100]]).expect("room");
        let outcome = outbox.write_to(&mut near, Duration::from_millis(20)).await;
        assert!(matches!(outcome, Err(WriteError::Stalled)));
    }

    struct Steps<'a> {
        bytes: &'a [u8],
        step: usize,
    }

    impl AsyncRead for Steps<'_> {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            into: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            let take = self.step.min(into.remaining()).min(self.bytes.len());
            let (now, later) = self.bytes.split_at(take);
            into.put_slice(now);
            self.bytes = later;
            std::task::Poll::Ready(Ok(()))
        }
    }
}

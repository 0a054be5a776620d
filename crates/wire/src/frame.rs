//! Types of channel frames, chunk frames, and the length-prefixed form of messages on a stream socket.

use crate::limits;

/// What a frame carries; bound into its seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameType {
    /// The vault's first frame: the channel stands.
    Ready = 0,
    /// An [`crate::device::Envelope`].
    Request = 1,
    /// An [`crate::device::Answer`].
    Answer = 2,
    /// An [`Event`].
    Event = 3,
    /// A [`Chunk`].
    Chunk = 4,
    /// First message of a repeated key exchange.
    Rekey1 = 5,
    /// Second message of a repeated key exchange.
    Rekey2 = 6,
    /// Third message of a repeated key exchange.
    Rekey3 = 7,
    /// A [`Credit`].
    Credit = 8,
}

impl FrameType {
    /// The type of a byte, or `None` for one that is not in use.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Ready,
            Self::Request,
            Self::Answer,
            Self::Event,
            Self::Chunk,
            Self::Rekey1,
            Self::Rekey2,
            Self::Rekey3,
            Self::Credit,
        ]
        .into_iter()
        .find(|frame| *frame as u8 == byte)
    }
}

/// What a vault tells a device or guest unasked.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// The vault was locked; requests under way are refused.
    Locked {},
    /// The list of approvals changed (devices only).
    Approvals {},
}

/// A piece of a streamed body: `u32(stream) || u8(flags) || data`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// The request it belongs to.
    pub stream: u32,
    /// Whether it is the last.
    pub last: bool,
    /// Whether the sender gave up; the body is incomplete.
    pub aborted: bool,
    /// At most [`limits::CHUNK_BYTES_MAX`] bytes.
    pub data: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// The bytes of the frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(5 + self.data.len());
        bytes.extend_from_slice(&self.stream.to_be_bytes());
        bytes.push(u8::from(self.last) | u8::from(self.aborted) << 1);
        bytes.extend_from_slice(self.data);
        bytes
    }

    /// Reads a frame's bytes; `None` where they are none.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (head, data) = bytes.split_first_chunk::<5>()?;
        let [a, b, c, d, flags] = *head;
        if flags > 3 || data.len() > limits::CHUNK_BYTES_MAX {
            return None;
        }
        Some(Self { stream: u32::from_be_bytes([a, b, c, d]), last: flags & 1 != 0, aborted: flags & 2 != 0, data })
    }
}

/// Leave to send more of a body: `u32(stream) || u32(bytes)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    /// The request it belongs to.
    pub stream: u32,
    /// Further bytes.
    pub bytes: u32,
}

impl Credit {
    /// The bytes of the frame.
    pub fn encode(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&self.stream.to_be_bytes());
        bytes[4..].copy_from_slice(&self.bytes.to_be_bytes());
        bytes
    }

    /// Reads a frame's bytes; `None` where they are none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, d, e, f, g, h] = *<&[u8; 8]>::try_from(bytes).ok()?;
        Some(Self { stream: u32::from_be_bytes([a, b, c, d]), bytes: u32::from_be_bytes([e, f, g, h]) })
    }
}

/// Why the bytes of a stream socket are not messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of {bytes} bytes is over the limit of {bytes_max}")]
pub struct MessageTooLong {
    /// The length announced.
    pub bytes: usize,
    /// The limit.
    pub bytes_max: usize,
}

/// Cuts a stream of bytes into messages, each `u32(length) || message`. The length is checked before anything is kept.
#[derive(Debug)]
pub struct Messages {
    buffer: Vec<u8>,
    start: usize,
    bytes_max: usize,
}

impl Messages {
    /// For messages of at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, bytes_max }
    }

    /// Adds bytes as they came.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, if there is one.
    ///
    /// # Errors
    /// [`MessageTooLong`]: nothing that follows can be read; close the connection.
    pub fn next_message(&mut self) -> Result<Option<Vec<u8>>, MessageTooLong> {
        let rest = &self.buffer[self.start..];
        let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > self.bytes_max {
            return Err(MessageTooLong { bytes: length, bytes_max: self.bytes_max });
        }
        let Some(message) = rest.get(..length) else { return Ok(None) };
        let message = message.to_vec();
        self.start += 4 + length;
        Ok(Some(message))
    }

    /// Whether a part of a message is waiting for its rest.
    pub fn is_partial(&self) -> bool {
        self.start < self.buffer.len()
    }
}

/// A message with its length before it.
///
/// # Panics
/// If `message` is over 4 GiB, which no limit of ours allows.
pub fn with_length(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("messages are far below 4 GiB");
    let mut bytes = Vec::with_capacity(4 + message.len());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(message);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_they_went_in_at_any_cut() {
        let stream: Vec<u8> = [b"".as_slice(), b"a", b"hello"].iter().flat_map(|m| with_length(m)).collect();
        for cut in 0..stream.len() {
            let mut messages = Messages::new(16);
            let mut seen = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                messages.push(part);
                while let Some(message) = messages.next_message().expect("short") {
                    seen.push(message);
                }
            }
            assert_eq!(seen, [b"".to_vec(), b"a".to_vec(), b"hello".to_vec()]);
            assert!(!messages.is_partial());
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_its_bytes_come() {
        let mut messages = Messages::new(16);
        messages.push(&17u32.to_be_bytes());
        assert_eq!(messages.next_message(), Err(MessageTooLong { bytes: 17, bytes_max: 16 }));
    }

    #[test]
    fn chunks_and_credits_round_trip() {
        let chunk = Chunk { stream: 7, last: true, aborted: false, data: b"abc" };
        assert_eq!(Chunk::decode(&chunk.encode()), Some(chunk));
        assert_eq!(Chunk::decode(&[0, 0, 0, 1, 4]), None);
        let credit = Credit { stream: 1, bytes: 65_536 };
        assert_eq!(Credit::decode(&credit.encode()), Some(credit));
        for byte in 0..=u8::MAX {
            assert_eq!(FrameType::from_byte(byte).map(|f| f as u8), (byte <= 8).then_some(byte));
        }
    }
}

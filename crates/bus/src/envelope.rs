//! What travels on the bus, and its bytes.
//!
//! `u8(version) || u8(kind) || u8(topic) || 16 bytes member || u64(connection) || payload`, numbers big-endian. A broker that
//! carries subjects itself can take the rest as its payload.

use strongroom_wire::{VaultId, limits};

use crate::subject::{Subject, Topic};

/// One connection of a device, guest or founder, as the services count them. Never reused by the same services process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// One message of the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Where it goes.
    pub subject: Subject,
    /// Which connection it belongs to; 0 for none.
    pub connection: ConnectionId,
    /// What it is.
    pub kind: Kind,
    /// Its content: what the kind says.
    pub payload: Vec<u8>,
}

/// What an envelope is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// To the host: a client wants a channel to this vault. Answered by `Accepted` or `Refused`. Empty, or the one byte 1: where the
    /// vault's share is gone, the client is going to bring it back.
    Open = 1,
    /// From the host: the channel stands. Empty.
    Accepted = 2,
    /// From the host: no channel, or no new vault, or the end of a channel for a reason. A `wire::Refusal` as JSON.
    Refused = 3,
    /// Either way: one hello or sealed frame of the channel.
    Data = 4,
    /// From the host: leave to send so much more `Data`, as [`Envelope::window_cost`] counts. `u32`.
    Credit = 5,
    /// Either way: the channel is gone. Empty.
    Close = 6,
    /// To the host: a new, empty vault of this id. Answered by `Created` or `Refused`. Empty.
    Create = 7,
    /// From the host: the vault's share and folder are durable. Empty.
    Created = 8,
    /// From the host: the type of an event, a word.
    Notice = 9,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Open,
        Self::Accepted,
        Self::Refused,
        Self::Data,
        Self::Credit,
        Self::Close,
        Self::Create,
        Self::Created,
        Self::Notice,
    ];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Why bytes are not an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a malformed envelope of {bytes} bytes")]
pub struct EnvelopeMalformed {
    /// How many bytes there were.
    pub bytes: usize,
}

impl Envelope {
    /// An envelope without content.
    pub fn new(subject: Subject, connection: ConnectionId, kind: Kind) -> Self {
        Self { subject, connection, kind, payload: Vec::new() }
    }

    /// With this content.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = payload.into();
        self
    }

    /// What a `Data` envelope takes from its connection's window: its bytes and a little for itself, so that empty ones are
    /// bounded as well.
    pub fn window_cost(&self) -> u32 {
        u32::try_from(self.payload.len()).unwrap_or(u32::MAX).saturating_add(WINDOW_COST_OF_ONE)
    }

    /// The bytes before the payload.
    pub fn head(&self) -> [u8; ENVELOPE_HEAD_BYTES] {
        let mut head = [0; ENVELOPE_HEAD_BYTES];
        head[0] = VERSION;
        head[1] = self.kind as u8;
        head[2] = self.subject.topic as u8;
        head[3..19].copy_from_slice(self.subject.member.as_bytes());
        head[19..].copy_from_slice(&self.connection.0.to_be_bytes());
        head
    }

    /// The bytes of the envelope.
    pub fn encode(&self) -> Vec<u8> {
        [self.head().as_slice(), &self.payload].concat()
    }

    /// Reads an envelope.
    ///
    /// # Errors
    /// [`EnvelopeMalformed`]: the other end does not speak this version; close the connection.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeMalformed> {
        let malformed = EnvelopeMalformed { bytes: bytes.len() };
        let (head, payload) = bytes.split_first_chunk::<ENVELOPE_HEAD_BYTES>().ok_or(malformed)?;
        let (&[version, kind, topic], rest) = head.split_first_chunk::<3>().ok_or(malformed)?;
        let (member, connection) = rest.split_first_chunk::<16>().ok_or(malformed)?;
        if version != VERSION || payload.len() > limits::SEALED_FRAME_BYTES_MAX {
            return Err(malformed);
        }
        Ok(Self {
            subject: Subject { member: VaultId(*member), topic: Topic::from_byte(topic).ok_or(malformed)? },
            connection: ConnectionId(u64::from_be_bytes(connection.try_into().map_err(|_| malformed)?)),
            kind: Kind::from_byte(kind).ok_or(malformed)?,
            payload: payload.to_vec(),
        })
    }
}

/// The version of the form above.
const VERSION: u8 = 1;
/// Bytes before the payload.
pub const ENVELOPE_HEAD_BYTES: usize = 3 + 16 + 8;
/// Bytes of one envelope.
pub const ENVELOPE_BYTES_MAX: usize = ENVELOPE_HEAD_BYTES + limits::SEALED_FRAME_BYTES_MAX;
const WINDOW_COST_OF_ONE: u32 = 64;
/// Bytes of `Data` that one connection may have on its way to a vault before the host gives leave for more.
pub const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;

/// What a NATS server can be told to carry at most (`max_payload`; its default is 1 MiB).
const NATS_PAYLOAD_BYTES_MAX: usize = 8 * 1024 * 1024;
const _: () = assert!(ENVELOPE_BYTES_MAX <= NATS_PAYLOAD_BYTES_MAX);
const _: () =
    assert!(limits::SEALED_FRAME_BYTES_MAX + (WINDOW_COST_OF_ONE as usize) <= CONNECTION_WINDOW_BYTES as usize);

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(kind: Kind) -> Envelope {
        let subject = Subject { member: VaultId([3; 16]), topic: Topic::ToDevice };
        Envelope::new(subject, ConnectionId(0x0102_0304_0506_0708), kind).payload(b"sealed".as_slice())
    }

    #[test]
    fn every_kind_reads_back() {
        for kind in Kind::ALL {
            let bytes = sample(kind).encode();
            assert_eq!(Envelope::decode(&bytes), Ok(sample(kind)));
        }
    }

    #[test]
    fn the_bytes_are_those_of_version_1() {
        let expected = [&[1, 4, 1][..], &[3; 16], &[1, 2, 3, 4, 5, 6, 7, 8], b"sealed"].concat();
        assert_eq!(sample(Kind::Data).encode(), expected);
    }

    #[test]
    fn whatever_is_not_an_envelope_is_refused() {
        let good = sample(Kind::Data).encode();
        for cut in 0..ENVELOPE_HEAD_BYTES {
            assert!(Envelope::decode(&good[..cut]).is_err());
        }
        for (index, bad) in [(0, 0), (0, 2), (1, 0), (1, 10), (2, 6)] {
            let mut bytes = good.clone();
            bytes[index] = bad;
            assert!(Envelope::decode(&bytes).is_err(), "byte {index} = {bad}");
        }
        let mut long = good[..ENVELOPE_HEAD_BYTES].to_vec();
        long.resize(ENVELOPE_BYTES_MAX + 1, 0);
        assert!(Envelope::decode(&long).is_err());
    }
}

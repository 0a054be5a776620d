//! Messages between the host and one vault process, on the one socket the process inherits.
//!
//! Each is `u8(kind) || body`, length-prefixed by [`crate::frame`]. Ids of channels and tunnels count up from 1; the host
//! makes those of channels, the vault those of tunnels.

use serde::{Deserialize, Serialize};

use crate::bytes::SecretValue;
use crate::code::Refusal;
use crate::ids::VaultId;
use crate::policy::Destination;

/// What the host tells the vault process.
#[derive(Debug)]
pub enum ToVault {
    /// The first message.
    Start(Start),
    /// A device, guest or founder connected.
    ChannelOpen(u32),
    /// A message of a channel: hello or sealed frame.
    ChannelData(u32, Vec<u8>),
    /// The other end of a channel is gone.
    ChannelClosed(u32),
    /// A tunnel stands.
    TunnelOpened(u32, TunnelAddress),
    /// A tunnel could not be opened.
    TunnelFailed(u32, Refusal),
    /// Bytes from a tunnel.
    TunnelData(u32, Vec<u8>),
    /// Leave to send so many more bytes into a tunnel.
    TunnelCredit(u32, u32),
    /// The far end closed its half.
    TunnelEnd(u32),
    /// The tunnel is gone.
    TunnelClosed(u32),
    /// Lock, finish what is under way, and leave.
    Stop,
    /// In place of a start: shut yourself in, say what holds, and leave.
    Examine,
    /// Leave if you are locked and nothing is under way; else say your state.
    Leave,
}

/// What the vault process tells the host.
#[derive(Debug)]
pub enum FromVault {
    /// The process is up.
    Ready(Ready),
    /// A message for a channel.
    ChannelData(u32, Vec<u8>),
    /// The vault ends a channel.
    ChannelClose(u32),
    /// Open a TCP connection.
    TunnelOpen(u32, TunnelTo),
    /// Bytes into a tunnel.
    TunnelData(u32, Vec<u8>),
    /// Leave to send so many more bytes out of a tunnel.
    TunnelCredit(u32, u32),
    /// No more bytes will be sent into the tunnel.
    TunnelEnd(u32),
    /// The tunnel is not needed any more.
    TunnelClose(u32),
    /// The state changed.
    State(State),
    /// A notice for the member; it carries an event's type and nothing else.
    Notice(Notice),
    /// The vault's files are gone: its share and folder are to be destroyed.
    Deleted,
}

/// How a vault process begins.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The vault.
    pub vault: VaultId,
    /// The host share, 32 bytes.
    pub share: SecretValue,
    /// Whether `memfd_secret` may be used.
    pub memfd_secret: bool,
}

/// The process is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// The vault program's version.
    pub version: String,
    /// Its state.
    pub state: State,
    /// The promises of its jail that could not be kept: words of `docs/isolation.md`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// What the host may know of a vault's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Whether it is open.
    pub open: bool,
    /// Whether a request or an approval is under way.
    pub busy: bool,
}

/// Where a tunnel leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TunnelTo {
    /// Host and port.
    pub to: Destination,
    /// Whether an address that is not global is allowed.
    pub allow_private: bool,
}

/// Where a tunnel led.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TunnelAddress {
    /// The literal address and port.
    pub address: String,
}

/// A notice to the member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notice {
    /// The event's type.
    pub event: String,
}

/// Why bytes are not a message of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a malformed message between host and vault process (kind {kind})")]
pub struct HostMessageMalformed {
    /// The kind announced, 255 where there was none.
    pub kind: u8,
}

impl ToVault {
    /// The bytes of the message.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Start(body) => json(0, None, body),
            Self::ChannelOpen(id) => data(1, *id, &[]),
            Self::ChannelData(id, bytes) => data(2, *id, bytes),
            Self::ChannelClosed(id) => data(3, *id, &[]),
            Self::TunnelOpened(id, body) => json(4, Some(*id), body),
            Self::TunnelFailed(id, body) => json(5, Some(*id), body),
            Self::TunnelData(id, bytes) => data(6, *id, bytes),
            Self::TunnelCredit(id, bytes) => data(7, *id, &bytes.to_be_bytes()),
            Self::TunnelEnd(id) => data(8, *id, &[]),
            Self::TunnelClosed(id) => data(9, *id, &[]),
            Self::Stop => vec![10],
            Self::Examine => vec![11],
            Self::Leave => vec![12],
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// The other end is not our host; leave.
    pub fn decode(message: &[u8]) -> Result<Self, HostMessageMalformed> {
        let (kind, body) = split(message)?;
        Ok(match kind {
            0 => Self::Start(parse(kind, body)?),
            1 => Self::ChannelOpen(id_alone(kind, body)?),
            2 => id_and_bytes(kind, body).map(|(id, bytes)| Self::ChannelData(id, bytes.to_vec()))?,
            3 => Self::ChannelClosed(id_alone(kind, body)?),
            4 => id_and_bytes(kind, body).and_then(|(id, b)| Ok(Self::TunnelOpened(id, parse(kind, b)?)))?,
            5 => id_and_bytes(kind, body).and_then(|(id, b)| Ok(Self::TunnelFailed(id, parse(kind, b)?)))?,
            6 => id_and_bytes(kind, body).map(|(id, bytes)| Self::TunnelData(id, bytes.to_vec()))?,
            7 => id_and_count(kind, body).map(|(id, bytes)| Self::TunnelCredit(id, bytes))?,
            8 => Self::TunnelEnd(id_alone(kind, body)?),
            9 => Self::TunnelClosed(id_alone(kind, body)?),
            10 if body.is_empty() => Self::Stop,
            11 if body.is_empty() => Self::Examine,
            12 if body.is_empty() => Self::Leave,
            _ => return Err(HostMessageMalformed { kind }),
        })
    }
}

impl FromVault {
    /// The bytes of the message.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Ready(body) => json(0, None, body),
            Self::ChannelData(id, bytes) => data(1, *id, bytes),
            Self::ChannelClose(id) => data(2, *id, &[]),
            Self::TunnelOpen(id, body) => json(3, Some(*id), body),
            Self::TunnelData(id, bytes) => data(4, *id, bytes),
            Self::TunnelCredit(id, bytes) => data(5, *id, &bytes.to_be_bytes()),
            Self::TunnelEnd(id) => data(6, *id, &[]),
            Self::TunnelClose(id) => data(7, *id, &[]),
            Self::State(body) => json(8, None, body),
            Self::Notice(body) => json(9, None, body),
            Self::Deleted => vec![10],
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// The other end is not our vault process; stop it.
    pub fn decode(message: &[u8]) -> Result<Self, HostMessageMalformed> {
        let (kind, body) = split(message)?;
        Ok(match kind {
            0 => Self::Ready(parse(kind, body)?),
            1 => id_and_bytes(kind, body).map(|(id, bytes)| Self::ChannelData(id, bytes.to_vec()))?,
            2 => Self::ChannelClose(id_alone(kind, body)?),
            3 => id_and_bytes(kind, body).and_then(|(id, b)| Ok(Self::TunnelOpen(id, parse(kind, b)?)))?,
            4 => id_and_bytes(kind, body).map(|(id, bytes)| Self::TunnelData(id, bytes.to_vec()))?,
            5 => id_and_count(kind, body).map(|(id, bytes)| Self::TunnelCredit(id, bytes))?,
            6 => Self::TunnelEnd(id_alone(kind, body)?),
            7 => Self::TunnelClose(id_alone(kind, body)?),
            8 => Self::State(parse(kind, body)?),
            9 => Self::Notice(parse(kind, body)?),
            10 if body.is_empty() => Self::Deleted,
            _ => return Err(HostMessageMalformed { kind }),
        })
    }
}

fn json(kind: u8, id: Option<u32>, body: &impl Serialize) -> Vec<u8> {
    // Room for a whole `Start`: growing would leave a copy of the share behind.
    let mut bytes = Vec::with_capacity(512);
    bytes.push(kind);
    if let Some(id) = id {
        bytes.extend_from_slice(&id.to_be_bytes());
    }
    serde_json::to_writer(&mut bytes, body).expect("these shapes always have a JSON form");
    bytes
}

fn data(kind: u8, id: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(5 + data.len());
    bytes.push(kind);
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(data);
    bytes
}

fn split(message: &[u8]) -> Result<(u8, &[u8]), HostMessageMalformed> {
    message.split_first().map(|(kind, body)| (*kind, body)).ok_or(HostMessageMalformed { kind: 255 })
}

fn parse<T: serde::de::DeserializeOwned>(kind: u8, body: &[u8]) -> Result<T, HostMessageMalformed> {
    serde_json::from_slice(body).map_err(|_| HostMessageMalformed { kind })
}

fn id_and_bytes(kind: u8, body: &[u8]) -> Result<(u32, &[u8]), HostMessageMalformed> {
    let (id, rest) = body.split_first_chunk::<4>().ok_or(HostMessageMalformed { kind })?;
    Ok((u32::from_be_bytes(*id), rest))
}

fn id_alone(kind: u8, body: &[u8]) -> Result<u32, HostMessageMalformed> {
    match id_and_bytes(kind, body)? {
        (id, []) => Ok(id),
        _ => Err(HostMessageMalformed { kind }),
    }
}

fn id_and_count(kind: u8, body: &[u8]) -> Result<(u32, u32), HostMessageMalformed> {
    let (id, rest) = id_and_bytes(kind, body)?;
    let count = <[u8; 4]>::try_from(rest).map_err(|_| HostMessageMalformed { kind })?;
    Ok((id, u32::from_be_bytes(count)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_round_trips_and_every_truncation_is_refused_or_shorter() {
        let to = [
            ToVault::ChannelOpen(1),
            ToVault::ChannelData(2, b"x".to_vec()),
            ToVault::TunnelCredit(3, 9),
            ToVault::TunnelFailed(4, Refusal::new(crate::Code::ConnectFailed)),
            ToVault::Stop,
            ToVault::Examine,
            ToVault::Leave,
        ];
        for message in to {
            let bytes = message.encode();
            let again = ToVault::decode(&bytes).expect("reads back").encode();
            assert_eq!(bytes, again);
        }
        let from = [
            FromVault::Ready(Ready {
                version: "0".into(),
                state: State { open: false, busy: false },
                missing: vec!["own_user".into()],
            }),
            FromVault::TunnelOpen(
                7,
                TunnelTo { to: "localhost:8443".parse().expect("a destination"), allow_private: true },
            ),
            FromVault::Deleted,
        ];
        for message in from {
            let bytes = message.encode();
            assert_eq!(FromVault::decode(&bytes).expect("reads back").encode(), bytes);
            for cut in 0..bytes.len() {
                let _ = FromVault::decode(&bytes[..cut]);
            }
        }
        assert!(ToVault::decode(&[]).is_err() && ToVault::decode(&[99]).is_err());
    }
}

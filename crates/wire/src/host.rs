//! Messages between the host and one vault process, on the one socket the process inherits.
//!
//! Each is `u8(kind) || body`, length-prefixed by [`crate::frame`]. Ids of channels and tunnels count up from 1; the host
//! makes those of channels, the vault those of tunnels.

use serde::{Deserialize, Serialize};

use crate::bytes::{Bytes, SecretValue};
use crate::code::Refusal;
use crate::ids::VaultId;
use crate::limits::EVIDENCE_BYTES_MAX;
use crate::policy::Destination;
use crate::sealing::TpmSealed;

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
    /// What came of what was asked of the hardware.
    Hardware(HardwareAnswer),
    /// The evidence that was asked for, for the channel that has begun; empty where there is none.
    Evidence(u32, Vec<u8>),
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
    /// The hardware is to do something.
    Hardware(HardwareRequest),
    /// The header is sealed under the new share: it takes the place of the one before.
    Rescued,
    /// A channel begins: evidence is wanted that is bound to these 32 bytes.
    Evidence(u32, [u8; 32]),
}

/// How a vault process begins.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The vault.
    pub vault: VaultId,
    /// The host share, 32 bytes.
    pub share: SecretValue,
    /// Whether the share is a new one, under which the vault's header is to be sealed once somebody brings it back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub share_is_new: bool,
    /// Whether `memfd_secret` may be used.
    pub memfd_secret: bool,
    /// SHA-256 of the program that the process runs, where the host measured it: then there is evidence to be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Bytes>,
    /// SHA-256 of the program that is installed, where the share is sealed to one: another than the former is an update that
    /// waits for the member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<Bytes>,
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

/// What a vault process asks of the host's hardware, one thing at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HardwareRequest {
    /// Make a secret of 32 bytes, seal it to the program that runs, and send it to this key.
    Generate {
        /// An X-Wing public key, 1,216 bytes.
        to: Bytes,
    },
    /// Open such a secret, and send it to this key.
    Open {
        /// As it was sealed.
        sealed: Box<TpmSealed>,
        /// An X-Wing public key, 1,216 bytes.
        to: Bytes,
    },
    /// The member agreed to another program: seal such a secret to that.
    Reseal {
        /// As it was sealed.
        sealed: Box<TpmSealed>,
        /// SHA-256 of the program.
        program: Bytes,
    },
    /// The member agreed to another program: seal the share to that, and replace this process.
    ResealShare {
        /// SHA-256 of the program.
        program: Bytes,
    },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HardwareAnswer {
    /// A secret.
    Secret {
        /// As it is sealed in the hardware.
        sealed: Box<TpmSealed>,
        /// As it is sealed to the key that was named: 1,168 bytes.
        secret: Bytes,
    },
    /// A secret, sealed anew.
    Sealed {
        /// As it is sealed in the hardware.
        sealed: Box<TpmSealed>,
    },
    /// Done.
    Done {},
    /// Nothing was done.
    Refused(Refusal),
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
            Self::Evidence(id, bytes) => data(13, *id, bytes),
            Self::Hardware(body) => json(14, None, body),
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
            13 => match id_and_bytes(kind, body)? {
                (id, bytes) if bytes.len() <= EVIDENCE_BYTES_MAX => Self::Evidence(id, bytes.to_vec()),
                _ => return Err(HostMessageMalformed { kind }),
            },
            14 => Self::Hardware(parse(kind, body)?),
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
            Self::Evidence(id, binding) => data(11, *id, binding),
            Self::Hardware(body) => json(12, None, body),
            Self::Rescued => vec![13],
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
            11 => id_and_bytes(kind, body).and_then(|(id, binding)| {
                let binding = binding.try_into().map_err(|_| HostMessageMalformed { kind })?;
                Ok(Self::Evidence(id, binding))
            })?,
            12 => Self::Hardware(parse(kind, body)?),
            13 if body.is_empty() => Self::Rescued,
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
            ToVault::Evidence(5, b"evidence".to_vec()),
            ToVault::Hardware(HardwareAnswer::Done {}),
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
            FromVault::Evidence(8, [9; 32]),
            FromVault::Hardware(HardwareRequest::ResealShare { program: Bytes::from([1; 32]) }),
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

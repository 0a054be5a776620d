//! A vault's end, made of `strongroom_crypto` and told what to answer: honest where a test wants it, hostile where not.
#![allow(dead_code, reason = "each test file uses a part")]

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use strongroom_client::profile::{DeviceKeys, NewProfile, Profile};
use strongroom_crypto::channel::{Channel, ChannelCertificate, ChannelIdentity, Peer, Role, VaultHandshake};
use strongroom_crypto::kem::PerStartKey;
use strongroom_crypto::os_rng;
use strongroom_crypto::sign::{PublicKey, SigningKey, Statement};
use strongroom_wire::device::{Answer, DeviceAnswer, Envelope, LogPosition};
use strongroom_wire::frame::{FrameType, Messages, with_length};
use strongroom_wire::relay::{RelayAnswer, RelayHello};
use strongroom_wire::{Bytes, DeviceId, Refusal, VaultId};

/// Who a vault is.
pub(crate) struct FakeVault {
    pub(crate) id: VaultId,
    pub(crate) identity: SigningKey,
    pub(crate) start: PerStartKey,
    pub(crate) channel: ChannelIdentity,
}

impl FakeVault {
    pub(crate) fn new() -> Self {
        Self::with_identity(SigningKey::generate(&mut os_rng()), 1)
    }

    pub(crate) fn with_identity(identity: SigningKey, epoch: u32) -> Self {
        let mut rng = os_rng();
        let id = VaultId([7; 16]);
        let key = SigningKey::generate(&mut rng);
        let statement = Statement::ChannelCertificate { vault: id.as_bytes(), channel_key: &key.public(), epoch };
        let certificate = Some(ChannelCertificate { signature: identity.sign(&statement), epoch });
        Self { id, identity, start: PerStartKey::generate(&mut rng), channel: ChannelIdentity { key, certificate } }
    }
}

/// A device's folder with a profile that pins `identity`.
pub(crate) fn profile(
    dir: &Path,
    socket: &Path,
    identity: PublicKey,
    credential: &[u8],
    seen: &LogPosition,
) -> Profile {
    let new = NewProfile {
        vault: VaultId([7; 16]),
        identity,
        device: DeviceId([2; 16]),
        socket,
        credential,
        sealed_share: None,
        policy: &strongroom_client::attest::Policy::None {},
        seen,
    };
    Profile::create(&dir.join("profile"), DeviceKeys::generate(), &new).unwrap()
}

/// One connection of a client, as the services see it.
pub(crate) struct Wire {
    pub(crate) stream: UnixStream,
    inbox: Messages,
}

impl Wire {
    pub(crate) fn receive(&mut self) -> Option<Vec<u8>> {
        let mut buffer = [0; 65_536];
        loop {
            if let Some(message) = self.inbox.next_message().unwrap() {
                return Some(message);
            }
            match self.stream.read(&mut buffer) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.inbox.push(&buffer[..count]),
            }
        }
    }

    pub(crate) fn send(&mut self, message: &[u8]) {
        // The client may have had enough.
        let _ = self.stream.write_all(&with_length(message));
    }
}

/// A connection whose channel stands.
pub(crate) struct Served<'v> {
    pub(crate) wire: Wire,
    pub(crate) channel: Channel,
    pub(crate) peer: Peer,
    vault: &'v FakeVault,
}

impl Served<'_> {
    /// The next request, with rekeying done by the way; `None` once the client has gone.
    pub(crate) fn request(&mut self) -> Option<Envelope> {
        loop {
            let (kind, payload) = self.frame()?;
            if kind == FrameType::Request {
                return Some(serde_json::from_slice(&payload).unwrap());
            }
        }
    }

    /// The next frame other than those of a repeated exchange.
    pub(crate) fn frame(&mut self) -> Option<(FrameType, Vec<u8>)> {
        loop {
            let sealed = self.wire.receive()?;
            let (kind, payload) = self.channel.open_frame(&sealed).unwrap();
            match FrameType::from_byte(kind).unwrap() {
                FrameType::Rekey1 => {
                    let FakeVault { channel, start, .. } = self.vault;
                    let frame = self.channel.answer_rekey(&payload, channel, start, &[], &mut os_rng()).unwrap();
                    self.wire.send(&frame);
                }
                FrameType::Rekey3 => {
                    self.channel.accept_rekey(&payload, &self.vault.start, 0).unwrap();
                    self.send(FrameType::Ready, &[]);
                }
                other => return Some((other, payload.to_vec())),
            }
        }
    }

    pub(crate) fn send(&mut self, kind: FrameType, payload: &[u8]) {
        let frame = self.channel.seal_frame(kind as u8, payload).unwrap();
        self.wire.send(&frame);
    }

    pub(crate) fn answer(&mut self, stream: u32, result: Result<DeviceAnswer, Refusal>) {
        self.answer_with(stream, result, false);
    }

    pub(crate) fn answer_with(&mut self, stream: u32, result: Result<DeviceAnswer, Refusal>, body_follows: bool) {
        let answer = Answer { stream, result, body_follows };
        self.send(FrameType::Answer, &serde_json::to_vec(&answer).unwrap());
    }
}

/// Listens at `socket`, and gives each connection to `serve` in turn until it says to stop.
pub(crate) fn listen(socket: PathBuf, mut serve: impl FnMut(Wire) -> bool + Send + 'static) -> JoinHandle<()> {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            if !serve(Wire { stream: stream.unwrap(), inbox: Messages::new(2 << 20) }) {
                return;
            }
        }
    })
}

/// Answers the greeting and the handshake as `vault`, for the device key that `lookup` gives.
pub(crate) fn welcome<'v>(mut wire: Wire, vault: &'v FakeVault, device: PublicKey) -> Option<Served<'v>> {
    greet(&mut wire)?;
    let hello1 = wire.receive()?;
    let (handshake, hello2) =
        VaultHandshake::answer(&hello1, vault.id.as_bytes(), &vault.channel, &vault.start, &[], &mut os_rng()).unwrap();
    wire.send(&hello2);
    let hello3 = wire.receive()?;
    let known = |role, _: &[u8; 16]| (role != Role::Founder).then_some(device);
    let (channel, peer) = handshake.accept(&hello3, &vault.start, 0, known).ok()?;
    let mut served = Served { wire, channel, peer, vault };
    served.send(FrameType::Ready, &[]);
    Some(served)
}

/// Answers the greeting alone.
pub(crate) fn greet(wire: &mut Wire) -> Option<()> {
    let hello: RelayHello = serde_json::from_slice(&wire.receive()?).unwrap();
    assert!(matches!(hello, RelayHello::Relay { .. }));
    wire.send(&serde_json::to_vec(&RelayAnswer::Relay {}).unwrap());
    Some(())
}

pub(crate) fn bytes(bytes: &[u8]) -> Bytes {
    Bytes::from(bytes)
}

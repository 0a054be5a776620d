//! The vault's ends of sealed channels: handshakes, frames, and what they carry.

use std::collections::{HashMap, HashSet};

use strongroom_core::Peer;
use strongroom_crypto::CryptoRng;
use strongroom_crypto::channel::{
    Channel, ChannelCertificate, ChannelError, ChannelIdentity, READY, REKEY_HELLO1, REKEY_HELLO3, Role,
    VaultHandshake, evidence_binding,
};
use strongroom_crypto::kem::PerStartKey;
use strongroom_crypto::sign::{PublicKey, SigningKey};
use strongroom_wire::{DeviceId, GuestId, VaultId, limits};
use zeroize::Zeroizing;

// The wire brings no evidence that a hello does not take.
const _: () = assert!(limits::EVIDENCE_BYTES_MAX <= strongroom_crypto::channel::EVIDENCE_BYTES_MAX);

/// All channels of this process.
pub(crate) struct Channels {
    vault: VaultId,
    identity: ChannelIdentity,
    start: PerStartKey,
    /// Whether the host has evidence for those who connect.
    evidence: bool,
    open: HashMap<u32, Stage>,
}

enum Stage {
    /// Nothing was said yet.
    New,
    /// This first hello waits for evidence.
    Begun(Vec<u8>),
    /// We answered the first hello.
    Answered(Box<VaultHandshake>),
    /// It stands.
    Open(Box<OpenChannel>),
}

struct OpenChannel {
    channel: Channel,
    peer: Peer,
    /// Requests that have no whole answer yet.
    under_way: HashSet<u32>,
}

/// What a message of a channel came to.
pub(crate) enum Heard {
    /// A message to send back.
    Reply(Vec<u8>),
    /// Evidence is wanted, bound to this.
    Evidence([u8; 32]),
    /// A frame of a peer.
    Frame {
        /// Who sent it.
        peer: Peer,
        /// Its type.
        kind: u8,
        /// What it carries.
        payload: Zeroizing<Vec<u8>>,
    },
    /// Close the channel.
    Close,
}

impl Channels {
    /// No channel yet. Without an identity the vault was never made, and only a founder is accepted.
    pub(crate) fn new(vault: VaultId, evidence: bool, rng: &mut dyn CryptoRng) -> Self {
        Self {
            vault,
            identity: ChannelIdentity { key: SigningKey::generate(rng), certificate: None },
            start: PerStartKey::generate(rng),
            evidence,
            open: HashMap::new(),
        }
    }

    /// Takes the vault's channel identity, at the start or once the vault is made.
    pub(crate) fn adopt(&mut self, key: &SigningKey, certificate: [u8; 64], epoch: u32) {
        // EXPOSE: from one place in locked memory to another.
        self.identity = ChannelIdentity {
            key: SigningKey::from_seed(key.expose_seed()),
            certificate: Some(ChannelCertificate { signature: certificate, epoch }),
        };
    }

    pub(crate) fn open(&mut self, id: u32) -> bool {
        if self.open.len() >= limits::CHANNELS_MAX {
            return false;
        }
        self.open.insert(id, Stage::New);
        true
    }

    pub(crate) fn close(&mut self, id: u32) {
        self.open.remove(&id);
    }

    /// Takes a message.
    pub(crate) fn hear(
        &mut self,
        id: u32,
        message: &[u8],
        now_ms: u64,
        lookup: impl Fn(Peer) -> Option<PublicKey>,
        rng: &mut dyn CryptoRng,
    ) -> Heard {
        let Some(stage) = self.open.remove(&id) else { return Heard::Close };
        let vault = *self.vault.as_bytes();
        let (stage, heard) = match stage {
            Stage::New if self.evidence => match evidence_binding(message, &self.identity, &self.start) {
                Ok(binding) => (Stage::Begun(message.to_vec()), Heard::Evidence(binding)),
                Err(_) => return Heard::Close,
            },
            Stage::New => match VaultHandshake::answer(message, &vault, &self.identity, &self.start, &[], rng) {
                Ok((handshake, hello2)) => (Stage::Answered(Box::new(handshake)), Heard::Reply(hello2)),
                Err(_) => return Heard::Close,
            },
            // It may say nothing before it was answered.
            Stage::Begun(_) => return Heard::Close,
            Stage::Answered(handshake) => {
                let key_of = |role: Role, id: &[u8; 16]| match role {
                    Role::Device => lookup(Peer::Device(DeviceId(*id))),
                    Role::Guest => lookup(Peer::Guest(GuestId(*id))),
                    Role::Founder => None,
                };
                let Ok((mut channel, joined)) = handshake.accept(message, &self.start, now_ms, key_of) else {
                    return Heard::Close;
                };
                let peer = match joined.role {
                    Role::Founder => Peer::Founder(*joined.public_key.as_bytes()),
                    Role::Device => Peer::Device(DeviceId(joined.id)),
                    Role::Guest => Peer::Guest(GuestId(joined.id)),
                };
                let Ok(ready) = channel.seal_frame(READY, b"") else { return Heard::Close };
                let open = OpenChannel { channel, peer, under_way: HashSet::new() };
                (Stage::Open(Box::new(open)), Heard::Reply(ready))
            }
            Stage::Open(mut open) => match Self::frame(&mut open, message, now_ms, &self.identity, &self.start, rng) {
                Ok(heard) => (Stage::Open(open), heard),
                Err(_) => return Heard::Close,
            },
        };
        self.open.insert(id, stage);
        heard
    }

    /// Answers the first hello of a channel with the evidence that came for it.
    pub(crate) fn answer(&mut self, id: u32, evidence: &[u8], rng: &mut dyn CryptoRng) -> Heard {
        // Closed meanwhile, or a host that answers what was not asked.
        let Some(Stage::Begun(hello1)) = self.open.remove(&id) else { return Heard::Close };
        let vault = self.vault.as_bytes();
        match VaultHandshake::answer(&hello1, vault, &self.identity, &self.start, evidence, rng) {
            Ok((handshake, hello2)) => {
                self.open.insert(id, Stage::Answered(Box::new(handshake)));
                Heard::Reply(hello2)
            }
            Err(_) => Heard::Close,
        }
    }

    fn frame(
        open: &mut OpenChannel,
        message: &[u8],
        now_ms: u64,
        identity: &ChannelIdentity,
        start: &PerStartKey,
        rng: &mut dyn CryptoRng,
    ) -> Result<Heard, ChannelError> {
        if open.channel.expired(now_ms) {
            return Err(ChannelError::Ended);
        }
        let (kind, payload) = open.channel.open_frame(message)?;
        Ok(match kind {
            REKEY_HELLO1 => Heard::Reply(open.channel.answer_rekey(&payload, identity, start, &[], rng)?),
            REKEY_HELLO3 => {
                open.channel.accept_rekey(&payload, start, now_ms)?;
                Heard::Reply(open.channel.seal_frame(READY, b"")?)
            }
            kind => Heard::Frame { peer: open.peer, kind, payload },
        })
    }

    /// Seals a frame; `None` where the channel is gone.
    pub(crate) fn seal(&mut self, id: u32, kind: u8, payload: &[u8]) -> Option<Vec<u8>> {
        match self.open.get_mut(&id)? {
            Stage::Open(open) => open.channel.seal_frame(kind, payload).ok(),
            _ => None,
        }
    }

    /// Begins a request; `false` where its number is in use or too many are under way.
    pub(crate) fn begin(&mut self, id: u32, stream: u32) -> bool {
        match self.open.get_mut(&id) {
            Some(Stage::Open(open)) => {
                open.under_way.len() < limits::REQUESTS_PER_CHANNEL_MAX && open.under_way.insert(stream)
            }
            _ => false,
        }
    }

    /// A request was answered whole.
    pub(crate) fn end(&mut self, id: u32, stream: u32) {
        if let Some(Stage::Open(open)) = self.open.get_mut(&id) {
            open.under_way.remove(&stream);
        }
    }

    /// The channels of those for whom `which` holds.
    pub(crate) fn of(&self, which: impl Fn(Peer) -> bool) -> Vec<u32> {
        self.open
            .iter()
            .filter(|(_, stage)| matches!(stage, Stage::Open(open) if which(open.peer)))
            .map(|(id, _)| *id)
            .collect()
    }
}

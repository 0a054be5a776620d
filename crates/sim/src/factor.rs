//! What a member unlocks with, made cheaply: the keys come straight from a seed, without Argon2id.

use strongroom_crypto::kem::SlotSecret;
use strongroom_crypto::sign::{Act, SigningKey, Statement};
use strongroom_wire::device::{Fresh, Kdf, SlotDraft, SlotKind, UnlockRequest};
use strongroom_wire::{Bytes, Challenge, DeviceId, SecretValue, SlotId, Timestamp, VaultId};

use crate::rng::Rng;

/// A factor, right or wrong.
pub struct Factor {
    /// The slot that it opens, once the vault has said which.
    pub slot: Option<SlotId>,
    /// What it is.
    pub kind: SlotKind,
    seed: [u8; 32],
    signer: SigningKey,
    public: Vec<u8>,
}

impl Factor {
    /// A new factor.
    pub fn new(kind: SlotKind, rng: &mut Rng) -> Self {
        let seed = rng.bytes();
        let public = SlotSecret::from_seed(&seed).public().as_bytes().to_vec();
        Self { slot: None, kind, seed, signer: SigningKey::from_seed(&rng.bytes()), public }
    }

    /// Another factor that claims the same slot.
    #[must_use]
    pub fn wrong(&self, rng: &mut Rng) -> Self {
        Self {
            slot: self.slot,
            kind: self.kind,
            seed: rng.bytes(),
            signer: SigningKey::from_seed(&rng.bytes()),
            public: self.public.clone(),
        }
    }

    /// Its public half.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// What the vault is told of it.
    pub fn draft(&self, name: &str) -> SlotDraft {
        SlotDraft {
            kind: self.kind,
            name: name.into(),
            kem_public: Bytes(self.public.clone()),
            sign_public: Bytes::from(*self.signer.public().as_bytes()),
            kdf: (self.kind == SlotKind::Passphrase).then(|| Kdf {
                salt: Bytes(self.seed[..16].to_vec()),
                memory_kib: 65_536,
                passes: 3,
                lanes: 4,
            }),
            recovery_psk: (self.kind == SlotKind::Recovery).then(|| SecretValue::new(self.seed.to_vec())),
        }
    }

    /// An unlock with it.
    pub fn unlock(&self, seen: strongroom_wire::device::LogPosition, device_time: Timestamp) -> UnlockRequest {
        UnlockRequest {
            slot: self.slot.unwrap_or(SlotId([0; 16])),
            seed: SecretValue::new(self.seed.to_vec()),
            seen,
            device_time,
            open_secs: None,
        }
    }

    /// The seed of its KEM key, which a device sends to unlock.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// Its answer to a challenge over a body.
    pub fn fresh(&self, vault: VaultId, device: DeviceId, challenge: Challenge, body: &str) -> Fresh {
        let act = Act::new(vault.as_bytes(), device.as_bytes(), &challenge.0, body.as_bytes());
        Fresh {
            slot: self.slot.unwrap_or(SlotId([0; 16])),
            challenge,
            signature: Bytes::from(self.signer.sign(&Statement::Fresh { act: &act })),
        }
    }
}

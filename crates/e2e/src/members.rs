//! Many members at once: devices that keep nothing on the disk, whose factors are stretched once for all of them, so that a
//! thousand vaults are made in seconds.

use std::path::Path;

use strongroom_client::channel::{self, Ask, AskError, Connection, Expected, PATIENCE, Speaker, Trust};
use strongroom_client::crypto::channel::Role;
use strongroom_client::crypto::digest::leaf_hash;
use strongroom_client::crypto::factor::{FactorRoot, KdfParams, Phrase};
use strongroom_client::crypto::os_rng;
use strongroom_client::crypto::sign::{PublicKey, SigningKey};
use strongroom_client::log::{self, RootBuilder};
use strongroom_client::profile::DeviceKeys;
use strongroom_client::wire::device::{
    AuditQuery, CreateRequest, DeviceAnswer, DeviceRequest, Kdf, LogPosition, SlotDraft, SlotKind, UnlockRequest,
};
use strongroom_client::wire::relay::{RelayAnswer, RelayHello};
use strongroom_client::wire::{Bytes, DeviceId, RequestId, SecretValue, SlotId, VaultId};
use strongroom_client::{clock, fresh};

use crate::PASSPHRASE;

/// Why a member did not get what it asked for.
pub type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// One passphrase and one phrase for all of them.
pub struct SharedFactors {
    passphrase: FactorRoot,
    kdf: Kdf,
    phrase: FactorRoot,
}

impl SharedFactors {
    /// Stretches them.
    ///
    /// # Errors
    /// When there is no memory for that.
    pub fn derive() -> Result<Self, Trouble> {
        let params = KdfParams::generate(&mut os_rng());
        let KdfParams { salt, memory_kib, passes, lanes } = params;
        Ok(Self {
            passphrase: FactorRoot::from_passphrase(PASSPHRASE, &params)?,
            kdf: Kdf { salt: Bytes::from(salt), memory_kib, passes, lanes },
            phrase: FactorRoot::from_phrase(&Phrase::generate(&mut os_rng()))?,
        })
    }

    fn draft(&self, vault: VaultId, kind: SlotKind) -> SlotDraft {
        let (root, kdf) = match kind {
            SlotKind::Recovery => (&self.phrase, None),
            _ => (&self.passphrase, Some(self.kdf.clone())),
        };
        fresh::draft(vault, &kind.to_string(), kind, kdf, root)
    }
}

/// A member with one device and one vault.
pub struct Member {
    /// The vault.
    pub vault: VaultId,
    identity: PublicKey,
    device: DeviceId,
    sign: SigningKey,
    slot: SlotId,
    seen: LogPosition,
}

impl Member {
    /// Makes a vault, as `strongroom_client::open::create` does.
    ///
    /// # Errors
    /// What was refused.
    pub fn found(socket: &Path, factors: &SharedFactors) -> Result<Self, Trouble> {
        let vault = match channel::ask_server(socket, &RelayHello::NewVault {})? {
            RelayAnswer::NewVault { vault } => vault,
            RelayAnswer::Refused(refusal) => return Err(refusal.into()),
            _ => return Err("not an answer to new_vault".into()),
        };
        let keys = DeviceKeys::generate();
        let founder = DeviceId(channel::new_request_id().0);
        let speaker = Speaker::new(Role::Founder, founder.0, &keys.sign);
        let mut connection = Connection::open(socket, vault, Expected::Unfounded, Trust::Unasked, speaker)?;
        let create = CreateRequest {
            device_name: "laptop".to_owned(),
            device_kem_public: Bytes::from(keys.kem.public().as_bytes().as_slice()),
            slot: factors.draft(vault, SlotKind::Passphrase),
            recovery: factors.draft(vault, SlotKind::Recovery),
            wants_share: false,
            device_time: clock::now(),
        };
        let DeviceAnswer::Created(created) = ask(&mut connection, &DeviceRequest::Create(Box::new(create)))? else {
            return Err("not an answer to create".into());
        };
        let identity = PublicKey::from_bytes(&created.identity.0)?;
        let seen = log::verify(&created.checkpoint, vault, &identity, &LogPosition::default())?;
        let mut member = Self { vault, identity, device: created.device, sign: keys.sign, slot: SlotId([0; 16]), seen };
        let DeviceAnswer::Slots { slots } = ask(&mut member.connect(socket)?, &DeviceRequest::SlotList {})? else {
            return Err("not an answer to slot_list".into());
        };
        let slot = slots.iter().find(|slot| slot.kind == SlotKind::Passphrase);
        member.slot = slot.ok_or("the vault has no passphrase")?.id;
        Ok(member)
    }

    /// Opens a channel.
    ///
    /// # Errors
    /// When nobody answers, or not the vault.
    pub fn connect(&self, socket: &Path) -> Result<Connection, AskError> {
        let speaker = Speaker::new(Role::Device, self.device.0, &self.sign);
        Connection::open(socket, self.vault, Expected::Identity(&self.identity, 0), Trust::Unasked, speaker)
    }

    /// Asks how the vault stands, over a channel of its own.
    ///
    /// # Errors
    /// What was refused.
    pub fn status(&self, socket: &Path) -> Result<(), Trouble> {
        match ask(&mut self.connect(socket)?, &DeviceRequest::Status {})? {
            DeviceAnswer::Status(_) => Ok(()),
            _ => Err("not an answer to status".into()),
        }
    }

    /// Unlocks, over a channel of its own, and checks that the log extends what was seen.
    ///
    /// # Errors
    /// What was refused, or an alarm.
    pub fn unlock(&mut self, socket: &Path, factors: &SharedFactors) -> Result<(), Trouble> {
        self.unlock_over(&mut self.connect(socket)?, factors)
    }

    /// The same over this channel.
    ///
    /// # Errors
    /// What was refused, or an alarm.
    pub fn unlock_over(&mut self, connection: &mut Connection, factors: &SharedFactors) -> Result<(), Trouble> {
        let secret = factors.passphrase.slot_secret(self.vault.as_bytes());
        let request = UnlockRequest {
            slot: self.slot,
            // EXPOSE: as a device that unlocks does; it is a vault of a test.
            seed: SecretValue::new(secret.expose_seed().to_vec()),
            seen: self.seen.clone(),
            device_time: clock::now(),
            open_secs: None,
        };
        let DeviceAnswer::Unlocked(unlocked) = ask(connection, &DeviceRequest::Unlock(request))? else {
            return Err("not an answer to unlock".into());
        };
        self.seen = log::verify(&unlocked.checkpoint, self.vault, &self.identity, &self.seen)?;
        Ok(())
    }

    /// Confirms the log, over a channel of its own.
    ///
    /// # Errors
    /// What was refused.
    pub fn confirm(&self, socket: &Path) -> Result<(), Trouble> {
        self.confirm_over(&mut self.connect(socket)?)
    }

    /// The same over this channel.
    ///
    /// # Errors
    /// What was refused.
    pub fn confirm_over(&self, connection: &mut Connection) -> Result<(), Trouble> {
        ask(connection, &DeviceRequest::LogConfirm(self.seen.clone())).map(drop)
    }

    /// Asks with the passphrase: its answer to a challenge of the vault covers exactly this request.
    ///
    /// # Errors
    /// What was refused.
    pub fn ask_fresh(
        &self,
        connection: &mut Connection,
        factors: &SharedFactors,
        id: RequestId,
        request: &DeviceRequest,
    ) -> Result<DeviceAnswer, Trouble> {
        let DeviceAnswer::Challenge { challenge } = ask(connection, &DeviceRequest::Challenge {})? else {
            return Err("not an answer to challenge".into());
        };
        let body = serde_json::value::to_raw_value(request)?;
        let signer = factors.passphrase.signer(self.vault.as_bytes());
        let fresh = Some(fresh::answer(&signer, self.slot, (self.vault, self.device), challenge, body.get()));
        Ok(connection.ask(&Ask { id, fresh, credential: None, body, patience: PATIENCE })?)
    }

    /// Reads the whole log and recomputes its root; answers how many events there are.
    ///
    /// # Errors
    /// What was refused, or an event that does not fit.
    pub fn verify_log(&mut self, connection: &mut Connection) -> Result<u64, Trouble> {
        let request = DeviceRequest::AuditCheckpoint { from_size: self.seen.size };
        let DeviceAnswer::Checkpoint(proof) = ask(connection, &request)? else {
            return Err("not an answer to audit_checkpoint".into());
        };
        let now = log::verify(&proof, self.vault, &self.identity, &self.seen)?;
        let mut builder = RootBuilder::default();
        while builder.size() < now.size {
            let query = AuditQuery { from: builder.size(), count: now.size - builder.size(), wait_secs: 0 };
            let DeviceAnswer::Audit { events, .. } = ask(connection, &DeviceRequest::AuditList(query))? else {
                return Err("not an answer to audit_list".into());
            };
            if events.is_empty() {
                return Err("the log is shorter than its checkpoint".into());
            }
            for event in events {
                let leaf = event.leaf.ok_or("nothing was pruned here")?;
                builder.push(leaf_hash(&leaf.0));
            }
        }
        if builder.root().as_slice() != now.root.0 {
            return Err("the events do not add up to the checkpoint".into());
        }
        self.seen = now;
        Ok(builder.size())
    }
}

/// Asks within a session, or what needs none.
///
/// # Errors
/// What was refused.
pub fn ask(connection: &mut Connection, request: &DeviceRequest) -> Result<DeviceAnswer, Trouble> {
    let body = serde_json::value::to_raw_value(request)?;
    let ask = Ask { id: channel::new_request_id(), fresh: None, credential: None, body, patience: PATIENCE };
    Ok(connection.ask(&ask)?)
}

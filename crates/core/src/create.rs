//! How a vault comes into being.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strongroom_crypto::factor::{KdfParams, RecoveryPsk};
use strongroom_crypto::kem::KemPublic;
use strongroom_crypto::seal::{seal_credential, seal_recovery_blob, seal_share_copy};
use strongroom_crypto::secret::{CredentialKey, VaultKey};
use strongroom_crypto::sign::{PublicKey, SigningKey, Statement};
use strongroom_crypto::slot::{SlotPlace, seal_vault_key};
use strongroom_wire::device::{
    CheckpointProof, Config, CreateRequest, Created, DeviceAnswer, LogPosition, SlotDraft, SlotKind,
};
use strongroom_wire::event::{Action, Actor};
use strongroom_wire::{Bytes, Code, DeviceId, Refusal, SecretValue, SlotId, Timestamp, VaultId, limits};

use crate::chains::{Chain, Contents};
use crate::header::{Header, HeaderDevice, Roster, Slot, TailPlace};
use crate::ledger::{AuditKey, Ledger};
use crate::records::{Storage, Table};
use crate::vault::{Context, Live, Open, PublicKeyBytes, Vault, check_label, random_id};

/// The setting that holds the audit key.
pub(crate) const SETTING_AUDIT: &[u8] = b"audit";
/// The setting that holds the member's choices.
pub(crate) const SETTING_CONFIG: &[u8] = b"config";
/// The setting that holds what renews the recovery blob.
pub(crate) const SETTING_RECOVERY: &[u8] = b"recovery";
/// The setting that holds the vault key's generation.
pub(crate) const SETTING_GENERATION: &[u8] = b"generation";
/// The setting that says whether the member suspended all guests.
pub(crate) const SETTING_SUSPENDED: &[u8] = b"suspended";

/// The setting that holds the public keys of devices and guests that were thrown out.
pub(crate) const SETTING_REVOKED: &[u8] = b"revoked";
/// The setting that says whether the vault key must be replaced before anything is served.
pub(crate) const SETTING_ROTATE: &[u8] = b"rotate";
/// The setting that says how much of the log the header knew when a device confirmed it last: an older header is not of these
/// records.
pub(crate) const SETTING_HEADER: &[u8] = b"header";
/// The setting that counts the entries of locked vaults' tails that are in the log.
pub(crate) const SETTING_TAIL: &[u8] = b"tail";

/// The audit key as it lies in the database.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditRecord {
    pub(crate) seed: SecretValue,
    pub(crate) certificate: Bytes,
    pub(crate) epoch: u32,
}

/// What renews the recovery blob without the phrase.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecoveryRecord {
    pub(crate) psk: SecretValue,
    pub(crate) sequence: u64,
    pub(crate) blob: Bytes,
}

/// A roster entry: what the identity signed, byte for byte.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RosterEntry {
    pub(crate) body: String,
    pub(crate) signature: Bytes,
}

/// A device in the roster.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceBody {
    pub(crate) kind: String,
    pub(crate) id: DeviceId,
    pub(crate) name: String,
    pub(crate) sign_public: Bytes,
    pub(crate) kem_public: Bytes,
    pub(crate) epoch: u32,
    pub(crate) added_at: Timestamp,
}

impl RosterEntry {
    /// Signs a body.
    pub(crate) fn sign(vault: VaultId, identity: &SigningKey, body: &impl Serialize) -> Result<Self, Refusal> {
        let body = serde_json::to_string(body).map_err(|_| Refusal::new(Code::Bug))?;
        let signature = identity.sign(&Statement::RosterEntry { vault: vault.as_bytes(), body: body.as_bytes() });
        Ok(Self { body, signature: Bytes::from(signature) })
    }

    /// Verifies the signature and reads the body.
    pub(crate) fn verify<T: serde::de::DeserializeOwned>(
        &self,
        vault: VaultId,
        identity: &PublicKey,
    ) -> Result<T, Refusal> {
        identity
            .verify(&Statement::RosterEntry { vault: vault.as_bytes(), body: self.body.as_bytes() }, &self.signature.0)
            .map_err(|_| Refusal::new(Code::StoreRefused).detail("A roster entry is not signed by the identity."))?;
        crate::ledger::parse(self.body.as_bytes())
    }
}

impl<S: Storage> Vault<S> {
    /// Makes the vault. Durable when it answers.
    pub(crate) fn create(
        &mut self,
        request: CreateRequest,
        device_sign: &PublicKeyBytes,
        cx: &mut Context<'_>,
    ) -> Result<DeviceAnswer, Refusal> {
        if self.header.is_some() || self.lost {
            return Err(Code::VaultExists.into());
        }
        check_label(&request.device_name)?;
        if request.recovery.kind != SlotKind::Recovery || request.slot.kind == SlotKind::Recovery {
            return Err(
                Refusal::new(Code::ValueRefused).detail("A vault starts with a passphrase or passkey and a phrase.")
            );
        }
        let device_sign = PublicKey::from_bytes(device_sign).map_err(|_| Refusal::new(Code::ValueRefused))?;
        let device_kem =
            KemPublic::from_bytes(&request.device_kem_public.0).map_err(|_| Refusal::new(Code::ValueRefused))?;
        self.clock.hear_device(request.device_time, cx.moment);
        let now = self.now(cx);
        let vault = *self.id.as_bytes();
        let vault_key = VaultKey::generate(cx.rng);
        let identity = SigningKey::generate(cx.rng);
        let channel = SigningKey::generate(cx.rng);
        let audit = SigningKey::generate(cx.rng);
        let device = DeviceId(random_id(cx.rng));

        let channel_certificate =
            identity.sign(&Statement::ChannelCertificate { vault: &vault, channel_key: &channel.public(), epoch: 1 });
        let audit_certificate =
            identity.sign(&Statement::AuditCertificate { vault: &vault, audit_key: &audit.public(), epoch: 1 });
        let psk = recovery_psk(&request.recovery)?;
        let recovery = self.make_slot(&request.recovery, now, &vault_key, 1, cx)?;
        let first = self.make_slot(&request.slot, now, &vault_key, 1, cx)?;

        let contents = Contents::new(&identity);
        // EXPOSE: sealed to the recovery phrase and to the device's blob in the next lines, then wiped.
        let contents_json = contents.expose_json()?;
        let recovery_public = KemPublic::from_bytes(&recovery.kem_public.0).map_err(|_| Refusal::new(Code::Bug))?;
        let recovery_blob = seal_recovery_blob(&recovery_public, &psk, &vault, 1, &contents_json, &identity, cx.rng);
        let credential_key = CredentialKey::generate(cx.rng);
        let credential = seal_credential(&credential_key, &vault, device.as_bytes(), 1, &contents_json, cx.rng);
        let chain = Chain::first(&credential_key, &credential);
        let sealed_share = request
            .wants_share
            .then(|| Bytes::from(seal_share_copy(&device_kem, &vault, device.as_bytes(), &self.share, cx.rng)));

        // Whatever an earlier try left behind was never acknowledged.
        self.disk.delete_all()?;
        self.disk.create_database(&vault_key.derive_database_key(&vault, 1))?;
        let ledger = Ledger::empty(self.id, vault_key.derive_state_key(&vault, 1));
        let audit_key = AuditKey { key: audit, certificate: audit_certificate };
        let live = Live {
            confirmed: true,
            sessions: BTreeMap::from([(device, cx.moment.ticks_ms + limits::SESSION_SECS_DEFAULT * 1_000)]),
            approvals_number: 1,
            ..Live::default()
        };
        let open_until = cx.moment.ticks_ms + limits::OPEN_SECS_DEFAULT * 1_000;
        let chain_file = chain.seal(&vault_key, self.id, device, cx.rng)?;
        self.open = Some(Box::new(Open::new(vault_key, 1, ledger, audit_key, open_until, live)));
        let header_device = HeaderDevice {
            sign_public: Bytes::from(*device_sign.as_bytes()),
            kem_public: request.device_kem_public.clone(),
            epoch: 1,
        };
        let body = DeviceBody {
            kind: "device".into(),
            id: device,
            name: request.device_name.clone(),
            sign_public: header_device.sign_public.clone(),
            kem_public: header_device.kem_public.clone(),
            epoch: 1,
            added_at: now,
        };
        let entry = RosterEntry::sign(self.id, &identity, &body)?;
        let roster = Arc::new(Roster {
            slots: vec![first, recovery],
            recovery_blob: Some(Bytes::from(recovery_blob.as_slice())),
            devices: BTreeMap::from([(device, header_device)]),
            guests: BTreeMap::new(),
            revoked: Vec::new(),
            chains: BTreeMap::from([(device, 1)]),
        });
        // EXPOSE: the PSK's place is the database; it renews the recovery blob and opens nothing alone.
        let psk = SecretValue::new(psk.expose().to_vec());
        let recovery_record = RecoveryRecord { psk, sequence: 1, blob: Bytes::from(recovery_blob) };
        let header = Header {
            next_sequence: 0,
            settled: Arc::clone(&roster),
            roster,
            attempts: BTreeMap::new(),
            recovery_attempts: Vec::new(),
            channel,
            channel_certificate: Bytes::from(channel_certificate),
            channel_epoch: 1,
            identity: identity.public(),
            floor: LogPosition::default(),
            tail: TailPlace::default(),
            time: now,
            attempts_written: BTreeMap::new(),
            attempts_ahead: true,
            unattended_paused: false,
            rescued: false,
            dirty: false,
        };
        self.chain_writes.push((device, chain_file));
        let made = self
            .in_transaction(cx, |this, cx| {
                this.first_records(device, &entry, &header.roster.slots, &recovery_record, cx)
            })
            .and_then(|()| self.settle(cx))
            .and_then(|()| self.first_headers(header, cx));
        let checkpoint = match made {
            Ok(checkpoint) => checkpoint,
            Err(refusal) => {
                self.close();
                // Best effort: the next try does it again.
                let _ = self.disk.delete_all();
                return Err(refusal);
            }
        };
        Ok(DeviceAnswer::Created(Box::new(Created {
            identity: Bytes::from(*identity.public().as_bytes()),
            device,
            credential: Bytes::from(credential),
            sealed_share,
            checkpoint,
            session_until: now.plus_secs(limits::SESSION_SECS_DEFAULT),
        })))
    }

    /// The records of a new vault, and its first event.
    fn first_records(
        &mut self,
        device: DeviceId,
        entry: &RosterEntry,
        slots: &[Slot],
        recovery: &RecoveryRecord,
        cx: &mut Context<'_>,
    ) -> Result<(), Refusal> {
        let (open, _) = self.opened()?;
        // EXPOSE: the audit key's place is the database (docs/cryptography.md, section 9).
        let audit = AuditRecord {
            seed: SecretValue::new(open.audit.key.expose_seed().to_vec()),
            certificate: Bytes::from(open.audit.certificate),
            epoch: 1,
        };
        self.put(Table::Settings, SETTING_AUDIT, &audit)?;
        self.put(Table::Settings, SETTING_RECOVERY, recovery)?;
        self.put(Table::Settings, SETTING_GENERATION, &1_u32)?;
        self.put(Table::Settings, SETTING_CONFIG, &Config::default())?;
        for slot in slots {
            self.put(Table::Slots, slot.id.as_bytes(), slot)?;
        }
        self.put(Table::Devices, device.as_bytes(), entry)?;
        let mut event = self.event(Actor::Founder, Action::VaultCreate, cx);
        event.device = Some(device);
        self.log(event, cx).map(|_| ())
    }

    /// The first header, in both copies, so that a missing one always means something.
    fn first_headers(&mut self, mut header: Header, cx: &mut Context<'_>) -> Result<CheckpointProof, Refusal> {
        let (open, disk) = self.opened()?;
        header.floor = open.ledger.position(disk)?;
        let checkpoint = open.ledger.checkpoint(disk, &open.audit, 0)?;
        header.write(&mut self.disk, self.id, &self.share, cx.rng)?;
        header.write(&mut self.disk, self.id, &self.share, cx.rng)?;
        self.header = Some(header);
        Ok(checkpoint)
    }

    /// A slot with the vault key sealed to it.
    pub(crate) fn make_slot(
        &self,
        draft: &SlotDraft,
        now: Timestamp,
        vault_key: &VaultKey,
        generation: u32,
        cx: &mut Context<'_>,
    ) -> Result<Slot, Refusal> {
        check_label(&draft.name)?;
        let public = KemPublic::from_bytes(&draft.kem_public.0)
            .map_err(|_| Refusal::new(Code::ValueRefused).detail("The slot's KEM key is malformed."))?;
        PublicKey::from_bytes(&draft.sign_public.0)
            .map_err(|_| Refusal::new(Code::ValueRefused).detail("The slot's signing key is malformed."))?;
        match (draft.kind, &draft.kdf) {
            (SlotKind::Passphrase, Some(kdf)) => {
                let params = KdfParams {
                    salt: kdf
                        .salt
                        .to_array()
                        .ok_or(Refusal::new(Code::ValueRefused).detail("The salt has 16 bytes."))?,
                    memory_kib: kdf.memory_kib,
                    passes: kdf.passes,
                    lanes: kdf.lanes,
                };
                params.check().map_err(|error| Refusal::new(Code::ValueRefused).detail(error.to_string()))?;
            }
            (SlotKind::Passkey | SlotKind::Recovery, None) => {}
            _ => return Err(Refusal::new(Code::ValueRefused).detail("Only a passphrase names how it was stretched.")),
        }
        let id = SlotId(random_id(cx.rng));
        let mut slot = Slot {
            id,
            kind: draft.kind,
            name: draft.name.clone(),
            added_at: now,
            kem_public: draft.kem_public.clone(),
            sign_public: draft.sign_public.clone(),
            kdf: draft.kdf.clone(),
            generation,
            sealed: Bytes::default(),
            sealed_next: None,
            hardware: Vec::new(),
        };
        let place = SlotPlace { vault: self.id.as_bytes(), slot: id.as_bytes(), kind: slot.factor(), generation };
        slot.sealed = Bytes::from(seal_vault_key(&public, &place, vault_key, cx.rng));
        Ok(slot)
    }
}

/// The PSK that a recovery slot's draft brings.
pub(crate) fn recovery_psk(draft: &SlotDraft) -> Result<RecoveryPsk, Refusal> {
    let missing = || Refusal::new(Code::ValueRefused).detail("A recovery phrase brings a PSK of 32 bytes.");
    let psk = draft.recovery_psk.as_ref().ok_or_else(missing)?;
    // EXPOSE: moved into locked memory.
    let bytes: &[u8; 32] = psk.expose().try_into().map_err(|_| missing())?;
    Ok(RecoveryPsk::from_bytes(bytes))
}

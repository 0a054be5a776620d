//! What a locked vault knows: the header's open and sealed part.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strongroom_crypto::CryptoRng;
use strongroom_crypto::factor::FactorKind;
use strongroom_crypto::seal::{newest_header, seal_header};
use strongroom_crypto::secret::HostShare;
use strongroom_crypto::sign::{PublicKey, SigningKey};
use strongroom_wire::device::{Kdf, LogPosition, SlotKind};
use strongroom_wire::sealing::TpmSealed;
use strongroom_wire::{Bytes, Code, DeviceId, GuestId, Refusal, SecretValue, SlotId, Timestamp, VaultId, limits};

use crate::records::{HeaderCopy, Storage};

/// A way to unlock, as it lies in header and database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Slot {
    /// The slot.
    pub(crate) id: SlotId,
    /// What kind of factor.
    pub(crate) kind: SlotKind,
    /// What the member calls it; empty in the header.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) name: String,
    /// When it was added.
    pub(crate) added_at: Timestamp,
    /// X-Wing public key.
    pub(crate) kem_public: Bytes,
    /// Ed25519 public key that answers challenges.
    pub(crate) sign_public: Bytes,
    /// How a passphrase was stretched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kdf: Option<Kdf>,
    /// The rotation of the vault key that is sealed.
    pub(crate) generation: u32,
    /// The vault key.
    pub(crate) sealed: Bytes,
    /// While the vault key is being replaced: the next one, of the generation that follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sealed_next: Option<Bytes>,
    /// The secret of an unattended slot, as the host's hardware sealed it for each vault program.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) hardware: Vec<TpmSealed>,
}

impl Slot {
    /// The factor's kind as `crypto` names it.
    pub(crate) fn factor(&self) -> FactorKind {
        match self.kind {
            SlotKind::Passphrase => FactorKind::Passphrase,
            SlotKind::Passkey => FactorKind::Passkey,
            SlotKind::Recovery => FactorKind::Recovery,
            SlotKind::Unattended => FactorKind::Unattended,
        }
    }
}

/// A device as a locked vault must know it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeaderDevice {
    /// Ed25519 public key.
    pub(crate) sign_public: Bytes,
    /// X-Wing public key.
    pub(crate) kem_public: Bytes,
    /// Its epoch in the roster.
    pub(crate) epoch: u32,
}

/// Where the chain of tail entries stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TailPlace {
    /// Entries that were merged into the log.
    pub(crate) merged: u64,
    /// The MAC of the last of them.
    pub(crate) last: Option<Bytes>,
    /// Where the file that was merged last began: a crash may have left it in place.
    pub(crate) before: u64,
    /// The MAC before its first entry.
    pub(crate) before_last: Option<Bytes>,
}

/// The header's open part: readable on any host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OpenPart {
    pub(crate) v: u8,
    pub(crate) vault: VaultId,
    pub(crate) sequence: u64,
    pub(crate) recovery_slots: Vec<Slot>,
    recovery_blob: Option<Bytes>,
}

/// The header's sealed part: under a key derived from the host share.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealedPart {
    v: u8,
    slots: Vec<Slot>,
    attempts: BTreeMap<SlotId, u32>,
    recovery_attempts: Vec<Timestamp>,
    channel_seed: SecretValue,
    channel_certificate: Bytes,
    channel_epoch: u32,
    identity: Bytes,
    devices: BTreeMap<DeviceId, HeaderDevice>,
    guests: BTreeMap<GuestId, Bytes>,
    revoked: Vec<Bytes>,
    chains: BTreeMap<DeviceId, u64>,
    floor: LogPosition,
    tail: TailPlace,
    time: Timestamp,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unattended_paused: bool,
}

/// What the header repeats of the database, so that a locked vault knows it, and what must be as new as the database.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roster {
    /// Every slot.
    pub(crate) slots: Vec<Slot>,
    /// The newest recovery blob.
    pub(crate) recovery_blob: Option<Bytes>,
    /// Devices.
    pub(crate) devices: BTreeMap<DeviceId, HeaderDevice>,
    /// Guests' public keys.
    pub(crate) guests: BTreeMap<GuestId, Bytes>,
    /// Public keys of devices and guests that were thrown out: they never come back.
    pub(crate) revoked: Vec<Bytes>,
    /// The number of each device's blob in force, so that an older chain file shows.
    pub(crate) chains: BTreeMap<DeviceId, u64>,
}

/// The header in memory.
pub(crate) struct Header {
    /// The sequence of the next write.
    pub(crate) next_sequence: u64,
    /// Shared with whoever may have to go back to it: a change that is taken back takes its part of the roster along.
    pub(crate) roster: Arc<Roster>,
    /// The roster as it was when records and header were durable last.
    pub(crate) settled: Arc<Roster>,
    /// Wrong factors in a row, per slot.
    pub(crate) attempts: BTreeMap<SlotId, u32>,
    /// What was written of them.
    pub(crate) attempts_written: BTreeMap<SlotId, u32>,
    /// Whether each slot is written with one attempt more than there was: the next one is counted before it is made, so that
    /// nothing has to be written before an act.
    pub(crate) attempts_ahead: bool,
    /// When the recovery phrase was tried lately.
    pub(crate) recovery_attempts: Vec<Timestamp>,
    /// The channel identity.
    pub(crate) channel: SigningKey,
    /// The identity's word for it, 64 bytes.
    pub(crate) channel_certificate: Bytes,
    /// Counts channel identities.
    pub(crate) channel_epoch: u32,
    /// The vault identity's public key.
    pub(crate) identity: PublicKey,
    /// The log is at least this long, so that an older database shows.
    pub(crate) floor: LogPosition,
    /// Where the locked vault's log tail goes on.
    pub(crate) tail: TailPlace,
    /// Time when it was written.
    pub(crate) time: Timestamp,
    /// A device locked the vault: it does not open by itself before a device opens it.
    pub(crate) unattended_paused: bool,
    /// Made from the recovery phrase, and not compared with the database yet: nothing in it is older than that.
    pub(crate) rescued: bool,
    /// Whether something changed since it was written.
    pub(crate) dirty: bool,
}

impl Header {
    /// Reads the newest copy; `None` where there is none at all: the vault was never made.
    ///
    /// # Errors
    /// `vault_header_refused` when no copy verifies under this share.
    pub(crate) fn read<S: Storage>(disk: &mut S, vault: VaultId, share: &HostShare) -> Result<Option<Read>, Refusal> {
        let a = disk.read_header(HeaderCopy::A)?;
        let b = disk.read_header(HeaderCopy::B)?;
        if a.is_none() && b.is_none() {
            return Ok(None);
        }
        let key = share.derive_header_key(vault.as_bytes());
        let newest = newest_header(&key, vault.as_bytes(), a.as_deref(), b.as_deref())
            .map_err(|(a, b)| refused(&format!("header.a: {a}; header.b: {b}")))?;
        let open: OpenPart =
            serde_json::from_slice(&newest.open_part).map_err(|_| refused("its open part cannot be read"))?;
        // EXPOSE: parsed into types that keep what is secret in wiped memory.
        let sealed: SealedPart = serde_json::from_slice(newest.sealed_part.expose())
            .map_err(|_| refused("its sealed part cannot be read"))?;
        if open.v != 1 || sealed.v != 1 || open.vault != vault || open.sequence != newest.sequence {
            return Err(refused("it is of another vault or version"));
        }
        // EXPOSE: the seed goes from the parsed header into locked memory.
        let seed: &[u8; 32] =
            sealed.channel_seed.expose().try_into().map_err(|_| refused("the channel key is malformed"))?;
        let mut slots = sealed.slots;
        slots.extend(open.recovery_slots);
        let roster = Arc::new(Roster {
            slots,
            recovery_blob: open.recovery_blob,
            devices: sealed.devices,
            guests: sealed.guests,
            revoked: sealed.revoked,
            chains: sealed.chains,
        });
        let header = Self {
            next_sequence: newest.sequence.checked_add(1).ok_or_else(|| refused("its sequence is at the end"))?,
            settled: Arc::clone(&roster),
            roster,
            attempts_written: sealed.attempts.clone(),
            attempts: sealed.attempts,
            attempts_ahead: false,
            recovery_attempts: sealed.recovery_attempts,
            channel: SigningKey::from_seed(seed),
            channel_certificate: sealed.channel_certificate,
            channel_epoch: sealed.channel_epoch,
            identity: PublicKey::from_bytes(&sealed.identity.0).map_err(|_| refused("the identity is malformed"))?,
            floor: sealed.floor,
            tail: sealed.tail,
            time: sealed.time,
            unattended_paused: sealed.unattended_paused,
            rescued: false,
            dirty: false,
        };
        Ok(Some(Read { header, starts_at_limit: newest.other.starts_at_limit() }))
    }

    /// A header that holds what the recovery phrase gives; the database, once open, fills in the rest.
    pub(crate) fn rescued(
        next_sequence: u64,
        slots: Vec<Slot>,
        channel: SigningKey,
        identity: PublicKey,
        now: Timestamp,
    ) -> Self {
        let roster = Arc::new(Roster { slots, ..Roster::default() });
        Self {
            next_sequence,
            settled: Arc::clone(&roster),
            roster,
            attempts: BTreeMap::new(),
            attempts_written: BTreeMap::new(),
            attempts_ahead: false,
            recovery_attempts: Vec::new(),
            channel,
            channel_certificate: Bytes::default(),
            channel_epoch: 0,
            identity,
            floor: LogPosition::default(),
            tail: TailPlace::default(),
            time: now,
            unattended_paused: false,
            rescued: true,
            dirty: false,
        }
    }

    /// Starts every slot at its limit: the copy that is missing may have counted attempts that this one does not know of.
    pub(crate) fn start_at_limit(&mut self, now: Timestamp) {
        for slot in &self.roster.slots {
            let attempts = self.attempts.entry(slot.id).or_insert(0);
            *attempts = (*attempts).max(limits::UNLOCK_ATTEMPTS_FREE);
        }
        self.recovery_attempts = vec![now; limits::RECOVERY_ATTEMPTS_PER_HOUR as usize];
    }

    fn attempts_to_write(&self) -> BTreeMap<SlotId, u32> {
        let mut attempts = self.attempts.clone();
        if self.attempts_ahead {
            for slot in self.roster.slots.iter().filter(|slot| slot.kind != SlotKind::Recovery) {
                *attempts.entry(slot.id).or_insert(0) += 1;
            }
        }
        attempts
    }

    /// Whether the next attempt with this slot was written before it is made.
    pub(crate) fn is_written_ahead(&self, slot: SlotId) -> bool {
        let attempts = self.attempts.get(&slot).copied().unwrap_or(0);
        self.attempts_written.get(&slot).is_some_and(|written| *written > attempts)
    }

    /// A factor was right: what was counted is forgotten, for every slot. The header is written after the act, once for all acts
    /// that are settled together, with the length that the log must have from then on.
    pub(crate) fn forget_attempts(&mut self) {
        self.attempts.clear();
        self.recovery_attempts.clear();
        self.dirty = true;
    }

    /// The roster, to change it; the header is written with the next settlement.
    pub(crate) fn roster_mut(&mut self) -> &mut Roster {
        self.dirty = true;
        Arc::make_mut(&mut self.roster)
    }

    /// Writes the next copy, durably.
    ///
    /// # Errors
    /// When the disk fails; the copy before it still counts.
    pub(crate) fn write<S: Storage>(
        &mut self,
        disk: &mut S,
        vault: VaultId,
        share: &HostShare,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), Refusal> {
        let sequence = self.next_sequence;
        let roster = &*self.roster;
        let nameless = |slot: &Slot| Slot { name: String::new(), ..slot.clone() };
        let (recovery, others): (Vec<Slot>, Vec<Slot>) =
            roster.slots.iter().map(nameless).partition(|slot| slot.kind == SlotKind::Recovery);
        let open =
            OpenPart { v: 1, vault, sequence, recovery_slots: recovery, recovery_blob: roster.recovery_blob.clone() };
        let sealed = SealedPart {
            v: 1,
            slots: others,
            attempts: self.attempts_to_write(),
            recovery_attempts: self.recovery_attempts.clone(),
            // EXPOSE: the seed is written into the sealed part and the copy is wiped with it.
            channel_seed: SecretValue::new(self.channel.expose_seed().to_vec()),
            channel_certificate: self.channel_certificate.clone(),
            channel_epoch: self.channel_epoch,
            identity: Bytes::from(*self.identity.as_bytes()),
            devices: roster.devices.clone(),
            guests: roster.guests.clone(),
            revoked: roster.revoked.clone(),
            chains: roster.chains.clone(),
            floor: self.floor.clone(),
            tail: self.tail.clone(),
            time: self.time,
            unattended_paused: self.unattended_paused,
        };
        let open = serde_json::to_vec(&open).map_err(|_| Refusal::new(Code::Bug))?;
        let sealed = zeroize::Zeroizing::new(serde_json::to_vec(&sealed).map_err(|_| Refusal::new(Code::Bug))?);
        let key = share.derive_header_key(vault.as_bytes());
        let file = seal_header(&key, vault.as_bytes(), sequence, &open, &sealed, rng)
            .map_err(|_| Refusal::new(Code::TooMany).detail("The vault's header would be too large."))?;
        let copy = if sequence.is_multiple_of(2) { HeaderCopy::A } else { HeaderCopy::B };
        disk.write_header(copy, &file)?;
        self.next_sequence = sequence + 1;
        self.attempts_written = self.attempts_to_write();
        self.dirty = false;
        Ok(())
    }

    /// Whether it is one that the recovery phrase gave, before the identity has certified a channel for it.
    pub(crate) fn is_stand_in(&self) -> bool {
        self.rescued && self.channel_certificate.is_empty()
    }

    /// A slot.
    pub(crate) fn slot(&self, id: SlotId) -> Option<&Slot> {
        self.roster.slots.iter().find(|slot| slot.id == id)
    }
}

/// A header that was read.
pub(crate) struct Read {
    /// The newest copy.
    pub(crate) header: Header,
    /// Whether the other copy is not the one written just before, so that attempts start at their limit.
    pub(crate) starts_at_limit: bool,
}

fn refused(why: &str) -> Refusal {
    Refusal::new(Code::HeaderRefusedFile)
        .detail(format!("The vault's header cannot be used: {why}."))
        .hint("put back header.a and header.b together with the database, and the host share of this vault")
}

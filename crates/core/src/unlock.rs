//! Locked and unlocked: attempts and their limits, fresh authentication, sessions, the locked vault's log tail.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use strongroom_crypto::kem::SlotSecret;
use strongroom_crypto::locked::scrub_stack;
use strongroom_crypto::seal::{TailError, append_tail, read_tail};
use strongroom_crypto::secret::VaultKey;
use strongroom_crypto::sign::{Act, PublicKey, SigningKey, Statement};
use strongroom_crypto::slot::{SlotPlace, open_vault_key};
use strongroom_wire::device::{Config, DeviceAnswer, Fresh, LogPosition, SlotKind, SlotView, UnlockRequest, Unlocked};
use strongroom_wire::{Bytes, Challenge, Code, DeviceId, GuestId, Refusal, SlotId, Timestamp, frame, limits};

use crate::create::{
    AuditRecord, RecoveryRecord, SETTING_AUDIT, SETTING_CONFIG, SETTING_GENERATION, SETTING_RECOVERY, SETTING_SUSPENDED,
};
use crate::header::{HeaderDevice, Slot};
use crate::ledger::{AuditKey, Ledger};
use crate::records::{Storage, StoreError, Table};
use crate::vault::{Audience, Context, Effect, Open, Vault};
use strongroom_wire::event::{Action, Actor, Event};

/// An event of a locked vault, in its tail.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TailEntry {
    at: Timestamp,
    device: DeviceId,
    action: Action,
    slot: SlotId,
}

impl<S: Storage> Vault<S> {
    /// The ways to unlock, as an enrolled device needs them.
    pub(crate) fn slot_list(&mut self) -> Result<DeviceAnswer, Refusal> {
        let named: Vec<Slot> = match &self.open {
            Some(_) => self.all::<Slot>(Table::Slots, &[])?.into_iter().map(|(_, slot)| slot).collect(),
            None => Vec::new(),
        };
        let header = self.header.as_ref().ok_or(Refusal::new(Code::VaultNotCreated))?;
        let slots = header
            .slots
            .iter()
            .map(|slot| SlotView {
                id: slot.id,
                kind: slot.kind,
                name: named.iter().find(|other| other.id == slot.id).map(|other| other.name.clone()),
                kdf: slot.kdf.clone(),
                added_at: slot.added_at,
            })
            .collect();
        Ok(DeviceAnswer::Slots { slots })
    }

    /// A challenge for fresh authentication.
    pub(crate) fn challenge(&mut self, device: DeviceId, cx: &mut Context<'_>) -> Result<DeviceAnswer, Refusal> {
        let ticks = cx.moment.ticks_ms;
        self.challenges.retain(|_, (_, until)| *until > ticks);
        if self.challenges.values().filter(|(of, _)| *of == device).count() >= CHALLENGES_PER_DEVICE_MAX {
            return Err(Code::Busy.into());
        }
        let mut bytes = [0; 32];
        cx.rng.fill_bytes(&mut bytes);
        let challenge = Challenge(bytes);
        self.challenges.insert(challenge, (device, ticks + limits::FRESH_SECS * 1_000));
        Ok(DeviceAnswer::Challenge { challenge })
    }

    /// Checks that a factor answered a challenge of ours over exactly this body.
    pub(crate) fn check_fresh(
        &mut self,
        device: DeviceId,
        fresh: &Fresh,
        body: &str,
        cx: &mut Context<'_>,
    ) -> Result<(), Refusal> {
        let ticks = cx.moment.ticks_ms;
        let known = self.challenges.get(&fresh.challenge).is_some_and(|(of, until)| *of == device && *until > ticks);
        if !known {
            return Err(Refusal::new(Code::FreshRefused).detail("The challenge is unknown, used or older than 60 s."));
        }
        self.challenges.remove(&fresh.challenge);
        let slot = self.slot(fresh.slot)?;
        let public = PublicKey::from_bytes(&slot.sign_public.0).map_err(|_| Refusal::new(Code::Bug))?;
        self.count_attempt(&slot, cx)?;
        let act = Act::new(self.id.as_bytes(), device.as_bytes(), &fresh.challenge.0, body.as_bytes());
        if public.verify(&Statement::Fresh { act: &act }, &fresh.signature.0).is_err() {
            self.note_refusal(device, &slot, Action::FreshRefused, cx)?;
            return Err(self.attempts_left(Refusal::new(Code::FreshRefused), slot.id));
        }
        self.forget_attempts();
        Ok(())
    }

    /// Opens the vault, and a session of the device.
    pub(crate) fn unlock(
        &mut self,
        device: DeviceId,
        request: &UnlockRequest,
        cx: &mut Context<'_>,
    ) -> Result<DeviceAnswer, Refusal> {
        let slot = self.slot(request.slot)?;
        // EXPOSE: moved into locked memory.
        let seed: &[u8; 32] = request
            .seed
            .expose()
            .try_into()
            .map_err(|_| Refusal::new(Code::ValueRefused).detail("A slot's seed has 32 bytes."))?;
        let secret = SlotSecret::from_seed(seed);
        self.count_attempt(&slot, cx)?;
        let Some((current, next)) = open_slot(&slot, &secret, self.id.as_bytes()) else {
            self.note_refusal(device, &slot, Action::UnlockRefused, cx)?;
            return Err(self.attempts_left(Refusal::new(Code::FactorRefused), slot.id));
        };
        self.forget_attempts();
        if self.open.is_none()
            && let Err(refusal) = self.open_database(current, next, slot.generation, device, request, cx)
        {
            self.close(cx);
            return Err(refusal);
        }
        if self.clock.hear_device(request.device_time, cx.moment) {
            let event = self.event(Actor::Vault, Action::ClockDisagrees, cx);
            self.in_transaction(cx, |vault, cx| vault.log(event, cx))?;
            self.effects.push(Effect::Notice("clock_disagrees"));
        }
        let session_until = self.begin_session(device, cx)?;
        let mut event = self.event(Actor::Device(device), Action::VaultUnlock, cx);
        event.slot = Some(slot.id);
        self.in_transaction(cx, |vault, cx| vault.log(event, cx))?;
        let (open, disk) = self.opened()?;
        open.ledger.commit(disk)?;
        // A device that has seen more than there is must not be led on: the log was cut.
        let checkpoint = match open.ledger.checkpoint(disk, &open.audit, request.seen.size) {
            Ok(checkpoint) => checkpoint,
            Err(refusal) => {
                self.close(cx);
                return Err(refusal);
            }
        };
        let open_until =
            Timestamp(self.now(cx).0 + self.opened()?.0.open_until_ticks_ms.saturating_sub(cx.moment.ticks_ms));
        Ok(DeviceAnswer::Unlocked(Unlocked { session_until, open_until, checkpoint }))
    }

    fn open_database(
        &mut self,
        current: VaultKey,
        next: Option<VaultKey>,
        generation: u32,
        device: DeviceId,
        request: &UnlockRequest,
        cx: &mut Context<'_>,
    ) -> Result<(), Refusal> {
        let vault = *self.id.as_bytes();
        let (vault_key, generation, left) = match next {
            None => {
                self.disk.open_database(&current.derive_database_key(&vault, generation))?;
                (current, generation, None)
            }
            Some(next) => match self.disk.open_database(&next.derive_database_key(&vault, generation + 1)) {
                Ok(()) => (next, generation + 1, None),
                Err(StoreError::Damaged(_)) => {
                    self.disk.open_database(&current.derive_database_key(&vault, generation))?;
                    (current, generation, Some(next))
                }
                Err(error) => return Err(error.into()),
            },
        };
        let ledger = Ledger::open(&mut self.disk, self.id, vault_key.derive_state_key(&vault, generation))?;
        let header = self.header.as_ref().ok_or(Refusal::new(Code::VaultNotCreated))?;
        let floor = header.floor.clone();
        if ledger.size() < floor.size || ledger.position_at(&mut self.disk, floor.size)? != floor {
            return Err(Refusal::new(Code::StoreRefused)
                .detail("The database is older than the vault's header, or another log was put in its place."));
        }
        self.clock.not_before(ledger.last_at(), cx.moment);
        let audit: AuditRecord =
            ledger.get(&mut self.disk, Table::Settings, SETTING_AUDIT)?.ok_or_else(missing_setting)?;
        let config: Config = ledger.get(&mut self.disk, Table::Settings, SETTING_CONFIG)?.unwrap_or_default();
        let suspended: bool = ledger.get(&mut self.disk, Table::Settings, SETTING_SUSPENDED)?.unwrap_or(false);
        // EXPOSE: moved into locked memory.
        let seed: &[u8; 32] = audit.seed.expose().try_into().map_err(|_| missing_setting())?;
        let open_secs = request
            .open_secs
            .or(config.open_secs)
            .unwrap_or(limits::OPEN_SECS_DEFAULT)
            .clamp(limits::OPEN_SECS_MIN, limits::OPEN_SECS_MAX);
        self.open = Some(Box::new(Open {
            audit: AuditKey {
                key: SigningKey::from_seed(seed),
                certificate: audit.certificate.to_array().ok_or_else(missing_setting)?,
            },
            vault_key,
            generation,
            ledger,
            confirmed: false,
            open_until_ticks_ms: cx.moment.ticks_ms + open_secs * 1_000,
            sessions: BTreeMap::new(),
            rates: HashMap::new(),
            refusals: HashMap::new(),
            running: BTreeMap::new(),
            next_run: 1,
            waiting: Vec::new(),
            approvals_number: 1,
            approval_deadlines: BTreeMap::new(),
            presented: HashMap::new(),
            suspended,
            log_read: HashMap::new(),
            config,
        }));
        self.finish_rotation(left, cx)?;
        self.sync_header()?;
        self.merge_tail(device, cx)?;
        self.close_old_intents(cx)?;
        self.void_old_approvals(cx)?;
        let (open, disk) = self.opened()?;
        open.ledger.commit(disk)?;
        let position = open.ledger.position(disk)?;
        if let Some(header) = &mut self.header {
            header.floor = position;
            header.dirty = true;
        }
        Ok(())
    }

    /// Brings the header up to the database, which is written first: a crash may have come between the two.
    pub(crate) fn sync_header(&mut self) -> Result<(), Refusal> {
        let slots: Vec<Slot> = self.all(Table::Slots, &[])?.into_iter().map(|(_, slot)| slot).collect();
        let identity = self.header.as_ref().ok_or(Refusal::new(Code::VaultNotCreated))?.identity;
        let id = self.id;
        let mut devices = BTreeMap::new();
        for (_, entry) in self.all::<crate::create::RosterEntry>(Table::Devices, &[])? {
            let body: crate::create::DeviceBody = entry.verify(id, &identity)?;
            let device = HeaderDevice { sign_public: body.sign_public, kem_public: body.kem_public, epoch: body.epoch };
            devices.insert(body.id, device);
        }
        let mut guests: BTreeMap<GuestId, Bytes> = BTreeMap::new();
        for (_, record) in self.all::<crate::guests::GuestRecord>(Table::Guests, &[])? {
            let body: crate::guests::GuestBody = record.entry.verify(id, &identity)?;
            guests.insert(body.id, body.public_key);
        }
        let recovery: RecoveryRecord = self.get(Table::Settings, SETTING_RECOVERY)?.ok_or_else(missing_setting)?;
        let header = self.header.as_mut().ok_or(Refusal::new(Code::VaultNotCreated))?;
        header.slots = slots;
        header.devices = devices;
        header.guests = guests;
        let known = &header.devices;
        header.chains.retain(|device, _| known.contains_key(device));
        header.recovery_blob = Some(recovery.blob);
        header.dirty = true;
        Ok(())
    }

    /// A device says that the log extends what it saw.
    pub(crate) fn log_confirm(
        &mut self,
        device: DeviceId,
        position: &LogPosition,
        cx: &mut Context<'_>,
    ) -> Result<DeviceAnswer, Refusal> {
        let (open, disk) = self.opened()?;
        if position.size == 0
            || position.size > open.ledger.size()
            || open.ledger.position_at(disk, position.size)? != *position
        {
            return Err(Code::HistoryRefused.into());
        }
        if !open.confirmed {
            open.confirmed = true;
            let mut event = self.event(Actor::Device(device), Action::LogConfirm, cx);
            event.count = Some(position.size);
            self.log(event, cx)?;
        }
        Ok(DeviceAnswer::Done {})
    }

    /// Opens a session of a device.
    pub(crate) fn begin_session(&mut self, device: DeviceId, cx: &Context<'_>) -> Result<Timestamp, Refusal> {
        let ticks = cx.moment.ticks_ms;
        let now = self.now(cx);
        let (open, _) = self.opened()?;
        open.sessions.retain(|_, until| *until > ticks);
        if open.sessions.len() >= limits::SESSIONS_MAX && !open.sessions.contains_key(&device) {
            return Err(Code::SessionsFull.into());
        }
        let secs = open.config.session_secs.unwrap_or(limits::SESSION_SECS_DEFAULT);
        open.sessions.insert(device, ticks + secs * 1_000);
        Ok(now.plus_secs(secs))
    }

    /// Locks: everything that opens something is wiped.
    pub(crate) fn lock_now(&mut self, actor: Actor, cx: &mut Context<'_>) {
        let event = self.event(actor, Action::VaultLock, cx);
        // A lock is never refused: where the event cannot be written, the vault locks without it.
        if self.in_transaction(cx, |vault, cx| vault.log(event, cx)).is_ok()
            && let Ok((open, disk)) = self.opened()
            && open.ledger.commit(disk).is_ok()
            && let Ok(position) = open.ledger.position(disk)
            && let Some(header) = &mut self.header
        {
            header.floor = position;
            header.time = self.clock.now(cx.moment);
            header.dirty = header.write(&mut self.disk, self.id, &self.share, cx.rng).is_err();
        }
        self.close(cx);
    }

    /// Forgets every key, without a word in the log.
    pub(crate) fn close(&mut self, _cx: &mut Context<'_>) {
        let Some(mut open) = self.open.take() else { return };
        open.ledger.roll_back(&mut self.disk);
        for waiting in open.waiting.drain(..) {
            self.effects.push(waiting.refuse(Refusal::new(Code::VaultLocked)));
        }
        drop(open);
        self.disk.close_database();
        self.challenges.clear();
        self.chain_writes.clear();
        self.effects.push(Effect::HttpAbort);
        self.effects.push(Effect::Tell(frame::Event::Locked {}, Audience::Everyone));
        scrub_stack();
    }

    /// Locks on behalf of the program, before it leaves.
    pub fn lock(&mut self, cx: &mut Context<'_>) {
        if self.open.is_some() {
            self.lock_now(Actor::Vault, cx);
        }
    }

    pub(crate) fn slot(&self, id: SlotId) -> Result<Slot, Refusal> {
        let header = self.header.as_ref().ok_or(Refusal::new(Code::VaultNotCreated))?;
        header.slot(id).cloned().ok_or(Refusal::new(Code::SlotUnknown))
    }

    /// Counts an attempt, durably, before the factor is tried.
    fn count_attempt(&mut self, slot: &Slot, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let ticks = cx.moment.ticks_ms;
        let now = self.now(cx);
        let tried = self.tried_ticks_ms;
        let header = self.header.as_mut().ok_or(Refusal::new(Code::VaultNotCreated))?;
        let attempts = header.attempts.get(&slot.id).copied().unwrap_or(0);
        if slot.kind == SlotKind::Recovery {
            header.recovery_attempts.retain(|at| now.secs_since(*at) < 3_600);
            if header.recovery_attempts.len() >= limits::RECOVERY_ATTEMPTS_PER_HOUR as usize {
                return Err(Refusal::new(Code::AttemptsWait).retry_secs(3_600));
            }
        } else if attempts >= limits::UNLOCK_ATTEMPTS_MAX {
            return Err(Refusal::new(Code::SlotLocked).hint("strongroom unlock --phrase"));
        }
        let wait_secs = wait_secs(attempts);
        let waited_ms = ticks.saturating_sub(tried);
        if waited_ms < wait_secs * 1_000 {
            return Err(Refusal::new(Code::AttemptsWait).retry_secs((wait_secs * 1_000 - waited_ms).div_ceil(1_000)));
        }
        if slot.kind == SlotKind::Recovery {
            header.recovery_attempts.push(now);
        }
        header.attempts.insert(slot.id, attempts + 1);
        header.write(&mut self.disk, self.id, &self.share, cx.rng)?;
        self.tried_ticks_ms = ticks;
        Ok(())
    }

    /// A factor was right: what was counted is forgotten, for every slot.
    fn forget_attempts(&mut self) {
        if let Some(header) = &mut self.header {
            header.attempts.clear();
            header.recovery_attempts.clear();
            header.dirty = true;
        }
    }

    fn attempts_left(&self, refusal: Refusal, slot: SlotId) -> Refusal {
        let attempts = self.header.as_ref().and_then(|header| header.attempts.get(&slot)).copied().unwrap_or(0);
        match wait_secs(attempts) {
            0 => {
                let left = limits::UNLOCK_ATTEMPTS_FREE.saturating_sub(attempts);
                let sentence = format!("{} {left} more before a wait.", refusal.code.sentence());
                refusal.detail(sentence)
            }
            secs => refusal.retry_secs(secs),
        }
    }

    /// Logs a refused factor: in the log while open, else in the tail.
    fn note_refusal(
        &mut self,
        device: DeviceId,
        slot: &Slot,
        action: Action,
        cx: &mut Context<'_>,
    ) -> Result<(), Refusal> {
        let mut event = self.event(Actor::Device(device), action, cx);
        event.slot = Some(slot.id);
        if self.open.is_some() {
            return self.in_transaction(cx, |vault, cx| vault.log(event, cx)).map(|_| ());
        }
        let at = event.at;
        let entry = TailEntry { at, device, action, slot: slot.id };
        let json = serde_json::to_vec(&entry).map_err(|_| Refusal::new(Code::Bug))?;
        let key = self.share.derive_tail_key(self.id.as_bytes());
        let (entries, last) = self.read_tail_entries()?;
        if entries.len() >= limits::TAIL_ENTRIES_MAX - limits::TAIL_ENTRIES_RESERVED {
            return Err(Refusal::new(Code::Busy).detail("The locked vault's log is full; unlock it first."));
        }
        let header = self.header.as_ref().ok_or(Refusal::new(Code::VaultNotCreated))?;
        let index = header.tail.merged + entries.len() as u64;
        let mut bytes = Vec::new();
        append_tail(&key, self.id.as_bytes(), index, last.as_ref(), &json, &mut bytes);
        self.disk.append_tail(&bytes)?;
        Ok(())
    }

    /// The tail's entries that were not merged yet, and the last MAC.
    fn read_tail_entries(&mut self) -> Result<(Vec<Vec<u8>>, Option<[u8; 32]>), Refusal> {
        let refused = || Refusal::new(Code::HeaderRefusedFile).detail("The locked vault's log tail was changed.");
        let header = self.header.as_ref().ok_or(Refusal::new(Code::VaultNotCreated))?;
        let place = header.tail.clone();
        let key = self.share.derive_tail_key(self.id.as_bytes());
        let mut bytes = self.disk.read_tail()?;
        let last = place.last.as_ref().and_then(Bytes::to_array);
        for _ in 0..2 {
            match read_tail(&key, self.id.as_bytes(), place.merged, last.as_ref(), &bytes) {
                Ok(tail) => {
                    return Ok((tail.entries.iter().map(|entry| entry.to_vec()).collect(), tail.last_mac));
                }
                // An append that a crash cut off was never acknowledged.
                Err(TailError::Truncated { whole_bytes, .. }) => {
                    self.disk.cut_tail(whole_bytes as u64)?;
                    bytes.truncate(whole_bytes);
                }
                Err(TailError::Mac { index }) if index == place.merged => {
                    // The file that was merged last, which a crash left in place, is as good as gone.
                    let before = place.before_last.as_ref().and_then(Bytes::to_array);
                    read_tail(&key, self.id.as_bytes(), place.before, before.as_ref(), &bytes)
                        .map_err(|_| refused())?;
                    self.disk.clear_tail()?;
                    bytes.clear();
                }
                Err(TailError::Mac { .. }) => return Err(refused()),
            }
        }
        Err(refused())
    }

    fn merge_tail(&mut self, _device: DeviceId, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let (entries, last) = self.read_tail_entries()?;
        if entries.is_empty() {
            return Ok(());
        }
        self.in_transaction(cx, |vault, cx| {
            for entry in &entries {
                let entry: TailEntry = crate::ledger::parse(entry)?;
                let mut event = Event::new(entry.at, Actor::Device(entry.device), entry.action);
                event.slot = Some(entry.slot);
                vault.log(event, cx)?;
            }
            Ok(())
        })?;
        let (open, disk) = self.opened()?;
        open.ledger.commit(disk)?;
        let header = self.header.as_mut().ok_or(Refusal::new(Code::VaultNotCreated))?;
        header.tail.before = header.tail.merged;
        header.tail.before_last = header.tail.last.take();
        header.tail.merged += entries.len() as u64;
        header.tail.last = last.map(Bytes::from);
        header.write(&mut self.disk, self.id, &self.share, cx.rng)?;
        self.disk.clear_tail()?;
        Ok(())
    }
}

/// Seconds to wait after so many wrong factors in a row.
pub(crate) fn wait_secs(attempts: u32) -> u64 {
    match attempts.checked_sub(limits::UNLOCK_ATTEMPTS_FREE) {
        None => 0,
        Some(over) => (limits::UNLOCK_WAIT_SECS << over.min(12)).min(limits::UNLOCK_WAIT_SECS_MAX),
    }
}

/// The vault key that a slot holds, and the next one while it is being replaced.
fn open_slot(slot: &Slot, secret: &SlotSecret, vault: &[u8; 16]) -> Option<(VaultKey, Option<VaultKey>)> {
    let place = SlotPlace { vault, slot: slot.id.as_bytes(), kind: slot.factor(), generation: slot.generation };
    let current = open_vault_key(secret, &place, &slot.sealed.0).ok()?;
    let next = match &slot.sealed_next {
        None => None,
        Some(sealed) => {
            let place = SlotPlace { generation: slot.generation + 1, ..place };
            Some(open_vault_key(secret, &place, &sealed.0).ok()?)
        }
    };
    Some((current, next))
}

pub(crate) fn missing_setting() -> Refusal {
    Refusal::new(Code::StoreRefused).detail("A setting that every vault has is missing.")
}

pub(crate) fn generation_key() -> &'static [u8] {
    SETTING_GENERATION
}

/// Challenges that one device may have open.
const CHALLENGES_PER_DEVICE_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_an_hour() {
        let waits: Vec<u64> = (0..15).map(wait_secs).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600, 3_600]);
    }
}

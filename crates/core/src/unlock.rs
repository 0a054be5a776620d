//! Locked and unlocked: attempts and their limits, fresh authentication, sessions, the locked vault's log tail.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strongroom_crypto::kem::SlotSecret;
use strongroom_crypto::locked::scrub_stack;
use strongroom_crypto::seal::{TailError, append_tail, read_tail};
use strongroom_crypto::secret::VaultKey;
use strongroom_crypto::sign::{Act, PublicKey, SigningKey, Statement};
use strongroom_crypto::slot::{SlotPlace, open_vault_key};
use strongroom_wire::device::{Config, DeviceAnswer, Fresh, LogPosition, SlotKind, SlotView, UnlockRequest, Unlocked};
use strongroom_wire::event::{Action, Actor, Event};
use strongroom_wire::{Bytes, Challenge, Code, DeviceId, GuestId, Refusal, SlotId, Timestamp, frame, limits};

use crate::create::{
    AuditRecord, RecoveryRecord, SETTING_AUDIT, SETTING_CONFIG, SETTING_GENERATION, SETTING_HEADER, SETTING_RECOVERY,
    SETTING_REVOKED, SETTING_ROTATE, SETTING_SUSPENDED, SETTING_TAIL,
};
use crate::header::{HeaderDevice, Slot};
use crate::ledger::{AuditKey, Ledger, parse};
use crate::planted::rule;
use crate::records::{Storage, StoreError, Table};
use crate::settings::Rotation;
use crate::vault::{Audience, Context, Effect, Live, Open, Peer, Vault};

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
            .roster
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
        let own = self.challenges.iter().filter(|(_, (of, _))| *of == device);
        let mut own: Vec<(u64, Challenge)> = own.map(|(challenge, (_, until))| (*until, *challenge)).collect();
        if own.len() >= CHALLENGES_PER_DEVICE_MAX {
            // The oldest makes room: what was refused before its challenge was looked at does not stop what comes next.
            own.sort_unstable_by_key(|(until, challenge)| (*until, challenge.0));
            self.challenges.remove(&own[0].1);
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
        let known = self
            .challenges
            .get(&fresh.challenge)
            .is_some_and(|(of, until)| rule!(8, *of == device, true) && *until > ticks);
        if !known {
            return Err(Refusal::new(Code::FreshRefused).detail("The challenge is unknown, used or older than 60 s."));
        }
        rule!(7, self.challenges.remove(&fresh.challenge), None);
        let slot = self.slot(fresh.slot)?;
        if slot.kind == SlotKind::Unattended {
            return Err(Code::SlotUnknown.into());
        }
        let public = PublicKey::from_bytes(&slot.sign_public.0).map_err(|_| Refusal::new(Code::Bug))?;
        self.count_attempt(&slot, cx)?;
        let act = Act::new(self.id.as_bytes(), device.as_bytes(), &fresh.challenge.0, body.as_bytes());
        if public.verify(&Statement::Fresh { act: &act }, &fresh.signature.0).is_err() {
            self.note_refusal(device, &slot, Action::FreshRefused, cx)?;
            return Err(self.attempts_left(Refusal::new(Code::FreshRefused), slot.id));
        }
        if let Some(header) = &mut self.header {
            header.forget_attempts();
        }
        Ok(())
    }

    /// Opens the vault, and a session of the device. It settles what it does by itself, for a refused factor leaves a trace.
    pub(crate) fn unlock(
        &mut self,
        device: DeviceId,
        request: &UnlockRequest,
        cx: &mut Context<'_>,
    ) -> Result<DeviceAnswer, Refusal> {
        let slot = self.slot(request.slot)?;
        if slot.kind == SlotKind::Unattended {
            return Err(Code::SlotUnknown.into());
        }
        // EXPOSE: moved into locked memory.
        let seed: &[u8; 32] = request
            .seed
            .expose()
            .try_into()
            .map_err(|_| Refusal::new(Code::ValueRefused).detail("A slot's seed has 32 bytes."))?;
        let secret = SlotSecret::from_seed(seed);
        self.count_attempt(&slot, cx)?;
        let Some(keys) = open_slot(&slot, &secret, self.id.as_bytes()) else {
            self.note_refusal(device, &slot, Action::UnlockRefused, cx)?;
            return Err(self.attempts_left(Refusal::new(Code::FactorRefused), slot.id));
        };
        if let Some(header) = &mut self.header {
            header.forget_attempts();
            header.attempts_ahead = true;
            header.unattended_paused = false;
        }
        let was_open = self.open.is_some();
        let entered = match was_open {
            true => self.enter(device, slot.id, request, cx),
            false => self
                .open_database(keys, request.open_secs, cx)
                .and_then(|()| self.still_known(device, &slot, cx))
                .and_then(|()| self.enter(device, slot.id, request, cx)),
        };
        // What opened half, or showed a device less than it has seen, is closed again.
        if let Err(refusal) = &entered
            && (!was_open || refusal.code == Code::HistoryRefused)
        {
            self.close();
        }
        entered
    }

    /// The device's part of an unlock: its clock, its session, and the log that it must compare with what it saw.
    fn enter(
        &mut self,
        device: DeviceId,
        slot: SlotId,
        request: &UnlockRequest,
        cx: &mut Context<'_>,
    ) -> Result<DeviceAnswer, Refusal> {
        let disagrees = self.clock.hear_device(request.device_time, cx.moment);
        let session_until = self.in_transaction(cx, |vault, cx| {
            let session_until = vault.begin_session(device, cx)?;
            if disagrees {
                let event = vault.event(Actor::Vault, Action::ClockDisagrees, cx);
                vault.log(event, cx)?;
                vault.effects.push(Effect::Notice("clock.disagrees"));
            }
            let mut event = vault.event(Actor::Device(device), Action::VaultUnlock, cx);
            event.slot = Some(slot);
            vault.log(event, cx)?;
            Ok(session_until)
        })?;
        self.limit_open(cx);
        self.move_floor();
        self.settle(cx)?;
        let now = self.now(cx);
        let (open, disk) = self.opened()?;
        // A device that has seen more than there is must not be led on: the log was cut.
        let checkpoint = open.ledger.checkpoint(disk, &open.audit, request.seen.size)?;
        let open_for_ms = open.open_until_ticks_ms.saturating_sub(cx.moment.ticks_ms);
        let open_until = Timestamp(now.0.saturating_add(open_for_ms.min(limits::OPEN_SECS_MAX * 1_000)));
        Ok(DeviceAnswer::Unlocked(Unlocked { session_until, open_until, checkpoint }))
    }

    pub(crate) fn open_database(
        &mut self,
        keys: Keys,
        open_secs: Option<u64>,
        cx: &mut Context<'_>,
    ) -> Result<(), Refusal> {
        let vault = *self.id.as_bytes();
        let Keys { current, next, generation } = keys;
        // A rotation turns the records first, then the pages, then the chain files; the slots hold both keys until it is over.
        let pages_turned = match &next {
            None => false,
            Some(next) => match self.disk.open_database(&next.derive_database_key(&vault, generation + 1)) {
                Ok(()) => true,
                Err(StoreError::Damaged(_)) => false,
                Err(error) => return Err(error.into()),
            },
        };
        if !pages_turned {
            self.disk.open_database(&current.derive_database_key(&vault, generation))?;
        }
        let recorded: Option<u32> = match self.disk.get(Table::Settings, SETTING_GENERATION)? {
            Some(record) => Some(parse(&record)?),
            None => None,
        };
        let (vault_key, rotation) = match (next, recorded) {
            (None, Some(at)) if at == generation => (current, None),
            (Some(next), Some(at)) if at == generation && !pages_turned => (current, Some(Rotation::Records { next })),
            (Some(next), Some(at)) if at == generation + 1 => (
                next,
                Some(if pages_turned { Rotation::Chains { old: current } } else { Rotation::Pages { old: current } }),
            ),
            _ => {
                return Err(Refusal::new(Code::StoreRefused)
                    .detail("The database and the vault's header are of different generations of the vault key."));
            }
        };
        let generation = recorded.unwrap_or(generation);
        let ledger = Ledger::open(&mut self.disk, self.id, vault_key.derive_state_key(&vault, generation))?;
        let header = self.header.as_ref().ok_or(Refusal::new(Code::VaultNotCreated))?;
        let (floor, rescued) = (header.floor.clone(), header.rescued);
        let extends =
            rescued || ledger.size() >= floor.size && ledger.position_at(&mut self.disk, floor.size)? == floor;
        if rule!(15, !extends, false) {
            return Err(Refusal::new(Code::StoreRefused)
                .detail("The database is older than the vault's header, or another log was put in its place."));
        }
        let header_min: u64 = ledger.get(&mut self.disk, Table::Settings, SETTING_HEADER)?.unwrap_or(0);
        if floor.size < header_min && !rescued {
            // A crash leaves the header behind the records too, but never behind what it had before they were written.
            return Err(Refusal::new(Code::HeaderRefusedFile).detail("The vault's header is older than the database."));
        }
        self.clock.not_before(ledger.last_at(), cx.moment);
        let audit: AuditRecord =
            ledger.get(&mut self.disk, Table::Settings, SETTING_AUDIT)?.ok_or_else(missing_setting)?;
        let config: Config = ledger.get(&mut self.disk, Table::Settings, SETTING_CONFIG)?.unwrap_or_default();
        let suspended: bool = ledger.get(&mut self.disk, Table::Settings, SETTING_SUSPENDED)?.unwrap_or(false);
        // EXPOSE: moved into locked memory.
        let seed: &[u8; 32] = audit.seed.expose().try_into().map_err(|_| missing_setting())?;
        let open_secs = open_secs
            .or(config.open_secs)
            .unwrap_or(limits::OPEN_SECS_DEFAULT)
            .clamp(limits::OPEN_SECS_MIN, limits::OPEN_SECS_MAX);
        let audit = AuditKey {
            key: SigningKey::from_seed(seed),
            certificate: audit.certificate.to_array().ok_or_else(missing_setting)?,
        };
        let open_until_ticks_ms = cx.moment.ticks_ms + open_secs * 1_000;
        let live = Live { approvals_number: 1, suspended, config, ..Live::default() };
        self.open = Some(Box::new(Open::new(vault_key, generation, ledger, audit, open_until_ticks_ms, live)));
        self.told_locked = false;
        if rescued {
            // Slots and devices are in the records alone.
            self.sync_header()?;
            if let Some(rotation) = &rotation {
                self.seal_next(rotation, cx)?;
            }
        }
        if let Some(rotation) = rotation {
            self.finish_rotation(rotation, cx)?;
        }
        self.sync_header()?;
        self.merge_tail(cx)?;
        self.close_old_intents(cx)?;
        self.void_old_approvals(cx)?;
        // One that is rescued has no header yet that could say how far a rotation got: the next unlock does it.
        if !rescued && self.get(Table::Settings, SETTING_ROTATE)?.unwrap_or(false) {
            self.settle(cx)?;
            self.rotate(cx)?;
        }
        Ok(())
    }

    /// Whether the records still know the device, and the slot that opened them. A header from before a change would bring both
    /// back: one that a crash left behind the records, or that somebody put there.
    fn still_known(&mut self, device: DeviceId, slot: &Slot, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let refusal = if self.peer_key(Peer::Device(device)).is_none() {
            Refusal::new(Code::DeviceUnknown)
        } else if !self.slot(slot.id).is_ok_and(|known| known.kem_public == slot.kem_public) {
            Refusal::new(Code::FactorRefused)
                .detail("This factor was replaced or removed; use the one that is in force.")
        } else {
            return Ok(());
        };
        // With it goes the header that the records ask for: else what is in force now would open nothing.
        self.move_floor();
        self.settle(cx)?;
        Err(refusal)
    }

    /// Has the header written with the next settlement, with the length that the log has then: what was done cannot be undone by
    /// an older database.
    pub(crate) fn move_floor(&mut self) {
        if let Some(header) = &mut self.header {
            header.dirty = true;
        }
    }

    /// Has the records remember the header that is on the disk, so that an earlier one shows.
    pub(crate) fn note_header(&mut self) -> Result<(), Refusal> {
        let known = self.header.as_ref().ok_or(Refusal::new(Code::VaultNotCreated))?.floor.size;
        self.put(Table::Settings, SETTING_HEADER, &known)
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
        let revoked: Vec<Bytes> = self.get(Table::Settings, SETTING_REVOKED)?.unwrap_or_default();
        let header = self.header.as_mut().ok_or(Refusal::new(Code::VaultNotCreated))?;
        header.attempts.retain(|slot, _| slots.iter().any(|known| known.id == *slot));
        let roster = header.roster_mut();
        for key in revoked {
            if !roster.revoked.contains(&key) {
                roster.revoked.push(key);
            }
        }
        roster.slots = slots;
        roster.chains.retain(|device, _| devices.contains_key(device));
        roster.devices = devices;
        roster.guests = guests;
        roster.recovery_blob = Some(recovery.blob);
        Ok(())
    }

    /// Notes a public key that must never come back, in the records; the header follows.
    pub(crate) fn note_revoked(&mut self, key: &Bytes) -> Result<(), Refusal> {
        let mut revoked: Vec<Bytes> = self.get(Table::Settings, SETTING_REVOKED)?.unwrap_or_default();
        revoked.push(key.clone());
        self.put(Table::Settings, SETTING_REVOKED, &revoked)?;
        if let Some(header) = &mut self.header {
            header.roster_mut().revoked.push(key.clone());
        }
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
        if !open.live.confirmed {
            open.live_mut().confirmed = true;
            let mut event = self.event(Actor::Device(device), Action::LogConfirm, cx);
            event.count = Some(position.size);
            // The header is durable as the unlock wrote it. It is written once more after this, so that the loss of either copy
            // is survived.
            self.move_floor();
            self.note_header()?;
            self.log(event, cx)?;
        }
        Ok(DeviceAnswer::Done {})
    }

    /// Opens a session of a device.
    pub(crate) fn begin_session(&mut self, device: DeviceId, cx: &Context<'_>) -> Result<Timestamp, Refusal> {
        let ticks = cx.moment.ticks_ms;
        let now = self.now(cx);
        let (open, _) = self.opened()?;
        let live = open.live_mut();
        live.sessions.retain(|_, until| *until > ticks);
        if live.sessions.len() >= limits::SESSIONS_MAX && !live.sessions.contains_key(&device) {
            return Err(Code::SessionsFull.into());
        }
        let secs = live.config.session_secs.unwrap_or(limits::SESSION_SECS_DEFAULT);
        live.sessions.insert(device, ticks + secs * 1_000);
        Ok(now.plus_secs(secs))
    }

    /// Locks: everything that opens something is wiped.
    pub(crate) fn lock_now(&mut self, actor: Actor, cx: &mut Context<'_>) {
        self.write_outcomes(cx);
        let event = self.event(actor, Action::VaultLock, cx);
        // A lock is never refused: where the event cannot be written, the vault locks without it.
        let _ = self.in_transaction(cx, |vault, cx| vault.log(event, cx));
        let paused = matches!(actor, Actor::Device(_)) && self.unattended_slot().is_some();
        if let Some(header) = &mut self.header {
            header.attempts_ahead = false;
            header.unattended_paused |= paused;
            header.dirty = true;
        }
        let _ = self.settle(cx);
        self.close();
    }

    /// Forgets every key, without a word in the log. What was not settled is gone.
    pub(crate) fn close(&mut self) {
        let open = self.open.take();
        self.forget_asked(&Code::VaultLocked.into());
        self.challenges.clear();
        self.chain_writes.clear();
        if let Some(header) = &mut self.header {
            header.attempts_ahead = false;
            header.roster = Arc::clone(&header.settled);
        }
        if let Some(mut open) = open {
            open.ledger.roll_back(&mut self.disk);
            for waiting in open.waiting.drain(..) {
                self.effects.push(waiting.refuse(Refusal::new(Code::VaultLocked)));
            }
            self.effects.push(Effect::HttpAbort);
            self.effects.push(Effect::Tell(frame::Event::Locked {}, Audience::Everyone));
        }
        self.disk.close_database();
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
                let oldest = header.recovery_attempts.first().map_or(0, |at| now.secs_since(*at));
                return Err(Refusal::new(Code::AttemptsWait).retry_secs(3_600 - oldest.min(3_599)));
            }
        } else if attempts >= limits::UNLOCK_ATTEMPTS_MAX {
            return Err(Refusal::new(Code::SlotLocked).hint("strongroom unlock --phrase"));
        }
        let wait_secs = wait_secs(attempts);
        let waited_ms = ticks.saturating_sub(tried);
        if waited_ms < wait_secs * 1_000 {
            return Err(Refusal::new(Code::AttemptsWait).retry_secs((wait_secs * 1_000 - waited_ms).div_ceil(1_000)));
        }
        let ahead = slot.kind != SlotKind::Recovery && header.is_written_ahead(slot.id);
        if !ahead {
            // The header must not run ahead of the records.
            self.settle(cx)?;
        }
        let header = self.header.as_mut().ok_or(Refusal::new(Code::VaultNotCreated))?;
        if slot.kind == SlotKind::Recovery {
            header.recovery_attempts.push(now);
        }
        header.attempts.insert(slot.id, attempts + 1);
        if !ahead {
            rule!(5, header.write(&mut self.disk, self.id, &self.share, cx.rng)?, {});
        }
        self.tried_ticks_ms = ticks;
        Ok(())
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
        let bytes = &mut self.disk.read_tail()?;
        let last = place.last.as_ref().and_then(Bytes::to_array);
        for _ in 0..2 {
            match read_tail(&key, self.id.as_bytes(), place.merged, last.as_ref(), bytes) {
                Ok(tail) => {
                    return Ok((tail.entries.iter().map(|entry| entry.to_vec()).collect(), tail.last_mac));
                }
                // An append that a crash cut off was never acknowledged. The file must lose it before it takes another.
                Err(TailError::Truncated { whole_bytes, .. }) => {
                    self.disk.cut_tail(whole_bytes as u64)?;
                    bytes.truncate(whole_bytes);
                }
                Err(TailError::Mac { index }) if index == place.merged => {
                    // The file that was merged last, which a crash left in place, is as good as gone.
                    let before = place.before_last.as_ref().and_then(Bytes::to_array);
                    read_tail(&key, self.id.as_bytes(), place.before, before.as_ref(), bytes).map_err(|_| refused())?;
                    self.disk.clear_tail()?;
                    bytes.clear();
                }
                Err(TailError::Mac { .. }) => return Err(refused()),
            }
        }
        Err(refused())
    }

    /// Brings what the locked vault logged into the log. The records count how many entries they hold, so that a crash before
    /// the header knows of it logs none twice.
    fn merge_tail(&mut self, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let (entries, last) = self.read_tail_entries()?;
        if entries.is_empty() {
            return Ok(());
        }
        let from = self.header.as_ref().map_or(0, |header| header.tail.merged);
        let until = from + entries.len() as u64;
        self.in_transaction(cx, |vault, cx| {
            let known: u64 = vault.get(Table::Settings, SETTING_TAIL)?.unwrap_or(0);
            if known < until {
                vault.put(Table::Settings, SETTING_TAIL, &until)?;
            }
            for (_, entry) in (from..).zip(&entries).filter(|(index, _)| *index >= known) {
                let entry: TailEntry = parse(entry)?;
                let mut event = Event::new(entry.at, Actor::Device(entry.device), entry.action);
                event.slot = Some(entry.slot);
                vault.log(event, cx)?;
            }
            Ok(())
        })?;
        self.settle(cx)?;
        let header = self.header.as_mut().ok_or(Refusal::new(Code::VaultNotCreated))?;
        header.tail.before = header.tail.merged;
        header.tail.before_last = header.tail.last.take();
        header.tail.merged = until;
        header.tail.last = last.map(Bytes::from);
        header.dirty = true;
        self.settle(cx)?;
        self.disk.clear_tail()?;
        Ok(())
    }
}

/// What a slot gave: the vault key of a generation, and the next one while it is being replaced.
pub(crate) struct Keys {
    current: VaultKey,
    next: Option<VaultKey>,
    generation: u32,
}

/// Seconds to wait after so many wrong factors in a row.
pub(crate) fn wait_secs(attempts: u32) -> u64 {
    match attempts.checked_sub(limits::UNLOCK_ATTEMPTS_FREE) {
        None => 0,
        Some(over) => (limits::UNLOCK_WAIT_SECS << over.min(12)).min(limits::UNLOCK_WAIT_SECS_MAX),
    }
}

/// The vault key that a slot holds, and the next one while it is being replaced.
pub(crate) fn open_slot(slot: &Slot, secret: &SlotSecret, vault: &[u8; 16]) -> Option<Keys> {
    let place = SlotPlace { vault, slot: slot.id.as_bytes(), kind: slot.factor(), generation: slot.generation };
    let current = open_vault_key(secret, &place, &slot.sealed.0).ok()?;
    let next = match &slot.sealed_next {
        None => None,
        Some(sealed) => {
            let place = SlotPlace { generation: slot.generation + 1, ..place };
            Some(open_vault_key(secret, &place, &sealed.0).ok()?)
        }
    };
    Some(Keys { current, next, generation: slot.generation })
}

pub(crate) fn missing_setting() -> Refusal {
    Refusal::new(Code::StoreRefused).detail("A setting that every vault has is missing.")
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

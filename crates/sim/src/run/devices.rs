//! Sessions, factors and devices: what is done with them, and what must come of it.

use strongroom_core::Peer;
use strongroom_wire::device::{Config, DeviceAdd, DeviceAnswer, DeviceRequest, ItemEdit, ListQuery, SlotKind};
use strongroom_wire::guest::{Call, SignCall, UseCall};
use strongroom_wire::items::ItemDraft;
use strongroom_wire::policy::KeyPurpose;
use strongroom_wire::{Bytes, Class, Code, Refusal, Timestamp};

use super::model::{Doubt, Item, Kind, MARK, Member, Now, Way, wait_secs};
use super::things::item_of;
use super::{Check, Sim, holds};
use crate::device::Device;
use crate::factor::Factor;
use crate::fakes;
use crate::home::{field, key_item, login, mac, reference, sign, totp_item, wallet};
use crate::world::{Answer, DeviceResult, device_result, json};

/// What came of an act, and whether nobody can tell.
pub(crate) struct Acted {
    pub(crate) result: DeviceResult,
    pub(crate) doubt: bool,
}

impl Sim {
    pub(crate) fn now(&self) -> Now {
        Now {
            ms: self.world.wall_ms + self.set_back_ms,
            ticks_ms: self.world.ticks_ms,
            clocks_agree: self.set_back_ms == 0,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.world.vault.as_ref().is_ok_and(strongroom_core::Vault::is_open)
    }

    /// A member whose device is in, at random.
    pub(crate) fn someone(&mut self) -> usize {
        let inside: Vec<usize> = (0..self.model.members.len()).filter(|at| !self.model.members[*at].out).collect();
        self.world.rng.pick(&inside).copied().unwrap_or(0)
    }

    pub(crate) fn has_session(&self, member: usize) -> bool {
        self.is_open() && self.model.members[member].session_until_ms > self.world.ticks_ms
    }

    /// Whether an act with a factor may be done.
    pub(crate) fn may_act(&self, member: usize) -> bool {
        self.has_session(member) && self.model.confirmed && !self.model.members[member].out
    }

    /// A new name and a new secret value.
    pub(crate) fn new_name(&mut self) -> (String, Vec<u8>) {
        self.model.counter += 1;
        let mut value = MARK.to_vec();
        value.extend_from_slice(format!(" number {} and more.", self.model.counter).as_bytes());
        (format!("thing {}", self.model.counter), value)
    }

    /// A device asks with a factor, and with its credential where the act takes it; whatever comes of it is checked.
    pub(crate) fn act(&mut self, member: usize, request: &DeviceRequest, credential: bool) -> Result<Acted, String> {
        let (was_open, before, may) = (self.is_open(), self.durable(), self.may_act(member));
        let way = usize::from(self.model.factors[0].gone);
        let frozen = credential && self.model.members[member].frozen;
        let shaky = self.model.members[member].shaky;
        let Self { world, model, .. } = self;
        let (who, factor) = (&mut model.members[member].device, &model.factors[way].factor);
        let result = match credential {
            true => world.credential(who, factor, request),
            false => world.fresh(who, factor, request),
        };
        let answer = Answer::Device(result);
        self.look_at(&answer)?;
        let result = device_result(answer);
        let doubt = self.world.memory.is_dead() || (was_open && !self.is_open());
        match &result {
            Ok(answer) => {
                let begins = matches!(request, DeviceRequest::SessionBegin {});
                let nothing = matches!(answer, DeviceAnswer::Delivered { values, .. } if values.is_empty());
                holds!(9, !self.model.members[member].out, "a device that is out was answered");
                holds!(14, may || begins, "an act without a session or an unconfirmed log: {request:?}");
                holds!(1, nothing || self.durable() > before, "an answer without a durable event: {request:?}");
                holds!(17, !frozen, "a frozen credential acted");
                self.right_factor();
            }
            Err(refusal) => {
                self.perhaps_right(refusal.code);
                let unexpected = matches!(
                    refusal.code,
                    Code::SessionRequired
                        | Code::HistoryRefused
                        | Code::VaultLocked
                        | Code::DeviceUnknown
                        | Code::FreshRefused
                        | Code::StoreRefused
                        | Code::StoreFailed
                        | Code::DiskFull
                        | Code::Bug
                ) || (refusal.code == Code::CredentialRefused && !shaky)
                    || (refusal.code == Code::CredentialFrozen && !frozen && !shaky);
                let well = self.is_well() && self.world.vault.is_ok();
                holds!(15, !(well && may && unexpected), "refused what is allowed: {request:?}: {refusal:?}");
                let lagging = matches!(refusal.code, Code::AttemptsWait | Code::SlotLocked | Code::CredentialFrozen);
                holds!(17, !(well && may && frozen) || lagging, "a frozen credential: {refusal:?}");
            }
        }
        Ok(Acted { result, doubt })
    }

    /// A right factor was accepted: the count of wrong ones starts anew, and the vault had waited long enough.
    fn right_factor(&mut self) {
        for way in &mut self.model.factors {
            way.wrong = 0;
        }
        self.model.tried_ticks_ms = self.world.ticks_ms;
    }

    /// A right factor was shown, and something was refused: where that was not the factor, the count starts anew all the same.
    fn perhaps_right(&mut self, code: Code) {
        let before_the_factor =
            matches!(code, Code::AttemptsWait | Code::SlotLocked | Code::VaultLocked | Code::SessionRequired);
        if !before_the_factor {
            for way in &mut self.model.factors {
                way.wrong = 0;
            }
        }
    }

    /// 10: whoever tries a factor has waited as long as the wrong ones before it ask for.
    fn tried(&mut self, way: usize) -> Check {
        let waited = self.world.ticks_ms - self.model.tried_ticks_ms;
        let wrong = self.model.factors[way].wrong;
        holds!(10, waited >= wait_secs(wrong) * 1_000, "a try {waited} ms after {wrong} wrong ones");
        let phrase = self.model.factors[way].factor.kind == SlotKind::Recovery;
        holds!(10, phrase || wrong < 20, "a try after twenty wrong ones");
        self.model.tried_ticks_ms = self.world.ticks_ms;
        Ok(())
    }

    pub(crate) fn unlock(&mut self) -> Check {
        let member = self.someone();
        let ways: Vec<usize> = (0..self.model.factors.len()).filter(|at| !self.model.factors[*at].gone).collect();
        let way = if self.world.rng.chance(80) { ways[0] } else { *self.world.rng.pick(&ways).unwrap_or(&0) };
        self.unlock_with(member, way).map(|_| ())
    }

    /// Unlocks; answers the refusal.
    pub(crate) fn unlock_with(&mut self, member: usize, way: usize) -> Result<Option<Refusal>, String> {
        let Self { world, model, .. } = self;
        let result = world.unlock_only(&model.members[member].device, &model.factors[way].factor);
        match result {
            Ok(unlocked) => {
                holds!(9, !self.model.members[member].out, "a device that is out unlocked");
                self.coverage.answer(&Answer::Device(Ok(DeviceAnswer::Done {})));
                self.tried(way)?;
                self.right_factor();
                let id = self.world.id;
                let member_ = &mut self.model.members[member];
                member_.session_until_ms = self.world.ticks_ms + 900_000;
                let seen = member_.device.see(id, &unlocked.checkpoint);
                holds!(4, seen.is_ok(), "a checkpoint does not extend what was seen: {seen:?}");
                if self.world.rng.chance(85) {
                    self.confirm(member)?;
                } else if !self.model.confirmed
                    && let Some(guest) = self.some_guest()
                {
                    // Nobody has looked at the log yet.
                    self.wish(guest)?;
                }
                Ok(None)
            }
            Err(refusal) => {
                self.coverage.refusal(&refusal);
                self.perhaps_right(refusal.code);
                let expected = matches!(refusal.code, Code::AttemptsWait | Code::SlotLocked | Code::SessionsFull);
                let well = self.is_well() && self.world.vault.is_ok() && !self.model.members[member].out;
                let doubt = (self.model.doubts.contains(&Doubt::Ways) && refusal.code == Code::SlotUnknown)
                    || (self.model.doubts.contains(&Doubt::MemberOut(member)) && refusal.code == Code::DeviceUnknown);
                holds!(13, !well || expected || doubt, "the right factor was refused: {refusal:?}");
                Ok(Some(refusal))
            }
        }
    }

    pub(crate) fn confirm(&mut self, member: usize) -> Check {
        let confirm = DeviceRequest::LogConfirm(self.model.members[member].device.seen.clone());
        let result = self.world.device(&self.model.members[member].device, &confirm);
        holds!(4, result.is_ok() || !self.is_well(), "a log that extends was not confirmed: {result:?}");
        self.model.confirmed |= result.is_ok();
        Ok(())
    }

    pub(crate) fn lock(&mut self) -> Check {
        let member = self.someone();
        let result = self.world.device(&self.model.members[member].device, &DeviceRequest::Lock {});
        let sure = self.is_well() && self.model.doubts.is_empty();
        holds!(15, result.is_ok() || !sure, "a lock was refused: {result:?}");
        holds!(15, !self.is_open() || result.is_err(), "a lock left the vault open");
        Ok(())
    }

    pub(crate) fn wrong_factor(&mut self) -> Check {
        let member = self.someone();
        // Mostly a spare way: the passphrase should keep opening the vault.
        let spare = self.model.factors.len() - 1;
        let way = if self.world.rng.chance(70) { spare } else { 0 };
        let tries = if self.world.rng.chance(4) { 24 } else { 1 + self.world.rng.below(4) };
        for _ in 0..tries {
            if tries == 24 {
                self.world.pass_secs(3_600);
            }
            if self.is_well() && !self.is_open() && self.world.rng.chance(10) {
                // The attempt is counted; the line that tells of it is cut off.
                let lands = self.world.rng.chance(50);
                self.world.memory.die_at(1, lands);
            }
            let wrong = self.model.factors[way].factor.wrong(&mut self.world.rng);
            let fresh = self.has_session(member) && self.world.rng.chance(40);
            let result = match fresh {
                true => self.world.fresh(&self.model.members[member].device, &wrong, &DeviceRequest::SessionBegin {}),
                false => {
                    self.world.unlock_only(&self.model.members[member].device, &wrong).map(|_| DeviceAnswer::Done {})
                }
            };
            let answer = Answer::Device(result);
            self.look_at(&answer)?;
            let Err(refusal) = device_result(answer) else { return Err("10: a wrong factor was accepted".into()) };
            if matches!(refusal.code, Code::FactorRefused | Code::FreshRefused) {
                self.tried(way)?;
                self.model.factors[way].wrong += 1;
            }
            if self.world.rng.chance(10) {
                // Whoever guesses stops the machine between two tries.
                self.restart()?;
            }
        }
        Ok(())
    }

    pub(crate) fn session(&mut self) -> Check {
        let member = self.world.rng.below(self.model.members.len() as u64);
        let member = usize::try_from(member).unwrap_or(0);
        match self.world.rng.below(4) {
            0 => {
                let acted = self.act(member, &DeviceRequest::SessionBegin {}, false)?;
                if acted.result.is_ok() {
                    self.model.members[member].session_until_ms = self.world.ticks_ms + 900_000;
                }
            }
            1 => {
                let result = self.world.device(&self.model.members[member].device, &DeviceRequest::SessionEnd {});
                if result.is_ok() {
                    self.model.members[member].session_until_ms = 0;
                }
            }
            2 if self.is_open() && !self.model.confirmed && self.has_session(member) => {
                let device = &self.model.members[member].device;
                let from = DeviceRequest::AuditCheckpoint { from_size: device.seen.size };
                if let Ok(DeviceAnswer::Checkpoint(proof)) = self.world.device(device, &from) {
                    let id = self.world.id;
                    let seen = self.model.members[member].device.see(id, &proof);
                    holds!(4, seen.is_ok(), "a checkpoint does not extend what was seen: {seen:?}");
                    self.confirm(member)?;
                }
            }
            _ => {
                let may = self.has_session(member) && !self.model.members[member].out;
                let list = DeviceRequest::ItemList(ListQuery::default());
                let result = self.world.device(&self.model.members[member].device, &list);
                let answer = Answer::Device(result);
                self.look_at(&answer)?;
                let result = device_result(answer);
                holds!(14, result.is_err() || may, "a list without a session");
                holds!(15, result.is_ok() || !may || !self.is_well(), "a list was refused: {result:?}");
            }
        }
        Ok(())
    }

    /// The same answer to a challenge again, and by another device.
    pub(crate) fn replay(&mut self) -> Check {
        let member = self.someone();
        if !self.may_act(member) || !self.is_well() {
            return Ok(());
        }
        let device = &self.model.members[member].device;
        let Ok(challenge) = self.world.challenge(device) else { return Ok(()) };
        let body = json(&DeviceRequest::ConfigSet(Config::default()));
        let factor = &self.model.factors[0].factor;
        let fresh = factor.fresh(self.world.id, device.id, challenge, &body);
        let peer = Peer::Device(device.id);
        let first = self.world.request_id();
        let first = device_result(self.world.ask(peer, first, Some(fresh.clone()), None, &body));
        let again = self.world.request_id();
        let again = device_result(self.world.ask(peer, again, Some(fresh), None, &body));
        holds!(18, again.is_err(), "one answer to a challenge was taken twice");
        match first {
            Ok(_) => self.right_factor(),
            Err(refusal) => self.perhaps_right(refusal.code),
        }
        // Another device answers a challenge that was not given to it.
        let other = (0..self.model.members.len()).find(|at| *at != member && self.may_act(*at));
        let Some(other) = other else { return Ok(()) };
        let Ok(challenge) = self.world.challenge(&self.model.members[member].device) else { return Ok(()) };
        let other = self.model.members[other].device.id;
        let fresh = self.model.factors[0].factor.fresh(self.world.id, other, challenge, &body);
        let id = self.world.request_id();
        let stolen = device_result(self.world.ask(Peer::Device(other), id, Some(fresh), None, &body));
        holds!(18, stolen.is_err(), "a challenge was answered by another device");
        self.perhaps_right(Code::Busy);
        Ok(())
    }

    pub(crate) fn add_device(&mut self) -> Check {
        if self.model.members.iter().filter(|member| !member.out).count() >= self.devices_at_most {
            return Ok(());
        }
        let member = self.someone();
        let mut device = Device::new(&mut self.world.rng);
        let add = DeviceAdd {
            name: "another".into(),
            sign_public: device.sign_public().into(),
            kem_public: device.kem_public(),
            wants_share: self.world.rng.chance(20),
        };
        let acted = self.act(member, &DeviceRequest::DeviceAdd(add), true)?;
        match acted.result {
            Ok(DeviceAnswer::DeviceAdded(added)) => {
                device.id = added.device;
                device.identity = self.model.members[member].device.identity;
                device.seen = added.seen;
                let blob = device.open_mail(self.world.id, 1, &added.sealed_credential);
                device.store(blob.ok_or("15: a new device cannot open its first blob")?);
                let member = Member { device, out: false, frozen: false, shaky: false, session_until_ms: 0 };
                self.model.members.push(member);
                let at = self.model.members.len() - 1;
                let acted = self.act(at, &DeviceRequest::SessionBegin {}, false)?;
                if acted.result.is_ok() {
                    self.model.members[at].session_until_ms = self.world.ticks_ms + 900_000;
                }
            }
            Err(_) if acted.doubt => {
                self.model.doubts.insert(Doubt::MemberIn);
            }
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn revoke_device(&mut self) -> Check {
        let inside: Vec<usize> = (1..self.model.members.len()).filter(|at| !self.model.members[*at].out).collect();
        let Some(at) = self.world.rng.pick(&inside).copied() else { return Ok(()) };
        let device = self.model.members[at].device.id;
        if self.is_well() && self.world.rng.chance(40) {
            let (writes, lands) = (3 + self.world.rng.below(10), self.world.rng.chance(50));
            self.world.memory.die_at(writes, lands);
        }
        let acted = self.act(0, &DeviceRequest::DeviceRevoke { device }, false)?;
        if acted.result.is_ok() {
            self.model.members[at].out = true;
            let status = self.world.device(&self.model.members[at].device, &DeviceRequest::Status {});
            holds!(9, status.is_err(), "a device that was thrown out was answered");
        } else if acted.doubt {
            self.model.doubts.insert(Doubt::MemberOut(at));
        }
        Ok(())
    }

    /// A passkey more, or another passphrase in the place of the first.
    pub(crate) fn slots(&mut self) -> Check {
        let member = self.someone();
        if self.model.factors.len() < 3 {
            let factor = Factor::new(SlotKind::Passkey, &mut self.world.rng);
            let acted = self.act(member, &DeviceRequest::SlotAdd(factor.draft("a passkey")), false)?;
            return self.slot_came(acted, factor, None);
        }
        let slot = self.model.factors[2].factor.slot;
        let (Some(slot), false) = (slot, self.model.factors[2].gone) else { return Ok(()) };
        let factor = Factor::new(SlotKind::Passkey, &mut self.world.rng);
        let replace = DeviceRequest::SlotReplace { slot, draft: factor.draft("another passkey") };
        let acted = self.act(member, &replace, false)?;
        self.slot_came(acted, factor, Some(2))
    }

    fn slot_came(&mut self, acted: Acted, mut factor: Factor, place: Option<usize>) -> Check {
        match acted.result {
            Ok(DeviceAnswer::Slot(view)) => {
                factor.slot = Some(view.id);
                let way = Way { factor, wrong: 0, gone: false };
                match place {
                    Some(place) => self.model.factors[place] = way,
                    None => self.model.factors.push(way),
                }
            }
            Err(_) if acted.doubt => {
                self.model.doubts.insert(Doubt::Ways);
                if let Some(place) = place {
                    self.model.factors[place].gone = true;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Someone who copied a device long ago shows its credential.
    pub(crate) fn show_older(&mut self) -> Check {
        let at = (1..self.model.members.len()).find(|at| {
            let member = &self.model.members[*at];
            !member.out && !member.frozen && !member.shaky && member.device.blobs.len() >= 3
        });
        let Some(at) = at else { return Ok(()) };
        if !self.may_act(at) {
            return Ok(());
        }
        let Self { world, model, .. } = self;
        let device = &model.members[at].device;
        let stolen = device.blobs[device.blobs.len() - 3].clone();
        let id = world.request_id();
        let request = DeviceRequest::ItemAdd(wallet("a thief's", b"x"));
        let result = world.present(device, &model.factors[0].factor, id, &stolen, &request);
        holds!(17, result.is_err(), "an older credential was taken");
        let code = result.err().map(|refusal| refusal.code);
        self.perhaps_right(code.unwrap_or(Code::Busy));
        if self.is_well() {
            let waits = matches!(code, Some(Code::AttemptsWait | Code::SlotLocked));
            holds!(17, waits || code == Some(Code::CredentialFrozen), "an older credential: {code:?}");
            self.model.members[at].frozen = !waits;
        } else {
            self.model.members[at].shaky = true;
        }
        self.coverage.fault("older credential");
        Ok(())
    }

    /// Two devices present their credentials before either confirms: one of them asks again.
    pub(crate) fn two_at_once(&mut self) -> Check {
        let able = |sim: &Self, at: &usize| {
            let member = &sim.model.members[*at];
            sim.may_act(*at) && !member.frozen && !member.shaky
        };
        let able: Vec<usize> = (0..self.model.members.len()).filter(|at| able(self, at)).collect();
        let [one, two, ..] = able[..] else { return Ok(()) };
        if !self.is_well() {
            return Ok(());
        }
        let (label, value) = self.new_name();
        let request = DeviceRequest::ItemAdd(wallet(&label, &value));
        let id = self.world.request_id();
        let Self { world, model, .. } = self;
        let (device, factor) = (&model.members[one].device, &model.factors[0].factor);
        let strange = world.present(device, factor, id, &model.members[two].device.blob.clone(), &request);
        holds!(17, strange.is_err(), "another device's credential was taken");
        let strange = strange.err().map(|refusal| refusal.code);
        let presented = world.present(device, factor, id, &device.blob.clone(), &request);
        if let Some(code) = strange {
            self.coverage.refusal(&code.into());
            self.perhaps_right(code);
        }
        let Ok(DeviceAnswer::CredentialNext { sequence, mail }) = presented else { return Ok(()) };
        self.right_factor();
        let vault = self.world.id;
        let device = &mut self.model.members[one].device;
        let blob = device.open_mail(vault, sequence, &mail).ok_or("15: mail does not open")?;
        device.store(blob);
        // The other device changes something in between.
        let other = self.new_name();
        let acted = self.act(two, &DeviceRequest::ItemAdd(wallet(&other.0, &other.1)), true)?;
        if let Ok(DeviceAnswer::Item(view)) = acted.result {
            self.model.items.push(item_of(view.summary.id, Kind::Wallet, other.0, other.1));
        }
        let device = &self.model.members[one].device;
        let confirmed = self.world.confirm(device, id, sequence, &device.blob.clone());
        let answer = Answer::Device(confirmed);
        self.look_at(&answer)?;
        let Self { world, model, .. } = self;
        let (device, factor) = (&mut model.members[one].device, &model.factors[0].factor);
        let added = match device_result(answer) {
            Err(refusal) if refusal.code == Code::CredentialBusy => world.credential_as(device, factor, id, &request),
            done => done,
        };
        match added {
            Ok(DeviceAnswer::Item(view)) => {
                self.model.items.push(item_of(view.summary.id, Kind::Wallet, label, value));
            }
            other => holds!(15, false, "a change at once with another's was refused: {other:?}"),
        }
        Ok(())
    }

    /// The member destroys the vault.
    pub(crate) fn delete(&mut self) -> Check {
        let request = DeviceRequest::VaultDelete { vault: self.world.id };
        let device = &self.model.members[0].device;
        let deleted = self.world.fresh(device, &self.model.factors[0].factor, &request);
        let waits =
            deleted.as_ref().is_err_and(|refusal| matches!(refusal.code, Code::AttemptsWait | Code::SlotLocked));
        holds!(15, deleted.is_ok() || waits, "the vault was not deleted: {deleted:?}");
        if deleted.is_ok() {
            self.coverage.effects(&self.world.told);
            let files = self.world.memory.copy();
            let left =
                files.database.is_some() || files.headers.iter().any(Option::is_some) || !files.chains.is_empty();
            holds!(2, !left, "something of a deleted vault is left");
            holds!(
                9,
                self.world.device(&self.model.members[0].device, &DeviceRequest::Status {}).is_err(),
                "it answers"
            );
        }
        Ok(())
    }

    /// Requests that no rule allows, for the codes that nothing else reaches.
    pub(crate) fn bad_request(&mut self) -> Check {
        let member = usize::try_from(self.world.rng.below(self.model.members.len() as u64)).unwrap_or(0);
        let out = self.model.members[member].out;
        let item = self.live_item().map(|at| self.model.items[at].id).unwrap_or(strongroom_wire::ItemId([1; 16]));
        let none = strongroom_wire::SlotId([1; 16]);
        let edit = |set| ItemEdit {
            item,
            if_version: Some(9_999),
            label: None,
            tags: None,
            set,
            remove: Vec::new(),
            policy: None,
        };
        let phrase = self.model.factors[1].factor.slot.unwrap_or(none);
        let signing = self.model.items.iter().find(|item| item.kind == Kind::Sign && !item.removed);
        let signing = signing.map_or(reference(item, "private_key"), Item::reference);
        let request = match self.world.rng.below(18) {
            0 => DeviceRequest::SlotRemove { slot: none },
            1 => DeviceRequest::SlotRemove { slot: phrase },
            2 => DeviceRequest::ItemShow { item: strongroom_wire::ItemId([1; 16]) },
            3 => DeviceRequest::ItemRestore { item, version: Some((crate::home::name_of("nothing"), 1)) },
            4 => DeviceRequest::GrantRevoke { grant: strongroom_wire::GrantId([1; 16]) },
            5 => DeviceRequest::GuestRevoke { guest: strongroom_wire::GuestId([1; 16]) },
            6 => DeviceRequest::DeviceRevoke { device: strongroom_wire::DeviceId([1; 16]) },
            7 => DeviceRequest::DeviceRevoke { device: self.model.members[0].device.id },
            8 => DeviceRequest::ItemEdit(edit(Vec::new())),
            9 => DeviceRequest::ItemAdd(key_item("bad", KeyPurpose::Message, fakes::BAD_KEY)),
            10 => DeviceRequest::ItemAdd(totp_item("bad", fakes::BAD_TOTP)),
            11 => DeviceRequest::ItemAdd(login("", b"x")),
            12 => DeviceRequest::Use(UseCall { reference: reference(item, "seed"), call: sign(b"m") }),
            13 => DeviceRequest::ItemImport { drafts: vec![wallet("w", b"x")], dry_run: true, overwrite: false },
            14 => {
                let fields = (0..65).map(|n| field(&format!("f{n}"), Class::Private, b"v")).collect();
                DeviceRequest::ItemAdd(ItemDraft { fields, ..login("wide", b"x") })
            }
            15 => DeviceRequest::Use(UseCall { reference: signing, call: mac(b"m") }),
            16 => {
                let call = SignCall::Ssh { namespace: "git".into(), message: Bytes::from(*b"m") };
                DeviceRequest::Use(UseCall { reference: signing, call: Call::Sign(call) })
            }
            _ => DeviceRequest::Use(UseCall {
                reference: reference(item, "password"),
                call: Call::Http(strongroom_wire::guest::HttpCall {
                    method: "GET".into(),
                    url: "https://api.example.com/".into(),
                    headers: Vec::new(),
                    body: strongroom_wire::guest::HttpBody::Empty,
                    follow_redirects: false,
                }),
            }),
        };
        // The last device is thrown out only where it is the last one.
        if matches!(request, DeviceRequest::DeviceRevoke { device } if device == self.model.members[0].device.id)
            && self.model.members.iter().filter(|member| !member.out).count() > 1
        {
            return Ok(());
        }
        let founder = self.world.rng.chance(10);
        let answer = if founder {
            let id = self.world.request_id();
            let create = DeviceRequest::Create(Box::new(strongroom_wire::device::CreateRequest {
                device_name: "another".into(),
                device_kem_public: Bytes::default(),
                slot: self.model.factors[0].factor.draft("x"),
                recovery: self.model.factors[1].factor.draft("x"),
                wants_share: false,
                device_time: Timestamp(self.world.wall_ms),
            }));
            self.world.ask(Peer::Founder([9; 32]), id, None, None, &json(&create))
        } else if self.world.rng.chance(20) {
            let id = self.world.request_id();
            self.world.ask(Peer::Device(self.model.members[member].device.id), id, None, None, "nonsense")
        } else if self.world.rng.chance(15) {
            Answer::Device(self.world.device(&self.model.members[member].device, &request))
        } else {
            let Self { world, model, .. } = self;
            world.fresh_ask(&model.members[member].device, &model.factors[0].factor, &request)
        };
        self.look_at(&answer)?;
        self.perhaps_right(Code::Busy);
        match answer {
            Answer::Device(Ok(answer)) => {
                holds!(9, !out, "a device that is out was answered");
                holds!(15, false, "a bad request was answered: {request:?}: {answer:?}");
            }
            Answer::Http(run) => holds!(15, false, "a bad request ran: {}", run.0.target),
            _ => {}
        }
        Ok(())
    }
}

//! Items, guests and grants: what devices do with them, and what must come of it.

use strongroom_wire::device::{DeliverRequest, DeviceAnswer, DeviceRequest, GrantAdd, GuestAdd, GuestKind, ItemEdit};
use strongroom_wire::guest::{UseCall, UseResult};
use strongroom_wire::items::ItemDraft;
use strongroom_wire::policy::{Consumer, Hours, HttpLimits, KeyPurpose, Limits, Mode, SignTemplate};
use strongroom_wire::{Bytes, Class, Timestamp};

use super::model::{Doubt, Grant, Guest, Item, Kind};
use super::{Check, Sim, holds};
use crate::fakes;
use crate::home::{api_key, field, http_policy, key_item, login, sign, totp, totp_item, wallet};

impl Sim {
    pub(crate) fn add_item(&mut self) -> Check {
        let member = self.someone();
        let (label, mut value) = self.new_name();
        let kind = match self.world.rng.below(8) {
            0 => Kind::Login,
            1..4 => Kind::Api,
            4 => Kind::Counted,
            5 => Kind::Sign,
            _ => Kind::Wallet,
        };
        if kind == Kind::Counted {
            value = fakes::COUNTED.to_vec();
        }
        let draft: ItemDraft = match kind {
            Kind::Login => login(&label, &value),
            Kind::Api => api_key(&label, &value),
            Kind::Counted => totp_item(&label, &value),
            Kind::Sign => key_item(&label, KeyPurpose::Message, &value),
            Kind::Wallet => wallet(&label, &value),
        };
        let acted = self.act(member, &DeviceRequest::ItemAdd(draft), kind == Kind::Wallet)?;
        match acted.result {
            Ok(DeviceAnswer::Item(view)) => {
                self.model.items.push(item_of(view.summary.id, kind, label, value));
            }
            Err(_) if acted.doubt => {
                self.model.doubts.insert(Doubt::Added(label, value, kind));
            }
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn live_item(&mut self) -> Option<usize> {
        let live: Vec<usize> = (0..self.model.items.len()).filter(|at| !self.model.items[*at].removed).collect();
        self.world.rng.pick(&live).copied()
    }

    pub(crate) fn change_item(&mut self) -> Check {
        let (member, Some(at)) = (self.someone(), self.live_item()) else { return Ok(()) };
        let (id, kind) = (self.model.items[at].id, self.model.items[at].kind);
        let mut edit = ItemEdit {
            item: id,
            if_version: None,
            label: None,
            tags: None,
            set: Vec::new(),
            remove: Vec::new(),
            policy: None,
        };
        let (_, value) = self.new_name();
        let policy = kind == Kind::Api && self.world.rng.chance(40);
        if policy {
            let mut http = http_policy();
            http.allow_short = self.world.rng.chance(50);
            edit.policy = Some(strongroom_wire::policy::ItemPolicy { http: Some(http), key: None });
        } else if kind != Kind::Counted {
            let class = if kind == Kind::Wallet { Class::Critical } else { Class::Secret };
            edit.set = vec![field(kind.field(), class, &value)];
        }
        let voids = !edit.set.is_empty();
        let before = self.policy_version(member, id);
        let acted = self.act(member, &DeviceRequest::ItemEdit(edit), kind == Kind::Wallet)?;
        match acted.result {
            Ok(DeviceAnswer::Item(view)) => {
                if voids {
                    self.model.items[at].value = value;
                }
                if voids || before != Some(view.policy_version) {
                    self.model.void_item(id);
                }
            }
            Err(_) if acted.doubt && voids => {
                self.model.doubts.insert(Doubt::Value(id, value));
            }
            _ => {}
        }
        Ok(())
    }

    fn policy_version(&mut self, member: usize, item: strongroom_wire::ItemId) -> Option<u64> {
        match self.world.device(&self.model.members[member].device, &DeviceRequest::ItemShow { item }) {
            Ok(DeviceAnswer::Item(view)) => Some(view.policy_version),
            _ => None,
        }
    }

    pub(crate) fn remove_item(&mut self) -> Check {
        let (member, Some(at)) = (self.someone(), self.live_item()) else { return Ok(()) };
        let item = self.model.items[at].id;
        let acted = self.act(member, &DeviceRequest::ItemRemove { item, purge: false }, false)?;
        if acted.result.is_ok() {
            self.model.items[at].removed = true;
            self.model.grants.retain(|grant| grant.reference.item != item);
            self.model.void_item(item);
        } else if acted.doubt {
            self.model.doubts.insert(Doubt::Removed(item));
        }
        Ok(())
    }

    pub(crate) fn enrol_guest(&mut self) -> Check {
        if self.model.guests.iter().filter(|guest| !guest.out).count() >= 3 {
            return Ok(());
        }
        let member = self.someone();
        let (name, _) = self.new_name();
        let key = strongroom_crypto::sign::SigningKey::from_seed(&self.world.rng.bytes()).public();
        let public_key = Bytes::from(*key.as_bytes());
        let add = GuestAdd { name: name.clone(), kind: GuestKind::Agent, public_key };
        let acted = self.act(member, &DeviceRequest::GuestAdd(add), true)?;
        match acted.result {
            Ok(DeviceAnswer::Guest(view)) => {
                self.model.guests.push(Guest { id: view.id, name, out: false, suspended: false });
            }
            Err(_) if acted.doubt => {
                self.model.doubts.insert(Doubt::Enrolled(name));
            }
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn suspend(&mut self) -> Check {
        let member = self.someone();
        let guests: Vec<usize> = (0..self.model.guests.len()).filter(|at| !self.model.guests[*at].out).collect();
        // Mostly what is stopped goes on: a day on which nothing runs shows nothing.
        let stopped = guests.iter().copied().find(|at| self.model.guests[*at].suspended);
        let all = self.model.all_suspended || (stopped.is_none() && self.world.rng.chance(15));
        let Some(at) = stopped.or(self.world.rng.pick(&guests).copied()) else { return Ok(()) };
        let id = (!all).then(|| self.model.guests[at].id);
        let suspended = match id {
            Some(_) => !self.model.guests[at].suspended,
            None => !self.model.all_suspended,
        };
        let request = DeviceRequest::GuestSuspend { guest: id, suspended };
        let before = self.durable();
        let (ok, doubt) = if suspended {
            // Stopping is always allowed, without a factor and without a session.
            let was_open = self.is_open();
            let result = self.world.device(&self.model.members[member].device, &request);
            holds!(15, result.is_ok() || !was_open || !self.is_well(), "stopping was refused: {result:?}");
            holds!(1, result.is_err() || self.durable() > before, "a suspension without an event");
            (result.is_ok(), self.world.memory.is_dead() || (was_open && !self.is_open()))
        } else {
            let acted = self.act(member, &request, false)?;
            (acted.result.is_ok(), acted.doubt)
        };
        if ok {
            match id {
                Some(_) => self.model.guests[at].suspended = suspended,
                None => self.model.all_suspended = suspended,
            }
            if suspended {
                let of_guest = |grant: &Grant| id.is_none_or(|id| grant.guest == id);
                self.broken_off(|id| self.model.grants.iter().any(|grant| grant.id == id && of_guest(grant)))?;
                self.model.void_guest(id);
            }
        } else if doubt {
            self.model.doubts.insert(Doubt::Suspended(id));
        }
        Ok(())
    }

    pub(crate) fn revoke_guest(&mut self) -> Check {
        let guests: Vec<usize> = (0..self.model.guests.len()).filter(|at| !self.model.guests[*at].out).collect();
        let (member, Some(at)) = (self.someone(), self.world.rng.pick(&guests).copied()) else { return Ok(()) };
        let id = self.model.guests[at].id;
        let acted = self.act(member, &DeviceRequest::GuestRevoke { guest: id }, false)?;
        if acted.result.is_ok() {
            self.model.guests[at].out = true;
            self.model.grants.retain(|grant| grant.guest != id);
            self.model.void_guest(Some(id));
        } else if acted.doubt {
            self.model.doubts.insert(Doubt::GuestOut(id));
        }
        Ok(())
    }

    fn random_limits(&mut self, consumer: Consumer) -> Limits {
        let mut limits = Limits::default();
        let now = self.now();
        let rng = &mut self.world.rng;
        if rng.chance(25) {
            limits.uses_max = Some(1 + rng.below(3));
        }
        if rng.chance(20) {
            limits.calls_per_minute_max = Some(1 + u32::try_from(rng.below(2)).unwrap_or(0));
        }
        if rng.chance(20) {
            limits.expires_at = Some(Timestamp(now.ms + 1_000 * (1 + rng.below(600))));
        }
        if rng.chance(8) {
            let minute = u16::try_from(now.ms / 60_000 % 1_440).unwrap_or(0);
            limits.hours = Some(Hours { from_minute: minute, to_minute: (minute + 30).min(1_440) });
        }
        if consumer == Consumer::Sign && rng.chance(20) {
            let prefix = if rng.chance(50) { &b"a message"[..] } else { b"another" };
            limits.sign = Some(SignTemplate { prefix: Some(prefix.into()), ..SignTemplate::default() });
        }
        if consumer == Consumer::Http {
            if rng.chance(25) {
                limits.bytes_max = Some(300);
            }
            if rng.chance(40) {
                let prefix = if rng.chance(50) { "/a" } else { "/a/b" };
                let methods = if rng.chance(50) { vec!["GET".into(), "POST".into()] } else { Vec::new() };
                limits.http = Some(HttpLimits { path_prefixes: vec![prefix.into()], methods, ..HttpLimits::default() });
            }
        }
        limits
    }

    pub(crate) fn give_grant(&mut self) -> Check {
        let member = self.someone();
        let items: Vec<usize> = (0..self.model.items.len())
            .filter(|at| !self.model.items[*at].removed && self.model.items[*at].kind.consumer().is_some())
            .collect();
        let guests: Vec<usize> = (0..self.model.guests.len()).filter(|at| !self.model.guests[*at].out).collect();
        let (Some(item), Some(guest)) = (self.world.rng.pick(&items).copied(), self.world.rng.pick(&guests).copied())
        else {
            return Ok(());
        };
        let (reference, consumer) = (self.model.items[item].reference(), self.model.items[item].kind.consumer());
        let Some(consumer) = consumer else { return Ok(()) };
        let mode = match self.world.rng.below(4) {
            0 => Mode::Ask,
            1 => Mode::AskOnce { secs: 60 * (1 + self.world.rng.below(20)) },
            _ => Mode::Always,
        };
        let guest = self.model.guests[guest].id;
        let add = GrantAdd { guest, reference, consumer, limits: self.random_limits(consumer), mode };
        let acted = self.act(member, &DeviceRequest::GrantAdd(add.clone()), false)?;
        match acted.result {
            Ok(DeviceAnswer::Grant(view)) => {
                self.model.void_guest(Some(guest));
                self.model.grants.push(granted(view.id, add));
            }
            Err(_) if acted.doubt => {
                self.model.doubts.insert(Doubt::Given);
            }
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn end_grant(&mut self) -> Check {
        let (member, ids) = (self.someone(), self.model.grants.iter().map(|grant| grant.id).collect::<Vec<_>>());
        let Some(id) = self.world.rng.pick(&ids).copied() else { return Ok(()) };
        let (may, was_open, before) = (self.has_session(member), self.is_open(), self.durable());
        let result = self.world.device(&self.model.members[member].device, &DeviceRequest::GrantRevoke { grant: id });
        if let Err(refusal) = &result {
            self.coverage.refusal(refusal);
        }
        holds!(14, result.is_err() || may, "a grant was ended without a session");
        holds!(15, result.is_ok() || !may || !self.is_well(), "ending a grant was refused: {result:?}");
        holds!(1, result.is_err() || self.durable() > before, "an end without an event");
        if result.is_ok() {
            self.broken_off(|over| over == id)?;
            let guest = self.model.grants.iter().find(|grant| grant.id == id).map(|grant| grant.guest);
            self.model.grants.retain(|grant| grant.id != id);
            self.model.void_guest(guest);
        } else if self.world.memory.is_dead() || (was_open && !self.is_open()) {
            self.model.doubts.insert(Doubt::Over(id));
        }
        Ok(())
    }

    pub(crate) fn own_use(&mut self) -> Check {
        let (member, Some(at)) = (self.someone(), self.live_item()) else { return Ok(()) };
        let (reference, kind) = (self.model.items[at].reference(), self.model.items[at].kind);
        self.may_show = self.may_act(member);
        let call = match kind {
            Kind::Sign => sign(b"a message"),
            Kind::Counted => totp(),
            Kind::Api | Kind::Login | Kind::Wallet => return self.take_out(member, at),
        };
        let acted = self.act(member, &DeviceRequest::Use(UseCall { reference, call }), false)?;
        if let Ok(DeviceAnswer::Used(used)) = acted.result {
            self.code_left(at, &used)?;
        }
        Ok(())
    }

    /// 16: a counted code never leaves twice.
    pub(crate) fn code_left(&mut self, item: usize, used: &UseResult) -> Check {
        if let UseResult::Code { code, .. } = used {
            holds!(16, self.model.items[item].codes.insert(code.clone()), "the code {code} left twice");
        }
        Ok(())
    }

    /// Takes a value out to a device half: it is the one that was acknowledged last.
    fn take_out(&mut self, member: usize, at: usize) -> Check {
        let (reference, kind) = (self.model.items[at].reference(), self.model.items[at].kind);
        let consumer = match kind {
            Kind::Wallet => Consumer::Export,
            _ if self.world.rng.chance(50) => Consumer::Clipboard,
            _ => Consumer::Exec,
        };
        let deliver = DeliverRequest { consumer, references: vec![reference], after: None, program: None };
        let acted = self.act(member, &DeviceRequest::Deliver(deliver), kind == Kind::Wallet)?;
        if let Ok(DeviceAnswer::Delivered { values, .. }) = acted.result {
            let value = values[0].value.expose();
            let item = &self.model.items[at];
            let newer = self.model.doubts.contains(&Doubt::Value(item.id, value.to_vec()));
            holds!(2, value == item.value || newer, "{} is not what was acknowledged", item.label);
        }
        Ok(())
    }
}

/// An item that was just added.
pub(crate) fn item_of(id: strongroom_wire::ItemId, kind: Kind, label: String, value: Vec<u8>) -> Item {
    Item { id, kind, label, value, removed: false, codes: Default::default() }
}

/// A grant as it was given.
pub(crate) fn granted(id: strongroom_wire::GrantId, add: GrantAdd) -> Grant {
    Grant {
        id,
        guest: add.guest,
        reference: add.reference,
        consumer: add.consumer,
        limits: add.limits,
        mode: add.mode,
        uses: 0,
        bytes: 0,
        calls: Vec::new(),
        shaky_until_ms: 0,
    }
}

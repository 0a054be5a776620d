//! What the machine and a hostile host do, and the look that tells what the vault holds afterwards.

use std::collections::BTreeSet;

use strongroom_core::records::Table;
use strongroom_wire::device::{AuditQuery, DeliverRequest, DeviceAnswer, DeviceRequest, ListQuery};
use strongroom_wire::event::{Action, Event};
use strongroom_wire::items::ItemSummary;
use strongroom_wire::policy::Consumer;
use strongroom_wire::{Code, Timestamp};

use super::model::{Doubt, Guest, Item, Kind};
use super::things::granted;
use super::{Check, Sim, holds};
use crate::home::event_of;
use crate::memory::Fault;
use crate::world::Answer;

impl Sim {
    /// The machine stops and starts again.
    pub(crate) fn restart(&mut self) -> Check {
        self.world.crash();
        self.mend_in = 0;
        self.model.tried_ticks_ms = self.world.ticks_ms;
        self.model.closed();
        Ok(())
    }

    pub(crate) fn disk_fault(&mut self) -> Check {
        if self.world.memory.is_faulty() {
            return Ok(());
        }
        let faults = [
            Fault::FullCommit,
            Fault::FullRecord,
            Fault::TakeBack,
            Fault::FullFile,
            Fault::LittleRoom,
            Fault::Reads,
            Fault::ReadOnly,
        ];
        let fault = *self.world.rng.pick(&faults).unwrap_or(&Fault::FullCommit);
        self.world.memory.fault(fault);
        self.mend_in = 2 + u32::try_from(self.world.rng.below(4)).unwrap_or(0);
        Ok(())
    }

    pub(crate) fn death(&mut self) -> Check {
        if !self.world.memory.is_faulty() {
            let (writes, lands) = (self.world.rng.below(10), self.world.rng.chance(50));
            self.world.memory.die_at(writes, lands);
        }
        Ok(())
    }

    pub(crate) fn pass_time(&mut self) -> Check {
        let secs = *self.world.rng.pick(&[1, 5, 10, 30, 61, 121, 301, 901, 3_601, 43_201]).unwrap_or(&1);
        if self.world.rng.chance(40) {
            // The program is slow to tick: what is over is over all the same.
            self.world.wall_ms += secs * 1_000;
            self.world.ticks_ms += secs * 1_000;
            self.session()?;
            self.world.tick();
        } else {
            self.world.pass_secs(secs);
        }
        self.not_open_for_ever()
    }

    /// 14: an open vault locks by itself.
    fn not_open_for_ever(&mut self) -> Check {
        holds!(14, !self.is_open() || self.world.ticks_ms < 100 * 43_200_000, "a vault that never locks");
        Ok(())
    }

    /// The host's clock goes ten minutes back, and a while later to where it belongs.
    pub(crate) fn set_clock_back(&mut self) -> Check {
        if self.set_back_ms == 0 {
            self.set_back_ms = 600_000;
            self.world.wall_ms -= 600_000;
            self.world.device_ahead_ms = 600_000;
            self.coverage.fault("clock set back");
        } else {
            self.clock_is_right();
        }
        Ok(())
    }

    fn clock_is_right(&mut self) {
        self.world.wall_ms += self.set_back_ms;
        self.world.device_ahead_ms = 0;
        self.set_back_ms = 0;
    }

    /// Puts files back as they were, or changes them, and sees that it shows.
    pub(crate) fn hostile(&mut self) -> Check {
        if !self.is_well() || self.world.vault.is_err() {
            return Ok(());
        }
        self.clock_is_right();
        self.recover()?;
        self.audit()?;
        let earlier = self.world.memory.copy();
        // Something happens in between that the log tells of.
        self.add_item()?;
        self.give_grant()?;
        if !self.is_well() {
            return Ok(());
        }
        let from = DeviceRequest::AuditCheckpoint { from_size: self.model.members[0].device.seen.size };
        if let DeviceAnswer::Checkpoint(proof) = self.read(&from)? {
            let id = self.world.id;
            let seen = self.model.members[0].device.see(id, &proof);
            holds!(4, seen.is_ok(), "a checkpoint does not extend what was seen: {seen:?}");
        }
        let grew = self.durable() > earlier.database.as_ref().map_or(0, |database| database.leaves().len());
        self.lock()?;
        self.restart()?;
        let genuine = self.world.memory.copy();
        let what = *self
            .world
            .rng
            .pick(&[
                "older database",
                "older record",
                "older files all together",
                "one header copy gone",
                "header changed",
                "older chain",
            ])
            .unwrap_or(&"older database");
        self.coverage.fault(what);
        let mut expect_open = false;
        match what {
            "older database" => self.world.memory.tamper(|files| files.database = earlier.database),
            "older record" => {
                let mut older = earlier.database.unwrap_or_default();
                let changed = self.world.memory.tamper(|files| {
                    let records = files.database.as_mut().map(crate::memory::Database::records)?;
                    let kept = |table: Table| table != Table::Slots && table != Table::Devices;
                    let differing = older
                        .records()
                        .iter()
                        .find(|(place, record)| kept(place.0) && records.get(*place).is_some_and(|now| now != *record));
                    match differing {
                        Some((place, record)) => records.insert(place.clone(), record.clone()),
                        None => {
                            let place = records.keys().find(|(table, _)| kept(*table) && *table != Table::Settings);
                            let place = place.cloned()?;
                            records.remove(&place)
                        }
                    }
                });
                expect_open = changed.is_none();
            }
            "older files all together" => self.world.memory.put_back(earlier),
            "one header copy gone" => {
                let newer = self.world.rng.below(2) == 0;
                self.world.memory.tamper(|files| files.headers[usize::from(newer)] = None);
                expect_open = true;
            }
            "header changed" => {
                self.world.memory.tamper(|files| {
                    for file in files.headers.iter_mut().flatten() {
                        let last = file.len() - 1;
                        file[last] ^= 1;
                    }
                });
            }
            _ => {
                self.world.memory.tamper(|files| files.chains = earlier.chains);
                expect_open = true;
            }
        }
        self.world.start();
        self.world.pass_secs(31);
        self.model.tried_ticks_ms = 1;
        let Self { world, model, .. } = self;
        let opened = world.unlock(&mut model.members[0].device, &model.factors[0].factor);
        if let Err(refusal) = &opened {
            self.coverage.refusal(refusal);
        }
        if let Err(refusal) = &self.world.vault {
            self.coverage.refusal(refusal);
        }
        if !expect_open {
            holds!(13, opened.is_err() || (what == "older files all together" && !grew), "{what} was opened");
        }
        // The genuine files come back.
        if expect_open && what == "one header copy gone" {
            // What was gone counts as wrong tries; the vault itself goes on with its newest copy.
            self.world.memory.tamper(|files| files.headers = genuine.headers.clone());
        }
        self.world.memory.crash();
        self.world.memory.put_back(genuine);
        self.world.start();
        self.model.tried_ticks_ms = 1;
        self.model.closed();
        for way in &mut self.model.factors {
            way.wrong = 0;
        }
        for member in &mut self.model.members {
            member.device.seen = Default::default();
        }
        self.recover()
    }

    /// Comes back to an open, confirmed vault on a machine that works, whatever happened before.
    pub(crate) fn recover(&mut self) -> Check {
        if self.world.memory.is_dead() {
            self.restart()?;
        }
        self.world.memory.mend();
        self.mend_in = 0;
        self.clock_is_right();
        holds!(13, self.world.vault.is_ok(), "the header cannot be used: {:?}", self.world.vault.as_ref().err());
        for round in 0..6 {
            if self.is_open() && self.model.confirmed && self.may_act(0) {
                return Ok(());
            }
            // The passphrase may be locked; the phrase opens it then.
            let way = usize::from(round >= 2);
            let refused = self.unlock_with(0, way)?;
            if refused.is_none() {
                self.confirm(0)?;
            } else {
                self.world.pass_secs(3_600);
            }
        }
        Err("13: the vault does not open any more".into())
    }

    /// Looks at everything that the vault shows, and compares it with what was acknowledged.
    pub(crate) fn audit(&mut self) -> Check {
        if !self.may_act(0) || !self.is_well() {
            return Ok(());
        }
        // What a failing disk did not take is written now.
        self.world.tick();
        self.look_at_items()?;
        self.look_at_guests()?;
        self.look_at_grants()?;
        self.look_at_devices()?;
        self.look_at_log()?;
        self.model.doubts.clear();
        self.model.lost.clear();
        Ok(())
    }

    fn read(&mut self, request: &DeviceRequest) -> Result<DeviceAnswer, String> {
        let answer = Answer::Device(self.world.device(&self.model.members[0].device, request));
        self.look_at(&answer)?;
        crate::world::device_result(answer).map_err(|refusal| format!("15: {request:?}: {refusal:?}"))
    }

    fn look_at_items(&mut self) -> Check {
        let mut listed: Vec<ItemSummary> = Vec::new();
        for removed in [false, true] {
            let query = DeviceRequest::ItemList(ListQuery { removed, ..ListQuery::default() });
            if let DeviceAnswer::Items { items, .. } = self.read(&query)? {
                listed.extend(items);
            }
        }
        for row in &listed {
            if let Some(at) = self.model.items.iter().position(|item| item.id == row.id) {
                let doubt = self.model.doubts.contains(&Doubt::Removed(row.id));
                holds!(2, row.removed == self.model.items[at].removed || doubt, "{} removed or not", row.label);
                if row.removed && !self.model.items[at].removed {
                    self.model.items[at].removed = true;
                    self.model.grants.retain(|grant| grant.reference.item != row.id);
                    self.model.void_item(row.id);
                }
                continue;
            }
            let added = self.model.doubts.iter().find_map(|doubt| match doubt {
                Doubt::Added(label, value, kind) if *label == row.label => Some((value.clone(), *kind)),
                _ => None,
            });
            let Some((value, kind)) = added else { return Err(format!("2: {} was never added", row.label)) };
            let codes = Default::default();
            self.model.items.push(Item {
                id: row.id,
                kind,
                label: row.label.clone(),
                value,
                removed: row.removed,
                codes,
            });
        }
        for item in &self.model.items {
            holds!(2, listed.iter().any(|row| row.id == item.id), "{} is gone", item.label);
        }
        self.look_at_values()
    }

    /// Every value, exported: it is the one that was acknowledged last, or the one that is in doubt.
    fn look_at_values(&mut self) -> Check {
        let export = DeviceRequest::Deliver(DeliverRequest {
            consumer: Consumer::Export,
            references: Vec::new(),
            after: None,
            program: None,
        });
        self.may_show = true;
        let acted = self.act(0, &export, false)?;
        let values = match acted.result {
            Ok(DeviceAnswer::Delivered { values, .. }) => values,
            Ok(_) => return Err("15: an export led to something else".into()),
            Err(refusal) if matches!(refusal.code, Code::AttemptsWait | Code::SlotLocked) => return Ok(()),
            Err(refusal) => return Err(format!("15: an export was refused: {refusal:?}")),
        };
        for delivered in values {
            let found = self.model.items.iter().position(|item| item.reference() == delivered.reference);
            let Some(at) = found else { continue };
            let value = delivered.value.expose().to_vec();
            let id = self.model.items[at].id;
            let newer = self.model.doubts.contains(&Doubt::Value(id, value.clone()));
            holds!(2, value == self.model.items[at].value || newer, "{}: another value", self.model.items[at].label);
            self.model.items[at].value = value;
        }
        self.look_at_seeds()
    }

    /// One wallet's seed, and that of each which is in doubt.
    fn look_at_seeds(&mut self) -> Check {
        let wallets: Vec<usize> = (0..self.model.items.len())
            .filter(|at| !self.model.items[*at].removed && self.model.items[*at].kind == Kind::Wallet)
            .collect();
        let one = self.world.rng.pick(&wallets).copied();
        let in_doubt = |id| self.model.doubts.iter().any(|doubt| matches!(doubt, Doubt::Value(of, _) if *of == id));
        let doubted = wallets.iter().copied().filter(|at| in_doubt(self.model.items[*at].id));
        let looked_at: BTreeSet<usize> = doubted.chain(one).collect();
        for at in looked_at {
            if self.model.members[0].frozen {
                return Ok(());
            }
            let deliver = DeviceRequest::Deliver(DeliverRequest {
                consumer: Consumer::Export,
                references: vec![self.model.items[at].reference()],
                after: None,
                program: None,
            });
            match self.act(0, &deliver, true)?.result {
                Ok(DeviceAnswer::Delivered { values, .. }) => {
                    let value = values[0].value.expose().to_vec();
                    let item = &mut self.model.items[at];
                    let newer = self.model.doubts.contains(&Doubt::Value(item.id, value.clone()));
                    holds!(2, value == item.value || newer, "{}: another seed", item.label);
                    item.value = value;
                }
                Ok(other) => return Err(format!("15: an export led to {other:?}")),
                Err(refusal) => {
                    let later = matches!(refusal.code, Code::AttemptsWait | Code::SlotLocked);
                    holds!(2, later, "a seed is lost: {refusal:?}");
                }
            }
        }
        Ok(())
    }

    fn look_at_guests(&mut self) -> Check {
        let DeviceAnswer::Guests { guests } = self.read(&DeviceRequest::GuestList {})? else { return Ok(()) };
        for view in &guests {
            if let Some(at) = self.model.guests.iter().position(|guest| guest.id == view.id) {
                holds!(2, !self.model.guests[at].out, "a guest that was thrown out is back");
                let doubt = self.model.doubts.contains(&Doubt::Suspended(Some(view.id)));
                holds!(2, view.suspended == self.model.guests[at].suspended || doubt, "suspended or not");
                if view.suspended != self.model.guests[at].suspended {
                    self.model.guests[at].suspended = view.suspended;
                    self.model.void_guest(Some(view.id));
                }
                continue;
            }
            let enrolled = self.model.doubts.contains(&Doubt::Enrolled(view.name.clone()));
            holds!(2, enrolled, "the guest {} was never enrolled", view.name);
            let (id, name) = (view.id, view.name.clone());
            self.model.guests.push(Guest { id, name, out: false, suspended: view.suspended });
        }
        for at in 0..self.model.guests.len() {
            let guest = &self.model.guests[at];
            if guest.out || guests.iter().any(|view| view.id == guest.id) {
                continue;
            }
            let id = guest.id;
            holds!(2, self.model.doubts.contains(&Doubt::GuestOut(id)), "the guest {} is gone", guest.name);
            self.model.guests[at].out = true;
            self.model.grants.retain(|grant| grant.guest != id);
            self.model.void_guest(Some(id));
        }
        let DeviceAnswer::Status(status) = self.read(&DeviceRequest::Status {})? else { return Ok(()) };
        let suspended = status.guests_suspended.as_deref() == Some("by the member");
        let doubt = self.model.doubts.contains(&Doubt::Suspended(None));
        holds!(2, suspended == self.model.all_suspended || doubt, "all suspended or not");
        if suspended != self.model.all_suspended {
            self.model.all_suspended = suspended;
            self.model.void_guest(None);
        }
        Ok(())
    }

    /// 5: grants are those that were given, and none is used more often than it says.
    fn look_at_grants(&mut self) -> Check {
        let DeviceAnswer::Grants { grants } = self.read(&DeviceRequest::GrantList { guest: None })? else {
            return Ok(());
        };
        for view in &grants {
            holds!(5, view.grant.limits.uses_max.is_none_or(|max| view.uses <= max), "used {} times", view.uses);
            if let Some(at) = self.model.grants.iter().position(|grant| grant.id == view.id) {
                let grant = &mut self.model.grants[at];
                let doubt = self.model.doubts.contains(&Doubt::Used(grant.id));
                holds!(5, view.uses == grant.uses || doubt, "{} uses counted, {} made", view.uses, grant.uses);
                holds!(5, view.bytes == grant.bytes || doubt, "{} bytes counted, {} sent", view.bytes, grant.bytes);
                (grant.uses, grant.bytes) = (view.uses, view.bytes);
                continue;
            }
            let given = self.model.doubts.contains(&Doubt::Given);
            holds!(5, given, "a grant that was never given, or was ended");
            let mut grant = granted(view.id, view.grant.clone());
            (grant.uses, grant.bytes) = (view.uses, view.bytes);
            self.model.void_guest(Some(grant.guest));
            self.model.grants.push(grant);
        }
        let model = &mut self.model;
        for grant in &model.grants {
            let there = grants.iter().any(|view| view.id == grant.id);
            holds!(2, there || model.doubts.contains(&Doubt::Over(grant.id)), "a grant is gone");
        }
        let ended: Vec<_> =
            model.grants.iter().filter(|g| grants.iter().all(|view| view.id != g.id)).map(|g| g.guest).collect();
        model.grants.retain(|grant| grants.iter().any(|view| view.id == grant.id));
        for guest in ended {
            model.void_guest(Some(guest));
        }
        Ok(())
    }

    fn look_at_devices(&mut self) -> Check {
        let DeviceAnswer::Devices { devices } = self.read(&DeviceRequest::DeviceList {})? else { return Ok(()) };
        for at in 0..self.model.members.len() {
            let member = &self.model.members[at];
            let view = devices.iter().find(|view| view.id == member.device.id);
            match view {
                Some(_) => holds!(9, !member.out, "a device that was thrown out is back"),
                None if member.out => {}
                None => {
                    holds!(2, self.model.doubts.contains(&Doubt::MemberOut(at)), "a device is gone");
                    self.model.members[at].out = true;
                }
            }
        }
        let known = |id| self.model.members.iter().any(|member| member.device.id == id);
        let strangers: Vec<_> = devices.iter().filter(|view| !known(view.id)).map(|view| view.id).collect();
        holds!(2, strangers.is_empty() || self.model.doubts.contains(&Doubt::MemberIn), "a device nobody enrolled");
        for device in strangers {
            // Nobody holds its keys.
            self.act(0, &DeviceRequest::DeviceRevoke { device }, false)?;
        }
        if self.model.doubts.contains(&Doubt::Ways) {
            self.learn_ways()?;
        }
        Ok(())
    }

    /// Which passkey is in force, after a change that nobody was answered.
    fn learn_ways(&mut self) -> Check {
        let DeviceAnswer::Slots { slots } = self.read(&DeviceRequest::SlotList {})? else { return Ok(()) };
        let spare = slots.iter().filter(|slot| slot.kind == strongroom_wire::device::SlotKind::Passkey);
        let known =
            spare.clone().any(|slot| self.model.factors.get(2).is_some_and(|way| way.factor.slot == Some(slot.id)));
        for slot in spare.map(|slot| slot.id).collect::<Vec<_>>() {
            if self.model.factors.get(2).is_none_or(|way| way.factor.slot != Some(slot)) {
                // Nobody holds its key: it is taken out again.
                self.act(0, &DeviceRequest::SlotRemove { slot }, false)?;
            }
        }
        if known {
            self.model.factors[2].gone = false;
        } else {
            self.model.factors.truncate(2);
        }
        Ok(())
    }

    /// The log tells of each intent, of one outcome for each, and of no unknown one without a reason.
    fn look_at_log(&mut self) -> Check {
        let mut events: Vec<Event> = Vec::new();
        loop {
            let query = AuditQuery { from: events.len() as u64, count: 1_000, wait_secs: 0 };
            let DeviceAnswer::Audit { events: page, .. } = self.read(&DeviceRequest::AuditList(query))? else { break };
            if page.is_empty() {
                break;
            }
            for logged in &page {
                let leaf = logged.leaf.as_ref().map(|leaf| strongroom_crypto::digest::leaf_hash(&leaf.0).to_vec());
                holds!(3, leaf.as_ref() == Some(&logged.hash.0), "event {} is not what its hash says", logged.index);
            }
            events.extend(page.iter().filter_map(event_of));
        }
        holds!(3, events.is_sorted_by_key(|event| event.at), "the log goes back in time");
        let last = events.last().map_or(Timestamp(0), |event| event.at);
        holds!(3, last.0 <= self.now().ms, "the log is ahead of time: {last} at {}", Timestamp(self.now().ms));
        let (mut open, mut unknown, mut rotated, mut thrown_out) = (0_i64, 0, 0, 0);
        for event in &events {
            match event.action {
                Action::UseIntent => open += 1,
                Action::UseOutcome => {
                    open -= 1;
                    unknown += u64::from(event.note.as_deref() == Some("unknown"));
                }
                Action::KeyRotate => rotated += 1,
                Action::DeviceRevoke => thrown_out += 1,
                _ => {}
            }
            holds!(8, open >= 0, "an outcome without an intent");
        }
        holds!(19, rotated == thrown_out, "{thrown_out} devices thrown out, {rotated} vault keys replaced");
        let at_most = self.model.unknown_at_most;
        holds!(20, unknown <= at_most, "{unknown} unknown outcomes, and at most {at_most} exchanges broke off");
        // Those whose outcome could not be written stay open until the next unlock.
        let running = self.model.running.len() as i64;
        let broken_off = i64::try_from(at_most - unknown.min(at_most)).unwrap_or(0);
        holds!(8, open >= running && open <= running + broken_off, "{open} intents without an outcome, {running} run");
        Ok(())
    }
}

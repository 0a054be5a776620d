//! Guests and grants: who may ask for what, and how it ends.

use serde::{Deserialize, Serialize};
use strongroom_crypto::sign::PublicKey;
use strongroom_wire::device::{DeviceAnswer, GrantAdd, GrantView, GuestAdd, GuestKind, GuestView};
use strongroom_wire::event::{Action, Actor};
use strongroom_wire::guest::{Granted, GuestAnswer};
use strongroom_wire::policy::{Consumer, Limits, Mode};
use strongroom_wire::target::HttpRules;
use strongroom_wire::{Bytes, Class, Code, DeviceId, GrantId, GuestId, ItemId, Refusal, Timestamp, limits};

use crate::chains::Contents;
use crate::create::{RosterEntry, SETTING_SUSPENDED};
use crate::items::Item;
use crate::planted::rule;
use crate::records::{Storage, Table};
use crate::vault::{Context, Effect, Peer, Vault, check_label, random_id};

/// A guest as it lies in the database.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GuestRecord {
    pub(crate) entry: RosterEntry,
    pub(crate) suspended: bool,
}

/// What the identity signs of a guest.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GuestBody {
    pub(crate) kind: GuestKind,
    pub(crate) id: GuestId,
    pub(crate) name: String,
    pub(crate) public_key: Bytes,
    pub(crate) epoch: u32,
    pub(crate) added_at: Timestamp,
}

/// A grant as it lies in the database.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Grant {
    pub(crate) given: GrantAdd,
    pub(crate) added_at: Timestamp,
    /// For a derived key: the grants under which it was derived. Their limits hold for it too, and it ends with any of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) derived_under: Vec<GrantId>,
}

/// How much of a grant was used.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrantUse {
    pub(crate) uses: u64,
    pub(crate) bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) used_at: Option<Timestamp>,
}

/// The setting that says that the member ended a guest's grant on a derived key.
pub(crate) fn ended_key(guest: GuestId, item: ItemId) -> Vec<u8> {
    [b"ended/".as_slice(), guest.as_bytes(), item.as_bytes()].concat()
}

pub(crate) fn grant_id(key: &[u8]) -> Result<GrantId, Refusal> {
    key.try_into().map(GrantId).map_err(|_| Refusal::new(Code::StoreRefused).detail("A grant's id cannot be read."))
}

impl<S: Storage> Vault<S> {
    pub(crate) fn guest_add(
        &mut self,
        device: DeviceId,
        add: &GuestAdd,
        contents: Option<&Contents>,
        cx: &mut Context<'_>,
    ) -> Result<DeviceAnswer, Refusal> {
        check_label(&add.name)?;
        let public = PublicKey::from_bytes(&add.public_key.0)
            .map_err(|_| Refusal::new(Code::ValueRefused).detail("The guest's public key is malformed."))?;
        let key = Bytes::from(*public.as_bytes());
        let identity = contents.ok_or(Refusal::new(Code::CredentialRequired))?.identity()?;
        let header = self.header.as_ref().ok_or(Refusal::new(Code::VaultNotCreated))?;
        let roster = &header.roster;
        let taken = roster.revoked.contains(&key)
            || roster.guests.values().any(|other| *other == key)
            || roster.devices.values().any(|other| other.sign_public == key);
        if taken {
            return Err(Refusal::new(Code::Conflict).detail("This key is or was in the roster; make a new one."));
        }
        if roster.guests.len() >= limits::GUESTS_MAX {
            return Err(Code::TooMany.into());
        }
        let id = GuestId(random_id(cx.rng));
        let body = GuestBody {
            kind: add.kind,
            id,
            name: add.name.clone(),
            public_key: key.clone(),
            epoch: 1,
            added_at: self.now(cx),
        };
        let record = GuestRecord { entry: RosterEntry::sign(self.id, &identity, &body)?, suspended: false };
        self.put(Table::Guests, id.as_bytes(), &record)?;
        let mut event = self.event(Actor::Device(device), Action::GuestAdd, cx);
        event.guest = Some(id);
        self.log(event, cx)?;
        if let Some(header) = &mut self.header {
            header.roster_mut().guests.insert(id, key);
        }
        Ok(DeviceAnswer::Guest(guest_view(&body, &record, 0, None)))
    }

    pub(crate) fn guest(&mut self, id: GuestId) -> Result<(GuestBody, GuestRecord), Refusal> {
        let record: GuestRecord = self.get(Table::Guests, id.as_bytes())?.ok_or(Refusal::new(Code::GuestUnknown))?;
        let body = crate::ledger::parse(record.entry.body.as_bytes())?;
        Ok((body, record))
    }

    pub(crate) fn guest_list(&mut self) -> Result<DeviceAnswer, Refusal> {
        let grants = self.grants()?;
        let mut guests = Vec::new();
        for (_, record) in self.all::<GuestRecord>(Table::Guests, &[])? {
            let body: GuestBody = crate::ledger::parse(record.entry.body.as_bytes())?;
            let mut seen = None;
            let mut count = 0;
            for (id, _) in grants.iter().filter(|(_, grant)| grant.given.guest == body.id) {
                count += 1;
                seen = seen.max(self.get::<GrantUse>(Table::GrantUses, id.as_bytes())?.and_then(|used| used.used_at));
            }
            guests.push(guest_view(&body, &record, count, seen));
        }
        guests.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(DeviceAnswer::Guests { guests })
    }

    pub(crate) fn guest_suspend(
        &mut self,
        device: DeviceId,
        guest: Option<GuestId>,
        suspended: bool,
        cx: &mut Context<'_>,
    ) -> Result<DeviceAnswer, Refusal> {
        if let Some(id) = guest {
            let (_, mut record) = self.guest(id)?;
            record.suspended = suspended;
            self.put(Table::Guests, id.as_bytes(), &record)?;
        } else {
            self.put(Table::Settings, SETTING_SUSPENDED, &suspended)?;
            self.opened()?.0.live_mut().suspended = suspended;
        }
        if suspended {
            self.void_for_guest(guest)?;
            self.cancel(|running| match (running.peer, guest) {
                (Peer::Guest(of), Some(guest)) => of == guest,
                (Peer::Guest(_), None) => true,
                _ => false,
            });
            self.move_floor();
        }
        let action = if suspended { Action::GuestSuspend } else { Action::GuestResume };
        let mut event = self.event(Actor::Device(device), action, cx);
        event.guest = guest;
        self.log(event, cx)?;
        Ok(DeviceAnswer::Done {})
    }

    pub(crate) fn guest_revoke(
        &mut self,
        device: DeviceId,
        id: GuestId,
        cx: &mut Context<'_>,
    ) -> Result<DeviceAnswer, Refusal> {
        let (body, _) = self.guest(id)?;
        for (grant, _) in self.grants()?.iter().filter(|(_, grant)| grant.given.guest == id) {
            self.delete(Table::Grants, grant.as_bytes())?;
            self.delete(Table::GrantUses, grant.as_bytes())?;
        }
        self.delete(Table::Guests, id.as_bytes())?;
        self.void_for_guest(Some(id))?;
        self.note_revoked(&body.public_key)?;
        self.note_header()?;
        let mut event = self.event(Actor::Device(device), Action::GuestRevoke, cx);
        event.guest = Some(id);
        self.log(event, cx)?;
        if let Some(header) = &mut self.header {
            header.roster_mut().guests.remove(&id);
        }
        self.effects.push(Effect::Disconnect(Peer::Guest(id)));
        Ok(DeviceAnswer::Done {})
    }

    pub(crate) fn grant_add(
        &mut self,
        actor: Actor,
        add: &GrantAdd,
        derived_under: Vec<GrantId>,
        cx: &mut Context<'_>,
    ) -> Result<(GrantId, GrantView), Refusal> {
        let refused = |why: &str| Refusal::new(Code::ValueRefused).detail(why.to_owned());
        let (consumer, limits) = (add.consumer, &add.limits);
        let idle = (limits.http.is_some() && consumer != Consumer::Http)
            || (limits.sign.is_some() && consumer != Consumer::Sign)
            || (!limits.crypt.is_empty() && consumer != Consumer::Crypt)
            || (limits.bytes_max.is_some() && consumer != Consumer::Http);
        if idle {
            return Err(refused("A limit of this grant is for another consumer and would have no effect."));
        }
        let (guest, _) = self.guest(add.guest)?;
        let item = self.live_item(add.reference.item)?;
        let field = self.field(&add.reference)?;
        if field.class != Class::Secret || !add.consumer.for_guests() {
            return Err(Refusal::new(Code::ClassRefused)
                .detail("Guests are granted secret fields, for http, sign, totp and crypt alone."));
        }
        match add.consumer {
            Consumer::Http => {
                let policy = item.policy.http.as_ref().ok_or_else(|| {
                    Refusal::new(Code::PolicyMissing)
                        .detail("The item does not say where its secret may go.")
                        .hint("strongroom item edit <item> --host api.example.com --bearer")
                })?;
                let http = add.limits.http.as_ref();
                if http.is_some_and(|http| http.hosts.iter().any(|host| !policy.hosts.contains(host))) {
                    return Err(refused("A host of the grant is not one of the item's."));
                }
                let methods = http.map(|http| http.methods.as_slice()).unwrap_or_default();
                if methods.iter().any(|method| method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase())) {
                    return Err(refused("Methods are written in upper case."));
                }
                let prefixes = http.map(|http| http.path_prefixes.as_slice()).unwrap_or_default();
                if prefixes.iter().any(|prefix| !prefix.starts_with('/') || prefix.len() > 1_024) {
                    return Err(refused("A path prefix starts with a slash."));
                }
            }
            Consumer::Sign => {
                let key = item.policy.key.ok_or(Refusal::new(Code::PolicyMissing))?;
                let template = add.limits.sign.clone().unwrap_or_default();
                template.check(key)?;
            }
            Consumer::Crypt if item.policy.key.is_none() => return Err(Code::PolicyMissing.into()),
            Consumer::Crypt if add.limits.crypt.is_empty() => {
                return Err(refused("Name the operations that the guest may ask for."));
            }
            _ => {}
        }
        if let Some(hours) = add.limits.hours
            && (hours.from_minute > 1_439 || hours.to_minute > 1_440)
        {
            return Err(refused("Hours run from 00:00 to 24:00."));
        }
        if add.limits.calls_per_minute_max.is_some_and(|calls| calls == 0 || calls > 60_000) {
            return Err(refused("Calls a minute are 1 to 60,000."));
        }
        if let Mode::AskOnce { secs } = add.mode
            && !(1..=24 * 3_600).contains(&secs)
        {
            return Err(refused("An answer covers at most 24 hours."));
        }
        if self.grants()?.len() >= strongroom_wire::limits::GRANTS_MAX {
            return Err(Code::TooMany.into());
        }
        let id = GrantId(random_id(cx.rng));
        let grant = Grant { given: add.clone(), added_at: self.now(cx), derived_under };
        self.put(Table::Grants, id.as_bytes(), &grant)?;
        self.void_for_guest(Some(add.guest))?;
        let mut event = self.event(actor, Action::GrantAdd, cx);
        event.grant = Some(id);
        event.guest = Some(add.guest);
        event.reference = Some(add.reference.clone());
        event.consumer = Some(add.consumer);
        self.log(event, cx)?;
        Ok((id, grant_view(id, &grant, &GrantUse::default(), &guest.name, &item.label)))
    }

    pub(crate) fn grant_list(&mut self, guest: Option<GuestId>) -> Result<DeviceAnswer, Refusal> {
        let mut grants = Vec::new();
        for (id, grant) in self.grants()?.iter() {
            if guest.is_some_and(|guest| guest != grant.given.guest) {
                continue;
            }
            let used: GrantUse = self.get(Table::GrantUses, id.as_bytes())?.unwrap_or_default();
            let (body, _) = self.guest(grant.given.guest)?;
            let item = self.item(grant.given.reference.item)?;
            grants.push(grant_view(*id, grant, &used, &body.name, &item.label));
        }
        Ok(DeviceAnswer::Grants { grants })
    }

    pub(crate) fn grant_revoke(
        &mut self,
        device: DeviceId,
        id: GrantId,
        cx: &mut Context<'_>,
    ) -> Result<DeviceAnswer, Refusal> {
        let grant = self.grant(id)?.ok_or(Refusal::new(Code::GrantUnknown))?;
        rule!(13, self.forget_grant(id)?, ());
        if !grant.derived_under.is_empty() {
            // Deriving the key again gives no grant again.
            self.put(Table::Settings, &ended_key(grant.given.guest, grant.given.reference.item), &true)?;
        }
        self.void_for_guest(Some(grant.given.guest))?;
        self.move_floor();
        let mut event = self.event(Actor::Device(device), Action::GrantRevoke, cx);
        event.grant = Some(id);
        event.guest = Some(grant.given.guest);
        self.log(event, cx)?;
        Ok(DeviceAnswer::Done {})
    }

    /// Removes a grant, and those of keys that were derived under it.
    pub(crate) fn forget_grant(&mut self, id: GrantId) -> Result<(), Refusal> {
        self.cancel(|running| running.grants.contains(&id));
        for (other, grant) in self.grants()?.iter() {
            if *other == id || grant.derived_under.contains(&id) {
                self.delete(Table::Grants, other.as_bytes())?;
                self.delete(Table::GrantUses, other.as_bytes())?;
            }
        }
        Ok(())
    }

    /// Ends every grant on an item that is removed.
    pub(crate) fn end_grants_of(&mut self, item: ItemId, cx: &mut Context<'_>) -> Result<(), Refusal> {
        for (id, _) in self.grants()?.iter().filter(|(_, grant)| grant.given.reference.item == item) {
            self.forget_grant(*id)?;
            let mut event = self.event(Actor::Vault, Action::GrantRevoke, cx);
            event.grant = Some(*id);
            self.log(event, cx)?;
        }
        Ok(())
    }

    /// What a guest was granted, as it may know it.
    pub(crate) fn granted(&mut self, guest: GuestId, cx: &Context<'_>) -> Result<GuestAnswer, Refusal> {
        let now = self.now(cx);
        let mut granted = Vec::new();
        for (id, grant) in self.grants()?.iter() {
            let given = &grant.given;
            if given.guest != guest || given.limits.expires_at.is_some_and(|end| end <= now) {
                continue;
            }
            let item: Item = self.live_item(given.reference.item)?;
            let hosts = match (&item.policy.http, given.consumer) {
                (Some(policy), Consumer::Http) => {
                    let rules = HttpRules::new(policy, &given.limits.http.clone().unwrap_or_default());
                    rules.hosts().iter().map(ToString::to_string).collect()
                }
                _ => Vec::new(),
            };
            granted.push(Granted {
                grant: *id,
                reference: given.reference.clone(),
                label: item.label,
                item_type: item.item_type,
                consumer: given.consumer,
                limits: given.limits.clone(),
                hosts,
                mode: given.mode,
            });
        }
        Ok(GuestAnswer::List { granted })
    }
}

/// Calls a minute that a grant allows.
pub(crate) fn calls_per_minute(limits: &Limits) -> u32 {
    limits.calls_per_minute_max.unwrap_or(strongroom_wire::limits::CALLS_PER_MINUTE_DEFAULT)
}

fn guest_view(body: &GuestBody, record: &GuestRecord, grants: u64, seen: Option<Timestamp>) -> GuestView {
    GuestView {
        id: body.id,
        name: body.name.clone(),
        kind: body.kind,
        added_at: body.added_at,
        last_seen_at: seen,
        suspended: record.suspended,
        grants,
    }
}

fn grant_view(id: GrantId, grant: &Grant, used: &GrantUse, guest_name: &str, item_label: &str) -> GrantView {
    GrantView {
        id,
        grant: grant.given.clone(),
        guest_name: guest_name.to_owned(),
        item_label: item_label.to_owned(),
        added_at: grant.added_at,
        uses: used.uses,
        bytes: used.bytes,
        used_at: used.used_at,
    }
}

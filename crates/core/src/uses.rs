//! The use of a secret: which grants allow it, its intent and its outcome in the log, and the consumer in between.

use std::cmp::Reverse;

use strongroom_crypto::digest::sha256;
use strongroom_crypto::locked::SecretBytes;
use strongroom_wire::device::{DeviceAnswer, GrantAdd};
use strongroom_wire::event::{Action, Actor, Event};
use strongroom_wire::guest::{Call, CryptCall, GuestAnswer, GuestRequest, HttpCall, UseCall, UseRequest, UseResult};
use strongroom_wire::items::{FieldDraft, ItemDraft, Origin};
use strongroom_wire::policy::{
    Consumer, CryptOperation, HttpLimits, ItemPolicy, KeyAlgorithm, KeyPolicy, KeyPurpose, Limits, Mode, SignTemplate,
};
use strongroom_wire::target::{HttpRules, Target};
use strongroom_wire::template::{check_crypt, check_template};
use strongroom_wire::{
    ApprovalId, Class, Code, DeviceId, FieldName, GrantId, GuestId, ItemId, ItemType, Reference, Refusal, SecretValue,
    Timestamp, limits,
};

use crate::approvals::Cover;
use crate::chains::Contents;
use crate::consumers::CryptOutput;
use crate::guests::{Grant, GrantUse, calls_per_minute, ended_key};
use crate::items::{Field, Item};
use crate::planted::rule;
use crate::records::{Storage, Table};
use crate::table::{Operation, Who, freshness};
use crate::vault::{Context, Effect, Peer, ReplyTo, Request, Vault, guest_body, random_id};

/// The grants that allow a use, and what they say together.
pub(crate) struct Matched {
    pub(crate) grants: Vec<GrantId>,
    pub(crate) mode: Mode,
    pub(crate) item: Item,
    pub(crate) field: Field,
    pub(crate) http: Option<(HttpRules, HttpLimits)>,
    pub(crate) template: Option<SignTemplate>,
    pub(crate) bytes_left: Option<u64>,
    /// Those of the grants that limit bytes.
    pub(crate) metered: Vec<GrantId>,
    /// When the first of the grants ends.
    pub(crate) until: Option<Timestamp>,
    /// The path prefix of a grant that matched, or the path itself.
    pub(crate) path_prefix: Option<String>,
}

impl<S: Storage> Vault<S> {
    /// What a guest asks.
    pub(crate) fn guest_request(
        &mut self,
        guest: GuestId,
        request: &Request<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Option<GuestAnswer>, Refusal> {
        let body = guest_body(request.body)?;
        let Some(open) = self.open.as_ref().filter(|open| rule!(11, open.live.confirmed, true)) else {
            if !std::mem::replace(&mut self.told_locked, true) {
                self.effects.push(Effect::Notice("guest.locked"));
            }
            return Err(Code::VaultLocked.into());
        };
        if open.live.suspended {
            return Err(Code::GuestSuspended.into());
        }
        if self.clock.disagrees(cx.moment) {
            return Err(Code::ClockDisagrees.into());
        }
        let (_, record) = self.guest(guest)?;
        if rule!(10, record.suspended, false) {
            return Err(Code::GuestSuspended.into());
        }
        if let Some(operation) = Operation::of_guest(&body) {
            freshness(operation, Who::Guest, None).ok_or(Refusal::new(Code::NotAllowed))?;
            self.check_disk(operation, cx)?;
        }
        match body {
            GuestRequest::List {} => self.granted(guest, cx).map(Some),
            GuestRequest::Request(wish) => {
                self.in_transaction(cx, |vault, cx| vault.ask_for_grant(guest, wish, cx)).map(Some)
            }
            GuestRequest::Poll { approval, wait_secs } => self.poll(guest, approval, wait_secs, request.to, cx),
            GuestRequest::Use(wanted) => {
                let reference = wanted.call.as_ref().map(|call| call.reference.clone());
                let result = self.in_transaction(cx, |vault, cx| vault.guest_use(guest, wanted, request, cx));
                if let Err(refusal) = &result {
                    self.note_refused_use(guest, reference, refusal, cx)?;
                }
                result
            }
        }
    }

    fn guest_use(
        &mut self,
        guest: GuestId,
        wanted: UseRequest,
        request: &Request<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Option<GuestAnswer>, Refusal> {
        if wanted.reason.as_ref().is_some_and(|reason| reason.chars().count() > limits::REASON_CHARS_MAX) {
            return Err(Refusal::new(Code::ValueRefused).detail("The reason is too long."));
        }
        let (call, approved) = match (wanted.call, wanted.handle) {
            (None, Some(handle)) => {
                let (call, approval) = self.take_handle(guest, handle, cx)?;
                (call, Some((approval, handle)))
            }
            (Some(call), None) => (call, None),
            _ => return Err(Refusal::new(Code::RequestMalformed).detail("Name either a call or a handle.")),
        };
        let matched = self.match_grants(guest, &call, cx)?;
        self.check_disk(Operation::of_consumer(call.call.consumer()), cx)?;
        let approval = match (approved, matched.mode) {
            (Some((approval, _)), _) => Some(approval),
            (None, Mode::Always) => None,
            (None, Mode::AskOnce { secs }) => match self.covered(guest, &call, &matched, cx)? {
                Some(approval) => Some(approval),
                None => return self.ask(guest, call, wanted.reason, Some(secs), &matched, cx).map(Some),
            },
            (None, Mode::Ask) => return self.ask(guest, call, wanted.reason, None, &matched, cx).map(Some),
        };
        self.count_use(&matched.grants, cx)?;
        let mut intent = self.event(Actor::Guest(guest), Action::UseIntent, cx);
        intent.approval = approval;
        intent.grant = matched.grants.first().copied();
        let result = self.run(Peer::Guest(guest), call, matched, intent, None, request.to, cx)?;
        if let Some(result) = result {
            self.effects.push(Effect::Guest(request.to, result.map(GuestAnswer::Used).map_err(Refusal::for_guest)));
        }
        Ok(None)
    }

    /// The grants that allow a use. Whatever is absent, removed, or not this guest's is `reference_unknown`, all alike.
    pub(crate) fn match_grants(
        &mut self,
        guest: GuestId,
        call: &UseCall,
        cx: &Context<'_>,
    ) -> Result<Matched, Refusal> {
        let now = self.now(cx);
        let consumer = call.call.consumer();
        let unknown = || Refusal::new(Code::ReferenceUnknown);
        let mut grants = Vec::new();
        let mut expired = false;
        let all = self.grants()?;
        let over = |given: &GrantAdd| given.limits.expires_at.is_some_and(|end| rule!(2, end <= now, false));
        for (id, grant) in all.iter() {
            let given = &grant.given;
            if given.guest != guest || given.reference != call.reference || given.consumer != consumer {
                continue;
            }
            let Some(above) = above(&all, grant) else { continue };
            if over(given) || above.iter().any(|(_, grant)| over(&grant.given)) {
                expired = true;
                continue;
            }
            grants.push((*id, given.clone()));
        }
        if grants.is_empty() {
            return Err(if expired { Refusal::new(Code::LimitExpired) } else { unknown() });
        }
        let item = self.live_item(call.reference.item).map_err(|_| unknown())?;
        let field = self.field(&call.reference).map_err(|_| unknown())?;
        freshness(Operation::of_consumer(consumer), Who::Guest, Some(field.class)).ok_or_else(unknown)?;
        let scoped = self.in_scope(call, &item, grants, self.clock.of_day(cx.moment))?;
        let mut matched = scoped.into_matched(item, field)?;
        // What was derived under a grant is counted under it too.
        for (id, grant) in all.iter() {
            if matched.grants.contains(id) {
                for id in &grant.derived_under {
                    if !matched.grants.contains(id) {
                        matched.grants.push(*id);
                    }
                }
            }
        }
        self.check_counts(&mut matched, &call.call, cx)?;
        Ok(matched)
    }

    /// Of the grants, those whose hosts, methods, paths, messages or operations hold this call.
    fn in_scope(
        &self,
        call: &UseCall,
        item: &Item,
        grants: Vec<(GrantId, GrantAdd)>,
        now: Timestamp,
    ) -> Result<Scoped, Refusal> {
        let mut scoped = Scoped::default();
        let mut miss = None;
        match &call.call {
            Call::Http(http) => {
                let policy = item.policy.http.as_ref().ok_or(Refusal::new(Code::PolicyMissing))?;
                let target = Target::parse(&http.url)?;
                let mut elsewhere = Vec::new();
                for (id, given) in grants {
                    let http_limits = given.limits.http.clone().unwrap_or_default();
                    let rules = HttpRules::new(policy, &http_limits);
                    match rules.check(&http.method, &target) {
                        Ok(()) => {
                            let prefix = http_limits
                                .path_prefixes
                                .iter()
                                .filter(|prefix| within(prefix, target.path()))
                                .max_by_key(|prefix| prefix.len());
                            scoped.path_prefix = Some(prefix.cloned().unwrap_or_else(|| target.path().to_owned()));
                            scoped.http = Some(match scoped.http.take() {
                                None => (rules, http_limits),
                                Some((mut joined, of_all)) => {
                                    joined.narrow(&http_limits);
                                    (joined, join(of_all, &http_limits))
                                }
                            });
                            scoped.grants.push((id, given));
                        }
                        Err(refusal) => {
                            miss = Some(refusal);
                            elsewhere.push(rules);
                        }
                    }
                }
                if let Some((rules, _)) = &mut scoped.http {
                    elsewhere.into_iter().for_each(|other| rules.leave_out(other));
                }
            }
            Call::Sign(sign) => {
                let key = item.policy.key.ok_or(Refusal::new(Code::PolicyMissing))?;
                for (id, given) in grants {
                    match check_template(sign, key, given.limits.sign.as_ref(), true, now) {
                        Ok(()) => {
                            scoped.template = match (scoped.template.take(), &given.limits.sign) {
                                (Some(joined), Some(template)) => Some(joined.join(template)?),
                                (one, template) => one.or_else(|| template.clone()),
                            };
                            scoped.grants.push((id, given));
                        }
                        Err(refusal) => miss = Some(refusal),
                    }
                }
                if scoped.grants.len() > 1 {
                    check_template(sign, key, scoped.template.as_ref(), true, now)?;
                }
            }
            Call::Totp(_) => scoped.grants = grants,
            Call::Crypt(crypt) => {
                let key = item.policy.key.ok_or(Refusal::new(Code::PolicyMissing))?;
                check_crypt(crypt, key)?;
                for (id, given) in grants {
                    if given.limits.crypt.contains(&crypt.operation()) {
                        scoped.grants.push((id, given));
                    } else {
                        miss = Some(Refusal::new(Code::LimitOperation));
                    }
                }
            }
        }
        match miss {
            Some(refusal) if scoped.grants.is_empty() => Err(refusal),
            _ => Ok(scoped),
        }
    }

    /// The limits that count: uses, rate, bytes, hours. All of them, of every grant that matched.
    fn check_counts(&mut self, matched: &mut Matched, call: &Call, cx: &Context<'_>) -> Result<(), Refusal> {
        let (now, ticks) = (self.now(cx), cx.moment.ticks_ms);
        for id in matched.grants.clone() {
            let grant = self.grant(id)?.ok_or(Refusal::new(Code::ReferenceUnknown))?;
            let used: GrantUse = self.get(Table::GrantUses, id.as_bytes())?.unwrap_or_default();
            let limits = &grant.given.limits;
            matched.until = matched.until.into_iter().chain(limits.expires_at).min();
            if limits.uses_max.is_some_and(|max| used.uses >= max) {
                return Err(Code::LimitUses.into());
            }
            if limits.hours.is_some_and(|hours| !hours.contain(now)) {
                return Err(Code::LimitHours.into());
            }
            if let Some(max) = limits.bytes_max {
                let left = max.saturating_sub(used.bytes);
                if left == 0 || inline_bytes(call) > left {
                    return Err(Code::LimitBytes.into());
                }
                // An exchange under way may use up all that is left, so only one of them runs at a time.
                if self.opened()?.0.running.values().any(|running| !running.written && running.grants.contains(&id)) {
                    return Err(Refusal::new(Code::Busy).retry_secs(1));
                }
                matched.metered.push(id);
                matched.bytes_left = Some(matched.bytes_left.map_or(left, |other| other.min(left)));
            }
            let (open, _) = self.opened()?;
            let calls = open.rates.entry(id).or_default();
            while calls.front().is_some_and(|at| *at + 60_000 <= ticks) {
                calls.pop_front();
            }
            if rule!(14, calls.len() >= calls_per_minute(limits) as usize, false) {
                let wait = calls.front().map_or(60_000, |at| at + 60_000 - ticks);
                return Err(Refusal::new(Code::LimitRate).retry_secs(wait.div_ceil(1_000)));
            }
        }
        Ok(())
    }

    fn count_use(&mut self, grants: &[GrantId], cx: &Context<'_>) -> Result<(), Refusal> {
        let (now, ticks) = (self.now(cx), cx.moment.ticks_ms);
        for id in grants {
            let mut used: GrantUse = self.get(Table::GrantUses, id.as_bytes())?.unwrap_or_default();
            used.uses += rule!(1, 1, 0);
            used.used_at = Some(now);
            self.put(Table::GrantUses, id.as_bytes(), &used)?;
            self.opened()?.0.rates.entry(*id).or_default().push_back(ticks);
        }
        Ok(())
    }

    /// Logs the intent and runs the consumer. `None`: it goes on outside, as an [`HttpRun`](crate::HttpRun).
    #[expect(clippy::too_many_arguments, reason = "one use, with all that was decided about it")]
    fn run(
        &mut self,
        peer: Peer,
        call: UseCall,
        matched: Matched,
        mut intent: Event,
        contents: Option<&Contents>,
        to: ReplyTo,
        cx: &mut Context<'_>,
    ) -> Result<Option<Result<UseResult, Refusal>>, Refusal> {
        intent.reference = Some(call.reference.clone());
        intent.field_version = Some(matched.field.version);
        intent.consumer = Some(call.call.consumer());
        intent.destination = Some(destination(&call.call)?);
        let actor = intent.actor;
        let grant = intent.grant;
        match call.call {
            Call::Http(http) => {
                self.run_http(peer, call.reference, http, matched, intent, to, cx)?;
                Ok(None)
            }
            other => {
                let index = self.log(intent, cx)?;
                // What a consumer leaves behind stands or falls with its result; the use is counted either way.
                let result = self.in_transaction(cx, |vault, cx| {
                    vault.consume(peer, &call.reference, &other, &matched, contents, cx)
                });
                let mut outcome = self.event(actor, Action::UseOutcome, cx);
                outcome.intent = Some(index);
                outcome.grant = grant;
                match &result {
                    Ok(_) => outcome.status = Some(0),
                    Err(refusal) => outcome.code = Some(refusal.code),
                }
                self.log(outcome, cx)?;
                Ok(Some(result))
            }
        }
    }

    /// The consumers that are done at once.
    fn consume(
        &mut self,
        peer: Peer,
        reference: &Reference,
        call: &Call,
        matched: &Matched,
        contents: Option<&Contents>,
        cx: &mut Context<'_>,
    ) -> Result<UseResult, Refusal> {
        let now = self.clock.of_day(cx.moment);
        let for_guest = matches!(peer, Peer::Guest(_));
        let key = || matched.item.policy.key.ok_or(Refusal::new(Code::PolicyMissing));
        match call {
            Call::Sign(sign) => {
                let value = self.open_value(reference, &matched.field, contents)?;
                cx.consumers.sign(&value, key()?, sign, matched.template.as_ref(), for_guest, now, cx.rng)
            }
            Call::Totp(_) => {
                let value = self.open_value(reference, &matched.field, contents)?;
                let result = cx.consumers.totp(&value, now, matched.item.counter)?;
                if matches!(result, UseResult::Code { valid_secs: None, .. }) {
                    let mut item = self.live_item(reference.item)?;
                    item.counter += rule!(18, 1, 0);
                    self.put(Table::Items, reference.item.as_bytes(), &item)?;
                }
                Ok(result)
            }
            Call::Crypt(crypt) => {
                let versions = self.key_versions(reference, &matched.field)?;
                match cx.consumers.crypt(reference.item, &versions, key()?, crypt, cx.rng)? {
                    CryptOutput::Result(result) => Ok(result),
                    CryptOutput::Derived(derived) => self.keep_derived(peer, reference, crypt, &derived, matched, cx),
                }
            }
            Call::Http(_) => Err(Code::Bug.into()),
        }
    }

    fn key_versions(&mut self, reference: &Reference, field: &Field) -> Result<Vec<(u32, SecretBytes)>, Refusal> {
        let mut versions = Vec::new();
        let older = self.older_versions(reference)?;
        for field in std::iter::once(field).chain(&older) {
            let version = u32::try_from(field.version).map_err(|_| Refusal::new(Code::TooMany))?;
            versions.push((version, self.open_value(reference, field, None)?));
        }
        Ok(versions)
    }

    /// A derived key becomes an item; the same derivation again gives the same item.
    fn keep_derived(
        &mut self,
        peer: Peer,
        from: &Reference,
        call: &CryptCall,
        derived: &SecretBytes,
        matched: &Matched,
        cx: &mut Context<'_>,
    ) -> Result<UseResult, Refusal> {
        let CryptCall::Derive { purpose, context } = call else { return Err(Code::Bug.into()) };
        let (algorithm, operations) = match purpose {
            KeyPurpose::Encrypt => (
                KeyAlgorithm::Xchacha20Poly1305,
                vec![CryptOperation::Encrypt, CryptOperation::Decrypt, CryptOperation::Rewrap],
            ),
            KeyPurpose::Mac => (KeyAlgorithm::HmacSha256, vec![CryptOperation::Mac, CryptOperation::VerifyMac]),
            _ => return Err(Code::ValueRefused.into()),
        };
        // What was asked for names the key, not its value: the same derivation finds it again under every vault key.
        let version = matched.field.version.to_be_bytes();
        let digest = sha256(&[purpose.as_str().as_bytes(), &[0], &version, &context.0]);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let origin = Origin { source: "derived".into(), id: format!("{from}/{hex}") };
        let origin_key = [origin.source.as_bytes(), &[0], origin.id.as_bytes()].concat();
        let field = FieldName::parse("key").map_err(|_| Refusal::new(Code::Bug))?;
        let known: Option<ItemId> = self.get(Table::Origins, &origin_key)?;
        let id = match known {
            Some(id) => id,
            None => {
                self.check_room()?;
                let id = ItemId(random_id(cx.rng));
                // EXPOSE: into a draft that wipes it; the value is the 32 bytes as they are.
                let draft = ItemDraft {
                    item_type: ItemType::CryptKey,
                    label: format!("{} (derived)", matched.item.label.chars().take(200).collect::<String>()),
                    tags: Vec::new(),
                    fields: vec![FieldDraft {
                        name: field.clone(),
                        class: Class::Secret,
                        value: SecretValue::new(derived.expose().to_vec()),
                    }],
                    policy: ItemPolicy { http: None, key: Some(KeyPolicy { purpose: *purpose, algorithm }) },
                    origin: Some(origin),
                };
                self.insert(id, draft, None, cx)?;
                let mut event = self.event(Actor::Vault, Action::ItemAdd, cx);
                event.item = Some(id);
                self.log(event, cx)?;
                id
            }
        };
        let reference = Reference { item: id, field };
        if let Peer::Guest(guest) = peer {
            self.grant_derived(guest, &reference, operations, matched, cx)?;
        }
        Ok(UseResult::Derived { reference })
    }

    /// Whoever may derive a key may use it, within the limits of what it was derived under.
    fn grant_derived(
        &mut self,
        guest: GuestId,
        reference: &Reference,
        crypt: Vec<CryptOperation>,
        matched: &Matched,
        cx: &mut Context<'_>,
    ) -> Result<(), Refusal> {
        let Some(first) = matched.grants.first() else { return Ok(()) };
        if self.get::<bool>(Table::Settings, &ended_key(guest, reference.item))?.unwrap_or(false) {
            return Ok(());
        }
        for (id, grant) in self.grants()?.iter() {
            if grant.given.guest == guest && grant.given.reference == *reference {
                if grant.derived_under.is_empty() || grant.derived_under == matched.grants {
                    return Ok(());
                }
                // What it was derived under before may be over by now.
                self.forget_grant(*id)?;
            }
        }
        let above = self.grant(*first)?.ok_or(Refusal::new(Code::ReferenceUnknown))?;
        let add = GrantAdd {
            guest,
            reference: reference.clone(),
            consumer: Consumer::Crypt,
            limits: Limits { crypt, ..above.given.limits },
            mode: matched.mode,
        };
        self.grant_add(Actor::Vault, &add, matched.grants.clone(), cx).map(|_| ())
    }

    /// The member's own use.
    pub(crate) fn device_use(
        &mut self,
        device: DeviceId,
        call: UseCall,
        contents: Option<&Contents>,
        to: ReplyTo,
        cx: &mut Context<'_>,
    ) -> Result<Option<DeviceAnswer>, Refusal> {
        let item = self.live_item(call.reference.item)?;
        let field = self.field(&call.reference)?;
        match &call.call {
            Call::Sign(sign) => {
                let key = item.policy.key.ok_or(Refusal::new(Code::PolicyMissing))?;
                check_template(sign, key, None, false, self.clock.of_day(cx.moment))?;
            }
            Call::Crypt(crypt) => check_crypt(crypt, item.policy.key.ok_or(Refusal::new(Code::PolicyMissing))?)?,
            Call::Http(_) | Call::Totp(_) => {}
        }
        let matched = Matched {
            grants: Vec::new(),
            mode: Mode::Always,
            item,
            field,
            http: None,
            template: None,
            bytes_left: None,
            metered: Vec::new(),
            until: None,
            path_prefix: None,
        };
        let intent = self.event(Actor::Device(device), Action::UseIntent, cx);
        let result = self.run(Peer::Device(device), call, matched, intent, contents, to, cx)?;
        if let Some(result) = result {
            if contents.is_some() {
                return result.map(|result| Some(DeviceAnswer::Used(result)));
            }
            self.effects.push(Effect::Device(to, result.map(DeviceAnswer::Used)));
        }
        Ok(None)
    }

    /// A refused use is logged; of many alike in a minute the first, and then their number.
    fn note_refused_use(
        &mut self,
        guest: GuestId,
        reference: Option<Reference>,
        refusal: &Refusal,
        cx: &mut Context<'_>,
    ) -> Result<(), Refusal> {
        let ticks = cx.moment.ticks_ms;
        let Some(open) = &mut self.open else { return Ok(()) };
        let (since, count) = open.refusals.entry((guest, refusal.code)).or_insert((0, 0));
        *count += 1;
        if *since != 0 && *since + 60_000 > ticks {
            return Ok(());
        }
        let counted = std::mem::take(count);
        *since = ticks.max(1);
        let mut event = self.event(Actor::Guest(guest), Action::UseRefused, cx);
        event.reference = reference;
        event.code = Some(refusal.code);
        event.count = (counted > 1).then_some(counted);
        self.in_transaction(cx, |vault, cx| vault.log(event, cx)).map(|_| ())
    }

    /// A live answer of the member that covers this use.
    fn covered(
        &mut self,
        guest: GuestId,
        call: &UseCall,
        matched: &Matched,
        cx: &Context<'_>,
    ) -> Result<Option<ApprovalId>, Refusal> {
        let cover = Cover::of(call, matched)?;
        self.find_cover(guest, &cover, call, matched, cx)
    }
}

/// The grants under which the key of another was derived; `None` where one of them has ended.
fn above<'a>(all: &'a [(GrantId, Grant)], grant: &Grant) -> Option<Vec<&'a (GrantId, Grant)>> {
    grant.derived_under.iter().map(|id| all.iter().find(|(other, _)| other == id)).collect()
}

/// The grants whose scope holds a call.
#[derive(Default)]
struct Scoped {
    grants: Vec<(GrantId, GrantAdd)>,
    http: Option<(HttpRules, HttpLimits)>,
    template: Option<SignTemplate>,
    path_prefix: Option<String>,
}

impl Scoped {
    fn into_matched(self, item: Item, field: Field) -> Result<Matched, Refusal> {
        let modes = self.grants.iter().map(|(_, given)| given.mode);
        let mode = rule!(20, modes.max_by_key(strictness), modes.min_by_key(strictness))
            .ok_or(Refusal::new(Code::ReferenceUnknown))?;
        Ok(Matched {
            grants: self.grants.into_iter().map(|(id, _)| id).collect(),
            mode,
            item,
            field,
            http: self.http,
            template: self.template,
            bytes_left: None,
            metered: Vec::new(),
            until: None,
            path_prefix: self.path_prefix,
        })
    }
}

/// How strict a mode is: to ask each time is stricter than once, and once for a short while than for a long one.
fn strictness(mode: &Mode) -> (u8, Reverse<u64>) {
    match mode {
        Mode::Always => (0, Reverse(0)),
        Mode::AskOnce { secs } => (1, Reverse(*secs)),
        Mode::Ask => (2, Reverse(0)),
    }
}

/// Whether a path lies under a prefix, by whole segments.
pub(crate) fn within(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'))
}

/// Limits on bodies and cookies of two grants together: the narrower of each.
fn join(a: HttpLimits, b: &HttpLimits) -> HttpLimits {
    let smaller = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    };
    HttpLimits {
        body_bytes_max: smaller(a.body_bytes_max, b.body_bytes_max),
        set_cookie: a.set_cookie && b.set_cookie,
        ..a
    }
}

/// Where a use goes, for the log: method, host and path without query; or the operation.
pub(crate) fn destination(call: &Call) -> Result<String, Refusal> {
    Ok(match call {
        Call::Http(http) => {
            let target = Target::parse(&http.url)?;
            format!("{} {}{}", http.method, target.destination(), target.path())
        }
        Call::Sign(sign) => match sign {
            strongroom_wire::guest::SignCall::Message { .. } => "message".into(),
            strongroom_wire::guest::SignCall::Ssh { namespace, .. } => format!("ssh {namespace}"),
            strongroom_wire::guest::SignCall::Jwt { .. } => "jwt".into(),
        },
        Call::Totp(_) => "code".into(),
        Call::Crypt(crypt) => crypt.operation().to_string(),
    })
}

fn inline_bytes(call: &Call) -> u64 {
    let bytes = match call {
        Call::Http(HttpCall { body: strongroom_wire::guest::HttpBody::Inline(bytes), .. }) => bytes.0.len(),
        _ => 0,
    };
    bytes as u64
}

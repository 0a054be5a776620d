//! Questions to the member: asked, shown as they are, answered once, void when what they rest on changes.

use serde::{Deserialize, Serialize};
use strongroom_crypto::digest::{equal, sha256};
use strongroom_crypto::sign::Request as RequestHash;
use strongroom_wire::device::{ApprovalAnswer, ApprovalView, DeviceAnswer, Question};
use strongroom_wire::event::{Action, Actor};
use strongroom_wire::frame;
use strongroom_wire::guest::{
    ApprovalState, Call, CryptCall, GrantWish, GuestAnswer, HttpBody, Pending, SignCall, UseCall,
};
use strongroom_wire::policy::Consumer;
use strongroom_wire::target::Target;
use strongroom_wire::{
    ApprovalId, Bytes, Code, DeviceId, GrantId, GuestId, HandleId, ItemId, Reference, Refusal, Timestamp, limits,
};

use crate::planted::rule;
use crate::records::{Storage, Table};
use crate::uses::{Matched, destination, within};
use crate::vault::{Audience, Context, Effect, ReplyTo, Vault, check_text, random_id};

/// A question as it lies in the database.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Approval {
    guest: GuestId,
    subject: Subject,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    asked_at: Timestamp,
    expires_at: Timestamp,
    request_hash: Bytes,
    state: State,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Subject {
    Use {
        call: UseCall,
        grants: Vec<GrantId>,
        field_version: u64,
        policy_version: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cover: Option<(u64, Cover)>,
    },
    Wish(GrantWish),
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum State {
    Pending {},
    Approved { handle: HandleId, until: Timestamp },
    Granted {},
    Refused { code: Code },
}

/// What an `ask once` answer covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cover {
    reference: Reference,
    consumer: Consumer,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_prefix: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
}

impl Cover {
    /// What an answer to this call would cover.
    pub(crate) fn of(call: &UseCall, matched: &Matched) -> Result<Self, Refusal> {
        let mut cover = Self {
            reference: call.reference.clone(),
            consumer: call.call.consumer(),
            host: None,
            method: None,
            path_prefix: None,
            operation: None,
        };
        if let Call::Http(http) = &call.call {
            cover.host = Some(Target::parse(&http.url)?.destination().to_string());
            cover.method = Some(http.method.clone());
            cover.path_prefix.clone_from(&matched.path_prefix);
        } else {
            cover.operation = Some(destination(&call.call)?);
        }
        Ok(cover)
    }

    fn holds(&self, wanted: &Self, path: Option<&str>) -> bool {
        let path_fits = match (&self.path_prefix, path) {
            (Some(prefix), Some(path)) => within(prefix, path),
            (None, None) => true,
            _ => false,
        };
        self.reference == wanted.reference
            && self.consumer == wanted.consumer
            && self.host == wanted.host
            && self.method == wanted.method
            && self.operation == wanted.operation
            && path_fits
    }
}

/// A handle as it lies in the database.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Handle {
    guest: GuestId,
    approval: ApprovalId,
    grants: Vec<GrantId>,
    item: ItemId,
    field_version: u64,
    policy_version: u64,
    expires_at: Timestamp,
    /// What it covers; absent for a handle that runs the approved request once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cover: Option<Cover>,
}

/// A request whose answer waits for a change.
pub(crate) struct Waiting {
    pub(crate) to: ReplyTo,
    pub(crate) until_ticks_ms: u64,
    pub(crate) what: WaitingFor,
}

pub(crate) enum WaitingFor {
    /// A guest's approval.
    Approval(GuestId, ApprovalId),
    /// The list of approvals, other than the one with this number.
    List(u64),
    /// An event of the log from this index on.
    Log(u64, u64),
}

impl Waiting {
    pub(crate) fn refuse(&self, refusal: Refusal) -> Effect {
        match self.what {
            WaitingFor::Approval(..) => Effect::Guest(self.to, Err(refusal.for_guest())),
            WaitingFor::List(_) | WaitingFor::Log(..) => Effect::Device(self.to, Err(refusal)),
        }
    }
}

impl<S: Storage> Vault<S> {
    /// Asks the member for a grant that a guest wishes.
    pub(crate) fn ask_for_grant(
        &mut self,
        guest: GuestId,
        wish: GrantWish,
        cx: &mut Context<'_>,
    ) -> Result<GuestAnswer, Refusal> {
        let long = |text: &str| text.chars().count() > limits::REASON_CHARS_MAX;
        if long(&wish.subject) || long(&wish.reason) || wish.host.as_deref().is_some_and(long) {
            return Err(Refusal::new(Code::ValueRefused).detail("The wish is too long."));
        }
        for text in [Some(&wish.subject), Some(&wish.reason), wish.host.as_ref()].into_iter().flatten() {
            check_text(text)?;
        }
        if !wish.consumer.for_guests() {
            return Err(Code::NotAllowed.into());
        }
        let json = serde_json::to_vec(&wish).map_err(|_| Refusal::new(Code::Bug))?;
        let mut nonce = [0; 16];
        cx.rng.fill_bytes(&mut nonce);
        let body_hash = sha256(&[&json]);
        let hash = RequestHash {
            vault: self.id.as_bytes(),
            guest: guest.as_bytes(),
            reference: "",
            field_version: 0,
            consumer: wish.consumer.as_str(),
            method: "request",
            url: "",
            headers: &[],
            body_hash: Some(&body_hash),
            policy_version: 0,
            nonce: &nonce,
        }
        .hash();
        let reason = Some(wish.reason.clone());
        self.open_question(guest, Subject::Wish(wish), reason, hash, Action::GrantWish, cx)
    }

    /// Asks the member for a use.
    pub(crate) fn ask(
        &mut self,
        guest: GuestId,
        call: UseCall,
        reason: Option<String>,
        once_secs: Option<u64>,
        matched: &Matched,
        cx: &mut Context<'_>,
    ) -> Result<GuestAnswer, Refusal> {
        if let Some(reason) = &reason {
            check_text(reason)?;
        }
        let mut nonce = [0; 16];
        cx.rng.fill_bytes(&mut nonce);
        let hash = self.request_hash(guest, &call, matched, &nonce)?;
        let cover = match once_secs {
            Some(secs) => Some((secs, Cover::of(&call, matched)?)),
            None => None,
        };
        let subject = Subject::Use {
            call,
            grants: matched.grants.clone(),
            field_version: matched.field.version,
            policy_version: matched.item.policy_version,
            cover,
        };
        self.open_question(guest, subject, reason, hash, Action::ApprovalAsk, cx)
    }

    fn open_question(
        &mut self,
        guest: GuestId,
        subject: Subject,
        reason: Option<String>,
        hash: [u8; 32],
        action: Action,
        cx: &mut Context<'_>,
    ) -> Result<GuestAnswer, Refusal> {
        let pending = self
            .all::<Approval>(Table::Approvals, &[])?
            .iter()
            .filter(|(_, approval)| approval.guest == guest && matches!(approval.state, State::Pending {}))
            .count();
        if pending >= limits::APPROVALS_PER_GUEST_MAX {
            return Err(Code::ApprovalsFull.into());
        }
        let id = ApprovalId(random_id(cx.rng));
        let now = self.now(cx);
        let expires_at = now.plus_secs(limits::APPROVAL_SECS);
        let mut event = self.event(Actor::Guest(guest), action, cx);
        event.approval = Some(id);
        if let Subject::Use { call, .. } = &subject {
            event.reference = Some(call.reference.clone());
            event.consumer = Some(call.call.consumer());
            event.destination = Some(crate::uses::destination(&call.call)?);
        }
        let approval = Approval {
            guest,
            subject,
            reason,
            asked_at: now,
            expires_at,
            request_hash: Bytes::from(hash),
            state: State::Pending {},
        };
        self.put(Table::Approvals, id.as_bytes(), &approval)?;
        self.log(event, cx)?;
        let (open, _) = self.opened()?;
        open.live_mut().approval_deadlines.insert(id, expires_at);
        self.approvals_changed();
        self.effects.push(Effect::Notice("approval_ask"));
        Ok(GuestAnswer::Pending(Pending { approval: id, expires_at }))
    }

    fn approvals_changed(&mut self) {
        if let Some(open) = &mut self.open {
            open.live_mut().approvals_number += 1;
        }
        self.effects.push(Effect::Tell(frame::Event::Approvals {}, Audience::Devices));
    }

    /// docs/cryptography.md, section 7.
    fn request_hash(
        &self,
        guest: GuestId,
        call: &UseCall,
        matched: &Matched,
        nonce: &[u8; 16],
    ) -> Result<[u8; 32], Refusal> {
        let reference = call.reference.to_string();
        let canonical = Canonical::of(&call.call)?;
        let headers: Vec<(&[u8], &[u8])> =
            canonical.headers.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect();
        Ok(RequestHash {
            vault: self.id.as_bytes(),
            guest: guest.as_bytes(),
            reference: &reference,
            field_version: matched.field.version,
            consumer: call.call.consumer().as_str(),
            method: &canonical.method,
            url: &canonical.url,
            headers: &headers,
            body_hash: canonical.body_hash.as_ref(),
            policy_version: matched.item.policy_version,
            nonce,
        }
        .hash())
    }

    /// The questions that wait, oldest first.
    pub(crate) fn approval_list(
        &mut self,
        after: u64,
        wait_secs: u64,
        to: ReplyTo,
        cx: &Context<'_>,
    ) -> Result<Option<DeviceAnswer>, Refusal> {
        let (open, _) = self.opened()?;
        let number = open.live.approvals_number;
        if after == number && wait_secs > 0 {
            let until_ticks_ms = cx.moment.ticks_ms + wait_secs.min(60) * 1_000;
            open.waiting.push(Waiting { to, until_ticks_ms, what: WaitingFor::List(after) });
            return Ok(None);
        }
        self.approvals_now(cx).map(Some)
    }

    fn approvals_now(&mut self, cx: &Context<'_>) -> Result<DeviceAnswer, Refusal> {
        let now = self.now(cx);
        let mut approvals = Vec::new();
        for (key, approval) in self.all::<Approval>(Table::Approvals, &[])? {
            if !matches!(approval.state, State::Pending {}) || approval.expires_at <= now {
                continue;
            }
            let (guest, _) = self.guest(approval.guest)?;
            let question = match &approval.subject {
                Subject::Wish(wish) => Question::Grant(wish.clone()),
                Subject::Use { call, cover, .. } => Question::Use {
                    item_label: self.item(call.reference.item)?.label,
                    call: call.clone(),
                    covers: cover.as_ref().map(|(secs, cover)| strongroom_wire::device::Cover {
                        secs: *secs,
                        host: cover.host.clone(),
                        method: cover.method.clone(),
                        path_prefix: cover.path_prefix.clone(),
                        operation: cover.operation.clone(),
                    }),
                    content_shown: content_shown(&call.call),
                },
            };
            approvals.push(ApprovalView {
                id: approval_id(&key)?,
                guest: approval.guest,
                guest_name: guest.name,
                question,
                reason: approval.reason,
                request_hash: approval.request_hash,
                asked_at: approval.asked_at,
                expires_at: approval.expires_at,
            });
        }
        approvals.sort_by_key(|approval| (approval.asked_at, approval.id));
        Ok(DeviceAnswer::Approvals { number: self.opened()?.0.live.approvals_number, approvals })
    }

    /// The member's answer.
    pub(crate) fn approval_answer(
        &mut self,
        device: DeviceId,
        answer: &ApprovalAnswer,
        cx: &mut Context<'_>,
    ) -> Result<DeviceAnswer, Refusal> {
        let id = answer.approval;
        let mut approval: Approval =
            self.get(Table::Approvals, id.as_bytes())?.ok_or(Refusal::new(Code::ApprovalUnknown))?;
        match &approval.state {
            State::Pending {} if approval.expires_at > self.now(cx) => {}
            State::Pending {} => return Err(Code::ApprovalExpired.into()),
            State::Refused { code } => return Err((*code).into()),
            _ => return Err(Refusal::new(Code::Conflict).detail("This question was answered already.")),
        }
        if !equal(&approval.request_hash.0, &answer.request_hash.0) {
            return Err(Refusal::new(Code::ApprovalVoid).detail("This is not the request that was shown."));
        }
        let actor = Actor::Device(device);
        if !answer.allow {
            approval.state = State::Refused { code: Code::ApprovalRefused };
            return self.settle_approval(id, &approval, actor, Action::ApprovalRefuse, cx);
        }
        match approval.subject.clone() {
            Subject::Wish(_) => {
                let add =
                    answer.grant.as_ref().ok_or(Refusal::new(Code::ValueRefused).detail("Say which grant to give."))?;
                if add.guest != approval.guest {
                    return Err(Refusal::new(Code::ValueRefused).detail("The grant is for another guest."));
                }
                // Settled first: giving a grant voids the guest's other questions.
                approval.state = State::Granted {};
                let done = self.settle_approval(id, &approval, actor, Action::ApprovalAllow, cx)?;
                self.grant_add(actor, add, Vec::new(), cx)?;
                Ok(done)
            }
            Subject::Use { call, grants, field_version, policy_version, cover } => {
                self.check_unchanged(&call.reference, &grants, field_version, policy_version)?;
                let now = self.now(cx);
                let handle = HandleId(random_id(cx.rng));
                let until = now.plus_secs(ONCE_SECS);
                let once = Handle {
                    guest: approval.guest,
                    approval: id,
                    grants: grants.clone(),
                    item: call.reference.item,
                    field_version,
                    policy_version,
                    expires_at: until,
                    cover: None,
                };
                self.put(Table::Handles, handle.as_bytes(), &once)?;
                if let Some((secs, cover)) = cover {
                    let standing = Handle { expires_at: now.plus_secs(secs), cover: Some(cover), ..once };
                    let id = HandleId(random_id(cx.rng));
                    self.put(Table::Handles, id.as_bytes(), &standing)?;
                }
                approval.state = State::Approved { handle, until };
                self.settle_approval(id, &approval, actor, Action::ApprovalAllow, cx)
            }
        }
    }

    fn settle_approval(
        &mut self,
        id: ApprovalId,
        approval: &Approval,
        actor: Actor,
        action: Action,
        cx: &mut Context<'_>,
    ) -> Result<DeviceAnswer, Refusal> {
        self.put(Table::Approvals, id.as_bytes(), approval)?;
        let mut event = self.event(actor, action, cx);
        event.approval = Some(id);
        event.guest = Some(approval.guest);
        if let State::Approved { handle, .. } = approval.state {
            event.handle = Some(handle);
        }
        if let State::Refused { code } = approval.state {
            event.code = Some(code);
        }
        self.log(event, cx)?;
        self.opened()?.0.live_mut().approval_deadlines.remove(&id);
        self.approvals_changed();
        Ok(DeviceAnswer::Done {})
    }

    fn check_unchanged(
        &mut self,
        reference: &Reference,
        grants: &[GrantId],
        field_version: u64,
        policy_version: u64,
    ) -> Result<(), Refusal> {
        let void = || Refusal::new(Code::ApprovalVoid);
        let item = self.live_item(reference.item).map_err(|_| void())?;
        let field = self.field(reference).map_err(|_| void())?;
        if item.policy_version != policy_version || field.version != field_version {
            return Err(void());
        }
        for grant in grants {
            if self.grant(*grant)?.is_none() {
                return Err(void());
            }
        }
        Ok(())
    }

    /// The request behind a handle, once: the handle is gone after this.
    pub(crate) fn take_handle(
        &mut self,
        guest: GuestId,
        id: HandleId,
        cx: &Context<'_>,
    ) -> Result<(UseCall, ApprovalId), Refusal> {
        let gone = || Refusal::new(Code::HandleExpired);
        let handle: Handle = self.get(Table::Handles, id.as_bytes())?.ok_or_else(gone)?;
        if handle.guest != guest || handle.expires_at <= self.now(cx) || handle.cover.is_some() {
            return Err(gone());
        }
        let approval: Approval = self.get(Table::Approvals, handle.approval.as_bytes())?.ok_or_else(gone)?;
        let Subject::Use { call, .. } = approval.subject else { return Err(gone()) };
        self.check_unchanged(&call.reference, &handle.grants, handle.field_version, handle.policy_version)?;
        rule!(9, self.delete(Table::Handles, id.as_bytes())?, false);
        Ok((call, handle.approval))
    }

    /// A standing answer that covers a use.
    pub(crate) fn find_cover(
        &mut self,
        guest: GuestId,
        wanted: &Cover,
        call: &UseCall,
        matched: &Matched,
        cx: &Context<'_>,
    ) -> Result<Option<ApprovalId>, Refusal> {
        let now = self.now(cx);
        let target = match &call.call {
            Call::Http(http) => Some(Target::parse(&http.url)?),
            _ => None,
        };
        for (_, handle) in self.all::<Handle>(Table::Handles, &[])? {
            let live = handle.guest == guest
                && handle.expires_at > now
                && handle.policy_version == matched.item.policy_version
                && handle.field_version == matched.field.version
                && matched.grants.iter().all(|grant| handle.grants.contains(grant))
                && handle.cover.as_ref().is_some_and(|cover| cover.holds(wanted, target.as_ref().map(Target::path)));
            if live {
                return Ok(Some(handle.approval));
            }
        }
        Ok(None)
    }

    /// How a guest's question stands.
    pub(crate) fn poll(
        &mut self,
        guest: GuestId,
        id: ApprovalId,
        wait_secs: u64,
        to: ReplyTo,
        cx: &Context<'_>,
    ) -> Result<Option<GuestAnswer>, Refusal> {
        let state = self.approval_state(guest, id, cx)?;
        if matches!(state, ApprovalState::Pending { .. }) && wait_secs > 0 {
            let until_ticks_ms = cx.moment.ticks_ms + wait_secs.min(60) * 1_000;
            let what = WaitingFor::Approval(guest, id);
            self.opened()?.0.waiting.push(Waiting { to, until_ticks_ms, what });
            return Ok(None);
        }
        Ok(Some(GuestAnswer::Polled(state)))
    }

    fn approval_state(&mut self, guest: GuestId, id: ApprovalId, cx: &Context<'_>) -> Result<ApprovalState, Refusal> {
        let approval: Approval = self
            .get(Table::Approvals, id.as_bytes())?
            .filter(|approval: &Approval| approval.guest == guest)
            .ok_or(Refusal::new(Code::ApprovalUnknown))?;
        Ok(match approval.state {
            State::Pending {} if approval.expires_at <= self.now(cx) => {
                ApprovalState::Refused(Code::ApprovalExpired.into())
            }
            State::Pending {} => ApprovalState::Pending { expires_at: approval.expires_at },
            State::Approved { handle, until } => ApprovalState::Approved { handle, expires_at: until },
            State::Granted {} => ApprovalState::Granted {},
            State::Refused { code } => ApprovalState::Refused(code.into()),
        })
    }

    /// Answers what waited for a change that is durable now, or for long enough.
    pub(crate) fn answer_waiting(&mut self, cx: &Context<'_>) {
        let ticks = cx.moment.ticks_ms;
        let Some(open) = &mut self.open else { return };
        let (number, size) = (open.live.approvals_number, open.ledger.size());
        let changed = std::mem::replace(&mut open.answered_number, number) != number;
        let waiting = std::mem::take(&mut open.waiting);
        let (due, still): (Vec<Waiting>, Vec<Waiting>) = waiting.into_iter().partition(|wait| {
            wait.until_ticks_ms <= ticks
                || match wait.what {
                    WaitingFor::Approval(..) => changed,
                    WaitingFor::List(after) => number != after,
                    WaitingFor::Log(from, _) => size > from,
                }
        });
        open.waiting = still;
        for wait in due {
            let effect = match wait.what {
                WaitingFor::Approval(guest, id) => match self.approval_state(guest, id, cx) {
                    Ok(ApprovalState::Pending { .. }) if wait.until_ticks_ms > ticks => {
                        if let Some(open) = &mut self.open {
                            open.waiting.push(wait);
                        }
                        continue;
                    }
                    state => Effect::Guest(wait.to, state.map(GuestAnswer::Polled).map_err(Refusal::for_guest)),
                },
                WaitingFor::List(_) => Effect::Device(wait.to, self.approvals_now(cx)),
                WaitingFor::Log(from, count) => Effect::Device(wait.to, self.audit_page(from, count)),
            };
            self.effects.push(effect);
        }
    }

    /// Questions that nobody answered in time, and handles whose time is over.
    pub(crate) fn expire_approvals(&mut self, cx: &mut Context<'_>) {
        let now = self.now(cx);
        let Some(open) = &self.open else { return };
        let due: Vec<ApprovalId> =
            open.live.approval_deadlines.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
        for id in due {
            let done = self.in_transaction(cx, |vault, cx| {
                let found = vault.get::<Approval>(Table::Approvals, id.as_bytes())?;
                let Some(mut approval) = found.filter(|approval| matches!(approval.state, State::Pending {})) else {
                    vault.opened()?.0.live_mut().approval_deadlines.remove(&id);
                    return Ok(());
                };
                approval.state = State::Refused { code: Code::ApprovalExpired };
                vault.settle_approval(id, &approval, Actor::Vault, Action::ApprovalExpire, cx).map(|_| ())
            });
            if done.is_err()
                && let Some(open) = &mut self.open
            {
                // The disk is full: the question expires all the same, since its time is part of it.
                open.live_mut().approval_deadlines.remove(&id);
            }
        }
        let ticks = cx.moment.ticks_ms;
        let Some(open) = self.open.as_mut().filter(|open| open.swept_ticks_ms.saturating_add(SWEEP_MS) <= ticks) else {
            return;
        };
        open.swept_ticks_ms = ticks;
        // What is swept is over already, so a disk that fails loses nothing but room.
        let _ = self.in_transaction(cx, |vault, cx| vault.sweep(now, cx));
    }

    /// Removes what is long over.
    fn sweep(&mut self, now: Timestamp, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let mut swept = false;
        for (key, handle) in self.all::<Handle>(Table::Handles, &[])? {
            if handle.expires_at <= now {
                swept |= self.delete(Table::Handles, &key)?;
            }
        }
        for (key, approval) in self.all::<Approval>(Table::Approvals, &[])? {
            if !matches!(approval.state, State::Pending {}) && approval.expires_at.plus_secs(KEPT_SECS) <= now {
                swept |= self.delete(Table::Approvals, &key)?;
            }
        }
        if swept {
            let event = self.event(Actor::Vault, Action::Settle, cx);
            self.log(event, cx)?;
        }
        Ok(())
    }

    /// Voids what is open for a guest, or for all of them: something it rests on has changed.
    pub(crate) fn void_for_guest(&mut self, guest: Option<GuestId>) -> Result<(), Refusal> {
        self.void(
            |approval| guest.is_none_or(|guest| approval.guest == guest),
            |handle| guest.is_none_or(|guest| handle.guest == guest),
        )
    }

    /// Voids what is open on an item.
    pub(crate) fn void_for_item(&mut self, item: ItemId) -> Result<(), Refusal> {
        let of_item = |approval: &Approval| match &approval.subject {
            Subject::Use { call, .. } => call.reference.item == item,
            Subject::Wish(_) => false,
        };
        self.void(of_item, |handle| handle.item == item)
    }

    /// After an unlock nothing is open that was asked before.
    pub(crate) fn void_old_approvals(&mut self, cx: &mut Context<'_>) -> Result<(), Refusal> {
        if self.disk.count(Table::Approvals)? + self.disk.count(Table::Handles)? == 0 {
            return Ok(());
        }
        self.in_transaction(cx, |vault, cx| {
            vault.void(|_| true, |_| true)?;
            let event = vault.event(Actor::Vault, Action::Settle, cx);
            vault.log(event, cx).map(|_| ())
        })
    }

    fn void(&mut self, which: impl Fn(&Approval) -> bool, handles: impl Fn(&Handle) -> bool) -> Result<(), Refusal> {
        let mut changed = false;
        for (key, mut approval) in self.all::<Approval>(Table::Approvals, &[])? {
            if matches!(approval.state, State::Pending {}) && which(&approval) {
                approval.state = State::Refused { code: Code::ApprovalVoid };
                self.put(Table::Approvals, &key, &approval)?;
                self.opened()?.0.live_mut().approval_deadlines.remove(&approval_id(&key)?);
                changed = true;
            }
        }
        for (key, handle) in self.all::<Handle>(Table::Handles, &[])? {
            if handles(&handle) {
                self.delete(Table::Handles, &key)?;
            }
        }
        if changed {
            self.approvals_changed();
        }
        Ok(())
    }
}

/// A call as its hash sees it.
struct Canonical {
    method: String,
    url: String,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    body_hash: Option<[u8; 32]>,
}

impl Canonical {
    fn of(call: &Call) -> Result<Self, Refusal> {
        let named = |pairs: &[(&str, &[u8])]| {
            pairs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect::<Vec<_>>()
        };
        let plain = |method: &str, headers: Vec<(Vec<u8>, Vec<u8>)>, body: Option<&[u8]>| Self {
            method: method.into(),
            url: String::new(),
            headers,
            body_hash: body.map(|body| sha256(&[body])),
        };
        Ok(match call {
            Call::Http(http) => Self {
                method: http.method.clone(),
                url: Target::parse(&http.url)?.to_string(),
                headers: http
                    .headers
                    .iter()
                    .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
                    .collect(),
                body_hash: match &http.body {
                    HttpBody::Empty => Some(sha256(&[])),
                    HttpBody::Inline(bytes) => Some(sha256(&[&bytes.0])),
                    HttpBody::Stream { .. } => None,
                },
            },
            Call::Sign(SignCall::Message { message }) => plain("message", Vec::new(), Some(&message.0)),
            Call::Sign(SignCall::Ssh { namespace, message }) => {
                plain("ssh", named(&[("namespace", namespace.as_bytes())]), Some(&message.0))
            }
            Call::Sign(SignCall::Jwt { claims, key_id }) => {
                let json = serde_json::to_vec(claims).map_err(|_| Refusal::new(Code::Bug))?;
                let key_id = key_id.as_deref().unwrap_or_default();
                plain("jwt", named(&[("key_id", key_id.as_bytes())]), Some(&json))
            }
            Call::Totp(_) => plain("code", Vec::new(), None),
            Call::Crypt(crypt) => {
                let operation = crypt.operation();
                let (context, body, rest): (&[u8], &[u8], &[u8]) = match crypt {
                    CryptCall::Encrypt { plaintext, context } => (&context.0, &plaintext.0, &[]),
                    CryptCall::Decrypt { ciphertext, context } | CryptCall::Rewrap { ciphertext, context } => {
                        (&context.0, &ciphertext.0, &[])
                    }
                    CryptCall::Mac { message } => (&[], &message.0, &[]),
                    CryptCall::VerifyMac { message, tag } => (&[], &message.0, &tag.0),
                    CryptCall::Derive { context, purpose } => (&context.0, &[], purpose.as_str().as_bytes()),
                };
                plain(operation.as_str(), named(&[("context", context), ("rest", rest)]), Some(body))
            }
        })
    }
}

fn content_shown(call: &Call) -> bool {
    !matches!(call, Call::Http(http) if matches!(http.body, HttpBody::Stream { .. }))
}

fn approval_id(key: &[u8]) -> Result<ApprovalId, Refusal> {
    key.try_into()
        .map(ApprovalId)
        .map_err(|_| Refusal::new(Code::StoreRefused).detail("An approval's id cannot be read."))
}

/// Seconds in which an approved request must be run.
const ONCE_SECS: u64 = 300;
/// Seconds for which the answer to a question can be polled.
const KEPT_SECS: u64 = 3_600;
/// How often what is over is looked for: a vault that nobody uses has nothing to do.
const SWEEP_MS: u64 = 60_000;

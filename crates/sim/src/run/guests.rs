//! What guests do, and what the model says to it.

use strongroom_core::{Effect, HttpDone};
use strongroom_wire::device::{ApprovalAnswer, ApprovalView, DeviceAnswer, DeviceRequest};
use strongroom_wire::guest::{
    ApprovalState, Call, GrantWish, GuestAnswer, GuestRequest, UseCall, UseRequest, UseResult,
};
use strongroom_wire::policy::{Consumer, Mode};
use strongroom_wire::{ApprovalId, Code, GrantId, GuestId, HandleId, ItemId, Refusal};

use super::model::{Cover, Doubt, Handle, Kind, Question, Running, Verdict};
use super::{Check, Sim, holds};
use crate::home::{http, reference, sign, totp, use_request};
use crate::world::Answer;

impl Sim {
    pub(crate) fn some_guest(&mut self) -> Option<GuestId> {
        let ids: Vec<GuestId> = self.model.guests.iter().map(|guest| guest.id).collect();
        if self.world.rng.chance(3) { Some(GuestId([1; 16])) } else { self.world.rng.pick(&ids).copied() }
    }

    fn random_http(&mut self) -> Call {
        let rng = &mut self.world.rng;
        let host = match rng.below(12) {
            0 => "evil.example.org",
            1 => "other.example.com",
            _ => "api.example.com",
        };
        let path = *rng.pick(&["/a", "/a/b", "/a/b/c", "/ab", "/"]).unwrap_or(&"/");
        let path = if rng.chance(3) { "/a/../b" } else { path };
        let method = match rng.below(10) {
            0 => "DELETE",
            1 => "POST",
            _ => "GET",
        };
        http(method, &format!("https://{host}{path}"))
    }

    /// A call on something, mostly on what was granted.
    fn random_call(&mut self, guest: GuestId) -> Option<(UseCall, Option<usize>)> {
        let granted: Vec<ItemId> =
            self.model.grants.iter().filter(|grant| grant.guest == guest).map(|grant| grant.reference.item).collect();
        let item = match self.world.rng.chance(85) {
            true => self.world.rng.pick(&granted).copied(),
            false => None,
        };
        let at = match item {
            Some(id) => self.model.items.iter().position(|item| item.id == id),
            None if self.model.items.is_empty() => None,
            None => usize::try_from(self.world.rng.below(self.model.items.len() as u64)).ok(),
        };
        let Some(at) = at else {
            let call = self.random_http();
            return Some((UseCall { reference: reference(ItemId([3; 16]), "key"), call }, None));
        };
        let kind = self.model.items[at].kind;
        let call = match kind {
            Kind::Sign => sign(b"a message"),
            Kind::Counted => totp(),
            Kind::Api | Kind::Login | Kind::Wallet => self.random_http(),
        };
        Some((UseCall { reference: self.model.items[at].reference(), call }, Some(at)))
    }

    pub(crate) fn guest_use(&mut self) -> Check {
        if !self.model.doubts.is_empty() {
            return Ok(());
        }
        let Some(guest) = self.some_guest() else { return Ok(()) };
        let Some((call, item)) = self.random_call(guest) else { return Ok(()) };
        let (now, before, was_open) = (self.now(), self.durable(), self.is_open());
        let verdict = self.model.verdict(guest, &call, now);
        let covered = match &verdict {
            Verdict::Allowed(grants, Mode::AskOnce { .. }) => self.model.covered(guest, &call, grants, now),
            _ => false,
        };
        self.may_show = true;
        let request = use_request(&call.reference, call.call.clone());
        let answer = self.world.guest(guest, &request);
        self.look_at(&answer)?;
        let doubt = self.world.memory.is_dead() || (was_open && !self.is_open());
        let runs = matches!(&verdict, Verdict::Allowed(_, Mode::Always)) || covered;
        match answer {
            Answer::Http(run) => {
                let Verdict::Allowed(grants, _) = verdict else { return Err("5: an exchange without a grant".into()) };
                holds!(5, runs, "an exchange that the member had to be asked for");
                holds!(1, self.durable() > before, "an exchange without a durable intent");
                holds!(5, run.0.target.to_string() == url_of(&call), "another URL than was asked for");
                let shown = run.0.secret.open();
                let value = shown.map(|value| value.expose().to_vec()).map_err(|refusal| format!("2: {refusal:?}"))?;
                self.same_value(item, &value)?;
                self.model.count(&grants, now.ticks_ms);
                self.model.running.push(Running { run: run.0.run, grants });
            }
            Answer::Guest(Ok(GuestAnswer::Used(used))) => {
                let Verdict::Allowed(grants, _) = verdict else { return Err("5: a result without a grant".into()) };
                holds!(5, runs, "a result that the member had to be asked for");
                holds!(1, self.durable() > before + 1, "a result without a durable intent and outcome");
                self.model.count(&grants, now.ticks_ms);
                if let Some(item) = item {
                    self.code_left(item, &used)?;
                }
            }
            Answer::Guest(Ok(GuestAnswer::Pending(pending))) => {
                let Verdict::Allowed(grants, mode) = verdict else {
                    return Err("5: a question without a grant".into());
                };
                holds!(5, mode != Mode::Always && !covered, "a question that need not be asked");
                holds!(1, self.durable() > before, "a question without an event");
                let cover_secs = match mode {
                    Mode::AskOnce { secs } => Some(secs),
                    _ => None,
                };
                self.asked(guest, pending.approval, Some(call), grants, cover_secs);
            }
            Answer::Guest(Err(refusal)) => {
                let full = refusal.code == Code::ApprovalsFull && !runs;
                let slow = self.shaky(&verdict) && refusal.code == Code::LimitRate;
                let allowed = matches!(verdict, Verdict::Allowed(..)) && !full && !slow;
                holds!(15, !(allowed && self.is_well()), "a use was refused that is allowed: {call:?}: {refusal:?}");
                self.looks_like_nothing(guest, &call, &refusal)?;
                if let (Verdict::Allowed(grants, _), true) = (&verdict, doubt) {
                    self.in_doubt(grants);
                }
            }
            other => return Err(format!("5: a use led to {other:?}")),
        }
        self.may_show = runs;
        Ok(())
    }

    /// Whether a call that a failing disk refused may still count against the rate; and from now on this one, if there is one.
    fn shaky(&mut self, verdict: &Verdict) -> bool {
        let Verdict::Allowed(grants, _) = verdict else { return false };
        let (ticks, well) = (self.world.ticks_ms, self.is_well());
        let mut shaky = false;
        for grant in self.model.grants.iter_mut().filter(|grant| grants.contains(&grant.id)) {
            shaky |= grant.shaky_until_ms > ticks;
            if !well {
                grant.shaky_until_ms = ticks + 60_000;
            }
        }
        shaky
    }

    fn in_doubt(&mut self, grants: &[GrantId]) {
        for grant in grants {
            self.model.doubts.insert(Doubt::Used(*grant));
        }
        self.model.lost.extend(grants);
        // Whether its outcome will be unknown depends on when the machine died.
        self.model.unknown_at_most += 1;
    }

    /// 7: what is not there and what is another's answer alike, and say nothing for the member's eyes.
    fn looks_like_nothing(&self, guest: GuestId, call: &UseCall, refusal: &Refusal) -> Check {
        holds!(7, refusal.rule.is_none() && refusal.hint.is_none(), "a guest was told a rule: {refusal:?}");
        let served = self.model.confirmed
            && !self.model.all_suspended
            && self.set_back_ms == 0
            && self.model.guests.iter().any(|known| known.id == guest && !known.out && !known.suspended);
        let mine = self.model.grants.iter().any(|grant| grant.guest == guest && grant.reference == call.reference);
        if served && !mine && self.is_well() {
            holds!(7, *refusal == Refusal::new(Code::ReferenceUnknown), "another's reference answers {refusal:?}");
        }
        Ok(())
    }

    /// 2: what a consumer is handed is what was acknowledged last.
    fn same_value(&self, item: Option<usize>, value: &[u8]) -> Check {
        if let Some(item) = item.map(|at| &self.model.items[at]) {
            let newer = self.model.doubts.contains(&Doubt::Value(item.id, value.to_vec()));
            holds!(2, value == item.value || newer, "{} is not what was acknowledged", item.label);
        }
        Ok(())
    }

    fn asked(
        &mut self,
        guest: GuestId,
        id: ApprovalId,
        call: Option<UseCall>,
        grants: Vec<GrantId>,
        cover_secs: Option<u64>,
    ) {
        let expires_ms = self.now().ms + 120_000;
        self.model.questions.push(Question { id, guest, call, grants, cover_secs, expires_ms, open: true });
    }

    pub(crate) fn guest_wish(&mut self) -> Check {
        if !self.model.doubts.is_empty() {
            return Ok(());
        }
        let Some(guest) = self.some_guest() else { return Ok(()) };
        if self.world.rng.chance(30) {
            let nobodys = GuestRequest::Poll { approval: ApprovalId([1; 16]), wait_secs: 0 };
            let answer = self.world.guest(guest, &nobodys);
            self.look_at(&answer)?;
            holds!(7, matches!(answer, Answer::Guest(Err(_))), "an approval that is not there: {answer:?}");
        }
        let again = if self.world.rng.chance(10) { 9 } else { 0 };
        for _ in 0..again {
            self.wish(guest)?;
        }
        self.wish(guest)
    }

    pub(crate) fn wish(&mut self, guest: GuestId) -> Check {
        let request = match self.world.rng.below(4) {
            0 => GuestRequest::List {},
            _ => GuestRequest::Request(GrantWish {
                subject: "something".into(),
                reason: "it would be nice".into(),
                consumer: Consumer::Http,
                host: None,
            }),
        };
        let served = self.model.guests.iter().any(|known| known.id == guest && !known.out && !known.suspended)
            && self.model.confirmed
            && !self.model.all_suspended
            && self.set_back_ms == 0;
        let answer = self.world.guest(guest, &request);
        self.look_at(&answer)?;
        match answer {
            Answer::Guest(Ok(GuestAnswer::List { granted })) => {
                holds!(5, served, "a list for a guest that is not served");
                let all_mine = granted.iter().all(|row| {
                    self.model.grants.iter().any(|grant| grant.id == row.grant && grant.guest == guest)
                        || self.model.doubts.contains(&Doubt::Given)
                        || self.model.doubts.contains(&Doubt::Over(row.grant))
                });
                holds!(5, all_mine, "a list names another's grant");
            }
            Answer::Guest(Ok(GuestAnswer::Pending(pending))) => {
                holds!(5, served, "a wish of a guest that is not served");
                self.asked(guest, pending.approval, None, Vec::new(), None);
            }
            Answer::Guest(Err(refusal)) => {
                let full = refusal.code == Code::ApprovalsFull;
                holds!(15, !served || full || !self.is_well(), "a wish was refused: {refusal:?}");
            }
            other => return Err(format!("5: a wish led to {other:?}")),
        }
        Ok(())
    }

    pub(crate) fn answer_question(&mut self) -> Check {
        let member = self.someone();
        let list = DeviceRequest::ApprovalList { after: 0, wait_secs: 0 };
        let Ok(DeviceAnswer::Approvals { approvals, .. }) =
            self.world.device(&self.model.members[member].device, &list)
        else {
            return Ok(());
        };
        let now = self.now();
        for view in &approvals {
            let known = self.model.questions.iter().find(|question| question.id == view.id);
            let open = known.is_some_and(|question| question.open && now.ms < question.expires_ms);
            let doubt = known.is_none() || !self.model.doubts.is_empty();
            holds!(6, open || doubt, "a question is open whose ground has changed or whose time is over");
        }
        let Some(view) = self.world.rng.pick(&approvals).cloned() else { return Ok(()) };
        let allow = self.world.rng.chance(75);
        let mut answer =
            ApprovalAnswer { approval: view.id, request_hash: view.request_hash.clone(), allow, grant: None };
        if self.world.rng.chance(8) {
            answer.request_hash = [7; 32].into();
            let acted = self.act(member, &DeviceRequest::ApprovalAnswer(answer), false)?;
            holds!(6, acted.result.is_err(), "an answer to another request was taken");
            return Ok(());
        }
        let question = self.model.questions.iter().position(|question| question.id == view.id);
        let acted = self.act(member, &DeviceRequest::ApprovalAnswer(answer), false)?;
        let Some(at) = question else { return Ok(()) };
        if acted.doubt {
            self.model.questions[at].open = false;
            return Ok(());
        }
        if acted.result.is_err() {
            let voided = acted.result.err().is_some_and(|refusal| refusal.code == Code::ApprovalVoid);
            let sure = self.model.questions[at].open && self.model.questions[at].call.is_some();
            holds!(6, !(voided && sure && self.model.doubts.is_empty()), "an open question was void");
            return Ok(());
        }
        self.model.questions[at].open = false;
        if !allow {
            return self.poll_says(&view, false);
        }
        self.allowed(at, &view)
    }

    /// The member said yes: there is a handle now, and perhaps a standing answer.
    fn allowed(&mut self, at: usize, view: &ApprovalView) -> Check {
        let now = self.now();
        let question = &self.model.questions[at];
        let Some(call) = question.call.clone() else { return Ok(()) };
        let (guest, grants, secs) = (question.guest, question.grants.clone(), question.cover_secs);
        if let Some(secs) = secs {
            let prefix = self.model.prefix_of(&grants, &call);
            let until_ms = now.ms + secs * 1_000;
            self.model.covers.push(Cover { guest, call: call.clone(), prefix, grants, until_ms });
        }
        let poll = GuestRequest::Poll { approval: view.id, wait_secs: 0 };
        if let Answer::Guest(Ok(GuestAnswer::Polled(ApprovalState::Approved { handle, .. }))) =
            self.world.guest(guest, &poll)
        {
            let until_ms = now.ms + 300_000;
            self.model.handles.push(Handle { id: handle, guest, call, until_ms, live: true, shaky: false });
        }
        Ok(())
    }

    fn poll_says(&mut self, view: &ApprovalView, yes: bool) -> Check {
        let poll = GuestRequest::Poll { approval: view.id, wait_secs: 0 };
        if let Answer::Guest(Ok(GuestAnswer::Polled(state))) = self.world.guest(view.guest, &poll) {
            if let ApprovalState::Refused(refusal) = &state {
                self.coverage.refusal(refusal);
            }
            holds!(6, matches!(state, ApprovalState::Refused(_)) != yes, "a no is not a no: {state:?}");
        }
        Ok(())
    }

    pub(crate) fn guest_handle(&mut self) -> Check {
        if !self.model.doubts.is_empty() {
            return Ok(());
        }
        let handles: Vec<HandleId> = self.model.handles.iter().map(|handle| handle.id).collect();
        let picked = self.world.rng.pick(&handles).copied();
        let (Some(id), other) = (picked, self.some_guest()) else { return Ok(()) };
        let Some(at) = self.model.handles.iter().position(|handle| handle.id == id) else { return Ok(()) };
        let stolen = self.world.rng.chance(15);
        let owner = self.model.handles[at].guest;
        let guest = if stolen { other.unwrap_or(owner) } else { owner };
        let (now, call) = (self.now(), self.model.handles[at].call.clone());
        let verdict = self.model.verdict(guest, &call, now);
        let handle = &self.model.handles[at];
        let good = handle.live && now.ms < handle.until_ms && guest == owner;
        let may_show = good && matches!(verdict, Verdict::Allowed(..));
        let (before, was_open) = (self.durable(), self.is_open());
        self.may_show = true;
        let request = GuestRequest::Use(UseRequest { call: None, handle: Some(id), reason: None });
        let answer = self.world.guest(guest, &request);
        self.look_at(&answer)?;
        let doubt = self.world.memory.is_dead() || (was_open && !self.is_open());
        let ran = match &answer {
            Answer::Http(run) => {
                holds!(6, run.0.target.to_string() == url_of(&call), "another request than was approved");
                self.model.running.push(Running { run: run.0.run, grants: Vec::new() });
                true
            }
            Answer::Guest(Ok(GuestAnswer::Used(_))) => true,
            _ => false,
        };
        if ran {
            holds!(6, good, "a handle that is used, over, void or another's ran");
            let Verdict::Allowed(grants, _) = verdict else { return Err("5: a handle ran without a grant".into()) };
            holds!(1, self.durable() > before, "a use without a durable event");
            self.model.count(&grants, now.ticks_ms);
            if let Some(running) = self.model.running.last_mut().filter(|running| running.grants.is_empty()) {
                running.grants = grants;
            }
            self.model.handles[at].live = false;
            if let Answer::Guest(Ok(GuestAnswer::Used(used))) = &answer {
                self.counted(&call, used)?;
            }
        } else {
            let slow = self.shaky(&verdict);
            let allowed = good && matches!(verdict, Verdict::Allowed(..)) && !self.model.handles[at].shaky && !slow;
            holds!(15, !(allowed && self.is_well()), "an approved use was refused: {answer:?}");
            if doubt {
                self.model.handles[at].shaky = true;
                if let Verdict::Allowed(grants, _) = &verdict {
                    let grants = grants.clone();
                    self.in_doubt(&grants);
                }
            }
        }
        self.may_show = may_show;
        Ok(())
    }

    fn counted(&mut self, call: &UseCall, used: &UseResult) -> Check {
        match self.model.items.iter().position(|item| item.id == call.reference.item) {
            Some(at) => self.code_left(at, used),
            None => Ok(()),
        }
    }

    pub(crate) fn end_exchange(&mut self) -> Check {
        if self.model.running.is_empty() {
            return Ok(());
        }
        let at = usize::try_from(self.world.rng.below(self.model.running.len() as u64)).unwrap_or(0);
        let Running { run, grants } = self.model.running.swap_remove(at);
        let (bytes, was_open) = (self.world.rng.below(700), self.is_open());
        let head_sent = self.world.rng.chance(80);
        let refusal = (!head_sent && self.world.rng.chance(50)).then(|| Code::ConnectFailed.into());
        let before = self.durable();
        let done = HttpDone { status: head_sent.then_some(200), bytes, head_sent, refusal, address: None };
        self.world.http_done(run, done);
        let written = self.durable() > before;
        let ended = self.world.told.iter().any(|effect| matches!(effect, Effect::HttpEnd(_)));
        holds!(1, written || !self.is_well() || !was_open, "an exchange ended without an outcome");
        holds!(15, ended || !head_sent || !was_open, "a body was not ended");
        for (_, answer) in std::mem::take(&mut self.world.late) {
            self.look_at(&answer)?;
        }
        if written {
            for grant in self.model.grants.iter_mut().filter(|grant| grants.contains(&grant.id)) {
                grant.bytes += bytes;
            }
        } else {
            self.model.unknown_at_most += 1;
            for grant in &grants {
                self.model.doubts.insert(Doubt::Used(*grant));
            }
            self.model.lost.extend(grants);
        }
        Ok(())
    }

    /// 5: what ran under a grant that is over is broken off at once.
    pub(crate) fn broken_off(&self, over: impl Fn(GrantId) -> bool) -> Check {
        for running in self.model.running.iter().filter(|running| running.grants.iter().any(|id| over(*id))) {
            let told = |effect: &Effect| matches!(effect, Effect::HttpCancel(run) if *run == running.run);
            holds!(5, self.world.told.iter().any(told), "an exchange goes on under a grant that is over");
        }
        Ok(())
    }
}

fn url_of(call: &UseCall) -> String {
    match &call.call {
        Call::Http(http) => http.url.clone(),
        _ => String::new(),
    }
}

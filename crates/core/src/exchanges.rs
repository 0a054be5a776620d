//! HTTP exchanges: begun once their intent is durable, broken off when their ground is gone, ended with their outcome.

use serde::{Deserialize, Serialize};
use strongroom_wire::event::{Action, Actor, Event};
use strongroom_wire::guest::HttpCall;
use strongroom_wire::policy::{HttpLimits, HttpPolicy};
use strongroom_wire::target::{HttpRules, Target};
use strongroom_wire::{Code, GrantId, ItemId, Reference, Refusal, Timestamp};

use crate::clock::Clock;
use crate::guests::GrantUse;
use crate::items::SealedSecret;
use crate::records::{Storage, Table};
use crate::uses::Matched;
use crate::vault::{Context, Effect, Peer, ReplyTo, Vault};

/// An HTTP exchange to run. Its intent is durable.
pub struct HttpRun {
    /// Its number.
    pub run: u64,
    /// Where head and body go.
    pub to: ReplyTo,
    /// Who asked.
    pub peer: Peer,
    /// What is placed.
    pub reference: Reference,
    /// The version of the item's policy: connections are not shared across a change.
    pub policy_version: u64,
    /// The request.
    pub call: HttpCall,
    /// Its URL, parsed once.
    pub target: Target,
    /// Where redirects may lead.
    pub rules: HttpRules,
    /// How the secret is placed.
    pub policy: HttpPolicy,
    /// The grant's limits on bodies and cookies.
    pub limits: HttpLimits,
    /// Bytes both ways that the grants have left.
    pub bytes_left: Option<u64>,
    /// The secret, to be opened when it is placed.
    pub secret: SealedSecret,
    /// The vault's time: it signs requests and judges certificates, so no host may turn it back.
    pub clock: Clock,
}

/// How an HTTP exchange ended.
#[derive(Clone, Debug, Default)]
pub struct HttpDone {
    /// The last status.
    pub status: Option<u16>,
    /// Bytes both ways.
    pub bytes: u64,
    /// The address that the host connected to.
    pub address: Option<String>,
    /// Why there is no answer, where the head was not sent on.
    pub refusal: Option<Refusal>,
    /// Whether the head was sent on.
    pub head_sent: bool,
}

/// An exchange under way.
#[derive(Clone)]
pub(crate) struct Running {
    intent: u64,
    pub(crate) grants: Vec<GrantId>,
    pub(crate) to: ReplyTo,
    pub(crate) peer: Peer,
    pub(crate) item: ItemId,
    /// When the first of the grants ends.
    pub(crate) until: Option<Timestamp>,
    destination: String,
    /// How it ended. It is here until its outcome is durable, so that nothing of its grants is used twice.
    done: Option<HttpDone>,
    /// Whether the outcome is written, if not durable yet.
    pub(crate) written: bool,
}

/// An intent without an outcome, as it lies in the database.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Intent {
    actor: Actor,
    destination: String,
    /// Its grants that limit bytes: where nobody knows how many moved, all that was left has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    metered: Vec<GrantId>,
}

impl<S: Storage> Vault<S> {
    #[expect(clippy::too_many_arguments, reason = "one exchange, with all that was decided about it")]
    pub(crate) fn run_http(
        &mut self,
        peer: Peer,
        reference: Reference,
        call: HttpCall,
        matched: Matched,
        intent: Event,
        to: ReplyTo,
        cx: &mut Context<'_>,
    ) -> Result<(), Refusal> {
        let policy = matched.item.policy.http.clone().ok_or(Refusal::new(Code::PolicyMissing))?;
        let target = Target::parse(&call.url)?;
        let (rules, http_limits) = match matched.http {
            Some(of_grants) => of_grants,
            None => (HttpRules::of_item(&policy), HttpLimits { set_cookie: true, ..HttpLimits::default() }),
        };
        rules.check(&call.method, &target)?;
        let secret = self.sealed_secret(&reference, &matched.field)?;
        let destination = intent.destination.clone().unwrap_or_default();
        let index = self.opened()?.0.ledger.size();
        let record = Intent { actor: intent.actor, destination: destination.clone(), metered: matched.metered.clone() };
        self.put(Table::Intents, &index.to_be_bytes(), &record)?;
        let logged = self.log(intent, cx)?;
        debug_assert_eq!(index, logged);
        let run = self.next_run;
        self.next_run += 1;
        let (open, _) = self.opened()?;
        let (item, until) = (reference.item, matched.until);
        let grants = matched.grants;
        let running = Running { intent: index, grants, to, peer, item, until, destination, done: None, written: false };
        open.running.insert(run, running);
        let clock = self.clock;
        self.effects.push(Effect::Http(Box::new(HttpRun {
            run,
            to,
            peer,
            reference,
            policy_version: matched.item.policy_version,
            call,
            target,
            rules,
            policy,
            limits: http_limits,
            bytes_left: matched.bytes_left,
            secret,
            clock,
        })));
        Ok(())
    }

    /// Breaks off exchanges whose ground is gone. Each still ends with its outcome.
    pub(crate) fn cancel(&mut self, which: impl Fn(&Running) -> bool) {
        let Some(open) = &self.open else { return };
        let under_way = open.running.iter().filter(|(_, running)| running.done.is_none() && which(running));
        self.effects.extend(under_way.map(|(run, _)| Effect::HttpCancel(*run)));
    }

    /// Breaks off what runs under a grant that has ended by itself.
    pub(crate) fn cancel_expired(&mut self, cx: &Context<'_>) {
        let now = self.now(cx);
        self.cancel(|running| running.until.is_some_and(|until| until <= now));
        if let Some(open) = &mut self.open {
            // Told once.
            for running in open.running.values_mut() {
                running.until = running.until.filter(|until| *until > now);
            }
        }
    }

    /// An exchange ended: its outcome becomes durable before its end reaches whoever asked.
    pub(crate) fn http_done(&mut self, run: u64, done: HttpDone, cx: &mut Context<'_>) {
        let running = self.open.as_mut().and_then(|open| open.running.get_mut(&run));
        let Some(running) = running.filter(|running| running.done.is_none()) else { return };
        running.done = Some(done.clone());
        running.until = None;
        let (to, peer) = (running.to, running.peer);
        let result = self.write_outcome(run, cx);
        let refusal = result.err().or(done.refusal);
        match (done.head_sent, refusal) {
            (true, _) => self.effects.push(Effect::HttpEnd(to)),
            (false, refusal) => {
                let refusal = refusal.unwrap_or(Refusal::new(Code::HttpFailed));
                self.effects.push(match peer {
                    Peer::Guest(_) => Effect::Guest(to, Err(refusal.for_guest())),
                    _ => Effect::Device(to, Err(refusal)),
                });
            }
        }
    }

    /// Outcomes that a failing disk did not take are written again.
    pub(crate) fn write_outcomes(&mut self, cx: &mut Context<'_>) {
        let Some(open) = &self.open else { return };
        let ended = open.running.iter().filter(|(_, running)| running.done.is_some() && !running.written);
        for run in ended.map(|(run, _)| *run).collect::<Vec<_>>() {
            // Where the disk still fails, it is tried again.
            let _ = self.write_outcome(run, cx);
        }
    }

    fn write_outcome(&mut self, run: u64, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let Some(running) = self.open.as_ref().and_then(|open| open.running.get(&run)).cloned() else { return Ok(()) };
        let Some(done) = &running.done else { return Ok(()) };
        self.in_transaction(cx, |vault, cx| {
            for id in &running.grants {
                if let Some(mut used) = vault.get::<GrantUse>(Table::GrantUses, id.as_bytes())? {
                    used.bytes = used.bytes.saturating_add(done.bytes);
                    vault.put(Table::GrantUses, id.as_bytes(), &used)?;
                }
            }
            vault.delete(Table::Intents, &running.intent.to_be_bytes())?;
            let actor = match running.peer {
                Peer::Guest(guest) => Actor::Guest(guest),
                Peer::Device(device) => Actor::Device(device),
                Peer::Founder(_) => Actor::Founder,
            };
            let mut outcome = vault.event(actor, Action::UseOutcome, cx);
            outcome.intent = Some(running.intent);
            outcome.grant = running.grants.first().copied();
            outcome.destination = Some(running.destination.clone());
            outcome.status = done.status;
            outcome.bytes = Some(done.bytes);
            outcome.address = done.address.clone();
            outcome.code = done.refusal.as_ref().map(|refusal| refusal.code);
            vault.log(outcome, cx)
        })?;
        if let Some(running) = self.open.as_mut().and_then(|open| open.running.get_mut(&run)) {
            running.written = true;
        }
        Ok(())
    }

    /// Intents that a crash left without an outcome: it is unknown.
    pub(crate) fn close_old_intents(&mut self, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let intents = self.all::<Intent>(Table::Intents, &[])?;
        if intents.is_empty() {
            return Ok(());
        }
        self.in_transaction(cx, |vault, cx| {
            for (key, intent) in &intents {
                vault.delete(Table::Intents, key)?;
                for id in &intent.metered {
                    vault.use_up(*id)?;
                }
                let index = key.as_slice().try_into().map(u64::from_be_bytes).ok();
                let mut outcome = vault.event(intent.actor, Action::UseOutcome, cx);
                outcome.intent = index;
                outcome.destination = Some(intent.destination.clone());
                outcome.note = Some("unknown".into());
                vault.log(outcome, cx)?;
            }
            Ok(())
        })
    }

    /// Takes all the bytes that a grant had left.
    fn use_up(&mut self, id: GrantId) -> Result<(), Refusal> {
        let grant = self.grant(id)?;
        if let Some(max) = grant.and_then(|grant| grant.given.limits.bytes_max) {
            let mut used: GrantUse = self.get(Table::GrantUses, id.as_bytes())?.unwrap_or_default();
            used.bytes = used.bytes.max(max);
            self.put(Table::GrantUses, id.as_bytes(), &used)?;
        }
        Ok(())
    }
}

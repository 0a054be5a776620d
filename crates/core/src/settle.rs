//! The one place where what was done becomes durable, before anything of it leaves; and where it is taken back.

use std::sync::Arc;

use strongroom_wire::code::Blame;
use strongroom_wire::{Code, Refusal};

use crate::header::Roster;
use crate::ledger::Mark;
use crate::planted::rule;
use crate::records::Storage;
use crate::vault::{Context, Effect, Live, Peer, Vault};

/// Where an act began: what to go back to when it refuses.
struct Before {
    mark: Mark,
    live: Arc<Live>,
    roster: Option<Arc<Roster>>,
    effects: usize,
    chain_writes: usize,
    settlements: u64,
}

impl<S: Storage> Vault<S> {
    /// Makes everything durable that was done since the last call, then hands out what should happen. Where the disk fails,
    /// nothing of it remains, and each answer becomes a refusal.
    pub fn flush(&mut self, cx: &mut Context<'_>) -> Vec<Effect> {
        let needs_header = self.rests_on_header();
        if self.settle_all(needs_header, cx).is_ok() {
            self.answer_waiting(cx);
        }
        self.durable = 0;
        let mut effects = std::mem::take(&mut self.effects);
        // Whoever throws itself out still gets its answer.
        effects.sort_by_key(|effect| matches!(effect, Effect::Disconnect(_)));
        effects
    }

    /// Makes durable what was done so far, and with it what waits to be handed out. On an error nothing of it remains, and what
    /// waited has become a refusal.
    pub(crate) fn settle(&mut self, cx: &mut Context<'_>) -> Result<(), Refusal> {
        self.settle_all(true, cx)
    }

    fn settle_all(&mut self, needs_header: bool, cx: &mut Context<'_>) -> Result<(), Refusal> {
        if let Err(refusal) = rule!(4, self.commit(), self.commit().or(Ok(()))) {
            self.discard(&refusal);
            return Err(refusal);
        }
        if let Err(refusal) = self.settle_header(cx)
            && needs_header
        {
            // The records are ahead of the header now. The next unlock brings the header up to them.
            let refusal = Refusal::new(Code::StoreFailed).detail(format!(
                "{}. The vault was locked; unlock it to see what was done.",
                refusal.to_string().trim_end_matches('.')
            ));
            self.discard(&refusal);
            self.close();
            return Err(refusal);
        }
        self.settlements += 1;
        self.durable = self.effects.len();
        if let Some(open) = &mut self.open {
            open.running.retain(|_, running| !running.written);
        }
        Ok(())
    }

    /// Whether something that waits rests on the header: records that it keeps up with, or the roster. Else there is nothing to write
    /// but that a factor was right or the vault was locked, which is tried again with the next settlement: a disk that takes no
    /// writes goes on to be read.
    fn rests_on_header(&self) -> bool {
        let enrolled = self.header.as_ref().is_some_and(|header| !Arc::ptr_eq(&header.roster, &header.settled));
        enrolled || self.open.as_ref().is_some_and(|open| open.ledger.has_grown())
    }

    /// Chain files first: a blob whose key is on the disk while its change is not is only a blob too many, the other way round
    /// a critical value would be in no credential.
    fn commit(&mut self) -> Result<(), Refusal> {
        for (device, bytes) in std::mem::take(&mut self.chain_writes) {
            self.disk.write_chain(device, &bytes)?;
        }
        if let Some(open) = &mut self.open {
            open.ledger.commit(&mut self.disk)?;
            open.settled = Arc::clone(&open.live);
        }
        Ok(())
    }

    /// Writes the header where it changed. Nothing of a transaction is open.
    pub(crate) fn settle_header(&mut self, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let Some(header) = &mut self.header else { return Ok(()) };
        // One that no identity has signed for yet would pass for a vault that is back.
        if header.dirty && !header.is_stand_in() {
            if let Some(open) = &self.open {
                header.floor = open.ledger.position(&mut self.disk)?;
            }
            header.time = self.clock.now(cx.moment);
            header.write(&mut self.disk, self.id, &self.share, cx.rng)?;
        }
        header.settled = Arc::clone(&header.roster);
        Ok(())
    }

    /// Goes back to the last settlement.
    fn discard(&mut self, refusal: &Refusal) {
        self.chain_writes.clear();
        if let Some(header) = &mut self.header {
            header.roster = Arc::clone(&header.settled);
        }
        if let Some(open) = &mut self.open {
            open.ledger.roll_back(&mut self.disk);
            open.live = Arc::clone(&open.settled);
            open.running.values_mut().for_each(|running| running.written = false);
        }
        let from = self.durable.min(self.effects.len());
        let undone: Vec<Effect> = self.effects.drain(from..).collect();
        for effect in undone {
            self.forget_run(&effect);
            if matches!(effect, Effect::Hardware(_)) {
                self.forget_asked(refusal);
                self.hardware_works = false;
            }
            self.effects.extend(refuse(effect, refusal));
        }
        self.durable = self.effects.len();
        // Whoever is inside a transaction that began before must not go back to what it began with: that is gone too.
        self.settlements += 1;
    }

    /// An exchange that is not handed out does not run.
    fn forget_run(&mut self, effect: &Effect) {
        if let (Effect::Http(run), Some(open)) = (effect, &mut self.open) {
            open.running.remove(&run.run);
        }
    }

    /// Runs `act` so that nothing of it remains when it refuses, but what it settled itself.
    pub(crate) fn in_transaction<T>(
        &mut self,
        cx: &mut Context<'_>,
        act: impl FnOnce(&mut Self, &mut Context<'_>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let Some(open) = &mut self.open else { return act(self, cx) };
        let before = Before {
            mark: open.ledger.mark(&mut self.disk)?,
            live: Arc::clone(&open.live),
            roster: self.header.as_ref().map(|header| Arc::clone(&header.roster)),
            effects: self.effects.len(),
            chain_writes: self.chain_writes.len(),
            settlements: self.settlements,
        };
        let result = act(self, cx);
        let Some(open) = &mut self.open else { return result };
        match result {
            Ok(value) => match open.ledger.keep(&mut self.disk, &before.mark) {
                Ok(()) => Ok(value),
                Err(error) => {
                    let refusal = error.into();
                    self.discard(&refusal);
                    Err(refusal)
                }
            },
            Err(refusal) => Err(self.take_back(before, refusal)),
        }
    }

    /// Takes back what an act did; answers its refusal, or the disk's where that took back more than the act.
    fn take_back(&mut self, before: Before, refusal: Refusal) -> Refusal {
        if before.settlements != self.settlements {
            self.discard(&refusal);
            return refusal;
        }
        let Some(open) = &mut self.open else { return refusal };
        if let Err(error) = open.ledger.take_back(&mut self.disk, before.mark) {
            // Some failures take back the whole transaction, and with it what others were about to be answered: that is more
            // than what the asker did wrong.
            let failed = error.into();
            self.discard(&failed);
            return if refusal.code.blame() == Blame::Asker { failed } else { refusal };
        }
        open.live = before.live;
        if let (Some(header), Some(roster)) = (&mut self.header, before.roster) {
            header.roster = roster;
        }
        self.chain_writes.truncate(before.chain_writes);
        let undone: Vec<Effect> = self.effects.drain(before.effects.min(self.effects.len())..).collect();
        for effect in &undone {
            self.forget_run(effect);
        }
        refusal
    }
}

/// An answer that may not leave because nothing behind it is durable.
fn refuse(effect: Effect, refusal: &Refusal) -> Option<Effect> {
    match effect {
        Effect::Device(to, _) => Some(Effect::Device(to, Err(refusal.clone()))),
        Effect::Guest(to, _) => Some(Effect::Guest(to, Err(refusal.clone().for_guest()))),
        Effect::Http(run) if matches!(run.peer, Peer::Guest(_)) => {
            Some(Effect::Guest(run.to, Err(refusal.clone().for_guest())))
        }
        Effect::Http(run) => Some(Effect::Device(run.to, Err(refusal.clone()))),
        // The bytes of the answer have left already; its outcome is written again.
        Effect::HttpEnd(to) => Some(Effect::HttpEnd(to)),
        Effect::HttpAbort => Some(Effect::HttpAbort),
        // Written before it was said.
        Effect::Rescued => Some(Effect::Rescued),
        // Time and channels end without a word on the disk, and to break off too much is safe.
        Effect::HttpCancel(run) => Some(Effect::HttpCancel(run)),
        Effect::Tell(..) | Effect::Disconnect(_) | Effect::Notice(_) | Effect::Deleted | Effect::Hardware(_) => None,
    }
}

//! Load: a vault that takes more than its part of the machine, while somebody else uses a vault, is held back.
//!
//! What is held back takes turns with its like: at any moment no more of them run than half as many as there are processors, and
//! the others are stopped (`SIGSTOP`). So the other half is left to those that are quiet, to the host and to the services; and one
//! noisy vault alone, of two processors, is not slowed down at all. A stopped process asks neither the processors nor the disk for
//! anything, whatever became of it. Its host may stop it and let it go on without any right, and whatever the system weighs
//! processes by; a lower priority an ordinary user could not take back, and where each session is weighed as a whole
//! (`sched_autogroup`), it says nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use strongroom_wire::VaultId;
use tokio::time::Instant;

use crate::config::LoadPolicy;

/// What a vault's process takes of the machine, as far as it is known, and whether it is held back.
#[derive(Debug)]
pub(crate) struct Load {
    process: Option<Arc<OwnedFd>>,
    /// When it was looked at last, and what it had used of a processor by then.
    looked: Instant,
    used: Option<Duration>,
    /// For what it was handed since.
    charged: Duration,
    /// How long it was stopped since.
    stopped: Duration,
    /// Since when it is stopped.
    stopped_at: Option<Instant>,
    held: bool,
    /// Looks in a row that speak for the other state.
    looks: u32,
}

/// What it took of a processor, and how much of the time it was let run, both from 0 to 1 and, by what it was handed, beyond.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    taken: f64,
    ran: f64,
}

impl Rate {
    /// Whether that is more than this part of a processor.
    pub(crate) fn is_beyond(self, part: f64) -> bool {
        self.taken > part
    }
}

impl Load {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            process: None,
            looked: now,
            used: None,
            charged: Duration::ZERO,
            stopped: Duration::ZERO,
            stopped_at: None,
            held: false,
            looks: 0,
        }
    }

    pub(crate) fn started(&mut self, process: Arc<OwnedFd>) {
        self.process = Some(process);
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held
    }

    /// It was handed a message of so many bytes. That counts beside the processor's time: for its writes, which wait for the disk.
    pub(crate) fn handed(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.charged += PER_MESSAGE + PER_KIBIBYTE * (bytes / 1_024);
    }

    /// What it took since the last look; `None` at the first.
    pub(crate) fn rate(&mut self, now: Instant, used: Duration) -> Option<Rate> {
        let since = now.saturating_duration_since(self.looked).as_secs_f64();
        if let Some(at) = self.stopped_at {
            self.stopped += now.saturating_duration_since(at);
            self.stopped_at = Some(now);
        }
        let (charged, stopped) = (std::mem::take(&mut self.charged), std::mem::take(&mut self.stopped));
        let before = self.used.replace(used);
        self.looked = now;
        let taken = used.saturating_sub(before?) + charged;
        (since > 0.0).then(|| Rate { taken: taken.as_secs_f64() / since, ran: 1.0 - stopped.as_secs_f64() / since })
    }

    /// Takes note of one look, with the part that it may take; `None` where that disturbs nobody.
    pub(crate) fn judge(&mut self, rate: Rate, part: Option<f64>, policy: &LoadPolicy) {
        let changes = match part {
            None => self.held,
            // One that is let go again while it wants more would be noisy until it is noticed.
            Some(part) if self.held => rate.taken < part.min(rate.ran) * CALM,
            Some(part) => rate.is_beyond(part),
        };
        self.looks = if changes { self.looks + 1 } else { 0 };
        let enough = if self.held { policy.looks_until_let_go } else { policy.looks_until_held };
        if self.looks >= enough && self.held {
            self.let_go();
        } else if self.looks >= enough {
            (self.held, self.looks) = (true, 0);
        }
    }

    /// Whether the next look is to look at it as well.
    pub(crate) fn is_busy(&self) -> bool {
        self.held || self.looks > 0
    }

    /// Whatever was found out: it is not to be kept from leaving.
    pub(crate) fn let_go(&mut self) {
        self.held = false;
        self.looks = 0;
        self.run(Instant::now());
    }

    fn run(&mut self, now: Instant) {
        if let Some(at) = self.stopped_at.take() {
            self.stopped += now.saturating_duration_since(at);
            self.signal(Signal::CONT);
        }
    }

    fn stop(&mut self, now: Instant) {
        if self.stopped_at.is_none() && self.signal(Signal::STOP) {
            self.stopped_at = Some(now);
        }
    }

    fn signal(&self, signal: Signal) -> bool {
        // One that is gone needs no turn.
        self.process.as_ref().is_some_and(|process| rustix::process::pidfd_send_signal(process, signal).is_ok())
    }
}

/// The part of one processor that each may take: what half of the machine gives to those that are at work.
pub(crate) fn part<'a>(rates: impl Iterator<Item = &'a Rate>, policy: &LoadPolicy) -> f64 {
    let at_work = rates.filter(|rate| rate.taken > AT_WORK).count().max(1);
    (policy.places() / f64::from(u32::try_from(at_work).unwrap_or(u32::MAX))).max(policy.part_min)
}

/// Whose turn it is.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// Who was the last to have one.
    last: Option<VaultId>,
    /// Places that were not given out yet: there may be half a one.
    places: f64,
}

impl Turns {
    /// Gives out the next turn among those that are held back; `false` where there is a place for each.
    pub(crate) fn next(&mut self, mut held: BTreeMap<VaultId, &mut Load>, policy: &LoadPolicy) -> bool {
        let now = Instant::now();
        let all = u32::try_from(held.len()).unwrap_or(u32::MAX);
        if f64::from(all) <= policy.places() {
            held.into_values().for_each(|load| load.run(now));
            return false;
        }
        self.places = self.places.fract() + policy.places();
        let mut places = self.places;
        let after = self.last.map_or(0, |last| held.range(..=last).count());
        let order: Vec<VaultId> = held.keys().cycle().skip(after).take(held.len()).copied().collect();
        for vault in order {
            let Some(load) = held.get_mut(&vault) else { continue };
            if places >= 1.0 {
                places -= 1.0;
                self.last = Some(vault);
                load.run(now);
            } else {
                load.stop(now);
            }
        }
        true
    }
}

/// Processor time of a process so far; `None` where it is gone, or hidden from this user.
pub(crate) fn used(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // pid (name) state ppid …; the name may hold anything. The 14th and 15th are ticks in its own code and in the kernel's.
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(Duration::from_millis((ticks()? + ticks()?) * 1_000 / TICKS_PER_SEC))
}

/// A call is a commit, at most: what that takes of a disk.
const PER_MESSAGE: Duration = Duration::from_micros(250);
/// A hundred mebibytes a second.
const PER_KIBIBYTE: Duration = Duration::from_micros(10);
/// Of a processor: more than that is work.
const AT_WORK: f64 = 0.005;
/// Of what it could have had.
const CALM: f64 = 0.5;
/// `USER_HZ`, on every machine that this runs on.
const TICKS_PER_SEC: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> LoadPolicy {
        LoadPolicy { processors: 4.0, ..LoadPolicy::default() }
    }

    fn took(taken: f64) -> Rate {
        Rate { taken, ran: 1.0 }
    }

    #[test]
    fn half_of_the_machine_is_shared_out_among_those_at_work() {
        let part = |rates: &[f64]| part(rates.iter().map(|taken| took(*taken)).collect::<Vec<_>>().iter(), &policy());
        assert_eq!([part(&[]), part(&[0.9]), part(&[0.9; 4])], [2.0, 2.0, 0.5]);
        assert_eq!(part(&[0.9, 0.9, 0.001, 0.001, 0.001]), 1.0, "whoever takes next to nothing needs no part");
        assert_eq!(part(&[0.9; 1_000]), 0.02);
    }

    #[test]
    fn a_burst_is_no_load_and_what_is_held_back_is_let_go_when_it_wants_little() {
        let mut load = Load::new(Instant::now());
        let mut look = |taken, ran, part| {
            load.judge(Rate { taken, ran }, part, &policy());
            load.is_held()
        };
        let part = Some(0.5);
        assert_eq!([look(0.9, 1.0, part), look(0.1, 1.0, part), look(0.9, 1.0, part)], [false; 3]);
        assert!(look(0.9, 1.0, part));
        // It takes what its turns leave it: that is not little.
        for _ in 0..10 {
            assert!(look(0.2, 0.25, part));
        }
        assert!(look(0.1, 0.25, part) && look(0.2, 0.25, part), "one quiet look is not enough");
        assert_eq!([look(0.1, 0.25, part), look(0.1, 0.25, part), look(0.1, 0.25, part)], [true, true, false]);
        // Alone it may take everything, and is let go.
        assert_eq!([look(0.9, 1.0, None), look(0.9, 1.0, None), look(0.9, 1.0, None)], [false; 3]);
        assert_eq!([look(0.9, 1.0, part), look(0.9, 1.0, part)], [false, true]);
        assert_eq!([look(0.9, 0.5, None), look(0.9, 0.5, None), look(0.9, 0.5, None)], [true, true, false]);
    }

    #[test]
    fn messages_count_beside_processor_time() {
        let start = Instant::now();
        let mut load = Load::new(start);
        let at = |secs| start + Duration::from_secs(secs);
        assert!(load.rate(at(1), Duration::from_secs(7)).is_none(), "what it took before is not of this second");
        for _ in 0..100 {
            load.handed(10 * 1_024);
        }
        let rate = load.rate(at(2), Duration::from_millis(7_250)).expect("a second look");
        assert!((rate.taken - 0.285).abs() < 1e-6 && (rate.ran - 1.0).abs() < 1e-6, "{rate:?}");
        assert!(load.rate(at(3), Duration::from_millis(7_250)).is_some_and(|rate| rate.taken == 0.0));
    }

    #[test]
    fn processor_time_is_read_of_any_process() {
        let before = used(std::process::id()).expect("this process is there");
        while used(std::process::id()).is_some_and(|now| now <= before + Duration::from_millis(20)) {}
        assert!(used(u32::MAX).is_none());
    }
}

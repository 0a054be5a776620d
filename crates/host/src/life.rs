//! What each vault's process is doing: for the operator, and for whoever needs its memory.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use strongroom_bus::log;
use strongroom_wire::VaultId;
use strongroom_wire::operate::{Counters, Life, VaultLife};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::{LoadPolicy, MemoryPolicy};
use crate::load::{self, Load, Turns};

/// Every vault that has a process, or is not to have one for a while.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    vaults: Mutex<HashMap<VaultId, Entry>>,
    count: Count,
}

#[derive(Debug, Default)]
struct Count {
    started: AtomicU64,
    crashed: AtomicU64,
    evicted: AtomicU64,
    held_back: AtomicU64,
    start_us: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    life: Life,
    busy: bool,
    channels: usize,
    pid: u32,
    since: Instant,
    used: Instant,
    evict: Arc<Notify>,
    load: Load,
}

impl Lives {
    /// The place of a vault whose process is about to be started.
    pub(crate) fn enter(self: &Arc<Self>, vault: VaultId) -> Place {
        let now = Instant::now();
        let evict = Arc::new(Notify::new());
        let entry = Entry {
            life: Life::Starting,
            busy: false,
            channels: 0,
            pid: 0,
            since: now,
            used: now,
            evict: Arc::clone(&evict),
            load: Load::new(now),
        };
        self.lock().insert(vault, entry);
        Place { lives: Arc::clone(self), vault, evict }
    }

    /// Every vault that is not cold, in the order of ids.
    pub(crate) fn all(&self) -> Vec<VaultLife> {
        let now = Instant::now();
        let secs = |at: Instant| now.saturating_duration_since(at).as_secs();
        let row = |(vault, entry): (&VaultId, &Entry)| VaultLife {
            vault: *vault,
            life: entry.life,
            busy: entry.busy,
            held_back: entry.load.is_held(),
            channels: entry.channels as u64,
            pid: entry.pid,
            since_secs: secs(entry.since),
            used_secs: secs(entry.used),
        };
        let mut rows: Vec<VaultLife> = self.lock().iter().map(row).collect();
        rows.sort_by_key(|row| row.vault);
        rows
    }

    /// What was counted since the start.
    pub(crate) fn counters(&self) -> Counters {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            started: count(&self.count.started),
            crashed: count(&self.count.crashed),
            evicted: count(&self.count.evicted),
            held_back: count(&self.count.held_back),
            start_us: count(&self.count.start_us),
        }
    }

    /// Stops what has been idle for long, and while there is too much, what was used least recently; for ever.
    pub(crate) async fn keep_within(&self, policy: MemoryPolicy) {
        loop {
            tokio::time::sleep(policy.look_every).await;
            self.look(policy, memory_available());
        }
    }

    /// One look. A vault that is open, is doing something or waits for its member's answer stays.
    fn look(&self, policy: MemoryPolicy, available: Option<u64>) {
        let now = Instant::now();
        let vaults = self.lock();
        let mut idle: Vec<(bool, Instant, &Entry)> = vaults
            .values()
            .filter(|entry| entry.life == Life::Locked && !entry.busy)
            .filter(|entry| now.saturating_duration_since(entry.used) >= policy.spare)
            .map(|entry| (entry.channels > 0, entry.used, entry))
            .collect();
        // Those that somebody is connected to come last.
        idle.sort_by_key(|(connected, used, _)| (*connected, *used));
        let running = vaults.values().filter(|entry| entry.pid != 0 && entry.life != Life::Draining).count();
        let too_many = running.saturating_sub(policy.processes_max);
        let short = available.is_some_and(|available| available < policy.reserve_bytes);
        let wanted = too_many.max(if short { EVICTED_AT_ONCE } else { 0 });
        for (place, (connected, used, entry)) in idle.into_iter().enumerate() {
            let long = !connected && now.saturating_duration_since(used) >= policy.idle;
            if long || place < wanted {
                entry.evict.notify_one();
            }
        }
    }

    /// Holds back whoever takes more than its part while others are at work; for ever.
    pub(crate) async fn share_out(&self, policy: LoadPolicy) {
        let (mut turns, mut looked, mut round) = (Turns::default(), Instant::now(), 0);
        loop {
            let somebody_waits = self.give_turns(&mut turns, &policy);
            tokio::time::sleep(if somebody_waits { policy.turn } else { policy.look_every }).await;
            if looked.elapsed() >= policy.look_every {
                looked = Instant::now();
                round = u8::wrapping_add(round, 1);
                self.judge(&policy, round);
            }
        }
    }

    /// One look at what each takes. Those that were asked nothing since the last are looked at now and then: thousands may be idle.
    fn judge(&self, policy: &LoadPolicy, round: u8) {
        let now = Instant::now();
        let looked_at = |(vault, entry): (&VaultId, &Entry)| {
            let recent = now.saturating_duration_since(entry.used) <= LOOKS_AFTER_USE * policy.look_every;
            let due = vault.as_bytes()[0] % LOOKS_AT_IDLE == round % LOOKS_AT_IDLE;
            (entry.pid != 0 && (recent || due || entry.load.is_busy())).then_some((*vault, entry.pid))
        };
        let pids: Vec<(VaultId, u32)> = self.lock().iter().filter_map(looked_at).collect();
        let used: Vec<_> = pids.into_iter().filter_map(|(vault, pid)| Some((vault, load::used(pid)?))).collect();
        let mut vaults = self.lock();
        let rates: Vec<_> = used
            .into_iter()
            .filter_map(|(vault, used)| Some((vault, vaults.get_mut(&vault)?.load.rate(now, used)?)))
            .collect();
        let part = load::part(rates.iter().map(|(_, rate)| rate), policy);
        let noisy: HashSet<VaultId> =
            rates.iter().filter(|(_, rate)| rate.is_beyond(part)).map(|(vault, _)| *vault).collect();
        let somebody_else = vaults.iter().any(|(vault, entry)| {
            let in_use = entry.channels > 0 || now.saturating_duration_since(entry.used) <= policy.neighbour;
            in_use && !entry.load.is_held() && !noisy.contains(vault)
        });
        let part = somebody_else.then_some(part);
        for (vault, rate) in rates {
            let Some(entry) = vaults.get_mut(&vault).filter(|entry| entry.life.is_up()) else { continue };
            let before = entry.load.is_held();
            entry.load.judge(rate, part, policy);
            let held = entry.load.is_held();
            if held && !before {
                self.count.held_back.fetch_add(1, Ordering::Relaxed);
            }
            if held != before {
                log::info("vault_held_back", &[("vault", &vault), ("held", &held)]);
            }
        }
    }

    /// Gives the next turn; `false` where nobody waits for one.
    fn give_turns(&self, turns: &mut Turns, policy: &LoadPolicy) -> bool {
        let mut vaults = self.lock();
        let held = vaults.iter_mut().filter(|(_, entry)| entry.load.is_held());
        let held: BTreeMap<VaultId, &mut Load> = held.map(|(vault, entry)| (*vault, &mut entry.load)).collect();
        turns.next(held, policy)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<VaultId, Entry>> {
        // No code panics between two halves of a change.
        self.vaults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A vault's place among the lives. Dropped, its vault is cold.
#[derive(Debug)]
pub(crate) struct Place {
    lives: Arc<Lives>,
    vault: VaultId,
    evict: Arc<Notify>,
}

impl Place {
    /// Its process was started.
    pub(crate) fn started(&self, pid: u32, process: Arc<OwnedFd>) {
        self.lives.count.started.fetch_add(1, Ordering::Relaxed);
        self.change(|entry| {
            entry.pid = pid;
            entry.load.started(process);
        });
    }

    /// Its process is up: this long after it was asked for.
    pub(crate) fn is_up(&self, open: bool, after: Duration) {
        let us = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        self.lives.count.start_us.fetch_add(us, Ordering::Relaxed);
        self.state(open, false);
    }

    /// What its process said of itself.
    pub(crate) fn state(&self, open: bool, busy: bool) {
        self.change(|entry| {
            let life = if open { Life::Unlocked } else { Life::Locked };
            if entry.life != life {
                entry.life = life;
                entry.since = Instant::now();
            }
            entry.busy = busy;
            entry.used = Instant::now();
        });
    }

    /// It was handed a message of so many bytes.
    pub(crate) fn handed(&self, channels: usize, bytes: usize) {
        self.change(|entry| {
            entry.used = Instant::now();
            entry.channels = channels;
            entry.load.handed(bytes);
        });
    }

    /// Somebody came or went.
    pub(crate) fn used(&self, channels: usize) {
        self.change(|entry| {
            entry.used = Instant::now();
            entry.channels = channels;
        });
    }

    /// Its process was told to leave.
    pub(crate) fn draining(&self, for_memory: bool) {
        if for_memory {
            log::info("vault_evicted", &[("vault", &self.vault)]);
        }
        self.change(|entry| {
            entry.life = Life::Draining;
            // A process that is stopped could not leave.
            entry.load.let_go();
            entry.since = Instant::now();
        });
    }

    /// Its process left to make room.
    pub(crate) fn made_room(&self) {
        self.lives.count.evicted.fetch_add(1, Ordering::Relaxed);
    }

    /// Its process crashed.
    pub(crate) fn crashed(&self) {
        self.lives.count.crashed.fetch_add(1, Ordering::Relaxed);
    }

    /// Its process is wanted to leave, where nothing is under way.
    pub(crate) async fn evicted(&self) {
        self.evict.notified().await;
    }

    fn change(&self, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.lives.lock().get_mut(&self.vault) {
            change(entry);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lives.lock().remove(&self.vault);
    }
}

/// Bytes that programs can have without swapping, as the kernel estimates it.
pub(crate) fn memory_available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib: u64 =
        text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1_024)
}

/// Processes that leave at one look while memory is short: each gives back about a mebibyte.
const EVICTED_AT_ONCE: usize = 64;
/// Looks at a process after it was asked something: what it was asked may take long.
const LOOKS_AFTER_USE: u32 = 10;
/// Looks until each idle process was looked at once.
const LOOKS_AT_IDLE: u8 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(processes_max: usize) -> MemoryPolicy {
        MemoryPolicy {
            processes_max,
            reserve_bytes: 1 << 30,
            spare: Duration::from_millis(500),
            ..MemoryPolicy::default()
        }
    }

    fn is_evicted(place: &Place) -> bool {
        let evicted = std::pin::pin!(place.evicted());
        evicted.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    #[tokio::test(start_paused = true)]
    async fn the_least_recently_used_leaves_and_never_one_that_is_open_or_busy() {
        let lives = Arc::new(Lives::default());
        let place = |number: u8| {
            let place = lives.enter(VaultId([number; 16]));
            // Nobody to be signalled.
            let nobody = std::fs::File::open("/dev/null").expect("it is there");
            place.started(number.into(), Arc::new(nobody.into()));
            place
        };
        let (open, busy, connected, older, newer) = (place(1), place(2), place(3), place(4), place(5));
        open.is_up(true, Duration::ZERO);
        for place in [&busy, &connected, &older, &newer] {
            place.is_up(false, Duration::ZERO);
        }
        busy.state(false, true);
        connected.used(1);
        tokio::time::advance(Duration::from_secs(1)).await;
        newer.used(0);
        lives.look(policy(5), Some(2 << 30));
        assert!(
            [&open, &busy, &connected, &older, &newer].into_iter().all(|place| !is_evicted(place)),
            "there is room"
        );
        lives.look(policy(4), Some(2 << 30));
        assert!(is_evicted(&older));
        assert!([&open, &busy, &connected, &newer].into_iter().all(|place| !is_evicted(place)), "one was too many");
        lives.look(policy(5), Some(1 << 20));
        assert!(!is_evicted(&newer), "it was used a moment ago");
        tokio::time::advance(Duration::from_secs(1)).await;
        lives.look(policy(5), Some(1 << 20));
        assert!([&connected, &older, &newer].into_iter().all(is_evicted), "memory is short");
        assert!(!is_evicted(&open) && !is_evicted(&busy));
        tokio::time::advance(MemoryPolicy::default().idle).await;
        lives.look(policy(5), Some(2 << 30));
        assert!(is_evicted(&older) && is_evicted(&newer), "idle for long");
        assert!(!is_evicted(&connected), "somebody is there");
        drop(older);
        assert_eq!(lives.all().len(), 4);
    }

    #[test]
    fn the_kernel_says_how_much_there_is() {
        assert!(memory_available().is_some_and(|bytes| bytes > 1 << 20));
    }
}

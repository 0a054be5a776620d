//! What each vault's process is doing: for the operator, and for whoever needs its memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use strongroom_bus::log;
use strongroom_wire::VaultId;
use strongroom_wire::operate::{Counters, Life, VaultLife};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::MemoryPolicy;

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
    pub(crate) fn started(&self, pid: u32) {
        self.lives.count.started.fetch_add(1, Ordering::Relaxed);
        self.change(|entry| entry.pid = pid);
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

    /// Somebody asked something of it.
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
            place.started(number.into());
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

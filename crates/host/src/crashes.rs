//! When a crashed vault process is started again.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::RestartPolicy;

/// The crashes in a row of one vault's processes.
#[derive(Debug)]
pub(crate) struct Crashes {
    policy: RestartPolicy,
    in_a_row: u32,
    not_before: Option<Instant>,
}

impl Crashes {
    pub(crate) fn new(policy: RestartPolicy) -> Self {
        Self { policy, in_a_row: 0, not_before: None }
    }

    /// A process crashed after `uptime`. Returns the seconds for which the vault is held now, where it is.
    pub(crate) fn crashed(&mut self, now: Instant, uptime: Duration) -> Option<u64> {
        if uptime >= self.policy.steady_after {
            self.in_a_row = 0;
        }
        self.in_a_row += 1;
        let wait = self.wait();
        self.not_before = Some(now + wait);
        (self.in_a_row >= HELD_AFTER).then(|| wait.as_secs().max(1))
    }

    /// Seconds until a process may be started, or `None` where it may be now.
    pub(crate) fn wait_secs(&self, now: Instant) -> Option<u64> {
        let left = self.not_before?.checked_duration_since(now).filter(|left| !left.is_zero())?;
        Some(left.as_secs() + 1)
    }

    pub(crate) fn in_a_row(&self) -> u32 {
        self.in_a_row
    }

    fn wait(&self) -> Duration {
        match self.in_a_row {
            0 | 1 => Duration::ZERO,
            2 => self.policy.second_wait,
            n => self.policy.held.saturating_mul(1 << (n - HELD_AFTER).min(16)).min(self.policy.held_max),
        }
    }
}

/// Crashes in a row after which a vault is held and the member told.
const HELD_AFTER: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_grow_and_a_steady_process_starts_anew() {
        let policy = RestartPolicy::default();
        let mut crashes = Crashes::new(policy);
        let now = Instant::now();
        let waits: Vec<_> =
            (0..9).map(|_| (crashes.crashed(now, Duration::from_secs(1)), crashes.wait_secs(now))).collect();
        let held = |secs| (Some(secs), Some(secs + 1));
        assert_eq!(waits[..5], [(None, None), (None, Some(2)), held(60), held(120), held(240)]);
        assert_eq!(waits[8], held(900));
        assert_eq!(crashes.wait_secs(now + policy.held_max), None);
        assert_eq!(crashes.crashed(now, policy.steady_after), None);
        assert_eq!((crashes.in_a_row(), crashes.wait_secs(now)), (1, None));
    }
}

//! The device's clock: the one place of this crate that reads it.

use std::time::{SystemTime, UNIX_EPOCH};

use strongroom_wire::Timestamp;

/// Now, as this device believes.
#[must_use]
pub fn now() -> Timestamp {
    #[allow(clippy::disallowed_methods, reason = "a program's own clock; the vault is told, and decides itself")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Milliseconds on a clock that never goes back; only differences mean something.
pub(crate) fn monotonic_ms() -> u64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    #[allow(clippy::disallowed_methods, reason = "the age of a channel's keys, on the device that opened it")]
    let elapsed = START.get_or_init(std::time::Instant::now).elapsed();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

/// The moment, as [`monotonic_ms`] counts, until which a wait lasts.
pub(crate) fn deadline(patience: std::time::Duration) -> u64 {
    monotonic_ms().saturating_add(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX))
}

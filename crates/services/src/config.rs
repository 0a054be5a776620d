//! What the services are told at their start.

use std::os::unix::net::UnixListener;
use std::time::Duration;

/// How the services run.
#[derive(Debug)]
pub struct ServicesConfig {
    /// Where clients connect: made by [`crate::bind`], or inherited.
    pub listener: UnixListener,
    /// The version that a ping is answered with.
    pub version: String,
    /// Limits of the relay.
    pub limits: RelayLimits,
}

impl ServicesConfig {
    /// With the usual limits.
    pub fn new(listener: UnixListener, version: impl Into<String>) -> Self {
        Self { listener, version: version.into(), limits: RelayLimits::default() }
    }
}

/// Limits of the relay: what one client, one user and all of them together may take.
#[derive(Clone, Copy, Debug)]
pub struct RelayLimits {
    /// Connections at a time.
    pub connections_max: usize,
    /// Connections at a time of one user of the machine.
    pub connections_per_uid_max: usize,
    /// Connections at a time to one vault: less than those of one user, or one vault could keep a user's others from being reached.
    pub connections_per_vault_max: usize,
    /// New vaults an hour, of one user.
    pub new_vaults_per_hour_max: usize,
    /// How long a client may take for its first message.
    pub hello_timeout: Duration,
    /// How long a channel may be silent both ways.
    pub idle_timeout: Duration,
    /// How long a client may take nothing of what waits for it.
    pub stall_timeout: Duration,
    /// Bytes that may wait for one client before it is cut off.
    pub waiting_bytes_max: usize,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            connections_max: 4_096,
            connections_per_uid_max: 1_024,
            connections_per_vault_max: 256,
            new_vaults_per_hour_max: 60,
            hello_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30 * 60),
            stall_timeout: Duration::from_secs(30),
            waiting_bytes_max: 16 * 1024 * 1024,
        }
    }
}

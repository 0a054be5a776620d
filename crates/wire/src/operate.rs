//! What an operator asks of a running host, over the socket in its data folder, and what it answers. No member is named but by
//! vault id, and nothing of a vault's content.

use serde::{Deserialize, Serialize};

use crate::ids::VaultId;

/// What an operator asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HostRequest {
    /// How the host stands.
    Status {},
}

/// How a host stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostStatus {
    /// The host program's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Seconds since its start.
    pub uptime_secs: u64,
    /// How far vault processes are set apart; absent until the first was examined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<IsolationStatus>,
    /// Vaults that there are.
    pub vaults: u64,
    /// Bytes of memory that programs can still have on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_available_bytes: Option<u64>,
    /// What was counted since the start.
    pub counters: Counters,
    /// The vaults that are not cold.
    pub running: Vec<VaultLife>,
}

/// How far vault processes are set apart (docs/isolation.md).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IsolationStatus {
    /// The highest level that holds.
    pub level: String,
    /// The promises that do not.
    pub missing: Vec<String>,
}

/// What a host counts from its start on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counters {
    /// Vault processes that were started.
    pub started: u64,
    /// Those that crashed.
    pub crashed: u64,
    /// Those that left to make room.
    pub evicted: u64,
    /// How often a vault was held back, because it took more than its part.
    pub held_back: u64,
    /// Microseconds from asking for a process to its first word, summed over all.
    pub start_us: u64,
}

/// What a vault's process is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultLife {
    /// The vault.
    pub vault: VaultId,
    /// In which state.
    pub life: Life,
    /// Whether a request or an approval is under way.
    pub busy: bool,
    /// Whether it is held back, because it takes more than its part of the machine while others are at work.
    pub held_back: bool,
    /// Channels of devices and guests.
    pub channels: u64,
    /// The process; 0 before it was started.
    pub pid: u32,
    /// Seconds in this state.
    pub since_secs: u64,
    /// Seconds since it was asked something.
    pub used_secs: u64,
}

/// The states of a vault's process. A vault without one is cold and in no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Life {
    /// It was asked for and has not spoken yet.
    Starting,
    /// It holds no key.
    Locked,
    /// It is open.
    Unlocked,
    /// It was told to leave, and finishes what is under way.
    Draining,
}

impl Life {
    /// Every state, in the order in which a process goes through them.
    pub const ALL: [Self; 4] = [Self::Starting, Self::Locked, Self::Unlocked, Self::Draining];

    /// Whether its process serves.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Locked | Self::Unlocked)
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Locked => "locked",
            Self::Unlocked => "unlocked",
            Self::Draining => "draining",
        }
    }
}

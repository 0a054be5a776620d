//! What a jail promises, and what of it holds.

use std::fmt;

/// One promise of a jail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Promise {
    /// No other process has its user.
    OwnUser,
    /// It sees no process but itself.
    OwnProcesses,
    /// It has mounts of its own, and its folder is its root.
    OwnMounts,
    /// No message queue, semaphore or shared memory of others.
    OwnQueues,
    /// No network interface, not even one that leads to itself.
    OwnNetwork,
    /// No exec gives rights this process lacks.
    NoNewPrivileges,
    /// No debugger attaches, nothing reads its memory through `/proc`, unless it is root's.
    NotDumpable,
    /// A crash leaves no file.
    NoCoreFile,
    /// Open files, file sizes and, where set, memory and processor time are bounded.
    Bounded,
    /// All its memory stays out of swap.
    LockedMemory,
    /// Not one capability, even as root.
    NoCapabilities,
    /// Files: its folder or none.
    OnlyItsFiles,
    /// Landlock too refuses TCP; the list of calls holds no socket either way.
    NoTcp,
    /// No signal to a process outside, no abstract socket outside.
    Scoped,
    /// System calls: those on the list.
    OnlyListedCalls,
}

impl Promise {
    /// Every promise, in the order in which they are kept.
    pub const ALL: [Self; 15] = [
        Self::OwnUser,
        Self::OwnProcesses,
        Self::OwnMounts,
        Self::OwnQueues,
        Self::OwnNetwork,
        Self::NoNewPrivileges,
        Self::NotDumpable,
        Self::NoCoreFile,
        Self::Bounded,
        Self::LockedMemory,
        Self::NoCapabilities,
        Self::OnlyItsFiles,
        Self::NoTcp,
        Self::Scoped,
        Self::OnlyListedCalls,
    ];

    /// Those that [`crate::zygote`] keeps before the process shuts itself in.
    pub const OF_THE_ZYGOTE: [Self; 5] =
        [Self::OwnUser, Self::OwnProcesses, Self::OwnMounts, Self::OwnQueues, Self::OwnNetwork];

    /// The promise of this word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|promise| promise.as_str() == word)
    }

    /// The word for logs and for `doctor`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OwnUser => "own_user",
            Self::OwnProcesses => "own_processes",
            Self::OwnMounts => "own_mounts",
            Self::OwnQueues => "own_queues",
            Self::OwnNetwork => "own_network",
            Self::NoNewPrivileges => "no_new_privileges",
            Self::NotDumpable => "not_dumpable",
            Self::NoCoreFile => "no_core_file",
            Self::Bounded => "bounded",
            Self::LockedMemory => "locked_memory",
            Self::NoCapabilities => "no_capabilities",
            Self::OnlyItsFiles => "only_its_files",
            Self::NoTcp => "no_tcp",
            Self::Scoped => "scoped",
            Self::OnlyListedCalls => "only_listed_calls",
        }
    }

    /// Whether a jail without it is refused unless the caller says otherwise. Those that are not were added to Linux after
    /// 6.2, or need rights or limits that an ordinary user seldom has; each is a second lock on a door that another promise shuts,
    /// or keeps memory out of swap.
    pub(crate) fn is_required(self) -> bool {
        !matches!(self, Self::NoTcp | Self::Scoped | Self::LockedMemory) && !Self::OF_THE_ZYGOTE.contains(&self)
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What holds in a jailed process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JailReport {
    /// The promises that hold.
    pub holds: Vec<Promise>,
    /// The promises this kernel could not keep; none of them was required.
    pub missing: Vec<Promise>,
    /// The version of Landlock that was used, 0 for none.
    pub landlock_abi: u32,
}

impl JailReport {
    /// Whether every promise holds.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }
}

impl fmt::Display for JailReport {
    /// One line of promises and numbers, fit for a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "landlock_abi={} holds=", self.landlock_abi)?;
        list(f, &self.holds)?;
        f.write_str(" missing=")?;
        list(f, &self.missing)
    }
}

fn list(f: &mut fmt::Formatter<'_>, promises: &[Promise]) -> fmt::Result {
    if promises.is_empty() {
        return f.write_str("none");
    }
    for (index, promise) in promises.iter().enumerate() {
        write!(f, "{}{promise}", if index == 0 { "" } else { "," })?;
    }
    Ok(())
}

/// Why a process could not be jailed. It may be half jailed: the only thing to do is leave.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JailError {
    /// Threads started before the jail would stay outside of it.
    #[error("a process is jailed while it has one thread; this one has {threads}")]
    Threads {
        /// How many there are.
        threads: usize,
    },
    /// The kernel refused, or lacks what a required promise needs.
    #[error("the promise {promise} could not be kept")]
    Refused {
        /// The promise.
        promise: Promise,
        /// What the kernel said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl JailError {
    pub(crate) fn refused(promise: Promise, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Refused { promise, source: source.into() }
    }
}

//! What a host is told at its start.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use strongroom_jail::Promise;

/// How a host runs.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Holds `vaults/<vault id>/` and the lock file.
    pub data_dir: PathBuf,
    /// Holds `<vault id>.share`. Outside of the data folder, so that a copy of that folder opens nothing.
    pub share_dir: PathBuf,
    /// The vault program: an absolute path.
    pub vault_program: PathBuf,
    /// Whether vault processes may use `memfd_secret`.
    pub memfd_secret: bool,
    /// Whether vault processes write their standard error where this process does; for development.
    pub vault_stderr: bool,
    /// What every vault process must have, or none is started.
    pub required: Isolation,
    /// What keeps shares.
    pub sealing: Sealing,
    /// Where this machine's own servers listen: no tunnel leads there, whatever an item allows.
    pub own_listeners: Vec<SocketAddr>,
    /// Vaults of this host.
    pub vaults_max: usize,
    /// How long a vault process may take to leave before it is killed.
    pub stop_grace: Duration,
    /// When a crashed vault process is started again.
    pub restart: RestartPolicy,
    /// When an idle vault process leaves.
    pub memory: MemoryPolicy,
    /// When a vault that works much is held back.
    pub load: LoadPolicy,
    /// Answers for names that are not asked of the system's resolver; for tests.
    #[cfg(feature = "danger")]
    pub danger_addresses: std::collections::HashMap<String, Vec<std::net::IpAddr>>,
}

impl HostConfig {
    /// With these folders and this program, and the usual values for the rest.
    pub fn new(data_dir: impl Into<PathBuf>, share_dir: impl Into<PathBuf>, vault_program: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            share_dir: share_dir.into(),
            vault_program: vault_program.into(),
            memfd_secret: true,
            vault_stderr: false,
            required: Isolation::default(),
            sealing: Sealing::default(),
            own_listeners: Vec::new(),
            vaults_max: 10_000,
            stop_grace: Duration::from_secs(5),
            restart: RestartPolicy::default(),
            memory: MemoryPolicy::default(),
            load: LoadPolicy::default(),
            #[cfg(feature = "danger")]
            danger_addresses: std::collections::HashMap::new(),
        }
    }
}

/// What keeps shares; docs/sealing.md says what each is worth.
#[derive(Clone, Debug, Default)]
pub enum Sealing {
    /// A file of its own for each, which only this user may read.
    #[default]
    File,
    /// A TPM.
    Tpm(TpmConfig),
}

/// The TPM that keeps shares.
#[derive(Clone, Debug)]
pub struct TpmConfig {
    /// The program that holds it, `strongroom-tpm`: an absolute path.
    pub program: PathBuf,
    /// Its name for the TPM software stack, such as `device:/dev/tpmrm0`.
    pub name: String,
    /// The registers that make up the boot state, each under 23.
    pub boot: Vec<u8>,
}

/// How well a vault process must be set apart. Each level holds those before it; docs/isolation.md says what each stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isolation {
    /// Landlock, the list of calls, and whatever else no vault process goes without.
    #[default]
    Jail,
    /// Process numbers, mounts, queues and network of its own.
    Spaces,
    /// A user of its own, all memory locked, and every other promise.
    Full,
}

impl Isolation {
    /// Every level, from the least.
    pub const ALL: [Self; 3] = [Self::Jail, Self::Spaces, Self::Full];

    /// The promises that must hold besides those that always must.
    pub fn promises(self) -> &'static [Promise] {
        match self {
            Self::Jail => &[],
            Self::Spaces => &[Promise::OwnProcesses, Promise::OwnMounts, Promise::OwnQueues, Promise::OwnNetwork],
            Self::Full => &Promise::ALL,
        }
    }

    /// The highest level at which nothing is missing.
    pub fn without(missing: &[Promise]) -> Self {
        let holds = |level: &Self| !level.promises().iter().any(|promise| missing.contains(promise));
        Self::ALL.into_iter().rfind(holds).unwrap_or_default()
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jail => "jail",
            Self::Spaces => "spaces",
            Self::Full => "full",
        }
    }
}

/// When a crashed vault process is started again: at the next message after the wait. A process that was up for
/// `steady_after` starts the count anew.
#[derive(Clone, Copy, Debug)]
pub struct RestartPolicy {
    /// The wait after the second crash in a row; after the first there is none.
    pub second_wait: Duration,
    /// The wait after the third; it doubles with each further one.
    pub held: Duration,
    /// The longest wait.
    pub held_max: Duration,
    /// How long a process must have been up not to count as crashed in a row.
    pub steady_after: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            second_wait: Duration::from_secs(1),
            held: Duration::from_secs(60),
            held_max: Duration::from_secs(15 * 60),
            steady_after: Duration::from_secs(60),
        }
    }
}

/// When a vault process that holds no key and does nothing leaves: the next message starts another.
#[derive(Clone, Copy, Debug)]
pub struct MemoryPolicy {
    /// How long it may be idle with nobody connected.
    pub idle: Duration,
    /// What was used a moment ago stays, however short memory is.
    pub spare: Duration,
    /// Processes at once; beyond that those leave that were used least recently.
    pub processes_max: usize,
    /// Bytes that must stay available on this machine; below that they leave as well.
    pub reserve_bytes: u64,
    /// How often that is looked at.
    pub look_every: Duration,
}

impl Default for MemoryPolicy {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(15 * 60),
            spare: Duration::from_secs(30),
            processes_max: 10_000,
            reserve_bytes: 512 << 20,
            look_every: Duration::from_secs(1),
        }
    }
}

/// When a vault that takes more than its part of the processors, while somebody else uses a vault, is held back: it takes turns with
/// others like it, for which one half of the processors is there.
#[derive(Clone, Copy, Debug)]
pub struct LoadPolicy {
    /// How often that is looked at.
    pub look_every: Duration,
    /// Looks in a row at which it took too much until it is held back.
    pub looks_until_held: u32,
    /// Looks in a row at which it wanted little until it is let go.
    pub looks_until_let_go: u32,
    /// Processors of this machine.
    pub processors: f64,
    /// The part of one processor that is never too much, however many others are at work.
    pub part_min: f64,
    /// How long somebody counts as using a vault after the last message, where nobody stays connected.
    pub neighbour: Duration,
    /// How long a turn is.
    pub turn: Duration,
}

impl LoadPolicy {
    /// Processors for those that are held back.
    pub(crate) fn places(&self) -> f64 {
        self.processors / 2.0
    }
}

impl Default for LoadPolicy {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            look_every: Duration::from_secs(1),
            looks_until_held: 2,
            looks_until_let_go: 3,
            processors: f64::from(u32::try_from(processors).unwrap_or(u32::MAX)),
            part_min: 0.02,
            neighbour: Duration::from_secs(30),
            turn: Duration::from_millis(10),
        }
    }
}

/// How the services process is started.
#[derive(Clone, Debug)]
pub struct ServicesProgram {
    /// The program: an absolute path; usually this one.
    pub program: PathBuf,
    /// Its arguments: the hidden subcommand and what it needs.
    pub args: Vec<OsString>,
    /// The user and group it runs as, where this process is root.
    pub user: Option<(u32, u32)>,
}

//! Resource limits of a jailed process.

use rustix::mm::MlockAllFlags;
use rustix::process::{Resource, Rlimit, setrlimit};

/// What a jailed process may use. Soft and hard limit are the same: it cannot raise them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open files.
    pub files_max: u64,
    /// Bytes of one file.
    pub file_bytes_max: u64,
    /// Bytes of address space; `None` leaves it open.
    pub memory_bytes_max: Option<u64>,
    /// Seconds of processor time; `None` leaves it open.
    pub cpu_secs_max: Option<u64>,
}

impl Limits {
    /// A vault: a database, its write-ahead log, two header files, one socket, one event queue. The file's bound is that of the
    /// database, which the store keeps to page by page; one process that wants much memory fails by itself and not all of them.
    pub(crate) const VAULT: Self =
        Self { files_max: 256, file_bytes_max: 8 << 30, memory_bytes_max: Some(512 << 20), cpu_secs_max: None };

    /// A child that computes: what it inherited, and an answer of 1 GiB at most.
    pub(crate) const COMPUTE: Self =
        Self { files_max: 16, file_bytes_max: 1 << 30, memory_bytes_max: Some(2 << 30), cpu_secs_max: Some(120) };

    pub(crate) fn apply(&self) -> rustix::io::Result<()> {
        set(Resource::Nofile, self.files_max)?;
        set(Resource::Fsize, self.file_bytes_max)?;
        if let Some(bytes) = self.memory_bytes_max {
            set(Resource::As, bytes)?;
        }
        if let Some(secs) = self.cpu_secs_max {
            set(Resource::Cpu, secs)?;
        }
        Ok(())
    }
}

pub(crate) fn no_core_file() -> rustix::io::Result<()> {
    set(Resource::Core, 0)
}

/// Keeps all memory of this process, now and later, out of swap. It takes the right to have no limit, so root or a service that
/// was given none; an ordinary user's is some megabytes.
pub(crate) fn lock_memory() -> rustix::io::Result<()> {
    let hard = rustix::process::getrlimit(Resource::Memlock).maximum;
    let without_end = Rlimit { current: None, maximum: None };
    if setrlimit(Resource::Memlock, without_end).is_err() {
        setrlimit(Resource::Memlock, Rlimit { current: hard, maximum: hard })?;
        if hard.is_some() {
            // Were all memory locked, every allocation beyond the limit would fail.
            return Err(rustix::io::Errno::NOMEM);
        }
    }
    let when_touched = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    rustix::mm::mlockall(when_touched)
}

/// Never above the hard limit in force: only root could raise it, and a lower one was somebody's wish.
fn set(resource: Resource, value: u64) -> rustix::io::Result<()> {
    let value = rustix::process::getrlimit(resource).maximum.map_or(value, |hard| hard.min(value));
    setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })
}

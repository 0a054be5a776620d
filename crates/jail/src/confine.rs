//! The jail: which promises, in which order.

use std::path::PathBuf;

use rustix::process::DumpableBehavior;
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::files;
use crate::limits::{self, Limits};
use crate::process;
use crate::report::{JailError, JailReport, Promise};
use crate::syscalls::{self, Calls};

/// A jail that the calling process is about to shut itself into.
#[derive(Clone, Debug)]
pub struct Jail {
    folder: Option<PathBuf>,
    calls: Calls,
    limits: Limits,
    kept: Vec<Promise>,
    waived: Vec<Promise>,
    required: Vec<Promise>,
}

impl Jail {
    /// For a vault process: its folder (usually `"."`, where the host starts it), the sockets and files it already holds, and
    /// the calls on the list in `syscalls.rs`. To be applied first thing, before the share is read: everything a vault does
    /// afterwards, the runtime and the database included, works inside. It may not start threads unless [`Jail::threads`]
    /// says so.
    pub fn vault(folder: impl Into<PathBuf>) -> Self {
        Self::new(Some(folder.into()), Calls::vault(), Limits::VAULT)
    }

    /// For a child that turns bytes into other bytes: it reads and writes its standard streams and opens nothing. Every other
    /// descriptor is closed.
    pub fn compute_only() -> Self {
        Self::new(None, Calls::compute_only(), Limits::COMPUTE)
    }

    fn new(folder: Option<PathBuf>, calls: Calls, limits: Limits) -> Self {
        Self { folder, calls, limits, kept: Vec::new(), waived: Vec::new(), required: Vec::new() }
    }

    /// With other limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The limits, to be changed in part and given back to [`Jail::limits`].
    pub fn limits_of(&self) -> Limits {
        self.limits
    }

    /// With leave to start threads (never processes), for a program whose libraries compute in parallel.
    #[must_use]
    pub fn threads(mut self) -> Self {
        self.calls.threads = true;
        self
    }

    /// With what the zygote kept already, for the report: of [`Promise::OF_THE_ZYGOTE`].
    #[must_use]
    pub fn kept(mut self, promises: Vec<Promise>) -> Self {
        self.kept = promises;
        self
    }

    /// Refuses to go on where one of these promises cannot be kept.
    #[must_use]
    pub fn require(mut self, promises: &[Promise]) -> Self {
        self.required.extend(promises);
        self
    }

    /// Goes on where the kernel cannot keep this promise; the report says so. For a member who was told.
    #[must_use]
    pub fn waive(mut self, promise: Promise) -> Self {
        self.waived.push(promise);
        self
    }

    /// Shuts the calling process in, for good.
    ///
    /// # Errors
    /// A [`JailError`] leaves the process half jailed: print it and exit.
    pub fn apply(self) -> Result<JailReport, JailError> {
        one_thread()?;
        if self.folder.is_none() {
            process::close_inherited().map_err(|source| JailError::refused(Promise::OnlyItsFiles, source))?;
        }
        let mut report = JailReport { holds: Vec::new(), missing: Vec::new(), landlock_abi: 0 };
        if self.folder.is_some() {
            for promise in Promise::OF_THE_ZYGOTE {
                let kept = self.kept.contains(&promise).then_some(()).ok_or("nobody set it apart");
                self.keep(&mut report, promise, kept)?;
            }
        }
        self.keep(&mut report, Promise::NoNewPrivileges, rustix::thread::set_no_new_privs(true))?;
        let dumpable = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
        self.keep(&mut report, Promise::NotDumpable, dumpable)?;
        self.keep(&mut report, Promise::NoCoreFile, limits::no_core_file())?;
        self.keep(&mut report, Promise::Bounded, self.limits.apply())?;
        if self.folder.is_some() {
            // Of a vault alone: what a computing child holds is over in a moment.
            self.keep(&mut report, Promise::LockedMemory, limits::lock_memory())?;
        }
        self.keep(&mut report, Promise::NoCapabilities, no_capabilities())?;
        let shut = files::shut(self.folder.as_deref());
        report.landlock_abi = shut.as_ref().map_or(0, |shut| shut.abi);
        let (tcp, scoped) = shut.as_ref().map_or((false, false), |shut| (shut.tcp(), shut.scoped()));
        self.keep(&mut report, Promise::OnlyItsFiles, shut.map(|_| ()))?;
        self.keep(&mut report, Promise::NoTcp, supported(tcp))?;
        self.keep(&mut report, Promise::Scoped, supported(scoped))?;
        // Last: it takes away the calls that the steps above were made of.
        self.keep(&mut report, Promise::OnlyListedCalls, syscalls::allow_only(&self.calls))?;
        Ok(report)
    }

    fn keep<E>(&self, report: &mut JailReport, promise: Promise, outcome: Result<(), E>) -> Result<(), JailError>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match outcome {
            Ok(()) => report.holds.push(promise),
            Err(source) if self.must_hold(promise) => return Err(JailError::refused(promise, source)),
            Err(_) => report.missing.push(promise),
        }
        Ok(())
    }

    fn must_hold(&self, promise: Promise) -> bool {
        self.required.contains(&promise) || promise.is_required() && !self.waived.contains(&promise)
    }
}

/// For a program that cannot be shut in, because it reaches a device through a library: no new privileges, no debugger, no core file.
///
/// # Errors
/// When the kernel refuses one of them.
pub fn harden() -> Result<(), JailError> {
    let refused = |promise| move |source: rustix::io::Errno| JailError::refused(promise, source);
    rustix::thread::set_no_new_privs(true).map_err(refused(Promise::NoNewPrivileges))?;
    let dumpable = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    dumpable.map_err(refused(Promise::NotDumpable))?;
    limits::no_core_file().map_err(|source| JailError::refused(Promise::NoCoreFile, source))
}

/// Makes what every [`Jail::vault`] needs, once, before processes are forked.
pub fn warm() {
    // A process that is alone among its numbers has the first.
    syscalls::make_vaults(1);
}

fn supported(yes: bool) -> Result<(), &'static str> {
    if yes { Ok(()) } else { Err("this kernel's Landlock is too old") }
}

fn no_capabilities() -> rustix::io::Result<()> {
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
}

/// Landlock and seccomp bind the calling thread and those it starts later.
fn one_thread() -> Result<(), JailError> {
    let threads = threads();
    if threads == 1 { Ok(()) } else { Err(JailError::Threads { threads }) }
}

/// How many threads this process has.
pub(crate) fn threads() -> usize {
    // Where `/proc` cannot be read nothing was found out, and a caller that starts threads first is a bug, not an attack.
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

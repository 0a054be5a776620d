//! Starting a process with nothing but the sockets it is meant to have. All `unsafe` of this crate is here and in
//! `zygote.rs`.
#![allow(
    unsafe_code,
    reason = "what happens between fork and exec, and taking over an inherited descriptor, has no safe form"
)]

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::process::Signal;

/// The number of the first inherited socket: the one after standard error.
pub const FIRST_INHERITED: RawFd = 3;

/// Where a started process writes its standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stderr {
    /// Nowhere.
    Null,
    /// Where this process does.
    Inherit,
}

/// A process about to be started: its own session, an empty environment, no input or output, every descriptor closed but
/// those given, and dead as soon as the thread that started it is.
///
/// The thread matters: the kernel sends the signal when the *thread* that called [`Launch::start`] ends, so it must be one
/// that lives as long as the program.
#[derive(Debug)]
pub struct Launch {
    command: Command,
    inherited: Vec<OwnedFd>,
}

impl Launch {
    /// Of this program.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let mut command = Command::new(program.into());
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { command, inherited: Vec::new() }
    }

    /// With a further argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.command.arg(arg.into());
        self
    }

    /// In this folder.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.command.current_dir(folder.into());
        self
    }

    /// As this user and group, without further groups. Only root can.
    #[must_use]
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        self.command.uid(uid).gid(gid);
        self
    }

    /// With its standard error there.
    #[must_use]
    pub fn stderr(mut self, stderr: Stderr) -> Self {
        self.command.stderr(match stderr {
            Stderr::Null => Stdio::null(),
            Stderr::Inherit => Stdio::inherit(),
        });
        self
    }

    /// With a further descriptor. The first has the number [`FIRST_INHERITED`] in the new process, the next one more.
    #[must_use]
    pub fn inherit(mut self, descriptor: impl Into<OwnedFd>) -> Self {
        self.inherited.push(descriptor.into());
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// As `fork` and `exec` say.
    pub fn start(mut self) -> io::Result<Child> {
        let beyond = FIRST_INHERITED + RawFd::try_from(self.inherited.len()).map_err(io::Error::other)?;
        // Copies above the target numbers, so that no `dup2` below overwrites a source that is still needed.
        let sources = self
            .inherited
            .iter()
            .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, beyond))
            .collect::<Result<Vec<_>, _>>()?;
        let _placeholders = occupy_below(beyond)?;
        let numbers: Vec<RawFd> = sources.iter().map(AsRawFd::as_raw_fd).collect();
        let parent = rustix::process::getpid();
        // SAFETY: the closure runs between fork and exec, in a process with one thread. It makes system calls only: no
        // allocation, no lock, no panic. `numbers` was filled before the fork and is only read.
        unsafe {
            self.command.pre_exec(move || {
                rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
                if rustix::process::getppid() != Some(parent) {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                rustix::process::setsid()?;
                place(&numbers)
            })
        };
        let child = self.command.spawn()?;
        drop(sources);
        Ok(child)
    }
}

/// Takes over the inherited socket of this number, once, and keeps it from further children.
///
/// # Errors
/// There is none: this program was not started by [`Launch`], or the socket was taken before.
pub fn inherited_socket(number: RawFd) -> io::Result<UnixStream> {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let bit = u32::try_from(number - FIRST_INHERITED).ok().and_then(|n| 1u32.checked_shl(n));
    let Some(bit) = bit else { return Err(io::ErrorKind::InvalidInput.into()) };
    if TAKEN.fetch_or(bit, Ordering::SeqCst) & bit != 0 {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the inherited socket was taken before"));
    }
    // SAFETY: `fcntl` with F_GETFD reads one flag of a number and takes any number.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the number is open (above), and by the contract of `Launch` it is this program's to take; `TAKEN` sees to it
    // that nobody takes it twice.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    let is_ours =
        sockopt::socket_domain(&fd) == Ok(AddressFamily::UNIX) && sockopt::socket_type(&fd) == Ok(SocketType::STREAM);
    if !is_ours {
        // Somebody else's file: it stays open and theirs.
        let _ = fd.into_raw_fd();
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the inherited descriptor is no Unix stream socket"));
    }
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    Ok(UnixStream::from(fd))
}

/// In a process that was just forked: this descriptor becomes [`FIRST_INHERITED`], and every other one but standard input, output
/// and error is closed, also those that something still believes to own.
pub(crate) fn keep_only(fd: &OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: `dup2` takes any two numbers. Whoever owned the target is told not to close it (`zygote::serve`).
    if unsafe { libc::dup2(fd.as_raw_fd(), FIRST_INHERITED) } < 0 {
        return Err(io::Error::last_os_error());
    }
    close_from(FIRST_INHERITED + 1)?;
    // SAFETY: open (above), and nobody else's: whoever had it before gave it up.
    Ok(unsafe { OwnedFd::from_raw_fd(FIRST_INHERITED) })
}

/// Closes every descriptor but standard input, output and error: what a program got from its parent by accident.
pub(crate) fn close_inherited() -> io::Result<()> {
    close_from(FIRST_INHERITED)
}

fn close_from(first: RawFd) -> io::Result<()> {
    let (first, last) = (libc::c_long::from(first), libc::c_long::from(libc::c_int::MAX));
    // SAFETY: called by a program that is about to shut itself in and has opened nothing that it will use; no memory is read
    // or written.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Between fork and exec: each descriptor to its number, every other one closed at the exec.
fn place(numbers: &[RawFd]) -> io::Result<()> {
    let mut target = FIRST_INHERITED;
    for &source in numbers {
        // SAFETY: `dup2` takes any two numbers; the target is free or a placeholder of ours.
        if unsafe { libc::dup2(source, target) } < 0 {
            return Err(io::Error::last_os_error());
        }
        target += 1;
    }
    let (first, last) = (libc::c_long::from(target), libc::c_long::from(libc::c_int::MAX));
    // Closed at the exec rather than now: through one of them the standard library reports a failed exec.
    // SAFETY: marks descriptors of this process, which is about to exec; it reads and writes no memory.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Keeps every number below `beyond` in use, so that the pipe through which the standard library reports a failed exec is
/// not made on a number that the child's sockets go to.
fn occupy_below(beyond: RawFd) -> io::Result<Vec<OwnedFd>> {
    let null = OwnedFd::from(std::fs::File::open("/dev/null")?);
    let mut held = Vec::new();
    loop {
        let copy = rustix::io::fcntl_dupfd_cloexec(&null, FIRST_INHERITED)?;
        let done = copy.as_raw_fd() >= beyond;
        held.push(copy);
        if done {
            held.push(null);
            return Ok(held);
        }
    }
}

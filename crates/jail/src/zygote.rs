//! The zygote: a process that has read the vault program and warmed its libraries, and forks a vault process for each request.
//!
//! It saves each vault the loading, linking and warming of the program, and their memory, which all share until one writes to it.
//! It holds no key and no member's data, before or after: share and requests come over the socket of the new process, which the
//! zygote never reads. It has one thread. Keys and nonces of a child come from the kernel, or from a generator that seeds itself
//! anew there (docs/decisions/0017).
//!
//! A forked process is the *host's* child (`CLONE_PARENT`): the host waits for it and kills it as its own, it dies with the
//! host's thread, and it does not notice when the zygote ends. It has process numbers, mounts and message queues of its own,
//! and its folder for a root; the network name space is empty and shared by all. Where the host is root it has a user of its own
//! as well; elsewhere all are in a user name space in which their user is the host's and nobody else exists. What the kernel
//! refuses is told to the new process, whose report names it.
#![allow(unsafe_code, reason = "fork has no safe form")]

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use rustix::pipe::PipeFlags;
use rustix::process::{Gid, Pid, Resource, Rlimit, Signal, Uid, WaitId, WaitIdOptions, waitid};
use rustix::thread::{CapabilitySet, UnshareFlags};

use crate::process::{FIRST_INHERITED, Launch, Stderr, inherited_socket, keep_only};
use crate::report::Promise;

/// The host's end of a zygote. Dropping it ends the zygote; what it forked lives on.
#[derive(Debug)]
pub struct Zygote {
    child: Child,
    socket: UnixStream,
}

/// What a process is forked with.
#[derive(Debug)]
pub struct Seed<'a> {
    /// Its socket, which it finds at [`FIRST_INHERITED`].
    pub socket: BorrowedFd<'a>,
    /// Its folder, which becomes its root where the kernel lets it.
    pub folder: BorrowedFd<'a>,
    /// The user and group it runs as. Only root can.
    pub user: Option<(u32, u32)>,
    /// What must hold, or there is no such process.
    pub required: &'a [Promise],
}

/// What a new process is given, and what holds of what the zygote does for it.
#[derive(Debug)]
pub struct Born {
    /// Its socket.
    pub socket: UnixStream,
    /// The promises that hold, of [`Promise::OF_THE_ZYGOTE`].
    pub holds: Vec<Promise>,
    /// What must hold once it has shut itself in.
    pub required: Vec<Promise>,
}

impl Zygote {
    /// Starts a zygote of this program, which is to call [`serve`]. The thread that does so must live as long as the program.
    ///
    /// # Errors
    /// When it cannot be started, or ends before it is ready.
    pub fn start(program: impl Into<PathBuf>, stderr: Stderr) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        // Nobody but the host talks to it, and nothing it does takes long: one that does not answer is as good as gone.
        ours.set_read_timeout(Some(PATIENCE))?;
        ours.set_write_timeout(Some(PATIENCE))?;
        let child = Launch::new(program).stderr(stderr).inherit(theirs).start()?;
        let zygote = Self { child, socket: ours };
        zygote.answer()?;
        Ok(zygote)
    }

    /// Forks a process; answers its descriptor (`pidfd_open(2)`). It is a child of this process.
    ///
    /// # Errors
    /// As the kernel says; `BrokenPipe` or `UnexpectedEof` when the zygote is gone, so that another is to be started.
    pub fn fork(&self, seed: &Seed<'_>) -> io::Result<OwnedFd> {
        let (uid, gid) = seed.user.unwrap_or((NOBODY, NOBODY));
        let mut request = [0; REQUEST_BYTES];
        request[..4].copy_from_slice(&uid.to_be_bytes());
        request[4..8].copy_from_slice(&gid.to_be_bytes());
        request[8..].copy_from_slice(&bits_of(seed.required).to_be_bytes());
        send(&self.socket, &request, &[seed.socket, seed.folder])?;
        self.answer()?.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn answer(&self) -> io::Result<Option<OwnedFd>> {
        let mut answer = [0; ANSWER_BYTES];
        let handle = receive(&self.socket, &mut answer)?.ok_or(io::ErrorKind::UnexpectedEof)?.into_iter().next();
        let number = |at: usize| i32::from_be_bytes([answer[at], answer[at + 1], answer[at + 2], answer[at + 3]]);
        let (errno, child) = (number(0), Pid::from_raw(number(4)));
        if errno == 0 && (handle.is_some() || child.is_none()) {
            return Ok(handle);
        }
        if let Some(child) = child {
            // Ours, and to no use: it could not be set up, or there was no descriptor left here for it. Its number is its own until
            // it is waited for.
            let _ = rustix::process::kill_process(child, Signal::KILL);
            let _ = waitid(WaitId::Pid(child), WaitIdOptions::EXITED);
        }
        Err(io::Error::from_raw_os_error(if errno == 0 { libc::EMFILE } else { errno }))
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        // It may be gone already, and holds nothing that could be lost.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves as a zygote, with `warm` done once before the first fork. Returns `Some` in each new process, and `None` in the zygote
/// once the host is gone.
///
/// # Errors
/// There is no socket of a host, or it broke.
pub fn serve(warm: impl FnOnce()) -> io::Result<Option<Born>> {
    let socket = inherited_socket(FIRST_INHERITED)?;
    // As `ps` shows it; that it cannot be named stops nothing.
    let _ = rustix::thread::set_name(c"zygote");
    let apart = Apart::set_up();
    warm();
    one_thread()?;
    send(&socket, &answer(0, 0), &[])?;
    loop {
        let mut request = [0; REQUEST_BYTES];
        let Some(fds) = receive(&socket, &mut request)? else { return Ok(None) };
        match apart.fork(&request, fds) {
            Ok(Forked::Parent(child, handle)) => send(&socket, &answer(0, child), &[handle.as_fd()])?,
            Ok(Forked::Unborn(child)) => send(&socket, &answer(libc::EPERM, child), &[])?,
            Ok(Forked::Child(born)) => {
                // Its number is the new process's socket by now.
                std::mem::forget(socket);
                return Ok(Some(born));
            }
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
                send(&socket, &answer(errno, 0), &[])?;
            }
        }
    }
}

enum Forked {
    Parent(i32, OwnedFd),
    Unborn(i32),
    Child(Born),
}

/// What the zygote can set apart for its children.
struct Apart {
    /// The promises that all of them are kept.
    holds: Vec<Promise>,
    /// The name spaces that each gets: flags of `clone(2)`.
    spaces: i32,
}

impl Apart {
    fn set_up() -> Self {
        let may =
            rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
        if may {
            // A child of another user may then keep all its memory out of swap.
            let _ = rustix::process::setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
        }
        let mut apart = Self { holds: Vec::new(), spaces: 0 };
        if !may && own_user_space().is_err() {
            return apart;
        }
        // One for all of them, and empty.
        if unshare(UnshareFlags::NEWNET).is_ok() {
            apart.holds.push(Promise::OwnNetwork);
        }
        // Of its own for each. That this process gets one as well shows that it can be had.
        for (promise, space, flag) in [
            (Promise::OwnMounts, UnshareFlags::NEWNS, libc::CLONE_NEWNS),
            (Promise::OwnQueues, UnshareFlags::NEWIPC, libc::CLONE_NEWIPC),
        ] {
            if unshare(space).is_ok() {
                apart.holds.push(promise);
                apart.spaces |= flag;
            }
        }
        // This process keeps its own numbers, or its children would be nobody's but its own.
        if fs::exists("/proc/self/ns/pid").unwrap_or(false) {
            apart.holds.push(Promise::OwnProcesses);
            apart.spaces |= libc::CLONE_NEWPID;
        }
        apart
    }

    fn fork(&self, request: &[u8; REQUEST_BYTES], fds: Vec<OwnedFd>) -> io::Result<Forked> {
        let number = |at: usize| u32::from_be_bytes([request[at], request[at + 1], request[at + 2], request[at + 3]]);
        let user = Some((number(0), number(4))).filter(|(uid, _)| *uid != NOBODY);
        let required = number(8);
        let mut fds = fds.into_iter();
        let (Some(socket), Some(folder)) = (fds.next(), fds.next()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let mut holds = self.holds.clone();
        if user.is_some() {
            holds.push(Promise::OwnUser);
        }
        if required & bits_of(&Promise::OF_THE_ZYGOTE) & !bits_of(&holds) != 0 {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        let (wait, ready) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        match clone(self.spaces)? {
            Some((child, handle)) => {
                drop(ready);
                // From here on it dies with its parent; one that could not be set up has left, and says nothing.
                Ok(match rustix::io::retry_on_intr(|| rustix::io::read(&wait, &mut [0; 1])) {
                    Ok(1) => Forked::Parent(child, handle),
                    _ => Forked::Unborn(child),
                })
            }
            None => match begin(&socket, &folder, user, self.spaces & libc::CLONE_NEWNS != 0, &ready) {
                Ok(born) => {
                    // Closed by now, with all others.
                    std::mem::forget((socket, folder, fds, wait, ready));
                    let required = Promise::ALL.into_iter().filter(|promise| required & bits_of(&[*promise]) != 0);
                    Ok(Forked::Child(Born { socket: born, holds, required: required.collect() }))
                }
                // The host sees a process that left before its first word.
                Err(error) => {
                    eprintln!("a vault process could not be set up: {error}");
                    std::process::exit(EXIT_UNBORN)
                }
            },
        }
    }
}

/// A user name space in which this user is itself and there is nobody else: what an ordinary user may make others in.
fn own_user_space() -> io::Result<()> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    unshare(UnshareFlags::NEWUSER)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1", uid = uid.as_raw()))?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1", gid = gid.as_raw()))
}

fn unshare(what: UnshareFlags) -> io::Result<()> {
    // SAFETY: no flag of files or memory is among those this module passes: every reference to either stays what it was.
    Ok(unsafe { rustix::thread::unshare_unsafe(what) }?)
}

fn answer(errno: i32, child: i32) -> [u8; ANSWER_BYTES] {
    let mut answer = [0; ANSWER_BYTES];
    answer[..4].copy_from_slice(&errno.to_be_bytes());
    answer[4..].copy_from_slice(&child.to_be_bytes());
    answer
}

/// Forks a child of this process's parent: its number, and its descriptor. `None` in the child.
fn clone(spaces: i32) -> io::Result<Option<(i32, OwnedFd)>> {
    let mut handle: RawFd = -1;
    let flags = libc::c_long::from(spaces | libc::CLONE_PARENT | libc::CLONE_PIDFD);
    // SAFETY: as `fork`: without a stack of its own and without `CLONE_VM`, the child goes on with a copy of everything. This
    // process has one thread, so no lock is held by another. The kernel writes one descriptor to `handle`.
    let done = unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut handle, 0, 0) };
    match done {
        0 => Ok(None),
        // SAFETY: the kernel made this descriptor for us just now.
        1.. => Ok(Some((i32::try_from(done).map_err(io::Error::other)?, unsafe { OwnedFd::from_raw_fd(handle) }))),
        _ => Err(io::Error::last_os_error()),
    }
}

fn one_thread() -> io::Result<()> {
    match crate::confine::threads() {
        1 => Ok(()),
        _ => Err(io::Error::other("a process with several threads cannot be forked safely")),
    }
}

/// The first steps of a new process: its descriptors, folder and user.
fn begin(
    socket: &OwnedFd,
    folder: &OwnedFd,
    user: Option<(u32, u32)>,
    own_mounts: bool,
    ready: &OwnedFd,
) -> io::Result<UnixStream> {
    let _ = rustix::thread::set_name(c"vault");
    rustix::process::setsid()?;
    rustix::process::fchdir(folder)?;
    if own_mounts {
        rustix::process::chroot(".")?;
        rustix::process::chdir("/")?;
    }
    if let Some((uid, gid)) = user {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    }
    // After the change of users, which takes it away. The zygote's parent is this process's own.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    rustix::io::write(ready, &[1])?;
    keep_only(socket).map(UnixStream::from)
}

fn send(socket: &UnixStream, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    let sent = sendmsg(socket, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL)?;
    if sent == message.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// A message of exactly this length, with what came along; `None` when the other end is gone. One message is under way at a
/// time, so it is here whole or not at all.
fn receive(socket: &UnixStream, message: &mut [u8]) -> io::Result<Option<Vec<OwnedFd>>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let length = message.len();
    let received = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(message)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.bytes != length {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    Ok(Some(fds.flatten().collect()))
}

/// A bit for each promise, in the order of [`Promise::ALL`].
fn bits_of(promises: &[Promise]) -> u32 {
    Promise::ALL
        .iter()
        .enumerate()
        .filter(|(_, promise)| promises.contains(promise))
        .fold(0, |bits, (place, _)| bits | 1 << place)
}

/// A request: user, group, and what is required, a bit each.
const REQUEST_BYTES: usize = 12;
/// An answer: 0 or the number of an error, and the number of the child that there is or was.
const ANSWER_BYTES: usize = 8;
/// How long the zygote may take to be ready, and to fork.
const PATIENCE: Duration = Duration::from_secs(10);
/// The user that stands for no other one: nobody has this number.
const NOBODY: u32 = u32::MAX;
/// Descriptors of one message.
const FDS_MAX: usize = 2;
/// How a process ends that could not be set up.
const EXIT_UNBORN: i32 = 70;

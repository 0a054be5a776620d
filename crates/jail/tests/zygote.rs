//! What the zygote sets apart, one hostile child for each: forked by it the child fails, and the same child without it succeeds.
//! No child shuts itself in here: what stops it is the zygote's doing alone.
#![allow(unsafe_code, clippy::undocumented_unsafe_blocks, reason = "a message queue has no safe form")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::process::{Signal, WaitId, WaitIdOptions, waitid};
use rustix::thread::CapabilitySet;
use strongroom_jail::zygote::{Seed, Zygote};
use strongroom_jail::{Promise, Stderr};

/// A process that was forked.
struct Forked {
    handle: OwnedFd,
    socket: UnixStream,
}

impl Forked {
    /// Has it do something; answers what it says of it.
    fn perform(&mut self, act: &str) -> String {
        writeln!(self.socket, "{act}").unwrap();
        self.socket.shutdown(std::net::Shutdown::Write).unwrap();
        let mut said = String::new();
        self.socket.read_to_string(&mut said).unwrap();
        said
    }

    fn end(&self) -> Option<i32> {
        waitid(WaitId::PidFd(self.handle.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap().exit_status()
    }
}

fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    tests.ancestors().nth(2).unwrap().join("examples/hostile")
}

fn fork(zygote: &Zygote, folder: &Path, user: Option<(u32, u32)>) -> Forked {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let folder = fs::File::open(folder).unwrap();
    let seed = Seed { socket: theirs.as_fd(), folder: folder.as_fd(), user, required: &[] };
    Forked { handle: zygote.fork(&seed).unwrap(), socket: ours }
}

/// Whether this machine and user keep a promise at all: an ordinary user may not be allowed name spaces.
fn is_kept(promise: Promise) -> bool {
    let root = tempfile::tempdir().unwrap();
    let zygote = Zygote::start(program(), Stderr::Inherit).unwrap();
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let folder = fs::File::open(root.path()).unwrap();
    let required = &[promise];
    let kept = zygote.fork(&Seed { socket: theirs.as_fd(), folder: folder.as_fd(), user: None, required }).is_ok();
    if !kept {
        let may = rustix::thread::capabilities(None).unwrap().effective.contains(CapabilitySet::SYS_ADMIN);
        assert!(!may, "whoever may is kept every promise");
        eprintln!("skipped: this user may not have {promise} here");
    }
    kept
}

/// What a forked child says of an act, and one that was started as any program is.
fn both(act: &str) -> (String, String) {
    let root = tempfile::tempdir().unwrap();
    let zygote = Zygote::start(program(), Stderr::Inherit).unwrap();
    let mut forked = fork(&zygote, root.path(), None);
    let by_zygote = forked.perform(act);
    assert_eq!(forked.end(), Some(0));
    let free = std::process::Command::new(program()).args(["free", act, "/", "/"]).output().unwrap();
    (by_zygote, String::from_utf8(free.stdout).unwrap())
}

#[test]
fn no_other_process_is_seen() {
    if !is_kept(Promise::OwnProcesses) {
        return;
    }
    let (forked, free) = both(&format!("signal {}", std::process::id()));
    assert_eq!((forked.as_str(), free.as_str()), ("No such process", "done"));
}

#[test]
fn no_other_file_is_there() {
    if !is_kept(Promise::OwnMounts) {
        return;
    }
    let (forked, free) = both("open /etc/passwd");
    assert_eq!((forked.as_str(), free.as_str()), ("No such file or directory", "done"));
}

#[test]
fn no_network_leads_anywhere() {
    if !is_kept(Promise::OwnNetwork) {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (forked, free) = both(&format!("dial {}", listener.local_addr().unwrap()));
    assert_eq!((forked.as_str(), free.as_str()), ("Network is unreachable", "done"));
}

#[test]
fn no_queue_of_others_is_found() {
    if !is_kept(Promise::OwnQueues) {
        return;
    }
    let key = 0x5354_0000 | std::process::id() as i32 & 0xffff;
    let queue = unsafe { libc::msgget(key, libc::IPC_CREAT | 0o666) };
    assert!(queue >= 0);
    let (forked, free) = both(&format!("queue {key}"));
    unsafe { libc::msgctl(queue, libc::IPC_RMID, std::ptr::null_mut()) };
    assert_eq!((forked.as_str(), free.as_str()), ("No such file or directory", "done"));
}

#[test]
fn no_descriptor_but_its_socket_is_open() {
    // Not closed at an exec, as one that somebody forgot.
    let leak = rustix::io::dup(fs::File::open("/etc/passwd").unwrap()).unwrap();
    let (forked, _) = both("descriptors");
    drop(leak);
    assert_eq!(forked, "0 1 2 3");
}

#[test]
fn a_user_of_its_own_reads_nothing_of_others() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root gives a process another user");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("secret"), "of root").unwrap();
    fs::set_permissions(root.path().join("secret"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::set_permissions(root.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let zygote = Zygote::start(program(), Stderr::Inherit).unwrap();
    let perform = |user| fork(&zygote, root.path(), user).perform("open /secret");
    assert_eq!(perform(Some((0x7000_0000, 0x7000_0000))), "Permission denied");
    assert_eq!(perform(None), "done");
}

#[test]
fn what_must_hold_and_does_not_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let zygote = Zygote::start(program(), Stderr::Inherit).unwrap();
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let folder = fs::File::open(root.path()).unwrap();
    // Without a user there is none of its own.
    let required = &[Promise::OwnUser];
    let seed = Seed { socket: theirs.as_fd(), folder: folder.as_fd(), user: None, required };
    assert_eq!(zygote.fork(&seed).unwrap_err().raw_os_error(), Some(libc::EPERM));
    assert_eq!(fork(&zygote, root.path(), None).perform("open /"), "done", "and the zygote goes on");
}

#[test]
fn a_process_that_cannot_be_set_up_is_an_error_and_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let zygote = Zygote::start(program(), Stderr::Null).unwrap();
    let (_ours, theirs) = UnixStream::pair().unwrap();
    // Not a folder.
    let file = fs::File::open(program()).unwrap();
    let seed = Seed { socket: theirs.as_fd(), folder: file.as_fd(), user: None, required: &[] };
    assert!(zygote.fork(&seed).is_err());
    assert_eq!(fork(&zygote, root.path(), None).perform("open /"), "done", "and the zygote goes on");
}

#[test]
fn a_forked_process_outlives_its_zygote_and_not_the_thread_that_started_it() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().to_owned();
    let second = std::thread::spawn(move || {
        let zygote = Zygote::start(program(), Stderr::Inherit).unwrap();
        let mut outlives = fork(&zygote, &path, None);
        let dies = fork(&zygote, &path, None);
        drop(zygote);
        assert_eq!(outlives.perform("open /"), "done");
        assert_eq!(outlives.end(), Some(0));
        dies
    })
    .join()
    .unwrap();
    // It waits for a word that never comes; the thread is gone.
    let ended = waitid(WaitId::PidFd(second.handle.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
    assert_eq!(ended.terminating_signal(), Some(Signal::KILL.as_raw()));
}

#[test]
fn a_program_that_is_no_zygote_is_an_error_and_one_that_dies_is_seen() {
    assert!(Zygote::start("/bin/false", Stderr::Null).is_err());
    assert!(Zygote::start("/nonexistent", Stderr::Null).is_err());
}

//! One vault process: started, spoken to over one socket, stopped.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Signal, WaitId, WaitIdOptions, waitid};
use strongroom_bus::framed::{Outbox, Reader};
use strongroom_bus::log;
use strongroom_jail::Promise;
use strongroom_jail::zygote::Seed;
use strongroom_wire::frame::{Messages, with_length};
use strongroom_wire::host::{FromVault, Ready, Start, ToVault};
use strongroom_wire::{Code, Refusal, VaultId, limits};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use crate::config::HostConfig;
use crate::folders::Folders;
use crate::programs::Digest;
use crate::route::Shared;
use crate::sealing::Opened;
use crate::zygote::Forker;

/// What a vault process did that none of ours does. It is stopped; the word goes to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Misbehaved(pub(crate) &'static str);

/// A running vault process. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    reader: Reader<OwnedReadHalf>,
    pub(crate) outbox: Outbox,
    writer: JoinHandle<()>,
    child: VaultChild,
    /// The program it runs, where that was measured.
    pub(crate) program: Option<Digest>,
    /// Whether its header is not sealed under its share yet.
    pub(crate) share_is_new: bool,
    started: Instant,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Whether it left by itself, with the exit code 0.
    pub(crate) in_order: bool,
    /// How long it was up.
    pub(crate) uptime: Duration,
}

impl Process {
    /// Starts the process of `vault` and tells it its share.
    ///
    /// # Errors
    /// What to refuse the client with.
    pub(crate) async fn start<B>(vault: VaultId, opened: Opened, shared: &Shared<B>) -> Result<Self, Refusal> {
        let (config, folders) = (Arc::clone(&shared.config), Arc::clone(&shared.folders));
        let forker = Arc::clone(&shared.forker);
        let (program, share_is_new) = (opened.program, opened.is_new);
        let installed = if program.is_some() { Some(shared.sealer.installed().await?) } else { None };
        let job = move || launch(vault, opened, installed, &config, &folders, &forker);
        let launched = shared.keeper.run(job).await.map_err(|_| Code::Bug)?;
        let (child, socket) =
            launched.inspect_err(|code| log::warn("vault_not_started", &[("vault", &vault), ("code", code)]))?;
        let pid = child.pid();
        let process = Self::attach(child, socket, program, share_is_new).map_err(|error| {
            log::warn("vault_not_started", &[("vault", &vault), ("kind", &error.kind())]);
            Code::HostFailed
        })?;
        log::info("vault_started", &[("vault", &vault), ("pid", &pid)]);
        Ok(process)
    }

    fn attach(
        child: VaultChild,
        socket: StdUnixStream,
        program: Option<Digest>,
        share_is_new: bool,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let (read, mut write) = UnixStream::from_std(socket)?.into_split();
        let outbox = Outbox::new(OUTBOX_BYTES_HIGH, OUTBOX_BYTES_MAX);
        let waiting = outbox.clone();
        let writer = tokio::spawn(async move {
            // The reader sees the end of the process; one that does not read is seen by the closed outbox.
            let _ = waiting.write_to(&mut write, STALL).await;
        });
        let reader = Reader::new(read, limits::HOST_MESSAGE_BYTES_MAX);
        Ok(Self { reader, outbox, writer, child, program, share_is_new, started: Instant::now() })
    }

    /// The next message; `None` when the process has closed its socket. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<FromVault>, Misbehaved> {
        match self.reader.next().await {
            Ok(Some(bytes)) => FromVault::decode(bytes).map(Some).map_err(|_| Misbehaved("malformed")),
            Ok(None) | Err(strongroom_bus::framed::ReadError::Io(_) | strongroom_bus::framed::ReadError::Truncated) => {
                Ok(None)
            }
            Err(_) => Err(Misbehaved("oversized")),
        }
    }

    /// The next message if it is here already.
    pub(crate) fn next_buffered(&mut self) -> Result<Option<FromVault>, Misbehaved> {
        let bytes = self.reader.next_buffered().map_err(|_| Misbehaved("oversized"))?;
        bytes.map(FromVault::decode).transpose().map_err(|_| Misbehaved("malformed"))
    }

    /// Puts a message before the process.
    pub(crate) fn tell(&self, message: &ToVault) -> Result<(), Misbehaved> {
        // Closed means that it is gone, which the reader sees.
        match self.outbox.push(&[&message.encode()]) {
            Err(strongroom_bus::framed::OutboxError::Full) => Err(Misbehaved("does_not_read")),
            _ => Ok(()),
        }
    }

    /// Puts a frame of a channel before the process: [`ToVault::ChannelData`], without a copy of the frame in between.
    pub(crate) fn tell_channel_data(&self, number: u32, frame: &[u8]) -> Result<(), Misbehaved> {
        self.tell(&ToVault::ChannelData(number, frame.to_vec()))
    }

    /// Ends a process that has closed its socket: it gets a moment to leave by itself.
    pub(crate) async fn reap(self) -> Ended {
        self.wait(LEAVE).await
    }

    /// Ends a process at once.
    pub(crate) async fn kill_and_reap(self) -> Ended {
        self.kill();
        self.wait(LEAVE).await
    }

    /// Its number, as this host sees it; 0 where it is gone.
    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// The process itself, to be signalled.
    pub(crate) fn handle(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.child.handle)
    }

    fn kill(&self) {
        self.child.kill();
    }

    async fn wait(mut self, patience: Duration) -> Ended {
        let uptime = self.started.elapsed();
        let in_order = match timeout(patience, self.child.ended()).await {
            Ok(in_order) => in_order,
            Err(_) => {
                self.kill();
                self.child.ended().await
            }
        };
        Ended { in_order, uptime }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.writer.abort();
        self.outbox.abort();
    }
}

/// A forked process: a child of this one. Dropping it kills it and waits for its end.
#[derive(Debug)]
struct VaultChild {
    /// The process itself, where its number could come to be another's.
    handle: Arc<OwnedFd>,
    reaped: bool,
}

impl VaultChild {
    /// Its number, for the log; 0 where it is gone.
    fn pid(&self) -> u32 {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", self.handle.as_raw_fd()));
        let pid =
            info.ok().and_then(|info| info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok()));
        pid.unwrap_or(0)
    }

    fn kill(&self) {
        // It may be gone already.
        let _ = rustix::process::pidfd_send_signal(&self.handle, Signal::KILL);
    }

    /// Waits for its end, and says whether it left by itself with the exit code 0. Dropping the future loses nothing. It takes no
    /// thread and no descriptor: both may have run out, and that may be why it ends.
    async fn ended(&mut self) -> bool {
        let mut pause = Duration::from_millis(1);
        loop {
            match waitid(WaitId::PidFd(self.handle.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
                Ok(None) => {}
                status => {
                    self.reaped = true;
                    return matches!(status, Ok(Some(status)) if status.exit_status() == Some(0));
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

impl Drop for VaultChild {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            // It ends at the signal; nothing more can be done about one that does not.
            let _ = waitid(WaitId::PidFd(self.handle.as_fd()), WaitIdOptions::EXITED);
        }
    }
}

/// On the keeper's thread. The share is sent and wiped here.
fn launch(
    vault: VaultId,
    opened: Opened,
    installed: Option<Digest>,
    config: &HostConfig,
    folders: &Folders,
    forker: &Forker,
) -> Result<(VaultChild, StdUnixStream), Code> {
    let failed = |error: io::Error| {
        log::warn("vault_launch_failed", &[("vault", &vault), ("kind", &error.kind())]);
        Code::HostFailed
    };
    let Opened { share, program, is_new } = opened;
    let (child, mut ours) = folders
        .for_process(vault)
        .and_then(|place| fork(forker, place, config.required.promises(), program))
        .map_err(failed)?;
    let start = Start {
        vault,
        share: share.into_secret(),
        share_is_new: is_new,
        memfd_secret: config.memfd_secret,
        program: program.map(Digest::bytes),
        installed: installed.map(Digest::bytes),
    };
    let message = Zeroizing::new(ToVault::Start(start).encode());
    let length = u32::try_from(message.len()).map_err(|_| Code::Bug)?;
    // A few hundred bytes: the socket takes them without a wait.
    let written = ours.write_all(&length.to_be_bytes()).and_then(|()| ours.write_all(&message));
    if let Err(error) = written {
        // It left before its first message: seen as a crash by whoever reads the socket.
        log::warn("vault_start_unread", &[("vault", &vault), ("kind", &error.kind())]);
    }
    Ok((child, ours))
}

/// The promises that a process which is started now would miss. On the keeper's thread.
pub(crate) fn examine(folders: &Folders, forker: &Forker) -> io::Result<Vec<Promise>> {
    // With a user of its own a process needs its folder for a root: it may not walk the folders above.
    let with_user = folders.for_examination().and_then(|place| {
        let needed: &[Promise] = if place.1.is_some() { &[Promise::OwnMounts] } else { &[] };
        fork(forker, place, needed, None)
    });
    let (_child, mut ours) = match with_user {
        Err(error) if folders.gives_users() => {
            log::warn("no_users_for_vaults", &[("kind", &error.kind())]);
            folders.give_no_users();
            fork(forker, folders.for_examination()?, &[], None)?
        }
        forked => forked?,
    };
    ours.set_read_timeout(Some(EXAMINATION))?;
    ours.write_all(&with_length(&ToVault::Examine.encode()))?;
    let mut messages = Messages::new(limits::HOST_MESSAGE_BYTES_MAX);
    let mut buffer = [0; 1024];
    loop {
        let refused = |_| io::Error::from(io::ErrorKind::InvalidData);
        if let Some(message) = messages.next_message().map_err(refused)? {
            return match FromVault::decode(&message) {
                Ok(FromVault::Ready(ready)) => missing(&ready).ok_or(io::ErrorKind::InvalidData.into()),
                _ => Err(io::ErrorKind::InvalidData.into()),
            };
        }
        match ours.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => messages.push(&buffer[..read]),
        }
    }
}

/// What a process says it misses; `None` where it uses words that are none of ours.
pub(crate) fn missing(ready: &Ready) -> Option<Vec<Promise>> {
    ready.missing.iter().map(|word| Promise::of_word(word)).collect()
}

fn fork(
    forker: &Forker,
    (folder, user): (OwnedFd, Option<(u32, u32)>),
    required: &[Promise],
    program: Option<Digest>,
) -> io::Result<(VaultChild, StdUnixStream)> {
    let (ours, theirs) = StdUnixStream::pair()?;
    let seed = Seed { socket: theirs.as_fd(), folder: folder.as_fd(), user, required };
    let handle = forker.fork(&seed, program)?;
    Ok((VaultChild { handle: Arc::new(handle), reaped: false }, ours))
}

/// Bytes that wait for a process before those who can wait do.
pub(crate) const OUTBOX_BYTES_HIGH: usize = 4 * 1024 * 1024;
/// Bytes that wait for a process before it counts as hung: the former, and one read of each tunnel besides.
const OUTBOX_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long a process may take nothing.
const STALL: Duration = Duration::from_secs(30);
/// How long a process may take to say what its jail holds.
const EXAMINATION: Duration = Duration::from_secs(10);
/// How long a process may live without its socket.
const LEAVE: Duration = Duration::from_secs(1);

//! One vault process: started, spoken to over one socket, stopped.

use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};
use strongroom_bus::framed::{Outbox, Reader};
use strongroom_bus::log;
use strongroom_jail::{Launch, Stderr};
use strongroom_wire::host::{FromVault, Start, ToVault};
use strongroom_wire::{Code, SecretValue, VaultId, limits};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use crate::config::HostConfig;
use crate::folders::Folders;
use crate::keeper::Keeper;

/// What a vault process did that none of ours does. It is stopped; the word goes to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Misbehaved(pub(crate) &'static str);

/// A running vault process. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    reader: Reader<OwnedReadHalf>,
    pub(crate) outbox: Outbox,
    writer: JoinHandle<()>,
    /// `None` once somebody waits for it.
    child: Option<Child>,
    /// The process itself, where its number could come to be another's.
    handle: OwnedFd,
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
    /// The code to refuse the client with.
    pub(crate) async fn start(
        vault: VaultId,
        config: &Arc<HostConfig>,
        folders: &Arc<Folders>,
        keeper: &Keeper,
    ) -> Result<Self, Code> {
        let (config, folders) = (Arc::clone(config), Arc::clone(folders));
        let launched = keeper.run(move || launch(vault, &config, &folders)).await.map_err(|_| Code::Bug)?;
        let (child, socket) =
            launched.inspect_err(|code| log::warn("vault_not_started", &[("vault", &vault), ("code", code)]))?;
        let pid = child.id();
        let process = Self::attach(child, socket).map_err(|error| {
            log::warn("vault_not_started", &[("vault", &vault), ("kind", &error.kind())]);
            Code::HostFailed
        })?;
        log::info("vault_started", &[("vault", &vault), ("pid", &pid)]);
        Ok(process)
    }

    fn attach(mut child: Child, socket: StdUnixStream) -> io::Result<Self> {
        let attached = (|| {
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
            let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
            socket.set_nonblocking(true)?;
            Ok((handle, UnixStream::from_std(socket)?.into_split()))
        })();
        let (handle, (read, mut write)) = attached.inspect_err(|_: &io::Error| {
            // Nobody could talk to it.
            let _ = child.kill().and_then(|()| child.wait());
        })?;
        let outbox = Outbox::new(OUTBOX_BYTES_HIGH, OUTBOX_BYTES_MAX);
        let waiting = outbox.clone();
        let writer = tokio::spawn(async move {
            // The reader sees the end of the process; one that does not read is seen by the closed outbox.
            let _ = waiting.write_to(&mut write, STALL).await;
        });
        let reader = Reader::new(read, limits::HOST_MESSAGE_BYTES_MAX);
        Ok(Self { reader, outbox, writer, child: Some(child), handle, started: Instant::now() })
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

    fn kill(&self) {
        // It may be gone already.
        let _ = rustix::process::pidfd_send_signal(&self.handle, Signal::KILL);
    }

    async fn wait(mut self, patience: Duration) -> Ended {
        let uptime = self.started.elapsed();
        let Some(mut child) = self.child.take() else { return Ended { in_order: false, uptime } };
        let mut waited = tokio::task::spawn_blocking(move || child.wait());
        let status = match timeout(patience, &mut waited).await {
            Ok(status) => status,
            Err(_) => {
                self.kill();
                waited.await
            }
        };
        Ended { in_order: status.is_ok_and(|status| status.is_ok_and(|status| status.success())), uptime }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.writer.abort();
        self.outbox.abort();
        if let Some(mut child) = self.child.take() {
            self.kill();
            // It ends at the signal; nothing more can be done about one that does not.
            let _ = child.wait();
        }
    }
}

/// On the keeper's thread. The share is read, sent and wiped here and is nowhere else.
fn launch(vault: VaultId, config: &HostConfig, folders: &Folders) -> Result<(Child, StdUnixStream), Code> {
    let failed = |error: io::Error| {
        log::warn("vault_launch_failed", &[("vault", &vault), ("kind", &error.kind())]);
        Code::HostFailed
    };
    let share = folders.share(vault).ok_or(Code::ShareMissing)?;
    let (mut ours, theirs) = StdUnixStream::pair().map_err(failed)?;
    let launch = Launch::new(&config.vault_program)
        .folder(folders.of(vault))
        .stderr(if config.vault_stderr { Stderr::Inherit } else { Stderr::Null })
        .inherit(theirs);
    let child = launch.start().map_err(failed)?;
    let start = Start { vault, share: SecretValue::new(share.into_bytes()), memfd_secret: config.memfd_secret };
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

/// Bytes that wait for a process before those who can wait do.
pub(crate) const OUTBOX_BYTES_HIGH: usize = 4 * 1024 * 1024;
/// Bytes that wait for a process before it counts as hung: the former, and one read of each tunnel besides.
const OUTBOX_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long a process may take nothing.
const STALL: Duration = Duration::from_secs(30);
/// How long a process may live without its socket.
const LEAVE: Duration = Duration::from_secs(1);

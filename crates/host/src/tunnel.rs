//! One tunnel: resolve, connect, report the address, and pass bytes both ways, as many as the other side has room for.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use strongroom_bus::framed::Outbox;
use strongroom_wire::host::{ToVault, TunnelAddress, TunnelTo};
use strongroom_wire::limits::STREAM_WINDOW_BYTES;
use strongroom_wire::{Code, Refusal};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::resolve::Resolver;

/// What the vault's task hands to a tunnel.
#[derive(Debug)]
pub(crate) enum Up {
    /// Bytes for the far end.
    Data(Vec<u8>),
    /// No more will come.
    End,
}

/// How much may still be sent one way.
#[derive(Debug)]
pub(crate) struct Credit {
    bytes: AtomicU64,
    more: Notify,
}

impl Credit {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { bytes: AtomicU64::new(u64::from(STREAM_WINDOW_BYTES)), more: Notify::new() })
    }

    /// Gives leave for more; `false` where it is more than anybody needs.
    pub(crate) fn grant(&self, bytes: u32) -> bool {
        let add = |left: u64| left.checked_add(u64::from(bytes)).filter(|left| *left <= CREDIT_BYTES_MAX);
        let granted = self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, add).is_ok();
        self.more.notify_one();
        granted
    }

    /// Uses leave for `bytes`; `false` where there is not so much.
    pub(crate) fn spend(&self, bytes: usize) -> bool {
        let take = |left: u64| left.checked_sub(bytes as u64);
        self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok()
    }

    /// Waits until there is leave for something, and says for how much, up to `at_most`.
    async fn some(&self, at_most: usize) -> usize {
        loop {
            let left = usize::try_from(self.bytes.load(Ordering::Acquire)).unwrap_or(usize::MAX);
            if left > 0 {
                return left.min(at_most);
            }
            self.more.notified().await;
        }
    }
}

/// A tunnel's connections to its vault.
pub(crate) struct Tunnel {
    pub(crate) id: u32,
    pub(crate) outbox: Outbox,
    /// From the vault.
    pub(crate) up: mpsc::UnboundedReceiver<Up>,
    /// What the vault may still send.
    pub(crate) up_credit: Arc<Credit>,
    /// What may still be sent to the vault.
    pub(crate) down_credit: Arc<Credit>,
}

impl Tunnel {
    /// Runs the tunnel to its end; the vault is told each step. An error to tell it means that the process is gone.
    pub(crate) async fn run(mut self, to: TunnelTo, resolver: Resolver) {
        match timeout(CONNECT_TIMEOUT, connect(&to, &resolver)).await.unwrap_or(Err(Code::ConnectFailed.into())) {
            Err(refusal) => self.tell(&ToVault::TunnelFailed(self.id, refusal)),
            Ok((stream, address)) => {
                let address = TunnelAddress { address: address.to_string() };
                self.tell(&ToVault::TunnelOpened(self.id, address));
                // Broken off or ended in order: the vault tells the two apart by the `TunnelEnd` before this.
                let _ = self.splice(stream).await;
                self.tell(&ToVault::TunnelClosed(self.id));
            }
        }
    }

    async fn splice(&mut self, stream: TcpStream) -> io::Result<()> {
        let (read, write) = stream.into_split();
        let broken = AtomicBool::new(false);
        let down = pass_down(self.id, &self.outbox, &self.down_credit, read, &broken);
        let up = async {
            // A far end that takes no more may still have something to say: the other way goes on, and ends it.
            let outcome = pass_up(self.id, &self.outbox, &self.up_credit, &mut self.up, write).await;
            broken.store(outcome.is_err(), Ordering::Relaxed);
            io::Result::Ok(())
        };
        tokio::try_join!(up, down).map(|_| ())
    }

    fn tell(&self, message: &ToVault) {
        tell(&self.outbox, message);
    }
}

/// Vault to far end: leave for more is given once the system has taken the bytes.
async fn pass_up(
    id: u32,
    outbox: &Outbox,
    credit: &Credit,
    up: &mut mpsc::UnboundedReceiver<Up>,
    mut write: OwnedWriteHalf,
) -> io::Result<()> {
    let mut taken = 0;
    while let Some(Up::Data(bytes)) = up.recv().await {
        write.write_all(&bytes).await?;
        taken += u32::try_from(bytes.len()).map_err(io::Error::other)?;
        if taken >= STREAM_WINDOW_BYTES / 4 {
            // Granted here before it is told: the vault may use it at once.
            credit.grant(taken);
            tell(outbox, &ToVault::TunnelCredit(id, std::mem::take(&mut taken)));
        }
    }
    write.shutdown().await
}

/// Far end to vault: nothing is read without leave, so a slow vault slows the far end down.
async fn pass_down(
    id: u32,
    outbox: &Outbox,
    credit: &Credit,
    mut read: OwnedReadHalf,
    broken: &AtomicBool,
) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let room = credit.some(buffer.len()).await;
        outbox.room().await.map_err(io::Error::other)?;
        let count = read.read(&mut buffer[..room]).await?;
        if count > 0 {
            credit.spend(count);
            tell(outbox, &ToVault::TunnelData(id, buffer[..count].to_vec()));
        } else if broken.load(Ordering::Relaxed) {
            // The error of a reset is told once, and the writer was told: this is no end in order.
            return Err(io::ErrorKind::ConnectionReset.into());
        } else {
            tell(outbox, &ToVault::TunnelEnd(id));
            return Ok(());
        }
    }
}

/// Where the process is gone or does not read, its own task finds out.
fn tell(outbox: &Outbox, message: &ToVault) {
    let _ = outbox.push(&[&message.encode()]);
}

/// The first address that answers; each further one is tried when those before it are refused or slow
/// (RFC 8305, section 5).
async fn connect(to: &TunnelTo, resolver: &Resolver) -> Result<(TcpStream, SocketAddr), Refusal> {
    let addresses = resolver.addresses(&to.to, to.allow_private).await?;
    let mut waiting = addresses.into_iter();
    let mut attempts = JoinSet::new();
    loop {
        if let Some(address) = waiting.next() {
            attempts.spawn(async move { TcpStream::connect(address).await.map(|stream| (stream, address)) });
        } else if attempts.is_empty() {
            return Err(Code::ConnectFailed.into());
        }
        let patience = if waiting.len() == 0 { CONNECT_TIMEOUT } else { ATTEMPT_DELAY };
        if let Ok(Some(Ok(Ok((stream, address))))) = timeout(patience, attempts.join_next()).await {
            // Requests are written whole; waiting for more only adds latency. Without it they still arrive.
            let _ = stream.set_nodelay(true);
            return Ok((stream, address));
        }
    }
}

/// Name and connection together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one address may be the only one tried.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Bytes read at once: two TLS records.
const READ_BYTES: usize = 32 * 1024;
/// Leave that a vault can give at most before it counts as misbehaving.
const CREDIT_BYTES_MAX: u64 = 16 * STREAM_WINDOW_BYTES as u64;

//! Connections that the host opens for us. The host sees where they lead and ciphertext; TLS ends on our side of them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use strongroom_consumers::http::{Tunnel, TunnelFuture, Tunnels};
use strongroom_wire::host::{FromVault, ToVault, TunnelTo};
use strongroom_wire::policy::Destination;
use strongroom_wire::{Code, Refusal, limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, split};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Asks the host for tunnels, and hands the host's messages to them.
#[derive(Clone)]
pub(crate) struct HostTunnels {
    inner: Rc<RefCell<Table>>,
    out: mpsc::Sender<FromVault>,
}

struct Table {
    next: u32,
    open: HashMap<u32, Entry>,
}

enum Entry {
    /// The host was asked.
    Asked(oneshot::Sender<Result<String, Refusal>>),
    /// It stands.
    Open { incoming: mpsc::UnboundedSender<Incoming>, credit: Arc<Semaphore> },
}

enum Incoming {
    Data(Vec<u8>),
    End,
}

impl HostTunnels {
    /// Tunnels whose messages go out through `out`.
    pub(crate) fn new(out: mpsc::Sender<FromVault>) -> Self {
        Self { inner: Rc::new(RefCell::new(Table { next: 1, open: HashMap::new() })), out }
    }

    /// Takes a message of the host about a tunnel. One about a tunnel that is gone is forgotten.
    pub(crate) fn hear(&self, message: ToVault) {
        let mut table = self.inner.borrow_mut();
        match message {
            ToVault::TunnelOpened(id, address) => {
                if let Some(Entry::Asked(answer)) = table.open.remove(&id) {
                    let _ = answer.send(Ok(address.address));
                }
            }
            ToVault::TunnelFailed(id, refusal) => {
                if let Some(Entry::Asked(answer)) = table.open.remove(&id) {
                    let _ = answer.send(Err(refusal));
                }
            }
            ToVault::TunnelData(id, bytes) => {
                if let Some(Entry::Open { incoming, .. }) = table.open.get(&id) {
                    let _ = incoming.send(Incoming::Data(bytes));
                }
            }
            ToVault::TunnelCredit(id, bytes) => {
                if let Some(Entry::Open { credit, .. }) = table.open.get(&id) {
                    credit.add_permits((bytes as usize).min(limits::STREAM_WINDOW_BYTES as usize));
                }
            }
            ToVault::TunnelEnd(id) => {
                if let Some(Entry::Open { incoming, .. }) = table.open.get(&id) {
                    let _ = incoming.send(Incoming::End);
                }
            }
            ToVault::TunnelClosed(id) => {
                if let Some(Entry::Open { credit, .. }) = table.open.remove(&id) {
                    credit.close();
                }
            }
            _ => {}
        }
    }

    async fn ask(&self, to: Destination, allow_private: bool) -> Result<Tunnel, Refusal> {
        let (answer, answered) = oneshot::channel();
        let id = {
            let mut table = self.inner.borrow_mut();
            if table.open.len() >= limits::TUNNELS_MAX {
                return Err(Code::Busy.into());
            }
            let id = table.next;
            table.next = table.next.checked_add(1).ok_or(Refusal::new(Code::Busy))?;
            table.open.insert(id, Entry::Asked(answer));
            id
        };
        let lost = || Refusal::new(Code::ConnectFailed);
        self.out.send(FromVault::TunnelOpen(id, TunnelTo { to, allow_private })).await.map_err(|_| lost())?;
        // Given up before the host answered, the tunnel is closed as soon as it stands.
        let mut given_up = GivenUp { tunnels: self, id, armed: true };
        let address = answered.await.map_err(|_| lost())??;
        given_up.armed = false;
        let (near, far) = tokio::io::duplex(limits::STREAM_WINDOW_BYTES as usize);
        let (incoming, received) = mpsc::unbounded_channel();
        let credit = Arc::new(Semaphore::new(limits::STREAM_WINDOW_BYTES as usize));
        self.inner.borrow_mut().open.insert(id, Entry::Open { incoming, credit: Arc::clone(&credit) });
        let (from_engine, to_engine) = split(far);
        tokio::task::spawn_local(send_out(id, from_engine, credit, self.clone()));
        tokio::task::spawn_local(take_in(id, received, to_engine, self.out.clone()));
        Ok(Tunnel { stream: Box::new(near), address })
    }

    async fn close(&self, id: u32) {
        if self.inner.borrow_mut().open.remove(&id).is_some() {
            let _ = self.out.send(FromVault::TunnelClose(id)).await;
        }
    }
}

impl Tunnels for HostTunnels {
    fn open(&self, to: &Destination, allow_private: bool) -> TunnelFuture<'_> {
        let to = to.clone();
        Box::pin(self.ask(to, allow_private))
    }
}

struct GivenUp<'a> {
    tunnels: &'a HostTunnels,
    id: u32,
    armed: bool,
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        if self.armed {
            let (tunnels, id) = (self.tunnels.clone(), self.id);
            tunnels.inner.borrow_mut().open.remove(&id);
            tokio::task::spawn_local(async move {
                let _ = tunnels.out.send(FromVault::TunnelClose(id)).await;
            });
        }
    }
}

/// What the engine writes goes to the host, as far as the host lets it.
async fn send_out(id: u32, mut from: ReadHalf<DuplexStream>, credit: Arc<Semaphore>, tunnels: HostTunnels) {
    let mut buffer = vec![0; limits::CHUNK_BYTES_MAX];
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        let Ok(permits) = credit.acquire_many(u32::try_from(read).unwrap_or(u32::MAX)).await else { break };
        permits.forget();
        if tunnels.out.send(FromVault::TunnelData(id, buffer[..read].to_vec())).await.is_err() {
            return;
        }
    }
    let _ = tunnels.out.send(FromVault::TunnelEnd(id)).await;
    // The engine is done with its half; the other end gets a moment to finish its own.
    tokio::time::sleep(LINGER).await;
    tunnels.close(id).await;
}

/// What the host sends goes to the engine, and the host may send as much again.
async fn take_in(
    id: u32,
    mut received: mpsc::UnboundedReceiver<Incoming>,
    mut to: WriteHalf<DuplexStream>,
    out: mpsc::Sender<FromVault>,
) {
    while let Some(Incoming::Data(bytes)) = received.recv().await {
        if to.write_all(&bytes).await.is_err() {
            break;
        }
        let credit = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if out.send(FromVault::TunnelCredit(id, credit)).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

/// How long a tunnel stays after the engine closed its half.
const LINGER: Duration = Duration::from_secs(2);

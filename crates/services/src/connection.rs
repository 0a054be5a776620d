//! One client: its first messages, then its frames.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use strongroom_bus::envelope::CONNECTION_WINDOW_BYTES;
use strongroom_bus::framed::{Outbox, OutboxError, Reader};
use strongroom_bus::{Bus, Envelope, Kind, log};
use strongroom_wire::relay::{RELAY_HELLO_BYTES_MAX, RelayAnswer, RelayHello};
use strongroom_wire::{Code, Refusal, VaultId, limits};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use crate::relay::{Relay, Route, to_vault};

/// Serves one client until either end is gone.
pub(crate) async fn serve<B: Bus>(relay: &Arc<Relay<B>>, stream: UnixStream, uid: u32) {
    let (read, mut write) = stream.into_split();
    let high = limits::SEALED_FRAME_BYTES_MAX;
    let outbox = Outbox::new(high, relay.limits.waiting_bytes_max);
    let conversation = async {
        let mut reader = Reader::new(read, RELAY_HELLO_BYTES_MAX);
        converse(relay, &mut reader, &outbox, uid).await;
        // What was answered last is still written.
        outbox.close();
    };
    let stall = relay.limits.stall_timeout;
    tokio::join!(conversation, write_out(&outbox, &mut write, stall));
}

async fn write_out(outbox: &Outbox, write: &mut OwnedWriteHalf, stall: Duration) {
    // A client that does not read is gone for us; the conversation ends when it finds the outbox closed.
    let _ = outbox.write_to(write, stall).await;
}

/// The first messages, until one asks for a channel. Each has the same time.
async fn converse<B: Bus>(relay: &Arc<Relay<B>>, reader: &mut Reader<OwnedReadHalf>, outbox: &Outbox, uid: u32) {
    loop {
        let hello = match timeout(relay.limits.hello_timeout, reader.next()).await {
            Ok(Ok(Some(bytes))) => serde_json::from_slice::<RelayHello>(bytes),
            Ok(Ok(None)) | Err(_) => return,
            Ok(Err(_)) => return refuse(outbox, Code::RequestMalformed.into()),
        };
        let answer = match hello {
            Err(_) => return refuse(outbox, Code::RequestMalformed.into()),
            Ok(RelayHello::Ping {}) => RelayAnswer::Pong { version: relay.version.clone() },
            Ok(RelayHello::NewVault {}) => match new_vault(relay, uid).await {
                Ok(vault) => RelayAnswer::NewVault { vault },
                Err(refusal) => return refuse(outbox, refusal),
            },
            Ok(RelayHello::Relay { vault }) => return channel(relay, reader, outbox, vault, &[]).await,
            Ok(RelayHello::Rescue { vault }) => return channel(relay, reader, outbox, vault, &[1]).await,
        };
        if answer_with(outbox, &answer).is_err() {
            return;
        }
    }
}

async fn new_vault<B: Bus>(relay: &Arc<Relay<B>>, uid: u32) -> Result<VaultId, Refusal> {
    if !relay.may_make_vault(uid) {
        return Err(Code::TooMany.into());
    }
    let mut id = [0; 16];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty()).map_err(|_| Code::HostFailed)?;
    let vault = VaultId(id);
    let (inbound, mut answers) = Inbound::new(None);
    let route = relay.route(vault, inbound)?;
    let envelope = to_vault(vault, route.connection, Kind::Create);
    relay.bus.publish(envelope).await.map_err(|_| Code::HostFailed)?;
    match first_answer(&mut answers).await?.kind {
        Kind::Created => Ok(vault),
        _ => Err(Code::HostFailed.into()),
    }
}

/// The host's answer to an `Open` or a `Create`.
async fn first_answer(answers: &mut mpsc::Receiver<Arc<Envelope>>) -> Result<Arc<Envelope>, Refusal> {
    let answer = timeout(HOST_TIMEOUT, answers.recv()).await.ok().flatten().ok_or(Code::HostFailed)?;
    if answer.kind == Kind::Refused {
        return Err(serde_json::from_slice(&answer.payload).unwrap_or_else(|_| Code::HostFailed.into()));
    }
    Ok(answer)
}

/// A channel: frames both ways until one end is gone.
async fn channel<B: Bus>(
    relay: &Arc<Relay<B>>,
    reader: &mut Reader<OwnedReadHalf>,
    outbox: &Outbox,
    vault: VaultId,
    how: &[u8],
) {
    let window = Arc::new(Window::new());
    let (inbound, mut answers) = Inbound::new(Some((outbox.clone(), Arc::clone(&window))));
    let route = match relay.route(vault, inbound) {
        Ok(route) => route,
        Err(refusal) => return refuse(outbox, refusal),
    };
    let open = to_vault(vault, route.connection, Kind::Open).payload(how);
    let accepted = match relay.bus.publish(open).await {
        Ok(()) => first_answer(&mut answers).await,
        Err(_) => Err(Code::HostFailed.into()),
    };
    let opened = accepted
        .and_then(|answer| if answer.kind == Kind::Accepted { Ok(()) } else { Err(Refusal::new(Code::HostFailed)) });
    let at_the_host = match opened {
        Ok(()) => {
            reader.set_bytes_max(limits::SEALED_FRAME_BYTES_MAX);
            forward(relay, reader, outbox, &route, vault, &window, &mut answers).await
        }
        Err(refusal) => {
            // The host may have opened it after we gave up waiting.
            let unanswered = refusal.code == Code::HostFailed;
            refuse(outbox, refusal);
            unanswered
        }
    };
    if at_the_host {
        // Where the bus is gone the host closes everything of these services by itself.
        let _ = relay.bus.publish(to_vault(vault, route.connection, Kind::Close)).await;
    }
}

/// Client to vault; the other way is [`Inbound`]. `true` where the host does not know yet that it is over.
async fn forward<B: Bus>(
    relay: &Arc<Relay<B>>,
    reader: &mut Reader<OwnedReadHalf>,
    outbox: &Outbox,
    route: &Route<B>,
    vault: VaultId,
    window: &Window,
    answers: &mut mpsc::Receiver<Arc<Envelope>>,
) -> bool {
    let mut idle = tokio::time::interval(relay.limits.idle_timeout);
    idle.reset();
    loop {
        tokio::select! {
            biased;
            // `Close` or `Refused`: the vault ended the channel.
            _ = answers.recv() => return false,
            message = reader.next() => {
                let Ok(Some(frame)) = message else { return true };
                let envelope = to_vault(vault, route.connection, Kind::Data).payload(frame);
                window.touch();
                if !send(relay, envelope, window, answers).await {
                    return true;
                }
            }
            () = outbox.ended() => return true,
            _ = idle.tick() => {
                if window.untouched() {
                    log::info("channel_idle", &[("connection", &route.connection)]);
                    return true;
                }
            }
        }
    }
}

/// One frame, once the host gave leave for its bytes: until then nothing more is read from the client.
async fn send<B: Bus>(
    relay: &Arc<Relay<B>>,
    envelope: Envelope,
    window: &Window,
    answers: &mut mpsc::Receiver<Arc<Envelope>>,
) -> bool {
    tokio::select! {
        biased;
        () = window.spend(envelope.window_cost()) => {}
        _ = answers.recv() => return false,
    }
    relay.bus.publish(envelope).await.is_ok()
}

/// Where envelopes for one connection go. Called from the one task that serves the bus, so nothing here waits.
pub(crate) struct Inbound {
    /// What ends or begins a channel.
    answers: mpsc::Sender<Arc<Envelope>>,
    frames: Option<(Outbox, Arc<Window>)>,
}

impl Inbound {
    fn new(frames: Option<(Outbox, Arc<Window>)>) -> (Self, mpsc::Receiver<Arc<Envelope>>) {
        let (answers, receiver) = mpsc::channel(2);
        (Self { answers, frames }, receiver)
    }

    pub(crate) fn take(&self, envelope: Arc<Envelope>) {
        match (envelope.kind, &self.frames) {
            (Kind::Data, Some((outbox, window))) => {
                window.touch();
                if outbox.push(&[&envelope.payload]) == Err(OutboxError::Full) {
                    log::warn("client_slow", &[("connection", &envelope.connection)]);
                    outbox.abort();
                }
            }
            (Kind::Credit, Some((_, window))) => {
                if let Ok(bytes) = <[u8; 4]>::try_from(envelope.payload.as_slice()) {
                    window.grant(u64::from(u32::from_be_bytes(bytes)));
                }
            }
            (kind, frames) => {
                if let (Kind::Accepted, Some((outbox, _))) = (kind, frames) {
                    // Here rather than where it is awaited: the vault's first frame may be right behind, and the client
                    // must see this first. Where it cannot be told, it is found gone.
                    let _ = answer_with(outbox, &RelayAnswer::Relay {});
                }
                // Full only where the host answers twice; once is enough.
                let _ = self.answers.try_send(envelope);
            }
        }
    }
}

/// Bytes that may still be sent to the vault, and whether anything moved lately.
pub(crate) struct Window {
    bytes: AtomicU64,
    granted: Notify,
    touched: AtomicU64,
}

impl Window {
    fn new() -> Self {
        Self {
            bytes: AtomicU64::new(u64::from(CONNECTION_WINDOW_BYTES)),
            granted: Notify::new(),
            touched: AtomicU64::new(1),
        }
    }

    async fn spend(&self, bytes: u32) {
        let take = |left: u64| left.checked_sub(u64::from(bytes));
        while self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            self.granted.notified().await;
        }
    }

    fn grant(&self, bytes: u64) {
        let add = |left: u64| Some(left.saturating_add(bytes).min(u64::from(CONNECTION_WINDOW_BYTES)));
        // The closure always has a value.
        let _ = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        self.granted.notify_one();
    }

    fn touch(&self) {
        self.touched.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether nothing moved since this was asked last.
    fn untouched(&self) -> bool {
        self.touched.swap(0, Ordering::Relaxed) == 0
    }
}

fn refuse(outbox: &Outbox, refusal: Refusal) {
    log::info("client_refused", &[("code", &refusal.code)]);
    // The client is cut off either way.
    let _ = answer_with(outbox, &RelayAnswer::Refused(refusal));
}

fn answer_with(outbox: &Outbox, answer: &RelayAnswer) -> Result<(), OutboxError> {
    let bytes = serde_json::to_vec(answer).expect("these shapes always have a JSON form");
    outbox.push(&[&bytes])
}

/// How long the host may take for its first answer: a vault process starts in milliseconds, a busy machine takes longer.
const HOST_TIMEOUT: Duration = Duration::from_secs(20);

//! The task of one vault: it alone talks to that vault's process, and it knows no other.

use std::sync::Arc;

use strongroom_bus::framed::Outbox;
use strongroom_bus::{Bus, ConnectionId, Envelope, Kind, Subject, Topic, log};
use strongroom_wire::host::{FromVault, HardwareAnswer, HardwareRequest, ToVault};
use strongroom_wire::{Code, Refusal, VaultId, limits};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::{Duration, Instant};

use crate::channels::{Channels, Flow, Whose};
use crate::crashes::Crashes;
use crate::host::Words;
use crate::life::Place;
use crate::process::{Ended, Misbehaved, Process, missing};
use crate::resolve::Resolver;
use crate::route::{Shared, stopped};
use crate::tunnels::Tunnels;

/// What the router brings.
#[derive(Debug)]
pub(crate) enum Ask {
    /// A client wants a channel; whether to bring back a vault whose share is gone.
    Open(ConnectionId, Flow, bool),
    /// A frame of a channel.
    Data(Arc<Envelope>),
    /// The client is gone.
    Close(ConnectionId),
}

/// The task of one vault.
pub(crate) struct VaultTask<B> {
    id: VaultId,
    shared: Arc<Shared<B>>,
    asks: mpsc::UnboundedReceiver<Ask>,
    stop: watch::Receiver<bool>,
    resolver: Resolver,
    crashes: Crashes,
}

/// A running process and everything that ends with it.
struct Running {
    place: Place,
    process: Process,
    channels: Channels,
    tunnels: Tunnels,
    phase: Phase,
    /// When it was asked for.
    asked: Instant,
    open: bool,
    busy: bool,
    notices: Notices,
    /// Turns to have evidence made.
    evidence: Arc<Semaphore>,
    /// The turn to ask the hardware for something.
    hardware: Arc<Semaphore>,
    /// The share is sealed to another program: the process is to make room for one of that.
    replaced: Arc<Notify>,
}

/// What is awaited by when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting {
        until: Instant,
    },
    Ready,
    /// `evicted`: to make room, or for another program, so that whoever comes now waits for the next process instead of being refused.
    Stopping {
        until: Instant,
        evicted: bool,
    },
}

impl Phase {
    fn is_evicted(self) -> bool {
        matches!(self, Self::Stopping { evicted: true, .. })
    }
}

/// Why a process is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Stop,
    /// To make room.
    Room,
    /// To make room for one of another program.
    Replaced,
}

enum Event {
    Message(Result<Option<FromVault>, Misbehaved>),
    Ask(Ask),
    TunnelEnded,
    Stop,
    Evict,
    Replaced,
}

/// Why a process is not running any more, or should not be.
enum Over {
    /// It closed its socket.
    Left,
    Misbehaved(Misbehaved),
    /// It took too long to start or to stop.
    TooLate,
    /// The member's vault is to be destroyed.
    Deleted,
}

impl From<Misbehaved> for Over {
    fn from(misbehaved: Misbehaved) -> Self {
        Self::Misbehaved(misbehaved)
    }
}

impl<B: Bus> VaultTask<B> {
    pub(crate) fn new(id: VaultId, shared: Arc<Shared<B>>, asks: mpsc::UnboundedReceiver<Ask>) -> Self {
        let crashes = Crashes::new(shared.config.restart);
        let resolver = shared.resolver.for_vault();
        Self { id, stop: shared.stop.clone(), shared, asks, resolver, crashes }
    }

    /// Serves the vault until the host stops or the vault is deleted.
    pub(crate) async fn run(mut self) {
        loop {
            let ask = tokio::select! {
                ask = self.asks.recv() => ask,
                () = stopped(&mut self.stop) => return,
            };
            match ask {
                None => return,
                Some(Ask::Open(connection, flow, rescue)) => {
                    let Some(mut running) = self.start(connection, rescue).await else { continue };
                    let over = match self.open(&mut running, connection, flow).await {
                        Ok(()) => self.serve(&mut running).await,
                        Err(over) => over,
                    };
                    if self.end(running, over).await == Deleted(true) {
                        return self.refuse_the_rest().await;
                    }
                }
                // Of a channel whose process is gone; the client was told then.
                Some(Ask::Data(_)) => {}
                Some(Ask::Close(connection)) => self.shared.forget(connection),
            }
        }
    }

    async fn start(&mut self, connection: ConnectionId, rescue: bool) -> Option<Running> {
        if let Some(secs) = self.crashes.wait_secs(Instant::now()) {
            self.refuse(connection, Refusal::new(Code::HostFailed).retry_secs(secs)).await;
            return None;
        }
        let shared = &self.shared;
        let place = shared.lives.enter(self.id);
        let asked = Instant::now();
        let opened = match shared.sealer.open(self.id).await {
            Err(refusal) if rescue && is_gone(refusal.code) => shared.sealer.open_new(self.id).await,
            opened => opened,
        };
        let started = match opened {
            Ok(opened) => Process::start(self.id, opened, shared).await,
            Err(refusal) => {
                log::warn("vault_not_started", &[("vault", &self.id), ("code", &refusal.code)]);
                Err(refusal)
            }
        };
        match started {
            Ok(process) => Some(Running {
                place: {
                    place.started(process.pid(), process.handle());
                    place
                },
                asked,
                tunnels: Tunnels::new(process.outbox.clone(), self.resolver.clone()),
                process,
                channels: Channels::default(),
                phase: Phase::Starting { until: Instant::now() + READY_TIMEOUT },
                open: false,
                busy: false,
                notices: Notices::default(),
                evidence: Arc::new(Semaphore::new(EVIDENCE_AT_ONCE)),
                hardware: Arc::new(Semaphore::new(1)),
                replaced: Arc::default(),
            }),
            Err(refusal) => {
                self.refuse(connection, refusal).await;
                None
            }
        }
    }

    /// Until the process is over.
    async fn serve(&mut self, running: &mut Running) -> Over {
        let outbox = running.process.outbox.clone();
        let mut stop = self.stop.clone();
        let replaced = Arc::clone(&running.replaced);
        loop {
            let event = tokio::select! {
                message = running.process.next() => Event::Message(message),
                ask = next_ask(&mut self.asks, &outbox), if !running.phase.is_evicted() => Event::Ask(ask),
                () = running.tunnels.ended() => Event::TunnelEnded,
                () = until(running.phase) => return Over::TooLate,
                // It is gone, or has not read for long.
                () = outbox.ended() => return Over::Left,
                () = stopped(&mut stop), if !matches!(running.phase, Phase::Stopping { .. }) => Event::Stop,
                () = running.place.evicted(), if running.phase == Phase::Ready => Event::Evict,
                () = replaced.notified(), if running.phase == Phase::Ready => Event::Replaced,
            };
            let outcome = match event {
                Event::Message(message) => self.messages(running, message).await,
                Event::Ask(ask) => self.asks(running, ask).await,
                Event::TunnelEnded => Ok(()),
                Event::Stop => self.stop(running, Why::Stop),
                Event::Replaced => {
                    log::info("vault_replaced", &[("vault", &self.id)]);
                    self.stop(running, Why::Replaced)
                }
                // What was said of it may be older than what it does now.
                Event::Evict if running.open || running.busy => Ok(()),
                Event::Evict => self.stop(running, Why::Room),
            };
            if let Err(over) = outcome {
                return over;
            }
        }
    }

    fn stop(&self, running: &mut Running, why: Why) -> Result<(), Over> {
        let evicted = why != Why::Stop;
        running.phase = Phase::Stopping { until: Instant::now() + self.shared.config.stop_grace, evicted };
        running.place.draining(why == Why::Room);
        // One that is to make room may have begun something since it was looked at, and then stays.
        Ok(running.process.tell(if why == Why::Room { &ToVault::Leave } else { &ToVault::Stop })?)
    }

    /// The message that came, and those that came with it.
    async fn messages(
        &mut self,
        running: &mut Running,
        first: Result<Option<FromVault>, Misbehaved>,
    ) -> Result<(), Over> {
        let mut next = first?;
        if next.is_none() {
            return Err(Over::Left);
        }
        while let Some(message) = next {
            self.message(running, message).await?;
            next = running.process.next_buffered()?;
        }
        Ok(())
    }

    async fn message(&mut self, running: &mut Running, message: FromVault) -> Result<(), Over> {
        if matches!(running.phase, Phase::Starting { .. }) && !matches!(message, FromVault::Ready(_)) {
            return Err(Misbehaved("spoke_before_ready").into());
        }
        match message {
            FromVault::Ready(ready) => {
                if running.phase == Phase::Ready {
                    return Err(Misbehaved("ready_twice").into());
                }
                if matches!(running.phase, Phase::Starting { .. }) {
                    running.phase = Phase::Ready;
                }
                running.open = ready.state.open;
                running.place.is_up(running.open, running.asked.elapsed());
                let Some(missing) = missing(&ready) else { return Err(Misbehaved("promise_is_no_word").into()) };
                let values: [(&str, &dyn log::LogSafe); 3] =
                    [("vault", &self.id), ("open", &running.open), ("missing", &Words(&missing))];
                log::info("vault_ready", &values);
            }
            FromVault::ChannelData(number, bytes) => self.frame_of_channel(running, number, bytes).await?,
            FromVault::ChannelClose(number) => self.close_by_vault(running, number).await?,
            FromVault::TunnelOpen(id, to) => running.tunnels.open(id, to)?,
            FromVault::TunnelData(id, bytes) => running.tunnels.data(id, bytes)?,
            FromVault::TunnelCredit(id, bytes) => running.tunnels.credit(id, bytes)?,
            FromVault::TunnelEnd(id) => running.tunnels.end(id)?,
            FromVault::TunnelClose(id) => running.tunnels.close(id)?,
            FromVault::State(state) => {
                running.busy = state.busy;
                if running.phase.is_evicted() && (state.open || state.busy) {
                    running.phase = Phase::Ready;
                }
                if running.phase == Phase::Ready {
                    running.place.state(state.open, state.busy);
                }
                if state.open != running.open {
                    running.open = state.open;
                    running.notices.count()?;
                    log::info("vault_state", &[("vault", &self.id), ("open", &state.open)]);
                }
            }
            FromVault::Notice(notice) => {
                running.notices.count()?;
                if !is_word(&notice.event) {
                    return Err(Misbehaved("notice_is_no_word").into());
                }
                if let Some(code) = Code::ALL.iter().find(|code| code.as_str() == notice.event) {
                    log::warn("vault_cannot_be_used", &[("vault", &self.id), ("code", code)]);
                }
                self.publish(Topic::Events, ConnectionId(0), Kind::Notice, notice.event.into_bytes()).await;
            }
            FromVault::Deleted => return Err(Over::Deleted),
            FromVault::Rescued => self.rescued(running).await?,
            FromVault::Hardware(request) => self.hardware(running, request)?,
            FromVault::Evidence(number, binding) => self.evidence(running, number, binding),
        }
        Ok(())
    }

    async fn frame_of_channel(&mut self, running: &mut Running, number: u32, bytes: Vec<u8>) -> Result<(), Over> {
        if bytes.len() > limits::SEALED_FRAME_BYTES_MAX {
            return Err(Misbehaved("frame_oversized").into());
        }
        match running.channels.whose(number) {
            Whose::Of(connection) => self.publish(Topic::ToDevice, connection, Kind::Data, bytes).await,
            Whose::Closed => {}
            Whose::Never => return Err(Misbehaved("channel_unknown").into()),
        }
        Ok(())
    }

    /// Has evidence made beside what else is to be done, for as many channels at once as a vault has reason to open.
    fn evidence(&self, running: &Running, number: u32, binding: [u8; 32]) {
        let turns = Arc::clone(&running.evidence);
        let (sealer, program) = (Arc::clone(&self.shared.sealer), running.process.program);
        let outbox = running.process.outbox.clone();
        tokio::spawn(async move {
            // As many wait as there are channels; that there is none is never said for want of a turn.
            let Ok(_turn) = turns.acquire_owned().await else { return };
            let evidence = sealer.evidence(program, binding).await;
            // One that is gone, or does not read, is seen by whoever reads it.
            let _ = outbox.push(&[&ToVault::Evidence(number, evidence).encode()]);
        });
    }

    /// The vault's header is sealed under the new share: that becomes its share, and the process is replaced.
    async fn rescued(&self, running: &mut Running) -> Result<(), Over> {
        if !running.process.share_is_new {
            return Err(Misbehaved("rescued_unasked").into());
        }
        if let Err(error) = self.shared.sealer.keep_new(self.id).await {
            // It stays where it is found again by the next rescue.
            log::warn("new_share_not_kept", &[("vault", &self.id), ("kind", &error)]);
        }
        log::info("vault_rescued", &[("vault", &self.id)]);
        running.replaced.notify_one();
        Ok(())
    }

    /// Has the hardware do something for the vault, beside what else is to be done.
    fn hardware(&self, running: &mut Running, request: HardwareRequest) -> Result<(), Over> {
        let Ok(turn) = Arc::clone(&running.hardware).try_acquire_owned() else {
            return Err(Misbehaved("hardware_asked_twice").into());
        };
        let (sealer, program, vault) = (Arc::clone(&self.shared.sealer), running.process.program, self.id);
        let (outbox, replaced) = (running.process.outbox.clone(), Arc::clone(&running.replaced));
        tokio::spawn(async move {
            let reseals = matches!(request, HardwareRequest::ResealShare { .. });
            let answer = sealer.perform(vault, program, request).await.unwrap_or_else(HardwareAnswer::Refused);
            let done = matches!(answer, HardwareAnswer::Done {});
            // Before the answer, after which it may ask again.
            drop(turn);
            // One that is gone, or does not read, is seen by whoever reads it.
            let _ = outbox.push(&[&ToVault::Hardware(answer).encode()]);
            if reseals && done {
                replaced.notify_one();
            }
        });
        Ok(())
    }

    async fn close_by_vault(&mut self, running: &mut Running, number: u32) -> Result<(), Over> {
        match running.channels.whose(number) {
            Whose::Of(connection) => {
                running.channels.close(connection);
                self.close(connection).await;
            }
            Whose::Closed => {}
            Whose::Never => return Err(Misbehaved("channel_unknown").into()),
        }
        Ok(())
    }

    /// The ask that came, and those behind it while there is room.
    async fn asks(&mut self, running: &mut Running, first: Ask) -> Result<(), Over> {
        let mut next = Some(first);
        for _ in 0..ASKS_AT_ONCE {
            let Some(ask) = next else { return Ok(()) };
            self.ask(running, ask).await?;
            if running.process.outbox.waiting() >= crate::process::OUTBOX_BYTES_HIGH {
                return Ok(());
            }
            next = self.asks.try_recv().ok();
        }
        match next {
            Some(ask) => self.ask(running, ask).await,
            None => Ok(()),
        }
    }

    async fn ask(&mut self, running: &mut Running, ask: Ask) -> Result<(), Over> {
        match ask {
            Ask::Open(connection, _, rescue) if running.process.share_is_new && !rescue => {
                // It cannot prove itself, and whoever does not come to bring it back would take it for another.
                self.refuse(connection, Code::ShareMissing.into()).await;
            }
            Ask::Open(connection, flow, _) => self.open(running, connection, flow).await?,
            Ask::Data(envelope) => {
                // None: the channel was closed by the vault, and the two messages crossed.
                let Some(number) = running.channels.number(envelope.connection) else { return Ok(()) };
                running.place.handed(running.channels.len(), envelope.payload.len());
                let cost = envelope.window_cost();
                running.process.tell_channel_data(number, &envelope.payload)?;
                if let Some(again) = running.channels.handed(envelope.connection, cost) {
                    let credit = again.to_be_bytes().to_vec();
                    self.publish(Topic::ToDevice, envelope.connection, Kind::Credit, credit).await;
                }
            }
            Ask::Close(connection) => {
                self.shared.forget(connection);
                if let Some(number) = running.channels.close(connection) {
                    running.place.used(running.channels.len());
                    running.process.tell(&ToVault::ChannelClosed(number))?;
                }
            }
        }
        Ok(())
    }

    async fn open(&self, running: &mut Running, connection: ConnectionId, flow: Flow) -> Result<(), Over> {
        if matches!(running.phase, Phase::Stopping { .. }) {
            self.refuse(connection, Code::HostFailed.into()).await;
            return Ok(());
        }
        let Some(number) = running.channels.open(connection, flow) else {
            self.refuse(connection, Code::Busy.into()).await;
            return Ok(());
        };
        running.place.used(running.channels.len());
        running.process.tell(&ToVault::ChannelOpen(number))?;
        self.publish(Topic::ToDevice, connection, Kind::Accepted, Vec::new()).await;
        Ok(())
    }

    /// Clears up after a process.
    async fn end(&mut self, running: Running, over: Over) -> Deleted {
        // Its place is given up last, with whatever is under way for it.
        let Running { place, process, mut channels, tunnels, phase, .. } = running;
        drop(tunnels);
        let ended = match over {
            Over::Left => process.reap().await,
            Over::Misbehaved(Misbehaved(how)) => {
                log::warn("vault_misbehaved", &[("vault", &self.id), ("how", &how)]);
                Ended { in_order: false, ..process.kill_and_reap().await }
            }
            Over::TooLate => {
                log::warn("vault_too_late", &[("vault", &self.id)]);
                Ended { in_order: false, ..process.kill_and_reap().await }
            }
            Over::Deleted => process.kill_and_reap().await,
        };
        for connection in channels.close_all() {
            self.close(connection).await;
        }
        if matches!(over, Over::Deleted) {
            return self.delete().await;
        }
        if ended.in_order || matches!(phase, Phase::Stopping { .. }) {
            if phase.is_evicted() {
                place.made_room();
            }
            log::info("vault_stopped", &[("vault", &self.id), ("in_order", &ended.in_order)]);
        } else {
            place.crashed();
            self.crashed(ended).await;
        }
        Deleted(false)
    }

    async fn crashed(&mut self, ended: Ended) {
        let held = self.crashes.crashed(Instant::now(), ended.uptime);
        let crashes = self.crashes.in_a_row();
        log::warn("vault_crashed", &[("vault", &self.id), ("in_a_row", &crashes), ("held_secs", &held)]);
        if held.is_some() {
            self.publish(Topic::Events, ConnectionId(0), Kind::Notice, b"vault_held".to_vec()).await;
        }
    }

    async fn delete(&self) -> Deleted {
        let (id, folders) = (self.id, Arc::clone(&self.shared.folders));
        match self.shared.keeper.run(move || folders.delete(id)).await {
            Ok(Ok(())) => log::info("vault_deleted", &[("vault", &self.id)]),
            Ok(Err(error)) => log::error("vault_not_deleted", &[("vault", &self.id), ("kind", &error.kind())]),
            Err(_) => log::error("vault_not_deleted", &[("vault", &self.id)]),
        }
        Deleted(true)
    }

    /// Whoever asked for a vault that is gone by now.
    async fn refuse_the_rest(mut self) {
        self.asks.close();
        while let Some(ask) = self.asks.recv().await {
            if let Ask::Open(connection, ..) = ask {
                self.refuse(connection, Code::VaultUnknown.into()).await;
            }
        }
    }

    async fn refuse(&self, connection: ConnectionId, refusal: Refusal) {
        self.shared.forget(connection);
        let payload = serde_json::to_vec(&refusal).expect("a refusal has a JSON form");
        self.publish(Topic::ToDevice, connection, Kind::Refused, payload).await;
    }

    async fn close(&self, connection: ConnectionId) {
        self.shared.forget(connection);
        self.publish(Topic::ToDevice, connection, Kind::Close, Vec::new()).await;
    }

    async fn publish(&self, topic: Topic, connection: ConnectionId, kind: Kind, payload: Vec<u8>) {
        let envelope = Envelope { subject: Subject { member: self.id, topic }, connection, kind, payload };
        if self.shared.bus.publish(envelope).await.is_err() {
            log::warn("bus_refused", &[("vault", &self.id), ("topic", &topic)]);
        }
    }
}

/// Whether the vault is gone for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Deleted(bool);

/// How many words a process may say to the log and the member in a while.
#[derive(Debug, Default)]
struct Notices {
    since: Option<Instant>,
    count: u32,
}

impl Notices {
    fn count(&mut self) -> Result<(), Misbehaved> {
        let now = Instant::now();
        if self.since.is_none_or(|since| now.duration_since(since) >= NOTICES_PERIOD) {
            *self = Self { since: Some(now), count: 0 };
        }
        self.count += 1;
        if self.count > NOTICES_MAX { Err(Misbehaved("too_many_notices")) } else { Ok(()) }
    }
}

/// A process that does not read is not given more; its clients then wait for leave.
async fn next_ask(asks: &mut mpsc::UnboundedReceiver<Ask>, outbox: &Outbox) -> Ask {
    if outbox.room().await.is_ok()
        && let Some(ask) = asks.recv().await
    {
        return ask;
    }
    // The process or the host is ending, which is seen another way.
    std::future::pending().await
}

async fn until(phase: Phase) {
    match phase {
        Phase::Starting { until } | Phase::Stopping { until, .. } => tokio::time::sleep_until(until).await,
        Phase::Ready => std::future::pending().await,
    }
}

/// Whether a vault that is refused so can be brought back.
fn is_gone(code: Code) -> bool {
    matches!(code, Code::ShareMissing | Code::MeasurementChanged)
}

fn is_word(event: &str) -> bool {
    (1..=NOTICE_BYTES_MAX).contains(&event.len())
        && event.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'.' || b.is_ascii_digit())
}

/// How long a process may take to say that it is up.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// Asks between two looks at what the process says.
const ASKS_AT_ONCE: usize = 64;
/// Evidence that is made for one vault at once.
const EVIDENCE_AT_ONCE: usize = 16;
const NOTICES_MAX: u32 = 600;
const NOTICES_PERIOD: Duration = Duration::from_secs(60);
const NOTICE_BYTES_MAX: usize = 64;

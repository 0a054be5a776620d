//! The one loop of a vault process: messages in, rules, disk, messages out. What arrives together is made durable together.

use std::collections::HashMap;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use strongroom_consumers::http::{Engine, HttpJob, HttpOutcome, Meter};
use strongroom_core::{
    Audience, Context, Effect, Hardware, HttpDone, HttpRun, Input, Moment, Peer, ReplyTo, Request, Vault,
};
use strongroom_crypto::locked;
use strongroom_crypto::os_rng;
use strongroom_crypto::secret::HostShare;
use strongroom_jail::{Jail, zygote};
use strongroom_store::FileStore;
use strongroom_wire::device::{Answer, DeviceAnswer, Envelope};
use strongroom_wire::frame::{Chunk, Credit, FrameType, Messages, with_length};
use strongroom_wire::guest::{GuestAnswer, HttpHead, UseResult};
use strongroom_wire::host::{FromVault, Notice, Ready, Start, State, ToVault};
use strongroom_wire::{Code, Refusal, Timestamp, limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, LocalSet};
use zeroize::Zeroizing;

use crate::bodies::Bodies;
use crate::channels::{Channels, Heard};
use crate::consume::Real;
use crate::tunnels::HostTunnels;

/// Why the process leaves before it was told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failed {
    /// There is no socket at descriptor 3, or it broke.
    #[error("strongroom-vault: the socket to the host: {0}")]
    Socket(#[source] std::io::Error),
    /// The host does not speak our protocol.
    #[error("strongroom-vault: the host sent what is no message of its protocol")]
    Protocol,
    /// The jail could not be made.
    #[error("strongroom-vault: {0}")]
    Jail(#[source] strongroom_jail::JailError),
}

/// What the tasks of exchanges and bodies tell the loop.
pub(crate) enum Told {
    /// The head of an answer.
    Head(ReplyTo, HttpHead),
    /// A piece of its body.
    Chunk(ReplyTo, Bytes),
    /// The called host took so many bytes of a request's body.
    Taken(ReplyTo, u32),
    /// An exchange ended.
    Done(u64, HttpDone, bool),
}

/// Runs the program: as a zygote until the host is gone, and in each process that it forks as a vault: it shuts itself in, waits
/// for the host's first message, and serves.
///
/// # Errors
/// [`Failed`], to be printed.
pub fn run() -> Result<(), Failed> {
    let Some(born) = zygote::serve(warm).map_err(Failed::Socket)? else { return Ok(()) };
    let socket = born.socket;
    let folder = Path::new(".").canonicalize().map_err(Failed::Socket)?;
    let report = Jail::vault(folder).kept(born.holds).require(&born.required).apply().map_err(Failed::Jail)?;
    let missing = report.missing.iter().map(|promise| promise.as_str().to_owned()).collect();
    // From here on a share may be in this process.
    let (start, rest) = first_message(&socket)?;
    let Some(start) = start else { return examined(&socket, missing) };
    let mode = if start.memfd_secret { locked::Mode::Auto } else { locked::Mode::NoMemfdSecret };
    // Only a key that was placed before could make this fail, and there is none.
    let _ = locked::init(mode);
    socket.set_nonblocking(true).map_err(Failed::Socket)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failed::Socket)?;
    LocalSet::new().block_on(&runtime, serve(socket, start, rest, missing))
}

/// What all vault processes need, made once in the zygote: nothing of it is a member's or secret.
fn warm() {
    strongroom_jail::warm();
    FileStore::warm();
}

/// Says what the jail holds.
fn examined(socket: &StdUnixStream, missing: Vec<String>) -> Result<(), Failed> {
    use std::io::Write as _;
    let state = State { open: false, busy: false };
    let ready = FromVault::Ready(Ready { version: env!("CARGO_PKG_VERSION").into(), state, missing });
    let mut socket = socket;
    socket.write_all(&with_length(&ready.encode())).map_err(Failed::Socket)
}

/// The first message, with what came behind it; `None` where the process is only to be examined.
fn first_message(socket: &StdUnixStream) -> Result<(Option<Start>, Messages), Failed> {
    use std::io::Read as _;
    let mut messages = Messages::new(limits::HOST_MESSAGE_BYTES_MAX);
    let mut buffer = Zeroizing::new([0; 4_096]);
    loop {
        if let Some(message) = messages.next_message().map_err(|_| Failed::Protocol)? {
            let message = Zeroizing::new(message);
            return match ToVault::decode(&message) {
                Ok(ToVault::Start(start)) => Ok((Some(start), messages)),
                Ok(ToVault::Examine) => Ok((None, messages)),
                _ => Err(Failed::Protocol),
            };
        }
        let mut socket = socket;
        let read = socket.read(&mut *buffer).map_err(Failed::Socket)?;
        if read == 0 {
            return Err(Failed::Socket(std::io::ErrorKind::UnexpectedEof.into()));
        }
        messages.push(&buffer[..read]);
    }
}

async fn serve(
    socket: StdUnixStream,
    start: Start,
    mut messages: Messages,
    missing: Vec<String>,
) -> Result<(), Failed> {
    let socket = UnixStream::from_std(socket).map_err(Failed::Socket)?;
    let (mut from_host, mut to_host) = socket.into_split();
    let (told, mut hear_told) = mpsc::channel(64);
    let (tunnel_out, mut hear_tunnels) = mpsc::channel(64);
    let mut server = Server::new(&start, told, HostTunnels::new(tunnel_out));
    drop(start);
    let mut buffer = vec![0; 128 * 1024];
    server.say(&FromVault::Ready(Ready { version: env!("CARGO_PKG_VERSION").into(), state: server.state(), missing }));
    if let Err(refusal) = &server.vault {
        // A device only sees a vault that cannot prove who it is; whoever runs the server learns why.
        server.say(&FromVault::Notice(Notice { event: refusal.code.as_str().into() }));
    }
    server.open_itself();
    loop {
        while let Some(message) = messages.next_message().map_err(|_| Failed::Protocol)? {
            let message = Zeroizing::new(message);
            server.hear(ToVault::decode(&message).map_err(|_| Failed::Protocol)?);
        }
        while let Ok(told) = hear_told.try_recv() {
            server.hear_told(told);
        }
        while let Ok(message) = hear_tunnels.try_recv() {
            server.say(&message);
        }
        server.flush();
        if !server.out.is_empty() {
            let out = std::mem::take(&mut server.out);
            to_host.write_all(&out).await.map_err(Failed::Socket)?;
        }
        if server.stopping {
            return Ok(());
        }
        let tick = server.next_tick();
        tokio::select! {
            read = from_host.read(&mut buffer) => match read.map_err(Failed::Socket)? {
                // The host is gone: what is open is locked, and the process leaves.
                0 => server.stop(),
                read => messages.push(&buffer[..read]),
            },
            Some(told) = hear_told.recv() => server.hear_told(told),
            Some(message) = hear_tunnels.recv() => server.say(&message),
            () = tokio::time::sleep(tick) => server.tick(),
        }
    }
}

/// An exchange under way.
struct Exchange {
    to: ReplyTo,
    task: AbortHandle,
    /// Has it end at once, with its outcome.
    cancel: Option<oneshot::Sender<()>>,
}

struct Server {
    /// What a header that cannot be used leaves: every request is answered with the reason.
    vault: Result<Vault<FileStore>, Refusal>,
    channels: Channels,
    bodies: Bodies,
    engine: std::rc::Rc<Engine<HostTunnels>>,
    tunnels: HostTunnels,
    told: mpsc::Sender<Told>,
    exchanges: HashMap<u64, Exchange>,
    /// Those whose head was sent and whose body broke off.
    aborted: Vec<ReplyTo>,
    /// Messages of channels that came while the vault was opening by itself.
    held: Vec<(u32, Vec<u8>)>,
    out: Vec<u8>,
    last_state: Option<State>,
    started: std::time::Instant,
    deleted: bool,
    rescued: bool,
    stopping: bool,
}

impl Server {
    fn new(start: &Start, told: mpsc::Sender<Told>, tunnels: HostTunnels) -> Self {
        let mut rng = os_rng();
        let started = instant();
        let mut channels = Channels::new(start.vault, start.program.is_some(), &mut rng);
        let vault = open_vault(start, moment(started));
        let vault_is_whole = vault.as_ref().is_ok_and(|vault| !vault.is_lost() && vault.is_made());
        if let Ok(vault) = &vault
            && let Some((key, certificate, epoch)) = vault.channel_identity()
        {
            channels.adopt(key, certificate, epoch);
        }
        Self {
            vault,
            channels,
            bodies: Bodies::default(),
            engine: std::rc::Rc::new(Engine::new(tunnels.clone())),
            tunnels,
            told,
            exchanges: HashMap::new(),
            aborted: Vec::new(),
            held: Vec::new(),
            out: Vec::new(),
            last_state: None,
            started,
            deleted: false,
            // Where the header opens with a share that is new, the host was not told that it does.
            rescued: start.share_is_new && vault_is_whole,
            stopping: false,
        }
    }

    fn say(&mut self, message: &FromVault) {
        self.out.extend_from_slice(&with_length(&message.encode()));
    }

    fn state(&self) -> State {
        match &self.vault {
            Ok(vault) => State { open: vault.is_open(), busy: vault.is_busy() || !self.exchanges.is_empty() },
            Err(_) => State { open: false, busy: false },
        }
    }

    fn hear(&mut self, message: ToVault) {
        match message {
            ToVault::Start(_) | ToVault::Examine => self.stopping = true,
            ToVault::Stop => self.stop(),
            ToVault::Leave => {
                let state = self.state();
                if state.open || state.busy {
                    self.say(&FromVault::State(state));
                } else {
                    self.stop();
                }
            }
            ToVault::ChannelOpen(id) => {
                if !self.channels.open(id) {
                    self.say(&FromVault::ChannelClose(id));
                }
            }
            ToVault::ChannelClosed(id) => self.channel_gone(id),
            // Whoever comes while the vault opens by itself finds it open.
            ToVault::ChannelData(id, message) if self.opens_itself() => self.held.push((id, message)),
            ToVault::ChannelData(id, message) => self.hear_channel(id, &message),
            ToVault::Hardware(answer) => {
                self.rules(Input::Hardware(answer));
                // In the state that the answer left, which is durable.
                self.flush();
                for (id, message) in std::mem::take(&mut self.held) {
                    self.hear_channel(id, &message);
                }
            }
            ToVault::Evidence(id, evidence) => {
                let heard = self.channels.answer(id, &evidence, &mut os_rng());
                self.heard(id, heard);
            }
            tunnel => self.tunnels.hear(tunnel),
        }
    }

    fn opens_itself(&self) -> bool {
        self.vault.as_ref().is_ok_and(Vault::waits_for_hardware)
    }

    fn channel_gone(&mut self, id: u32) {
        self.channels.close(id);
        self.held.retain(|(of, _)| *of != id);
        self.bodies.forget_channel(id);
        self.rules(Input::ChannelClosed(id));
    }

    fn close_channel(&mut self, id: u32) {
        self.channel_gone(id);
        self.say(&FromVault::ChannelClose(id));
    }

    fn hear_channel(&mut self, id: u32, message: &[u8]) {
        let now_ms = moment(self.started).ticks_ms;
        let vault = &self.vault;
        let lookup = |peer| vault.as_ref().ok().and_then(|vault| vault.peer_key(peer));
        let heard = self.channels.hear(id, message, now_ms, lookup, &mut os_rng());
        self.heard(id, heard);
    }

    fn heard(&mut self, id: u32, heard: Heard) {
        match heard {
            Heard::Evidence(binding) => self.say(&FromVault::Evidence(id, binding)),
            Heard::Reply(bytes) => self.say(&FromVault::ChannelData(id, bytes)),
            Heard::Close => self.close_channel(id),
            Heard::Frame { peer, kind, payload } => {
                if self.frame(id, peer, kind, &payload).is_none() {
                    self.close_channel(id);
                }
            }
        }
    }

    /// Takes a frame; `None` where it breaks the protocol.
    fn frame(&mut self, id: u32, peer: Peer, kind: u8, payload: &[u8]) -> Option<()> {
        match FrameType::from_byte(kind)? {
            FrameType::Request => self.request(id, peer, payload),
            FrameType::Chunk => {
                let chunk = Chunk::decode(payload)?;
                let to = ReplyTo { channel: id, stream: chunk.stream };
                self.bodies.take(to, chunk.data, chunk.last, chunk.aborted).ok()
            }
            FrameType::Credit => {
                let credit = Credit::decode(payload)?;
                self.bodies.credit(ReplyTo { channel: id, stream: credit.stream }, credit.bytes);
                Some(())
            }
            _ => None,
        }
    }

    fn request(&mut self, id: u32, peer: Peer, payload: &[u8]) -> Option<()> {
        let envelope: Envelope = match serde_json::from_slice(payload) {
            Ok(envelope) => envelope,
            Err(_) => {
                let refusal = Refusal::new(Code::RequestMalformed).detail("The request's envelope cannot be read.");
                self.answer(ReplyTo { channel: id, stream: 0 }, &refused(0, refusal), false);
                return Some(());
            }
        };
        let to = ReplyTo { channel: id, stream: envelope.stream };
        if !self.channels.begin(id, envelope.stream) {
            return None;
        }
        self.bodies.expect(to);
        let request = Request {
            to,
            peer,
            id: envelope.id,
            fresh: envelope.fresh,
            credential: envelope.credential.map(|blob| blob.0),
            body: envelope.body.get(),
        };
        if let Err(refusal) = &self.vault {
            let refusal = refusal.clone();
            self.answer(to, &refused(to.stream, refusal), true);
            return Some(());
        }
        self.rules(Input::Request(request));
        Some(())
    }

    /// Tells the rules something. What comes of it is handed out by [`flush`](Self::flush).
    fn rules(&mut self, input: Input<'_>) {
        let moment = moment(self.started);
        if let Ok(vault) = &mut self.vault {
            vault.handle(input, &mut Context { moment, rng: &mut os_rng(), consumers: &mut Real });
        }
    }

    /// Has the hardware open the vault, where the member wants that.
    fn open_itself(&mut self) {
        let moment = moment(self.started);
        if let Ok(vault) = &mut self.vault {
            vault.open_unattended(&mut Context { moment, rng: &mut os_rng(), consumers: &mut Real });
        }
    }

    fn tick(&mut self) {
        self.rules(Input::Tick);
    }

    fn next_tick(&self) -> Duration {
        let moment = moment(self.started);
        let at = self.vault.as_ref().ok().and_then(|vault| vault.next_tick_ms(moment));
        let in_ms = at.map_or(IDLE_MS, |at| at.saturating_sub(moment.ticks_ms).clamp(1, IDLE_MS));
        Duration::from_millis(in_ms)
    }

    fn stop(&mut self) {
        let moment = moment(self.started);
        if let Ok(vault) = &mut self.vault {
            vault.lock(&mut Context { moment, rng: &mut os_rng(), consumers: &mut Real });
        }
        self.stopping = true;
    }

    /// Makes durable what the rules did, then does what they want done.
    fn flush(&mut self) {
        let moment = moment(self.started);
        let Ok(vault) = &mut self.vault else { return };
        let mut effects = vault.flush(&mut Context { moment, rng: &mut os_rng(), consumers: &mut Real });
        // What is done may have consequences: a channel that is closed ends what runs on it.
        while !effects.is_empty() {
            for effect in effects {
                self.effect(effect);
            }
            let Ok(vault) = &mut self.vault else { return };
            effects = vault.flush(&mut Context { moment, rng: &mut os_rng(), consumers: &mut Real });
        }
        if std::mem::take(&mut self.rescued) {
            // After the answer: the host replaces this process.
            self.say(&FromVault::Rescued);
        }
        if self.deleted {
            // After the answer: the host ends this process as soon as it reads it.
            self.say(&FromVault::Deleted);
            self.stopping = true;
        }
        let state = self.state();
        if self.last_state.as_ref() != Some(&state) {
            self.say(&FromVault::State(state.clone()));
            self.last_state = Some(state);
        }
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Device(to, answer) => {
                let made = matches!(answer, Ok(DeviceAnswer::Created(_)));
                let answer = Answer { stream: to.stream, result: answer, body_follows: false };
                self.answer(to, &json(&answer), true);
                if made
                    && let Ok(vault) = &self.vault
                    && let Some((key, certificate, epoch)) = vault.channel_identity()
                {
                    self.channels.adopt(key, certificate, epoch);
                }
            }
            Effect::Guest(to, answer) => {
                let answer = Answer { stream: to.stream, result: answer, body_follows: false };
                self.answer(to, &json(&answer), true);
            }
            Effect::Http(run) => self.exchange(*run),
            Effect::HttpEnd(to) => {
                let aborted = self.aborted.iter().position(|other| *other == to);
                if let Some(place) = aborted {
                    self.aborted.swap_remove(place);
                }
                let chunk = Chunk { stream: to.stream, last: true, aborted: aborted.is_some(), data: &[] };
                self.send(to.channel, FrameType::Chunk, &chunk.encode());
                self.finish(to);
            }
            Effect::HttpCancel(run) => {
                if let Some(cancel) = self.exchanges.get_mut(&run).and_then(|exchange| exchange.cancel.take()) {
                    // Where it has ended already, its end is on its way.
                    let _ = cancel.send(());
                }
            }
            Effect::HttpAbort => {
                for (_, exchange) in self.exchanges.drain() {
                    exchange.task.abort();
                }
                self.engine.close_all();
                self.bodies.clear();
            }
            Effect::Tell(event, audience) => {
                let payload = json(&event);
                let audience = move |peer| match audience {
                    Audience::Devices => matches!(peer, Peer::Device(_)),
                    Audience::Everyone => true,
                };
                for id in self.channels.of(audience) {
                    self.send(id, FrameType::Event, &payload);
                }
            }
            Effect::Disconnect(gone) => {
                for id in self.channels.of(|peer| peer == gone) {
                    self.close_channel(id);
                }
                self.engine.close_caller(&caller_key(gone));
            }
            Effect::Notice(event) => self.say(&FromVault::Notice(Notice { event: event.into() })),
            Effect::Deleted => self.deleted = true,
            Effect::Rescued => self.rescued = true,
            Effect::Hardware(request) => self.say(&FromVault::Hardware(*request)),
        }
    }

    fn exchange(&mut self, run: HttpRun) {
        let to = run.to;
        let number = run.run;
        let source = self.bodies.source(to, &run.call.body, &self.told);
        let (sink, head_sent) = self.bodies.sink(to, &self.told);
        let (engine, told) = (std::rc::Rc::clone(&self.engine), self.told.clone());
        let started = self.started;
        let (cancel, cancelled) = oneshot::channel();
        let meter = Arc::new(Meter::new(run.bytes_left));
        let task = tokio::task::spawn_local(async move {
            let source = match source {
                Ok(source) => source,
                Err(refusal) => {
                    let done = HttpDone { refusal: Some(refusal), ..HttpDone::default() };
                    let _ = told.send(Told::Done(number, done, false)).await;
                    return;
                }
            };
            let mut outcome = HttpOutcome::default();
            let cancelled = tokio::select! {
                biased;
                Ok(()) = cancelled => true,
                () = engine.run(job(run, Arc::clone(&meter), started), source, sink, &mut outcome) => false,
            };
            if cancelled {
                meter.close();
                outcome.error = Some(Refusal::new(Code::Cancelled).detail("What allowed this use has ended."));
            }
            let head_sent = head_sent.get();
            let done = HttpDone {
                status: outcome.status,
                bytes: meter.moved(),
                address: outcome.address,
                refusal: outcome.error,
                head_sent,
            };
            let aborted = head_sent && done.refusal.is_some();
            let _ = told.send(Told::Done(number, done, aborted)).await;
        });
        let task = task.abort_handle();
        self.exchanges.insert(number, Exchange { to, task, cancel: Some(cancel) });
    }

    fn hear_told(&mut self, told: Told) {
        match told {
            Told::Head(to, head) => {
                let device = self.channels.of(|peer| matches!(peer, Peer::Device(_))).contains(&to.channel);
                let payload = if device {
                    json(&Answer {
                        stream: to.stream,
                        result: Ok(DeviceAnswer::Used(UseResult::Http(head))),
                        body_follows: true,
                    })
                } else {
                    json(&Answer {
                        stream: to.stream,
                        result: Ok(GuestAnswer::Used(UseResult::Http(head))),
                        body_follows: true,
                    })
                };
                self.send(to.channel, FrameType::Answer, &payload);
            }
            Told::Chunk(to, bytes) => {
                for piece in bytes.chunks(limits::CHUNK_BYTES_MAX) {
                    let chunk = Chunk { stream: to.stream, last: false, aborted: false, data: piece };
                    self.send(to.channel, FrameType::Chunk, &chunk.encode());
                }
            }
            Told::Taken(to, bytes) => {
                self.bodies.widen(to, bytes);
                self.send(to.channel, FrameType::Credit, &Credit { stream: to.stream, bytes }.encode());
            }
            Told::Done(number, done, aborted) => {
                if let Some(exchange) = self.exchanges.remove(&number)
                    && aborted
                {
                    self.aborted.push(exchange.to);
                }
                self.rules(Input::HttpDone { run: number, done });
            }
        }
    }

    fn answer(&mut self, to: ReplyTo, payload: &[u8], whole: bool) {
        if payload.len() > limits::FRAME_BYTES_MAX {
            let refusal = Refusal::new(Code::TooMany).detail("The answer would be longer than a frame may be.");
            self.send(to.channel, FrameType::Answer, &refused(to.stream, refusal));
            return self.finish(to);
        }
        self.send(to.channel, FrameType::Answer, payload);
        if whole {
            self.finish(to);
        }
    }

    fn finish(&mut self, to: ReplyTo) {
        self.bodies.forget(to);
        self.channels.end(to.channel, to.stream);
    }

    fn send(&mut self, channel: u32, kind: FrameType, payload: &[u8]) {
        match self.channels.seal(channel, kind as u8, payload) {
            Some(frame) => self.say(&FromVault::ChannelData(channel, frame)),
            None => self.close_channel(channel),
        }
    }
}

fn open_vault(start: &Start, moment: Moment) -> Result<Vault<FileStore>, Refusal> {
    // EXPOSE: the share goes from the host's message into locked memory.
    let share: &[u8; 32] = start.share.expose().try_into().map_err(|_| Refusal::new(Code::ShareMissing))?;
    let store = FileStore::open(Path::new("."))?;
    let mut vault = match Vault::start(start.vault, HostShare::from_bytes(share), store, moment) {
        // Under its old share still.
        Err(refusal) if start.share_is_new && refusal.code == Code::HeaderRefusedFile => {
            let store = FileStore::open(Path::new("."))?;
            Vault::start_lost(start.vault, HostShare::from_bytes(share), store, moment)
        }
        started => started?,
    };
    vault.set_hardware(Hardware { program: start.program.clone(), installed: start.installed.clone() });
    Ok(vault)
}

fn job(run: HttpRun, meter: Arc<Meter>, started: std::time::Instant) -> HttpJob {
    let (secret, clock) = (run.secret, run.clock);
    HttpJob {
        caller: caller_key(run.peer),
        item: run.reference.item,
        policy_version: run.policy_version,
        call: run.call,
        target: run.target,
        rules: run.rules,
        policy: run.policy,
        limits: run.limits,
        meter,
        for_guest: matches!(run.peer, Peer::Guest(_)),
        secret: Box::new(move || secret.open()),
        now: Box::new(move || clock.of_day(moment(started))),
    }
}

fn caller_key(peer: Peer) -> [u8; 17] {
    let (kind, id): (u8, &[u8; 16]) = match &peer {
        Peer::Founder(_) => (0, &[0; 16]),
        Peer::Device(id) => (1, id.as_bytes()),
        Peer::Guest(id) => (2, id.as_bytes()),
    };
    let mut key = [kind; 17];
    key[1..].copy_from_slice(id);
    key
}

fn refused(stream: u32, refusal: Refusal) -> Zeroizing<Vec<u8>> {
    json(&Answer::<DeviceAnswer> { stream, result: Err(refusal), body_follows: false })
}

fn json(value: &impl serde::Serialize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(serde_json::to_vec(value).expect("answers always have a JSON form"))
}

#[expect(clippy::disallowed_methods, reason = "the program is where clocks are read")]
fn instant() -> std::time::Instant {
    std::time::Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the program is where clocks are read")]
fn moment(started: std::time::Instant) -> Moment {
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Moment { wall: Timestamp(millis(wall)), ticks_ms: 1 + millis(started.elapsed()) }
}

/// The longest pause between two ticks.
const IDLE_MS: u64 = 1_000;

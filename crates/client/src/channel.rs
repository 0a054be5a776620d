//! A connection to one vault: the relay's greeting, the handshake, frames in strict order, requests with streamed bodies.
//!
//! Everything blocks, on one socket, with one request at a time: a command starts, asks and leaves, and a gateway that wants
//! to ask several things at once opens several connections. Nothing is sent before the vault's first frame has verified.

use std::collections::VecDeque;
use std::io::{self, Read, Write as _};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use strongroom_attest::{Claims, NotAllowed, Policy};
use strongroom_crypto::channel::{Channel, ChannelError, DeviceHandshake, Joiner, Pin, Role};
use strongroom_crypto::sign::{PublicKey, SigningKey};
use strongroom_crypto::{CryptoRng, os_rng};
use strongroom_wire::device::{Answer, Envelope, Fresh};
use strongroom_wire::frame::{Chunk, Credit, Event, FrameType, Messages, with_length};
use strongroom_wire::limits::{CHUNK_BYTES_MAX, FRAME_BYTES_MAX, SEALED_FRAME_BYTES_MAX, STREAM_WINDOW_BYTES};
use strongroom_wire::relay::{RELAY_HELLO_BYTES_MAX, RelayAnswer, RelayHello};
use strongroom_wire::{Bytes, Refusal, RequestId, VaultId};
use zeroize::Zeroizing;

use crate::clock;

/// How long the server and the vault have for a handshake, and for an answer where the request does not say more.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// As whom a connection speaks. It owns its copy of the key, in locked memory.
pub struct Speaker {
    role: Role,
    id: [u8; 16],
    key: SigningKey,
}

impl Speaker {
    /// A device, a guest, or the founder of a new vault with the id it will have.
    #[must_use]
    pub fn new(role: Role, id: [u8; 16], key: &SigningKey) -> Self {
        // EXPOSE: from locked memory to locked memory; the key signs this channel and each repeated exchange.
        Self { role, id, key: SigningKey::from_seed(key.expose_seed()) }
    }

    fn joiner(&self) -> Joiner<'_> {
        Joiner { role: self.role, id: &self.id, key: &self.key }
    }
}

/// What the connection holds the vault against.
#[derive(Clone, Copy, Debug)]
pub enum Expected<'a> {
    /// The pinned identity, and the newest epoch of its channel certificate seen so far.
    Identity(&'a PublicKey, u32),
    /// A vault that was never created.
    Unfounded,
    /// A vault whose host share is gone: it cannot prove itself before somebody brings it back.
    Lost,
}

/// What the machine that the vault runs on is held against.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// Its evidence must be allowed by this policy.
    Policy(&'a Policy),
    /// Its evidence must hold, and is taken down: [`Connection::policy`].
    FirstSight,
    /// Nothing: of a guest, which sends nothing that unlocks.
    Unasked,
}

/// Why there is no channel, or none any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody listens.
    #[error("no server answers at {}", socket.display())]
    Unreachable {
        /// Where.
        socket: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The other end is not the vault that was pinned, or broke the protocol.
    #[error("the vault's end of the channel was refused")]
    Channel(#[from] ChannelError),
    /// The machine or the vault program is not one that this device trusts. Nothing was sent that unlocks.
    #[error("the host of the vault was not trusted")]
    NotTrusted(#[from] NotAllowed),
    /// The vault ended the channel before it stood.
    #[error("the vault did not accept this device or guest; it may have been revoked")]
    TurnedAway,
    /// The connection broke.
    #[error("the connection to the vault broke")]
    Broken(#[source] io::Error),
    /// No answer in time.
    #[error("the vault did not answer in time")]
    TimedOut,
    /// The other end sent what it should not.
    #[error("the other end broke the protocol: {what}")]
    Protocol {
        /// What it did.
        what: &'static str,
    },
    /// The member's own input could not be read.
    #[error("the request's body could not be read")]
    Upload(#[source] io::Error),
}

/// Why a request was not answered with what it asked for.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The vault, or the server before it, said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The channel is gone; whether the request took effect is unknown.
    #[error(transparent)]
    Connection(#[from] ConnectError),
    /// The request does not fit into a frame; nothing was sent.
    #[error("the request is larger than a frame")]
    TooLarge,
}

/// One request.
#[derive(Debug)]
pub struct Ask {
    /// Names the act; stays the same when it is sent again.
    pub id: RequestId,
    /// Fresh authentication.
    pub fresh: Option<Fresh>,
    /// The credential blob.
    pub credential: Option<Bytes>,
    /// The request as JSON text.
    pub body: Box<RawValue>,
    /// How long to wait for the answer.
    pub patience: Duration,
}

/// A body to send with a request.
pub struct Upload<'u> {
    /// Where it is read from.
    pub source: &'u mut dyn Read,
    /// The same as a file descriptor, where reading may wait: then the answer is not missed meanwhile.
    pub fd: Option<BorrowedFd<'u>>,
}

/// A fresh id for a request.
#[must_use]
pub fn new_request_id() -> RequestId {
    let mut id = [0; 16];
    let rng: &mut dyn CryptoRng = &mut os_rng();
    rng.fill_bytes(&mut id);
    RequestId(id)
}

/// Asks the server, not a vault.
///
/// # Errors
/// When nobody answers, or the answer is no.
pub fn ask_server(socket: &Path, hello: &RelayHello) -> Result<RelayAnswer, AskError> {
    let mut link = Link::connect(socket)?;
    Ok(link.greet(hello)?)
}

/// An open channel to a vault.
pub struct Connection {
    link: Link,
    channel: Channel,
    speaker: Speaker,
    /// The third message of a repeated exchange is on its way: nothing may be sent until the vault's first frame.
    switching: bool,
    /// Frames that came while another was waited for.
    stash: VecDeque<(FrameType, Zeroizing<Vec<u8>>)>,
    events: VecDeque<Event>,
    last_stream: u32,
    epoch: u32,
    policy: Option<Policy>,
    program: Option<[u8; 32]>,
}

impl Connection {
    /// Connects to the vault through the services at `socket`, checks that it is the one expected on a machine that is trusted,
    /// and says who we are.
    ///
    /// # Errors
    /// [`AskError::Refused`] by the server; [`ConnectError::Channel`] where the vault is not the expected one;
    /// [`ConnectError::NotTrusted`] where its machine is not.
    pub fn open(
        socket: &Path,
        vault: VaultId,
        expected: Expected<'_>,
        trust: Trust<'_>,
        speaker: Speaker,
    ) -> Result<Self, AskError> {
        let mut link = Link::connect(socket)?;
        let hello = match expected {
            Expected::Lost => RelayHello::Rescue { vault },
            Expected::Identity(..) | Expected::Unfounded => RelayHello::Relay { vault },
        };
        match link.greet(&hello)? {
            RelayAnswer::Relay {} => {}
            RelayAnswer::Refused(refusal) => return Err(refusal.into()),
            _ => return Err(protocol("it answered another greeting").into()),
        }
        let mut rng = os_rng();
        let (handshake, hello1) = DeviceHandshake::start(vault.as_bytes(), &mut rng);
        link.send(&hello1)?;
        let hello2 = link.receive(clock::deadline(PATIENCE))?;
        let pin = match expected {
            Expected::Identity(key, epoch_min) => Pin::Identity { key, epoch_min },
            Expected::Unfounded | Expected::Lost => Pin::Founding,
        };
        let offer = handshake.read(&hello2, &pin).map_err(ConnectError::from)?;
        let epoch = offer.epoch();
        let (evidence, binding) = (offer.evidence(), offer.evidence_binding());
        let (mut policy, mut program) = (None, None);
        match trust {
            Trust::Policy(policy) => {
                if let Claims::Tpm { program: runs } =
                    policy.appraise(evidence, binding, clock::now().0).map_err(ConnectError::from)?
                {
                    program = Some(runs);
                }
            }
            Trust::FirstSight => policy = Some(Policy::of(evidence, binding).map_err(ConnectError::from)?),
            Trust::Unasked => {}
        }
        let (channel, hello3) = offer.join(&speaker.joiner(), clock::monotonic_ms(), &mut rng);
        link.send(&hello3)?;
        let mut connection = Self {
            link,
            channel,
            speaker,
            switching: true,
            stash: VecDeque::new(),
            events: VecDeque::new(),
            last_stream: 0,
            epoch,
            policy,
            program,
        };
        connection.await_ready().map_err(|error| match error {
            // It closed after it had read who we are.
            ConnectError::Broken(e) if e.kind() == io::ErrorKind::UnexpectedEof => ConnectError::TurnedAway,
            other => other,
        })?;
        Ok(connection)
    }

    /// The epoch of the vault's channel certificate, to be remembered.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The policy that allows what the vault's machine showed and nothing else, where it was taken down.
    #[must_use]
    pub fn policy(&self) -> Option<&Policy> {
        self.policy.as_ref()
    }

    /// The SHA-256 of the vault program, where its evidence was appraised.
    #[must_use]
    pub fn program(&self) -> Option<[u8; 32]> {
        self.program
    }

    /// Whether nothing more can be asked here.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.link.closed || self.channel.expired(clock::monotonic_ms())
    }

    /// Whether the other end is still there, as far as it can be seen without asking: for a connection that lay idle.
    #[must_use]
    pub fn still_stands(&mut self) -> bool {
        !self.is_ended() && self.link.has_message().is_ok()
    }

    /// What the vault said unasked, oldest first.
    pub fn take_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Asks, and waits for an answer without a body.
    ///
    /// # Errors
    /// What the vault refused, or why there is no channel any more.
    pub fn ask<T: DeserializeOwned>(&mut self, ask: &Ask) -> Result<T, AskError> {
        let (answer, body) = self.ask_streaming(ask, None)?;
        match body {
            None => Ok(answer),
            Some(_) => Err(protocol("a body came with an answer that has none").into()),
        }
    }

    /// Asks, sending a body along, and waits for the head of the answer; its body is read afterwards.
    ///
    /// # Errors
    /// What the vault refused, or why there is no channel any more.
    pub fn ask_streaming<'c, T: DeserializeOwned>(
        &'c mut self,
        ask: &Ask,
        upload: Option<Upload<'c>>,
    ) -> Result<(T, Option<Body<'c>>), AskError> {
        self.rekey_if_due()?;
        let stream = self.last_stream.wrapping_add(1);
        self.last_stream = stream;
        let payload = Zeroizing::new(envelope(stream, ask));
        if payload.len() > FRAME_BYTES_MAX {
            return Err(AskError::TooLarge);
        }
        self.send(FrameType::Request, &payload)?;
        let mut flow = Flow { stream, upload, send_credit: STREAM_WINDOW_BYTES };
        let (kind, payload) = flow.step(self, ask.patience)?;
        if kind != FrameType::Answer {
            return Err(protocol("a body came before its answer").into());
        }
        let answer: Answer<T> = serde_json::from_slice(&payload).map_err(|_| protocol("an answer cannot be read"))?;
        if answer.stream != stream {
            return Err(protocol("an answer to another request").into());
        }
        let body_follows = answer.body_follows;
        let result = answer.result?;
        let patience = ask.patience;
        let body = body_follows.then(|| Body {
            connection: self,
            flow,
            patience,
            chunk: Vec::new(),
            at: 0,
            owed: 0,
            done: false,
        });
        Ok((result, body))
    }

    fn rekey_if_due(&mut self) -> Result<(), ConnectError> {
        if self.channel.needs_rekey(clock::monotonic_ms()) { self.begin_rekey() } else { Ok(()) }
    }

    fn begin_rekey(&mut self) -> Result<(), ConnectError> {
        let frame = self.channel.begin_rekey(&mut os_rng())?;
        self.link.send(&frame)?;
        self.switching = true;
        Ok(())
    }

    /// Waits until the vault's first frame under new keys has verified.
    fn await_ready(&mut self) -> Result<(), ConnectError> {
        let deadline = clock::deadline(PATIENCE);
        while self.switching {
            if let Some(frame) = self.receive_one(deadline)? {
                // An answer, and as much of its body as was granted; credits are small.
                let held: usize = self.stash.iter().map(|(_, payload)| payload.len() + STASHED_BYTES_MIN).sum();
                if held + frame.1.len() > FRAME_BYTES_MAX + STREAM_WINDOW_BYTES as usize {
                    return Err(protocol("more came than was asked for"));
                }
                self.stash.push_back(frame);
            }
        }
        Ok(())
    }

    fn send(&mut self, kind: FrameType, payload: &[u8]) -> Result<(), ConnectError> {
        self.await_ready()?;
        let frame = self.channel.seal_frame(kind as u8, payload)?;
        self.link.send(&frame)
    }

    /// The next frame of a request: an answer, a chunk or a credit.
    fn receive(&mut self, patience: Duration) -> Result<(FrameType, Zeroizing<Vec<u8>>), ConnectError> {
        if let Some(frame) = self.stash.pop_front() {
            return Ok(frame);
        }
        let deadline = clock::deadline(patience);
        loop {
            if let Some(frame) = self.receive_one(deadline)? {
                return Ok(frame);
            }
        }
    }

    /// Opens one frame; those of the channel itself and events are dealt with here.
    fn receive_one(&mut self, deadline: u64) -> Result<Option<(FrameType, Zeroizing<Vec<u8>>)>, ConnectError> {
        let sealed = self.link.receive(deadline)?;
        let (kind, payload) = self.channel.open_frame(&sealed)?;
        match FrameType::from_byte(kind).ok_or(ChannelError::FrameType(kind))? {
            FrameType::Ready => self.switching = false,
            FrameType::Rekey2 => {
                let (now, mut rng) = (clock::monotonic_ms(), os_rng());
                let frame = self.channel.finish_rekey(&payload, &self.speaker.joiner(), now, &mut rng)?;
                self.link.send(&frame)?;
            }
            FrameType::Event => {
                let event = serde_json::from_slice(&payload).map_err(|_| protocol("an event cannot be read"))?;
                if self.events.len() < EVENTS_KEPT_MAX {
                    self.events.push_back(event);
                }
            }
            kind @ (FrameType::Answer | FrameType::Chunk | FrameType::Credit) => return Ok(Some((kind, payload))),
            other => return Err(ChannelError::FrameType(other as u8).into()),
        }
        Ok(None)
    }

    /// Whether a frame can be had without waiting.
    fn has_frame(&mut self) -> Result<bool, ConnectError> {
        Ok(!self.stash.is_empty() || self.link.has_message()?)
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("last_stream", &self.last_stream).finish_non_exhaustive()
    }
}

/// The body of an answer; read it to its end, or the connection is of no further use.
pub struct Body<'c> {
    connection: &'c mut Connection,
    flow: Flow<'c>,
    patience: Duration,
    chunk: Vec<u8>,
    at: usize,
    /// Bytes read whose credit was not given back yet.
    owed: u32,
    done: bool,
}

impl Body<'_> {
    fn next_chunk(&mut self) -> Result<(), ConnectError> {
        self.connection.rekey_if_due()?;
        let (kind, payload) = self.flow.step(self.connection, self.patience)?;
        if kind != FrameType::Chunk {
            return Err(protocol("a second answer to one request"));
        }
        let chunk = Chunk::decode(&payload).ok_or_else(|| protocol("a chunk cannot be read"))?;
        if chunk.stream != self.flow.stream {
            return Err(protocol("a chunk of another body"));
        }
        if chunk.aborted {
            self.done = true;
            let why = io::Error::new(io::ErrorKind::ConnectionAborted, "the body broke off before its end");
            return Err(ConnectError::Broken(why));
        }
        self.done = chunk.last;
        self.chunk.clear();
        self.chunk.extend_from_slice(chunk.data);
        self.at = 0;
        self.owed += u32::try_from(chunk.data.len()).unwrap_or(u32::MAX);
        if !self.done && self.owed >= STREAM_WINDOW_BYTES / 4 {
            let credit = Credit { stream: self.flow.stream, bytes: self.owed };
            match self.connection.send(FrameType::Credit, &credit.encode()) {
                // Whoever sent everything may be gone by now; what it sent is still here to be read, and reading finds the end.
                Ok(()) | Err(ConnectError::Broken(_)) => self.owed = 0,
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }
}

impl Read for Body<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() {
            if self.done {
                return Ok(0);
            }
            self.next_chunk().map_err(|error| match error {
                ConnectError::Broken(e) => e,
                other => io::Error::other(other),
            })?;
        }
        let count = out.len().min(self.chunk.len() - self.at);
        out[..count].copy_from_slice(&self.chunk[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

impl Drop for Body<'_> {
    fn drop(&mut self) {
        if !self.done {
            // The rest would be taken for the answer to the next request.
            self.connection.link.close();
        }
    }
}

/// One request under way: what is still to be sent, and how much of it may be.
struct Flow<'u> {
    stream: u32,
    upload: Option<Upload<'u>>,
    send_credit: u32,
}

impl Flow<'_> {
    /// Sends of the upload what may be sent, until an answer or a chunk comes.
    fn step(
        &mut self,
        connection: &mut Connection,
        patience: Duration,
    ) -> Result<(FrameType, Zeroizing<Vec<u8>>), ConnectError> {
        loop {
            if self.upload.is_some() && self.send_credit > 0 && !connection.has_frame()? {
                if self.source_is_ready(connection)? {
                    self.send_chunk(connection)?;
                }
                continue;
            }
            let (kind, payload) = connection.receive(patience)?;
            if kind != FrameType::Credit {
                return Ok((kind, payload));
            }
            let credit = Credit::decode(&payload).ok_or_else(|| protocol("a credit cannot be read"))?;
            // Credit for a request that has ended may still be on its way.
            if credit.stream == self.stream {
                self.send_credit = self.send_credit.saturating_add(credit.bytes);
            }
        }
    }

    /// Waits until the source or the vault has something; whether the source has.
    fn source_is_ready(&self, connection: &Connection) -> Result<bool, ConnectError> {
        let Some(fd) = self.upload.as_ref().and_then(|upload| upload.fd) else { return Ok(true) };
        let mut fds =
            [PollFd::new(&connection.link.stream, PollFlags::IN), PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        rustix::event::poll(&mut fds, None).map_err(|e| ConnectError::Upload(e.into()))?;
        Ok(fds[0].revents().is_empty() && !fds[1].revents().is_empty())
    }

    fn send_chunk(&mut self, connection: &mut Connection) -> Result<(), ConnectError> {
        let Some(upload) = &mut self.upload else { return Ok(()) };
        let room = CHUNK_BYTES_MAX.min(usize::try_from(self.send_credit).unwrap_or(CHUNK_BYTES_MAX));
        let mut data = Zeroizing::new(vec![0; room]);
        let count = match upload.source.read(&mut data) {
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(e) => {
                let gave_up = Chunk { stream: self.stream, last: true, aborted: true, data: &[] };
                connection.send(FrameType::Chunk, &gave_up.encode())?;
                return Err(ConnectError::Upload(e));
            }
        };
        let chunk = Chunk { stream: self.stream, last: count == 0, aborted: false, data: &data[..count] };
        connection.send(FrameType::Chunk, &chunk.encode())?;
        self.send_credit -= u32::try_from(count).unwrap_or(self.send_credit);
        if count == 0 {
            self.upload = None;
        }
        Ok(())
    }
}

/// Length-prefixed messages on the socket.
struct Link {
    stream: UnixStream,
    inbox: Messages,
    /// A message that was looked for before it was asked for.
    early: Option<Vec<u8>>,
    buffer: Vec<u8>,
    closed: bool,
}

impl Link {
    fn connect(socket: &Path) -> Result<Self, ConnectError> {
        let unreachable = |source| ConnectError::Unreachable { socket: socket.to_owned(), source };
        let stream = UnixStream::connect(socket).map_err(unreachable)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(unreachable)?;
        Ok(Self {
            stream,
            inbox: Messages::new(SEALED_FRAME_BYTES_MAX),
            early: None,
            buffer: vec![0; 64 * 1024],
            closed: false,
        })
    }

    fn greet(&mut self, hello: &RelayHello) -> Result<RelayAnswer, ConnectError> {
        self.send(&serde_json::to_vec(hello).expect("a greeting always has a JSON form"))?;
        let answer = self.receive(clock::deadline(PATIENCE))?;
        if answer.len() > RELAY_HELLO_BYTES_MAX {
            return Err(protocol("its greeting is too long"));
        }
        serde_json::from_slice(&answer).map_err(|_| protocol("its greeting cannot be read"))
    }

    fn send(&mut self, message: &[u8]) -> Result<(), ConnectError> {
        if self.closed {
            return Err(ConnectError::Broken(io::ErrorKind::NotConnected.into()));
        }
        // A message that was written in part cannot be taken back.
        self.stream.write_all(&with_length(message)).map_err(wait_over).inspect_err(|_| self.closed = true)
    }

    /// The next message, by `deadline`: neither single bytes nor events put it off.
    fn receive(&mut self, deadline: u64) -> Result<Vec<u8>, ConnectError> {
        if let Some(message) = self.early.take() {
            return Ok(message);
        }
        loop {
            if let Some(message) = self.next_whole()? {
                return Ok(message);
            }
            let left = deadline.saturating_sub(clock::monotonic_ms());
            if left == 0 {
                self.closed = true;
                return Err(ConnectError::TimedOut);
            }
            self.stream.set_read_timeout(Some(Duration::from_millis(left))).map_err(ConnectError::Broken)?;
            self.fill()?;
        }
    }

    fn next_whole(&mut self) -> Result<Option<Vec<u8>>, ConnectError> {
        self.inbox.next_message().map_err(|_| protocol("a message is too long"))
    }

    /// Whether a whole message is here, reading what has already arrived.
    fn has_message(&mut self) -> Result<bool, ConnectError> {
        loop {
            if self.early.is_none() {
                self.early = self.next_whole()?;
            }
            if self.early.is_some() {
                return Ok(true);
            }
            let mut fds = [PollFd::new(&self.stream, PollFlags::IN)];
            rustix::event::poll(&mut fds, Some(&rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 }))
                .map_err(|e| ConnectError::Broken(e.into()))?;
            if fds[0].revents().is_empty() {
                return Ok(false);
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Result<(), ConnectError> {
        let count = loop {
            match self.stream.read(&mut self.buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(wait_over).inspect_err(|_| self.closed = true)?,
            }
        };
        if count == 0 {
            self.closed = true;
            return Err(ConnectError::Broken(io::ErrorKind::UnexpectedEof.into()));
        }
        self.inbox.push(&self.buffer[..count]);
        Ok(())
    }

    fn close(&mut self) {
        self.closed = true;
        // Already gone is as good as closed.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

fn envelope(stream: u32, ask: &Ask) -> Vec<u8> {
    let envelope = Envelope {
        stream,
        id: ask.id,
        fresh: ask.fresh.clone(),
        credential: ask.credential.clone(),
        body: ask.body.clone(),
    };
    serde_json::to_vec(&envelope).expect("an envelope always has a JSON form")
}

fn wait_over(error: io::Error) -> ConnectError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ConnectError::TimedOut,
        _ => ConnectError::Broken(error),
    }
}

/// What a frame that waits costs at least.
const STASHED_BYTES_MIN: usize = 64;

fn protocol(what: &'static str) -> ConnectError {
    ConnectError::Protocol { what }
}

const EVENTS_KEPT_MAX: usize = 64;

#[cfg(test)]
#[path = "../tests/fake/mod.rs"]
mod fake;

#[cfg(test)]
mod tests;

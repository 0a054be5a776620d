//! One vault: what it is told, what it answers, and the one place where changes become durable before anything leaves.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use serde::Serialize;
use strongroom_crypto::CryptoRng;
use strongroom_crypto::secret::{HostShare, VaultKey};
use strongroom_crypto::sign::{PublicKey, SigningKey};
use strongroom_wire::device::{DeviceAnswer, DeviceRequest, Fresh, Status, VaultState};
use strongroom_wire::event::{Action, Actor, Event};
use strongroom_wire::frame;
use strongroom_wire::guest::{GuestAnswer, GuestRequest};
use strongroom_wire::host::{HardwareAnswer, HardwareRequest};
use strongroom_wire::{
    ApprovalId, Challenge, Code, DeviceId, GrantId, GuestId, Refusal, RequestId, Timestamp, VaultId, limits,
};

use crate::approvals::Waiting;
use crate::clock::{Clock, Moment};
use crate::consumers::Consumers;
use crate::exchanges::{HttpDone, HttpRun, Running};
use crate::guests::{Grant, grant_id};
use crate::hardware::{Asked, Hardware};
use crate::header::{Header, Read};
use crate::ledger::{AuditKey, Ledger};
use crate::planted::rule;
use crate::records::{Storage, Table};
use crate::table::{Freshness, Operation, Who, freshness};

/// Who is at the other end of a channel, as its handshake showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Whoever makes the vault; the key becomes that of the first device.
    Founder(PublicKeyBytes),
    /// An enrolled device.
    Device(DeviceId),
    /// An enrolled guest.
    Guest(GuestId),
}

/// The 32 bytes of an Ed25519 public key.
pub type PublicKeyBytes = [u8; 32];

/// Where an answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReplyTo {
    /// The channel.
    pub channel: u32,
    /// The request's number on it.
    pub stream: u32,
}

/// A request as it came out of a channel.
pub struct Request<'a> {
    /// Where its answer goes.
    pub to: ReplyTo,
    /// Who asks.
    pub peer: Peer,
    /// Names the act.
    pub id: RequestId,
    /// Fresh authentication.
    pub fresh: Option<Fresh>,
    /// The device's credential blob.
    pub credential: Option<Vec<u8>>,
    /// The body's exact JSON text.
    pub body: &'a str,
}

/// What a vault is told.
pub enum Input<'a> {
    /// A request.
    Request(Request<'a>),
    /// An HTTP exchange ended.
    HttpDone {
        /// The number that its [`HttpRun`] had.
        run: u64,
        /// How.
        done: HttpDone,
    },
    /// A channel is gone.
    ChannelClosed(u32),
    /// The hardware answered.
    Hardware(HardwareAnswer),
    /// Time has passed.
    Tick,
}

/// What should happen. Nothing here is handed out before the records and events behind it are durable.
pub enum Effect {
    /// Answer a device.
    Device(ReplyTo, Result<DeviceAnswer, Refusal>),
    /// Answer a guest.
    Guest(ReplyTo, Result<GuestAnswer, Refusal>),
    /// Run an HTTP exchange; its head and body go to its `to`, all but the end.
    Http(Box<HttpRun>),
    /// The outcome of an exchange is durable: end its body.
    HttpEnd(ReplyTo),
    /// Break off this HTTP exchange: its end is told as that of any other.
    HttpCancel(u64),
    /// Break off every HTTP exchange and forget its keys.
    HttpAbort,
    /// Tell every device, or every device and guest.
    Tell(frame::Event, Audience),
    /// Close every channel of this peer.
    Disconnect(Peer),
    /// A notice for the member.
    Notice(&'static str),
    /// The vault's files are gone.
    Deleted,
    /// Ask the host's hardware.
    Hardware(Box<HardwareRequest>),
    /// The header is sealed under the host's new share.
    Rescued,
}

/// Who is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Devices.
    Devices,
    /// Devices and guests.
    Everyone,
}

/// What every rule may need besides the vault: time, randomness, and the consumers.
pub struct Context<'a> {
    /// When.
    pub moment: Moment,
    /// Randomness.
    pub rng: &'a mut dyn CryptoRng,
    /// The consumers.
    pub consumers: &'a mut dyn Consumers,
}

/// One vault.
pub struct Vault<S> {
    pub(crate) id: VaultId,
    pub(crate) share: HostShare,
    pub(crate) disk: S,
    pub(crate) header: Option<Header>,
    pub(crate) open: Option<Box<Open>>,
    pub(crate) clock: Clock,
    pub(crate) challenges: HashMap<Challenge, (DeviceId, u64)>,
    /// When a factor was last tried, in ticks; a start counts as a try.
    pub(crate) tried_ticks_ms: u64,
    /// Effects that were not handed out yet.
    pub(crate) effects: Vec<Effect>,
    /// How many of them have everything behind them durable.
    pub(crate) durable: usize,
    /// Counts settlements, so that an act can tell whether a part of it is durable.
    pub(crate) settlements: u64,
    /// Chain files to write before the transaction is made durable.
    pub(crate) chain_writes: Vec<(DeviceId, Vec<u8>)>,
    /// No header opens with the share that the host has.
    pub(crate) lost: bool,
    /// How often somebody tried to bring it back.
    pub(crate) rescue_tries: u32,
    /// What the host's hardware is good for.
    pub(crate) hardware: Hardware,
    /// What it was asked for.
    pub(crate) asked: Option<Asked>,
    /// Whether it has not answered yet, also where nobody waits for that any more.
    pub(crate) hardware_works: bool,
    /// Why it did not open the vault at the start.
    pub(crate) unattended_refusal: Option<Code>,
    /// Whether a guest that found the vault locked was told of, since the lock.
    pub(crate) told_locked: bool,
    /// When the disk was asked last and had room for something new, in ticks.
    pub(crate) had_room: Option<u64>,
    /// The number of the next exchange. None comes twice, so that the end of one from before a lock is nobody else's.
    pub(crate) next_run: u64,
}

/// What an open vault holds.
pub(crate) struct Open {
    pub(crate) vault_key: VaultKey,
    pub(crate) generation: u32,
    pub(crate) ledger: Ledger,
    pub(crate) audit: AuditKey,
    pub(crate) open_until_ticks_ms: u64,
    /// Shared with whoever may have to go back to it: what is taken back on the disk is taken back here too.
    pub(crate) live: Arc<Live>,
    /// The state as it was when the records were durable last.
    pub(crate) settled: Arc<Live>,
    pub(crate) rates: HashMap<GrantId, VecDeque<u64>>,
    /// Refusals by guest and code that were not logged one by one: since when, and how many.
    pub(crate) refusals: HashMap<(GuestId, Code), (u64, u64)>,
    pub(crate) running: BTreeMap<u64, Running>,
    pub(crate) waiting: Vec<Waiting>,
    /// When what is over was removed last, in ticks.
    pub(crate) swept_ticks_ms: u64,
    /// The number of the approvals for which those who wait were last looked at.
    pub(crate) answered_number: u64,
    /// Requests that presented a credential and wait for their confirmation.
    pub(crate) presented: HashMap<RequestId, (DeviceId, DeviceRequest, u64)>,
}

/// What an open vault keeps in memory beside its records, and what stands or falls with them.
#[derive(Clone, Default)]
pub(crate) struct Live {
    /// Whether a device confirmed the log since the unlock.
    pub(crate) confirmed: bool,
    /// Until when each device has a session, in ticks.
    pub(crate) sessions: BTreeMap<DeviceId, u64>,
    /// Counts the changes of what waits for the member.
    pub(crate) approvals_number: u64,
    pub(crate) approval_deadlines: BTreeMap<ApprovalId, Timestamp>,
    /// Whether the member suspended all guests.
    pub(crate) suspended: bool,
    /// When each device's reading of the log was last logged.
    pub(crate) log_read: HashMap<DeviceId, u64>,
    pub(crate) config: strongroom_wire::device::Config,
    /// Every grant, once read: each use looks through them.
    pub(crate) grants: Option<Arc<Vec<(GrantId, Grant)>>>,
    /// How many items there are, once counted: the database counts by reading all of them.
    pub(crate) items: Option<u64>,
}

impl Open {
    pub(crate) fn new(
        vault_key: VaultKey,
        generation: u32,
        ledger: Ledger,
        audit: AuditKey,
        open_until_ticks_ms: u64,
        live: Live,
    ) -> Self {
        let live = Arc::new(live);
        Self {
            vault_key,
            generation,
            ledger,
            audit,
            open_until_ticks_ms,
            settled: Arc::clone(&live),
            live,
            rates: HashMap::new(),
            refusals: HashMap::new(),
            running: BTreeMap::new(),
            waiting: Vec::new(),
            swept_ticks_ms: 0,
            answered_number: 0,
            presented: HashMap::new(),
        }
    }

    /// A record changes: what was read of its table is read again.
    fn forget_read(&mut self, table: Table) {
        if table == Table::Grants && self.live.grants.is_some() {
            self.live_mut().grants = None;
        }
    }

    /// The live state, to change it.
    pub(crate) fn live_mut(&mut self) -> &mut Live {
        Arc::make_mut(&mut self.live)
    }
}

impl<S: Storage> Vault<S> {
    /// A vault as it lies on its disk: not made yet, or locked.
    ///
    /// # Errors
    /// When its header cannot be used under this share.
    pub fn start(id: VaultId, share: HostShare, mut disk: S, moment: Moment) -> Result<Self, Refusal> {
        let mut clock = Clock::default();
        let header = Header::read(&mut disk, id, &share)?.map(|Read { mut header, starts_at_limit }| {
            clock.not_before(header.time, moment);
            if starts_at_limit {
                header.start_at_limit(clock.now(moment));
            }
            header
        });
        Ok(Self::new(id, share, disk, header, clock, moment))
    }

    pub(crate) fn new(
        id: VaultId,
        share: HostShare,
        disk: S,
        header: Option<Header>,
        clock: Clock,
        moment: Moment,
    ) -> Self {
        Self {
            id,
            share,
            disk,
            header,
            open: None,
            clock,
            challenges: HashMap::new(),
            tried_ticks_ms: moment.ticks_ms,
            effects: Vec::new(),
            durable: 0,
            settlements: 0,
            chain_writes: Vec::new(),
            lost: false,
            rescue_tries: 0,
            hardware: Hardware::default(),
            asked: None,
            hardware_works: false,
            unattended_refusal: None,
            told_locked: false,
            had_room: None,
            next_run: 1,
        }
    }

    /// The vault's id.
    pub fn id(&self) -> VaultId {
        self.id
    }

    /// The channel identity with its certificate and epoch; `None` while the vault was never made.
    pub fn channel_identity(&self) -> Option<(&SigningKey, [u8; 64], u32)> {
        let header = self.header.as_ref()?;
        Some((&header.channel, header.channel_certificate.to_array()?, header.channel_epoch))
    }

    /// The public key of an enrolled device or guest. Works while locked.
    pub fn peer_key(&self, peer: Peer) -> Option<PublicKey> {
        let header = self.header.as_ref()?;
        let bytes = match peer {
            Peer::Founder(_) => return None,
            Peer::Device(id) => &header.roster.devices.get(&id)?.sign_public,
            Peer::Guest(id) => header.roster.guests.get(&id)?,
        };
        (!header.roster.revoked.contains(bytes)).then(|| PublicKey::from_bytes(&bytes.0).ok())?
    }

    /// Whether the vault was made.
    pub fn is_made(&self) -> bool {
        self.header.is_some()
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether a request or an approval is under way.
    pub fn is_busy(&self) -> bool {
        self.open.as_ref().is_some_and(|open| !open.running.is_empty() || !open.live.approval_deadlines.is_empty())
    }

    /// The disk, for tests and for the program that owns it.
    pub fn disk(&mut self) -> &mut S {
        &mut self.disk
    }

    /// The next moment, in ticks, at which [`Input::Tick`] has something to do.
    pub fn next_tick_ms(&self, moment: Moment) -> Option<u64> {
        let open = self.open.as_ref()?;
        let now = self.clock.now(moment);
        let deadlines = open.live.approval_deadlines.values();
        let approvals = deadlines.map(|at| moment.ticks_ms + at.0.saturating_sub(now.0).saturating_add(1));
        let waits = open.waiting.iter().map(|waiting| waiting.until_ticks_ms);
        let ends = open.running.values().filter_map(|running| running.until);
        let ends = ends.map(|at| moment.ticks_ms + at.0.saturating_sub(now.0));
        approvals.chain(waits).chain(ends).chain([open.open_until_ticks_ms]).min()
    }

    /// Takes an input. What comes of it is handed out by [`flush`](Self::flush).
    pub fn handle(&mut self, input: Input<'_>, cx: &mut Context<'_>) {
        self.clock.see(cx.moment);
        match input {
            Input::Request(request) => self.request(request, cx),
            Input::HttpDone { run, done } => self.http_done(run, done, cx),
            Input::ChannelClosed(channel) => {
                if let Some(open) = &mut self.open {
                    open.waiting.retain(|waiting| waiting.to.channel != channel);
                }
                self.cancel(|running| running.to.channel == channel);
            }
            Input::Hardware(answer) => self.hardware_answered(answer, cx),
            Input::Tick => self.tick(cx),
        }
    }

    fn request(&mut self, request: Request<'_>, cx: &mut Context<'_>) {
        let to = request.to;
        match request.peer {
            Peer::Guest(guest) => {
                let answer = self.guest_request(guest, &request, cx);
                if let Some(answer) = answer.transpose() {
                    self.effects.push(Effect::Guest(to, answer.map_err(Refusal::for_guest)));
                }
            }
            peer => {
                let answer = self.device_request(peer, request, cx);
                if let Some(answer) = answer.transpose() {
                    self.effects.push(Effect::Device(to, answer));
                }
            }
        }
    }

    fn device_request(
        &mut self,
        peer: Peer,
        request: Request<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Option<DeviceAnswer>, Refusal> {
        let body: DeviceRequest = serde_json::from_str(request.body).map_err(|error| malformed(&error))?;
        let operation = Operation::of_device(&body);
        let device = match peer {
            Peer::Device(device) => device,
            Peer::Founder(sign_public) => {
                freshness(operation, Who::Founder, None).ok_or(Refusal::new(Code::VaultNotCreated))?;
                self.check_disk(operation, cx)?;
                return match body {
                    DeviceRequest::Create(create) => self.create(*create, &sign_public, cx).map(Some),
                    DeviceRequest::Rescue(rescue) => self.rescue(rescue, cx).map(Some),
                    _ => Ok(Some(DeviceAnswer::Status(self.status(None, cx)))),
                };
            }
            Peer::Guest(_) => return Err(Code::NotAllowed.into()),
        };
        // Its channel may outlive its place in the roster by the requests that arrived together.
        if rule!(12, self.peer_key(peer).is_none(), false) {
            return Err(Code::DeviceUnknown.into());
        }
        if matches!(body, DeviceRequest::CredentialConfirm { .. }) {
            return self.credential_confirm(device, &request, cx).map(Some);
        }
        let class = match self.class_of(&body) {
            Ok(class) => class,
            Err(refusal) => {
                // What there is and what there is not is told within a session alone.
                self.check_freshness(device, Freshness::Session, operation, &request, cx)?;
                return Err(refusal);
            }
        };
        let needed = freshness(operation, Who::Device, class).ok_or_else(|| {
            Refusal::new(class.map_or(Code::NotAllowed, |_| Code::ClassRefused))
                .rule(format!("{} on class {class:?} by a device", operation.as_str()))
        })?;
        // Before the factor: to count that is a write, too.
        self.check_disk(operation, cx)?;
        self.check_freshness(device, needed, operation, &request, cx)?;
        if let DeviceRequest::Unlock(unlock) = &body {
            return self.unlock(device, unlock, cx).map(Some);
        }
        if needed == Freshness::Credential {
            return self.present(device, body, &request, cx).map(Some);
        }
        self.in_transaction(cx, |vault, cx| vault.device_act(device, body, &request, None, cx))
    }

    /// Refuses what adds something while the disk has no more than its reserve: that is for what reads, ends and removes.
    pub(crate) fn check_disk(&mut self, operation: Operation, cx: &Context<'_>) -> Result<(), Refusal> {
        if !operation.needs_room() {
            return Ok(());
        }
        let ticks = cx.moment.ticks_ms;
        if self.had_room.is_some_and(|asked| ticks.saturating_sub(asked) < limits::DISK_ASKED_EVERY_MS) {
            return Ok(());
        }
        // A disk that cannot say is left to refuse the write itself.
        if self.disk.room().map_or(true, |bytes| bytes >= limits::DISK_RESERVE_BYTES) {
            self.had_room = Some(ticks);
            return Ok(());
        }
        Err(Refusal::new(Code::DiskFull).detail(format!(
            "The disk has less than {} MiB left, which are kept for reading, locking, revoking and removing.",
            limits::DISK_RESERVE_BYTES >> 20
        )))
    }

    /// Fresh authentication, session, state: whatever `needed` asks of the request.
    fn check_freshness(
        &mut self,
        device: DeviceId,
        needed: Freshness,
        operation: Operation,
        request: &Request<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), Refusal> {
        if needed == Freshness::Channel {
            return Ok(());
        }
        let ticks = cx.moment.ticks_ms;
        let Some(open) = &self.open else {
            return Err(Refusal::new(Code::VaultLocked).hint("strongroom unlock"));
        };
        if operation != Operation::SessionBegin
            && open.live.sessions.get(&device).is_none_or(|until| rule!(6, *until <= ticks, false))
        {
            return Err(Refusal::new(Code::SessionRequired).hint("strongroom unlock"));
        }
        if needed >= Freshness::Factor {
            let fresh = request.fresh.as_ref().ok_or_else(|| {
                Refusal::new(Code::FreshRequired)
                    .rule(format!("{} needs a factor that answers a challenge", operation.as_str()))
            })?;
            self.check_fresh(device, fresh, request.body, cx)?;
        }
        let open = self.open.as_ref().ok_or(Refusal::new(Code::VaultLocked))?;
        let reads = matches!(operation, Operation::LogConfirm | Operation::SessionBegin | Operation::SessionEnd)
            || needed == Freshness::Session;
        if !open.live.confirmed && !reads {
            return Err(Refusal::new(Code::HistoryRefused).detail("The log was not confirmed since the unlock."));
        }
        Ok(())
    }

    pub(crate) fn now(&self, cx: &Context<'_>) -> Timestamp {
        self.clock.now(cx.moment)
    }

    pub(crate) fn opened(&mut self) -> Result<(&mut Open, &mut S), Refusal> {
        match &mut self.open {
            Some(open) => Ok((open, &mut self.disk)),
            None => Err(Refusal::new(Code::VaultLocked).hint("strongroom unlock")),
        }
    }

    /// Appends an event; everything that it tells of must have been put into the records before.
    pub(crate) fn log(&mut self, event: Event, cx: &mut Context<'_>) -> Result<u64, Refusal> {
        let (open, disk) = self.opened()?;
        open.ledger.log(disk, event, cx.rng)
    }

    pub(crate) fn event(&self, actor: Actor, action: Action, cx: &Context<'_>) -> Event {
        Event::new(self.now(cx), actor, action)
    }

    pub(crate) fn get<T: serde::de::DeserializeOwned>(
        &mut self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<T>, Refusal> {
        let (open, disk) = self.opened()?;
        open.ledger.get(disk, table, key)
    }

    pub(crate) fn put(&mut self, table: Table, key: &[u8], record: &impl Serialize) -> Result<(), Refusal> {
        let (open, disk) = self.opened()?;
        open.forget_read(table);
        open.ledger.put(disk, table, key, record)
    }

    pub(crate) fn delete(&mut self, table: Table, key: &[u8]) -> Result<bool, Refusal> {
        let (open, disk) = self.opened()?;
        open.forget_read(table);
        open.ledger.delete(disk, table, key)
    }

    pub(crate) fn all<T: serde::de::DeserializeOwned>(
        &mut self,
        table: Table,
        prefix: &[u8],
    ) -> Result<Vec<(Vec<u8>, T)>, Refusal> {
        let (open, disk) = self.opened()?;
        open.ledger.all(disk, table, prefix)
    }

    /// How many items there are, removed ones included.
    pub(crate) fn item_count(&mut self) -> Result<u64, Refusal> {
        if let Some(items) = self.opened()?.0.live.items {
            return Ok(items);
        }
        let items = self.disk.count(Table::Items)?;
        self.opened()?.0.live_mut().items = Some(items);
        Ok(items)
    }

    /// Every grant there is.
    pub(crate) fn grants(&mut self) -> Result<Arc<Vec<(GrantId, Grant)>>, Refusal> {
        if let Some(grants) = &self.opened()?.0.live.grants {
            return Ok(Arc::clone(grants));
        }
        let read = self.all::<Grant>(Table::Grants, &[])?;
        let read: Result<Vec<_>, Refusal> = read.into_iter().map(|(key, grant)| Ok((grant_id(&key)?, grant))).collect();
        let grants = Arc::new(read?);
        self.opened()?.0.live_mut().grants = Some(Arc::clone(&grants));
        Ok(grants)
    }

    /// A grant.
    pub(crate) fn grant(&mut self, id: GrantId) -> Result<Option<Grant>, Refusal> {
        Ok(self.grants()?.iter().find(|(other, _)| *other == id).map(|(_, grant)| grant.clone()))
    }

    pub(crate) fn status(&mut self, device: Option<DeviceId>, cx: &Context<'_>) -> Status {
        let ticks = cx.moment.ticks_ms;
        let now = self.now(cx);
        let at = |until: u64| Timestamp(now.0.saturating_add(until.saturating_sub(ticks)));
        let state = match (&self.header, &self.open) {
            (None, _) if self.lost => VaultState::Lost,
            (None, _) => VaultState::Empty,
            (Some(_), None) => VaultState::Locked,
            (Some(_), Some(open)) if !open.live.confirmed => VaultState::Unconfirmed,
            _ => VaultState::Open,
        };
        let disagrees = self.clock.disagrees(cx.moment);
        let mut status = Status {
            vault: self.id,
            state,
            open_until: None,
            session_until: None,
            items: None,
            approvals: None,
            log_size: None,
            guests_suspended: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            update: self.update().cloned(),
            unattended: self.unattended_slot().map(|_| true),
            unattended_refused: self.unattended_refusal,
        };
        if let Some(open) = &self.open {
            status.open_until = Some(open.open_until_ticks_ms).filter(|until| *until != u64::MAX).map(at);
            status.session_until = device
                .and_then(|device| open.live.sessions.get(&device))
                .filter(|until| **until > ticks)
                .map(|u| at(*u));
            if open.live.suspended {
                status.guests_suspended = Some("by the member".into());
            } else if disagrees {
                status.guests_suspended = Some("the clocks of host and device disagree".into());
            }
            if status.session_until.is_some() {
                status.approvals = Some(open.live.approval_deadlines.len() as u64);
                status.log_size = Some(open.ledger.size());
                status.items = self.item_count().ok();
            }
        }
        status
    }

    fn tick(&mut self, cx: &mut Context<'_>) {
        let ticks = cx.moment.ticks_ms;
        self.challenges.retain(|_, (_, until)| *until > ticks);
        let Some(open) = &mut self.open else { return };
        if open.live.sessions.values().any(|until| *until <= ticks) {
            open.live_mut().sessions.retain(|_, until| *until > ticks);
        }
        open.presented.retain(|_, (_, _, until)| *until > ticks);
        if open.open_until_ticks_ms <= ticks {
            self.lock_now(Actor::Vault, cx);
            return;
        }
        self.cancel_expired(cx);
        self.write_outcomes(cx);
        self.expire_approvals(cx);
    }
}

pub(crate) fn malformed(error: &serde_json::Error) -> Refusal {
    // serde's text may quote the input, which may be a secret: only the kind and the place are told.
    let what = match error.classify() {
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "it is not JSON of the expected depth",
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Data => "a field is missing, unknown or of the wrong form",
    };
    Refusal::new(Code::RequestMalformed).detail(format!(
        "The request cannot be read: {what} (line {}, column {}).",
        error.line(),
        error.column()
    ))
}

/// A random id.
pub(crate) fn random_id(rng: &mut dyn CryptoRng) -> [u8; 16] {
    let mut id = [0; 16];
    rng.fill_bytes(&mut id);
    id
}

/// Checks a label or name: not empty, not too long, nothing that a terminal would act on.
pub(crate) fn check_label(label: &str) -> Result<(), Refusal> {
    let fits = !label.trim().is_empty() && label.chars().count() <= limits::LABEL_CHARS_MAX;
    if !fits {
        return Err(
            Refusal::new(Code::ValueRefused).detail(format!("A name has 1 to {} characters.", limits::LABEL_CHARS_MAX))
        );
    }
    check_text(label)
}

/// Checks a text for control characters.
pub(crate) fn check_text(text: &str) -> Result<(), Refusal> {
    if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err(Refusal::new(Code::ValueRefused).detail("Control characters are not allowed here."));
    }
    Ok(())
}

/// Parses a guest's request.
pub(crate) fn guest_body(body: &str) -> Result<GuestRequest, Refusal> {
    serde_json::from_str(body).map_err(|error| malformed(&error))
}

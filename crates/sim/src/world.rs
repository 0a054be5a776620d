//! One vault and its surroundings: disk, clock, consumers, and the two calls by which the vault program drives it.

use strongroom_core::{Context, Effect, HttpDone, HttpRun, Input, Moment, Peer, ReplyTo, Request, Vault};
use strongroom_crypto::secret::HostShare;
use strongroom_wire::device::{
    CreateRequest, Created, DeviceAdd, DeviceAdded, DeviceAnswer, DeviceRequest, Fresh, SlotKind, Unlocked,
};
use strongroom_wire::guest::{GuestAnswer, GuestRequest};
use strongroom_wire::{Challenge, Code, DeviceId, GuestId, Refusal, RequestId, Timestamp, VaultId};

use crate::device::Device;
use crate::factor::Factor;
use crate::fakes::Fakes;
use crate::memory::Memory;
use crate::rng::Rng;

/// A vault and its surroundings.
pub struct World {
    /// Its disk.
    pub memory: Memory,
    /// The vault; a header that cannot be used leaves the reason.
    pub vault: Result<Vault<Memory>, Refusal>,
    /// Its id.
    pub id: VaultId,
    /// The host's clock, in milliseconds.
    pub wall_ms: u64,
    /// How far the devices' clocks are ahead of the host's, in milliseconds.
    pub device_ahead_ms: u64,
    /// Milliseconds since the vault process started.
    pub ticks_ms: u64,
    /// Randomness.
    pub rng: Rng,
    /// The consumers.
    pub fakes: Fakes,
    /// Effects that answer nobody, in order.
    pub told: Vec<Effect>,
    /// Answers that came later than their request.
    pub late: Vec<(ReplyTo, Answer)>,
    /// The host share.
    pub share: [u8; 32],
    /// Whether that is a new one, because the one before is gone.
    pub share_is_new: bool,
    next_stream: u32,
}

/// What a request led to.
#[derive(Debug)]
pub enum Answer {
    /// A device's answer.
    Device(Result<DeviceAnswer, Refusal>),
    /// A guest's answer.
    Guest(Result<GuestAnswer, Refusal>),
    /// An HTTP exchange that is to be run.
    Http(Run),
    /// It waits.
    Later(ReplyTo),
}

/// An exchange that is to be run.
pub struct Run(pub Box<HttpRun>);

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Run({} {})", self.0.run, self.0.target)
    }
}

/// A device's answer.
pub type DeviceResult = Result<DeviceAnswer, Refusal>;

impl World {
    /// An empty vault folder, on a machine whose clock stands at the start of 2026.
    pub fn new(name: &str) -> Self {
        let mut rng = Rng::new(name);
        let (id, share) = (VaultId(rng.bytes()), rng.bytes());
        let memory = Memory::new();
        let mut world = Self {
            vault: Err(Code::HostFailed.into()),
            memory,
            id,
            wall_ms: 1_767_225_600_000,
            device_ahead_ms: 0,
            ticks_ms: 1,
            rng,
            fakes: Fakes::default(),
            told: Vec::new(),
            late: Vec::new(),
            share,
            share_is_new: false,
            next_stream: 0,
        };
        world.start();
        world
    }

    /// Starts the vault process.
    pub fn start(&mut self) {
        self.ticks_ms = 1;
        let moment = self.moment();
        let share = || HostShare::from_bytes(&self.share);
        self.vault = match Vault::start(self.id, share(), self.memory.clone(), moment) {
            Err(refusal) if self.share_is_new && refusal.code == Code::HeaderRefusedFile => {
                Ok(Vault::start_lost(self.id, share(), self.memory.clone(), moment))
            }
            started => started,
        };
    }

    /// The host loses the share, makes a new one, and starts the vault with it. Gives the share that was.
    pub fn lose_share(&mut self) -> [u8; 32] {
        let before = std::mem::replace(&mut self.share, self.rng.bytes());
        self.share_is_new = true;
        self.start();
        before
    }

    /// The machine stops and starts again.
    pub fn crash(&mut self) {
        self.memory.crash();
        self.late.clear();
        self.start();
    }

    /// The vault, where its header could be used.
    ///
    /// # Panics
    /// Where it could not.
    pub fn vault(&mut self) -> &mut Vault<Memory> {
        self.vault.as_mut().expect("the header can be used")
    }

    /// Now.
    pub fn moment(&self) -> Moment {
        Moment { wall: Timestamp(self.wall_ms), ticks_ms: self.ticks_ms }
    }

    /// Time passes, and the program ticks.
    pub fn pass_secs(&mut self, secs: u64) {
        self.wall_ms += secs * 1_000;
        self.ticks_ms += secs * 1_000;
        self.tick();
    }

    /// The program ticks.
    pub fn tick(&mut self) {
        self.tell(Input::Tick);
        self.flush();
    }

    /// Tells the vault something without a flush.
    pub fn tell(&mut self, input: Input<'_>) {
        let moment = self.moment();
        if let Ok(vault) = &mut self.vault {
            vault.handle(input, &mut Context { moment, rng: &mut self.rng, consumers: &mut self.fakes });
        }
    }

    /// Flushes, and keeps what comes of it.
    pub fn flush(&mut self) {
        let moment = self.moment();
        let Ok(vault) = &mut self.vault else { return };
        let effects = vault.flush(&mut Context { moment, rng: &mut self.rng, consumers: &mut self.fakes });
        for effect in effects {
            match effect {
                Effect::Device(to, answer) => self.late.push((to, Answer::Device(answer))),
                Effect::Guest(to, answer) => self.late.push((to, Answer::Guest(answer))),
                Effect::Http(run) => self.late.push((run.to, Answer::Http(Run(run)))),
                other => self.told.push(other),
            }
        }
    }

    /// Sends a request without a flush; its answer comes under the number that is answered.
    pub fn send(
        &mut self,
        peer: Peer,
        id: RequestId,
        fresh: Option<Fresh>,
        credential: Option<Vec<u8>>,
        body: &str,
    ) -> ReplyTo {
        self.next_stream += 1;
        let channel = match peer {
            Peer::Founder(_) => 0,
            Peer::Device(DeviceId(id)) | Peer::Guest(GuestId(id)) => u32::from_le_bytes([id[0], id[1], id[2], id[3]]),
        };
        let to = ReplyTo { channel, stream: self.next_stream };
        if let Err(refusal) = &self.vault {
            self.late.push((to, Answer::Device(Err(refusal.clone()))));
            return to;
        }
        self.tell(Input::Request(Request { to, peer, id, fresh, credential, body }));
        to
    }

    /// Takes an answer that came.
    pub fn take(&mut self, to: ReplyTo) -> Answer {
        match self.late.iter().position(|(of, _)| *of == to) {
            Some(at) => self.late.swap_remove(at).1,
            None => Answer::Later(to),
        }
    }

    /// Sends a request and flushes.
    pub fn ask(
        &mut self,
        peer: Peer,
        id: RequestId,
        fresh: Option<Fresh>,
        credential: Option<Vec<u8>>,
        body: &str,
    ) -> Answer {
        let to = self.send(peer, id, fresh, credential, body);
        self.flush();
        self.take(to)
    }

    /// A new request id.
    pub fn request_id(&mut self) -> RequestId {
        RequestId(self.rng.bytes())
    }

    /// A device asks something that needs no factor.
    ///
    /// # Errors
    /// What the vault refused.
    pub fn device(&mut self, device: &Device, request: &DeviceRequest) -> DeviceResult {
        let id = self.request_id();
        device_result(self.ask(Peer::Device(device.id), id, None, None, &json(request)))
    }

    /// A challenge for a device.
    ///
    /// # Errors
    /// What the vault refused.
    pub fn challenge(&mut self, device: &Device) -> Result<Challenge, Refusal> {
        match self.device(device, &DeviceRequest::Challenge {})? {
            DeviceAnswer::Challenge { challenge } => Ok(challenge),
            other => Err(Refusal::new(Code::Bug).detail(format!("{other:?}"))),
        }
    }

    /// A device asks something with a factor.
    ///
    /// # Errors
    /// What the vault refused.
    pub fn fresh(&mut self, device: &Device, factor: &Factor, request: &DeviceRequest) -> DeviceResult {
        device_result(self.fresh_ask(device, factor, request))
    }

    /// A device asks something with a factor; the answer may be an exchange.
    pub fn fresh_ask(&mut self, device: &Device, factor: &Factor, request: &DeviceRequest) -> Answer {
        let challenge = match self.challenge(device) {
            Ok(challenge) => challenge,
            Err(refusal) => return Answer::Device(Err(refusal)),
        };
        let body = json(request);
        let fresh = factor.fresh(self.id, device.id, challenge, &body);
        let id = self.request_id();
        self.ask(Peer::Device(device.id), id, Some(fresh), None, &body)
    }

    /// The first half of a request that presents the credential: the vault's answer to it.
    ///
    /// # Errors
    /// What the vault refused.
    pub fn present(
        &mut self,
        device: &Device,
        factor: &Factor,
        id: RequestId,
        blob: &[u8],
        request: &DeviceRequest,
    ) -> DeviceResult {
        let challenge = self.challenge(device)?;
        let body = json(request);
        let fresh = factor.fresh(self.id, device.id, challenge, &body);
        device_result(self.ask(Peer::Device(device.id), id, Some(fresh), Some(blob.to_vec()), &body))
    }

    /// The second half: the device confirms with the blob that it stored.
    ///
    /// # Errors
    /// What the vault refused.
    pub fn confirm(&mut self, device: &Device, id: RequestId, sequence: u64, blob: &[u8]) -> DeviceResult {
        let body = json(&DeviceRequest::CredentialConfirm { sequence });
        let answer = device_result(self.ask(Peer::Device(device.id), id, None, Some(blob.to_vec()), &body))?;
        Ok(self.outcome(device, id, answer))
    }

    fn outcome(&self, device: &Device, id: RequestId, answer: DeviceAnswer) -> DeviceAnswer {
        match answer {
            DeviceAnswer::Outcome { sealed } => {
                device.open_outcome(self.id, id, &sealed).expect("an outcome opens for its device and request")
            }
            other => other,
        }
    }

    /// A device asks something that presents its credential, through both halves, and again where the vault says so.
    ///
    /// # Errors
    /// What the vault refused.
    pub fn credential(&mut self, device: &mut Device, factor: &Factor, request: &DeviceRequest) -> DeviceResult {
        let id = self.request_id();
        self.credential_as(device, factor, id, request)
    }

    /// The same under an id of the caller's.
    ///
    /// # Errors
    /// What the vault refused.
    pub fn credential_as(
        &mut self,
        device: &mut Device,
        factor: &Factor,
        id: RequestId,
        request: &DeviceRequest,
    ) -> DeviceResult {
        let mut last = Refusal::new(Code::Bug);
        for _ in 0..4 {
            let (sequence, mail) = match self.present(device, factor, id, &device.blob.clone(), request)? {
                DeviceAnswer::CredentialNext { sequence, mail } => (sequence, mail),
                other => return Ok(self.outcome(device, id, other)),
            };
            let blob = device.open_mail(self.id, sequence, &mail).ok_or(Refusal::new(Code::Bug).detail("mail"))?;
            device.store(blob);
            match self.confirm(device, id, sequence, &device.blob.clone()) {
                Err(refusal) if refusal.code == Code::CredentialBusy => last = refusal,
                done => return done,
            }
        }
        Err(last)
    }

    /// A guest asks.
    pub fn guest(&mut self, guest: GuestId, request: &GuestRequest) -> Answer {
        let id = self.request_id();
        self.ask(Peer::Guest(guest), id, None, None, &json(request))
    }

    /// An exchange ended.
    pub fn http_done(&mut self, run: u64, done: HttpDone) {
        self.tell(Input::HttpDone { run, done });
        self.flush();
    }

    /// Makes the vault.
    ///
    /// # Errors
    /// What the vault refused.
    pub fn create(&mut self, slot: &mut Factor, recovery: &mut Factor) -> Result<Device, Refusal> {
        let mut device = Device::new(&mut self.rng);
        let request = DeviceRequest::Create(Box::new(CreateRequest {
            device_name: "laptop".into(),
            device_kem_public: device.kem_public(),
            slot: slot.draft("passphrase"),
            recovery: recovery.draft("phrase"),
            wants_share: false,
            device_time: Timestamp(self.wall_ms),
        }));
        let id = self.request_id();
        let answer = self.ask(Peer::Founder(device.sign_public()), id, None, None, &json(&request));
        let DeviceAnswer::Created(created) = device_result(answer)? else { return Err(Code::Bug.into()) };
        let Created { identity, device: given, credential, checkpoint, .. } = *created;
        device.id = given;
        device.identity = strongroom_crypto::sign::PublicKey::from_bytes(&identity.0).ok();
        device.store(credential.0);
        device.see(self.id, &checkpoint).map_err(|why| Refusal::new(Code::HistoryRefused).detail(why))?;
        self.learn_slots(&device, &mut [slot, recovery])?;
        Ok(device)
    }

    /// Learns which slots factors belong to, by kind; for a kind of several slots, the newest.
    ///
    /// # Errors
    /// What the vault refused.
    pub fn learn_slots(&mut self, device: &Device, factors: &mut [&mut Factor]) -> Result<(), Refusal> {
        let DeviceAnswer::Slots { slots } = self.device(device, &DeviceRequest::SlotList {})? else {
            return Err(Code::Bug.into());
        };
        for factor in factors {
            factor.slot = slots.iter().filter(|slot| slot.kind == factor.kind).map(|slot| slot.id).next_back();
        }
        Ok(())
    }

    /// Unlocks, checks the log as a device does, and confirms it.
    ///
    /// # Errors
    /// What the vault refused, or `history_refused` where the device refuses the log.
    pub fn unlock(&mut self, device: &mut Device, factor: &Factor) -> Result<Unlocked, Refusal> {
        let unlocked = self.unlock_only(device, factor)?;
        device.see(self.id, &unlocked.checkpoint).map_err(|why| Refusal::new(Code::HistoryRefused).detail(why))?;
        self.device(device, &DeviceRequest::LogConfirm(device.seen.clone()))?;
        Ok(unlocked)
    }

    /// Unlocks, and leaves the log unconfirmed.
    ///
    /// # Errors
    /// What the vault refused.
    pub fn unlock_only(&mut self, device: &Device, factor: &Factor) -> Result<Unlocked, Refusal> {
        let time = Timestamp(self.wall_ms + self.device_ahead_ms);
        let request = DeviceRequest::Unlock(factor.unlock(device.seen.clone(), time));
        match self.device(device, &request)? {
            DeviceAnswer::Unlocked(unlocked) => Ok(unlocked),
            other => Err(Refusal::new(Code::Bug).detail(format!("{other:?}"))),
        }
    }

    /// Enrols another device.
    ///
    /// # Errors
    /// What the vault refused.
    pub fn add_device(&mut self, by: &mut Device, factor: &Factor) -> Result<Device, Refusal> {
        let mut device = Device::new(&mut self.rng);
        let add = DeviceAdd {
            name: "phone".into(),
            sign_public: device.sign_public().into(),
            kem_public: device.kem_public(),
            wants_share: false,
        };
        let DeviceAnswer::DeviceAdded(added) = self.credential(by, factor, &DeviceRequest::DeviceAdd(add))? else {
            return Err(Code::Bug.into());
        };
        let DeviceAdded { device: id, sealed_credential, seen, .. } = *added;
        device.id = id;
        device.identity = by.identity;
        device.seen = seen;
        let blob = device.open_mail(self.id, 1, &sealed_credential).ok_or(Refusal::new(Code::Bug).detail("mail"))?;
        device.store(blob);
        Ok(device)
    }

    /// A passphrase.
    pub fn passphrase(&mut self) -> Factor {
        Factor::new(SlotKind::Passphrase, &mut self.rng)
    }

    /// A recovery phrase.
    pub fn phrase(&mut self) -> Factor {
        Factor::new(SlotKind::Recovery, &mut self.rng)
    }
}

/// A request as JSON text.
///
/// # Panics
/// Never: every request has a JSON form.
pub fn json(request: &impl serde::Serialize) -> String {
    serde_json::to_string(request).expect("a request has a JSON form")
}

/// A device's answer.
///
/// # Errors
/// What the vault refused, or `host_failed` where the answer is still to come.
pub fn device_result(answer: Answer) -> DeviceResult {
    match answer {
        Answer::Device(result) => result,
        Answer::Later(_) => Err(Refusal::new(Code::HostFailed).detail("no answer yet")),
        other => Err(Refusal::new(Code::Bug).detail(format!("{other:?}"))),
    }
}

/// A request as it travels.
pub fn guest_json(request: &GuestRequest) -> String {
    json(request)
}

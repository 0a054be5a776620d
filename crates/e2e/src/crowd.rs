//! Members under load: each has a vault with a key and a counter, and knows what was acknowledged and what may have been done.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use strongroom_client::channel::{AskError, Connection, new_request_id};
use strongroom_client::generate;
use strongroom_client::wire::device::{DeviceAnswer, DeviceRequest, ItemEdit, ListQuery};
use strongroom_client::wire::guest::{Call, SignCall, UseCall, UseResult};
use strongroom_client::wire::items::{FieldDraft, ItemDraft};
use strongroom_client::wire::policy::{ItemPolicy, KeyAlgorithm, KeyPolicy, KeyPurpose};
use strongroom_client::wire::{Bytes, Class, Code, FieldName, ItemId, ItemType, Reference, RequestId, SecretValue};

use crate::members::{Member, SharedFactors, Trouble, ask};
use crate::{Place, processes};

/// A member under load: its vault, what was acknowledged, and what may or may not have been done.
pub struct Under {
    member: Member,
    connection: Option<Connection>,
    key: ItemId,
    counter: ItemId,
    /// The value of the counter that was acknowledged last.
    acknowledged: u64,
    /// Higher ones that were asked for and never answered.
    doubtful: u64,
}

/// What came of an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// It was acknowledged.
    Done,
    /// The vault's process was gone, or its host turned us away for now: asked again.
    Again,
}

impl Under {
    /// So many members, each with a vault that was open once. Where one user may not make so many in an hour, the server is started
    /// anew in between, which counts from its start.
    ///
    /// # Panics
    /// When one cannot be made.
    #[must_use]
    pub fn found(place: &mut Place, factors: &SharedFactors, vaults: usize) -> Vec<Self> {
        let socket = place.socket();
        let found =
            |count| (0..count).map(|_| Self::new(&socket, factors).expect("a vault with a key")).collect::<Vec<_>>();
        let mut members = Vec::new();
        while members.len() < vaults {
            if !members.is_empty() {
                place.stop();
                place.serve(&[]);
            }
            let now = NEW_VAULTS_PER_HOUR_MAX.min(vaults - members.len());
            let shares = (0..FOUNDERS).map(|at| now / FOUNDERS + usize::from(at < now % FOUNDERS));
            members.extend(thread::scope(|scope| {
                let founders: Vec<_> = shares.map(|share| scope.spawn(move || found(share))).collect();
                founders.into_iter().flat_map(|founder| founder.join().expect("it has founded")).collect::<Vec<_>>()
            }));
        }
        members
    }

    fn new(socket: &Path, factors: &SharedFactors) -> Result<Self, Trouble> {
        let member = Member::found(socket, factors)?;
        let mut under = Self {
            member,
            connection: None,
            key: ItemId([0; 16]),
            counter: ItemId([0; 16]),
            acknowledged: 0,
            doubtful: 0,
        };
        under.key = under.add(socket, factors, key_item())?;
        under.counter = under.add(socket, factors, counter_item())?;
        Ok(under)
    }

    fn add(&mut self, socket: &Path, factors: &SharedFactors, draft: ItemDraft) -> Result<ItemId, Trouble> {
        let mut connection = self.open(socket, factors)?.ok_or("the vault is not there")?;
        match self.member.ask_fresh(&mut connection, factors, new_request_id(), &DeviceRequest::ItemAdd(draft))? {
            DeviceAnswer::Item(view) => Ok(view.summary.id),
            _ => Err("not an answer to item_add".into()),
        }
    }

    /// Unlocks the vault where it is locked.
    ///
    /// # Errors
    /// What was refused, but for what a process that went away makes.
    pub fn enter(&mut self, socket: &Path, factors: &SharedFactors) -> Result<Came, Trouble> {
        self.act(socket, factors, |_, _| Ok(())).map(came)
    }

    /// A channel to the open vault, unlocked and confirmed where that is needed; `None` where it went away.
    fn open(&mut self, socket: &Path, factors: &SharedFactors) -> Result<Option<Connection>, Trouble> {
        if let Some(connection) = self.connection.take().filter(|connection| !connection.is_ended()) {
            return Ok(Some(connection));
        }
        let opened = (|| {
            let mut connection = self.member.connect(socket)?;
            self.member.unlock_over(&mut connection, factors)?;
            self.member.confirm_over(&mut connection)?;
            Ok(connection)
        })();
        match opened {
            Ok(connection) => Ok(Some(connection)),
            Err(trouble) => gone(trouble).map(|()| None),
        }
    }

    fn act<T>(
        &mut self,
        socket: &Path,
        factors: &SharedFactors,
        act: impl FnOnce(&mut Self, &mut Connection) -> Result<T, Trouble>,
    ) -> Result<Option<T>, Trouble> {
        let Some(mut connection) = self.open(socket, factors)? else { return Ok(None) };
        match act(self, &mut connection) {
            Ok(done) => {
                self.connection = Some(connection);
                Ok(Some(done))
            }
            Err(trouble) => gone(trouble).map(|()| None),
        }
    }

    /// Asks its vault for something with the passphrase.
    ///
    /// # Errors
    /// What was refused.
    pub fn ask_fresh(
        &mut self,
        socket: &Path,
        factors: &SharedFactors,
        id: RequestId,
        request: &DeviceRequest,
    ) -> Result<DeviceAnswer, Trouble> {
        let mut connection = self.open(socket, factors)?.ok_or("the vault is not there")?;
        let answer = self.member.ask_fresh(&mut connection, factors, id, request);
        self.connection = Some(connection);
        answer
    }

    /// Verifies the log; answers how many events there are.
    ///
    /// # Errors
    /// What does not fit.
    pub fn log_size(&mut self, socket: &Path, factors: &SharedFactors) -> Result<u64, Trouble> {
        let size = self.act(socket, factors, |this, connection| this.member.verify_log(connection))?;
        size.ok_or_else(|| "the vault is not there".into())
    }

    /// The secret field of its key.
    #[must_use]
    pub fn key(&self) -> Reference {
        reference(self.key, "private_key")
    }

    /// Signs a message with the key.
    ///
    /// # Errors
    /// A wrong answer.
    pub fn sign(&mut self, socket: &Path, factors: &SharedFactors) -> Result<Came, Trouble> {
        let call = Call::Sign(SignCall::Message { message: Bytes::from(b"a message".to_vec()) });
        let request = DeviceRequest::Use(UseCall { reference: reference(self.key, "private_key"), call });
        self.act(socket, factors, |this, connection| {
            match this.member.ask_fresh(connection, factors, new_request_id(), &request)? {
                DeviceAnswer::Used(UseResult::Signature { signature, .. }) if signature.0.len() == 64 => Ok(()),
                _ => Err("not a signature".into()),
            }
        })
        .map(came)
    }

    /// Lists the items.
    ///
    /// # Errors
    /// A wrong answer.
    pub fn list(&mut self, socket: &Path, factors: &SharedFactors) -> Result<Came, Trouble> {
        let wanted = [self.key, self.counter];
        self.act(socket, factors, |_, connection| {
            match ask(connection, &DeviceRequest::ItemList(ListQuery::default()))? {
                DeviceAnswer::Items { items, .. }
                    if items.len() == 2 && wanted.iter().all(|id| items.iter().any(|item| item.id == *id)) =>
                {
                    Ok(())
                }
                answer => Err(format!("not this vault's list: {answer:?}").into()),
            }
        })
        .map(came)
    }

    /// Counts the counter up.
    ///
    /// # Errors
    /// A wrong answer.
    pub fn write(&mut self, socket: &Path, factors: &SharedFactors) -> Result<Came, Trouble> {
        let next = self.doubtful.max(self.acknowledged) + 1;
        let request = DeviceRequest::ItemEdit(ItemEdit {
            item: self.counter,
            if_version: None,
            label: None,
            tags: None,
            set: vec![counter(next)],
            remove: Vec::new(),
            policy: None,
        });
        self.doubtful = next;
        let came = self.act(socket, factors, |this, connection| {
            match this.member.ask_fresh(connection, factors, new_request_id(), &request)? {
                DeviceAnswer::Item(_) => Ok(()),
                _ => Err("not an answer to item_edit".into()),
            }
        })?;
        if came.is_some() {
            self.acknowledged = next;
        }
        Ok(self::came(came))
    }

    /// What was acknowledged is there, or what was asked for after it; and the log holds.
    ///
    /// # Errors
    /// What is not so.
    pub fn check(&mut self, socket: &Path, factors: &SharedFactors) -> Result<(), Trouble> {
        for _ in 0..ATTEMPTS_MAX {
            let counter = self.counter;
            let checked = self.act(socket, factors, |this, connection| {
                let DeviceAnswer::Item(view) = ask(connection, &DeviceRequest::ItemShow { item: counter })? else {
                    return Err("not an answer to item_show".into());
                };
                let value = view.fields.iter().find(|field| field.name.as_str() == "count");
                let value = value.and_then(|field| field.value.as_deref()).ok_or("the counter shows nothing")?;
                let events = this.member.verify_log(connection)?;
                Ok((value.parse::<u64>()?, events))
            })?;
            if let Some((value, events)) = checked {
                let (least, most) = (self.acknowledged, self.doubtful.max(self.acknowledged));
                if !(least..=most).contains(&value) {
                    return Err(format!("{least} was acknowledged, {most} was asked for, {value} is there").into());
                }
                return if events > 3 { Ok(()) } else { Err("the log is empty".into()) };
            }
            thread::sleep(Duration::from_millis(200));
        }
        Err("a vault does not come back".into())
    }
}

/// Whether a trouble is one that a killed process makes; any other is a wrong answer.
fn gone(trouble: Trouble) -> Result<(), Trouble> {
    let temporary = match trouble.downcast_ref::<AskError>() {
        Some(AskError::Refused(refusal)) => matches!(
            refusal.code,
            Code::HostFailed
                | Code::VaultLocked
                | Code::SessionRequired
                | Code::HistoryRefused
                | Code::AttemptsWait
                | Code::Busy
        ),
        Some(_) => true,
        None => false,
    };
    if temporary { Ok(()) } else { Err(trouble) }
}

fn came(done: Option<()>) -> Came {
    if done.is_some() { Came::Done } else { Came::Again }
}

fn key_item() -> ItemDraft {
    draft(
        ItemType::SigningKey,
        "key",
        FieldDraft {
            name: FieldName::parse("private_key").expect("a name"),
            class: Class::Secret,
            value: generate::ed25519_pem().private,
        },
    )
}

fn counter_item() -> ItemDraft {
    draft(ItemType::Note, "counter", counter(0))
}

fn counter(value: u64) -> FieldDraft {
    FieldDraft {
        name: FieldName::parse("count").expect("a name"),
        class: Class::Private,
        value: SecretValue::new(value.to_string().into_bytes()),
    }
}

fn draft(item_type: ItemType, label: &str, field: FieldDraft) -> ItemDraft {
    let signs = KeyPolicy { purpose: KeyPurpose::Message, algorithm: KeyAlgorithm::Ed25519 };
    let key = (item_type == ItemType::SigningKey).then_some(signs);
    ItemDraft {
        item_type,
        label: label.to_owned(),
        tags: Vec::new(),
        fields: vec![field],
        policy: ItemPolicy { http: None, key },
        origin: None,
    }
}

fn reference(item: ItemId, name: &str) -> Reference {
    Reference { item, field: FieldName::parse(name).expect("a name") }
}

/// Deals the members out to so many workers.
#[must_use]
pub fn deal(members: Vec<Under>, workers: usize) -> Vec<Vec<Under>> {
    let mut hands: Vec<Vec<Under>> = (0..workers).map(|_| Vec::new()).collect();
    for (at, member) in members.into_iter().enumerate() {
        hands[at % workers].push(member);
    }
    hands
}

/// Calls one vault after the other, most of all to use something, until it is over, and tells how long each act took.
///
/// # Panics
/// When an answer is wrong, or a vault does not come back.
pub fn keep_calling(
    members: &mut [Under],
    socket: &Path,
    factors: &SharedFactors,
    over: &AtomicBool,
    seed: u64,
    mut note: impl FnMut(&'static str, Duration),
) {
    let mut dice = Dice::new(seed + 1);
    while !over.load(Ordering::Relaxed) {
        let member = &mut members[dice.below(members.len())];
        let what = match dice.below(10) {
            0..=6 => "use",
            7 | 8 => "list",
            _ => "write",
        };
        let begun = processes::now();
        // As a client does: an act whose vault went away is asked again.
        for attempt in 0.. {
            assert!(attempt < ATTEMPTS_MAX, "a vault does not come back");
            let came = match what {
                "use" => member.sign(socket, factors),
                "list" => member.list(socket, factors),
                _ => member.write(socket, factors),
            };
            match came.unwrap_or_else(|trouble| panic!("{what}: {trouble}")) {
                Came::Done => {
                    note(what, begun.elapsed());
                    break;
                }
                Came::Again if over.load(Ordering::Relaxed) => return,
                Came::Again => thread::sleep(Duration::from_millis(20 << attempt.min(6))),
            }
        }
    }
}

/// Checks each of them.
///
/// # Panics
/// When one does not hold.
pub fn check_all(members: &mut [Under], socket: &Path, factors: &SharedFactors) {
    for member in members {
        member.check(socket, factors).unwrap_or_else(|trouble| panic!("at the end: {trouble}"));
    }
}

/// A row of numbers that looks random; the same for the same seed.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// The row of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one, below this.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % end
    }
}

const NEW_VAULTS_PER_HOUR_MAX: usize = 60;
/// Most of the time that a new vault takes is waiting for the disk.
const FOUNDERS: usize = 6;
/// A crashed vault is held for a minute after its third crash in a row.
const ATTEMPTS_MAX: u32 = 120;

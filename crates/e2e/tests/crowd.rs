//! Two hundred vaults on one host under a mixed load, while vault processes are killed at random: no acknowledged write is lost,
//! no answer is wrong, and every log verifies. `CROWD_SECS` says how long: 45 s where it says nothing, 10 minutes in `make soak`.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use strongroom_client::channel::{AskError, Connection, new_request_id};
use strongroom_client::generate;
use strongroom_client::wire::device::{DeviceAnswer, DeviceRequest, ItemEdit, ListQuery};
use strongroom_client::wire::guest::{Call, SignCall, UseCall, UseResult};
use strongroom_client::wire::items::{FieldDraft, ItemDraft};
use strongroom_client::wire::policy::{ItemPolicy, KeyAlgorithm, KeyPolicy, KeyPurpose};
use strongroom_client::wire::{Bytes, Class, Code, FieldName, ItemId, ItemType, Reference, SecretValue};
use strongroom_e2e::members::{Member, SharedFactors, Trouble, ask};
use strongroom_e2e::{Place, processes};

/// A member under load: its vault, what was acknowledged, and what may or may not have been done.
struct Under {
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
enum Came {
    Done,
    /// The vault's process was gone, or its host turned us away for now: asked again.
    Again,
}

#[test]
fn a_crowd_under_load_loses_nothing_while_processes_are_killed() {
    let secs: u64 = std::env::var("CROWD_SECS").ok().and_then(|text| text.parse().ok()).unwrap_or(45);
    let mut place = Place::new();
    place.serve(&[]);
    let factors = SharedFactors::derive().expect("factors");
    let socket = place.socket();
    let mut members = Vec::new();
    for number in 0..VAULTS {
        // One user may make so many an hour, as a server counts from its start.
        if number > 0 && number % NEW_VAULTS_PER_HOUR_MAX == 0 {
            place.stop();
            place.serve(&[]);
        }
        members.push(Under::new(&socket, &factors).expect("a vault with a key"));
    }
    let (over, kills) = (AtomicBool::new(false), AtomicU64::new(0));
    let latencies = thread::scope(|scope| {
        let mut chunks: Vec<Vec<Under>> = (0..WORKERS).map(|_| Vec::new()).collect();
        for (at, member) in members.into_iter().enumerate() {
            chunks[at % WORKERS].push(member);
        }
        let (over, factors, socket, place) = (&over, &factors, &socket, &place);
        let kills = &kills;
        scope.spawn(move || kill(place, over, kills));
        let workers: Vec<_> = chunks
            .into_iter()
            .enumerate()
            .map(|(seed, chunk)| scope.spawn(move || work(chunk, socket, factors, over, seed as u64)))
            .collect();
        thread::sleep(Duration::from_secs(secs));
        over.store(true, Ordering::Relaxed);
        let mut all = Latencies::default();
        for worker in workers {
            all.add(worker.join().expect("no answer was wrong"));
        }
        all
    });
    let kills = kills.load(Ordering::Relaxed);
    eprintln!("{VAULTS} vaults, {secs} s, {kills} kills\n{}", latencies.table());
    assert!(kills >= secs / 2, "{kills} kills in {secs} s");
    assert!(latencies.of("use") > 0 && latencies.of("list") > 0 && latencies.of("write") > 0);
}

/// A random vault process each second.
fn kill(place: &Place, over: &AtomicBool, kills: &AtomicU64) {
    let mut dice = Dice(0x9e37_79b9);
    while !over.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_secs(1));
        let vaults: Vec<u32> = processes::children(place.host_pid().expect("a server"))
            .into_iter()
            .filter(|(_, line)| line.starts_with("vault: "))
            .map(|(pid, _)| pid)
            .collect();
        if !vaults.is_empty() {
            processes::kill(vaults[dice.below(vaults.len())]);
            kills.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn work(mut members: Vec<Under>, socket: &Path, factors: &SharedFactors, over: &AtomicBool, seed: u64) -> Latencies {
    let mut dice = Dice(seed + 1);
    let mut latencies = Latencies::default();
    while !over.load(Ordering::Relaxed) {
        let at = dice.below(members.len());
        let what = match dice.below(10) {
            0..=6 => "use",
            7 | 8 => "list",
            _ => "write",
        };
        let begun = now();
        // As a client does: an act whose vault went away is asked again.
        for attempt in 0.. {
            assert!(attempt < ATTEMPTS_MAX, "a vault does not come back");
            let came = match what {
                "use" => members[at].sign(socket, factors),
                "list" => members[at].list(socket, factors),
                _ => members[at].write(socket, factors),
            };
            match came.unwrap_or_else(|trouble| panic!("{what}: {trouble}")) {
                Came::Done => break,
                Came::Again => thread::sleep(Duration::from_millis(20 << attempt.min(6))),
            }
        }
        latencies.note(what, begun.elapsed());
    }
    for member in &mut members {
        member.check(socket, factors).unwrap_or_else(|trouble| panic!("at the end: {trouble}"));
    }
    latencies
}

impl Under {
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

    fn sign(&mut self, socket: &Path, factors: &SharedFactors) -> Result<Came, Trouble> {
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

    fn list(&mut self, socket: &Path, factors: &SharedFactors) -> Result<Came, Trouble> {
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

    fn write(&mut self, socket: &Path, factors: &SharedFactors) -> Result<Came, Trouble> {
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
    fn check(&mut self, socket: &Path, factors: &SharedFactors) -> Result<(), Trouble> {
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

/// How long each kind of act took, until it was done.
#[derive(Default)]
struct Latencies(BTreeMap<&'static str, Vec<Duration>>);

impl Latencies {
    fn note(&mut self, what: &'static str, took: Duration) {
        self.0.entry(what).or_default().push(took);
    }

    fn add(&mut self, other: Self) {
        for (what, times) in other.0 {
            self.0.entry(what).or_default().extend(times);
        }
    }

    fn of(&self, what: &str) -> usize {
        self.0.get(what).map_or(0, Vec::len)
    }

    fn table(&self) -> String {
        let mut text = format!("{:>8} {:>8} {:>10} {:>10} {:>10}\n", "", "count", "p50 ms", "p99 ms", "most ms");
        for (what, times) in &self.0 {
            let mut times = times.clone();
            times.sort_unstable();
            let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
            let _ = writeln!(text, "{what:>8} {:>8} {:>10.1} {:>10.1} {:>10.1}", times.len(), at(50), at(99), at(100));
        }
        text
    }
}

/// A row of numbers that looks random; the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % end
    }
}

#[expect(clippy::disallowed_methods, reason = "a test that measures reads the clock")]
fn now() -> Instant {
    Instant::now()
}

const VAULTS: usize = 200;
const NEW_VAULTS_PER_HOUR_MAX: usize = 60;
const WORKERS: usize = 8;
/// A crashed vault is held for a minute after its third crash in a row.
const ATTEMPTS_MAX: u32 = 120;

//! Noisy neighbours: what a member whose vault is used now and then notices of others that work as hard as they can.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use strongroom_client::channel::{Connection, new_request_id};
use strongroom_client::generate;
use strongroom_client::wire::device::{DeviceAnswer, DeviceRequest, ItemEdit, ListQuery};
use strongroom_client::wire::guest::{Call, SignCall, UseCall};
use strongroom_client::wire::items::{FieldDraft, ItemDraft};
use strongroom_client::wire::policy::{ItemPolicy, KeyAlgorithm, KeyPolicy, KeyPurpose};
use strongroom_client::wire::{Bytes, Class, FieldName, ItemId, ItemType, Reference, SecretValue};
use strongroom_e2e::Place;
use strongroom_e2e::members::{Member, SharedFactors, ask};
use strongroom_e2e::processes::now;

use crate::Outcome;
use crate::figure::Figure;
use crate::machine;
use crate::times::{Times, rate, timed};

/// A vault with a key that signs and a note, and the sessions of its member.
struct Vault {
    member: Member,
    key: ItemId,
    note: ItemId,
    connections: Vec<Connection>,
}

/// What the noisy ones do.
#[derive(Clone, Copy)]
enum Noise {
    /// Signs and writes a little, in turn: many calls.
    Calls,
    /// Searches thousands of items: processor time.
    Searches,
    /// Writes as much as a request holds: the disk.
    Writes,
}

/// How the quiet ones fare alone, and beside each kind of noise.
pub(crate) fn figures() -> Outcome<Vec<Figure>> {
    let mut place = Place::new();
    place.serve(&[]);
    let (socket, factors) = (place.socket(), SharedFactors::derive()?);
    let vaults = |count, connections| {
        (0..count).map(|_| Vault::new(&socket, &factors, connections)).collect::<Outcome<Vec<Vault>>>()
    };
    let (mut quiet, mut noisy) = (vaults(QUIET, 1)?, vaults(NOISY, CONNECTIONS)?);
    for vault in &mut noisy {
        vault.fill(&factors)?;
    }
    let mut measure = |noise| measure(&mut quiet, &mut noisy, noise, &factors);
    // Once for the first time of everything.
    measure(None)?;
    let (alone, _) = measure(None)?;
    let mut figures = Vec::new();
    for (noise, what) in [
        (Noise::Calls, "that sign and write"),
        (Noise::Searches, "that search 5,000 items"),
        (Noise::Writes, "that write 300 KiB a time"),
    ] {
        let (beside, acts) = measure(Some(noise))?;
        let name = |which: &str| format!("sign in {QUIET} quiet vaults beside {NOISY} {what}, {which}");
        let floor = |which: &str| format!("the same without them, {which}");
        figures.extend([
            Figure::new(name("median"), beside.median_ms(), "ms").beside(floor("median"), alone.median_ms()),
            Figure::new(name("p99"), beside.p99_ms(), "ms").beside(floor("p99"), alone.p99_ms()),
            Figure::new(format!("what the {NOISY} {what} get done meanwhile"), acts, "/s"),
        ]);
    }
    place.stop();
    Ok(figures)
}

/// What signing takes in the quiet vaults, each once a second, and how many acts a second the noisy ones get done.
fn measure(
    quiet: &mut [Vault],
    noisy: &mut [Vault],
    noise: Option<Noise>,
    factors: &SharedFactors,
) -> Outcome<(Times, f64)> {
    let (over, acts) = (AtomicBool::new(false), AtomicU64::new(0));
    let (over, acts) = (&over, &acts);
    thread::scope(|scope| {
        let quiet: Vec<_> = quiet
            .iter_mut()
            .enumerate()
            .flat_map(|(number, vault)| vault.sessions().map(move |session| (number, session)))
            .map(|(number, mut session)| {
                scope.spawn(move || -> Outcome<Vec<Duration>> {
                    // Spread over the second, and not before the host has seen who is noisy.
                    thread::sleep(SETTLE + PERIOD * u32::try_from(number)? / u32::try_from(QUIET)?);
                    let (end, mut times) = (now() + LENGTH, Vec::new());
                    while now() < end {
                        let (took, ()) = timed(|| session.sign(factors))?;
                        times.push(took);
                        thread::sleep(PERIOD.saturating_sub(took));
                    }
                    Ok(times)
                })
            })
            .collect();
        let noisy: Vec<_> = noisy
            .iter_mut()
            .flat_map(Vault::sessions)
            .filter_map(|session| Some((noise?, session)))
            .map(|(noise, mut session)| {
                scope.spawn(move || -> Outcome<()> {
                    // The clients' own work is not what is measured.
                    rustix::process::setpriority_process(None, 19)?;
                    while !over.load(Ordering::Relaxed) {
                        session.make(noise, factors)?;
                        acts.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        thread::sleep(SETTLE);
        let before = acts.load(Ordering::Relaxed);
        thread::sleep(LENGTH);
        let done = acts.load(Ordering::Relaxed) - before;
        over.store(true, Ordering::Relaxed);
        let panicked = |_| "a thread panicked";
        let mut times = Vec::new();
        for thread in quiet {
            times.extend(thread.join().map_err(panicked)??);
        }
        for thread in noisy {
            thread.join().map_err(panicked)??;
        }
        Ok((Times::from(times), rate(usize::try_from(done)?, LENGTH)))
    })
}

/// One of a vault's sessions.
struct Session<'a> {
    member: &'a Member,
    key: ItemId,
    note: ItemId,
    connection: &'a mut Connection,
}

impl Vault {
    fn new(socket: &Path, factors: &SharedFactors, connections: usize) -> Outcome<Self> {
        let mut member = Member::found(socket, factors)?;
        let open = |member: &mut Member| -> Outcome<Connection> {
            let mut connection = member.connect(socket)?;
            member.unlock_over(&mut connection, factors)?;
            member.confirm_over(&mut connection)?;
            Ok(connection)
        };
        let mut connections = (0..connections).map(|_| open(&mut member)).collect::<Outcome<Vec<Connection>>>()?;
        let first = connections.first_mut().ok_or("a vault without sessions")?;
        let mut add = |draft| -> Outcome<ItemId> {
            match member.ask_fresh(first, factors, new_request_id(), &DeviceRequest::ItemAdd(draft))? {
                DeviceAnswer::Item(view) => Ok(view.summary.id),
                _ => Err("not an answer to item_add".into()),
            }
        };
        let key = add(draft(ItemType::SigningKey, "private_key", generate::ed25519_pem().private)?)?;
        let note = add(draft(ItemType::Note, "text", SecretValue::from("a note".to_owned()))?)?;
        Ok(Self { member, key, note, connections })
    }

    fn sessions(&mut self) -> impl Iterator<Item = Session<'_>> {
        let Self { member, key, note, connections } = self;
        let (member, key, note) = (&*member, *key, *note);
        connections.iter_mut().map(move |connection| Session { member, key, note, connection })
    }

    fn fill(&mut self, factors: &SharedFactors) -> Outcome<()> {
        let mut session = self.sessions().next().ok_or("a vault without sessions")?;
        for page in 0..ITEMS / ITEMS_A_REQUEST {
            let first = page * ITEMS_A_REQUEST;
            let drafts = (first..first + ITEMS_A_REQUEST).map(machine::login).collect::<Outcome<_>>()?;
            session.ask(factors, &DeviceRequest::ItemImport { drafts, dry_run: false, overwrite: false })?;
        }
        Ok(())
    }
}

impl Session<'_> {
    fn make(&mut self, noise: Noise, factors: &SharedFactors) -> Outcome<()> {
        match noise {
            Noise::Calls => {
                self.sign(factors)?;
                self.write(factors, 30)
            }
            Noise::Searches => {
                let query = ListQuery { search: Some("not to be found".to_owned()), ..ListQuery::default() };
                ask(self.connection, &DeviceRequest::ItemList(query)).map(drop)
            }
            Noise::Writes => self.write(factors, 300 * 1024),
        }
    }

    fn sign(&mut self, factors: &SharedFactors) -> Outcome<()> {
        let call = Call::Sign(SignCall::Message { message: Bytes::from(vec![7; MESSAGE_BYTES]) });
        let reference = Reference { item: self.key, field: FieldName::parse("private_key")? };
        match self.ask(factors, &DeviceRequest::Use(UseCall { reference, call }))? {
            DeviceAnswer::Used(_) => Ok(()),
            _ => Err("not a signature".into()),
        }
    }

    fn write(&mut self, factors: &SharedFactors, bytes: usize) -> Outcome<()> {
        let set = vec![field("text", SecretValue::new(vec![b'x'; bytes]))?];
        let item = self.note;
        let edit = ItemEdit { item, if_version: None, label: None, tags: None, set, remove: Vec::new(), policy: None };
        self.ask(factors, &DeviceRequest::ItemEdit(edit)).map(drop)
    }

    fn ask(&mut self, factors: &SharedFactors, request: &DeviceRequest) -> Outcome<DeviceAnswer> {
        self.member.ask_fresh(self.connection, factors, new_request_id(), request)
    }
}

fn draft(item_type: ItemType, name: &str, value: SecretValue) -> Outcome<ItemDraft> {
    let signs = KeyPolicy { purpose: KeyPurpose::Message, algorithm: KeyAlgorithm::Ed25519 };
    let key = (item_type == ItemType::SigningKey).then_some(signs);
    Ok(ItemDraft {
        item_type,
        label: name.to_owned(),
        tags: Vec::new(),
        fields: vec![field(name, value)?],
        policy: ItemPolicy { http: None, key },
        origin: None,
    })
}

fn field(name: &str, value: SecretValue) -> Outcome<FieldDraft> {
    Ok(FieldDraft { name: FieldName::parse(name)?, class: Class::Secret, value })
}

const QUIET: usize = 40;
const NOISY: usize = 4;
/// Of each noisy vault: a member may have five sessions.
const CONNECTIONS: usize = 4;
const ITEMS: usize = 5_000;
const ITEMS_A_REQUEST: usize = 250;
const MESSAGE_BYTES: usize = 300;
const PERIOD: Duration = Duration::from_secs(1);
const SETTLE: Duration = Duration::from_secs(5);
const LENGTH: Duration = Duration::from_secs(15);

//! Durable writes and the log, beside what bare commits cost on the same disk at the same time.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rusqlite::Connection;
use strongroom_client::Session;
use strongroom_client::audit::{self, Verifier};
use strongroom_client::crypto::digest::leaf_hash;
use strongroom_client::crypto::os_rng;
use strongroom_client::crypto::secret::VaultKey;
use strongroom_client::log::RootBuilder;
use strongroom_client::wire::device::{DeviceAnswer, DeviceRequest, ItemEdit, ListQuery, LogPosition, LoggedEvent};
use strongroom_client::wire::event::{Action, Actor, Event};
use strongroom_client::wire::items::FieldDraft;
use strongroom_client::wire::policy::Consumer;
use strongroom_client::wire::{
    Bytes, Class, FieldName, GrantId, GuestId, ItemId, Reference, SecretValue, Timestamp, VaultId,
};
use strongroom_core::ledger::Ledger;
use strongroom_core::records::{Storage as _, Table};
use strongroom_jail::Jail;
use strongroom_store::FileStore;
use tempfile::TempDir;

use crate::Outcome;
use crate::bare;
use crate::figure::Figure;
use crate::machine::{Machine, Passphrase};
use crate::peer::Peer;
use crate::times::{at_once, rate, timed};

/// With and without the vault's program around them.
pub(crate) fn figures(machine: &Machine, peer: &Peer) -> Outcome<Vec<Figure>> {
    let rules = jailed_rules()?;
    let mut figures = Vec::new();
    for (clients, records) in [(1, rules.record), (CLIENTS, rules.sixteen)] {
        let edits = edits(machine, clients)?;
        figures.push(
            Figure::new(format!("item update with its event, {clients} at once"), edits, "/s")
                .beside("bare SQLCipher, one row a commit, FULL", rules.sqlcipher)
                .ratio_at_least(0.75)
                .else_because(format!(
                    "Record and event alone are written at {records:.0}/s (next line). Around them an update takes two requests, \
                     one of them for the challenge, and the header is written after it, durably."
                )),
        );
        figures.push(
            Figure::new(format!("record and event of an update, {clients} a commit, no factor"), records, "/s")
                .beside("bare SQLCipher, one row a commit, FULL", rules.sqlcipher)
                .ratio_at_least(0.75)
                .else_because("Beside the log append, each record moves the state root, to which the event commits."),
        );
        if clients > 1 {
            figures.push(match peer.writes {
                Some(writes) => Figure::new(PEER_WRITES, edits, "/s")
                    .beside("rusty_vault 0.2.1 writes, unsynced, 16 connections", writes)
                    .ratio_at_least(1.0)
                    .else_because("As above."),
                None => Figure::not_measured(PEER_WRITES, "/s", "PEERS=1 installs the peer and measures it."),
            });
        }
    }
    figures.push(
        Figure::new("log append, durable", rules.event, "/s")
            .beside("bare SQLite, one row a transaction, FULL", rules.sqlite)
            .ratio_at_least(0.8)
            .else_because(format!(
                "Bare SQLCipher makes {:.0}/s; the rest is the event's JSON and hashes, and SQLCipher's wiping of what it \
                 allocates, which the bare one leaves out.",
                rules.sqlcipher
            )),
    );
    figures.extend(verify(machine)?);
    Ok(figures)
}

/// A database with one table, outside of any vault.
pub(crate) struct Bare {
    connection: Connection,
    next: i64,
    _folder: TempDir,
}

impl Bare {
    pub(crate) fn sqlite() -> Outcome<Self> {
        Self::open(None)
    }

    pub(crate) fn sqlcipher() -> Outcome<Self> {
        Self::open(Some(&"5a".repeat(48)))
    }

    fn open(key: Option<&str>) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let connection = bare::open(&folder.path().join("bare.db"), key)?;
        connection.execute_batch("CREATE TABLE rows (id INTEGER PRIMARY KEY, value BLOB NOT NULL)")?;
        Ok(Self { connection, next: 0, _folder: folder })
    }

    /// One row, durable when it returns.
    pub(crate) fn commit(&mut self) -> Outcome<()> {
        self.next += 1;
        let mut insert = self.connection.prepare_cached("INSERT INTO rows (id, value) VALUES (?1, ?2)")?;
        insert.execute((self.next, [7_u8; ROW_BYTES]))?;
        Ok(())
    }

    /// Many rows at once, to be read.
    pub(crate) fn fill(&mut self, rows: usize, bytes: usize) -> Outcome<()> {
        self.connection.execute_batch("BEGIN")?;
        for _ in 0..rows {
            self.next += 1;
            let mut insert = self.connection.prepare_cached("INSERT INTO rows (id, value) VALUES (?1, ?2)")?;
            insert.execute((self.next, vec![7; bytes]))?;
        }
        Ok(self.connection.execute_batch("COMMIT")?)
    }

    /// Every row's bytes, added up.
    pub(crate) fn scan(&self) -> Outcome<usize> {
        let mut select = self.connection.prepare_cached("SELECT value FROM rows")?;
        let rows = select.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
        let mut bytes = 0;
        for row in rows {
            bytes += row?.len();
        }
        Ok(bytes)
    }
}

/// Commits a second.
struct Rules {
    sqlite: f64,
    sqlcipher: f64,
    event: f64,
    record: f64,
    /// Records, sixteen a commit.
    sixteen: f64,
}

/// The rules in a process of their own, shut in as a vault process is.
fn jailed_rules() -> Outcome<Rules> {
    let folder = private_folder()?;
    let child = Command::new(std::env::current_exe()?)
        .arg(JAILED)
        .env("TMPDIR", folder.path())
        .current_dir(folder.path())
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8(child.stdout)?;
    let figures: Vec<f64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let &[sqlite, sqlcipher, event, record, sixteen] = figures.as_slice() else {
        return Err("the jailed process gave no figures".into());
    };
    Ok(Rules { sqlite, sqlcipher, event, record, sixteen })
}

/// What the jailed process does.
pub(crate) fn print_rules() -> Outcome<()> {
    Jail::vault(std::env::current_dir()?).apply()?;
    let Rules { sqlite, sqlcipher, event, record, sixteen } = rules()?;
    println!("{sqlite} {sqlcipher} {event} {record} {sixteen}");
    Ok(())
}

/// The rules' ledger over the store, in turn with the floors, so that each sees the disk as the others do.
fn rules() -> Outcome<Rules> {
    let (mut sqlite, mut sqlcipher, mut book) = (Bare::sqlite()?, Bare::sqlcipher()?, Book::new()?);
    let mut took = [Duration::ZERO; 5];
    for _ in 0..ROUNDS {
        let mut repeat = |at: usize, act: &mut dyn FnMut() -> Outcome<()>| -> Outcome<()> {
            took[at] += timed(|| (0..COMMITS).try_for_each(|_| act()))?.0;
            Ok(())
        };
        repeat(0, &mut || sqlite.commit())?;
        repeat(1, &mut || sqlcipher.commit())?;
        repeat(2, &mut || book.write(0, 1))?;
        repeat(3, &mut || book.write(1, 1))?;
        repeat(4, &mut || book.write(1, CLIENTS))?;
    }
    let [sqlite, sqlcipher, event, record, sixteen] = took.map(|took| rate(ROUNDS * COMMITS, took));
    Ok(Rules { sqlite, sqlcipher, event, record, sixteen: sixteen * 16.0 })
}

/// A folder as the store takes it: open to its owner alone.
pub(crate) fn private_folder() -> Outcome<TempDir> {
    let only_mine = std::fs::Permissions::from_mode(0o700);
    Ok(tempfile::Builder::new().permissions(only_mine).tempdir()?)
}

/// A ledger in a folder of its own.
struct Book {
    store: FileStore,
    ledger: Ledger,
    number: u64,
    _folder: TempDir,
}

impl Book {
    fn new() -> Outcome<Self> {
        let folder = private_folder()?;
        let key = VaultKey::generate(&mut os_rng());
        let mut store = FileStore::open(folder.path())?;
        store.create_database(&key.derive_database_key(&[1; 16], 1))?;
        let ledger = Ledger::empty(VaultId([1; 16]), key.derive_state_key(&[1; 16], 1));
        Ok(Self { store, ledger, number: 0, _folder: folder })
    }

    /// So many acts in one commit, each of so many records and an event.
    fn write(&mut self, records: usize, acts: usize) -> Outcome<()> {
        let Self { store, ledger, number, .. } = self;
        for _ in 0..acts {
            let mark = ledger.mark(store)?;
            for _ in 0..records {
                // A hundred of them, over and over: an update.
                let key = (*number % 100).to_be_bytes();
                *number += 1;
                ledger.put_bytes(store, Table::Items, &key, &[7; ROW_BYTES])?;
            }
            ledger.log(store, event(*number)?, &mut os_rng())?;
            ledger.keep(store, &mark)?;
        }
        Ok(ledger.commit(store)?)
    }
}

/// An event of an ordinary use.
fn event(number: u64) -> Outcome<Event> {
    let mut event =
        Event::new(Timestamp(1_760_000_000_000 + number), Actor::Guest(GuestId([1; 16])), Action::UseIntent);
    event.reference = Some(Reference { item: ItemId([2; 16]), field: FieldName::parse("private_key")? });
    event.field_version = Some(1);
    event.consumer = Some(Consumer::Sign);
    event.destination = Some("message".to_owned());
    event.grant = Some(GrantId([3; 16]));
    event.state = Bytes::from([4; 32]);
    Ok(event)
}

/// Item updates a second, through the running server.
fn edits(machine: &Machine, clients: usize) -> Outcome<f64> {
    let answer = Session::new(&machine.profile, &mut Passphrase).ask(&DeviceRequest::ItemList(ListQuery::default()))?;
    let DeviceAnswer::Items { items, .. } = answer else { return Err("not an answer to item_list".into()) };
    let (rate, _) = at_once(clients, LENGTH, |number, turn| {
        let mut passphrase = Passphrase;
        let mut session = Session::new(&machine.profile, &mut passphrase);
        let item = items.get(number).ok_or("too few items")?.id;
        let mut count = 0;
        let mut edit = || {
            count += 1;
            let set = vec![FieldDraft {
                name: FieldName::parse("password")?,
                class: Class::Secret,
                value: SecretValue::from(format!("a password of ordinary length {count}")),
            }];
            let edit =
                ItemEdit { item, if_version: None, label: None, tags: None, set, remove: Vec::new(), policy: None };
            session.ask(&DeviceRequest::ItemEdit(edit))?;
            Ok(())
        };
        // The first one stretches the passphrase.
        edit()?;
        turn.repeat(edit)
    })?;
    Ok(rate)
}

/// A million generated events, with the code of `audit verify`; and the log that this bench has left.
fn verify(machine: &Machine) -> Outcome<[Figure; 2]> {
    let seen = LogPosition::default();
    let mut verifier = Verifier::new(&seen);
    let mut floor = RootBuilder::default();
    let (mut checking, mut hashing) = (Duration::ZERO, Duration::ZERO);
    for page in 0..EVENTS / 1_000 {
        let leaves = (page * 1_000..(page + 1) * 1_000)
            .map(|index| Ok((index, event(index)?.to_leaf(&[5; 16]))))
            .collect::<Outcome<Vec<_>>>()?;
        let logged: Vec<LoggedEvent> = leaves
            .iter()
            .map(|(index, leaf)| LoggedEvent {
                index: *index,
                leaf: Some(Bytes::from(leaf.as_slice())),
                hash: Bytes::from(leaf_hash(leaf)),
            })
            .collect();
        checking += timed(|| Ok(logged.iter().try_for_each(|event| verifier.push(event))?))?.0;
        hashing += timed(|| {
            leaves.iter().for_each(|(_, leaf)| floor.push(leaf_hash(leaf)));
            Ok(())
        })?
        .0;
    }
    verifier.finish(&LogPosition { size: floor.size(), root: Bytes::from(floor.root()) })?;
    let generated = Figure::new("verifying 1,000,000 events", checking.as_secs_f64(), "s")
        .beside("their hashes alone", hashing.as_secs_f64())
        .at_most(3.0)
        .else_because("What is left after the hashes is reading each event's JSON for its time.");

    let mut passphrase = Passphrase;
    let mut session = Session::new(&machine.profile, &mut passphrase);
    let (took, verified) = timed(|| Ok(audit::verify_all(&mut session, &mut |_, _| {})?))?;
    let events = f64::from(u32::try_from(verified.position.size)?);
    let fetched = Figure::new(
        format!("audit verify of the {events} events here, per 1,000,000"),
        took.as_secs_f64() * 1e6 / events,
        "s",
    )
    .beside("their hashes alone", hashing.as_secs_f64());
    Ok([generated, fetched])
}

const PEER_WRITES: &str = "item update, 16 at once, beside a peer's write";
/// The argument of the jailed process.
pub(crate) const JAILED: &str = "jailed-rules";
const CLIENTS: usize = 16;
const ROW_BYTES: usize = 300;
const ROUNDS: usize = 5;
const COMMITS: usize = 400;
const EVENTS: u64 = 1_000_000;
const LENGTH: Duration = Duration::from_secs(5);

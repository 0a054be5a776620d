//! A process that is killed at any moment: what it acknowledged is there, and nothing shows that was half-written.
//!
//! A killed process keeps what the kernel has taken from it, so this finds wrong orders between files and inside them, but
//! no missing sync; the simulator's disk loses unsynced writes. `STORE_CRASH_ROUNDS` sets how often each is killed.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test program")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use strongroom_core::records::{HeaderCopy, Storage, Table};
use strongroom_store::{FileStore, StoreError};
use strongroom_wire::DeviceId;
use support::{Dice, ITEMS, Place, append, child, fill, key, key_of_generation, role};

const DEVICE: DeviceId = DeviceId([5; 16]);
const REKEYED_RECORDS: u64 = 300;

#[test]
fn commits() {
    let place = Place::new();
    place.created();
    let mut last = 0;
    for round in 0..rounds() {
        let acknowledged = run_and_kill("commits", place.path(), 100 + round, 40).max(last);
        let mut store = place.opened();
        last = check_commits(&mut store);
        assert!(last == acknowledged || last == acknowledged + 1, "{last} after {acknowledged} were acknowledged");
    }
    assert!(last > 0, "the children got nowhere");
}

#[test]
fn headers_chains_and_tail() {
    let place = Place::new();
    let mut last = 0;
    for round in 0..rounds() {
        let acknowledged = run_and_kill("files", place.path(), 200 + round, 60).max(last);
        last = check_files(&mut place.store(), acknowledged);
    }
    assert!(last > 0, "the children got nowhere");
}

#[test]
fn changes_of_key() {
    let place = Place::new();
    fill(&mut place.created(), REKEYED_RECORDS, 400);
    let mut last = 1;
    for round in 0..rounds() {
        let acknowledged = run_and_kill("rekey", place.path(), 300 + round, 150).max(last);
        // The header holds both keys until the change is done; the new one is tried first.
        let mut store = place.store();
        assert_eq!(place.names().iter().filter(|name| name.contains(".new")).count(), 0);
        last = match store.open_database(&rekey_key(acknowledged + 1)) {
            Ok(()) => acknowledged + 1,
            Err(error) => {
                assert!(matches!(error, StoreError::Damaged(_)), "{error}");
                store.open_database(&rekey_key(acknowledged)).unwrap();
                acknowledged
            }
        };
        let records = store.scan(ITEMS, b"", None, usize::MAX).unwrap();
        assert_eq!(records.len() as u64, REKEYED_RECORDS);
        assert!(records.iter().all(|(key, record)| record.len() == 400 && record[0] == key[7]));
        // A write under the key, so that a log lies beside the file when the next change begins.
        store.begin().unwrap();
        store.put(Table::Settings, b"key", &last.to_be_bytes()).unwrap();
        store.commit().unwrap();
    }
    assert!(last > 1, "the children got nowhere");
}

#[test]
fn the_making_of_a_database() {
    for round in 0..rounds().min(10) {
        let place = Place::new();
        let acknowledged = run_and_kill("create", place.path(), 400 + round, 30);
        let mut store = place.store();
        match store.open_database(&key(1)) {
            Ok(()) => assert_eq!(store.count(ITEMS), Ok(0)),
            Err(error) => assert_eq!((error, acknowledged), (StoreError::Missing, 0)),
        }
    }
}

#[test]
#[ignore = "run by the tests above, in a process of its own"]
fn child_process() {
    let Some((role, folder)) = role() else { return };
    let mut store = support::open(&folder);
    match role.as_str() {
        "commits" => commit_forever(&mut store),
        "files" => write_files_forever(&mut store),
        "rekey" => rekey_forever(&mut store),
        _ => {
            say("ready");
            store.create_database(&key(1)).unwrap();
            loop {
                acknowledge(1);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Each commit counts three tables and the log up by one, and takes one record back.
fn commit_forever(store: &mut FileStore) {
    store.open_database(&key(1)).unwrap();
    let last = check_commits(store);
    say("ready");
    for number in last + 1.. {
        store.begin().unwrap();
        store.put(ITEMS, b"count", &number.to_be_bytes()).unwrap();
        store.mark().unwrap();
        store.put(Table::History, &number.to_be_bytes(), &vec![number as u8; (number % 7) as usize * 1_500]).unwrap();
        store.release().unwrap();
        store.mark().unwrap();
        store.put(Table::Grants, b"never", b"taken back").unwrap();
        store.take_back().unwrap();
        append(store, &[number as u8; 300]);
        store.commit().unwrap();
        acknowledge(number);
    }
}

/// The number of the last commit, after a look at everything it wrote.
fn check_commits(store: &mut FileStore) -> u64 {
    let last = store.get(ITEMS, b"count").unwrap().map_or(0, |count| u64::from_be_bytes(count.try_into().unwrap()));
    assert_eq!(store.count(Table::History), Ok(last));
    for (number, (key, record)) in (1..).zip(store.scan(Table::History, b"", None, usize::MAX).unwrap()) {
        let number: u64 = number;
        assert_eq!(key, number.to_be_bytes());
        assert_eq!(record, vec![number as u8; (number % 7) as usize * 1_500]);
    }
    assert_eq!(store.count(Table::Grants), Ok(0));
    assert_eq!(store.log_size(), Ok(last));
    assert_eq!(store.leaves(0, u64::MAX).unwrap().len() as u64, last);
    last
}

/// Number n goes to both headers in turn, to the chain and to the tail.
fn write_files_forever(store: &mut FileStore) {
    let last = check_files(store, 0);
    say("ready");
    for number in last + 1.. {
        let copy = if number % 2 == 0 { HeaderCopy::A } else { HeaderCopy::B };
        store.write_header(copy, &numbered(number, 20_000)).unwrap();
        store.write_chain(DEVICE, &numbered(number, 9_000)).unwrap();
        if number % 50 == 0 {
            store.clear_tail().unwrap();
        }
        store.append_tail(&numbered(number, 100)).unwrap();
        acknowledge(number);
    }
}

fn check_files(store: &mut FileStore, acknowledged: u64) -> u64 {
    let number_of = |bytes: Option<Vec<u8>>, length: usize| {
        bytes.map_or(0, |bytes| {
            let number = u64::from_be_bytes(bytes[..8].try_into().unwrap());
            assert_eq!(bytes, numbered(number, length));
            number
        })
    };
    let (a, b) = (
        number_of(store.read_header(HeaderCopy::A).unwrap(), 20_000),
        number_of(store.read_header(HeaderCopy::B).unwrap(), 20_000),
    );
    let header = a.max(b);
    assert!(header == 0 || a.min(b) == header - 1);
    let chain = number_of(store.read_chain(DEVICE).unwrap(), 9_000);
    let tail = store.read_tail().unwrap();
    // The last entry may be there in part; it is cut off, as core does.
    let whole = tail.len() / 100 * 100;
    store.cut_tail(whole as u64).unwrap();
    let entries: Vec<u64> = tail[..whole].chunks(100).map(|entry| number_of(Some(entry.to_vec()), 100)).collect();
    assert!(entries.windows(2).all(|pair| pair[1] == pair[0] + 1), "{entries:?}");
    let entry = entries.last().copied().unwrap_or(chain.saturating_sub(1));
    assert!(header >= chain && chain >= entry && header <= entry + 1, "{header} {chain} {entry}");
    if acknowledged > 0 {
        assert!(entry >= acknowledged && header <= acknowledged + 1, "{header} {entry} after {acknowledged}");
    }
    // What was not acknowledged is done again, so that the three stay in step.
    if header > entry {
        store.write_chain(DEVICE, &numbered(header, 9_000)).unwrap();
        store.append_tail(&numbered(header, 100)).unwrap();
    }
    header
}

fn rekey_forever(store: &mut FileStore) {
    let first = (1..).find(|number| store.open_database(&rekey_key(*number)).is_ok()).unwrap();
    say("ready");
    for number in first + 1_u64.. {
        store.rekey_database(&rekey_key(number)).unwrap();
        acknowledge(number);
    }
}

fn rekey_key(number: u64) -> strongroom_crypto::secret::DatabaseKey {
    key_of_generation(u32::try_from(number).expect("a child is killed long before"))
}

fn numbered(number: u64, length: usize) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.resize(length, number as u8);
    bytes
}

fn acknowledge(number: u64) {
    say(&format!("done {number}"));
}

fn say(line: &str) {
    // A whole line, past any buffer: a broken pipe means that the parent is gone.
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).unwrap();
}

/// Lets a child work for a random time, kills it, and answers the last number that it acknowledged.
fn run_and_kill(role: &str, folder: &Path, seed: u64, millis_max: u64) -> u64 {
    let mut dice = Dice(seed);
    let mut child = child("child_process", role, folder).spawn().unwrap();
    let out = child.stdout.take().unwrap();
    let (ready, begun) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut last = 0;
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if line == "ready" {
                // The parent may have stopped waiting.
                let _ = ready.send(());
            }
            last = line.strip_prefix("done ").map_or(last, |number| number.parse().unwrap());
        }
        last
    });
    // Mostly in the middle of its work, and now and then while it starts.
    if dice.roll(6) > 0 {
        begun.recv_timeout(Duration::from_secs(60)).unwrap();
    }
    std::thread::sleep(Duration::from_micros(dice.roll(millis_max * 1_000)));
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    reader.join().unwrap()
}

fn rounds() -> u64 {
    std::env::var("STORE_CRASH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(30)
}

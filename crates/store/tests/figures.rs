//! How fast it is, beside what a bare SQLCipher commit costs on the same disk at the same time. Run by hand:
//! `cargo test --release -p strongroom-store --test figures -- --ignored --nocapture`
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test program")]
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "it measures time and prints it")]

mod support;

use std::time::{Duration, Instant};

use rusqlite::Connection;
use strongroom_core::records::Storage;
use support::{ITEMS, Place, append, fill, key};

const COMMITS: u64 = 2_000;

#[test]
#[ignore = "prints figures"]
fn figures() {
    let place = Place::new();
    let bare = bare(&place);
    let one_row = bare.prepare("INSERT INTO rows (id, value) VALUES (?1, ?2)").map(|mut statement| {
        each("bare SQLCipher, one 300-byte row a commit", COMMITS, |number| {
            statement.execute((number.cast_signed(), [7_u8; 300])).unwrap();
        })
    });
    drop(bare);

    let vault = Place::new();
    let mut store = vault.created();
    fill(&mut store, 100, 300);
    let item = each("put + append_leaf + commit", COMMITS, |number| {
        store.begin().unwrap();
        store.put(ITEMS, &number.to_be_bytes(), &[8; 300]).unwrap();
        append(&mut store, &[9; 300]);
        store.commit().unwrap();
    });
    let leaf = each("append_leaf + commit", COMMITS, |_| {
        store.begin().unwrap();
        append(&mut store, &[9; 300]);
        store.commit().unwrap();
    });
    let one_row = one_row.unwrap();
    println!("  {:.2} and {:.2} of the bare rate", ratio(one_row, item), ratio(one_row, leaf));
    each("16 × (put + append_leaf) + commit", COMMITS / 16, |number| {
        store.begin().unwrap();
        for part in 0..16 {
            store.mark().unwrap();
            store.put(ITEMS, &(number * 16 + part).to_be_bytes(), &[8; 300]).unwrap();
            append(&mut store, &[9; 300]);
            store.release().unwrap();
        }
        store.commit().unwrap();
    });
    each("get", 20_000, |number| drop(store.get(ITEMS, &(number % 2_000).to_be_bytes()).unwrap()));
    drop(store);

    let small = Place::new();
    fill(&mut small.created(), 100, 300);
    let mut store = small.store();
    each("open, 100 records (and close)", 200, |_| store.open_database(&key(1)).unwrap());
    println!("  resident: {}", resident());
    each("quick_check, 100 records", 50, |_| check(&small, &mut store));
    each("header replaced", 200, |_| {
        store.write_header(strongroom_core::records::HeaderCopy::A, &[1; 8192]).unwrap();
    });

    let large = Place::new();
    fill(&mut large.created(), 10_000, 400);
    let mut store = large.store();
    each("open, 10,000 records (and close)", 50, |_| store.open_database(&key(1)).unwrap());
    each("scan of 10,000 records of 400 bytes", 20, |_| {
        assert_eq!(store.scan(ITEMS, b"", None, 10_000).unwrap().len(), 10_000);
    });
    each("quick_check, 10,000 records", 5, |_| check(&large, &mut store));
    each("change of key, 10,000 records", 5, |number| {
        store.open_database(&key(1 + number as u8)).unwrap();
        store.rekey_database(&key(2 + number as u8)).unwrap();
    });

    let logged = Place::new();
    let mut store = logged.created();
    each("100,000 leaves in commits of 1,000", 100, |_| {
        store.begin().unwrap();
        (0..1_000).for_each(|_| append(&mut store, &[9; 300]));
        store.commit().unwrap();
    });
    each("leaf_hashes of 1,000", 100, |number| drop(store.leaf_hashes(number * 1_000, 1_000).unwrap()));
    each("leaves of 1,000", 100, |number| drop(store.leaves(number * 1_000, 1_000).unwrap()));
    each("nodes of an inclusion proof", 2_000, |number| drop(store.nodes(&[number, number * 50, 199_000]).unwrap()));
    println!("  resident: {}", resident());
}

fn bare(place: &Place) -> Connection {
    let bare = Connection::open(place.file("bare.db")).unwrap();
    bare.execute_batch(&format!(
        "PRAGMA cipher_log_level = NONE; PRAGMA key = \"x'{}'\"; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE rows (id INTEGER PRIMARY KEY, value BLOB NOT NULL)",
        *key(1).expose_hex()
    ))
    .unwrap();
    bare
}

/// What a check of the whole file would cost at open. It is not part of the store, so it opens the file by itself.
fn check(place: &Place, store: &mut impl Storage) {
    store.close_database();
    let bare = Connection::open(place.file("vault.db")).unwrap();
    bare.execute_batch(&format!("PRAGMA key = \"x'{}'\"", *key(1).expose_hex())).unwrap();
    let verdict: String = bare.query_row("PRAGMA quick_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
}

/// Prints median and 99th percentile, and answers the mean.
fn each(what: &str, times: u64, mut act: impl FnMut(u64)) -> Duration {
    let mut took: Vec<Duration> = (0..times)
        .map(|number| {
            let start = Instant::now();
            act(number);
            start.elapsed()
        })
        .collect();
    let mean = took.iter().sum::<Duration>() / u32::try_from(times).unwrap();
    took.sort();
    let (median, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    println!("{what}: {:.0}/s, p50 {median:.1?}, p99 {p99:.1?}", 1.0 / mean.as_secs_f64());
    mean
}

fn ratio(floor: Duration, ours: Duration) -> f64 {
    floor.as_secs_f64() / ours.as_secs_f64()
}

fn resident() -> String {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let line = |name: &str| rollup.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    format!("{}; {}", line("Private_Dirty:"), line("Locked:"))
}

//! Whatever was done to the files: a clear error, never a wrong answer and never a wait.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test program")]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{FileType, Mode};
use strongroom_core::records::{HeaderCopy, Storage, Table};
use strongroom_store::{FileStore, StoreError};
use strongroom_wire::{DeviceId, limits};
use support::{Dice, ITEMS, Place, append, fill, key, put};

const PAGE: usize = 4096;
const RECORDS: u64 = 200;

type Answer = Vec<(Vec<u8>, Vec<u8>)>;

#[test]
fn a_changed_byte_is_found() {
    let (place, whole, bytes) = vault();
    let mut dice = Dice(1);
    for round in 0..60 {
        let mut changed = bytes.clone();
        // Each of the first pages once, then anywhere.
        let at = if round < 20 { round * PAGE + 100 } else { dice.roll(bytes.len() as u64) as usize };
        changed[at] ^= 1 << dice.roll(8);
        assert!(damage_shows(&place, &changed, &whole), "byte {at}");
    }
}

#[test]
fn a_file_cut_short_is_found() {
    let (place, whole, bytes) = vault();
    let mut lengths: Vec<usize> = (0..bytes.len() / PAGE).map(|pages| pages * PAGE).collect();
    lengths.extend([1, 15, 16, 100, 1023, PAGE - 1, PAGE + 1, bytes.len() - 1]);
    for length in lengths {
        // A page that is missing is as zero as one that was never written; no table's page is.
        assert!(damage_shows(&place, &bytes[..length], &whole), "{length} of {} bytes", bytes.len());
    }
}

#[test]
fn pages_that_changed_places_are_found() {
    let (place, whole, bytes) = vault();
    let pages = bytes.len() / PAGE;
    let mut dice = Dice(2);
    for _ in 0..40 {
        let (a, b) = (dice.roll(pages as u64) as usize, dice.roll(pages as u64) as usize);
        let mut changed = bytes.clone();
        changed[a * PAGE..][..PAGE].copy_from_slice(&bytes[b * PAGE..][..PAGE]);
        changed[b * PAGE..][..PAGE].copy_from_slice(&bytes[a * PAGE..][..PAGE]);
        assert!(damage_shows(&place, &changed, &whole) || a == b, "pages {a} and {b}");
    }
}

/// SQLCipher takes an older page of the same file for genuine. What is read then is the older page or an error, and nothing
/// that was never written; `core` finds the rest by its state root.
#[test]
fn an_older_page_gives_older_records_or_an_error() {
    let (place, before, older) = vault();
    let mut store = place.opened();
    for number in 0..RECORDS {
        put(&mut store, &number.to_be_bytes(), b"newer");
    }
    let after = all(&mut store).unwrap();
    drop(store);
    let newer = fs::read(place.file("vault.db")).unwrap();
    for page in 0..older.len() / PAGE {
        let mut mixed = newer.clone();
        mixed[page * PAGE..][..PAGE].copy_from_slice(&older[page * PAGE..][..PAGE]);
        match read(&place, &mixed) {
            Ok(answer) => {
                assert!(answer.iter().all(|record| before.contains(record) || after.contains(record)), "page {page}");
            }
            Err(error) => assert!(matches!(error, StoreError::Damaged(_)), "{error}"),
        }
    }
}

#[test]
fn a_file_that_never_was_a_database_is_refused() {
    let place = Place::new();
    let mut plain = b"SQLite format 3\0".to_vec();
    plain.resize(2 * PAGE, 0);
    for bytes in [&b""[..], b"x", &[0; 2 * PAGE], &[7; 3 * PAGE + 5], &plain] {
        let refused = read(&place, bytes).unwrap_err();
        assert!(matches!(refused, StoreError::Damaged(_)), "{refused}");
    }
}

#[test]
fn a_write_ahead_log_of_another_vault_is_refused_or_ignored() {
    let (place, whole, _) = vault();
    let other = Place::new();
    let mut store = other.store();
    store.create_database(&key(2)).unwrap();
    put(&mut store, b"foreign", b"foreign");
    fs::copy(other.file("vault.db-wal"), place.file("vault.db-wal")).unwrap();
    let mut attacked = place.store();
    match attacked.open_database(&key(1)).and_then(|()| all(&mut attacked)) {
        Ok(answer) => assert_eq!(answer, whole),
        Err(error) => assert!(matches!(error, StoreError::Damaged(_)), "{error}"),
    }
    drop(attacked);
    // Removed again, nothing of it is left.
    fs::remove_file(place.file("vault.db-wal")).unwrap();
    assert_eq!(all(&mut place.opened()), Ok(whole));
}

#[test]
fn a_write_ahead_log_from_another_time_gives_no_record_that_never_was() {
    let place = Place::new();
    let mut store = place.created();
    put(&mut store, b"key", b"first");
    let older = fs::read(place.file("vault.db-wal")).unwrap();
    put(&mut store, b"key", b"second");
    drop(store);
    let mut store = place.opened();
    put(&mut store, b"key", b"third");
    drop(store);
    fs::write(place.file("vault.db-wal"), older).unwrap();
    let mut store = place.store();
    let read = store.open_database(&key(1)).and_then(|()| store.get(ITEMS, b"key"));
    match read {
        Ok(record) => assert!([&b"first"[..], b"third"].contains(&record.unwrap().as_slice())),
        Err(error) => assert!(matches!(error, StoreError::Damaged(_)), "{error}"),
    }
}

#[test]
fn without_its_write_ahead_log_the_database_is_as_it_was_before() {
    let (place, whole, _) = vault();
    // A copy of the folder in mid-flight, as a crash leaves it.
    let crashed = Place::new();
    let mut store = place.opened();
    put(&mut store, b"key", b"only in the log");
    fs::copy(place.file("vault.db"), crashed.file("vault.db")).unwrap();
    let mut copy = crashed.opened();
    assert_eq!(all(&mut copy), Ok(whole));
}

#[test]
fn damage_in_the_write_ahead_log_costs_at_most_what_follows_it() {
    let place = Place::new();
    let mut store = place.created();
    for number in 0..20_u64 {
        put(&mut store, &number.to_be_bytes(), b"record");
    }
    let (file, log) = (fs::read(place.file("vault.db")).unwrap(), fs::read(place.file("vault.db-wal")).unwrap());
    drop(store);
    let mut dice = Dice(3);
    for round in 0..40 {
        let mut changed = log.clone();
        if round % 2 == 0 {
            changed[dice.roll(log.len() as u64) as usize] ^= 1 << dice.roll(8);
        } else {
            changed.truncate(dice.roll(log.len() as u64) as usize);
        }
        let crashed = Place::new();
        fs::write(crashed.file("vault.db"), &file).unwrap();
        fs::write(crashed.file("vault.db-wal"), &changed).unwrap();
        let mut store = crashed.opened();
        let records = all(&mut store).unwrap();
        let expected: Answer =
            (0..records.len() as u64).map(|number| (number.to_be_bytes().to_vec(), b"record".to_vec())).collect();
        assert_eq!(records, expected);
    }
}

#[test]
fn a_rollback_journal_is_not_played_back() {
    let (place, whole, older) = vault();
    let mut store = place.opened();
    put(&mut store, b"key", b"newer");
    drop(store);
    // A journal that would put every older page back.
    let mut journal = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7, 0xff, 0xff, 0xff, 0xff].to_vec();
    journal.extend([0; 4]);
    journal.extend(u32::try_from(older.len() / PAGE).unwrap().to_be_bytes());
    journal.extend(512_u32.to_be_bytes());
    journal.extend(4096_u32.to_be_bytes());
    journal.resize(512, 0);
    for (number, page) in older.chunks(PAGE).enumerate() {
        let sum: u32 = (1..=PAGE / 200).map(|k| u32::from(page[PAGE - 200 * k])).sum();
        journal.extend((number as u32 + 1).to_be_bytes());
        journal.extend(page);
        journal.extend(sum.to_be_bytes());
    }
    fs::write(place.file("vault.db-journal"), journal).unwrap();
    let mut store = place.opened();
    assert_eq!(store.get(ITEMS, b"key"), Ok(Some(b"newer".to_vec())));
    assert_eq!(all(&mut store).unwrap().len(), whole.len() + 1);
    assert!(!place.file("vault.db-journal").exists());
}

#[test]
fn a_database_that_is_gone_is_missing() {
    let (place, ..) = vault();
    let mut store = place.opened();
    fs::rename(place.file("vault.db"), place.file("elsewhere")).unwrap();
    // Also while it is open: what would be written now would be lost.
    assert_eq!(store.begin(), Err(StoreError::Missing));
    fs::copy(place.file("elsewhere"), place.file("vault.db")).unwrap();
    assert_eq!(store.begin(), Err(StoreError::Missing));
    store.close_database();
    fs::remove_file(place.file("vault.db")).unwrap();
    assert_eq!(store.open_database(&key(1)), Err(StoreError::Missing));
    assert!(!place.file("vault.db").exists());
}

#[test]
fn links_and_fifos_are_refused() {
    let (place, ..) = vault();
    let device = DeviceId([3; 16]);
    let mut store = place.store();
    store.write_chain(device, b"chain").unwrap();
    let chain = format!("chains/{device}");
    fs::rename(place.file("vault.db"), place.file("real")).unwrap();
    for plant in [plant_link, plant_fifo, plant_folder] {
        for name in ["vault.db", "header.a", "tail", &chain] {
            let file = place.file(name);
            remove_any(&file);
            plant(&file, &place.file("real"));
            let damaged = |error: StoreError| matches!(error, StoreError::Damaged(_));
            match name {
                "vault.db" => assert!(damaged(store.open_database(&key(1)).unwrap_err())),
                "header.a" => assert!(damaged(store.read_header(HeaderCopy::A).unwrap_err())),
                "tail" => {
                    assert!(damaged(store.read_tail().unwrap_err()));
                    assert!(damaged(store.append_tail(b"entry").unwrap_err()));
                    assert!(damaged(store.clear_tail().unwrap_err()));
                }
                _ => assert!(damaged(store.read_chain(device).unwrap_err())),
            }
            remove_any(&file);
        }
        // And the log beside a database that is in order.
        fs::copy(place.file("real"), place.file("vault.db")).unwrap();
        plant(&place.file("vault.db-wal"), &place.file("real"));
        assert!(matches!(store.open_database(&key(1)), Err(StoreError::Damaged(_))));
        remove_any(&place.file("vault.db-wal"));
        remove_any(&place.file("vault.db"));
    }
    fs::rename(place.file("chains"), place.file("real chains")).unwrap();
    symlink(place.file("real chains"), place.file("chains")).unwrap();
    assert!(matches!(store.read_chain(device), Err(StoreError::Damaged(_))));
    assert!(matches!(store.write_chain(device, b"x"), Err(StoreError::Damaged(_))));
    drop(store);
    assert!(matches!(FileStore::open(place.path()), Err(StoreError::Damaged(_))));
}

#[test]
fn a_header_is_written_over_a_link_and_not_through_it() {
    let place = Place::new();
    let outside = Place::new();
    fs::write(outside.file("target"), b"untouched").unwrap();
    let mut store = place.store();
    for name in ["header.a", "header.a.new"] {
        symlink(outside.file("target"), place.file(name)).unwrap();
        store.write_header(HeaderCopy::A, b"header").unwrap();
        assert_eq!(store.read_header(HeaderCopy::A), Ok(Some(b"header".to_vec())));
    }
    assert_eq!(fs::read(outside.file("target")).unwrap(), b"untouched");
}

#[test]
fn files_beyond_their_limits_are_neither_written_nor_read() {
    let place = Place::new();
    let mut store = place.store();
    let too_long = vec![0; limits::HEADER_BYTES_MAX + 1];
    store.write_header(HeaderCopy::B, &too_long[1..]).unwrap();
    assert!(matches!(store.write_header(HeaderCopy::B, &too_long), Err(StoreError::Failed(_))));
    assert_eq!(store.read_header(HeaderCopy::B).unwrap().unwrap().len(), limits::HEADER_BYTES_MAX);
    for name in ["header.b", "tail"] {
        fs::File::create(place.file(name)).unwrap().set_len(1 << 40).unwrap();
    }
    assert!(matches!(store.read_header(HeaderCopy::B), Err(StoreError::Damaged(_))));
    assert!(matches!(store.read_tail(), Err(StoreError::Damaged(_))));
    assert!(matches!(store.append_tail(b"x"), Err(StoreError::Failed(_))));
}

#[test]
fn a_folder_that_others_may_read_is_refused() {
    let place = Place::new();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o750)).unwrap();
    assert!(matches!(FileStore::open(place.path()), Err(StoreError::Failed(_))));
    assert!(FileStore::open(&place.file("nowhere")).is_err());
}

#[test]
fn files_are_for_their_owner_only_and_left_overs_go() {
    let place = Place::new();
    fs::create_dir(place.file("chains")).unwrap();
    for name in ["header.a.new", "vault.db.new", "vault.db.new-wal", "vault.db.new-journal", "chains/abc.new"] {
        fs::write(place.file(name), b"half").unwrap();
    }
    let mut store = place.created();
    store.write_header(HeaderCopy::A, b"header").unwrap();
    store.write_chain(DeviceId([1; 16]), b"chain").unwrap();
    store.append_tail(b"tail").unwrap();
    put(&mut store, b"key", b"record");
    // No shared memory: SQLite keeps that index in its heap.
    assert_eq!(place.names(), ["chains", "header.a", "tail", "vault.db", "vault.db-wal"]);
    assert_eq!(fs::read_dir(place.file("chains")).unwrap().count(), 1);
    for name in ["header.a", "tail", "vault.db", "vault.db-wal"] {
        assert_eq!(fs::metadata(place.file(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    store.rekey_database(&key(2)).unwrap();
    assert_eq!(fs::metadata(place.file("vault.db")).unwrap().permissions().mode() & 0o777, 0o600);
    drop(store);
    assert_eq!(place.names(), ["chains", "header.a", "tail", "vault.db"]);
}

#[test]
fn nothing_readable_is_in_the_files() {
    let place = Place::new();
    let mut store = place.created();
    put(&mut store, b"PLAINTEXT KEY", b"PLAINTEXT RECORD");
    store.begin().unwrap();
    append(&mut store, b"PLAINTEXT LEAF");
    store.commit().unwrap();
    for name in ["vault.db-wal", "vault.db"] {
        let bytes = fs::read(place.file(name)).unwrap();
        assert!(!bytes.windows(9).any(|window| window == b"PLAINTEXT"), "{name}");
        assert!(!bytes.windows(10).any(|window| window == b"item_keys "), "{name}");
        store.close_database();
    }
}

#[test]
fn a_wrong_key_leaves_the_write_ahead_log_alone() {
    let place = Place::new();
    let mut store = place.created();
    put(&mut store, b"key", b"record");
    let crashed = Place::new();
    for name in ["vault.db", "vault.db-wal"] {
        fs::copy(place.file(name), crashed.file(name)).unwrap();
    }
    let mut store = crashed.store();
    store.open_database(&key(2)).unwrap_err();
    assert!(crashed.file("vault.db-wal").exists());
    store.open_database(&key(1)).unwrap();
    assert_eq!(store.get(ITEMS, b"key"), Ok(Some(b"record".to_vec())));
}

/// A vault with records, closed; what is in it, and its file.
fn vault() -> (Place, Answer, Vec<u8>) {
    let place = Place::new();
    let mut store = place.created();
    fill(&mut store, RECORDS, 300);
    let whole = all(&mut store).unwrap();
    drop(store);
    let bytes = fs::read(place.file("vault.db")).unwrap();
    (place, whole, bytes)
}

/// Whether damage shows as an error; where it does not, the answer must be the true one.
fn damage_shows(place: &Place, bytes: &[u8], whole: &Answer) -> bool {
    match read(place, bytes) {
        Ok(answer) => {
            assert_eq!(answer, *whole);
            false
        }
        Err(error) => {
            assert!(matches!(error, StoreError::Damaged(_)), "{error}");
            true
        }
    }
}

fn read(place: &Place, bytes: &[u8]) -> Result<Answer, StoreError> {
    fs::write(place.file("vault.db"), bytes).unwrap();
    let mut store = place.store();
    store.open_database(&key(1))?;
    all(&mut store)
}

/// Everything, read in both ways.
fn all(store: &mut FileStore) -> Result<Answer, StoreError> {
    let records = store.scan(ITEMS, b"", None, usize::MAX)?;
    for (key, record) in &records {
        assert_eq!(store.get(ITEMS, key)?.as_ref(), Some(record));
    }
    for table in Table::ALL {
        store.scan(*table, b"", None, usize::MAX)?;
    }
    store.leaves(0, u64::MAX)?;
    Ok(records)
}

fn plant_link(at: &Path, target: &Path) {
    symlink(target, at).unwrap();
}

fn plant_fifo(at: &Path, _: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, at, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

fn plant_folder(at: &Path, _: &Path) {
    fs::create_dir(at).unwrap();
}

fn remove_any(path: &Path) {
    let _ = fs::remove_file(path);
    let _ = fs::remove_dir(path);
}

//! A vault that holds as much as it may: values are refused, in words; nothing is lost, and it can still log, revoke and delete.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod support;

use strongroom_core::records::{Storage, StoreError, Table};
use strongroom_store::FileStore;
use support::{ITEMS, Place, append, key};

const BYTES_MAX: u64 = 2 << 20;
const VALUE_BYTES: usize = 10_000;

/// A value in a transaction of its own.
fn put(store: &mut FileStore, table: Table, number: u64) -> Result<(), StoreError> {
    store.begin().unwrap();
    match store.put(table, &number.to_be_bytes(), &vec![7; VALUE_BYTES]) {
        Ok(_) => store.commit(),
        Err(error) => {
            store.roll_back();
            Err(error)
        }
    }
}

fn fill(store: &mut FileStore, table: Table) -> (u64, StoreError) {
    for number in 0.. {
        if let Err(error) = put(store, table, number) {
            return (number, error);
        }
        assert!(number < 1_000, "it never fills");
    }
    unreachable!("numbers do not end")
}

fn length(place: &Place) -> u64 {
    std::fs::metadata(place.file("vault.db")).unwrap().len()
}

#[test]
fn a_full_vault_refuses_values_loses_nothing_and_makes_room_when_it_is_purged() {
    let place = Place::new();
    let mut store = place.store().bytes_max(BYTES_MAX);
    store.create_database(&key(1)).unwrap();
    let (written, refused) = fill(&mut store, Table::Fields);
    assert_eq!(refused, StoreError::OverQuota);
    assert!((100..200).contains(&written), "{written} values of 10 kB in seven eighths of 2 MiB");
    // Neither does a change of a value find room, nor a new item.
    assert_eq!(put(&mut store, Table::Fields, 0), Err(StoreError::OverQuota));
    assert_eq!(put(&mut store, Table::ItemKeys, 0), Err(StoreError::OverQuota));
    // What is reserved: the log, and every record that says what nobody may do any more.
    for number in 0..20_u8 {
        store.begin().unwrap();
        append(&mut store, &[number; 300]);
        store.commit().unwrap();
        put(&mut store, Table::Settings, number.into()).unwrap_or_else(|error| panic!("setting {number}: {error}"));
        store.begin().unwrap();
        store.delete(Table::Settings, &u64::from(number).to_be_bytes()).unwrap();
        store.commit().unwrap();
    }
    // After a start, and under another key, it is as full as before, and everything is there.
    store.rekey_database(&key(2)).unwrap();
    assert_eq!(put(&mut store, Table::Fields, written), Err(StoreError::OverQuota));
    drop(store);
    let mut store = place.store().bytes_max(BYTES_MAX);
    store.open_database(&key(2)).unwrap();
    assert_eq!(store.count(Table::Fields), Ok(written));
    assert_eq!(put(&mut store, Table::Fields, written), Err(StoreError::OverQuota));
    for number in 0..10_u64 {
        store.begin().unwrap();
        store.delete(Table::Fields, &number.to_be_bytes()).unwrap();
        store.commit().unwrap();
    }
    put(&mut store, Table::Fields, written).unwrap();
    drop(store);
    assert!(length(&place) <= BYTES_MAX);
}

#[test]
fn the_file_never_grows_beyond_its_bound() {
    let place = Place::new();
    let mut store = place.store().bytes_max(BYTES_MAX);
    store.create_database(&key(1)).unwrap();
    let (written, refused) = fill(&mut store, ITEMS);
    assert_eq!(refused, StoreError::Full, "the reserve is used up as well");
    assert_eq!(store.count(ITEMS), Ok(written));
    // Without a bound of that size the same store goes on.
    drop(store);
    assert!(length(&place) <= BYTES_MAX);
    let mut store = place.opened();
    put(&mut store, ITEMS, written).unwrap();
    put(&mut store, Table::Fields, written).unwrap();
    // A file that is too large already is read and kept, and takes no more.
    drop(store);
    let mut store = place.store().bytes_max(BYTES_MAX / 2);
    store.open_database(&key(1)).unwrap();
    assert_eq!(store.count(ITEMS), Ok(written + 1));
    assert_eq!(put(&mut store, Table::Fields, 0), Err(StoreError::OverQuota));
}

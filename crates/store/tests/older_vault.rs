//! A vault that an earlier version wrote still opens. Each schema version keeps the file it shipped with, under a fixed key.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test program")]

mod support;

use std::fs;
use std::path::Path;

use strongroom_core::records::{Storage, Table};
use strongroom_store::FileStore;
use support::{Place, append, key};

#[test]
fn version_1_opens() {
    let place = Place::new();
    // Copied by content, so that the copy can be written even where the checkout cannot.
    fs::write(place.file("vault.db"), fs::read(fixture("v1.db")).unwrap()).unwrap();
    let mut store = place.opened();
    check(&mut store);
    store.begin().unwrap();
    append(&mut store, b"after");
    store.commit().unwrap();
    store.rekey_database(&key(2)).unwrap();
    assert_eq!(store.log_size(), Ok(6));
}

#[test]
#[ignore = "writes the fixture of the newest version; run once, when a version ships"]
fn bless() {
    let place = Place::new();
    let mut store = place.created();
    write(&mut store);
    check(&mut store);
    drop(store);
    let newest = fixture("v1.db");
    assert!(!newest.exists(), "a version that shipped is never written again");
    fs::create_dir_all(newest.parent().unwrap()).unwrap();
    fs::copy(place.file("vault.db"), newest).unwrap();
}

fn write(store: &mut FileStore) {
    store.begin().unwrap();
    for table in Table::ALL {
        for number in 0..3_u8 {
            store.put(*table, &[*table as u8, number], table.as_str().as_bytes()).unwrap();
        }
    }
    store.put(Table::Items, b"large", &[7; 10_000]).unwrap();
    for leaf in 1..=5_u8 {
        append(store, &[leaf; 200]);
    }
    store.erase_leaf(1).unwrap();
    store.commit().unwrap();
}

fn check(store: &mut FileStore) {
    for table in Table::ALL {
        for number in 0..3_u8 {
            assert_eq!(store.get(*table, &[*table as u8, number]), Ok(Some(table.as_str().as_bytes().to_vec())));
        }
    }
    assert_eq!(store.get(Table::Items, b"large"), Ok(Some(vec![7; 10_000])));
    let leaves = store.leaves(0, 10).unwrap();
    assert_eq!(
        leaves,
        [Some(1), None, Some(3), Some(4), Some(5)].map(|leaf: Option<u8>| leaf.map(|leaf| vec![leaf; 200]))
    );
    assert_eq!(store.leaf_hashes(1, 2), Ok(vec![[2; 32], [3; 32]]));
    assert_eq!(store.nodes(&[0, 1, 2, 7]), Ok(vec![[1; 32], [2; 32], [2; 32], [5; 32]]));
}

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

//! What another process sees of a vault's files. Apart from the other tests, because a child holds the locks of the program that
//! starts it until it runs.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test program")]

mod support;

use strongroom_core::records::Storage;
use strongroom_store::FileStore;
use support::{ITEMS, Place, child, key, put, role};

#[test]
fn a_folder_has_one_process() {
    let place = Place::new();
    let first = place.store();
    let refused = FileStore::open(place.path()).err().unwrap();
    assert!(refused.to_string().contains("another process"), "{refused}");
    let output = child("child_process", "open", place.path()).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("another process"));
    drop(first);
    place.store();
}

#[test]
fn a_wrong_key_is_refused_in_silence() {
    let place = Place::new();
    put(&mut place.created(), b"key", b"record");
    let output = child("child_process", "wrong key", place.path()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(out.contains("refused: the vault's files are damaged or not of this vault"), "{out}");
    assert_eq!(err, "");
    assert_eq!(place.opened().get(ITEMS, b"key"), Ok(Some(b"record".to_vec())));
}

#[test]
#[ignore = "run by the tests above, in a process of its own"]
#[allow(clippy::print_stdout, reason = "it answers its parent")]
fn child_process() {
    let Some((role, folder)) = role() else { return };
    let refused = match (role.as_str(), FileStore::open(&folder)) {
        ("wrong key", Ok(mut store)) => store.open_database(&key(9)).unwrap_err(),
        (_, opened) => opened.err().unwrap(),
    };
    println!("refused: {refused}");
}

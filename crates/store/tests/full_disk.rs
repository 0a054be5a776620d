//! A disk that is full in the middle of a write, and one that is read-only. The children run where a small disk can be had: a
//! tmpfs in a mount namespace of their own, or else under a limit on the size of files.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test program")]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use strongroom_core::records::{HeaderCopy, Storage};
use strongroom_store::{FileStore, StoreError};
use strongroom_wire::DeviceId;
use support::{ITEMS, Place, append, child_args, fill, key, put, role};

const DEVICE: DeviceId = DeviceId([4; 16]);

#[test]
fn a_full_disk_loses_nothing_and_leaves_nothing_half_written() {
    let place = Place::new();
    match in_namespace("full", place.path(), "mount -t tmpfs -o size=1536k,mode=0700 tmpfs \"$STORE_FOLDER\"") {
        Some(output) => assert_child(&output),
        None => eprintln!("skipped: no mount namespace to be had"),
    }
}

#[test]
fn a_limit_on_the_size_of_files_loses_nothing_either() {
    let place = Place::new();
    // `trap ''` is inherited: without it, the signal ends the process. The blocks are of 512 or 1,024 bytes.
    let script = "trap '' XFSZ; ulimit -f 700; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(std::env::current_exe().unwrap()).args(child_args("child_process"));
    assert_child(&command.env("STORE_ROLE", "limited").env("STORE_FOLDER", place.path()).output().unwrap());
}

#[test]
fn a_read_only_disk_says_so() {
    let place = Place::new();
    let mut store = place.created();
    put(&mut store, b"key", b"record");
    store.write_header(HeaderCopy::A, b"header").unwrap();
    store.append_tail(b"entry").unwrap();
    store.write_chain(DEVICE, b"chain").unwrap();
    drop(store);
    let mount = "mount --bind \"$STORE_FOLDER\" \"$STORE_FOLDER\" && mount -o remount,bind,ro \"$STORE_FOLDER\"";
    match in_namespace("read-only", place.path(), mount) {
        Some(output) => assert_child(&output),
        None => eprintln!("skipped: no mount namespace to be had"),
    }
}

#[test]
#[ignore = "run by the tests above, in a process of its own"]
#[allow(clippy::print_stdout, reason = "it answers its parent")]
fn child_process() {
    let Some((role, folder)) = role() else { return };
    match role.as_str() {
        "full" => on_a_full_disk(&folder, &[StoreError::Full]),
        // SQLite has no code of its own for this limit: 778 is its failure to write.
        "limited" => on_a_full_disk(
            &folder,
            &[StoreError::Full, StoreError::Failed("it refuses to write (SQLite reports code 778)".into())],
        ),
        _ => on_a_read_only_disk(&folder),
    }
    println!("child is done");
}

fn on_a_full_disk(folder: &Path, expected: &[StoreError]) {
    let mut store = FileStore::open(folder).unwrap();
    store.create_database(&key(1)).unwrap();
    store.write_header(HeaderCopy::A, b"header").unwrap();
    store.write_chain(DEVICE, b"chain").unwrap();
    store.append_tail(b"entry").unwrap();
    fill(&mut store, 10, 100);
    // Room to be had again later.
    let ballast = folder.join("ballast");
    fs::write(&ballast, vec![0; 200 << 10]).unwrap();

    let mut written = 10_u64;
    let refused = loop {
        match try_to_write(&mut store, written) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 10_000, "the disk never fills");
    };
    assert!(expected.contains(&refused), "{refused}");
    assert!(written > 20, "{written}");
    for _ in 0..3 {
        assert!(try_to_write(&mut store, written).is_err());
        // No transaction is open, so one can begin; and reading goes on.
        store.begin().unwrap();
        store.roll_back();
        check(&mut store, written);
    }
    store.mark().unwrap_err();
    store.put(ITEMS, b"key", b"record").unwrap_err();

    // Files: the old one stays whole.
    let large = vec![1; 2 << 20];
    assert_eq!(store.write_header(HeaderCopy::A, &large), Err(StoreError::Full));
    assert_eq!(store.write_chain(DEVICE, &large[..1 << 20]), Err(StoreError::Full));
    assert_eq!(store.append_tail(&large), Err(StoreError::Full));
    assert_eq!(store.read_header(HeaderCopy::A), Ok(Some(b"header".to_vec())));
    assert_eq!(store.read_tail(), Ok(b"entry".to_vec()));
    let rekeyed = store.rekey_database(&key(2));
    assert!(rekeyed.is_err() || expected.len() == 2, "{rekeyed:?}");
    let now = if rekeyed.is_ok() { key(2) } else { key(1) };
    check(&mut store, written);

    // After a restart, still on the full disk.
    drop(store);
    let mut store = FileStore::open(folder).unwrap();
    store.open_database(&now).unwrap();
    check(&mut store, written);
    drop(store);

    // With room again, everything goes on.
    fs::remove_file(&ballast).unwrap();
    let mut store = FileStore::open(folder).unwrap();
    store.open_database(&now).unwrap();
    check(&mut store, written);
    if expected.len() == 1 {
        put(&mut store, b"key", b"room again");
        store.write_header(HeaderCopy::A, b"next header").unwrap();
    }
}

fn try_to_write(store: &mut FileStore, number: u64) -> Result<(), StoreError> {
    store.begin()?;
    let written = store
        .put(ITEMS, &number.to_be_bytes(), &[number as u8; 5_000])
        .and_then(|_| store.put(ITEMS, &0_u64.to_be_bytes(), &number.to_be_bytes()));
    if let Err(error) = written {
        store.roll_back();
        return Err(error);
    }
    append(store, &[number as u8; 200]);
    store.commit()
}

fn check(store: &mut FileStore, written: u64) {
    let records = store.scan(ITEMS, b"", None, usize::MAX).unwrap();
    assert_eq!(records.len() as u64, written);
    assert_eq!(store.log_size(), Ok(written - 10));
    assert_eq!(records[0].1, (written - 1).to_be_bytes());
    for (number, (key, record)) in records.iter().enumerate().skip(10) {
        assert_eq!(key, &(number as u64).to_be_bytes());
        assert!(record.len() == 5_000 && record.iter().all(|byte| *byte == number as u8));
    }
}

fn on_a_read_only_disk(folder: &Path) {
    let mut store = FileStore::open(folder).unwrap();
    assert_eq!(store.read_header(HeaderCopy::A), Ok(Some(b"header".to_vec())));
    assert_eq!(store.read_tail(), Ok(b"entry".to_vec()));
    assert_eq!(store.read_chain(DEVICE), Ok(Some(b"chain".to_vec())));
    assert_eq!(store.write_header(HeaderCopy::A, b"new"), Err(StoreError::ReadOnly));
    assert_eq!(store.write_header(HeaderCopy::B, b"new"), Err(StoreError::ReadOnly));
    assert_eq!(store.write_chain(DEVICE, b"new"), Err(StoreError::ReadOnly));
    assert_eq!(store.append_tail(b"new"), Err(StoreError::ReadOnly));
    assert_eq!(store.clear_tail(), Err(StoreError::ReadOnly));
    assert_eq!(store.open_database(&key(1)), Err(StoreError::ReadOnly));
    assert_eq!(store.delete_all(), Err(StoreError::ReadOnly));
}

/// Runs the child after a shell command in a mount namespace of its own; nothing where there is none to be had.
fn in_namespace(role: &str, folder: &Path, prepare: &str) -> Option<Output> {
    let script = format!("{prepare} || exit 77; exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"]);
    command.arg(std::env::current_exe().unwrap()).args(child_args("child_process"));
    let output = command.env("STORE_ROLE", role).env("STORE_FOLDER", folder).output().ok()?;
    let refused = output.status.code() == Some(77) || String::from_utf8_lossy(&output.stderr).starts_with("unshare:");
    (!refused).then_some(output)
}

fn assert_child(output: &Output) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("child is done"), "{out}\n{err}");
}

//! After the database is closed, the memory of the process holds neither its key nor what was read from it.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test program")]

mod support;

use std::fs::File;
use std::os::unix::fs::FileExt;

use strongroom_core::records::Storage;
use strongroom_store::FileStore;
use support::{ITEMS, Place, child, key, put, role};
use zeroize::Zeroize as _;

/// What is looked for is kept under a mask, so that the search does not find itself.
const MASK: u8 = 0x5a;
/// What was read is kept under another, so that a copy of what is looked for does not become it.
const READ_MASK: u8 = 0xc3;

#[test]
fn neither_key_nor_records_outlive_the_open_database() {
    let place = Place::new();
    let mut store = place.created();
    for number in 0..50_u8 {
        // Some records fit into a page and some do not.
        put(&mut store, &[number], &unmask(&marker()).repeat(1 + usize::from(number) * 8));
    }
    drop(store);
    let output = child("child_process", "wiped", place.path()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert_eq!(out.matches("found while open: key 0, records some").count(), 2, "{out}");
    assert_eq!(out.matches("found when closed: key 0, records 0").count(), 2, "{out}");
}

#[test]
#[ignore = "run by the test above, in a process of its own"]
#[allow(clippy::print_stdout, reason = "it answers its parent")]
fn child_process() {
    let Some((_, folder)) = role() else { return };
    let digits: Vec<u8> = key(1).expose_hex().bytes().map(|byte| byte ^ MASK).collect();
    // The search finds what is there.
    let mut canary = unmask(&digits);
    assert!(occurrences(&digits) > 0);
    canary.fill(0);
    std::hint::black_box(&canary);
    let mut store = FileStore::open(&folder).unwrap();
    // Twice, as a vault that is locked and unlocked.
    for _ in 0..2 {
        store.open_database(&key(1)).unwrap();
        for mut record in store.scan(ITEMS, b"", None, 100).unwrap() {
            record.1.zeroize();
        }
        let some = if occurrences(&marker()) > 0 { "some" } else { "none" };
        println!("found while open: key {}, records {some}", occurrences(&digits));
        store.close_database();
        println!("found when closed: key {}, records {}", occurrences(&digits), occurrences(&marker()));
    }
}

fn marker() -> Vec<u8> {
    (0..24).map(|number: u8| (b'A' + number) ^ MASK).collect()
}

fn unmask(masked: &[u8]) -> Vec<u8> {
    masked.iter().map(|byte| byte ^ MASK).collect()
}

/// How often a masked text occurs in the readable memory of this process.
fn occurrences(masked: &[u8]) -> usize {
    let memory = File::open("/proc/self/mem").unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut found = 0;
    // Reused and masked at once: the buffer must not be found either.
    let mut buffer = vec![0; 1 << 20];
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let (mut at, end) = (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
        while at < end {
            let length = buffer.len().min(usize::try_from(end - at).unwrap());
            let Ok(read) = memory.read_at(&mut buffer[..length], at) else { break };
            buffer[..read].iter_mut().for_each(|byte| *byte ^= READ_MASK);
            found += buffer[..read].windows(masked.len()).filter(|window| is_found(window, masked)).count();
            if read < masked.len() || at + read as u64 == end {
                break;
            }
            // Overlapping, so that nothing is missed at a boundary.
            at += (read - masked.len() + 1) as u64;
        }
    }
    found
}

fn is_found(read: &[u8], masked: &[u8]) -> bool {
    read.iter().zip(masked).all(|(a, b)| a ^ READ_MASK == b ^ MASK)
}

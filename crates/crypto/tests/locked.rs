//! Alone in its process: what is left of a secret once it is dropped.
#![cfg(target_os = "linux")]
#![expect(unsafe_code, reason = "looks at memory after its owner is gone")]

use std::{fs::File, os::unix::fs::FileExt as _, slice};

use strongroom_crypto::locked::{self, Mode, SecretBytes, TooLate};

#[test]
fn nothing_is_left_of_a_dropped_secret() {
    locked::init(Mode::Auto).unwrap();
    assert_eq!(locked::init(Mode::NoMemfdSecret), Err(TooLate));
    for len in [16, 32, 100, 4096] {
        let secret = SecretBytes::copy_of(&vec![0xA5; len]);
        let stats = locked::stats();
        let start = secret.expose().as_ptr();
        if stats.memfd_secret_bytes > 0 {
            // The kernel itself cannot read these pages on another's behalf.
            let memory = File::open("/proc/self/mem").unwrap();
            let mut copy = vec![0; len];
            assert!(memory.read_at(&mut copy, start as u64).is_err(), "the pages can be read through the kernel");
        }
        drop(secret);
        if stats.heap_bytes == 0 {
            // SAFETY: arenas stay mapped for the life of the process, and no other thread uses them.
            let left = unsafe { slice::from_raw_parts(start, len) };
            assert_eq!(left, vec![0; len]);
        }
    }
    let stats = locked::stats();
    assert_eq!((stats.memfd_secret_bytes, stats.mlocked_bytes, stats.heap_bytes), (0, 0, 0));
}

//! The child's jail refuses to start a thread, so nothing in an import may try. This story has a program to itself.
#![cfg(target_os = "linux")]

mod common;

use common::{PASSWORD, with_password};

#[test]
fn argon2_with_four_lanes_starts_no_thread() {
    let threads = || std::fs::read_dir("/proc/self/task").expect("Linux lists its threads").count();
    let before = threads();
    with_password(PASSWORD, include_bytes!("data/bitwarden-argon2id.json")).expect("the right password");
    with_password(PASSWORD, include_bytes!("data/keepass.kdbx")).expect("the right password");
    assert_eq!(threads(), before);
}

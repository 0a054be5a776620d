//! How vault processes are set apart from each other, seen from the outside of the programs that are shipped.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use strongroom_e2e::{PASSPHRASE, Place, processes};

/// What a page ends with: an initialization vector, then a tag of 64 bytes.
const PAGE_BYTES: usize = 4_096;
const RESERVED_BYTES: usize = 80;
const VECTOR_BYTES: usize = 16;

#[test]
fn no_two_vaults_draw_the_same() {
    let mut place = Place::new();
    place.serve(&[]);
    let passphrase = place.write("passphrase", PASSPHRASE);
    let mut seen = BTreeSet::new();
    let mut pages = 0;
    // Alike in everything: forked from one process, and told the same in the same order.
    for profile in ["one", "two", "three"] {
        let say = |line: &str| place.say(&format!("--profile {profile} {line}")).passphrase(&passphrase);
        say("create --device-name laptop --phrase-to-file").args([place.path(&format!("kit-{profile}"))]).ok();
        say("item add note Alike --stdin").stdin("the same text").ok();
        say("lock").ok();
    }
    place.stop();
    for folder in fs::read_dir(place.path("data/vaults")).expect("vaults").flatten() {
        let database = fs::read(folder.path().join("vault.db")).expect("a database");
        for page in database.chunks_exact(PAGE_BYTES) {
            let vector = &page[PAGE_BYTES - RESERVED_BYTES..][..VECTOR_BYTES];
            assert!(seen.insert(vector.to_vec()), "two pages were encrypted with the same vector");
            pages += 1;
        }
    }
    assert!(pages > 60, "three databases of some twenty pages each: {pages}");
}

#[test]
fn root_gives_each_vault_a_user_of_its_own() {
    let mut place = Place::new();
    place.serve(&[]);
    assert!(processes::until(10, || place.log().contains("isolation level=")), "{}", place.log());
    if place.log().contains("own_user") {
        // An ordinary user, or root without the right to: it is said, and vaults are served.
        let root = rustix::process::geteuid().is_root();
        return assert!(!root || place.log().contains("no_users_for_vaults"), "{}", place.log());
    }
    let passphrase = place.write("passphrase", PASSPHRASE);
    let mut owners = BTreeSet::new();
    for profile in ["one", "two"] {
        let create = place.say(&format!("--profile {profile} create --phrase-to-file")).passphrase(&passphrase);
        create.args([place.path(&format!("kit-{profile}"))]).ok();
        let vault = place.vault_pid().expect("a vault process");
        owners.insert(fs::metadata(format!("/proc/{vault}")).expect("it runs").uid());
    }
    for folder in fs::read_dir(place.path("data/vaults")).expect("vaults").flatten() {
        let folder = folder.path();
        let owner = fs::metadata(&folder).expect("a folder").uid();
        assert!(owner >= 0x7800_0000, "{owner}");
        owners.insert(owner);
        for file in ["header.a", "header.b", "vault.db", "chains"] {
            assert_eq!(fs::metadata(folder.join(file)).expect("its files").uid(), owner, "{file}");
        }
    }
    assert_eq!(owners.into_iter().filter(|owner| *owner >= 0x7800_0000).count(), 2);
}

#[test]
fn a_server_that_cannot_keep_a_level_does_not_start() {
    let Some(place) = Place::of_ordinary_user() else { return };
    let mut refused = place.serve_command(&["--require-isolation", "full"]);
    assert_eq!(refused.status().expect("it ends").code(), Some(8), "{}", place.log());
    let log = place.log();
    assert!(log.contains("serve_failed") || log.contains("set apart"), "{log}");
    assert!(log.contains("own_user"), "what is missing is said: {log}");
    let mut place = place;
    place.serve(&["--require-isolation", "jail"]);
    // It examines a process beside serving.
    assert!(processes::until(10, || place.log().contains("isolation level=")), "{}", place.log());
}

//! Known secrets of every item type go in; every command, consumer, error path and crash is exercised; and then every place where
//! a secret has no business is searched for each of them in every usual encoding. No hit.
//!
//! What is not searched is what the member asked to have in the clear, and where: the files of `export` and of the phrase, what
//! `generate` and `export --to -` print, and what the child of `exec` does with what it was given.
#![forbid(unsafe_code)]

mod crashes;
mod deeds;
mod plants;
mod refusals;
mod walk;

use std::collections::BTreeSet;
use std::fs;
use std::thread;

use strongroom_cli::OwnCode;
use strongroom_client::wire::{Code, ItemType, VaultId};
use strongroom_e2e::canaries::Canaries;
use strongroom_e2e::search::Hit;
use strongroom_e2e::{Api, Place, processes};

use crashes::Crashing;
use refusals::UNREACHABLE;
use walk::{TABLE, Walk};

/// Everything that a guest, an operator or a thief of the disk can get at: database, write-ahead log and shares; the folder of
/// the device with its configuration; what was printed and logged, which holds the agent's traffic and what APIs answered; and
/// the memory of host and services.
pub(crate) fn search(place: &Place, canaries: &Canaries, api: &Api) -> Vec<Hit> {
    let searcher = canaries.searcher();
    let mut hits = Vec::new();
    for folder in ["data", "shares", "home"] {
        hits.extend(searcher.find_in_folder(&place.path(folder), &[]));
    }
    hits.extend(searcher.find("what was printed, logged, answered", &place.transcript()));
    hits.extend(searcher.find("what the API was sent beside its key", api.sent().as_bytes()));
    if is_root() {
        hits.extend(searcher.find_in_process("host", place.host_pid().expect("a host")));
        hits.extend(searcher.find_in_process("services", place.services_pid().expect("services")));
    }
    hits
}

/// The process of a vault that has just been locked: its memory, and its core file with the registers.
fn search_locked(place: &Place, canaries: &Canaries) -> Vec<Hit> {
    if !is_root() {
        eprintln!("skipped: only root can read the memory of the server's processes");
        return Vec::new();
    }
    let id = place.say("status").json()["vault"].as_str().expect("an id").to_owned();
    // Others were made by who was refused.
    let vault = place.vault_pid_of(&id).expect("a vault process outlives a lock");
    let cores = place.path("cores");
    let core = processes::core_dump(vault, &cores).expect("root can read it");
    let image = fs::read(core).expect("a core file");
    // As bytes: the vault always knows who it is, while a text that named it may have been wiped.
    let id: VaultId = id.parse().expect("an id");
    let holds = |what: &[u8]| image.windows(what.len()).any(|window| window == what);
    let about = || (image.len(), fs::read_to_string(format!("/proc/{vault}/status")));
    assert!(holds(id.as_bytes()), "what is no secret is seen in its heap: {:?}", about());
    assert!(holds(b"vault_locked"), "what is no secret is seen in its program: {:?}", about());
    let searcher = canaries.searcher();
    let mut hits = searcher.find("the core file of the locked vault process", &image);
    hits.extend(searcher.find_in_process("locked vault process", vault));
    fs::remove_dir_all(cores).expect("our own folder");
    // The kernel itself would write none.
    let limits = fs::read_to_string(format!("/proc/{vault}/limits")).expect("its limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
    assert_eq!(core.split_whitespace().skip(4).collect::<Vec<_>>(), ["0", "0", "bytes"]);
    hits
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn no_secret_shows_where_it_has_no_business() {
    let (mut walked, crashed) = thread::scope(|scope| {
        let crashed = scope.spawn(crashes);
        (walk(), crashed.join())
    });
    walked.extend(crashed.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
    walked.extend(refusals::without_a_home().iter().flat_map(Place::codes));
    every_code_was_had(&walked);
}

/// Every command and every refusal of a server that stands; locking wipes. Gives the codes that were had.
fn walk() -> BTreeSet<String> {
    // Without memfd_secret, whose pages nobody can look into: what is tested is that locking wipes.
    let mut walk = Walk::new(&["--no-memfd-secret"]);
    let known = walk.place.commands();
    let listed: BTreeSet<String> = TABLE.iter().map(|(name, _)| name.replace(' ', "-")).collect();
    let unexercised: Vec<_> = known.symmetric_difference(&listed).collect();
    assert!(unexercised.is_empty(), "in the program or in the table, but not in both: {unexercised:?}");
    for (_, run) in TABLE {
        run(&mut walk);
    }
    let items = walk.say("item list").json();
    for kind in ItemType::ALL {
        let items = items.as_array().expect("a list");
        assert!(items.iter().any(|item| item["type"] == kind.as_str()), "no item of the type {kind}");
    }
    for refuse in [
        refusals::of_the_member,
        refusals::of_a_guest,
        refusals::of_changed_files,
        refusals::of_a_raw_client,
        refusals::of_another_server,
        refusals::at_a_terminal,
    ] {
        refuse(&mut walk);
    }
    let Walk { mut place, canaries, api, mut chip, .. } = walk;
    assert_eq!(search(&place, &canaries, &api), [], "while the vault is open");
    place.say("lock").ok();
    assert_eq!(search(&place, &canaries, &api), [], "once it is locked");
    assert_eq!(search_locked(&place, &canaries), [], "what locking leaves without memfd_secret");

    // Ended without a chance to clean up, and opened again.
    place.say("unlock").ok();
    processes::kill(place.vault_pid().expect("a vault process"));
    place.kill_server();
    refusals::of_the_machine(&mut place, &mut chip);
    place.say("unlock").ok();
    assert_eq!(search(&place, &canaries, &api), [], "after a crash");
    place.codes()
}

/// Crashes in the middle of things; then the same of a locked vault with memfd_secret.
fn crashes() -> BTreeSet<String> {
    let mut crashing = Crashing::new();
    assert_eq!(crashing.run(), [], "after crashes");
    crashing.place.say("lock").ok();
    assert_eq!(search_locked(&crashing.place, &crashing.canaries), [], "what locking leaves");
    crashing.place.codes()
}

/// Each code of the wire and of the command was had here, or by the simulator, which looks for plaintext in each answer that it
/// gets, or is one that nothing can get.
fn every_code_was_had(had: &BTreeSet<String>) {
    let wire = Code::ALL.iter().map(|code| code.as_str());
    let all: BTreeSet<&str> = wire.chain(OwnCode::ALL.iter().map(|code| code.as_str())).collect();
    let unknown: Vec<_> = had.iter().filter(|code| !all.contains(code.as_str())).collect();
    assert!(unknown.is_empty(), "in no list of codes: {unknown:?}");
    let unreachable: BTreeSet<&str> = UNREACHABLE.iter().map(|(code, _)| *code).collect();
    let reached: Vec<_> = unreachable.iter().filter(|code| had.contains(**code) || !all.contains(*code)).collect();
    assert!(reached.is_empty(), "called unreachable, and reached, or gone: {reached:?}");
    // Only root can become a user without a home folder.
    let elsewhere = |code: &str| unreachable.contains(code) || (code == "no_home" && !is_root());
    let simulated = strongroom_sim::run::CODES;
    let missing: Vec<_> =
        all.iter().filter(|code| !had.contains(**code) && !simulated.contains(code) && !elsewhere(code)).collect();
    assert!(missing.is_empty(), "exercised by nothing: {missing:?}");
}

#[test]
fn a_code_that_was_not_exercised_fails() {
    let failed = std::panic::catch_unwind(|| every_code_was_had(&BTreeSet::from(["usage".to_owned()])));
    let said = *failed.expect_err("it fails").downcast::<String>().expect("it says why");
    assert!(said.contains("exercised by nothing") && said.contains("vault_unknown"), "{said}");
}

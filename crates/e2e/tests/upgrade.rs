//! An upgrade under a server that runs, with fifty open vaults and clients that go on calling: nothing that was acknowledged is lost,
//! and no answer is wrong.
//!
//! Without `UPGRADE_FROM` the programs before are those of this build, and those after them the same with another measurement.
//! `scripts/upgrade.sh` builds the programs of the commit before and names their folder in it.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use strongroom_e2e::crowd::{Came, Under, check_all, deal, keep_calling};
use strongroom_e2e::members::SharedFactors;
use strongroom_e2e::programs::Programs;
use strongroom_e2e::{Place, processes};

#[test]
fn an_upgrade_with_fifty_open_vaults_loses_nothing() {
    let begun = processes::now();
    let after = Programs::find();
    let before = std::env::var_os("UPGRADE_FROM").map(|folder| Programs::of(Path::new(&folder)));
    let mut place = Place::new();
    let bin = place.path("bin");
    place.programs = before.as_ref().unwrap_or(&after).install(&bin);
    place.serve(&[]);
    let factors = SharedFactors::derive().expect("factors");
    let socket = place.socket();
    let mut hands = deal(Under::found(&mut place, &factors, VAULTS), WORKERS);
    for member in hands.iter_mut().flatten() {
        assert_eq!(member.enter(&socket, &factors).expect("unlocked"), Came::Done);
    }
    assert_eq!(vault_processes(&place).len(), VAULTS, "all are open");

    let over = AtomicBool::new(false);
    let calls = thread::scope(|scope| {
        let (over, socket, factors) = (&over, &socket, &factors);
        let workers: Vec<_> = hands
            .iter_mut()
            .enumerate()
            .map(|(seed, hand)| {
                scope.spawn(move || {
                    let mut calls = 0_u64;
                    keep_calling(hand, socket, factors, over, seed as u64, |_, _| calls += 1);
                    calls
                })
            })
            .collect();
        thread::sleep(Duration::from_secs(1));
        // Under the server that runs: it goes on, and a vault process that is started from now on is of the new program.
        place.programs = after.install(&bin);
        if before.is_none() {
            place.programs.install_another_vault_program();
        }
        for pid in vault_processes(&place).into_iter().take(5) {
            processes::kill(pid);
        }
        assert!(processes::until(20, || place.log().contains("vault_program_replaced")), "{}", place.log());
        thread::sleep(Duration::from_secs(2));
        // As `systemctl restart` does.
        place.stop();
        place.serve(&[]);
        thread::sleep(Duration::from_secs(3));
        over.store(true, Ordering::Relaxed);
        workers.into_iter().map(|worker| worker.join().expect("no answer was wrong")).sum::<u64>()
    });
    assert!(calls > 100, "{calls} calls: nothing was under way");
    check_all(&mut hands.into_iter().flatten().collect::<Vec<_>>(), &socket, &factors);
    let running = vault_processes(&place);
    assert_eq!(running.len(), VAULTS, "all are open again");
    for pid in running {
        let program = fs::read_link(format!("/proc/{pid}/exe"));
        // Where the kernel does not tell, as of another user's process, it is not looked at.
        assert!(
            program.as_ref().is_ok_and(|program| *program == place.programs.vault) || program.is_err(),
            "{program:?}"
        );
    }
    eprintln!("{VAULTS} vaults, {calls} calls, {:.1?} in all", begun.elapsed());
}

fn vault_processes(place: &Place) -> Vec<u32> {
    let children = processes::children(place.host_pid().expect("a server")).into_iter();
    children.filter(|(_, line)| line.starts_with("vault: ")).map(|(pid, _)| pid).collect()
}

const VAULTS: usize = 50;
const WORKERS: usize = 6;

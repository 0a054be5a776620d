//! The host is killed with two hundred vaults open, in the middle of their writes. `VAULTS` says how many.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use strongroom_e2e::crowd::{Came, Under, check_all, deal};
use strongroom_e2e::members::SharedFactors;
use strongroom_e2e::{Place, processes};

#[test]
fn a_host_that_is_killed_with_two_hundred_vaults_open_loses_nothing() {
    let vaults = std::env::var("VAULTS").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    let begun = processes::now();
    let mut place = Place::new();
    place.serve(&[]);
    let factors = SharedFactors::derive().expect("factors");
    let socket = place.socket();
    let mut hands = deal(Under::found(&mut place, &factors, vaults), WORKERS);
    let founded = begun.elapsed();

    let each = |hands: &mut [Vec<Under>], act: &(dyn Fn(&mut Under) + Sync)| {
        thread::scope(|scope| {
            for hand in hands {
                scope.spawn(move || hand.iter_mut().for_each(act));
            }
        });
    };
    each(&mut hands, &|member| assert_eq!(member.enter(&socket, &factors).expect("unlocked"), Came::Done));
    let host = place.host_pid().expect("a server");
    let children = processes::children(host);
    assert_eq!(children.iter().filter(|(_, line)| line.starts_with("vault: ")).count(), vaults, "all are open");

    let over = AtomicBool::new(false);
    let written = thread::scope(|scope| {
        let (over, socket, factors) = (&over, &socket, &factors);
        let write = |hand: &mut Vec<Under>| {
            let mut written = 0;
            for at in (0..hand.len()).cycle().take_while(|_| !over.load(Ordering::Relaxed)) {
                let came = hand[at].write(socket, factors).expect("no answer is wrong");
                written += u64::from(came == Came::Done);
            }
            written
        };
        let workers: Vec<_> = hands.iter_mut().map(|hand| scope.spawn(move || write(hand))).collect();
        // Some moment within a write or between two.
        thread::sleep(Duration::from_millis(2_000 + u64::from(std::process::id() % 997)));
        place.kill_server();
        over.store(true, Ordering::Relaxed);
        workers.into_iter().map(|worker| worker.join().expect("no answer was wrong")).sum::<u64>()
    });
    assert!(written > 50, "{written} writes: nothing was under way");
    let left = || children.iter().filter(|(pid, _)| processes::runs(*pid)).count();
    assert!(processes::until(5, || left() == 0), "{} processes outlived their host", left());

    place.serve(&[]);
    thread::scope(|scope| {
        for hand in &mut hands {
            let (socket, factors) = (&socket, &factors);
            scope.spawn(move || check_all(hand, socket, factors));
        }
    });
    eprintln!(
        "{vaults} vaults: made in {founded:.1?}, {written} writes before the end, {:.1?} in all",
        begun.elapsed()
    );
}

const WORKERS: usize = 8;

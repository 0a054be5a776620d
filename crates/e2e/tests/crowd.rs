//! Two hundred vaults on one host under a mixed load, while vault processes are killed at random: no acknowledged write is lost,
//! no answer is wrong, and every log verifies. `CROWD_SECS` says how long: 45 s where it says nothing, 10 minutes in `make soak`.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use strongroom_e2e::crowd::{Dice, Under, check_all, deal, keep_calling};
use strongroom_e2e::members::SharedFactors;
use strongroom_e2e::{Place, processes};

#[test]
fn a_crowd_under_load_loses_nothing_while_processes_are_killed() {
    let secs: u64 = std::env::var("CROWD_SECS").ok().and_then(|text| text.parse().ok()).unwrap_or(45);
    let mut place = Place::new();
    place.serve(&[]);
    let factors = SharedFactors::derive().expect("factors");
    let socket = place.socket();
    let members = Under::found(&mut place, &factors, VAULTS);
    let (over, kills) = (AtomicBool::new(false), AtomicU64::new(0));
    let latencies = thread::scope(|scope| {
        let chunks = deal(members, WORKERS);
        let (over, factors, socket, place) = (&over, &factors, &socket, &place);
        let kills = &kills;
        scope.spawn(move || kill(place, over, kills));
        let workers: Vec<_> = chunks
            .into_iter()
            .enumerate()
            .map(|(seed, mut members)| {
                scope.spawn(move || {
                    let mut latencies = Latencies::default();
                    let note = |what, took| latencies.note(what, took);
                    keep_calling(&mut members, socket, factors, over, seed as u64, note);
                    check_all(&mut members, socket, factors);
                    latencies
                })
            })
            .collect();
        thread::sleep(Duration::from_secs(secs));
        over.store(true, Ordering::Relaxed);
        let mut all = Latencies::default();
        for worker in workers {
            all.add(worker.join().expect("no answer was wrong"));
        }
        all
    });
    let kills = kills.load(Ordering::Relaxed);
    eprintln!("{VAULTS} vaults, {secs} s, {kills} kills\n{}", latencies.table());
    assert!(kills >= secs / 2, "{kills} kills in {secs} s");
    assert!(latencies.of("use") > 0 && latencies.of("list") > 0 && latencies.of("write") > 0);
}

/// A random vault process each second.
fn kill(place: &Place, over: &AtomicBool, kills: &AtomicU64) {
    let mut dice = Dice::new(0x9e37_79b9);
    while !over.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_secs(1));
        let vaults: Vec<u32> = processes::children(place.host_pid().expect("a server"))
            .into_iter()
            .filter(|(_, line)| line.starts_with("vault: "))
            .map(|(pid, _)| pid)
            .collect();
        if !vaults.is_empty() {
            processes::kill(vaults[dice.below(vaults.len())]);
            kills.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// How long each kind of act took, until it was done.
#[derive(Default)]
struct Latencies(BTreeMap<&'static str, Vec<Duration>>);

impl Latencies {
    fn note(&mut self, what: &'static str, took: Duration) {
        self.0.entry(what).or_default().push(took);
    }

    fn add(&mut self, other: Self) {
        for (what, times) in other.0 {
            self.0.entry(what).or_default().extend(times);
        }
    }

    fn of(&self, what: &str) -> usize {
        self.0.get(what).map_or(0, Vec::len)
    }

    fn table(&self) -> String {
        let mut text = format!("{:>8} {:>8} {:>10} {:>10} {:>10}\n", "", "count", "p50 ms", "p99 ms", "most ms");
        for (what, times) in &self.0 {
            let mut times = times.clone();
            times.sort_unstable();
            let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
            let _ = writeln!(text, "{what:>8} {:>8} {:>10.1} {:>10.1} {:>10.1}", times.len(), at(50), at(99), at(100));
        }
        text
    }
}

const VAULTS: usize = 200;
const WORKERS: usize = 8;

//! Kills at random moments over all write paths; after each, no acknowledged write is lost, the log verifies, and nothing
//! half-written shows. `KILLS` says how many (100 where it says nothing), `SEED` repeats a run.
#![forbid(unsafe_code)]

mod model;

use std::thread;
use std::time::Duration;

use strongroom_e2e::{Place, processes};

use model::{Dice, Model};

/// What is killed.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Vault,
    Server,
    Client,
}

#[test]
fn kills_at_random_moments_lose_nothing() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let kills = number("KILLS").unwrap_or(100);
    let seed = number("SEED").unwrap_or_else(|| u64::from(std::process::id()));
    // Two machines side by side: most of the time goes into waiting.
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let share = kills / WORKERS + u64::from(worker < kills % WORKERS);
            thread::spawn(move || run(share, seed + worker * 1_000_003))
        })
        .collect();
    let mut cut_short = 0;
    for worker in workers {
        let of_worker = worker.join();
        cut_short +=
            of_worker.unwrap_or_else(|_| panic!("SEED={seed} repeats the order of events, though not the moments"));
    }
    eprintln!("{kills} kills, {cut_short} of them cut a deed short");
    // Else nothing was tested: kills that all come too late, or all too early.
    assert!(kills < 50 || (kills / 10..kills - kills / 10).contains(&cut_short));
}

fn run(kills: u64, seed: u64) -> u64 {
    let mut place = Place::with_vault();
    let mut dice = Dice::new(seed);
    let mut model = Model::new(&place);
    let (mut vault_crashes, mut cut_short) = (0, 0);
    for kill in 0..kills {
        let victim = match dice.below(5) {
            0 | 1 => Victim::Vault,
            2 => Victim::Server,
            _ => Victim::Client,
        };
        let deed = model.choose(&place, &mut dice);
        let what = format!("kill {kill} of seed {seed}: the {victim:?} during {:?}", deed.kind);
        let mut command = deed.start(&place);
        thread::sleep(Duration::from_millis(dice.below(300)));
        match victim {
            Victim::Vault => {
                if let Some(pid) = place.vault_pid() {
                    processes::kill(pid);
                    vault_crashes += 1;
                }
            }
            Victim::Server => processes::kill(place.host_pid().expect("a server runs")),
            Victim::Client => command.kill(),
        }
        let ran = command.wait();
        cut_short += u64::from(ran.code != Some(0));
        match victim {
            Victim::Client => {}
            // A vault that crashes again and again is held for a minute; a new server begins to count anew.
            Victim::Vault if vault_crashes % 2 == 1 => {}
            _ => {
                vault_crashes = 0;
                place.kill_server();
                place.serve(&[]);
            }
        }
        model.learn(deed, &ran);
        model.reopen(&place, &what);
        model.check(&place, &what, kill % 5 == 4 || kill + 1 == kills);
    }
    cut_short
}

const WORKERS: u64 = 2;

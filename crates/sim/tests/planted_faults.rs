//! The simulator finds each of twenty rules that are broken on purpose.
#![cfg(feature = "planted-faults")]

use strongroom_core::planted::{FAULTS, plant};
use strongroom_sim::run::run;

#[test]
fn each_planted_fault_is_found_within_the_seeds() {
    let seeds: u64 = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(500);
    let mut missed = Vec::new();
    for (number, what) in FAULTS {
        plant(number);
        let found = (0..seeds).find_map(|seed| run(seed).broken.map(|broken| (seed, broken)));
        plant(0);
        match found {
            Some((seed, broken)) => println!("{number:>2} {what}: seed {seed}, {broken}"),
            None => missed.push((number, what)),
        }
    }
    assert_eq!(missed, Vec::new(), "not found in {seeds} seeds");
}

#[test]
fn without_a_fault_the_same_seeds_hold() {
    for seed in 0..20 {
        assert_eq!(run(seed).broken, None, "seed {seed}");
    }
}

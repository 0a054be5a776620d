//! Many seeds, each a random day of devices, guests, an unreliable machine and a hostile host; after each step every invariant
//! holds, and over all of them everything that can be reached is.

use std::path::Path;

use strongroom_sim::run::{Coverage, run};

#[test]
fn every_invariant_holds_and_everything_is_reached() {
    let seeds: u64 = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS_DEFAULT);
    let mut coverage = Coverage::default();
    for seed in 0..seeds {
        let ran = run(seed);
        assert_eq!(ran.broken, None, "seed {seed}: run `make sim SEED={seed}`, and keep it in crates/sim/seeds");
        coverage.add(&ran.coverage);
    }
    println!("{coverage:#?}");
    if seeds >= SEEDS_DEFAULT {
        assert_eq!(coverage.missing(), Vec::<String>::new(), "never reached in {seeds} seeds");
    }
}

#[test]
fn the_seeds_that_once_failed_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let mut seeds = 0;
    for file in std::fs::read_dir(folder).expect("the folder of seeds") {
        let path = file.expect("a file").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        let Ok(seed) = name.parse() else { continue };
        assert_eq!(run(seed).broken, None, "seed {seed}");
        seeds += 1;
    }
    assert!(seeds > 0, "the folder of seeds is empty");
}

const SEEDS_DEFAULT: u64 = 500;

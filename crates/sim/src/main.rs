//! `make sim SEED=42`: one seed or a run of them, and what was reached.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a program that prints what it found")]

use std::process::ExitCode;

use strongroom_sim::run::{Coverage, run};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (from, until) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--seed", seed] => match seed.parse::<u64>() {
            Ok(seed) => (seed, seed + 1),
            Err(_) => return usage(),
        },
        ["--seeds", seeds] => match seeds.parse() {
            Ok(seeds) => (0, seeds),
            Err(_) => return usage(),
        },
        _ => return usage(),
    };
    let mut coverage = Coverage::default();
    for seed in from..until {
        let ran = run(seed);
        coverage.add(&ran.coverage);
        if let Some(broken) = ran.broken {
            println!("seed {seed}: invariant {broken}");
            return ExitCode::FAILURE;
        }
    }
    println!("{} seeds, every invariant held", until - from);
    for (what, reached) in [("effects", coverage.effects), ("refusals", coverage.codes)] {
        println!(
            "{what}: {}",
            reached.iter().map(|(what, times)| format!("{what} {times}")).collect::<Vec<_>>().join(", ")
        );
    }
    let faults = coverage.faults.iter().map(|(what, times)| format!("{what} {times}"));
    println!("faults: {}", faults.collect::<Vec<_>>().join(", "));
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    println!("strongroom-sim --seed <number> | --seeds <how many>");
    ExitCode::FAILURE
}

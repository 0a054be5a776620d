//! `make bench`: how fast it is, each figure beside its floor or peer of the same run, and a verdict where there is a target.
//!
//! What is measured end to end runs the release programs, through the client, as a device and a gateway do. In reading order:
//! `figure` (a line of the result), `times`, `machine` (a server with a vault), `bare` and `floor_program` (the floors),
//! `crowd` (many vaults: memory, cold start), `commands` (unlock, the command, server start), `uses` (sign and http), `api`
//! (what `use http` calls), `writes` (durable writes and the log), `lists`, `neighbours` (what quiet vaults notice of noisy ones),
//! `peer` (rusty_vault).
//!
//! Arguments name parts to be measured alone (`strongroom-bench uses`). `VAULTS=…` is the number of vaults of `crowd`, 1,000 where
//! nothing is said; `RUSTY_VAULT=PATH` the peer's program.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "figures are printed")]

mod figure;
mod times;

mod machine;

mod bare;
mod crowd;

mod commands;

mod api;
mod uses;

mod lists;
mod writes;

mod neighbours;

mod peer;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use figure::Figure;
use machine::Machine;

/// What can be asked for by itself, as arguments.
const PARTS: &[&str] = &["crowd", "commands", "uses", "writes", "lists", "neighbours"];

/// What a measurement gives; whatever goes wrong ends the bench.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<()> {
    let parts: Vec<String> = std::env::args().skip(1).collect();
    if parts == [writes::JAILED] {
        return writes::print_rules();
    }
    if let Some(part) = parts.iter().find(|part| !PARTS.contains(&part.as_str())) {
        return Err(format!("{part} is none of {}", PARTS.join(", ")).into());
    }
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    let vaults = std::env::var("VAULTS").map_or(Ok(1_000), |count| count.parse())?;
    let mut figures = Vec::new();
    if wanted("crowd") {
        figures.extend(said(crowd::figures(vaults))?);
    }
    if wanted("neighbours") {
        figures.extend(said(neighbours::figures())?);
    }
    let peer = peer::measure(std::env::var_os("RUSTY_VAULT").map(PathBuf::from).as_deref())?;
    let mut machine = Machine::start()?;
    if wanted("commands") {
        figures.extend(said(commands::figures(&mut machine))?);
    }
    if wanted("uses") {
        figures.extend(said(uses::figures(&machine, &peer))?);
    }
    if wanted("writes") {
        figures.extend(said(writes::figures(&machine, &peer))?);
    }
    if wanted("lists") {
        figures.extend(said(lists::figures(&machine))?);
    }
    println!("\n{}", figure::table(&figures));
    let program = std::env::current_exe()?;
    let folder = program.ancestors().nth(2).ok_or("this program lies in <target>/<profile>")?.join("bench");
    std::fs::create_dir_all(&folder)?;
    let summary = folder.join("summary.json");
    std::fs::write(&summary, serde_json::to_vec_pretty(&figure::summary(&figures))?)?;
    println!("\n{} targets met, {} missed.", count(&figures, true), count(&figures, false));
    Ok(())
}

/// Each part as soon as it is there: the whole takes minutes.
fn said(figures: Outcome<Vec<Figure>>) -> Outcome<Vec<Figure>> {
    let figures = figures?;
    println!("{}", figure::table(&figures));
    Ok(figures)
}

fn count(figures: &[Figure], met: bool) -> usize {
    figures.iter().filter(|figure| figure.met() == Some(met)).count()
}

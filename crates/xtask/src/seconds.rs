//! What the test programs of a run took, and how many tests passed, from what cargo said.

use std::fmt::Write as _;
use std::fs;

/// The programs that took a second or more, slowest first, and the counts.
pub(crate) fn table(log: &str) -> Result<String, String> {
    let text = fs::read_to_string(log).map_err(|error| format!("{log}: {error}"))?;
    let mut programs = programs(&text);
    programs.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let sum = |count: fn(&Program) -> u64| programs.iter().map(count).sum::<u64>();
    let mut table = String::new();
    for program in programs.iter().filter(|program| program.seconds >= 1.0) {
        writeln!(table, "{:8.1} s  {:>5} tests  {}", program.seconds, program.passed + program.failed, program.name)
            .expect("a text takes what is written");
    }
    let (passed, failed, skipped) = (sum(|p| p.passed), sum(|p| p.failed), sum(|p| p.skipped));
    write!(table, "\n{passed} passed, {failed} failed, {skipped} skipped").expect("a text takes what is written");
    Ok(table)
}

struct Program {
    name: String,
    seconds: f64,
    passed: u64,
    failed: u64,
    skipped: u64,
}

fn programs(log: &str) -> Vec<Program> {
    let (mut name, mut programs) = (String::new(), Vec::new());
    for line in log.lines().map(str::trim) {
        if let Some(running) = line.strip_prefix("Running ") {
            name = program_name(running);
        } else if let Some(library) = line.strip_prefix("Doc-tests ") {
            name = format!("{library}, examples of the documentation");
        } else if let Some(result) = line.strip_prefix("test result: ") {
            programs.push(program(&name, result));
        }
    }
    programs
}

/// `unittests src/lib.rs (target/debug/deps/strongroom_wire-0123)` or `tests/crash.rs (…/crash-0123)`.
fn program_name(running: &str) -> String {
    let (source, path) = running.split_once(" (").unwrap_or((running, ""));
    let file = path.rsplit('/').next().unwrap_or_default();
    let library = file.rsplit_once('-').map_or(file, |(library, _)| library);
    if source.starts_with("unittests") { format!("{library}, unit tests") } else { source.to_owned() }
}

/// `ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.52s`.
fn program(name: &str, result: &str) -> Program {
    let number = |word: &str| {
        let parts = result.split([';', '.']).map(str::trim);
        parts.filter_map(|part| part.strip_suffix(word)?.trim().parse().ok()).next().unwrap_or(0)
    };
    let seconds = result.rsplit_once("finished in ").and_then(|(_, time)| time.trim_end_matches('s').parse().ok());
    Program {
        name: name.to_owned(),
        seconds: seconds.unwrap_or(0.0),
        passed: number("passed"),
        failed: number("failed"),
        skipped: number("ignored"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_apart_and_counted() {
        let log = "     Running unittests src/lib.rs (target/debug/deps/strongroom_wire-01ab)\n\
            test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.52s\n\
                 Running tests/crash.rs (target/debug/deps/crash-01ab)\n\
            test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 60.00s\n\
               Doc-tests strongroom_wire\n\
            test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        let found: Vec<_> =
            programs(log).into_iter().map(|p| (p.name, p.passed, p.failed, p.skipped, p.seconds)).collect();
        assert_eq!(
            found,
            [
                ("strongroom_wire, unit tests".to_owned(), 12, 0, 1, 1.52),
                ("tests/crash.rs".to_owned(), 1, 2, 0, 60.0),
                ("strongroom_wire, examples of the documentation".to_owned(), 0, 0, 0, 0.0),
            ]
        );
    }
}

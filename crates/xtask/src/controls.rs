//! docs/controls.md: a promise counts as kept only where the test that shows it exists.

use std::collections::BTreeSet;
use std::fs;

use crate::repository::tracked;

/// Checks every row.
pub(crate) fn check() -> Result<String, String> {
    let text = fs::read_to_string("docs/controls.md").map_err(|error| format!("docs/controls.md: {error}"))?;
    let sources: Vec<String> = tracked()?
        .into_iter()
        .filter(|path| [".rs", ".py", ".sh"].iter().any(|end| path.ends_with(end)) || path == "Makefile")
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect();
    let (mut kept, mut ids, mut wrong) = (0, BTreeSet::new(), Vec::new());
    for row in text.lines() {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, id, _, state, place, shown, ..] = cells.as_slice() else { continue };
        if !is_id(id) {
            continue;
        }
        if !ids.insert((*id).to_owned()) {
            wrong.push(format!("{id}: twice"));
        }
        match *state {
            "kept" => {
                kept += 1;
                let tests: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
                if tests.is_empty() || place.is_empty() {
                    wrong.push(format!("{id}: kept, but place or test is missing"));
                }
                for test in tests {
                    if !sources.iter().any(|source| source.contains(test)) && fs::metadata(test).is_err() {
                        wrong.push(format!("{id}: there is no `{test}`"));
                    }
                }
            }
            "partly" | "open" => {}
            other => wrong.push(format!("{id}: the state is kept, partly or open, not {other}")),
        }
    }
    if ids.len() < CONTROLS_MIN {
        wrong.push(format!("only {} controls of {CONTROLS_MIN}", ids.len()));
    }
    if wrong.is_empty() {
        Ok(format!("{} controls, {kept} kept, each with its test", ids.len()))
    } else {
        Err(wrong.join("\n"))
    }
}

fn is_id(cell: &str) -> bool {
    cell.split_once('-').is_some_and(|(family, number)| {
        family.len() == 3
            && family.bytes().all(|b| b.is_ascii_uppercase())
            && number.len() == 2
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}

/// Ids are never removed.
const CONTROLS_MIN: usize = 121;

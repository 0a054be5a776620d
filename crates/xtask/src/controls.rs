//! docs/controls.md: every control has its row, a row that names a test names one that exists, and a row that says *kept*
//! names one.

use std::collections::BTreeSet;
use std::fs;

use crate::repository::{quoted, tests};

/// Checks every row.
pub(crate) fn check() -> Result<String, String> {
    let text = fs::read_to_string(PAGE).map_err(|error| format!("{PAGE}: {error}"))?;
    let tests = tests()?;
    let (mut rows, mut kept, mut wrong) = (BTreeSet::new(), 0, Vec::new());
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, id, _, state, place, shown, ..] = cells.as_slice() else { continue };
        if !is_id(id) {
            continue;
        }
        if !rows.insert((*id).to_owned()) {
            wrong.push(format!("{id}: twice"));
        }
        kept += usize::from(*state == "kept");
        match *state {
            "kept" if quoted(shown).next().is_none() || place.is_empty() => {
                wrong.push(format!("{id}: kept, but place or test is missing"));
            }
            "kept" | "partly" | "open" => {}
            other => wrong.push(format!("{id}: the state is kept, partly or open, not {other}")),
        }
        wrong.extend(quoted(shown).filter(|test| !tests.has(test)).map(|test| format!("{id}: there is no `{test}`")));
        let gone = quoted(place).filter(|path| fs::metadata(path).is_err());
        wrong.extend(gone.map(|path| format!("{id}: there is no {path}")));
    }
    let listed = ids(&text)?;
    wrong.extend(listed.difference(&rows).map(|id| format!("{id}: has no row")));
    wrong.extend(rows.difference(&listed).map(|id| format!("{id}: is not in the list of ids")));
    if wrong.is_empty() {
        Ok(format!("{} controls, {kept} kept, each with its test", rows.len()))
    } else {
        Err(wrong.join("\n"))
    }
}

/// The list in the page itself: `<!-- ids: SYS 1-16, DEV 1-8, … -->`. Ids are never removed.
fn ids(text: &str) -> Result<BTreeSet<String>, String> {
    let (_, rest) = text.split_once("<!-- ids: ").ok_or("docs/controls.md has no list of ids")?;
    let (list, _) = rest.split_once(" -->").ok_or("the list of ids does not end")?;
    let mut ids = BTreeSet::new();
    for family in list.split(", ") {
        let (name, last) = family.split_once(" 1-").ok_or_else(|| format!("not a family of ids: {family}"))?;
        let last: u32 = last.parse().map_err(|_| format!("not a family of ids: {family}"))?;
        ids.extend((1..=last).map(|number| format!("{name}-{number:02}")));
    }
    Ok(ids)
}

fn is_id(cell: &str) -> bool {
    cell.split_once('-').is_some_and(|(family, number)| {
        family.len() == 3
            && family.bytes().all(|b| b.is_ascii_uppercase())
            && number.len() == 2
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}

const PAGE: &str = "docs/controls.md";

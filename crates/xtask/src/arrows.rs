//! Dependencies between our crates, compared with the table in ARCHITECTURE.md: a new arrow is a visible decision.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

/// Compares. What the table allows and nobody uses is fine for crates that are still growing.
pub(crate) fn check() -> Result<String, String> {
    let text = fs::read_to_string("ARCHITECTURE.md").map_err(|error| format!("ARCHITECTURE.md: {error}"))?;
    let allowed = table(&text)?;
    let mut wrong = Vec::new();
    let mut arrows = 0;
    for (name, uses) in actual()? {
        let Some(may) = allowed.get(&name) else {
            wrong.push(format!("{name}: not in the table of ARCHITECTURE.md"));
            continue;
        };
        for other in uses {
            arrows += 1;
            if !may.contains(&other) {
                wrong.push(format!("{name} → {other}: not in the table of ARCHITECTURE.md"));
            }
        }
    }
    if wrong.is_empty() { Ok(format!("{arrows} arrows, each in the table")) } else { Err(wrong.join("\n")) }
}

fn table(text: &str) -> Result<BTreeMap<String, BTreeSet<String>>, String> {
    let (_, rest) = text.split_once("<!-- arrows -->").ok_or("ARCHITECTURE.md has no table of crates")?;
    let (rows, _) = rest.split_once("<!-- /arrows -->").ok_or("the table of crates does not end")?;
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
    let mut crates = BTreeMap::new();
    for row in rows.lines().filter(|row| row.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').collect();
        let (Some(name), Some(uses)) = (cells.get(1), cells.get(3)) else {
            return Err(format!("not a row of three cells: {row}"));
        };
        let name = quoted(name).into_iter().next().ok_or_else(|| format!("no name: {row}"))?;
        crates.insert(name, quoted(uses));
    }
    Ok(crates)
}

fn actual() -> Result<BTreeMap<String, BTreeSet<String>>, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--locked", "--offline"])
        .output()
        .map_err(|error| format!("cargo metadata: {error}"))?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))?;
    let ours = |name: &str| name.strip_prefix("strongroom-").map(str::to_owned);
    let mut crates = BTreeMap::new();
    for package in metadata["packages"].as_array().ok_or("cargo metadata has no packages")? {
        let name = package["name"].as_str().and_then(ours).ok_or("a crate that is not named strongroom-…")?;
        let uses = package["dependencies"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|dependency| dependency["kind"] != "dev")
            .filter_map(|dependency| dependency["name"].as_str().and_then(ours))
            .collect();
        crates.insert(name, uses);
    }
    Ok(crates)
}

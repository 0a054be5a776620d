//! Dependencies between our crates, compared with the table in ARCHITECTURE.md: a new arrow is a visible decision.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

/// Compares, both ways: an arrow that the table lacks, and one that it claims and nobody uses. What tests alone use may stand
/// in the table and need not; nor does it matter what crates that never ship could use.
pub(crate) fn check() -> Result<String, String> {
    let text = fs::read_to_string("ARCHITECTURE.md").map_err(|error| format!("ARCHITECTURE.md: {error}"))?;
    let (allowed, actual) = (table(&text)?, actual()?);
    let mut wrong = Vec::new();
    for (name, uses) in &actual {
        let Some(may) = allowed.get(name) else {
            wrong.push(format!("{name}: not in the table of ARCHITECTURE.md"));
            continue;
        };
        let new = uses.always.difference(may);
        wrong.extend(new.map(|other| format!("{name} → {other}: not in the table of ARCHITECTURE.md")));
        let unused = may.iter().filter(|other| !uses.ever(other) && !NEVER_SHIPPED.contains(&name.as_str()));
        wrong.extend(unused.map(|other| format!("{name} → {other}: in the table of ARCHITECTURE.md, and not used")));
    }
    let gone = allowed.keys().filter(|name| !actual.contains_key(*name));
    wrong.extend(gone.map(|name| format!("{name}: in the table of ARCHITECTURE.md, and no crate")));
    let arrows: usize = actual.values().map(|uses| uses.always.len()).sum();
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

/// What a crate uses of ours.
struct Uses {
    always: BTreeSet<String>,
    in_tests: BTreeSet<String>,
}

impl Uses {
    fn ever(&self, other: &str) -> bool {
        self.always.contains(other) || self.in_tests.contains(other)
    }
}

fn actual() -> Result<BTreeMap<String, Uses>, String> {
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
        let of_kind = |tests: bool| {
            let dependencies = package["dependencies"].as_array().into_iter().flatten();
            let dependencies = dependencies.filter(|dependency| (dependency["kind"] == "dev") == tests);
            dependencies.filter_map(|dependency| dependency["name"].as_str().and_then(ours)).collect()
        };
        let uses = Uses { always: of_kind(false), in_tests: of_kind(true) };
        crates.insert(name, uses);
    }
    Ok(crates)
}

const NEVER_SHIPPED: &[&str] = &["sim", "e2e", "bench", "xtask"];

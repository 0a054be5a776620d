//! What must not stand in this repository.

use std::fs;
use std::process::Command;

/// Looks through every tracked text.
pub(crate) fn check() -> Result<String, String> {
    let files = tracked()?;
    let mut wrong = Vec::new();
    for path in &files {
        let Ok(text) = fs::read_to_string(path) else { continue };
        // This file spells them out.
        if path.ends_with("xtask/src/repository.rs") {
            continue;
        }
        for forbidden in FORBIDDEN {
            if text.contains(forbidden) && path != "Cargo.lock" {
                wrong.push(format!("{path}: holds `{forbidden}`"));
            }
        }
        if path.ends_with(".rs") && text.lines().count() > LINES_MAX {
            wrong.push(format!("{path}: over {LINES_MAX} lines, usually two ideas"));
        }
    }
    if wrong.is_empty() { Ok(format!("{} files", files.len())) } else { Err(wrong.join("\n")) }
}

/// The files that git tracks or would.
pub(crate) fn tracked() -> Result<Vec<String>, String> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .output()
        .map_err(|error| format!("git ls-files: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

const FORBIDDEN: &[&str] =
    &["../shared/", "/work/main", "/root/.cargo", "registry.npmjs", "pypi.org/simple", "index.crates.io"];
const LINES_MAX: usize = 1_000;

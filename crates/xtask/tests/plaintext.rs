//! docs/plaintext.md names every file that takes a value out of its guarded type.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn every_file_that_takes_out_plaintext_is_listed() {
    let page = fs::read_to_string(repository().join("docs/plaintext.md")).expect("the page is there");
    let listed: BTreeSet<String> = page
        .split('`')
        .filter(|word| word.starts_with("crates/") && word.ends_with(".rs"))
        .map(str::to_owned)
        .collect();
    let mut found = BTreeSet::from(["crates/crypto/src/locked.rs".to_owned()]);
    for folder in fs::read_dir(repository().join("crates")).expect("there are crates") {
        let folder = folder.expect("the folder can be read").path();
        if !NEVER_SHIPPED.iter().any(|name| folder.ends_with(name)) {
            walk(&folder.join("src"), &mut found);
        }
    }
    assert_eq!(listed, found, "docs/plaintext.md, and the files with an EXPOSE");
}

fn walk(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a source folder can be read") {
        let path = entry.expect("a source folder can be read").path();
        let name = path.file_name().expect("an entry has a name").to_string_lossy();
        if path.is_dir() {
            walk(&path, found);
        } else if !TESTS.contains(&name.as_ref())
            && fs::read_to_string(&path).is_ok_and(|text| shipped(&text).contains("EXPOSE:"))
        {
            let path = path.strip_prefix(repository()).expect("sources lie in the repository");
            found.insert(path.to_string_lossy().into_owned());
        }
    }
}

/// A file up to its tests.
fn shipped(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

const NEVER_SHIPPED: &[&str] = &["sim", "e2e", "xtask", "bench"];
const TESTS: &[&str] = &["tests.rs", "fuzz.rs", "vectors.rs", "cases.rs", "test_rng.rs", "contract.rs"];

//! What must not stand in this repository, and what its documents name that must be there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Looks through every tracked text.
pub(crate) fn check() -> Result<String, String> {
    let (files, tests) = (tracked()?, tests()?);
    let (mut wrong, mut long) = (Vec::new(), Vec::new());
    let private = private_places()?;
    for path in &files {
        let Ok(text) = fs::read_to_string(path) else { continue };
        let found = private.iter().filter(|place| text.contains(place.as_str()));
        wrong.extend(found.map(|place| format!("{path}: holds `{place}`, a path of this machine")));
        let lines = text.lines().count();
        if path.ends_with(".rs") && lines > LINES_USUAL_MAX {
            long.push(format!("{path}: {lines} lines, usually two ideas"));
        }
        if path.ends_with(".md") {
            wrong.extend(missing(path, &text, &tests));
        }
    }
    if !wrong.is_empty() {
        return Err(wrong.join("\n"));
    }
    long.push(format!(
        "{} files, nothing in them that should not be, and no name in a document without its thing",
        files.len()
    ));
    Ok(long.join("\n"))
}

/// Links that lead nowhere; and what ARCHITECTURE.md quotes as a file or a test and is none.
fn missing(path: &str, text: &str, tests: &Tests) -> Vec<String> {
    let folder = Path::new(path).parent().unwrap_or(Path::new(""));
    let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    let gone = links.filter(|link| !link.is_empty() && !link.contains(':') && fs::metadata(folder.join(link)).is_err());
    let mut wrong: Vec<String> = gone.map(|link| format!("{path}: the link {link} leads nowhere")).collect();
    if path == "ARCHITECTURE.md" {
        let files = quoted(text).filter(|name| name.contains('/') && name.ends_with(".rs"));
        let gone =
            files.filter(|name| [*name, &format!("crates/{name}")].iter().all(|file| fs::metadata(file).is_err()));
        wrong.extend(gone.map(|name| format!("{path}: there is no {name}")));
        let names = quoted(text).filter(|name| name.matches('_').count() >= 3 && is_name(name) && !tests.has(name));
        wrong.extend(names.map(|name| format!("{path}: there is no test `{name}`")));
    }
    wrong
}

/// The words between backticks.
pub(crate) fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// What can show that a promise is kept: a test function, a file of tests, or a target of the Makefile.
pub(crate) struct Tests {
    names: BTreeSet<String>,
}

impl Tests {
    /// Whether `shown` is one.
    pub(crate) fn has(&self, shown: &str) -> bool {
        self.names.contains(shown) || shown.contains('/') && fs::metadata(shown).is_ok()
    }
}

/// Every test there is.
pub(crate) fn tests() -> Result<Tests, String> {
    let mut names = BTreeSet::new();
    for path in tracked()? {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        if path.ends_with(".rs") {
            names.extend(test_functions(&text));
        } else if path == "Makefile" {
            let targets = text.lines().filter(|line| line.contains(": ") && !line.starts_with(['\t', '.', '$', '#']));
            names.extend(targets.filter_map(|line| Some(format!("make {}", line.split(':').next()?))));
        }
    }
    Ok(Tests { names })
}

/// Functions under `#[test]` or a kind of it, and those of `proptest!`, which look the same.
fn test_functions(source: &str) -> impl Iterator<Item = String> {
    let mut lines = source.lines().map(str::trim);
    std::iter::from_fn(move || {
        lines.find(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))?;
        let line = lines.find(|line| !line.starts_with("#[") && !line.starts_with("//") && line.contains("fn "))?;
        let (_, rest) = line.split_once("fn ")?;
        Some(rest.split(['(', '<']).next().unwrap_or(rest).to_owned())
    })
}

fn is_name(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// The files that git tracks or would.
fn tracked() -> Result<Vec<String>, String> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .output()
        .map_err(|error| format!("git ls-files: {error}"))?;
    if !output.status.success() {
        return Err("git ls-files: this is no work tree of git".to_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// Where this checkout lies, and where its user's tools do.
fn private_places() -> Result<Vec<String>, String> {
    let here = std::env::current_dir().map_err(|error| format!("this folder: {error}"))?;
    let home = std::env::var("HOME").unwrap_or_default();
    let tools = [".cargo", ".rustup"].map(|folder| format!("{home}/{folder}"));
    // A folder right below the root may be called as any of ours is.
    let here = (here.components().count() > 2).then(|| format!("{}/", here.display()));
    Ok(here.into_iter().chain(tools.into_iter().filter(|_| home.len() > 1)).collect())
}

const LINES_USUAL_MAX: usize = 800;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tests_are_tests() {
        let source = "fn a() {}\n#[test]\n#[should_panic(expected = \"fn x\")]\nfn b() {}\nfn c() {}\n\
            #[tokio::test(flavor = \"multi_thread\")]\nasync fn d() {}\n#[test]\nfn e(x in 0..9) {}\n";
        assert_eq!(test_functions(source).collect::<Vec<_>>(), ["b", "d", "e"]);
    }

    #[test]
    fn what_a_document_names_must_be_there() {
        let tests = Tests { names: BTreeSet::from(["a_test_that_is_there".to_owned()]) };
        let text = "[x](no/such.md) [y](https://example.org) [z](Cargo.toml#a) `a_test_that_is_there` `a_test_that_is_gone` `a/b.rs`";
        let wrong = missing("ARCHITECTURE.md", text, &tests);
        // Tests run in the crate's folder, which has a Cargo.toml of its own.
        assert_eq!(wrong.len(), 3, "{wrong:?}");
    }
}

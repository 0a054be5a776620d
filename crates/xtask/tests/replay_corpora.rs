//! Every file of `fuzz/corpus` through its parser, on stable: what a fuzzer once found stays fixed.
//!
//! A parser is a `pub fn` of some crate's `src/fuzz.rs`. Each has a target in `fuzz/fuzz_targets` and a corpus, both called
//! `<crate>_<function>`, and a line here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

type Parser = fn(&[u8]);

macro_rules! parsers {
    ($($library:ident: $($function:ident)*;)*) => {
        const PARSERS: &[(&str, &str, Parser)] =
            &[$($((stringify!($library), stringify!($function), $library::fuzz::$function),)*)*];
    };
}

parsers! {
    strongroom_wire: messages frame to_vault from_vault operate sealing relay envelope device_request guest_request answer item event_leaf name target;
    strongroom_crypto: hello1 hello2 hello3 frame header recovery_blob credential phrase fingerprint padding;
    strongroom_consumers: private_key otpauth jwt_template mask;
    strongroom_import: detect bitwarden keepass keepass_document chrome firefox safari env request records;
    strongroom_attest: evidence policy;
    strongroom_nitro: document;
    strongroom_bus: envelope;
}

#[test]
fn every_corpus_replays() {
    let mut files = 0;
    for (library, function, parser) in PARSERS {
        let name = target(library, function);
        let folder = repository().join("fuzz/corpus").join(&name);
        let seeds: Vec<PathBuf> = fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.expect("the folder can be read").path())
            .collect();
        assert!(!seeds.is_empty(), "{name} has no corpus");
        for seed in &seeds {
            let bytes = fs::read(seed).expect("a seed can be read");
            parser(&bytes);
            neighbours(&bytes, *parser);
        }
        files += seeds.len();
    }
    println!("{} parsers, {files} seeds and their neighbours", PARSERS.len());
}

#[test]
fn every_parser_has_a_target_and_a_line_here() {
    let listed: BTreeSet<String> = PARSERS.iter().map(|(library, function, _)| target(library, function)).collect();
    let mut written = BTreeSet::new();
    for folder in fs::read_dir(repository().join("crates")).expect("there are crates") {
        let folder = folder.expect("the folder can be read").path();
        let Ok(source) = fs::read_to_string(folder.join("src/fuzz.rs")) else { continue };
        let library = folder.file_name().expect("a crate has a name").to_string_lossy().into_owned();
        let functions = source.lines().filter_map(|line| line.strip_prefix("pub fn ")?.split('(').next());
        written.extend(functions.map(|function| format!("{library}_{function}")));
    }
    assert_eq!(listed, written, "the list above and crates/*/src/fuzz.rs");

    let manifest = fs::read_to_string(repository().join("fuzz/Cargo.toml")).expect("fuzz has a manifest");
    for name in &listed {
        let path = format!("fuzz_targets/{name}.rs");
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"{path}\"\n")), "fuzz/Cargo.toml lacks {name}");
        assert!(repository().join("fuzz").join(&path).is_file(), "{path} is missing");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), listed.len(), "a target without a parser");
}

/// Cuts and flipped bytes: short seeds everywhere, long ones at 64 places.
fn neighbours(seed: &[u8], parser: Parser) {
    let step = seed.len() / 64 + 1;
    for at in (0..seed.len()).step_by(step) {
        parser(&seed[..at]);
        let mut changed = seed.to_vec();
        changed[at] ^= 0x41;
        parser(&changed);
    }
}

fn target(library: &str, function: &str) -> String {
    format!("{}_{function}", library.trim_start_matches("strongroom_"))
}

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

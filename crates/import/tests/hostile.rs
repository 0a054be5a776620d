//! Hostile files: cut, flipped, nested, repeated. Never a panic, always an answer that the device would take.

mod common;

use std::time::{Duration, Instant};

use common::{PASSWORD, import, with_password};
use proptest::prelude::*;
use strongroom_import::{Head, ImportRefused, Kind, fuzz};
use strongroom_wire::limits::{ITEM_BYTES_MAX, ITEM_FIELDS_MAX, ITEMS_MAX, LABEL_CHARS_MAX, TAGS_MAX};

const FILES: [(Kind, &[u8]); 9] = [
    (Kind::Bitwarden, include_bytes!("data/bitwarden.json")),
    (Kind::Bitwarden, include_bytes!("data/bitwarden-organisation.json")),
    (Kind::Bitwarden, include_bytes!("data/bitwarden-account.json")),
    (Kind::KeePass, include_bytes!("data/keepass.kdbx")),
    (Kind::Chrome, include_bytes!("data/chrome.csv")),
    (Kind::Firefox, include_bytes!("data/firefox.csv")),
    (Kind::Safari, include_bytes!("data/safari.csv")),
    (Kind::Env, include_bytes!("data/settings.env")),
    (Kind::Bitwarden, include_bytes!("../../../demo/bitwarden-sample.json")),
];

fn run(kind: Kind, file: &[u8]) -> Result<common::Import, ImportRefused> {
    import(Head { kind: Some(kind), password: Some(PASSWORD.into()), ..Head::default() }, file)
}

#[test]
fn files_cut_at_every_length() {
    for (kind, file) in FILES {
        for length in 0..file.len() {
            let cut = run(kind, &file[..length]);
            // A JSON or KeePass file is whole or refused; lines stand alone.
            if matches!(kind, Kind::Bitwarden | Kind::KeePass)
                && file[length..].iter().any(|b| !b.is_ascii_whitespace())
            {
                assert!(cut.is_err(), "{kind}: {length}");
            }
        }
    }
}

#[test]
fn files_with_a_flipped_bit() {
    for (kind, file) in FILES {
        let mut flipped = file.to_vec();
        for at in 0..file.len() {
            flipped[at] ^= 1 << (at % 8);
            let outcome = run(kind, &flipped);
            assert!(kind != Kind::KeePass || outcome.is_err(), "{at}: nothing in a KeePass file is unprotected");
            flipped[at] = file[at];
        }
    }
}

#[test]
fn an_encrypted_export_cut_or_flipped() {
    let file = include_bytes!("data/bitwarden-pbkdf2.json");
    for at in (0..file.len()).step_by(41) {
        assert!(with_password(PASSWORD, &file[..at]).is_err(), "{at}");
        let mut flipped = file.to_vec();
        flipped[at] ^= 1;
        let _ = with_password(PASSWORD, &flipped);
    }
}

#[test]
fn nesting_of_ten_thousand_levels() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for place in
            ["{\"items\":[", "{\"items\":[{\"type\":1,\"name\":\"x\",\"login\":", "{\"folders\":", "{\"other\":"]
        {
            let file = format!("{place}{}1{}", open.repeat(10_000), close.repeat(10_000));
            assert!(run(Kind::Bitwarden, file.as_bytes()).is_err());
        }
    }
}

#[test]
fn values_and_texts_without_measure() {
    let numbers =
        format!("{{\"items\":[[{}0],{{\"type\":1,\"x\":[{}0]}}]}}", "0,".repeat(1_000_000), "0,".repeat(1_000_000));
    let import = run(Kind::Bitwarden, numbers.as_bytes()).expect("it is JSON");
    assert_eq!(import.summary.bad_rows, 2);

    let long = "made-up".repeat(ITEM_BYTES_MAX);
    let item = format!(
        "{{\"items\":[{{\"type\":1,\"name\":\"{long}\",\"login\":{{\"username\":\"ada\",\"password\":\"{long}\"}}}}]}}"
    );
    let import = run(Kind::Bitwarden, item.as_bytes()).expect("it is JSON");
    assert_eq!(import.items[0].label.chars().count(), LABEL_CHARS_MAX);
    assert_eq!(common::names(&import.items[0]), ["username"]);
    assert_eq!(import.not_carried.len(), 2);
}

#[test]
fn fields_and_tags_beyond_their_number_are_named() {
    let fields: Vec<String> = (0..100).map(|n| format!("{{\"name\":\"f{n}\",\"value\":\"v\",\"type\":0}}")).collect();
    let tags: Vec<String> = (0..50).map(|n| format!("{{\"id\":\"{n}\",\"name\":\"t{n}\"}}")).collect();
    let ids: Vec<String> = (0..50).map(|n| format!("\"{n}\"")).collect();
    let file = format!(
        "{{\"items\":[{{\"type\":2,\"name\":\"n\",\"fields\":[{}],\"collectionIds\":[{}]}}],\"collections\":[{}]}}",
        fields.join(","),
        ids.join(","),
        tags.join(",")
    );
    let import = run(Kind::Bitwarden, file.as_bytes()).expect("it is JSON");
    assert_eq!((import.items[0].fields.len(), import.items[0].tags.len()), (ITEM_FIELDS_MAX, TAGS_MAX));
    assert_eq!(import.not_carried.len(), 100 - ITEM_FIELDS_MAX + 50 - TAGS_MAX);
}

#[test]
fn items_and_reports_beyond_their_number_are_counted() {
    let file = "A=made-up\n".repeat(ITEMS_MAX + 7);
    let many = run(Kind::Env, file.as_bytes()).expect("lines");
    assert_eq!((many.items.len(), many.not_carried[0].count), (ITEMS_MAX, 7));
    let bad = run(Kind::Env, "no assignment\n".repeat(20_000).as_bytes()).expect("lines");
    assert_eq!((bad.bad_rows.len(), bad.summary.bad_rows), (10_000, 20_000));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how long it takes is what is tested")]
fn bombs_take_little_time() {
    let start = Instant::now();
    for file in [
        "\"".repeat(4 << 20),
        ",".repeat(4 << 20),
        "\"\"\"a\n".repeat(1 << 20),
        "x,\"\"\n".repeat(1 << 19),
        "\"x\n".repeat(1 << 20),
    ] {
        for header in ["name,url,username,password\n", "url,username,password,guid\n"] {
            let kind = if header.starts_with("name") { Kind::Chrome } else { Kind::Firefox };
            let _ = run(kind, format!("{header}{file}").as_bytes());
        }
        let _ = run(Kind::Env, file.as_bytes());
        let _ = run(Kind::Env, format!("A=\"{file}").as_bytes());
    }
    for line in ["A=\"\\\n", "A='\n", "A=`\"'\n", "A=\"x\\\"\n"] {
        let _ = run(Kind::Env, line.repeat(1 << 18).as_bytes());
    }
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

#[test]
fn documents_of_a_keepass_file_whatever_they_are() {
    for document in [
        "<a>".repeat(100_000),
        format!("<KeePassFile><Root>{}", "<Group>".repeat(100_000)),
        "<KeePassFile><Root><Group><Entry><String><Key>&bomb;</Key></String></Entry></Group></Root></KeePassFile>"
            .into(),
        "<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><KeePassFile><Root>&b;</Root></KeePassFile>".into(),
        "<KeePassFile><Root><Group><Entry><String><Key>k</Key><Value Protected=\"True\">!</Value></String></Entry>"
            .into(),
        "<KeePassFile><Root><Group><Entry><UUID>AQEBAQEBAQEBAQEBAQEBAQ==</UUID><History><Entry><UUID>AgICAgICAgICAgICAgICAg==\
         </UUID><History><Entry/></History></Entry></History></Entry></Group></Root></KeePassFile>"
            .into(),
        "<KeePassFile><Meta><RecycleBinUUID/></Meta><Root><Group><UUID/><Entry/><Group/></Group></Root></KeePassFile>"
            .into(),
    ] {
        fuzz::keepass_document(document.as_bytes());
    }
}

fn mutated() -> impl Strategy<Value = (Kind, Vec<u8>)> {
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..4_u8);
    (0..FILES.len(), prop::collection::vec(change, 1..12)).prop_map(|(n, changes)| {
        let (kind, mut file) = (FILES[n].0, FILES[n].1.to_vec());
        for (index, byte, how) in changes {
            let at = index.index(file.len());
            match how {
                0 => file[at] = byte,
                1 => file.insert(at, byte),
                2 => drop(file.remove(at)),
                _ => file.insert(at, b"\"\n,{}[]\\$=#'"[usize::from(byte) % 12]),
            }
        }
        (kind, file)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_files((kind, file) in mutated()) {
        let _ = run(kind, &file);
    }

    #[test]
    fn anything_at_all(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let parsers = [
            fuzz::detect, fuzz::bitwarden, fuzz::keepass, fuzz::keepass_document, fuzz::chrome, fuzz::firefox,
            fuzz::safari, fuzz::env, fuzz::request, fuzz::records,
        ];
        parsers.iter().for_each(|parse| parse(&bytes));
    }

    #[test]
    fn documents_of_small_pieces(pieces in prop::collection::vec(prop::sample::select(vec![
        "<KeePassFile>", "<Root>", "<Group>", "<Entry>", "<String>", "<Key>", "Title", "</Key>", "<Value>", "x",
        "<Value Protected=\"True\">", "bWFkZS11cA==", "</Value>", "</String>", "</Entry>", "</Group>", "</Root>",
        "</KeePassFile>", "<History>", "</History>", "<UUID>", "AQEBAQEBAQEBAQEBAQEBAQ==", "</UUID>", "<Meta>", "</Meta>",
        "<RecycleBinUUID>", "</RecycleBinUUID>", "&amp;", "&#0;", "&#xFFFFFF;", "<![CDATA[x]]>", "<!--x-->", "<Tags/>",
    ]), 0..40)) {
        fuzz::keepass_document(pieces.concat().as_bytes());
    }
}

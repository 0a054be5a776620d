//! A member brings the CSV files of browsers.

mod common;

use common::{import, names, text};
use strongroom_import::{Head, ImportRefused, Kind, Reason, RowFault};

const CHROME: &[u8] = include_bytes!("data/chrome.csv");

#[test]
fn chrome_comes_in_but_for_bad_rows() {
    let import = import(Head::default(), CHROME).expect("a good export");
    assert_eq!((import.summary.kind, import.summary.items), (Kind::Chrome, 5));
    let comma = import.item("Comma, Inc.");
    assert_eq!(text(comma, "username"), "ada \"the first\"");
    assert_eq!(text(comma, "password"), "made-up \"quoted\", password");
    assert_eq!(text(comma, "notes"), "line one\r\nline two");
    assert_eq!(text(import.item("no-name.example"), "password"), "made-up-пароль-🔑");
    assert_eq!(text(import.item("After it"), "url"), "android://hash@example.app/");
    let bad: Vec<_> = import.bad_rows.iter().map(|row| (row.place.line, row.fault)).collect();
    assert_eq!(bad, [(Some(6), RowFault::Columns), (Some(8), RowFault::Quotes)]);
}

#[test]
fn a_changed_password_is_the_same_entry_and_a_second_account_another() {
    let ids = |file: &str| -> Vec<String> {
        let import = import(Head::default(), file.as_bytes()).expect("a good export");
        import.items.into_iter().map(|item| item.origin.expect("an imported item has an origin").id).collect()
    };
    let text = std::str::from_utf8(CHROME).expect("UTF-8");
    let before = ids(text);
    assert_eq!(before, ids(&text.replace("made-up-1", "made-up-changed")));
    assert_ne!(before, ids(&text.replace("ada", "eve")));
    // The same account twice: told apart by its number.
    assert_eq!(format!("{}#2", before[0]), before[3]);
}

#[test]
fn firefox_and_safari_come_in() {
    let firefox = import(Head::default(), include_bytes!("data/firefox.csv")).expect("a good export");
    assert_eq!((firefox.summary.kind, firefox.summary.items), (Kind::Firefox, 3));
    assert_eq!(names(firefox.item("example.org")), ["username", "password", "url"]);
    assert_eq!(text(firefox.item("realm.example"), "http_realm"), "Staff only");
    assert_eq!(text(firefox.item("form.example"), "form_action_origin"), "https://login.form.example");
    let times = firefox.not_carried.iter().find(|line| line.what.contains("times")).expect("times are reported");
    assert_eq!((times.count, times.reason), (9, Reason::NoPlace));

    let safari = import(Head::default(), include_bytes!("data/safari.csv")).expect("a good export");
    assert_eq!((safari.summary.kind, safari.summary.items), (Kind::Safari, 3));
    assert!(text(safari.item("example.org (ada)"), "totp").starts_with("otpauth://"));
    assert_eq!(text(safari.item("Many lines"), "notes"), "one\ntwo\nthree");
}

#[test]
fn the_kind_can_be_named_and_must_fit() {
    let head = |kind| Head { kind: Some(kind), ..Head::default() };
    assert_eq!(import(head(Kind::Chrome), CHROME).expect("it is").summary.items, 5);
    assert_eq!(import(head(Kind::Safari), CHROME).err(), Some(ImportRefused::HeaderUnknown));
    let utf16: Vec<u8> = "name,url\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for kind in [Kind::Chrome, Kind::Env, Kind::Bitwarden] {
        assert_eq!(import(head(kind), &utf16).err(), Some(ImportRefused::Utf16));
    }
}

#[test]
fn unknown_columns_and_bytes_are_reported() {
    let file =
        b"url,name,colour,username,password\nhttps://a.example,A,made-up-blue,ada,pw\nhttps://b.example,B,,\xff,pw\n";
    let import = import(Head::default(), file).expect("the columns it needs are there");
    assert!(import.reports("A", "column \"colour\"", Reason::NoPlace));
    assert_eq!(import.bad_rows.iter().map(|row| row.fault).collect::<Vec<_>>(), [RowFault::NotUtf8]);
}

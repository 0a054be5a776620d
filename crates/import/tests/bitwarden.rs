//! A member brings a Bitwarden export, plain and encrypted.

mod common;

use common::{PASSWORD, import, names, plain, text, with_password};
use strongroom_import::{Cost, Damage, Head, ImportRefused, Reason, RowFault};
use strongroom_wire::{Class, ItemType};

const EXPORT: &[u8] = include_bytes!("data/bitwarden.json");

#[test]
fn every_type_comes_in() {
    let import = import(Head::default(), EXPORT).expect("a good export");
    assert_eq!((import.summary.items, import.items.len()), (7, 7));

    let forge = import.item("Example Forge");
    assert_eq!(forge.item_type, ItemType::Login);
    assert_eq!(forge.tags, ["favourite", "Work/Servers"]);
    let expected = [
        "username",
        "password",
        "url",
        "url-2",
        "url-3",
        "totp",
        "notes",
        "api_token",
        "customer_number",
        "uses_2fa",
        "custom_password",
        "f_______",
    ];
    assert_eq!(names(forge), expected);
    let class = |field: &str| forge.fields.iter().find(|f| f.name.as_str() == field).map(|f| f.class);
    assert_eq!(class("username"), Some(Class::Private));
    assert_eq!(class("password"), Some(Class::Secret));
    assert_eq!(class("url-3"), Some(Class::Private));
    assert_eq!(class("totp"), Some(Class::Secret));
    assert_eq!(class("api_token"), Some(Class::Secret));
    assert_eq!(class("customer_number"), Some(Class::Private));
    assert_eq!(text(forge, "url-2"), "https://forge.example/session");
    assert!(import.items.iter().all(|item| item.policy.is_empty()), "where a secret goes is the member's to say");

    assert_eq!(text(import.item("ünïcode.example"), "password"), "made-up-pässwörd-🔑");
    assert_eq!(text(import.item("Wi-Fi at home"), "text"), "Network: made-up\nPassword: made-up-wifi");
    assert_eq!(text(import.item("Example Card"), "expiry"), "04/2029");
    assert_eq!(text(import.item("Card without a month"), "exp_year"), "30");
    let ada = import.item("Ada");
    assert_eq!(text(ada, "name"), "Dr Ada Example");
    assert_eq!(text(ada, "address"), "1 Made-up Street\nc/o Example\n12345 Exampletown\nNowhere");
    assert_eq!(text(ada, "tax_number"), "made-up-000-00-0000");
    assert_eq!(names(import.item("Deploy key")), ["private_key", "public_key", "fingerprint"]);
}

#[test]
fn what_has_no_place_is_named_and_no_value_with_it() {
    let import = import(Head::default(), EXPORT).expect("a good export");
    for (label, what, reason) in [
        ("Example Forge", "passkey for forge.example", Reason::NoPlace),
        ("Example Forge", "attachment \"recovery codes.txt\"", Reason::Attachment),
        ("Example Forge", "2 older passwords", Reason::OlderVersion),
        ("Example Forge", "master password re-prompt", Reason::NoPlace),
        ("Example Forge", "match rule of address 2 (exact)", Reason::NoPlace),
        ("Example Forge", "linked field \"The user name\"", Reason::NoPlace),
        ("Example Forge", "field \"Empty one\"", Reason::Empty),
        ("Example Forge", "field \"пароль\", now \"f_______\"", Reason::Renamed),
        ("Nothing inside", "an entry", Reason::Empty),
        ("Thrown away", "an entry", Reason::InRecycleBin),
        ("", "\"creationDate\"", Reason::NoPlace),
    ] {
        assert!(import.reports(label, what, reason), "{what}\n{:#?}", import.not_carried);
    }
    let faults: Vec<_> = import.bad_rows.iter().map(|row| (row.place.entry, row.fault)).collect();
    assert_eq!(faults, [(Some(9), RowFault::TypeUnknown), (Some(11), RowFault::Shape)]);
    let report = format!("{:?}{:?}", import.not_carried, import.bad_rows);
    assert!(!report.contains("made-up"), "{report}");
}

#[test]
fn collections_become_tags() {
    let import = import(Head::default(), include_bytes!("data/bitwarden-organisation.json")).expect("a good export");
    assert_eq!(import.item("Pager").tags, ["Team", "Team/On call"]);
    assert!(import.reports("Pager", "a collection", Reason::Malformed));
}

#[test]
fn the_encrypted_exports_hold_the_same() {
    let expected: Vec<String> =
        import(Head::default(), EXPORT).expect("a good export").items.iter().map(plain).collect();
    for file in
        [include_bytes!("data/bitwarden-pbkdf2.json").as_slice(), include_bytes!("data/bitwarden-argon2id.json")]
    {
        let import = with_password(PASSWORD, file).expect("the right password");
        assert_eq!(import.items.iter().map(plain).collect::<Vec<_>>(), expected);
        assert_eq!(with_password("wrong", file).err(), Some(ImportRefused::PasswordWrong));
        assert_eq!(common::import(Head::default(), file).err(), Some(ImportRefused::PasswordNeeded));
    }
}

#[test]
fn an_account_key_is_not_ours_to_have() {
    let file = include_bytes!("data/bitwarden-account.json");
    let refused = with_password(PASSWORD, file).expect_err("only Bitwarden can open it");
    assert_eq!(refused, ImportRefused::AccountEncrypted);
    assert!(refused.to_string().contains("Password protected"));
}

#[test]
fn a_changed_byte_inside_is_noticed() {
    let text = include_str!("data/bitwarden-pbkdf2.json");
    let at = text.find("\"data\": \"2.").expect("the export's data") + 60;
    let swap = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
    let damaged = format!("{}{swap}{}", &text[..at], &text[at + 1..]);
    let refused = with_password(PASSWORD, damaged.as_bytes()).err();
    assert_eq!(refused, Some(ImportRefused::Damaged { part: Damage::Checksum }));
}

#[test]
fn costs_beyond_the_limits_are_refused_before_they_are_paid() {
    let text = include_str!("data/bitwarden-argon2id.json");
    for (from, to, cost) in [
        ("\"kdfMemory\": 8", "\"kdfMemory\": 1025", Cost::MemoryBytes),
        ("\"kdfMemory\": 8", "\"kdfMemory\": 18446744073709551615", Cost::MemoryBytes),
        ("\"kdfIterations\": 2", "\"kdfIterations\": 4294967296", Cost::WorkBytes),
        ("\"kdfParallelism\": 4", "\"kdfParallelism\": 65", Cost::Lanes),
    ] {
        let costly = text.replace(from, to);
        assert_ne!(costly, text);
        let refused = with_password(PASSWORD, costly.as_bytes()).err();
        assert!(matches!(refused, Some(ImportRefused::TooCostly { cost: c, .. }) if c == cost), "{to}: {refused:?}");
    }
    let pbkdf2 =
        include_str!("data/bitwarden-pbkdf2.json").replace("\"kdfIterations\": 5000", "\"kdfIterations\": 5000001");
    let refused = with_password(PASSWORD, pbkdf2.as_bytes()).err();
    assert!(matches!(refused, Some(ImportRefused::TooCostly { cost: Cost::Rounds, .. })), "{refused:?}");
    for nothing in ["0", "-1", "\"600000\"", "1.5", "null"] {
        let odd = text.replace("\"kdfIterations\": 2", &format!("\"kdfIterations\": {nothing}"));
        assert_eq!(with_password(PASSWORD, odd.as_bytes()).err(), Some(ImportRefused::EncryptionUnknown));
    }
}

#[test]
fn other_json_is_refused_with_a_sentence() {
    let refused = |text: &str| import(Head::default(), text.as_bytes()).err();
    assert_eq!(refused("{}"), Some(ImportRefused::NotBitwarden));
    assert_eq!(refused("{\"items\":[]"), Some(ImportRefused::CutShort));
    assert!(matches!(refused("{\"items\":[]} x"), Some(ImportRefused::NotJson { line: 1, .. })));
    assert!(matches!(refused("{\"items\":{\"a\":1}}"), Some(ImportRefused::NotJson { .. })));
    let deep = format!("{{\"items\":[{}]}}", "[".repeat(10_000));
    assert!(matches!(refused(&deep), Some(ImportRefused::NotJson { .. } | ImportRefused::NestedTooDeep)));
}

#[test]
fn the_demo_imports_without_a_bad_row() {
    let import = import(Head::default(), include_bytes!("../../../demo/bitwarden-sample.json")).expect("a good export");
    assert_eq!((import.summary.items, import.summary.bad_rows), (6, 0));
    let weather = import.item("Example Weather API");
    assert_eq!(weather.item_type, ItemType::Login);
    // Long enough for guests to use it over `http`.
    assert!(text(weather, "password").len() >= strongroom_wire::limits::HTTP_SECRET_BYTES_MIN);
}

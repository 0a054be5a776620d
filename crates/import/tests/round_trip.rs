//! What came out of Bitwarden goes back the same, and what we write as CSV or `.env` we read again.

mod common;

use common::{import, plain};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};
use strongroom_import::export::{self, ExportItem};
use strongroom_import::{Head, Kind, Reason};

fn head(kind: Kind) -> Head {
    Head { kind: Some(kind), ..Head::default() }
}

fn exported(items: Vec<strongroom_wire::items::ItemDraft>) -> Vec<ExportItem> {
    items.into_iter().map(ExportItem::from).collect()
}

/// Imports, exports and imports again.
fn there_and_back(file: &[u8]) -> (Vec<String>, Vec<String>, Value) {
    let first = import(head(Kind::Bitwarden), file).expect("a good export");
    let before = first.items.iter().map(plain).collect();
    let written = export::bitwarden_json(&exported(first.items)).file;
    let second = import(head(Kind::Bitwarden), written.expose()).expect("our own export");
    assert_eq!((second.summary.bad_rows, &second.not_carried), (0, &Vec::new()));
    let after = second.items.iter().map(plain).collect();
    (before, after, serde_json::from_slice(written.expose()).expect("our own export is JSON"))
}

#[test]
fn the_fixtures_come_back_the_same() {
    for file in [
        include_bytes!("data/bitwarden.json").as_slice(),
        include_bytes!("data/bitwarden-organisation.json"),
        include_bytes!("../../../demo/bitwarden-sample.json"),
    ] {
        let (before, after, _) = there_and_back(file);
        assert_eq!(before, after);
    }
}

/// The members that we carry stand in the new file as they stood in the old one.
#[test]
fn carried_members_are_written_as_bitwarden_wrote_them() {
    let old: Value = serde_json::from_slice(include_bytes!("data/bitwarden.json")).expect("JSON");
    let (_, _, new) = there_and_back(include_bytes!("data/bitwarden.json"));
    let items = new["items"].as_array().expect("a list");
    assert_eq!(items.len(), 7);
    for item in items {
        let olds = old["items"].as_array().expect("a list");
        let was = olds.iter().find(|was| was["id"] == item["id"]).expect("ids are kept");
        for member in ["type", "notes", "favorite"] {
            assert_eq!(item[member], was[member], "{member} of {item}");
        }
        for (kind, member) in [
            ("login", "username"),
            ("login", "password"),
            ("login", "totp"),
            ("card", "number"),
            ("card", "expMonth"),
            ("card", "expYear"),
            ("card", "code"),
            ("identity", "firstName"),
            ("identity", "address2"),
            ("identity", "ssn"),
            ("identity", "licenseNumber"),
            ("sshKey", "privateKey"),
            ("sshKey", "keyFingerprint"),
        ] {
            assert_eq!(item[kind][member], was[kind][member], "{kind}.{member} of {item}");
        }
        let uris = |item: &Value| -> Vec<Value> {
            item["login"]["uris"].as_array().into_iter().flatten().map(|uri| uri["uri"].clone()).collect()
        };
        assert_eq!(uris(item), uris(was));
    }
}

#[test]
fn csv_and_env_read_back() {
    let browser = import(Head::default(), include_bytes!("data/chrome.csv")).expect("a good export");
    let before: Vec<String> = browser.items.iter().map(plain).collect();
    let written = export::csv(&exported(browser.items));
    assert!(written.not_carried.is_empty());
    let again = import(Head::default(), written.file.expose()).expect("our own export");
    assert_eq!(again.items.iter().map(plain).collect::<Vec<_>>(), before);

    let settings = import(Head::default(), include_bytes!("data/settings.env")).expect("a good file");
    let mut values: Vec<String> = settings.items.iter().map(|item| common::text(item, "key").to_owned()).collect();
    let written = export::env(&exported(settings.items));
    assert_eq!(written.not_carried.iter().map(|line| line.reason).collect::<Vec<_>>(), [Reason::Renamed]);
    let again = import(Head::default(), written.file.expose()).expect("our own export");
    assert!(again.bad_rows.is_empty());
    let mut after: Vec<String> = again.items.iter().map(|item| common::text(item, "key").to_owned()).collect();
    values.sort();
    after.sort();
    assert_eq!(values, after);
}

#[test]
fn csv_and_env_say_what_they_leave_out() {
    let all = import(Head::default(), include_bytes!("data/bitwarden.json")).expect("a good export");
    let items = exported(all.items);
    let csv = export::csv(&items);
    let named = |what: &str| csv.not_carried.iter().any(|line| line.what.contains(what));
    assert!(named("type card") && named("field \"totp\"") && named("field \"url-2\"") && named("its tags"));
    let env = export::env(&items);
    assert!(env.not_carried.iter().any(|line| line.what.contains("\"username\"")));
    let reports = format!("{:?}{:?}", csv.not_carried, env.not_carried);
    assert!(!reports.contains("made-up"), "{reports}");
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ -~]{0,12}",
        2 => "\\PC{0,8}",
        1 => Just(String::new()),
        1 => "[\\x00-\\x20\"\\\\]{0,6}",
        1 => Just("x".repeat(300)),
    ]
}

fn nullable() -> impl Strategy<Value = Value> {
    prop_oneof![1 => Just(Value::Null), 4 => text().prop_map(Value::from)]
}

fn members(names: &'static [&'static str]) -> impl Strategy<Value = Value> {
    vec(nullable(), names.len()).prop_map(|values| {
        names.iter().map(|name| (*name).to_owned()).zip(values).collect::<serde_json::Map<_, _>>().into()
    })
}

fn details() -> impl Strategy<Value = Value> {
    let uris = vec((prop_oneof![Just(Value::Null), (0..6_u8).prop_map(Value::from)], nullable()), 0..4)
        .prop_map(|uris| uris.into_iter().map(|(rule, uri)| json!({"match": rule, "uri": uri})).collect::<Vec<_>>());
    prop_oneof![
        (uris, members(&["username", "password", "totp"])).prop_map(|(uris, mut login)| {
            login["uris"] = uris.into();
            json!({"type": 1, "login": login})
        }),
        Just(json!({"type": 2, "secureNote": {"type": 0}})),
        (members(&["cardholderName", "brand", "number", "code"]), "[0-9]{0,3}", "[0-9]{0,5}").prop_map(
            |(mut card, month, year)| {
                card["expMonth"] = month.into();
                card["expYear"] = year.into();
                json!({"type": 3, "card": card})
            }
        ),
        members(&[
            "title",
            "firstName",
            "middleName",
            "lastName",
            "address1",
            "address2",
            "address3",
            "city",
            "state",
            "postalCode",
            "country",
            "company",
            "email",
            "phone",
            "ssn",
            "username",
            "passportNumber",
            "licenseNumber",
        ])
        .prop_map(|identity| json!({"type": 4, "identity": identity})),
        members(&["privateKey", "publicKey", "keyFingerprint"]).prop_map(|key| json!({"type": 5, "sshKey": key})),
    ]
}

fn field_name() -> impl Strategy<Value = Value> {
    let ours = [
        "username",
        "Password",
        "url",
        "url-2",
        "url-3",
        "notes",
        "text",
        "expiry",
        "name",
        "custom_name",
        "exp_month",
        "first_name",
        "fingerprint",
        "key",
        "key-2",
    ];
    prop_oneof![2 => nullable(), 2 => proptest::sample::select(ours.to_vec()).prop_map(Value::from)]
}

fn item() -> impl Strategy<Value = Value> {
    let fields = vec((field_name(), nullable(), 0..4_u8), 0..6).prop_map(|fields| {
        let field = |(name, value, kind)| json!({"name": name, "value": value, "type": kind, "linkedId": null});
        fields.into_iter().map(field).collect::<Vec<_>>()
    });
    let id = prop_oneof![text().prop_map(Value::from), (0..3_u8).prop_map(|n| json!(format!("id-{n}")))];
    let folder = proptest::option::of(0..4_u8);
    (details(), id, nullable(), nullable(), fields, any::<bool>(), folder, vec(0..5_u8, 0..3)).prop_map(
        |(mut item, id, name, notes, fields, favourite, folder, collections)| {
            item["id"] = id;
            item["name"] = name;
            item["notes"] = notes;
            item["fields"] = fields.into();
            item["favorite"] = favourite.into();
            item["folderId"] = folder.map(|n| format!("f{n}")).into();
            item["collectionIds"] = collections.iter().map(|n| format!("c{n}")).collect::<Vec<_>>().into();
            item
        },
    )
}

fn named(prefix: char) -> impl Strategy<Value = Vec<Value>> {
    let name = prop_oneof![text(), Just("favourite".to_owned()), Just("Work".to_owned())];
    vec(name, 0..4).prop_map(move |names| {
        let entry = |(n, name)| json!({"id": format!("{prefix}{n}"), "name": name});
        names.into_iter().enumerate().map(entry).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_export_comes_back_the_same(items in vec(item(), 0..5), folders in named('f'), collections in named('c')) {
        let file = json!({"items": items, "folders": folders, "collections": collections, "encrypted": false});
        let (before, after, _) = there_and_back(file.to_string().as_bytes());
        prop_assert_eq!(before, after);
    }

    #[test]
    fn any_login_comes_back_from_csv(cells in vec((text(), text(), text(), text(), text()), 0..5)) {
        let quote = |cell: &String| format!("\"{}\"", cell.replace('"', "\"\""));
        let mut file = "name,url,username,password,note\n".to_owned();
        for (a, b, c, d, e) in &cells {
            file.push_str(&[a, b, c, d, e].map(quote).join(","));
            file.push('\n');
        }
        let first = import(head(Kind::Chrome), file.as_bytes()).expect("a good export");
        prop_assert!(first.bad_rows.is_empty());
        let before: Vec<String> = first.items.iter().map(plain).collect();
        let written = export::csv(&exported(first.items)).file;
        let second = import(head(Kind::Chrome), written.expose()).expect("our own export");
        prop_assert_eq!(before, second.items.iter().map(plain).collect::<Vec<_>>());
    }

    #[test]
    fn any_value_comes_back_from_env(values in vec("[^\\x00]{1,40}", 1..6)) {
        let items = values.iter().enumerate().map(|(n, value)| ExportItem {
            item_type: strongroom_wire::ItemType::ApiKey,
            label: format!("NAME_{n}"),
            tags: Vec::new(),
            fields: vec![export::ExportField {
                name: strongroom_wire::FieldName::parse("key").expect("well-formed"),
                class: strongroom_wire::Class::Secret,
                value: value.as_str().into(),
            }],
            origin: None,
        });
        let written = export::env(&items.collect::<Vec<_>>());
        prop_assert!(written.not_carried.is_empty());

        let read = import(head(Kind::Env), written.file.expose()).expect("our own export");
        prop_assert!(read.bad_rows.is_empty() && read.not_carried.is_empty());
        prop_assert_eq!(read.items.iter().map(|item| common::text(item, "key")).collect::<Vec<_>>(), values);
    }
}

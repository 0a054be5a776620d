//! Items: added, changed, kept in versions, removed, brought back, destroyed, imported.

use strongroom_core::records::Table;
use strongroom_sim::home::{api_key, code, field, http_policy, key_item, login, name_of, reference, totp_item, wallet};
use strongroom_sim::{Fault, Home, fakes};
use strongroom_wire::device::{
    Config, DeliverRequest, DeviceAnswer, DeviceRequest, ImportOutcome, ItemEdit, ListQuery, VersionView,
};
use strongroom_wire::event::Action;
use strongroom_wire::items::{ItemDraft, ItemView, Origin};
use strongroom_wire::policy::{Consumer, ItemPolicy, KeyAlgorithm, KeyPolicy, KeyPurpose, Mode};
use strongroom_wire::{Class, Code, ItemId, Refusal};

fn edit(item: ItemId) -> ItemEdit {
    ItemEdit { item, if_version: None, label: None, tags: None, set: Vec::new(), remove: Vec::new(), policy: None }
}

fn show(home: &mut Home, item: ItemId) -> Result<ItemView, Refusal> {
    match home.session(&DeviceRequest::ItemShow { item })? {
        DeviceAnswer::Item(view) => Ok(view),
        other => panic!("{other:?}"),
    }
}

fn history(home: &mut Home, item: ItemId) -> Vec<VersionView> {
    match home.session(&DeviceRequest::ItemHistory { item }) {
        Ok(DeviceAnswer::History { versions }) => versions,
        other => panic!("{other:?}"),
    }
}

fn value(home: &mut Home, item: ItemId, name: &str) -> Result<Vec<u8>, Refusal> {
    let deliver = DeliverRequest {
        consumer: Consumer::Export,
        references: vec![reference(item, name)],
        after: None,
        program: None,
    };
    let request = DeviceRequest::Deliver(deliver);
    let critical = show(home, item)?.fields.iter().any(|f| f.name == name_of(name) && f.class == Class::Critical);
    match if critical { home.critical(&request) } else { home.act(&request) }? {
        DeviceAnswer::Delivered { values, .. } => Ok(values[0].value.expose().to_vec()),
        other => panic!("{other:?}"),
    }
}

fn set(home: &mut Home, item: ItemId, name: &str, class: Class, value: &[u8]) -> Result<DeviceAnswer, Refusal> {
    let request = DeviceRequest::ItemEdit(ItemEdit { set: vec![field(name, class, value)], ..edit(item) });
    if class == Class::Critical { home.critical(&request) } else { home.act(&request) }
}

#[test]
fn an_item_is_shown_without_its_secret_and_survives_a_restart() {
    let mut home = Home::new("shown");
    let item = home.add(login("Example", b"hunter2"));
    for _ in 0..2 {
        let view = show(&mut home, item).expect("shown");
        let values: Vec<_> = view.fields.iter().map(|field| (field.name.as_str(), field.value.as_deref())).collect();
        assert_eq!(values, [("username", Some("ada")), ("password", None)]);
        assert_eq!(value(&mut home, item, "password").expect("exported"), b"hunter2");
        home.comes_back();
    }
}

#[test]
fn an_edit_keeps_the_older_version_and_restoring_it_makes_a_newer_one() {
    let mut home = Home::new("history");
    let item = home.add(login("Example", b"one"));
    set(&mut home, item, "password", Class::Secret, b"two").expect("edited");
    assert_eq!(value(&mut home, item, "password").expect("exported"), b"two");
    let restore = |version| DeviceRequest::ItemRestore { item, version: Some((name_of("password"), version)) };
    home.act(&restore(1)).expect("restored");
    assert_eq!(value(&mut home, item, "password").expect("exported"), b"one");
    let versions: Vec<_> = history(&mut home, item)
        .into_iter()
        .filter(|version| version.field == name_of("password"))
        .map(|version| (version.version, version.current))
        .collect();
    assert_eq!(versions, [(3, true), (2, false), (1, false)]);
    assert_eq!(code(home.act(&restore(9))), Code::FieldUnknown);
}

#[test]
fn an_edit_of_a_version_that_is_gone_is_a_conflict() {
    let mut home = Home::new("conflict");
    let item = home.add(login("Example", b"one"));
    let request = |version| DeviceRequest::ItemEdit(ItemEdit { if_version: Some(version), ..edit(item) });
    home.act(&request(1)).expect("the version that was read");
    assert_eq!(code(home.act(&request(1))), Code::Conflict);
}

#[test]
fn a_secret_value_does_not_become_a_shown_one() {
    let mut home = Home::new("lowered");
    let item = home.add(login("Example", b"one"));
    assert_eq!(code(set(&mut home, item, "password", Class::Private, b"two")), Code::ClassRefused);
    assert_eq!(value(&mut home, item, "password").expect("unchanged"), b"one");
}

#[test]
fn a_critical_value_leaves_no_earlier_one_and_nothing_but_the_credential_replaces_it() {
    let mut home = Home::new("raised for good");
    imported(&mut home, vec![foreign("a", b"first")], false);
    let DeviceAnswer::Items { items, .. } =
        home.session(&DeviceRequest::ItemList(ListQuery::default())).expect("listed")
    else {
        panic!()
    };
    let item = items[0].id;
    set(&mut home, item, "password", Class::Secret, b"second").expect("edited");
    set(&mut home, item, "password", Class::Critical, b"third").expect("raised");
    let versions = |home: &mut Home| -> Vec<_> {
        let of_password = history(home, item).into_iter().filter(|v| v.field == name_of("password"));
        of_password.map(|v| (v.version, v.current)).collect()
    };
    assert_eq!(versions(&mut home), [(3, true)], "what it was is forgotten");
    set(&mut home, item, "password", Class::Critical, b"fourth").expect("edited");
    for version in [1, 2, 3, 4] {
        let restore = DeviceRequest::ItemRestore { item, version: Some((name_of("password"), version)) };
        assert_eq!(code(home.act(&restore)), Code::ClassRefused);
    }
    for dry_run in [true, false] {
        let again = vec![foreign("a", b"from a file"), foreign("b", b"other")];
        assert_eq!(imported(&mut home, again, dry_run), [ImportOutcome::Refused, ImportOutcome::Added]);
    }
    assert_eq!(imported(&mut home, vec![foreign("a", b"first")], false), [ImportOutcome::Unchanged]);
    assert_eq!(value(&mut home, item, "password").expect("exported"), b"fourth");
    home.comes_back();
    assert_eq!(value(&mut home, item, "password").expect("exported"), b"fourth");
    // With the credential it may become a secret again, and its critical past still does not come back.
    let set = vec![field("password", Class::Secret, b"fifth")];
    let lower = DeviceRequest::ItemEdit(ItemEdit { set, ..edit(item) });
    assert_eq!(code(home.act(&lower)), Code::CredentialRequired);
    home.critical(&lower).expect("lowered");
    let restore = DeviceRequest::ItemRestore { item, version: Some((name_of("password"), 4)) };
    assert_eq!(code(home.act(&restore)), Code::ClassRefused);
}

#[test]
fn as_many_versions_are_kept_as_the_setting_says() {
    let mut home = Home::new("kept");
    let config = Config { history_versions: Some(2), ..Config::default() };
    home.act(&DeviceRequest::ConfigSet(config)).expect("set");
    let item = home.add(login("Example", b"0"));
    for version in 1..6_u8 {
        set(&mut home, item, "password", Class::Secret, &[version]).expect("edited");
    }
    let versions: Vec<_> = history(&mut home, item).into_iter().filter(|v| v.field == name_of("password")).collect();
    assert_eq!(versions.iter().map(|v| v.version).collect::<Vec<_>>(), [6, 5, 4]);
}

#[test]
fn no_version_comes_back_after_a_field_was_removed_and_added_again() {
    let mut home = Home::new("removed field");
    let item = home.add(wallet("Wallet", b"first seed"));
    let remove = DeviceRequest::ItemEdit(ItemEdit { remove: vec![name_of("seed")], ..edit(item) });
    assert_eq!(code(home.act(&remove)), Code::CredentialRequired, "a critical field takes the credential");
    home.critical(&remove).expect("removed");
    assert_eq!(code(value(&mut home, item, "seed")), Code::FieldUnknown);
    set(&mut home, item, "seed", Class::Critical, b"second seed").expect("added again");
    assert_eq!(value(&mut home, item, "seed").expect("exported"), b"second seed");
    let seeds: Vec<_> = history(&mut home, item).into_iter().filter(|v| v.field == name_of("seed")).collect();
    assert_eq!(seeds.iter().map(|v| (v.version, v.current)).collect::<Vec<_>>(), [(2, true), (1, false)]);
}

#[test]
fn a_removed_item_can_be_brought_back_until_it_is_purged() {
    let mut home = Home::new("removed");
    let item = home.add(login("Example", b"one"));
    let remove = |purge| DeviceRequest::ItemRemove { item, purge };
    home.act(&remove(false)).expect("removed");
    assert_eq!(code(home.act(&remove(false))), Code::ItemUnknown, "once");
    assert_eq!(code(set(&mut home, item, "password", Class::Secret, b"x")), Code::ItemUnknown);
    let list = |removed| DeviceRequest::ItemList(ListQuery { removed, ..ListQuery::default() });
    let count = |answer| match answer {
        Ok(DeviceAnswer::Items { items, .. }) => items.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!((count(home.session(&list(false))), count(home.session(&list(true)))), (0, 1));
    home.act(&DeviceRequest::ItemRestore { item, version: None }).expect("brought back");
    assert_eq!(value(&mut home, item, "password").expect("exported"), b"one");
    home.act(&remove(true)).expect("purged");
    assert_eq!(code(show(&mut home, item)), Code::ItemUnknown);
    let left = home.memory.tamper(|files| {
        let records = files.database.as_mut().expect("a database").records();
        records.keys().filter(|(table, key)| *table != Table::Settings && key.starts_with(item.as_bytes())).count()
    });
    assert_eq!(left, 0, "nothing of a purged item remains");
    assert_eq!(code(home.act(&DeviceRequest::ItemRestore { item, version: None })), Code::ItemUnknown);
    home.comes_back();
}

#[test]
fn limits_of_an_item_are_kept_on_adding_and_on_editing() {
    let mut home = Home::new("limits");
    let many = |n: usize| (0..n).map(|n| field(&format!("f{n}"), Class::Private, b"v")).collect::<Vec<_>>();
    let draft = |fields| ItemDraft { fields, ..login("x", b"y") };
    assert_eq!(code(home.act(&DeviceRequest::ItemAdd(draft(many(65))))), Code::TooMany);
    let item = home.add(draft(many(64)));
    assert_eq!(code(set(&mut home, item, "one-more", Class::Private, b"v")), Code::TooMany);
    assert_eq!(show(&mut home, item).expect("shown").fields.len(), 64, "nothing of a refused edit remains");
    assert_eq!(code(home.act(&DeviceRequest::ItemAdd(draft(Vec::new())))), Code::ValueRefused);
    let large = vec![field("large", Class::Secret, &[b'x'; 520 * 1_024])];
    assert_eq!(code(home.act(&DeviceRequest::ItemAdd(draft(large)))), Code::TooMany);
    for label in ["", "  ", &"x".repeat(257), "bell\u{7}"] {
        let request = DeviceRequest::ItemAdd(login(label, b"y"));
        assert_eq!(code(home.act(&request)), Code::ValueRefused, "{label:?}");
    }
    let twice = vec![field("a", Class::Private, b"1"), field("a", Class::Private, b"2")];
    assert_eq!(code(home.act(&DeviceRequest::ItemAdd(draft(twice)))), Code::ValueRefused);
    home.comes_back();
}

#[test]
fn a_key_that_does_not_fit_its_policy_is_not_taken() {
    let mut home = Home::new("keys");
    let bad = DeviceRequest::ItemAdd(key_item("k", KeyPurpose::Message, fakes::BAD_KEY));
    assert_eq!(code(home.act(&bad)), Code::KeyMalformed);
    assert_eq!(code(home.act(&DeviceRequest::ItemAdd(totp_item("t", fakes::BAD_TOTP)))), Code::OtpauthMalformed);
    let mut unfit = key_item("k", KeyPurpose::Message, b"key");
    if let Some(key) = &mut unfit.policy.key {
        key.purpose = KeyPurpose::Encrypt;
    }
    assert_eq!(code(home.act(&DeviceRequest::ItemAdd(unfit))), Code::ValueRefused);
    let mut no_host = api_key("k", b"0123456789abcdef");
    no_host.policy.http = Some(strongroom_wire::policy::HttpPolicy { hosts: Vec::new(), ..http_policy() });
    assert_eq!(code(home.act(&DeviceRequest::ItemAdd(no_host))), Code::ValueRefused);
}

fn imported(home: &mut Home, drafts: Vec<ItemDraft>, dry_run: bool) -> Vec<ImportOutcome> {
    imported_over(home, drafts, dry_run, false)
}

fn imported_over(home: &mut Home, drafts: Vec<ItemDraft>, dry_run: bool, overwrite: bool) -> Vec<ImportOutcome> {
    match home.act(&DeviceRequest::ItemImport { drafts, dry_run, overwrite }) {
        Ok(DeviceAnswer::Imported { outcomes }) => outcomes,
        other => panic!("{other:?}"),
    }
}

fn foreign(id: &str, password: &[u8]) -> ItemDraft {
    ItemDraft { origin: Some(Origin { source: "test".into(), id: id.into() }), ..login(id, password) }
}

#[test]
fn an_import_that_is_repeated_makes_no_duplicates_and_bad_rows_are_listed() {
    use ImportOutcome::{Added, Refused, Unchanged, Updated};
    let mut home = Home::new("import");
    let rows = || vec![foreign("a", b"1"), login("", b"bad label"), foreign("b", b"2")];
    assert_eq!(imported(&mut home, rows(), true), [Added, Refused, Added], "a dry run says what would be");
    assert_eq!(imported(&mut home, rows(), false), [Added, Refused, Added]);
    assert_eq!(imported(&mut home, rows(), false), [Unchanged, Refused, Unchanged]);
    home.comes_back();
    assert_eq!(imported(&mut home, vec![foreign("a", b"changed")], false), [Updated]);
    let DeviceAnswer::Items { items, .. } =
        home.session(&DeviceRequest::ItemList(ListQuery::default())).expect("listed")
    else {
        panic!()
    };
    assert_eq!(items.len(), 2);
    let a = items.iter().find(|item| item.label == "a").expect("there").id;
    assert_eq!(value(&mut home, a, "password").expect("exported"), b"changed");
}

#[test]
fn an_import_keeps_what_was_changed_here_or_granted_unless_it_is_told_to_overwrite() {
    use ImportOutcome::{Added, Kept, Unchanged, Updated};
    let rows = |password: &[u8]| -> Vec<ItemDraft> {
        ["edited", "granted", "removed", "as it came"].map(|id| foreign(id, password)).into()
    };
    let mut home = Home::new("import kept");
    assert_eq!(imported(&mut home, rows(b"1"), false), [Added; 4]);
    assert_eq!(imported(&mut home, rows(b"2"), false), [Updated; 4]);
    let DeviceAnswer::Items { items, .. } =
        home.session(&DeviceRequest::ItemList(ListQuery::default())).expect("listed")
    else {
        panic!()
    };
    let id = |label: &str| items.iter().find(|item| item.label == label).expect("there").id;
    set(&mut home, id("edited"), "password", Class::Secret, b"mine").expect("edited");
    let guest = home.guest_add("guest");
    let policy = Some(ItemPolicy { http: Some(http_policy()), key: None });
    home.act(&DeviceRequest::ItemEdit(ItemEdit { policy, ..edit(id("granted")) })).expect("a policy");
    home.grant(guest, &reference(id("granted"), "password"), Consumer::Http, Mode::Always);
    home.act(&DeviceRequest::ItemRemove { item: id("removed"), purge: false }).expect("removed");
    assert_eq!(imported(&mut home, rows(b"2"), false), [Unchanged; 4], "the same file again is no news");
    for dry_run in [true, false] {
        assert_eq!(imported(&mut home, rows(b"3"), dry_run), [Kept, Kept, Kept, Updated]);
    }
    assert_eq!(value(&mut home, id("edited"), "password").expect("exported"), b"mine");
    assert_eq!(value(&mut home, id("granted"), "password").expect("exported"), b"2");
    assert_eq!(imported_over(&mut home, rows(b"3"), true, true), [Updated, Updated, Updated, Unchanged]);
    assert_eq!(imported_over(&mut home, rows(b"3"), false, true), [Updated, Updated, Updated, Unchanged]);
    for label in ["edited", "granted", "removed", "as it came"] {
        assert_eq!(value(&mut home, id(label), "password").expect("exported"), b"3", "{label}");
    }
    // The item keeps its policy, and its values fit that, not what the file says.
    let signs = KeyPolicy { purpose: KeyPurpose::Message, algorithm: KeyAlgorithm::Ed25519 };
    let policy = Some(ItemPolicy { http: None, key: Some(signs) });
    home.act(&DeviceRequest::ItemEdit(ItemEdit { policy, ..edit(id("as it came")) })).expect("a policy");
    let bad = || vec![foreign("as it came", fakes::BAD_KEY)];
    assert_eq!(imported_over(&mut home, bad(), false, true), [ImportOutcome::Refused]);
    // What a guest uses is asked for again, though the file brought it itself.
    assert_eq!(imported(&mut home, rows(b"4"), false), [Updated, Kept, Updated, Kept]);
}

#[test]
fn a_row_that_does_not_fit_into_its_item_is_listed_and_the_rest_comes_in() {
    use ImportOutcome::{Added, Refused};
    let mut home = Home::new("import too large");
    let mut wide = foreign("wide", b"1");
    wide.fields = (0..64).map(|n| field(&format!("f{n}"), Class::Secret, b"v")).collect();
    assert_eq!(imported(&mut home, vec![wide], false), [Added]);
    // 64 fields are there already, so one of another name is one too many.
    let mut wider = foreign("wide", b"1");
    wider.fields = vec![field("another", Class::Secret, b"v")];
    assert_eq!(imported(&mut home, vec![wider, foreign("other", b"2")], false), [Refused, Added]);
    home.comes_back();
}

#[test]
fn an_import_is_refused_where_a_bad_row_cannot_be_taken_back_alone() {
    let mut home = Home::new("import take back");
    let wide = |fields: std::ops::Range<usize>| {
        let mut wide = foreign("wide", b"1");
        wide.fields = fields.map(|n| field(&format!("f{n}"), Class::Secret, b"v")).collect();
        wide
    };
    assert_eq!(imported(&mut home, vec![wide(0..64)], false), [ImportOutcome::Added]);
    home.memory.fault(Fault::TakeBack);
    let drafts = vec![foreign("first", b"1"), wide(64..65), foreign("last", b"2")];
    let request = DeviceRequest::ItemImport { drafts, dry_run: false, overwrite: false };
    assert_eq!(code(home.act(&request)), Code::StoreFailed, "what is acknowledged is there");
    home.memory.mend();
    home.comes_back();
    assert_eq!(imported(&mut home, vec![foreign("first", b"1")], false), [ImportOutcome::Added]);
}

#[test]
fn an_import_is_recognised_also_after_the_vault_key_was_replaced() {
    let mut home = Home::new("import rotated");
    assert_eq!(imported(&mut home, vec![foreign("a", b"1")], false), [ImportOutcome::Added]);
    let Home { world, device, passphrase, .. } = &mut home;
    let second = world.add_device(device, passphrase).expect("enrolled");
    home.act(&DeviceRequest::DeviceRevoke { device: second.id }).expect("out, and the vault key is replaced");
    assert_eq!(imported(&mut home, vec![foreign("a", b"1")], false), [ImportOutcome::Unchanged]);
}

#[test]
fn no_label_and_no_tag_makes_a_list_or_an_export_too_long_for_a_frame() {
    let mut home = Home::new("long labels");
    let tag = |n: usize, chars: usize| format!("{n:03}{}", "\"".repeat(chars - 3));
    let tagged = |label: &str, tags: Vec<String>| ItemDraft { tags, ..login(label, b"password") };
    let too_long = tagged("x", (0..32).map(|n| tag(n, 256)).collect());
    assert_eq!(code(home.act(&DeviceRequest::ItemAdd(too_long))), Code::TooMany);
    let longest = || (0..31).map(|n| tag(n, 256)).collect::<Vec<_>>();
    let mut wide = tagged("wide", longest());
    wide.fields = (0..64).map(|n| field(&format!("f{n}"), Class::Secret, b"v")).collect();
    let item = home.add(wide);
    let label = Some("l".repeat(257 - 1));
    let refused = home.act(&DeviceRequest::ItemEdit(ItemEdit { label, tags: Some(longest()), ..edit(item) }));
    assert!(refused.is_ok(), "{refused:?}");
    let more = (0..32).map(|n| tag(n, 256)).collect();
    assert_eq!(
        code(home.act(&DeviceRequest::ItemEdit(ItemEdit { tags: Some(more), ..edit(item) }))),
        Code::TooMany,
        "an edit does not go around it"
    );
    for n in 0..60 {
        home.add(tagged(&format!("{n}"), longest()));
    }
    let length = |answer: &DeviceAnswer| serde_json::to_vec(answer).expect("JSON").len();
    let (mut after, mut seen) = (None, 0);
    loop {
        let query = ListQuery { after, ..ListQuery::default() };
        let answer = home.session(&DeviceRequest::ItemList(query)).expect("listed");
        assert!(length(&answer) < strongroom_wire::limits::FRAME_BYTES_MAX);
        let DeviceAnswer::Items { items, next } = answer else { panic!() };
        seen += items.len();
        match next {
            Some(_) => after = next,
            None => break,
        }
    }
    assert_eq!(seen, 61);
    let (mut after, mut fields, mut told) = (None, 0, 0);
    loop {
        let export = DeliverRequest { consumer: Consumer::Export, references: Vec::new(), after, program: None };
        let answer = home.act(&DeviceRequest::Deliver(export)).expect("exported");
        assert!(length(&answer) < strongroom_wire::limits::FRAME_BYTES_MAX);
        let DeviceAnswer::Delivered { values, next, .. } = answer else { panic!() };
        fields += values.len();
        told += values.iter().filter(|value| value.item.is_some()).count();
        match next {
            Some(_) => after = next,
            None => break,
        }
    }
    let of_logins = login("x", b"x").fields.len() * 60;
    assert_eq!((fields, told), (64 + of_logins, 61), "each item is told once");
}

#[test]
fn critical_values_are_not_imported() {
    let mut home = Home::new("import critical");
    let request = DeviceRequest::ItemImport { drafts: vec![wallet("w", b"seed")], dry_run: false, overwrite: false };
    assert_eq!(code(home.act(&request)), Code::ClassRefused);
}

#[test]
fn nothing_of_an_item_remains_where_the_disk_was_full() {
    for fault in [Fault::FullCommit, Fault::FullRecord] {
        let mut home = Home::new("full");
        let kept = home.add(login("kept", b"1"));
        home.memory.fault(fault);
        assert_eq!(code(home.act(&DeviceRequest::ItemAdd(login("lost", b"2")))), Code::DiskFull);
        home.memory.mend();
        let count = |home: &mut Home| match home.session(&DeviceRequest::ItemList(ListQuery::default())) {
            Ok(DeviceAnswer::Items { items, .. }) => items.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!(count(&mut home), 1, "{fault:?}");
        home.comes_back();
        assert_eq!(count(&mut home), 1, "{fault:?}");
        assert_eq!(value(&mut home, kept, "password").expect("exported"), b"1");
    }
}

#[test]
fn what_arrives_together_is_durable_together_and_one_refusal_takes_nothing_of_the_others_along() {
    let mut home = Home::new("together");
    let device = strongroom_core::Peer::Device(home.device.id);
    let good = strongroom_sim::world::json(&DeviceRequest::ItemAdd(login("good", b"1")));
    let bad = strongroom_sim::world::json(&DeviceRequest::ItemAdd(login("", b"2")));
    let mut sent = Vec::new();
    for body in [&good, &bad, &good] {
        let challenge = home.world.challenge(&home.device).expect("a challenge");
        let fresh = home.passphrase.fresh(home.world.id, home.device.id, challenge, body);
        let id = home.request_id();
        sent.push(home.world.send(device, id, Some(fresh), None, body));
    }
    home.flush();
    let answers: Vec<bool> =
        sent.into_iter().map(|to| strongroom_sim::world::device_result(home.world.take(to)).is_ok()).collect();
    assert_eq!(answers, [true, false, true]);
    home.comes_back();
    assert_eq!(home.actions().iter().filter(|action| **action == Action::ItemAdd).count(), 2);
}

#[test]
fn an_empty_policy_takes_the_place_of_another_and_counts_up() {
    let mut home = Home::new("policy");
    let item = home.add(api_key("k", b"0123456789abcdef"));
    let change = DeviceRequest::ItemEdit(ItemEdit { policy: Some(ItemPolicy::default()), ..edit(item) });
    home.act(&change).expect("changed");
    home.act(&change).expect("the same again");
    assert_eq!(show(&mut home, item).expect("shown").policy_version, 2);
    assert_eq!(home.actions().iter().filter(|action| **action == Action::ItemPolicy).count(), 1);
}

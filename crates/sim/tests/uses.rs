//! The use of a secret: its intent before it, its outcome after it, and nothing without the log.

use strongroom_core::{Effect, HttpDone, Peer};
use strongroom_sim::home::{
    api_key, code, field, get, guest_result, key_item, login, mac, reference, sign, totp, totp_item, wallet,
};
use strongroom_sim::world::{Answer, device_result};
use strongroom_sim::{Fault, Home};
use strongroom_wire::device::{DeliverRequest, DeviceAnswer, DeviceRequest, ItemEdit};
use strongroom_wire::event::{Action, Actor, Event};
use strongroom_wire::guest::{GuestAnswer, UseCall, UseResult};
use strongroom_wire::policy::{Consumer, KeyPurpose, Mode};
use strongroom_wire::{Class, Code, Reference};

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

fn uses(home: &mut Home) -> Vec<Event> {
    let mut events = home.events();
    events.retain(|event| matches!(event.action, Action::UseIntent | Action::UseOutcome));
    events
}

#[test]
fn the_intent_is_durable_before_an_exchange_leaves_and_the_outcome_before_its_end() {
    let mut home = Home::new("intent");
    let guest = home.guest_add("guest");
    let key = reference(home.add(api_key("API", KEY)), "key");
    let grant = home.grant(guest, &key, Consumer::Http, Mode::Always);
    let Answer::Http(run) = home.use_as(guest, &key, get("/v1?secret=no")) else { panic!("refused") };
    let durable = home.memory.copy().database.expect("a database");
    let last = durable.leaves().last().cloned().flatten().expect("a leaf");
    let intent = Event::from_leaf(&last).expect("an event");
    assert_eq!((intent.action, intent.grant), (Action::UseIntent, Some(grant)));
    assert_eq!(intent.destination.as_deref(), Some("GET api.example.com/v1"), "no query: it may hold anything");
    assert_eq!(run.0.secret.open().expect("opened").expose(), KEY);
    assert!(home.vault().is_busy());
    let to = run.0.to;
    let done = HttpDone {
        status: Some(204),
        bytes: 77,
        address: Some("192.0.2.1:443".into()),
        head_sent: true,
        ..HttpDone::default()
    };
    home.world.http_done(run.0.run, done);
    assert!(home.told.iter().any(|effect| matches!(effect, Effect::HttpEnd(end) if *end == to)));
    let outcome = uses(&mut home).pop().expect("an outcome");
    assert_eq!(
        (outcome.status, outcome.bytes, outcome.address.as_deref()),
        (Some(204), Some(77), Some("192.0.2.1:443"))
    );
    assert_eq!(outcome.actor, Actor::Guest(guest));
    assert!(!home.vault().is_busy());
}

#[test]
fn an_exchange_that_a_crash_or_a_lock_broke_off_has_an_unknown_outcome() {
    for lock in [false, true] {
        let mut home = Home::new("unknown");
        let guest = home.guest_add("guest");
        let key = reference(home.add(api_key("API", KEY)), "key");
        home.grant(guest, &key, Consumer::Http, Mode::Always);
        let Answer::Http(run) = home.use_as(guest, &key, get("/")) else { panic!("refused") };
        if lock {
            home.lock();
            assert!(home.told.iter().any(|effect| matches!(effect, Effect::HttpAbort)));
            let done = HttpDone { status: Some(200), head_sent: true, ..HttpDone::default() };
            home.world.http_done(run.0.run, done);
            home.enter();
        } else {
            home.comes_back();
        }
        let outcome = uses(&mut home).pop().expect("an outcome");
        assert_eq!(
            (outcome.action, outcome.status, outcome.note.as_deref()),
            (Action::UseOutcome, None, Some("unknown"))
        );
        home.comes_back();
        assert_eq!(uses(&mut home).len(), 2, "once");
    }
}

#[test]
fn an_exchange_whose_head_never_came_answers_why() {
    let mut home = Home::new("no head");
    let guest = home.guest_add("guest");
    let key = reference(home.add(api_key("API", KEY)), "key");
    home.grant(guest, &key, Consumer::Http, Mode::Always);
    for (refusal, expected) in [(Some(Code::ConnectFailed.into()), Code::ConnectFailed), (None, Code::HttpFailed)] {
        let Answer::Http(run) = home.use_as(guest, &key, get("/")) else { panic!("refused") };
        let to = run.0.to;
        home.world.http_done(run.0.run, HttpDone { refusal, ..HttpDone::default() });
        assert_eq!(code(guest_result(home.world.take(to))), expected);
    }
}

#[test]
fn an_outcome_that_could_not_be_written_is_unknown_after_the_next_unlock() {
    let mut home = Home::new("unwritten outcome");
    let guest = home.guest_add("guest");
    let key = reference(home.add(api_key("API", KEY)), "key");
    home.grant(guest, &key, Consumer::Http, Mode::Always);
    let Answer::Http(run) = home.use_as(guest, &key, get("/")) else { panic!("refused") };
    home.memory.fault(Fault::FullCommit);
    let to = run.0.to;
    home.world.http_done(run.0.run, HttpDone { status: Some(200), head_sent: true, ..HttpDone::default() });
    assert!(home.told.iter().any(|effect| matches!(effect, Effect::HttpEnd(end) if *end == to)), "its body ends");
    home.memory.mend();
    home.comes_back();
    let outcome = uses(&mut home).pop().expect("an outcome");
    assert_eq!(outcome.note.as_deref(), Some("unknown"));
}

#[test]
fn a_consumer_that_fails_leaves_its_outcome_and_nothing_else() {
    let mut home = Home::new("fails");
    let guest = home.guest_add("guest");
    let key = reference(home.add(key_item("k", KeyPurpose::Message, b"a key")), "private_key");
    home.grant(guest, &key, Consumer::Sign, Mode::Always);
    home.fakes.failing = true;
    assert_eq!(code(guest_result(home.use_as(guest, &key, sign(b"m")))), Code::KeyMalformed);
    let outcome = uses(&mut home).pop().expect("an outcome");
    assert_eq!((outcome.action, outcome.status, outcome.code), (Action::UseOutcome, None, Some(Code::KeyMalformed)));
}

#[test]
fn the_member_uses_secrets_with_a_factor_and_is_logged_alike() {
    let mut home = Home::new("member");
    let signing = reference(home.add(key_item("k", KeyPurpose::Message, b"a key")), "private_key");
    let code_settings = reference(home.add(totp_item("t", b"settings")), "totp");
    let crypt = reference(home.add(key_item("m", KeyPurpose::Mac, b"a key")), "key");
    let api = reference(home.add(api_key("API", KEY)), "key");
    let call = |reference: &Reference, call| DeviceRequest::Use(UseCall { reference: reference.clone(), call });
    for (place, what) in [(&signing, sign(b"m")), (&code_settings, totp()), (&crypt, mac(b"m"))] {
        let used = home.act(&call(place, what));
        assert!(matches!(used, Ok(DeviceAnswer::Used(_))), "{used:?}");
    }
    let request = call(&api, strongroom_sim::home::http("DELETE", "https://other.example.com/"));
    let Answer::Http(run) = home.world.fresh_ask(&home.device, &home.passphrase, &request) else { panic!() };
    assert_eq!(run.0.peer, Peer::Device(home.device.id));
    home.world.http_done(run.0.run, HttpDone { status: Some(200), head_sent: true, ..HttpDone::default() });
    let elsewhere = call(&api, strongroom_sim::home::http("GET", "https://evil.example.org/"));
    assert_eq!(code(home.act(&elsewhere)), Code::LimitHost, "where a secret goes is the item's business");
    let actors = uses(&mut home);
    assert_eq!(actors.len(), 8);
    assert!(actors.iter().all(|event| event.actor == Actor::Device(home.device.id)));
}

#[test]
fn a_key_of_several_versions_is_shown_newest_first() {
    let mut home = Home::new("versions");
    let item = home.add(key_item("m", KeyPurpose::Mac, b"one"));
    let set = vec![field("key", Class::Secret, b"two")];
    let edit = ItemEdit { item, if_version: None, label: None, tags: None, set, remove: Vec::new(), policy: None };
    home.act(&DeviceRequest::ItemEdit(edit)).expect("edited");
    let call = DeviceRequest::Use(UseCall { reference: reference(item, "key"), call: mac(b"m") });
    home.act(&call).expect("used");
    let shown: Vec<&[u8]> = home.fakes.shown.iter().map(|(_, value)| value.as_slice()).collect();
    assert_eq!(shown, [&b"two"[..], b"one"]);
}

#[test]
fn values_leave_for_a_device_half_alone_and_each_is_logged_before() {
    let mut home = Home::new("deliver");
    let item = home.add(login("site", b"hunter2"));
    let seed = home.add(wallet("w", b"seed"));
    let deliver = |consumer, references: Vec<Reference>| {
        let program = (consumer == Consumer::Exec).then(|| "psql".to_owned());
        DeviceRequest::Deliver(DeliverRequest { consumer, references, after: None, program })
    };
    let both = || vec![reference(item, "password"), reference(item, "username")];
    let Ok(DeviceAnswer::Delivered { values, next: None, .. }) = home.act(&deliver(Consumer::Exec, both())) else {
        panic!()
    };
    assert_eq!(values.iter().map(|value| value.value.expose()).collect::<Vec<_>>(), [&b"hunter2"[..], b"ada"]);
    let delivered: Vec<Event> = home.events().into_iter().filter(|event| event.action == Action::Deliver).collect();
    assert_eq!(delivered.len(), 2);
    assert!(delivered.iter().all(|event| event.note.as_deref() == Some("psql")));
    assert_eq!(code(home.act(&deliver(Consumer::Sign, both()))), Code::ValueRefused);
    assert_eq!(code(home.act(&deliver(Consumer::Clipboard, Vec::new()))), Code::ValueRefused);
    let critical = || vec![reference(seed, "seed")];
    assert_eq!(code(home.critical(&deliver(Consumer::Clipboard, critical()))), Code::ClassRefused);
    assert_eq!(code(home.act(&deliver(Consumer::Export, critical()))), Code::CredentialRequired);
    let Ok(DeviceAnswer::Delivered { values, .. }) = home.critical(&deliver(Consumer::Export, critical())) else {
        panic!()
    };
    assert_eq!(values[0].value.expose(), b"seed");
    let page = home.act(&deliver(Consumer::Export, Vec::new()));
    let Ok(DeviceAnswer::Delivered { values, critical: by_name, .. }) = page else { panic!() };
    assert_eq!((values.len(), by_name), (3, critical()), "everything, and what is critical by name alone");
    let told: Vec<_> = values.iter().filter_map(|value| value.item.as_ref()).map(|item| item.id).collect();
    let items: std::collections::BTreeSet<_> = values.iter().map(|value| value.reference.item).collect();
    assert_eq!(told, items.into_iter().collect::<Vec<_>>(), "each item once, with its first value");
}

#[test]
fn nothing_is_delivered_where_the_log_has_no_room() {
    let mut home = Home::new("deliver full");
    let item = home.add(login("site", b"hunter2"));
    home.memory.fault(Fault::FullCommit);
    let references = vec![reference(item, "password")];
    let deliver = DeliverRequest { consumer: Consumer::Clipboard, references, after: None, program: None };
    assert_eq!(code(home.act(&DeviceRequest::Deliver(deliver))), Code::DiskFull);
}

#[test]
fn a_critical_key_signs_while_the_credential_is_there() {
    let mut home = Home::new("critical");
    let mut draft = key_item("k", KeyPurpose::Message, b"a critical key");
    draft.fields[0].class = Class::Critical;
    let key = reference(home.add(draft), "private_key");
    let call = DeviceRequest::Use(UseCall { reference: key, call: sign(b"m") });
    assert_eq!(code(home.act(&call)), Code::CredentialRequired);
    let used = home.critical(&call);
    assert!(matches!(used, Ok(DeviceAnswer::Used(UseResult::Signature { .. }))), "{used:?}");
    assert_eq!(home.fakes.shown.last().map(|(_, value)| value.as_slice()), Some(&b"a critical key"[..]));
}

#[test]
fn refusals_of_one_kind_are_logged_once_a_minute_with_their_number() {
    let mut home = Home::new("refusals");
    let guest = home.guest_add("guest");
    let absent = reference(strongroom_wire::ItemId([5; 16]), "key");
    for _ in 0..10 {
        assert_eq!(code(guest_result(home.use_as(guest, &absent, get("/")))), Code::ReferenceUnknown);
    }
    home.pass_secs(60);
    assert_eq!(code(guest_result(home.use_as(guest, &absent, get("/")))), Code::ReferenceUnknown);
    let refused: Vec<Event> = home.events().into_iter().filter(|event| event.action == Action::UseRefused).collect();
    assert_eq!(refused.iter().map(|event| event.count).collect::<Vec<_>>(), [None, Some(10)]);
}

#[test]
fn a_locked_vault_tells_guests_so_and_the_member_once() {
    let mut home = Home::new("locked");
    let guest = home.guest_add("guest");
    let key = reference(home.add(api_key("API", KEY)), "key");
    home.grant(guest, &key, Consumer::Http, Mode::Always);
    let notices =
        |home: &Home| home.told.iter().filter(|effect| matches!(effect, Effect::Notice("guest.locked"))).count();
    home.lock();
    for _ in 0..3 {
        assert_eq!(code(guest_result(home.use_as(guest, &key, get("/")))), Code::VaultLocked);
    }
    assert_eq!(notices(&home), 1);
    home.world.unlock_only(&home.device, &home.passphrase).expect("unlocked");
    assert_eq!(code(guest_result(home.use_as(guest, &key, get("/")))), Code::VaultLocked, "not confirmed yet");
    home.lock();
    home.enter();
    assert!(matches!(home.use_as(guest, &key, get("/")), Answer::Http(_)));
}

#[test]
fn malformed_requests_are_told_the_place_and_nothing_of_the_content() {
    let mut home = Home::new("malformed");
    let guest = home.guest_add("guest");
    for body in ["", "{", "[]", "{\"use\":{\"hunter2\":1}}", "\"hunter2\"", "nonsense"] {
        let id = home.request_id();
        let answer = guest_result(home.world.ask(Peer::Guest(guest), id, None, None, body));
        let refusal = answer.expect_err("malformed");
        assert_eq!(refusal.code, Code::RequestMalformed);
        assert!(!format!("{refusal:?}").contains("hunter2"));
        let id = home.request_id();
        let device = Peer::Device(home.device.id);
        assert_eq!(code(device_result(home.world.ask(device, id, None, None, body))), Code::RequestMalformed);
    }
    let neither = strongroom_wire::guest::UseRequest { call: None, handle: None, reason: None };
    let answer = guest_result(home.world.guest(guest, &strongroom_wire::guest::GuestRequest::Use(neither)));
    assert_eq!(code::<GuestAnswer>(answer), Code::RequestMalformed);
}

//! Guests and grants: every limit is kept by the vault, absent and forbidden answer alike, and an end takes effect at once.

use strongroom_core::{Effect, HttpDone, Input, Peer};
use strongroom_sim::home::{
    api_key, code, derive, field, get, guest_result, http, http_policy, key_item, login, mac, reference, sign, totp,
    totp_item,
};
use strongroom_sim::world::{Answer, device_result};
use strongroom_sim::{Fault, Home, fakes};
use strongroom_wire::device::{DeviceAnswer, DeviceRequest, GrantAdd, ItemEdit};
use strongroom_wire::event::Action;
use strongroom_wire::guest::{Call, CryptCall, GuestAnswer, GuestRequest, HttpBody, HttpCall, SignCall, UseResult};
use strongroom_wire::items::ItemDraft;
use strongroom_wire::policy::{
    Consumer, CryptOperation, Hours, HttpLimits, JwtTemplate, KeyPurpose, Limits, Mode, SignTemplate,
};
use strongroom_wire::{Bytes, Class, Code, GuestId, ItemId, Reference, Timestamp};

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

fn with_key(home: &mut Home) -> Reference {
    reference(home.add(api_key("API", KEY)), "key")
}

/// A home with a guest, and a key that it was not granted yet.
fn guest_and_key(name: &str) -> (Home, GuestId, Reference) {
    let mut home = Home::new(name);
    let guest = home.guest_add("guest");
    let key = with_key(&mut home);
    (home, guest, key)
}

/// The code of a refused use, or `None` where it ran; a run is ended with so many bytes.
fn used(home: &mut Home, guest: GuestId, reference: &Reference, call: Call, bytes: u64) -> Option<Code> {
    match home.use_as(guest, reference, call) {
        Answer::Http(run) => {
            let done = HttpDone { status: Some(200), bytes, head_sent: true, ..HttpDone::default() };
            home.world.http_done(run.0.run, done);
            None
        }
        Answer::Guest(Ok(_)) => None,
        Answer::Guest(Err(refusal)) => Some(refusal.code),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_absent_removed_or_anothers_answers_alike() {
    let mut home = Home::new("alike");
    let (guest, other) = (home.guest_add("guest"), home.guest_add("other"));
    let mine = with_key(&mut home);
    let others = with_key(&mut home);
    let nobodys = with_key(&mut home);
    home.grant(guest, &mine, Consumer::Http, Mode::Always);
    home.grant(other, &others, Consumer::Http, Mode::Always);
    let gone = with_key(&mut home);
    home.grant(guest, &gone, Consumer::Http, Mode::Always);
    home.act(&DeviceRequest::ItemRemove { item: gone.item, purge: false }).expect("removed");
    let absent = reference(ItemId([5; 16]), "key");
    let no_field = reference(mine.item, "nothing");
    let mut answers = Vec::new();
    for reference in [&others, &nobodys, &gone, &absent, &no_field] {
        let Answer::Guest(Err(refusal)) = home.use_as(guest, reference, get("/")) else { panic!("used") };
        answers.push(refusal);
    }
    assert!(answers.iter().all(|refusal| *refusal == answers[0] && refusal.code == Code::ReferenceUnknown));
    assert_eq!((&answers[0].rule, &answers[0].hint), (&None, &None));
    assert_eq!(used(&mut home, guest, &mine, totp(), 0), Some(Code::ReferenceUnknown), "another consumer");
    let Ok(GuestAnswer::List { granted }) = guest_result(home.world.guest(guest, &GuestRequest::List {})) else {
        panic!()
    };
    assert_eq!(granted.iter().map(|row| &row.reference).collect::<Vec<_>>(), [&mine]);
    assert_eq!(granted[0].hosts, ["api.example.com", "other.example.com"]);
    assert_eq!(home.fakes.shown.len(), 0);
}

#[test]
fn hosts_methods_and_paths_are_kept() {
    let (mut home, guest, key) = guest_and_key("http limits");
    let http_limits = HttpLimits {
        hosts: vec!["api.example.com".parse().expect("a host")],
        methods: vec!["GET".into(), "POST".into()],
        path_prefixes: vec!["/v1/items".into()],
        ..HttpLimits::default()
    };
    let limits = Limits { http: Some(http_limits), ..Limits::default() };
    home.grant_within(guest, &key, Consumer::Http, Mode::Always, limits);
    for (call, expected) in [
        (get("/v1/items"), None),
        (get("/v1/items/7?q=1"), None),
        (http("POST", "https://api.example.com/v1/items/"), None),
        (get("/v1/itemsx"), Some(Code::LimitPath)),
        (get("/v1"), Some(Code::LimitPath)),
        (get("/v1/items/../users"), Some(Code::UrlRefused)),
        (http("DELETE", "https://api.example.com/v1/items"), Some(Code::LimitMethod)),
        (http("GET", "https://other.example.com/v1/items"), Some(Code::LimitHost)),
        (http("GET", "https://evil.example.org/v1/items"), Some(Code::LimitHost)),
        (http("GET", "https://api.example.com:8443/v1/items"), Some(Code::LimitHost)),
        (http("GET", "http://api.example.com/v1/items"), Some(Code::UrlRefused)),
    ] {
        assert_eq!(used(&mut home, guest, &key, call.clone(), 0), expected, "{call:?}");
    }
}

#[test]
fn without_methods_a_grant_reads_and_does_not_write() {
    let (mut home, guest, key) = guest_and_key("methods");
    home.grant(guest, &key, Consumer::Http, Mode::Always);
    assert_eq!(used(&mut home, guest, &key, get("/"), 0), None);
    assert_eq!(used(&mut home, guest, &key, http("POST", "https://api.example.com/"), 0), Some(Code::LimitMethod));
}

#[test]
fn uses_are_counted_durably_and_end() {
    let (mut home, guest, key) = guest_and_key("uses");
    let limits = Limits { uses_max: Some(3), ..Limits::default() };
    home.grant_within(guest, &key, Consumer::Http, Mode::Always, limits);
    assert_eq!(used(&mut home, guest, &key, get("/"), 0), None);
    assert_eq!(used(&mut home, guest, &key, get("/"), 0), None);
    home.comes_back();
    assert_eq!(used(&mut home, guest, &key, get("/"), 0), None);
    assert_eq!(used(&mut home, guest, &key, get("/"), 0), Some(Code::LimitUses));
    home.comes_back();
    assert_eq!(used(&mut home, guest, &key, get("/"), 0), Some(Code::LimitUses));
}

#[test]
fn a_use_that_could_not_be_counted_does_not_leave() {
    for fault in [Fault::FullCommit, Fault::FullRecord, Fault::Reads] {
        let (mut home, guest, key) = guest_and_key("uncounted");
        let signing = reference(home.add(key_item("k", KeyPurpose::Message, b"a key")), "private_key");
        let limits = || Limits { uses_max: Some(1), ..Limits::default() };
        home.grant_within(guest, &key, Consumer::Http, Mode::Always, limits());
        home.grant_within(guest, &signing, Consumer::Sign, Mode::Always, limits());
        home.memory.fault(fault);
        assert!(used(&mut home, guest, &key, get("/"), 0).is_some(), "{fault:?}");
        assert!(used(&mut home, guest, &signing, sign(b"m"), 0).is_some(), "{fault:?}");
        home.memory.mend();
        assert!(!home.vault().is_busy(), "an exchange that did not leave does not run");
        assert_eq!(used(&mut home, guest, &key, get("/"), 0), None, "nothing was counted");
        assert_eq!(used(&mut home, guest, &signing, sign(b"m"), 0), None);
        home.comes_back();
    }
}

#[test]
fn the_rate_is_kept_over_any_minute() {
    let (mut home, guest, key) = guest_and_key("rate");
    let limits = Limits { calls_per_minute_max: Some(2), ..Limits::default() };
    home.grant_within(guest, &key, Consumer::Http, Mode::Always, limits);
    assert_eq!(used(&mut home, guest, &key, get("/"), 0), None);
    home.pass_secs(40);
    assert_eq!(used(&mut home, guest, &key, get("/"), 0), None);
    let Answer::Guest(Err(refusal)) = home.use_as(guest, &key, get("/")) else { panic!("used") };
    assert_eq!((refusal.code, refusal.retry_secs), (Code::LimitRate, Some(20)));
    home.pass_secs(20);
    assert_eq!(used(&mut home, guest, &key, get("/"), 0), None);
    assert_eq!(used(&mut home, guest, &key, get("/"), 0), Some(Code::LimitRate));
}

#[test]
fn sixty_calls_a_minute_where_a_grant_says_nothing_else() {
    let (mut home, guest, key) = guest_and_key("sixty");
    home.grant(guest, &key, Consumer::Http, Mode::Always);
    for _ in 0..60 {
        assert_eq!(used(&mut home, guest, &key, get("/"), 0), None);
    }
    assert_eq!(used(&mut home, guest, &key, get("/"), 0), Some(Code::LimitRate));
}

#[test]
fn bytes_are_counted_both_ways_and_one_exchange_at_a_time_has_what_is_left() {
    let (mut home, guest, key) = guest_and_key("bytes");
    let limits = Limits { bytes_max: Some(1_000), ..Limits::default() };
    home.grant_within(guest, &key, Consumer::Http, Mode::Always, limits);
    let post = |bytes: usize| {
        Call::Http(HttpCall {
            method: "GET".into(),
            url: "https://api.example.com/".into(),
            headers: Vec::new(),
            body: HttpBody::Inline(Bytes(vec![b'x'; bytes])),
            follow_redirects: false,
        })
    };
    assert_eq!(used(&mut home, guest, &key, post(1_001), 0), Some(Code::LimitBytes));
    let Answer::Http(run) = home.use_as(guest, &key, post(600)) else { panic!("refused") };
    assert_eq!(run.0.bytes_left, Some(1_000));
    assert_eq!(used(&mut home, guest, &key, get("/"), 0), Some(Code::Busy), "what is left is in use");
    let done = HttpDone { status: Some(200), bytes: 900, head_sent: true, ..HttpDone::default() };
    home.world.http_done(run.0.run, done);
    let Answer::Http(run) = home.use_as(guest, &key, get("/")) else { panic!("refused") };
    assert_eq!(run.0.bytes_left, Some(100));
    home.world.http_done(run.0.run, HttpDone { status: Some(200), bytes: 100, head_sent: true, ..HttpDone::default() });
    assert_eq!(used(&mut home, guest, &key, get("/"), 0), Some(Code::LimitBytes));
    home.comes_back();
    assert_eq!(used(&mut home, guest, &key, get("/"), 0), Some(Code::LimitBytes));
}

#[test]
fn expiry_and_hours_are_kept() {
    let mut home = Home::new("expiry");
    let guest = home.guest_add("guest");
    let (key, other) = (with_key(&mut home), with_key(&mut home));
    let end = Timestamp(home.wall_ms + 100_000);
    let limits = Limits { expires_at: Some(end), ..Limits::default() };
    home.grant_within(guest, &key, Consumer::Http, Mode::Always, limits);
    home.pass_secs(99);
    assert_eq!(used(&mut home, guest, &key, get("/"), 0), None);
    home.pass_secs(1);
    assert_eq!(used(&mut home, guest, &key, get("/"), 0), Some(Code::LimitExpired), "at the very moment");
    // The simulated clock starts at midnight UTC.
    let hours = Hours { from_minute: 60, to_minute: 120 };
    home.grant_within(guest, &other, Consumer::Http, Mode::Always, Limits { hours: Some(hours), ..Limits::default() });
    assert_eq!(used(&mut home, guest, &other, get("/"), 0), Some(Code::LimitHours));
    home.pass_secs(3_600);
    assert_eq!(used(&mut home, guest, &other, get("/"), 0), None);
    home.pass_secs(3_600);
    assert_eq!(used(&mut home, guest, &other, get("/"), 0), Some(Code::LimitHours));
}

#[test]
fn a_signature_is_made_over_messages_of_the_template_alone() {
    let mut home = Home::new("template");
    let guest = home.guest_add("guest");
    let key = reference(home.add(key_item("k", KeyPurpose::Message, b"a key")), "private_key");
    let template = SignTemplate {
        prefix: Some(b"invoice ".as_slice().into()),
        message_bytes_max: Some(16),
        ..SignTemplate::default()
    };
    let limits = Limits { sign: Some(template), ..Limits::default() };
    home.grant_within(guest, &key, Consumer::Sign, Mode::Always, limits);
    assert_eq!(used(&mut home, guest, &key, sign(b"invoice 7"), 0), None);
    assert_eq!(used(&mut home, guest, &key, sign(b"transfer"), 0), Some(Code::LimitOperation));
    assert_eq!(used(&mut home, guest, &key, sign(b"invoice 7, and more"), 0), Some(Code::LimitBytes));
    let ssh = Call::Sign(SignCall::Ssh { namespace: "git".into(), message: Bytes::from(*b"invoice ........") });
    assert_eq!(used(&mut home, guest, &key, ssh, 0), Some(Code::MessageRefused));
    assert_eq!(home.fakes.shown.len(), 1, "nothing that was refused reached the key");
}

#[test]
fn crypt_does_the_operations_that_were_granted() {
    let mut home = Home::new("crypt");
    let guest = home.guest_add("guest");
    let key = reference(home.add(key_item("k", KeyPurpose::Encrypt, b"a key")), "key");
    let add = |crypt| GrantAdd {
        guest,
        reference: key.clone(),
        consumer: Consumer::Crypt,
        limits: Limits { crypt, ..Limits::default() },
        mode: Mode::Always,
    };
    assert_eq!(code(home.try_grant(add(Vec::new()))), Code::ValueRefused, "a grant names its operations");
    home.try_grant(add(vec![CryptOperation::Encrypt])).expect("granted");
    let bytes = || Bytes::from(*b"some bytes of it");
    let encrypt = Call::Crypt(CryptCall::Encrypt { plaintext: bytes(), context: Bytes::default() });
    let decrypt = Call::Crypt(CryptCall::Decrypt { ciphertext: bytes(), context: Bytes::default() });
    assert_eq!(used(&mut home, guest, &key, encrypt, 0), None);
    assert_eq!(used(&mut home, guest, &key, decrypt, 0), Some(Code::LimitOperation));
    assert_eq!(used(&mut home, guest, &key, mac(b"m"), 0), Some(Code::PolicyMissing), "another purpose");
}

#[test]
fn of_several_grants_the_strictest_mode_holds_and_all_limits_count() {
    let (mut home, guest, key) = guest_and_key("several");
    let within = |uses, prefix: &str| Limits {
        uses_max: Some(uses),
        http: Some(HttpLimits { path_prefixes: vec![prefix.into()], ..HttpLimits::default() }),
        ..Limits::default()
    };
    home.grant_within(guest, &key, Consumer::Http, Mode::Always, within(5, "/"));
    home.grant_within(guest, &key, Consumer::Http, Mode::Always, within(1, "/v1"));
    assert_eq!(used(&mut home, guest, &key, get("/v1/x"), 0), None);
    assert_eq!(used(&mut home, guest, &key, get("/v1/x"), 0), Some(Code::LimitUses), "the narrow one is used up");
    assert_eq!(used(&mut home, guest, &key, get("/v2"), 0), None, "which holds for its paths alone");

    let other = with_key(&mut home);
    home.grant(guest, &other, Consumer::Http, Mode::AskOnce { secs: 3_600 });
    home.grant(guest, &other, Consumer::Http, Mode::AskOnce { secs: 60 });
    let Ok(GuestAnswer::Pending(_)) = guest_result(home.use_as(guest, &other, get("/"))) else { panic!() };
    let view = home.approvals().remove(0);
    let strongroom_wire::device::Question::Use { covers: Some(covers), .. } = &view.question else { panic!() };
    assert_eq!(covers.secs, 60, "of two answers the shorter is stricter");
    home.grant(guest, &other, Consumer::Http, Mode::Ask);
    let Ok(GuestAnswer::Pending(_)) = guest_result(home.use_as(guest, &other, get("/"))) else { panic!() };
    let view = home.approvals().remove(0);
    assert!(matches!(view.question, strongroom_wire::device::Question::Use { covers: None, .. }));
}

#[test]
fn a_grant_that_ends_a_guest_that_is_suspended_or_thrown_out_is_refused_at_once() {
    let mut home = Home::new("ends");
    let (guest, other) = (home.guest_add("guest"), home.guest_add("other"));
    let key = with_key(&mut home);
    let grant = home.grant(guest, &key, Consumer::Http, Mode::Always);
    home.grant(other, &key, Consumer::Http, Mode::Always);
    let suspend = |guest, suspended| DeviceRequest::GuestSuspend { guest, suspended };
    home.session(&suspend(Some(guest), true)).expect("stopping takes no factor");
    assert_eq!(used(&mut home, guest, &key, get("/"), 0), Some(Code::GuestSuspended));
    assert_eq!(used(&mut home, other, &key, get("/"), 0), None);
    assert_eq!(code(home.session(&suspend(Some(guest), false))), Code::FreshRequired, "resuming does");
    home.comes_back();
    assert_eq!(used(&mut home, guest, &key, get("/"), 0), Some(Code::GuestSuspended));
    home.act(&suspend(Some(guest), false)).expect("resumed");
    assert_eq!(used(&mut home, guest, &key, get("/"), 0), None);
    home.session(&suspend(None, true)).expect("all are suspended");
    home.comes_back();
    assert_eq!(used(&mut home, other, &key, get("/"), 0), Some(Code::GuestSuspended));
    home.act(&suspend(None, false)).expect("all are resumed");

    home.session(&DeviceRequest::GrantRevoke { grant }).expect("ending a grant takes no factor");
    assert_eq!(used(&mut home, guest, &key, get("/"), 0), Some(Code::ReferenceUnknown));
    home.act(&DeviceRequest::GuestRevoke { guest: other }).expect("thrown out");
    assert_eq!(used(&mut home, other, &key, get("/"), 0), Some(Code::GuestUnknown));
    assert!(home.vault().peer_key(strongroom_core::Peer::Guest(other)).is_none());
    home.comes_back();
    assert_eq!(used(&mut home, other, &key, get("/"), 0), Some(Code::GuestUnknown));
}

#[test]
fn a_resume_that_could_not_be_written_does_not_hold() {
    let (mut home, guest, key) = guest_and_key("unwritten resume");
    home.grant(guest, &key, Consumer::Http, Mode::Always);
    home.session(&DeviceRequest::GuestSuspend { guest: None, suspended: true }).expect("suspended");
    home.memory.fault(Fault::FullCommit);
    assert_eq!(code(home.act(&DeviceRequest::GuestSuspend { guest: None, suspended: false })), Code::DiskFull);
    home.memory.mend();
    assert_eq!(used(&mut home, guest, &key, get("/"), 0), Some(Code::GuestSuspended));
}

#[test]
fn a_guest_whose_enrolment_could_not_be_written_is_in_no_header() {
    let mut home = Home::new("unwritten guest");
    home.memory.fault(Fault::FullCommit);
    let key = strongroom_crypto::sign::SigningKey::from_seed(&[3; 32]).public();
    let add = strongroom_wire::device::GuestAdd {
        name: "g".into(),
        kind: strongroom_wire::device::GuestKind::Agent,
        public_key: Bytes::from(*key.as_bytes()),
    };
    home.critical(&DeviceRequest::GuestAdd(add.clone())).expect_err("the disk is full");
    home.memory.mend();
    // The next thing that writes the header must not carry the guest along.
    home.act(&DeviceRequest::SessionBegin {}).expect("begun");
    home.critical(&DeviceRequest::GuestAdd(add)).expect("the key is free");
    home.comes_back();
}

#[test]
fn the_key_of_a_guest_that_was_thrown_out_never_comes_back() {
    let mut home = Home::new("never back");
    let key = strongroom_crypto::sign::SigningKey::from_seed(&[4; 32]).public();
    let add = || {
        DeviceRequest::GuestAdd(strongroom_wire::device::GuestAdd {
            name: "g".into(),
            kind: strongroom_wire::device::GuestKind::App,
            public_key: Bytes::from(*key.as_bytes()),
        })
    };
    let DeviceAnswer::Guest(view) = home.critical(&add()).expect("enrolled") else { panic!() };
    assert_eq!(code(home.critical(&add())), Code::Conflict, "twice");
    // The machine dies between records and header.
    let challenge = home.world.challenge(&home.device).expect("a challenge");
    let body = strongroom_sim::world::json(&DeviceRequest::GuestRevoke { guest: view.id });
    let fresh = home.passphrase.fresh(home.world.id, home.device.id, challenge, &body);
    home.memory.die_at(1, true);
    let id = home.request_id();
    let _ = home.world.ask(strongroom_core::Peer::Device(home.device.id), id, Some(fresh), None, &body);
    assert!(home.memory.is_dead());
    home.comes_back();
    let DeviceAnswer::Guests { guests } = home.session(&DeviceRequest::GuestList {}).expect("listed") else { panic!() };
    assert!(guests.is_empty(), "the revocation was committed");
    assert_eq!(code(home.critical(&add())), Code::Conflict);
}

#[test]
fn a_limit_that_would_have_no_effect_is_refused() {
    let mut home = Home::new("no effect");
    let guest = home.guest_add("guest");
    let key = reference(home.add(key_item("k", KeyPurpose::Message, b"a key")), "private_key");
    for limits in [
        Limits { http: Some(HttpLimits::default()), ..Limits::default() },
        Limits { crypt: vec![CryptOperation::Mac], ..Limits::default() },
        Limits { bytes_max: Some(9), ..Limits::default() },
        Limits { calls_per_minute_max: Some(0), ..Limits::default() },
        Limits { hours: Some(Hours { from_minute: 1_440, to_minute: 0 }), ..Limits::default() },
    ] {
        let add = GrantAdd { guest, reference: key.clone(), consumer: Consumer::Sign, limits, mode: Mode::Always };
        assert_eq!(code(home.try_grant(add)), Code::ValueRefused);
    }
}

#[test]
fn a_grant_needs_an_item_that_says_where_its_secret_may_go() {
    let mut home = Home::new("where");
    let guest = home.guest_add("guest");
    let password = reference(home.add(login("site", b"hunter2")), "password");
    let add = |reference: &Reference, consumer| GrantAdd {
        guest,
        reference: reference.clone(),
        consumer,
        limits: Limits::default(),
        mode: Mode::Always,
    };
    for consumer in [Consumer::Http, Consumer::Sign, Consumer::Crypt] {
        assert_eq!(code(home.try_grant(add(&password, consumer))), Code::PolicyMissing);
    }
    let key = with_key(&mut home);
    let mut elsewhere = add(&key, Consumer::Http);
    let hosts = vec!["evil.example.org".parse().expect("a host")];
    elsewhere.limits.http = Some(HttpLimits { hosts, ..HttpLimits::default() });
    assert_eq!(code(home.try_grant(elsewhere)), Code::ValueRefused);
    let absent = reference(ItemId([5; 16]), "key");
    assert_eq!(code(home.try_grant(add(&absent, Consumer::Http))), Code::ItemUnknown);
    let stranger = GrantAdd { guest: GuestId([5; 16]), ..add(&key, Consumer::Http) };
    assert_eq!(code(home.try_grant(stranger)), Code::GuestUnknown);
}

#[test]
fn taking_a_host_out_of_the_item_takes_it_out_of_every_grant() {
    let (mut home, guest, key) = guest_and_key("narrowed");
    home.grant(guest, &key, Consumer::Http, Mode::Always);
    let mut policy = http_policy();
    policy.hosts.truncate(1);
    let policy = strongroom_wire::policy::ItemPolicy { http: Some(policy), key: None };
    let edit = ItemEdit {
        item: key.item,
        if_version: None,
        label: None,
        tags: None,
        set: Vec::new(),
        remove: Vec::new(),
        policy: Some(policy),
    };
    assert_eq!(used(&mut home, guest, &key, http("GET", "https://other.example.com/"), 0), None);
    home.act(&DeviceRequest::ItemEdit(edit)).expect("narrowed");
    assert_eq!(used(&mut home, guest, &key, http("GET", "https://other.example.com/"), 0), Some(Code::LimitHost));
    assert_eq!(used(&mut home, guest, &key, get("/"), 0), None);
}

#[test]
fn a_derived_key_is_used_within_the_limits_of_what_it_was_derived_under() {
    let mut home = Home::new("derived limits");
    let guest = home.guest_add("guest");
    let key = reference(home.add(key_item("root", KeyPurpose::Derive, b"a root key")), "key");
    let limited = |limits: Limits| GrantAdd {
        guest,
        reference: key.clone(),
        consumer: Consumer::Crypt,
        limits: Limits { crypt: vec![CryptOperation::Derive], ..limits },
        mode: Mode::Always,
    };
    let derived = |home: &mut Home| match guest_result(home.use_as(guest, &key, derive(b"one"))) {
        Ok(GuestAnswer::Used(UseResult::Derived { reference })) => reference,
        other => panic!("{other:?}"),
    };
    // Uses of the derived key are uses of the grant, and end with it.
    let three = Limits { uses_max: Some(3), ..Limits::default() };
    let grant = home.try_grant(limited(three)).expect("granted").id;
    let one = derived(&mut home);
    assert_eq!(used(&mut home, guest, &one, mac(b"m"), 0), None);
    assert_eq!(derived(&mut home), one);
    assert_eq!(used(&mut home, guest, &one, mac(b"m"), 0), Some(Code::LimitUses));
    home.session(&DeviceRequest::GrantRevoke { grant }).expect("ended");
    assert_eq!(used(&mut home, guest, &one, mac(b"m"), 0), Some(Code::ReferenceUnknown));
    // So does its time.
    let expires_at = Some(Timestamp(home.world.wall_ms + 60_000));
    home.try_grant(limited(Limits { expires_at, ..Limits::default() })).expect("granted");
    assert_eq!(derived(&mut home), one);
    assert_eq!(used(&mut home, guest, &one, mac(b"m"), 0), None);
    home.world.pass_secs(61);
    assert_eq!(used(&mut home, guest, &one, mac(b"m"), 0), Some(Code::LimitExpired));
    // What the member ended does not come back with the next derivation.
    home.try_grant(limited(Limits::default())).expect("granted");
    assert_eq!(derived(&mut home), one);
    assert_eq!(used(&mut home, guest, &one, mac(b"m"), 0), None);
    let DeviceAnswer::Grants { grants } = home.session(&DeviceRequest::GrantList { guest: None }).expect("listed")
    else {
        panic!()
    };
    let of_derived = grants.iter().find(|view| view.grant.reference == one).expect("listed").id;
    home.session(&DeviceRequest::GrantRevoke { grant: of_derived }).expect("ended");
    assert_eq!(derived(&mut home), one);
    assert_eq!(used(&mut home, guest, &one, mac(b"m"), 0), Some(Code::ReferenceUnknown));
    home.comes_back();
}

#[test]
fn a_derived_key_is_answered_as_a_reference_and_is_the_same_item_again() {
    let mut home = Home::new("derived");
    let guest = home.guest_add("guest");
    let key = reference(home.add(key_item("root", KeyPurpose::Derive, b"a root key")), "key");
    home.grant(guest, &key, Consumer::Crypt, Mode::Always);
    let derived = |home: &mut Home, context: &[u8]| match guest_result(home.use_as(guest, &key, derive(context))) {
        Ok(GuestAnswer::Used(UseResult::Derived { reference })) => reference,
        other => panic!("{other:?}"),
    };
    let one = derived(&mut home, b"one");
    assert_eq!(derived(&mut home, b"one"), one);
    assert_ne!(derived(&mut home, b"two"), one);
    home.comes_back();
    assert_eq!(derived(&mut home, b"one"), one);
    assert_eq!(used(&mut home, guest, &one, mac(b"m"), 0), None, "the guest may use what it derived");
    let stranger = home.guest_add("stranger");
    assert_eq!(used(&mut home, stranger, &one, mac(b"m"), 0), Some(Code::ReferenceUnknown));
}

#[test]
fn a_counted_code_never_comes_twice() {
    let mut home = Home::new("hotp");
    let guest = home.guest_add("guest");
    let settings = reference(home.add(totp_item("t", fakes::COUNTED)), "totp");
    home.grant(guest, &settings, Consumer::Totp, Mode::Always);
    let next = |home: &mut Home| match guest_result(home.use_as(guest, &settings, totp())) {
        Ok(GuestAnswer::Used(UseResult::Code { code, .. })) => code,
        other => panic!("{other:?}"),
    };
    assert_eq!([next(&mut home), next(&mut home)], ["000000", "000001"]);
    home.memory.fault(Fault::FullCommit);
    assert_eq!(used(&mut home, guest, &settings, totp(), 0), Some(Code::DiskFull));
    home.memory.mend();
    assert_eq!(next(&mut home), "000002", "the one that was not answered");
    home.comes_back();
    assert_eq!(next(&mut home), "000003");
}

#[test]
fn a_wallet_and_what_is_shown_are_never_a_guests() {
    let mut home = Home::new("never");
    let guest = home.guest_add("guest");
    let draft = ItemDraft { fields: vec![field("text", Class::Private, b"x")], ..login("note", b"x") };
    let note = reference(home.add(draft), "text");
    let add =
        GrantAdd { guest, reference: note, consumer: Consumer::Totp, limits: Limits::default(), mode: Mode::Always };
    assert_eq!(code(home.try_grant(add)), Code::ClassRefused);
}

fn within(prefix: &str, methods: &[&str]) -> Limits {
    let http = HttpLimits {
        path_prefixes: vec![prefix.into()],
        methods: methods.iter().map(ToString::to_string).collect(),
        ..HttpLimits::default()
    };
    Limits { http: Some(http), ..Limits::default() }
}

#[test]
fn a_redirect_does_not_lead_where_a_stricter_grant_speaks() {
    let (mut home, guest, key) = guest_and_key("redirect");
    home.grant(guest, &key, Consumer::Http, Mode::Always);
    home.grant_within(guest, &key, Consumer::Http, Mode::Ask, within("/admin", &["GET"]));
    let Answer::Http(run) = home.use_as(guest, &key, get("/open")) else { panic!("refused") };
    let there =
        |path: &str| run.0.rules.check("GET", &format!("https://api.example.com{path}").parse().expect("a URL"));
    assert_eq!(there("/elsewhere"), Ok(()));
    assert_eq!(there("/admin/users").map_err(|refusal| refusal.code), Err(Code::LimitPath));
    home.world.http_done(run.0.run, HttpDone { status: Some(200), head_sent: true, ..HttpDone::default() });
    // Asked for directly, the member is asked.
    let Ok(GuestAnswer::Pending(_)) = guest_result(home.use_as(guest, &key, get("/admin/users"))) else { panic!() };
}

#[test]
fn of_several_templates_all_shape_what_is_signed() {
    let mut home = Home::new("templates");
    let guest = home.guest_add("guest");
    let key = reference(home.add(key_item("k", KeyPurpose::Jwt, b"a key")), "private_key");
    let template = |fixed: serde_json::Value, free: &[&str], lifetime_secs_max| {
        let jwt = JwtTemplate {
            fixed: fixed.as_object().expect("claims").clone(),
            free: free.iter().map(ToString::to_string).collect(),
            lifetime_secs_max,
        };
        Limits { sign: Some(SignTemplate { jwt: Some(jwt), ..SignTemplate::default() }), ..Limits::default() }
    };
    let jwt = |claims: serde_json::Value| {
        Call::Sign(SignCall::Jwt { claims: claims.as_object().expect("claims").clone(), key_id: None })
    };
    let shop = template(serde_json::json!({"aud": "shop"}), &["role"], 3_600);
    home.grant_within(guest, &key, Consumer::Sign, Mode::Always, shop);
    let guests = template(serde_json::json!({"role": "guest"}), &["aud"], 60);
    home.grant_within(guest, &key, Consumer::Sign, Mode::Always, guests);
    assert_eq!(used(&mut home, guest, &key, jwt(serde_json::json!({})), 0), None);
    let template = home.fakes.templates.pop().expect("signed").expect("with a template").jwt.expect("of claims");
    let fixed = serde_json::json!({"aud": "shop", "role": "guest"});
    assert_eq!((serde_json::Value::Object(template.fixed), template.lifetime_secs_max), (fixed, 60));
    assert!(template.free.is_empty());
    // Two that contradict each other allow nothing that both speak for.
    let fixed = serde_json::json!({"aud": "bank", "role": "guest"}).as_object().expect("claims").clone();
    let bank = SignTemplate {
        jwt: Some(JwtTemplate { fixed, free: Vec::new(), lifetime_secs_max: 60 }),
        ..SignTemplate::default()
    };
    let bank = Limits { sign: Some(bank), ..Limits::default() };
    home.grant_within(guest, &key, Consumer::Sign, Mode::Always, bank);
    assert_eq!(used(&mut home, guest, &key, jwt(serde_json::json!({})), 0), Some(Code::LimitOperation));
    assert_eq!(used(&mut home, guest, &key, jwt(serde_json::json!({"aud": "shop"})), 0), None);
}

#[test]
fn where_nobody_knows_how_many_bytes_moved_all_that_was_left_has() {
    for lock in [true, false] {
        let (mut home, guest, key) = guest_and_key("unknown bytes");
        let limits = Limits { bytes_max: Some(1_000), ..Limits::default() };
        home.grant_within(guest, &key, Consumer::Http, Mode::Always, limits);
        assert_eq!(used(&mut home, guest, &key, get("/"), 10), None);
        let Answer::Http(run) = home.use_as(guest, &key, get("/")) else { panic!("refused") };
        assert_eq!(run.0.bytes_left, Some(990));
        if lock {
            home.lock();
            home.enter();
        } else {
            home.comes_back();
        }
        assert_eq!(used(&mut home, guest, &key, get("/"), 0), Some(Code::LimitBytes));
    }
}

#[test]
fn an_exchange_ends_with_what_allowed_it() {
    type End = fn(&mut Home, GuestId, strongroom_wire::GrantId, &Reference, u32);
    let ends: [(&str, End); 7] = [
        ("the grant", |home, _, grant, _, _| {
            home.session(&DeviceRequest::GrantRevoke { grant }).expect("ended");
        }),
        ("the guest waits", |home, guest, _, _, _| {
            home.session(&DeviceRequest::GuestSuspend { guest: Some(guest), suspended: true }).expect("done");
        }),
        ("all guests wait", |home, _, _, _, _| {
            home.session(&DeviceRequest::GuestSuspend { guest: None, suspended: true }).expect("done");
        }),
        ("the item", |home, _, _, key, _| {
            home.act(&DeviceRequest::ItemRemove { item: key.item, purge: false }).expect("removed");
        }),
        ("where the item may go", |home, _, _, key, _| {
            let mut policy = http_policy();
            policy.hosts.truncate(1);
            let policy = strongroom_wire::policy::ItemPolicy { http: Some(policy), key: None };
            home.act(&DeviceRequest::ItemEdit(ItemEdit {
                item: key.item,
                if_version: None,
                label: None,
                tags: None,
                set: Vec::new(),
                remove: Vec::new(),
                policy: Some(policy),
            }))
            .expect("narrowed");
        }),
        ("the time", |home, _, _, _, _| home.pass_secs(100)),
        ("the channel", |home, _, _, _, channel| {
            home.world.tell(Input::ChannelClosed(channel));
            home.world.flush();
        }),
    ];
    for (what, end) in ends {
        let mut home = Home::new(what);
        let (guest, other) = (home.guest_add("guest"), home.guest_add("other"));
        let key = with_key(&mut home);
        let limits = Limits { expires_at: Some(Timestamp(home.wall_ms + 100_000)), ..Limits::default() };
        let grant = home.grant_within(guest, &key, Consumer::Http, Mode::Always, limits);
        let free = with_key(&mut home);
        home.grant(other, &free, Consumer::Http, Mode::Always);
        let Answer::Http(run) = home.use_as(guest, &key, get("/")) else { panic!("refused") };
        let Answer::Http(others) = home.use_as(other, &free, get("/")) else { panic!("refused") };
        home.world.told.clear();
        end(&mut home, guest, grant, &key, run.0.to.channel);
        let cancelled = |number| home.told.iter().any(|told| matches!(told, Effect::HttpCancel(run) if *run == number));
        assert!(cancelled(run.0.run), "{what}");
        assert_eq!(cancelled(others.0.run), what == "all guests wait", "{what}");
        // Its outcome is written all the same.
        let size = home.events().len();
        let done = HttpDone { refusal: Some(Code::Cancelled.into()), bytes: 7, ..HttpDone::default() };
        home.world.http_done(run.0.run, done);
        let outcome = home.events().split_off(size).remove(0);
        assert_eq!((outcome.action, outcome.bytes), (Action::UseOutcome, Some(7)), "{what}");
    }
}

#[test]
fn bytes_whose_outcome_the_disk_did_not_take_are_not_had_again() {
    let (mut home, guest, key) = guest_and_key("unwritten bytes");
    let limits = Limits { bytes_max: Some(1_000), ..Limits::default() };
    home.grant_within(guest, &key, Consumer::Http, Mode::Always, limits);
    let Answer::Http(run) = home.use_as(guest, &key, get("/")) else { panic!("refused") };
    home.memory.fault(Fault::FullCommit);
    home.world.http_done(run.0.run, HttpDone { status: Some(200), bytes: 900, head_sent: true, ..HttpDone::default() });
    home.memory.mend();
    assert_eq!(used(&mut home, guest, &key, get("/"), 0), Some(Code::Busy), "until it is written");
    home.pass_secs(1);
    let Answer::Http(run) = home.use_as(guest, &key, get("/")) else { panic!("refused") };
    assert_eq!(run.0.bytes_left, Some(100));
    home.world.http_done(run.0.run, HttpDone { status: Some(200), head_sent: true, ..HttpDone::default() });
    let outcomes = home.events().into_iter().filter(|event| event.action == Action::UseOutcome);
    assert_eq!(outcomes.map(|event| event.bytes).collect::<Vec<_>>(), [Some(900), Some(0)], "each once");
    home.comes_back();
}

#[test]
fn an_exchange_is_broken_off_at_its_end_also_where_the_disk_is_full() {
    let (mut home, guest, key) = guest_and_key("expiry on a full disk");
    let limits = Limits { expires_at: Some(Timestamp(home.wall_ms + 100_000)), ..Limits::default() };
    home.grant_within(guest, &key, Consumer::Http, Mode::Always, limits);
    let Answer::Http(long) = home.use_as(guest, &key, get("/")) else { panic!("refused") };
    let Answer::Http(short) = home.use_as(guest, &key, get("/")) else { panic!("refused") };
    home.memory.fault(Fault::FullCommit);
    home.world.wall_ms += 100_000;
    home.world.ticks_ms += 100_000;
    home.world.told.clear();
    home.world.tell(Input::Tick);
    // In the same settlement something fails.
    let done = HttpDone { status: Some(200), head_sent: true, ..HttpDone::default() };
    home.world.tell(Input::HttpDone { run: short.0.run, done });
    home.world.flush();
    assert!(home.told.iter().any(|told| matches!(told, Effect::HttpCancel(run) if *run == long.0.run)));
    home.memory.mend();
}

#[test]
fn a_grant_that_was_taken_back_with_its_batch_is_not_remembered() {
    let (mut home, guest, key) = guest_and_key("taken back");
    let add = DeviceRequest::GrantAdd(GrantAdd {
        guest,
        reference: key.clone(),
        consumer: Consumer::Http,
        limits: Limits::default(),
        mode: Mode::Always,
    });
    // All in one settlement: a grant, a look at it, and an import that a failing disk takes back together with all of it.
    let drafts = vec![api_key("imported", KEY)];
    let import = DeviceRequest::ItemImport { drafts, dry_run: false, overwrite: false };
    let Home { world, device, passphrase, .. } = &mut home;
    let acts = [add, import].map(|request| {
        let body = serde_json::to_string(&request).expect("JSON");
        let challenge = world.challenge(device).expect("a challenge");
        let fresh = passphrase.fresh(world.id, device.id, challenge, &body);
        (world.request_id(), fresh, body)
    });
    let [(id, fresh, body), import] = acts;
    let granted = world.send(Peer::Device(device.id), id, Some(fresh), None, &body);
    let list = serde_json::to_string(&GuestRequest::List {}).expect("JSON");
    let id = world.request_id();
    let listed = world.send(Peer::Guest(guest), id, None, None, &list);
    world.memory.fault(Fault::FullRecord);
    let (id, fresh, body) = import;
    let imported = world.send(Peer::Device(device.id), id, Some(fresh), None, &body);
    world.flush();
    world.memory.mend();
    for to in [granted, imported] {
        let answer = device_result(world.take(to));
        assert!(answer.is_err(), "{answer:?}");
    }
    assert!(guest_result(world.take(listed)).is_err(), "what it saw was never durable");
    assert_eq!(used(&mut home, guest, &key, get("/"), 0), Some(Code::ReferenceUnknown));
}

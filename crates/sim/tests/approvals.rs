//! Questions to the member: asked, answered once, and void when what they rest on changes.

use strongroom_sim::home::{api_key, code, field, get, guest_result, http, http_policy, key_item, reference, sign};
use strongroom_sim::world::{Answer, guest_json};
use strongroom_sim::{Fault, Home};
use strongroom_wire::device::{
    ApprovalAnswer, ApprovalView, DeviceAnswer, DeviceRequest, GrantAdd, ItemEdit, Question,
};
use strongroom_wire::event::Action;
use strongroom_wire::guest::{
    ApprovalState, Call, CryptCall, GrantWish, GuestAnswer, GuestRequest, HttpBody, HttpCall, UseRequest,
};
use strongroom_wire::policy::{Consumer, HttpPolicy, ItemPolicy, KeyPurpose, Limits, Mode};
use strongroom_wire::{ApprovalId, Bytes, Class, Code, GuestId, HandleId, Reference, Refusal};

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A guest that must ask.
fn asking(name: &str, mode: Mode) -> (Home, GuestId, Reference) {
    let mut home = Home::new(name);
    let guest = home.guest_add("guest");
    let key = reference(home.add(api_key("API", KEY)), "key");
    home.grant(guest, &key, Consumer::Http, mode);
    (home, guest, key)
}

fn ask(home: &mut Home, guest: GuestId, key: &Reference, call: Call) -> ApprovalId {
    match guest_result(home.use_as(guest, key, call)) {
        Ok(GuestAnswer::Pending(pending)) => pending.approval,
        other => panic!("{other:?}"),
    }
}

fn poll(home: &mut Home, guest: GuestId, approval: ApprovalId) -> Result<ApprovalState, Refusal> {
    match guest_result(home.world.guest(guest, &GuestRequest::Poll { approval, wait_secs: 0 }))? {
        GuestAnswer::Polled(state) => Ok(state),
        other => panic!("{other:?}"),
    }
}

fn handle(home: &mut Home, guest: GuestId, approval: ApprovalId) -> HandleId {
    match poll(home, guest, approval) {
        Ok(ApprovalState::Approved { handle, .. }) => handle,
        other => panic!("{other:?}"),
    }
}

fn run(home: &mut Home, guest: GuestId, handle: HandleId) -> Result<String, Code> {
    let request = GuestRequest::Use(UseRequest { call: None, handle: Some(handle), reason: None });
    match home.world.guest(guest, &request) {
        Answer::Http(run) => Ok(run.0.target.to_string()),
        Answer::Guest(Err(refusal)) => Err(refusal.code),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_approved_request_runs_once_as_the_vault_kept_it() {
    let (mut home, guest, key) = asking("once", Mode::Ask);
    let approval = ask(&mut home, guest, &key, get("/pay?to=ada"));
    assert!(matches!(poll(&mut home, guest, approval), Ok(ApprovalState::Pending { .. })));
    let view = home.approvals().remove(0);
    assert_eq!((view.id, view.guest_name.as_str(), view.reason.as_deref()), (approval, "guest", Some("because")));
    assert_eq!(code(home.session(&DeviceRequest::ApprovalAnswer(yes(&view)))), Code::FreshRequired);
    home.answer(&view, true).expect("allowed");
    assert_eq!(code(home.answer(&view, true)), Code::Conflict, "answered once");
    let handle = handle(&mut home, guest, approval);
    assert_eq!(run(&mut home, guest, handle), Ok("https://api.example.com/pay?to=ada".into()));
    assert_eq!(run(&mut home, guest, handle), Err(Code::HandleExpired), "used once");
    let intents = home.events().into_iter().filter(|event| event.action == Action::UseIntent).collect::<Vec<_>>();
    assert_eq!(intents.iter().map(|event| event.approval).collect::<Vec<_>>(), [Some(approval)]);
}

fn yes(view: &ApprovalView) -> ApprovalAnswer {
    ApprovalAnswer { approval: view.id, request_hash: view.request_hash.clone(), allow: true, grant: None }
}

#[test]
fn a_no_is_a_no_and_takes_no_factor() {
    let (mut home, guest, key) = asking("no", Mode::Ask);
    let approval = ask(&mut home, guest, &key, get("/"));
    let view = home.approvals().remove(0);
    let no = ApprovalAnswer { allow: false, ..yes(&view) };
    home.session(&DeviceRequest::ApprovalAnswer(no)).expect("refused");
    let Ok(ApprovalState::Refused(refusal)) = poll(&mut home, guest, approval) else { panic!() };
    assert_eq!(refusal.code, Code::ApprovalRefused);
    assert_eq!(code(home.answer(&view, true)), Code::ApprovalRefused, "it stands");
}

#[test]
fn nobody_answering_for_two_minutes_is_a_no() {
    let (mut home, guest, key) = asking("expiry", Mode::Ask);
    let approval = ask(&mut home, guest, &key, get("/"));
    let view = home.approvals().remove(0);
    home.pass_secs(119);
    assert!(matches!(poll(&mut home, guest, approval), Ok(ApprovalState::Pending { .. })));
    home.pass_secs(1);
    assert!(home.approvals().is_empty());
    assert_eq!(code(home.answer(&view, true)), Code::ApprovalExpired);
    let Ok(ApprovalState::Refused(refusal)) = poll(&mut home, guest, approval) else { panic!() };
    assert_eq!(refusal.code, Code::ApprovalExpired);
    assert!(home.actions().contains(&Action::ApprovalExpire));
}

#[test]
fn a_question_that_could_not_be_closed_for_lack_of_room_has_expired_all_the_same() {
    let (mut home, guest, key) = asking("expiry full", Mode::Ask);
    let approval = ask(&mut home, guest, &key, get("/"));
    let view = home.approvals().remove(0);
    home.memory.fault(Fault::FullCommit);
    home.pass_secs(120);
    home.memory.mend();
    assert_eq!(code(home.answer(&view, true)), Code::ApprovalExpired);
    assert!(matches!(poll(&mut home, guest, approval), Ok(ApprovalState::Refused(_))));
}

#[test]
fn an_approved_request_must_be_run_within_five_minutes() {
    let (mut home, guest, key) = asking("handle expiry", Mode::Ask);
    let approval = ask(&mut home, guest, &key, get("/"));
    let view = home.approvals().remove(0);
    home.answer(&view, true).expect("allowed");
    let handle = handle(&mut home, guest, approval);
    home.pass_secs(300);
    assert_eq!(run(&mut home, guest, handle), Err(Code::HandleExpired));
}

#[test]
fn an_answer_to_another_request_than_was_shown_is_refused() {
    let (mut home, guest, key) = asking("hash", Mode::Ask);
    ask(&mut home, guest, &key, get("/a"));
    ask(&mut home, guest, &key, get("/b"));
    let views = home.approvals();
    assert_ne!(views[0].request_hash, views[1].request_hash);
    let swapped = ApprovalAnswer { request_hash: views[1].request_hash.clone(), ..yes(&views[0]) };
    assert_eq!(code(home.act(&DeviceRequest::ApprovalAnswer(swapped))), Code::ApprovalVoid);
    home.answer(&views[0], true).expect("the right one still can be allowed");
}

#[test]
fn another_guests_question_and_handle_answer_as_if_they_were_not() {
    let (mut home, guest, key) = asking("anothers", Mode::Ask);
    let other = home.guest_add("other");
    home.grant(other, &key, Consumer::Http, Mode::Ask);
    let approval = ask(&mut home, guest, &key, get("/"));
    assert_eq!(code(poll(&mut home, other, approval)), Code::ApprovalUnknown);
    assert_eq!(code(poll(&mut home, other, ApprovalId([1; 16]))), Code::ApprovalUnknown);
    let view = home.approvals().remove(0);
    home.answer(&view, true).expect("allowed");
    let handle = handle(&mut home, guest, approval);
    assert_eq!(run(&mut home, other, handle), Err(Code::HandleExpired));
    assert_eq!(run(&mut home, other, HandleId([1; 16])), Err(Code::HandleExpired));
    assert!(run(&mut home, guest, handle).is_ok(), "nothing of it was used up");
}

#[test]
fn eight_questions_of_a_guest_wait_at_a_time() {
    let (mut home, guest, key) = asking("eight", Mode::Ask);
    for n in 0..8 {
        ask(&mut home, guest, &key, get(&format!("/{n}")));
    }
    assert_eq!(code(guest_result(home.use_as(guest, &key, get("/9")))), Code::ApprovalsFull);
}

#[test]
fn asked_once_covers_this_host_method_and_path_for_its_time() {
    let (mut home, guest, key) = asking("ask once", Mode::AskOnce { secs: 600 });
    let approval = ask(&mut home, guest, &key, get("/v1/items"));
    let view = home.approvals().remove(0);
    let Question::Use { covers: Some(covers), content_shown: true, .. } = &view.question else { panic!() };
    assert_eq!(covers.host.as_deref(), Some("api.example.com"));
    assert_eq!((covers.method.as_deref(), covers.path_prefix.as_deref()), (Some("GET"), Some("/v1/items")));
    home.answer(&view, true).expect("allowed");
    let once = handle(&mut home, guest, approval);
    run(&mut home, guest, once).expect("the request itself");
    let covered = |home: &mut Home, call| matches!(home.use_as(guest, &key, call), Answer::Http(_));
    assert!(covered(&mut home, get("/v1/items")));
    assert!(covered(&mut home, get("/v1/items/7")));
    assert!(!covered(&mut home, get("/v1/itemsx")), "another path");
    assert!(!covered(&mut home, http("HEAD", "https://api.example.com/v1/items")), "another method");
    assert!(!covered(&mut home, http("GET", "https://other.example.com/v1/items")), "another host");
    home.pass_secs(599);
    assert!(covered(&mut home, get("/v1/items")));
    home.pass_secs(1);
    assert!(!covered(&mut home, get("/v1/items")), "its time is over");
}

#[test]
fn asked_once_covers_one_operation() {
    let mut home = Home::new("ask once to encrypt");
    let guest = home.guest_add("guest");
    let key = reference(home.add(key_item("archive", KeyPurpose::Encrypt, b"a key of 32 bytes, or as if it w")), "key");
    home.grant(guest, &key, Consumer::Crypt, Mode::AskOnce { secs: 600 });
    let text = || Bytes(b"text".to_vec());
    let encrypt = || Call::Crypt(CryptCall::Encrypt { plaintext: text(), context: Bytes::default() });
    let decrypt = || Call::Crypt(CryptCall::Decrypt { ciphertext: text(), context: Bytes::default() });
    ask(&mut home, guest, &key, encrypt());
    let view = home.approvals().remove(0);
    let Question::Use { covers: Some(covers), .. } = &view.question else { panic!() };
    assert_eq!(covers.operation.as_deref(), Some("encrypt"));
    home.answer(&view, true).expect("allowed");
    assert!(matches!(guest_result(home.use_as(guest, &key, encrypt())), Ok(GuestAnswer::Used(_))));
    assert!(
        matches!(guest_result(home.use_as(guest, &key, decrypt())), Ok(GuestAnswer::Pending(_))),
        "another operation"
    );
}

#[test]
fn a_body_that_streams_is_said_not_to_be_shown() {
    let (mut home, guest, key) = asking("stream", Mode::Ask);
    let call = Call::Http(HttpCall {
        method: "GET".into(),
        url: "https://api.example.com/".into(),
        headers: vec![("accept".into(), "text/plain".into())],
        body: HttpBody::Stream { length: None },
        follow_redirects: false,
    });
    ask(&mut home, guest, &key, call);
    assert!(matches!(home.approvals()[0].question, Question::Use { content_shown: false, .. }));
}

fn change_policy(home: &mut Home, key: &Reference) {
    let policy = ItemPolicy { http: Some(HttpPolicy { allow_short: true, ..http_policy() }), key: None };
    home.act(&DeviceRequest::ItemEdit(edit(key, Some(policy), Vec::new()))).expect("changed");
}

fn edit(key: &Reference, policy: Option<ItemPolicy>, set: Vec<strongroom_wire::items::FieldDraft>) -> ItemEdit {
    ItemEdit { item: key.item, if_version: None, label: None, tags: None, set, remove: Vec::new(), policy }
}

type Change = fn(&mut Home, GuestId, &Reference);

const CHANGES: [(&str, Change); 6] = [
    ("policy", |home, _, key| change_policy(home, key)),
    ("field", |home, _, key| {
        let set = vec![field("key", Class::Secret, b"another key of 32 bytes, or so..")];
        home.act(&DeviceRequest::ItemEdit(edit(key, None, set))).expect("changed");
    }),
    ("a grant more", |home, guest, key| {
        home.grant(guest, key, Consumer::Http, Mode::Ask);
    }),
    ("suspended and resumed", |home, guest, _| {
        for suspended in [true, false] {
            home.act(&DeviceRequest::GuestSuspend { guest: Some(guest), suspended }).expect("done");
        }
    }),
    ("removed and restored", |home, guest, key| {
        home.act(&DeviceRequest::ItemRemove { item: key.item, purge: false }).expect("removed");
        home.act(&DeviceRequest::ItemRestore { item: key.item, version: None }).expect("restored");
        home.grant(guest, key, Consumer::Http, Mode::Ask);
    }),
    ("locked and unlocked", |home, _, _| home.comes_back()),
];

#[test]
fn a_change_of_what_a_question_rests_on_voids_it() {
    for (what, change) in CHANGES {
        let (mut home, guest, key) = asking("void question", Mode::Ask);
        let approval = ask(&mut home, guest, &key, get("/"));
        let view = home.approvals().remove(0);
        change(&mut home, guest, &key);
        assert!(home.approvals().is_empty(), "{what}");
        assert_eq!(code(home.answer(&view, true)), Code::ApprovalVoid, "{what}");
        let Ok(ApprovalState::Refused(refusal)) = poll(&mut home, guest, approval) else { panic!("{what}") };
        assert_eq!(refusal.code, Code::ApprovalVoid, "{what}");
    }
}

#[test]
fn a_change_of_what_an_answer_rests_on_voids_it() {
    for (what, change) in CHANGES {
        let (mut home, guest, key) = asking("void answer", Mode::AskOnce { secs: 3_600 });
        let approval = ask(&mut home, guest, &key, get("/"));
        let view = home.approvals().remove(0);
        home.answer(&view, true).expect("allowed");
        let handle = handle(&mut home, guest, approval);
        change(&mut home, guest, &key);
        assert_eq!(run(&mut home, guest, handle), Err(Code::HandleExpired), "{what}");
        let again = guest_result(home.use_as(guest, &key, get("/")));
        assert!(matches!(again, Ok(GuestAnswer::Pending(_))), "{what}: nothing is covered any more");
    }
}

#[test]
fn ending_the_grant_or_the_guest_voids_the_answer() {
    for throw_out in [false, true] {
        let mut home = Home::new("ended");
        let guest = home.guest_add("guest");
        let key = reference(home.add(api_key("API", KEY)), "key");
        let grant = home.grant(guest, &key, Consumer::Http, Mode::Ask);
        let approval = ask(&mut home, guest, &key, get("/"));
        let view = home.approvals().remove(0);
        home.answer(&view, true).expect("allowed");
        let handle = handle(&mut home, guest, approval);
        if throw_out {
            home.act(&DeviceRequest::GuestRevoke { guest }).expect("thrown out");
            assert_eq!(run(&mut home, guest, handle), Err(Code::GuestUnknown));
        } else {
            home.session(&DeviceRequest::GrantRevoke { grant }).expect("ended");
            assert_eq!(run(&mut home, guest, handle), Err(Code::HandleExpired));
        }
    }
}

#[test]
fn a_poll_that_waits_is_answered_by_the_answer_and_by_its_time() {
    let (mut home, guest, key) = asking("waits", Mode::Ask);
    let approval = ask(&mut home, guest, &key, get("/"));
    let view = home.approvals().remove(0);
    let id = home.request_id();
    let body = guest_json(&GuestRequest::Poll { approval, wait_secs: 30 });
    let Answer::Later(to) = home.world.ask(strongroom_core::Peer::Guest(guest), id, None, None, &body) else {
        panic!("it waits")
    };
    home.pass_secs(29);
    assert!(matches!(home.world.take(to), Answer::Later(_)));
    home.pass_secs(1);
    let late = guest_result(home.world.take(to));
    assert!(matches!(late, Ok(GuestAnswer::Polled(ApprovalState::Pending { .. }))));
    let id = home.request_id();
    let Answer::Later(to) = home.world.ask(strongroom_core::Peer::Guest(guest), id, None, None, &body) else {
        panic!("it waits")
    };
    home.answer(&view, true).expect("allowed");
    let answered = guest_result(home.world.take(to));
    assert!(matches!(answered, Ok(GuestAnswer::Polled(ApprovalState::Approved { .. }))), "{answered:?}");
}

#[test]
fn an_answer_that_was_taken_back_leaves_whoever_waits_waiting() {
    let (mut home, guest, key) = asking("waits on", Mode::Ask);
    let approval = ask(&mut home, guest, &key, get("/"));
    let view = home.approvals().remove(0);
    let id = home.request_id();
    let body = guest_json(&GuestRequest::Poll { approval, wait_secs: 60 });
    let Answer::Later(to) = home.world.ask(strongroom_core::Peer::Guest(guest), id, None, None, &body) else {
        panic!("it waits")
    };
    home.memory.fault(Fault::FullCommit);
    assert_eq!(code(home.answer(&view, true)), Code::DiskFull);
    home.memory.mend();
    assert!(matches!(home.world.take(to), Answer::Later(_)), "nothing was answered that is not durable");
    home.answer(&view, true).expect("allowed");
    assert!(matches!(guest_result(home.world.take(to)), Ok(GuestAnswer::Polled(ApprovalState::Approved { .. }))));
}

#[test]
fn a_list_that_waits_is_answered_by_a_new_question() {
    let (mut home, guest, key) = asking("list waits", Mode::Ask);
    let DeviceAnswer::Approvals { number, .. } =
        home.session(&DeviceRequest::ApprovalList { after: 0, wait_secs: 0 }).expect("listed")
    else {
        panic!()
    };
    let body = strongroom_sim::world::json(&DeviceRequest::ApprovalList { after: number, wait_secs: 60 });
    let id = home.request_id();
    let device = strongroom_core::Peer::Device(home.device.id);
    let Answer::Later(to) = home.world.ask(device, id, None, None, &body) else { panic!("it waits") };
    ask(&mut home, guest, &key, get("/"));
    let answer = strongroom_sim::world::device_result(home.world.take(to));
    let Ok(DeviceAnswer::Approvals { approvals, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!(approvals.len(), 1);
}

#[test]
fn a_wish_is_granted_as_the_member_narrows_it() {
    let mut home = Home::new("wish");
    let (guest, other) = (home.guest_add("guest"), home.guest_add("other"));
    let key = reference(home.add(key_item("k", KeyPurpose::Message, b"a key")), "private_key");
    let wish = GuestRequest::Request(GrantWish {
        subject: "to sign releases".into(),
        reason: "there is one to release".into(),
        consumer: Consumer::Sign,
        host: None,
    });
    let Ok(GuestAnswer::Pending(pending)) = guest_result(home.world.guest(guest, &wish)) else { panic!() };
    let view = home.approvals().remove(0);
    assert!(matches!(view.question, Question::Grant(_)));
    let grant = |guest| GrantAdd {
        guest,
        reference: key.clone(),
        consumer: Consumer::Sign,
        limits: Limits { uses_max: Some(1), ..Limits::default() },
        mode: Mode::Always,
    };
    let answer = |grant| DeviceRequest::ApprovalAnswer(ApprovalAnswer { grant, ..yes(&view) });
    assert_eq!(code(home.act(&answer(None))), Code::ValueRefused);
    assert_eq!(code(home.act(&answer(Some(grant(other))))), Code::ValueRefused, "for another guest");
    assert!(matches!(poll(&mut home, guest, pending.approval), Ok(ApprovalState::Pending { .. })));
    home.act(&answer(Some(grant(guest)))).expect("granted");
    assert_eq!(poll(&mut home, guest, pending.approval), Ok(ApprovalState::Granted {}));
    assert!(guest_result(home.use_as(guest, &key, sign(b"m"))).is_ok());
    let wish = GuestRequest::Request(GrantWish {
        subject: "x".into(),
        reason: "x".repeat(1_001),
        consumer: Consumer::Sign,
        host: None,
    });
    assert_eq!(code(guest_result(home.world.guest(guest, &wish))), Code::ValueRefused);
    let wish = GuestRequest::Request(GrantWish {
        subject: "x".into(),
        reason: "x".into(),
        consumer: Consumer::Export,
        host: None,
    });
    assert_eq!(code(guest_result(home.world.guest(guest, &wish))), Code::NotAllowed);
}

//! The log: it only grows, proves what is in it, and an older or a mixed database shows.

use strongroom_core::records::Table;
use strongroom_sim::Home;
use strongroom_sim::device::{check_event, read_checkpoint};
use strongroom_sim::home::{api_key, code, get, key_item, login, reference};
use strongroom_sim::world::{Answer, json};
use strongroom_wire::device::{AuditQuery, DeviceAnswer, DeviceRequest, EventProof, VaultState};
use strongroom_wire::event::Event;
use strongroom_wire::policy::{Consumer, KeyPurpose, Mode};
use strongroom_wire::{Code, Refusal};

fn prove(home: &mut Home, index: u64) -> Result<EventProof, Refusal> {
    match home.session(&DeviceRequest::AuditProve { index })? {
        DeviceAnswer::Proof(proof) => Ok(*proof),
        other => panic!("{other:?}"),
    }
}

fn a_day(home: &mut Home) {
    let guest = home.guest_add("guest");
    let key = reference(home.add(api_key("API", b"0123456789abcdef")), "key");
    home.grant(guest, &key, Consumer::Http, Mode::Always);
    for _ in 0..3 {
        assert!(matches!(home.use_as(guest, &key, get("/")), Answer::Http(_)));
    }
}

#[test]
fn every_checkpoint_extends_every_earlier_one() {
    let mut home = Home::new("extends");
    let mut seen = vec![home.device.seen.clone()];
    for _ in 0..4 {
        a_day(&mut home);
        home.comes_back();
        seen.push(home.device.seen.clone());
    }
    for older in seen {
        let DeviceAnswer::Checkpoint(proof) =
            home.session(&DeviceRequest::AuditCheckpoint { from_size: older.size }).expect("a checkpoint")
        else {
            panic!()
        };
        let mut device = strongroom_sim::Device::new(&mut home.world.rng);
        device.identity = home.device.identity;
        device.seen = older;
        device.see(home.world.id, &proof).expect("it extends");
        device.seen.root = [1; 32].into();
        device.see(home.world.id, &proof).expect_err("it does not extend another");
    }
    let beyond = DeviceRequest::AuditCheckpoint { from_size: 9_999 };
    assert_eq!(code(home.session(&beyond)), Code::HistoryRefused);
}

#[test]
fn an_event_is_proved_to_someone_without_any_vault() {
    let mut home = Home::new("proved");
    a_day(&mut home);
    let size = home.events().len() as u64;
    for index in 0..size {
        let proof = prove(&mut home, index).expect("proved");
        check_event(&proof).expect("it checks");
        let mut other = proof.clone();
        if let Some(leaf) = &mut other.event.leaf {
            leaf.0[20] ^= 1;
        }
        check_event(&other).expect_err("a changed event");
        let mut elsewhere = proof.clone();
        elsewhere.event.index = (index + 1) % size;
        check_event(&elsewhere).expect_err("an event out of place");
    }
    assert_eq!(code(prove(&mut home, 9_999)), Code::ValueRefused);
}

#[test]
fn the_pages_of_the_log_add_up_to_its_checkpoint() {
    let mut home = Home::new("pages");
    a_day(&mut home);
    let page = |home: &mut Home, from| match home.session(&DeviceRequest::AuditList(AuditQuery {
        from,
        count: 3,
        wait_secs: 0,
    })) {
        Ok(DeviceAnswer::Audit { events, size }) => (events, size),
        other => panic!("{other:?}"),
    };
    let mut hashes = Vec::new();
    loop {
        let (events, size) = page(&mut home, hashes.len() as u64 / 32);
        if events.is_empty() {
            assert_eq!(hashes.len() as u64, 32 * size);
            break;
        }
        for logged in events {
            let leaf = logged.leaf.expect("nothing was pruned");
            assert_eq!(strongroom_crypto::digest::leaf_hash(&leaf.0).to_vec(), logged.hash.0);
            hashes.extend_from_slice(&logged.hash.0);
        }
    }
    let Ok(DeviceAnswer::Hashes { hashes: all }) = home.session(&DeviceRequest::AuditHashes { from: 0, count: 99_999 })
    else {
        panic!()
    };
    assert_eq!(all.0, hashes);
}

#[test]
fn a_page_that_waits_is_answered_by_the_next_event() {
    let mut home = Home::new("tail -f");
    home.events();
    let size = home.events().len() as u64;
    let body = json(&DeviceRequest::AuditList(AuditQuery { from: size, count: 10, wait_secs: 60 }));
    let id = home.request_id();
    let device = strongroom_core::Peer::Device(home.device.id);
    let Answer::Later(to) = home.world.ask(device, id, None, None, &body) else { panic!("it waits") };
    home.add(login("site", b"hunter2"));
    let Answer::Device(Ok(DeviceAnswer::Audit { events, .. })) = home.world.take(to) else { panic!("answered") };
    assert!(!events.is_empty());
}

#[test]
fn reading_the_log_is_logged_once_a_minute() {
    let mut home = Home::new("reading");
    let read = |home: &mut Home| {
        let events = home.events();
        events.iter().filter(|event| event.action == strongroom_wire::event::Action::LogRead).count()
    };
    assert_eq!([read(&mut home), read(&mut home)], [1, 1]);
    home.pass_secs(60);
    assert_eq!(read(&mut home), 2);
}

#[test]
fn an_older_database_put_back_whole_is_refused_by_the_vault() {
    let mut home = Home::new("older database");
    let older = home.memory.copy();
    a_day(&mut home);
    home.lock();
    home.memory.tamper(|files| files.database = older.database);
    let refused = home.world.unlock(&mut home.device, &home.passphrase).map(|_| ()).expect_err("refused");
    assert_eq!(refused.code, Code::StoreRefused);
    assert!(refused.detail.is_some_and(|detail| detail.contains("older")));
    let DeviceAnswer::Status(status) = home.session(&DeviceRequest::Status {}).expect("status") else { panic!() };
    assert_eq!(status.state, VaultState::Locked);
}

#[test]
fn older_files_put_back_all_together_are_refused_by_the_device_that_saw_more() {
    let mut home = Home::new("all older");
    home.lock();
    let older = home.memory.copy();
    home.enter();
    a_day(&mut home);
    home.comes_back();
    home.crash();
    home.memory.put_back(older);
    home.start();
    let refused = home.world.unlock(&mut home.device, &home.passphrase);
    assert_eq!(code(refused), Code::HistoryRefused);
    assert!(!home.vault().is_open(), "a device is not led on");
}

#[test]
fn a_single_older_record_put_back_is_refused_at_open() {
    for table in [Table::Items, Table::Fields, Table::GrantUses, Table::Settings, Table::Outcomes, Table::ItemKeys] {
        let mut home = Home::new("older record");
        let item = home.add(login("site", b"one"));
        a_day(&mut home);
        let mut older = home.memory.copy().database.expect("a database");
        let edit = |label: &str| {
            DeviceRequest::ItemEdit(strongroom_wire::device::ItemEdit {
                item,
                if_version: None,
                label: Some(label.into()),
                tags: None,
                set: vec![strongroom_sim::home::field("password", strongroom_wire::Class::Secret, b"two")],
                remove: Vec::new(),
                policy: None,
            })
        };
        home.act(&edit("renamed")).expect("edited");
        a_day(&mut home);
        let config = strongroom_wire::device::Config { session_secs: Some(600), ..Default::default() };
        home.act(&DeviceRequest::ConfigSet(config)).expect("set");
        let guests = home.vault().disk().copy();
        drop(guests);
        home.lock();
        let put_back = home.memory.tamper(|files| {
            let records = files.database.as_mut().expect("a database").records();
            let mut old = older.records().iter().filter(|((of, _), _)| *of == table);
            let differing = old.find(|(place, record)| records.get(*place) != Some(*record));
            match differing {
                Some((place, record)) => records.insert(place.clone(), record.clone()),
                // Nothing of this table changed: one record is taken out instead.
                None => {
                    let place = records.keys().find(|(of, _)| *of == table).cloned();
                    place.and_then(|place| records.remove(&place))
                }
            }
        });
        assert!(put_back.is_some(), "{table:?}");
        assert_eq!(code(home.world.unlock(&mut home.device, &home.passphrase)), Code::StoreRefused, "{table:?}");
    }
}

#[test]
fn a_log_that_was_cut_or_whose_last_event_was_changed_is_refused_at_open() {
    let mut home = Home::new("cut");
    a_day(&mut home);
    home.lock();
    let whole = home.memory.copy();
    home.memory.tamper(|files| files.database.as_mut().expect("a database").cut_log(5));
    assert_eq!(code(home.world.unlock(&mut home.device, &home.passphrase)), Code::StoreRefused);
    home.crash();
    home.memory.put_back(whole);
    home.start();
    home.enter();
}

#[test]
fn a_checkpoint_of_another_vault_or_signed_by_another_key_is_not_taken() {
    let (mut home, mut other) = (Home::new("one"), Home::new("another"));
    let DeviceAnswer::Checkpoint(proof) =
        other.session(&DeviceRequest::AuditCheckpoint { from_size: 0 }).expect("a checkpoint")
    else {
        panic!()
    };
    let identity = home.device.identity.expect("pinned");
    read_checkpoint(home.world.id, &identity, &proof).expect_err("another vault's");
    let theirs = other.device.identity.expect("pinned");
    read_checkpoint(other.world.id, &theirs, &proof).expect("its own");
    read_checkpoint(home.world.id, &theirs, &proof).expect_err("bound to its vault");
    home.lock();
}

#[test]
fn every_event_commits_to_the_records_as_they_are_after_it() {
    let mut home = Home::new("state");
    home.add(key_item("k", KeyPurpose::Message, b"a key"));
    let roots: Vec<_> = home.events().into_iter().map(|event: Event| event.state).collect();
    assert!(roots.iter().all(|root| root.0.len() == 32));
    let changes = roots.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(changes >= 1, "the root moves with the records");
}

#[test]
fn an_older_database_does_not_bring_an_ended_grant_back_and_wakes_no_suspended_guest() {
    for suspend in [false, true] {
        let mut home = Home::new("stopped");
        let item = home.add(api_key("k", b"0123456789abcdef"));
        let guest = home.guest_add("guest");
        let grant = home.grant(guest, &reference(item, "key"), Consumer::Http, Mode::Always);
        let older = home.memory.copy();
        let request = match suspend {
            true => DeviceRequest::GuestSuspend { guest: Some(guest), suspended: true },
            false => DeviceRequest::GrantRevoke { grant },
        };
        home.session(&request).expect("stopping takes no factor");
        home.crash();
        home.memory.tamper(|files| files.database = older.database);
        home.start();
        assert_eq!(code(home.world.unlock(&mut home.device, &home.passphrase)), Code::StoreRefused, "{suspend}");
    }
}

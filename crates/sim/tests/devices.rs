//! Devices come and go, and with one that goes the vault key.

use strongroom_core::{Effect, Peer};
use strongroom_sim::home::{api_key, code, key_item, login, reference, sign, wallet};
use strongroom_sim::world::json;
use strongroom_sim::{Device, Fault, Home};
use strongroom_wire::device::{DeliverRequest, DeviceAnswer, DeviceRequest, ListQuery};
use strongroom_wire::event::Action;
use strongroom_wire::guest::UseCall;
use strongroom_wire::policy::{Consumer, KeyPurpose};
use strongroom_wire::{Code, ItemId};

struct Family {
    home: Home,
    second: Device,
    third: Device,
    login: ItemId,
    wallet: ItemId,
}

fn family(name: &str) -> Family {
    let mut home = Home::new(name);
    let login = home.add(login("site", b"hunter2"));
    let wallet = home.add(wallet("wallet", b"seed"));
    let Home { world, device, passphrase, .. } = &mut home;
    let second = world.add_device(device, passphrase).expect("enrolled");
    let third = world.add_device(device, passphrase).expect("enrolled");
    Family { home, second, third, login, wallet }
}

impl Family {
    /// Everything still opens, on every device that is left.
    fn check(&mut self, what: &str) {
        let Self { home, second, login, wallet, .. } = self;
        let Home { world, device, passphrase, .. } = home;
        for reader in [device, second] {
            let begun = world.fresh(reader, passphrase, &DeviceRequest::SessionBegin {});
            begun.unwrap_or_else(|refusal| panic!("{what}: {refusal:?}"));
            for (item, field, expected) in [(*login, "password", &b"hunter2"[..]), (*wallet, "seed", b"seed")] {
                let deliver = DeviceRequest::Deliver(DeliverRequest {
                    consumer: Consumer::Export,
                    references: vec![reference(item, field)],
                    after: None,
                    program: None,
                });
                let answer = match field {
                    "seed" => world.credential(reader, passphrase, &deliver),
                    _ => world.fresh(reader, passphrase, &deliver),
                };
                match answer {
                    Ok(DeviceAnswer::Delivered { values, .. }) => {
                        assert_eq!(values[0].value.expose(), expected, "{what}")
                    }
                    other => panic!("{what}: {other:?}"),
                }
            }
        }
    }
}

#[test]
fn a_new_device_unlocks_and_reads_what_the_first_one_wrote() {
    let mut family = family("new device");
    family.check("enrolled");
    family.home.lock();
    let Family { home, second, .. } = &mut family;
    home.world.unlock(second, &home.passphrase).expect("the second one unlocks");
    family.check("unlocked");
    let DeviceAnswer::Devices { devices } = family.home.session(&DeviceRequest::DeviceList {}).expect("listed") else {
        panic!()
    };
    assert_eq!(devices.len(), 3);
    assert_eq!(devices.iter().filter(|device| device.this).count(), 1);
}

#[test]
fn a_device_that_was_thrown_out_is_out_at_once_and_for_good() {
    let mut family = family("thrown out");
    let Family { home, third, .. } = &mut family;
    home.world.fresh(third, &home.passphrase, &DeviceRequest::SessionBegin {}).expect("a session");
    let database = home.memory.copy();
    home.act(&DeviceRequest::DeviceRevoke { device: third.id }).expect("thrown out");
    assert!(home.told.iter().any(|effect| matches!(effect, Effect::Disconnect(Peer::Device(id)) if *id == third.id)));
    assert_eq!(home.actions().iter().filter(|action| **action == Action::KeyRotate).count(), 1);
    for request in [
        DeviceRequest::Status {},
        DeviceRequest::Challenge {},
        DeviceRequest::Lock {},
        DeviceRequest::ItemList(ListQuery::default()),
        DeviceRequest::Unlock(home.passphrase.unlock(third.seen.clone(), strongroom_wire::Timestamp(home.wall_ms))),
    ] {
        assert_eq!(code(home.world.device(third, &request)), Code::DeviceUnknown, "{request:?}");
    }
    assert!(home.vault().peer_key(Peer::Device(third.id)).is_none());
    assert!(!home.memory.copy().chains.contains_key(&third.id));
    family.check("after the rotation");
    family.home.comes_back();
    family.check("after a restart");
    let Family { home, third, .. } = &mut family;
    let again = DeviceRequest::DeviceAdd(strongroom_wire::device::DeviceAdd {
        name: "again".into(),
        sign_public: third.sign_public().into(),
        kem_public: third.kem_public(),
        wants_share: false,
    });
    assert_eq!(code(home.critical(&again)), Code::Conflict, "its key never comes back");
    // The database of before the rotation does not open any more.
    home.memory.tamper(|files| files.database = database.database);
    home.crash();
    assert_eq!(code(home.world.unlock(&mut home.device, &home.passphrase)), Code::StoreRefused);
}

#[test]
fn a_request_that_came_together_with_its_own_revocation_is_not_heard() {
    let mut family = family("together");
    let Family { home, third, .. } = &mut family;
    home.world.fresh(third, &home.passphrase, &DeviceRequest::SessionBegin {}).expect("a session");
    let body = json(&DeviceRequest::DeviceRevoke { device: third.id });
    let challenge = home.world.challenge(&home.device).expect("a challenge");
    let fresh = home.passphrase.fresh(home.world.id, home.device.id, challenge, &body);
    let (one, two) = (home.request_id(), home.request_id());
    let revoke = home.world.send(Peer::Device(home.device.id), one, Some(fresh), None, &body);
    let list = json(&DeviceRequest::ItemList(ListQuery::default()));
    let listed = home.world.send(Peer::Device(third.id), two, None, None, &list);
    home.flush();
    strongroom_sim::world::device_result(home.world.take(revoke)).expect("thrown out");
    assert_eq!(code(strongroom_sim::world::device_result(home.world.take(listed))), Code::DeviceUnknown);
}

#[test]
fn a_device_that_throws_itself_out_is_answered_first() {
    let mut family = family("itself");
    let Family { home, third, .. } = &mut family;
    home.world.fresh(third, &home.passphrase, &DeviceRequest::SessionBegin {}).expect("a session");
    let revoke = DeviceRequest::DeviceRevoke { device: third.id };
    home.world.fresh(third, &home.passphrase, &revoke).expect("answered");
    family.check("itself");
}

#[test]
fn the_last_device_stays() {
    let mut home = Home::new("last");
    let device = home.device.id;
    assert_eq!(code(home.act(&DeviceRequest::DeviceRevoke { device })), Code::NotAllowed);
    let stranger = strongroom_wire::DeviceId([1; 16]);
    assert_eq!(code(home.act(&DeviceRequest::DeviceRevoke { device: stranger })), Code::DeviceUnknown);
}

#[test]
fn a_crash_between_any_two_writes_of_a_rotation_leaves_a_vault_that_every_slot_opens() {
    let mut deaths = 0;
    for writes in 0..24 {
        for lands in [false, true] {
            let mut family = family("rotation");
            let Family { home, third, .. } = &mut family;
            let out = third.id;
            let what = format!("died at {writes}, {lands}");
            home.memory.die_at(writes, lands);
            let answered = home.act(&DeviceRequest::DeviceRevoke { device: out }).is_ok();
            deaths += u32::from(home.memory.is_dead());
            home.crash();
            let phrase = (writes + u64::from(lands)) % 2 == 0;
            let factor = if phrase { &home.phrase } else { &home.passphrase };
            if let Err(refusal) = home.world.unlock(&mut home.device, factor) {
                panic!("{what}: {refusal:?}");
            }
            let DeviceAnswer::Devices { devices } = home.session(&DeviceRequest::DeviceList {}).expect("listed") else {
                panic!()
            };
            let there = devices.iter().any(|device| device.id == out);
            assert!(!(answered && there), "{what}: what was answered holds");
            let rotated = home.actions().iter().filter(|action| **action == Action::KeyRotate).count();
            assert_eq!(
                rotated,
                usize::from(!there),
                "{what}: whoever is out, the key is new before anything is served"
            );
            family.check(&what);
            family.home.comes_back();
            family.check(&what);
        }
    }
    assert!(deaths >= 16, "{deaths}");
}

#[test]
fn a_second_crash_while_the_rotation_is_finished_is_survived_too() {
    for first in [4, 5, 6, 7, 8] {
        for second in 0..12 {
            let mut family = family("twice");
            let Family { home, third, .. } = &mut family;
            home.memory.die_at(first, true);
            let _ = home.act(&DeviceRequest::DeviceRevoke { device: third.id });
            home.crash();
            home.memory.die_at(second, second % 2 == 0);
            let _ = home.world.unlock(&mut home.device, &home.passphrase);
            home.comes_back();
            family.check(&format!("died at {first} and {second}"));
        }
    }
}

#[test]
fn a_disk_that_fails_in_a_rotation_locks_the_vault_and_the_next_unlock_finishes_it() {
    for fault in [Fault::FullCommit, Fault::FullFile, Fault::ReadOnly, Fault::FullRecord] {
        let mut family = family("failing");
        let Family { home, third, .. } = &mut family;
        let out = third.id;
        home.memory.fault(fault);
        home.act(&DeviceRequest::DeviceRevoke { device: out }).expect_err("a failing disk");
        home.memory.mend();
        home.comes_back();
        family.check(&format!("{fault:?}"));
    }
}

#[test]
fn what_was_made_before_a_rotation_is_used_after_it() {
    let mut family = family("used after");
    let Family { home, third, .. } = &mut family;
    let key = reference(home.add(key_item("k", KeyPurpose::Message, b"a key")), "private_key");
    home.add(api_key("API", b"0123456789abcdef"));
    home.act(&DeviceRequest::DeviceRevoke { device: third.id }).expect("thrown out");
    let call = DeviceRequest::Use(UseCall { reference: key, call: sign(b"m") });
    home.act(&call).expect("used");
    home.comes_back();
    home.act(&call).expect("used");
}

//! Ways to unlock: added, replaced, removed; and the phrase that renews the recovery blob.

use strongroom_crypto::factor::RecoveryPsk;
use strongroom_crypto::kem::SlotSecret;
use strongroom_crypto::seal::{HeaderFile, RecoveryBlob};
use strongroom_sim::home::{code, wallet};
use strongroom_sim::{Factor, Fault, Home};
use strongroom_wire::device::{DeviceAnswer, DeviceRequest, SlotDraft, SlotKind, SlotView};
use strongroom_wire::{Bytes, Code, Refusal, SlotId};

fn slot(answer: Result<DeviceAnswer, Refusal>) -> SlotView {
    match answer {
        Ok(DeviceAnswer::Slot(view)) => view,
        other => panic!("{other:?}"),
    }
}

fn add(home: &mut Home, kind: SlotKind) -> Factor {
    let mut factor = Factor::new(kind, &mut home.world.rng);
    let view = slot(home.act(&DeviceRequest::SlotAdd(factor.draft("another"))));
    factor.slot = Some(view.id);
    factor
}

fn opens(home: &mut Home, factor: &Factor) -> Result<(), Code> {
    home.lock();
    home.pass_secs(3_600);
    let opened = home.world.unlock(&mut home.device, factor).map(|_| ()).map_err(|refusal| refusal.code);
    if opened.is_err() {
        home.pass_secs(3_600);
        home.enter();
    }
    opened
}

#[test]
fn a_slot_that_was_added_opens_the_vault_also_after_a_restart() {
    let mut home = Home::new("added");
    let passkey = add(&mut home, SlotKind::Passkey);
    assert_eq!(opens(&mut home, &passkey), Ok(()));
    home.comes_back();
    assert_eq!(opens(&mut home, &passkey), Ok(()));
    let DeviceAnswer::Slots { slots } = home.session(&DeviceRequest::SlotList {}).expect("listed") else { panic!() };
    let named: Vec<_> = slots.iter().map(|slot| (slot.kind, slot.name.as_deref(), slot.kdf.is_some())).collect();
    assert!(named.contains(&(SlotKind::Passkey, Some("another"), false)));
    assert!(named.contains(&(SlotKind::Passphrase, Some("passphrase"), true)));
    home.lock();
    let DeviceAnswer::Slots { slots } = home.session(&DeviceRequest::SlotList {}).expect("listed") else { panic!() };
    assert!(slots.iter().all(|slot| slot.name.is_none()), "a locked vault knows no names");
}

#[test]
fn a_slot_that_was_removed_does_not_open_it_and_the_last_one_stays() {
    let mut home = Home::new("removed");
    let id = home.passphrase.slot.expect("a slot");
    assert_eq!(code(home.act(&DeviceRequest::SlotRemove { slot: id })), Code::SlotLast);
    let phrase = home.phrase.slot.expect("a slot");
    assert_eq!(code(home.act(&DeviceRequest::SlotRemove { slot: phrase })), Code::SlotLast);
    assert_eq!(code(home.act(&DeviceRequest::SlotRemove { slot: SlotId([1; 16]) })), Code::SlotUnknown);
    let passkey = add(&mut home, SlotKind::Passkey);
    home.act(&DeviceRequest::SlotRemove { slot: passkey.slot.expect("a slot") }).expect("removed");
    assert_eq!(opens(&mut home, &passkey), Err(Code::SlotUnknown));
    home.comes_back();
    assert_eq!(opens(&mut home, &passkey), Err(Code::SlotUnknown));
}

#[test]
fn a_changed_passphrase_takes_the_place_of_the_old_one() {
    let mut home = Home::new("changed");
    let mut newer = home.passphrase();
    let slot_id = home.passphrase.slot.expect("a slot");
    let replace = |draft| DeviceRequest::SlotReplace { slot: slot_id, draft };
    let passkey = Factor::new(SlotKind::Passkey, &mut home.world.rng).draft("x");
    assert_eq!(code(home.act(&replace(passkey))), Code::ValueRefused, "a slot keeps its kind");
    newer.slot = Some(slot(home.act(&replace(newer.draft("new")))).id);
    let older = std::mem::replace(&mut home.passphrase, newer);
    assert_eq!(opens(&mut home, &older), Err(Code::SlotUnknown));
    home.comes_back();
}

#[test]
fn a_crash_while_a_passphrase_is_changed_leaves_the_one_or_the_other() {
    for writes in 0..8 {
        for lands in [false, true] {
            let mut home = Home::new("change dies");
            let mut newer = home.passphrase();
            let slot_id = home.passphrase.slot.expect("a slot");
            let request = DeviceRequest::SlotReplace { slot: slot_id, draft: newer.draft("new") };
            home.memory.die_at(writes, lands);
            let answered = home.act(&request);
            home.crash();
            let Home { world, device, phrase, .. } = &mut home;
            world.unlock(device, phrase).expect("the phrase opens it in any case");
            world.learn_slots(device, &mut [&mut newer]).expect("listed");
            let replaced = newer.slot != Some(slot_id);
            assert!(replaced || answered.is_err(), "what was answered holds");
            let factor = if replaced { newer } else { std::mem::replace(&mut home.passphrase, newer) };
            home.passphrase = factor;
            home.comes_back();
            home.comes_back();
        }
    }
}

#[test]
fn a_slot_that_could_not_be_written_is_in_no_header() {
    let mut home = Home::new("unwritten");
    let mut factor = Factor::new(SlotKind::Passkey, &mut home.world.rng);
    home.memory.fault(Fault::FullCommit);
    assert_eq!(code(home.act(&DeviceRequest::SlotAdd(factor.draft("x")))), Code::DiskFull);
    home.memory.mend();
    home.act(&DeviceRequest::SessionBegin {}).expect("writes the header");
    home.crash();
    let Home { world, device, .. } = &mut home;
    world.learn_slots(device, &mut [&mut factor]).expect("listed");
    assert_eq!(factor.slot, None);
}

#[test]
fn weak_or_malformed_drafts_are_refused() {
    let mut home = Home::new("drafts");
    let draft = |home: &mut Home| Factor::new(SlotKind::Passphrase, &mut home.world.rng).draft("x");
    let broken: [fn(&mut SlotDraft); 6] = [
        |draft| draft.kdf = None,
        |draft| draft.kdf.as_mut().expect("a kdf").memory_kib = 65_535,
        |draft| draft.kdf.as_mut().expect("a kdf").passes = 2,
        |draft| draft.kdf.as_mut().expect("a kdf").lanes = 1,
        |draft| draft.kem_public = Bytes(vec![0xff; 1_216]),
        |draft| draft.sign_public = Bytes(vec![0; 31]),
    ];
    for (n, spoil) in broken.into_iter().enumerate() {
        let mut draft = draft(&mut home);
        spoil(&mut draft);
        assert_eq!(code(home.act(&DeviceRequest::SlotAdd(draft))), Code::ValueRefused, "{n}");
    }
    let second_phrase = home.phrase().draft("x");
    assert_eq!(code(home.act(&DeviceRequest::SlotAdd(second_phrase))), Code::ValueRefused);
}

#[test]
fn thirty_two_ways_to_unlock() {
    let mut home = Home::new("many");
    for _ in 0..30 {
        add(&mut home, SlotKind::Passkey);
    }
    let draft = Factor::new(SlotKind::Passkey, &mut home.world.rng).draft("x");
    assert_eq!(code(home.act(&DeviceRequest::SlotAdd(draft))), Code::TooMany);
}

/// What the recovery blob in the header gives with a phrase.
fn recovered(home: &Home, phrase: &Factor) -> Option<String> {
    let identity = home.device.identity.expect("pinned");
    let files = home.memory.copy();
    let newest = files.headers.iter().flatten().max_by_key(|file| file[5..13].to_vec()).expect("a header");
    let header = HeaderFile::parse(newest).expect("a header");
    let open: serde_json::Value = serde_json::from_slice(header.open_part()).expect("JSON");
    let blob: Bytes = serde_json::from_value(open["recovery_blob"].clone()).expect("bytes");
    let verified = RecoveryBlob::parse(&blob.0).expect("a blob").verify(&identity).expect("signed by the identity");
    let opened = verified.open(&SlotSecret::from_seed(phrase.seed()), &RecoveryPsk::from_bytes(phrase.seed())).ok()?;
    Some(String::from_utf8(opened.expose().to_vec()).expect("JSON"))
}

#[test]
fn the_recovery_blob_follows_every_critical_change_and_a_renewed_phrase() {
    let mut home = Home::new("blob");
    let has = |blob: &Option<String>, seed: &str| {
        let text = strongroom_wire::SecretValue::from(seed);
        let json = serde_json::to_string(&text).expect("JSON");
        blob.as_ref().is_some_and(|blob| blob.contains(&json))
    };
    home.add(wallet("w", b"first seed"));
    assert!(has(&recovered(&home, &home.phrase), "first seed"));
    let mut newer = home.phrase();
    let slot_id = home.phrase.slot.expect("a slot");
    let renew = DeviceRequest::SlotReplace { slot: slot_id, draft: newer.draft("phrase") };
    assert_eq!(code(home.act(&renew)), Code::CredentialRequired);
    newer.slot = Some(slot(home.critical(&renew)).id);
    assert_eq!(recovered(&home, &home.phrase), None, "the old phrase opens nothing any more");
    home.add(wallet("v", b"second seed"));
    let blob = recovered(&home, &newer);
    assert!(has(&blob, "first seed") && has(&blob, "second seed"));
    let older = std::mem::replace(&mut home.phrase, newer);
    assert_eq!(opens(&mut home, &older), Err(Code::SlotUnknown));
    home.lock();
    home.world.unlock(&mut home.device, &home.phrase).expect("the new phrase opens the vault");
}

#[test]
fn an_older_header_does_not_bring_a_replaced_or_removed_factor_back() {
    for remove in [false, true] {
        let mut home = Home::new("older header");
        let factor = match remove {
            true => add(&mut home, SlotKind::Passkey),
            false => std::mem::replace(&mut home.passphrase, Factor::new(SlotKind::Passphrase, &mut home.world.rng)),
        };
        let slot_id = factor.slot.expect("a slot");
        let older = home.memory.copy();
        let Home { world, device, passphrase, .. } = &mut home;
        let request = match remove {
            true => DeviceRequest::SlotRemove { slot: slot_id },
            false => DeviceRequest::SlotReplace { slot: slot_id, draft: passphrase.draft("new") },
        };
        let by = if remove { &*passphrase } else { &factor };
        let answer = world.fresh(device, by, &request).expect("done");
        if let DeviceAnswer::Slot(view) = answer {
            passphrase.slot = Some(view.id);
        }
        // The machine dies, and somebody puts the headers back as they were just before.
        world.crash();
        world.memory.tamper(|files| files.headers = older.headers.clone());
        world.start();
        assert_eq!(code(world.unlock(device, &factor)), Code::FactorRefused);
        assert!(!world.vault().is_open());
        // What is in force opens it: the header was brought up.
        home.comes_back();
        home.add(wallet("w", b"seed"));
    }
}

#[test]
fn a_crash_while_a_passphrase_is_changed_never_locks_the_member_out() {
    for writes in 0..8 {
        for lands in [false, true] {
            let mut home = Home::new("change dies");
            let mut newer = home.passphrase();
            let slot_id = home.passphrase.slot.expect("a slot");
            home.memory.die_at(writes, lands);
            let request = DeviceRequest::SlotReplace { slot: slot_id, draft: newer.draft("new") };
            let _ = home.act(&request);
            home.crash();
            let Home { world, device, passphrase, .. } = &mut home;
            // A device that has no session may learn the slots, and a member tries both passphrases.
            let mut opened = false;
            for _ in 0..2 {
                world.learn_slots(device, &mut [&mut newer]).expect("listed");
                let older = world.unlock(device, passphrase).is_ok();
                opened = older || world.unlock(device, &newer).is_ok();
                if opened {
                    break;
                }
            }
            assert!(opened, "{writes} {lands}");
        }
    }
}

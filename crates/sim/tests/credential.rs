//! The credential's protocol: a key that is new after every use, an act that happens once, a copy that shows.

use strongroom_core::Effect;
use strongroom_sim::home::{code, field, key_item, name_of, reference, sign, wallet};
use strongroom_sim::{Device, Factor, Fault, Home, World};
use strongroom_wire::device::{DeliverRequest, DeviceAnswer, DeviceRequest, ItemEdit};
use strongroom_wire::event::Action;
use strongroom_wire::guest::UseCall;
use strongroom_wire::policy::{Consumer, KeyPurpose};
use strongroom_wire::{Class, Code, ItemId, Refusal, RequestId};

fn add(name: &str) -> DeviceRequest {
    DeviceRequest::ItemAdd(wallet(name, name.as_bytes()))
}

fn next(answer: Result<DeviceAnswer, Refusal>) -> (u64, strongroom_wire::Bytes) {
    match answer {
        Ok(DeviceAnswer::CredentialNext { sequence, mail }) => (sequence, mail),
        other => panic!("{other:?}"),
    }
}

fn edit_seed(item: ItemId, seed: &[u8]) -> DeviceRequest {
    let set = vec![field("seed", Class::Critical, seed)];
    DeviceRequest::ItemEdit(ItemEdit {
        item,
        if_version: None,
        label: None,
        tags: None,
        set,
        remove: Vec::new(),
        policy: None,
    })
}

/// A wallet's seed, exported by a device.
fn seed(world: &mut World, device: &mut Device, factor: &Factor, item: ItemId) -> Result<Vec<u8>, Refusal> {
    let references = vec![reference(item, "seed")];
    let deliver = DeliverRequest { consumer: Consumer::Export, references, after: None, program: None };
    match world.credential(device, factor, &DeviceRequest::Deliver(deliver))? {
        DeviceAnswer::Delivered { values, .. } => Ok(values[0].value.expose().to_vec()),
        other => panic!("{other:?}"),
    }
}

fn item_of(answer: Result<DeviceAnswer, Refusal>) -> ItemId {
    match answer {
        Ok(DeviceAnswer::Item(view)) => view.summary.id,
        other => panic!("{other:?}"),
    }
}

fn second_device(home: &mut Home) -> Device {
    let Home { world, device, passphrase, .. } = home;
    let mut second = world.add_device(device, passphrase).expect("enrolled");
    world.unlock(&mut second, passphrase).expect("a session");
    second
}

#[test]
fn nothing_acts_before_the_next_blob_is_confirmed() {
    let mut home = Home::new("confirmed");
    let (id, blob) = (home.request_id(), home.device.blob.clone());
    let (sequence, mail) = next(home.world.present(&home.device, &home.passphrase, id, &blob, &add("w")));
    assert_eq!(sequence, 2);
    assert!(!home.actions().contains(&Action::ItemAdd));
    let newer = home.device.open_mail(home.world.id, sequence, &mail).expect("mail for this device");
    assert!(home.device.open_mail(home.world.id, 3, &mail).is_none(), "mail is bound to its number");
    home.device.store(newer.clone());
    let item = item_of(home.world.confirm(&home.device, id, sequence, &newer));
    assert_eq!(item, ItemId(id.0), "the item is named by its request, so that it is added once");
    let Home { world, device, passphrase, .. } = &mut home;
    assert_eq!(seed(world, device, passphrase, item).expect("exported"), b"w");
}

#[test]
fn the_blob_shown_again_before_the_confirmation_gets_the_same_next_one() {
    let mut home = Home::new("same");
    let (id, blob) = (home.request_id(), home.device.blob.clone());
    let first = next(home.world.present(&home.device, &home.passphrase, id, &blob, &add("w")));
    let again = next(home.world.present(&home.device, &home.passphrase, id, &blob, &add("w")));
    assert_eq!(first, again);
    let other = home.request_id();
    let another = next(home.world.present(&home.device, &home.passphrase, other, &blob, &add("x")));
    assert_eq!(first, another, "another request too");
    // Its use is dropped: it is not the one whose change is in the blob.
    let newer = home.device.open_mail(home.world.id, first.0, &first.1).expect("mail");
    assert_eq!(code(home.world.confirm(&home.device, other, first.0, &newer)), Code::CredentialBusy);
    home.device.store(newer);
    let item = item_of(home.critical(&add("x")));
    home.comes_back();
    let Home { world, device, passphrase, .. } = &mut home;
    assert_eq!(seed(world, device, passphrase, item).expect("exported"), b"x");
}

#[test]
fn an_older_blob_freezes_the_chain_and_the_member_is_told() {
    let mut home = Home::new("frozen");
    let stolen = home.device.blob.clone();
    home.add(wallet("w", b"seed"));
    let id = home.request_id();
    let refused = home.world.present(&home.device, &home.passphrase, id, &stolen, &add("thief"));
    assert_eq!(code(refused), Code::CredentialFrozen);
    assert!(home.told.iter().any(|effect| matches!(effect, Effect::Notice("credential.freeze"))));
    assert!(home.actions().contains(&Action::CredentialFreeze));
    assert_eq!(code(home.critical(&add("own"))), Code::CredentialFrozen, "the owner's blob does not act either");
    home.comes_back();
    assert_eq!(code(home.critical(&add("own"))), Code::CredentialFrozen);
    let DeviceAnswer::Devices { devices } = home.session(&DeviceRequest::DeviceList {}).expect("listed") else {
        panic!()
    };
    assert!(devices[0].frozen);
}

#[test]
fn only_a_blob_that_was_in_force_freezes_and_only_with_a_factor() {
    let mut home = Home::new("no freeze");
    let stolen = home.device.blob.clone();
    home.add(wallet("w", b"seed"));
    // A device's key alone: no factor was brought along, so nothing is touched.
    let id = home.request_id();
    for blob in [stolen.clone(), numbered(&stolen, 0), vec![1; 70]] {
        assert_eq!(code(home.world.confirm(&home.device, id, 2, &blob)), Code::CredentialBusy);
    }
    assert!(!home.actions().contains(&Action::CredentialFreeze));
    home.critical(&add("one")).expect("its own blob acts");
    // A factor, and numbers that no blob of this device had in this form.
    for blob in [numbered(&stolen, 0), numbered(&home.device.blob.clone(), 1), numbered(&stolen, 2)] {
        let id = home.request_id();
        let refused = home.world.present(&home.device, &home.passphrase, id, &blob, &add("thief"));
        assert_eq!(code(refused), Code::CredentialRefused);
    }
    assert!(!home.actions().contains(&Action::CredentialFreeze));
    home.critical(&add("two")).expect("its own blob acts");
    let id = home.request_id();
    let refused = home.world.present(&home.device, &home.passphrase, id, &stolen, &add("thief"));
    assert_eq!(code(refused), Code::CredentialFrozen, "the copy shows after two uses");
}

/// A blob with another number in its head (docs/cryptography.md, section 5).
fn numbered(blob: &[u8], number: u64) -> Vec<u8> {
    let mut changed = blob.to_vec();
    changed[17..25].copy_from_slice(&number.to_be_bytes());
    changed
}

#[test]
fn an_older_header_and_chain_beside_the_newest_database_do_not_bring_a_credential_back() {
    let mut home = Home::new("older both");
    let older = home.memory.copy();
    let copied = home.device.blob.clone();
    home.add(wallet("w", b"seed"));
    // The machine dies before the vault locks; the database is the newest there is.
    home.memory.tamper(|files| (files.headers, files.chains) = (older.headers, older.chains));
    home.comes_back();
    let id = home.request_id();
    let refused = home.world.present(&home.device, &home.passphrase, id, &copied, &add("thief"));
    assert_eq!(code(refused), Code::CredentialRefused);
}

#[test]
fn a_lost_answer_is_answered_again_and_never_a_second_act() {
    let mut home = Home::new("lost");
    let (id, blob) = (home.request_id(), home.device.blob.clone());
    let (sequence, mail) = next(home.world.present(&home.device, &home.passphrase, id, &blob, &add("w")));
    let newer = home.device.open_mail(home.world.id, sequence, &mail).expect("mail");
    home.device.store(newer.clone());
    let item = item_of(home.world.confirm(&home.device, id, sequence, &newer));
    assert_eq!(item_of(home.world.confirm(&home.device, id, sequence, &newer)), item);
    home.comes_back();
    assert_eq!(item_of(home.world.confirm(&home.device, id, sequence, &newer)), item);
    let answer = home.world.present(&home.device, &home.passphrase, id, &newer, &add("w")).expect("the outcome");
    let DeviceAnswer::Outcome { sealed } = answer else { panic!("{answer:?}") };
    assert!(home.device.open_outcome(home.world.id, id, &sealed).is_some());
    assert_eq!(home.actions().iter().filter(|action| **action == Action::ItemAdd).count(), 1);
}

#[test]
fn a_blob_of_another_device_a_changed_one_or_none_is_refused() {
    let mut home = Home::new("strange");
    let mut second = second_device(&mut home);
    let id = home.request_id();
    let others = home.device.blob.clone();
    let refused = home.world.present(&second, &home.passphrase, id, &others, &add("w"));
    assert_eq!(code(refused), Code::CredentialRefused);
    for at in [0, 5, 20, 60] {
        let mut changed = second.blob.clone();
        changed[at] ^= 1;
        let refused = home.world.present(&second, &home.passphrase, id, &changed, &add("w"));
        assert!(matches!(code(refused), Code::CredentialRefused), "byte {at}");
    }
    assert_eq!(code(home.world.present(&second, &home.passphrase, id, b"", &add("w"))), Code::CredentialRefused);
    assert_eq!(code(home.act(&add("w"))), Code::CredentialRequired);
    let item = item_of(home.world.credential(&mut second, &home.passphrase, &add("w")));
    assert_eq!(seed(&mut home.world, &mut second, &home.passphrase, item).expect("exported"), b"w");
}

#[test]
fn what_one_device_changes_the_others_find_in_their_mail() {
    let mut home = Home::new("mail");
    let mut second = second_device(&mut home);
    let older = second.blob.clone();
    let item = home.add(wallet("w", b"first"));
    let Home { world, device, passphrase, .. } = &mut home;
    let number = || older.clone();
    // The older blob is answered with the mail, and does not count as a copy.
    let id = world.request_id();
    let (sequence, _) = next(world.present(&second, passphrase, id, &number(), &add("x")));
    assert_eq!(sequence, 2);
    assert_eq!(seed(world, &mut second, passphrase, item).expect("exported"), b"first");
    item_of(world.credential(&mut second, passphrase, &edit_seed(item, b"second")));
    assert_eq!(seed(world, device, passphrase, item).expect("exported"), b"second");
}

#[test]
fn mail_that_was_fetched_but_not_confirmed_still_opens_after_newer_mail_came() {
    let mut home = Home::new("newer mail");
    let mut second = second_device(&mut home);
    home.add(wallet("w", b"first"));
    let id = home.request_id();
    let (sequence, mail) = next(home.world.present(&second, &home.passphrase, id, &second.blob.clone(), &add("x")));
    let fetched = second.open_mail(home.world.id, sequence, &mail).expect("mail");
    second.store(fetched);
    // Before it can confirm, the first device changes something again.
    let item = home.add(wallet("v", b"newer"));
    let Home { world, passphrase, .. } = &mut home;
    assert_eq!(code(world.confirm(&second, id, sequence, &second.blob.clone())), Code::CredentialBusy);
    assert_eq!(seed(world, &mut second, passphrase, item).expect("exported"), b"newer");
}

#[test]
fn two_devices_that_change_at_once_lose_nothing() {
    let mut home = Home::new("at once");
    let mut second = second_device(&mut home);
    let Home { world, device, passphrase, .. } = &mut home;
    let (one, two) = (world.request_id(), world.request_id());
    let (at, mail) = next(world.present(device, passphrase, one, &device.blob.clone(), &add("one")));
    let (at_two, mail_two) = next(world.present(&second, passphrase, two, &second.blob.clone(), &add("two")));
    device.store(device.open_mail(world.id, at, &mail).expect("mail"));
    second.store(second.open_mail(world.id, at_two, &mail_two).expect("mail"));
    let first = item_of(world.confirm(device, one, at, &device.blob.clone()));
    // The second one's blob does not hold the first one's change: its request must be sent again.
    assert_eq!(code(world.confirm(&second, two, at_two, &second.blob.clone())), Code::CredentialBusy);
    let other = item_of(world.credential_as(&mut second, passphrase, two, &add("two")));
    for reader in [device, &mut second] {
        assert_eq!(seed(world, reader, passphrase, first).expect("exported"), b"one");
        assert_eq!(seed(world, reader, passphrase, other).expect("exported"), b"two");
    }
}

#[test]
fn a_request_that_was_presented_and_never_confirmed_changes_nothing() {
    let mut home = Home::new("dropped");
    let item = home.add(wallet("w", b"old seed"));
    let id = home.request_id();
    let blob = home.device.blob.clone();
    let (sequence, mail) =
        next(home.world.present(&home.device, &home.passphrase, id, &blob, &edit_seed(item, b"new seed")));
    home.device.store(home.device.open_mail(home.world.id, sequence, &mail).expect("mail"));
    home.comes_back();
    let Home { world, device, passphrase, .. } = &mut home;
    assert_eq!(seed(world, device, passphrase, item).expect("exported"), b"old seed", "a seed is never lost");
    let id = world.request_id();
    let remove = DeviceRequest::ItemEdit(ItemEdit {
        item,
        if_version: None,
        label: None,
        tags: None,
        set: Vec::new(),
        remove: vec![name_of("seed")],
        policy: None,
    });
    let (sequence, mail) = next(world.present(device, passphrase, id, &device.blob.clone(), &remove));
    device.store(device.open_mail(world.id, sequence, &mail).expect("mail"));
    assert_eq!(seed(world, device, passphrase, item).expect("exported"), b"old seed");
}

#[test]
fn a_field_that_changed_between_presentation_and_confirmation_is_a_conflict() {
    let mut home = Home::new("meanwhile");
    let mut draft = key_item("k", KeyPurpose::Message, b"secret");
    draft.fields[0].class = Class::Secret;
    let item = home.add(draft);
    let place = name_of("private_key");
    let set = |class, value: &[u8]| {
        DeviceRequest::ItemEdit(ItemEdit {
            item,
            if_version: None,
            label: None,
            tags: None,
            set: vec![field("private_key", class, value)],
            remove: Vec::new(),
            policy: None,
        })
    };
    let id = home.request_id();
    let blob = home.device.blob.clone();
    let raise = set(Class::Critical, b"critical");
    let (sequence, mail) = next(home.world.present(&home.device, &home.passphrase, id, &blob, &raise));
    home.device.store(home.device.open_mail(home.world.id, sequence, &mail).expect("mail"));
    home.act(&set(Class::Secret, b"meanwhile")).expect("edited");
    let blob = home.device.blob.clone();
    assert_eq!(code(home.world.confirm(&home.device, id, sequence, &blob)), Code::Conflict);
    home.critical(&raise).expect("sent again");
    let call = DeviceRequest::Use(UseCall { reference: reference(item, place.as_str()), call: sign(b"m") });
    home.critical(&call).expect("its value is in the credential");
    assert_eq!(home.fakes.shown.last().map(|(_, value)| value.as_slice()), Some(&b"critical"[..]));
}

/// One device adds a wallet, and the machine dies at a write. Afterwards it asks again under the same id until it is done, and
/// every device finds every seed. Whether it died, and how many durable writes it came to.
fn dies_while_adding(writes: u64, lands: bool) -> (bool, u64) {
    let mut home = Home::new("dies");
    let mut second = second_device(&mut home);
    let kept = home.add(wallet("kept", b"kept"));
    let Home { world, device, passphrase, .. } = &mut home;
    let id = world.request_id();
    let request = add("new");
    let before = world.memory.writes();
    world.memory.die_at(writes, lands);
    let answered = world.credential_as(device, passphrase, id, &request);
    let died = (world.memory.is_dead(), world.memory.writes() - before);
    world.crash();
    world.unlock(device, passphrase).expect("opens after a crash");
    let item = match answered {
        Ok(answer) => item_of(Ok(answer)),
        Err(_) => again(world, device, passphrase, id, &request),
    };
    for reader in [device, &mut second] {
        world.fresh(reader, passphrase, &DeviceRequest::SessionBegin {}).expect("a session");
        for (item, expected) in [(kept, &b"kept"[..]), (item, b"new")] {
            let found = seed(world, reader, passphrase, item);
            assert_eq!(found.expect("every device finds every seed"), expected, "died at {writes}, {lands}");
        }
    }
    died
}

/// As a device goes on after a restart: the outcome first, then the request again.
fn again(world: &mut World, device: &mut Device, factor: &Factor, id: RequestId, request: &DeviceRequest) -> ItemId {
    match world.confirm(device, id, 0, &device.blob.clone()) {
        Ok(answer) => item_of(Ok(answer)),
        Err(_) => item_of(world.credential_as(device, factor, id, request)),
    }
}

#[test]
fn a_crash_at_any_write_loses_no_critical_value_on_any_device() {
    let (died, writes) = dies_while_adding(u64::MAX, true);
    assert!(!died && writes >= 5, "{writes}");
    for at in 0..20 {
        for lands in [false, true] {
            assert_eq!(dies_while_adding(at, lands).0, at < writes, "it dies at each write there is: {at} of {writes}");
        }
    }
}

#[test]
fn a_full_disk_at_any_moment_loses_no_critical_value_and_breaks_no_chain() {
    for fault in [Fault::FullCommit, Fault::FullRecord, Fault::FullFile, Fault::ReadOnly] {
        let mut home = Home::new("full");
        let mut second = second_device(&mut home);
        let Home { world, device, passphrase, .. } = &mut home;
        let id = world.request_id();
        let (sequence, mail) = next(world.present(device, passphrase, id, &device.blob.clone(), &add("w")));
        device.store(device.open_mail(world.id, sequence, &mail).expect("mail"));
        world.memory.fault(fault);
        world.confirm(device, id, sequence, &device.blob.clone()).expect_err("no room");
        world.memory.mend();
        if !world.vault().is_open() {
            world.unlock(device, passphrase).expect("opens");
            world.fresh(&second, passphrase, &DeviceRequest::SessionBegin {}).expect("a session");
        }
        let item = again(world, device, passphrase, id, &add("w"));
        for reader in [device, &mut second] {
            assert_eq!(seed(world, reader, passphrase, item).expect("exported"), b"w", "{fault:?}");
        }
    }
}

#[test]
fn an_older_chain_file_put_back_is_refused() {
    let mut home = Home::new("older chain");
    let older = home.memory.copy().chains;
    home.add(wallet("w", b"seed"));
    home.memory.tamper(|files| files.chains = older);
    assert_eq!(code(home.critical(&add("x"))), Code::CredentialRefused);
    home.memory.tamper(|files| files.chains.clear());
    assert_eq!(code(home.critical(&add("x"))), Code::CredentialRefused);
}

#[test]
fn a_presentation_waits_two_minutes_for_its_confirmation() {
    let mut home = Home::new("waits");
    let (id, blob) = (home.request_id(), home.device.blob.clone());
    let (sequence, mail) = next(home.world.present(&home.device, &home.passphrase, id, &blob, &add("w")));
    let newer = home.device.open_mail(home.world.id, sequence, &mail).expect("mail");
    home.device.store(newer.clone());
    home.pass_secs(120);
    assert_eq!(code(home.world.confirm(&home.device, id, sequence, &newer)), Code::CredentialBusy);
    item_of(home.world.credential_as(&mut home.device, &home.passphrase, id, &add("w")));
}

#[test]
fn another_device_does_not_confirm_what_one_presented() {
    let mut home = Home::new("not mine");
    let second = second_device(&mut home);
    let (id, blob) = (home.request_id(), home.device.blob.clone());
    let (sequence, mail) = next(home.world.present(&home.device, &home.passphrase, id, &blob, &add("w")));
    let newer = home.device.open_mail(home.world.id, sequence, &mail).expect("mail");
    assert!(second.open_mail(home.world.id, sequence, &mail).is_none());
    assert_eq!(code(home.world.confirm(&second, id, sequence, &newer)), Code::CredentialBusy);
    assert_eq!(code(home.world.confirm(&second, id, sequence, &second.blob.clone())), Code::CredentialBusy);
    home.device.store(newer.clone());
    item_of(home.world.confirm(&home.device, id, sequence, &newer));
}

#[test]
fn a_chain_file_from_before_a_freeze_does_not_thaw_it() {
    let mut home = Home::new("thaw");
    let stolen = home.device.blob.clone();
    home.add(wallet("w", b"seed"));
    let older = home.memory.copy().chains;
    let id = home.request_id();
    let refused = home.world.present(&home.device, &home.passphrase, id, &stolen, &add("thief"));
    assert_eq!(code(refused), Code::CredentialFrozen);
    home.memory.tamper(|files| files.chains = older);
    assert_eq!(code(home.critical(&add("x"))), Code::CredentialRefused);
    home.comes_back();
    assert_eq!(code(home.critical(&add("x"))), Code::CredentialRefused);
}

#[test]
fn a_chain_file_from_before_mail_came_does_not_lose_what_was_in_it() {
    let mut home = Home::new("mail back");
    let mut second = second_device(&mut home);
    let older = home.memory.copy().chains;
    let item = home.add(wallet("w", b"seed"));
    home.memory.tamper(|files| {
        files.chains.insert(second.id, older[&second.id].clone());
    });
    let Home { world, device, passphrase, .. } = &mut home;
    assert_eq!(code(world.credential(&mut second, passphrase, &add("x"))), Code::CredentialRefused);
    assert_eq!(seed(world, device, passphrase, item).expect("exported"), b"seed");
}

#[test]
fn a_device_that_never_hears_an_answer_keeps_its_chain_file_small() {
    let mut home = Home::new("deaf");
    let mut second = second_device(&mut home);
    let blob = second.blob.clone();
    for n in 0..20 {
        home.add(wallet(&format!("w{n}"), &[n; 2_000]));
        let id = home.request_id();
        next(home.world.present(&second, &home.passphrase, id, &blob, &add("lost")));
    }
    let length = home.memory.copy().chains[&second.id].len();
    assert!(length < 100_000, "{length} bytes");
    let Home { world, passphrase, .. } = &mut home;
    item_of(world.credential(&mut second, passphrase, &add("heard")));
}

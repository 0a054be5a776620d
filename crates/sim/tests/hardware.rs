//! What the host's hardware does for a vault, and a vault whose share is gone: through crashes at any write, nobody is locked out and
//! nothing opens that should not.

use strongroom_core::{Context, Effect, Hardware, Input, Peer};
use strongroom_crypto::kem::KemPublic;
use strongroom_crypto::unattended;
use strongroom_sim::home::{code, login};
use strongroom_sim::{Answer, DeviceResult, Home};
use strongroom_wire::device::{DeviceAnswer, DeviceRequest, RescueBy, RescueRequest, VaultState};
use strongroom_wire::event::Action;
use strongroom_wire::host::{HardwareAnswer, HardwareRequest};
use strongroom_wire::sealing::TpmSealed;
use strongroom_wire::{Bytes, Code, Refusal, SecretValue};

/// A program, by its SHA-256.
fn program(byte: u8) -> Bytes {
    Bytes::from([byte; 32])
}

/// Hardware that keeps a secret in the record of what it sealed, and gives it out to the program it was sealed to.
fn sealed(secret: &[u8], program: &Bytes) -> TpmSealed {
    TpmSealed {
        parent: Bytes::default(),
        private: Bytes::from(secret),
        public: Bytes::default(),
        program: program.clone(),
        boot: [(7, program.clone())].into(),
    }
}

fn perform(home: &mut Home, runs: &Bytes, request: HardwareRequest) -> HardwareAnswer {
    let send = |home: &mut Home, sealed: TpmSealed, to: &Bytes| {
        let to = KemPublic::from_bytes(&to.0).expect("a key");
        let secret = sealed.private.to_array().expect("a secret");
        let secret = unattended::seal_secret(&to, &secret, &mut home.world.rng).into();
        HardwareAnswer::Secret { sealed: Box::new(sealed), secret }
    };
    match request {
        HardwareRequest::Generate { to } => {
            let secret: [u8; 32] = home.world.rng.bytes();
            send(home, sealed(&secret, runs), &to)
        }
        HardwareRequest::Open { sealed, .. } if sealed.program != *runs => {
            HardwareAnswer::Refused(Refusal::new(Code::MeasurementChanged))
        }
        HardwareRequest::Open { sealed, to } => send(home, *sealed, &to),
        HardwareRequest::Reseal { sealed: before, program } => {
            HardwareAnswer::Sealed { sealed: Box::new(sealed(&before.private.0, &program)) }
        }
        HardwareRequest::ResealShare { .. } => HardwareAnswer::Done {},
    }
}

/// Answers what the vault asks of the hardware until it asks nothing more. Gives what it asked.
fn serve(home: &mut Home, runs: &Bytes) -> Vec<HardwareRequest> {
    let mut asked = Vec::new();
    while let Some(at) = home.world.told.iter().position(|effect| matches!(effect, Effect::Hardware(_))) {
        let Effect::Hardware(request) = home.world.told.swap_remove(at) else { unreachable!() };
        asked.push((*request).clone());
        let answer = perform(home, runs, *request);
        home.world.tell(Input::Hardware(answer));
        home.world.flush();
    }
    asked
}

/// The vault process starts on a machine that measured this program.
fn start(home: &mut Home, runs: &Bytes, installed: &Bytes) {
    let moment = home.world.moment();
    let hardware = Hardware { program: Some(runs.clone()), installed: Some(installed.clone()) };
    let world = &mut home.world;
    let vault = world.vault.as_mut().expect("the header can be used");
    vault.set_hardware(hardware);
    vault.open_unattended(&mut Context { moment, rng: &mut world.rng, consumers: &mut world.fakes });
    home.world.flush();
    serve(home, runs);
}

fn unattended_set(home: &mut Home, runs: &Bytes, on: bool) -> DeviceResult {
    let answer = home.world.fresh_ask(&home.device, &home.passphrase, &DeviceRequest::UnattendedSet { on });
    let answer = match answer {
        Answer::Later(to) => {
            serve(home, runs);
            home.world.take(to)
        }
        answer => answer,
    };
    match answer {
        Answer::Device(result) => result,
        // The machine died first.
        _ => Err(Code::HostFailed.into()),
    }
}

fn state(home: &mut Home) -> VaultState {
    match home.session(&DeviceRequest::Status {}) {
        Ok(DeviceAnswer::Status(status)) => status.state,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_vault_opens_by_itself_where_its_member_wants_that_and_the_hardware_says_so() {
    let runs = program(1);
    let mut home = Home::new("unattended");
    assert_eq!(code(unattended_set(&mut home, &runs, true)), Code::HardwareMissing, "no hardware, no such thing");
    start(&mut home, &runs, &runs);
    unattended_set(&mut home, &runs, true).expect("on");
    unattended_set(&mut home, &runs, true).expect("twice is fine");
    home.world.crash();
    start(&mut home, &runs, &runs);
    assert_eq!(state(&mut home), VaultState::Open, "and guests are served: the header stands for the log");
    // It stays open for as long as that is so.
    home.world.pass_secs(40 * 86_400);
    assert_eq!(state(&mut home), VaultState::Open);

    // Another program gets nothing.
    home.world.crash();
    start(&mut home, &program(2), &program(2));
    assert_eq!(state(&mut home), VaultState::Locked);
    // A device that locks means it, through restarts, until a device unlocks.
    home.world.crash();
    start(&mut home, &runs, &runs);
    home.lock();
    home.world.crash();
    start(&mut home, &runs, &runs);
    assert_eq!(state(&mut home), VaultState::Locked);
    home.enter();
    home.world.crash();
    start(&mut home, &runs, &runs);
    assert_eq!(state(&mut home), VaultState::Open);

    // The new vault key after a device was thrown out opens by itself as well.
    home.world.crash();
    start(&mut home, &runs, &runs);
    home.enter();
    unattended_set(&mut home, &runs, false).expect("off");
    home.world.pass_secs(13 * 3_600);
    assert_eq!(state(&mut home), VaultState::Locked, "it has an end again");
    home.enter();
    home.world.crash();
    start(&mut home, &runs, &runs);
    assert_eq!(state(&mut home), VaultState::Locked);
    home.enter();
    let actions = home.actions();
    assert!(actions.contains(&Action::UnattendedOn) && actions.contains(&Action::UnattendedOff));
}

#[test]
fn the_slot_of_the_hardware_is_no_devices_to_use() {
    let runs = program(1);
    let mut home = Home::new("not a device's");
    start(&mut home, &runs, &runs);
    unattended_set(&mut home, &runs, true).expect("on");
    let DeviceAnswer::Slots { slots } = home.session(&DeviceRequest::SlotList {}).expect("slots") else { panic!() };
    let slot = slots.iter().find(|slot| slot.kind == strongroom_wire::device::SlotKind::Unattended).expect("a slot");
    home.lock();
    home.passphrase.slot = Some(slot.id);
    assert_eq!(code(home.world.unlock_only(&home.device, &home.passphrase)), Code::SlotUnknown);
}

#[test]
fn an_update_seals_the_slot_first_and_the_share_last() {
    let (runs, next) = (program(1), program(2));
    let mut home = Home::new("update");
    start(&mut home, &runs, &next);
    unattended_set(&mut home, &runs, true).expect("on");
    let other = DeviceRequest::UpdateAccept { program: program(3) };
    assert_eq!(code(home.critical(&other)), Code::Conflict, "not what is installed");
    home.critical(&DeviceRequest::UpdateAccept { program: next.clone() }).expect("agreed");
    let asked = serve(&mut home, &runs);
    assert!(matches!(asked[..], [HardwareRequest::Reseal { .. }, HardwareRequest::ResealShare { .. }]), "{asked:?}");
    // Whichever program starts next opens by itself: the machine may crash before the share is sealed.
    for starts in [&next, &runs] {
        home.world.crash();
        start(&mut home, starts, &next);
        assert_eq!(state(&mut home), VaultState::Open, "{starts:?}");
    }
    home.enter();
    assert!(home.actions().contains(&Action::UpdateAccept));
    home.world.crash();
    start(&mut home, &next, &next);
    home.enter();
    assert_eq!(code(home.critical(&DeviceRequest::UpdateAccept { program: next })), Code::Conflict, "none waits");
}

#[test]
fn a_crash_at_any_write_of_what_the_hardware_does_locks_nobody_out() {
    let (runs, next) = (program(1), program(2));
    for writes in 0..14 {
        for lands in [false, true] {
            let mut home = Home::new("hardware and crashes");
            start(&mut home, &runs, &next);
            home.world.memory.die_at(writes, lands);
            let on = unattended_set(&mut home, &runs, true).is_ok();
            let agreed = home.critical(&DeviceRequest::UpdateAccept { program: next.clone() });
            serve(&mut home, &runs);
            home.world.crash();
            start(&mut home, &runs, &next);
            if on {
                assert_eq!(state(&mut home), VaultState::Open, "{writes} {lands} {agreed:?}");
            }
            home.enter();
            home.add(login("After", b"a password of the day after"));
        }
    }
}

/// Somebody brings the vault back.
fn rescue(home: &mut Home, by: RescueBy) -> DeviceResult {
    let request = DeviceRequest::Rescue(RescueRequest { by, device: Some(home.device.id) });
    let id = home.world.request_id();
    match home.world.ask(Peer::Founder([7; 32]), id, None, None, &serde_json::to_string(&request).expect("JSON")) {
        Answer::Device(result) => result,
        other => panic!("{other:?}"),
    }
}

fn with_share(share: [u8; 32]) -> RescueBy {
    RescueBy::Share { share: SecretValue::new(share.to_vec()) }
}

fn with_phrase(home: &Home) -> RescueBy {
    RescueBy::Phrase {
        seed: SecretValue::new(home.phrase.seed().to_vec()),
        identity: Bytes::from(*home.device.identity.expect("pinned").as_bytes()),
    }
}

#[test]
fn a_vault_whose_share_is_gone_comes_back_with_the_share_or_the_phrase_and_with_nothing_else() {
    for by_phrase in [false, true] {
        let mut home = Home::new("rescue");
        let item = home.add(login("Kept", b"a password that is kept"));
        home.lock();
        // A wrong try that the locked vault noted.
        let wrong = home.passphrase.wrong(&mut home.world.rng);
        home.world.unlock_only(&home.device, &wrong).expect_err("wrong");
        let before = home.world.lose_share();
        assert!(home.world.vault().is_lost());
        let (mut passphrase, mut phrase) = (home.world.passphrase(), home.world.phrase());
        assert!(home.world.create(&mut passphrase, &mut phrase).is_err(), "nobody makes another vault in its place");

        assert_eq!(code(rescue(&mut home, with_share([9; 32]))), Code::FactorRefused);
        let mut wrong = with_phrase(&home);
        if let RescueBy::Phrase { seed, .. } = &mut wrong {
            *seed = SecretValue::new(vec![9; 32]);
        }
        assert_eq!(code(rescue(&mut home, wrong)), Code::FactorRefused);
        assert!(home.world.vault().is_lost(), "still");

        let by = if by_phrase { with_phrase(&home) } else { with_share(before) };
        let Ok(DeviceAnswer::Rescued { sealed_share: Some(_) }) = rescue(&mut home, by) else { panic!("brought back") };
        assert!(home.world.told.iter().any(|effect| matches!(effect, Effect::Rescued)));
        home.world.share_is_new = false;
        home.world.crash();
        home.enter();
        home.session(&DeviceRequest::ItemShow { item }).expect("kept");
        home.add(strongroom_sim::home::wallet("Coins", b"the credential goes on"));
        assert_eq!(home.actions().contains(&Action::VaultRescue), by_phrase);
        assert_eq!(home.actions().contains(&Action::UnlockRefused), !by_phrase, "what was noted while it was locked");
        // The share that was opens nothing any more.
        home.world.share = before;
        home.world.start();
        assert!(home.world.vault.as_ref().is_err_and(|refusal| refusal.code == Code::HeaderRefusedFile));
    }
}

#[test]
fn a_crash_at_any_write_of_a_rescue_leaves_a_vault_that_is_lost_or_back() {
    for by_phrase in [false, true] {
        for writes in 0..10 {
            for lands in [false, true] {
                let mut home = Home::new("rescue and crashes");
                home.lock();
                let before = home.world.lose_share();
                home.world.memory.die_at(writes, lands);
                let by = if by_phrase { with_phrase(&home) } else { with_share(before) };
                let done = rescue(&mut home, by).is_ok();
                home.world.crash();
                if home.world.vault().is_lost() {
                    assert!(!done, "{by_phrase} {writes} {lands}");
                    let by = if by_phrase { with_phrase(&home) } else { with_share(before) };
                    rescue(&mut home, by).expect("at the second try");
                    home.world.crash();
                }
                // One copy of the header may be from before: then attempts start at their limit.
                home.world.pass_secs(31);
                home.enter();
                home.add(login("After", b"a password of the day after"));
            }
        }
    }
}

#[test]
fn a_new_key_that_a_crash_kept_from_its_end_is_brought_to_it_by_a_rescue() {
    for writes in 0..14 {
        for lands in [false, true] {
            let mut home = Home::new("rotation and rescue");
            let other = strongroom_sim::Device::new(&mut home.world.rng);
            let add = DeviceRequest::DeviceAdd(strongroom_wire::device::DeviceAdd {
                name: "phone".into(),
                sign_public: other.sign_public().into(),
                kem_public: other.kem_public(),
                wants_share: false,
            });
            let Ok(DeviceAnswer::DeviceAdded(added)) = home.critical(&add) else { panic!("let in") };
            home.world.memory.die_at(writes, lands);
            let _ = home.act(&DeviceRequest::DeviceRevoke { device: added.device });
            home.world.crash();
            home.world.lose_share();
            let by = with_phrase(&home);
            rescue(&mut home, by).unwrap_or_else(|refusal| panic!("{writes} {lands}: {refusal:?}"));
            home.world.share_is_new = false;
            home.world.crash();
            home.enter();
            home.add(strongroom_sim::home::wallet("Coins", b"the credential goes on"));
        }
    }
}

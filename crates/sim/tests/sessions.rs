//! Sessions of devices, and fresh authentication within them.

use strongroom_core::Peer;
use strongroom_sim::home::{code, login};
use strongroom_sim::world::{device_result, json};
use strongroom_sim::{Fault, Home};
use strongroom_wire::Code;
use strongroom_wire::device::{Config, DeviceAnswer, DeviceRequest, ListQuery, VaultState};
use strongroom_wire::event::Action;

const LIST: fn() -> DeviceRequest = || DeviceRequest::ItemList(ListQuery::default());

#[test]
fn a_session_ends_after_fifteen_minutes_and_the_vault_stays_open() {
    let mut home = Home::new("fifteen");
    home.pass_secs(15 * 60 - 1);
    home.session(&LIST()).expect("a live session");
    home.pass_secs(1);
    assert_eq!(code(home.session(&LIST())), Code::SessionRequired);
    assert_eq!(
        code(home.act(&DeviceRequest::ItemAdd(login("a", b"b")))),
        Code::SessionRequired,
        "a factor is no session"
    );
    assert!(home.vault().is_open());
    home.act(&DeviceRequest::SessionBegin {}).expect("a factor begins another");
    home.session(&LIST()).expect("a live session");
    home.session(&DeviceRequest::SessionEnd {}).expect("ended");
    assert_eq!(code(home.session(&LIST())), Code::SessionRequired);
}

#[test]
fn five_sessions_at_a_time() {
    let mut home = Home::new("five");
    let mut devices = Vec::new();
    for _ in 0..5 {
        let Home { world, device, passphrase, .. } = &mut home;
        devices.push(world.add_device(device, passphrase).expect("enrolled"));
    }
    for (n, device) in devices.iter().enumerate() {
        let begun = home.world.fresh(device, &home.passphrase, &DeviceRequest::SessionBegin {});
        if n < 4 {
            begun.expect("one of five");
        } else {
            assert_eq!(code(begun), Code::SessionsFull, "the sixth");
        }
    }
    let refused = home.world.unlock_only(&devices[4], &home.passphrase);
    assert_eq!(code(refused), Code::SessionsFull, "an unlock is a session too");
    assert!(home.vault().is_open());
    home.world.device(&devices[0], &DeviceRequest::SessionEnd {}).expect("ended");
    home.world.fresh(&devices[4], &home.passphrase, &DeviceRequest::SessionBegin {}).expect("there is room again");
}

#[test]
fn a_session_that_could_not_be_logged_does_not_begin() {
    let mut home = Home::new("unlogged");
    home.session(&DeviceRequest::SessionEnd {}).expect("ended");
    home.memory.fault(Fault::FullCommit);
    assert_eq!(code(home.act(&DeviceRequest::SessionBegin {})), Code::DiskFull);
    home.memory.mend();
    assert_eq!(code(home.session(&LIST())), Code::SessionRequired);
}

#[test]
fn the_length_of_a_session_is_a_setting() {
    let mut home = Home::new("setting");
    let config = |secs| DeviceRequest::ConfigSet(Config { session_secs: Some(secs), ..Config::default() });
    assert_eq!(code(home.act(&config(299))), Code::ValueRefused);
    assert_eq!(code(home.act(&config(3_601))), Code::ValueRefused);
    home.act(&config(300)).expect("five minutes");
    home.act(&DeviceRequest::SessionBegin {}).expect("begun");
    home.pass_secs(300);
    assert_eq!(code(home.session(&LIST())), Code::SessionRequired);
    home.comes_back();
    let DeviceAnswer::Config(config) = home.session(&DeviceRequest::ConfigShow {}).expect("shown") else { panic!() };
    assert_eq!(config.session_secs, Some(300));
}

#[test]
fn a_setting_that_could_not_be_written_is_not_in_force() {
    let mut home = Home::new("unwritten");
    home.memory.fault(Fault::FullCommit);
    let config = Config { history_versions: Some(3), ..Config::default() };
    assert_eq!(code(home.act(&DeviceRequest::ConfigSet(config))), Code::DiskFull);
    home.memory.mend();
    let DeviceAnswer::Config(config) = home.session(&DeviceRequest::ConfigShow {}).expect("shown") else { panic!() };
    assert_eq!(config.history_versions, Some(20));
}

#[test]
fn a_challenge_is_good_once_for_sixty_seconds_for_one_body_of_one_device() {
    let mut home = Home::new("challenge");
    let Home { world, device, passphrase, .. } = &mut home;
    let other = world.add_device(device, passphrase).expect("enrolled");
    let body = json(&DeviceRequest::ItemAdd(login("a", b"secret")));
    let changed = json(&DeviceRequest::ItemAdd(login("b", b"secret")));

    let fresh = |world: &mut strongroom_sim::World, secs| {
        let challenge = world.challenge(device).expect("a challenge");
        world.pass_secs(secs);
        passphrase.fresh(world.id, device.id, challenge, &body)
    };
    let ask = |world: &mut strongroom_sim::World, id, fresh, body: &str| {
        let request = world.request_id();
        device_result(world.ask(Peer::Device(id), request, Some(fresh), None, body))
    };
    let good = fresh(world, 59);
    ask(world, device.id, good.clone(), &body).expect("in time, over this body");
    assert_eq!(code(ask(world, device.id, good, &body)), Code::FreshRefused, "once");
    let late = fresh(world, 60);
    assert_eq!(code(ask(world, device.id, late, &body)), Code::FreshRefused, "60 s");
    let bound = fresh(world, 0);
    assert_eq!(code(ask(world, device.id, bound, &changed)), Code::FreshRefused, "another body");
    let stolen = fresh(world, 0);
    world.fresh(&other, passphrase, &DeviceRequest::SessionBegin {}).expect("begun");
    assert_eq!(code(ask(world, other.id, stolen, &body)), Code::FreshRefused, "another device");
}

#[test]
fn a_wrong_answer_to_a_challenge_counts_as_a_wrong_factor_and_is_logged() {
    let mut home = Home::new("wrong answer");
    let wrong = home.passphrase.wrong(&mut home.world.rng);
    for _ in 0..5 {
        let refused = home.world.fresh(&home.device, &wrong, &DeviceRequest::SessionBegin {});
        assert_eq!(code(refused), Code::FreshRefused);
    }
    assert_eq!(code(home.act(&DeviceRequest::SessionBegin {})), Code::AttemptsWait, "even the right one waits");
    assert_eq!(home.actions().iter().filter(|action| **action == Action::FreshRefused).count(), 5);
    home.crash();
    assert_eq!(code(home.world.unlock_only(&home.device, &home.passphrase)), Code::AttemptsWait, "and it was durable");
}

#[test]
fn an_act_without_a_factor_is_told_that_it_needs_one() {
    let mut home = Home::new("no factor");
    assert_eq!(code(home.session(&DeviceRequest::ItemAdd(login("a", b"b")))), Code::FreshRequired);
}

#[test]
fn before_the_log_is_confirmed_a_device_reads_and_nothing_runs() {
    let mut home = Home::new("unconfirmed");
    home.lock();
    home.world.unlock_only(&home.device, &home.passphrase).expect("unlocked");
    home.session(&LIST()).expect("reading is allowed");
    assert_eq!(code(home.act(&DeviceRequest::ItemAdd(login("a", b"b")))), Code::HistoryRefused);
    let mut position = home.device.seen.clone();
    position.root = [7; 32].into();
    assert_eq!(code(home.session(&DeviceRequest::LogConfirm(position))), Code::HistoryRefused);
    let DeviceAnswer::Status(status) = home.session(&DeviceRequest::Status {}).expect("status") else { panic!() };
    assert_eq!(status.state, VaultState::Unconfirmed);
    let confirm = DeviceRequest::LogConfirm(home.device.seen.clone());
    home.session(&confirm).expect("confirmed");
    home.act(&DeviceRequest::ItemAdd(login("a", b"b"))).expect("added");
}

#[test]
fn what_there_is_is_told_within_a_session_alone() {
    let mut home = Home::new("quiet");
    let item = home.add(login("a", b"b"));
    home.session(&DeviceRequest::SessionEnd {}).expect("ended");
    let absent = strongroom_wire::ItemId([9; 16]);
    for item in [item, absent] {
        let show = DeviceRequest::GrantAdd(strongroom_wire::device::GrantAdd {
            guest: strongroom_wire::GuestId([1; 16]),
            reference: strongroom_sim::home::reference(item, "password"),
            consumer: strongroom_wire::policy::Consumer::Http,
            limits: strongroom_wire::policy::Limits::default(),
            mode: strongroom_wire::policy::Mode::Always,
        });
        assert_eq!(code(home.session(&show)), Code::SessionRequired);
    }
}

#[test]
fn challenges_that_are_left_lying_do_not_stop_what_comes_next() {
    let mut home = Home::new("challenges");
    let mut challenges = Vec::new();
    for _ in 0..20 {
        challenges.push(home.world.challenge(&home.device).expect("a challenge"));
        home.pass_secs(1);
    }
    let body = json(&DeviceRequest::SessionBegin {});
    let mut answer = |challenge| {
        let Home { world, device, passphrase, .. } = &mut home;
        let fresh = passphrase.fresh(world.id, device.id, challenge, &body);
        let id = world.request_id();
        device_result(world.ask(Peer::Device(device.id), id, Some(fresh), None, &body))
    };
    assert_eq!(code(answer(challenges[3])), Code::FreshRefused, "the oldest made room");
    assert!(answer(challenges[4]).is_ok() && answer(challenges[19]).is_ok());
}

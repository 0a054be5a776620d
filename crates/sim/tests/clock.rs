//! Time never goes back, and a host and a device that disagree suspend the guests.

use strongroom_core::Effect;
use strongroom_sim::Home;
use strongroom_sim::home::{api_key, code, get, guest_result, reference};
use strongroom_sim::world::Answer;
use strongroom_wire::device::{DeviceAnswer, DeviceRequest};
use strongroom_wire::event::Action;
use strongroom_wire::policy::{Consumer, Limits, Mode};
use strongroom_wire::{Code, GuestId, Reference, Timestamp};

fn with_guest(name: &str, limits: impl FnOnce(&Home) -> Limits) -> (Home, GuestId, Reference) {
    let mut home = Home::new(name);
    let guest = home.guest_add("guest");
    let key = reference(home.add(api_key("API", b"0123456789abcdef")), "key");
    let limits = limits(&home);
    home.grant_within(guest, &key, Consumer::Http, Mode::Always, limits);
    (home, guest, key)
}

fn unlock_at(home: &mut Home, device_ms: u64) -> Result<(), Code> {
    let request = DeviceRequest::Unlock(home.passphrase.unlock(home.device.seen.clone(), Timestamp(device_ms)));
    let unlocked = home.session(&request).map_err(|refusal| refusal.code)?;
    let DeviceAnswer::Unlocked(unlocked) = unlocked else { panic!("{unlocked:?}") };
    home.device.see(home.world.id, &unlocked.checkpoint).expect("extends");
    home.session(&DeviceRequest::LogConfirm(home.device.seen.clone())).expect("confirmed");
    Ok(())
}

#[test]
fn a_clock_that_was_set_back_brings_no_expired_grant_back_and_suspends_guests() {
    let (mut home, guest, key) = with_guest("set back", |home| Limits {
        expires_at: Some(Timestamp(home.wall_ms + 3_600_000)),
        ..Limits::default()
    });
    home.pass_secs(3_600);
    home.act(&DeviceRequest::SessionBegin {}).expect("logged: the vault's time is in its log");
    assert_eq!(code(guest_result(home.use_as(guest, &key, get("/")))), Code::LimitExpired);
    home.lock();
    let right = home.wall_ms;
    home.wall_ms -= 3_000_000;
    home.crash();
    assert_eq!(unlock_at(&mut home, right), Ok(()));
    assert_eq!(code(guest_result(home.use_as(guest, &key, get("/")))), Code::ClockDisagrees);
    let DeviceAnswer::Status(status) = home.session(&DeviceRequest::Status {}).expect("status") else { panic!() };
    assert!(status.guests_suspended.is_some());
    home.lock();
    // A device whose clock was set back as well agrees with the host, and still wins nothing.
    home.enter();
    assert_eq!(code(guest_result(home.use_as(guest, &key, get("/")))), Code::LimitExpired);
}

#[test]
fn a_host_whose_clock_jumps_while_the_vault_is_open_suspends_guests() {
    for jump in [-301_000_i64, 301_000, 10_000_000_000] {
        let (mut home, guest, key) = with_guest("jumps", |_| Limits::default());
        home.wall_ms = home.wall_ms.saturating_add_signed(jump);
        assert_eq!(code(guest_result(home.use_as(guest, &key, get("/")))), Code::ClockDisagrees, "{jump}");
    }
}

#[test]
fn a_device_that_disagrees_by_more_than_five_minutes_suspends_guests_and_says_so() {
    for ahead in [false, true] {
        let (mut home, guest, key) = with_guest("disagrees", |_| Limits::default());
        home.lock();
        let device_ms = if ahead { home.wall_ms + 301_000 } else { home.wall_ms - 301_000 };
        assert_eq!(unlock_at(&mut home, device_ms), Ok(()));
        assert_eq!(code(guest_result(home.use_as(guest, &key, get("/")))), Code::ClockDisagrees);
        assert!(home.actions().contains(&Action::ClockDisagrees));
        assert!(home.told.iter().any(|effect| matches!(effect, Effect::Notice("clock.disagrees"))));
        home.lock();
        let device_ms = home.wall_ms;
        assert_eq!(unlock_at(&mut home, device_ms), Ok(()));
        assert!(matches!(home.use_as(guest, &key, get("/")), Answer::Http(_)), "once they agree again");
    }
}

#[test]
fn five_minutes_of_difference_are_nothing() {
    let (mut home, guest, key) = with_guest("agrees", |_| Limits::default());
    home.lock();
    let device_ms = home.wall_ms + 299_000;
    assert_eq!(unlock_at(&mut home, device_ms), Ok(()));
    assert!(matches!(home.use_as(guest, &key, get("/")), Answer::Http(_)));
}

#[test]
fn events_never_go_back_in_time() {
    let mut home = Home::new("monotone");
    for jump in [10_000_000_i64, -20_000_000, 5_000, -1] {
        home.wall_ms = home.wall_ms.saturating_add_signed(jump);
        home.act(&DeviceRequest::SessionBegin {}).expect("logged");
        home.comes_back();
    }
    let times: Vec<Timestamp> = home.events().iter().map(|event| event.at).collect();
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn waits_run_on_counted_time_so_that_a_clock_set_forward_wins_nothing() {
    let mut home = Home::new("forward");
    home.lock();
    for _ in 0..5 {
        let wrong = home.passphrase.wrong(&mut home.world.rng);
        home.world.unlock_only(&home.device, &wrong).expect_err("wrong");
    }
    home.wall_ms += 365 * 24 * 3_600_000;
    assert_eq!(code(home.world.unlock_only(&home.device, &home.passphrase)), Code::AttemptsWait);
    home.crash();
    assert_eq!(code(home.world.unlock_only(&home.device, &home.passphrase)), Code::AttemptsWait);
}

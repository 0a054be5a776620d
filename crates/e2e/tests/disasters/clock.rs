//! The machine's clock jumps by a year, while a vault is open, locked, and started: only the vault program reads the time of day,
//! and it is started with a clock that the test moves.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::process::Command;
use std::thread;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use strongroom_client::clock;
use strongroom_e2e::{Place, Ran, processes};

/// A machine whose clock the test moves.
struct Clock(File);

impl Clock {
    /// Puts a script in the place of the vault program, which starts the real one with another clock.
    fn of(place: &Place) -> Self {
        let (source, library, ahead) = (place.path("clock.c"), place.path("clock.so"), place.path("clock"));
        fs::write(&source, include_str!("clock.c")).expect("written");
        fs::write(&ahead, 0_i64.to_ne_bytes()).expect("written");
        let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]).status();
        assert!(built.expect("SQLCipher was built with the same compiler").success());
        let program = &place.programs.vault;
        let real = program.with_extension("real");
        fs::rename(program, &real).expect("moved");
        let (library, at, real) = (library.display(), ahead.display(), real.display());
        fs::write(program, format!("#!/bin/sh\nLD_PRELOAD={library} CLOCK={at} exec {real} \"$@\"\n"))
            .expect("written");
        fs::set_permissions(program, Permissions::from_mode(0o755)).expect("executable");
        Self(OpenOptions::new().write(true).open(ahead).expect("there"))
    }

    /// Sets it so many seconds ahead of the device's.
    fn set(&self, ahead: i64) {
        self.0.write_all_at(&ahead.to_ne_bytes(), 0).expect("eight bytes");
    }
}

#[test]
fn a_clock_that_jumps_a_year_back_suspends_guests_and_revives_nothing() {
    jump(-YEAR);
}

#[test]
fn a_clock_that_jumps_a_year_ahead_suspends_guests_and_revives_nothing() {
    jump(YEAR);
}

fn jump(ahead: i64) {
    let mut place = Place::with_own_programs();
    let clock = Clock::of(&place);
    place.serve(&[]);
    place.create();
    place.run(["item", "add", "signing_key", "Release", "--generate"]).ok();
    place.run(["item", "add", "signing_key", "Tokens", "--purpose", "jwt", "--generate"]).ok();
    let grant = "grant add --guest GUEST Release sign --prefix release: --mode always --per-minute 6000";
    for guest in ["lasting", "passing"] {
        place.run(["guest", "add", guest]).ok();
    }
    place.say(&grant.replace("GUEST", "lasting")).ok();
    place.say(&grant.replace("GUEST", "passing")).args(["--expires", "12s"]).ok();
    let granted = processes::now();
    signed(&place, "lasting");
    signed(&place, "passing");
    // The host's clock may be off by a little.
    for little in [-290, 290] {
        clock.set(little);
        signed(&place, "lasting");
    }

    clock.set(ahead);
    refused(&place, "lasting", "clock_disagrees");
    refused(&place, "passing", "clock_disagrees");
    let status = place.say("status").json();
    assert_eq!(status["state"], "open", "{status}");
    assert!(status["guests_suspended"].as_str().is_some_and(|why| why.contains("clocks")), "{status}");
    // The member goes on, also after a lock, a crash and a restart of the server.
    place.say("item add note Meanwhile --stdin").stdin("a note").ok();
    place.say("lock").ok();
    place.say("unlock").ok();
    refused(&place, "lasting", "clock_disagrees");
    processes::kill(place.vault_pid().expect("a vault process"));
    assert!(processes::until(20, || place.say("unlock").run().code == Some(0)), "{}", place.log());
    refused(&place, "lasting", "clock_disagrees");
    dated_today(&place);
    place.stop();
    place.serve(&[]);
    place.say("unlock").ok();
    refused(&place, "lasting", "clock_disagrees");

    // Right again: at once for guests, and what has expired stays expired.
    clock.set(0);
    signed(&place, "lasting");
    thread::sleep(Duration::from_secs(13).saturating_sub(granted.elapsed()));
    // What has expired is not listed any more.
    refused(&place, "passing", "reference_unknown");
    dated_today(&place);
    place.stop();
    place.serve(&[]);
    place.say("unlock").ok();
    signed(&place, "lasting");
    refused(&place, "passing", "reference_unknown");

    place.say("audit verify").ok();
    let events = place.say("audit list --from 0 --count 1000").json();
    let events = events.as_array().expect("events");
    let times: Vec<u64> = events.iter().map(|event| event["event"]["at"].as_u64().expect("a time")).collect();
    assert!(times.is_sorted() || times.iter().rev().is_sorted(), "the log went back in time: {times:?}");
    assert!(place.say("item list").ok().contains("Meanwhile"));
}

fn sign(place: &Place, guest: &str) -> Ran {
    place.run(["--json", "use", "--guest", guest, "sign", "Release"]).stdin("release: 1").run()
}

fn signed(place: &Place, guest: &str) {
    let ran = sign(place, guest);
    assert_eq!(ran.code, Some(0), "{ran}");
}

fn refused(place: &Place, guest: &str, code: &str) {
    let ran = sign(place, guest);
    assert_eq!(ran.error(), Some(code), "{ran}");
}

/// What other machines compare with their clocks is of the time that it is: neither of the host's wrong one, nor of the vault's own,
/// which never goes back.
fn dated_today(place: &Place) {
    let token = place.say("sign Tokens --jwt {\"sub\":\"me\"} --key-id k1").ok();
    let claims = token.split('.').nth(1).expect("three parts");
    let claims = BASE64URL_NOPAD.decode(claims.as_bytes()).expect("base64");
    let claims: serde_json::Value = serde_json::from_slice(&claims).expect("JSON");
    let made = claims["iat"].as_u64().expect("a time");
    assert!(clock::now().unix_secs().abs_diff(made) < 60, "{claims}");
}

const YEAR: i64 = 365 * 24 * 3_600;

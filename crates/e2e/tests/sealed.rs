//! Shares that rest in a TPM, with the programs that are shipped and a software TPM: what a stolen disk, another machine and a
//! changed start are worth, and which machine a device trusts.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use strongroom_e2e::swtpm::Swtpm;
use strongroom_e2e::{Place, processes};

/// A server whose shares are sealed in this chip.
fn serve(place: &mut Place, chip: &Swtpm) {
    let name = chip.name();
    place.serve(&["--sealing", "tpm", "--tpm", &name]);
}

fn with_vault(chip: &Swtpm) -> Place {
    let mut place = Place::new();
    serve(&mut place, chip);
    place.create();
    place
}

fn sentence(refusal: &serde_json::Value) -> &str {
    refusal["message"].as_str().expect("a sentence")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    fs::set_permissions(to, fs::metadata(from).expect("there").permissions()).expect("our own");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else if entry.file_type().expect("a file").is_file() {
            fs::copy(entry.path(), to).expect("copied");
        }
    }
}

#[test]
fn a_sealed_vault_opens_on_its_own_machine_started_as_it_was() {
    let mut chip = Swtpm::new();
    let mut place = with_vault(&chip);
    let share = fs::read_to_string(place.share()).expect("a share");
    assert!(share.starts_with('{') && share.contains("private"), "{share}");
    place.say("item add note Here --stdin").stdin("a note").ok();

    // Switched off and on.
    place.stop();
    chip.reboot();
    serve(&mut place, &chip);
    place.say("unlock").ok();
    assert!(place.say("item list").ok().contains("Here"));

    // Started with something else in the way of the boot loader.
    place.stop();
    chip.reboot();
    chip.extend(4, [9; 32]);
    serve(&mut place, &chip);
    let refused = place.say("unlock").refused(1, "measurement_changed");
    assert!(sentence(&refused).contains("registers 4"), "{refused}");
    assert!(processes::until(5, || place.log().contains("tpm_refused why=changed")), "{}", place.log());

    // As it was.
    place.stop();
    chip.reboot();
    serve(&mut place, &chip);
    place.say("unlock").ok();
}

#[test]
fn a_stolen_disk_opens_nothing_even_with_the_passphrase() {
    let chip = Swtpm::new();
    let mut place = with_vault(&chip);
    place.say("item add note Loot --stdin").stdin("a note").ok();
    place.stop();
    // Everything that the server had on its disks, and the device besides; but not the chip.
    let mut thief = Place::new();
    for name in ["data", "shares", "home"] {
        copy(&place.path(name), &thief.path(name));
    }
    let unlock = |thief: &Place, code| {
        let at: [OsString; 2] = ["--socket".into(), thief.socket().into_os_string()];
        thief.say("unlock").args(at).refused(1, code)
    };
    let other = Swtpm::new();
    serve(&mut thief, &other);
    unlock(&thief, "share_missing");
    assert!(thief.log().contains("tpm_refused why=other_tpm"), "{}", thief.log());
    thief.stop();
    // Without any chip.
    thief.serve(&[]);
    unlock(&thief, "share_missing");
    // With the 24 words it opens, on whatever machine, and is as it was.
    let kit = place.path("kit");
    let at = |thief: &Place| ["--socket".to_owned(), thief.socket().display().to_string()];
    thief.say("vault rescue --yes").args(at(&thief)).refused(1, "share_missing");
    thief.say("unlock --phrase --yes").args(at(&thief)).passphrase(&kit).refused(5, "host_not_trusted");
    let wrong = thief.write("wrong", "abandon ".repeat(23) + "art");
    thief.say("unlock --phrase --yes --other-machine").args(at(&thief)).passphrase(&wrong).refused(1, "factor_refused");
    thief.say("unlock --phrase --yes --other-machine").args(at(&thief)).passphrase(&kit).ok();
    assert!(thief.say("item list").args(at(&thief)).ok().contains("Loot"));
    thief.say("audit verify").args(at(&thief)).ok();
    thief.say("lock").args(at(&thief)).ok();
    thief.say("unlock").args(at(&thief)).ok();
    thief.stop();
    // And the machine itself goes on.
    serve(&mut place, &chip);
    place.say("unlock").ok();
}

#[test]
fn shares_from_before_the_chip_are_sealed_at_their_next_use() {
    let chip = Swtpm::new();
    let mut place = Place::with_vault();
    let plain = fs::read_to_string(place.share()).expect("a share");
    assert_eq!(plain.trim().len(), 64);
    place.stop();
    serve(&mut place, &chip);
    place.say("unlock").ok();
    let sealed = fs::read_to_string(place.share()).expect("a share");
    assert!(sealed.starts_with('{') && !sealed.contains(plain.trim()), "{sealed}");
    assert!(place.log().contains("share_sealed"), "{}", place.log());
    place.stop();
    serve(&mut place, &chip);
    place.say("unlock").ok();
}

#[test]
fn a_server_says_at_once_that_its_chip_is_missing() {
    let mut place = Place::new();
    let mut command = place.serve_command(&["--sealing", "tpm", "--tpm", "swtpm:host=127.0.0.1,port=1"]);
    let status = command.status().expect("it ends");
    assert!(!status.success());
    assert!(place.log().contains("The TPM does not answer"), "{}", place.log());
    place.stop();
}

#[test]
fn a_device_refuses_a_machine_that_is_not_the_one_it_knows() {
    let chip = Swtpm::new();
    let mut place = with_vault(&chip);
    let shown = place.say("vault attestation").ok();
    assert!(shown.contains("attestation key  04") && shown.contains("started as in registers 0, 2, 4, 7"));
    let policy = place.say("vault attestation --json").ok();
    let policy = place.write("policy.json", policy);

    let file = place.home().join("profiles/default/attestation");
    let pinned = fs::read(&file).expect("a policy");
    let with_policy = |policy: &[u8]| {
        fs::write(&file, policy).expect("written");
        place.say("status")
    };
    with_policy(&pinned).ok();

    // Each value of the policy in turn is another than the machine's.
    let text = String::from_utf8(pinned.clone()).expect("JSON");
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let other = serde_json::Value::from("BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc");
    for (pointer, said) in [
        ("/tpm/programs/0", "another vault program runs there"),
        ("/tpm/boot/0/7", "did not start as it did before (registers 7)"),
    ] {
        let mut changed = value.clone();
        *changed.pointer_mut(pointer).expect("there") = other.clone();
        let refused = with_policy(changed.to_string().as_bytes()).refused(5, "host_not_trusted");
        assert!(sentence(&refused).contains(said), "{pointer}: {refused}");
    }
    let strange = Swtpm::new();
    let stranger = with_vault(&strange);
    let theirs = stranger.say("vault attestation --json").ok();
    let refused = with_policy(theirs.as_bytes()).refused(5, "host_not_trusted");
    assert!(sentence(&refused).contains("another machine"), "{refused}");
    fs::write(&file, &pinned).expect("written");

    // A new vault, only on the machine that a policy names.
    let create = |place: &Place, name: &str| {
        let kit = place.path(&format!("kit-{name}")).into_os_string();
        let words = ["--profile", name, "create", "--phrase-to-file"].map(Into::into);
        place.run(words.into_iter().chain([kit, "--policy".into(), policy.clone().into_os_string()])).run()
    };
    assert_eq!(create(&place, "second").code, Some(0));
    let refused = create(&stranger, "second");
    assert_eq!(refused.code, Some(5), "{refused}");

    // And where it shows no evidence any more.
    place.stop();
    place.serve(&[]);
    place.say("status").refused(1, "share_missing");
}

#[test]
fn another_vault_program_gets_the_vault_once_its_member_agrees() {
    let chip = Swtpm::new();
    let mut place = Place::with_own_programs();
    serve(&mut place, &chip);
    place.create();
    place.say("item add note Kept --stdin").stdin("a note").ok();
    let first = place.say("vault attestation").json();
    let first = first["tpm"]["programs"][0].as_str().expect("a program").to_owned();
    assert!(place.say("vault update --yes").ok().contains("Nothing to agree to"));

    place.programs.install_another_vault_program();
    place.stop();
    serve(&mut place, &chip);
    // Nothing changes before the member agrees: the program before goes on.
    place.say("unlock").ok();
    let status = place.say("status").json();
    let waiting = status["update"].as_str().expect("an update waits").to_owned();
    assert_ne!(waiting, first);
    place.run(["vault", "update", "--yes", "--expect", &"00".repeat(32)]).refused(1, "host_not_trusted");

    place.say("vault update --yes").ok();
    place.say("unlock").ok();
    assert!(place.say("item list").ok().contains("Kept"));
    let policy = place.say("vault attestation").json();
    assert_eq!(policy["tpm"]["programs"], serde_json::json!([waiting]), "none before it may come back");
    assert!(place.say("status").json().get("update").is_none());
    assert!(place.log().contains("vault_replaced"), "{}", place.log());

    // The program before is put back, as by somebody who knows a flaw of it: the chip does not give it the share.
    place.stop();
    let kept: Vec<_> = fs::read_dir(place.path("data/programs")).expect("programs").flatten().collect();
    assert_eq!(kept.len(), 2, "both are kept");
    serve(&mut place, &chip);
    place.say("unlock").ok();
    let share = fs::read_to_string(place.share()).expect("a share");
    assert!(share.contains(&waiting) && !share.contains(&first), "sealed to the one that was agreed to alone");
}

#[test]
fn a_program_that_was_changed_on_the_disk_gets_no_share() {
    let chip = Swtpm::new();
    let mut place = Place::with_own_programs();
    serve(&mut place, &chip);
    place.create();
    place.stop();
    // Changed in both places, by somebody who has the disk: neither is what the share was sealed to.
    place.programs.install_another_vault_program();
    for kept in fs::read_dir(place.path("data/programs")).expect("programs").flatten() {
        fs::copy(&place.programs.vault, kept.path()).expect("changed");
    }
    serve(&mut place, &chip);
    let refused = place.say("unlock").refused(4, "host_failed");
    assert!(place.log().contains("vault_launch_failed"), "{refused} {}", place.log());
}

#[test]
fn an_agent_finds_the_vault_open_after_a_restart_where_the_member_wants_that() {
    let mut chip = Swtpm::new();
    let mut place = with_vault(&chip);
    place.say("vault unattended on --yes").ok();
    assert_eq!(place.say("status").json()["unattended"], true);
    place.say("item add note Here --stdin").stdin("a note").ok();
    let key = place.path("agent.json");
    place.say("guest add agent --key-file").args([&key]).ok();

    let listed = |place: &Place| place.run(["--json", "use", "--key"]).args([&key]).args(["list"]).run();
    let reboot = |place: &mut Place, chip: &mut Swtpm| {
        place.stop();
        chip.reboot();
    };
    reboot(&mut place, &mut chip);
    serve(&mut place, &chip);
    let ran = listed(&place);
    assert_eq!(ran.code, Some(0), "with no person there: {ran} {}", place.log());

    // A member who locks it means it.
    place.say("lock").ok();
    reboot(&mut place, &mut chip);
    serve(&mut place, &chip);
    assert_eq!(listed(&place).error(), Some("vault_locked"));
    place.say("unlock").ok();
    reboot(&mut place, &mut chip);
    serve(&mut place, &chip);
    let ran = listed(&place);
    assert_eq!(ran.code, Some(0), "{ran} {} {}", place.say("status").ok(), place.log());

    // Started in another way it stays shut.
    reboot(&mut place, &mut chip);
    chip.extend(7, [1; 32]);
    serve(&mut place, &chip);
    let ran = listed(&place);
    assert_eq!(ran.code, Some(1), "{ran}");
    reboot(&mut place, &mut chip);
    serve(&mut place, &chip);
    place.say("unlock").ok();
    place.say("vault unattended off").ok();
    reboot(&mut place, &mut chip);
    serve(&mut place, &chip);
    assert_eq!(listed(&place).error(), Some("vault_locked"));
}

#[test]
fn without_a_chip_there_is_no_unattended_unlock() {
    let place = Place::with_vault();
    place.say("vault unattended on --yes").refused(1, "hardware_missing");
}

#[test]
fn a_device_with_a_copy_of_the_share_moves_its_vault_to_another_machine() {
    let chip = Swtpm::new();
    let mut place = Place::new();
    serve(&mut place, &chip);
    let kit = place.path("kit");
    place.run(["create", "--keep-share", "--phrase-to-file"]).args([kit]).ok();
    place.say("item add note Moved --stdin").stdin("a note").ok();
    place.say("item add wallet Coins --stdin").stdin("seed words of the coins").ok();
    place.stop();

    // The new machine has the vault's files, and no share.
    let other = Swtpm::new();
    let mut new = Place::new();
    copy(&place.path("data"), &new.path("data"));
    fs::rename(place.home(), new.home()).expect("the device is at hand");
    let profile = new.home().join("profiles/default");
    let file = fs::read_to_string(profile.join("device.json")).expect("a device");
    let (from, to) = (place.socket().display().to_string(), new.socket().display().to_string());
    fs::write(profile.join("device.json"), file.replace(&from, &to)).expect("written");
    serve(&mut new, &other);
    new.say("unlock").refused(1, "share_missing");

    // Whoever has no share, services for instance, can begin and gets nowhere.
    let copy_of_share = fs::read(profile.join("share")).expect("a copy");
    let policy = fs::read(profile.join("attestation")).expect("a policy");
    fs::remove_file(profile.join("share")).expect("taken away");
    new.say("vault rescue --yes").refused(1, "share_missing");
    new.say("vault rescue --phrase --other-machine --yes").refused(2, "factor_unusable");
    new.say("unlock").refused(1, "share_missing");
    fs::write(profile.join("share"), &copy_of_share).expect("put back");
    fs::set_permissions(profile.join("share"), fs::metadata(profile.join("device.json")).expect("there").permissions())
        .expect("its own");
    assert_eq!(fs::read(profile.join("attestation")).expect("a policy"), policy);

    new.say("vault rescue --yes").refused(5, "host_not_trusted");
    new.say("vault rescue --other-machine").refused(8, "no_input");
    new.say("vault rescue --other-machine --yes").ok();
    new.say("unlock").ok();
    assert!(new.say("item list").ok().contains("Moved"));
    assert_ne!(fs::read(profile.join("attestation")).expect("a policy"), policy, "the new machine is pinned");
    assert_ne!(fs::read(profile.join("share")).expect("a copy"), copy_of_share, "with a copy of the new share");
    new.say("item edit Coins --stdin").stdin("newer seed words").ok();
    new.say("audit verify").ok();

    // Killed in between, and begun again; and once more on the same machine, started in another way.
    new.kill_server();
    let mut other = other;
    other.reboot();
    other.extend(7, [3; 32]);
    serve(&mut new, &other);
    new.say("unlock").refused(1, "measurement_changed");
    new.say("vault rescue --other-machine --yes").ok();
    new.say("unlock").ok();
    new.say("vault rescue --yes").refused(1, "conflict");
}

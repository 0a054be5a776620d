//! The vault's own life: locking, ways to unlock, settings, devices, the log and its proofs, the end.
#![forbid(unsafe_code)]

use std::fs;

use serde_json::Value;
use strongroom_e2e::{Place, processes};

#[test]
fn a_vault_locks_and_opens_and_says_how_it_stands() {
    let mut place = Place::with_vault();
    place.say("item add note Diary --stdin").stdin("dear diary").ok();
    assert_eq!(place.say("status").json()["state"], "open");
    place.say("lock --session").ok();
    place.say("item list").without_passphrase().refused(3, "session_required");
    place.say("unlock").ok();
    place.say("lock").ok();
    assert_eq!(place.say("status").json()["state"], "locked");
    place.say("item list").without_passphrase().refused(3, "vault_locked");
    place.say("unlock --for 30m").ok();
    let status = place.say("status").json();
    assert_eq!((status["state"].as_str(), status["items"].as_u64()), (Some("open"), Some(1)));
    // A server that ends locks its vaults; what was written is there.
    place.stop();
    place.say("status").refused(4, "unreachable");
    place.serve(&[]);
    assert_eq!(place.say("status").json()["state"], "locked");
    place.say("unlock").ok();
    assert_eq!(place.say("item list").json()[0]["label"], "Diary");
}

#[test]
fn passphrases_and_phrase_are_changed_and_the_old_ones_open_nothing() {
    let place = Place::with_vault();
    let (old, kit) = (place.path("passphrase"), place.path("kit"));
    let new = place.write("new", "pewter lagoon thimble ostrich 41\n");
    let partner = place.write("partner", "walnut ferry magnet obelisk 77\n");
    let weak = place.write("weak", "password1234\n");
    place.run(["passphrase", "change", "--new-passphrase-file"]).args([weak]).refused(2, "passphrase_weak");
    place.run(["passphrase", "change", "--new-passphrase-file"]).args([&new]).ok();
    place.run(["slots", "add", "partner", "--new-passphrase-file"]).args([&partner]).passphrase(&new).ok();
    let slots = place.say("slots list").json();
    let slots = slots.as_array().unwrap();
    assert_eq!(slots.len(), 3);
    let partners = slots.iter().find(|slot| slot["name"] == "partner").unwrap()["id"].as_str().unwrap().to_owned();
    place.say("lock").ok();
    place.say("unlock").passphrase(&old).refused(1, "factor_refused");
    place.say("unlock").passphrase(&new).ok();
    place.say("lock").ok();
    // Names are inside of the vault; a locked one knows its slots by their ids.
    place.say("unlock --slot partner").passphrase(&partner).refused(2, "factor_unusable");
    place.run(["unlock", "--slot", &partners]).passphrase(&partner).ok();
    place.say("slots remove partner --yes").passphrase(&new).ok();
    place.say("lock").ok();
    place.say("unlock --phrase").passphrase(&kit).ok();
    let newer = place.path("kit2");
    place.run(["phrase", "renew", "--phrase-to-file"]).args([&newer]).passphrase(&new).ok();
    assert_ne!(fs::read(&kit).unwrap(), fs::read(&newer).unwrap());
    place.say("lock").ok();
    place.say("unlock --phrase").passphrase(&kit).refused(1, "factor_refused");
    place.say("unlock --phrase").passphrase(&newer).ok();
    let slots = place.say("slots list").json();
    let only = slots.as_array().unwrap().iter().find(|slot| slot["kind"] == "recovery").unwrap();
    place.run(["slots", "remove", only["id"].as_str().unwrap(), "--yes"]).passphrase(&new).refused(1, "slot_last");
}

#[test]
fn settings_are_kept_and_bounded() {
    let place = Place::with_vault();
    let set = place.say("config set --session 30m --open 7d --history 2").json();
    assert_eq!((set["session_secs"].as_u64(), set["history_versions"].as_u64()), (Some(1800), Some(2)));
    place.say("config set --session 2m").refused(1, "value_refused");
    assert_eq!(place.say("config show").json(), set);
    place.say("item add login Forge --stdin").stdin("password-number-1").ok();
    for number in 2..6 {
        place.say("item edit Forge --stdin").stdin(format!("password-number-{number}")).ok();
    }
    let history = place.say("item history Forge").json();
    assert_eq!(history.as_array().map(Vec::len), Some(3), "the current one and two before it: {history}");
}

#[test]
fn a_second_device_comes_in_and_is_thrown_out() {
    let place = Place::with_vault();
    place.say("item add note Diary --stdin").stdin("dear diary").ok();
    let phone = |line: &str| place.run(["--profile", "phone"]).args(line.split(' '));
    let join = place.write("join.json", phone("devices join --name phone").ok());
    let welcome = place.run(["devices", "add", "--yes"]).args([&join]).ok();
    let welcome = place.write("welcome.json", welcome);
    phone("devices finish").args([&welcome]).ok();
    phone("item list").refused(3, "session_required");
    phone("unlock").ok();
    assert_eq!(phone("item list").json()[0]["label"], "Diary");
    phone("item edit Diary --tag phone").ok();
    assert_eq!(place.say("devices list").json().as_array().map(Vec::len), Some(2));
    place.say("devices revoke phone --yes").ok();
    phone("item list").refused(1, "turned_away");
    phone("devices finish").args([&welcome]).refused(8, "file_failed");
    assert_eq!(place.say("item list").json()[0]["tags"][0], "phone");
}

#[test]
fn the_log_holds_and_proves_what_happened() {
    let place = Place::with_vault();
    place.say("item add login Forge --stdin").stdin("a-password-of-17x").ok();
    place.say("item edit Forge --set username=me").ok();
    assert_eq!(place.say("audit verify").json()["verified"], true);
    let events = place.say("audit list --action item.add").json();
    let index = events[0]["index"].as_u64().unwrap();
    let proof = place.path("proof.json");
    place.run(["audit", "prove", &index.to_string(), "--to"]).args([&proof]).ok();
    let check = |file: &str| {
        place.run(["audit", "check-proof"]).args([place.path(file)]).env("STRONGROOM_HOME", "/nonexistent")
    };
    let checked = check("proof.json").json();
    assert_eq!((checked["valid"].as_bool(), checked["index"].as_u64()), (Some(true), Some(index)));
    let fingerprint = checked["fingerprint"].as_str().unwrap();
    check("proof.json").args(["--fingerprint", fingerprint]).ok();

    // Whatever is changed in it, it holds no more.
    let text = fs::read_to_string(&proof).unwrap();
    let good: Value = serde_json::from_str(&text).unwrap();
    let mut changed = Vec::new();
    changes(&good, &mut |value| changed.push(value));
    assert!(changed.len() > 5);
    for (n, value) in changed.iter().enumerate() {
        let name = format!("changed-{n}.json");
        place.write(&name, value.to_string());
        let ran = check(&name).args(["--json", "--fingerprint", fingerprint]).run();
        assert!(matches!(ran.error(), Some("proof_refused" | "fingerprint_differs" | "usage")), "{value}\n{ran}");
    }
    let tail = place.say("log tail --no-follow --lines 3").ok();
    assert_eq!(tail.lines().count(), 3);
    place.say("audit prove 99999").refused(1, "value_refused");
}

/// Every variant of `value` in which one scalar is another.
fn changes(value: &Value, give: &mut dyn FnMut(Value)) {
    match value {
        Value::Object(fields) => {
            // Where a checkpoint begins says nothing about one event.
            for (name, inner) in fields.iter().filter(|(name, _)| *name != "from_size") {
                changes(inner, &mut |changed| {
                    let mut fields = fields.clone();
                    fields.insert(name.clone(), changed);
                    give(Value::Object(fields));
                });
            }
        }
        Value::Array(rows) => {
            for (n, inner) in rows.iter().enumerate() {
                changes(inner, &mut |changed| {
                    let mut rows = rows.clone();
                    rows[n] = changed;
                    give(Value::Array(rows));
                });
            }
        }
        Value::Number(number) => give(Value::from(number.as_u64().unwrap_or(0) + 1)),
        Value::String(text) if text.len() > 4 => {
            let mut bytes = text.clone().into_bytes();
            let middle = bytes.len() / 2;
            bytes[middle] = if bytes[middle] == b'a' { b'b' } else { b'a' };
            give(Value::from(String::from_utf8_lossy(&bytes).into_owned()));
        }
        _ => {}
    }
}

#[test]
fn a_vault_is_deleted_and_nothing_of_it_stays() {
    let place = Place::with_vault();
    place.say("item add note Diary --stdin").stdin("dear diary").ok();
    let vault = place.say("status").json()["vault"].as_str().unwrap().to_owned();
    place.run(["vault", "delete", "--yes", "--confirm", "another"]).refused(6, "cancelled");
    place.run(["vault", "delete", "--yes", "--confirm", &vault]).without_passphrase().refused(8, "no_input");
    assert_eq!(place.say("item list").json()[0]["label"], "Diary");
    place.run(["vault", "delete", "--yes", "--confirm", &vault]).ok();
    place.say("item list").refused(3, "no_vault");
    for folder in ["data/vaults", "shares"] {
        // The vault has wiped its files when it answers; the host removes what is left a moment later.
        let gone = processes::until(10, || fs::read_dir(place.path(folder)).unwrap().count() == 0);
        assert!(gone, "{folder}");
    }
    place.run(["create", "--phrase-to-file"]).args([place.path("kit-of-the-next")]).ok();
    assert_eq!(place.say("item list").json().as_array().map(Vec::len), Some(0));
}

//! An agent on the member's own account: the same user, the same home, the device's own files, a live session, and everything
//! but the passphrase. It gets no secret, no grant and no approval. What remains to it (watching the terminal, replacing the
//! programs) is in the threat model.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use strongroom_client::Profile;
use strongroom_client::channel::{Ask, AskError, Connection, Expected, Speaker, Trust, new_request_id};
use strongroom_client::crypto::channel::Role;
use strongroom_e2e::canaries::Canaries;
use strongroom_e2e::{Api, Place, processes};

/// What an agent without the factor may have of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum May {
    /// Masked lists, the log, what every program of this user knows.
    Read,
    /// Nothing: it takes the factor.
    Not,
    /// It ends or refuses something, and opens nothing.
    Stop,
    /// The same as any guest: what was granted, within its limits.
    AsGuest,
}

/// Every command with the arguments that an agent would try; the whole line, after an `=`, where they stand between its words.
const TRIES: &[(&str, &str, May)] = &[
    ("status", "", May::Read),
    ("item list", "", May::Read),
    ("item show", "Weather", May::Read),
    ("item history", "Weather", May::Read),
    ("guest list", "", May::Read),
    ("grant list", "", May::Read),
    ("approvals list", "", May::Read),
    ("slots list", "", May::Read),
    ("devices list", "", May::Read),
    ("config show", "", May::Read),
    ("audit list", "", May::Read),
    ("audit verify", "", May::Read),
    ("audit prove", "1", May::Read),
    ("log tail", "--no-follow", May::Read),
    ("generate", "", May::Read),
    ("completions", "bash", May::Read),
    ("man", "", May::Read),
    ("help", "", May::Read),
    ("unlock", "", May::Not),
    ("create", "--phrase-to-file KIT", May::Not),
    ("passphrase change", "--new-passphrase-file NEW", May::Not),
    ("phrase renew", "--phrase-to-file KIT", May::Not),
    ("slots add", "mine --new-passphrase-file NEW", May::Not),
    ("slots remove", "passphrase --yes", May::Not),
    ("devices add", "JOIN --yes", May::Not),
    ("devices revoke", "laptop --yes", May::Not),
    ("config set", "--open 30d", May::Not),
    ("vault update", "--yes", May::Read),
    ("vault attestation", "", May::Read),
    ("vault unattended", "on --yes", May::Not),
    ("vault delete", "--yes --confirm VAULT", May::Not),
    ("item add", "note Mine --generate", May::Not),
    ("item edit", "Weather --host attacker.example", May::Not),
    ("item remove", "Weather --purge --yes", May::Not),
    ("item restore", "Weather --field key --version 1", May::Not),
    ("import", "ENV", May::Not),
    ("export", "--yes --to -", May::Not),
    ("copy", "Weather", May::Not),
    ("totp", "Code", May::Not),
    ("sign", "Release", May::Not),
    ("crypt encrypt", "=crypt Archive encrypt", May::Not),
    ("crypt decrypt", "=crypt Archive decrypt", May::Not),
    ("crypt rewrap", "=crypt Archive rewrap", May::Not),
    ("crypt mac", "=crypt Archive mac", May::Not),
    ("crypt verify-mac", "=crypt Archive verify-mac --tag AAAA", May::Not),
    ("crypt derive", "=crypt Archive derive --context c --purpose mac", May::Not),
    ("exec", "--env V=Weather -- env", May::Not),
    ("guest add", "mine", May::Not),
    ("guest resume", "--all", May::Not),
    ("guest revoke", "helper --yes", May::Not),
    ("grant add", "--guest helper Weather http --mode always", May::Not),
    ("approvals answer", "APPROVAL --allow", May::Not),
    ("use list", "", May::AsGuest),
    ("use http", "Weather URL", May::AsGuest),
    ("use request", "http everything", May::AsGuest),
    ("use poll", "APPROVAL", May::AsGuest),
    ("use run", "aaaaaaaaaaaaaaaaaaaaaaaaaa", May::AsGuest),
    ("use sign", "Release", May::AsGuest),
    ("use totp", "Code", May::AsGuest),
    ("use crypt encrypt", "=use crypt Archive encrypt", May::AsGuest),
    ("use crypt decrypt", "=use crypt Archive decrypt", May::AsGuest),
    ("use crypt rewrap", "=use crypt Archive rewrap", May::AsGuest),
    ("use crypt mac", "=use crypt Archive mac", May::AsGuest),
    ("use crypt verify-mac", "=use crypt Archive verify-mac --tag AAAA", May::AsGuest),
    ("use crypt derive", "=use crypt Archive derive --context c --purpose mac", May::AsGuest),
    ("grant revoke", "aaaaaaaaaaaaaaaaaaaaaaaaaa", May::Stop),
    ("guest suspend", "nobody", May::Stop),
    ("lock", "--session", May::Stop),
];

/// Those that touch no vault, or go on for ever, and are tried elsewhere here or in other tests.
const ELSEWHERE: &[&str] = &[
    "serve",
    "mcp",
    "doctor",
    "host status",
    "host metrics",
    "approvals watch",
    "audit check-proof",
    "devices join",
    "devices finish",
    "vault forget",
    "vault rescue",
];

/// What a member has: items with canaries, a guest that is asked about, a live session.
fn members_vault(place: &mut Place) -> (Canaries, Api) {
    place.serve(&[]);
    place.create();
    let canaries = Canaries::default();
    let api = Api::start(place, &canaries.text("the key"));
    api.add_item(place, "Weather");
    place.say("item add totp Code --stdin").stdin(canaries.otpauth("the generator")).ok();
    place.say("item add crypt_key Archive --stdin").stdin(canaries.key("the archive's key")).ok();
    place.run(["item", "add", "signing_key", "Release", "--generate"]).ok();
    place.say("item add note Diary --stdin").stdin(canaries.text("the diary")).ok();
    place.say("guest add helper").ok();
    place.say("grant add --guest helper Weather http --mode ask --path /v1").ok();
    (canaries, api)
}

/// What nobody but the member may have changed.
fn facts(place: &Place) -> Vec<Value> {
    let mut facts = Vec::new();
    for line in ["item list", "item show Weather", "slots list", "devices list", "config show", "grant list"] {
        facts.push(place.say(line).without_passphrase().json());
    }
    let guests = place.say("guest list").without_passphrase().json();
    let names = guests.as_array().into_iter().flatten().map(|guest| guest["name"].clone());
    facts.push(names.collect());
    for fact in facts.iter_mut().filter_map(Value::as_array_mut).flatten() {
        if let Some(fact) = fact.as_object_mut() {
            fact.retain(|name, _| !["last_seen_at", "uses", "bytes"].contains(&name.as_str()));
        }
    }
    facts
}

#[test]
fn every_command_without_the_factor_gives_no_secret_and_changes_nothing() {
    let Some(mut place) = Place::of_ordinary_user() else { return };
    let (canaries, api) = members_vault(&mut place);
    let tried: BTreeSet<String> = TRIES
        .iter()
        .map(|(name, ..)| *name)
        .chain(ELSEWHERE.iter().copied())
        .map(|name| name.replace(' ', "-"))
        .collect();
    let all = place.commands();
    let untried: Vec<_> = all.symmetric_difference(&tried).collect();
    assert!(untried.is_empty(), "in the program or in the table, but not in both: {untried:?}");

    // The agent holds the guest's key file as well: it asks as the guest, and would like to answer as the member.
    let now = api.url("/v1/now");
    place
        .run(["use", "--guest", "helper", "http", "Weather", &now])
        .without_passphrase()
        .refused(7, "approval_pending");
    let asked = place.say("approvals list").json()[0]["id"].as_str().unwrap().to_owned();
    let before = facts(&place);
    let vault = place.say("status").json()["vault"].as_str().unwrap().to_owned();
    let join = place.write("join.json", place.say("--profile other devices join --name mine").ok());
    let words = [
        ("KIT", place.path("agents-kit").display().to_string()),
        ("NEW", place.write("agents-new", "pewter lagoon thimble ostrich 41\n").display().to_string()),
        ("ENV", place.write("agents.env", "A=bcdefghijklmnop\n").display().to_string()),
        ("JOIN", join.display().to_string()),
        ("VAULT", vault),
        ("APPROVAL", asked.clone()),
        ("URL", now),
    ];
    let guess = place.write("guess", "the passphrase is not this one\n");
    let mut guesses_left = 3;
    for (name, rest, may) in TRIES {
        let mut line = match rest.strip_prefix('=') {
            Some(line) => line.to_owned(),
            None => format!("{name} {rest}").trim().to_owned(),
        };
        for (word, value) in &words {
            line = line.replace(word, value);
        }
        if *may == May::AsGuest {
            line = line.replacen("use", "use --guest helper --reason because", 1);
        }
        let ran = place.say(&format!("--json {line}")).without_passphrase().run();
        match may {
            May::Read => assert_eq!(ran.code, Some(0), "{ran}"),
            May::Not => assert!(matches!(ran.code, Some(2 | 8)) && ran.error() != Some("usage"), "{ran}"),
            May::AsGuest | May::Stop => assert!(ran.code.is_some_and(|code| code != 70), "{ran}"),
        }
        // With a guess instead of the passphrase, as long as guesses are free.
        if *may == May::Not && ["approvals answer", "grant add", "export"].contains(name) && guesses_left > 0 {
            guesses_left -= 1;
            place.say(&line).passphrase(&guess).refused(1, "fresh_refused");
        }
    }
    place.say("unlock").ok();
    assert_eq!(facts(&place), before);
    let waiting = place.say("approvals list").json();
    assert!(waiting.as_array().unwrap().iter().any(|row| row["id"] == asked), "it still waits: {waiting}");
    assert_eq!(api.calls(), 0);
    let hits = canaries.searcher().find("what the agent was shown", &place.transcript());
    assert_eq!(hits, []);
}

#[test]
fn the_vault_itself_refuses_a_device_that_skips_the_factor() {
    let Some(mut place) = Place::of_ordinary_user() else { return };
    let (_canaries, api) = members_vault(&mut place);
    place.run(["use", "--guest", "helper", "http", "Weather", &api.url("/v1/now")]).refused(7, "approval_pending");
    let approval = place.say("approvals list").json()[0].clone();
    let item = place.say("item list Weather").json()[0]["id"].clone();
    let guest = place.say("guest list").json()[0]["id"].clone();
    let slot = place.say("slots list").json()[0]["id"].clone();
    let vault = place.say("status").json()["vault"].clone();
    let reference = format!("vault://{}/key", item.as_str().unwrap());
    let answer = json!({ "approval": approval["id"], "request_hash": approval["request_hash"], "allow": true });
    let grant = json!({ "guest": guest, "reference": reference, "consumer": "http", "mode": "always" });
    let call = json!({ "http": { "method": "GET", "url": api.url("/v1/now") } });
    let mut requests = vec![
        json!({ "session_begin": {} }),
        json!({ "approval_answer": answer }),
        json!({ "grant_add": grant }),
        json!({ "item_remove": { "item": item, "purge": true } }),
        json!({ "item_restore": { "item": item } }),
        json!({ "guest_suspend": { "suspended": false } }),
        json!({ "guest_revoke": { "guest": guest } }),
        json!({ "use": { "reference": reference, "do": call } }),
        json!({ "slot_remove": { "slot": slot } }),
        json!({ "config_set": { "open_secs": 1_000_000 } }),
        json!({ "vault_delete": { "vault": vault } }),
    ];
    for consumer in ["clipboard", "exec", "export"] {
        requests.push(json!({ "deliver": { "consumer": consumer, "references": [reference] } }));
    }
    let profile = Profile::load(&place.home().join("profiles/default")).unwrap();
    let epoch = profile.channel_epoch().unwrap();
    let speaker = || Speaker::new(Role::Device, profile.device().0, profile.sign_key());
    let expected = Expected::Identity(profile.identity(), epoch);
    for request in requests {
        let mut connection =
            Connection::open(&place.socket(), profile.vault(), expected, Trust::Unasked, speaker()).unwrap();
        let body = serde_json::value::to_raw_value(&request).unwrap();
        let patience = Duration::from_secs(20);
        let ask = Ask { id: new_request_id(), fresh: None, credential: None, body, patience };
        match connection.ask::<Value>(&ask) {
            Err(AskError::Refused(refusal)) => assert_eq!(refusal.code.as_str(), "fresh_required", "{request}"),
            other => panic!("{request}: {other:?}"),
        }
    }
    assert_eq!(api.calls(), 0);
}

#[test]
fn its_files_and_processes_hold_nothing_that_the_agent_can_read() {
    let Some(mut place) = Place::of_ordinary_user() else { return };
    let (canaries, _api) = members_vault(&mut place);
    // Everything that the agent's user can read of device and server, read as that user.
    let read = place
        .program("find")
        .args(["data", "shares", "home", "-type", "f", "-exec", "cat", "{}", "+"])
        .current_dir(place.path(""))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(read.status.success() && read.stdout.len() > 50_000, "{read:?}");
    assert_eq!(canaries.searcher().find("the files", &read.stdout), []);

    // A client that waits, as while a passphrase is typed; host, services and vault process.
    let mut watch = place.say("approvals watch").start();
    let up = || can(&place, "cat", &format!("/proc/{}/cmdline", watch.pid()));
    assert!(processes::until(20, up), "what everybody may see of a process is seen");
    let pids = [
        ("client", watch.pid()),
        ("host", place.host_pid().unwrap()),
        ("services", place.services_pid().unwrap()),
        ("vault process", place.vault_pid().unwrap()),
    ];
    for (name, pid) in pids {
        for file in ["mem", "maps", "environ", "auxv", "syscall", "fd/3"] {
            let path = format!("/proc/{pid}/{file}");
            // The client closes itself first thing, which may be a moment from now.
            let closed = processes::until(10, || !can(&place, "head", &path) && !can_open(&place, &path));
            assert!(closed, "{file} of the {name} is open to its user");
        }
    }
    watch.kill();
    // The control: of a process that does not close itself, the same user reads all of these.
    let mut plain = place.program("sleep").arg("60").spawn().unwrap();
    let file = |name: &str| format!("/proc/{}/{name}", plain.id());
    assert!(
        processes::until(10, || can(&place, "head", &file("maps")) && can_open(&place, &file("mem"))),
        "the control"
    );
    let _ = plain.kill().and_then(|()| plain.wait());
}

/// Whether the user of this place can read a file.
fn can(place: &Place, program: &str, path: &str) -> bool {
    quiet(place.program(program).arg(path))
}

/// Whether that user can open it: of `mem`, nothing can be read at its beginning, and the check of `ptrace` is made when it is
/// opened.
fn can_open(place: &Place, path: &str) -> bool {
    quiet(place.program("sh").args(["-c", ": < \"$0\"", path]))
}

fn quiet(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

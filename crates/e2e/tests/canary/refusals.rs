//! How each code of a refusal is had: by commands, by a client that says what ours does not, and by a server that lies.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use strongroom_client::Profile;
use strongroom_client::channel::{Ask, AskError, Connection, Expected, Speaker, Trust, ask_server, new_request_id};
use strongroom_client::crypto::channel::Role;
use strongroom_client::crypto::os_rng;
use strongroom_client::crypto::sign::{Fingerprint, SigningKey};
use strongroom_client::wire::relay::{RelayAnswer, RelayHello};
use strongroom_e2e::Place;
use strongroom_e2e::swtpm::Swtpm;

use crate::walk::Walk;

/// Codes that no input gets here, and why.
pub(crate) const UNREACHABLE: &[(&str, &str)] = &[
    ("bug", "only a mistake of ours is answered with it"),
    ("answer_refused", "only a vault that holds the right key and lies: crates/client/tests/hostile_server.rs"),
    ("kdf_refused", "only a vault that holds the right key and lies: crates/client/tests/hostile_server.rs"),
    ("clipboard_failed", "needs a desktop whose clipboard refuses; without one it is no_clipboard"),
    ("approval_expired", "comes after 120 s without an answer: crates/sim/tests/approvals.rs"),
];

/// Of the member's own commands.
pub(crate) fn of_the_member(walk: &mut Walk) {
    let (w, place) = (&*walk, &walk.place);
    let unknown = "aaaaaaaaaaaaaaaaaaaaaaaaaa";
    w.say("item show Nothing").refused(1, "item_unknown");
    w.say(&format!("grant revoke {unknown}")).refused(1, "grant_unknown");
    w.say("guest revoke nobody --yes").refused(1, "guest_unknown");
    w.say("devices revoke nothing --yes").refused(1, "device_unknown");
    w.say(&format!("approvals answer {unknown} --deny")).refused(1, "approval_unknown");
    w.say("slots remove nothing --yes").refused(1, "slot_unknown");
    w.say("unlock --slot nothing").refused(2, "factor_unusable");
    w.say("exec --env V=Login -- /nonexistent/program").refused(8, "exec_failed");
    w.say("item edit Login --stdin").stdin(w.text("unasked")).without_passphrase().refused(8, "no_input");
    place.run(["export", "--yes", "--to"]).args([place.path("exported.json")]).refused(8, "file_failed");
    place.run(["create", "--phrase-to-file"]).args([place.path("no-kit")]).refused(2, "profile_exists");
    w.say("--profile third create").refused(2, "phrase_not_shown");
    w.say("--profile third status").refused(3, "no_vault");
    place.run(["guest", "add", "again", "--key-file"]).args([&w.guest]).refused(2, "key_file_exists");
    let weak = place.write("weak", "password1234");
    w.say("passphrase change --new-passphrase-file").args([weak]).refused(2, "passphrase_weak");
    place.run(["item", "add", "note", &"l".repeat(300), "--stdin"]).stdin(w.text("long")).refused(1, "value_refused");
    let mut large = place.run(["item", "add", "note", "Large"]);
    for name in ["text", "more", "most"] {
        let file = place
            .write(&format!("large-{name}"), format!("{}{}", w.text(&format!("large {name}")), "x".repeat(500_000)));
        large = large.args(["--from-file".to_owned(), format!("{name}={}", file.display())]);
    }
    large.refused(2, "too_large");
    for _ in 0..2 {
        w.say("item add note Twin --stdin").stdin(w.text("a twin")).ok();
    }
    w.say("item show Twin").refused(2, "item_ambiguous");

    let proof: Value = serde_json::from_slice(&fs::read(place.path("proof.json")).expect("a proof")).expect("JSON");
    let mut changed = proof.clone();
    changed["event"]["index"] = 4.into();
    let changed = place.write("changed-proof.json", changed.to_string());
    w.say("audit check-proof").args([changed]).refused(5, "proof_refused");
    let other = Fingerprint::of(&[0; 16], &SigningKey::generate(&mut os_rng()).public()).to_string();
    let run = w.say("audit check-proof").args([place.path("proof.json")]);
    run.args(["--fingerprint", &other]).refused(5, "fingerprint_differs");
}

/// Of a guest's uses.
pub(crate) fn of_a_guest(walk: &mut Walk) {
    let (w, place) = (&*walk, &walk.place);
    let roots = w.api.roots.display().to_string();
    let (host, closed) = (format!("localhost:{}", w.api.port), "localhost:1");
    let short: String = w.text("short key").chars().rev().take(13).collect();
    w.canaries.add("a short key", short.as_bytes());
    for (label, key, policy) in [
        ("Short", short, format!("--host {host} --allow-private --roots {roots}")),
        ("Public", w.text("public key"), format!("--host {host} --roots {roots}")),
        ("Closed", w.text("closed key"), format!("--host {closed} --allow-private --roots {roots}")),
        ("Rootless", w.text("rootless key"), format!("--host {host} --allow-private")),
    ] {
        w.say(&format!("item add api_key {label} --stdin {policy}")).stdin(key).ok();
        w.say(&format!("grant add --guest helper {label} http --mode always")).ok();
    }
    let http = |label: &str, path: &str| w.helper(&format!("http {label} {}", w.api.url(path)));
    http("Short", "/v1/now").refused(1, "secret_too_short");
    http("Public", "/v1/now").refused(1, "address_refused");
    w.helper(&format!("http Closed https://{closed}/")).refused(1, "connect_failed");
    http("Rootless", "/v1/now").refused(1, "tls_failed");
    http("Weather", "/v1/now").args(["-H", "Authorization: mine"]).refused(1, "header_refused");
    http("Weather", "/v1/now").args(["-X", "DELETE"]).refused(1, "limit_method");
    w.helper(&format!("http Weather http://{host}/v1/now")).refused(1, "url_refused");
    http("Weather", "/v1/drop").refused(1, "http_failed");
    http("Weather", "/v1/missing").args(["-f"]).refused(1, "http_status");
    http("Weather", "/v1/break").refused(8, "local_failed");
    http("Weather", "/v1/now").args(["-d".into(), format!("@{}", place.home().display())]).refused(8, "upload_failed");
    w.helper("sign Weather").stdin("x").refused(1, "reference_unknown");
    w.helper("run aaaaaaaaaaaaaaaaaaaaaaaaaa").refused(1, "handle_expired");
    let asker = place.home().join("profiles/default/guests/asker.json");
    w.place.run(["use", "--key"]).args([&asker]).args(["list"]).refused(1, "turned_away");
    w.place.run(["mcp", "--key"]).args([&w.guest]).refused(8, "mcp_failed");
}

/// Of devices whose files are not what they were.
pub(crate) fn of_changed_files(walk: &mut Walk) {
    let w = &*walk;
    w.say("--profile ghost status").refused(1, "vault_unknown");
    let damaged = w.copy_profile("default", "damaged");
    fs::set_permissions(&damaged, fs::Permissions::from_mode(0o755)).expect("a mode");
    w.say("--profile damaged doctor").refused(8, "doctor_found_problems");
    fs::set_permissions(&damaged, fs::Permissions::from_mode(0o700)).expect("a mode");
    change(&damaged.join("device.json"), |device| device["v"] = 9.into());
    w.say("--profile damaged status").refused(5, "profile_damaged");
    let stranger = w.copy_profile("default", "stranger");
    let other = SigningKey::generate(&mut os_rng()).public();
    let other = data_encoding::BASE64URL_NOPAD.encode(other.as_bytes());
    change(&stranger.join("device.json"), |device| device["identity"] = other.into());
    w.say("--profile stranger unlock").refused(5, "vault_not_authentic");
    let forked = w.copy_profile("default", "forked");
    change(&forked.join("seen"), |seen| {
        let zeros = data_encoding::BASE64URL_NOPAD.encode(&[0; 32]);
        seen["root"] = zeros.into();
    });
    w.say("--profile forked audit verify").refused(5, "log_alarm");
    for name in ["ghost", "damaged", "stranger", "forked"] {
        fs::remove_dir_all(w.place.home().join("profiles").join(name)).expect("a copy of ours");
    }
}

fn change(file: &Path, edit: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(file).expect("a file of the device")).expect("JSON");
    edit(&mut value);
    fs::write(file, value.to_string()).expect("a file of the device");
}

/// Of clients that say what our command does not.
pub(crate) fn of_a_raw_client(walk: &mut Walk) {
    let place = &walk.place;
    let profile = Profile::load(&place.home().join("profiles/default")).expect("a profile");
    let expected = Expected::Identity(profile.identity(), 0);
    let device = || Speaker::new(Role::Device, profile.device().0, profile.sign_key());
    let ask = |vault, expected, speaker, request: Value| {
        let mut connection =
            Connection::open(&place.socket(), vault, expected, Trust::Unasked, speaker).expect("a channel");
        let body = serde_json::value::to_raw_value(&request).expect("JSON");
        let ask = Ask { id: new_request_id(), fresh: None, credential: None, body, patience: Duration::from_secs(30) };
        match connection.ask::<Value>(&ask) {
            Err(AskError::Refused(refusal)) => {
                place.note(serde_json::to_string(&refusal).expect("JSON").as_bytes());
                place.met(refusal.code.as_str());
                refusal.code.as_str()
            }
            other => panic!("{request}: {other:?}"),
        }
    };
    let canary = walk.text("in a request that nobody reads");
    let nonsense = json!({ "item_add": { "nonsense": canary } });
    assert_eq!(ask(profile.vault(), expected, device(), nonsense), "request_malformed");
    assert_eq!(ask(profile.vault(), expected, device(), json!({ "session_begin": {} })), "fresh_required");
    let answer = ask_server(&place.socket(), &RelayHello::NewVault {}).expect("a new vault");
    let RelayAnswer::NewVault { vault } = answer else { panic!("another answer") };
    let founder = SigningKey::generate(&mut os_rng());
    let speaker = Speaker::new(Role::Founder, new_request_id().0, &founder);
    assert_eq!(ask(vault, Expected::Unfounded, speaker, json!({ "item_list": {} })), "vault_not_created");
}

/// Of servers that are none.
pub(crate) fn of_another_server(walk: &mut Walk) {
    let w = &*walk;
    let at = |name: &str| w.place.path(name);
    let status = |socket: PathBuf| w.say("status").env("STRONGROOM_SOCKET", socket);
    status(at("nowhere")).refused(4, "unreachable");
    let hangs_up = answer_with(&at("hangs-up"), Vec::new());
    status(at("hangs-up")).refused(4, "connection_lost");
    let garbage = answer_with(&at("garbage"), vec![b"{\"relay\":{}}".to_vec(), vec![7; 2_000]]);
    status(at("garbage")).refused(5, "channel_refused");
    drop((hangs_up, garbage));
}

/// A server that gives these answers to whatever it is sent, and hangs up.
fn answer_with(socket: &Path, answers: Vec<Vec<u8>>) -> thread::JoinHandle<()> {
    let listener = UnixListener::bind(socket).expect("a socket");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a client");
            for answer in &answers {
                let _ = stream.read(&mut [0; 8192]);
                let length = u32::try_from(answer.len()).expect("a short answer");
                let _ = stream.write_all(&[&length.to_be_bytes()[..], answer].concat());
            }
        }
    })
}

/// Of a terminal, at which the member says no.
pub(crate) fn at_a_terminal(walk: &mut Walk) {
    let place = &walk.place;
    let line = format!("{} --json item remove Twin", place.programs.strongroom.display());
    let line = line.replace("Twin", "Note");
    let mut script = place.program("script");
    script.args(["-q", "-e", "-c", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    script.env("STRONGROOM_HOME", place.home()).env("STRONGROOM_SOCKET", place.socket());
    let mut child = script.spawn().expect("`script` of util-linux");
    child.stdin.take().expect("a pipe").write_all(b"n\n").expect("it listens");
    let output = child.wait_with_output().expect("it ends");
    place.note(&output.stdout);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("\"cancelled\"") && output.status.code() == Some(6), "{said}");
    place.met("cancelled");
}

/// Of a user that has no home folder, which only root can become here.
pub(crate) fn without_a_home() -> Option<Place> {
    let place = Place::of_ordinary_user().filter(|_| rustix::process::geteuid().is_root())?;
    let output = place.program(&place.programs.strongroom).args(["--json", "status"]).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("\"no_home\""), "{said}");
    place.met("no_home");
    Some(place)
}

/// Of a machine that did not start as it did, and of one that the device does not know. No server runs before; one runs after.
pub(crate) fn of_the_machine(place: &mut Place, chip: &mut Swtpm) {
    chip.reboot();
    chip.extend(0, [1; 32]);
    let sealed = |chip: &Swtpm| ["--sealing".to_owned(), "tpm".to_owned(), "--tpm".to_owned(), chip.name()];
    let serve = |place: &mut Place, chip: &Swtpm| place.serve(&sealed(chip).each_ref().map(String::as_str));
    serve(place, chip);
    place.say("unlock").refused(1, "measurement_changed");
    // The phrase brings it back: from here on the vault is sealed to this start of the machine.
    place.say("unlock --phrase --other-machine --yes").passphrase(&place.path("newer-kit")).ok();
    place.stop();
    place.serve(&sealed(chip).each_ref().map(String::as_str));
    let file = place.home().join("profiles/default/attestation");
    let policy = fs::read_to_string(&file).expect("a policy");
    fs::write(&file, policy.replace("\"7\"", "\"8\"")).expect("written");
    place.say("status").refused(5, "host_not_trusted");
    fs::write(&file, policy).expect("written");
    let policy = place.write("policy.json", "{}");
    let create = ["--profile", "third", "create", "--phrase-to-file"].map(Into::into).into_iter();
    let kit = place.path("third-kit").into_os_string();
    place.run(create.chain([kit, "--policy".into(), policy.into_os_string()])).refused(2, "attestation_refused");
}

/// Of servers that do not come up. The machine's own runs.
pub(crate) fn of_servers(place: &Place) {
    let serve = |more: &[&str]| {
        let socket = place.path("second-socket");
        let run = place.run(["serve", "--data"]).args([place.path("data")]).args(["--shares"]);
        run.args([place.path("shares")]).args(more).env("STRONGROOM_SOCKET", socket)
    };
    serve(&["--vault-program", "/nonexistent"]).refused(8, "vault_program_missing");
    place.say("vault unattended on --yes").refused(1, "hardware_missing");
    // A command that was copied without what belongs to it.
    let alone = place.path("alone");
    fs::copy(&place.programs.strongroom, &alone).expect("a copy");
    let mut command = Command::new(&alone);
    command.args(["--json", "serve", "--sealing", "tpm", "--vault-program"]).arg(&place.programs.vault);
    let output = command.args(["--data"]).arg(place.path("alone-data")).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("\"tpm_program_missing\""), "{said}");
    place.met("tpm_program_missing");
    serve(&[]).refused(8, "serve_failed");
    // Services whose host is gone before they are up.
    let (host, services) = UnixStream::pair().expect("a pair of sockets");
    drop(host);
    let line = "exec \"$0\" --json internal services --listen \"$1\" 3<&0 0</dev/null";
    let mut command = Command::new("sh");
    command.args(["-c", line]).arg(&place.programs.strongroom).arg(place.path("third-socket"));
    let output = command.stdin(Stdio::from(OwnedFd::from(services))).output().expect("it starts");
    place.note(&output.stderr);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("\"services_failed\""), "{said}");
    place.met("services_failed");
}

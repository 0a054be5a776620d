//! The command against real programs: a server, a vault process, a device, a guest.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program, Stdio};
use std::time::Duration;

use assert_cmd::Command;
use serde_json::Value;

const PASSPHRASE: &str = "fig lantern oboe mistral quarry";

/// A server in a folder of its own; it ends with the test.
struct Machine {
    folder: tempfile::TempDir,
    server: Child,
}

impl Machine {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("passphrase"), format!("{PASSPHRASE}\n")).unwrap();
        let server = Program::new(strongroom())
            .env_clear()
            .args(["serve", "--vault-program"])
            .arg(vault_program())
            .arg("--data")
            .arg(folder.path().join("data"))
            .arg("--shares")
            .arg(folder.path().join("shares"))
            .env("HOME", folder.path())
            .env("STRONGROOM_SOCKET", folder.path().join("s.sock"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let machine = Self { folder, server };
        for _ in 0..500 {
            if machine.path("s.sock").exists() {
                return machine;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the server did not start");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command of this machine's device.
    fn device(&self, args: &[&str]) -> Command {
        let mut command = self.bare(args);
        command.env("STRONGROOM_PASSPHRASE_FILE", self.path("passphrase"));
        command
    }

    /// The same without the passphrase: a cached session, or a guest.
    fn bare(&self, args: &[&str]) -> Command {
        let mut command = Command::new(strongroom());
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("STRONGROOM_HOME", self.path("home"))
            .env("STRONGROOM_SOCKET", self.path("s.sock"))
            .arg("--no-input")
            .args(args);
        command
    }

    fn created() -> Self {
        let machine = Self::start();
        let kit = machine.path("kit.txt");
        machine.device(&["create", "--phrase-to-file", kit.to_str().unwrap()]).assert().success();
        machine
    }

    fn json(&self, args: &[&str]) -> Value {
        let assert = self.device(args).arg("--json").assert().success();
        serde_json::from_slice(&assert.get_output().stdout).unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.server);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.server.wait();
    }
}

fn strongroom() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_strongroom"))
}

/// The vault program beside the command; built where a test run of this crate alone has not.
fn vault_program() -> PathBuf {
    static BUILT: std::sync::Once = std::sync::Once::new();
    let program = strongroom().with_file_name("strongroom-vault");
    BUILT.call_once(|| {
        if !program.exists() {
            let root = Path::new(env!("CARGO_MANIFEST_DIR"));
            let built =
                Program::new(env!("CARGO")).current_dir(root).args(["build", "-p", "strongroom-vault"]).status();
            assert!(built.unwrap().success());
        }
    });
    program
}

fn stdout(assert: &assert_cmd::assert::Assert) -> String {
    String::from_utf8(assert.get_output().stdout.clone()).unwrap()
}

#[test]
fn items_go_in_and_never_come_out() {
    let machine = Machine::created();
    let secret = "correct-horse-battery-staple";
    machine
        .device(&["item", "add", "login", "Mail", "--set", "username=me", "--stdin"])
        .write_stdin(format!("{secret}\n"))
        .assert()
        .success();
    machine.device(&["item", "add", "wallet", "Savings", "--stdin"]).write_stdin("seed words\n").assert().success();
    let shown = machine.device(&["item", "show", "mail"]).assert().success();
    assert!(stdout(&shown).contains("me") && !stdout(&shown).contains(secret));
    let shown = machine.json(&["item", "show", "Mail"]);
    assert!(!shown.to_string().contains(secret));
    assert_eq!(machine.json(&["item", "list"]).as_array().unwrap().len(), 2);
    // A program gets it, and its exit code comes back.
    let exec =
        machine.device(&["exec", "--env", "PW=Mail", "--", "sh", "-c", "printf %s \"$PW\"; exit 7"]).assert().code(7);
    assert_eq!(stdout(&exec), secret);
    let exec = machine.device(&["exec", "--stdin", "Mail", "--", "cat"]).assert().success();
    assert_eq!(stdout(&exec), secret);
    // A session alone lists and shows, and nothing more.
    machine.bare(&["item", "list"]).assert().success();
    machine.bare(&["item", "remove", "Mail", "--yes"]).assert().code(8);
    machine.bare(&["exec", "--env", "PW=Mail", "--", "true"]).assert().code(8);
}

#[test]
fn a_locked_vault_opens_with_its_factors_alone() {
    let machine = Machine::created();
    machine.device(&["lock"]).assert().success();
    assert_eq!(machine.json(&["status"])["state"], "locked");
    machine.device(&["item", "list"]).assert().code(3);
    machine.bare(&["--passphrase-stdin", "unlock"]).write_stdin("wrong and wrong again\n").assert().code(1);
    machine.device(&["unlock"]).assert().success();
    machine.device(&["lock"]).assert().success();
    let kit = machine.path("kit.txt");
    machine.bare(&["--passphrase-file", kit.to_str().unwrap(), "unlock", "--phrase"]).assert().success();

    let new = machine.path("new");
    std::fs::write(&new, "onyx lantern oboe mistral quarry\n").unwrap();
    machine.device(&["passphrase", "change", "--new-passphrase-file", new.to_str().unwrap()]).assert().success();
    machine.device(&["lock"]).assert().success();
    machine.device(&["unlock"]).assert().code(1);
    machine.bare(&["--passphrase-file", new.to_str().unwrap(), "unlock"]).assert().success();
}

#[test]
fn a_guest_uses_what_was_granted_and_asks_for_the_rest() {
    let machine = Machine::created();
    machine.device(&["item", "add", "signing_key", "Release", "--generate"]).assert().success();
    machine.device(&["guest", "add", "helper"]).assert().success();
    machine
        .device(&["grant", "add", "--guest", "helper", "Release", "sign", "--prefix", "release:"])
        .assert()
        .success();
    let guest = |args: &[&str]| {
        let mut command = machine.bare(&["use", "--guest", "helper"]);
        command.args(args);
        command
    };
    guest(&["sign", "Release"]).write_stdin("something else").assert().code(1);
    let pending = guest(&["--json", "sign", "Release"]).write_stdin("release:1").assert().code(7);
    let pending: Value = serde_json::from_slice(&pending.get_output().stdout).unwrap();
    let approval = pending["pending"]["approval"].as_str().unwrap();
    machine.bare(&["approvals", "answer", approval, "--allow"]).assert().code(8);
    machine.device(&["approvals", "answer", approval, "--allow"]).assert().success();
    let state = guest(&["--json", "poll", approval]).assert().success();
    let state: Value = serde_json::from_slice(&state.get_output().stdout).unwrap();
    let handle = state["approved"]["handle"].as_str().unwrap();
    assert_eq!(stdout(&guest(&["run", handle]).assert().success()).trim().len(), 86);
    guest(&["run", handle]).assert().code(1);
    machine.device(&["guest", "revoke", "helper", "--yes"]).assert().success();
    guest(&["list"]).assert().code(1);
}

#[test]
fn the_log_holds_and_one_event_can_be_proved() {
    let machine = Machine::created();
    for label in ["One", "Two"] {
        machine.device(&["item", "add", "note", label, "--generate"]).assert().success();
    }
    let verified = machine.json(&["audit", "verify"]);
    assert!(verified["verified"] == true && verified["size"].as_u64().unwrap() >= 3);
    let proof = machine.path("proof.json");
    machine.device(&["audit", "prove", "1", "--to", proof.to_str().unwrap()]).assert().success();
    // The check needs neither this device nor the server.
    let mut check = Command::new(strongroom());
    let checked = check.env_clear().args(["--json", "audit", "check-proof"]).arg(&proof).assert().success();
    let checked: Value = serde_json::from_slice(&checked.get_output().stdout).unwrap();
    assert_eq!((checked["valid"].as_bool(), checked["event"]["action"].as_str()), (Some(true), Some("item.add")));
    let forged = std::fs::read_to_string(&proof).unwrap().replace("\"index\": 1", "\"index\": 2");
    std::fs::write(&proof, forged).unwrap();
    Command::new(strongroom()).args(["audit", "check-proof"]).arg(&proof).assert().code(5);
}

#[test]
fn other_programs_items_come_in_once_and_go_out_again() {
    let machine = Machine::created();
    let env = machine.path("shop.env");
    std::fs::write(&env, "API_KEY=made-up-value-0123456789\nDB=postgres://x\nnot a line\n").unwrap();
    let env = env.to_str().unwrap();
    let count = |report: &Value| ["added", "unchanged", "bad_rows_in_all"].map(|name| report[name].as_u64().unwrap());
    assert_eq!(count(&machine.json(&["import", env, "--dry-run"])), [2, 0, 1]);
    assert!(machine.json(&["item", "list"]).as_array().unwrap().is_empty());
    assert_eq!(count(&machine.json(&["import", env])), [2, 0, 1]);
    assert_eq!(count(&machine.json(&["import", env])), [0, 2, 1]);
    let out = machine.path("out.env");
    machine.device(&["export", "--format", "env", "--to", out.to_str().unwrap(), "--yes"]).assert().success();
    let text = std::fs::read_to_string(&out).unwrap();
    assert!(text.contains("made-up-value-0123456789") && text.contains("postgres://x"));
    machine.bare(&["export", "--to", "-", "--yes"]).assert().code(8);
}

#[test]
fn a_second_device_joins_and_is_thrown_out() {
    let machine = Machine::created();
    let other = machine.path("other").to_str().unwrap().to_owned();
    let join = machine.bare(&["--home", &other, "devices", "join", "--name", "phone"]).assert().success();
    let joining = machine.path("join.json");
    std::fs::write(&joining, &join.get_output().stdout).unwrap();
    let welcome = machine.device(&["devices", "add", joining.to_str().unwrap(), "--yes"]).assert().success();
    std::fs::write(machine.path("welcome.json"), &welcome.get_output().stdout).unwrap();
    let welcome = machine.path("welcome.json").to_str().unwrap().to_owned();
    machine.bare(&["--home", &other, "devices", "finish", &welcome]).assert().success();
    machine.device(&["--home", &other, "unlock"]).assert().success();
    // Each presents its own credential.
    machine.device(&["--home", &other, "guest", "add", "one"]).assert().success();
    machine.device(&["guest", "add", "two"]).assert().success();
    machine.device(&["--home", &other, "guest", "add", "three"]).assert().success();
    machine.device(&["devices", "revoke", "phone", "--yes"]).assert().success();
    machine.device(&["--home", &other, "status"]).assert().code(1);
}

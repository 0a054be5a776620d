//! The command line without any vault: help, usage errors, exit codes, JSON.
#![allow(clippy::unwrap_used, reason = "a test")]

use assert_cmd::Command;
use serde_json::Value;

/// The command with a home of its own and no server.
fn strongroom(home: &tempfile::TempDir) -> Command {
    let mut command = Command::cargo_bin("strongroom").unwrap();
    command
        .env_clear()
        .env("STRONGROOM_HOME", home.path().join("home"))
        .env("STRONGROOM_SOCKET", home.path().join("nobody.sock"))
        .arg("--no-input");
    command
}

fn json_error(output: &[u8]) -> Value {
    serde_json::from_slice::<Value>(output).unwrap()["error"].clone()
}

#[test]
fn version_and_help_need_nothing() {
    let home = tempfile::tempdir().unwrap();
    let mut version = Command::cargo_bin("strongroom").unwrap();
    version.arg("--version").assert().success().stdout(format!("strongroom {}\n", env!("CARGO_PKG_VERSION")));
    let help = strongroom(&home).arg("--help").assert().success();
    let text = String::from_utf8(help.get_output().stdout.clone()).unwrap();
    for heading in ["The vault:", "Items:", "Using secrets yourself:", "Letting others use them:", "What happened:"] {
        assert!(text.contains(heading), "{text}");
    }
    strongroom(&home).arg("help").assert().success();
    strongroom(&home).args(["help", "grant", "add"]).assert().success();
    strongroom(&home).args(["help", "nothing"]).assert().code(2);
}

#[test]
fn every_command_explains_itself() {
    let home = tempfile::tempdir().unwrap();
    for leaf in strongroom_cli::leaves() {
        let assert = strongroom(&home).args(leaf.split(' ')).arg("--help").assert().success();
        let text = String::from_utf8(assert.get_output().stdout.clone()).unwrap();
        assert!(text.contains("Usage: strongroom"), "{leaf}");
    }
}

#[test]
fn exit_codes_are_what_the_table_says() {
    let home = tempfile::tempdir().unwrap();
    let table = strongroom(&home).args(["help", "exit-codes"]).assert().success();
    let table = String::from_utf8(table.get_output().stdout.clone()).unwrap();
    for (exit, meaning) in strongroom_cli::Exit::ALL {
        assert!(table.contains(&format!("{:>4}  {meaning}", exit.code())), "{table}");
    }
    // usage, no vault on this device, nobody listens
    strongroom(&home).arg("no-such-command").assert().code(2);
    strongroom(&home).args(["item", "list"]).assert().code(3);
    strongroom(&home).arg("status").assert().code(3);
    let phrase = home.path().join("kit.txt");
    let passphrase = home.path().join("passphrase");
    std::fs::write(&passphrase, "fig lantern oboe mistral quarry\n").unwrap();
    strongroom(&home)
        .env("STRONGROOM_PASSPHRASE_FILE", &passphrase)
        .args(["create", "--phrase-to-file"])
        .arg(&phrase)
        .assert()
        .code(4);
}

#[test]
fn errors_are_json_where_json_is_asked_for() {
    let home = tempfile::tempdir().unwrap();
    let usage = strongroom(&home).args(["--json", "item", "show"]).assert().code(2);
    assert_eq!(json_error(&usage.get_output().stderr)["code"], "usage");
    let missing = strongroom(&home).args(["--json", "status"]).assert().code(3);
    let error = json_error(&missing.get_output().stderr);
    assert_eq!((error["code"].as_str(), error["exit"].as_u64()), (Some("no_vault"), Some(3)));
    assert!(error["hint"].as_str().unwrap().contains("strongroom create"));
}

#[test]
fn secrets_are_no_arguments() {
    let home = tempfile::tempdir().unwrap();
    let refused = strongroom(&home).args(["item", "add", "login", "X", "--set", "password=hunter2"]).assert().code(2);
    let text = String::from_utf8(refused.get_output().stderr.clone()).unwrap();
    assert!(text.contains("--secret password") && !text.contains("hunter2"), "{text}");
}

#[test]
fn a_weak_passphrase_and_an_unseen_phrase_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let weak = strongroom(&home)
        .args(["--json", "--passphrase-stdin", "create", "--phrase-to-file"])
        .arg(home.path().join("kit.txt"))
        .write_stdin("password1234\n")
        .assert()
        .code(2);
    assert_eq!(json_error(&weak.get_output().stderr)["code"], "passphrase_weak");
    assert!(!home.path().join("kit.txt").exists());
    let unseen = strongroom(&home)
        .args(["--json", "--passphrase-stdin", "create"])
        .write_stdin("fig lantern oboe mistral quarry\n")
        .assert()
        .code(2);
    assert_eq!(json_error(&unseen.get_output().stderr)["code"], "phrase_not_shown");
}

#[test]
fn generated_passwords_are_as_long_as_asked_for() {
    let home = tempfile::tempdir().unwrap();
    let made = strongroom(&home).args(["generate", "--length", "40", "--no-symbols", "-q"]).assert().success();
    assert_eq!(made.get_output().stdout.len(), 41);
    let words = strongroom(&home).args(["--json", "generate", "--words", "6"]).assert().success();
    let words: Value = serde_json::from_slice(&words.get_output().stdout).unwrap();
    assert_eq!(words["bits"], 66);
    strongroom(&home).args(["generate", "--length", "4"]).assert().code(2);
}

#[test]
fn completions_and_man_pages_are_made() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let text = strongroom(&home).args(["completions", shell]).assert().success();
        assert!(text.get_output().stdout.len() > 1_000);
    }
    let man = home.path().join("man");
    strongroom(&home).args(["man", "--to"]).arg(&man).assert().success();
    let page = std::fs::read_to_string(man.join("strongroom-grant-add.1")).unwrap();
    assert!(page.contains("EXIT STATUS") && page.contains("Integrity"));
    assert!(!man.join("strongroom-internal.1").exists());
}

#[test]
fn a_file_is_read_in_a_jail() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join(".env");
    std::fs::write(&file, "API_KEY=made-up-value-0123456789\n").unwrap();
    // The file is read before the vault is asked for; there is none, so that is where it ends.
    strongroom(&home).args(["import", "--dry-run"]).arg(&file).assert().code(3);
    std::fs::write(&file, "PK\x03\x04").unwrap();
    let refused = strongroom(&home).args(["--json", "import"]).arg(&file).assert().code(2);
    assert_eq!(json_error(&refused.get_output().stderr)["code"], "import_refused");
}

#[test]
fn a_forged_proof_is_an_alarm() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("proof.json");
    std::fs::write(&file, "{}").unwrap();
    strongroom(&home).args(["audit", "check-proof"]).arg(&file).assert().code(2);
}

#[test]
fn doctor_says_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let report = strongroom(&home).args(["--json", "doctor"]).assert().code(8);
    let findings: Value = serde_json::from_slice(&report.get_output().stdout).unwrap();
    let server = findings.as_array().unwrap().iter().find(|finding| finding["check"] == "server").unwrap();
    assert_eq!((server["level"].as_str(), server["next"].as_str()), (Some("problem"), Some("strongroom serve")));
}

//! One hostile child for each promise: jailed it fails, and the same child without the jail succeeds.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Done,
    Refused,
    Killed,
}

const SIGSYS: i32 = 31;
const SIGABRT: i32 = 6;

fn child(jail: &str, act: &str) -> Output {
    child_with(jail, act, b"")
}

fn child_with(jail: &str, act: &str, input: &[u8]) -> Output {
    let root = tempfile::tempdir().unwrap();
    let (folder, other) = (root.path().join("vault"), root.path().join("other"));
    for folder in [&folder, &other] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("database"), "content").unwrap();
    }
    let _socket = std::os::unix::net::UnixDatagram::bind(other.join("socket")).unwrap();
    // With a descriptor that whoever starts it forgot to close.
    let mut command = Command::new("/bin/sh");
    command.args(["-c", r#"exec "$0" "$@" 9</etc/passwd"#]).arg(program());
    command.args([jail, act]).arg(&folder).arg(&other).current_dir(&folder);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn fate(jail: &str, act: &str) -> Fate {
    let output = child(jail, act);
    match (output.status.code(), output.status.signal()) {
        (Some(0), _) => Fate::Done,
        (Some(10), _) => Fate::Refused,
        (_, Some(SIGSYS)) => Fate::Killed,
        _ => panic!("{jail} {act}: {output:?}"),
    }
}

fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("examples/hostile");
    assert!(program.exists(), "`cargo test` builds it; for one test alone: `cargo build --example hostile` first");
    program
}

/// In a vault's jail, in that of a computing child, and without any.
fn promise(act: &str, vault: Fate, compute: Fate) {
    assert_eq!(fate("vault", act), vault, "{act} in a vault's jail");
    assert_eq!(fate("compute", act), compute, "{act} in a computing child's jail");
    assert_eq!(fate("free", act), Fate::Done, "{act} without a jail");
}

#[test]
fn no_network() {
    promise("socket", Fate::Killed, Fate::Killed);
    promise("unix_socket", Fate::Killed, Fate::Killed);
    promise("connect", Fate::Killed, Fate::Killed);
}

#[test]
fn no_message_but_to_where_a_socket_leads() {
    promise("datagram_pair", Fate::Refused, Fate::Refused);
    promise("datagram_out", Fate::Refused, Fate::Refused);
    promise("named_message", Fate::Refused, Fate::Refused);
}

#[test]
fn no_file_but_its_own() {
    promise("read_outside", Fate::Refused, Fate::Refused);
    promise("list_outside", Fate::Refused, Fate::Refused);
    promise("write_outside", Fate::Refused, Fate::Refused);
    promise("truncate_outside", Fate::Refused, Fate::Refused);
    promise("chmod_outside", Fate::Refused, Fate::Refused);
    promise("symlink", Fate::Refused, Fate::Refused);
    promise("make_pipe", Fate::Refused, Fate::Refused);
    promise("read_inside", Fate::Done, Fate::Refused);
    // A vault process is started by `Launch`, which leaves none open.
    assert_eq!(fate("compute", "read_inherited"), Fate::Refused);
    assert_eq!(fate("free", "read_inherited"), Fate::Done);
}

#[test]
fn no_other_vault() {
    promise("read_another_vault", Fate::Refused, Fate::Refused);
    // Landlock answers EXDEV to a move between folders of which it knows one.
    let output = child("vault", "rename_out");
    assert!(!output.status.success());
    assert_eq!(fate("free", "rename_out"), Fate::Done);
}

#[test]
fn no_exec() {
    promise("exec_itself", Fate::Killed, Fate::Killed);
    // The standard library forks first.
    promise("exec", Fate::Refused, Fate::Refused);
}

#[test]
fn no_fork_and_threads_only_where_allowed() {
    promise("fork", Fate::Refused, Fate::Refused);
    promise("thread", Fate::Refused, Fate::Refused);
    assert_eq!(fate("threads", "thread"), Fate::Done);
    assert_eq!(fate("threads", "fork"), Fate::Refused);
}

#[test]
fn no_other_process() {
    promise("ptrace_parent", Fate::Killed, Fate::Killed);
    promise("read_parent", Fate::Killed, Fate::Killed);
    promise("signal_parent", Fate::Refused, Fate::Refused);
    promise("read_environment_of_parent", Fate::Refused, Fate::Refused);
}

#[test]
fn none_of_the_kernels_larger_doors() {
    promise("io_uring", Fate::Killed, Fate::Killed);
    if fate("free", "unshare") == Fate::Done {
        promise("unshare", Fate::Killed, Fate::Killed);
    }
}

#[test]
fn no_new_code() {
    promise("executable_memory", Fate::Refused, Fate::Refused);
    promise("make_executable", Fate::Refused, Fate::Refused);
}

#[test]
fn bounded() {
    assert_eq!(fate("vault", "raise_limit"), Fate::Refused);
    assert_eq!(fate("compute", "raise_limit"), Fate::Refused);
    for act in ["limit_parent", "limit_parent_from_high_memory", "limit_from_high_memory", "read_limit_of_parent"] {
        promise(act, Fate::Refused, Fate::Refused);
    }
    promise("much_memory", Fate::Refused, Fate::Refused);
    // A computing child, which is over in a moment, may have more than a vault.
    promise("fill_memory", Fate::Refused, Fate::Done);
    promise("large_file", Fate::Refused, Fate::Refused);
}

#[test]
fn a_vault_does_its_work_inside() {
    for jail in ["vault", "threads", "free"] {
        let output = child(jail, "work");
        assert!(output.status.success(), "{jail}: {output:?}");
    }
}

#[test]
fn a_computing_child_does_its_work_inside() {
    let output = child_with("compute", "compute", &[b'x'; 50_000]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, [b'x'; 50_000]);
}

#[test]
fn panics_and_aborts_end_as_they_do_outside_and_leave_no_core_file() {
    for jail in ["vault", "compute"] {
        let output = child(jail, "panic");
        assert_eq!(output.status.code(), Some(101), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("a panic is written"));
        let output = child(jail, "abort");
        assert_eq!(output.status.signal(), Some(SIGABRT), "{output:?}");
        assert!(!output.status.core_dumped());
    }
}

#[test]
fn a_process_with_threads_is_not_jailed() {
    let output = child("late", "read_inside");
    assert_eq!(output.status.code(), Some(101));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Threads { threads: 2 }"), "{output:?}");
}

#[test]
fn the_report_says_what_holds() {
    let output = child("vault", "report");
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(report.contains("no_new_privileges,not_dumpable,no_core_file,bounded,"), "{report}");
    assert!(report.contains("no_capabilities,only_its_files") && report.contains("only_listed_calls"), "{report}");
    // An ordinary user's limit on locked memory is too low for all of it; where it is not, it holds.
    let endless = rustix::process::getrlimit(rustix::process::Resource::Memlock).maximum.is_none();
    let (holds, missing) = report.split_once(" missing=").unwrap();
    assert!(holds.contains("locked_memory") || missing.contains("locked_memory") && !endless, "{report}");
    promise("unlock_memory", Fate::Refused, Fate::Refused);
    promise("lock_little", Fate::Refused, Fate::Refused);
    promise("lock_key_heap", Fate::Done, Fate::Refused);
    promise("lock_large_value", Fate::Refused, Fate::Refused);
}

//! `doctor`: looks at what this machine can be looked at for, and says what to do about it. It needs no unlocked vault.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde::Serialize;
use strongroom_client::channel::{self, AskError};
use strongroom_client::profile::Profile;
use strongroom_client::session::Session;
use strongroom_client::wire::device::{DeviceAnswer, DeviceRequest};
use strongroom_client::wire::relay::{RelayAnswer, RelayHello};

use crate::app::App;
use crate::code::OwnCode;
use crate::exit::Exit;
use crate::failure::{Failure, chain};
use crate::output::escape;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    Good,
    Note,
    Warning,
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    level: Level,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Runs `doctor`.
pub(crate) fn run(app: &App) -> Result<(), Failure> {
    let mut findings = Vec::new();
    check_server(app, &mut findings);
    check_profile(app, &mut findings);
    check_users(app, &mut findings);
    check_machine(&mut findings);
    let worst = findings.iter().any(|finding| finding.level == Level::Problem);
    app.out.result(&findings, || findings.iter().map(text_of).collect())?;
    if worst {
        return Err(Failure::new(Exit::Local, OwnCode::DoctorFoundProblems, "there are problems; see above"));
    }
    Ok(())
}

fn check_server(app: &App, findings: &mut Vec<Finding>) {
    let socket = app.profile().map_or_else(|_| app.socket(), |profile| profile.socket().to_owned());
    match channel::ask_server(&socket, &RelayHello::Ping {}) {
        Ok(RelayAnswer::Pong { version }) => {
            let text = format!("a server of version {} answers at {}", escape(&version), socket.display());
            push(findings, "server", Level::Good, text, None);
            if version != env!("CARGO_PKG_VERSION") {
                let text = format!("this command is of version {}", env!("CARGO_PKG_VERSION"));
                push(findings, "version", Level::Warning, text, Some("use command and server of one version"));
            }
        }
        Ok(_) => push(findings, "server", Level::Problem, "the server answers something else".into(), None),
        Err(AskError::Refused(refusal)) => push(findings, "server", Level::Problem, refusal.to_string(), None),
        Err(error) => push(findings, "server", Level::Problem, chain(&error), Some("strongroom serve")),
    }
    if let Ok(meta) = std::fs::metadata(&socket)
        && meta.mode() & 0o007 != 0
    {
        let text = format!("every user of this machine can connect to {}", socket.display());
        push(findings, "socket", Level::Note, text, Some("frames are sealed; it is a matter of load, not of secrets"));
    }
}

fn check_profile(app: &App, findings: &mut Vec<Finding>) {
    let Ok(dir) = app.dir() else { return };
    if !Profile::exists(&dir) {
        push(findings, "profile", Level::Note, "this device has no vault yet".into(), Some("strongroom create"));
        return;
    }
    for name in ["", "device.json", "credential", "seen", "share", "guests"] {
        check_mode(&dir.join(name), findings);
    }
    let profile = match app.profile() {
        Ok(profile) => profile,
        Err(failure) => return push(findings, "profile", Level::Problem, failure.message, None),
    };
    push(findings, "identity", Level::Good, format!("the pinned vault is {}", profile.fingerprint()), None);
    match profile.seen() {
        Ok(seen) => push(findings, "log", Level::Good, format!("this device saw {} events", seen.size), None),
        Err(error) => push(findings, "log", Level::Problem, chain(&error), None),
    }
    let mut prompter = app.prompter();
    match Session::new(&profile, &mut prompter).ask(&DeviceRequest::Status {}) {
        Ok(DeviceAnswer::Status(status)) => {
            push(findings, "vault", Level::Good, format!("it proved its identity, and is {}", status.state), None);
            if let Some(why) = status.guests_suspended {
                let text = format!("guests are suspended: {}", escape(&why));
                push(findings, "guests", Level::Warning, text, Some("strongroom guest resume --all"));
            }
        }
        Ok(_) => push(findings, "vault", Level::Problem, "it answered something else".into(), None),
        Err(error) => {
            let failure = Failure::from(error);
            push(findings, "vault", Level::Problem, failure.message, failure.hint.as_deref());
        }
    }
}

fn check_mode(path: &Path, findings: &mut Vec<Finding>) {
    let Ok(meta) = std::fs::metadata(path) else { return };
    let mode = meta.mode() & 0o777;
    if mode & 0o077 != 0 {
        let right = if meta.is_dir() { "700" } else { "600" };
        let text = format!("others have access to {} (mode {mode:o})", path.display());
        push(findings, "permissions", Level::Problem, text, Some(&format!("chmod {right} {}", path.display())));
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        push(findings, "owner", Level::Problem, format!("{} belongs to another user", path.display()), None);
    }
}

/// Software under the member's own user is the member's rival.
fn check_users(app: &App, findings: &mut Vec<Finding>) {
    let guests = app.dir().ok().and_then(|dir| std::fs::read_dir(dir.join("guests")).ok());
    let names: Vec<String> = guests
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
        .collect();
    if !names.is_empty() {
        let text = format!(
            "key files of guests lie with this device's own ({}); an agent under your user can watch your terminal and use \
             any of them",
            escape(&names.join(", "))
        );
        let next =
            "run agents under another user: strongroom guest add NAME --key-file FILE, and approve from another device";
        push(findings, "same_user", Level::Warning, text, Some(next));
    }
    if rustix::process::geteuid().is_root() {
        let next = "use an ordinary user for everyday commands";
        push(findings, "root", Level::Note, "this command runs as root".into(), Some(next));
    }
}

fn check_machine(findings: &mut Vec<Finding>) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let modules = read("/sys/kernel/security/lsm");
    if modules.is_empty() {
        let text =
            "which security modules the kernel has cannot be seen here; the server's log says what its jail holds"
                .into();
        push(findings, "landlock", Level::Note, text, None);
    } else if modules.split(',').any(|module| module.trim() == "landlock") {
        push(findings, "landlock", Level::Good, "the kernel has Landlock for the jail of vault processes".into(), None);
    } else {
        let text = "the kernel does not list Landlock; vault processes may reach more files than their own".into();
        push(findings, "landlock", Level::Warning, text, Some("a kernel of 5.13 or later with landlock in lsm="));
    }
    if matches!(read("/proc/sys/kernel/yama/ptrace_scope").trim(), "0") {
        let text = "any program of a user may attach to that user's other programs".into();
        push(findings, "ptrace", Level::Note, text, Some("sysctl kernel.yama.ptrace_scope=1"));
    }
    let swaps = read("/proc/swaps").lines().count();
    if swaps > 1 {
        let text =
            "there is swap; vaults keep their keys out of it, but what they work with only where the server may lock all of \
             its memory, and this command's short life is not locked"
                .into();
        push(
            findings,
            "swap",
            Level::Note,
            text,
            Some(
                "encrypt the swap, or run the server with LimitMEMLOCK=infinity (systemd) or without swap (MemorySwapMax=0)",
            ),
        );
    }
}

fn push(findings: &mut Vec<Finding>, check: &'static str, level: Level, text: String, next: Option<&str>) {
    findings.push(Finding { check, level, text, next: next.map(str::to_owned) });
}

fn text_of(finding: &Finding) -> String {
    let mark = match finding.level {
        Level::Good => "ok  ",
        Level::Note => "note",
        Level::Warning => "WARN",
        Level::Problem => "BAD ",
    };
    let next = finding.next.as_ref().map_or_else(String::new, |next| format!("\n      next: {next}"));
    format!("{mark}  {}: {}{next}\n", finding.check, finding.text)
}

//! The member's own uses of a secret: `totp`, `sign`, `crypt` in the vault, `copy` and `exec` with a device half.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Args;
use serde_json::json;
use strongroom_client::deliver::{self, Exec, STDIN_BYTES_MAX};
use strongroom_client::wire::device::{DeviceAnswer, DeviceRequest};
use strongroom_client::wire::guest::{Call, TotpCall, UseCall};
use strongroom_client::wire::policy::Consumer;
use strongroom_client::wire::{Reference, SecretValue};

use crate::app::{App, find_field, unexpected};
use crate::call::{CryptArgs, SignArgs, print_result};
use crate::code::OwnCode;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::prompt;

/// `copy`
#[derive(Debug, Args)]
#[command(
    after_help = "The clipboard is cleared after 30 seconds, if it still holds the value. Programs that keep a history of the
clipboard may keep it longer.

Examples:
  strongroom copy GitHub
  strongroom copy GitHub/username"
)]
pub(crate) struct Copy {
    /// An item, ITEM/FIELD or vault://…
    pub(crate) item: String,
}

/// `totp`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strongroom totp Bank
  strongroom totp GitHub/totp")]
pub(crate) struct Totp {
    /// An item, ITEM/FIELD or vault://…
    pub(crate) item: String,
}

/// `sign`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strongroom sign \"Release key\" < release.txt
  strongroom sign \"Git key\" --namespace git --message commit.txt
  strongroom sign Tokens --jwt '{\"sub\":\"me\"}'")]
pub(crate) struct Sign {
    /// An item, ITEM/FIELD or vault://…
    pub(crate) item: String,
    #[command(flatten)]
    pub(crate) what: SignArgs,
}

/// `crypt`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strongroom crypt Archive encrypt < plain > cipher
  strongroom crypt Archive decrypt < cipher > plain
  strongroom crypt Archive derive --context invoices --purpose mac")]
pub(crate) struct Crypt {
    /// An item, ITEM/FIELD or vault://…
    pub(crate) item: String,
    #[command(subcommand)]
    pub(crate) what: CryptArgs,
}

/// `exec`
#[derive(Debug, Args)]
#[command(
    after_help = "The program has the values for good, and so has whatever may read its environment. Its exit code is passed on.

Examples:
  strongroom exec --env TOKEN=Weather -- ./report.sh
  strongroom exec --env DB_PASSWORD=Database/password --env DB_USER=Database/username -- psql
  strongroom exec --stdin \"Disk key\" -- cryptsetup open --key-file - /dev/sdb1 data"
)]
pub(crate) struct ExecArgs {
    /// A variable of its environment (repeat)
    #[arg(long, value_name = "NAME=ITEM", value_parser = parse_variable)]
    pub(crate) env: Vec<(String, String)>,
    /// What it reads from standard input
    #[arg(long, value_name = "ITEM")]
    pub(crate) stdin: Option<String>,
    /// The program and its arguments
    #[arg(required = true, last = true, value_name = "PROGRAM")]
    pub(crate) program: Vec<OsString>,
}

/// Runs `totp`.
pub(crate) fn totp(app: &App, args: &Totp) -> Result<(), Failure> {
    use_own(app, &args.item, Some("totp"), Call::Totp(TotpCall {}))
}

/// Runs `sign`.
pub(crate) fn sign(app: &App, args: &Sign) -> Result<(), Failure> {
    use_own(app, &args.item, None, Call::Sign(args.what.build()?))
}

/// Runs `crypt`.
pub(crate) fn crypt(app: &App, args: &Crypt) -> Result<(), Failure> {
    use_own(app, &args.item, None, Call::Crypt(args.what.build()?))
}

fn use_own(app: &App, item: &str, default: Option<&str>, call: Call) -> Result<(), Failure> {
    app.session(|session| {
        let (reference, _) = find_field(session, item, default)?;
        match session.ask(&DeviceRequest::Use(UseCall { reference, call }))? {
            DeviceAnswer::Used(result) => print_result(app, &result),
            _ => Err(unexpected()),
        }
    })
}

/// Runs `copy`: the value goes to a process of its own, which holds the clipboard and clears it.
pub(crate) fn copy(app: &App, args: &Copy) -> Result<(), Failure> {
    // Before the value leaves the vault.
    deliver::has_clipboard()?;
    let value = app.session(|session| {
        let (reference, _) = find_field(session, &args.item, None)?;
        let mut values = deliver::fetch(session, Consumer::Clipboard, vec![reference], None)?;
        values.pop().map(|delivered| delivered.value).ok_or_else(unexpected)
    })?;
    start_holder(&value)?;
    app.out.result(&json!({ "copied": true, "cleared_after_secs": deliver::CLIPBOARD_SECS }), || {
        format!(
            "Copied. The clipboard is cleared in {} s, if it still holds the value; a clipboard history may keep it.",
            deliver::CLIPBOARD_SECS
        )
    })
}

fn start_holder(value: &SecretValue) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::local("the clipboard could not be served", &e);
    let program = std::env::current_exe().map_err(failed)?;
    let mut child = Command::new(program)
        .args(["internal", "hold-clipboard"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let mut stdin = child.stdin.take().ok_or_else(unexpected)?;
    // EXPOSE: through a pipe to the process that holds the clipboard, which is this program again.
    stdin.write_all(value.expose()).map_err(failed)?;
    drop(stdin);
    let mut ready = [0];
    let said = child.stdout.take().ok_or_else(unexpected)?.read(&mut ready).map_err(failed)?;
    if said == 1 {
        Ok(())
    } else {
        Err(Failure::new(Exit::Local, OwnCode::ClipboardFailed, "the clipboard did not take the value"))
    }
}

/// The process that holds the clipboard.
pub(crate) fn hold_clipboard() -> Result<(), Failure> {
    // Not ended by Control-C or the closing of the terminal that the command ran in.
    let _ = rustix::process::setsid();
    let value = SecretValue::new(prompt::read_all("-".as_ref(), 1024 * 1024)?.to_vec());
    deliver::hold_on_clipboard(value, Duration::from_secs(deliver::CLIPBOARD_SECS), || {
        let mut out = std::io::stdout();
        // Whether anybody still listens makes no difference here.
        let _ = out.write_all(b"1").and_then(|()| out.flush());
    })?;
    Ok(())
}

/// Runs `exec`; returns only where it failed.
pub(crate) fn exec(app: &App, args: &ExecArgs) -> Result<(), Failure> {
    if args.env.is_empty() && args.stdin.is_none() {
        return Err(Failure::usage("--env or --stdin says which secrets the program gets"));
    }
    let program = args.program.first().map(|program| program.to_string_lossy().into_owned()).unwrap_or_default();
    let exec = app.session(|session| {
        let mut references: Vec<Reference> = Vec::new();
        for name in args.env.iter().map(|(_, item)| item).chain(&args.stdin) {
            references.push(find_field(session, name, None)?.0);
        }
        let values = deliver::fetch(session, Consumer::Exec, references.clone(), Some(program.clone()))?;
        if !values.iter().map(|value| &value.reference).eq(&references) {
            return Err(unexpected());
        }
        let mut values = values.into_iter().map(|delivered| delivered.value);
        let environment = args.env.iter().map(|(name, _)| name.clone()).zip(values.by_ref()).collect();
        Ok(Exec { program: args.program.clone(), environment, stdin: values.next() })
    })?;
    // EXPOSE: only its length is looked at.
    if exec.stdin.as_ref().is_some_and(|value| value.expose().len() > STDIN_BYTES_MAX) {
        return Err(Failure::usage(format!("a value on standard input has at most {STDIN_BYTES_MAX} bytes")));
    }
    Err(exec.replace_process().into())
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    let (name, item) = text.split_once('=').ok_or_else(|| "expected NAME=ITEM".to_owned())?;
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(format!("`{name}` is no name of a variable"));
    }
    Ok((name.to_owned(), item.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_have_names() {
        assert_eq!(parse_variable("A_1=Git/Hub=x"), Ok(("A_1".into(), "Git/Hub=x".into())));
        for bad in ["A", "=x", "1A=x", "A-B=x", "LD PRELOAD=x"] {
            assert!(parse_variable(bad).is_err(), "{bad}");
        }
    }
}

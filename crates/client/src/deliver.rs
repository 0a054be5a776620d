//! The device halves of `clipboard` and `exec`: they hold a value for one call.
//!
//! A clipboard is shared with every program of the desktop, and clipboard histories may keep what was on it; the command says
//! so. A program started by `exec` has the value for good.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use arboard::Clipboard;
use strongroom_crypto::digest::{equal, sha256};
use strongroom_wire::device::{DeliverRequest, DeliveredValue, DeviceAnswer, DeviceRequest};
use strongroom_wire::limits::{CREDENTIAL_BYTES_MAX, FRAME_BYTES_MAX, ITEM_LABELS_BYTES_MAX};
use strongroom_wire::policy::Consumer;
use strongroom_wire::{ItemId, Reference, SecretValue};

use crate::error::ClientError;
use crate::session::Session;

/// Seconds after which a copied value leaves the clipboard.
pub const CLIPBOARD_SECS: u64 = 30;
/// Critical values of an export that are asked for at once: each may come with the label and tags of another item.
const CRITICAL_AT_ONCE: usize = 32;
const _: () =
    assert!(CREDENTIAL_BYTES_MAX * 4 / 3 + CRITICAL_AT_ONCE * (2 * ITEM_LABELS_BYTES_MAX + 512) <= FRAME_BYTES_MAX);
/// Bytes that fit into a pipe before its reader has started.
pub const STDIN_BYTES_MAX: usize = 64 * 1024;

/// Takes values out of the vault for one of the consumers with a device half.
///
/// # Errors
/// What the vault refused.
pub fn fetch(
    session: &mut Session<'_>,
    consumer: Consumer,
    references: Vec<Reference>,
    program: Option<String>,
) -> Result<Vec<DeliveredValue>, ClientError> {
    let asked = references.len();
    let request = DeviceRequest::Deliver(DeliverRequest { consumer, references, after: None, program });
    match session.ask(&request)? {
        DeviceAnswer::Delivered { values, .. } if values.len() == asked => Ok(values),
        _ => Err(ClientError::Answer),
    }
}

/// Takes a page of everything out for `export`, critical values included, for which the credential is presented; the second part
/// names the item to go on after.
///
/// # Errors
/// What the vault refused.
pub fn fetch_page(
    session: &mut Session<'_>,
    after: Option<ItemId>,
) -> Result<(Vec<DeliveredValue>, Option<ItemId>), ClientError> {
    let request = DeviceRequest::Deliver(DeliverRequest {
        consumer: Consumer::Export,
        references: Vec::new(),
        after,
        program: None,
    });
    let DeviceAnswer::Delivered { mut values, critical, next } = session.ask(&request)? else {
        return Err(ClientError::Answer);
    };
    for some in critical.chunks(CRITICAL_AT_ONCE) {
        values.extend(fetch(session, Consumer::Export, some.to_vec(), None)?);
    }
    Ok((values, next))
}

/// Why a device half did not do its part.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeliverError {
    /// There is no clipboard.
    #[error("this machine has no clipboard to copy to")]
    NoClipboard(#[source] arboard::Error),
    /// The clipboard refused.
    #[error("the clipboard did not take the value")]
    Clipboard(#[source] arboard::Error),
    /// Only text goes on a clipboard or into an environment.
    #[error("the value is not text")]
    NotText,
    /// More than fits.
    #[error("the value is longer than {STDIN_BYTES_MAX} bytes, which is all that fits into a pipe at start")]
    TooLong,
    /// The program.
    #[error("{program} could not be started")]
    Exec {
        /// Which.
        program: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Whether there is a clipboard, before a value is fetched for it.
///
/// # Errors
/// [`DeliverError::NoClipboard`].
pub fn has_clipboard() -> Result<(), DeliverError> {
    Clipboard::new().map(drop).map_err(DeliverError::NoClipboard)
}

/// Puts a value on the clipboard, tells `ready`, waits, and clears the clipboard if it still holds the value. On X11 and
/// Wayland the program that copied serves the clipboard, so this runs in a process of its own that outlives the command.
///
/// # Errors
/// When there is no clipboard, or it does not take the value.
pub fn hold_on_clipboard(value: SecretValue, wait: Duration, ready: impl FnOnce()) -> Result<(), DeliverError> {
    let mut clipboard = Clipboard::new().map_err(DeliverError::NoClipboard)?;
    // EXPOSE: copying is what the member asked for; a digest is enough to recognise it later.
    let digest = sha256(&[value.expose()]);
    let text = value.expose_str().ok_or(DeliverError::NotText)?;
    clipboard.set_text(text).map_err(DeliverError::Clipboard)?;
    drop(value);
    ready();
    thread::sleep(wait);
    let still_ours = clipboard.get_text().is_ok_and(|now| equal(&sha256(&[now.as_bytes()]), &digest));
    if still_ours {
        clipboard.clear().map_err(DeliverError::Clipboard)?;
    }
    Ok(())
}

/// A program with values in its environment or on its standard input.
#[derive(Debug)]
pub struct Exec {
    /// The program and its arguments.
    pub program: Vec<OsString>,
    /// Names and values of its environment.
    pub environment: Vec<(String, SecretValue)>,
    /// What it reads from its standard input.
    pub stdin: Option<SecretValue>,
}

impl Exec {
    /// Becomes the program: this process and every copy of the values in it end, and its exit code is the program's own.
    /// Returns only where that failed.
    #[must_use]
    pub fn replace_process(self) -> DeliverError {
        let Some((program, arguments)) = self.program.split_first() else {
            return failed(String::new(), io::ErrorKind::InvalidInput.into());
        };
        let name = program.to_string_lossy().into_owned();
        let mut command = Command::new(program);
        command.args(arguments);
        for (name, value) in &self.environment {
            // EXPOSE: the member asked for this value in this program's environment.
            match value.expose_str() {
                Some(text) if !text.contains('\0') => command.env(name, text),
                _ => return DeliverError::NotText,
            };
        }
        if let Some(value) = &self.stdin {
            match filled_pipe(value) {
                Ok(pipe) => command.stdin(pipe),
                Err(error) => return error,
            };
        }
        failed(name, command.exec())
    }
}

/// The reading end of a pipe that holds the value; the writing end is closed, so the reader finds its end.
fn filled_pipe(value: &SecretValue) -> Result<Stdio, DeliverError> {
    // EXPOSE: the member asked for this value on the program's standard input.
    if value.expose().len() > STDIN_BYTES_MAX {
        return Err(DeliverError::TooLong);
    }
    let (reader, mut writer) = io::pipe().map_err(|e| failed("a pipe".to_owned(), e))?;
    writer.write_all(value.expose()).map_err(|e| failed("a pipe".to_owned(), e))?;
    Ok(Stdio::from(reader))
}

fn failed(program: String, source: io::Error) -> DeliverError {
    DeliverError::Exec { program, source }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_pipe_holds_the_value_and_ends() {
        let value = SecretValue::new(vec![b'x'; STDIN_BYTES_MAX]);
        let mut child =
            Command::new("wc").arg("-c").stdin(filled_pipe(&value).unwrap()).stdout(Stdio::piped()).spawn().unwrap();
        let mut counted = String::new();
        child.stdout.take().unwrap().read_to_string(&mut counted).unwrap();
        child.wait().unwrap();
        assert_eq!(counted.trim(), STDIN_BYTES_MAX.to_string());
        assert!(matches!(filled_pipe(&SecretValue::new(vec![0; STDIN_BYTES_MAX + 1])), Err(DeliverError::TooLong)));
    }

    #[test]
    fn a_missing_program_is_named() {
        let exec = Exec { program: vec!["/nonexistent/tool".into()], environment: Vec::new(), stdin: None };
        assert!(exec.replace_process().to_string().contains("/nonexistent/tool"));
        let bytes = Exec {
            program: vec!["true".into()],
            environment: vec![("X".to_owned(), SecretValue::new(vec![0xff]))],
            stdin: None,
        };
        assert!(matches!(bytes.replace_process(), DeliverError::NotText));
    }
}

//! What is asked of the person at the terminal, and where scripts give it instead. Secrets are never arguments.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};

use strongroom_client::ClientError;
use strongroom_client::crypto::factor::FactorRoot;
use strongroom_client::fresh::{self, Factor, FactorError, Factors};
use strongroom_client::wire::SecretValue;
use strongroom_client::wire::device::{SlotKind, SlotView};
use strongroom_client::wire::limits::ITEM_BYTES_MAX;
use zeroize::Zeroizing;

use crate::code::OwnCode;
use crate::exit::Exit;
use crate::failure::Failure;

/// How a command gets at a passphrase, and whether it may ask at all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prompter {
    /// Never ask; fail instead.
    pub(crate) no_input: bool,
    /// The passphrase is the first line of standard input.
    pub(crate) passphrase_stdin: bool,
    /// The passphrase is in this file.
    pub(crate) passphrase_file: Option<PathBuf>,
    /// The slot to use, by name or id.
    pub(crate) slot: Option<String>,
    /// The recovery phrase instead of a passphrase.
    pub(crate) phrase: bool,
}

impl Prompter {
    /// The passphrase, from wherever this command gets it.
    ///
    /// # Errors
    /// When nobody can be asked, or reading fails.
    pub(crate) fn passphrase(&self, prompt: &str) -> Result<Zeroizing<String>, FactorError> {
        if self.passphrase_stdin {
            return stdin_line().map_err(FactorError::Input);
        }
        if let Some(path) = &self.passphrase_file {
            return file_line(path).map_err(FactorError::Input);
        }
        self.hidden(prompt)
    }

    /// A new passphrase, typed twice where it is typed, and strong enough.
    ///
    /// # Errors
    /// As [`passphrase`](Self::passphrase); also when it is too weak.
    pub(crate) fn new_passphrase(&self, file: Option<&Path>) -> Result<Zeroizing<String>, Failure> {
        let typed = file.is_none() && !self.passphrase_stdin && (self.passphrase_file.is_none());
        let passphrase = match file {
            Some(path) => file_line(path).map_err(FactorError::Input)?,
            None => self.passphrase("New passphrase: ")?,
        };
        strongroom_client::passphrase::check(&passphrase)?;
        if typed && *self.hidden("Once more: ")? != *passphrase {
            return Err(Failure::usage("the two passphrases differ"));
        }
        Ok(passphrase)
    }

    /// A value that is not shown while it is typed.
    ///
    /// # Errors
    /// When nobody can be asked.
    pub(crate) fn hidden(&self, prompt: &str) -> Result<Zeroizing<String>, FactorError> {
        if self.no_input {
            return Err(FactorError::NoInput);
        }
        match rpassword::prompt_password(prompt) {
            Ok(text) => Ok(Zeroizing::new(text)),
            Err(e) if matches!(e.raw_os_error(), Some(ENXIO | ENOENT | ENOTTY)) => Err(FactorError::NoInput),
            Err(e) => Err(FactorError::Input(e)),
        }
    }

    /// A line that may be seen.
    ///
    /// # Errors
    /// When nobody can be asked.
    pub(crate) fn line(&self, prompt: &str) -> Result<String, Failure> {
        if self.no_input {
            return Err(no_terminal());
        }
        let terminal = File::options().read(true).write(true).open("/dev/tty").map_err(|_| no_terminal())?;
        (&terminal).write_all(prompt.as_bytes()).map_err(|_| no_terminal())?;
        let mut line = String::new();
        // A terminal hands out a line at a time, so nothing of the next one is swallowed.
        let count = BufReader::new(&terminal).read_line(&mut line).map_err(|_| no_terminal())?;
        if count == 0 { Err(Failure::cancelled()) } else { Ok(line.trim().to_owned()) }
    }

    /// Whether the member says yes; `yes` beforehand answers for them.
    ///
    /// # Errors
    /// [`Exit::Cancelled`] where they say no.
    pub(crate) fn confirm(&self, question: &str, yes: bool) -> Result<(), Failure> {
        if yes {
            return Ok(());
        }
        let answer =
            self.line(&format!("{question} [y/N] ")).map_err(|failure| failure.hint("--yes says yes beforehand"))?;
        if matches!(answer.to_lowercase().as_str(), "y" | "yes") { Ok(()) } else { Err(Failure::cancelled()) }
    }

    /// The recovery phrase, for a vault that cannot say yet which ways to unlock it has.
    pub(crate) fn phrase_root(&self) -> Result<FactorRoot, Failure> {
        let words = self.passphrase("Recovery phrase (24 words): ").map_err(ClientError::from)?;
        Ok(fresh::phrase_root(&words).map_err(ClientError::from)?)
    }

    fn choose<'s>(&self, slots: &'s [SlotView], kind: SlotKind) -> Result<&'s SlotView, FactorError> {
        let fits = |slot: &&SlotView| {
            slot.kind == kind
                && self.slot.as_ref().is_none_or(|wanted| {
                    slot.name.as_deref() == Some(wanted.as_str()) || slot.id.to_string() == *wanted
                })
        };
        // Where several fit, the first that was added: the member's own, however they have changed it since.
        let first = slots.iter().filter(fits).min_by_key(|slot| (slot.added_at, slot.id));
        first.ok_or_else(|| FactorError::NoSlot { kind, name: self.slot.clone() })
    }
}

impl Factors for Prompter {
    fn factor(&mut self, slots: &[SlotView]) -> Result<Factor, FactorError> {
        if self.phrase {
            let slot = self.choose(slots, SlotKind::Recovery)?;
            let words = self.passphrase("Recovery phrase (24 words): ")?;
            return Ok(Factor { slot: slot.id, root: fresh::phrase_root(&words)? });
        }
        let slot = self.choose(slots, SlotKind::Passphrase)?;
        let passphrase = self.passphrase("Passphrase: ")?;
        Ok(Factor { slot: slot.id, root: fresh::passphrase_root(&passphrase, slot)? })
    }
}

/// All of a file, or of standard input for `-`: the value of a field. One line feed at its end is not part of it.
///
/// # Errors
/// When it cannot be read, or is longer than an item.
pub(crate) fn read_value(path: &Path) -> Result<SecretValue, Failure> {
    let bytes = read_all(path, ITEM_BYTES_MAX as u64)?;
    let end = bytes.strip_suffix(b"\n").map(|rest| rest.strip_suffix(b"\r").unwrap_or(rest)).unwrap_or(&bytes);
    // Only text loses its line feed: in a key of raw bytes it may be a part of the key.
    let whole = if std::str::from_utf8(&bytes).is_ok() { end } else { &bytes };
    Ok(SecretValue::new(whole.to_vec()))
}

/// All of a file, or of standard input for `-`.
///
/// # Errors
/// When it cannot be read, or is longer than `bytes_max`.
pub(crate) fn read_all(path: &Path, bytes_max: u64) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let shown = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let failed = |e: io::Error| Failure::local(format!("{shown} could not be read"), &e);
    // Room for the whole at once: a buffer that grows leaves pieces behind.
    let (mut source, room): (Box<dyn io::Read>, u64) = if path == Path::new("-") {
        (Box::new(io::stdin().lock()), bytes_max.min(ITEM_BYTES_MAX as u64))
    } else {
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        (Box::new(file), length.min(bytes_max))
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(room + 1).unwrap_or(0)));
    source.by_ref().take(bytes_max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > bytes_max {
        return Err(Failure::usage(format!("{shown} is longer than {bytes_max} bytes")));
    }
    Ok(bytes)
}

/// The next line of standard input.
fn stdin_line() -> io::Result<Zeroizing<String>> {
    thread_local! {
        // One reader for all lines: what it has read ahead belongs to the next of them.
        static STDIN: RefCell<BufReader<io::Stdin>> = RefCell::new(BufReader::with_capacity(4096, io::stdin()));
    }
    let mut line = Zeroizing::new(String::with_capacity(2048));
    if STDIN.with_borrow_mut(|stdin| stdin.read_line(&mut line))? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(without_line_end(line))
}

fn file_line(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(4096));
    File::open(path)?.take(4096).read_to_string(&mut text)?;
    Ok(without_line_end(text))
}

fn without_line_end(mut text: Zeroizing<String>) -> Zeroizing<String> {
    let length = text.trim_end_matches(['\n', '\r']).len();
    text.truncate(length);
    text
}

fn no_terminal() -> Failure {
    Failure::new(Exit::Local, OwnCode::NoInput, "this needs an answer, and there is no terminal to ask at")
}

const ENOENT: i32 = 2;
const ENXIO: i32 = 6;
const ENOTTY: i32 = 25;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_loses_one_line_feed_and_raw_bytes_lose_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("value");
        for (written, read) in [
            (&b"secret\n"[..], &b"secret"[..]),
            (b"secret\r\n", b"secret"),
            (b"secret\n\n", b"secret\n"),
            (b"secret", b"secret"),
            (b"\xff\x00\n", b"\xff\x00\n"),
        ] {
            std::fs::write(&path, written).unwrap();
            assert_eq!(read_value(&path).unwrap().expose(), read);
        }
        std::fs::write(&path, vec![b'x'; 100]).unwrap();
        assert!(read_all(&path, 99).is_err());
    }

    #[test]
    fn a_passphrase_file_is_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passphrase");
        std::fs::write(&path, "fig lantern oboe mistral quarry\n").unwrap();
        let prompter = Prompter { no_input: true, passphrase_file: Some(path.clone()), ..Prompter::default() };
        assert_eq!(prompter.passphrase("").unwrap().as_str(), "fig lantern oboe mistral quarry");
        assert!(prompter.new_passphrase(None).is_ok());
        std::fs::write(&path, "short\n").unwrap();
        assert_eq!(prompter.new_passphrase(None).unwrap_err().exit, Exit::Usage);
        let silent = Prompter { no_input: true, ..Prompter::default() };
        assert!(matches!(silent.passphrase(""), Err(FactorError::NoInput)));
    }
}

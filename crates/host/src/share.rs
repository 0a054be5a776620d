//! The file of one host share: 32 random bytes as 64 hexadecimal digits and a line end, or, sealed in a TPM, a JSON object.
//!
//! Text, so that a file system's leftovers (zeros, a cut) do not pass for a share, and so that a person can copy it. There is
//! no second way to a share: a file that is missing or damaged is an error, never a reason to make a new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use strongroom_bus::log;
use strongroom_wire::SecretValue;
use strongroom_wire::sealing::TpmSealed;
use zeroize::Zeroizing;

/// A host share. Wiped when dropped, never printed.
pub(crate) struct Share(Zeroizing<Vec<u8>>);

impl Share {
    pub(crate) fn generate() -> io::Result<Self> {
        let mut bytes = Zeroizing::new(vec![0; SHARE_BYTES]);
        let filled = rustix::rand::getrandom(bytes.as_mut_slice(), rustix::rand::GetRandomFlags::empty())?;
        if filled == SHARE_BYTES { Ok(Self(bytes)) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// A share that came in a message; `None` where it is none.
    pub(crate) fn of_secret(secret: &SecretValue) -> Option<Self> {
        // EXPOSE: from one place that is wiped to another.
        let bytes = Zeroizing::new(secret.expose().to_vec());
        let whole = bytes.len() == SHARE_BYTES && bytes.iter().any(|byte| *byte != 0);
        whole.then_some(Self(bytes))
    }

    /// Gives the bytes away, to the message that brings them to the vault process or to the TPM's program.
    pub(crate) fn into_secret(mut self) -> SecretValue {
        // EXPOSE: the receiver wipes them; nothing stays here.
        SecretValue::new(std::mem::take(&mut *self.0))
    }
}

/// A share as it rests.
pub(crate) enum Resting {
    /// As it is.
    Plain(Share),
    /// Sealed in a TPM.
    Sealed(Box<TpmSealed>),
}

impl Resting {
    fn text(&self) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Plain(share) => {
                let mut text = Zeroizing::new(HEXLOWER.encode(&share.0).into_bytes());
                text.push(b'\n');
                text
            }
            Self::Sealed(sealed) => {
                let mut text = serde_json::to_vec(sealed).expect("what is sealed always has a JSON form");
                text.push(b'\n');
                Zeroizing::new(text)
            }
        }
    }
}

/// Puts a share at `path`, where there is none, durably: when this returns, a power cut leaves it whole.
///
/// # Errors
/// `AlreadyExists` where there is one; else as the file system says.
pub(crate) fn create(path: &Path, share: &Resting) -> io::Result<()> {
    let unfinished = write(path, share)?;
    rustix::fs::renameat_with(rustix::fs::CWD, &unfinished, rustix::fs::CWD, path, rustix::fs::RenameFlags::NOREPLACE)?;
    sync_around(path)
}

/// Puts a share in the place of the one that is there, durably. What was there is overwritten afterwards.
pub(crate) fn replace(path: &Path, share: &Resting) -> io::Result<()> {
    let mut before = OpenOptions::new().write(true).custom_flags(libc_nofollow()).open(path)?;
    let unfinished = write(path, share)?;
    fs::rename(&unfinished, path)?;
    sync_around(path)?;
    before.write_all(&[b'0'; TEXT_BYTES - 1])?;
    before.sync_all()
}

fn write(path: &Path, share: &Resting) -> io::Result<PathBuf> {
    let unfinished = path.with_extension("share.new");
    // Left by a host that was killed at this place; nobody was told of it.
    remove_if_there(&unfinished)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(&share.text())?;
    file.sync_all()?;
    Ok(unfinished)
}

fn sync_around(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// The share at `path`, or `None` where it is missing or damaged.
pub(crate) fn read(path: &Path) -> Option<Resting> {
    let file = OpenOptions::new().read(true).custom_flags(libc_nofollow()).open(path).ok()?;
    tighten(&file);
    // Room from the start, so that no copy is left behind by growing.
    let mut text = Zeroizing::new(Vec::with_capacity(SEALED_BYTES_MAX + 1));
    file.take(SEALED_BYTES_MAX as u64 + 1).read_to_end(&mut text).ok()?;
    if text.starts_with(b"{") && text.len() <= SEALED_BYTES_MAX {
        return serde_json::from_slice(&text).ok().map(Resting::Sealed);
    }
    let digits = text.strip_suffix(b"\n").unwrap_or(&text);
    if digits.len() != 2 * SHARE_BYTES {
        return None;
    }
    let share = Share(Zeroizing::new(HEXLOWER.decode(digits).ok()?));
    share.0.iter().any(|byte| *byte != 0).then_some(Resting::Plain(share))
}

/// Destroys the share at `path`: overwritten, then removed, both durably. On a disk that writes elsewhere the old blocks may
/// live on until they are reused; what they guard is gone as well.
pub(crate) fn destroy(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).custom_flags(libc_nofollow()).open(path) {
        Ok(mut file) => {
            file.write_all(&[b'0'; TEXT_BYTES - 1])?;
            file.sync_all()?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    fs::remove_file(path)?;
    sync_around(path)
}

/// A share that others can read is made private; that it was not is said once.
fn tighten(file: &File) {
    let Ok(mode) = file.metadata().map(|metadata| metadata.permissions().mode()) else { return };
    if mode & 0o077 != 0 {
        let tightened = file.set_permissions(fs::Permissions::from_mode(0o600)).is_ok();
        log::warn("share_was_readable_by_others", &[("tightened", &tightened)]);
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn libc_nofollow() -> i32 {
    rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()
}

const SHARE_BYTES: usize = 32;
const TEXT_BYTES: usize = 2 * SHARE_BYTES + 1;
/// A share that is sealed: some 600 bytes, and a register's value for each that it is sealed to.
const SEALED_BYTES_MAX: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Resting {
        Resting::Plain(Share::generate().expect("random bytes"))
    }

    fn bytes(share: Option<Resting>) -> Vec<u8> {
        match share {
            Some(Resting::Plain(share)) => share.0.to_vec(),
            _ => panic!("no plain share"),
        }
    }

    #[test]
    fn a_share_is_made_once_and_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.share");
        create(&path, &plain()).expect("made");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let first = bytes(read(&path));
        assert_eq!(first.len(), 32);
        assert_eq!(create(&path, &plain()).expect_err("there is one").kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(bytes(read(&path)), first);
        let other = folder.path().join("b.share");
        fs::write(folder.path().join("b.share.new"), "left by a crash").expect("written");
        create(&other, &plain()).expect("made");
        assert_ne!(bytes(read(&other)), first);
        destroy(&path).expect("destroyed");
        assert!(read(&path).is_none());
        destroy(&path).expect("twice is fine");
    }

    #[test]
    fn a_share_that_is_sealed_takes_the_plain_ones_place_and_nothing_is_left_of_that() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.share");
        create(&path, &plain()).expect("made");
        let kept = folder.path().join("another name of the same file");
        fs::hard_link(&path, &kept).expect("linked");
        let sealed = TpmSealed {
            parent: [1; 34].into(),
            private: vec![2; 158].into(),
            public: vec![3; 78].into(),
            program: [4; 32].into(),
            boot: [(7, [5; 32].into())].into(),
        };
        replace(&path, &Resting::Sealed(Box::new(sealed.clone()))).expect("replaced");
        assert!(matches!(read(&path), Some(Resting::Sealed(found)) if *found == sealed));
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(fs::read(&kept).expect("there").iter().all(|byte| b"0\n".contains(byte)), "overwritten");
        let whole = fs::read(&path).expect("there");
        for cut in 0..whole.len() - 1 {
            fs::write(&path, &whole[..cut]).expect("written");
            assert!(read(&path).is_none(), "cut at {cut}");
        }
    }

    #[test]
    fn whatever_is_not_a_share_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.share");
        let good = "1f".repeat(32);
        let bad = [
            "",
            "\n",
            &good[..62],
            &good[..63],
            &format!("{good}1f"),
            &"00".repeat(32),
            &"1F".repeat(32),
            &"zz".repeat(32),
        ];
        for text in bad {
            fs::write(&path, text).expect("written");
            assert!(read(&path).is_none(), "{text}");
        }
        fs::write(&path, &good).expect("written");
        assert!(read(&path).is_some());
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600, "tightened");
        fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink("/etc/hostname", &path).expect("linked");
        assert!(read(&path).is_none());
    }
}

//! The file of one host share: 32 random bytes as 64 hexadecimal digits and a line end.
//!
//! Text, so that a file system's leftovers (zeros, a cut) do not pass for a share, and so that a person can copy it. There is
//! no second way to a share: a file that is missing or damaged is an error, never a reason to make a new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use data_encoding::HEXLOWER;
use strongroom_bus::log;
use zeroize::Zeroizing;

/// A host share. Wiped when dropped, never printed.
pub(crate) struct Share(Zeroizing<Vec<u8>>);

impl Share {
    fn generate() -> io::Result<Self> {
        let mut bytes = Zeroizing::new(vec![0; SHARE_BYTES]);
        let filled = rustix::rand::getrandom(bytes.as_mut_slice(), rustix::rand::GetRandomFlags::empty())?;
        if filled == SHARE_BYTES { Ok(Self(bytes)) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Gives the bytes away, to the message that brings them to the vault process.
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        // EXPOSE: the receiver wipes them; nothing stays here.
        std::mem::take(&mut *self.0)
    }
}

/// Makes a new share at `path`, durably: when this returns, a power cut leaves it whole.
///
/// # Errors
/// `AlreadyExists` where there is one; else as the file system says.
pub(crate) fn create(path: &Path) -> io::Result<()> {
    let share = Share::generate()?;
    let mut text = Zeroizing::new(HEXLOWER.encode(&share.0).into_bytes());
    text.push(b'\n');
    let unfinished = path.with_extension("share.new");
    // Left by a host that was killed at this place; nobody was told of it.
    remove_if_there(&unfinished)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(&text)?;
    file.sync_all()?;
    let folder = File::open(path.parent().unwrap_or(Path::new(".")))?;
    rustix::fs::renameat_with(rustix::fs::CWD, &unfinished, rustix::fs::CWD, path, rustix::fs::RenameFlags::NOREPLACE)?;
    folder.sync_all()
}

/// The share at `path`, or `None` where it is missing or damaged.
pub(crate) fn read(path: &Path) -> Option<Share> {
    let file = OpenOptions::new().read(true).custom_flags(libc_nofollow()).open(path).ok()?;
    tighten(&file);
    // One byte more than a share has, so that a longer file is seen to be longer; and room from the start, so that no copy
    // is left behind by growing.
    let mut text = Zeroizing::new(Vec::with_capacity(TEXT_BYTES + 1));
    file.take(TEXT_BYTES as u64 + 1).read_to_end(&mut text).ok()?;
    let digits = text.strip_suffix(b"\n").unwrap_or(&text);
    let share = Zeroizing::new(HEXLOWER.decode(digits).ok()?);
    let whole = share.len() == SHARE_BYTES && share.iter().any(|byte| *byte != 0);
    whole.then_some(Share(share))
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
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_made_once_and_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.share");
        create(&path).expect("made");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let first = read(&path).expect("reads").into_bytes();
        assert_eq!(first.len(), 32);
        assert_eq!(create(&path).expect_err("there is one").kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(read(&path).expect("unchanged").into_bytes(), first);
        let other = folder.path().join("b.share");
        fs::write(folder.path().join("b.share.new"), "left by a crash").expect("written");
        create(&other).expect("made");
        assert_ne!(read(&other).expect("reads").into_bytes(), first);
        destroy(&path).expect("destroyed");
        assert!(read(&path).is_none());
        destroy(&path).expect("twice is fine");
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

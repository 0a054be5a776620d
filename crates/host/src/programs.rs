//! Vault programs, by their SHA-256: the one that is installed, and those before it that members' shares are still sealed to.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};
use strongroom_bus::log::LogSafe;
use strongroom_wire::Bytes;

/// The SHA-256 of a vault program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Digest(pub(crate) [u8; 32]);

impl Digest {
    pub(crate) fn of(bytes: &Bytes) -> Option<Self> {
        bytes.to_array().map(Self)
    }

    pub(crate) fn bytes(self) -> Bytes {
        Bytes::from(self.0)
    }

    pub(crate) fn hex(self) -> String {
        data_encoding::HEXLOWER.encode(&self.0)
    }
}

impl LogSafe for Digest {
    fn write_safe(&self, f: &mut dyn std::fmt::Write) -> std::fmt::Result {
        f.write_str(&self.hex())
    }
}

/// Tells one file from another that was put in its place.
pub(crate) type FileMark = (u64, u64, i64, i64, u64);

/// The vault programs of this host.
#[derive(Debug)]
pub(crate) struct Programs {
    installed: PathBuf,
    kept: PathBuf,
    measured: Mutex<Option<(FileMark, Digest)>>,
}

impl Programs {
    /// `kept` is the folder of programs that are not installed any more.
    pub(crate) fn new(installed: PathBuf, kept: PathBuf) -> Self {
        Self { installed, kept, measured: Mutex::new(None) }
    }

    /// Which file is installed.
    pub(crate) fn mark(&self) -> io::Result<FileMark> {
        fs::metadata(&self.installed).map(|found| mark_of(&found))
    }

    /// Where the installed program is.
    pub(crate) fn path(&self) -> &Path {
        &self.installed
    }

    /// Measures the installed program, where it was not before, and keeps a copy: shares are going to be sealed to it, and must
    /// open also when another is installed.
    pub(crate) fn installed(&self) -> io::Result<Digest> {
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = File::open(&self.installed)?;
        let mark = mark_of(&file.metadata()?);
        if let Some((_, digest)) = measured.as_ref().filter(|(known, _)| *known == mark) {
            return Ok(*digest);
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let digest = Digest(Sha256::digest(&bytes).into());
        self.keep(digest, &bytes)?;
        *measured = Some((mark, digest));
        Ok(digest)
    }

    fn keep(&self, digest: Digest, bytes: &[u8]) -> io::Result<()> {
        let path = self.kept.join(digest.hex());
        // One that was damaged since is put right.
        if fs::read(&path).is_ok_and(|kept| kept == bytes) {
            return Ok(());
        }
        fs::DirBuilder::new().recursive(true).create(&self.kept)?;
        let unfinished = self.kept.join("unfinished");
        // Left by a host that was killed at this place.
        let _ = fs::remove_file(&unfinished);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o700).open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&unfinished, &path)?;
        File::open(&self.kept)?.sync_all()
    }

    /// The program with this digest, open, as it was measured just now.
    ///
    /// # Errors
    /// `NotFound` where it is neither installed nor kept.
    pub(crate) fn open(&self, digest: Digest) -> io::Result<File> {
        for path in [self.kept.join(digest.hex()), self.installed.clone()] {
            let Ok(mut file) = File::open(path) else { continue };
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            if Sha256::digest(&bytes)[..] == digest.0 {
                return Ok(file);
            }
        }
        Err(io::Error::new(io::ErrorKind::NotFound, "the vault program that the share is sealed to is gone"))
    }
}

fn mark_of(found: &fs::Metadata) -> FileMark {
    (found.dev(), found.ino(), found.mtime(), found.mtime_nsec(), found.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_kept_and_only_the_one_that_was_measured_is_opened() {
        let folder = tempfile::tempdir().expect("a folder");
        let installed = folder.path().join("vault");
        let programs = Programs::new(installed.clone(), folder.path().join("programs"));
        fs::write(&installed, "first").expect("written");
        let first = programs.installed().expect("measured");
        assert_eq!(programs.installed().expect("again"), first);
        fs::write(&installed, "second, longer").expect("written");
        let second = programs.installed().expect("measured");
        assert_ne!(first, second);
        let mut text = String::new();
        let mut file = programs.open(first).expect("kept");
        io::Seek::rewind(&mut file).expect("a file");
        file.read_to_string(&mut text).expect("reads");
        assert_eq!(text, "first");
        assert!(programs.open(second).is_ok());
        // Changed on the disk: not what was measured.
        let kept = folder.path().join("programs").join(first.hex());
        fs::remove_file(&kept).expect("removed");
        fs::write(&kept, "FIRST").expect("written");
        assert_eq!(programs.open(first).expect_err("changed").kind(), io::ErrorKind::NotFound);
        fs::write(&installed, "first").expect("installed again");
        let programs = Programs::new(installed, folder.path().join("programs"));
        assert_eq!(programs.installed().expect("measured"), first);
        assert_eq!(fs::read(&kept).expect("there"), b"first", "what was damaged is put right");
    }
}

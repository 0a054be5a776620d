//! Private files: readable by their owner alone, and replaced whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use zeroize::Zeroizing;

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{} could not be {doing}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What was being done.
    pub doing: &'static str,
    /// Why not.
    #[source]
    pub source: io::Error,
}

impl FileError {
    fn new(path: &Path, doing: &'static str, source: io::Error) -> Self {
        Self { path: path.to_owned(), doing, source }
    }

    /// Whether the file is not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// Makes a folder and those above it; those that it makes are for their owner alone.
///
/// # Errors
/// When the file system refuses.
pub fn create_private_dir(path: &Path) -> Result<(), FileError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| FileError::new(path, "created", e))
}

/// Reads a file of at most `bytes_max` bytes, in memory that is wiped.
///
/// # Errors
/// When it is not there, longer, or others than its owner may read or write it.
pub fn read_private(path: &Path, bytes_max: u64) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let wrap = |e| FileError::new(path, "read", e);
    let mut file = File::open(path).map_err(wrap)?;
    let meta = file.metadata().map_err(wrap)?;
    if meta.mode() & 0o077 != 0 {
        let why = format!("others than its owner have access (mode {:o}); run chmod 600", meta.mode() & 0o777);
        return Err(wrap(io::Error::new(io::ErrorKind::PermissionDenied, why)));
    }
    if meta.len() > bytes_max {
        return Err(wrap(io::Error::new(io::ErrorKind::InvalidData, "the file is too long")));
    }
    // The room is set aside first: a buffer that grows leaves pieces behind.
    let room = usize::try_from(meta.len()).unwrap_or(0) + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    Read::by_ref(&mut file).take(bytes_max + 1).read_to_end(&mut bytes).map_err(wrap)?;
    if bytes.len() as u64 > bytes_max {
        return Err(wrap(io::Error::new(io::ErrorKind::InvalidData, "the file is too long")));
    }
    Ok(bytes)
}

/// Replaces a file durably: after a crash it holds the old bytes or the new ones. Mode 0600.
///
/// # Errors
/// When the file system refuses; the old file stays.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let wrap = |e| FileError::new(path, "written", e);
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = dir.join(name);
    let written = write_new(&temporary, bytes).and_then(|()| fs::rename(&temporary, path)).and_then(|()| sync_dir(dir));
    if written.is_err() {
        // Best effort: the error that counts is the first one.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(wrap)
}

/// Writes a file that is not there yet, durably. Mode 0600.
///
/// # Errors
/// When it is there, or the file system refuses.
pub fn create(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let wrap = |e| FileError::new(path, "created", e);
    let mut file = open_new(path).map_err(wrap)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(wrap)?;
    sync_dir(path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))).map_err(wrap)
}

/// Removes a file; one that is not there is fine.
///
/// # Errors
/// When the file system refuses.
pub fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(FileError::new(path, "removed", e)),
        _ => Ok(()),
    }
}

/// Held while a device's files change; other commands of the same profile wait.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the lock lasts as long as the file is open")] File);

impl Lock {
    /// Waits for the lock.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn wait(path: &Path) -> Result<Self, FileError> {
        let wrap = |e| FileError::new(path, "locked", e);
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path).map_err(wrap)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(|e| wrap(e.into()))?;
        Ok(Self(file))
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Left over from a process of the same number that was killed.
    let _ = fs::remove_file(path);
    let mut file = open_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn open_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_replaced_file_is_private_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credential");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(read_private(&path, 3).unwrap().as_slice(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(read_private(&path, 2).is_err());
        assert!(create(&path, b"three").is_err());
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device.json");
        fs::write(&path, b"x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(read_private(&path, 9).unwrap_err().source.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_missing_file_says_so() {
        assert!(read_private(Path::new("/nonexistent/file"), 9).unwrap_err().is_missing());
    }
}

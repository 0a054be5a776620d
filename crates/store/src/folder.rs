//! The vault's folder and its small files.
//!
//! Everything is opened relative to the folder, without following symbolic links and without waiting for fifos; only regular
//! files up to a limit are read. A file is replaced by writing a temporary one beside it, syncing it, renaming it and syncing
//! the folder, so that a crash leaves the old file or the new one. All files are 0600, and folders 0700.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;
use strongroom_core::records::{HeaderCopy, StoreError};
use strongroom_wire::{DeviceId, limits};

use crate::error::{damaged, failed, read_error, write_error};

/// The folder of one vault, locked against other processes for as long as this lives.
pub(crate) struct Folder {
    path: PathBuf,
    dir: OwnedFd,
}

/// Which file a name leads to, to see whether it still is the same one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl Folder {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        // SQLite opens by path and refuses links anywhere in it, so those above the folder are resolved once, here.
        let path = std::fs::canonicalize(path).map_err(|error| io_error("the folder", &error, read_error))?;
        let dir = rustix::fs::open(&path, FOLDER, Mode::empty()).map_err(|errno| read_error("the folder", errno))?;
        let mode = rustix::fs::fstat(&dir).map_err(|errno| read_error("the folder", errno))?.st_mode;
        if Mode::from_raw_mode(mode).intersects(Mode::RWXG | Mode::RWXO) {
            return Err(failed("the vault's folder is open to other users; its mode must be 0700"));
        }
        // The lock is on the folder itself and goes with the descriptor, so a crash leaves none behind.
        rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
            Errno::WOULDBLOCK => failed("another process uses the vault's folder"),
            errno => read_error("the folder's lock", errno),
        })?;
        let folder = Self { path, dir };
        remove_temporaries(&folder.dir)?;
        if let Some(chains) = folder.chains()? {
            remove_temporaries(&chains)?;
        }
        Ok(folder)
    }

    /// Bytes that are free on its file system, without those that are kept for root.
    pub(crate) fn room(&self) -> Result<u64, StoreError> {
        let found = rustix::fs::fstatvfs(&self.dir).map_err(|errno| read_error("the folder's disk", errno))?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// The path of a file in it, for SQLite.
    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn read_header(&self, copy: HeaderCopy) -> Result<Option<Vec<u8>>, StoreError> {
        read(&self.dir, header_name(copy), limits::HEADER_BYTES_MAX)
    }

    pub(crate) fn write_header(&self, copy: HeaderCopy, bytes: &[u8]) -> Result<(), StoreError> {
        replace(&self.dir, header_name(copy), bytes, limits::HEADER_BYTES_MAX)
    }

    pub(crate) fn read_chain(&self, device: DeviceId) -> Result<Option<Vec<u8>>, StoreError> {
        match self.chains()? {
            Some(chains) => read(&chains, &device.to_string(), CHAIN_BYTES_MAX),
            None => Ok(None),
        }
    }

    pub(crate) fn write_chain(&self, device: DeviceId, bytes: &[u8]) -> Result<(), StoreError> {
        let chains = match self.chains()? {
            Some(chains) => chains,
            None => self.make_chains()?,
        };
        replace(&chains, &device.to_string(), bytes, CHAIN_BYTES_MAX)
    }

    pub(crate) fn remove_chain(&self, device: DeviceId) -> Result<(), StoreError> {
        let Some(chains) = self.chains()? else { return Ok(()) };
        remove(&chains, &device.to_string())?;
        sync(&chains)
    }

    pub(crate) fn read_tail(&self) -> Result<Vec<u8>, StoreError> {
        Ok(read(&self.dir, TAIL, TAIL_BYTES_MAX)?.unwrap_or_default())
    }

    pub(crate) fn append_tail(&self, bytes: &[u8]) -> Result<(), StoreError> {
        let (mut tail, length, is_new) = match self.open_tail()? {
            Some((tail, length)) => (tail, length, false),
            None => (create(&self.dir, TAIL)?, 0, true),
        };
        if length.saturating_add(bytes.len() as u64) > TAIL_BYTES_MAX as u64 {
            return Err(failed("the locked vault's log has no room left"));
        }
        let written = tail
            .write_all(bytes)
            .map_err(|error| io_error(TAIL, &error, write_error))
            .and_then(|()| sync_data(&tail))
            .and_then(|()| if is_new { sync(&self.dir) } else { Ok(()) });
        if written.is_err() {
            // Best effort: what is left is cut off by the reader, who knows by its MACs where the whole entries end.
            let _ = rustix::fs::ftruncate(&tail, length).and_then(|()| rustix::fs::fdatasync(&tail));
        }
        written
    }

    pub(crate) fn cut_tail(&self, length: u64) -> Result<(), StoreError> {
        let Some((tail, found)) = self.open_tail()? else { return Ok(()) };
        if found <= length {
            return Ok(());
        }
        rustix::fs::ftruncate(&tail, length).map_err(|errno| write_error(TAIL, errno))?;
        sync_data(&tail)
    }

    /// Removes every file of the vault, headers first: without them the rest cannot be opened.
    pub(crate) fn delete_all(&self) -> Result<(), StoreError> {
        remove(&self.dir, header_name(HeaderCopy::A))?;
        remove(&self.dir, header_name(HeaderCopy::B))?;
        sync(&self.dir)?;
        if let Some(chains) = self.chains()? {
            for name in names(&chains)? {
                remove(&chains, &name)?;
            }
            sync(&chains)?;
            rustix::fs::unlinkat(&self.dir, CHAINS, AtFlags::REMOVEDIR).map_err(|errno| write_error(CHAINS, errno))?;
        }
        remove(&self.dir, TAIL)?;
        for name in names(&self.dir)? {
            if name.starts_with(DATABASE) {
                remove(&self.dir, &name)?;
            }
        }
        sync(&self.dir)
    }

    /// Which file the name leads to; `None` where there is none. It is not opened: closing a file that SQLite holds as well
    /// would end SQLite's locks on it.
    ///
    /// # Errors
    /// `Damaged` when it is not a regular file.
    pub(crate) fn regular_file(&self, name: &str) -> Result<Option<FileId>, StoreError> {
        let stat = match rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(read_error(name, errno)),
        };
        expect_regular(name, &stat)?;
        Ok(Some(FileId { device: stat.st_dev, inode: stat.st_ino }))
    }

    /// Whether a file begins with these bytes.
    pub(crate) fn begins_with(&self, name: &str, bytes: &[u8]) -> Result<bool, StoreError> {
        let (file, _) = open_regular(&self.dir, name, OFlags::RDONLY)?.ok_or(StoreError::Missing)?;
        let mut found = Vec::with_capacity(bytes.len());
        file.take(bytes.len() as u64).read_to_end(&mut found).map_err(|error| io_error(name, &error, read_error))?;
        Ok(found == bytes)
    }

    /// Makes an empty file that was not there.
    pub(crate) fn make(&self, name: &str) -> Result<(), StoreError> {
        create(&self.dir, name).map(drop)
    }

    pub(crate) fn remove(&self, name: &str) -> Result<(), StoreError> {
        remove(&self.dir, name)
    }

    /// Syncs a file that is written, puts it in another's place and syncs the folder.
    pub(crate) fn sync_and_rename(&self, from: &str, to: &str) -> Result<(), StoreError> {
        let file = open_regular(&self.dir, from, OFlags::RDWR)?.ok_or(StoreError::Missing)?.0;
        rustix::fs::fsync(&file).map_err(|errno| write_error(from, errno))?;
        rename(&self.dir, from, to)
    }

    /// Removes what a crash left of temporary files.
    pub(crate) fn remove_temporaries(&self) -> Result<(), StoreError> {
        remove_temporaries(&self.dir)
    }

    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        sync(&self.dir)
    }

    fn chains(&self) -> Result<Option<OwnedFd>, StoreError> {
        match rustix::fs::openat(&self.dir, CHAINS, FOLDER, Mode::empty()) {
            Ok(chains) => Ok(Some(chains)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(read_error(CHAINS, errno)),
        }
    }

    fn make_chains(&self) -> Result<OwnedFd, StoreError> {
        rustix::fs::mkdirat(&self.dir, CHAINS, Mode::RWXU).map_err(|errno| write_error(CHAINS, errno))?;
        sync(&self.dir)?;
        self.chains()?.ok_or_else(|| failed("the folder of the chains vanished"))
    }

    fn open_tail(&self) -> Result<Option<(File, u64)>, StoreError> {
        open_regular(&self.dir, TAIL, OFlags::WRONLY | OFlags::APPEND)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Closing would do, but for a child between its fork and its exec, which still holds the same lock.
        let _ = rustix::fs::flock(&self.dir, FlockOperation::Unlock);
    }
}

/// The database's file; SQLite puts `-wal` behind it, and temporary copies put `.new`.
pub(crate) const DATABASE: &str = "vault.db";

fn header_name(copy: HeaderCopy) -> &'static str {
    match copy {
        HeaderCopy::A => "header.a",
        HeaderCopy::B => "header.b",
    }
}

fn read(dir: &OwnedFd, name: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, StoreError> {
    let Some((file, length)) = open_regular(dir, name, OFlags::RDONLY)? else { return Ok(None) };
    let too_long = || damaged(format!("{name} is longer than {bytes_max} bytes"));
    let length = usize::try_from(length).ok().filter(|length| *length <= bytes_max).ok_or_else(too_long)?;
    let mut bytes = Vec::with_capacity(length + 1);
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(|error| io_error(name, &error, read_error))?;
    // It may have grown since it was measured.
    if bytes.len() > bytes_max { Err(too_long()) } else { Ok(Some(bytes)) }
}

fn replace(dir: &OwnedFd, name: &str, bytes: &[u8], bytes_max: usize) -> Result<(), StoreError> {
    if bytes.len() > bytes_max {
        return Err(StoreError::Failed(format!("{name} would be longer than {bytes_max} bytes")));
    }
    let temporary = format!("{name}{TEMPORARY}");
    remove(dir, &temporary)?;
    let mut file = create(dir, &temporary)?;
    let replaced = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(|error| io_error(name, &error, write_error))
        .and_then(|()| rename(dir, &temporary, name));
    if replaced.is_err() {
        // Best effort: the next start removes it as well.
        let _ = remove(dir, &temporary);
    }
    replaced
}

fn rename(dir: &OwnedFd, from: &str, to: &str) -> Result<(), StoreError> {
    rustix::fs::renameat(dir, from, dir, to).map_err(|errno| write_error(to, errno))?;
    sync(dir)
}

fn create(dir: &OwnedFd, name: &str) -> Result<File, StoreError> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | CAREFUL;
    let file =
        rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR).map_err(|errno| write_error(name, errno))?;
    Ok(File::from(file))
}

fn open_regular(dir: &OwnedFd, name: &str, access: OFlags) -> Result<Option<(File, u64)>, StoreError> {
    let error = if access.intersects(OFlags::WRONLY | OFlags::RDWR) { write_error } else { read_error };
    let file = match rustix::fs::openat(dir, name, access | CAREFUL, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(error(name, errno)),
    };
    let stat = rustix::fs::fstat(&file).map_err(|errno| read_error(name, errno))?;
    expect_regular(name, &stat)?;
    Ok(Some((file, u64::try_from(stat.st_size).unwrap_or_default())))
}

fn expect_regular(name: &str, stat: &Stat) -> Result<(), StoreError> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        FileType::Symlink => Err(damaged(format!("{name} is a symbolic link"))),
        _ => Err(damaged(format!("{name} is not a regular file"))),
    }
}

fn remove(dir: &OwnedFd, name: &str) -> Result<(), StoreError> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(write_error(name, errno)),
    }
}

fn remove_temporaries(dir: &OwnedFd) -> Result<(), StoreError> {
    for name in names(dir)? {
        // SQLite puts `-wal` or `-journal` behind the name of a copy it writes.
        if name.ends_with(TEMPORARY) || name.strip_prefix(DATABASE).is_some_and(|rest| rest.starts_with(TEMPORARY)) {
            remove(dir, &name)?;
        }
    }
    Ok(())
}

/// The names in a folder, but for those that are not UTF-8: none of ours are.
fn names(dir: &OwnedFd) -> Result<Vec<String>, StoreError> {
    let entries = Dir::read_from(dir).map_err(|errno| read_error("the folder", errno))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|errno| read_error("the folder", errno))?;
        if let Ok(name) = entry.file_name().to_str()
            && !matches!(name, "." | "..")
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn sync(dir: &OwnedFd) -> Result<(), StoreError> {
    rustix::fs::fsync(dir).map_err(|errno| write_error("the folder", errno))
}

fn sync_data(file: &File) -> Result<(), StoreError> {
    rustix::fs::fdatasync(file.as_fd()).map_err(|errno| write_error(TAIL, errno))
}

fn io_error(what: &str, error: &std::io::Error, sort: fn(&str, Errno) -> StoreError) -> StoreError {
    match Errno::from_io_error(error) {
        Some(errno) => sort(what, errno),
        None => StoreError::Failed(format!("{what}: {}", error.kind())),
    }
}

const CHAINS: &str = "chains";
const TAIL: &str = "tail";
/// Ends the name of a file that is not whole yet.
pub(crate) const TEMPORARY: &str = ".new";

/// No link is followed, no fifo or terminal waited for, no descriptor passed on to a child.
const CAREFUL: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A chain file holds two credential keys and at most one blob, in base64, for its device.
const CHAIN_BYTES_MAX: usize = 1024 * 1024;
const _: () = assert!(CHAIN_BYTES_MAX >= 2 * limits::CREDENTIAL_BYTES_MAX);
/// The tail's entries are a few hundred bytes each.
const TAIL_BYTES_MAX: usize = limits::TAIL_ENTRIES_MAX * 4 * 1024;

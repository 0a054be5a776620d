//! What a host has on the disk: `<data>/vaults/<vault id>/`, `<shares>/<vault id>.share`, and a lock.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, CWD, Dir, FileType, FlockOperation, Gid, Mode, OFlags, Uid};
use strongroom_bus::log;
use strongroom_wire::{Refusal, VaultId, limits};

use crate::share::{self, Resting};

/// Why the folders cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FoldersError {
    /// Another server uses the data folder.
    #[error("another server uses this data folder{}", match .pid { Some(pid) => format!(" (process {pid})"), None => String::new() })]
    InUse {
        /// Its process id, where it said so.
        pid: Option<u32>,
    },
    /// A copy of the data folder would bring the shares along.
    #[error("the folder of shares lies inside the data folder: a copy of that folder would open every vault")]
    SharesInside,
    /// A folder cannot be made or used.
    #[error("the {what} cannot be used")]
    Unusable {
        /// Which one.
        what: &'static str,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
}

/// The folders of one host, locked for this process.
#[derive(Debug)]
pub(crate) struct Folders {
    vaults: PathBuf,
    shares: PathBuf,
    users: Mutex<Users>,
    gives_users: AtomicBool,
    /// Held until the process ends.
    _lock: File,
}

/// Why a vault could not be made.
#[derive(Debug)]
pub(crate) enum CreateVaultError {
    Exists,
    Io(io::ErrorKind),
    /// The share could not be sealed.
    Refused(Refusal),
}

impl Folders {
    /// Makes what is missing, and takes the lock.
    pub(crate) fn open(data: &Path, shares: &Path) -> Result<Self, FoldersError> {
        let vaults = data.join("vaults");
        private_folder(data).map_err(unusable("data folder"))?;
        let lock = lock(data)?;
        private_folder(&vaults).map_err(unusable("folder of vaults"))?;
        private_folder(shares).map_err(unusable("folder of shares"))?;
        let data = fs::canonicalize(data).map_err(unusable("data folder"))?;
        let vaults = fs::canonicalize(&vaults).map_err(unusable("folder of vaults"))?;
        let shares = fs::canonicalize(shares).map_err(unusable("folder of shares"))?;
        if shares.starts_with(&data) {
            return Err(FoldersError::SharesInside);
        }
        let users = Mutex::new(Users::read(&vaults).map_err(unusable("folder of vaults"))?);
        let gives_users = AtomicBool::new(rustix::process::geteuid().is_root());
        let folders = Self { vaults, shares, users, gives_users, _lock: lock };
        folders.finish_deletions();
        Ok(folders)
    }

    /// A vault's folder.
    pub(crate) fn of(&self, vault: VaultId) -> PathBuf {
        self.vaults.join(vault.to_string())
    }

    /// A vault's folder as its process gets it, and the user that the process runs as, where this host may give it one: the
    /// folder's owner, which is no other vault's.
    pub(crate) fn for_process(&self, vault: VaultId) -> io::Result<(OwnedFd, Option<(u32, u32)>)> {
        let folder = open_folder(CWD, self.of(vault))?;
        if !self.gives_users() {
            take_back(&folder)?;
            return Ok((folder, None));
        }
        let owner = rustix::fs::fstat(&folder)?.st_uid;
        let user =
            self.users().of(vault, owner).ok_or_else(|| io::Error::other("there is no user left for a vault"))?;
        // Each time: files that were put back from a copy may be somebody else's.
        give(&folder, user, FOLDERS_DEEP)?;
        Ok((folder, Some((user, user))))
    }

    /// An empty folder, and a user that no vault has: for a process that is only examined.
    pub(crate) fn for_examination(&self) -> io::Result<(OwnedFd, Option<(u32, u32)>)> {
        let path = self.vaults.with_file_name("examined");
        private_folder(&path)?;
        let folder = open_folder(CWD, &path)?;
        if self.gives_users() && give(&folder, USERS.start, 0).is_err() {
            // Root of a user name space, or without the right to: it has no users to give.
            self.give_no_users();
        }
        if !self.gives_users() {
            take_back(&folder)?;
        }
        Ok((folder, self.gives_users().then_some((USERS.start, USERS.start))))
    }

    /// Whether each vault process runs as a user of its own.
    pub(crate) fn gives_users(&self) -> bool {
        self.gives_users.load(Ordering::Relaxed)
    }

    /// From now on vault processes run as this host's user.
    pub(crate) fn give_no_users(&self) {
        self.gives_users.store(false, Ordering::Relaxed);
    }

    fn users(&self) -> MutexGuard<'_, Users> {
        // No code panics between two halves of a change.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is such a vault.
    pub(crate) fn has(&self, vault: VaultId) -> bool {
        self.of(vault).is_dir()
    }

    /// How many vaults there are.
    pub(crate) fn count(&self) -> io::Result<usize> {
        let entries = fs::read_dir(&self.vaults)?;
        Ok(entries.flatten().filter(|entry| vault_of(&entry.path()).is_some()).count())
    }

    /// A vault's share as it rests; `None` where it is missing or damaged.
    pub(crate) fn share(&self, vault: VaultId) -> Option<Resting> {
        share::read(&self.share_path(vault))
    }

    /// Puts a share in the place of the one that is there, durably.
    pub(crate) fn replace_share(&self, vault: VaultId, share: &Resting) -> io::Result<()> {
        share::replace(&self.share_path(vault), share)
    }

    /// The share that waits to take the place of one that is gone.
    pub(crate) fn new_share(&self, vault: VaultId) -> Option<Resting> {
        share::read(&self.new_share_path(vault))
    }

    /// Makes a share that waits to take the place of one that is gone, durably.
    pub(crate) fn make_new_share(&self, vault: VaultId, share: &Resting) -> io::Result<()> {
        let path = self.new_share_path(vault);
        self.put_aside(vault, &path)?;
        share::create(&path, share)
    }

    /// Keeps a share that another takes the place of, where it may be wanted again: one that is sealed to how the machine started before.
    fn put_aside(&self, vault: VaultId, path: &Path) -> io::Result<()> {
        match fs::rename(path, self.aside_path(vault)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => sync_folder(&self.shares),
        }
    }

    /// Puts the share that waits in its place, durably.
    pub(crate) fn keep_new_share(&self, vault: VaultId) -> io::Result<()> {
        // Stopped in between there is no share, and the one that waits is found by the next rescue.
        self.put_aside(vault, &self.share_path(vault))?;
        fs::rename(self.new_share_path(vault), self.share_path(vault))?;
        sync_folder(&self.shares)
    }

    /// Makes share and folder of a new vault, durably. The share first: a folder without one would look like a vault whose
    /// share was lost, a share without a folder is a few bytes that open nothing.
    pub(crate) fn create(&self, vault: VaultId, share: &Resting) -> Result<(), CreateVaultError> {
        let io = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => CreateVaultError::Exists,
            kind => CreateVaultError::Io(kind),
        };
        if self.has(vault) {
            return Err(CreateVaultError::Exists);
        }
        // What is left is for the vaults that there are.
        let disk = rustix::fs::statvfs(&self.vaults).map_err(|errno| io(errno.into()))?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) < limits::DISK_RESERVE_BYTES {
            return Err(io(io::ErrorKind::StorageFull.into()));
        }
        share::create(&self.share_path(vault), share).map_err(io)?;
        DirBuilder::new().mode(0o700).create(self.of(vault)).map_err(io)?;
        sync_folder(&self.of(vault)).and_then(|()| sync_folder(&self.vaults)).map_err(io)
    }

    /// Destroys a vault: the share first, so that from the first step on nothing can be opened any more.
    pub(crate) fn delete(&self, vault: VaultId) -> io::Result<()> {
        share::destroy(&self.share_path(vault))?;
        share::destroy(&self.new_share_path(vault))?;
        share::destroy(&self.aside_path(vault))?;
        let doomed = self.vaults.join(format!("{DOOMED}{vault}"));
        match fs::rename(self.of(vault), &doomed) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => sync_folder(&self.vaults)?,
        }
        match remove_all(&doomed) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => sync_folder(&self.vaults),
        }
    }

    /// Removes what a host that was killed in the middle of a deletion left.
    fn finish_deletions(&self) {
        let Ok(entries) = fs::read_dir(&self.vaults) else { return };
        for entry in
            entries.flatten().filter(|entry| entry.file_name().as_encoded_bytes().starts_with(DOOMED.as_bytes()))
        {
            let removed = remove_all(&entry.path()).is_ok();
            log::info("deletion_finished", &[("removed", &removed)]);
        }
    }

    fn aside_path(&self, vault: VaultId) -> PathBuf {
        self.shares.join(format!("{vault}.share-before"))
    }

    fn new_share_path(&self, vault: VaultId) -> PathBuf {
        self.shares.join(format!("{vault}.share-to-be"))
    }

    fn share_path(&self, vault: VaultId) -> PathBuf {
        self.shares.join(format!("{vault}.share"))
    }
}

fn vault_of(path: &Path) -> Option<VaultId> {
    path.file_name()?.to_str()?.parse().ok()
}

fn unusable(what: &'static str) -> impl FnOnce(io::Error) -> FoldersError {
    move |source| FoldersError::Unusable { what, source }
}

/// A folder for this user only; one that is open to others is shut.
fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        fs::set_permissions(path, Permissions::from_mode(0o700))?;
        log::warn("folder_was_open_to_others", &[]);
    }
    Ok(())
}

/// Which vault has which user.
#[derive(Debug)]
struct Users {
    of: HashMap<u32, VaultId>,
    /// The next one. One whose vault was deleted comes again only after a start at which no higher one is left.
    next: u32,
}

impl Users {
    fn read(vaults: &Path) -> io::Result<Self> {
        let mut of = HashMap::new();
        for entry in fs::read_dir(vaults)?.flatten() {
            let (Some(vault), Ok(found)) = (vault_of(&entry.path()), entry.metadata()) else { continue };
            if USERS.contains(&found.uid()) {
                // Of two with one user, put back from copies perhaps, the second gets another.
                of.entry(found.uid()).or_insert(vault);
            }
        }
        let next = of.keys().max().map_or(USERS.start, |highest| *highest) + 1;
        Ok(Self { of, next })
    }

    /// The user of a vault whose folder has this owner; a new one, where the owner is none of ours or another vault's.
    fn of(&mut self, vault: VaultId, owner: u32) -> Option<u32> {
        let known = self.of.get(&owner);
        if known == Some(&vault) || known.is_none() && owner > USERS.start && USERS.contains(&owner) {
            self.of.insert(owner, vault);
            return Some(owner);
        }
        let user = Some(self.next).filter(|user| USERS.contains(user))?;
        self.next += 1;
        self.of.insert(user, vault);
        Some(user)
    }
}

/// Gives a folder and what is in it to a user. The folder last: one that is only half given is given again. What a vault never
/// makes is refused: a vault process that was taken over could make folders without end. It makes no links and no devices.
fn give(folder: &OwnedFd, user: u32, deep: u32) -> io::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(user)));
    let mut entries = 0;
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        entries += 1;
        let found = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let is_folder = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        if entries > ENTRIES_MAX || is_folder && deep == 0 {
            return Err(io::Error::other("a vault's folder holds what no vault makes"));
        }
        if is_folder {
            give(&open_folder(folder, name)?, user, deep - 1)?;
        } else if found.st_uid != user {
            rustix::fs::chownat(folder, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
    }
    if rustix::fs::fstat(folder)?.st_uid == user {
        return Ok(());
    }
    Ok(rustix::fs::fchown(folder, uid, gid)?)
}

/// A folder that was given away, by a host with more rights, is this user's own again: a vault process that runs as this user has
/// no rights beyond it.
fn take_back(folder: &OwnedFd) -> io::Result<()> {
    let own = rustix::process::geteuid().as_raw();
    if rustix::fs::fstat(folder)?.st_uid == own { Ok(()) } else { give(folder, own, FOLDERS_DEEP) }
}

/// Removes a folder with everything in it, however deep: what lies deeper is moved up first, so that no path and no stack grows
/// with what a vault process made.
fn remove_all(top: &Path) -> io::Result<()> {
    let mut moved = 0_u64;
    loop {
        let mut folders = Vec::new();
        for entry in fs::read_dir(top)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() { folders.push(entry.path()) } else { fs::remove_file(entry.path())? }
        }
        if folders.is_empty() {
            return fs::remove_dir(top);
        }
        for folder in folders {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    moved += 1;
                    // A name that is not taken: none of ours, and counted.
                    while top.join(format!("{DOOMED}{moved}")).symlink_metadata().is_ok() {
                        moved += 1;
                    }
                    fs::rename(entry.path(), top.join(format!("{DOOMED}{moved}")))?;
                } else {
                    fs::remove_file(entry.path())?;
                }
            }
            fs::remove_dir(&folder)?;
        }
    }
}

fn open_folder(at: impl AsFd, path: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, path, flags, Mode::empty())?)
}

/// One server for each data folder. The lock is the kernel's and ends with the process, however that ends; the number in the
/// file only tells people which process it is.
fn lock(data: &Path) -> Result<File, FoldersError> {
    let path = data.join("host.lock");
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let mut file = open.map_err(unusable("lock file"))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(FoldersError::InUse { pid: pid_in(&mut file) }),
        Err(error) => return Err(unusable("lock file")(error.into())),
    }
    // Only for whoever meets the lock: a disk that is full keeps no vault from being read.
    let _ = write_pid(&mut file);
    Ok(file)
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn pid_in(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The users of vault processes: numbers that no distribution, container or directory service gives out by itself (systemd's
/// `UIDS-GIDS`, SSSD's default range). The first is for processes that are only examined.
const USERS: Range<u32> = 0x7800_0000..0x7810_0000;
/// Folders inside a vault's own: that of its chains.
const FOLDERS_DEEP: u32 = 1;
/// Entries of one folder: a vault has some, and a chain for each device.
const ENTRIES_MAX: u32 = 4_096;
/// How the folder of a vault begins while it is being removed; no vault id does.
const DOOMED: &str = ".deleted-";

#[cfg(test)]
mod tests {
    use super::*;

    const VAULT: VaultId = VaultId([5; 16]);

    fn share() -> Resting {
        Resting::Plain(share::Share::generate().expect("random bytes"))
    }

    #[test]
    fn a_vault_is_made_once_for_this_user_only_and_deleted_whole() {
        let root = tempfile::tempdir().expect("a folder");
        let folders = Folders::open(&root.path().join("data"), &root.path().join("shares")).expect("opens");
        assert!(!folders.has(VAULT) && folders.share(VAULT).is_none());
        folders.create(VAULT, &share()).expect("made");
        assert!(folders.has(VAULT) && folders.share(VAULT).is_some() && folders.count().expect("counts") == 1);
        for (path, mode) in
            [(folders.of(VAULT), 0o700), (folders.share_path(VAULT), 0o600), (folders.shares.clone(), 0o700)]
        {
            assert_eq!(fs::metadata(path).expect("there").permissions().mode() & 0o777, mode);
        }
        assert!(matches!(folders.create(VAULT, &share()), Err(CreateVaultError::Exists)));
        fs::write(folders.of(VAULT).join("file"), "content").expect("written");
        folders.delete(VAULT).expect("deleted");
        assert!(!folders.has(VAULT) && folders.share(VAULT).is_none());
        assert_eq!(fs::read_dir(&folders.vaults).expect("there").count(), 0);
    }

    #[test]
    fn a_lost_share_is_not_replaced() {
        let root = tempfile::tempdir().expect("a folder");
        let folders = Folders::open(&root.path().join("data"), &root.path().join("shares")).expect("opens");
        folders.create(VAULT, &share()).expect("made");
        fs::remove_file(folders.share_path(VAULT)).expect("removed");
        assert!(matches!(folders.create(VAULT, &share()), Err(CreateVaultError::Exists)));
        assert!(folders.share(VAULT).is_none());
    }

    #[test]
    fn two_servers_on_one_folder_and_shares_inside_are_refused() {
        let root = tempfile::tempdir().expect("a folder");
        let data = root.path().join("data");
        let inside = Folders::open(&data, &data.join("shares")).expect_err("refused");
        assert!(matches!(inside, FoldersError::SharesInside));
        let _first = Folders::open(&data, &root.path().join("shares")).expect("opens");
        let second = Folders::open(&data, &root.path().join("shares")).expect_err("in use");
        assert_eq!(
            second.to_string(),
            format!("another server uses this data folder (process {})", std::process::id())
        );
    }

    #[test]
    fn each_vault_has_a_user_of_its_own_and_all_its_files() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let root = tempfile::tempdir().expect("a folder");
        let open = || Folders::open(&root.path().join("data"), &root.path().join("shares")).expect("opens");
        let folders = open();
        let other = VaultId([6; 16]);
        for vault in [VAULT, other] {
            folders.create(vault, &share()).expect("made");
            fs::create_dir(folders.of(vault).join("chains")).expect("made");
            fs::write(folders.of(vault).join("chains/one"), "content").expect("written");
        }
        let user = |folders: &Folders, vault| folders.for_process(vault).expect("a folder").1.expect("a user").0;
        let first = user(&folders, VAULT);
        assert_ne!(first, user(&folders, other));
        let owner = |path: &str| fs::metadata(folders.of(VAULT).join(path)).expect("there").uid();
        assert_eq!((owner(""), owner("chains"), owner("chains/one")), (first, first, first));
        // Put back by root.
        fs::remove_file(folders.of(VAULT).join("chains/one")).expect("removed");
        fs::write(folders.of(VAULT).join("chains/one"), "content").expect("written");
        drop(folders);
        let folders = open();
        assert_eq!(user(&folders, VAULT), first, "the same after a restart");
        assert_eq!(fs::metadata(folders.of(VAULT).join("chains/one")).expect("there").uid(), first);
        let third = VaultId([7; 16]);
        folders.create(third, &share()).expect("made");
        assert!(![first, user(&folders, other)].contains(&user(&folders, third)));
        // A copy that has the user of another vault gets one of its own.
        give(&open_folder(CWD, folders.of(third)).expect("there"), first, 0).expect("given");
        drop(folders);
        let folders = open();
        let users = [user(&folders, VAULT), user(&folders, other), user(&folders, third)];
        assert_eq!(users.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
    }

    #[test]
    fn what_no_vault_makes_is_refused_and_removed_however_deep() {
        let root = tempfile::tempdir().expect("a folder");
        let folders = Folders::open(&root.path().join("data"), &root.path().join("shares")).expect("opens");
        folders.create(VAULT, &share()).expect("made");
        let mut deep = open_folder(CWD, folders.of(VAULT)).expect("there");
        for _ in 0..2_500 {
            rustix::fs::mkdirat(&deep, "d", Mode::RWXU).expect("made");
            rustix::fs::openat(&deep, "f", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).expect("made");
            deep = open_folder(&deep, "d").expect("there");
        }
        drop(deep);
        if folders.gives_users() {
            assert!(folders.for_process(VAULT).is_err());
        }
        folders.delete(VAULT).expect("deleted");
        assert_eq!(fs::read_dir(&folders.vaults).expect("there").count(), 0);
        // Wide as well.
        folders.create(VAULT, &share()).expect("made");
        for number in 0..=ENTRIES_MAX {
            fs::write(folders.of(VAULT).join(number.to_string()), "").expect("made");
        }
        if folders.gives_users() {
            assert!(folders.for_process(VAULT).is_err());
        }
    }

    #[test]
    fn a_deletion_that_was_cut_off_is_finished() {
        let root = tempfile::tempdir().expect("a folder");
        let (data, shares) = (root.path().join("data"), root.path().join("shares"));
        fs::create_dir_all(data.join("vaults/.deleted-x/deep")).expect("made");
        let folders = Folders::open(&data, &shares).expect("opens");
        assert_eq!(fs::read_dir(&folders.vaults).expect("there").count(), 0);
    }
}

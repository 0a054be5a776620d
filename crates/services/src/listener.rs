//! The socket that clients connect to.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Who may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The user who runs the server: the folder is made 0700, the socket 0600.
    ThisUser,
    /// Every user of the machine: the socket is 0666 and the kernel says who is who (`SO_PEERCRED`). What a client may do is
    /// decided by its keys, not by its user; the user only counts for limits.
    EveryUser,
}

/// Makes the socket at `path`. One that a dead server left is replaced; one that answers is not.
///
/// # Errors
/// `AddrInUse` where another server answers, `AlreadyExists` where something that is no socket is in the way; else as the
/// file system says.
pub fn bind(path: &Path, audience: Audience) -> io::Result<UnixListener> {
    let (folder_mode, socket_mode) = match audience {
        Audience::ThisUser => (0o700, 0o600),
        Audience::EveryUser => (0o755, 0o666),
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        DirBuilder::new().recursive(true).mode(folder_mode).create(folder)?;
    }
    clear_the_way(path)?;
    // Bound under a umask that lets nobody else in, so that there is no moment with a wider mode. It is the whole process's, so
    // it leaves the owner's bits alone: another thread may be making a folder.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let bound = UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = bound?;
    fs::set_permissions(path, Permissions::from_mode(socket_mode))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn clear_the_way(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if !found.file_type().is_socket() => Err(io::ErrorKind::AlreadyExists.into()),
        Ok(_) if UnixStream::connect(path).is_ok() => Err(io::ErrorKind::AddrInUse.into()),
        Ok(_) => fs::remove_file(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_for_whom_it_is_made() {
        let folder = tempfile::tempdir().expect("a folder");
        for (audience, mode) in [(Audience::ThisUser, 0o600), (Audience::EveryUser, 0o666)] {
            let path = folder.path().join(format!("{mode:o}/strongroom.sock"));
            let listener = bind(&path, audience).expect("binds");
            assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, mode);
            assert_eq!(bind(&path, audience).expect_err("in use").kind(), io::ErrorKind::AddrInUse);
            drop(listener);
            bind(&path, audience).expect("a dead server's socket is replaced");
        }
        let file = folder.path().join("file");
        fs::write(&file, "not ours").expect("written");
        assert_eq!(bind(&file, Audience::ThisUser).expect_err("in the way").kind(), io::ErrorKind::AlreadyExists);
    }
}

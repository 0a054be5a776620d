//! From what the system says to what a vault can do about it. Texts name operations and codes, never content: neither SQL
//! nor the messages of SQLite are passed on.

use rusqlite::ErrorCode;
use rustix::io::Errno;
use strongroom_core::records::StoreError;

/// A failure in words of our own.
pub(crate) fn failed(what: &str) -> StoreError {
    StoreError::Failed(what.to_owned())
}

/// Bytes that this program did not write there.
pub(crate) fn damaged(what: impl Into<String>) -> StoreError {
    StoreError::Damaged(what.into())
}

/// An error of reading a file or folder.
pub(crate) fn read_error(what: &str, errno: Errno) -> StoreError {
    match errno {
        // What `O_NOFOLLOW`, `O_DIRECTORY` and `O_NONBLOCK` answer for a link, a file and a fifo or socket without a peer.
        Errno::LOOP => damaged(format!("{what} is a symbolic link")),
        Errno::NOTDIR => damaged(format!("{what} is not a folder")),
        Errno::NXIO | Errno::ISDIR => damaged(format!("{what} is not a regular file")),
        _ => StoreError::Failed(format!("{what}: {errno}")),
    }
}

/// An error of writing a file or changing a folder.
pub(crate) fn write_error(what: &str, errno: Errno) -> StoreError {
    match errno {
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => StoreError::Full,
        Errno::ROFS | Errno::ACCESS | Errno::PERM => StoreError::ReadOnly,
        _ => read_error(what, errno),
    }
}

/// An error of SQLite.
pub(crate) fn sqlite_error(error: &rusqlite::Error) -> StoreError {
    let Some(code) = error.sqlite_error() else {
        // A column of another type than the schema says.
        return damaged("a row has another shape than this program writes");
    };
    match code.code {
        ErrorCode::DiskFull => StoreError::Full,
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => StoreError::ReadOnly,
        ErrorCode::NotADatabase => damaged("it is not a database under this key"),
        ErrorCode::DatabaseCorrupt => damaged("a page does not fit the others"),
        // SQLCipher reports a page that does not authenticate as a plain error. Our statements are fixed and tested, so no
        // other plain error is left.
        ErrorCode::Unknown if code.extended_code == SQLITE_ERROR => damaged("a page does not authenticate"),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => failed("another program has the database open"),
        // Most of all a disk that was turned read-only under an open file.
        _ if WRITE_ERRORS.contains(&code.extended_code) => {
            StoreError::Failed(format!("it refuses to write (SQLite reports code {})", code.extended_code))
        }
        _ => StoreError::Failed(format!("SQLite reports code {}", code.extended_code)),
    }
}

const SQLITE_ERROR: i32 = 1;
/// `SQLITE_IOERR_WRITE`, `_FSYNC`, `_DIR_FSYNC`, `_TRUNCATE`, `_DELETE`, and `_LOCK`, which is taken to write.
const WRITE_ERRORS: [i32; 6] = [778, 1_034, 1_290, 1_546, 2_570, 3_850];

//! SQLite as it comes, with the settings that durability and memory hang on as the store has them.

use rusqlite::Connection;

/// Opens or makes a database; with a key (96 hexadecimal digits: key and salt) it is SQLCipher's.
pub(crate) fn open(path: &std::path::Path, key: Option<&str>) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    if let Some(key) = key {
        connection.execute_batch(&format!("PRAGMA cipher_log_level = NONE; PRAGMA key = \"x'{key}'\""))?;
    }
    connection.execute_batch(
        "PRAGMA locking_mode = EXCLUSIVE; PRAGMA mmap_size = 0; PRAGMA cache_size = -256; PRAGMA synchronous = FULL;
         PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 1000; PRAGMA journal_size_limit = 4194304",
    )?;
    Ok(connection)
}

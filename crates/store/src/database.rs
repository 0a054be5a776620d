//! The encrypted database: how it is opened, its transactions, and the change of its key.
//!
//! - **Key.** SQLCipher 4 with its defaults, given key and salt raw, so that nothing is derived inside it.
//! - **Durability.** Write-ahead log, `synchronous=FULL`: a commit is on the disk when it returns. SQLite moves the log into
//!   the database after every 1,000 pages (4 MiB), inside the commit that fills them, and when it closes; the log's file is
//!   kept at that size, because overwriting is cheaper than growing.
//! - **One process.** `locking_mode=EXCLUSIVE` before the first read: SQLite keeps the index of the write-ahead log in its
//!   heap, and there is no shared-memory file to trust, to truncate or to sync.
//! - **Checks at open.** Key, application id, version and schema are read, which authenticates the pages they lie on. Every
//!   other page is authenticated whenever it is read, and `core` reads every record at open to compare the state root. A
//!   `quick_check` would read the whole file once more (0.4 ms for 100 records, 50 ms for 10,000) and find nothing that
//!   those two do not.

use std::cell::Cell;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, params};
use strongroom_core::records::StoreError;
use strongroom_crypto::secret::DatabaseKey;
use strongroom_wire::limits;
use zeroize::Zeroizing;

use crate::error::{damaged, failed, sqlite_error};
use crate::folder::{DATABASE, FileId, Folder};
use crate::schema::{self, MIGRATIONS};

/// An open database. Dropping it takes back what was not committed, moves the write-ahead log into the file, and wipes the
/// key.
pub(crate) struct Database {
    connection: Connection,
    /// The file that was opened, to see when another lies in its place.
    file: FileId,
    /// Marks of the open transaction.
    marks: u32,
    /// Records that were written, or read in long scans, since memory was given back.
    touched: Cell<usize>,
    pub(crate) bound: Bound,
}

/// How large the file may become.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    bytes_max: u64,
}

impl Bound {
    pub(crate) const USUAL: Self = Self { bytes_max: limits::DATABASE_BYTES_MAX };

    pub(crate) fn of_bytes(bytes_max: u64) -> Self {
        Self { bytes_max }
    }

    fn pages(self) -> u64 {
        self.bytes_max / PAGE_BYTES
    }

    /// Pages at which no more values are taken.
    pub(crate) fn value_pages(self) -> u64 {
        self.pages() - self.pages() * limits::DATABASE_BYTES_RESERVED / limits::DATABASE_BYTES_MAX
    }
}

impl Database {
    /// Makes an empty database beside its place, puts it there when it is whole, and opens it.
    pub(crate) fn create(folder: &Folder, key: &DatabaseKey, bound: Bound) -> Result<Self, StoreError> {
        if folder.regular_file(DATABASE)?.is_some() {
            return Err(failed("there is a database already; it would have to be deleted first"));
        }
        folder.remove_temporaries()?;
        folder.make(COPY)?;
        let connection = connect(folder, COPY, key)?;
        schema::claim(&connection)?;
        settle(&connection)?;
        schema::migrate(&connection, MIGRATIONS)?;
        // Which moves the write-ahead log into the file.
        close(connection)?;
        // A write-ahead log without its database would be taken for this one's.
        remove_companions(folder)?;
        folder.sync_and_rename(COPY, DATABASE)?;
        Self::open(folder, key, bound)
    }

    pub(crate) fn open(folder: &Folder, key: &DatabaseKey, bound: Bound) -> Result<Self, StoreError> {
        let file = folder.regular_file(DATABASE)?.ok_or(StoreError::Missing)?;
        folder.regular_file(WRITE_AHEAD_LOG)?;
        // A vault never writes a rollback journal under this name, and SQLite would play one back.
        folder.remove(JOURNAL)?;
        // SQLCipher takes the salt from the key, and would pass over a changed one in the file.
        if !folder.begins_with(DATABASE, key.salt())? {
            return Err(damaged("it is not a database under this key"));
        }
        let connection = connect(folder, DATABASE, key)?;
        if connection.is_readonly("main").map_err(|error| sqlite_error(&error))? {
            return Err(StoreError::ReadOnly);
        }
        schema::migrate(&connection, MIGRATIONS)?;
        settle(&connection)?;
        // A file that is larger already stays as it is, and does not grow.
        let most: i64 = connection
            .query_row(&format!("PRAGMA max_page_count = {}", bound.pages()), [], |row| row.get(0))
            .map_err(|error| sqlite_error(&error))?;
        debug_assert!(most > 0);
        Ok(Self { connection, file, marks: 0, touched: Cell::new(0), bound })
    }

    /// Writes a copy under another key beside the database, whole, checked and closed, but not in its place.
    pub(crate) fn write_copy(&mut self, folder: &Folder, key: &DatabaseKey) -> Result<(), StoreError> {
        if !self.connection.is_autocommit() {
            return Err(failed("the key cannot change inside a transaction"));
        }
        let written = self.export(folder, key).and_then(|()| check_copy(folder, key)).and_then(|()| {
            // With an empty write-ahead log, nothing but the file itself has to change places.
            let (busy, left): (i64, i64) = self
                .connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok((row.get(0)?, row.get(1)?)))
                .map_err(|error| sqlite_error(&error))?;
            if (busy, left) == (0, 0) { Ok(()) } else { Err(failed("the write-ahead log could not be emptied")) }
        });
        if written.is_err() {
            // Best effort: the next start removes it as well.
            let _ = folder.remove_temporaries();
        }
        written
    }

    /// Puts the copy in the place of the database, which is closed. A crash leaves the one or the other, each whole.
    pub(crate) fn put_copy_in_place(folder: &Folder) -> Result<(), StoreError> {
        remove_companions(folder)?;
        folder.sync_and_rename(COPY, DATABASE)
    }

    pub(crate) fn begin(&mut self, folder: &Folder) -> Result<(), StoreError> {
        if !self.connection.is_autocommit() {
            return Err(failed("a transaction is open already"));
        }
        // A file that was removed or replaced would take every commit along without a word.
        if folder.regular_file(DATABASE)? != Some(self.file) {
            return Err(StoreError::Missing);
        }
        self.marks = 0;
        self.run("BEGIN IMMEDIATE")
    }

    pub(crate) fn mark(&mut self) -> Result<(), StoreError> {
        self.in_transaction()?;
        self.run("SAVEPOINT mark")?;
        self.marks += 1;
        Ok(())
    }

    pub(crate) fn release(&mut self) -> Result<(), StoreError> {
        self.in_transaction()?;
        self.marks = self.marks.checked_sub(1).ok_or_else(|| failed("there is no mark"))?;
        self.run("RELEASE mark")
    }

    pub(crate) fn take_back(&mut self) -> Result<(), StoreError> {
        self.in_transaction()?;
        self.marks = self.marks.checked_sub(1).ok_or_else(|| failed("there is no mark"))?;
        self.run("ROLLBACK TO mark")?;
        self.run("RELEASE mark")
    }

    /// After an error the transaction is to be rolled back; the next commit then overwrites what it left in the write-ahead
    /// log. Only if the last sync fails and the process dies before another commit may it show after all, and then whole:
    /// as after a crash before a commit could be acknowledged.
    pub(crate) fn commit(&mut self) -> Result<(), StoreError> {
        self.in_transaction()?;
        self.run("COMMIT")?;
        if self.touched.get() > TOUCHED_MANY {
            // What an unlock, an import or a long list needed is given back: a host runs many vaults.
            self.touched.set(0);
            // The commit stands, whatever becomes of this.
            let _ = self.run("PRAGMA shrink_memory");
        }
        Ok(())
    }

    /// So many records were written or read.
    pub(crate) fn touched(&self, records: usize) {
        self.touched.set(self.touched.get().saturating_add(records));
    }

    pub(crate) fn roll_back(&mut self) -> Result<(), StoreError> {
        // Some errors, such as a full disk, make SQLite roll back by itself.
        if self.connection.is_autocommit() { Ok(()) } else { self.run("ROLLBACK") }
    }

    /// Refuses a write outside a transaction: it would be durable at once, and alone.
    pub(crate) fn in_transaction(&self) -> Result<(), StoreError> {
        if self.connection.is_autocommit() { Err(failed("no transaction is open")) } else { Ok(()) }
    }

    /// A statement, prepared once.
    pub(crate) fn prepare(&self, sql: &str) -> Result<rusqlite::CachedStatement<'_>, StoreError> {
        self.connection.prepare_cached(sql).map_err(|error| sqlite_error(&error))
    }

    fn run(&self, sql: &str) -> Result<(), StoreError> {
        self.prepare(sql)?.execute([]).map_err(|error| sqlite_error(&error)).map(drop)
    }

    fn export(&self, folder: &Folder, key: &DatabaseKey) -> Result<(), StoreError> {
        folder.remove_temporaries()?;
        folder.make(COPY)?;
        let path = folder.path_of(COPY);
        let path = path.to_str().ok_or_else(|| failed("the folder's path is not UTF-8"))?;
        self.connection
            .execute("ATTACH ?1 AS copy KEY ?2", params![path, *key_text(key)])
            .map_err(|error| sqlite_error(&error))?;
        // What a crash leaves of the copy is thrown away, so it needs no journal, and is synced once, when it is whole.
        let exported = self
            .connection
            .execute_batch(
                "PRAGMA copy.journal_mode = MEMORY; PRAGMA copy.synchronous = OFF; SELECT sqlcipher_export('copy')",
            )
            .map_err(|error| sqlite_error(&error))
            .and_then(|()| schema::copy_marks(&self.connection, "copy"));
        let detached = self.connection.execute_batch("DETACH copy").map_err(|error| sqlite_error(&error));
        exported.and(detached)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.connection.flush_prepared_statement_cache();
    }
}

/// Opens a copy under its key, alone, and reads every page of it.
fn check_copy(folder: &Folder, key: &DatabaseKey) -> Result<(), StoreError> {
    let connection = connect(folder, COPY, key)?;
    schema::migrate(&connection, MIGRATIONS)?;
    settle(&connection)?;
    let verdict: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|error| sqlite_error(&error))?;
    if verdict != "ok" {
        return Err(damaged("the copy under the new key is not whole"));
    }
    close(connection)
}

/// Opens a file under a key, takes the lock on it and reads its schema. A wrong key shows here.
fn connect(folder: &Folder, name: &str, key: &DatabaseKey) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let open = || {
        let connection = Connection::open_with_flags(folder.path_of(name), flags)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        // Under a wrong key nothing must move from the write-ahead log into the file.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        // Or every other range would have a scan prepared anew.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.busy_timeout(Duration::ZERO)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
        connection.execute_batch(QUIET)?;
        let mut pragma = Zeroizing::new(String::with_capacity(KEY_PRAGMA_BYTES));
        pragma.push_str("PRAGMA key = \"");
        pragma.push_str(&key_text(key));
        pragma.push('"');
        connection.execute_batch(&pragma)?;
        connection.execute_batch(SETTINGS)?;
        Ok(connection)
    };
    open().map_err(|error: rusqlite::Error| sqlite_error(&error))
}

/// Turns the write-ahead log on, and trusts the key from here on.
fn settle(connection: &Connection) -> Result<(), StoreError> {
    let settled = || {
        let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        connection.execute_batch(WIPE_MEMORY)?;
        Ok(mode)
    };
    match settled() {
        Ok(mode) if mode == "wal" => Ok(()),
        Ok(_) => Err(failed("the database has no write-ahead log")),
        Err(error) => Err(sqlite_error(&error)),
    }
}

/// Loads what every database needs, once, before processes are forked from this one: ciphers, their random generator, the code of
/// SQLite. What is random is seeded anew in each process: OpenSSL sees that its number is another one.
pub(crate) fn warm() {
    // What is not warm is made when it is needed.
    let _ = (|| {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch(QUIET)?;
        connection.execute_batch(WARM)?;
        MIGRATIONS.iter().try_for_each(|step| connection.execute_batch(step))?;
        connection.close().map_err(|(_, error)| error)
    })();
    // The heap in which SQLCipher keeps keys is locked once, when it is made, and a lock does not outlive a fork: each process
    // makes its own.
    #[allow(unsafe_code, reason = "there is no safe form")]
    // SAFETY: no connection is open, and this process has one thread.
    let done = unsafe { rusqlite::ffi::sqlite3_shutdown() };
    debug_assert_eq!(done, rusqlite::ffi::SQLITE_OK);
}

fn close(connection: Connection) -> Result<(), StoreError> {
    connection.close().map_err(|(_, error)| sqlite_error(&error))
}

/// Removes what lay beside an earlier file under the database's name, durably, before another file takes that name.
fn remove_companions(folder: &Folder) -> Result<(), StoreError> {
    for name in [WRITE_AHEAD_LOG, JOURNAL, "vault.db-shm"] {
        folder.remove(name)?;
    }
    folder.sync()
}

/// The key as SQLCipher takes it: `x'`, 96 digits, `'`.
fn key_text(key: &DatabaseKey) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(KEY_PRAGMA_BYTES));
    text.push_str("x'");
    // EXPOSE: SQLCipher takes its key as text. This copy wipes itself; for those of SQLite see `WIPE_MEMORY`.
    text.push_str(&key.expose_hex());
    text.push('\'');
    text
}

/// A database that is being made or re-encrypted.
const COPY: &str = "vault.db.new";
const WRITE_AHEAD_LOG: &str = "vault.db-wal";
const JOURNAL: &str = "vault.db-journal";

/// SQLCipher's pages, where nothing else is said.
const PAGE_BYTES: u64 = 4_096;
/// Room for the key's text and the words around it, so that it is never moved to a larger place.
const KEY_PRAGMA_BYTES: usize = 128;
/// Statements that stay prepared; six for each table in use.
const STATEMENTS_CACHED: usize = 48;

/// Records after which pages are not kept in memory.
const TOUCHED_MANY: usize = 1_000;

/// A database in memory under a key of its own, so that its pages are encrypted once.
const WARM: &str = "ATTACH ':memory:' AS warm KEY 'no secret'; CREATE TABLE warm.one (value); DETACH warm";

/// A wrong key is an answer, not news for standard error.
const QUIET: &str = "PRAGMA cipher_log_level = NONE";

/// Those before `synchronous` come before the first read. The cache holds what a large import touches between two commits, or
/// each page would be sealed and opened many times over; an ordinary commit touches few pages.
const SETTINGS: &str = "
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA temp_store = MEMORY;
    PRAGMA mmap_size = 0;
    PRAGMA trusted_schema = OFF;
    PRAGMA cell_size_check = ON;
    PRAGMA synchronous = FULL;
    PRAGMA secure_delete = ON;
    PRAGMA cache_size = -4096;
    PRAGMA wal_autocheckpoint = 1000;
    PRAGMA journal_size_limit = 4194304";

/// Everything that SQLite frees is overwritten first: without it, decrypted pages outlive a locked vault in freed memory
/// (`tests/wiped_memory.rs`). It holds for the whole process and cannot be switched off again.
///
/// It also locks every allocation, which costs more than the wiping: two calls of the kernel each, 1.6 ms for an open instead
/// of 0.25. So it comes last, after the many small allocations of reading the schema; what those leave behind lies in blocks
/// that are wiped when the connection closes. A vault's jail refuses both calls, but for the
/// heap in which SQLCipher keeps keys, and locks all memory at once where it can.
const WIPE_MEMORY: &str = "PRAGMA cipher_memory_security = ON";

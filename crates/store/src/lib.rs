//! The folder of one vault: its encrypted SQLite file and the few files beside it. The only SQL of the system.
//!
//! ```text
//! header.a  header.b     written in turn; what a locked vault knows
//! chains/<device id>     one device's credential keys, sealed
//! tail                   what a locked vault logged
//! vault.db               records, log leaves and Merkle nodes; every page encrypted
//! vault.db-wal           commits that are not in vault.db yet; gone after a clean close
//! ```
//!
//! In reading order: [`FileStore`] below; `folder` for files; `database` for opening, transactions and changing the key;
//! `schema` for versions; `records` and `log` for what is in the tables; `error` for what can go wrong.
//!
//! **What is detected here and what is not.** SQLCipher authenticates each page together with its number, so changed, cut or
//! moved bytes are refused, and a write-ahead log of another key as well. An *older* page, file or write-ahead log of the same
//! vault under the same key, put back in its place, is genuine to SQLCipher. `core` finds that: each log leaf commits to a
//! hash over all records, and the header to the size of the log.
//!
//! **What is not promised.** Overwritten and deleted records are gone from the database (`secure_delete`), but their encrypted
//! pages may linger in the write-ahead log until it comes round, and on the disk for as long as the file system and the
//! hardware keep them. The same holds for the old file after a change of keys. What makes such remains worthless is the
//! destruction of the key, not of the bytes.
#![deny(unsafe_code)]

mod folder;

mod database;
mod schema;

mod log;
mod records;

mod error;

use std::path::Path;

use strongroom_core::records::{HeaderCopy, Storage, Table};
use strongroom_crypto::secret::DatabaseKey;
use strongroom_wire::DeviceId;

pub use strongroom_core::records::StoreError;

use crate::database::{Bound, Database};
use crate::error::failed;
use crate::folder::Folder;

/// One vault's folder, held by this process alone. Its database is closed at first.
pub struct FileStore {
    // Before the folder, so that the database is closed while the folder is still locked.
    database: Option<Database>,
    folder: Folder,
    bound: Bound,
}

impl FileStore {
    /// Takes the folder of one vault and removes what a crash left half-written in it.
    ///
    /// The folder exists and is open to its owner only (0700).
    ///
    /// # Errors
    /// When there is no such folder, when others may read it, or when another process holds it.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let folder = Folder::open(folder)?;
        Ok(Self { database: None, folder, bound: Bound::USUAL })
    }

    /// With another bound than [`strongroom_wire::limits::DATABASE_BYTES_MAX`], of which the same part is reserved.
    #[must_use]
    pub fn bytes_max(mut self, bytes: u64) -> Self {
        self.bound = Bound::of_bytes(bytes);
        self
    }

    /// Loads what every database needs, before processes are forked from this one. It holds nothing of a database.
    pub fn warm() {
        database::warm();
    }

    fn database(&mut self) -> Result<&mut Database, StoreError> {
        self.database.as_mut().ok_or_else(not_open)
    }
}

impl Storage for FileStore {
    fn room(&mut self) -> Result<u64, StoreError> {
        self.folder.room()
    }

    fn read_header(&mut self, copy: HeaderCopy) -> Result<Option<Vec<u8>>, StoreError> {
        self.folder.read_header(copy)
    }

    fn write_header(&mut self, copy: HeaderCopy, bytes: &[u8]) -> Result<(), StoreError> {
        self.folder.write_header(copy, bytes)
    }

    fn read_chain(&mut self, device: DeviceId) -> Result<Option<Vec<u8>>, StoreError> {
        self.folder.read_chain(device)
    }

    fn write_chain(&mut self, device: DeviceId, bytes: &[u8]) -> Result<(), StoreError> {
        self.folder.write_chain(device, bytes)
    }

    fn remove_chain(&mut self, device: DeviceId) -> Result<(), StoreError> {
        self.folder.remove_chain(device)
    }

    fn read_tail(&mut self) -> Result<Vec<u8>, StoreError> {
        self.folder.read_tail()
    }

    fn append_tail(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.folder.append_tail(bytes)
    }

    fn cut_tail(&mut self, length: u64) -> Result<(), StoreError> {
        self.folder.cut_tail(length)
    }

    fn clear_tail(&mut self) -> Result<(), StoreError> {
        self.folder.cut_tail(0)
    }

    fn delete_all(&mut self) -> Result<(), StoreError> {
        self.close_database();
        self.folder.delete_all()
    }

    fn create_database(&mut self, key: &DatabaseKey) -> Result<(), StoreError> {
        self.close_database();
        self.database = Some(Database::create(&self.folder, key, self.bound)?);
        Ok(())
    }

    fn open_database(&mut self, key: &DatabaseKey) -> Result<(), StoreError> {
        self.close_database();
        self.database = Some(Database::open(&self.folder, key, self.bound)?);
        Ok(())
    }

    fn rekey_database(&mut self, key: &DatabaseKey) -> Result<(), StoreError> {
        let Self { database, folder, .. } = self;
        database.as_mut().ok_or_else(not_open)?.write_copy(folder, key)?;
        // From here on the copy is whole under its own name; what is left is to put it in place.
        self.close_database();
        Database::put_copy_in_place(&self.folder)?;
        self.database = Some(Database::open(&self.folder, key, self.bound)?);
        Ok(())
    }

    fn close_database(&mut self) {
        self.database = None;
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        let Self { database, folder, .. } = self;
        database.as_mut().ok_or_else(not_open)?.begin(folder)
    }

    fn mark(&mut self) -> Result<(), StoreError> {
        self.database()?.mark()
    }

    fn release(&mut self) -> Result<(), StoreError> {
        self.database()?.release()
    }

    fn take_back(&mut self) -> Result<(), StoreError> {
        self.database()?.take_back()
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let committed = self.database()?.commit();
        if committed.is_err() {
            self.roll_back();
        }
        committed
    }

    fn roll_back(&mut self) {
        // A database that cannot even go back is closed: that goes back in any case.
        if self.database.as_mut().is_some_and(|database| database.roll_back().is_err()) {
            self.close_database();
        }
    }

    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.database()?.get(table, key)
    }

    fn put(&mut self, table: Table, key: &[u8], record: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.database()?.put(table, key, record)
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.database()?.delete(table, key)
    }

    fn scan(
        &mut self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        self.database()?.scan(table, prefix, after, limit)
    }

    fn count(&mut self, table: Table) -> Result<u64, StoreError> {
        self.database()?.count(table)
    }

    fn log_size(&mut self) -> Result<u64, StoreError> {
        self.database()?.log_size()
    }

    fn append_leaf(&mut self, index: u64, leaf: &[u8], first_node: u64, nodes: &[[u8; 32]]) -> Result<(), StoreError> {
        self.database()?.append_leaf(index, leaf, first_node, nodes)
    }

    fn leaves(&mut self, from: u64, count: u64) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.database()?.leaves(from, count)
    }

    fn erase_leaf(&mut self, index: u64) -> Result<(), StoreError> {
        self.database()?.erase_leaf(index)
    }

    fn nodes(&mut self, positions: &[u64]) -> Result<Vec<[u8; 32]>, StoreError> {
        self.database()?.nodes(positions)
    }

    fn leaf_hashes(&mut self, from: u64, count: u64) -> Result<Vec<[u8; 32]>, StoreError> {
        self.database()?.leaf_hashes(from, count)
    }
}

fn not_open() -> StoreError {
    failed("the database is not open")
}

//! What a vault needs of its disk. `store` implements it over files and encrypted SQLite, the simulator over faulty memory.

#[cfg(feature = "contract")]
pub mod contract;

use strongroom_crypto::secret::DatabaseKey;
use strongroom_wire::DeviceId;

/// The tables of the database. Records are JSON; keys are built by the module that owns the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Table {
    /// Items without their secret values: item id → item.
    Items = 1,
    /// Wrapped item keys: item id → wrapped key.
    ItemKeys = 2,
    /// Fields in force: item id, field name → field.
    Fields = 3,
    /// Older versions of fields: item id, field name, 0, version → field.
    History = 4,
    /// Imported items: source, 0, id there → item id.
    Origins = 5,
    /// Signed roster entries of devices: device id → entry.
    Devices = 6,
    /// Signed roster entries of guests: guest id → entry.
    Guests = 7,
    /// Grants: grant id → grant.
    Grants = 8,
    /// Uses of grants: grant id → counts.
    GrantUses = 9,
    /// Handles: handle id → handle.
    Handles = 10,
    /// Questions to the member: approval id → question.
    Approvals = 11,
    /// Ways to unlock: slot id → slot.
    Slots = 12,
    /// Settings: name → value.
    Settings = 13,
    /// Outcomes of requests that presented a credential: device id, request id → outcome.
    Outcomes = 14,
    /// Intents without an outcome yet: log index → intent.
    Intents = 15,
}

impl Table {
    /// Every table.
    pub const ALL: &'static [Self] = &[
        Self::Items,
        Self::ItemKeys,
        Self::Fields,
        Self::History,
        Self::Origins,
        Self::Devices,
        Self::Guests,
        Self::Grants,
        Self::GrantUses,
        Self::Handles,
        Self::Approvals,
        Self::Slots,
        Self::Settings,
        Self::Outcomes,
        Self::Intents,
    ];

    /// Its name, in the database and in the state root.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Items => "items",
            Self::ItemKeys => "item_keys",
            Self::Fields => "fields",
            Self::History => "history",
            Self::Origins => "origins",
            Self::Devices => "devices",
            Self::Guests => "guests",
            Self::Grants => "grants",
            Self::GrantUses => "grant_uses",
            Self::Handles => "handles",
            Self::Approvals => "approvals",
            Self::Slots => "slots",
            Self::Settings => "settings",
            Self::Outcomes => "outcomes",
            Self::Intents => "intents",
        }
    }
}

/// The two files that hold a vault's header in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderCopy {
    /// `header.a`, for even sequences.
    A,
    /// `header.b`, for odd ones.
    B,
}

/// Why the disk did not do what was asked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no room.
    #[error("the disk is full")]
    Full,
    /// The vault holds as many bytes of values as a vault may.
    #[error("the vault holds as much as it may")]
    OverQuota,
    /// The file cannot be written.
    #[error("the vault's files are read-only")]
    ReadOnly,
    /// The database is not there.
    #[error("the database is missing")]
    Missing,
    /// What was read is not what was written, or not under this key.
    #[error("the vault's files are damaged or not of this vault: {0}")]
    Damaged(String),
    /// The database was written by a newer program.
    #[error("the database has schema version {found}, this program knows {known}")]
    TooNew {
        /// Its version.
        found: u32,
        /// The newest version this program knows.
        known: u32,
    },
    /// Anything else the system said; it holds no content.
    #[error("the disk failed: {0}")]
    Failed(String),
}

/// A vault's disk. Files are durable when a call that writes them returns; records and leaves when `commit` does, and they are
/// written only inside a transaction.
pub trait Storage {
    /// Bytes that are free on the disk, for this vault and whatever else lies there.
    fn room(&mut self) -> Result<u64, StoreError>;
    /// One of the two header files; `None` where it is missing.
    fn read_header(&mut self, copy: HeaderCopy) -> Result<Option<Vec<u8>>, StoreError>;
    /// Replaces one of the two header files.
    fn write_header(&mut self, copy: HeaderCopy, bytes: &[u8]) -> Result<(), StoreError>;
    /// A device's chain file.
    fn read_chain(&mut self, device: DeviceId) -> Result<Option<Vec<u8>>, StoreError>;
    /// Replaces a device's chain file.
    fn write_chain(&mut self, device: DeviceId, bytes: &[u8]) -> Result<(), StoreError>;
    /// Removes a device's chain file; not an error where there is none.
    fn remove_chain(&mut self, device: DeviceId) -> Result<(), StoreError>;
    /// The locked vault's log tail, empty where there is none.
    fn read_tail(&mut self) -> Result<Vec<u8>, StoreError>;
    /// Appends to the tail. A crash may leave a part of it; the caller, who can tell by its MACs, cuts that off with `cut_tail`.
    fn append_tail(&mut self, bytes: &[u8]) -> Result<(), StoreError>;
    /// Cuts the tail to its first `length` bytes; does nothing where it is no longer than that.
    fn cut_tail(&mut self, length: u64) -> Result<(), StoreError>;
    /// Empties the tail.
    fn clear_tail(&mut self) -> Result<(), StoreError>;
    /// Removes every file of the vault, headers first.
    fn delete_all(&mut self) -> Result<(), StoreError>;

    /// Makes an empty database and opens it. An error where there is one already.
    fn create_database(&mut self, key: &DatabaseKey) -> Result<(), StoreError>;
    /// Opens the database, moves its schema forward if need be, and checks that it can be read.
    fn open_database(&mut self, key: &DatabaseKey) -> Result<(), StoreError>;
    /// Encrypts the open database anew under `key`, atomically: after a crash it opens under exactly one of the two keys. On an
    /// error it is still open under the old key, or closed.
    fn rekey_database(&mut self, key: &DatabaseKey) -> Result<(), StoreError>;
    /// Closes the database and wipes its key; what was not committed is gone. Does nothing where none is open.
    fn close_database(&mut self);

    /// Begins a transaction; at most one is open.
    fn begin(&mut self) -> Result<(), StoreError>;
    /// Marks a place inside the transaction to go back to. Marks nest.
    fn mark(&mut self) -> Result<(), StoreError>;
    /// Forgets the last mark and keeps what came after it.
    fn release(&mut self) -> Result<(), StoreError>;
    /// Takes back what came after the last mark, and forgets the mark.
    fn take_back(&mut self) -> Result<(), StoreError>;
    /// Makes the transaction durable. On an error nothing of it remains and no transaction is open.
    fn commit(&mut self) -> Result<(), StoreError>;
    /// Takes the whole transaction back.
    fn roll_back(&mut self);

    /// A record.
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    /// Writes a record; answers the one it replaced.
    fn put(&mut self, table: Table, key: &[u8], record: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    /// Removes a record; answers it.
    fn delete(&mut self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    /// Up to `limit` records whose keys start with `prefix` and come after `after`, in the order of their keys.
    fn scan(
        &mut self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError>;
    /// How many records a table holds.
    fn count(&mut self, table: Table) -> Result<u64, StoreError>;

    /// How many leaves the log has.
    fn log_size(&mut self) -> Result<u64, StoreError>;
    /// Appends a leaf, whose index is the log's size, and the Merkle nodes it completes, at consecutive positions of `tlog_tiles::stored_hash_index`.
    fn append_leaf(&mut self, index: u64, leaf: &[u8], first_node: u64, nodes: &[[u8; 32]]) -> Result<(), StoreError>;
    /// A page of leaves, `None` for each that was pruned; shorter at the end of the log.
    fn leaves(&mut self, from: u64, count: u64) -> Result<Vec<Option<Vec<u8>>>, StoreError>;
    /// Destroys a leaf and keeps its nodes.
    fn erase_leaf(&mut self, index: u64) -> Result<(), StoreError>;
    /// Merkle nodes by their positions, in that order; an error where there is none.
    fn nodes(&mut self, positions: &[u64]) -> Result<Vec<[u8; 32]>, StoreError>;
    /// The hashes of a run of leaves; fewer at the end of the log.
    fn leaf_hashes(&mut self, from: u64, count: u64) -> Result<Vec<[u8; 32]>, StoreError>;
}

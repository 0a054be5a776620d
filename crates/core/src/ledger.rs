//! Records and the log together: every change of a record moves the state root, and every event commits to that root.

use std::cell::RefCell;

use serde::{Serialize, de::DeserializeOwned};
use strongroom_crypto::CryptoRng;
use strongroom_crypto::lthash::StateSum;
use strongroom_crypto::secret::StateKey;
use strongroom_crypto::sign::SigningKey;
use strongroom_wire::device::{CheckpointProof, LogPosition};
use strongroom_wire::event::Event;
use strongroom_wire::{Bytes, Code, Refusal, Timestamp, VaultId};
use tlog_tiles::tlog;

use crate::planted::rule;
use crate::records::{Storage, StoreError, Table};

/// The open database of a vault with its log.
pub struct Ledger {
    vault: VaultId,
    state_key: StateKey,
    state: StateSum,
    /// The state at the last commit.
    committed: StateSum,
    size: u64,
    committed_size: u64,
    in_transaction: bool,
    /// Counts transactions: a mark of one that was committed or taken back since marks nothing any more.
    transaction: u64,
    /// The time of the newest event; vault time never goes back behind it.
    last_at: Timestamp,
}

impl Ledger {
    /// Opens the ledger of an open database: the state root is computed from the records and compared with the one that the
    /// newest event commits to.
    ///
    /// # Errors
    /// `store_refused` when they differ: a page or record was put back, or an event was cut off.
    pub fn open<S: Storage>(storage: &mut S, vault: VaultId, state_key: StateKey) -> Result<Self, Refusal> {
        let size = storage.log_size()?;
        let mut ledger = Self::empty(vault, state_key);
        ledger.size = size;
        ledger.committed_size = size;
        ledger.sum_records(storage)?;
        let newest = match size {
            0 => None,
            _ => storage.leaves(size - 1, 1)?.pop().flatten(),
        };
        if let Some(leaf) = newest {
            let event = Event::from_leaf(&leaf).ok_or_else(|| damaged("the newest event cannot be read"))?;
            let hash = storage.leaf_hashes(size - 1, 1)?.pop();
            if hash != Some(strongroom_crypto::digest::leaf_hash(&leaf)) {
                return Err(damaged("the newest event does not fit its hash"));
            }
            let root = ledger.state.root(&ledger.state_key);
            if rule!(16, event.state.to_array() != Some(root), false) {
                return Err(damaged("its records are not those that the newest event commits to"));
            }
            ledger.last_at = event.at;
        } else if size > 0 {
            return Err(damaged("the newest event is missing"));
        }
        ledger.committed = ledger.state.clone();
        Ok(ledger)
    }

    /// The ledger of a new database.
    pub fn empty(vault: VaultId, state_key: StateKey) -> Self {
        Self {
            vault,
            state_key,
            state: StateSum::empty(),
            committed: StateSum::empty(),
            size: 0,
            committed_size: 0,
            in_transaction: false,
            transaction: 0,
            last_at: Timestamp(0),
        }
    }

    /// How many events there are, with those of the open transaction.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether there are events that are not durable yet.
    pub fn has_grown(&self) -> bool {
        self.size != self.committed_size
    }

    /// The time of the newest event.
    pub fn last_at(&self) -> Timestamp {
        self.last_at
    }

    /// Takes a new state key, after the vault key was rotated: the state is computed anew.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub fn rekey<S: Storage>(&mut self, storage: &mut S, state_key: StateKey) -> Result<(), Refusal> {
        self.state_key = state_key;
        self.sum_records(storage)
    }

    fn sum_records<S: Storage>(&mut self, storage: &mut S) -> Result<(), Refusal> {
        self.state = StateSum::empty();
        for table in Table::ALL {
            let mut after: Option<Vec<u8>> = None;
            loop {
                let page = storage.scan(*table, &[], after.as_deref(), SCAN_PAGE)?;
                for (key, record) in &page {
                    self.state.add(&self.state_key, table.as_str(), key, record);
                }
                match page.last() {
                    Some((key, _)) if page.len() == SCAN_PAGE => after = Some(key.clone()),
                    _ => break,
                }
            }
        }
        Ok(())
    }

    /// Whether a transaction is open.
    pub fn in_transaction(&self) -> bool {
        self.in_transaction
    }

    /// Begins a transaction where none is open, and marks a place in it. Marks nest.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn mark<S: Storage>(&mut self, storage: &mut S) -> Result<Mark, StoreError> {
        if !self.in_transaction {
            storage.begin()?;
            self.in_transaction = true;
            self.transaction += 1;
        }
        storage.mark()?;
        Ok(Mark { transaction: self.transaction, size: self.size, state: self.state.clone() })
    }

    /// Keeps what came after a mark.
    ///
    /// # Errors
    /// When the disk fails; the transaction must be rolled back whole.
    pub fn keep<S: Storage>(&mut self, storage: &mut S, mark: &Mark) -> Result<(), StoreError> {
        if self.holds(mark) { storage.release() } else { Ok(()) }
    }

    /// Takes back what came after a mark. Where the transaction was committed in between, that which came after the commit.
    ///
    /// # Errors
    /// When the disk fails; the transaction must be rolled back whole.
    pub fn take_back<S: Storage>(&mut self, storage: &mut S, mark: Mark) -> Result<(), StoreError> {
        if !self.holds(&mark) {
            self.roll_back(storage);
            return Ok(());
        }
        self.state = mark.state;
        self.size = mark.size;
        storage.take_back()
    }

    fn holds(&self, mark: &Mark) -> bool {
        self.in_transaction && self.transaction == mark.transaction
    }

    /// Makes the transaction durable.
    ///
    /// # Errors
    /// When the disk fails; nothing of the transaction remains.
    pub fn commit<S: Storage>(&mut self, storage: &mut S) -> Result<(), StoreError> {
        if !self.in_transaction {
            return Ok(());
        }
        self.in_transaction = false;
        match storage.commit() {
            Ok(()) => {
                self.committed = self.state.clone();
                self.committed_size = self.size;
                Ok(())
            }
            Err(error) => {
                self.state = self.committed.clone();
                self.size = self.committed_size;
                Err(error)
            }
        }
    }

    /// Takes the whole transaction back.
    pub fn roll_back<S: Storage>(&mut self, storage: &mut S) {
        if self.in_transaction {
            storage.roll_back();
        }
        self.in_transaction = false;
        self.state = self.committed.clone();
        self.size = self.committed_size;
    }

    /// A record.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn get<S: Storage, T: DeserializeOwned>(
        &self,
        storage: &mut S,
        table: Table,
        key: &[u8],
    ) -> Result<Option<T>, Refusal> {
        match storage.get(table, key)? {
            Some(record) => parse(&record).map(Some),
            None => Ok(None),
        }
    }

    /// Writes a record.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn put<S: Storage>(
        &mut self,
        storage: &mut S,
        table: Table,
        key: &[u8],
        record: &impl Serialize,
    ) -> Result<(), Refusal> {
        let bytes = serde_json::to_vec(record).map_err(|_| Refusal::new(Code::Bug))?;
        self.put_bytes(storage, table, key, &bytes)
    }

    /// Writes a record that is bytes already.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn put_bytes<S: Storage>(
        &mut self,
        storage: &mut S,
        table: Table,
        key: &[u8],
        bytes: &[u8],
    ) -> Result<(), Refusal> {
        let old = storage.put(table, key, bytes)?;
        if let Some(old) = old {
            self.state.remove(&self.state_key, table.as_str(), key, &old);
        }
        self.state.add(&self.state_key, table.as_str(), key, bytes);
        Ok(())
    }

    /// Removes a record; answers whether there was one.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn delete<S: Storage>(&mut self, storage: &mut S, table: Table, key: &[u8]) -> Result<bool, Refusal> {
        let Some(old) = storage.delete(table, key)? else { return Ok(false) };
        self.state.remove(&self.state_key, table.as_str(), key, &old);
        Ok(true)
    }

    /// All records whose keys start with `prefix`.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn all<S: Storage, T: DeserializeOwned>(
        &self,
        storage: &mut S,
        table: Table,
        prefix: &[u8],
    ) -> Result<Vec<(Vec<u8>, T)>, Refusal> {
        let mut found = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = storage.scan(table, prefix, after.as_deref(), SCAN_PAGE)?;
            let whole = page.len() < SCAN_PAGE;
            after = page.last().map(|(key, _)| key.clone());
            for (key, record) in page {
                found.push((key, parse(&record)?));
            }
            if whole {
                return Ok(found);
            }
        }
    }

    /// Appends an event. It commits to the records as they are now; its index is answered.
    ///
    /// # Errors
    /// When the disk fails: then what it tells of must not happen.
    pub fn log<S: Storage>(
        &mut self,
        storage: &mut S,
        mut event: Event,
        rng: &mut dyn CryptoRng,
    ) -> Result<u64, Refusal> {
        let index = self.size;
        event.at = event.at.max(self.last_at);
        event.state = Bytes::from(self.state.root(&self.state_key));
        let mut salt = [0; 16];
        rng.fill_bytes(&mut salt);
        let leaf = event.to_leaf(&salt);
        let hash = tlog::Hash(strongroom_crypto::digest::leaf_hash(&leaf));
        let nodes = tlog::stored_hashes_for_record_hash(index, hash, &Nodes(RefCell::new(storage)))
            .map_err(|_| Refusal::new(Code::StoreRefused).detail("the log's hashes cannot be read"))?;
        let nodes: Vec<[u8; 32]> = nodes.into_iter().map(|node| node.0).collect();
        storage.append_leaf(index, &leaf, tlog::stored_hash_index(0, index), &nodes)?;
        self.size += 1;
        self.last_at = event.at;
        Ok(index)
    }

    /// Size and root of the log now.
    ///
    /// # Errors
    /// When its hashes cannot be read.
    pub fn position<S: Storage>(&self, storage: &mut S) -> Result<LogPosition, Refusal> {
        self.position_at(storage, self.size)
    }

    /// Root of the log when it had `size` events.
    ///
    /// # Errors
    /// When its hashes cannot be read.
    pub fn position_at<S: Storage>(&self, storage: &mut S, size: u64) -> Result<LogPosition, Refusal> {
        if size == 0 {
            return Ok(LogPosition::default());
        }
        let root = tlog::tree_hash(size, &Nodes(RefCell::new(storage))).map_err(|_| unreadable())?;
        Ok(LogPosition { size, root: Bytes::from(root.0) })
    }

    /// A signed checkpoint of now, with a proof that it extends the log of `from_size` events.
    ///
    /// # Errors
    /// `history_refused` when the log is shorter than that.
    pub fn checkpoint<S: Storage>(
        &self,
        storage: &mut S,
        audit: &AuditKey,
        from_size: u64,
    ) -> Result<CheckpointProof, Refusal> {
        if from_size > self.size {
            return Err(Refusal::new(Code::HistoryRefused).detail("the log is shorter than what this device saw last"));
        }
        let nodes = Nodes(RefCell::new(storage));
        let root = tlog::tree_hash(self.size, &nodes).map_err(|_| unreadable())?;
        let consistency = match from_size {
            0 => Vec::new(),
            same if same == self.size => Vec::new(),
            older => tlog::prove_tree(self.size, older, &nodes).map_err(|_| unreadable())?,
        };
        Ok(CheckpointProof {
            note: checkpoint_note(self.vault, self.size, root, audit)?,
            audit_key: Bytes::from(*audit.key.public().as_bytes()),
            audit_certificate: Bytes::from(audit.certificate.as_slice()),
            from_size,
            consistency: consistency.into_iter().map(|hash| Bytes::from(hash.0)).collect(),
        })
    }

    /// The hashes that prove an event to be in the log of now.
    ///
    /// # Errors
    /// `value_refused` when there is no such event.
    pub fn inclusion<S: Storage>(&self, storage: &mut S, index: u64) -> Result<Vec<Bytes>, Refusal> {
        if index >= self.size {
            return Err(Refusal::new(Code::ValueRefused).detail(format!("the log has {} events", self.size)));
        }
        let proof = tlog::prove_record(self.size, index, &Nodes(RefCell::new(storage))).map_err(|_| unreadable())?;
        Ok(proof.into_iter().map(|hash| Bytes::from(hash.0)).collect())
    }
}

/// A place in a transaction to go back to.
pub struct Mark {
    transaction: u64,
    size: u64,
    state: StateSum,
}

/// The key that signs checkpoints, with the identity's word for it.
pub struct AuditKey {
    /// The key.
    pub key: SigningKey,
    /// The identity's signature.
    pub certificate: [u8; 64],
}

/// The origin line and key name of a vault's checkpoints.
pub fn checkpoint_origin(vault: VaultId) -> String {
    format!("strongroom/vault/{vault}")
}

fn checkpoint_note(vault: VaultId, size: u64, root: tlog::Hash, audit: &AuditKey) -> Result<String, Refusal> {
    let origin = checkpoint_origin(vault);
    let checkpoint = tlog_tiles::Checkpoint::new(&origin, size, root, "").map_err(|_| Refusal::new(Code::Bug))?;
    let text = checkpoint.to_bytes();
    let signature = audit.key.sign_checkpoint_note(&text);
    let id = u32::from_be_bytes(audit.key.public().note_key_id(&origin));
    let signature = signed_note::Signature::new(origin, id, signature.to_vec()).map_err(|_| Refusal::new(Code::Bug))?;
    let note = signed_note::Note::new(&text, &[signature]).map_err(|_| Refusal::new(Code::Bug))?;
    String::from_utf8(note.to_bytes()).map_err(|_| Refusal::new(Code::Bug))
}

/// The stored nodes as the proofs read them.
struct Nodes<'a, S>(RefCell<&'a mut S>);

impl<S: Storage> tlog::HashReader for Nodes<'_, S> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog::Hash>, tlog::Error> {
        let nodes = self.0.borrow_mut().nodes(indexes).map_err(|_| tlog::Error::IndexesNotInTree)?;
        if nodes.len() != indexes.len() {
            return Err(tlog::Error::IndexesNotInTree);
        }
        Ok(nodes.into_iter().map(tlog::Hash).collect())
    }
}

/// Reads a record.
///
/// # Errors
/// `store_refused`: the database holds something that this program did not write.
pub fn parse<T: DeserializeOwned>(record: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(record).map_err(|_| damaged("a record cannot be read"))
}

fn damaged(why: &str) -> Refusal {
    Refusal::new(Code::StoreRefused).detail(format!("The database is damaged or was put back: {why}."))
}

fn unreadable() -> Refusal {
    Refusal::new(Code::StoreRefused).detail("The log's hashes cannot be read.")
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::OverQuota => {
                return Self::new(Code::TooMany)
                    .detail("The vault holds as much as a vault may; nothing was changed. Purge items to make room.");
            }
            StoreError::Full => Code::DiskFull,
            StoreError::Missing | StoreError::Damaged(_) | StoreError::TooNew { .. } => Code::StoreRefused,
            StoreError::ReadOnly | StoreError::Failed(_) => Code::StoreFailed,
        };
        Self::new(code).detail(error.to_string())
    }
}

/// Records read at once while the state is computed.
const SCAN_PAGE: usize = 512;

//! A vault's disk in memory, with everything that can be wrong with a disk.
//!
//! The handle is shared: a vault owns one, and whoever plays the host another. What a vault wrote is durable exactly when
//! [`Storage`] says so; [`Memory::crash`] forgets the rest.

use std::cell::{Ref, RefCell, RefMut};
use std::collections::BTreeMap;
use std::rc::Rc;

use strongroom_core::records::{HeaderCopy, Storage, StoreError, Table};
use strongroom_crypto::secret::DatabaseKey;
use strongroom_wire::{DeviceId, limits};

/// A handle on a disk.
#[derive(Clone, Default)]
pub struct Memory(Rc<RefCell<Disk>>);

/// What a disk does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// There is no room for a commit: the transaction is taken back.
    FullCommit,
    /// There is no room for a record: some disks take back the whole transaction at once.
    FullRecord,
    /// Taking back a part of a transaction fails, and takes back all of it.
    TakeBack,
    /// There is no room for a file: header, chain or tail.
    FullFile,
    /// Nothing can be read from the database.
    Reads,
    /// Everything is read-only.
    ReadOnly,
    /// There is room for what ends or removes something, and for nothing new.
    LittleRoom,
}

/// The files and the database, as the host could copy them.
#[derive(Clone, Default)]
pub struct Files {
    /// `header.a` and `header.b`.
    pub headers: [Option<Vec<u8>>; 2],
    /// The chain files.
    pub chains: BTreeMap<DeviceId, Vec<u8>>,
    /// The locked vault's log tail.
    pub tail: Vec<u8>,
    /// The database.
    pub database: Option<Database>,
}

/// A database and the key that its pages are under.
#[derive(Clone, Default)]
pub struct Database {
    key: String,
    records: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    leaves: Vec<Option<Vec<u8>>>,
    nodes: Vec<[u8; 32]>,
    /// The first node of each leaf.
    firsts: Vec<u64>,
}

impl Database {
    /// Every record, for whoever tampers with one.
    pub fn records(&mut self) -> &mut BTreeMap<(Table, Vec<u8>), Vec<u8>> {
        &mut self.records
    }

    /// Every leaf.
    pub fn leaves(&self) -> &[Option<Vec<u8>>] {
        &self.leaves
    }

    /// Cuts the log.
    pub fn cut_log(&mut self, size: usize) {
        if let Some(first) = self.firsts.get(size) {
            self.nodes.truncate(usize::try_from(*first).unwrap_or(0));
        }
        self.leaves.truncate(size);
        self.firsts.truncate(size);
    }
}

#[derive(Default)]
struct Disk {
    files: Files,
    open: bool,
    /// How to go back, newest last; `None` where no transaction is open.
    undo: Option<Vec<Undo>>,
    marks: Vec<usize>,
    faults: Vec<Fault>,
    /// Durable writes until the machine dies, counted down.
    writes_left: Option<u64>,
    /// Whether the write at which it dies is on the disk all the same.
    last_lands: bool,
    dead: bool,
    writes: u64,
    faults_met: BTreeMap<&'static str, u64>,
}

enum Undo {
    Record(Table, Vec<u8>, Option<Vec<u8>>),
    Leaf,
    Erased(usize, Vec<u8>),
}

/// A write that is durable when it returns.
enum Write<'a> {
    Header(HeaderCopy, &'a [u8]),
    Chain(DeviceId, &'a [u8]),
    ChainGone(DeviceId),
    Tail(&'a [u8]),
    TailCut(usize),
    Commit,
    Rekey(String),
    Create(String),
    Delete,
}

impl Memory {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// A copy of everything that is durable.
    pub fn copy(&self) -> Files {
        let mut files = self.disk().files.clone();
        if let (Some(undo), Some(database)) = (&self.disk().undo, &mut files.database) {
            undo.iter().rev().for_each(|step| step.take_back(database));
        }
        files
    }

    /// Puts files back, as a host could. No vault may have the disk open.
    pub fn put_back(&self, files: Files) {
        let mut disk = self.disk_mut();
        disk.files = files;
        disk.open = false;
        disk.undo = None;
        disk.marks.clear();
    }

    /// The files, for whoever tampers with them.
    pub fn tamper<T>(&self, with: impl FnOnce(&mut Files) -> T) -> T {
        with(&mut self.disk_mut().files)
    }

    /// The machine stops and starts again: what was not durable is gone, and so are the faults.
    pub fn crash(&self) {
        let mut disk = self.disk_mut();
        disk.roll_back();
        disk.open = false;
        disk.dead = false;
        disk.writes_left = None;
        disk.faults.clear();
    }

    /// Lets the machine die at a durable write: the `writes`th from now, counted from 0, which is on the disk all the same
    /// where `lands`. An append that does not land leaves a part of it.
    pub fn die_at(&self, writes: u64, lands: bool) {
        let mut disk = self.disk_mut();
        disk.writes_left = Some(writes);
        disk.last_lands = lands;
    }

    /// Whether the machine died.
    pub fn is_dead(&self) -> bool {
        self.disk().dead
    }

    /// How many durable writes there were.
    pub fn writes(&self) -> u64 {
        self.disk().writes
    }

    /// Does something wrong from now on.
    pub fn fault(&self, fault: Fault) {
        self.disk_mut().faults.push(fault);
    }

    /// Does nothing wrong any more.
    pub fn mend(&self) {
        self.disk_mut().faults.clear();
        self.disk_mut().writes_left = None;
    }

    /// The hashes of the leaves that are durable, from one on.
    pub fn durable_hashes(&self, from: usize) -> Vec<[u8; 32]> {
        let disk = self.disk();
        let Some(database) = &disk.files.database else { return Vec::new() };
        let undone = disk.undo.iter().flatten().filter(|step| matches!(step, Undo::Leaf)).count();
        let size = database.firsts.len() - undone;
        let firsts = database.firsts.get(from..size).unwrap_or_default();
        firsts.iter().filter_map(|first| database.nodes.get(usize::try_from(*first).ok()?)).copied().collect()
    }

    /// How many leaves are durable.
    pub fn durable_size(&self) -> usize {
        let disk = self.disk();
        let undone = disk.undo.iter().flatten().filter(|step| matches!(step, Undo::Leaf)).count();
        disk.files.database.as_ref().map_or(0, |database| database.firsts.len() - undone)
    }

    /// Whether something is wrong with the disk now, or will be.
    pub fn is_faulty(&self) -> bool {
        let disk = self.disk();
        disk.dead || disk.writes_left.is_some() || !disk.faults.is_empty()
    }

    /// How often each fault was met.
    pub fn faults_met(&self) -> BTreeMap<&'static str, u64> {
        self.disk().faults_met.clone()
    }

    fn disk(&self) -> Ref<'_, Disk> {
        self.0.borrow()
    }

    fn disk_mut(&self) -> RefMut<'_, Disk> {
        self.0.borrow_mut()
    }
}

impl Undo {
    fn take_back(&self, database: &mut Database) {
        match self {
            Self::Record(table, key, Some(old)) => {
                database.records.insert((*table, key.clone()), old.clone());
            }
            Self::Record(table, key, None) => {
                database.records.remove(&(*table, key.clone()));
            }
            Self::Leaf => {
                database.leaves.pop();
                let first = database.firsts.pop().unwrap_or(0);
                database.nodes.truncate(usize::try_from(first).unwrap_or(0));
            }
            Self::Erased(index, leaf) => database.leaves[*index] = Some(leaf.clone()),
        }
    }
}

impl Disk {
    fn met(&mut self, what: &'static str) {
        *self.faults_met.entry(what).or_insert(0) += 1;
    }

    fn alive(&self) -> Result<(), StoreError> {
        if self.dead { Err(StoreError::Failed("the machine died".into())) } else { Ok(()) }
    }

    fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// One durable write; the machine may die at it.
    fn write(&mut self, write: Write<'_>) -> Result<(), StoreError> {
        self.alive()?;
        if self.has(Fault::ReadOnly) {
            self.met("read-only");
            return Err(StoreError::ReadOnly);
        }
        let file =
            matches!(write, Write::Header(..) | Write::Chain(..) | Write::Tail(_) | Write::Rekey(_) | Write::Create(_));
        if file && self.has(Fault::FullFile) {
            self.met("full file");
            return Err(StoreError::Full);
        }
        if matches!(write, Write::Commit) && self.has(Fault::FullCommit) {
            self.met("full commit");
            return Err(StoreError::Full);
        }
        self.writes += 1;
        if self.writes_left == Some(0) {
            self.dead = true;
            let lands = self.last_lands;
            self.met(match (&write, lands) {
                (Write::Header(..), false) => "crash before header",
                (Write::Header(..), true) => "crash after header",
                (Write::Chain(..) | Write::ChainGone(_), false) => "crash before chain",
                (Write::Chain(..) | Write::ChainGone(_), true) => "crash after chain",
                (Write::Tail(_) | Write::TailCut(_), false) => "crash in tail",
                (Write::Tail(_) | Write::TailCut(_), true) => "crash after tail",
                (Write::Commit, false) => "crash before commit",
                (Write::Commit, true) => "crash after commit",
                (Write::Rekey(_), false) => "crash before rekey",
                (Write::Rekey(_), true) => "crash after rekey",
                (Write::Create(_) | Write::Delete, false) => "crash before create or delete",
                (Write::Create(_) | Write::Delete, true) => "crash after create or delete",
            });
            if lands {
                self.land(&write);
            } else if let Write::Tail(bytes) = write {
                self.files.tail.extend_from_slice(&bytes[..bytes.len() / 2]);
            }
            return self.alive();
        }
        self.writes_left = self.writes_left.map(|left| left - 1);
        self.land(&write);
        Ok(())
    }

    fn land(&mut self, write: &Write<'_>) {
        let files = &mut self.files;
        match write {
            Write::Header(copy, bytes) => files.headers[place(*copy)] = Some(bytes.to_vec()),
            Write::Chain(device, bytes) => {
                files.chains.insert(*device, bytes.to_vec());
            }
            Write::ChainGone(device) => {
                files.chains.remove(device);
            }
            Write::Tail(bytes) => files.tail.extend_from_slice(bytes),
            Write::TailCut(length) => files.tail.truncate(*length),
            Write::Commit => {
                self.undo = None;
                self.marks.clear();
            }
            Write::Rekey(key) => {
                if let Some(database) = &mut files.database {
                    database.key.clone_from(key);
                }
            }
            Write::Create(key) => {
                files.database = Some(Database { key: key.clone(), ..Database::default() });
                self.open = true;
            }
            Write::Delete => {
                *files = Files::default();
                self.open = false;
            }
        }
    }

    fn roll_back(&mut self) {
        self.marks.clear();
        if let (Some(undo), Some(database)) = (self.undo.take(), &mut self.files.database) {
            undo.iter().rev().for_each(|step| step.take_back(database));
        }
    }

    fn database(&mut self) -> Result<&mut Database, StoreError> {
        self.alive()?;
        if self.has(Fault::Reads) {
            self.met("failing reads");
            return Err(StoreError::Failed("the disk cannot be read".into()));
        }
        match &mut self.files.database {
            Some(database) if self.open => Ok(database),
            _ => Err(StoreError::Failed("no database is open".into())),
        }
    }

    /// The database and the way back, for a change.
    fn change(&mut self) -> Result<(&mut Database, &mut Vec<Undo>), StoreError> {
        self.database()?;
        if self.undo.is_none() {
            return Err(StoreError::Failed("no transaction is open".into()));
        }
        if self.has(Fault::FullRecord) {
            self.met("full record");
            self.roll_back();
            return Err(StoreError::Full);
        }
        match (&mut self.files.database, &mut self.undo) {
            (Some(database), Some(undo)) => Ok((database, undo)),
            _ => Err(StoreError::Failed("no database is open".into())),
        }
    }
}

fn place(copy: HeaderCopy) -> usize {
    usize::from(copy == HeaderCopy::B)
}

impl Storage for Memory {
    fn room(&mut self) -> Result<u64, StoreError> {
        let disk = &mut *self.disk_mut();
        disk.alive()?;
        if disk.has(Fault::LittleRoom) {
            disk.met("little room");
            return Ok(limits::DISK_RESERVE_BYTES - 1);
        }
        Ok(limits::DISK_RESERVE_BYTES)
    }

    fn read_header(&mut self, copy: HeaderCopy) -> Result<Option<Vec<u8>>, StoreError> {
        self.disk().alive()?;
        Ok(self.disk().files.headers[place(copy)].clone())
    }

    fn write_header(&mut self, copy: HeaderCopy, bytes: &[u8]) -> Result<(), StoreError> {
        self.disk_mut().write(Write::Header(copy, bytes))
    }

    fn read_chain(&mut self, device: DeviceId) -> Result<Option<Vec<u8>>, StoreError> {
        self.disk().alive()?;
        Ok(self.disk().files.chains.get(&device).cloned())
    }

    fn write_chain(&mut self, device: DeviceId, bytes: &[u8]) -> Result<(), StoreError> {
        self.disk_mut().write(Write::Chain(device, bytes))
    }

    fn remove_chain(&mut self, device: DeviceId) -> Result<(), StoreError> {
        self.disk_mut().write(Write::ChainGone(device))
    }

    fn read_tail(&mut self) -> Result<Vec<u8>, StoreError> {
        self.disk().alive()?;
        Ok(self.disk().files.tail.clone())
    }

    fn append_tail(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.disk_mut().write(Write::Tail(bytes))
    }

    fn cut_tail(&mut self, length: u64) -> Result<(), StoreError> {
        self.disk_mut().write(Write::TailCut(usize::try_from(length).unwrap_or(usize::MAX)))
    }

    fn clear_tail(&mut self) -> Result<(), StoreError> {
        self.disk_mut().write(Write::TailCut(0))
    }

    fn delete_all(&mut self) -> Result<(), StoreError> {
        let disk = &mut *self.disk_mut();
        disk.roll_back();
        disk.write(Write::Delete)
    }

    fn create_database(&mut self, key: &DatabaseKey) -> Result<(), StoreError> {
        let disk = &mut *self.disk_mut();
        if disk.files.database.is_some() {
            return Err(StoreError::Failed("there is a database already".into()));
        }
        disk.write(Write::Create(key.expose_hex().to_string()))
    }

    fn open_database(&mut self, key: &DatabaseKey) -> Result<(), StoreError> {
        let disk = &mut *self.disk_mut();
        disk.alive()?;
        disk.roll_back();
        disk.open = false;
        if disk.has(Fault::Reads) {
            disk.met("failing reads");
            return Err(StoreError::Failed("the disk cannot be read".into()));
        }
        match &disk.files.database {
            None => Err(StoreError::Missing),
            Some(database) if database.key != *key.expose_hex() => {
                Err(StoreError::Damaged("not under this key".into()))
            }
            Some(_) => {
                disk.open = true;
                Ok(())
            }
        }
    }

    fn rekey_database(&mut self, key: &DatabaseKey) -> Result<(), StoreError> {
        let disk = &mut *self.disk_mut();
        disk.database()?;
        if disk.undo.is_some() {
            return Err(StoreError::Failed("the key cannot change inside a transaction".into()));
        }
        disk.write(Write::Rekey(key.expose_hex().to_string()))
    }

    fn close_database(&mut self) {
        let disk = &mut *self.disk_mut();
        disk.roll_back();
        disk.open = false;
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        let disk = &mut *self.disk_mut();
        disk.database()?;
        if disk.undo.is_some() {
            return Err(StoreError::Failed("a transaction is open already".into()));
        }
        disk.undo = Some(Vec::new());
        disk.marks.clear();
        Ok(())
    }

    fn mark(&mut self) -> Result<(), StoreError> {
        let disk = &mut *self.disk_mut();
        disk.alive()?;
        let undo = disk.undo.as_ref().ok_or_else(no_transaction)?;
        disk.marks.push(undo.len());
        Ok(())
    }

    fn release(&mut self) -> Result<(), StoreError> {
        let disk = &mut *self.disk_mut();
        disk.alive()?;
        disk.undo.as_ref().ok_or_else(no_transaction)?;
        disk.marks.pop().ok_or_else(no_mark).map(drop)
    }

    fn take_back(&mut self) -> Result<(), StoreError> {
        let disk = &mut *self.disk_mut();
        disk.alive()?;
        if disk.has(Fault::TakeBack) && !disk.marks.is_empty() {
            disk.met("take back");
            disk.roll_back();
            return Err(StoreError::Failed("a part could not be taken back".into()));
        }
        let undo = disk.undo.as_mut().ok_or_else(no_transaction)?;
        let mark = disk.marks.pop().ok_or_else(no_mark)?;
        let back = undo.split_off(mark);
        if let Some(database) = &mut disk.files.database {
            back.iter().rev().for_each(|step| step.take_back(database));
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let disk = &mut *self.disk_mut();
        if disk.undo.is_none() {
            return Err(no_transaction());
        }
        let done = if disk.undo.as_ref().is_some_and(Vec::is_empty) {
            // There is nothing to write.
            disk.alive().map(|()| disk.land(&Write::Commit))
        } else {
            disk.write(Write::Commit)
        };
        if done.is_err() {
            disk.roll_back();
        }
        done
    }

    fn roll_back(&mut self) {
        self.disk_mut().roll_back();
    }

    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.disk_mut().database()?.records.get(&(table, key.to_vec())).cloned())
    }

    fn put(&mut self, table: Table, key: &[u8], record: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let mut disk = self.disk_mut();
        let (database, undo) = disk.change()?;
        let old = database.records.insert((table, key.to_vec()), record.to_vec());
        undo.push(Undo::Record(table, key.to_vec(), old.clone()));
        Ok(old)
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let mut disk = self.disk_mut();
        let (database, undo) = disk.change()?;
        let old = database.records.remove(&(table, key.to_vec()));
        if old.is_some() {
            undo.push(Undo::Record(table, key.to_vec(), old.clone()));
        }
        Ok(old)
    }

    fn scan(
        &mut self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        let mut disk = self.disk_mut();
        let records = &disk.database()?.records;
        let from = after.filter(|after| *after > prefix).unwrap_or(prefix).to_vec();
        Ok(records
            .range((table, from)..)
            .take_while(|((of, key), _)| *of == table && key.starts_with(prefix))
            .filter(|((_, key), _)| after.is_none_or(|after| key.as_slice() > after))
            .take(limit)
            .map(|((_, key), record)| (key.clone(), record.clone()))
            .collect())
    }

    fn count(&mut self, table: Table) -> Result<u64, StoreError> {
        let mut disk = self.disk_mut();
        let records = &disk.database()?.records;
        Ok(records.range((table, Vec::new())..).take_while(|((of, _), _)| *of == table).count() as u64)
    }

    fn log_size(&mut self) -> Result<u64, StoreError> {
        Ok(self.disk_mut().database()?.leaves.len() as u64)
    }

    fn append_leaf(&mut self, index: u64, leaf: &[u8], first_node: u64, nodes: &[[u8; 32]]) -> Result<(), StoreError> {
        let mut disk = self.disk_mut();
        let (database, undo) = disk.change()?;
        if index != database.leaves.len() as u64 || first_node != database.nodes.len() as u64 {
            return Err(StoreError::Failed("a leaf is not the next one".into()));
        }
        database.leaves.push(Some(leaf.to_vec()));
        database.firsts.push(first_node);
        database.nodes.extend_from_slice(nodes);
        undo.push(Undo::Leaf);
        Ok(())
    }

    fn leaves(&mut self, from: u64, count: u64) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let mut disk = self.disk_mut();
        Ok(page(&disk.database()?.leaves, from, count).to_vec())
    }

    fn erase_leaf(&mut self, index: u64) -> Result<(), StoreError> {
        let mut disk = self.disk_mut();
        let (database, undo) = disk.change()?;
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let place = database.leaves.get_mut(index).ok_or_else(|| StoreError::Failed("there is no such leaf".into()))?;
        if let Some(leaf) = place.take() {
            undo.push(Undo::Erased(index, leaf));
        }
        Ok(())
    }

    fn nodes(&mut self, positions: &[u64]) -> Result<Vec<[u8; 32]>, StoreError> {
        let mut disk = self.disk_mut();
        let nodes = &disk.database()?.nodes;
        let node = |position: &u64| usize::try_from(*position).ok().and_then(|position| nodes.get(position)).copied();
        positions
            .iter()
            .map(|position| node(position).ok_or_else(|| StoreError::Damaged("a node is missing".into())))
            .collect()
    }

    fn leaf_hashes(&mut self, from: u64, count: u64) -> Result<Vec<[u8; 32]>, StoreError> {
        let mut disk = self.disk_mut();
        let database = disk.database()?;
        let firsts = page(&database.firsts, from, count);
        let node = |first: &u64| usize::try_from(*first).ok().and_then(|first| database.nodes.get(first)).copied();
        firsts.iter().map(|first| node(first).ok_or_else(|| StoreError::Damaged("a node is missing".into()))).collect()
    }
}

fn page<T>(all: &[T], from: u64, count: u64) -> &[T] {
    let from = usize::try_from(from).unwrap_or(usize::MAX).min(all.len());
    let until = from.saturating_add(usize::try_from(count).unwrap_or(usize::MAX)).min(all.len());
    &all[from..until]
}

fn no_transaction() -> StoreError {
    StoreError::Failed("no transaction is open".into())
}

fn no_mark() -> StoreError {
    StoreError::Failed("there is no mark".into())
}

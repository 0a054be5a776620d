//! What every [`Storage`] must do, as a test that its implementations share: a script of bytes is played on the storage and on
//! a model in memory, and every answer is compared. Any bytes are a script, so a property test can shrink them, a simulator
//! draw them from its seed and a fuzzer choose them.

use std::collections::BTreeMap;

use strongroom_crypto::secret::DatabaseKey;
use strongroom_wire::DeviceId;

use super::{HeaderCopy, Storage, StoreError, Table};

/// Plays a script on the database of an empty storage, opening and changing keys as it says.
///
/// # Panics
/// When the storage answers otherwise than the model.
pub fn check_records(storage: &mut impl Storage, keys: [&DatabaseKey; 2], script: &[u8]) {
    storage.create_database(keys[0]).expect("an empty storage takes a database");
    refused(storage.create_database(keys[0]), "a database is not overwritten");
    storage.open_database(keys[0]).expect("what was created opens");
    let mut player = Player { storage, keys, key: 0, committed: Model::default(), now: None, marks: Vec::new() };
    let mut script = Script(script.iter());
    while let Some(step) = script.0.next() {
        player.step(*step, &mut script);
    }
    player.reopen();
    player.compare_all();
}

/// Writes, reads, cuts and deletes the files of an empty storage.
///
/// # Panics
/// When the storage answers otherwise than it should.
pub fn check_files(storage: &mut impl Storage, key: &DatabaseKey) {
    let (a, b) = (DeviceId([1; 16]), DeviceId([2; 16]));
    for (copy, other) in [(HeaderCopy::A, HeaderCopy::B), (HeaderCopy::B, HeaderCopy::A)] {
        assert_eq!(storage.read_header(copy), Ok(None));
        storage.write_header(copy, b"first").expect("a header is written");
        storage.write_header(copy, b"second").expect("a header is replaced");
        assert_eq!(storage.read_header(copy), Ok(Some(b"second".to_vec())));
        storage.write_header(other, b"other").expect("a header is written");
        assert_eq!(storage.read_header(copy), Ok(Some(b"second".to_vec())));
        storage.delete_all().expect("all is deleted");
    }

    storage.remove_chain(a).expect("removing what is not there is no error");
    assert_eq!(storage.read_chain(a), Ok(None));
    storage.write_chain(a, b"chain a").expect("a chain is written");
    storage.write_chain(b, b"chain b").expect("a chain is written");
    storage.write_chain(a, b"").expect("a chain is replaced");
    assert_eq!(storage.read_chain(a), Ok(Some(Vec::new())));
    storage.remove_chain(a).expect("a chain is removed");
    assert_eq!(storage.read_chain(a), Ok(None));
    assert_eq!(storage.read_chain(b), Ok(Some(b"chain b".to_vec())));

    storage.clear_tail().expect("clearing what is not there is no error");
    storage.cut_tail(3).expect("cutting what is not there is no error");
    assert_eq!(storage.read_tail(), Ok(Vec::new()));
    storage.append_tail(b"one").expect("the tail grows");
    storage.append_tail(b"two").expect("the tail grows");
    assert_eq!(storage.read_tail(), Ok(b"onetwo".to_vec()));
    storage.cut_tail(7).expect("cutting behind the end is no error");
    storage.cut_tail(4).expect("the tail is cut");
    storage.append_tail(b"three").expect("the tail grows");
    assert_eq!(storage.read_tail(), Ok(b"onetthree".to_vec()));
    storage.clear_tail().expect("the tail is cleared");
    assert_eq!(storage.read_tail(), Ok(Vec::new()));
    storage.append_tail(b"new").expect("the tail grows");

    refused(storage.open_database(key), "there is no database");
    refused(storage.get(Table::Items, b""), "no database is open");
    refused(storage.begin(), "no database is open");
    storage.close_database();
    storage.create_database(key).expect("a database is made");
    storage.delete_all().expect("all is deleted");
    refused(storage.get(Table::Items, b""), "no database is open");
    refused(storage.open_database(key), "there is no database");
    assert_eq!(storage.read_chain(b), Ok(None));
    assert_eq!(storage.read_tail(), Ok(Vec::new()));
    storage.create_database(key).expect("a database is made anew");
    assert_eq!(storage.count(Table::Items), Ok(0));
    storage.delete_all().expect("all is deleted");
}

struct Player<'a, S> {
    storage: &'a mut S,
    keys: [&'a DatabaseKey; 2],
    key: usize,
    committed: Model,
    /// The open transaction, if any.
    now: Option<Model>,
    marks: Vec<Model>,
}

#[derive(Clone, Default)]
struct Model {
    records: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    leaves: Vec<Option<Vec<u8>>>,
    /// By position, with the leaf that each belongs to.
    nodes: Vec<([u8; 32], usize)>,
}

impl<S: Storage> Player<'_, S> {
    fn step(&mut self, step: u8, script: &mut Script<'_>) {
        match step % 23 {
            0 => self.begin(),
            1 | 2 => self.mark(),
            3 => self.release(),
            4 => self.take_back(),
            5 => self.commit(),
            6 => self.roll_back(),
            7..=11 => self.put(script),
            12 | 13 => self.delete(script),
            14 => self.scan(script),
            15..=17 => self.append_leaf(script),
            18 => self.erase_leaf(script),
            19 => self.read_log(script),
            20 => self.reopen(),
            21 => self.rekey(),
            _ => self.compare_all(),
        }
    }

    fn model(&self) -> &Model {
        self.now.as_ref().unwrap_or(&self.committed)
    }

    fn begin(&mut self) {
        let begun = self.storage.begin();
        if self.now.is_some() {
            refused(begun, "at most one transaction is open");
        } else {
            begun.expect("a transaction begins");
            self.now = Some(self.committed.clone());
        }
    }

    fn mark(&mut self) {
        let marked = self.storage.mark();
        match &self.now {
            Some(now) => {
                marked.expect("a place is marked");
                self.marks.push(now.clone());
            }
            None => refused(marked, "there is nothing to mark a place in"),
        }
    }

    fn release(&mut self) {
        let released = self.storage.release();
        match self.marks.pop() {
            Some(_) => released.expect("a mark is forgotten"),
            None => refused(released, "there is no mark"),
        }
    }

    fn take_back(&mut self) {
        let taken = self.storage.take_back();
        match self.marks.pop() {
            Some(marked) => {
                taken.expect("what came after a mark is taken back");
                self.now = Some(marked);
            }
            None => refused(taken, "there is no mark"),
        }
    }

    fn commit(&mut self) {
        let committed = self.storage.commit();
        self.marks.clear();
        match self.now.take() {
            Some(now) => {
                committed.expect("a transaction is made durable");
                self.committed = now;
            }
            None => refused(committed, "there is nothing to commit"),
        }
    }

    fn roll_back(&mut self) {
        self.storage.roll_back();
        self.now = None;
        self.marks.clear();
    }

    fn put(&mut self, script: &mut Script<'_>) {
        let (table, key, record) = (script.table(), script.key(), script.record());
        let before = self.storage.put(table, &key, &record);
        match &mut self.now {
            Some(now) => assert_eq!(before, Ok(now.records.insert((table, key), record))),
            None => refused(before, "a write needs a transaction"),
        }
    }

    fn delete(&mut self, script: &mut Script<'_>) {
        let (table, key) = (script.table(), script.key());
        let before = self.storage.delete(table, &key);
        match &mut self.now {
            Some(now) => assert_eq!(before, Ok(now.records.remove(&(table, key)))),
            None => refused(before, "a write needs a transaction"),
        }
    }

    fn scan(&mut self, script: &mut Script<'_>) {
        let (table, prefix, limit) = (script.table(), script.key(), usize::from(script.byte() % 5));
        let after = (script.byte() % 2 == 1).then(|| script.key());
        let expected: Vec<_> = self
            .model()
            .records
            .iter()
            .filter(|((of, key), _)| *of == table && key.starts_with(&prefix))
            .filter(|((_, key), _)| after.as_ref().is_none_or(|after| key > after))
            .take(limit)
            .map(|((_, key), record)| (key.clone(), record.clone()))
            .collect();
        assert_eq!(self.storage.scan(table, &prefix, after.as_deref(), limit), Ok(expected));
    }

    fn append_leaf(&mut self, script: &mut Script<'_>) {
        let leaf = script.record();
        let (size, first) = (self.model().leaves.len(), self.model().nodes.len());
        let nodes: Vec<[u8; 32]> = (0..=size.trailing_ones()).map(|_| [script.byte(); 32]).collect();
        let appended = self.storage.append_leaf(size as u64, &leaf, first as u64, &nodes);
        let Some(now) = &mut self.now else { return refused(appended, "a write needs a transaction") };
        appended.expect("a leaf is appended");
        now.leaves.push(Some(leaf));
        now.nodes.extend(nodes.iter().map(|node| (*node, size)));
        refused(self.storage.append_leaf(size as u64, b"", first as u64, &nodes), "a leaf is appended once");
        let beyond = self.storage.append_leaf(size as u64 + 2, b"", first as u64, &nodes);
        refused(beyond, "leaves are appended without gaps");
    }

    fn erase_leaf(&mut self, script: &mut Script<'_>) {
        let index = usize::from(script.byte() % 8);
        let erased = self.storage.erase_leaf(index as u64);
        match &mut self.now {
            Some(now) if index < now.leaves.len() => {
                erased.expect("a leaf is erased");
                now.leaves[index] = None;
            }
            _ => refused(erased, "there is no leaf to erase, or no transaction"),
        }
    }

    fn read_log(&mut self, script: &mut Script<'_>) {
        let (from, count) = (usize::from(script.byte() % 8), usize::from(script.byte() % 8));
        let model = self.model();
        let leaves: Vec<_> = model.leaves.iter().skip(from).take(count).cloned().collect();
        let hashes: Vec<_> = own_hashes(model).into_iter().skip(from).take(count).collect();
        let positions: Vec<u64> = (0..model.nodes.len() as u64).rev().skip(from).take(count).collect();
        let nodes: Vec<_> = model.nodes.iter().rev().skip(from).take(count).map(|(node, _)| *node).collect();
        let beyond = model.nodes.len() as u64;
        assert_eq!(self.storage.leaves(from as u64, count as u64), Ok(leaves));
        assert_eq!(self.storage.leaf_hashes(from as u64, count as u64), Ok(hashes));
        assert_eq!(self.storage.nodes(&positions), Ok(nodes));
        refused(self.storage.nodes(&[beyond]), "there is no such node");
        refused(self.storage.nodes(&[u64::MAX]), "there is no such node");
        assert_eq!(self.storage.leaves(u64::MAX, u64::MAX), Ok(Vec::new()));
    }

    /// Closes the database, which takes an open transaction back, and tries both keys.
    fn reopen(&mut self) {
        self.storage.close_database();
        self.now = None;
        self.marks.clear();
        refused(self.storage.open_database(self.keys[1 - self.key]), "another key does not open it");
        refused(self.storage.get(Table::Items, b""), "no database is open");
        self.storage.open_database(self.keys[self.key]).expect("its key opens it");
    }

    fn rekey(&mut self) {
        let rekeyed = self.storage.rekey_database(self.keys[1 - self.key]);
        if self.now.is_some() {
            refused(rekeyed, "the key does not change inside a transaction");
        } else {
            rekeyed.expect("the key changes");
            self.key = 1 - self.key;
        }
    }

    fn compare_all(&mut self) {
        let model = self.model().clone();
        for table in Table::ALL {
            let of_table = |((of, _), _): &(&(Table, Vec<u8>), &Vec<u8>)| of == table;
            let expected: Vec<_> =
                model.records.iter().filter(of_table).map(|((_, key), record)| (key.clone(), record.clone())).collect();
            for (key, record) in &expected {
                assert_eq!(self.storage.get(*table, key), Ok(Some(record.clone())));
            }
            assert_eq!(self.storage.get(*table, b"no such key"), Ok(None));
            assert_eq!(self.storage.count(*table), Ok(expected.len() as u64));
            assert_eq!(self.storage.scan(*table, b"", None, usize::MAX), Ok(expected));
        }
        assert_eq!(self.storage.log_size(), Ok(model.leaves.len() as u64));
        assert_eq!(self.storage.leaves(0, u64::MAX), Ok(model.leaves.clone()));
        assert_eq!(self.storage.leaf_hashes(0, u64::MAX), Ok(own_hashes(&model)));
        let positions: Vec<u64> = (0..model.nodes.len() as u64).collect();
        assert_eq!(self.storage.nodes(&positions), Ok(model.nodes.iter().map(|(node, _)| *node).collect()));
    }
}

fn refused<T>(answer: Result<T, StoreError>, why: &str) {
    assert!(answer.is_err(), "expected a refusal: {why}");
}

/// The first node of each leaf.
fn own_hashes(model: &Model) -> Vec<[u8; 32]> {
    let mut hashes: Vec<[u8; 32]> = Vec::with_capacity(model.leaves.len());
    for (node, leaf) in &model.nodes {
        if *leaf == hashes.len() {
            hashes.push(*node);
        }
    }
    hashes
}

/// Bytes that say what to do; zeros where they end.
struct Script<'a>(std::slice::Iter<'a, u8>);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        self.0.next().copied().unwrap_or_default()
    }

    fn table(&mut self) -> Table {
        [Table::Items, Table::History, Table::Intents][usize::from(self.byte() % 3)]
    }

    /// Few keys, so that they meet; with both ends of what a byte can be.
    fn key(&mut self) -> Vec<u8> {
        (0..self.byte() % 4).map(|_| [0x00, 0x61, 0xff][usize::from(self.byte() % 3)]).collect()
    }

    /// Short ones and some that need more than one page.
    fn record(&mut self) -> Vec<u8> {
        let (length, byte) = (usize::from(self.byte()), self.byte());
        vec![byte; if length < 200 { length } else { length * 64 }]
    }
}

//! What the tests of the store share.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rand_core::{TryCryptoRng, TryRng};
use strongroom_core::records::{Storage, Table};
use strongroom_crypto::secret::{DatabaseKey, VaultKey};
use strongroom_store::FileStore;

pub const ITEMS: Table = Table::Items;

/// A folder that is removed afterwards, and a key by number.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        let only_mine = std::fs::Permissions::from_mode(0o700);
        Self(tempfile::Builder::new().permissions(only_mine).tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn store(&self) -> FileStore {
        open(self.path())
    }

    /// A store with a new database under key 1, open.
    pub fn created(&self) -> FileStore {
        let mut store = self.store();
        store.create_database(&key(1)).unwrap();
        store
    }

    /// The store with its database open under key 1.
    pub fn opened(&self) -> FileStore {
        let mut store = self.store();
        store.open_database(&key(1)).unwrap();
        store
    }

    /// Every file with its bytes, in folders too.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// Opens a store. Between fork and exec, a child that another test starts holds every lock of this program too: a moment's
/// patience.
pub fn open(folder: &Path) -> FileStore {
    for _ in 0..500 {
        match FileStore::open(folder) {
            Err(busy) if busy.to_string().contains("another process") => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            other => return other.unwrap(),
        }
    }
    panic!("the lock on the folder is never given back");
}

/// A fixed key for each number.
pub fn key(number: u8) -> DatabaseKey {
    VaultKey::generate(&mut Fixed(number)).derive_database_key(&[number; 16], 1)
}

/// The key of a generation; that of the first is `key(1)`.
pub fn key_of_generation(generation: u32) -> DatabaseKey {
    VaultKey::generate(&mut Fixed(1)).derive_database_key(&[1; 16], generation)
}

/// Not random at all.
struct Fixed(u8);

impl TryRng for Fixed {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_be_bytes([self.0; 4]))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_be_bytes([self.0; 8]))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.fill(self.0);
        Ok(())
    }
}

impl TryCryptoRng for Fixed {}

/// Numbers that look random, from a seed.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

/// Writes records 0 to `count` of a table, each in one transaction with the others.
pub fn fill(store: &mut FileStore, count: u64, bytes: usize) {
    store.begin().unwrap();
    for number in 0..count {
        store.put(ITEMS, &number.to_be_bytes(), &vec![number.to_be_bytes()[7]; bytes]).unwrap();
    }
    store.commit().unwrap();
}

/// Puts one record in a transaction of its own.
pub fn put(store: &mut FileStore, key: &[u8], record: &[u8]) {
    store.begin().unwrap();
    store.put(ITEMS, key, record).unwrap();
    store.commit().unwrap();
}

/// Appends a leaf whose nodes are all the leaf's first bytes.
pub fn append(store: &mut FileStore, leaf: &[u8]) {
    let index = store.log_size().unwrap();
    let nodes = vec![[leaf[0]; 32]; index.trailing_ones() as usize + 1];
    store.append_leaf(index, leaf, index * 2 - u64::from(index.count_ones()), &nodes).unwrap();
}

/// This test program, about to run one of its ignored tests as a child with a role.
pub fn child(test: &str, role: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(child_args(test)).env("STORE_ROLE", role).env("STORE_FOLDER", folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub fn child_args(test: &str) -> [&str; 5] {
    [test, "--exact", "--ignored", "--nocapture", "--quiet"]
}

/// Role and folder, in a child.
pub fn role() -> Option<(String, PathBuf)> {
    Some((std::env::var("STORE_ROLE").ok()?, std::env::var_os("STORE_FOLDER")?.into()))
}

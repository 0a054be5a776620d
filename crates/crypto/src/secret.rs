//! The keys of a vault as opaque types, and how each comes from another (section 3).
//!
//! A key is 32 bytes in locked memory. None can be cloned, printed, compared or serialised; only a key that has to be written
//! down somewhere else (the host share in its key file, the credential keys in a chain file) can be taken out, and that call
//! is named `expose`.

use std::fmt::Write as _;

use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::{CryptoRng, Id, digest::hkdf_sha256, locked::Block, tuple::Tuple};

/// Wraps the [`ItemKey`]s of one vault, and everything else inside a vault derives from it. Rotating it re-wraps item keys
/// and leaves items as they are.
pub struct VaultKey(pub(crate) Key32);

/// Seals the secret fields of one item. It is stored only wrapped by the vault key.
pub struct ItemKey(pub(crate) Key32);

/// What a host holds for one member, so that a stolen database is of no use.
pub struct HostShare(pub(crate) Key32);

/// Seals the sealed part of the header.
pub struct HeaderKey(pub(crate) Key32);

/// Authenticates the log entries that a locked vault writes.
pub struct TailKey(pub(crate) Key32);

/// Keys the state root of a vault.
pub struct StateKey(pub(crate) Key32);

/// Seals the chain file of one device.
pub struct ChainKey(pub(crate) Key32);

/// Seals one blob of one device's chain; a fresh one for each.
pub struct CredentialKey(pub(crate) Key32);

/// Encrypts the pages of one vault's database: key and SQLCipher salt, 48 bytes.
pub struct DatabaseKey {
    key: Key32,
    salt: [u8; 16],
}

impl VaultKey {
    /// A fresh random key.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self(Key32::generate(rng))
    }

    /// Derives the key and the salt of the encrypted database. `generation` counts the rotations of the vault key from 1, so
    /// no rotation brings an old one back.
    pub fn derive_database_key(&self, vault: &Id, generation: u32) -> DatabaseKey {
        let parts: [&[u8]; 2] = [vault, &generation.to_be_bytes()];
        let derived = derive(&self.0, "database-salt", &parts);
        let mut salt = [0; 16];
        // EXPOSE: the first half is a salt, stored in the clear in the file's first bytes.
        salt.copy_from_slice(&derived.expose()[..16]);
        DatabaseKey { key: derive(&self.0, "database", &parts), salt }
    }

    /// Derives the key of the state root.
    pub fn derive_state_key(&self, vault: &Id, generation: u32) -> StateKey {
        StateKey(derive(&self.0, "state", &[vault, &generation.to_be_bytes()]))
    }

    /// Derives the key of one device's chain file.
    pub fn derive_chain_key(&self, vault: &Id, device: &Id) -> ChainKey {
        ChainKey(derive(&self.0, "chain", &[vault, device]))
    }
}

impl ItemKey {
    /// A fresh random key.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self(Key32::generate(rng))
    }
}

impl HostShare {
    /// A fresh random share.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self(Key32::generate(rng))
    }

    /// A share read from its key file, unsealed by hardware or opened from a device's copy. The caller wipes `bytes`.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Key32::copy_of(bytes))
    }

    /// The bytes, to seal them in hardware or write them to a key file.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// Derives the key of the header's sealed part.
    pub fn derive_header_key(&self, vault: &Id) -> HeaderKey {
        HeaderKey(derive(&self.0, "header", &[vault]))
    }

    /// Derives the key of the locked vault's log tail.
    pub fn derive_tail_key(&self, vault: &Id) -> TailKey {
        TailKey(derive(&self.0, "log-tail", &[vault]))
    }
}

impl CredentialKey {
    /// A fresh random key.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self(Key32::generate(rng))
    }

    /// A key read from an opened chain file. The caller wipes `bytes`.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Key32::copy_of(bytes))
    }

    /// The bytes, to write them into a chain file before it is sealed.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }
}

impl DatabaseKey {
    /// The salt: the first 16 bytes of the file, in the clear.
    pub fn salt(&self) -> &[u8; 16] {
        &self.salt
    }

    /// Key and salt as SQLCipher takes them between `x'` and `'`: 96 hexadecimal digits in lower case.
    pub fn expose_hex(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(96));
        // EXPOSE: SQLCipher takes its key as text; the text wipes itself and never grows beyond its first allocation.
        for byte in self.key.expose().iter().chain(&self.salt) {
            write!(text, "{byte:02x}").expect("text takes what is written to it");
        }
        text
    }
}

/// 32 secret bytes in locked memory: what every key here is made of.
pub(crate) struct Key32(Block);

impl Key32 {
    pub(crate) fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self::filled(|bytes| rng.fill_bytes(bytes))
    }

    pub(crate) fn copy_of(bytes: &[u8; 32]) -> Self {
        Self::filled(|key| key.copy_from_slice(bytes))
    }

    /// A key that `fill` writes in place.
    pub(crate) fn filled(fill: impl FnOnce(&mut [u8])) -> Self {
        let mut block = Block::zeroed(32);
        fill(block.bytes_mut());
        Self(block)
    }

    pub(crate) fn expose(&self) -> &[u8; 32] {
        self.0.bytes().as_array().expect("a key was made with 32 bytes")
    }
}

impl ZeroizeOnDrop for Key32 {}
impl ZeroizeOnDrop for VaultKey {}
impl ZeroizeOnDrop for ItemKey {}
impl ZeroizeOnDrop for HostShare {}
impl ZeroizeOnDrop for HeaderKey {}
impl ZeroizeOnDrop for TailKey {}
impl ZeroizeOnDrop for StateKey {}
impl ZeroizeOnDrop for ChainKey {}
impl ZeroizeOnDrop for CredentialKey {}
impl ZeroizeOnDrop for DatabaseKey {}

/// `derive(key, purpose, parts…)`: HKDF-SHA-256 (RFC 5869) with an empty salt and
/// `info = tuple("strongroom/v1/<purpose>", parts…)`, 32 bytes.
pub(crate) fn derive(key: &Key32, purpose: &str, parts: &[&[u8]]) -> Key32 {
    let info = parts.iter().fold(Tuple::labelled(purpose), |info, part| info.bytes(part));
    // EXPOSE: HKDF takes raw bytes; its own state is wiped when it is dropped.
    Key32::filled(|out| hkdf_sha256(&[], key.expose(), info.as_bytes(), out))
}

#[cfg(test)]
mod tests {
    use std::fmt::{Debug, Display};

    use serde::Serialize;
    use static_assertions::assert_not_impl_any;

    use super::*;
    use crate::{
        channel::Channel,
        factor::{FactorRoot, FactorSigner, Phrase, RecoveryPsk},
        kem::{DeviceKem, PerStartKey, SlotSecret},
        locked::SecretBytes,
        sign::SigningKey,
        test_rng::TestRng,
    };

    assert_not_impl_any!(VaultKey: Clone, Debug, Display, Serialize, PartialEq);
    assert_not_impl_any!(ItemKey: Clone, Debug, Display, Serialize, PartialEq);
    assert_not_impl_any!(HostShare: Clone, Debug, Display, Serialize, PartialEq);
    assert_not_impl_any!(HeaderKey: Clone, Debug, Display, Serialize, PartialEq);
    assert_not_impl_any!(TailKey: Clone, Debug, Display, Serialize, PartialEq);
    assert_not_impl_any!(StateKey: Clone, Debug, Display, Serialize, PartialEq);
    assert_not_impl_any!(ChainKey: Clone, Debug, Display, Serialize, PartialEq);
    assert_not_impl_any!(CredentialKey: Clone, Debug, Display, Serialize, PartialEq);
    assert_not_impl_any!(DatabaseKey: Clone, Debug, Display, Serialize, PartialEq);
    assert_not_impl_any!(FactorRoot: Clone, Debug, Display, Serialize, PartialEq);
    assert_not_impl_any!(FactorSigner: Clone, Debug, Display, Serialize, PartialEq);
    assert_not_impl_any!(Phrase: Clone, Debug, Display, Serialize, PartialEq);
    assert_not_impl_any!(RecoveryPsk: Clone, Debug, Display, Serialize, PartialEq);
    assert_not_impl_any!(SlotSecret: Clone, Debug, Display, Serialize, PartialEq);
    assert_not_impl_any!(DeviceKem: Clone, Debug, Display, Serialize, PartialEq);
    assert_not_impl_any!(PerStartKey: Clone, Debug, Display, Serialize, PartialEq);
    assert_not_impl_any!(SigningKey: Clone, Debug, Display, Serialize, PartialEq);
    assert_not_impl_any!(SecretBytes: Clone, Debug, Display, Serialize, PartialEq);
    assert_not_impl_any!(Channel: Clone, Debug, Display, Serialize, PartialEq);

    #[test]
    fn each_derived_key_differs_from_the_others() {
        let mut rng = TestRng::new("derive");
        let vault_key = VaultKey::generate(&mut rng);
        let share = HostShare::from_bytes(vault_key.0.expose());
        let (vault, device) = ([1; 16], [2; 16]);
        let database = vault_key.derive_database_key(&vault, 1);
        let keys = [
            database.key,
            vault_key.derive_database_key(&vault, 2).key,
            vault_key.derive_database_key(&device, 1).key,
            vault_key.derive_state_key(&vault, 1).0,
            vault_key.derive_chain_key(&vault, &device).0,
            vault_key.derive_chain_key(&device, &vault).0,
            share.derive_header_key(&vault).0,
            share.derive_tail_key(&vault).0,
        ];
        for (i, a) in keys.iter().enumerate() {
            assert!(keys[i + 1..].iter().all(|b| a.expose() != b.expose()));
        }
    }

    #[test]
    fn the_database_key_is_96_digits() {
        let key = VaultKey::generate(&mut TestRng::new("database"));
        let text = key.derive_database_key(&[3; 16], 1).expose_hex();
        assert_eq!(text.len(), 96);
        assert!(text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)));
        assert_eq!(text, key.derive_database_key(&[3; 16], 1).expose_hex());
        assert_ne!(text, key.derive_database_key(&[3; 16], 2).expose_hex());
    }
}

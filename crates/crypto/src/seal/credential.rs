//! The blob that a device keeps and cannot read, and the vault's file of the keys to it (section 5).

use super::{OpenError, SEALED_OVERHEAD_BYTES, open, open_padded, seal, seal_padded};
use crate::{
    CryptoRng, Id,
    locked::SecretBytes,
    secret::{ChainKey, CredentialKey},
    tuple::{Reader, Tuple},
};

/// The longest blob.
pub const CREDENTIAL_BYTES_MAX: usize = 1 << 20;

/// A blob taken apart. What it says of itself is bound into its seal.
#[derive(Clone, Copy, Debug)]
pub struct Credential<'a> {
    device: &'a Id,
    number: u64,
    sealed: &'a [u8],
}

impl<'a> Credential<'a> {
    /// Takes a blob apart.
    ///
    /// # Errors
    /// [`OpenError::Length`] or [`OpenError::Version`].
    pub fn parse(blob: &'a [u8]) -> Result<Self, OpenError> {
        let mut reader = Reader(blob);
        if reader.u8().ok_or(OpenError::Length)? != VERSION {
            return Err(OpenError::Version);
        }
        let device = reader.array().ok_or(OpenError::Length)?;
        let number = reader.u64().ok_or(OpenError::Length)?;
        let in_bounds = blob.len() <= CREDENTIAL_BYTES_MAX && reader.0.len() >= SEALED_OVERHEAD_BYTES;
        if in_bounds { Ok(Self { device, number, sealed: reader.0 }) } else { Err(OpenError::Length) }
    }

    /// The device that keeps it.
    pub fn device(&self) -> &'a Id {
        self.device
    }

    /// Its number in the device's chain, which says which credential key opens it.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Opens the contents, JSON.
    ///
    /// # Errors
    /// When it was sealed under another key, for another vault, device or number, or was changed.
    pub fn open(&self, key: &CredentialKey, vault: &Id) -> Result<SecretBytes, OpenError> {
        open_padded(&key.0, &credential_ad(vault, self.device, self.number), self.sealed)
    }
}

/// The blob with this number for a device. `json` is the contents; `key` is fresh for each number.
///
/// # Panics
/// If `json` is longer than a blob may be; callers bound what a credential holds.
pub fn seal_credential(
    key: &CredentialKey,
    vault: &Id,
    device: &Id,
    number: u64,
    json: &[u8],
    rng: &mut dyn CryptoRng,
) -> Vec<u8> {
    let sealed = seal_padded(&key.0, &credential_ad(vault, device, number), json, CONTENTS_BYTES_MIN, rng);
    let mut blob = Vec::with_capacity(1 + 16 + 8 + sealed.len());
    blob.push(VERSION);
    blob.extend_from_slice(device);
    blob.extend_from_slice(&number.to_be_bytes());
    blob.extend_from_slice(&sealed);
    assert!(blob.len() <= CREDENTIAL_BYTES_MAX, "a credential is shorter than 1 MiB");
    blob
}

/// Seals the file that holds a device's credential keys and mailbox.
pub fn seal_chain(key: &ChainKey, vault: &Id, device: &Id, json: &[u8], rng: &mut dyn CryptoRng) -> Vec<u8> {
    seal(&key.0, &chain_ad(vault, device), json, rng)
}

/// Opens a device's chain file. Whether it is the newest is for the caller to tell, by the sequence in the header.
///
/// # Errors
/// When it was sealed under another key, for another vault or device, or was changed.
pub fn open_chain(key: &ChainKey, vault: &Id, device: &Id, file: &[u8]) -> Result<SecretBytes, OpenError> {
    open(&key.0, &chain_ad(vault, device), file)
}

fn credential_ad(vault: &Id, device: &Id, number: u64) -> Tuple {
    Tuple::labelled("credential").bytes(vault).bytes(device).u64(number)
}

fn chain_ad(vault: &Id, device: &Id) -> Tuple {
    Tuple::labelled("chain").bytes(vault).bytes(device)
}

const VERSION: u8 = 1;
const CONTENTS_BYTES_MIN: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{secret::VaultKey, test_rng::TestRng};

    const VAULT: Id = [1; 16];
    const DEVICE: Id = [2; 16];

    #[test]
    fn a_credential_opens_with_the_key_of_its_number() {
        let mut rng = TestRng::new("credential");
        let (key, next) = (CredentialKey::generate(&mut rng), CredentialKey::generate(&mut rng));
        let blob = seal_credential(&key, &VAULT, &DEVICE, 7, b"{}", &mut rng);
        assert_eq!(blob.len(), 25 + 1024 + SEALED_OVERHEAD_BYTES);
        let parsed = Credential::parse(&blob).unwrap();
        assert_eq!((parsed.device(), parsed.number()), (&DEVICE, 7));
        assert_eq!(parsed.open(&key, &VAULT).unwrap().expose(), b"{}");
        assert_eq!(parsed.open(&next, &VAULT).err(), Some(OpenError::Tag));
        assert_eq!(parsed.open(&key, &[9; 16]).err(), Some(OpenError::Tag));
        assert_eq!(parsed.open(&CredentialKey::from_bytes(key.expose()), &VAULT).unwrap().len(), 2);
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_refused() {
        let mut rng = TestRng::new("credential");
        let key = CredentialKey::generate(&mut rng);
        let blob = seal_credential(&key, &VAULT, &DEVICE, 7, b"{}", &mut rng);
        let open = |blob: &[u8]| Credential::parse(blob).and_then(|parsed| parsed.open(&key, &VAULT));
        for len in 0..blob.len() {
            assert!(open(&blob[..len]).is_err(), "cut to {len}");
        }
        for byte in 0..blob.len() {
            let mut changed = blob.clone();
            changed[byte] ^= 1;
            assert!(open(&changed).is_err(), "byte {byte}");
        }
        assert_eq!(Credential::parse(&vec![1; CREDENTIAL_BYTES_MAX + 1]).err(), Some(OpenError::Length));
        assert_eq!(Credential::parse(&[2; 100]).err(), Some(OpenError::Version));
    }

    #[test]
    fn a_chain_file_belongs_to_one_device() {
        let mut rng = TestRng::new("chain");
        let key = VaultKey::generate(&mut rng).derive_chain_key(&VAULT, &DEVICE);
        let file = seal_chain(&key, &VAULT, &DEVICE, b"{\"keys\":[]}", &mut rng);
        assert_eq!(open_chain(&key, &VAULT, &DEVICE, &file).unwrap().expose(), b"{\"keys\":[]}");
        assert!(open_chain(&key, &VAULT, &[9; 16], &file).is_err());
        assert!(open_chain(&key, &[9; 16], &DEVICE, &file).is_err());
    }
}

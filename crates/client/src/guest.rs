//! The key file of a guest: all that its gateway needs to reach the vault. It can be moved to another user or machine.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use strongroom_crypto::sign::{PublicKey, SigningKey};
use strongroom_wire::{Bytes, GuestId, SecretValue, VaultId};
use zeroize::Zeroizing;

use crate::files::{self, FileError};
use crate::profile::{ProfileError, check_name};

/// A guest as its gateway knows it.
pub struct GuestKey {
    vault: VaultId,
    identity: PublicKey,
    guest: GuestId,
    socket: PathBuf,
    sign: SigningKey,
}

impl GuestKey {
    /// Puts together what a new guest's gateway needs.
    #[must_use]
    pub fn new(vault: VaultId, identity: PublicKey, guest: GuestId, socket: PathBuf, sign: SigningKey) -> Self {
        Self { vault, identity, guest, socket, sign }
    }

    /// Where the key file of the guest `name` lies in a profile's folder.
    ///
    /// # Errors
    /// When the name is no file name.
    pub fn path(profile_dir: &Path, name: &str) -> Result<PathBuf, ProfileError> {
        Ok(profile_dir.join(crate::profile::GUESTS).join(format!("{}.json", check_name(name)?)))
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// When it is not there, readable by others, or damaged.
    pub fn load(path: &Path) -> Result<Self, ProfileError> {
        let bytes = files::read_private(path, GUEST_BYTES_MAX)?;
        let damaged = || ProfileError::Damaged { path: path.to_owned() };
        let file: GuestFile = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
        // EXPOSE: the seed moves from the file's text into locked memory.
        let seed = <&[u8; 32]>::try_from(file.sign_seed.expose()).map_err(|_| damaged())?;
        if file.v != 1 {
            return Err(damaged());
        }
        Ok(Self {
            vault: file.vault,
            identity: PublicKey::from_bytes(&file.identity.0).map_err(|_| damaged())?,
            guest: file.guest,
            socket: file.socket,
            sign: SigningKey::from_seed(seed),
        })
    }

    /// Writes the key file; there must be none.
    ///
    /// # Errors
    /// When there is one, or the file system refuses.
    pub fn create(&self, path: &Path) -> Result<(), FileError> {
        if let Some(dir) = path.parent() {
            files::create_private_dir(dir)?;
        }
        let file = GuestFile {
            v: 1,
            vault: self.vault,
            identity: Bytes::from(*self.identity.as_bytes()),
            guest: self.guest,
            socket: self.socket.clone(),
            // EXPOSE: a gateway without a keystore keeps its key in a file of its own.
            sign_seed: SecretValue::new(self.sign.expose_seed().to_vec()),
        };
        let json = Zeroizing::new(serde_json::to_vec(&file).expect("this shape always has a JSON form"));
        files::create(path, &json)
    }

    /// The vault.
    #[must_use]
    pub fn vault(&self) -> VaultId {
        self.vault
    }

    /// The vault's identity, as it was pinned.
    #[must_use]
    pub fn identity(&self) -> &PublicKey {
        &self.identity
    }

    /// The guest's id.
    #[must_use]
    pub fn guest(&self) -> GuestId {
        self.guest
    }

    /// Where the services listen.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Another socket for this run.
    pub fn use_socket(&mut self, socket: PathBuf) {
        self.socket = socket;
    }

    /// Proves possession when the channel opens.
    #[must_use]
    pub fn sign_key(&self) -> &SigningKey {
        &self.sign
    }
}

impl std::fmt::Debug for GuestKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuestKey").field("vault", &self.vault).field("guest", &self.guest).finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GuestFile {
    v: u8,
    vault: VaultId,
    identity: Bytes,
    guest: GuestId,
    socket: PathBuf,
    sign_seed: SecretValue,
}

const GUEST_BYTES_MAX: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_reads_back_and_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = GuestKey::path(dir.path(), "helper").unwrap();
        let mut rng = strongroom_crypto::os_rng();
        let identity = SigningKey::generate(&mut rng).public();
        let sign = SigningKey::generate(&mut rng);
        let key = GuestKey::new(VaultId([1; 16]), identity, GuestId([2; 16]), "/run/x.sock".into(), sign);
        key.create(&path).unwrap();
        let read = GuestKey::load(&path).unwrap();
        assert_eq!((read.guest(), read.identity()), (key.guest(), key.identity()));
        assert_eq!(read.sign_key().public(), key.sign_key().public());
        assert!(key.create(&path).is_err());
        assert!(GuestKey::path(dir.path(), "../x").is_err());
    }
}

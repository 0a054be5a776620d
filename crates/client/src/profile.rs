//! The folder of a device: its keys, the vault identity it pinned, its credential, and the last log position it saw.
//!
//! | file | content |
//! | --- | --- |
//! | `device.json` | vault, pinned identity, device id, socket, and the two key seeds |
//! | `credential` | the blob that only the vault can open |
//! | `share` | the host share, sealed to this device; only where it was asked for |
//! | `seen` | size and root of the log as this device saw it last; only ever moves forward |
//! | `attestation` | the policy that the evidence of the vault's host is appraised against |
//! | `epoch` | the newest epoch of the vault's channel certificate |
//! | `guests/<name>.json` | key files of guests ([`crate::guest`]) |
//! | `lock` | held while one of these changes |
//!
//! All are readable by their owner alone and replaced whole, durably. The seeds lie in the file as they are: a platform
//! keystore would keep them from other programs of the same user, and is not used yet.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use strongroom_attest::Policy;
use strongroom_crypto::kem::DeviceKem;
use strongroom_crypto::sign::{Fingerprint, PublicKey, SigningKey};
use strongroom_wire::device::LogPosition;
use strongroom_wire::limits::{ATTESTATION_POLICY_BYTES_MAX, CREDENTIAL_BYTES_MAX};
use strongroom_wire::{Bytes, DeviceId, SecretValue, VaultId};

use crate::files::{self, FileError, Lock};

/// A device that a vault knows.
pub struct Profile {
    dir: PathBuf,
    vault: VaultId,
    identity: PublicKey,
    device: DeviceId,
    socket: PathBuf,
    sign: SigningKey,
    kem: DeviceKem,
}

/// Keys of a device that no vault knows yet.
pub struct DeviceKeys {
    /// Signs the channel.
    pub sign: SigningKey,
    /// Others seal to it what is for this device alone.
    pub kem: DeviceKem,
}

impl DeviceKeys {
    /// Fresh keys.
    #[must_use]
    pub fn generate() -> Self {
        let mut rng = strongroom_crypto::os_rng();
        Self { sign: SigningKey::generate(&mut rng), kem: DeviceKem::generate(&mut rng) }
    }

    fn from_seeds(sign: &SecretValue, kem: &SecretValue) -> Option<Self> {
        // EXPOSE: the seeds move from the file's text into locked memory.
        let sign = <&[u8; 32]>::try_from(sign.expose()).ok()?;
        let kem = <&[u8; 32]>::try_from(kem.expose()).ok()?;
        Some(Self { sign: SigningKey::from_seed(sign), kem: DeviceKem::from_seed(kem) })
    }
}

/// Why a profile could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// There is none.
    #[error("this device has no vault yet ({} is not there)", path.display())]
    Missing {
        /// Where it would be.
        path: PathBuf,
    },
    /// There is one already.
    #[error("this profile has a vault already ({})", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// A name that is no file name.
    #[error("a name has 1 to 64 of a–z, 0–9, _ and -")]
    Name,
    /// A file that is none of ours.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// Which one.
        path: PathBuf,
    },
    /// The log position would go back.
    #[error("the log position seen last would go back")]
    SeenBackwards,
    /// The file system.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What a new profile holds besides the keys.
#[derive(Debug)]
pub struct NewProfile<'a> {
    /// The vault.
    pub vault: VaultId,
    /// Its identity, pinned from now on.
    pub identity: PublicKey,
    /// The device.
    pub device: DeviceId,
    /// Where the services listen.
    pub socket: &'a Path,
    /// The first credential blob.
    pub credential: &'a [u8],
    /// The host share, sealed to the device.
    pub sealed_share: Option<&'a [u8]>,
    /// The log as the device was shown it.
    pub seen: &'a LogPosition,
    /// Which hosts are trusted with what unlocks the vault.
    pub policy: &'a Policy,
}

impl Profile {
    /// The folder of the profile `name` under `home`.
    ///
    /// # Errors
    /// When the name is none.
    pub fn dir(home: &Path, name: &str) -> Result<PathBuf, ProfileError> {
        Ok(home.join("profiles").join(check_name(name)?))
    }

    /// Whether there is a profile in `dir`.
    #[must_use]
    pub fn exists(dir: &Path) -> bool {
        dir.join(DEVICE).exists()
    }

    /// Reads the profile in `dir`.
    ///
    /// # Errors
    /// When it is not there, readable by others, or damaged.
    pub fn load(dir: &Path) -> Result<Self, ProfileError> {
        let path = dir.join(DEVICE);
        let bytes = files::read_private(&path, DEVICE_BYTES_MAX)
            .map_err(|e| if e.is_missing() { ProfileError::Missing { path: path.clone() } } else { e.into() })?;
        let damaged = || ProfileError::Damaged { path: path.clone() };
        let file: DeviceFile = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
        if file.v != 1 {
            return Err(damaged());
        }
        let keys = DeviceKeys::from_seeds(&file.sign_seed, &file.kem_seed).ok_or_else(damaged)?;
        Ok(Self {
            dir: dir.to_owned(),
            vault: file.vault,
            identity: PublicKey::from_bytes(&file.identity.0).map_err(|_| damaged())?,
            device: file.device,
            socket: file.socket,
            sign: keys.sign,
            kem: keys.kem,
        })
    }

    /// Writes a new profile; `device.json` comes last, so that a profile is whole or not there.
    ///
    /// # Errors
    /// When there is one already, or the file system refuses.
    pub fn create(dir: &Path, keys: DeviceKeys, new: &NewProfile<'_>) -> Result<Self, ProfileError> {
        files::create_private_dir(dir)?;
        let path = dir.join(DEVICE);
        if path.exists() {
            return Err(ProfileError::Exists { path });
        }
        files::replace(&dir.join(CREDENTIAL), new.credential)?;
        if let Some(share) = new.sealed_share {
            files::replace(&dir.join(SHARE), share)?;
        }
        files::replace(&dir.join(SEEN), &to_json(new.seen))?;
        files::replace(&dir.join(ATTESTATION), &new.policy.encode())?;
        let file = DeviceFile {
            v: 1,
            vault: new.vault,
            identity: Bytes::from(*new.identity.as_bytes()),
            device: new.device,
            socket: new.socket.to_owned(),
            // EXPOSE: a device without a keystore keeps its keys in a file of its own.
            sign_seed: SecretValue::new(keys.sign.expose_seed().to_vec()),
            kem_seed: SecretValue::new(keys.kem.expose_seed().to_vec()),
        };
        files::create(&path, &zeroize::Zeroizing::new(to_json(&file)))?;
        let NewProfile { vault, identity, device, .. } = *new;
        Ok(Self { dir: dir.to_owned(), vault, identity, device, socket: file.socket, sign: keys.sign, kem: keys.kem })
    }

    /// Removes everything that belongs to the vault from this device, keys first.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn remove(dir: &Path) -> Result<(), ProfileError> {
        for name in [DEVICE, CREDENTIAL, SHARE, SEEN, ATTESTATION, EPOCH, LOCK] {
            files::remove(&dir.join(name))?;
        }
        for guest in std::fs::read_dir(dir.join(GUESTS)).into_iter().flatten().flatten() {
            files::remove(&guest.path())?;
        }
        Ok(())
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.dir
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

    /// The identity in the form that people compare.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.vault.as_bytes(), &self.identity)
    }

    /// The device's id.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        self.device
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

    /// Signs the channel.
    #[must_use]
    pub fn sign_key(&self) -> &SigningKey {
        &self.sign
    }

    /// Opens what was sealed to this device.
    #[must_use]
    pub fn kem_key(&self) -> &DeviceKem {
        &self.kem
    }

    /// Waits until no other command changes this profile.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn lock(&self) -> Result<Lock, ProfileError> {
        Ok(Lock::wait(&self.dir.join(LOCK))?)
    }

    /// The credential blob.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub fn credential(&self) -> Result<Vec<u8>, ProfileError> {
        Ok(files::read_private(&self.dir.join(CREDENTIAL), CREDENTIAL_BYTES_MAX as u64)?.to_vec())
    }

    /// Stores the next credential blob, durably.
    ///
    /// # Errors
    /// When the file system refuses; the old blob stays.
    pub fn store_credential(&self, blob: &[u8]) -> Result<(), ProfileError> {
        Ok(files::replace(&self.dir.join(CREDENTIAL), blob)?)
    }

    /// This device's copy of the host share, as the vault sealed it; `None` where it keeps none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn sealed_share(&self) -> Result<Option<Vec<u8>>, ProfileError> {
        match files::read_private(&self.dir.join(SHARE), SHARE_BYTES_MAX) {
            Ok(bytes) => Ok(Some(bytes.to_vec())),
            Err(e) if e.is_missing() => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Stores another copy of the host share, durably.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn store_sealed_share(&self, sealed: &[u8]) -> Result<(), ProfileError> {
        Ok(files::replace(&self.dir.join(SHARE), sealed)?)
    }

    /// The log position seen last.
    ///
    /// # Errors
    /// When it is not there or damaged: without it a log that was cut short would pass.
    pub fn seen(&self) -> Result<LogPosition, ProfileError> {
        let path = self.dir.join(SEEN);
        let bytes = files::read_private(&path, DEVICE_BYTES_MAX)?;
        serde_json::from_slice(&bytes).map_err(|_| ProfileError::Damaged { path })
    }

    /// Stores a later log position, durably.
    ///
    /// # Errors
    /// When it is not later, or the file system refuses.
    pub fn store_seen(&self, position: &LogPosition) -> Result<(), ProfileError> {
        let _lock = self.lock()?;
        let before = self.seen()?;
        if position == &before {
            return Ok(());
        }
        if position.size <= before.size {
            return Err(ProfileError::SeenBackwards);
        }
        Ok(files::replace(&self.dir.join(SEEN), &to_json(position))?)
    }
}

impl Profile {
    /// Which hosts are trusted with what unlocks the vault.
    ///
    /// # Errors
    /// When the file is damaged. Where there is none the vault was made on a host without evidence.
    pub fn policy(&self) -> Result<Policy, ProfileError> {
        let path = self.dir.join(ATTESTATION);
        match files::read_private(&path, ATTESTATION_POLICY_BYTES_MAX as u64) {
            Ok(bytes) => Policy::decode(&bytes).map_err(|_| ProfileError::Damaged { path }),
            Err(e) if e.is_missing() => Ok(Policy::None {}),
            Err(e) => Err(e.into()),
        }
    }

    /// Stores another policy, durably.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn store_policy(&self, policy: &Policy) -> Result<(), ProfileError> {
        // Without the lock, which whoever presents a credential holds while it connects: the file is replaced whole.
        Ok(files::replace(&self.dir.join(ATTESTATION), &policy.encode())?)
    }

    /// The newest epoch of the vault's channel certificate that this device saw; an older certificate is refused.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn channel_epoch(&self) -> Result<u32, ProfileError> {
        let path = self.dir.join(EPOCH);
        match files::read_private(&path, 16) {
            Ok(bytes) => {
                let text = std::str::from_utf8(&bytes).ok();
                text.and_then(|text| text.trim().parse().ok()).ok_or(ProfileError::Damaged { path })
            }
            Err(e) if e.is_missing() => Ok(0),
            Err(e) => Err(e.into()),
        }
    }

    /// Stores a newer epoch.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn store_channel_epoch(&self, epoch: u32) -> Result<(), ProfileError> {
        Ok(files::replace(&self.dir.join(EPOCH), epoch.to_string().as_bytes())?)
    }
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profile").field("vault", &self.vault).field("device", &self.device).finish_non_exhaustive()
    }
}

/// A name that is safe as a file name.
///
/// # Errors
/// When it is not.
pub fn check_name(name: &str) -> Result<&str, ProfileError> {
    let fits = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
    if fits && (1..=64).contains(&name.len()) { Ok(name) } else { Err(ProfileError::Name) }
}

/// A device that waits to be let in by another: its keys, in a file of their own until then.
///
/// # Errors
/// When one is waiting already, or the file system refuses.
pub fn store_pending(dir: &Path, keys: &DeviceKeys) -> Result<(), ProfileError> {
    files::create_private_dir(dir)?;
    let file = PendingFile {
        v: 1,
        // EXPOSE: as in `create`.
        sign_seed: SecretValue::new(keys.sign.expose_seed().to_vec()),
        kem_seed: SecretValue::new(keys.kem.expose_seed().to_vec()),
    };
    Ok(files::create(&dir.join(PENDING), &zeroize::Zeroizing::new(to_json(&file)))?)
}

/// The keys of a device that waits; they are there until [`forget_pending`].
///
/// # Errors
/// When there are none.
pub fn load_pending(dir: &Path) -> Result<DeviceKeys, ProfileError> {
    let path = dir.join(PENDING);
    let bytes = files::read_private(&path, DEVICE_BYTES_MAX)?;
    let file: PendingFile = serde_json::from_slice(&bytes).map_err(|_| ProfileError::Damaged { path: path.clone() })?;
    DeviceKeys::from_seeds(&file.sign_seed, &file.kem_seed).ok_or(ProfileError::Damaged { path })
}

/// Removes the keys of a device that has been let in.
///
/// # Errors
/// When the file system refuses.
pub fn forget_pending(dir: &Path) -> Result<(), ProfileError> {
    Ok(files::remove(&dir.join(PENDING))?)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceFile {
    v: u8,
    vault: VaultId,
    identity: Bytes,
    device: DeviceId,
    socket: PathBuf,
    sign_seed: SecretValue,
    kem_seed: SecretValue,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PendingFile {
    v: u8,
    sign_seed: SecretValue,
    kem_seed: SecretValue,
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("these shapes always have a JSON form")
}

const DEVICE: &str = "device.json";
const PENDING: &str = "joining.json";
const CREDENTIAL: &str = "credential";
const SHARE: &str = "share";
const SHARE_BYTES_MAX: u64 = 8 * 1024;
const ATTESTATION: &str = "attestation";
const SEEN: &str = "seen";
const EPOCH: &str = "epoch";
const LOCK: &str = "lock";
pub(crate) const GUESTS: &str = "guests";
const DEVICE_BYTES_MAX: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn make(dir: &Path) -> Profile {
        let keys = DeviceKeys::generate();
        let identity = SigningKey::generate(&mut strongroom_crypto::os_rng()).public();
        let new = NewProfile {
            vault: VaultId([1; 16]),
            identity,
            device: DeviceId([2; 16]),
            socket: Path::new("/run/x.sock"),
            credential: b"blob 0",
            sealed_share: None,
            policy: &Policy::None {},
            seen: &LogPosition { size: 3, root: Bytes(vec![3; 32]) },
        };
        Profile::create(dir, keys, &new).unwrap()
    }

    #[test]
    fn a_profile_reads_back() {
        let home = tempfile::tempdir().unwrap();
        let dir = Profile::dir(home.path(), "default").unwrap();
        assert!(matches!(Profile::load(&dir), Err(ProfileError::Missing { .. })));
        let made = make(&dir);
        let read = Profile::load(&dir).unwrap();
        assert_eq!(read.sign_key().public(), made.sign_key().public());
        assert_eq!(read.kem_key().public(), made.kem_key().public());
        assert_eq!(read.fingerprint(), made.fingerprint());
        read.store_credential(b"blob 1").unwrap();
        assert_eq!(read.credential().unwrap(), b"blob 1");
        assert!(!format!("{read:?}").contains("seed"));
        Profile::remove(&dir).unwrap();
        assert!(!Profile::exists(&dir));
    }

    #[test]
    fn the_position_seen_last_never_goes_back() {
        let home = tempfile::tempdir().unwrap();
        let profile = make(&home.path().join("p"));
        let at = |size, byte| LogPosition { size, root: Bytes(vec![byte; 32]) };
        profile.store_seen(&at(3, 3)).unwrap();
        profile.store_seen(&at(5, 5)).unwrap();
        assert!(matches!(profile.store_seen(&at(4, 4)), Err(ProfileError::SeenBackwards)));
        assert!(matches!(profile.store_seen(&at(5, 6)), Err(ProfileError::SeenBackwards)));
        assert_eq!(profile.seen().unwrap(), at(5, 5));
    }

    #[test]
    fn names_stay_inside_their_folder() {
        for bad in ["", ".", "..", "../x", "a/b", "A", "a b", &"x".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        assert!(check_name("work-2").is_ok());
    }
}

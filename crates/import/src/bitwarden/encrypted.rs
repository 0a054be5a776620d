//! The envelope of a password-protected export.
//!
//! A key of 32 bytes is derived from the password: PBKDF2-HMAC-SHA-256 over the salt's text as it stands in the file, or
//! Argon2id over the SHA-256 of that text. HKDF-Expand (RFC 5869, section 2.3) with `enc` and `mac` makes two keys of it.
//! What they protect is an "encString" of type 2, `2.<iv>|<ciphertext>|<mac>` in base64: AES-256-CBC with PKCS#7 padding,
//! and HMAC-SHA-256 over iv and ciphertext, which is checked first.

use aes::Aes256;
use argon2::{Algorithm, Argon2, Params, Version};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, KeyIvInit};
use data_encoding::BASE64;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use strongroom_wire::SecretValue;
use zeroize::Zeroizing;

use crate::json::Map;
use crate::limits::{ARGON2_BYTES_MAX, ARGON2_LANES_MAX, ARGON2_WORK_BYTES_MAX, PBKDF2_ROUNDS_MAX};
use crate::refused::{Cost, Damage, ImportRefused};

/// Opens the envelope: the plain export.
pub(super) fn open(envelope: &mut Map, password: Option<&SecretValue>) -> Result<Zeroizing<Vec<u8>>, ImportRefused> {
    let protected = envelope.take_text("passwordProtected");
    if protected.as_deref().map(String::as_str) != Some("true") {
        return Err(ImportRefused::AccountEncrypted);
    }
    let salt = envelope.take_text("salt").ok_or(ImportRefused::EncryptionUnknown)?;
    let kdf = Kdf::parse(envelope)?;
    let check = envelope.take_text("encKeyValidation_DO_NOT_EDIT").ok_or(ImportRefused::EncryptionUnknown)?;
    let data = envelope.take_text("data").ok_or(ImportRefused::EncryptionUnknown)?;
    let (check, data) = (EncString::parse(&check)?, EncString::parse(&data)?);

    let password = password.ok_or(ImportRefused::PasswordNeeded)?;
    // EXPOSE: the key derivation takes raw bytes; it keeps no copy.
    let keys = Keys::stretch(&*kdf.derive(password.expose(), salt.as_bytes())?);
    // The short text tells a wrong password from a damaged file.
    keys.open(check).ok_or(ImportRefused::PasswordWrong)?;
    keys.open(data).ok_or(ImportRefused::Damaged { part: Damage::Checksum })
}

/// How the key is derived, within the limits.
enum Kdf {
    Pbkdf2 { rounds: u32 },
    Argon2id(Params),
}

impl Kdf {
    fn parse(envelope: &mut Map) -> Result<Self, ImportRefused> {
        let mut number = |name| envelope.take(name).and_then(|value| value.as_u64());
        let (kind, passes) = (number("kdfType"), number("kdfIterations"));
        let (memory_mib, lanes) = (number("kdfMemory"), number("kdfParallelism"));
        let passes = passes.filter(|passes| *passes > 0).ok_or(ImportRefused::EncryptionUnknown)?;
        match kind {
            Some(0) => {
                let rounds = within(Cost::Rounds, passes, PBKDF2_ROUNDS_MAX)?;
                Ok(Self::Pbkdf2 { rounds })
            }
            Some(1) => {
                let bytes = memory_mib.ok_or(ImportRefused::EncryptionUnknown)?.saturating_mul(1024 * 1024);
                let lanes = lanes.ok_or(ImportRefused::EncryptionUnknown)?;
                argon2_params(bytes, passes, lanes).map(Self::Argon2id)
            }
            _ => Err(ImportRefused::EncryptionUnknown),
        }
    }

    fn derive(self, password: &[u8], salt: &[u8]) -> Result<Zeroizing<[u8; 32]>, ImportRefused> {
        let mut key = Zeroizing::new([0; 32]);
        match self {
            Self::Pbkdf2 { rounds } => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, rounds, &mut *key),
            Self::Argon2id(params) => {
                let salt = Sha256::digest(salt);
                Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                    .hash_password_into(password, &salt, &mut *key)
                    .map_err(|_| ImportRefused::OutOfMemory)?;
            }
        }
        Ok(key)
    }
}

/// Argon2's parameters, where they cost no more than the limits.
pub(crate) fn argon2_params(memory_bytes: u64, passes: u64, lanes: u64) -> Result<Params, ImportRefused> {
    within(Cost::MemoryBytes, memory_bytes, ARGON2_BYTES_MAX)?;
    within(Cost::WorkBytes, memory_bytes.saturating_mul(passes), ARGON2_WORK_BYTES_MAX)?;
    let lanes = within(Cost::Lanes, lanes, ARGON2_LANES_MAX)?;
    let memory_kib = within(Cost::MemoryBytes, memory_bytes / 1024, ARGON2_BYTES_MAX / 1024)?;
    let passes = within(Cost::WorkBytes, passes, u64::from(u32::MAX))?;
    Params::new(memory_kib, passes, lanes, Some(32)).map_err(|_| ImportRefused::EncryptionUnknown)
}

/// A number of at most `max`, which itself fits 32 bits or is only compared with.
fn within(cost: Cost, asked: u64, max: u64) -> Result<u32, ImportRefused> {
    if asked > max {
        return Err(ImportRefused::TooCostly { cost, asked, max });
    }
    Ok(u32::try_from(asked).unwrap_or(u32::MAX))
}

/// An encString of type 2.
struct EncString {
    iv: [u8; 16],
    ciphertext: Zeroizing<Vec<u8>>,
    mac: Vec<u8>,
}

impl EncString {
    fn parse(text: &str) -> Result<Self, ImportRefused> {
        let unknown = ImportRefused::EncryptionUnknown;
        let parts: Vec<&str> = text.strip_prefix("2.").ok_or(unknown.clone())?.split('|').collect();
        let [iv, ciphertext, mac] = parts.as_slice() else { return Err(unknown) };
        let decode = |part: &str| BASE64.decode(part.as_bytes()).map_err(|_| ImportRefused::EncryptionUnknown);
        Ok(Self {
            iv: decode(iv)?.try_into().map_err(|_| ImportRefused::EncryptionUnknown)?,
            ciphertext: Zeroizing::new(decode(ciphertext)?),
            mac: decode(mac)?,
        })
    }
}

struct Keys {
    encryption: Zeroizing<[u8; 32]>,
    mac: Zeroizing<[u8; 32]>,
}

impl Keys {
    fn stretch(key: &[u8; 32]) -> Self {
        let expand = |label: &[u8]| {
            let mut out = Zeroizing::new([0; 32]);
            let hkdf = Hkdf::<Sha256>::from_prk(key).expect("a key of 32 bytes is a pseudorandom key of SHA-256");
            hkdf.expand(label, &mut *out).expect("HKDF-SHA-256 yields 32 bytes");
            out
        };
        Self { encryption: expand(b"enc"), mac: expand(b"mac") }
    }

    fn open(&self, sealed: EncString) -> Option<Zeroizing<Vec<u8>>> {
        let EncString { iv, mut ciphertext, mac } = sealed;
        Hmac::<Sha256>::new_from_slice(&*self.mac)
            .expect("HMAC takes a key of any length")
            .chain_update(iv)
            .chain_update(&*ciphertext)
            .verify_slice(&mac)
            .ok()?;
        let cipher = cbc::Decryptor::<Aes256>::new_from_slices(&*self.encryption, &iv).ok()?;
        let length = cipher.decrypt_padded::<Pkcs7>(&mut ciphertext).ok()?.len();
        ciphertext.truncate(length);
        Some(ciphertext)
    }
}

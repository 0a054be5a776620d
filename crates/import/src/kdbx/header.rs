//! The plain head: what the file is encrypted with, and how its key is derived.

use argon2::{Algorithm, Params, Version};
use sha2::{Digest, Sha256};

use crate::bitwarden::argon2_params;
use crate::kind::KEEPASS_MAGIC;
use crate::limits::AES_KDF_ROUNDS_MAX;
use crate::refused::{Cost, Damage, ImportRefused};

/// The head of a file, checked against its digest, and what follows it.
pub(super) struct Header<'f> {
    /// The head as it stands, which its HMAC covers.
    pub(super) bytes: &'f [u8],
    /// The HMAC of the head.
    pub(super) mac: &'f [u8],
    /// The blocks of ciphertext.
    pub(super) blocks: &'f [u8],
    pub(super) cipher: Cipher,
    pub(super) gzip: bool,
    pub(super) master_seed: &'f [u8],
    pub(super) iv: &'f [u8],
    pub(super) kdf: Kdf<'f>,
}

/// What the blocks are encrypted with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cipher {
    Aes256Cbc,
    ChaCha20,
    TwofishCbc,
}

/// How the key is derived, within the limits.
pub(super) enum Kdf<'f> {
    Argon2 { algorithm: Algorithm, version: Version, params: Params, salt: &'f [u8] },
    Aes { rounds: u64, seed: [u8; 32] },
}

impl<'f> Header<'f> {
    /// Parses the head.
    ///
    /// # Errors
    /// Where it is another format, is damaged, or asks for more than the limits allow.
    pub(super) fn parse(file: &'f [u8]) -> Result<Self, ImportRefused> {
        check_version(file)?;
        let mut reader = Reader { file, at: VERSION_BYTES };
        let mut fields = Fields::default();
        loop {
            let id = reader.take(1)?[0];
            let length = reader.length()?;
            let value = reader.take(length)?;
            match id {
                0 => break,
                2 => fields.cipher = Some(cipher(value)?),
                3 => fields.gzip = Some(gzip(value)?),
                4 => fields.master_seed = Some(value).filter(|seed| seed.len() == 32),
                7 => fields.iv = Some(value),
                11 => fields.kdf = Some(Kdf::parse(value)?),
                // Comments and the public data of plug-ins.
                1 | 12 => {}
                _ => return Err(DAMAGED),
            }
        }
        let bytes = &file[..reader.at];
        let digest = reader.take(32)?;
        if digest != Sha256::digest(bytes).as_slice() {
            return Err(DAMAGED);
        }
        let mac = reader.take(32)?;
        Ok(Self {
            bytes,
            mac,
            blocks: &file[reader.at..],
            cipher: fields.cipher.ok_or(DAMAGED)?,
            gzip: fields.gzip.ok_or(DAMAGED)?,
            master_seed: fields.master_seed.ok_or(DAMAGED)?,
            iv: fields.iv.ok_or(DAMAGED)?,
            kdf: fields.kdf.ok_or(DAMAGED)?,
        })
    }
}

#[derive(Default)]
struct Fields<'f> {
    cipher: Option<Cipher>,
    gzip: Option<bool>,
    master_seed: Option<&'f [u8]>,
    iv: Option<&'f [u8]>,
    kdf: Option<Kdf<'f>>,
}

fn check_version(file: &[u8]) -> Result<(), ImportRefused> {
    let head: &[u8; VERSION_BYTES] = file.first_chunk().ok_or(ImportRefused::CutShort)?;
    if head[..4] != KEEPASS_MAGIC {
        return Err(ImportRefused::KindUnknown);
    }
    match (&head[4..8], u16::from_le_bytes([head[10], head[11]])) {
        ([0x67, 0xfb, 0x4b, 0xb5], 4) => Ok(()),
        ([0x67, 0xfb, 0x4b, 0xb5], 5..) => Err(ImportRefused::KeePassTooNew),
        _ => Err(ImportRefused::KeePassTooOld),
    }
}

fn cipher(id: &[u8]) -> Result<Cipher, ImportRefused> {
    match id {
        AES_256 => Ok(Cipher::Aes256Cbc),
        CHACHA20 => Ok(Cipher::ChaCha20),
        TWOFISH => Ok(Cipher::TwofishCbc),
        _ => Err(ImportRefused::EncryptionUnknown),
    }
}

fn gzip(value: &[u8]) -> Result<bool, ImportRefused> {
    match value {
        [0, 0, 0, 0] => Ok(false),
        [1, 0, 0, 0] => Ok(true),
        _ => Err(DAMAGED),
    }
}

impl<'f> Kdf<'f> {
    fn parse(bytes: &'f [u8]) -> Result<Self, ImportRefused> {
        let entries = variants(bytes)?;
        let get = |name: &[u8]| entries.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        let number = |name| get(name).and_then(little_endian).ok_or(DAMAGED);
        match get(b"$UUID").ok_or(DAMAGED)? {
            id @ (ARGON2D | ARGON2ID) => {
                let params = argon2_params(number(b"M")?, number(b"I")?, number(b"P")?)?;
                // A secret or further data is never written by KeePass; with them the key would be another.
                if get(b"K").is_some() || get(b"A").is_some() {
                    return Err(ImportRefused::EncryptionUnknown);
                }
                Ok(Self::Argon2 {
                    algorithm: if id == ARGON2D { Algorithm::Argon2d } else { Algorithm::Argon2id },
                    version: version(number(b"V")?)?,
                    params,
                    salt: get(b"S").filter(|salt| (8..=1024).contains(&salt.len())).ok_or(DAMAGED)?,
                })
            }
            AES_KDF | AES_KDF_KDBX4 => {
                let rounds = number(b"R")?;
                if rounds > AES_KDF_ROUNDS_MAX {
                    return Err(ImportRefused::TooCostly {
                        cost: Cost::Rounds,
                        asked: rounds,
                        max: AES_KDF_ROUNDS_MAX,
                    });
                }
                let seed = get(b"S").and_then(|seed| seed.try_into().ok()).ok_or(DAMAGED)?;
                Ok(Self::Aes { rounds, seed })
            }
            _ => Err(ImportRefused::EncryptionUnknown),
        }
    }
}

fn version(number: u64) -> Result<Version, ImportRefused> {
    match number {
        0x10 => Ok(Version::V0x10),
        0x13 => Ok(Version::V0x13),
        _ => Err(ImportRefused::EncryptionUnknown),
    }
}

/// The entries of a "variant dictionary": two bytes of version, then type, length and name, length and value, up to a
/// type of zero.
fn variants(bytes: &[u8]) -> Result<Vec<Variant<'_>>, ImportRefused> {
    let mut reader = Reader { file: bytes, at: 0 };
    if reader.take(2)?[1] != 1 {
        return Err(ImportRefused::EncryptionUnknown);
    }
    let mut entries = Vec::new();
    while reader.take(1)?[0] != 0 {
        let length = reader.length()?;
        let name = reader.take(length)?;
        let length = reader.length()?;
        entries.push((name, reader.take(length)?));
    }
    Ok(entries)
}

/// A name and its value.
type Variant<'f> = (&'f [u8], &'f [u8]);

/// A number of 4 or 8 bytes.
fn little_endian(bytes: &[u8]) -> Option<u64> {
    match bytes.len() {
        4 => bytes.try_into().ok().map(|bytes| u64::from(u32::from_le_bytes(bytes))),
        8 => bytes.try_into().ok().map(u64::from_le_bytes),
        _ => None,
    }
}

/// Takes bytes off a slice; the end is an error.
pub(super) struct Reader<'f> {
    pub(super) file: &'f [u8],
    pub(super) at: usize,
}

impl<'f> Reader<'f> {
    pub(super) fn take(&mut self, length: usize) -> Result<&'f [u8], ImportRefused> {
        let rest = &self.file[self.at..];
        let taken = rest.get(..length).ok_or(ImportRefused::CutShort)?;
        self.at += length;
        Ok(taken)
    }

    /// A length of 4 bytes, little-endian.
    pub(super) fn length(&mut self) -> Result<usize, ImportRefused> {
        let bytes = self.take(4)?.try_into().expect("take yields the bytes that were asked for");
        usize::try_from(u32::from_le_bytes(bytes)).map_err(|_| ImportRefused::CutShort)
    }
}

const DAMAGED: ImportRefused = ImportRefused::Damaged { part: Damage::Header };
const VERSION_BYTES: usize = 12;

const AES_256: &[u8] = b"\x31\xc1\xf2\xe6\xbf\x71\x43\x50\xbe\x58\x05\x21\x6a\xfc\x5a\xff";
const TWOFISH: &[u8] = b"\xad\x68\xf2\x9f\x57\x6f\x4b\xb9\xa3\x6a\xd4\x7a\xf9\x65\x34\x6c";
const CHACHA20: &[u8] = b"\xd6\x03\x8a\x2b\x8b\x6f\x4c\xb5\xa5\x24\x33\x9a\x31\xdb\xb5\x9a";
const AES_KDF: &[u8] = b"\xc9\xd9\xf3\x9a\x62\x8a\x44\x60\xbf\x74\x0d\x08\xc1\x8a\x4f\xea";
const AES_KDF_KDBX4: &[u8] = b"\x7c\x02\xbb\x82\x79\xa7\x4a\xc0\x92\x7d\x11\x4a\x00\x64\x82\x38";
const ARGON2D: &[u8] = b"\xef\x63\x6d\xdf\x8c\x29\x44\x4b\x91\xf7\xa9\xa4\x03\xe3\x0a\x0c";
const ARGON2ID: &[u8] = b"\x9e\x29\x8b\x19\x56\xdb\x47\x73\xb2\x3d\xfc\x3e\xc6\xf0\xa1\xe6";

#[cfg(test)]
mod tests {
    use super::*;

    /// A head with these key derivation parameters, and its digest.
    fn file(kdf: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut dictionary = vec![0, 1];
        for (name, value) in kdf {
            dictionary.push(0x42);
            for part in [*name, *value] {
                dictionary.extend_from_slice(&u32::try_from(part.len()).expect("short").to_le_bytes());
                dictionary.extend_from_slice(part);
            }
        }
        dictionary.push(0);
        let fields: [(u8, &[u8]); 6] =
            [(2, AES_256), (3, &[1, 0, 0, 0]), (4, &[7; 32]), (7, &[7; 16]), (11, &dictionary), (0, b"\r\n\r\n")];
        let mut file = b"\x03\xd9\xa2\x9a\x67\xfb\x4b\xb5\x01\0\x04\0".to_vec();
        for (id, value) in fields {
            file.push(id);
            file.extend_from_slice(&u32::try_from(value.len()).expect("short").to_le_bytes());
            file.extend_from_slice(value);
        }
        let digest = Sha256::digest(&file);
        file.extend_from_slice(&digest);
        file.extend_from_slice(&[0; 32]);
        file
    }

    fn argon2(memory: u64, passes: u64, lanes: u32) -> Vec<u8> {
        let (m, i) = (memory.to_le_bytes(), passes.to_le_bytes());
        let (p, v) = (lanes.to_le_bytes(), 0x13_u32.to_le_bytes());
        file(&[(b"$UUID", ARGON2ID), (b"M", &m), (b"I", &i), (b"P", &p), (b"V", &v), (b"S", &[1; 32])])
    }

    fn refusal(file: &[u8]) -> Option<ImportRefused> {
        Header::parse(file).err()
    }

    #[test]
    fn costs_are_capped() {
        const GIB: u64 = 1024 * 1024 * 1024;
        assert_eq!(refusal(&argon2(64 * 1024 * 1024, 10, 4)), None);
        for (memory, passes, lanes) in
            [(GIB + 1, 1, 1), (u64::MAX, 1, 1), (GIB, 33, 1), (8192, u64::MAX, 1), (GIB, 1, 65)]
        {
            assert!(matches!(refusal(&argon2(memory, passes, lanes)), Some(ImportRefused::TooCostly { .. })));
        }
        assert_eq!(refusal(&argon2(1024, 1, 0)), Some(ImportRefused::EncryptionUnknown));
        let rounds = u64::MAX.to_le_bytes();
        let aes = file(&[(b"$UUID", AES_KDF), (b"R", &rounds), (b"S", &[1; 32])]);
        assert!(matches!(refusal(&aes), Some(ImportRefused::TooCostly { cost: Cost::Rounds, .. })));
    }

    #[test]
    fn short_and_mistyped_values_are_refused() {
        let short = file(&[(b"$UUID", AES_KDF), (b"R", &[1]), (b"S", &[1; 32])]);
        assert_eq!(refusal(&short), Some(DAMAGED));
        assert_eq!(refusal(&file(&[])), Some(DAMAGED));
        assert_eq!(refusal(&file(&[(b"$UUID", &[0; 16])])), Some(ImportRefused::EncryptionUnknown));
    }

    #[test]
    fn other_versions_say_what_to_do() {
        let version =
            |signature: u8, major: u8| refusal(&[0x03, 0xd9, 0xa2, 0x9a, signature, 0xfb, 0x4b, 0xb5, 0, 0, major, 0]);
        assert_eq!(version(0x65, 3), Some(ImportRefused::KeePassTooOld));
        assert_eq!(version(0x67, 3), Some(ImportRefused::KeePassTooOld));
        assert_eq!(version(0x67, 5), Some(ImportRefused::KeePassTooNew));
    }
}

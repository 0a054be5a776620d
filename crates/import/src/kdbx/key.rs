//! From password and key file to the keys of a database.

use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt, KeyInit as _};
use argon2::Argon2;
use data_encoding::{BASE64, HEXLOWER_PERMISSIVE, HEXUPPER_PERMISSIVE};
use hmac::{Hmac, Mac};
use quick_xml::Reader;
use quick_xml::events::Event;
use sha2::{Digest, Sha256, Sha512};
use zeroize::{Zeroize, Zeroizing};

use super::header::{Header, Kdf};
use crate::intake::Options;
use crate::refused::ImportRefused;

/// The keys of a database: one encrypts, one authenticates.
pub(super) struct Keys {
    pub(super) encryption: Zeroizing<[u8; 32]>,
    mac: Zeroizing<[u8; 64]>,
}

impl Keys {
    /// Derives the keys and checks them against the head.
    ///
    /// # Errors
    /// [`ImportRefused::PasswordWrong`] where they do not fit.
    pub(super) fn derive(header: &Header<'_>, options: &Options) -> Result<Self, ImportRefused> {
        let composite = composite(options)?;
        let transformed = transform(&header.kdf, &composite)?;
        let mut mac = Zeroizing::new([0; 64]);
        mac.copy_from_slice(
            &Sha512::new()
                .chain_update(header.master_seed)
                .chain_update(transformed.as_slice())
                .chain_update([1])
                .finalize(),
        );
        let keys = Self { encryption: sha256(&[header.master_seed, &*transformed]), mac };
        keys.mac_of(u64::MAX)
            .chain_update(header.bytes)
            .verify_slice(header.mac)
            .map_err(|_| ImportRefused::PasswordWrong)?;
        Ok(keys)
    }

    /// The authenticator of one block, keyed with SHA-512 over the block's number and the key. The head counts as the
    /// last block there could be.
    pub(super) fn mac_of(&self, block: u64) -> Hmac<Sha256> {
        let mut key = Sha512::new().chain_update(block.to_le_bytes()).chain_update(self.mac.as_slice()).finalize();
        let mac = Hmac::new_from_slice(&key).expect("HMAC takes a key of any length");
        key.as_mut_slice().zeroize();
        mac
    }
}

/// SHA-256 over the digests of what opens the database: the password's, then the key file's.
fn composite(options: &Options) -> Result<Zeroizing<[u8; 32]>, ImportRefused> {
    let mut hash = Sha256::new();
    if let Some(password) = &options.password {
        // EXPOSE: the hash takes raw bytes; it keeps no copy.
        hash.update(sha256(&[password.expose()]).as_slice());
    }
    if let Some(key_file) = &options.key_file {
        // EXPOSE: the key file's parser takes raw bytes; it keeps no copy.
        hash.update(key_of(key_file.expose())?.as_slice());
    }
    Ok(Zeroizing::new(hash.finalize().into()))
}

fn transform(kdf: &Kdf<'_>, composite: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, ImportRefused> {
    match kdf {
        Kdf::Argon2 { algorithm, version, params, salt } => {
            let mut key = Zeroizing::new([0; 32]);
            Argon2::new(*algorithm, *version, params.clone())
                .hash_password_into(composite, salt, &mut *key)
                .map_err(|_| ImportRefused::OutOfMemory)?;
            Ok(key)
        }
        Kdf::Aes { rounds, seed } => {
            let cipher = Aes256::new(&(*seed).into());
            let mut blocks: [aes::Block; 2] = [[0; 16].into(), [0; 16].into()];
            blocks[0].copy_from_slice(&composite[..16]);
            blocks[1].copy_from_slice(&composite[16..]);
            for _ in 0..*rounds {
                cipher.encrypt_blocks(&mut blocks);
            }
            let key = sha256(&[&blocks[0], &blocks[1]]);
            blocks.iter_mut().for_each(|block| block.as_mut_slice().zeroize());
            Ok(key)
        }
    }
}

/// The key in a key file: XML of version 1 or 2, 32 bytes, 64 hexadecimal digits, or else the digest of the whole file.
fn key_of(file: &[u8]) -> Result<Zeroizing<[u8; 32]>, ImportRefused> {
    if let Some(xml) = std::str::from_utf8(file).ok().and_then(XmlKey::parse) {
        return xml.key();
    }
    if let Ok(key) = file.try_into() {
        return Ok(Zeroizing::new(key));
    }
    let hex = if file.len() == 64 { HEXLOWER_PERMISSIVE.decode(file).ok() } else { None };
    match hex.map(Zeroizing::new).and_then(|key| key.as_slice().try_into().ok()) {
        Some(key) => Ok(Zeroizing::new(key)),
        None => Ok(sha256(&[file])),
    }
}

/// An XML key file's content.
struct XmlKey {
    version: String,
    /// In version 2: the first four bytes of the key's SHA-256 in hexadecimal.
    check: Option<String>,
    data: Zeroizing<String>,
}

impl XmlKey {
    /// `None` where the text is no XML key file.
    fn parse(text: &str) -> Option<Self> {
        let mut reader = Reader::from_str(text);
        let mut path: Vec<String> = Vec::new();
        let mut key = Self { version: String::new(), check: None, data: Zeroizing::default() };
        loop {
            match reader.read_event().ok()? {
                Event::Start(tag) => {
                    path.push(tag.name().as_ref().to_owned());
                    if path == ["KeyFile", "Key", "Data"] {
                        key.check = tag.try_get_attribute("Hash").ok()?.map(|hash| hash.value.into_owned());
                    }
                    if path.len() > 8 {
                        return None;
                    }
                }
                Event::End(_) => drop(path.pop()),
                Event::Text(text) if path == ["KeyFile", "Meta", "Version"] => key.version.push_str(&text),
                Event::Text(text) if path == ["KeyFile", "Key", "Data"] => key.data.push_str(&text),
                Event::Eof => return (!key.data.trim().is_empty()).then_some(key),
                _ => {}
            }
        }
    }

    fn key(self) -> Result<Zeroizing<[u8; 32]>, ImportRefused> {
        let damaged = || ImportRefused::KeyFileDamaged;
        let compact: Zeroizing<String> = Zeroizing::new(self.data.split_whitespace().collect());
        let bytes = if self.version.trim().starts_with('2') {
            HEXUPPER_PERMISSIVE.decode(compact.as_bytes())
        } else {
            BASE64.decode(compact.as_bytes())
        };
        let bytes = Zeroizing::new(bytes.map_err(|_| damaged())?);
        let key: [u8; 32] = bytes.as_slice().try_into().map_err(|_| damaged())?;
        let key = Zeroizing::new(key);
        let check = self.check.map(|check| HEXUPPER_PERMISSIVE.decode(check.trim().as_bytes()));
        match check {
            Some(check) if check.as_deref().ok() != Some(&sha256(&[&*key])[..4]) => Err(damaged()),
            _ => Ok(key),
        }
    }
}

fn sha256(parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    Zeroizing::new(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_files_of_every_form() {
        let key = |file: &str| key_of(file.as_bytes()).map(|key| *key);
        let hex = "36057B1C35037FD962257893C0A22403EE3F8FBB504D998108B821CB00D28F89";
        let expected: [u8; 32] = HEXUPPER_PERMISSIVE.decode(hex.as_bytes()).expect("hex").try_into().expect("32 bytes");
        // The example in KeePassXC's own documentation of the format, with its check.
        let v2 = |check: &str| {
            format!(
                "<?xml version=\"1.0\"?><KeyFile><Meta><Version>2.0</Version></Meta><Key><Data Hash=\"{check}\">\
                 36057B1C 35037FD9\n 62257893 C0A22403 EE3F8FBB 504D9981 08B821CB 00D28F89</Data></Key></KeyFile>"
            )
        };
        assert_eq!(key(&v2("A65F0C2D")), Ok(expected));
        assert_eq!(key(&v2("00000000")), Err(ImportRefused::KeyFileDamaged));
        assert_eq!(key(hex), Ok(expected));
        let v1 = format!("<KeyFile><Key><Data>{}</Data></Key></KeyFile>", BASE64.encode(&expected));
        assert_eq!(key(&v1), Ok(expected));
        assert_eq!(key(&"x".repeat(32)), Ok([b'x'; 32]));
        assert_eq!(key("anything"), Ok(Sha256::digest("anything").into()));
    }
}

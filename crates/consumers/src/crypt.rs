//! The consumer `crypt`: encrypts, decrypts, authenticates and derives under a named key with versions.
//!
//! | operation | answer |
//! | --- | --- |
//! | encrypt, rewrap | `u8(1) ‖ u32(version) ‖ nonce (24) ‖ XChaCha20-Poly1305 ciphertext ‖ tag (16)` |
//! | mac | `u8(1) ‖ u32(version) ‖ HMAC-SHA-256 of the message (32)` |
//! | derive | 32 bytes of HKDF-SHA-256, for the vault to keep; a guest gets a reference |
//!
//! Integers are big-endian. The associated data binds item, version and the caller's context, so a ciphertext opens in no
//! other place. The tag is over the plain message, so that whoever holds the key elsewhere checks its last 32 bytes with any
//! HMAC. `docs/cryptography.md` has the rest.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use rand_core::CryptoRng;
use sha2::Sha256;
use strongroom_wire::guest::{CryptCall, UseResult};
use strongroom_wire::policy::{KeyPolicy, KeyPurpose};
use strongroom_wire::template::check_crypt;
use strongroom_wire::{Bytes, Code, ItemId, Refusal};
use zeroize::Zeroizing;

use crate::keys::symmetric_key;

/// The versions of one key, newest first, each with the secret as it is stored.
#[derive(Clone, Copy)]
pub struct Versions<'a>(pub &'a [(u32, &'a [u8])]);

/// What `crypt` gave.
pub enum CryptOutput {
    /// The answer to whoever asked.
    Answer(UseResult),
    /// A derived key: the vault stores it and answers with its reference.
    Derived(Zeroizing<[u8; 32]>),
}

/// Does what `call` asks with the key of `item`, after checking it (again) against the key's policy.
///
/// # Errors
/// Those of [`check_crypt`]; `key_malformed` where a version that is needed is not 32 bytes; `ciphertext_refused` where no
/// version of this key made the ciphertext for this item and context, whatever differs.
pub fn crypt(
    versions: Versions<'_>,
    item: ItemId,
    policy: KeyPolicy,
    call: &CryptCall,
    rng: &mut dyn CryptoRng,
) -> Result<CryptOutput, Refusal> {
    check_crypt(call, policy)?;
    let answer = match call {
        CryptCall::Encrypt { plaintext, context } => UseResult::Ciphertext {
            ciphertext: Bytes(encrypt(versions.newest()?, item, &plaintext.0, &context.0, rng)?),
        },
        CryptCall::Decrypt { ciphertext, context } => {
            let mut plaintext = decrypt(versions, item, &ciphertext.0, &context.0)?;
            UseResult::Plaintext { plaintext: Bytes(std::mem::take(&mut *plaintext)) }
        }
        CryptCall::Rewrap { ciphertext, context } => {
            let plaintext = decrypt(versions, item, &ciphertext.0, &context.0)?;
            UseResult::Ciphertext { ciphertext: Bytes(encrypt(versions.newest()?, item, &plaintext, &context.0, rng)?) }
        }
        CryptCall::Mac { message } => UseResult::Tag { tag: Bytes(mac(versions.newest()?, &message.0)?) },
        CryptCall::VerifyMac { message, tag } => UseResult::Verified { valid: verify(versions, &message.0, &tag.0)? },
        CryptCall::Derive { context, purpose } => {
            return derive(versions.newest()?, item, *purpose, &context.0).map(CryptOutput::Derived);
        }
    };
    Ok(CryptOutput::Answer(answer))
}

impl<'a> Versions<'a> {
    fn newest(self) -> Result<(u32, &'a [u8]), Refusal> {
        self.0.first().copied().ok_or_else(|| Code::KeyMalformed.into())
    }

    fn get(self, version: u32) -> Option<&'a [u8]> {
        self.0.iter().find(|(number, _)| *number == version).map(|(_, secret)| *secret)
    }
}

fn encrypt(
    (version, secret): (u32, &[u8]),
    item: ItemId,
    plaintext: &[u8],
    context: &[u8],
    rng: &mut dyn CryptoRng,
) -> Result<Vec<u8>, Refusal> {
    let mut nonce = XNonce::default();
    rng.fill_bytes(&mut nonce);
    let aad = associated_data(item, version, context);
    let sealed = cipher(secret)?
        .encrypt(&nonce, Payload { msg: plaintext, aad: &aad })
        .expect("XChaCha20-Poly1305 takes 512 KiB");
    Ok([&[FORMAT], version.to_be_bytes().as_slice(), &nonce, &sealed].concat())
}

fn decrypt(
    versions: Versions<'_>,
    item: ItemId,
    ciphertext: &[u8],
    context: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let open = || {
        let (version, rest) = split_version(ciphertext)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_BYTES)?;
        Some((version, versions.get(version)?, XNonce::try_from(nonce).ok()?, sealed))
    };
    let (version, secret, nonce, sealed) = open().ok_or(Code::CiphertextRefused)?;
    let aad = associated_data(item, version, context);
    cipher(secret)?
        .decrypt(&nonce, Payload { msg: sealed, aad: &aad })
        .map(Zeroizing::new)
        .map_err(|_| Code::CiphertextRefused.into())
}

fn mac((version, secret): (u32, &[u8]), message: &[u8]) -> Result<Vec<u8>, Refusal> {
    let tag = hmac(secret, message)?.finalize().into_bytes();
    Ok([&[FORMAT], version.to_be_bytes().as_slice(), &tag].concat())
}

/// A tag of another form or of a version that is gone was not made by this key: `false`, not a refusal.
fn verify(versions: Versions<'_>, message: &[u8], tag: &[u8]) -> Result<bool, Refusal> {
    let Some((version, tag)) = split_version(tag) else { return Ok(false) };
    let Some(secret) = versions.get(version) else { return Ok(false) };
    Ok(hmac(secret, message)?.verify_slice(tag).is_ok())
}

fn derive(
    (version, secret): (u32, &[u8]),
    item: ItemId,
    purpose: KeyPurpose,
    context: &[u8],
) -> Result<Zeroizing<[u8; 32]>, Refusal> {
    let info = tuple(&[
        b"strongroom/v1/derive",
        item.as_bytes(),
        &version.to_be_bytes(),
        purpose.as_str().as_bytes(),
        context,
    ]);
    let mut derived = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, symmetric_key(secret)?.as_slice())
        .expand(&info, derived.as_mut_slice())
        .expect("HKDF-SHA-256 yields 32 bytes");
    Ok(derived)
}

fn cipher(secret: &[u8]) -> Result<XChaCha20Poly1305, Refusal> {
    let key = symmetric_key(secret)?;
    Ok(XChaCha20Poly1305::new_from_slice(key.as_slice()).expect("the key has 32 bytes"))
}

fn hmac(secret: &[u8], message: &[u8]) -> Result<Hmac<Sha256>, Refusal> {
    let key = symmetric_key(secret)?;
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key.as_slice()).expect("HMAC takes keys of every length");
    mac.update(message);
    Ok(mac)
}

fn split_version(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (version, rest) = bytes.strip_prefix(&[FORMAT])?.split_first_chunk()?;
    Some((u32::from_be_bytes(*version), rest))
}

fn associated_data(item: ItemId, version: u32, context: &[u8]) -> Vec<u8> {
    tuple(&[b"strongroom/v1/crypt", item.as_bytes(), &version.to_be_bytes(), context])
}

/// Each part after its length as `u32`, as everywhere in `docs/cryptography.md`.
fn tuple(parts: &[&[u8]]) -> Vec<u8> {
    let length = |part: &[u8]| u32::try_from(part.len()).expect("contexts are bounded").to_be_bytes();
    parts.iter().flat_map(|part| [length(part).to_vec(), part.to_vec()].concat()).collect()
}

const FORMAT: u8 = 1;
const NONCE_BYTES: usize = 24;

#[cfg(test)]
mod tests;

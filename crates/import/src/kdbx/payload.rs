//! The encrypted part: blocks, cipher, compression, and the head inside.

use std::io::Read;

use aes::Aes256;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, KeyIvInit, StreamCipher};
use chacha20::ChaCha20;
use flate2::read::GzDecoder;
use hmac::Mac;
use salsa20::Salsa20;
use sha2::{Digest, Sha256, Sha512};
use twofish::Twofish;
use zeroize::Zeroizing;

use super::header::{Cipher, Header, Reader};
use super::key::Keys;
use crate::limits::INFLATED_BYTES_MAX;
use crate::refused::{Damage, ImportRefused};

/// What was inside: the document, the keystream for its protected values, and how many attachments there are.
pub(super) struct Payload {
    bytes: Zeroizing<Vec<u8>>,
    document_at: usize,
    stream: Stream,
    stream_key: Zeroizing<Vec<u8>>,
    pub(super) attachments: u64,
}

impl Payload {
    /// A document without anything around it, for the fuzzer.
    pub(super) fn unencrypted(document: &[u8]) -> Self {
        Self {
            bytes: Zeroizing::new(document.to_vec()),
            document_at: 0,
            stream: Stream::ChaCha20,
            stream_key: Zeroizing::new(Vec::new()),
            attachments: 0,
        }
    }

    /// The XML document.
    pub(super) fn document(&self) -> Result<&str, ImportRefused> {
        std::str::from_utf8(&self.bytes[self.document_at..])
            .map_err(|_| ImportRefused::Damaged { part: Damage::Document })
    }

    /// The keystream from its start.
    pub(super) fn keystream(&self) -> Keystream {
        match self.stream {
            Stream::Salsa20 => {
                let key = Zeroizing::new(<[u8; 32]>::from(Sha256::digest(&*self.stream_key)));
                Keystream::Salsa20(Box::new(Salsa20::new(&(*key).into(), &SALSA20_NONCE.into())))
            }
            Stream::ChaCha20 => {
                let key = Zeroizing::new(<[u8; 64]>::from(Sha512::digest(&*self.stream_key)));
                let cipher = ChaCha20::new_from_slices(&key[..32], &key[32..44]);
                Keystream::ChaCha20(Box::new(cipher.expect("ChaCha20 takes 32 and 12 bytes")))
            }
        }
    }
}

/// What hides protected values inside the document. It runs on from one value to the next, in document order.
pub(super) enum Keystream {
    Salsa20(Box<Salsa20>),
    ChaCha20(Box<ChaCha20>),
}

impl Keystream {
    /// Uncovers the next value.
    ///
    /// # Errors
    /// Where the keystream has ended, which takes 256 GiB of values.
    pub(super) fn apply(&mut self, value: &mut [u8]) -> Result<(), ImportRefused> {
        let applied = match self {
            Self::Salsa20(cipher) => cipher.try_apply_keystream(value),
            Self::ChaCha20(cipher) => cipher.try_apply_keystream(value),
        };
        applied.map_err(|_| ImportRefused::Damaged { part: Damage::Document })
    }
}

#[derive(Clone, Copy)]
enum Stream {
    Salsa20,
    ChaCha20,
}

/// Opens the encrypted part.
pub(super) fn open(header: &Header<'_>, keys: &Keys) -> Result<Payload, ImportRefused> {
    let bytes = decrypt(header, keys, join_blocks(header.blocks, keys)?)?;
    let bytes = if header.gzip { inflate(&bytes)? } else { bytes };
    if bytes.len() as u64 > INFLATED_BYTES_MAX {
        return Err(ImportRefused::InflatesTooFar);
    }
    inner_header(bytes)
}

/// The ciphertext out of its blocks: HMAC, 4 bytes of length, data; the last one is empty.
fn join_blocks(blocks: &[u8], keys: &Keys) -> Result<Zeroizing<Vec<u8>>, ImportRefused> {
    let mut reader = Reader { file: blocks, at: 0 };
    let mut joined = Zeroizing::new(Vec::with_capacity(blocks.len()));
    for number in 0_u64.. {
        let mac = reader.take(32)?;
        let length = reader.length()?;
        let data = reader.take(length)?;
        let length = u32::try_from(length).expect("a length was read from 4 bytes").to_le_bytes();
        keys.mac_of(number)
            .chain_update(number.to_le_bytes())
            .chain_update(length)
            .chain_update(data)
            .verify_slice(mac)
            .map_err(|_| ImportRefused::Damaged { part: Damage::Checksum })?;
        if data.is_empty() {
            break;
        }
        joined.extend_from_slice(data);
    }
    Ok(joined)
}

fn decrypt(
    header: &Header<'_>,
    keys: &Keys,
    mut bytes: Zeroizing<Vec<u8>>,
) -> Result<Zeroizing<Vec<u8>>, ImportRefused> {
    let damaged = || ImportRefused::Damaged { part: Damage::Header };
    let (key, iv) = (&*keys.encryption, header.iv);
    let length = match header.cipher {
        Cipher::Aes256Cbc => {
            let cipher = cbc::Decryptor::<Aes256>::new_from_slices(key, iv).map_err(|_| damaged())?;
            cipher.decrypt_padded::<Pkcs7>(&mut bytes).map_err(|_| damaged())?.len()
        }
        Cipher::TwofishCbc => {
            let cipher = cbc::Decryptor::<Twofish>::new_from_slices(key, iv).map_err(|_| damaged())?;
            cipher.decrypt_padded::<Pkcs7>(&mut bytes).map_err(|_| damaged())?.len()
        }
        Cipher::ChaCha20 => {
            let mut cipher = ChaCha20::new_from_slices(key, iv).map_err(|_| damaged())?;
            cipher.try_apply_keystream(&mut bytes).map_err(|_| damaged())?;
            bytes.len()
        }
    };
    bytes.truncate(length);
    Ok(bytes)
}

/// Inflates twice: once to learn the length and whether it is allowed, once into memory of that length.
fn inflate(bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, ImportRefused> {
    let damaged = |_| ImportRefused::Damaged { part: Damage::Compression };
    let mut bounded = GzDecoder::new(bytes).take(INFLATED_BYTES_MAX + 1);
    let length = std::io::copy(&mut bounded, &mut std::io::sink()).map_err(damaged)?;
    if length > INFLATED_BYTES_MAX {
        return Err(ImportRefused::InflatesTooFar);
    }
    let mut inflated = Zeroizing::new(vec![0; usize::try_from(length).map_err(|_| ImportRefused::InflatesTooFar)?]);
    GzDecoder::new(bytes).read_exact(&mut inflated).map_err(damaged)?;
    Ok(inflated)
}

fn inner_header(bytes: Zeroizing<Vec<u8>>) -> Result<Payload, ImportRefused> {
    let damaged = || ImportRefused::Damaged { part: Damage::InnerHeader };
    let mut reader = Reader { file: &bytes, at: 0 };
    let (mut stream, mut stream_key, mut attachments) = (None, None, 0);
    loop {
        let id = reader.take(1).map_err(|_| damaged())?[0];
        let length = reader.length().map_err(|_| damaged())?;
        let value = reader.take(length).map_err(|_| damaged())?;
        match (id, value) {
            (0, _) => break,
            (1, [2, 0, 0, 0]) => stream = Some(Stream::Salsa20),
            (1, [3, 0, 0, 0]) => stream = Some(Stream::ChaCha20),
            (2, key) => stream_key = Some(Zeroizing::new(key.to_vec())),
            (3, _) => attachments += 1,
            _ => return Err(damaged()),
        }
    }
    let document_at = reader.at;
    let stream = stream.ok_or_else(damaged)?;
    Ok(Payload { document_at, stream, stream_key: stream_key.ok_or_else(damaged)?, attachments, bytes })
}

/// KeePass's fixed nonce for Salsa20; the key is another in every file.
const SALSA20_NONCE: [u8; 8] = [0xe8, 0x30, 0x09, 0x4b, 0x97, 0x20, 0x5d, 0x2a];

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_decompression_bomb_is_refused() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let zeros = vec![0; 1024 * 1024];
        for _ in 0..=INFLATED_BYTES_MAX / (1024 * 1024) {
            gzip.write_all(&zeros).expect("memory takes every byte");
        }
        let bomb = gzip.finish().expect("memory takes every byte");
        assert!(bomb.len() < 1024 * 1024);
        assert_eq!(inflate(&bomb).err(), Some(ImportRefused::InflatesTooFar));
    }

    #[test]
    fn inner_heads_cut_anywhere_are_refused() {
        let whole = b"\x01\x04\0\0\0\x03\0\0\0\x02\x02\0\0\0kk\x03\x02\0\0\0\0A\0\0\0\0\0<x/>";
        let read = |bytes: &[u8]| inner_header(Zeroizing::new(bytes.to_vec()));
        let Ok(payload) = read(whole) else { panic!("a whole head") };
        assert_eq!((payload.document(), payload.attachments), (Ok("<x/>"), 1));
        for length in 0..whole.len() - 4 {
            assert!(read(&whole[..length]).is_err(), "{length}");
        }
    }
}

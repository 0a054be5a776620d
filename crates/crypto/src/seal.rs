//! What is sealed at rest (sections 3, 4 and 5).
//!
//! Everything here is XChaCha20-Poly1305 under one key with one purpose, or HPKE to one public key, and names its place: the
//! vault, the item, the version. Bytes moved to another place do not open.

use chacha20poly1305::{AeadInOut as _, KeyInit as _, XChaCha20Poly1305, aead::inout::InOutBuf};

use crate::{
    CryptoRng, Id,
    locked::SecretBytes,
    secret::{ItemKey, Key32, VaultKey},
    tuple::{Tuple, pad, unpad},
};

mod credential;
mod header;
mod mailbox;
mod recovery;
mod tail;

pub use self::{
    credential::{CREDENTIAL_BYTES_MAX, Credential, open_chain, seal_chain, seal_credential},
    header::{
        HEADER_BYTES_MAX, HeaderCopy, HeaderError, HeaderFile, HeaderTooLarge, Newest, OPEN_PART_BYTES_MAX, Other,
        newest_header, seal_header,
    },
    mailbox::{
        MailPlace, open_hand_over, open_mail, open_outcome, open_share_copy, seal_hand_over, seal_mail, seal_outcome,
        seal_share_copy,
    },
    recovery::{RECOVERY_BLOB_BYTES_MAX, RecoveryBlob, VerifiedRecoveryBlob, seal_recovery_blob},
    tail::{TAIL_ENTRY_BYTES_MAX, Tail, TailError, TailMac, append_tail, read_tail},
};

/// How much longer than its plaintext sealed bytes are: version, nonce and tag.
pub const SEALED_OVERHEAD_BYTES: usize = 1 + NONCE_BYTES + TAG_BYTES;

/// Why sealed bytes were not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Too short, too long, or bytes left over.
    #[error("the sealed bytes have a length they cannot have")]
    Length,
    /// Made by a later version of the format.
    #[error("the sealed bytes are of an unknown version")]
    Version,
    /// Another key, another place, or changed bytes. Nobody can tell which.
    #[error("the sealed bytes do not verify")]
    Tag,
    /// They verified, and what is inside is malformed.
    #[error("the padding inside the sealed bytes is malformed")]
    Padding,
}

/// Where an item key belongs.
#[derive(Clone, Copy, Debug)]
pub struct ItemPlace<'a> {
    /// The vault.
    pub vault: &'a Id,
    /// The item.
    pub item: &'a Id,
    /// The rotation of the vault key that wraps it, counted from 1.
    pub generation: u32,
}

/// Where a secret field belongs.
#[derive(Clone, Copy, Debug)]
pub struct FieldPlace<'a> {
    /// The vault.
    pub vault: &'a Id,
    /// The item.
    pub item: &'a Id,
    /// The field's name.
    pub field: &'a str,
    /// The version of the field's value.
    pub version: u64,
}

/// Wraps an item key under the vault key. 73 bytes.
pub fn wrap_item_key(key: &VaultKey, place: &ItemPlace<'_>, item_key: &ItemKey, rng: &mut dyn CryptoRng) -> Vec<u8> {
    // EXPOSE: the AEAD takes raw bytes; it keeps no copy.
    seal(&key.0, &place.ad(), item_key.0.expose(), rng)
}

/// Unwraps an item key.
///
/// # Errors
/// When it was wrapped by another vault key, for another item or in another generation, or was changed.
pub fn unwrap_item_key(key: &VaultKey, place: &ItemPlace<'_>, wrapped: &[u8]) -> Result<ItemKey, OpenError> {
    let opened = open(&key.0, &place.ad(), wrapped)?;
    // EXPOSE: copied from one place in locked memory to another.
    let bytes = opened.expose().as_array().ok_or(OpenError::Length)?;
    Ok(ItemKey(Key32::copy_of(bytes)))
}

/// Seals the value of a secret field, padded to at least 64 bytes.
///
/// # Panics
/// If `value` is 4 GiB or longer; callers bound it.
pub fn seal_field(key: &ItemKey, place: &FieldPlace<'_>, value: &[u8], rng: &mut dyn CryptoRng) -> Vec<u8> {
    seal_padded(&key.0, &place.ad(), value, FIELD_BYTES_MIN, rng)
}

/// Opens the value of a secret field.
///
/// # Errors
/// When it was sealed under another key or for another place, or was changed.
pub fn open_field(key: &ItemKey, place: &FieldPlace<'_>, sealed: &[u8]) -> Result<SecretBytes, OpenError> {
    open_padded(&key.0, &place.ad(), sealed)
}

impl ItemPlace<'_> {
    fn ad(&self) -> Tuple {
        Tuple::labelled("item-key").bytes(self.vault).bytes(self.item).u32(self.generation)
    }
}

impl FieldPlace<'_> {
    fn ad(&self) -> Tuple {
        Tuple::labelled("field").bytes(self.vault).bytes(self.item).text(self.field).u64(self.version)
    }
}

/// `seal(key, ad, plaintext)`: `u8(1) || nonce || ciphertext || tag`. The plaintext is read where it lies.
pub(crate) fn seal(key: &Key32, ad: &Tuple, plaintext: &[u8], rng: &mut dyn CryptoRng) -> Vec<u8> {
    let mut sealed = vec![0; SEALED_OVERHEAD_BYTES + plaintext.len()];
    sealed[0] = VERSION;
    let (nonce, rest) = sealed[1..].split_at_mut(NONCE_BYTES);
    let (body, tag) = rest.split_at_mut(plaintext.len());
    rng.fill_bytes(nonce);
    let nonce: &[u8; NONCE_BYTES] = (&*nonce).try_into().expect("cut to length above");
    let buffer = InOutBuf::new(plaintext, body).expect("the buffers have one length");
    // EXPOSE: the cipher copies the key and wipes its copy when it is dropped.
    let computed = XChaCha20Poly1305::new(key.expose().into())
        .encrypt_inout_detached(nonce.into(), ad.as_bytes(), buffer)
        .expect("what is sealed is shorter than 256 GiB");
    tag.copy_from_slice(&computed);
    sealed
}

/// Opens what [`seal`] made; the plaintext is written to locked memory alone.
pub(crate) fn open(key: &Key32, ad: &Tuple, sealed: &[u8]) -> Result<SecretBytes, OpenError> {
    let (version, rest) = sealed.split_first().ok_or(OpenError::Length)?;
    if *version != VERSION {
        return Err(OpenError::Version);
    }
    let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(OpenError::Length)?;
    let (body, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(OpenError::Length)?;
    let mut plaintext = SecretBytes::zeroed(body.len());
    // EXPOSE: the AEAD writes the plaintext here, after it has verified the tag.
    let buffer = InOutBuf::new(body, plaintext.expose_mut()).map_err(|_| OpenError::Length)?;
    // EXPOSE: the cipher copies the key and wipes its copy when it is dropped.
    XChaCha20Poly1305::new(key.expose().into())
        .decrypt_inout_detached(nonce.into(), ad.as_bytes(), buffer, tag.into())
        .map_err(|_| OpenError::Tag)?;
    Ok(plaintext)
}

/// `seal(key, ad, pad(plaintext, min))`.
pub(crate) fn seal_padded(key: &Key32, ad: &Tuple, plaintext: &[u8], min: usize, rng: &mut dyn CryptoRng) -> Vec<u8> {
    // EXPOSE: from locked memory straight into the cipher.
    seal(key, ad, pad(plaintext, min).expose(), rng)
}

/// Opens what [`seal_padded`] made.
pub(crate) fn open_padded(key: &Key32, ad: &Tuple, sealed: &[u8]) -> Result<SecretBytes, OpenError> {
    strip(open(key, ad, sealed)?)
}

/// Takes the padding off without moving the bytes.
pub(crate) fn strip(padded: SecretBytes) -> Result<SecretBytes, OpenError> {
    // EXPOSE: only to find where the content ends.
    let len = unpad(padded.expose()).map_err(|_| OpenError::Padding)?.len();
    Ok(padded.narrow(4..4 + len))
}

const VERSION: u8 = 1;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
const FIELD_BYTES_MIN: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::test_rng::{FixedRng, TestRng};

    const PLACE: FieldPlace<'_> = FieldPlace { vault: &[1; 16], item: &[2; 16], field: "password", version: 3 };

    #[test]
    fn xchacha20_poly1305_agrees_with_its_draft() {
        // draft-irtf-cfrg-xchacha-03, appendix A.3.1
        let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
        let key: Vec<u8> = (0x80..=0x9f).collect();
        let nonce: Vec<u8> = (0x40..=0x57).collect();
        let plaintext = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
        let mut body = vec![0; plaintext.len()];
        let tag = XChaCha20Poly1305::new_from_slice(&key)
            .unwrap()
            .encrypt_inout_detached(
                nonce.as_slice().try_into().unwrap(),
                &hex("50515253c0c1c2c3c4c5c6c7"),
                InOutBuf::new(plaintext, &mut body).unwrap(),
            )
            .unwrap();
        assert_eq!(body[..16], hex("bd6d179d3e83d43b9576579493c0e939")[..]);
        assert_eq!(tag[..], hex("c0875924c1c7987947deafd8780acf49")[..]);
    }

    #[test]
    fn an_item_key_opens_in_its_place_alone() {
        let mut rng = TestRng::new("item key");
        let (vault_key, item_key) = (VaultKey::generate(&mut rng), ItemKey::generate(&mut rng));
        let place = ItemPlace { vault: &[1; 16], item: &[2; 16], generation: 1 };
        let wrapped = wrap_item_key(&vault_key, &place, &item_key, &mut rng);
        assert_eq!(wrapped.len(), 73);
        assert_eq!(unwrap_item_key(&vault_key, &place, &wrapped).unwrap().0.expose(), item_key.0.expose());
        for other in [
            ItemPlace { vault: &[9; 16], ..place },
            ItemPlace { item: &[9; 16], ..place },
            ItemPlace { generation: 2, ..place },
        ] {
            assert_eq!(unwrap_item_key(&vault_key, &other, &wrapped).err(), Some(OpenError::Tag));
        }
        assert!(unwrap_item_key(&VaultKey::generate(&mut rng), &place, &wrapped).is_err());
        // A field sealed by mistake under the vault key, of another length than a key.
        let short = seal(&vault_key.0, &place.ad(), &[0; 31], &mut rng);
        assert_eq!(unwrap_item_key(&vault_key, &place, &short).err(), Some(OpenError::Length));
    }

    #[test]
    fn a_field_opens_in_its_place_alone() {
        let mut rng = TestRng::new("field");
        let key = ItemKey::generate(&mut rng);
        let sealed = seal_field(&key, &PLACE, b"hunter2", &mut rng);
        assert_eq!(sealed.len(), 64 + SEALED_OVERHEAD_BYTES);
        assert_eq!(open_field(&key, &PLACE, &sealed).unwrap().expose(), b"hunter2");
        for other in [
            FieldPlace { vault: &[9; 16], ..PLACE },
            FieldPlace { item: &[9; 16], ..PLACE },
            FieldPlace { field: "passwore", ..PLACE },
            FieldPlace { version: 4, ..PLACE },
        ] {
            assert_eq!(open_field(&key, &other, &sealed).err(), Some(OpenError::Tag));
        }
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_refused() {
        let key = ItemKey::generate(&mut TestRng::new("flip"));
        let sealed = seal_field(&key, &PLACE, b"hunter2", &mut TestRng::new("flip nonce"));
        for len in 0..sealed.len() {
            assert!(open_field(&key, &PLACE, &sealed[..len]).is_err(), "cut to {len}");
        }
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(open_field(&key, &PLACE, &changed).is_err(), "bit {bit}");
        }
        let longer = [&sealed[..], &[0]].concat();
        assert!(open_field(&key, &PLACE, &longer).is_err());
    }

    #[test]
    fn malformed_padding_is_refused_after_it_verified() {
        let mut rng = TestRng::new("padding");
        let key = ItemKey::generate(&mut rng);
        for bad in [&[][..], &[0, 0, 0, 9, 1], &[0, 0, 0, 0, 1]] {
            let sealed = seal(&key.0, &PLACE.ad(), bad, &mut rng);
            assert_eq!(open_field(&key, &PLACE, &sealed).err(), Some(OpenError::Padding));
        }
    }

    #[test]
    fn the_nonce_is_all_the_randomness_that_is_drawn() {
        let key = ItemKey(Key32::copy_of(&[1; 32]));
        let sealed = seal_field(&key, &PLACE, b"v", &mut FixedRng(vec![7; 24]));
        assert_eq!(sealed[..25], [&[1][..], &[7; 24]].concat());
    }

    proptest! {
        #[test]
        fn open_undoes_seal(value in proptest::collection::vec(any::<u8>(), 0..5000), seed in any::<[u8; 32]>()) {
            let key = ItemKey(Key32::copy_of(&seed));
            let sealed = seal_field(&key, &PLACE, &value, &mut TestRng::new("round trip"));
            let opened = open_field(&key, &PLACE, &sealed).unwrap();
            prop_assert_eq!(opened.expose(), &value[..]);
        }
    }
}

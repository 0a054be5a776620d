//! The recovery blob: the credential's contents, for whoever has the 24 words (section 5).

use super::{OpenError, strip};
use crate::{
    CryptoRng, Id,
    factor::RecoveryPsk,
    kem::{Binding, KemPublic, SEALED_OVERHEAD_BYTES, SlotSecret, hpke_open, hpke_seal},
    locked::SecretBytes,
    sign::{PublicKey, SIGNATURE_BYTES, SignatureRefused, SigningKey},
    tuple::{Reader, Tuple, pad},
};

/// The longest blob.
pub const RECOVERY_BLOB_BYTES_MAX: usize = 1 << 20;

/// A recovery blob taken apart, of unknown origin.
#[derive(Clone, Copy, Debug)]
pub struct RecoveryBlob<'a> {
    vault: &'a Id,
    sequence: u64,
    body: &'a [u8],
    sealed: &'a [u8],
    signature: &'a [u8; SIGNATURE_BYTES],
}

impl<'a> RecoveryBlob<'a> {
    /// Takes a blob apart.
    ///
    /// # Errors
    /// [`OpenError::Length`] or [`OpenError::Version`].
    pub fn parse(blob: &'a [u8]) -> Result<Self, OpenError> {
        if blob.first().ok_or(OpenError::Length)? != &VERSION {
            return Err(OpenError::Version);
        }
        if blob.len() > RECOVERY_BLOB_BYTES_MAX {
            return Err(OpenError::Length);
        }
        let (body, signature) = blob.split_last_chunk().ok_or(OpenError::Length)?;
        let mut reader = Reader(body.get(1..).ok_or(OpenError::Length)?);
        let vault = reader.array().ok_or(OpenError::Length)?;
        let sequence = reader.u64().ok_or(OpenError::Length)?;
        if reader.0.len() < SEALED_OVERHEAD_BYTES {
            return Err(OpenError::Length);
        }
        Ok(Self { vault, sequence, body, sealed: reader.0, signature })
    }

    /// The vault it says it belongs to.
    pub fn vault(&self) -> &'a Id {
        self.vault
    }

    /// Its number; a higher one is newer.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Verifies that this identity made it.
    ///
    /// # Errors
    /// When it did not.
    pub fn verify(self, identity: &PublicKey) -> Result<VerifiedRecoveryBlob<'a>, SignatureRefused> {
        identity.verify_tuple(&statement(self.body), self.signature)?;
        Ok(VerifiedRecoveryBlob(self))
    }
}

/// A recovery blob whose origin is known.
#[derive(Clone, Copy, Debug)]
pub struct VerifiedRecoveryBlob<'a>(RecoveryBlob<'a>);

impl VerifiedRecoveryBlob<'_> {
    /// The vault it belongs to.
    pub fn vault(&self) -> &Id {
        self.0.vault
    }

    /// Its number; a higher one is newer.
    pub fn sequence(&self) -> u64 {
        self.0.sequence
    }

    /// Opens the contents, JSON.
    ///
    /// # Errors
    /// When the phrase is another.
    pub fn open(&self, secret: &SlotSecret, psk: &RecoveryPsk) -> Result<SecretBytes, OpenError> {
        let info = info(self.0.vault, self.0.sequence);
        let binding = Binding { info: info.as_bytes(), psk: Some((&psk.0, PSK_ID)) };
        strip(hpke_open(&secret.0, binding, self.0.sealed).map_err(|_| OpenError::Tag)?)
    }
}

/// Seals the credential's contents to the recovery slot and signs the blob with the vault identity. Needs no phrase.
///
/// # Panics
/// If `json` is longer than a blob may be; callers bound what a credential holds.
pub fn seal_recovery_blob(
    public: &KemPublic,
    psk: &RecoveryPsk,
    vault: &Id,
    sequence: u64,
    json: &[u8],
    identity: &SigningKey,
    rng: &mut dyn CryptoRng,
) -> Vec<u8> {
    let info = info(vault, sequence);
    let binding = Binding { info: info.as_bytes(), psk: Some((&psk.0, PSK_ID)) };
    // EXPOSE: from locked memory straight into the cipher.
    let sealed = hpke_seal(public, binding, pad(json, CONTENTS_BYTES_MIN).expose(), rng);
    let mut blob = Vec::with_capacity(1 + 16 + 8 + sealed.len() + SIGNATURE_BYTES);
    blob.push(VERSION);
    blob.extend_from_slice(vault);
    blob.extend_from_slice(&sequence.to_be_bytes());
    blob.extend_from_slice(&sealed);
    let signature = identity.sign_tuple(&statement(&blob));
    blob.extend_from_slice(&signature);
    assert!(blob.len() <= RECOVERY_BLOB_BYTES_MAX, "a recovery blob is shorter than 1 MiB");
    blob
}

fn info(vault: &Id, sequence: u64) -> Tuple {
    Tuple::labelled("recovery-blob").bytes(vault).u64(sequence)
}

fn statement(body: &[u8]) -> Tuple {
    Tuple::labelled("recovery-blob").bytes(body)
}

const VERSION: u8 = 1;
const PSK_ID: &str = "strongroom/v1/recovery";
const CONTENTS_BYTES_MIN: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::TestRng;

    struct Setting {
        secret: SlotSecret,
        psk: RecoveryPsk,
        identity: SigningKey,
        blob: Vec<u8>,
    }

    fn setting() -> Setting {
        let mut rng = TestRng::new("recovery blob");
        let secret = SlotSecret::from_seed(&rng.bytes());
        let psk = RecoveryPsk::from_bytes(&rng.bytes());
        let identity = SigningKey::generate(&mut rng);
        let blob = seal_recovery_blob(&secret.public(), &psk, &[1; 16], 5, b"{}", &identity, &mut rng);
        Setting { secret, psk, identity, blob }
    }

    #[test]
    fn a_blob_opens_once_its_origin_is_known() {
        let Setting { secret, psk, identity, blob } = setting();
        let parsed = RecoveryBlob::parse(&blob).unwrap();
        assert_eq!((parsed.vault(), parsed.sequence()), (&[1; 16], 5));
        let verified = parsed.verify(&identity.public()).unwrap();
        assert_eq!(verified.open(&secret, &psk).unwrap().expose(), b"{}");
        assert_eq!((verified.vault(), verified.sequence()), (&[1; 16], 5));
        let other = RecoveryPsk::from_bytes(&[0; 32]);
        assert_eq!(verified.open(&secret, &other).err(), Some(OpenError::Tag));
        assert_eq!(verified.open(&SlotSecret::from_seed(&[0; 32]), &psk).err(), Some(OpenError::Tag));
        let stranger = SigningKey::generate(&mut TestRng::new("stranger"));
        assert!(parsed.verify(&stranger.public()).is_err());
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_refused() {
        let Setting { identity, blob, .. } = setting();
        let public = identity.public();
        let check = |blob: &[u8]| RecoveryBlob::parse(blob).is_ok_and(|parsed| parsed.verify(&public).is_ok());
        assert!(check(&blob));
        for len in 0..blob.len() {
            assert!(!check(&blob[..len]), "cut to {len}");
        }
        for byte in 0..blob.len() {
            let mut changed = blob.clone();
            changed[byte] ^= 0x80;
            assert!(!check(&changed), "byte {byte}");
        }
        assert_eq!(RecoveryBlob::parse(&vec![1; RECOVERY_BLOB_BYTES_MAX + 1]).err(), Some(OpenError::Length));
    }
}

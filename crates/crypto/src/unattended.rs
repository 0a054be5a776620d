//! The secret of the slot that opens a vault with no person there (section 2). It rests sealed in a TPM; the program that holds the TPM
//! sends it to the vault process sealed to a key that the process made for this alone, so that no one between them reads it.

use crate::{
    CryptoRng, Id,
    factor::FactorRoot,
    kem::{Binding, KemPublic, KemSecret, hpke_open, hpke_seal},
    tuple::Tuple,
};

/// The key pair that one secret is sent to. Made by a vault process for one answer.
pub struct SecretKey(KemSecret);

impl SecretKey {
    /// A fresh key pair.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self(KemSecret::generate(rng))
    }

    /// The public half.
    pub fn public(&self) -> KemPublic {
        self.0.public()
    }

    /// Opens what [`seal_secret`] made: the factor root of the slot.
    ///
    /// # Errors
    /// When it was made for another key, or damaged.
    pub fn open(&self, sealed: &[u8], vault: &Id) -> Result<FactorRoot, SecretRefused> {
        let opened =
            hpke_open(&self.0, Binding { info: info().as_bytes(), psk: None }, sealed).map_err(|_| SecretRefused)?;
        // EXPOSE: the root is derived from it, in locked memory.
        let secret: &[u8; 32] = opened.expose().as_array().ok_or(SecretRefused)?;
        Ok(FactorRoot::from_unattended(secret, vault))
    }
}

/// What came for a [`SecretKey`] does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secret was sealed to another key, or damaged")]
pub struct SecretRefused;

/// A new secret. The caller wipes it.
pub fn generate_secret(rng: &mut dyn CryptoRng) -> [u8; 32] {
    let mut secret = [0; 32];
    rng.fill_bytes(&mut secret);
    secret
}

/// Seals a secret to a vault process: 1,168 bytes.
pub fn seal_secret(to: &KemPublic, secret: &[u8; 32], rng: &mut dyn CryptoRng) -> Vec<u8> {
    hpke_seal(to, Binding { info: info().as_bytes(), psk: None }, secret, rng)
}

fn info() -> Tuple {
    Tuple::labelled("unattended")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::TestRng;

    #[test]
    fn a_secret_opens_for_the_key_it_was_sealed_to_alone() {
        let mut rng = TestRng::new("unattended");
        let (ours, other, vault) = (SecretKey::generate(&mut rng), SecretKey::generate(&mut rng), [7; 16]);
        let secret = generate_secret(&mut rng);
        let sealed = seal_secret(&ours.public(), &secret, &mut rng);
        let opened = ours.open(&sealed, &vault).expect("ours").slot_secret(&vault);
        let expected = FactorRoot::from_unattended(&secret, &vault).slot_secret(&vault);
        assert_eq!(opened.expose_seed(), expected.expose_seed());
        assert!(other.open(&sealed, &vault).is_err());
        for cut in 0..sealed.len() {
            assert!(ours.open(&sealed[..cut], &vault).is_err());
        }
        for at in (0..sealed.len()).step_by(7) {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(ours.open(&changed, &vault).is_err(), "{at}");
        }
    }
}

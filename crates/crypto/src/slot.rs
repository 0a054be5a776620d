//! Slots: the vault key, sealed once for each factor (section 2).

use crate::{
    CryptoRng, Id,
    factor::FactorKind,
    kem::{Binding, KemPublic, SEALED_OVERHEAD_BYTES, SlotSecret, hpke_open, hpke_seal},
    secret::{Key32, VaultKey},
    tuple::Tuple,
};

/// Length of a sealed vault key.
pub const SEALED_VAULT_KEY_BYTES: usize = SEALED_OVERHEAD_BYTES + 32;

/// What a sealed vault key is bound to.
#[derive(Clone, Copy, Debug)]
pub struct SlotPlace<'a> {
    /// The vault.
    pub vault: &'a Id,
    /// The slot.
    pub slot: &'a Id,
    /// What opens the slot.
    pub kind: FactorKind,
    /// The rotation of the vault key, counted from 1.
    pub generation: u32,
}

/// Seals the vault key to a slot; the factor is not needed. 1,168 bytes.
pub fn seal_vault_key(public: &KemPublic, place: &SlotPlace<'_>, key: &VaultKey, rng: &mut dyn CryptoRng) -> Vec<u8> {
    let info = place.info();
    // EXPOSE: HPKE takes the plaintext as bytes and keeps no copy.
    hpke_seal(public, Binding { info: info.as_bytes(), psk: None }, key.0.expose(), rng)
}

/// Opens the vault key with the secret that a factor gave.
///
/// # Errors
/// When the secret is not this slot's, or the slot is another's, of another kind or of another generation.
pub fn open_vault_key(secret: &SlotSecret, place: &SlotPlace<'_>, sealed: &[u8]) -> Result<VaultKey, SlotRefused> {
    let info = place.info();
    let opened = hpke_open(&secret.0, Binding { info: info.as_bytes(), psk: None }, sealed).map_err(|_| SlotRefused)?;
    // EXPOSE: copied from one place in locked memory to another.
    let bytes = opened.expose().as_array().ok_or(SlotRefused)?;
    Ok(VaultKey(Key32::copy_of(bytes)))
}

/// The slot did not open: a wrong factor, or a slot that was tampered with. Nobody can tell which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the slot does not open with this secret")]
pub struct SlotRefused;

impl SlotPlace<'_> {
    fn info(&self) -> Tuple {
        Tuple::labelled("slot").bytes(self.vault).bytes(self.slot).text(self.kind.as_str()).u32(self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::TestRng;

    #[test]
    fn a_slot_opens_in_its_place_alone() {
        let mut rng = TestRng::new("slot");
        let secret = SlotSecret::from_seed(&rng.bytes());
        let key = VaultKey::generate(&mut rng);
        let place = SlotPlace { vault: &[1; 16], slot: &[2; 16], kind: FactorKind::Passphrase, generation: 1 };
        let sealed = seal_vault_key(&secret.public(), &place, &key, &mut rng);
        assert_eq!(sealed.len(), SEALED_VAULT_KEY_BYTES);
        assert_eq!(open_vault_key(&secret, &place, &sealed).unwrap().0.expose(), key.0.expose());
        for other in [
            SlotPlace { vault: &[9; 16], ..place },
            SlotPlace { slot: &[9; 16], ..place },
            SlotPlace { kind: FactorKind::Passkey, ..place },
            SlotPlace { generation: 2, ..place },
        ] {
            assert_eq!(open_vault_key(&secret, &other, &sealed).err(), Some(SlotRefused));
        }
        let stranger = SlotSecret::from_seed(&rng.bytes());
        assert!(open_vault_key(&stranger, &place, &sealed).is_err());
        assert!(open_vault_key(&secret, &place, &[&sealed[..], &[0]].concat()).is_err());
    }
}

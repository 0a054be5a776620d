//! What a vault leaves for one reader: a device's next blob, its copy of the host share, the outcome of a request; and the
//! vault key for the process that takes over after an update (sections 3 and 5). All HPKE in base mode.

use super::OpenError;
use crate::{
    CryptoRng, Id,
    kem::{Binding, DeviceKem, KemPublic, KemSecret, PerStartKey, hpke_open, hpke_seal},
    locked::SecretBytes,
    secret::{HostShare, Key32, VaultKey},
    tuple::Tuple,
};

/// For whom mail is left, and which blob of the device's chain it holds.
#[derive(Clone, Copy, Debug)]
pub struct MailPlace<'a> {
    /// The vault.
    pub vault: &'a Id,
    /// The device that will fetch it.
    pub device: &'a Id,
    /// The number of the blob inside.
    pub number: u64,
}

/// Seals a device's next blob, so that the device alone can fetch it.
pub fn seal_mail(public: &KemPublic, place: &MailPlace<'_>, blob: &[u8], rng: &mut dyn CryptoRng) -> Vec<u8> {
    seal_to(public, &place.info(), blob, rng)
}

/// Takes the outer layer off a blob; what is inside stays sealed to the vault.
///
/// # Errors
/// When it is for another device, vault or number, or was changed.
pub fn open_mail(kem: &DeviceKem, place: &MailPlace<'_>, sealed: &[u8]) -> Result<SecretBytes, OpenError> {
    open_with(&kem.0, &place.info(), sealed)
}

/// Seals a device's copy of the host share.
pub fn seal_share_copy(
    public: &KemPublic,
    vault: &Id,
    device: &Id,
    share: &HostShare,
    rng: &mut dyn CryptoRng,
) -> Vec<u8> {
    // EXPOSE: HPKE takes the plaintext as bytes and keeps no copy.
    seal_to(public, &share_info(vault, device), share.0.expose(), rng)
}

/// Opens a device's copy of the host share.
///
/// # Errors
/// When it is for another device or vault, or was changed.
pub fn open_share_copy(kem: &DeviceKem, vault: &Id, device: &Id, sealed: &[u8]) -> Result<HostShare, OpenError> {
    open_key(&kem.0, &share_info(vault, device), sealed).map(HostShare)
}

/// Seals the outcome of a request, kept until the device has acknowledged it. `json` is not padded: callers answer in size
/// classes.
pub fn seal_outcome(
    public: &KemPublic,
    vault: &Id,
    device: &Id,
    request: &Id,
    json: &[u8],
    rng: &mut dyn CryptoRng,
) -> Vec<u8> {
    seal_to(public, &outcome_info(vault, device, request), json, rng)
}

/// Opens the outcome of a request.
///
/// # Errors
/// When it is for another device, vault or request, or was changed.
pub fn open_outcome(
    kem: &DeviceKem,
    vault: &Id,
    device: &Id,
    request: &Id,
    sealed: &[u8],
) -> Result<SecretBytes, OpenError> {
    open_with(&kem.0, &outcome_info(vault, device, request), sealed)
}

/// Seals the vault key to the process that takes over. The caller has verified that `public` is signed by the channel identity
/// that a device certified for that process.
pub fn seal_hand_over(
    public: &KemPublic,
    vault: &Id,
    generation: u32,
    key: &VaultKey,
    rng: &mut dyn CryptoRng,
) -> Vec<u8> {
    // EXPOSE: HPKE takes the plaintext as bytes and keeps no copy.
    seal_to(public, &hand_over_info(vault, generation), key.0.expose(), rng)
}

/// Opens the vault key that the process before left.
///
/// # Errors
/// When it is for another process, vault or generation, or was changed.
pub fn open_hand_over(start: &PerStartKey, vault: &Id, generation: u32, sealed: &[u8]) -> Result<VaultKey, OpenError> {
    open_key(&start.0, &hand_over_info(vault, generation), sealed).map(VaultKey)
}

impl MailPlace<'_> {
    fn info(&self) -> Tuple {
        Tuple::labelled("mail").bytes(self.vault).bytes(self.device).u64(self.number)
    }
}

fn share_info(vault: &Id, device: &Id) -> Tuple {
    Tuple::labelled("share-copy").bytes(vault).bytes(device)
}

fn outcome_info(vault: &Id, device: &Id, request: &Id) -> Tuple {
    Tuple::labelled("outcome").bytes(vault).bytes(device).bytes(request)
}

fn hand_over_info(vault: &Id, generation: u32) -> Tuple {
    Tuple::labelled("hand-over").bytes(vault).u32(generation)
}

fn seal_to(public: &KemPublic, info: &Tuple, plaintext: &[u8], rng: &mut dyn CryptoRng) -> Vec<u8> {
    hpke_seal(public, Binding { info: info.as_bytes(), psk: None }, plaintext, rng)
}

fn open_with(secret: &KemSecret, info: &Tuple, sealed: &[u8]) -> Result<SecretBytes, OpenError> {
    hpke_open(secret, Binding { info: info.as_bytes(), psk: None }, sealed).map_err(|_| OpenError::Tag)
}

fn open_key(secret: &KemSecret, info: &Tuple, sealed: &[u8]) -> Result<Key32, OpenError> {
    let opened = open_with(secret, info, sealed)?;
    // EXPOSE: copied from one place in locked memory to another.
    let bytes = opened.expose().as_array().ok_or(OpenError::Length)?;
    Ok(Key32::copy_of(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::TestRng;

    const VAULT: Id = [1; 16];
    const DEVICE: Id = [2; 16];

    #[test]
    fn mail_opens_for_its_device_and_number() {
        let mut rng = TestRng::new("mail");
        let kem = DeviceKem::generate(&mut rng);
        let place = MailPlace { vault: &VAULT, device: &DEVICE, number: 4 };
        let mail = seal_mail(&kem.public(), &place, b"blob", &mut rng);
        assert_eq!(open_mail(&kem, &place, &mail).unwrap().expose(), b"blob");
        assert!(open_mail(&kem, &MailPlace { number: 5, ..place }, &mail).is_err());
        assert!(open_mail(&kem, &MailPlace { device: &[9; 16], ..place }, &mail).is_err());
        assert!(open_mail(&DeviceKem::generate(&mut rng), &place, &mail).is_err());
        let again = DeviceKem::from_seed(kem.expose_seed());
        assert_eq!(open_mail(&again, &place, &mail).unwrap().len(), 4);
    }

    #[test]
    fn one_kind_of_mail_does_not_open_as_another() {
        let mut rng = TestRng::new("kinds of mail");
        let kem = DeviceKem::generate(&mut rng);
        let share = HostShare::generate(&mut rng);
        let copy = seal_share_copy(&kem.public(), &VAULT, &DEVICE, &share, &mut rng);
        assert_eq!(open_share_copy(&kem, &VAULT, &DEVICE, &copy).unwrap().expose(), share.expose());
        assert!(open_outcome(&kem, &VAULT, &DEVICE, &[3; 16], &copy).is_err());
        let outcome = seal_outcome(&kem.public(), &VAULT, &DEVICE, &[3; 16], &[0; 32], &mut rng);
        assert_eq!(open_outcome(&kem, &VAULT, &DEVICE, &[3; 16], &outcome).unwrap().expose(), [0; 32]);
        assert!(open_share_copy(&kem, &VAULT, &DEVICE, &outcome).is_err());
    }

    #[test]
    fn the_vault_key_is_handed_to_one_process() {
        let mut rng = TestRng::new("hand over");
        let (start, other, key) =
            (PerStartKey::generate(&mut rng), PerStartKey::generate(&mut rng), VaultKey::generate(&mut rng));
        let sealed = seal_hand_over(&start.public(), &VAULT, 2, &key, &mut rng);
        assert_eq!(open_hand_over(&start, &VAULT, 2, &sealed).unwrap().0.expose(), key.0.expose());
        assert!(open_hand_over(&other, &VAULT, 2, &sealed).is_err());
        assert!(open_hand_over(&start, &VAULT, 1, &sealed).is_err());
    }
}

//! Presenting the credential: the blob of this device that only the vault can open, good for one use.
//!
//! The order is the vault's safety and ours. Blob *n* goes along with a request; the vault answers with blob *n+1*, sealed to
//! this device, and has not acted yet. The device stores it durably and confirms by presenting it under the same request id;
//! only then the vault acts. Killed before the new blob is stored, the device presents *n* again and gets the same *n+1*;
//! killed after, it presents *n+1*, which confirms it. There is no moment at which both ends have lost the newer blob.
//!
//! Two commands must not do this at once: the second would show a blob that the first has used up, and look like a thief. A
//! lock on the profile keeps them apart.

use strongroom_crypto::seal::{MailPlace, open_mail, open_outcome};
use strongroom_wire::device::DeviceAnswer;
use strongroom_wire::{Bytes, DeviceId, RequestId, VaultId};

use crate::error::ClientError;
use crate::profile::{DeviceKeys, Profile};

/// The number of a blob, from its clear head: `u8(1) || device id || u64(n) || …`.
#[must_use]
pub fn number(blob: &[u8]) -> Option<u64> {
    let (version, rest) = blob.split_first()?;
    let (number, _) = rest.get(16..)?.split_first_chunk::<8>()?;
    (*version == 1).then(|| u64::from_be_bytes(*number))
}

/// Takes the outer layer off the next blob and stores it durably.
///
/// # Errors
/// When it is not for this device and number, or cannot be stored: then nothing may be confirmed.
pub fn keep_next(profile: &Profile, sequence: u64, mail: &Bytes) -> Result<Bytes, ClientError> {
    let (vault, device) = (profile.vault(), profile.device());
    let place = MailPlace { vault: vault.as_bytes(), device: device.as_bytes(), number: sequence };
    let blob = open_mail(profile.kem_key(), &place, &mail.0).map_err(|_| ClientError::Answer)?;
    // EXPOSE: inside the mail the blob is sealed to the vault; to this device it is opaque.
    let blob = blob.expose().to_vec();
    if number(&blob) != Some(sequence) {
        return Err(ClientError::Answer);
    }
    profile.store_credential(&blob)?;
    Ok(blob.into())
}

/// The first blob of a new device, as the device that let it in brought it.
///
/// # Errors
/// When it is not for this device.
pub fn open_first(keys: &DeviceKeys, vault: VaultId, device: DeviceId, sealed: &Bytes) -> Result<Vec<u8>, ClientError> {
    let place = MailPlace { vault: vault.as_bytes(), device: device.as_bytes(), number: FIRST_NUMBER };
    let blob = open_mail(&keys.kem, &place, &sealed.0).map_err(|_| ClientError::Answer)?;
    // EXPOSE: as in `keep_next`.
    Ok(blob.expose().to_vec())
}

/// The answer that an earlier request of this id got, opened with the device's key.
///
/// # Errors
/// When it is not for this device and request.
pub fn open_kept_outcome(profile: &Profile, request: RequestId, sealed: &Bytes) -> Result<DeviceAnswer, ClientError> {
    let (vault, device) = (profile.vault(), profile.device());
    let json = open_outcome(profile.kem_key(), vault.as_bytes(), device.as_bytes(), request.as_bytes(), &sealed.0)
        .map_err(|_| ClientError::Answer)?;
    // EXPOSE: the answer is read here and goes to whoever asked.
    serde_json::from_slice(json.expose()).map_err(|_| ClientError::Answer)
}

/// The number of a device's first blob.
const FIRST_NUMBER: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_read_from_the_head() {
        let blob = [&[1][..], &[7; 16], &9_u64.to_be_bytes(), b"sealed"].concat();
        assert_eq!(number(&blob), Some(9));
        assert_eq!(number(&blob[..24]), None);
        assert_eq!(number(&[&[2], &blob[1..]].concat()), None);
        assert_eq!(number(&[]), None);
    }
}

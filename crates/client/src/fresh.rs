//! Factors: from what a member types to what unlocks a vault and answers its challenges (docs/cryptography.md, sections 2
//! and 7). Neither the factor nor its root leaves the device.

use strongroom_crypto::factor::{FactorRoot, FactorSigner, KdfParams, PassphraseError, Phrase, PhraseError};
use strongroom_crypto::sign::Act;
use strongroom_wire::device::{Fresh, Kdf, SlotDraft, SlotKind, SlotView};
use strongroom_wire::{Bytes, Challenge, DeviceId, SecretValue, SlotId, VaultId};

/// Where a device's programs get a factor from: a prompt, a file, a test.
pub trait Factors {
    /// One factor for one of these slots.
    ///
    /// # Errors
    /// When there is none to be had.
    fn factor(&mut self, slots: &[SlotView]) -> Result<Factor, FactorError>;
}

/// A factor for one slot.
pub struct Factor {
    /// The slot.
    pub slot: SlotId,
    /// What the factor came down to.
    pub root: FactorRoot,
}

/// Why there is no factor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FactorError {
    /// The passphrase, or what the vault says of how to stretch it.
    #[error("the passphrase cannot be used")]
    Passphrase(#[from] PassphraseError),
    /// The recovery phrase.
    #[error("the recovery phrase cannot be used")]
    Phrase(#[from] PhraseError),
    /// The vault says nothing of how to stretch the passphrase.
    #[error("the vault does not say how this passphrase is stretched")]
    NoKdf,
    /// The vault has no slot of the kind.
    #[error("the vault has no {kind} slot{}", name.as_ref().map(|name| format!(" called {name}")).unwrap_or_default())]
    NoSlot {
        /// The kind asked for.
        kind: SlotKind,
        /// Or its name or id.
        name: Option<String>,
    },
    /// Nobody can be asked.
    #[error("a passphrase is needed and cannot be asked for here")]
    NoInput,
    /// The prompt or the file.
    #[error("the passphrase could not be read")]
    Input(#[source] std::io::Error),
}

/// The root of a passphrase for an existing slot. Parameters below the fixed ones, or beyond what a device can bear, are
/// refused before any work is done.
///
/// # Errors
/// [`FactorError`]; with [`PassphraseError::Params`] the server or the host has tampered with the slot.
pub fn passphrase_root(passphrase: &str, slot: &SlotView) -> Result<FactorRoot, FactorError> {
    let Kdf { salt, memory_kib, passes, lanes } = slot.kdf.as_ref().ok_or(FactorError::NoKdf)?;
    let salt = salt.to_array().ok_or(FactorError::NoKdf)?;
    let params = KdfParams { salt, memory_kib: *memory_kib, passes: *passes, lanes: *lanes };
    Ok(FactorRoot::from_passphrase(passphrase, &params)?)
}

/// The root of a recovery phrase; its parameters are fixed by the format and never read from the vault.
///
/// # Errors
/// [`FactorError::Phrase`] says which word is wrong.
pub fn phrase_root(words: &str) -> Result<FactorRoot, FactorError> {
    Ok(FactorRoot::from_phrase(&Phrase::parse(words)?)?)
}

/// The public half of a new passphrase slot, and its root.
///
/// # Errors
/// When the passphrase has no bytes or too many, or memory is short.
pub fn new_passphrase_slot(
    vault: VaultId,
    name: &str,
    passphrase: &str,
) -> Result<(SlotDraft, FactorRoot), FactorError> {
    let params = KdfParams::generate(&mut strongroom_crypto::os_rng());
    let root = FactorRoot::from_passphrase(passphrase, &params)?;
    let kdf = Kdf {
        salt: Bytes::from(params.salt),
        memory_kib: params.memory_kib,
        passes: params.passes,
        lanes: params.lanes,
    };
    Ok((draft(vault, name, SlotKind::Passphrase, Some(kdf), &root), root))
}

/// The public half of the slot of a recovery phrase.
///
/// # Errors
/// When memory is short.
pub fn new_phrase_slot(vault: VaultId, name: &str, phrase: &Phrase) -> Result<SlotDraft, FactorError> {
    let root = FactorRoot::from_phrase(phrase)?;
    Ok(draft(vault, name, SlotKind::Recovery, None, &root))
}

/// The answer to a challenge: the slot's key agrees to exactly this body, asked by this device, once.
#[must_use]
pub fn answer(
    signer: &FactorSigner,
    slot: SlotId,
    (vault, device): (VaultId, DeviceId),
    challenge: Challenge,
    body: &str,
) -> Fresh {
    let act = Act::new(vault.as_bytes(), device.as_bytes(), &challenge.0, body.as_bytes());
    Fresh { slot, challenge, signature: Bytes::from(signer.answer(&act)) }
}

/// The public half of a way to unlock `vault`, with how its factor is stretched.
pub fn draft(vault: VaultId, name: &str, kind: SlotKind, kdf: Option<Kdf>, root: &FactorRoot) -> SlotDraft {
    let vault = vault.as_bytes();
    SlotDraft {
        kind,
        name: name.to_owned(),
        kem_public: Bytes::from(root.slot_secret(vault).public().as_bytes().as_slice()),
        sign_public: Bytes::from(*root.signer(vault).public().as_bytes()),
        kdf,
        // EXPOSE: the vault keeps the PSK, so that it can renew the recovery blob without the phrase.
        recovery_psk: root.recovery_psk(vault).map(|psk| SecretValue::new(psk.expose().to_vec())),
    }
}

#[cfg(test)]
mod tests {
    use strongroom_crypto::sign::Statement;

    use super::*;

    fn slot(kdf: Kdf) -> SlotView {
        SlotView {
            id: SlotId([1; 16]),
            kind: SlotKind::Passphrase,
            name: None,
            kdf: Some(kdf),
            added_at: strongroom_wire::Timestamp(0),
        }
    }

    #[test]
    fn weakened_parameters_are_refused_before_any_work() {
        let good = Kdf { salt: Bytes(vec![7; 16]), memory_kib: 65_536, passes: 3, lanes: 4 };
        for bad in [
            Kdf { memory_kib: 65_535, ..good.clone() },
            Kdf { memory_kib: 8, ..good.clone() },
            Kdf { passes: 2, ..good.clone() },
            Kdf { lanes: 1, ..good.clone() },
            Kdf { memory_kib: 2 * 1024 * 1024, ..good.clone() },
            Kdf { passes: 1_000_000, ..good.clone() },
        ] {
            let refused = passphrase_root("fig lantern oboe", &slot(bad)).err();
            assert!(matches!(refused, Some(FactorError::Passphrase(PassphraseError::Params(_)))));
        }
        let short = Kdf { salt: Bytes(vec![7; 8]), ..good };
        assert!(matches!(passphrase_root("x", &slot(short)).err(), Some(FactorError::NoKdf)));
    }

    #[test]
    fn an_answer_agrees_to_one_body_alone() {
        let vault = VaultId([1; 16]);
        let device = DeviceId([2; 16]);
        let (draft, root) = new_passphrase_slot(vault, "main", "fig lantern oboe").unwrap();
        let signer = root.signer(vault.as_bytes());
        let challenge = Challenge([3; 32]);
        let fresh = answer(&signer, SlotId([4; 16]), (vault, device), challenge, "{\"lock\":{}}");
        let act = |body: &str| Act::new(vault.as_bytes(), device.as_bytes(), &challenge.0, body.as_bytes());
        let verify = |body: &str| signer.public().verify(&Statement::Fresh { act: &act(body) }, &fresh.signature.0);
        assert!(verify("{\"lock\":{}}").is_ok());
        assert!(verify("{\"lock\": {}}").is_err());
        assert_eq!(draft.sign_public.0, signer.public().as_bytes());
        assert!(draft.recovery_psk.is_none());
    }

    #[test]
    fn a_phrase_slot_brings_its_psk() {
        let phrase = Phrase::generate(&mut strongroom_crypto::os_rng());
        let draft = new_phrase_slot(VaultId([1; 16]), "recovery", &phrase).unwrap();
        assert_eq!((draft.kind, draft.kdf.is_none()), (SlotKind::Recovery, true));
        assert_eq!(draft.recovery_psk.unwrap().expose().len(), 32);
        assert!(matches!(
            phrase_root("one two").err(),
            Some(FactorError::Phrase(
                PhraseError::UnknownWord { number: 1 }
                    | PhraseError::UnknownWord { number: 2 }
                    | PhraseError::WordCount { count: 2 }
            ))
        ));
    }
}

//! Quotes of a TPM 2.0 (TPM 2.0 Part 2, sections 10.12.1 `TPMS_QUOTE_INFO` and 10.12.12 `TPMS_ATTEST`).

use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha256};
use strongroom_wire::sealing::{PROGRAM_PCR, TpmEvidence};
use tpm2_protocol::TpmUnmarshal as _;
use tpm2_protocol::data::{TpmAlgId, TpmsAttest, TpmuAttest};

/// Why a quote does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuoteRefused {
    /// It is no quote.
    #[error("the TPM's quote cannot be read")]
    Malformed,
    /// The attestation key did not sign it.
    #[error("the TPM's quote is not signed by the key it names")]
    Signature,
    /// It answers another hello, or is for another channel.
    #[error("the TPM's quote is not about this connection: it is an old one, or another's")]
    Binding,
    /// What is shown beside the quote is not what was quoted.
    #[error("the registers shown are not those that the TPM quoted")]
    Registers,
}

/// Verifies evidence, for what it says of itself: the SHA-256 of the vault program.
pub(crate) fn verify(evidence: &TpmEvidence, binding: &[u8; 32]) -> Result<[u8; 32], QuoteRefused> {
    let key = VerifyingKey::from_sec1_bytes(&evidence.key.0).map_err(|_| QuoteRefused::Signature)?;
    let signature = Signature::from_slice(&evidence.signature.0).map_err(|_| QuoteRefused::Signature)?;
    key.verify(&evidence.quote.0, &signature).map_err(|_| QuoteRefused::Signature)?;

    // What it says is read only now that the TPM is known to have said it: a key that is restricted signs nothing else that begins
    // as a quote does.
    let (attest, rest) = TpmsAttest::unmarshal(&evidence.quote.0).map_err(|_| QuoteRefused::Malformed)?;
    let TpmuAttest::Quote(quoted) = &attest.attested else { return Err(QuoteRefused::Malformed) };
    if !rest.is_empty() {
        return Err(QuoteRefused::Malformed);
    }
    if attest.extra_data.as_ref() != binding {
        return Err(QuoteRefused::Binding);
    }
    let program = evidence.program.to_array().ok_or(QuoteRefused::Registers)?;
    let [selection] = quoted.pcr_select.as_ref() else { return Err(QuoteRefused::Registers) };
    if selection.hash != TpmAlgId::Sha256 || selected(selection.pcr_select.as_ref()) != shown(evidence)? {
        return Err(QuoteRefused::Registers);
    }
    if quoted.pcr_digest.as_ref() != digest(evidence, &program) {
        return Err(QuoteRefused::Registers);
    }
    Ok(program)
}

/// The numbers of the registers in a bit map, from the lowest.
fn selected(bits: &[u8]) -> Vec<u8> {
    let set = |pcr: &u8| bits.get(usize::from(pcr / 8)).is_some_and(|byte| byte >> (pcr % 8) & 1 == 1);
    (0..=u8::MAX).filter(set).collect()
}

/// The numbers of the registers that are shown, from the lowest; the vault program's is the last.
fn shown(evidence: &TpmEvidence) -> Result<Vec<u8>, QuoteRefused> {
    let boot = &evidence.boot;
    let whole = !boot.is_empty() && boot.iter().all(|(pcr, value)| *pcr < PROGRAM_PCR && value.0.len() == 32);
    if whole { Ok(boot.keys().copied().chain([PROGRAM_PCR]).collect()) } else { Err(QuoteRefused::Registers) }
}

/// What a TPM quotes of registers: the hash of their values, from the lowest number (TPM 2.0 Part 1, section 17.5).
fn digest(evidence: &TpmEvidence, program: &[u8; 32]) -> [u8; 32] {
    let mut all = Sha256::new();
    for value in evidence.boot.values() {
        all.update(&value.0);
    }
    all.update(measured(program));
    all.finalize().into()
}

/// What the program's register holds: it was reset to zero and extended with the program's digest.
fn measured(program: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update([0; 32]).chain_update(program).finalize().into()
}

pub(crate) const KEY_BYTES: usize = 65;

//! Appraises the attestation document of an AWS Nitro enclave: a `COSE_Sign1` (RFC 9052, section 4.2) over CBOR, signed under
//! the AWS root. No I/O and no clock: bytes, a policy, a binding and a time in, claims or the reason out.
//!
//! The document proves three things at once: which image runs (the PCRs), that its hardware made the document lately (the
//! chain and the timestamp), and that the enclave made it for this channel (the nonce).
//!
//! Left out: revocation lists, which AWS publishes and a device cannot fetch here; a document's own certificate lives three
//! hours. What claims mean for a member is the caller's to decide, and so is a public key inside them.

use std::collections::BTreeMap;

use nitro_attest::{AttestationDoc, ByteBuf, UnparsedAttestationDoc};
use time::OffsetDateTime;

#[cfg(any(test, feature = "danger-test-root"))]
mod danger;

#[cfg(any(test, feature = "danger-test-root"))]
pub use self::danger::danger_appraise_under;

/// The longest attestation document, in bytes. The security module itself writes no more than 12 KiB.
pub const DOCUMENT_BYTES_MAX: usize = 16 * 1024;
/// How old a document may be, in milliseconds, and how far ahead of the device's clock; both to the second.
pub const DOCUMENT_AGE_MS_MAX: u64 = 5 * 60 * 1000;
/// The highest PCR a document can carry.
pub const PCR_INDEX_MAX: u8 = 31;
/// How many values a policy may allow for one PCR: a few releases side by side.
pub const PCR_VALUES_MAX: usize = 64;

/// A platform configuration register: SHA-384.
pub type Pcr = [u8; 48];

/// Which enclaves are accepted: for each PCR named, the values it may have.
///
/// PCR 0 measures the whole image, 1 the kernel and its start, 2 the application, 3 the parent's role, 4 the parent
/// instance, and 8 the certificate that signed the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NitroPolicy {
    pcrs: BTreeMap<u8, Vec<Pcr>>,
}

impl NitroPolicy {
    /// A policy that asks for each of `pcrs` one of the values listed for it.
    ///
    /// # Errors
    ///
    /// For a policy that would accept foreign code, or could accept nothing; see [`NitroPolicyError`].
    pub fn new(pcrs: BTreeMap<u8, Vec<Pcr>>) -> Result<Self, NitroPolicyError> {
        if !CODE_PCRS.iter().any(|index| pcrs.contains_key(index)) {
            return Err(NitroPolicyError::AnyCode);
        }
        for (&index, allowed) in &pcrs {
            if index > PCR_INDEX_MAX {
                return Err(NitroPolicyError::Index { index });
            }
            if allowed.is_empty() || allowed.len() > PCR_VALUES_MAX {
                return Err(NitroPolicyError::Count { index });
            }
            if allowed.contains(&UNSET) {
                return Err(NitroPolicyError::Unset { index });
            }
        }
        Ok(Self { pcrs })
    }

    /// For each PCR that is asked for, the values it may have.
    pub fn pcrs(&self) -> &BTreeMap<u8, Vec<Pcr>> {
        &self.pcrs
    }
}

/// Why a policy is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NitroPolicyError {
    /// Neither the image (PCR 0) nor its signer (PCR 8) is named: anyone's enclave would pass.
    #[error("the policy names neither the image nor who signed it")]
    AnyCode,
    /// No document has such a PCR.
    #[error("there is no PCR {index}")]
    Index {
        /// The PCR.
        index: u8,
    },
    /// No value is allowed, or more than [`PCR_VALUES_MAX`].
    #[error("PCR {index} has no allowed value, or too many")]
    Count {
        /// The PCR.
        index: u8,
    },
    /// All zeros, which an unused PCR and every PCR of an enclave in debug mode hold.
    #[error("PCR {index} may not be allowed to be all zeros")]
    Unset {
        /// The PCR.
        index: u8,
    },
}

/// What an accepted document says. Only [`appraise`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NitroClaims {
    module_id: String,
    issued_ms: u64,
    pcrs: BTreeMap<u8, Pcr>,
    public_key: Option<Vec<u8>>,
    user_data: Option<Vec<u8>>,
}

impl NitroClaims {
    /// The security module's name: the parent instance, then the enclave.
    pub fn module_id(&self) -> &str {
        &self.module_id
    }

    /// When the document was made: milliseconds since the Unix epoch, to the second.
    pub fn issued_ms(&self) -> u64 {
        self.issued_ms
    }

    /// The PCRs that are not all zeros, also those the policy says nothing about.
    pub fn pcrs(&self) -> &BTreeMap<u8, Pcr> {
        &self.pcrs
    }

    /// The key the enclave put into the document, as it put it there.
    pub fn public_key(&self) -> Option<&[u8]> {
        self.public_key.as_deref()
    }

    /// What else the enclave put into the document.
    pub fn user_data(&self) -> Option<&[u8]> {
        self.user_data.as_deref()
    }
}

/// Why a document was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NitroRefused {
    /// Longer than [`DOCUMENT_BYTES_MAX`].
    #[error("the attestation document is too long")]
    TooLong,
    /// Not an attestation document.
    #[error("the attestation document is malformed")]
    Malformed,
    /// Its certificates do not lead to the AWS root.
    #[error("the attestation document's certificates do not lead to the AWS root")]
    Chain,
    /// One of its certificates is no longer valid at the time given.
    #[error("a certificate of the attestation document has expired")]
    Expired,
    /// One of its certificates is not valid yet: most likely the device's clock is slow.
    #[error("a certificate of the attestation document is not valid yet")]
    NotYetValid,
    /// The certified key did not sign it.
    #[error("the attestation document's signature does not verify")]
    Signature,
    /// Older than [`DOCUMENT_AGE_MS_MAX`], or as much ahead.
    #[error("the attestation document was not made just now")]
    Stale,
    /// Made for another channel, or for none.
    #[error("the attestation document was made for another channel")]
    Nonce,
    /// The enclave runs in debug mode: whoever started it reads its console.
    #[error("the enclave runs in debug mode")]
    Debug,
    /// A PCR is absent or has a value the policy does not allow.
    #[error("PCR {index} of the enclave is not one the policy allows")]
    Pcr {
        /// The first such PCR.
        index: u8,
    },
}

/// Appraises `document` at `now_ms` (milliseconds since the Unix epoch). Its nonce must equal `binding`, the SHA-256 that
/// stands for the channel.
///
/// # Errors
///
/// In the order of the checks: length, shape, chain, signature, time, nonce, debug mode, then the PCRs from the lowest.
pub fn appraise(
    document: &[u8],
    policy: &NitroPolicy,
    binding: &[u8; 32],
    now_ms: u64,
) -> Result<NitroClaims, NitroRefused> {
    if document.len() > DOCUMENT_BYTES_MAX {
        return Err(NitroRefused::TooLong);
    }
    // A time the calendar has no date for is after every certificate.
    let now = date(now_ms).ok_or(NitroRefused::Expired)?;
    let document = UnparsedAttestationDoc::from(document).parse_and_verify(now).map_err(|error| reason(&error))?;
    judge(document, policy, binding, now_ms)
}

/// Appraises a document whose signature and chain have verified.
fn judge(
    document: AttestationDoc,
    policy: &NitroPolicy,
    binding: &[u8; 32],
    now_ms: u64,
) -> Result<NitroClaims, NitroRefused> {
    let issued_ms = u64::try_from(document.timestamp.unix_timestamp())
        .ok()
        .and_then(|secs| secs.checked_mul(1000))
        .ok_or(NitroRefused::Malformed)?;
    if issued_ms.abs_diff(now_ms) > DOCUMENT_AGE_MS_MAX {
        return Err(NitroRefused::Stale);
    }
    if document.nonce.as_deref().map(Vec::as_slice) != Some(binding) {
        return Err(NitroRefused::Nonce);
    }
    let pcrs = pcrs(&document)?;
    if MEASURED_PCRS.iter().any(|index| !pcrs.contains_key(index)) {
        return Err(NitroRefused::Debug);
    }
    for (&index, allowed) in &policy.pcrs {
        if !pcrs.get(&index).is_some_and(|found| allowed.contains(found)) {
            return Err(NitroRefused::Pcr { index });
        }
    }
    Ok(NitroClaims {
        module_id: document.module_id,
        issued_ms,
        pcrs,
        public_key: document.public_key.map(ByteBuf::into_vec),
        user_data: document.user_data.map(ByteBuf::into_vec),
    })
}

/// The PCRs that are set. All zeros is the same as absent: so the library sees it, and so must anyone.
fn pcrs(document: &AttestationDoc) -> Result<BTreeMap<u8, Pcr>, NitroRefused> {
    let mut pcrs = BTreeMap::new();
    for (&index, digest) in &document.pcrs {
        let index = u8::try_from(index).ok().filter(|index| *index <= PCR_INDEX_MAX).ok_or(NitroRefused::Malformed)?;
        let value = Pcr::try_from(digest.value.as_slice()).map_err(|_| NitroRefused::Malformed)?;
        if value != UNSET {
            pcrs.insert(index, value);
        }
    }
    Ok(pcrs)
}

fn date(now_ms: u64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(now_ms) * 1_000_000).ok()
}

fn reason(error: &nitro_attest::Error) -> NitroRefused {
    use nitro_attest::Error;
    match error {
        Error::CertificateExpired { .. } => NitroRefused::Expired,
        Error::CertificateNotYetValid { .. } => NitroRefused::NotYetValid,
        Error::CertificateRootInvalid { .. }
        | Error::CertificateSignatureInvalid { .. }
        | Error::CertificateUnexpectedAlgorithm { .. }
        | Error::NoCertificatesFound => NitroRefused::Chain,
        Error::CoseSignatureVerificationFailed() => NitroRefused::Signature,
        Error::CommonNameMalformed(_)
        | Error::CommonNameMissing
        | Error::CoseSignatureMalformed(_)
        | Error::CosePayloadMissing
        | Error::CosePayloadMalformed { .. }
        | Error::CertificateMalformed { .. }
        | Error::CertificateMalformedStructure { .. }
        | Error::CoseTimestampInvalid { .. } => NitroRefused::Malformed,
    }
}

/// The PCRs that say which code runs, or who vouches for it.
const CODE_PCRS: [u8; 2] = [0, 8];
/// The PCRs every enclave has, unless it runs in debug mode.
const MEASURED_PCRS: [u8; 3] = [0, 1, 2];
const UNSET: Pcr = [0; 48];

#[cfg(test)]
mod tests {
    use aws_nitro_enclaves_nsm_api::api::AttestationDoc as Payload;
    use coset::{CborSerializable as _, CoseSign1};

    use super::*;
    use crate::emulate::EmulatedNsm;

    /// A document of a real enclave in eu-central-1, from the package `nitro_attest` 0.2.0 (MIT).
    const REAL: &[u8] = include_bytes!("../tests/data/attestation.cose");
    const REAL_MS: u64 = 1_736_179_625_000;
    const BINDING: [u8; 32] = [7; 32];
    const NOW_MS: u64 = 1_800_000_000_000;

    fn allow(pcrs: &BTreeMap<u8, Pcr>) -> NitroPolicy {
        NitroPolicy::new(pcrs.iter().map(|(&index, &value)| (index, vec![value])).collect()).unwrap()
    }

    fn real_document() -> AttestationDoc {
        UnparsedAttestationDoc::from(REAL).parse_and_verify(date(REAL_MS).unwrap()).unwrap()
    }

    fn real_policy() -> NitroPolicy {
        allow(&pcrs(&real_document()).unwrap())
    }

    /// What the real document says once its nonce is taken as read: it has none of 32 bytes.
    fn judge_real(change: impl FnOnce(&mut AttestationDoc), now_ms: u64) -> Result<NitroClaims, NitroRefused> {
        let mut document = real_document();
        document.nonce = Some(BINDING.to_vec().into());
        change(&mut document);
        judge(document, &real_policy(), &BINDING, now_ms)
    }

    #[test]
    fn a_real_document_is_accepted_and_read() {
        // Its signature and chain verify; it was made for no channel.
        assert_eq!(appraise(REAL, &real_policy(), &BINDING, REAL_MS), Err(NitroRefused::Nonce));
        let claims = judge_real(|_| (), REAL_MS + 60_000).unwrap();
        assert_eq!(claims.module_id(), "i-0bee92034f3d60691-enc01943c5eaab3ad6a");
        assert_eq!(claims.issued_ms(), REAL_MS);
        assert_eq!(claims.pcrs().keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(claims.pcrs()[&0][..4], [0x8B, 0xB1, 0x59, 0xF2]);
        assert_eq!(claims.public_key().map(<[u8]>::len), Some(294));
        assert_eq!(claims.user_data(), None);
    }

    #[test]
    fn a_real_document_is_good_for_five_minutes() {
        let at = |now_ms| judge_real(|_| (), now_ms).err();
        assert_eq!(at(REAL_MS + DOCUMENT_AGE_MS_MAX), None);
        assert_eq!(at(REAL_MS + DOCUMENT_AGE_MS_MAX + 1), Some(NitroRefused::Stale));
        assert_eq!(at(REAL_MS - DOCUMENT_AGE_MS_MAX), None);
        assert_eq!(at(REAL_MS - DOCUMENT_AGE_MS_MAX - 1), Some(NitroRefused::Stale));
        let whole = |now_ms| appraise(REAL, &real_policy(), &BINDING, now_ms);
        assert_eq!(whole(REAL_MS + DOCUMENT_AGE_MS_MAX + 1), Err(NitroRefused::Stale));
        assert_eq!(whole(NOW_MS), Err(NitroRefused::Expired));
        assert_eq!(whole(u64::MAX), Err(NitroRefused::Expired));
        assert_eq!(whole(REAL_MS - 24 * 60 * 60 * 1000), Err(NitroRefused::NotYetValid));
        assert_eq!(whole(0), Err(NitroRefused::NotYetValid));
    }

    #[test]
    fn a_real_document_with_another_pcr_is_refused() {
        for index in 0..5_u8 {
            let other = judge_real(|document| document.pcrs.get_mut(&index.into()).unwrap().value[47] ^= 1, REAL_MS);
            assert_eq!(other.err(), Some(NitroRefused::Pcr { index }));
        }
        let absent = judge_real(|document| drop(document.pcrs.remove(&4)), REAL_MS);
        assert_eq!(absent.err(), Some(NitroRefused::Pcr { index: 4 }));
        let short = judge_real(|document| document.pcrs.get_mut(&4).unwrap().value.truncate(32), REAL_MS);
        assert_eq!(short.err(), Some(NitroRefused::Malformed));
    }

    #[test]
    fn a_real_document_with_another_nonce_is_refused() {
        for nonce in [None, Some(vec![]), Some(vec![7; 31]), Some(vec![7; 33]), Some(vec![8; 32])] {
            let refused = judge_real(|document| document.nonce = nonce.map(Into::into), REAL_MS);
            assert_eq!(refused.err(), Some(NitroRefused::Nonce));
        }
    }

    #[test]
    fn a_real_document_cut_anywhere_is_refused() {
        for len in (0..REAL.len()).step_by(97).chain([REAL.len() - 1]) {
            assert_eq!(
                appraise(&REAL[..len], &real_policy(), &BINDING, REAL_MS),
                Err(NitroRefused::Malformed),
                "{len}"
            );
        }
        let longer = [REAL, &[0]].concat();
        assert_eq!(appraise(&longer, &real_policy(), &BINDING, REAL_MS), Err(NitroRefused::Malformed));
    }

    /// An untouched document gets as far as its nonce; none with a flipped bit does.
    #[test]
    fn a_real_document_with_a_flipped_bit_is_refused() {
        for at in (0..REAL.len()).step_by(61).chain(REAL.len() - 96..REAL.len()) {
            let mut document = REAL.to_vec();
            document[at] ^= 1 << (at % 8);
            let refused = appraise(&document, &real_policy(), &BINDING, REAL_MS).unwrap_err();
            let expected = [NitroRefused::Malformed, NitroRefused::Chain, NitroRefused::Signature];
            assert!(
                expected.contains(&refused) || matches!(refused, NitroRefused::Expired | NitroRefused::NotYetValid),
                "byte {at}: {refused:?}"
            );
        }
    }

    #[test]
    fn what_is_too_long_is_not_read() {
        let long = vec![0; DOCUMENT_BYTES_MAX + 1];
        assert_eq!(appraise(&long, &real_policy(), &BINDING, REAL_MS), Err(NitroRefused::TooLong));
        assert_eq!(appraise(&long[1..], &real_policy(), &BINDING, REAL_MS), Err(NitroRefused::Malformed));
    }

    #[test]
    fn deep_nesting_is_refused() {
        for byte in [0x81, 0xA1, 0x9F, 0xBF, 0xD8] {
            let nested = vec![byte; DOCUMENT_BYTES_MAX];
            assert_eq!(appraise(&nested, &real_policy(), &BINDING, REAL_MS), Err(NitroRefused::Malformed));
        }
    }

    fn emulated(nsm: &EmulatedNsm, policy: &NitroPolicy, now_ms: u64) -> Result<NitroClaims, NitroRefused> {
        let document = nsm.sign(Some(b"data"), Some(&BINDING), Some(b"key"));
        danger_appraise_under(nsm.root(), &document, policy, &BINDING, now_ms)
    }

    fn emulated_policy() -> NitroPolicy {
        allow(&BTreeMap::from([(0, [1; 48]), (1, [2; 48]), (2, [3; 48])]))
    }

    #[test]
    fn a_document_under_another_root_is_refused() {
        let nsm = EmulatedNsm::new(NOW_MS);
        let document = nsm.sign(None, Some(&BINDING), None);
        assert_eq!(appraise(&document, &emulated_policy(), &BINDING, NOW_MS), Err(NitroRefused::Chain));
        assert!(danger_appraise_under(nsm.root(), &document, &emulated_policy(), &BINDING, NOW_MS).is_ok());
        let other = EmulatedNsm::new(NOW_MS);
        let refused = danger_appraise_under(other.root(), &document, &emulated_policy(), &BINDING, NOW_MS);
        assert_eq!(refused, Err(NitroRefused::Chain));
    }

    #[test]
    fn an_emulated_document_is_appraised_like_a_real_one() {
        let mut nsm = EmulatedNsm::new(NOW_MS);
        let claims = emulated(&nsm, &emulated_policy(), NOW_MS).unwrap();
        assert_eq!((claims.public_key(), claims.user_data()), (Some(&b"key"[..]), Some(&b"data"[..])));
        assert_eq!(emulated(&nsm, &emulated_policy(), NOW_MS + 300_001), Err(NitroRefused::Stale));
        assert_eq!(emulated(&nsm, &emulated_policy(), NOW_MS + 4 * 3_600_000), Err(NitroRefused::Expired));
        assert_eq!(emulated(&nsm, &emulated_policy(), NOW_MS - 3_600_000), Err(NitroRefused::NotYetValid));
        nsm.set_now(NOW_MS + 301_000);
        assert_eq!(emulated(&nsm, &emulated_policy(), NOW_MS), Err(NitroRefused::Stale));
        nsm.set_now(NOW_MS);
        nsm.set_pcr(1, &[9; 48]);
        assert_eq!(emulated(&nsm, &emulated_policy(), NOW_MS), Err(NitroRefused::Pcr { index: 1 }));
        nsm.remove_pcr(1);
        assert_eq!(emulated(&nsm, &emulated_policy(), NOW_MS), Err(NitroRefused::Debug));
    }

    /// The real chain does not certify our key, and no chain of ours leads to the real root.
    #[test]
    fn a_forged_document_around_real_certificates_is_refused() {
        let nsm = EmulatedNsm::new(REAL_MS);
        let real = CoseSign1::from_slice(REAL).unwrap().payload.unwrap();
        let forged = |change: &dyn Fn(&mut Payload)| {
            let mut payload = Payload::from_binary(&real).unwrap();
            payload.nonce = Some(BINDING.to_vec().into());
            change(&mut payload);
            appraise(&nsm.sign_payload(&payload), &real_policy(), &BINDING, REAL_MS)
        };
        let ours = |index: usize| ByteBuf::from(nsm.chain()[index].clone());
        assert_eq!(forged(&|_| ()), Err(NitroRefused::Signature));
        assert_eq!(forged(&|payload| payload.certificate = ours(4)), Err(NitroRefused::Chain));
        assert_eq!(forged(&|payload| payload.cabundle[0] = ours(0)), Err(NitroRefused::Chain));
        assert_eq!(forged(&|payload| drop(payload.cabundle.remove(0))), Err(NitroRefused::Chain));
        assert_eq!(forged(&|payload| drop(payload.cabundle.remove(2))), Err(NitroRefused::Chain));
        assert_eq!(forged(&|payload| payload.cabundle.swap(1, 2)), Err(NitroRefused::Chain));
        assert_eq!(forged(&|payload| payload.cabundle.clear()), Err(NitroRefused::Chain));
        assert_eq!(forged(&|payload| payload.certificate = vec![].into()), Err(NitroRefused::Malformed));
        let whole = |payload: &mut Payload| {
            payload.cabundle = (0..4).map(ours).collect();
            payload.certificate = ours(4);
        };
        assert_eq!(forged(&whole), Err(NitroRefused::Chain));
        let below = |payload: &mut Payload| {
            payload.cabundle.extend((0..4).map(ours));
            payload.certificate = ours(4);
        };
        assert_eq!(forged(&below), Err(NitroRefused::Chain));
    }

    #[test]
    fn an_emulated_document_with_a_flipped_bit_is_refused() {
        let nsm = EmulatedNsm::new(NOW_MS);
        let document = nsm.sign(None, Some(&BINDING), None);
        for at in (0..document.len()).step_by(61) {
            let mut document = document.clone();
            document[at] ^= 1 << (at % 8);
            let refused = danger_appraise_under(nsm.root(), &document, &emulated_policy(), &BINDING, NOW_MS);
            assert!(refused.is_err(), "byte {at}");
        }
    }

    #[test]
    fn one_of_several_releases_passes() {
        let policy = NitroPolicy::new(BTreeMap::from([(0, vec![[1; 48], [2; 48]])])).unwrap();
        let mut nsm = EmulatedNsm::new(NOW_MS);
        for (value, passes) in [([1; 48], true), ([2; 48], true), ([3; 48], false)] {
            nsm.set_pcr(0, &value);
            assert_eq!(emulated(&nsm, &policy, NOW_MS).is_ok(), passes);
        }
    }

    #[test]
    fn an_enclave_in_debug_mode_is_refused_whatever_the_policy() {
        let signer = NitroPolicy::new(BTreeMap::from([(8, vec![[8; 48]])])).unwrap();
        let mut nsm = EmulatedNsm::new(NOW_MS);
        nsm.set_pcr(8, &[8; 48]);
        assert!(emulated(&nsm, &signer, NOW_MS).is_ok());
        for index in 0..3 {
            let mut nsm = EmulatedNsm::new(NOW_MS);
            nsm.set_pcr(8, &[8; 48]);
            nsm.set_pcr(index, &[0; 48]);
            assert_eq!(emulated(&nsm, &signer, NOW_MS), Err(NitroRefused::Debug));
            assert_eq!(emulated(&nsm, &emulated_policy(), NOW_MS), Err(NitroRefused::Debug));
        }
        let debug = judge_real(|document| document.pcrs.clear(), REAL_MS);
        assert_eq!(debug.err(), Some(NitroRefused::Debug));
    }

    #[test]
    fn a_policy_that_accepts_anyone_is_none() {
        let new = |pcrs: &[(u8, Vec<Pcr>)]| NitroPolicy::new(pcrs.iter().cloned().collect()).err();
        let good = (0, vec![[1; 48]]);
        assert_eq!(new(&[]), Some(NitroPolicyError::AnyCode));
        assert_eq!(new(&[(3, vec![[1; 48]]), (4, vec![[1; 48]])]), Some(NitroPolicyError::AnyCode));
        assert_eq!(new(&[(0, vec![])]), Some(NitroPolicyError::Count { index: 0 }));
        assert_eq!(new(&[(0, vec![[1; 48]; 65])]), Some(NitroPolicyError::Count { index: 0 }));
        assert_eq!(new(&[good.clone(), (32, vec![[1; 48]])]), Some(NitroPolicyError::Index { index: 32 }));
        assert_eq!(new(&[good.clone(), (8, vec![[1; 48], [0; 48]])]), Some(NitroPolicyError::Unset { index: 8 }));
        assert_eq!(new(&[good]), None);
        assert_eq!(new(&[(8, vec![[1; 48]; 64])]), None);
    }
}

//! Appraisal under a root of one's own: for tests only, since nobody outside AWS can sign under the AWS root.

use std::collections::BTreeMap;

use aws_nitro_enclaves_nsm_api::api::AttestationDoc as Payload;
use coset::{CborSerializable as _, CoseSign1};
use nitro_attest::{AttestationDoc, Digest};
use ring::{
    digest::SHA384,
    signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey},
};
use time::OffsetDateTime;
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use super::{DOCUMENT_BYTES_MAX, NitroClaims, NitroPolicy, NitroRefused, date, judge};

/// Appraises like [`appraise`](super::appraise), with `root` (a certificate, DER) in the place of the AWS root.
///
/// # Errors
///
/// The same, in the same order.
pub fn danger_appraise_under(
    root: &[u8],
    document: &[u8],
    policy: &NitroPolicy,
    binding: &[u8; 32],
    now_ms: u64,
) -> Result<NitroClaims, NitroRefused> {
    if document.len() > DOCUMENT_BYTES_MAX {
        return Err(NitroRefused::TooLong);
    }
    let now = date(now_ms).ok_or(NitroRefused::Expired)?;
    judge(verify(root, document, now)?, policy, binding, now_ms)
}

fn verify(root: &[u8], document: &[u8], now: OffsetDateTime) -> Result<AttestationDoc, NitroRefused> {
    let document = CoseSign1::from_slice(document).map_err(|_| NitroRefused::Malformed)?;
    let payload = document.payload.as_deref().ok_or(NitroRefused::Malformed)?;
    let payload = Payload::from_binary(payload).map_err(|_| NitroRefused::Malformed)?;
    let chain = payload.cabundle.iter().chain([&payload.certificate]);
    let chain = chain.map(|bytes| certificate(bytes)).collect::<Result<Vec<_>, _>>()?;
    if payload.cabundle.first().is_none_or(|first| first.as_slice() != root) {
        return Err(NitroRefused::Chain);
    }
    for pair in chain.windows(2) {
        pair[1].verify_signature(Some(pair[0].public_key())).map_err(|_| NitroRefused::Chain)?;
    }
    for certificate in &chain {
        let validity = certificate.validity();
        if now > validity.not_after.to_datetime() {
            return Err(NitroRefused::Expired);
        }
        if now < validity.not_before.to_datetime() {
            return Err(NitroRefused::NotYetValid);
        }
    }
    let leaf = chain.last().ok_or(NitroRefused::Chain)?;
    document
        .verify_signature(&[], |signature, signed| {
            UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, &leaf.public_key().subject_public_key.data)
                .verify(signed, signature)
        })
        .map_err(|_| NitroRefused::Signature)?;
    as_the_library(payload)
}

fn certificate(bytes: &[u8]) -> Result<X509Certificate<'_>, NitroRefused> {
    X509Certificate::from_der(bytes).map(|(_, certificate)| certificate).map_err(|_| NitroRefused::Malformed)
}

/// The payload in the form the library returns: seconds, and no PCR that is all zeros.
fn as_the_library(payload: Payload) -> Result<AttestationDoc, NitroRefused> {
    let mut pcrs = BTreeMap::new();
    for (index, value) in payload.pcrs {
        if value.iter().any(|byte| *byte != 0) {
            let index = u16::try_from(index).map_err(|_| NitroRefused::Malformed)?;
            pcrs.insert(index, Digest { algorithm: &SHA384, value: value.into_vec() });
        }
    }
    let secs = i64::try_from(payload.timestamp / 1000).map_err(|_| NitroRefused::Malformed)?;
    Ok(AttestationDoc {
        module_id: payload.module_id,
        timestamp: OffsetDateTime::from_unix_timestamp(secs).map_err(|_| NitroRefused::Malformed)?,
        pcrs,
        public_key: payload.public_key,
        user_data: payload.user_data,
        nonce: payload.nonce,
    })
}

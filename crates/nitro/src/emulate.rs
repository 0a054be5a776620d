//! A security module without hardware, for tests: documents in the real wire format, under a root that is made up on the
//! spot. [`appraise`](crate::document::appraise) refuses every one of them;
//! [`danger_appraise_under`](crate::document::danger_appraise_under) takes the root as a parameter.

use std::collections::BTreeMap;

use aws_nitro_enclaves_nsm_api::api::{AttestationDoc, Digest};
use coset::{CborSerializable as _, CoseSign1Builder, HeaderBuilder, iana::Algorithm};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P384_SHA384,
};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair},
};
use time::{Duration, OffsetDateTime};

use crate::document::Pcr;

/// An enclave's security module. Its certificates are valid as long as AWS's are, around the time it was made.
pub struct EmulatedNsm {
    chain: Vec<Vec<u8>>,
    leaf: KeyPair,
    pcrs: BTreeMap<usize, Vec<u8>>,
    now_ms: u64,
}

impl EmulatedNsm {
    /// A module at `now_ms` (milliseconds since the Unix epoch): PCR `n` of 0 to 4 holds the byte `n + 1`, forty-eight
    /// times, the other eleven zeros.
    pub fn new(now_ms: u64) -> Self {
        let (chain, leaf) = chain(now_ms);
        let pcrs = (0..16_u8).map(|index| (usize::from(index), vec![if index < 5 { index + 1 } else { 0 }; 48]));
        Self { chain, leaf, pcrs: pcrs.collect(), now_ms }
    }

    /// The root above its documents: a certificate, DER.
    pub fn root(&self) -> &[u8] {
        &self.chain[0]
    }

    /// Sets a PCR.
    pub fn set_pcr(&mut self, index: u8, value: &Pcr) {
        self.pcrs.insert(index.into(), value.to_vec());
    }

    /// Takes a PCR away.
    pub fn remove_pcr(&mut self, index: u8) {
        self.pcrs.remove(&index.into());
    }

    /// Sets the clock that goes into documents.
    pub fn set_now(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// A document that carries what is given, whatever its length.
    pub fn sign(&self, user_data: Option<&[u8]>, nonce: Option<&[u8]>, public_key: Option<&[u8]>) -> Vec<u8> {
        let payload = AttestationDoc::new(
            "i-0123456789abcdef0-enc0123456789abcdef".to_owned(),
            Digest::SHA384,
            self.now_ms,
            self.pcrs.clone(),
            self.chain[4].clone(),
            self.chain[..4].to_vec(),
            user_data.map(<[u8]>::to_vec),
            nonce.map(<[u8]>::to_vec),
            public_key.map(<[u8]>::to_vec),
        );
        signed(payload.to_binary(), &self.leaf)
    }

    /// Another's payload under this module's signature.
    #[cfg(test)]
    pub(crate) fn sign_payload(&self, payload: &AttestationDoc) -> Vec<u8> {
        signed(payload.to_binary(), &self.leaf)
    }

    /// The certificates from the root down to the enclave's, DER.
    #[cfg(test)]
    pub(crate) fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }
}

/// A `COSE_Sign1` without its tag, ES384 in the protected header: so the module writes it.
fn signed(payload: Vec<u8>, key: &KeyPair) -> Vec<u8> {
    let rng = SystemRandom::new();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &key.serialize_der(), &rng)
        .expect("the key is for this curve");
    CoseSign1Builder::new()
        .protected(HeaderBuilder::new().algorithm(Algorithm::ES384).build())
        .payload(payload)
        .create_signature(&[], |signed| key.sign(&rng, signed).expect("there is randomness").as_ref().to_vec())
        .build()
        .to_vec()
        .expect("all of it has a CBOR form")
}

/// Root, region, zone, instance and enclave, and the enclave's key.
fn chain(now_ms: u64) -> (Vec<Vec<u8>>, KeyPair) {
    let now = OffsetDateTime::from_unix_timestamp_nanos(i128::from(now_ms) * 1_000_000).expect("a date of our time");
    let key = || KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("there is randomness");
    let root_key = key();
    let root = params("test.nitro-enclaves", now, Duration::days(30 * 365), Some(BasicConstraints::Unconstrained));
    let mut chain = vec![root.self_signed(&root_key).expect("the root signs itself").der().to_vec()];
    let mut issuer = Issuer::new(root, root_key);
    for (name, valid, below) in [
        ("0123456789abcdef.test-1.nitro-enclaves", Duration::days(20), 2),
        ("fedcba9876543210.zonal.test-1.nitro-enclaves", Duration::days(6), 1),
        ("i-0123456789abcdef0.test-1.nitro-enclaves", Duration::days(1), 0),
    ] {
        let (params, key) = (params(name, now, valid, Some(BasicConstraints::Constrained(below))), key());
        chain.push(params.signed_by(&key, &issuer).expect("an authority signs").der().to_vec());
        issuer = Issuer::new(params, key);
    }
    let leaf_key = key();
    let leaf = params("i-0123456789abcdef0-enc0123456789abcdef.test-1", now, Duration::hours(3), None);
    chain.push(leaf.signed_by(&leaf_key, &issuer).expect("an authority signs").der().to_vec());
    (chain, leaf_key)
}

fn params(name: &str, now: OffsetDateTime, valid: Duration, authority: Option<BasicConstraints>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (now - Duration::minutes(1), now + valid);
    params.key_usages = match authority {
        Some(_) => vec![KeyUsagePurpose::KeyCertSign],
        None => vec![KeyUsagePurpose::DigitalSignature],
    };
    params.is_ca = authority.map_or(IsCa::ExplicitNoCa, IsCa::Ca);
    params
}

#[cfg(test)]
mod tests {
    use coset::CoseSign1;

    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;
    const REAL: &[u8] = include_bytes!("../tests/data/attestation.cose");

    /// The same headers and the same fields in the same order: a real payload survives being read and written again.
    #[test]
    fn documents_are_written_as_the_hardware_writes_them() {
        let real = CoseSign1::from_slice(REAL).unwrap();
        let payload = real.payload.clone().unwrap();
        assert_eq!(AttestationDoc::from_binary(&payload).unwrap().to_binary(), payload);
        let ours = signed(payload, &KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap());
        assert_eq!(ours.len(), REAL.len());
        let signature_at = REAL.len() - 96;
        assert_eq!(ours[..signature_at], REAL[..signature_at]);
        let document = EmulatedNsm::new(NOW_MS).sign(None, Some(&[1; 32]), None);
        assert_eq!(document[..8], REAL[..8]);
    }
}

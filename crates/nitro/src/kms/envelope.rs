//! The envelope around a released share: CMS `EnvelopedData` (RFC 5652, section 6) with one recipient by RSAES-OAEP
//! (SHA-256, no label) and content in AES-256-CBC. The service writes BER: outer lengths are indefinite, and the content is
//! an OCTET STRING in one piece or in segments of up to 1000 bytes.

use cbc::cipher::{BlockModeDecrypt as _, KeyIvInit as _, block_padding::Pkcs7};
use cms::{
    content_info::{CmsVersion, ContentInfo},
    enveloped_data::{EnvelopedData, KeyTransRecipientInfo, RecipientIdentifier, RecipientInfo},
};
use const_oid::db::{
    rfc5911::{ID_AES_256_CBC, ID_DATA, ID_ENVELOPED_DATA},
    rfc5912::ID_RSAES_OAEP,
};
use der::{Decode as _, Encode as _, asn1::OctetStringRef};
use rand_core::CryptoRng;
use rsa::{PrivateKey, pkcs1::RsaOaepParams, pkcs8::EncodePublicKey as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// The longest envelope, in bytes.
pub(super) const ENVELOPE_BYTES_MAX: usize = 8 * 1024;

/// An RSA-2048 key for one answer: opening uses it up, so nobody can ask it a second question about its padding.
pub(super) struct RecipientKey {
    private: PrivateKey,
    public: Vec<u8>,
}

impl RecipientKey {
    pub(super) fn generate(rng: &mut dyn CryptoRng) -> Result<Self, EnvelopeError> {
        Self::of(PrivateKey::new(rng, RSA_BITS).map_err(|_| EnvelopeError::Key)?)
    }

    fn of(private: PrivateKey) -> Result<Self, EnvelopeError> {
        let public = private.as_public_key().to_public_key_der().map_err(|_| EnvelopeError::Key)?.into_vec();
        Ok(Self { private, public })
    }

    /// A `SubjectPublicKeyInfo`, DER.
    pub(super) fn public_key(&self) -> &[u8] {
        &self.public
    }

    /// Opens an envelope. `rng` blinds the one operation with the key.
    pub(super) fn open(self, envelope: &[u8], rng: &mut dyn CryptoRng) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
        let Sealed { key, iv, content } = parse(envelope)?;
        let key = self.private.oaep_decrypt_with_rng::<Sha256, _>(rng, &key).map_err(|_| EnvelopeError::Open)?;
        let key = Zeroizing::new(key);
        let mut content = Zeroizing::new(content);
        let cipher = cbc::Decryptor::<aes::Aes256>::new_from_slices(&key, &iv).map_err(|_| EnvelopeError::Open)?;
        let len = cipher.decrypt_padded::<Pkcs7>(&mut content).map_err(|_| EnvelopeError::Open)?.len();
        content.truncate(len);
        Ok(content)
    }
}

/// Why an envelope did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// No key could be made for it.
    #[error("no key could be made for the envelope")]
    Key,
    /// Longer than an envelope with a share is.
    #[error("the envelope is too long")]
    TooLong,
    /// Not a CMS envelope for one recipient.
    #[error("the envelope is malformed")]
    Malformed,
    /// Other algorithms than those asked for.
    #[error("the envelope uses other algorithms than those asked for")]
    Algorithm,
    /// The key does not fit, or the content was changed. Which of the two is not told.
    #[error("the envelope does not open")]
    Open,
}

struct Sealed {
    key: Vec<u8>,
    iv: [u8; 16],
    content: Vec<u8>,
}

fn parse(envelope: &[u8]) -> Result<Sealed, EnvelopeError> {
    if envelope.len() > ENVELOPE_BYTES_MAX {
        return Err(EnvelopeError::TooLong);
    }
    let data = enveloped_data(envelope).ok_or(EnvelopeError::Malformed)?;
    let content = data.encrypted_content;
    let [RecipientInfo::Ktri(recipient)] = data.recip_infos.0.as_slice() else {
        return Err(EnvelopeError::Malformed);
    };
    // The service names the key by a digest of its own making. There is one recipient, and a wrong key does not open.
    let named = matches!(recipient.rid, RecipientIdentifier::SubjectKeyIdentifier(_));
    if (data.version, recipient.version, named, content.content_type) != (CmsVersion::V2, CmsVersion::V2, true, ID_DATA)
        || data.originator_info.is_some()
        || data.unprotected_attrs.is_some()
    {
        return Err(EnvelopeError::Malformed);
    }
    if !is_oaep_sha256(recipient) || content.content_enc_alg.oid != ID_AES_256_CBC {
        return Err(EnvelopeError::Algorithm);
    }
    let iv = content.content_enc_alg.parameters.as_ref().and_then(|any| any.decode_as::<&OctetStringRef>().ok());
    let iv = iv.and_then(|iv| iv.as_bytes().try_into().ok()).ok_or(EnvelopeError::Malformed)?;
    let key = recipient.enc_key.as_bytes().to_vec();
    let content = content.encrypted_content.ok_or(EnvelopeError::Malformed)?.into_bytes().into_vec();
    Ok(Sealed { key, iv, content })
}

fn enveloped_data(envelope: &[u8]) -> Option<EnvelopedData> {
    let outer = ContentInfo::from_ber(envelope).ok()?;
    (outer.content_type == ID_ENVELOPED_DATA).then_some(())?;
    EnvelopedData::from_ber(&outer.content.to_der().ok()?).ok()
}

fn is_oaep_sha256(recipient: &KeyTransRecipientInfo) -> bool {
    let algorithm = &recipient.key_enc_alg;
    let parameters = algorithm.parameters.as_ref().and_then(|parameters| parameters.to_der().ok());
    algorithm.oid == ID_RSAES_OAEP && parameters.is_some() && parameters == RsaOaepParams::new::<Sha256>().to_der().ok()
}

const RSA_BITS: usize = 2048;

#[cfg(test)]
pub(super) mod tests {
    use std::sync::LazyLock;

    use cbc::cipher::BlockModeEncrypt as _;
    use cms::enveloped_data::{EncryptedContentInfo, RecipientInfos};
    use der::{
        Any,
        asn1::{Null, OctetString, SetOfVec},
    };
    use rand_core::{Rng as _, UnwrapErr};
    use rsa::{PublicKey, pkcs8::DecodePublicKey as _};
    use spki::AlgorithmIdentifierOwned;
    use x509_cert::ext::pkix::SubjectKeyIdentifier;

    use super::*;

    /// Answers of AWS KMS, from the package `cms` 0.3.0-rc.0 (MIT or Apache-2.0), and how long their content is.
    const REAL: [(&[u8], usize); 4] = [
        (include_bytes!("../../tests/data/kms_ciphertext_for_recipient_1.ber"), 16),
        (include_bytes!("../../tests/data/kms_ciphertext_for_recipient_2.ber"), 48),
        (include_bytes!("../../tests/data/kms_ciphertext_for_recipient_3.ber"), 16),
        (include_bytes!("../../tests/data/kms_ciphertext_for_recipient_4.ber"), 4112),
    ];

    static KEY: LazyLock<PrivateKey> = LazyLock::new(|| PrivateKey::new(&mut rng(), RSA_BITS).unwrap());

    pub(in crate::kms) fn rng() -> UnwrapErr<getrandom::SysRng> {
        UnwrapErr(getrandom::SysRng)
    }

    /// A key that is made once for all tests.
    pub(in crate::kms) fn key() -> RecipientKey {
        RecipientKey::of(KEY.clone()).unwrap()
    }

    /// Seals as the service does.
    pub(in crate::kms) fn seal(public_key: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let (mut key, mut iv, mut name) = ([0; 32], [0; 16], [0; 32]);
        for random in [&mut key[..], &mut iv[..], &mut name[..]] {
            rng().fill_bytes(random);
        }
        let public_key = PublicKey::from_public_key_der(public_key).unwrap();
        let sealed_key = public_key.oaep_encrypt_with_rng::<Sha256, _>(&mut rng(), &key).unwrap();
        let content = encrypt(&key, &iv, plaintext);
        written(&name, &sealed_key, &iv, &segments(&content))
    }

    fn encrypt(key: &[u8], iv: &[u8; 16], plaintext: &[u8]) -> Vec<u8> {
        let mut content = plaintext.to_vec();
        content.resize(plaintext.len() + 16, 0);
        let cipher = cbc::Encryptor::<aes::Aes256>::new_from_slices(key, iv).unwrap();
        cipher.encrypt_padded::<Pkcs7>(&mut content, plaintext.len()).unwrap().to_vec()
    }

    /// Writes an envelope as the service does, around content that is written already.
    fn written(name: &[u8], key: &[u8], iv: &[u8; 16], content: &[u8]) -> Vec<u8> {
        let parts = parts(name, key, iv);
        let algorithm = der_of(&parts.encrypted_content.content_enc_alg);
        let content = open_ended(0x30, &[der_of(&ID_DATA), algorithm, content.to_vec()]);
        let data = open_ended(0x30, &[der_of(&parts.version), der_of(&parts.recip_infos), content]);
        open_ended(0x30, &[der_of(&ID_ENVELOPED_DATA), open_ended(0xA0, &[data])])
    }

    fn segments(content: &[u8]) -> Vec<u8> {
        let segments = content.chunks(1000).map(|segment| der_of(&OctetString::new(segment).unwrap()));
        open_ended(0xA0, &segments.collect::<Vec<_>>())
    }

    fn one_piece(content: &[u8]) -> Vec<u8> {
        let mut piece = der_of(&OctetString::new(content).unwrap());
        piece[0] = 0x80;
        piece
    }

    fn parts(name: &[u8], key: &[u8], iv: &[u8; 16]) -> EnvelopedData {
        let recipient = KeyTransRecipientInfo {
            version: CmsVersion::V2,
            rid: RecipientIdentifier::SubjectKeyIdentifier(SubjectKeyIdentifier(OctetString::new(name).unwrap())),
            key_enc_alg: AlgorithmIdentifierOwned {
                oid: ID_RSAES_OAEP,
                parameters: Some(Any::encode_from(&RsaOaepParams::new::<Sha256>()).unwrap()),
            },
            enc_key: OctetString::new(key).unwrap(),
        };
        let iv = Any::encode_from(&OctetString::new(&iv[..]).unwrap()).unwrap();
        EnvelopedData {
            version: CmsVersion::V2,
            originator_info: None,
            recip_infos: RecipientInfos(SetOfVec::try_from(vec![RecipientInfo::Ktri(recipient)]).unwrap()),
            encrypted_content: EncryptedContentInfo {
                content_type: ID_DATA,
                content_enc_alg: AlgorithmIdentifierOwned { oid: ID_AES_256_CBC, parameters: Some(iv) },
                encrypted_content: None,
            },
            unprotected_attrs: None,
        }
    }

    fn der_of(part: &impl der::Encode) -> Vec<u8> {
        part.to_der().unwrap()
    }

    fn open_ended(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
        [&[tag, 0x80][..], &parts.concat(), &[0, 0]].concat()
    }

    fn whole(data: &EnvelopedData) -> Vec<u8> {
        let content = Any::encode_from(data).unwrap();
        der_of(&ContentInfo { content_type: ID_ENVELOPED_DATA, content })
    }

    #[test]
    fn real_answers_are_read() {
        for (envelope, content_len) in REAL {
            let sealed = parse(envelope).unwrap();
            assert_eq!((sealed.key.len(), sealed.content.len()), (256, content_len));
            let at = envelope.windows(16).position(|bytes| bytes == sealed.iv);
            assert!(at.is_some_and(|at| at > 256));
            // They were sealed for others.
            assert_eq!(key().open(envelope, &mut rng()).err(), Some(EnvelopeError::Open));
        }
    }

    #[test]
    fn the_emulator_writes_real_answers_byte_for_byte() {
        for (envelope, _) in REAL {
            let sealed = parse(envelope).unwrap();
            let data = enveloped_data(envelope).unwrap();
            let [RecipientInfo::Ktri(recipient)] = data.recip_infos.0.as_slice() else { panic!("no recipient") };
            let RecipientIdentifier::SubjectKeyIdentifier(name) = &recipient.rid else { panic!("no name") };
            // The third has its content in one piece.
            let content = if envelope.len() == 457 { one_piece(&sealed.content) } else { segments(&sealed.content) };
            assert_eq!(written(name.0.as_bytes(), &sealed.key, &sealed.iv, &content), envelope);
        }
    }

    #[test]
    fn real_answers_cut_anywhere_are_refused() {
        for (envelope, _) in &REAL[..3] {
            for len in 0..envelope.len() {
                assert_eq!(parse(&envelope[..len]).err(), Some(EnvelopeError::Malformed), "{len}");
            }
            assert_eq!(parse(&[envelope, &[0][..]].concat()).err(), Some(EnvelopeError::Malformed));
        }
    }

    #[test]
    fn what_was_sealed_opens() {
        for len in [0, 1, 15, 16, 17, 32, 64, 4096] {
            let plaintext: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let key = key();
            let envelope = seal(key.public_key(), &plaintext);
            assert_eq!(*key.open(&envelope, &mut rng()).unwrap(), plaintext);
        }
    }

    #[test]
    fn an_envelope_in_der_opens() {
        let (key, iv) = (key(), [9; 16]);
        let public_key = PublicKey::from_public_key_der(key.public_key()).unwrap();
        let sealed_key = public_key.oaep_encrypt_with_rng::<Sha256, _>(&mut rng(), &[5; 32]).unwrap();
        let mut data = parts(&[1; 32], &sealed_key, &iv);
        data.encrypted_content.encrypted_content = Some(OctetString::new(encrypt(&[5; 32], &iv, b"a share")).unwrap());
        assert_eq!(&**key.open(&whole(&data), &mut rng()).unwrap(), b"a share");
    }

    #[test]
    fn the_key_in_an_envelope_must_be_for_aes_256() {
        for len in [0, 16, 24, 31, 33] {
            let (key, iv) = (key(), [9; 16]);
            let public_key = PublicKey::from_public_key_der(key.public_key()).unwrap();
            let sealed_key = public_key.oaep_encrypt_with_rng::<Sha256, _>(&mut rng(), &vec![5; len]).unwrap();
            let envelope = written(&[1; 32], &sealed_key, &iv, &segments(&[7; 48]));
            assert_eq!(key.open(&envelope, &mut rng()).err(), Some(EnvelopeError::Open));
        }
    }

    #[test]
    fn another_key_does_not_open_an_envelope() {
        let envelope = seal(key().public_key(), b"a share");
        let other = RecipientKey::generate(&mut rng()).unwrap();
        assert_eq!(other.public_key().len(), 294);
        assert_eq!(other.open(&envelope, &mut rng()).err(), Some(EnvelopeError::Open));
    }

    #[test]
    fn other_shapes_and_algorithms_are_refused() {
        let mut good = parts(&[1; 32], &[2; 256], &[3; 16]);
        good.encrypted_content.encrypted_content = Some(OctetString::new(vec![4; 48]).unwrap());
        assert!(parse(&whole(&good)).is_ok());
        let refused = |change: &dyn Fn(&mut EnvelopedData)| {
            let mut data = good.clone();
            change(&mut data);
            parse(&whole(&data)).err()
        };
        let recipient = |change: &dyn Fn(&mut KeyTransRecipientInfo)| {
            refused(&|data| {
                let [RecipientInfo::Ktri(recipient)] = data.recip_infos.0.as_slice() else { panic!("no recipient") };
                let mut recipient = recipient.clone();
                change(&mut recipient);
                data.recip_infos.0 = SetOfVec::try_from(vec![RecipientInfo::Ktri(recipient)]).unwrap();
            })
        };
        let (malformed, algorithm) = (Some(EnvelopeError::Malformed), Some(EnvelopeError::Algorithm));
        assert_eq!(refused(&|data| data.version = CmsVersion::V0), malformed);
        assert_eq!(refused(&|data| data.recip_infos.0 = SetOfVec::new()), malformed);
        assert_eq!(refused(&|data| data.encrypted_content.encrypted_content = None), malformed);
        assert_eq!(refused(&|data| data.encrypted_content.content_type = ID_ENVELOPED_DATA), malformed);
        assert_eq!(refused(&|data| data.encrypted_content.content_enc_alg.oid = ID_DATA), algorithm);
        assert_eq!(refused(&|data| data.encrypted_content.content_enc_alg.parameters = None), malformed);
        let short_iv = Any::encode_from(&OctetString::new(vec![1; 15]).unwrap()).unwrap();
        let set_iv = |data: &mut EnvelopedData| {
            data.encrypted_content.content_enc_alg.parameters = Some(short_iv.clone());
        };
        assert_eq!(refused(&set_iv), malformed);
        assert_eq!(recipient(&|recipient| recipient.version = CmsVersion::V0), malformed);
        assert_eq!(recipient(&|recipient| recipient.key_enc_alg.oid = ID_DATA), algorithm);
        assert_eq!(recipient(&|recipient| recipient.key_enc_alg.parameters = None), algorithm);
        let null = Any::encode_from(&Null).unwrap();
        assert_eq!(recipient(&|recipient| recipient.key_enc_alg.parameters = Some(null.clone())), algorithm);
        let sha1 = Any::encode_from(&RsaOaepParams::<der::asn1::AnyRef<'_>>::default()).unwrap();
        assert_eq!(recipient(&|recipient| recipient.key_enc_alg.parameters = Some(sha1.clone())), algorithm);
        let label = Any::encode_from(&RsaOaepParams::new_with_label::<Sha256>(b"label")).unwrap();
        assert_eq!(recipient(&|recipient| recipient.key_enc_alg.parameters = Some(label.clone())), algorithm);
    }

    #[test]
    fn what_is_too_long_or_too_deep_is_refused() {
        assert_eq!(parse(&vec![0x30; ENVELOPE_BYTES_MAX + 1]).err(), Some(EnvelopeError::TooLong));
        for unit in [&[0x30_u8, 0x80][..], &[0xA0, 0x80], &[0x24, 0x80], &[0x31, 0x80], &[0x30]] {
            let nested = unit.repeat(ENVELOPE_BYTES_MAX / unit.len());
            assert_eq!(parse(&nested).err(), Some(EnvelopeError::Malformed));
            let inside = [&[0x30, 0x80][..], &der_of(&ID_ENVELOPED_DATA), &[0xA0, 0x80], &nested[..8000]].concat();
            assert_eq!(parse(&inside).err(), Some(EnvelopeError::Malformed));
            let closed = [&inside[..4000], &[0; 4000]].concat();
            assert_eq!(parse(&closed).err(), Some(EnvelopeError::Malformed));
        }
    }
}

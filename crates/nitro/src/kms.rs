//! Shares a key service gives back to attested enclaves alone, in the wire formats of AWS KMS (JSON 1.1, `TrentService`).
//!
//! ```text
//! enclave                                                   KMS
//! seal_share     Encrypt: the share ──────────────────────▶ encrypts under a key that never leaves it
//!                ◀─────────────────────────── sealed share
//! release_share  Decrypt: sealed share, evidence ─────────▶ key policy: PCR 0 and 8 of the evidence
//!                ◀── CMS, for the key inside the evidence ─
//! ```
//!
//! One call each way. `Encrypt` seals a share that exists already, which `GenerateDataKey` cannot. The service sees every
//! share, so one share alone must open nothing.
//!
//! What protects the answer: anyone who saw the evidence can make a CMS message for its key, and AES-CBC lets some changes
//! pass. So a share is sealed together with a check over its name and itself, which finds every change to a genuine answer;
//! that an answer is genuine rests on TLS, which must end inside the enclave, and on the other shares not fitting a foreign
//! one. `Encrypt` is not bound to evidence: whoever holds the credentials can seal, not open.
//!
//! The key's policy has to allow `kms:Decrypt` under `kms:RecipientAttestation:PCR0` or `:PCR8` alone, and nobody to change
//! it: a policy without the condition releases shares to any holder of the credentials.
//!
//! Left out: TLS, the signature of requests (`SigV4`) and retries, which are the [`Kms`] implementer's.

use std::{collections::BTreeMap, io};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

use self::envelope::RecipientKey;
use crate::nsm::{Nsm, NsmError};

mod envelope;

pub use self::envelope::EnvelopeError;

/// How long a share is, in bytes.
pub const SHARE_BYTES: usize = 32;
/// The longest sealed share: what `Decrypt` takes.
pub const SEALED_BYTES_MAX: usize = 6144;
/// The longest answer of the service, in bytes.
pub const ANSWER_BYTES_MAX: usize = 32 * 1024;
/// How many parts a share's name has at most.
pub const NAME_PARTS_MAX: usize = 8;
/// The longest key or value in a share's name, in bytes.
pub const NAME_TEXT_BYTES_MAX: usize = 128;
/// The longest name of a key, in bytes.
pub const KEY_ARN_BYTES_MAX: usize = 2048;

/// Seals `share` under `key`. The result opens for the same name only, and is no secret.
///
/// # Errors
///
/// When the service refuses or cannot be reached ([`SealError::Kms`]), or answers what it should not.
pub fn seal_share(kms: &dyn Kms, key: &KeyArn, name: &ShareName, share: &Share) -> Result<Vec<u8>, SealError> {
    // EXPOSE: the service encrypts it; the request is wiped.
    let plaintext = Zeroizing::new([&share.expose()[..], &check(name, share)[..]].concat());
    let plaintext = Zeroizing::new(STANDARD.encode(&*plaintext));
    let request = EncryptRequest { encryption_context: &name.0, key_id: &key.0, plaintext: &plaintext };
    let answer = kms.call(ENCRYPT, &body(&request)).map_err(SealError::Kms)?;
    let answer: EncryptAnswer = parse(&answer).ok_or(SealError::Answer)?;
    if answer.key_id != key.0 {
        return Err(SealError::OtherKey);
    }
    let sealed = STANDARD.decode(answer.ciphertext_blob).map_err(|_| SealError::Answer)?;
    if sealed.is_empty() || sealed.len() > SEALED_BYTES_MAX {
        return Err(SealError::Answer);
    }
    Ok(sealed)
}

/// Has a share given back to this enclave. It makes an RSA key for this one answer and asks `nsm` for a document that
/// carries the key; the key service compares the document with its key's policy.
///
/// The document's nonce is [`release_binding`], so it cannot pass for a channel's evidence.
///
/// # Errors
///
/// [`ReleaseError::Kms`] with [`KmsError::Denied`] when the policy does not accept this enclave. [`ReleaseError::Check`] and
/// those of the envelope mean an answer that was tampered with.
pub fn release_share(
    kms: &dyn Kms,
    nsm: &dyn Nsm,
    key: &KeyArn,
    name: &ShareName,
    sealed: &[u8],
    rng: &mut dyn CryptoRng,
) -> Result<Share, ReleaseError> {
    if sealed.is_empty() || sealed.len() > SEALED_BYTES_MAX {
        return Err(ReleaseError::SealedLength);
    }
    let recipient = RecipientKey::generate(rng).map_err(ReleaseError::Envelope)?;
    release_to(recipient, kms, nsm, key, name, sealed, rng)
}

fn release_to(
    recipient: RecipientKey,
    kms: &dyn Kms,
    nsm: &dyn Nsm,
    key: &KeyArn,
    name: &ShareName,
    sealed: &[u8],
    rng: &mut dyn CryptoRng,
) -> Result<Share, ReleaseError> {
    let document = nsm
        .document(None, Some(&release_binding(recipient.public_key())), Some(recipient.public_key()))
        .map_err(ReleaseError::Nsm)?;
    let request = DecryptRequest {
        ciphertext_blob: &STANDARD.encode(sealed),
        encryption_context: &name.0,
        key_id: &key.0,
        recipient: Recipient { attestation_document: &STANDARD.encode(document), key_encryption_algorithm: OAEP },
    };
    let answer = Zeroizing::new(kms.call(DECRYPT, &body(&request)).map_err(ReleaseError::Kms)?);
    let envelope = envelope_of(&answer, key)?;
    let plaintext = recipient.open(&envelope, rng).map_err(ReleaseError::Envelope)?;
    let (share, found) = plaintext.split_at_checked(SHARE_BYTES).ok_or(ReleaseError::ShareLength)?;
    if found.len() != CHECK_BYTES {
        return Err(ReleaseError::ShareLength);
    }
    let mut opened = Share(Box::new([0; SHARE_BYTES]));
    opened.0.copy_from_slice(share);
    if !bool::from(check(name, &opened).ct_eq(found)) {
        return Err(ReleaseError::Check);
    }
    Ok(opened)
}

/// The nonce of the document in a release: SHA-256 of the ASCII label `strongroom/v1/kms-release`, then `public_key` as it
/// is in the document.
pub fn release_binding(public_key: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(RELEASE_LABEL).chain_update(public_key).finalize().into()
}

/// How requests reach the key service.
pub trait Kms {
    /// Sends `body` with `target` as its `X-Amz-Target` and returns the body of a 200 answer, of at most
    /// [`ANSWER_BYTES_MAX`] bytes. `body` may hold a share: no copy of it is kept.
    ///
    /// # Errors
    ///
    /// [`KmsError::from_answer`] of the body for any other status; otherwise why there is no answer.
    fn call(&self, target: &str, body: &[u8]) -> Result<Vec<u8>, KmsError>;
}

/// Part of a secret: 32 random bytes.
#[derive(ZeroizeOnDrop)]
pub struct Share(Box<[u8; SHARE_BYTES]>);

impl Share {
    /// Takes `bytes` over, and wipes them where they were.
    pub fn take(bytes: &mut [u8; SHARE_BYTES]) -> Self {
        let mut share = Self(Box::new([0; SHARE_BYTES]));
        share.0.copy_from_slice(bytes);
        bytes.zeroize();
        share
    }

    /// The bytes, for whoever joins shares.
    pub fn expose(&self) -> &[u8; SHARE_BYTES] {
        &self.0
    }
}

/// A key of the service, by its full name: `arn:aws:kms:region:account:key/id`. An alias is refused, since it can be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyArn(String);

impl KeyArn {
    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let known = parts.next() == Some("arn")
            && parts.next().is_some_and(|partition| partition.starts_with("aws"))
            && parts.next() == Some("kms")
            && parts.next().is_some_and(|region| !region.is_empty())
            && parts.next().is_some_and(|account| !account.is_empty())
            && parts.next().and_then(|key| key.strip_prefix("key/")).is_some_and(|id| !id.is_empty());
        (known && text.len() <= KEY_ARN_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic()))
            .then(|| Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which share it is, as the service's encryption context. No secret: the service writes it into its own log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareName(BTreeMap<String, String>);

impl ShareName {
    /// A name of one to [`NAME_PARTS_MAX`] parts, in printable ASCII without quotes and backslashes.
    pub fn new(parts: BTreeMap<String, String>) -> Option<Self> {
        let plain = |text: &String| {
            (1..=NAME_TEXT_BYTES_MAX).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte))
        };
        let fits = (1..=NAME_PARTS_MAX).contains(&parts.len());
        (fits && parts.iter().all(|(key, value)| plain(key) && plain(value))).then_some(Self(parts))
    }
}

/// Why the key service gave no answer, or a refusal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KmsError {
    /// It could not be reached.
    #[error("the key service could not be reached")]
    Unreachable(#[source] io::Error),
    /// The answer is longer than [`ANSWER_BYTES_MAX`].
    #[error("the key service's answer is too long")]
    TooLong,
    /// The credentials or the key's policy do not allow it: for a release, most likely the enclave's PCRs.
    #[error("the key service denied the request")]
    Denied,
    /// There is no such key.
    #[error("the key service has no such key")]
    NoKey,
    /// The key is disabled, or about to be deleted.
    #[error("the key cannot be used now")]
    KeyUnusable,
    /// It was not sealed under this key and name.
    #[error("the key service cannot open what was sealed")]
    Ciphertext,
    /// It asks to try later.
    #[error("the key service is busy")]
    Busy,
    /// It refused for another reason.
    #[error("the key service refused the request")]
    Refused,
}

impl KmsError {
    /// Reads the body of an answer with a status other than 200.
    pub fn from_answer(body: &[u8]) -> Self {
        let Some(ErrorAnswer { kind }) = parse(body) else {
            return if body.len() > ANSWER_BYTES_MAX { Self::TooLong } else { Self::Refused };
        };
        // Some answers put the service's name before the error's: `name#AccessDeniedException`.
        match kind.rsplit('#').next().unwrap_or_default() {
            "AccessDeniedException" => Self::Denied,
            "NotFoundException" => Self::NoKey,
            "DisabledException" | "KMSInvalidStateException" | "InvalidKeyUsageException" => Self::KeyUnusable,
            "InvalidCiphertextException" | "IncorrectKeyException" => Self::Ciphertext,
            "ThrottlingException"
            | "LimitExceededException"
            | "KeyUnavailableException"
            | "DependencyTimeoutException"
            | "KMSInternalException" => Self::Busy,
            _ => Self::Refused,
        }
    }
}

/// Why a share was not sealed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The call failed.
    #[error("the share could not be sealed")]
    Kms(#[source] KmsError),
    /// The answer is malformed.
    #[error("the key service's answer is malformed")]
    Answer,
    /// Another key was used.
    #[error("the key service used another key")]
    OtherKey,
}

/// Why a share was not released.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// What should be a sealed share has a length it cannot have.
    #[error("the sealed share has a length it cannot have")]
    SealedLength,
    /// The enclave's hardware made no document.
    #[error("no evidence could be made for the release")]
    Nsm(#[source] NsmError),
    /// The call failed.
    #[error("the share could not be released")]
    Kms(#[source] KmsError),
    /// The answer is malformed.
    #[error("the key service's answer is malformed")]
    Answer,
    /// Another key was used.
    #[error("the key service used another key")]
    OtherKey,
    /// The service ignored the evidence and answered in the clear: the share has been outside an envelope.
    #[error("the key service answered in the clear")]
    InTheClear,
    /// The envelope did not open.
    #[error("the released share's envelope did not open")]
    Envelope(#[source] EnvelopeError),
    /// What was in the envelope is no share.
    #[error("the released share has a length it cannot have")]
    ShareLength,
    /// The share is another one, or was changed.
    #[error("the released share is not the one that was sealed")]
    Check,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct EncryptRequest<'a> {
    encryption_context: &'a BTreeMap<String, String>,
    key_id: &'a str,
    plaintext: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EncryptAnswer {
    ciphertext_blob: String,
    key_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DecryptRequest<'a> {
    ciphertext_blob: &'a str,
    encryption_context: &'a BTreeMap<String, String>,
    key_id: &'a str,
    recipient: Recipient<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Recipient<'a> {
    attestation_document: &'a str,
    key_encryption_algorithm: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DecryptAnswer {
    ciphertext_for_recipient: Option<String>,
    key_id: String,
    plaintext: Option<Zeroizing<String>>,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    #[serde(rename = "__type")]
    kind: String,
}

fn envelope_of(answer: &[u8], key: &KeyArn) -> Result<Vec<u8>, ReleaseError> {
    let answer: DecryptAnswer = parse(answer).ok_or(ReleaseError::Answer)?;
    if answer.plaintext.is_some_and(|plaintext| !plaintext.is_empty()) {
        return Err(ReleaseError::InTheClear);
    }
    if answer.key_id != key.0 {
        return Err(ReleaseError::OtherKey);
    }
    let envelope = answer.ciphertext_for_recipient.ok_or(ReleaseError::Answer)?;
    STANDARD.decode(envelope).map_err(|_| ReleaseError::Answer)
}

/// SHA-256 of the ASCII label `strongroom/v1/kms-share`, the count of the name's parts as one byte, each key and value in
/// order with its length as one byte before it, and the share.
fn check(name: &ShareName, share: &Share) -> Zeroizing<[u8; CHECK_BYTES]> {
    let mut hash = Sha256::new().chain_update(SHARE_LABEL);
    let length = |hash: &mut Sha256, length: usize| {
        hash.update([u8::try_from(length).expect("the limits of a name fit a byte")]);
    };
    length(&mut hash, name.0.len());
    for text in name.0.iter().flat_map(|(key, value)| [key, value]) {
        length(&mut hash, text.len());
        hash.update(text);
    }
    // EXPOSE: the hash takes raw bytes and wipes its state.
    Zeroizing::new(hash.chain_update(share.expose()).finalize().into())
}

/// The request in memory that is never moved, so that wiping it leaves no copy.
fn body(request: &impl Serialize) -> Zeroizing<Vec<u8>> {
    let mut body = Zeroizing::new(Vec::with_capacity(REQUEST_BYTES_MAX));
    serde_json::to_writer(&mut *body, request).expect("texts and maps of texts have a JSON form");
    debug_assert!(body.len() <= REQUEST_BYTES_MAX, "the limits add up");
    body
}

fn parse<T: for<'a> Deserialize<'a>>(answer: &[u8]) -> Option<T> {
    (answer.len() <= ANSWER_BYTES_MAX).then(|| serde_json::from_slice(answer).ok()).flatten()
}

const ENCRYPT: &str = "TrentService.Encrypt";
const DECRYPT: &str = "TrentService.Decrypt";
const OAEP: &str = "RSAES_OAEP_SHA_256";
const SHARE_LABEL: &[u8] = b"strongroom/v1/kms-share";
const RELEASE_LABEL: &[u8] = b"strongroom/v1/kms-release";
const CHECK_BYTES: usize = 32;
const REQUEST_BYTES_MAX: usize = 40 * 1024;

const _: () = assert!(NAME_PARTS_MAX <= 0xFF && NAME_TEXT_BYTES_MAX <= 0xFF);
const _: () = assert!(
    (SEALED_BYTES_MAX + crate::nsm::DOCUMENT_BYTES_MAX) / 3 * 4
        + NAME_PARTS_MAX * 2 * (NAME_TEXT_BYTES_MAX + 3)
        + KEY_ARN_BYTES_MAX
        + 512
        <= REQUEST_BYTES_MAX
);

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::BTreeMap};

    use rand_core::Rng as _;
    use serde_json::{Value, json};
    use static_assertions::assert_not_impl_any;

    use super::{
        envelope::tests::{key as recipient, rng, seal},
        *,
    };
    use crate::{
        document::{NitroPolicy, danger_appraise_under},
        emulate::EmulatedNsm,
    };

    assert_not_impl_any!(Share: Clone, std::fmt::Debug, std::fmt::Display, Serialize, PartialEq);
    assert_not_impl_any!(RecipientKey: Clone, std::fmt::Debug, std::fmt::Display, Serialize, PartialEq);

    const NOW_MS: u64 = 1_800_000_000_000;
    const KEY: &str = "arn:aws:kms:eu-central-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef";

    /// A key service with one key, whose policy lets anyone encrypt and one image decrypt.
    struct EmulatedKms {
        root: Vec<u8>,
        policy: NitroPolicy,
        now_ms: u64,
        sealed: RefCell<BTreeMap<Vec<u8>, (Vec<u8>, Value)>>,
        /// What happens to an envelope before it is sent.
        envelope: fn(Vec<u8>) -> Vec<u8>,
        /// What happens to an answer before it is sent.
        answer: fn(&mut Value),
        /// Which bit of which byte of the envelope is flipped.
        flip: Option<(usize, u8)>,
        envelope_len: RefCell<usize>,
    }

    impl EmulatedKms {
        fn new(nsm: &EmulatedNsm) -> Self {
            Self {
                root: nsm.root().to_vec(),
                policy: NitroPolicy::new(BTreeMap::from([(0, vec![[1; 48]])])).unwrap(),
                now_ms: NOW_MS,
                sealed: RefCell::default(),
                envelope: |envelope| envelope,
                answer: |_| (),
                flip: None,
                envelope_len: RefCell::default(),
            }
        }

        fn encrypt(&self, request: &Value) -> Value {
            let mut blob = vec![0; 200];
            rng().fill_bytes(&mut blob);
            let plaintext = bytes(&request["Plaintext"]);
            self.sealed.borrow_mut().insert(blob.clone(), (plaintext, request["EncryptionContext"].clone()));
            json!({ "CiphertextBlob": STANDARD.encode(blob), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT", "KeyId": KEY })
        }

        fn decrypt(&self, request: &Value) -> Result<Value, &'static str> {
            let recipient = &request["Recipient"];
            assert_eq!(recipient["KeyEncryptionAlgorithm"], "RSAES_OAEP_SHA_256");
            let public_key = self.attested_key(&bytes(&recipient["AttestationDocument"]))?;
            let sealed = self.sealed.borrow();
            let (plaintext, context) =
                sealed.get(&bytes(&request["CiphertextBlob"])).ok_or("InvalidCiphertextException")?;
            if *context != request["EncryptionContext"] {
                return Err("InvalidCiphertextException");
            }
            let mut envelope = (self.envelope)(seal(&public_key, plaintext));
            self.envelope_len.replace(envelope.len());
            if let Some((at, bit)) = self.flip {
                envelope[at] ^= 1 << bit;
            }
            let mut answer = json!({
                "CiphertextForRecipient": STANDARD.encode(envelope),
                "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
                "KeyId": KEY,
                "Plaintext": "",
            });
            (self.answer)(&mut answer);
            Ok(answer)
        }

        /// The key of an enclave the policy accepts. The service itself asks for no nonce; here it must be the one of a
        /// release, for the key in the same document.
        fn attested_key(&self, document: &[u8]) -> Result<Vec<u8>, &'static str> {
            let at = document.windows(294).position(|bytes| bytes.starts_with(&[0x30, 0x82, 0x01, 0x22, 0x30, 0x0D]));
            let public_key = &document[at.ok_or("ValidationException")?..][..294];
            let binding = release_binding(public_key);
            let claims = danger_appraise_under(&self.root, document, &self.policy, &binding, self.now_ms)
                .map_err(|_| "AccessDeniedException")?;
            assert_eq!(claims.public_key(), Some(public_key));
            Ok(public_key.to_vec())
        }
    }

    impl Kms for EmulatedKms {
        fn call(&self, target: &str, body: &[u8]) -> Result<Vec<u8>, KmsError> {
            let request: Value = serde_json::from_slice(body).unwrap();
            assert_eq!(request["KeyId"], KEY);
            let answer = match target {
                "TrentService.Encrypt" => Ok(self.encrypt(&request)),
                "TrentService.Decrypt" => self.decrypt(&request),
                other => panic!("no such target: {other}"),
            };
            let error = |kind| KmsError::from_answer(json!({ "__type": kind, "Message": "" }).to_string().as_bytes());
            answer.map(|answer| answer.to_string().into_bytes()).map_err(error)
        }
    }

    fn bytes(text: &Value) -> Vec<u8> {
        STANDARD.decode(text.as_str().unwrap()).unwrap()
    }

    fn key() -> KeyArn {
        KeyArn::parse(KEY).unwrap()
    }

    fn name(share: &str) -> ShareName {
        ShareName::new(BTreeMap::from([
            ("vault".to_owned(), "7f3a".to_owned()),
            ("share".to_owned(), share.to_owned()),
        ]))
        .unwrap()
    }

    struct Setting {
        nsm: EmulatedNsm,
        kms: EmulatedKms,
        sealed: Vec<u8>,
    }

    impl Setting {
        fn new() -> Self {
            let nsm = EmulatedNsm::new(NOW_MS);
            let kms = EmulatedKms::new(&nsm);
            let sealed = seal_share(&kms, &key(), &name("2"), &Share::take(&mut [0x5A; 32])).unwrap();
            Self { nsm, kms, sealed }
        }

        fn release(&self) -> Result<Share, ReleaseError> {
            self.release_as(&name("2"))
        }

        fn release_as(&self, name: &ShareName) -> Result<Share, ReleaseError> {
            release_to(recipient(), &self.kms, &self.nsm, &key(), name, &self.sealed, &mut rng())
        }
    }

    #[test]
    fn a_sealed_share_is_released_to_the_enclave() {
        let Setting { nsm, kms, sealed } = Setting::new();
        let share = release_share(&kms, &nsm, &key(), &name("2"), &sealed, &mut rng()).unwrap();
        assert_eq!(share.expose(), &[0x5A; 32]);
    }

    #[test]
    fn a_share_is_wiped_where_it_was_taken_from() {
        let mut bytes = [7; 32];
        let share = Share::take(&mut bytes);
        assert_eq!((share.expose(), bytes), (&[7; 32], [0; 32]));
    }

    #[test]
    fn another_image_gets_no_share() {
        let mut setting = Setting::new();
        setting.nsm.set_pcr(0, &[9; 48]);
        assert!(matches!(setting.release(), Err(ReleaseError::Kms(KmsError::Denied))));
        setting.nsm.set_pcr(0, &[0; 48]);
        assert!(matches!(setting.release(), Err(ReleaseError::Kms(KmsError::Denied))));
        setting.nsm.set_pcr(0, &[1; 48]);
        assert!(setting.release().is_ok());
        setting.kms.now_ms += 301_000;
        assert!(matches!(setting.release(), Err(ReleaseError::Kms(KmsError::Denied))));
        setting.nsm = EmulatedNsm::new(setting.kms.now_ms);
        assert!(matches!(setting.release(), Err(ReleaseError::Kms(KmsError::Denied))));
    }

    #[test]
    fn a_share_is_released_under_its_name_alone() {
        let mut setting = Setting::new();
        assert!(matches!(setting.release_as(&name("3")), Err(ReleaseError::Kms(KmsError::Ciphertext))));
        setting.sealed[0] ^= 1;
        assert!(matches!(setting.release(), Err(ReleaseError::Kms(KmsError::Ciphertext))));
        for len in [0, SEALED_BYTES_MAX + 1] {
            setting.sealed = vec![0; len];
            let refused = release_share(&setting.kms, &setting.nsm, &key(), &name("2"), &setting.sealed, &mut rng());
            assert!(matches!(refused, Err(ReleaseError::SealedLength)));
        }
        // A service that mixes shares up does not go unnoticed.
        let setting = Setting::new();
        for (_, context) in setting.kms.sealed.borrow_mut().values_mut() {
            *context = json!({ "vault": "7f3a", "share": "3" });
        }
        assert!(matches!(setting.release_as(&name("3")), Err(ReleaseError::Check)));
    }

    #[test]
    fn an_envelope_cut_anywhere_is_refused() {
        let setting = Setting::new();
        setting.release().unwrap();
        let envelope = seal(recipient().public_key(), &[1; 64]);
        for len in 0..envelope.len() {
            assert!(recipient().open(&envelope[..len], &mut rng()).is_err(), "cut to {len}");
        }
    }

    /// Two parts change nothing and are not checked: the service's name for the key, since the key itself has to fit, and a
    /// bit that says once more that the content comes in segments.
    #[test]
    fn an_envelope_with_a_flipped_bit_is_refused() {
        let mut setting = Setting::new();
        setting.release().unwrap();
        let len = *setting.kms.envelope_len.borrow();
        let mut unnoticed = vec![];
        for at in 0..len {
            setting.kms.flip = Some((at, u8::try_from(at % 8).unwrap()));
            match setting.release() {
                Ok(share) => {
                    assert_eq!(share.expose(), &[0x5A; 32], "byte {at}");
                    unnoticed.push(at);
                }
                Err(ReleaseError::Envelope(_) | ReleaseError::Check | ReleaseError::ShareLength) => (),
                Err(other) => panic!("byte {at}: {other:?}"),
            }
        }
        assert!(unnoticed.into_iter().eq((33..65).chain([413])));
    }

    #[test]
    fn a_share_of_another_length_is_refused() {
        let setting = Setting::new();
        for len in [0, 1, 31, 32, 63, 65, 96, 4096] {
            for (plaintext, _) in setting.kms.sealed.borrow_mut().values_mut() {
                plaintext.resize(len, 1);
            }
            assert!(matches!(setting.release(), Err(ReleaseError::ShareLength)), "{len}");
        }
    }

    #[test]
    fn an_envelope_for_another_key_is_refused() {
        let mut setting = Setting::new();
        setting.kms.envelope = |_| seal(RecipientKey::generate(&mut rng()).unwrap().public_key(), &[0x5A; 64]);
        assert!(matches!(setting.release(), Err(ReleaseError::Envelope(EnvelopeError::Open))));
        setting.kms.envelope = |_| vec![0; 9000];
        assert!(matches!(setting.release(), Err(ReleaseError::Envelope(EnvelopeError::TooLong))));
    }

    #[test]
    fn an_answer_of_another_shape_is_refused() {
        let mut setting = Setting::new();
        let mut released = |answer: fn(&mut Value)| {
            setting.kms.answer = answer;
            setting.release().err()
        };
        assert!(released(|answer| answer["Plaintext"] = Value::Null).is_none());
        assert!(released(|answer| drop(answer.as_object_mut().unwrap().remove("Plaintext"))).is_none());
        assert!(released(|answer| answer["Unknown"] = json!({ "a": [1] })).is_none());
        assert!(matches!(released(|answer| answer["Plaintext"] = json!("WlpaWg==")), Some(ReleaseError::InTheClear)));
        assert!(matches!(released(|answer| answer["KeyId"] = json!("arn:aws:kms")), Some(ReleaseError::OtherKey)));
        for answer in [
            (|answer| answer["KeyId"] = Value::Null) as fn(&mut Value),
            |answer| answer["CiphertextForRecipient"] = Value::Null,
            |answer| answer["CiphertextForRecipient"] = json!("no base64"),
            |answer| answer["CiphertextForRecipient"] = json!([1, 2]),
            |answer| answer["Long"] = json!("x".repeat(ANSWER_BYTES_MAX)),
            |answer| *answer = json!([]),
        ] {
            assert!(matches!(released(answer), Some(ReleaseError::Answer)));
        }
    }

    #[test]
    fn an_answer_cut_anywhere_is_refused() {
        let answer = json!({ "CiphertextForRecipient": "AAAA", "KeyId": KEY }).to_string();
        assert_eq!(envelope_of(answer.as_bytes(), &key()).unwrap(), [0; 3]);
        for len in 0..answer.len() {
            assert!(matches!(envelope_of(&answer.as_bytes()[..len], &key()), Err(ReleaseError::Answer)));
        }
        let nested = "[".repeat(ANSWER_BYTES_MAX);
        assert!(matches!(envelope_of(nested.as_bytes(), &key()), Err(ReleaseError::Answer)));
        let twice = json!({ "KeyId": KEY }).to_string().replace('}', &format!(",\"KeyId\":\"{KEY}\"}}"));
        assert!(matches!(envelope_of(twice.as_bytes(), &key()), Err(ReleaseError::Answer)));
    }

    struct Canned(&'static str);

    impl Kms for Canned {
        fn call(&self, _: &str, _: &[u8]) -> Result<Vec<u8>, KmsError> {
            Ok(self.0.replace("KEY", KEY).into_bytes())
        }
    }

    #[test]
    fn a_malformed_answer_seals_nothing() {
        let seal = |answer| seal_share(&Canned(answer), &key(), &name("2"), &Share::take(&mut [1; 32]));
        assert_eq!(seal(r#"{"CiphertextBlob":"AAAA","KeyId":"KEY"}"#).unwrap(), [0; 3]);
        assert!(matches!(seal(r#"{"CiphertextBlob":"AAAA","KeyId":"KEYS"}"#), Err(SealError::OtherKey)));
        for answer in
            ["", "{}", r#"{"CiphertextBlob":"AAA","KeyId":"KEY"}"#, r#"{"CiphertextBlob":"","KeyId":"KEY"}"#, "[]x"]
        {
            assert!(matches!(seal(answer), Err(SealError::Answer)), "{answer}");
        }
    }

    #[test]
    fn requests_are_written_as_the_service_reads_them() {
        struct Record(RefCell<Vec<(String, Value)>>);
        impl Kms for Record {
            fn call(&self, target: &str, body: &[u8]) -> Result<Vec<u8>, KmsError> {
                self.0.borrow_mut().push((target.to_owned(), serde_json::from_slice(body).unwrap()));
                Err(KmsError::Refused)
            }
        }
        let (kms, nsm) = (Record(RefCell::default()), EmulatedNsm::new(NOW_MS));
        assert!(seal_share(&kms, &key(), &name("2"), &Share::take(&mut [1; 32])).is_err());
        assert!(release_to(recipient(), &kms, &nsm, &key(), &name("2"), &[0xFF; 3], &mut rng()).is_err());
        let sent = kms.0.into_inner();
        let context = json!({ "share": "2", "vault": "7f3a" });
        let plaintext = bytes(&sent[0].1["Plaintext"]);
        assert_eq!((plaintext.len(), &plaintext[..32]), (64, &[1; 32][..]));
        let encrypt = json!({ "KeyId": KEY, "EncryptionContext": context, "Plaintext": sent[0].1["Plaintext"] });
        assert_eq!(sent[0], ("TrentService.Encrypt".to_owned(), encrypt));
        let recipient = json!({
            "AttestationDocument": sent[1].1["Recipient"]["AttestationDocument"],
            "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256",
        });
        let decrypt = json!({
            "CiphertextBlob": "////", "KeyId": KEY, "EncryptionContext": context, "Recipient": recipient,
        });
        assert_eq!(sent[1], ("TrentService.Decrypt".to_owned(), decrypt));
    }

    #[test]
    fn the_largest_request_fits() {
        let parts = (0..8).map(|part| (format!("{part}{}", "k".repeat(127)), "v".repeat(128)));
        let name = ShareName::new(parts.collect()).unwrap();
        let request = DecryptRequest {
            ciphertext_blob: &STANDARD.encode(vec![0; SEALED_BYTES_MAX]),
            encryption_context: &name.0,
            key_id: &"k".repeat(KEY_ARN_BYTES_MAX),
            recipient: Recipient {
                attestation_document: &STANDARD.encode(vec![0; crate::nsm::DOCUMENT_BYTES_MAX]),
                key_encryption_algorithm: OAEP,
            },
        };
        assert_eq!(body(&request).capacity(), REQUEST_BYTES_MAX);
    }

    #[test]
    fn refusals_are_told_apart() {
        let of =
            |kind: &str| KmsError::from_answer(json!({ "__type": kind, "message": "foreign" }).to_string().as_bytes());
        assert!(matches!(of("AccessDeniedException"), KmsError::Denied));
        assert!(matches!(of("com.amazonaws.kms#AccessDeniedException"), KmsError::Denied));
        assert!(matches!(of("NotFoundException"), KmsError::NoKey));
        assert!(matches!(of("DisabledException"), KmsError::KeyUnusable));
        assert!(matches!(of("InvalidCiphertextException"), KmsError::Ciphertext));
        assert!(matches!(of("ThrottlingException"), KmsError::Busy));
        assert!(matches!(of("ValidationException"), KmsError::Refused));
        assert!(matches!(KmsError::from_answer(b"<html>"), KmsError::Refused));
        assert!(matches!(KmsError::from_answer(&vec![b' '; ANSWER_BYTES_MAX + 1]), KmsError::TooLong));
        assert!(!of("foreign").to_string().contains("foreign"));
    }

    #[test]
    fn keys_and_names_are_parsed() {
        assert_eq!(key().as_str(), KEY);
        assert!(KeyArn::parse("arn:aws-cn:kms:cn-north-1:1:key/mrk-1234").is_some());
        for text in
            ["", "alias/mine", "01234567", "arn:aws:kms:r:1:alias/mine", "arn:aws:s3:r:1:key/1", "arn:aws:kms:r:1:key/"]
        {
            assert_eq!(KeyArn::parse(text), None, "{text}");
        }
        assert_eq!(KeyArn::parse(&format!("{KEY} ")), None);
        assert_eq!(KeyArn::parse(&format!("{KEY}{}", "0".repeat(KEY_ARN_BYTES_MAX))), None);
        let named = |parts: &[(&str, &str)]| {
            ShareName::new(parts.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
        };
        assert!(named(&[("a", "b")]).is_some());
        for parts in [&[][..], &[("", "b")], &[("a", "")], &[("a", "\"")], &[("a", "b c")], &[("ä", "b")]] {
            assert_eq!(named(parts), None);
        }
    }

    /// The format of what is sealed: it must not change.
    #[test]
    fn the_check_is_the_one_of_version_one() {
        let found = check(&name("2"), &Share::take(&mut [0x5A; 32]));
        assert_eq!(
            found[..],
            [
                0x10, 0xFB, 0x7D, 0x70, 0xFD, 0x3F, 0xA3, 0xE3, 0x4B, 0xB4, 0xC5, 0x20, 0x87, 0xB1, 0xFE, 0xB0, 0x96,
                0x45, 0x14, 0x98, 0xB8, 0x68, 0xF9, 0xE7, 0x46, 0xAF, 0xE4, 0xCC, 0xAC, 0x18, 0x47, 0x30
            ]
        );
    }
}

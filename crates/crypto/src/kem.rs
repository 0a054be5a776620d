//! X-Wing key pairs (X25519 and ML-KEM-768), and sealing to them with HPKE (RFC 9180): KDF HKDF-SHA256, AEAD
//! ChaCha20-Poly1305.
//!
//! A secret key is its seed of 32 bytes, in locked memory; it is expanded for each use and the expansion is wiped.

use std::fmt;

use hpke::{
    Deserializable as _, Kem as _, OpModeR, OpModeS, PskBundle, Serializable as _,
    aead::{AeadCtxR, AeadCtxS, AeadTag, ChaCha20Poly1305},
    inout::InOutBuf,
    kdf::HkdfSha256,
    kem::XWing,
    setup_receiver, setup_sender_with_rng,
};
use zeroize::ZeroizeOnDrop;

use crate::{CryptoRng, locked::SecretBytes, secret::Key32};

/// Length of a public key.
pub const PUBLIC_BYTES: usize = 1216;
/// Length of what an encapsulation sends.
pub const ENC_BYTES: usize = 1120;
/// How much longer than its plaintext a message sealed to a public key is.
pub const SEALED_OVERHEAD_BYTES: usize = ENC_BYTES + TAG_BYTES;

/// The public half of an X-Wing key pair, known to be well formed.
#[derive(Clone, PartialEq, Eq)]
pub struct KemPublic(Box<[u8; PUBLIC_BYTES]>);

impl KemPublic {
    /// A public key from its 1,216 bytes.
    ///
    /// # Errors
    /// When the length is another or a coefficient of the ML-KEM part is not reduced (FIPS 203, section 7.2).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KemPublicRefused> {
        PublicKey::from_bytes(bytes).map_err(|_| KemPublicRefused)?;
        let bytes: Box<[u8]> = bytes.into();
        bytes.try_into().map(Self).map_err(|_| KemPublicRefused)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; PUBLIC_BYTES] {
        &self.0
    }

    fn expand(&self) -> PublicKey {
        PublicKey::from_bytes(&self.0[..]).expect("the bytes were checked when the key was made")
    }
}

impl fmt::Debug for KemPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KemPublic({})", data_encoding::HEXLOWER.encode(&crate::digest::sha256(&[&self.0[..]])[..8]))
    }
}

/// Bytes that are not the public half of an X-Wing key pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not an X-Wing public key")]
pub struct KemPublicRefused;

/// The KEM key pair of a device: mail, share copies and outcomes are sealed to it.
pub struct DeviceKem(pub(crate) KemSecret);

/// A key pair made once for each vault process; channels are opened towards it.
pub struct PerStartKey(pub(crate) KemSecret);

/// The secret half of one slot, derived from a factor. Its seed is what a device sends to unlock.
pub struct SlotSecret(pub(crate) KemSecret);

impl DeviceKem {
    /// A fresh key pair.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self(KemSecret::generate(rng))
    }

    /// The key pair with this seed, read from where the device keeps it. The caller wipes `seed`.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(KemSecret(Key32::copy_of(seed)))
    }

    /// The seed, for the device's key store.
    pub fn expose_seed(&self) -> &[u8; 32] {
        self.0.0.expose()
    }

    /// The public half.
    pub fn public(&self) -> KemPublic {
        self.0.public()
    }
}

impl PerStartKey {
    /// A fresh key pair.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self(KemSecret::generate(rng))
    }

    /// The public half.
    pub fn public(&self) -> KemPublic {
        self.0.public()
    }
}

impl SlotSecret {
    /// The key pair with this seed, as it came over the channel. The caller wipes `seed`.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(KemSecret(Key32::copy_of(seed)))
    }

    /// The seed, to be sent to the vault over the channel.
    pub fn expose_seed(&self) -> &[u8; 32] {
        self.0.0.expose()
    }

    /// The public half.
    pub fn public(&self) -> KemPublic {
        self.0.public()
    }
}

impl ZeroizeOnDrop for DeviceKem {}
impl ZeroizeOnDrop for PerStartKey {}
impl ZeroizeOnDrop for SlotSecret {}

/// The seed of a key pair.
pub(crate) struct KemSecret(pub(crate) Key32);

impl KemSecret {
    pub(crate) fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self(Key32::generate(rng))
    }

    pub(crate) fn public(&self) -> KemPublic {
        let mut bytes = Box::new([0; PUBLIC_BYTES]);
        XWing::sk_to_pk(&self.expand()).write_exact(&mut bytes[..]);
        KemPublic(bytes)
    }

    fn expand(&self) -> PrivateKey {
        // EXPOSE: the KEM takes the seed; what it expands to is wiped when it is dropped.
        PrivateKey::from_bytes(self.0.expose()).expect("a seed has 32 bytes")
    }
}

/// A message that does not open with this key, or is too short to be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HpkeRefused;

/// What both ends add to the key pair: `info`, and in PSK mode the shared key and its id.
#[derive(Clone, Copy)]
pub(crate) struct Binding<'a> {
    pub(crate) info: &'a [u8],
    pub(crate) psk: Option<(&'a Key32, &'static str)>,
}

/// `enc || ciphertext`, with empty associated data.
pub(crate) fn hpke_seal(
    public: &KemPublic,
    binding: Binding<'_>,
    plaintext: &[u8],
    mut rng: &mut dyn CryptoRng,
) -> Vec<u8> {
    let mode = match binding.psk {
        None => OpModeS::Base,
        Some((psk, id)) => OpModeS::Psk(bundle(psk, id)),
    };
    let (enc, mut context): (_, AeadCtxS<ChaCha20Poly1305, HkdfSha256, XWing>) =
        setup_sender_with_rng(&mode, &public.expand(), binding.info, &mut rng)
            .expect("encapsulation to a checked public key does not fail");
    let mut sealed = vec![0; ENC_BYTES + plaintext.len() + TAG_BYTES];
    let (head, tail) = sealed.split_at_mut(ENC_BYTES);
    let (body, tag) = tail.split_at_mut(plaintext.len());
    enc.write_exact(head);
    let buffer = InOutBuf::new(plaintext, body).expect("the buffers have one length");
    let computed = context.seal_inout_detached(buffer, b"").expect("a context seals its first message");
    tag.copy_from_slice(&computed.to_bytes());
    sealed
}

/// Opens what [`hpke_seal`] made.
pub(crate) fn hpke_open(secret: &KemSecret, binding: Binding<'_>, sealed: &[u8]) -> Result<SecretBytes, HpkeRefused> {
    let (enc, tail) = sealed.split_at_checked(ENC_BYTES).ok_or(HpkeRefused)?;
    let (body, tag) = tail.split_last_chunk::<TAG_BYTES>().ok_or(HpkeRefused)?;
    let mut context = receiver(secret, binding, enc)?;
    let tag = AeadTag::from_bytes(tag).map_err(|_| HpkeRefused)?;
    let mut plaintext = SecretBytes::zeroed(body.len());
    // EXPOSE: the AEAD writes the plaintext here, and nowhere else.
    let buffer = InOutBuf::new(body, plaintext.expose_mut()).map_err(|_| HpkeRefused)?;
    context.open_inout_detached(buffer, b"", &tag).map_err(|_| HpkeRefused)?;
    Ok(plaintext)
}

/// Encapsulates to `public` and exports a secret both ends share: `(enc, secret)`.
pub(crate) fn hpke_export_to(
    public: &KemPublic,
    info: &[u8],
    exporter_context: &[u8],
    mut rng: &mut dyn CryptoRng,
) -> ([u8; ENC_BYTES], Key32) {
    let (enc, context): (_, AeadCtxS<ChaCha20Poly1305, HkdfSha256, XWing>) =
        setup_sender_with_rng(&OpModeS::Base, &public.expand(), info, &mut rng)
            .expect("encapsulation to a checked public key does not fail");
    let mut head = [0; ENC_BYTES];
    enc.write_exact(&mut head);
    let secret = Key32::filled(|out| context.export(exporter_context, out).expect("HPKE exports 32 bytes"));
    (head, secret)
}

/// The other end of [`hpke_export_to`].
pub(crate) fn hpke_export_from(
    secret: &KemSecret,
    enc: &[u8],
    info: &[u8],
    exporter_context: &[u8],
) -> Result<Key32, HpkeRefused> {
    let context = receiver(secret, Binding { info, psk: None }, enc)?;
    Ok(Key32::filled(|out| context.export(exporter_context, out).expect("HPKE exports 32 bytes")))
}

fn receiver(
    secret: &KemSecret,
    binding: Binding<'_>,
    enc: &[u8],
) -> Result<AeadCtxR<ChaCha20Poly1305, HkdfSha256, XWing>, HpkeRefused> {
    let mode = match binding.psk {
        None => OpModeR::Base,
        Some((psk, id)) => OpModeR::Psk(bundle(psk, id)),
    };
    let enc = EncappedKey::from_bytes(enc).map_err(|_| HpkeRefused)?;
    setup_receiver(&mode, &secret.expand(), &enc, binding.info).map_err(|_| HpkeRefused)
}

fn bundle<'a>(psk: &'a Key32, id: &'static str) -> PskBundle<'a> {
    // EXPOSE: HPKE hashes the key into its schedule and keeps no copy.
    PskBundle::new(psk.expose(), id.as_bytes()).expect("neither key nor id is empty")
}

type PublicKey = <XWing as hpke::Kem>::PublicKey;
type PrivateKey = <XWing as hpke::Kem>::PrivateKey;
type EncappedKey = <XWing as hpke::Kem>::EncappedKey;

const TAG_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::{FixedRng, TestRng};

    const INFO: Binding<'_> = Binding { info: b"info", psk: None };

    #[test]
    fn what_is_sealed_to_a_key_opens_with_it_alone() {
        let mut rng = TestRng::new("kem");
        let (ours, other) = (KemSecret::generate(&mut rng), KemSecret::generate(&mut rng));
        let sealed = hpke_seal(&ours.public(), INFO, b"plain", &mut rng);
        assert_eq!(sealed.len(), 5 + SEALED_OVERHEAD_BYTES);
        assert_eq!(hpke_open(&ours, INFO, &sealed).unwrap().expose(), b"plain");
        assert!(hpke_open(&other, INFO, &sealed).is_err());
        assert!(hpke_open(&ours, Binding { info: b"else", ..INFO }, &sealed).is_err());
        let psk = Key32::generate(&mut rng);
        assert!(hpke_open(&ours, Binding { psk: Some((&psk, "id")), ..INFO }, &sealed).is_err());
        for len in 0..sealed.len() {
            assert!(hpke_open(&ours, INFO, &sealed[..len]).is_err());
        }
    }

    #[test]
    fn the_shared_key_of_psk_mode_counts() {
        let mut rng = TestRng::new("psk");
        let (ours, psk, other) = (KemSecret::generate(&mut rng), Key32::generate(&mut rng), Key32::generate(&mut rng));
        let bound = |psk, id| Binding { psk: Some((psk, id)), ..INFO };
        let sealed = hpke_seal(&ours.public(), bound(&psk, "id"), b"plain", &mut rng);
        assert!(hpke_open(&ours, bound(&psk, "id"), &sealed).is_ok());
        assert!(hpke_open(&ours, bound(&other, "id"), &sealed).is_err());
        assert!(hpke_open(&ours, bound(&psk, "ie"), &sealed).is_err());
        assert!(hpke_open(&ours, INFO, &sealed).is_err());
    }

    #[test]
    fn a_public_key_out_of_range_is_refused() {
        let public = KemSecret::generate(&mut TestRng::new("range")).public();
        let mut bytes = *public.as_bytes();
        assert_eq!(KemPublic::from_bytes(&bytes).unwrap(), public);
        assert!(KemPublic::from_bytes(&bytes[1..]).is_err());
        bytes[..3].fill(0xFF);
        assert_eq!(KemPublic::from_bytes(&bytes), Err(KemPublicRefused));
    }

    /// The first test vector of draft-connolly-cfrg-xwing-kem, appendix C.
    #[test]
    fn x_wing_agrees_with_its_draft() {
        use hpke::Kem as _;
        let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
        let seed = hex("7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26");
        let eseed = hex(
            "3cb1eea988004b93103cfb0aeefd2a686e01fa4a58e8a3639ca8a1e3f9ae57e235b8cc873c23dc62b8d260169afa2f75ab916a58d974918835d25e6a435085b2",
        );
        let secret = KemSecret(Key32::filled(|out| out.copy_from_slice(&seed)));
        let (shared, enc) = XWing::encap_with_rng(&secret.public().expand(), None, &mut FixedRng(eseed)).unwrap();
        assert_eq!(shared.0[..], hex("d2df0522128f09dd8e2c92b1e905c793d8f57a54c3da25861f10bf4ca613e384")[..]);
        assert_eq!(XWing::decap(&secret.expand(), None, &enc).unwrap().0, shared.0);
        let digest = |bytes: &[u8]| data_encoding::HEXLOWER.encode(&crate::digest::sha256(&[bytes]));
        assert_eq!(digest(&secret.public().as_bytes()[..]), DRAFT_PK_SHA256);
        assert_eq!(digest(&enc.to_bytes()), DRAFT_CT_SHA256);
    }

    /// SHA-256 of `pk` and `ct` of that vector, which are too long to stand here.
    const DRAFT_PK_SHA256: &str = "2e816deebcd76c5c80d0cd2d174478871658e8e2ff42bc9d4a6e486372e856bb";
    const DRAFT_CT_SHA256: &str = "17cd532d657e44c897ca6583e548a5424fc70bf54f99515a4d2bcf99e3469f33";
}

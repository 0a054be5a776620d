//! From the stored text of a key to the key: which containers are read, and how strictly.
//!
//! The decoders (`base64ct`, `base16ct`, `pem-rfc7468`) look nothing up by a byte of the key, and every buffer in between
//! is wiped.
//! Whatever is wrong, the answer is the same [`Malformed`]: no error carries a byte of the input.

use base64ct::{Base64Unpadded, Base64UrlUnpadded, Encoding as _};
use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use p256::elliptic_curve::bigint::{NonZero, U2048, U4096};
use p256::elliptic_curve::pkcs8::AssociatedOid;
use p256::elliptic_curve::sec1::{FromSec1Point, ModulusSize, ToSec1Point};
use p256::elliptic_curve::{AffinePoint, CurveArithmetic, FieldBytesSize, SecretKey};
use ring::rsa::{KeyPairComponents, PublicKeyComponents};
use ring::signature::RsaKeyPair;
use ssh_key::private::{EcdsaKeypair, Ed25519Keypair, KeypairData, RsaKeypair};
use strongroom_wire::limits::KEY_BYTES_MAX;
use zeroize::{Zeroize, Zeroizing};

/// The stored text is not a key of the algorithm. It says no more, because whatever it said could be part of the key.
#[derive(Debug)]
pub(super) struct Malformed;

/// A key's container, opened as far as possible without knowing the algorithm.
pub(super) enum Container {
    /// 32 bytes as hexadecimal, base64 or base64url: an Ed25519 seed or a scalar, big-endian.
    Raw(Zeroizing<[u8; 32]>),
    /// DER of PKCS#8 (RFC 5958).
    Pkcs8(Zeroizing<Vec<u8>>),
    /// DER of `ECPrivateKey` (RFC 5915).
    Sec1(Zeroizing<Vec<u8>>),
    /// DER of `RSAPrivateKey` (RFC 8017, appendix A.1.2).
    Pkcs1(Zeroizing<Vec<u8>>),
    /// openssh-key-v1, unencrypted (PROTOCOL.key); boxed, as it is the largest by far.
    OpenSsh(Box<ssh_key::PrivateKey>),
}

impl Container {
    /// Reads PEM with one of the labels above, base64 of PKCS#8 DER, or 32 bytes of text.
    pub(super) fn read(secret: &[u8]) -> Result<Self, Malformed> {
        if secret.len() > KEY_BYTES_MAX {
            return Err(Malformed);
        }
        let text = secret.trim_ascii();
        if text.starts_with(b"-----BEGIN ") { Self::from_pem(text) } else { Self::from_text(text) }
    }

    fn from_pem(text: &[u8]) -> Result<Self, Malformed> {
        let mut decoder = pem_rfc7468::Decoder::new_detect_wrap(skip_parameters(text)).map_err(|_| Malformed)?;
        let mut der = Zeroizing::new(vec![0; decoder.remaining_len()]);
        decoder.decode(&mut der).map_err(|_| Malformed)?;
        if !decoder.is_finished() {
            return Err(Malformed);
        }
        match decoder.type_label() {
            "PRIVATE KEY" => Ok(Self::Pkcs8(der)),
            "EC PRIVATE KEY" => Ok(Self::Sec1(der)),
            "RSA PRIVATE KEY" => Ok(Self::Pkcs1(der)),
            "OPENSSH PRIVATE KEY" => {
                let key = ssh_key::PrivateKey::from_bytes(&der).map_err(|_| Malformed)?;
                Ok(Self::OpenSsh(Box::new(key)))
            }
            _ => Err(Malformed),
        }
    }

    fn from_text(text: &[u8]) -> Result<Self, Malformed> {
        let bytes = decode_text(text)?;
        if bytes.len() == 32 { padded(&bytes).map(Self::Raw) } else { Ok(Self::Pkcs8(bytes)) }
    }
}

/// 32 bytes of a symmetric key: raw, or as hexadecimal, base64 or base64url.
///
/// 32 printable characters are refused: random bytes never look so, but a password or the hexadecimal of 16 bytes does.
pub(super) fn symmetric(secret: &[u8]) -> Result<Zeroizing<[u8; 32]>, Malformed> {
    if secret.len() == 32 {
        let printable = secret.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
        return if printable { Err(Malformed) } else { padded(secret) };
    }
    if secret.len() > KEY_BYTES_MAX {
        return Err(Malformed);
    }
    let bytes = decode_text(secret.trim_ascii())?;
    if bytes.len() == 32 { padded(&bytes) } else { Err(Malformed) }
}

pub(super) fn ed25519(container: &Container) -> Result<ed25519_dalek::SigningKey, Malformed> {
    match container {
        Container::Raw(seed) => Ok(ed25519_dalek::SigningKey::from_bytes(seed)),
        Container::Pkcs8(der) => ed25519_dalek::SigningKey::from_pkcs8_der(der).map_err(|_| Malformed),
        Container::OpenSsh(key) => match key.key_data() {
            KeypairData::Ed25519(Ed25519Keypair { public, private }) => {
                let seed = Zeroizing::new(private.to_bytes());
                let key = ed25519_dalek::SigningKey::from_bytes(&seed);
                // Signing under a public key that is not the seed's own would give the seed away.
                if key.verifying_key().as_bytes() == &public.0 { Ok(key) } else { Err(Malformed) }
            }
            _ => Err(Malformed),
        },
        Container::Sec1(_) | Container::Pkcs1(_) => Err(Malformed),
    }
}

/// A key on curve `C`; a public key beside it must be its own.
pub(super) fn ecdsa<C>(container: &Container) -> Result<SecretKey<C>, Malformed>
where
    C: CurveArithmetic + AssociatedOid,
    AffinePoint<C>: FromSec1Point<C> + ToSec1Point<C>,
    FieldBytesSize<C>: ModulusSize,
{
    match container {
        Container::Raw(scalar) => SecretKey::from_slice(scalar.as_slice()).map_err(|_| Malformed),
        Container::Pkcs8(der) => SecretKey::from_pkcs8_der(der).map_err(|_| Malformed),
        Container::Sec1(der) => SecretKey::from_sec1_der(der).map_err(|_| Malformed),
        Container::OpenSsh(key) => match key.key_data() {
            KeypairData::Ecdsa(EcdsaKeypair::NistP256 { public, private }) if C::OID == p256::NistP256::OID => {
                let key = SecretKey::<C>::from_slice(private.as_slice()).map_err(|_| Malformed)?;
                let point = key.public_key().to_sec1_point(false);
                if point.as_bytes() == public.as_bytes() { Ok(key) } else { Err(Malformed) }
            }
            _ => Err(Malformed),
        },
        Container::Pkcs1(_) => Err(Malformed),
    }
}

/// An RSA key of 2048 to 4096 bits with two primes and an exponent of at least 65537.
pub(super) fn rsa(container: &Container) -> Result<RsaKeyPair, Malformed> {
    let key = match container {
        Container::Pkcs8(der) => RsaKeyPair::from_pkcs8(der).map_err(|_| Malformed)?,
        Container::Pkcs1(der) => RsaKeyPair::from_der(der).map_err(|_| Malformed)?,
        Container::OpenSsh(key) => match key.key_data() {
            KeypairData::Rsa(key) => rsa_from_openssh(key)?,
            _ => return Err(Malformed),
        },
        Container::Raw(_) | Container::Sec1(_) => return Err(Malformed),
    };
    // ring counts bytes and would take 2041 bits as well.
    let modulus = PublicKeyComponents::<Vec<u8>>::from(key.public()).n;
    if modulus.len() >= 256 && modulus.first().is_some_and(|byte| *byte >= 0x80) { Ok(key) } else { Err(Malformed) }
}

/// OpenSSH stores d, p, q and q⁻¹ mod p, but not d mod (p−1) and d mod (q−1), which the Chinese remainder form needs.
fn rsa_from_openssh(key: &RsaKeypair) -> Result<RsaKeyPair, Malformed> {
    let (public, private) = (key.public(), key.private());
    let positive = |integer: &'_ ssh_key::Mpint| integer.as_positive_bytes().map(<[u8]>::to_vec).ok_or(Malformed);
    let (d, p, q) = (
        Zeroizing::new(positive(private.d())?),
        Zeroizing::new(positive(private.p())?),
        Zeroizing::new(positive(private.q())?),
    );
    let components = KeyPairComponents {
        public_key: PublicKeyComponents { n: positive(public.n())?, e: positive(public.e())? },
        dP: reduce(&d, &p)?,
        dQ: reduce(&d, &q)?,
        qInv: Zeroizing::new(positive(private.iqmp())?),
        d,
        p,
        q,
    };
    RsaKeyPair::from_components(&components).map_err(|_| Malformed)
}

/// `d mod (p − 1)`, big-endian in as many bytes as `p`, in time that depends on neither.
fn reduce(d: &[u8], p: &[u8]) -> Result<Zeroizing<Vec<u8>>, Malformed> {
    let d = Zeroizing::new(U4096::from_be_slice(padded::<512>(d)?.as_slice()));
    let mut p_less_one = U2048::from_be_slice(padded::<256>(p)?.as_slice()).wrapping_sub(&U2048::ONE);
    let divisor = NonZero::new(p_less_one).into_option().ok_or(Malformed);
    p_less_one.zeroize();
    let mut divisor = divisor?;
    let remainder = Zeroizing::new(d.rem(&divisor));
    divisor.zeroize();
    let bytes = Zeroizing::new(remainder.to_be_bytes());
    Ok(Zeroizing::new(bytes.as_ref()[256 - p.len()..].to_vec()))
}

/// `bytes` with zeros before them, `N` in all.
fn padded<const N: usize>(bytes: &[u8]) -> Result<Zeroizing<[u8; N]>, Malformed> {
    let start = N.checked_sub(bytes.len()).ok_or(Malformed)?;
    let mut padded = Zeroizing::new([0; N]);
    padded[start..].copy_from_slice(bytes);
    Ok(padded)
}

/// OpenSSL writes `EC PARAMETERS` before the `EC PRIVATE KEY`; the key names its curve itself.
fn skip_parameters(text: &[u8]) -> &[u8] {
    const END: &[u8] = b"-----END EC PARAMETERS-----";
    if !text.starts_with(b"-----BEGIN EC PARAMETERS-----") {
        return text;
    }
    text.windows(END.len())
        .position(|window| window == END)
        .map_or(text, |at| text[at + END.len()..].trim_ascii_start())
}

/// Hexadecimal where 64 digits say so, else base64 or base64url with or without padding; white space inside is dropped.
fn decode_text(text: &[u8]) -> Result<Zeroizing<Vec<u8>>, Malformed> {
    let mut packed = Zeroizing::new(Vec::with_capacity(text.len()));
    packed.extend(text.iter().filter(|byte| !byte.is_ascii_whitespace()));
    let mut bytes = Zeroizing::new(vec![0; packed.len()]);
    let length = if packed.len() == 64 && packed.iter().all(u8::is_ascii_hexdigit) {
        base16ct::mixed::decode(packed.as_slice(), &mut bytes).map_err(|_| Malformed)?.len()
    } else {
        let unpadded = packed.strip_suffix(b"==").or_else(|| packed.strip_suffix(b"=")).unwrap_or(&packed);
        let url = unpadded.iter().any(|byte| matches!(byte, b'-' | b'_'));
        let decode = if url { Base64UrlUnpadded::decode } else { Base64Unpadded::decode };
        decode(unpadded, &mut bytes).map_err(|_| Malformed)?.len()
    };
    bytes.truncate(length);
    Ok(bytes)
}

//! The keys of `sign` and `crypt`: read for one call from the text an item holds, checked when an item is added, and made
//! by `item add --generate`.

mod read;

use ed25519_dalek::Signer as _;
use ed25519_dalek::pkcs8::spki::der::asn1::{AnyRef, BitStringRef};
use ed25519_dalek::pkcs8::spki::der::{Document, Encode as _};
use ed25519_dalek::pkcs8::spki::{
    AlgorithmIdentifierRef, EncodePublicKey as _, ObjectIdentifier, SubjectPublicKeyInfoRef,
};
use ed25519_dalek::pkcs8::{EncodePrivateKey as _, KeypairBytes};
use p256::elliptic_curve::Generate as _;
use pem_rfc7468::LineEnding;
use rand_core::CryptoRng;
use ring::rsa::PublicKeyComponents;
use ring::signature::{KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair};
use ssh_key::private::{Ed25519Keypair, Ed25519PrivateKey, KeypairData};
use ssh_key::public::{EcdsaPublicKey, Ed25519PublicKey, KeyData, RsaPublicKey};
use strongroom_wire::policy::{KeyAlgorithm, KeyPolicy, KeyPurpose};
use strongroom_wire::{Code, Refusal};
use zeroize::Zeroizing;

use self::read::{Container, Malformed};

/// A private key that signs, for the length of one call. Each variant wipes itself, but for RSA: ring keeps its numbers
/// in plain heap memory, which the vault's allocator wipes.
pub(crate) enum PrivateKey {
    /// Ed25519; the public half is derived, never read.
    Ed25519(ed25519_dalek::SigningKey),
    /// ECDSA over P-256.
    P256(p256::ecdsa::SigningKey),
    /// ECDSA over secp256k1.
    Secp256k1(k256::ecdsa::SigningKey),
    /// RSA with the padding of the item's policy.
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
}

impl PrivateKey {
    /// Reads the key of a policy's algorithm.
    ///
    /// # Errors
    /// `key_malformed`, whatever is wrong with it.
    pub(crate) fn read(secret: &[u8], algorithm: KeyAlgorithm) -> Result<Self, Refusal> {
        let read = || {
            let container = Container::read(secret)?;
            Ok(match algorithm {
                KeyAlgorithm::Ed25519 => Self::Ed25519(read::ed25519(&container)?),
                KeyAlgorithm::EcdsaP256 => Self::P256(read::ecdsa(&container)?.into()),
                KeyAlgorithm::EcdsaSecp256k1 => Self::Secp256k1(read::ecdsa(&container)?.into()),
                KeyAlgorithm::RsaPssSha256 => Self::Rsa(Box::new(read::rsa(&container)?), &RSA_PSS_SHA256),
                KeyAlgorithm::RsaPkcs1Sha256 => Self::Rsa(Box::new(read::rsa(&container)?), &RSA_PKCS1_SHA256),
                _ => return Err(Malformed),
            })
        };
        read().map_err(|_: Malformed| malformed(algorithm))
    }

    /// Signs a whole message; the hash is the algorithm's own.
    ///
    /// Ed25519 (RFC 8032) and ECDSA (RFC 6979, SHA-256) are deterministic. ECDSA gives r and s in 32 bytes each, with the
    /// lower of both s, so that nobody makes a second signature out of the first. RSA-PSS takes its 32-byte salt from the
    /// system, as ring lets nobody else give it.
    ///
    /// # Errors
    /// `key_malformed` where the parts of an RSA key do not belong together, which only shows here.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Refusal> {
        match self {
            Self::Ed25519(key) => Ok(key.sign(message).to_bytes().to_vec()),
            Self::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                Ok(signature.normalize_s().to_bytes().to_vec())
            }
            Self::Secp256k1(key) => {
                let signature: k256::ecdsa::Signature = key.sign(message);
                Ok(signature.normalize_s().to_bytes().to_vec())
            }
            Self::Rsa(key, padding) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(*padding, &ring::rand::SystemRandom::new(), message, &mut signature)
                    .map_err(|_| malformed(KeyAlgorithm::RsaPkcs1Sha256))?;
                Ok(signature)
            }
        }
    }

    /// The public key as OpenSSH writes it.
    pub(crate) fn ssh_public(&self) -> Result<KeyData, Refusal> {
        match self {
            Self::Ed25519(key) => Ok(KeyData::Ed25519(Ed25519PublicKey(key.verifying_key().to_bytes()))),
            Self::P256(key) => {
                let point = key.verifying_key().to_sec1_point(false);
                Ok(KeyData::Ecdsa(EcdsaPublicKey::NistP256(point)))
            }
            Self::Secp256k1(_) => Err(Refusal::new(Code::PolicyMissing).detail("OpenSSH has no keys on secp256k1.")),
            Self::Rsa(key, _) => {
                let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(key.public());
                let integer = ssh_key::Mpint::from_positive_bytes;
                let public = RsaPublicKey::new(integer(&e), integer(&n)).map_err(|_| bug())?;
                Ok(KeyData::Rsa(public))
            }
        }
    }

    /// The public key as DER of `SubjectPublicKeyInfo` (RFC 5280, section 4.1.2.7).
    fn spki(&self) -> Result<Document, Refusal> {
        match self {
            Self::Ed25519(key) => key.verifying_key().to_public_key_der(),
            Self::P256(key) => key.verifying_key().to_public_key_der(),
            Self::Secp256k1(key) => key.verifying_key().to_public_key_der(),
            Self::Rsa(key, _) => return rsa_spki(key.public_key().as_ref()).ok_or_else(bug),
        }
        .map_err(|_| bug())
    }
}

/// Whether an item with this policy may hold this secret: the policy's purpose and algorithm go together, the secret is a
/// key of that algorithm, and the key signs. Checked when an item is added or changed.
///
/// # Errors
/// `policy_missing` for a policy that fits nothing, `key_malformed` for the rest, with a sentence on what is read.
pub fn check_key(secret: &[u8], policy: KeyPolicy) -> Result<(), Refusal> {
    check_policy(policy)?;
    if is_symmetric(policy.purpose) {
        return symmetric_key(secret).map(drop);
    }
    // Whether the numbers of an RSA key belong together only shows when it signs; the signature goes nowhere.
    PrivateKey::read(secret, policy.algorithm)?.sign(b"strongroom/v1/check-key").map(drop)
}

/// The public key: a line of `authorized_keys` without comment for an ssh key, else PEM of `SubjectPublicKeyInfo`.
///
/// # Errors
/// `policy_missing` where the key has no public half, `key_malformed` where it cannot be read.
pub fn public_key(secret: &[u8], policy: KeyPolicy) -> Result<String, Refusal> {
    check_policy(policy)?;
    if is_symmetric(policy.purpose) {
        return Err(Refusal::new(Code::PolicyMissing).detail("A symmetric key has no public half."));
    }
    let key = PrivateKey::read(secret, policy.algorithm)?;
    if policy.purpose == KeyPurpose::Ssh {
        return ssh_key::PublicKey::new(key.ssh_public()?, "").to_openssh().map_err(|_| bug());
    }
    key.spki()?.to_pem("PUBLIC KEY", LineEnding::LF).map_err(|_| bug())
}

/// A fresh key for an item of this policy, as the text that is stored: PKCS#8 PEM; an OpenSSH private key for Ed25519 and
/// ssh; 32 bytes in base64url for `crypt`.
///
/// # Errors
/// `policy_missing` for a policy that fits nothing, `value_refused` for RSA, which is imported and not made here.
pub fn generate_key(policy: KeyPolicy, rng: &mut dyn CryptoRng) -> Result<Zeroizing<String>, Refusal> {
    check_policy(policy)?;
    let pem = match policy.algorithm {
        KeyAlgorithm::Ed25519 => return generate_ed25519(policy.purpose, rng),
        KeyAlgorithm::EcdsaP256 => p256::SecretKey::generate_from_rng(rng).to_pkcs8_pem(LineEnding::LF),
        KeyAlgorithm::EcdsaSecp256k1 => k256::SecretKey::generate_from_rng(rng).to_pkcs8_pem(LineEnding::LF),
        KeyAlgorithm::RsaPssSha256 | KeyAlgorithm::RsaPkcs1Sha256 => {
            return Err(Refusal::new(Code::ValueRefused)
                .detail("RSA keys are imported, not generated here; Ed25519 or P-256 can be.")
                .hint("openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072"));
        }
        KeyAlgorithm::Xchacha20Poly1305 | KeyAlgorithm::HmacSha256 | KeyAlgorithm::HkdfSha256 => {
            let key = random_32(rng);
            let encode = <base64ct::Base64UrlUnpadded as base64ct::Encoding>::encode_string;
            return Ok(Zeroizing::new(encode(key.as_slice())));
        }
    };
    pem.map_err(|_| bug())
}

/// The 32 bytes of a symmetric key.
///
/// # Errors
/// `key_malformed` where the secret is anything else.
pub(crate) fn symmetric_key(secret: &[u8]) -> Result<Zeroizing<[u8; 32]>, Refusal> {
    read::symmetric(secret).map_err(|_| {
        Refusal::new(Code::KeyMalformed).detail("Expected 32 random bytes, raw or as base64, base64url or hexadecimal.")
    })
}

/// Whether purpose and algorithm go together.
pub(crate) fn check_policy(policy: KeyPolicy) -> Result<(), Refusal> {
    if policy.fits() {
        return Ok(());
    }
    Err(Refusal::new(Code::PolicyMissing)
        .detail(format!("A key for {} does not use {}.", policy.purpose, policy.algorithm)))
}

fn is_symmetric(purpose: KeyPurpose) -> bool {
    matches!(purpose, KeyPurpose::Encrypt | KeyPurpose::Mac | KeyPurpose::Derive)
}

fn generate_ed25519(purpose: KeyPurpose, rng: &mut dyn CryptoRng) -> Result<Zeroizing<String>, Refusal> {
    let seed = random_32(rng);
    if purpose != KeyPurpose::Ssh {
        // Without the public half, as RFC 8410 (section 7) shows it and every OpenSSL reads it.
        let pair = KeypairBytes { secret_key: *seed, public_key: None };
        return pair.to_pkcs8_pem(LineEnding::LF).map_err(|_| bug());
    }
    let public = Ed25519PublicKey(ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key().to_bytes());
    let pair = Ed25519Keypair { public, private: Ed25519PrivateKey::from_bytes(&seed) };
    let key = ssh_key::PrivateKey::new(KeypairData::Ed25519(pair), "").map_err(|_| bug())?;
    key.to_openssh(LineEnding::LF).map_err(|_| bug())
}

fn random_32(rng: &mut dyn CryptoRng) -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    rng.fill_bytes(bytes.as_mut_slice());
    bytes
}

fn rsa_spki(public: &[u8]) -> Option<Document> {
    /// rsaEncryption (RFC 8017, appendix A.1).
    const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
    let spki = SubjectPublicKeyInfoRef {
        algorithm: AlgorithmIdentifierRef { oid: RSA_ENCRYPTION, parameters: Some(AnyRef::NULL) },
        subject_public_key: BitStringRef::from_bytes(public).ok()?,
    };
    Document::try_from(spki.to_der().ok()?).ok()
}

fn malformed(algorithm: KeyAlgorithm) -> Refusal {
    // The hint also helps where ssh-key stops short: it refuses the one P-256 key in 512 whose scalar OpenSSH writes in
    // fewer than 32 bytes.
    let refusal = Refusal::new(Code::KeyMalformed).hint("ssh-keygen -p -N '' -m PKCS8 -f <copy of the key>");
    refusal.detail(match algorithm {
        KeyAlgorithm::Ed25519 => {
            "Expected an Ed25519 key without a passphrase: PKCS#8 or OpenSSH PEM, or its 32-byte seed in base64 or hexadecimal."
        }
        KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaSecp256k1 => {
            "Expected a key on the policy's curve without a passphrase: PKCS#8, SEC1 or OpenSSH PEM, or its 32 bytes in base64 \
             or hexadecimal."
        }
        KeyAlgorithm::RsaPssSha256 | KeyAlgorithm::RsaPkcs1Sha256 => {
            "Expected an RSA key of 2048 to 4096 bits without a passphrase: PKCS#8, PKCS#1 or OpenSSH PEM."
        }
        _ => "Expected a key that signs.",
    })
}

fn bug() -> Refusal {
    Refusal::new(Code::Bug)
}

#[cfg(test)]
mod tests;

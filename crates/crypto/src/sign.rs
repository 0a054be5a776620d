//! Ed25519 keys and the statements they sign; fingerprints; the hashes that bind acts and requests (sections 6 and 7).
//!
//! A key signs only [`Statement`]s, each of which starts with a label of its own, so that no signature can be taken for
//! another. The one exception is the log's checkpoint, whose form is a standard's.

use std::fmt;

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use ed25519_dalek::{
    VerifyingKey,
    hazmat::{ExpandedSecretKey, raw_sign},
};
use sha2::Sha512;
use zeroize::ZeroizeOnDrop;

use crate::{CryptoRng, Id, digest::sha256, secret::Key32, tuple::Tuple};

/// Length of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// An Ed25519 signature (RFC 8032).
pub type Signature = [u8; SIGNATURE_BYTES];

/// An Ed25519 key: its seed lies in locked memory and is expanded for each signature.
pub struct SigningKey {
    seed: Key32,
    public: PublicKey,
}

impl SigningKey {
    /// A fresh key.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self::new(Key32::generate(rng))
    }

    /// The key with this seed, read from where it is kept sealed. The caller wipes `seed`.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self::new(Key32::copy_of(seed))
    }

    pub(crate) fn new(seed: Key32) -> Self {
        // EXPOSE: the library expands the seed to learn the public half, and wipes what it expanded.
        let public = VerifyingKey::from(&ExpandedSecretKey::from(seed.expose()));
        Self { seed, public: PublicKey(public) }
    }

    /// The seed, to seal it where the key is kept.
    pub fn expose_seed(&self) -> &[u8; 32] {
        self.seed.expose()
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Signs a statement.
    pub fn sign(&self, statement: &Statement<'_>) -> Signature {
        self.sign_tuple(&statement.message())
    }

    /// Signs the text of a checkpoint (C2SP signed-note: the bytes before the blank line, its last line feed included).
    ///
    /// The key must be an audit key and sign nothing else: such a text carries no label, only its origin line.
    pub fn sign_checkpoint_note(&self, text: &[u8]) -> Signature {
        self.sign_bytes(text)
    }

    pub(crate) fn sign_tuple(&self, message: &Tuple) -> Signature {
        self.sign_bytes(message.as_bytes())
    }

    fn sign_bytes(&self, message: &[u8]) -> Signature {
        // EXPOSE: expanded for this signature and wiped. The public half was computed from this very seed, which is what
        // makes signing with both safe.
        let expanded = ExpandedSecretKey::from(self.seed.expose());
        raw_sign::<Sha512>(&expanded, message, &self.public.0).to_bytes()
    }
}

impl ZeroizeOnDrop for SigningKey {}

/// An Ed25519 public key, known to be the one encoding of a point that is not of small order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// A public key from its 32 bytes.
    ///
    /// # Errors
    /// When they are not a point, not its shortest encoding, or a point of small order, for which anyone can sign.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PublicKeyRefused> {
        let bytes: &[u8; 32] = bytes.try_into().map_err(|_| PublicKeyRefused)?;
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| PublicKeyRefused)?;
        // Decoding reduces its input, so an encoding that is not the shortest comes out differently.
        let canonical = key.to_edwards().compress().to_bytes() == *bytes;
        if canonical && !key.is_weak() { Ok(Self(key)) } else { Err(PublicKeyRefused) }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Verifies a signature of a statement.
    ///
    /// # Errors
    /// When this key did not sign this statement.
    pub fn verify(&self, statement: &Statement<'_>, signature: &[u8]) -> Result<(), SignatureRefused> {
        self.verify_tuple(&statement.message(), signature)
    }

    /// Verifies a signature of a checkpoint's text; see [`SigningKey::sign_checkpoint_note`].
    ///
    /// # Errors
    /// When this key did not sign this text.
    pub fn verify_checkpoint_note(&self, text: &[u8], signature: &[u8]) -> Result<(), SignatureRefused> {
        self.verify_bytes(text, signature)
    }

    /// The key id of a checkpoint's signature line (C2SP signed-note, type 0x01), for a key of this name.
    pub fn note_key_id(&self, name: &str) -> [u8; 4] {
        let hash = sha256(&[name.as_bytes(), b"\n", &[1], self.as_bytes()]);
        [hash[0], hash[1], hash[2], hash[3]]
    }

    pub(crate) fn verify_tuple(&self, message: &Tuple, signature: &[u8]) -> Result<(), SignatureRefused> {
        self.verify_bytes(message.as_bytes(), signature)
    }

    fn verify_bytes(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureRefused> {
        let signature = ed25519_dalek::Signature::from_slice(signature).map_err(|_| SignatureRefused)?;
        self.0.verify_strict(message, &signature).map_err(|_| SignatureRefused)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", HEXLOWER.encode(self.as_bytes()))
    }
}

/// Bytes that are not an Ed25519 public key one may trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not an Ed25519 public key")]
pub struct PublicKeyRefused;

/// A signature that is not this key's over this statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct SignatureRefused;

/// Everything that is ever signed, but for a checkpoint and what the channel and the recovery blob sign inside this crate.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Statement<'a> {
    /// The vault identity vouches for a device, guest or peer. `body` is the exact JSON text.
    RosterEntry {
        /// The vault.
        vault: &'a Id,
        /// Kind, id, name, public keys, epoch and time, as JSON.
        body: &'a [u8],
    },
    /// The vault identity vouches for the key of the channel.
    ChannelCertificate {
        /// The vault.
        vault: &'a Id,
        /// The channel's key.
        channel_key: &'a PublicKey,
        /// Counts up with each new channel key.
        epoch: u32,
    },
    /// The vault identity vouches for the key that signs the log's checkpoints.
    AuditCertificate {
        /// The vault.
        vault: &'a Id,
        /// The audit key.
        audit_key: &'a PublicKey,
        /// Counts up with each new audit key.
        epoch: u32,
    },
    /// The vault identity vouches for the key that signs backup manifests.
    ManifestCertificate {
        /// The vault.
        vault: &'a Id,
        /// The manifest key.
        manifest_key: &'a PublicKey,
        /// Counts up with each new manifest key.
        epoch: u32,
    },
    /// The manifest key vouches for one backup.
    Manifest {
        /// The vault.
        vault: &'a Id,
        /// The exact bytes of the manifest.
        body: &'a [u8],
    },
    /// After a recovery the old identity names the new one.
    Succession {
        /// The vault.
        vault: &'a Id,
        /// Counts successions from 1.
        number: u32,
        /// The key that signs.
        old: &'a PublicKey,
        /// The key that takes over.
        new: &'a PublicKey,
    },
    /// A revocation, countersigned by the identity when a device next presents it.
    Revocation {
        /// The vault.
        vault: &'a Id,
        /// The exact bytes of the entry.
        body: &'a [u8],
    },
    /// A command of the operator to a vault.
    Control {
        /// The vault.
        vault: &'a Id,
        /// Strictly increasing.
        sequence: u64,
        /// Seconds since 1970.
        time: u64,
        /// Random, never used twice.
        nonce: &'a [u8; 16],
        /// The exact JSON text of the command.
        command: &'a [u8],
    },
    /// The answer to a challenge, by the key of a slot.
    Fresh {
        /// What is being agreed to.
        act: &'a Act,
    },
}

impl Statement<'_> {
    fn message(&self) -> Tuple {
        match *self {
            Self::RosterEntry { vault, body } => Tuple::labelled("roster").bytes(vault).bytes(body),
            Self::ChannelCertificate { vault, channel_key, epoch } => {
                Tuple::labelled("channel-identity").bytes(vault).bytes(channel_key.as_bytes()).u32(epoch)
            }
            Self::AuditCertificate { vault, audit_key, epoch } => {
                Tuple::labelled("audit-identity").bytes(vault).bytes(audit_key.as_bytes()).u32(epoch)
            }
            Self::ManifestCertificate { vault, manifest_key, epoch } => {
                Tuple::labelled("manifest-identity").bytes(vault).bytes(manifest_key.as_bytes()).u32(epoch)
            }
            Self::Manifest { vault, body } => Tuple::labelled("manifest").bytes(vault).bytes(body),
            Self::Succession { vault, number, old, new } => {
                Tuple::labelled("succession").bytes(vault).u32(number).bytes(old.as_bytes()).bytes(new.as_bytes())
            }
            Self::Revocation { vault, body } => Tuple::labelled("revocation").bytes(vault).bytes(body),
            Self::Control { vault, sequence, time, nonce, command } => {
                Tuple::labelled("control").bytes(vault).u64(sequence).u64(time).bytes(nonce).bytes(command)
            }
            Self::Fresh { act } => Tuple::labelled("fresh").bytes(&act.0),
        }
    }
}

/// A short form of a vault's identity that people compare: `ABCD-EFGH-…`, eight groups of four.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 20]);

impl Fingerprint {
    /// The fingerprint of a vault's identity.
    pub fn of(vault: &Id, identity: &PublicKey) -> Self {
        let hash = sha256(&[Tuple::labelled("fingerprint").bytes(vault).bytes(identity.as_bytes()).as_bytes()]);
        Self(*hash.first_chunk().expect("SHA-256 yields 32 bytes"))
    }

    /// A fingerprint as a person typed it: case, spaces and hyphens do not count.
    ///
    /// # Errors
    /// When it is not 32 characters of base32.
    pub fn parse(text: &str) -> Result<Self, FingerprintRefused> {
        if text.len() > FINGERPRINT_INPUT_BYTES_MAX {
            return Err(FingerprintRefused);
        }
        let plain: String =
            text.chars().filter(|c| !c.is_whitespace() && *c != '-').map(|c| c.to_ascii_uppercase()).collect();
        let bytes = BASE32_NOPAD.decode(plain.as_bytes()).map_err(|_| FingerprintRefused)?;
        bytes.try_into().map(Self).map_err(|_| FingerprintRefused)
    }

    /// The 20 bytes.
    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, c) in BASE32_NOPAD.encode(&self.0).chars().enumerate() {
            if i > 0 && i % 4 == 0 {
                f.write_str("-")?;
            }
            write!(f, "{c}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Text that is not a fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is eight groups of four letters and digits")]
pub struct FingerprintRefused;

/// What one answer of fresh authentication agrees to: the hash of vault, device, challenge and request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Act([u8; 32]);

impl Act {
    /// The act of `device` asking for `body`, the exact JSON text of the request, under the vault's `challenge`.
    pub fn new(vault: &Id, device: &Id, challenge: &[u8; 32], body: &[u8]) -> Self {
        let act = Tuple::labelled("act").bytes(vault).bytes(device).bytes(challenge).bytes(body);
        Self(sha256(&[act.as_bytes()]))
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A guest's request as the vault keeps it and a member approves it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The vault.
    pub vault: &'a Id,
    /// Who asks.
    pub guest: &'a Id,
    /// `vault://<item id>/<field>`.
    pub reference: &'a str,
    /// The version of the field that will be used.
    pub field_version: u64,
    /// `http`, `sign`, `totp`, `crypt`, ….
    pub consumer: &'a str,
    /// The HTTP method, or the operation of another consumer.
    pub method: &'a str,
    /// Exactly the URL that will be called; empty for other consumers.
    pub url: &'a str,
    /// Names and values in order: headers, or the parameters of another consumer.
    pub headers: &'a [(&'a [u8], &'a [u8])],
    /// SHA-256 of the body, or `None` when its content is not shown.
    pub body_hash: Option<&'a [u8; 32]>,
    /// The version of the item's policy that was applied.
    pub policy_version: u64,
    /// Random for each request.
    pub nonce: &'a [u8; 16],
}

impl Request<'_> {
    /// The hash that an approval names.
    pub fn hash(&self) -> [u8; 32] {
        let pairs = self.headers.iter();
        let headers = pairs.fold(Tuple::of_parts(), |t, (name, value)| t.bytes(name).bytes(value));
        let request = Tuple::labelled("request")
            .bytes(self.vault)
            .bytes(self.guest)
            .text(self.reference)
            .u64(self.field_version)
            .text(self.consumer)
            .text(self.method)
            .text(self.url)
            .bytes(headers.as_bytes())
            .bytes(self.body_hash.map_or(&[], |hash| &hash[..]))
            .u64(self.policy_version)
            .bytes(self.nonce);
        sha256(&[request.as_bytes()])
    }
}

const FINGERPRINT_INPUT_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::test_rng::TestRng;

    fn hex(text: &str) -> Vec<u8> {
        HEXLOWER.decode(text.as_bytes()).unwrap()
    }

    #[test]
    fn ed25519_agrees_with_rfc_8032() {
        // Section 7.1, tests 1 and 3.
        for (seed, public, message, signature) in [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                "",
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
            ),
            (
                "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
                "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
                "af82",
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
            ),
        ] {
            let key = SigningKey::from_seed(hex(seed).as_slice().try_into().unwrap());
            assert_eq!(key.public().as_bytes()[..], hex(public)[..]);
            assert_eq!(key.sign_checkpoint_note(&hex(message))[..], hex(signature)[..]);
            assert!(key.public().verify_checkpoint_note(&hex(message), &hex(signature)).is_ok());
        }
    }

    #[test]
    fn a_key_anyone_can_sign_for_is_refused() {
        for bytes in [
            // the neutral point, a point of order 8, the neutral point written as 1 + p, and no point at all
            "0100000000000000000000000000000000000000000000000000000000000000",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "0200000000000000000000000000000000000000000000000000000000000000",
        ] {
            assert_eq!(PublicKey::from_bytes(&hex(bytes)), Err(PublicKeyRefused), "{bytes}");
        }
        assert!(PublicKey::from_bytes(&[1; 31]).is_err());
    }

    #[test]
    fn a_signature_with_a_large_scalar_is_refused() {
        let key = SigningKey::generate(&mut TestRng::new("malleable"));
        let mut signature = key.sign_checkpoint_note(b"m");
        // S + L is congruent to S; RFC 8032, section 5.1.7 refuses it.
        let order = hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
        let mut carry = 0_u16;
        for (byte, add) in signature[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            *byte = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
        assert_eq!(key.public().verify_checkpoint_note(b"m", &signature), Err(SignatureRefused));
    }

    #[test]
    fn no_statement_passes_for_another() {
        let mut rng = TestRng::new("statements");
        let key = SigningKey::generate(&mut rng);
        let (vault, public, act) = ([7; 16], key.public(), Act::new(&[7; 16], &[8; 16], &[9; 32], b"{}"));
        let body = public.as_bytes().as_slice();
        let statements = [
            Statement::RosterEntry { vault: &vault, body },
            Statement::ChannelCertificate { vault: &vault, channel_key: &public, epoch: 1 },
            Statement::ChannelCertificate { vault: &vault, channel_key: &public, epoch: 2 },
            Statement::AuditCertificate { vault: &vault, audit_key: &public, epoch: 1 },
            Statement::ManifestCertificate { vault: &vault, manifest_key: &public, epoch: 1 },
            Statement::Manifest { vault: &vault, body },
            Statement::Succession { vault: &vault, number: 1, old: &public, new: &public },
            Statement::Revocation { vault: &vault, body },
            Statement::Control { vault: &vault, sequence: 1, time: 2, nonce: &[3; 16], command: body },
            Statement::Fresh { act: &act },
        ];
        for (i, signed) in statements.iter().enumerate() {
            let signature = key.sign(signed);
            for (j, claimed) in statements.iter().enumerate() {
                assert_eq!(public.verify(claimed, &signature).is_ok(), i == j, "{signed:?} as {claimed:?}");
            }
        }
    }

    #[test]
    fn a_fingerprint_survives_how_people_type() {
        let key = SigningKey::generate(&mut TestRng::new("fingerprint"));
        let fingerprint = Fingerprint::of(&[1; 16], &key.public());
        let text = fingerprint.to_string();
        assert_eq!(text.len(), 39);
        assert_eq!(Fingerprint::parse(&text), Ok(fingerprint));
        assert_eq!(Fingerprint::parse(&format!(" {} ", text.to_lowercase().replace('-', " "))), Ok(fingerprint));
        for bad in ["", "ABCD", &text[1..], &text.replace('-', "="), &"A".repeat(300)] {
            assert!(Fingerprint::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn headers_cannot_be_moved_between_names_and_values() {
        let request = |headers| {
            Request {
                vault: &[1; 16],
                guest: &[2; 16],
                reference: "vault://a/b",
                field_version: 1,
                consumer: "http",
                method: "GET",
                url: "https://example.com/",
                headers,
                body_hash: None,
                policy_version: 1,
                nonce: &[3; 16],
            }
            .hash()
        };
        assert_ne!(request(&[(b"a", b"bc")]), request(&[(b"ab", b"c")]));
        assert_ne!(request(&[(b"a", b"b"), (b"c", b"d")]), request(&[(b"c", b"d"), (b"a", b"b")]));
        assert_ne!(request(&[]), request(&[(b"", b"")]));
    }

    proptest! {
        #[test]
        fn any_flipped_bit_of_a_signature_is_refused(bit in 0_usize..512, message in proptest::collection::vec(any::<u8>(), 0..40)) {
            let key = SigningKey::generate(&mut TestRng::new("flip"));
            let statement = Statement::Manifest { vault: &[0; 16], body: &message };
            let mut signature = key.sign(&statement);
            prop_assert!(key.public().verify(&statement, &signature).is_ok());
            signature[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(key.public().verify(&statement, &signature).is_err());
        }
    }
}

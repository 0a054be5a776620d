//! The three messages that open a channel.

use chacha20poly1305::{AeadInOut as _, ChaCha20Poly1305, KeyInit as _};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    Channel, ChannelCertificate, ChannelError, ChannelIdentity, EVIDENCE_BYTES_MAX, Joiner, Peer, Pin, Role, SUITE,
    SUITES_MAX,
    frame::{End, Keys, Side},
};
use crate::{
    CryptoRng, Id,
    digest::{hkdf_sha256, sha256},
    kem::{ENC_BYTES, KemPublic, KemSecret, PUBLIC_BYTES, PerStartKey, hpke_export_from, hpke_export_to},
    locked::SecretBytes,
    secret::Key32,
    sign::{PublicKey, SIGNATURE_BYTES, Signature, Statement},
    tuple::{Reader, Tuple, put_lp},
};

/// A device that has said hello.
pub struct DeviceHandshake {
    vault: Id,
    hello1: Vec<u8>,
    kem: KemSecret,
}

impl DeviceHandshake {
    /// The first message, and what the device keeps until the answer comes.
    pub fn start(vault: &Id, rng: &mut dyn CryptoRng) -> (Self, Vec<u8>) {
        let mut nonce = [0; NONCE_BYTES];
        rng.fill_bytes(&mut nonce);
        let kem = KemSecret::generate(rng);
        let mut hello1 = Vec::with_capacity(HELLO1_BYTES_MIN);
        hello1.push(VERSION);
        hello1.extend_from_slice(vault);
        hello1.extend_from_slice(&nonce);
        hello1.extend_from_slice(kem.public().as_bytes());
        hello1.extend_from_slice(&1_u16.to_be_bytes());
        hello1.extend_from_slice(&SUITE.to_be_bytes());
        (Self { vault: *vault, hello1: hello1.clone(), kem }, hello1)
    }

    /// Verifies the vault's answer against what the device knows of it.
    ///
    /// # Errors
    /// When the answer is malformed, or the vault is not the one that is pinned.
    pub fn read(self, hello2: &[u8], pin: &Pin<'_>) -> Result<Offer, ChannelError> {
        self.read_with(hello2, &Expect::Pin(*pin))
    }

    /// Verifies the vault's answer and joins at once, for a device that asks for no evidence.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn finish(
        self,
        hello2: &[u8],
        pin: &Pin<'_>,
        me: &Joiner<'_>,
        now_ms: u64,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Channel, Vec<u8>), ChannelError> {
        Ok(self.read(hello2, pin)?.join(me, now_ms, rng))
    }

    /// The answer in a repeated exchange: it must be signed with the key that the channel was opened with.
    pub(super) fn read_again(self, hello2: &[u8], channel_key: &PublicKey) -> Result<Offer, ChannelError> {
        self.read_with(hello2, &Expect::ChannelKey(channel_key))
    }

    fn read_with(self, hello2: &[u8], expect: &Expect<'_>) -> Result<Offer, ChannelError> {
        let parsed = parse_hello2(hello2)?;
        expect.check(&self.vault, &parsed)?;
        let signed = hello_statement(&self.hello1, parsed.signed);
        parsed.channel_key.verify_tuple(&signed, parsed.signature).map_err(|_| ChannelError::Signature)?;

        let info = kem_info("vault", &sha256(&[&self.hello1]));
        let secret = hpke_export_from(&self.kem, parsed.enc, info.as_bytes(), EXPORTER_CONTEXT)
            .map_err(|_| ChannelError::Key)?;
        let mut transcript = Sha256::new();
        transcript.update(&self.hello1);
        transcript.update(hello2);
        Ok(Offer {
            vault: self.vault,
            evidence: parsed.evidence.to_vec(),
            evidence_binding: binding(&self.vault, nonce_of(&self.hello1), &parsed.start_key, &parsed.channel_key),
            channel_key: parsed.channel_key,
            epoch: parsed.epoch,
            start_key: parsed.start_key,
            secret,
            transcript,
        })
    }
}

/// A vault that has proved itself; the device has not said yet who it is.
pub struct Offer {
    vault: Id,
    evidence: Vec<u8>,
    evidence_binding: [u8; 32],
    channel_key: PublicKey,
    epoch: u32,
    start_key: KemPublic,
    secret: Key32,
    transcript: Sha256,
}

impl Offer {
    /// The vault's evidence, to be appraised; empty where there is no hardware.
    pub fn evidence(&self) -> &[u8] {
        &self.evidence
    }

    /// What that evidence must quote; see [`evidence_binding`].
    pub fn evidence_binding(&self) -> &[u8; 32] {
        &self.evidence_binding
    }

    /// The vault's channel key.
    pub fn channel_key(&self) -> &PublicKey {
        &self.channel_key
    }

    /// The epoch of its certificate, to be remembered; 0 for a vault that was never created.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The third message, and the channel. It seals nothing until the vault's first frame has verified.
    pub fn join(self, me: &Joiner<'_>, now_ms: u64, rng: &mut dyn CryptoRng) -> (Channel, Vec<u8>) {
        let info = kem_info("device", &self.transcript.clone().finalize().into());
        let (enc, secret) = hpke_export_to(&self.start_key, info.as_bytes(), EXPORTER_CONTEXT, rng);
        let transcript: [u8; 32] = self.transcript.chain_update(enc).finalize().into();
        let (keys, join_key) = schedule(&self.vault, &transcript, &self.secret, &secret);

        let mut join = [0; JOIN_BYTES];
        join[0] = me.role.code();
        join[1..17].copy_from_slice(me.id);
        join[17..49].copy_from_slice(me.key.public().as_bytes());
        join[49..].copy_from_slice(&me.key.sign_tuple(&join_statement(&transcript, me.role, me.id)));
        // EXPOSE: the cipher copies the key and wipes its copy when it is dropped.
        let tag = ChaCha20Poly1305::new(join_key.expose().into())
            .encrypt_inout_detached(&JOIN_NONCE.into(), &transcript, join.as_mut_slice().into())
            .expect("a join is short");
        let hello3 = [&enc[..], &join, &tag].concat();
        let side = Side::Device { channel_key: self.channel_key, id: *me.id, role: me.role };
        (Channel::new(self.vault, End::new(side, keys), now_ms), hello3)
    }
}

/// A vault that has answered.
pub struct VaultHandshake {
    vault: Id,
    secret: Key32,
    transcript: Sha256,
    founding: bool,
}

impl VaultHandshake {
    /// The second message, and what the vault keeps until the third comes.
    ///
    /// # Errors
    /// When the first message is malformed, for another vault, or offers no suite of ours.
    ///
    /// # Panics
    /// If `evidence` is longer than [`EVIDENCE_BYTES_MAX`].
    pub fn answer(
        hello1: &[u8],
        vault: &Id,
        identity: &ChannelIdentity,
        start: &PerStartKey,
        evidence: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Result<(Self, Vec<u8>), ChannelError> {
        assert!(evidence.len() <= EVIDENCE_BYTES_MAX, "evidence is bounded where it is made");
        let parsed = parse_hello1(hello1)?;
        if parsed.vault != vault {
            return Err(ChannelError::Vault);
        }
        let device_key = KemPublic::from_bytes(parsed.kem_public).map_err(|_| ChannelError::Key)?;
        if !parsed.suites.contains(&SUITE) {
            return Err(ChannelError::Suite);
        }
        let mut nonce = [0; NONCE_BYTES];
        rng.fill_bytes(&mut nonce);
        let info = kem_info("vault", &sha256(&[hello1]));
        let (enc, secret) = hpke_export_to(&device_key, info.as_bytes(), EXPORTER_CONTEXT, rng);

        let ChannelCertificate { signature, epoch } =
            identity.certificate.unwrap_or(ChannelCertificate { signature: NO_CERTIFICATE, epoch: 0 });
        let mut hello2 = Vec::with_capacity(HELLO2_BYTES_MIN + evidence.len());
        hello2.push(VERSION);
        hello2.extend_from_slice(&nonce);
        hello2.extend_from_slice(&SUITE.to_be_bytes());
        hello2.extend_from_slice(start.public().as_bytes());
        hello2.extend_from_slice(&enc);
        hello2.extend_from_slice(identity.key.public().as_bytes());
        hello2.extend_from_slice(&signature);
        hello2.extend_from_slice(&epoch.to_be_bytes());
        put_lp(&mut hello2, evidence);
        let signature = identity.key.sign_tuple(&hello_statement(hello1, &hello2));
        hello2.extend_from_slice(&signature);

        let transcript = Sha256::new().chain_update(hello1).chain_update(&hello2);
        let founding = identity.certificate.is_none();
        Ok((Self { vault: *vault, secret, transcript, founding }, hello2))
    }

    /// Reads the third message. `lookup` gives the roster's key of a device or guest; a founder is not looked up: it is taken
    /// with the key it sent, but only by a vault that was never created.
    ///
    /// # Errors
    /// [`ChannelError::Length`] for a message of another length, else [`ChannelError::Refused`], whatever was wrong. An id
    /// without a key costs as much as a wrong signature.
    pub fn accept(
        self,
        hello3: &[u8],
        start: &PerStartKey,
        now_ms: u64,
        lookup: impl FnOnce(Role, &Id) -> Option<PublicKey>,
    ) -> Result<(Channel, Peer), ChannelError> {
        let (vault, founding) = (self.vault, self.founding);
        let (keys, peer) = self.complete(hello3, start, |role, id, sent| match role {
            Role::Founder if founding => PublicKey::from_bytes(sent).ok(),
            Role::Founder => None,
            Role::Device | Role::Guest => lookup(role, id),
        })?;
        Ok((Channel::new(vault, End::new(Side::Vault { peer }, keys), now_ms), peer))
    }

    /// The third message of a repeated exchange: only the peer that the channel was opened with is accepted.
    pub(super) fn accept_again(self, hello3: &[u8], start: &PerStartKey, peer: &Peer) -> Result<Keys, ChannelError> {
        let known = |role, id: &Id, _: &[u8; 32]| (role == peer.role && *id == peer.id).then_some(peer.public_key);
        Ok(self.complete(hello3, start, known)?.0)
    }

    fn complete(
        self,
        hello3: &[u8],
        start: &PerStartKey,
        known: impl FnOnce(Role, &Id, &[u8; 32]) -> Option<PublicKey>,
    ) -> Result<(Keys, Peer), ChannelError> {
        if hello3.len() != HELLO3_BYTES {
            return Err(ChannelError::Length);
        }
        let (enc, sealed) = hello3.split_at(ENC_BYTES);
        let info = kem_info("device", &self.transcript.clone().finalize().into());
        let secret =
            hpke_export_from(&start.0, enc, info.as_bytes(), EXPORTER_CONTEXT).map_err(|_| ChannelError::Refused)?;
        let transcript: [u8; 32] = self.transcript.chain_update(enc).finalize().into();
        let (keys, join_key) = schedule(&self.vault, &transcript, &self.secret, &secret);

        let (join, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(ChannelError::Length)?;
        let mut join: [u8; JOIN_BYTES] = join.try_into().map_err(|_| ChannelError::Length)?;
        // EXPOSE: the cipher copies the key and wipes its copy when it is dropped.
        ChaCha20Poly1305::new(join_key.expose().into())
            .decrypt_inout_detached(&JOIN_NONCE.into(), &transcript, join.as_mut_slice().into(), tag.into())
            .map_err(|_| ChannelError::Refused)?;

        let mut reader = Reader(&join);
        let (Some(code), Some(id), Some(sent), Some(signature)) =
            (reader.u8(), reader.array::<16>(), reader.array::<32>(), reader.array::<SIGNATURE_BYTES>())
        else {
            return Err(ChannelError::Length);
        };
        let role = Role::from_code(code);
        // Whoever is not known is verified all the same, with a key that signed nothing; it is decoded in either case.
        let stand_in = nobody();
        let found = role.and_then(|role| known(role, id, sent));
        let public_key = found.unwrap_or(stand_in);
        let role_signed = role.unwrap_or(Role::Guest);
        let verified = public_key.verify_tuple(&join_statement(&transcript, role_signed, id), signature);
        match (role, found, verified) {
            (Some(role), Some(public_key), Ok(())) => Ok((keys, Peer { role, id: *id, public_key })),
            _ => Err(ChannelError::Refused),
        }
    }
}

/// What evidence must quote, so that it speaks for this vault process and answers this hello:
/// `SHA-256(tuple("strongroom/v1/evidence", V, nonce_d, pk_v, channel public key))`.
///
/// # Errors
/// When the first message is malformed.
pub fn evidence_binding(
    hello1: &[u8],
    identity: &ChannelIdentity,
    start: &PerStartKey,
) -> Result<[u8; 32], ChannelError> {
    let parsed = parse_hello1(hello1)?;
    Ok(binding(parsed.vault, parsed.nonce, &start.public(), &identity.key.public()))
}

/// The first message taken apart.
pub(crate) struct Hello1<'a> {
    vault: &'a Id,
    nonce: &'a [u8; NONCE_BYTES],
    kem_public: &'a [u8; PUBLIC_BYTES],
    suites: Vec<u16>,
}

pub(crate) fn parse_hello1(bytes: &[u8]) -> Result<Hello1<'_>, ChannelError> {
    let mut reader = Reader(bytes);
    if reader.u8().ok_or(ChannelError::Length)? != VERSION {
        return Err(ChannelError::Version);
    }
    let mut parse = || {
        let (vault, nonce, kem_public) = (reader.array()?, reader.array()?, reader.array()?);
        let count = reader.u16().filter(|count| (1..=SUITES_MAX).contains(count))?;
        let suites = (0..count).map(|_| reader.u16()).collect::<Option<Vec<_>>>()?;
        reader.is_empty().then_some(Hello1 { vault, nonce, kem_public, suites })
    };
    parse().ok_or(ChannelError::Length)
}

/// The second message taken apart.
pub(crate) struct Hello2<'a> {
    start_key: KemPublic,
    enc: &'a [u8; ENC_BYTES],
    channel_key: PublicKey,
    certificate: &'a Signature,
    epoch: u32,
    evidence: &'a [u8],
    signature: &'a Signature,
    /// Everything before the signature.
    signed: &'a [u8],
}

pub(crate) fn parse_hello2(bytes: &[u8]) -> Result<Hello2<'_>, ChannelError> {
    let mut reader = Reader(bytes);
    if reader.u8().ok_or(ChannelError::Length)? != VERSION {
        return Err(ChannelError::Version);
    }
    let mut split = || {
        reader.take(NONCE_BYTES)?;
        let (suite, start_key, enc) = (reader.u16()?, reader.array::<PUBLIC_BYTES>()?, reader.array()?);
        let (channel_key, certificate, epoch) = (reader.array::<32>()?, reader.array()?, reader.u32()?);
        let evidence = reader.lp(EVIDENCE_BYTES_MAX)?;
        let signed = &bytes[..bytes.len() - reader.0.len()];
        let signature = reader.array()?;
        reader.is_empty().then_some((
            suite,
            start_key,
            enc,
            channel_key,
            certificate,
            epoch,
            evidence,
            signed,
            signature,
        ))
    };
    let (suite, start_key, enc, channel_key, certificate, epoch, evidence, signed, signature) =
        split().ok_or(ChannelError::Length)?;
    if suite != SUITE {
        return Err(ChannelError::Suite);
    }
    let start_key = KemPublic::from_bytes(start_key).map_err(|_| ChannelError::Key)?;
    let channel_key = PublicKey::from_bytes(channel_key).map_err(|_| ChannelError::Key)?;
    Ok(Hello2 { start_key, enc, channel_key, certificate, epoch, evidence, signature, signed })
}

/// What the device holds the vault's answer against.
enum Expect<'a> {
    Pin(Pin<'a>),
    ChannelKey(&'a PublicKey),
}

impl Expect<'_> {
    fn check(&self, vault: &Id, hello2: &Hello2<'_>) -> Result<(), ChannelError> {
        match *self {
            Self::Pin(Pin::Identity { key, epoch_min }) => {
                let statement =
                    Statement::ChannelCertificate { vault, channel_key: &hello2.channel_key, epoch: hello2.epoch };
                key.verify(&statement, hello2.certificate).map_err(|_| ChannelError::Certificate)?;
                if hello2.epoch < epoch_min { Err(ChannelError::Epoch) } else { Ok(()) }
            }
            Self::Pin(Pin::Founding) => {
                let unfounded = *hello2.certificate == NO_CERTIFICATE && hello2.epoch == 0;
                if unfounded { Ok(()) } else { Err(ChannelError::Founded) }
            }
            // The certificate was verified when the channel was opened, and may have been renewed since.
            Self::ChannelKey(key) => {
                if hello2.channel_key == *key {
                    Ok(())
                } else {
                    Err(ChannelError::Certificate)
                }
            }
        }
    }
}

/// The keys of a channel from its two secrets.
fn schedule(vault: &Id, transcript: &[u8; 32], secret_v: &Key32, secret_d: &Key32) -> (Keys, Key32) {
    let mut ikm = SecretBytes::zeroed(64);
    // EXPOSE: joined in locked memory for HKDF, which takes one input.
    ikm.expose_mut()[..32].copy_from_slice(secret_v.expose());
    ikm.expose_mut()[32..].copy_from_slice(secret_d.expose());
    let mut out = Zeroizing::new([0; 112]);
    let info = Tuple::labelled("channel-keys").bytes(vault);
    hkdf_sha256(transcript, ikm.expose(), info.as_bytes(), &mut out[..]);
    let key = |at: usize| Key32::filled(|key| key.copy_from_slice(&out[at..at + 32]));
    let mut id = [0; 16];
    id.copy_from_slice(&out[96..]);
    let (keys, join_key) = (Keys { to_vault: key(0), to_device: key(32), id }, key(64));
    out.zeroize();
    (keys, join_key)
}

/// A well formed key for which nobody has the secret half: the first point whose encoding is a hash of our own label.
fn nobody() -> PublicKey {
    // SHA-256("strongroom/v1/nobody" || u8(counter)) for the first counter that gives a point.
    const NOBODY: [u8; 32] = [
        0x1b, 0x70, 0x9f, 0x94, 0x0e, 0xe1, 0x3e, 0x5f, 0xb5, 0x73, 0x10, 0x2d, 0xe6, 0x28, 0xa6, 0xff, 0x8a, 0x84,
        0xf5, 0x7e, 0x53, 0x57, 0x96, 0x11, 0x15, 0xa9, 0x64, 0xda, 0x31, 0x8a, 0x94, 0x54,
    ];
    PublicKey::from_bytes(&NOBODY).expect("a constant that a test recomputes")
}

fn kem_info(side: &str, transcript: &[u8; 32]) -> Tuple {
    Tuple::labelled("channel-kem").text(side).bytes(transcript)
}

fn hello_statement(hello1: &[u8], hello2_unsigned: &[u8]) -> Tuple {
    Tuple::labelled("channel-hello").bytes(hello1).bytes(hello2_unsigned)
}

fn join_statement(transcript: &[u8; 32], role: Role, id: &Id) -> Tuple {
    Tuple::labelled("channel-join").bytes(transcript).u8(role.code()).bytes(id)
}

fn binding(vault: &Id, nonce: &[u8; NONCE_BYTES], start_key: &KemPublic, channel_key: &PublicKey) -> [u8; 32] {
    let quoted =
        Tuple::labelled("evidence").bytes(vault).bytes(nonce).bytes(start_key.as_bytes()).bytes(channel_key.as_bytes());
    sha256(&[quoted.as_bytes()])
}

/// The nonce of a first message of our own making.
fn nonce_of(hello1: &[u8]) -> &[u8; NONCE_BYTES] {
    hello1[17..].first_chunk().expect("we made the message with its nonce")
}

const VERSION: u8 = 1;
const NONCE_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const JOIN_BYTES: usize = 1 + 16 + 32 + SIGNATURE_BYTES;
const JOIN_NONCE: [u8; 12] = [0; 12];
const HELLO1_BYTES_MIN: usize = 1 + 16 + NONCE_BYTES + PUBLIC_BYTES + 2 + 2;
const HELLO2_BYTES_MIN: usize =
    1 + NONCE_BYTES + 2 + PUBLIC_BYTES + ENC_BYTES + 32 + SIGNATURE_BYTES + 4 + 4 + SIGNATURE_BYTES;
const HELLO3_BYTES: usize = ENC_BYTES + JOIN_BYTES + TAG_BYTES;
const NO_CERTIFICATE: Signature = [0; SIGNATURE_BYTES];
const EXPORTER_CONTEXT: &[u8] = b"strongroom/v1/channel";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_the_key_of_nobody() {
        let expected = (0..=u8::MAX)
            .find_map(|counter| PublicKey::from_bytes(&sha256(&[b"strongroom/v1/nobody", &[counter]])).ok())
            .unwrap();
        assert_eq!(nobody(), expected);
    }
}

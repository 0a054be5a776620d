//! The sealed channel between a vault and a device or guest (section 8): three messages, then frames. No I/O: bytes in, bytes
//! out, both ends.
//!
//! ```text
//! device                                              vault
//! DeviceHandshake::start ────────── hello1 ─────────▶ VaultHandshake::answer
//! DeviceHandshake::read  ◀───────── hello2 ──────────
//! Offer::join            ────────── hello3 ─────────▶ VaultHandshake::accept
//! Channel                ◀── a frame of type READY ── Channel
//! ```
//!
//! Between `read` and `join` the device has verified the vault's key and can appraise the evidence; it has said nothing about
//! itself yet. Until the first frame of the vault has verified, a device's channel seals nothing.
//!
//! Any frame that is not exactly the next one ends a channel for good, and its keys are wiped. The exchange is repeated inside
//! the channel before 2^20 frames or 15 minutes have passed (`begin_rekey`, `answer_rekey`, `finish_rekey`, `accept_rekey`);
//! both ends keep the identity they had.

use crate::{
    Id,
    sign::{PublicKey, Signature, SigningKey},
};

mod frame;
mod handshake;

pub use self::{
    frame::Channel,
    handshake::{DeviceHandshake, Offer, VaultHandshake, evidence_binding},
};

pub(crate) use self::{
    frame::parse_frame,
    handshake::{parse_hello1, parse_hello2},
};

/// The first frame a vault sends under new keys.
pub const READY: u8 = 0;
/// The frame that carries the first message of a repeated exchange.
pub const REKEY_HELLO1: u8 = 5;
/// The frame that carries the second.
pub const REKEY_HELLO2: u8 = 6;
/// The frame that carries the third.
pub const REKEY_HELLO3: u8 = 7;

/// The longest payload of a frame.
pub const FRAME_PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// The longest frame.
pub const FRAME_BYTES_MAX: usize = FRAME_PAYLOAD_BYTES_MAX + 32 * 1024 + 64;
/// The longest evidence.
pub const EVIDENCE_BYTES_MAX: usize = 64 * 1024;
/// How many frames each direction carries under one set of keys.
pub const FRAMES_MAX: u64 = 1 << 20;
/// How many frames either direction has carried when the device begins to rekey: early enough for those under way.
pub const REKEY_AFTER_FRAMES: u64 = FRAMES_MAX - 1024;
/// How old keys are, in milliseconds, when the device begins to rekey.
pub const REKEY_AFTER_MS: u64 = 15 * 60 * 1000;
/// How old keys are, in milliseconds, when either end ends the channel.
pub const EXPIRES_AFTER_MS: u64 = 20 * 60 * 1000;

/// As what the other end speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The first device, towards a vault that was never created.
    Founder,
    /// A device of the member.
    Device,
    /// Any other principal.
    Guest,
}

impl Role {
    fn code(self) -> u8 {
        match self {
            Self::Founder => 0,
            Self::Device => 1,
            Self::Guest => 2,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::Founder, Self::Device, Self::Guest].into_iter().find(|role| role.code() == code)
    }
}

/// With what a vault proves itself.
pub struct ChannelIdentity {
    /// The channel's key.
    pub key: SigningKey,
    /// The vault identity's certificate for it; `None` for a vault that was never created.
    pub certificate: Option<ChannelCertificate>,
}

/// A signature of [`Statement::ChannelCertificate`](crate::sign::Statement::ChannelCertificate).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelCertificate {
    /// The signature.
    pub signature: Signature,
    /// Counts up with each new channel key.
    pub epoch: u32,
}

/// What a device knows of the vault before it speaks to it.
#[derive(Clone, Copy, Debug)]
pub enum Pin<'a> {
    /// The vault's identity, and the highest epoch of a channel certificate seen so far.
    Identity {
        /// The identity.
        key: &'a PublicKey,
        /// No certificate below this epoch is taken.
        epoch_min: u32,
    },
    /// Nothing: the vault is about to be created. A vault that says it exists is refused.
    Founding,
}

/// Who opens a channel.
#[derive(Clone, Copy)]
pub struct Joiner<'a> {
    /// As what.
    pub role: Role,
    /// The id in the roster; for a founder, the id it will have.
    pub id: &'a Id,
    /// Its key.
    pub key: &'a SigningKey,
}

/// The other end of a vault's channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// As what it speaks.
    pub role: Role,
    /// Its id.
    pub id: Id,
    /// The key it signed with: the roster's, or a founder's own.
    pub public_key: PublicKey,
}

/// Why a channel was not opened, or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// A message has a length it cannot have.
    #[error("the message has a length it cannot have")]
    Length,
    /// Another version of the exchange.
    #[error("the exchange is of an unknown version")]
    Version,
    /// The message is for another vault.
    #[error("the message is for another vault")]
    Vault,
    /// The two ends share no suite, or the vault chose one that was not offered.
    #[error("the two ends share no suite")]
    Suite,
    /// A KEM key is malformed.
    #[error("a key in the message is malformed")]
    Key,
    /// The vault identity did not certify this channel key.
    #[error("the vault's certificate does not verify")]
    Certificate,
    /// The certificate is older than one seen before.
    #[error("the vault's certificate is older than one seen before")]
    Epoch,
    /// A vault to be founded exists already.
    #[error("the vault exists already")]
    Founded,
    /// The channel key did not sign the exchange.
    #[error("the vault's signature does not verify")]
    Signature,
    /// The vault turned the other end away: unknown, not allowed, or not who it says. It looks the same from outside.
    #[error("the other end was not accepted")]
    Refused,
    /// A frame is not the next one.
    #[error("a frame is missing, repeated or out of order")]
    Counter,
    /// A frame does not verify.
    #[error("a frame does not verify")]
    Tag,
    /// A frame verified and is malformed inside.
    #[error("a frame is malformed inside")]
    Padding,
    /// A frame of a type that has no place here.
    #[error("a frame of type {0} has no place here")]
    FrameType(u8),
    /// Nothing may be sent before the vault's first frame has verified.
    #[error("the channel is not ready to send")]
    NotReady,
    /// A payload is longer than a frame takes.
    #[error("the payload is longer than a frame takes")]
    Payload,
    /// The keys have carried as many frames as they may.
    #[error("the channel's keys are used up")]
    UsedUp,
    /// The channel ended earlier.
    #[error("the channel has ended")]
    Ended,
}

const SUITE: u16 = 1;
const SUITES_MAX: u16 = 16;

const _: () = assert!(REKEY_AFTER_FRAMES < FRAMES_MAX && REKEY_AFTER_MS < EXPIRES_AFTER_MS);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kem::PerStartKey, sign::Statement, test_rng::TestRng};

    const VAULT: Id = [1; 16];
    const DEVICE: Id = [2; 16];

    struct Setting {
        rng: TestRng,
        identity: SigningKey,
        channel: ChannelIdentity,
        start: PerStartKey,
        device: SigningKey,
    }

    impl Setting {
        fn new(name: &str) -> Self {
            let mut rng = TestRng::new(name);
            let (identity, key) = (SigningKey::generate(&mut rng), SigningKey::generate(&mut rng));
            let signature =
                identity.sign(&Statement::ChannelCertificate { vault: &VAULT, channel_key: &key.public(), epoch: 3 });
            let channel = ChannelIdentity { key, certificate: Some(ChannelCertificate { signature, epoch: 3 }) };
            let (start, device) = (PerStartKey::generate(&mut rng), SigningKey::generate(&mut rng));
            Self { rng, identity, channel, start, device }
        }

        fn joiner(&self) -> Joiner<'_> {
            Joiner { role: Role::Device, id: &DEVICE, key: &self.device }
        }

        /// The exchange up to the third message.
        fn hellos(&mut self) -> (Channel, VaultHandshake, Vec<u8>) {
            let (device, hello1) = DeviceHandshake::start(&VAULT, &mut self.rng);
            let (vault, hello2) =
                VaultHandshake::answer(&hello1, &VAULT, &self.channel, &self.start, b"evidence", &mut self.rng)
                    .unwrap();
            let identity = self.identity.public();
            let pin = Pin::Identity { key: &identity, epoch_min: 3 };
            let offer = device.read(&hello2, &pin).unwrap();
            assert_eq!(offer.evidence(), b"evidence");
            assert_eq!(*offer.evidence_binding(), evidence_binding(&hello1, &self.channel, &self.start).unwrap());
            assert_eq!((offer.epoch(), *offer.channel_key()), (3, self.channel.key.public()));
            let me = Joiner { role: Role::Device, id: &DEVICE, key: &self.device };
            let (channel, hello3) = offer.join(&me, 0, &mut self.rng);
            (channel, vault, hello3)
        }

        /// Both ends, with the vault's first frame opened.
        fn open(&mut self) -> (Channel, Channel) {
            let (mut device, vault, hello3) = self.hellos();
            let public_key = self.device.public();
            let (mut vault, peer) = vault
                .accept(&hello3, &self.start, 0, |role, id| {
                    (role == Role::Device && *id == DEVICE).then_some(public_key)
                })
                .unwrap();
            assert_eq!(peer, Peer { role: Role::Device, id: DEVICE, public_key });
            pass(&mut vault, &mut device, READY, b"hello");
            (device, vault)
        }
    }

    fn pass(from: &mut Channel, to: &mut Channel, kind: u8, payload: &[u8]) {
        let frame = from.seal_frame(kind, payload).unwrap();
        let (opened_kind, opened) = to.open_frame(&frame).unwrap();
        assert_eq!((opened_kind, &opened[..]), (kind, payload));
    }

    #[test]
    fn both_ends_talk() {
        let (mut device, mut vault) = Setting::new("talk").open();
        assert_eq!(device.id(), vault.id());
        for turn in 0..20_u8 {
            pass(&mut device, &mut vault, 1, &vec![turn; usize::from(turn) * 100]);
            pass(&mut vault, &mut device, 2, &[turn]);
        }
        assert_eq!((vault.received(), device.received()), (20, 21));
        pass(&mut device, &mut vault, 255, &vec![7; FRAME_PAYLOAD_BYTES_MAX]);
        assert_eq!(device.seal_frame(1, &vec![7; FRAME_PAYLOAD_BYTES_MAX + 1]), Err(ChannelError::Payload));
        pass(&mut device, &mut vault, 1, b"");
    }

    #[test]
    fn a_short_frame_hides_its_length() {
        let (mut device, _) = Setting::new("sizes").open();
        let sizes: Vec<usize> = [0, 1, 251, 252].map(|len| device.seal_frame(1, &vec![0; len]).unwrap().len()).into();
        assert_eq!(sizes, [281; 4]);
    }

    #[test]
    fn nothing_is_sent_before_the_vault_was_heard() {
        let mut setting = Setting::new("ready");
        let (mut device, vault, hello3) = setting.hellos();
        assert_eq!(device.seal_frame(1, b"secret"), Err(ChannelError::NotReady));
        let public_key = setting.device.public();
        let (mut vault, _) = vault.accept(&hello3, &setting.start, 0, |_, _| Some(public_key)).unwrap();
        assert_eq!(vault.seal_frame(1, b""), Err(ChannelError::FrameType(1)));
        pass(&mut vault, &mut device, READY, b"");
        assert_eq!(vault.seal_frame(READY, b""), Err(ChannelError::FrameType(READY)));
        assert_eq!(device.seal_frame(READY, b""), Err(ChannelError::FrameType(READY)));
        assert_eq!(device.seal_frame(REKEY_HELLO1, b""), Err(ChannelError::FrameType(REKEY_HELLO1)));
        pass(&mut device, &mut vault, 1, b"secret");
    }

    #[test]
    fn a_device_that_speaks_before_the_vault_is_cut_off() {
        let mut setting = Setting::new("early");
        let (mut device, vault, hello3) = setting.hellos();
        let public_key = setting.device.public();
        let (mut vault, _) = vault.accept(&hello3, &setting.start, 0, |_, _| Some(public_key)).unwrap();
        device.pretend_ready();
        let frame = device.seal_frame(1, b"early").unwrap();
        assert_eq!(vault.open_frame(&frame).err(), Some(ChannelError::FrameType(1)));
        assert!(vault.is_ended());
    }

    #[test]
    fn keys_that_are_used_up_seal_and_open_nothing() {
        let (mut device, mut vault) = Setting::new("used up").open();
        device.pretend_carried(REKEY_AFTER_FRAMES - 1);
        assert!(!device.needs_rekey(0));
        device.pretend_carried(REKEY_AFTER_FRAMES);
        assert!(device.needs_rekey(0));
        for end in [&mut device, &mut vault] {
            end.pretend_carried(FRAMES_MAX - 1);
        }
        pass(&mut device, &mut vault, 1, b"the last one");
        assert_eq!(device.seal_frame(1, b""), Err(ChannelError::UsedUp));
        assert!(device.is_ended() && !vault.is_ended());
        let beyond = [&FRAMES_MAX.to_be_bytes()[..], &[0; 273]].concat();
        assert_eq!(vault.open_frame(&beyond).err(), Some(ChannelError::UsedUp));
    }

    #[test]
    fn a_frame_that_is_not_the_next_one_ends_the_channel() {
        for case in 0..6 {
            let (mut device, mut vault) = Setting::new("order").open();
            let frames: Vec<_> = (0..3).map(|_| device.seal_frame(1, b"x").unwrap()).collect();
            let error = match case {
                0 => vault.open_frame(&frames[1]),
                1 => vault.open_frame(&frames[0]).and_then(|_| vault.open_frame(&frames[0])),
                2 => vault.open_frame(&frames[0]).and_then(|_| vault.open_frame(&frames[2])),
                // its own direction, turned round
                3 => device.open_frame(&frames[0]),
                4 => vault.open_frame(&frames[0][..280]),
                _ => vault.open_frame(&vec![0; FRAME_BYTES_MAX + 1]),
            };
            let expected = if case < 4 { ChannelError::Counter } else { ChannelError::Length };
            assert_eq!(error.err(), Some(expected), "case {case}");
            let ended = if case == 3 { &mut device } else { &mut vault };
            assert!(ended.is_ended() && ended.expired(0) && !ended.needs_rekey(u64::MAX));
            assert_eq!(ended.seal_frame(1, b""), Err(ChannelError::Ended));
            assert_eq!(ended.open_frame(&frames[0]).err(), Some(ChannelError::Ended));
            assert_eq!(ended.id(), None);
        }
    }

    #[test]
    fn the_unknown_and_the_forged_are_turned_away_alike() {
        let mut setting = Setting::new("refused");
        let stranger = SigningKey::generate(&mut setting.rng);
        let device_key = setting.device.public();
        let known = |role: Role, id: &Id| (role == Role::Device && *id == DEVICE).then_some(device_key);
        for (role, id, key) in [
            (Role::Device, &DEVICE, &stranger),
            (Role::Device, &[9; 16], &setting.device),
            (Role::Guest, &DEVICE, &setting.device),
            (Role::Founder, &DEVICE, &setting.device),
        ] {
            let rng = &mut setting.rng;
            let (device, hello1) = DeviceHandshake::start(&VAULT, rng);
            let (vault, hello2) =
                VaultHandshake::answer(&hello1, &VAULT, &setting.channel, &setting.start, b"", rng).unwrap();
            let identity = setting.identity.public();
            let pin = Pin::Identity { key: &identity, epoch_min: 0 };
            let (_, hello3) = device.finish(&hello2, &pin, &Joiner { role, id, key }, 0, rng).unwrap();
            assert_eq!(vault.accept(&hello3, &setting.start, 0, known).err(), Some(ChannelError::Refused), "{role:?}");
        }
    }

    #[test]
    fn a_hello3_is_good_for_its_exchange_alone() {
        let mut setting = Setting::new("hello3");
        let device_key = setting.device.public();
        let (_, _, hello3) = setting.hellos();
        let (_, other, _) = setting.hellos();
        assert_eq!(
            other.accept(&hello3, &setting.start, 0, |_, _| Some(device_key)).err(),
            Some(ChannelError::Refused)
        );
        for len in (0..hello3.len()).step_by(41).chain([hello3.len() - 1]) {
            let (_, vault, hello3) = setting.hellos();
            assert_eq!(
                vault.accept(&hello3[..len], &setting.start, 0, |_, _| Some(device_key)).err(),
                Some(ChannelError::Length)
            );
        }
        for byte in (0..hello3.len()).step_by(53) {
            let (_, vault, mut hello3) = setting.hellos();
            hello3[byte] ^= 4;
            let refused = vault.accept(&hello3, &setting.start, 0, |_, _| Some(device_key)).err();
            assert_eq!(refused, Some(ChannelError::Refused), "byte {byte}");
        }
        let (_, vault, hello3) = setting.hellos();
        let other_start = PerStartKey::generate(&mut setting.rng);
        assert!(vault.accept(&hello3, &other_start, 0, |_, _| Some(device_key)).is_err());
    }

    #[test]
    fn a_device_refuses_a_vault_that_is_not_the_one_it_pinned() {
        let mut setting = Setting::new("pin");
        let stranger = SigningKey::generate(&mut setting.rng).public();
        let identity = setting.identity.public();
        let read = |setting: &mut Setting, pin: &Pin<'_>, change: &dyn Fn(&mut Vec<u8>)| {
            let (device, hello1) = DeviceHandshake::start(&VAULT, &mut setting.rng);
            let (_, mut hello2) =
                VaultHandshake::answer(&hello1, &VAULT, &setting.channel, &setting.start, b"e", &mut setting.rng)
                    .unwrap();
            change(&mut hello2);
            device.read(&hello2, pin).err()
        };
        let ours = Pin::Identity { key: &identity, epoch_min: 3 };
        assert_eq!(read(&mut setting, &ours, &|_| ()), None);
        let other = Pin::Identity { key: &stranger, epoch_min: 0 };
        assert_eq!(read(&mut setting, &other, &|_| ()), Some(ChannelError::Certificate));
        let later = Pin::Identity { key: &identity, epoch_min: 4 };
        assert_eq!(read(&mut setting, &later, &|_| ()), Some(ChannelError::Epoch));
        assert_eq!(read(&mut setting, &Pin::Founding, &|_| ()), Some(ChannelError::Founded));
        let length = Some(ChannelError::Length);
        assert_eq!(read(&mut setting, &ours, &|hello| hello.push(0)), length);
        assert_eq!(read(&mut setting, &ours, &|hello| hello.truncate(2000)), length);
        assert_eq!(read(&mut setting, &ours, &|hello| hello[2471..2475].fill(0xFF)), length);
        assert_eq!(read(&mut setting, &ours, &|hello| hello[0] = 2), Some(ChannelError::Version));
        assert_eq!(read(&mut setting, &ours, &|hello| hello[34] = 2), Some(ChannelError::Suite));
        assert_eq!(read(&mut setting, &ours, &|hello| hello[35..40].fill(0xFF)), Some(ChannelError::Key));
        // The nonce, the per-start key, the encapsulation, the certificate, the evidence, the signature.
        for (at, expected) in [
            (1, ChannelError::Signature),
            (40, ChannelError::Signature),
            (1300, ChannelError::Signature),
            (2410, ChannelError::Certificate),
            (2475, ChannelError::Signature),
            (2476, ChannelError::Signature),
        ] {
            let found = read(&mut setting, &ours, &|hello| hello[at] ^= 1);
            assert_eq!(found, Some(expected), "byte {at}");
        }
    }

    #[test]
    fn a_vault_refuses_a_malformed_hello() {
        let mut setting = Setting::new("hello1");
        let (_, hello1) = DeviceHandshake::start(&VAULT, &mut setting.rng);
        let mut answer = |hello1: &[u8]| {
            VaultHandshake::answer(hello1, &VAULT, &setting.channel, &setting.start, b"", &mut setting.rng).err()
        };
        assert_eq!(answer(&hello1), None);
        for len in 1..hello1.len() {
            assert_eq!(answer(&hello1[..len]), Some(ChannelError::Length), "cut to {len}");
        }
        assert_eq!(answer(&[]), Some(ChannelError::Length));
        assert_eq!(answer(&[&hello1[..], &[0]].concat()), Some(ChannelError::Length));
        let mut change = |at: usize, to: u8| {
            let mut hello1 = hello1.clone();
            hello1[at] = to;
            answer(&hello1)
        };
        assert_eq!(change(0, 2), Some(ChannelError::Version));
        assert_eq!(change(1, 9), Some(ChannelError::Vault));
        assert_eq!(change(1266, 0), Some(ChannelError::Length));
        assert_eq!(change(1265, 0xFF), Some(ChannelError::Length));
        assert_eq!(change(1268, 7), Some(ChannelError::Suite));
    }

    #[test]
    fn a_founder_is_taken_by_a_vault_without_an_identity_alone() {
        let mut setting = Setting::new("founder");
        setting.channel.certificate = None;
        let rng = &mut setting.rng;
        let (device, hello1) = DeviceHandshake::start(&VAULT, rng);
        let (vault, hello2) =
            VaultHandshake::answer(&hello1, &VAULT, &setting.channel, &setting.start, b"", rng).unwrap();
        let me = Joiner { role: Role::Founder, id: &DEVICE, key: &setting.device };
        let (mut device, hello3) = device.finish(&hello2, &Pin::Founding, &me, 0, rng).unwrap();
        let (mut vault, peer) =
            vault.accept(&hello3, &setting.start, 0, |_, _| panic!("a founder is not looked up")).unwrap();
        assert_eq!((peer.role, peer.public_key), (Role::Founder, setting.device.public()));
        pass(&mut vault, &mut device, READY, b"");
        // A device that knows the vault's identity takes no vault without one.
        let (device, hello1) = DeviceHandshake::start(&VAULT, rng);
        let (_, hello2) = VaultHandshake::answer(&hello1, &VAULT, &setting.channel, &setting.start, b"", rng).unwrap();
        let identity = setting.identity.public();
        let pin = Pin::Identity { key: &identity, epoch_min: 0 };
        assert_eq!(device.read(&hello2, &pin).err(), Some(ChannelError::Certificate));
    }

    fn rekey(setting: &mut Setting, device: &mut Channel, vault: &mut Channel, now_ms: u64) {
        let Setting { rng, channel, start, device: key, .. } = setting;
        let me = Joiner { role: Role::Device, id: &DEVICE, key };
        let frame = device.begin_rekey(rng).unwrap();
        assert!(!device.needs_rekey(u64::MAX));
        let (kind, hello1) = vault.open_frame(&frame).unwrap();
        assert_eq!(kind, REKEY_HELLO1);
        // Both may go on under the old keys.
        pass(device, vault, 1, b"under way");
        let frame = vault.answer_rekey(&hello1, channel, start, b"", rng).unwrap();
        let (kind, hello2) = device.open_frame(&frame).unwrap();
        assert_eq!(kind, REKEY_HELLO2);
        let old = device.id();
        let frame = device.finish_rekey(&hello2, &me, now_ms, rng).unwrap();
        assert_eq!(device.seal_frame(1, b""), Err(ChannelError::NotReady));
        pass(vault, device, 2, b"under the old keys still");
        let (kind, hello3) = vault.open_frame(&frame).unwrap();
        assert_eq!(kind, REKEY_HELLO3);
        vault.accept_rekey(&hello3, start, now_ms).unwrap();
        assert_eq!(vault.seal_frame(2, b""), Err(ChannelError::FrameType(2)));
        pass(vault, device, READY, b"");
        assert_eq!(device.id(), vault.id());
        assert_ne!(device.id(), old);
        assert_eq!((vault.received(), device.received()), (0, 1));
        pass(device, vault, 1, b"new keys");
    }

    #[test]
    fn keys_are_renewed_inside_the_channel() {
        let mut setting = Setting::new("rekey");
        let (mut device, mut vault) = setting.open();
        assert!(!device.needs_rekey(REKEY_AFTER_MS - 1) && device.needs_rekey(REKEY_AFTER_MS));
        assert!(
            !vault.needs_rekey(REKEY_AFTER_MS) && !vault.expired(REKEY_AFTER_MS) && vault.expired(EXPIRES_AFTER_MS)
        );
        rekey(&mut setting, &mut device, &mut vault, 1_000_000);
        assert!(!device.needs_rekey(1_000_001) && !vault.expired(EXPIRES_AFTER_MS));
        rekey(&mut setting, &mut device, &mut vault, 2_000_000);
    }

    #[test]
    fn renewing_keys_cannot_change_who_speaks() {
        // The device comes back as another.
        let mut setting = Setting::new("swap device");
        let (mut device, mut vault) = setting.open();
        let other = SigningKey::generate(&mut setting.rng);
        let rng = &mut setting.rng;
        let (_, hello1) = vault.open_frame(&device.begin_rekey(rng).unwrap()).unwrap();
        let frame = vault.answer_rekey(&hello1, &setting.channel, &setting.start, b"", rng).unwrap();
        let (_, hello2) = device.open_frame(&frame).unwrap();
        let me = Joiner { role: Role::Device, id: &DEVICE, key: &other };
        let (_, hello3) = vault.open_frame(&device.finish_rekey(&hello2, &me, 0, rng).unwrap()).unwrap();
        assert_eq!(vault.accept_rekey(&hello3, &setting.start, 0), Err(ChannelError::Refused));
        assert!(vault.is_ended());

        // The vault comes back with another key, though the identity certified it.
        let mut setting = Setting::new("swap vault");
        let (mut device, mut vault) = setting.open();
        let rng = &mut setting.rng;
        let (_, hello1) = vault.open_frame(&device.begin_rekey(rng).unwrap()).unwrap();
        let key = SigningKey::generate(rng);
        let certificate = Some(ChannelCertificate {
            signature: setting.identity.sign(&Statement::ChannelCertificate {
                vault: &VAULT,
                channel_key: &key.public(),
                epoch: 4,
            }),
            epoch: 4,
        });
        let frame =
            vault.answer_rekey(&hello1, &ChannelIdentity { key, certificate }, &setting.start, b"", rng).unwrap();
        let (_, hello2) = device.open_frame(&frame).unwrap();
        let me = setting.joiner();
        let mut rng = TestRng::new("rest");
        assert_eq!(device.finish_rekey(&hello2, &me, 0, &mut rng), Err(ChannelError::Certificate));
        assert!(device.is_ended());
    }

    #[test]
    fn frames_of_the_exchange_have_their_turn() {
        let mut setting = Setting::new("turns");
        let (mut device, mut vault) = setting.open();
        assert_eq!(vault.begin_rekey(&mut setting.rng), Err(ChannelError::NotReady));
        let first = device.begin_rekey(&mut setting.rng).unwrap();
        assert_eq!(device.begin_rekey(&mut setting.rng), Err(ChannelError::NotReady));
        vault.open_frame(&first).unwrap();
        assert_eq!(vault.accept_rekey(&[], &setting.start, 0), Err(ChannelError::FrameType(REKEY_HELLO3)));
        assert!(vault.is_ended());
        let me = Joiner { role: Role::Device, id: &[9; 16], key: &setting.device };
        assert_eq!(device.finish_rekey(&[], &me, 0, &mut setting.rng), Err(ChannelError::Refused));
        assert!(device.is_ended());
    }
}

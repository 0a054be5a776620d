//! An open channel: frames, and renewing its keys.

use chacha20poly1305::{AeadInOut as _, ChaCha20Poly1305, KeyInit as _};
use zeroize::Zeroizing;

use super::{
    ChannelError, ChannelIdentity, DeviceHandshake, EXPIRES_AFTER_MS, FRAME_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX,
    FRAMES_MAX, Joiner, Peer, READY, REKEY_AFTER_FRAMES, REKEY_AFTER_MS, REKEY_HELLO1, REKEY_HELLO2, REKEY_HELLO3,
    Role, VaultHandshake,
};
use crate::{
    CryptoRng, Id,
    kem::PerStartKey,
    secret::Key32,
    sign::PublicKey,
    tuple::{Reader, Tuple, padded_len, unpad},
};

/// One end of an open channel.
pub struct Channel {
    vault: Id,
    /// `None` once the channel has ended: the keys are gone.
    end: Option<End>,
    began_ms: u64,
}

impl Channel {
    pub(super) fn new(vault: Id, end: End, now_ms: u64) -> Self {
        Self { vault, end: Some(end), began_ms: now_ms }
    }

    /// The next frame. A vault's first frame under new keys is of type [`READY`]; the types of a repeated exchange are sealed by
    /// its own functions.
    ///
    /// # Errors
    /// [`ChannelError::NotReady`], [`ChannelError::FrameType`] and [`ChannelError::Payload`] leave the channel as it was:
    /// nothing was sealed. [`ChannelError::UsedUp`] ends it.
    pub fn seal_frame(&mut self, kind: u8, payload: &[u8]) -> Result<Vec<u8>, ChannelError> {
        if matches!(kind, REKEY_HELLO1..=REKEY_HELLO3) {
            return Err(ChannelError::FrameType(kind));
        }
        self.seal(kind, payload)
    }

    /// Opens the next frame: its type and payload. The payload of a type of the repeated exchange goes to `answer_rekey`,
    /// `finish_rekey` or `accept_rekey`.
    ///
    /// # Errors
    /// Every error ends the channel.
    pub fn open_frame(&mut self, frame: &[u8]) -> Result<(u8, Zeroizing<Vec<u8>>), ChannelError> {
        let end = self.end.as_mut().ok_or(ChannelError::Ended)?;
        let opened = end.open(frame);
        if opened.is_err() {
            self.end = None;
        }
        opened
    }

    /// Whether the device must begin a repeated exchange now. `now_ms` is read from the same clock as when the channel was made.
    pub fn needs_rekey(&self, now_ms: u64) -> bool {
        let Some(end) = &self.end else { return false };
        let idle = matches!(end.side, Side::Device { .. }) && matches!(end.rekey, Rekey::Idle) && end.ready;
        let used = end.sent.max(end.received) >= REKEY_AFTER_FRAMES;
        idle && (used || now_ms.saturating_sub(self.began_ms) >= REKEY_AFTER_MS)
    }

    /// Whether the keys are older than either end puts up with; the channel is to be dropped.
    pub fn expired(&self, now_ms: u64) -> bool {
        self.end.is_none() || now_ms.saturating_sub(self.began_ms) >= EXPIRES_AFTER_MS
    }

    /// Whether an error has ended the channel.
    pub fn is_ended(&self) -> bool {
        self.end.is_none()
    }

    /// The id of the channel under its present keys, known to both ends and to nobody else; `None` once it has ended.
    pub fn id(&self) -> Option<[u8; 16]> {
        self.end.as_ref().map(|end| end.keys.id)
    }

    /// How many frames were opened under the present keys: one more than the counter of the last.
    pub fn received(&self) -> u64 {
        self.end.as_ref().map_or(0, |end| end.received)
    }

    /// Device: begins a repeated exchange; gives the frame to send.
    ///
    /// # Errors
    /// [`ChannelError::NotReady`] on a vault's end, or while another exchange is under way.
    pub fn begin_rekey(&mut self, rng: &mut dyn CryptoRng) -> Result<Vec<u8>, ChannelError> {
        let vault = self.vault;
        let end = self.end.as_ref().ok_or(ChannelError::Ended)?;
        if !matches!((&end.side, &end.rekey), (Side::Device { .. }, Rekey::Idle)) {
            return Err(ChannelError::NotReady);
        }
        let (handshake, hello1) = DeviceHandshake::start(&vault, rng);
        let frame = self.seal(REKEY_HELLO1, &hello1)?;
        self.set_rekey(Rekey::Started(handshake));
        Ok(frame)
    }

    /// Vault: answers the payload of a frame of type [`REKEY_HELLO1`]; gives the frame to send.
    ///
    /// # Errors
    /// Every error ends the channel.
    pub fn answer_rekey(
        &mut self,
        hello1: &[u8],
        identity: &ChannelIdentity,
        start: &PerStartKey,
        evidence: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Result<Vec<u8>, ChannelError> {
        let vault = self.vault;
        self.or_end(|channel| {
            let Rekey::Idle = channel.take_rekey()? else { return Err(ChannelError::FrameType(REKEY_HELLO1)) };
            let (handshake, hello2) = VaultHandshake::answer(hello1, &vault, identity, start, evidence, rng)?;
            let frame = channel.seal(REKEY_HELLO2, &hello2)?;
            channel.set_rekey(Rekey::Answered(handshake));
            Ok(frame)
        })
    }

    /// Device: finishes with the payload of a frame of type [`REKEY_HELLO2`]; gives the last frame to send under the old keys.
    /// Nothing can be sealed after it until the vault's first frame under the new keys has verified.
    ///
    /// # Errors
    /// Every error ends the channel: also when the vault's channel key is not the one it was opened with, or `me` is another.
    pub fn finish_rekey(
        &mut self,
        hello2: &[u8],
        me: &Joiner<'_>,
        now_ms: u64,
        rng: &mut dyn CryptoRng,
    ) -> Result<Vec<u8>, ChannelError> {
        self.or_end(|channel| {
            let Rekey::Started(handshake) = channel.take_rekey()? else {
                return Err(ChannelError::FrameType(REKEY_HELLO2));
            };
            let end = channel.end.as_ref().ok_or(ChannelError::Ended)?;
            let Side::Device { channel_key, id, role } = end.side else { return Err(ChannelError::Refused) };
            if id != *me.id || role != me.role {
                return Err(ChannelError::Refused);
            }
            let offer = handshake.read_again(hello2, &channel_key)?;
            let (next, hello3) = offer.join(me, now_ms, rng);
            let frame = channel.seal(REKEY_HELLO3, &hello3)?;
            channel.set_rekey(Rekey::Switching { next: Box::new(next.end.ok_or(ChannelError::Ended)?) });
            channel.began_ms = now_ms;
            Ok(frame)
        })
    }

    /// Vault: finishes with the payload of a frame of type [`REKEY_HELLO3`]. The next frame to seal is of type [`READY`].
    ///
    /// # Errors
    /// Every error ends the channel: also when the other end is not the one it was opened with.
    pub fn accept_rekey(&mut self, hello3: &[u8], start: &PerStartKey, now_ms: u64) -> Result<(), ChannelError> {
        self.or_end(|channel| {
            let Rekey::Answered(handshake) = channel.take_rekey()? else {
                return Err(ChannelError::FrameType(REKEY_HELLO3));
            };
            let end = channel.end.as_mut().ok_or(ChannelError::Ended)?;
            let Side::Vault { peer } = &end.side else { return Err(ChannelError::Refused) };
            let keys = handshake.accept_again(hello3, start, peer)?;
            *end = End::new(Side::Vault { peer: *peer }, keys);
            channel.began_ms = now_ms;
            Ok(())
        })
    }

    /// For tests: a device that does not wait.
    #[cfg(test)]
    pub(super) fn pretend_ready(&mut self) {
        self.end.as_mut().expect("an open channel").ready = true;
    }

    /// For tests: both directions have carried so many frames.
    #[cfg(test)]
    pub(super) fn pretend_carried(&mut self, frames: u64) {
        let end = self.end.as_mut().expect("an open channel");
        (end.sent, end.received) = (frames, frames);
    }

    fn seal(&mut self, kind: u8, payload: &[u8]) -> Result<Vec<u8>, ChannelError> {
        let sealed = self.end.as_mut().ok_or(ChannelError::Ended)?.seal(kind, payload);
        if sealed == Err(ChannelError::UsedUp) {
            self.end = None;
        }
        sealed
    }

    fn take_rekey(&mut self) -> Result<Rekey, ChannelError> {
        let end = self.end.as_mut().ok_or(ChannelError::Ended)?;
        Ok(std::mem::replace(&mut end.rekey, Rekey::Idle))
    }

    fn set_rekey(&mut self, rekey: Rekey) {
        if let Some(end) = &mut self.end {
            end.rekey = rekey;
        }
    }

    fn or_end<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T, ChannelError>) -> Result<T, ChannelError> {
        let done = step(self);
        if done.is_err() {
            self.end = None;
        }
        done
    }
}

/// The keys of both directions, and the id that goes into every frame.
pub(super) struct Keys {
    pub(super) to_vault: Key32,
    pub(super) to_device: Key32,
    pub(super) id: [u8; 16],
}

/// Which end this is, and who the other one is.
pub(super) enum Side {
    Vault { peer: Peer },
    Device { channel_key: PublicKey, id: Id, role: Role },
}

/// One end under one set of keys.
pub(super) struct End {
    side: Side,
    keys: Keys,
    sent: u64,
    received: u64,
    /// Vault: the first frame was sealed. Device: it was opened.
    ready: bool,
    rekey: Rekey,
}

/// How far a repeated exchange has come.
enum Rekey {
    Idle,
    /// Device: the first message is on its way.
    Started(DeviceHandshake),
    /// Device: the third message is on its way; the vault's next frame may be under the old keys or the new.
    Switching {
        next: Box<End>,
    },
    /// Vault: the second message is on its way.
    Answered(VaultHandshake),
}

impl End {
    pub(super) fn new(side: Side, keys: Keys) -> Self {
        Self { side, keys, sent: 0, received: 0, ready: false, rekey: Rekey::Idle }
    }

    fn seal(&mut self, kind: u8, payload: &[u8]) -> Result<Vec<u8>, ChannelError> {
        let allowed = match self.side {
            Side::Vault { .. } => (kind == READY) != self.ready,
            Side::Device { .. } => kind != READY,
        };
        let switching = matches!(self.rekey, Rekey::Switching { .. });
        if switching || (matches!(self.side, Side::Device { .. }) && !self.ready) {
            return Err(ChannelError::NotReady);
        }
        if !allowed {
            return Err(ChannelError::FrameType(kind));
        }
        if payload.len() > FRAME_PAYLOAD_BYTES_MAX {
            return Err(ChannelError::Payload);
        }
        if self.sent >= FRAMES_MAX {
            return Err(ChannelError::UsedUp);
        }
        let direction = self.direction_out();
        let frame = seal_frame(self.keys.key(direction), &self.keys.id, direction, self.sent, kind, payload)?;
        self.sent += 1;
        self.ready = true;
        Ok(frame)
    }

    fn open(&mut self, frame: &[u8]) -> Result<(u8, Zeroizing<Vec<u8>>), ChannelError> {
        let (counter, sealed) = parse_frame(frame)?;
        // Under the old keys the vault's frame 0 is long past, so a frame 0 can only be the first under the new ones.
        if counter == 0
            && let Rekey::Switching { next } = std::mem::replace(&mut self.rekey, Rekey::Idle)
        {
            *self = *next;
        }
        if counter != self.received {
            return Err(ChannelError::Counter);
        }
        if counter >= FRAMES_MAX {
            return Err(ChannelError::UsedUp);
        }
        let direction = 1 - self.direction_out();
        let (kind, payload) = open_frame(self.keys.key(direction), &self.keys.id, direction, counter, sealed)?;
        if !self.expects(kind) {
            return Err(ChannelError::FrameType(kind));
        }
        self.received += 1;
        if matches!(self.side, Side::Device { .. }) {
            self.ready = true;
        }
        Ok((kind, payload))
    }

    /// Whether a frame of this type may come now. Before the vault's first frame, nobody but the vault may speak.
    fn expects(&self, kind: u8) -> bool {
        match (&self.side, kind) {
            (Side::Vault { .. }, _) if !self.ready => false,
            (Side::Vault { .. }, READY | REKEY_HELLO2) | (Side::Device { .. }, REKEY_HELLO1 | REKEY_HELLO3) => false,
            (Side::Vault { .. }, REKEY_HELLO1) => matches!(self.rekey, Rekey::Idle),
            (Side::Vault { .. }, REKEY_HELLO3) => matches!(self.rekey, Rekey::Answered(_)),
            (Side::Device { .. }, REKEY_HELLO2) => matches!(self.rekey, Rekey::Started(_)),
            (Side::Device { .. }, kind) => (kind == READY) != self.ready,
            (Side::Vault { .. }, _) => true,
        }
    }

    fn direction_out(&self) -> u8 {
        match self.side {
            Side::Device { .. } => TO_VAULT,
            Side::Vault { .. } => TO_DEVICE,
        }
    }
}

impl Keys {
    fn key(&self, direction: u8) -> &Key32 {
        if direction == TO_VAULT { &self.to_vault } else { &self.to_device }
    }
}

fn seal_frame(
    key: &Key32,
    channel: &[u8; 16],
    direction: u8,
    counter: u64,
    kind: u8,
    payload: &[u8],
) -> Result<Vec<u8>, ChannelError> {
    let padded = padded_len(payload.len(), PADDED_BYTES_MIN).ok_or(ChannelError::Payload)?;
    let length = u32::try_from(payload.len()).map_err(|_| ChannelError::Payload)?;
    let mut frame = vec![0; COUNTER_BYTES + 1 + padded + TAG_BYTES];
    let (head, rest) = frame.split_at_mut(COUNTER_BYTES);
    let (body, tag) = rest.split_at_mut(1 + padded);
    head.copy_from_slice(&counter.to_be_bytes());
    body[0] = kind;
    body[1..5].copy_from_slice(&length.to_be_bytes());
    body[5..5 + payload.len()].copy_from_slice(payload);
    // EXPOSE: the cipher copies the key and wipes its copy when it is dropped.
    let computed = ChaCha20Poly1305::new(key.expose().into())
        .encrypt_inout_detached(&nonce(counter).into(), ad(channel, direction, counter).as_bytes(), body.into())
        .expect("a frame is short");
    tag.copy_from_slice(&computed);
    Ok(frame)
}

/// Counter, and what is sealed.
pub(crate) fn parse_frame(frame: &[u8]) -> Result<(u64, &[u8]), ChannelError> {
    if !(FRAME_BYTES_MIN..=FRAME_BYTES_MAX).contains(&frame.len()) {
        return Err(ChannelError::Length);
    }
    let mut reader = Reader(frame);
    let counter = reader.u64().ok_or(ChannelError::Length)?;
    Ok((counter, reader.0))
}

fn open_frame(
    key: &Key32,
    channel: &[u8; 16],
    direction: u8,
    counter: u64,
    sealed: &[u8],
) -> Result<(u8, Zeroizing<Vec<u8>>), ChannelError> {
    let (body, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(ChannelError::Length)?;
    let mut plain = Zeroizing::new(body.to_vec());
    // EXPOSE: the cipher copies the key and wipes its copy when it is dropped.
    ChaCha20Poly1305::new(key.expose().into())
        .decrypt_inout_detached(
            &nonce(counter).into(),
            ad(channel, direction, counter).as_bytes(),
            plain.as_mut_slice().into(),
            tag.into(),
        )
        .map_err(|_| ChannelError::Tag)?;
    let (kind, padded) = plain.split_first().ok_or(ChannelError::Padding)?;
    let (kind, len) = (*kind, unpad(padded).map_err(|_| ChannelError::Padding)?.len());
    if len > FRAME_PAYLOAD_BYTES_MAX {
        return Err(ChannelError::Padding);
    }
    // The payload moves to the front of its own allocation, all of which is wiped in the end.
    plain.copy_within(5..5 + len, 0);
    plain.truncate(len);
    Ok((kind, plain))
}

fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    nonce
}

fn ad(channel: &[u8; 16], direction: u8, counter: u64) -> Tuple {
    Tuple::labelled("frame").bytes(channel).u8(direction).u64(counter)
}

const TO_VAULT: u8 = 0;
const TO_DEVICE: u8 = 1;
const COUNTER_BYTES: usize = 8;
const TAG_BYTES: usize = 16;
const PADDED_BYTES_MIN: usize = 256;
const FRAME_BYTES_MIN: usize = COUNTER_BYTES + 1 + PADDED_BYTES_MIN + TAG_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_payload_makes_the_longest_frame() {
        let padded = padded_len(FRAME_PAYLOAD_BYTES_MAX, PADDED_BYTES_MIN).unwrap();
        let frame = COUNTER_BYTES + 1 + padded + TAG_BYTES;
        assert!(frame <= FRAME_BYTES_MAX, "{frame}");
    }

    #[test]
    fn every_cut_and_every_flipped_bit_of_a_frame_is_refused() {
        let end = || {
            let key = |byte| Key32::copy_of(&[byte; 32]);
            let peer = Peer {
                role: Role::Device,
                id: [0; 16],
                public_key: crate::sign::SigningKey::from_seed(&[9; 32]).public(),
            };
            let mut end = End::new(Side::Vault { peer }, Keys { to_vault: key(1), to_device: key(2), id: [3; 16] });
            end.ready = true;
            end
        };
        let frame = seal_frame(&Key32::copy_of(&[1; 32]), &[3; 16], TO_VAULT, 0, 1, b"x").unwrap();
        assert!(end().open(&frame).is_ok());
        for len in 0..frame.len() {
            assert!(end().open(&frame[..len]).is_err(), "cut to {len}");
        }
        for bit in 0..frame.len() * 8 {
            let mut changed = frame.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let expected = if bit < COUNTER_BYTES * 8 { ChannelError::Counter } else { ChannelError::Tag };
            assert_eq!(end().open(&changed).err(), Some(expected), "bit {bit}");
        }
        // The same bytes in the other direction, in another channel, under another counter.
        for (direction, id, counter) in [(TO_DEVICE, [3; 16], 0), (TO_VAULT, [4; 16], 0), (TO_VAULT, [3; 16], 1)] {
            let mut other = seal_frame(&Key32::copy_of(&[1; 32]), &id, direction, counter, 1, b"x").unwrap();
            other[..COUNTER_BYTES].fill(0);
            assert_eq!(end().open(&other).err(), Some(ChannelError::Tag));
        }
    }
}

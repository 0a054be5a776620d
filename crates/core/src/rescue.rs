//! A vault whose host share is gone: moved to another machine, or on one whose hardware does not give the share out any more. A device
//! brings its copy of the share, or the recovery phrase; the header is then written anew under a share that the host made for that.

use strongroom_crypto::factor::RecoveryPsk;
use strongroom_crypto::kem::{KemPublic, SlotSecret};
use strongroom_crypto::seal::{HeaderFile, RecoveryBlob, append_tail, read_tail, seal_share_copy};
use strongroom_crypto::secret::HostShare;
use strongroom_crypto::sign::{PublicKey, SigningKey, Statement};
use strongroom_wire::device::{DeviceAnswer, RescueBy, RescueRequest};
use strongroom_wire::event::{Action, Actor};
use strongroom_wire::{Bytes, Code, Refusal, SecretValue, VaultId, limits};

use crate::chains::{Chain, Contents};
use crate::clock::{Clock, Moment};
use crate::create::{RecoveryRecord, SETTING_RECOVERY, SETTING_TAIL};
use crate::header::{Header, OpenPart, Read, TailPlace};
use crate::records::{HeaderCopy, Storage, Table};
use crate::unlock::{missing_setting, open_slot};
use crate::vault::{Context, Effect, Vault};

impl<S: Storage> Vault<S> {
    /// A vault whose header does not open with the share that the host has: nothing but to bring it back can be done.
    pub fn start_lost(id: VaultId, share: HostShare, disk: S, moment: Moment) -> Self {
        let mut vault = Self::new(id, share, disk, None, Clock::default(), moment);
        vault.lost = true;
        vault
    }

    /// Whether no header opens with the share that the host has.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// Brings the vault back under the host's new share. Durable when it answers; the vault is locked then.
    pub(crate) fn rescue(&mut self, request: RescueRequest, cx: &mut Context<'_>) -> Result<DeviceAnswer, Refusal> {
        if !self.lost {
            return Err(Refusal::new(Code::Conflict).detail("The host has the share of this vault; unlock it."));
        }
        // Thirty-two random bytes are not guessed, but each try costs this process some work.
        let ticks = cx.moment.ticks_ms;
        if self.rescue_tries >= limits::RECOVERY_ATTEMPTS_PER_HOUR && ticks < self.tried_ticks_ms + RESCUE_WAIT_MS {
            return Err(Refusal::new(Code::AttemptsWait).retry_secs(RESCUE_WAIT_MS / 1_000));
        }
        self.rescue_tries += 1;
        self.tried_ticks_ms = ticks;
        let rescued = match request.by {
            RescueBy::Share { share } => self.rescue_by_share(&share, cx),
            RescueBy::Phrase { seed, identity } => self.rescue_by_phrase(&seed, &identity, cx),
        };
        if let Err(refusal) = rescued {
            self.close();
            self.header = None;
            return Err(refusal);
        }
        self.lost = false;
        let sealed_share = request.device.and_then(|device| {
            let known = self.header.as_ref()?.roster.devices.get(&device)?;
            let kem = KemPublic::from_bytes(&known.kem_public.0).ok()?;
            let copy = seal_share_copy(&kem, self.id.as_bytes(), device.as_bytes(), &self.share, cx.rng);
            Some(Bytes::from(copy))
        });
        self.effects.push(Effect::Rescued);
        self.durable = self.effects.len();
        Ok(DeviceAnswer::Rescued { sealed_share })
    }

    /// With the share that was: the header opens, and is written under the new one as it is.
    fn rescue_by_share(&mut self, share: &SecretValue, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let refused = || {
            Refusal::new(Code::FactorRefused).detail("This is not the share that the vault's header is sealed under.")
        };
        // EXPOSE: moved into locked memory.
        let bytes: &[u8; 32] = share.expose().try_into().map_err(|_| refused())?;
        let before = HostShare::from_bytes(bytes);
        let read = Header::read(&mut self.disk, self.id, &before).map_err(|_| refused())?.ok_or_else(refused)?;
        let Read { mut header, starts_at_limit } = read;
        self.clock.not_before(header.time, cx.moment);
        if starts_at_limit {
            header.start_at_limit(self.clock.now(cx.moment));
        }
        // What was noted while it was locked goes on under the new share's key.
        let (old_key, new_key) =
            (before.derive_tail_key(self.id.as_bytes()), self.share.derive_tail_key(self.id.as_bytes()));
        let tail = self.disk.read_tail()?;
        let mut last = header.tail.last.as_ref().and_then(Bytes::to_array);
        let entries: Vec<Vec<u8>> = read_tail(&old_key, self.id.as_bytes(), header.tail.merged, last.as_ref(), &tail)
            .map(|tail| tail.entries.iter().map(|entry| entry.to_vec()).collect())
            .unwrap_or_default();
        // A crash from here on loses some notes of refused factors, and nothing else.
        self.disk.clear_tail()?;
        header.write(&mut self.disk, self.id, &self.share, cx.rng)?;
        header.write(&mut self.disk, self.id, &self.share, cx.rng)?;
        let mut bytes = Vec::new();
        for (index, entry) in (header.tail.merged..).zip(&entries) {
            last = Some(append_tail(&new_key, self.id.as_bytes(), index, last.as_ref(), entry, &mut bytes));
        }
        if !bytes.is_empty() {
            self.disk.append_tail(&bytes)?;
        }
        self.header = Some(header);
        Ok(())
    }

    /// With the recovery phrase: it opens the vault key in the header's open part, and the identity in the recovery blob, which signs a new
    /// channel identity. Everything else that a header holds is in the database.
    fn rescue_by_phrase(&mut self, seed: &SecretValue, identity: &Bytes, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let refused = || Refusal::new(Code::FactorRefused);
        // EXPOSE: moved into locked memory.
        let seed: &[u8; 32] = seed.expose().try_into().map_err(|_| refused())?;
        let secret = SlotSecret::from_seed(seed);
        let identity = PublicKey::from_bytes(&identity.0).map_err(|_| refused())?;
        let open = self.open_part()?;
        let vault = *self.id.as_bytes();
        let found = open.recovery_slots.iter().find_map(|slot| open_slot(slot, &secret, &vault));
        let keys = found.ok_or_else(refused)?;
        let now = self.clock.now(cx.moment);
        let next_sequence = open.sequence.checked_add(1).ok_or_else(refused)?;
        let stand_in = SigningKey::generate(cx.rng);
        self.header = Some(Header::rescued(next_sequence, open.recovery_slots, stand_in, identity, now));
        self.disk.clear_tail()?;
        self.open_database(keys, None, cx)?;

        let record: RecoveryRecord = self.get(Table::Settings, SETTING_RECOVERY)?.ok_or_else(missing_setting)?;
        // EXPOSE: moved into locked memory.
        let psk: &[u8; 32] = record.psk.expose().try_into().map_err(|_| missing_setting())?;
        let damaged = || Refusal::new(Code::StoreRefused).detail("The recovery blob does not open with this phrase.");
        let blob = RecoveryBlob::parse(&record.blob.0).map_err(|_| damaged())?;
        let blob = blob.verify(&identity).map_err(|_| damaged())?;
        if blob.vault() != &vault {
            return Err(damaged());
        }
        let contents = blob.open(&secret, &RecoveryPsk::from_bytes(psk)).map_err(|_| damaged())?;
        // EXPOSE: parsed into types that wipe what they hold.
        let signer = Contents::parse(contents.expose())?.identity()?;
        if signer.public() != identity {
            return Err(damaged());
        }
        self.channel_identity_anew(&signer, cx)?;
        let mut event = self.event(Actor::Founder, Action::VaultRescue, cx);
        event.note = Some("phrase".to_owned());
        self.in_transaction(cx, |vault, cx| vault.log(event, cx))?;
        self.settle(cx)?;
        // And the other copy.
        self.lock_now(Actor::Vault, cx);
        if let Some(header) = &mut self.header {
            header.rescued = false;
        }
        Ok(())
    }

    fn channel_identity_anew(&mut self, identity: &SigningKey, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let vault = *self.id.as_bytes();
        let merged: u64 = self.get(Table::Settings, SETTING_TAIL)?.unwrap_or(0);
        // The epoch that was is not known any more: seconds are far above any that was counted.
        let epoch = u32::try_from(self.now(cx).0 / 1_000).map_err(|_| Refusal::new(Code::Bug))?;
        let channel = SigningKey::generate(cx.rng);
        let certificate =
            identity.sign(&Statement::ChannelCertificate { vault: &vault, channel_key: &channel.public(), epoch });
        let open = self.open.as_ref().ok_or(Refusal::new(Code::VaultLocked))?;
        let mut chains = Vec::new();
        for device in self.header.as_ref().into_iter().flat_map(|header| header.roster.devices.keys().copied()) {
            // One that is damaged: its device is told when it presents its credential.
            if let Some(file) = self.disk.read_chain(device)?
                && let Ok(chain) = Chain::open(&file, &open.vault_key, self.id, device)
            {
                chains.push((device, chain.number));
            }
        }
        let header = self.header.as_mut().ok_or(Refusal::new(Code::VaultNotCreated))?;
        header.channel = channel;
        header.channel_certificate = Bytes::from(certificate);
        header.channel_epoch = epoch;
        header.tail = TailPlace { merged, before: merged, ..TailPlace::default() };
        header.roster_mut().chains = chains.into_iter().collect();
        Ok(())
    }

    /// The newest open part of a header, as whoever can write the files left it.
    fn open_part(&mut self) -> Result<OpenPart, Refusal> {
        let mut newest: Option<OpenPart> = None;
        for copy in [HeaderCopy::A, HeaderCopy::B] {
            let Some(file) = self.disk.read_header(copy)? else { continue };
            let Ok(parsed) = HeaderFile::parse(&file) else { continue };
            let Ok(open) = serde_json::from_slice::<OpenPart>(parsed.open_part()) else { continue };
            let ours = open.v == 1 && open.vault == self.id && open.sequence == parsed.sequence();
            if ours && newest.as_ref().is_none_or(|other| other.sequence < open.sequence) {
                newest = Some(open);
            }
        }
        newest.ok_or_else(|| Refusal::new(Code::HeaderRefusedFile).detail("No copy of the vault's header can be read."))
    }
}

/// How long the next try waits, after some.
const RESCUE_WAIT_MS: u64 = 60_000;

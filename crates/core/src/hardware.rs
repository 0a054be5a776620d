//! What the host's hardware does for a vault: it keeps the secret of a slot that opens the vault with no person there, and it seals
//! the share, and that secret, to the vault program that runs. The member agrees to each.

use strongroom_crypto::slot::{SlotPlace, seal_vault_key};
use strongroom_crypto::unattended::SecretKey;
use strongroom_wire::device::{DeviceAnswer, SlotKind};
use strongroom_wire::event::{Action, Actor};
use strongroom_wire::host::{HardwareAnswer, HardwareRequest};
use strongroom_wire::sealing::TpmSealed;
use strongroom_wire::{Bytes, Code, DeviceId, Refusal, SlotId, limits};

use crate::header::Slot;
use crate::records::{Storage, Table};
use crate::unlock::open_slot;
use crate::vault::{Context, Effect, ReplyTo, Vault, random_id};

/// What the host said of the vault program; all absent where no hardware speaks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hardware {
    /// SHA-256 of the program that runs.
    pub program: Option<Bytes>,
    /// SHA-256 of the program that is installed.
    pub installed: Option<Bytes>,
}

/// What was asked of the hardware and has no answer yet.
pub(crate) enum Asked {
    /// A secret for a new slot.
    Generate { device: DeviceId, to: ReplyTo, key: SecretKey },
    /// The secret of the slot.
    Open { slot: SlotId, key: SecretKey },
    /// The slot's secret, for the next program as well.
    Reseal { slot: SlotId, program: Bytes },
    /// The share, for the next program.
    ResealShare,
}

impl<S: Storage> Vault<S> {
    /// Takes what the host said of its hardware, once, before anything is asked.
    pub fn set_hardware(&mut self, hardware: Hardware) {
        self.hardware = hardware;
    }

    /// The program that is installed and waits for the member, where there is one.
    pub(crate) fn update(&self) -> Option<&Bytes> {
        let Hardware { program: Some(program), installed: Some(installed) } = &self.hardware else { return None };
        (program != installed).then_some(installed)
    }

    /// The member agrees that another vault program gets the share. The process is replaced once the host has sealed it so.
    pub(crate) fn update_accept(
        &mut self,
        device: DeviceId,
        program: &Bytes,
        cx: &mut Context<'_>,
    ) -> Result<DeviceAnswer, Refusal> {
        match self.update() {
            None => return Err(Refusal::new(Code::Conflict).detail("No other vault program is installed.")),
            Some(installed) if installed != program => {
                return Err(
                    Refusal::new(Code::Conflict).detail("Another vault program is installed than the one named.")
                );
            }
            Some(_) => {}
        }
        if self.hardware_works {
            return Err(Code::Busy.into());
        }
        let mut event = self.event(Actor::Device(device), Action::UpdateAccept, cx);
        event.note = Some(hex(program));
        self.log(event, cx)?;
        let slot = self.unattended_slot().cloned();
        let sealed = slot.as_ref().and_then(|slot| self.sealed_for_this_program(slot).cloned());
        match (slot, sealed) {
            (Some(slot), Some(sealed)) => {
                let request = HardwareRequest::Reseal { sealed: Box::new(sealed), program: program.clone() };
                self.ask_hardware(Asked::Reseal { slot: slot.id, program: program.clone() }, request);
            }
            (stale, _) => {
                if let Some(slot) = stale {
                    self.drop_unattended(device, slot.id, cx)?;
                }
                self.ask_hardware(Asked::ResealShare, HardwareRequest::ResealShare { program: program.clone() });
            }
        }
        Ok(DeviceAnswer::Done {})
    }

    /// Switches unattended unlock on or off. `None`: the answer comes with the hardware's.
    pub(crate) fn unattended_set(
        &mut self,
        device: DeviceId,
        on: bool,
        to: ReplyTo,
        cx: &mut Context<'_>,
    ) -> Result<Option<DeviceAnswer>, Refusal> {
        match (self.unattended_slot().map(|slot| slot.id), on) {
            (None, false) => {}
            (Some(slot), false) => {
                self.drop_unattended(device, slot, cx)?;
            }
            (Some(_), true)
                if self.unattended_slot().is_some_and(|slot| self.sealed_for_this_program(slot).is_some()) => {}
            (stale, true) => {
                if self.hardware.program.is_none() {
                    return Err(Refusal::new(Code::HardwareMissing)
                        .detail("Unattended unlock needs a TPM, and the server keeps its shares in files.")
                        .hint("strongroom serve --sealing tpm"));
                }
                if self.hardware_works {
                    return Err(Code::Busy.into());
                }
                if let Some(slot) = stale {
                    // Sealed on another machine or to another program: nobody opens it here.
                    self.drop_unattended(device, slot, cx)?;
                }
                let key = SecretKey::generate(cx.rng);
                let public = Bytes::from(key.public().as_bytes().as_slice());
                self.ask_hardware(Asked::Generate { device, to, key }, HardwareRequest::Generate { to: public });
                return Ok(None);
            }
        }
        Ok(Some(DeviceAnswer::Done {}))
    }

    fn drop_unattended(&mut self, device: DeviceId, slot: SlotId, cx: &mut Context<'_>) -> Result<(), Refusal> {
        self.delete(Table::Slots, slot.as_bytes())?;
        self.note_header()?;
        let mut event = self.event(Actor::Device(device), Action::UnattendedOff, cx);
        event.slot = Some(slot);
        self.log(event, cx)?;
        self.sync_header()?;
        self.limit_open(cx);
        Ok(())
    }

    /// Asks for the secret that opens this vault with no person there, where the member wants that. To be called once, at the start.
    pub fn open_unattended(&mut self, cx: &mut Context<'_>) {
        let paused = self.header.as_ref().is_none_or(|header| header.unattended_paused);
        let Some(slot) = self.unattended_slot().filter(|_| !paused && self.open.is_none() && !self.hardware_works)
        else {
            return;
        };
        let Some(sealed) = self.sealed_for_this_program(slot).cloned() else { return };
        let (slot, key) = (slot.id, SecretKey::generate(cx.rng));
        let to = Bytes::from(key.public().as_bytes().as_slice());
        self.ask_hardware(Asked::Open { slot, key }, HardwareRequest::Open { sealed: Box::new(sealed), to });
    }

    fn ask_hardware(&mut self, asked: Asked, request: HardwareRequest) {
        self.asked = Some(asked);
        self.hardware_works = true;
        self.effects.push(Effect::Hardware(Box::new(request)));
    }

    /// Whether the hardware was asked for what it did not answer yet.
    pub fn waits_for_hardware(&self) -> bool {
        matches!(self.asked, Some(Asked::Open { .. }))
    }

    /// The hardware's answer.
    pub(crate) fn hardware_answered(&mut self, answer: HardwareAnswer, cx: &mut Context<'_>) {
        self.hardware_works = false;
        match (self.asked.take(), answer) {
            (Some(Asked::Generate { device, to, key }), answer) => {
                let added = self.in_transaction(cx, |vault, cx| vault.add_unattended(device, &key, answer, cx));
                self.effects.push(Effect::Device(to, added));
            }
            (Some(Asked::Open { slot, key }), HardwareAnswer::Secret { secret, .. }) => {
                if let Err(refusal) = self.unlock_unattended(slot, &key, &secret, cx) {
                    self.close();
                    self.stays_shut(&refusal);
                }
            }
            (Some(Asked::Open { .. }), HardwareAnswer::Refused(refusal)) => self.stays_shut(&refusal),
            (Some(Asked::Reseal { slot, program }), HardwareAnswer::Sealed { sealed }) => {
                let kept = self.in_transaction(cx, |vault, cx| vault.keep_resealed(slot, *sealed, cx));
                match kept.and_then(|()| self.settle(cx)) {
                    Ok(()) => self.ask_hardware(Asked::ResealShare, HardwareRequest::ResealShare { program }),
                    Err(_) => self.effects.push(Effect::Notice("update.refused")),
                }
            }
            (Some(Asked::ResealShare), HardwareAnswer::Done {}) => {}
            // One that locked meanwhile, or a host that answers what was not asked.
            (None, _) => {}
            (Some(_), _) => self.effects.push(Effect::Notice("update.refused")),
        }
    }

    fn stays_shut(&mut self, refusal: &Refusal) {
        self.effects.push(Effect::Notice("unattended.refused"));
        self.unattended_refusal = Some(refusal.code);
    }

    fn add_unattended(
        &mut self,
        device: DeviceId,
        key: &SecretKey,
        answer: HardwareAnswer,
        cx: &mut Context<'_>,
    ) -> Result<DeviceAnswer, Refusal> {
        let (sealed, secret) = match answer {
            HardwareAnswer::Secret { sealed, secret } => (sealed, secret),
            HardwareAnswer::Refused(refusal) => return Err(refusal),
            _ => return Err(Code::HardwareMissing.into()),
        };
        if Some(&sealed.program) != self.hardware.program.as_ref() {
            return Err(Code::HardwareMissing.into());
        }
        let root = key.open(&secret.0, self.id.as_bytes()).map_err(|_| Refusal::new(Code::HardwareMissing))?;
        let secret = root.slot_secret(self.id.as_bytes());
        let now = self.now(cx);
        let open = self.open.as_ref().ok_or(Refusal::new(Code::VaultLocked))?;
        let mut slot = Slot {
            id: SlotId(random_id(cx.rng)),
            kind: SlotKind::Unattended,
            name: "unattended".to_owned(),
            added_at: now,
            kem_public: Bytes::from(secret.public().as_bytes().as_slice()),
            sign_public: Bytes::from(*root.signer(self.id.as_bytes()).public().as_bytes()),
            kdf: None,
            generation: open.generation,
            sealed: Bytes::default(),
            sealed_next: None,
            hardware: vec![*sealed],
        };
        let id = slot.id;
        let place = SlotPlace {
            vault: self.id.as_bytes(),
            slot: id.as_bytes(),
            kind: slot.factor(),
            generation: open.generation,
        };
        slot.sealed = Bytes::from(seal_vault_key(&secret.public(), &place, &open.vault_key, cx.rng));
        self.put(Table::Slots, id.as_bytes(), &slot)?;
        self.note_header()?;
        let mut event = self.event(Actor::Device(device), Action::UnattendedOn, cx);
        event.slot = Some(id);
        self.log(event, cx)?;
        self.sync_header()?;
        self.limit_open(cx);
        Ok(DeviceAnswer::Done {})
    }

    /// Opens the vault. What a device would compare, the log with what it saw, stands in the header; the next device checks again.
    fn unlock_unattended(
        &mut self,
        slot: SlotId,
        key: &SecretKey,
        secret: &Bytes,
        cx: &mut Context<'_>,
    ) -> Result<(), Refusal> {
        let refused = || Refusal::new(Code::FactorRefused);
        let root = key.open(&secret.0, self.id.as_bytes()).map_err(|_| refused())?;
        let slot = self.unattended_slot().filter(|found| found.id == slot).cloned().ok_or_else(refused)?;
        let keys = open_slot(&slot, &root.slot_secret(self.id.as_bytes()), self.id.as_bytes()).ok_or_else(refused)?;
        self.open_database(keys, None, cx)?;
        // The records may have lost the slot since the header was written.
        if self.unattended_slot().is_none_or(|known| known.kem_public != slot.kem_public) {
            self.move_floor();
            self.settle(cx)?;
            return Err(refused());
        }
        self.in_transaction(cx, |vault, cx| {
            let mut event = vault.event(Actor::Vault, Action::VaultUnlock, cx);
            event.slot = Some(slot.id);
            vault.log(event, cx)?;
            vault.opened()?.0.live_mut().confirmed = true;
            Ok(())
        })?;
        self.limit_open(cx);
        self.move_floor();
        self.settle(cx)
    }

    fn keep_resealed(&mut self, slot: SlotId, sealed: TpmSealed, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let mut slot: Slot = self.get(Table::Slots, slot.as_bytes())?.ok_or(Refusal::new(Code::SlotUnknown))?;
        slot.hardware.retain(|other| Some(&other.program) == self.hardware.program.as_ref());
        slot.hardware.push(sealed);
        self.put(Table::Slots, slot.id.as_bytes(), &slot)?;
        self.note_header()?;
        let mut event = self.event(Actor::Vault, Action::SlotReplace, cx);
        event.slot = Some(slot.id);
        self.log(event, cx)?;
        self.sync_header()
    }

    /// What was asked of the hardware is not waited for any more.
    pub(crate) fn forget_asked(&mut self, refusal: &Refusal) {
        if let Some(Asked::Generate { to, .. }) = self.asked.take() {
            self.effects.push(Effect::Device(to, Err(refusal.clone())));
        }
    }

    /// The slot that opens this vault with no person there.
    pub(crate) fn unattended_slot(&self) -> Option<&Slot> {
        let slots = &self.header.as_ref()?.roster.slots;
        slots.iter().find(|slot| slot.kind == SlotKind::Unattended)
    }

    fn sealed_for_this_program<'s>(&self, slot: &'s Slot) -> Option<&'s TpmSealed> {
        let program = self.hardware.program.as_ref()?;
        slot.hardware.iter().find(|sealed| sealed.program == *program)
    }

    /// The vault stays open without an end while it would open again by itself; else as long as it was to, or, where that had no
    /// end, as long as the setting says.
    pub(crate) fn limit_open(&mut self, cx: &Context<'_>) {
        let unattended = self.unattended_slot().is_some();
        let Some(open) = &mut self.open else { return };
        if unattended {
            open.open_until_ticks_ms = u64::MAX;
        } else if open.open_until_ticks_ms == u64::MAX {
            let secs = open.live.config.open_secs.unwrap_or(limits::OPEN_SECS_DEFAULT);
            open.open_until_ticks_ms = cx.moment.ticks_ms + secs * 1_000;
        }
    }
}

fn hex(program: &Bytes) -> String {
    data_encoding::HEXLOWER.encode(&program.0)
}

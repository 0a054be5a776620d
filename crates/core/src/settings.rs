//! Slots, devices, settings, and the rotation of the vault key.

use strongroom_crypto::kem::KemPublic;
use strongroom_crypto::seal::{
    ItemPlace, MailPlace, seal_credential, seal_mail, seal_recovery_blob, seal_share_copy, unwrap_item_key,
    wrap_item_key,
};
use strongroom_crypto::secret::{CredentialKey, VaultKey};
use strongroom_crypto::sign::PublicKey;
use strongroom_crypto::slot::{SlotPlace, seal_vault_key};
use strongroom_wire::device::{
    Config, DeviceAdd, DeviceAdded, DeviceAnswer, DeviceView, SlotDraft, SlotKind, SlotView,
};
use strongroom_wire::{Bytes, Code, DeviceId, Refusal, SecretValue, SlotId, VaultId, limits};

use crate::chains::{Chain, Contents};
use crate::create::{DeviceBody, RecoveryRecord, RosterEntry, SETTING_CONFIG, SETTING_RECOVERY, recovery_psk};
use crate::header::{HeaderDevice, Slot};
use crate::records::{Storage, Table};
use crate::unlock::{generation_key, missing_setting};
use crate::vault::{Context, Effect, Peer, Vault, check_label, random_id};
use strongroom_wire::event::{Action, Actor};

impl<S: Storage> Vault<S> {
    pub(crate) fn slot_add(
        &mut self,
        device: DeviceId,
        draft: &SlotDraft,
        cx: &mut Context<'_>,
    ) -> Result<DeviceAnswer, Refusal> {
        if draft.kind == SlotKind::Recovery {
            return Err(Refusal::new(Code::ValueRefused).detail("A vault has one recovery phrase; renew it instead."));
        }
        let slots = self.disk.count(Table::Slots)?;
        if slots >= SLOTS_MAX {
            return Err(Code::TooMany.into());
        }
        let slot = self.new_slot(draft, cx)?;
        self.put(Table::Slots, slot.id.as_bytes(), &slot)?;
        let mut event = self.event(Actor::Device(device), Action::SlotAdd, cx);
        event.slot = Some(slot.id);
        self.log(event, cx)?;
        self.sync_header()?;
        Ok(DeviceAnswer::Slot(slot_view(&slot)))
    }

    fn new_slot(&mut self, draft: &SlotDraft, cx: &mut Context<'_>) -> Result<Slot, Refusal> {
        let now = self.now(cx);
        let open = self.open.as_ref().ok_or(Refusal::new(Code::VaultLocked))?;
        self.make_slot(draft, now, &open.vault_key, open.generation, cx)
    }

    pub(crate) fn slot_remove(
        &mut self,
        device: DeviceId,
        id: SlotId,
        cx: &mut Context<'_>,
    ) -> Result<DeviceAnswer, Refusal> {
        let slot = self.slot(id)?;
        if slot.kind == SlotKind::Recovery {
            return Err(Refusal::new(Code::SlotLast).detail("The recovery phrase is renewed, not removed."));
        }
        let others = self.header.as_ref().map_or(0, |header| {
            header.slots.iter().filter(|other| other.kind != SlotKind::Recovery && other.id != id).count()
        });
        if others == 0 {
            return Err(Code::SlotLast.into());
        }
        self.delete(Table::Slots, id.as_bytes())?;
        let mut event = self.event(Actor::Device(device), Action::SlotRemove, cx);
        event.slot = Some(id);
        self.log(event, cx)?;
        self.sync_header()?;
        Ok(DeviceAnswer::Done {})
    }

    pub(crate) fn slot_replace(
        &mut self,
        device: DeviceId,
        id: SlotId,
        draft: &SlotDraft,
        contents: Option<&Contents>,
        cx: &mut Context<'_>,
    ) -> Result<DeviceAnswer, Refusal> {
        let old = self.slot(id)?;
        if old.kind != draft.kind {
            return Err(Refusal::new(Code::ValueRefused).detail("A slot keeps its kind."));
        }
        let slot = self.new_slot(draft, cx)?;
        self.delete(Table::Slots, id.as_bytes())?;
        self.put(Table::Slots, slot.id.as_bytes(), &slot)?;
        if draft.kind == SlotKind::Recovery {
            let contents = contents.ok_or(Refusal::new(Code::CredentialRequired))?;
            let psk = recovery_psk(draft)?;
            // EXPOSE: the PSK's place is the database; it renews the recovery blob and opens nothing alone.
            let psk = SecretValue::new(psk.expose().to_vec());
            let old: RecoveryRecord = self.get(Table::Settings, SETTING_RECOVERY)?.ok_or_else(missing_setting)?;
            let record = RecoveryRecord { psk, sequence: old.sequence, blob: old.blob };
            self.put(Table::Settings, SETTING_RECOVERY, &record)?;
            self.seal_recovery(&slot, contents, cx)?;
        }
        let mut event = self.event(Actor::Device(device), Action::SlotReplace, cx);
        event.slot = Some(slot.id);
        self.log(event, cx)?;
        self.sync_header()?;
        Ok(DeviceAnswer::Slot(slot_view(&slot)))
    }

    /// Seals the credential's contents to the recovery phrase anew, after they changed.
    pub(crate) fn renew_recovery_blob(&mut self, contents: &Contents, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let slots: Vec<Slot> = self.all(Table::Slots, &[])?.into_iter().map(|(_, slot)| slot).collect();
        let slot = slots.iter().find(|slot| slot.kind == SlotKind::Recovery).ok_or_else(missing_setting)?;
        self.seal_recovery(slot, contents, cx)?;
        let event = self.event(Actor::Vault, Action::Settle, cx);
        self.log(event, cx)?;
        self.sync_header()
    }

    fn seal_recovery(&mut self, slot: &Slot, contents: &Contents, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let vault = *self.id.as_bytes();
        let mut record: RecoveryRecord = self.get(Table::Settings, SETTING_RECOVERY)?.ok_or_else(missing_setting)?;
        let public = KemPublic::from_bytes(&slot.kem_public.0).map_err(|_| Refusal::new(Code::Bug))?;
        // EXPOSE: moved into locked memory for the seal.
        let psk: &[u8; 32] = record.psk.expose().try_into().map_err(|_| missing_setting())?;
        let psk = strongroom_crypto::factor::RecoveryPsk::from_bytes(psk);
        record.sequence += 1;
        let json = contents.expose_json()?;
        let blob = seal_recovery_blob(&public, &psk, &vault, record.sequence, &json, &contents.identity()?, cx.rng);
        record.blob = Bytes::from(blob);
        self.put(Table::Settings, SETTING_RECOVERY, &record)
    }

    pub(crate) fn device_list(&mut self, this: DeviceId, cx: &Context<'_>) -> Result<DeviceAnswer, Refusal> {
        let ticks = cx.moment.ticks_ms;
        let mut devices = Vec::new();
        for (_, entry) in self.all::<RosterEntry>(Table::Devices, &[])? {
            let body: DeviceBody = crate::ledger::parse(entry.body.as_bytes())?;
            let frozen = self.read_chain(body.id).is_ok_and(|chain| chain.frozen);
            let session = self.opened()?.0.sessions.get(&body.id).is_some_and(|until| *until > ticks);
            devices.push(DeviceView {
                id: body.id,
                name: body.name,
                added_at: body.added_at,
                last_seen_at: None,
                this: body.id == this,
                frozen,
                session,
            });
        }
        devices.sort_by_key(|device| device.added_at);
        Ok(DeviceAnswer::Devices { devices })
    }

    pub(crate) fn device_add(
        &mut self,
        device: DeviceId,
        add: &DeviceAdd,
        contents: Option<&Contents>,
        cx: &mut Context<'_>,
    ) -> Result<DeviceAnswer, Refusal> {
        check_label(&add.name)?;
        let refused =
            |what: &str| Refusal::new(Code::ValueRefused).detail(format!("The device's {what} is malformed."));
        let sign = PublicKey::from_bytes(&add.sign_public.0).map_err(|_| refused("signing key"))?;
        let kem = KemPublic::from_bytes(&add.kem_public.0).map_err(|_| refused("KEM key"))?;
        let contents = contents.ok_or(Refusal::new(Code::CredentialRequired))?;
        let identity = contents.identity()?;
        let header = self.header.as_ref().ok_or(Refusal::new(Code::VaultNotCreated))?;
        let key = Bytes::from(*sign.as_bytes());
        if header.revoked.contains(&key) || header.devices.values().any(|other| other.sign_public == key) {
            return Err(Refusal::new(Code::Conflict).detail("This key is or was in the roster; make a new one."));
        }
        if header.devices.len() >= limits::DEVICES_MAX {
            return Err(Code::TooMany.into());
        }
        let id = DeviceId(random_id(cx.rng));
        let vault = *self.id.as_bytes();
        let body = DeviceBody {
            kind: "device".into(),
            id,
            name: add.name.clone(),
            sign_public: key.clone(),
            kem_public: Bytes::from(kem.as_bytes().as_slice()),
            epoch: 1,
            added_at: self.now(cx),
        };
        self.put(Table::Devices, id.as_bytes(), &RosterEntry::sign(self.id, &identity, &body)?)?;
        let mut event = self.event(Actor::Device(device), Action::DeviceAdd, cx);
        event.device = Some(id);
        self.log(event, cx)?;
        let key = CredentialKey::generate(cx.rng);
        let blob = seal_credential(&key, &vault, id.as_bytes(), 1, &contents.expose_json()?, cx.rng);
        let place = MailPlace { vault: &vault, device: id.as_bytes(), number: 1 };
        let sealed_credential = Bytes::from(seal_mail(&kem, &place, &blob, cx.rng));
        let sealed_share =
            add.wants_share.then(|| Bytes::from(seal_share_copy(&kem, &vault, id.as_bytes(), &self.share, cx.rng)));
        if let Some(header) = &mut self.header {
            header
                .devices
                .insert(id, HeaderDevice { sign_public: body.sign_public, kem_public: body.kem_public, epoch: 1 });
            header.dirty = true;
        }
        self.store_chain(id, &Chain::first(&key), cx)?;
        let (open, disk) = self.opened()?;
        let seen = open.ledger.position(disk)?;
        Ok(DeviceAnswer::DeviceAdded(Box::new(DeviceAdded { device: id, sealed_credential, sealed_share, seen })))
    }

    /// Throws a device out: its entry, chain and session are gone, and the vault key is replaced before this answers.
    pub(crate) fn device_revoke(
        &mut self,
        by: DeviceId,
        device: DeviceId,
        cx: &mut Context<'_>,
    ) -> Result<DeviceAnswer, Refusal> {
        let header = self.header.as_ref().ok_or(Refusal::new(Code::VaultNotCreated))?;
        let entry = header.devices.get(&device).ok_or(Refusal::new(Code::DeviceUnknown))?.clone();
        if header.devices.len() == 1 {
            return Err(Refusal::new(Code::NotAllowed).detail("The last device cannot be thrown out."));
        }
        self.in_transaction(cx, |vault, cx| {
            vault.delete(Table::Devices, device.as_bytes())?;
            vault.delete(Table::Outcomes, device.as_bytes())?;
            let mut event = vault.event(Actor::Device(by), Action::DeviceRevoke, cx);
            event.device = Some(device);
            vault.log(event, cx)?;
            Ok(())
        })?;
        if let Some(header) = &mut self.header {
            header.devices.remove(&device);
            header.chains.remove(&device);
            header.revoked.push(entry.sign_public);
            header.dirty = true;
        }
        let (open, disk) = self.opened()?;
        open.ledger.commit(disk)?;
        open.sessions.remove(&device);
        disk.remove_chain(device)?;
        self.effects.push(Effect::Disconnect(Peer::Device(device)));
        self.rotate(cx)?;
        Ok(DeviceAnswer::Done {})
    }

    pub(crate) fn config_show(&mut self) -> Result<DeviceAnswer, Refusal> {
        let config = &self.opened()?.0.config;
        Ok(DeviceAnswer::Config(Config {
            session_secs: Some(config.session_secs.unwrap_or(limits::SESSION_SECS_DEFAULT)),
            open_secs: Some(config.open_secs.unwrap_or(limits::OPEN_SECS_DEFAULT)),
            history_versions: Some(config.history_versions.unwrap_or(limits::HISTORY_VERSIONS_DEFAULT)),
        }))
    }

    pub(crate) fn config_set(
        &mut self,
        device: DeviceId,
        change: &Config,
        cx: &mut Context<'_>,
    ) -> Result<DeviceAnswer, Refusal> {
        let out_of = |what: &str, from: u64, to: u64| {
            Err(Refusal::new(Code::ValueRefused).detail(format!("{what} must be {from} to {to}.")))
        };
        let mut config = self.opened()?.0.config.clone();
        let mut names = Vec::new();
        if let Some(secs) = change.session_secs {
            if !(limits::SESSION_SECS_MIN..=limits::SESSION_SECS_MAX).contains(&secs) {
                return out_of("session_secs", limits::SESSION_SECS_MIN, limits::SESSION_SECS_MAX);
            }
            config.session_secs = Some(secs);
            names.push("session_secs");
        }
        if let Some(secs) = change.open_secs {
            if !(limits::OPEN_SECS_MIN..=limits::OPEN_SECS_MAX).contains(&secs) {
                return out_of("open_secs", limits::OPEN_SECS_MIN, limits::OPEN_SECS_MAX);
            }
            config.open_secs = Some(secs);
            names.push("open_secs");
        }
        if let Some(versions) = change.history_versions {
            if !(1..=1_000).contains(&versions) {
                return out_of("history_versions", 1, 1_000);
            }
            config.history_versions = Some(versions);
            names.push("history_versions");
        }
        self.put(Table::Settings, SETTING_CONFIG, &config)?;
        let mut event = self.event(Actor::Device(device), Action::ConfigSet, cx);
        event.note = Some(names.join(" "));
        self.log(event, cx)?;
        self.opened()?.0.config = config;
        self.config_show()
    }

    pub(crate) fn vault_delete(
        &mut self,
        device: DeviceId,
        vault: VaultId,
        cx: &mut Context<'_>,
    ) -> Result<DeviceAnswer, Refusal> {
        if vault != self.id {
            return Err(Refusal::new(Code::ValueRefused).detail("That is not this vault's id."));
        }
        let event = self.event(Actor::Device(device), Action::VaultDelete, cx);
        self.in_transaction(cx, |vault, cx| vault.log(event, cx))?;
        let (open, disk) = self.opened()?;
        open.ledger.commit(disk)?;
        self.close(cx);
        self.disk.delete_all()?;
        self.header = None;
        self.effects.push(Effect::Deleted);
        Ok(DeviceAnswer::Done {})
    }

    /// Replaces the vault key. The header holds both keys until the database is encrypted anew, so that a crash at any point
    /// leaves a vault that every slot opens.
    fn rotate(&mut self, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let vault = *self.id.as_bytes();
        let next = VaultKey::generate(cx.rng);
        let generation = self.opened()?.0.generation;
        let mut slots: Vec<Slot> = self.all(Table::Slots, &[])?.into_iter().map(|(_, slot)| slot).collect();
        for slot in &mut slots {
            let public = KemPublic::from_bytes(&slot.kem_public.0).map_err(|_| Refusal::new(Code::Bug))?;
            let place =
                SlotPlace { vault: &vault, slot: slot.id.as_bytes(), kind: slot.factor(), generation: generation + 1 };
            slot.sealed_next = Some(Bytes::from(seal_vault_key(&public, &place, &next, cx.rng)));
        }
        let header = self.header.as_mut().ok_or(Refusal::new(Code::VaultNotCreated))?;
        header.slots.clone_from(&slots);
        header.write(&mut self.disk, self.id, &self.share, cx.rng)?;
        self.finish_rotation(Some(next), cx)
    }

    /// The second half of a rotation; also after a crash in its middle. With `next` the database is still under the old key.
    pub(crate) fn finish_rotation(&mut self, next: Option<VaultKey>, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let vault = *self.id.as_bytes();
        let Some(next) = next else {
            let header = self.header.as_mut().ok_or(Refusal::new(Code::VaultNotCreated))?;
            let half_done = header.slots.iter().any(|slot| slot.sealed_next.is_some());
            return if half_done { self.adopt_slots(cx) } else { Ok(()) };
        };
        let generation = self.opened()?.0.generation + 1;
        let devices: Vec<DeviceId> =
            self.header.as_ref().map(|header| header.devices.keys().copied().collect()).unwrap_or_default();
        let mut chains = Vec::new();
        for device in devices {
            if let Ok(chain) = self.read_chain(device) {
                chains.push((device, chain));
            }
        }
        let new_key = next.derive_database_key(&vault, generation);
        self.rewrap_items(&next, generation, cx)?;
        let (open, disk) = self.opened()?;
        open.ledger.commit(disk)?;
        disk.rekey_database(&new_key)?;
        let state_key = next.derive_state_key(&vault, generation);
        open.ledger.rekey(disk, state_key)?;
        open.vault_key = next;
        open.generation = generation;
        for (device, chain) in chains {
            let id = self.id;
            let bytes = chain.seal(&self.opened()?.0.vault_key, id, device, cx.rng)?;
            self.disk.write_chain(device, &bytes)?;
        }
        self.adopt_slots(cx)
    }

    /// Wraps every item key under the next vault key, beside the log's word that it was done.
    fn rewrap_items(&mut self, next: &VaultKey, generation: u32, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let vault = *self.id.as_bytes();
        let mut rewrapped = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let (open, disk) = self.opened()?;
            let page = disk.scan(Table::ItemKeys, &[], after.as_deref(), 256)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, wrapped) in page {
                let item: &[u8; 16] = key.as_slice().try_into().map_err(|_| Refusal::new(Code::StoreRefused))?;
                let place = ItemPlace { vault: &vault, item, generation: open.generation };
                let item_key = unwrap_item_key(&open.vault_key, &place, &wrapped)
                    .map_err(|_| Refusal::new(Code::StoreRefused).detail("An item's key does not open."))?;
                let place = ItemPlace { generation, ..place };
                rewrapped.push((key.clone(), wrap_item_key(next, &place, &item_key, cx.rng)));
            }
        }
        self.in_transaction(cx, |this, cx| {
            for (key, wrapped) in &rewrapped {
                let (open, disk) = this.opened()?;
                open.ledger.put_bytes(disk, Table::ItemKeys, key, wrapped)?;
            }
            this.put(Table::Settings, generation_key(), &generation)?;
            let mut event = this.event(Actor::Vault, Action::KeyRotate, cx);
            event.count = Some(u64::from(generation));
            this.log(event, cx).map(|_| ())
        })
    }

    /// The last step of a rotation: slots hold the new key alone.
    fn adopt_slots(&mut self, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let generation = self.opened()?.0.generation;
        let header = self.header.as_mut().ok_or(Refusal::new(Code::VaultNotCreated))?;
        for slot in &mut header.slots {
            if let Some(sealed) = slot.sealed_next.take() {
                slot.sealed = sealed;
                slot.generation = generation;
            }
        }
        let slots = header.slots.clone();
        self.in_transaction(cx, |vault, cx| {
            for slot in &slots {
                let name = vault.get::<Slot>(Table::Slots, slot.id.as_bytes())?.map(|old| old.name).unwrap_or_default();
                vault.put(Table::Slots, slot.id.as_bytes(), &Slot { name, ..slot.clone() })?;
            }
            let event = vault.event(Actor::Vault, Action::Settle, cx);
            vault.log(event, cx).map(|_| ())
        })?;
        let (open, disk) = self.opened()?;
        open.ledger.commit(disk)?;
        let header = self.header.as_mut().ok_or(Refusal::new(Code::VaultNotCreated))?;
        header.write(&mut self.disk, self.id, &self.share, cx.rng)
    }
}

fn slot_view(slot: &Slot) -> SlotView {
    SlotView {
        id: slot.id,
        kind: slot.kind,
        name: Some(slot.name.clone()),
        kdf: slot.kdf.clone(),
        added_at: slot.added_at,
    }
}

/// Ways to unlock one vault.
const SLOTS_MAX: u64 = 32;

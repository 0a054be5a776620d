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
use strongroom_wire::event::{Action, Actor};
use strongroom_wire::{Bytes, Code, DeviceId, Refusal, SecretValue, SlotId, VaultId, limits};

use crate::chains::{Chain, Contents, chain_floor_key};
use crate::create::{
    DeviceBody, RecoveryRecord, RosterEntry, SETTING_CONFIG, SETTING_GENERATION, SETTING_RECOVERY, SETTING_ROTATE,
    recovery_psk,
};
use crate::header::{HeaderDevice, Slot};
use crate::planted::rule;
use crate::records::{Storage, Table};
use crate::unlock::missing_setting;
use crate::vault::{Context, Effect, Peer, Vault, check_label, random_id};

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
        self.note_header()?;
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
            let opens = |other: &&Slot| !matches!(other.kind, SlotKind::Recovery | SlotKind::Unattended);
            header.roster.slots.iter().filter(opens).filter(|other| other.id != id).count()
        });
        if others == 0 {
            return Err(Code::SlotLast.into());
        }
        self.delete(Table::Slots, id.as_bytes())?;
        self.note_header()?;
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
        let mut slot = self.new_slot(draft, cx)?;
        // It stands where the old one stood: a device that names no slot takes the first.
        slot.added_at = old.added_at;
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
        self.note_header()?;
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
            let session = self.opened()?.0.live.sessions.get(&body.id).is_some_and(|until| *until > ticks);
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
        let roster = &self.header.as_ref().ok_or(Refusal::new(Code::VaultNotCreated))?.roster;
        let key = Bytes::from(*sign.as_bytes());
        let taken = roster.revoked.contains(&key)
            || roster.guests.values().any(|other| *other == key)
            || roster.devices.values().any(|other| other.sign_public == key);
        if taken {
            return Err(Refusal::new(Code::Conflict).detail("This key is or was in the roster; make a new one."));
        }
        if roster.devices.len() >= limits::DEVICES_MAX {
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
            let device = HeaderDevice { sign_public: body.sign_public, kem_public: body.kem_public, epoch: 1 };
            header.roster_mut().devices.insert(id, device);
        }
        self.store_chain(id, &mut Chain::first(&key, &blob), cx)?;
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
        let roster = &self.header.as_ref().ok_or(Refusal::new(Code::VaultNotCreated))?.roster;
        let entry = roster.devices.get(&device).ok_or(Refusal::new(Code::DeviceUnknown))?.clone();
        if roster.devices.len() == 1 {
            return Err(Refusal::new(Code::NotAllowed).detail("The last device cannot be thrown out."));
        }
        self.delete(Table::Devices, device.as_bytes())?;
        self.delete(Table::Outcomes, device.as_bytes())?;
        self.delete(Table::Settings, &chain_floor_key(device))?;
        // Whatever comes between, nothing is served again before the vault key was replaced.
        self.put(Table::Settings, SETTING_ROTATE, &true)?;
        self.note_revoked(&entry.sign_public)?;
        self.note_header()?;
        let mut event = self.event(Actor::Device(by), Action::DeviceRevoke, cx);
        event.device = Some(device);
        self.log(event, cx)?;
        if let Some(header) = &mut self.header {
            let roster = header.roster_mut();
            roster.devices.remove(&device);
            roster.chains.remove(&device);
        }
        let (open, _) = self.opened()?;
        open.live_mut().sessions.remove(&device);
        open.presented.retain(|_, (of, _, _)| *of != device);
        self.chain_writes.retain(|(of, _)| *of != device);
        self.challenges.retain(|_, (of, _)| *of != device);
        self.effects.push(Effect::Disconnect(Peer::Device(device)));
        self.settle(cx)?;
        // Best effort: the file is sealed under the vault key that goes now.
        let _ = self.disk.remove_chain(device);
        if let Err(refusal) = self.rotate(cx) {
            self.close();
            let sentence =
                format!("The device is out. The vault locked, and replaces its key at the next unlock: {refusal}");
            return Err(refusal.detail(sentence));
        }
        Ok(DeviceAnswer::Done {})
    }

    pub(crate) fn config_show(&mut self) -> Result<DeviceAnswer, Refusal> {
        let config = &self.opened()?.0.live.config;
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
        let mut config = self.opened()?.0.live.config.clone();
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
        self.opened()?.0.live_mut().config = config;
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
        self.log(event, cx)?;
        self.settle(cx)?;
        self.close();
        self.disk.delete_all()?;
        self.header = None;
        self.effects.push(Effect::Deleted);
        Ok(DeviceAnswer::Done {})
    }

    /// Replaces the vault key. The header holds both keys until records, pages and chain files are under the next one, so that a
    /// crash at any point leaves a vault that every slot opens. After an error the vault must be closed.
    pub(crate) fn rotate(&mut self, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let vault = *self.id.as_bytes();
        let next = VaultKey::generate(cx.rng);
        let generation = self.opened()?.0.generation + 1;
        let mut slots: Vec<Slot> = self.all(Table::Slots, &[])?.into_iter().map(|(_, slot)| slot).collect();
        for slot in &mut slots {
            let public = KemPublic::from_bytes(&slot.kem_public.0).map_err(|_| Refusal::new(Code::Bug))?;
            let place = SlotPlace { vault: &vault, slot: slot.id.as_bytes(), kind: slot.factor(), generation };
            slot.sealed_next = Some(Bytes::from(seal_vault_key(&public, &place, &next, cx.rng)));
        }
        let header = self.header.as_mut().ok_or(Refusal::new(Code::VaultNotCreated))?;
        header.roster_mut().slots = slots;
        self.settle(cx)?;
        self.finish_rotation(Rotation::Records { next }, cx)
    }

    /// Seals the key that a rotation brings to every slot, where the header that held it is gone.
    pub(crate) fn seal_next(&mut self, rotation: &Rotation, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let vault = *self.id.as_bytes();
        let open = self.open.as_ref().ok_or(Refusal::new(Code::VaultLocked))?;
        let (key, generation) = match rotation {
            Rotation::Records { next } => (next, open.generation + 1),
            Rotation::Pages { .. } | Rotation::Chains { .. } => (&open.vault_key, open.generation),
        };
        let header = self.header.as_mut().ok_or(Refusal::new(Code::VaultNotCreated))?;
        // Some may have been brought to it already.
        for slot in header.roster_mut().slots.iter_mut().filter(|slot| slot.generation < generation) {
            let public = KemPublic::from_bytes(&slot.kem_public.0).map_err(|_| Refusal::new(Code::Bug))?;
            let place = SlotPlace { vault: &vault, slot: slot.id.as_bytes(), kind: slot.factor(), generation };
            slot.sealed_next = Some(Bytes::from(seal_vault_key(&public, &place, key, cx.rng)));
        }
        Ok(())
    }

    /// What is left of a rotation, in its order.
    pub(crate) fn finish_rotation(&mut self, left: Rotation, cx: &mut Context<'_>) -> Result<(), Refusal> {
        match left {
            Rotation::Records { next } => {
                let old = self.turn_records(next, cx)?;
                self.finish_rotation(Rotation::Pages { old }, cx)
            }
            Rotation::Pages { old } => {
                let vault = *self.id.as_bytes();
                let (open, disk) = self.opened()?;
                disk.rekey_database(&open.vault_key.derive_database_key(&vault, open.generation))?;
                self.finish_rotation(Rotation::Chains { old }, cx)
            }
            Rotation::Chains { old } => {
                rule!(19, self.turn_chains(&old, cx)?, {});
                self.adopt_slots(cx)
            }
        }
    }

    /// Wraps every item key under the next vault key and takes its state key, in one transaction that says so.
    fn turn_records(&mut self, next: VaultKey, cx: &mut Context<'_>) -> Result<VaultKey, Refusal> {
        let vault = *self.id.as_bytes();
        let (open, _) = self.opened()?;
        let (was, generation) = (open.generation, open.generation + 1);
        open.generation = generation;
        let old = std::mem::replace(&mut open.vault_key, next);
        self.in_transaction(cx, |this, cx| {
            let (open, disk) = this.opened()?;
            let mut after: Option<Vec<u8>> = None;
            loop {
                let page = disk.scan(Table::ItemKeys, &[], after.as_deref(), REWRAP_PAGE)?;
                let Some((last, _)) = page.last() else { break };
                after = Some(last.clone());
                for (key, wrapped) in page {
                    let item: &[u8; 16] = key.as_slice().try_into().map_err(|_| Refusal::new(Code::StoreRefused))?;
                    let place = ItemPlace { vault: &vault, item, generation: was };
                    let item_key = unwrap_item_key(&old, &place, &wrapped)
                        .map_err(|_| Refusal::new(Code::StoreRefused).detail("An item's key does not open."))?;
                    let place = ItemPlace { generation, ..place };
                    let wrapped = wrap_item_key(&open.vault_key, &place, &item_key, cx.rng);
                    open.ledger.put_bytes(disk, Table::ItemKeys, &key, &wrapped)?;
                }
            }
            this.put(Table::Settings, SETTING_GENERATION, &generation)?;
            this.put(Table::Settings, SETTING_ROTATE, &false)?;
            let (open, disk) = this.opened()?;
            open.ledger.rekey(disk, open.vault_key.derive_state_key(&vault, generation))?;
            let mut event = this.event(Actor::Vault, Action::KeyRotate, cx);
            event.count = Some(u64::from(generation));
            this.log(event, cx).map(|_| ())
        })?;
        self.settle(cx)?;
        Ok(old)
    }

    /// Seals the chain files that are still under the old vault key to the new one.
    fn turn_chains(&mut self, old: &VaultKey, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let id = self.id;
        let roster = &self.header.as_ref().ok_or(Refusal::new(Code::VaultNotCreated))?.roster;
        let devices: Vec<DeviceId> = roster.devices.keys().copied().collect();
        for device in devices {
            let Some(file) = self.disk.read_chain(device)? else { continue };
            let (open, disk) = self.opened()?;
            if Chain::open(&file, &open.vault_key, id, device).is_ok() {
                continue;
            }
            // A file that opens under neither was damaged before; its device is told when it presents its credential.
            if let Ok(chain) = Chain::open(&file, old, id, device) {
                disk.write_chain(device, &chain.seal(&open.vault_key, id, device, cx.rng)?)?;
            }
        }
        Ok(())
    }

    /// The last step of a rotation: slots hold the new key alone.
    fn adopt_slots(&mut self, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let generation = self.opened()?.0.generation;
        let header = self.header.as_mut().ok_or(Refusal::new(Code::VaultNotCreated))?;
        let roster = header.roster_mut();
        for slot in &mut roster.slots {
            if let Some(sealed) = slot.sealed_next.take() {
                slot.sealed = sealed;
                slot.generation = generation;
            }
        }
        let slots = roster.slots.clone();
        self.in_transaction(cx, |vault, cx| {
            for slot in &slots {
                let name = vault.get::<Slot>(Table::Slots, slot.id.as_bytes())?.map(|old| old.name).unwrap_or_default();
                vault.put(Table::Slots, slot.id.as_bytes(), &Slot { name, ..slot.clone() })?;
            }
            let event = vault.event(Actor::Vault, Action::Settle, cx);
            vault.log(event, cx).map(|_| ())
        })?;
        self.settle(cx)
    }
}

/// How far a change of the vault key got, and what the rest of it needs.
pub(crate) enum Rotation {
    /// Everything is under the old key.
    Records {
        /// The new one.
        next: VaultKey,
    },
    /// The records are under the new key, the pages of the database are not.
    Pages {
        /// The old one.
        old: VaultKey,
    },
    /// Chain files may be under either.
    Chains {
        /// The old one.
        old: VaultKey,
    },
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

/// Item keys wrapped anew at a time.
const REWRAP_PAGE: usize = 256;
/// Ways to unlock one vault.
const SLOTS_MAX: u64 = 32;

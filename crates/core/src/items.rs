//! Items: what they hold, how they change, and their history.

use serde::{Deserialize, Serialize};
use strongroom_crypto::locked::SecretBytes;
use strongroom_crypto::seal::{FieldPlace, ItemPlace, open_field, seal_field, unwrap_item_key, wrap_item_key};
use strongroom_crypto::secret::ItemKey;
use strongroom_wire::device::{DeviceAnswer, DeviceRequest, ItemEdit, ListQuery, VersionView};
use strongroom_wire::event::{Action, Actor};
use strongroom_wire::items::{FieldDraft, FieldView, ItemDraft, ItemSummary, ItemView, Origin};
use strongroom_wire::policy::ItemPolicy;
use strongroom_wire::{
    Bytes, Class, Code, DeviceId, FieldName, ItemId, ItemType, Reference, Refusal, RequestId, Timestamp, VaultId,
    limits,
};

use crate::chains::Contents;
use crate::drafts::{check_draft, check_fields, check_labels, check_policy, check_tags, label_bytes};
use crate::planted::rule;
use crate::records::{Storage, Table};
use crate::vault::{Context, Vault, check_label, random_id};

/// An item as it lies in the database.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Item {
    #[serde(rename = "type")]
    pub(crate) item_type: ItemType,
    pub(crate) label: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<String>,
    pub(crate) version: u64,
    pub(crate) added_at: Timestamp,
    pub(crate) changed_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) removed_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "ItemPolicy::is_empty")]
    pub(crate) policy: ItemPolicy,
    pub(crate) policy_version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) origin: Option<Origin>,
    /// What was imported last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) imported: Option<Imported>,
    /// Counter-based one-time codes made so far.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) counter: u64,
}

/// What a list shows of an item: the rest is not read, for a list is long.
#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "type")]
    item_type: ItemType,
    label: String,
    #[serde(default)]
    tags: Vec<String>,
    changed_at: Timestamp,
    removed_at: Option<Timestamp>,
}

impl Listed {
    fn summary(self, id: ItemId) -> ItemSummary {
        let Self { item_type, label, tags, changed_at, removed_at } = self;
        ItemSummary { id, item_type, label, tags, changed_at, removed: removed_at.is_some() }
    }
}

/// A draft that was imported.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Imported {
    /// A keyed digest of it.
    pub(crate) digest: Bytes,
    /// The item's version that it became.
    pub(crate) version: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// A field as it lies in the database, in force or in the history.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Field {
    pub(crate) class: Class,
    pub(crate) version: u64,
    pub(crate) changed_at: Timestamp,
    pub(crate) value: Value,
}

/// Where a field's value is.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Value {
    /// Here: public and private fields.
    Open(Bytes),
    /// Sealed under the item's key.
    Sealed(Bytes),
    /// In the credential.
    Credential,
    /// The field was removed at this version.
    Gone,
}

/// A field's value, sealed, with the key that opens it: what a consumer is handed.
pub struct SealedSecret {
    key: ItemKey,
    vault: VaultId,
    reference: Reference,
    version: u64,
    sealed: Vec<u8>,
}

impl SealedSecret {
    /// Opens the value into locked memory, for one call.
    ///
    /// # Errors
    /// `store_refused` when it was not sealed for this place and version.
    pub fn open(&self) -> Result<SecretBytes, Refusal> {
        let place = FieldPlace {
            vault: self.vault.as_bytes(),
            item: self.reference.item.as_bytes(),
            field: self.reference.field.as_str(),
            version: self.version,
        };
        open_field(&self.key, &place, &self.sealed).map_err(|_| swapped())
    }
}

fn swapped() -> Refusal {
    Refusal::new(Code::StoreRefused).detail("A sealed value is not of this item, field and version.")
}

pub(crate) fn field_key(item: ItemId, name: &FieldName) -> Vec<u8> {
    [item.as_bytes().as_slice(), name.as_str().as_bytes()].concat()
}

/// Before the version of each entry of a field's history.
fn history_prefix(item: ItemId, name: &FieldName) -> Vec<u8> {
    [item.as_bytes().as_slice(), name.as_str().as_bytes(), &[0]].concat()
}

fn history_key(item: ItemId, name: &FieldName, version: u64) -> Vec<u8> {
    [history_prefix(item, name).as_slice(), &version.to_be_bytes()].concat()
}

pub(crate) fn origin_key(origin: &Origin) -> Vec<u8> {
    [origin.source.as_bytes(), &[0], origin.id.as_bytes()].concat()
}

fn name_of(key: &[u8]) -> Result<FieldName, Refusal> {
    let name = key.get(16..).and_then(|rest| rest.split(|byte| *byte == 0).next()).unwrap_or_default();
    std::str::from_utf8(name)
        .ok()
        .and_then(|name| FieldName::parse(name).ok())
        .ok_or(Refusal::new(Code::StoreRefused).detail("A field's name cannot be read."))
}

fn id_of(key: &[u8]) -> Result<ItemId, Refusal> {
    key.get(..16)
        .and_then(|id| id.try_into().ok())
        .map(ItemId)
        .ok_or(Refusal::new(Code::StoreRefused).detail("An item's id cannot be read."))
}

impl<S: Storage> Vault<S> {
    /// The class that the table is asked about for a request; `None` where it touches no field.
    pub(crate) fn class_of(&mut self, body: &DeviceRequest) -> Result<Option<Class>, Refusal> {
        let highest = |fields: &[FieldDraft]| fields.iter().map(|field| field.class).max();
        Ok(match body {
            DeviceRequest::ItemAdd(draft) => Some(highest(&draft.fields).unwrap_or(Class::Public)),
            DeviceRequest::ItemImport { drafts, .. } => {
                Some(drafts.iter().filter_map(|draft| highest(&draft.fields)).max().unwrap_or(Class::Public))
            }
            DeviceRequest::ItemEdit(edit) => {
                let mut class = highest(&edit.set);
                if self.open.is_some() {
                    for name in edit.set.iter().map(|field| &field.name).chain(&edit.remove) {
                        let old: Option<Field> = self.get(Table::Fields, &field_key(edit.item, name))?;
                        class = class.max(old.map(|field| field.class));
                    }
                }
                class
            }
            // The class of what comes back, and of what it takes the place of.
            DeviceRequest::ItemRestore { item, version: Some((name, version)) } if self.open.is_some() => {
                let old: Option<Field> = self.get(Table::History, &history_key(*item, name, *version))?;
                let current: Option<Field> = self.get(Table::Fields, &field_key(*item, name))?;
                old.map(|field| field.class).max(current.map(|field| field.class))
            }
            DeviceRequest::ItemShow { .. } => Some(Class::Private),
            DeviceRequest::GrantAdd(grant) => Some(self.class_of_reference(&grant.reference)?),
            DeviceRequest::Use(call) => Some(self.class_of_reference(&call.reference)?),
            DeviceRequest::Deliver(deliver) => {
                let mut class = Class::Public;
                for reference in &deliver.references {
                    class = class.max(self.class_of_reference(reference)?);
                }
                Some(class)
            }
            _ => None,
        })
    }

    fn class_of_reference(&mut self, reference: &Reference) -> Result<Class, Refusal> {
        self.live_item(reference.item)?;
        let field: Field = self
            .get(Table::Fields, &field_key(reference.item, &reference.field))?
            .ok_or(Refusal::new(Code::FieldUnknown))?;
        Ok(field.class)
    }

    pub(crate) fn item(&mut self, id: ItemId) -> Result<Item, Refusal> {
        self.get(Table::Items, id.as_bytes())?.ok_or(Refusal::new(Code::ItemUnknown))
    }

    pub(crate) fn live_item(&mut self, id: ItemId) -> Result<Item, Refusal> {
        let item = self.item(id)?;
        if item.removed_at.is_some() { Err(Code::ItemUnknown.into()) } else { Ok(item) }
    }

    pub(crate) fn field(&mut self, reference: &Reference) -> Result<Field, Refusal> {
        self.get(Table::Fields, &field_key(reference.item, &reference.field))?.ok_or(Refusal::new(Code::FieldUnknown))
    }

    pub(crate) fn item_key(&mut self, id: ItemId) -> Result<ItemKey, Refusal> {
        let vault = *self.id.as_bytes();
        let (open, disk) = self.opened()?;
        let wrapped = disk.get(Table::ItemKeys, id.as_bytes())?.ok_or_else(swapped)?;
        let place = ItemPlace { vault: &vault, item: id.as_bytes(), generation: open.generation };
        unwrap_item_key(&open.vault_key, &place, &wrapped).map_err(|_| swapped())
    }

    /// A field's value, still sealed, for a consumer. Critical values come from the credential.
    pub(crate) fn sealed_secret(&mut self, reference: &Reference, field: &Field) -> Result<SealedSecret, Refusal> {
        let Value::Sealed(sealed) = &field.value else { return Err(Code::ClassRefused.into()) };
        Ok(SealedSecret {
            key: self.item_key(reference.item)?,
            vault: self.id,
            reference: reference.clone(),
            version: field.version,
            sealed: sealed.0.clone(),
        })
    }

    /// A field's value, open, for one consumer call.
    pub(crate) fn open_value(
        &mut self,
        reference: &Reference,
        field: &Field,
        contents: Option<&Contents>,
    ) -> Result<SecretBytes, Refusal> {
        match &field.value {
            Value::Open(bytes) => Ok(SecretBytes::copy_of(&bytes.0)),
            Value::Sealed(_) => self.sealed_secret(reference, field)?.open(),
            Value::Credential => {
                let contents = contents.ok_or(Refusal::new(Code::CredentialRequired))?;
                let value = contents
                    .critical(reference.item, &reference.field, field.version)
                    .ok_or(Refusal::new(Code::CredentialRefused).detail("This credential does not hold the value."))?;
                // EXPOSE: into locked memory, for the call.
                Ok(SecretBytes::copy_of(value.expose()))
            }
            Value::Gone => Err(Code::FieldUnknown.into()),
        }
    }

    /// Older versions of a field that are sealed, newest first, for keys that have versions.
    pub(crate) fn older_versions(&mut self, reference: &Reference) -> Result<Vec<Field>, Refusal> {
        let prefix = [reference.item.as_bytes().as_slice(), reference.field.as_str().as_bytes(), &[0]].concat();
        let mut versions: Vec<Field> =
            self.all::<Field>(Table::History, &prefix)?.into_iter().map(|(_, field)| field).collect();
        versions.retain(|field| matches!(field.value, Value::Sealed(_)));
        versions.sort_by_key(|field| std::cmp::Reverse(field.version));
        Ok(versions)
    }

    pub(crate) fn item_add(
        &mut self,
        device: DeviceId,
        draft: ItemDraft,
        request: RequestId,
        cx: &mut Context<'_>,
    ) -> Result<DeviceAnswer, Refusal> {
        check_draft(&draft)?;
        self.check_room()?;
        let id = self.new_item_id(&draft.fields, request, cx);
        self.insert(id, draft, None, cx)?;
        let mut event = self.event(Actor::Device(device), Action::ItemAdd, cx);
        event.item = Some(id);
        self.log(event, cx)?;
        self.view(id).map(DeviceAnswer::Item)
    }

    /// Whether one item more fits into the vault.
    pub(crate) fn check_room(&mut self) -> Result<(), Refusal> {
        if self.item_count()? >= limits::ITEMS_MAX as u64 {
            return Err(Refusal::new(Code::TooMany).detail(format!("A vault holds {} items.", limits::ITEMS_MAX)));
        }
        Ok(())
    }

    /// The id of a new item: random, but for one with critical values the request's own, so that a request that was presented
    /// twice adds it once.
    fn new_item_id(&self, fields: &[FieldDraft], request: RequestId, cx: &mut Context<'_>) -> ItemId {
        match fields.iter().any(|field| field.class == Class::Critical) {
            true => ItemId(request.0),
            false => ItemId(random_id(cx.rng)),
        }
    }

    pub(crate) fn insert(
        &mut self,
        id: ItemId,
        draft: ItemDraft,
        digest: Option<Bytes>,
        cx: &mut Context<'_>,
    ) -> Result<(), Refusal> {
        let now = self.now(cx);
        let vault = *self.id.as_bytes();
        if self.get::<Item>(Table::Items, id.as_bytes())?.is_some() {
            return Err(Code::Conflict.into());
        }
        let item_key = ItemKey::generate(cx.rng);
        let (open, disk) = self.opened()?;
        let place = ItemPlace { vault: &vault, item: id.as_bytes(), generation: open.generation };
        let wrapped = wrap_item_key(&open.vault_key, &place, &item_key, cx.rng);
        open.ledger.put_bytes(disk, Table::ItemKeys, id.as_bytes(), &wrapped)?;
        self.check_values(&draft.policy, draft.item_type, &draft.fields, cx)?;
        for field in &draft.fields {
            self.write_field(id, &item_key, field, 1, now, cx)?;
        }
        if let Some(origin) = &draft.origin {
            self.put(Table::Origins, &origin_key(origin), &id)?;
        }
        let item = Item {
            item_type: draft.item_type,
            label: draft.label,
            tags: draft.tags,
            version: 1,
            added_at: now,
            changed_at: now,
            removed_at: None,
            policy: draft.policy,
            policy_version: 1,
            origin: draft.origin,
            imported: digest.map(|digest| Imported { digest, version: 1 }),
            counter: 0,
        };
        self.put(Table::Items, id.as_bytes(), &item)?;
        let live = self.opened()?.0.live_mut();
        live.items = live.items.map(|items| items + 1);
        Ok(())
    }

    fn write_field(
        &mut self,
        id: ItemId,
        key: &ItemKey,
        draft: &FieldDraft,
        version: u64,
        now: Timestamp,
        cx: &mut Context<'_>,
    ) -> Result<(), Refusal> {
        let vault = *self.id.as_bytes();
        let place = FieldPlace { vault: &vault, item: id.as_bytes(), field: draft.name.as_str(), version };
        // EXPOSE: sealed at once; a public or private value is written as it is.
        let value = match draft.class {
            Class::Public | Class::Private => Value::Open(Bytes::from(draft.value.expose())),
            Class::Secret => Value::Sealed(Bytes::from(seal_field(key, &place, draft.value.expose(), cx.rng))),
            Class::Critical => Value::Credential,
        };
        let field = Field { class: draft.class, version, changed_at: now, value };
        self.put(Table::Fields, &field_key(id, &draft.name), &field)
    }

    /// Whether keys and one-time-code settings can be used as the policy says.
    pub(crate) fn check_values(
        &mut self,
        policy: &ItemPolicy,
        item_type: ItemType,
        fields: &[FieldDraft],
        cx: &mut Context<'_>,
    ) -> Result<(), Refusal> {
        let main = item_type.main_field();
        for field in fields {
            // EXPOSE: into locked memory, for the check.
            let value = SecretBytes::copy_of(field.value.expose());
            if field.name == main
                && let Some(key) = policy.key
            {
                cx.consumers.check_key(&value, key)?;
            }
            if item_type == ItemType::Totp && field.name == main {
                cx.consumers.check_totp(&value)?;
            }
        }
        Ok(())
    }

    pub(crate) fn item_edit(
        &mut self,
        device: DeviceId,
        edit: ItemEdit,
        cx: &mut Context<'_>,
    ) -> Result<DeviceAnswer, Refusal> {
        let mut item = self.live_item(edit.item)?;
        if edit.if_version.is_some_and(|version| version != item.version) {
            return Err(Code::Conflict.into());
        }
        let now = self.now(cx);
        if let Some(label) = edit.label {
            check_label(&label)?;
            item.label = label;
        }
        if let Some(tags) = edit.tags {
            check_tags(&tags)?;
            item.tags = tags;
        }
        check_labels(&item.label, &item.tags)?;
        let policy_changed = edit.policy.as_ref().is_some_and(|policy| *policy != item.policy);
        if let Some(policy) = edit.policy {
            check_policy(&policy)?;
            item.policy = policy;
        }
        self.check_values(&item.policy, item.item_type, &edit.set, cx)?;
        self.set_fields(edit.item, &edit.set, &edit.remove, now, cx)?;
        item.version += 1;
        item.changed_at = now;
        if policy_changed {
            item.policy_version += 1;
        }
        self.put(Table::Items, edit.item.as_bytes(), &item)?;
        if rule!(3, policy_changed || !edit.set.is_empty() || !edit.remove.is_empty(), false) {
            self.void_for_item(edit.item)?;
        }
        if policy_changed {
            self.cancel(|running| running.item == edit.item);
            let mut event = self.event(Actor::Device(device), Action::ItemPolicy, cx);
            event.item = Some(edit.item);
            self.log(event, cx)?;
        }
        let mut event = self.event(Actor::Device(device), Action::ItemEdit, cx);
        event.item = Some(edit.item);
        self.log(event, cx)?;
        self.view(edit.item).map(DeviceAnswer::Item)
    }

    pub(crate) fn set_fields(
        &mut self,
        id: ItemId,
        set: &[FieldDraft],
        remove: &[FieldName],
        now: Timestamp,
        cx: &mut Context<'_>,
    ) -> Result<(), Refusal> {
        check_fields(set)?;
        let key = self.item_key(id)?;
        for draft in set {
            let version = match self.get::<Field>(Table::Fields, &field_key(id, &draft.name))? {
                Some(old) => {
                    if draft.class < old.class && draft.class < Class::Secret && old.class >= Class::Secret {
                        return Err(Refusal::new(Code::ClassRefused)
                            .detail("A secret value does not become a shown one; add a new field instead."));
                    }
                    self.keep_version(id, &draft.name, &old)?;
                    old.version + 1
                }
                None => self.next_version(id, &draft.name)?,
            };
            if draft.class == Class::Critical {
                self.forget_values(id, &draft.name)?;
            }
            self.write_field(id, &key, draft, version, now, cx)?;
        }
        for name in remove {
            let old: Field = self.get(Table::Fields, &field_key(id, name))?.ok_or(Refusal::new(Code::FieldUnknown))?;
            self.keep_version(id, name, &old)?;
            self.delete(Table::Fields, &field_key(id, name))?;
        }
        let fields = self.all::<Field>(Table::Fields, id.as_bytes())?;
        let bytes: usize = fields
            .iter()
            .map(|(key, field)| {
                key.len()
                    + match &field.value {
                        Value::Open(bytes) | Value::Sealed(bytes) => bytes.0.len(),
                        Value::Credential | Value::Gone => 0,
                    }
            })
            .sum();
        if fields.len() > limits::ITEM_FIELDS_MAX || bytes > limits::ITEM_BYTES_MAX {
            return Err(Refusal::new(Code::TooMany).detail(format!(
                "An item has at most {} fields and {} KiB.",
                limits::ITEM_FIELDS_MAX,
                limits::ITEM_BYTES_MAX / 1_024
            )));
        }
        Ok(())
    }

    /// The version that a field gets when it is written next. No version comes back: a value is sealed to its version.
    pub(crate) fn next_version(&mut self, id: ItemId, name: &FieldName) -> Result<u64, Refusal> {
        if let Some(field) = self.get::<Field>(Table::Fields, &field_key(id, name))? {
            return Ok(field.version + 1);
        }
        let newest =
            self.all::<Field>(Table::History, &history_prefix(id, name))?.iter().map(|(_, field)| field.version).max();
        Ok(newest.unwrap_or(0) + 1)
    }

    fn keep_version(&mut self, id: ItemId, name: &FieldName, field: &Field) -> Result<(), Refusal> {
        self.put(Table::History, &history_key(id, name, field.version), field)?;
        let kept = self.opened()?.0.live.config.history_versions.unwrap_or(limits::HISTORY_VERSIONS_DEFAULT) as usize;
        let versions = self.all::<Field>(Table::History, &history_prefix(id, name))?;
        for (key, _) in versions.iter().take(versions.len().saturating_sub(kept)) {
            self.delete(Table::History, key)?;
        }
        Ok(())
    }

    /// What becomes critical is in the database no more, nor is what it was before.
    fn forget_values(&mut self, id: ItemId, name: &FieldName) -> Result<(), Refusal> {
        for (key, field) in self.all::<Field>(Table::History, &history_prefix(id, name))? {
            if !matches!(field.value, Value::Credential) {
                self.delete(Table::History, &key)?;
            }
        }
        Ok(())
    }

    pub(crate) fn item_remove(
        &mut self,
        device: DeviceId,
        id: ItemId,
        purge: bool,
        cx: &mut Context<'_>,
    ) -> Result<DeviceAnswer, Refusal> {
        let mut item = self.item(id)?;
        if item.removed_at.is_some() && !purge {
            return Err(Code::ItemUnknown.into());
        }
        self.end_grants_of(id, cx)?;
        self.void_for_item(id)?;
        self.cancel(|running| running.item == id);
        let action = if purge {
            for (key, _) in self.all::<Field>(Table::Fields, id.as_bytes())? {
                self.delete(Table::Fields, &key)?;
            }
            for (key, _) in self.all::<Field>(Table::History, id.as_bytes())? {
                self.delete(Table::History, &key)?;
            }
            self.delete(Table::ItemKeys, id.as_bytes())?;
            if let Some(origin) = &item.origin {
                self.delete(Table::Origins, &origin_key(origin))?;
            }
            self.delete(Table::Items, id.as_bytes())?;
            let live = self.opened()?.0.live_mut();
            live.items = live.items.map(|items| items.saturating_sub(1));
            Action::ItemPurge
        } else {
            item.removed_at = Some(self.now(cx));
            item.version += 1;
            self.put(Table::Items, id.as_bytes(), &item)?;
            Action::ItemRemove
        };
        let mut event = self.event(Actor::Device(device), action, cx);
        event.item = Some(id);
        self.log(event, cx)?;
        Ok(DeviceAnswer::Done {})
    }

    pub(crate) fn item_restore(
        &mut self,
        device: DeviceId,
        id: ItemId,
        version: Option<(FieldName, u64)>,
        cx: &mut Context<'_>,
    ) -> Result<DeviceAnswer, Refusal> {
        let now = self.now(cx);
        let mut item = self.item(id)?;
        let mut event = self.event(Actor::Device(device), Action::ItemRestore, cx);
        event.item = Some(id);
        match version {
            None => {
                item.removed_at.take().ok_or(Refusal::new(Code::Conflict).detail("The item is not removed."))?;
            }
            Some((name, version)) => {
                if item.removed_at.is_some() {
                    return Err(Code::ItemUnknown.into());
                }
                let old: Field = self
                    .get(Table::History, &history_key(id, &name, version))?
                    .ok_or(Refusal::new(Code::FieldUnknown))?;
                let reference = Reference { item: id, field: name.clone() };
                // The value is sealed to its version: it is opened and sealed again as the newest.
                let value = self.open_value(&reference, &old, None)?;
                // EXPOSE: into a draft that wipes it.
                let draft = FieldDraft {
                    name: name.clone(),
                    class: old.class,
                    value: strongroom_wire::SecretValue::new(value.expose().to_vec()),
                };
                self.set_fields(id, &[draft], &[], now, cx)?;
                self.void_for_item(id)?;
                event.reference = Some(reference);
                event.field_version = Some(version);
            }
        }
        item.version += 1;
        item.changed_at = now;
        self.put(Table::Items, id.as_bytes(), &item)?;
        self.log(event, cx)?;
        self.view(id).map(DeviceAnswer::Item)
    }

    pub(crate) fn item_history(&mut self, id: ItemId) -> Result<DeviceAnswer, Refusal> {
        self.item(id)?;
        let mut versions = Vec::new();
        for (key, field) in self.all::<Field>(Table::Fields, id.as_bytes())? {
            versions.push(version_view(&key, &field, true)?);
        }
        for (key, field) in self.all::<Field>(Table::History, id.as_bytes())? {
            versions.push(version_view(&key, &field, false)?);
        }
        versions.sort_by(|a, b| b.changed_at.cmp(&a.changed_at).then_with(|| b.version.cmp(&a.version)));
        Ok(DeviceAnswer::History { versions })
    }

    pub(crate) fn view(&mut self, id: ItemId) -> Result<ItemView, Refusal> {
        let item = self.item(id)?;
        let mut fields = Vec::new();
        for (key, field) in self.all::<Field>(Table::Fields, id.as_bytes())? {
            let value = match &field.value {
                Value::Open(bytes) => String::from_utf8(bytes.0.clone()).ok(),
                _ => None,
            };
            fields.push(FieldView {
                name: name_of(&key)?,
                class: field.class,
                version: field.version,
                changed_at: field.changed_at,
                value,
            });
        }
        let usual: Vec<&str> = item.item_type.usual_fields().iter().map(|(name, _)| *name).collect();
        fields.sort_by_key(|field| {
            let place = usual.iter().position(|name| *name == field.name.as_str()).unwrap_or(usual.len());
            (place, field.name.clone())
        });
        Ok(ItemView {
            summary: summary(id, &item),
            version: item.version,
            added_at: item.added_at,
            fields,
            policy: item.policy,
            policy_version: item.policy_version,
            origin: item.origin,
        })
    }

    pub(crate) fn item_list(&mut self, query: &ListQuery) -> Result<DeviceAnswer, Refusal> {
        let words: Vec<String> =
            query.search.iter().flat_map(|s| s.split_whitespace()).map(str::to_lowercase).collect();
        let mut items = Vec::new();
        let mut bytes = 0;
        let mut after: Option<Vec<u8>> = query.after.map(|id| id.as_bytes().to_vec());
        loop {
            let page = self.opened()?.1.scan(Table::Items, &[], after.as_deref(), LIST_SCAN)?;
            let whole = page.len() < LIST_SCAN;
            for (key, record) in page {
                let (id, item): (ItemId, Listed) = (id_of(&key)?, crate::ledger::parse(&record)?);
                after = Some(key);
                let wanted = item.removed_at.is_some() == query.removed
                    && query.item_type.is_none_or(|kind| kind == item.item_type)
                    && matches(&item, &words);
                if wanted {
                    // What JSON escapes takes two bytes.
                    bytes += 2 * label_bytes(&item.label, &item.tags) + SUMMARY_BYTES;
                    items.push(item.summary(id));
                    if items.len() == limits::LIST_PAGE_MAX || bytes > LIST_PAGE_BYTES {
                        return Ok(DeviceAnswer::Items { items, next: Some(id) });
                    }
                }
            }
            if whole {
                return Ok(DeviceAnswer::Items { items, next: None });
            }
        }
    }
}

fn summary(id: ItemId, item: &Item) -> ItemSummary {
    ItemSummary {
        id,
        item_type: item.item_type,
        label: item.label.clone(),
        tags: item.tags.clone(),
        changed_at: item.changed_at,
        removed: item.removed_at.is_some(),
    }
}

fn version_view(key: &[u8], field: &Field, current: bool) -> Result<VersionView, Refusal> {
    Ok(VersionView { field: name_of(key)?, version: field.version, changed_at: field.changed_at, current })
}

fn matches(item: &Listed, words: &[String]) -> bool {
    words.iter().all(|word| {
        item.label.to_lowercase().contains(word)
            || item.item_type.as_str().contains(word.as_str())
            || item.tags.iter().any(|tag| tag.to_lowercase().contains(word))
    })
}

/// Bytes of labels and tags on one page of a list, before the last item, and what else a summary takes.
const LIST_PAGE_BYTES: usize = 512 * 1024;
const SUMMARY_BYTES: usize = 192;
/// Items read at once while a list is made.
const LIST_SCAN: usize = 512;

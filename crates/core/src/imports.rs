//! Items from other programs' files: what is new comes in, what changed is updated, and what was done here is kept.

use strongroom_crypto::digest::hmac_sha256;
use strongroom_wire::code::Blame;
use strongroom_wire::device::{DeviceAnswer, ImportOutcome};
use strongroom_wire::event::{Action, Actor};
use strongroom_wire::items::ItemDraft;
use strongroom_wire::{Bytes, Class, Code, DeviceId, ItemId, Refusal, SecretValue};

use crate::drafts::check_draft;
use crate::items::{Field, Imported, field_key, origin_key};
use crate::records::{Storage, Table};
use crate::vault::{Context, Vault, random_id};

/// What an import may do.
#[derive(Clone, Copy)]
pub(crate) struct ImportHow {
    /// Nothing; it only says what it would.
    pub(crate) dry_run: bool,
    /// Replace also what was changed here since, and what guests were granted.
    pub(crate) overwrite: bool,
}

impl<S: Storage> Vault<S> {
    pub(crate) fn item_import(
        &mut self,
        device: DeviceId,
        drafts: Vec<ItemDraft>,
        how: ImportHow,
        cx: &mut Context<'_>,
    ) -> Result<DeviceAnswer, Refusal> {
        if drafts.len() > IMPORT_PAGE_MAX {
            return Err(Refusal::new(Code::TooMany).detail(format!("At most {IMPORT_PAGE_MAX} items at a time.")));
        }
        let mut outcomes = Vec::with_capacity(drafts.len());
        let mut changed = 0;
        for draft in drafts {
            let outcome = match self.in_transaction(cx, |vault, cx| vault.import_one(draft, how, cx)) {
                Ok(outcome) => outcome,
                // A row that does not fit is listed; the rest comes in.
                Err(refusal) if refusal.code.blame() == Blame::Asker => ImportOutcome::Refused,
                Err(refusal) => return Err(refusal),
            };
            changed += u64::from(matches!(outcome, ImportOutcome::Added | ImportOutcome::Updated));
            outcomes.push(outcome);
        }
        if changed > 0 && !how.dry_run {
            let mut event = self.event(Actor::Device(device), Action::ItemImport, cx);
            event.count = Some(changed);
            self.log(event, cx)?;
        }
        Ok(DeviceAnswer::Imported { outcomes })
    }

    fn import_one(
        &mut self,
        mut draft: ItemDraft,
        how: ImportHow,
        cx: &mut Context<'_>,
    ) -> Result<ImportOutcome, Refusal> {
        if check_draft(&draft).is_err() || self.check_values(&draft.policy, draft.item_type, &draft.fields, cx).is_err()
        {
            return Ok(ImportOutcome::Refused);
        }
        self.check_room()?;
        let digest = self.import_digest(&draft, how, cx)?;
        let known: Option<ItemId> = match &draft.origin {
            Some(origin) => self.get(Table::Origins, &origin_key(origin))?,
            None => None,
        };
        let Some(id) = known else {
            if !how.dry_run {
                let id = ItemId(random_id(cx.rng));
                self.insert(id, draft, Some(digest), cx)?;
            }
            return Ok(ImportOutcome::Added);
        };
        let mut item = self.item(id)?;
        if item.imported.as_ref().is_some_and(|imported| imported.digest == digest) {
            return Ok(ImportOutcome::Unchanged);
        }
        // A critical value is replaced by whoever presents the credential, not by a file.
        for field in &draft.fields {
            let old: Option<Field> = self.get(Table::Fields, &field_key(id, &field.name))?;
            if old.is_some_and(|old| old.class == Class::Critical) {
                return Ok(ImportOutcome::Refused);
            }
        }
        // The item keeps its own type and policy, and its values fit them.
        if self.check_values(&item.policy, item.item_type, &draft.fields, cx).is_err() {
            return Ok(ImportOutcome::Refused);
        }
        // A file does not take back in silence what was done here, and not what guests use.
        let touched = item.removed_at.is_some()
            || item.imported.as_ref().is_none_or(|imported| imported.version != item.version)
            || self.grants()?.iter().any(|(_, grant)| grant.given.reference.item == id);
        if touched && !how.overwrite {
            return Ok(ImportOutcome::Kept);
        }
        if how.dry_run {
            return Ok(ImportOutcome::Updated);
        }
        let now = self.now(cx);
        draft.fields.retain(|field| field.class <= Class::Secret);
        self.set_fields(id, &draft.fields, &[], now, cx)?;
        self.void_for_item(id)?;
        item.label = draft.label;
        item.tags = draft.tags;
        item.version += 1;
        item.imported = Some(Imported { digest, version: item.version });
        item.removed_at = None;
        item.changed_at = now;
        self.put(Table::Items, id.as_bytes(), &item)?;
        Ok(ImportOutcome::Updated)
    }

    /// A keyed digest of a draft: the same draft again is recognised without opening anything, whatever became of the vault key
    /// in between.
    fn import_digest(&mut self, draft: &ItemDraft, how: ImportHow, cx: &mut Context<'_>) -> Result<Bytes, Refusal> {
        let json = zeroize::Zeroizing::new(serde_json::to_vec(draft).map_err(|_| Refusal::new(Code::Bug))?);
        let key: Option<SecretValue> = self.get(Table::Settings, SETTING_IMPORTS)?;
        let key = match key {
            Some(key) => key,
            // Nothing was ever imported.
            None if how.dry_run => return Ok(Bytes::default()),
            None => {
                let mut bytes = vec![0; 32];
                cx.rng.fill_bytes(&mut bytes);
                let key = SecretValue::new(bytes);
                self.put(Table::Settings, SETTING_IMPORTS, &key)?;
                let event = self.event(Actor::Vault, Action::Settle, cx);
                self.log(event, cx)?;
                key
            }
        };
        // EXPOSE: HMAC mixes the key into its state; the digest tells nothing of it.
        Ok(Bytes::from(hmac_sha256(key.expose(), &[&json])))
    }
}

/// The setting that holds the key of the digests of imported drafts.
const SETTING_IMPORTS: &[u8] = b"imports";
/// Items of one import request.
const IMPORT_PAGE_MAX: usize = 256;

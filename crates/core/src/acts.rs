//! From a device's request, once it may, to the rule that does it.

use strongroom_wire::device::{DeviceAnswer, DeviceRequest, ItemEdit};
use strongroom_wire::items::FieldDraft;
use strongroom_wire::{Class, Code, DeviceId, ItemId, Refusal, RequestId};

use crate::chains::Contents;
use crate::items::{Field, field_key};
use crate::records::{Storage, Table};
use crate::vault::{Context, Request, Vault};
use strongroom_wire::event::{Action, Actor};

impl<S: Storage> Vault<S> {
    /// Does what a device asked. `None`: the answer comes later.
    pub(crate) fn device_act(
        &mut self,
        device: DeviceId,
        body: DeviceRequest,
        request: &Request<'_>,
        contents: Option<&Contents>,
        cx: &mut Context<'_>,
    ) -> Result<Option<DeviceAnswer>, Refusal> {
        use DeviceRequest as R;
        let answer = match body {
            R::Status {} => DeviceAnswer::Status(self.status(Some(device), cx)),
            R::Challenge {} => self.challenge(device, cx)?,
            R::Create(_) => return Err(Code::VaultExists.into()),
            R::SlotList {} => self.slot_list()?,
            R::Unlock(unlock) => self.unlock(device, &unlock, cx)?,
            R::LogConfirm(position) => self.log_confirm(device, &position, cx)?,
            R::SessionBegin {} => {
                let expires_at = self.begin_session(device, cx)?;
                let event = self.event(Actor::Device(device), Action::SessionBegin, cx);
                self.log(event, cx)?;
                DeviceAnswer::Session { expires_at }
            }
            R::SessionEnd {} => {
                self.opened()?.0.sessions.remove(&device);
                let event = self.event(Actor::Device(device), Action::SessionEnd, cx);
                self.log(event, cx)?;
                DeviceAnswer::Done {}
            }
            R::Lock {} => {
                self.lock_now(Actor::Device(device), cx);
                DeviceAnswer::Done {}
            }
            R::ItemAdd(draft) => self.item_add(device, draft, request.id, cx)?,
            R::ItemList(query) => self.item_list(&query)?,
            R::ItemShow { item } => DeviceAnswer::Item(self.view(item)?),
            R::ItemEdit(edit) => self.item_edit(device, edit, cx)?,
            R::ItemRemove { item, purge } => self.item_remove(device, item, purge, cx)?,
            R::ItemHistory { item } => self.item_history(item)?,
            R::ItemRestore { item, version } => self.item_restore(device, item, version, cx)?,
            R::ItemImport { drafts, dry_run } => self.item_import(device, drafts, dry_run, cx)?,
            R::GuestAdd(add) => self.guest_add(device, &add, contents, cx)?,
            R::GuestList {} => self.guest_list()?,
            R::GuestSuspend { guest, suspended } => self.guest_suspend(device, guest, suspended, cx)?,
            R::GuestRevoke { guest } => self.guest_revoke(device, guest, cx)?,
            R::GrantAdd(add) => DeviceAnswer::Grant(self.grant_add(Actor::Device(device), &add, cx)?.1),
            R::GrantList { guest } => self.grant_list(guest)?,
            R::GrantRevoke { grant } => self.grant_revoke(device, grant, cx)?,
            R::ApprovalList { after, wait_secs } => return self.approval_list(after, wait_secs, request.to, cx),
            R::ApprovalAnswer(answer) => self.approval_answer(device, &answer, cx)?,
            R::Use(call) => return self.device_use(device, call, contents, request.to, cx),
            R::Deliver(deliver) => self.deliver(device, deliver, contents, cx)?,
            R::AuditList(query) => return self.audit_list(device, &query, request.to, cx),
            R::AuditHashes { from, count } => self.audit_hashes(from, count)?,
            R::AuditCheckpoint { from_size } => self.audit_checkpoint(from_size)?,
            R::AuditProve { index } => self.audit_prove(device, index, cx)?,
            R::SlotAdd(draft) => self.slot_add(device, &draft, cx)?,
            R::SlotRemove { slot } => self.slot_remove(device, slot, cx)?,
            R::SlotReplace { slot, draft } => self.slot_replace(device, slot, &draft, contents, cx)?,
            R::DeviceList {} => self.device_list(device, cx)?,
            R::DeviceAdd(add) => self.device_add(device, &add, contents, cx)?,
            R::DeviceRevoke { device: other } => self.device_revoke(device, other, cx)?,
            R::ConfigShow {} => self.config_show()?,
            R::ConfigSet(change) => self.config_set(device, &change, cx)?,
            R::VaultDelete { vault } => self.vault_delete(device, vault, cx)?,
            R::CredentialConfirm { .. } => return Err(Code::Bug.into()),
        };
        Ok(Some(answer))
    }

    /// The change that a request makes in the credential's contents: critical values that it adds or replaces.
    pub(crate) fn change_contents(
        &mut self,
        body: &DeviceRequest,
        request: RequestId,
        contents: &mut Contents,
    ) -> Result<(), Refusal> {
        match body {
            DeviceRequest::ItemAdd(draft) => self.put_critical(ItemId(request.0), &draft.fields, contents),
            DeviceRequest::ItemEdit(ItemEdit { item, set, remove, .. }) => {
                self.live_item(*item)?;
                for name in remove {
                    contents.forget(*item, Some(name));
                }
                self.put_critical(*item, set, contents)
            }
            _ => Ok(()),
        }
    }

    fn put_critical(&mut self, item: ItemId, fields: &[FieldDraft], contents: &mut Contents) -> Result<(), Refusal> {
        for field in fields.iter().filter(|field| field.class == Class::Critical) {
            let old: Option<Field> = self.get(Table::Fields, &field_key(item, &field.name))?;
            let version = old.map_or(1, |old| old.version + 1);
            contents.put_critical(item, &field.name, version, field.value.duplicate());
        }
        Ok(())
    }
}

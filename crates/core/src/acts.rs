//! From a device's request, once it may, to the rule that does it.

use strongroom_wire::device::{DeviceAnswer, DeviceRequest, ItemEdit};
use strongroom_wire::event::{Action, Actor};
use strongroom_wire::items::FieldDraft;
use strongroom_wire::{Class, Code, DeviceId, ItemId, Refusal, RequestId};

use crate::chains::Contents;
use crate::imports::ImportHow;
use crate::items::{Field, field_key};
use crate::records::{Storage, Table};
use crate::vault::{Context, Request, Vault};

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
            R::Create(_) | R::Rescue(_) => return Err(Code::VaultExists.into()),
            R::SlotList {} => self.slot_list()?,
            R::LogConfirm(position) => self.log_confirm(device, &position, cx)?,
            R::SessionBegin {} => {
                let expires_at = self.begin_session(device, cx)?;
                let event = self.event(Actor::Device(device), Action::SessionBegin, cx);
                self.log(event, cx)?;
                DeviceAnswer::Session { expires_at }
            }
            R::SessionEnd {} => {
                self.opened()?.0.live_mut().sessions.remove(&device);
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
            R::ItemImport { drafts, dry_run, overwrite } => {
                self.item_import(device, drafts, ImportHow { dry_run, overwrite }, cx)?
            }
            R::GuestAdd(add) => self.guest_add(device, &add, contents, cx)?,
            R::GuestList {} => self.guest_list()?,
            R::GuestSuspend { guest, suspended } => self.guest_suspend(device, guest, suspended, cx)?,
            R::GuestRevoke { guest } => self.guest_revoke(device, guest, cx)?,
            R::GrantAdd(add) => DeviceAnswer::Grant(self.grant_add(Actor::Device(device), &add, Vec::new(), cx)?.1),
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
            R::UpdateAccept { program } => self.update_accept(device, &program, cx)?,
            R::UnattendedSet { on } => return self.unattended_set(device, on, request.to, cx),
            R::VaultDelete { vault } => self.vault_delete(device, vault, cx)?,
            R::Unlock(_) | R::CredentialConfirm { .. } => return Err(Code::Bug.into()),
        };
        Ok(Some(answer))
    }

    /// The change that a request makes in the credential's contents: critical values that it adds or replaces. What a request
    /// takes away stays until the next change, for whether the request will be done is not known yet.
    pub(crate) fn change_contents(
        &mut self,
        body: &DeviceRequest,
        request: RequestId,
        contents: &mut Contents,
    ) -> Result<(), Refusal> {
        let Some((item, fields)) = critical_of(body, request) else { return Ok(()) };
        for (item, field, version) in contents.places() {
            let place: Option<Field> = self.get(Table::Fields, &field_key(item, &field))?;
            if !place.is_some_and(|place| place.class == Class::Critical && place.version == version) {
                contents.forget(item, &field, version);
            }
        }
        for field in fields {
            let version = self.next_version(item, &field.name)?;
            contents.put_critical(item, &field.name, version, field.value.duplicate());
        }
        Ok(())
    }

    /// Whether the contents hold what a request is about to write, under the very version that it writes.
    pub(crate) fn check_contents(
        &mut self,
        body: &DeviceRequest,
        request: RequestId,
        contents: &Contents,
    ) -> Result<(), Refusal> {
        let Some((item, fields)) = critical_of(body, request) else { return Ok(()) };
        for field in fields {
            let version = self.next_version(item, &field.name)?;
            if contents.critical(item, &field.name, version).is_none() {
                return Err(
                    Refusal::new(Code::Conflict).detail("The field has changed meanwhile; send the request again.")
                );
            }
        }
        Ok(())
    }
}

/// The item and the critical fields that a request writes.
fn critical_of(body: &DeviceRequest, request: RequestId) -> Option<(ItemId, Vec<&FieldDraft>)> {
    let (item, fields) = match body {
        DeviceRequest::ItemAdd(draft) => (ItemId(request.0), &draft.fields),
        DeviceRequest::ItemEdit(ItemEdit { item, set, .. }) => (*item, set),
        _ => return None,
    };
    Some((item, fields.iter().filter(|field| field.class == Class::Critical).collect()))
}

//! Values for the device half of a consumer: the clipboard, a child program, an export.

use std::collections::BTreeSet;

use strongroom_wire::device::{DeliverRequest, DeliveredValue, DeviceAnswer};
use strongroom_wire::event::{Action, Actor};
use strongroom_wire::policy::Consumer;
use strongroom_wire::{Class, Code, DeviceId, FieldName, ItemId, Reference, Refusal, SecretValue, limits};

use crate::chains::Contents;
use crate::drafts::label_bytes;
use crate::items::{Field, Item};
use crate::records::{Storage, Table};
use crate::vault::{Context, Vault};

impl<S: Storage> Vault<S> {
    /// Values for a consumer's device half.
    pub(crate) fn deliver(
        &mut self,
        device: DeviceId,
        request: DeliverRequest,
        contents: Option<&Contents>,
        cx: &mut Context<'_>,
    ) -> Result<DeviceAnswer, Refusal> {
        let consumer = request.consumer;
        if consumer.for_guests() || request.references.len() > limits::ITEM_FIELDS_MAX {
            return Err(Code::ValueRefused.into());
        }
        if request.references.is_empty() && consumer != Consumer::Export {
            return Err(Refusal::new(Code::ValueRefused).detail("Name what is to be delivered."));
        }
        if let Some(program) = &request.program {
            crate::vault::check_text(program)?;
        }
        let (wanted, critical, next) = match request.references.is_empty() {
            false => (request.references, Vec::new(), None),
            true => self.export_page(request.after)?,
        };
        let mut fields = Vec::new();
        for reference in wanted {
            let field = self.field(&reference)?;
            let mut event = self.event(Actor::Device(device), Action::Deliver, cx);
            event.reference = Some(reference.clone());
            event.field_version = Some(field.version);
            event.consumer = Some(consumer);
            event.note = request.program.as_ref().map(|program| program.chars().take(256).collect());
            self.log(event, cx)?;
            fields.push((reference, field));
        }
        let mut values = Vec::new();
        let mut told = BTreeSet::new();
        for (reference, field) in fields {
            let value = self.open_value(&reference, &field, contents)?;
            let item = match consumer {
                Consumer::Export if told.insert(reference.item) => Some(self.view(reference.item)?.summary),
                _ => None,
            };
            // EXPOSE: the one answer that carries values: for the device half of the consumer that the member named.
            values.push(DeliveredValue { reference, item, value: SecretValue::new(value.expose().to_vec()) });
        }
        Ok(DeviceAnswer::Delivered { values, critical, next })
    }

    /// The fields of a page that the database holds, those that it does not, and where the next page begins.
    fn export_page(&mut self, after: Option<ItemId>) -> Result<ExportPage, Refusal> {
        let (mut references, mut critical) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        let mut after: Option<Vec<u8>> = after.map(|id| id.as_bytes().to_vec());
        loop {
            let page = self.opened()?.1.scan(Table::Items, &[], after.as_deref(), 64)?;
            if page.is_empty() {
                return Ok((references, critical, None));
            }
            for (key, record) in page {
                let id = ItemId(key.as_slice().try_into().map_err(|_| Refusal::new(Code::StoreRefused))?);
                let item: Item = crate::ledger::parse(&record)?;
                after = Some(key);
                if item.removed_at.is_some() {
                    continue;
                }
                bytes += 2 * label_bytes(&item.label, &item.tags);
                for (key, field) in self.all::<Field>(Table::Fields, id.as_bytes())? {
                    let name = std::str::from_utf8(&key[16..]).map_err(|_| Refusal::new(Code::StoreRefused))?;
                    let field_name = FieldName::parse(name).map_err(|_| Refusal::new(Code::StoreRefused))?;
                    bytes += serde_json::to_vec(&field).map_or(0, |json| json.len()) + 256;
                    let of_class = if field.class == Class::Critical { &mut critical } else { &mut references };
                    of_class.push(Reference { item: id, field: field_name });
                }
                if bytes > EXPORT_PAGE_BYTES {
                    return Ok((references, critical, Some(id)));
                }
            }
        }
    }
}

/// Fields to deliver, critical fields, and the item to go on after.
type ExportPage = (Vec<Reference>, Vec<Reference>, Option<ItemId>);

/// Bytes of sealed values on one page of an export, before the last item.
const EXPORT_PAGE_BYTES: usize = 128 * 1_024;

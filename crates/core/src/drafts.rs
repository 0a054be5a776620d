//! What an item may be: its label and tags, its fields, and where its secret may go.

use std::collections::BTreeSet;

use strongroom_wire::items::{FieldDraft, ItemDraft};
use strongroom_wire::policy::{HttpPolicy, ItemPolicy, Placement};
use strongroom_wire::{Code, Refusal, limits};

use crate::vault::check_label;

pub(crate) fn check_draft(draft: &ItemDraft) -> Result<(), Refusal> {
    check_label(&draft.label)?;
    check_tags(&draft.tags)?;
    check_labels(&draft.label, &draft.tags)?;
    check_fields(&draft.fields)?;
    check_policy(&draft.policy)?;
    if draft.fields.is_empty() {
        return Err(Refusal::new(Code::ValueRefused).detail("An item has at least one field."));
    }
    // EXPOSE: counted, not read.
    let bytes: usize = draft.fields.iter().map(|field| field.name.as_str().len() + field.value.expose().len()).sum();
    if draft.fields.len() > limits::ITEM_FIELDS_MAX || bytes + draft.label.len() > limits::ITEM_BYTES_MAX {
        return Err(Refusal::new(Code::TooMany).detail(format!(
            "An item has at most {} fields and {} KiB.",
            limits::ITEM_FIELDS_MAX,
            limits::ITEM_BYTES_MAX / 1_024
        )));
    }
    if let Some(origin) = &draft.origin
        && (origin.source.len() > 64 || origin.id.len() > 256 || origin.source.contains('\0'))
    {
        return Err(Refusal::new(Code::ValueRefused).detail("The origin is too long."));
    }
    Ok(())
}

pub(crate) fn check_fields(fields: &[FieldDraft]) -> Result<(), Refusal> {
    let mut names = BTreeSet::new();
    for field in fields {
        if !names.insert(&field.name) {
            return Err(Refusal::new(Code::ValueRefused).detail(format!("The field {} is there twice.", field.name)));
        }
    }
    Ok(())
}

/// Label and tags come with every list and every page of an export.
pub(crate) fn check_labels(label: &str, tags: &[String]) -> Result<(), Refusal> {
    if label_bytes(label, tags) > limits::ITEM_LABELS_BYTES_MAX {
        let most = limits::ITEM_LABELS_BYTES_MAX / 1_024;
        return Err(Refusal::new(Code::TooMany).detail(format!("An item's label and tags have at most {most} KiB.")));
    }
    Ok(())
}

/// Bytes of a label and tags.
pub(crate) fn label_bytes(label: &str, tags: &[String]) -> usize {
    label.len() + tags.iter().map(String::len).sum::<usize>()
}

pub(crate) fn check_tags(tags: &[String]) -> Result<(), Refusal> {
    if tags.len() > limits::TAGS_MAX {
        return Err(Refusal::new(Code::TooMany).detail(format!("An item has at most {} tags.", limits::TAGS_MAX)));
    }
    tags.iter().try_for_each(|tag| check_label(tag))
}

pub(crate) fn check_policy(policy: &ItemPolicy) -> Result<(), Refusal> {
    let refused = |why: &str| Err(Refusal::new(Code::ValueRefused).detail(why.to_owned()));
    if let Some(key) = policy.key
        && !key.fits()
    {
        return refused("Purpose and algorithm of the key do not go together.");
    }
    let Some(HttpPolicy { hosts, placement, roots_pem, .. }) = &policy.http else { return Ok(()) };
    if hosts.is_empty() || hosts.len() > 64 {
        return refused("An item names 1 to 64 hosts.");
    }
    if roots_pem.as_ref().is_some_and(|pem| pem.len() > 64 * 1_024) {
        return refused("The certificates are larger than 64 KiB.");
    }
    let token = |name: &str| {
        !name.is_empty()
            && name.len() <= 128
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    let visible = |text: &str| text.len() <= 256 && text.bytes().all(|b| (b' '..0x7f).contains(&b));
    let fits = match placement {
        Placement::Bearer => true,
        Placement::Basic { username } => visible(username) && !username.contains(':'),
        Placement::Header { name, prefix } => token(name) && visible(prefix),
        Placement::Query { name } => token(name),
        Placement::Hmac(hmac) => {
            token(&hmac.header)
                && visible(&hmac.prefix)
                && hmac.timestamp_header.as_deref().is_none_or(token)
                && !hmac.parts.is_empty()
                && hmac.parts.len() <= 16
        }
        Placement::AwsSigV4 { access_key_id, region, service } => {
            visible(access_key_id) && token(region) && token(service)
        }
    };
    if fits { Ok(()) } else { refused("A name, prefix or user name of the placement is malformed.") }
}

//! Items to other programs' formats.
//!
//! Each function returns the file and a report in the same words as an import's: what the format has no place for. Whatever
//! one of our imports carries out of a plain Bitwarden export comes back the same from [`bitwarden_json`].

mod bitwarden;
mod csv;
mod env;

use strongroom_wire::items::{ItemDraft, Origin};
use strongroom_wire::{Class, FieldName, ItemType, SecretValue};
use zeroize::Zeroizing;

use crate::report::{NotCarried, Place, Reason};

pub use bitwarden::bitwarden_json;
pub use csv::csv;
pub use env::env;

/// A field with its value.
#[derive(Debug)]
pub struct ExportField {
    /// Its name.
    pub name: FieldName,
    /// How it is guarded.
    pub class: Class,
    /// Its value.
    pub value: SecretValue,
}

/// An item with its values.
#[derive(Debug)]
pub struct ExportItem {
    /// What it is.
    pub item_type: ItemType,
    /// What the member calls it.
    pub label: String,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Its fields.
    pub fields: Vec<ExportField>,
    /// Where it was imported from.
    pub origin: Option<Origin>,
}

impl From<ItemDraft> for ExportItem {
    fn from(item: ItemDraft) -> Self {
        let field = |field: strongroom_wire::items::FieldDraft| ExportField {
            name: field.name,
            class: field.class,
            value: field.value,
        };
        Self {
            item_type: item.item_type,
            label: item.label,
            tags: item.tags,
            fields: item.fields.into_iter().map(field).collect(),
            origin: item.origin,
        }
    }
}

impl ExportItem {
    /// A field's text; `None` where it is absent or bytes.
    fn text(&self, name: &str) -> Option<&str> {
        // EXPOSE: the caller writes the value into the file that the member asked for.
        self.fields.iter().find(|field| field.name.as_str() == name)?.value.expose_str()
    }
}

/// A file to hand over, and what it does not hold.
#[derive(Debug)]
pub struct Exported {
    /// The file; it holds the values in the clear.
    pub file: SecretValue,
    /// What it does not hold.
    pub not_carried: Vec<NotCarried>,
}

/// The report of an export.
#[derive(Default)]
struct Losses(Vec<NotCarried>);

impl Losses {
    fn note(&mut self, number: usize, item: &ExportItem, what: &str, reason: Reason) {
        let place = Place::entry(number as u64 + 1).labelled(&item.label);
        self.0.push(NotCarried::new(place, what, reason, 1));
    }
}

/// A buffer for a whole file. It is sized beforehand, so that growing leaves no copies behind.
fn buffer(items: &[ExportItem]) -> Zeroizing<Vec<u8>> {
    // EXPOSE: only lengths are looked at. No format writes more than 6 bytes for one, and names and marks around it.
    let field = |field: &ExportField| field.value.expose().len() * 6 + field.name.as_str().len() + 160;
    let item = |item: &ExportItem| {
        let tags: usize = item.tags.iter().map(|tag| tag.len() * 6 + 256).sum();
        // `env` repeats the label in the name of each field.
        item.label.len() * (6 + item.fields.len()) + tags + item.fields.iter().map(field).sum::<usize>() + 2048
    };
    Zeroizing::new(Vec::with_capacity(items.iter().map(item).sum::<usize>() + 4096))
}

fn exported(mut file: Zeroizing<Vec<u8>>, losses: Losses) -> Exported {
    Exported { file: SecretValue::new(std::mem::take(&mut *file)), not_carried: losses.0 }
}

#[cfg(test)]
mod tests {
    use strongroom_wire::limits::{ITEM_FIELDS_MAX, LABEL_CHARS_MAX, TAGS_MAX};

    use super::*;

    #[test]
    fn no_file_outgrows_its_buffer() {
        let field = |n: usize| ExportField {
            name: FieldName::from_foreign(&format!("url-{n}{}", "-".repeat(50 * (n % 2)))),
            class: if n.is_multiple_of(3) { Class::Private } else { Class::Secret },
            value: SecretValue::new(vec![1; n % 5]),
        };
        let item = |item_type: &ItemType| ExportItem {
            item_type: *item_type,
            label: "\"".repeat(LABEL_CHARS_MAX),
            tags: (0..TAGS_MAX).map(|n| format!("{n}\u{1}")).collect(),
            fields: (0..ITEM_FIELDS_MAX).map(field).collect(),
            origin: None,
        };
        let items: Vec<ExportItem> = ItemType::ALL.iter().map(item).collect();
        for exported in [bitwarden_json(&items), csv(&items), env(&items)] {
            assert!(exported.file.expose().len() <= buffer(&items).capacity());
        }
    }
}

//! An item being put together, with the limits of the wire enforced and every loss noted.

use std::collections::HashSet;

use strongroom_wire::items::{FieldDraft, ItemDraft};
use strongroom_wire::limits::{ITEM_BYTES_MAX, ITEM_FIELDS_MAX, LABEL_CHARS_MAX, TAGS_MAX};
use strongroom_wire::policy::ItemPolicy;
use strongroom_wire::{Class, FieldName, ItemType, SecretValue};
use zeroize::Zeroizing;

use crate::report::{Place, Reason};
use crate::text::{Text, one_line, sounds_secret};

/// An item being put together.
pub(crate) struct Draft {
    item: ItemDraft,
    names: HashSet<FieldName>,
    bytes: usize,
    place: Place,
    lost: Vec<(String, Reason)>,
}

impl Draft {
    /// An item with the first of `labels` that is not blank.
    pub(crate) fn new(item_type: ItemType, labels: &[&str], place: Place) -> Self {
        let fit = labels.iter().map(|label| one_line(label, LABEL_CHARS_MAX).0).find(|fit| !fit.trim().is_empty());
        let fit = fit.unwrap_or_else(|| "(no name)".to_owned());
        let changed = labels.first().is_some_and(|label| !label.is_empty() && *label != fit);
        let mut draft = Self {
            bytes: fit.len(),
            place: place.labelled(&fit),
            item: ItemDraft {
                item_type,
                label: fit,
                tags: Vec::new(),
                fields: Vec::new(),
                policy: ItemPolicy::default(),
                origin: None,
            },
            names: HashSet::new(),
            lost: Vec::new(),
        };
        if changed {
            draft.lose("its name", Reason::Altered);
        }
        draft
    }

    /// Adds a tag, once.
    pub(crate) fn tag(&mut self, tag: &str) {
        let (fit, changed) = one_line(tag, LABEL_CHARS_MAX);
        if fit.trim().is_empty() {
            return;
        }
        if self.item.tags.contains(&fit) {
            return;
        }
        if self.item.tags.len() >= TAGS_MAX {
            return self.lose(format!("tag \"{fit}\""), Reason::TooMany);
        }
        if changed {
            self.lose(format!("tag \"{fit}\""), Reason::Altered);
        }
        self.bytes += fit.len();
        self.item.tags.push(fit);
    }

    /// Adds a usual field of the item's type, unless it is empty.
    pub(crate) fn usual(&mut self, name: &str, value: Option<Text>) {
        self.known(name, self.item.item_type.class_of(name), value);
    }

    /// Adds a field that this crate names, unless it is empty.
    pub(crate) fn known(&mut self, name: &str, class: Class, value: Option<Text>) {
        let Some(mut value) = value.filter(|value| !value.is_empty()) else { return };
        let name = FieldName::from_foreign(name);
        self.push(name.as_str().to_owned(), name, class, SecretValue::from(std::mem::take(&mut *value)));
    }

    /// Adds the addresses of a login: `url`, `url-2` and so on.
    pub(crate) fn urls(&mut self, urls: Vec<Text>) {
        for (n, url) in urls.into_iter().enumerate() {
            let name = if n == 0 { "url".to_owned() } else { format!("url-{}", n + 1) };
            self.known(&name, Class::Private, Some(url));
        }
    }

    /// Adds a field that the member named in the other program. Names that this crate gives a meaning to stay free of it.
    pub(crate) fn custom(&mut self, foreign: &str, hidden: bool, value: SecretValue) {
        if value.expose().is_empty() {
            // EXPOSE: only its length is looked at.
            return self.lose(format!("field \"{foreign}\""), Reason::Empty);
        }
        let class = if hidden || sounds_secret(foreign) { Class::Secret } else { Class::Private };
        let mut name = FieldName::from_foreign(foreign);
        if self.is_reserved(name.as_str()) {
            name = FieldName::from_foreign(&format!("custom_{name}"));
        }
        self.push(foreign.to_owned(), name, class, value);
    }

    /// Notes something that does not come along.
    pub(crate) fn lose(&mut self, what: impl Into<String>, reason: Reason) {
        self.lost.push((what.into(), reason));
    }

    /// The item, where it was, and what it lost.
    pub(crate) fn finish(self) -> (ItemDraft, Place, Vec<(String, Reason)>) {
        (self.item, self.place, self.lost)
    }

    fn push(&mut self, foreign: String, name: FieldName, class: Class, value: SecretValue) {
        let name = self.unused(name);
        // EXPOSE: only its length is looked at.
        let bytes = name.as_str().len() + value.expose().len();
        if self.item.fields.len() >= ITEM_FIELDS_MAX {
            return self.lose(format!("field \"{foreign}\""), Reason::TooMany);
        }
        if self.bytes + bytes > ITEM_BYTES_MAX {
            return self.lose(format!("field \"{foreign}\" ({bytes} bytes)"), Reason::TooLong);
        }
        if !reads_as(&foreign, name.as_str()) {
            self.lose(format!("field \"{foreign}\", now \"{name}\""), Reason::Renamed);
        }
        self.bytes += bytes;
        self.names.insert(name.clone());
        self.item.fields.push(FieldDraft { name, class, value });
    }

    /// The name, or the first of `name-2`, `name-3` and so on that is free.
    fn unused(&self, name: FieldName) -> FieldName {
        if !self.names.contains(&name) {
            return name;
        }
        // At most ITEM_FIELDS_MAX names are taken, so one of the first ITEM_FIELDS_MAX + 1 numbers is free.
        (2..=ITEM_FIELDS_MAX + 2)
            .map(|n| FieldName::from_foreign(&format!("{}-{n}", &name.as_str()[..name.as_str().len().min(56)])))
            .find(|name| !self.names.contains(name))
            .unwrap_or(name)
    }

    fn is_reserved(&self, name: &str) -> bool {
        let further_url = name.strip_prefix("url-").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
        let own =
            FIELDS_BESIDE_USUAL.iter().any(|(item_type, own)| *item_type == self.item.item_type && own.contains(&name));
        let usual = self.item.item_type.usual_fields().iter().any(|(usual, _)| *usual == name);
        own || usual || (further_url && self.item.item_type == ItemType::Login)
    }
}

/// Fields that imports name themselves, beside the usual ones of a type.
pub(crate) const FIELDS_BESIDE_USUAL: &[(ItemType, &[&str])] = &[
    (ItemType::Card, &["exp_month", "exp_year"]),
    (ItemType::Identity, IDENTITY_PARTS),
    (ItemType::SshKey, &["fingerprint"]),
];

/// The parts that other programs cut a person's data into; `name` and `address` are put together from them.
pub(crate) const IDENTITY_PARTS: &[&str] = &[
    "title",
    "first_name",
    "middle_name",
    "last_name",
    "company",
    "username",
    "address_1",
    "address_2",
    "address_3",
    "city",
    "state",
    "postal_code",
    "country",
    "license",
];

/// Text out of a value, wiped when dropped; `None` where it is not UTF-8.
pub(crate) fn text_of(mut bytes: Zeroizing<Vec<u8>>) -> Option<Text> {
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Some(Zeroizing::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            None
        }
    }
}

/// Whether a reader finds the foreign name in the field's name: equal but for case and for what stands between words.
fn reads_as(foreign: &str, name: &str) -> bool {
    let fold = |text: &str| -> String {
        text.chars()
            .map(|c| if matches!(c, ' ' | '-' | '.' | '/' | ':') { '_' } else { c.to_ascii_lowercase() })
            .collect()
    };
    fold(foreign) == fold(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(draft: Draft) -> Vec<String> {
        draft.finish().0.fields.iter().map(|field| field.name.to_string()).collect()
    }

    #[test]
    fn names_are_unique_and_do_not_take_ours() {
        let mut draft = Draft::new(ItemType::Login, &["x"], Place::default());
        draft.usual("password", Some(Zeroizing::new("made-up".into())));
        for name in ["Password", "API key", "api_key", "api key", "url-7", "", "ключ"] {
            draft.custom(name, true, "made-up".into());
        }
        assert_eq!(
            names(draft),
            ["password", "custom_password", "api_key", "api_key-2", "api_key-3", "custom_url-7", "f_", "f_____"]
        );
    }

    #[test]
    fn long_names_stay_unique() {
        let mut draft = Draft::new(ItemType::Note, &["x"], Place::default());
        for _ in 0..ITEM_FIELDS_MAX + 3 {
            draft.custom(&"n".repeat(100), true, "v".into());
        }
        let (item, _, lost) = draft.finish();
        let unique: HashSet<_> = item.fields.iter().map(|field| field.name.clone()).collect();
        assert_eq!((unique.len(), item.fields.len()), (ITEM_FIELDS_MAX, ITEM_FIELDS_MAX));
        assert_eq!(lost.iter().filter(|(_, reason)| *reason == Reason::TooMany).count(), 3);
    }

    #[test]
    fn what_is_too_long_is_named_and_what_follows_still_fits() {
        let mut draft = Draft::new(ItemType::Login, &["", "  ", "label"], Place::entry(3));
        draft.custom("big", true, SecretValue::new(vec![b'x'; ITEM_BYTES_MAX]));
        draft.custom("small", true, "v".into());
        let (item, place, lost) = draft.finish();
        assert_eq!((item.label.as_str(), item.fields.len()), ("label", 1));
        assert_eq!(place.to_string(), "entry 3 (label)");
        assert!(lost[0].0.contains("big") && lost[0].1 == Reason::TooLong);
    }
}

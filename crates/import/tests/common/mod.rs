//! What the stories share: a file in, through the child and back out of its records.
#![allow(dead_code, reason = "each story uses some of it")]

use strongroom_import::{BadRow, Head, ImportRefused, NotCarried, Reason, Record, Summary, child_main, read_records};
use strongroom_wire::items::ItemDraft;

pub(crate) const PASSWORD: &str = "made-up password ü";

/// Everything an import said.
#[derive(Debug)]
pub(crate) struct Import {
    pub(crate) items: Vec<ItemDraft>,
    pub(crate) not_carried: Vec<NotCarried>,
    pub(crate) bad_rows: Vec<BadRow>,
    pub(crate) summary: Summary,
}

/// Runs a file through the child's protocol.
pub(crate) fn import(head: Head, file: &[u8]) -> Result<Import, ImportRefused> {
    let mut request = Vec::new();
    let head = Head { file_bytes: file.len() as u64, ..head };
    strongroom_import::write_request(&mut request, &head, file).expect("a fixture is small");
    let mut output = Vec::new();
    child_main(request.as_slice(), &mut output).expect("memory takes every record");

    let (mut items, mut not_carried, mut bad_rows) = (Vec::new(), Vec::new(), Vec::new());
    for record in read_records(output.as_slice()) {
        match record.expect("the child's records read back") {
            Record::Item(item) => items.push(item),
            Record::NotCarried(line) => not_carried.push(line),
            Record::BadRow(row) => bad_rows.push(row),
            Record::Progress { .. } => {}
            Record::Done(summary) => return Ok(Import { items, not_carried, bad_rows, summary }),
            Record::Refused(refused) => return Err(refused),
        }
    }
    unreachable!("the last record is Done or Refused")
}

/// A file and the export's password.
pub(crate) fn with_password(password: &str, file: &[u8]) -> Result<Import, ImportRefused> {
    import(Head { password: Some(password.into()), ..Head::default() }, file)
}

impl Import {
    pub(crate) fn item(&self, label: &str) -> &ItemDraft {
        self.items.iter().find(|item| item.label == label).unwrap_or_else(|| panic!("no item {label}"))
    }

    /// Whether a line of the report names this, for this reason.
    pub(crate) fn reports(&self, label: &str, what: &str, reason: Reason) -> bool {
        self.not_carried.iter().any(|line| {
            line.place.label.as_deref().unwrap_or_default() == label
                && line.what.contains(what)
                && line.reason == reason
        })
    }
}

/// An item in a form that tests compare: type, label, tags, fields with class and value.
pub(crate) fn plain(item: &ItemDraft) -> String {
    let fields: Vec<String> = item
        .fields
        .iter()
        .map(|field| format!("{} {} {:?}", field.name, field.class, text(item, field.name.as_str())))
        .collect();
    format!("{} {:?} {:?} {:?} {fields:#?}", item.item_type, item.label, item.tags, item.origin)
}

/// A field's text.
pub(crate) fn text<'i>(item: &'i ItemDraft, field: &str) -> &'i str {
    let field = item.fields.iter().find(|f| f.name.as_str() == field).unwrap_or_else(|| panic!("no field {field}"));
    field.value.expose_str().expect("text")
}

/// The names of an item's fields, in order.
pub(crate) fn names(item: &ItemDraft) -> Vec<&str> {
    item.fields.iter().map(|field| field.name.as_str()).collect()
}

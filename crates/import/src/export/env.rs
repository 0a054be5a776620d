//! API keys as `NAME="value"` lines.

use std::collections::HashSet;

use strongroom_wire::Class;

use super::{ExportField, ExportItem, Exported, Losses, buffer, exported};
use crate::report::Reason;

/// Writes the secrets of items as variables: the main field under the item's label, further ones under label and field.
/// Private fields and what is not text are reported.
pub fn env(items: &[ExportItem]) -> Exported {
    let mut losses = Losses::default();
    let mut file = buffer(items);
    let mut names = HashSet::new();
    for (number, item) in items.iter().enumerate() {
        for field in &item.fields {
            // EXPOSE: the value goes into the file that the member asked for.
            let value = field.value.expose_str().filter(|value| !value.contains('\0'));
            let Some(value) = value.filter(|_| field.class >= Class::Secret) else {
                losses.note(number, item, &format!("field \"{}\"", field.name), Reason::NoPlace);
                continue;
            };
            let wanted = wanted_name(item, field);
            let name = variable(&wanted, &mut names);
            if name != wanted {
                losses.note(number, item, &format!("\"{wanted}\", now {name}"), Reason::Renamed);
            }
            push_line(&mut file, &name, value);
        }
    }
    exported(file, losses)
}

fn wanted_name(item: &ExportItem, field: &ExportField) -> String {
    if field.name == item.item_type.main_field() {
        item.label.clone()
    } else {
        format!("{}_{}", item.label, field.name)
    }
}

/// A name that a shell takes and that no variable before has.
fn variable(wanted: &str, names: &mut HashSet<String>) -> String {
    let is_fit = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let mut name = wanted.to_owned();
    if !is_fit(&name) {
        name = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
        if !is_fit(&name) {
            name.insert(0, '_');
        }
    }
    let base = name.clone();
    let mut n = 1_usize;
    while !names.insert(name.clone()) {
        n += 1;
        name = format!("{base}_{n}");
    }
    name
}

/// The value in double quotes, with everything escaped that a shell or another reader of such files would touch.
fn push_line(file: &mut Vec<u8>, name: &str, value: &str) {
    file.extend_from_slice(name.as_bytes());
    file.extend_from_slice(b"=\"");
    for byte in value.bytes() {
        match byte {
            b'\n' => file.extend_from_slice(b"\\n"),
            b'\r' => file.extend_from_slice(b"\\r"),
            b'"' | b'\\' | b'$' | b'`' => file.extend_from_slice(&[b'\\', byte]),
            _ => file.push(byte),
        }
    }
    file.extend_from_slice(b"\"\n");
}

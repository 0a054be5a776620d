//! Logins as the CSV that Chrome writes, which every browser and most password managers read.

use strongroom_wire::ItemType;

use super::{ExportItem, Exported, Losses, buffer, exported};
use crate::report::Reason;

/// Writes the logins among the items, one row each. What the five columns have no place for is reported, items of other
/// types included.
pub fn csv(items: &[ExportItem]) -> Exported {
    let mut losses = Losses::default();
    let mut file = buffer(items);
    file.extend_from_slice(b"name,url,username,password,note\r\n");
    for (number, item) in items.iter().enumerate() {
        if item.item_type != ItemType::Login {
            losses.note(number, item, &format!("an item of type {}", item.item_type), Reason::NoPlace);
            continue;
        }
        let text = |name| item.text(name).unwrap_or_default();
        let cells = [item.label.as_str(), text("url"), text("username"), text("password"), text("notes")];
        for (n, cell) in cells.into_iter().enumerate() {
            push_cell(&mut file, cell, n > 0);
        }
        file.extend_from_slice(b"\r\n");
        for field in &item.fields {
            // EXPOSE: whether the value is text decides whether it has a place.
            let placed = COLUMNS.contains(&field.name.as_str()) && field.value.expose_str().is_some();
            if !placed {
                losses.note(number, item, &format!("field \"{}\"", field.name), Reason::NoPlace);
            }
        }
        if !item.tags.is_empty() {
            losses.note(number, item, "its tags", Reason::NoPlace);
        }
    }
    exported(file, losses)
}

/// A cell in quotes, each quote inside doubled (RFC 4180, section 2).
fn push_cell(file: &mut Vec<u8>, cell: &str, comma: bool) {
    if comma {
        file.push(b',');
    }
    file.push(b'"');
    for byte in cell.bytes() {
        file.push(byte);
        if byte == b'"' {
            file.push(byte);
        }
    }
    file.push(b'"');
}

const COLUMNS: [&str; 4] = ["url", "username", "password", "notes"];

//! One entry of Bitwarden as an item. What is taken out of the JSON is carried; what is left over is reported.

use std::collections::HashMap;

use strongroom_wire::{Class, ItemType, SecretValue};
use zeroize::Zeroizing;

use super::FAVOURITE_TAG;
use crate::draft::Draft;
use crate::intake::{ImportError, Intake, digest};
use crate::json::{Json, Map};
use crate::report::{Place, Reason, RowFault};
use crate::text::{Text, host_of};

/// Names of folders and collections by their ids.
pub(super) struct Groups {
    pub(super) folders: HashMap<String, String>,
    pub(super) collections: HashMap<String, String>,
}

/// Reads one entry.
pub(super) fn read(mut map: Map, groups: &Groups, place: Place, intake: &mut Intake<'_>) -> Result<(), ImportError> {
    let name = map.take_text("name").unwrap_or_default();
    let place = if name.is_empty() { place } else { place.labelled(&name) };
    let Some(kind) = map.take("type").and_then(|kind| kind.as_u64()) else {
        return intake.bad_row(place, RowFault::Shape);
    };
    if map.take_text("deletedDate").is_some() {
        return intake.not_carried(place, "an entry", Reason::InRecycleBin);
    }
    let id = map.take_text("id");
    let mut draft = match kind {
        1 => login(&mut map, &name, place, intake),
        2 => note(&mut map, &name, place),
        3 => card(&mut map, &name, place),
        4 => identity(&mut map, &name, place),
        5 => ssh_key(&mut map, &name, place),
        _ => return intake.bad_row(place, RowFault::TypeUnknown),
    };
    custom_fields(&mut map, &mut draft);
    tags(&mut map, groups, &mut draft);
    attachments(&mut map, &mut draft);
    older_passwords(&mut map, &mut draft);
    if map.take("reprompt").is_some_and(|reprompt| reprompt.as_u64() != Some(0)) {
        draft.lose("master password re-prompt", Reason::NoPlace);
    }
    for dates in ["creationDate", "revisionDate", "archivedDate", "organizationId"] {
        intake.tally(&format!("\"{dates}\""), Reason::NoPlace, u64::from(map.take_text(dates).is_some()));
    }
    left_over(map, "", &mut draft);
    let id = id.map_or_else(|| digest(&[&kind.to_string(), &name]), |id| id.to_string());
    intake.item(draft, &id)
}

fn login(map: &mut Map, name: &str, place: Place, intake: &mut Intake<'_>) -> Draft {
    let mut login = map.take_map("login").unwrap_or(Map(Vec::new()));
    let mut lost = Vec::new();
    let urls = urls(&mut login, &mut lost);
    let username = login.take_text("username");
    let host = urls.first().map_or("", |url| host_of(url));
    let mut draft = Draft::new(ItemType::Login, &[name, host, username.as_deref().map_or("", String::as_str)], place);
    draft.usual("username", username);
    draft.usual("password", login.take_text("password"));
    draft.urls(urls);
    draft.usual("totp", login.take_text("totp"));
    draft.usual("notes", map.take_text("notes"));
    for (what, reason) in lost {
        draft.lose(what, reason);
    }
    for passkey in login.take_list("fido2Credentials") {
        let site = if let Json::Map(mut passkey) = passkey { passkey.take_text("rpId") } else { None };
        draft.lose(format!("passkey for {}", site.as_deref().map_or("a site", String::as_str)), Reason::NoPlace);
    }
    let changed = u64::from(login.take_text("passwordRevisionDate").is_some());
    intake.tally("\"passwordRevisionDate\"", Reason::NoPlace, changed);
    left_over(login, "login.", &mut draft);
    draft
}

fn urls(login: &mut Map, lost: &mut Vec<(String, Reason)>) -> Vec<Text> {
    let mut urls = Vec::new();
    for (n, entry) in login.take_list("uris").into_iter().enumerate() {
        let Json::Map(mut entry) = entry else {
            lost.push((format!("address {}", n + 1), Reason::Malformed));
            continue;
        };
        let rule = entry.take("match").and_then(|rule| rule.as_u64());
        // The checksum only tells Bitwarden's own clients whether its server changed the address.
        drop(entry.take_text("uriChecksum"));
        urls.extend(entry.take_text("uri").filter(|uri| !uri.is_empty()));
        if let Some(rule) = rule {
            lost.push((format!("match rule of address {} ({})", n + 1, match_rule(rule)), Reason::NoPlace));
        }
        if entry.0.iter().any(|(_, value)| !value.is_blank()) {
            lost.push((format!("something of address {}", n + 1), Reason::NoPlace));
        }
    }
    urls
}

fn match_rule(rule: u64) -> &'static str {
    match rule {
        0 => "base domain",
        1 => "host",
        2 => "starts with",
        3 => "exact",
        4 => "regular expression",
        5 => "never",
        _ => "unknown",
    }
}

fn note(map: &mut Map, name: &str, place: Place) -> Draft {
    let mut draft = Draft::new(ItemType::Note, &[name], place);
    draft.usual("text", map.take_text("notes"));
    if let Some(mut note) = map.take_map("secureNote") {
        note.take("type");
        left_over(note, "secureNote.", &mut draft);
    }
    draft
}

fn card(map: &mut Map, name: &str, place: Place) -> Draft {
    let mut card = map.take_map("card").unwrap_or(Map(Vec::new()));
    let (holder, brand) = (card.take_text("cardholderName"), card.take_text("brand"));
    let mut draft = Draft::new(ItemType::Card, &[name, brand.as_deref().map_or("", String::as_str)], place);
    draft.usual("holder", holder);
    draft.usual("brand", brand);
    draft.usual("number", card.take_text("number"));
    match (card.take_text("expMonth"), card.take_text("expYear")) {
        (Some(month), Some(year)) if is_month(&month) && is_year(&year) => {
            draft.usual("expiry", Some(Zeroizing::new(format!("{:0>2}/{}", month.as_str(), year.as_str()))));
        }
        (month, year) => {
            draft.known("exp_month", Class::Private, month);
            draft.known("exp_year", Class::Private, year);
        }
    }
    draft.usual("code", card.take_text("code"));
    draft.usual("notes", map.take_text("notes"));
    left_over(card, "card.", &mut draft);
    draft
}

fn is_month(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && matches!(text.parse(), Ok(1..=12_u8)) && text.len() <= 2
}

fn is_year(text: &str) -> bool {
    text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn identity(map: &mut Map, name: &str, place: Place) -> Draft {
    let mut identity = map.take_map("identity").unwrap_or(Map(Vec::new()));
    let parts: Vec<(&str, Option<Text>)> =
        PARTS.iter().map(|(theirs, ours)| (*ours, identity.take_text(theirs))).collect();
    let part = |name: &str| {
        parts.iter().find(|(ours, _)| *ours == name).and_then(|(_, text)| text.as_deref()).map_or("", String::as_str)
    };
    let full_name = full_name(part);
    let address = address(part);
    let mut draft = Draft::new(ItemType::Identity, &[name, &full_name], place);
    draft.usual("name", Some(full_name));
    draft.usual("email", identity.take_text("email"));
    draft.usual("phone", identity.take_text("phone"));
    draft.usual("address", Some(address));
    draft.usual("tax_number", identity.take_text("ssn"));
    draft.usual("passport", identity.take_text("passportNumber"));
    for (name, text) in parts {
        draft.known(name, Class::Private, text);
    }
    draft.usual("notes", map.take_text("notes"));
    left_over(identity, "identity.", &mut draft);
    draft
}

/// Title, first, middle and last name on one line.
pub(crate) fn full_name<'p>(part: impl Fn(&str) -> &'p str) -> Text {
    let names = ["title", "first_name", "middle_name", "last_name"].map(part);
    Zeroizing::new(names.iter().filter(|name| !name.is_empty()).copied().collect::<Vec<_>>().join(" "))
}

/// The address as it stands on an envelope: one line each, postal code before the city.
pub(crate) fn address<'p>(part: impl Fn(&str) -> &'p str) -> Text {
    let city = [part("postal_code"), part("city")];
    let city = city.iter().filter(|text| !text.is_empty()).copied().collect::<Vec<_>>().join(" ");
    let lines = [part("address_1"), part("address_2"), part("address_3"), &city, part("state"), part("country")];
    Zeroizing::new(lines.iter().filter(|line| !line.is_empty()).copied().collect::<Vec<_>>().join("\n"))
}

/// Bitwarden's names for the parts of an identity, and ours.
pub(crate) const PARTS: &[(&str, &str)] = &[
    ("title", "title"),
    ("firstName", "first_name"),
    ("middleName", "middle_name"),
    ("lastName", "last_name"),
    ("company", "company"),
    ("username", "username"),
    ("address1", "address_1"),
    ("address2", "address_2"),
    ("address3", "address_3"),
    ("city", "city"),
    ("state", "state"),
    ("postalCode", "postal_code"),
    ("country", "country"),
    ("licenseNumber", "license"),
];

fn ssh_key(map: &mut Map, name: &str, place: Place) -> Draft {
    let mut key = map.take_map("sshKey").unwrap_or(Map(Vec::new()));
    let mut draft = Draft::new(ItemType::SshKey, &[name], place);
    draft.usual("private_key", key.take_text("privateKey"));
    draft.usual("public_key", key.take_text("publicKey"));
    draft.known("fingerprint", Class::Private, key.take_text("keyFingerprint"));
    draft.usual("notes", map.take_text("notes"));
    left_over(key, "sshKey.", &mut draft);
    draft
}

fn custom_fields(map: &mut Map, draft: &mut Draft) {
    for field in map.take_list("fields") {
        let Json::Map(mut field) = field else {
            draft.lose("a custom field", Reason::Malformed);
            continue;
        };
        let name = field.take_text("name").unwrap_or_default();
        let kind = field.take("type").and_then(|kind| kind.as_u64()).unwrap_or(0);
        let value = field.take_text("value").unwrap_or_default();
        field.take("linkedId");
        match kind {
            0..=2 => draft.custom(&name, kind == 1, secret(value)),
            3 => draft.lose(format!("linked field \"{}\"", name.as_str()), Reason::NoPlace),
            _ => draft.lose(format!("field \"{}\" of an unknown type", name.as_str()), Reason::NoPlace),
        }
        left_over(field, "a custom field's ", draft);
    }
}

fn secret(mut text: Text) -> SecretValue {
    SecretValue::from(std::mem::take(&mut *text))
}

/// The folder and the collections as tags, and before them the star. A folder of the star's name counts as the star: as
/// tags the two are the same.
fn tags(map: &mut Map, groups: &Groups, draft: &mut Draft) {
    let mut tags = Vec::new();
    if let Some(id) = map.take_text("folderId") {
        match groups.folders.get(id.as_str()) {
            Some(name) => tags.push(name.as_str()),
            None => draft.lose("its folder, which the file does not name", Reason::Malformed),
        }
    }
    // An entry of no collection has a list with null in it.
    for id in map.take_list("collectionIds").into_iter().filter(|id| !id.is_blank()) {
        match id.into_text().and_then(|id| groups.collections.get(id.as_str())) {
            Some(name) => tags.push(name.as_str()),
            None => draft.lose("a collection, which the file does not name", Reason::Malformed),
        }
    }
    let starred = map.take_text("favorite").is_some_and(|favourite| *favourite == "true");
    if starred || tags.contains(&FAVOURITE_TAG) {
        draft.tag(FAVOURITE_TAG);
    }
    tags.into_iter().for_each(|tag| draft.tag(tag));
}

fn attachments(map: &mut Map, draft: &mut Draft) {
    for attachment in map.take_list("attachments") {
        let name = if let Json::Map(mut attachment) = attachment { attachment.take_text("fileName") } else { None };
        draft.lose(format!("attachment \"{}\"", name.as_deref().map_or("", String::as_str)), Reason::Attachment);
    }
}

fn older_passwords(map: &mut Map, draft: &mut Draft) {
    let count = map.take_list("passwordHistory").len();
    if count > 0 {
        draft.lose(format!("{count} older passwords"), Reason::OlderVersion);
    }
}

fn left_over(map: Map, path: &str, draft: &mut Draft) {
    for (name, value) in &map.0 {
        if !value.is_blank() {
            draft.lose(format!("{path}\"{name}\""), Reason::NoPlace);
        }
    }
}

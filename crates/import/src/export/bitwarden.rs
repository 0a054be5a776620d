//! Items as Bitwarden's plain JSON, in the form of an individual vault's export.

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest, Sha256};
use strongroom_wire::{Class, ItemType};

use super::{ExportField, ExportItem, Exported, Losses, buffer, exported};
use crate::bitwarden::{FAVOURITE_TAG, PARTS, address, full_name};
use crate::kind::Kind;
use crate::report::Reason;

/// Writes items as Bitwarden's plain JSON. The first tag becomes the folder, further ones collections, which Bitwarden
/// reads into an organisation only.
pub fn bitwarden_json(items: &[ExportItem]) -> Exported {
    let mut losses = Losses::default();
    let mut file = Export { encrypted: false, folders: Vec::new(), collections: Vec::new(), items: Vec::new() };
    let (mut folders, mut collections) = (BTreeMap::new(), BTreeMap::new());
    for (number, item) in items.iter().enumerate() {
        let mut entry = Entry::new(item);
        let mut tags = item.tags.iter().filter(|tag| *tag != FAVOURITE_TAG);
        entry.folder_id = tags.next().map(|tag| id_of("folder", tag, &mut folders));
        entry.collection_ids = tags.map(|tag| id_of("collection", tag, &mut collections)).collect();
        if !entry.collection_ids.is_empty() {
            losses.note(number, item, "tags after the first, written as collections", Reason::Altered);
        }
        if !NATIVE.contains(&item.item_type) {
            losses.note(number, item, &format!("its type {}", item.item_type), Reason::Altered);
        }
        for field in &item.fields {
            entry.place(item, field, &mut |what| losses.note(number, item, what, Reason::NoPlace));
        }
        file.items.push(entry);
    }
    file.folders = folders.into_iter().map(|(name, id)| Named { id, name, organization_id: None }).collect();
    let organization_id = Some(uuid("organisation", ""));
    let collection = |(name, id)| Named { id, name, organization_id: organization_id.clone() };
    file.collections = collections.into_iter().map(collection).collect();

    let mut bytes = buffer(items);
    serde_json::to_writer_pretty(&mut *bytes, &file).expect("texts and lists are always JSON");
    bytes.push(b'\n');
    exported(bytes, losses)
}

/// Types that Bitwarden has too.
const NATIVE: [ItemType; 5] = [ItemType::Login, ItemType::Note, ItemType::Card, ItemType::Identity, ItemType::SshKey];

#[derive(Serialize)]
struct Export<'v> {
    encrypted: bool,
    folders: Vec<Named<'v>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    collections: Vec<Named<'v>>,
    items: Vec<Entry<'v>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Named<'v> {
    id: String,
    name: &'v str,
    #[serde(skip_serializing_if = "Option::is_none")]
    organization_id: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'v> {
    id: String,
    folder_id: Option<String>,
    collection_ids: Vec<String>,
    #[serde(rename = "type")]
    kind: u8,
    reprompt: u8,
    name: &'v str,
    notes: Option<&'v str>,
    favorite: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<Custom<'v>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    login: Option<Login<'v>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secure_note: Option<SecureNote>,
    #[serde(skip_serializing_if = "Option::is_none")]
    card: Option<Members<'v>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<Members<'v>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ssh_key: Option<Members<'v>>,
}

type Members<'v> = BTreeMap<&'static str, &'v str>;

#[derive(Serialize)]
struct Custom<'v> {
    name: &'v str,
    value: &'v str,
    #[serde(rename = "type")]
    kind: u8,
}

#[derive(Default, Serialize)]
struct Login<'v> {
    uris: Vec<Uri<'v>>,
    username: Option<&'v str>,
    password: Option<&'v str>,
    totp: Option<&'v str>,
}

#[derive(Serialize)]
struct Uri<'v> {
    #[serde(rename = "match")]
    rule: Option<u8>,
    uri: &'v str,
}

#[derive(Serialize)]
struct SecureNote {
    #[serde(rename = "type")]
    kind: u8,
}

impl<'v> Entry<'v> {
    fn new(item: &'v ExportItem) -> Self {
        let own = item.origin.as_ref().filter(|origin| origin.source == Kind::Bitwarden.as_str());
        let kind = match item.item_type {
            ItemType::Login | ItemType::ApiKey | ItemType::Totp => 1,
            ItemType::Note | ItemType::SigningKey | ItemType::CryptKey | ItemType::Wallet => 2,
            ItemType::Card => 3,
            ItemType::Identity => 4,
            ItemType::SshKey => 5,
        };
        Self {
            id: own.map_or_else(|| id_without_origin(item), |origin| origin.id.clone()),
            folder_id: None,
            collection_ids: Vec::new(),
            kind,
            reprompt: 0,
            name: &item.label,
            notes: None,
            favorite: item.tags.iter().any(|tag| tag == FAVOURITE_TAG),
            fields: Vec::new(),
            login: (kind == 1).then(Login::default),
            secure_note: (kind == 2).then_some(SecureNote { kind: 0 }),
            card: (kind == 3).then(Members::new),
            identity: (kind == 4).then(Members::new),
            ssh_key: (kind == 5).then(Members::new),
        }
    }

    /// Puts a field where Bitwarden has it, else among the custom fields.
    fn place(&mut self, item: &'v ExportItem, field: &'v ExportField, lose: &mut dyn FnMut(&str)) {
        let name = field.name.as_str();
        // EXPOSE: the value goes into the file that the member asked for.
        let Some(value) = field.value.expose_str() else {
            return lose(&format!("field \"{name}\", whose value is not text"));
        };
        let placed = match (name, item.item_type) {
            ("text", ItemType::Note) => self.notes.replace(value).is_none(),
            (_, ItemType::Note) => false,
            ("notes", _) => self.notes.replace(value).is_none(),
            ("key", ItemType::ApiKey) => self.place_in_login("password", value),
            (_, ItemType::Login | ItemType::ApiKey | ItemType::Totp) => self.place_in_login(name, value),
            (_, ItemType::Card) => self.place_in_card(name, value),
            (_, ItemType::Identity) => self.place_in_identity(item, name, value),
            (_, ItemType::SshKey) => self.place_in_ssh_key(name, value),
            _ => false,
        };
        if !placed {
            let hidden = field.class >= Class::Secret;
            self.fields.push(Custom { name, value, kind: u8::from(hidden) });
        }
    }

    fn place_in_login(&mut self, name: &str, value: &'v str) -> bool {
        let Some(login) = &mut self.login else { return false };
        match name {
            "username" => login.username.replace(value).is_none(),
            "password" if login.password.is_none() => login.password.replace(value).is_none(),
            "totp" => login.totp.replace(value).is_none(),
            _ if name == "url" || is_further_url(name) => {
                login.uris.push(Uri { rule: None, uri: value });
                true
            }
            _ => false,
        }
    }

    fn place_in_card(&mut self, name: &str, value: &'v str) -> bool {
        let Some(card) = &mut self.card else { return false };
        let (member, value) = match name {
            "holder" => ("cardholderName", value),
            "brand" | "number" | "code" => {
                (["brand", "number", "code"].into_iter().find(|own| *own == name).unwrap_or_default(), value)
            }
            "exp_month" => ("expMonth", value),
            "exp_year" => ("expYear", value),
            "expiry" => {
                let Some((month, year)) = value.split_once('/').filter(|(month, _)| month.len() == 2) else {
                    return false;
                };
                card.insert("expMonth", month.strip_prefix('0').unwrap_or(month));
                ("expYear", year)
            }
            _ => return false,
        };
        card.insert(member, value).is_none()
    }

    fn place_in_identity(&mut self, item: &'v ExportItem, name: &str, value: &'v str) -> bool {
        let Some(identity) = &mut self.identity else { return false };
        let part = |name: &str| item.text(name).unwrap_or_default();
        // Put together on import from the parts, which are written anyway.
        if (name == "name" && *full_name(part) == value) || (name == "address" && *address(part) == value) {
            return true;
        }
        let member = match name {
            "email" => "email",
            "phone" => "phone",
            "tax_number" => "ssn",
            "passport" => "passportNumber",
            _ => match PARTS.iter().find(|(_, ours)| *ours == name) {
                Some((theirs, _)) => theirs,
                None => return false,
            },
        };
        identity.insert(member, value).is_none()
    }

    fn place_in_ssh_key(&mut self, name: &str, value: &'v str) -> bool {
        let Some(key) = &mut self.ssh_key else { return false };
        let member = match name {
            "private_key" => "privateKey",
            "public_key" => "publicKey",
            "fingerprint" => "keyFingerprint",
            _ => return false,
        };
        key.insert(member, value).is_none()
    }
}

fn is_further_url(name: &str) -> bool {
    name.strip_prefix("url-").is_some_and(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The same item exports under the same id, so that Bitwarden's own duplicates can be told apart.
fn id_without_origin(item: &ExportItem) -> String {
    let origin = item.origin.as_ref().map_or("", |origin| &origin.id);
    uuid(item.item_type.as_str(), &format!("{origin}\0{}", item.label))
}

fn id_of<'v>(what: &str, tag: &'v str, ids: &mut BTreeMap<&'v str, String>) -> String {
    ids.entry(tag).or_insert_with(|| uuid(what, tag)).clone()
}

/// An id in the form of a UUID of version 8 (RFC 9562, section 5.8), out of a digest.
fn uuid(what: &str, name: &str) -> String {
    let digest = Sha256::new().chain_update(what).chain_update([0]).chain_update(name).finalize();
    let mut bytes: [u8; 16] = digest[..16].try_into().expect("SHA-256 yields 32 bytes");
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = data_encoding::HEXLOWER.encode(&bytes);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

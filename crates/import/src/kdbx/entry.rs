//! Groups and entries of the document as tags and logins.

use data_encoding::{BASE64, HEXLOWER};
use strongroom_wire::{ItemType, SecretValue};
use zeroize::Zeroizing;

use super::payload::Payload;
use super::xml::{Content, Element, Walk};
use crate::draft::{Draft, text_of};
use crate::intake::{ImportError, Intake, digest};
use crate::otp::{self, Totp};
use crate::report::{Place, Reason};
use crate::text::{Text, host_of};

/// Reads every entry outside the recycle bin.
pub(super) fn read_all(payload: &Payload, intake: &mut Intake<'_>) -> Result<(), ImportError> {
    let document = payload.document()?;
    let bin = recycle_bin(document)?;
    let mut walk = Walk::new(document, Some(payload.keystream()));
    let mut tree = Tree { bin, path: Vec::new(), entries: 0, bytes: document.len() as u64, intake };
    walk.root("KeePassFile")?;
    walk.children(|walk, element| match element.name {
        "Root" => walk.children(|walk, element| match element.name {
            "Group" => tree.group(walk),
            _ => walk.skip(&element),
        }),
        _ => walk.skip(&element),
    })?;
    intake.tally("files in the database", Reason::Attachment, payload.attachments);
    Ok(())
}

/// The id of the recycle bin, in base64 as the document has it, where there is one.
fn recycle_bin(document: &str) -> Result<Option<String>, ImportError> {
    let mut walk = Walk::new(document, None);
    let (mut enabled, mut id) = (true, None);
    walk.root("KeePassFile")?;
    walk.children(|walk, element| match element.name {
        "Meta" => walk.children(|walk, element| {
            match element.name {
                "RecycleBinEnabled" => enabled = !walk.text(&element)?.trim().eq_ignore_ascii_case("false"),
                "RecycleBinUUID" => id = Some(walk.text(&element)?.trim().to_owned()),
                _ => walk.skip(&element)?,
            }
            Ok(())
        }),
        _ => walk.skip(&element),
    })?;
    Ok(id.filter(|id| enabled && !id.is_empty() && id != NO_UUID))
}

struct Tree<'i, 's> {
    bin: Option<String>,
    path: Vec<Text>,
    entries: u64,
    bytes: u64,
    intake: &'i mut Intake<'s>,
}

impl Tree<'_, '_> {
    fn group(&mut self, walk: &mut Walk<'_>) -> Result<(), ImportError> {
        let mut in_bin = false;
        // Depth 0 is the root group, whose name is that of the database.
        self.path.push(Text::default());
        walk.children(|walk, element| {
            match element.name {
                "UUID" => in_bin = self.bin.as_deref() == Some(walk.text(&element)?.trim()),
                "Name" => {
                    let name = walk.text(&element)?;
                    *self.path.last_mut().expect("this group's name was pushed") = name;
                }
                "Group" if in_bin => self.thrown_away(walk, &element)?,
                "Entry" if in_bin => self.thrown_away(walk, &element)?,
                "Group" => self.group(walk)?,
                "Entry" => self.entry(walk)?,
                "Notes" | "Tags" => {
                    let what = if element.name == "Tags" { "tags of a group" } else { "notes of a group" };
                    if !walk.text(&element)?.is_empty() {
                        let place = Place::default().labelled(&self.tag());
                        self.intake.not_carried(place, what, Reason::NoPlace)?;
                    }
                }
                _ => walk.skip(&element)?,
            }
            Ok(())
        })?;
        self.path.pop();
        Ok(())
    }

    /// The groups down to here, without the root, as one tag.
    fn tag(&self) -> String {
        self.path.iter().skip(1).map(|name| name.as_str()).collect::<Vec<_>>().join("/")
    }

    fn thrown_away(&mut self, walk: &mut Walk<'_>, element: &Element<'_>) -> Result<(), ImportError> {
        if element.name == "Group" {
            return walk.children(|walk, element| match element.name {
                "Group" | "Entry" => self.thrown_away(walk, &element),
                _ => walk.skip(&element),
            });
        }
        let entry = Entry::read(walk)?;
        self.entries += 1;
        let title = entry.text("Title").unwrap_or_default();
        self.intake.not_carried(Place::entry(self.entries).labelled(&title), "an entry", Reason::InRecycleBin)
    }

    fn entry(&mut self, walk: &mut Walk<'_>) -> Result<(), ImportError> {
        let entry = Entry::read(walk)?;
        self.entries += 1;
        self.intake.tally("icons and colours of entries", Reason::NoPlace, u64::from(entry.decorated));
        self.intake.tally("times of creation, change and use", Reason::NoPlace, u64::from(entry.timed));
        let uuid = entry.uuid.clone();
        let draft = entry.into_draft(Place::entry(self.entries), &self.tag());
        let id = uuid.unwrap_or_else(|| digest(&[&self.tag(), &self.entries.to_string()]));
        self.intake.item(draft, &id)?;
        self.intake.progress(walk.position(), self.bytes)
    }
}

/// A value of an entry, and whether the file protects it.
struct Field {
    name: String,
    value: Content,
    protected: bool,
}

/// An entry as the document has it.
#[derive(Default)]
struct Entry {
    uuid: Option<String>,
    fields: Vec<Field>,
    tags: Text,
    attachments: Vec<String>,
    custom_data: Vec<String>,
    older_versions: u64,
    expires: bool,
    timed: bool,
    autotype: bool,
    override_url: bool,
    decorated: bool,
}

impl Entry {
    fn read(walk: &mut Walk<'_>) -> Result<Self, ImportError> {
        let mut entry = Self::default();
        walk.children(|walk, element| entry.part(walk, &element))?;
        Ok(entry)
    }

    fn part<'x>(&mut self, walk: &mut Walk<'x>, element: &Element<'x>) -> Result<(), ImportError> {
        match element.name {
            "UUID" => self.uuid = uuid(&walk.text(element)?),
            "String" => self.fields.extend(named(walk)?),
            "Binary" => self.attachments.extend(named(walk)?.map(|field| field.name)),
            "Tags" => self.tags = walk.text(element)?,
            "OverrideURL" => self.override_url = !walk.text(element)?.is_empty(),
            "CustomIconUUID" | "ForegroundColor" | "BackgroundColor" => {
                self.decorated |= !walk.text(element)?.is_empty();
            }
            "Times" => {
                self.timed = true;
                walk.children(|walk, element| match element.name {
                    "Expires" => {
                        self.expires = walk.text(&element)?.trim().eq_ignore_ascii_case("true");
                        Ok(())
                    }
                    _ => walk.skip(&element),
                })?;
            }
            "AutoType" => walk.children(|walk, element| match element.name {
                "Association" | "DefaultSequence" => {
                    let filled = !walk.text(&element)?.is_empty();
                    self.autotype |= filled || element.name == "Association";
                    Ok(())
                }
                _ => walk.skip(&element),
            })?,
            "CustomData" => walk.children(|walk, element| match element.name {
                "Item" => {
                    self.custom_data.extend(named(walk)?.map(|item| item.name));
                    Ok(())
                }
                _ => walk.skip(&element),
            })?,
            "History" => walk.children(|walk, element| {
                self.older_versions += u64::from(element.name == "Entry");
                walk.skip(&element)
            })?,
            _ => walk.skip(element)?,
        }
        Ok(())
    }

    /// A field's text, as a copy.
    fn text(&self, name: &str) -> Option<Text> {
        let field = self.fields.iter().find(|field| field.name == name)?;
        text_of(field.value.clone())
    }

    /// Takes a field's text out; one that is not UTF-8 stays and is carried as bytes.
    fn take(&mut self, name: &str) -> Option<Text> {
        let at =
            self.fields.iter().position(|field| field.name == name && std::str::from_utf8(&field.value).is_ok())?;
        text_of(self.fields.remove(at).value)
    }

    fn into_draft(mut self, place: Place, group: &str) -> Draft {
        let title = self.take("Title").unwrap_or_default();
        let (url, username) = (self.take("URL").unwrap_or_default(), self.take("UserName"));
        let name = username.as_deref().map_or("", String::as_str);
        let mut draft = Draft::new(ItemType::Login, &[&title, host_of(&url), name], place);
        let mut values = vec![("username", username), ("password", self.take("Password"))];
        values.push(("totp", self.totp(&title, &mut draft)));
        values.push(("notes", self.take("Notes")));
        for (name, value) in values {
            if value.as_deref().is_some_and(|value| has_reference(value.as_bytes())) {
                draft.lose(format!("a reference in its {name}"), Reason::NotExpanded);
            }
            draft.usual(name, value);
        }
        let mut urls = vec![url];
        while let Some(at) = self.fields.iter().position(|field| is_further_url(&field.name)) {
            let field = self.fields.remove(at);
            urls.extend(text_of(field.value));
        }
        draft.urls(urls.into_iter().filter(|url| !url.is_empty()).collect());
        for Field { name, mut value, protected } in std::mem::take(&mut self.fields) {
            if has_reference(&value) {
                draft.lose(format!("a reference in \"{name}\""), Reason::NotExpanded);
            }
            draft.custom(&name, protected, SecretValue::new(std::mem::take(&mut *value)));
        }
        draft.tag(group);
        self.tags.split([';', ',']).for_each(|tag| draft.tag(tag.trim()));
        self.report(&mut draft);
        draft
    }

    /// The one-time-code settings, from the first of the places where programs keep them. Settings that are not
    /// understood stay and come along as fields.
    fn totp(&mut self, title: &str, draft: &mut Draft) -> Option<Text> {
        if let Some(otp) = self.take("otp") {
            // KeeOtp writes `key=…&step=…&size=…` where everybody else has a URI.
            return if otp.starts_with("key=") { keeotp(&otp, title).or(Some(otp)) } else { Some(otp) };
        }
        let secret = SECRETS.iter().find_map(|name| Some((*name, otp::secret(name, &self.text(name)?)?)));
        if let Some((name, secret)) = secret {
            return self.time_otp(name, secret, title, draft);
        }
        let seed = otp::base32(&self.text("TOTP Seed")?)?;
        let settings = self.text("TOTP Settings").unwrap_or_default();
        let (period, digits) = settings.split_once(';').unwrap_or((&settings, ""));
        let digits = digits.split(';').next().unwrap_or("");
        let uri = if digits.trim() == "S" {
            Zeroizing::new(format!("steam://{}", self.text("TOTP Seed")?.trim()))
        } else {
            let period_secs = otp::number(Some(period), 30, 1..=86_400)?;
            let digits = otp::number(Some(digits), 6, 4..=10)?;
            Totp { secret: seed, algorithm: "SHA1", digits, period_secs }.to_uri(title)
        };
        self.fields.retain(|field| !matches!(field.name.as_str(), "TOTP Seed" | "TOTP Settings"));
        Some(uri)
    }

    /// The settings that KeePass itself keeps, in strings that begin with `TimeOtp-`.
    fn time_otp(&mut self, name: &str, secret: Zeroizing<Vec<u8>>, title: &str, draft: &mut Draft) -> Option<Text> {
        let text = |name| self.text(name);
        let algorithm = text("TimeOtp-Algorithm");
        let settings = (
            otp::algorithm(algorithm.as_deref().map(String::as_str)),
            otp::number(text("TimeOtp-Length").as_deref().map(String::as_str), 6, 4..=10),
            otp::number(text("TimeOtp-Period").as_deref().map(String::as_str), 30, 1..=86_400),
        );
        let (Some(algorithm), Some(digits), Some(period_secs)) = settings else {
            draft.lose("its one-time-code settings, which are carried as fields", Reason::Altered);
            return None;
        };
        let used = [name, "TimeOtp-Algorithm", "TimeOtp-Length", "TimeOtp-Period"];
        self.fields.retain(|field| !used.contains(&field.name.as_str()));
        Some(Totp { secret, algorithm, digits, period_secs }.to_uri(title))
    }

    fn report(&self, draft: &mut Draft) {
        for name in &self.attachments {
            draft.lose(format!("attachment \"{name}\""), Reason::Attachment);
        }
        for name in &self.custom_data {
            draft.lose(format!("plug-in data \"{name}\""), Reason::NoPlace);
        }
        if self.older_versions > 0 {
            draft.lose(format!("{} older versions", self.older_versions), Reason::OlderVersion);
        }
        for (there, what) in [
            (self.expires, "its date of expiry"),
            (self.autotype, "its auto-type settings"),
            (self.override_url, "its URL override"),
        ] {
            if there {
                draft.lose(what, Reason::NoPlace);
            }
        }
    }
}

/// The name and value of a `String`, `Binary` or `Item` element.
fn named(walk: &mut Walk<'_>) -> Result<Option<Field>, ImportError> {
    let (mut name, mut value) = (None, None);
    walk.children(|walk, element| {
        match element.name {
            "Key" => name = Some(walk.text(&element)?.to_string()),
            "Value" => value = Some((walk.content(&element)?, element.protected)),
            _ => walk.skip(&element)?,
        }
        Ok(())
    })?;
    let (value, protected) = value.unwrap_or_default();
    Ok(name.map(|name| Field { name, value, protected }))
}

/// An id in hexadecimal.
fn uuid(text: &str) -> Option<String> {
    let bytes = BASE64.decode(text.trim().as_bytes()).ok()?;
    (bytes.len() == 16).then(|| HEXLOWER.encode(&bytes))
}

/// KeePassXC and Keepass2Android keep further addresses in `KP2A_URL`, `KP2A_URL_1` and so on.
fn is_further_url(name: &str) -> bool {
    name.strip_prefix("KP2A_URL").is_some_and(|rest| {
        rest.is_empty()
            || rest.strip_prefix('_').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// Whether a value refers to a field of another entry, as in `{REF:P@I:…}`.
fn has_reference(value: &[u8]) -> bool {
    value.windows(5).any(|window| window.eq_ignore_ascii_case(b"{REF:"))
}

fn keeotp(settings: &str, title: &str) -> Option<Text> {
    let get = |name: &str| settings.split('&').filter_map(|pair| pair.split_once('=')).find(|(n, _)| *n == name);
    if settings.split('&').filter_map(|pair| pair.split_once('=')).any(|(n, v)| n == "type" && v != "Totp") {
        return None;
    }
    let text = |name| get(name).map(|(_, value)| value);
    let secret = otp::base32(&text("key")?.replace("%3d", "").replace("%3D", ""))?;
    let algorithm = match text("otpHashMode") {
        None | Some("Sha1") => "SHA1",
        Some("Sha256") => "SHA256",
        Some("Sha512") => "SHA512",
        Some(_) => return None,
    };
    let digits = otp::number(text("size"), 6, 4..=10)?;
    let period_secs = otp::number(text("step"), 30, 1..=86_400)?;
    Some(Totp { secret, algorithm, digits, period_secs }.to_uri(title))
}

const SECRETS: [&str; 4] = ["TimeOtp-Secret-Base32", "TimeOtp-Secret", "TimeOtp-Secret-Hex", "TimeOtp-Secret-Base64"];
/// Sixteen zero bytes: no id.
const NO_UUID: &str = "AAAAAAAAAAAAAAAAAAAAAA==";

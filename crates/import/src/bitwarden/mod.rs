//! Bitwarden's JSON export: plain, or encrypted with a password of its own.
//!
//! The file is read twice. The first pass checks all of it and gathers folders and collections, which may stand behind
//! the items; the second hands over one item at a time, so that memory is bounded by the largest item, not by the file.

mod encrypted;
mod item;

pub(crate) use encrypted::argon2_params;
pub(crate) use item::{PARTS, address, full_name};

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::intake::{ImportError, Intake, Options};
use crate::json::{self, Budget, Json, Map};
use crate::limits::{FOLDERS_MAX, JSON_ITEM_VALUES_MAX};
use crate::refused::ImportRefused;
use crate::report::{Place, Reason, RowFault};
use crate::text;

/// The tag that stands for Bitwarden's star.
pub(crate) const FAVOURITE_TAG: &str = "favourite";

/// Reads an export. An encrypted one needs the password it was made with.
pub(crate) fn read(file: &[u8], options: &Options, intake: &mut Intake<'_>) -> Result<(), ImportError> {
    if text::is_utf16(file) {
        return Err(ImportRefused::Utf16.into());
    }
    let file = text::without_bom(file);
    let mut outline = Outline::read(file)?;
    if !outline.is_encrypted() {
        return plain(file, outline, intake);
    }
    let inside = encrypted::open(&mut outline.envelope, options.password.as_ref())?;
    let outline = Outline::read(&inside)?;
    if outline.is_encrypted() {
        return Err(ImportRefused::EncryptionUnknown.into());
    }
    plain(&inside, outline, intake)
}

fn plain(file: &[u8], outline: Outline, intake: &mut Intake<'_>) -> Result<(), ImportError> {
    if !outline.has_items {
        return Err(ImportRefused::NotBitwarden.into());
    }
    for (name, value) in &outline.envelope.0 {
        if !value.is_blank() {
            intake.not_carried(Place::default(), &format!("\"{name}\""), Reason::NoPlace)?;
        }
    }
    let mut number = 0;
    let total = outline.items;
    let groups = item::Groups { folders: outline.folders, collections: outline.collections };
    each_item(file, &mut |json| {
        number += 1;
        let place = Place::entry(number);
        match json {
            Json::Map(map) if !map.0.iter().any(|(_, value)| value.is_cut()) => {
                item::read(map, &groups, place, intake)?
            }
            Json::Map(_) | Json::Cut => intake.bad_row(place, RowFault::TooManyValues)?,
            _ => intake.bad_row(place, RowFault::Shape)?,
        }
        intake.progress(number, total)
    })
}

/// What an export holds beside its items.
struct Outline {
    envelope: Map,
    folders: HashMap<String, String>,
    collections: HashMap<String, String>,
    items: u64,
    has_items: bool,
}

impl Outline {
    fn read(file: &[u8]) -> Result<Self, ImportRefused> {
        std::str::from_utf8(file).map_err(|_| ImportRefused::NotUtf8)?;
        let mut outline = Self {
            envelope: Map(Vec::new()),
            folders: HashMap::new(),
            collections: HashMap::new(),
            items: 0,
            has_items: false,
        };
        let mut json = serde_json::Deserializer::from_slice(file);
        json.deserialize_map(&mut outline).map_err(|error| json::refused(&error))?;
        json.end().map_err(|error| json::refused(&error))?;
        Ok(outline)
    }

    fn is_encrypted(&self) -> bool {
        self.envelope.0.iter().any(|(name, value)| name == "encrypted" && matches!(value, Json::Bool(true)))
    }
}

impl<'de> Visitor<'de> for &mut Outline {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let budget = Cell::new(JSON_ITEM_VALUES_MAX);
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "items" => {
                    self.has_items = true;
                    map.next_value_seed(Items(&mut |_| {
                        self.items += 1;
                        true
                    }))?;
                }
                "folders" => self.folders.extend(map.next_value_seed(Names)?),
                "collections" => self.collections.extend(map.next_value_seed(Names)?),
                _ => {
                    let value = map.next_value_seed(Budget(&budget))?;
                    self.envelope.0.push((name, value));
                }
            }
        }
        Ok(())
    }
}

/// Names by id, of folders or collections.
struct Names;

impl<'de> DeserializeSeed<'de> for Names {
    type Value = HashMap<String, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let budget = Cell::new(FOLDERS_MAX * 8);
        let mut names = HashMap::new();
        if let Json::List(list) = Budget(&budget).deserialize(deserializer)? {
            for entry in list {
                let Json::Map(mut map) = entry else { continue };
                if let (Some(id), Some(name)) = (map.take_text("id"), map.take_text("name")) {
                    names.insert(id.to_string(), name.to_string());
                }
            }
        }
        Ok(names)
    }
}

/// Hands each item to a function, which says whether to go on.
struct Items<'f>(&'f mut dyn FnMut(Json) -> bool);

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of items")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        loop {
            let budget = Cell::new(JSON_ITEM_VALUES_MAX);
            let Some(item) = seq.next_element_seed(Budget(&budget))? else { return Ok(()) };
            if !(self.0)(item) {
                return Err(serde::de::Error::custom("stopped"));
            }
        }
    }
}

/// The second pass: the items alone.
fn each_item(file: &[u8], take: &mut dyn FnMut(Json) -> Result<(), ImportError>) -> Result<(), ImportError> {
    struct Pass<'f>(&'f mut dyn FnMut(Json) -> bool);
    impl<'de> Visitor<'de> for Pass<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some(name) = map.next_key::<String>()? {
                if name == "items" {
                    map.next_value_seed(Items(self.0))?;
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(())
        }
    }

    let mut stopped = None;
    let mut step = |item| match take(item) {
        Ok(()) => true,
        Err(error) => {
            stopped = Some(error);
            false
        }
    };
    let outcome = serde_json::Deserializer::from_slice(file).deserialize_map(Pass(&mut step));
    match (stopped, outcome) {
        (Some(error), _) => Err(error),
        (None, outcome) => outcome.map_err(|error| json::refused(&error).into()),
    }
}

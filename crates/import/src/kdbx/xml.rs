//! The document: elements, texts, and the protected values, which must be uncovered in order even where they are skipped.

use data_encoding::BASE64;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use zeroize::Zeroizing;

use super::payload::Keystream;
use crate::intake::ImportError;
use crate::limits::XML_LEVELS_MAX;
use crate::refused::{Damage, ImportRefused};

/// Text or bytes of an element; wiped when dropped.
pub(super) type Content = Zeroizing<Vec<u8>>;

/// A walk through the document. Whoever is given an element must take it to its end: with [`Walk::children`],
/// [`Walk::content`] or [`Walk::skip`].
pub(super) struct Walk<'x> {
    reader: Reader<&'x [u8]>,
    keystream: Option<Keystream>,
    levels: usize,
}

/// An element that has begun.
pub(super) struct Element<'x> {
    pub(super) name: &'x str,
    /// Whether its text is hidden by the keystream.
    pub(super) protected: bool,
}

enum Step<'x> {
    Begin(Element<'x>),
    End,
    Text(Zeroizing<String>),
}

impl<'x> Walk<'x> {
    /// A walk from the start; without a keystream protected values stay covered.
    pub(super) fn new(document: &'x str, keystream: Option<Keystream>) -> Self {
        let mut reader = Reader::from_str(document);
        reader.config_mut().expand_empty_elements = true;
        Self { reader, keystream, levels: 0 }
    }

    /// Bytes walked so far.
    pub(super) fn position(&self) -> u64 {
        self.reader.buffer_position()
    }

    /// The root element, whose name must be `name`.
    pub(super) fn root(&mut self, name: &str) -> Result<(), ImportError> {
        loop {
            match self.step()? {
                Step::Begin(element) if element.name == name => return Ok(()),
                Step::Text(text) if text.trim_start_matches('\u{feff}').trim().is_empty() => {}
                _ => return Err(DAMAGED.into()),
            }
        }
    }

    /// Gives each child of the element that has just begun to a function.
    pub(super) fn children(
        &mut self,
        mut child: impl FnMut(&mut Self, Element<'x>) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        loop {
            match self.step()? {
                Step::Begin(element) => child(self, element)?,
                Step::End => return Ok(()),
                Step::Text(_) => {}
            }
        }
    }

    /// The content of an element: its text, or what its protected value hides.
    pub(super) fn content(&mut self, element: &Element<'x>) -> Result<Content, ImportError> {
        let mut text = Zeroizing::new(String::new());
        loop {
            match self.step()? {
                Step::Text(piece) if text.is_empty() => text = piece,
                Step::Text(piece) => text.push_str(&piece),
                Step::End => break,
                Step::Begin(inner) => self.skip(&inner)?,
            }
        }
        match &mut self.keystream {
            Some(keystream) if element.protected => {
                let mut value = Zeroizing::new(BASE64.decode(text.trim().as_bytes()).map_err(|_| DAMAGED)?);
                keystream.apply(&mut value)?;
                Ok(value)
            }
            _ => Ok(Zeroizing::new(std::mem::take(&mut *text).into_bytes())),
        }
    }

    /// The content as text; what is not UTF-8 counts as empty.
    pub(super) fn text(&mut self, element: &Element<'x>) -> Result<Zeroizing<String>, ImportError> {
        Ok(crate::draft::text_of(self.content(element)?).unwrap_or_default())
    }

    /// Passes over an element, and over the keystream of what is protected in it.
    pub(super) fn skip(&mut self, element: &Element<'x>) -> Result<(), ImportError> {
        if element.protected {
            return self.content(element).map(drop);
        }
        self.children(|walk, inner| walk.skip(&inner))
    }

    fn step(&mut self) -> Result<Step<'x>, ImportError> {
        loop {
            let text = match self.reader.read_event().map_err(|_| DAMAGED)? {
                Event::Start(tag) => return self.begin(&tag),
                Event::End(_) => {
                    self.levels = self.levels.saturating_sub(1);
                    return Ok(Step::End);
                }
                Event::Text(text) => text.xml10_content().into_owned(),
                Event::CData(text) => text.xml10_content().into_owned(),
                Event::GeneralRef(reference) => match reference.resolve_char_ref().map_err(|_| DAMAGED)? {
                    Some(c) => c.to_string(),
                    // No entity of a document type is ever expanded.
                    None => quick_xml::escape::resolve_predefined_entity(&reference).ok_or(DAMAGED)?.to_owned(),
                },
                Event::Eof => return Err(DAMAGED.into()),
                _ => continue,
            };
            return Ok(Step::Text(Zeroizing::new(text)));
        }
    }

    fn begin(&mut self, tag: &BytesStart<'x>) -> Result<Step<'x>, ImportError> {
        self.levels += 1;
        if self.levels > XML_LEVELS_MAX {
            return Err(ImportRefused::NestedTooDeep.into());
        }
        let protected = tag.try_get_attribute("Protected").map_err(|_| DAMAGED)?;
        let protected = protected.is_some_and(|attribute| attribute.value.eq_ignore_ascii_case("true"));
        Ok(Step::Begin(Element { name: known_name(tag.name().as_ref()), protected }))
    }
}

/// The name, where it is one that the reader of entries looks for; every other element is skipped alike.
fn known_name(name: &str) -> &'static str {
    NAMES.iter().find(|known| **known == name).copied().unwrap_or("")
}

const NAMES: &[&str] = &[
    "Association",
    "AutoType",
    "BackgroundColor",
    "Binary",
    "CustomData",
    "CustomIconUUID",
    "DefaultSequence",
    "Entry",
    "Expires",
    "ForegroundColor",
    "Group",
    "History",
    "Item",
    "KeePassFile",
    "Key",
    "Meta",
    "Name",
    "Notes",
    "OverrideURL",
    "RecycleBinEnabled",
    "RecycleBinUUID",
    "Root",
    "String",
    "Tags",
    "Times",
    "UUID",
    "Value",
];

const DAMAGED: ImportRefused = ImportRefused::Damaged { part: Damage::Document };

//! The report: what could not be carried, where it was, and why. Never a value.

use std::fmt;

use serde::{Deserialize, Serialize};
use strongroom_wire::limits::LABEL_CHARS_MAX;

use crate::limits::WHAT_CHARS_MAX;
use crate::text::{is_one_line, one_line};

/// Where in the file something was. Everything absent means: in the file as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The line it starts on, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The entry, counted from 1, in files that are not made of lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<u64>,
    /// What the other program calls the entry, on one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

impl Place {
    /// A line.
    pub(crate) fn line(line: u64) -> Self {
        Self { line: Some(line), ..Self::default() }
    }

    /// An entry.
    pub(crate) fn entry(number: u64) -> Self {
        Self { entry: Some(number), ..Self::default() }
    }

    /// The same place with a label.
    pub(crate) fn labelled(mut self, label: &str) -> Self {
        self.label = Some(one_line(label, LABEL_CHARS_MAX).0);
        self
    }

    fn is_fit(&self) -> bool {
        self.label.as_deref().is_none_or(|label| is_one_line(label, LABEL_CHARS_MAX))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.entry) {
            (Some(line), _) => write!(f, "line {line}")?,
            (None, Some(entry)) => write!(f, "entry {entry}")?,
            (None, None) => f.write_str("the file")?,
        }
        match &self.label {
            Some(label) => write!(f, " ({label})"),
            None => Ok(()),
        }
    }
}

/// Something that did not come along, or not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotCarried {
    /// Where it was.
    pub place: Place,
    /// What it was, on one line: names, never a value.
    pub what: String,
    /// Why.
    pub reason: Reason,
    /// How often, where one line stands for many.
    pub count: u64,
}

impl NotCarried {
    pub(crate) fn new(place: Place, what: &str, reason: Reason, count: u64) -> Self {
        Self { place, what: one_line(what, WHAT_CHARS_MAX).0, reason, count }
    }

    /// Whether the texts are such as this crate writes.
    pub(crate) fn is_fit(&self) -> bool {
        self.place.is_fit() && is_one_line(&self.what, WHAT_CHARS_MAX)
    }
}

impl fmt::Display for NotCarried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)?;
        if self.count != 1 {
            write!(f, " ({} times)", self.count)?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// Why something did not come along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// There is no place for it.
    NoPlace,
    /// Attachments are added one by one.
    Attachment,
    /// Only the newest version comes along.
    OlderVersion,
    /// It was thrown away.
    InRecycleBin,
    /// It has more bytes than an item holds.
    TooLong,
    /// There are more of them than an item or a vault holds.
    TooMany,
    /// It has no value.
    Empty,
    /// It is not what its place says.
    Malformed,
    /// It came along, but the variables or references in it stand as they are.
    NotExpanded,
    /// It came along under another name.
    Renamed,
    /// It came along, cut or without unprintable characters.
    Altered,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPlace => "not carried, there is no place for it",
            Self::Attachment => "not carried, add attachments by hand",
            Self::OlderVersion => "not carried, only the newest version is",
            Self::InRecycleBin => "not carried, it was in the recycle bin",
            Self::TooLong => "not carried, it is too long",
            Self::TooMany => "not carried, there are too many",
            Self::Empty => "not carried, it is empty",
            Self::Malformed => "not carried, it is malformed",
            Self::NotExpanded => "carried as it stands, not expanded",
            Self::Renamed => "carried under another name",
            Self::Altered => "carried, but not in full",
        })
    }
}

/// An entry that could not be read at all and was skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BadRow {
    /// Where it is.
    pub place: Place,
    /// What is wrong with it.
    pub fault: RowFault,
}

impl BadRow {
    /// Whether the texts are such as this crate writes.
    pub(crate) fn is_fit(&self) -> bool {
        self.place.is_fit()
    }
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.fault)
    }
}

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RowFault {
    /// More or fewer columns than the header line.
    Columns,
    /// A quote that is never closed, or text after it.
    Quotes,
    /// Bytes that are not UTF-8.
    NotUtf8,
    /// A line without a name and an equals sign.
    NoAssignment,
    /// A name with other characters than letters, digits, `_`, `.` and `-`.
    Name,
    /// Not an object, or without what every entry has.
    Shape,
    /// A type of entry that is not known here.
    TypeUnknown,
    /// More values than any entry has.
    TooManyValues,
}

impl fmt::Display for RowFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Columns => "it has more or fewer columns than the first line",
            Self::Quotes => "its quotes do not match",
            Self::NotUtf8 => "it is not UTF-8 text",
            Self::NoAssignment => "it is not of the form NAME=value",
            Self::Name => "its name has other characters than letters, digits and underscores",
            Self::Shape => "it is not shaped like an entry",
            Self::TypeUnknown => "its type is not known here",
            Self::TooManyValues => "it holds more values than an entry can",
        })
    }
}

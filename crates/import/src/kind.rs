//! What kind of export a file is, by its content.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use strongroom_wire::items::WordUnknown;

use crate::browser;
use crate::dotenv;
use crate::refused::ImportRefused;
use crate::text;

/// A kind of export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Bitwarden's JSON, plain or encrypted with a password.
    #[serde(rename = "bitwarden")]
    Bitwarden,
    /// A KeePass database in the format KDBX 4.
    #[serde(rename = "keepass")]
    KeePass,
    /// The CSV of Chrome and the browsers made from it.
    #[serde(rename = "chrome")]
    Chrome,
    /// The CSV of Firefox.
    #[serde(rename = "firefox")]
    Firefox,
    /// The CSV of Safari and Apple's Passwords.
    #[serde(rename = "safari")]
    Safari,
    /// A file of `NAME=value` lines.
    #[serde(rename = "env")]
    Env,
}

impl Kind {
    /// Every kind there is.
    pub const ALL: &'static [Self] =
        &[Self::Bitwarden, Self::KeePass, Self::Chrome, Self::Firefox, Self::Safari, Self::Env];

    /// The kind as it is written; also the source in the origin of its items.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bitwarden => "bitwarden",
            Self::KeePass => "keepass",
            Self::Chrome => "chrome",
            Self::Firefox => "firefox",
            Self::Safari => "safari",
            Self::Env => "env",
        }
    }

    /// The kind of a file, from its first bytes and its header line.
    ///
    /// # Errors
    /// [`ImportRefused`] says what the file is instead, or that it is none of these; the member can name the kind.
    pub fn detect(file: &[u8]) -> Result<Self, ImportRefused> {
        if file.is_empty() {
            return Err(ImportRefused::Empty);
        }
        if file.starts_with(&KEEPASS_MAGIC) {
            return Ok(Self::KeePass);
        }
        if file.starts_with(b"PK\x03\x04") {
            return Err(ImportRefused::ZipArchive);
        }
        if text::is_utf16(file) {
            return Err(ImportRefused::Utf16);
        }
        let text = text::without_bom(file);
        if text.trim_ascii_start().starts_with(b"{") {
            return Ok(Self::Bitwarden);
        }
        browser::detect(text)
            .or_else(|| dotenv::looks_like(text).then_some(Self::Env))
            .ok_or(ImportRefused::KindUnknown)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = WordUnknown;

    fn from_str(text: &str) -> Result<Self, WordUnknown> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text).ok_or_else(|| WordUnknown {
            expected: Self::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", "),
        })
    }
}

/// The first four bytes of every KeePass file.
pub(crate) const KEEPASS_MAGIC: [u8; 4] = [0x03, 0xd9, 0xa2, 0x9a];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_by_content() {
        let kind = |text: &str| Kind::detect(text.as_bytes());
        assert_eq!(kind("\u{feff} {\"items\":[]}"), Ok(Kind::Bitwarden));
        assert_eq!(kind("name,url,username,password\n"), Ok(Kind::Chrome));
        assert_eq!(kind("Title,URL,Username,Password,Notes,OTPAuth\r\n"), Ok(Kind::Safari));
        assert_eq!(kind("# settings\n\nexport API_KEY=x\n"), Ok(Kind::Env));
        assert_eq!(kind("Dear reader,\n"), Err(ImportRefused::KindUnknown));
        assert_eq!(kind(""), Err(ImportRefused::Empty));
        assert_eq!(Kind::detect(b"\xff\xfen\0a\0"), Err(ImportRefused::Utf16));
        assert_eq!(Kind::detect(b"n\0a\0m\0e\0,\0"), Err(ImportRefused::Utf16));
        assert_eq!(Kind::detect(b"PK\x03\x04...."), Err(ImportRefused::ZipArchive));
        assert_eq!(Kind::detect(&KEEPASS_MAGIC), Ok(Kind::KeePass));
    }
}

//! References: stable names for fields that reveal nothing of their values.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::ids::ItemId;

/// The name of a field: 1 to 64 of `a`–`z`, `0`–`9`, `_` and `-`, starting with a letter.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldName(Box<str>);

/// Why a text is not a field name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a field name has 1 to 64 characters of a–z, 0–9, _ and -, and starts with a letter")]
pub struct FieldNameMalformed;

impl FieldName {
    /// Parses a name.
    ///
    /// # Errors
    /// [`FieldNameMalformed`] says the form; ask for another name.
    pub fn parse(text: &str) -> Result<Self, FieldNameMalformed> {
        let starts = text.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
        let inside = text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
        if starts && inside && text.len() <= 64 { Ok(Self(text.into())) } else { Err(FieldNameMalformed) }
    }

    /// The name of a foreign field, made to fit: lower case, other characters as `_`, cut at 64.
    pub fn from_foreign(text: &str) -> Self {
        let mut name: String = text
            .chars()
            .map(|c| c.to_ascii_lowercase())
            .map(|c| if matches!(c, 'a'..='z' | '0'..='9' | '-') { c } else { '_' })
            .take(62)
            .collect();
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            name.insert_str(0, "f_");
        }
        Self(name.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for FieldName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for FieldName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&<std::borrow::Cow<'de, str>>::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// `vault://<item id>/<field>`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// The item.
    pub item: ItemId,
    /// The field of that item.
    pub field: FieldName,
}

/// Why a text is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a reference like vault://<item id>/<field>")]
pub struct ReferenceMalformed;

impl FromStr for Reference {
    type Err = ReferenceMalformed;

    fn from_str(text: &str) -> Result<Self, ReferenceMalformed> {
        let rest = text.strip_prefix("vault://").ok_or(ReferenceMalformed)?;
        let (item, field) = rest.split_once('/').ok_or(ReferenceMalformed)?;
        Ok(Self {
            item: item.parse().map_err(|_| ReferenceMalformed)?,
            field: FieldName::parse(field).map_err(|_| ReferenceMalformed)?,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vault://{}/{}", self.item, self.field)
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_only() {
        let item = ItemId([7; 16]);
        let text = format!("vault://{item}/password");
        assert_eq!(text.parse::<Reference>().map(|r| r.to_string()), Ok(text.clone()));
        for bad in [
            format!("vault:/{item}/password"),
            format!("vault://{item}/password/"),
            format!("vault://{item}/../x"),
            format!("vault://{item}/Password"),
            format!("VAULT://{item}/password"),
            format!("vault://{item}"),
            format!("vault://{item}/"),
            format!(" vault://{item}/password"),
        ] {
            assert_eq!(bad.parse::<Reference>(), Err(ReferenceMalformed), "{bad}");
        }
    }

    #[test]
    fn foreign_names_always_fit() {
        for name in ["", "9lives", "API Key (prod)", "пароль", &"x".repeat(500)] {
            let made = FieldName::from_foreign(name);
            assert_eq!(FieldName::parse(made.as_str()), Ok(made));
        }
    }
}

//! A JSON value with a bound on its size, whose texts are wiped.
//!
//! What is taken out of it is carried; what is left at the end is reported. So a member of an object that nobody knows
//! cannot be lost in silence. serde_json bounds the depth (128 levels) and never repeats content in its errors' positions.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

use crate::refused::ImportRefused;
use crate::text::Text;

/// A JSON value.
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(Text),
    List(Vec<Self>),
    Map(Map),
    /// What stood where the budget of values ran out.
    Cut,
}

/// The members of an object, in order; a name that is there twice is there twice.
pub(crate) struct Map(pub(crate) Vec<(String, Json)>);

impl Json {
    /// A text, or a number or truth value written as one; `None` for everything else.
    pub(crate) fn into_text(self) -> Option<Text> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(number) => Some(Zeroizing::new(number.to_string())),
            Self::Bool(value) => Some(Zeroizing::new(value.to_string())),
            Self::Null | Self::List(_) | Self::Map(_) | Self::Cut => None,
        }
    }

    pub(crate) fn as_u64(&self) -> Option<u64> {
        if let Self::Number(number) = self { number.as_u64() } else { None }
    }

    /// Whether there is nothing in it that could be missed.
    pub(crate) fn is_blank(&self) -> bool {
        match self {
            Self::Null | Self::Bool(false) => true,
            Self::Text(text) => text.is_empty(),
            Self::List(list) => list.iter().all(Self::is_blank),
            Self::Map(map) => map.0.iter().all(|(_, value)| value.is_blank()),
            Self::Bool(true) | Self::Number(_) | Self::Cut => false,
        }
    }

    /// Whether the budget ran out inside.
    pub(crate) fn is_cut(&self) -> bool {
        match self {
            Self::Cut => true,
            Self::List(list) => list.iter().any(Self::is_cut),
            Self::Map(map) => map.0.iter().any(|(_, value)| value.is_cut()),
            _ => false,
        }
    }
}

impl Map {
    /// Takes a member out; `None` where it is absent or null.
    pub(crate) fn take(&mut self, name: &str) -> Option<Json> {
        let at = self.0.iter().position(|(key, _)| key == name)?;
        Some(self.0.remove(at).1).filter(|value| !matches!(value, Json::Null))
    }

    /// Takes a text out. A member that is no text stays, so that it is reported.
    pub(crate) fn take_text(&mut self, name: &str) -> Option<Text> {
        let at = self.0.iter().position(|(key, _)| key == name)?;
        match self.0[at].1 {
            Json::Text(_) | Json::Number(_) | Json::Bool(_) => self.0.remove(at).1.into_text(),
            _ => None,
        }
    }

    /// Takes an object out; anything else stays.
    pub(crate) fn take_map(&mut self, name: &str) -> Option<Self> {
        let at = self.0.iter().position(|(key, value)| key == name && matches!(value, Json::Map(_)))?;
        if let (_, Json::Map(map)) = self.0.remove(at) { Some(map) } else { None }
    }

    /// Takes a list out; anything else stays.
    pub(crate) fn take_list(&mut self, name: &str) -> Vec<Json> {
        let Some(at) = self.0.iter().position(|(key, value)| key == name && matches!(value, Json::List(_))) else {
            return Vec::new();
        };
        if let (_, Json::List(list)) = self.0.remove(at) { list } else { Vec::new() }
    }
}

/// Reads a value out of what is left of a budget of values.
pub(crate) struct Budget<'b>(pub(crate) &'b Cell<usize>);

impl<'de> DeserializeSeed<'de> for Budget<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        match self.0.get().checked_sub(1) {
            Some(left) => {
                self.0.set(left);
                deserializer.deserialize_any(self)
            }
            None => serde::de::Deserialize::deserialize(deserializer).map(|IgnoredAny| Json::Cut),
        }
    }
}

impl<'de> Visitor<'de> for Budget<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(serde_json::Number::from_f64(value).map_or(Json::Null, Json::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(Zeroizing::new(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Json, E> {
        Ok(Json::Text(Zeroizing::new(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element_seed(Budget(self.0))? {
            // Values beyond the budget are read past; one Cut stands for all of them.
            if !matches!((list.last(), &value), (Some(Json::Cut), Json::Cut)) {
                list.push(value);
            }
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut members: Vec<(String, Json)> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(Budget(self.0))?;
            if !matches!((members.last(), &value), (Some((_, Json::Cut)), Json::Cut)) {
                members.push((name, value));
            }
        }
        Ok(Json::Map(Map(members)))
    }
}

/// What went wrong in reading JSON: its position, never its content.
pub(crate) fn refused(error: &serde_json::Error) -> ImportRefused {
    if error.is_eof() {
        return ImportRefused::CutShort;
    }
    ImportRefused::NotJson { line: error.line() as u64, column: error.column() as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, budget: usize) -> Result<Json, serde_json::Error> {
        Budget(&Cell::new(budget)).deserialize(&mut serde_json::Deserializer::from_str(text))
    }

    #[test]
    fn a_budget_bounds_the_values_and_reads_past_the_rest() {
        let Ok(Json::List(list)) = read(&format!("[{}0]", "0,".repeat(100_000)), 10) else { panic!("a list") };
        assert_eq!(list.len(), 10);
        assert!(list.last().is_some_and(Json::is_cut));
    }

    #[test]
    fn depth_is_bounded() {
        for levels in [200, 10_000, 1_000_000] {
            for open in ["[", "{\"a\":"] {
                assert!(read(&open.repeat(levels), 100_000).is_err());
            }
        }
    }

    #[test]
    fn what_is_not_taken_stays() {
        let Ok(Json::Map(mut map)) = read(r#"{"a":"x","b":{"c":[]},"a":"y","n":null,"d":[1]}"#, 100) else {
            panic!("an object")
        };
        assert_eq!(map.take_text("a").as_deref().map(String::as_str), Some("x"));
        assert!(map.take_text("d").is_none() && map.take("n").is_none() && map.take_map("b").is_some());
        let left: Vec<_> = map.0.iter().map(|(name, value)| (name.as_str(), value.is_blank())).collect();
        assert_eq!(left, [("a", false), ("d", false)]);
    }
}

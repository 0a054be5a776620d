//! Items: records with typed, classed fields; how they come in (drafts) and how they are shown (views).

use serde::{Deserialize, Serialize};

use crate::bytes::SecretValue;
use crate::ids::ItemId;
use crate::policy::ItemPolicy;
use crate::reference::FieldName;
use crate::time::Timestamp;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant,)* }

        impl $name {
            /// Every value there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The value as it is written.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::items::WordUnknown;

            fn from_str(text: &str) -> Result<Self, $crate::items::WordUnknown> {
                Self::ALL.iter().copied().find(|word| word.as_str() == text).ok_or_else(|| $crate::items::WordUnknown {
                    expected: Self::ALL.iter().map(|word| word.as_str()).collect::<Vec<_>>().join(", "),
                })
            }
        }
    };
}
pub(crate) use words;

/// Why a word was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected one of: {expected}")]
pub struct WordUnknown {
    /// The words that would have been.
    pub expected: String,
}

words! {
    /// What an item is.
    ItemType {
        /// A user name and password for a site.
        Login = "login",
        /// A key for an API, with the places it may go.
        ApiKey = "api_key",
        /// An OpenSSH key pair.
        SshKey = "ssh_key",
        /// A private key that signs messages or tokens.
        SigningKey = "signing_key",
        /// A symmetric key that encrypts, authenticates or derives.
        CryptKey = "crypt_key",
        /// Settings of a one-time-code generator.
        Totp = "totp",
        /// A payment card.
        Card = "card",
        /// A person's data.
        Identity = "identity",
        /// Text.
        Note = "note",
        /// A wallet's seed or keys.
        Wallet = "wallet",
    }
}

words! {
    /// How a field is guarded, from least to most.
    Class {
        /// May be shown to anyone.
        Public = "public",
        /// Shown on an unlocked device.
        Private = "private",
        /// Opens something else; consumers only.
        Secret = "secret",
        /// Cannot be replaced, or costs money at once; consumers only, while the device presents its credential.
        Critical = "critical",
    }
}

impl ItemType {
    /// The fields that an item of this type usually has, with their classes; the first secret one is its main field.
    pub fn usual_fields(self) -> &'static [(&'static str, Class)] {
        use Class::{Critical, Private, Secret};
        match self {
            Self::Login => {
                &[("username", Private), ("password", Secret), ("url", Private), ("totp", Secret), ("notes", Secret)]
            }
            Self::ApiKey => &[("key", Secret), ("notes", Secret)],
            Self::SshKey => &[("private_key", Secret), ("public_key", Private), ("notes", Secret)],
            Self::SigningKey => &[("private_key", Secret), ("public_key", Private), ("notes", Secret)],
            Self::CryptKey => &[("key", Secret), ("notes", Secret)],
            Self::Totp => &[("totp", Secret), ("notes", Secret)],
            Self::Card => &[
                ("holder", Private),
                ("brand", Private),
                ("number", Secret),
                ("expiry", Private),
                ("code", Secret),
                ("pin", Secret),
                ("notes", Secret),
            ],
            Self::Identity => &[
                ("name", Private),
                ("email", Private),
                ("phone", Private),
                ("address", Private),
                ("birthday", Private),
                ("passport", Secret),
                ("tax_number", Secret),
                ("notes", Secret),
            ],
            Self::Note => &[("text", Secret)],
            Self::Wallet => &[("seed", Critical), ("address", Private), ("notes", Secret)],
        }
    }

    /// The field that consumers use when none is named.
    pub fn main_field(self) -> FieldName {
        let name =
            self.usual_fields().iter().find(|(_, class)| *class >= Class::Secret).map_or("text", |(name, _)| name);
        FieldName::parse(name).expect("the usual field names are well-formed")
    }

    /// The class of a field by its name; a field that is not usual for the type is secret.
    pub fn class_of(self, field: &str) -> Class {
        self.usual_fields().iter().find(|(name, _)| *name == field).map_or(Class::Secret, |(_, class)| *class)
    }
}

/// A field on its way into the vault.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldDraft {
    /// Its name, unique in the item.
    pub name: FieldName,
    /// How it is guarded.
    pub class: Class,
    /// Its value, UTF-8 text or bytes.
    pub value: SecretValue,
}

/// Where an imported item came from, so that a repeated import finds it again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The kind of source, such as `bitwarden`.
    pub source: String,
    /// The item's id there, or a digest of what identifies it; at most 128 characters.
    pub id: String,
}

/// An item on its way into the vault.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemDraft {
    /// What it is.
    #[serde(rename = "type")]
    pub item_type: ItemType,
    /// What the member calls it.
    pub label: String,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Its fields.
    pub fields: Vec<FieldDraft>,
    /// Where its secrets may go.
    #[serde(default, skip_serializing_if = "ItemPolicy::is_empty")]
    pub policy: ItemPolicy,
    /// Where it was imported from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// One row of a list: nothing here is secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemSummary {
    /// The item.
    pub id: ItemId,
    /// What it is.
    #[serde(rename = "type")]
    pub item_type: ItemType,
    /// What the member calls it.
    pub label: String,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// When it last changed.
    pub changed_at: Timestamp,
    /// Whether it was removed and waits to be purged.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
}

/// A field as it is shown: the value only where its class allows, else nothing but that it is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldView {
    /// Its name.
    pub name: FieldName,
    /// How it is guarded.
    pub class: Class,
    /// Counts the changes of this field from 1.
    pub version: u64,
    /// When this version was written.
    pub changed_at: Timestamp,
    /// The value of a public or private field that is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// An item as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemView {
    /// The row of the list.
    pub summary: ItemSummary,
    /// Counts the changes of the item from 1.
    pub version: u64,
    /// When it was added.
    pub added_at: Timestamp,
    /// Its fields, masked.
    pub fields: Vec<FieldView>,
    /// Where its secrets may go.
    pub policy: ItemPolicy,
    /// Counts the changes of the policy from 1.
    pub policy_version: u64,
    /// Where it was imported from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_guarded_main_field() {
        for kind in ItemType::ALL {
            let main = kind.main_field();
            assert!(kind.class_of(main.as_str()) >= Class::Secret, "{kind}: {main}");
            for (name, _) in kind.usual_fields() {
                assert!(FieldName::parse(name).is_ok(), "{kind}: {name}");
            }
        }
    }

    #[test]
    fn words_read_back() {
        assert_eq!("api_key".parse::<ItemType>(), Ok(ItemType::ApiKey));
        assert!("apikey".parse::<ItemType>().unwrap_err().to_string().contains("api_key"));
        assert!(Class::Public < Class::Critical);
    }
}

//! The kinds of ids, listed once. Each is 16 random bytes, 26 characters of lower-case base32 in text.

use std::fmt;
use std::str::FromStr;

use data_encoding::{Encoding, Specification};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::sync::LazyLock;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an id of 26 characters (a–z and 2–7)")]
pub struct IdMalformed;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// The id's 16 bytes.
            pub fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), encode(&self.0))
            }
        }

        impl FromStr for $name {
            type Err = IdMalformed;

            fn from_str(text: &str) -> Result<Self, IdMalformed> {
                decode(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&encode(&self.0))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                decode(&text).map(Self).map_err(de::Error::custom)
            }
        }
    )* };
}

ids! {
    /// One vault, and with it its member.
    VaultId,
    /// One item of a vault.
    ItemId,
    /// One device of a member.
    DeviceId,
    /// One guest: an agent, an app, a handler or a connection.
    GuestId,
    /// One standing permission.
    GrantId,
    /// One short-lived permission.
    HandleId,
    /// One question to the member.
    ApprovalId,
    /// One request of a device or guest; the same id never acts twice.
    RequestId,
    /// One way to unlock a vault.
    SlotId,
}

/// 32 random bytes that a vault asks a device to answer, once.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Challenge(pub [u8; 32]);

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Challenge")
    }
}

impl Serialize for Challenge {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        crate::Bytes::from(self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Challenge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = crate::Bytes::deserialize(deserializer)?;
        bytes.to_array().map(Self).ok_or_else(|| de::Error::custom("expected 32 bytes"))
    }
}

fn encode(id: &[u8; 16]) -> String {
    BASE32.encode(id)
}

fn decode(text: &str) -> Result<[u8; 16], IdMalformed> {
    if text.len() != 26 {
        return Err(IdMalformed);
    }
    let bytes = BASE32.decode(text.as_bytes()).map_err(|_| IdMalformed)?;
    bytes.try_into().map_err(|_| IdMalformed)
}

/// RFC 4648 base32 in lower case without padding; the two spare bits of the last character must be zero, so that an id has
/// one text only.
static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    specification.encoding().expect("the alphabet has 32 distinct ASCII characters")
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let id = ItemId([0xa5; 16]);
        assert_eq!(id.to_string().len(), 26);
        assert_eq!(id.to_string().parse::<ItemId>(), Ok(id));
    }

    #[test]
    fn one_text_only() {
        // The last character carries three bits; any of the other two set names the same bytes and is refused.
        assert!("aaaaaaaaaaaaaaaaaaaaaaaaab".parse::<ItemId>().is_err());
        assert!("AAAAAAAAAAAAAAAAAAAAAAAAAA".parse::<ItemId>().is_err());
        assert!("aaaa".parse::<ItemId>().is_err());
    }
}

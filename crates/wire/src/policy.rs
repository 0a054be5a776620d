//! Where a secret may go: the item's own policy, and the limits of a grant.

use serde::{Deserialize, Serialize};

use crate::bytes::Bytes;
use crate::items::words;
use crate::time::Timestamp;

/// What an item says of the use of its secrets. Empty means: no consumer that needs a policy may use it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemPolicy {
    /// Where `http` may send the main field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpPolicy>,
    /// What the key does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyPolicy>,
}

impl ItemPolicy {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.http.is_none() && self.key.is_none()
    }
}

/// Where `http` may send a secret, and how it is placed there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpPolicy {
    /// The hosts, exactly.
    pub hosts: Vec<Destination>,
    /// How the secret is placed in the request.
    pub placement: Placement,
    /// Whether an address that is not global (a local network, this machine) is allowed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_private: bool,
    /// Whether guests may use a secret under 16 bytes, which the echo mask cannot hide well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_short: bool,
    /// PEM certificates that are trusted for these hosts instead of the public roots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roots_pem: Option<String>,
}

/// A host and port, exactly: no wildcard. The host is in lower case, IDNA-encoded; an IPv6 address is in brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Destination {
    /// The host as the `Host` header names it, without port.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// Why a text is not a destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a host such as api.example.com or api.example.com:8443, without scheme, path or wildcard")]
pub struct DestinationMalformed;

impl std::str::FromStr for Destination {
    type Err = DestinationMalformed;

    fn from_str(text: &str) -> Result<Self, DestinationMalformed> {
        if text.is_empty()
            || text.len() > HOST_CHARS_MAX + ":65535".len()
            || text
                .bytes()
                .any(|b| matches!(b, b'/' | b'@' | b'*' | b'?' | b'#' | b'\\' | b'%') || b <= b' ' || b == 0x7f)
        {
            return Err(DestinationMalformed);
        }
        let url = url::Url::parse(&format!("https://{text}/")).map_err(|_| DestinationMalformed)?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(DestinationMalformed)?;
        // A name grows when it is encoded, and what is kept must be read again.
        if text.ends_with(':') || host.ends_with('.') || host.len() > HOST_CHARS_MAX {
            return Err(DestinationMalformed);
        }
        Ok(Self { host: host.to_owned(), port: url.port_or_known_default().ok_or(DestinationMalformed)? })
    }
}

/// A name in DNS (RFC 1035, section 3.1), written with dots.
const HOST_CHARS_MAX: usize = 253;

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.port == 443 { f.write_str(&self.host) } else { write!(f, "{}:{}", self.host, self.port) }
    }
}

impl Serialize for Destination {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Destination {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How a secret is placed in a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Placement {
    /// `Authorization: Bearer <secret>` (RFC 6750, section 2.1).
    Bearer,
    /// `Authorization: Basic base64(<username>:<secret>)` (RFC 7617).
    Basic {
        /// The user-id; it holds no colon.
        username: String,
    },
    /// A header of its own.
    Header {
        /// Its name.
        name: String,
        /// Text before the secret, such as `token `.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        prefix: String,
    },
    /// A query parameter, appended to the URL.
    Query {
        /// Its name.
        name: String,
    },
    /// An HMAC over the request, keyed with the secret.
    Hmac(HmacPlacement),
    /// AWS Signature Version 4; the secret is the secret access key.
    AwsSigV4 {
        /// The access key id.
        access_key_id: String,
        /// The region, such as `eu-central-1`.
        region: String,
        /// The service, such as `s3`.
        service: String,
    },
}

/// An HMAC over parts of the request, joined by line feeds, put into a header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HmacPlacement {
    /// The hash.
    pub hash: Hash,
    /// The header that carries the tag.
    pub header: String,
    /// Text before the tag, such as `sha256=`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// How the tag is written.
    pub encoding: TagEncoding,
    /// What is authenticated, in order.
    pub parts: Vec<HmacPart>,
    /// A header that the vault sets to the Unix time in seconds, and that `timestamp` stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_header: Option<String>,
}

words! {
    /// A hash function.
    Hash {
        /// SHA-1, where an existing protocol asks for it.
        Sha1 = "sha1",
        /// SHA-256.
        Sha256 = "sha256",
        /// SHA-512.
        Sha512 = "sha512",
    }
}

words! {
    /// How a tag is written in a header.
    TagEncoding {
        /// Lower-case hexadecimal.
        Hex = "hex",
        /// Base64 with padding.
        Base64 = "base64",
    }
}

words! {
    /// A part of a request that an HMAC covers.
    HmacPart {
        /// The method in upper case.
        Method = "method",
        /// Host, with the port where it is not 443.
        Host = "host",
        /// The path as sent.
        Path = "path",
        /// The query as sent, without the question mark; empty where there is none.
        Query = "query",
        /// The body's bytes; needs a body that is inline.
        Body = "body",
        /// The body's SHA-256 in lower-case hexadecimal; needs a body that is inline.
        BodySha256 = "body_sha256",
        /// The value of the timestamp header.
        Timestamp = "timestamp",
    }
}

/// What a key item does: one purpose, one algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPolicy {
    /// What it is for.
    pub purpose: KeyPurpose,
    /// How it does it.
    pub algorithm: KeyAlgorithm,
}

words! {
    /// What a key is for.
    KeyPurpose {
        /// Signs messages.
        Message = "message",
        /// Makes OpenSSH signatures (PROTOCOL.sshsig) under a namespace.
        Ssh = "ssh",
        /// Signs JSON Web Tokens (RFC 7519).
        Jwt = "jwt",
        /// Encrypts and decrypts.
        Encrypt = "encrypt",
        /// Authenticates with HMAC.
        Mac = "mac",
        /// Derives further keys.
        Derive = "derive",
    }
}

words! {
    /// How a key does it.
    KeyAlgorithm {
        /// Ed25519 (RFC 8032).
        Ed25519 = "ed25519",
        /// ECDSA over P-256 with SHA-256.
        EcdsaP256 = "ecdsa_p256",
        /// ECDSA over secp256k1 with SHA-256 and low s.
        EcdsaSecp256k1 = "ecdsa_secp256k1",
        /// RSASSA-PSS with SHA-256 (RFC 8017, section 8.1).
        RsaPssSha256 = "rsa_pss_sha256",
        /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017, section 8.2).
        RsaPkcs1Sha256 = "rsa_pkcs1_sha256",
        /// XChaCha20-Poly1305.
        Xchacha20Poly1305 = "xchacha20_poly1305",
        /// HMAC with SHA-256.
        HmacSha256 = "hmac_sha256",
        /// HKDF with SHA-256 (RFC 5869).
        HkdfSha256 = "hkdf_sha256",
    }
}

impl KeyPolicy {
    /// Whether purpose and algorithm go together.
    pub fn fits(&self) -> bool {
        use KeyAlgorithm as A;
        matches!(
            (self.purpose, self.algorithm),
            (KeyPurpose::Message, A::Ed25519 | A::EcdsaP256 | A::EcdsaSecp256k1 | A::RsaPssSha256 | A::RsaPkcs1Sha256)
                | (KeyPurpose::Ssh | KeyPurpose::Jwt, A::Ed25519 | A::EcdsaP256 | A::RsaPkcs1Sha256)
                | (KeyPurpose::Encrypt, A::Xchacha20Poly1305)
                | (KeyPurpose::Mac, A::HmacSha256)
                | (KeyPurpose::Derive, A::HkdfSha256)
        )
    }
}

words! {
    /// The code that may touch plaintext.
    Consumer {
        /// Calls an API.
        Http = "http",
        /// Signs.
        Sign = "sign",
        /// Makes a one-time code.
        Totp = "totp",
        /// Encrypts, decrypts, authenticates, derives.
        Crypt = "crypt",
        /// Puts a value on the device's clipboard.
        Clipboard = "clipboard",
        /// Starts a program on the device with a value.
        Exec = "exec",
        /// Writes values out on the device.
        Export = "export",
    }
}

impl Consumer {
    /// Whether a guest can ever be granted it.
    pub fn for_guests(self) -> bool {
        matches!(self, Self::Http | Self::Sign | Self::Totp | Self::Crypt)
    }
}

/// What a grant allows of a consumer, and how often. Every limit that is set counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// For `http`: where to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpLimits>,
    /// For `sign`: which messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign: Option<SignTemplate>,
    /// For `crypt`: which operations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crypt: Vec<CryptOperation>,
    /// Uses in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses_max: Option<u64>,
    /// Calls in any 60 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_per_minute_max: Option<u32>,
    /// Bytes in all, both ways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_max: Option<u64>,
    /// The end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Hours of the day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<Hours>,
}

/// Where a grant lets `http` go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpLimits {
    /// Of the item's hosts, those of this grant; empty means all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<Destination>,
    /// Methods in upper case; empty means GET and HEAD.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Path prefixes, each starting with `/`; empty means every path. A prefix matches whole segments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path_prefixes: Vec<String>,
    /// Bytes of one body, each way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_bytes_max: Option<u64>,
    /// Whether `Set-Cookie` of an answer reaches the guest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub set_cookie: bool,
}

/// What a grant lets `sign` sign. What is absent is not checked, but for `ssh` and `jwt` keys a template must be there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignTemplate {
    /// Bytes that the message starts with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<Bytes>,
    /// Bytes of the message at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_bytes_max: Option<u64>,
    /// SSH namespaces allowed, such as `git`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh_namespaces: Vec<String>,
    /// JWT claims allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtTemplate>,
}

/// The claims of a token that a guest may have signed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtTemplate {
    /// Claims that must be there with exactly this value.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub fixed: serde_json::Map<String, serde_json::Value>,
    /// Further claims that the guest may choose.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub free: Vec<String>,
    /// Seconds from now to `exp` at most; the vault sets `iat` and, where absent, `exp`.
    pub lifetime_secs_max: u64,
}

words! {
    /// What `crypt` can be asked for.
    CryptOperation {
        /// Encrypt under the newest version.
        Encrypt = "encrypt",
        /// Decrypt under the version that the ciphertext names: a disclosure of the plaintext.
        Decrypt = "decrypt",
        /// Decrypt under an old version and encrypt under the newest, without showing the plaintext.
        Rewrap = "rewrap",
        /// Make an authentication tag.
        Mac = "mac",
        /// Check an authentication tag.
        VerifyMac = "verify_mac",
        /// Derive a key; the answer is a reference.
        Derive = "derive",
    }
}

/// Hours of the day in which a grant holds, in UTC minutes since midnight; `from > to` spans midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    /// First minute, 0 to 1439.
    pub from_minute: u16,
    /// The minute after the last, 0 to 1440.
    pub to_minute: u16,
}

impl Hours {
    /// Whether `now` lies inside.
    pub fn contain(self, now: Timestamp) -> bool {
        let minute = now.unix_secs() / 60 % (24 * 60);
        let (from, to) = (u64::from(self.from_minute), u64::from(self.to_minute));
        if from <= to { (from..to).contains(&minute) } else { minute >= from || minute < to }
    }
}

/// Whether the member is asked, from the least to the most strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Mode {
    /// Never asked.
    Always,
    /// Asked once; the answer covers guest, item, consumer, host, method and path prefix for a while.
    AskOnce {
        /// For how long, in seconds.
        secs: u64,
    },
    /// Asked each time.
    Ask,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_exact() {
        let parse = |text: &str| text.parse::<Destination>().map(|d| d.to_string());
        assert_eq!(parse("API.Example.com"), Ok("api.example.com".into()));
        assert_eq!(parse("localhost:8443"), Ok("localhost:8443".into()));
        assert_eq!(parse("[::1]:8443"), Ok("[::1]:8443".into()));
        assert_eq!(parse("bücher.example"), Ok("xn--bcher-kva.example".into()));
        for bad in ["", "*.example.com", "https://a", "a/b", "u@a", "a:", "a:99999", "a b", "a.", "a%2e"] {
            assert_eq!(parse(bad), Err(DestinationMalformed), "{bad}");
        }
    }

    #[test]
    fn hours_may_span_midnight() {
        let night = Hours { from_minute: 22 * 60, to_minute: 6 * 60 };
        assert!(night.contain(Timestamp(23 * 3_600_000)));
        assert!(!night.contain(Timestamp(12 * 3_600_000)));
        let empty = Hours { from_minute: 60, to_minute: 60 };
        assert!(!empty.contain(Timestamp(3_600_000)));
    }

    #[test]
    fn the_strictest_mode_is_the_largest() {
        assert!(Mode::Ask > Mode::AskOnce { secs: 9 } && Mode::AskOnce { secs: 9 } > Mode::Always);
    }
}

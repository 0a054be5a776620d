//! The contract for guests: list, request, use, and what they answer. One contract for agents, apps, handlers and connections.

use serde::{Deserialize, Serialize};

use crate::bytes::Bytes;
use crate::code::Refusal;
use crate::ids::{ApprovalId, GrantId, HandleId};
use crate::items::ItemType;
use crate::policy::{Consumer, CryptOperation, KeyAlgorithm, KeyPurpose, Limits, Mode};
use crate::reference::Reference;
use crate::time::Timestamp;

/// What a guest asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum GuestRequest {
    /// The references granted to this guest.
    List {},
    /// For a grant, with a reason in plain words; it becomes a question to the member.
    Request(GrantWish),
    /// To use a secret.
    Use(UseRequest),
    /// How a pending approval stands; waits up to `wait_secs` (at most 60) for an answer.
    Poll {
        /// The approval.
        approval: ApprovalId,
        /// Seconds to wait for a change.
        #[serde(default)]
        wait_secs: u64,
    },
}

/// A wish for a grant. The member sees it whole and may narrow it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantWish {
    /// What the guest is after, in plain words: "the Example API, to read the weather".
    pub subject: String,
    /// Why, in plain words.
    pub reason: String,
    /// The consumer.
    pub consumer: Consumer,
    /// For `http`, the host wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// One use of a secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UseRequest {
    /// What to do with what; with `handle` for a request that was approved, only the handle counts and this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<UseCall>,
    /// The handle of an approved request: the vault runs the copy it kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<HandleId>,
    /// Why, in plain words, shown if the member is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A reference and what a consumer is to do with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UseCall {
    /// The field.
    pub reference: Reference,
    /// The consumer and its parameters.
    #[serde(rename = "do")]
    pub call: Call,
}

/// A consumer's parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Call {
    /// Call an API.
    Http(HttpCall),
    /// Sign.
    Sign(SignCall),
    /// Make a one-time code.
    Totp(TotpCall),
    /// Encrypt, decrypt, authenticate, derive.
    Crypt(CryptCall),
}

impl Call {
    /// The consumer it is for.
    pub fn consumer(&self) -> Consumer {
        match self {
            Self::Http(_) => Consumer::Http,
            Self::Sign(_) => Consumer::Sign,
            Self::Totp(_) => Consumer::Totp,
            Self::Crypt(_) => Consumer::Crypt,
        }
    }
}

/// An HTTP request without its credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpCall {
    /// The method in upper case.
    pub method: String,
    /// An absolute `https` URL.
    pub url: String,
    /// Headers in order; none that the vault sets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The body.
    #[serde(default, skip_serializing_if = "HttpBody::is_empty")]
    pub body: HttpBody,
    /// Whether redirects are followed, each checked as a new request.
    #[serde(default)]
    pub follow_redirects: bool,
}

/// Where a request's body is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HttpBody {
    /// There is none.
    #[default]
    Empty,
    /// Here.
    Inline(Bytes),
    /// In the chunk frames that follow the request.
    Stream {
        /// Its length, where it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        length: Option<u64>,
    },
}

impl HttpBody {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

/// The head of an HTTP answer; the body follows in chunk frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpHead {
    /// The status code.
    pub status: u16,
    /// Headers in order, scrubbed.
    pub headers: Vec<(String, String)>,
    /// The URL that answered, without what the vault placed in it.
    pub url: String,
}

/// What to sign.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SignCall {
    /// A message; the vault hashes it.
    Message {
        /// The whole message.
        message: Bytes,
    },
    /// An OpenSSH signature over a message (PROTOCOL.sshsig).
    Ssh {
        /// The namespace, such as `git` or `file`.
        namespace: String,
        /// The whole message.
        message: Bytes,
    },
    /// A JSON Web Token.
    Jwt {
        /// The claims wanted.
        claims: serde_json::Map<String, serde_json::Value>,
        /// `kid` of the header.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key_id: Option<String>,
    },
}

/// A one-time code. There is nothing to choose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TotpCall {}

/// What `crypt` is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CryptCall {
    /// Encrypt.
    Encrypt {
        /// What to encrypt.
        plaintext: Bytes,
        /// Associated data: must be given again to decrypt.
        #[serde(default)]
        context: Bytes,
    },
    /// Decrypt.
    Decrypt {
        /// What `encrypt` or `rewrap` answered.
        ciphertext: Bytes,
        /// The associated data.
        #[serde(default)]
        context: Bytes,
    },
    /// Encrypt again under the newest version of the key.
    Rewrap {
        /// What `encrypt` or `rewrap` answered.
        ciphertext: Bytes,
        /// The associated data.
        #[serde(default)]
        context: Bytes,
    },
    /// Make a tag.
    Mac {
        /// What to authenticate.
        message: Bytes,
    },
    /// Check a tag.
    VerifyMac {
        /// What was authenticated.
        message: Bytes,
        /// What `mac` answered.
        tag: Bytes,
    },
    /// Derive a key.
    Derive {
        /// What tells this key from others.
        context: Bytes,
        /// What the derived key is for: `encrypt` or `mac`.
        purpose: KeyPurpose,
    },
}

impl CryptCall {
    /// The operation, as grants name it.
    pub fn operation(&self) -> CryptOperation {
        match self {
            Self::Encrypt { .. } => CryptOperation::Encrypt,
            Self::Decrypt { .. } => CryptOperation::Decrypt,
            Self::Rewrap { .. } => CryptOperation::Rewrap,
            Self::Mac { .. } => CryptOperation::Mac,
            Self::VerifyMac { .. } => CryptOperation::VerifyMac,
            Self::Derive { .. } => CryptOperation::Derive,
        }
    }
}

/// What a use gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum UseResult {
    /// `http`: the head; the body follows in chunk frames.
    Http(HttpHead),
    /// `sign`: the signature (ECDSA: fixed-width r and s, as in RFC 7518, section 3.4).
    Signature {
        /// The bytes.
        signature: Bytes,
        /// The algorithm.
        algorithm: KeyAlgorithm,
    },
    /// `sign` with an SSH key: the armoured signature.
    SshSignature {
        /// PEM-like text, `-----BEGIN SSH SIGNATURE-----`.
        armored: String,
    },
    /// `sign` of a token.
    Jwt {
        /// The token in compact form.
        token: String,
    },
    /// `totp`.
    Code {
        /// The digits.
        code: String,
        /// Seconds for which it is still good; absent for counter-based codes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        valid_secs: Option<u64>,
    },
    /// `crypt encrypt` and `rewrap`.
    Ciphertext {
        /// Names the key's version.
        ciphertext: Bytes,
    },
    /// `crypt decrypt`.
    Plaintext {
        /// What was encrypted.
        plaintext: Bytes,
    },
    /// `crypt mac`.
    Tag {
        /// The version of the key, then the tag.
        tag: Bytes,
    },
    /// `crypt verify_mac`.
    Verified {
        /// Whether the tag fits.
        valid: bool,
    },
    /// `crypt derive`: never the key.
    Derived {
        /// The derived key.
        reference: Reference,
    },
}

/// What a guest is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum GuestAnswer {
    /// To `list`.
    List {
        /// A row for each grant.
        granted: Vec<Granted>,
    },
    /// To `request`, and to a `use` that the member must approve.
    Pending(Pending),
    /// To `poll`.
    Polled(ApprovalState),
    /// To `use`.
    Used(UseResult),
}

/// One grant, as its guest sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Granted {
    /// The grant.
    pub grant: GrantId,
    /// The field.
    pub reference: Reference,
    /// What the member calls the item.
    pub label: String,
    /// What the item is.
    #[serde(rename = "type")]
    pub item_type: ItemType,
    /// What may be done with it.
    pub consumer: Consumer,
    /// How far.
    pub limits: Limits,
    /// For `http`, the hosts in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Whether the member is asked.
    pub mode: Mode,
}

/// The member was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// To poll with.
    pub approval: ApprovalId,
    /// When it expires as refused.
    pub expires_at: Timestamp,
}

/// How an approval stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ApprovalState {
    /// Nobody answered yet.
    Pending {
        /// When it expires as refused.
        expires_at: Timestamp,
    },
    /// A use was approved: use this handle once, before it expires.
    Approved {
        /// The handle.
        handle: HandleId,
        /// Until when.
        expires_at: Timestamp,
    },
    /// A wish was granted; list again.
    Granted {},
    /// No, or nobody answered in time, or what it rested on changed.
    Refused(Refusal),
}

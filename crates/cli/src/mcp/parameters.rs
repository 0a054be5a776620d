//! What the tools take. The doc comments are what an agent reads.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// A wish for a grant.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccessWish {
    /// What you are after, in plain words: "the Example API, to read the weather".
    pub(super) subject: String,
    /// Why, in plain words. The member reads it.
    pub(super) reason: String,
    /// What you want done with the secret.
    pub(super) consumer: ConsumerName,
    /// For http: the host, such as "api.example.com".
    #[serde(default)]
    pub(super) host: Option<String>,
}

/// A consumer that guests can be granted.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ConsumerName {
    Http,
    Sign,
    Totp,
    Crypt,
}

/// An HTTPS request.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpWish {
    /// A granted reference: "vault://…/…".
    pub(super) reference: String,
    /// An absolute https URL on a granted host.
    pub(super) url: String,
    /// The method; GET where there is none and no body, POST where there is a body.
    #[serde(default)]
    pub(super) method: Option<String>,
    /// Headers, without any credential.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    /// The body as text.
    #[serde(default)]
    pub(super) body: Option<String>,
    /// The body as base64, for bytes; not together with body.
    #[serde(default)]
    pub(super) body_base64: Option<String>,
    /// Whether redirects inside the grant are followed.
    #[serde(default)]
    pub(super) follow_redirects: bool,
    /// Why, in plain words, for the member if they are asked.
    #[serde(default)]
    pub(super) reason: Option<String>,
}

/// Something to sign: a message (as text or base64), or the claims of a token.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SignWish {
    /// A granted reference: "vault://…/…".
    pub(super) reference: String,
    /// The message as text.
    #[serde(default)]
    pub(super) message: Option<String>,
    /// The message as base64, for bytes.
    #[serde(default)]
    pub(super) message_base64: Option<String>,
    /// For an SSH key: the namespace, such as "git".
    #[serde(default)]
    pub(super) ssh_namespace: Option<String>,
    /// For a token: its claims. The vault sets iat and, where absent, exp.
    #[serde(default)]
    pub(super) jwt_claims: Option<serde_json::Map<String, serde_json::Value>>,
    /// For a token: kid of its header.
    #[serde(default)]
    pub(super) key_id: Option<String>,
    /// Why, in plain words, for the member if they are asked.
    #[serde(default)]
    pub(super) reason: Option<String>,
}

/// A reference alone.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReferenceWish {
    /// A granted reference: "vault://…/…".
    pub(super) reference: String,
    /// Why, in plain words, for the member if they are asked.
    #[serde(default)]
    pub(super) reason: Option<String>,
}

/// An operation with a named key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CryptWish {
    /// A granted reference: "vault://…/…".
    pub(super) reference: String,
    /// What to do.
    pub(super) operation: Operation,
    /// For encrypt, mac and verify_mac: the input as text.
    #[serde(default)]
    pub(super) text: Option<String>,
    /// For encrypt, mac and verify_mac: the input as base64, for bytes.
    #[serde(default)]
    pub(super) base64: Option<String>,
    /// For decrypt and rewrap: what encrypt answered.
    #[serde(default)]
    pub(super) ciphertext: Option<String>,
    /// For verify_mac: what mac answered.
    #[serde(default)]
    pub(super) tag: Option<String>,
    /// Must be the same to decrypt; for derive, what tells this key from others.
    #[serde(default)]
    pub(super) context: String,
    /// For derive: encrypt or mac.
    #[serde(default)]
    pub(super) purpose: Option<DerivedPurpose>,
    /// Why, in plain words, for the member if they are asked.
    #[serde(default)]
    pub(super) reason: Option<String>,
}

/// An operation.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Operation {
    Encrypt,
    Decrypt,
    Rewrap,
    Mac,
    VerifyMac,
    Derive,
}

/// What a derived key is for.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum DerivedPurpose {
    Encrypt,
    Mac,
}

/// A pending approval.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PollWish {
    /// The id of the approval.
    pub(super) approval: String,
    /// Seconds to wait for an answer, at most 60.
    #[serde(default)]
    pub(super) wait_secs: u64,
}

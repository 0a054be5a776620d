//! Stable codes of refusals: what a program can act on, and the sentence a person reads.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Who can act on a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The asker: another request, another moment or another permission would work.
    Asker,
    /// The other end of a connection broke the protocol; the channel is closed.
    Peer,
    /// The machine or the outside: disk, network, a called API.
    World,
    /// Us.
    Bug,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $blame:ident, $retry:literal, $sentence:literal;)*) => {
        /// The stable code of a refusal. A code never changes its meaning and is never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum Code { $(#[doc = $sentence] $(#[$doc])* #[serde(rename = $text)] $name,)* }

        impl Code {
            /// Every code there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code as it is written in answers, logs and scripts.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// One sentence for a person. It never says whether something else exists.
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* }
            }

            /// Whether the same request may succeed later without anybody changing anything.
            pub fn retryable(self) -> bool {
                match self { $(Self::$name => $retry,)* }
            }

            /// Who can act on it.
            pub fn blame(self) -> Blame {
                match self { $(Self::$name => Blame::$blame,)* }
            }
        }
    };
}

codes! {
    VaultLocked = "vault_locked", Asker, true, "The vault is locked; a device must unlock it.";
    VaultUnknown = "vault_unknown", Asker, false, "This server has no such vault.";
    VaultExists = "vault_exists", Asker, false, "This vault has been created already.";
    VaultNotCreated = "vault_not_created", Asker, false, "This vault has not been created yet.";
    SessionRequired = "session_required", Asker, false, "This device has no live session; unlock first.";
    SessionsFull = "sessions_full", Asker, true, "Too many device sessions are open; end one first.";
    FreshRequired = "fresh_required", Asker, false, "This needs fresh authentication with a factor.";
    FreshRefused = "fresh_refused", Asker, false, "The fresh authentication was not accepted.";
    FactorRefused = "factor_refused", Asker, false, "Wrong passphrase, phrase or passkey.";
    AttemptsWait = "attempts_wait", Asker, true, "Too many wrong attempts; wait before the next one.";
    SlotLocked = "slot_locked", Asker, false, "This way of unlocking is locked after too many wrong attempts; use another.";
    SlotUnknown = "slot_unknown", Asker, false, "There is no such way of unlocking.";
    SlotLast = "slot_last", Asker, false, "The last way of unlocking of its kind cannot be removed.";
    ItemUnknown = "item_unknown", Asker, false, "There is no such item.";
    FieldUnknown = "field_unknown", Asker, false, "The item has no such field or version.";
    ReferenceUnknown = "reference_unknown", Asker, false, "There is no such reference for this guest.";
    GrantUnknown = "grant_unknown", Asker, false, "There is no such grant.";
    GuestUnknown = "guest_unknown", Asker, false, "There is no such guest.";
    DeviceUnknown = "device_unknown", Asker, false, "There is no such device.";
    ApprovalUnknown = "approval_unknown", Asker, false, "There is no such pending approval.";
    HandleExpired = "handle_expired", Asker, false, "The handle is unknown, expired or used up.";
    NotAllowed = "not_allowed", Asker, false, "The rules do not allow this operation for this caller.";
    ClassRefused = "class_refused", Asker, false, "The class of this field does not allow the operation.";
    GuestSuspended = "guest_suspended", Asker, false, "Guests are suspended; the member must resume them.";
    ClockDisagrees = "clock_disagrees", Asker, true, "The clocks of host and device disagree; guests are suspended.";
    LimitHost = "limit_host", Asker, false, "The grant or the item does not allow this host.";
    LimitMethod = "limit_method", Asker, false, "The grant does not allow this method.";
    LimitPath = "limit_path", Asker, false, "The grant does not allow this path.";
    LimitUses = "limit_uses", Asker, false, "The grant is used up.";
    LimitRate = "limit_rate", Asker, true, "Too many calls in this minute.";
    LimitBytes = "limit_bytes", Asker, false, "More bytes than allowed.";
    LimitHours = "limit_hours", Asker, true, "The grant does not allow this hour.";
    LimitExpired = "limit_expired", Asker, false, "The grant has expired.";
    LimitOperation = "limit_operation", Asker, false, "The grant does not allow this operation or message.";
    ApprovalPending = "approval_pending", Asker, true, "The member has been asked; poll for the answer.";
    ApprovalRefused = "approval_refused", Asker, false, "The member said no.";
    ApprovalExpired = "approval_expired", Asker, false, "Nobody answered in time.";
    ApprovalVoid = "approval_void", Asker, false, "Something the approval rested on has changed; ask again.";
    ApprovalsFull = "approvals_full", Asker, true, "Too many approvals of this guest are pending.";
    UrlRefused = "url_refused", Asker, false, "The URL is not one that can be sent exactly as it was matched.";
    HeaderRefused = "header_refused", Asker, false, "A header is malformed or not for guests to set.";
    AddressRefused = "address_refused", Asker, false, "The host has no public address, and the item does not allow a private one.";
    ConnectFailed = "connect_failed", World, true, "No connection could be made to the host.";
    TlsFailed = "tls_failed", World, false, "The TLS connection could not be verified.";
    HttpFailed = "http_failed", World, false, "The HTTP exchange broke off; whether it took effect is unknown.";
    RedirectRefused = "redirect_refused", Asker, false, "The redirect leads outside the grant.";
    SecretTooShort = "secret_too_short", Asker, false, "The secret is too short to be masked in answers; the item must allow it.";
    PolicyMissing = "policy_missing", Asker, false, "The item does not say how this consumer may use it.";
    KeyMalformed = "key_malformed", Asker, false, "The stored key does not fit its algorithm.";
    MessageRefused = "message_refused", Asker, false, "The message is not one this key signs.";
    CiphertextRefused = "ciphertext_refused", Asker, false, "The ciphertext or tag was not made by this key for this context.";
    OtpauthMalformed = "otpauth_malformed", Asker, false, "The stored one-time-code settings cannot be read.";
    RequestMalformed = "request_malformed", Asker, false, "The request cannot be read.";
    ValueRefused = "value_refused", Asker, false, "A value is outside of what is allowed.";
    PassphraseWeak = "passphrase_weak", Asker, false, "The passphrase is too weak.";
    TooMany = "too_many", Asker, false, "A limit on how many there may be is reached.";
    Busy = "busy", Asker, true, "Too much is under way; try again.";
    Conflict = "conflict", Asker, false, "It has changed since it was read, or it exists already.";
    ChannelRefused = "channel_refused", Peer, false, "The channel could not be authenticated.";
    CredentialRequired = "credential_required", Asker, false, "Critical values need this device's credential.";
    CredentialRefused = "credential_refused", Asker, false, "The credential was not accepted.";
    CredentialFrozen = "credential_frozen", Asker, false, "A copy of this device's credential was used; it is frozen.";
    CredentialBusy = "credential_busy", Asker, true, "Another presentation of this credential is under way.";
    HistoryRefused = "history_refused", Asker, false, "The log does not extend what this device saw last.";
    HeaderRefusedFile = "vault_header_refused", World, false, "The vault's header files are damaged, older than the database, or not of this host share.";
    ShareMissing = "share_missing", World, false, "The host share of this vault is missing or damaged.";
    MeasurementChanged = "measurement_changed", World, false, "The machine or the vault program is not the one that the host share was sealed to.";
    HardwareMissing = "hardware_missing", World, true, "The server has no TPM, or it does not answer.";
    StoreRefused = "store_refused", World, false, "The database is damaged, older than expected, or not of this vault.";
    StoreFailed = "store_failed", World, true, "The database could not be read or written.";
    DiskFull = "disk_full", World, true, "The disk is full; nothing was changed.";
    HostFailed = "host_failed", World, true, "The vault process could not be reached or started.";
    Cancelled = "cancelled", Asker, false, "The request was cancelled.";
    Bug = "bug", Bug, false, "Strongroom made a mistake; please report it.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refused request, as it is answered. `rule` and `hint` are for the member alone and absent in a guest's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(deny_unknown_fields)]
#[error("{}", match .detail { Some(detail) => detail.as_str(), None => .code.sentence() })]
pub struct Refusal {
    /// The stable code.
    pub code: Code,
    /// A sentence more exact than the code's own, safe for whoever asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The rule that refused, for the member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The command that would change it, for the member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Seconds to wait before another try makes sense.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_secs: Option<u64>,
}

impl Refusal {
    /// A refusal with nothing but its code.
    pub fn new(code: Code) -> Self {
        Self { code, detail: None, rule: None, hint: None, retry_secs: None }
    }

    /// With a sentence for whoever asked; it must hold nothing secret and nothing of other callers.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// With the rule that refused, for the member's eyes.
    #[must_use]
    pub fn rule(mut self, rule: impl Into<String>) -> Self {
        self.rule = Some(rule.into());
        self
    }

    /// With the command that would change it, for the member's eyes.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With the seconds to wait.
    #[must_use]
    pub fn retry_secs(mut self, secs: u64) -> Self {
        self.retry_secs = Some(secs);
        self
    }

    /// What a guest may see: neither rule nor hint.
    #[must_use]
    pub fn for_guest(mut self) -> Self {
        self.rule = None;
        self.hint = None;
        self
    }
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_round_trip() {
        let mut seen = std::collections::HashSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()), "{code} twice");
            let json = serde_json::to_string(code).expect("a code is a string");
            assert_eq!(json, format!("\"{code}\""));
            assert_eq!(serde_json::from_str::<Code>(&json).expect("reads back"), *code);
        }
    }
}

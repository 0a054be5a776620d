//! What requests carry and answers show.

use serde::{Deserialize, Serialize};

use crate::bytes::{Bytes, SecretValue};
use crate::guest::{GrantWish, UseCall};
use crate::ids::{ApprovalId, DeviceId, GrantId, GuestId, ItemId, SlotId, VaultId};
use crate::items::{FieldDraft, ItemSummary, words};
use crate::policy::{Consumer, ItemPolicy, Limits, Mode};
use crate::reference::{FieldName, Reference};
use crate::time::Timestamp;

/// How a vault stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// The vault.
    pub vault: VaultId,
    /// Its state.
    pub state: VaultState,
    /// For an open vault, when it locks by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_until: Option<Timestamp>,
    /// For this device, when its session ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_until: Option<Timestamp>,
    /// With a session: how many items there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<u64>,
    /// With a session: how many questions wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvals: Option<u64>,
    /// With a session: the log's size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_size: Option<u64>,
    /// Whether guests are suspended, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guests_suspended: Option<String>,
    /// The vault program's version.
    pub version: String,
    /// SHA-256 of a vault program that is installed and waits for the member to agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<Bytes>,
    /// Whether the vault opens with no person there; absent where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unattended: Option<bool>,
    /// Why it did not, at its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unattended_refused: Option<crate::Code>,
}

words! {
    /// The states of a vault.
    VaultState {
        /// Made by the host, not yet by a founder.
        Empty = "empty",
        /// Made, and the host has no share that opens its header.
        Lost = "lost",
        /// Closed.
        Locked = "locked",
        /// Open; the log is not confirmed yet.
        Unconfirmed = "unconfirmed",
        /// Open.
        Open = "open",
    }
}

/// What a founder brings.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateRequest {
    /// What the device is called.
    pub device_name: String,
    /// The device's KEM public key, 1216 bytes.
    pub device_kem_public: Bytes,
    /// The first passphrase or passkey.
    pub slot: SlotDraft,
    /// The recovery phrase.
    pub recovery: SlotDraft,
    /// Whether the device keeps a copy of the host share.
    pub wants_share: bool,
    /// The device's clock.
    pub device_time: Timestamp,
}

/// What a vault answers its founder.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Created {
    /// The vault's identity, to pin.
    pub identity: Bytes,
    /// The device's id from now on.
    pub device: DeviceId,
    /// The device's first credential blob.
    pub credential: Bytes,
    /// The host share sealed to the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_share: Option<Bytes>,
    /// The log's first checkpoint.
    pub checkpoint: CheckpointProof,
    /// The session that is open now.
    pub session_until: Timestamp,
}

/// The public half of a way to unlock.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotDraft {
    /// What kind of factor.
    pub kind: SlotKind,
    /// What the member calls it.
    pub name: String,
    /// X-Wing public key, 1216 bytes.
    pub kem_public: Bytes,
    /// Ed25519 public key, 32 bytes.
    pub sign_public: Bytes,
    /// How a passphrase was stretched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kdf: Option<Kdf>,
    /// For a recovery phrase: the PSK of the recovery blob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_psk: Option<SecretValue>,
}

words! {
    /// Kinds of factors.
    SlotKind {
        /// A passphrase.
        Passphrase = "passphrase",
        /// A passkey with the PRF extension.
        Passkey = "passkey",
        /// The recovery phrase.
        Recovery = "recovery",
        /// A secret that the host's hardware gives out to the vault process alone.
        Unattended = "unattended",
    }
}

/// What brings back a vault whose host share is gone.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RescueRequest {
    /// With what.
    pub by: RescueBy,
    /// The device that asks, where it is enrolled and wants a copy of the new share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
}

/// What proves that a vault is one's own.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RescueBy {
    /// A copy of the share that was.
    Share {
        /// 32 bytes.
        share: SecretValue,
    },
    /// The recovery phrase.
    Phrase {
        /// The seed of its slot, 32 bytes.
        seed: SecretValue,
        /// The vault's identity as the device pinned it, 32 bytes.
        identity: Bytes,
    },
}

/// Parameters of Argon2id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kdf {
    /// 16 bytes.
    pub salt: Bytes,
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

/// A way to unlock, as it is shown to an enrolled device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotView {
    /// The slot.
    pub id: SlotId,
    /// What kind of factor.
    pub kind: SlotKind,
    /// What the member calls it; absent while locked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How to stretch the passphrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kdf: Option<Kdf>,
    /// When it was added.
    pub added_at: Timestamp,
}

/// Opens the vault.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnlockRequest {
    /// The slot.
    pub slot: SlotId,
    /// The slot's KEM seed, 32 bytes.
    pub seed: SecretValue,
    /// The last log position that the device saw; size 0 for none.
    pub seen: LogPosition,
    /// The device's clock.
    pub device_time: Timestamp,
    /// For how long the vault stays open; absent for the setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_secs: Option<u64>,
}

/// A position in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogPosition {
    /// Leaves.
    pub size: u64,
    /// The tree's root, 32 bytes; empty at size 0.
    pub root: Bytes,
}

/// The vault is open.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unlocked {
    /// When the session ends without further use.
    pub session_until: Timestamp,
    /// When the vault locks by itself.
    pub open_until: Timestamp,
    /// The log now, and the proof that it extends what the device saw.
    pub checkpoint: CheckpointProof,
}

/// A signed checkpoint with a consistency proof (RFC 9162, section 2.1.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointProof {
    /// The signed note.
    pub note: String,
    /// The audit key that signed it, 32 bytes.
    pub audit_key: Bytes,
    /// The vault identity's signature over the audit key.
    pub audit_certificate: Bytes,
    /// The older size of the proof.
    pub from_size: u64,
    /// 32-byte hashes.
    pub consistency: Vec<Bytes>,
}

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// The item before the page; absent for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<ItemId>,
    /// Words that label, tags or type must hold, in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<String>,
    /// Only this type.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub item_type: Option<crate::ItemType>,
    /// Removed items instead of live ones.
    #[serde(default)]
    pub removed: bool,
}

/// A change of an item; what is absent stays.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemEdit {
    /// The item.
    pub item: ItemId,
    /// Refuse if the item is not at this version any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_version: Option<u64>,
    /// A new label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// New tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// Fields to add or change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<FieldDraft>,
    /// Fields to remove.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<FieldName>,
    /// A new policy; it voids what is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<ItemPolicy>,
}

/// A version of a field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionView {
    /// The field.
    pub field: FieldName,
    /// Its version.
    pub version: u64,
    /// When it was written.
    pub changed_at: Timestamp,
    /// Whether it is the one in force.
    pub current: bool,
}

words! {
    /// What came of one imported item.
    ImportOutcome {
        /// It is new.
        Added = "added",
        /// It was there and has changed.
        Updated = "updated",
        /// It was there already.
        Unchanged = "unchanged",
        /// It was changed or removed here since, or a guest was granted it: it is kept as it is, unless it is to be overwritten.
        Kept = "kept",
        /// It does not fit the limits of an item.
        Refused = "refused",
    }
}

words! {
    /// Kinds of guests.
    GuestKind {
        /// A program that acts for the member.
        Agent = "agent",
        /// An untrusted app in the browser.
        App = "app",
        /// A WebAssembly handler.
        Handler = "handler",
        /// Another member.
        Connection = "connection",
    }
}

/// A guest to enrol. Its private key is made where the guest runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestAdd {
    /// What the member calls it.
    pub name: String,
    /// What it is.
    pub kind: GuestKind,
    /// Its Ed25519 public key, 32 bytes.
    pub public_key: Bytes,
}

/// A guest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestView {
    /// The guest.
    pub id: GuestId,
    /// What the member calls it.
    pub name: String,
    /// What it is.
    pub kind: GuestKind,
    /// When it was enrolled.
    pub added_at: Timestamp,
    /// Its last call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at: Option<Timestamp>,
    /// Whether it is suspended.
    pub suspended: bool,
    /// How many grants it has.
    pub grants: u64,
}

/// A grant to give.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantAdd {
    /// Who.
    pub guest: GuestId,
    /// What.
    pub reference: Reference,
    /// How.
    pub consumer: Consumer,
    /// How far.
    #[serde(default)]
    pub limits: Limits,
    /// Whether the member is asked.
    pub mode: Mode,
}

/// A grant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantView {
    /// The grant.
    pub id: GrantId,
    /// What was given.
    pub grant: GrantAdd,
    /// The guest's name.
    pub guest_name: String,
    /// The item's label.
    pub item_label: String,
    /// When it was given.
    pub added_at: Timestamp,
    /// Uses so far.
    pub uses: u64,
    /// Bytes so far, both ways.
    pub bytes: u64,
    /// The last use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_at: Option<Timestamp>,
}

/// A question to the member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalView {
    /// The question.
    pub id: ApprovalId,
    /// Who asks.
    pub guest: GuestId,
    /// The guest's name.
    pub guest_name: String,
    /// What for.
    pub question: Question,
    /// Why, in the guest's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Hash of the canonical request: the answer names it.
    pub request_hash: Bytes,
    /// When it was asked.
    pub asked_at: Timestamp,
    /// When it expires as refused.
    pub expires_at: Timestamp,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// To run this request.
    Use {
        /// The item's label.
        item_label: String,
        /// The request as the vault keeps it.
        call: UseCall,
        /// For `http`: where the answer would cover more, the path prefix it covers, and for how many seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        covers: Option<Cover>,
        /// Whether the whole content is in `call`; a streamed body is not.
        content_shown: bool,
    },
    /// To give a grant.
    Grant(GrantWish),
}

/// What an `ask once` answer covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cover {
    /// For this long.
    pub secs: u64,
    /// The host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The path prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_prefix: Option<String>,
    /// For consumers other than `http`: the operation, as the log names it; any message or text for it that the grant allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
}

/// An answer to a question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalAnswer {
    /// The question.
    pub approval: ApprovalId,
    /// Its request hash, 32 bytes.
    pub request_hash: Bytes,
    /// Yes or no.
    pub allow: bool,
    /// For a wish: the grant to give.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantAdd>,
}

/// Values for a consumer's device half.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeliverRequest {
    /// `clipboard`, `exec` or `export`.
    pub consumer: Consumer,
    /// The fields; for `export`, absent for a page of everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<Reference>,
    /// For `export` of everything: the item before the page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<ItemId>,
    /// For `exec`: the program, for the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
}

/// One value that leaves.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeliveredValue {
    /// The field.
    pub reference: Reference,
    /// For `export`: the item it belongs to, with the first of its values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<ItemSummary>,
    /// Its value.
    pub value: SecretValue,
}

/// A page of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// First event.
    pub from: u64,
    /// How many at most.
    pub count: u64,
    /// Where there is none yet: seconds to wait for one, at most 60.
    #[serde(default)]
    pub wait_secs: u64,
}

/// An event of the log with its leaf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoggedEvent {
    /// Its place, from 0.
    pub index: u64,
    /// The leaf: version, salt and event (docs/cryptography.md, section 9); absent once pruned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf: Option<Bytes>,
    /// The leaf's hash, 32 bytes.
    pub hash: Bytes,
}

/// A proof that an event is in the log (RFC 9162, section 2.1.3), for someone without any vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventProof {
    /// Format version, 1.
    pub v: u8,
    /// The vault.
    pub vault: VaultId,
    /// The vault's identity, 32 bytes: compare its fingerprint with what the member gave out.
    pub identity: Bytes,
    /// The event with its leaf.
    pub event: LoggedEvent,
    /// 32-byte hashes, from the leaf's sibling up.
    pub inclusion: Vec<Bytes>,
    /// The signed checkpoint.
    pub checkpoint: CheckpointProof,
}

/// A device to enrol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceAdd {
    /// What the member calls it.
    pub name: String,
    /// Its Ed25519 public key, 32 bytes.
    pub sign_public: Bytes,
    /// Its KEM public key, 1216 bytes.
    pub kem_public: Bytes,
    /// Whether it keeps a copy of the host share.
    pub wants_share: bool,
}

/// What a new device is brought by the one that enrolled it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceAdded {
    /// The device's id.
    pub device: DeviceId,
    /// Its first credential blob, sealed to it.
    pub sealed_credential: Bytes,
    /// The host share, sealed to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_share: Option<Bytes>,
    /// The log's position to start from.
    pub seen: LogPosition,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceView {
    /// The device.
    pub id: DeviceId,
    /// What the member calls it.
    pub name: String,
    /// When it was enrolled.
    pub added_at: Timestamp,
    /// Its last request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at: Option<Timestamp>,
    /// Whether it is the one that asks.
    pub this: bool,
    /// Whether its credential is frozen.
    pub frozen: bool,
    /// Whether it has a live session.
    pub session: bool,
}

/// Settings; in a change, what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Seconds a device session lives without use: 300 to 3,600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_secs: Option<u64>,
    /// Seconds the vault stays open for guests: 900 to 2,592,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_secs: Option<u64>,
    /// Versions of a field that are kept: 1 to 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_versions: Option<u32>,
}

//! What a member's device asks of its vault, and what it is answered.

use serde::{Deserialize, Serialize};

use crate::bytes::{Bytes, SecretValue};
use crate::guest::{Call, GrantWish, UseCall, UseResult};
use crate::ids::{ApprovalId, Challenge, DeviceId, GrantId, GuestId, ItemId, SlotId, VaultId};
use crate::items::{FieldDraft, ItemDraft, ItemSummary, ItemView, words};
use crate::policy::{Consumer, ItemPolicy, Limits, Mode};
use crate::reference::{FieldName, Reference};
use crate::time::Timestamp;

/// What a device asks. `Operation::of` names each for the table of who may do what.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum DeviceRequest {
    /// How the vault stands.
    Status {},
    /// A challenge for fresh authentication.
    Challenge {},
    /// Makes the vault; only by its founder, once.
    Create(Box<CreateRequest>),
    /// The ways to unlock, for an enrolled device.
    SlotList {},
    /// Opens the vault and a session of this device.
    Unlock(UnlockRequest),
    /// Confirms that the log extends what this device saw last; consumers and guests wait for it.
    LogConfirm(LogPosition),
    /// Opens a session of this device on an open vault; needs fresh authentication.
    SessionBegin {},
    /// Ends this device's session; the vault stays open for guests.
    SessionEnd {},
    /// Closes the vault.
    Lock {},

    /// Adds an item.
    ItemAdd(ItemDraft),
    /// A page of items.
    ItemList(ListQuery),
    /// One item, masked.
    ItemShow {
        /// The item.
        item: ItemId,
    },
    /// Changes an item.
    ItemEdit(ItemEdit),
    /// Removes an item; it can be restored until it is purged.
    ItemRemove {
        /// The item.
        item: ItemId,
        /// Whether its keys and history are destroyed at once.
        #[serde(default)]
        purge: bool,
    },
    /// The versions of an item's fields.
    ItemHistory {
        /// The item.
        item: ItemId,
    },
    /// Brings a removed item back, or an older version of a field.
    ItemRestore {
        /// The item.
        item: ItemId,
        /// The field and the version to bring back; absent to bring back a removed item.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<(FieldName, u64)>,
    },
    /// Adds the items that are not there yet and updates those that changed.
    ItemImport {
        /// At most 256 at a time.
        drafts: Vec<ItemDraft>,
        /// Whether only to say what would happen.
        #[serde(default)]
        dry_run: bool,
        /// Whether to replace also what was changed here since, and what guests were granted.
        #[serde(default)]
        overwrite: bool,
    },

    /// Enrols a guest; presents the credential.
    GuestAdd(GuestAdd),
    /// All guests.
    GuestList {},
    /// Suspends or resumes one guest, or all of them.
    GuestSuspend {
        /// The guest; absent for all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        guest: Option<GuestId>,
        /// Suspended or not.
        suspended: bool,
    },
    /// Ends a guest with all its grants.
    GuestRevoke {
        /// The guest.
        guest: GuestId,
    },
    /// Gives a grant.
    GrantAdd(GrantAdd),
    /// All grants.
    GrantList {
        /// Those of one guest.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        guest: Option<GuestId>,
    },
    /// Ends a grant.
    GrantRevoke {
        /// The grant.
        grant: GrantId,
    },
    /// The questions that wait for an answer.
    ApprovalList {
        /// Answer only when the list differs from the one with this number, or after `wait_secs`.
        #[serde(default)]
        after: u64,
        /// Seconds to wait, at most 60.
        #[serde(default)]
        wait_secs: u64,
    },
    /// Answers one.
    ApprovalAnswer(ApprovalAnswer),

    /// Uses a secret in a consumer of the vault.
    Use(UseCall),
    /// Takes values out to a consumer's device half.
    Deliver(DeliverRequest),

    /// A page of events.
    AuditList(AuditQuery),
    /// The leaf hashes of a page, for verification.
    AuditHashes {
        /// First leaf.
        from: u64,
        /// How many, at most 16,384.
        count: u64,
    },
    /// A signed checkpoint of now, with a proof that it extends an older size.
    AuditCheckpoint {
        /// The older size; 0 for none.
        #[serde(default)]
        from_size: u64,
    },
    /// A proof for one event that someone else can check.
    AuditProve {
        /// The event.
        index: u64,
    },

    /// Adds a way to unlock.
    SlotAdd(SlotDraft),
    /// Removes a way to unlock; not the last passphrase or passkey, and not the recovery phrase.
    SlotRemove {
        /// The slot.
        slot: SlotId,
    },
    /// Replaces the factor of a slot: a changed passphrase, a renewed phrase; presents the credential for a phrase.
    SlotReplace {
        /// The slot.
        slot: SlotId,
        /// What takes its place.
        draft: SlotDraft,
    },

    /// All devices.
    DeviceList {},
    /// Enrols a device; presents the credential.
    DeviceAdd(DeviceAdd),
    /// Throws a device out.
    DeviceRevoke {
        /// The device.
        device: DeviceId,
    },
    /// The settings.
    ConfigShow {},
    /// Changes settings.
    ConfigSet(Config),
    /// Destroys the vault's keys: header, database and chains are removed.
    VaultDelete {
        /// The vault's id again, so that it cannot happen by mistake.
        vault: VaultId,
    },
    /// The device stored the next blob, presents it with this, and wants the request it presented the credential for to be
    /// done. Under the same request id.
    CredentialConfirm {
        /// The number of the blob that was stored.
        sequence: u64,
    },
}

/// A request as it travels in a frame of type [`crate::frame::FrameType::Request`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// Numbers the request on its channel; answers and chunks carry it.
    pub stream: u32,
    /// Names the act; the same id never acts twice.
    pub id: crate::RequestId,
    /// Fresh authentication over the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fresh: Option<Fresh>,
    /// The device's credential blob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Bytes>,
    /// The [`DeviceRequest`] or [`crate::guest::GuestRequest`] as JSON text; signatures cover exactly these bytes.
    pub body: Box<serde_json::value::RawValue>,
}

/// Fresh authentication (docs/cryptography.md, section 7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fresh {
    /// The slot whose factor answers.
    pub slot: SlotId,
    /// The challenge that it answers.
    pub challenge: Challenge,
    /// 64 bytes.
    pub signature: Bytes,
}

/// An answer as it travels in a frame of type [`crate::frame::FrameType::Answer`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer<T> {
    /// The request's number.
    pub stream: u32,
    /// What came of it.
    pub result: Result<T, crate::Refusal>,
    /// Whether chunks follow under the same number.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub body_follows: bool,
}

/// What a device is answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum DeviceAnswer {
    /// Done; there is nothing to say.
    Done {},
    /// To `status`.
    Status(Status),
    /// To `challenge`.
    Challenge {
        /// To be answered within 60 s.
        challenge: Challenge,
    },
    /// To `create`.
    Created(Box<Created>),
    /// To `slot_list`.
    Slots {
        /// All of them.
        slots: Vec<SlotView>,
    },
    /// To `unlock`.
    Unlocked(Unlocked),
    /// To `session_begin`.
    Session {
        /// When it ends without further use.
        expires_at: Timestamp,
    },
    /// To what adds or changes an item.
    Item(ItemView),
    /// To `item_list`.
    Items {
        /// The rows.
        items: Vec<ItemSummary>,
        /// Ask again after this one; absent at the end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<ItemId>,
    },
    /// To `item_history`.
    History {
        /// Newest first.
        versions: Vec<VersionView>,
    },
    /// To `item_import`, in the order of the drafts.
    Imported {
        /// What came of each.
        outcomes: Vec<ImportOutcome>,
    },
    /// To `guest_add`.
    Guest(GuestView),
    /// To `guest_list`.
    Guests {
        /// All of them.
        guests: Vec<GuestView>,
    },
    /// To `grant_add`.
    Grant(GrantView),
    /// To `grant_list`.
    Grants {
        /// All that were asked for.
        grants: Vec<GrantView>,
    },
    /// To `approval_list`.
    Approvals {
        /// Numbers this state of the list.
        number: u64,
        /// Oldest first.
        approvals: Vec<ApprovalView>,
    },
    /// To `use`.
    Used(UseResult),
    /// To `deliver`: the one place where values leave the vault, for a consumer's device half.
    Delivered {
        /// The values, in the order asked for.
        values: Vec<DeliveredValue>,
        /// For a page of an export: its critical fields, to be asked for by name, with the credential.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        critical: Vec<Reference>,
        /// Ask again after this item; absent at the end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<ItemId>,
    },
    /// To `audit_list`.
    Audit {
        /// In order.
        events: Vec<LoggedEvent>,
        /// The log's size.
        size: u64,
    },
    /// To `audit_hashes`.
    Hashes {
        /// 32 bytes each, in order.
        hashes: Bytes,
    },
    /// To `audit_checkpoint`.
    Checkpoint(CheckpointProof),
    /// To `audit_prove`.
    Proof(Box<EventProof>),
    /// To what adds a slot.
    Slot(SlotView),
    /// To `device_list`.
    Devices {
        /// All of them.
        devices: Vec<DeviceView>,
    },
    /// To `device_add`.
    DeviceAdded(Box<DeviceAdded>),
    /// To `config_show` and `config_set`.
    Config(Config),
    /// To a request that presented the credential: open the mail with the device's KEM key, store the blob durably, then send
    /// `credential_confirm` under the same request id, presenting the new blob. A `credential_busy` answer to that means: send
    /// the whole request again with the new blob and a new factor answer.
    CredentialNext {
        /// The blob's number.
        sequence: u64,
        /// The blob, sealed to the device (docs/cryptography.md, section 5, mail).
        mail: Bytes,
    },
    /// To a request id that was acted upon before: the answer it got then, as JSON, sealed to the device.
    Outcome {
        /// docs/cryptography.md, section 5, outcome.
        sealed: Bytes,
    },
}

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
}

words! {
    /// The states of a vault.
    VaultState {
        /// Made by the host, not yet by a founder.
        Empty = "empty",
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
    }
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
    /// For `export`: the item it belongs to.
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

impl DeviceRequest {
    /// The consumer call of a `use`.
    pub fn call(&self) -> Option<&Call> {
        match self {
            Self::Use(use_call) => Some(&use_call.call),
            _ => None,
        }
    }
}

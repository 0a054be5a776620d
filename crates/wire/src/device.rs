//! What a member's device asks of its vault, and what it is answered.

mod parts;

use serde::{Deserialize, Serialize};

use crate::bytes::Bytes;
use crate::guest::{Call, UseCall, UseResult};
use crate::ids::{Challenge, DeviceId, GrantId, GuestId, ItemId, SlotId, VaultId};
use crate::items::{ItemDraft, ItemSummary, ItemView};
use crate::reference::{FieldName, Reference};
use crate::time::Timestamp;

pub use parts::*;

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
    /// Brings back a vault whose host share is gone.
    Rescue(RescueRequest),
    /// Agrees to the vault program that is installed: the host seals the share to it and replaces the vault process; presents the
    /// credential.
    UpdateAccept {
        /// Its SHA-256, 32 bytes.
        program: Bytes,
    },
    /// Switches unattended unlock on or off.
    UnattendedSet {
        /// Whether the vault opens with no person there.
        on: bool,
    },
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
    /// To `rescue`: the vault is locked, under a new host share.
    Rescued {
        /// That share, sealed to the device that was named, where the vault knows it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sealed_share: Option<Bytes>,
    },
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

impl DeviceRequest {
    /// The consumer call of a `use`.
    pub fn call(&self) -> Option<&Call> {
        match self {
            Self::Use(use_call) => Some(&use_call.call),
            _ => None,
        }
    }
}

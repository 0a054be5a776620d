//! Events of the log: who did what to which reference, when, with what decision; never a value.

use std::fmt;

use crate::policy::Consumer;
use crate::{ApprovalId, Bytes, Code, DeviceId, GrantId, GuestId, HandleId, ItemId, Reference, SlotId, Timestamp};
use serde::{Deserialize, Serialize};

macro_rules! actions {
    ($($name:ident = $text:literal, $what:literal;)*) => {
        /// What happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Action { $(#[doc = $what] #[serde(rename = $text)] $name,)* }

        impl Action {
            /// Every kind of event there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The kind as it is written.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What it tells, in a few words.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => $what,)* }
            }
        }
    };
}

actions! {
    VaultCreate = "vault.create", "the vault was made";
    VaultUnlock = "vault.unlock", "a factor opened the vault";
    VaultLock = "vault.lock", "the vault was locked";
    VaultRescue = "vault.rescue", "the vault was brought back under a new host share";
    VaultDelete = "vault.delete", "the vault's keys are about to be destroyed";
    UnlockRefused = "vault.unlock_refused", "a factor did not open the vault";
    FreshRefused = "fresh.refused", "a factor did not answer a challenge";
    SessionBegin = "session.begin", "a device session began";
    SessionEnd = "session.end", "a device session ended";
    LogConfirm = "log.confirm", "a device confirmed that the log extends what it saw";
    ItemAdd = "item.add", "an item was added";
    ItemEdit = "item.edit", "an item was changed";
    ItemPolicy = "item.policy", "where an item's secrets may go was changed";
    ItemRemove = "item.remove", "an item was removed";
    ItemPurge = "item.purge", "an item's key and history were destroyed";
    ItemRestore = "item.restore", "an item or an older version was brought back";
    ItemImport = "item.import", "items were imported";
    GuestAdd = "guest.add", "a guest was enrolled";
    GuestSuspend = "guest.suspend", "a guest or all guests were suspended";
    GuestResume = "guest.resume", "a guest or all guests were resumed";
    GuestRevoke = "guest.revoke", "a guest was thrown out";
    GrantAdd = "grant.add", "a grant was given";
    GrantRevoke = "grant.revoke", "a grant was ended";
    GrantWish = "grant.wish", "a guest asked for a grant";
    ApprovalAsk = "approval.ask", "the member was asked";
    ApprovalAllow = "approval.allow", "the member said yes";
    ApprovalRefuse = "approval.refuse", "the member said no";
    ApprovalExpire = "approval.expire", "nobody answered in time";
    UseIntent = "use.intent", "a consumer is about to use a secret";
    UseOutcome = "use.outcome", "a consumer is done";
    UseRefused = "use.refused", "a use was refused";
    Deliver = "use.deliver", "values went to a consumer's device half";
    SlotAdd = "slot.add", "a way to unlock was added";
    SlotRemove = "slot.remove", "a way to unlock was removed";
    SlotReplace = "slot.replace", "the factor of a slot was replaced";
    UpdateAccept = "update.accept", "the member agreed to another vault program";
    UnattendedOn = "unattended.on", "the vault may open with no person there";
    UnattendedOff = "unattended.off", "the vault opens with a person alone";
    DeviceAdd = "device.add", "a device was enrolled";
    DeviceRevoke = "device.revoke", "a device was thrown out";
    CredentialUse = "credential.use", "a device presented its credential";
    CredentialFreeze = "credential.freeze", "a copy of a credential was seen; the device's chain is frozen";
    KeyRotate = "key.rotate", "the vault key was replaced";
    ConfigSet = "config.set", "a setting was changed";
    ClockDisagrees = "clock.disagrees", "the clocks of host and device disagree; guests are suspended";
    LogRead = "log.read", "the log was read";
    Settle = "vault.settle", "the vault tidied its records";
}

/// Who acted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// The founder, before there was a device.
    Founder,
    /// A device of the member.
    Device(DeviceId),
    /// A guest.
    Guest(GuestId),
    /// The vault itself.
    Vault,
}

/// One event. What does not apply is absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Format version, 1.
    pub v: u8,
    /// When, as the vault counts time.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What.
    pub action: Action,
    /// The item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<ItemId>,
    /// The field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// The version of the field that was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_version: Option<u64>,
    /// The consumer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<Consumer>,
    /// Where a secret went: method, host and port; or the operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// The address that the host connected to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// A guest that was acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<GuestId>,
    /// A device that was acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// A grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantId>,
    /// An approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalId>,
    /// A handle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<HandleId>,
    /// A slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<SlotId>,
    /// For an outcome: the index of its intent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<u64>,
    /// For an outcome: the HTTP status, or 0 for done, or absent for unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Bytes both ways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// How many things it stands for, where it is more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The code of a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// A setting's name, a program's name: a word of ours or the member's, never a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The keyed root over all records after this event, 32 bytes.
    pub state: Bytes,
}

impl Event {
    /// An event with nothing but actor and action.
    pub fn new(at: Timestamp, actor: Actor, action: Action) -> Self {
        Self {
            v: 1,
            at,
            actor,
            action,
            item: None,
            reference: None,
            field_version: None,
            consumer: None,
            destination: None,
            address: None,
            guest: None,
            device: None,
            grant: None,
            approval: None,
            handle: None,
            slot: None,
            intent: None,
            status: None,
            bytes: None,
            count: None,
            code: None,
            note: None,
            state: Bytes::default(),
        }
    }

    /// The leaf: `u8(1) || salt || event` (docs/cryptography.md, section 9).
    ///
    /// # Panics
    /// Never: every event has a JSON form.
    pub fn to_leaf(&self, salt: &[u8; 16]) -> Vec<u8> {
        let mut leaf = vec![1];
        leaf.extend_from_slice(salt);
        serde_json::to_writer(&mut leaf, self).expect("an event always has a JSON form");
        leaf
    }

    /// Reads a leaf; `None` where it is none.
    pub fn from_leaf(leaf: &[u8]) -> Option<Self> {
        let (head, event) = leaf.split_first_chunk::<17>()?;
        if head[0] != 1 {
            return None;
        }
        serde_json::from_slice(event).ok()
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

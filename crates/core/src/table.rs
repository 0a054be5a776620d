//! The one table of who may do which operation on which class, and how fresh their authentication must be. The default is no.

use strongroom_wire::Class;
use strongroom_wire::device::DeviceRequest;
use strongroom_wire::guest::GuestRequest;
use strongroom_wire::policy::Consumer;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// Whoever makes a vault, before it is made.
    Founder,
    /// An enrolled device.
    Device,
    /// An enrolled guest.
    Guest,
}

/// How fresh the asker's authentication must be. Each includes those above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Freshness {
    /// The channel alone.
    Channel,
    /// A live session of the device.
    Session,
    /// A factor that answers a challenge over this very request, at most 60 s old.
    Factor,
    /// A factor, and the device presents its credential.
    Credential,
}

macro_rules! operations {
    ($($name:ident = $text:literal;)*) => {
        /// What can be asked for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Operation { $(#[doc = $text] $name,)* }

        impl Operation {
            /// Every operation there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The operation as it is written.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

operations! {
    Status = "status";
    Challenge = "challenge";
    Create = "create";
    Rescue = "rescue";
    SlotList = "slot_list";
    Unlock = "unlock";
    LogConfirm = "log_confirm";
    SessionBegin = "session_begin";
    SessionEnd = "session_end";
    Lock = "lock";
    ItemList = "item_list";
    ItemShow = "item_show";
    ItemHistory = "item_history";
    ItemAdd = "item_add";
    ItemEdit = "item_edit";
    ItemRemove = "item_remove";
    ItemRestore = "item_restore";
    ItemImport = "item_import";
    GuestAdd = "guest_add";
    GuestList = "guest_list";
    GuestSuspend = "guest_suspend";
    GuestResume = "guest_resume";
    GuestRevoke = "guest_revoke";
    GrantAdd = "grant_add";
    GrantList = "grant_list";
    GrantRevoke = "grant_revoke";
    ApprovalList = "approval_list";
    ApprovalAllow = "approval_allow";
    ApprovalRefuse = "approval_refuse";
    UseHttp = "use_http";
    UseSign = "use_sign";
    UseTotp = "use_totp";
    UseCrypt = "use_crypt";
    DeliverClipboard = "deliver_clipboard";
    DeliverExec = "deliver_exec";
    DeliverExport = "deliver_export";
    AuditRead = "audit_read";
    AuditCheckpoint = "audit_checkpoint";
    SlotAdd = "slot_add";
    SlotRemove = "slot_remove";
    SlotReplace = "slot_replace";
    PhraseRenew = "phrase_renew";
    DeviceList = "device_list";
    DeviceAdd = "device_add";
    DeviceRevoke = "device_revoke";
    ConfigShow = "config_show";
    ConfigSet = "config_set";
    UpdateAccept = "update_accept";
    UnattendedOn = "unattended_on";
    UnattendedOff = "unattended_off";
    VaultDelete = "vault_delete";
    CredentialConfirm = "credential_confirm";
    GuestListGranted = "list";
    GuestRequestGrant = "request";
    GuestPoll = "poll";
}

/// A row: this operation, by this asker, on fields up to this class (`None`: it touches no field), needs this freshness.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What.
    pub operation: Operation,
    /// By whom.
    pub who: Who,
    /// On which classes; empty where the operation touches no field.
    pub classes: &'static [Class],
    /// With what freshness.
    pub freshness: Freshness,
}

/// The freshness that an operation needs, or `None` where nothing allows it.
pub fn freshness(operation: Operation, who: Who, class: Option<Class>) -> Option<Freshness> {
    TABLE
        .iter()
        .find(|row| {
            row.operation == operation
                && row.who == who
                && class.map_or(row.classes.is_empty(), |class| row.classes.contains(&class))
        })
        .map(|row| row.freshness)
}

const NONE: &[Class] = &[];
const OPEN: &[Class] = &[Class::Public, Class::Private];
const UP_TO_SECRET: &[Class] = &[Class::Public, Class::Private, Class::Secret];
const SECRET: &[Class] = &[Class::Secret];
const CRITICAL: &[Class] = &[Class::Critical];

macro_rules! table {
    ($($operation:ident $who:ident $classes:ident $freshness:ident;)*) => {
        /// The table. What is not in it is refused.
        pub const TABLE: &[Row] = &[$(Row {
            operation: Operation::$operation, who: Who::$who, classes: $classes, freshness: Freshness::$freshness,
        },)*];
    };
}

table! {
    // Before there is a session.
    Status            Founder NONE Channel;
    Create            Founder NONE Channel;
    Rescue            Founder NONE Channel; // what it brings is the proof; the vault is locked before and after
    Status            Device  NONE Channel;
    Challenge         Device  NONE Channel;
    SlotList          Device  NONE Channel;
    Unlock            Device  NONE Channel;
    Lock              Device  NONE Channel;
    GuestSuspend      Device  NONE Channel; // stopping is always allowed
    CredentialConfirm Device  NONE Channel; // the request it confirms was checked when it came
    SessionBegin      Device  NONE Factor;
    // A cached session reads, and nothing more.
    LogConfirm        Device  NONE Session;
    SessionEnd        Device  NONE Session;
    ItemList          Device  NONE Session;
    ItemShow          Device  OPEN Session;
    ItemHistory       Device  NONE Session;
    GuestList         Device  NONE Session;
    GrantList         Device  NONE Session;
    ApprovalList      Device  NONE Session;
    ApprovalRefuse    Device  NONE Session; // a no never opens anything
    GrantRevoke       Device  NONE Session; // nor does ending a grant
    AuditRead         Device  NONE Session;
    AuditCheckpoint   Device  NONE Session;
    DeviceList        Device  NONE Session;
    ConfigShow        Device  NONE Session;
    // Everything that changes what the vault holds or where it goes takes a factor.
    ItemAdd           Device  UP_TO_SECRET Factor;
    ItemAdd           Device  CRITICAL Credential;
    ItemEdit          Device  UP_TO_SECRET Factor;
    ItemEdit          Device  CRITICAL Credential;
    ItemEdit          Device  NONE Factor;
    ItemRemove        Device  NONE Factor;
    ItemRestore       Device  UP_TO_SECRET Factor; // older critical values are not kept, and nothing takes the place of one
    ItemRestore       Device  NONE Factor;
    ItemImport        Device  UP_TO_SECRET Factor;
    GuestAdd          Device  NONE Credential;
    GuestResume       Device  NONE Factor;
    GuestRevoke       Device  NONE Factor;
    GrantAdd          Device  UP_TO_SECRET Factor;
    ApprovalAllow     Device  NONE Factor;
    SlotAdd           Device  NONE Factor;
    SlotRemove        Device  NONE Factor;
    SlotReplace       Device  NONE Factor;
    PhraseRenew       Device  NONE Credential;
    DeviceAdd         Device  NONE Credential;
    DeviceRevoke      Device  NONE Factor;
    ConfigSet         Device  NONE Factor;
    UpdateAccept      Device  NONE Credential;
    UnattendedOn      Device  NONE Factor;
    UnattendedOff     Device  NONE Factor;
    VaultDelete       Device  NONE Factor;
    // The member's own uses.
    UseHttp           Device  SECRET Factor;
    UseSign           Device  SECRET Factor;
    UseSign           Device  CRITICAL Credential;
    UseTotp           Device  SECRET Factor;
    UseCrypt          Device  SECRET Factor;
    DeliverClipboard  Device  UP_TO_SECRET Factor;
    DeliverExec       Device  UP_TO_SECRET Factor;
    DeliverExport     Device  UP_TO_SECRET Factor;
    DeliverExport     Device  CRITICAL Credential;
    // Guests: what a grant allows, and nothing that is critical.
    GuestListGranted  Guest   NONE Channel;
    GuestRequestGrant Guest   NONE Channel;
    GuestPoll         Guest   NONE Channel;
    UseHttp           Guest   SECRET Channel;
    UseSign           Guest   SECRET Channel;
    UseTotp           Guest   SECRET Channel;
    UseCrypt          Guest   SECRET Channel;
}

impl Operation {
    /// The operation of a device's request.
    pub fn of_device(request: &DeviceRequest) -> Self {
        use DeviceRequest as R;
        match request {
            R::Status {} => Self::Status,
            R::Challenge {} => Self::Challenge,
            R::Create(_) => Self::Create,
            R::Rescue(_) => Self::Rescue,
            R::SlotList {} => Self::SlotList,
            R::Unlock(_) => Self::Unlock,
            R::LogConfirm(_) => Self::LogConfirm,
            R::SessionBegin {} => Self::SessionBegin,
            R::SessionEnd {} => Self::SessionEnd,
            R::Lock {} => Self::Lock,
            R::ItemAdd(_) => Self::ItemAdd,
            R::ItemList(_) => Self::ItemList,
            R::ItemShow { .. } => Self::ItemShow,
            R::ItemEdit(_) => Self::ItemEdit,
            R::ItemRemove { .. } => Self::ItemRemove,
            R::ItemHistory { .. } => Self::ItemHistory,
            R::ItemRestore { .. } => Self::ItemRestore,
            R::ItemImport { .. } => Self::ItemImport,
            R::GuestAdd(_) => Self::GuestAdd,
            R::GuestList {} => Self::GuestList,
            R::GuestSuspend { suspended: true, .. } => Self::GuestSuspend,
            R::GuestSuspend { suspended: false, .. } => Self::GuestResume,
            R::GuestRevoke { .. } => Self::GuestRevoke,
            R::GrantAdd(_) => Self::GrantAdd,
            R::GrantList { .. } => Self::GrantList,
            R::GrantRevoke { .. } => Self::GrantRevoke,
            R::ApprovalList { .. } => Self::ApprovalList,
            R::ApprovalAnswer(answer) if answer.allow => Self::ApprovalAllow,
            R::ApprovalAnswer(_) => Self::ApprovalRefuse,
            R::Use(call) => Self::of_consumer(call.call.consumer()),
            R::Deliver(deliver) => Self::of_consumer(deliver.consumer),
            R::AuditList(_) | R::AuditHashes { .. } | R::AuditProve { .. } => Self::AuditRead,
            R::AuditCheckpoint { .. } => Self::AuditCheckpoint,
            R::SlotAdd(_) => Self::SlotAdd,
            R::SlotRemove { .. } => Self::SlotRemove,
            R::SlotReplace { draft, .. } if draft.kind == strongroom_wire::device::SlotKind::Recovery => {
                Self::PhraseRenew
            }
            R::SlotReplace { .. } => Self::SlotReplace,
            R::DeviceList {} => Self::DeviceList,
            R::DeviceAdd(_) => Self::DeviceAdd,
            R::DeviceRevoke { .. } => Self::DeviceRevoke,
            R::ConfigShow {} => Self::ConfigShow,
            R::ConfigSet(_) => Self::ConfigSet,
            R::UpdateAccept { .. } => Self::UpdateAccept,
            R::UnattendedSet { on: true } => Self::UnattendedOn,
            R::UnattendedSet { on: false } => Self::UnattendedOff,
            R::VaultDelete { .. } => Self::VaultDelete,
            R::CredentialConfirm { .. } => Self::CredentialConfirm,
        }
    }

    /// Whether it adds something, and is refused while the disk has no more than its reserve. What shows, ends, refuses or removes
    /// something goes on: the little that it writes is what the reserve is for.
    pub fn needs_room(self) -> bool {
        match self {
            Self::Create
            | Self::Rescue
            | Self::ItemAdd
            | Self::ItemEdit
            | Self::ItemRestore
            | Self::ItemImport
            | Self::GuestAdd
            | Self::GuestResume
            | Self::GrantAdd
            | Self::ApprovalAllow
            | Self::UseHttp
            | Self::UseSign
            | Self::UseTotp
            | Self::UseCrypt
            | Self::SlotAdd
            | Self::SlotReplace
            | Self::PhraseRenew
            | Self::DeviceAdd
            | Self::ConfigSet
            | Self::UpdateAccept
            | Self::UnattendedOn
            | Self::GuestRequestGrant => true,
            Self::Status
            | Self::Challenge
            | Self::SlotList
            | Self::Unlock
            | Self::LogConfirm
            | Self::SessionBegin
            | Self::SessionEnd
            | Self::Lock
            | Self::ItemList
            | Self::ItemShow
            | Self::ItemHistory
            | Self::ItemRemove
            | Self::GuestList
            | Self::GuestSuspend
            | Self::GuestRevoke
            | Self::GrantList
            | Self::GrantRevoke
            | Self::ApprovalList
            | Self::ApprovalRefuse
            | Self::DeliverClipboard
            | Self::DeliverExec
            | Self::DeliverExport
            | Self::AuditRead
            | Self::AuditCheckpoint
            | Self::SlotRemove
            | Self::DeviceList
            | Self::DeviceRevoke
            | Self::ConfigShow
            | Self::UnattendedOff
            | Self::VaultDelete
            | Self::CredentialConfirm
            | Self::GuestListGranted
            | Self::GuestPoll => false,
        }
    }

    /// The operation of a guest's request.
    pub fn of_guest(request: &GuestRequest) -> Option<Self> {
        Some(match request {
            GuestRequest::List {} => Self::GuestListGranted,
            GuestRequest::Request(_) => Self::GuestRequestGrant,
            GuestRequest::Poll { .. } => Self::GuestPoll,
            GuestRequest::Use(_) => return None,
        })
    }

    /// The operation of a consumer.
    pub fn of_consumer(consumer: Consumer) -> Self {
        match consumer {
            Consumer::Http => Self::UseHttp,
            Consumer::Sign => Self::UseSign,
            Consumer::Totp => Self::UseTotp,
            Consumer::Crypt => Self::UseCrypt,
            Consumer::Clipboard => Self::DeliverClipboard,
            Consumer::Exec => Self::DeliverExec,
            Consumer::Export => Self::DeliverExport,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_written_twice_and_every_operation_has_a_row() {
        for (n, row) in TABLE.iter().enumerate() {
            for other in &TABLE[n + 1..] {
                if row.operation == other.operation && row.who == other.who {
                    assert!(
                        !(row.classes.is_empty() && other.classes.is_empty())
                            && row.classes.iter().all(|class| !other.classes.contains(class)),
                        "{:?} by {:?} twice",
                        row.operation,
                        row.who
                    );
                }
            }
        }
        for operation in Operation::ALL {
            assert!(TABLE.iter().any(|row| row.operation == *operation), "{operation:?}");
        }
    }

    #[test]
    fn guests_never_reach_a_critical_value_nor_a_device_half() {
        for operation in Operation::ALL {
            assert_eq!(freshness(*operation, Who::Guest, Some(Class::Critical)), None);
        }
        for operation in [Operation::DeliverClipboard, Operation::DeliverExec, Operation::DeliverExport] {
            for class in Class::ALL {
                assert_eq!(freshness(operation, Who::Guest, Some(*class)), None);
            }
        }
    }

    #[test]
    fn what_opens_or_moves_a_secret_always_takes_a_factor() {
        for row in TABLE {
            let guarded = row.classes.iter().any(|class| *class >= Class::Secret);
            if guarded && row.who == Who::Device {
                assert!(row.freshness >= Freshness::Factor, "{:?}", row.operation);
            }
            if row.classes.contains(&Class::Critical) {
                assert_eq!(row.freshness, Freshness::Credential, "{:?}", row.operation);
            }
        }
    }
}

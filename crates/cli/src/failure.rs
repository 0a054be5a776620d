//! Why a command failed, ready to be printed: one sentence, the stable code, the rule, and what to type next.

use std::error::Error;
use std::fmt;

use serde::Serialize;
use strongroom_client::ClientError;
use strongroom_client::attest::NotAllowed;
use strongroom_client::channel::ConnectError;
use strongroom_client::crypto::channel::ChannelError;
use strongroom_client::crypto::factor::PassphraseError;
use strongroom_client::deliver::DeliverError;
use strongroom_client::files::FileError;
use strongroom_client::fresh::FactorError;
use strongroom_client::log::LogAlarm;
use strongroom_client::passphrase::PassphraseWeak;
use strongroom_client::profile::ProfileError;
use strongroom_client::wire::code::Blame;
use strongroom_client::wire::{Code, Refusal};

use crate::code::{AnyCode, OwnCode};
use crate::exit::Exit;

/// A failed command.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Failure {
    /// Stable, for programs.
    pub(crate) code: &'static str,
    /// One sentence.
    pub(crate) message: String,
    /// The rule that refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<String>,
    /// What to type next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
    /// Seconds to wait before another try makes sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_secs: Option<u64>,
    /// How the command ends.
    #[serde(serialize_with = "exit_code")]
    pub(crate) exit: Exit,
}

impl Failure {
    /// A failure that the command itself found.
    pub(crate) fn new(exit: Exit, code: impl Into<AnyCode>, message: impl Into<String>) -> Self {
        Self { code: code.into().as_str(), message: message.into(), rule: None, hint: None, retry_secs: None, exit }
    }

    /// An argument that cannot be used.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, OwnCode::Usage, message)
    }

    /// Something on this machine, with its cause.
    pub(crate) fn local(doing: impl fmt::Display, source: &dyn Error) -> Self {
        Self::new(Exit::Local, OwnCode::LocalFailed, format!("{doing}: {}", chain(source)))
    }

    /// The member said no.
    pub(crate) fn cancelled() -> Self {
        Self::new(Exit::Cancelled, Code::Cancelled, "nothing was changed")
    }

    /// With what to type next.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let message = chain(&error);
        match error {
            ClientError::Refused(refusal) => refusal.into(),
            ClientError::Connect(error) => connect(&error, message),
            ClientError::Profile(error) => error.into(),
            ClientError::Alarm(alarm) => alarm.into(),
            ClientError::Factor(error) => error.into(),
            ClientError::TooLarge => Self::new(Exit::Usage, OwnCode::TooLarge, message),
            ClientError::Answer => Self::new(Exit::Alarm, OwnCode::AnswerRefused, message),
            _ => Self::new(Exit::Bug, Code::Bug, message),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let exit = match refusal.code {
            Code::VaultLocked | Code::SessionRequired | Code::VaultNotCreated => Exit::Locked,
            Code::HostFailed => Exit::Unreachable,
            Code::HistoryRefused
            | Code::StoreRefused
            | Code::HeaderRefusedFile
            | Code::CredentialFrozen
            | Code::ChannelRefused => Exit::Alarm,
            Code::ApprovalPending => Exit::Pending,
            code if code.blame() == Blame::Bug => Exit::Bug,
            _ => Exit::Refused,
        };
        let hint = refusal.hint.clone().or_else(|| hint_for(refusal.code).map(str::to_owned));
        Self {
            code: refusal.code.as_str(),
            message: refusal.to_string(),
            rule: refusal.rule,
            hint,
            retry_secs: refusal.retry_secs,
            exit,
        }
    }
}

impl From<LogAlarm> for Failure {
    fn from(alarm: LogAlarm) -> Self {
        Self::new(Exit::Alarm, OwnCode::LogAlarm, format!("ALARM: {alarm}. Nothing was confirmed."))
            .hint("do not unlock again on this host; compare with another device: strongroom audit verify")
    }
}

impl From<ProfileError> for Failure {
    fn from(error: ProfileError) -> Self {
        let message = chain(&error);
        match error {
            ProfileError::Missing { .. } => Self::new(Exit::Locked, OwnCode::NoVault, message)
                .hint("strongroom create, or on an enrolled device: strongroom devices add"),
            ProfileError::Exists { .. } => {
                Self::new(Exit::Usage, OwnCode::ProfileExists, message).hint("choose another with --profile NAME")
            }
            ProfileError::Name => Self::usage(message),
            ProfileError::SeenBackwards | ProfileError::Damaged { .. } => {
                Self::new(Exit::Alarm, OwnCode::ProfileDamaged, message).hint("strongroom doctor")
            }
            _ => Self::new(Exit::Local, OwnCode::FileFailed, message),
        }
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self::new(Exit::Local, OwnCode::FileFailed, chain(&error))
    }
}

impl From<FactorError> for Failure {
    fn from(error: FactorError) -> Self {
        let message = chain(&error);
        match error {
            FactorError::Passphrase(PassphraseError::Params(_)) => Self::new(
                Exit::Alarm,
                OwnCode::KdfRefused,
                format!("ALARM: the vault's settings for stretching the passphrase were changed: {message}"),
            ),
            FactorError::NoInput => Self::new(Exit::Local, OwnCode::NoInput, message)
                .hint("set STRONGROOM_PASSPHRASE_FILE, or use --passphrase-stdin"),
            FactorError::Input(_) => Self::new(Exit::Local, OwnCode::NoInput, message),
            _ => Self::new(Exit::Usage, OwnCode::FactorUnusable, message),
        }
    }
}

impl From<PassphraseWeak> for Failure {
    fn from(weak: PassphraseWeak) -> Self {
        Self::new(Exit::Usage, Code::PassphraseWeak, weak.to_string())
            .hint("strongroom generate --words 6 makes one that is strong")
    }
}

impl From<DeliverError> for Failure {
    fn from(error: DeliverError) -> Self {
        let message = chain(&error);
        let code = match error {
            DeliverError::NoClipboard(_) => OwnCode::NoClipboard.into(),
            DeliverError::Clipboard(_) => OwnCode::ClipboardFailed.into(),
            DeliverError::Exec { .. } => OwnCode::ExecFailed.into(),
            _ => AnyCode::from(Code::ValueRefused),
        };
        Self::new(Exit::Local, code, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "strongroom: {} ({})", self.message.trim_end_matches('.'), self.code)?;
        if let Some(rule) = &self.rule {
            write!(f, "\n  rule: {rule}")?;
        }
        if let Some(secs) = self.retry_secs {
            write!(f, "\n  try again in {}", crate::human::duration(secs))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  next: {hint}")?;
        }
        Ok(())
    }
}

/// An error with its causes, each layer speaking for itself.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn connect(error: &ConnectError, message: String) -> Failure {
    match error {
        ConnectError::Unreachable { .. } => {
            Failure::new(Exit::Unreachable, OwnCode::Unreachable, message).hint("strongroom serve")
        }
        ConnectError::Channel(
            ChannelError::Certificate | ChannelError::Epoch | ChannelError::Signature | ChannelError::Vault,
        ) => Failure::new(
            Exit::Alarm,
            OwnCode::VaultNotAuthentic,
            format!("ALARM: the other end is not the vault that this device pinned: {message}. Nothing was sent."),
        )
        .hint("do not type the passphrase; find out who answers at the socket: strongroom doctor"),
        ConnectError::NotTrusted(NotAllowed::Program { .. }) => Failure::new(
            Exit::Alarm,
            OwnCode::HostNotTrusted,
            message,
        )
        .hint(
            "if it is one you want: strongroom vault update; see what this device trusts: strongroom vault attestation",
        ),
        ConnectError::NotTrusted(_) => Failure::new(
            Exit::Alarm,
            OwnCode::HostNotTrusted,
            format!("ALARM: {message}. Nothing was sent that unlocks the vault."),
        )
        .hint("ask whoever runs the machine what changed; see what this device trusts: strongroom vault attestation"),
        ConnectError::Channel(_) | ConnectError::Protocol { .. } => {
            Failure::new(Exit::Alarm, Code::ChannelRefused, message)
        }
        ConnectError::TurnedAway => Failure::new(Exit::Refused, OwnCode::TurnedAway, message)
            .hint("on another device: strongroom devices list, or strongroom guest list"),
        ConnectError::Upload(_) => Failure::new(Exit::Local, OwnCode::UploadFailed, message),
        _ => Failure::new(Exit::Unreachable, OwnCode::ConnectionLost, message),
    }
}

fn hint_for(code: Code) -> Option<&'static str> {
    Some(match code {
        Code::VaultLocked | Code::SessionRequired => "strongroom unlock",
        Code::ItemUnknown => "strongroom item list",
        Code::GuestUnknown => "strongroom guest list",
        Code::GrantUnknown => "strongroom grant list",
        Code::ApprovalUnknown => "strongroom approvals list",
        Code::DeviceUnknown => "strongroom devices list",
        Code::SlotUnknown => "strongroom slots list",
        Code::GuestSuspended => "strongroom guest resume --all",
        Code::CredentialFrozen => "on another device: strongroom devices list",
        Code::HostFailed | Code::HardwareMissing => "look at the output of strongroom serve",
        Code::ShareMissing | Code::MeasurementChanged => {
            "look at the output of strongroom serve; with a copy of the share or the recovery phrase: strongroom vault rescue"
        }
        Code::Busy | Code::CredentialBusy => "try again",
        _ => return None,
    })
}

fn exit_code<S: serde::Serializer>(exit: &Exit, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(exit.code())
}

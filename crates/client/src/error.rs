//! Why a device or guest did not get what it set out for.

use strongroom_wire::{Code, Refusal};

use crate::channel::ConnectError;
use crate::files::FileError;
use crate::fresh::FactorError;
use crate::log::LogAlarm;
use crate::profile::ProfileError;

/// Why something was not done; each layer speaks for itself, causes follow as sources.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The vault or the server said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is no channel to the vault.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The device's own files.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The log is not the one this device knows. Nothing was confirmed.
    #[error(transparent)]
    Alarm(#[from] LogAlarm),
    /// No factor, or one that cannot be used.
    #[error(transparent)]
    Factor(#[from] FactorError),
    /// A request too large for a frame.
    #[error("the request is larger than the vault takes at once")]
    TooLarge,
    /// The vault answered another question.
    #[error("the vault answered with something that does not fit the request")]
    Answer,
}

impl ClientError {
    /// The stable code where the vault gave one.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused(refusal) => Some(refusal.code),
            _ => None,
        }
    }
}

impl From<FileError> for ClientError {
    fn from(error: FileError) -> Self {
        Self::Profile(error.into())
    }
}

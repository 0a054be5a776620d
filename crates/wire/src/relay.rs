//! What a device or gateway says to the services before the sealed channel, on a local socket.
//!
//! The first message each way is JSON; after `Relay` every further message is a hello or sealed frame of the channel, which
//! the services cannot read.

use serde::{Deserialize, Serialize};

use crate::Refusal;
use crate::ids::VaultId;

/// The first message of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RelayHello {
    /// How the server stands.
    Ping {},
    /// A new, empty vault.
    NewVault {},
    /// A channel to a vault.
    Relay {
        /// The vault.
        vault: VaultId,
    },
    /// A channel to a vault whose host share is gone, to bring it back. Answered as `relay` is.
    Rescue {
        /// The vault.
        vault: VaultId,
    },
}

/// The server's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RelayAnswer {
    /// To `ping`.
    Pong {
        /// The server's version.
        version: String,
    },
    /// To `new_vault`.
    NewVault {
        /// Its id.
        vault: VaultId,
    },
    /// To `relay`: frames follow.
    Relay {},
    /// Nothing follows.
    Refused(Refusal),
}

/// Bytes of a first message at most.
pub const RELAY_HELLO_BYTES_MAX: usize = 4_096;

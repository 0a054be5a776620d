//! What a member's device and a guest's gateway do: keep their keys, open the sealed channel, check what the vault says, and
//! the device halves of three consumers.
//!
//! In reading order:
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`profile`] | the folder of a device: keys, pinned identity, credential, last seen log |
//! | [`guest`] | the key file of a guest |
//! | [`channel`] | a connection to one vault, requests and streamed bodies over it |
//! | [`session`] | a device's requests, with fresh authentication and credential where the vault asks for them |
//! | [`gateway`] | a guest's requests |
//! | [`fresh`] | factors: from what the member types to what answers a challenge |
//! | [`credential`] | keeping the blob that only the vault can open, through any crash |
//! | [`open`] | creating, unlocking and confirming the log |
//! | [`rescue`] | bringing back a vault whose host share is gone |
//! | [`log`] | checkpoints, and proofs that one log extends another |
//! | [`audit`] | verifying a whole log, or one event without any vault |
//! | [`deliver`] | clipboard and exec: the halves that run here |
//! | [`generate`] | passwords and keys |
//! | [`passphrase`] | whether a passphrase is strong enough |
//!
//! There is no terminal in here: what a person is asked comes in through [`fresh::Factors`].
//!
//! **What it does not promise.** The keys of a device lie in a file that only its user can read. Whatever runs as that user
//! can read them too; what they open without a factor is the state of the vault and, with a live session, its masked lists.
#![forbid(unsafe_code)]

// The vault's end that tests share is written against the public names.
#[cfg(test)]
extern crate self as strongroom_client;

pub mod audit;
pub mod channel;
pub mod clock;
pub mod credential;
pub mod deliver;
mod error;
pub mod files;
pub mod fresh;
pub mod gateway;
pub mod generate;
pub mod guest;
pub mod log;
pub mod open;
pub mod passphrase;
pub mod profile;
pub mod rescue;
pub mod session;

pub use error::ClientError;
pub use gateway::Gateway;
pub use profile::Profile;
pub use session::Session;
pub use strongroom_attest as attest;
pub use strongroom_crypto as crypto;
pub use strongroom_wire as wire;

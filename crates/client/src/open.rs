//! Creating a vault, opening it, and confirming that its log is the one this device knows.

use std::path::Path;

use strongroom_attest::Policy;
use strongroom_crypto::channel::Role;
use strongroom_crypto::factor::Phrase;
use strongroom_crypto::sign::PublicKey;
use strongroom_wire::device::{
    CheckpointProof, CreateRequest, DeviceAnswer, DeviceRequest, LogPosition, UnlockRequest, VaultState,
};
use strongroom_wire::relay::{RelayAnswer, RelayHello};
use strongroom_wire::{Bytes, DeviceId, SecretValue, Timestamp};

use crate::channel::{self, Ask, Connection, Expected, PATIENCE, Speaker, Trust};
use crate::clock;
use crate::error::ClientError;
use crate::fresh;
use crate::log;
use crate::profile::{DeviceKeys, NewProfile, Profile, ProfileError};
use crate::session::Session;

/// What a new vault is made from.
pub struct NewVault<'a> {
    /// Where the services listen.
    pub socket: &'a Path,
    /// The folder of the profile to be.
    pub dir: &'a Path,
    /// What the device is called.
    pub device_name: &'a str,
    /// The first passphrase, already found strong enough.
    pub passphrase: &'a str,
    /// The recovery phrase, which the member has written down.
    pub phrase: &'a Phrase,
    /// Whether the device keeps a copy of the host share.
    pub keep_share: bool,
    /// Which hosts may have the vault; where it is not said, the one that answers.
    pub policy: Option<&'a Policy>,
}

/// Makes a vault, and the profile of its first device. The vault is open afterwards.
///
/// # Errors
/// [`ProfileError::Exists`] where the profile has a vault; else what the server or the vault refused.
pub fn create(new: &NewVault<'_>) -> Result<Profile, ClientError> {
    if Profile::exists(new.dir) {
        return Err(ProfileError::Exists { path: new.dir.to_owned() }.into());
    }
    let vault = match channel::ask_server(new.socket, &RelayHello::NewVault {})? {
        RelayAnswer::NewVault { vault } => vault,
        RelayAnswer::Refused(refusal) => return Err(refusal.into()),
        _ => return Err(ClientError::Answer),
    };
    let keys = DeviceKeys::generate();
    let (slot, _) = fresh::new_passphrase_slot(vault, "passphrase", new.passphrase)?;
    let request = DeviceRequest::Create(Box::new(CreateRequest {
        device_name: new.device_name.to_owned(),
        device_kem_public: Bytes::from(keys.kem.public().as_bytes().as_slice()),
        slot,
        recovery: fresh::new_phrase_slot(vault, "recovery phrase", new.phrase)?,
        wants_share: new.keep_share,
        device_time: clock::now(),
    }));
    let id = DeviceId(channel::new_request_id().0);
    let speaker = Speaker::new(Role::Founder, id.0, &keys.sign);
    let trust = new.policy.map_or(Trust::FirstSight, Trust::Policy);
    let mut connection = Connection::open(new.socket, vault, Expected::Unfounded, trust, speaker)?;
    let ask = Ask {
        id: channel::new_request_id(),
        fresh: None,
        credential: None,
        body: serde_json::value::to_raw_value(&request).expect("a request always has a JSON form"),
        patience: PATIENCE,
    };
    let DeviceAnswer::Created(created) = connection.ask(&ask)? else { return Err(ClientError::Answer) };
    let identity = PublicKey::from_bytes(&created.identity.0).map_err(|_| ClientError::Answer)?;
    let seen = log::verify(&created.checkpoint, vault, &identity, &LogPosition::default())?;
    let profile = NewProfile {
        vault,
        identity,
        device: created.device,
        socket: new.socket,
        credential: &created.credential.0,
        sealed_share: created.sealed_share.as_ref().map(|share| share.0.as_slice()),
        seen: &seen,
        policy: new.policy.or(connection.policy()).ok_or(ClientError::Answer)?,
    };
    Ok(Profile::create(new.dir, keys, &profile)?)
}

/// What opening came to.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// When the session ends without further use.
    pub session_until: Timestamp,
    /// When the vault locks by itself, where the vault said so.
    pub open_until: Option<Timestamp>,
    /// Whether it was locked before.
    pub was_locked: bool,
}

/// Opens the vault, or a session on a vault that is open, and confirms the log.
///
/// # Errors
/// [`ClientError::Alarm`] where the log is not the one this device knows: the vault is then open but serves nothing.
pub fn open(session: &mut Session<'_>, open_secs: Option<u64>) -> Result<Opened, ClientError> {
    let DeviceAnswer::Status(status) = session.ask(&DeviceRequest::Status {})? else { return Err(ClientError::Answer) };
    let opened = if status.state == VaultState::Locked {
        unlock(session, open_secs)?
    } else {
        let DeviceAnswer::Session { expires_at } = session.ask(&DeviceRequest::SessionBegin {})? else {
            return Err(ClientError::Answer);
        };
        confirm_log(session, status.state == VaultState::Unconfirmed)?;
        Opened { session_until: expires_at, open_until: status.open_until, was_locked: false }
    };
    Ok(opened)
}

/// Verifies that the log of now extends what this device saw, and keeps the new position; where the vault waits for it, says
/// so.
///
/// # Errors
/// [`ClientError::Alarm`]: nothing was confirmed.
pub fn confirm_log(session: &mut Session<'_>, tell: bool) -> Result<LogPosition, ClientError> {
    let seen = session.profile().seen()?;
    let answer = session.ask(&DeviceRequest::AuditCheckpoint { from_size: seen.size })?;
    let DeviceAnswer::Checkpoint(checkpoint) = answer else { return Err(ClientError::Answer) };
    accept(session, &checkpoint, &seen, tell)
}

fn unlock(session: &mut Session<'_>, open_secs: Option<u64>) -> Result<Opened, ClientError> {
    let factor = session.factor()?;
    let profile = session.profile();
    let seen = profile.seen()?;
    let secret = factor.root.slot_secret(profile.vault().as_bytes());
    let request = DeviceRequest::Unlock(UnlockRequest {
        slot: factor.slot,
        // EXPOSE: the seed of the slot opens the vault; it goes over the channel, whose other end has proved itself.
        seed: SecretValue::new(secret.expose_seed().to_vec()),
        seen: seen.clone(),
        device_time: clock::now(),
        open_secs,
    });
    let DeviceAnswer::Unlocked(unlocked) = session.ask(&request)? else { return Err(ClientError::Answer) };
    accept(session, &unlocked.checkpoint, &seen, true)?;
    Ok(Opened { session_until: unlocked.session_until, open_until: Some(unlocked.open_until), was_locked: true })
}

fn accept(
    session: &mut Session<'_>,
    checkpoint: &CheckpointProof,
    seen: &LogPosition,
    tell: bool,
) -> Result<LogPosition, ClientError> {
    let profile = session.profile();
    let now = log::verify(checkpoint, profile.vault(), profile.identity(), seen)?;
    if tell {
        session.ask(&DeviceRequest::LogConfirm(now.clone()))?;
    }
    match profile.store_seen(&now) {
        // Another command of this device has seen more meanwhile.
        Err(ProfileError::SeenBackwards) => {}
        stored => stored?,
    }
    Ok(now)
}

//! Bringing back a vault whose host share is gone: on another machine, or on one whose hardware does not give the share out any more.

use strongroom_attest::Policy;
use strongroom_crypto::channel::Role;
use strongroom_crypto::factor::FactorRoot;
use strongroom_crypto::seal::open_share_copy;
use strongroom_wire::device::{DeviceAnswer, DeviceRequest, RescueBy, RescueRequest};
use strongroom_wire::{Bytes, SecretValue};

use crate::channel::{self, Ask, Connection, Expected, PATIENCE, Speaker, Trust};
use crate::error::ClientError;
use crate::profile::{DeviceKeys, Profile, ProfileError};

/// A channel to a vault that is lost. It has not proved itself and cannot: what is known of the other end is what its machine showed.
pub struct Rescue<'p> {
    profile: &'p Profile,
    connection: Connection,
}

impl<'p> Rescue<'p> {
    /// Opens the channel. Nothing that opens anything was sent.
    ///
    /// # Errors
    /// When nobody answers, when the vault is not lost, or the machine's evidence does not hold.
    pub fn begin(profile: &'p Profile) -> Result<Self, ClientError> {
        // Whoever brings it back proves it by what they bring; the key is of no further use.
        let keys = DeviceKeys::generate();
        let speaker = Speaker::new(Role::Founder, channel::new_request_id().0, &keys.sign);
        let connection =
            Connection::open(profile.socket(), profile.vault(), Expected::Lost, Trust::FirstSight, speaker)?;
        Ok(Self { profile, connection })
    }

    /// What the machine showed of itself, as the policy that allows it and nothing else.
    #[must_use]
    pub fn machine(&self) -> Option<&Policy> {
        self.connection.policy()
    }

    /// With this device's copy of the share. The machine must be one that the member trusts with it.
    ///
    /// # Errors
    /// Where the device keeps none, or the vault refuses it.
    pub fn with_share(self) -> Result<Brought<'p>, ClientError> {
        let sealed = self.profile.sealed_share()?;
        let sealed = sealed.ok_or_else(|| ProfileError::Missing { path: self.profile.folder().join("share") })?;
        let (vault, device) = (self.profile.vault(), self.profile.device());
        let share = open_share_copy(self.profile.kem_key(), vault.as_bytes(), device.as_bytes(), &sealed)
            .map_err(|_| ProfileError::Damaged { path: self.profile.folder().join("share") })?;
        // EXPOSE: the share goes to the vault on a machine that the member trusts with it.
        let share = SecretValue::new(share.expose().to_vec());
        self.bring(RescueBy::Share { share })
    }

    /// With the recovery phrase.
    ///
    /// # Errors
    /// When it is not this vault's.
    pub fn with_phrase(self, phrase: &FactorRoot) -> Result<Brought<'p>, ClientError> {
        // EXPOSE: the seed of the slot opens the vault, on a machine that the member trusts with it.
        let seed = SecretValue::new(phrase.slot_secret(self.profile.vault().as_bytes()).expose_seed().to_vec());
        let identity = Bytes::from(*self.profile.identity().as_bytes());
        self.bring(RescueBy::Phrase { seed, identity })
    }

    fn bring(mut self, by: RescueBy) -> Result<Brought<'p>, ClientError> {
        let request = DeviceRequest::Rescue(RescueRequest { by, device: Some(self.profile.device()) });
        let ask = Ask {
            id: channel::new_request_id(),
            fresh: None,
            credential: None,
            body: serde_json::value::to_raw_value(&request).expect("a request always has a JSON form"),
            patience: PATIENCE,
        };
        let DeviceAnswer::Rescued { sealed_share } = self.connection.ask(&ask)? else {
            return Err(ClientError::Answer);
        };
        let policy = self.connection.policy().cloned().ok_or(ClientError::Answer)?;
        Ok(Brought { profile: self.profile, policy, sealed_share })
    }
}

/// A vault that is said to be back. Whoever said so has proved nothing yet.
pub struct Brought<'p> {
    profile: &'p Profile,
    policy: Policy,
    sealed_share: Option<Bytes>,
}

impl Brought<'_> {
    /// Opens a channel to the vault that this device pinned, on the machine that was shown; only then does the device trust that machine
    /// from now on, and keep the copy of the new share, where it kept one.
    ///
    /// # Errors
    /// Where the vault is not there yet, or not the one that is pinned: nothing was changed on this device.
    pub fn prove(&self) -> Result<(), ClientError> {
        let profile = self.profile;
        let speaker = Speaker::new(Role::Device, profile.device().0, profile.sign_key());
        let expected = Expected::Identity(profile.identity(), profile.channel_epoch()?);
        let trust = Trust::Policy(&self.policy);
        Connection::open(profile.socket(), profile.vault(), expected, trust, speaker)?;
        profile.store_policy(&self.policy)?;
        if let (Some(sealed), Some(_)) = (&self.sealed_share, profile.sealed_share()?) {
            let (vault, device) = (profile.vault(), profile.device());
            open_share_copy(profile.kem_key(), vault.as_bytes(), device.as_bytes(), &sealed.0)
                .map_err(|_| ClientError::Answer)?;
            // The copy that was opens nothing any more.
            profile.store_sealed_share(&sealed.0)?;
        }
        Ok(())
    }
}

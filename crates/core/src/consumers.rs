//! What the rules need of the code that touches plaintext. The `consumers` crate implements it; the simulator fakes it.

use strongroom_crypto::CryptoRng;
use strongroom_crypto::locked::SecretBytes;
use strongroom_wire::guest::{CryptCall, SignCall, UseResult};
use strongroom_wire::policy::{KeyPolicy, SignTemplate};
use strongroom_wire::{ItemId, Refusal, Timestamp};

/// What `crypt` gave.
pub enum CryptOutput {
    /// An answer.
    Result(UseResult),
    /// A derived key of 32 bytes, which becomes an item and is never answered.
    Derived(SecretBytes),
}

/// The consumers that are done at once. Each takes the plaintext for the one call and keeps no copy.
pub trait Consumers {
    /// Signs.
    ///
    /// # Errors
    /// When key, message or template do not go together.
    #[expect(clippy::too_many_arguments, reason = "one call crosses the border with all it needs")]
    fn sign(
        &mut self,
        secret: &SecretBytes,
        policy: KeyPolicy,
        call: &SignCall,
        template: Option<&SignTemplate>,
        for_guest: bool,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Result<UseResult, Refusal>;

    /// Makes a one-time code; `counter` is for counter-based ones.
    ///
    /// # Errors
    /// When the settings cannot be read.
    fn totp(&mut self, secret: &SecretBytes, now: Timestamp, counter: u64) -> Result<UseResult, Refusal>;

    /// Encrypts, decrypts, authenticates or derives. `versions` has the newest version first.
    ///
    /// # Errors
    /// When key and call do not go together.
    fn crypt(
        &mut self,
        item: ItemId,
        versions: &[(u32, SecretBytes)],
        policy: KeyPolicy,
        call: &CryptCall,
        rng: &mut dyn CryptoRng,
    ) -> Result<CryptOutput, Refusal>;

    /// Whether a key fits its policy, when an item is added or changed.
    ///
    /// # Errors
    /// `key_malformed` when it does not.
    fn check_key(&mut self, secret: &SecretBytes, policy: KeyPolicy) -> Result<(), Refusal>;

    /// Whether one-time-code settings can be read.
    ///
    /// # Errors
    /// `otpauth_malformed` when they cannot.
    fn check_totp(&mut self, secret: &SecretBytes) -> Result<(), Refusal>;
}

//! The consumers that are done at once, as the rules call them.

use strongroom_consumers::{crypt, keys, sign, totp};
use strongroom_core::consumers::{Consumers, CryptOutput};
use strongroom_crypto::CryptoRng;
use strongroom_crypto::locked::SecretBytes;
use strongroom_wire::guest::{CryptCall, SignCall, UseResult};
use strongroom_wire::policy::{KeyPolicy, SignTemplate};
use strongroom_wire::{ItemId, Refusal, Timestamp};

/// The real ones.
pub(crate) struct Real;

impl Consumers for Real {
    fn sign(
        &mut self,
        secret: &SecretBytes,
        policy: KeyPolicy,
        call: &SignCall,
        template: Option<&SignTemplate>,
        for_guest: bool,
        now: Timestamp,
        _rng: &mut dyn CryptoRng,
    ) -> Result<UseResult, Refusal> {
        // EXPOSE: the consumer reads the key, signs, and wipes what it read.
        sign::sign(secret.expose(), policy, call, template, for_guest, now)
    }

    fn totp(&mut self, secret: &SecretBytes, now: Timestamp, counter: u64) -> Result<UseResult, Refusal> {
        // EXPOSE: as above.
        let counter = match totp::mover(secret.expose())? {
            totp::Mover::Time => None,
            totp::Mover::Counter(first) => Some(first.saturating_add(counter)),
        };
        // EXPOSE: as above.
        totp::code(secret.expose(), now, counter)
    }

    fn crypt(
        &mut self,
        item: ItemId,
        versions: &[(u32, SecretBytes)],
        policy: KeyPolicy,
        call: &CryptCall,
        rng: &mut dyn CryptoRng,
    ) -> Result<CryptOutput, Refusal> {
        // EXPOSE: as above, for each version of the key.
        let versions: Vec<(u32, &[u8])> = versions.iter().map(|(version, key)| (*version, key.expose())).collect();
        match crypt::crypt(crypt::Versions(&versions), item, policy, call, rng)? {
            crypt::CryptOutput::Answer(result) => Ok(CryptOutput::Result(result)),
            crypt::CryptOutput::Derived(key) => Ok(CryptOutput::Derived(SecretBytes::copy_of(&*key))),
        }
    }

    fn check_key(&mut self, secret: &SecretBytes, policy: KeyPolicy) -> Result<(), Refusal> {
        // EXPOSE: parsed and forgotten.
        keys::check_key(secret.expose(), policy)
    }

    fn check_totp(&mut self, secret: &SecretBytes) -> Result<(), Refusal> {
        // EXPOSE: parsed and forgotten.
        totp::mover(secret.expose()).map(|_| ())
    }
}

//! Consumers that do nothing but remember what they were shown. Their results are digests, so that none holds a secret.

use strongroom_core::consumers::{Consumers, CryptOutput};
use strongroom_crypto::CryptoRng;
use strongroom_crypto::digest::sha256;
use strongroom_crypto::locked::SecretBytes;
use strongroom_wire::guest::{CryptCall, SignCall, UseResult};
use strongroom_wire::policy::{Consumer, KeyPolicy, SignTemplate};
use strongroom_wire::{Bytes, Code, ItemId, Refusal, Timestamp};

/// The fake consumers.
#[derive(Default)]
pub struct Fakes {
    /// What they were shown, in order.
    pub shown: Vec<(Consumer, Vec<u8>)>,
    /// The templates that signatures were made under.
    pub templates: Vec<Option<SignTemplate>>,
    /// Whether the next call fails.
    pub failing: bool,
}

/// A key that fits no algorithm.
pub const BAD_KEY: &[u8] = b"not a key at all";
/// One-time-code settings that cannot be read.
pub const BAD_TOTP: &[u8] = b"not otpauth";
/// One-time-code settings that count instead of looking at the clock.
pub const COUNTED: &[u8] = b"counted";

impl Fakes {
    fn show(&mut self, consumer: Consumer, secret: &SecretBytes) -> Result<[u8; 32], Refusal> {
        // EXPOSE: the simulator is where plaintext may be looked at.
        self.shown.push((consumer, secret.expose().to_vec()));
        if std::mem::take(&mut self.failing) {
            return Err(Code::KeyMalformed.into());
        }
        Ok(sha256(&[b"fake result", secret.expose()]))
    }
}

impl Consumers for Fakes {
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
        strongroom_wire::template::check_template(call, policy, template, for_guest, now)?;
        self.templates.push(template.cloned());
        let signature = Bytes::from(self.show(Consumer::Sign, secret)?);
        Ok(UseResult::Signature { signature, algorithm: policy.algorithm })
    }

    fn totp(&mut self, secret: &SecretBytes, _now: Timestamp, counter: u64) -> Result<UseResult, Refusal> {
        self.show(Consumer::Totp, secret)?;
        // EXPOSE: as above.
        let counted = secret.expose() == COUNTED;
        let code = if counted { format!("{counter:06}") } else { "123456".into() };
        Ok(UseResult::Code { code, valid_secs: (!counted).then_some(30) })
    }

    fn crypt(
        &mut self,
        _item: ItemId,
        versions: &[(u32, SecretBytes)],
        _policy: KeyPolicy,
        call: &CryptCall,
        _rng: &mut dyn CryptoRng,
    ) -> Result<CryptOutput, Refusal> {
        let mut digest = [0; 32];
        for (_, secret) in versions {
            digest = self.show(Consumer::Crypt, secret)?;
        }
        Ok(match call {
            CryptCall::Derive { context, .. } => {
                CryptOutput::Derived(SecretBytes::copy_of(&sha256(&[b"derived", &digest, &context.0])))
            }
            CryptCall::Mac { .. } => CryptOutput::Result(UseResult::Tag { tag: Bytes::from(digest) }),
            CryptCall::VerifyMac { .. } => CryptOutput::Result(UseResult::Verified { valid: true }),
            CryptCall::Decrypt { .. } => CryptOutput::Result(UseResult::Plaintext { plaintext: Bytes::from(digest) }),
            CryptCall::Encrypt { .. } | CryptCall::Rewrap { .. } => {
                CryptOutput::Result(UseResult::Ciphertext { ciphertext: Bytes::from(digest) })
            }
        })
    }

    fn check_key(&mut self, secret: &SecretBytes, _policy: KeyPolicy) -> Result<(), Refusal> {
        // EXPOSE: as above.
        if secret.expose() == BAD_KEY { Err(Code::KeyMalformed.into()) } else { Ok(()) }
    }

    fn check_totp(&mut self, secret: &SecretBytes) -> Result<(), Refusal> {
        // EXPOSE: as above.
        if secret.expose() == BAD_TOTP { Err(Code::OtpauthMalformed.into()) } else { Ok(()) }
    }
}

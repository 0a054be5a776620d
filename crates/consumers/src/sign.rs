//! The consumer `sign`: messages, OpenSSH signatures and JSON Web Tokens under a key that stays inside.
//!
//! A message is always whole and hashed here; a hash handed in could be the hash of anything. A key has one purpose, so a
//! signature over a message can never pass for a token or for an SSH signature, nor the other way round.

mod jwt;
mod ssh;

use strongroom_wire::guest::{SignCall, UseResult};
use strongroom_wire::policy::{KeyPolicy, SignTemplate};
use strongroom_wire::template::check_template;
use strongroom_wire::{Bytes, Refusal, Timestamp};

use crate::keys::PrivateKey;

/// Signs what `call` asks for, after checking it (again) against the key's policy and the grant's template. `template` is
/// `None` and `for_guest` false for the member's own device.
///
/// # Errors
/// Those of [`check_template`], and `key_malformed` where the secret is not a key of the policy's algorithm.
pub fn sign(
    secret: &[u8],
    policy: KeyPolicy,
    call: &SignCall,
    template: Option<&SignTemplate>,
    for_guest: bool,
    now: Timestamp,
) -> Result<UseResult, Refusal> {
    check_template(call, policy, template, for_guest, now)?;
    let key = PrivateKey::read(secret, policy.algorithm)?;
    match call {
        SignCall::Message { message } => {
            Ok(UseResult::Signature { signature: Bytes(key.sign(&message.0)?), algorithm: policy.algorithm })
        }
        SignCall::Ssh { namespace, message } => {
            Ok(UseResult::SshSignature { armored: ssh::signature(&key, namespace, &message.0)? })
        }
        SignCall::Jwt { claims, key_id } => {
            let template = template.and_then(|template| template.jwt.as_ref());
            Ok(UseResult::Jwt { token: jwt::token(&key, claims, key_id.as_deref(), template, now)? })
        }
    }
}

#[cfg(test)]
mod tests;

//! What a member's device asks of the evidence of their vault.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use strongroom_nitro::document::{self, NitroPolicy, NitroRefused};
use strongroom_wire::Bytes;
use strongroom_wire::limits::{ATTESTATION_CHOICES_MAX, ATTESTATION_POLICY_BYTES_MAX};
use strongroom_wire::sealing::{Evidence, Pcrs};

use crate::tpm::{self, QuoteRefused};

/// Which hosts a device trusts with what unlocks the vault. Of each list one entry must fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Policy {
    /// Any: the host has no hardware that speaks for it.
    None {},
    /// A machine with this TPM.
    Tpm {
        /// The attestation key: a point of P-256, 65 bytes.
        key: Bytes,
        /// Boot states.
        boot: Vec<Pcrs>,
        /// SHA-256 of vault programs.
        programs: Vec<Bytes>,
    },
    /// An AWS Nitro enclave that runs one of these images.
    Nitro {
        /// Of each register named, the values it may have, 48 bytes each; register 0 (the image) or 8 (who signed it) is among them.
        pcrs: BTreeMap<u8, Vec<Bytes>>,
    },
}

/// What evidence was found to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claims {
    /// Nothing; nothing was asked.
    None,
    /// This vault program runs on that machine.
    Tpm {
        /// SHA-256 of the vault program.
        program: [u8; 32],
    },
    /// One of those images runs in an enclave.
    Nitro,
}

/// Why a vault process is not trusted. Each says what the member can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAllowed {
    /// The policy asks for evidence and there is none.
    #[error("the host shows no evidence of its hardware, and this vault was made on one that does")]
    Missing,
    /// The evidence cannot be read.
    #[error("the host's evidence cannot be read")]
    Malformed,
    /// The evidence is of other hardware than the policy names.
    #[error("the host shows evidence of another kind of hardware")]
    OtherKind,
    /// Another machine.
    #[error("the evidence comes from another machine than the one this vault was made on")]
    OtherMachine,
    /// What the hardware signed does not hold.
    #[error(transparent)]
    Quote(#[from] QuoteRefused),
    /// The enclave's document does not hold, or is not what the policy names.
    #[error(transparent)]
    Nitro(#[from] NitroRefused),
    /// An enclave is never trusted at first sight: whoever runs it chose the image.
    #[error("an enclave is trusted by a policy alone, made from the measurements of a release")]
    PolicyNeeded,
    /// The machine started in another way.
    #[error("the machine did not start as it did before (registers {})", join(.registers))]
    Boot {
        /// The registers that fit no boot state of the policy.
        registers: Vec<u8>,
    },
    /// Another vault program.
    #[error("another vault program runs there than this device accepted")]
    Program {
        /// Its SHA-256.
        program: [u8; 32],
    },
}

/// Bytes that are no policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the policy cannot be read, or names nothing or too much")]
pub struct PolicyMalformed;

impl Policy {
    /// The policy that allows this evidence and nothing else, for a device that meets the host for the first time. That trusts the
    /// first sight: a policy from elsewhere, such as the measurements of a release, does not.
    ///
    /// # Errors
    /// Where the evidence does not hold.
    pub fn of(evidence: &[u8], binding: &[u8; 32]) -> Result<Self, NotAllowed> {
        if evidence.is_empty() {
            return Ok(Self::None {});
        }
        match Evidence::decode(evidence).map_err(|_| NotAllowed::Malformed)? {
            Evidence::Tpm(evidence) => {
                tpm::verify(&evidence, binding)?;
                Ok(Self::Tpm { key: evidence.key, boot: vec![evidence.boot], programs: vec![evidence.program] })
            }
            Evidence::Nitro { .. } => Err(NotAllowed::PolicyNeeded),
        }
    }

    /// Whether evidence that is bound to `binding` is allowed at this time, in milliseconds since 1970.
    ///
    /// # Errors
    /// [`NotAllowed`]: send nothing that unlocks.
    pub fn appraise(&self, evidence: &[u8], binding: &[u8; 32], now_ms: u64) -> Result<Claims, NotAllowed> {
        if *self == (Self::None {}) {
            return Ok(Claims::None);
        }
        if evidence.is_empty() {
            return Err(NotAllowed::Missing);
        }
        let (evidence, key, boot, programs) =
            match (self, Evidence::decode(evidence).map_err(|_| NotAllowed::Malformed)?) {
                (Self::Tpm { key, boot, programs }, Evidence::Tpm(evidence)) => (evidence, key, boot, programs),
                (Self::Nitro { pcrs }, Evidence::Nitro { document }) => {
                    let policy = nitro_policy(pcrs).ok_or(NotAllowed::Malformed)?;
                    document::appraise(&document.0, &policy, binding, now_ms)?;
                    return Ok(Claims::Nitro);
                }
                _ => return Err(NotAllowed::OtherKind),
            };
        if evidence.key != *key {
            return Err(NotAllowed::OtherMachine);
        }
        let program = tpm::verify(&evidence, binding)?;
        if !boot.contains(&evidence.boot) {
            return Err(NotAllowed::Boot { registers: differing(boot, &evidence.boot) });
        }
        if !programs.contains(&evidence.program) {
            return Err(NotAllowed::Program { program });
        }
        Ok(Claims::Tpm { program })
    }

    /// With one more vault program: the member accepted an update.
    ///
    /// # Errors
    /// Where the policy names as many as it may.
    pub fn allow_program(&mut self, program: [u8; 32]) -> Result<(), PolicyMalformed> {
        let Self::Tpm { programs, .. } = self else { return Ok(()) };
        let program = Bytes::from(program);
        if !programs.contains(&program) {
            if programs.len() >= ATTESTATION_CHOICES_MAX {
                return Err(PolicyMalformed);
            }
            programs.push(program);
        }
        Ok(())
    }

    /// With no other vault program: it was seen to run, and none before it may come back. Whether anything changed.
    pub fn only_program(&mut self, program: [u8; 32]) -> bool {
        let Self::Tpm { programs, .. } = self else { return false };
        let program = Bytes::from(program);
        // The one that was accepted last; one before it may still run for a moment.
        if programs.len() < 2 || programs.last() != Some(&program) {
            return false;
        }
        *programs = vec![program];
        true
    }

    /// Its bytes, as JSON.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("a policy always has a JSON form")
    }

    /// Reads a policy.
    ///
    /// # Errors
    /// [`PolicyMalformed`], also where a list is empty or too long, or a value has another length than its kind.
    pub fn decode(bytes: &[u8]) -> Result<Self, PolicyMalformed> {
        if bytes.len() > ATTESTATION_POLICY_BYTES_MAX {
            return Err(PolicyMalformed);
        }
        let policy: Self = serde_json::from_slice(bytes).map_err(|_| PolicyMalformed)?;
        let fits = |count: usize| (1..=ATTESTATION_CHOICES_MAX).contains(&count);
        let whole = match &policy {
            Self::None {} => true,
            Self::Tpm { key, boot, programs } => {
                key.0.len() == tpm::KEY_BYTES
                    && fits(boot.len())
                    && boot.iter().all(|pcrs| !pcrs.is_empty() && pcrs.values().all(is_digest))
                    && fits(programs.len())
                    && programs.iter().all(is_digest)
            }
            Self::Nitro { pcrs } => nitro_policy(pcrs).is_some(),
        };
        if whole { Ok(policy) } else { Err(PolicyMalformed) }
    }
}

fn nitro_policy(pcrs: &BTreeMap<u8, Vec<Bytes>>) -> Option<NitroPolicy> {
    let values = |values: &Vec<Bytes>| values.iter().map(Bytes::to_array).collect::<Option<Vec<_>>>();
    let pcrs = pcrs.iter().map(|(pcr, allowed)| Some((*pcr, values(allowed)?))).collect::<Option<_>>()?;
    NitroPolicy::new(pcrs).ok()
}

fn is_digest(bytes: &Bytes) -> bool {
    bytes.0.len() == 32
}

/// The registers in which a boot state differs from the one it is nearest to.
fn differing(allowed: &[Pcrs], found: &Pcrs) -> Vec<u8> {
    let differs = |state: &Pcrs| -> Vec<u8> {
        let all: BTreeMap<u8, ()> = state.keys().chain(found.keys()).map(|pcr| (*pcr, ())).collect();
        all.into_keys().filter(|pcr| state.get(pcr) != found.get(pcr)).collect()
    };
    allowed.iter().map(differs).min_by_key(Vec::len).unwrap_or_default()
}

fn join(registers: &[u8]) -> String {
    registers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

//! What seals a host share in hardware, and what speaks for a host: the messages between the host and the program that holds its
//! TPM (`strongroom-tpm`), and evidence in the sense of RFC 9334.
//!
//! Both directions of the program's socket are JSON, length-prefixed by [`crate::frame`]; one answer to each request, in order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bytes::{Bytes, SecretValue};
use crate::ids::VaultId;

/// Values of platform configuration registers (SHA-256 bank): number to 32 bytes.
pub type Pcrs = BTreeMap<u8, Bytes>;

/// What the host asks of the program that holds the TPM. `program` is always the SHA-256 of the vault program.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TpmRequest {
    /// First: which registers make up the boot state.
    Begin {
        /// Their numbers.
        boot: Vec<u8>,
    },
    /// Seal a secret to the boot state of now and this vault program.
    Seal {
        /// What it is.
        what: Sealable,
        /// The vault program.
        program: Bytes,
        /// 32 bytes.
        secret: SecretValue,
    },
    /// Open what was sealed.
    Open {
        /// What it must be.
        what: Sealable,
        /// What was sealed.
        sealed: Box<TpmSealed>,
    },
    /// Make a secret of 32 bytes that only this program and whoever holds the secret half of `to` ever see.
    GenerateTo {
        /// What it is to be.
        what: Sealable,
        /// The vault program it is sealed to.
        program: Bytes,
        /// An X-Wing public key, 1,216 bytes.
        to: Bytes,
    },
    /// Open what was sealed, for whoever holds the secret half of `to`.
    OpenTo {
        /// What it must be.
        what: Sealable,
        /// What was sealed.
        sealed: Box<TpmSealed>,
        /// An X-Wing public key, 1,216 bytes.
        to: Bytes,
    },
    /// Seal what was sealed to the boot state of now and another vault program.
    Reseal {
        /// What it must be.
        what: Sealable,
        /// What was sealed.
        sealed: Box<TpmSealed>,
        /// The vault program to come.
        program: Bytes,
    },
    /// Evidence that this vault program runs in the boot state of now.
    Quote {
        /// The vault program.
        program: Bytes,
        /// What it must be bound to: 32 bytes.
        binding: Bytes,
    },
    /// The host's counter, one higher than before where `up`.
    Count {
        /// Whether to count.
        up: bool,
    },
}

/// What is sealed, and whose it is: sealed beside the secret, so that nothing sealed for one thing is opened for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Sealable {
    /// The host share of this vault.
    Share(VaultId),
    /// The secret that opens this vault with no person there.
    Unattended(VaultId),
}

impl Sealable {
    /// As it stands beside the secret: 17 bytes.
    #[must_use]
    pub fn bytes(self) -> [u8; 17] {
        let (kind, vault) = match self {
            Self::Share(vault) => (1, vault),
            Self::Unattended(vault) => (2, vault),
        };
        let mut bytes = [kind; 17];
        bytes[1..].copy_from_slice(vault.as_bytes());
        bytes
    }
}

/// What that program answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TpmAnswer {
    /// It holds a TPM.
    Begun {
        /// The attestation key: a point of P-256, 65 bytes, SEC 1 section 2.3.3.
        key: Bytes,
    },
    /// What was sealed.
    Sealed(Box<TpmSealed>),
    /// What was opened.
    Opened {
        /// 32 bytes.
        secret: SecretValue,
    },
    /// A secret, made or opened.
    OpenedTo {
        /// As it is sealed in the TPM.
        sealed: Box<TpmSealed>,
        /// As it is sealed to the key that was named.
        secret: Bytes,
    },
    /// Evidence.
    Quoted(Box<TpmEvidence>),
    /// The counter's value.
    Counted {
        /// Never lower than before.
        value: u64,
    },
    /// Nothing was done.
    Refused(TpmRefusal),
}

/// Why the TPM did not do it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TpmRefusal {
    /// The state of now is not the one it was sealed to.
    #[error("this machine did not start as it did when the share was sealed (registers {})", numbers(.pcrs))]
    Changed {
        /// The registers that differ; empty where the TPM alone says so.
        pcrs: Vec<u8>,
    },
    /// Sealed by another TPM, or by this one before it was cleared.
    #[error("the share was sealed by another TPM, or by this one before it was cleared")]
    OtherTpm {},
    /// What was sealed is damaged.
    #[error("the sealed share is damaged")]
    Damaged {},
    /// No TPM answers.
    #[error("the TPM does not answer")]
    Unreachable {},
    /// It cannot be done on this TPM.
    #[error("the TPM refused: {kind}")]
    Tpm {
        /// The kind of response, as the TPM software stack names it.
        kind: String,
    },
}

/// Thirty-two bytes, sealed by a TPM to a boot state and a vault program. Opens nothing by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmSealed {
    /// The TPM's name of the storage key that it was made under: 34 bytes.
    pub parent: Bytes,
    /// The private part (TPM 2.0 Part 2, `TPM2B_PRIVATE` without its size).
    pub private: Bytes,
    /// The public part (`TPMT_PUBLIC`).
    pub public: Bytes,
    /// The vault program.
    pub program: Bytes,
    /// The boot state.
    pub boot: Pcrs,
}

/// What a host shows to a device: which machine this is, and what runs on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Evidence {
    /// A quote of a TPM 2.0.
    Tpm(TpmEvidence),
    /// A document of an AWS Nitro Security Module.
    Nitro {
        /// `COSE_Sign1` (RFC 9052) around the attestation document.
        document: Bytes,
    },
}

/// A quote, and what it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmEvidence {
    /// The structure that was signed (TPM 2.0 Part 2, `TPMS_ATTEST`).
    pub quote: Bytes,
    /// ECDSA with SHA-256 over P-256: `r || s`, 64 bytes.
    pub signature: Bytes,
    /// The attestation key, as in [`TpmAnswer::Begun`].
    pub key: Bytes,
    /// The boot state.
    pub boot: Pcrs,
    /// The vault program, which the host measured into register [`PROGRAM_PCR`].
    pub program: Bytes,
}

impl Evidence {
    /// The bytes for a hello.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("evidence always has a JSON form")
    }

    /// Reads evidence.
    ///
    /// # Errors
    /// [`EvidenceMalformed`], also where it is longer than [`EVIDENCE_BYTES_MAX`](crate::limits::EVIDENCE_BYTES_MAX).
    pub fn decode(bytes: &[u8]) -> Result<Self, EvidenceMalformed> {
        if bytes.len() > crate::limits::EVIDENCE_BYTES_MAX {
            return Err(EvidenceMalformed);
        }
        serde_json::from_slice(bytes).map_err(|_| EvidenceMalformed)
    }
}

/// Bytes that are no evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed evidence")]
pub struct EvidenceMalformed;

/// The register that the host measures the vault program into. Programs may use it and reset it (TCG PC Client Platform TPM Profile,
/// section 4.6); the boot state may not contain it.
pub const PROGRAM_PCR: u8 = 23;
/// The registers of the boot state, where the operator names none: firmware, boot loader and its configuration, Secure Boot.
pub const BOOT_PCRS: [u8; 4] = [0, 2, 4, 7];
/// A message of the program's socket.
pub const TPM_MESSAGE_BYTES_MAX: usize = 16 * 1024;

fn numbers(pcrs: &[u8]) -> String {
    let words: Vec<_> = pcrs.iter().map(ToString::to_string).collect();
    if words.is_empty() { "unknown".into() } else { words.join(", ") }
}

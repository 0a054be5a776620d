//! Appraises evidence, in the sense of RFC 9334: whether what a host shows speaks for the machine and the vault program that the
//! member's policy names, answers this hello, and is fresh. No I/O; the time is an argument.
//!
//! A device pins a policy when the vault is made ([`Policy::of`]) and sends nothing that unlocks to a vault process whose evidence
//! the policy does not allow ([`Policy::appraise`]).
#![forbid(unsafe_code)]

pub mod fuzz;
mod policy;
mod tpm;

pub use policy::{Claims, NotAllowed, Policy, PolicyMalformed};
pub use tpm::QuoteRefused;

//! The fence around the TPM 2.0 software stack: a program that seals 32 bytes to the state a machine started in, opens them again
//! in that state alone, and quotes it. The host starts it; nothing else links the C library (decision 18).
#![forbid(unsafe_code)]

mod serve;
mod templates;
mod tpm;

pub use serve::{Failed, run};
pub use tpm::Tpm;

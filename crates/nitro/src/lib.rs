//! AWS Nitro enclaves: the fence around their formats. A device appraises the document by which an enclave's hardware speaks for it
//! ([`document`]); a host inside an enclave asks for such documents (`nsm`) and has a share released to it by a key service that
//! appraises one (`kms`).
#![forbid(unsafe_code)]

pub mod document;
pub mod fuzz;

#[cfg(feature = "enclave")]
pub mod kms;
#[cfg(feature = "enclave")]
pub mod nsm;

#[cfg(any(test, feature = "danger-test-root"))]
pub mod emulate;

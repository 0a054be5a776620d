//! KeePass databases in the format KDBX 4.
//!
//! ```text
//! head (plain) ‖ SHA-256(head) ‖ HMAC(head) ‖ blocks of HMAC ‖ length ‖ ciphertext
//!                                                └─ decrypt ─ inflate ─▶ inner head ‖ XML
//! ```
//!
//! The reader is our own rather than the crate `keepass`, which is the second opinion in our tests. Version 0.17.0 of it
//! panics on a short number in the head and on a history entry with another id, inflates without a bound (1 MiB of file
//! took 4 GiB of memory), takes key derivation costs as the file asks, and starts a thread for each lane. Here every
//! length, cost and depth has a limit, and the keystream that hides protected values is advanced in one place.

mod entry;
mod header;
mod key;
mod payload;
mod xml;

use crate::intake::{ImportError, Intake, Options};
use crate::refused::ImportRefused;

/// Reads a database. It needs its password, its key file, or both.
pub(crate) fn read(file: &[u8], options: &Options, intake: &mut Intake<'_>) -> Result<(), ImportError> {
    let header = header::Header::parse(file)?;
    if options.password.is_none() && options.key_file.is_none() {
        return Err(ImportRefused::PasswordNeeded.into());
    }
    let keys = key::Keys::derive(&header, options)?;
    let payload = payload::open(&header, &keys)?;
    entry::read_all(&payload, intake)
}

/// Reads a document that was never encrypted, for the fuzzer.
pub(crate) fn read_document(document: &[u8], intake: &mut Intake<'_>) -> Result<(), ImportError> {
    entry::read_all(&payload::Payload::unencrypted(document), intake)
}

/// Whether opening a file would take longer than a fuzzer should wait.
pub(crate) fn is_costly(file: &[u8]) -> bool {
    header::Header::parse(file).is_ok_and(|header| match header.kdf {
        header::Kdf::Argon2 { params, .. } => params.m_cost().saturating_mul(params.t_cost()) > 4096,
        header::Kdf::Aes { rounds, .. } => rounds > 10_000,
    })
}

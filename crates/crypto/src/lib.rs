//! Keys, derivation, sealing and signatures of Strongroom.
//!
//! Every label and layout is written down in `docs/cryptography.md`; this crate follows it to the byte, and so does the
//! Python under `vectors/check/`, which shares no line with it. Section numbers below are that document's.
//!
//! In reading order:
//!
//! | module | what it is for | section |
//! | --- | --- | --- |
//! | [`tuple`](mod@tuple) | unambiguous joining of parts, padding to size classes | 1 |
//! | [`digest`] | SHA-256, BLAKE3, HMAC and comparison in constant time | 1 |
//! | [`locked`] | memory that is never swapped, dumped or inherited, and wiped when freed | – |
//! | [`secret`] | the keys of a vault as opaque types, and how each comes from another | 3 |
//! | [`kem`] | X-Wing key pairs, each type with one purpose | 1 |
//! | [`sign`] | Ed25519 keys, the statements they sign, fingerprints, hashes of acts and requests | 6, 7 |
//! | [`factor`] | passphrase, recovery phrase and passkey, down to what they unlock | 2 |
//! | [`slot`] | the vault key, sealed once for each factor | 2 |
//! | [`unattended`] | the seed of the slot that a TPM keeps, on its way to the vault process | 2 |
//! | [`seal`] | everything that is sealed at rest: item keys, fields, headers, credentials, mail, recovery | 3, 4, 5 |
//! | [`channel`] | the sealed channel between a vault and its devices and guests, both ends | 8 |
//! | [`lthash`] | a hash over a whole table that changes with each row in constant time | 9 |
//! | [`fuzz`] | one entry for each parser | – |
//!
//! The crate does no I/O beyond asking the kernel for memory. Time and randomness are arguments; programs get their
//! randomness from [`os_rng`].
//!
//! **What it does not promise.** Keys rest in locked memory, but a cipher at work keeps copies in registers and on the stack.
//! Those that the libraries below leave on the stack are overwritten by [`locked::scrub_stack`], which a vault calls when it
//! locks.

pub mod channel;
pub mod digest;
pub mod factor;
pub mod fuzz;
pub mod kem;
pub mod locked;
pub mod lthash;
pub mod seal;
pub mod secret;
pub mod sign;
pub mod slot;
pub mod tuple;
pub mod unattended;

#[cfg(test)]
mod test_rng;
#[cfg(test)]
mod vectors;

pub use hpke::rand_core::CryptoRng;

/// An id of 16 random bytes: of a vault, an item, a device, a guest or a slot. Functions that take more than one take them
/// by name, in a struct.
pub type Id = [u8; 16];

/// Randomness of the operating system, for programs. Tests pass something they can repeat.
///
/// # Panics
/// Drawing from it panics when the system has no randomness to give: there is no safe way to go on.
pub fn os_rng() -> impl CryptoRng {
    hpke::rand_core::UnwrapErr(getrandom::SysRng)
}

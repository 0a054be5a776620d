//! Randomness for tests: repeatable from a name, or the very bytes a known answer was made with.

use std::convert::Infallible;

use hpke::rand_core::{TryCryptoRng, TryRng, utils};

/// The output of BLAKE3 over a name.
pub(crate) struct TestRng(blake3::OutputReader);

impl TestRng {
    pub(crate) fn new(name: &str) -> Self {
        Self(blake3::Hasher::new_derive_key("strongroom test randomness").update(name.as_bytes()).finalize_xof())
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes);
        bytes
    }
}

/// Exactly these bytes, in turn.
pub(crate) struct FixedRng(pub(crate) Vec<u8>);

impl Drop for FixedRng {
    fn drop(&mut self) {
        assert!(self.0.is_empty() || std::thread::panicking(), "{} random bytes were not drawn", self.0.len());
    }
}

trait Fill {
    fn fill(&mut self, out: &mut [u8]);
}

impl Fill for TestRng {
    fn fill(&mut self, out: &mut [u8]) {
        self.0.fill(out);
    }
}

impl Fill for FixedRng {
    fn fill(&mut self, out: &mut [u8]) {
        let rest = self.0.split_off(out.len());
        out.copy_from_slice(&self.0);
        self.0 = rest;
    }
}

macro_rules! rng {
    ($name:ty) => {
        impl TryRng for $name {
            type Error = Infallible;

            fn try_next_u32(&mut self) -> Result<u32, Infallible> {
                utils::next_word_via_fill(self)
            }

            fn try_next_u64(&mut self) -> Result<u64, Infallible> {
                utils::next_word_via_fill(self)
            }

            fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
                Fill::fill(self, out);
                Ok(())
            }
        }

        impl TryCryptoRng for $name {}
    };
}

rng!(TestRng);
rng!(FixedRng);

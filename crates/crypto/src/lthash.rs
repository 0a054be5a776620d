//! The state root (section 9): one hash over every record of a vault that changes with each record in constant time.
//!
//! LtHash (Bellare and Micciancio 1997; Lewi, Kim, Maykov and Weis 2019) with 1,024 lanes of 16 bits over BLAKE3, keyed with
//! the state key. Order does not matter; a record that is in the sum once must be taken out once, under the same bytes.

use std::fmt;

use crate::secret::StateKey;

/// Length of the sum as it is stored.
pub const STATE_SUM_BYTES: usize = LANES * 2;

/// The sum over all records.
#[derive(Clone, PartialEq, Eq)]
pub struct StateSum(Box<[u16; LANES]>);

impl StateSum {
    /// The sum over no record.
    pub fn empty() -> Self {
        Self(Box::new([0; LANES]))
    }

    /// The sum as it was stored.
    pub fn from_bytes(bytes: &[u8; STATE_SUM_BYTES]) -> Self {
        let mut sum = Self::empty();
        for (lane, pair) in sum.0.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *lane = u16::from_le_bytes(*pair);
        }
        sum
    }

    /// The sum, to be stored: lanes in order, little-endian.
    pub fn to_bytes(&self) -> Box<[u8; STATE_SUM_BYTES]> {
        let mut bytes = Box::new([0; STATE_SUM_BYTES]);
        for (pair, lane) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(self.0.iter()) {
            *pair = lane.to_le_bytes();
        }
        bytes
    }

    /// Adds a record.
    pub fn add(&mut self, key: &StateKey, table: &str, record_key: &[u8], record: &[u8]) {
        self.merge(&expand(key, table, record_key, record), u16::wrapping_add);
    }

    /// Takes a record out again.
    pub fn remove(&mut self, key: &StateKey, table: &str, record_key: &[u8], record: &[u8]) {
        self.merge(&expand(key, table, record_key, record), u16::wrapping_sub);
    }

    /// The root: 32 bytes that stand for all records.
    pub fn root(&self, key: &StateKey) -> [u8; 32] {
        let mut hasher = keyed(key);
        part(&mut hasher, b"strongroom/v1/state-root");
        part(&mut hasher, &self.to_bytes()[..]);
        *hasher.finalize().as_bytes()
    }

    fn merge(&mut self, lanes: &[u8; STATE_SUM_BYTES], with: fn(u16, u16) -> u16) {
        for (lane, pair) in self.0.iter_mut().zip(lanes.as_chunks::<2>().0) {
            *lane = with(*lane, u16::from_le_bytes(*pair));
        }
    }
}

impl Default for StateSum {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Debug for StateSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateSum").finish_non_exhaustive()
    }
}

/// The lanes of one record: 2,048 bytes of BLAKE3 over `tuple("strongroom/v1/state", table, key, record)`, which is fed to the
/// hash part by part so that no copy of the record is made.
fn expand(key: &StateKey, table: &str, record_key: &[u8], record: &[u8]) -> [u8; STATE_SUM_BYTES] {
    let mut hasher = keyed(key);
    part(&mut hasher, b"strongroom/v1/state");
    part(&mut hasher, table.as_bytes());
    part(&mut hasher, record_key);
    part(&mut hasher, record);
    let mut lanes = [0; STATE_SUM_BYTES];
    hasher.finalize_xof().fill(&mut lanes);
    lanes
}

fn keyed(key: &StateKey) -> blake3::Hasher {
    // EXPOSE: BLAKE3 takes the key as its chaining value.
    blake3::Hasher::new_keyed(key.0.expose())
}

fn part(hasher: &mut blake3::Hasher, part: &[u8]) {
    let len = u32::try_from(part.len()).expect("a record is shorter than 4 GiB");
    hasher.update(&len.to_be_bytes()).update(part);
}

const LANES: usize = 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{secret::VaultKey, test_rng::TestRng, tuple::Tuple};

    fn key() -> StateKey {
        VaultKey::generate(&mut TestRng::new("state")).derive_state_key(&[1; 16], 1)
    }

    #[test]
    fn a_record_is_hashed_as_its_tuple() {
        let key = key();
        let tuple = Tuple::labelled("state").text("items").bytes(b"k").bytes(b"record");
        let mut lanes = [0; STATE_SUM_BYTES];
        blake3::Hasher::new_keyed(key.0.expose()).update(tuple.as_bytes()).finalize_xof().fill(&mut lanes);
        let mut sum = StateSum::empty();
        sum.add(&key, "items", b"k", b"record");
        assert_eq!(*sum.to_bytes(), lanes);
        assert_eq!(StateSum::from_bytes(&lanes), sum);
    }

    #[test]
    fn every_part_of_a_record_counts() {
        let key = key();
        let root = |table, record_key, record| {
            let mut sum = StateSum::empty();
            sum.add(&key, table, record_key, record);
            sum.root(&key)
        };
        let roots =
            [root("a", b"b", b"c"), root("ab", b"", b"c"), root("a", b"bc", b""), StateSum::default().root(&key)];
        for (i, a) in roots.iter().enumerate() {
            assert!(roots[i + 1..].iter().all(|b| a != b));
        }
        let other = VaultKey::generate(&mut TestRng::new("state")).derive_state_key(&[1; 16], 2);
        assert_ne!(StateSum::empty().root(&key), StateSum::empty().root(&other));
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_removing_undoes_adding(records in proptest::collection::vec(any::<[u8; 4]>(), 1..20), cut in 0_usize..20) {
            let key = key();
            let (mut forward, mut backward, mut rest) = (StateSum::empty(), StateSum::empty(), StateSum::empty());
            let cut = cut % records.len();
            for record in &records {
                forward.add(&key, "t", record, record);
            }
            for record in records.iter().rev() {
                backward.add(&key, "t", record, record);
            }
            prop_assert_eq!(&forward, &backward);
            for (i, record) in records.iter().enumerate() {
                if i == cut {
                    forward.remove(&key, "t", record, record);
                } else {
                    rest.add(&key, "t", record, record);
                }
            }
            prop_assert_eq!(forward.root(&key), rest.root(&key));
        }
    }
}

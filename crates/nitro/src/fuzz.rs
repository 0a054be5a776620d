//! One entry for each parser.

use crate::document::{NitroPolicy, appraise};

/// A document, under a policy that none fits.
///
/// # Panics
/// Where one does.
pub fn document(bytes: &[u8]) {
    let policy = NitroPolicy::new([(0, vec![[7; 48]])].into()).expect("a policy");
    assert!(appraise(bytes, &policy, &[0; 32], 1_736_179_625_000).is_err());
}

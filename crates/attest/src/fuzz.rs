//! One entry for each parser.

use crate::Policy;

/// Evidence, with a policy that asks for some.
pub fn evidence(bytes: &[u8]) {
    let _ = Policy::of(bytes, &[0; 32]);
}

/// A policy; what reads back is written and read again.
///
/// # Panics
/// Where it does not.
pub fn policy(bytes: &[u8]) {
    if let Ok(policy) = Policy::decode(bytes) {
        assert_eq!(Policy::decode(&policy.encode()), Ok(policy));
    }
}

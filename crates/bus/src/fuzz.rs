//! One entry for each parser: what a fuzz target calls.

use crate::Envelope;

/// An envelope: one that is accepted has these bytes and no others.
///
/// # Panics
/// Where it does not.
pub fn envelope(data: &[u8]) {
    if let Ok(envelope) = Envelope::decode(data) {
        assert_eq!(envelope.encode(), data);
    }
}

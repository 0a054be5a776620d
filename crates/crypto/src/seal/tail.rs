//! The log tail of a locked vault: entries it can append and authenticate without the vault key (section 4).

use crate::{
    Id,
    digest::{equal, hmac_sha256},
    secret::TailKey,
    tuple::{Reader, Tuple, put_lp},
};

/// The longest entry.
pub const TAIL_ENTRY_BYTES_MAX: usize = 64 * 1024;

/// Authenticates one entry and, through the one before it, everything that came earlier.
pub type TailMac = [u8; 32];

/// A tail that verified.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tail<'a> {
    /// The entries, oldest first.
    pub entries: Vec<&'a [u8]>,
    /// The MAC of the last entry; that of the one before the first when there is none.
    pub last_mac: Option<TailMac>,
}

/// Why a tail was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TailError {
    /// The bytes end inside an entry, as after a crash while appending, or it is too long.
    #[error("log tail entry {index} is cut short")]
    Truncated {
        /// The entry's index.
        index: u64,
        /// How many bytes before it are whole.
        whole_bytes: usize,
    },
    /// The entry was changed, or is not the one that belongs here.
    #[error("log tail entry {index} does not verify")]
    Mac {
        /// The entry's index.
        index: u64,
    },
}

/// Appends an entry to `out` and gives its MAC, which the next entry takes as `previous`.
///
/// `index` counts over the life of the host share and never starts again, so that an older tail does not verify; `previous`
/// is `None` for index 0 alone.
///
/// # Panics
/// If `entry` is longer than [`TAIL_ENTRY_BYTES_MAX`].
pub fn append_tail(
    key: &TailKey,
    vault: &Id,
    index: u64,
    previous: Option<&TailMac>,
    entry: &[u8],
    out: &mut Vec<u8>,
) -> TailMac {
    assert!(entry.len() <= TAIL_ENTRY_BYTES_MAX, "a tail entry is short");
    let mac = mac(key, vault, index, previous, entry);
    put_lp(out, entry);
    out.extend_from_slice(&mac);
    mac
}

/// Reads a tail whose first entry has the index `first` and follows `previous`.
///
/// # Errors
/// At the first entry that is cut short or does not verify.
pub fn read_tail<'a>(
    key: &TailKey,
    vault: &Id,
    first: u64,
    previous: Option<&TailMac>,
    bytes: &'a [u8],
) -> Result<Tail<'a>, TailError> {
    let mut tail = Tail { entries: Vec::new(), last_mac: previous.copied() };
    let mut reader = Reader(bytes);
    let mut index = first;
    while !reader.is_empty() {
        let whole_bytes = bytes.len() - reader.0.len();
        // A file system may have made the file longer before a power cut, and not yet written what was appended.
        let unwritten = reader.0.iter().all(|byte| *byte == 0);
        let read = (reader.lp(TAIL_ENTRY_BYTES_MAX), reader.array::<32>());
        let (Some(entry), Some(found), false) = (read.0, read.1, unwritten) else {
            return Err(TailError::Truncated { index, whole_bytes });
        };
        let expected = mac(key, vault, index, tail.last_mac.as_ref(), entry);
        if !equal(found, &expected) {
            return Err(TailError::Mac { index });
        }
        tail.entries.push(entry);
        tail.last_mac = Some(expected);
        index = index.checked_add(1).ok_or(TailError::Mac { index })?;
    }
    Ok(tail)
}

fn mac(key: &TailKey, vault: &Id, index: u64, previous: Option<&TailMac>, entry: &[u8]) -> TailMac {
    let message =
        Tuple::labelled("log-tail").bytes(vault).u64(index).bytes(previous.map_or(&[], |mac| &mac[..])).bytes(entry);
    // EXPOSE: HMAC mixes the key into its state, which is wiped when it is dropped.
    hmac_sha256(key.0.expose(), &[message.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::HostShare;

    const VAULT: Id = [1; 16];

    fn tail(first: u64, previous: Option<&TailMac>, entries: &[&[u8]]) -> (Vec<u8>, Option<TailMac>) {
        let (mut bytes, mut last) = (Vec::new(), previous.copied());
        for (index, entry) in (first..).zip(entries) {
            last = Some(append_tail(&key(), &VAULT, index, last.as_ref(), entry, &mut bytes));
        }
        (bytes, last)
    }

    fn key() -> TailKey {
        HostShare::from_bytes(&[5; 32]).derive_tail_key(&VAULT)
    }

    #[test]
    fn zeros_at_the_end_were_never_written() {
        let (mut bytes, _) = tail(0, None, &[b"one", b"two"]);
        let whole_bytes = bytes.len();
        for zeros in [1, 35, 36, 37, 400] {
            bytes.resize(whole_bytes + zeros, 0);
            assert_eq!(read_tail(&key(), &VAULT, 0, None, &bytes), Err(TailError::Truncated { index: 2, whole_bytes }));
        }
        bytes[whole_bytes + 399] = 1;
        assert_eq!(read_tail(&key(), &VAULT, 0, None, &bytes), Err(TailError::Mac { index: 2 }));
    }

    #[test]
    fn a_tail_goes_on_where_the_last_one_ended() {
        let (first, mac) = tail(0, None, &[b"one", b"", b"three"]);
        let read = read_tail(&key(), &VAULT, 0, None, &first).unwrap();
        assert_eq!(read.entries, [&b"one"[..], b"", b"three"]);
        assert_eq!(read.last_mac, mac);
        let (second, _) = tail(3, mac.as_ref(), &[b"four"]);
        assert_eq!(read_tail(&key(), &VAULT, 3, mac.as_ref(), &second).unwrap().entries, [b"four"]);
        // The old tail put back in place of the new one.
        assert_eq!(read_tail(&key(), &VAULT, 3, mac.as_ref(), &first), Err(TailError::Mac { index: 3 }));
        assert_eq!(read_tail(&key(), &VAULT, 3, mac.as_ref(), &[]).unwrap().last_mac, mac);
    }

    #[test]
    fn removed_swapped_and_changed_entries_are_refused() {
        let (bytes, _) = tail(0, None, &[b"a", b"b"]);
        let (one, two) = bytes.split_at(bytes.len() / 2);
        assert_eq!(read_tail(&key(), &VAULT, 0, None, two), Err(TailError::Mac { index: 0 }));
        assert_eq!(read_tail(&key(), &VAULT, 0, None, &[two, one].concat()), Err(TailError::Mac { index: 0 }));
        for len in 1..bytes.len() {
            if len != one.len() {
                let error = read_tail(&key(), &VAULT, 0, None, &bytes[..len]).unwrap_err();
                let whole_bytes = if len < one.len() { 0 } else { one.len() };
                assert!(
                    matches!(error, TailError::Truncated { whole_bytes: whole, .. } if whole == whole_bytes),
                    "{len}"
                );
            }
        }
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(read_tail(&key(), &VAULT, 0, None, &changed).is_err());
        }
        assert!(read_tail(&key(), &[2; 16], 0, None, &bytes).is_err());
    }
}

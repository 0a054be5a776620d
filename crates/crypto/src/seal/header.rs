//! The header: the only file a locked vault reads (section 4). Two copies, written in turn.

use super::{OpenError, open_padded, seal_padded};
use crate::{
    CryptoRng, Id,
    digest::sha256,
    locked::SecretBytes,
    secret::HeaderKey,
    tuple::{Reader, Tuple, padded_len, put_lp},
};

/// The longest open part.
pub const OPEN_PART_BYTES_MAX: usize = 1 << 20;
/// The longest file.
pub const HEADER_BYTES_MAX: usize = 8 << 20;

/// Which of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderCopy {
    /// `header.a`, which holds even sequence numbers.
    A,
    /// `header.b`, which holds odd ones.
    B,
}

impl HeaderCopy {
    /// The file that a sequence number is written to.
    pub fn of(sequence: u64) -> Self {
        if sequence.is_multiple_of(2) { Self::A } else { Self::B }
    }
}

/// Why a copy does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The file is not there.
    #[error("the file is missing")]
    Missing,
    /// Not a header, cut short, too long, or with bytes left over.
    #[error("the file is not a header")]
    Malformed,
    /// Made by a later version of the format.
    #[error("the header is of an unknown version")]
    Version,
    /// Its sequence number belongs in the other file: it was copied there.
    #[error("the header lies in the wrong file")]
    WrongFile,
    /// The sealed part does not open with this share, or does not belong to this open part.
    #[error("the header's sealed part does not open")]
    Sealed(#[from] OpenError),
}

/// A header file taken apart. Its open part is not yet known to be genuine.
#[derive(Clone, Copy, Debug)]
pub struct HeaderFile<'a> {
    sequence: u64,
    open_part: &'a [u8],
    sealed_part: &'a [u8],
}

impl<'a> HeaderFile<'a> {
    /// Takes a file apart.
    ///
    /// # Errors
    /// [`HeaderError::Malformed`] or [`HeaderError::Version`].
    pub fn parse(file: &'a [u8]) -> Result<Self, HeaderError> {
        if file.len() > HEADER_BYTES_MAX {
            return Err(HeaderError::Malformed);
        }
        let mut reader = Reader(file);
        if reader.array::<4>() != Some(MAGIC) {
            return Err(HeaderError::Malformed);
        }
        match reader.u8() {
            Some(1) => Self::parse_rest(reader).ok_or(HeaderError::Malformed),
            Some(_) => Err(HeaderError::Version),
            None => Err(HeaderError::Malformed),
        }
    }

    fn parse_rest(mut reader: Reader<'a>) -> Option<Self> {
        let sequence = reader.u64()?;
        let open_part = reader.lp(OPEN_PART_BYTES_MAX)?;
        let sealed_part = reader.lp(HEADER_BYTES_MAX)?;
        reader.is_empty().then_some(Self { sequence, open_part, sealed_part })
    }

    /// The sequence number.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The open part's JSON, which anyone who can write the file could have made.
    pub fn open_part(&self) -> &'a [u8] {
        self.open_part
    }

    /// Opens the sealed part; once it opens, the open part is genuine too.
    ///
    /// # Errors
    /// When it was sealed with another share or for another vault, or either part was changed.
    pub fn open(&self, key: &HeaderKey, vault: &Id) -> Result<SecretBytes, OpenError> {
        open_padded(&key.0, &ad(vault, self.sequence, self.open_part), self.sealed_part)
    }
}

/// The header that counts.
#[non_exhaustive]
pub struct Newest {
    /// Its sequence number; the next one is one more.
    pub sequence: u64,
    /// The open part's JSON, verified.
    pub open_part: Vec<u8>,
    /// The sealed part's JSON.
    pub sealed_part: SecretBytes,
    /// How the other copy fared.
    pub other: Other,
}

/// The copy that does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// The one written just before.
    Intact,
    /// It verifies, but is not the one written just before: an older file was put back.
    OutOfStep,
    /// It is missing or does not verify.
    Refused(HeaderError),
}

impl Other {
    /// Whether attempts must start at their limit: whoever removed or replaced a copy may have hidden a newer one.
    pub fn starts_at_limit(self) -> bool {
        self != Self::Intact
    }
}

/// The open part and the sealed part make a file that is longer than any reader takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the header is too large")]
pub struct HeaderTooLarge;

/// The bytes of one header file. `open_part` and `sealed_part` are JSON.
///
/// # Errors
/// When the open part is longer than [`OPEN_PART_BYTES_MAX`] or the file would be longer than [`HEADER_BYTES_MAX`].
pub fn seal_header(
    key: &HeaderKey,
    vault: &Id,
    sequence: u64,
    open_part: &[u8],
    sealed_part: &[u8],
    rng: &mut dyn CryptoRng,
) -> Result<Vec<u8>, HeaderTooLarge> {
    let padded = padded_len(sealed_part.len(), SEALED_PART_BYTES_MIN).ok_or(HeaderTooLarge)?;
    if open_part.len() > OPEN_PART_BYTES_MAX || padded + open_part.len() + OVERHEAD_BYTES > HEADER_BYTES_MAX {
        return Err(HeaderTooLarge);
    }
    let sealed = seal_padded(&key.0, &ad(vault, sequence, open_part), sealed_part, SEALED_PART_BYTES_MIN, rng);
    let mut file = Vec::with_capacity(sealed.len() + open_part.len() + OVERHEAD_BYTES);
    file.extend_from_slice(MAGIC);
    file.push(1);
    file.extend_from_slice(&sequence.to_be_bytes());
    put_lp(&mut file, open_part);
    put_lp(&mut file, &sealed);
    Ok(file)
}

/// Chooses between the two copies: the newest that verifies counts, and it is told how the other fared.
///
/// # Errors
/// When neither verifies: the reason of `header.a`, then that of `header.b`.
pub fn newest_header(
    key: &HeaderKey,
    vault: &Id,
    a: Option<&[u8]>,
    b: Option<&[u8]>,
) -> Result<Newest, (HeaderError, HeaderError)> {
    let (a, b) = (read_copy(key, vault, a, HeaderCopy::A), read_copy(key, vault, b, HeaderCopy::B));
    match (a, b) {
        (Ok(a), Ok(b)) => {
            let (mut newer, older) = if a.sequence > b.sequence { (a, b) } else { (b, a) };
            newer.other = if newer.sequence - older.sequence == 1 { Other::Intact } else { Other::OutOfStep };
            Ok(newer)
        }
        (Ok(found), Err(error)) | (Err(error), Ok(found)) => Ok(Newest { other: Other::Refused(error), ..found }),
        (Err(a), Err(b)) => Err((a, b)),
    }
}

fn read_copy(key: &HeaderKey, vault: &Id, file: Option<&[u8]>, copy: HeaderCopy) -> Result<Newest, HeaderError> {
    let file = HeaderFile::parse(file.ok_or(HeaderError::Missing)?)?;
    if HeaderCopy::of(file.sequence) != copy {
        return Err(HeaderError::WrongFile);
    }
    let sealed_part = file.open(key, vault)?;
    Ok(Newest { sequence: file.sequence, open_part: file.open_part.to_vec(), sealed_part, other: Other::Intact })
}

fn ad(vault: &Id, sequence: u64, open_part: &[u8]) -> Tuple {
    Tuple::labelled("header").bytes(vault).u64(sequence).bytes(&sha256(&[open_part]))
}

const MAGIC: &[u8; 4] = b"SRHD";
const SEALED_PART_BYTES_MIN: usize = 4096;
/// Magic, version, sequence, two lengths, and what sealing adds.
const OVERHEAD_BYTES: usize = 4 + 1 + 8 + 4 + 4 + super::SEALED_OVERHEAD_BYTES;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{secret::HostShare, test_rng::TestRng};

    const VAULT: Id = [1; 16];

    fn key() -> HeaderKey {
        HostShare::from_bytes(&[5; 32]).derive_header_key(&VAULT)
    }

    fn file(sequence: u64) -> Vec<u8> {
        let open = format!("{{\"sequence\":{sequence}}}");
        seal_header(&key(), &VAULT, sequence, open.as_bytes(), b"{}", &mut TestRng::new("header")).unwrap()
    }

    fn choose(a: Option<u64>, b: Option<u64>) -> Result<(u64, Other), (HeaderError, HeaderError)> {
        let (a, b) = (a.map(file), b.map(file));
        newest_header(&key(), &VAULT, a.as_deref(), b.as_deref()).map(|newest| (newest.sequence, newest.other))
    }

    #[test]
    fn the_newest_copy_counts_and_the_other_is_judged() {
        let (missing, wrong) = (HeaderError::Missing, HeaderError::WrongFile);
        assert_eq!(choose(Some(10), Some(11)), Ok((11, Other::Intact)));
        assert_eq!(choose(Some(12), Some(11)), Ok((12, Other::Intact)));
        assert_eq!(choose(Some(12), Some(9)), Ok((12, Other::OutOfStep)));
        assert_eq!(choose(Some(12), None), Ok((12, Other::Refused(missing))));
        assert_eq!(choose(None, Some(11)), Ok((11, Other::Refused(missing))));
        // The older copy laid over the newer one.
        assert_eq!(choose(Some(10), Some(10)), Ok((10, Other::Refused(wrong))));
        assert_eq!(choose(Some(11), Some(10)), Err((wrong, wrong)));
        assert_eq!(choose(None, None), Err((missing, missing)));
        assert!(!Other::Intact.starts_at_limit() && Other::OutOfStep.starts_at_limit());
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_refused() {
        let whole = file(4);
        let key = key();
        for len in 0..whole.len() {
            assert!(HeaderFile::parse(&whole[..len]).is_err(), "cut to {len}");
        }
        assert!(HeaderFile::parse(&[&whole[..], &[0]].concat()).is_err());
        for byte in 0..whole.len() {
            let mut changed = whole.clone();
            changed[byte] ^= 0x10;
            assert!(newest_header(&key, &VAULT, Some(&changed), None).is_err(), "byte {byte}");
        }
        assert!(newest_header(&key, &[2; 16], Some(&whole), None).is_err());
        let other_share = HostShare::from_bytes(&[6; 32]).derive_header_key(&VAULT);
        assert_eq!(
            newest_header(&other_share, &VAULT, Some(&whole), None).err(),
            Some((HeaderError::Sealed(OpenError::Tag), HeaderError::Missing))
        );
    }

    #[test]
    fn absurd_lengths_are_refused() {
        let mut whole = file(4);
        whole[13..17].fill(0xFF);
        assert_eq!(HeaderFile::parse(&whole).err(), Some(HeaderError::Malformed));
        assert_eq!(HeaderFile::parse(b"SRHD\x02").err(), Some(HeaderError::Version));
        assert_eq!(HeaderFile::parse(&vec![0; HEADER_BYTES_MAX + 1]).err(), Some(HeaderError::Malformed));
        let long = vec![b' '; OPEN_PART_BYTES_MAX + 1];
        let mut rng = TestRng::new("too large");
        assert_eq!(seal_header(&key(), &VAULT, 0, &long, b"{}", &mut rng), Err(HeaderTooLarge));
        let long = vec![b' '; HEADER_BYTES_MAX];
        assert_eq!(seal_header(&key(), &VAULT, 0, b"{}", &long, &mut rng), Err(HeaderTooLarge));
    }
}

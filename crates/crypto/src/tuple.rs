//! Joining parts so that no two lists of parts give the same bytes, and padding to size classes (section 1).

use crate::locked::SecretBytes;

/// Builds `tuple(label, part, …)`: each part preceded by its length as four bytes, big-endian.
///
/// ```
/// use strongroom_crypto::tuple::Tuple;
/// assert_eq!(Tuple::of_parts().text("ab").u8(7).finish(), [0, 0, 0, 2, b'a', b'b', 0, 0, 0, 1, 7]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuple(Vec<u8>);

impl Tuple {
    /// A tuple that starts with the label `strongroom/v1/<purpose>`.
    pub fn labelled(purpose: &str) -> Self {
        let mut bytes = Vec::with_capacity(128);
        put_length(&mut bytes, LABEL_PREFIX.len() + purpose.len());
        bytes.extend_from_slice(LABEL_PREFIX.as_bytes());
        bytes.extend_from_slice(purpose.as_bytes());
        Self(bytes)
    }

    /// A tuple without a label, to stand inside another.
    pub fn of_parts() -> Self {
        Self(Vec::new())
    }

    /// Adds bytes.
    ///
    /// # Panics
    /// If `part` is 4 GiB or longer.
    #[must_use]
    pub fn bytes(mut self, part: &[u8]) -> Self {
        put_length(&mut self.0, part.len());
        self.0.extend_from_slice(part);
        self
    }

    /// Adds text as UTF-8.
    ///
    /// # Panics
    /// If `part` is 4 GiB or longer.
    #[must_use]
    pub fn text(self, part: &str) -> Self {
        self.bytes(part.as_bytes())
    }

    /// Adds one byte.
    #[must_use]
    pub fn u8(self, part: u8) -> Self {
        self.bytes(&[part])
    }

    /// Adds four bytes, big-endian.
    #[must_use]
    pub fn u32(self, part: u32) -> Self {
        self.bytes(&part.to_be_bytes())
    }

    /// Adds eight bytes, big-endian.
    #[must_use]
    pub fn u64(self, part: u64) -> Self {
        self.bytes(&part.to_be_bytes())
    }

    /// The bytes.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    /// The bytes so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What keeps padded bytes from being unpadded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the padding is not well formed")]
pub struct PaddingRefused;

/// The length of `pad(x, min)` for an `x` of `len` bytes; `None` where a length does not fit in four bytes.
///
/// The padme rule (Nikitin et al., PURBs, 2019) adds at most 12 % and leaves an observer `O(log log len)` bits.
pub fn padded_len(len: usize, min: usize) -> Option<usize> {
    let framed = u32::try_from(len).ok()?.checked_add(4)?;
    let exponent = framed.ilog2();
    let kept_bits = exponent.ilog2() + 1;
    let step = 1_u32 << (exponent - kept_bits);
    let rounded = framed.checked_next_multiple_of(step)?;
    Some(usize::try_from(rounded).ok()?.max(min))
}

/// `pad(x, min)`: the length of `x` in four bytes, `x`, and zero bytes up to a size class of at least `min`.
///
/// # Panics
/// If `x` is 4 GiB or longer; callers bound what they pass.
pub fn pad(x: &[u8], min: usize) -> SecretBytes {
    let total = padded_len(x.len(), min).expect("what is padded is shorter than 4 GiB");
    let mut padded = SecretBytes::zeroed(total);
    // EXPOSE: written here and nowhere else; the rest stays zero.
    let out = padded.expose_mut();
    out[..4].copy_from_slice(&length_prefix(x.len()));
    out[4..4 + x.len()].copy_from_slice(x);
    padded
}

/// What `pad` was given.
///
/// # Errors
/// When the length points beyond the end, or a byte after it is not zero.
pub fn unpad(padded: &[u8]) -> Result<&[u8], PaddingRefused> {
    let (length, rest) = padded.split_first_chunk::<4>().ok_or(PaddingRefused)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| PaddingRefused)?;
    if length > rest.len() {
        return Err(PaddingRefused);
    }
    let (content, zeros) = rest.split_at(length);
    // Every byte is looked at, so that the time does not tell where the first one lies.
    let any = zeros.iter().fold(0_u8, |any, byte| any | byte);
    if any == 0 { Ok(content) } else { Err(PaddingRefused) }
}

/// `lp(x)`: the length of `x` in four bytes, then `x`.
pub(crate) fn put_lp(out: &mut Vec<u8>, x: &[u8]) {
    put_length(out, x.len());
    out.extend_from_slice(x);
}

/// Reads parts off the front of bytes; each method gives `None` where too few are left.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|byte| byte[0])
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(|bytes| u16::from_be_bytes(*bytes))
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(|bytes| u32::from_be_bytes(*bytes))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(|bytes| u64::from_be_bytes(*bytes))
    }

    /// `lp(x)` with `x` of at most `max` bytes.
    pub(crate) fn lp(&mut self, max: usize) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u32()?).ok()?;
        if len > max { None } else { self.take(len) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn put_length(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(&length_prefix(len));
}

fn length_prefix(len: usize) -> [u8; 4] {
    u32::try_from(len).expect("a part is shorter than 4 GiB").to_be_bytes()
}

const LABEL_PREFIX: &str = "strongroom/v1/";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn padme_gives_the_sizes_of_the_paper() {
        // n -> padme(n), n counting the four bytes of the length
        for (n, expected) in
            [(4, 4), (8, 8), (9, 10), (20, 20), (33, 36), (100, 104), (1000, 1024), (1025, 1088), (65_537, 67_584)]
        {
            assert_eq!(padded_len(n - 4, 0), Some(expected), "padme({n})");
        }
        assert_eq!(padded_len(0, 64), Some(64));
        assert_eq!(padded_len(usize::MAX, 64), None);
    }

    #[test]
    fn unpadding_refuses_what_padding_never_makes() {
        assert!(unpad(&[]).is_err());
        assert!(unpad(&[0, 0, 0]).is_err());
        assert!(unpad(&[0, 0, 0, 1]).is_err());
        assert!(unpad(&[255, 255, 255, 255, 0]).is_err());
        assert!(unpad(&[0, 0, 0, 1, 9, 0, 1]).is_err());
        assert_eq!(unpad(&[0, 0, 0, 0]), Ok(&[][..]));
    }

    proptest! {
        #[test]
        fn unpad_undoes_pad(x in proptest::collection::vec(any::<u8>(), 0..3000), min in 0_usize..600) {
            let padded = pad(&x, min);
            prop_assert!(padded.len() >= min && padded.len() >= x.len() + 4);
            prop_assert!(padded.len() <= min.max((x.len() + 4) * 112 / 100 + 1));
            prop_assert_eq!(unpad(padded.expose()).unwrap(), &x[..]);
        }

        #[test]
        fn no_two_lists_of_parts_look_alike(a in parts(), b in parts()) {
            let join = |parts: &[Vec<u8>]| parts.iter().fold(Tuple::of_parts(), |t, part| t.bytes(part)).finish();
            prop_assert_eq!(a == b, join(&a) == join(&b));
        }
    }

    fn parts() -> impl Strategy<Value = Vec<Vec<u8>>> {
        proptest::collection::vec(proptest::collection::vec(0_u8..2, 0..4), 0..4)
    }
}

//! A text with its escapes undone, and where each byte of it came from.

use std::ops::Range;

/// Which escapes are undone.
#[derive(Clone, Copy, Default)]
pub(super) struct Spelling {
    /// `%41` (RFC 3986, section 2.1).
    pub(super) percent: bool,
    /// `+` for a space, as in HTML forms.
    pub(super) form: bool,
    /// `\u0041`, `\n`, `\/` (RFC 8259, section 7), and `\x41`, `\'` of other languages.
    pub(super) backslash: bool,
    /// A character from U+0080 to U+00FF stands for one byte, where a server took the secret's bytes for Latin-1.
    pub(super) latin: bool,
}

impl Spelling {
    /// Every spelling that undoes some of these escapes; not the one that undoes none.
    pub(super) fn subsets(self) -> impl Iterator<Item = Self> {
        (1..16_u8).filter_map(move |bits| {
            let on = |bit: u8| bits & (1 << bit) != 0;
            let subset = Self { percent: on(0), form: on(1), backslash: on(2), latin: on(3) };
            let within = (self.percent || !subset.percent)
                && (self.form || !subset.form)
                && (self.backslash || !subset.backslash)
                && (self.latin || !subset.latin);
            within.then_some(subset)
        })
    }
}

/// A text read in one spelling.
pub(super) struct View {
    bytes: Vec<u8>,
    /// For each byte, the part of the text that spells it. Several bytes of one character share a part.
    parts: Vec<(usize, usize)>,
}

impl View {
    pub(super) fn new(text: &[u8], spelling: Spelling) -> Self {
        let mut view = Self { bytes: Vec::with_capacity(text.len()), parts: Vec::with_capacity(text.len()) };
        let mut at = 0;
        while at < text.len() {
            let token = Token::read(&text[at..], spelling);
            for byte in token.bytes() {
                view.bytes.push(*byte);
                view.parts.push((at, at + token.spelled));
            }
            at += token.spelled;
        }
        view
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The part of the text that spells a range, which is not empty, of the bytes.
    pub(super) fn source(&self, range: Range<usize>) -> Range<usize> {
        self.parts[range.start].0..self.parts[range.end - 1].1
    }

    /// `at`, or the start of the escape that it would cut.
    pub(super) fn token_start(&self, at: usize) -> usize {
        let next = self.parts.partition_point(|(start, _)| *start < at);
        match next.checked_sub(1).map(|last| self.parts[last]) {
            Some((start, end)) if end > at => start,
            _ => at,
        }
    }
}

/// One character of a text: what it stands for, and how many bytes spell it.
struct Token {
    value: [u8; 4],
    len: usize,
    spelled: usize,
}

impl Token {
    fn read(text: &[u8], spelling: Spelling) -> Self {
        let escaped = match text {
            [b'%', high, low, ..] if spelling.percent => hex(&[*high, *low]).map(|value| Self::byte(value, 3)),
            [b'+', ..] if spelling.form => Some(Self::byte(b' ', 1)),
            [b'\\', rest @ ..] if spelling.backslash => Self::backslash(rest, spelling.latin),
            [lead @ (0xc2 | 0xc3), next @ 0x80..=0xbf, ..] if spelling.latin => {
                Some(Self::byte((lead & 0x03) << 6 | (next & 0x3f), 2))
            }
            _ => None,
        };
        escaped.unwrap_or_else(|| Self::byte(text[0], 1))
    }

    /// What follows a backslash.
    fn backslash(rest: &[u8], latin: bool) -> Option<Self> {
        let (letter, digits) = rest.split_first()?;
        match letter {
            b'u' => {
                let unit = hex(digits.get(..4)?)?;
                let (point, spelled) = match (unit, digits.get(4..10)) {
                    (0xd800..=0xdbff, Some([b'\\', b'u', low @ ..])) => match hex::<u32>(low)? {
                        low @ 0xdc00..=0xdfff => (0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00), 12),
                        _ => return None,
                    },
                    _ => (unit, 6),
                };
                match u8::try_from(point) {
                    Ok(byte) if latin => Some(Self::byte(byte, spelled)),
                    _ => char::from_u32(point).map(|character| Self::character(character, spelled)),
                }
            }
            b'x' => Some(Self::byte(hex(digits.get(..2)?)?, 4)),
            b'"' | b'\\' | b'/' | b'\'' => Some(Self::byte(*letter, 2)),
            b'b' => Some(Self::byte(0x08, 2)),
            b't' => Some(Self::byte(b'\t', 2)),
            b'n' => Some(Self::byte(b'\n', 2)),
            b'v' => Some(Self::byte(0x0b, 2)),
            b'f' => Some(Self::byte(0x0c, 2)),
            b'r' => Some(Self::byte(b'\r', 2)),
            _ => None,
        }
    }

    fn byte(byte: u8, spelled: usize) -> Self {
        Self { value: [byte, 0, 0, 0], len: 1, spelled }
    }

    fn character(character: char, spelled: usize) -> Self {
        let mut value = [0; 4];
        let len = character.encode_utf8(&mut value).len();
        Self { value, len, spelled }
    }

    fn bytes(&self) -> &[u8] {
        &self.value[..self.len]
    }
}

/// The number that hexadecimal digits of either case spell.
fn hex<T: TryFrom<u32>>(digits: &[u8]) -> Option<T> {
    let value = digits.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))?;
    T::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, spelling: Spelling) -> Vec<u8> {
        View::new(text.as_bytes(), spelling).bytes().to_vec()
    }

    #[test]
    fn escapes_are_undone() {
        let json = Spelling { backslash: true, ..Spelling::default() };
        assert_eq!(read(r#"a\u0041\"\/\\u0041\n\q\u00e9\ud83d\ude00"#, json), "aA\"/\\u0041\n\\qé😀".as_bytes());
        assert_eq!(read(r"\ud83dx\u00\x4a\", json), br"\ud83dx\u00J\");
        let percent = Spelling { percent: true, ..Spelling::default() };
        assert_eq!(read("%41%6a%4A%4%zz%", percent), b"AjJ%4%zz%");
        let form = Spelling { percent: true, form: true, ..Spelling::default() };
        assert_eq!(read("a+b%2B", form), b"a b+");
        let latin = Spelling { backslash: true, latin: true, ..Spelling::default() };
        assert_eq!(read(r"é\u00e9", latin), b"\xe9\xe9");
    }

    #[test]
    fn bytes_lead_back_to_their_spelling() {
        let view = View::new(br"ab\u00e9c", Spelling { backslash: true, ..Spelling::default() });
        assert_eq!(view.source(2..3), 2..8);
        assert_eq!(view.source(1..5), 1..9);
        assert_eq!((2..9).map(|at| view.token_start(at)).collect::<Vec<_>>(), [2, 2, 2, 2, 2, 2, 8]);
    }
}

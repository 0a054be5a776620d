//! Finding a secret without comparing with it: rolling fingerprints (Karp and Rabin 1987).
//!
//! A text is read as three rows of values: its bytes, its base64 digits, its hexadecimal digits. Over each runs a window of
//! the secret's length with a fingerprint modulo 2^64, which costs the same for every text. Where that is the secret's, a
//! fingerprint modulo the prime 2^61 − 1 decides: a text of `n` values that is not the secret has it with a probability of at
//! most `n / 2^60`, whoever chose the text. Both are taken at random points that show in nothing that leaves the process.

use std::ops::Range;

use ring::rand::SecureRandom as _;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// One secret: the fingerprints of its five forms.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct Needle {
    point: u64,
    prime_point: u64,
    windows: [Window; ROWS],
    forms: [Form; FORMS],
}

/// The window over one row of values.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Window {
    len: usize,
    /// What a value that leaves the window is multiplied by: −point^len.
    leave: u64,
}

/// One form of a secret: a run of values of one row.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Form {
    row: usize,
    /// How many values; 0 where the form is too short to tell it from other text.
    len: usize,
    /// Of the values that fill the row's window.
    rolling: u64,
    /// Of all values, modulo the prime.
    whole: u64,
    /// Whether the character before, and the one behind, carries bits of the secret too.
    edges: (bool, bool),
}

impl Needle {
    pub(super) fn new(secret: &[u8]) -> Self {
        let (point, prime_point) = (random() | 1, PRIME_POINT_MIN + random() % (PRIME - PRIME_POINT_MIN));
        let encoded = secret.len() >= ENCODED_SECRET_BYTES_MIN;
        // The three alignments differ by a digit in length: the window takes the digits that all of them have.
        let sextets = (0..3).map(|alignment| core(secret.len(), alignment).1).min().unwrap_or(0);
        let windows = [secret.len(), sextets, 2 * secret.len()].map(|len| Window::new(point, len));
        let form = |row: usize, values: &mut dyn Iterator<Item = u8>, edges: (bool, bool)| {
            let mut form = Form { row, len: 0, rolling: 0, whole: 0, edges };
            for value in values.map(|value| u64::from(value) + 1) {
                if form.len < windows[row].len {
                    form.rolling = roll(form.rolling, point, value, 0, 0);
                }
                form.whole = prime_step(form.whole, prime_point, value);
                form.len += 1;
            }
            if row != BYTES && !encoded {
                form.len = 0;
            }
            form
        };
        let base64 = |alignment: usize| {
            let (skip, len) = core(secret.len(), alignment);
            let edges = (alignment != 0, !(alignment + secret.len()).is_multiple_of(3));
            form(SEXTETS, &mut (skip..skip + len).map(|at| sextet(secret, alignment, at)), edges)
        };
        let forms = [
            form(BYTES, &mut secret.iter().copied(), (false, false)),
            base64(0),
            base64(1),
            base64(2),
            form(NIBBLES, &mut secret.iter().flat_map(|b| [b >> 4, b & 0x0f]), (false, false)),
        ];
        Self { point, prime_point, windows, forms }
    }

    /// Calls `hit` for every place in `text` where the secret is in one of its forms.
    pub(super) fn find(&self, text: &[u8], mut hit: impl FnMut(Range<usize>)) {
        let mut states = [0_u64; ROWS];
        for (at, byte) in text.iter().enumerate() {
            let enters = VALUES[usize::from(*byte)];
            for row in 0..ROWS {
                let window = &self.windows[row];
                let leaves = at.checked_sub(window.len).map_or(0, |left| VALUES[usize::from(text[left])][row]);
                states[row] = roll(states[row], self.point, enters[row].into(), leaves.into(), window.leave);
            }
            // No `||` and no early end: every form is looked at.
            if self.forms.iter().fold(false, |any, form| any | (states[form.row] == form.rolling)) {
                for form in self.forms.iter().filter(|form| states[form.row] == form.rolling) {
                    let start = (at + 1).saturating_sub(self.windows[form.row].len);
                    if self.confirms(form, text, start) {
                        hit(form.extent(text, start));
                    }
                }
            }
        }
    }

    /// Whether all of the form is at `start`.
    fn confirms(&self, form: &Form, text: &[u8], start: usize) -> bool {
        let whole = |values: &[u8]| {
            values
                .iter()
                .fold(0, |state, b| prime_step(state, self.prime_point, VALUES[usize::from(*b)][form.row].into()))
        };
        form.len > 0 && text.get(start..start + form.len).is_some_and(|values| whole(values) == form.whole)
    }
}

impl Window {
    fn new(point: u64, len: usize) -> Self {
        let power = (0..len).fold(1_u64, |power, _| power.wrapping_mul(point));
        Self { len, leave: power.wrapping_neg() }
    }
}

impl Form {
    /// The range of the form at `start`, with the characters at its ends that carry bits of the secret.
    fn extent(&self, text: &[u8], start: usize) -> Range<usize> {
        let end = start + self.len;
        let is_ours = |at: usize| text.get(at).is_some_and(|b| VALUES[usize::from(*b)][self.row] != NONE);
        let before = usize::from(self.edges.0 && start > 0 && is_ours(start - 1));
        let behind = usize::from(self.edges.1 && is_ours(end));
        start - before..end + behind
    }
}

/// `state · point + enters − leaves · point^len` modulo 2^64, with `leave` = −point^len.
fn roll(state: u64, point: u64, enters: u64, leaves: u64, leave: u64) -> u64 {
    state.wrapping_mul(point).wrapping_add(leaves.wrapping_mul(leave)).wrapping_add(enters)
}

/// `state · point + enters` modulo the prime.
fn prime_step(state: u64, point: u64, enters: u64) -> u64 {
    let sum = (u128::from(state) * u128::from(point) + u128::from(enters)) % u128::from(PRIME);
    u64::try_from(sum).expect("less than the prime")
}

/// The character at which the base64 of `alignment` bytes and the secret starts to depend on the secret alone, and how many
/// do.
fn core(secret_len: usize, alignment: usize) -> (usize, usize) {
    let first = (alignment * 8).div_ceil(6);
    let end = (alignment + secret_len) * 8 / 6;
    (first, end.saturating_sub(first))
}

/// The six bits that the base64 character `at` carries, where `alignment` bytes precede the secret.
fn sextet(secret: &[u8], alignment: usize, at: usize) -> u8 {
    let bit = at * 6 - alignment * 8;
    let byte = |at: usize| u16::from(secret.get(at).copied().unwrap_or(0));
    let pair = byte(bit / 8) << 8 | byte(bit / 8 + 1);
    u8::try_from(pair >> (10 - bit % 8) & 0x3f).expect("six bits are left")
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    ring::rand::SystemRandom::new().fill(&mut bytes).expect("the system has randomness to give");
    u64::from_be_bytes(bytes)
}

/// What each byte is in each row, counted from 1, so that what lies before a text (0) is no value.
static VALUES: [[u16; ROWS]; 256] = {
    let mut values = [[NONE; ROWS]; 256];
    let (mut at, mut value) = (0, 1);
    while at < values.len() {
        values[at][BYTES] = value;
        (at, value) = (at + 1, value + 1);
    }
    values = numbered(values, SEXTETS, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
    values = numbered(values, SEXTETS, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_");
    values = numbered(values, NIBBLES, b"0123456789abcdef");
    numbered(values, NIBBLES, b"0123456789ABCDEF")
};

const fn numbered(mut values: [[u16; ROWS]; 256], row: usize, characters: &[u8]) -> [[u16; ROWS]; 256] {
    let (mut at, mut value) = (0, 1);
    while at < characters.len() {
        values[characters[at] as usize][row] = value;
        (at, value) = (at + 1, value + 1);
    }
    values
}

const ROWS: usize = 3;
const BYTES: usize = 0;
/// Base64 and base64url are one row.
const SEXTETS: usize = 1;
/// Digits of both cases are one row.
const NIBBLES: usize = 2;
const FORMS: usize = 5;
/// The value of a byte that is no digit of a row.
const NONE: u16 = 300;
const PRIME: u64 = (1 << 61) - 1;
const PRIME_POINT_MIN: u64 = 1 << 32;
/// Shorter secrets are found only as they are: the few digits that they encode to occur in any text.
const ENCODED_SECRET_BYTES_MIN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_forgets_what_has_left_it() {
        let window = Window::new(12_345, 3);
        let all = |values: &[u64]| {
            (0..values.len()).fold(0, |state, at| {
                let leaves = at.checked_sub(3).map_or(0, |left| values[left]);
                roll(state, 12_345, values[at], leaves, window.leave)
            })
        };
        assert_eq!(all(&[9, 8, 7, 1, 2, 3]), all(&[1, 2, 3]));
        assert_ne!(all(&[9, 8, 7, 1, 2, 3]), all(&[1, 2, 4]));
    }

    #[test]
    fn sextets_are_those_of_base64() {
        use base64::Engine as _;
        let secret = b"\xff\x00secret-\xa5\x5a!";
        for alignment in 0..3 {
            let mut text = vec![b'x'; alignment];
            text.extend_from_slice(secret);
            text.push(b'y');
            let encoded = base64::engine::general_purpose::STANDARD.encode(&text);
            let (skip, len) = core(secret.len(), alignment);
            for at in skip..skip + len {
                let expected = VALUES[usize::from(encoded.as_bytes()[at])][SEXTETS] - 1;
                assert_eq!(u16::from(sextet(secret, alignment, at)), expected, "alignment {alignment}, character {at}");
            }
        }
    }
}

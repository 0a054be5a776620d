//! Foreign text: its encoding, and how it is made fit to be shown.

use zeroize::Zeroizing;

/// Text that is wiped when dropped.
pub(crate) type Text = Zeroizing<String>;

/// Whether a file is UTF-16: by its byte order mark, or because every second byte of its start is zero.
pub(crate) fn is_utf16(file: &[u8]) -> bool {
    let start = &file[..file.len().min(64)];
    let zeros = |offset: usize| {
        let half: Vec<_> = start.iter().skip(offset).step_by(2).collect();
        half.len() > 1 && half.iter().all(|byte| **byte == 0)
    };
    start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]) || zeros(0) || zeros(1)
}

/// The file after a UTF-8 byte order mark, where there is one.
pub(crate) fn without_bom(file: &[u8]) -> &[u8] {
    file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file)
}

/// Foreign text on one line: control characters as spaces, at most `chars_max` characters. The second value says whether
/// anything was changed.
pub(crate) fn one_line(text: &str, chars_max: usize) -> (String, bool) {
    let line: String = text.chars().take(chars_max).map(|c| if is_unfit(c) { ' ' } else { c }).collect();
    let changed = line != text;
    (line, changed)
}

/// Whether a text could have come out of [`one_line`].
pub(crate) fn is_one_line(text: &str, chars_max: usize) -> bool {
    text.chars().count() <= chars_max && !text.chars().any(is_unfit)
}

/// The host of a URL, for a label; the whole text where it has none.
pub(crate) fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = authority.rsplit('@').next().unwrap_or(authority);
    if host.is_empty() { url } else { host }
}

/// Whether a field's name says that its value opens something, so that it is guarded as a secret even where the other
/// program showed it.
pub(crate) fn sounds_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// Characters that must not reach a terminal or a list: controls, and those that reorder or hide their neighbours.
fn is_unfit(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

const SECRET_WORDS: [&str; 14] = [
    "pass",
    "secret",
    "token",
    "key",
    "pin",
    "code",
    "seed",
    "cvv",
    "cvc",
    "private",
    "credential",
    "auth",
    "recovery",
    "puk",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        assert_eq!(host_of("https://user:p@ww@Example.com:8443/a?b"), "Example.com:8443");
        assert_eq!(host_of("example.com/x"), "example.com");
        assert_eq!(host_of("mailto:"), "mailto:");
        assert_eq!(host_of("https:///x"), "https:///x");
    }

    #[test]
    fn lines_hold_no_controls() {
        assert_eq!(one_line("a\u{1b}[2Jb\u{202e}c", 256), ("a [2Jb c".into(), true));
        assert_eq!(one_line("ünïcode", 256), ("ünïcode".into(), false));
        assert_eq!(one_line("abc", 2), ("ab".into(), true));
    }
}

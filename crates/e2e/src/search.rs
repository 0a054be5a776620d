//! Finding a secret, in whatever encoding it hides.

use std::fs;
use std::path::Path;

use aho_corasick::{AhoCorasick, MatchKind};
use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};

/// A secret under one encoding.
#[derive(Clone, Debug)]
struct Needle {
    secret: String,
    encoding: &'static str,
    bytes: Vec<u8>,
}

/// Looks for many secrets at once.
#[derive(Debug)]
pub struct Searcher {
    needles: Vec<Needle>,
    machine: AhoCorasick,
}

/// A secret that was found.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hit {
    /// Where: a file, a stream, a process.
    pub place: String,
    /// The name of the secret.
    pub secret: String,
    /// How it was encoded.
    pub encoding: &'static str,
    /// At which byte.
    pub at: usize,
}

/// The encodings that are looked for, with the bytes of each for one secret.
#[must_use]
pub fn encodings(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut all = vec![
        ("utf-8", secret.to_vec()),
        ("utf-16le", secret.iter().flat_map(|byte| [*byte, 0]).collect()),
        ("utf-16be", secret.iter().flat_map(|byte| [0, *byte]).collect()),
        ("hex", HEXLOWER.encode(secret).into_bytes()),
        ("HEX", HEXUPPER.encode(secret).into_bytes()),
        ("percent", percent(secret, true)),
        ("percent lower", percent(secret, false)),
        ("percent where needed", percent_where_needed(secret)),
        ("reversed", secret.iter().rev().copied().collect()),
    ];
    for (name, name_url, shift) in
        [("base64+0", "base64url+0", 0), ("base64+1", "base64url+1", 1), ("base64+2", "base64url+2", 2)]
    {
        let (plain, url) =
            (BASE64_NOPAD.encode(&shifted(secret, shift)), BASE64URL_NOPAD.encode(&shifted(secret, shift)));
        all.push((name, middle(&plain, secret.len(), shift)));
        all.push((name_url, middle(&url, secret.len(), shift)));
    }
    // Where two encodings of a secret are the same bytes, the first name stands for both.
    let mut distinct: Vec<(&'static str, Vec<u8>)> = Vec::new();
    for (name, bytes) in all {
        if !distinct.iter().any(|(_, known)| *known == bytes) {
            distinct.push((name, bytes));
        }
    }
    distinct
}

impl Searcher {
    /// For these secrets, each with a name that may be printed.
    ///
    /// # Panics
    /// When a secret is too short to be found by chance alone.
    #[must_use]
    pub fn new<'s>(secrets: impl IntoIterator<Item = (&'s str, &'s [u8])>) -> Self {
        let mut needles = Vec::new();
        for (name, secret) in secrets {
            assert!(secret.len() >= 12, "{name} is too short to be searched for");
            for (encoding, bytes) in encodings(secret) {
                needles.push(Needle { secret: name.to_owned(), encoding, bytes });
            }
        }
        let patterns = needles.iter().map(|needle| needle.bytes.as_slice());
        let machine =
            AhoCorasick::builder().match_kind(MatchKind::Standard).build(patterns).expect("a few hundred patterns");
        Self { needles, machine }
    }

    /// Every secret in `bytes`, each encoding once.
    #[must_use]
    pub fn find(&self, place: &str, bytes: &[u8]) -> Vec<Hit> {
        let mut hits: Vec<Hit> = Vec::new();
        for found in self.machine.find_overlapping_iter(bytes) {
            let Needle { secret, encoding, .. } = &self.needles[found.pattern().as_usize()];
            let known = hits.iter().any(|hit| hit.secret == *secret && hit.encoding == *encoding);
            if !known {
                hits.push(Hit { place: place.to_owned(), secret: secret.clone(), encoding, at: found.start() });
            }
        }
        hits
    }

    /// Every secret in the files below a folder, and in their names.
    ///
    /// # Panics
    /// When a file cannot be read.
    #[must_use]
    pub fn find_in_folder(&self, folder: &Path, except: &[&str]) -> Vec<Hit> {
        let mut hits = Vec::new();
        for entry in fs::read_dir(folder).expect("a folder to search").flatten() {
            let path = entry.path();
            let kind = entry.file_type().expect("a kind of file");
            let shown = path.display().to_string();
            hits.extend(self.find(&format!("the name of {shown}"), entry.file_name().as_encoded_bytes()));
            if except.iter().any(|name| path.file_name().is_some_and(|its| its == *name)) {
                continue;
            }
            if kind.is_dir() {
                hits.extend(self.find_in_folder(&path, except));
            } else if kind.is_file() {
                hits.extend(self.find(&shown, &fs::read(&path).expect("a file to search")));
            }
        }
        hits
    }

    /// Every secret in the memory of a process.
    ///
    /// # Panics
    /// When its memory cannot be read.
    #[must_use]
    pub fn find_in_process(&self, name: &str, pid: u32) -> Vec<Hit> {
        let regions = crate::processes::memory(pid).unwrap_or_else(|e| panic!("the memory of the {name}: {e}"));
        assert!(!regions.is_empty(), "nothing of the {name} could be read");
        regions.iter().flat_map(|region| self.find(&format!("the {name}, {}", region.what), &region.bytes)).collect()
    }
}

/// As in a URL: what is neither letter, digit nor one of `-._~` as `%XX`.
fn percent_where_needed(secret: &[u8]) -> Vec<u8> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    secret.iter().flat_map(|byte| if plain(*byte) { vec![*byte] } else { percent(&[*byte], true) }).collect()
}

/// Every byte as `%XX`: what encoders do at most.
fn percent(secret: &[u8], upper: bool) -> Vec<u8> {
    let byte = |byte: &u8| if upper { format!("%{byte:02X}") } else { format!("%{byte:02x}") };
    secret.iter().map(byte).collect::<String>().into_bytes()
}

fn shifted(secret: &[u8], shift: usize) -> Vec<u8> {
    let mut bytes = vec![0; shift];
    bytes.extend_from_slice(secret);
    bytes
}

/// The characters that depend on nothing but the secret: neither on what comes before it nor on what comes after.
fn middle(text: &str, length: usize, shift: usize) -> Vec<u8> {
    let first = (shift * 8).div_ceil(6);
    let last = (shift + length) * 8 / 6;
    text.as_bytes()[first..last].to_vec()
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;

    use super::*;

    #[test]
    fn base64_is_found_wherever_it_begins() {
        let secret = b"canary-0f9b>?~?>41";
        let searcher = Searcher::new([("it", &secret[..])]);
        for before in 0..7 {
            let mut text = vec![b'x'; before];
            text.extend_from_slice(secret);
            text.extend_from_slice(b"after");
            assert!(!searcher.find("t", BASE64.encode(&text).as_bytes()).is_empty(), "{before}");
            assert!(!searcher.find("t", BASE64URL_NOPAD.encode(&text).as_bytes()).is_empty(), "{before}");
            assert!(searcher.find("t", BASE64.encode(&text[..before + 8]).as_bytes()).is_empty(), "{before}");
        }
    }
}

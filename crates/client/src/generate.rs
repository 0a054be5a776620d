//! Passwords, passphrases and keys made on the device, from the operating system's randomness.

use strongroom_crypto::factor::Phrase;
use strongroom_crypto::sign::SigningKey;
use strongroom_crypto::{CryptoRng, os_rng};
use strongroom_wire::SecretValue;
use zeroize::Zeroizing;

/// What a password is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// Characters: letters, digits and, where asked for, symbols; each kind at least once.
    Characters {
        /// How many, 8 to 256.
        length: usize,
        /// Whether there are symbols.
        symbols: bool,
    },
    /// Words of the BIP-39 list, joined by hyphens; 11 bits each.
    Words {
        /// How many, 4 to 23.
        count: usize,
    },
}

/// Why a recipe makes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a generated password has 8 to 256 characters, or 4 to 23 words")]
pub struct RecipeRefused;

impl Recipe {
    /// Random bits in what it makes, rounded down.
    #[must_use]
    pub fn bits(self) -> u32 {
        match self {
            Self::Characters { length, symbols } => {
                let kinds = if symbols { LETTERS_AND_DIGITS.len() + SYMBOLS.len() } else { LETTERS_AND_DIGITS.len() };
                // Whole tenths of a bit, so that no float is needed: log2(56) = 5.80, log2(72) = 6.16.
                let tenths = if kinds > 64 { 61 } else { 58 };
                u32::try_from(length * tenths / 10).unwrap_or(u32::MAX)
            }
            Self::Words { count } => u32::try_from(count * 11).unwrap_or(u32::MAX),
        }
    }

    /// Makes one.
    ///
    /// # Errors
    /// [`RecipeRefused`] where it asks for too little or too much.
    pub fn make(self) -> Result<Zeroizing<String>, RecipeRefused> {
        self.make_from(&mut os_rng())
    }

    fn make_from(self, rng: &mut dyn CryptoRng) -> Result<Zeroizing<String>, RecipeRefused> {
        match self {
            Self::Characters { length: 8..=256, .. } => Ok(self.characters(rng)),
            Self::Words { count: 4..=23 } => Ok(self.words(rng)),
            _ => Err(RecipeRefused),
        }
    }

    fn characters(self, rng: &mut dyn CryptoRng) -> Zeroizing<String> {
        let Self::Characters { length, symbols } = self else { return Zeroizing::default() };
        let alphabet: Vec<u8> = LETTERS_AND_DIGITS.iter().chain(if symbols { SYMBOLS } else { &[] }).copied().collect();
        loop {
            let mut text = Zeroizing::new(String::with_capacity(length));
            for _ in 0..length {
                text.push(char::from(alphabet[below(rng, alphabet.len())]));
            }
            // Drawn again rather than repaired: every password that has all kinds stays equally likely.
            let has = |kind: fn(&u8) -> bool| text.as_bytes().iter().any(kind);
            let all = has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_digit);
            if all && (!symbols || has(u8::is_ascii_punctuation)) {
                return text;
            }
        }
    }

    fn words(self, rng: &mut dyn CryptoRng) -> Zeroizing<String> {
        let Self::Words { count } = self else { return Zeroizing::default() };
        // The first 23 words of a phrase are 11 random bits each; the last one also holds a checksum.
        let words = Phrase::generate(rng).expose_words();
        let mut text = Zeroizing::new(String::with_capacity(count * 9));
        for (i, word) in words.split(' ').take(count).enumerate() {
            if i > 0 {
                text.push('-');
            }
            text.push_str(word);
        }
        text
    }
}

/// A symmetric key of 32 random bytes.
#[must_use]
pub fn symmetric_key() -> SecretValue {
    let mut key = vec![0; 32];
    fill(&mut key);
    SecretValue::new(key)
}

/// An Ed25519 key pair in the forms that items keep.
#[derive(Debug)]
pub struct KeyPair {
    /// PKCS #8 in PEM (RFC 8410, section 7), or the OpenSSH form.
    pub private: SecretValue,
    /// What others are given: SubjectPublicKeyInfo in PEM, or the `ssh-ed25519` line.
    pub public: String,
}

/// A key pair for messages and tokens.
#[must_use]
pub fn ed25519_pem() -> KeyPair {
    let key = SigningKey::generate(&mut os_rng());
    // RFC 8410: the fixed head of a PrivateKeyInfo with algorithm 1.3.101.112, then the seed.
    let mut der = Zeroizing::new(PKCS8_HEAD.to_vec());
    // EXPOSE: written out as the item's field, which is what was asked for.
    der.extend_from_slice(key.expose_seed());
    let spki = [SPKI_HEAD.as_slice(), key.public().as_bytes()].concat();
    KeyPair { private: SecretValue::from(pem("PRIVATE KEY", &der)), public: pem("PUBLIC KEY", &spki) }
}

/// A key pair for OpenSSH, in the form of `ssh-keygen -t ed25519` without a passphrase (PROTOCOL.key).
#[must_use]
pub fn ed25519_openssh(comment: &str) -> KeyPair {
    let key = SigningKey::generate(&mut os_rng());
    let public = key.public();
    let blob = [ssh_string(b"ssh-ed25519"), ssh_string(public.as_bytes())].concat();

    let mut check = [0; 4];
    fill(&mut check);
    let mut section = Zeroizing::new(Vec::with_capacity(512));
    section.extend_from_slice(&check);
    section.extend_from_slice(&check);
    section.extend_from_slice(&blob);
    section.extend_from_slice(&64_u32.to_be_bytes());
    // EXPOSE: as above; OpenSSH keeps seed and public key together.
    section.extend_from_slice(key.expose_seed());
    section.extend_from_slice(public.as_bytes());
    section.extend_from_slice(&ssh_string(comment.as_bytes()));
    for pad in 1..=u8::MAX {
        if section.len() % 8 == 0 {
            break;
        }
        section.push(pad);
    }

    let mut file = Zeroizing::new(Vec::with_capacity(1024));
    file.extend_from_slice(b"openssh-key-v1\0");
    for none in [b"none".as_slice(), b"none", b""] {
        file.extend_from_slice(&ssh_string(none));
    }
    file.extend_from_slice(&1_u32.to_be_bytes());
    file.extend_from_slice(&ssh_string(&blob));
    file.extend_from_slice(&u32::try_from(section.len()).expect("a section is short").to_be_bytes());
    file.extend_from_slice(&section);

    let line = format!("ssh-ed25519 {} {comment}", data_encoding::BASE64.encode(&blob));
    KeyPair { private: SecretValue::from(pem("OPENSSH PRIVATE KEY", &file)), public: line.trim_end().to_owned() }
}

fn fill(bytes: &mut [u8]) {
    let rng: &mut dyn CryptoRng = &mut os_rng();
    rng.fill_bytes(bytes);
}

fn ssh_string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("names and keys are short");
    [&length.to_be_bytes(), bytes].concat()
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = Zeroizing::new(data_encoding::BASE64.encode(der));
    let mut text = String::with_capacity(body.len() * 2 + 100);
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    for line in body.as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// A number below `bound`, each equally likely; `bound` is at most 256.
fn below(rng: &mut dyn CryptoRng, bound: usize) -> usize {
    let fair = 256 - 256 % bound;
    loop {
        let mut byte = [0];
        rng.fill_bytes(&mut byte);
        if usize::from(byte[0]) < fair {
            return usize::from(byte[0]) % bound;
        }
    }
}

/// Without those that people confuse: 0, O, 1, l, I, o.
const LETTERS_AND_DIGITS: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
const SYMBOLS: &[u8] = b"!#$%&*+-=?@^_~.:";
const PKCS8_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
const SPKI_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_hold_each_kind_of_character() {
        for _ in 0..50 {
            let password = Recipe::Characters { length: 8, symbols: true }.make().unwrap();
            assert_eq!(password.len(), 8);
            assert!(password.bytes().any(|b| SYMBOLS.contains(&b)));
            let plain = Recipe::Characters { length: 24, symbols: false }.make().unwrap();
            assert!(plain.bytes().all(|b| b.is_ascii_alphanumeric()));
        }
        assert_eq!(Recipe::Words { count: 6 }.make().unwrap().split('-').count(), 6);
        assert_eq!(Recipe::Words { count: 24 }.make().err(), Some(RecipeRefused));
        assert_eq!(Recipe::Characters { length: 7, symbols: true }.make().err(), Some(RecipeRefused));
        assert!(Recipe::Characters { length: 20, symbols: true }.bits() >= 120);
    }

    #[test]
    fn keys_have_the_forms_that_others_read() {
        let pair = ed25519_pem();
        assert!(pair.private.expose_str().unwrap().starts_with("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEI"));
        assert!(pair.public.starts_with("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA"));
        let ssh = ed25519_openssh("me@laptop");
        assert!(
            ssh.private.expose_str().unwrap().starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjE")
        );
        assert!(ssh.public.starts_with("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI") && ssh.public.ends_with(" me@laptop"));
        assert_eq!(symmetric_key().expose().len(), 32);
    }
}

//! Canaries: secrets that exist nowhere else, so that wherever one shows, it leaked.

use std::fs::File;
use std::io::Read as _;
use std::sync::{Mutex, PoisonError};

use data_encoding::{BASE32_NOPAD, BASE64, HEXLOWER};

use crate::search::Searcher;

/// All canaries of a test.
#[derive(Debug, Default)]
pub struct Canaries {
    known: Mutex<Vec<(String, Vec<u8>)>>,
}

impl Canaries {
    /// A new one: text that every encoding changes.
    pub fn text(&self, name: &str) -> String {
        let text = format!("c4n+/&={}", HEXLOWER.encode(&random(12)));
        self.add(name, text.as_bytes());
        text
    }

    /// A new one of digits, as on a card.
    pub fn digits(&self, name: &str) -> String {
        let text: String = random(19).iter().map(|byte| char::from(b'0' + byte % 10)).collect();
        self.add(name, text.as_bytes());
        text
    }

    /// A new key of 32 bytes, as the hexadecimal text that an item takes.
    pub fn key(&self, name: &str) -> String {
        let bytes = random(32);
        self.add(name, &bytes);
        HEXLOWER.encode(&bytes)
    }

    /// A new generator of one-time codes, as a URI.
    pub fn otpauth(&self, name: &str) -> String {
        let bytes = random(20);
        let text = BASE32_NOPAD.encode(&bytes);
        self.add(name, &bytes);
        self.add(&format!("{name} in base32"), text.as_bytes());
        format!("otpauth://totp/x:me?secret={text}&issuer=x")
    }

    /// A private key that the vault has made, as it handed it out: the lines of its PEM, and its raw bytes in pieces, since a
    /// line may end anywhere in them.
    ///
    /// # Panics
    /// When it is no PEM.
    pub fn private_key(&self, name: &str, pem: &str) {
        let lines: Vec<&str> = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let body = BASE64.decode(lines.concat().as_bytes()).expect("the body of a PEM");
        // PKCS#8 ends with the seed; OpenSSH has the public key after it, and once before.
        let seed = match body.windows(16).position(|window| window == b"openssh-key-v1\0\0") {
            None => body[body.len() - 32..].to_vec(),
            Some(_) => openssh_seed(&body).expect("an Ed25519 key"),
        };
        for (piece, bytes) in [seed.as_slice(), &seed[..16], &seed[8..24], &seed[16..]].into_iter().enumerate() {
            self.add(&format!("{name}, piece {piece}"), bytes);
        }
    }

    /// One that came from somewhere else.
    pub fn add(&self, name: &str, secret: &[u8]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.push((name.to_owned(), secret.to_vec()));
    }

    /// Looks for all of them.
    #[must_use]
    pub fn searcher(&self) -> Searcher {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Searcher::new(known.iter().map(|(name, secret)| (name.as_str(), secret.as_slice())))
    }
}

/// The 32 bytes before the last appearance of the public key.
fn openssh_seed(body: &[u8]) -> Option<Vec<u8>> {
    let name = b"\0\0\0\x0bssh-ed25519\0\0\0\x20";
    let at = body.windows(name.len()).position(|window| window == name)? + name.len();
    let public = body.get(at..at + 32)?;
    let last = body.windows(32).rposition(|window| window == public)?;
    Some(body.get(last.checked_sub(32)?..last)?.to_vec())
}

fn random(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes)).expect("randomness");
    bytes
}

//! One function for each parser of bytes from outside. Fuzz targets are glue that calls them; each also states what must hold
//! when the bytes are taken.

use crate::{
    channel::{parse_frame, parse_hello1, parse_hello2},
    factor::Phrase,
    seal::{Credential, HeaderFile, RecoveryBlob},
    secret::HostShare,
    sign::Fingerprint,
    tuple::{pad, unpad},
};

/// The first message of a channel.
pub fn hello1(bytes: &[u8]) {
    let _ = parse_hello1(bytes);
}

/// The second message of a channel.
pub fn hello2(bytes: &[u8]) {
    let _ = parse_hello2(bytes);
}

/// The third message of a channel, against a vault that has answered.
pub fn hello3(bytes: &[u8]) {
    use crate::channel::{ChannelIdentity, DeviceHandshake, VaultHandshake};
    use crate::{kem::PerStartKey, os_rng, sign::SigningKey};
    let mut rng = os_rng();
    let (_, hello1) = DeviceHandshake::start(&[0; 16], &mut rng);
    let identity = ChannelIdentity { key: SigningKey::generate(&mut rng), certificate: None };
    let start = PerStartKey::generate(&mut rng);
    let (handshake, _) = VaultHandshake::answer(&hello1, &[0; 16], &identity, &start, &[], &mut rng)
        .expect("an answer to our own hello");
    assert!(handshake.accept(bytes, &start, 0, |_, _| None).is_err(), "nobody knows the secret of this exchange");
}

/// A frame, as far as it is read before its tag.
pub fn frame(bytes: &[u8]) {
    if let Ok((counter, sealed)) = parse_frame(bytes) {
        assert_eq!([&counter.to_be_bytes()[..], sealed].concat(), bytes);
    }
}

/// A header file.
pub fn header(bytes: &[u8]) {
    if let Ok(file) = HeaderFile::parse(bytes) {
        let share = HostShare::from_bytes(&[0; 32]);
        assert!(file.open(&share.derive_header_key(&[0; 16]), &[0; 16]).is_err(), "nobody sealed this");
    }
}

/// A recovery blob.
pub fn recovery_blob(bytes: &[u8]) {
    if let Ok(blob) = RecoveryBlob::parse(bytes) {
        assert_eq!(bytes[17..25], blob.sequence().to_be_bytes());
    }
}

/// A credential blob.
pub fn credential(bytes: &[u8]) {
    if let Ok(blob) = Credential::parse(bytes) {
        assert_eq!(bytes[17..25], blob.number().to_be_bytes());
    }
}

/// A recovery phrase as it was typed: what parses comes out in its canonical form and parses again.
pub fn phrase(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(phrase) = Phrase::parse(text) {
        let words = phrase.expose_words();
        assert!(Phrase::parse(&words).is_ok_and(|again| again.expose_words() == words));
    }
}

/// A fingerprint as it was typed.
pub fn fingerprint(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(fingerprint) = Fingerprint::parse(text) {
        assert_eq!(Fingerprint::parse(&fingerprint.to_string()), Ok(fingerprint));
    }
}

/// Padding: what was padded comes out again, and nothing else is taken for it.
pub fn padding(bytes: &[u8]) {
    if let Ok(content) = unpad(bytes) {
        assert!(content.len() + 4 <= bytes.len());
    }
    // EXPOSE: the bytes are the fuzzer's own.
    assert_eq!(unpad(pad(bytes, 64).expose()), Ok(bytes));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::test_rng::TestRng;

    const PARSERS: [fn(&[u8]); 10] =
        [hello1, hello2, hello3, frame, header, recovery_blob, credential, phrase, fingerprint, padding];

    #[test]
    fn absurd_lengths_are_survived() {
        for len in [0, 1, 4, 25, 31, 64, 280, 1249, 1269, 2543, 9000] {
            for fill in [0, 1, 0x7F, 0xFF] {
                for parser in PARSERS {
                    parser(&vec![fill; len]);
                }
            }
        }
        header(b"SRHD\x01\0\0\0\0\0\0\0\0\xFF\xFF\xFF\xFF");
        header(b"SRHD\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..3000), first in 0_u8..3) {
            let mut shaped = bytes.clone();
            if let Some(byte) = shaped.first_mut() {
                *byte = first;
            }
            for parser in PARSERS {
                parser(&bytes);
                parser(&shaped);
            }
        }

        #[test]
        fn any_text_is_survived(text in "[a-zA-Z2-7 \\-]{0,200}") {
            phrase(text.as_bytes());
            fingerprint(text.as_bytes());
        }

        #[test]
        fn phrases_with_one_word_changed_are_survived(at in 0_usize..24, word in "[a-z]{3,8}") {
            let words = Phrase::generate(&mut TestRng::new("fuzz")).expose_words();
            let mut list: Vec<&str> = words.split(' ').collect();
            list[at] = &word;
            phrase(list.join(" ").as_bytes());
        }
    }
}

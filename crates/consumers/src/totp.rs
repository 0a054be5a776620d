//! The consumer `totp`: one-time codes by time (RFC 6238) and by counter (RFC 4226).
//!
//! A secret is an `otpauth://` URI (the key URI format of Google Authenticator) or a bare base32 secret, which then means
//! SHA-1, 6 digits and 30 seconds. Steam's codes, with letters of their own, are not made.

use std::borrow::Cow;

use data_encoding::{BASE32_NOPAD, Specification};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use strongroom_wire::guest::UseResult;
use strongroom_wire::limits::KEY_BYTES_MAX;
use strongroom_wire::policy::Hash;
use strongroom_wire::{Code, Refusal, Timestamp};
use url::form_urlencoded;
use zeroize::Zeroizing;

/// What moves the codes of a secret on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mover {
    /// Time; nothing is to be kept.
    Time,
    /// A counter that the vault keeps: each code takes one, starting with this.
    Counter(u64),
}

/// What moves the codes of this secret on. Also the check when an item is added.
///
/// # Errors
/// `otpauth_malformed` with nothing of the input.
pub fn mover(secret: &[u8]) -> Result<Mover, Refusal> {
    Ok(Generator::read(secret)?.mover)
}

/// The code at `now`, or for `counter` where a counter moves the codes; codes by time leave `counter` aside.
///
/// # Errors
/// `otpauth_malformed` with nothing of the input; `bug` where a counter is needed and was not given.
pub fn code(secret: &[u8], now: Timestamp, counter: Option<u64>) -> Result<UseResult, Refusal> {
    let generator = Generator::read(secret)?;
    match generator.mover {
        Mover::Time => {
            let secs = now.unix_secs();
            let valid_secs = generator.period_secs - secs % generator.period_secs;
            let code = generator.code(secs / generator.period_secs);
            Ok(UseResult::Code { code, valid_secs: Some(valid_secs) })
        }
        Mover::Counter(_) => {
            let counter = counter.ok_or_else(|| Refusal::new(Code::Bug).detail("The vault's counter is missing."))?;
            Ok(UseResult::Code { code: generator.code(counter), valid_secs: None })
        }
    }
}

/// What a stored secret says.
struct Generator {
    key: Zeroizing<Vec<u8>>,
    hash: Hash,
    digits: u32,
    period_secs: u64,
    mover: Mover,
}

impl Generator {
    fn read(secret: &[u8]) -> Result<Self, Refusal> {
        let text = std::str::from_utf8(secret).ok().filter(|text| text.len() <= KEY_BYTES_MAX).map(str::trim);
        let read = text.and_then(|text| match strip_prefix_ignoring_case(text, "otpauth://") {
            Some(rest) => Self::from_uri(rest),
            None => Self::with_key(decode_base32(text)?, Mover::Time),
        });
        read.ok_or_else(|| {
            Refusal::new(Code::OtpauthMalformed)
                .detail("Expected an otpauth:// URI for totp or hotp with 6 to 8 digits, or a base32 secret.")
        })
    }

    /// `text` is what follows `otpauth://`.
    fn from_uri(text: &str) -> Option<Self> {
        let text = text.split_once('#').map_or(text, |(before, _)| before);
        let (path, query) = text.split_once('?')?;
        let kind = path.split_once('/').map_or(path, |(kind, _)| kind);
        let mover = match kind {
            kind if kind.eq_ignore_ascii_case("totp") => Mover::Time,
            kind if kind.eq_ignore_ascii_case("hotp") => Mover::Counter(0),
            _ => return None,
        };
        let mut parameters = Parameters::read(query)?;
        let mut generator = Self::with_key(parameters.secret.take()?, mover)?;
        generator.hash = parameters.hash.unwrap_or(generator.hash);
        generator.digits = parameters.digits.unwrap_or(generator.digits);
        generator.period_secs = parameters.period_secs.unwrap_or(generator.period_secs);
        if let (Mover::Counter(_), Some(first)) = (mover, parameters.counter) {
            generator.mover = Mover::Counter(first);
        }
        Some(generator)
    }

    fn with_key(key: Zeroizing<Vec<u8>>, mover: Mover) -> Option<Self> {
        let bounds = SECRET_BYTES_MIN..=SECRET_BYTES_MAX;
        bounds.contains(&key.len()).then_some(Self { key, hash: Hash::Sha1, digits: 6, period_secs: 30, mover })
    }

    /// HOTP (RFC 4226, section 5.3), with the hashes that RFC 6238 adds.
    fn code(&self, counter: u64) -> String {
        let tag = match self.hash {
            Hash::Sha1 => tag::<Hmac<Sha1>>(&self.key, counter),
            Hash::Sha256 => tag::<Hmac<Sha256>>(&self.key, counter),
            Hash::Sha512 => tag::<Hmac<Sha512>>(&self.key, counter),
        };
        // The low four bits of the last byte choose four bytes; every tag has at least 20.
        let offset = usize::from(tag.last().expect("a tag is not empty") & 0x0f);
        let chosen = tag[offset..offset + 4].try_into().expect("four bytes are four bytes");
        let number = (u32::from_be_bytes(chosen) & 0x7fff_ffff) % 10_u32.pow(self.digits);
        format!("{number:0width$}", width = self.digits as usize)
    }
}

/// The parameters of a URI that change a code; the rest (`issuer`, `image`, …) is for people.
#[derive(Default)]
struct Parameters {
    secret: Option<Zeroizing<Vec<u8>>>,
    hash: Option<Hash>,
    digits: Option<u32>,
    period_secs: Option<u64>,
    counter: Option<u64>,
}

impl Parameters {
    /// `None` where one is malformed, out of bounds or there twice.
    fn read(query: &str) -> Option<Self> {
        let mut read = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            // Where percent-decoding made a copy, the copy is wiped.
            let value = match value {
                Cow::Borrowed(value) => Zeroizing::new(value.to_owned()),
                Cow::Owned(value) => Zeroizing::new(value),
            };
            match name.to_ascii_lowercase().as_str() {
                "secret" => set(&mut read.secret, decode_base32(&value)?)?,
                "algorithm" => set(&mut read.hash, hash(&value)?)?,
                "digits" => set(&mut read.digits, value.parse().ok().filter(|digits| (6..=8).contains(digits))?)?,
                "period" => set(&mut read.period_secs, value.parse().ok().filter(|secs| (1..=86_400).contains(secs))?)?,
                "counter" => set(&mut read.counter, value.parse().ok()?)?,
                // `encoder=steam` asks for other characters; digits would be wrong codes.
                "encoder" => return None,
                _ => {}
            }
        }
        Some(read)
    }
}

fn set<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.replace(value).is_none().then_some(())
}

fn hash(name: &str) -> Option<Hash> {
    match name.to_ascii_uppercase().as_str() {
        "SHA1" | "SHA-1" => Some(Hash::Sha1),
        "SHA256" | "SHA-256" => Some(Hash::Sha256),
        "SHA512" | "SHA-512" => Some(Hash::Sha512),
        _ => None,
    }
}

fn tag<M: Mac + KeyInit>(key: &[u8], counter: u64) -> Zeroizing<Vec<u8>> {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of every length");
    mac.update(&counter.to_be_bytes());
    Zeroizing::new(mac.finalize().into_bytes().to_vec())
}

/// Base32 as people paste it: either case, blanks and hyphens between groups, padding or none, spare bits of any value.
fn decode_base32(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut specification: Specification = BASE32_NOPAD.specification();
    specification.check_trailing_bits = false;
    let encoding = specification.encoding().expect("fewer checks leave the alphabet as it is");
    let mut packed = Zeroizing::new(Vec::with_capacity(text.len()));
    let kept = |byte: &u8| !byte.is_ascii_whitespace() && *byte != b'-';
    packed.extend(text.trim_end_matches('=').bytes().filter(kept).map(|byte| byte.to_ascii_uppercase()));
    let mut bytes = Zeroizing::new(vec![0; encoding.decode_len(packed.len()).ok()?]);
    let length = encoding.decode_mut(&packed, &mut bytes).ok()?;
    bytes.truncate(length);
    Some(bytes)
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    text.get(..prefix.len()).filter(|start| start.eq_ignore_ascii_case(prefix)).map(|_| &text[prefix.len()..])
}

/// RFC 4226 asks for 128 bits; services hand out as few as 40.
const SECRET_BYTES_MIN: usize = 5;
const SECRET_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use data_encoding::BASE32;
    use proptest::prelude::*;

    use super::*;

    const RFC_KEY: &[u8] = b"12345678901234567890";

    fn code_at(secret: &str, secs: u64) -> Result<(String, Option<u64>), Code> {
        match code(secret.as_bytes(), Timestamp(secs * 1_000), None) {
            Ok(UseResult::Code { code, valid_secs }) => Ok((code, valid_secs)),
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => Err(refusal.code),
        }
    }

    #[test]
    fn rfc_4226_appendix_d() {
        let uri = format!("otpauth://hotp/x?secret={}&counter=0", BASE32.encode(RFC_KEY));
        let expected =
            ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"];
        for (counter, expected) in (0..).zip(expected) {
            let made = code(uri.as_bytes(), Timestamp(0), Some(counter));
            assert_eq!(made, Ok(UseResult::Code { code: expected.into(), valid_secs: None }), "{counter}");
        }
    }

    #[test]
    fn rfc_6238_appendix_b() {
        // The table's keys for SHA-256 and SHA-512 are the digits repeated to 32 and 64 bytes (erratum 2866).
        let repeated = |length: usize| RFC_KEY.iter().copied().cycle().take(length).collect::<Vec<u8>>();
        let table: [(u64, [&str; 3]); 6] = [
            (59, ["94287082", "46119246", "90693936"]),
            (1_111_111_109, ["07081804", "68084774", "25091201"]),
            (1_111_111_111, ["14050471", "67062674", "99943326"]),
            (1_234_567_890, ["89005924", "91819424", "93441116"]),
            (2_000_000_000, ["69279037", "90698825", "38618901"]),
            (20_000_000_000, ["65353130", "77737706", "47863826"]),
        ];
        for (secs, row) in table {
            for ((hash, length), expected) in [("SHA1", 20), ("SHA256", 32), ("SHA512", 64)].into_iter().zip(row) {
                let secret = BASE32.encode(&repeated(length));
                let uri = format!("otpauth://totp/A:b?secret={secret}&algorithm={hash}&digits=8&period=30&issuer=A");
                assert_eq!(code_at(&uri, secs), Ok((expected.into(), Some(30 - secs % 30))), "{secs} {hash}");
            }
        }
    }

    #[test]
    fn bare_secrets_as_people_paste_them() {
        let plain = code_at("JBSWY3DPEHPK3PXP", 59);
        assert!(plain.is_ok());
        for text in [
            "jbsw y3dp ehpk 3pxp",
            " JBSW-Y3DP-EHPK-3PXP\n",
            "JBSWY3DPEHPK3PXP====",
            "OTPAUTH://TOTP/?SECRET=jbswy3dpehpk3pxp",
        ] {
            assert_eq!(code_at(text, 59), plain, "{text}");
        }
        // 26 characters leave two spare bits, and services do not clear them.
        assert!(code_at("ABCDEFGHIJKLMNOPQRSTUVWXYZ", 59).is_ok());
        let padded = "otpauth://totp/x?secret=JBSWY3DPEHPK3PXP%3D%3D%3D%3D";
        assert_eq!(code_at(padded, 59), plain);
    }

    #[test]
    fn periods_and_digits() {
        let uri = |rest: &str| format!("otpauth://totp/x?secret=JBSWY3DPEHPK3PXP{rest}");
        assert_eq!(code_at(&uri("&period=1"), 7).map(|(_, secs)| secs), Ok(Some(1)));
        assert_eq!(code_at(&uri("&period=86400"), 7).map(|(_, secs)| secs), Ok(Some(86_393)));
        let (eight, _) = code_at(&uri("&digits=8"), 59).expect("a code");
        let (seven, _) = code_at(&uri("&digits=7"), 59).expect("a code");
        assert_eq!(eight[1..], seven);
    }

    #[test]
    fn what_moves_the_codes() {
        assert_eq!(mover(b"JBSWY3DPEHPK3PXP"), Ok(Mover::Time));
        assert_eq!(mover(b"otpauth://hotp/x?secret=JBSWY3DPEHPK3PXP&counter=7"), Ok(Mover::Counter(7)));
        assert_eq!(mover(b"otpauth://hotp/x?secret=JBSWY3DPEHPK3PXP"), Ok(Mover::Counter(0)));
        let missing = code(b"otpauth://hotp/x?secret=JBSWY3DPEHPK3PXP", Timestamp(0), None);
        assert_eq!(missing.map_err(|refusal| refusal.code), Err(Code::Bug));
    }

    #[test]
    fn malformed_settings_say_nothing_of_themselves() {
        let uri = |rest: &str| format!("otpauth://totp/x?secret=JBSWY3DPEHPK3PXP{rest}");
        let long = format!("otpauth://totp/x?secret={}", "A".repeat(KEY_BYTES_MAX));
        for bad in [
            "",
            "MARKER01",
            "AAAA",
            "otpauth://",
            "otpauth://totp",
            "otpauth://totp/x",
            "otpauth://totp/x?",
            "otpauth://totp/x?secret=",
            "otpauth://totp/x?secret=MARKER01",
            "otpauth://steam/x?secret=JBSWY3DPEHPK3PXP",
            "otpauth://totp/x?issuer=JBSWY3DPEHPK3PXP",
            "otpauth-migration://offline?data=JBSWY3DPEHPK3PXP",
            "https://totp/x?secret=JBSWY3DPEHPK3PXP",
            "é",
            "otpauth:/é/totp/x?secret=JBSWY3DPEHPK3PXP",
            &uri("&digits=5"),
            &uri("&digits=9"),
            &uri("&digits=six"),
            &uri("&period=0"),
            &uri("&period=86401"),
            &uri("&period=-30"),
            &uri("&algorithm=MD5"),
            &uri("&encoder=steam"),
            &uri("&secret=JBSWY3DPEHPK3PXP"),
            &uri("&digits=6&digits=8"),
            &uri("&counter=x"),
            &long,
        ] {
            let refusal = code(bad.as_bytes(), Timestamp(0), Some(0)).expect_err(bad);
            assert_eq!(refusal.code, Code::OtpauthMalformed, "{bad}");
            let shown = format!("{refusal:?} {refusal}");
            assert!(!shown.contains("MARKER") && !shown.contains("JBSW"), "{shown}");
        }
        assert_eq!(code_at("\u{0}", 0), Err(Code::OtpauthMalformed));
        assert!(code(&[0xff; 40], Timestamp(0), None).is_err());
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), secs in any::<u64>()) {
            let _ = code(&bytes, Timestamp(secs), Some(secs));
        }

        #[test]
        fn no_uri_panics(rest in "(totp|hotp)?/?[ -~]{0,20}\\??((secret|digits|period|counter|algorithm)=[A-Z2-7%0-9]{0,20}&?){0,5}") {
            let uri = format!("otpauth://{rest}");
            if let Ok(UseResult::Code { code, .. }) = code(uri.as_bytes(), Timestamp(u64::MAX), Some(u64::MAX)) {
                prop_assert!((6..=8).contains(&code.len()) && code.bytes().all(|digit| digit.is_ascii_digit()));
            }
        }
    }
}

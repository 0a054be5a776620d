//! One-time-code settings of KeePass and its companions, as the `otpauth` URI that everybody reads.

use data_encoding::{BASE32, BASE32_NOPAD, BASE64, HEXLOWER_PERMISSIVE};
use zeroize::Zeroizing;

use crate::text::Text;

/// Settings of time-based codes (RFC 6238).
pub(crate) struct Totp {
    /// The shared secret.
    pub(crate) secret: Zeroizing<Vec<u8>>,
    /// `SHA1`, `SHA256` or `SHA512`.
    pub(crate) algorithm: &'static str,
    /// Digits of a code.
    pub(crate) digits: u32,
    /// Seconds of a code.
    pub(crate) period_secs: u32,
}

impl Totp {
    /// The settings as a URI in the form of Google's "Key Uri Format".
    pub(crate) fn to_uri(&self, label: &str) -> Text {
        let secret = Zeroizing::new(BASE32_NOPAD.encode(&self.secret));
        let Self { algorithm, digits, period_secs, .. } = self;
        let label = percent_encode(label);
        Zeroizing::new(format!(
            "otpauth://totp/{label}?secret={}&algorithm={algorithm}&digits={digits}&period={period_secs}",
            secret.as_str()
        ))
    }
}

/// A secret in base32, as people write it: any case, with blanks and dashes, with or without padding.
pub(crate) fn base32(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let compact: Zeroizing<String> = Zeroizing::new(
        text.chars().filter(|c| !matches!(c, ' ' | '-' | '=')).map(|c| c.to_ascii_uppercase()).collect(),
    );
    let bytes = BASE32_NOPAD.decode(compact.as_bytes()).or_else(|_| BASE32.decode(text.as_bytes())).ok()?;
    Some(Zeroizing::new(bytes)).filter(|bytes| !bytes.is_empty())
}

/// A secret in one of the encodings of KeePass's `TimeOtp-Secret` strings.
pub(crate) fn secret(name: &str, text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = match name {
        "TimeOtp-Secret" => text.as_bytes().to_vec(),
        "TimeOtp-Secret-Hex" => HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).ok()?,
        "TimeOtp-Secret-Base32" => return base32(text),
        "TimeOtp-Secret-Base64" => BASE64.decode(text.trim().as_bytes()).ok()?,
        _ => return None,
    };
    Some(Zeroizing::new(bytes)).filter(|bytes| !bytes.is_empty())
}

/// A hash by KeePass's name for it; SHA-1 is what an absent one stands for.
pub(crate) fn algorithm(name: Option<&str>) -> Option<&'static str> {
    match name.map(str::trim) {
        None | Some("" | "HMAC-SHA-1") => Some("SHA1"),
        Some("HMAC-SHA-256") => Some("SHA256"),
        Some("HMAC-SHA-512") => Some("SHA512"),
        Some(_) => None,
    }
}

/// A number of digits or seconds, or its default where it is absent.
pub(crate) fn number(text: Option<&str>, default: u32, range: std::ops::RangeInclusive<u32>) -> Option<u32> {
    match text.map(str::trim) {
        None | Some("") => Some(default),
        Some(text) => text.parse().ok().filter(|number| range.contains(number)),
    }
}

fn percent_encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_every_spelling() {
        // RFC 6238, appendix B: the secret of its test vectors.
        let expected = b"12345678901234567890".as_slice();
        for text in ["GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", "gezd gnbv-gy3t qojq gezd gnbv gy3t qojq=="] {
            assert_eq!(base32(text).as_deref().map(Vec::as_slice), Some(expected));
        }
        let decode = |name, text| secret(name, text).map(|bytes| bytes.to_vec());
        assert_eq!(decode("TimeOtp-Secret", "12345678901234567890").as_deref(), Some(expected));
        assert_eq!(decode("TimeOtp-Secret-Hex", "3132333435363738393031323334353637383930").as_deref(), Some(expected));
        assert_eq!(decode("TimeOtp-Secret-Base64", "MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=").as_deref(), Some(expected));
        assert!(base32("not base32!").is_none() && base32("").is_none());
    }

    #[test]
    fn a_uri_names_everything() {
        let totp = Totp {
            secret: Zeroizing::new(b"12345678901234567890".to_vec()),
            algorithm: "SHA256",
            digits: 8,
            period_secs: 60,
        };
        assert_eq!(
            totp.to_uri("A b/ü").as_str(),
            "otpauth://totp/A%20b%2F%C3%BC?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&algorithm=SHA256&digits=8&period=60"
        );
    }
}

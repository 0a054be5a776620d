//! What the fuzz targets call: one function for each parser, with the property that must hold besides not panicking.

use serde::Deserialize;
use serde_json::{Map, Value};
use strongroom_wire::Timestamp;
use strongroom_wire::guest::{SignCall, UseResult};
use strongroom_wire::policy::{JwtTemplate, KeyAlgorithm, KeyPolicy, KeyPurpose, SignTemplate};
use strongroom_wire::template::{check_template, jwt_claims};

use crate::mask::Mask;
use crate::{keys, totp};

/// Any bytes as a stored key: a key that is accepted has a public half, unless it is symmetric.
pub fn private_key(data: &[u8]) {
    for purpose in KeyPurpose::ALL {
        for algorithm in KeyAlgorithm::ALL {
            let policy = KeyPolicy { purpose: *purpose, algorithm: *algorithm };
            if keys::check_key(data, policy).is_ok() {
                let symmetric = matches!(purpose, KeyPurpose::Encrypt | KeyPurpose::Mac | KeyPurpose::Derive);
                assert_ne!(keys::public_key(data, policy).is_ok(), symmetric);
            }
        }
    }
}

/// Any bytes as stored one-time-code settings: what is accepted gives a code of 6 to 8 digits.
pub fn otpauth(data: &[u8]) {
    let accepted = totp::mover(data).is_ok();
    match totp::code(data, Timestamp(1_700_000_000_000), Some(1)) {
        Ok(UseResult::Code { code, .. }) => {
            assert!((6..=8).contains(&code.len()) && code.bytes().all(|digit| digit.is_ascii_digit()));
        }
        Ok(_) => panic!("totp answers with a code"),
        Err(_) => assert!(!accepted),
    }
}

/// A template and the claims a guest wants, as JSON: what is accepted is within the template.
pub fn jwt_template(data: &[u8]) {
    #[derive(Deserialize)]
    struct Input {
        template: JwtTemplate,
        claims: Map<String, Value>,
        key_id: Option<String>,
    }
    let Ok(Input { template, claims, key_id }) = serde_json::from_slice(data) else { return };
    let now = Timestamp(1_700_000_000_000);
    let policy = KeyPolicy { purpose: KeyPurpose::Jwt, algorithm: KeyAlgorithm::Ed25519 };
    let call = SignCall::Jwt { claims: claims.clone(), key_id };
    let whole = SignTemplate { jwt: Some(template.clone()), ..SignTemplate::default() };
    if check_template(&call, policy, Some(&whole), true, now).is_err() {
        return;
    }
    let made = jwt_claims(&claims, Some(&template), now).expect("what was checked is signed");
    assert!(template.fixed.iter().all(|(name, value)| made.get(name) == Some(value)));
    let listed = |name: &String| template.fixed.contains_key(name) || template.free.contains(name);
    assert!(made.keys().all(|name| name == "iat" || name == "exp" || listed(name)));
    let lifetime = made["exp"].as_u64().and_then(|exp| exp.checked_sub(now.unix_secs())).expect("exp is after now");
    assert!((1..=template.lifetime_secs_max).contains(&lifetime));
}

/// A secret, chunks and a text: no chunking lets the secret through or changes a text without it.
pub fn mask(data: &[u8]) {
    let [secret_len, chunk_len, rest @ ..] = data else { return };
    let Some((secret, text)) = rest.split_at_checked(usize::from(*secret_len)) else { return };
    let mask = Mask::new(&[secret]);
    let mut stream = mask.stream();
    let mut out = Vec::new();
    for chunk in text.chunks(usize::from(*chunk_len) + 1) {
        out.extend(stream.push(chunk));
    }
    out.extend(stream.finish());
    let survives =
        secret.len() >= 4 && !secret.starts_with(b"[") && out.windows(secret.len()).any(|window| window == secret);
    assert!(!survives || crate::mask::MASKED.windows(4).any(|part| secret.windows(4).any(|other| part == other)));
    if !mask.finds(text) {
        assert_eq!(out, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds() {
        jwt_template(b"");
        jwt_template(br#"{"template":{"lifetime_secs_max":60,"free":["sub"],"fixed":{"iss":"v"}},"claims":{"sub":1,"exp":1700000001}}"#);
        jwt_template(br#"{"template":{"lifetime_secs_max":60},"claims":{"exp":1e400}}"#);
        otpauth(b"otpauth://totp/?secret=JBSWY3DPEHPK3PXP&digits=7");
        private_key(&[0x81; 32]);
        mask(b"\x08\x03secret-1{\"a\":\"secret-1\",\"b\":\"c2VjcmV0LTE=\"}");
    }
}

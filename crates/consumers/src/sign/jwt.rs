//! JSON Web Tokens (RFC 7519) in compact form (RFC 7515, section 7.1). The vault writes the header and the times itself.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde::Serialize;
use serde_json::{Map, Value};
use strongroom_wire::policy::JwtTemplate;
use strongroom_wire::template::jwt_claims;
use strongroom_wire::{Code, Refusal, Timestamp};

use crate::keys::PrivateKey;

/// `base64url(header).base64url(claims).base64url(signature)`.
///
/// # Errors
/// Those of [`jwt_claims`], and `key_malformed` where the parts of an RSA key do not belong together.
pub(super) fn token(
    key: &PrivateKey,
    claims: &Map<String, Value>,
    key_id: Option<&str>,
    template: Option<&JwtTemplate>,
    now: Timestamp,
) -> Result<String, Refusal> {
    let alg = match key {
        PrivateKey::Ed25519(_) => "EdDSA",
        PrivateKey::P256(_) => "ES256",
        PrivateKey::Rsa(..) => "RS256",
        PrivateKey::Secp256k1(_) => return Err(Refusal::new(Code::PolicyMissing)),
    };
    let header = encode(&Header { alg, typ: "JWT", kid: key_id });
    let payload = encode(&jwt_claims(claims, template, now)?);
    let signed = format!("{header}.{payload}");
    let signature = Base64UrlUnpadded::encode_string(&key.sign(signed.as_bytes())?);
    Ok(format!("{signed}.{signature}"))
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
}

fn encode(part: &impl Serialize) -> String {
    let json = serde_json::to_vec(part).expect("maps of text to JSON values have a JSON text");
    Base64UrlUnpadded::encode_string(&json)
}

//! Where the secret goes in a request. What is built here from the secret lies in memory that is wiped when dropped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, uri::PathAndQuery};
use ring::{digest, hmac};
use strongroom_crypto::locked::SecretBytes;
use strongroom_wire::limits::HTTP_HEADER_BYTES_MAX;
use strongroom_wire::policy::{Hash, HmacPart, HmacPlacement, Placement, TagEncoding};
use strongroom_wire::target::Target;
use strongroom_wire::{Code, Refusal, Timestamp};

use super::{aws, headers};
use crate::mask::Mask;

/// A request before the secret is in it.
pub(super) struct Plain<'a> {
    pub(super) method: &'a Method,
    pub(super) target: &'a Target,
    pub(super) headers: &'a HeaderMap,
    /// `None`: it arrives in pieces.
    pub(super) body: Option<&'a [u8]>,
    pub(super) now: Timestamp,
}

/// What the secret adds to a request, and the mask for its answer.
pub(super) struct Placed {
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// The request target, where the secret is in it.
    pub(super) path_and_query: Option<PathAndQuery>,
    pub(super) mask: Mask,
}

/// Places `secret`, or what is computed from it.
///
/// # Errors
/// `key_malformed` where the secret has bytes that cannot be placed so; `value_refused` where the item's policy cannot be
/// followed; `request_malformed` where the body would have to be here as a whole.
pub(super) fn place(placement: &Placement, secret: &SecretBytes, request: &Plain<'_>) -> Result<Placed, Refusal> {
    // EXPOSE: placed in the request below; every copy is locked or wiped, and the mask keeps fingerprints.
    let bytes = secret.expose();
    if bytes.is_empty() || bytes.len() > HTTP_HEADER_BYTES_MAX {
        return Err(Refusal::new(Code::KeyMalformed).detail("The secret is empty or too long to be sent."));
    }
    let in_header = |name: HeaderName, value: HeaderValue, derived: &[u8]| Placed {
        headers: vec![(name, value)],
        path_and_query: None,
        mask: Mask::new(&[bytes, derived]),
    };
    // Whoever receives a header takes white space off its ends.
    let in_plain = matches!(placement, Placement::Bearer | Placement::Header { .. });
    if in_plain && bytes.trim_ascii() != bytes {
        return Err(Refusal::new(Code::KeyMalformed).detail("The secret begins or ends with white space."));
    }
    match placement {
        Placement::Bearer => Ok(in_header(header::AUTHORIZATION, header_value(&[b"Bearer ", bytes])?, b"")),
        Placement::Basic { username } => {
            if username.contains(':') || username.bytes().any(|b| b.is_ascii_control()) {
                return Err(policy_refused("A user name for Basic holds no colon and no control character."));
            }
            let credentials = base64(&joined(&[username.as_bytes(), b":", bytes]));
            // EXPOSE: copied into the header's own locked memory, and fingerprinted.
            let credentials = credentials.expose();
            Ok(in_header(header::AUTHORIZATION, header_value(&[b"Basic ", credentials])?, credentials))
        }
        Placement::Header { name, prefix } => {
            Ok(in_header(placed_name(name)?, header_value(&[prefix.as_bytes(), bytes])?, b""))
        }
        Placement::Query { name } => in_query(name, bytes, request.target),
        Placement::Hmac(placement) => with_hmac(placement, bytes, request),
        Placement::AwsSigV4 { access_key_id, region, service } => {
            aws::sign(&aws::Scope { access_key_id, region, service }, bytes, request)
        }
    }
}

/// `?name=secret`, behind what the caller wrote.
fn in_query(name: &str, secret: &[u8], target: &Target) -> Result<Placed, Refusal> {
    if name.is_empty() {
        return Err(policy_refused("The query parameter has no name."));
    }
    if target.has_parameter(name) {
        return Err(Refusal::new(Code::UrlRefused)
            .detail(format!("The URL carries the parameter {name}, which is set by the item.")));
    }
    let joint = if target.query().is_none() { "?" } else { "&" };
    let name = percent_encoded(name.as_bytes());
    let value = percent_encoded(secret);
    // EXPOSE: both copied into locked memory that hyper writes from.
    let text = joined(&[target.request_target().as_bytes(), joint.as_bytes(), name.expose(), b"=", value.expose()]);
    let path_and_query = PathAndQuery::from_maybe_shared(shared(text))
        .map_err(|_| Refusal::new(Code::Bug).detail("An accepted URL was refused by the HTTP library."))?;
    Ok(Placed { headers: Vec::new(), path_and_query: Some(path_and_query), mask: Mask::new(&[secret]) })
}

/// A tag over parts of the request.
fn with_hmac(placement: &HmacPlacement, secret: &[u8], request: &Plain<'_>) -> Result<Placed, Refusal> {
    let timestamp = request.now.unix_secs().to_string();
    let key = hmac::Key::new(
        match placement.hash {
            Hash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Hash::Sha256 => hmac::HMAC_SHA256,
            Hash::Sha512 => hmac::HMAC_SHA512,
        },
        secret,
    );
    let body = || {
        request.body.ok_or_else(|| {
            Refusal::new(Code::RequestMalformed)
                .detail("This item signs the body, so the body must be inside the request.")
        })
    };
    let mut context = hmac::Context::with_key(&key);
    for (index, part) in placement.parts.iter().enumerate() {
        if index > 0 {
            context.update(b"\n");
        }
        match part {
            HmacPart::Method => context.update(request.method.as_str().as_bytes()),
            HmacPart::Host => context.update(request.target.destination().to_string().as_bytes()),
            HmacPart::Path => context.update(request.target.path().as_bytes()),
            HmacPart::Query => context.update(request.target.query().unwrap_or_default().as_bytes()),
            HmacPart::Body => context.update(body()?),
            HmacPart::BodySha256 => context.update(hex(digest::digest(&digest::SHA256, body()?).as_ref()).as_bytes()),
            HmacPart::Timestamp if placement.timestamp_header.is_none() => {
                return Err(policy_refused("The item signs a timestamp but names no header for it."));
            }
            HmacPart::Timestamp => context.update(timestamp.as_bytes()),
        }
    }
    let tag = match placement.encoding {
        TagEncoding::Hex => hex(context.sign().as_ref()),
        TagEncoding::Base64 => STANDARD.encode(context.sign()),
    };
    let mut placed =
        vec![(placed_name(&placement.header)?, header_value(&[placement.prefix.as_bytes(), tag.as_bytes()])?)];
    if let Some(name) = &placement.timestamp_header {
        placed.push((placed_name(name)?, HeaderValue::from_str(&timestamp).expect("digits are a header value")));
    }
    // An echoed tag would let a guest repeat the request without the vault.
    Ok(Placed { headers: placed, path_and_query: None, mask: Mask::new(&[secret, tag.as_bytes()]) })
}

/// The name of a header that an item's policy sets.
fn placed_name(name: &str) -> Result<HeaderName, Refusal> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok().filter(headers::may_be_placed);
    name.ok_or_else(|| policy_refused("The item names a header that cannot carry a credential."))
}

/// A header value of these parts, in memory that is wiped once hyper has written it, and never in a compression table.
pub(super) fn header_value(parts: &[&[u8]]) -> Result<HeaderValue, Refusal> {
    let mut value = HeaderValue::from_maybe_shared(shared(joined(parts))).map_err(|_| {
        Refusal::new(Code::KeyMalformed)
            .detail("The secret holds characters that a header cannot carry, such as a line break.")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn joined(parts: &[&[u8]]) -> SecretBytes {
    let mut all = SecretBytes::zeroed(parts.iter().map(|part| part.len()).sum());
    // EXPOSE: written here, before anyone else has it.
    let mut rest = all.expose_mut();
    for part in parts {
        let (here, behind) = rest.split_at_mut(part.len());
        here.copy_from_slice(part);
        rest = behind;
    }
    all
}

fn base64(bytes: &SecretBytes) -> SecretBytes {
    let mut text = SecretBytes::zeroed(bytes.len().div_ceil(3) * 4);
    // EXPOSE: encoded from locked memory into locked memory.
    let written = STANDARD.encode_slice(bytes.expose(), text.expose_mut());
    debug_assert_eq!(written, Ok(text.len()));
    text
}

/// Every byte but the unreserved ones (RFC 3986, section 2.3) as `%41`.
fn percent_encoded(bytes: &[u8]) -> SecretBytes {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    let mut text = SecretBytes::zeroed(bytes.iter().map(|b| if unreserved(*b) { 1 } else { 3 }).sum());
    // EXPOSE: written here, before anyone else has it.
    let mut places = text.expose_mut().iter_mut();
    let mut put = |byte: u8| *places.next().expect("the length was counted") = byte;
    for byte in bytes {
        if unreserved(*byte) {
            put(*byte);
        } else {
            put(b'%');
            put(DIGITS[usize::from(byte >> 4)].to_ascii_uppercase());
            put(DIGITS[usize::from(byte & 0x0f)].to_ascii_uppercase());
        }
    }
    text
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|b| [b >> 4, b & 0x0f]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// Locked memory as the reference-counted bytes that `http` and hyper pass around; wiped with the last reference.
fn shared(secret: SecretBytes) -> Bytes {
    struct Owner(SecretBytes);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            // EXPOSE: hyper copies it into what it writes to the connection.
            self.0.expose()
        }
    }
    Bytes::from_owner(Owner(secret))
}

pub(super) fn policy_refused(detail: &str) -> Refusal {
    Refusal::new(Code::ValueRefused).detail(detail)
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percent_encoding_leaves_the_unreserved() {
        assert_eq!(percent_encoded("aZ09-._~ /+%\u{fc}\0".as_bytes()).expose(), b"aZ09-._~%20%2F%2B%25%C3%BC%00");
    }

    #[test]
    fn placed_values_are_sensitive() {
        let value = header_value(&[b"Bearer ", b"x"]).expect("a header");
        assert!(value.is_sensitive() && format!("{value:?}") == "Sensitive");
    }

    proptest! {
        /// Whatever URL the parser accepts, the HTTP library sends as it is.
        #[test]
        fn accepted_urls_are_sent_as_they_are(host in "[a-z0-9.-]{1,20}", rest in "/[!-~]{0,40}") {
            if let Ok(target) = Target::parse(&format!("https://{host}{rest}")) {
                let sent: PathAndQuery = target.request_target().parse().expect("the library accepts it");
                prop_assert_eq!(sent.as_str(), target.request_target());
                let authority: http::uri::Authority = target.destination().to_string().parse().expect("the library accepts it");
                prop_assert_eq!(authority.as_str(), target.destination().to_string());
            }
        }

        #[test]
        fn any_secret_is_placed_or_refused(secret in proptest::collection::vec(any::<u8>(), 0..40), user in "[ -~]{0,8}") {
            let target = Target::parse("https://a.example/x?y").expect("a URL");
            let (method, headers) = (Method::GET, HeaderMap::new());
            let plain = Plain { method: &method, target: &target, headers: &headers, body: Some(b""), now: Timestamp(0) };
            for placement in [
                Placement::Bearer,
                Placement::Basic { username: user },
                Placement::Header { name: "x-key".into(), prefix: "t ".into() },
                Placement::Query { name: "key".into() },
            ] {
                match place(&placement, &SecretBytes::copy_of(&secret), &plain) {
                    Ok(placed) => {
                        let placed_in = placed.headers.first().map(|(_, value)| value.as_bytes().to_vec());
                        let placed_in = placed_in.or_else(|| placed.path_and_query.as_ref().map(|sent| sent.as_str().as_bytes().to_vec()));
                        prop_assert!(secret.len() < 4 || placed.mask.finds(&placed_in.expect("it is somewhere")));
                    }
                    Err(refusal) => prop_assert!(matches!(refusal.code, Code::KeyMalformed | Code::ValueRefused)),
                }
            }
        }
    }
}

//! What a caller may set in a request, and what comes back to it.

use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use strongroom_wire::limits::{HTTP_HEADER_BYTES_MAX, HTTP_HEADERS_MAX};
use strongroom_wire::policy::Placement;
use strongroom_wire::{Code, Refusal};

use super::HttpJob;
use super::exchange::Answer;
use crate::mask::Mask;

/// Method and headers of a request as the caller wrote them, checked.
pub(super) struct RequestHead {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
}

impl RequestHead {
    /// Checks what the caller asked for. `Accept-Encoding` and `User-Agent` are completed here: only encodings come back
    /// that the mask can see through.
    ///
    /// # Errors
    /// `header_refused`, `request_malformed` or `limit_method`, each with what is wrong.
    pub(super) fn check(job: &HttpJob) -> Result<Self, Refusal> {
        let method = check_method(&job.call.method)?;
        let headers = &job.call.headers;
        if headers.len() > HTTP_HEADERS_MAX {
            return Err(refused(format!("There are more than {HTTP_HEADERS_MAX} headers.")));
        }
        let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > REQUEST_HEADERS_BYTES_MAX {
            return Err(refused(format!("The headers are larger than {REQUEST_HEADERS_BYTES_MAX} bytes.")));
        }
        let mut checked = HeaderMap::with_capacity(headers.len() + 8);
        for (name, value) in headers {
            let name = check_name(name)?;
            check_owner(&name, job)?;
            let value = check_value(&name, value)?;
            checked.append(name, value);
        }
        complete(&mut checked);
        Ok(Self { method, headers: checked })
    }
}

/// Takes away what describes a body that is no longer sent (RFC 9110, section 15.4).
pub(super) fn drop_content(headers: &mut HeaderMap) {
    let content: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("content-")).cloned().collect();
    for name in content {
        headers.remove(name);
    }
    headers.remove("digest");
}

/// The headers of an answer as the caller gets them: masked, without what concerns the connection, without cookies unless
/// they are granted, and without the length of a body that the mask may change.
///
/// # Errors
/// `http_failed` where there are too many, or one is too large.
pub(super) fn of_answer(job: &HttpJob, answer: &Answer, decoded: bool) -> Result<Vec<(String, String)>, Refusal> {
    let headers = answer.headers();
    if headers.len() > HTTP_HEADERS_MAX || headers.values().any(|value| value.len() > HTTP_HEADER_BYTES_MAX) {
        return Err(Refusal::new(Code::HttpFailed).detail("The answer's headers are larger than allowed."));
    }
    let named_by_connection: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(|name| name.trim().to_ascii_lowercase()))
        .collect();
    let cookies = job.limits.set_cookie || !job.for_guest;
    let passes = |name: &HeaderName| {
        let text = name.as_str();
        let dropped = is_hop_by_hop(text)
            || named_by_connection.iter().any(|named| named == text)
            || (matches!(text, "set-cookie" | "set-cookie2") && !cookies)
            || (*name == header::CONTENT_LENGTH && (answer.has_body() || decoded))
            || (*name == header::CONTENT_ENCODING && decoded)
            || answer.mask.finds(text.as_bytes());
        !dropped
    };
    let passed = headers.iter().filter(|(name, _)| passes(name));
    Ok(passed.map(|(name, value)| (name.as_str().to_owned(), scrubbed(&answer.mask, value.as_bytes()))).collect())
}

/// `text`, masked; bytes that are not UTF-8 are replaced.
pub(super) fn scrubbed(mask: &Mask, text: &[u8]) -> String {
    let masked = mask.scrub(text);
    String::from_utf8_lossy(masked.as_deref().unwrap_or(text)).into_owned()
}

/// A method in upper case that asks the called host for something, and not a proxy or for an echo.
fn check_method(method: &str) -> Result<Method, Refusal> {
    let written_well = (1..=METHOD_CHARS_MAX).contains(&method.len())
        && method.bytes().all(|b| b.is_ascii_uppercase() || matches!(b, b'-' | b'_'));
    if !written_well {
        return Err(
            Refusal::new(Code::RequestMalformed).detail("The method must be written in upper case, such as GET.")
        );
    }
    // TRACE answers with the request itself, CONNECT asks for a tunnel.
    if matches!(method, "TRACE" | "CONNECT") {
        return Err(Refusal::new(Code::LimitMethod).detail(format!("{method} is never sent with a secret.")));
    }
    Method::from_bytes(method.as_bytes()).map_err(|_| Refusal::new(Code::RequestMalformed))
}

fn check_name(name: &str) -> Result<HeaderName, Refusal> {
    if name.len() > NAME_CHARS_MAX {
        return Err(refused(format!("A header's name is longer than {NAME_CHARS_MAX} characters.")));
    }
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| refused("A header's name holds a character that none may hold."))
}

fn check_value(name: &HeaderName, value: &str) -> Result<HeaderValue, Refusal> {
    if value.len() > HTTP_HEADER_BYTES_MAX {
        return Err(refused(format!("The header {name} is longer than {HTTP_HEADER_BYTES_MAX} bytes.")));
    }
    if value.trim_matches([' ', '\t']) != value {
        return Err(refused(format!("The header {name} begins or ends with white space.")));
    }
    HeaderValue::from_str(value).map_err(|_| refused(format!("The header {name} holds a control character.")))
}

/// Who may set a header: what the connection or the placement sets is nobody's, and a guest sets no credentials and nothing
/// that would make the called host see another method, path, host or sender than the rules saw.
fn check_owner(name: &HeaderName, job: &HttpJob) -> Result<(), Refusal> {
    // Gateways after CGI's example take `_` for `-`.
    let plain = name.as_str().replace('_', "-");
    if is_hop_by_hop(&plain) || is_framing(&plain) {
        return Err(refused(format!("The header {name} is set by the vault.")));
    }
    if placed_headers(&job.policy.placement).any(|placed| placed.replace('_', "-").eq_ignore_ascii_case(&plain)) {
        return Err(refused(format!("The header {name} is set by the item.")));
    }
    if job.for_guest && (is_credential(&plain) || is_override(&plain)) {
        return Err(refused(format!("The header {name} is not for guests to set.")));
    }
    Ok(())
}

/// The headers that a placement sets.
pub(super) fn placed_headers(placement: &Placement) -> impl Iterator<Item = &str> {
    let aws: &[&str] = &["authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token", "date"];
    let (own, timestamp, more): (Option<&str>, Option<&str>, &[&str]) = match placement {
        Placement::Bearer | Placement::Basic { .. } => (Some("authorization"), None, &[]),
        Placement::Header { name, .. } => (Some(name), None, &[]),
        Placement::Query { .. } => (None, None, &[]),
        Placement::Hmac(hmac) => (Some(&hmac.header), hmac.timestamp_header.as_deref(), &[]),
        Placement::AwsSigV4 { .. } => (None, None, aws),
    };
    own.into_iter().chain(timestamp).chain(more.iter().copied())
}

/// Whether a header may carry a secret or a tag: none that the connection needs for itself.
pub(super) fn may_be_placed(name: &HeaderName) -> bool {
    let plain = name.as_str().replace('_', "-");
    !is_hop_by_hop(&plain) && !is_framing(&plain)
}

/// Concerns one connection (RFC 9110, section 7.6.1).
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "te"
            | "trailer"
            | "trailers"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    ) || name.starts_with("proxy-")
}

/// Tells where a message goes or where it ends.
fn is_framing(name: &str) -> bool {
    matches!(name, "host" | "content-length" | "expect" | "alt-used" | "max-forwards" | "via")
}

fn is_credential(name: &str) -> bool {
    matches!(
        name,
        "authorization"
            | "authentication"
            | "cookie"
            | "cookie2"
            | "x-api-key"
            | "api-key"
            | "apikey"
            | "x-apikey"
            | "x-api-token"
            | "x-auth-token"
            | "x-auth-key"
            | "x-auth"
            | "x-authorization"
            | "x-access-token"
            | "x-session-token"
            | "x-amz-security-token"
            | "x-goog-api-key"
            | "x-goog-iam-authorization-token"
            | "x-vault-token"
            | "x-gitlab-token"
            | "private-token"
            | "job-token"
            | "x-shopify-access-token"
            | "x-forwarded-authorization"
            | "x-forwarded-access-token"
    )
}

/// Makes some servers see another method, path, host or sender, take what lies at another path, or answer with a part: half
/// of an echoed secret passes the mask.
fn is_override(name: &str) -> bool {
    matches!(
        name,
        "x-http-method-override"
            | "x-http-method"
            | "x-method-override"
            | "x-original-method"
            | "x-original-url"
            | "x-original-uri"
            | "x-rewrite-url"
            | "x-original-host"
            | "x-host"
            | "x-real-ip"
            | "x-client-ip"
            | "true-client-ip"
            | "cf-connecting-ip"
            | "forwarded"
            | "x-cluster-client-ip"
            | "destination"
            | "range"
            | "if-range"
            | "x-envoy-original-path"
            | "x-ms-original-url"
    ) || name.starts_with("x-forwarded")
        || name.contains("copy-source")
}

fn complete(headers: &mut HeaderMap) {
    // A part of a compressed body cannot be decoded, and a caller that asked for no compression gets none.
    let plain = headers.contains_key(header::RANGE)
        || headers
            .get(header::ACCEPT_ENCODING)
            .is_none_or(|wanted| wanted.as_bytes().eq_ignore_ascii_case(b"identity"));
    headers
        .insert(header::ACCEPT_ENCODING, HeaderValue::from_static(if plain { "identity" } else { "gzip, br, zstd" }));
    headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static("strongroom"));
}

fn refused(detail: impl Into<String>) -> Refusal {
    Refusal::new(Code::HeaderRefused).detail(detail)
}

const METHOD_CHARS_MAX: usize = 32;
const NAME_CHARS_MAX: usize = 128;
const REQUEST_HEADERS_BYTES_MAX: usize = 64 * 1024;

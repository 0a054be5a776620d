//! AWS Signature Version 4, computed by AWS's own crate.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign as sign_request,
};
use aws_sigv4::sign::v4::SigningParams;
use http::header::HeaderName;
use strongroom_wire::{Code, Refusal, Timestamp};

use super::place::{Placed, Plain, header_value, policy_refused};
use crate::mask::Mask;

/// Whose key it is, and for what it signs.
pub(super) struct Scope<'a> {
    pub(super) access_key_id: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

/// The headers that sign `request`.
///
/// # Errors
/// `key_malformed` where the secret is no text; `request_malformed` where the body arrives in pieces, which only S3 takes
/// unsigned.
pub(super) fn sign(scope: &Scope<'_>, secret: &[u8], request: &Plain<'_>) -> Result<Placed, Refusal> {
    let malformed = || Refusal::new(Code::KeyMalformed).detail("The secret access key is not a text.");
    let secret_text = std::str::from_utf8(secret).map_err(|_| malformed())?;
    let is_s3 = scope.service.starts_with("s3");
    let body = match request.body {
        Some(bytes) => SignableBody::Bytes(bytes),
        None if is_s3 => SignableBody::UnsignedPayload,
        None => {
            return Err(Refusal::new(Code::RequestMalformed)
                .detail("This item signs the body, so the body must be inside the request."));
        }
    };
    // The credentials keep the key in a string that wipes itself.
    let identity = Credentials::new(scope.access_key_id, secret_text, None, None, "strongroom").into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region(scope.region)
        .name(scope.service)
        .time(system_time(request.now))
        .settings(settings(is_s3))
        .build()
        .map_err(|_| policy_refused("The item's AWS scope is incomplete."))?;
    let uri = request.target.to_string();
    let signed_headers = request.headers.iter().filter(|(name, _)| is_signed(name));
    let signed_headers = signed_headers.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let signable = SignableRequest::new(request.method.as_str(), uri.as_str(), signed_headers, body)
        .map_err(|_| Refusal::new(Code::RequestMalformed).detail("The request cannot be signed."))?;
    let (instructions, signature) = sign_request(signable, &params.into())
        .map_err(|_| Refusal::new(Code::RequestMalformed).detail("The request cannot be signed."))?
        .into_parts();
    let mut headers = Vec::new();
    for (name, value) in instructions.headers() {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Refusal::new(Code::Bug))?;
        headers.push((name, header_value(&[value.as_bytes()])?));
    }
    Ok(Placed { headers, path_and_query: None, mask: Mask::new(&[secret, signature.as_bytes()]) })
}

/// S3 signs the path as it is and wants a header with the body's hash; everything else normalises and encodes once more.
fn settings(is_s3: bool) -> SigningSettings {
    let mut settings = SigningSettings::default();
    if is_s3 {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    settings
}

/// What proxies leave alone: the type of the body and AWS's own headers.
fn is_signed(name: &HeaderName) -> bool {
    matches!(name.as_str(), "content-type" | "content-md5")
        || (name.as_str().starts_with("x-amz-") && name != "x-amz-user-agent")
}

fn system_time(now: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(now.0)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method};
    use strongroom_wire::target::Target;

    use super::*;

    /// 2015-08-30T12:36:00Z, the time of AWS's examples.
    const NOW: Timestamp = Timestamp(1_440_938_160_000);
    const SECRET: &[u8] = b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn signed(
        method: &Method,
        url: &str,
        content_type: Option<&str>,
        body: Option<&[u8]>,
        service: &str,
    ) -> Result<String, Refusal> {
        let mut headers = HeaderMap::new();
        headers.insert("user-agent", HeaderValue::from_static("not signed"));
        if let Some(content_type) = content_type {
            headers.insert("content-type", HeaderValue::from_str(content_type).expect("a header"));
        }
        let target = Target::parse(url).expect("a URL");
        let plain = Plain { method, target: &target, headers: &headers, body, now: NOW };
        let placed = sign(&Scope { access_key_id: "AKIDEXAMPLE", region: "us-east-1", service }, SECRET, &plain)?;
        let (_, value) = placed.headers.iter().find(|(name, _)| name == "authorization").expect("it is signed");
        assert!(value.is_sensitive() && placed.mask.finds(value.as_bytes()));
        Ok(value.to_str().expect("text").to_owned())
    }

    /// The examples of AWS's Signature Version 4 test suite, and of "Create a signed AWS API request".
    #[test]
    fn published_examples() {
        let get = &Method::GET;
        let form = Some("application/x-www-form-urlencoded");
        for (method, url, content_type, body, service, headers, signature) in [
            (
                get,
                "https://example.amazonaws.com/",
                None,
                &b""[..],
                "service",
                "host;x-amz-date",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                get,
                "https://example.amazonaws.com/?Param2=value2&Param1=value1",
                None,
                b"",
                "service",
                "host;x-amz-date",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                &Method::POST,
                "https://example.amazonaws.com/",
                None,
                b"",
                "service",
                "host;x-amz-date",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                &Method::POST,
                "https://example.amazonaws.com/",
                form,
                b"Param1=value1",
                "service",
                "content-type;host;x-amz-date",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
            (
                get,
                "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08",
                Some("application/x-www-form-urlencoded; charset=utf-8"),
                b"",
                "iam",
                "content-type;host;x-amz-date",
                "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
            ),
        ] {
            let expected = format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/{service}/aws4_request, SignedHeaders={headers}, Signature={signature}"
            );
            assert_eq!(signed(method, url, content_type, Some(body), service), Ok(expected), "{url}");
        }
    }

    #[test]
    fn only_s3_takes_an_unsigned_body() {
        let put = |service| {
            signed(&Method::PUT, "https://bucket.s3.amazonaws.com/a%20b", None, None, service)
                .map(drop)
                .map_err(|refusal| refusal.code)
        };
        assert_eq!(put("s3"), Ok(()));
        assert_eq!(put("iam"), Err(Code::RequestMalformed));
    }
}

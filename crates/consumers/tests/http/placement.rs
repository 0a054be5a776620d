//! Each way of placing a secret, as the called host sees it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ring::{digest, hmac};
use strongroom_consumers::http::BodySource;
use strongroom_wire::Code;
use strongroom_wire::policy::{Hash, HmacPart, HmacPlacement, Placement, TagEncoding};

use crate::support::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

async fn placed(speaks: Speaks, ask: impl FnOnce(&Server) -> Ask, body: BodySource) -> (Seen, String) {
    let server = Server::start(speaks, |_| text("ok")).await;
    let ask = ask(&server);
    let answered = ask.run_with(&engine(), body).await.ok();
    assert_eq!(answered.text(), "ok");
    let authority = format!("api.test:{}", server.port);
    let seen = server.only();
    assert_eq!(seen.host, authority);
    (seen, authority)
}

#[tokio::test]
async fn bearer() {
    for speaks in BOTH {
        let (seen, _) =
            placed(speaks, |server| Ask::get(server.url("/v1?a=b")).header("x-own", "1"), BodySource::Empty).await;
        assert_eq!(seen.header("authorization"), Some(format!("Bearer {SECRET}").as_str()));
        assert_eq!((seen.uri.as_str(), seen.header("x-own")), ("/v1?a=b", Some("1")));
        assert_eq!(seen.header("user-agent"), Some("strongroom"));
        assert_eq!(seen.header("accept-encoding"), Some("identity"));
        assert_eq!(seen.header("content-length"), None);
    }
}

#[tokio::test]
async fn basic() {
    for speaks in BOTH {
        let placement = Placement::Basic { username: "ann".into() };
        let (seen, _) = placed(speaks, |server| Ask::get(server.url("/")).placed(placement), BodySource::Empty).await;
        assert_eq!(
            seen.header("authorization"),
            Some(format!("Basic {}", STANDARD.encode(format!("ann:{SECRET}"))).as_str())
        );
    }
}

#[tokio::test]
async fn header_with_prefix() {
    for speaks in BOTH {
        let placement = Placement::Header { name: "X-Api-Key".into(), prefix: "token ".into() };
        let (seen, _) = placed(speaks, |server| Ask::get(server.url("/")).placed(placement), BodySource::Empty).await;
        assert_eq!(seen.header("x-api-key"), Some(format!("token {SECRET}").as_str()));
        assert_eq!(seen.header("authorization"), None);
    }
}

#[tokio::test]
async fn query() {
    for speaks in BOTH {
        for (path, expected) in [("/v1", "/v1?"), ("/v1?a=b", "/v1?a=b&"), ("/", "/?")] {
            let server = Server::start(speaks, |_| text("ok")).await;
            let mut ask = Ask::get(server.url(path)).placed(Placement::Query { name: "api key".into() });
            ask.secret = b"sk/live+0123456789 &=%?#\xc3\xbc".to_vec();
            let answered = ask.run(&engine()).await.ok();
            assert_eq!(
                server.only().uri,
                format!("{expected}api%20key=sk%2Flive%2B0123456789%20%26%3D%25%3F%23%C3%BC")
            );
            assert_eq!(answered.head.unwrap().url, server.url(path), "the caller sees its own URL");
        }
    }
}

#[tokio::test]
async fn a_query_parameter_of_the_same_name_is_refused() {
    let server = Server::start(Speaks::Http1, |_| text("ok")).await;
    for query in ["key=mine", "a=b&KEY", "k%65y=x", "key[]=x"] {
        let ask = Ask::get(server.url(&format!("/?{query}"))).placed(Placement::Query { name: "key".into() });
        let (code, outcome) = ask.refused(&engine()).await;
        assert_eq!((code, outcome.sent_anything), (Code::UrlRefused, false), "{query}");
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn an_hmac_covers_what_the_item_says() {
    let placement = |parts: Vec<HmacPart>| {
        Placement::Hmac(HmacPlacement {
            hash: Hash::Sha256,
            header: "X-Signature".into(),
            prefix: "sha256=".into(),
            encoding: TagEncoding::Hex,
            parts,
            timestamp_header: Some("X-Timestamp".into()),
        })
    };
    let all = vec![
        HmacPart::Method,
        HmacPart::Host,
        HmacPart::Path,
        HmacPart::Query,
        HmacPart::Timestamp,
        HmacPart::Body,
        HmacPart::BodySha256,
    ];
    for speaks in BOTH {
        let body = BodySource::Inline(Bytes::from_static(b"{\"a\":1}"));
        let (seen, authority) =
            placed(speaks, |server| Ask::post(server.url("/v1/x?y=z")).placed(placement(all.clone())), body).await;
        let time = (NOW.0 / 1_000).to_string();
        let body_hash = hex(digest::digest(&digest::SHA256, b"{\"a\":1}").as_ref());
        let message = format!("POST\n{authority}\n/v1/x\ny=z\n{time}\n{{\"a\":1}}\n{body_hash}");
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), message.as_bytes());
        assert_eq!(seen.header("x-signature"), Some(format!("sha256={}", hex(tag.as_ref())).as_str()));
        assert_eq!(seen.header("x-timestamp"), Some(time.as_str()));
        assert_eq!(seen.body, "{\"a\":1}");
    }
    // A body that streams cannot be signed.
    let server = Server::start(Speaks::Http1, |_| text("ok")).await;
    let (_sender, body) = BodySource::stream(None);
    let answered = Ask::post(server.url("/")).placed(placement(all)).run_with(&engine(), body).await;
    assert_eq!(answered.outcome.error.unwrap().code, Code::RequestMalformed);
    assert!(!answered.outcome.sent_anything && server.seen().is_empty());
}

#[tokio::test]
async fn aws_signature_version_4() {
    for (speaks, service) in [(Speaks::Http1, "execute-api"), (Speaks::Http2, "s3")] {
        let placement = Placement::AwsSigV4 {
            access_key_id: "AKIDEXAMPLE".into(),
            region: "eu-central-1".into(),
            service: service.into(),
        };
        let body = BodySource::Inline(Bytes::from_static(b"body"));
        let ask = |server: &Server| {
            Ask::post(server.url("/v1/a%20b?b=2&a=1")).placed(placement).header("x-amz-target", "T.List")
        };
        let (seen, _) = placed(speaks, ask, body).await;
        let authorization = seen.header("authorization").unwrap();
        let scope = format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/eu-central-1/{service}/aws4_request, SignedHeaders=host;"
        );
        assert!(authorization.starts_with(&scope), "{authorization}");
        assert!(authorization.contains("x-amz-target"));
        assert_eq!(seen.header("x-amz-date"), Some("20260101T000000Z"));
        assert_eq!(seen.header("x-amz-content-sha256").is_some(), service == "s3");
    }
}

#[tokio::test]
async fn a_secret_that_does_not_fit_is_not_echoed() {
    let server = Server::start(Speaks::Http1, |_| text("ok")).await;
    for secret in [
        &b"0123456789abcdef\n"[..],
        b"0123456789\r\nX: abcdef",
        b"0123456789abcde\x00",
        b" 0123456789abcdefg",
        b"0123456789abcdefg\t",
        b"",
    ] {
        for placement in [Placement::Bearer, Placement::Header { name: "x-key".into(), prefix: String::new() }] {
            let mut ask = Ask::get(server.url("/")).placed(placement);
            ask.secret = secret.to_vec();
            ask.for_guest = false;
            let refusal = ask.run(&engine()).await.outcome.error.unwrap();
            assert_eq!(refusal.code, Code::KeyMalformed);
            assert!(!refusal.to_string().contains("0123"));
        }
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_policy_cannot_place_a_secret_in_a_framing_header() {
    let server = Server::start(Speaks::Http1, |_| text("ok")).await;
    for name in [
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Upgrade",
        "Proxy-Authorization",
        "TE",
        "not a name",
        "",
    ] {
        let ask = Ask::get(server.url("/")).placed(Placement::Header { name: name.into(), prefix: String::new() });
        assert_eq!(ask.refused(&engine()).await.0, Code::ValueRefused, "{name}");
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_short_secret_is_not_for_guests() {
    let server = Server::start(Speaks::Http1, |_| text("ok")).await;
    let mut ask = Ask::get(server.url("/"));
    ask.secret = b"fifteen-letters".to_vec();
    let (code, outcome) = ask.refused(&engine()).await;
    assert_eq!((code, outcome.sent_anything), (Code::SecretTooShort, false));
    ask.allow_short = true;
    ask.run(&engine()).await.ok();
    ask.allow_short = false;
    ask.for_guest = false;
    ask.run(&engine()).await.ok();
}

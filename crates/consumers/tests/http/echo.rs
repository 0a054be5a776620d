//! Hosts that say the secret back.

use async_compression::tokio::write::{BrotliEncoder, GzipEncoder, ZstdEncoder};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use strongroom_consumers::http::BodySource;
use strongroom_wire::policy::{Hash, HmacPart, HmacPlacement, Placement, TagEncoding};
use tokio::io::AsyncWriteExt as _;

use crate::support::*;

/// What is left of a secret must not be found in any of these spellings.
fn assert_clean(text: &[u8], secret: &str) {
    let hex: String = secret.bytes().map(|b| format!("{b:02x}")).collect();
    let core = |skip: usize| {
        let text = STANDARD.encode([&b"xxx"[..skip], secret.as_bytes()].concat());
        text[(skip * 8).div_ceil(6)..text.len() - 4].to_owned()
    };
    let percent: String = secret.bytes().map(|b| format!("%{b:02X}")).collect();
    let unicode: String = secret.bytes().map(|b| format!("\\u{b:04x}")).collect();
    for spelled in [
        secret.to_owned(),
        hex.to_uppercase(),
        hex,
        core(0),
        core(1),
        core(2),
        percent.to_lowercase(),
        percent,
        unicode,
    ] {
        assert!(
            !text.windows(spelled.len()).any(|window| window == spelled.as_bytes()),
            "{spelled} in {}",
            String::from_utf8_lossy(text)
        );
    }
}

async fn encode(encoding: &str, body: &[u8]) -> Bytes {
    macro_rules! encode {
        ($encoder:ident, $body:expr) => {{
            let mut encoder = $encoder::new(Vec::new());
            encoder.write_all($body).await.unwrap();
            encoder.shutdown().await.unwrap();
            encoder.into_inner()
        }};
    }
    match encoding {
        "gzip" => encode!(GzipEncoder, body),
        "br" => encode!(BrotliEncoder, body),
        "zstd" => encode!(ZstdEncoder, body),
        "br, gzip" => {
            let inner = encode!(BrotliEncoder, body);
            encode!(GzipEncoder, &inner)
        }
        _ => body.to_vec(),
    }
    .into()
}

fn every_spelling(secret: &str) -> String {
    let hex: String = secret.bytes().map(|b| format!("{b:02x}")).collect();
    let percent: String = secret.bytes().map(|b| format!("%{b:02x}")).collect();
    let unicode: String = secret.bytes().map(|b| format!("\\u{b:04X}")).collect();
    let base64 = (0..3).map(|skip| STANDARD.encode([&b"xyz"[..skip], secret.as_bytes(), b"tail"].concat()));
    let url = (0..3).map(|skip| URL_SAFE_NO_PAD.encode([&b"xyz"[..skip], secret.as_bytes()].concat()));
    let all: Vec<String> =
        [secret.to_owned(), hex.to_uppercase(), hex, percent, unicode].into_iter().chain(base64).chain(url).collect();
    all.join(" and ")
}

#[tokio::test]
async fn in_every_spelling_and_encoding() {
    for speaks in BOTH {
        for encoding in ["identity", "gzip", "br", "zstd", "br, gzip"] {
            let spelled = every_spelling(SECRET);
            let padding = "plain text, left alone. ".repeat(1_000);
            let body = encode(encoding, format!("{padding}{spelled} {padding}").as_bytes()).await;
            let server = Server::start(speaks, move |_| {
                reply(200, &[("content-encoding", encoding), ("etag", "x")], body.clone())
            })
            .await;
            let answered =
                Ask::get(server.url("/")).header("accept-encoding", "gzip, br, zstd").run(&engine()).await.ok();
            let text = answered.text();
            assert_clean(text.as_bytes(), SECRET);
            assert_eq!(text.matches(MASKED).count(), 11, "{encoding}");
            assert!(text.starts_with(&padding) && text.ends_with(&padding));
            assert_eq!((answered.header("content-length"), answered.header("etag")), (None, Some("x")));
            assert_eq!(
                answered.header("content-encoding"),
                if encoding == "identity" { Some("identity") } else { None }
            );
        }
    }
}

#[tokio::test]
async fn in_headers() {
    for speaks in BOTH {
        let server = Server::start(speaks, |_| {
            let spelled = every_spelling(SECRET);
            reply(
                200,
                &[("x-echo", &spelled), ("link", &format!("<https://a.test/?k={SECRET}>; rel=next")), (SECRET, "y")],
                "",
            )
        })
        .await;
        let answered = Ask::get(server.url("/")).run(&engine()).await.ok();
        let head = answered.head.as_ref().unwrap();
        for (name, value) in &head.headers {
            assert_clean(name.as_bytes(), SECRET);
            assert_clean(value.as_bytes(), SECRET);
        }
        assert_eq!(answered.header("link"), Some(format!("<https://a.test/?k={MASKED}>; rel=next").as_str()));
    }
}

/// Everything the host got, said back.
async fn mirror(speaks: Speaks) -> Server {
    Server::start(speaks, |seen| text(format!("{} {} {:?}", seen.method, seen.uri, seen.headers))).await
}

#[tokio::test]
async fn what_was_computed_from_it() {
    for speaks in BOTH {
        let server = mirror(speaks).await;
        let hmac = Placement::Hmac(HmacPlacement {
            hash: Hash::Sha1,
            header: "x-tag".into(),
            prefix: "v0=".into(),
            encoding: TagEncoding::Base64,
            parts: vec![HmacPart::Method, HmacPart::Path],
            timestamp_header: None,
        });
        for placement in [
            Placement::Bearer,
            Placement::Basic { username: "ann".into() },
            Placement::Header { name: "x-key".into(), prefix: "t ".into() },
            Placement::Query { name: "key".into() },
            hmac,
            Placement::AwsSigV4 { access_key_id: "AKID".into(), region: "r".into(), service: "s".into() },
        ] {
            let answered = Ask::get(server.url("/x")).placed(placement.clone()).run(&engine()).await.ok();
            let text = answered.text();
            assert_eq!(text.matches(MASKED).count(), 1, "{placement:?}: {text}");
            let seen = server.seen().pop().unwrap();
            let name = match &placement {
                Placement::Query { .. } => continue,
                Placement::Header { .. } => "x-key",
                Placement::Hmac(_) => "x-tag",
                _ => "authorization",
            };
            let sent = seen.header(name).unwrap();
            let tail = sent.rsplit(['=', ' ']).find(|part| !part.is_empty()).unwrap();
            assert!(!text.contains(tail), "{placement:?}: {text}");
        }
    }
}

/// What a guest sends comes back as it was, if it is not the secret.
#[tokio::test]
async fn other_text_is_left_alone() {
    let server = Server::start(Speaks::Http2, |seen| text(seen.body.clone())).await;
    let body = format!("{}\u{0}%41\\u0041\r\n{}", &SECRET[..SECRET.len() - 1], &SECRET[1..]);
    let answered =
        Ask::post(server.url("/")).run_with(&engine(), BodySource::Inline(Bytes::from(body.clone()))).await.ok();
    assert_eq!(answered.text(), body);
}

/// The mask also holds for the member: the member's own screen holds references.
#[tokio::test]
async fn for_the_member_too() {
    let server = mirror(Speaks::Http1).await;
    let answered = Ask { for_guest: false, ..Ask::get(server.url("/")) }.run(&engine()).await.ok();
    assert_clean(&answered.body(), SECRET);
}

//! What a guest may set, and what it gets back.

use bytes::Bytes;
use strongroom_consumers::http::BodySource;
use strongroom_wire::Code;
use strongroom_wire::policy::{Hash, HmacPlacement, Placement, TagEncoding};

use crate::support::*;

#[tokio::test]
async fn headers_that_are_not_for_guests() {
    let server = Server::start(Speaks::Http1, |_| text("ok")).await;
    let engine = engine();
    for name in [
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Keep-Alive",
        "Proxy-Authorization",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Upgrade",
        "Expect",
        "HTTP2-Settings",
        "Authorization",
        "AUTHORIZATION",
        "Cookie",
        "X-Api-Key",
        "x_api_key",
        "Content_Length",
        "X-HTTP-Method-Override",
        "X_HTTP_Method_Override",
        "X-Original-URL",
        "X-Envoy-Original-Path",
        "x-amz-copy-source",
        "X-Ms-Copy-Source-Range",
        "Range",
        "If-Range",
        "X-Forwarded",
        "X-Forwarded-Host",
        "Forwarded",
        ":authority",
        ":path",
        "a b",
        "a:b",
        "a\r\nb",
        "",
        "ü",
    ] {
        let (code, outcome) = Ask::get(server.url("/")).header(name, "1").refused(&engine).await;
        assert_eq!((code, outcome.sent_anything), (Code::HeaderRefused, false), "{name}");
    }
    for value in ["a\r\nX: b", "a\nb", "a\0b", "\u{7f}", " a", "a ", "a\r", "\ta"] {
        assert_eq!(
            Ask::get(server.url("/")).header("x-own", value).refused(&engine).await.0,
            Code::HeaderRefused,
            "{value:?}"
        );
    }
    assert!(server.seen().is_empty());
    Ask::get(server.url("/")).header("x-own", "a\tb ü").header("x-own", "").run(&engine).await.ok();
    assert_eq!(server.only().header("x-own"), Some("a\tb ü"));
}

#[tokio::test]
async fn headers_of_the_placement_are_nobodys() {
    let server = Server::start(Speaks::Http1, |_| text("ok")).await;
    let hmac = Placement::Hmac(HmacPlacement {
        hash: Hash::Sha512,
        header: "X-Tag".into(),
        prefix: String::new(),
        encoding: TagEncoding::Base64,
        parts: Vec::new(),
        timestamp_header: Some("X-Time".into()),
    });
    let aws = Placement::AwsSigV4 { access_key_id: "A".into(), region: "r".into(), service: "s".into() };
    let own = Placement::Header { name: "X-My_Key".into(), prefix: String::new() };
    for (placement, name) in [
        (hmac.clone(), "x-tag"),
        (hmac, "X_TIME"),
        (aws.clone(), "X-Amz-Date"),
        (aws.clone(), "x-amz-content-sha256"),
        (aws, "Authorization"),
        (own.clone(), "x-my-key"),
        (own, "X_My_Key"),
        (Placement::Bearer, "authorization"),
    ] {
        for for_guest in [true, false] {
            let ask = Ask { for_guest, ..Ask::get(server.url("/")).placed(placement.clone()).header(name, "1") };
            assert_eq!(ask.refused(&engine()).await.0, Code::HeaderRefused, "{name}");
        }
    }
}

#[tokio::test]
async fn the_member_may_set_what_guests_may_not() {
    let server = Server::start(Speaks::Http1, |_| text("ok")).await;
    let ask = Ask { for_guest: false, ..Ask::get(server.url("/")).header("Cookie", "a=b").header("X-Api-Key", "mine") };
    ask.run(&engine()).await.ok();
    assert_eq!(server.only().header("cookie"), Some("a=b"));
    let ask = Ask { for_guest: false, ..Ask::get(server.url("/")).header("Host", "other.test") };
    assert_eq!(ask.refused(&engine()).await.0, Code::HeaderRefused);
}

#[tokio::test]
async fn headers_are_counted() {
    let server = Server::start(Speaks::Http1, |_| text("ok")).await;
    let many = |count: usize, len: usize| {
        (0..count).fold(Ask::get(server.url("/")), |ask, n| ask.header(&format!("x-{n}"), &"a".repeat(len)))
    };
    assert_eq!(many(129, 1).refused(&engine()).await.0, Code::HeaderRefused);
    assert_eq!(many(1, 16 * 1024 + 1).refused(&engine()).await.0, Code::HeaderRefused);
    assert_eq!(many(5, 16 * 1024).refused(&engine()).await.0, Code::HeaderRefused);
    many(90, 100).run(&engine()).await.ok();
}

#[tokio::test]
async fn methods() {
    let server = Server::start(Speaks::Http1, |_| text("ok")).await;
    for (method, code) in [
        ("get", Code::RequestMalformed),
        ("G T", Code::RequestMalformed),
        ("", Code::RequestMalformed),
        ("GET\r\n", Code::RequestMalformed),
        ("TRACE", Code::LimitMethod),
        ("CONNECT", Code::LimitMethod),
        ("OPTIONS", Code::LimitMethod),
    ] {
        let ask = Ask { method, ..Ask::get(server.url("/")) };
        assert_eq!(ask.refused(&engine()).await.0, code, "{method}");
    }
    let mut ask = Ask::get(server.url("/admin"));
    ask.limits.path_prefixes = vec!["/v1".into()];
    assert_eq!(ask.refused(&engine()).await.0, Code::LimitPath);
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn cookies_and_connection_headers_stay_behind() {
    for speaks in BOTH {
        let server = Server::start(speaks, move |_| {
            let hop: &[(&str, &str)] = if speaks == Speaks::Http1 {
                &[("connection", "x-hop"), ("keep-alive", "5"), ("proxy-authenticate", "x")]
            } else {
                &[]
            };
            let headers = [
                &[
                    ("set-cookie", "a=b"),
                    ("set-cookie", "c=d"),
                    ("x-own", "1"),
                    ("x-hop", "1"),
                    ("content-type", "text/plain"),
                ],
                hop,
            ]
            .concat();
            reply(200, &headers, "body")
        })
        .await;
        let mut ask = Ask::get(server.url("/"));
        let names = |answered: &Answered| {
            let mut names: Vec<String> =
                answered.head.as_ref().unwrap().headers.iter().map(|(name, _)| name.clone()).collect();
            names.retain(|name| name != "date" && name != "x-hop");
            names.sort();
            names
        };
        let answered = ask.run(&engine()).await.ok();
        assert_eq!(names(&answered), ["content-type", "x-own"]);
        assert_eq!(answered.header("x-hop").is_none(), speaks == Speaks::Http1, "named by Connection");
        ask.limits.set_cookie = true;
        assert_eq!(names(&ask.run(&engine()).await.ok()), ["content-type", "set-cookie", "set-cookie", "x-own"]);
    }
}

#[tokio::test]
async fn bodies_are_limited_both_ways() {
    for speaks in BOTH {
        let server = Server::start(speaks, |_| text(vec![b'x'; 1_001])).await;
        let mut ask = Ask::post(server.url("/"));
        ask.limits.body_bytes_max = Some(1_000);
        let run = |body| {
            let ask = ask.clone();
            async move { ask.run_with(&engine(), body).await }
        };
        // Known to be too long: nothing is sent.
        let answered = run(BodySource::Inline(Bytes::from(vec![0; 1_001]))).await;
        assert_eq!((answered.outcome.error.unwrap().code, answered.outcome.sent_anything), (Code::LimitBytes, false));
        let (_sender, body) = BodySource::stream(Some(1_001));
        let answered = run(body).await;
        assert_eq!((answered.outcome.error.unwrap().code, answered.outcome.sent_anything), (Code::LimitBytes, false));
        assert!(server.seen().is_empty());
        // Found to be too long on the way.
        let (sender, body) = BodySource::stream(None);
        let send = async move { while sender.send(Bytes::from_static(&[0; 400])).await.is_ok() {} };
        let (answered, ()) = futures_util::future::join(run(body), send).await;
        assert_eq!((answered.outcome.error.unwrap().code, answered.outcome.sent_anything), (Code::LimitBytes, true));
        assert!(answered.sent <= 1_000);
        // The answer.
        let answered = run(BodySource::Empty).await;
        assert_eq!(answered.outcome.error.as_ref().unwrap().code, Code::LimitBytes);
        assert!(answered.body().len() <= 1_000);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_no_complete_request() {
    for speaks in BOTH {
        for (length, pieces, finish, code) in [
            (None, 2, false, Code::Cancelled),
            (Some(8), 1, true, Code::RequestMalformed),
            (Some(8), 3, true, Code::RequestMalformed),
            (Some(8), 1, false, Code::Cancelled),
        ] {
            let server = Server::start(speaks, |_| text("ok")).await;
            let (sender, body) = BodySource::stream(length);
            let send = async move {
                for _ in 0..pieces {
                    let _ = sender.send(Bytes::from_static(b"abcd")).await;
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
                if finish {
                    sender.finish();
                }
            };
            let engine = impatient();
            let ask = Ask::post(server.url("/"));
            let (answered, ()) = futures_util::future::join(ask.run_with(&engine, body), send).await;
            assert!(
                server.seen().iter().all(|seen| seen.body.len() == 8 && pieces == 3),
                "{speaks:?} {length:?} {pieces}"
            );
            if pieces != 3 {
                assert_eq!(answered.outcome.error.unwrap().code, code, "{speaks:?} {length:?} {pieces}");
            }
        }
    }
}

#[tokio::test]
async fn empty_bodies_of_post_have_a_length() {
    let server = Server::start(Speaks::Http1, |_| text("ok")).await;
    Ask::post(server.url("/")).run(&engine()).await.ok();
    assert_eq!(server.only().header("content-length"), Some("0"));
}

#[tokio::test]
async fn answers_without_a_body() {
    for speaks in BOTH {
        let server = Server::start(speaks, |seen| match seen.uri.as_str() {
            "/204" => reply(204, &[], ""),
            "/304" => reply(304, &[("etag", "x")], ""),
            "/gzip" => reply(200, &[("content-encoding", "gzip")], ""),
            _ => reply(200, &[("content-encoding", "gzip"), ("content-length", "123"), ("x-own", "1")], ""),
        })
        .await;
        let engine = engine();
        for path in ["/204", "/304", "/gzip"] {
            let answered = Ask::get(server.url(path)).run(&engine).await.ok();
            assert!(answered.chunks.is_empty(), "{path}");
        }
        let head = Ask { method: "HEAD", ..Ask::get(server.url("/head")) };
        let answered = head.run(&engine).await.ok();
        assert_eq!((answered.header("x-own"), answered.chunks.len()), (Some("1"), 0));
        assert_eq!(server.connections(), 1, "{speaks:?}: connections are kept after each");
    }
}

#[tokio::test]
async fn encodings_are_asked_for_only_where_they_can_be_undone() {
    let server = Server::start(Speaks::Http1, |_| text("ok")).await;
    for (headers, expected) in [
        (vec![("accept-encoding", "deflate, sdch")], "gzip, br, zstd"),
        (vec![("accept-encoding", "identity")], "identity"),
        (vec![("accept-encoding", "gzip"), ("range", "bytes=0-9")], "identity"),
        (vec![], "identity"),
    ] {
        let member = Ask { for_guest: false, ..Ask::get(server.url("/")) };
        let ask = headers.iter().fold(member, |ask, (name, value)| ask.header(name, value));
        ask.run(&engine()).await.ok();
        assert_eq!(server.seen().pop().unwrap().header("accept-encoding"), Some(expected));
    }
}

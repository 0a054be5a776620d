//! Hosts that break rules: every one ends in a refusal, none in the secret, a panic, or memory without bound.

use std::sync::Arc;
use std::time::Duration;

use async_compression::tokio::write::{BrotliEncoder, GzipEncoder, ZstdEncoder};
use strongroom_wire::Code;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use crate::support::*;

/// A server that reads something and then sends these bytes.
async fn saying(bytes: impl Into<Vec<u8>>) -> Server {
    let bytes = Arc::new(bytes.into());
    Server::start_raw(Speaks::Http1, "api.test", move |_, mut stream| {
        let bytes = Arc::clone(&bytes);
        async move {
            let mut request = [0; 8192];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

async fn refusal_of(server: &Server) -> (Code, Answered) {
    let answered = Ask::get(server.url("/")).run(&impatient()).await;
    let code = answered.outcome.error.clone().expect("it is refused").code;
    (code, answered)
}

#[tokio::test]
async fn certificates_that_prove_nothing() {
    let start = |config: rustls::ServerConfig| async {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Server::start_tcp(move |_, stream| {
            let acceptor = acceptor.clone();
            async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                    sleep(Duration::from_secs(1)).await;
                }
            }
        })
        .await
    };
    let wrong_name = start(authority().server("other.test", 2030, Speaks::Http1)).await;
    let expired = start(authority().server("api.test", 2025, Speaks::Http1)).await;
    let stranger = start(Authority::new().server("api.test", 2030, Speaks::Http1)).await;
    for (server, detail) in [
        (wrong_name, "The host's certificate is for another name."),
        (expired, "The host's certificate has expired."),
        (stranger, "The host's certificate comes from an issuer that is not trusted."),
    ] {
        let refusal = Ask::get(server.url("/")).run(&engine()).await.outcome;
        assert!(!refusal.sent_anything);
        let refusal = refusal.error.unwrap();
        // An authority made by the tests has the same name each time, so a stranger's signature fails instead.
        assert_eq!(refusal.code, Code::TlsFailed);
        if !detail.contains("issuer") {
            assert_eq!(refusal.detail.as_deref(), Some(detail));
        }
    }
    // The public roots know nothing of the tests' authority.
    let server = Server::start(Speaks::Http1, |_| text("ok")).await;
    let public = Ask { roots: None, ..Ask::get(server.url("/")) };
    assert_eq!(public.refused(&engine()).await.0, Code::TlsFailed);
    let unreadable = Ask {
        roots: Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into()),
        ..Ask::get(server.url("/"))
    };
    assert_eq!(unreadable.refused(&engine()).await.0, Code::TlsFailed);
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn plain_http_behind_the_tunnel() {
    let server = Server::start_tcp(|_, mut stream| async move {
        let mut hello = [0; 1024];
        let read = stream.read(&mut hello).await.unwrap_or(0);
        assert!(!hello[..read].windows(8).any(|window| window == &SECRET.as_bytes()[..8]));
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    })
    .await;
    let (code, answered) = refusal_of(&server).await;
    assert_eq!((code, answered.outcome.sent_anything), (Code::TlsFailed, false));
    let silent = Server::start_tcp(|_, stream| async move {
        sleep(Duration::from_secs(2)).await;
        drop(stream);
    })
    .await;
    assert_eq!(refusal_of(&silent).await.0, Code::ConnectFailed);
    let closing = Server::start_tcp(|_, stream| async move { drop(stream) }).await;
    assert_eq!(refusal_of(&closing).await.0, Code::ConnectFailed);
}

#[tokio::test]
async fn heads_that_are_none() {
    for bytes in [
        &b""[..],
        b"HTTP/1.1",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nX: y\r\n",
        b"\x00\x01\x02\x03\x04\x05\x06\x07\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/3.7 200 OK\r\n\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbroken header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\rY: b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2x\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ] {
        let server = saying(bytes).await;
        let (code, answered) = refusal_of(&server).await;
        assert_eq!(code, Code::HttpFailed, "{:?}", String::from_utf8_lossy(bytes));
        assert!(answered.outcome.sent_anything && answered.head.is_none());
    }
}

#[tokio::test]
async fn interim_answers_are_skipped() {
    let server = saying(&b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"[..]).await;
    let answered = Ask::get(server.url("/")).run(&engine()).await.ok();
    assert_eq!((answered.text().as_str(), answered.header("link")), ("ok", None));
}

#[tokio::test]
async fn bodies_that_break_off() {
    for bytes in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: zstd\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 3\r\n\r\n\xff\xff\xff",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 12\r\n\r\n\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03ab",
    ] {
        let server = saying(bytes).await;
        let (code, answered) = refusal_of(&server).await;
        assert_eq!(code, Code::HttpFailed, "{:?}", String::from_utf8_lossy(bytes));
        assert_eq!(answered.outcome.status, Some(200));
    }
}

#[tokio::test]
async fn trailers_are_dropped() {
    let server =
        saying(&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n"[..])
            .await;
    let answered = Ask::get(server.url("/")).run(&engine()).await.ok();
    assert_eq!((answered.text().as_str(), answered.header("x"), answered.header("trailer")), ("ok", None, None));
}

#[tokio::test]
async fn heads_without_end() {
    let endless = Server::start_raw(Speaks::Http1, "api.test", |_, mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        let mut n = 0_u64;
        while stream.write_all(format!("X-{n}: {n}\r\n").as_bytes()).await.is_ok() {
            n += 1;
        }
    })
    .await;
    assert_eq!(refusal_of(&endless).await.0, Code::HttpFailed);
    let interim = Server::start_raw(Speaks::Http1, "api.test", |_, mut stream| async move {
        while stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_ok() {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert_eq!(refusal_of(&interim).await.0, Code::HttpFailed);
    let mut gigantic = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
    gigantic.resize(10 << 20, b'a');
    assert_eq!(refusal_of(&saying(gigantic).await).await.0, Code::HttpFailed);
    let mut large = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
    large.resize(20 << 10, b'a');
    large.extend_from_slice(b"\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(refusal_of(&saying(large).await).await.0, Code::HttpFailed);
    let many = (0..200).fold("HTTP/1.1 200 OK\r\n".to_owned(), |head, n| head + &format!("X-{n}: y\r\n")) + "\r\n";
    assert_eq!(refusal_of(&saying(many).await).await.0, Code::HttpFailed);
    for speaks in BOTH {
        let many = Server::start(speaks, |_| {
            let names: Vec<String> = (0..140).map(|n| format!("x-{n}")).collect();
            reply(200, &names.iter().map(|name| (name.as_str(), "y")).collect::<Vec<_>>(), "")
        })
        .await;
        assert_eq!(refusal_of(&many).await.0, Code::HttpFailed, "{speaks:?}");
        let large = Server::start(speaks, |_| reply(200, &[("x", &"y".repeat(20 << 10))], "")).await;
        assert_eq!(refusal_of(&large).await.0, Code::HttpFailed, "{speaks:?}");
    }
}

#[tokio::test]
async fn hosts_that_stall() {
    let no_head = Server::start_raw(Speaks::Http1, "api.test", |_, mut stream| async move {
        for byte in b"HTTP/1.1 200 OK\r\nX-Slow: loris, one byte at a time\r\n" {
            let _ = stream.write_all(&[*byte]).await;
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let start = std::time::Instant::now();
    assert_eq!(refusal_of(&no_head).await.0, Code::HttpFailed);
    assert!(start.elapsed() < Duration::from_secs(2));
    let no_body = Server::start_raw(Speaks::Http1, "api.test", |_, mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").await;
        sleep(Duration::from_secs(5)).await;
    })
    .await;
    let (code, answered) = refusal_of(&no_body).await;
    assert_eq!((code, answered.outcome.status), (Code::HttpFailed, Some(200)));
    for speaks in BOTH {
        let silent = Server::start_streaming(speaks, |_, _| async {
            sleep(Duration::from_secs(5)).await;
            text("late")
        })
        .await;
        assert_eq!(refusal_of(&silent).await.0, Code::HttpFailed, "{speaks:?}");
    }
}

/// 64 MiB of zeros in a few KiB.
async fn bomb(encoding: &str) -> Vec<u8> {
    let zeros = vec![0; 1 << 20];
    macro_rules! encode {
        ($encoder:ident) => {{
            let mut encoder = $encoder::new(Vec::new());
            for _ in 0..64 {
                encoder.write_all(&zeros).await.unwrap();
            }
            encoder.shutdown().await.unwrap();
            encoder.into_inner()
        }};
    }
    match encoding {
        "gzip" => encode!(GzipEncoder),
        "br" => encode!(BrotliEncoder),
        _ => encode!(ZstdEncoder),
    }
}

#[tokio::test]
async fn compressed_bombs_meet_the_limit() {
    for encoding in ["gzip", "br", "zstd"] {
        let body = bomb(encoding).await;
        assert!(body.len() < 100 << 10, "{encoding}: {}", body.len());
        let server =
            Server::start(Speaks::Http2, move |_| reply(200, &[("content-encoding", encoding)], body.clone())).await;
        let mut ask = Ask::get(server.url("/"));
        ask.limits.body_bytes_max = Some(1 << 20);
        let answered = ask.run(&engine()).await;
        assert_eq!(answered.outcome.error.as_ref().unwrap().code, Code::LimitBytes, "{encoding}");
        assert!(answered.body().len() <= 1 << 20);
        assert!(answered.received < (1 << 20) + (64 << 10), "it was not decoded further");
    }
    // Twice compressed is undone twice; three times is refused.
    let nested = |layers: &'static str| async move {
        Server::start(Speaks::Http1, move |_| reply(200, &[("content-encoding", layers)], "x")).await
    };
    assert_eq!(refusal_of(&nested("gzip, gzip, gzip").await).await.0, Code::HttpFailed);
    assert_eq!(refusal_of(&nested("deflate").await).await.0, Code::HttpFailed);
    assert_eq!(refusal_of(&nested("gzip, aes128gcm").await).await.0, Code::HttpFailed);
}

/// A zstd frame that asks for a window of 128 MiB.
#[tokio::test]
async fn a_large_window_is_refused() {
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x88, 0x01, 0x00, 0x00];
    let server =
        Server::start(Speaks::Http1, move |_| reply(200, &[("content-encoding", "zstd")], frame.to_vec())).await;
    assert_eq!(refusal_of(&server).await.0, Code::HttpFailed);
}

#[tokio::test]
async fn the_member_gets_an_unknown_encoding_as_it_is() {
    let server = Server::start(Speaks::Http1, |_| reply(200, &[("content-encoding", "deflate")], "raw")).await;
    let answered = Ask { for_guest: false, ..Ask::get(server.url("/")) }.run(&engine()).await.ok();
    assert_eq!((answered.text().as_str(), answered.header("content-encoding")), ("raw", Some("deflate")));
}

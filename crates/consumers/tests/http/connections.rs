//! Connections are kept, and never shared.

use std::time::Duration;

use strongroom_consumers::http::{BodySource, Engine, Timeouts};
use strongroom_wire::Code;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::sleep;

use crate::support::*;

#[tokio::test]
async fn a_connection_is_kept_for_the_same_caller_and_item() {
    for speaks in BOTH {
        let server = Server::start(speaks, |seen| text(seen.uri.clone())).await;
        let engine = engine();
        for n in 0..5 {
            assert_eq!(Ask::get(server.url(&format!("/{n}"))).run(&engine).await.ok().text(), format!("/{n}"));
        }
        assert_eq!((server.connections(), engine.connections()), (1, 1), "{speaks:?}");
    }
}

#[tokio::test]
async fn no_connection_is_shared() {
    for speaks in BOTH {
        let server = Server::start(speaks, |_| text("ok")).await;
        let engine = engine();
        let first = Ask::get(server.url("/"));
        let others = [
            first.clone(),
            Ask { caller: 2, ..first.clone() },
            Ask { item: 2, ..first.clone() },
            Ask { policy_version: 2, ..first.clone() },
            Ask { caller: 2, item: 2, ..first.clone() },
        ];
        for _ in 0..2 {
            for ask in &others {
                ask.run(&engine).await.ok();
            }
        }
        let mut used: Vec<usize> = server.seen().iter().map(|seen| seen.connection).collect();
        used.sort_unstable();
        assert_eq!(used, [1, 1, 2, 2, 3, 3, 4, 4, 5, 5], "{speaks:?}: one connection for each");
    }
}

#[tokio::test]
async fn http2_is_multiplexed_and_http1_is_not() {
    for (speaks, connections) in [(Speaks::Http1, 4), (Speaks::Http2, 1)] {
        let server = Server::start_streaming(speaks, |_, _| async {
            sleep(Duration::from_millis(200)).await;
            text("ok")
        })
        .await;
        let engine = engine();
        let ask = Ask::get(server.url("/"));
        if speaks == Speaks::Http2 {
            ask.run(&engine).await.ok();
        }
        let start = std::time::Instant::now();
        let answers = futures_util::future::join_all((0..4).map(|_| ask.run(&engine))).await;
        assert!(answers.into_iter().all(|answered| answered.ok().text() == "ok"));
        assert!(start.elapsed() < Duration::from_millis(700), "at the same time");
        assert_eq!(server.connections(), connections);
    }
}

#[tokio::test]
async fn an_idle_connection_closes() {
    for speaks in BOTH {
        let server = Server::start(speaks, |_| text("ok")).await;
        let engine = impatient();
        let ask = Ask::get(server.url("/"));
        ask.run(&engine).await.ok();
        sleep(Duration::from_millis(250)).await;
        ask.run(&engine).await.ok();
        sleep(Duration::from_millis(250)).await;
        assert_eq!(engine.connections(), 1, "use prolongs it");
        sleep(Duration::from_millis(400)).await;
        assert_eq!(engine.connections(), 0);
        ask.run(&engine).await.ok();
        assert_eq!(server.connections(), 2);
    }
}

#[tokio::test]
async fn locking_and_revoking_close_connections() {
    let server = Server::start(Speaks::Http1, |_| text("ok")).await;
    let engine = engine();
    let ask = Ask::get(server.url("/"));
    let other = Ask { caller: 2, ..ask.clone() };
    ask.run(&engine).await.ok();
    other.run(&engine).await.ok();
    engine.close_caller(&[2; 17]);
    assert_eq!(engine.connections(), 1);
    engine.close_all();
    assert_eq!(engine.connections(), 0);
    ask.run(&engine).await.ok();
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn closing_lets_a_call_in_flight_end() {
    for speaks in BOTH {
        let server = Server::start_streaming(speaks, |_, _| async {
            sleep(Duration::from_millis(900)).await;
            text("late")
        })
        .await;
        let engine = Engine::with_timeouts(
            Loopback::default(),
            Timeouts { pool_idle: Duration::from_millis(200), ..Default::default() },
        );
        let ask = Ask::get(server.url("/"));
        let close = async {
            sleep(Duration::from_millis(300)).await;
            engine.close_all();
        };
        let (answered, ()) = futures_util::future::join(ask.run(&engine), close).await;
        assert_eq!(answered.ok().text(), "late");
        assert_eq!(engine.connections(), 0);
    }
}

/// The server closes a kept connection; the next call notices before anything leaves and takes a new one.
#[tokio::test]
async fn a_dead_connection_is_replaced() {
    let server = Server::start_raw(Speaks::Http1, "api.test", |_, mut stream| async move {
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let _ = stream.shutdown().await;
    })
    .await;
    let engine = engine();
    for n in 1..=3 {
        let answered = Ask::get(server.url("/")).run(&engine).await.ok();
        assert_eq!((answered.text().as_str(), answered.outcome.hops.len()), ("ok", 1));
        sleep(Duration::from_millis(50)).await;
        assert_eq!(server.connections(), n);
    }
}

/// The server takes the request and closes: nobody knows what it did, so nothing is sent again.
#[tokio::test]
async fn nothing_is_sent_twice() {
    let server = Server::start_raw(Speaks::Http1, "api.test", |_, mut stream| async move {
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let _ = stream.read(&mut head).await;
    })
    .await;
    let engine = engine();
    let ask = Ask::post(server.url("/"));
    ask.run(&engine).await.ok();
    let (code, outcome) = ask.refused(&engine).await;
    assert_eq!((code, outcome.sent_anything, outcome.status), (Code::HttpFailed, true, None));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn the_secret_is_opened_only_when_there_is_a_connection() {
    let engine = Engine::new(Loopback { refuses: Some(Code::AddressRefused), ..Loopback::default() });
    let mut job = Ask::get("https://api.test/").job();
    job.secret = Box::new(|| panic!("nothing to send it on"));
    let outcome = run_job(&engine, job, BodySource::Empty, Answered::default()).await;
    assert_eq!(outcome.error.unwrap().code, Code::AddressRefused);
    assert!(!outcome.sent_anything);
}

#[tokio::test]
async fn a_tunnel_that_never_opens_times_out() {
    let timeouts = Timeouts { connect: Duration::from_millis(200), ..Timeouts::default() };
    let engine = Engine::with_timeouts(Loopback { hangs: true, ..Loopback::default() }, timeouts);
    let (code, outcome) = Ask::get("https://api.test/").refused(&engine).await;
    assert_eq!((code, outcome.sent_anything), (Code::ConnectFailed, false));
}

#[tokio::test]
async fn both_versions_of_tls_are_spoken() {
    for version in rustls::ALL_VERSIONS {
        let config = authority().server_of(&[version], "api.test", 2030, Speaks::Http1);
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
        let server = Server::start_tcp(move |_, stream| {
            let acceptor = acceptor.clone();
            async move {
                let mut stream = acceptor.accept(stream).await.unwrap();
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{:?}",
                    stream.get_ref().1.protocol_version().unwrap()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.read(&mut head).await;
            }
        })
        .await;
        assert_eq!(Ask::get(server.url("/")).run(&engine()).await.ok().text(), format!("{:?}", version.version));
    }
}

/// However many callers there are, few connections are kept.
#[tokio::test]
async fn few_connections_are_kept() {
    let server = Server::start(Speaks::Http1, |_| text("ok")).await;
    let engine = engine();
    for caller in 0..40 {
        Ask { caller, ..Ask::get(server.url("/")) }.run(&engine).await.ok();
    }
    assert_eq!(engine.connections(), 32);
    Ask { caller: 39, ..Ask::get(server.url("/")) }.run(&engine).await.ok();
    assert_eq!(server.connections(), 40, "those used last are kept");
}

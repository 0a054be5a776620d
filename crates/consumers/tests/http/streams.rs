//! Bodies stream both ways: large ones with backpressure, events as they are sent.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_compression::tokio::write::{BrotliEncoder, GzipEncoder, ZstdEncoder};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use strongroom_consumers::http::BodySource;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::support::*;

const MEGABYTES: usize = 20;

fn block(n: usize) -> Bytes {
    Bytes::from((0..64 * 1024).map(|at| u8::try_from((at * 31 + n * 7 + at / 251) % 251).unwrap()).collect::<Vec<_>>())
}

fn digest(blocks: impl Iterator<Item = Bytes>) -> Vec<u8> {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    blocks.for_each(|block| context.update(&block));
    context.finish().as_ref().to_vec()
}

#[tokio::test]
async fn twenty_megabytes_each_way() {
    for speaks in BOTH {
        let server = Server::start_streaming(speaks, |_, request| async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body.len(), MEGABYTES << 20);
            let (sender, reply) = streamed(&[("content-type", "application/octet-stream")]);
            tokio::spawn(async move {
                for at in (0..body.len()).step_by(48 * 1024) {
                    sender.send(body.slice(at..body.len().min(at + 48 * 1024))).await.unwrap();
                }
            });
            reply
        })
        .await;
        let (sender, body) = BodySource::stream(None);
        let send = async move {
            for n in 0..MEGABYTES * 16 {
                sender.send(block(n)).await.unwrap();
            }
            sender.finish();
        };
        let start = Instant::now();
        let engine = engine();
        let ask = Ask::post(server.url("/"));
        let (answered, ()) = futures_util::future::join(ask.run_with(&engine, body), send).await;
        let answered = answered.ok();
        println!("{speaks:?}: {MEGABYTES} MiB up and down in {:?}", start.elapsed());
        assert_eq!((answered.sent, answered.received), ((MEGABYTES as u64) << 20, (MEGABYTES as u64) << 20));
        let expected = digest((0..MEGABYTES * 16).map(block));
        assert!(digest(answered.chunks.into_iter()) == expected, "byte for byte");
    }
}

/// A guest that does not read holds the called host back.
#[tokio::test]
async fn a_slow_reader_holds_the_host_back() {
    for speaks in BOTH {
        let produced = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&produced);
        let server = Server::start_streaming(speaks, move |_, _| {
            let count = Arc::clone(&count);
            async move {
                let (sender, reply) = streamed(&[]);
                tokio::spawn(async move {
                    for n in 0..MEGABYTES * 16 {
                        if sender.send(block(n)).await.is_err() {
                            return;
                        }
                        count.fetch_add(64 * 1024, Ordering::SeqCst);
                    }
                });
                reply
            }
        })
        .await;
        let (chunks, mut received) = mpsc::channel::<Bytes>(1);
        let engine = engine();
        let ask = Ask::get(server.url("/"));
        let read = async move {
            sleep(Duration::from_millis(800)).await;
            let ahead = produced.load(Ordering::SeqCst);
            // What sockets, TLS and HTTP/2 windows may hold, and no more of the 20 MiB.
            assert!(ahead < 8 << 20, "{speaks:?}: {ahead} bytes were taken from the host with nobody reading");
            let mut total = 0;
            while let Some(chunk) = received.recv().await {
                total += chunk.len();
            }
            total
        };
        let (outcome, total) =
            futures_util::future::join(run_job(&engine, ask.job(), BodySource::Empty, Channel(chunks)), read).await;
        assert_eq!((outcome.error, total), (None, MEGABYTES << 20));
    }
}

/// A host that does not read holds the guest back.
#[tokio::test]
async fn a_slow_host_holds_the_guest_back() {
    for speaks in BOTH {
        let server = Server::start_streaming(speaks, |_, request| async move {
            sleep(Duration::from_millis(800)).await;
            let body = request.into_body().collect().await.unwrap().to_bytes();
            text(body.len().to_string())
        })
        .await;
        let (sender, body) = BodySource::stream(Some((MEGABYTES as u64) << 20));
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let send = async move {
            for n in 0..MEGABYTES * 16 {
                sender.send(block(n)).await.unwrap();
                count.fetch_add(64 * 1024, Ordering::SeqCst);
            }
            sender.finish();
        };
        let look = async move {
            sleep(Duration::from_millis(600)).await;
            let ahead = accepted.load(Ordering::SeqCst);
            assert!(ahead < 12 << 20, "{speaks:?}: {ahead} bytes were taken from the guest with nobody reading");
        };
        let engine = engine();
        let ask = Ask::post(server.url("/"));
        let (answered, (), ()) = futures_util::future::join3(ask.run_with(&engine, body), send, look).await;
        assert_eq!(answered.ok().text(), (MEGABYTES << 20).to_string());
    }
}

/// The answer can begin before the request has ended.
#[tokio::test]
async fn both_ways_at_once() {
    for speaks in BOTH {
        let server = Server::start_streaming(speaks, |_, request| async move {
            let (sender, reply) = streamed(&[]);
            tokio::spawn(async move {
                let mut body = request.into_body();
                while let Some(Ok(frame)) = body.frame().await {
                    if let Ok(data) = frame.into_data() {
                        let _ = sender.send(data).await;
                    }
                }
            });
            reply
        })
        .await;
        let (sender, body) = BodySource::stream(None);
        let (chunks, mut received) = mpsc::channel::<Bytes>(4);
        let talk = async move {
            for n in 0..5 {
                let line = format!("line {n}\n");
                sender.send(Bytes::from(line.clone())).await.unwrap();
                assert_eq!(received.recv().await.unwrap(), line);
            }
            sender.finish();
            assert_eq!(received.recv().await, None);
        };
        let engine = engine();
        let ask = Ask::post(server.url("/"));
        let job = ask.job();
        let meter = Arc::clone(&job.meter);
        let (outcome, ()) = futures_util::future::join(run_job(&engine, job, body, Channel(chunks)), talk).await;
        assert_eq!((outcome.error, meter.sent(), meter.received()), (None, 35, 35), "{speaks:?}");
    }
}

/// What an encoder has made of the events so far, with a flush after each.
async fn encoded_events(encoding: &str, events: &[String]) -> Vec<Bytes> {
    #[derive(Clone, Default)]
    struct Shared(Arc<std::sync::Mutex<Vec<u8>>>);
    impl AsyncWrite for Shared {
        fn poll_write(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            data: &[u8],
        ) -> std::task::Poll<io::Result<usize>> {
            self.0.lock().unwrap().extend_from_slice(data);
            std::task::Poll::Ready(Ok(data.len()))
        }
        fn poll_flush(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }
        fn poll_shutdown(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }
    }
    let out = Shared::default();
    let mut writer: Box<dyn AsyncWrite + Unpin> = match encoding {
        "gzip" => Box::new(GzipEncoder::new(out.clone())),
        "br" => Box::new(BrotliEncoder::new(out.clone())),
        "zstd" => Box::new(ZstdEncoder::new(out.clone())),
        _ => Box::new(out.clone()),
    };
    let mut pieces = Vec::new();
    for event in events {
        writer.write_all(event.as_bytes()).await.unwrap();
        writer.flush().await.unwrap();
        pieces.push(Bytes::from(std::mem::take(&mut *out.0.lock().unwrap())));
    }
    writer.shutdown().await.unwrap();
    pieces.push(Bytes::from(std::mem::take(&mut *out.0.lock().unwrap())));
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

#[tokio::test]
async fn events_arrive_as_they_are_sent() {
    for speaks in BOTH {
        for encoding in ["identity", "gzip", "br", "zstd"] {
            let events: Vec<String> =
                (0..6).map(|n| format!("event: e\ndata: {{\"n\":{n},\"k\":\"{SECRET}\"}}\n\n")).collect();
            let pieces = encoded_events(encoding, &events).await;
            let (go, gate) = mpsc::unbounded_channel::<()>();
            let gate = Arc::new(tokio::sync::Mutex::new(gate));
            let server = Server::start_streaming(speaks, move |_, _| {
                let (pieces, gate) = (pieces.clone(), Arc::clone(&gate));
                async move {
                    let (sender, reply) =
                        streamed(&[("content-type", "text/event-stream"), ("content-encoding", encoding)]);
                    tokio::spawn(async move {
                        for piece in pieces {
                            sender.send(piece).await.unwrap();
                            gate.lock().await.recv().await;
                        }
                    });
                    reply
                }
            })
            .await;
            let (chunks, mut received) = mpsc::channel::<Bytes>(1);
            let read = async move {
                let mut slowest = Duration::ZERO;
                for event in &events {
                    let start = Instant::now();
                    let mut text = String::new();
                    while !text.ends_with("\n\n") {
                        let chunk = tokio::time::timeout(Duration::from_secs(2), received.recv()).await;
                        text += std::str::from_utf8(&chunk.expect("an event is not held back").unwrap()).unwrap();
                    }
                    slowest = slowest.max(start.elapsed());
                    // The next event is sent only now: nothing can have come early.
                    assert_eq!(text, event.replace(SECRET, MASKED));
                    go.send(()).unwrap();
                }
                go.send(()).unwrap();
                println!("{speaks:?} {encoding}: slowest event {slowest:?}");
                assert_eq!(received.recv().await, None);
            };
            let engine = engine();
            let ask = Ask::get(server.url("/")).header("accept-encoding", "gzip");
            let (outcome, ()) =
                futures_util::future::join(run_job(&engine, ask.job(), BodySource::Empty, Channel(chunks)), read).await;
            assert_eq!(outcome.error, None, "{speaks:?} {encoding}");
        }
    }
}

/// Text without line breaks waits for at most two windows.
#[tokio::test]
async fn what_is_held_back_arrives_with_the_end() {
    let server = Server::start(Speaks::Http2, |_| text("{\"no\":\"line break\"}")).await;
    assert_eq!(Ask::get(server.url("/")).run(&engine()).await.ok().text(), "{\"no\":\"line break\"}");
}

#[tokio::test]
async fn a_call_can_be_dropped() {
    for speaks in BOTH {
        let (closed, mut was_closed) = mpsc::unbounded_channel();
        let server = Server::start_streaming(speaks, move |_, _| {
            let closed = closed.clone();
            async move {
                let (sender, reply) = streamed(&[]);
                tokio::spawn(async move {
                    while sender.send(Bytes::from_static(b"tick\n")).await.is_ok() {
                        sleep(Duration::from_millis(10)).await;
                    }
                    closed.send(()).unwrap();
                });
                reply
            }
        })
        .await;
        let engine = engine();
        let ask = Ask::get(server.url("/"));
        assert!(tokio::time::timeout(Duration::from_millis(200), ask.run(&engine)).await.is_err());
        tokio::time::timeout(Duration::from_secs(2), was_closed.recv()).await.expect("the host is told").unwrap();
    }
}

/// A host that answers before it has the whole body gets no more of it than was counted.
#[tokio::test]
async fn nothing_moves_when_a_call_is_over() {
    let server = Server::start_raw(Speaks::Http1, "api.test", |_, mut stream| async move {
        let mut head = [0; 1024];
        let _ = stream.read(&mut head).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    })
    .await;
    let (engine, ask) = (engine(), Ask::post(server.url("/")));
    let (sender, body) = BodySource::stream(None);
    let job = ask.job();
    let meter = Arc::clone(&job.meter);
    assert_eq!(run_job(&engine, job, body, Answered::default()).await.error, None);
    let sent = meter.sent();
    // As much as a connection and the pieces that wait may take, if they took any.
    for _ in 0..64 {
        if tokio::time::timeout(Duration::from_millis(20), sender.send(Bytes::from(vec![0; 1_000]))).await.is_err() {
            break;
        }
    }
    assert_eq!(meter.sent(), sent);
}

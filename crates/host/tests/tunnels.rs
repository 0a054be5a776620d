//! Tunnels: bytes both ways, only as many as there is room for, and only to where they may lead.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::print_stdout, reason = "the figures are of interest")]
#![allow(clippy::disallowed_methods, reason = "it measures")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::Machine;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const BYTES: usize = 20 * 1024 * 1024;

/// A server that counts what it gets, and after the end answers `answer` bytes. Says how much it sent so far.
async fn server(answer: usize) -> (SocketAddr, Arc<AtomicUsize>, tokio::task::JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = vec![0; 65_536];
        let mut received = 0;
        loop {
            match stream.read(&mut buffer).await.unwrap() {
                0 => break,
                count => received += count,
            }
        }
        buffer.fill(b'y');
        let mut left = answer;
        while left > 0 {
            let count = stream.write(&buffer[..left.min(65_536)]).await.unwrap();
            counter.fetch_add(count, Ordering::Relaxed);
            left -= count;
        }
        received
    });
    (address, sent, served)
}

#[tokio::test]
async fn twenty_megabytes_each_way_with_both_ends_closed_one_by_one() {
    let machine = Machine::start().await;
    let vault = machine.new_vault().await;
    let mut client = machine.client(vault).await;
    let (address, _, served) = server(BYTES).await;
    let started = std::time::Instant::now();
    let report = client.ask(&format!("tunnel {address} private {BYTES} go")).await.unwrap();
    println!("40 MiB through a tunnel: {:?}", started.elapsed());
    assert!(report.starts_with(&format!("{address} {BYTES} ")), "{report}");
    assert_eq!(client.receive().await.unwrap(), b"closed");
    assert_eq!(served.await.unwrap(), BYTES);
}

#[tokio::test]
async fn a_vault_that_takes_nothing_stops_the_far_end() {
    let machine = Machine::start().await;
    let vault = machine.new_vault().await;
    let mut client = machine.client(vault).await;
    let (address, sent, _served) = server(BYTES).await;
    client.send(format!("tunnel {address} private 0 paused").as_bytes()).await.unwrap();
    let mut before = usize::MAX;
    while before != sent.load(Ordering::Relaxed) || before == 0 {
        before = sent.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let window = strongroom_wire::limits::STREAM_WINDOW_BYTES;
    assert_eq!(client.ask("received").await.unwrap(), window.to_string(), "a window and not a byte more");
    assert!(before < BYTES, "the far end waits");
    client.send(b"resume").await.unwrap();
    let report = String::from_utf8(client.receive().await.unwrap()).unwrap();
    assert!(report.starts_with(&format!("{address} {BYTES} ")), "{report}");
}

#[tokio::test]
async fn a_far_end_that_takes_nothing_stops_the_vault_and_no_other_tunnel() {
    let machine = Machine::start().await;
    let vault = machine.new_vault().await;
    let mut client = machine.client(vault).await;
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = deaf.local_addr().unwrap();
    client.send(format!("tunnel {address} private 100000000 go").as_bytes()).await.unwrap();
    let (_held, _) = deaf.accept().await.unwrap();
    let mut other = machine.client(vault).await;
    let (address, _, served) = server(1_000).await;
    let report = other.ask(&format!("tunnel {address} private {BYTES} go")).await.unwrap();
    assert!(report.starts_with(&format!("{address} 1000 ")), "{report}");
    assert_eq!(served.await.unwrap(), BYTES);
}

#[tokio::test]
async fn where_a_tunnel_may_not_lead() {
    let (address, _, _served) = server(0).await;
    let machine = Machine::with(|config| {
        config.own_listeners = vec!["127.0.0.1:8443".parse().unwrap()];
        config.danger_addresses.insert("rebound.example".into(), vec!["127.0.0.1".parse().unwrap()]);
        config.danger_addresses.insert("metadata.example".into(), vec!["169.254.169.254".parse().unwrap()]);
    })
    .await;
    let vault = machine.new_vault().await;
    let mut client = machine.client(vault).await;
    let port = address.port();
    for (to, private) in [
        (format!("127.0.0.1:{port}"), "public"),
        (format!("localhost:{port}"), "public"),
        (format!("rebound.example:{port}"), "public"),
        (format!("[::ffff:127.0.0.1]:{port}"), "public"),
        ("metadata.example".to_owned(), "private"),
        ("169.254.169.254".to_owned(), "private"),
        ("0.0.0.0:80".to_owned(), "private"),
        ("127.0.0.1:8443".to_owned(), "private"),
    ] {
        let answer = client.ask(&format!("tunnel {to} {private} 0 go")).await.unwrap();
        assert_eq!(answer, "address_refused", "{to}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(client.ask(&format!("tunnel {nobody} private 0 go")).await.unwrap(), "connect_failed");
    let report = client.ask(&format!("tunnel rebound.example:{port} private 0 go")).await.unwrap();
    assert!(report.starts_with(&format!("127.0.0.1:{port} 0 ")), "the literal is reported: {report}");
}

#[tokio::test]
async fn a_connection_that_breaks_off_is_told_from_one_that_ends() {
    let machine = Machine::start().await;
    let vault = machine.new_vault().await;
    let mut client = machine.client(vault).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    client.send(format!("tunnel {address} private 100000000 go").as_bytes()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    // Closed with bytes unread: a reset.
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(stream);
    assert_eq!(client.receive().await.unwrap(), b"closed", "no report of an end before it");
}

#[tokio::test]
async fn an_early_answer_arrives_though_the_request_is_not_taken() {
    let machine = Machine::start().await;
    let vault = machine.new_vault().await;
    let mut client = machine.client(vault).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    client.send(format!("tunnel {address} private 100000000 go").as_bytes()).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.write_all(b"413, thank you").await.unwrap();
    stream.shutdown().await.unwrap();
    let report = String::from_utf8(client.receive().await.unwrap()).unwrap();
    assert!(report.starts_with(&format!("{address} 14 ")), "{report}");
    drop(stream);
}

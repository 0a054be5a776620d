//! A vault process that does what ours never do is stopped, and touches no other.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use common::{Machine, is_alive, wait_until};
use strongroom_bus::{Bus as _, ConnectionId, Envelope, Kind, LocalBus, Principal, Subject, Topic};
use strongroom_host::{Host, HostConfig};
use strongroom_wire::VaultId;

#[tokio::test]
async fn every_trick_ends_the_process_that_plays_it_and_no_other() {
    let machine = Machine::with(|config| {
        config.restart.second_wait = Duration::ZERO;
        config.restart.held = Duration::ZERO;
        config.restart.held_max = Duration::ZERO;
    })
    .await;
    let (vault, other) = (machine.new_vault().await, machine.new_vault().await);
    let mut bystander = machine.client(other).await;
    let untouched = bystander.pid().await;
    for trick in [
        "malformed",
        "empty",
        "oversized",
        "frame",
        "channel",
        "channel-zero",
        "tunnel-unknown",
        "tunnel-twice",
        "tunnel-grant",
        "ready-twice",
        "notice",
        "notices",
        "tunnels",
    ] {
        let mut client = machine.client(vault).await;
        let pid = client.pid().await;
        client.send(format!("hostile {trick}").as_bytes()).await.unwrap();
        assert_eq!(client.receive().await, None, "{trick}");
        wait_until(|| !is_alive(pid)).await;
        assert!(bystander.echo(trick).await, "{trick}");
    }
    assert_eq!(bystander.pid().await, untouched);
}

#[tokio::test]
async fn a_flood_for_a_client_that_does_not_read_costs_that_client_only() {
    let machine = Machine::with(|config| config.stop_grace = Duration::from_millis(200)).await;
    let (vault, other) = (machine.new_vault().await, machine.new_vault().await);
    let mut flooded = machine.client(vault).await;
    let mut bystander = machine.client(other).await;
    flooded.send(b"hostile flood").await.unwrap();
    for round in 0..200 {
        assert!(bystander.echo(&format!("round {round}")).await);
    }
    machine.host.stop().await;
}

#[tokio::test]
async fn a_process_that_does_not_read_takes_no_memory_without_end_and_is_stopped() {
    let machine = Machine::with(|config| config.stop_grace = Duration::from_millis(200)).await;
    let (vault, other) = (machine.new_vault().await, machine.new_vault().await);
    let mut client = machine.client(vault).await;
    let pid = client.pid().await;
    client.send(b"hang").await.unwrap();
    // More than the windows of socket, host and services together: the client waits in the end.
    let frame = vec![0; 1_000_000];
    let mut sent = 0;
    while tokio::time::timeout(Duration::from_millis(500), client.send(&frame)).await.is_ok() {
        sent += 1;
        assert!(sent < 40, "somebody keeps everything");
    }
    assert!(machine.client(other).await.echo("others go on").await);
    machine.host.stop().await;
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn hostile_services_cannot_harm_the_host() {
    let root = tempfile::tempdir().unwrap();
    let config = HostConfig::new(root.path().join("data"), root.path().join("shares"), common::fixture());
    let bus = LocalBus::new();
    let host = Host::start(config, bus.connect(Principal::Host)).await.unwrap();
    let services = bus.connect(Principal::Services);
    let mut answers = services.subscribe(strongroom_bus::Filter::every(Topic::ToDevice)).await.unwrap();
    let vault = VaultId([1; 16]);
    let say = async |member, connection, kind, payload: Vec<u8>| {
        let subject = Subject { member, topic: Topic::ToVault };
        services.publish(Envelope::new(subject, ConnectionId(connection), kind).payload(payload)).await.unwrap();
    };
    // Envelopes out of order, of nobody, of the other direction.
    for kind in [Kind::Data, Kind::Close, Kind::Accepted, Kind::Refused, Kind::Credit, Kind::Created, Kind::Notice] {
        say(vault, 1, kind, b"x".to_vec()).await;
    }
    say(vault, 1, Kind::Create, Vec::new()).await;
    assert_eq!(answers.next().await.unwrap().kind, Kind::Created);
    say(vault, 2, Kind::Create, Vec::new()).await;
    assert_eq!(answers.next().await.unwrap().kind, Kind::Refused);
    say(vault, 3, Kind::Open, Vec::new()).await;
    assert_eq!(answers.next().await.unwrap().kind, Kind::Accepted);
    // The same number again, also for another vault; frames under another vault's name.
    say(vault, 3, Kind::Open, Vec::new()).await;
    say(VaultId([2; 16]), 3, Kind::Data, b"E cross".to_vec()).await;
    say(VaultId([2; 16]), 3, Kind::Close, Vec::new()).await;
    say(vault, 3, Kind::Data, b"E mine".to_vec()).await;
    assert_eq!(answers.next().await.unwrap().payload, b"E mine");
    // More than the window allows: that connection is closed.
    for _ in 0..100 {
        say(vault, 3, Kind::Data, vec![b'E'; 1_000_000]).await;
    }
    while answers.next().await.unwrap().kind != Kind::Accepted {
        say(vault, 4, Kind::Open, Vec::new()).await;
    }
    host.stop().await;
}

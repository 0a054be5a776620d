//! A vault process that crashes takes its own channels with it and nothing else, and comes back.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use common::{Client, Machine, is_alive, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use strongroom_bus::{Bus as _, Filter, Kind, Principal, Topic};
use strongroom_wire::Code;

#[tokio::test]
async fn a_killed_process_closes_its_channels_and_is_started_again() {
    let machine = Machine::start().await;
    let (vault, other) = (machine.new_vault().await, machine.new_vault().await);
    let (mut client, mut second) = (machine.client(vault).await, machine.client(vault).await);
    let mut bystander = machine.client(other).await;
    let pid = client.pid().await;
    let untouched = bystander.pid().await;
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    assert_eq!(client.receive().await, None);
    assert_eq!(second.receive().await, None);
    let mut again = machine.client(vault).await;
    assert_ne!(again.pid().await, pid);
    assert_eq!(bystander.pid().await, untouched);
    machine.host.stop().await;
}

#[tokio::test]
async fn after_three_crashes_a_vault_is_held_and_the_member_told() {
    let machine = Machine::with(|config| {
        config.restart.second_wait = Duration::ZERO;
        config.restart.held = Duration::from_secs(2);
    })
    .await;
    let (vault, other) = (machine.new_vault().await, machine.new_vault().await);
    let mut events = machine.bus.connect(Principal::Services).subscribe(Filter::every(Topic::Events)).await.unwrap();
    for _ in 0..3 {
        let mut client = machine.client(vault).await;
        client.send(b"abort").await.unwrap();
        assert_eq!(client.receive().await, None);
    }
    let refused = Client::connect(machine.root.path(), vault).await;
    assert_eq!(refused.err(), Some(Code::HostFailed));
    assert!(Code::HostFailed.retryable());
    let notice = events.next().await.unwrap();
    assert_eq!((notice.kind, notice.payload.as_slice()), (Kind::Notice, b"vault_held".as_slice()));
    assert_eq!(notice.subject.member, vault);
    assert!(machine.client(other).await.echo("others are not held").await);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(machine.client(vault).await.echo("held for a while only").await);
}

#[tokio::test]
async fn leaving_in_order_is_no_crash() {
    let machine = Machine::start().await;
    let vault = machine.new_vault().await;
    for _ in 0..5 {
        let mut client = machine.client(vault).await;
        client.send(b"exit").await.unwrap();
        assert_eq!(client.receive().await, None);
    }
}

#[tokio::test]
async fn a_program_that_does_not_start_is_a_refusal() {
    let machine = Machine::with(|config| config.vault_program = "/bin/false".into()).await;
    let vault = machine.new_vault().await;
    for _ in 0..5 {
        match Client::connect(machine.root.path(), vault).await {
            // The channel is given before the process is seen to have left.
            Ok(mut client) => assert_eq!(client.receive().await, None),
            Err(code) => return assert_eq!(code, Code::HostFailed),
        }
    }
    panic!("it is held after some tries");
}

#[tokio::test]
async fn a_process_without_its_socket_does_not_linger() {
    let machine = Machine::start().await;
    let vault = machine.new_vault().await;
    let mut client = machine.client(vault).await;
    let pid = client.pid().await;
    client.send(b"hostile linger").await.unwrap();
    assert_eq!(client.receive().await, None);
    wait_until(|| !is_alive(pid)).await;
}

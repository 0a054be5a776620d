//! Frames reach the vault they are for, and come back to whoever asked.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Client, Machine};
use strongroom_wire::relay::{RelayAnswer, RelayHello};
use strongroom_wire::{Code, VaultId};

#[tokio::test]
async fn two_vaults_never_cross() {
    let machine = Machine::start().await;
    let (one, other) = (machine.new_vault().await, machine.new_vault().await);
    let mut clients = Vec::new();
    for number in 0..10 {
        clients.push(machine.client(if number % 2 == 0 { one } else { other }).await);
    }
    for round in 0..50 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(format!("E{round}/{number}").as_bytes()).await.unwrap();
        }
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.receive().await.unwrap(), format!("E{round}/{number}").as_bytes());
        }
    }
    let first = clients[0].ask("who").await.unwrap();
    let second = clients[1].ask("who").await.unwrap();
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let (first, second) = (words(&first), words(&second));
    for (who, vault) in [(&first, one), (&second, other)] {
        assert_eq!(who[0], vault.to_string(), "its own id");
        assert!(who[1] == "/" || who[1].ends_with(&who[0]), "its folder is its root, or at least where it is");
        assert_eq!(who[3..5], ["32", "0"], "a share of 32 bytes, an empty environment");
    }
    assert_ne!(first[2], second[2], "shares differ");
    let (pid, another) = (clients[0].pid().await, clients[1].pid().await);
    assert_ne!(pid, another, "processes differ");
    assert_eq!(clients[2].pid().await, pid, "one process for each vault");
    let mut open: Vec<u32> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    open.sort_unstable();
    assert_eq!(open, [0, 1, 2, 3], "nothing open but the standard three and one socket");
    machine.host.stop().await;
}

#[tokio::test]
async fn a_server_answers_pings_and_says_what_it_does_not_have() {
    let machine = Machine::start().await;
    let mut client = Client::raw(machine.root.path()).await.unwrap();
    assert_eq!(client.hello(&RelayHello::Ping {}).await, Some(RelayAnswer::Pong { version: "1.2.3".into() }));
    // A second first message on the same connection is fine.
    assert_eq!(client.hello(&RelayHello::Ping {}).await, Some(RelayAnswer::Pong { version: "1.2.3".into() }));
    let unknown = Client::connect(machine.root.path(), VaultId([9; 16])).await;
    assert_eq!(unknown.err(), Some(Code::VaultUnknown));
}

#[tokio::test]
async fn the_largest_frame_passes_and_a_larger_one_ends_the_channel() {
    let machine = Machine::start().await;
    let vault = machine.new_vault().await;
    let mut client = machine.client(vault).await;
    let mut frame = vec![0; strongroom_wire::limits::SEALED_FRAME_BYTES_MAX];
    frame[0] = b'E';
    for _ in 0..8 {
        client.send(&frame).await.unwrap();
        assert_eq!(client.receive().await.unwrap(), frame);
    }
    frame.push(0);
    // The rest of it may find the connection closed.
    let _ = client.send(&frame).await;
    assert_eq!(client.receive().await, None);
    assert!(machine.client(vault).await.echo("others go on").await);
}

#[tokio::test]
async fn a_vault_can_close_a_channel_and_go_on() {
    let machine = Machine::start().await;
    let vault = machine.new_vault().await;
    let (mut client, mut other) = (machine.client(vault).await, machine.client(vault).await);
    client.send(b"close").await.unwrap();
    assert_eq!(client.receive().await, None);
    assert!(other.echo("still here").await);
}

#[tokio::test]
async fn a_client_that_sends_much_and_reads_late_gets_everything() {
    let machine = Machine::start().await;
    let vault = machine.new_vault().await;
    let client = machine.client(vault).await;
    let (mut read, mut write) = client.stream.into_split();
    let mut frame = vec![7; 100_000];
    frame[0] = b'E';
    let count = 500;
    let bytes = strongroom_wire::frame::with_length(&frame);
    let sent = tokio::spawn(async move {
        for _ in 0..count {
            tokio::io::AsyncWriteExt::write_all(&mut write, &bytes).await.unwrap();
        }
        write
    });
    let mut received = vec![0; frame.len() + 4];
    for _ in 0..count {
        tokio::io::AsyncReadExt::read_exact(&mut read, &mut received).await.unwrap();
        assert_eq!(received[4..], frame);
    }
    sent.await.unwrap();
}

//! The life of a vault process: it leaves when room is wanted and comes back when it is; and what an operator sees of it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use common::{Machine, is_alive, status, wait_until};
use strongroom_host::{MemoryPolicy, control_socket};
use strongroom_wire::operate::Life;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

fn looking_often(processes_max: usize, idle: Duration) -> impl FnOnce(&mut strongroom_host::HostConfig) {
    move |config| {
        let spare = Duration::ZERO;
        let policy = MemoryPolicy { processes_max, idle, spare, reserve_bytes: 0, ..MemoryPolicy::default() };
        config.memory = MemoryPolicy { look_every: Duration::from_millis(20), ..policy };
    }
}

#[tokio::test]
async fn what_was_used_least_recently_leaves_and_comes_back_when_it_is_asked_for() {
    let machine = Machine::with(looking_often(2, Duration::from_secs(3_600))).await;
    let mut vaults = Vec::new();
    let mut pids = Vec::new();
    for _ in 0..4 {
        let vault = machine.new_vault().await;
        let mut client = machine.client(vault).await;
        pids.push(client.pid().await);
        vaults.push(vault);
        drop(client);
    }
    wait_until(|| pids.iter().filter(|pid| is_alive(**pid)).count() <= 2).await;
    assert!(is_alive(pids[3]), "the one that was used last stays");
    let found = status(&machine).await;
    assert_eq!((found.vaults, found.counters.started, found.counters.crashed), (4, 4, 0));
    assert!(found.counters.evicted >= 2, "{found:?}");
    // Each comes back, with what it was left in its folder, and nobody is turned away meanwhile.
    for vault in &vaults {
        let mut client = machine.client(*vault).await;
        assert!(client.echo("back").await);
    }
    assert!(machine.folder(vaults[0]).join("stopped").exists(), "it was asked to leave, not killed");
    machine.host.stop().await;
}

#[tokio::test]
async fn what_is_idle_leaves_and_what_somebody_is_connected_to_stays() {
    let machine = Machine::with(looking_often(100, Duration::from_millis(200))).await;
    let (idle, connected) = (machine.new_vault().await, machine.new_vault().await);
    let mut stays = machine.client(connected).await;
    let pid = {
        let mut client = machine.client(idle).await;
        client.pid().await
    };
    wait_until(|| !is_alive(pid)).await;
    assert!(stays.echo("still here").await);
    let found = status(&machine).await;
    assert_eq!(found.running.len(), 1);
    let row = &found.running[0];
    assert_eq!((row.vault, row.life, row.channels), (connected, Life::Locked, 1));
    assert!(is_alive(i32::try_from(row.pid).unwrap()));
    machine.host.stop().await;
}

#[tokio::test]
async fn an_operator_that_talks_nonsense_is_told_so_and_hurts_nobody() {
    let machine = Machine::start().await;
    for nonsense in [&b"\n"[..], b"{}\n", b"{\"status\":{\"x\":1}}\n", &[b'x'; 8_192], b"\xff\n"] {
        let mut stream = UnixStream::connect(control_socket(&machine.root.path().join("data"))).await.unwrap();
        // It may hang up while this is still being sent.
        let _ = stream.write_all(nonsense).await;
        let _ = stream.shutdown().await;
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        assert!(answer.is_empty() || answer.contains("error"), "{answer}");
    }
    assert_eq!(status(&machine).await.vaults, 0);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(control_socket(&machine.root.path().join("data"))).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

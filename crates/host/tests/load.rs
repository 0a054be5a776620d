//! A vault that takes more than its part is held back while somebody else uses a vault, and let go again.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use common::{Machine, is_alive, status, wait_until};
use strongroom_host::LoadPolicy;
use strongroom_wire::VaultId;

/// They measure, and would take the processors from each other.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Half a place for those that are held back, on whatever machine this runs.
fn looking_often(config: &mut strongroom_host::HostConfig) {
    config.load = LoadPolicy {
        look_every: Duration::from_millis(200),
        processors: 1.0,
        turn: Duration::from_millis(10),
        ..LoadPolicy::default()
    };
}

async fn held_back(machine: &Machine) -> Vec<VaultId> {
    status(machine).await.running.iter().filter(|row| row.held_back).map(|row| row.vault).collect()
}

/// Vaults whose processes use what they get, whatever they are asked.
async fn burning(machine: &Machine, count: usize, ms: u32) -> Vec<(VaultId, common::Client)> {
    let mut burning = Vec::new();
    for _ in 0..count {
        let vault = machine.new_vault().await;
        let mut client = machine.client(vault).await;
        assert!(client.echo("up").await);
        burning.push((vault, client));
    }
    // At once, so that none is done before the others are held back.
    for (_, client) in &mut burning {
        client.send(format!("burn {ms}").as_bytes()).await.unwrap();
    }
    burning.sort_by_key(|(vault, _)| *vault);
    burning
}

#[tokio::test]
async fn a_process_that_burns_is_held_back_while_others_are_served_and_let_go_when_it_is_done() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let machine = Machine::with(looking_often).await;
    let mut quiet = machine.client(machine.new_vault().await).await;
    assert!(quiet.echo("before").await);
    let mut burning = burning(&machine, 4, 1_000).await;
    let noisy: Vec<VaultId> = burning.iter().map(|(vault, _)| *vault).collect();
    let mut looks = 0;
    loop {
        assert!(quiet.echo("meanwhile").await);
        if held_back(&machine).await == noisy {
            break;
        }
        looks += 1;
        assert!(looks < 500, "{:?}", status(&machine).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // They take turns: one of them runs, half of the time.
    let pids: Vec<u32> = status(&machine).await.running.iter().filter(|row| row.held_back).map(|row| row.pid).collect();
    let mut stopped = 0;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(7)).await;
        stopped += pids.iter().filter(|pid| is_stopped(**pid)).count();
    }
    assert!(stopped >= 50, "{stopped} of 80 were stopped");
    // Each gets its turn, and what it was asked is answered.
    for (_, client) in &mut burning {
        assert_eq!(client.receive().await.as_deref(), Some(b"burnt".as_slice()));
    }
    let mut looks = 0;
    while !held_back(&machine).await.is_empty() {
        looks += 1;
        assert!(looks < 100, "they stay held back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for (_, client) in &mut burning {
        assert!(client.echo("as before").await);
    }
    assert!(pids.iter().all(|pid| !is_stopped(*pid)));
    assert_eq!(status(&machine).await.counters.held_back, 4);
    machine.host.stop().await;
}

#[tokio::test]
async fn nobody_is_held_back_where_nobody_else_is_there() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let machine = Machine::with(looking_often).await;
    let mut burning = burning(&machine, 1, 1_000).await;
    let (_, client) = &mut burning[0];
    loop {
        match tokio::time::timeout(Duration::from_millis(50), client.receive()).await {
            Err(_) => assert_eq!(held_back(&machine).await, []),
            Ok(answer) => break assert_eq!(answer.as_deref(), Some(b"burnt".as_slice())),
        }
    }
    assert_eq!(status(&machine).await.counters.held_back, 0);
    machine.host.stop().await;
}

#[tokio::test]
async fn a_process_that_is_stopped_leaves_when_it_is_told_to() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let machine = Machine::with(|config| {
        looking_often(config);
        config.stop_grace = Duration::from_secs(20);
    })
    .await;
    let mut quiet = machine.client(machine.new_vault().await).await;
    let burning = burning(&machine, 4, 1_500).await;
    let mut looks = 0;
    while held_back(&machine).await.len() < 4 {
        assert!(quiet.echo("meanwhile").await);
        looks += 1;
        assert!(looks < 500, "they are not held back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let pids: Vec<i32> = status(&machine).await.running.iter().map(|row| i32::try_from(row.pid).unwrap()).collect();
    let folders: Vec<_> = burning.iter().map(|(vault, _)| machine.folder(*vault)).collect();
    machine.host.stop().await;
    wait_until(|| pids.iter().all(|pid| !is_alive(*pid))).await;
    assert!(folders.iter().all(|folder| folder.join("stopped").exists()), "they were asked to leave, not killed");
}

fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
}

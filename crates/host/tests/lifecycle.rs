//! Start, stop, and what is left on the disk.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Client, Machine, fixture, is_alive, new_vault, socket, wait_until};
use strongroom_wire::Code;

#[tokio::test]
async fn a_host_that_stops_lets_its_vaults_finish_and_kills_those_that_do_not() {
    let machine = Machine::with(|config| config.stop_grace = Duration::from_millis(300)).await;
    let (vault, stubborn) = (machine.new_vault().await, machine.new_vault().await);
    std::fs::write(machine.folder(stubborn).join("ignore-stop"), "").unwrap();
    let (mut one, mut other) = (machine.client(vault).await, machine.client(stubborn).await);
    let pids = [one.pid().await, other.pid().await];
    let finished = machine.folder(vault).join("stopped");
    let never = machine.folder(stubborn).join("stopped");
    let Machine { host, root, .. } = machine;
    host.stop().await;
    assert!(finished.exists() && !never.exists());
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
    drop(root);
}

#[tokio::test]
async fn a_missing_or_damaged_share_is_refused_and_not_replaced() {
    let machine = Machine::start().await;
    let vault = machine.new_vault().await;
    assert_eq!(std::fs::metadata(machine.share(vault)).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(machine.folder(vault)).unwrap().permissions().mode() & 0o777, 0o700);
    let good = std::fs::read(machine.share(vault)).unwrap();
    let refused = async || Client::connect(machine.root.path(), vault).await.err();
    std::fs::write(machine.share(vault), "damaged").unwrap();
    assert_eq!(refused().await, Some(Code::ShareMissing));
    assert_eq!(std::fs::read(machine.share(vault)).unwrap(), b"damaged");
    std::fs::remove_file(machine.share(vault)).unwrap();
    assert_eq!(refused().await, Some(Code::ShareMissing));
    assert!(!machine.share(vault).exists());
    std::fs::write(machine.share(vault), good).unwrap();
    assert!(machine.client(vault).await.echo("back").await);
}

#[tokio::test]
async fn a_deleted_vault_is_gone_with_its_share() {
    let machine = Machine::start().await;
    let vault = machine.new_vault().await;
    let mut client = machine.client(vault).await;
    client.send(b"delete").await.unwrap();
    assert_eq!(client.receive().await, None);
    wait_until(|| !machine.folder(vault).exists() && !machine.share(vault).exists()).await;
    let refused = Client::connect(machine.root.path(), vault).await;
    assert_eq!(refused.err(), Some(Code::VaultUnknown));
}

#[tokio::test]
async fn a_server_serves_in_two_processes_and_stops_at_a_signal() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path()).await;
    let vault = new_vault(root.path()).await.unwrap();
    let mut client = Client::connect(root.path(), vault).await.unwrap();
    let pid = client.pid().await;
    server.signal(rustix::process::Signal::TERM);
    assert!(server.0.wait().unwrap().success());
    assert!(!is_alive(pid));
    assert!(root.path().join(format!("data/vaults/{vault}/stopped")).exists(), "it was asked, not killed");
    assert_eq!(client.receive().await, None);
}

#[tokio::test]
async fn no_vault_outlives_a_server_that_is_killed() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path()).await;
    let vault = new_vault(root.path()).await.unwrap();
    let pid = Client::connect(root.path(), vault).await.unwrap().pid().await;
    assert!(is_alive(pid));
    server.signal(rustix::process::Signal::KILL);
    server.0.wait().unwrap();
    wait_until(|| !is_alive(pid)).await;
    // The lock went with it.
    let mut server = Server::start(root.path()).await;
    assert!(Client::connect(root.path(), vault).await.unwrap().echo("again").await);
    server.signal(rustix::process::Signal::INT);
    assert!(server.0.wait().unwrap().success());
}

#[tokio::test]
async fn services_that_die_are_started_again() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path()).await;
    let vault = new_vault(root.path()).await.unwrap();
    let mut client = Client::connect(root.path(), vault).await.unwrap();
    let pid = client.pid().await;
    let is_services = |child: &i32| {
        std::fs::read_to_string(format!("/proc/{child}/cmdline")).is_ok_and(|line| line.contains("services"))
    };
    let services = children_of(server.0.id()).into_iter().find(is_services).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(services).unwrap(), rustix::process::Signal::KILL)
        .unwrap();
    assert_eq!(client.receive().await, None);
    let mut again = loop {
        match Client::connect(root.path(), vault).await {
            Ok(client) => break client,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert_eq!(again.pid().await, pid, "the vault stayed up");
    server.signal(rustix::process::Signal::TERM);
    assert!(server.0.wait().unwrap().success());
}

#[tokio::test]
async fn a_second_server_on_one_data_folder_names_the_first() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path()).await;
    let second = Command::new(fixture()).arg("serve").arg(root.path()).output().unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains(&format!("another server uses this data folder (process {})", server.0.id())), "{said}");
    server.signal(rustix::process::Signal::TERM);
    server.0.wait().unwrap();
}

#[tokio::test]
async fn a_vault_that_was_acknowledged_survives_kill_9() {
    let root = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let mut server = Server::start(root.path()).await;
        let path = root.path().to_owned();
        let makers: Vec<_> = (0..4)
            .map(|_| {
                let path = path.clone();
                tokio::spawn(async move {
                    let mut made = Vec::new();
                    while let Ok(vault) = new_vault(&path).await {
                        made.push(vault);
                    }
                    made
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(150 + 37 * round)).await;
        server.signal(rustix::process::Signal::KILL);
        server.0.wait().unwrap();
        let mut count = 0;
        for maker in makers {
            for vault in maker.await.unwrap() {
                count += 1;
                let share = std::fs::read_to_string(path.join(format!("shares/{vault}.share"))).unwrap();
                assert_eq!(share.trim_end().len(), 64);
                assert!(path.join(format!("data/vaults/{vault}")).is_dir());
            }
        }
        assert!(count > 0);
        // Nor is there a folder without a share, which would look like a loss.
        for folder in std::fs::read_dir(path.join("data/vaults")).unwrap() {
            let name = folder.unwrap().file_name().into_string().unwrap();
            assert!(path.join(format!("shares/{name}.share")).exists());
        }
    }
}

struct Server(Child);

impl Server {
    async fn start(root: &Path) -> Self {
        let server = Command::new(fixture()).arg("serve").arg(root).stderr(Stdio::inherit()).spawn().unwrap();
        let server = Self(server);
        let ready = async || match Client::raw(root).await {
            Ok(mut client) => client.hello(&strongroom_wire::relay::RelayHello::Ping {}).await.is_some(),
            Err(_) => false,
        };
        while !ready().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(socket(root).exists());
        server
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn children_of(pid: u32) -> Vec<i32> {
    let mut children = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let mut text = String::new();
        std::fs::File::open(task.unwrap().path().join("children")).unwrap().read_to_string(&mut text).unwrap();
        children.extend(text.split_whitespace().map(|pid| pid.parse::<i32>().unwrap()));
    }
    children
}

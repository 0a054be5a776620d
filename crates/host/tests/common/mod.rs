//! A machine in one process: host, services and clients; the vault processes are the fixture's.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use strongroom_bus::link::{self, LinkBus};
use strongroom_bus::{LocalBus, Principal};
use strongroom_host::{Host, HostConfig, control_socket};
use strongroom_services::{Audience, ServicesConfig};
use strongroom_wire::frame::with_length;
use strongroom_wire::operate::{HostRequest, HostStatus};
use strongroom_wire::relay::{RelayAnswer, RelayHello};
use strongroom_wire::{Code, VaultId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

pub(crate) struct Machine {
    pub(crate) root: tempfile::TempDir,
    pub(crate) bus: LocalBus,
    pub(crate) host: Host,
}

impl Machine {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut HostConfig)) -> Self {
        Self::at(tempfile::tempdir().unwrap(), change).await
    }

    pub(crate) async fn at(root: tempfile::TempDir, change: impl FnOnce(&mut HostConfig)) -> Self {
        let mut config = HostConfig::new(root.path().join("data"), root.path().join("shares"), fixture());
        config.vault_stderr = true;
        change(&mut config);
        let bus = LocalBus::new();
        let host = Host::start(config, bus.connect(Principal::Host)).await.unwrap();
        // Over a socket, as in two processes.
        let (ours, theirs) = UnixStream::pair().unwrap();
        tokio::spawn(link::serve(ours, bus.connect(Principal::Services)));
        let listener = strongroom_services::bind(&socket(root.path()), Audience::ThisUser).unwrap();
        let services = ServicesConfig::new(listener, "1.2.3");
        tokio::spawn(strongroom_services::run(services, LinkBus::connect(theirs)));
        Self { root, bus, host }
    }

    pub(crate) async fn new_vault(&self) -> VaultId {
        new_vault(self.root.path()).await.unwrap()
    }

    pub(crate) async fn client(&self, vault: VaultId) -> Client {
        Client::connect(self.root.path(), vault).await.unwrap()
    }

    pub(crate) fn folder(&self, vault: VaultId) -> PathBuf {
        self.root.path().join("data/vaults").join(vault.to_string())
    }

    pub(crate) fn share(&self, vault: VaultId) -> PathBuf {
        self.root.path().join("shares").join(format!("{vault}.share"))
    }
}

pub(crate) fn socket(root: &Path) -> PathBuf {
    root.join("run/socket")
}

/// The fixture is built with the tests, beside them.
pub(crate) fn fixture() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let fixture = tests.ancestors().nth(2).unwrap().join("examples/fixture");
    assert!(fixture.exists(), "`cargo test` builds it; for one test alone: `cargo build --example fixture` first");
    fixture
}

pub(crate) async fn new_vault(root: &Path) -> Result<VaultId, Code> {
    let mut client = Client::raw(root).await.map_err(|_| Code::HostFailed)?;
    match client.hello(&RelayHello::NewVault {}).await {
        Some(RelayAnswer::NewVault { vault }) => Ok(vault),
        Some(RelayAnswer::Refused(refusal)) => Err(refusal.code),
        _ => Err(Code::HostFailed),
    }
}

/// What an operator is told.
pub(crate) async fn status(machine: &Machine) -> HostStatus {
    let mut stream = UnixStream::connect(control_socket(&machine.root.path().join("data"))).await.unwrap();
    let mut request = serde_json::to_vec(&HostRequest::Status {}).unwrap();
    request.push(b'\n');
    stream.write_all(&request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    serde_json::from_slice(&answer).unwrap()
}

pub(crate) struct Client {
    pub(crate) stream: UnixStream,
}

impl Client {
    pub(crate) async fn raw(root: &Path) -> std::io::Result<Self> {
        Ok(Self { stream: UnixStream::connect(socket(root)).await? })
    }

    pub(crate) async fn connect(root: &Path, vault: VaultId) -> Result<Self, Code> {
        let mut client = Self::raw(root).await.map_err(|_| Code::HostFailed)?;
        match client.hello(&RelayHello::Relay { vault }).await {
            Some(RelayAnswer::Relay {}) => Ok(client),
            Some(RelayAnswer::Refused(refusal)) => Err(refusal.code),
            _ => Err(Code::HostFailed),
        }
    }

    pub(crate) async fn hello(&mut self, hello: &RelayHello) -> Option<RelayAnswer> {
        self.send(&serde_json::to_vec(hello).unwrap()).await.ok()?;
        Some(serde_json::from_slice(&self.receive().await?).unwrap())
    }

    pub(crate) async fn send(&mut self, frame: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(&with_length(frame)).await
    }

    /// The next frame; `None` when the channel is closed.
    pub(crate) async fn receive(&mut self) -> Option<Vec<u8>> {
        let receive = async {
            let length = self.stream.read_u32().await.ok()?;
            let mut frame = vec![0; length as usize];
            self.stream.read_exact(&mut frame).await.ok()?;
            Some(frame)
        };
        tokio::time::timeout(Duration::from_secs(60), receive).await.expect("an answer or an end comes")
    }

    pub(crate) async fn ask(&mut self, command: &str) -> Option<String> {
        self.send(command.as_bytes()).await.ok()?;
        Some(String::from_utf8(self.receive().await?).unwrap())
    }

    pub(crate) async fn echo(&mut self, content: &str) -> bool {
        let sent = format!("E{content}");
        self.ask(&sent).await == Some(sent)
    }

    /// The process id behind the channel. The process itself does not know it.
    pub(crate) async fn pid(&mut self) -> i32 {
        let who = self.ask("who").await.unwrap();
        let vault = who.split(' ').next().unwrap();
        let lives_there = |pid: i32| {
            ["root", "cwd"].iter().any(|link| {
                std::fs::read_link(format!("/proc/{pid}/{link}")).is_ok_and(|folder| folder.ends_with(vault))
            })
        };
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let mut pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.find(|pid| lives_there(*pid)).unwrap()
    }
}

pub(crate) fn is_alive(pid: i32) -> bool {
    // A process that ended and was not waited for is dead to us.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

pub(crate) async fn wait_until(mut condition: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come to pass");
}

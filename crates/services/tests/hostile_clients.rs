//! Clients that are slow, greedy or talk nonsense cost themselves and nobody else.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;
use std::time::Duration;

use strongroom_bus::{Bus as _, Filter, Kind, LocalBus, LocalConnection, Principal, Subject, Subscription, Topic};
use strongroom_services::{Audience, RelayLimits, RunServicesError, ServicesConfig};
use strongroom_wire::frame::with_length;
use strongroom_wire::relay::{RelayAnswer, RelayHello};
use strongroom_wire::{Code, Refusal, VaultId, limits};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

const VAULT: VaultId = VaultId([1; 16]);

/// Services, and a host of the test's own.
struct Scene {
    _folder: tempfile::TempDir,
    socket: PathBuf,
    host: LocalConnection,
    services: JoinHandle<Result<(), RunServicesError>>,
}

impl Scene {
    /// With a host that echoes and gives windows back.
    async fn echoing(limits: RelayLimits) -> Self {
        let (scene, to_vault) = Self::silent(limits).await;
        tokio::spawn(echo(scene.host.clone(), to_vault));
        scene
    }

    async fn silent(limits: RelayLimits) -> (Self, Subscription) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let bus = LocalBus::new();
        let host = bus.connect(Principal::Host);
        let to_vault = host.subscribe(Filter::every(Topic::ToVault)).await.unwrap();
        let listener = strongroom_services::bind(&socket, Audience::ThisUser).unwrap();
        let mut config = ServicesConfig::new(listener, "0");
        config.limits = limits;
        let services = tokio::spawn(strongroom_services::run(config, bus.connect(Principal::Services)));
        (Self { _folder: folder, socket, host, services }, to_vault)
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.unwrap()
    }

    async fn channel(&self) -> UnixStream {
        let mut stream = self.connect().await;
        assert_eq!(ask(&mut stream, &RelayHello::Relay { vault: VAULT }).await, RelayAnswer::Relay {});
        stream
    }

    async fn still_serves(&self) {
        let mut stream = self.channel().await;
        stream.write_all(&with_length(b"hello")).await.unwrap();
        assert_eq!(receive(&mut stream).await.unwrap(), b"hello");
        assert!(!self.services.is_finished());
    }
}

async fn echo(host: LocalConnection, mut to_vault: Subscription) {
    while let Some(asked) = to_vault.next().await {
        let subject = Subject { member: asked.subject.member, topic: Topic::ToDevice };
        let answer = |kind| strongroom_bus::Envelope::new(subject, asked.connection, kind);
        match asked.kind {
            Kind::Open => host.publish(answer(Kind::Accepted)).await.unwrap(),
            Kind::Create => host.publish(answer(Kind::Created)).await.unwrap(),
            Kind::Data => {
                host.publish(answer(Kind::Credit).payload(asked.window_cost().to_be_bytes())).await.unwrap();
                host.publish(answer(Kind::Data).payload(asked.payload.clone())).await.unwrap();
            }
            _ => {}
        }
    }
}

async fn ask(stream: &mut UnixStream, hello: &RelayHello) -> RelayAnswer {
    stream.write_all(&with_length(&serde_json::to_vec(hello).unwrap())).await.unwrap();
    serde_json::from_slice(&receive(stream).await.unwrap()).unwrap()
}

async fn receive(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let receive = async {
        let length = stream.read_u32().await.ok()?;
        let mut message = vec![0; length as usize];
        stream.read_exact(&mut message).await.ok()?;
        Some(message)
    };
    tokio::time::timeout(Duration::from_secs(20), receive).await.expect("an answer or an end comes")
}

#[tokio::test]
async fn garbage_is_refused_and_cut_off() {
    let scene = Scene::echoing(RelayLimits::default()).await;
    for garbage in [
        with_length(b""),
        with_length(b"GET / HTTP/1.1\r\n\r\n"),
        with_length(br#"{"ping":{"extra":1}}"#),
        with_length(br#"{"relay":{"vault":"../../etc/passwd"}}"#),
        with_length(&vec![b'x'; 5_000]),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        vec![0xff; 100],
    ] {
        let mut stream = scene.connect().await;
        stream.write_all(&garbage).await.unwrap();
        let answer: RelayAnswer = serde_json::from_slice(&receive(&mut stream).await.unwrap()).unwrap();
        assert_eq!(answer, RelayAnswer::Refused(Refusal::new(Code::RequestMalformed)));
        assert_eq!(receive(&mut stream).await, None);
    }
    scene.still_serves().await;
}

#[tokio::test]
async fn a_client_that_says_nothing_or_half_of_it_is_cut_off() {
    let limits = RelayLimits { hello_timeout: Duration::from_millis(200), ..RelayLimits::default() };
    let scene = Scene::echoing(limits).await;
    let mut silent = scene.connect().await;
    let mut half = scene.connect().await;
    half.write_all(&[0, 0, 0, 20, b'{']).await.unwrap();
    scene.still_serves().await;
    assert_eq!(receive(&mut silent).await, None);
    assert_eq!(receive(&mut half).await, None);
}

#[tokio::test]
async fn a_silent_channel_is_closed_and_a_busy_one_is_not() {
    let limits = RelayLimits { idle_timeout: Duration::from_millis(400), ..RelayLimits::default() };
    let scene = Scene::echoing(limits).await;
    let (mut silent, mut busy) = (scene.channel().await, scene.channel().await);
    for _ in 0..15 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        busy.write_all(&with_length(b"x")).await.unwrap();
        assert_eq!(receive(&mut busy).await.unwrap(), b"x");
    }
    assert_eq!(receive(&mut silent).await, None);
}

#[tokio::test]
async fn an_oversized_frame_ends_its_channel_only() {
    let scene = Scene::echoing(RelayLimits::default()).await;
    let mut stream = scene.channel().await;
    let too_long = u32::try_from(limits::SEALED_FRAME_BYTES_MAX).unwrap() + 1;
    stream.write_u32(too_long).await.unwrap();
    assert_eq!(receive(&mut stream).await, None);
    scene.still_serves().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off_and_others_go_on() {
    let limits = RelayLimits { waiting_bytes_max: 3 * 1024 * 1024, ..RelayLimits::default() };
    let scene = Scene::echoing(limits).await;
    let mut deaf = scene.channel().await;
    let frame = with_length(&vec![7; 500_000]);
    let write = async {
        loop {
            deaf.write_all(&frame).await?;
        }
    };
    let outcome: std::io::Result<()> = tokio::time::timeout(Duration::from_secs(20), write).await.expect("cut off");
    outcome.unwrap_err();
    scene.still_serves().await;
}

#[tokio::test]
async fn a_client_gets_no_further_than_its_window() {
    let (scene, mut to_vault) = Scene::silent(RelayLimits::default()).await;
    let mut stream = scene.connect().await;
    let hello = serde_json::to_vec(&RelayHello::Relay { vault: VAULT }).unwrap();
    stream.write_all(&with_length(&hello)).await.unwrap();
    let open = to_vault.next().await.unwrap();
    let subject = Subject { member: VAULT, topic: Topic::ToDevice };
    let accepted = strongroom_bus::Envelope::new(subject, open.connection, Kind::Accepted);
    scene.host.publish(accepted).await.unwrap();
    assert!(receive(&mut stream).await.is_some());
    let frame = with_length(&vec![7; 500_000]);
    let write = async {
        loop {
            stream.write_all(&frame).await.unwrap();
        }
    };
    assert!(tokio::time::timeout(Duration::from_millis(500), write).await.is_err());
    let mut came = 0;
    while let Some(envelope) = to_vault.next_queued() {
        came += envelope.payload.len();
    }
    assert_eq!(came, 2_000_000, "four frames fit the window");
}

#[tokio::test]
async fn connections_and_new_vaults_are_counted() {
    let limits = RelayLimits { connections_per_uid_max: 3, new_vaults_per_hour_max: 2, ..RelayLimits::default() };
    let scene = Scene::echoing(limits).await;
    let held = [scene.channel().await, scene.channel().await];
    let mut maker = scene.connect().await;
    for _ in 0..2 {
        assert!(matches!(ask(&mut maker, &RelayHello::NewVault {}).await, RelayAnswer::NewVault { .. }));
    }
    let mut fourth = scene.connect().await;
    assert_eq!(receive(&mut fourth).await, None);
    let refused = ask(&mut maker, &RelayHello::NewVault {}).await;
    assert_eq!(refused, RelayAnswer::Refused(Refusal::new(Code::TooMany)));
    drop((held, maker));
    tokio::time::sleep(Duration::from_millis(100)).await;
    scene.still_serves().await;
}

#[tokio::test]
async fn one_vault_s_connections_leave_room_for_those_of_others() {
    let limits = RelayLimits { connections_per_uid_max: 5, connections_per_vault_max: 2, ..RelayLimits::default() };
    let scene = Scene::echoing(limits).await;
    let mut held = vec![scene.channel().await, scene.channel().await];
    let hello = |vault| RelayHello::Relay { vault };
    let busy = RelayAnswer::Refused(Refusal::new(Code::Busy));
    assert_eq!(ask(&mut scene.connect().await, &hello(VAULT)).await, busy);
    let mut other = scene.connect().await;
    assert_eq!(ask(&mut other, &hello(VaultId([2; 16]))).await, RelayAnswer::Relay {});
    drop(held.pop());
    // A place that is given up is free once the connection has ended on this side as well.
    let mut tries = 0;
    while ask(&mut scene.connect().await, &hello(VAULT)).await == busy {
        tries += 1;
        assert!(tries < 100, "the place stays taken");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_vault_that_answers_under_another_name_is_not_heard() {
    let (scene, mut to_vault) = Scene::silent(RelayLimits::default()).await;
    let mut stream = scene.connect().await;
    let hello = serde_json::to_vec(&RelayHello::Relay { vault: VAULT }).unwrap();
    stream.write_all(&with_length(&hello)).await.unwrap();
    let open = to_vault.next().await.unwrap();
    for (member, payload) in [(VaultId([2; 16]), b"theirs".as_slice()), (VAULT, b"mine")] {
        let subject = Subject { member, topic: Topic::ToDevice };
        let envelope = |kind| strongroom_bus::Envelope::new(subject, open.connection, kind);
        scene.host.publish(envelope(Kind::Accepted)).await.unwrap();
        scene.host.publish(envelope(Kind::Data).payload(payload)).await.unwrap();
    }
    let first: RelayAnswer = serde_json::from_slice(&receive(&mut stream).await.unwrap()).unwrap();
    assert_eq!(first, RelayAnswer::Relay {});
    assert_eq!(receive(&mut stream).await.unwrap(), b"mine");
}

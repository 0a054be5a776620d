//! A server that is not what it should be: another vault, an older certificate, changed settings, replayed frames, a log
//! that was cut. Nothing that unlocks may leave the device, and nothing may be confirmed.
#![allow(clippy::unwrap_used, reason = "a test")]

mod fake;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use fake::{FakeVault, bytes, greet, listen, profile, welcome};
use strongroom_client::channel::ConnectError;
use strongroom_client::fresh::{Factor, FactorError, Factors, passphrase_root};
use strongroom_client::log::LogAlarm;
use strongroom_client::open;
use strongroom_client::{ClientError, Session};
use strongroom_crypto::channel::{ChannelError, VaultHandshake};
use strongroom_crypto::factor::PassphraseError;
use strongroom_crypto::os_rng;
use strongroom_crypto::sign::{SigningKey, Statement};
use strongroom_wire::device::{
    CheckpointProof, DeviceAnswer, DeviceRequest, Kdf, LogPosition, SlotKind, SlotView, Status, Unlocked, VaultState,
};
use strongroom_wire::{Bytes, SlotId, Timestamp, VaultId};

/// Counts how often a factor was asked for.
struct Counted(usize);

impl Factors for Counted {
    fn factor(&mut self, slots: &[SlotView]) -> Result<Factor, FactorError> {
        self.0 += 1;
        Ok(Factor { slot: slots[0].id, root: passphrase_root("fig lantern oboe mistral quarry", &slots[0])? })
    }
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s.sock");
    (dir, socket)
}

fn status(state: VaultState) -> DeviceAnswer {
    DeviceAnswer::Status(Status {
        vault: VaultId([7; 16]),
        state,
        open_until: None,
        session_until: None,
        items: None,
        approvals: None,
        log_size: None,
        guests_suspended: None,
        version: "0".into(),
        update: None,
        unattended: None,
        unattended_refused: None,
    })
}

fn slot(memory_kib: u32) -> SlotView {
    SlotView {
        id: SlotId([4; 16]),
        kind: SlotKind::Passphrase,
        name: None,
        kdf: Some(Kdf { salt: bytes(&[5; 16]), memory_kib, passes: 3, lanes: 4 }),
        added_at: Timestamp(0),
    }
}

/// A checkpoint of a log of `size` events that is nothing but its root.
fn checkpoint(vault: &FakeVault, size: u64, root: u8) -> CheckpointProof {
    let audit = SigningKey::generate(&mut os_rng());
    let origin = format!("strongroom/vault/{}", vault.id);
    let root = tlog_tiles::tlog::Hash([root; 32]);
    let text = tlog_tiles::Checkpoint::new(&origin, size, root, "").unwrap().to_bytes();
    let id = u32::from_be_bytes(audit.public().note_key_id(&origin));
    let signature = signed_note::Signature::new(origin, id, audit.sign_checkpoint_note(&text).to_vec()).unwrap();
    let note = signed_note::Note::new(&text, &[signature]).unwrap().to_bytes();
    let statement = Statement::AuditCertificate { vault: vault.id.as_bytes(), audit_key: &audit.public(), epoch: 1 };
    CheckpointProof {
        note: String::from_utf8(note).unwrap(),
        audit_key: bytes(audit.public().as_bytes()),
        audit_certificate: bytes(&vault.identity.sign(&statement)),
        from_size: 0,
        consistency: Vec::new(),
    }
}

/// Serves one device with a vault, noting what was asked.
fn serve_device(
    socket: PathBuf,
    vault: FakeVault,
    device: strongroom_crypto::sign::PublicKey,
    answer: impl Fn(&FakeVault, &DeviceRequest) -> DeviceAnswer + Send + 'static,
) -> Arc<Mutex<Vec<String>>> {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&asked);
    listen(socket, move |wire| {
        let Some(mut served) = welcome(wire, &vault, device) else { return true };
        while let Some(envelope) = served.request() {
            notes.lock().unwrap().push(envelope.body.get().to_owned());
            let request: DeviceRequest = serde_json::from_str(envelope.body.get()).unwrap();
            let answer = answer(&vault, &request);
            served.answer(envelope.stream, Ok(answer));
        }
        true
    });
    asked
}

#[test]
fn another_vault_is_sent_nothing() {
    let (dir, socket) = place();
    let pinned = FakeVault::new();
    let profile = profile(dir.path(), &socket, pinned.identity.public(), b"", &LogPosition::default());
    let device = profile.sign_key().public();
    let impostor = FakeVault::new();
    let messages = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&messages);
    listen(socket, move |mut wire| {
        let Some(()) = greet(&mut wire) else { return true };
        let hello1 = wire.receive().unwrap();
        let (_, hello2) = VaultHandshake::answer(
            &hello1,
            impostor.id.as_bytes(),
            &impostor.channel,
            &impostor.start,
            &[],
            &mut os_rng(),
        )
        .unwrap();
        wire.send(&hello2);
        while wire.receive().is_some() {
            count.fetch_add(1, Ordering::SeqCst);
        }
        let _ = device;
        true
    });
    let mut factors = Counted(0);
    let refused = open::open(&mut Session::new(&profile, &mut factors), None).unwrap_err();
    assert!(matches!(refused, ClientError::Connect(ConnectError::Channel(ChannelError::Certificate))), "{refused:?}");
    assert_eq!((messages.load(Ordering::SeqCst), factors.0), (0, 0), "not even who we are");
}

#[test]
fn an_older_channel_certificate_is_refused() {
    let (dir, socket) = place();
    let identity = SigningKey::generate(&mut os_rng());
    let profile = profile(dir.path(), &socket, identity.public(), b"", &LogPosition::default());
    profile.store_channel_epoch(3).unwrap();
    let older = FakeVault::with_identity(identity, 2);
    let device = profile.sign_key().public();
    serve_device(socket, older, device, |_, _| status(VaultState::Locked));
    let mut factors = Counted(0);
    let refused = Session::new(&profile, &mut factors).ask(&DeviceRequest::Status {}).unwrap_err();
    assert!(matches!(refused, ClientError::Connect(ConnectError::Channel(ChannelError::Epoch))), "{refused:?}");
}

#[test]
fn weakened_settings_are_refused_before_the_passphrase_is_stretched() {
    let kdf = Kdf { salt: bytes(&[5; 16]), memory_kib: 65_536, passes: 3, lanes: 4 };
    for changed in [
        Some(Kdf { memory_kib: 1_024, ..kdf.clone() }),
        Some(Kdf { memory_kib: 65_535, ..kdf.clone() }),
        Some(Kdf { memory_kib: 1_048_577, ..kdf.clone() }),
        Some(Kdf { memory_kib: u32::MAX, ..kdf.clone() }),
        Some(Kdf { passes: 2, ..kdf.clone() }),
        Some(Kdf { passes: 0, ..kdf.clone() }),
        Some(Kdf { passes: u32::MAX, ..kdf.clone() }),
        Some(Kdf { lanes: 1, ..kdf.clone() }),
        Some(Kdf { salt: bytes(&[]), ..kdf.clone() }),
        Some(Kdf { salt: bytes(&[5; 8]), ..kdf.clone() }),
        None,
    ] {
        let (dir, socket) = place();
        let vault = FakeVault::new();
        let profile = profile(dir.path(), &socket, vault.identity.public(), b"", &LogPosition::default());
        let params = changed.clone();
        let asked = serve_device(socket, vault, profile.sign_key().public(), move |_, request| match request {
            DeviceRequest::Status {} => status(VaultState::Locked),
            DeviceRequest::SlotList {} => {
                DeviceAnswer::Slots { slots: vec![SlotView { kdf: params.clone(), ..slot(0) }] }
            }
            other => panic!("{other:?}"),
        });
        let mut factors = Counted(0);
        let refused = open::open(&mut Session::new(&profile, &mut factors), None).unwrap_err();
        let params_are_there = changed.as_ref().is_some_and(|kdf| kdf.salt.0.len() == 16);
        match refused {
            ClientError::Factor(FactorError::Passphrase(PassphraseError::Params(_))) if params_are_there => {}
            ClientError::Factor(FactorError::NoKdf) if !params_are_there => {}
            other => panic!("{changed:?}: {other:?}"),
        }
        assert!(!asked.lock().unwrap().iter().any(|body| body.contains("unlock")));
    }
}

#[test]
fn a_log_that_was_cut_or_forked_is_not_confirmed() {
    for (size, root, expected) in [
        (4, 1, LogAlarm::Shorter { seen: 6, now: 4 }),
        (6, 2, LogAlarm::Forked { seen: 6 }),
        (9, 1, LogAlarm::Forked { seen: 6 }),
    ] {
        let (dir, socket) = place();
        let vault = FakeVault::new();
        let seen = LogPosition { size: 6, root: bytes(&[1; 32]) };
        let profile = profile(dir.path(), &socket, vault.identity.public(), b"", &seen);
        let device = profile.sign_key().public();
        let asked = serve_device(socket, vault, device, move |vault, request| match request {
            DeviceRequest::Status {} => status(VaultState::Locked),
            DeviceRequest::SlotList {} => DeviceAnswer::Slots { slots: vec![slot(65_536)] },
            DeviceRequest::Unlock(_) => DeviceAnswer::Unlocked(Unlocked {
                session_until: Timestamp(1),
                open_until: Timestamp(1),
                checkpoint: checkpoint(vault, size, root),
            }),
            other => panic!("{other:?}"),
        });
        let mut factors = Counted(0);
        let refused = open::open(&mut Session::new(&profile, &mut factors), None).unwrap_err();
        assert!(matches!(&refused, ClientError::Alarm(alarm) if *alarm == expected), "{refused:?}");
        assert!(!asked.lock().unwrap().iter().any(|body| body.contains("log_confirm")));
        assert_eq!(profile.seen().unwrap(), seen);
    }
}

#[test]
fn a_checkpoint_of_another_key_vault_or_epoch_is_not_confirmed() {
    type Forge = fn(&FakeVault, CheckpointProof) -> CheckpointProof;
    fn certified(proof: &CheckpointProof, by: &SigningKey, id: [u8; 16], epoch: u32) -> Vec<u8> {
        let audit_key = strongroom_crypto::sign::PublicKey::from_bytes(&proof.audit_key.0).unwrap();
        by.sign(&Statement::AuditCertificate { vault: &id, audit_key: &audit_key, epoch }).to_vec()
    }
    let forgeries: [(&str, Forge); 6] = [
        ("a key that the server vouches for", |vault, proof| CheckpointProof {
            audit_certificate: Bytes(certified(&proof, &SigningKey::generate(&mut os_rng()), vault.id.0, 1)),
            ..proof
        }),
        ("a key that another vault vouches for", |vault, proof| CheckpointProof {
            audit_certificate: Bytes(certified(&proof, &vault.identity, [8; 16], 1)),
            ..proof
        }),
        ("a key of another epoch", |vault, proof| CheckpointProof {
            audit_certificate: Bytes(certified(&proof, &vault.identity, vault.id.0, 2)),
            ..proof
        }),
        ("another key with the certificate of the right one", |vault, proof| CheckpointProof {
            audit_key: checkpoint(vault, 6, 1).audit_key,
            ..proof
        }),
        ("the note of another key", |vault, proof| CheckpointProof { note: checkpoint(vault, 7, 1).note, ..proof }),
        ("a note with another size", |_, proof| CheckpointProof {
            note: proof.note.replace("\n7\n", "\n8\n"),
            ..proof
        }),
    ];
    for (name, forge) in forgeries {
        let (dir, socket) = place();
        let vault = FakeVault::new();
        let profile = profile(dir.path(), &socket, vault.identity.public(), b"", &LogPosition::default());
        let asked = serve_device(socket, vault, profile.sign_key().public(), move |vault, request| match request {
            DeviceRequest::Status {} => status(VaultState::Locked),
            DeviceRequest::SlotList {} => DeviceAnswer::Slots { slots: vec![slot(65_536)] },
            DeviceRequest::Unlock(_) => DeviceAnswer::Unlocked(Unlocked {
                session_until: Timestamp(1),
                open_until: Timestamp(1),
                checkpoint: forge(vault, checkpoint(vault, 7, 1)),
            }),
            other => panic!("{other:?}"),
        });
        let mut factors = Counted(0);
        let refused = open::open(&mut Session::new(&profile, &mut factors), None).unwrap_err();
        let alarmed = matches!(
            refused,
            ClientError::Alarm(LogAlarm::Uncertified | LogAlarm::Checkpoint { why: "its signature does not verify" })
        );
        assert!(alarmed, "{name}: {refused:?}");
        assert!(!asked.lock().unwrap().iter().any(|body| body.contains("log_confirm")), "{name}");
    }
}

#[test]
fn an_answer_that_is_too_large_malformed_or_to_another_request_is_refused() {
    for attack in ["larger than a frame", "unknown field", "another stream", "another answer", "no JSON"] {
        let (dir, socket) = place();
        let vault = FakeVault::new();
        let profile = profile(dir.path(), &socket, vault.identity.public(), b"", &LogPosition::default());
        let device = profile.sign_key().public();
        listen(socket, move |wire| {
            let Some(mut served) = welcome(wire, &vault, device) else { return true };
            let Some(envelope) = served.request() else { return true };
            let stream = envelope.stream;
            let payload = match attack {
                "another answer" => {
                    format!("{{\"stream\":{stream},\"result\":{{\"Ok\":{{\"slots\":{{\"slots\":[]}}}}}}}}")
                }
                "unknown field" => {
                    format!("{{\"stream\":{stream},\"result\":{{\"Ok\":{{\"done\":{{}}}}}},\"more\":1}}")
                }
                "another stream" => format!("{{\"stream\":{},\"result\":{{\"Ok\":{{\"done\":{{}}}}}}}}", stream + 1),
                _ => "[".repeat(10_000),
            };
            let mut frame = served.channel.seal_frame(2, payload.as_bytes()).unwrap();
            if attack == "larger than a frame" {
                frame.resize(strongroom_wire::limits::SEALED_FRAME_BYTES_MAX + 1, 0);
            }
            served.wire.send(&frame);
            true
        });
        let mut factors = Counted(0);
        let refused = Session::new(&profile, &mut factors).slots();
        if attack == "another answer" {
            // The shape that the others are changes of.
            assert_eq!(refused.unwrap(), []);
            continue;
        }
        let refused = refused.unwrap_err();
        assert!(matches!(refused, ClientError::Connect(ConnectError::Protocol { .. })), "{attack}: {refused:?}");
    }
}

#[test]
fn replayed_reordered_and_changed_frames_end_the_channel() {
    for attack in ["replay", "reorder", "flip", "truncate"] {
        let (dir, socket) = place();
        let vault = FakeVault::new();
        let profile = profile(dir.path(), &socket, vault.identity.public(), b"", &LogPosition::default());
        let device = profile.sign_key().public();
        listen(socket, move |wire| {
            let Some(mut served) = welcome(wire, &vault, device) else { return true };
            let Some(envelope) = served.request() else { return true };
            let answer = strongroom_wire::device::Answer {
                stream: envelope.stream,
                result: Ok::<_, strongroom_wire::Refusal>(status(VaultState::Open)),
                body_follows: false,
            };
            let payload = serde_json::to_vec(&answer).unwrap();
            let event = serde_json::to_vec(&strongroom_wire::frame::Event::Approvals {}).unwrap();
            let first = served.channel.seal_frame(3, &event).unwrap();
            let mut second = served.channel.seal_frame(2, &payload).unwrap();
            match attack {
                "replay" => [&first, &first, &second].map(|frame| served.wire.send(frame)),
                "reorder" => [&second, &first, &first].map(|frame| served.wire.send(frame)),
                "flip" => {
                    *second.last_mut().unwrap() ^= 1;
                    [&first, &second, &second].map(|frame| served.wire.send(frame))
                }
                _ => {
                    second.truncate(20);
                    [&first, &second, &second].map(|frame| served.wire.send(frame))
                }
            };
            true
        });
        let mut factors = Counted(0);
        let refused = Session::new(&profile, &mut factors).ask(&DeviceRequest::Status {}).unwrap_err();
        assert!(matches!(refused, ClientError::Connect(ConnectError::Channel(_))), "{attack}: {refused:?}");
    }
}

#[test]
fn a_revoked_device_is_told_apart_from_a_dead_server() {
    let (dir, socket) = place();
    let vault = FakeVault::new();
    let profile = profile(dir.path(), &socket, vault.identity.public(), b"", &LogPosition::default());
    let stranger = SigningKey::generate(&mut os_rng()).public();
    serve_device(socket, vault, stranger, |_, _| status(VaultState::Open));
    let mut factors = Counted(0);
    let refused = Session::new(&profile, &mut factors).ask(&DeviceRequest::Status {}).unwrap_err();
    assert!(matches!(refused, ClientError::Connect(ConnectError::TurnedAway)), "{refused:?}");

    let (dir, socket) = place();
    let profile = fake::profile(dir.path(), &socket, FakeVault::new().identity.public(), b"", &LogPosition::default());
    let refused = Session::new(&profile, &mut factors).ask(&DeviceRequest::Status {}).unwrap_err();
    assert!(matches!(refused, ClientError::Connect(ConnectError::Unreachable { .. })), "{refused:?}");
}

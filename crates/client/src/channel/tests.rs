//! The device's end of a channel, against a vault that these tests play.

use strongroom_crypto::sign::SigningKey;
use strongroom_wire::Code;
use strongroom_wire::device::{DeviceAnswer, DeviceRequest};

use super::fake::{FakeVault, Served, listen, welcome};
use super::*;

fn connect(serve: impl Fn(&mut Served<'_>) + Send + 'static) -> (tempfile::TempDir, Connection) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s.sock");
    let (vault, key) = (FakeVault::new(), SigningKey::generate(&mut os_rng()));
    let (identity, device, id) = (vault.identity.public(), key.public(), vault.id);
    listen(socket.clone(), move |wire| {
        if let Some(mut served) = welcome(wire, &vault, device) {
            serve(&mut served);
        }
        true
    });
    let speaker = Speaker::new(Role::Device, [2; 16], &key);
    let connection = Connection::open(&socket, id, Expected::Identity(&identity, 0), Trust::Unasked, speaker).unwrap();
    (dir, connection)
}

fn ask() -> Ask {
    Ask {
        id: new_request_id(),
        fresh: None,
        credential: None,
        body: serde_json::value::to_raw_value(&DeviceRequest::Lock {}).unwrap(),
        patience: Duration::from_secs(5),
    }
}

#[test]
fn keys_are_renewed_between_and_inside_requests() {
    let (_dir, mut connection) = connect(|served| {
        while let Some(envelope) = served.request() {
            served.answer_with(envelope.stream, Ok(DeviceAnswer::Done {}), true);
            // The device renews the keys while these are on their way.
            for n in 0..3 {
                let chunk = Chunk { stream: envelope.stream, last: n == 2, aborted: false, data: b"abc" };
                served.send(FrameType::Chunk, &chunk.encode());
            }
        }
    });
    for _ in 0..3 {
        let (answer, body) = connection.ask_streaming::<DeviceAnswer>(&ask(), None).unwrap();
        assert!(matches!(answer, DeviceAnswer::Done {}));
        let mut body = body.unwrap();
        body.connection.begin_rekey().unwrap();
        let mut text = String::new();
        body.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abcabcabc");
    }
}

#[test]
fn bodies_flow_both_ways_no_further_than_their_credit() {
    let (_dir, mut connection) = connect(|served| {
        let envelope = served.request().unwrap();
        let (mut got, mut unpaid, window) = (0, 0, STREAM_WINDOW_BYTES as usize);
        loop {
            let (kind, payload) = served.frame().unwrap();
            assert_eq!(kind, FrameType::Chunk);
            let chunk = Chunk::decode(&payload).unwrap();
            got += chunk.data.len();
            unpaid += chunk.data.len();
            assert!(unpaid <= window, "more than was allowed");
            if chunk.last {
                break;
            }
            if unpaid == window {
                let credit = Credit { stream: envelope.stream, bytes: STREAM_WINDOW_BYTES };
                served.send(FrameType::Credit, &credit.encode());
                unpaid = 0;
            }
        }
        assert_eq!(got, 1_000_000);
        served.answer_with(envelope.stream, Ok(DeviceAnswer::Done {}), true);
        let mut credit = window;
        for n in 0..40 {
            while credit < CHUNK_BYTES_MAX {
                let (kind, payload) = served.frame().unwrap();
                assert_eq!(kind, FrameType::Credit);
                credit += Credit::decode(&payload).unwrap().bytes as usize;
            }
            credit -= CHUNK_BYTES_MAX;
            let data = vec![n; CHUNK_BYTES_MAX];
            let chunk = Chunk { stream: envelope.stream, last: n == 39, aborted: false, data: &data };
            served.send(FrameType::Chunk, &chunk.encode());
        }
        // It stays until the device has read everything.
        while served.frame().is_some() {}
    });
    let data = vec![7; 1_000_000];
    let mut source = data.as_slice();
    let upload = Upload { source: &mut source, fd: None };
    let (_, body) = connection.ask_streaming::<DeviceAnswer>(&ask(), Some(upload)).unwrap();
    let mut back = Vec::new();
    body.unwrap().read_to_end(&mut back).unwrap();
    assert_eq!(back.len(), 40 * CHUNK_BYTES_MAX);
    assert!(!connection.is_ended());
}

#[test]
fn a_body_that_was_sent_is_read_though_its_sender_is_gone() {
    let (gone, is_gone) = std::sync::mpsc::channel();
    let (_dir, mut connection) = connect(move |served| {
        let envelope = served.request().unwrap();
        served.answer_with(envelope.stream, Ok(DeviceAnswer::Done {}), true);
        // So much that credit falls due, when there is nobody left to take it.
        for data in [&[1; CHUNK_BYTES_MAX][..], b"end"] {
            let chunk = Chunk { stream: envelope.stream, last: data == b"end", aborted: false, data };
            served.send(FrameType::Chunk, &chunk.encode());
        }
        served.wire.stream.shutdown(std::net::Shutdown::Both).unwrap();
        gone.send(()).unwrap();
    });
    let (_, body) = connection.ask_streaming::<DeviceAnswer>(&ask(), None).unwrap();
    is_gone.recv().unwrap();
    let mut back = Vec::new();
    body.unwrap().read_to_end(&mut back).unwrap();
    assert_eq!(back.len(), CHUNK_BYTES_MAX + 3);
    assert!(connection.is_ended());
}

#[test]
fn a_body_that_breaks_off_is_an_error_and_one_left_unread_ends_the_connection() {
    let (_dir, mut connection) = connect(|served| {
        while let Some(envelope) = served.request() {
            served.answer_with(envelope.stream, Ok(DeviceAnswer::Done {}), true);
            let chunk = Chunk { stream: envelope.stream, last: true, aborted: true, data: b"" };
            served.send(FrameType::Chunk, &chunk.encode());
        }
    });
    let (_, body) = connection.ask_streaming::<DeviceAnswer>(&ask(), None).unwrap();
    assert!(body.unwrap().read_to_end(&mut Vec::new()).is_err());
    let (_, body) = connection.ask_streaming::<DeviceAnswer>(&ask(), None).unwrap();
    drop(body);
    assert!(connection.is_ended());
}

#[test]
fn a_vault_that_floods_while_keys_are_renewed_is_cut_off() {
    let (_dir, mut connection) = connect(|served| {
        let chunk = Chunk { stream: 1, last: false, aborted: false, data: &[0; CHUNK_BYTES_MAX] };
        // Beyond what a device holds, and never a frame under new keys.
        for _ in 0..100 {
            served.send(FrameType::Chunk, &chunk.encode());
        }
    });
    connection.begin_rekey().unwrap();
    let refused = connection.ask::<DeviceAnswer>(&ask()).unwrap_err();
    assert!(matches!(refused, AskError::Connection(ConnectError::Protocol { .. })), "{refused:?}");
    let held: usize = connection.stash.iter().map(|(_, payload)| payload.len()).sum();
    assert!(held <= FRAME_BYTES_MAX + STREAM_WINDOW_BYTES as usize, "{held}");
}

#[test]
fn events_and_single_bytes_do_not_put_the_end_of_a_wait_off() {
    for drip in [true, false] {
        let (_dir, mut connection) = connect(move |served| {
            for byte in with_length(&[0; 200]) {
                if drip && served.wire.stream.write_all(&[byte]).is_err() {
                    return;
                }
                if !drip {
                    served.send(FrameType::Event, br#"{"locked":{}}"#);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let started = clock::monotonic_ms();
        let ask = Ask { patience: Duration::from_millis(400), ..ask() };
        let refused = connection.ask::<DeviceAnswer>(&ask).unwrap_err();
        assert!(matches!(refused, AskError::Connection(ConnectError::TimedOut)), "{refused:?}");
        assert!(clock::monotonic_ms() - started < 5_000);
    }
}

#[test]
fn answers_to_other_requests_and_refusals_are_told_apart() {
    let (_dir, mut connection) = connect(|served| {
        let envelope = served.request().unwrap();
        served.answer(envelope.stream, Err(Code::VaultLocked.into()));
        let envelope = served.request().unwrap();
        served.answer(envelope.stream + 1, Ok(DeviceAnswer::Done {}));
    });
    let refused = connection.ask::<DeviceAnswer>(&ask()).unwrap_err();
    assert!(matches!(refused, AskError::Refused(refusal) if refusal.code == Code::VaultLocked));
    let refused = connection.ask::<DeviceAnswer>(&ask()).unwrap_err();
    assert!(matches!(refused, AskError::Connection(ConnectError::Protocol { .. })));
}

//! The attacker between device and server.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use serde_json::value::to_raw_value;
use strongroom_client::Profile;
use strongroom_client::channel::{
    Ask, AskError, ConnectError, Connection, Expected, PATIENCE, Speaker, Trust, new_request_id,
};
use strongroom_client::crypto::channel::{ChannelError, DeviceHandshake, Joiner, Pin, Role};
use strongroom_client::crypto::os_rng;
use strongroom_client::guest::GuestKey;
use strongroom_client::wire::device::{DeviceAnswer, DeviceRequest, Envelope};
use strongroom_client::wire::frame::{FrameType, Messages, with_length};
use strongroom_client::wire::limits::SEALED_FRAME_BYTES_MAX;
use strongroom_client::wire::{Code, VaultId};
use strongroom_e2e::canaries::Canaries;
use strongroom_e2e::place::PASSPHRASE;
use strongroom_e2e::{Api, Place};

use crate::relay::{Instead, Relay, Seen, Way};

/// The device of a place, as its command has left it.
pub(crate) fn device(place: &Place, profile: &str) -> Profile {
    Profile::load(&Profile::dir(&place.home(), profile).expect("a name")).expect("a device")
}

/// As this device, to the vault that it knows.
fn connect(profile: &Profile, socket: &Path) -> Result<Connection, AskError> {
    let speaker = Speaker::new(Role::Device, profile.device().0, profile.sign_key());
    Connection::open(socket, profile.vault(), Expected::Identity(profile.identity(), 1), Trust::Unasked, speaker)
}

fn status(connection: &mut Connection) -> Result<(), AskError> {
    let body = to_raw_value(&DeviceRequest::Status {}).expect("a request has a JSON form");
    let ask = Ask { id: new_request_id(), fresh: None, credential: None, body, patience: PATIENCE };
    connection.ask::<DeviceAnswer>(&ask).map(|_| ())
}

/// Three requests, one after the other.
fn converse(profile: &Profile, socket: &Path) -> Result<(), AskError> {
    let mut connection = connect(profile, socket)?;
    (0..3).try_for_each(|_| status(&mut connection))
}

/// What an attacker does to one message.
type Change = Arc<dyn Fn(&[u8]) -> Instead + Send + Sync>;

fn changes() -> Vec<(String, Change)> {
    fn change(name: impl Into<String>, of: impl Fn(&[u8]) -> Instead + Send + Sync + 'static) -> (String, Change) {
        (name.into(), Arc::new(of))
    }
    let resized = |message: &[u8], length: usize| {
        let mut resized = message.to_vec();
        resized.resize(length, 0);
        Instead::whole(&resized)
    };
    let mut all = vec![
        change("cut by a byte", move |message| resized(message, message.len() - 1)),
        change("cut in half", move |message| resized(message, message.len() / 2)),
        change("empty", |_| Instead::whole(&[])),
        change("a byte longer", move |message| resized(message, message.len() + 1)),
        change("as large as can be", move |message| resized(message, SEALED_FRAME_BYTES_MAX)),
        change("larger than can be", move |message| resized(message, SEALED_FRAME_BYTES_MAX + 1)),
        change("of zeros", |message| Instead::whole(&vec![0; message.len()])),
        change("sent twice", |message| Instead::Send([with_length(message), with_length(message)].concat())),
        change("with a length of four gigabytes", |message| Instead::Send([&[0xff; 4], message].concat())),
        change("with a length that is too short", |message| {
            let length = u32::try_from(message.len() - 1).expect("a short message");
            Instead::Send([&length.to_be_bytes(), message].concat())
        }),
        change(BROKEN_OFF, |message| Instead::SendAndCut(with_length(message)[..message.len() / 2].to_vec())),
        change(CUT_OFF, |_| Instead::cut()),
    ];
    // Version or counter, vault, key, suite, seal and tag, wherever each lies in the different messages.
    for place in 0..8 {
        all.push(change(format!("with bit {place} at {place}/7 flipped"), move |message| {
            let mut flipped = message.to_vec();
            flipped[(message.len() - 1) * place / 7] ^= 1 << place;
            Instead::whole(&flipped)
        }));
    }
    all
}

/// Each message of a conversation with its change; the conversation must break, and the device must say why.
fn breaks(
    profile: &Profile,
    relay: &Relay,
    way: Way,
    number: usize,
    name: &str,
    change: impl Fn(&[u8]) -> Instead + Send + 'static,
) {
    relay.does(move |seen| match (seen.way, seen.number) == (way, number) {
        true => change(&seen.bytes),
        false => seen.pass(),
    });
    let place = format!("message {number} {way:?}, {name}");
    let refused = converse(profile, relay.socket()).expect_err(&place);
    let changed_answer = way == Way::ToClient && number > 0 && !matches!(name, BROKEN_OFF | CUT_OFF);
    match refused {
        AskError::Connection(ConnectError::Channel(_) | ConnectError::Protocol { .. }) => {}
        AskError::Refused(refusal) if number == 0 => {
            assert!(matches!(refusal.code, Code::RequestMalformed | Code::VaultUnknown), "{place}: {refusal:?}");
        }
        AskError::Connection(ConnectError::Broken(_) | ConnectError::TurnedAway) if !changed_answer => {}
        other => panic!("{place}: {other:?}"),
    }
}

fn is_untouched(place: &Place, pid: Option<u32>) {
    assert_eq!(place.vault_pid(), pid, "the vault process goes on: {}", place.log());
    let status = place.say("status").json();
    assert_eq!(status["state"], "locked", "{status}");
    place.say("unlock").ok();
    place.say("audit verify").ok();
    assert_eq!(place.say("item list").json().as_array().map(Vec::len), Some(1));
    place.say("lock").ok();
}

fn with_item() -> Place {
    let place = Place::with_vault();
    place.say("item add note Diary --stdin").stdin("dear diary").ok();
    place.say("lock").ok();
    place
}

#[test]
fn whatever_is_changed_between_device_and_vault_ends_the_channel() {
    let place = with_item();
    let (profile, relay, pid) = (device(&place, "default"), Relay::start(&place), place.vault_pid());
    converse(&profile, relay.socket()).unwrap();
    let honest = relay.take();
    for way in [Way::ToVault, Way::ToClient] {
        let messages = honest.iter().filter(|seen| seen.way == way).count();
        assert!(messages >= 6, "a greeting, the handshake, three frames: {messages}");
        for number in 0..5 {
            for (name, change) in changes() {
                breaks(&profile, &relay, way, number, &name, move |message| change(message));
            }
        }
    }
    is_untouched(&place, pid);
}

/// Sends three requests at once, as no client of ours does, and opens what comes back.
fn pipeline(profile: &Profile, socket: &Path) -> Result<(), Option<ChannelError>> {
    let mut stream = UnixStream::connect(socket).expect("the relay listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut messages = Messages::new(SEALED_FRAME_BYTES_MAX);
    let mut receive = |stream: &mut UnixStream| loop {
        match messages.next_message().expect("short messages") {
            Some(message) => return Ok(message),
            None => {
                let mut buffer = [0; 4096];
                let count = stream.read(&mut buffer).map_err(|_| None)?;
                if count == 0 {
                    return Err(None);
                }
                messages.push(&buffer[..count]);
            }
        }
    };
    let send = |mut stream: &UnixStream, message: &[u8]| stream.write_all(&with_length(message)).map_err(|_| None);
    send(&stream, format!("{{\"relay\":{{\"vault\":\"{}\"}}}}", profile.vault()).as_bytes())?;
    receive(&mut stream)?;
    let mut rng = os_rng();
    let (handshake, hello1) = DeviceHandshake::start(profile.vault().as_bytes(), &mut rng);
    send(&stream, &hello1)?;
    let pin = Pin::Identity { key: profile.identity(), epoch_min: 1 };
    let me = Joiner { role: Role::Device, id: &profile.device().0, key: profile.sign_key() };
    let hello2 = receive(&mut stream)?;
    let (mut channel, hello3) = handshake.finish(&hello2, &pin, &me, 0, &mut rng)?;
    send(&stream, &hello3)?;
    channel.open_frame(&receive(&mut stream)?)?;
    for number in 1..=3 {
        let body = to_raw_value(&DeviceRequest::Status {}).expect("a request has a JSON form");
        let envelope = Envelope { stream: number, id: new_request_id(), fresh: None, credential: None, body };
        let payload = serde_json::to_vec(&envelope).expect("an envelope has a JSON form");
        send(&stream, &channel.seal_frame(FrameType::Request as u8, &payload)?)?;
    }
    for _ in 0..3 {
        channel.open_frame(&receive(&mut stream)?)?;
    }
    Ok(())
}

#[test]
fn a_frame_that_is_left_out_or_sent_after_the_next_one_ends_the_channel() {
    let place = with_item();
    let (profile, relay, pid) = (device(&place, "default"), Relay::start(&place), place.vault_pid());
    assert_eq!(pipeline(&profile, relay.socket()), Ok(()));
    for way in [Way::ToVault, Way::ToClient] {
        for swapped in [false, true] {
            let mut held = Vec::new();
            relay.does(move |seen| match (seen.way == way, seen.number) {
                (true, 3) => {
                    held = with_length(&seen.bytes);
                    Instead::Send(Vec::new())
                }
                (true, 4) if swapped => Instead::Send([with_length(&seen.bytes), held.clone()].concat()),
                _ => seen.pass(),
            });
            let expected = (way == Way::ToClient).then_some(ChannelError::Counter);
            assert_eq!(pipeline(&profile, relay.socket()), Err(expected), "{way:?}, swapped {swapped}");
        }
    }
    is_untouched(&place, pid);
}

/// The messages of one way of a conversation that was listened to.
fn of_way(recorded: &[Seen], way: Way) -> Vec<Vec<u8>> {
    recorded.iter().filter(|seen| seen.way == way).map(|seen| seen.bytes.clone()).collect()
}

#[test]
fn frames_of_another_session_vault_or_guest_are_not_taken_for_this_ones() {
    let place = with_item();
    place.run(["--profile", "other", "create", "--phrase-to-file"]).args([place.path("kit2")]).ok();
    place.say("unlock").ok();
    place.say("guest add helper").ok();
    place.say("lock").ok();
    let (profile, other) = (device(&place, "default"), device(&place, "other"));
    let guest = GuestKey::load(&GuestKey::path(profile.folder(), "helper").unwrap()).unwrap();
    let (relay, pids) = (Relay::start(&place), place.vault_pid());
    let listen = |run: &mut dyn FnMut(&Path)| {
        run(relay.socket());
        relay.take()
    };
    let guests = listen(&mut |socket| {
        let speaker = Speaker::new(Role::Guest, guest.guest().0, guest.sign_key());
        let expected = Expected::Identity(guest.identity(), 0);
        let mut connection = Connection::open(socket, guest.vault(), expected, Trust::Unasked, speaker).unwrap();
        for _ in 0..3 {
            let body = to_raw_value(&serde_json::json!({ "list": {} })).unwrap();
            let ask = Ask { id: new_request_id(), fresh: None, credential: None, body, patience: PATIENCE };
            assert!(matches!(connection.ask::<Value>(&ask), Err(AskError::Refused(_))), "it is locked");
        }
    });
    let others = listen(&mut |socket| converse(&other, socket).unwrap());
    let earlier = listen(&mut |socket| converse(&profile, socket).unwrap());
    for (whose, recorded) in [("a guest", &guests), ("another vault", &others), ("an earlier session", &earlier)] {
        for way in [Way::ToVault, Way::ToClient] {
            let messages = of_way(recorded, way);
            assert!(messages.len() >= 5, "{whose} said too little to be of use");
            // The greeting is the same for all who ask for one vault.
            let first = usize::from(whose != "another vault" || way == Way::ToClient);
            for (number, instead) in messages.iter().cloned().enumerate().take(5).skip(first) {
                breaks(&profile, &relay, way, number, whose, move |_| Instead::whole(&instead));
            }
        }
        // All that the device would have sent, by someone who has only listened: after the vault's hello there is nothing.
        let mut stream = UnixStream::connect(place.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        for message in of_way(recorded, Way::ToVault) {
            // It may have been closed by now.
            let _ = stream.write_all(&with_length(&message));
        }
        let mut answer = Vec::new();
        // A reset is an end as well.
        let _ = stream.read_to_end(&mut answer);
        let heard = of_way(recorded, Way::ToClient);
        assert_eq!(answer.len(), 4 + heard[0].len() + 4 + heard[1].len(), "{whose}");
    }
    // The other vault in this one's place is a stranger, and is told nothing, not even who asks.
    let id = serde_json::to_vec(&serde_json::json!({ "relay": { "vault": other.vault() } })).unwrap();
    relay.does(move |seen| match (seen.way, seen.number) {
        (Way::ToVault, 0) => Instead::whole(&id),
        _ => seen.pass(),
    });
    assert!(converse(&profile, relay.socket()).is_err());
    let hello2 = of_way(&others, Way::ToClient)[1].clone();
    relay.take();
    relay.does(move |seen| match (seen.way, seen.number) {
        (Way::ToClient, 1) => Instead::whole(&hello2),
        _ => seen.pass(),
    });
    place.say("unlock").env("STRONGROOM_SOCKET", relay.socket()).refused(5, "vault_not_authentic");
    assert_eq!(of_way(&relay.take(), Way::ToVault).len(), 2, "greeting and hello, and no word more");
    assert_eq!(place.vault_pid(), pids);
    is_untouched(&place, pids);
}

#[test]
fn what_is_cut_off_at_any_message_is_done_once_or_not_at_all() {
    let place = with_item();
    place.say("unlock").ok();
    let relay = Relay::start(&place);
    let cut_at = |way: Way, number: usize| {
        // The first connection alone: the command asks once more under the same id.
        let mut first = None;
        relay.does(move |seen| {
            let here = seen.connection == *first.get_or_insert(seen.connection);
            if here && (seen.way, seen.number) == (way, number) { Instead::cut() } else { seen.pass() }
        });
    };
    let mut there_in_all = 1;
    for way in [Way::ToVault, Way::ToClient] {
        for number in 0..8 {
            for kind in ["note", "wallet"] {
                cut_at(way, number);
                let label = format!("{kind}-{way:?}-{number}");
                let add = place.run(["--json", "item", "add", kind, &label, "--stdin"]).stdin("a secret of it");
                let ran = add.env("STRONGROOM_SOCKET", relay.socket()).run();
                let there = place.run(["item", "list", &label]).json().as_array().map_or(0, Vec::len);
                assert!(there <= 1 && (ran.code != Some(0) || there == 1), "{there} of them\n{ran}");
                let expected = [None, Some("connection_lost"), Some("turned_away")];
                assert!(expected.contains(&ran.error()), "{ran}");
                there_in_all += there;
            }
            cut_at(way, number);
            place.say("lock").ok();
            let ran = place.say("--json unlock").env("STRONGROOM_SOCKET", relay.socket()).run();
            let expected = [None, Some("connection_lost"), Some("turned_away")];
            assert!(expected.contains(&ran.error()), "{ran}");
            place.say("unlock").ok();
        }
    }
    assert_eq!(place.say("item list").json().as_array().map(Vec::len), Some(there_in_all));
    place.say("audit verify").ok();
    // No chain was frozen by it, and every seed that was acknowledged is still there.
    place.say("item add wallet last --stdin").stdin("a last seed").ok();
}

/// The sizes that a frame can have: counter, type, padded text, tag; the text by the rule of docs/cryptography.md, section 1.
fn is_padded(length: usize) -> bool {
    let Some(padded) = length.checked_sub(8 + 1 + 16) else { return false };
    let exponent = padded.ilog2();
    padded == 256 || (padded > 256 && padded.is_multiple_of(1 << (exponent - exponent.ilog2() - 1)))
}

#[test]
fn whoever_listens_learns_sizes_and_times() {
    let mut place = Place::new();
    place.serve(&[]);
    let relay = Relay::start(&place);
    let through = |line: &str| place.run(line.split(' ')).env("STRONGROOM_SOCKET", relay.socket());
    let canaries = Canaries::default();
    let key = canaries.text("the API's key");
    canaries.add("the passphrase", PASSPHRASE.as_bytes());
    let api = Api::start(&place, &key);
    let vault = {
        through("create --device-name canary-device --phrase-to-file").args([place.path("kit")]).ok();
        through("status").json()["vault"].as_str().unwrap().parse::<VaultId>().unwrap()
    };
    let host = format!("localhost:{}", api.port);
    through("item add api_key canary-label-1 --stdin --allow-private --tag canary-tag-12 --host")
        .args([&host])
        .args(["--roots"])
        .args([&api.roots])
        .stdin(key.as_str())
        .ok();
    through("item add login canary-label-2 --stdin --set username=canary-user-1")
        .stdin(canaries.text("a password"))
        .ok();
    through("item add wallet canary-label-3 --stdin").stdin(canaries.text("a wallet's seed")).ok();
    through("guest add canary-guest-1").ok();
    through("grant add --guest canary-guest-1 canary-label-1 http --path /canary-path-1 --mode always").ok();
    let url = api.url("/canary-path-1");
    assert!(through("use --guest canary-guest-1 http canary-label-1").args([&url]).ok().contains("celsius"));
    through("item list").ok();
    through("audit list").ok();
    through("audit verify").ok();
    through("lock").ok();
    through("unlock").ok();
    for text in ["canary-device", "canary-tag-12", "canary-user-1", "canary-guest-1", "canary-path-1", "celsius\":21,"]
    {
        canaries.add(text, text.as_bytes());
    }
    for text in ["canary-label-1", "canary-label-2", "canary-label-3"] {
        canaries.add(text, text.as_bytes());
    }
    let kit = std::fs::read_to_string(place.path("kit")).unwrap();
    canaries.add("the phrase's first words", kit.split_whitespace().take(4).collect::<Vec<_>>().join(" ").as_bytes());
    let recorded = relay.take();
    assert!(recorded.len() > 100, "all of it went by: {}", recorded.len());
    let searcher = canaries.searcher();
    let mut all = Vec::new();
    for seen in &recorded {
        all.extend_from_slice(&seen.bytes);
        let frame = seen.number >= if seen.way == Way::ToVault { 3 } else { 2 };
        let greeting = seen.number == 0 || seen.bytes.first() == Some(&b'{');
        assert!(!frame || is_padded(seen.bytes.len()), "{} bytes", seen.bytes.len());
        assert!(frame || greeting || seen.bytes.len() > 1_000, "a hello: {} bytes", seen.bytes.len());
    }
    assert_eq!(searcher.find("what went by", &all), []);
    assert!(
        of_way(&recorded, Way::ToVault)
            .iter()
            .any(|bytes| { String::from_utf8_lossy(bytes) == format!("{{\"relay\":{{\"vault\":\"{vault}\"}}}}") }),
        "which vault is spoken to, it is told"
    );

    // Of small requests it cannot tell which was which.
    let sizes = |line: &str| {
        through(line).ok();
        of_way(&relay.take(), Way::ToVault).iter().map(Vec::len).collect::<Vec<_>>()
    };
    assert_eq!(sizes("guest list"), sizes("devices list"));
}

const BROKEN_OFF: &str = "broken off";
const CUT_OFF: &str = "cut off";

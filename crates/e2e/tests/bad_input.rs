//! Bad input, each with a clear error and nothing lost.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use strongroom_e2e::{Place, processes};

fn with_item() -> Place {
    let place = Place::with_vault();
    place.say("item add note Diary --stdin").stdin("dear diary").ok();
    place
}

fn is_whole(place: &Place) {
    assert_eq!(place.say("item list Diary").json()[0]["label"], "Diary");
    assert_eq!(place.say("exec --env T=Diary -- sh -c").args(["printf %s \"$T\""]).hands_out().ok(), "dear diary");
    place.say("audit verify").ok();
}

#[test]
fn a_wrong_passphrase_is_refused_and_soon_has_to_wait() {
    let mut place = with_item();
    let wrong = place.write("wrong", "not the passphrase at all\n");
    for _ in 0..5 {
        place.say("item add note Other --stdin").stdin("x").passphrase(&wrong).refused(1, "fresh_refused");
    }
    let wait = place.say("item add note Other --stdin").stdin("x").passphrase(&wrong).refused(1, "attempts_wait");
    assert!(wait["retry_secs"].as_u64().is_some_and(|secs| secs > 0 && secs <= 30), "{wait}");
    // Also for the right one, and also after a new start: the count is on the disk.
    place.say("item add note Other --stdin").stdin("x").refused(1, "attempts_wait");
    place.kill_server();
    place.serve(&[]);
    place.say("unlock").refused(1, "attempts_wait");
    assert_eq!(place.say("status").json()["state"], "locked");
    // The phrase has a count of its own.
    let kit = place.path("kit");
    place.say("unlock --phrase").passphrase(&kit).ok();
    assert_eq!(place.say("item list").json().as_array().map(Vec::len), Some(1));
}

#[test]
fn what_is_unknown_and_what_is_anothers_look_alike() {
    let place = with_item();
    place.run(["item", "add", "signing_key", "Release", "--generate"]).ok();
    for guest in ["one", "two"] {
        place.run(["guest", "add", guest]).ok();
    }
    place.say("grant add --guest one Release sign --prefix release: --mode always").ok();
    let granted = place.say("use --guest one list").json();
    let reference = granted[0]["reference"].as_str().unwrap();
    place.run(["use", "--guest", "one", "sign", reference]).stdin("release: 1").ok();
    let unknown = "vault://aaaaaaaaaaaaaaaaaaaaaaaaaa/private_key";
    let refused = |guest: &str, reference: &str| {
        place.run(["use", "--guest", guest, "sign", reference]).stdin("release: 1").refused(1, "reference_unknown")
    };
    assert_eq!(refused("two", reference), refused("two", unknown));
    assert_eq!(refused("two", unknown), refused("one", unknown));
    place.run(["use", "--guest", "one", "totp", reference]).refused(1, "reference_unknown");
    place.run(["use", "--guest", "one", "run", "aaaaaaaaaaaaaaaaaaaaaaaaaa"]).refused(1, "handle_expired");
    place.run(["use", "--guest", "one", "poll", "aaaaaaaaaaaaaaaaaaaaaaaaaa"]).refused(1, "approval_unknown");
    place.run(["item", "show", "aaaaaaaaaaaaaaaaaaaaaaaaaa"]).refused(1, "item_unknown");
    place.run(["grant", "revoke", "aaaaaaaaaaaaaaaaaaaaaaaaaa"]).refused(1, "grant_unknown");
    is_whole(&place);
}

/// Sends bytes as they are, and gives what comes back until the server closes or says nothing more.
fn talk(socket: &Path, sent: &[Vec<u8>]) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    for bytes in sent {
        // A server that has closed takes no more.
        let _ = stream.write_all(bytes);
        while let Ok(count) = stream.read(&mut piece) {
            if count == 0 {
                return answer;
            }
            answer.extend_from_slice(&piece[..count]);
        }
    }
    answer
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    let mut framed = u32::try_from(bytes.len()).expect("a short frame").to_be_bytes().to_vec();
    framed.extend_from_slice(bytes);
    framed
}

#[test]
fn garbage_on_the_socket_is_refused_and_hurts_nobody() {
    let place = with_item();
    let vault = place.say("status").json()["vault"].as_str().unwrap().to_owned();
    let pid = place.vault_pid();
    let deep = [b"[".repeat(1_900), b"]".repeat(1_900)].concat();
    let too_deep = [b"{\"ping\":".repeat(10_000), b"1".to_vec(), b"}".repeat(10_000)].concat();
    for hello in
        [&b"\xff\xfe\xfd"[..], b"{}", b"null", b"{\"ping\":{}}x", b"\"\xc3\x28\"", &deep, &too_deep, &[b' '; 5_000]]
    {
        let answer = talk(&place.socket(), &[framed(hello)]);
        assert!(String::from_utf8_lossy(&answer).contains("request_malformed"), "{answer:?}");
    }
    for raw in [&b"\xff\xff\xff\xff"[..], b"\x7f\xff\xff\xffGET / HTTP/1.1\r\n\r\n", b"\0\0\0\x20short"] {
        talk(&place.socket(), &[raw.to_vec()]);
    }
    let unknown = format!("{{\"relay\":{{\"vault\":\"{}\"}}}}", "a".repeat(26));
    let answer = talk(&place.socket(), &[framed(unknown.as_bytes())]);
    assert!(String::from_utf8_lossy(&answer).contains("vault_unknown"), "{answer:?}");
    // The same through to the vault process: bad hellos, a frame over the limit, levels without end.
    let relay = framed(format!("{{\"relay\":{{\"vault\":\"{vault}\"}}}}").as_bytes());
    for frame in [b"x".to_vec(), vec![0; 1_000], deep, too_deep, vec![7; 1024 * 1024], b"\xff\xfe".to_vec()] {
        talk(&place.socket(), &[relay.clone(), framed(&frame), framed(&frame)]);
    }
    talk(&place.socket(), &[relay, b"\x7f\xff\xff\xff".to_vec()]);
    assert_eq!(place.vault_pid(), pid, "the vault process goes on: {}", place.log());
    is_whole(&place);
}

#[test]
fn a_missing_share_is_named_and_a_returned_one_opens() {
    let mut place = with_item();
    place.stop();
    let (share, away) = (place.share(), place.path("away"));
    fs::rename(&share, &away).unwrap();
    place.serve(&[]);
    place.say("unlock").refused(1, "share_missing");
    fs::write(&share, b"strongroom share? no").unwrap();
    place.say("unlock").refused(1, "share_missing");
    fs::rename(&away, &share).unwrap();
    place.say("unlock").ok();
    is_whole(&place);
}

#[test]
fn a_removed_or_changed_database_is_an_alarm() {
    let mut place = with_item();
    place.stop();
    let (database, away) = (place.vault_folder().join("vault.db"), place.path("away"));
    fs::rename(&database, &away).unwrap();
    place.serve(&[]);
    place.say("unlock").refused(5, "store_refused");
    assert!(!database.exists(), "no empty database takes its place");
    place.stop();
    let good = fs::read(&away).unwrap();
    for at in [10, good.len() / 2, good.len() - 10] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&database, bad).unwrap();
        place.serve(&[]);
        let ran = place.say("--json unlock").run();
        // A page of the log alone shows when the device compares the log with what it saw.
        assert!(matches!(ran.error(), Some("store_refused" | "log_alarm")) && ran.code == Some(5), "{at}: {ran}");
        place.stop();
    }
    fs::write(&database, &good[..good.len() - 4096]).unwrap();
    place.serve(&[]);
    place.say("unlock").refused(5, "store_refused");
    place.stop();
    fs::write(&database, &good).unwrap();
    place.serve(&[]);
    place.say("unlock").ok();
    is_whole(&place);
}

#[test]
fn a_damaged_header_costs_the_free_attempts_and_two_are_an_alarm() {
    let mut place = with_item();
    place.stop();
    let headers = ["header.a", "header.b"].map(|name| place.vault_folder().join(name));
    let good = headers.clone().map(|path| fs::read(path).unwrap());
    let damaged = |n: usize| {
        let mut bytes = good[n].clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x40;
        bytes
    };
    fs::write(&headers[0], damaged(0)).unwrap();
    fs::write(&headers[1], damaged(1)).unwrap();
    place.serve(&[]);
    // The key that proves who the vault is lies in there: the device sees a stranger, and stops before it sends anything.
    place.say("unlock").refused(5, "vault_not_authentic");
    assert!(place.log().contains("vault_header_refused"), "{}", place.log());
    place.stop();
    // The other copy may have counted attempts that this one does not know of, so the free ones are gone.
    fs::write(&headers[1], &good[1]).unwrap();
    place.serve(&[]);
    let wait = place.say("unlock").refused(1, "attempts_wait");
    assert!(wait["retry_secs"].as_u64().is_some_and(|secs| secs <= 30), "{wait}");
    place.stop();
    fs::write(&headers[0], &good[0]).unwrap();
    place.serve(&[]);
    place.say("unlock").ok();
    is_whole(&place);
}

#[test]
fn two_servers_on_one_folder_are_one_too_many() {
    let mut place = with_item();
    let other = place.path("other-socket");
    let mut second = place.serve_command(&[]).env("STRONGROOM_SOCKET", &other).spawn().unwrap();
    assert!(processes::until(30, || second.try_wait().unwrap().is_some()));
    assert_eq!(second.wait().unwrap().code(), Some(8));
    assert!(place.log().contains("another server uses this data folder"), "{}", place.log());
    is_whole(&place);
    place.stop();
    let inside = place.path("data/shares");
    let mut wrong = place.serve_command(&[]).arg("--shares").arg(inside).spawn().unwrap();
    assert!(processes::until(30, || wrong.try_wait().unwrap().is_some()));
    assert_ne!(wrong.wait().unwrap().code(), Some(0));
}

#[test]
fn values_beyond_the_limits_are_refused_whole() {
    let place = with_item();
    place.say("item add note Long --stdin").stdin(vec![b'x'; 513 * 1024]).refused(2, "usage");
    place.run(["item", "add", "note", &"l".repeat(300), "--stdin"]).stdin("x").refused(1, "value_refused");
    let many =
        (0..70).flat_map(|n| ["--class".to_owned(), format!("f{n}=private"), "--set".to_owned(), format!("f{n}=x")]);
    place.say("item add note Many --stdin").args(many).stdin("x").refused(1, "too_many");
    place.say("item add note Twice --stdin --class text=nonsense").stdin("x").refused(2, "usage");
    place.run(["guest", "add", "../escape"]).refused(2, "usage");
    place.say("grant add --guest nobody Diary http").refused(1, "guest_unknown");
    is_whole(&place);
}

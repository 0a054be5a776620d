//! A guest that tries every reference, every consumer and every limit, with its own real key. Whatever it may not have answers
//! like what is not there, and no refusal names a rule.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use strongroom_client::channel::{Ask, AskError, Connection, Expected, PATIENCE, Speaker, Trust, new_request_id};
use strongroom_client::crypto::channel::Role;
use strongroom_client::guest::GuestKey;
use strongroom_client::wire::Refusal;
use strongroom_e2e::{Api, Place, processes};

/// A guest with a channel of its own, and no command in between that would be polite for it.
struct Guest {
    key: GuestKey,
    connection: Connection,
}

impl Guest {
    fn add(place: &Place, name: &str) -> Self {
        let file: PathBuf = place.path(&format!("{name}.json"));
        place.run(["guest", "add", name, "--key-file"]).args([&file]).ok();
        let key = GuestKey::load(&file).expect("a key file");
        let connection = Self::connect(&key).expect("a channel");
        Self { key, connection }
    }

    fn connect(key: &GuestKey) -> Result<Connection, AskError> {
        let speaker = Speaker::new(Role::Guest, key.guest().0, key.sign_key());
        Connection::open(key.socket(), key.vault(), Expected::Identity(key.identity(), 1), Trust::Unasked, speaker)
    }

    /// Sends any JSON, and gives the refusal as it came, every field of it.
    fn ask(&mut self, body: &Value) -> Result<Value, Value> {
        let body = to_raw_value(body).expect("JSON");
        let ask = Ask { id: new_request_id(), fresh: None, credential: None, body, patience: PATIENCE };
        let asked = self.connection.ask_streaming::<Value>(&ask, None).map(|(answer, body)| {
            // What is not read to its end closes the connection.
            if let Some(mut body) = body {
                std::io::copy(&mut body, &mut std::io::sink()).expect("a body");
            }
            answer
        });
        match asked {
            Ok(answer) => Ok(answer),
            Err(AskError::Refused(refusal)) => Err(judged(&refusal)),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn use_it(&mut self, reference: &str, call: &Value) -> Result<Value, Value> {
        self.ask(&json!({ "use": { "call": { "reference": reference, "do": call } } }))
    }

    fn code(&mut self, reference: &str, call: &Value) -> Option<String> {
        self.use_it(reference, call).err().map(|refusal| refusal["code"].as_str().expect("a code").to_owned())
    }
}

/// A refusal as the guest sees it: it names no rule and no command.
fn judged(refusal: &Refusal) -> Value {
    assert_eq!((&refusal.rule, &refusal.hint), (&None, &None), "{refusal:?}");
    serde_json::to_value(refusal).expect("a refusal has a JSON form")
}

fn http(method: &str, url: &str, headers: &[(&str, &str)]) -> Value {
    json!({ "http": { "method": method, "url": url, "headers": headers } })
}

/// Every consumer with every operation.
fn every_call(url: &str) -> Vec<Value> {
    let b64 = "aGVsbG8";
    vec![
        http("GET", url, &[]),
        http("POST", url, &[]),
        json!({ "sign": { "message": { "message": b64 } } }),
        json!({ "sign": { "ssh": { "namespace": "git", "message": b64 } } }),
        json!({ "sign": { "jwt": { "claims": { "sub": "me" } } } }),
        json!({ "totp": {} }),
        json!({ "crypt": { "encrypt": { "plaintext": b64 } } }),
        json!({ "crypt": { "decrypt": { "ciphertext": b64 } } }),
        json!({ "crypt": { "rewrap": { "ciphertext": b64 } } }),
        json!({ "crypt": { "mac": { "message": b64 } } }),
        json!({ "crypt": { "verify_mac": { "message": b64, "tag": b64 } } }),
        json!({ "crypt": { "derive": { "context": b64, "purpose": "mac" } } }),
    ]
}

const NOBODYS: &str = "vault://aaaaaaaaaaaaaaaaaaaaaaaaaa/key";

#[test]
fn every_reference_it_was_not_given_answers_alike_for_every_consumer() {
    let place = Place::with_vault();
    let api = Api::start(&place, "bearer-key-5b1c77e0d94f4d0a31");
    let host = format!("localhost:{}", api.port);
    let add = |label: &str| {
        let item = ["item", "add", "api_key", label, "--stdin", "--allow-private", "--host", &host, "--roots"];
        place.run(item).args([&api.roots]).stdin(api.key()).ok();
    };
    ["Mine", "Others", "Removed", "Revoked"].iter().for_each(|label| add(label));
    place.say("item add totp Codes --stdin").stdin("otpauth://totp/x:me?secret=GEZDGNBVGY3TQOJQ&issuer=x").ok();
    place.say("item add note Diary --stdin").stdin("dear diary").ok();
    place.say("item add wallet Seed --stdin").stdin("a seed that is critical").ok();
    place.run(["item", "add", "signing_key", "Release", "--generate"]).ok();
    let (mut guest, mut other) = (Guest::add(&place, "helper"), Guest::add(&place, "other"));
    let grant = |guest: &str, item: &str| {
        place.run(["grant", "add", "--guest", guest, item, "http", "--path", "/v1", "--mode", "always"]).json()
    };
    grant("helper", "Mine");
    grant("helper", "Removed");
    grant("other", "Others");
    grant("helper", "Revoked");
    let reference = |label: &str| {
        let shown = place.run(["item", "show", label]).json();
        let id = shown["summary"]["id"].as_str().unwrap_or_else(|| panic!("{shown}")).to_owned();
        let fields = shown["fields"].as_array().expect("fields").clone();
        let secret = fields.iter().find(|field| !field["value"].is_string()).expect("a secret field");
        format!("vault://{id}/{}", secret["name"].as_str().expect("a name"))
    };
    let (mine, removed, revoked) = (reference("Mine"), reference("Removed"), reference("Revoked"));
    let grants = place.say("grant list --guest helper").json();
    let row = grants.as_array().unwrap().iter().find(|row| row.to_string().contains(&revoked)).unwrap();
    place.run(["grant", "revoke", row["id"].as_str().unwrap()]).ok();
    place.say("item remove Removed --yes").ok();
    let url = api.url("/v1/now");
    assert_eq!(guest.code(&mine, &http("GET", &url, &[])), None);

    let mut forbidden = vec![removed, revoked, NOBODYS.to_owned()];
    forbidden.extend(["Others", "Codes", "Diary", "Seed", "Release"].map(reference));
    forbidden.push(mine.replace("/key", "/nothing"));
    let listed = guest.ask(&json!({ "list": {} })).unwrap();
    assert_eq!(listed["list"]["granted"].as_array().map(Vec::len), Some(1), "{listed}");
    for call in every_call(&url) {
        let absent = guest.use_it(NOBODYS, &call).unwrap_err();
        assert_eq!(absent, json!({ "code": "reference_unknown" }));
        for reference in &forbidden {
            assert_eq!(guest.use_it(reference, &call).unwrap_err(), absent, "{reference} {call}");
        }
        assert_eq!(other.use_it(&mine, &call).unwrap_err(), absent, "{call}");
        if call.get("http").is_none() {
            assert_eq!(guest.use_it(&mine, &call).unwrap_err(), absent, "another consumer than was granted: {call}");
        }
    }
    // What is no reference at all tells nothing of what there is.
    for malformed in
        ["", "vault://", "vault://x/key", &mine.to_uppercase(), &format!("{mine}/.."), "vault://*/*", "Mine"]
    {
        let refusal = guest.use_it(malformed, &http("GET", &url, &[])).unwrap_err();
        assert_eq!(refusal["code"], "request_malformed", "{malformed}");
        assert!(!refusal.to_string().contains("Others"), "{refusal}");
    }
    assert_eq!(api.calls(), 1);
    assert_eq!(place.say("status").json()["state"], "open");
}

#[test]
fn requests_of_devices_and_handles_and_questions_of_others_are_nothing_to_it() {
    let place = Place::with_vault();
    place.run(["item", "add", "signing_key", "Release", "--generate"]).ok();
    let (mut guest, mut other) = (Guest::add(&place, "helper"), Guest::add(&place, "other"));
    place.say("grant add --guest helper Release sign --prefix release: --mode ask").ok();
    let reference =
        guest.ask(&json!({ "list": {} })).unwrap()["list"]["granted"][0]["reference"].as_str().unwrap().to_owned();

    // What only a device may ask, word for word as a device asks it.
    let id = "aaaaaaaaaaaaaaaaaaaaaaaaaa";
    let shapes: BTreeSet<String> = [
        json!({ "status": {} }),
        json!({ "challenge": {} }),
        json!({ "slot_list": {} }),
        json!({ "session_begin": {} }),
        json!({ "lock": {} }),
        json!({ "item_list": {} }),
        json!({ "item_show": { "item": id } }),
        json!({ "item_history": { "item": id } }),
        json!({ "guest_list": {} }),
        json!({ "guest_suspend": { "suspended": false } }),
        json!({ "grant_list": {} }),
        json!({ "approval_list": {} }),
        json!({ "audit_list": {} }),
        json!({ "audit_checkpoint": {} }),
        json!({ "device_list": {} }),
        json!({ "config_get": {} }),
        json!({ "deliver": { "reference": reference, "consumer": "exec" } }),
        json!({ "list": {}, "lock": {} }),
        json!({ "list": { "all": true } }),
        json!({ "use": { "call": { "reference": reference, "do": { "export": {} } } } }),
        json!({ "use": { "call": { "reference": reference, "do": { "exec": {} } } } }),
        json!({ "use": {} }),
        json!([]),
        json!(null),
    ]
    .iter()
    .map(|body| {
        let refusal = guest.ask(body).unwrap_err();
        assert_eq!(refusal["code"], "request_malformed", "{body}: {refusal}");
        refusal.to_string()
    })
    .collect();
    assert!(!shapes.iter().any(|text| text.contains("Release")), "{shapes:?}");
    assert_eq!(place.say("status").json()["state"], "open");

    // A question of its own, answered; the other guest finds neither question nor handle.
    let call = json!({ "sign": { "message": { "message": data_encoding::BASE64URL_NOPAD.encode(b"release: 1") } } });
    let pending = guest.use_it(&reference, &call).unwrap();
    let approval = pending["pending"]["approval"].as_str().unwrap_or_else(|| panic!("{pending}")).to_owned();
    let poll = |approval: &str| json!({ "poll": { "approval": approval } });
    let run = |handle: &str| json!({ "use": { "handle": handle } });
    let unknown = other.ask(&poll(id)).unwrap_err();
    assert_eq!(other.ask(&poll(&approval)).unwrap_err(), unknown);
    place.run(["approvals", "answer", &approval, "--allow"]).ok();
    let polled = guest.ask(&poll(&approval)).unwrap();
    let handle = polled["polled"]["approved"]["handle"].as_str().unwrap_or_else(|| panic!("{polled}")).to_owned();
    let expired = other.ask(&run(id)).unwrap_err();
    assert_eq!(other.ask(&run(&handle)).unwrap_err(), expired, "another guest's handle");
    assert_eq!(other.ask(&poll(&approval)).unwrap_err(), unknown);
    let both = json!({ "use": { "handle": handle, "call": { "reference": reference, "do": call } } });
    assert_eq!(guest.ask(&both).unwrap_err()["code"], "request_malformed");
    assert!(guest.ask(&run(&handle)).unwrap()["used"]["signature"].is_object());
    assert_eq!(guest.ask(&run(&handle)).unwrap_err(), expired, "used up");
    // Of its own questions as many wait as may, and no more.
    let refused = (0..20).find_map(|_| guest.use_it(&reference, &call).err()).expect("there is an end");
    assert_eq!(refused["code"], "approvals_full");
}

#[test]
fn every_limit_and_every_trick_with_a_url_or_a_header_is_refused_before_a_byte_leaves() {
    let place = Place::with_vault();
    let api = Api::start(&place, "bearer-key-5b1c77e0d94f4d0a32");
    let host = format!("localhost:{}", api.port);
    let add = |label: &str, private: &[&str]| {
        place
            .run(["item", "add", "api_key", label, "--stdin", "--host", &host, "--host", "api.example.com", "--roots"])
            .args([&api.roots])
            .args(private)
            .stdin(api.key())
            .ok();
    };
    add("Weather", &["--allow-private"]);
    add("Public", &[]);
    place.run(["item", "add", "signing_key", "Release", "--generate"]).ok();
    place.run(["item", "add", "crypt_key", "Box", "--generate"]).ok();
    let granted = |name: &str, line: &str| {
        let mut guest = Guest::add(&place, name);
        place.run(["grant", "add", "--guest", name, "--mode", "always"]).args(line.split(' ')).ok();
        let listed = guest.ask(&json!({ "list": {} })).unwrap();
        let reference =
            listed["list"]["granted"][0]["reference"].as_str().unwrap_or_else(|| panic!("{listed}")).to_owned();
        (guest, reference)
    };
    let narrow = format!("Weather http --host {host} --method GET --path /v1/items");
    let (mut guest, key) = granted("narrow", &narrow);
    let base = format!("https://{host}");
    let port = api.port;
    for (url, code) in [
        (format!("{base}/v1"), "limit_path"),
        (format!("{base}/v1/itemsx"), "limit_path"),
        (format!("{base}/v2/items"), "limit_path"),
        (format!("{base}//v1/items"), "url_refused"),
        ("https://api.example.com/v1/items".into(), "limit_host"),
        ("https://attacker.example/v1/items".into(), "limit_host"),
        ("https://localhost/v1/items".into(), "limit_host"),
        (format!("https://localhost.:{port}/v1/items"), "url_refused"),
        (format!("https://127.0.0.1:{port}/v1/items"), "limit_host"),
        (format!("{base}/v1/items/../../v2"), "url_refused"),
        (format!("{base}/v1/items/%2e%2e/x"), "url_refused"),
        (format!("{base}/v1/items/.%2E/x"), "url_refused"),
        (format!("{base}/v1/items/./x"), "url_refused"),
        (format!("{base}/v1/items%2f..%2fx"), "url_refused"),
        (format!("{base}/v1/items/%5c..%5cx"), "url_refused"),
        (format!("{base}/v1/items\\..\\x"), "url_refused"),
        (format!("{base}/v1/items/%00"), "url_refused"),
        (format!("{base}/v1/items/\r\nHost: attacker.example"), "url_refused"),
        (format!("{base}/v1/items/\tx"), "url_refused"),
        (format!("https://me:pw@localhost:{port}/v1/items"), "url_refused"),
        (format!("https://localhost:{port}@attacker.example/v1/items"), "url_refused"),
        (format!("http://localhost:{port}/v1/items"), "url_refused"),
        (format!("HTTPS:localhost:{port}/v1/items"), "url_refused"),
        ("file:///etc/passwd".into(), "url_refused"),
        ("/v1/items".into(), "url_refused"),
        (String::new(), "url_refused"),
        (format!("{base}/v1/items/{}", "x".repeat(9_000)), "url_refused"),
    ] {
        assert_eq!(guest.code(&key, &http("GET", &url, &[])).as_deref(), Some(code), "{url}");
    }
    let good = format!("{base}/v1/items/7");
    for method in ["POST", "DELETE", "PUT", "OPTIONS", "HEAD"] {
        assert_eq!(guest.code(&key, &http(method, &good, &[])).as_deref(), Some("limit_method"), "{method}");
    }
    for method in ["get", "", "GET /x HTTP/1.1\r\nX:", "CONNECT", "TRACE"] {
        assert!(guest.code(&key, &http(method, &good, &[])).is_some(), "{method:?}");
    }
    for (name, value) in [
        ("Host", "attacker.example"),
        (":authority", "attacker.example"),
        ("Content-Length", "0"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "close"),
        ("Keep-Alive", "x"),
        ("TE", "trailers"),
        ("Upgrade", "websocket"),
        ("Authorization", "Bearer x"),
        ("Proxy-Authorization", "Basic x"),
        ("Cookie", "a=b"),
        ("X-Fine", "a\r\nHost: attacker.example"),
        ("X-Fine\r\nHost", "attacker.example"),
        ("X Fine", "a"),
        ("", "a"),
        ("X-Nul", "a\0b"),
    ] {
        let code = guest.code(&key, &http("GET", &good, &[(name, value)]));
        assert_eq!(code.as_deref(), Some("header_refused"), "{name:?}: {value:?}");
    }
    assert_eq!((api.calls(), api.sent()), (0, String::new()), "not a byte reached the API");
    assert_eq!(guest.code(&key, &http("GET", &good, &[("X-Fine", "a")])), None);
    assert_eq!(api.calls(), 1);

    // Each limit that counts.
    let call = http("GET", &good, &[]);
    for (name, limit, free, code) in [
        ("uses", "--uses 2", 2, "limit_uses"),
        ("rate", "--per-minute 3", 3, "limit_rate"),
        ("bytes", "--bytes 10", 0, "limit_bytes"),
        ("hours", &no_hour(), 0, "limit_hours"),
        ("expired", "--expires 1s", 0, "limit_expired"),
    ] {
        let (mut guest, key) = granted(name, &format!("Weather http {limit}"));
        if name == "expired" {
            assert!(processes::until(30, || guest.ask(&json!({ "list": {} })).unwrap()["list"]["granted"]
                == json!([])
                || guest.code(&key, &call).as_deref() == Some(code)));
        }
        for _ in 0..free {
            assert_eq!(guest.code(&key, &call), None, "{name}");
        }
        if name == "bytes" {
            // Its body does not come, and counts.
            assert_eq!(guest.code(&key, &call).as_deref(), Some(code));
        }
        let body = json!({ "http": { "method": "GET", "url": good, "body": { "inline": "aGVsbG8gaGVsbG8gaGVsbG8" } } });
        let refused = guest.use_it(&key, if name == "bytes" { &body } else { &call });
        assert_eq!(refused.unwrap_err()["code"], code, "{name}");
    }
    // An address of this machine, where the item does not allow one; a redirect out of the grant; a message out of the template.
    let (mut guest, key) = granted("private", "Public http");
    assert_eq!(guest.code(&key, &http("GET", &format!("{base}/"), &[])).as_deref(), Some("address_refused"));
    let (mut guest, key) = granted("redirected", "Weather http --path /v1");
    let mut away = http("GET", &format!("{base}/v1/away"), &[]);
    away["http"]["follow_redirects"] = true.into();
    assert_eq!(guest.code(&key, &away).as_deref(), Some("redirect_refused"));
    let (mut guest, key) = granted("signer", "Release sign --prefix release: --message 64");
    for (message, free) in [("release: 1", true), ("Release: 1", false), (" release: 1", false), ("", false)] {
        let message = data_encoding::BASE64URL_NOPAD.encode(message.as_bytes());
        let code = guest.code(&key, &json!({ "sign": { "message": { "message": message } } }));
        assert_eq!(code.is_none(), free, "{message}: {code:?}");
    }
    let long = data_encoding::BASE64URL_NOPAD.encode(format!("release: {}", "x".repeat(64)).as_bytes());
    assert!(guest.code(&key, &json!({ "sign": { "message": { "message": long } } })).is_some());
    let (mut guest, key) = granted("crypter", "Box crypt --operation encrypt");
    let sealed = guest.use_it(&key, &json!({ "crypt": { "encrypt": { "plaintext": "aGVsbG8" } } })).unwrap();
    let ciphertext = &sealed["used"]["ciphertext"]["ciphertext"];
    for operation in [
        json!({ "decrypt": { "ciphertext": ciphertext } }),
        json!({ "rewrap": { "ciphertext": ciphertext } }),
        json!({ "derive": { "context": "aGVsbG8", "purpose": "encrypt" } }),
    ] {
        let code = guest.code(&key, &json!({ "crypt": operation }));
        assert!(code.is_some(), "{operation}");
    }
    assert!(!String::from_utf8_lossy(&place.transcript()).contains(api.key()));
}

#[test]
fn a_guest_or_device_that_is_thrown_out_is_out_of_its_open_channel_at_once() {
    let place = Place::with_vault();
    place.run(["--profile", "other", "create", "--phrase-to-file"]).args([place.path("kit2")]).ok();
    let phone = |line: &str| place.run(["--profile", "phone"]).args(line.split(' '));
    let join = place.write("join.json", phone("devices join --name phone").ok());
    let welcome = place.run(["devices", "add", "--yes"]).args([&join]).ok();
    let welcome = place.write("welcome.json", welcome);
    phone("devices finish").args([&welcome]).ok();
    let load = |name: &str| {
        let dir = strongroom_client::Profile::dir(&place.home(), name).expect("a name");
        strongroom_client::Profile::load(&dir).expect("a device")
    };
    let (device, other) = (load("phone"), load("other"));
    let mut guest = Guest::add(&place, "helper");
    let as_device = |vault, identity| {
        let speaker = Speaker::new(Role::Device, device.device().0, device.sign_key());
        Connection::open(device.socket(), vault, Expected::Identity(identity, 1), Trust::Unasked, speaker)
    };
    let mut connection = as_device(device.vault(), device.identity()).unwrap();
    assert!(connection.still_stands() && guest.connection.still_stands());

    // Neither reaches another member's vault, though it is told whose it is.
    let turned_away = |refused: Result<Connection, AskError>| {
        let refused = refused.expect_err("a stranger");
        assert!(refused.to_string().contains("did not accept"), "{refused:?}");
    };
    turned_away(as_device(other.vault(), other.identity()));
    let speaker = || Speaker::new(Role::Guest, guest.key.guest().0, guest.key.sign_key());
    turned_away(Connection::open(
        other.socket(),
        other.vault(),
        Expected::Identity(other.identity(), 1),
        Trust::Unasked,
        speaker(),
    ));
    // Nor is a guest's key a device's, nor the other way round.
    let speaker = Speaker::new(Role::Device, guest.key.guest().0, guest.key.sign_key());
    turned_away(Connection::open(
        device.socket(),
        device.vault(),
        Expected::Identity(device.identity(), 1),
        Trust::Unasked,
        speaker,
    ));

    place.say("guest revoke helper --yes").ok();
    // The command has its answer; the close is on its way or has come.
    assert!(processes::until(10, || !guest.connection.still_stands()));
    turned_away(Guest::connect(&guest.key));
    place.say("devices revoke phone --yes").ok();
    assert!(processes::until(10, || !connection.still_stands()));
    turned_away(as_device(device.vault(), device.identity()));
}

/// An hour of the day that is not now.
fn no_hour() -> String {
    #[allow(clippy::disallowed_methods, reason = "what is refused is this moment")]
    let secs = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let hour = (secs / 3_600 + 12) % 24;
    format!("--hours {hour:02}:00-{hour:02}:30")
}

/// A body that is still coming stops with the grant under which it came, and its outcome says so.
#[test]
fn an_answer_ends_with_its_grant() {
    let place = Place::with_vault();
    let api = Api::start(&place, "bearer-key-77b0c1d2e3f4a5b6c7");
    api.add_item(&place, "Weather");
    let key = place.path("helper.json");
    place.run(["guest", "add", "helper", "--key-file"]).args([&key]).ok();
    for (end, calls) in [("grant revoke", 1), ("guest suspend helper", 2)] {
        let grant = place.say("grant add --guest helper Weather http --mode always").json();
        let call =
            place.run(["use", "--key"]).args([&key]).args(["http", "Weather", &api.url("/v1/stall"), "-i"]).start();
        assert!(processes::until(10, || api.calls() == calls && call.said().contains("200")), "{}", call.said());
        match end {
            "grant revoke" => place.run(["grant", "revoke", grant["id"].as_str().expect("an id")]).ok(),
            suspend => place.say(suspend).ok(),
        };
        let started = processes::now();
        let ended = call.wait();
        assert!(started.elapsed().as_secs() < 5 && ended.code != Some(0), "{ended:?}");
        let events = place.say("audit list --count 20").json();
        let outcomes = events.as_array().expect("events").iter();
        let outcomes: Vec<&Value> = outcomes.filter(|event| event["event"]["action"] == "use.outcome").collect();
        let last = outcomes.iter().max_by_key(|event| event["index"].as_u64()).expect("an outcome");
        assert_eq!(last["event"]["code"], "cancelled", "{events}");
        // And how far it had come.
        assert_eq!(last["event"]["status"], 200, "{events}");
        assert!(last["event"]["address"].as_str().is_some_and(|address| address.contains(&api.port.to_string())));
    }
}

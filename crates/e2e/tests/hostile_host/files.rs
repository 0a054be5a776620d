//! The attacker owns the data folder and not the host share: older, other and changed files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use strongroom_e2e::{Place, Ran};

/// The files of a vault's folder, by their names in it.
pub(crate) type Files = BTreeMap<PathBuf, Vec<u8>>;

pub(crate) fn read(folder: &Path) -> Files {
    let mut files = Files::new();
    for (below, at) in [("", folder.to_owned()), ("chains", folder.join("chains"))] {
        for entry in fs::read_dir(at).into_iter().flatten().flatten() {
            if entry.file_type().expect("a kind").is_file() {
                let bytes = fs::read(entry.path()).expect("a file of the vault");
                files.insert(Path::new(below).join(entry.file_name()), bytes);
            }
        }
    }
    files
}

/// Makes the folder hold these files and no others.
pub(crate) fn write(folder: &Path, files: &Files) {
    for name in read(folder).keys().filter(|name| !files.contains_key(*name)) {
        fs::remove_file(folder.join(name)).expect("a file of the vault");
    }
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).expect("a file of the vault");
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o600)).expect("our own file");
    }
}

/// `base`, but files for which `from` says so are those of `other`.
fn mixed(base: &Files, other: &Files, from: impl Fn(&Path) -> bool) -> Files {
    let kept = base.iter().filter(|(name, _)| !from(name));
    kept.chain(other.iter().filter(|(name, _)| from(name))).map(|(name, bytes)| (name.clone(), bytes.clone())).collect()
}

fn kind_of(name: &Path) -> usize {
    let text = name.to_str().expect("a name");
    let is = |part: &&str| text.starts_with(*part);
    KINDS.iter().position(is).unwrap_or_else(|| panic!("{text} is of no kind"))
}

/// What an attacker can put back one without the other.
const KINDS: [&str; 4] = ["header", "vault.db", "chains", "tail"];

/// With a day's life in it: two notes, a critical value, a wrong passphrase at its locked door.
struct Scene {
    place: Place,
    folder: PathBuf,
    /// The device's own folder, which the attacker does not have: each case begins where the last honest command ended.
    device: Files,
    older: Files,
    newer: Files,
    labels: Vec<String>,
}

impl Scene {
    fn new() -> Self {
        let place = Place::with_vault();
        let folder = place.vault_folder();
        let (device, older, newer) = Default::default();
        let mut scene = Self { place, folder, device, older, newer, labels: Vec::new() };
        scene.live("one");
        scene.older = scene.stopped();
        scene.serve();
        scene.place.say("unlock").ok();
        scene.live("two");
        scene.newer = scene.stopped();
        scene
    }

    /// Adds a note and a seed, then locks, and someone tries to get in.
    fn live(&mut self, name: &str) {
        let wrong = self.place.write("wrong", "not the passphrase at all\n");
        for (kind, label) in [("note", format!("note-{name}")), ("wallet", format!("wallet-{name}"))] {
            self.place.run(["item", "add", kind, &label, "--stdin"]).stdin(format!("the value of {label}")).ok();
            self.labels.push(label);
        }
        self.place.say("lock").ok();
        self.place.say("unlock").passphrase(&wrong).refused(1, "factor_refused");
    }

    fn serve(&mut self) {
        self.place.serve(&[]);
    }

    fn stopped(&mut self) -> Files {
        self.place.stop();
        self.device = read(&self.place.home().join("profiles/default"));
        read(&self.folder)
    }

    /// Unlocks with these files in place.
    fn unlock(&mut self, files: &Files) -> Ran {
        write(&self.folder, files);
        write(&self.place.home().join("profiles/default"), &self.device);
        self.serve();
        self.place.say("--json unlock").run()
    }

    /// The vault is open, and everything is there, opens, and is logged.
    fn is_whole(&self) {
        let place = &self.place;
        let listed = place.say("item list").json();
        let mut labels: Vec<_> = listed.as_array().expect("a list").iter().map(|item| item["label"].clone()).collect();
        labels.sort_by_key(ToString::to_string);
        let mut expected = self.labels.clone();
        expected.sort();
        assert_eq!(labels, expected);
        for label in expected.iter().filter(|label| label.starts_with("note")) {
            let value = place.run(["exec", "--env", &format!("T={label}"), "--", "sh", "-c", "printf %s \"$T\""]);
            assert_eq!(value.hands_out().ok(), format!("the value of {label}"));
        }
        place.say("audit verify").ok();
    }

    /// Refused as an alarm; then the right files are put back, and all is well.
    fn refuses(&mut self, name: &str, files: &Files) -> Ran {
        let ran = self.unlock(files);
        assert!(ran.code == Some(5), "{name}: {ran}\n{}", self.place.log());
        assert!(matches!(ran.error(), Some(code) if ALARMS.contains(&code)), "{name}: {ran}");
        // After an alarm of the device's the vault may be open to its lists; nothing runs in it.
        assert_ne!(self.place.say("exec --env T=note-one -- true").run().code, Some(0), "{name}: a secret came out");
        self.place.stop();
        ran
    }

    fn opens_again(mut self) {
        let newer = self.newer.clone();
        let ran = self.unlock(&newer);
        assert_eq!(ran.code, Some(0), "{ran}");
        self.is_whole();
    }
}

/// What a command says of files that are not what the device knows.
const ALARMS: [&str; 5] =
    ["store_refused", "history_refused", "log_alarm", "vault_header_refused", "vault_not_authentic"];

#[test]
fn older_files_are_refused_each_alone_and_all_together() {
    let mut scene = Scene::new();
    for subset in 1..1_usize << KINDS.len() {
        let names: Vec<_> = (0..KINDS.len()).filter(|kind| subset >> kind & 1 == 1).map(|kind| KINDS[kind]).collect();
        let files = mixed(&scene.newer, &scene.older, |name| subset >> kind_of(name) & 1 == 1);
        let is_older = |kind| names.contains(&kind);
        if is_older("header") || is_older("vault.db") {
            let ran = scene.refuses(&format!("{names:?}"), &files);
            let expected = match (is_older("header"), is_older("vault.db"), is_older("tail")) {
                (false, ..) => &["store_refused"][..],
                (true, true, true) => &["log_alarm", "history_refused"],
                _ => &["vault_header_refused"],
            };
            assert!(expected.contains(&ran.error().expect("an error")), "{names:?}: {ran}");
            // A second try is no better: the header that the first one wrote is no newer in what counts.
            if names == ["header", "chains", "tail"] {
                let again = read(&scene.folder);
                scene.refuses("once more", &again);
            }
            continue;
        }
        // What was logged while the vault was locked, and no device has seen, goes with its file.
        let ran = scene.unlock(&files);
        assert_eq!(ran.code, Some(0), "{names:?}: {ran}");
        scene.is_whole();
        let add = scene.place.say("item add wallet more --stdin").stdin("a seed");
        if is_older("chains") {
            // What the chain guards is refused to the device whose credential is newer.
            add.refused(1, "credential_refused");
        } else {
            add.ok();
        }
        scene.place.stop();
    }
    scene.opens_again();
}

#[test]
fn mixed_pages_a_cut_log_and_a_lost_write_ahead_log_are_refused() {
    let mut scene = Scene::new();
    let database = Path::new("vault.db");
    let (older, newer) = (scene.older[database].clone(), scene.newer[database].clone());
    let differ: Vec<usize> = (0..older.len().min(newer.len()) / PAGE_BYTES)
        .map(|page| page * PAGE_BYTES)
        .filter(|at| older[*at..*at + PAGE_BYTES] != newer[*at..*at + PAGE_BYTES])
        .collect();
    assert!(differ.len() > 3, "{differ:?}");
    let mut databases = vec![("cut by a page", newer[..newer.len() - PAGE_BYTES].to_vec()), ("empty", Vec::new())];
    for at in [differ[0], differ[1], differ[differ.len() / 2], differ[differ.len() - 1]] {
        let mut mixed = newer.clone();
        mixed[at..at + PAGE_BYTES].copy_from_slice(&older[at..at + PAGE_BYTES]);
        databases.push(("with an older page", mixed));
    }
    let mut swapped = newer.clone();
    let (front, back) = swapped.split_at_mut(2 * PAGE_BYTES);
    front[PAGE_BYTES..].swap_with_slice(&mut back[..PAGE_BYTES]);
    databases.push(("with two pages in each other's place", swapped));
    for (name, bytes) in databases {
        let files = mixed(&scene.newer, &Files::from([(database.to_owned(), bytes)]), |name| name == database);
        scene.refuses(name, &files);
    }

    // The power fails in the middle of the day: what was acknowledged lies in the write-ahead log.
    let newer = scene.newer.clone();
    assert_eq!(scene.unlock(&newer).code, Some(0));
    for label in ["note-three", "note-four"] {
        scene.place.run(["item", "add", "note", label, "--stdin"]).stdin(format!("the value of {label}")).ok();
        scene.labels.push(label.to_owned());
    }
    scene.place.kill_server();
    scene.newer = scene.stopped();
    let log = Path::new("vault.db-wal");
    let whole = scene.newer.get(log).expect("a write-ahead log").clone();
    let older = newer.clone();
    for (name, files) in [
        ("without the write-ahead log", mixed(&scene.newer, &Files::new(), |name| name == log)),
        ("with half of it", {
            let half = whole[..whole.len() / 2].to_vec();
            mixed(&scene.newer, &Files::from([(log.to_owned(), half)]), |name| name == log)
        }),
        ("with a changed byte in it", {
            let mut changed = whole.clone();
            changed[whole.len() / 3] ^= 1;
            mixed(&scene.newer, &Files::from([(log.to_owned(), changed)]), |name| name == log)
        }),
        ("with the database of this morning", mixed(&scene.newer, &older, |name| kind_of(name) == 1)),
    ] {
        scene.refuses(name, &files);
    }
    scene.opens_again();
}

#[test]
fn files_of_another_vault_are_refused_each_alone_and_all_together() {
    let mut scene = Scene::new();
    scene.serve();
    let place = &scene.place;
    place.run(["--profile", "other", "create", "--phrase-to-file"]).args([place.path("kit2")]).ok();
    place.say("--profile other item add wallet other-1 --stdin").stdin("another's seed").ok();
    let other = place.say("--profile other status").json()["vault"].as_str().unwrap().to_owned();
    scene.place.stop();
    let vaults = scene.folder.parent().expect("the folder of vaults").to_owned();
    let others = read(&vaults.join(&other));
    // The other vault's device and chain file, under the name that this one's has.
    let chain = scene.newer.keys().find(|name| name.starts_with("chains")).expect("a chain file").clone();
    let others: Files = others
        .into_iter()
        .map(|(name, bytes)| (if name.starts_with("chains") { chain.clone() } else { name }, bytes))
        .collect();
    for subset in 1..1_usize << 3 {
        let files = mixed(&scene.newer, &others, |name| subset >> kind_of(name) & 1 == 1);
        let names: Vec<_> = (0..3).filter(|kind| subset >> kind & 1 == 1).map(|kind| KINDS[kind]).collect();
        if names == ["chains"] {
            // Only what the file guards is refused: the rest of the vault does not rest on it.
            let ran = scene.unlock(&files);
            assert_eq!(ran.code, Some(0), "{ran}");
            scene.is_whole();
            scene.place.say("item add wallet more --stdin").stdin("a seed").refused(1, "credential_refused");
            scene.place.stop();
        } else {
            scene.refuses(&format!("{names:?}"), &files);
        }
    }
    // With its share as well: a whole vault, and a stranger to this device.
    let shares = scene.place.path("shares");
    let id = scene.folder.file_name().expect("an id").to_str().expect("text").to_owned();
    let (own, its) = (shares.join(format!("{id}.share")), shares.join(format!("{other}.share")));
    let share = fs::read(&own).unwrap();
    fs::copy(its, &own).unwrap();
    let ran = scene.refuses("another vault in its place", &others);
    assert_eq!(ran.error(), Some("vault_not_authentic"), "{ran}");
    fs::write(&own, share).unwrap();
    scene.opens_again();
}

#[test]
fn a_header_that_was_changed_anywhere_or_laid_over_its_copy_is_refused() {
    let mut scene = Scene::new();
    let copies = ["header.a", "header.b"].map(PathBuf::from);
    let header = &scene.newer[&copies[0]];
    let length = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().expect("four bytes")) as usize;
    let open = 17;
    let sealed = open + length(13);
    assert_eq!(sealed + 4 + length(sealed), header.len());
    let text = String::from_utf8_lossy(&header[open..sealed]).into_owned();
    let slots = text.find("recovery_slots").expect("the recovery slot is in the open part");
    let places = [
        ("magic", 0),
        ("version", 4),
        ("sequence", 12),
        ("length of the open part", 16),
        ("vault", open + text.find("vault").expect("the vault's id") + 10),
        ("public key of the recovery slot", open + slots + text[slots..].find("kem_public").expect("a key") + 20),
        ("sealed vault key of the recovery slot", open + slots + text[slots..].find("sealed").expect("a key") + 20),
        ("length of the sealed part", sealed + 3),
        ("nonce", sealed + 4),
        ("sealed slots, counters, devices", sealed + length(sealed) / 2),
        ("tag", header.len() - 1),
    ];
    for (name, at) in places {
        let mut files = scene.newer.clone();
        for copy in &copies {
            files.get_mut(copy).expect("a header")[at] ^= 1;
        }
        let ran = scene.refuses(name, &files);
        assert_eq!(ran.error(), Some("vault_not_authentic"), "{name}: {ran}");
    }
    let mut swapped = scene.newer.clone();
    let [a, b] = copies.clone().map(|copy| scene.newer[&copy].clone());
    swapped.insert(copies[0].clone(), b.clone());
    swapped.insert(copies[1].clone(), a.clone());
    scene.refuses("copies in each other's place", &swapped);
    // One copy may be lost to a crash; whoever takes it away wins no attempt by it.
    for (copy, bytes) in [(0, &b), (1, &a)] {
        let mut files = scene.newer.clone();
        files.insert(copies[copy].clone(), bytes.clone());
        let ran = scene.unlock(&files);
        assert_eq!((ran.code, ran.error()), (Some(1), Some("attempts_wait")), "{ran}");
        scene.place.stop();
    }
    scene.opens_again();
}

const PAGE_BYTES: usize = 4096;

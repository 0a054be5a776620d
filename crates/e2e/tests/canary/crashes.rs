//! Ended in the middle of what they do: the vault process, the host, the command, the reader of imports; then searched. And refusals
//! of a server that lacks something.

use std::fs;
use std::path::Path;

use serde_json::json;
use strongroom_e2e::canaries::Canaries;
use strongroom_e2e::run::Running;
use strongroom_e2e::search::Hit;
use strongroom_e2e::{Api, PASSPHRASE, Place, processes};

use crate::refusals;

/// A machine that things happen to. Its vault processes use `memfd_secret` where the kernel has it.
pub(crate) struct Crashing {
    pub(crate) place: Place,
    pub(crate) canaries: Canaries,
    pub(crate) api: Api,
}

impl Crashing {
    pub(crate) fn new() -> Self {
        let canaries = Canaries::default();
        canaries.add("the passphrase", PASSPHRASE.as_bytes());
        let place = Place::with_vault();
        let phrase = fs::read_to_string(place.path("kit")).expect("the kit");
        canaries.add("the recovery phrase", phrase.trim().as_bytes());
        let api = Api::start(&place, &canaries.text("api key"));
        api.add_item(&place, "Weather");
        place.say("guest add helper").ok();
        place.say("grant add --guest helper Weather http --mode always").ok();
        Self { place, canaries, api }
    }

    /// All of it, and what is found after each.
    pub(crate) fn run(&mut self) -> Vec<Hit> {
        let mut hits = Vec::new();
        for act in [Self::of_the_vault, Self::of_the_command, Self::of_the_reader, Self::of_the_host, Self::of_a_change]
        {
            act(self);
            hits.extend(crate::search(&self.place, &self.canaries, &self.api));
        }
        hits
    }

    /// While it takes in items, and while it calls an API.
    fn of_the_vault(&mut self) {
        let import = self.import("before the vault was killed");
        self.once_it_writes();
        self.kill_vault();
        _ = import.wait();
        self.unlock();
        let call = self.stalled_call();
        self.kill_vault();
        _ = call.wait();
        self.unlock();
    }

    fn of_the_command(&mut self) {
        let mut import = self.import("before the command was killed");
        self.once_it_writes();
        import.kill();
        _ = import.wait();
        let mut call = self.stalled_call();
        call.kill();
        _ = call.wait();
    }

    /// The child that reads foreign files.
    fn of_the_reader(&mut self) {
        let file = self.export_file("that its reader never finished", 40_000);
        let import = self.place.run(["--json", "import", "--dry-run"]).args([&file]).start();
        let mut reader = None;
        let came = processes::until(30, || {
            reader = processes::children(import.pid()).first().map(|(pid, _)| *pid);
            reader.is_some()
        });
        assert!(came, "a reader");
        let reader = reader.expect("it came");
        // It has its pipes, and nothing of the member's terminal. Only root may look at what cannot be dumped.
        let error = fs::read_link(format!("/proc/{reader}/fd/2")).ok();
        assert!(error.is_none_or(|file| file == std::path::Path::new("/dev/null")));
        processes::kill(reader);
        assert_eq!(import.wait().error(), Some("import_failed"));
    }

    /// And with it everything that it started.
    fn of_the_host(&mut self) {
        let call = self.stalled_call();
        processes::kill(self.place.host_pid().expect("a host"));
        _ = call.wait();
        self.place.kill_server();
        let share = self.place.share();
        let away = self.place.path("away");
        fs::rename(&share, &away).expect("a share");
        self.place.serve(&[]);
        self.place.say("unlock").refused(1, "share_missing");
        fs::rename(&away, &share).expect("a share");
        self.place.stop();
        // A program that is gone when it is needed.
        let program = self.place.path("program");
        std::os::unix::fs::symlink(&self.place.programs.vault, &program).expect("a link");
        self.place.serve(&["--vault-program", &program.display().to_string()]);
        fs::remove_file(program).expect("our link");
        self.place.say("unlock").refused(4, "host_failed");
        self.place.stop();
        self.place.serve(&[]);
        self.place.say("unlock").ok();
        refusals::of_servers(&self.place);
    }

    /// The passphrase: afterwards the old one opens, or the new one.
    fn of_a_change(&mut self) {
        let new =
            self.place.write("new-passphrase", format!("walnut ferry {}", self.canaries.text("a newer passphrase")));
        let headers = || ["header.a", "header.b"].map(|name| fs::read(self.place.vault_folder().join(name)).ok());
        let before = headers();
        let change = self.place.say("passphrase change --new-passphrase-file").args([&new]).start();
        processes::until(30, || headers() != before);
        self.kill_vault();
        _ = change.wait();
        let old = self.place.say("unlock").run();
        if old.code != Some(0) {
            self.place.say("unlock").passphrase(&new).ok();
        }
    }

    /// The host waits a moment before it starts a process that crashes again and again.
    fn unlock(&self) {
        let opened = || self.place.say("unlock").run().code == Some(0);
        assert!(processes::until(30, opened), "the vault opens again: {}", self.place.log());
    }

    fn kill_vault(&self) {
        processes::kill(self.place.vault_pid().expect("a vault process"));
    }

    /// A use whose answer has begun and does not end.
    fn stalled_call(&self) -> Running<'_> {
        let before = self.api.calls();
        let url = self.api.url("/v1/stall");
        let call = self.place.run(["use", "--guest", "helper", "http", "Weather", &url]).start();
        assert!(processes::until(30, || self.api.calls() > before), "the API is called");
        call
    }

    fn import(&self, name: &str) -> Running<'_> {
        let file = self.export_file(name, 400);
        self.place.run(["import"]).args([file]).start()
    }

    fn export_file(&self, name: &str, count: usize) -> std::path::PathBuf {
        let secret = self.canaries.text(&format!("imported {name}"));
        let item = |number: usize| json!({ "id": number.to_string(), "type": 1, "name": format!("{name} {number}"), "login": { "password": secret } });
        let items: Vec<_> = (0..count).map(item).collect();
        self.place.write(&format!("{name}.json"), json!({ "encrypted": false, "items": items }).to_string())
    }

    /// Until the vault's database or its write-ahead log changes.
    fn once_it_writes(&self) {
        let sizes = || ["vault.db", "vault.db-wal"].map(|name| size(&self.place.vault_folder().join(name)));
        let before = sizes();
        // An import that was over first is killed after it; both are searched.
        processes::until(10, || sizes() != before);
    }
}

fn size(file: &Path) -> Option<u64> {
    fs::metadata(file).map(|meta| meta.len()).ok()
}

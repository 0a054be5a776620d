//! One machine: folders of its own, a server, and a transcript of all that was printed.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

use crate::processes;
use crate::programs::Programs;
use crate::run::{Ran, Run};

/// What opens every vault of these tests.
pub const PASSPHRASE: &str = "gravel sextant oboe marzipan tundra";

/// Another user than the test's own.
#[derive(Debug)]
struct User {
    setpriv: PathBuf,
    uid: u32,
}

/// One machine.
#[derive(Debug)]
pub struct Place {
    /// The programs under test.
    pub programs: Programs,
    folder: TempDir,
    user: Option<User>,
    server: Option<Child>,
    transcript: Mutex<Vec<u8>>,
    codes: Mutex<BTreeSet<String>>,
}

impl Place {
    /// With a passphrase file, and nothing running.
    ///
    /// # Panics
    /// When the folder cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let place = Self {
            programs: Programs::find(),
            folder,
            user: None,
            server: None,
            transcript: Mutex::default(),
            codes: Mutex::default(),
        };
        place.write("passphrase", format!("{PASSPHRASE}\n"));
        place
    }

    /// Of an ordinary user, where the test runs as root: everything is then started as that user. Where it does not, the test's
    /// own user is one. `None`, with a printed reason, where there is no way to become one.
    ///
    /// # Panics
    /// When the programs cannot be put where that user reaches them.
    #[must_use]
    pub fn of_ordinary_user() -> Option<Self> {
        let mut place = Self::new();
        if !rustix::process::geteuid().is_root() {
            return Some(place);
        }
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let Some(setpriv) = std::env::split_paths(&folders).map(|at| at.join("setpriv")).find(|at| at.is_file()) else {
            eprintln!("skipped: the test runs as root, and there is no setpriv to become another user");
            return None;
        };
        let bin = place.path("bin");
        fs::create_dir(&bin).expect("a folder for the programs");
        for program in [&mut place.programs.strongroom, &mut place.programs.vault] {
            let copy = bin.join(program.file_name().expect("a name"));
            fs::copy(&*program, &copy).expect("a copy of the program");
            *program = copy;
        }
        std::os::unix::fs::chown(place.folder.path(), Some(ORDINARY), Some(ORDINARY)).expect("root may");
        place.user = Some(User { setpriv, uid: ORDINARY });
        Some(place)
    }

    /// With copies of the programs, which can be replaced.
    #[must_use]
    pub fn with_own_programs() -> Self {
        let mut place = Self::new();
        place.programs = place.programs.install(&place.path("bin"));
        place
    }

    /// A program, started as the user of this machine, with nothing in its environment.
    #[must_use]
    pub fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = match &self.user {
            None => Command::new(program),
            Some(User { setpriv, uid }) => {
                let mut command = Command::new(setpriv);
                let ids = [format!("--reuid={uid}"), format!("--regid={uid}")];
                command.args(ids).args(["--clear-groups", "--"]).arg(program);
                command
            }
        };
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    /// With a server and a new vault.
    #[must_use]
    pub fn with_vault() -> Self {
        let mut place = Self::new();
        place.serve(&[]);
        place.create();
        place
    }

    /// Makes the vault.
    pub fn create(&self) {
        let kit = self.path("kit");
        self.run(["create", "--device-name", "laptop", "--phrase-to-file"]).args([kit]).ok();
    }

    /// A path in this machine's folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where the device keeps its keys.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// Where the server listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path("socket")
    }

    /// The folder of the only vault.
    ///
    /// # Panics
    /// When there is not one.
    #[must_use]
    pub fn vault_folder(&self) -> PathBuf {
        let mut folders = fs::read_dir(self.path("data/vaults")).expect("the folder of vaults").flatten();
        folders.next().expect("a vault").path()
    }

    /// The share of the only vault.
    ///
    /// # Panics
    /// When there is not one.
    #[must_use]
    pub fn share(&self) -> PathBuf {
        let mut shares = fs::read_dir(self.path("shares")).expect("the folder of shares").flatten();
        shares.next().expect("a share").path()
    }

    /// Writes a file, and gives its path.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).expect("a file of the test");
        path
    }

    /// A command.
    #[must_use]
    pub fn run<A: Into<OsString>>(&self, args: impl IntoIterator<Item = A>) -> Run<'_> {
        Run::new(self, args.into_iter().map(Into::into).collect())
    }

    /// A command, given as words.
    #[must_use]
    pub fn say(&self, line: &str) -> Run<'_> {
        self.run(line.split(' '))
    }

    /// Starts the server, and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub fn serve(&mut self, options: &[&str]) {
        assert!(self.server.is_none(), "a server runs already");
        let mut child = self.serve_command(options).spawn().expect("the server starts");
        let answers = || self.log().matches("Serving the vaults").count() > 0;
        let up = processes::until(30, || answers() || child.try_wait().expect("our own child").is_some());
        assert!(up && answers(), "the server does not answer: {}", self.log());
        self.server = Some(child);
    }

    /// The command that serves, for tests that look at how it ends. Its log begins anew; what was there is in the transcript.
    ///
    /// # Panics
    /// When its log cannot be written.
    #[must_use]
    pub fn serve_command(&self, options: &[&str]) -> Command {
        self.note(self.log().as_bytes());
        let log = File::create(self.path("serve.log")).expect("a log");
        let append = || {
            let log = OpenOptions::new().append(true).open(self.path("serve.log"));
            Stdio::from(log.expect("a log"))
        };
        drop(log);
        let mut command = self.program(&self.programs.strongroom);
        command.env("STRONGROOM_HOME", self.home()).env("STRONGROOM_SOCKET", self.socket());
        command.args(["serve", "--data"]).arg(self.path("data")).arg("--shares").arg(self.path("shares")).args(options);
        command.stdin(Stdio::null()).stdout(append()).stderr(append());
        command
    }

    /// What the server has said since it was started.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("serve.log")).unwrap_or_default()
    }

    /// Ends the server in order.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        processes::terminate(server.id());
        let ended = processes::until(30, || server.try_wait().expect("our own child").is_some());
        if !ended {
            let _ = server.kill();
        }
        assert!(ended, "the server does not stop: {}", self.log());
    }

    /// Ends the server as a power cut would: no process of it does anything more.
    pub fn kill_server(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let _ = server.kill();
        let _ = server.wait();
    }

    /// The process id of the server's host.
    #[must_use]
    pub fn host_pid(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    /// The process id of the services.
    #[must_use]
    pub fn services_pid(&self) -> Option<u32> {
        self.child_called("internal services")
    }

    /// The process id of the vault process, where one runs.
    #[must_use]
    pub fn vault_pid(&self) -> Option<u32> {
        self.child_called("vault: ")
    }

    /// The process id of one vault among several, by its folder. For root: nobody else may look.
    #[must_use]
    pub fn vault_pid_of(&self, vault: &str) -> Option<u32> {
        let lives_there = |pid: u32| {
            ["root", "cwd"]
                .iter()
                .any(|link| fs::read_link(format!("/proc/{pid}/{link}")).is_ok_and(|folder| folder.ends_with(vault)))
        };
        let children = processes::children(self.host_pid()?).into_iter();
        children.filter(|(_, line)| line.starts_with("vault: ")).map(|(pid, _)| pid).find(|pid| lives_there(*pid))
    }

    fn child_called(&self, words: &str) -> Option<u32> {
        let children = processes::children(self.host_pid()?);
        children
            .into_iter()
            .find(|(_, line)| line.starts_with(words) || line.contains(&format!(" {words}")))
            .map(|(pid, _)| pid)
    }

    /// Every command that the program has, from its own man pages, words joined by hyphens: `item-add`, `audit-check-proof`.
    /// Groups of commands are left out; they are those that have pages below them.
    ///
    /// # Panics
    /// When the pages cannot be read.
    #[must_use]
    pub fn commands(&self) -> BTreeSet<String> {
        let folder = self.path("man");
        self.run(["man", "--to"]).args([&folder]).ok();
        let pages = fs::read_dir(folder).expect("man pages").flatten();
        let name = |path: PathBuf| path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
        let names: BTreeSet<String> = pages.filter_map(|page| name(page.path())).collect();
        let is_group = |name: &String| {
            let below = format!("{name}-");
            names.range(below.clone()..).next().is_some_and(|next| next.starts_with(&below))
        };
        let leaves = names.iter().filter(|name| !is_group(name));
        leaves.filter_map(|name| name.strip_prefix("strongroom-")).map(str::to_owned).collect()
    }

    /// All that was printed so far, by commands and servers.
    #[must_use]
    pub fn transcript(&self) -> Vec<u8> {
        let mut all = self.transcript.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.extend_from_slice(self.log().as_bytes());
        all
    }

    /// Adds to the transcript.
    pub fn note(&self, bytes: &[u8]) {
        self.transcript.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
    }

    pub(crate) fn remember(&self, ran: &Ran, secret_output: bool) {
        self.note(format!("\n$ strongroom {}\n", ran.line).as_bytes());
        if !secret_output {
            self.note(&ran.stdout);
        }
        self.note(&ran.stderr);
        if let Some(code) = ran.error() {
            self.met(code);
        }
    }

    /// A refusal with this code was had on this machine.
    pub fn met(&self, code: &str) {
        self.codes.lock().unwrap_or_else(PoisonError::into_inner).insert(code.to_owned());
    }

    /// The codes of the refusals that were had on this machine: of commands run with `--json`, and of an agent's calls.
    #[must_use]
    pub fn codes(&self) -> BTreeSet<String> {
        self.codes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds to a file.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn append(path: &Path, bytes: &[u8]) {
        let mut file = OpenOptions::new().append(true).open(path).expect("a file of the test");
        file.write_all(bytes).expect("a file of the test");
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.kill_server();
    }
}

/// A user that no machine has.
const ORDINARY: u32 = 54_321;

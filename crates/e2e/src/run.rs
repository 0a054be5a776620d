//! One run of the command `strongroom`: how it is started, and what came of it.

use std::ffi::OsString;
use std::io::{Read, Write as _};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde_json::Value;

use crate::place::Place;
use crate::processes;

/// A command about to be run.
#[derive(Debug)]
pub struct Run<'p> {
    place: &'p Place,
    args: Vec<OsString>,
    stdin: Vec<u8>,
    env: Vec<(String, OsString)>,
    passphrase: Option<OsString>,
    secret_output: bool,
}

/// What came of a command.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The command line.
    pub line: String,
    /// Its exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

/// A command that goes on while the test does something else.
#[derive(Debug)]
pub struct Running<'p> {
    place: &'p Place,
    line: String,
    child: Child,
    stdout: Option<Output>,
    stderr: Option<Output>,
    secret_output: bool,
}

/// What is read from a pipe, while it comes.
#[derive(Debug)]
struct Output {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: thread::JoinHandle<()>,
}

impl<'p> Run<'p> {
    pub(crate) fn new(place: &'p Place, args: Vec<OsString>) -> Self {
        let passphrase = Some(place.path("passphrase").into_os_string());
        Self { place, args, stdin: Vec::new(), env: Vec::new(), passphrase, secret_output: false }
    }

    /// With further arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// With this on its standard input.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// With this variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// With another passphrase file.
    #[must_use]
    pub fn passphrase(mut self, file: &Path) -> Self {
        self.passphrase = Some(file.into());
        self
    }

    /// Without the passphrase, and nobody to be asked.
    #[must_use]
    pub fn without_passphrase(mut self) -> Self {
        self.passphrase = None;
        self
    }

    /// Its documented job is to hand a value out: its standard output stays out of the transcript.
    #[must_use]
    pub fn hands_out(mut self) -> Self {
        self.secret_output = true;
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(self) -> Running<'p> {
        let line = self.args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let mut command = self.place.program(&self.place.programs.strongroom);
        command.env("STRONGROOM_HOME", self.place.home()).env("STRONGROOM_SOCKET", self.place.socket());
        if let Some(file) = &self.passphrase {
            command.env("STRONGROOM_PASSPHRASE_FILE", file);
        }
        command.arg("--no-input").args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        let stdin = child.stdin.take();
        let bytes = self.stdin;
        thread::spawn(move || {
            // A command may end without having read all of it.
            stdin.map(|mut stdin| stdin.write_all(&bytes))
        });
        let (stdout, stderr) = (child.stdout.take().map(collect), child.stderr.take().map(collect));
        Running { place: self.place, line, child, stdout, stderr, secret_output: self.secret_output }
    }

    /// Runs it to its end, however it ends.
    ///
    /// # Panics
    /// When it hangs.
    #[must_use]
    pub fn run(self) -> Ran {
        self.start().wait()
    }

    /// Runs it; it must succeed. Gives its standard output.
    ///
    /// # Panics
    /// When it fails.
    pub fn ok(self) -> String {
        let ran = self.run();
        assert_eq!(ran.code, Some(0), "{ran}");
        String::from_utf8_lossy(&ran.stdout).into_owned()
    }

    /// Runs it with `--json`; it must succeed.
    ///
    /// # Panics
    /// When it fails, or prints no JSON.
    #[must_use]
    pub fn json(self) -> Value {
        let text = self.global("--json").ok();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e} in {text}"))
    }

    /// Runs it; it must be refused with this exit code and this stable code. Gives the error.
    ///
    /// # Panics
    /// When it is not.
    pub fn refused(self, exit: i32, code: &str) -> Value {
        let ran = self.global("--json").run();
        assert_eq!(ran.error(), Some(code), "{ran}");
        assert_eq!(ran.code, Some(exit), "{ran}");
        ran.failure().expect("it has just been read")
    }

    /// With an option before the command, where none of its own arguments can take it.
    #[must_use]
    fn global(mut self, option: &str) -> Self {
        self.args.insert(0, option.into());
        self
    }
}

impl Running<'_> {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    #[must_use]
    pub fn said(&self) -> String {
        let bytes = self.stdout.as_ref().map(Output::so_far).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it hangs.
    #[must_use]
    pub fn wait(mut self) -> Ran {
        let child = &mut self.child;
        let ended = processes::until(COMMAND_SECS, || child.try_wait().expect("our own child").is_some());
        if !ended {
            let _ = self.child.kill();
        }
        let status = self.child.wait().expect("our own child");
        let read = |output: Option<Output>| output.map(Output::all).unwrap_or_default();
        let ran = Ran {
            line: std::mem::take(&mut self.line),
            code: status.code(),
            stdout: read(self.stdout.take()),
            stderr: read(self.stderr.take()),
        };
        assert!(ended, "it hangs: {ran}");
        self.place.remember(&ran, self.secret_output);
        ran
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ran {
    /// The error that `--json` put on standard error.
    #[must_use]
    pub fn failure(&self) -> Option<Value> {
        let text = String::from_utf8_lossy(&self.stderr);
        let error = text.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok())?;
        error.get("error").cloned()
    }

    /// The stable code of that error.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        let text = std::str::from_utf8(&self.stderr).ok()?;
        let (_, rest) = text.split_once("{\"error\":{\"code\":\"")?;
        rest.split('"').next()
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (stdout, stderr) = (String::from_utf8_lossy(&self.stdout), String::from_utf8_lossy(&self.stderr));
        write!(f, "strongroom {}\n  ended with {:?}\n  stdout: {stdout}\n  stderr: {stderr}", self.line, self.code)
    }
}

impl Output {
    fn so_far(&self) -> Vec<u8> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn all(self) -> Vec<u8> {
        // What came before it broke off is what there is.
        let _ = self.reader.join();
        std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn collect(mut from: impl Read + Send + 'static) -> Output {
    let bytes = Arc::<Mutex<Vec<u8>>>::default();
    let into = Arc::clone(&bytes);
    let reader = thread::spawn(move || {
        let mut piece = [0; 8192];
        while let Ok(count @ 1..) = from.read(&mut piece) {
            into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&piece[..count]);
        }
    });
    Output { bytes, reader }
}

/// Longer than any command takes on a machine that is busy with a build.
const COMMAND_SECS: u64 = 90;

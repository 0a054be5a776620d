//! The host's zygote: started when it is first needed, and anew when it is gone or its program was replaced.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use strongroom_bus::log;
use strongroom_jail::Stderr;
use strongroom_jail::zygote::{Seed, Zygote};

/// Forks vault processes. Used on the keeper's thread alone, whose children they all are.
#[derive(Debug)]
pub(crate) struct Forker {
    program: PathBuf,
    stderr: Stderr,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    zygote: Zygote,
    /// What was in the program's place when it was started.
    program: FileMark,
}

/// Tells one file from another that was put in its place.
type FileMark = (u64, u64, i64, i64, u64);

impl Forker {
    pub(crate) fn new(program: PathBuf, stderr: Stderr) -> Self {
        Self { program, stderr, running: Mutex::new(None) }
    }

    /// Forks a process; answers its descriptor.
    pub(crate) fn fork(&self, seed: &Seed<'_>) -> io::Result<OwnedFd> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let program = mark_of(&self.program)?;
        if running.as_ref().is_some_and(|running| running.program != program) {
            log::info("vault_program_replaced", &[]);
            *running = None;
        }
        if let Some(running) = &*running {
            match running.zygote.fork(seed) {
                Err(error) if is_gone(&error) => log::warn("zygote_gone", &[("kind", &error.kind())]),
                done => return done,
            }
        }
        // The one before is waited for first.
        *running = None;
        let zygote = Zygote::start(&self.program, self.stderr)?;
        running.insert(Running { zygote, program }).zygote.fork(seed)
    }
}

fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, InvalidData, TimedOut, UnexpectedEof, WouldBlock};
    matches!(error.kind(), BrokenPipe | ConnectionReset | InvalidData | TimedOut | UnexpectedEof | WouldBlock)
}

fn mark_of(program: &PathBuf) -> io::Result<FileMark> {
    let file = std::fs::metadata(program)?;
    Ok((file.dev(), file.ino(), file.mtime(), file.mtime_nsec(), file.len()))
}

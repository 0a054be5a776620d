//! The host's zygote: started when it is first needed, and anew when it is gone or its program was replaced.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use strongroom_bus::log;
use strongroom_jail::Stderr;
use strongroom_jail::zygote::{Seed, Zygote};

use crate::programs::{Digest, FileMark, Programs};

/// Forks vault processes. Used on the keeper's thread alone, whose children they all are.
#[derive(Debug)]
pub(crate) struct Forker {
    programs: Arc<Programs>,
    stderr: Stderr,
    /// Of the installed program, and of each that was measured.
    running: Mutex<HashMap<Option<Digest>, Running>>,
}

#[derive(Debug)]
struct Running {
    zygote: Zygote,
    /// Which file it is, where it is whichever is installed.
    mark: Option<FileMark>,
}

impl Forker {
    pub(crate) fn new(programs: Arc<Programs>, stderr: Stderr) -> Self {
        Self { programs, stderr, running: Mutex::default() }
    }

    /// Forks a process of the program that was measured so, or of the installed one; answers its descriptor.
    pub(crate) fn fork(&self, seed: &Seed<'_>, program: Option<Digest>) -> io::Result<OwnedFd> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = match program {
            None => Some(self.programs.mark()?),
            Some(_) => None,
        };
        if running.get(&program).is_some_and(|running| running.mark != mark) {
            log::info("vault_program_replaced", &[]);
            running.remove(&program);
        }
        if let Some(running) = running.get(&program) {
            match running.zygote.fork(seed) {
                Err(error) if is_gone(&error) => log::warn("zygote_gone", &[("kind", &error.kind())]),
                done => return done,
            }
        }
        // The one before is waited for first.
        running.remove(&program);
        let zygote = self.start(program)?;
        running.entry(program).or_insert(Running { zygote, mark }).zygote.fork(seed)
    }

    fn start(&self, program: Option<Digest>) -> io::Result<Zygote> {
        let Some(digest) = program else { return Zygote::start(self.programs.path(), self.stderr) };
        // Started through the descriptor it was measured through, so that nothing else is put in its place in between.
        let file = self.programs.open(digest)?;
        Zygote::start(format!("/proc/self/fd/{}", file.as_raw_fd()), self.stderr)
    }
}

fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, InvalidData, TimedOut, UnexpectedEof, WouldBlock};
    matches!(error.kind(), BrokenPipe | ConnectionReset | InvalidData | TimedOut | UnexpectedEof | WouldBlock)
}

//! The host's end of `strongroom-tpm`: started when it is first needed, and anew when it is gone.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use strongroom_bus::log;
use strongroom_jail::{Launch, Stderr};
use strongroom_wire::frame::{Messages, with_length};
use strongroom_wire::sealing::{TPM_MESSAGE_BYTES_MAX, TpmAnswer, TpmRefusal, TpmRequest};
use zeroize::Zeroizing;

use crate::config::TpmConfig;
use crate::keeper::Keeper;

/// A TPM. Its program runs on a thread of its own: a chip takes its time, and no vault waits for another's.
#[derive(Clone, Debug)]
pub(crate) struct Tpm {
    keeper: Keeper,
    link: Arc<Mutex<Option<Link>>>,
    config: Arc<TpmConfig>,
    stderr: Stderr,
}

/// The program, running.
#[derive(Debug)]
struct Link {
    child: Child,
    socket: UnixStream,
    messages: Messages,
}

impl Tpm {
    pub(crate) fn new(config: TpmConfig, stderr: Stderr) -> io::Result<Self> {
        Ok(Self { keeper: Keeper::start()?, link: Arc::default(), config: Arc::new(config), stderr })
    }

    /// Asks, after those who asked before.
    pub(crate) async fn ask(&self, request: TpmRequest) -> Result<TpmAnswer, TpmRefusal> {
        let this = self.clone();
        let asked = self.keeper.run(move || this.ask_now(&request)).await;
        asked.unwrap_or(Err(TpmRefusal::Unreachable {}))
    }

    /// On the thread of the TPM.
    fn ask_now(&self, request: &TpmRequest) -> Result<TpmAnswer, TpmRefusal> {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        // Twice: a program that is gone is seen only when it does not answer.
        for _ in 0..2 {
            let (mut running, anew) = match link.take() {
                Some(running) => (running, false),
                None => (self.start()?, true),
            };
            match running.ask(request) {
                // The chip may have lost what the program had loaded: another program loads it again.
                Ok(TpmAnswer::Refused(TpmRefusal::Tpm { .. } | TpmRefusal::Unreachable {})) if !anew => {}
                Ok(TpmAnswer::Refused(refusal)) => {
                    // One that does not answer the program is not given up: the next request tries anew.
                    if !matches!(refusal, TpmRefusal::Tpm { .. } | TpmRefusal::Unreachable {}) {
                        *link = Some(running);
                    }
                    return Err(refusal);
                }
                Ok(answer) => {
                    *link = Some(running);
                    return Ok(answer);
                }
                Err(error) => log::warn("tpm_program_gone", &[("kind", &error.kind())]),
            }
        }
        Err(TpmRefusal::Unreachable {})
    }

    fn start(&self) -> Result<Link, TpmRefusal> {
        let failed = |error: io::Error| {
            log::warn("tpm_program_not_started", &[("kind", &error.kind())]);
            TpmRefusal::Unreachable {}
        };
        let mut link = Link::start(&self.config, self.stderr).map_err(failed)?;
        match link.ask(&TpmRequest::Begin { boot: self.config.boot.clone() }).map_err(failed)? {
            TpmAnswer::Begun { .. } => Ok(link),
            TpmAnswer::Refused(refusal) => Err(refusal),
            _ => Err(TpmRefusal::Unreachable {}),
        }
    }
}

impl Link {
    fn start(config: &TpmConfig, stderr: Stderr) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(PATIENCE))?;
        ours.set_write_timeout(Some(PATIENCE))?;
        let child = Launch::new(&config.program).arg(&config.name).stderr(stderr).inherit(theirs).start()?;
        Ok(Self { child, socket: ours, messages: Messages::new(TPM_MESSAGE_BYTES_MAX) })
    }

    fn ask(&mut self, request: &TpmRequest) -> io::Result<TpmAnswer> {
        let mut body = Zeroizing::new(Vec::with_capacity(TPM_MESSAGE_BYTES_MAX));
        serde_json::to_writer(&mut *body, request)?;
        self.socket.write_all(&Zeroizing::new(with_length(&body)))?;
        let mut buffer = Zeroizing::new([0; 4096]);
        loop {
            let refused = |_| io::Error::from(io::ErrorKind::InvalidData);
            if let Some(message) = self.messages.next_message().map_err(refused)? {
                return Ok(serde_json::from_slice(&Zeroizing::new(message))?);
            }
            match self.socket.read(&mut *buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.messages.push(&buffer[..read]),
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // It leaves by itself, and gives back what it loaded into the chip; one that hangs holds nothing that could be lost.
        let _ = self.socket.shutdown(Shutdown::Both);
        for _ in 0..LEAVE_LOOKS {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(LEAVE_LOOK);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How long a TPM may take. The slowest make a key in some seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the program may take to leave: looks, and the time between them.
const LEAVE_LOOKS: u32 = 200;
const LEAVE_LOOK: Duration = Duration::from_millis(5);

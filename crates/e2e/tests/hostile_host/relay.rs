//! A relay in the middle: it sits between a client and the server's socket, keeps every message that goes by, and does with it
//! what it was told.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use strongroom_client::wire::frame::{Messages, with_length};
use strongroom_e2e::Place;

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ToVault,
    ToClient,
}

/// One message as it came by.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Counts the connections of this relay.
    pub(crate) connection: usize,
    pub(crate) way: Way,
    /// Counts the messages of this connection and way: greeting, two or one of the handshake, then frames.
    pub(crate) number: usize,
    pub(crate) bytes: Vec<u8>,
}

impl Seen {
    /// As it came.
    pub(crate) fn pass(&self) -> Instead {
        Instead::whole(&self.bytes)
    }
}

/// What is sent in place of a message: bytes as they are, with the lengths before them.
pub(crate) enum Instead {
    Send(Vec<u8>),
    /// And then nothing more, either way.
    SendAndCut(Vec<u8>),
}

impl Instead {
    /// One message.
    pub(crate) fn whole(message: &[u8]) -> Self {
        Self::Send(with_length(message))
    }

    /// Nothing, and the end.
    pub(crate) fn cut() -> Self {
        Self::SendAndCut(Vec::new())
    }
}

type Deed = Box<dyn FnMut(&Seen) -> Instead + Send>;

/// A relay that listens. It ends with the test.
pub(crate) struct Relay {
    socket: PathBuf,
    state: Arc<State>,
}

struct State {
    seen: Mutex<Vec<Seen>>,
    deed: Mutex<Deed>,
}

impl Relay {
    /// Before this place's server, honest at first.
    pub(crate) fn start(place: &Place) -> Self {
        let (socket, server) = (place.path("relay"), place.socket());
        let listener = UnixListener::bind(&socket).expect("a socket of the test");
        let state = Arc::new(State { seen: Mutex::default(), deed: Mutex::new(Box::new(Seen::pass)) });
        let relay = Self { socket, state: Arc::clone(&state) };
        thread::spawn(move || {
            for (connection, client) in listener.incoming().flatten().enumerate() {
                let server = UnixStream::connect(&server).expect("the server listens");
                let both = [(Way::ToVault, &client, &server), (Way::ToClient, &server, &client)];
                for (way, from, to) in both {
                    let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                    let state = Arc::clone(&state);
                    thread::spawn(move || state.carry(connection, way, from, to));
                }
            }
        });
        relay
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// What it does from now on.
    pub(crate) fn does(&self, deed: impl FnMut(&Seen) -> Instead + Send + 'static) {
        *self.state.deed() = Box::new(deed);
    }

    /// What went by since this was asked last.
    pub(crate) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.state.seen())
    }
}

impl State {
    fn carry(&self, connection: usize, way: Way, mut from: UnixStream, mut to: UnixStream) {
        let mut messages = Messages::new(8 << 20);
        let mut buffer = vec![0; 64 * 1024];
        let mut number = 0;
        'open: while let Ok(count @ 1..) = from.read(&mut buffer) {
            messages.push(&buffer[..count]);
            while let Some(bytes) = messages.next_message().expect("both ends are honest") {
                let seen = Seen { connection, way, number, bytes };
                number += 1;
                let instead = (self.deed())(&seen);
                self.seen().push(seen);
                let (bytes, goes_on) = match instead {
                    Instead::Send(bytes) => (bytes, true),
                    Instead::SendAndCut(bytes) => (bytes, false),
                };
                // Whoever has had enough of it is gone.
                if to.write_all(&bytes).is_err() || !goes_on {
                    break 'open;
                }
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }

    fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deed(&self) -> MutexGuard<'_, Deed> {
        self.deed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

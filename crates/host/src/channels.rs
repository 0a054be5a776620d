//! The channels of one vault process: which connection is which channel, and what of its window is used.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use strongroom_bus::ConnectionId;
use strongroom_bus::envelope::CONNECTION_WINDOW_BYTES;
use strongroom_wire::limits;

/// What a connection has on its way to the vault. Shared by the router, which adds, and the vault's task, which takes away.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flow(Arc<AtomicU32>);

impl Flow {
    /// Counts bytes that came; `false` where they are more than the services were given leave for.
    pub(crate) fn came(&self, bytes: u32) -> bool {
        let add = |used: u32| used.checked_add(bytes).filter(|used| *used <= CONNECTION_WINDOW_BYTES);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    fn left(&self, bytes: u32) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The channels of one process.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    channels: HashMap<ConnectionId, Channel>,
    connections: HashMap<u32, ConnectionId>,
    last: u32,
}

#[derive(Debug)]
struct Channel {
    number: u32,
    flow: Flow,
    /// Handed to the process since the services were given leave last.
    handed: u32,
}

/// What a process says of a channel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// It is this connection's.
    Of(ConnectionId),
    /// It was closed a moment ago.
    Closed,
    /// There never was one.
    Never,
}

impl Channels {
    /// A number for a new channel; `None` where there are too many.
    pub(crate) fn open(&mut self, connection: ConnectionId, flow: Flow) -> Option<u32> {
        if self.channels.len() >= limits::CHANNELS_MAX {
            return None;
        }
        let number = self.last.checked_add(1)?;
        self.last = number;
        self.channels.insert(connection, Channel { number, flow, handed: 0 });
        self.connections.insert(number, connection);
        Some(number)
    }

    pub(crate) fn number(&self, connection: ConnectionId) -> Option<u32> {
        self.channels.get(&connection).map(|channel| channel.number)
    }

    pub(crate) fn whose(&self, number: u32) -> Whose {
        match self.connections.get(&number) {
            Some(connection) => Whose::Of(*connection),
            None if number == 0 || number > self.last => Whose::Never,
            None => Whose::Closed,
        }
    }

    /// Counts bytes handed to the process. Now and then returns how many the services may send again.
    pub(crate) fn handed(&mut self, connection: ConnectionId, bytes: u32) -> Option<u32> {
        let channel = self.channels.get_mut(&connection)?;
        channel.handed += bytes;
        if channel.handed < CONNECTION_WINDOW_BYTES / 4 {
            return None;
        }
        let again = std::mem::take(&mut channel.handed);
        channel.flow.left(again);
        Some(again)
    }

    /// Forgets a channel; returns its number.
    pub(crate) fn close(&mut self, connection: ConnectionId) -> Option<u32> {
        let channel = self.channels.remove(&connection)?;
        self.connections.remove(&channel.number);
        Some(channel.number)
    }

    /// Forgets all of them.
    pub(crate) fn close_all(&mut self) -> Vec<ConnectionId> {
        self.connections.clear();
        self.channels.drain().map(|(connection, _)| connection).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ConnectionId = ConnectionId(71);

    #[test]
    fn numbers_count_up_and_are_not_reused() {
        let mut channels = Channels::default();
        assert_eq!(channels.open(ONE, Flow::default()), Some(1));
        assert_eq!(channels.whose(1), Whose::Of(ONE));
        assert_eq!(channels.close(ONE), Some(1));
        assert_eq!((channels.whose(0), channels.whose(1), channels.whose(2)), (Whose::Never, Whose::Closed, Whose::Never));
        assert_eq!(channels.open(ONE, Flow::default()), Some(2));
        for number in 2..=limits::CHANNELS_MAX as u64 {
            assert!(channels.open(ConnectionId(1_000 + number), Flow::default()).is_some());
        }
        assert_eq!(channels.open(ConnectionId(0), Flow::default()), None);
    }

    #[test]
    fn a_window_is_given_back_as_it_is_used() {
        let flow = Flow::default();
        let mut channels = Channels::default();
        channels.open(ONE, flow.clone());
        assert!(flow.came(CONNECTION_WINDOW_BYTES) && !flow.came(1));
        assert_eq!(channels.handed(ONE, CONNECTION_WINDOW_BYTES / 4 - 1), None);
        assert_eq!(channels.handed(ONE, 1), Some(CONNECTION_WINDOW_BYTES / 4));
        assert!(flow.came(CONNECTION_WINDOW_BYTES / 4) && !flow.came(1));
    }
}

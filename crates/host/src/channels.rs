//! The channels of one vault process: which connection is which channel, and what of its window is used.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use strongroom_bus::ConnectionId;
use strongroom_bus::envelope::CONNECTION_WINDOW_BYTES;
use strongroom_wire::limits;

/// What a connection has on its way to the vault. Shared by the router, which adds, and the vault's task, which takes away; a
/// connection is over, and its place free, when both have let go of it.
#[derive(Clone, Debug)]
pub(crate) struct Flow(Arc<Bytes>);

/// What all connections have on their way together, and how many there are.
#[derive(Debug, Default)]
pub(crate) struct Everybody {
    bytes: AtomicU64,
    connections: AtomicUsize,
}

#[derive(Debug)]
struct Bytes {
    own: AtomicU32,
    everybody: Arc<Everybody>,
    /// Connections of its vault.
    of_vault: Arc<AtomicUsize>,
}

impl Flow {
    /// For a further connection; `None` where there are as many as there may be, of its vault or of all.
    pub(crate) fn new(everybody: Arc<Everybody>, of_vault: Arc<AtomicUsize>) -> Option<Self> {
        let take = |count: &AtomicUsize, max| {
            let add = |count: usize| (count < max).then_some(count + 1);
            count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
        };
        if !take(&of_vault, CONNECTIONS_OF_VAULT_MAX) {
            return None;
        }
        if !take(&everybody.connections, CONNECTIONS_MAX) {
            of_vault.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self(Arc::new(Bytes { own: AtomicU32::new(0), everybody, of_vault })))
    }

    /// Counts bytes that came; `false` where they are more than the services were given leave for, or more than the host
    /// holds for all vaults together.
    pub(crate) fn came(&self, bytes: u32) -> bool {
        let add = |own: u32| own.checked_add(bytes).filter(|own| *own <= CONNECTION_WINDOW_BYTES);
        if self.0.own.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_err() {
            return false;
        }
        self.0.everybody.bytes.fetch_add(u64::from(bytes), Ordering::Relaxed) < HELD_BYTES_MAX
    }

    fn left(&self, bytes: u32) {
        self.0.own.fetch_sub(bytes, Ordering::Relaxed);
        self.0.everybody.bytes.fetch_sub(u64::from(bytes), Ordering::Relaxed);
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.everybody.bytes.fetch_sub(u64::from(*self.own.get_mut()), Ordering::Relaxed);
        self.everybody.connections.fetch_sub(1, Ordering::Relaxed);
        self.of_vault.fetch_sub(1, Ordering::Relaxed);
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

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.channels.len()
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

/// Connections of one vault, those that still wait for their channel or their end included.
const CONNECTIONS_OF_VAULT_MAX: usize = 4 * limits::CHANNELS_MAX;

/// Connections of all vaults together.
const CONNECTIONS_MAX: usize = 65_536;

/// Bytes on their way to all vaults together: enough for 256 clients with full windows.
const HELD_BYTES_MAX: u64 = 256 * CONNECTION_WINDOW_BYTES as u64;

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> Flow {
        Flow::new(Arc::default(), Arc::default()).expect("there is room")
    }

    #[test]
    fn a_connection_that_is_gone_holds_nothing() {
        let everybody = Arc::new(Everybody::default());
        let further = || Flow::new(Arc::clone(&everybody), Arc::default());
        let flows: Vec<_> = (0..256).map(|_| further().expect("there is room")).collect();
        assert!(flows.iter().all(|flow| flow.came(CONNECTION_WINDOW_BYTES)));
        assert!(!further().expect("there is room").came(1));
        drop(flows);
        assert_eq!(everybody.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_place_is_free_when_nobody_holds_the_connection_any_more() {
        let everybody = Arc::new(Everybody::default());
        let further = || Flow::new(Arc::clone(&everybody), Arc::default());
        let mut flows: Vec<_> = (0..CONNECTIONS_MAX).map(|_| further().expect("there is room")).collect();
        assert!(further().is_none());
        let queued = flows.last().cloned();
        flows.pop();
        assert!(further().is_none(), "it waits in a queue still");
        drop(queued);
        assert!(further().is_some());
        drop(flows);
        // One vault's are not everybody's.
        let one = Arc::default();
        let of_one = || Flow::new(Arc::clone(&everybody), Arc::clone(&one));
        let mut flows: Vec<_> = (0..CONNECTIONS_OF_VAULT_MAX).map(|_| of_one().expect("there is room")).collect();
        assert!(of_one().is_none());
        assert!(further().is_some());
        flows.pop();
        assert!(of_one().is_some());
    }

    const ONE: ConnectionId = ConnectionId(71);

    #[test]
    fn numbers_count_up_and_are_not_reused() {
        let mut channels = Channels::default();
        assert_eq!(channels.open(ONE, flow()), Some(1));
        assert_eq!(channels.whose(1), Whose::Of(ONE));
        assert_eq!(channels.close(ONE), Some(1));
        assert_eq!(
            (channels.whose(0), channels.whose(1), channels.whose(2)),
            (Whose::Never, Whose::Closed, Whose::Never)
        );
        assert_eq!(channels.open(ONE, flow()), Some(2));
        for number in 2..=limits::CHANNELS_MAX as u64 {
            assert!(channels.open(ConnectionId(1_000 + number), flow()).is_some());
        }
        assert_eq!(channels.open(ConnectionId(0), flow()), None);
    }

    #[test]
    fn a_window_is_given_back_as_it_is_used() {
        let flow = flow();
        let mut channels = Channels::default();
        channels.open(ONE, flow.clone());
        assert!(flow.came(CONNECTION_WINDOW_BYTES) && !flow.came(1));
        assert_eq!(channels.handed(ONE, CONNECTION_WINDOW_BYTES / 4 - 1), None);
        assert_eq!(channels.handed(ONE, 1), Some(CONNECTION_WINDOW_BYTES / 4));
        assert!(flow.came(CONNECTION_WINDOW_BYTES / 4) && !flow.came(1));
    }
}

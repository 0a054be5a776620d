//! Accepts clients and carries what the bus brings to them.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use strongroom_bus::{Bus, BusError, ConnectionId, Envelope, Filter, Kind, Topic, log};
use strongroom_wire::{Code, Refusal, VaultId};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::{RelayLimits, ServicesConfig};
use crate::connection::{self, Inbound};

/// Why the services ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunServicesError {
    /// The socket for clients cannot be used.
    #[error("the socket for clients cannot be used")]
    Listener(#[source] io::Error),
    /// The host is gone, or did not accept these services.
    #[error("the bus is gone")]
    Bus(#[from] BusError),
}

/// Serves clients until the bus is gone.
///
/// # Errors
/// [`RunServicesError`]; whoever started the services starts them again.
pub async fn run<B: Bus>(config: ServicesConfig, bus: B) -> Result<(), RunServicesError> {
    let listener = config.listener;
    listener.set_nonblocking(true).map_err(RunServicesError::Listener)?;
    let listener = UnixListener::from_std(listener).map_err(RunServicesError::Listener)?;
    let relay = Arc::new(Relay::new(bus, config.version, config.limits));
    let mut to_device = relay.bus.subscribe(Filter::every(Topic::ToDevice)).await?;
    log::info("services_ready", &[]);
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            envelope = to_device.next() => match envelope {
                Some(envelope) => relay.deliver(envelope),
                None => return Err(BusError::Gone.into()),
            },
            Some(ended) = clients.join_next() => {
                if ended.is_err_and(|error| error.is_panic()) {
                    log::error("client_task_panicked", &[]);
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => relay.admit(stream, &mut clients),
                Err(error) => {
                    log::warn("accept_failed", &[("kind", &error.kind())]);
                    // Out of descriptors, most likely: the ones in use are freed by time-outs.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// What every connection shares.
pub(crate) struct Relay<B> {
    pub(crate) bus: B,
    pub(crate) version: String,
    pub(crate) limits: RelayLimits,
    next: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Where envelopes of a connection go, and the one vault they may come from.
    routes: HashMap<ConnectionId, (VaultId, Inbound)>,
    connections: usize,
    users: HashMap<u32, User>,
    /// Connections that lead to each vault.
    vaults: HashMap<VaultId, usize>,
}

#[derive(Default)]
struct User {
    connections: usize,
    /// When this user made vaults in the last hour.
    new_vaults: Vec<Instant>,
}

impl<B: Bus> Relay<B> {
    fn new(bus: B, version: String, limits: RelayLimits) -> Self {
        // From a random place, so that a number of an earlier services process does not come back.
        let mut first = [0; 8];
        rustix::rand::getrandom(&mut first, rustix::rand::GetRandomFlags::empty())
            .expect("the kernel has chance to give");
        Self { bus, version, limits, next: AtomicU64::new(u64::from_be_bytes(first) >> 1 | 1), state: Mutex::default() }
    }

    fn admit(self: &Arc<Self>, stream: UnixStream, clients: &mut JoinSet<()>) {
        let Ok(peer) = stream.peer_cred() else { return };
        let uid = peer.uid();
        let Some(place) = self.take_place(uid) else {
            log::warn("client_over_limit", &[("uid", &uid)]);
            return;
        };
        let relay = Arc::clone(self);
        clients.spawn(async move {
            connection::serve(&relay, stream, uid).await;
            drop(place);
        });
    }

    fn take_place(self: &Arc<Self>, uid: u32) -> Option<Place<B>> {
        let mut state = self.state();
        if state.connections >= self.limits.connections_max {
            return None;
        }
        let user = state.users.entry(uid).or_default();
        if user.connections >= self.limits.connections_per_uid_max {
            return None;
        }
        user.connections += 1;
        state.connections += 1;
        Some(Place { relay: Arc::clone(self), uid })
    }

    /// Counts a new vault of this user; `false` where it is one too many.
    pub(crate) fn may_make_vault(&self, uid: u32) -> bool {
        let now = Instant::now();
        let mut state = self.state();
        let user = state.users.entry(uid).or_default();
        user.new_vaults.retain(|then| now.duration_since(*then) < HOUR);
        if user.new_vaults.len() >= self.limits.new_vaults_per_hour_max {
            return false;
        }
        user.new_vaults.push(now);
        true
    }

    /// A number for a connection and a way for what `vault` sends it.
    ///
    /// # Errors
    /// `busy`: as many lead to this vault as may, whoever they are.
    pub(crate) fn route(self: &Arc<Self>, vault: VaultId, inbound: Inbound) -> Result<Route<B>, Refusal> {
        let connection = ConnectionId(self.next.fetch_add(1, Ordering::Relaxed));
        let mut state = self.state();
        let leading_there = state.vaults.entry(vault).or_default();
        if *leading_there >= self.limits.connections_per_vault_max {
            return Err(Code::Busy.into());
        }
        *leading_there += 1;
        state.routes.insert(connection, (vault, inbound));
        Ok(Route { relay: Arc::clone(self), connection })
    }

    /// Never waits: one slow client must not hold up the others.
    fn deliver(&self, envelope: Arc<Envelope>) {
        let state = self.state();
        let Some((vault, inbound)) = state.routes.get(&envelope.connection) else { return };
        if *vault == envelope.subject.member {
            inbound.take(envelope);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics between two halves of a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place within the limits.
struct Place<B: Bus> {
    relay: Arc<Relay<B>>,
    uid: u32,
}

impl<B: Bus> Drop for Place<B> {
    fn drop(&mut self) {
        let mut state = self.relay.state();
        state.connections -= 1;
        if let Some(user) = state.users.get_mut(&self.uid) {
            user.connections -= 1;
            if user.connections == 0 && user.new_vaults.is_empty() {
                state.users.remove(&self.uid);
            }
        }
    }
}

/// A connection's number and way; dropping it ends both.
pub(crate) struct Route<B: Bus> {
    relay: Arc<Relay<B>>,
    pub(crate) connection: ConnectionId,
}

impl<B: Bus> Drop for Route<B> {
    fn drop(&mut self) {
        let mut state = self.relay.state();
        let Some((vault, _)) = state.routes.remove(&self.connection) else { return };
        if let Some(leading_there) = state.vaults.get_mut(&vault) {
            *leading_there -= 1;
            if *leading_there == 0 {
                state.vaults.remove(&vault);
            }
        }
    }
}

/// An envelope to a vault.
pub(crate) fn to_vault(vault: VaultId, connection: ConnectionId, kind: Kind) -> Envelope {
    let subject = strongroom_bus::Subject { member: vault, topic: Topic::ToVault };
    Envelope::new(subject, connection, kind)
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const HOUR: Duration = Duration::from_secs(3_600);

//! From the bus to the task of each vault.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use strongroom_bus::{Bus, ConnectionId, Envelope, Kind, Subject, Subscription, Topic, log};
use strongroom_wire::{Code, Refusal, VaultId};
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};

use crate::channels::{Everybody, Flow};
use crate::config::HostConfig;
use crate::folders::{CreateVaultError, Folders};
use crate::keeper::Keeper;
use crate::life::Lives;
use crate::resolve::Resolver;
use crate::sealing::Sealer;
use crate::vault::{Ask, VaultTask};
use crate::zygote::Forker;

/// What every vault's task shares: nothing that belongs to a vault.
pub(crate) struct Shared<B> {
    pub(crate) bus: B,
    pub(crate) config: Arc<HostConfig>,
    pub(crate) folders: Arc<Folders>,
    pub(crate) forker: Arc<Forker>,
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) keeper: Keeper,
    pub(crate) resolver: Resolver,
    pub(crate) connections: Arc<Connections>,
    pub(crate) lives: Arc<Lives>,
    pub(crate) stop: watch::Receiver<bool>,
}

impl<B> Shared<B> {
    /// A connection is over.
    pub(crate) fn forget(&self, connection: ConnectionId) {
        self.connections.lock().remove(&connection);
    }
}

/// Every connection there is, and the one vault it leads to.
#[derive(Debug, Default)]
pub(crate) struct Connections(Mutex<HashMap<ConnectionId, Connection>>);

#[derive(Debug)]
struct Connection {
    vault: VaultId,
    asks: mpsc::UnboundedSender<Ask>,
    flow: Flow,
}

impl Connections {
    /// The services are gone: every client is.
    pub(crate) fn close_all(&self) {
        for (id, connection) in self.lock().drain() {
            // A task that has ended has closed its channels.
            let _ = connection.asks.send(Ask::Close(id));
        }
    }

    fn take_all_of(&self, vault: VaultId) -> Vec<ConnectionId> {
        self.lock().extract_if(|_, connection| connection.vault == vault).map(|(id, _)| id).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ConnectionId, Connection>> {
        // No code panics between two halves of a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to a vault's task, and how many connections use it.
#[derive(Clone, Debug)]
struct Way {
    asks: mpsc::UnboundedSender<Ask>,
    connections: Arc<AtomicUsize>,
}

/// Takes envelopes from the bus to the vaults' tasks. It waits for nothing but the bus.
pub(crate) struct Router<B> {
    shared: Arc<Shared<B>>,
    vaults: HashMap<VaultId, Way>,
    tasks: JoinSet<()>,
    whose: HashMap<Id, VaultId>,
    /// Vaults that there are or are being made.
    count: Arc<AtomicUsize>,
    everybody: Arc<Everybody>,
}

impl<B: Bus> Router<B> {
    pub(crate) fn new(shared: Arc<Shared<B>>, count: Arc<AtomicUsize>) -> Self {
        Self {
            shared,
            vaults: HashMap::new(),
            tasks: JoinSet::new(),
            whose: HashMap::new(),
            count,
            everybody: Arc::default(),
        }
    }

    /// Until the host stops; then waits for the vaults to have stopped.
    pub(crate) async fn run(mut self, mut to_vault: Subscription) {
        let mut stop = self.shared.stop.clone();
        loop {
            tokio::select! {
                envelope = to_vault.next() => match envelope {
                    Some(envelope) => self.route(envelope).await,
                    None => break log::error("bus_gone", &[]),
                },
                Some(ended) = self.tasks.join_next_with_id() => self.task_ended(ended).await,
                () = stopped(&mut stop) => break,
            }
        }
        self.vaults.clear();
        while let Some(ended) = self.tasks.join_next_with_id().await {
            self.task_ended(ended).await;
        }
    }

    async fn route(&mut self, envelope: Arc<Envelope>) {
        match envelope.kind {
            Kind::Open => self.open(&envelope).await,
            Kind::Data => self.data(envelope),
            Kind::Close => self.close(&envelope),
            Kind::Create => self.create(&envelope).await,
            _ => log::warn("envelope_unexpected", &[("connection", &envelope.connection)]),
        }
    }

    async fn open(&mut self, envelope: &Envelope) {
        let (vault, connection) = (envelope.subject.member, envelope.connection);
        if !self.shared.folders.has(vault) {
            return self.refuse(envelope, Code::VaultUnknown.into()).await;
        }
        // Its place is taken until the vault's task is done with it, or opening and closing would fill the queue without end.
        let Way { asks, connections } = self.way_to(vault);
        let Some(flow) = Flow::new(Arc::clone(&self.everybody), connections) else {
            return self.refuse(envelope, Code::Busy.into()).await;
        };
        {
            let mut connections = self.shared.connections.lock();
            if connections.contains_key(&connection) {
                // No services of ours do this; the connection that there is goes on.
                return log::warn("connection_number_reused", &[("connection", &connection)]);
            }
            connections.insert(connection, Connection { vault, asks: asks.clone(), flow: flow.clone() });
        }
        let rescue = envelope.payload == [1];
        if asks.send(Ask::Open(connection, flow, rescue)).is_err() {
            self.shared.forget(connection);
            self.refuse(envelope, Code::Busy.into()).await;
        }
    }

    fn data(&mut self, envelope: Arc<Envelope>) {
        let mut connections = self.shared.connections.lock();
        let Some(connection) = connections.get(&envelope.connection) else { return };
        if connection.vault != envelope.subject.member {
            return log::warn("connection_of_another_vault", &[("connection", &envelope.connection)]);
        }
        let id = envelope.connection;
        if connection.flow.came(envelope.window_cost()) {
            // A task that has ended has closed its channels.
            let _ = connection.asks.send(Ask::Data(envelope));
        } else {
            log::warn("connection_over_window", &[("connection", &id)]);
            if let Some(connection) = connections.remove(&id) {
                let _ = connection.asks.send(Ask::Close(id));
            }
        }
    }

    fn close(&mut self, envelope: &Envelope) {
        let mut connections = self.shared.connections.lock();
        let ours = connections.get(&envelope.connection).is_some_and(|found| found.vault == envelope.subject.member);
        if ours && let Some(connection) = connections.remove(&envelope.connection) {
            let _ = connection.asks.send(Ask::Close(envelope.connection));
        }
    }

    /// A new vault: acknowledged once its share and folder are durable.
    async fn create(&mut self, envelope: &Envelope) {
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.shared.config.vaults_max {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return self.refuse(envelope, Code::TooMany.into()).await;
        }
        let (shared, count) = (Arc::clone(&self.shared), Arc::clone(&self.count));
        let (vault, connection) = (envelope.subject.member, envelope.connection);
        self.tasks.spawn(async move {
            let refused: Option<Refusal> = match shared.sealer.create(vault).await {
                Ok(()) => None,
                Err(CreateVaultError::Exists) => Some(Code::VaultExists.into()),
                Err(CreateVaultError::Io(kind)) => {
                    log::warn("vault_not_created", &[("vault", &vault), ("kind", &kind)]);
                    let full = kind == std::io::ErrorKind::StorageFull;
                    Some(if full { Code::DiskFull } else { Code::HostFailed }.into())
                }
                Err(CreateVaultError::Refused(refusal)) => {
                    log::warn("vault_not_created", &[("vault", &vault), ("code", &refusal.code)]);
                    Some(refusal)
                }
            };
            if refused.is_some() {
                count.fetch_sub(1, Ordering::Relaxed);
            } else {
                log::info("vault_created", &[("vault", &vault)]);
            }
            // Where the bus is gone, so is whoever asked.
            let _ = shared.bus.publish(answer(vault, connection, refused)).await;
        });
    }

    async fn refuse(&self, envelope: &Envelope, refusal: Refusal) {
        // As above.
        let _ = self.shared.bus.publish(answer(envelope.subject.member, envelope.connection, Some(refusal))).await;
    }

    /// The way to a vault's task, which is started where there is none.
    fn way_to(&mut self, vault: VaultId) -> Way {
        if let Some(way) = self.vaults.get(&vault).filter(|way| !way.asks.is_closed()) {
            return way.clone();
        }
        let (asks, receiver) = mpsc::unbounded_channel();
        let task = self.tasks.spawn(VaultTask::new(vault, Arc::clone(&self.shared), receiver).run());
        self.whose.insert(task.id(), vault);
        let way = Way { asks, connections: Arc::default() };
        self.vaults.insert(vault, way.clone());
        way
    }

    async fn task_ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                // A bug of ours; its process is gone with it, and the other vaults go on.
                log::error("vault_task_panicked", &[("vault", &self.whose.get(&error.id()).copied())]);
                error.id()
            }
        };
        let Some(vault) = self.whose.remove(&id) else { return };
        if self.vaults.get(&vault).is_some_and(|way| way.asks.is_closed()) {
            self.vaults.remove(&vault);
        }
        if !self.shared.folders.has(vault) {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        for connection in self.shared.connections.take_all_of(vault) {
            let subject = Subject { member: vault, topic: Topic::ToDevice };
            // Where the bus is gone, so are they.
            let _ = self.shared.bus.publish(Envelope::new(subject, connection, Kind::Close)).await;
        }
    }
}

/// Waits until the host is told to stop, or is gone.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the host is gone.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn answer(vault: VaultId, connection: ConnectionId, refusal: Option<Refusal>) -> Envelope {
    let subject = Subject { member: vault, topic: Topic::ToDevice };
    match refusal {
        None => Envelope::new(subject, connection, Kind::Created),
        Some(refusal) => Envelope::new(subject, connection, Kind::Refused)
            .payload(serde_json::to_vec(&refusal).expect("a refusal has a JSON form")),
    }
}

//! A host as a whole: started once, stopped once.

use std::io;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use strongroom_bus::{Bus, BusError, Filter, Topic};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::HostConfig;
use crate::folders::{Folders, FoldersError};
use crate::keeper::Keeper;
use crate::resolve::Resolver;
use crate::route::{Connections, Router, Shared};

/// Why a host did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartHostError {
    /// The folders cannot be used.
    #[error(transparent)]
    Folders(#[from] FoldersError),
    /// The vault program is not where it should be.
    #[error("the vault program is missing")]
    Program(#[source] io::Error),
    /// The system refused something.
    #[error("the host could not be set up")]
    System(#[source] io::Error),
    /// The bus does not take this host.
    #[error("the bus refused the host")]
    Bus(#[from] BusError),
}

/// A running host. Dropping it without [`Host::stop`] stops the vaults as well, and waits for nothing.
#[derive(Debug)]
pub struct Host {
    stop: watch::Sender<bool>,
    routing: JoinHandle<()>,
    connections: Arc<Connections>,
    keeper: Keeper,
}

impl Host {
    /// Starts a host on `bus`, a connection made for [`strongroom_bus::Principal::Host`]. No vault process is started before
    /// a client asks for its vault.
    ///
    /// # Errors
    /// [`StartHostError`]: nothing was started.
    pub async fn start<B: Bus>(config: HostConfig, bus: B) -> Result<Self, StartHostError> {
        raise_file_limit();
        std::fs::metadata(&config.vault_program).map_err(StartHostError::Program)?;
        let folders = Arc::new(Folders::open(&config.data_dir, &config.share_dir)?);
        let count = folders.count().map_err(StartHostError::System)?;
        let keeper = Keeper::start().map_err(StartHostError::System)?;
        let config = Arc::new(config);
        let connections = Arc::new(Connections::default());
        let (stop, stopped) = watch::channel(false);
        let to_vault = bus.subscribe(Filter::every(Topic::ToVault)).await?;
        let shared = Shared {
            bus,
            resolver: Resolver::new(Arc::clone(&config)),
            config,
            folders,
            keeper: keeper.clone(),
            connections: Arc::clone(&connections),
            stop: stopped,
        };
        let routing = tokio::spawn(Router::new(Arc::new(shared), count).run(to_vault));
        Ok(Self { stop, routing, connections, keeper })
    }

    /// Closes every connection: the services that held them are gone.
    pub fn close_connections(&self) {
        self.connections.close_all();
    }

    /// Tells every vault to stop, waits for them, and kills those that do not.
    pub async fn stop(self) {
        // Where nobody listens, the host has stopped.
        let _ = self.stop.send(true);
        let _ = self.routing.await;
    }

    /// Whether the host has stopped by itself, which it does when the bus is gone.
    pub fn is_stopped(&self) -> bool {
        self.routing.is_finished()
    }

    pub(crate) fn keeper(&self) -> &Keeper {
        &self.keeper
    }
}

/// Each vault process takes two descriptors, each tunnel one. What the system allows is taken; without it there is room for
/// fewer.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

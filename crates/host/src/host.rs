//! A host as a whole: started once, stopped once.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use strongroom_bus::log::{self, LogSafe};
use strongroom_bus::{Bus, BusError, Filter, Topic};
use strongroom_jail::{Promise, Stderr};
use strongroom_wire::Refusal;
use strongroom_wire::operate::{HostStatus, IsolationStatus};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;

use crate::config::{HostConfig, Isolation, Sealing};
use crate::control;
use crate::folders::{Folders, FoldersError};
use crate::keeper::Keeper;
use crate::life::{self, Lives};
use crate::programs::Programs;
use crate::resolve::Resolver;
use crate::route::{Connections, Router, Shared};
use crate::sealing::Sealer;
use crate::tpm::Tpm;
use crate::zygote::Forker;

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
    /// The kernel, or the rights of this user, do not set vault processes apart as far as they must be.
    #[error("vault processes can be set apart at the level `{}` alone; missing: {}", Isolation::without(.missing).as_str(), words(.missing))]
    Isolation {
        /// What is missing.
        missing: Vec<Promise>,
    },
    /// Shares cannot be sealed.
    #[error("shares cannot be sealed: {0}")]
    Sealing(Refusal),
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
    /// What runs for as long as it does.
    beside: [AbortHandle; 3],
}

impl Drop for Host {
    fn drop(&mut self) {
        self.beside.iter().for_each(AbortHandle::abort);
    }
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
        let stderr = if config.vault_stderr { Stderr::Inherit } else { Stderr::Null };
        let programs = Arc::new(Programs::new(config.vault_program.clone(), config.data_dir.join("programs")));
        let forker = Arc::new(Forker::new(Arc::clone(&programs), stderr));
        let tpm = match &config.sealing {
            Sealing::File => None,
            Sealing::Tpm(tpm) => Some(Tpm::new(tpm.clone(), stderr).map_err(StartHostError::System)?),
        };
        let sealer = Sealer::new(Arc::clone(&folders), programs, keeper.clone(), tpm);
        sealer.begin().await.map_err(StartHostError::Sealing)?;
        let sealer = Arc::new(sealer);
        let missing: Arc<OnceLock<Vec<Promise>>> = Arc::default();
        let examined = examine(&keeper, &folders, &forker, &missing);
        if config.required > Isolation::default() {
            let found = examined.await.map_err(StartHostError::System)?;
            if Isolation::without(&found) < config.required {
                return Err(StartHostError::Isolation { missing: found });
            }
        } else {
            // The first vault is started behind it.
            tokio::spawn(examined);
        }
        let connections = Arc::new(Connections::default());
        let (stop, stopped) = watch::channel(false);
        let count = Arc::new(AtomicUsize::new(count));
        let lives: Arc<Lives> = Arc::default();
        let status = status(&count, &lives, &missing);
        let listener = control::bind(&config.data_dir).inspect_err(|error| {
            // Vaults are served all the same.
            log::warn("operators_cannot_ask", &[("kind", &error.kind())]);
        });
        let (operators, room, load) = (
            tokio::spawn(async move {
                if let Ok(listener) = listener {
                    control::serve(listener, status).await;
                }
            }),
            tokio::spawn({
                let (lives, policy) = (Arc::clone(&lives), config.memory);
                async move { lives.keep_within(policy).await }
            }),
            tokio::spawn({
                let (lives, policy) = (Arc::clone(&lives), config.load);
                async move { lives.share_out(policy).await }
            }),
        );
        let to_vault = bus.subscribe(Filter::every(Topic::ToVault)).await?;
        let shared = Shared {
            bus,
            resolver: Resolver::new(Arc::clone(&config)),
            config,
            folders,
            forker,
            sealer,
            keeper: keeper.clone(),
            connections: Arc::clone(&connections),
            lives,
            stop: stopped,
        };
        let routing = tokio::spawn(Router::new(Arc::new(shared), count).run(to_vault));
        let beside = [operators.abort_handle(), room.abort_handle(), load.abort_handle()];
        Ok(Self { stop, routing, connections, keeper, beside })
    }

    /// Closes every connection: the services that held them are gone.
    pub fn close_connections(&self) {
        self.connections.close_all();
    }

    /// Tells every vault to stop, waits for them, and kills those that do not.
    pub async fn stop(mut self) {
        // Where nobody listens, the host has stopped.
        let _ = self.stop.send(true);
        let _ = (&mut self.routing).await;
    }

    /// Whether the host has stopped by itself, which it does when the bus is gone.
    pub fn is_stopped(&self) -> bool {
        self.routing.is_finished()
    }

    pub(crate) fn keeper(&self) -> &Keeper {
        &self.keeper
    }
}

/// How this host stands, whenever it is asked.
fn status(
    vaults: &Arc<AtomicUsize>,
    lives: &Arc<Lives>,
    missing: &Arc<OnceLock<Vec<Promise>>>,
) -> impl Fn() -> HostStatus + Clone + Send + 'static {
    let (vaults, lives, missing) = (Arc::clone(vaults), Arc::clone(lives), Arc::clone(missing));
    let started = Instant::now();
    move || {
        let isolation = missing.get().map(|missing| IsolationStatus {
            level: Isolation::without(missing).as_str().to_owned(),
            missing: missing.iter().map(|promise| promise.as_str().to_owned()).collect(),
        });
        HostStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_secs: started.elapsed().as_secs(),
            isolation,
            vaults: vaults.load(Ordering::Relaxed) as u64,
            memory_available_bytes: life::memory_available(),
            counters: lives.counters(),
            running: lives.all(),
        }
    }
}

/// Finds out, from a process that is forked for it, how far vault processes are set apart here, and writes it to the log.
fn examine(
    keeper: &Keeper,
    folders: &Arc<Folders>,
    forker: &Arc<Forker>,
    found: &Arc<OnceLock<Vec<Promise>>>,
) -> impl Future<Output = io::Result<Vec<Promise>>> + use<> {
    let (folders, forker) = (Arc::clone(folders), Arc::clone(forker));
    let found = Arc::clone(found);
    // Before any vault: it finds out whether vaults get users of their own.
    let examined = keeper.run(move || crate::process::examine(&folders, &forker));
    async move {
        let missing = examined.await.map_err(|_| io::ErrorKind::Other.into()).flatten();
        match &missing {
            Ok(missing) => {
                log::info(
                    "isolation",
                    &[("level", &Isolation::without(missing).as_str()), ("missing", &Words(missing))],
                );
                let _ = found.set(missing.clone());
            }
            Err(error) => log::warn("isolation_unknown", &[("kind", &error.kind())]),
        }
        missing
    }
}

/// Promises as one word of a log.
pub(crate) struct Words<'a>(pub(crate) &'a [Promise]);

impl LogSafe for Words<'_> {
    fn write_safe(&self, f: &mut dyn std::fmt::Write) -> std::fmt::Result {
        f.write_str(&words(self.0))
    }
}

fn words(promises: &[Promise]) -> String {
    match promises {
        [] => "none".to_owned(),
        promises => promises.iter().map(|promise| promise.as_str()).collect::<Vec<_>>().join(","),
    }
}

/// Each vault process takes two descriptors, each tunnel one. What the system allows is taken; without it there is room for
/// fewer.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

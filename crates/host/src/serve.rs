//! A whole machine: the host, the services as a second process, and the signals that end both.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::Child;
use std::time::Duration;

use strongroom_bus::{LocalBus, Principal, link, log};
use strongroom_jail::{Launch, Stderr};
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::config::{HostConfig, ServicesProgram};
use crate::host::{Host, StartHostError};

/// Why a machine does not serve any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The host did not start.
    #[error(transparent)]
    Host(#[from] StartHostError),
    /// Signals cannot be received.
    #[error("signals cannot be received")]
    Signals(#[source] io::Error),
    /// The services process does not stay up; its own message says why.
    #[error("the services process does not stay up")]
    Services,
}

/// Serves until SIGTERM or SIGINT. The services process gets its end of the bus as its first inherited socket
/// ([`strongroom_jail::inherited_socket`]), and is started again when it dies.
///
/// # Errors
/// [`ServeError`]; whatever was started has been stopped.
pub async fn run_until_signal(config: HostConfig, services: ServicesProgram) -> Result<(), ServeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    let bus = LocalBus::new();
    let host = Host::start(config, bus.connect(Principal::Host)).await?;
    log::info("host_ready", &[]);
    let outcome = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        () = keep_services(&services, &bus, &host) => Err(ServeError::Services),
    };
    log::info("host_stopping", &[]);
    host.stop().await;
    outcome
}

/// Keeps the services up; returns when they do not stay up.
async fn keep_services(services: &ServicesProgram, bus: &LocalBus, host: &Host) {
    let mut short_lives = 0;
    while short_lives < SHORT_LIVES_MAX {
        let started = Instant::now();
        match start_services(services, host).await {
            Ok((child, socket)) => serve_services(ServicesChild(child), socket, bus, host).await,
            Err(error) => log::warn("services_not_started", &[("kind", &error.kind())]),
        }
        short_lives = if started.elapsed() < SHORT_LIFE { short_lives + 1 } else { 0 };
        tokio::time::sleep(RESTART_WAIT * short_lives).await;
    }
}

async fn start_services(services: &ServicesProgram, host: &Host) -> io::Result<(Child, StdUnixStream)> {
    let services = services.clone();
    let launched = host.keeper().run(move || {
        let (ours, theirs) = StdUnixStream::pair()?;
        let mut launch = Launch::new(services.program).stderr(Stderr::Inherit).inherit(theirs);
        for arg in services.args {
            launch = launch.arg(arg);
        }
        if let Some((uid, gid)) = services.user {
            launch = launch.user(uid, gid);
        }
        Ok((launch.start()?, ours))
    });
    launched.await.map_err(|_| io::Error::from(io::ErrorKind::Other))?
}

async fn serve_services(mut services: ServicesChild, socket: StdUnixStream, bus: &LocalBus, host: &Host) {
    log::info("services_started", &[("pid", &services.0.id())]);
    let attached = socket.set_nonblocking(true).and_then(|()| UnixStream::from_std(socket));
    if let Ok(stream) = attached {
        let how = match link::serve(stream, bus.connect(Principal::Services)).await {
            link::LinkEnd::Closed | link::LinkEnd::Read(_) => "closed",
            link::LinkEnd::Slow => "does_not_read",
            _ => "misbehaved",
        };
        log::warn("services_gone", &[("how", &how)]);
    }
    host.close_connections();
    services.end();
}

/// The services process; gone when this is.
struct ServicesChild(Child);

impl ServicesChild {
    fn end(&mut self) {
        // It holds nothing that could be lost; it may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for ServicesChild {
    fn drop(&mut self) {
        self.end();
    }
}

/// Services that die sooner than this count.
const SHORT_LIFE: Duration = Duration::from_secs(10);
/// So many short lives in a row end the server.
const SHORT_LIVES_MAX: u32 = 5;
const RESTART_WAIT: Duration = Duration::from_millis(200);

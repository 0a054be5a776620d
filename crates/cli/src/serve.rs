//! `serve`: host and services of one machine, as two processes.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use strongroom_bus::link::LinkBus;
use strongroom_client::channel;
use strongroom_client::profile::Profile;
use strongroom_client::wire::relay::RelayHello;
use strongroom_client::wire::sealing::{BOOT_PCRS, PROGRAM_PCR};
use strongroom_host::{HostConfig, Isolation, Sealing, ServicesProgram, TpmConfig};
use strongroom_jail::{FIRST_INHERITED, inherited_socket};
use strongroom_services::{Audience, ServicesConfig};

use crate::app::App;
use crate::code::OwnCode;
use crate::exit::Exit;
use crate::failure::{Failure, chain};
use crate::output::Out;
use crate::places;

/// `serve`
#[derive(Debug, Args)]
#[command(after_help = "Runs until Control-C or SIGTERM. Vaults lock when it ends.

Examples:
  strongroom serve
  strongroom serve --sealing tpm
  strongroom serve --data /srv/strongroom --shares /etc/strongroom/shares --every-user")]
pub(crate) struct Serve {
    /// Where the vaults are
    #[arg(long, value_name = "FOLDER", env = "STRONGROOM_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// Where the host shares are; outside of the data, and out of its backups
    #[arg(long, value_name = "FOLDER", env = "STRONGROOM_SHARES")]
    pub(crate) shares: Option<PathBuf>,
    /// Let every user of this machine connect, instead of this user alone
    #[arg(long)]
    pub(crate) every_user: bool,
    /// Run the services as this user, where this command is root
    #[arg(long, value_name = "UID:GID", value_parser = parse_user)]
    pub(crate) services_user: Option<(u32, u32)>,
    /// The vault program; beside this program, where not named
    #[arg(long, value_name = "PATH", env = "STRONGROOM_VAULT_PROGRAM")]
    pub(crate) vault_program: Option<PathBuf>,
    /// Refuse to start where vault processes cannot be set apart as far as this: jail, spaces or full (docs/isolation.md)
    #[arg(long, value_name = "LEVEL", value_parser = parse_isolation, default_value = "jail", env = "STRONGROOM_REQUIRE_ISOLATION")]
    pub(crate) require_isolation: Isolation,
    /// What keeps the host shares: file, or tpm (docs/sealing.md)
    #[arg(long, value_name = "KIND", default_value = "file", env = "STRONGROOM_SEALING")]
    pub(crate) sealing: SealingKind,
    /// Which TPM, as the TPM software stack names it
    #[arg(long, value_name = "NAME", default_value = "device:/dev/tpmrm0", env = "STRONGROOM_TPM")]
    pub(crate) tpm: String,
    /// The registers that make up the boot state
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', default_values_t = BOOT_PCRS, value_parser = parse_register)]
    pub(crate) tpm_registers: Vec<u8>,
    /// Keep vault processes from using memfd_secret, which keeps a machine from hibernating
    #[arg(long)]
    pub(crate) no_memfd_secret: bool,
    /// Show what vault processes say on standard error
    #[arg(long, hide = true)]
    pub(crate) vault_stderr: bool,
}

/// What keeps shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SealingKind {
    /// A file for each, which only the server's user may read
    File,
    /// A TPM 2.0, which gives them out only in the state that this machine is in now
    Tpm,
}

/// The hidden `internal services`.
#[derive(Debug, Args)]
pub(crate) struct ServicesArgs {
    /// Where to listen
    #[arg(long = "listen")]
    pub(crate) listen: PathBuf,
    /// Let every user of this machine connect
    #[arg(long)]
    pub(crate) every_user: bool,
}

/// Runs `serve` until a signal ends it.
pub(crate) fn run(app: &App, args: &Serve) -> Result<(), Failure> {
    let socket = absolute(&app.global.socket.clone().unwrap_or_else(places::server_socket))?;
    let data = absolute(&args.data.clone().unwrap_or_else(places::data))?;
    let shares = absolute(&args.shares.clone().unwrap_or_else(places::shares))?;
    let this = std::env::current_exe().map_err(|e| Failure::local("this program", &e))?;
    let vault_program =
        absolute(&args.vault_program.clone().unwrap_or_else(|| this.with_file_name("strongroom-vault")))?;
    if !vault_program.is_file() {
        return Err(Failure::new(
            Exit::Local,
            OwnCode::VaultProgramMissing,
            format!("{} is not there", vault_program.display()),
        )
        .hint("--vault-program PATH"));
    }
    let mut config = HostConfig::new(&data, shares, vault_program);
    config.memfd_secret = !args.no_memfd_secret;
    config.vault_stderr = args.vault_stderr;
    config.required = args.require_isolation;
    config.sealing = sealing(args, &this)?;
    let mut services = vec!["internal".into(), "services".into(), "--listen".into(), socket.clone().into_os_string()];
    if args.every_user {
        services.push("--every-user".into());
    }
    let services = ServicesProgram { program: this, args: services, user: args.services_user };
    announce(app, socket, data);
    runtime()?
        .block_on(strongroom_host::run_until_signal(config, services))
        .map_err(|e| Failure::new(Exit::Local, OwnCode::ServeFailed, chain(&e)))
}

fn sealing(args: &Serve, this: &Path) -> Result<Sealing, Failure> {
    if args.sealing == SealingKind::File {
        return Ok(Sealing::File);
    }
    let program = this.with_file_name("strongroom-tpm");
    if !program.is_file() {
        let missing = format!("{} is not there", program.display());
        return Err(Failure::new(Exit::Local, OwnCode::TpmProgramMissing, missing)
            .hint("it is part of a whole installation; --sealing file needs no TPM"));
    }
    Ok(Sealing::Tpm(TpmConfig { program, name: args.tpm.clone(), boot: args.tpm_registers.clone() }))
}

/// The services process: relays sealed frames between the socket for clients and the host.
pub(crate) fn services(args: &ServicesArgs) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::local(args.listen.display(), &e);
    let audience = if args.every_user { Audience::EveryUser } else { Audience::ThisUser };
    let host = inherited_socket(FIRST_INHERITED).map_err(|e| Failure::local("the host's end of the bus", &e))?;
    let listener = strongroom_services::bind(&args.listen, audience).map_err(failed)?;
    runtime()?.block_on(async {
        host.set_nonblocking(true).map_err(failed)?;
        let bus = LinkBus::connect(tokio::net::UnixStream::from_std(host).map_err(failed)?);
        let config = ServicesConfig::new(listener, env!("CARGO_PKG_VERSION"));
        strongroom_services::run(config, bus)
            .await
            .map_err(|e| Failure::new(Exit::Local, OwnCode::ServicesFailed, chain(&e)))
    })
}

/// Says what to type next, once the server answers.
fn announce(app: &App, socket: PathBuf, data: PathBuf) {
    let (out, has_vault) = (app.out, app.dir().is_ok_and(|dir| Profile::exists(&dir)));
    thread::spawn(move || {
        for _ in 0..ANNOUNCE_TRIES {
            if channel::ask_server(&socket, &RelayHello::Ping {}).is_ok() {
                // A closed standard output is no reason to stop serving.
                let _ = ready(out, &socket, &data, has_vault);
                return;
            }
            thread::sleep(ANNOUNCE_WAIT);
        }
    });
}

fn ready(out: Out, socket: &Path, data: &Path, has_vault: bool) -> Result<(), Failure> {
    let next = if has_vault { "strongroom unlock" } else { "strongroom create" };
    out.result(&json!({ "ready": true, "socket": socket, "data": data }), || {
        format!("Serving the vaults of {} at {}.\nNext, in another terminal: {next}", data.display(), socket.display())
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::local("the server's runtime", &e))
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|e| Failure::local(path.display(), &e))
}

fn parse_user(text: &str) -> Result<(u32, u32), String> {
    let (uid, gid) = text.split_once(':').ok_or("expected UID:GID")?;
    let number = |text: &str| text.parse().map_err(|_| "expected UID:GID".to_owned());
    Ok((number(uid)?, number(gid)?))
}

fn parse_register(text: &str) -> Result<u8, String> {
    let register = text.parse().ok().filter(|register| *register < PROGRAM_PCR);
    register.ok_or_else(|| format!("expected a number from 0 to {}", PROGRAM_PCR - 1))
}

fn parse_isolation(text: &str) -> Result<Isolation, String> {
    let level = Isolation::ALL.into_iter().find(|level| level.as_str() == text);
    level.ok_or_else(|| "expected jail, spaces or full".to_owned())
}

const ANNOUNCE_TRIES: u32 = 500;
const ANNOUNCE_WAIT: Duration = Duration::from_millis(10);

//! `guest`: programs, apps and people that may ask for the use of a secret and never see one.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;
use strongroom_client::crypto::os_rng;
use strongroom_client::crypto::sign::SigningKey;
use strongroom_client::guest::GuestKey;
use strongroom_client::wire::Bytes;
use strongroom_client::wire::device::{DeviceAnswer, DeviceRequest, GuestAdd, GuestKind, GuestView};

use crate::app::{App, find_guest, unexpected};
use crate::code::OwnCode;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::human;
use crate::output::{escape, table};

/// `guest …`
#[derive(Debug, Subcommand)]
pub(crate) enum GuestCommand {
    /// Enrol a guest, and write the key file that its gateway needs
    #[command(after_help = "The key file can be moved to another user or machine; run agents under another user.

Examples:
  strongroom guest add helper
  strongroom guest add deploy --key-file /home/agent/deploy.json
  strongroom mcp --guest helper          (what an agent is told to start)")]
    Add {
        /// What it is called; also the name of its key file
        name: String,
        /// agent, app, handler or connection
        #[arg(long, default_value = "agent")]
        kind: GuestKind,
        /// Where the key file goes, instead of this profile's folder
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
    },
    /// List the guests
    List,
    /// Stop a guest, or all of them, until resumed
    #[command(after_help = "Examples:
  strongroom guest suspend helper
  strongroom guest suspend --all")]
    Suspend {
        /// Its name or id
        #[arg(required_unless_present = "all")]
        guest: Option<String>,
        /// All of them
        #[arg(long, conflicts_with = "guest")]
        all: bool,
    },
    /// Let a suspended guest, or all of them, go on
    Resume {
        /// Its name or id
        #[arg(required_unless_present = "all")]
        guest: Option<String>,
        /// All of them
        #[arg(long, conflicts_with = "guest")]
        all: bool,
    },
    /// End a guest with all its grants, at once
    Revoke {
        /// Its name or id
        guest: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Runs `guest …`.
pub(crate) fn run(app: &App, command: &GuestCommand) -> Result<(), Failure> {
    match command {
        GuestCommand::Add { name, kind, key_file } => add(app, name, *kind, key_file.clone()),
        GuestCommand::List => {
            let DeviceAnswer::Guests { guests } = app.ask(&DeviceRequest::GuestList {})? else {
                return Err(unexpected());
            };
            app.out.result(&guests, || list_text(&guests))
        }
        GuestCommand::Suspend { guest, .. } => suspend(app, guest.as_deref(), true),
        GuestCommand::Resume { guest, .. } => suspend(app, guest.as_deref(), false),
        GuestCommand::Revoke { guest, yes } => app.session(|session| {
            let guest = find_guest(session, guest)?;
            let question = format!("End the guest `{}` with its {} grants?", escape(&guest.name), guest.grants);
            app.prompter().confirm(&question, *yes)?;
            session.ask(&DeviceRequest::GuestRevoke { guest: guest.id })?;
            app.out.done("Ended. Its key opens nothing any more.")
        }),
    }
}

fn add(app: &App, name: &str, kind: GuestKind, key_file: Option<PathBuf>) -> Result<(), Failure> {
    let profile = app.profile()?;
    let path = match key_file {
        Some(path) => path,
        None => GuestKey::path(profile.folder(), name)?,
    };
    if path.exists() {
        return Err(Failure::new(Exit::Usage, OwnCode::KeyFileExists, format!("{} is there already", path.display()))
            .hint("choose another name, or --key-file FILE"));
    }
    let sign = SigningKey::generate(&mut os_rng());
    let public_key = Bytes::from(*sign.public().as_bytes());
    let request = DeviceRequest::GuestAdd(GuestAdd { name: name.to_owned(), kind, public_key });
    let DeviceAnswer::Guest(guest) = app.ask(&request)? else { return Err(unexpected()) };
    let key = GuestKey::new(profile.vault(), *profile.identity(), guest.id, profile.socket().to_owned(), sign);
    key.create(&path)?;
    app.out.result(&json!({ "guest": guest, "key_file": path }), || {
        format!(
            "Enrolled `{}` as {}. It may do nothing yet.\n  key file  {}\nNext: strongroom grant add --guest {name} ITEM CONSUMER",
            escape(name),
            guest.id,
            path.display()
        )
    })
}

fn suspend(app: &App, name: Option<&str>, suspended: bool) -> Result<(), Failure> {
    // Suspending all works while the vault is locked; finding one by name does not.
    app.session(|session| {
        let guest = match name {
            None => None,
            Some(name) => match name.parse() {
                Ok(id) => Some(id),
                Err(_) => Some(find_guest(session, name)?.id),
            },
        };
        session.ask(&DeviceRequest::GuestSuspend { guest, suspended })?;
        app.out.done(if suspended { "Suspended." } else { "Resumed." })
    })
}

fn list_text(guests: &[GuestView]) -> String {
    if guests.is_empty() {
        return "No guests. Next: strongroom guest add NAME".to_owned();
    }
    let row = |guest: &GuestView| {
        let seen = guest.last_seen_at.map_or_else(|| "never".to_owned(), human::relative);
        let state = if guest.suspended { "suspended" } else { "" };
        vec![
            guest.id.to_string(),
            guest.name.clone(),
            guest.kind.to_string(),
            guest.grants.to_string(),
            seen,
            state.to_owned(),
        ]
    };
    table(&["ID", "NAME", "KIND", "GRANTS", "LAST CALL", ""], &guests.iter().map(row).collect::<Vec<_>>())
}

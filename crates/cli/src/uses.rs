//! `use`: what a guest does, with its key file and nothing else of this device.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use strongroom_client::gateway::{Answered, Gateway};
use strongroom_client::guest::GuestKey;
use strongroom_client::wire::guest::{
    ApprovalState, Call, GrantWish, Granted, GuestAnswer, GuestRequest, Pending, TotpCall, UseCall, UseRequest,
    UseResult,
};
use strongroom_client::wire::policy::Consumer;
use strongroom_client::wire::{ApprovalId, Code, HandleId, Reference};

use crate::app::{App, unexpected};
use crate::call::{CryptArgs, HttpArgs, SignArgs, print_result};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::grant::{limits_text, mode_text};
use crate::human;
use crate::output::{escape, table};

/// Whose key is used.
#[derive(Clone, Debug, Args)]
pub(crate) struct GuestArgs {
    /// The guest's name, where its key file lies in this profile's folder
    #[arg(long, global = true, value_name = "NAME", env = "STRONGROOM_GUEST")]
    pub(crate) guest: Option<String>,
    /// The guest's key file
    #[arg(long, global = true, value_name = "FILE", env = "STRONGROOM_GUEST_KEY", conflicts_with = "guest")]
    pub(crate) key: Option<PathBuf>,
}

/// `use …`
#[derive(Debug, Args)]
pub(crate) struct Use {
    #[command(flatten)]
    pub(crate) guest: GuestArgs,
    /// Wait for the member's answer instead of ending with exit code 7
    #[arg(long, global = true)]
    pub(crate) wait: bool,
    /// Why, in plain words; the member reads it
    #[arg(long, global = true, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    #[command(subcommand)]
    pub(crate) command: UseCommand,
}

/// What a guest does.
#[derive(Debug, Subcommand)]
pub(crate) enum UseCommand {
    /// List what was granted
    List,
    /// Ask for a grant
    #[command(after_help = "Example:
  strongroom use --guest helper --reason \"to plan your trip\" request http \"the Weather API\" --host api.weather.example")]
    Request {
        /// http, sign, totp or crypt
        consumer: Consumer,
        /// What it is about, in plain words
        subject: String,
        /// For http: the host
        #[arg(long)]
        host: Option<String>,
    },
    /// Call an API with a secret in the place that its item says
    #[command(after_help = "Examples:
  strongroom use --guest helper http Weather https://api.weather.example/v1/now
  strongroom use --guest helper --wait http Weather https://api.weather.example/v1/plans -d @plan.json
  strongroom use --guest helper http vault://…/key https://api.weather.example/v1/now -i -H \"Accept: application/json\"")]
    Http {
        /// A granted reference, or the label of its item
        reference: String,
        /// The URL
        url: String,
        #[command(flatten)]
        http: HttpArgs,
    },
    /// Sign
    Sign {
        /// A granted reference, or the label of its item
        reference: String,
        #[command(flatten)]
        what: SignArgs,
    },
    /// Make a one-time code
    Totp {
        /// A granted reference, or the label of its item
        reference: String,
    },
    /// Encrypt, decrypt, authenticate, derive
    Crypt {
        /// A granted reference, or the label of its item
        reference: String,
        #[command(subcommand)]
        what: CryptArgs,
    },
    /// Ask how a pending approval stands
    Poll {
        /// The approval
        approval: ApprovalId,
        /// Seconds to wait for an answer, at most 60
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        secs: u64,
    },
    /// Run an approved request; the vault runs the copy that it kept
    Run {
        /// The handle that `poll` gave
        handle: String,
    },
}

/// The key of the guest that a command speaks for.
pub(crate) fn load_key(app: &App, args: &GuestArgs) -> Result<GuestKey, Failure> {
    let path = match (&args.key, &args.guest) {
        (Some(path), _) => path.clone(),
        (None, Some(name)) => GuestKey::path(&app.dir()?, name)?,
        (None, None) => return Err(Failure::usage("--guest NAME or --key FILE says which guest this is")),
    };
    let mut key = GuestKey::load(&path)?;
    if let Some(socket) = &app.global.socket {
        key.use_socket(socket.clone());
    }
    Ok(key)
}

/// Runs `use …`.
pub(crate) fn run(app: &App, args: &Use) -> Result<(), Failure> {
    let key = load_key(app, &args.guest)?;
    act(app, args, &mut Gateway::new(&key)).map_err(|failure| {
        // What only the member can type is no hint for a guest.
        let for_member = [Code::VaultLocked, Code::GuestSuspended, Code::SessionRequired]
            .iter()
            .any(|code| failure.code == code.as_str());
        if for_member { Failure { hint: None, ..failure } } else { failure }
    })
}

fn act(app: &App, args: &Use, gateway: &mut Gateway<'_>) -> Result<(), Failure> {
    match &args.command {
        UseCommand::List => {
            let granted = granted(gateway)?;
            app.out.result(&granted, || list_text(&granted))
        }
        UseCommand::Request { consumer, subject, host } => {
            let wish = GrantWish {
                subject: subject.clone(),
                reason: args.reason.clone().ok_or_else(|| Failure::usage("--reason says why, in plain words"))?,
                consumer: *consumer,
                host: host.clone(),
            };
            match gateway.ask(&GuestRequest::Request(wish))? {
                GuestAnswer::Pending(pending) if args.wait => {
                    gateway.wait(pending.approval)?;
                    let granted = granted(gateway)?;
                    app.out.result(&granted, || list_text(&granted))
                }
                GuestAnswer::Pending(pending) => Err(pending_failure(app, &pending)),
                _ => Err(unexpected()),
            }
        }
        UseCommand::Http { reference, url, http } => {
            let reference = find(gateway, reference, Consumer::Http)?;
            let (call, mut source) = http.build(url)?;
            let request = use_request(UseCall { reference, call: Call::Http(call) }, args.reason.clone());
            let (answer, body) = gateway.ask_streaming(&request, source.as_mut().map(crate::call::Source::upload))?;
            match answer {
                GuestAnswer::Used(UseResult::Http(head)) => http.print(app, &head, body),
                GuestAnswer::Pending(pending) => {
                    drop(body);
                    let handle = settle(app, gateway, &pending, args.wait)?;
                    run_handle(app, gateway, handle, Some(http))
                }
                _ => Err(unexpected()),
            }
        }
        UseCommand::Sign { reference, what } => {
            let reference = find(gateway, reference, Consumer::Sign)?;
            simple(app, gateway, args, UseCall { reference, call: Call::Sign(what.build()?) })
        }
        UseCommand::Totp { reference } => {
            let reference = find(gateway, reference, Consumer::Totp)?;
            simple(app, gateway, args, UseCall { reference, call: Call::Totp(TotpCall {}) })
        }
        UseCommand::Crypt { reference, what } => {
            let reference = find(gateway, reference, Consumer::Crypt)?;
            simple(app, gateway, args, UseCall { reference, call: Call::Crypt(what.build()?) })
        }
        UseCommand::Poll { approval, secs } => {
            let request = GuestRequest::Poll { approval: *approval, wait_secs: (*secs).min(60) };
            match gateway.ask(&request)? {
                GuestAnswer::Polled(state) => app.out.result(&state, || state_text(&state)),
                _ => Err(unexpected()),
            }
        }
        UseCommand::Run { handle } => {
            let handle = handle.parse().map_err(|_| Failure::usage("that is no handle"))?;
            run_handle(app, gateway, handle, None)
        }
    }
}

fn simple(app: &App, gateway: &mut Gateway<'_>, args: &Use, call: UseCall) -> Result<(), Failure> {
    match gateway.ask(&use_request(call, args.reason.clone()))? {
        GuestAnswer::Used(result) => print_result(app, &result),
        GuestAnswer::Pending(pending) => {
            let handle = settle(app, gateway, &pending, args.wait)?;
            run_handle(app, gateway, handle, None)
        }
        _ => Err(unexpected()),
    }
}

/// Waits for a yes, where that was asked for.
fn settle(app: &App, gateway: &mut Gateway<'_>, pending: &Pending, wait: bool) -> Result<HandleId, Failure> {
    if !wait {
        return Err(pending_failure(app, pending));
    }
    app.out.note("The member has been asked; waiting for the answer.");
    match gateway.wait(pending.approval)? {
        Answered::Use(handle) => Ok(handle),
        Answered::Granted => Err(unexpected()),
    }
}

fn run_handle(app: &App, gateway: &mut Gateway<'_>, handle: HandleId, http: Option<&HttpArgs>) -> Result<(), Failure> {
    let request = GuestRequest::Use(UseRequest { call: None, handle: Some(handle), reason: None });
    let (answer, body) = gateway.ask_streaming(&request, None)?;
    match answer {
        GuestAnswer::Used(UseResult::Http(head)) => {
            let plain = HttpArgs {
                method: None,
                headers: Vec::new(),
                data: None,
                location: false,
                include: false,
                fail: false,
            };
            http.unwrap_or(&plain).print(app, &head, body)
        }
        GuestAnswer::Used(result) => print_result(app, &result),
        _ => Err(unexpected()),
    }
}

fn granted(gateway: &mut Gateway<'_>) -> Result<Vec<Granted>, Failure> {
    match gateway.ask(&GuestRequest::List {})? {
        GuestAnswer::List { granted } => Ok(granted),
        _ => Err(unexpected()),
    }
}

/// A reference as it is, or the only granted one whose item has this label.
fn find(gateway: &mut Gateway<'_>, name: &str, consumer: Consumer) -> Result<Reference, Failure> {
    if let Ok(reference) = name.parse() {
        return Ok(reference);
    }
    let granted = granted(gateway)?;
    let mut found: Vec<&Reference> = granted
        .iter()
        .filter(|granted| granted.consumer == consumer && granted.label.eq_ignore_ascii_case(name))
        .map(|granted| &granted.reference)
        .collect();
    found.dedup();
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(Failure::new(
            Exit::Refused,
            Code::ReferenceUnknown,
            format!("nothing called `{name}` was granted for {consumer}"),
        )
        .hint("strongroom use list, or strongroom use request")),
        _ => Err(Failure::usage(format!("several references are called `{name}`; name one as vault://…"))),
    }
}

fn use_request(call: UseCall, reason: Option<String>) -> GuestRequest {
    GuestRequest::Use(UseRequest { call: Some(call), handle: None, reason })
}

fn state_text(state: &ApprovalState) -> String {
    match state {
        ApprovalState::Pending { expires_at } => format!("Pending; it expires {}.", human::relative(*expires_at)),
        ApprovalState::Approved { handle, expires_at } => {
            format!("Approved. Next, {}: strongroom use run {handle}", human::relative(*expires_at))
        }
        ApprovalState::Granted {} => "Granted. Next: strongroom use list".to_owned(),
        ApprovalState::Refused(refusal) => format!("Refused: {} ({})", escape(&refusal.to_string()), refusal.code),
    }
}

fn pending_failure(app: &App, pending: &Pending) -> Failure {
    if app.out.json {
        // The id is what a program goes on with.
        let _ = app.out.json_line(&GuestAnswer::Pending(pending.clone()));
    }
    let left = human::relative(pending.expires_at);
    Failure::new(
        Exit::Pending,
        Code::ApprovalPending,
        format!("the member has been asked ({}, expires {left})", pending.approval),
    )
    .hint(format!("strongroom use poll {} --secs 60, or --wait", pending.approval))
}

fn list_text(granted: &[Granted]) -> String {
    if granted.is_empty() {
        return "Nothing was granted. Next: strongroom use request".to_owned();
    }
    let row = |granted: &Granted| {
        let hosts = if granted.hosts.is_empty() { String::new() } else { format!("{}; ", granted.hosts.join(" ")) };
        vec![
            granted.reference.to_string(),
            granted.label.clone(),
            granted.consumer.to_string(),
            mode_text(granted.mode),
            format!("{hosts}{}", limits_text(&granted.limits)),
        ]
    };
    table(&["REFERENCE", "LABEL", "HOW", "MODE", "LIMITS"], &granted.iter().map(row).collect::<Vec<_>>())
}

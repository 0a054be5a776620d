//! `audit` and `log`: reading the log, and proving that nobody has rewritten it.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use strongroom_client::audit::{self, event_text};
use strongroom_client::files;
use strongroom_client::session::Session;
use strongroom_client::wire::device::{AuditQuery, DeviceAnswer, DeviceRequest, EventProof, LoggedEvent, VaultState};
use strongroom_client::wire::event::{Actor, Event};
use strongroom_client::wire::limits::AUDIT_PAGE_MAX;
use strongroom_client::wire::{Code, Refusal, Timestamp};

use crate::app::{App, unexpected};
use crate::code::OwnCode;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::escape;
use crate::progress;
use crate::prompt;

/// `audit …`
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List events
    #[command(after_help = "Examples:
  strongroom audit list
  strongroom audit list --from 0 --count 1000
  strongroom audit list --action use.intent")]
    List {
        /// First event; without it, the newest are listed
        #[arg(long, value_name = "NUMBER")]
        from: Option<u64>,
        /// How many
        #[arg(long, value_name = "NUMBER", default_value_t = 50)]
        count: u64,
        /// Only this kind, such as use.intent or grant
        #[arg(long, value_name = "ACTION")]
        action: Option<String>,
    },
    /// Verify the whole log: every event, its hash, the checkpoint, and that it extends what this device saw
    Verify,
    /// Write a proof of one event that someone else can check without any vault
    #[command(after_help = "Example:
  strongroom audit prove 1234 --to proof.json
  strongroom audit check-proof proof.json --fingerprint ABCD-EFGH-…")]
    Prove {
        /// The event's number
        event: u64,
        /// Write it to this new file instead of standard output
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Check a proof; needs no vault and no server
    CheckProof {
        /// The proof, `-` for standard input
        proof: PathBuf,
        /// The fingerprint that the member gave out; without it, compare by eye
        #[arg(long, value_name = "FINGERPRINT")]
        fingerprint: Option<String>,
    },
}

/// `log …`
#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Follow the log live
    #[command(after_help = "Example:
  strongroom log tail --json | jq .action")]
    Tail(Tail),
}

/// `log tail`
#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// How many events from before to begin with
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 10)]
    pub(crate) lines: u64,
    /// End after what is there
    #[arg(long)]
    pub(crate) no_follow: bool,
}

/// An event as `--json` shows it.
#[derive(Serialize)]
struct Shown<'a> {
    index: u64,
    hash: &'a strongroom_client::wire::Bytes,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Event>,
}

/// Runs `audit …`.
pub(crate) fn run(app: &App, command: &AuditCommand) -> Result<(), Failure> {
    match command {
        AuditCommand::List { from, count, action } => list(app, *from, *count, action.as_deref()),
        AuditCommand::Verify => verify(app),
        AuditCommand::Prove { event, to } => prove(app, *event, to.as_deref()),
        AuditCommand::CheckProof { proof, fingerprint } => check(app, proof, fingerprint.as_deref()),
    }
}

/// Runs `log …`.
pub(crate) fn log(app: &App, command: &LogCommand) -> Result<(), Failure> {
    let LogCommand::Tail(args) = command;
    app.session(|session| {
        let mut next = log_size(session)?.saturating_sub(args.lines);
        loop {
            let wait = if args.no_follow { 0 } else { FOLLOW_SECS };
            let (events, _) = page(session, next, AUDIT_PAGE_MAX as u64, wait)?;
            for event in &events {
                print(app, event)?;
                next = event.index + 1;
            }
            if args.no_follow && events.is_empty() {
                return Ok(());
            }
        }
    })
}

fn list(app: &App, from: Option<u64>, count: u64, action: Option<&str>) -> Result<(), Failure> {
    app.session(|session| {
        let mut next = match from {
            Some(from) => from,
            None => log_size(session)?.saturating_sub(count),
        };
        let mut shown = Vec::new();
        while (shown.len() as u64) < count {
            let (events, size) = page(session, next, (count - shown.len() as u64).min(AUDIT_PAGE_MAX as u64), 0)?;
            let Some(last) = events.last() else { break };
            next = last.index + 1;
            shown.extend(events.into_iter().filter(|event| {
                action.is_none_or(|wanted| read(event).is_some_and(|event| event.action.as_str().starts_with(wanted)))
            }));
            if next >= size {
                break;
            }
        }
        if app.out.json {
            let rows: Vec<Shown<'_>> =
                shown.iter().map(|row| Shown { index: row.index, hash: &row.hash, event: read(row) }).collect();
            return app.out.json_line(&rows);
        }
        shown.iter().try_for_each(|event| print(app, event))
    })
}

fn verify(app: &App) -> Result<(), Failure> {
    let bar = progress::bar(app, "events");
    let verified = app.session(|session| {
        Ok(audit::verify_all(session, &mut |done, total| progress::advance(bar.as_ref(), done, total))?)
    })?;
    progress::finish(bar);
    let position = &verified.position;
    let shown = json!({
        "verified": true, "size": position.size, "root": position.root, "pruned": verified.pruned, "newest": verified.newest,
    });
    app.out.result(&shown, || {
        let newest = verified.newest.map_or_else(String::new, |at: Timestamp| format!(", the newest of {at}"));
        let pruned = if verified.pruned > 0 { format!(" ({} pruned)", verified.pruned) } else { String::new() };
        format!(
            "The log holds: {} events{pruned}{newest}. Each fits its hash, all fit the checkpoint that this vault signed,\n\
             and the log extends what this device saw before.",
            position.size
        )
    })
}

fn prove(app: &App, index: u64, to: Option<&Path>) -> Result<(), Failure> {
    let DeviceAnswer::Proof(proof) = app.ask(&DeviceRequest::AuditProve { index })? else { return Err(unexpected()) };
    // What is handed out is checked first, by the code that the receiver will run.
    let checked = audit::check_proof(&proof)?;
    let profile = app.profile()?;
    if checked.fingerprint != profile.fingerprint() || proof.event.index != index {
        return Err(unexpected());
    }
    let Some(path) = to else { return app.out.json_line(&proof) };
    let text = serde_json::to_vec_pretty(&proof).map_err(|e| Failure::local("the proof", &e))?;
    files::create(path, &text)?;
    app.out.done(&format!(
        "Written to {}. Whoever checks it compares this fingerprint:\n  {}",
        path.display(),
        profile.fingerprint()
    ))
}

fn check(app: &App, path: &Path, fingerprint: Option<&str>) -> Result<(), Failure> {
    let text = prompt::read_all(path, 4 * 1024 * 1024)?;
    let proof: EventProof =
        serde_json::from_slice(&text).map_err(|_| Failure::usage("that is no proof of an event"))?;
    let checked = audit::check_proof(&proof).map_err(|alarm| {
        Failure::new(Exit::Alarm, OwnCode::ProofRefused, format!("the proof does not hold: {alarm}"))
    })?;
    if let Some(expected) = fingerprint {
        let expected = strongroom_client::crypto::sign::Fingerprint::parse(expected)
            .map_err(|_| Failure::usage("that is no fingerprint"))?;
        if expected != checked.fingerprint {
            return Err(Failure::new(
                Exit::Alarm,
                OwnCode::FingerprintDiffers,
                format!("the proof is of another vault: {}", checked.fingerprint),
            ));
        }
    }
    let event: Option<serde_json::Value> = checked.event.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let shown = json!({
        "valid": true, "fingerprint": checked.fingerprint.to_string(), "vault": proof.vault, "index": proof.event.index,
        "log_size": checked.log_size, "event": event,
    });
    app.out.result(&shown, || {
        let compare = if fingerprint.is_some() { "" } else { "   (compare it with what the member gave out)" };
        format!(
            "The proof holds: event {} of {} in the log of the vault\n  {}{compare}\n  {}",
            proof.event.index,
            checked.log_size,
            checked.fingerprint,
            line(&proof.event)
        )
    })
}

fn log_size(session: &mut Session<'_>) -> Result<u64, Failure> {
    let DeviceAnswer::Status(status) = session.ask(&DeviceRequest::Status {})? else { return Err(unexpected()) };
    status.log_size.ok_or_else(|| {
        let code = match status.state {
            VaultState::Locked => Code::VaultLocked,
            _ => Code::SessionRequired,
        };
        Refusal::new(code).into()
    })
}

fn page(session: &mut Session<'_>, from: u64, count: u64, wait_secs: u64) -> Result<(Vec<LoggedEvent>, u64), Failure> {
    match session.ask(&DeviceRequest::AuditList(AuditQuery { from, count, wait_secs }))? {
        DeviceAnswer::Audit { events, size } => Ok((events, size)),
        _ => Err(unexpected()),
    }
}

fn print(app: &App, row: &LoggedEvent) -> Result<(), Failure> {
    if app.out.json {
        return app.out.json_line(&Shown { index: row.index, hash: &row.hash, event: read(row) });
    }
    app.out.text(&line(row))
}

fn read(row: &LoggedEvent) -> Option<Event> {
    serde_json::from_str(event_text(&row.leaf.as_ref()?.0)?).ok()
}

/// An event on one line: what applies, in one order.
fn line(row: &LoggedEvent) -> String {
    let Some(event) = read(row) else {
        let why = if row.leaf.is_some() { "of a newer version" } else { "pruned" };
        return format!("{:>8}  ({why})", row.index);
    };
    let actor = match event.actor {
        Actor::Founder => "founder".to_owned(),
        Actor::Vault => "vault".to_owned(),
        Actor::Device(id) => format!("device {}", short(&id.to_string())),
        Actor::Guest(id) => format!("guest {}", short(&id.to_string())),
    };
    let mut text = format!("{:>8}  {}  {:<18} {actor:<16}", row.index, event.at, event.action.as_str());
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!(" {name}{}", escape(&value)));
        }
    };
    add("", event.consumer.map(|consumer| consumer.to_string()));
    add("", event.reference.map(|reference| reference.to_string()));
    add("item=", event.item.map(|id| short(&id.to_string())));
    add("to ", event.destination);
    add("at ", event.address);
    add("guest=", event.guest.map(|id| short(&id.to_string())));
    add("device=", event.device.map(|id| short(&id.to_string())));
    add("grant=", event.grant.map(|id| short(&id.to_string())));
    add("approval=", event.approval.map(|id| short(&id.to_string())));
    add("intent=", event.intent.map(|index| index.to_string()));
    add("status=", event.status.map(|status| status.to_string()));
    add("bytes=", event.bytes.map(|bytes| bytes.to_string()));
    add("count=", event.count.map(|count| count.to_string()));
    add("refused: ", event.code.map(|code| code.to_string()));
    add("", event.note);
    text.trim_end().to_owned()
}

fn short(id: &str) -> String {
    id.chars().take(8).collect()
}

const FOLLOW_SECS: u64 = 30;

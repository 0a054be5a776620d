//! The vault as a whole: create, unlock, lock, status, delete; changing the passphrase, renewing the phrase.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use strongroom_client::ClientError;
use strongroom_client::crypto::factor::Phrase;
use strongroom_client::crypto::os_rng;
use strongroom_client::fresh;
use strongroom_client::open::{self, NewVault};
use strongroom_client::profile::Profile;
use strongroom_client::session::Session;
use strongroom_client::wire::device::{DeviceAnswer, DeviceRequest, SlotKind, SlotView, VaultState};
use strongroom_client::wire::{Code, Refusal, SlotId};

use crate::app::{App, unexpected};
use crate::attestation;
use crate::failure::Failure;
use crate::human;
use crate::output::{escape, table};
use crate::phrase;

/// `create`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strongroom create
  strongroom create --device-name laptop
  strongroom create --passphrase-stdin --phrase-to-file kit.txt < passphrase.txt   (in a script)")]
pub(crate) struct Create {
    /// What this device is called
    #[arg(long, value_name = "NAME")]
    pub(crate) device_name: Option<String>,
    /// Write the recovery phrase to a new file (mode 0600) instead of showing it
    #[arg(long, value_name = "FILE")]
    pub(crate) phrase_to_file: Option<PathBuf>,
    /// Keep a copy of the host share on this device; pointless where the server runs on the same disk
    #[arg(long)]
    pub(crate) keep_share: bool,
    /// Only on a host whose evidence this policy allows; without it, the host that answers is trusted from now on
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
}

/// `unlock`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strongroom unlock
  strongroom unlock --for 30d
  strongroom unlock --phrase          (the 24 words instead of the passphrase)")]
pub(crate) struct Unlock {
    /// With the recovery phrase
    #[arg(long)]
    pub(crate) phrase: bool,
    /// Do not ask whether the machine is one to trust, where the phrase has to bring the vault back
    #[arg(long, requires = "phrase")]
    pub(crate) yes: bool,
    /// With --phrase, also on another machine than the one that this device knows
    #[arg(long, requires = "phrase")]
    pub(crate) other_machine: bool,
    /// For how long the vault stays open for guests: 15m to 30d
    #[arg(long = "for", value_name = "DURATION", value_parser = human::parse_duration)]
    pub(crate) open_for: Option<u64>,
}

/// `lock`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strongroom lock                     close the vault, for guests too
  strongroom lock --session           end this device's session; guests go on")]
pub(crate) struct Lock {
    /// Only end this device's session
    #[arg(long)]
    pub(crate) session: bool,
}

/// `passphrase …`
#[derive(Debug, Subcommand)]
pub(crate) enum PassphraseCommand {
    /// Change a passphrase
    #[command(after_help = "Examples:
  strongroom passphrase change
  strongroom passphrase change --passphrase-file old.txt --new-passphrase-file new.txt")]
    Change {
        /// Read the new passphrase from a file
        #[arg(long, value_name = "FILE")]
        new_passphrase_file: Option<PathBuf>,
    },
}

/// `phrase …`
#[derive(Debug, Subcommand)]
pub(crate) enum PhraseCommand {
    /// Make a new recovery phrase; the old one opens nothing any more
    #[command(after_help = "Examples:
  strongroom phrase renew
  strongroom phrase renew --phrase-to-file kit.txt")]
    Renew {
        /// Write the recovery phrase to a new file (mode 0600) instead of showing it
        #[arg(long, value_name = "FILE")]
        phrase_to_file: Option<PathBuf>,
    },
}

/// `slots …`
#[derive(Debug, Subcommand)]
pub(crate) enum SlotsCommand {
    /// List the ways to unlock
    List,
    /// Add a further passphrase
    #[command(after_help = "Example:
  strongroom slots add partner")]
    Add {
        /// What it is called
        name: String,
        /// Read the new passphrase from a file
        #[arg(long, value_name = "FILE")]
        new_passphrase_file: Option<PathBuf>,
    },
    /// Remove a way to unlock
    Remove {
        /// Its name or id
        #[arg(value_name = "SLOT")]
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Switch {
    /// On
    On,
    /// Off
    Off,
}

/// `vault …`
#[derive(Debug, Subcommand)]
pub(crate) enum VaultCommand {
    /// Show on which machines this device trusts the vault, and whether the one that answers is one of them
    #[command(after_help = "Examples:
  strongroom vault attestation
  strongroom vault attestation --json > policy.json")]
    Attestation,
    /// Agree to the vault program that was installed; until then the one before goes on
    #[command(
        after_help = "The host's shares are sealed to one vault program. When another is installed, nothing changes until you agree:\n\
the vault then locks for a moment and goes on with the new one, and the one before cannot open it any more.\n\
A release names its program's SHA-256 in measurements.json.

Examples:
  strongroom vault update
  strongroom vault update --expect 3d7df7c7c67889b4fc8800209ca2fe304c07828e3e20006b69238871d4130096 --yes"
    )]
    Update {
        /// Only if the program has this SHA-256
        #[arg(long, value_name = "SHA256", value_parser = attestation::parse_digest)]
        expect: Option<[u8; 32]>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Bring back a vault whose host share is gone: on another machine, or on one that changed
    #[command(after_help = "With the vault's files on the server (docs/operating.md, Copies), and one of:\n\
a device that keeps a copy of the share (create --keep-share, devices add --keep-share), or the recovery phrase.\n\
Afterwards the vault is locked, under a new share, and proves itself to every device as before.

Examples:
  strongroom vault rescue
  strongroom vault rescue --phrase --other-machine")]
    Rescue {
        /// With the recovery phrase instead of this device's copy of the share
        #[arg(long)]
        phrase: bool,
        /// On another machine than the one that this device knows, or on that one started in another way
        #[arg(long)]
        other_machine: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Whether the vault opens with no person there, after the machine was restarted
    #[command(
        after_help = "Needs a server that keeps its shares in a TPM. Whoever controls the machine as it started can then open the vault\n\
(docs/sealing.md). A vault that you lock stays locked until you unlock it.

Examples:
  strongroom vault unattended on
  strongroom vault unattended off"
    )]
    Unattended {
        /// On or off
        #[arg(value_name = "on|off")]
        switch: Switch,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Destroy the vault's keys; nothing brings it back but a backup with its recovery phrase
    #[command(after_help = "Examples:
  strongroom vault delete
  strongroom vault delete --confirm VAULT-ID --yes     (in a script)")]
    Delete {
        /// The vault's id, instead of being asked for it
        #[arg(long, value_name = "VAULT-ID")]
        confirm: Option<String>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Remove this device's keys for the vault, without asking it; the vault and other devices stay
    #[command(after_help = "For a vault that is gone. On a living one, revoke the device from another one instead.")]
    Forget {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Runs `create`.
pub(crate) fn create(app: &App, args: &Create) -> Result<(), Failure> {
    let dir = app.dir()?;
    if Profile::exists(&dir) {
        return Err(strongroom_client::profile::ProfileError::Exists { path: dir }.into());
    }
    let prompter = app.prompter();
    if args.phrase_to_file.is_none() {
        phrase::can_be_shown(app)?;
    }
    let passphrase = prompter.new_passphrase(None)?;
    let phrase = Phrase::generate(&mut os_rng());
    phrase::hand_over(app, &prompter, &phrase, args.phrase_to_file.as_deref())?;
    let name = args.device_name.clone().unwrap_or_else(device_name);
    let policy = args.policy.as_deref().map(attestation::read_policy).transpose()?;
    let profile = open::create(&NewVault {
        socket: &app.socket(),
        dir: &dir,
        device_name: &name,
        passphrase: &passphrase,
        phrase: &phrase,
        keep_share: args.keep_share,
        policy: policy.as_ref(),
    })?;
    let fingerprint = profile.fingerprint().to_string();
    app.out.result(&json!({ "vault": profile.vault(), "device": profile.device(), "fingerprint": fingerprint }), || {
        format!(
            "The vault stands, and it is open.\n  vault        {}\n  fingerprint  {fingerprint}   (write it beside the phrase)\n\
             Next: strongroom item add login \"My first login\", or strongroom import FILE",
            profile.vault(),
        )
    })
}

/// Runs `unlock`.
pub(crate) fn unlock(app: &App, args: &Unlock) -> Result<(), Failure> {
    let profile = app.profile()?;
    let mut prompter = app.prompter();
    prompter.phrase = args.phrase;
    let mut session = Session::new(&profile, &mut prompter);
    let opened = match open::open(&mut session, args.open_for) {
        Err(ClientError::Refused(refusal))
            if args.phrase && matches!(refusal.code, Code::ShareMissing | Code::MeasurementChanged) =>
        {
            app.out.note(&format!("{refusal} The phrase can bring the vault back all the same."));
            attestation::rescue(app, true, args.other_machine, args.yes)?;
            open::open(&mut session, args.open_for)?
        }
        opened => opened?,
    };
    if !opened.was_locked && args.open_for.is_some() {
        app.out.note(
            "The vault was open already; --for counts from an unlock: strongroom lock, then strongroom unlock --for …",
        );
    }
    let shown = json!({
        "session_until": opened.session_until,
        "open_until": opened.open_until,
        "was_locked": opened.was_locked,
    });
    app.out.result(&shown, || {
        let open_until =
            opened.open_until.map_or(String::new(), |at| format!(", the vault locks {}", human::relative(at)));
        let what = if opened.was_locked { "Unlocked" } else { "The vault was open; this device has a session" };
        format!(
            "{what}. The log extends what this device saw. The session ends {}{open_until}.",
            human::relative(opened.session_until)
        )
    })
}

/// Runs `lock`.
pub(crate) fn lock(app: &App, args: &Lock) -> Result<(), Failure> {
    let (request, text) = if args.session {
        (DeviceRequest::SessionEnd {}, "This device's session has ended. The vault stays open for guests.")
    } else {
        (DeviceRequest::Lock {}, "Locked.")
    };
    match app.ask(&request)? {
        DeviceAnswer::Done {} => app.out.done(text),
        _ => Err(unexpected()),
    }
}

/// Runs `status`.
pub(crate) fn status(app: &App) -> Result<(), Failure> {
    let DeviceAnswer::Status(status) = app.ask(&DeviceRequest::Status {})? else { return Err(unexpected()) };
    app.out.result(&status, || {
        let mut text = match status.state {
            VaultState::Empty => "The vault is empty.\n".to_owned(),
            VaultState::Lost => {
                "The host has no share that opens the vault. Next: strongroom vault rescue\n".to_owned()
            }
            VaultState::Locked => "The vault is locked. Next: strongroom unlock\n".to_owned(),
            VaultState::Unconfirmed => {
                "The vault is open; its log waits to be confirmed. Next: strongroom unlock\n".to_owned()
            }
            VaultState::Open => "The vault is open.\n".to_owned(),
        };
        let mut line = |name: &str, value: String| text.push_str(&format!("  {name:<12} {value}\n"));
        line("vault", status.vault.to_string());
        if let Some(at) = status.open_until {
            line("locks", human::relative(at));
        }
        match status.session_until {
            Some(at) => line("session", format!("ends {}", human::relative(at))),
            None if status.state == VaultState::Open => {
                line("session", "none; strongroom unlock begins one".to_owned())
            }
            None => {}
        }
        if let Some(items) = status.items {
            line("items", items.to_string());
        }
        if let Some(approvals) = status.approvals.filter(|count| *count > 0) {
            line("approvals", format!("{approvals} waiting; strongroom approvals watch"));
        }
        if let Some(size) = status.log_size {
            line("log", format!("{size} event{}", if size == 1 { "" } else { "s" }));
        }
        if let Some(why) = &status.guests_suspended {
            line("guests", format!("suspended: {}", escape(why)));
        }
        line("version", escape(&status.version));
        if let Some(program) = &status.update {
            line("update", format!("{} waits for you; strongroom vault update", attestation::hex(program)));
        }
        match status.unattended_refused {
            Some(code) => line("unattended", format!("on, and it did not open: {}", code.sentence())),
            None if status.unattended == Some(true) => line("unattended", "on".to_owned()),
            None => {}
        }
        text
    })
}

/// Runs `passphrase …`.
pub(crate) fn passphrase(app: &App, command: &PassphraseCommand) -> Result<(), Failure> {
    let PassphraseCommand::Change { new_passphrase_file } = command;
    let profile = app.profile()?;
    let mut prompter = app.prompter();
    let asker = prompter.clone();
    let mut session = Session::new(&profile, &mut prompter);
    // The old one first, as everywhere; it answers the challenge of the change.
    let old = session.factor()?;
    let slots = session.slots()?;
    let slot = slots.iter().find(|slot| slot.id == old.slot).ok_or_else(unexpected)?;
    let new = asker.new_passphrase(new_passphrase_file.as_deref())?;
    let name = slot.name.clone().unwrap_or_else(|| "passphrase".to_owned());
    let (draft, _) = fresh::new_passphrase_slot(profile.vault(), &name, &new)?;
    session.ask(&DeviceRequest::SlotReplace { slot: slot.id, draft })?;
    app.out.done("The passphrase is changed. Backups from before still open with the old one.")
}

/// Runs `phrase …`.
pub(crate) fn phrase_renew(app: &App, command: &PhraseCommand) -> Result<(), Failure> {
    let PhraseCommand::Renew { phrase_to_file } = command;
    let profile = app.profile()?;
    let mut prompter = app.prompter();
    let asker = prompter.clone();
    let mut session = Session::new(&profile, &mut prompter);
    if phrase_to_file.is_none() {
        phrase::can_be_shown(app)?;
    }
    let slots = session.slots()?;
    let slot = slots.iter().find(|slot| slot.kind == SlotKind::Recovery).ok_or_else(unexpected)?;
    let new = Phrase::generate(&mut os_rng());
    phrase::hand_over(app, &asker, &new, phrase_to_file.as_deref())?;
    let name = slot.name.clone().unwrap_or_else(|| "recovery phrase".to_owned());
    let draft = fresh::new_phrase_slot(profile.vault(), &name, &new)?;
    session.ask(&DeviceRequest::SlotReplace { slot: slot.id, draft })?;
    app.out.done("The new recovery phrase is in force; destroy the old one. Backups from before still open with it.")
}

/// Runs `slots …`.
pub(crate) fn slots(app: &App, command: &SlotsCommand) -> Result<(), Failure> {
    match command {
        SlotsCommand::List => {
            let slots = app.session(|session| Ok(session.slots()?))?;
            app.out.result(&slots, || {
                let row = |slot: &SlotView| {
                    let name = slot.name.clone().unwrap_or_else(|| "-".to_owned());
                    vec![slot.id.to_string(), slot.kind.to_string(), name, slot.added_at.to_string()]
                };
                table(&["ID", "KIND", "NAME", "ADDED"], &slots.iter().map(row).collect::<Vec<_>>())
            })
        }
        SlotsCommand::Add { name, new_passphrase_file } => {
            let profile = app.profile()?;
            let mut prompter = app.prompter();
            let asker = prompter.clone();
            let mut session = Session::new(&profile, &mut prompter);
            session.factor()?;
            let new = asker.new_passphrase(new_passphrase_file.as_deref())?;
            let (draft, _) = fresh::new_passphrase_slot(profile.vault(), name, &new)?;
            match session.ask(&DeviceRequest::SlotAdd(draft))? {
                DeviceAnswer::Slot(slot) => app.out.result(&slot, || format!("Added {}.", escape(name))),
                _ => Err(unexpected()),
            }
        }
        SlotsCommand::Remove { name, yes } => app.session(|session| {
            let id = find_slot(session, name)?;
            app.prompter().confirm(&format!("Remove the way to unlock `{}`?", escape(name)), *yes)?;
            session.ask(&DeviceRequest::SlotRemove { slot: id })?;
            app.out.done("Removed.")
        }),
    }
}

/// Runs `vault …`.
pub(crate) fn vault(app: &App, command: &VaultCommand) -> Result<(), Failure> {
    let (confirm, yes) = match command {
        VaultCommand::Attestation => return attestation::show(app),
        VaultCommand::Update { expect, yes } => return attestation::update(app, *expect, *yes),
        VaultCommand::Rescue { phrase, other_machine, yes } => {
            return attestation::rescue(app, *phrase, *other_machine, *yes);
        }
        VaultCommand::Unattended { switch, yes } => {
            return attestation::unattended(app, *switch == Switch::On, *yes);
        }
        VaultCommand::Delete { confirm, yes } => (confirm, yes),
        VaultCommand::Forget { yes } => return forget(app, *yes),
    };
    let dir = app.dir()?;
    let profile = app.profile()?;
    let mut prompter = app.prompter();
    let asker = prompter.clone();
    let vault = profile.vault();
    app.out.note(
        "This destroys the vault's keys: header, database and credential chains. Every item in it is gone for good.\n\
         What remains: backups and exports that you made (the recovery phrase still opens such a backup), copies that the\n\
         services you called made of what was sent to them, and the secrets themselves where they are used; change those\n\
         that matter. Other devices keep their keys, which then open nothing.",
    );
    asker.confirm("Delete the vault?", *yes)?;
    let typed = match confirm {
        Some(typed) => typed.clone(),
        None => asker.line(&format!("Type the vault's id ({vault}) to go on: "))?,
    };
    if typed != vault.to_string() {
        return Err(Failure::cancelled());
    }
    // The keys go only after the vault itself has said that it is gone: a server's word is not enough.
    Session::new(&profile, &mut prompter).ask(&DeviceRequest::VaultDelete { vault }).map_err(|error| {
        match error.code() {
            Some(Code::VaultUnknown) => Failure::from(error).hint("if it is deleted: strongroom vault forget"),
            _ => error.into(),
        }
    })?;
    Profile::remove(&dir)?;
    app.out.done("The vault is deleted, and this device has forgotten its keys.")
}

fn forget(app: &App, yes: bool) -> Result<(), Failure> {
    let dir = app.dir()?;
    let profile = app.profile()?;
    app.out.note("Without these keys this device cannot reach the vault any more, and neither can guests whose key files lie here.");
    app.prompter().confirm(&format!("Remove this device's keys for the vault {}?", profile.vault()), yes)?;
    Profile::remove(&dir)?;
    app.out.done("This device has forgotten its keys.")
}

fn find_slot(session: &mut Session<'_>, name: &str) -> Result<SlotId, Failure> {
    let slots = session.slots()?;
    let found = slots.iter().find(|slot| slot.name.as_deref() == Some(name) || slot.id.to_string() == name);
    found.map(|slot| slot.id).ok_or_else(|| Refusal::new(Code::SlotUnknown).into())
}

fn device_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "device".to_owned() } else { name.chars().take(64).collect() }
}

//! What can be typed: every command, in groups, and where each goes.

use std::ffi::OsString;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::app::{App, Global};
use crate::approvals::ApprovalsCommand;
use crate::audit::{AuditCommand, LogCommand};
use crate::device::{ConfigCommand, DevicesCommand};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::generate::Generate;
use crate::grant::GrantCommand;
use crate::guest::GuestCommand;
use crate::host::HostCommand;
use crate::import::{Export, Import};
use crate::item::ItemCommand;
use crate::mcp::Mcp;
use crate::output::Out;
use crate::own::{Copy, Crypt, ExecArgs, Sign, Totp};
use crate::serve::{Serve, ServicesArgs};
use crate::shell::{Completions, Help, ManPages};
use crate::uses::Use;
use crate::vault::{Create, Lock, PassphraseCommand, PhraseCommand, SlotsCommand, Unlock, VaultCommand};
use crate::{
    approvals, audit, device, doctor, generate, grant, guest, host, import, item, mcp, own, serve, shell, uses, vault,
};

/// A vault that uses your secrets without showing them
#[derive(Debug, Parser)]
#[command(name = "strongroom", version, disable_help_subcommand = true, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the vaults of this machine
    Serve(Serve),
    /// Make a vault, with this device as its first
    Create(Create),
    /// Open the vault, or a session of this device
    Unlock(Unlock),
    /// Close the vault
    Lock(Lock),
    /// Show how the vault stands
    Status,
    /// Change a passphrase
    #[command(subcommand)]
    Passphrase(PassphraseCommand),
    /// Renew the recovery phrase
    #[command(subcommand)]
    Phrase(PhraseCommand),
    /// List, add and remove ways to unlock
    #[command(subcommand)]
    Slots(SlotsCommand),
    /// List devices, let one in, throw one out
    #[command(subcommand)]
    Devices(DevicesCommand),
    /// Show and change settings
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Delete the vault
    #[command(subcommand)]
    Vault(VaultCommand),

    /// Add, list, show, edit, remove and restore items
    #[command(subcommand)]
    Item(ItemCommand),
    /// Make a password or a passphrase
    Generate(Generate),
    /// Bring in what another program exported
    Import(Import),
    /// Write everything out for another program
    Export(Export),

    /// Copy a value to the clipboard for 30 seconds
    Copy(Copy),
    /// Make a one-time code
    Totp(Totp),
    /// Sign a message or a token
    Sign(Sign),
    /// Encrypt, decrypt, authenticate, derive
    Crypt(Crypt),
    /// Start a program with secrets in its environment or on its standard input
    Exec(ExecArgs),

    /// Enrol, list, suspend and revoke guests
    #[command(subcommand)]
    Guest(GuestCommand),
    /// Give, list and revoke grants
    #[command(subcommand)]
    Grant(GrantCommand),
    /// List, watch and answer what guests ask
    #[command(subcommand)]
    Approvals(ApprovalsCommand),
    /// Act as a guest
    Use(Use),
    /// Serve an agent over the Model Context Protocol, as a guest
    Mcp(Mcp),

    /// List, verify and prove the log
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Follow the log
    #[command(subcommand)]
    Log(LogCommand),

    /// Look at server, files and users, and say what to do
    Doctor,
    /// Show how the host of this machine stands
    #[command(subcommand)]
    Host(HostCommand),
    /// Print completions for a shell
    Completions(Completions),
    /// Print or write man pages
    Man(ManPages),
    /// Explain a command, or the exit codes
    Help(Help),
    /// For this program's own children
    #[command(subcommand, hide = true)]
    Internal(Internal),
}

/// What this program starts itself as.
#[derive(Debug, Subcommand)]
pub(crate) enum Internal {
    /// Holds the clipboard
    HoldClipboard,
    /// Reads an import in a jail
    ReadImport,
    /// Relays sealed frames, beside the host
    Services(ServicesArgs),
}

/// The whole command line, for help, man pages, completions and tests that walk it.
#[must_use]
pub fn commands() -> clap::Command {
    let command = Cli::command();
    let groups = groups_text(&command);
    command.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{groups}\n{{options}}\n\nFirst steps: strongroom serve, then \
         strongroom create. Exit codes: strongroom help exit-codes\n"
    ))
}

/// Every command that does something, as it is typed: `item add`, `audit verify`, …; hidden ones are left out.
#[must_use]
pub fn leaves() -> Vec<String> {
    fn walk(command: &clap::Command, path: &str, leaves: &mut Vec<String>) {
        let mut subs = command.get_subcommands().filter(|sub| !sub.is_hide_set()).peekable();
        if subs.peek().is_none() {
            leaves.push(path.trim_start().to_owned());
        }
        for sub in subs {
            walk(sub, &format!("{path} {}", sub.get_name()), leaves);
        }
    }
    let mut leaves = Vec::new();
    walk(&commands(), "", &mut leaves);
    leaves
}

/// Runs the command line `args`, and says how the program ends.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Exit {
    let args: Vec<OsString> = args.into_iter().collect();
    // Errors of parsing are printed before the options are known.
    let json = args.iter().any(|arg| arg == "--json");
    let cli = match commands().try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => return parse_error(&error, json),
    };
    let app = App::new(cli.global);
    match dispatch(&app, &cli.command) {
        Ok(()) => Exit::Done,
        Err(failure) => {
            app.out.failure(&failure);
            failure.exit
        }
    }
}

fn dispatch(app: &App, command: &Command) -> Result<(), Failure> {
    match command {
        Command::Serve(args) => serve::run(app, args),
        Command::Create(args) => vault::create(app, args),
        Command::Unlock(args) => vault::unlock(app, args),
        Command::Lock(args) => vault::lock(app, args),
        Command::Status => vault::status(app),
        Command::Passphrase(command) => vault::passphrase(app, command),
        Command::Phrase(command) => vault::phrase_renew(app, command),
        Command::Slots(command) => vault::slots(app, command),
        Command::Devices(command) => device::devices(app, command),
        Command::Config(command) => device::config(app, command),
        Command::Vault(command) => vault::vault(app, command),
        Command::Item(command) => item::run(app, command),
        Command::Generate(args) => generate::run(app, args),
        Command::Import(args) => import::import(app, args),
        Command::Export(args) => import::export(app, args),
        Command::Copy(args) => own::copy(app, args),
        Command::Totp(args) => own::totp(app, args),
        Command::Sign(args) => own::sign(app, args),
        Command::Crypt(args) => own::crypt(app, args),
        Command::Exec(args) => own::exec(app, args),
        Command::Guest(command) => guest::run(app, command),
        Command::Grant(command) => grant::run(app, command),
        Command::Approvals(command) => approvals::run(app, command),
        Command::Use(args) => uses::run(app, args),
        Command::Mcp(args) => mcp::run(app, args),
        Command::Audit(command) => audit::run(app, command),
        Command::Log(command) => audit::log(app, command),
        Command::Doctor => doctor::run(app),
        Command::Host(command) => host::run(app, command),
        Command::Completions(args) => shell::completions(args),
        Command::Man(args) => shell::man(app, args),
        Command::Help(args) => shell::help(args),
        Command::Internal(Internal::HoldClipboard) => own::hold_clipboard(),
        Command::Internal(Internal::ReadImport) => import::child(),
        Command::Internal(Internal::Services(args)) => serve::services(args),
    }
}

fn parse_error(error: &clap::Error, json: bool) -> Exit {
    if !error.use_stderr() {
        // Help or version that was asked for; a closed standard output ends it as well.
        let _ = error.print();
        return Exit::Done;
    }
    if json {
        let message = error.render().to_string();
        let first = message.lines().next().unwrap_or_default().trim_start_matches("error: ");
        Out { json, quiet: false }.failure(&Failure::usage(first));
    } else {
        let _ = error.print();
    }
    Exit::Usage
}

fn groups_text(command: &clap::Command) -> String {
    let mut text = String::new();
    for (heading, names) in GROUPS {
        text.push_str(&format!("{heading}:\n"));
        for name in *names {
            let about = command.find_subcommand(name).and_then(|sub| sub.get_about()).map(ToString::to_string);
            text.push_str(&format!("  {name:<12} {}\n", about.unwrap_or_default()));
        }
        text.push('\n');
    }
    text
}

const GROUPS: &[(&str, &[&str])] = &[
    (
        "The vault",
        &["create", "unlock", "lock", "status", "passphrase", "phrase", "slots", "devices", "config", "vault"],
    ),
    ("Items", &["item", "generate", "import", "export"]),
    ("Using secrets yourself", &["copy", "totp", "sign", "crypt", "exec"]),
    ("Letting others use them", &["guest", "grant", "approvals", "use", "mcp"]),
    ("What happened", &["audit", "log"]),
    ("This machine", &["serve", "host", "doctor", "completions", "man", "help"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        commands().debug_assert();
    }

    #[test]
    fn every_command_is_in_a_group_and_has_a_line_of_help() {
        let command = commands();
        let grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            assert!(grouped.contains(&sub.get_name()), "{} is in no group", sub.get_name());
            assert!(sub.get_about().is_some(), "{} has no help", sub.get_name());
        }
        assert!(leaves().contains(&"item add".to_owned()) && leaves().contains(&"status".to_owned()));
    }

    #[test]
    fn no_command_takes_over_an_option_of_all() {
        fn walk(command: &clap::Command, global: &[String]) {
            for arg in command.get_arguments().filter(|arg| !arg.is_global_set()) {
                assert!(
                    !global.contains(&arg.get_id().to_string()),
                    "{} has its own {}",
                    command.get_name(),
                    arg.get_id()
                );
            }
            command.get_subcommands().for_each(|sub| walk(sub, global));
        }
        let command = commands();
        let global: Vec<String> =
            command.get_arguments().filter(|arg| arg.is_global_set()).map(|arg| arg.get_id().to_string()).collect();
        assert!(global.len() >= 9);
        walk(&command, &global);
    }

    #[test]
    fn no_argument_takes_a_secret() {
        fn walk(command: &clap::Command) {
            for arg in command.get_arguments() {
                let id = arg.get_id().as_str();
                let takes_value = arg.get_action().takes_values();
                let names_secret = ["passphrase", "password", "secret_value", "phrase"].contains(&id);
                assert!(!(takes_value && names_secret), "{} takes `{id}` as an argument", command.get_name());
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&commands());
    }
}

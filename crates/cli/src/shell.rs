//! `completions`, `man` and `help`: what is made out of the command line itself.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::app::App;
use crate::commands;
use crate::exit;
use crate::failure::Failure;
use crate::output::write_out;

/// `completions`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strongroom completions bash > ~/.local/share/bash-completion/completions/strongroom
  strongroom completions zsh > ~/.zfunc/_strongroom
  strongroom completions fish > ~/.config/fish/completions/strongroom.fish")]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: Shell,
}

/// `man`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strongroom man --to ~/.local/share/man/man1
  strongroom man | man -l -")]
pub(crate) struct ManPages {
    /// Write a page for each command into this folder, instead of the main page to standard output
    #[arg(long, value_name = "FOLDER")]
    pub(crate) to: Option<PathBuf>,
}

/// `help`
#[derive(Debug, Args)]
pub(crate) struct Help {
    /// A command, or `exit-codes`
    pub(crate) topic: Vec<String>,
}

/// Runs `completions`.
pub(crate) fn completions(args: &Completions) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut commands(), "strongroom", &mut text);
    write_out(&text)
}

/// Runs `man`.
pub(crate) fn man(app: &App, args: &ManPages) -> Result<(), Failure> {
    let mut root = commands().disable_help_subcommand(true);
    root.build();
    let Some(folder) = &args.to else { return write_out(&page("strongroom", &root)?) };
    std::fs::create_dir_all(folder).map_err(|e| Failure::local(folder.display(), &e))?;
    let mut count = 0;
    write_pages(&root, "strongroom", &mut |name, page| {
        let path = folder.join(format!("{name}.1"));
        count += 1;
        std::fs::write(&path, page).map_err(|e| Failure::local(path.display(), &e))
    })?;
    app.out.done(&format!("Wrote {count} pages to {}.", folder.display()))
}

/// Runs `help`.
pub(crate) fn help(args: &Help) -> Result<(), Failure> {
    if args.topic == ["exit-codes"] {
        return write_out(exit::table().as_bytes());
    }
    let mut command = commands();
    command.build();
    let mut found = &mut command;
    for name in &args.topic {
        found = found.find_subcommand_mut(name).ok_or_else(|| {
            Failure::usage(format!("there is no command `{}`", args.topic.join(" "))).hint("strongroom help")
        })?;
    }
    let text = found.render_long_help().to_string();
    write_out(text.as_bytes())
}

fn write_pages(
    command: &Command,
    name: &str,
    write: &mut dyn FnMut(&str, Vec<u8>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    write(name, page(name, command)?)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        write_pages(sub, &format!("{name}-{}", sub.get_name()), write)?;
    }
    Ok(())
}

fn page(name: &str, command: &Command) -> Result<Vec<u8>, Failure> {
    let failed = |e: std::io::Error| Failure::local("a man page", &e);
    let command = command.clone().name(name.to_owned()).disable_help_subcommand(true);
    let mut page = Vec::new();
    Man::new(command).render(&mut page).map_err(failed)?;
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for (exit, meaning) in exit::Exit::ALL {
        roff.control("TP", []);
        roff.text([bold(exit.code().to_string())]);
        roff.text([roman(*meaning)]);
    }
    page.write_all(roff.to_roff().as_bytes()).map_err(failed)?;
    Ok(page)
}

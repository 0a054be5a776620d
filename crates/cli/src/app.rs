//! What every command needs: the options before it, the profile, a session, and finding things by what people call them.

use std::path::PathBuf;

use clap::Args;
use strongroom_client::profile::Profile;
use strongroom_client::session::Session;
use strongroom_client::wire::device::{DeviceAnswer, DeviceRequest, GuestView, ListQuery};
use strongroom_client::wire::items::ItemSummary;
use strongroom_client::wire::{Code, FieldName, GuestId, ItemId, Reference};

use crate::code::OwnCode;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Out, escape};
use crate::places;
use crate::prompt::Prompter;

/// Options that every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options for every command")]
pub(crate) struct Global {
    /// Print JSON, also for errors
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print nothing that was not asked for
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Which vault of this device
    #[arg(long, global = true, value_name = "NAME", default_value = "default", env = "STRONGROOM_PROFILE")]
    pub(crate) profile: String,
    /// Where this device keeps its keys
    #[arg(long, global = true, value_name = "FOLDER", env = "STRONGROOM_HOME")]
    pub(crate) home: Option<PathBuf>,
    /// Where the server listens
    #[arg(long, global = true, value_name = "PATH", env = "STRONGROOM_SOCKET")]
    pub(crate) socket: Option<PathBuf>,
    /// Never ask; fail instead
    #[arg(long, global = true)]
    pub(crate) no_input: bool,
    /// Read the passphrase from the first line of standard input
    #[arg(long, global = true)]
    pub(crate) passphrase_stdin: bool,
    /// Read the passphrase from a file
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "STRONGROOM_PASSPHRASE_FILE",
        conflicts_with = "passphrase_stdin"
    )]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Which passphrase, where there are several
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) slot: Option<String>,
}

/// A running command.
#[derive(Clone, Debug)]
pub(crate) struct App {
    /// Its options.
    pub(crate) global: Global,
    /// Where it prints.
    pub(crate) out: Out,
}

impl App {
    /// With these options.
    #[must_use]
    pub(crate) fn new(global: Global) -> Self {
        let out = Out { json: global.json, quiet: global.quiet };
        Self { global, out }
    }

    /// The folder of all profiles.
    ///
    /// # Errors
    /// When this user has no home.
    pub(crate) fn home(&self) -> Result<PathBuf, Failure> {
        if let Some(home) = &self.global.home {
            return Ok(home.clone());
        }
        let dirs = directories::BaseDirs::new().ok_or_else(|| {
            Failure::new(Exit::Local, OwnCode::NoHome, "this user has no home folder").hint("set STRONGROOM_HOME")
        })?;
        Ok(dirs.config_dir().join("strongroom"))
    }

    /// The folder of the chosen profile.
    ///
    /// # Errors
    /// When its name is none.
    pub(crate) fn dir(&self) -> Result<PathBuf, Failure> {
        Ok(Profile::dir(&self.home()?, &self.global.profile)?)
    }

    /// The chosen profile.
    ///
    /// # Errors
    /// When there is none, or it is damaged.
    pub(crate) fn profile(&self) -> Result<Profile, Failure> {
        let mut profile = Profile::load(&self.dir()?)?;
        if let Some(socket) = &self.global.socket {
            profile.use_socket(socket.clone());
        }
        Ok(profile)
    }

    /// Where the server listens, where no profile says so.
    #[must_use]
    pub(crate) fn socket(&self) -> PathBuf {
        self.global.socket.clone().unwrap_or_else(places::client_socket)
    }

    /// What asks the person at the terminal.
    #[must_use]
    pub(crate) fn prompter(&self) -> Prompter {
        Prompter {
            no_input: self.global.no_input,
            passphrase_stdin: self.global.passphrase_stdin,
            passphrase_file: self.global.passphrase_file.clone(),
            slot: self.global.slot.clone(),
            phrase: false,
        }
    }

    /// Runs `work` with a session of this device.
    ///
    /// # Errors
    /// Those of the profile and of `work`.
    pub(crate) fn session<T>(&self, work: impl FnOnce(&mut Session<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        let profile = self.profile()?;
        let mut prompter = self.prompter();
        work(&mut Session::new(&profile, &mut prompter))
    }

    /// Asks one thing of the vault.
    ///
    /// # Errors
    /// Those of the profile and what the vault refused.
    pub(crate) fn ask(&self, request: &DeviceRequest) -> Result<DeviceAnswer, Failure> {
        self.session(|session| Ok(session.ask(request)?))
    }
}

/// An answer that does not belong to its request.
#[must_use]
pub(crate) fn unexpected() -> Failure {
    Failure::new(Exit::Alarm, OwnCode::AnswerRefused, "the vault answered with something that does not fit the request")
}

/// All items that match.
///
/// # Errors
/// What the vault refused.
pub(crate) fn all_items(session: &mut Session<'_>, query: ListQuery) -> Result<Vec<ItemSummary>, Failure> {
    let mut query = query;
    let mut all = Vec::new();
    loop {
        let DeviceAnswer::Items { items, next } = session.ask(&DeviceRequest::ItemList(query.clone()))? else {
            return Err(unexpected());
        };
        all.extend(items);
        match next {
            Some(_) if next == query.after => return Err(unexpected()),
            Some(_) => query.after = next,
            None => return Ok(all),
        }
    }
}

/// The item of this id or label: an exact label first, else the only one that holds the words.
///
/// # Errors
/// When there is none, or there are several; those are listed.
pub(crate) fn find_item(session: &mut Session<'_>, name: &str, removed: bool) -> Result<ItemSummary, Failure> {
    let by_id = name.parse::<ItemId>().ok();
    let search = by_id.is_none().then(|| name.to_owned());
    let found = all_items(session, ListQuery { search, removed, ..ListQuery::default() })?;
    if let Some(id) = by_id {
        return found.into_iter().find(|item| item.id == id).ok_or_else(|| no_item(name));
    }
    let exact: Vec<&ItemSummary> = found.iter().filter(|item| item.label.eq_ignore_ascii_case(name)).collect();
    match (exact.as_slice(), found.as_slice()) {
        ([one], _) => Ok((*one).clone()),
        ([], [one]) => Ok(one.clone()),
        ([], []) => Err(no_item(name)),
        ([], many) => Err(ambiguous(name, &many.iter().collect::<Vec<_>>())),
        (several, _) => Err(ambiguous(name, several)),
    }
}

/// A field, as `vault://…`, `LABEL` (its main field) or `LABEL/FIELD`.
///
/// # Errors
/// When there is no such item.
pub(crate) fn find_field(
    session: &mut Session<'_>,
    name: &str,
    default: Option<&str>,
) -> Result<(Reference, Option<ItemSummary>), Failure> {
    if let Ok(reference) = name.parse::<Reference>() {
        return Ok((reference, None));
    }
    let (item, field) = match find_item(session, name, false) {
        Ok(item) => (item, None),
        Err(failure) => match name.rsplit_once('/') {
            // The words before the last slash, where the whole is no label.
            Some((label, field)) if failure.code == Code::ItemUnknown.as_str() => {
                let field = FieldName::parse(field).map_err(|e| Failure::usage(e.to_string()))?;
                (find_item(session, label, false)?, Some(field))
            }
            _ => return Err(failure),
        },
    };
    let field = match (field, default) {
        (Some(field), _) => field,
        (None, Some(default)) => FieldName::parse(default).map_err(|e| Failure::usage(e.to_string()))?,
        (None, None) => item.item_type.main_field(),
    };
    Ok((Reference { item: item.id, field }, Some(item)))
}

/// The guest of this id or name.
///
/// # Errors
/// When there is none, or there are several.
pub(crate) fn find_guest(session: &mut Session<'_>, name: &str) -> Result<GuestView, Failure> {
    let DeviceAnswer::Guests { guests } = session.ask(&DeviceRequest::GuestList {})? else { return Err(unexpected()) };
    let by_id = name.parse::<GuestId>().ok();
    let mut found = guests.into_iter().filter(|guest| by_id.map_or(guest.name == name, |id| guest.id == id));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(Failure::new(Exit::Refused, Code::GuestUnknown, format!("there is no guest `{name}`"))
            .hint("strongroom guest list")),
        (Some(_), Some(_)) => Err(Failure::usage(format!("several guests are called `{name}`; name one by its id"))),
    }
}

fn no_item(name: &str) -> Failure {
    Failure::new(Exit::Refused, Code::ItemUnknown, format!("there is no item `{name}`")).hint("strongroom item list")
}

fn ambiguous(name: &str, items: &[&ItemSummary]) -> Failure {
    let listed: Vec<String> = items
        .iter()
        .take(10)
        .map(|item| format!("{} ({}, {})", item.id, item.item_type, escape(&item.label)))
        .collect();
    Failure::new(
        Exit::Usage,
        OwnCode::ItemAmbiguous,
        format!("{} items match `{name}`; name one by its id: {}", items.len(), listed.join("; ")),
    )
}

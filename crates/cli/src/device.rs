//! `devices`: list, let another one in, throw one out; and `config`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::json;
use strongroom_client::attest::Policy;
use strongroom_client::credential;
use strongroom_client::crypto::digest::sha256;
use strongroom_client::crypto::sign::PublicKey;
use strongroom_client::profile::{self, DeviceKeys, NewProfile, Profile};
use strongroom_client::wire::device::{Config, DeviceAdd, DeviceAnswer, DeviceRequest, DeviceView, LogPosition};
use strongroom_client::wire::{Bytes, Code, DeviceId, VaultId};

use crate::app::{App, unexpected};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::human;
use crate::output::{escape, table};
use crate::prompt;

/// `devices …`
#[derive(Debug, Subcommand)]
pub(crate) enum DevicesCommand {
    /// List the devices
    List,
    /// On the new device: make its keys, and print what the enrolled device needs
    #[command(after_help = "Example:
  new device:       strongroom devices join --name phone > join.json
  enrolled device:  strongroom devices add join.json > welcome.json
  new device:       strongroom devices finish welcome.json")]
    Join {
        /// What the device is called
        #[arg(long)]
        name: String,
    },
    /// On an enrolled device: let a new one in
    #[command(after_help = "Example:
  strongroom devices add join.json > welcome.json")]
    Add {
        /// What `devices join` printed, `-` for standard input
        request: PathBuf,
        /// Let it keep a copy of the host share, sealed to it
        #[arg(long)]
        keep_share: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// On the new device: take what the enrolled device printed
    Finish {
        /// What `devices add` printed, `-` for standard input
        welcome: PathBuf,
    },
    /// Throw a device out
    #[command(after_help = "Example:
  strongroom devices revoke phone")]
    Revoke {
        /// Its name or id
        device: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// `config …`
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show the settings
    Show,
    /// Change settings
    #[command(after_help = "Examples:
  strongroom config set --session 30m
  strongroom config set --open 7d --history 50")]
    Set(ConfigSet),
}

/// `config set`
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct ConfigSet {
    /// How long a device session lives without use: 5m to 1h
    #[arg(long, value_name = "DURATION", value_parser = human::parse_duration)]
    session: Option<u64>,
    /// How long the vault stays open for guests: 15m to 30d
    #[arg(long, value_name = "DURATION", value_parser = human::parse_duration)]
    open: Option<u64>,
    /// How many versions of a field are kept: 1 to 1000
    #[arg(long, value_name = "NUMBER")]
    history: Option<u32>,
}

/// What a new device hands to an enrolled one; nothing of it is secret.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Joining {
    strongroom_join: u8,
    name: String,
    sign_public: Bytes,
    kem_public: Bytes,
}

/// What the enrolled device hands back; only the new device can open what is sealed in it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Welcome {
    strongroom_welcome: u8,
    vault: VaultId,
    identity: Bytes,
    device: DeviceId,
    socket: PathBuf,
    sealed_credential: Bytes,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed_share: Option<Bytes>,
    seen: LogPosition,
    #[serde(default = "no_policy")]
    policy: Policy,
}

/// Of a welcome from a device that knew of none.
fn no_policy() -> Policy {
    Policy::None {}
}

/// Runs `devices …`.
pub(crate) fn devices(app: &App, command: &DevicesCommand) -> Result<(), Failure> {
    match command {
        DevicesCommand::List => {
            let devices = list(app)?;
            app.out.result(&devices, || list_text(&devices))
        }
        DevicesCommand::Join { name } => join(app, name),
        DevicesCommand::Add { request, keep_share, yes } => add(app, request, *keep_share, *yes),
        DevicesCommand::Finish { welcome } => finish(app, welcome),
        DevicesCommand::Revoke { device, yes } => {
            let devices = list(app)?;
            let mut found = devices.iter().filter(|known| known.name == *device || known.id.to_string() == *device);
            let (Some(one), None) = (found.next(), found.next()) else {
                return Err(Failure::new(
                    Exit::Refused,
                    Code::DeviceUnknown,
                    format!("there is no one device `{device}`"),
                )
                .hint("strongroom devices list"));
            };
            let warning = if one.this { " It is this one: you will need another to come back." } else { "" };
            app.prompter().confirm(&format!("Throw out the device `{}`?{warning}", escape(&one.name)), *yes)?;
            app.ask(&DeviceRequest::DeviceRevoke { device: one.id })?;
            app.out.done("Thrown out. Change a passphrase that it knew: strongroom passphrase change")
        }
    }
}

/// Runs `config …`.
pub(crate) fn config(app: &App, command: &ConfigCommand) -> Result<(), Failure> {
    let request = match command {
        ConfigCommand::Show => DeviceRequest::ConfigShow {},
        ConfigCommand::Set(set) => DeviceRequest::ConfigSet(Config {
            session_secs: set.session,
            open_secs: set.open,
            history_versions: set.history,
        }),
    };
    let DeviceAnswer::Config(config) = app.ask(&request)? else { return Err(unexpected()) };
    app.out.result(&config, || {
        let shown = |secs: Option<u64>| secs.map_or_else(|| "-".to_owned(), human::duration);
        format!(
            "session  {}   a device session without use\nopen     {}   the vault, for guests\nhistory  {}   versions of a field\n",
            shown(config.session_secs),
            shown(config.open_secs),
            config.history_versions.map_or_else(|| "-".to_owned(), |count| count.to_string()),
        )
    })
}

fn join(app: &App, name: &str) -> Result<(), Failure> {
    let dir = app.dir()?;
    if Profile::exists(&dir) {
        return Err(profile::ProfileError::Exists { path: dir }.into());
    }
    let keys = DeviceKeys::generate();
    let joining = Joining {
        strongroom_join: 1,
        name: name.to_owned(),
        sign_public: Bytes::from(*keys.sign.public().as_bytes()),
        kem_public: Bytes::from(keys.kem.public().as_bytes().as_slice()),
    };
    profile::store_pending(&dir, &keys)?;
    app.out.json_line(&joining)?;
    app.out.note(&format!("This device's keys begin with {}. Compare when the other device asks.", short(&joining)));
    Ok(())
}

fn add(app: &App, request: &std::path::Path, keep_share: bool, yes: bool) -> Result<(), Failure> {
    let text = prompt::read_all(request, FILE_BYTES_MAX)?;
    let joining: Joining = serde_json::from_slice(&text)
        .ok()
        .filter(|joining: &Joining| joining.strongroom_join == 1)
        .ok_or_else(|| Failure::usage("that is not what `strongroom devices join` printed"))?;
    let question = format!("Let in `{}`, whose keys begin with {}?", escape(&joining.name), short(&joining));
    app.prompter().confirm(&question, yes)?;
    let profile = app.profile()?;
    let request = DeviceRequest::DeviceAdd(DeviceAdd {
        name: joining.name,
        sign_public: joining.sign_public,
        kem_public: joining.kem_public,
        wants_share: keep_share,
    });
    let DeviceAnswer::DeviceAdded(added) = app.ask(&request)? else { return Err(unexpected()) };
    app.out.json_line(&Welcome {
        strongroom_welcome: 1,
        vault: profile.vault(),
        identity: Bytes::from(*profile.identity().as_bytes()),
        device: added.device,
        socket: profile.socket().to_owned(),
        sealed_credential: added.sealed_credential,
        sealed_share: added.sealed_share,
        seen: added.seen,
        policy: profile.policy()?,
    })
}

fn finish(app: &App, welcome: &std::path::Path) -> Result<(), Failure> {
    let text = prompt::read_all(welcome, FILE_BYTES_MAX)?;
    let welcome: Welcome = serde_json::from_slice(&text)
        .ok()
        .filter(|welcome: &Welcome| welcome.strongroom_welcome == 1)
        .ok_or_else(|| Failure::usage("that is not what `strongroom devices add` printed"))?;
    let dir = app.dir()?;
    let keys = profile::load_pending(&dir)?;
    let identity = PublicKey::from_bytes(&welcome.identity.0).map_err(|_| Failure::usage("the welcome is damaged"))?;
    let blob = credential::open_first(&keys, welcome.vault, welcome.device, &welcome.sealed_credential)?;
    let socket = app.global.socket.clone().unwrap_or(welcome.socket);
    let made = Profile::create(
        &dir,
        keys,
        &NewProfile {
            vault: welcome.vault,
            identity,
            device: welcome.device,
            socket: &socket,
            credential: &blob,
            sealed_share: welcome.sealed_share.as_ref().map(|share| share.0.as_slice()),
            seen: &welcome.seen,
            policy: &welcome.policy,
        },
    )?;
    profile::forget_pending(&dir)?;
    let fingerprint = made.fingerprint().to_string();
    app.out.result(&json!({ "vault": made.vault(), "device": made.device(), "fingerprint": fingerprint }), || {
        format!(
            "This device is in. The vault's fingerprint is\n  {fingerprint}\nCompare it with the one on your kit, then: strongroom unlock"
        )
    })
}

fn list(app: &App) -> Result<Vec<DeviceView>, Failure> {
    match app.ask(&DeviceRequest::DeviceList {})? {
        DeviceAnswer::Devices { devices } => Ok(devices),
        _ => Err(unexpected()),
    }
}

fn list_text(devices: &[DeviceView]) -> String {
    let row = |device: &DeviceView| {
        let notes = [
            (device.this, "this one"),
            (device.session, "session"),
            (device.frozen, "FROZEN: a copy of its credential was used"),
        ];
        let notes: Vec<&str> = notes.iter().filter(|(set, _)| *set).map(|(_, note)| *note).collect();
        let seen = device.last_seen_at.map_or_else(|| "-".to_owned(), human::relative);
        vec![device.id.to_string(), device.name.clone(), device.added_at.to_string(), seen, notes.join(", ")]
    };
    table(&["ID", "NAME", "ADDED", "LAST SEEN", ""], &devices.iter().map(row).collect::<Vec<_>>())
}

/// The first characters of the hash of a device's keys, for people to compare.
fn short(joining: &Joining) -> String {
    let hash = sha256(&[&joining.sign_public.0, &joining.kem_public.0]);
    let text = data_encoding::BASE32_NOPAD.encode(&hash[..10]);
    text.as_bytes().chunks(4).map(|group| String::from_utf8_lossy(group).into_owned()).collect::<Vec<_>>().join("-")
}

const FILE_BYTES_MAX: u64 = 1024 * 1024;

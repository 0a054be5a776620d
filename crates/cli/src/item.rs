//! `item`: add, list, show, edit, remove, history, restore. Secrets come in by prompt, standard input or file, and are never
//! shown again.

use clap::{Args, Subcommand};
use strongroom_client::generate::{self, Recipe};
use strongroom_client::session::Session;
use strongroom_client::wire::device::{DeviceAnswer, DeviceRequest, ItemEdit, ListQuery, VersionView};
use strongroom_client::wire::items::{FieldDraft, ItemDraft, ItemSummary, ItemView};
use strongroom_client::wire::policy::KeyPurpose;
use strongroom_client::wire::{Class, FieldName, ItemType, SecretValue};

use crate::app::{App, all_items, find_item, unexpected};
use crate::failure::Failure;
use crate::generate::GenerateArgs;
use crate::output::{escape, table};
use crate::policy::{self, PolicyArgs};
use crate::prompt::{self, Prompter};

/// `item …`
#[derive(Debug, Subcommand)]
pub(crate) enum ItemCommand {
    /// Add an item
    #[command(after_help = "Its main secret is asked for, unless a flag says where it comes from.

Examples:
  strongroom item add login GitHub --set username=me --set url=https://github.com --generate
  strongroom item add api_key Weather --host api.weather.example --stdin < key.txt
  strongroom item add api_key Storage --host s3.eu-central-1.amazonaws.com --place aws:AKIA…:eu-central-1:s3
  strongroom item add ssh_key \"Laptop key\" --generate
  strongroom item add signing_key Tokens --purpose jwt --generate
  strongroom item add totp Bank --from-file totp=otpauth.txt
  strongroom item add note Diary --from-file text=diary.txt")]
    Add(Box<Add>),
    /// List items
    #[command(after_help = "Examples:
  strongroom item list
  strongroom item list git --type login
  strongroom item list --removed")]
    List {
        /// Words that label, tags or type hold
        search: Option<String>,
        /// Only this type
        #[arg(long = "type", value_name = "TYPE")]
        item_type: Option<ItemType>,
        /// Removed items
        #[arg(long)]
        removed: bool,
    },
    /// Show an item, its secrets masked
    #[command(after_help = "Examples:
  strongroom item show GitHub
  strongroom item show GitHub --json")]
    Show {
        /// Its label or id
        item: String,
    },
    /// Change an item
    #[command(after_help = "Examples:
  strongroom item edit GitHub --label \"GitHub (work)\" --set username=me@work
  strongroom item edit GitHub --secret password
  strongroom item edit Weather --host api.weather.example --host api2.weather.example")]
    Edit(Box<Edit>),
    /// Remove an item; `item restore` brings it back until it is purged
    #[command(after_help = "Examples:
  strongroom item remove GitHub
  strongroom item remove GitHub --purge")]
    Remove {
        /// Its label or id
        item: String,
        /// Destroy its keys and history at once
        #[arg(long)]
        purge: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// List the versions of an item's fields
    History {
        /// Its label or id
        item: String,
    },
    /// Bring back a removed item, or an older version of a field
    #[command(after_help = "Examples:
  strongroom item restore GitHub
  strongroom item restore GitHub --field password --version 3")]
    Restore {
        /// Its label or id
        item: String,
        /// The field
        #[arg(long, value_name = "NAME", value_parser = parse_field, requires = "version")]
        field: Option<FieldName>,
        /// The version to bring back
        #[arg(long, value_name = "NUMBER", requires = "field")]
        version: Option<u64>,
    },
}

/// `item add`
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// login, api_key, ssh_key, signing_key, crypt_key, totp, card, identity, note or wallet
    #[arg(value_name = "TYPE")]
    pub(crate) item_type: ItemType,
    /// What you call it
    pub(crate) label: String,
    /// Words to find it by (repeat)
    #[arg(long, value_name = "WORD")]
    pub(crate) tag: Vec<String>,
    #[command(flatten)]
    pub(crate) fields: FieldArgs,
    /// Make the main secret: a password, or a key for a key item
    #[arg(long, conflicts_with = "stdin")]
    pub(crate) generate: bool,
    #[command(flatten)]
    pub(crate) recipe: GenerateArgs,
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,
}

/// `item edit`
#[derive(Debug, Args)]
pub(crate) struct Edit {
    /// Its label or id
    pub(crate) item: String,
    /// A new label
    #[arg(long, value_name = "LABEL")]
    pub(crate) label: Option<String>,
    /// New tags (repeat); they replace the old ones
    #[arg(long, value_name = "WORD", conflicts_with = "no_tags")]
    pub(crate) tag: Vec<String>,
    /// Remove all tags
    #[arg(long)]
    pub(crate) no_tags: bool,
    #[command(flatten)]
    pub(crate) fields: FieldArgs,
    /// Remove a field (repeat)
    #[arg(long, value_name = "NAME", value_parser = parse_field)]
    pub(crate) unset: Vec<FieldName>,
    /// Make a new main secret
    #[arg(long, conflicts_with = "stdin")]
    pub(crate) generate: bool,
    #[command(flatten)]
    pub(crate) recipe: GenerateArgs,
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,
}

/// Where the values of fields come from.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Fields")]
pub(crate) struct FieldArgs {
    /// A field that is no secret (repeat), such as username=me
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub(crate) set: Vec<(FieldName, String)>,
    /// A field to be asked for without showing it (repeat)
    #[arg(long, value_name = "NAME", value_parser = parse_field)]
    pub(crate) secret: Vec<FieldName>,
    /// A field from a file (repeat), `-` for standard input
    #[arg(long, value_name = "NAME=FILE", value_parser = parse_pair)]
    pub(crate) from_file: Vec<(FieldName, String)>,
    /// The main secret from standard input
    #[arg(long)]
    pub(crate) stdin: bool,
    /// Guard a field otherwise (repeat), such as seed=critical
    #[arg(long, value_name = "NAME=CLASS", value_parser = parse_pair)]
    pub(crate) class: Vec<(FieldName, String)>,
}

/// Runs `item …`.
pub(crate) fn run(app: &App, command: &ItemCommand) -> Result<(), Failure> {
    match command {
        ItemCommand::Add(args) => add(app, args),
        ItemCommand::List { search, item_type, removed } => {
            let query = ListQuery { search: search.clone(), item_type: *item_type, removed: *removed, after: None };
            let items = app.session(|session| all_items(session, query))?;
            app.out.result(&items, || list_text(&items))
        }
        ItemCommand::Show { item } => {
            let view = app.session(|session| show(session, item))?;
            app.out.result(&view, || view_text(&view))
        }
        ItemCommand::Edit(args) => edit(app, args),
        ItemCommand::Remove { item, purge, yes } => app.session(|session| {
            let item = find_item(session, item, *purge).or_else(|failure| match *purge {
                // Purging finds a removed item first, and a live one otherwise.
                true => find_item(session, item, false),
                false => Err(failure),
            })?;
            let question = match *purge {
                true => format!("Destroy `{}` with all its versions, for good?", escape(&item.label)),
                false => format!("Remove `{}`?", escape(&item.label)),
            };
            app.prompter().confirm(&question, *yes)?;
            session.ask(&DeviceRequest::ItemRemove { item: item.id, purge: *purge })?;
            app.out.done(
                match *purge {
                    true => "Destroyed.".to_owned(),
                    false => format!("Removed. Next: strongroom item restore {}", item.id),
                }
                .as_str(),
            )
        }),
        ItemCommand::History { item } => {
            let answer = app.session(|session| {
                let item = find_item(session, item, false)?.id;
                Ok(session.ask(&DeviceRequest::ItemHistory { item })?)
            })?;
            let DeviceAnswer::History { versions } = answer else { return Err(unexpected()) };
            app.out.result(&versions, || history_text(&versions))
        }
        ItemCommand::Restore { item, field, version } => app.session(|session| {
            let version = field.clone().zip(*version);
            let item = find_item(session, item, version.is_none())?.id;
            match session.ask(&DeviceRequest::ItemRestore { item, version })? {
                DeviceAnswer::Item(view) => app.out.result(&view, || format!("Restored.\n{}", view_text(&view))),
                _ => app.out.done("Restored."),
            }
        }),
    }
}

fn add(app: &App, args: &Add) -> Result<(), Failure> {
    let policy = args.policy.for_new(args.item_type)?;
    let main = args.item_type.main_field();
    let mut fields = args.fields.read(args.item_type, &app.prompter())?;
    if args.generate {
        push_generated(&mut fields, args.item_type, policy.key.map(|key| key.purpose), &args.label, &args.recipe)?;
    } else if !fields.iter().any(|field| field.name == main) {
        let value = app.prompter().hidden(&format!("{main}: "))?;
        if !value.is_empty() {
            fields.insert(
                0,
                FieldDraft {
                    class: args.fields.class_of(&main, args.item_type)?,
                    name: main,
                    value: SecretValue::new(value.as_bytes().to_vec()),
                },
            );
        }
    }
    let draft = ItemDraft {
        item_type: args.item_type,
        label: args.label.clone(),
        tags: args.tag.clone(),
        fields,
        policy,
        origin: None,
    };
    match app.ask(&DeviceRequest::ItemAdd(draft))? {
        DeviceAnswer::Item(view) => {
            app.out.result(&view, || format!("Added `{}` as {}.", escape(&view.summary.label), view.summary.id))
        }
        _ => Err(unexpected()),
    }
}

fn edit(app: &App, args: &Edit) -> Result<(), Failure> {
    app.session(|session| {
        let before = show(session, &args.item)?;
        let item_type = before.summary.item_type;
        let policy = args.policy.for_edit(&before.policy)?;
        let mut set = args.fields.read(item_type, &app.prompter())?;
        if args.generate {
            let purpose = policy.as_ref().unwrap_or(&before.policy).key.map(|key| key.purpose);
            push_generated(&mut set, item_type, purpose, &before.summary.label, &args.recipe)?;
        }
        let tags = match (args.no_tags, args.tag.is_empty()) {
            (true, _) => Some(Vec::new()),
            (false, true) => None,
            (false, false) => Some(args.tag.clone()),
        };
        let edit = ItemEdit {
            item: before.summary.id,
            if_version: Some(before.version),
            label: args.label.clone(),
            tags,
            set,
            remove: args.unset.clone(),
            policy,
        };
        if edit.label.is_none()
            && edit.tags.is_none()
            && edit.set.is_empty()
            && edit.remove.is_empty()
            && edit.policy.is_none()
        {
            return Err(Failure::usage("nothing to change").hint("strongroom item edit --help"));
        }
        match session.ask(&DeviceRequest::ItemEdit(edit))? {
            DeviceAnswer::Item(view) => app.out.result(&view, || format!("Changed.\n{}", view_text(&view))),
            _ => Err(unexpected()),
        }
    })
}

/// One item, masked.
fn show(session: &mut Session<'_>, name: &str) -> Result<ItemView, Failure> {
    let item = find_item(session, name, false)?.id;
    match session.ask(&DeviceRequest::ItemShow { item })? {
        DeviceAnswer::Item(view) => Ok(view),
        _ => Err(unexpected()),
    }
}

fn push_generated(
    fields: &mut Vec<FieldDraft>,
    item_type: ItemType,
    purpose: Option<KeyPurpose>,
    label: &str,
    recipe: &GenerateArgs,
) -> Result<(), Failure> {
    let main = item_type.main_field();
    fields.retain(|field| field.name != main);
    let mut push = |name: FieldName, value: SecretValue| {
        let class = item_type.class_of(name.as_str());
        fields.push(FieldDraft { name, class, value });
    };
    let pair = match (item_type, purpose) {
        (ItemType::CryptKey, _) => {
            push(main, generate::symmetric_key());
            return Ok(());
        }
        (ItemType::SshKey, _) | (ItemType::SigningKey, Some(KeyPurpose::Ssh)) => generate::ed25519_openssh(label),
        (ItemType::SigningKey, _) => generate::ed25519_pem(),
        (ItemType::Wallet | ItemType::Totp | ItemType::Card, _) => {
            return Err(Failure::usage(format!("a {item_type} is not generated here; bring its secret along")));
        }
        _ => {
            let value = Recipe::from(recipe).make().map_err(|e| Failure::usage(e.to_string()))?;
            push(main, SecretValue::new(value.as_bytes().to_vec()));
            return Ok(());
        }
    };
    push(main, pair.private);
    push(parse_field("public_key").map_err(Failure::usage)?, SecretValue::from(pair.public));
    Ok(())
}

impl FieldArgs {
    /// The fields, each value read from where its flag says.
    fn read(&self, item_type: ItemType, prompter: &Prompter) -> Result<Vec<FieldDraft>, Failure> {
        let mut fields = Vec::new();
        for (name, value) in &self.set {
            let class = self.class_of(name, item_type)?;
            if class >= Class::Secret {
                return Err(Failure::usage(format!(
                    "`{name}` is a secret; arguments are seen by other programs and kept by shells"
                ))
                .hint(format!("--secret {name} asks for it, --from-file {name}=FILE reads it, --class {name}=private declares it harmless")));
            }
            fields.push(FieldDraft { name: name.clone(), class, value: SecretValue::from(value.as_str()) });
        }
        if self.stdin {
            let name = item_type.main_field();
            let value = prompt::read_value("-".as_ref())?;
            fields.push(FieldDraft { class: self.class_of(&name, item_type)?, name, value });
        }
        for (name, path) in &self.from_file {
            let value = prompt::read_value(path.as_ref())?;
            fields.push(FieldDraft { class: self.class_of(name, item_type)?, name: name.clone(), value });
        }
        for name in &self.secret {
            let value = prompter.hidden(&format!("{name}: "))?;
            let value = SecretValue::new(value.as_bytes().to_vec());
            fields.push(FieldDraft { class: self.class_of(name, item_type)?, name: name.clone(), value });
        }
        Ok(fields)
    }

    fn class_of(&self, name: &FieldName, item_type: ItemType) -> Result<Class, Failure> {
        match self.class.iter().find(|(named, _)| named == name) {
            Some((_, class)) => class.parse().map_err(|e| Failure::usage(format!("--class {name}: {e}"))),
            None => Ok(item_type.class_of(name.as_str())),
        }
    }
}

fn list_text(items: &[ItemSummary]) -> String {
    if items.is_empty() {
        return "No items.".to_owned();
    }
    let row = |item: &ItemSummary| {
        vec![
            item.id.to_string(),
            item.item_type.to_string(),
            item.label.clone(),
            item.tags.join(", "),
            item.changed_at.to_string(),
        ]
    };
    table(&["ID", "TYPE", "LABEL", "TAGS", "CHANGED"], &items.iter().map(row).collect::<Vec<_>>())
}

fn view_text(view: &ItemView) -> String {
    let ItemView { summary, fields, policy, .. } = view;
    let mut text = format!("{}  ({}, {})\n", escape(&summary.label), summary.item_type, summary.id);
    if !summary.tags.is_empty() {
        text.push_str(&format!("  tags: {}\n", escape(&summary.tags.join(", "))));
    }
    let rows: Vec<Vec<String>> = fields
        .iter()
        .map(|field| {
            let value = field.value.clone().unwrap_or_else(|| "••••••••".to_owned());
            vec![format!("  {}", field.name), value, field.class.to_string(), format!("v{}", field.version)]
        })
        .collect();
    text.push_str(&table(&["  FIELD", "VALUE", "CLASS", "VERSION"], &rows));
    if let Some(http) = &policy.http {
        let hosts: Vec<String> = http.hosts.iter().map(ToString::to_string).collect();
        text.push_str(&format!(
            "  goes to: {} as {}",
            escape(&hosts.join(", ")),
            escape(&policy::placement(&http.placement))
        ));
        for (set, what) in [
            (http.allow_private, "private addresses"),
            (http.allow_short, "short secret"),
            (http.roots_pem.is_some(), "own roots"),
        ] {
            if set {
                text.push_str(&format!(", {what}"));
            }
        }
        text.push('\n');
    }
    if let Some(key) = policy.key {
        text.push_str(&format!("  key for: {} with {}\n", key.purpose, key.algorithm));
    }
    text
}

fn history_text(versions: &[VersionView]) -> String {
    let row = |version: &VersionView| {
        let current = if version.current { "current" } else { "" };
        vec![version.field.to_string(), version.version.to_string(), version.changed_at.to_string(), current.to_owned()]
    };
    table(&["FIELD", "VERSION", "WRITTEN", ""], &versions.iter().map(row).collect::<Vec<_>>())
}

fn parse_field(text: &str) -> Result<FieldName, String> {
    FieldName::parse(text).map_err(|e| e.to_string())
}

fn parse_pair(text: &str) -> Result<(FieldName, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| "expected NAME=VALUE".to_owned())?;
    Ok((parse_field(name)?, value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_an_argument() {
        let args = FieldArgs { set: vec![parse_pair("password=hunter2").unwrap()], ..FieldArgs::default() };
        let failure = args.read(ItemType::Login, &Prompter::default()).unwrap_err();
        assert!(!failure.to_string().contains("hunter2"));
        // A name that is not usual for the type counts as secret, too.
        let odd = FieldArgs { set: vec![parse_pair("pin2=1").unwrap()], ..FieldArgs::default() };
        assert!(odd.read(ItemType::Login, &Prompter::default()).is_err());
        let plain = FieldArgs { set: vec![parse_pair("username=me=you").unwrap()], ..FieldArgs::default() };
        assert_eq!(plain.read(ItemType::Login, &Prompter::default()).unwrap()[0].value.expose(), b"me=you");
    }

    #[test]
    fn key_items_get_keys() {
        let recipe = GenerateArgs::default();
        let mut fields = Vec::new();
        push_generated(&mut fields, ItemType::SshKey, Some(KeyPurpose::Ssh), "laptop", &recipe).unwrap();
        assert_eq!(fields[1].name.as_str(), "public_key");
        assert_eq!((fields[0].class, fields[1].class), (Class::Secret, Class::Private));
        let mut fields = Vec::new();
        push_generated(&mut fields, ItemType::CryptKey, None, "k", &recipe).unwrap();
        assert_eq!(fields[0].value.expose().len(), 32);
        assert!(push_generated(&mut Vec::new(), ItemType::Wallet, None, "w", &recipe).is_err());
    }
}

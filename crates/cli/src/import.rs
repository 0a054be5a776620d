//! `import` and `export`: other programs' files. Reading one is the work of a jailed child without keys and without a network.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use clap::{Args, ValueEnum};
use serde_json::json;
use strongroom_client::deliver;
use strongroom_client::files;
use strongroom_client::session::Session;
use strongroom_client::wire::device::{DeviceAnswer, DeviceRequest, ImportOutcome};
use strongroom_client::wire::items::ItemDraft;
use strongroom_client::wire::limits::FRAME_BYTES_MAX;
use strongroom_client::wire::{ItemId, SecretValue};
use strongroom_import::export::{self, ExportField, ExportItem, Exported};
use strongroom_import::limits::INPUT_BYTES_MAX;
use strongroom_import::{BadRow, Head, ImportRefused, Kind, NotCarried, Record, Summary, read_records, write_request};
use zeroize::Zeroizing;

use crate::app::{App, unexpected};
use crate::code::OwnCode;
use crate::exit::Exit;
use crate::failure::{Failure, chain};
use crate::output::{escape, write_out};
use crate::progress;
use crate::prompt;

/// `import`
#[derive(Debug, Args)]
#[command(
    after_help = "Reads Bitwarden JSON (plain or with a password), KeePass KDBX 4, the CSV of Chrome, Firefox and Safari, and .env
files. A repeated import makes no duplicates: it updates what it brought before, and keeps what you changed or removed here
since and what guests were granted, unless --overwrite says otherwise. What could not be carried is listed.

Examples:
  strongroom import bitwarden.json --dry-run
  strongroom import passwords.kdbx --key-file key.keyx
  strongroom import .env --scope shop"
)]
pub(crate) struct Import {
    /// The file
    pub(crate) file: PathBuf,
    /// bitwarden, keepass, chrome, firefox, safari or env; found out where not named
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<Kind>,
    /// Only say what would come in
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Replace also what was changed or removed here since, and what guests were granted; older values stay in the history
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Do not ask before that
    #[arg(long, requires = "overwrite")]
    pub(crate) yes: bool,
    /// The file's password, from a file of its own; asked for where it is needed
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// The key file of a KeePass database
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Tells apart files whose entries have no ids, such as the .env files of two projects
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(crate) scope: String,
}

/// `export`
#[derive(Debug, Args)]
#[command(after_help = "The file holds every secret in the clear: encrypt or destroy it when it has served.

Examples:
  strongroom export --to vault.json
  strongroom export --format csv --to logins.csv
  strongroom export --to - | age -r age1… > vault.json.age")]
pub(crate) struct Export {
    /// The new file (mode 0600), `-` for standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,
    /// The format
    #[arg(long, value_enum, default_value_t = Format::Bitwarden)]
    pub(crate) format: Format,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// A format to export to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Bitwarden's plain JSON: everything
    Bitwarden,
    /// The CSV of browsers: logins alone
    Csv,
    /// NAME="value" lines: secrets alone
    Env,
}

/// What a child made of a file.
#[derive(Default)]
struct Read {
    items: Vec<ItemDraft>,
    not_carried: Vec<NotCarried>,
    bad_rows: Vec<BadRow>,
    summary: Option<Summary>,
}

/// Runs `import`.
pub(crate) fn import(app: &App, args: &Import) -> Result<(), Failure> {
    let read = read_file(app, args)?;
    let summary = read.summary.ok_or_else(unexpected)?;
    let mut items = read.items;
    let outcomes = app.session(|session| {
        if args.overwrite && !args.yes && !args.dry_run {
            let kept = send(app, session, &mut items, How { dry_run: true, overwrite: false })?;
            confirm(app, &labels(&items, &kept, ImportOutcome::Kept))?;
        }
        send(app, session, &mut items, How { dry_run: args.dry_run, overwrite: args.overwrite })
    })?;
    let count = |outcome| outcomes.iter().filter(|one| **one == outcome).count();
    let updated = labels(&items, &outcomes, ImportOutcome::Updated);
    let kept = labels(&items, &outcomes, ImportOutcome::Kept);
    let shown = json!({
        "dry_run": args.dry_run,
        "kind": summary.kind,
        "added": count(ImportOutcome::Added),
        "updated": count(ImportOutcome::Updated),
        "updated_items": updated,
        "unchanged": count(ImportOutcome::Unchanged),
        "kept": kept.len(),
        "kept_items": kept,
        "refused": count(ImportOutcome::Refused),
        "not_carried": read.not_carried,
        "bad_rows": read.bad_rows,
        "not_carried_in_all": summary.not_carried,
        "bad_rows_in_all": summary.bad_rows,
    });
    app.out.result(&shown, || {
        let would = if args.dry_run { "Would come in" } else { "Imported" };
        let mut text = format!(
            "{would} from {}: {} added, {} updated, {} unchanged, {} kept, {} refused.\n",
            summary.kind,
            count(ImportOutcome::Added),
            count(ImportOutcome::Updated),
            count(ImportOutcome::Unchanged),
            kept.len(),
            count(ImportOutcome::Refused),
        );
        text.push_str(&named("Updated", &updated));
        let sentence = "Kept, because they were changed or removed here since, or a guest was granted them (--overwrite \
                        replaces them)";
        text.push_str(&named(sentence, &kept));
        let rows: Vec<String> = read.bad_rows.iter().map(ToString::to_string).collect();
        text.push_str(&listed("Skipped, because they could not be read", &rows, summary.bad_rows));
        let lines: Vec<String> = read.not_carried.iter().map(ToString::to_string).collect();
        text.push_str(&listed("Not carried, or not as it was", &lines, summary.not_carried));
        if args.dry_run {
            text.push_str("Nothing was changed. Without --dry-run it comes in.\n");
        }
        text
    })
}

/// The labels of the items of which this came.
fn labels<'i>(items: &'i [ItemDraft], outcomes: &[ImportOutcome], wanted: ImportOutcome) -> Vec<&'i str> {
    let of_each = items.iter().zip(outcomes);
    of_each.filter(|(_, outcome)| **outcome == wanted).map(|(item, _)| item.label.as_str()).collect()
}

/// Asks before values are replaced that the file alone should not replace.
fn confirm(app: &App, kept: &[&str]) -> Result<(), Failure> {
    if kept.is_empty() {
        return Ok(());
    }
    app.out.note(named("Changed or removed here since, or granted to a guest", kept).trim_end());
    app.prompter().confirm("Replace their values by those of the file?", false)
}

/// A list of labels, not too long to be read.
fn named(heading: &str, labels: &[&str]) -> String {
    let shown: Vec<String> = labels.iter().take(LABELS_SHOWN_MAX).map(ToString::to_string).collect();
    listed(heading, &shown, labels.len() as u64)
}

/// Runs `export`.
pub(crate) fn export(app: &App, args: &Export) -> Result<(), Failure> {
    app.prompter().confirm("Write every secret of this vault in the clear?", args.yes)?;
    let bar = progress::bar(app, "items");
    let items =
        app.session(|session| fetch_all(session, |done, total| progress::advance(bar.as_ref(), done, total)))?;
    progress::finish(bar);
    let Exported { file, not_carried } = match args.format {
        Format::Bitwarden => export::bitwarden_json(&items),
        Format::Csv => export::csv(&items),
        Format::Env => export::env(&items),
    };
    // EXPOSE: the file is what the member asked for.
    if args.to == Path::new("-") {
        write_out(file.expose())?;
    } else {
        files::create(&args.to, file.expose())?;
        let shown = json!({ "items": items.len(), "file": args.to, "not_carried": not_carried });
        app.out.result(&shown, || format!("Wrote {} items to {}.", items.len(), args.to.display()))?;
    }
    if !app.out.json {
        let lines: Vec<String> = not_carried.iter().map(ToString::to_string).collect();
        let text = listed("Not carried, or not as it was", &lines, lines.len() as u64);
        if !text.is_empty() {
            app.out.note(text.trim_end());
        }
    }
    Ok(())
}

/// The child that reads the file: jailed before the first byte of it is looked at.
pub(crate) fn child() -> Result<(), Failure> {
    strongroom_jail::Jail::compute_only()
        .apply()
        .map_err(|e| Failure::local("the reader of imports could not be jailed", &e))?;
    strongroom_import::child_main(std::io::stdin().lock(), std::io::stdout().lock())
        .map_err(|e| Failure::local("the reader of imports broke off", &e))
}

fn read_file(app: &App, args: &Import) -> Result<Read, Failure> {
    let file = prompt::read_all(&args.file, INPUT_BYTES_MAX)?;
    let mut head = Head {
        file_bytes: file.len() as u64,
        kind: args.kind,
        password: args.password_file.as_deref().map(prompt::read_value).transpose()?,
        key_file: match &args.key_file {
            Some(path) => Some(SecretValue::new(prompt::read_all(path, 1024 * 1024)?.to_vec())),
            None => None,
        },
        scope: args.scope.clone(),
    };
    match run_child(app, &head, &file)? {
        Err(ImportRefused::PasswordNeeded) if head.password.is_none() => {
            let password = app.prompter().hidden("Password of the file: ")?;
            head.password = Some(SecretValue::new(password.as_bytes().to_vec()));
            run_child(app, &head, &file)?.map_err(refused)
        }
        read => read.map_err(refused),
    }
}

fn run_child(app: &App, head: &Head, file: &[u8]) -> Result<Result<Read, ImportRefused>, Failure> {
    let failed = |e: std::io::Error| Failure::local("the reader of imports could not be started", &e);
    let program = std::env::current_exe().map_err(failed)?;
    let mut child = Ended(
        Command::new(program)
            .args(["internal", "read-import"])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Not the member's terminal: whoever takes the reader over could write to it, and read from it.
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?,
    );
    let (Some(input), Some(output)) = (child.0.stdin.take(), child.0.stdout.take()) else { return Err(unexpected()) };
    let bar = progress::bar(app, "entries");
    let read = thread::scope(|scope| {
        // The child answers while it reads, so both pipes are served at once. A pipe that breaks is explained by its records.
        let writer = scope.spawn(move || write_request(input, head, file));
        let mut read = Read::default();
        for record in read_records(output) {
            match record.map_err(|e| Failure::new(Exit::Local, OwnCode::ImportFailed, chain(&e)))? {
                Record::Item(item) => read.items.push(item),
                Record::NotCarried(line) => read.not_carried.push(line),
                Record::BadRow(row) => read.bad_rows.push(row),
                Record::Progress { done, total } => progress::advance(bar.as_ref(), done, total),
                Record::Done(summary) => read.summary = Some(summary),
                Record::Refused(refused) => return Ok(Err(refused)),
            }
        }
        match writer.join() {
            Ok(Err(e)) if e.kind() == std::io::ErrorKind::InvalidInput => Err(Failure::usage(e.to_string())),
            _ => Ok(Ok(read)),
        }
    });
    progress::finish(bar);
    read
}

/// A child that does not outlive its reader.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends the items in as few requests as fit, and gives what came of each. They are the caller's again afterwards.
fn send(
    app: &App,
    session: &mut Session<'_>,
    items: &mut Vec<ItemDraft>,
    how: How,
) -> Result<Vec<ImportOutcome>, Failure> {
    let total = items.len() as u64;
    let bar = progress::bar(app, "items");
    let mut outcomes = Vec::with_capacity(items.len());
    let mut batch: Vec<ItemDraft> = Vec::new();
    let mut batch_bytes = 0;
    let mut sent = Vec::with_capacity(items.len());
    let mut rest = std::mem::take(items).into_iter().peekable();
    while let Some(item) = rest.next() {
        batch_bytes += json_bytes(&item);
        batch.push(item);
        let next = rest.peek().map_or(usize::MAX, json_bytes);
        if batch.len() == BATCH_ITEMS_MAX || batch_bytes.saturating_add(next) > BATCH_BYTES_MAX {
            let count = batch.len();
            let How { dry_run, overwrite } = how;
            let request = DeviceRequest::ItemImport { drafts: std::mem::take(&mut batch), dry_run, overwrite };
            let DeviceAnswer::Imported { outcomes: of_batch } = session.ask(&request)? else {
                return Err(unexpected());
            };
            if of_batch.len() != count {
                return Err(unexpected());
            }
            outcomes.extend(of_batch);
            // Not copied: each holds secrets.
            if let DeviceRequest::ItemImport { drafts, .. } = request {
                sent.extend(drafts);
            }
            batch_bytes = 0;
            progress::advance(bar.as_ref(), outcomes.len() as u64, total);
        }
    }
    progress::finish(bar);
    *items = sent;
    Ok(outcomes)
}

/// How long an item is in a request.
fn json_bytes(item: &ItemDraft) -> usize {
    let json = Zeroizing::new(serde_json::to_vec(item).unwrap_or_default());
    json.len() + 1
}

fn fetch_all(session: &mut Session<'_>, mut progress: impl FnMut(u64, u64)) -> Result<Vec<ExportItem>, Failure> {
    let DeviceAnswer::Status(status) = session.ask(&DeviceRequest::Status {})? else { return Err(unexpected()) };
    let total = status.items.unwrap_or(0);
    let mut items: Vec<ExportItem> = Vec::new();
    let mut after = None;
    loop {
        // An item is on one page, whole.
        let mut of_page: HashMap<ItemId, usize> = HashMap::new();
        let (values, next) = deliver::fetch_page(session, after)?;
        for delivered in values {
            let at = *of_page.entry(delivered.reference.item).or_insert(items.len());
            if at == items.len() {
                let summary = delivered.item.ok_or_else(unexpected)?;
                items.push(ExportItem {
                    item_type: summary.item_type,
                    label: summary.label,
                    tags: summary.tags,
                    fields: Vec::new(),
                    origin: None,
                });
            }
            let item = &mut items[at];
            let class = item.item_type.class_of(delivered.reference.field.as_str());
            item.fields.push(ExportField { name: delivered.reference.field, class, value: delivered.value });
        }
        progress(items.len() as u64, total);
        match next {
            Some(_) if next == after => return Err(unexpected()),
            Some(_) => after = next,
            None => return Ok(items),
        }
    }
}

fn refused(refused: ImportRefused) -> Failure {
    Failure::new(Exit::Usage, OwnCode::ImportRefused, refused.to_string()).hint("strongroom import --help")
}

fn listed(heading: &str, lines: &[String], in_all: u64) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let mut text = format!("{heading}:\n");
    for line in lines {
        text.push_str(&format!("  - {}\n", escape(line)));
    }
    let more = in_all.saturating_sub(lines.len() as u64);
    if more > 0 {
        text.push_str(&format!("  and {more} more\n"));
    }
    text
}

/// What an import may do.
#[derive(Clone, Copy)]
struct How {
    dry_run: bool,
    overwrite: bool,
}

/// Labels of one list on the screen; `--json` has all of them.
const LABELS_SHOWN_MAX: usize = 50;
const BATCH_ITEMS_MAX: usize = 256;
/// Room is left for the envelope around the items.
const BATCH_BYTES_MAX: usize = FRAME_BYTES_MAX - 16 * 1024;

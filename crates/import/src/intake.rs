//! One import: the options, the parser by kind, and what all parsers put their findings into.

use std::collections::{BTreeMap, HashMap};
use std::io;

use sha2::{Digest, Sha256};
use strongroom_wire::SecretValue;
use strongroom_wire::items::Origin;
use strongroom_wire::limits::ITEMS_MAX;

use crate::draft::Draft;
use crate::kind::Kind;
use crate::limits::{INPUT_BYTES_MAX, ORIGIN_ID_CHARS_MAX, REPORT_LINES_MAX};
use crate::record::{Record, Summary};
use crate::refused::ImportRefused;
use crate::report::{BadRow, NotCarried, Place, Reason, RowFault};
use crate::{bitwarden, browser, dotenv, kdbx};

/// How a file is to be read.
#[derive(Debug, Default)]
pub struct Options {
    /// The kind, where the member named it; else it is detected.
    pub kind: Option<Kind>,
    /// The export's password.
    pub password: Option<SecretValue>,
    /// The content of a KeePass key file.
    pub key_file: Option<SecretValue>,
    /// Tells apart files whose entries have no ids of their own, such as the `.env` files of two projects: part of their
    /// origins. Name the same file the same way each time.
    pub scope: String,
}

/// Takes the records of an import, in order.
pub trait Sink {
    /// Takes one record.
    ///
    /// # Errors
    /// What stopped it from being taken; the import ends with it.
    fn take(&mut self, record: Record) -> io::Result<()>;
}

impl Sink for Vec<Record> {
    fn take(&mut self, record: Record) -> io::Result<()> {
        self.push(record);
        Ok(())
    }
}

/// Why an import ended early.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be imported; records taken so far should be thrown away.
    #[error(transparent)]
    Refused(#[from] ImportRefused),
    /// A record could not be handed over.
    #[error("a record could not be handed over")]
    Output(#[from] io::Error),
}

/// Imports one file: every item, report line and progress goes to the sink; the summary counts them.
///
/// # Errors
/// [`ImportError::Refused`] where the file as a whole cannot be read, [`ImportError::Output`] where the sink refuses.
pub fn import(file: &[u8], options: &Options, sink: &mut dyn Sink) -> Result<Summary, ImportError> {
    if file.len() as u64 > INPUT_BYTES_MAX {
        return Err(ImportRefused::TooLarge.into());
    }
    let kind = options.kind.map_or_else(|| Kind::detect(file), Ok)?;
    if file.is_empty() {
        return Err(ImportRefused::Empty.into());
    }
    let mut intake = Intake::new(kind, sink);
    match kind {
        Kind::Bitwarden => bitwarden::read(file, options, &mut intake)?,
        Kind::KeePass => kdbx::read(file, options, &mut intake)?,
        Kind::Chrome | Kind::Firefox | Kind::Safari => browser::read(file, kind, &mut intake)?,
        Kind::Env => dotenv::read(file, options, &mut intake)?,
    }
    intake.finish()
}

/// What a parser puts its findings into.
pub(crate) struct Intake<'s> {
    sink: &'s mut dyn Sink,
    summary: Summary,
    origins: HashMap<String, u64>,
    tallies: BTreeMap<(String, Reason), u64>,
    percent: u64,
}

impl<'s> Intake<'s> {
    pub(crate) fn new(kind: Kind, sink: &'s mut dyn Sink) -> Self {
        let summary = Summary { kind, items: 0, not_carried: 0, bad_rows: 0 };
        Self { sink, summary, origins: HashMap::new(), tallies: BTreeMap::new(), percent: 0 }
    }

    /// Takes an item with what it lost. `id` is what the source knows it by; a second item with the same gets a number.
    pub(crate) fn item(&mut self, draft: Draft, id: &str) -> Result<(), ImportError> {
        let (mut item, place, lost) = draft.finish();
        for (what, reason) in lost {
            self.not_carried(place.clone(), &what, reason)?;
        }
        if item.fields.is_empty() {
            return self.not_carried(place, "an entry without any value", Reason::Empty);
        }
        if self.summary.items >= ITEMS_MAX as u64 {
            self.tally("entries beyond those a vault holds", Reason::TooMany, 1);
            return Ok(());
        }
        item.origin = Some(Origin { source: self.summary.kind.as_str().to_owned(), id: self.unique(id) });
        self.summary.items += 1;
        self.sink.take(Record::Item(item))?;
        Ok(())
    }

    /// Reports something that was not carried.
    pub(crate) fn not_carried(&mut self, place: Place, what: &str, reason: Reason) -> Result<(), ImportError> {
        self.report(NotCarried::new(place, what, reason, 1))
    }

    /// Counts something that all entries have; one line in the end stands for all of them.
    pub(crate) fn tally(&mut self, what: &str, reason: Reason, count: u64) {
        if count > 0 {
            *self.tallies.entry((what.to_owned(), reason)).or_default() += count;
        }
    }

    /// Reports an entry that was skipped.
    pub(crate) fn bad_row(&mut self, place: Place, fault: RowFault) -> Result<(), ImportError> {
        self.summary.bad_rows += 1;
        if self.summary.bad_rows <= REPORT_LINES_MAX {
            self.sink.take(Record::BadRow(BadRow { place, fault }))?;
        }
        Ok(())
    }

    /// Says how far the parser is, at most once a percent.
    pub(crate) fn progress(&mut self, done: u64, total: u64) -> Result<(), ImportError> {
        let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100);
        if percent > self.percent && done <= total {
            self.percent = percent;
            self.sink.take(Record::Progress { done, total })?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Summary, ImportError> {
        for ((what, reason), count) in std::mem::take(&mut self.tallies) {
            self.report(NotCarried::new(Place::default(), &what, reason, count))?;
        }
        Ok(self.summary)
    }

    fn report(&mut self, line: NotCarried) -> Result<(), ImportError> {
        self.summary.not_carried += 1;
        if self.summary.not_carried <= REPORT_LINES_MAX {
            self.sink.take(Record::NotCarried(line))?;
        }
        Ok(())
    }

    /// An origin id that no item before it has. An id of another program may hold anything, so one that is long or not
    /// plain text is replaced by its digest.
    fn unique(&mut self, id: &str) -> String {
        let plain = !id.is_empty() && id.len() <= ORIGIN_ID_CHARS_MAX - 24 && id.bytes().all(|b| b.is_ascii_graphic());
        let id = if plain { id.to_owned() } else { digest(&[id]) };
        let seen = self.origins.entry(id.clone()).or_default();
        *seen += 1;
        if *seen == 1 { id } else { format!("{id}#{seen}") }
    }
}

/// The id of an entry that has none: SHA-256 over the parts that identify it, each after its length, in base64url.
pub(crate) fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    hash.update(b"strongroom/v1/import-origin");
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    data_encoding::BASE64URL_NOPAD.encode(&hash.finalize())
}

//! The records that the child writes and the device reads: JSON, each after its length as 4 bytes, big-endian.
//!
//! The child may have been taken over by the file it reads. So the reader bounds every length and number, lets through
//! only texts that are safe to show, and refuses an item that says where its secrets may go or that lowers the class of a
//! usual field: those are the member's to decide.

use std::collections::HashSet;
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use strongroom_wire::Class;
use strongroom_wire::items::ItemDraft;
use strongroom_wire::limits::{ITEM_BYTES_MAX, ITEM_FIELDS_MAX, ITEMS_MAX, LABEL_CHARS_MAX, TAGS_MAX};
use zeroize::Zeroizing;

use crate::kind::Kind;
use crate::limits::{ORIGIN_ID_CHARS_MAX, RECORD_BYTES_MAX, RECORDS_BYTES_MAX, RECORDS_MAX};
use crate::refused::ImportRefused;
use crate::report::{BadRow, NotCarried};
use crate::text::is_one_line;

/// One thing the child says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Record {
    /// An item, with its origin.
    Item(ItemDraft),
    /// Something that was not carried.
    NotCarried(NotCarried),
    /// An entry that was skipped.
    BadRow(BadRow),
    /// How far it is, in units of the file's kind.
    Progress {
        /// Units done.
        done: u64,
        /// Units in all.
        total: u64,
    },
    /// The end: everything was read.
    Done(Summary),
    /// The end: the file cannot be imported, and records before this one should be thrown away.
    Refused(ImportRefused),
}

/// What an import found. The counts include lines beyond those that were written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// The kind the file was read as.
    pub kind: Kind,
    /// Items.
    pub items: u64,
    /// Report lines of what was not carried.
    pub not_carried: u64,
    /// Entries skipped.
    pub bad_rows: u64,
}

/// Why the child's records were not read to their end. The child is to be stopped, and the import has failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordsError {
    /// The pipe broke.
    #[error("the import's records could not be read")]
    Read(#[source] io::Error),
    /// The child ended without saying how it went: it crashed, or its time or memory ran out.
    #[error("the import ended in the middle; the file may ask for more time or memory than an import has")]
    CutShort,
    /// The child said something that it never should.
    #[error("the import was stopped: {0}")]
    Misbehaved(&'static str),
}

/// Reads the child's records, up to and including [`Record::Done`] or [`Record::Refused`].
pub fn read_records<R: Read>(input: R) -> Records<R> {
    Records { input, frame: Zeroizing::new(Vec::new()), kind: None, items: 0, records: 0, bytes: 0, ended: false }
}

/// The records of one child; ends after the last record or the first error.
#[derive(Debug)]
pub struct Records<R> {
    input: R,
    frame: Zeroizing<Vec<u8>>,
    kind: Option<String>,
    items: u64,
    records: u64,
    bytes: u64,
    ended: bool,
}

impl<R: Read> Records<R> {
    fn read(&mut self) -> Result<Record, RecordsError> {
        self.fill_frame()?;
        let record = serde_json::from_slice(&self.frame)
            .map_err(|_| RecordsError::Misbehaved("it sent something that is no record"))?;
        self.check(&record)?;
        Ok(record)
    }

    fn fill_frame(&mut self) -> Result<(), RecordsError> {
        let mut length = [0; 4];
        read_exactly(&mut self.input, &mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        self.records += 1;
        self.bytes += length as u64;
        if length > RECORD_BYTES_MAX || self.records > RECORDS_MAX || self.bytes > RECORDS_BYTES_MAX {
            return Err(RecordsError::Misbehaved("it sent more than an import can hold"));
        }
        // Reserved in full once, so that growing leaves no copy behind.
        self.frame.clear();
        self.frame.reserve_exact(RECORD_BYTES_MAX);
        self.frame.resize(length, 0);
        read_exactly(&mut self.input, &mut self.frame)
    }

    fn check(&mut self, record: &Record) -> Result<(), RecordsError> {
        let fit = match record {
            Record::Item(item) => {
                self.items += 1;
                check_item(item)?;
                self.items <= ITEMS_MAX as u64 && self.is_of_one_source(item)
            }
            Record::NotCarried(line) => line.is_fit(),
            Record::BadRow(row) => row.is_fit(),
            Record::Progress { done, total } => done <= total,
            Record::Done(summary) => {
                self.ended = true;
                summary.items == self.items && self.kind.as_deref().is_none_or(|kind| kind == summary.kind.as_str())
            }
            Record::Refused(_) => {
                self.ended = true;
                true
            }
        };
        if fit { Ok(()) } else { Err(RecordsError::Misbehaved("it sent a record that does not fit")) }
    }

    fn is_of_one_source(&mut self, item: &ItemDraft) -> bool {
        let Some(origin) = &item.origin else { return false };
        let source = self.kind.get_or_insert_with(|| origin.source.clone());
        *source == origin.source && source.parse::<Kind>().is_ok()
    }
}

impl<R: Read> Iterator for Records<R> {
    type Item = Result<Record, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let record = self.read();
        self.ended |= record.is_err();
        Some(record)
    }
}

/// Writes records as frames, from one buffer that never grows.
pub(crate) struct RecordWriter<W> {
    output: W,
    frame: Zeroizing<Vec<u8>>,
}

impl<W: Write> RecordWriter<W> {
    pub(crate) fn new(output: W) -> Self {
        Self { output, frame: Zeroizing::new(Vec::with_capacity(RECORD_BYTES_MAX)) }
    }

    pub(crate) fn write(&mut self, record: &Record) -> io::Result<()> {
        self.frame.clear();
        serde_json::to_writer(Bounded(&mut self.frame), record)?;
        let length = u32::try_from(self.frame.len()).expect("a record is shorter than RECORD_BYTES_MAX");
        self.output.write_all(&length.to_be_bytes())?;
        self.output.write_all(&self.frame)
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// Fills a buffer up to its capacity and no further.
struct Bounded<'b>(&'b mut Vec<u8>);

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > RECORD_BYTES_MAX {
            return Err(io::Error::other("a record is longer than its limit"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn read_exactly(input: &mut impl Read, buffer: &mut [u8]) -> Result<(), RecordsError> {
    input.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => RecordsError::CutShort,
        _ => RecordsError::Read(error),
    })
}

fn check_item(item: &ItemDraft) -> Result<(), RecordsError> {
    let misbehaved = |what| Err(RecordsError::Misbehaved(what));
    if !item.policy.is_empty() {
        return misbehaved("it sent an item that says where its secrets may go");
    }
    let mut names = HashSet::new();
    let unique = item.fields.iter().all(|field| names.insert(&field.name));
    if item.fields.is_empty() || item.fields.len() > ITEM_FIELDS_MAX || !unique {
        return misbehaved("it sent an item with too many or ambiguous fields");
    }
    if item.fields.iter().any(|field| field.class < least_class(item, field.name.as_str())) {
        return misbehaved("it sent a field whose class is too low");
    }
    // EXPOSE: only lengths are looked at.
    let values: usize = item.fields.iter().map(|field| field.name.as_str().len() + field.value.expose().len()).sum();
    let tags: usize = item.tags.iter().map(String::len).sum();
    if item.label.len() + tags + values > ITEM_BYTES_MAX || item.tags.len() > TAGS_MAX {
        return misbehaved("it sent an item that is too large");
    }
    let texts = std::iter::once(&item.label).chain(&item.tags);
    let fit = texts.into_iter().all(|text| !text.is_empty() && is_one_line(text, LABEL_CHARS_MAX));
    let origin = item.origin.as_ref().is_some_and(|origin| {
        !origin.id.is_empty()
            && origin.id.len() <= ORIGIN_ID_CHARS_MAX
            && origin.id.bytes().all(|byte| byte.is_ascii_graphic())
    });
    if fit && origin { Ok(()) } else { misbehaved("it sent an item whose texts do not fit") }
}

/// A usual field keeps its class; a field of another program may be private, never public.
fn least_class(item: &ItemDraft, field: &str) -> Class {
    let usual = item.item_type.usual_fields().iter().find(|(name, _)| *name == field);
    usual.map_or(Class::Private, |(_, class)| *class)
}

#[cfg(test)]
mod tests {
    use strongroom_wire::items::{FieldDraft, Origin};
    use strongroom_wire::policy::{HttpPolicy, ItemPolicy, Placement};
    use strongroom_wire::{FieldName, ItemType, SecretValue};

    use super::*;

    fn item() -> ItemDraft {
        ItemDraft {
            item_type: ItemType::Login,
            label: "Example".into(),
            tags: vec!["Work".into()],
            fields: vec![FieldDraft {
                name: FieldName::parse("password").expect("well-formed"),
                class: Class::Secret,
                value: SecretValue::from("made-up"),
            }],
            policy: ItemPolicy::default(),
            origin: Some(Origin { source: "bitwarden".into(), id: "1".into() }),
        }
    }

    fn read(records: &[Record]) -> Vec<Result<Record, RecordsError>> {
        let mut bytes = Vec::new();
        let mut writer = RecordWriter::new(&mut bytes);
        for record in records {
            writer.write(record).expect("a record fits");
        }
        read_records(bytes.as_slice()).collect()
    }

    fn done(items: u64) -> Record {
        Record::Done(Summary { kind: Kind::Bitwarden, items, not_carried: 0, bad_rows: 0 })
    }

    #[test]
    fn reads_what_was_written() {
        let records = read(&[Record::Progress { done: 1, total: 1 }, Record::Item(item()), done(1)]);
        assert!(records.iter().all(Result::is_ok), "{records:?}");
        assert_eq!(records.len(), 3);
    }

    #[test]
    fn a_hostile_item_stops_the_import() {
        let http = HttpPolicy {
            hosts: vec![],
            placement: Placement::Bearer,
            allow_private: false,
            allow_short: true,
            roots_pem: None,
        };
        let spoil: [&dyn Fn(&mut ItemDraft); 10] = [
            &|item| item.policy.http = Some(http.clone()),
            &|item| item.fields[0].class = Class::Private,
            &|item| item.fields.clear(),
            &|item| item.fields.push(super::tests::item().fields.remove(0)),
            &|item| item.fields[0].value = SecretValue::new(vec![0; ITEM_BYTES_MAX]),
            &|item| item.label = "\u{1b}[2J".into(),
            &|item| item.label.clear(),
            &|item| item.tags = vec!["t".into(); TAGS_MAX + 1],
            &|item| item.origin = None,
            &|item| item.origin = Some(Origin { source: "vault".into(), id: "1".into() }),
        ];
        for (n, spoil) in spoil.iter().enumerate() {
            let mut bad = item();
            spoil(&mut bad);
            let records = read(&[Record::Item(bad), done(1)]);
            assert!(matches!(records.as_slice(), [Err(RecordsError::Misbehaved(_))]), "{n}: {records:?}");
        }
    }

    #[test]
    fn lengths_and_counts_are_bounded() {
        let huge = u32::MAX.to_be_bytes();
        assert!(matches!(read_records(huge.as_slice()).next(), Some(Err(RecordsError::Misbehaved(_)))));
        let empty: &[u8] = &[];
        assert!(matches!(read_records(empty).next(), Some(Err(RecordsError::CutShort))));
        assert!(matches!(read(&[done(7)]).as_slice(), [Err(RecordsError::Misbehaved(_))]));
        assert!(matches!(read(&[Record::Item(item())]).as_slice(), [Ok(_), Err(RecordsError::CutShort)]));
        let line = NotCarried {
            place: Default::default(),
            what: "a\u{7}".into(),
            reason: crate::report::Reason::NoPlace,
            count: 1,
        };
        assert!(matches!(read(&[Record::NotCarried(line)]).as_slice(), [Err(RecordsError::Misbehaved(_))]));
    }

    #[test]
    fn endless_small_records_end() {
        struct Endless(usize);
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                const FRAME: &[u8] = b"\0\0\0\x21{\"progress\":{\"done\":1,\"total\":1}}";
                for byte in buffer.iter_mut() {
                    *byte = FRAME[self.0 % FRAME.len()];
                    self.0 += 1;
                }
                Ok(buffer.len())
            }
        }
        let mut records = read_records(Endless(0));
        assert!(records.by_ref().take(2).all(|record| record.is_ok()));
        assert_eq!(records.take_while(Result::is_ok).count() as u64, RECORDS_MAX - 2);
    }
}

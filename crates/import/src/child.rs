//! The child: one head and one file in, records out. It runs in the host's jail and has no key, no network and one thread.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use strongroom_wire::SecretValue;
use zeroize::Zeroizing;

use crate::intake::{ImportError, Options, Sink, import};
use crate::kind::Kind;
use crate::limits::{HEAD_BYTES_MAX, INPUT_BYTES_MAX, KEY_FILE_BYTES_MAX, PASSWORD_BYTES_MAX};
use crate::record::{Record, RecordWriter};
use crate::refused::ImportRefused;

/// What goes before the file: its length, and how it is to be read.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Bytes of the file that follows.
    pub file_bytes: u64,
    /// The kind, where the member named it; else it is detected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// The export's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretValue>,
    /// The content of a KeePass key file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<SecretValue>,
    /// Tells apart files whose entries have no ids of their own; see [`Options::scope`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub scope: String,
}

impl Head {
    fn is_fit(&self) -> bool {
        // EXPOSE: only lengths are looked at.
        let fits = |value: &Option<SecretValue>, max| value.as_ref().is_none_or(|value| value.expose().len() <= max);
        fits(&self.password, PASSWORD_BYTES_MAX) && fits(&self.key_file, KEY_FILE_BYTES_MAX)
    }
}

/// Writes a child's whole input: the head after its length as 4 bytes, big-endian, then the file.
///
/// # Errors
/// Where the pipe breaks; then the child's records say why. [`io::ErrorKind::InvalidInput`] where the head or the file is
/// larger than an import takes, before anything is written.
pub fn write_request(mut output: impl Write, head: &Head, file: &[u8]) -> io::Result<()> {
    let invalid = |what: &'static str| io::Error::new(io::ErrorKind::InvalidInput, what);
    if !head.is_fit() || head.file_bytes != file.len() as u64 || head.file_bytes > INPUT_BYTES_MAX {
        return Err(invalid("the file, its password or its key file is too large to import"));
    }
    // The capacity is the limit: growing would leave copies of the password behind.
    let mut json = Zeroizing::new(Vec::with_capacity(HEAD_BYTES_MAX));
    serde_json::to_writer(&mut *json, head)?;
    let length = u32::try_from(json.len()).ok().filter(|length| *length as usize <= HEAD_BYTES_MAX);
    output.write_all(&length.ok_or_else(|| invalid("the options of the import are too long"))?.to_be_bytes())?;
    output.write_all(&json)?;
    output.write_all(file)?;
    output.flush()
}

/// All of the child's work: reads a request, writes records, and leaves nothing of the file in memory it has let go.
///
/// # Errors
/// Where the pipes break. A file that cannot be imported is no error here; its last record says so.
pub fn child_main(input: impl Read, output: impl Write) -> io::Result<()> {
    stay_on_this_thread();
    let mut records = Frames(RecordWriter::new(output));
    let outcome = read_request(input).and_then(|(file, options)| import(&file, &options, &mut records)).map_or_else(
        |error| match error {
            ImportError::Refused(refused) => Ok(Record::Refused(refused)),
            ImportError::Output(error) => Err(error),
        },
        |summary| Ok(Record::Done(summary)),
    )?;
    records.take(outcome)?;
    records.0.flush()
}

struct Frames<W>(RecordWriter<W>);

impl<W: Write> Sink for Frames<W> {
    fn take(&mut self, record: Record) -> io::Result<()> {
        self.0.write(&record)
    }
}

fn read_request(mut input: impl Read) -> Result<(Zeroizing<Vec<u8>>, Options), ImportError> {
    let mut length = [0; 4];
    fill(&mut input, &mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > HEAD_BYTES_MAX {
        return Err(ImportRefused::RequestMalformed.into());
    }
    let mut json = Zeroizing::new(vec![0; length]);
    fill(&mut input, &mut json)?;
    let head: Head = serde_json::from_slice(&json).map_err(|_| ImportRefused::RequestMalformed)?;
    if !head.is_fit() {
        return Err(ImportRefused::RequestMalformed.into());
    }
    let file_bytes = usize::try_from(head.file_bytes).unwrap_or(usize::MAX);
    if head.file_bytes > INPUT_BYTES_MAX || file_bytes as u64 != head.file_bytes {
        return Err(ImportRefused::TooLarge.into());
    }
    let mut file = Zeroizing::new(vec![0; file_bytes]);
    fill(&mut input, &mut file)?;
    let Head { kind, password, key_file, scope, .. } = head;
    Ok((file, Options { kind, password, key_file, scope }))
}

fn fill(input: &mut impl Read, buffer: &mut [u8]) -> Result<(), ImportError> {
    input.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ImportRefused::CutShort.into(),
        _ => ImportError::Output(error),
    })
}

/// Has Argon2 compute its lanes one after the other, here: the jail refuses to start a thread, and a pool that cannot
/// start one would panic.
fn stay_on_this_thread() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
    // An error says that this thread belongs to a pool already, which is all that is wanted. The pool is not dropped:
    // this thread stays in it until the process ends.
    std::mem::forget(pool);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::read_records;

    fn run(request: &[u8]) -> Vec<Record> {
        let mut output = Vec::new();
        child_main(request, &mut output).expect("memory takes every record");
        read_records(output.as_slice()).collect::<Result<_, _>>().expect("our own records read back")
    }

    fn request(head: Head, file: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_request(&mut bytes, &Head { file_bytes: file.len() as u64, ..head }, file).expect("a small request");
        bytes
    }

    #[test]
    fn one_file_in_records_out() {
        let records = run(&request(Head::default(), b"API_KEY=made-up-value\n"));
        assert!(matches!(records.last(), Some(Record::Done(summary)) if summary.items == 1), "{records:?}");
    }

    #[test]
    fn a_request_cut_anywhere_is_refused() {
        let head = Head { kind: Some(Kind::Env), password: Some("pw".into()), ..Head::default() };
        let whole = request(head, b"API_KEY=made-up-value\n");
        for length in 0..whole.len() {
            let records = run(&whole[..length]);
            assert!(matches!(records.as_slice(), [Record::Refused(ImportRefused::CutShort)]), "{length}: {records:?}");
        }
    }

    #[test]
    fn a_head_that_lies_is_refused() {
        let records = run(&u32::MAX.to_be_bytes());
        assert!(matches!(records.as_slice(), [Record::Refused(ImportRefused::RequestMalformed)]));
        let json = br#"{"file_bytes":18446744073709551615}"#;
        let length = u32::try_from(json.len()).expect("short");
        let records = run(&[&length.to_be_bytes(), json.as_slice()].concat());
        assert!(matches!(records.as_slice(), [Record::Refused(ImportRefused::TooLarge)]));
        let head = Head { file_bytes: 9, ..Head::default() };
        assert!(write_request(&mut Vec::new(), &head, b"short").is_err());
    }
}

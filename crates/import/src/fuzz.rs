//! What the fuzz targets call: one function for each parser, which must return whatever the bytes are.

use crate::child::child_main;
use crate::intake::{Options, import};
use crate::kind::Kind;
use crate::record::{Record, read_records};

/// The detection of a file's kind.
pub fn detect(bytes: &[u8]) {
    let _ = Kind::detect(bytes);
}

/// Bitwarden's JSON.
pub fn bitwarden(bytes: &[u8]) {
    run(Kind::Bitwarden, bytes);
}

/// KDBX 4 up to its encrypted part, with a fixed password.
pub fn keepass(bytes: &[u8]) {
    run(Kind::KeePass, bytes);
}

/// The document inside a KDBX 4 file.
pub fn keepass_document(bytes: &[u8]) {
    let mut records: Vec<Record> = Vec::new();
    let _ = crate::kdbx::read_document(bytes, &mut crate::intake::Intake::new(Kind::KeePass, &mut records));
}

/// Chrome's CSV.
pub fn chrome(bytes: &[u8]) {
    run(Kind::Chrome, bytes);
}

/// Firefox's CSV.
pub fn firefox(bytes: &[u8]) {
    run(Kind::Firefox, bytes);
}

/// Safari's CSV.
pub fn safari(bytes: &[u8]) {
    run(Kind::Safari, bytes);
}

/// `.env` files.
pub fn env(bytes: &[u8]) {
    run(Kind::Env, bytes);
}

/// The child's request; what it answers must always read back.
pub fn request(bytes: &[u8]) {
    let mut output = Vec::new();
    child_main(bytes, &mut output).expect("memory takes every record");
    assert!(read_records(output.as_slice()).all(|record| record.is_ok()), "our own records read back");
}

/// The records of a hostile child.
pub fn records(bytes: &[u8]) {
    read_records(bytes).for_each(drop);
}

/// Imports the bytes as one kind, and checks that the device would take every record.
fn run(kind: Kind, bytes: &[u8]) {
    // A file that asks for a costly key is only fuzzed up to there.
    if kind == Kind::KeePass && crate::kdbx::is_costly(bytes) {
        return;
    }
    let options = Options { kind: Some(kind), password: Some("fuzz".into()), ..Options::default() };
    let mut records: Vec<Record> = Vec::new();
    if let Ok(summary) = import(bytes, &options, &mut records) {
        records.push(Record::Done(summary));
        let mut written = Vec::new();
        let mut writer = crate::record::RecordWriter::new(&mut written);
        records.iter().for_each(|record| writer.write(record).expect("a record fits"));
        assert!(read_records(written.as_slice()).all(|record| record.is_ok()), "our own records read back");
    }
}

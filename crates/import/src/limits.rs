//! Every bound of an import, in one place. What an item may hold is in [`strongroom_wire::limits`].

use strongroom_wire::limits::{FRAME_BYTES_MAX, ITEM_BYTES_MAX, ITEMS_MAX, LABEL_CHARS_MAX, TAGS_MAX};

/// Bytes of the file.
pub const INPUT_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Bytes of the head that goes before the file: options, password and key file.
pub const HEAD_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a password.
pub const PASSWORD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a KeePass key file.
pub const KEY_FILE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a compressed KeePass file once inflated.
pub const INFLATED_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Bytes of one record from the child.
pub const RECORD_BYTES_MAX: usize = FRAME_BYTES_MAX;
/// Bytes of all records of one import.
pub const RECORDS_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Records of one import.
pub const RECORDS_MAX: u64 = ITEMS_MAX as u64 + 2 * REPORT_LINES_MAX + PROGRESS_RECORDS_MAX + 1;
/// Lines of each kind of report that are written out; further ones are only counted.
pub const REPORT_LINES_MAX: u64 = 10_000;
/// Progress records of one import.
pub const PROGRESS_RECORDS_MAX: u64 = 101;
/// Characters of the text that says what was not carried.
pub const WHAT_CHARS_MAX: usize = 400;
/// Characters of an origin's id.
pub const ORIGIN_ID_CHARS_MAX: usize = 128;

/// Values inside one JSON item, each list, map, text and number counted.
pub const JSON_ITEM_VALUES_MAX: usize = 100_000;
/// Folders and collections of a Bitwarden export.
pub const FOLDERS_MAX: usize = 100_000;
/// Levels of elements in a KeePass file.
pub const XML_LEVELS_MAX: usize = 128;
/// Columns of a CSV file.
pub const COLUMNS_MAX: usize = 64;
/// Times that a quote may stay open to the end of the file before the file is given up.
pub const OPEN_QUOTES_MAX: u32 = 16;

/// Rounds of PBKDF2; Bitwarden allows 2,000,000.
pub const PBKDF2_ROUNDS_MAX: u64 = 5_000_000;
/// Bytes of memory for Argon2.
pub const ARGON2_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Lanes of Argon2.
pub const ARGON2_LANES_MAX: u64 = 64;
/// Bytes that Argon2 may pass over in all: memory times passes, about half a minute.
pub const ARGON2_WORK_BYTES_MAX: u64 = 32 * 1024 * 1024 * 1024;
/// Rounds of KeePass's AES key derivation, about half a minute.
pub const AES_KDF_ROUNDS_MAX: u64 = 1_000_000_000;

// An item at its limits, with every text escaped at its worst, fits into one record.
const _: () = assert!(ITEM_BYTES_MAX * 4 / 3 + (TAGS_MAX + 1) * LABEL_CHARS_MAX * 6 + 64 * 1024 <= RECORD_BYTES_MAX);

//! Why a file was not imported at all.

use serde::{Deserialize, Serialize};

use crate::limits::{INFLATED_BYTES_MAX, INPUT_BYTES_MAX};

/// Why a file was not imported: a sentence for the member that says what to do. It holds numbers and no text of the file,
/// so it can be shown as it comes from the child.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum ImportRefused {
    /// No bytes.
    #[error("the file is empty")]
    Empty,
    /// More bytes than an import takes.
    #[error("the file is larger than {} MiB; export fewer items at a time", INPUT_BYTES_MAX / (1024 * 1024))]
    TooLarge,
    /// None of the kinds.
    #[error(
        "the file is not an export that is known here (bitwarden, keepass, chrome, firefox, safari, env); \
         if it is one of them, name the kind"
    )]
    KindUnknown,
    /// UTF-16 text.
    #[error("the file is UTF-16; save it as UTF-8 and import it again")]
    Utf16,
    /// Text that is neither UTF-8 nor UTF-16.
    #[error("the file is not UTF-8 text; export it again, or save it as UTF-8")]
    NotUtf8,
    /// A ZIP archive.
    #[error("the file is a ZIP archive; unpack it and import the data.json inside, then add its attachments by hand")]
    ZipArchive,
    /// A file that ends too early.
    #[error("the file ends in the middle; export or copy it again")]
    CutShort,
    /// JSON that is not.
    #[error("the file is not valid JSON at line {line}, column {column}; export it again without editing it")]
    NotJson {
        /// The line, from 1.
        line: u64,
        /// The column, from 1.
        column: u64,
    },
    /// JSON without what a Bitwarden export has.
    #[error("the file is JSON, but not an export of Bitwarden: it holds no list of items")]
    NotBitwarden,
    /// A Bitwarden export only its own account can open.
    #[error(
        "the export is encrypted with the account's own key, which only Bitwarden has; export again and choose \
         \"Password protected\" as the export type"
    )]
    AccountEncrypted,
    /// An encryption that is not known here.
    #[error("the file is encrypted in a way that is not known here; update Strongroom, or export in another format")]
    EncryptionUnknown,
    /// An encrypted file came without a password.
    #[error("the file is encrypted; give its password")]
    PasswordNeeded,
    /// The password or the key file does not fit.
    #[error("the password or key file is wrong, or the file's first part is damaged")]
    PasswordWrong,
    /// The key file cannot be read.
    #[error("the key file is damaged: its own check does not fit")]
    KeyFileDamaged,
    /// Deriving the key would cost too much.
    #[error("opening the file asks for {asked} {cost}, and at most {max} are allowed; save it again with less")]
    TooCostly {
        /// What it costs.
        cost: Cost,
        /// How much the file asks for.
        asked: u64,
        /// How much is allowed.
        max: u64,
    },
    /// Not enough memory to derive the key.
    #[error("there is not enough memory to open the file; save it again with a smaller Argon2 memory setting")]
    OutOfMemory,
    /// An older KeePass format.
    #[error(
        "the file is KeePass's older format; open it in KeePassXC or KeePass 2, save it as KDBX 4, and import that"
    )]
    KeePassTooOld,
    /// A newer KeePass format.
    #[error("the file is a KeePass format newer than KDBX 4; save it as KDBX 4, and import that")]
    KeePassTooNew,
    /// Checks of integrity fail.
    #[error("the file is damaged: {part}")]
    Damaged {
        /// Which part.
        part: Damage,
    },
    /// A decompression bomb.
    #[error("the file inflates to more than {} MiB; remove attachments and save it again", INFLATED_BYTES_MAX / (1024 * 1024))]
    InflatesTooFar,
    /// Nesting beyond the limit.
    #[error("the file is nested too deeply to be an export")]
    NestedTooDeep,
    /// A CSV file with another header line.
    #[error("the first line does not name the columns of this kind of export; export again, or name another kind")]
    HeaderUnknown,
    /// A CSV file whose quotes do not match.
    #[error("the quotes of the file do not match from line {line} on; export it again without editing it")]
    QuotesUnmatched {
        /// The line, from 1.
        line: u64,
    },
    /// The request of the device was not understood: a bug, or two versions.
    #[error("the import was asked for in a way that is not understood; update Strongroom")]
    RequestMalformed,
}

/// What deriving a key costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cost {
    /// Rounds of PBKDF2 or of KeePass's AES.
    Rounds,
    /// Bytes of memory.
    MemoryBytes,
    /// Bytes passed over: memory times passes.
    WorkBytes,
    /// Lanes.
    Lanes,
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Rounds => "rounds of key derivation",
            Self::MemoryBytes => "bytes of memory for key derivation",
            Self::WorkBytes => "bytes of work (memory times passes) for key derivation",
            Self::Lanes => "lanes of key derivation",
        })
    }
}

/// Which part of a file is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Damage {
    /// The head before the encrypted part.
    Header,
    /// A check of what is encrypted fails.
    Checksum,
    /// The compressed data.
    Compression,
    /// The head inside the encrypted part.
    InnerHeader,
    /// The document with the entries.
    Document,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Header => "its head cannot be read",
            Self::Checksum => "a checksum does not fit",
            Self::Compression => "its compressed data cannot be read",
            Self::InnerHeader => "its inner head cannot be read",
            Self::Document => "its document of entries cannot be read",
        })
    }
}

//! Tables of the documents that are made from the code: codes, limits and events. Each stands between two marks; the words
//! around it are written by hand.

use std::fmt::Write as _;
use std::fs;

use strongroom_wire::code::{Blame, Code};
use strongroom_wire::event::Action;
use strongroom_wire::limits;

/// Compares each page with what the code says.
pub(crate) fn check() -> Result<String, String> {
    for (path, table) in PAGES {
        if fs::read_to_string(path).ok() != Some(page(path, &table()?)?) {
            return Err(format!("{path} is not what the code says; run: make documents"));
        }
    }
    Ok(format!("{} codes, {} limits and {} events, as documented", Code::ALL.len(), LIMITS.len(), Action::ALL.len()))
}

/// Writes each page anew.
pub(crate) fn write() -> Result<String, String> {
    for (path, table) in PAGES {
        fs::write(path, page(path, &table()?)?).map_err(|error| format!("{path}: {error}"))?;
    }
    check()
}

fn page(path: &str, table: &str) -> Result<String, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let (before, rest) = text.split_once(BEGIN).ok_or_else(|| format!("{path} lacks {BEGIN}"))?;
    let (_, after) = rest.split_once(END).ok_or_else(|| format!("{path} lacks {END}"))?;
    Ok(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

fn errors() -> Result<String, String> {
    let mut table = String::from(
        "| code | what it says | who can act | may the same request succeed later? |\n| --- | --- | --- | --- |\n",
    );
    for code in Code::ALL {
        let who = match code.blame() {
            Blame::Asker => "the asker",
            Blame::Peer => "nobody: the channel is closed",
            Blame::World => "the operator, or whoever runs the called API",
            Blame::Bug => "us",
        };
        let retry = if code.retryable() { "yes" } else { "no" };
        row(&mut table, &[&format!("`{code}`"), code.sentence(), who, retry]);
    }
    Ok(table)
}

fn events() -> Result<String, String> {
    let mut table = String::from("| event | what happened |\n| --- | --- |\n");
    for action in Action::ALL {
        row(&mut table, &[&format!("`{action}`"), action.meaning()]);
    }
    Ok(table)
}

/// Names, values, and the sentence that stands before each in the source; every limit there is must be listed below.
fn limits_table() -> Result<String, String> {
    let source = fs::read_to_string(LIMITS_SOURCE).map_err(|error| format!("{LIMITS_SOURCE}: {error}"))?;
    let (mut table, mut said, mut found) =
        (String::from("| limit | value | what it bounds |\n| --- | --- | --- |\n"), "", 0);
    for line in source.lines() {
        if let Some(sentence) = line.strip_prefix("/// ") {
            said = sentence;
        }
        let Some((name, _)) = line.strip_prefix("pub const ").and_then(|line| line.split_once(':')) else { continue };
        let value = LIMITS.iter().find(|(listed, _)| *listed == name);
        let (_, value) = value.ok_or_else(|| format!("crates/xtask/src/pages.rs does not list {name}"))?;
        row(&mut table, &[&format!("`{name}`"), &with_unit(name, *value), said.trim_end_matches('.')]);
        found += 1;
    }
    if found == LIMITS.len() { Ok(table) } else { Err("a limit is listed twice".to_owned()) }
}

fn row(table: &mut String, cells: &[&str]) {
    writeln!(table, "| {} |", cells.join(" | ")).expect("a text takes what is written");
}

/// The unit is in the name.
fn with_unit(name: &str, value: u64) -> String {
    let parts = name.split('_').collect::<Vec<_>>();
    let has = |word| parts.contains(&word);
    let units: &[(u64, &str)] = if has("BYTES") {
        &[(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "bytes")]
    } else if has("SECS") {
        &[(24 * 3_600, "d"), (3_600, "h"), (60, "min"), (1, "s")]
    } else if has("MS") {
        &[(60_000, "min"), (1, "ms")]
    } else {
        &[(1, "")]
    };
    let (unit, word) = units.iter().find(|(unit, _)| value >= *unit && value.is_multiple_of(*unit)).unwrap_or(&(1, ""));
    let digits = (value / unit).to_string();
    let grouped = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect::<Vec<_>>().join(",");
    format!("{grouped} {word}").trim_end().to_owned()
}

macro_rules! listed {
    ($($name:ident)*) => {
        const LIMITS: &[(&str, u64)] = &[$((stringify!($name), limits::$name as u64),)*];
    };
}

type Page = (&'static str, fn() -> Result<String, String>);

const PAGES: [Page; 3] = [("docs/errors.md", errors), ("docs/limits.md", limits_table), ("docs/events.md", events)];
const BEGIN: &str = "<!-- made from the code by `make documents` -->";
const END: &str = "<!-- end -->";
const LIMITS_SOURCE: &str = "crates/wire/src/limits.rs";

listed! {
    FRAME_BYTES_MAX
    FRAME_OVERHEAD_BYTES_MAX
    SEALED_FRAME_BYTES_MAX
    HOST_MESSAGE_BYTES_MAX
    CHUNK_BYTES_MAX
    STREAM_WINDOW_BYTES
    BODY_BYTES_DEFAULT_MAX
    INLINE_BODY_BYTES_MAX
    EVIDENCE_BYTES_MAX ATTESTATION_POLICY_BYTES_MAX ATTESTATION_CHOICES_MAX
    ITEM_FIELDS_MAX
    ITEM_BYTES_MAX
    ITEM_LABELS_BYTES_MAX
    ITEMS_MAX
    LIST_PAGE_MAX
    HISTORY_VERSIONS_DEFAULT
    LABEL_CHARS_MAX
    REASON_CHARS_MAX
    TAGS_MAX
    GUESTS_MAX
    DEVICES_MAX
    GRANTS_MAX
    APPROVALS_PER_GUEST_MAX
    HTTP_HEADERS_MAX
    HTTP_HEADER_BYTES_MAX
    URL_CHARS_MAX
    HTTP_SECRET_BYTES_MIN
    REDIRECTS_MAX
    SIGN_MESSAGE_BYTES_MAX
    SIGN_NAME_CHARS_MAX
    JWT_CLAIMS_MAX
    JWT_CLAIMS_BYTES_MAX
    JWT_DEPTH_MAX
    JWT_LIFETIME_SECS_DEFAULT
    JWT_LIFETIME_SECS_MAX
    KEY_BYTES_MAX
    CRYPT_BYTES_MAX
    CRYPT_CONTEXT_BYTES_MAX
    UNLOCK_ATTEMPTS_FREE
    UNLOCK_WAIT_SECS
    UNLOCK_WAIT_SECS_MAX
    UNLOCK_ATTEMPTS_MAX
    RECOVERY_ATTEMPTS_PER_HOUR
    SESSION_SECS_DEFAULT
    SESSION_SECS_MIN
    SESSION_SECS_MAX
    SESSIONS_MAX
    FRESH_SECS
    OPEN_SECS_DEFAULT
    OPEN_SECS_MIN
    OPEN_SECS_MAX
    CALLS_PER_MINUTE_DEFAULT
    APPROVAL_SECS
    CLOCK_DISAGREEMENT_MS
    PASSPHRASE_CHARS_MIN
    PASSPHRASE_BYTES_MAX
    CHANNEL_FRAMES_MAX
    CHANNEL_SECS_MAX
    CHANNELS_MAX
    REQUESTS_PER_CHANNEL_MAX
    TUNNELS_MAX
    DISK_RESERVE_BYTES
    DISK_ASKED_EVERY_MS
    DATABASE_BYTES_MAX
    DATABASE_BYTES_RESERVED
    VAULT_MEMORY_BYTES_MAX
    HEADER_BYTES_MAX
    CREDENTIAL_BYTES_MAX
    TAIL_ENTRIES_MAX
    TAIL_ENTRIES_RESERVED
    AUDIT_PAGE_MAX
}

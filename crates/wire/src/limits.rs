//! Every bound of the wire, in one place, with the relations between them checked at compile time.

/// Bytes of one channel frame after opening: a request, an answer, an event or a chunk.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;
/// Bytes that sealing and padding may add to a frame: counter, tag, type, length and at most one eighth of padding.
pub const FRAME_OVERHEAD_BYTES_MAX: usize = 64 + FRAME_BYTES_MAX / 8;
/// Bytes of one sealed frame on the bus or a socket.
pub const SEALED_FRAME_BYTES_MAX: usize = FRAME_BYTES_MAX + FRAME_OVERHEAD_BYTES_MAX;
/// Bytes of one message between host and vault process: a sealed frame and its head.
pub const HOST_MESSAGE_BYTES_MAX: usize = SEALED_FRAME_BYTES_MAX + 64;
/// Bytes of data in one chunk frame of a streamed body.
pub const CHUNK_BYTES_MAX: usize = 64 * 1024;
/// Bytes a sender may have in flight on one stream before the receiver grants more.
pub const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// Bytes of a streamed body, each way, where a grant names no other number.
pub const BODY_BYTES_DEFAULT_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of a body carried inside a request instead of a stream.
pub const INLINE_BODY_BYTES_MAX: usize = 512 * 1024;

/// Bytes of the evidence in a hello.
pub const EVIDENCE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a policy that a device appraises evidence against.
pub const ATTESTATION_POLICY_BYTES_MAX: usize = 64 * 1024;
/// Vault programs, boot states and values of one register in a policy.
pub const ATTESTATION_CHOICES_MAX: usize = 16;

/// Fields of one item.
pub const ITEM_FIELDS_MAX: usize = 64;
/// Bytes of all values, names and labels of one item together.
pub const ITEM_BYTES_MAX: usize = 512 * 1024;
/// Bytes of an item's label and tags together.
pub const ITEM_LABELS_BYTES_MAX: usize = 8 * 1024;
/// Items of one vault.
pub const ITEMS_MAX: usize = 100_000;
/// Items on one page of a list answer.
pub const LIST_PAGE_MAX: usize = 1_000;
/// Versions of a field that are kept until purged, where the setting says nothing else.
pub const HISTORY_VERSIONS_DEFAULT: u32 = 20;
/// Characters of a label, a name of a guest or device, or a reason in plain words.
pub const LABEL_CHARS_MAX: usize = 256;
/// Characters of a reason a guest gives.
pub const REASON_CHARS_MAX: usize = 1_000;
/// Tags of one item.
pub const TAGS_MAX: usize = 32;
/// Guests, devices and grants of one vault.
pub const GUESTS_MAX: usize = 1_000;
/// Devices of one vault.
pub const DEVICES_MAX: usize = 64;
/// Grants of one vault.
pub const GRANTS_MAX: usize = 10_000;
/// Pending approvals of one guest; more are refused.
pub const APPROVALS_PER_GUEST_MAX: usize = 8;

/// Headers of one HTTP request or answer.
pub const HTTP_HEADERS_MAX: usize = 128;
/// Bytes of one HTTP header value.
pub const HTTP_HEADER_BYTES_MAX: usize = 16 * 1024;
/// Characters of a URL.
pub const URL_CHARS_MAX: usize = 8 * 1024;
/// Shortest secret, in bytes, that a guest may use over `http` unless the item says otherwise.
pub const HTTP_SECRET_BYTES_MIN: usize = 16;
/// Redirects that one use follows.
pub const REDIRECTS_MAX: u32 = 5;
/// Bytes of a message to sign.
pub const SIGN_MESSAGE_BYTES_MAX: usize = 512 * 1024;
/// Characters of an SSH namespace or of the key id of a token.
pub const SIGN_NAME_CHARS_MAX: usize = 128;
/// Claims of a token.
pub const JWT_CLAIMS_MAX: usize = 64;
/// Bytes of a token's claims as JSON.
pub const JWT_CLAIMS_BYTES_MAX: usize = 8 * 1024;
/// Lists and objects of a claim inside each other.
pub const JWT_DEPTH_MAX: usize = 8;
/// Seconds a token of the member's own lives, where it names no `exp`.
pub const JWT_LIFETIME_SECS_DEFAULT: u64 = 3_600;
/// Longest lifetime of tokens that a template can allow, in seconds.
pub const JWT_LIFETIME_SECS_MAX: u64 = 10 * 365 * 24 * 3_600;
/// Bytes of a stored key or of stored one-time-code settings, as text.
pub const KEY_BYTES_MAX: usize = 16 * 1024;
/// Bytes for `crypt` to encrypt, decrypt or authenticate.
pub const CRYPT_BYTES_MAX: usize = 512 * 1024;
/// Bytes of a context for `crypt`.
pub const CRYPT_CONTEXT_BYTES_MAX: usize = 16 * 1024;

/// Wrong factors before the wait begins.
pub const UNLOCK_ATTEMPTS_FREE: u32 = 5;
/// First wait after the free attempts, in seconds; it doubles with each further one.
pub const UNLOCK_WAIT_SECS: u64 = 30;
/// Longest wait between attempts, in seconds.
pub const UNLOCK_WAIT_SECS_MAX: u64 = 3_600;
/// Wrong factors in a row that lock a slot until another slot opens the vault.
pub const UNLOCK_ATTEMPTS_MAX: u32 = 20;
/// Wrong recovery phrases an hour.
pub const RECOVERY_ATTEMPTS_PER_HOUR: u32 = 5;
/// Seconds a device session lives: default, shortest and longest.
pub const SESSION_SECS_DEFAULT: u64 = 15 * 60;
/// Shortest session a member can choose, in seconds.
pub const SESSION_SECS_MIN: u64 = 5 * 60;
/// Longest session a member can choose, in seconds.
pub const SESSION_SECS_MAX: u64 = 60 * 60;
/// Device sessions at a time.
pub const SESSIONS_MAX: usize = 5;
/// Seconds for which a challenge of fresh authentication is good.
pub const FRESH_SECS: u64 = 60;
/// Seconds a vault stays open for guests: default.
pub const OPEN_SECS_DEFAULT: u64 = 12 * 3_600;
/// Shortest time to stay open, in seconds.
pub const OPEN_SECS_MIN: u64 = 15 * 60;
/// Longest time to stay open, in seconds.
pub const OPEN_SECS_MAX: u64 = 30 * 24 * 3_600;
/// Guest calls a minute for each grant, where it names no other number.
pub const CALLS_PER_MINUTE_DEFAULT: u32 = 60;
/// Seconds an approval waits before it expires as refused.
pub const APPROVAL_SECS: u64 = 120;
/// Difference between clocks that suspends guests, in milliseconds.
pub const CLOCK_DISAGREEMENT_MS: u64 = 5 * 60 * 1_000;
/// Characters of a passphrase at least; zxcvbn must rate it 4 besides.
pub const PASSPHRASE_CHARS_MIN: usize = 12;
/// Bytes of a passphrase at most.
pub const PASSPHRASE_BYTES_MAX: usize = 1_024;

/// Frames of a channel before it must be rekeyed.
pub const CHANNEL_FRAMES_MAX: u64 = 1 << 20;
/// Seconds of a channel before it must be rekeyed.
pub const CHANNEL_SECS_MAX: u64 = 15 * 60;
/// Channels that one vault process keeps open.
pub const CHANNELS_MAX: usize = 1_024;
/// Requests of one channel that may be under way at once.
pub const REQUESTS_PER_CHANNEL_MAX: usize = 64;
/// Tunnels that one vault process keeps open.
pub const TUNNELS_MAX: usize = 256;

/// Bytes that stay free on the disk: with less left, a vault takes nothing new, and what ends or removes something goes on.
pub const DISK_RESERVE_BYTES: u64 = 16 * 1024 * 1024;
/// Milliseconds for which a vault goes by the room that its disk had.
pub const DISK_ASKED_EVERY_MS: u64 = 1_000;
/// Bytes of a vault's database. While it is re-encrypted, there are two.
pub const DATABASE_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;
/// Bytes of them that values may not take: a vault with no room left for values can still log, revoke and delete.
pub const DATABASE_BYTES_RESERVED: u64 = DATABASE_BYTES_MAX / 8;
/// Bytes of memory that a vault process may have mapped.
pub const VAULT_MEMORY_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Bytes of a header file.
pub const HEADER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of a credential blob.
pub const CREDENTIAL_BYTES_MAX: usize = 256 * 1024;
/// Entries of a locked vault's log tail.
pub const TAIL_ENTRIES_MAX: usize = 1_024;
/// Entries of the tail kept free for revocation, suspension and cancel.
pub const TAIL_ENTRIES_RESERVED: usize = 64;
/// Events on one page of `audit list`.
pub const AUDIT_PAGE_MAX: usize = 1_000;

const _: () = assert!(INLINE_BODY_BYTES_MAX * 4 / 3 + 64 * 1024 <= FRAME_BYTES_MAX);
const _: () = assert!(CRYPT_BYTES_MAX * 4 / 3 + 64 * 1024 <= FRAME_BYTES_MAX);
// An item that is exported: its values in base64, its label and tags with their escapes, and what stands around each field.
const _: () = assert!(ITEM_BYTES_MAX * 4 / 3 + 2 * ITEM_LABELS_BYTES_MAX + ITEM_FIELDS_MAX * 512 <= FRAME_BYTES_MAX);
const _: () = assert!(CREDENTIAL_BYTES_MAX * 4 / 3 + ITEM_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(CHUNK_BYTES_MAX < FRAME_BYTES_MAX);
// What one request writes, while the room that there was is gone by: a header, its copy beside it, and a frame's worth of records.
const _: () = assert!(2 * HEADER_BYTES_MAX as u64 + 2 * FRAME_BYTES_MAX as u64 <= DISK_RESERVE_BYTES);

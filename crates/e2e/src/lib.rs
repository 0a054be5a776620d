//! The harness of the end-to-end tests: the real programs, in folders of their own, with nothing of ours in between.
//!
//! In reading order: `programs` (where the built programs are), `place` (one machine: folders, server, transcript), `run` (one
//! command), `api` (an HTTPS server that wants a key and echoes it), `processes` (killing and looking into them), `search`
//! (finding a secret in whatever encoding it hides), `canaries` (secrets to look for), `mcp` (an
//! agent), `members` (many at once), `crowd` (many under load), `swtpm` (a machine's TPM).
#![forbid(unsafe_code)]

pub mod api;
pub mod canaries;
pub mod crowd;
pub mod mcp;
pub mod members;
pub mod place;
pub mod processes;
pub mod programs;
pub mod run;
pub mod search;
pub mod swtpm;

pub use api::Api;
pub use place::{PASSPHRASE, Place};
pub use run::{Ran, Run};

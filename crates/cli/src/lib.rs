//! The command `strongroom`: a member's device, a guest's gateway, and a server for one machine.
//!
//! In reading order: `command` (what can be typed), `app` (what every command needs), then one module for each family of
//! commands. What the commands do to the vault is in `strongroom_client`; here are words, prompts and tables.
#![forbid(unsafe_code)]

mod command;

mod app;
mod code;
mod exit;
mod failure;
mod human;
mod output;
mod phrase;
mod policy;
mod progress;
mod prompt;

mod approvals;
mod attestation;
mod audit;
mod call;
mod device;
mod doctor;
mod generate;
mod grant;
mod guest;
mod host;
mod import;
mod item;
mod mcp;
mod own;
mod places;
mod serve;
mod shell;
mod uses;
mod vault;

pub use code::OwnCode;
pub use command::{commands, leaves, run};
pub use exit::Exit;

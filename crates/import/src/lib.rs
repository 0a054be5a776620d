//! Other programs' exports to typed items, and back.
//!
//! The files are hostile until read, so reading them is the work of a short-lived child without keys and without a
//! network: [`child_main`] is all of it. The device writes it one [`Head`] and the file ([`write_request`]) and reads
//! [`Record`]s back ([`read_records`]), trusting none of them further than their types and limits.
//!
//! Nothing is dropped in silence. What has no place in an item is named in a [`NotCarried`] line, what could not be read
//! in a [`BadRow`]; neither ever holds a value. A file that is damaged as a whole ends in [`Record::Refused`], and then
//! no item of it should be kept.
//!
//! This crate starts no process and opens no file: the jail is the host's, the files are the command's.
#![forbid(unsafe_code)]

pub mod limits;

mod bitwarden;
mod browser;
mod child;
mod dotenv;
mod draft;
pub mod export;
pub mod fuzz;
mod intake;
mod json;
mod kdbx;
mod kind;
mod otp;
mod record;
mod refused;
mod report;
mod rows;
mod text;

pub use child::{Head, child_main, write_request};
pub use intake::{ImportError, Options, Sink, import};
pub use kind::Kind;
pub use record::{Record, Records, RecordsError, Summary, read_records};
pub use refused::{Cost, Damage, ImportRefused};
pub use report::{BadRow, NotCarried, Place, Reason, RowFault};

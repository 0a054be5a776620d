//! The rules of one vault, without I/O: time, randomness and bytes are passed in, and what should happen is answered.
//!
//! In reading order: [`vault`] takes inputs and hands out effects once they are durable; [`table`] says who may do what;
//! [`ledger`] joins records and log; [`records`] is what the rules need of a disk and [`consumers`] what they need of the code
//! that touches plaintext. The other modules hold the rules themselves, one idea each.
#![forbid(unsafe_code)]

pub mod vault;

pub mod clock;
pub mod consumers;
pub mod ledger;
pub mod records;
mod rescue;
pub mod table;

#[cfg(feature = "planted-faults")]
pub mod planted;
#[cfg(not(feature = "planted-faults"))]
mod planted;

mod acts;
mod approvals;
mod audit;
mod chains;
mod create;
mod deliver;
mod drafts;
mod exchanges;
mod guests;
mod hardware;
mod header;
mod imports;
mod items;
mod settings;
mod settle;
mod unlock;
mod uses;

pub use clock::{Clock, Moment};
pub use exchanges::{HttpDone, HttpRun};
pub use hardware::Hardware;
pub use items::SealedSecret;
pub use vault::{Audience, Context, Effect, Input, Peer, ReplyTo, Request, Vault};

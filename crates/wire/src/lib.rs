//! Every byte that crosses a boundary of Strongroom: ids, references, items, requests and answers, frames, and the
//! protocols between host and vault process and between device and services, each with its limits.
//!
//! This crate holds shapes and their checks. It decides nothing, does no I/O and no cryptography.
#![forbid(unsafe_code)]

pub mod limits;

pub mod bytes;
pub mod code;
pub mod device;
pub mod event;
pub mod frame;
pub mod fuzz;
pub mod guest;
pub mod host;
pub mod ids;
pub mod items;
pub mod operate;
pub mod policy;
pub mod reference;
pub mod relay;
pub mod sealing;
pub mod target;
pub mod template;
pub mod time;

pub use bytes::{Bytes, SecretValue};
pub use code::{Code, Refusal};
pub use ids::{ApprovalId, Challenge, DeviceId, GrantId, GuestId, HandleId, ItemId, RequestId, SlotId, VaultId};
pub use items::{Class, ItemType};
pub use reference::{FieldName, Reference};
pub use time::Timestamp;

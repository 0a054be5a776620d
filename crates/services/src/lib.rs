//! The services of one machine: they move sealed frames between clients and the bus, and can open none.
//!
//! A client connects to a Unix socket and says one JSON message (`wire::relay`); after `relay` every further message is a
//! frame of its channel. This crate links neither the rules nor the store nor the consumers of a vault.
#![forbid(unsafe_code)]

mod config;
mod connection;
mod listener;
mod relay;

pub use config::{RelayLimits, ServicesConfig};
pub use listener::{Audience, bind};
pub use relay::{RunServicesError, run};

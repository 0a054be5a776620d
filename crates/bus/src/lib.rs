//! Carries sealed frames between services and hosts: in one process, or over a socket between two.
//!
//! A [`Subject`] says whose frames and which way; a [`Principal`] may publish and subscribe what one table allows, checked in
//! one place; an [`Envelope`] is what travels. The in-process bus ([`LocalBus`]) and the socket ([`link`]) are the same
//! trait, [`Bus`], and a broker can be a third. The bus opens nothing: to it every payload is bytes.
//!
//! Two things that both ends of the bus need live here as well: length-prefixed messages on a stream ([`framed`]) and the
//! lines of the log ([`log`]).
#![forbid(unsafe_code)]

pub mod envelope;
pub mod framed;
pub mod fuzz;
pub mod link;
pub mod local;
pub mod log;
pub mod permissions;
mod queue;
pub mod subject;

pub use envelope::{ConnectionId, Envelope, Kind};
pub use local::{Bus, BusError, LocalBus, LocalConnection, Subscription};
pub use permissions::{Action, Principal};
pub use subject::{Filter, Subject, Topic};

//! The program of one member's vault: joins rules, store and consumers behind one inherited socket.
//!
//! In reading order: [`run`] starts it; `serve` is its one loop; `channels` ends the sealed channels of devices and guests;
//! `bodies` moves streamed bodies; `tunnels` are the connections that the host opens; `consume` hands the rules the consumers.
#![forbid(unsafe_code)]

mod bodies;
mod channels;
mod consume;
mod serve;
mod tunnels;

pub use serve::{Failed, run};

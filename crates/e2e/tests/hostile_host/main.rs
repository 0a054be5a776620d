//! An attacker who owns everything but the vault process and the device: services, bus and network (`network`), the vault's
//! files (`files`), and the host share with them (`with_share`).
#![forbid(unsafe_code)]

mod files;
mod network;
mod relay;
mod with_share;

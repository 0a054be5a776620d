//! The simulator: vaults under a fake clock, on a disk that loses, fills up and lies, with fake devices, guests and consumers.
//!
//! It runs the rules that are shipped, through the two calls that the vault program makes: [`handle`] and [`flush`]. In reading
//! order: [`world`] holds one vault and its surroundings; [`memory`] is its disk; [`device`] and [`factor`] are what a member
//! holds; [`fakes`] are the consumers; [`run`] plays random steps and checks the invariants of `ARCHITECTURE.md` after each.
//!
//! [`handle`]: strongroom_core::Vault::handle
//! [`flush`]: strongroom_core::Vault::flush
#![forbid(unsafe_code)]

pub mod device;
pub mod factor;
pub mod fakes;
pub mod home;
pub mod memory;
pub mod rng;
pub mod run;
pub mod world;

pub use device::Device;
pub use factor::Factor;
pub use home::Home;
pub use memory::{Fault, Files, Memory};
pub use rng::Rng;
pub use world::{Answer, DeviceResult, World};

//! The host: starts, feeds, restarts and stops vault processes, keeps their shares, and opens their tunnels.
//!
//! The one privileged part, kept small. It sees sealed frames and TLS; it opens neither. In reading order: [`Host`] owns
//! everything; `route` takes envelopes from the bus to the task of one vault (`vault`), which owns that vault's process
//! (`process`), channels (`channels`), tunnels (`tunnels`, `tunnel`, `address`) and crashes (`crashes`). `folders` and
//! `share` are all there is on the disk; `sealing` keeps shares, with `tpm` where there is one, and `programs` knows what runs. `life` is
//! what each vault does, and `load` what it takes of the machine. `serve` is a whole machine: host, services and signals.
#![forbid(unsafe_code)]

mod config;
mod host;
mod serve;

mod channels;
mod crashes;
mod process;
mod route;
mod vault;

mod address;
mod resolve;
mod tunnel;
mod tunnels;

mod control;
mod folders;
mod keeper;
mod life;
mod load;
mod programs;
mod sealing;
mod share;
mod tpm;
mod zygote;

pub use address::{Reach, reach};
pub use config::{HostConfig, Isolation, LoadPolicy, MemoryPolicy, RestartPolicy, Sealing, ServicesProgram, TpmConfig};
pub use control::control_socket;
pub use folders::FoldersError;
pub use host::{Host, StartHostError};
pub use serve::{ServeError, run_until_signal};

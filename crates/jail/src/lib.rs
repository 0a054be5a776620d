//! The fence around what the kernel offers to shut a process in: Landlock, seccomp, resource limits, process attributes.
//!
//! A process jails itself, right after its start and while it has one thread: [`Jail::vault`] for a vault process,
//! [`Jail::compute_only`] for a child that turns bytes into other bytes. [`Launch`] starts such a process with nothing but
//! the sockets it is meant to have. What the jail could not promise is in the [`JailReport`]; what must hold and does not is
//! a [`JailError`].
//!
//! Users and name spaces are set before that, by the [`zygote`] that forks vault processes.

mod confine;
mod files;
mod limits;
mod process;
mod report;
mod syscalls;
pub mod zygote;

pub use confine::{Jail, harden, warm};
pub use limits::Limits;
pub use process::{FIRST_INHERITED, Launch, Stderr, inherited_socket};
pub use report::{JailError, JailReport, Promise};

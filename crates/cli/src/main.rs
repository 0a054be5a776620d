//! The program `strongroom`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use rustix::process::{DumpableBehavior, Resource, Rlimit};
use zeroizing_alloc::ZeroAlloc;

/// Wipes whatever is freed: passphrases and values pass through buffers of libraries that do not.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<std::alloc::System> = ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    if args.len() == 2 && (args[1] == "--version" || args[1] == "-V") {
        return version();
    }
    // Other programs of this user cannot attach to this one, and a crash leaves no copy of its memory behind.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    ExitCode::from(strongroom_cli::run(args).code())
}

/// Without building the whole command line first.
fn version() -> ExitCode {
    use std::io::Write as _;
    let written = writeln!(std::io::stdout(), "strongroom {}", env!("CARGO_PKG_VERSION"));
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

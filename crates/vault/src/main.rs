//! `strongroom-vault`: started by the host with one socket at descriptor 3 and its folder as the working directory.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Everything that is freed is wiped first: keys and values pass through buffers of libraries, too.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> = zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    match strongroom_vault::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            // Standard error goes to the host's log; the text holds no content of the vault.
            eprintln!("{failed}");
            ExitCode::FAILURE
        }
    }
}

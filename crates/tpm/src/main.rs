//! `strongroom-tpm`: started by the host with one socket at descriptor 3; it alone speaks to the TPM.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Everything that is freed is wiped first: shares pass through buffers of the TPM's library.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> = zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    match strongroom_tpm::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("{failed}");
            ExitCode::FAILURE
        }
    }
}

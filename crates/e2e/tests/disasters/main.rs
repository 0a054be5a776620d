//! What befalls a machine: its disk fills or turns read-only, its clock jumps, its power fails with two hundred vaults open. After
//! each, nothing that was acknowledged is lost, every log verifies, and all goes on without a repair.
#![forbid(unsafe_code)]

mod clock;
mod disk;
mod power;

//! The Landlock half of the jail: one folder or no file at all, no TCP, no signals to the outside.

use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, LandlockStatus, PathBeneath, PathFd,
    Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};

/// The Landlock version in force after [`shut`].
pub(crate) struct Shut {
    pub(crate) abi: u32,
}

impl Shut {
    pub(crate) fn tcp(&self) -> bool {
        self.abi >= ABI::V4 as u32
    }

    pub(crate) fn scoped(&self) -> bool {
        self.abi >= ABI::V6 as u32
    }
}

/// Shuts the process into `folder`, or away from every file. Files that are open already stay usable.
///
/// File rights up to Linux 6.2 (truncating among them) are a hard requirement; what came later is taken where it is there.
pub(crate) fn shut(folder: Option<&Path>) -> Result<Shut, Box<dyn std::error::Error + Send + Sync>> {
    let ruleset = rules(folder)?;
    let status = ruleset.restrict_self()?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err("Landlock is not enforced".into());
    }
    match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => Ok(Shut { abi: effective_abi as u32 }),
        _ => Err("this kernel has no Landlock".into()),
    }
}

fn rules(folder: Option<&Path>) -> Result<landlock::RulesetCreated, Box<dyn std::error::Error + Send + Sync>> {
    let mut ruleset = handled()?.create()?;
    if let Some(folder) = folder {
        ruleset = ruleset.add_rule(PathBeneath::new(PathFd::new(folder)?, in_its_folder()))?;
        // SQLite seeds its own generator there, and takes the clock where it cannot: a vault whose folder is its root has none.
        if let Ok(urandom) = PathFd::new("/dev/urandom") {
            ruleset = ruleset.add_rule(PathBeneath::new(urandom, AccessFs::ReadFile))?;
        }
    }
    Ok(ruleset)
}

fn handled() -> Result<Ruleset, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V3))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V4))?
        .scope(Scope::from_all(ABI::V6))
}

/// What a vault does in its folder. Not among them: executing, devices, sockets, pipes, symbolic links, removing folders.
fn in_its_folder() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::ReadDir
        // The write-ahead log is cut at a checkpoint; without it SQLite reports a disk error.
        | AccessFs::Truncate
        // Database, log, header files and attachments are made, replaced by renaming, and removed.
        | AccessFs::MakeReg | AccessFs::RemoveFile
        // Attachments lie in a folder of their own and are moved into it when they are complete.
        | AccessFs::MakeDir | AccessFs::Refer
        // A vault that is deleted takes the folder of its chains with it.
        | AccessFs::RemoveDir
}

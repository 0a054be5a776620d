//! Where the programs are that the tests run.

use std::path::PathBuf;

/// The two programs, as `cargo build` leaves them: in the folder above a test, or beside a program.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The command.
    pub strongroom: PathBuf,
    /// What the host starts for each vault.
    pub vault: PathBuf,
}

impl Programs {
    /// Those of the target folder that this test or program was built into.
    ///
    /// # Panics
    /// When they have not been built, with the command that builds them.
    #[must_use]
    pub fn find() -> Self {
        let this = std::env::current_exe().expect("a running program has a path");
        let beside = this.parent().expect("tests lie in <target>/<profile>/deps, programs in <target>/<profile>");
        let folder = if beside.ends_with("deps") { beside.parent().unwrap_or(beside) } else { beside };
        let programs = Self { strongroom: folder.join("strongroom"), vault: folder.join("strongroom-vault") };
        for program in [&programs.strongroom, &programs.vault] {
            assert!(
                program.is_file(),
                "{} is not built: cargo build -p strongroom-cli -p strongroom-vault",
                program.file_name().unwrap_or_default().display()
            );
        }
        programs
    }
}

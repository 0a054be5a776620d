//! Where the programs are that the tests run.

use std::fs;
use std::path::{Path, PathBuf};

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

    /// Those of a folder that somebody else built into.
    ///
    /// # Panics
    /// When they are not there.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        let programs = Self { strongroom: folder.join("strongroom"), vault: folder.join("strongroom-vault") };
        assert!(programs.strongroom.is_file() && programs.vault.is_file(), "no programs in {}", folder.display());
        programs
    }

    /// Installs them in a folder, as a package does: each is written beside its place and put there by a rename, so that what runs
    /// goes on with what it had.
    ///
    /// # Panics
    /// When they cannot be written.
    #[must_use]
    pub fn install(&self, folder: &Path) -> Self {
        fs::create_dir_all(folder).expect("a folder for the programs");
        let put = |program: &Path| {
            let place = folder.join(program.file_name().expect("a name"));
            let next = place.with_extension("next");
            fs::copy(program, &next).expect("copied");
            fs::rename(next, &place).expect("installed");
            place
        };
        let tpm = self.vault.with_file_name("strongroom-tpm");
        if tpm.is_file() {
            let _ = put(&tpm);
        }
        Self { strongroom: put(&self.strongroom), vault: put(&self.vault) }
    }

    /// Puts another vault program in the place of the installed one: the same code, and another measurement.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn install_another_vault_program(&self) {
        let next = self.vault.with_extension("next");
        fs::copy(&self.vault, &next).expect("copied");
        crate::Place::append(&next, b"the next release");
        fs::rename(next, &self.vault).expect("installed");
    }
}

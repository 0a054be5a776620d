//! Stable codes of the command's own: what fails on this machine, beside what the vault refuses.

use strongroom_client::wire::Code;

macro_rules! own_codes {
    ($($name:ident = $text:literal, $meaning:literal;)*) => {
        /// A code of the command's own, as `--json` prints it. A code never changes its meaning and is never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum OwnCode { $(#[doc = $meaning] $name,)* }

        impl OwnCode {
            /// Every code there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code as it is written.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            #[cfg(test)]
            fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }
        }
    };
}

own_codes! {
    Usage = "usage", "The command was not understood.";
    LocalFailed = "local_failed", "Something on this machine failed.";
    TooLarge = "too_large", "A request is larger than a frame.";
    AnswerRefused = "answer_refused", "The vault answered something that does not fit the request.";
    LogAlarm = "log_alarm", "The log is not the one that this device knows.";
    NoVault = "no_vault", "This device has no vault.";
    ProfileExists = "profile_exists", "This device has a vault already.";
    ProfileDamaged = "profile_damaged", "The device's own files are damaged, or older than they were.";
    FileFailed = "file_failed", "A file of the device cannot be read or written.";
    KdfRefused = "kdf_refused", "The vault's settings for stretching the passphrase were weakened.";
    NoInput = "no_input", "An answer is needed, and nobody can be asked.";
    FactorUnusable = "factor_unusable", "The factor does not fit any way of unlocking.";
    NoClipboard = "no_clipboard", "This machine has no clipboard.";
    ClipboardFailed = "clipboard_failed", "The clipboard did not take the value.";
    ExecFailed = "exec_failed", "The program could not be started.";
    Unreachable = "unreachable", "No server answers.";
    VaultNotAuthentic = "vault_not_authentic", "The other end is not the vault that this device pinned.";
    HostNotTrusted = "host_not_trusted", "The machine or the vault program is not one that this device trusts.";
    AttestationRefused = "attestation_refused", "The attestation policy cannot be read.";
    TurnedAway = "turned_away", "The vault does not know this device or guest.";
    UploadFailed = "upload_failed", "What was to be sent along could not be read.";
    ConnectionLost = "connection_lost", "The connection broke, or nothing came in time.";
    NoHome = "no_home", "This user has no home folder.";
    ItemAmbiguous = "item_ambiguous", "Several items have this name.";
    ProofRefused = "proof_refused", "The proof of an event does not hold.";
    FingerprintDiffers = "fingerprint_differs", "The proof is of another vault.";
    HttpStatus = "http_status", "The called API answered with an error, and `--fail` was given.";
    TagRefused = "tag_refused", "The authentication tag does not fit.";
    DoctorFoundProblems = "doctor_found_problems", "`doctor` found problems.";
    KeyFileExists = "key_file_exists", "There is a file where the guest's key was to go.";
    ImportRefused = "import_refused", "The file to import is not one that is understood.";
    ImportFailed = "import_failed", "The reader of imports broke off.";
    McpFailed = "mcp_failed", "The MCP server ended with an error.";
    PhraseNotShown = "phrase_not_shown", "The recovery phrase is shown at a terminal only.";
    VaultProgramMissing = "vault_program_missing", "The program of vault processes is not there.";
    TpmProgramMissing = "tpm_program_missing", "The program that holds the TPM is not there.";
    ServeFailed = "serve_failed", "The server ended with an error.";
    ServicesFailed = "services_failed", "The services ended with an error.";
}

/// A code of the wire or of the command's own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AnyCode {
    Wire(Code),
    Own(OwnCode),
}

impl AnyCode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Wire(code) => code.as_str(),
            Self::Own(code) => code.as_str(),
        }
    }
}

impl From<Code> for AnyCode {
    fn from(code: Code) -> Self {
        Self::Wire(code)
    }
}

impl From<OwnCode> for AnyCode {
    fn from(code: OwnCode) -> Self {
        Self::Own(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_errors_has_every_code() {
        let page = include_str!("../../../docs/errors.md");
        for code in OwnCode::ALL {
            let row = format!("| `{}` | {} |\n", code.as_str(), code.meaning());
            assert!(page.contains(&row), "docs/errors.md lacks this row: {row}");
        }
    }

    #[test]
    fn no_code_stands_for_two_things() {
        let wire = Code::ALL.iter().map(|code| code.as_str());
        let mut seen = std::collections::HashSet::new();
        for code in wire.chain(OwnCode::ALL.iter().map(|code| code.as_str())) {
            assert!(seen.insert(code), "{code} twice");
        }
    }
}

//! Where shares rest, behind one interface: as they are in a file of their own, or sealed in a TPM to what runs here.

use std::sync::Arc;

use strongroom_bus::log;
use strongroom_wire::host::{HardwareAnswer, HardwareRequest};
use strongroom_wire::sealing::{Evidence, Sealable, TpmAnswer, TpmRefusal, TpmRequest, TpmSealed};
use strongroom_wire::{Bytes, Code, Refusal, VaultId};

use crate::folders::{CreateVaultError, Folders};
use crate::keeper::Keeper;
use crate::programs::{Digest, Programs};
use crate::share::{Resting, Share};
use crate::tpm::Tpm;

/// Seals and opens the shares of one host.
#[derive(Debug)]
pub(crate) struct Sealer {
    folders: Arc<Folders>,
    programs: Arc<Programs>,
    keeper: Keeper,
    tpm: Option<Tpm>,
}

/// A share that was opened, and the vault program that may have it; any, where it is not sealed to one.
pub(crate) struct Opened {
    pub(crate) share: Share,
    pub(crate) program: Option<Digest>,
    /// Whether it was made to take the place of one that is gone.
    pub(crate) is_new: bool,
}

impl Sealer {
    pub(crate) fn new(folders: Arc<Folders>, programs: Arc<Programs>, keeper: Keeper, tpm: Option<Tpm>) -> Self {
        Self { folders, programs, keeper, tpm }
    }

    /// Finds out whether the TPM answers, and measures the program that is installed: a server that could open no vault says so at
    /// once.
    ///
    /// # Errors
    /// What is missing.
    pub(crate) async fn begin(&self) -> Result<(), Refusal> {
        let Some(tpm) = &self.tpm else { return Ok(()) };
        let program = self.installed().await?;
        tpm.ask(TpmRequest::Count { up: false }).await.map_err(refused)?;
        log::info("sealing", &[("kind", &"tpm"), ("program", &program)]);
        Ok(())
    }

    /// Makes share and folder of a new vault, durably.
    pub(crate) async fn create(&self, vault: VaultId) -> Result<(), CreateVaultError> {
        let generated = Share::generate().map_err(|error| CreateVaultError::Io(error.kind()))?;
        let rests = self.rest(vault, generated).await.map_err(CreateVaultError::Refused)?;
        let folders = Arc::clone(&self.folders);
        let made = self.keeper.run(move || folders.create(vault, &rests)).await;
        made.unwrap_or(Err(CreateVaultError::Refused(Code::Bug.into())))
    }

    /// The share as it is to rest, in the form of its file.
    async fn rest(&self, vault: VaultId, share: Share) -> Result<Resting, Refusal> {
        let Some(tpm) = &self.tpm else { return Ok(Resting::Plain(share)) };
        let program = self.installed().await?;
        let sealed = seal(tpm, vault, share, program).await?;
        Ok(Resting::Sealed(sealed))
    }

    /// A vault's share, and the program that may have it.
    ///
    /// # Errors
    /// What to refuse the member with.
    pub(crate) async fn open(&self, vault: VaultId) -> Result<Opened, Refusal> {
        let folders = Arc::clone(&self.folders);
        let found = self.keeper.run(move || folders.share(vault)).await.map_err(|_| Code::Bug)?;
        match (found, &self.tpm) {
            (None, _) => Err(Code::ShareMissing.into()),
            (Some(Resting::Plain(share)), None) => Ok(Opened { share, program: None, is_new: false }),
            (Some(Resting::Sealed(_)), None) => Err(Refusal::new(Code::ShareMissing).detail(
                "The share is sealed in a TPM, and the server runs without one: strongroom serve --sealing tpm.",
            )),
            (Some(Resting::Plain(share)), Some(tpm)) => {
                let program = self.installed().await?;
                self.seal_at_last(tpm, vault, share, program).await
            }
            (Some(Resting::Sealed(sealed)), Some(tpm)) => {
                let program = Digest::of(&sealed.program).ok_or(Code::ShareMissing)?;
                let share = open(tpm, vault, sealed).await?;
                Ok(Opened { share, program: Some(program), is_new: false })
            }
        }
    }

    /// A share to take the place of one that is gone. It is made once, and waits beside the other until the vault's header is sealed
    /// under it.
    ///
    /// # Errors
    /// What to refuse the member with.
    pub(crate) async fn open_new(&self, vault: VaultId) -> Result<Opened, Refusal> {
        match self.open_waiting(vault).await {
            // None waits, or one that this machine does not give out any more.
            Err(refusal) if matches!(refusal.code, Code::ShareMissing | Code::MeasurementChanged) => {}
            // A chip that does not answer now may do so later.
            waits => return waits,
        }
        let bug = |_| Code::HostFailed;
        let share = Share::generate().map_err(bug)?;
        let rests = self.rest(vault, share).await?;
        let folders = Arc::clone(&self.folders);
        let made = self.keeper.run(move || folders.make_new_share(vault, &rests)).await.map_err(|_| Code::Bug)?;
        made.map_err(|error| {
            log::warn("new_share_not_made", &[("vault", &vault), ("kind", &error.kind())]);
            Code::HostFailed
        })?;
        self.open_waiting(vault).await
    }

    async fn open_waiting(&self, vault: VaultId) -> Result<Opened, Refusal> {
        let folders = Arc::clone(&self.folders);
        let waits = self.keeper.run(move || folders.new_share(vault)).await.map_err(|_| Code::Bug)?;
        match (waits, &self.tpm) {
            (Some(Resting::Plain(share)), None) => Ok(Opened { share, program: None, is_new: true }),
            (Some(Resting::Sealed(sealed)), Some(tpm)) => {
                let program = Digest::of(&sealed.program).ok_or(Code::ShareMissing)?;
                let share = open(tpm, vault, sealed).await?;
                Ok(Opened { share, program: Some(program), is_new: true })
            }
            _ => Err(Code::ShareMissing.into()),
        }
    }

    /// The new share takes the place of the one that is gone: the vault's header is sealed under it.
    pub(crate) async fn keep_new(&self, vault: VaultId) -> Result<(), std::io::ErrorKind> {
        let folders = Arc::clone(&self.folders);
        let kept = self.keeper.run(move || folders.keep_new_share(vault)).await;
        kept.unwrap_or(Err(std::io::ErrorKind::Other.into())).map_err(|error| error.kind())
    }

    /// Seals a share that rested in a file: the host has a TPM since.
    async fn seal_at_last(&self, tpm: &Tpm, vault: VaultId, share: Share, program: Digest) -> Result<Opened, Refusal> {
        let sealed = seal(tpm, vault, share, program).await?;
        // What is destroyed next can be opened again.
        let share = open(tpm, vault, sealed.clone()).await?;
        self.replace(vault, sealed).await?;
        log::info("share_sealed", &[("vault", &vault)]);
        Ok(Opened { share, program: Some(program), is_new: false })
    }

    /// Puts what was sealed in the place of the share that is there.
    async fn replace(&self, vault: VaultId, sealed: Box<TpmSealed>) -> Result<(), Refusal> {
        let folders = Arc::clone(&self.folders);
        let stored = self.keeper.run(move || folders.replace_share(vault, &Resting::Sealed(sealed))).await;
        stored.map_err(|_| Code::Bug)?.map_err(|error| {
            log::warn("share_not_sealed", &[("vault", &vault), ("kind", &error.kind())]);
            Code::HostFailed
        })?;
        Ok(())
    }

    /// Seals a vault's share to another program, for good: the member has agreed. The share stays in the TPM's program.
    async fn reseal(&self, tpm: &Tpm, vault: VaultId, program: Digest) -> Result<(), Refusal> {
        let folders = Arc::clone(&self.folders);
        let found = self.keeper.run(move || folders.share(vault)).await.map_err(|_| Code::Bug)?;
        let Some(Resting::Sealed(sealed)) = found else { return Err(Code::ShareMissing.into()) };
        let asked = tpm
            .ask(TpmRequest::Reseal { what: Sealable::Share(vault), sealed, program: program.bytes() })
            .await
            .map_err(refused)?;
        let TpmAnswer::Sealed(sealed) = asked else { return Err(Code::Bug.into()) };
        self.replace(vault, sealed).await?;
        log::info("share_resealed", &[("vault", &vault)]);
        Ok(())
    }

    /// Evidence that `program` runs here, bound to `binding`; empty where no hardware speaks for this host.
    pub(crate) async fn evidence(&self, program: Option<Digest>, binding: [u8; 32]) -> Vec<u8> {
        let (Some(tpm), Some(program)) = (&self.tpm, program) else { return Vec::new() };
        let request = TpmRequest::Quote { program: program.bytes(), binding: Bytes::from(binding) };
        match tpm.ask(request).await {
            Ok(TpmAnswer::Quoted(quoted)) => Evidence::Tpm(*quoted).encode(),
            Ok(_) => Vec::new(),
            Err(refusal) => {
                // A device that asks for evidence says that there is none.
                log::warn("no_evidence", &[("why", &word(&refusal))]);
                Vec::new()
            }
        }
    }

    /// Does for a vault process what it asks of the hardware. `program` is what it runs.
    ///
    /// # Errors
    /// What to refuse it with.
    pub(crate) async fn perform(
        &self,
        vault: VaultId,
        program: Option<Digest>,
        request: HardwareRequest,
    ) -> Result<HardwareAnswer, Refusal> {
        let (Some(tpm), Some(runs)) = (&self.tpm, program) else { return Err(Code::HardwareMissing.into()) };
        let request = match request {
            HardwareRequest::ResealShare { program } => {
                // To nothing but what is installed: a vault process does not choose what runs here.
                let installed = self.installed().await?;
                if program != installed.bytes() {
                    return Err(Code::Conflict.into());
                }
                self.reseal(tpm, vault, installed).await?;
                return Ok(HardwareAnswer::Done {});
            }
            HardwareRequest::Generate { to } => {
                TpmRequest::GenerateTo { what: Sealable::Unattended(vault), program: runs.bytes(), to }
            }
            HardwareRequest::Open { sealed, to } => {
                TpmRequest::OpenTo { what: Sealable::Unattended(vault), sealed, to }
            }
            HardwareRequest::Reseal { program, .. } if program != self.installed().await?.bytes() => {
                return Err(Code::Conflict.into());
            }
            HardwareRequest::Reseal { sealed, program } => {
                TpmRequest::Reseal { what: Sealable::Unattended(vault), sealed, program }
            }
        };
        match tpm.ask(request).await.map_err(refused)? {
            TpmAnswer::OpenedTo { sealed, secret } => Ok(HardwareAnswer::Secret { sealed, secret }),
            TpmAnswer::Sealed(sealed) => Ok(HardwareAnswer::Sealed { sealed }),
            _ => Err(Code::Bug.into()),
        }
    }

    /// The vault program that is installed.
    pub(crate) async fn installed(&self) -> Result<Digest, Refusal> {
        let programs = Arc::clone(&self.programs);
        let measured = self.keeper.run(move || programs.installed()).await.map_err(|_| Code::Bug)?;
        measured.map_err(|error| {
            log::warn("vault_program_not_measured", &[("kind", &error.kind())]);
            Code::HostFailed.into()
        })
    }
}

async fn seal(tpm: &Tpm, vault: VaultId, share: Share, program: Digest) -> Result<Box<TpmSealed>, Refusal> {
    let request =
        TpmRequest::Seal { what: Sealable::Share(vault), program: program.bytes(), secret: share.into_secret() };
    match tpm.ask(request).await.map_err(refused)? {
        TpmAnswer::Sealed(sealed) => Ok(sealed),
        _ => Err(Code::Bug.into()),
    }
}

async fn open(tpm: &Tpm, vault: VaultId, sealed: Box<TpmSealed>) -> Result<Share, Refusal> {
    match tpm.ask(TpmRequest::Open { what: Sealable::Share(vault), sealed }).await.map_err(refused)? {
        TpmAnswer::Opened { secret } => Share::of_secret(&secret).ok_or(Code::ShareMissing.into()),
        _ => Err(Code::Bug.into()),
    }
}

/// What a member is told when the TPM refuses.
fn refused(refusal: TpmRefusal) -> Refusal {
    log::warn("tpm_refused", &[("why", &word(&refusal))]);
    let code = match refusal {
        TpmRefusal::Changed { .. } => Code::MeasurementChanged,
        TpmRefusal::OtherTpm {} | TpmRefusal::Damaged {} => Code::ShareMissing,
        TpmRefusal::Unreachable {} | TpmRefusal::Tpm { .. } => Code::HardwareMissing,
    };
    let text = refusal.to_string();
    let mut sentence = text.chars();
    let capital: String = sentence.next().into_iter().flat_map(char::to_uppercase).chain(sentence).collect();
    Refusal::new(code).detail(format!("{capital}."))
}

fn word(refusal: &TpmRefusal) -> &'static str {
    match refusal {
        TpmRefusal::Changed { .. } => "changed",
        TpmRefusal::OtherTpm {} => "other_tpm",
        TpmRefusal::Damaged {} => "damaged",
        TpmRefusal::Unreachable {} => "unreachable",
        TpmRefusal::Tpm { .. } => "tpm",
    }
}

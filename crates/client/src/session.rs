//! A device's requests: over a connection that is made when it is first needed, with fresh authentication and the credential
//! where the vault asks for them, and sent again at most once where that is safe.

use std::thread;
use std::time::Duration;

use serde_json::value::RawValue;
use strongroom_crypto::channel::Role;
use strongroom_crypto::factor::FactorSigner;
use strongroom_wire::device::{DeviceAnswer, DeviceRequest, Fresh, SlotKind, SlotView};
use strongroom_wire::items::FieldDraft;
use strongroom_wire::{Bytes, Challenge, Class, Code, Refusal, SlotId};

use crate::channel::{self, Ask, AskError, Body, ConnectError, Connection, Expected, PATIENCE, Speaker, Trust, Upload};
use crate::credential;
use crate::error::ClientError;
use crate::fresh::{self, Factor, Factors};
use crate::profile::Profile;

/// A device that talks to its vault.
pub struct Session<'p> {
    profile: &'p Profile,
    factors: &'p mut dyn Factors,
    connection: Option<Connection>,
    /// What answers challenges, once the member has given a factor; wiped with the session.
    signer: Option<(SlotId, FactorSigner)>,
}

/// What a request has to bring along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Needs {
    fresh: bool,
    credential: bool,
}

impl<'p> Session<'p> {
    /// A session of this device; nothing is sent yet.
    pub fn new(profile: &'p Profile, factors: &'p mut dyn Factors) -> Self {
        Self { profile, factors, connection: None, signer: None }
    }

    /// The device.
    #[must_use]
    pub fn profile(&self) -> &'p Profile {
        self.profile
    }

    /// Asks, with whatever the vault wants to see first.
    ///
    /// # Errors
    /// What the vault refused, or why it could not be asked.
    pub fn ask(&mut self, request: &DeviceRequest) -> Result<DeviceAnswer, ClientError> {
        let body = to_body(request);
        let patience = patience_for(request);
        let mut needs = Needs::of(request);
        loop {
            let asked = if needs.credential {
                self.present(&body, needs.fresh, patience)
            } else {
                let ask = self.prepare(&body, needs.fresh, patience)?;
                self.send(&ask)
            };
            match asked {
                Err(ClientError::Refused(refusal)) if needs.learn(&refusal) => {}
                done => return done,
            }
        }
    }

    /// Asks with a body to send along, and gives the head of the answer with its body. It is sent once: a body cannot be read
    /// twice.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn ask_streaming<'s>(
        &'s mut self,
        request: &DeviceRequest,
        upload: Option<Upload<'s>>,
    ) -> Result<(DeviceAnswer, Option<Body<'s>>), ClientError> {
        let body = to_body(request);
        let ask = self.prepare(&body, Needs::of(request).fresh, patience_for(request))?;
        self.connect()?;
        let connection = self.connection.as_mut().expect("connected above");
        connection.ask_streaming(&ask, upload).map_err(ClientError::from)
    }

    /// The ways to unlock.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn slots(&mut self) -> Result<Vec<SlotView>, ClientError> {
        match self.ask(&DeviceRequest::SlotList {})? {
            DeviceAnswer::Slots { slots } => Ok(slots),
            _ => Err(ClientError::Answer),
        }
    }

    /// A factor from the member, for one of the vault's slots. It answers the challenges of this session from now on.
    ///
    /// # Errors
    /// When the member gives none.
    pub fn factor(&mut self) -> Result<Factor, ClientError> {
        let slots = self.slots()?;
        let factor = self.factors.factor(&slots)?;
        self.signer = Some((factor.slot, factor.root.signer(self.profile.vault().as_bytes())));
        Ok(factor)
    }

    /// Forgets the factor; the next act that needs one asks again.
    pub fn forget_factor(&mut self) {
        self.signer = None;
    }

    /// Closes the connection; the next request opens another.
    pub fn disconnect(&mut self) {
        self.connection = None;
    }

    /// The SHA-256 of the vault program at the other end, where its evidence was appraised.
    #[must_use]
    pub fn program(&self) -> Option<[u8; 32]> {
        self.connection.as_ref()?.program()
    }

    /// Opens the connection where there is none.
    ///
    /// # Errors
    /// When the server cannot be reached, or the vault is not the one that is pinned.
    pub fn connect(&mut self) -> Result<(), ClientError> {
        if self.connection.as_ref().is_some_and(|connection| !connection.is_ended()) {
            return Ok(());
        }
        let profile = self.profile;
        let speaker = Speaker::new(Role::Device, profile.device().0, profile.sign_key());
        let epoch = profile.channel_epoch()?;
        let expected = Expected::Identity(profile.identity(), epoch);
        let policy = profile.policy()?;
        let trust = Trust::Policy(&policy);
        let connection = Connection::open(profile.socket(), profile.vault(), expected, trust, speaker)?;
        if let Some(program) = connection.program() {
            // It was accepted and is seen to run: what ran before may not come back.
            let mut now = policy.clone();
            if now.only_program(program) {
                profile.store_policy(&now)?;
            }
        }
        if connection.epoch() > epoch {
            profile.store_channel_epoch(connection.epoch())?;
        }
        self.connection = Some(connection);
        Ok(())
    }

    /// Presents the credential with a request, keeps the next blob, and confirms.
    fn present(&mut self, body: &RawValue, fresh: bool, patience: Duration) -> Result<DeviceAnswer, ClientError> {
        // A factor is asked for before the lock is taken, so that no other command waits for a person.
        if fresh && self.signer.is_none() {
            self.factor()?;
        }
        let _lock = self.profile.lock()?;
        let mut presented = Bytes::from(self.profile.credential()?);
        let mut ask = self.prepare(body, fresh, patience)?;
        for _ in 0..PRESENTATIONS_MAX {
            ask.credential = Some(presented);
            match self.send(&ask)? {
                DeviceAnswer::CredentialNext { sequence, mail } => {
                    presented = credential::keep_next(self.profile, sequence, &mail)?;
                }
                answer => return Ok(answer),
            }
            let confirm = Ask {
                id: ask.id,
                fresh: None,
                credential: Some(presented.clone()),
                body: to_body(&DeviceRequest::CredentialConfirm { sequence: number_of(&presented)? }),
                patience,
            };
            match self.send(&confirm) {
                // The vault process began anew in between and has lost the request: once more, with the new blob.
                Err(ClientError::Refused(refusal)) if refusal.code == Code::CredentialBusy => {
                    ask = Ask { id: ask.id, ..self.prepare(body, fresh, patience)? };
                }
                done => return done,
            }
        }
        Err(Refusal::new(Code::CredentialBusy).into())
    }

    fn prepare(&mut self, body: &RawValue, fresh: bool, patience: Duration) -> Result<Ask, ClientError> {
        let fresh = if fresh { Some(self.answer_challenge(body.get())?) } else { None };
        Ok(Ask { id: channel::new_request_id(), fresh, credential: None, body: body.to_owned(), patience })
    }

    fn answer_challenge(&mut self, body: &str) -> Result<Fresh, ClientError> {
        if self.signer.is_none() {
            self.factor()?;
        }
        let challenge = self.challenge()?;
        let (slot, signer) = self.signer.as_ref().expect("a factor was given above");
        let place = (self.profile.vault(), self.profile.device());
        Ok(fresh::answer(signer, *slot, place, challenge, body))
    }

    fn challenge(&mut self) -> Result<Challenge, ClientError> {
        let ask = Ask {
            id: channel::new_request_id(),
            fresh: None,
            credential: None,
            body: to_body(&DeviceRequest::Challenge {}),
            patience: PATIENCE,
        };
        match self.send(&ask)? {
            DeviceAnswer::Challenge { challenge } => Ok(challenge),
            _ => Err(ClientError::Answer),
        }
    }

    /// Sends one request, and once more under the same id where the connection broke or the vault process could not be
    /// reached.
    fn send(&mut self, ask: &Ask) -> Result<DeviceAnswer, ClientError> {
        let mut broke = None;
        loop {
            self.connect()?;
            let connection = self.connection.as_mut().expect("connected above");
            match connection.ask(ask) {
                Ok(DeviceAnswer::Outcome { sealed }) => {
                    return credential::open_kept_outcome(self.profile, ask.id, &sealed);
                }
                Ok(answer) => return Ok(answer),
                Err(error) if broke.is_none() && may_repeat(&error) => {
                    self.connection = None;
                    broke = Some(error);
                    thread::sleep(REPEAT_AFTER);
                }
                // The challenge was used up by the request whose answer was lost: what became of it is not known here.
                Err(AskError::Refused(refusal)) if refusal.code == Code::FreshRefused => {
                    return Err(broke.unwrap_or(AskError::Refused(refusal)).into());
                }
                Err(error) => {
                    if matches!(error, AskError::Connection(_)) {
                        self.connection = None;
                    }
                    return Err(error.into());
                }
            }
        }
    }
}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("profile", &self.profile).finish_non_exhaustive()
    }
}

impl Needs {
    /// What is known beforehand, which saves a refused attempt; the vault has the last word.
    fn of(request: &DeviceRequest) -> Self {
        use DeviceRequest as R;
        let fresh = match request {
            R::ApprovalAnswer(answer) => answer.allow,
            R::GuestSuspend { suspended, .. } => !suspended,
            R::SessionBegin {}
            | R::ItemAdd(_)
            | R::ItemEdit(_)
            | R::ItemRemove { .. }
            | R::ItemRestore { .. }
            | R::ItemImport { .. }
            | R::GuestAdd(_)
            | R::GuestRevoke { .. }
            | R::GrantAdd(_)
            | R::SlotAdd(_)
            | R::SlotRemove { .. }
            | R::SlotReplace { .. }
            | R::DeviceAdd(_)
            | R::DeviceRevoke { .. }
            | R::ConfigSet(_)
            | R::UpdateAccept { .. }
            | R::UnattendedSet { .. }
            | R::VaultDelete { .. }
            | R::Use(_)
            | R::Deliver(_) => true,
            _ => false,
        };
        let critical = |fields: &[FieldDraft]| fields.iter().any(|field| field.class == Class::Critical);
        let credential = match request {
            R::GuestAdd(_) | R::DeviceAdd(_) | R::UpdateAccept { .. } => true,
            R::SlotReplace { draft, .. } => draft.kind == SlotKind::Recovery,
            R::ItemAdd(draft) => critical(&draft.fields),
            R::ItemEdit(edit) => critical(&edit.set),
            _ => false,
        };
        Self { fresh, credential }
    }

    /// Takes a refusal as a lesson; `false` where there is nothing to learn from it.
    fn learn(&mut self, refusal: &Refusal) -> bool {
        match refusal.code {
            Code::FreshRequired if !self.fresh => self.fresh = true,
            Code::CredentialRequired if !self.credential => self.credential = true,
            _ => return false,
        }
        true
    }
}

impl From<AskError> for ClientError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Refused(refusal) => Self::Refused(refusal),
            AskError::Connection(error) => Self::Connect(error),
            AskError::TooLarge => Self::TooLarge,
        }
    }
}

/// Whether the same request, under the same id, may be sent once more.
pub(crate) fn may_repeat(error: &AskError) -> bool {
    match error {
        AskError::Refused(refusal) => refusal.code == Code::HostFailed,
        AskError::Connection(ConnectError::Broken(_)) => true,
        _ => false,
    }
}

/// How long an answer may take: those that wait are given their wait on top.
fn patience_for(request: &DeviceRequest) -> Duration {
    let waits = match request {
        DeviceRequest::ApprovalList { wait_secs, .. } => *wait_secs,
        DeviceRequest::AuditList(query) => query.wait_secs,
        DeviceRequest::Use(_) => 600,
        _ => 0,
    };
    PATIENCE + Duration::from_secs(waits)
}

fn to_body(request: &DeviceRequest) -> Box<RawValue> {
    serde_json::value::to_raw_value(request).expect("a request always has a JSON form")
}

fn number_of(blob: &Bytes) -> Result<u64, ClientError> {
    credential::number(&blob.0).ok_or(ClientError::Answer)
}

pub(crate) const REPEAT_AFTER: Duration = Duration::from_millis(100);
const PRESENTATIONS_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_teaches_once() {
        let mut needs = Needs::of(&DeviceRequest::Status {});
        assert_eq!(needs, Needs { fresh: false, credential: false });
        let fresh = Refusal::new(Code::FreshRequired);
        assert!(needs.learn(&fresh));
        assert!(!needs.learn(&fresh), "a second refusal is final");
        assert!(needs.learn(&Refusal::new(Code::CredentialRequired)));
        assert!(!needs.learn(&Refusal::new(Code::VaultLocked)));
    }
}

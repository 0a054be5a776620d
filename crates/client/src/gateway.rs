//! A guest's requests, from the gateway beside it.

use std::thread;
use std::time::Duration;

use serde_json::value::RawValue;
use strongroom_crypto::channel::Role;
use strongroom_wire::guest::{ApprovalState, GuestAnswer, GuestRequest};
use strongroom_wire::{ApprovalId, HandleId};

use crate::channel::{self, Ask, AskError, Body, Connection, Expected, PATIENCE, Speaker, Trust, Upload};
use crate::clock;
use crate::error::ClientError;
use crate::guest::GuestKey;
use crate::session::{REPEAT_AFTER, may_repeat};

/// A guest that talks to the vault.
pub struct Gateway<'k> {
    key: &'k GuestKey,
    connection: Option<Connection>,
}

impl<'k> Gateway<'k> {
    /// A gateway with this guest's key; nothing is sent yet.
    #[must_use]
    pub fn new(key: &'k GuestKey) -> Self {
        Self { key, connection: None }
    }

    /// A gateway that goes on with a connection of the same guest.
    #[must_use]
    pub fn resume(key: &'k GuestKey, connection: Option<Connection>) -> Self {
        Self { key, connection }
    }

    /// The connection, for another gateway of the same guest to go on with.
    #[must_use]
    pub fn into_connection(self) -> Option<Connection> {
        self.connection.filter(|connection| !connection.is_ended())
    }

    /// Asks; once more where the vault process could not be reached, and for a list or a poll also where the connection broke.
    ///
    /// # Errors
    /// What the vault refused, or why it could not be asked.
    pub fn ask(&mut self, request: &GuestRequest) -> Result<GuestAnswer, ClientError> {
        let ask = prepare(request);
        // A use that broke off may have happened; only what changes nothing is asked for again.
        let harmless = matches!(request, GuestRequest::List {} | GuestRequest::Poll { .. });
        let mut again = true;
        loop {
            let asked = self.connect()?.ask(&ask);
            match asked {
                Err(error) if again && may_repeat(&error) && (harmless || matches!(error, AskError::Refused(_))) => {
                    again = false;
                    self.connection = None;
                    thread::sleep(REPEAT_AFTER);
                }
                done => return done.map_err(ClientError::from),
            }
        }
    }

    /// Asks with a body to send along, and gives the head of the answer with its body.
    ///
    /// # Errors
    /// As [`ask`](Self::ask); it is sent once.
    pub fn ask_streaming<'s>(
        &'s mut self,
        request: &GuestRequest,
        upload: Option<Upload<'s>>,
    ) -> Result<(GuestAnswer, Option<Body<'s>>), ClientError> {
        let ask = prepare(request);
        self.connect()?.ask_streaming(&ask, upload).map_err(ClientError::from)
    }

    /// Waits until the member has answered, or the question has expired.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where the answer is no; else as [`ask`](Self::ask).
    pub fn wait(&mut self, approval: ApprovalId) -> Result<Answered, ClientError> {
        loop {
            let polled = self.ask(&GuestRequest::Poll { approval, wait_secs: POLL_SECS })?;
            match polled {
                GuestAnswer::Polled(ApprovalState::Pending { expires_at })
                    if clock::now() <= expires_at.plus_secs(5) => {}
                GuestAnswer::Polled(ApprovalState::Approved { handle, .. }) => return Ok(Answered::Use(handle)),
                GuestAnswer::Polled(ApprovalState::Granted {}) => return Ok(Answered::Granted),
                GuestAnswer::Polled(ApprovalState::Refused(refusal)) => return Err(refusal.into()),
                GuestAnswer::Polled(ApprovalState::Pending { .. }) => {
                    return Err(strongroom_wire::Refusal::new(strongroom_wire::Code::ApprovalExpired).into());
                }
                _ => return Err(ClientError::Answer),
            }
        }
    }

    fn connect(&mut self) -> Result<&mut Connection, ClientError> {
        if self.connection.as_ref().is_none_or(Connection::is_ended) {
            let key = self.key;
            let speaker = Speaker::new(Role::Guest, key.guest().0, key.sign_key());
            let expected = Expected::Identity(key.identity(), 0);
            self.connection = Some(Connection::open(key.socket(), key.vault(), expected, Trust::Unasked, speaker)?);
        }
        Ok(self.connection.as_mut().expect("connected above"))
    }
}

impl std::fmt::Debug for Gateway<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("key", &self.key).finish_non_exhaustive()
    }
}

/// What the member said yes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// One use: the vault runs the request it kept, once, for this handle.
    Use(HandleId),
    /// A grant.
    Granted,
}

fn prepare(request: &GuestRequest) -> Ask {
    let waits = match request {
        GuestRequest::Poll { wait_secs, .. } => *wait_secs,
        GuestRequest::Use(_) => USE_SECS,
        _ => 0,
    };
    let body: Box<RawValue> = serde_json::value::to_raw_value(request).expect("a request always has a JSON form");
    Ask {
        id: channel::new_request_id(),
        fresh: None,
        credential: None,
        body,
        patience: PATIENCE + Duration::from_secs(waits),
    }
}

const POLL_SECS: u64 = 30;
/// How long a called API may take between two pieces of its answer.
const USE_SECS: u64 = 600;

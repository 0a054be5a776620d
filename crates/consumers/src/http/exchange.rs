//! One request and the head of its answer.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::TrySendError;
use strongroom_wire::limits::HTTP_SECRET_BYTES_MIN;
use strongroom_wire::target::Target;
use strongroom_wire::{Code, Refusal};
use tokio::time::timeout;

use super::body::{BodySource, OutBody, Progress};
use super::connect::{self, TlsConfigs};
use super::decode::{self, Encoding, Frames};
use super::headers::RequestHead;
use super::place::{self, Placed, Plain};
use super::pool::{Key, Lease, Pool};
use super::{Hop, HttpJob, HttpOutcome, Timeouts, Tunnels};
use crate::mask::Mask;

/// A request about to be sent, and what it is sent with.
pub(super) struct Exchange<'a, T> {
    pub(super) job: &'a HttpJob,
    pub(super) request: &'a RequestHead,
    pub(super) target: &'a Target,
    pub(super) key: Key,
    pub(super) body_bytes_max: u64,
    pub(super) tunnels: &'a T,
    pub(super) pool: &'a Pool,
    pub(super) tls: &'a TlsConfigs,
    pub(super) timeouts: Timeouts,
}

impl<T: Tunnels> Exchange<'_, T> {
    /// Sends the request and waits for the head of its answer.
    pub(super) async fn run(self, body: BodySource, outcome: &mut HttpOutcome) -> Result<Answer, Refusal> {
        let (mut body, mut progress) = OutBody::new(body, self.body_bytes_max, &self.job.meter)?;
        loop {
            let (mut lease, pooled) = match self.pool.take(&self.key) {
                Some(lease) => (lease, true),
                None => (self.connect().await?, false),
            };
            if !matches!(timeout(self.timeouts.connect, lease.ready()).await, Ok(Ok(()))) {
                lease.close();
                if pooled {
                    continue;
                }
                return Err(Refusal::new(Code::ConnectFailed).detail("The host closed the connection at once."));
            }
            let placed = self.place(&body)?;
            let mask = placed.mask.clone();
            let request = self.build(placed, body, lease.is_http2())?;
            outcome.address = Some(lease.address().to_owned());
            let destination = self.key.destination.clone();
            outcome.hops.push(Hop { destination, address: lease.address().to_owned(), status: None });
            let answered = self.answered(lease.send(request), &progress).await;
            match answered {
                Ok(response) => {
                    outcome.sent_anything = true;
                    if let Err(refusal) = check_coding(response.headers()) {
                        lease.close();
                        return Err(refusal);
                    }
                    return Ok(self.answer(response, lease, mask, progress, outcome));
                }
                // Nothing of the request left: only then may another connection be tried.
                Err(Failed::Unsent(unsent)) if pooled => {
                    outcome.hops.pop();
                    lease.close();
                    (body, progress) =
                        OutBody::new(unsent.into_body().into_source(), self.body_bytes_max, &self.job.meter)?;
                }
                Err(failed) => {
                    lease.close();
                    outcome.sent_anything |= !matches!(failed, Failed::Unsent(_));
                    return Err(progress.failure().unwrap_or_else(|| failed.refusal()));
                }
            }
        }
    }

    async fn connect(&self) -> Result<Lease, Refusal> {
        let policy = &self.job.policy;
        let config = self.tls.for_roots(policy.roots_pem.as_deref(), (self.job.now)())?;
        let connecting = connect::connect(
            self.tunnels,
            &self.key.destination,
            policy.allow_private,
            config,
            self.pool,
            &self.key,
            self.timeouts,
        );
        timeout(self.timeouts.connect, connecting)
            .await
            .map_err(|_| Refusal::new(Code::ConnectFailed).detail("The host did not answer in time."))?
    }

    /// Opens the secret and computes what it adds to the request. The plaintext is gone when this returns.
    fn place(&self, body: &OutBody) -> Result<Placed, Refusal> {
        let job = self.job;
        let secret = (job.secret)()?;
        if job.for_guest && !job.policy.allow_short && secret.len() < HTTP_SECRET_BYTES_MIN {
            return Err(Refusal::new(Code::SecretTooShort).rule("allow_short: no"));
        }
        let plain = Plain {
            method: &self.request.method,
            target: self.target,
            headers: &self.request.headers,
            body: body.source().whole(),
            now: (job.now)(),
        };
        place::place(&job.policy.placement, &secret, &plain)
    }

    fn build(&self, placed: Placed, body: OutBody, http2: bool) -> Result<Request<OutBody>, Refusal> {
        // The parser accepts only what this library does; a test holds them together.
        let bug = || Refusal::new(Code::Bug).detail("An accepted URL was refused by the HTTP library.");
        let authority = self.key.destination.to_string();
        let path_and_query = match placed.path_and_query {
            Some(placed) => placed,
            None => self.target.request_target().parse().map_err(|_| bug())?,
        };
        let mut uri = http::uri::Parts::default();
        uri.path_and_query = Some(path_and_query);
        if http2 {
            uri.scheme = Some(http::uri::Scheme::HTTPS);
            uri.authority = Some(authority.parse().map_err(|_| bug())?);
        }
        let mut request = Request::new(body);
        *request.method_mut() = self.request.method.clone();
        *request.uri_mut() = Uri::from_parts(uri).map_err(|_| bug())?;
        let headers = request.headers_mut();
        *headers = self.request.headers.clone();
        if !http2 {
            headers.insert(header::HOST, HeaderValue::from_str(&authority).map_err(|_| bug())?);
        }
        for (name, value) in placed.headers {
            headers.insert(name, value);
        }
        if matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH)
            && request.body().size_hint().exact() == Some(0)
        {
            request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        Ok(request)
    }

    /// Waits for the head. While the request's body moves on there is no hurry.
    async fn answered(
        &self,
        sending: impl Future<Output = Result<Response<Incoming>, TrySendError<Request<OutBody>>>>,
        progress: &Progress,
    ) -> Result<Response<Incoming>, Failed> {
        let mut sending = pin!(sending);
        loop {
            let before = (progress.bytes_sent(), progress.ended());
            let patience = if progress.ended() { self.timeouts.head } else { self.timeouts.body_idle };
            match timeout(patience, &mut sending).await {
                Ok(Ok(response)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    return Err(Failed::Upgrade);
                }
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(mut error)) => {
                    let unsent = error.take_message();
                    return Err(unsent.map_or_else(
                        || Failed::Broken(error.into_error()),
                        |unsent| Failed::Unsent(Box::new(unsent)),
                    ));
                }
                Err(_) if before == (progress.bytes_sent(), progress.ended()) => return Err(Failed::TooSlow),
                Err(_) => {}
            }
        }
    }

    fn answer(
        &self,
        response: Response<Incoming>,
        lease: Lease,
        mask: Mask,
        progress: Arc<Progress>,
        outcome: &mut HttpOutcome,
    ) -> Answer {
        outcome.status = Some(response.status().as_u16());
        if let Some(hop) = outcome.hops.last_mut() {
            hop.status = outcome.status;
        }
        let (head, incoming) = response.into_parts();
        let has_body = self.request.method != Method::HEAD && !incoming.is_end_stream();
        let frames = Frames::new(incoming, self.timeouts.body_idle, self.body_bytes_max);
        Answer { status: head.status, headers: head.headers, mask, frames: Some(frames), has_body, progress, lease }
    }
}

/// The library undoes `chunked` and hands on what is below it: another transfer coding would hide the body from the mask
/// (RFC 9112, section 6.1).
fn check_coding(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let plain = match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(one), None) => one.as_bytes().eq_ignore_ascii_case(b"chunked"),
        _ => false,
    };
    if plain {
        return Ok(());
    }
    Err(Refusal::new(Code::HttpFailed).detail("The answer's Transfer-Encoding is one that the vault cannot read."))
}

/// The head of an answer, and its body still on the way.
pub(super) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    pub(super) mask: Mask,
    frames: Option<Frames>,
    has_body: bool,
    /// The request's body may still be on its way.
    progress: Arc<Progress>,
    lease: Lease,
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    pub(super) fn has_body(&self) -> bool {
        self.has_body
    }

    pub(super) fn content_length(&self) -> Option<u64> {
        self.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// The encodings to undo; none where there is no body.
    ///
    /// # Errors
    /// `http_failed` where a guest would get a body that the mask cannot see through. The member gets it as it is.
    pub(super) fn encodings(&self, for_guest: bool) -> Result<Vec<Encoding>, Refusal> {
        if !self.has_body {
            return Ok(Vec::new());
        }
        let unreadable = || {
            Refusal::new(Code::HttpFailed).detail("The answer's Content-Encoding is one that the vault cannot read.")
        };
        match decode::encodings(&self.headers) {
            // A part of an encoded body cannot be decoded.
            Some(encodings) if encodings.is_empty() || self.status != StatusCode::PARTIAL_CONTENT => Ok(encodings),
            _ if for_guest => Err(unreadable()),
            _ => Ok(Vec::new()),
        }
    }

    /// The body.
    pub(super) fn take_body(&mut self) -> Frames {
        self.frames.take().expect("the body is taken once")
    }

    /// The body was read to its end: the connection can be used again.
    pub(super) fn give_back(self) {
        self.lease.give_back();
    }

    /// The body is of no interest.
    pub(super) fn leave(self) {
        if !self.has_body || self.lease.is_http2() {
            self.lease.give_back();
        }
    }
}

/// Why there is no answer.
enum Failed {
    /// Nothing left; the request is here again.
    Unsent(Box<Request<OutBody>>),
    Broken(hyper::Error),
    TooSlow,
    Upgrade,
}

impl Failed {
    /// In our own words: a foreign error text could hold anything.
    fn refusal(&self) -> Refusal {
        let code = if matches!(self, Self::Unsent(_)) { Code::ConnectFailed } else { Code::HttpFailed };
        Refusal::new(code).detail(match self {
            Self::Unsent(_) => "The host closed the connection before the request was sent.",
            Self::TooSlow => "The host did not answer in time.",
            Self::Upgrade => "The host changed to another protocol.",
            Self::Broken(error) if error.is_parse() => "The answer is not valid HTTP, or its head is too large.",
            Self::Broken(error) if error.is_incomplete_message() => {
                "The host closed the connection before it answered."
            }
            Self::Broken(_) => "The exchange broke off before there was an answer.",
        })
    }
}

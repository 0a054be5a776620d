//! A call from its rules to the last byte of its answer.

use bytes::Bytes;
use strongroom_wire::guest::HttpHead;
use strongroom_wire::limits::{BODY_BYTES_DEFAULT_MAX, CHUNK_BYTES_MAX, REDIRECTS_MAX};
use strongroom_wire::target::Target;
use strongroom_wire::{Code, ItemId, Refusal};

use super::body::BodySource;
use super::connect::TlsConfigs;
use super::decode::Decoded;
use super::exchange::{Answer, Exchange};
use super::headers::{self, RequestHead};
use super::pool::{Key, Pool};
use super::redirect;
use super::{AnswerSink, CallerKey, HttpJob, HttpOutcome, Timeouts, Tunnels};

/// Makes calls, and keeps connections for the next ones. It lives on a tokio runtime with timers; connections run as tasks of
/// their own, calls in the task that runs them.
pub struct Engine<T> {
    tunnels: T,
    pool: Pool,
    tls: TlsConfigs,
    timeouts: Timeouts,
}

impl<T: Tunnels> Engine<T> {
    /// An engine without connections.
    pub fn new(tunnels: T) -> Self {
        Self::with_timeouts(tunnels, Timeouts::default())
    }

    /// An engine with other time-outs.
    pub fn with_timeouts(tunnels: T, timeouts: Timeouts) -> Self {
        Self { tunnels, pool: Pool::default(), tls: TlsConfigs::default(), timeouts }
    }

    /// Makes one call, and tells of it in `outcome` as it goes. Dropping the future cancels it: what has been sent stays sent,
    /// and `outcome` says how far it came.
    pub async fn run(&self, job: HttpJob, body: BodySource, mut sink: impl AnswerSink, outcome: &mut HttpOutcome) {
        let ended = self.call(&job, body, &mut sink, outcome).await;
        // What of the request's body is still on its way is cut off: nothing moves that was not counted.
        job.meter.close();
        if let Err(refusal) = ended {
            outcome.error = Some(if job.for_guest { refusal.for_guest() } else { refusal });
        }
    }

    /// Closes every connection that is not in use, and has the others closed after use: for locking the vault.
    pub fn close_all(&self) {
        self.pool.forget(|_| true);
    }

    /// Closes a caller's connections: for a revoked guest.
    pub fn close_caller(&self, caller: &CallerKey) {
        self.pool.forget(|key| key.caller == *caller);
    }

    /// Closes the connections of an item.
    pub fn close_item(&self, item: ItemId) {
        self.pool.forget(|key| key.item == item);
    }

    /// Connections that are open or about to be closed, in use or not.
    pub fn connections(&self) -> usize {
        self.pool.len()
    }

    async fn call(
        &self,
        job: &HttpJob,
        body: BodySource,
        sink: &mut impl AnswerSink,
        outcome: &mut HttpOutcome,
    ) -> Result<(), Refusal> {
        let body_bytes_max = job.limits.body_bytes_max.unwrap_or(BODY_BYTES_DEFAULT_MAX);
        let mut request = RequestHead::check(job)?;
        let mut body = Some(body);
        let mut target = job.target.clone();
        for _ in 0..=REDIRECTS_MAX {
            job.rules.check(request.method.as_str(), &target)?;
            let exchange = Exchange {
                job,
                request: &request,
                target: &target,
                key: Key {
                    caller: job.caller,
                    item: job.item,
                    policy_version: job.policy_version,
                    destination: target.destination().clone(),
                },
                body_bytes_max,
                tunnels: &self.tunnels,
                pool: &self.pool,
                tls: &self.tls,
                timeouts: self.timeouts,
            };
            // A body that is here can be sent again; one that streams is gone after the first request.
            let again = body.as_ref().and_then(BodySource::again);
            let answer = exchange.run(body.take().unwrap_or(BodySource::Empty), outcome).await?;
            let progress = answer.progress();
            let ended = match redirect::follow(job, &request, &target, &answer, again.is_some()) {
                Ok(None) => deliver(job, &target, answer, body_bytes_max, sink).await,
                Err(refusal) => Err(refusal),
                Ok(Some(redirect)) => {
                    answer.leave();
                    if !redirect.keeps_body {
                        headers::drop_content(&mut request.headers);
                    }
                    body = again.filter(|_| redirect.keeps_body);
                    request.method = redirect.method;
                    target = redirect.target;
                    continue;
                }
            };
            // Where our own half broke off, that is why the other one did.
            return ended.map_err(|refusal| progress.failure().unwrap_or(refusal));
        }
        Err(Refusal::new(Code::RedirectRefused).detail(format!("The host redirected more than {REDIRECTS_MAX} times.")))
    }
}

/// Passes an answer on, head first, masked.
async fn deliver(
    job: &HttpJob,
    target: &Target,
    mut answer: Answer,
    body_bytes_max: u64,
    sink: &mut impl AnswerSink,
) -> Result<(), Refusal> {
    let encodings = answer.encodings(job.for_guest)?;
    let headers = headers::of_answer(job, &answer, !encodings.is_empty())?;
    let url = headers::scrubbed(&answer.mask, target.to_string().as_bytes());
    let length = answer.content_length();
    if length.is_some_and(|length| length > body_bytes_max.min(job.meter.left())) && answer.has_body() {
        return Err(too_large());
    }
    sink.head(HttpHead { status: answer.status().as_u16(), headers, url }).await?;
    let mut mask = answer.mask.stream();
    let mut body = Decoded::new(answer.take_body(), &encodings);
    let mut left = body_bytes_max;
    while let Some(chunk) = body.next().await? {
        let bytes = chunk.len() as u64;
        left = left.checked_sub(bytes).ok_or_else(too_large)?;
        job.meter.receive(bytes).ok_or_else(too_large)?;
        pass_on(mask.push(&chunk), sink).await?;
    }
    pass_on(mask.finish(), sink).await?;
    answer.give_back();
    Ok(())
}

async fn pass_on(bytes: Vec<u8>, sink: &mut impl AnswerSink) -> Result<(), Refusal> {
    let mut rest = Bytes::from(bytes);
    while !rest.is_empty() {
        let chunk = rest.split_to(rest.len().min(CHUNK_BYTES_MAX));
        sink.chunk(chunk).await?;
    }
    Ok(())
}

fn too_large() -> Refusal {
    Refusal::new(Code::LimitBytes).detail("The answer's body is larger than allowed.")
}

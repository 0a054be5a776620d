//! The `http` consumer: calls an API with a secret that the caller never sees.
//!
//! A call is checked against its rules, gets a connection of its own caller and item, is sent once with the secret placed as
//! the item says, and its answer goes back through the [`mask`](crate::mask). A redirect is another such call. The plaintext
//! is opened when a head is about to be written and dropped as soon as it is handed over.
//!
//! In reading order: [`Engine::run`] in `engine`; `headers` (what a caller may set and what comes back), `place` and `aws`
//! (where the secret goes), `redirect`; then `exchange` (one request, one answer), `body`, `decode`; then `pool` and
//! `connect`. There is no socket here: bytes travel through [`Tunnels`], which the vault process implements.
//!
//! **What it does not promise.** hyper's write buffer keeps the last head that was written on a connection until the next one
//! or until the connection closes, 60 seconds after its last use at most; [`Engine::close_all`] closes them when the vault
//! locks, and the vault's allocator wipes what is freed. A host that answers with parts of itself (in several calls, by a
//! parameter that it gives a meaning to) can cut a secret in two that the mask then does not know; `Range` is not for guests.

mod aws;
mod body;
mod connect;
mod decode;
mod engine;
mod exchange;
mod headers;
mod place;
mod pool;
mod redirect;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use strongroom_crypto::locked::SecretBytes;
use strongroom_wire::guest::{HttpCall, HttpHead};
use strongroom_wire::policy::{Destination, HttpLimits, HttpPolicy};
use strongroom_wire::target::{HttpRules, Target};
use strongroom_wire::{ItemId, Refusal, Timestamp};
use tokio::io::{AsyncRead, AsyncWrite};

pub use body::{BodyClosed, BodySender, BodySource, BodyStream, Meter};
pub use engine::Engine;

/// Who calls: a kind and an id, or anything else that tells callers apart. Connections are never shared between two.
pub type CallerKey = [u8; 17];

/// Opens the plaintext. Called once for each request that is sent, right before its head is written.
pub type SecretSource = Box<dyn Fn() -> Result<SecretBytes, Refusal>>;

/// One call, allowed by the rules of the vault.
pub struct HttpJob {
    /// Who calls.
    pub caller: CallerKey,
    /// The item whose secret is used.
    pub item: ItemId,
    /// The version of the item's policy; another version never uses an older one's connections.
    pub policy_version: u64,
    /// The call. Its `url` has become `target`, and its body comes as a [`BodySource`]: neither is read again.
    pub call: HttpCall,
    /// The URL, parsed.
    pub target: Target,
    /// Where the call and its redirects may go.
    pub rules: HttpRules,
    /// How the secret is placed and whom TLS trusts.
    pub policy: HttpPolicy,
    /// How large bodies may be, and whether cookies come back.
    pub limits: HttpLimits,
    /// Counts the bytes of bodies, and stops them where the grants have no more.
    pub meter: Arc<Meter>,
    /// Whether the caller is a guest rather than the member.
    pub for_guest: bool,
    /// The secret.
    pub secret: SecretSource,
    /// The vault's time: signs requests and judges certificates.
    pub now: Box<dyn Fn() -> Timestamp>,
}

/// How a call went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpOutcome {
    /// The status that answered, once there was one.
    pub status: Option<u16>,
    /// The address that answered last, as the tunnel reported it.
    pub address: Option<String>,
    /// Each request that was made: more than one after redirects.
    pub hops: Vec<Hop>,
    /// Whether anything left for the called host. If not, nothing can have taken effect.
    pub sent_anything: bool,
    /// Why the call did not end as it should. The answer may have been delivered in part.
    pub error: Option<Refusal>,
}

/// One request of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Where it went.
    pub destination: Destination,
    /// The address, as the tunnel reported it.
    pub address: String,
    /// What it answered, if it did.
    pub status: Option<u16>,
}

/// Takes an answer as it arrives. A future that is not ready holds back the called host.
pub trait AnswerSink {
    /// The head, before any of the body. Not called if the call is refused before there is one.
    fn head(&mut self, head: HttpHead) -> impl Future<Output = Result<(), Refusal>>;

    /// The next bytes of the body, 64 KiB at most and never none.
    fn chunk(&mut self, chunk: Bytes) -> impl Future<Output = Result<(), Refusal>>;
}

impl<S: AnswerSink> AnswerSink for &mut S {
    fn head(&mut self, head: HttpHead) -> impl Future<Output = Result<(), Refusal>> {
        S::head(self, head)
    }

    fn chunk(&mut self, chunk: Bytes) -> impl Future<Output = Result<(), Refusal>> {
        S::chunk(self, chunk)
    }
}

/// Opens connections: the vault process asks its host.
pub trait Tunnels {
    /// A TCP connection to `to`. Addresses that are not global are refused unless `allow_private`.
    fn open(&self, to: &Destination, allow_private: bool) -> TunnelFuture<'_>;
}

/// What [`Tunnels::open`] answers. It need not be `Send`: calls run where they are started.
pub type TunnelFuture<'a> = Pin<Box<dyn Future<Output = Result<Tunnel, Refusal>> + 'a>>;

/// A TCP connection.
pub struct Tunnel {
    /// Its bytes.
    pub stream: Box<dyn TunnelStream>,
    /// The address and port it leads to, for the log.
    pub address: String,
}

/// What a tunnel's bytes travel through.
pub trait TunnelStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> TunnelStream for T {}

/// How long each part of a call may take. The default is what the vault uses; tests cannot wait so long.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Tunnel, TLS and the first HTTP frames together.
    pub connect: Duration,
    /// The answer's head, counted from the last byte of the request's body.
    pub head: Duration,
    /// Between two pieces of a body, either way.
    pub body_idle: Duration,
    /// An unused connection.
    pub pool_idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(CONNECT_SECS_MAX),
            head: Duration::from_secs(HEAD_SECS_MAX),
            body_idle: Duration::from_secs(BODY_IDLE_SECS_MAX),
            pool_idle: Duration::from_secs(POOL_IDLE_SECS_MAX),
        }
    }
}

const CONNECT_SECS_MAX: u64 = 10;
const HEAD_SECS_MAX: u64 = 60;
const BODY_IDLE_SECS_MAX: u64 = 120;
const POOL_IDLE_SECS_MAX: u64 = 60;

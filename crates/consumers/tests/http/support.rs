//! Servers, tunnels to them, and calls.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use strongroom_consumers::http::{
    AnswerSink, BodySource, Engine, HttpJob, HttpOutcome, Meter, Timeouts, Tunnel, TunnelFuture, Tunnels,
};
use strongroom_crypto::locked::SecretBytes;
use strongroom_wire::guest::{HttpBody, HttpCall, HttpHead};
use strongroom_wire::policy::{Destination, HttpLimits, HttpPolicy, Placement};
use strongroom_wire::target::{HttpRules, Target};
use strongroom_wire::{Code, ItemId, Refusal, Timestamp};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub(crate) const SECRET: &str = "sk-live-0123456789abcdefghijklmnopqr";
pub(crate) const MASKED: &str = "[strongroom:masked]";
/// 2026-01-01.
pub(crate) const NOW: Timestamp = Timestamp(1_767_225_600_000);

pub(crate) type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;
pub(crate) type TestEngine = Engine<Loopback>;

/// Which HTTP a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    Http2,
}

pub(crate) const BOTH: [Speaks; 2] = [Speaks::Http1, Speaks::Http2];

/// A server named `api.test`, and what it has seen.
pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
}

/// A request as the server got it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) uri: String,
    pub(crate) host: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    /// Counted from 1.
    pub(crate) connection: usize,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

impl Server {
    /// A server that reads whole requests, notes them and answers by `reply`.
    pub(crate) async fn start(speaks: Speaks, reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&seen);
        let reply = Arc::new(reply);
        let mut server = Self::start_streaming(speaks, move |connection, request| {
            let (notes, reply) = (Arc::clone(&notes), Arc::clone(&reply));
            async move {
                let (head, body) = request.into_parts();
                let Ok(body) = body.collect().await else { return text("broken off") };
                let text_of = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
                let host =
                    head.uri.authority().map(ToString::to_string).or_else(|| head.headers.get("host").map(text_of));
                let seen = Seen {
                    method: head.method.to_string(),
                    uri: head.uri.path_and_query().unwrap().to_string(),
                    host: host.unwrap_or_default(),
                    headers: head.headers.iter().map(|(name, value)| (name.to_string(), text_of(value))).collect(),
                    body: body.to_bytes(),
                    connection,
                };
                notes.lock().unwrap().push(seen.clone());
                reply(&seen)
            }
        })
        .await;
        server.seen = seen;
        server
    }

    /// A server that answers while the request may still be arriving.
    pub(crate) async fn start_streaming<F>(
        speaks: Speaks,
        reply: impl Fn(usize, Request<Incoming>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let reply = Arc::new(reply);
        Self::start_raw(speaks, "api.test", move |connection, stream| {
            let reply = Arc::clone(&reply);
            async move {
                let service = hyper::service::service_fn(move |request| {
                    let reply = Arc::clone(&reply);
                    async move { Ok::<_, Infallible>(reply(connection, request).await) }
                });
                let io = TokioIo::new(stream);
                let _ = match speaks {
                    Speaks::Http1 => hyper::server::conn::http1::Builder::new().serve_connection(io, service).await,
                    Speaks::Http2 => {
                        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                            .serve_connection(io, service)
                            .await
                    }
                };
            }
        })
        .await
    }

    /// A server that does with a TLS stream what it likes.
    pub(crate) async fn start_raw<F>(
        speaks: Speaks,
        name: &'static str,
        handle: impl Fn(usize, TlsStream<TcpStream>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let acceptor = TlsAcceptor::from(Arc::new(authority().server(name, 2030, speaks)));
        let handle = Arc::new(handle);
        Self::start_tcp(move |connection, stream| {
            let (acceptor, handle) = (acceptor.clone(), Arc::clone(&handle));
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    handle(connection, stream).await;
                }
            }
        })
        .await
    }

    /// A server that may not even speak TLS.
    pub(crate) async fn start_tcp<F>(handle: impl Fn(usize, TcpStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                tokio::spawn(handle(count.fetch_add(1, Ordering::SeqCst) + 1, stream));
            }
        });
        Self { port, connections, seen: Arc::default() }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://api.test:{}{path}", self.port)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.into_iter().next().unwrap()
    }
}

/// A reply with a body of text.
pub(crate) fn text(body: impl Into<Bytes>) -> Reply {
    Response::new(Full::new(body.into()).boxed_unsync())
}

/// A reply with headers, and a body of text.
pub(crate) fn reply(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
    let mut reply = text(body);
    *reply.status_mut() = http::StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        let value = http::HeaderValue::from_bytes(value.as_bytes()).unwrap();
        reply.headers_mut().append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
    }
    reply
}

/// A reply whose body comes as it is sent.
pub(crate) fn streamed(headers: &[(&str, &str)]) -> (mpsc::Sender<Bytes>, Reply) {
    struct Pieces(mpsc::Receiver<Bytes>);
    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
        }
    }
    let (sender, pieces) = mpsc::channel(1);
    (sender, reply(200, headers, "").map(|_| Pieces(pieces).boxed_unsync()))
}

/// The certificate authority of the tests.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub(crate) pem: String,
}

pub(crate) fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(Authority::new)
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let pem = issuer.pem();
        Self { issuer, pem }
    }

    /// TLS settings of a server with a certificate for `name` that expires at the end of `year`.
    pub(crate) fn server(&self, name: &str, year: i32, speaks: Speaks) -> rustls::ServerConfig {
        self.server_of(rustls::ALL_VERSIONS, name, year, speaks)
    }

    pub(crate) fn server_of(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        name: &str,
        year: i32,
        speaks: Speaks,
    ) -> rustls::ServerConfig {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 12, 31);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let mut config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_protocol_versions(versions)
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(
                    vec![certificate.der().clone()],
                    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
                )
                .unwrap();
        config.alpn_protocols = vec![match speaks {
            Speaks::Http1 => b"http/1.1".to_vec(),
            Speaks::Http2 => b"h2".to_vec(),
        }];
        config
    }
}

/// Leads every host to the loopback interface, as a host process with a resolver of its own would.
#[derive(Default)]
pub(crate) struct Loopback {
    pub(crate) opened: RefCell<Vec<String>>,
    /// Fails with this instead.
    pub(crate) refuses: Option<Code>,
    /// Never answers.
    pub(crate) hangs: bool,
}

impl Tunnels for Loopback {
    fn open(&self, to: &Destination, allow_private: bool) -> TunnelFuture<'_> {
        assert!(allow_private);
        self.opened.borrow_mut().push(to.to_string());
        let port = to.port;
        Box::pin(async move {
            if self.hangs {
                std::future::pending::<()>().await;
            }
            if let Some(code) = self.refuses {
                return Err(Refusal::new(code));
            }
            let stream =
                TcpStream::connect(("127.0.0.1", port)).await.map_err(|_| Refusal::new(Code::ConnectFailed))?;
            stream.set_nodelay(true).unwrap();
            Ok(Tunnel { stream: Box::new(stream), address: format!("127.0.0.1:{port}") })
        })
    }
}

pub(crate) fn engine() -> TestEngine {
    Engine::new(Loopback::default())
}

/// An engine that loses patience after a fraction of a second.
pub(crate) fn impatient() -> TestEngine {
    let short = Duration::from_millis(400);
    Engine::with_timeouts(
        Loopback::default(),
        Timeouts { connect: short, head: short, body_idle: short, pool_idle: short },
    )
}

/// A call, before it becomes a job.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) url: String,
    pub(crate) method: &'static str,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) placement: Placement,
    pub(crate) secret: Vec<u8>,
    pub(crate) caller: u8,
    pub(crate) item: u8,
    pub(crate) policy_version: u64,
    pub(crate) follow: bool,
    pub(crate) for_guest: bool,
    pub(crate) allow_short: bool,
    /// Hosts besides that of the URL.
    pub(crate) more_hosts: Vec<String>,
    pub(crate) limits: HttpLimits,
    /// Bytes that the grants have left.
    pub(crate) bytes_left: Option<u64>,
    pub(crate) roots: Option<String>,
}

impl Ask {
    pub(crate) fn get(url: impl Into<String>) -> Self {
        let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
        Self {
            url: url.into(),
            method: "GET",
            headers: Vec::new(),
            placement: Placement::Bearer,
            secret: SECRET.into(),
            caller: 1,
            item: 1,
            policy_version: 1,
            follow: false,
            for_guest: true,
            allow_short: false,
            more_hosts: Vec::new(),
            limits: HttpLimits { methods: methods.map(str::to_owned).to_vec(), ..HttpLimits::default() },
            bytes_left: None,
            roots: Some(authority().pem.clone()),
        }
    }

    pub(crate) fn post(url: impl Into<String>) -> Self {
        Self { method: "POST", ..Self::get(url) }
    }

    pub(crate) fn placed(self, placement: Placement) -> Self {
        Self { placement, ..self }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn job(&self) -> HttpJob {
        let target = Target::parse(&self.url).unwrap();
        let more = self.more_hosts.iter().map(|host| host.parse().unwrap());
        let policy = HttpPolicy {
            hosts: std::iter::once(target.destination().clone()).chain(more).collect(),
            placement: self.placement.clone(),
            allow_private: true,
            allow_short: self.allow_short,
            roots_pem: self.roots.clone(),
        };
        let secret = self.secret.clone();
        HttpJob {
            caller: [self.caller; 17],
            item: ItemId([self.item; 16]),
            policy_version: self.policy_version,
            call: HttpCall {
                method: self.method.to_owned(),
                url: self.url.clone(),
                headers: self.headers.clone(),
                body: HttpBody::Empty,
                follow_redirects: self.follow,
            },
            target,
            rules: HttpRules::new(&policy, &self.limits),
            policy,
            limits: self.limits.clone(),
            meter: Arc::new(Meter::new(self.bytes_left)),
            for_guest: self.for_guest,
            secret: Box::new(move || Ok(SecretBytes::copy_of(&secret))),
            now: Box::new(|| NOW),
        }
    }

    pub(crate) async fn run(&self, engine: &TestEngine) -> Answered {
        self.run_with(engine, BodySource::Empty).await
    }

    pub(crate) async fn run_with(&self, engine: &TestEngine, body: BodySource) -> Answered {
        let mut answered = Answered::default();
        let job = self.job();
        let meter = Arc::clone(&job.meter);
        answered.outcome = run_job(engine, job, body, &mut answered).await;
        (answered.sent, answered.received) = (meter.sent(), meter.received());
        answered
    }

    /// Runs, and expects to be refused.
    pub(crate) async fn refused(&self, engine: &TestEngine) -> (Code, HttpOutcome) {
        let answered = self.run(engine).await;
        (answered.outcome.error.clone().expect("it is refused").code, answered.outcome)
    }
}

/// Runs a call to its end.
pub(crate) async fn run_job(engine: &TestEngine, job: HttpJob, body: BodySource, sink: impl AnswerSink) -> HttpOutcome {
    let mut outcome = HttpOutcome::default();
    engine.run(job, body, sink, &mut outcome).await;
    outcome
}

/// An answer, as it arrived.
#[derive(Default)]
pub(crate) struct Answered {
    pub(crate) head: Option<HttpHead>,
    pub(crate) chunks: Vec<Bytes>,
    pub(crate) outcome: HttpOutcome,
    /// Bytes of bodies, as the meter counted them.
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

impl Answered {
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.outcome.error, None);
        self
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        self.chunks.concat()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body()).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let head = self.head.as_ref().expect("there is a head");
        head.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

impl AnswerSink for Answered {
    fn head(&mut self, head: HttpHead) -> impl Future<Output = Result<(), Refusal>> {
        assert!(self.head.is_none(), "one head");
        self.head = Some(head);
        std::future::ready(Ok(()))
    }

    fn chunk(&mut self, chunk: Bytes) -> impl Future<Output = Result<(), Refusal>> {
        assert!(self.head.is_some() && !chunk.is_empty() && chunk.len() <= 64 * 1024);
        self.chunks.push(chunk);
        std::future::ready(Ok(()))
    }
}

/// A sink that hands chunks to a channel and waits for room in it.
pub(crate) struct Channel(pub(crate) mpsc::Sender<Bytes>);

impl AnswerSink for Channel {
    fn head(&mut self, _: HttpHead) -> impl Future<Output = Result<(), Refusal>> {
        std::future::ready(Ok(()))
    }

    fn chunk(&mut self, chunk: Bytes) -> impl Future<Output = Result<(), Refusal>> {
        let sender = self.0.clone();
        async move { sender.send(chunk).await }.map(|sent| sent.map_err(|_| Refusal::new(Code::Cancelled)))
    }
}

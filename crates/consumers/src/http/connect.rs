//! A tunnel, TLS in it, HTTP in that.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::client::Resumption;
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use strongroom_wire::limits::HTTP_HEADERS_MAX;
use strongroom_wire::policy::Destination;
use strongroom_wire::{Code, Refusal, Timestamp};
use tokio_rustls::TlsConnector;

use super::pool::{Key, Lease, Pool, Sender};
use super::{Timeouts, Tunnels};

/// Opens a connection and takes it into the pool.
///
/// # Errors
/// Whatever the tunnel says; `tls_failed` where the other end could not be verified; `connect_failed`.
pub(super) async fn connect(
    tunnels: &impl Tunnels,
    to: &Destination,
    allow_private: bool,
    config: Arc<ClientConfig>,
    pool: &Pool,
    key: &Key,
    timeouts: Timeouts,
) -> Result<Lease, Refusal> {
    let name = server_name(to)?;
    let tunnel = tunnels.open(to, allow_private).await?;
    let stream = TlsConnector::from(config).connect(name, tunnel.stream).await.map_err(|error| tls_refusal(&error))?;
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2);
    let io = TokioIo::new(stream);
    let failed = |_| Refusal::new(Code::ConnectFailed).detail("The host closed the connection at once.");
    if is_http2 {
        let (sender, connection) = http2().handshake(io).await.map_err(failed)?;
        Ok(pool.add(key.clone(), tunnel.address, Sender::Http2(sender), connection, timeouts.pool_idle))
    } else {
        let (sender, connection) = http1().handshake(io).await.map_err(failed)?;
        Ok(pool.add(key.clone(), tunnel.address, Sender::Http1(sender), connection, timeouts.pool_idle))
    }
}

/// TLS settings, by whom they trust.
#[derive(Default)]
pub(super) struct TlsConfigs {
    public: OnceLock<Arc<ClientConfig>>,
    clock: Arc<Clock>,
}

impl TlsConfigs {
    /// The settings for an item: its own certificates if it names any, the public roots otherwise. Certificates are judged
    /// at `now`, the vault's time, which a host cannot turn back.
    ///
    /// # Errors
    /// `tls_failed` where the item's certificates cannot be read.
    pub(super) fn for_roots(&self, roots_pem: Option<&str>, now: Timestamp) -> Result<Arc<ClientConfig>, Refusal> {
        self.clock.0.fetch_max(now.0, Ordering::Relaxed);
        match roots_pem {
            Some(pem) => Ok(Arc::new(self.config(own_roots(pem)?))),
            None => Ok(Arc::clone(self.public.get_or_init(|| {
                Arc::new(self.config(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }))
            }))),
        }
    }

    fn config(&self, roots: RootCertStore) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clock: Arc<dyn TimeProvider> = self.clock.clone();
        let mut config = ClientConfig::builder_with_details(provider, clock)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("ring has suites for both versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec()];
        // A ticket would tell the called host that two guests are one vault.
        config.resumption = Resumption::disabled();
        config
    }
}

/// The vault's time, as TLS asks for it.
#[derive(Debug, Default)]
struct Clock(AtomicU64);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.0.load(Ordering::Relaxed))))
    }
}

fn own_roots(pem: &str) -> Result<RootCertStore, Refusal> {
    let unreadable = || Refusal::new(Code::TlsFailed).detail("The item's certificates cannot be read.");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.map_err(|_| unreadable())?).map_err(|_| unreadable())?;
    }
    if roots.is_empty() { Err(unreadable()) } else { Ok(roots) }
}

fn server_name(to: &Destination) -> Result<ServerName<'static>, Refusal> {
    let host = to.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&to.host);
    ServerName::try_from(host.to_owned())
        .map_err(|_| Refusal::new(Code::TlsFailed).detail("No certificate can name this host."))
}

fn http1() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_headers(HTTP_HEADERS_MAX).max_header_size(HEAD_BYTES_MAX).max_buf_size(2 * HEAD_BYTES_MAX);
    builder
}

fn http2() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(4 * STREAM_WINDOW_BYTES)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).expect("64 KiB"))
        .max_send_buf_size(64 * 1024);
    builder
}

/// What a failed handshake means, in our own words.
fn tls_refusal(error: &std::io::Error) -> Refusal {
    use rustls::Error as Tls;
    let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<Tls>()) else {
        return Refusal::new(Code::ConnectFailed).detail("The host broke the connection off before it was secure.");
    };
    Refusal::new(Code::TlsFailed).detail(match inner {
        Tls::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "The host's certificate has expired."
        }
        Tls::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            "The host's certificate is not valid yet."
        }
        Tls::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "The host's certificate comes from an issuer that is not trusted."
        }
        Tls::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "The host's certificate is for another name.",
        Tls::InvalidCertificate(_) => "The host's certificate cannot be verified.",
        Tls::InvalidMessage(_) => "The host does not speak TLS.",
        _ => "The TLS connection could not be made.",
    })
}

const ALPN_HTTP2: &[u8] = b"h2";
const ALPN_HTTP1: &[u8] = b"http/1.1";
/// Bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

//! An HTTPS API on this machine, as quick as one can be, and a client that asks it directly.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::Outcome;

/// Answers every request with the same few bytes; it ends with the bench.
pub(crate) struct Api {
    pub(crate) port: u16,
    pub(crate) roots_pem: String,
}

/// A kept-alive connection to it.
pub(crate) struct Direct(StreamOwned<ClientConnection, TcpStream>);

impl Api {
    pub(crate) fn start() -> Outcome<Self> {
        let mut authority = CertificateParams::new(Vec::<String>::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let pair = KeyPair::generate()?;
        let certificate = params.signed_by(&pair, &authority)?;
        let private = PrivateKeyDer::try_from(pair.serialize_der())?;
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)?;
        let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0")?);
        let port = listener.local_addr()?.port();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let config = Arc::clone(&config);
                // A connection that breaks is that client's affair.
                thread::spawn(move || serve(stream, config).ok());
            }
        });
        Ok(Self { port, roots_pem: authority.pem() })
    }

    pub(crate) fn connect(&self) -> Outcome<Direct> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.roots_pem.as_bytes())?)?;
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_nodelay(true)?;
        let connection = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost")?)?;
        Ok(Direct(StreamOwned::new(connection, stream)))
    }
}

impl Direct {
    /// One request and its answer.
    pub(crate) fn get(&mut self, port: u16) -> Outcome<()> {
        let head = format!("GET {PATH} HTTP/1.1\r\nHost: localhost:{port}\r\nAuthorization: Bearer {KEY}\r\n\r\n");
        self.0.write_all(head.as_bytes())?;
        let mut answer = vec![0; ANSWER.len()];
        self.0.read_exact(&mut answer)?;
        if answer == ANSWER { Ok(()) } else { Err("the API answered something else".into()) }
    }
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>) -> Outcome<()> {
    stream.set_nodelay(true)?;
    let mut stream = StreamOwned::new(ServerConnection::new(config)?, stream);
    let (mut request, mut buffer) = (Vec::new(), [0; 4_096]);
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..read]);
        if request.ends_with(b"\r\n\r\n") {
            request.clear();
            stream.write_all(ANSWER)?;
        }
    }
}

/// What it is asked for.
pub(crate) const PATH: &str = "/v1/now";
/// What it is shown; it does not look.
pub(crate) const KEY: &str = "bench-key-0123456789abcdef0123456789";
/// The body of each answer.
pub(crate) const BODY: &[u8] = b"{\"celsius\":21}\n";
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"celsius\":21}\n";

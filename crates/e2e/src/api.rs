//! A local HTTPS API, careless enough to echo what it was sent.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use flate2::Compression;
use flate2::write::GzEncoder;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::PrivateKeyDer;

use crate::place::Place;

/// A running API. It ends with the test.
#[derive(Clone, Debug)]
pub struct Api {
    /// Where it listens, on `localhost`.
    pub port: u16,
    /// The authority that its certificate is from.
    pub roots: PathBuf,
    key: String,
    calls: Arc<AtomicU64>,
    sent: Arc<Mutex<Vec<u8>>>,
    credentials: Arc<Mutex<BTreeSet<String>>>,
}

impl Api {
    /// Starts one that wants `key` as a bearer key.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(place: &Place, key: &str) -> Self {
        let mut authority = CertificateParams::new(Vec::<String>::new()).expect("no names");
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let authority = CertifiedIssuer::self_signed(authority, key_pair()).expect("an authority");
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let pair = key_pair();
        let certificate = params.signed_by(&pair, &authority).expect("a certificate");
        let roots = place.write("roots.pem", authority.pem());
        let private = PrivateKeyDer::try_from(pair.serialize_der()).expect("a private key");
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the usual versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .expect("a certificate with its key");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("a bound port").port();
        let api = Self {
            port,
            roots,
            key: key.to_owned(),
            calls: Arc::default(),
            sent: Arc::default(),
            credentials: Arc::default(),
        };
        let (config, serving) = (Arc::new(config), api.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, api) = (Arc::clone(&config), serving.clone());
                thread::spawn(move || api.serve(stream, config));
            }
        });
        api
    }

    /// The URL of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    /// The key that it wants.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Adds an item with its key, which may go to this API alone.
    pub fn add_item(&self, place: &Place, label: &str) {
        let host = format!("localhost:{}", self.port);
        let add = ["item", "add", "api_key", label, "--stdin", "--host", &host, "--allow-private", "--roots"];
        place.run(add).args([&self.roots]).stdin(self.key()).ok();
    }

    /// Calls with the right key so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// What it was sent beside the credentials: request lines, other headers and bodies.
    #[must_use]
    pub fn sent(&self) -> String {
        String::from_utf8_lossy(&self.sent.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// The credentials that it was sent, each as it stood in its place: keys, and what is computed from one.
    #[must_use]
    pub fn credentials(&self) -> BTreeSet<String> {
        self.credentials.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn serve(&self, stream: TcpStream, config: Arc<ServerConfig>) {
        let Ok(connection) = ServerConnection::new(config) else { return };
        let mut reader = BufReader::new(StreamOwned::new(connection, stream));
        while let Some(request) = read_request(&mut reader) {
            self.sent.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(request.public().as_bytes());
            self.credentials.lock().unwrap_or_else(PoisonError::into_inner).extend(request.credentials());
            if request.path.starts_with("/v1/drop") {
                return;
            }
            let answer = self.answer(&request);
            let stream = reader.get_mut();
            if stream.write_all(&answer.bytes).and_then(|()| stream.flush()).is_err() || answer.last {
                return;
            }
            if answer.stalls {
                // Until the other end is gone; a stream without end is this API's worst.
                let _ = reader.read_line(&mut String::new());
                return;
            }
        }
    }

    /// Keys are taken where `Weather` has its own; every other way of placing one is taken as it comes, and all of it is echoed.
    fn answer(&self, request: &Request) -> Response {
        let given = request.header("authorization");
        let right = given == format!("Bearer {}", self.key);
        let elsewhere = !given.starts_with("Bearer") && !request.credentials().is_empty();
        let status = match (right || elsewhere, request.path.as_str()) {
            (false, _) => "401 Unauthorized",
            (true, "/v1/away") => "302 Found",
            (true, "/v1/missing") => "404 Not Found",
            (true, _) => "200 OK",
        };
        if right {
            self.calls.fetch_add(1, Ordering::SeqCst);
        }
        let mut extra = match status {
            "302 Found" => "Location: https://attacker.example/steal\r\n".to_owned(),
            "200 OK" => format!("X-Echo: {given}\r\nSet-Cookie: session={}\r\n", self.key),
            _ => String::new(),
        };
        let echo = request.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>();
        let body = serde_json::json!({
            "method": request.method, "path": request.path, "you_sent": given, "head": echo, "your_body": request.body,
            "celsius": 21,
        });
        let mut body = body.to_string().into_bytes();
        if request.path.starts_with("/v1/gzip") {
            let mut packed = GzEncoder::new(Vec::new(), Compression::default());
            body = packed.write_all(&body).and_then(|()| packed.finish()).expect("memory takes it");
            extra.push_str("Content-Encoding: gzip\r\n");
        }
        if request.path.starts_with("/v1/reversed") {
            // What no mask can know.
            body.reverse();
        }
        // A body that is announced and does not come.
        let (stalls, last) = (request.path.starts_with("/v1/stall"), request.path.starts_with("/v1/break"));
        let length = if stalls || last { body.len() + 1 } else { body.len() };
        let mut bytes =
            format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{extra}Content-Length: {length}\r\n\r\n")
                .into_bytes();
        bytes.extend_from_slice(&body);
        Response { bytes, stalls, last }
    }
}

struct Response {
    bytes: Vec<u8>,
    /// Nothing more comes, and the connection stays.
    stalls: bool,
    /// The connection ends here.
    last: bool,
}

fn key_pair() -> KeyPair {
    KeyPair::generate().expect("a key")
}

struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Request {
    fn header(&self, name: &str) -> String {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    }

    /// The credentials in it.
    fn credentials(&self) -> Vec<String> {
        let in_query = self.path.split_once("?key=").map(|(_, key)| key.to_owned());
        let in_headers = self.headers.iter().filter(|(name, _)| CREDENTIAL_HEADERS.contains(&name.as_str()));
        in_headers.map(|(_, value)| value.clone()).chain(in_query).collect()
    }

    /// All but the credentials.
    fn public(&self) -> String {
        let path = self.path.split_once("?key=").map_or(self.path.as_str(), |(path, _)| path);
        let mut text = format!("{} {path}\n", self.method);
        for (name, value) in self.headers.iter().filter(|(name, _)| !CREDENTIAL_HEADERS.contains(&name.as_str())) {
            text.push_str(&format!("{name}: {value}\n"));
        }
        format!("{text}\n{}\n", self.body)
    }
}

fn read_request(reader: &mut BufReader<StreamOwned<ServerConnection, TcpStream>>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request { method, path, headers, body: String::new() };
    let mut body = vec![0; request.header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    request.body = String::from_utf8_lossy(&body).into_owned();
    Some(request)
}

/// Where the tests' items place what a guest may not see.
const CREDENTIAL_HEADERS: &[&str] = &["authorization", "x-key", "x-signature"];

//! rusty_vault 0.2.1, a secrets server that answers plain reads and writes over HTTP and syncs nothing.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use strongroom_e2e::processes;

use crate::Outcome;
use crate::times::at_once;

/// What it does a second, at 16 connections.
pub(crate) struct Peer {
    pub(crate) reads: f64,
    /// `None` where it was not measured.
    pub(crate) writes: Option<f64>,
}

impl Peer {
    pub(crate) fn reads_name(&self) -> &'static str {
        match self.writes {
            Some(_) => "rusty_vault 0.2.1 plain reads, 16 connections",
            None => "rusty_vault 0.2.1 plain reads as noted, not measured here (PEERS=1)",
        }
    }
}

/// Measures the program at this path; without one, what was seen on another machine stands in.
pub(crate) fn measure(program: Option<&Path>) -> Outcome<Peer> {
    let Some(program) = program else { return Ok(Peer { reads: READS_NOTED, writes: None }) };
    let folder = tempfile::tempdir()?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let config = json!({
        "storage": { "file": { "path": folder.path().join("data") } },
        "listener": { "tcp": { "address": format!("127.0.0.1:{port}"), "tls_disable": "true" } },
        "log_level": "error",
        "work_dir": folder.path(),
    });
    let file = folder.path().join("config.json");
    std::fs::write(&file, config.to_string())?;
    let mut command = Command::new(program);
    command.arg("server").arg("--config").arg(file).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Server::start(&mut command, port)?;
    let mut client = Client::connect(port)?;
    let made = client.ask("POST", "/v1/sys/init", &json!({ "secret_shares": 1, "secret_threshold": 1 }))?;
    client.ask("POST", "/v1/sys/unseal", &json!({ "key": made["keys"][0] }))?;
    let token = made["root_token"].as_str().ok_or("rusty_vault gave no token")?.to_owned();
    let secret = json!({ "value": "a secret of ordinary length" });
    let run = |write: bool| {
        at_once(CONNECTIONS, LENGTH, |number, turn| {
            let mut client = Client { token: token.clone(), ..Client::connect(port)? };
            let path = format!("/v1/secret/bench-{number}");
            client.ask("POST", &path, &secret)?;
            turn.repeat(|| match write {
                true => client.ask("POST", &path, &secret).map(drop),
                false if client.ask("GET", &path, &Value::Null)?["data"] == secret => Ok(()),
                false => Err("rusty_vault answered another secret".into()),
            })
        })
    };
    let (reads, writes) = (run(false)?.0, run(true)?.0);
    Ok(Peer { reads, writes: Some(writes) })
}

struct Server(Child);

impl Server {
    fn start(command: &mut Command, port: u16) -> Outcome<Self> {
        let server = Self(command.spawn()?);
        let up = processes::until(10, || TcpStream::connect(("127.0.0.1", port)).is_ok());
        if up { Ok(server) } else { Err("rusty_vault does not answer".into()) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A kept-alive connection.
struct Client {
    stream: BufReader<TcpStream>,
    token: String,
}

impl Client {
    fn connect(port: u16) -> Outcome<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), token: String::new() })
    }

    fn ask(&mut self, method: &str, path: &str, body: &Value) -> Outcome<Value> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-Vault-Token: {}\r\n", self.token);
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let good = line.split(' ').nth(1).is_some_and(|status| status.starts_with('2'));
        let mut length = 0;
        loop {
            let mut header = String::new();
            self.stream.read_line(&mut header)?;
            match header.trim_end().split_once(':') {
                None => break,
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.trim().parse()?,
                Some(_) => {}
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        if !good {
            return Err(format!("rusty_vault: {method} {path}: {}", line.trim_end()).into());
        }
        Ok(if answer.is_empty() { Value::Null } else { serde_json::from_slice(&answer)? })
    }
}

/// Seen on the machine that the targets were set on.
const READS_NOTED: f64 = 7_500.0;
const CONNECTIONS: usize = 16;
const LENGTH: Duration = Duration::from_secs(4);

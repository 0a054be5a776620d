//! The Model Context Protocol as an agent speaks it: lines of JSON on standard input and output.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::place::Place;

/// An agent with `strongroom mcp` behind it.
#[derive(Debug)]
pub struct Agent<'p> {
    place: &'p Place,
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    number: u64,
}

impl<'p> Agent<'p> {
    /// Starts it with a guest's key file, and greets it.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(place: &'p Place, key: &Path) -> Self {
        let mut child = Command::new(&place.programs.strongroom)
            .env_clear()
            .env("STRONGROOM_SOCKET", place.socket())
            .args(["mcp", "--key"])
            .arg(key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the MCP server starts");
        let stdin = child.stdin.take().expect("a pipe");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut agent = Self { place, child, stdin, stdout, number: 0 };
        let client = json!({ "name": "e2e", "version": "1" });
        agent.ask("initialize", &json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client }));
        agent.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        agent
    }

    /// Calls a tool, and gives the whole answer. All traffic goes to the transcript.
    pub fn call(&mut self, tool: &str, arguments: &Value) -> Value {
        self.ask("tools/call", &json!({ "name": tool, "arguments": arguments }))
    }

    /// Sends a request, and gives its answer.
    ///
    /// # Panics
    /// When the server is gone.
    pub fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.number += 1;
        let number = self.number;
        self.send(&json!({ "jsonrpc": "2.0", "id": number, "method": method, "params": params }));
        loop {
            let mut line = String::new();
            let count = self.stdout.read_line(&mut line).expect("the MCP server answers");
            assert!(count > 0, "the MCP server has ended");
            self.place.note(line.as_bytes());
            let answer: Value = serde_json::from_str(&line).expect("JSON");
            if answer["id"] == number {
                let content = &answer["result"]["structuredContent"];
                if let (Some(true), Some(code)) = (answer["result"]["isError"].as_bool(), content["code"].as_str()) {
                    self.place.met(code);
                }
                return answer;
            }
        }
    }

    fn send(&mut self, message: &Value) {
        let line = format!("{message}\n");
        self.place.note(line.as_bytes());
        self.stdin.write_all(line.as_bytes()).expect("the MCP server listens");
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

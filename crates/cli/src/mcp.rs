//! `mcp`: a Model Context Protocol server on standard input and output, as one guest.
//!
//! Its tools are the contract for guests and nothing else: what was granted, a wish for more, a use, a poll. No tool has a
//! secret to return: this process never holds one. Bodies of answers come from the called APIs, through the vault's mask.

use std::sync::Arc;

use clap::Args;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolResult, ServerCapabilities, ServerConfig};
use rmcp::{ServerHandler, ServiceExt as _, tool, tool_handler, tool_router};
use serde_json::{Value, json};

use crate::app::App;
use crate::code::OwnCode;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::human;
use crate::uses::{GuestArgs, load_key};

mod calls;
mod parameters;

use calls::Desk;
use parameters::{AccessWish, CryptWish, HttpWish, PollWish, ReferenceWish, SignWish};

/// `mcp`
#[derive(Debug, Args)]
#[command(after_help = "What an agent is told to start, for example in its settings of MCP servers:

  { \"strongroom\": { \"command\": \"strongroom\", \"args\": [\"mcp\", \"--key\", \"/home/agent/helper.json\"] } }

Run the agent under another user, and give it the key file alone.")]
pub(crate) struct Mcp {
    #[command(flatten)]
    pub(crate) guest: GuestArgs,
    /// Let a call wait for the member's answer, instead of returning a pending approval
    #[arg(long)]
    pub(crate) wait: bool,
    /// Bytes of an answer's body that are passed on; more is cut off with a note
    #[arg(long, value_name = "SIZE", default_value = "256KiB", value_parser = human::parse_size)]
    pub(crate) body_max: u64,
}

/// Runs `mcp` until its client goes.
pub(crate) fn run(app: &App, args: &Mcp) -> Result<(), Failure> {
    let key = load_key(app, &args.guest)?;
    let desk = Arc::new(Desk::new(key, args.wait, args.body_max));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(CALLS_MAX)
        .build()
        .map_err(|e| Failure::local("the MCP server", &e))?;
    runtime.block_on(async {
        let failed =
            |e: &dyn std::error::Error| Failure::new(Exit::Local, OwnCode::McpFailed, crate::failure::chain(e));
        let served = Server::new(desk).serve(rmcp::transport::stdio()).await.map_err(|e| failed(&e))?;
        served.waiting().await.map(drop).map_err(|e| failed(&e))
    })
}

#[derive(Clone)]
struct Server {
    desk: Arc<Desk>,
    tool_router: ToolRouter<Self>,
}

impl Server {
    fn new(desk: Arc<Desk>) -> Self {
        Self { desk, tool_router: Self::tool_router() }
    }

    /// Runs one call beside the protocol, so that a slow API holds up nothing else.
    async fn call(&self, work: impl FnOnce(&Desk) -> Result<Value, Failure> + Send + 'static) -> CallToolResult {
        let desk = Arc::clone(&self.desk);
        let done = tokio::task::spawn_blocking(move || work(&desk)).await;
        match done {
            Ok(Ok(value)) => CallToolResult::structured(value),
            Ok(Err(failure)) => CallToolResult::structured_error(refusal(&failure)),
            Err(_) => CallToolResult::structured_error(json!({ "code": "bug", "message": "the call ended early" })),
        }
    }
}

#[tool_router]
impl Server {
    #[tool(
        description = "Lists what the member has granted to you: references to secrets that you can use and never see, with the \
                       consumer (http, sign, totp, crypt), the hosts and limits in force, and whether the member is asked. \
                       Call this first.",
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn list_granted(&self) -> CallToolResult {
        self.call(Desk::list).await
    }

    #[tool(
        description = "Asks the member for a grant that you do not have. Say in plain words what it is about and why: the member \
                          reads it and may narrow it. Answers with a pending approval; go on with poll_approval."
    )]
    async fn request_access(&self, Parameters(wish): Parameters<AccessWish>) -> CallToolResult {
        self.call(move |desk| desk.request_access(wish)).await
    }

    #[tool(
        description = "Sends an HTTPS request with a granted secret. The vault puts the secret where it belongs: leave out the \
                          Authorization header, API keys and passwords. Only the hosts, methods and paths of the grant are \
                          allowed. Answers with status, headers and body, or with a pending approval."
    )]
    async fn http_request(&self, Parameters(wish): Parameters<HttpWish>) -> CallToolResult {
        self.call(move |desk| desk.http(wish)).await
    }

    #[tool(
        description = "Signs with a granted key: a message, an SSH signature under a namespace, or a JSON Web Token with the \
                          claims you name. The vault hashes the message itself. Answers with the signature or the token, or \
                          with a pending approval."
    )]
    async fn sign(&self, Parameters(wish): Parameters<SignWish>) -> CallToolResult {
        self.call(move |desk| desk.sign(wish)).await
    }

    #[tool(
        description = "Makes a one-time code (TOTP or HOTP) from a granted generator. Answers with the code and for how long it is \
                          good, or with a pending approval."
    )]
    async fn one_time_code(&self, Parameters(wish): Parameters<ReferenceWish>) -> CallToolResult {
        self.call(move |desk| desk.code(wish)).await
    }

    #[tool(
        description = "Encrypts, decrypts, re-encrypts, authenticates or derives with a granted key. Ciphertexts and tags are \
                          base64url. Derived keys stay in the vault: the answer is a reference."
    )]
    async fn crypt(&self, Parameters(wish): Parameters<CryptWish>) -> CallToolResult {
        self.call(move |desk| desk.crypt(wish)).await
    }

    #[tool(
        description = "Asks how a pending approval stands. Still pending: ask again later. Refused or expired: do not repeat the \
                          request unless the member tells you to. Approved: the vault runs the request it kept, once, and this \
                          answers with its result. Granted: call list_granted again."
    )]
    async fn poll_approval(&self, Parameters(wish): Parameters<PollWish>) -> CallToolResult {
        self.call(move |desk| desk.poll(&wish)).await
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::default();
        info.capabilities = ServerCapabilities::builder().enable_tools().build();
        info.server_info.name = "strongroom".to_owned();
        info.server_info.version = env!("CARGO_PKG_VERSION").to_owned();
        info.instructions = Some(
            "Strongroom lets you use the member's secrets without seeing them. Start with list_granted. Never ask the member to \
             paste a secret: ask for a grant with request_access instead."
                .to_owned(),
        );
        info
    }
}

/// A refusal as a tool's result: what a program can act on, and nothing that is for the member alone.
fn refusal(failure: &Failure) -> Value {
    let mut value = json!({ "code": failure.code, "message": failure.message });
    if let Some(secs) = failure.retry_secs {
        value["retry_secs"] = secs.into();
    }
    value
}

/// Calls at a time; more wait their turn.
const CALLS_MAX: usize = 16;

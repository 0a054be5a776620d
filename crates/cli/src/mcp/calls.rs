//! What the tools do: each call on a connection of its own, which the next one goes on with.

use std::io::Read as _;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};
use strongroom_client::channel::{Body, Connection};
use strongroom_client::gateway::{Answered, Gateway};
use strongroom_client::guest::GuestKey;
use strongroom_client::wire::guest::{
    ApprovalState, Call, CryptCall, GrantWish, GuestAnswer, GuestRequest, HttpBody, HttpCall, HttpHead, Pending,
    SignCall, TotpCall, UseCall, UseRequest, UseResult,
};
use strongroom_client::wire::policy::{Consumer, KeyPurpose};
use strongroom_client::wire::{ApprovalId, Bytes, HandleId};

use super::parameters::{
    AccessWish, ConsumerName, CryptWish, DerivedPurpose, HttpWish, Operation, PollWish, ReferenceWish, SignWish,
};
use crate::app::unexpected;
use crate::failure::Failure;

/// One guest's connections and how its calls are answered.
pub(super) struct Desk {
    key: GuestKey,
    wait: bool,
    body_bytes_max: u64,
    idle: Mutex<Vec<Connection>>,
}

impl Desk {
    pub(super) fn new(key: GuestKey, wait: bool, body_bytes_max: u64) -> Self {
        Self { key, wait, body_bytes_max, idle: Mutex::new(Vec::new()) }
    }

    pub(super) fn list(&self) -> Result<Value, Failure> {
        self.with(|gateway| match gateway.ask(&GuestRequest::List {})? {
            GuestAnswer::List { granted } => Ok(json!({ "granted": granted })),
            _ => Err(unexpected()),
        })
    }

    pub(super) fn request_access(&self, wish: AccessWish) -> Result<Value, Failure> {
        let consumer = match wish.consumer {
            ConsumerName::Http => Consumer::Http,
            ConsumerName::Sign => Consumer::Sign,
            ConsumerName::Totp => Consumer::Totp,
            ConsumerName::Crypt => Consumer::Crypt,
        };
        let wish = GrantWish { subject: wish.subject, reason: wish.reason, consumer, host: wish.host };
        self.with(|gateway| match gateway.ask(&GuestRequest::Request(wish))? {
            GuestAnswer::Pending(waiting) if self.wait => {
                gateway.wait(waiting.approval)?;
                Ok(granted())
            }
            GuestAnswer::Pending(waiting) => Ok(pending(&waiting)),
            _ => Err(unexpected()),
        })
    }

    pub(super) fn http(&self, wish: HttpWish) -> Result<Value, Failure> {
        let body = match input(wish.body, wish.body_base64.as_deref(), "body")? {
            Some(bytes) => HttpBody::Inline(bytes),
            None => HttpBody::Empty,
        };
        let method = match wish.method {
            Some(method) => method.to_ascii_uppercase(),
            None if body.is_empty() => "GET".to_owned(),
            None => "POST".to_owned(),
        };
        let call = HttpCall {
            method,
            url: wish.url,
            headers: wish.headers.into_iter().collect(),
            body,
            follow_redirects: wish.follow_redirects,
        };
        self.use_once(&wish.reference, Call::Http(call), wish.reason)
    }

    pub(super) fn sign(&self, wish: SignWish) -> Result<Value, Failure> {
        let message = input(wish.message, wish.message_base64.as_deref(), "message")?;
        let call = match (message, wish.jwt_claims, wish.ssh_namespace) {
            (None, Some(claims), None) => SignCall::Jwt { claims, key_id: wish.key_id },
            (Some(message), None, Some(namespace)) => SignCall::Ssh { namespace, message },
            (Some(message), None, None) => SignCall::Message { message },
            _ => return Err(Failure::usage("give a message, or a message with ssh_namespace, or jwt_claims")),
        };
        self.use_once(&wish.reference, Call::Sign(call), wish.reason)
    }

    pub(super) fn code(&self, wish: ReferenceWish) -> Result<Value, Failure> {
        self.use_once(&wish.reference, Call::Totp(TotpCall {}), wish.reason)
    }

    pub(super) fn crypt(&self, wish: CryptWish) -> Result<Value, Failure> {
        let context = Bytes::from(wish.context.as_bytes());
        let given = input(wish.text, wish.base64.as_deref(), "text")?;
        let need = |given: Option<Bytes>| given.ok_or_else(|| Failure::usage("text or base64 is missing"));
        let encoded = |text: Option<String>, name: &str| {
            let text = text.ok_or_else(|| Failure::usage(format!("{name} is missing")))?;
            data_encoding::BASE64URL_NOPAD
                .decode(text.as_bytes())
                .map(Bytes)
                .map_err(|_| Failure::usage(format!("{name} is not base64url without padding")))
        };
        let call = match wish.operation {
            Operation::Encrypt => CryptCall::Encrypt { plaintext: need(given)?, context },
            Operation::Decrypt => CryptCall::Decrypt { ciphertext: encoded(wish.ciphertext, "ciphertext")?, context },
            Operation::Rewrap => CryptCall::Rewrap { ciphertext: encoded(wish.ciphertext, "ciphertext")?, context },
            Operation::Mac => CryptCall::Mac { message: need(given)? },
            Operation::VerifyMac => CryptCall::VerifyMac { message: need(given)?, tag: encoded(wish.tag, "tag")? },
            Operation::Derive => CryptCall::Derive {
                context,
                purpose: match wish.purpose {
                    Some(DerivedPurpose::Encrypt) => KeyPurpose::Encrypt,
                    Some(DerivedPurpose::Mac) => KeyPurpose::Mac,
                    None => return Err(Failure::usage("purpose is missing")),
                },
            },
        };
        self.use_once(&wish.reference, Call::Crypt(call), wish.reason)
    }

    pub(super) fn poll(&self, wish: &PollWish) -> Result<Value, Failure> {
        let approval: ApprovalId = wish.approval.parse().map_err(|_| Failure::usage("that is no id of an approval"))?;
        self.with(|gateway| {
            let request = GuestRequest::Poll { approval, wait_secs: wish.wait_secs.min(60) };
            match gateway.ask(&request)? {
                GuestAnswer::Polled(ApprovalState::Pending { expires_at }) => {
                    Ok(pending(&Pending { approval, expires_at }))
                }
                GuestAnswer::Polled(ApprovalState::Approved { handle, .. }) => self.run(gateway, handle),
                GuestAnswer::Polled(ApprovalState::Granted {}) => Ok(granted()),
                GuestAnswer::Polled(ApprovalState::Refused(refusal)) => Err(refusal.into()),
                _ => Err(unexpected()),
            }
        })
    }

    fn use_once(&self, reference: &str, call: Call, reason: Option<String>) -> Result<Value, Failure> {
        let reference = reference
            .parse()
            .map_err(|_| Failure::usage("a reference looks like vault://…/…; list_granted names yours"))?;
        let request = GuestRequest::Use(UseRequest { call: Some(UseCall { reference, call }), handle: None, reason });
        self.with(|gateway| {
            let (answer, body) = gateway.ask_streaming(&request, None)?;
            match answer {
                GuestAnswer::Used(result) => self.result(result, body),
                GuestAnswer::Pending(waiting) if self.wait => {
                    drop(body);
                    match gateway.wait(waiting.approval)? {
                        Answered::Use(handle) => self.run(gateway, handle),
                        Answered::Granted => Ok(granted()),
                    }
                }
                GuestAnswer::Pending(waiting) => Ok(pending(&waiting)),
                _ => Err(unexpected()),
            }
        })
    }

    /// Runs a request that was approved; the vault has kept it.
    fn run(&self, gateway: &mut Gateway<'_>, handle: HandleId) -> Result<Value, Failure> {
        let request = GuestRequest::Use(UseRequest { call: None, handle: Some(handle), reason: None });
        let (answer, body) = gateway.ask_streaming(&request, None)?;
        match answer {
            GuestAnswer::Used(result) => self.result(result, body),
            _ => Err(unexpected()),
        }
    }

    fn result(&self, result: UseResult, body: Option<Body<'_>>) -> Result<Value, Failure> {
        Ok(match result {
            UseResult::Http(head) => self.http_result(&head, body)?,
            UseResult::Signature { signature, algorithm } => json!({ "signature": signature, "algorithm": algorithm }),
            UseResult::SshSignature { armored } => json!({ "ssh_signature": armored }),
            UseResult::Jwt { token } => json!({ "token": token }),
            UseResult::Code { code, valid_secs } => json!({ "code": code, "valid_secs": valid_secs }),
            UseResult::Ciphertext { ciphertext } => json!({ "ciphertext": ciphertext }),
            UseResult::Plaintext { plaintext } => plain(&plaintext.0),
            UseResult::Tag { tag } => json!({ "tag": tag }),
            UseResult::Verified { valid } => json!({ "valid": valid }),
            UseResult::Derived { reference } => json!({ "reference": reference }),
        })
    }

    fn http_result(&self, head: &HttpHead, body: Option<Body<'_>>) -> Result<Value, Failure> {
        let mut bytes = Vec::new();
        let mut truncated = false;
        if let Some(body) = body {
            let broke = |e| Failure::local("the answer broke off; whether the request took effect is unknown", &e);
            body.take(self.body_bytes_max + 1).read_to_end(&mut bytes).map_err(broke)?;
            truncated = bytes.len() as u64 > self.body_bytes_max;
            bytes.truncate(usize::try_from(self.body_bytes_max).unwrap_or(usize::MAX));
        }
        let content_type = head.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let text = content_type.is_none_or(|(_, value)| is_text(value)).then(|| as_text(&bytes, truncated)).flatten();
        let mut value = json!({ "status": head.status, "headers": head.headers, "url": head.url });
        match text {
            Some(text) => value["body"] = text.into(),
            None => value["body_base64"] = data_encoding::BASE64.encode(&bytes).into(),
        }
        if truncated {
            value["truncated"] = true.into();
            value["note"] = format!("the body is longer than {} bytes; ask for less of it", self.body_bytes_max).into();
        }
        Ok(value)
    }

    /// Runs one call on an idle connection or a new one, and keeps the connection where it still stands.
    fn with<T>(&self, work: impl FnOnce(&mut Gateway<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        let idle = self.idle().pop();
        // The vault may have been started anew since the last call.
        let mut gateway = Gateway::resume(&self.key, idle.and_then(|mut idle| idle.still_stands().then_some(idle)));
        let done = work(&mut gateway);
        if let Some(connection) = gateway.into_connection() {
            let mut idle = self.idle();
            if idle.len() < IDLE_MAX {
                idle.push(connection);
            }
        }
        done
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        // A call that panicked had taken its connection out.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pending(pending: &Pending) -> Value {
    json!({
        "pending": true,
        "approval": pending.approval,
        "expires_at": pending.expires_at.to_string(),
        "next": "the member has been asked and nothing was done yet; call poll_approval with this approval",
    })
}

fn granted() -> Value {
    json!({ "granted": true, "next": "call list_granted to see what you may do" })
}

fn plain(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!({ "text": text }),
        Err(_) => json!({ "base64": data_encoding::BASE64.encode(bytes) }),
    }
}

/// Bytes given as text or as base64, not both.
fn input(text: Option<String>, base64: Option<&str>, name: &str) -> Result<Option<Bytes>, Failure> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(Failure::usage(format!("give {name} as text or as base64, not both"))),
        (Some(text), None) => Ok(Some(Bytes::from(text.into_bytes()))),
        (None, Some(encoded)) => data_encoding::BASE64
            .decode(encoded.as_bytes())
            .map(|bytes| Some(Bytes(bytes)))
            .map_err(|_| Failure::usage(format!("{name} is not base64"))),
        (None, None) => Ok(None),
    }
}

/// Whether a content type is one that people read.
fn is_text(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || matches!(
            kind.as_str(),
            "application/json"
                | "application/xml"
                | "application/javascript"
                | "application/yaml"
                | "application/x-ndjson"
                | "application/x-www-form-urlencoded"
                | "application/graphql"
        )
}

/// The bytes as text; a character that was cut in two at the end is left out.
fn as_text(bytes: &[u8], truncated: bool) -> Option<String> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text.to_owned()),
        Err(e) if truncated && e.error_len().is_none() => {
            std::str::from_utf8(&bytes[..e.valid_up_to()]).ok().map(str::to_owned)
        }
        Err(_) => None,
    }
}

const IDLE_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_text_where_their_type_says_so() {
        for text in ["text/html; charset=utf-8", "application/json", "application/problem+json", "Text/Event-Stream"] {
            assert!(is_text(text), "{text}");
        }
        for bytes in ["image/png", "application/octet-stream", "application/pdf", ""] {
            assert!(!is_text(bytes), "{bytes}");
        }
        assert_eq!(as_text("aä".as_bytes(), false).as_deref(), Some("aä"));
        assert_eq!(as_text(&"aä".as_bytes()[..2], true).as_deref(), Some("a"));
        assert_eq!(as_text(&"aä".as_bytes()[..2], false), None);
    }

    #[test]
    fn input_is_given_once() {
        assert!(input(Some("a".into()), Some("YQ=="), "body").is_err());
        assert_eq!(input(None, Some("YQ=="), "body").unwrap().unwrap().0, b"a");
        assert!(input(None, Some("***"), "body").is_err());
        assert!(input(None, None, "body").unwrap().is_none());
    }
}

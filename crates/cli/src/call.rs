//! Flags that say what a consumer is to do, for the member's own `totp`, `sign`, `crypt` and for a guest's `use`; and how
//! the results are shown.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;
use strongroom_client::channel::{Body, Upload};
use strongroom_client::wire::Bytes;
use strongroom_client::wire::guest::{CryptCall, HttpBody, HttpCall, HttpHead, SignCall, UseResult};
use strongroom_client::wire::limits::{CRYPT_BYTES_MAX, INLINE_BODY_BYTES_MAX, SIGN_MESSAGE_BYTES_MAX};
use strongroom_client::wire::policy::KeyPurpose;

use crate::app::App;
use crate::code::OwnCode;
use crate::failure::Failure;
use crate::output::{escape, write_out};
use crate::prompt;

/// What to sign.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub(crate) struct SignArgs {
    /// The message's file, `-` for standard input (the default)
    #[arg(long, value_name = "FILE", conflicts_with = "jwt")]
    pub(crate) message: Option<PathBuf>,
    /// A token with these claims: JSON, or @FILE
    #[arg(long, value_name = "JSON")]
    pub(crate) jwt: Option<String>,
    /// With an SSH key: the namespace, such as git or file
    #[arg(long, value_name = "NAME", conflicts_with = "jwt")]
    pub(crate) namespace: Option<String>,
    /// The `kid` of a token
    #[arg(long, value_name = "ID", requires = "jwt")]
    pub(crate) key_id: Option<String>,
}

impl SignArgs {
    /// The call.
    pub(crate) fn build(&self) -> Result<SignCall, Failure> {
        if let Some(claims) = &self.jwt {
            let text = at_file(claims, 64 * 1024)?;
            let claims = serde_json::from_slice(&text).map_err(|e| Failure::usage(format!("the claims: {e}")))?;
            return Ok(SignCall::Jwt { claims, key_id: self.key_id.clone() });
        }
        let path = self.message.as_deref().unwrap_or_else(|| Path::new("-"));
        let message = Bytes::from(prompt::read_all(path, SIGN_MESSAGE_BYTES_MAX as u64)?.to_vec());
        Ok(match &self.namespace {
            Some(namespace) => SignCall::Ssh { namespace: namespace.clone(), message },
            None => SignCall::Message { message },
        })
    }
}

/// What `crypt` is to do; input and output are bytes, ciphertexts and tags are base64url in text.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum CryptArgs {
    /// Encrypt standard input, or a file
    Encrypt(CryptInput),
    /// Decrypt what `encrypt` gave
    Decrypt(CryptInput),
    /// Encrypt again under the newest version of the key, without showing the plaintext
    Rewrap(CryptInput),
    /// Make an authentication tag
    Mac(CryptInput),
    /// Check a tag
    VerifyMac {
        /// The tag, as `mac` gave it
        #[arg(long)]
        tag: String,
        #[command(flatten)]
        input: CryptInput,
    },
    /// Derive a key; the answer is a reference, never the key
    Derive {
        /// What tells this key from others
        #[arg(long)]
        context: String,
        /// encrypt or mac
        #[arg(long)]
        purpose: KeyPurpose,
    },
}

/// What a `crypt` operation works on.
#[derive(Clone, Debug, Args)]
pub(crate) struct CryptInput {
    /// A file, `-` for standard input (the default)
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Must be given again to decrypt
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) context: String,
}

impl CryptArgs {
    /// The call.
    pub(crate) fn build(&self) -> Result<CryptCall, Failure> {
        let context = |input: &CryptInput| Bytes::from(input.context.as_bytes());
        Ok(match self {
            Self::Encrypt(input) => CryptCall::Encrypt { plaintext: input.bytes()?, context: context(input) },
            Self::Decrypt(input) => CryptCall::Decrypt { ciphertext: input.text()?, context: context(input) },
            Self::Rewrap(input) => CryptCall::Rewrap { ciphertext: input.text()?, context: context(input) },
            Self::Mac(input) => CryptCall::Mac { message: input.bytes()? },
            Self::VerifyMac { tag, input } => CryptCall::VerifyMac { message: input.bytes()?, tag: base64url(tag)? },
            Self::Derive { context, purpose } => {
                CryptCall::Derive { context: Bytes::from(context.as_bytes()), purpose: *purpose }
            }
        })
    }
}

impl CryptInput {
    fn bytes(&self) -> Result<Bytes, Failure> {
        let path = self.input.as_deref().unwrap_or_else(|| Path::new("-"));
        Ok(Bytes::from(prompt::read_all(path, CRYPT_BYTES_MAX as u64)?.to_vec()))
    }

    fn text(&self) -> Result<Bytes, Failure> {
        let path = self.input.as_deref().unwrap_or_else(|| Path::new("-"));
        let text = prompt::read_all(path, CRYPT_BYTES_MAX as u64 * 2)?;
        base64url(&String::from_utf8_lossy(&text))
    }
}

/// An HTTP request in the manner of curl, without its credential.
#[derive(Clone, Debug, Args)]
pub(crate) struct HttpArgs {
    /// The method; GET, or POST where there is a body
    #[arg(long = "request", short = 'X', value_name = "METHOD")]
    pub(crate) method: Option<String>,
    /// A header (repeat), as in "Accept: application/json"
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = parse_header)]
    pub(crate) headers: Vec<(String, String)>,
    /// The body: text, @FILE, or @- for standard input, which is streamed
    #[arg(long = "data", short = 'd', value_name = "DATA")]
    pub(crate) data: Option<String>,
    /// Follow redirects inside the grant
    #[arg(long, short = 'L')]
    pub(crate) location: bool,
    /// Show status and headers, too
    #[arg(long, short = 'i')]
    pub(crate) include: bool,
    /// End with exit code 1 where the status is 400 or more
    #[arg(long, short = 'f')]
    pub(crate) fail: bool,
}

/// A body that is too long for a request, or not at its end yet.
#[derive(Debug)]
pub(crate) enum Source {
    /// A file.
    File(File),
    /// Standard input, without a buffer in between: what poll sees is what there is to read.
    Stdin(RawStdin),
}

impl Source {
    /// As the channel takes it.
    pub(crate) fn upload(&mut self) -> Upload<'_> {
        match self {
            Self::File(file) => Upload { source: file, fd: None },
            Self::Stdin(stdin) => Upload { source: stdin, fd: Some(rustix::stdio::stdin()) },
        }
    }
}

/// Standard input as a descriptor.
#[derive(Debug)]
pub(crate) struct RawStdin;

impl Read for RawStdin {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(rustix::stdio::stdin(), out)?)
    }
}

impl HttpArgs {
    /// The call, and what is streamed along with it.
    pub(crate) fn build(&self, url: &str) -> Result<(HttpCall, Option<Source>), Failure> {
        let (body, source) = self.body()?;
        let method = match &self.method {
            Some(method) => method.to_ascii_uppercase(),
            None if body.is_empty() => "GET".to_owned(),
            None => "POST".to_owned(),
        };
        let call = HttpCall {
            method,
            url: url.to_owned(),
            headers: self.headers.clone(),
            body,
            follow_redirects: self.location,
        };
        Ok((call, source))
    }

    fn body(&self) -> Result<(HttpBody, Option<Source>), Failure> {
        let Some(data) = &self.data else { return Ok((HttpBody::Empty, None)) };
        let Some(path) = data.strip_prefix('@') else {
            return Ok((HttpBody::Inline(Bytes::from(data.as_bytes())), None));
        };
        if path == "-" {
            return Ok((HttpBody::Stream { length: None }, Some(Source::Stdin(RawStdin))));
        }
        let failed = |e: io::Error| Failure::local(format!("{path} could not be read"), &e);
        let file = File::open(path).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        if meta.is_file() && meta.len() <= INLINE_BODY_BYTES_MAX as u64 {
            let bytes = prompt::read_all(path.as_ref(), INLINE_BODY_BYTES_MAX as u64)?;
            return Ok((HttpBody::Inline(Bytes::from(bytes.to_vec())), None));
        }
        let length = meta.is_file().then_some(meta.len());
        Ok((HttpBody::Stream { length }, Some(Source::File(file))))
    }

    /// Prints an answer: its head where asked for, its body as it comes.
    pub(crate) fn print(&self, app: &App, head: &HttpHead, body: Option<Body<'_>>) -> Result<(), Failure> {
        if app.out.json {
            print_http_json(app, head, body)?;
            return self.judge(head);
        }
        if self.include {
            let mut text = format!("HTTP {}\n", head.status);
            for (name, value) in &head.headers {
                text.push_str(&format!("{}: {}\n", escape(name), escape(value)));
            }
            text.push('\n');
            app.out.text(&text)?;
        }
        if let Some(mut body) = body {
            let mut chunk = vec![0; 64 * 1024];
            loop {
                let count = body.read(&mut chunk).map_err(|e| Failure::local("the answer broke off", &e))?;
                if count == 0 {
                    break;
                }
                // Each piece as it comes: a stream of events is one.
                write_out(&chunk[..count])?;
            }
        }
        self.judge(head)
    }

    /// Whether the status is what `--fail` takes.
    fn judge(&self, head: &HttpHead) -> Result<(), Failure> {
        if self.fail && head.status >= 400 {
            return Err(Failure::new(
                crate::exit::Exit::Refused,
                OwnCode::HttpStatus,
                format!("the status was {}", head.status),
            ));
        }
        Ok(())
    }
}

/// An answer with its body as one JSON object: text where it is text, base64url where not.
fn print_http_json(app: &App, head: &HttpHead, body: Option<Body<'_>>) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    if let Some(mut body) = body {
        body.read_to_end(&mut bytes).map_err(|e| Failure::local("the answer broke off", &e))?;
    }
    let body = match String::from_utf8(bytes) {
        Ok(text) => json!({ "text": text }),
        Err(e) => json!({ "base64url": data_encoding::BASE64URL_NOPAD.encode(e.as_bytes()) }),
    };
    app.out.json_line(&json!({ "status": head.status, "headers": head.headers, "url": head.url, "body": body }))
}

/// Prints what a consumer other than `http` gave.
pub(crate) fn print_result(app: &App, result: &UseResult) -> Result<(), Failure> {
    let tag_refused = || Failure::new(crate::exit::Exit::Refused, OwnCode::TagRefused, "the tag does not fit");
    if app.out.json {
        app.out.json_line(result)?;
        // For a program that looks at the exit code alone.
        return if matches!(result, UseResult::Verified { valid: false }) { Err(tag_refused()) } else { Ok(()) };
    }
    let encode = |bytes: &Bytes| data_encoding::BASE64URL_NOPAD.encode(&bytes.0);
    match result {
        UseResult::Signature { signature, .. } => app.out.text(&encode(signature)),
        UseResult::SshSignature { armored } => app.out.text(armored),
        UseResult::Jwt { token } => app.out.text(token),
        UseResult::Code { code, valid_secs } => {
            app.out.text(code)?;
            if let Some(secs) = valid_secs {
                app.out.note(&format!("good for {secs} s"));
            }
            Ok(())
        }
        UseResult::Ciphertext { ciphertext } => app.out.text(&encode(ciphertext)),
        UseResult::Plaintext { plaintext } => {
            let mut out = io::stdout().lock();
            out.write_all(&plaintext.0).map_err(|e| Failure::local("standard output", &e))
        }
        UseResult::Tag { tag } => app.out.text(&encode(tag)),
        UseResult::Verified { valid: true } => app.out.text("The tag fits."),
        UseResult::Verified { valid: false } => Err(tag_refused()),
        UseResult::Derived { reference } => app.out.text(&reference.to_string()),
        UseResult::Http(head) => app.out.text(&format!("HTTP {}", head.status)),
    }
}

/// Text itself, or what is in the file after an `@`.
fn at_file(text: &str, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    match text.strip_prefix('@') {
        Some(path) => Ok(prompt::read_all(path.as_ref(), bytes_max)?.to_vec()),
        None => Ok(text.as_bytes().to_vec()),
    }
}

fn base64url(text: &str) -> Result<Bytes, Failure> {
    data_encoding::BASE64URL_NOPAD
        .decode(text.trim().as_bytes())
        .map(Bytes)
        .map_err(|_| Failure::usage("expected base64url without padding, as `encrypt` and `mac` print it"))
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| "expected NAME: VALUE".to_owned())?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(data: Option<&str>) -> HttpArgs {
        HttpArgs {
            method: None,
            headers: Vec::new(),
            data: data.map(str::to_owned),
            location: false,
            include: false,
            fail: false,
        }
    }

    #[test]
    fn short_bodies_are_inline_and_long_ones_streamed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("body");
        std::fs::write(&path, vec![b'x'; 10]).unwrap();
        let at = format!("@{}", path.display());
        let (call, source) = http(Some(&at)).build("https://a.example/").unwrap();
        assert_eq!((call.method.as_str(), source.is_none()), ("POST", true));
        std::fs::write(&path, vec![b'x'; INLINE_BODY_BYTES_MAX + 1]).unwrap();
        let (call, source) = http(Some(&at)).build("https://a.example/").unwrap();
        assert_eq!(call.body, HttpBody::Stream { length: Some(INLINE_BODY_BYTES_MAX as u64 + 1) });
        assert!(source.is_some());
        assert_eq!(http(None).build("https://a.example/").unwrap().0.method, "GET");
        assert!(http(Some("@/nonexistent")).build("https://a.example/").is_err());
    }

    #[test]
    fn headers_read_as_curl_reads_them() {
        assert_eq!(parse_header("Accept: a:b"), Ok(("Accept".into(), "a:b".into())));
        assert!(parse_header("Accept").is_err());
        assert_eq!(base64url("_-8\n").unwrap().0, [0xff, 0xef]);
        assert!(base64url("_-8=").is_err());
    }
}

//! The URL of an `http` call: parsed once, matched, and sent exactly as it was matched.
//!
//! The parser is narrower than RFC 3986. It refuses whatever two programs could read in two ways: a host that is not in its
//! canonical form, dot segments and separators in any encoding, userinfo, backslashes. It normalises nothing but the letter
//! case of scheme and host and an empty path, which becomes `/`. A fragment is refused, because it is never sent.
//!
//! It does not decide where a call may go: that is [`HttpRules`].

mod rules;

use std::borrow::Cow;
use std::fmt;

use crate::code::{Code, Refusal};
use crate::limits::URL_CHARS_MAX;
use crate::policy::Destination;

pub use rules::HttpRules;

/// Where a request goes: a destination and a request target.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    destination: Destination,
    path: String,
    query: Option<String>,
}

impl Target {
    /// Reads an absolute `https` URL.
    ///
    /// # Errors
    /// `url_refused`, with a sentence that names the rule; whoever asked can write the URL in the form it asks for.
    pub fn parse(url: &str) -> Result<Self, Refusal> {
        if url.len() > URL_CHARS_MAX {
            return Err(refused(format!("The URL is longer than {URL_CHARS_MAX} characters.")));
        }
        check_bytes(url)?;
        let rest = url
            .split_at_checked(SCHEME.len())
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME))
            .map(|(_, rest)| rest)
            .ok_or_else(|| refused("The URL must start with https://."))?;
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        let path = if path.is_empty() { "/" } else { path };
        let destination = parse_authority(authority)?;
        check_path(path)?;
        if let Some(query) = query {
            check_query(query)?;
        }
        Ok(Self { destination, path: path.to_owned(), query: query.map(str::to_owned) })
    }

    /// The target that a `Location` of this target's answer names (RFC 9110, section 10.2.2). The reference may be an
    /// absolute URL, or start with `//`, `/` or `?`, or be a path relative to this one; a fragment is dropped. Dot segments
    /// are refused here too.
    ///
    /// # Errors
    /// `url_refused`, as [`Target::parse`].
    pub fn join(&self, reference: &str) -> Result<Self, Refusal> {
        if reference.len() > URL_CHARS_MAX {
            return Err(refused(format!("The URL is longer than {URL_CHARS_MAX} characters.")));
        }
        let reference = reference.split_once('#').map_or(reference, |(before, _)| before);
        let here = &self.destination;
        let absolute = if reference.is_empty() {
            return Ok(self.clone());
        } else if has_scheme(reference) {
            Cow::Borrowed(reference)
        } else if reference.starts_with("//") {
            Cow::Owned(format!("https:{reference}"))
        } else if reference.starts_with('/') {
            Cow::Owned(format!("https://{here}{reference}"))
        } else if reference.starts_with('?') {
            Cow::Owned(format!("https://{here}{}{reference}", self.path))
        } else {
            let folder = self.path.rfind('/').map_or("/", |slash| &self.path[..=slash]);
            Cow::Owned(format!("https://{here}{folder}{reference}"))
        };
        Self::parse(&absolute)
    }

    /// Host and port.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// The path as it is sent; it starts with `/`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The query as it is sent, without the question mark.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Path and query as they are sent (RFC 9112, section 3.2.1).
    pub fn request_target(&self) -> Cow<'_, str> {
        match &self.query {
            Some(query) => Cow::Owned(format!("{}?{query}", self.path)),
            None => Cow::Borrowed(&self.path),
        }
    }

    /// Whether the query has a parameter that a server could take for `name`: letter case, percent-encoding, `;` as a
    /// separator and a `name[]` suffix are seen through.
    pub fn has_parameter(&self, name: &str) -> bool {
        self.query.as_deref().is_some_and(|query| query.split(['&', ';']).any(|pair| names(pair, name)))
    }

    /// This target without the parameters that [`Target::has_parameter`] finds.
    #[must_use]
    pub fn without_parameter(mut self, name: &str) -> Self {
        if self.has_parameter(name) {
            let query = self.query.as_deref().unwrap_or_default();
            let kept: Vec<&str> = query.split(['&', ';']).filter(|pair| !names(pair, name)).collect();
            self.query = (!kept.is_empty()).then(|| kept.join("&"));
        }
        self
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}{}", self.destination, self.request_target())
    }
}

impl std::str::FromStr for Target {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        Self::parse(text)
    }
}

/// What no part of a URL may hold, with the reason that helps most.
fn check_bytes(url: &str) -> Result<(), Refusal> {
    match url.bytes().find(|b| !(0x21..=0x7e).contains(b) || matches!(b, b'\\' | b'#')) {
        None => Ok(()),
        Some(b'#') => Err(refused("The URL has a fragment, which is never sent; leave it out.")),
        Some(b'\\') => Err(refused("The URL holds a backslash.")),
        Some(b' ') => Err(refused("The URL holds a space; write %20.")),
        Some(0x80..) => {
            Err(refused("The URL holds a character outside of ASCII; percent-encode it, or IDNA-encode the host."))
        }
        Some(_) => Err(refused("The URL holds a control character.")),
    }
}

/// Host and port, in the one form that every parser reads alike.
fn parse_authority(authority: &str) -> Result<Destination, Refusal> {
    if authority.contains('@') {
        return Err(refused("The URL carries a user name or password."));
    }
    let (host, port) = match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => (&authority[..colon], Some(&authority[colon + 1..])),
        _ => (authority, None),
    };
    check_host(host)?;
    let destination: Destination =
        authority.parse().map_err(|_| refused("The URL's host is not a host name or an IP address."))?;
    if let Some(port) = port
        && (port.is_empty()
            || port.starts_with('0')
            || !port.bytes().all(|b| b.is_ascii_digit())
            || destination.port == 0)
    {
        return Err(refused("The URL's port is not a number from 1 to 65535."));
    }
    // `127.1`, `0x7f000001` and `[0:0::1]` are other spellings of an address: rules and logs name one spelling.
    if !destination.host.eq_ignore_ascii_case(host) {
        return Err(refused(format!(
            "The URL's host is not written in its plain form, which is {}.",
            destination.host
        )));
    }
    Ok(destination)
}

fn check_host(host: &str) -> Result<(), Refusal> {
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let legal = host.bytes().all(|b| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => true,
        b'[' | b']' | b':' => bracketed,
        _ => false,
    });
    if host.is_empty() {
        Err(refused("The URL has no host."))
    } else if !legal {
        Err(refused("The URL's host holds a character that no host name has."))
    } else if host.starts_with('.') || host.ends_with('.') || host.contains("..") {
        Err(refused("The URL's host begins or ends with a dot or has an empty label."))
    } else {
        Ok(())
    }
}

/// Refuses every path that a server might resolve to another one, in as many layers of percent-encoding as there are.
fn check_path(path: &str) -> Result<(), Refusal> {
    if !path.bytes().all(is_path_byte) {
        return Err(refused("The URL's path holds a character that must be percent-encoded."));
    }
    check_escapes(path)?;
    if path.starts_with("//") {
        return Err(refused("The URL's path starts with two slashes."));
    }
    let mut layer = path.as_bytes().to_vec();
    for _ in 0..ENCODING_LAYERS_MAX {
        if layer.split(|b| *b == b'/').any(is_dot_segment) {
            return Err(refused("The URL's path has a dot segment."));
        }
        let Some(decoded) = decode_path(&layer)? else { return Ok(()) };
        layer = decoded;
    }
    Err(refused("The URL's path is percent-encoded too many times."))
}

/// One layer of percent-encoding taken off; `None` where there was none.
fn decode_path(layer: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
    let mut decoded = Vec::with_capacity(layer.len());
    let mut rest = layer;
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = match escape(rest) {
            Some(b'/' | b'\\') => return Err(refused("The URL's path has an encoded separator.")),
            Some(0..=0x1f | 0x7f) => return Err(refused("The URL's path has an encoded control character.")),
            Some(byte) => (byte, &rest[3..]),
            None => (byte, after),
        };
        decoded.push(byte);
        rest = after;
    }
    // Overlong forms such as %c0%af are no UTF-8; a server that reads them as `/` is one that rules cannot bind.
    if std::str::from_utf8(&decoded).is_err() {
        return Err(refused("The URL's path is not UTF-8 once it is decoded."));
    }
    Ok((decoded.len() != layer.len()).then_some(decoded))
}

/// `.` and `..`, also with path parameters (`..;a=b`, which some servers take off first) and spaces around them.
fn is_dot_segment(segment: &[u8]) -> bool {
    let name = segment.split(|b| *b == b';').next().unwrap_or_default();
    matches!(name.trim_ascii(), b"." | b"..")
}

fn check_query(query: &str) -> Result<(), Refusal> {
    let legal = |b: u8| is_path_byte(b) || matches!(b, b'?' | b'[' | b']' | b'{' | b'}' | b'|' | b'^' | b'`');
    if !query.bytes().all(legal) {
        return Err(refused("The URL's query holds a character that must be percent-encoded."));
    }
    check_escapes(query)
}

fn check_escapes(text: &str) -> Result<(), Refusal> {
    let bytes = text.as_bytes();
    let broken = (0..bytes.len()).any(|at| bytes[at] == b'%' && escape(&bytes[at..]).is_none());
    if broken { Err(refused("The URL has a percent sign without two hexadecimal digits.")) } else { Ok(()) }
}

/// The byte that `text` starts with in percent-encoding.
fn escape(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else { return None };
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(*high)? << 4 | digit(*low)?)
}

/// `pchar` of RFC 3986, and the slash.
fn is_path_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(
            b,
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
        )
        || matches!(b, b':' | b'@' | b'/' | b'%')
}

/// Whether a server could read the `name=value` pair as the parameter `name`.
fn names(pair: &str, name: &str) -> bool {
    let raw = pair.split('=').next().unwrap_or_default().as_bytes();
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = escape(rest).map_or((byte, after), |byte| (byte, &rest[3..]));
        decoded.push(if byte == b'+' { b' ' } else { byte });
        rest = after;
    }
    let base = decoded.split(|b| *b == b'[').next().unwrap_or_default();
    base.trim_ascii().eq_ignore_ascii_case(name.as_bytes())
}

/// Whether a reference starts with a scheme, be it one we refuse.
fn has_scheme(reference: &str) -> bool {
    let before = reference.split(['/', '?']).next().unwrap_or_default();
    before.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
    })
}

fn refused(detail: impl Into<String>) -> Refusal {
    Refusal::new(Code::UrlRefused).detail(detail)
}

const SCHEME: &str = "https://";
/// Layers of percent-encoding that a path may have.
const ENCODING_LAYERS_MAX: usize = 8;

#[cfg(test)]
mod tests;

//! The echo mask: takes a secret out of what a called API answers, in the encodings that APIs commonly answer in.
//!
//! It finds a secret as it is; in hexadecimal; in base64 and base64url, at every alignment, padded or not, with the characters
//! at both ends that carry bits of it; and each of these inside percent-encoding, form encoding and JSON or similar backslash
//! escapes, in any mixture of escaped and plain characters. Each find is replaced by [`MASKED`], whose length says nothing.
//!
//! **It is a net, not a boundary.** It misses a secret that is cut in pieces, in another letter case, encrypted, compressed
//! inside the body, or encoded twice over. An allowed host is trusted with the secret.
//!
//! Two things matter more than another encoding, because a guest can have a host echo what the guest chooses, and would
//! otherwise learn from the mask itself how far a guess fits:
//!
//! - *What is held back does not depend on the secret.* Every byte up to a line break is passed on at once; behind the last
//!   line break a stream holds back as many bytes as a secret of this length could need, rounded up. Holding back only what
//!   could be the start of this secret would tell a guest, byte by byte, what the secret is.
//! - *How long a search takes does not depend on it either.* Each position costs the same arithmetic on rolling fingerprints,
//!   however much of the secret the text holds. Comparing bytes, or an automaton of them, would not.
//!
//! Whole guesses can be tried against any mask: where a host echoes, one that fits comes back masked. That is why short
//! secrets are not for guests unless the item says so.
//!
//! A [`Mask`] keeps fingerprints in place of the secret: numbers from which a short one could still be computed, so they are
//! wiped like it.

mod fingerprint;
mod view;

use std::ops::Range;
use std::sync::Arc;

use fingerprint::Needle;
use view::{Spelling, View};

/// What stands in the place of a secret.
pub const MASKED: &[u8] = b"[strongroom:masked]";

/// The secrets of one call, as fingerprints. Clones share them.
#[derive(Clone)]
pub struct Mask(Arc<Needles>);

impl Mask {
    /// A mask for `secrets`. Empty ones are left out. The caller goes on to own them and to wipe them.
    pub fn new(secrets: &[&[u8]]) -> Self {
        let secrets: Vec<&[u8]> = secrets.iter().copied().filter(|secret| !secret.is_empty()).collect();
        let holds = |wanted: fn(&u8) -> bool| secrets.iter().any(|secret| secret.iter().any(wanted));
        let longest = secrets.iter().map(|secret| secret.len()).max().unwrap_or(0);
        Self(Arc::new(Needles {
            window: longest.next_multiple_of(LENGTH_STEP) * SPELLED_BYTES_MAX + EDGE_BYTES_MAX,
            spans_lines: holds(|b| matches!(b, b'\n' | b'\r')),
            has_space: holds(|b| *b == b' '),
            has_non_ascii: holds(|b| *b >= 0x80),
            needles: secrets.into_iter().map(Needle::new).collect(),
        }))
    }

    /// `text` with every secret masked, or `None` where it holds none.
    pub fn scrub(&self, text: &[u8]) -> Option<Vec<u8>> {
        let found = self.0.find(text, &self.0.views(text));
        (!found.is_empty()).then(|| {
            let mut out = Vec::with_capacity(text.len());
            replace(text, &found, text.len(), &mut out);
            out
        })
    }

    /// Whether `text` holds a secret.
    pub fn finds(&self, text: &[u8]) -> bool {
        !self.0.find(text, &self.0.views(text)).is_empty()
    }

    /// A stream to be masked.
    pub fn stream(&self) -> MaskStream {
        MaskStream { needles: Arc::clone(&self.0), held: Vec::new() }
    }
}

/// One body on its way through a [`Mask`].
pub struct MaskStream {
    needles: Arc<Needles>,
    held: Vec<u8>,
}

impl MaskStream {
    /// Takes the next bytes and returns what may be passed on: everything up to the last line break, and of what follows it
    /// everything but the last [`hold_bytes_max`](Self::hold_bytes_max) at most.
    pub fn push(&mut self, data: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(data);
        let lines = self.complete_lines(data.len());
        let open = self.held.len() - lines;
        // Scanning anew for each byte would let a slow sender burn time: wait until a window's worth has come.
        let enough = if open > self.hold_bytes_max() { self.held.len() - self.needles.window } else { lines };
        if enough == 0 { Vec::new() } else { self.pass(enough) }
    }

    /// The rest, once the stream has ended as it should. Where it broke off, drop the stream instead.
    pub fn finish(mut self) -> Vec<u8> {
        self.pass(self.held.len())
    }

    /// Bytes that are held back at most.
    pub fn hold_bytes_max(&self) -> usize {
        2 * self.needles.window
    }

    /// Where the last complete line ends; a secret that itself holds a line break could span it.
    fn complete_lines(&self, new: usize) -> usize {
        if self.needles.spans_lines {
            return 0;
        }
        let old = self.held.len() - new;
        let line_break = self.held[old..].iter().rposition(|b| matches!(b, b'\n' | b'\r'));
        line_break.map_or(0, |at| old + at + 1)
    }

    /// Masks and takes out the first `enough` bytes, or a few less so that no escape is cut, or more so that no secret is.
    fn pass(&mut self, enough: usize) -> Vec<u8> {
        let views = self.needles.views(&self.held);
        let found = self.needles.find(&self.held, &views);
        let enough = views.iter().fold(enough, |enough, view| view.token_start(enough));
        let mut out = Vec::with_capacity(enough);
        let taken = replace(&self.held, &found, enough, &mut out);
        self.held.drain(..taken);
        out
    }
}

struct Needles {
    needles: Vec<Needle>,
    /// Bytes that one secret can take up in its longest spelling, with the bytes at its ends.
    window: usize,
    spans_lines: bool,
    has_space: bool,
    has_non_ascii: bool,
}

impl Needles {
    /// The readings of `text` beside the plain one: one for each mixture of the escapes that occur in it, because a secret
    /// may itself hold characters that look like an escape.
    fn views(&self, text: &[u8]) -> Vec<View> {
        let holds = |wanted: u8| text.contains(&wanted);
        let possible = Spelling {
            percent: holds(b'%'),
            form: self.has_space && holds(b'+'),
            backslash: holds(b'\\'),
            latin: self.has_non_ascii && (holds(b'\\') || text.iter().any(|b| *b >= 0x80)),
        };
        possible.subsets().map(|spelling| View::new(text, spelling)).collect()
    }

    /// Where in `text` the secrets are, in order, without overlaps.
    fn find(&self, text: &[u8], views: &[View]) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        for needle in &self.needles {
            needle.find(text, |hit| found.push(hit));
            for view in views {
                needle.find(view.bytes(), |hit| found.push(view.source(hit)));
            }
        }
        found.sort_by_key(|range| (range.start, range.end));
        let mut merged: Vec<Range<usize>> = Vec::with_capacity(found.len());
        for range in found {
            match merged.last_mut() {
                Some(last) if range.start < last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        merged
    }
}

/// Writes the first `enough` bytes of `text` to `out`, with what was `found` in them masked. Returns how many bytes of `text`
/// that took: more than `enough` where a secret reaches beyond.
fn replace(text: &[u8], found: &[Range<usize>], enough: usize, out: &mut Vec<u8>) -> usize {
    let mut at = 0;
    for range in found.iter().take_while(|range| range.start < enough) {
        out.extend_from_slice(&text[at..range.start]);
        out.extend_from_slice(MASKED);
        at = range.end;
    }
    out.extend_from_slice(text.get(at..enough).unwrap_or_default());
    at.max(enough)
}

/// The length of a secret shows in what is held back; it is rounded up to a multiple of this.
const LENGTH_STEP: usize = 16;
/// Bytes that one byte of a secret takes up at most: two hexadecimal digits, each written as `\u0041`.
const SPELLED_BYTES_MAX: usize = 12;
/// The base64 characters before and after the secret's own.
const EDGE_BYTES_MAX: usize = 2 * 6;

#[cfg(test)]
mod tests;

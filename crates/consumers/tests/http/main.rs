//! The `http` consumer against servers on the loopback interface, kind and hostile.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected fails")]
#![allow(clippy::disallowed_methods, reason = "some tests measure time")]

mod support;

mod connections;
mod echo;
mod hostile;
mod placement;
mod redirects;
mod rules;
mod streams;

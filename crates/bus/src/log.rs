//! The lines of the log: a time, a level, an event and values that are safe to write down.
//!
//! A value is safe when its type says so ([`LogSafe`]): ids, counts, codes, words of our own source. Names, contents and
//! texts of others have no such type, so they cannot be written by accident.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use rustix::time::{ClockId, clock_gettime};
use strongroom_wire::{Code, DeviceId, GuestId, Timestamp, VaultId};

use crate::envelope::ConnectionId;
use crate::subject::Topic;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// What an operator may want to know.
    Info,
    /// What an operator should look at: a refusal, a crash, a peer that misbehaved.
    Warn,
    /// A bug of ours.
    Error,
}

/// A value that may be written to the log.
pub trait LogSafe {
    /// Writes it: no blanks, no line ends.
    ///
    /// # Errors
    /// Those of `f`.
    fn write_safe(&self, f: &mut dyn fmt::Write) -> fmt::Result;
}

macro_rules! log_safe {
    ($($name:ty),*) => { $(
        impl LogSafe for $name {
            fn write_safe(&self, f: &mut dyn fmt::Write) -> fmt::Result {
                write!(f, "{self}")
            }
        }
    )* };
}

log_safe!(u8, u16, u32, u64, usize, i32, bool, VaultId, DeviceId, GuestId, Code);

/// A word of our own source; blanks become underscores.
impl LogSafe for &'static str {
    fn write_safe(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        self.chars().try_for_each(|c| f.write_char(if c.is_whitespace() || c.is_control() { '_' } else { c }))
    }
}

impl LogSafe for ConnectionId {
    fn write_safe(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl LogSafe for Topic {
    fn write_safe(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        f.write_str(self.parts().1)
    }
}

/// The kind of an input or output error, without its text: the text may name a file.
impl LogSafe for std::io::ErrorKind {
    fn write_safe(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl<T: LogSafe> LogSafe for Option<T> {
    fn write_safe(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        match self {
            Some(value) => value.write_safe(f),
            None => f.write_str("none"),
        }
    }
}

/// Writes one line to standard error, at once.
pub fn line(level: Level, event: &'static str, values: &[(&'static str, &dyn LogSafe)]) {
    let mut text = String::with_capacity(128);
    if format(&mut text, now(), level, event, values).is_ok() {
        // A log that cannot be written stops nothing.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

/// An [`Level::Info`] line.
pub fn info(event: &'static str, values: &[(&'static str, &dyn LogSafe)]) {
    line(Level::Info, event, values);
}

/// A [`Level::Warn`] line.
pub fn warn(event: &'static str, values: &[(&'static str, &dyn LogSafe)]) {
    line(Level::Warn, event, values);
}

/// A [`Level::Error`] line.
pub fn error(event: &'static str, values: &[(&'static str, &dyn LogSafe)]) {
    line(Level::Error, event, values);
}

fn format(
    text: &mut String,
    now: Timestamp,
    level: Level,
    event: &'static str,
    values: &[(&'static str, &dyn LogSafe)],
) -> fmt::Result {
    let level = match level {
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    };
    write!(text, "{now} {level} {event}")?;
    for (name, value) in values {
        write!(text, " {name}=")?;
        value.write_safe(text)?;
    }
    text.write_char('\n')
}

fn now() -> Timestamp {
    let now = clock_gettime(ClockId::Realtime);
    let secs = u64::try_from(now.tv_sec).unwrap_or(0);
    Timestamp(secs.saturating_mul(1_000) + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_of_words() {
        let mut text = String::new();
        let vault = VaultId([0; 16]);
        let values: [(&'static str, &dyn LogSafe); 3] = [("vault", &vault), ("count", &7u32), ("why", &"two\nwords")];
        format(&mut text, Timestamp(0), Level::Warn, "vault_stopped", &values).expect("a string takes it");
        assert_eq!(
            text,
            "1970-01-01T00:00:00Z warn vault_stopped vault=aaaaaaaaaaaaaaaaaaaaaaaaaa count=7 why=two_words\n"
        );
    }
}

//! What the command prints: text for people, JSON for programs. Text from elsewhere is escaped, so that no label of an item
//! and no word of a guest can move the cursor or turn the line around.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;
use strongroom_client::wire::Code;

use crate::exit::Exit;
use crate::failure::Failure;

/// Where and how a command prints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Out {
    /// JSON instead of text.
    pub(crate) json: bool,
    /// Nothing that was not asked for.
    pub(crate) quiet: bool,
}

impl Out {
    /// The result of a command: as JSON, or as the text that `text` makes.
    ///
    /// # Errors
    /// When standard output is closed.
    pub(crate) fn result<T: Serialize>(self, value: &T, text: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.json { self.json_line(value) } else { self.text(&text()) }
    }

    /// One line of JSON.
    ///
    /// # Errors
    /// When standard output is closed.
    pub(crate) fn json_line<T: Serialize>(self, value: &T) -> Result<(), Failure> {
        let mut line = serde_json::to_string(value)
            .map_err(|e| Failure::new(Exit::Bug, Code::Bug, format!("an answer has no JSON form: {e}")))?;
        line.push('\n');
        write_out(line.as_bytes())
    }

    /// Text; its parts from elsewhere have been escaped.
    ///
    /// # Errors
    /// When standard output is closed.
    pub(crate) fn text(self, text: &str) -> Result<(), Failure> {
        let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        write_out(format!("{text}{newline}").as_bytes())
    }

    /// That something was done, where there is nothing else to say.
    ///
    /// # Errors
    /// When standard output is closed.
    pub(crate) fn done(self, text: &str) -> Result<(), Failure> {
        if self.json {
            self.json_line(&serde_json::json!({ "done": true }))
        } else if self.quiet {
            Ok(())
        } else {
            self.text(text)
        }
    }

    /// A remark beside the result, on standard error.
    pub(crate) fn note(self, text: &str) {
        if !self.quiet {
            // Nobody is left to be told where standard error is closed.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// Why a command failed.
    pub(crate) fn failure(self, failure: &Failure) {
        let text = if self.json {
            serde_json::json!({ "error": failure }).to_string()
        } else {
            failure.to_string().lines().map(escape).collect::<Vec<_>>().join("\n")
        };
        let _ = writeln!(io::stderr(), "{text}");
    }
}

/// Bytes to standard output as they are; for bodies that the member asked for.
///
/// # Errors
/// When standard output is closed.
pub(crate) fn write_out(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|e| Failure::local("standard output", &e))
}

/// Whether standard output is a terminal.
pub(crate) fn to_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Text from elsewhere on one line: control characters, and those that turn or hide text, as escapes.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_plain(c) {
            safe.push(c);
        } else {
            let _ = write!(safe, "{}", c.escape_unicode());
        }
    }
    safe
}

/// The same over several lines, each behind `indent`.
pub(crate) fn escape_lines(text: &str, indent: &str) -> String {
    text.lines().map(|line| format!("{indent}{}\n", escape(line))).collect()
}

fn is_plain(c: char) -> bool {
    let turns_or_hides = matches!(
        c,
        '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
    );
    !c.is_control() && !turns_or_hides
}

/// Rows under headings, in columns as wide as they need.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let cells: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| escape(cell)).collect()).collect();
    let width = |column: usize| {
        let longest = cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        longest.unwrap_or(0).max(headings[column].chars().count())
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |row: Vec<&str>| {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let pad = width - cell.chars().count().min(*width) + 2;
            line.push_str(cell);
            line.push_str(&" ".repeat(pad));
        }
        format!("{}\n", line.trim_end())
    };
    let mut text = line(headings.to_vec());
    for row in &cells {
        text.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_elsewhere_cannot_steer_a_terminal() {
        assert_eq!(escape("a\x1b[2Jb\r\n"), "a\\u{1b}[2Jb\\u{d}\\u{a}");
        assert_eq!(escape("pay \u{202e}drawkcab"), "pay \\u{202e}drawkcab");
        assert_eq!(escape("zero\u{200b}width\u{feff}\u{9b}31m"), "zero\\u{200b}width\\u{feff}\\u{9b}31m");
        assert_eq!(escape("Käse 东 ✓"), "Käse 东 ✓");
        assert_eq!(escape_lines("one\ntwo\x07", "> "), "> one\n> two\\u{7}\n");
    }

    #[test]
    fn columns_are_as_wide_as_they_need() {
        let text = table(&["ID", "LABEL"], &[vec!["1".into(), "long label".into()], vec!["22".into(), "x".into()]]);
        assert_eq!(text, "ID  LABEL\n1   long label\n22  x\n");
    }
}

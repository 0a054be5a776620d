//! `.env` files: `NAME=value` lines with comments, an `export` prefix, quotes, escapes and values over several lines.
//!
//! Values are taken as they stand: `$NAME` and `${NAME}` are reported, never expanded.

use strongroom_wire::{Class, ItemType};
use zeroize::Zeroizing;

use crate::draft::{Draft, text_of};
use crate::intake::{ImportError, Intake, Options, digest};
use crate::refused::ImportRefused;
use crate::report::{Place, Reason, RowFault};
use crate::text::{self, Text};

/// Whether the first line that is not blank or a comment is an assignment.
pub(crate) fn looks_like(file: &[u8]) -> bool {
    let first = file
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .find(|line| !line.is_empty() && !line.starts_with(b"#"));
    first.is_some_and(|line| name(&mut Cursor { file: line, at: 0, line: 1 }).is_ok())
}

/// Reads each variable as an API key with the variable's name.
pub(crate) fn read(file: &[u8], options: &Options, intake: &mut Intake<'_>) -> Result<(), ImportError> {
    if text::is_utf16(file) {
        return Err(ImportRefused::Utf16.into());
    }
    let mut cursor = Cursor { file: text::without_bom(file), at: 0, line: 1 };
    while cursor.at < cursor.file.len() {
        cursor.skip_blanks();
        let start = (cursor.at, cursor.line);
        match cursor.peek() {
            None => break,
            Some(b'\n' | b'\r') => cursor.skip_line(),
            Some(b'#') => {
                intake.tally("comment lines", Reason::NoPlace, 1);
                cursor.skip_line();
            }
            Some(_) => match assignment(&mut cursor) {
                Ok(variable) => take(variable, Place::line(start.1), options, intake)?,
                Err(fault) => {
                    // What a broken quote has swallowed may be good lines: go on after the first.
                    (cursor.at, cursor.line) = start;
                    cursor.skip_line();
                    intake.bad_row(Place::line(start.1), fault)?;
                }
            },
        }
        intake.progress(cursor.at as u64, cursor.file.len() as u64)?;
    }
    Ok(())
}

/// One line, or several where quotes hold them together.
struct Variable {
    name: String,
    value: Text,
    /// Whether it mentions variables that a shell would have expanded.
    expands: bool,
    /// Whether a comment follows on its line.
    commented: bool,
}

fn take(variable: Variable, place: Place, options: &Options, intake: &mut Intake<'_>) -> Result<(), ImportError> {
    let Variable { name, value, expands, commented } = variable;
    intake.tally("comments at the end of a line", Reason::NoPlace, u64::from(commented));
    let mut draft = Draft::new(ItemType::ApiKey, &[&name], place);
    if value.is_empty() {
        draft.lose("its value", Reason::Empty);
    }
    if expands {
        draft.lose("variables in its value", Reason::NotExpanded);
    }
    draft.known("key", Class::Secret, Some(value));
    intake.item(draft, &digest(&[&options.scope, &name]))
}

fn assignment(cursor: &mut Cursor<'_>) -> Result<Variable, RowFault> {
    let name = name(cursor)?;
    cursor.skip_blanks();
    let quote = cursor.peek().filter(|byte| matches!(byte, b'"' | b'\'' | b'`'));
    let raw = &cursor.file[cursor.at..];
    let (value, commented) = match quote {
        Some(quote) => {
            cursor.at += 1;
            let value = quoted(cursor, quote)?;
            cursor.skip_blanks();
            let commented = cursor.peek() == Some(b'#');
            if !commented && !matches!(cursor.peek(), None | Some(b'\n' | b'\r')) {
                return Err(RowFault::Quotes);
            }
            cursor.skip_line();
            (value, commented)
        }
        None => plain(cursor),
    };
    let expands = match quote {
        None => mentions_variable(&value),
        Some(b'"') => mentions_variable(&raw[1..1 + closing_quote(&raw[1..], b'"').unwrap_or(0)]),
        Some(_) => false,
    };
    Ok(Variable { name, value: text_of(value).ok_or(RowFault::NotUtf8)?, expands, commented })
}

/// The name up to and including the equals sign.
fn name(cursor: &mut Cursor<'_>) -> Result<String, RowFault> {
    let line = cursor.rest_of_line();
    let equals = line.iter().position(|byte| *byte == b'=').ok_or(RowFault::NoAssignment)?;
    let left = std::str::from_utf8(&line[..equals]).map_err(|_| RowFault::Name)?;
    let name = left.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t'])).unwrap_or(left).trim();
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts || !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')) {
        return Err(RowFault::Name);
    }
    cursor.at += equals + 1;
    Ok(name.to_owned())
}

/// An unquoted value: to the end of the line, or to a `#` after a blank.
fn plain(cursor: &mut Cursor<'_>) -> (Zeroizing<Vec<u8>>, bool) {
    let line = cursor.rest_of_line();
    let blank_before = |at: usize| at == 0 || matches!(line[at - 1], b' ' | b'\t');
    let comment = line.iter().enumerate().position(|(at, byte)| *byte == b'#' && blank_before(at));
    let value = line[..comment.unwrap_or(line.len())].trim_ascii();
    cursor.skip_line();
    (Zeroizing::new(value.to_vec()), comment.is_some())
}

/// What follows an opening quote, up to and including the closing one. Only double quotes know escapes.
fn quoted(cursor: &mut Cursor<'_>, quote: u8) -> Result<Zeroizing<Vec<u8>>, RowFault> {
    let rest = &cursor.file[cursor.at..];
    let end = closing_quote(rest, quote).ok_or(RowFault::Quotes)?;
    let mut value = Zeroizing::new(Vec::with_capacity(end));
    let mut bytes = rest[..end].iter().copied();
    while let Some(byte) = bytes.next() {
        match (quote, byte) {
            (b'"', b'\\') => unescape(bytes.next(), &mut value),
            _ => value.push(byte),
        }
    }
    cursor.line += rest[..end].iter().filter(|byte| **byte == b'\n').count() as u64;
    cursor.at += end + 1;
    Ok(value)
}

fn closing_quote(rest: &[u8], quote: u8) -> Option<usize> {
    let mut at = 0;
    loop {
        match *rest.get(at)? {
            b'\\' if quote == b'"' => at += 2,
            byte if byte == quote => return Some(at),
            _ => at += 1,
        }
    }
}

fn unescape(escaped: Option<u8>, value: &mut Vec<u8>) {
    match escaped {
        Some(b'n') => value.push(b'\n'),
        Some(b'r') => value.push(b'\r'),
        Some(b't') => value.push(b'\t'),
        Some(byte @ (b'"' | b'\\' | b'$' | b'`')) => value.push(byte),
        // A backslash before a line end joins the lines, as in a shell.
        Some(b'\n') => {}
        Some(byte) => value.extend_from_slice(&[b'\\', byte]),
        None => value.push(b'\\'),
    }
}

/// Whether a shell would expand something in a text: `$NAME`, `${…}` or `$(…)`, without a backslash before.
fn mentions_variable(text: &[u8]) -> bool {
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'$' if bytes.peek().is_some_and(|b| b.is_ascii_alphabetic() || matches!(b, b'{' | b'(' | b'_')) => {
                return true;
            }
            _ => {}
        }
    }
    false
}

struct Cursor<'f> {
    file: &'f [u8],
    at: usize,
    line: u64,
}

impl<'f> Cursor<'f> {
    fn peek(&self) -> Option<u8> {
        self.file.get(self.at).copied()
    }

    fn rest_of_line(&self) -> &'f [u8] {
        let rest = &self.file[self.at.min(self.file.len())..];
        let line = &rest[..rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())];
        line.strip_suffix(b"\r").unwrap_or(line)
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    fn skip_line(&mut self) {
        let rest = &self.file[self.at..];
        self.at += rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
        self.line += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use crate::record::Record;

    fn import(file: &str) -> Vec<Record> {
        let mut records = Vec::new();
        let options = Options { kind: Some(Kind::Env), ..Options::default() };
        crate::intake::import(file.as_bytes(), &options, &mut records).expect("an env file is never refused");
        records
    }

    fn values(file: &str) -> Vec<(String, String)> {
        let item = |record: Record| match record {
            Record::Item(item) => {
                let value = item.fields[0].value.expose_str().expect("text").to_owned();
                Some((item.label, value))
            }
            _ => None,
        };
        import(file).into_iter().filter_map(item).collect()
    }

    #[test]
    fn quotes_escapes_and_lines() {
        let file = "export A=one two  # note\r\nB = \"x\\n\\\"y\\\" \\$HOME \\q\" # note\nC='$RAW \\n'\nD=\"l1\nl2\"\nE=`a\"b'c`\nF=a#b\nG=\"\"\n";
        let pairs = values(file);
        let expected = [
            ("A", "one two"),
            ("B", "x\n\"y\" $HOME \\q"),
            ("C", "$RAW \\n"),
            ("D", "l1\nl2"),
            ("E", "a\"b'c"),
            ("F", "a#b"),
        ];
        let expected: Vec<_> = expected.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        assert_eq!(pairs, expected);
    }

    #[test]
    fn bad_lines_are_named_and_the_rest_comes_in() {
        let records = import("good=1\nno assignment\n9X=2\nOPEN=\"never closed\nAFTER=3\nTAIL='x' y\nexport ONLY\n");
        let bad: Vec<_> = records
            .iter()
            .filter_map(
                |record| if let Record::BadRow(row) = record { Some((row.place.line, row.fault)) } else { None },
            )
            .collect();
        assert_eq!(
            bad,
            [
                (Some(2), RowFault::NoAssignment),
                (Some(3), RowFault::Name),
                (Some(4), RowFault::Quotes),
                (Some(6), RowFault::Quotes),
                (Some(7), RowFault::NoAssignment),
            ]
        );
        assert_eq!(records.iter().filter(|record| matches!(record, Record::Item(_))).count(), 2);
    }

    #[test]
    fn variables_are_reported_where_a_shell_would_expand_them() {
        let reports = |file: &str| {
            let records = import(file);
            records.iter().any(|r| matches!(r, Record::NotCarried(line) if line.reason == Reason::NotExpanded))
        };
        assert!(reports("A=${HOME}/x") && reports("A=\"$HOME\"") && reports("A=$(id)"));
        assert!(!reports("A='${HOME}'") && !reports("A=cost$5") && !reports("A=x$"));
    }
}

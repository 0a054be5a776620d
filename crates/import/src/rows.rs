//! CSV as RFC 4180 has it, strictly, with line numbers: a row that cannot be read is skipped and the next line is tried.

use zeroize::Zeroizing;

use crate::limits::{COLUMNS_MAX, OPEN_QUOTES_MAX};
use crate::refused::ImportRefused;
use crate::report::RowFault;

/// One field, quotes taken off; wiped when dropped.
pub(crate) type Cell = Zeroizing<Vec<u8>>;

/// A row and the line it starts on.
pub(crate) struct Row {
    pub(crate) line: u64,
    pub(crate) cells: Result<Vec<Cell>, RowFault>,
}

/// The rows of a file; lines end with LF, CRLF or CR. Blank lines are passed over.
pub(crate) struct Rows<'f> {
    file: &'f [u8],
    at: usize,
    line: u64,
    open_quotes: u32,
}

impl<'f> Rows<'f> {
    pub(crate) fn new(file: &'f [u8]) -> Self {
        Self { file, at: 0, line: 1, open_quotes: 0 }
    }

    /// Bytes read so far.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// The next row, or `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Row>, ImportRefused> {
        while self.skip_line_end() {}
        if self.at >= self.file.len() {
            return Ok(None);
        }
        let (start, line) = (self.at, self.line);
        let cells = self.row();
        if cells.is_err() {
            // What a broken quote has swallowed may be good rows: go on at the line after the row's first.
            if self.at >= self.file.len() {
                self.open_quotes += 1;
                if self.open_quotes > OPEN_QUOTES_MAX {
                    return Err(ImportRefused::QuotesUnmatched { line });
                }
            }
            (self.at, self.line) = (start, line);
            self.at += self.rest().iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(self.rest().len());
        }
        Ok(Some(Row { line, cells }))
    }

    fn row(&mut self) -> Result<Vec<Cell>, RowFault> {
        let mut cells = Vec::new();
        loop {
            if cells.len() >= COLUMNS_MAX {
                return Err(RowFault::Columns);
            }
            cells.push(if self.rest().starts_with(b"\"") { self.quoted()? } else { self.plain()? });
            match self.rest().first() {
                Some(b',') => self.at += 1,
                None | Some(b'\n' | b'\r') => return Ok(cells),
                Some(_) => return Err(RowFault::Quotes),
            }
        }
    }

    fn plain(&mut self) -> Result<Cell, RowFault> {
        let rest = self.rest();
        let end = rest.iter().position(|byte| matches!(byte, b',' | b'\n' | b'\r')).unwrap_or(rest.len());
        if rest[..end].contains(&b'"') {
            return Err(RowFault::Quotes);
        }
        self.at += end;
        Ok(Zeroizing::new(rest[..end].to_vec()))
    }

    fn quoted(&mut self) -> Result<Cell, RowFault> {
        let inside = &self.rest()[1..];
        let (end, quotes) = closing_quote(inside).ok_or_else(|| {
            self.at = self.file.len();
            RowFault::Quotes
        })?;
        let mut cell = Zeroizing::new(Vec::with_capacity(end - quotes));
        let mut bytes = inside[..end].iter();
        while let Some(byte) = bytes.next() {
            cell.push(*byte);
            if *byte == b'"' {
                bytes.next();
            }
        }
        self.line += line_ends(&inside[..end]);
        self.at += end + 2;
        Ok(cell)
    }

    fn rest(&self) -> &'f [u8] {
        &self.file[self.at..]
    }

    fn skip_line_end(&mut self) -> bool {
        let length = match self.rest() {
            [b'\r', b'\n', ..] => 2,
            [b'\r' | b'\n', ..] => 1,
            _ => 0,
        };
        self.at += length;
        self.line += u64::from(length > 0);
        length > 0
    }
}

/// Where the quote that closes stands, and how many doubled ones come before it.
fn closing_quote(inside: &[u8]) -> Option<(usize, usize)> {
    let (mut at, mut doubled) = (0, 0);
    loop {
        at += inside[at..].iter().position(|byte| *byte == b'"')?;
        if inside.get(at + 1) != Some(&b'"') {
            return Some((at, doubled));
        }
        at += 2;
        doubled += 1;
    }
}

fn line_ends(bytes: &[u8]) -> u64 {
    let lone_returns = bytes.windows(2).filter(|pair| pair[0] == b'\r' && pair[1] != b'\n').count();
    let last_return = usize::from(bytes.last() == Some(&b'\r'));
    (bytes.iter().filter(|byte| **byte == b'\n').count() + lone_returns + last_return) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = Vec<(u64, Result<Vec<String>, RowFault>)>;

    fn read(file: &str) -> Result<Read, ImportRefused> {
        let mut rows = Rows::new(file.as_bytes());
        let mut out = Vec::new();
        while let Some(row) = rows.next()? {
            let text = |cell: &Cell| String::from_utf8(cell.to_vec()).expect("UTF-8 in, UTF-8 out");
            out.push((row.line, row.cells.map(|cells| cells.iter().map(text).collect())));
        }
        Ok(out)
    }

    fn row(line: u64, cells: &[&str]) -> (u64, Result<Vec<String>, RowFault>) {
        (line, Ok(cells.iter().map(|cell| (*cell).to_owned()).collect()))
    }

    #[test]
    fn quotes_lines_and_blanks() {
        let file = "a,b\r\n\"x, \"\"y\"\"\r\nz\",\n\n,\"\"\rlast,\"e\nn\nd\"";
        assert_eq!(
            read(file),
            Ok(vec![
                row(1, &["a", "b"]),
                row(2, &["x, \"y\"\r\nz", ""]),
                row(5, &["", ""]),
                row(6, &["last", "e\nn\nd"])
            ])
        );
    }

    #[test]
    fn a_broken_quote_costs_one_line() {
        let rows = read("a,b\n\"open,1\nc,d\n\"x\"y,2\ne\"f,3\ng,h\n").expect("few open quotes");
        let bad: Vec<u64> = rows.iter().filter(|(_, cells)| cells.is_err()).map(|(line, _)| *line).collect();
        assert_eq!(bad, [2, 4, 5]);
        assert_eq!(rows.last(), Some(&row(6, &["g", "h"])));
    }

    #[test]
    fn bombs_end_soon() {
        assert!(
            read(&",".repeat(1_000_000)).expect("one row").iter().all(|(_, cells)| *cells == Err(RowFault::Columns))
        );
        assert_eq!(read(&"\"".repeat(2_000_000)).expect("one row").len(), 1);
        // Every line opens a quote that only the end of the file would close.
        let lines = "\"\"\"a\n".repeat(100_000);
        assert!(read(&lines).is_ok_and(|rows| rows.len() == 100_000) || read(&lines).is_err());
    }
}

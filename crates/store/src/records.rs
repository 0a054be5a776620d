//! Records: a table is an ordered map from keys to records.

use rusqlite::{CachedStatement, OptionalExtension, Row, ToSql, params};
use strongroom_core::records::{StoreError, Table};

use crate::database::Database;
use crate::error::{damaged, failed, sqlite_error};

impl Database {
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        one(self.prepare(sql(table).get)?, params![key], |row| row.get(0))
    }

    pub(crate) fn put(&self, table: Table, key: &[u8], record: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.in_transaction()?;
        if matches!(table, Table::Fields | Table::ItemKeys) && !self.has_room()? {
            return Err(StoreError::OverQuota);
        }
        let before = self.get(table, key)?;
        let sql = if before.is_some() { sql(table).update } else { sql(table).insert };
        self.prepare(sql)?.execute(params![key, record]).map_err(|error| sqlite_error(&error))?;
        self.touched(1);
        Ok(before)
    }

    /// Whether values may take more of the file. Free pages within it count as room; they are used first.
    fn has_room(&self) -> Result<bool, StoreError> {
        let pages = |sql| one(self.prepare(sql)?, params![], |row| row.get(0))?.map_or(Ok(0), count_of);
        Ok(pages("PRAGMA page_count")?.saturating_sub(pages("PRAGMA freelist_count")?) < self.bound.value_pages())
    }

    pub(crate) fn delete(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.in_transaction()?;
        let before = self.get(table, key)?;
        if before.is_some() {
            self.prepare(sql(table).delete)?.execute(params![key]).map_err(|error| sqlite_error(&error))?;
        }
        Ok(before)
    }

    pub(crate) fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        // The first key that comes after another is that key with a zero byte behind it.
        let next = after.map(|after| [after, &[0]].concat());
        let from = next.as_deref().filter(|next| *next > prefix).unwrap_or(prefix);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let pair = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let rows: Vec<_> = match end_of(prefix) {
            Some(end) => all(self.prepare(sql(table).scan_to)?, params![from, limit, end], pair)?,
            None => all(self.prepare(sql(table).scan)?, params![from, limit], pair)?,
        };
        self.touched(rows.len());
        Ok(rows)
    }

    pub(crate) fn count(&self, table: Table) -> Result<u64, StoreError> {
        one(self.prepare(sql(table).count)?, params![], |row| row.get(0))?.map_or(Ok(0), count_of)
    }
}

/// The single row of an answer, if any.
pub(crate) fn one<T>(
    mut statement: CachedStatement<'_>,
    parameters: &[&dyn ToSql],
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, StoreError> {
    statement.query_row(parameters, read).optional().map_err(|error| sqlite_error(&error))
}

/// All rows of an answer.
pub(crate) fn all<T>(
    mut statement: CachedStatement<'_>,
    parameters: &[&dyn ToSql],
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    statement.query_map(parameters, read).and_then(Iterator::collect).map_err(|error| sqlite_error(&error))
}

/// A number as SQLite takes it.
pub(crate) fn number(value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| failed("a number is beyond what the database can hold"))
}

/// A count as SQLite answers it.
pub(crate) fn count_of(value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|_| damaged("a number is negative"))
}

/// The first key after all that start with the prefix; `None` where there is none.
fn end_of(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// What is asked of one table.
struct Sql {
    get: &'static str,
    insert: &'static str,
    update: &'static str,
    delete: &'static str,
    scan: &'static str,
    scan_to: &'static str,
    count: &'static str,
}

macro_rules! sql {
    ($($table:ident $name:literal)*) => {
        fn sql(table: Table) -> &'static Sql {
            match table { $(
                Table::$table => &Sql {
                    get: concat!("SELECT record FROM ", $name, " WHERE key = ?1"),
                    insert: concat!("INSERT INTO ", $name, " (key, record) VALUES (?1, ?2)"),
                    update: concat!("UPDATE ", $name, " SET record = ?2 WHERE key = ?1"),
                    delete: concat!("DELETE FROM ", $name, " WHERE key = ?1"),
                    scan: concat!("SELECT key, record FROM ", $name, " WHERE key >= ?1 ORDER BY key LIMIT ?2"),
                    scan_to: concat!("SELECT key, record FROM ", $name, " WHERE key >= ?1 AND key < ?3 ORDER BY key LIMIT ?2"),
                    count: concat!("SELECT count(*) FROM ", $name),
                },
            )* }
        }
    };
}

sql! {
    Items "items"
    ItemKeys "item_keys"
    Fields "fields"
    History "history"
    Origins "origins"
    Devices "devices"
    Guests "guests"
    Grants "grants"
    GrantUses "grant_uses"
    Handles "handles"
    Approvals "approvals"
    Slots "slots"
    Settings "settings"
    Outcomes "outcomes"
    Intents "intents"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_statement_names_its_table() {
        for table in Table::ALL {
            let count = format!("SELECT count(*) FROM {}", table.as_str());
            assert_eq!(sql(*table).count, count);
        }
    }

    #[test]
    fn the_end_of_a_prefix() {
        assert_eq!(end_of(b""), None);
        assert_eq!(end_of(b"\xff\xff"), None);
        assert_eq!(end_of(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(end_of(b"a\xff"), Some(b"b".to_vec()));
    }
}

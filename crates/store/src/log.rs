//! The log: leaves with the Merkle nodes they complete.
//!
//! `tlog_tiles::stored_hash_index` numbers the nodes of a growing tree in the order in which leaves complete them. So the nodes
//! of leaf `i` start at position `2i − ones(i)`, `ones` being the count of one bits: each of the `i` leaves before it brought
//! its own hash, and they joined into `i − ones(i)` inner nodes.

use rusqlite::{Row, params};
use strongroom_core::records::StoreError;

use crate::database::Database;
use crate::error::{damaged, failed, sqlite_error};
use crate::records::{all, count_of, number, one};

impl Database {
    pub(crate) fn log_size(&self) -> Result<u64, StoreError> {
        let sql = "SELECT coalesce(max(position) + 1, 0) FROM leaves";
        let size = one(self.prepare(sql)?, params![], |row| row.get(0))?;
        size.map_or(Ok(0), count_of)
    }

    pub(crate) fn append_leaf(
        &self,
        index: u64,
        leaf: &[u8],
        first_node: u64,
        nodes: &[[u8; 32]],
    ) -> Result<(), StoreError> {
        self.in_transaction()?;
        if index != self.log_size()? || first_node != first_node_of(index) || nodes.len() != nodes_of(index) {
            return Err(failed("the leaf does not follow the last one of the log"));
        }
        self.prepare("INSERT INTO leaves (position, nodes, leaf) VALUES (?1, ?2, ?3)")?
            .execute(params![number(index)?, nodes.as_flattened(), leaf])
            .map_err(|error| sqlite_error(&error))
            .map(drop)
    }

    pub(crate) fn leaves(&self, from: u64, count: u64) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.run_of_leaves(
            "SELECT position, leaf FROM leaves WHERE position >= ?1 ORDER BY position LIMIT ?2",
            from,
            count,
        )
    }

    pub(crate) fn erase_leaf(&self, index: u64) -> Result<(), StoreError> {
        self.in_transaction()?;
        let erased = self
            .prepare("UPDATE leaves SET leaf = NULL WHERE position = ?1")?
            .execute(params![number(index)?])
            .map_err(|error| sqlite_error(&error))?;
        if erased == 1 { Ok(()) } else { Err(failed("the log has no such leaf")) }
    }

    pub(crate) fn nodes(&self, positions: &[u64]) -> Result<Vec<[u8; 32]>, StoreError> {
        positions.iter().map(|position| self.node(*position)).collect()
    }

    pub(crate) fn leaf_hashes(&self, from: u64, count: u64) -> Result<Vec<[u8; 32]>, StoreError> {
        let sql = "SELECT position, substr(nodes, 1, 32) FROM leaves WHERE position >= ?1 ORDER BY position LIMIT ?2";
        self.run_of_leaves(sql, from, count)
    }

    fn node(&self, position: u64) -> Result<[u8; 32], StoreError> {
        // Within that range the arithmetic below cannot overflow.
        number(position)?;
        let leaf = leaf_of(position);
        let offset = (position - first_node_of(leaf)) * 32 + 1;
        let sql = "SELECT substr(nodes, ?2, 32) FROM leaves WHERE position = ?1";
        one(self.prepare(sql)?, params![number(leaf)?, number(offset)?], |row| row.get(0))?
            .ok_or_else(|| damaged("a node of the log is missing"))
    }

    /// Rows of consecutive leaves, fewer at the log's end.
    fn run_of_leaves<T: rusqlite::types::FromSql>(
        &self,
        sql: &str,
        from: u64,
        count: u64,
    ) -> Result<Vec<T>, StoreError> {
        // Beyond the range of the database there are no leaves.
        let Ok(first) = i64::try_from(from) else { return Ok(Vec::new()) };
        let limit = i64::try_from(count).unwrap_or(i64::MAX);
        let numbered = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get(1)?));
        let rows = all(self.prepare(sql)?, params![first, limit], numbered)?;
        let mut run = Vec::with_capacity(rows.len());
        for (expected, (position, value)) in (first..).zip(rows) {
            if position != expected {
                return Err(damaged("a leaf of the log is missing"));
            }
            run.push(value);
        }
        Ok(run)
    }
}

/// The position of a leaf's own hash; its other nodes follow.
fn first_node_of(leaf: u64) -> u64 {
    leaf * 2 - u64::from(leaf.count_ones())
}

/// How many nodes a leaf completes: its own hash, and one for each level at which it is the right child of a right child.
fn nodes_of(leaf: u64) -> usize {
    leaf.trailing_ones() as usize + 1
}

/// The leaf that completes the node at a position.
fn leaf_of(position: u64) -> u64 {
    // 2i − ones(i) grows with i and is at most 64 below 2i, so the search starts there.
    let mut leaf = position / 2;
    while first_node_of(leaf + 1) <= position {
        leaf += 1;
    }
    leaf
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_and_leaves_fit_each_other() {
        let mut position = 0;
        for leaf in 0..5_000 {
            assert_eq!(first_node_of(leaf), position);
            for _ in 0..nodes_of(leaf) {
                assert_eq!(leaf_of(position), leaf);
                position += 1;
            }
        }
    }
}

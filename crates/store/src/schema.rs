//! Versions of the schema. They only move forward, each step inside one transaction of its own, so that a crash between two
//! steps leaves a database of the earlier version.

use rusqlite::Connection;
use strongroom_core::records::StoreError;

use crate::error::{damaged, sqlite_error};

/// The steps from an empty database to the newest schema; the n-th leads to version n.
pub(crate) const MIGRATIONS: &[&str] = &[include_str!("../schema/0001.sql")];

/// Says that a SQLite file is a Strongroom vault: "SRVT" in ASCII.
const APPLICATION_ID: u32 = 0x5352_5654;

/// Marks an empty database as a vault's.
pub(crate) fn claim(connection: &Connection) -> Result<(), StoreError> {
    set_pragma(connection, "application_id", APPLICATION_ID)
}

/// Checks that the database is a vault's, and moves it to the newest of these versions.
///
/// # Errors
/// `TooNew` when a newer program wrote it.
pub(crate) fn migrate(connection: &Connection, migrations: &[&str]) -> Result<(), StoreError> {
    if pragma(connection, "application_id")? != APPLICATION_ID {
        return Err(damaged("it is a database, but not a vault's"));
    }
    let found = version(connection)?;
    let known = u32::try_from(migrations.len()).expect("there are few migrations");
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    for (version, step) in (1..).zip(migrations) {
        if version > found {
            take_step(connection, step, version)?;
        }
    }
    Ok(())
}

/// Writes application id and version of one open database into another that is attached.
pub(crate) fn copy_marks(connection: &Connection, attached: &str) -> Result<(), StoreError> {
    set_pragma(connection, &format!("{attached}.application_id"), APPLICATION_ID)?;
    set_pragma(connection, &format!("{attached}.user_version"), version(connection)?)
}

fn version(connection: &Connection) -> Result<u32, StoreError> {
    pragma(connection, "user_version")
}

fn take_step(connection: &Connection, step: &str, version: u32) -> Result<(), StoreError> {
    let taken = connection
        .execute_batch("BEGIN IMMEDIATE")
        .and_then(|()| connection.execute_batch(step))
        .map_err(|error| sqlite_error(&error))
        .and_then(|()| set_pragma(connection, "user_version", version))
        .and_then(|()| connection.execute_batch("COMMIT").map_err(|error| sqlite_error(&error)));
    if taken.is_err() && !connection.is_autocommit() {
        // The caller closes the connection on an error, which rolls back as well.
        let _ = connection.execute_batch("ROLLBACK");
    }
    taken
}

fn pragma(connection: &Connection, name: &str) -> Result<u32, StoreError> {
    connection
        .query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i32>(0))
        // SQLite keeps the header's 32 bits as a signed number.
        .map(i32::cast_unsigned)
        .map_err(|error| sqlite_error(&error))
}

fn set_pragma(connection: &Connection, name: &str, value: u32) -> Result<(), StoreError> {
    connection.execute_batch(&format!("PRAGMA {name} = {}", value.cast_signed())).map_err(|error| sqlite_error(&error))
}

#[cfg(test)]
mod tests {
    use strongroom_core::records::Table;

    use super::*;

    const TEST_MIGRATIONS: &[&str] = &[
        MIGRATIONS[0],
        "CREATE TABLE labels (key BLOB PRIMARY KEY NOT NULL, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
         INSERT INTO labels SELECT key, record FROM items;",
    ];

    #[test]
    fn an_older_database_moves_forward_and_keeps_its_records() {
        let connection = vault_at(MIGRATIONS);
        connection.execute("INSERT INTO items VALUES (x'01', x'02')", []).unwrap();
        migrate(&connection, TEST_MIGRATIONS).unwrap();
        assert_eq!(version(&connection).unwrap(), 2);
        let moved: Vec<u8> = connection.query_row("SELECT record FROM labels", [], |row| row.get(0)).unwrap();
        assert_eq!(moved, [2]);
        migrate(&connection, TEST_MIGRATIONS).unwrap();
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_before_it() {
        let connection = vault_at(MIGRATIONS);
        let broken = [MIGRATIONS[0], "CREATE TABLE labels (key BLOB); INSERT INTO nowhere VALUES (1);"];
        migrate(&connection, &broken).unwrap_err();
        assert!(connection.is_autocommit());
        assert_eq!(version(&connection).unwrap(), 1);
        migrate(&connection, TEST_MIGRATIONS).unwrap();
    }

    #[test]
    fn a_newer_database_is_refused() {
        let connection = vault_at(TEST_MIGRATIONS);
        let refused = migrate(&connection, MIGRATIONS).unwrap_err();
        assert!(matches!(refused, StoreError::TooNew { found: 2, known: 1 }), "{refused}");
    }

    #[test]
    fn another_programs_database_is_refused() {
        let connection = Connection::open_in_memory().unwrap();
        let refused = migrate(&connection, MIGRATIONS).unwrap_err();
        assert!(matches!(refused, StoreError::Damaged(_)), "{refused}");
    }

    #[test]
    fn the_newest_schema_has_each_table() {
        let connection = vault_at(MIGRATIONS);
        for table in Table::ALL {
            let sql = format!("SELECT key, record FROM {} ORDER BY key", table.as_str());
            connection.prepare(&sql).unwrap();
        }
    }

    fn vault_at(migrations: &[&str]) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        claim(&connection).unwrap();
        migrate(&connection, migrations).unwrap();
        connection
    }
}

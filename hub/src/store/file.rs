//! A database file as a whole: copied while a hub writes to it, and looked over.

use std::path::Path;

use rusqlite::Connection;

use super::{StoreError, schema};

/// Writes a copy of the database `from` as it is at one moment into `to`, an empty file; a hub may be writing to it meanwhile.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    let to = to.to_string_lossy();
    let connection = schema::open_reader(from)?;
    connection.execute("VACUUM INTO ?1", [to])?;
    Ok(())
}

/// What is wrong with the database; nothing when it is whole and a hub of this version can start on it.
pub(crate) fn faults(path: &Path) -> Result<Vec<String>, StoreError> {
    let connection = schema::open_reader(path)?;
    match schema::check_version(&connection) {
        // The next start brings it up to date.
        Ok(()) | Err(StoreError::OlderSchema { .. }) => {}
        Err(error) => return Err(error),
    }
    let mut faults = lines(&connection, "PRAGMA integrity_check")?;
    faults.retain(|line| line != "ok");
    let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let table: String = row.get(0)?;
        faults.push(format!("a row of `{table}` refers to one that is missing"));
    }
    Ok(faults)
}

fn lines(connection: &Connection, sql: &str) -> Result<Vec<String>, StoreError> {
    let mut statement = connection.prepare(sql)?;
    let lines = statement.query_map([], |row| row.get(0))?;
    Ok(lines.collect::<Result<_, _>>()?)
}

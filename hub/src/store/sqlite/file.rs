//! Operations on the whole database file: copy it while a hub writes to it, check it.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::damage::{self, RowRead, read_one};
use super::{RowPosition, StoreError, device, group, policy, schema, twin};

/// Maximum number of faults in a report.
const FAULTS: usize = 100;

/// SQLite virtual machine steps between two pauses: a few milliseconds of work.
const STEPS_BETWEEN_PAUSES: i32 = 20_000;

/// Maximum length of a pause: time during which the disk hung does not count as work.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Writes a consistent copy of the database `from` to `to`, an empty file. A hub may be writing to
/// `from`.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    let to = to.to_string_lossy();
    let connection = schema::open_reader(from)?;
    connection.execute("VACUUM INTO ?1", [to])?;
    Ok(())
}

/// The faults of the database; empty if it is intact and a hub of this version can start on it.
pub(crate) fn faults(path: &Path) -> Result<Vec<String>, StoreError> {
    let connection = schema::open_reader(path)?;
    match schema::check_version(&connection) {
        // The next start migrates it.
        Ok(()) | Err(StoreError::OlderSchema { .. }) => {}
        Err(error) => return Err(error),
    }
    if let Err(error @ StoreError::OtherSchema { .. }) = schema::check_tables(&connection) {
        return Ok(vec![error.to_string()]);
    }
    let mut faults = lines(&connection, "PRAGMA integrity_check")?;
    faults.retain(|line| line != "ok");
    match references(&connection) {
        Ok(found) => faults.extend(found),
        Err(error) if error.is_row_error() => faults.push(chain(&error)),
        Err(error) => return Err(error),
    }
    Ok(faults)
}

/// Like [`faults`], but throttled for a running hub: each table is read in a transaction of its
/// own, and half of the time is spent in pauses. `None` if `is_stopped` returned true.
pub(crate) fn inspect(
    path: &Path,
    is_stopped: impl Fn() -> bool + Send + 'static,
) -> Result<Option<Vec<String>>, StoreError> {
    let connection = schema::open_reader(path)?;
    let mut worked = Instant::now();
    let pace = move || {
        std::thread::sleep(worked.elapsed().min(LONGEST_PAUSE));
        worked = Instant::now();
        is_stopped()
    };
    connection.progress_handler(STEPS_BETWEEN_PAUSES, Some(pace))?;
    let mut faults = Vec::new();
    let tables = lines(
        &connection,
        "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name",
    )?;
    let checks = tables.iter().map(|table| {
        let sql = format!("PRAGMA integrity_check(\"{table}\")");
        lines(&connection, &sql)
    });
    let checks = checks
        .chain(std::iter::once_with(|| references(&connection)))
        .chain(std::iter::once_with(|| rows(&connection)));
    for check in checks {
        match check {
            Ok(found) => faults.extend(found.into_iter().filter(|line| line != "ok")),
            Err(StoreError::Deadline) => return Ok(None),
            Err(error) if error.is_row_error() => faults.push(chain(&error)),
            Err(error) => return Err(error),
        }
        faults.truncate(FAULTS);
    }
    Ok(Some(faults))
}

/// Rows with broken foreign keys, which `integrity_check` does not cover.
fn references(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let mut faults = Vec::new();
    let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let table: String = row.get(0)?;
        faults.push(format!("a row of `{table}` refers to a missing row"));
    }
    Ok(faults)
}

/// The damaged devices and policies, which a hub skips while it serves the others.
pub(crate) fn damaged(path: &Path) -> Result<Vec<String>, StoreError> {
    let connection = schema::open_reader(path)?;
    // An interrupted first start leaves a database without tables.
    if !group::has_table(&connection, "device")? {
        return Ok(Vec::new());
    }
    rows(&connection)
}

fn rows(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let mut damaged = Vec::new();
    let sql = format!(
        "SELECT {}, {} FROM device LEFT JOIN twin ON twin.id = device.id WHERE device.id = ?1 AND \
         ?2 = 0",
        device::COLUMNS,
        twin::COLUMNS,
    );
    let mut statement = connection.prepare(&sql)?;
    for id in 1..=damage::last_id(connection, "device")? {
        let found = read_one(&mut statement, &[], RowPosition(id, 0), twin::record)?;
        if matches!(found, RowRead::Damaged(_)) && damaged.len() < FAULTS {
            let name = damage::device_name(connection, id);
            damaged.push(format!(
                "the device `{name}` is damaged and skipped; remove it and create it again, or \
                 restore a backup"
            ));
        }
    }
    for name in policy::damaged(connection)? {
        damaged.push(format!(
            "the policy `{name}` is damaged and grants no access; remove it and add it again"
        ));
    }
    Ok(damaged)
}

/// The text of an error and its sources.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

fn lines(connection: &Connection, sql: &str) -> Result<Vec<String>, StoreError> {
    let mut statement = connection.prepare(sql)?;
    let lines = statement.query_map([], |row| row.get(0))?;
    Ok(lines.collect::<Result<_, _>>()?)
}

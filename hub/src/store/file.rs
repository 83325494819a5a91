//! A database file as a whole: copied while a hub writes to it, and looked over.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::damage::{self, Found, read_one};
use super::{Place, StoreError, device, group, policy, schema, twin};

/// Faults that are reported at most.
const FAULTS: usize = 100;

/// Steps of SQLite's machine between two pauses: a few milliseconds of work.
const STEPS_BETWEEN_PAUSES: i32 = 20_000;

/// A disk that hung is not made up for.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Writes a copy of the database `from` as it is at one moment into `to`, an empty file; a hub may
/// be writing to it meanwhile.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    let to = to.to_string_lossy();
    let connection = schema::open_reader(from)?;
    connection.execute("VACUUM INTO ?1", [to])?;
    Ok(())
}

/// What is wrong with the database; nothing when it is whole and a hub of this version can start on
/// it.
pub(crate) fn faults(path: &Path) -> Result<Vec<String>, StoreError> {
    let connection = schema::open_reader(path)?;
    match schema::check_version(&connection) {
        // The next start brings it up to date.
        Ok(()) | Err(StoreError::OlderSchema { .. }) => {}
        Err(error) => return Err(error),
    }
    let mut faults = lines(&connection, "PRAGMA integrity_check")?;
    faults.retain(|line| line != "ok");
    match references(&connection) {
        Ok(found) => faults.extend(found),
        Err(error) if error.is_of_row() => faults.push(chain(&error)),
        Err(error) => return Err(error),
    }
    Ok(faults)
}

/// The same, table by table and slowly, for a hub that serves meanwhile: each table is read in a
/// transaction of its own, and half of the time nothing is read. `None` when `is_stopped` said so.
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
            Err(error) if error.is_of_row() => faults.push(chain(&error)),
            Err(error) => return Err(error),
        }
        faults.truncate(FAULTS);
    }
    Ok(Some(faults))
}

/// Rows that refer to what is missing: `integrity_check` does not look at that.
fn references(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let mut faults = Vec::new();
    let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let table: String = row.get(0)?;
        faults.push(format!("a row of `{table}` refers to one that is missing"));
    }
    Ok(faults)
}

/// The devices and policies that a hub leaves out because they are damaged; it serves the others.
pub(crate) fn damaged(path: &Path) -> Result<Vec<String>, StoreError> {
    let connection = schema::open_reader(path)?;
    // A first start that was interrupted has left a database without tables.
    if !group::has_table(&connection, "device")? {
        return Ok(Vec::new());
    }
    rows(&connection)
}

fn rows(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let mut damaged = Vec::new();
    let sql = format!(
        "SELECT {}, {} FROM device LEFT JOIN twin ON twin.id = device.id WHERE device.id = ?1 AND ?2 = 0",
        device::COLUMNS,
        twin::COLUMNS,
    );
    let mut statement = connection.prepare(&sql)?;
    for id in 1..=damage::last_id(connection, "device")? {
        let found = read_one(&mut statement, &[], Place(id, 0), twin::record)?;
        if matches!(found, Found::Damaged(_)) && damaged.len() < FAULTS {
            let name = damage::device_name(connection, id);
            damaged.push(format!(
                "the device `{name}` is damaged and left out; remove it and make it again, or restore a backup"
            ));
        }
    }
    for name in policy::damaged(connection)? {
        damaged.push(format!(
            "the policy `{name}` is damaged and opens nothing; remove it and add it again"
        ));
    }
    Ok(damaged)
}

/// What an error says, with what is behind it.
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

//! A database file as a whole: copied while a hub writes to it, and looked over.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::{StoreError, damage, schema, signed};

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
    match of_rows(&connection) {
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
    for check in checks.chain(std::iter::once_with(|| of_rows(&connection))) {
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

/// What `integrity_check` does not look at.
fn of_rows(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let mut faults = Vec::new();
    let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let table: String = row.get(0)?;
        faults.push(format!("a row of `{table}` refers to one that is missing"));
    }
    let mut statement = connection.prepare(
        "SELECT device.id, device.device_id FROM device LEFT JOIN twin ON twin.id = device.id \
         WHERE NOT coalesce(json_valid(twin.tags, 8) AND json_valid(twin.desired, 8) AND json_valid(twin.desired_metadata, 8) \
         AND json_valid(twin.reported, 8) AND json_valid(twin.reported_metadata, 8), 0) LIMIT ?1",
    )?;
    let mut rows = statement.query([signed(FAULTS as u64)])?;
    while let Some(row) = rows.next()? {
        let name = damage::text(row, "device_id");
        faults.push(format!(
            "the twin of the device `{name}` is damaged or missing; remove the device and make it again, or restore a backup"
        ));
    }
    Ok(faults)
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

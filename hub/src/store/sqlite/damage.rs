//! Damaged rows. A statement over many rows skips a row that cannot be read and logs it, so that
//! the others are served. If the statement itself fails, its rows are read one by one.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, Row, params_from_iter};

use super::{RowPosition, StoreError};

/// Maximum number of damaged rows in the log; each is logged once.
const NAMED: usize = 10_000;

/// The outcome of a job for a device whose stored state cannot be read.
pub(super) const DAMAGED: (&str, &str) = (
    "DeviceDamaged",
    "What the hub has stored of this device is damaged; nothing was sent. `door-hub check` names \
     it; remove it and make it again.",
);

impl StoreError {
    /// Whether the cause may be one row, so that other rows may be readable.
    pub(super) fn is_row_error(&self) -> bool {
        matches!(self, Self::Sql { .. } | Self::Corrupt { .. }) && self.is_permanent()
    }
}

/// Logs a row that is skipped, once.
pub(crate) fn log_skipped(what: &str, name: &str, error: &(dyn std::error::Error + 'static)) {
    static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    if seen.len() < NAMED && seen.insert(format!("{what} {name}")) {
        tracing::error!(
            name,
            error,
            "skipped a damaged row: {what}; `door-hub check` lists all damaged rows"
        );
    }
}

/// The row if it can be read; otherwise it is logged and skipped.
pub(super) fn skip_damaged<T>(
    what: &str,
    name: impl FnOnce() -> String,
    read: Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    match read {
        Ok(row) => Ok(Some(row)),
        Err(error) if error.is_row_error() => {
            log_skipped(what, &name(), &error);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The text of a column, as far as it can be read.
pub(super) fn text(row: &Row<'_>, column: &str) -> String {
    match row.get_ref(column) {
        Ok(ValueRef::Text(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Ok(ValueRef::Integer(number)) => number.to_string(),
        _ => "?".to_owned(),
    }
}

/// The highest id that a table with ids has assigned.
pub(super) fn last_id(connection: &Connection, table: &str) -> Result<i64, StoreError> {
    let id = connection
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = ?1")?
        .query_row([table], |row| row.get(0))
        .optional()?;
    Ok(id.unwrap_or(0))
}

/// The name of the device in row `id`, from the table or an index that still has it.
pub(super) fn device_name(connection: &Connection, id: i64) -> String {
    let read = |sql: &str| -> rusqlite::Result<String> {
        connection.query_row(sql, [id], |row| Ok(text(row, "device_id")))
    };
    read("SELECT device_id FROM device WHERE id = ?1")
        .or_else(|_| {
            read("SELECT device_id FROM device INDEXED BY sqlite_autoindex_device_1 WHERE +id = ?1")
        })
        .unwrap_or_else(|_| format!("in row {id}"))
}

/// The result of reading one row.
pub(super) enum RowRead<T> {
    /// No matching row.
    NoMatch,
    Row(T),
    /// The row cannot be read, so it is unknown whether it matches.
    Damaged(StoreError),
}

/// Runs a statement for one row; the position is its last two parameters.
pub(super) fn read_one<T>(
    statement: &mut rusqlite::Statement<'_>,
    parameters: &[Value],
    position: RowPosition,
    read: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
) -> Result<RowRead<T>, StoreError> {
    let parameters = parameters
        .iter()
        .cloned()
        .chain([position.0.into(), position.1.into()]);
    let one = || {
        let mut rows = statement.query(params_from_iter(parameters))?;
        rows.next()?.map(read).transpose()
    };
    match one() {
        Ok(None) => Ok(RowRead::NoMatch),
        Ok(Some(row)) => Ok(RowRead::Row(row)),
        Err(error) if error.is_row_error() => Ok(RowRead::Damaged(error)),
        Err(error) => Err(error),
    }
}

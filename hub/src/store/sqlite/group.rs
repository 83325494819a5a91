//! Detection of lost data: a database with a damaged log, an older copy and a deleted file all read
//! without errors, so SQLite alone cannot tell that newer transactions existed.
//!
//! Each transaction increments a number in the database. After the commit the number is written to
//! the file `hub.group` next to it, without an fsync of its own, so the file is never ahead of a
//! healthy database: a power failure or a kill leaves it behind. A database is rejected if its
//! number is lower than the file's, or if it is missing and the file exists.
//!
//! The file has two slots, written alternately, each with a digest; a torn or damaged slot counts
//! as not written. A missing file, or one without a valid slot, is accepted: version 0.1 had none,
//! and a backup that was unpacked by hand has none.
//!
//! Why: docs/decisions/0012-a-database-is-not-older-than-known.md.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use rusqlite::{Connection, OptionalExtension as _};

use super::{StoreError, schema};

/// The name of the file.
pub(crate) const FILE: &str = "hub.group";

/// Size of a slot in bytes: `group`, 20 digits, 32 hexadecimal digits of a digest, a line feed.
const SLOT: usize = 60;

/// The content of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordedNumber {
    Absent,
    /// It cannot be read, or has no valid slot.
    Damaged,
    /// The number of a committed transaction.
    Number(i64),
}

fn path_of(database: &Path) -> PathBuf {
    database.with_file_name(FILE)
}

fn slot(number: i64) -> String {
    let text = format!("group {number:020}");
    let digest = digest(&SHA256, text.as_bytes());
    let hex = digest.as_ref()[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"));
    format!("{text} {}\n", hex.collect::<String>())
}

/// Reads the file next to `database`.
pub(crate) fn recorded_number(database: &Path) -> RecordedNumber {
    let mut bytes = Vec::new();
    let read = File::open(path_of(database))
        .and_then(|file| file.take(2 * SLOT as u64).read_to_end(&mut bytes));
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return RecordedNumber::Absent,
        Err(_) => return RecordedNumber::Damaged,
    }
    let number = |bytes: &[u8]| {
        let number: i64 = std::str::from_utf8(bytes.get(6..26)?).ok()?.parse().ok()?;
        (slot(number).as_bytes() == bytes).then_some(number)
    };
    let numbers = bytes.chunks(SLOT).take(2).filter_map(number);
    numbers
        .max()
        .map_or(RecordedNumber::Damaged, RecordedNumber::Number)
}

/// The number in the database; 0 in a database of version 0.1.
pub(super) fn number(connection: &Connection) -> Result<i64, StoreError> {
    if !has_table(connection, "last_group")? {
        return Ok(0);
    }
    let number = connection
        .query_row("SELECT number FROM last_group", [], |row| row.get(0))
        .optional()?;
    Ok(number.unwrap_or(0))
}

pub(super) fn has_table(connection: &Connection, name: &str) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1";
    Ok(connection.prepare(sql)?.exists([name])?)
}

/// Increments the number within a transaction, and returns it.
pub(super) fn increment_number(connection: &Connection) -> Result<i64, StoreError> {
    let sql = "UPDATE last_group SET number = number + 1 RETURNING number";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// Rejects a database that has lost data: its number is lower than the file's; or it is missing or
/// empty although the file or one of `keys` exists, which are written after the first transaction.
/// Changes nothing.
pub(crate) fn check_for_loss(database: &Path, keys: &[&'static str]) -> Result<(), StoreError> {
    // Read the file first: a hub may be writing.
    let recorded_number = recorded_number(database);
    let path = database.to_owned();
    let key = keys
        .iter()
        .find(|name| database.with_file_name(name).exists());
    let is_there = match fs::metadata(database) {
        Ok(metadata) => metadata.len() > 0,
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    };
    if !is_there {
        let related_file = match recorded_number {
            RecordedNumber::Absent => key.copied(),
            _ => Some(FILE),
        };
        return related_file.map_or(Ok(()), |related_file| {
            Err(StoreError::Gone { path, related_file })
        });
    }
    // A reader does not modify the log, even as the last one to close the database.
    let connection = schema::open_reader(database)?;
    let found = match number(&connection) {
        // A first start was interrupted before the database had a write-ahead log.
        Err(error) if schema::is_unfinished(&error) => {
            schema::roll_back(database)?;
            number(&connection)
        }
        found => found,
    };
    let found = found.map_err(|error| match error {
        StoreError::Sql { source, .. } => StoreError::Open {
            path: path.clone(),
            source,
        },
        other => other,
    })?;
    if let RecordedNumber::Number(recorded_number) = recorded_number {
        if found < recorded_number {
            return Err(StoreError::Older {
                path,
                found,
                recorded_number,
            });
        }
    }
    if let Some(related_file) = key {
        let has_policies = has_table(&connection, "policy")?
            && connection.prepare("SELECT 1 FROM policy")?.exists([])?;
        if !has_policies {
            return Err(StoreError::Emptied { path, related_file });
        }
    }
    Ok(())
}

/// The file, open as long as its database.
#[derive(Debug)]
pub(super) struct GroupFile {
    file: Option<File>,
    path: PathBuf,
    is_failing: bool,
}

impl GroupFile {
    /// Sets the number higher than those of the database and the file, writes it to both, and keeps
    /// the file open. If the file cannot be written it stays behind, which is harmless.
    pub(super) fn begin(database: &Path, connection: &Connection) -> Result<Self, StoreError> {
        let path = path_of(database);
        let found = number(connection)?;
        let last = match recorded_number(database) {
            RecordedNumber::Number(recorded_number) => found.max(recorded_number),
            RecordedNumber::Absent => found,
            RecordedNumber::Damaged => {
                tracing::warn!(path = %path.display(), "the file is damaged; writing it again");
                found
            }
        };
        let number = last.saturating_add(1);
        if connection.execute("UPDATE last_group SET number = ?1", [number])? == 0 {
            connection.execute("INSERT INTO last_group VALUES (?1)", [number])?;
        }
        let write = || {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(&path)?;
            let slots = [number - number % 2, number - 1 + number % 2]
                .map(slot)
                .concat();
            file.write_all_at(slots.as_bytes(), 0)?;
            file.set_len(slots.len() as u64)?;
            file.sync_all()?;
            Ok(file)
        };
        let written: io::Result<File> = write();
        let mut group = Self {
            file: None,
            path: path.clone(),
            is_failing: false,
        };
        match written {
            Ok(file) => group.file = Some(file),
            Err(error) => group.failed(&error),
        }
        Ok(group)
    }

    /// Opens the file of an existing database; does not create it.
    pub(super) fn open_existing(database: &Path) -> Self {
        let path = path_of(database);
        Self {
            file: OpenOptions::new().write(true).open(&path).ok(),
            path,
            is_failing: false,
        }
    }

    /// Writes the number of a committed transaction. A failure is logged only: the file stays
    /// behind.
    pub(super) fn record(&mut self, number: i64) {
        let Some(file) = &self.file else { return };
        let place = if number % 2 == 0 { 0 } else { SLOT as u64 };
        match file.write_all_at(slot(number).as_bytes(), place) {
            Ok(()) => self.is_failing = false,
            Err(error) => self.failed(&error),
        }
    }

    /// Syncs the file to disk.
    pub(super) fn sync(&mut self) {
        if let Some(Err(error)) = self.file.as_ref().map(File::sync_all) {
            self.failed(&error);
        }
    }

    fn failed(&mut self, error: &io::Error) {
        if !self.is_failing {
            let path = self.path.display();
            tracing::warn!(
                %path,
                %error,
                "cannot write the file; an older copy of the database would not be detected"
            );
        }
        self.is_failing = true;
    }
}

/// Writes the file for a restored database.
pub(crate) fn record_restored(database: &Path) -> Result<(), StoreError> {
    let connection = schema::open_reader(database)?;
    let number = number(&connection)?;
    let path = path_of(database);
    let text = [number - number % 2, number - 1 + number % 2]
        .map(slot)
        .concat();
    let written = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| {
            io::Write::write_all(&mut file, text.as_bytes())?;
            file.sync_all()
        });
    written.map_err(|source| StoreError::Create { path, source })
}

#[cfg(test)]
mod tests;

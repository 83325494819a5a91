//! Whether there was something newer than what the database holds: a damaged log, an older copy and
//! a deleted file all read back whole.
//!
//! Each transaction raises a number in the database. After the commit the number goes into the file
//! `hub.group` beside it, without an fsync of its own, so the file is never ahead of a healthy
//! database: power cuts and kills leave it behind. A database that is lower than its file, or
//! missing beside one, is refused.
//!
//! The file has two slots, written in turn, each with a digest; a torn or damaged slot counts as
//! not written. A file without a good slot, or none at all, is no doubt by itself: a hub of version
//! 0.1 had none, and a backup that was unpacked by hand has none.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use rusqlite::{Connection, OptionalExtension as _};

use super::{StoreError, schema};

/// The file's name.
pub(crate) const FILE: &str = "hub.group";

/// Bytes of a slot: `group`, 20 digits, 32 hexadecimal digits of a digest, a line feed.
const SLOT: usize = 60;

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noted {
    /// There is no file.
    Absent,
    /// It cannot be read, or has no good slot.
    Damaged,
    /// The number of a transaction that was committed.
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

/// Reads the file beside `database`.
pub(crate) fn noted(database: &Path) -> Noted {
    let mut bytes = Vec::new();
    let read = File::open(path_of(database))
        .and_then(|file| file.take(2 * SLOT as u64).read_to_end(&mut bytes));
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Noted::Absent,
        Err(_) => return Noted::Damaged,
    }
    let number = |bytes: &[u8]| {
        let number: i64 = std::str::from_utf8(bytes.get(6..26)?).ok()?.parse().ok()?;
        (slot(number).as_bytes() == bytes).then_some(number)
    };
    let numbers = bytes.chunks(SLOT).take(2).filter_map(number);
    numbers.max().map_or(Noted::Damaged, Noted::Number)
}

/// The number in the database; 0 in one of version 0.1.
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

/// Raises the number within a transaction, and returns it.
pub(super) fn raise(connection: &Connection) -> Result<i64, StoreError> {
    let sql = "UPDATE last_group SET number = number + 1 RETURNING number";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// Refuses a database that has lost something: one that is lower than its file; one that is
/// missing, or empty, beside a file, or beside one of `keys`, which are written after the first
/// transaction. Nothing is changed.
pub(crate) fn refuse_older(database: &Path, keys: &[&'static str]) -> Result<(), StoreError> {
    // The file first: a hub may be writing.
    let noted = noted(database);
    let path = database.to_owned();
    let key = keys
        .iter()
        .find(|name| database.with_file_name(name).exists());
    let is_there = match fs::metadata(database) {
        Ok(metadata) => metadata.len() > 0,
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    };
    if !is_there {
        let beside = match noted {
            Noted::Absent => key.copied(),
            _ => Some(FILE),
        };
        return beside.map_or(Ok(()), |beside| Err(StoreError::Gone { path, beside }));
    }
    // A reader leaves the log as it is, also when it is the last to close the file.
    let connection = schema::open_reader(database)?;
    let found = match number(&connection) {
        // A first start was interrupted before the database had its log.
        Err(StoreError::Sql(error)) if schema::is_unfinished(&error) => {
            schema::take_back(database)?;
            number(&connection)
        }
        found => found,
    };
    let found = found.map_err(|error| match error {
        StoreError::Sql(source) => StoreError::Open {
            path: path.clone(),
            source,
        },
        other => other,
    })?;
    if let Noted::Number(noted) = noted {
        if found < noted {
            return Err(StoreError::Older { path, found, noted });
        }
    }
    if let Some(beside) = key {
        let has_policies = has_table(&connection, "policy")?
            && connection.prepare("SELECT 1 FROM policy")?.exists([])?;
        if !has_policies {
            return Err(StoreError::Emptied { path, beside });
        }
    }
    Ok(())
}

/// The file, open for as long as its database is.
#[derive(Debug)]
pub(super) struct GroupFile {
    file: Option<File>,
    path: PathBuf,
    is_failing: bool,
}

impl GroupFile {
    /// Raises the number above that of the database and of the file, writes it into both, and keeps
    /// the file open. When the file cannot be written, it stays behind, which is no harm.
    pub(super) fn begin(database: &Path, connection: &Connection) -> Result<Self, StoreError> {
        let path = path_of(database);
        let found = number(connection)?;
        let last = match noted(database) {
            Noted::Number(noted) => found.max(noted),
            Noted::Absent => found,
            Noted::Damaged => {
                tracing::warn!(path = %path.display(), "damaged; it is written again");
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

    /// Opens the file of a database that a hub has made; it is not made here.
    pub(super) fn beside(database: &Path) -> Self {
        let path = path_of(database);
        Self {
            file: OpenOptions::new().write(true).open(&path).ok(),
            path,
            is_failing: false,
        }
    }

    /// Writes the number of a transaction that is committed. A failure stops nothing: the file
    /// stays behind.
    pub(super) fn note(&mut self, number: i64) {
        let Some(file) = &self.file else { return };
        let place = if number % 2 == 0 { 0 } else { SLOT as u64 };
        match file.write_all_at(slot(number).as_bytes(), place) {
            Ok(()) => self.is_failing = false,
            Err(error) => self.failed(&error),
        }
    }

    /// Brings what was noted to the disk.
    pub(super) fn sync(&mut self) {
        if let Some(Err(error)) = self.file.as_ref().map(File::sync_all) {
            self.failed(&error);
        }
    }

    fn failed(&mut self, error: &io::Error) {
        if !self.is_failing {
            let path = self.path.display();
            tracing::warn!(%path, %error, "cannot be written; an older database would not be noticed");
        }
        self.is_failing = true;
    }
}

/// Writes the file for a database that has just been put into place.
pub(crate) fn note_restored(database: &Path) -> Result<(), StoreError> {
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

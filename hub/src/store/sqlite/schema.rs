//! The database file: opening and migrations.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::StoreError;

/// One script per schema version, in order. A released script is never edited; a change is a new
/// script.
const MIGRATIONS: [&str; 14] = [
    include_str!("schema/0001.sql"),
    include_str!("schema/0002.sql"),
    include_str!("schema/0003.sql"),
    include_str!("schema/0004.sql"),
    include_str!("schema/0005.sql"),
    include_str!("schema/0006.sql"),
    include_str!("schema/0007.sql"),
    include_str!("schema/0008.sql"),
    include_str!("schema/0009.sql"),
    include_str!("schema/0010.sql"),
    include_str!("schema/0011.sql"),
    include_str!("schema/0012.sql"),
    include_str!("schema/0013.sql"),
    include_str!("schema/0014.sql"),
];

/// Number of distinct statements of the hub; all of them stay prepared.
const STATEMENTS: usize = 128;

/// How long a statement waits for another process that has locked the file (a backup, an
/// operator's sqlite3 shell).
const BUSY: Duration = Duration::from_secs(5);

/// Opens the writer's connection and migrates the database.
pub(super) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    // 0600: the file holds keys. SQLite gives its other files the same mode.
    let create = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path);
    create.map_err(|source| StoreError::Create {
        path: path.to_owned(),
        source,
    })?;
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open(path)?;
        prepare(&connection)?;
        // FULL: what the hub has acknowledged survives a power failure. Group commit makes it
        // cheap.
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
             PRAGMA journal_size_limit = 67108864;",
        )?;
        Ok(connection)
    };
    let mut connection = open().map_err(|source| StoreError::Open {
        path: path.to_owned(),
        source: source.into(),
    })?;
    migrate(&mut connection)?;
    // The journals of savepoints are small; the rows of a job over 10,000 devices fit in 16 MiB.
    let in_memory = "PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384;";
    connection
        .execute_batch(in_memory)
        .map_err(|source| StoreError::Open {
            path: path.to_owned(),
            source: source.into(),
        })?;
    Ok(connection)
}

/// Moves the content of the write-ahead log to the database and truncates the log. Does not wait
/// for long readers: what they need stays in the log.
pub(super) fn checkpoint(connection: &Connection) -> Result<(), StoreError> {
    connection.busy_timeout(Duration::ZERO)?;
    let done = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    connection.busy_timeout(BUSY)?;
    Ok(done?)
}

/// Opens a read-only connection.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        prepare(&connection)?;
        Ok(connection)
    };
    open().map_err(|source| StoreError::Open {
        path: path.to_owned(),
        source: source.into(),
    })
}

/// Whether a reader found an unfinished transaction that only a writer can roll back. This cannot
/// happen in a database that has its write-ahead log.
pub(super) fn is_unfinished(error: &StoreError) -> bool {
    let StoreError::Sql { source, .. } = error else {
        return false;
    };
    let error = source.downcast_ref::<rusqlite::Error>();
    let error = error.and_then(rusqlite::Error::sqlite_error);
    error.is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_READONLY_ROLLBACK)
}

/// Rolls back the transaction of a killed writer: SQLite does so at the first read of a writable
/// connection.
pub(super) fn roll_back(path: &Path) -> Result<(), StoreError> {
    let read = || -> rusqlite::Result<()> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        prepare(&connection)?;
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
    };
    read().map_err(|source| StoreError::Open {
        path: path.to_owned(),
        source: source.into(),
    })
}

/// Opens an existing database that a hub may be using. Neither creates nor migrates it.
pub(super) fn open_existing(path: &Path) -> Result<Connection, StoreError> {
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        prepare(&connection)?;
        connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")?;
        Ok(connection)
    };
    let connection = open().map_err(|source| StoreError::Open {
        path: path.to_owned(),
        source: source.into(),
    })?;
    check_version(&connection)?;
    Ok(connection)
}

/// Rejects a database of another schema version.
pub(super) fn check_version(connection: &Connection) -> Result<(), StoreError> {
    let (found, known) = (version(connection)?, MIGRATIONS.len());
    match found.cmp(&known) {
        Ordering::Less => Err(StoreError::OlderSchema { found, known }),
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(StoreError::NewerSchema { found, known }),
    }
}

/// Rejects a database whose tables are not those of the version that it is marked with.
pub(super) fn check_tables(connection: &Connection) -> Result<(), StoreError> {
    let found = version(connection)?;
    let Some(scripts) = MIGRATIONS.get(..found).filter(|_| found > 0) else {
        return Ok(());
    };
    let reference = Connection::open_in_memory()?;
    super::query::register(&reference)?;
    for script in scripts {
        reference.execute_batch(script)?;
    }
    let expected = objects(&reference)?;
    for script in &MIGRATIONS[found..] {
        reference.execute_batch(script)?;
    }
    let later = objects(&reference)?;
    let present = objects(connection)?;
    let missing = expected.difference(&present);
    // An operator may add tables; only what a later version adds is a contradiction.
    let early = present
        .difference(&expected)
        .filter(|name| later.contains(*name));
    match missing.chain(early).next() {
        Some(object) => Err(StoreError::OtherSchema {
            found,
            object: object.clone(),
        }),
        None => Ok(()),
    }
}

/// The names of tables and columns.
fn objects(connection: &Connection) -> Result<BTreeSet<String>, StoreError> {
    let mut statement = connection.prepare(
        "SELECT 'table ' || name FROM sqlite_schema \
         WHERE type = 'table' AND name NOT LIKE 'sqlite%' \
         UNION ALL SELECT 'column ' || tables.name || '.' || columns.name \
         FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns \
         WHERE tables.type = 'table' AND tables.name NOT LIKE 'sqlite%'",
    )?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?;
    Ok(names.collect::<Result<BTreeSet<_>, _>>()?)
}

fn version(connection: &Connection) -> Result<usize, StoreError> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    Ok(version.try_into().unwrap_or(usize::MAX))
}

/// Settings of every connection.
fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    super::query::register(connection)
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let known = MIGRATIONS.len();
    let found = version(connection)?;
    if found > known {
        return Err(StoreError::NewerSchema { found, known });
    }
    check_tables(connection)?;
    for (script, version) in MIGRATIONS.iter().zip(1..).skip(found) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(script)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_database_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.db");
        drop(open_writer(&path).unwrap());
        let again = open_writer(&path).unwrap();
        let mode: String = again
            .query_row("PRAGMA journal_mode", [], |row| row.get(0))
            .unwrap();
        assert_eq!(mode, "wal");
        let full: i64 = again
            .query_row("PRAGMA synchronous", [], |row| row.get(0))
            .unwrap();
        assert_eq!(full, 2);
    }

    #[test]
    fn a_migration_keeps_stored_messages() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.db");
        let old = Connection::open(&path).unwrap();
        for script in &MIGRATIONS[..3] {
            old.execute_batch(script).unwrap();
        }
        old.pragma_update(None, "user_version", 3).unwrap();
        let message = "INSERT INTO telemetry (device_id, enqueued, properties, body, bytes) \
            VALUES ('door', '2026-11-23T10:00:00.1234567Z', 'a=b', x'01', 4)";
        old.execute_batch(message).unwrap();
        drop(old);
        let new = open_writer(&path).unwrap();
        let event: (i64, String, String) = new
            .query_row("SELECT at, subject, properties FROM event", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .unwrap();
        let at = 1_795_428_000_123 * 10_000;
        assert_eq!(event, (at, "door".into(), "a=b".into()));
        let total: (i64, i64) = new
            .query_row("SELECT rows, bytes FROM event_total", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .unwrap();
        assert_eq!(total, (1, 4));
    }

    #[test]
    fn policies_and_jobs_from_before_bounds_have_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.db");
        let old = Connection::open(&path).unwrap();
        prepare(&old).unwrap();
        for script in &MIGRATIONS[..12] {
            old.execute_batch(script).unwrap();
        }
        old.pragma_update(None, "user_version", 12).unwrap();
        let rows = "INSERT INTO policy VALUES ('alice', 4, x'01', x'02'); \
            INSERT INTO job (job_id, type, status, action, query_condition, created, start, \
            max_execution_s) VALUES ('night', 'scheduleUpdateTwin', 'scheduled', '{}', '*', \
            '2026-11-23T10:00:00Z', '2026-11-23T10:00:00Z', 60)";
        old.execute_batch(rows).unwrap();
        drop(old);
        let new = open_writer(&path).unwrap();
        for (sql, columns) in [
            ("SELECT rights, bounds FROM policy WHERE name = 'alice'", 2),
            (
                "SELECT id, policy, bounds FROM job WHERE job_id = 'night'",
                3,
            ),
        ] {
            let present = new.query_row(sql, [], |row| {
                let is_null = |column| row.get_ref(column).map(|value| value.as_str().is_err());
                assert!(row.get::<_, i64>(0)? > 0);
                (1..columns)
                    .map(is_null)
                    .collect::<rusqlite::Result<Vec<_>>>()
            });
            assert!(present.unwrap().iter().all(|is_null| *is_null), "{sql}");
        }
    }

    #[test]
    fn rejects_a_database_of_a_newer_hub() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.db");
        open_writer(&path)
            .unwrap()
            .pragma_update(None, "user_version", 99)
            .unwrap();
        assert!(matches!(
            open_writer(&path),
            Err(StoreError::NewerSchema { found: 99, .. })
        ));
    }

    /// Each row: the versions of the tables and of the mark, and whether they contradict each
    /// other. A table that an operator has added does not.
    #[test]
    fn rejects_tables_of_another_version_than_the_mark_and_changes_nothing() {
        let newest = MIGRATIONS.len();
        for (tables, mark, contradict) in [
            (newest, newest, false),
            (newest, newest - 1, true),
            (newest, 3, true),
            (4, newest, true),
            (5, 4, true),
            (5, 5, false),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("hub.db");
            let old = Connection::open(&path).unwrap();
            prepare(&old).unwrap();
            for script in &MIGRATIONS[..tables] {
                old.execute_batch(script).unwrap();
            }
            old.execute_batch("CREATE TABLE own (etag TEXT)").unwrap();
            let before = objects(&old).unwrap();
            let number = i64::try_from(mark).unwrap();
            old.pragma_update(None, "user_version", number).unwrap();
            let case = format!("tables {tables}, mark {mark}");
            let opened = open_writer(&path);
            let found = crate::store::faults(&path).unwrap();
            if contradict {
                let error = opened.unwrap_err().to_string();
                assert!(
                    error.contains(&format!("marked as schema {mark}")),
                    "{case}: {error}"
                );
                assert_eq!(objects(&old).unwrap(), before, "{case}");
                assert_eq!(found, [error], "{case}");
            } else {
                opened.unwrap();
                assert_eq!(found, [""; 0], "{case}");
            }
        }
    }

    #[test]
    fn a_reader_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.db");
        let _writer = open_writer(&path).unwrap();
        let reader = open_reader(&path).unwrap();
        assert!(reader.execute("DELETE FROM device", []).is_err());
    }
}

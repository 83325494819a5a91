//! The hub's memory: one SQLite file, and the only SQL in the hub. It knows the protocol's types
//! and nothing of connections or HTTP.
//!
//! One thread writes, in group commits ([`writer`]); a few connections read ([`reader`]). The
//! methods of [`Store`] are in a file per table, the noun first: `device_insert`, `twin_update`.
//! Rules stay with the services: a method that changes a row takes a pure function of it.

mod audit;
mod damage;
mod device;
mod device_bulk;
mod event;
mod file;
mod group;
mod job;
mod job_device;
mod job_end;
mod policy;
mod query;
mod reader;
mod schema;
mod session;
mod twin;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use iothub_protocol::id::DeviceId;
use jiff::Timestamp;
use rusqlite::Connection;
use tokio_util::sync::CancellationToken;

pub(crate) use audit::{AuditAttempt, AuditFilter, AuditRecord, audit_of};
pub(crate) use damage::left_out;
pub(crate) use device::{DeviceRecord, DeviceStatistics, StoredAuthentication};
pub(crate) use device_bulk::DeviceWrite;
pub(crate) use event::{EventFilter, EventKind, EventRecord, TelemetryMessage};
pub(crate) use file::{copy, damaged, faults, inspect};
pub(crate) use group::{Noted, note_restored, noted, refuse_older};
pub(crate) use job::{Cancel, JobCancel, JobCounts, JobFilter, JobInsert, JobRecord, NewJob};
#[cfg(test)]
pub(crate) use job_device::JobTarget;
pub(crate) use job_device::{Claim, Claimed, DeviceJobRecord, DeviceOutcome, DeviceResult};
pub(crate) use policy::PolicyFile;
pub(crate) use query::{Continuation, GroupPlace, Page, Place, Token, scratch};
pub(crate) use session::{ConnectionEpoch, StoredSubscription};
pub(crate) use twin::{TwinChange, TwinEvent, TwinRecord};
pub(crate) use writer::{AfterCommit, Committed};

use event::EventKeeper;
use group::{FILE, GroupFile};
use reader::Readers;
use writer::{Hooks, Write, Writer};

/// How long [`Store::close`] waits for what is queued to reach the disk.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);

/// When something that never happened is said to have happened.
pub(crate) const NEVER: &str = "0001-01-01T00:00:00Z";

/// What to do about a database that has lost something.
const ADVICE: &str = "Copy the folder away as it is; then restore a backup (`door-hub restore FILE --data DIR`), \
    or start once with --accept-older to go on with what is there";

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file cannot be opened.
    #[error("cannot open the database {}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The file cannot be made.
    #[error("cannot make the database {}", .path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is lower than what was committed to it.
    #[error(
        "the database {} has lost something: it ends with transaction {found}, and {FILE} beside it names {noted}; \
         its -wal file is damaged or missing, or it is an older copy. {ADVICE}",
        .path.display()
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// The number of its last transaction.
        found: i64,
        /// The number of a later one.
        noted: i64,
    },
    /// The file is missing, and was there.
    #[error("the database {} is missing or empty, and {beside} is beside it. {ADVICE}", .path.display())]
    Gone {
        /// The file.
        path: PathBuf,
        /// What only a hub with a database has written.
        beside: &'static str,
    },
    /// The file is there, and nothing is in it.
    #[error(
        "the database {} has no policies, and {beside} is beside it: what it held is lost. {ADVICE}",
        .path.display()
    )]
    Emptied {
        /// The file.
        path: PathBuf,
        /// What only a hub with policies has written.
        beside: &'static str,
    },
    /// A newer hub has been here.
    #[error(
        "the database has schema {found}, this door-hub knows up to {known}: start the newer door-hub that wrote it"
    )]
    NewerSchema {
        /// The schema of the file.
        found: usize,
        /// The newest schema this program knows.
        known: usize,
    },
    /// An older hub has written the file, and only a hub brings it up to date.
    #[error(
        "the database has schema {found}, this door-hub has {known}: start the hub of this version on it first"
    )]
    OlderSchema {
        /// The schema of the file.
        found: usize,
        /// The schema of this program.
        known: usize,
    },
    /// A statement failed.
    #[error("a database statement failed")]
    Sql(#[source] rusqlite::Error),
    /// The transaction did not reach the disk; nothing of it happened.
    #[error("the database did not commit")]
    Commit(#[source] Arc<rusqlite::Error>),
    /// A stored document does not read back.
    #[error("the stored {what} cannot be read back")]
    Corrupt {
        /// Which document.
        what: &'static str,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A thread of the store could not be started.
    #[error("cannot start the database's thread")]
    Thread(#[source] std::io::Error),
    /// The read took too long and was stopped.
    #[error("the database read did not end in time and was stopped")]
    Deadline,
    /// Too many reads are before this one.
    #[error("too many reads of the database wait")]
    Busy,
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::OperationInterrupted) => Self::Deadline,
            _ => Self::Sql(error),
        }
    }
}

impl StoreError {
    /// Whether the database has lost something that was committed.
    pub(crate) const fn is_loss(&self) -> bool {
        matches!(
            self,
            Self::Older { .. } | Self::Gone { .. } | Self::Emptied { .. }
        )
    }

    /// Whether the same operation fails again however well the store is: what is at fault is not
    /// the disk, a lock or another operation.
    pub(crate) fn is_lasting(&self) -> bool {
        use rusqlite::ErrorCode::{
            CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, FileLockingProtocolFailed,
            OutOfMemory, PermissionDenied, ReadOnly, SystemIoFailure,
        };
        match self {
            Self::Sql(error) => !matches!(
                error.sqlite_error_code(),
                Some(
                    CannotOpen
                        | DatabaseBusy
                        | DatabaseLocked
                        | DiskFull
                        | FileLockingProtocolFailed
                        | OutOfMemory
                        | PermissionDenied
                        | ReadOnly
                        | SystemIoFailure
                )
            ),
            Self::Commit(_) | Self::Deadline | Self::Busy => false,
            _ => true,
        }
    }

    fn corrupt(what: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Corrupt {
            what,
            source: Box::new(source),
        }
    }
}

/// A committed change of desired properties that the device is to hear of.
#[derive(Debug)]
pub(crate) struct DesiredChange {
    /// The device.
    pub(crate) device: DeviceId,
    /// The new `$version`.
    pub(crate) version: u64,
    /// The notification: the patch and `$version`.
    pub(crate) body: Bytes,
}

/// A handle on the store; clones share it.
#[derive(Clone)]
pub(crate) struct Store {
    writer: Writer,
    readers: Readers,
    events: EventKeeper,
    path: Arc<Path>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Store {
    /// Opens the database in `path`, making or migrating it, and starts the writer. `held` lives as
    /// long as the writer does.
    pub(crate) fn open(
        path: &Path,
        after_commit: AfterCommit,
        held: impl Send + 'static,
    ) -> Result<Self, StoreError> {
        Self::open_with(path, held, |events, group| {
            hooks(events, group, after_commit)
        })
    }

    /// Opens a database whose transactions SQLite takes back, as it does when the disk is full, for
    /// as long as `full` says so.
    #[cfg(test)]
    pub(crate) fn open_full(
        path: &Path,
        is_full: impl Fn(&rusqlite::Connection) -> bool + Send + 'static,
    ) -> Result<Self, StoreError> {
        Self::open_with(path, (), move |events, group| Hooks {
            before_commit: Box::new(move |connection| {
                if is_full(connection) {
                    connection.execute_batch("ROLLBACK")?;
                }
                Ok(())
            }),
            ..hooks(events, group, Box::new(|_| {}))
        })
    }

    fn open_with(
        path: &Path,
        held: impl Send + 'static,
        hooks: impl FnOnce(EventKeeper, Groups) -> Hooks,
    ) -> Result<Self, StoreError> {
        let connection = schema::open_writer(path)?;
        let groups = Groups {
            database: path.to_owned(),
            file: GroupFile::begin(path, &connection)?,
            changes: connection.total_changes(),
        };
        schema::checkpoint(&connection)?;
        let readers = Readers::open(path)?;
        let events = EventKeeper::new(&connection)?;
        let (writer, thread) = Writer::spawn(connection, hooks(events.clone(), groups), held)
            .map_err(StoreError::Thread)?;
        Ok(Self {
            writer,
            readers,
            events,
            path: path.into(),
            thread: Arc::new(Mutex::new(Some(thread))),
        })
    }

    /// Whether the last transaction did not reach the disk.
    pub(crate) fn is_failing(&self) -> bool {
        self.writer.is_failing()
    }

    /// Whether a transaction takes longer than any disk that works.
    pub(crate) fn hangs(&self) -> bool {
        self.writer.hangs()
    }

    /// How long nothing has been written, while nothing is.
    pub(crate) fn idle_for(&self) -> Option<Duration> {
        self.writer.idle_for()
    }

    /// Writes a little, to see whether that works (again).
    pub(crate) async fn probe(&self) -> Result<(), StoreError> {
        self.write(1, |write| {
            write
                .connection
                .execute("UPDATE event_total SET rows = rows", [])?;
            Ok(())
        })
        .await
    }

    /// Empties the write-ahead log if nothing was written for `quiet`.
    pub(crate) async fn rest(&self, quiet: Duration) {
        self.writer.rest(quiet).await;
    }

    /// Looks over the whole database beside everything else, and says what is wrong with it; `None`
    /// when `stop` came first.
    pub(crate) async fn inspect(
        &self,
        stop: CancellationToken,
    ) -> Result<Option<Vec<String>>, StoreError> {
        let path = Arc::clone(&self.path);
        let looked =
            tokio::task::spawn_blocking(move || inspect(&path, move || stop.is_cancelled()));
        looked.await.map_err(|_| StoreError::Closed)?
    }

    /// The bytes of the database's file.
    pub(crate) async fn size(&self) -> Result<u64, StoreError> {
        self.read(|connection| {
            let pages: u64 = connection
                .prepare_cached("SELECT page_count * page_size AS bytes FROM pragma_page_count, pragma_page_size")?
                .query_row([], |row| unsigned(row, "bytes"))?;
            Ok(pages)
        })
        .await
    }

    /// Finishes what is queued and ends the writer.
    pub(crate) async fn close(&self) {
        let closing = async {
            self.writer.stop().await;
            let thread = self
                .thread
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(thread) = thread {
                // A writer that panicked has logged it.
                let _ = tokio::task::spawn_blocking(move || thread.join()).await;
            }
        };
        if tokio::time::timeout(CLOSE_DEADLINE, closing).await.is_err() {
            tracing::error!(
                seconds = CLOSE_DEADLINE.as_secs(),
                "the database did not finish writing in time"
            );
        }
    }

    /// A read of a few rows, found by index.
    async fn read<T, E>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.readers.lookups.read(read).await
    }

    /// A read that may look at any number of rows. It never stands before those that look at a few.
    async fn scan<T, E>(
        &self,
        scan: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.readers.scans.read(scan).await
    }

    async fn write<T, E>(
        &self,
        rows: usize,
        operation: impl FnOnce(&mut Write<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.writer.write(rows, operation).await
    }
}

/// The database's path, and the file that follows its transactions.
struct Groups {
    database: PathBuf,
    file: GroupFile,
    /// Rows that the connection has changed up to its last numbered transaction.
    changes: u64,
}

/// What happens at the end of each transaction: events beyond their bound go, the transaction has
/// its number, and those who wait for news have them.
fn hooks(events: EventKeeper, groups: Groups, mut after_commit: AfterCommit) -> Hooks {
    let keeper = events.clone();
    let Groups {
        database,
        file,
        mut changes,
    } = groups;
    // The number of the transaction that is being committed; 0 when it changes nothing.
    let raised = Arc::<AtomicI64>::default();
    let committed_number = Arc::clone(&raised);
    let file = Arc::new(Mutex::new(file));
    let closed = Arc::clone(&file);
    let log = database.with_extension("db-wal");
    Hooks {
        before_commit: Box::new(move |connection| {
            raised.store(0, Ordering::Relaxed);
            let evicted = keeper.evict(connection);
            if connection.total_changes() != changes && !connection.is_autocommit() {
                raised.store(group::raise(connection)?, Ordering::Relaxed);
                changes = connection.total_changes();
            }
            evicted
        }),
        at_rest: Box::new(move |connection, is_last| {
            if std::fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0) {
                if let Err(error) = schema::checkpoint(connection) {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "the database's log cannot be emptied");
                }
            }
            if is_last {
                closed.lock().unwrap_or_else(PoisonError::into_inner).sync();
            }
        }),
        after_commit: Box::new(move |connection, committed| {
            let number = committed_number.load(Ordering::Relaxed);
            if number > 0 {
                file.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .note(number);
            }
            after_commit(committed);
            if let Err(error) = events.tell(connection) {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "readers of events hear nothing of a transaction");
            }
        }),
    }
}

/// A time as it is stored: as documents show it, so that queries compare the same text.
pub(crate) fn time_text(time: Timestamp) -> String {
    iothub_protocol::time::format(time)
}

/// A stored number that cannot be negative.
fn unsigned(row: &rusqlite::Row<'_>, column: &str) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| {
        rusqlite::Error::IntegralValueOutOfRange(
            row.as_ref().column_index(column).unwrap_or(0),
            value,
        )
    })
}

/// A count as SQLite stores it. No table of the hub reaches 2^63 rows.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;

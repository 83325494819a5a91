//! The store in one SQLite file, and the only SQL in the hub.
//!
//! One thread writes, in group commits ([`writer`]); a few connections read ([`reader`]). The
//! methods of [`Store`] are in one file per table.
//!
//! Why: docs/decisions/0011-sqlite-single-writer.md.

mod audit;
mod damage;
mod device;
mod device_bulk;
mod error;
mod event;
mod file;
mod group;
mod job;
mod job_device;
mod job_end;
mod job_start;
mod page_session;
mod plan;
mod policy;
mod query;
mod reader;
mod schema;
mod scope;
mod session;
mod twin;
mod webhook;
mod writer;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use iothub_protocol::id::DeviceId;
use rusqlite::Connection;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

pub(crate) use audit::read_audit;
pub(crate) use damage::log_skipped;
pub(crate) use device_bulk::BulkTransaction;
pub(crate) use file::{copy, damaged, faults, inspect};
pub(super) use group::FILE;
pub(crate) use group::{RecordedNumber, check_for_loss, record_restored, recorded_number};
pub(crate) use policy::PolicyFile;
#[cfg(feature = "fuzzing")]
pub(crate) use query::scratch;

use super::device::{
    DesiredChange, DeviceRecord, DeviceStatistics, Sections, StoredAuthentication,
    StoredSubscription, TwinChange, TwinEvent, TwinRecord, TwinText,
};
use super::error::StoreError;
use super::job::{
    ClaimRequest, ClaimedDevices, DeviceJobRecord, DeviceOutcome, DeviceResult, JobCancel,
    JobCounts, JobInsert, JobPermit, JobRecord, JobStart, JobTarget, NewJob, Refusal, WaitingJob,
};
use super::page::{GroupPosition, Page, RowPosition};
use super::{AfterCommit, Committed, NEVER, StoredPageSession, time_text};
use crate::types::Scope;
use event::EventRetention;
use group::GroupFile;
use reader::Readers;
use writer::{Hooks, Priority, Write, Writer};

/// How long [`Store::close`] waits for queued operations to reach the disk.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);

/// How long a look for the database file is waited for.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum of writes of devices that wait for the writer, a few of its transactions: thousands of
/// doors that report at one instant must not stand in its queue before a call.
const DEVICE_WRITES: usize = 128;

/// A handle to the store; clones share it.
#[derive(Clone)]
pub(crate) struct Store {
    writer: Writer,
    device_writes: Arc<Semaphore>,
    readers: Readers,
    events: EventRetention,
    path: Arc<Path>,
    file: Arc<DatabaseFile>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// The database file that the store has opened.
struct DatabaseFile {
    device: u64,
    inode: u64,
    /// Whether its path led elsewhere at the last look.
    is_lost: AtomicBool,
    /// A look has not ended, as with a disk that hangs.
    is_looking: AtomicBool,
}

impl Store {
    /// Opens the database at `path`, creates or migrates it, and starts the writer. `held` is
    /// dropped when the writer ends.
    pub(crate) fn open(
        path: &Path,
        after_commit: AfterCommit,
        held: impl Send + 'static,
    ) -> Result<Self, StoreError> {
        Self::open_with(path, held, |events, group| {
            hooks(events, group, after_commit)
        })
    }

    /// Opens a database whose transactions are rolled back by SQLite, as on a full disk, as long as
    /// `is_full` returns true.
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
        hooks: impl FnOnce(EventRetention, Groups) -> Hooks,
    ) -> Result<Self, StoreError> {
        let connection = schema::open_writer(path)?;
        let groups = Groups {
            database: path.to_owned(),
            file: GroupFile::begin(path, &connection)?,
            changes: connection.total_changes(),
        };
        schema::checkpoint(&connection)?;
        let readers = Readers::open(path)?;
        let events = EventRetention::new(&connection)?;
        let (writer, thread) = Writer::spawn(connection, hooks(events.clone(), groups), held)
            .map_err(StoreError::Thread)?;
        Ok(Self {
            writer,
            device_writes: Arc::new(Semaphore::new(DEVICE_WRITES)),
            readers,
            events,
            path: path.into(),
            file: Arc::new(DatabaseFile::of(path)?),
            thread: Arc::new(Mutex::new(Some(thread))),
        })
    }

    /// Whether the last transaction failed to reach the disk.
    pub(crate) fn is_failing(&self) -> bool {
        self.writer.is_failing()
    }

    /// Whether the current transaction takes longer than any healthy disk needs.
    pub(crate) fn is_hanging(&self) -> bool {
        self.writer.is_hanging()
    }

    /// Looks whether the path of the database still leads to the open file. A look that hangs with
    /// its disk is left behind, and no other begins before it ends.
    pub(crate) async fn look_for_file(&self) {
        if self.file.is_looking.swap(true, Ordering::Relaxed) {
            return;
        }
        let (path, file) = (Arc::clone(&self.path), Arc::clone(&self.file));
        let looked = tokio::task::spawn_blocking(move || {
            // Never opened: closing any descriptor of the file would drop SQLite's locks on it.
            let found = std::fs::metadata(&path);
            let is_same =
                |found: std::fs::Metadata| (found.dev(), found.ino()) == (file.device, file.inode);
            file.is_lost
                .store(!found.is_ok_and(is_same), Ordering::Relaxed);
            file.is_looking.store(false, Ordering::Relaxed);
        });
        let _ = tokio::time::timeout(LOOK_TIMEOUT, looked).await;
    }

    /// Whether the database file was missing or another one at the last look.
    pub(crate) fn is_file_lost(&self) -> bool {
        self.file.is_lost.load(Ordering::Relaxed)
    }

    /// How long the writer has been idle; `None` while it writes.
    pub(crate) fn idle_for(&self) -> Option<Duration> {
        self.writer.idle_for()
    }

    /// Performs a small write to test whether the database accepts writes.
    pub(crate) async fn probe(&self) -> Result<(), StoreError> {
        self.write(1, |write| {
            write
                .connection
                .execute("UPDATE event_total SET rows = rows", [])?;
            Ok(())
        })
        .await
    }

    /// Checkpoints and truncates the write-ahead log if nothing was written for `quiet`.
    pub(crate) async fn checkpoint_if_idle(&self, quiet: Duration) {
        self.writer.run_idle_hook(quiet).await;
    }

    /// Checks the whole database in the background and returns its faults; `None` if `stop` was
    /// cancelled first.
    pub(crate) async fn inspect(
        &self,
        stop: CancellationToken,
    ) -> Result<Option<Vec<String>>, StoreError> {
        let path = Arc::clone(&self.path);
        let looked =
            tokio::task::spawn_blocking(move || inspect(&path, move || stop.is_cancelled()));
        looked.await.map_err(|_| StoreError::Closed)?
    }

    /// The size of the database in bytes.
    pub(crate) async fn size(&self) -> Result<u64, StoreError> {
        self.read(|connection| {
            let pages: u64 = connection
                .prepare_cached(
                    "SELECT page_count * page_size AS bytes FROM pragma_page_count, \
                                 pragma_page_size",
                )?
                .query_row([], |row| unsigned(row, "bytes"))?;
            Ok(pages)
        })
        .await
    }

    /// Finishes queued operations and ends the writer.
    pub(crate) async fn close(&self) {
        let closing = async {
            self.writer.stop().await;
            let thread = self
                .thread
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(thread) = thread {
                // A writer that panicked has logged the panic.
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

    /// Runs a read of a few rows that are found by an index.
    async fn read<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        self.readers.lookups.read(read).await
    }

    /// Runs a read of one device, if it exists within `scope`.
    async fn read_within<T: Send + 'static>(
        &self,
        device: DeviceId,
        scope: Option<Arc<Scope>>,
        read: fn(&Connection, &DeviceId) -> Result<Option<T>, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let Some(scope) = scope else {
            return self.read(move |connection| read(connection, &device)).await;
        };
        self.read(move |connection| {
            // A transaction, so that both statements see one snapshot.
            let view = connection.unchecked_transaction()?;
            match scope::admits(&view, Some(&scope), &device)? {
                true => read(&view, &device),
                false => Ok(None),
            }
        })
        .await
    }

    /// Runs a read that may scan any number of rows. It never delays those of [`Self::read`].
    async fn scan<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        scan: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        self.readers.scans.read(scan).await
    }

    /// Waits until a device may write; keep the permit until that is answered.
    pub(crate) async fn device_turn(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        let turn = self.device_writes.acquire().await;
        turn.map_err(|_| StoreError::Closed)
    }

    /// Like [`Self::write`], for what a device sends.
    async fn write_for_device<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        rows: usize,
        operation: impl FnOnce(&mut Write<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let _turn = self.device_turn().await?;
        self.write_bulk(rows, operation).await
    }

    /// Like [`Self::write`], for one of many operations that come at once.
    async fn write_bulk<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        rows: usize,
        operation: impl FnOnce(&mut Write<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        self.writer.write(Priority::Bulk, rows, operation).await
    }

    async fn write<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        rows: usize,
        operation: impl FnOnce(&mut Write<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        self.writer.write(Priority::Prompt, rows, operation).await
    }
}

impl DatabaseFile {
    fn of(path: &Path) -> Result<Self, StoreError> {
        let metadata = std::fs::metadata(path).map_err(|source| StoreError::Create {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            is_lost: AtomicBool::new(false),
            is_looking: AtomicBool::new(false),
        })
    }
}

/// The path of the database, and the file that records its transaction numbers.
struct Groups {
    database: PathBuf,
    file: GroupFile,
    /// SQLite's change counter at the last numbered transaction.
    changes: u64,
}

/// The hooks of every transaction: evict events beyond their limits, number the transaction, then
/// notify subscribers.
fn hooks(events: EventRetention, groups: Groups, mut after_commit: AfterCommit) -> Hooks {
    let retention = events.clone();
    let Groups {
        database,
        file,
        mut changes,
    } = groups;
    // The number of the transaction being committed; 0 if it changes nothing.
    let number_in_progress = Arc::<AtomicI64>::default();
    let committed_number = Arc::clone(&number_in_progress);
    let file = Arc::new(Mutex::new(file));
    let closed = Arc::clone(&file);
    let log = database.with_extension("db-wal");
    Hooks {
        before_commit: Box::new(move |connection| {
            number_in_progress.store(0, Ordering::Relaxed);
            let evicted = retention.evict(connection);
            if connection.total_changes() != changes && !connection.is_autocommit() {
                number_in_progress.store(group::increment_number(connection)?, Ordering::Relaxed);
                changes = connection.total_changes();
            }
            evicted
        }),
        on_idle: Box::new(move |connection, is_last| {
            if std::fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0) {
                if let Err(error) = schema::checkpoint(connection) {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "cannot checkpoint the database's write-ahead log");
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
                    .record(number);
            }
            after_commit(committed);
            if let Err(error) = events.notify(connection) {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "cannot notify readers of events of a transaction");
            }
        }),
    }
}

/// Reads a stored number that is never negative.
fn unsigned(row: &rusqlite::Row<'_>, column: &str) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| {
        rusqlite::Error::IntegralValueOutOfRange(
            row.as_ref().column_index(column).unwrap_or(0),
            value,
        )
    })
}

/// Converts a count to SQLite's integer type. No table of the hub reaches 2^63 rows.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;

//! Read connections next to the writer. They see the last committed state; each is used by one
//! blocking task at a time.
//!
//! There are two pools, so that queries, which may scan every twin, never delay logins, which read
//! one row.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{StoreError, schema};

/// For reads of a few rows by index: less than a millisecond on one core. Each caller is a device
/// or a client with its own connection, so the queue is as long as the number of clients that
/// reconnect at once after a restart.
const LOOKUPS: Limits = Limits {
    connections: 4,
    waiting: 16_384,
    queue_timeout: Duration::from_secs(10),
    run_timeout: Duration::from_secs(10),
};

/// For queries and lists: a scan of a million twins takes seconds. Two at once leave the other
/// cores to the doors; a caller that waits longer than one scan takes should retry later.
const SCANS: Limits = Limits {
    connections: 2,
    waiting: 32,
    queue_timeout: Duration::from_secs(10),
    run_timeout: Duration::from_secs(20),
};

/// SQLite virtual machine steps between two checks of the deadline: well under a millisecond.
const STEPS_BETWEEN_CHECKS: i32 = 20_000;

/// The limits of one pool.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Reads that run at once.
    connections: usize,
    /// Reads that may be queued.
    waiting: usize,
    /// How long a read may be queued.
    queue_timeout: Duration,
    /// How long a read may run.
    run_timeout: Duration,
}

#[derive(Clone)]
pub(super) struct Readers {
    /// For reads of a few rows.
    pub(super) lookups: Pool,
    /// For reads of any number of rows.
    pub(super) scans: Pool,
}

impl Readers {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            lookups: Pool::open(path, LOOKUPS)?,
            scans: Pool::open(path, SCANS)?,
        })
    }
}

/// Connections for one kind of read.
#[derive(Clone)]
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    limits: Limits,
    free: Mutex<Vec<Connection>>,
    running: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Pool {
    fn open(path: &Path, limits: Limits) -> Result<Self, StoreError> {
        let free = (0..limits.connections)
            .map(|_| schema::open_reader(path))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self(Arc::new(Shared {
            limits,
            free: Mutex::new(free),
            running: Arc::new(Semaphore::new(limits.connections)),
            waiting: Semaphore::new(limits.waiting),
        })))
    }

    /// Runs `read` on a blocking thread. Its statement is interrupted at the deadline, and when the
    /// caller is gone.
    ///
    /// Returns [`StoreError::Busy`] when the queue is full or the wait too long, and
    /// [`StoreError::Deadline`] when it ran too long.
    pub(super) async fn read<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let permit = self.acquire().await?;
        let shared = Arc::clone(&self.0);
        let cancel_on_drop = CancelOnDrop::default();
        let is_active = Arc::clone(&cancel_on_drop.0);
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let pooled = PooledConnection::take(&shared)?;
            let deadline = Instant::now() + shared.limits.run_timeout;
            pooled.run_while(move || {
                is_active.load(Ordering::Relaxed) && Instant::now() < deadline
            })?;
            read(pooled.connection())
        });
        // A panic in `read` is a defect of that one request; the connection is back in the pool.
        task.await.map_err(|_| StoreError::Closed)?
    }

    /// Waits for a free connection; fails at once if the queue is full.
    async fn acquire(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        let shared = &self.0;
        if let Ok(permit) = Arc::clone(&shared.running).try_acquire_owned() {
            return Ok(permit);
        }
        let _queued = shared.waiting.try_acquire().map_err(|_| StoreError::Busy)?;
        let turn = Arc::clone(&shared.running).acquire_owned();
        tokio::time::timeout(shared.limits.queue_timeout, turn)
            .await
            .map_err(|_| StoreError::Busy)?
            .map_err(|_| StoreError::Closed)
    }
}

/// Cancels a read when it is dropped, also when the caller's future is dropped.
struct CancelOnDrop(Arc<AtomicBool>);

impl Default for CancelOnDrop {
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// A connection on loan; returns to the pool on drop, also when the reader panics.
struct PooledConnection<'a> {
    pool: &'a Shared,
    connection: Option<Connection>,
}

impl<'a> PooledConnection<'a> {
    fn take(pool: &'a Shared) -> Result<Self, StoreError> {
        let connection = pool
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .ok_or(StoreError::Closed)?;
        Ok(Self {
            pool,
            connection: Some(connection),
        })
    }

    fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("held until drop")
    }

    fn run_while(&self, may_run: impl Fn() -> bool + Send + 'static) -> Result<(), StoreError> {
        self.connection()
            .progress_handler(STEPS_BETWEEN_CHECKS, Some(move || !may_run()))?;
        Ok(())
    }
}

impl Drop for PooledConnection<'_> {
    fn drop(&mut self) {
        self.pool
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(self.connection.take());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tempfile::TempDir;

    use super::*;

    const ENDLESS: &str =
        "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";

    fn pool(limits: Limits) -> (TempDir, Pool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.db");
        schema::open_writer(&path).unwrap();
        (folder, Pool::open(&path, limits).unwrap())
    }

    fn endless(connection: &Connection) -> Result<i64, StoreError> {
        Ok(connection.query_row(ENDLESS, [], |row| row.get(0))?)
    }

    fn short(connection: &Connection) -> Result<i64, StoreError> {
        Ok(connection.query_row("SELECT 1", [], |row| row.get(0))?)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_read_is_stopped_at_its_deadline() {
        let (_folder, pool) = pool(Limits {
            connections: 1,
            waiting: 1,
            queue_timeout: LONG,
            run_timeout: Duration::from_millis(20),
        });
        let stopped = pool.read(endless).await;
        assert!(matches!(stopped, Err(StoreError::Deadline)), "{stopped:?}");
        assert_eq!(pool.read(short).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_read_without_a_caller_is_stopped() {
        let (_folder, pool) = pool(Limits {
            connections: 1,
            waiting: 1,
            queue_timeout: LONG,
            run_timeout: LONG,
        });
        let (began, begun) = tokio::sync::oneshot::channel();
        let reader = pool.clone();
        let caller = tokio::spawn(async move {
            let read = reader.read(move |connection| {
                began.send(()).unwrap();
                endless(connection)
            });
            read.await
        });
        begun.await.unwrap();
        caller.abort();
        assert_eq!(pool.read(short).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn the_queue_is_limited() {
        let (_folder, pool) = pool(Limits {
            connections: 1,
            waiting: 1,
            queue_timeout: LONG,
            run_timeout: LONG,
        });
        let (go_on, held) = mpsc::channel::<()>();
        let (began, begun) = tokio::sync::oneshot::channel();
        let reader = pool.clone();
        let first = tokio::spawn(async move {
            let read = reader.read(move |connection| {
                began.send(()).unwrap();
                held.recv().unwrap();
                short(connection)
            });
            read.await
        });
        begun.await.unwrap();
        let second = pool.read(short);
        tokio::pin!(second);
        // It is queued once it has been polled.
        assert!(polled_once(second.as_mut()).await.is_none());
        let third = pool.read(short).await;
        assert!(matches!(third, Err(StoreError::Busy)), "{third:?}");
        go_on.send(()).unwrap();
        assert_eq!(first.await.unwrap().unwrap(), 1);
        assert_eq!(second.await.unwrap(), 1);
    }

    /// A login finds its device however many queries run and wait.
    #[tokio::test]
    async fn lookups_do_not_wait_for_scans() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.db");
        schema::open_writer(&path).unwrap();
        let readers = Readers::open(&path).unwrap();
        let mut running = Vec::new();
        for _ in 0..SCANS.connections {
            let (began, begun) = tokio::sync::oneshot::channel();
            let scans = readers.scans.clone();
            running.push(tokio::spawn(async move {
                let scan = scans.read(move |connection| {
                    began.send(()).unwrap();
                    endless(connection)
                });
                scan.await
            }));
            begun.await.unwrap();
        }
        let waiting: Vec<_> = (0..SCANS.waiting)
            .map(|_| {
                let scans = readers.scans.clone();
                tokio::spawn(async move { scans.read(short).await })
            })
            .collect();
        while readers.scans.0.waiting.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = readers.scans.read(short).await;
        assert!(matches!(refused, Err(StoreError::Busy)), "{refused:?}");
        assert_eq!(readers.lookups.read(short).await.unwrap(), 1);
        assert!(running.iter().all(|scan| !scan.is_finished()));
        for scan in running {
            scan.abort();
        }
        for scan in waiting {
            assert_eq!(scan.await.unwrap().unwrap(), 1);
        }
    }

    #[tokio::test]
    async fn a_queued_read_times_out() {
        let (_folder, pool) = pool(Limits {
            connections: 1,
            waiting: 1,
            queue_timeout: Duration::from_millis(20),
            run_timeout: LONG,
        });
        let held = Arc::clone(&pool.0.running).try_acquire_owned().unwrap();
        let waited = pool.read(short).await;
        assert!(matches!(waited, Err(StoreError::Busy)), "{waited:?}");
        drop(held);
        assert_eq!(pool.read(short).await.unwrap(), 1);
    }

    /// The output of a future if it is ready at the first poll.
    async fn polled_once<T>(mut future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(match future.as_mut().poll(context) {
                std::task::Poll::Ready(value) => Some(value),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}

//! Reading, beside the writer: a few connections that see the last committed state, each used by one blocking task at a time.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{StoreError, schema};

/// Readers at once. A read is one core's work for less than a millisecond, or a scan that should leave the other cores to the doors.
const CONNECTIONS: usize = 4;

/// How long a read may wait and run. A scan of a million twins takes seconds; nothing sane takes longer than this.
const DEADLINE: Duration = Duration::from_secs(30);

/// How many steps of SQLite's machine pass between two looks at the clock: well under a millisecond.
const STEPS_BETWEEN_CHECKS: i32 = 20_000;

/// The pool of read connections.
#[derive(Clone)]
pub(super) struct Readers {
    pool: Arc<Pool>,
}

struct Pool {
    free: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    /// Opens the connections.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let free = (0..CONNECTIONS)
            .map(|_| schema::open_reader(path))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            pool: Arc::new(Pool {
                free: Mutex::new(free),
                permits: Arc::new(Semaphore::new(CONNECTIONS)),
            }),
        })
    }

    /// Runs `read` on a blocking thread. Past the deadline the running statement is interrupted.
    pub(super) async fn read<T, E>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let deadline = Instant::now() + DEADLINE;
        let permit =
            tokio::time::timeout_at(deadline, Arc::clone(&self.pool.permits).acquire_owned())
                .await
                .map_err(|_| StoreError::Deadline)?
                .map_err(|_| StoreError::Closed)?;
        let pool = Arc::clone(&self.pool);
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let lent = Lent::take(&pool)?;
            lent.stop_at(deadline)?;
            read(lent.connection())
        });
        // A panic in `read` is a defect of that one request; the connection has gone back to the pool.
        task.await.map_err(|_| StoreError::Closed)?
    }
}

/// A connection on loan; it returns to the pool when dropped, also when the reader panics.
struct Lent<'a> {
    pool: &'a Pool,
    connection: Option<Connection>,
}

impl<'a> Lent<'a> {
    fn take(pool: &'a Pool) -> Result<Self, StoreError> {
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

    fn stop_at(&self, deadline: Instant) -> Result<(), StoreError> {
        self.connection().progress_handler(
            STEPS_BETWEEN_CHECKS,
            Some(move || Instant::now() > deadline),
        )?;
        Ok(())
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.pool
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(self.connection.take());
    }
}

//! The one thread that writes. Operations queue here; it runs as many as it finds in one
//! transaction (group commit) and answers them after that transaction is on disk, so a caller that
//! has an answer has a durable one, and 500 outcomes cost one `fsync`.
//!
//! Each operation runs inside its own savepoint: one that fails takes back only what it did itself.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{DesiredChange, StoreError};

/// Operations that may wait for the writer. A sender that finds the queue full waits: that is the
/// hub's back-pressure, and 1,024 waiting closures are two full transactions ahead of the disk.
const QUEUE: usize = 1024;

/// A transaction takes no further operation once it holds this many rows.
const GROUP_ROWS: usize = 500;

/// Nor once it has run this long; readers see its work, and its callers their answers, only after
/// the commit.
const GROUP_TIME: Duration = Duration::from_millis(2);

/// A transaction that has not ended after this time waits for a disk that hangs.
const HANGS_AFTER: Duration = Duration::from_secs(5);

/// A transaction that is on disk.
#[derive(Debug)]
pub(crate) struct Committed {
    /// The desired changes in it, in the order they were made.
    pub(crate) changes: Vec<DesiredChange>,
    /// How many operations it did.
    pub(crate) operations: usize,
    /// How long it took, from its begin on.
    pub(crate) took: Duration,
}

/// Called on the writer thread after each commit.
pub(crate) type AfterCommit = Box<dyn FnMut(Committed) + Send>;

/// What is done at the end of every transaction.
pub(super) struct Hooks {
    /// Within it, behind its operations.
    pub(super) before_commit: BeforeCommit,
    /// When it is on disk and before its callers are answered.
    pub(super) after_commit: Box<SeeCommitted>,
    /// When nothing was written for a while, and, with `true`, when nothing more is written.
    pub(super) at_rest: Box<Rest>,
}

/// Works between transactions.
type Rest = dyn FnMut(&Connection, bool) + Send;

/// Sees what was committed.
type SeeCommitted = dyn FnMut(&Connection, Committed) + Send;

/// Works in the transaction; a failure is logged and the transaction goes on.
pub(super) type BeforeCommit = Box<dyn FnMut(&Connection) -> Result<(), StoreError> + Send>;

/// What an operation gets to work with.
pub(super) struct Write<'a> {
    /// The connection, inside the transaction.
    pub(super) connection: &'a Connection,
    changes: &'a mut Vec<DesiredChange>,
    /// Whether an operation, or a part of one, has failed.
    failed: &'a mut bool,
}

impl Write<'_> {
    /// Tells the device about a desired change once it is committed.
    pub(super) fn desired_changed(&mut self, change: DesiredChange) {
        self.changes.push(change);
    }

    /// Runs `operation` so that its failure undoes only its own writes.
    pub(super) fn isolated<T, E: From<StoreError>>(
        &mut self,
        operation: impl FnOnce(&mut Write<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let before = self.changes.len();
        self.run_sql("SAVEPOINT operation")?;
        match operation(self) {
            Ok(value) => {
                if let Err(error) = self.run_sql("RELEASE operation") {
                    self.undo(before)?;
                    return Err(error.into());
                }
                Ok(value)
            }
            Err(error) => {
                *self.failed = true;
                let undone = self.undo(before);
                // When SQLite has taken back the whole transaction there is nothing to undo, and
                // the operation knows why.
                if !self.connection.is_autocommit() {
                    undone?;
                }
                Err(error)
            }
        }
    }

    fn undo(&mut self, changes_before: usize) -> Result<(), StoreError> {
        self.changes.truncate(changes_before);
        self.run_sql("ROLLBACK TO operation")?;
        self.run_sql("RELEASE operation")
    }

    fn run_sql(&self, sql: &str) -> Result<(), StoreError> {
        self.connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    }
}

/// Hands the outcome to the caller, after the commit.
type Answer = Box<dyn FnOnce(Result<(), Arc<rusqlite::Error>>) + Send>;

/// The transaction that an operation runs in, or why there is none.
type Begun<'a, 'b> = Result<&'a mut Write<'b>, rusqlite::Error>;

/// What a caller wants done.
type Work = Box<dyn FnOnce(Begun<'_, '_>) -> Answer + Send>;

enum Command {
    Run { rows: usize, operation: Work },
    Rest { quiet: Duration },
    Stop,
}

/// The sending side of the writer's queue.
#[derive(Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Command>,
    health: Arc<Health>,
}

/// What the writer last came to, for those who look from beside.
struct Health {
    /// The last transaction did not reach the disk.
    failing: AtomicBool,
    turn: Mutex<Turn>,
}

/// What the writer does, and since when.
#[derive(Clone, Copy)]
enum Turn {
    Works(Instant),
    Waits(Instant),
}

impl Health {
    fn new() -> Self {
        Self {
            failing: AtomicBool::new(false),
            turn: Mutex::new(Turn::Waits(Instant::now())),
        }
    }

    fn turn(&self) -> Turn {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, turn: Turn) {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = turn;
    }
}

impl Writer {
    /// Starts the thread. `held` is kept until it ends (the lock of the data folder).
    pub(super) fn spawn(
        connection: Connection,
        mut hooks: Hooks,
        held: impl Send + 'static,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (queue, commands) = mpsc::channel(QUEUE);
        let health = Arc::new(Health::new());
        let told = Arc::clone(&health);
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || {
                let _held = held;
                run(&connection, commands, &mut hooks, &told);
            })?;
        Ok((Self { queue, health }, thread))
    }

    /// Runs `operation` in the next transaction and returns its result once that is on disk. `rows`
    /// is about how many rows it writes.
    pub(super) async fn write<T, E>(
        &self,
        rows: usize,
        operation: impl FnOnce(&mut Write<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let operation = Box::new(move |write: Begun<'_, '_>| -> Answer {
            let result = match write {
                Ok(write) => write.isolated(operation),
                Err(error) => Err(StoreError::Sql(error).into()),
            };
            Box::new(move |committed| {
                // A caller that has gone away no longer wants the answer.
                let _ = answer.send(match committed {
                    Err(error) if result.is_ok() => Err(StoreError::Commit(error).into()),
                    _ => result,
                });
            })
        });
        self.queue
            .send(Command::Run { rows, operation })
            .await
            .map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Whether the last transaction did not reach the disk.
    pub(super) fn is_failing(&self) -> bool {
        self.health.failing.load(Ordering::Relaxed) || self.queue.is_closed()
    }

    /// Whether a transaction takes longer than any disk that works.
    pub(super) fn hangs(&self) -> bool {
        matches!(self.health.turn(), Turn::Works(since) if since.elapsed() >= HANGS_AFTER)
    }

    /// How long nothing has been written, while nothing is.
    pub(super) fn idle_for(&self) -> Option<Duration> {
        match self.health.turn() {
            Turn::Works(_) => None,
            Turn::Waits(since) => Some(since.elapsed()),
        }
    }

    /// Runs the hook of rest if nothing was written for `quiet`. A busy writer passes it over.
    pub(super) async fn rest(&self, quiet: Duration) {
        // An error says it has ended.
        let _ = self.queue.send(Command::Rest { quiet }).await;
    }

    /// Asks the thread to finish what is queued and end.
    pub(super) async fn stop(&self) {
        // An error says it has ended already.
        let _ = self.queue.send(Command::Stop).await;
    }
}

fn run(
    connection: &Connection,
    mut commands: mpsc::Receiver<Command>,
    hooks: &mut Hooks,
    health: &Health,
) {
    let mut written = Instant::now();
    let mut stopped = false;
    while let Some(command) = commands.blocking_recv() {
        match command {
            Command::Run { rows, operation } => {
                let changes = connection.total_changes();
                let first = (rows, operation);
                health.set(Turn::Works(Instant::now()));
                let stop = transact(connection, &mut commands, first, hooks, &health.failing);
                health.set(Turn::Waits(Instant::now()));
                if stop {
                    stopped = true;
                    commands.close();
                }
                if connection.total_changes() != changes {
                    written = Instant::now();
                }
            }
            Command::Rest { quiet } if written.elapsed() >= quiet => {
                let before = health.turn();
                health.set(Turn::Works(Instant::now()));
                (hooks.at_rest)(connection, false);
                health.set(before);
            }
            Command::Rest { .. } => {}
            Command::Stop => {
                stopped = true;
                break;
            }
        }
    }
    if stopped {
        (hooks.at_rest)(connection, true);
    }
}

type Operation = (usize, Work);

/// One transaction: the first operation and whatever else is waiting. Returns whether it came upon
/// the order to stop.
fn transact(
    connection: &Connection,
    commands: &mut mpsc::Receiver<Command>,
    first: Operation,
    hooks: &mut Hooks,
    failing: &AtomicBool,
) -> bool {
    if let Err(error) = connection.execute_batch("BEGIN IMMEDIATE") {
        tracing::error!(%error, "the database cannot begin a transaction");
        let (_, operation) = first;
        failing.store(true, Ordering::Relaxed);
        operation(Err(error))(Ok(()));
        return false;
    }
    let began = Instant::now();
    let mut answers = Vec::new();
    let mut changes = Vec::new();
    let mut total = 0;
    let mut next = Some(first);
    let (mut stop, mut is_damaged) = (false, false);
    while let Some((rows, operation)) = next.take() {
        total += rows;
        let mut failed = false;
        if let Some(answer) = run_one(connection, &mut changes, &mut failed, operation) {
            answers.push(answer);
        }
        // A disk that is full or fails makes SQLite take back the whole transaction: a further
        // operation would begin and commit one of its own. One that comes upon a damaged
        // page makes SQLite refuse further writes until the transaction ends.
        is_damaged = failed && takes_no_more(connection);
        let lost = connection.is_autocommit() || is_damaged;
        if total < GROUP_ROWS && began.elapsed() < GROUP_TIME && !stop && !lost {
            match commands.try_recv() {
                Ok(Command::Run { rows, operation }) => next = Some((rows, operation)),
                Ok(Command::Stop) => stop = true,
                Ok(Command::Rest { .. }) | Err(_) => {}
            }
        }
    }
    if !connection.is_autocommit() {
        // What it should have done is done by a later one.
        if let Err(error) = (hooks.before_commit)(connection) {
            let error = &error as &dyn std::error::Error;
            tracing::error!(
                error,
                "the transaction has no number, or events beyond their bounds stay"
            );
        }
    }
    let committed = connection.execute_batch("COMMIT").map_err(|error| {
        tracing::error!(%error, "the database cannot commit");
        if !connection.is_autocommit() {
            if let Err(error) = connection.execute_batch("ROLLBACK") {
                tracing::error!(%error, "nor roll back");
            }
        }
        Arc::new(error)
    });
    if committed.is_ok() {
        let committed = Committed {
            changes,
            operations: answers.len(),
            took: began.elapsed(),
        };
        (hooks.after_commit)(connection, committed);
    }
    if is_damaged && connection.is_autocommit() {
        // Only a rollback makes SQLite take writes again.
        if let Err(error) = connection.execute_batch("BEGIN; ROLLBACK") {
            tracing::error!(%error, "the database takes no writes");
        }
    }
    // Who is told of a failure finds the hub failing.
    failing.store(committed.is_err(), Ordering::Relaxed);
    for answer in answers {
        answer(committed.clone());
    }
    stop
}

/// Whether the transaction takes no further writes.
fn takes_no_more(connection: &Connection) -> bool {
    let written = connection
        .prepare_cached("UPDATE last_group SET number = number")
        .and_then(|mut statement| statement.execute([]));
    let code = written.err().and_then(|error| error.sqlite_error_code());
    code == Some(rusqlite::ErrorCode::DatabaseCorrupt)
}

/// Runs one operation. A panic in it is a defect of that operation alone: it is rolled back and its
/// caller told, and the thread goes on serving the doors.
fn run_one(
    connection: &Connection,
    changes: &mut Vec<DesiredChange>,
    failed: &mut bool,
    operation: Work,
) -> Option<Answer> {
    let before = changes.len();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        operation(Ok(&mut Write {
            connection,
            changes: &mut *changes,
            failed: &mut *failed,
        }))
    }));
    outcome
        .inspect_err(|_| {
            if let Err(error) = (Write {
                connection,
                changes: &mut *changes,
                failed: &mut *failed,
            })
            .undo(before)
            {
                tracing::error!(%error, "cannot undo an operation that panicked");
            }
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use iothub_protocol::DeviceId;

    fn memory() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("CREATE TABLE number (n INTEGER UNIQUE)")
            .unwrap();
        connection
    }

    fn insert(n: i64) -> impl FnOnce(&mut Write<'_>) -> Result<i64, StoreError> {
        move |write| {
            write
                .connection
                .execute("INSERT INTO number VALUES (?1)", [n])?;
            Ok(n)
        }
    }

    fn no_hooks() -> Hooks {
        Hooks {
            before_commit: Box::new(|_| Ok(())),
            after_commit: Box::new(|_, _| {}),
            at_rest: Box::new(|_, _| {}),
        }
    }

    fn spawn() -> (Writer, JoinHandle<()>, Arc<Mutex<Vec<u64>>>) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let hook = {
            let told = told.clone();
            Box::new(move |_: &Connection, committed: Committed| {
                told.lock()
                    .unwrap()
                    .extend(committed.changes.iter().map(|c| c.version));
            })
        };
        let hooks = Hooks {
            after_commit: hook,
            ..no_hooks()
        };
        let (writer, thread) = Writer::spawn(memory(), hooks, ()).unwrap();
        (writer, thread, told)
    }

    #[tokio::test]
    async fn a_failed_operation_takes_back_only_its_own_rows() {
        let (writer, ..) = spawn();
        let (good, bad) = tokio::join!(
            writer.write(1, insert(1)),
            writer.write(2, |write: &mut Write<'_>| -> Result<(), StoreError> {
                write
                    .connection
                    .execute("INSERT INTO number VALUES (2)", [])?;
                write
                    .connection
                    .execute("INSERT INTO number VALUES (2)", [])?;
                Ok(())
            }),
        );
        assert_eq!(good.unwrap(), 1);
        assert!(matches!(bad, Err(StoreError::Sql(_))));
        let left = writer.write(0, count).await.unwrap();
        assert_eq!(left, 1);
    }

    fn count(write: &mut Write<'_>) -> Result<i64, StoreError> {
        Ok(write
            .connection
            .query_row("SELECT count(*) FROM number", [], |row| row.get(0))?)
    }

    #[tokio::test]
    async fn a_transaction_that_cannot_begin_is_an_error_and_not_the_end() {
        // In a transaction already, it cannot begin another.
        let connection = memory();
        connection.execute_batch("BEGIN").unwrap();
        let (stuck, _thread) = Writer::spawn(connection, no_hooks(), ()).unwrap();
        let refused = stuck.write(1, insert(1)).await;
        assert!(matches!(refused, Err(StoreError::Sql(_))), "{refused:?}");
    }

    #[tokio::test]
    async fn a_write_that_hangs_is_seen_from_beside() {
        let (go_on, held) = std::sync::mpsc::channel::<()>();
        let hooks = Hooks {
            before_commit: Box::new(move |_| {
                // Once let go it hangs no more.
                let _ = held.recv();
                Ok(())
            }),
            ..no_hooks()
        };
        let (writer, _thread) = Writer::spawn(memory(), hooks, ()).unwrap();
        assert!(!writer.hangs() && writer.idle_for().is_some());
        let begun = Instant::now();
        let (other, seen) = (writer.clone(), writer.clone());
        let writing = tokio::spawn(async move { other.write(1, insert(1)).await });
        while !seen.hangs() {
            assert!(begun.elapsed() < HANGS_AFTER * 6, "nobody sees it");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(begun.elapsed() >= HANGS_AFTER && !seen.is_failing());
        assert_eq!(seen.idle_for(), None);
        drop(go_on);
        writing.await.unwrap().unwrap();
        while seen.hangs() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_panic_is_undone_and_the_thread_serves_on() {
        let (writer, ..) = spawn();
        let panicked = writer
            .write(1, |write: &mut Write<'_>| -> Result<(), StoreError> {
                write
                    .connection
                    .execute("INSERT INTO number VALUES (1)", [])?;
                panic!("a defect");
            })
            .await;
        assert!(matches!(panicked, Err(StoreError::Closed)));
        assert_eq!(writer.write(0, count).await.unwrap(), 0);
    }

    /// As SQLite does by itself when the disk is full or fails.
    #[tokio::test]
    async fn a_transaction_that_sqlite_took_back_keeps_nothing_that_was_answered_as_failed() {
        // On a busy machine the writer may commit the first operation alone: then the next round
        // tries again.
        for _ in 0..50 {
            let (writer, ..) = spawn();
            let (begun, wait_begun) = std::sync::mpsc::channel();
            let (go, wait_go) = std::sync::mpsc::channel();
            // While this one runs, the others gather for one transaction.
            let first = writer.write(1, move |_: &mut Write<'_>| -> Result<(), StoreError> {
                begun.send(()).unwrap();
                wait_go.recv().unwrap();
                // Long enough that the transaction takes nothing else.
                let began = Instant::now();
                while began.elapsed() <= GROUP_TIME {
                    std::hint::spin_loop();
                }
                Ok(())
            });
            let lost = writer.write(1, insert(1));
            let failed = writer.write(1, |write: &mut Write<'_>| -> Result<(), StoreError> {
                write.connection.execute_batch("ROLLBACK")?;
                Err(StoreError::Closed)
            });
            let after = writer.write(1, insert(2));
            let gate = async {
                wait_begun.recv().unwrap();
                go.send(()).unwrap();
            };
            // In this order they are queued; the gate is last, so that all are when it opens.
            let (first, lost, failed, after, ()) = tokio::join!(first, lost, failed, after, gate);
            first.unwrap();
            assert!(failed.is_err());
            let stored = writer.write(0, count).await.unwrap();
            let kept = i64::from(lost.is_ok()) + i64::from(after.is_ok());
            assert_eq!(stored, kept, "{lost:?} {after:?}");
            match lost {
                Ok(_) => {}
                Err(StoreError::Commit(_)) => return,
                Err(error) => panic!("{error:?}"),
            }
        }
        panic!("no transaction had the first operation and the failing one in it");
    }

    #[tokio::test]
    async fn desired_changes_are_told_in_commit_order_and_before_the_answer() {
        let (writer, _thread, told) = spawn();
        let device: DeviceId = "door".parse().unwrap();
        let writes: Vec<_> = (1..=50)
            .map(|version| {
                let device = device.clone();
                writer.write(1, move |write: &mut Write<'_>| -> Result<u64, StoreError> {
                    write.desired_changed(DesiredChange {
                        device,
                        version,
                        body: bytes::Bytes::new(),
                    });
                    if version % 10 == 0 {
                        Err(StoreError::Closed)
                    } else {
                        Ok(version)
                    }
                })
            })
            .collect();
        let mut answered = Vec::new();
        for write in writes {
            if let Ok(version) = write.await {
                assert!(
                    told.lock().unwrap().contains(&version),
                    "told before it is answered"
                );
                answered.push(version);
            }
        }
        assert_eq!(
            *told.lock().unwrap(),
            answered,
            "a failed write tells nobody"
        );
    }

    #[tokio::test]
    async fn stopping_finishes_what_is_queued() {
        let (writer, thread, _) = spawn();
        let queued = tokio::spawn({
            let writer = writer.clone();
            async move { writer.write(1, insert(7)).await }
        });
        assert_eq!(queued.await.unwrap().unwrap(), 7);
        writer.stop().await;
        tokio::task::spawn_blocking(move || thread.join().unwrap())
            .await
            .unwrap();
        assert!(matches!(
            writer.write(1, insert(8)).await,
            Err(StoreError::Closed)
        ));
    }
}

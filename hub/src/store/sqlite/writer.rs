//! The one writer thread. It executes as many queued operations as possible in one transaction
//! (group commit) and replies after the commit, so a reply means that the write is durable, and 500
//! outcomes cost one `fsync`.
//!
//! Each operation runs in a savepoint: a failure rolls back only its own writes.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{Committed, DesiredChange, StoreError};

/// Maximum of operations that wait: half in the queue, half taken off it. A sender waits when it is
/// full: that is the hub's back-pressure, and 1,024 operations are two full transactions.
const QUEUE: usize = 1024;

/// A transaction takes no further operation once it has this many rows.
const GROUP_ROWS: usize = 500;

/// A transaction takes no further operation after this time: readers see its changes, and callers
/// get their replies, only after the commit.
const GROUP_TIME: Duration = Duration::from_millis(2);

/// A transaction that takes longer than this hangs on the disk.
const HANGS_AFTER: Duration = Duration::from_secs(5);

/// Callbacks of the writer.
pub(super) struct Hooks {
    /// Within the transaction, after its operations.
    pub(super) before_commit: BeforeCommitHook,
    /// After the commit, before the callers get their replies.
    pub(super) after_commit: Box<AfterCommitHook>,
    /// When the writer has been idle for a while; with `true` when it ends.
    pub(super) on_idle: Box<IdleHook>,
}

type IdleHook = dyn FnMut(&Connection, bool) + Send;

type AfterCommitHook = dyn FnMut(&Connection, Committed) + Send;

/// Runs in the transaction; a failure is logged and does not abort the transaction.
pub(super) type BeforeCommitHook = Box<dyn FnMut(&Connection) -> Result<(), StoreError> + Send>;

/// The context of an operation.
pub(super) struct Write<'a> {
    /// The connection, within the transaction.
    pub(super) connection: &'a Connection,
    changes: &'a mut Vec<DesiredChange>,
    /// Set when an operation, or an isolated part of one, fails.
    failed: &'a mut bool,
}

impl Write<'_> {
    /// Queues the notification of the device for after the commit.
    pub(super) fn desired_changed(&mut self, change: DesiredChange) {
        self.changes.push(change);
    }

    /// Runs `operation` in a savepoint: a failure rolls back only its own writes.
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
                // If SQLite has rolled back the whole transaction, there is nothing to undo, and
                // `error` is the cause.
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

/// Sends the outcome to the caller, after the commit.
type Reply = Box<dyn FnOnce(Result<(), Arc<rusqlite::Error>>) + Send>;

/// The transaction that an operation runs in, or why it could not begin.
type TransactionResult<'a, 'b> = Result<&'a mut Write<'b>, rusqlite::Error>;

type QueuedOperation = Box<dyn FnOnce(TransactionResult<'_, '_>) -> Reply + Send>;

/// Which operations run first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Priority {
    /// A person or program waits for it.
    Prompt,
    /// One of many that come at once: what devices send, what jobs record.
    Bulk,
}

enum Command {
    Run(Priority, Operation),
    CheckpointIfIdle { quiet: Duration },
    Stop,
}

/// The estimate of the rows that it writes, and the operation.
type Operation = (usize, QueuedOperation);

/// The sending side of the writer's queue.
#[derive(Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Command>,
    health: Arc<Health>,
}

/// State of the writer, for observers on other threads.
struct Health {
    /// The last transaction failed to reach the disk.
    failing: AtomicBool,
    state: Mutex<WriterState>,
}

#[derive(Clone, Copy)]
enum WriterState {
    Busy(Instant),
    Idle(Instant),
}

impl Health {
    fn new() -> Self {
        Self {
            failing: AtomicBool::new(false),
            state: Mutex::new(WriterState::Idle(Instant::now())),
        }
    }

    fn state(&self) -> WriterState {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: WriterState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

impl Writer {
    /// Starts the thread. `held` (the lock of the data folder) is dropped when it ends.
    pub(super) fn spawn(
        connection: Connection,
        mut hooks: Hooks,
        held: impl Send + 'static,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (queue, commands) = mpsc::channel(QUEUE / 2);
        let health = Arc::new(Health::new());
        let shared = Arc::clone(&health);
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || {
                let _held = held;
                run(&connection, commands, &mut hooks, &shared);
            })?;
        Ok((Self { queue, health }, thread))
    }

    /// Runs `operation` in one of the next transactions and returns its result after the commit.
    /// `rows` is an estimate of the rows that it writes.
    pub(super) async fn write<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        priority: Priority,
        rows: usize,
        operation: impl FnOnce(&mut Write<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let (answer, answered) = oneshot::channel();
        let operation = Box::new(move |write: TransactionResult<'_, '_>| -> Reply {
            let result = match write {
                Ok(write) => write.isolated(operation),
                Err(error) => Err(StoreError::from(error).into()),
            };
            Box::new(move |committed| {
                // The caller may be gone.
                let _ = answer.send(match committed {
                    Err(error) if result.is_ok() => Err(StoreError::Commit(error).into()),
                    _ => result,
                });
            })
        });
        self.queue
            .send(Command::Run(priority, (rows, operation)))
            .await
            .map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Whether the last transaction failed to reach the disk.
    pub(super) fn is_failing(&self) -> bool {
        self.health.failing.load(Ordering::Relaxed) || self.queue.is_closed()
    }

    /// Whether the current transaction takes longer than any healthy disk needs.
    pub(super) fn is_hanging(&self) -> bool {
        matches!(self.health.state(), WriterState::Busy(since) if since.elapsed() >= HANGS_AFTER)
    }

    /// How long the writer has been idle; `None` while it writes.
    pub(super) fn idle_for(&self) -> Option<Duration> {
        match self.health.state() {
            WriterState::Busy(_) => None,
            WriterState::Idle(since) => Some(since.elapsed()),
        }
    }

    /// Runs the idle hook if nothing was written for `quiet`; a busy writer skips it.
    pub(super) async fn run_idle_hook(&self, quiet: Duration) {
        // Fails if the thread has ended.
        let _ = self.queue.send(Command::CheckpointIfIdle { quiet }).await;
    }

    /// Asks the thread to finish queued operations and end.
    pub(super) async fn stop(&self) {
        // Fails if the thread has ended.
        let _ = self.queue.send(Command::Stop).await;
    }
}

/// The receiving side of the queue, and the operations taken off it.
struct Queue {
    commands: mpsc::Receiver<Command>,
    prompt: VecDeque<Operation>,
    bulk: VecDeque<Operation>,
    /// Whether the next operation is one of `bulk`, if there is any.
    is_turn_of_bulk: bool,
    /// The time of quiet of a checkpoint that is due once nothing is queued.
    quiet: Option<Duration>,
    /// The stop command was received.
    is_stopped: bool,
}

/// What the writer does next.
enum Task {
    Transact(Operation),
    CheckpointIfIdle { quiet: Duration },
}

impl Queue {
    const fn new(commands: mpsc::Receiver<Command>) -> Self {
        Self {
            commands,
            prompt: VecDeque::new(),
            bulk: VecDeque::new(),
            is_turn_of_bulk: false,
            quiet: None,
            is_stopped: false,
        }
    }

    /// Waits for something to do; `None` when the writer must end.
    fn wait(&mut self) -> Option<Task> {
        loop {
            // What comes to an idle writer is done in its order.
            if self.prompt.is_empty() && self.bulk.is_empty() && self.quiet.is_none() {
                let command = self.commands.blocking_recv()?;
                self.take(command);
            }
            if let Some(quiet) = self.quiet.take() {
                return Some(Task::CheckpointIfIdle { quiet });
            }
            if let Some(operation) = self.pop() {
                return Some(Task::Transact(operation));
            }
        }
    }

    /// The next operation, in turns a prompt one and one of the others, so that neither waits long.
    fn pop(&mut self) -> Option<Operation> {
        while self.prompt.len() + self.bulk.len() < QUEUE / 2 {
            let Ok(command) = self.commands.try_recv() else {
                break;
            };
            self.take(command);
        }
        let (first, second) = match self.is_turn_of_bulk {
            true => (&mut self.bulk, &mut self.prompt),
            false => (&mut self.prompt, &mut self.bulk),
        };
        self.is_turn_of_bulk ^= true;
        first.pop_front().or_else(|| second.pop_front())
    }

    /// Sorts a command.
    fn take(&mut self, command: Command) {
        match command {
            Command::Run(Priority::Prompt, operation) => self.prompt.push_back(operation),
            Command::Run(Priority::Bulk, operation) => self.bulk.push_back(operation),
            Command::CheckpointIfIdle { quiet } => self.quiet = Some(quiet),
            Command::Stop => {
                self.is_stopped = true;
                self.commands.close();
            }
        }
    }
}

fn run(
    connection: &Connection,
    commands: mpsc::Receiver<Command>,
    hooks: &mut Hooks,
    health: &Health,
) {
    let mut written = Instant::now();
    let mut queue = Queue::new(commands);
    while let Some(task) = queue.wait() {
        match task {
            Task::Transact(first) => {
                let changes = connection.total_changes();
                health.set(WriterState::Busy(Instant::now()));
                transact(connection, &mut queue, first, hooks, &health.failing);
                health.set(WriterState::Idle(Instant::now()));
                if connection.total_changes() != changes {
                    written = Instant::now();
                }
            }
            Task::CheckpointIfIdle { quiet } if written.elapsed() >= quiet => {
                let before = health.state();
                health.set(WriterState::Busy(Instant::now()));
                (hooks.on_idle)(connection, false);
                health.set(before);
            }
            Task::CheckpointIfIdle { .. } => {}
        }
    }
    if queue.is_stopped {
        (hooks.on_idle)(connection, true);
    }
}

/// Runs one transaction: the first operation and what else is queued.
fn transact(
    connection: &Connection,
    queue: &mut Queue,
    first: Operation,
    hooks: &mut Hooks,
    failing: &AtomicBool,
) {
    if let Err(error) = connection.execute_batch("BEGIN IMMEDIATE") {
        tracing::error!(%error, "cannot begin a database transaction");
        let (_, operation) = first;
        failing.store(true, Ordering::Relaxed);
        operation(Err(error))(Ok(()));
        return;
    }
    let began = Instant::now();
    let mut answers = Vec::new();
    let mut changes = Vec::new();
    let mut total = 0;
    let mut next = Some(first);
    let mut is_damaged = false;
    while let Some((rows, operation)) = next.take() {
        total += rows;
        let mut failed = false;
        if let Some(answer) = run_one(connection, &mut changes, &mut failed, operation) {
            answers.push(answer);
        }
        // On a full or failing disk SQLite rolls back the whole transaction: a further operation
        // would run in a transaction of its own. After a damaged page SQLite refuses further writes
        // until the transaction ends.
        is_damaged = failed && refuses_writes(connection);
        let lost = connection.is_autocommit() || is_damaged;
        if total < GROUP_ROWS && began.elapsed() < GROUP_TIME && !lost {
            next = queue.pop();
        }
    }
    if !connection.is_autocommit() {
        // A later transaction catches up.
        if let Err(error) = (hooks.before_commit)(connection) {
            let error = &error as &dyn std::error::Error;
            tracing::error!(
                error,
                "the transaction has no number, or events beyond their limits were not removed"
            );
        }
    }
    let committed = connection.execute_batch("COMMIT").map_err(|error| {
        tracing::error!(%error, "cannot commit a database transaction");
        if !connection.is_autocommit() {
            if let Err(error) = connection.execute_batch("ROLLBACK") {
                tracing::error!(%error, "cannot roll back a database transaction");
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
        // SQLite accepts writes again only after a rollback.
        if let Err(error) = connection.execute_batch("BEGIN; ROLLBACK") {
            tracing::error!(%error, "the database accepts no writes");
        }
    }
    // Set before the replies: a caller that gets an error must find the store failing.
    failing.store(committed.is_err(), Ordering::Relaxed);
    for answer in answers {
        answer(committed.clone());
    }
}

/// Whether the transaction refuses further writes.
fn refuses_writes(connection: &Connection) -> bool {
    let written = connection
        .prepare_cached("UPDATE last_group SET number = number")
        .and_then(|mut statement| statement.execute([]));
    let code = written.err().and_then(|error| error.sqlite_error_code());
    code == Some(rusqlite::ErrorCode::DatabaseCorrupt)
}

/// Runs one operation. A panic is a defect of that operation: it is rolled back, its caller gets an
/// error, and the thread continues.
fn run_one(
    connection: &Connection,
    changes: &mut Vec<DesiredChange>,
    failed: &mut bool,
    operation: QueuedOperation,
) -> Option<Reply> {
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
                tracing::error!(%error, "cannot roll back an operation that panicked");
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
            on_idle: Box::new(|_, _| {}),
        }
    }

    fn spawn() -> (Writer, JoinHandle<()>, Arc<Mutex<Vec<u64>>>) {
        let notified = Arc::new(Mutex::new(Vec::new()));
        let hook = {
            let notified = notified.clone();
            Box::new(move |_: &Connection, committed: Committed| {
                notified
                    .lock()
                    .unwrap()
                    .extend(committed.changes.iter().map(|c| c.version));
            })
        };
        let hooks = Hooks {
            after_commit: hook,
            ..no_hooks()
        };
        let (writer, thread) = Writer::spawn(memory(), hooks, ()).unwrap();
        (writer, thread, notified)
    }

    #[tokio::test]
    async fn a_failed_operation_rolls_back_only_its_own_rows() {
        let (writer, ..) = spawn();
        let (good, bad) = tokio::join!(
            writer.write(Priority::Prompt, 1, insert(1)),
            writer.write(
                Priority::Prompt,
                2,
                |write: &mut Write<'_>| -> Result<(), StoreError> {
                    write
                        .connection
                        .execute("INSERT INTO number VALUES (2)", [])?;
                    write
                        .connection
                        .execute("INSERT INTO number VALUES (2)", [])?;
                    Ok(())
                }
            ),
        );
        assert_eq!(good.unwrap(), 1);
        assert!(matches!(bad, Err(StoreError::Sql { .. })));
        let left = writer.write(Priority::Prompt, 0, count).await.unwrap();
        assert_eq!(left, 1);
    }

    fn count(write: &mut Write<'_>) -> Result<i64, StoreError> {
        Ok(write
            .connection
            .query_row("SELECT count(*) FROM number", [], |row| row.get(0))?)
    }

    #[tokio::test]
    async fn a_transaction_that_cannot_begin_is_an_error() {
        // The connection is in a transaction, so it cannot begin another.
        let connection = memory();
        connection.execute_batch("BEGIN").unwrap();
        let (stuck, _thread) = Writer::spawn(connection, no_hooks(), ()).unwrap();
        let refused = stuck.write(Priority::Prompt, 1, insert(1)).await;
        assert!(
            matches!(refused, Err(StoreError::Sql { .. })),
            "{refused:?}"
        );
    }

    #[tokio::test]
    async fn a_hanging_write_is_reported() {
        let (go_on, held) = std::sync::mpsc::channel::<()>();
        let hooks = Hooks {
            before_commit: Box::new(move |_| {
                // Blocks only once: the sender is dropped afterwards.
                let _ = held.recv();
                Ok(())
            }),
            ..no_hooks()
        };
        let (writer, _thread) = Writer::spawn(memory(), hooks, ()).unwrap();
        assert!(!writer.is_hanging() && writer.idle_for().is_some());
        let begun = Instant::now();
        let (other, seen) = (writer.clone(), writer.clone());
        let writing =
            tokio::spawn(async move { other.write(Priority::Prompt, 1, insert(1)).await });
        while !seen.is_hanging() {
            assert!(begun.elapsed() < HANGS_AFTER * 6, "it is never reported");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(begun.elapsed() >= HANGS_AFTER && !seen.is_failing());
        assert_eq!(seen.idle_for(), None);
        drop(go_on);
        writing.await.unwrap().unwrap();
        while seen.is_hanging() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_panic_is_rolled_back_and_the_thread_continues() {
        let (writer, ..) = spawn();
        let panicked = writer
            .write(
                Priority::Prompt,
                1,
                |write: &mut Write<'_>| -> Result<(), StoreError> {
                    write
                        .connection
                        .execute("INSERT INTO number VALUES (1)", [])?;
                    panic!("a defect");
                },
            )
            .await;
        assert!(matches!(panicked, Err(StoreError::Closed)));
        assert_eq!(writer.write(Priority::Prompt, 0, count).await.unwrap(), 0);
    }

    /// SQLite does this on a full or failing disk.
    #[tokio::test]
    async fn a_transaction_that_sqlite_rolled_back_keeps_no_failed_writes() {
        // On a busy machine the writer may commit the first operation alone: then the next round
        // tries again.
        for _ in 0..50 {
            let (writer, ..) = spawn();
            let (begun, wait_begun) = std::sync::mpsc::channel();
            let (go, wait_go) = std::sync::mpsc::channel();
            // While this one runs, the others queue up for one transaction.
            let first = writer.write(
                Priority::Prompt,
                1,
                move |_: &mut Write<'_>| -> Result<(), StoreError> {
                    begun.send(()).unwrap();
                    wait_go.recv().unwrap();
                    // Long enough that the transaction takes no further operation.
                    let began = Instant::now();
                    while began.elapsed() <= GROUP_TIME {
                        std::hint::spin_loop();
                    }
                    Ok(())
                },
            );
            let lost = writer.write(Priority::Prompt, 1, insert(1));
            let failed = writer.write(
                Priority::Prompt,
                1,
                |write: &mut Write<'_>| -> Result<(), StoreError> {
                    write.connection.execute_batch("ROLLBACK")?;
                    Err(StoreError::Closed)
                },
            );
            let after = writer.write(Priority::Prompt, 1, insert(2));
            let gate = async {
                wait_begun.recv().unwrap();
                go.send(()).unwrap();
            };
            // They are queued in this order; the gate is last and opens when all are queued.
            let (first, lost, failed, after, ()) = tokio::join!(first, lost, failed, after, gate);
            first.unwrap();
            assert!(failed.is_err());
            let stored = writer.write(Priority::Prompt, 0, count).await.unwrap();
            let kept = i64::from(lost.is_ok()) + i64::from(after.is_ok());
            assert_eq!(stored, kept, "{lost:?} {after:?}");
            match lost {
                Ok(_) => {}
                Err(StoreError::Commit(_)) => return,
                Err(error) => panic!("{error:?}"),
            }
        }
        panic!("no transaction held both the first operation and the failing one");
    }

    #[tokio::test]
    async fn desired_changes_are_notified_in_commit_order_before_the_reply() {
        let (writer, _thread, notified) = spawn();
        let device: DeviceId = "door".parse().unwrap();
        let writes: Vec<_> = (1..=50)
            .map(|version| {
                let device = device.clone();
                writer.write(
                    Priority::Prompt,
                    1,
                    move |write: &mut Write<'_>| -> Result<u64, StoreError> {
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
                    },
                )
            })
            .collect();
        let mut answered = Vec::new();
        for write in writes {
            if let Ok(version) = write.await {
                assert!(
                    notified.lock().unwrap().contains(&version),
                    "notified before the reply"
                );
                answered.push(version);
            }
        }
        assert_eq!(
            *notified.lock().unwrap(),
            answered,
            "a failed write notifies nobody"
        );
    }

    #[tokio::test]
    async fn stopping_finishes_queued_operations() {
        let (writer, thread, _) = spawn();
        let queued = tokio::spawn({
            let writer = writer.clone();
            async move { writer.write(Priority::Prompt, 1, insert(7)).await }
        });
        assert_eq!(queued.await.unwrap().unwrap(), 7);
        writer.stop().await;
        tokio::task::spawn_blocking(move || thread.join().unwrap())
            .await
            .unwrap();
        assert!(matches!(
            writer.write(Priority::Prompt, 1, insert(8)).await,
            Err(StoreError::Closed)
        ));
    }
}

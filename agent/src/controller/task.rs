//! The event loop of the controller.

use std::collections::HashMap;
use std::time::Duration;

use door_core::{
    Action, Door, Generation, Inputs, MethodReply, NotSaved, OutputFault, Outputs, SavedDoor,
    Ticket,
};
use log::{debug, info};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Call, CallKind, Clock, ControllerParts, Snapshot};
use crate::fail_point;
use crate::gpio::{Board, Wake};
use crate::storage::DoorStorage;

/// Maximum interval between reads of the inputs, and so the delay of a missed edge.
const READ_INTERVAL: Duration = Duration::from_secs(1);
/// Interval at which the outputs are set again, in case something disturbed a pin.
const ASSERT_INTERVAL: Duration = Duration::from_secs(3);
/// Queue of save results: one per pending save, and a door has no more of them than calls. If it
/// is full the result is dropped, and the calls that wait for it end at their own deadline.
const MAX_SAVE_RESULTS: usize = 64;

/// How long an answer waits until the record of its command is on disk. A hanging disk delays no
/// caller longer.
const RECORD_TIMEOUT: Duration = Duration::from_secs(5);

type SaveResult = (Generation, Result<(), NotSaved>);

pub(super) struct Task {
    door: Door,
    board: SafeBoard,
    /// The last reading.
    inputs: Inputs,
    /// Keys of the inputs that are fitted.
    fitted: Vec<&'static str>,
    wake: Wake,
    clock: Clock,
    storage: DoorStorage,
    calls: mpsc::Receiver<Call>,
    save_results: (mpsc::Sender<SaveResult>, mpsc::Receiver<SaveResult>),
    waiting: HashMap<Ticket, oneshot::Sender<MethodReply>>,
    next_ticket: u64,
    snapshot: watch::Sender<Snapshot>,
    read_at: Instant,
    asserted_at: Instant,
    watchdog: Option<Watchdog>,
}

struct Watchdog {
    period: Duration,
    feed: fn(),
    fed_at: Instant,
}

/// The board, de-energised when dropped: at shutdown, and when a panic unwinds through the task.
struct SafeBoard(Box<dyn Board>);

impl Drop for SafeBoard {
    fn drop(&mut self) {
        // The board logs why; `ExecStopPost` tries again.
        let _ = self.0.drive(Outputs::DeEnergised);
    }
}

enum Wakeup {
    Edge,
    Call(Option<Call>),
    SaveResult(SaveResult),
    Due,
    Shutdown,
}

impl Task {
    pub(super) fn start(
        parts: ControllerParts,
        calls: mpsc::Receiver<Call>,
    ) -> (Self, watch::Receiver<Snapshot>) {
        let mut clock = parts.clock;
        let mut board = SafeBoard(parts.board.board);
        let driven = board.0.drive(Outputs::DeEnergised);
        let now = clock.now();
        let fitted = parts.door.inputs();
        let (door, actions) = Door::new(parts.door, parts.restored.as_ref(), &now);
        let inputs = Inputs::default();
        let snapshot = watch::Sender::new(Snapshot::new(&door, &inputs, &fitted, now.quality));
        let receiver = snapshot.subscribe();
        let mut task = Self {
            door,
            board,
            inputs,
            fitted,
            wake: parts.board.wake,
            clock,
            storage: parts.storage,
            calls,
            save_results: mpsc::channel(MAX_SAVE_RESULTS),
            waiting: HashMap::new(),
            next_ticket: 0,
            snapshot,
            read_at: Instant::now(),
            asserted_at: Instant::now(),
            watchdog: parts.watchdog.map(|(period, feed)| Watchdog {
                period,
                feed,
                fed_at: Instant::now(),
            }),
        };
        task.carry_out(actions);
        task.handle_driven(driven);
        task.read();
        task.publish();
        (task, receiver)
    }

    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let due = self.due();
            let wakeup = tokio::select! {
                () = self.wake.poked() => Wakeup::Edge,
                call = self.calls.recv() => Wakeup::Call(call),
                Some(result) = self.save_results.1.recv() => Wakeup::SaveResult(result),
                () = tokio::time::sleep_until(due) => Wakeup::Due,
                () = shutdown.cancelled() => Wakeup::Shutdown,
            };
            // Whatever comes next is judged by inputs as they are, also after a while without time
            // to run: an old look at the bolt is no jam.
            if matches!(wakeup, Wakeup::Call(Some(_)) | Wakeup::SaveResult(_)) {
                self.read();
            }
            match wakeup {
                Wakeup::Edge => self.read(),
                Wakeup::Call(Some(call)) => self.call(call),
                Wakeup::SaveResult((generation, result)) => {
                    fail_point::reach("persisted");
                    let now = self.clock.now();
                    let actions = self.door.handle_persisted(&now, generation, result);
                    self.carry_out(actions);
                }
                Wakeup::Due => self.catch_up(),
                // Without a handle no caller is left.
                Wakeup::Call(None) | Wakeup::Shutdown => break,
            }
            self.publish();
        }
        info!("the strike is de-energised");
    }

    /// When to wake up if nothing happens.
    fn due(&mut self) -> Instant {
        let door = self.door.poll_timeout().map(|due| {
            let boottime = self.clock.now().boottime;
            Instant::now() + due.since(boottime)
        });
        let routine = (self.read_at + READ_INTERVAL).min(self.asserted_at + ASSERT_INTERVAL);
        let watchdog = self.watchdog.as_ref().map(Watchdog::due);
        let board = self.board.0.next_change().map(Instant::from_std);
        [door, watchdog, board]
            .into_iter()
            .flatten()
            .fold(routine, Instant::min)
    }

    fn catch_up(&mut self) {
        let now = Instant::now();
        // The reading also processes the door's own deadlines. It comes first: what is driven is
        // judged by the time as well.
        self.read();
        if self.asserted_at + ASSERT_INTERVAL <= now {
            let driven = self.drive(self.door.outputs());
            self.handle_driven(driven);
        }
        if let Some(watchdog) = self.watchdog.as_mut() {
            if watchdog.due() <= now {
                watchdog.fed_at = now;
                (watchdog.feed)();
            }
        }
    }

    fn read(&mut self) {
        self.read_at = Instant::now();
        // Inputs are never older than the time by which they are judged.
        let now = self.clock.now();
        self.inputs = self.board.0.read();
        let actions = self.door.handle_inputs(&now, self.inputs);
        self.carry_out(actions);
    }

    fn call(&mut self, call: Call) {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.waiting.insert(ticket, call.reply);
        let now = self.clock.now();
        let actions = match &call.kind {
            CallKind::Method(command) => self.door.handle_command(&now, ticket, command),
            CallKind::Desired(desired) => self.door.handle_desired(&now, ticket, desired),
        };
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        let recorded = actions
            .iter()
            .any(|action| matches!(action, Action::Record(event) if event.is_urgent()));
        let mut driven = None;
        for action in actions {
            match action {
                Action::Drive(outputs) => driven = Some(self.drive(outputs)),
                Action::Persist { generation, saved } => self.persist(generation, &saved),
                Action::Answer { ticket, reply } => {
                    fail_point::reach("answer-before");
                    if let Some(waiting) = self.waiting.remove(&ticket) {
                        self.answer(waiting, reply, recorded);
                    }
                }
                Action::Record(event) => {
                    fail_point::reach("record-before");
                    self.storage.append(event);
                }
                Action::Report => {}
            }
        }
        if let Some(driven) = driven {
            self.handle_driven(driven);
        }
    }

    fn handle_driven(&mut self, driven: Result<(), OutputFault>) {
        let now = self.clock.now();
        let actions = self.door.handle_driven(&now, driven);
        self.carry_out(actions);
    }

    /// Sends the reply, once its record is on disk: every result that a caller received is in the
    /// event log, even if the program is killed right after.
    fn answer(&self, waiting: oneshot::Sender<MethodReply>, reply: MethodReply, recorded: bool) {
        if !recorded {
            // The caller may have timed out.
            let _ = waiting.send(reply);
            return;
        }
        let written = self.storage.written();
        tokio::spawn(async move {
            // After the timeout the reply is sent anyway: it is true.
            let _ = tokio::time::timeout(RECORD_TIMEOUT, written).await;
            let _ = waiting.send(reply);
        });
    }

    fn drive(&mut self, outputs: Outputs) -> Result<(), OutputFault> {
        fail_point::reach("drive-before");
        let driven = self.board.0.drive(outputs);
        fail_point::reach("drive-after");
        self.asserted_at = Instant::now();
        driven
    }

    fn persist(&self, generation: Generation, saved: &SavedDoor) {
        fail_point::reach("persist-before");
        let save_results = self.save_results.0.clone();
        self.storage.save_door(saved, move |result| {
            let result = result.map_err(|error| {
                // The disk fault itself is logged once; this is logged for each failed save.
                debug!("the door's state is not saved: {error}");
                NotSaved
            });
            // See MAX_ACKS.
            let _ = save_results.try_send((generation, result));
        });
    }

    /// Publishes a new snapshot if anything changed.
    fn publish(&mut self) {
        self.storage.set_doubt(self.door.authority().in_doubt());
        let quality = self.clock.now().quality;
        let snapshot = Snapshot::new(&self.door, &self.inputs, &self.fitted, quality);
        self.snapshot.send_if_modified(|published| {
            let new = *published != snapshot;
            if new {
                *published = snapshot;
            }
            new
        });
    }
}

impl Watchdog {
    fn due(&self) -> Instant {
        self.fed_at + self.period
    }
}

//! The controller: one task owns the door and its board.
//!
//! It waits for an edge, a method call, a save result, a deadline or shutdown, passes the event to
//! the pure [`Door`], and executes the actions in order, the strike first. It never waits for
//! network or disk. Outputs are levels and are set again every few seconds; inputs are read at
//! least once a second, so that a board without interrupts still works. When the task ends, even
//! by a panic, the strike is de-energised.
//!
//! Why: docs/decisions/0008-locks-act-unlocks-wait.md.

mod clock;
mod task;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use door_core::config::Rest;
use door_core::contract::{Mode, SlotState};
use door_core::schedule::WeekReport;
use door_core::{
    BootId, ClockQuality, Command, DesiredDoor, Door, DoorConfig, DoorReport, EntryId, Inputs,
    MethodReply, Outputs, SavedDoor, TimedReport, Want,
};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use clock::Clock;

use crate::gpio::{Levels, OpenBoard, levels};
use crate::storage::DoorStorage;
use task::Task;

/// Queue of calls. Each takes well under a millisecond, so a full queue means a flood; the caller
/// then waits.
const MAX_CALLS: usize = 16;
/// Added to the door's own time limits for the deadline of a call.
const GRACE: Duration = Duration::from_secs(8);

/// Dependencies of a controller.
#[derive(Debug)]
pub struct ControllerParts {
    /// The validated configuration.
    pub door: DoorConfig,
    /// The saved state.
    pub restored: Option<SavedDoor>,
    /// The hardware, de-energised.
    pub board: OpenBoard,
    pub clock: Clock,
    /// Storage for state and events.
    pub storage: DoorStorage,
    /// Called this often while the loop runs.
    pub watchdog: Option<(Duration, fn())>,
    pub shutdown: CancellationToken,
}

/// Handle of a controller; clones share the same door.
#[derive(Debug, Clone)]
pub struct ControllerHandle {
    calls: mpsc::Sender<Call>,
    snapshot: watch::Receiver<Snapshot>,
    deadline: Duration,
}

#[derive(Debug)]
struct Call {
    kind: CallKind,
    reply: oneshot::Sender<MethodReply>,
}

#[derive(Debug)]
enum CallKind {
    Method(Command),
    /// Follow the desired properties.
    Desired(Box<DesiredDoor>),
}

/// Observable state of a door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    pub report: DoorReport,
    /// Under a lockdown: the mode that returns afterwards.
    pub displaced_mode: Option<Mode>,
    /// What the authority array wants of the strike.
    pub want: Want,
    /// The occupied slots of the authority array, the deciding one first.
    pub slots: Vec<SlotState>,
    /// What applies when all slots are empty.
    pub relinquish_default: Want,
    /// The energised outputs.
    pub outputs: Outputs,
    /// Where the strike rests without power.
    pub rest: Rest,
    /// Levels of the inputs, by the keys of their tables.
    pub inputs: Levels,
    /// Whether the wall clock is trusted.
    pub clock: &'static str,
    /// The timed entries and what became of each.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub timed: BTreeMap<EntryId, TimedReport>,
    /// The week.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<WeekReport>,
}

/// Starts the controller task.
///
/// The first reading is done on return: the pins are safe and the snapshot is valid. A panic of
/// the task must end the process.
#[must_use]
pub fn spawn(parts: ControllerParts) -> (ControllerHandle, JoinHandle<()>) {
    let (calls, incoming) = mpsc::channel(MAX_CALLS);
    let deadline = parts.door.bond_time() + GRACE;
    let shutdown = parts.shutdown.clone();
    let (task, snapshot) = Task::start(parts, incoming);
    let handle = ControllerHandle {
        calls,
        snapshot,
        deadline,
    };
    (handle, tokio::spawn(task.run(shutdown)))
}

impl ControllerHandle {
    /// Calls a method and waits for its answer. There always is one: 500 `noAnswer` at the latest
    /// after bond time and a few seconds.
    pub async fn invoke(&self, method: &str, payload: &[u8]) -> MethodReply {
        let command = match Command::parse(method, payload) {
            Ok(command) => command,
            Err(reply) => return reply,
        };
        let reply = self.call(CallKind::Method(command)).await;
        reply.unwrap_or_else(|| MethodReply::no_answer(method))
    }

    /// Makes the door follow its desired properties; returns when they are in force and on disk.
    ///
    /// # Errors
    /// Why that failed, for the acknowledgement.
    pub async fn desire(&self, desired: DesiredDoor) -> Result<(), String> {
        match self.call(CallKind::Desired(Box::new(desired))).await {
            Some(reply) if reply.is_success() => Ok(()),
            Some(reply) => Err(reply.body.response),
            None => Err("the door did not answer in time".to_owned()),
        }
    }

    async fn call(&self, kind: CallKind) -> Option<MethodReply> {
        let (reply, answered) = oneshot::channel();
        let call = async {
            self.calls.send(Call { kind, reply }).await.ok()?;
            answered.await.ok()
        };
        timeout(self.deadline, call).await.ok().flatten()
    }

    /// The state of the door, and its changes.
    #[must_use]
    pub fn snapshot(&self) -> watch::Receiver<Snapshot> {
        self.snapshot.clone()
    }
}

impl Snapshot {
    fn new(door: &Door, inputs: &Inputs, fitted: &[&str], clock: ClockQuality) -> Self {
        let array = door.authority();
        Self {
            report: door.report(),
            displaced_mode: array.displaced_mode(),
            want: array.want(),
            slots: array.slots(),
            relinquish_default: array.relinquish_default(),
            outputs: door.outputs(),
            rest: door.rest(),
            inputs: levels(inputs, fitted),
            clock: clock.as_str(),
            timed: door.timed().clone(),
            schedule: door.week(),
        }
    }
}

/// The current boot of this machine, for persisted times.
#[must_use]
pub fn boot_id() -> BootId {
    clock::boot_id()
}

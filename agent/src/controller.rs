//! The controller: one task owns the door and its board.
//!
//! It waits for an edge, a method call, word from the disk, a deadline or the end, hands what
//! happened to the pure [`Door`], and carries out the actions in their order, the strike first. It
//! never waits for network or disk. The outputs are a level: it is set again every few seconds, and
//! the inputs are read at least once a second, so that a board that gives no interrupts still
//! works. When the task ends, by a panic too, the strike is de-energised.

mod clock;
mod task;
#[cfg(test)]
mod tests;

use std::time::Duration;

use door_core::config::Rest;
use door_core::contract::{Mode, SlotState};
use door_core::{
    BootId, ClockQuality, Command, DesiredDoor, Door, DoorConfig, DoorReport, Inputs, MethodReply,
    Outputs, SavedDoor, Want,
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

/// Calls that may wait for the controller: it takes each in well under a millisecond, so that more
/// are a flood. When it is full the caller waits.
const MAX_CALLS: usize = 16;
/// What a call may take beyond the times that the door itself allows it.
const GRACE: Duration = Duration::from_secs(8);

/// What a controller is made of.
#[derive(Debug)]
pub struct ControllerParts {
    /// The door's checked configuration.
    pub door: DoorConfig,
    /// What was saved of it.
    pub restored: Option<SavedDoor>,
    /// Its hardware, de-energised.
    pub board: OpenBoard,
    /// The time.
    pub clock: Clock,
    /// Where its state and events go.
    pub storage: DoorStorage,
    /// What to call, and how often, as long as the door is looked after.
    pub watchdog: Option<(Duration, fn())>,
    /// Ends the task.
    pub shutdown: CancellationToken,
}

/// The way to a door; clones lead to the same one.
#[derive(Debug, Clone)]
pub struct ControllerHandle {
    calls: mpsc::Sender<Call>,
    snapshot: watch::Receiver<Snapshot>,
    deadline: Duration,
}

/// A call on its way.
#[derive(Debug)]
struct Call {
    asked: Asked,
    reply: oneshot::Sender<MethodReply>,
}

/// What for.
#[derive(Debug)]
enum Asked {
    /// A method.
    Method(Command),
    /// To follow the desired properties.
    Desired(DesiredDoor),
}

/// What a door looks like from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The state as it is reported.
    pub report: DoorReport,
    /// Under a lockdown: the mode that the door goes back to after it.
    pub displaced_mode: Option<Mode>,
    /// What the strike should be.
    pub want: Want,
    /// The occupied slots of the authority array, the deciding one first.
    pub slots: Vec<SlotState>,
    /// What holds when all are empty.
    pub relinquish_default: Want,
    /// What is energised.
    pub outputs: Outputs,
    /// Where the strike is once nothing is.
    pub rest: Rest,
    /// What the inputs say, by the keys of their tables.
    pub inputs: Levels,
    /// Whether the wall clock is trusted.
    pub clock: &'static str,
}

/// Reads the inputs, drives what they call for, and keeps doing so.
///
/// The first reading is done when this returns: the pins are safe and the snapshot is real. A panic
/// of the task must end the process.
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
    /// Calls a method and waits for its answer, which always comes: 500 `noAnswer` at the latest
    /// after bond time and a few seconds.
    pub async fn invoke(&self, method: &str, payload: &[u8]) -> MethodReply {
        let command = match Command::parse(method, payload) {
            Ok(command) => command,
            Err(reply) => return reply,
        };
        let reply = self.call(Asked::Method(command)).await;
        reply.unwrap_or_else(|| MethodReply::no_answer(method))
    }

    /// Has the door follow what is desired of it; done when it is in force and on disk.
    ///
    /// # Errors
    /// What stood in the way, for the acknowledgement.
    pub async fn desire(&self, desired: DesiredDoor) -> Result<(), String> {
        match self.call(Asked::Desired(desired)).await {
            Some(reply) if reply.is_success() => Ok(()),
            Some(reply) => Err(reply.body.response),
            None => Err("the door did not answer in time".to_owned()),
        }
    }

    async fn call(&self, asked: Asked) -> Option<MethodReply> {
        let (reply, answered) = oneshot::channel();
        let call = async {
            self.calls.send(Call { asked, reply }).await.ok()?;
            answered.await.ok()
        };
        timeout(self.deadline, call).await.ok().flatten()
    }

    /// The door as it looks now, and whenever that changes.
    #[must_use]
    pub fn snapshot(&self) -> watch::Receiver<Snapshot> {
        self.snapshot.clone()
    }
}

impl Snapshot {
    fn new(door: &Door, inputs: &Inputs, clock: ClockQuality) -> Self {
        let array = door.authority();
        Self {
            report: door.report(),
            displaced_mode: array.displaced_mode(),
            want: array.want(),
            slots: array.slots(),
            relinquish_default: array.relinquish_default(),
            outputs: door.outputs(),
            rest: door.rest(),
            inputs: levels(inputs),
            clock: clock.as_str(),
        }
    }
}

/// The boot that this machine is in, for what is kept on disk.
#[must_use]
pub fn boot_id() -> BootId {
    clock::boot_id()
}

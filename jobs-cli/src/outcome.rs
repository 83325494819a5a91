//! Outcome of a job at each door, judged by the door's answer: the hub counts answers, an operator
//! counts secured doors.

use door_core::contract::{Command, DoorState, Goal, LockState, Secured, Word};
use iothub_protocol::job::{DeviceJob, DeviceJobStatus, JobResponse};
use iothub_protocol::method::MethodRequest;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::door::{LOCK_TITLES, ReportedStatus};
use crate::exit_status::ExitStatus;
use crate::printer::{Cell, Row, Tone};

/// Status of a door that refuses an unlock, because of a lockdown or mode `secure`.
const REFUSED_STATUS: i32 = 409;

/// Members of the payloads of all commands.
const MEMBERS: [&str; 10] = [
    "lockTime",
    "unlockTime",
    "until",
    "pulse",
    "slot",
    "mode",
    "by",
    "commandId",
    "notAfter",
    "reason",
];

/// The state that a job should bring each door to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobGoal {
    /// `lockDoor`, or a mode that locks: closed, locked and proven.
    Secured {
        /// Whether a locked door without proof counts.
        accept_unproven: bool,
    },
    /// `unlockDoor`, or mode passage: released.
    Released,
    /// Any other method: a success status.
    Answered,
    /// A changed twin.
    Changed,
}

/// Progress of a door towards the goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Progress {
    /// Not called yet, or no answer yet.
    Waiting,
    Reached,
    /// The door accepted and will act when it can (202).
    Accepted,
    Failed,
}

/// One door of a job.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OutcomeRow {
    pub(crate) door: String,
    /// Status in the hub's job record.
    pub(crate) status: DeviceJobStatus,
    pub(crate) progress: Progress,
    /// Status of the door's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) method_status: Option<i32>,
    /// State in the door's answer.
    #[serde(flatten)]
    pub(crate) state: ReportedStatus,
    /// The outcome for a person.
    pub(crate) outcome: String,
    /// Of a staged job: what became of the entry at the door.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timed: Option<&'static str>,
    /// When the entry began to speak, by the door's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<Timestamp>,
    /// Start and end in the hub's job record.
    #[serde(skip)]
    pub(crate) record_times: [Option<Timestamp>; 2],
}

/// Number of doors by progress.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Tally {
    pub(crate) doors: usize,
    pub(crate) reached: usize,
    pub(crate) accepted: usize,
    pub(crate) failed: usize,
    pub(crate) waiting: usize,
}

impl JobGoal {
    /// The goal of an existing job.
    pub(crate) fn of(job: &JobResponse, accept_unproven: bool) -> Self {
        let call = job.cloud_to_device_method.as_ref();
        call.map_or(Self::Changed, |call| Self::of_call(call, accept_unproven))
    }

    pub(crate) fn of_call(call: &MethodRequest, accept_unproven: bool) -> Self {
        door_command(call).map_or(Self::Answered, |command| {
            Self::of_command(&command, accept_unproven)
        })
    }

    pub(crate) fn of_command(command: &Command, accept_unproven: bool) -> Self {
        match command.goal() {
            Goal::Secured => Self::Secured { accept_unproven },
            Goal::Released => Self::Released,
            Goal::Answered => Self::Answered,
        }
    }

    /// The goal of what the hub's records of a job show: a job that stages a lock changes twins.
    pub(crate) fn of_answers(self, job: &JobResponse) -> Self {
        match job.update_twin {
            Some(_) => Self::Changed,
            None => self,
        }
    }

    /// The word for doors that reached the goal.
    pub(crate) fn reached(self) -> &'static str {
        match self {
            Self::Secured { .. } => "secured",
            Self::Released => "released",
            Self::Answered => "done",
            Self::Changed => "changed",
        }
    }

    /// Whether a state of a door is the goal.
    pub(crate) fn is_reached_by(self, state: &ReportedStatus) -> bool {
        match self {
            Self::Secured { accept_unproven } => match state.secured {
                Word::Known(Secured::Secured) => true,
                Word::Known(Secured::Unknown) => {
                    accept_unproven && state.lock_state == LockState::Locked
                }
                _ => false,
            },
            Self::Released => state.lock_state == LockState::Unlocked,
            Self::Answered | Self::Changed => true,
        }
    }
}

/// The command of a call, without members that this version does not accept: the call may be one
/// of a newer doorctl, or for another device.
pub(crate) fn door_command(call: &MethodRequest) -> Option<Command> {
    let mut members = known_members(call);
    loop {
        let payload = serde_json::to_vec(&members).ok()?;
        match Command::parse(call.method_name().as_str(), &payload) {
            Ok(command) => return Some(command),
            Err(reply) => members.shift_remove(reply.body.field?.as_str())?,
        };
    }
}

/// The members of a call's payload that some command accepts.
fn known_members(call: &MethodRequest) -> Map<String, Value> {
    let text = call.payload().map_or("null", RawValue::get);
    let mut payload: Value = serde_json::from_str(text).unwrap_or_default();
    if let Value::String(text) = &payload {
        payload = serde_json::from_str(text).unwrap_or_default();
    }
    let mut members = match payload {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    members.retain(|name, _| MEMBERS.contains(&name.as_str()));
    members
}

impl OutcomeRow {
    /// Judges the hub's record of a door.
    pub(crate) fn new(record: &DeviceJob, goal: JobGoal) -> Self {
        let answer = record
            .outcome
            .as_ref()
            .and_then(|outcome| outcome.device_method_response.as_ref());
        let body: Value = answer
            .and_then(|answer| answer.payload.as_ref())
            .and_then(|payload| serde_json::from_str(payload.get()).ok())
            .unwrap_or_default();
        let state = ReportedStatus::read(&body);
        let (progress, outcome) = match (record.status, answer) {
            (DeviceJobStatus::Completed, Some(answer)) => {
                judge_answer(answer.status, &body, &state, goal)
            }
            (DeviceJobStatus::Completed, None) => (Progress::Reached, goal.reached().to_owned()),
            (DeviceJobStatus::Failed, _) => (Progress::Failed, failure_text(record)),
            (DeviceJobStatus::Canceled, _) => (Progress::Failed, "cancelled".to_owned()),
            (status, _) => (Progress::Waiting, status.to_string()),
        };
        Self {
            door: record.device_id.to_string(),
            status: record.status,
            progress,
            method_status: answer.map(|answer| answer.status),
            state,
            outcome,
            timed: None,
            at: None,
            record_times: [record.start_time_utc, record.end_time_utc],
        }
    }
}

impl Row for OutcomeRow {
    const LEAST_IMPORTANT: &'static [&'static str] = &["proof", "doorState", "lockState"];

    fn titles() -> Vec<&'static str> {
        let mut titles = vec!["door"];
        titles.extend(LOCK_TITLES);
        titles.push("outcome");
        titles
    }

    fn cell(&self, title: &str, member: &Value) -> Cell {
        match title {
            "outcome" => Cell::toned(&self.outcome, self.progress.tone()),
            _ => self.state.cell(title, member, None),
        }
    }
}

impl Progress {
    /// Colour of the outcome.
    pub(crate) fn tone(self) -> Tone {
        match self {
            Self::Waiting => Tone::Plain,
            Self::Reached => Tone::Good,
            Self::Accepted => Tone::Doubtful,
            Self::Failed => Tone::Bad,
        }
    }
}

impl Tally {
    pub(crate) fn of(rows: &[OutcomeRow]) -> Self {
        let count = |progress| rows.iter().filter(|row| row.progress == progress).count();
        Self {
            doors: rows.len(),
            reached: count(Progress::Reached),
            accepted: count(Progress::Accepted),
            failed: count(Progress::Failed),
            waiting: count(Progress::Waiting),
        }
    }

    /// For example `4 secured, 1 accepted, 1 failed`.
    pub(crate) fn summary(&self, goal: JobGoal) -> String {
        let mut parts = vec![format!("{} {}", self.reached, goal.reached())];
        for (count, word) in [
            (self.accepted, "accepted"),
            (self.failed, "failed"),
            (self.waiting, "waiting"),
        ] {
            if count > 0 {
                parts.push(format!("{count} {word}"));
            }
        }
        parts.join(", ")
    }
}

/// Exit status of a job: all doors reached the goal, all refused, or neither. Without doors it is
/// incomplete.
pub(crate) fn verdict(rows: &[OutcomeRow]) -> ExitStatus {
    let refused = |row: &OutcomeRow| row.method_status == Some(REFUSED_STATUS);
    if rows.is_empty() {
        ExitStatus::Incomplete
    } else if rows.iter().all(|row| row.progress == Progress::Reached) {
        ExitStatus::Success
    } else if rows.iter().all(refused) {
        ExitStatus::Refused
    } else {
        ExitStatus::Incomplete
    }
}

/// Judges a door's answer (status table of the door's methods).
fn judge_answer(
    status: i32,
    body: &Value,
    state: &ReportedStatus,
    goal: JobGoal,
) -> (Progress, String) {
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    // A mode below a lockdown is set, and does not act before the lockdown ends.
    let is_held = text("Response").is_some_and(|text| text.starts_with("setMode "))
        && body.get("heldBy").is_some_and(|held| !held.is_null());
    match status {
        200..=299
            if goal.is_reached_by(state)
                && (status != 202 || (goal == JobGoal::Answered && !is_held)) =>
        {
            (Progress::Reached, goal.reached().to_owned())
        }
        // A device that answers success without a state is not one of our doors: accepted for an
        // unlock, but no proof of a lock.
        200 if state == &ReportedStatus::default() && goal == JobGoal::Released => {
            (Progress::Reached, goal.reached().to_owned())
        }
        202 if goal.is_reached_by(state) && !is_held => {
            (Progress::Reached, format!("{}, unproven", goal.reached()))
        }
        200..=299 => (
            Progress::Accepted,
            format!("accepted ({status}): {}", pending_reason(body, state)),
        ),
        _ => {
            let (code, sentence) = (text("error"), text("Response").map(reason));
            let (word, reason) = match status {
                // The code of a refusal only repeats the status.
                400..=499 => ("refused", sentence.or(code)),
                _ => ("failed", code.or(sentence)),
            };
            let reason = reason.unwrap_or("no reason given");
            (Progress::Failed, format!("{word} ({status}): {reason}"))
        }
    }
}

/// The reason in a door's sentence, without its method: `unlockDoor is refused: REASON`.
fn reason(sentence: &str) -> &str {
    let reason = sentence.split_once(" is refused: ");
    reason.map_or(sentence, |(_, reason)| reason)
}

fn pending_reason(body: &Value, state: &ReportedStatus) -> String {
    let slot = body.get("heldBy").and_then(|held| held.get("slot"));
    match slot {
        Some(slot) => format!("held by slot {slot}"),
        None if state.door_state == DoorState::Open => "door open".to_owned(),
        None if state.secured == Secured::Unknown => "no sensor proves it".to_owned(),
        None if state.secured == Word::default() => "the answer has no lock state".to_owned(),
        None => format!("{}, {}", state.lock_state, state.secured),
    }
}

fn failure_text(record: &DeviceJob) -> String {
    match &record.error {
        Some(error) if error.description.is_empty() => error.code.clone(),
        Some(error) => format!("{}: {}", error.code, error.description),
        None => "failed".to_owned(),
    }
}

#[cfg(test)]
mod tests;

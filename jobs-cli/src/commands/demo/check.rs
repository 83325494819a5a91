//! Compares the actual states with the expected ones.

use std::collections::BTreeMap;
use std::fmt;

use door_core::contract::{DoorState, LockState, Proof, Secured};
use iothub_protocol::job::JobResponse;
use iothub_protocol::twin::{ConnectionState, Twin};

use super::doors::{DemoDoor, DemoDoors, Scenario};
use crate::door::ReportedStatus;
use crate::outcome::{OutcomeRow, Progress};

/// A failed check.
#[derive(Debug)]
pub(super) struct Problem(String);

impl Problem {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks the hub's counts of the job.
pub(super) fn check_statistics(demo: &DemoDoors, job: &JobResponse, problems: &mut Vec<Problem>) {
    let doors = demo.of_locked_floor().count() as u64;
    let counts = job.device_job_statistics.unwrap_or_default();
    // All but the offline door answer, with whatever status.
    let expected = (doors, doors - 1, 1);
    let actual = (
        counts.device_count,
        counts.succeeded_count,
        counts.failed_count,
    );
    if actual != expected {
        problems.push(Problem::new(format!(
            "the hub counts {} doors, {} succeeded, {} failed; expected {}, {}, {}",
            actual.0, actual.1, actual.2, expected.0, expected.1, expected.2
        )));
    }
}

/// Checks the job's record of a door.
pub(super) fn check_outcome(door: &DemoDoor, row: Option<&OutcomeRow>) -> Option<Problem> {
    let Some(row) = row else {
        return Some(Problem::new(format!(
            "{} has no record in the job",
            door.id
        )));
    };
    let expected = match door.scenario {
        Scenario::Offline => {
            row.progress == Progress::Failed && row.outcome.starts_with("DeviceNotOnline")
        }
        Scenario::Open => {
            row.method_status == Some(202)
                && row.state.door_state == DoorState::Open
                && row.state.secured == Secured::Unsecured
        }
        // A door with a fault must not pass.
        _ => {
            row.method_status == Some(200)
                && row.progress == Progress::Reached
                && row.state.proof == Proof::Bond
        }
    };
    (!expected).then(|| Problem::new(format!("{}: {}", door.id, row.outcome)))
}

/// Checks what a door reports after the lock.
pub(super) fn check_report(door: &DemoDoor, twins: &BTreeMap<String, Twin>) -> Option<Problem> {
    let Some(twin) = twins.get(door.id.as_str()) else {
        return Some(Problem::new(format!("the hub has no twin of {}", door.id)));
    };
    let ReportedStatus {
        lock_state,
        door_state,
        secured,
        proof,
    } = ReportedStatus::reported(twin);
    let expected = match door.scenario {
        Scenario::Locks => {
            lock_state == LockState::Locked
                && door_state == DoorState::Closed
                && secured == Secured::Secured
                && proof == Proof::Bond
        }
        Scenario::Open => door_state == DoorState::Open && secured == Secured::Unsecured,
        Scenario::Bystander => lock_state == LockState::Unlocked && door_state == DoorState::Closed,
        Scenario::Jams => lock_state == LockState::Jammed,
        // Its last report is of no interest.
        Scenario::Offline => twin.connection_state == ConnectionState::Disconnected,
    };
    (!expected).then(|| {
        Problem::new(format!(
            "{} reports: lock {lock_state}, door {door_state}, {secured}, proof {proof}",
            door.id
        ))
    })
}

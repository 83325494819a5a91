//! Waits until doors have acknowledged their desired properties.

use std::time::Duration;

use iothub_client::{ClientError, HubClient};
use iothub_protocol::DeviceId;
use iothub_protocol::job::JobResponse;
use iothub_protocol::twin::{ConnectionState, Object, Twin};
use tokio::time::Instant;

use super::job_wait;
use super::many;
use super::staged::{Awaited, StagedEntry};
use crate::acknowledgement::{
    AckState, PropertyAck, keys_without_ack, misspelled_keys, property_acks,
};
use crate::exit_status::ExitStatus;
use crate::outcome::{JobGoal, OutcomeRow, Progress};
use crate::printer::{Printer, printable};
use crate::session::Session;

/// Poll intervals for few and for many doors; many are read by queries, of which Azure allows 20 a
/// minute.
const POLL_INTERVAL: Duration = Duration::from_millis(400);
const POLL_INTERVAL_FOR_MANY: Duration = Duration::from_secs(4);

/// Up to this many doors are read one by one, because Azure's queries lag behind.
const MAX_SINGLE_READS: usize = 10;

/// Warns of keys that are probably misspelled.
pub(super) fn warn_of_misspelled_keys(patch: Option<&Object>, printer: &Printer) {
    for text in patch.into_iter().flat_map(misspelled_keys) {
        printer.warn(printable(&text));
    }
}

/// Waits for one door's acknowledgement of its changed desired properties, and reports it.
pub(super) async fn wait_for_door(
    twin: &Twin,
    patch: Option<&Object>,
    within: Duration,
    session: &Session,
) -> anyhow::Result<ExitStatus> {
    let Some(patch) = patch else {
        return Ok(ExitStatus::Success);
    };
    let ends_at = Instant::now() + within;
    let mut twin = twin.clone();
    while is_waiting(&twin, patch) && Instant::now() < ends_at {
        tokio::select! {
            () = tokio::time::sleep_until(ends_at.min(Instant::now() + POLL_INTERVAL)) => {}
            _ = tokio::signal::ctrl_c() => return Ok(ExitStatus::Interrupted),
        }
        twin = session.hub.twin(&twin.device_id).await?;
    }
    let (progress, text) = outcome(&twin, patch);
    session
        .printer
        .say(printable(&format!("{}: {text}", twin.device_id)));
    Ok(match progress {
        Progress::Failed => ExitStatus::Incomplete,
        // The caller asked not to wait.
        Progress::Accepted if within.is_zero() => ExitStatus::Success,
        Progress::Accepted => ExitStatus::Deadline,
        _ => ExitStatus::Success,
    })
}

/// Waits for the doors of a finished twin job, and stores in each row whether the door acknowledged
/// the change; of a staged job, how far it is towards `goal`.
pub(super) async fn wait_for_job(
    job: &JobResponse,
    rows: &mut [OutcomeRow],
    goal: JobGoal,
    ends_at: Instant,
    session: &Session,
) -> Result<(), ClientError> {
    if let Some(staged) = StagedEntry::of(job).filter(|_| goal != JobGoal::Changed) {
        let judged = staged.judge(rows, goal, Awaited::Result, ends_at, session);
        return judged.await.map(drop);
    }
    let patch = job.update_twin.as_ref();
    match patch.and_then(|patch| patch.desired.values()) {
        Some(patch) if !patch.is_empty() => wait_for_rows(rows, patch, ends_at, &session.hub).await,
        _ => Ok(()),
    }
}

async fn wait_for_rows(
    rows: &mut [OutcomeRow],
    patch: &Object,
    ends_at: Instant,
    hub: &HubClient,
) -> Result<(), ClientError> {
    let mut waiting: Vec<DeviceId> = rows
        .iter()
        .filter(|row| row.progress == Progress::Reached)
        .filter_map(|row| row.door.parse().ok())
        .collect();
    loop {
        let mut still_waiting = Vec::new();
        for twin in read(&waiting, hub).await? {
            if is_waiting(&twin, patch) {
                still_waiting.push(twin.device_id.clone());
            }
            let name = twin.device_id.as_str();
            if let Some(row) = rows.iter_mut().find(|row| row.door == name) {
                (row.progress, row.outcome) = outcome(&twin, patch);
            }
        }
        if still_waiting.is_empty() || Instant::now() >= ends_at {
            return Ok(());
        }
        waiting = still_waiting;
        pause(waiting.len(), ends_at).await;
    }
}

/// Waits before this number of doors is read again.
pub(super) async fn pause(doors: usize, ends_at: Instant) {
    let wait = match doors > MAX_SINGLE_READS {
        true => POLL_INTERVAL_FOR_MANY,
        false => POLL_INTERVAL,
    };
    tokio::time::sleep_until(ends_at.min(Instant::now() + wait)).await;
}

/// Reads the twins of these doors; a door that was removed has none.
pub(super) async fn read(doors: &[DeviceId], hub: &HubClient) -> Result<Vec<Twin>, ClientError> {
    if doors.len() > MAX_SINGLE_READS {
        return job_wait::twins_of(hub, doors).await;
    }
    let names = doors.iter().map(|door| (door.clone(), ()));
    let read = many::for_each_door(
        names,
        hub,
        |hub, name, ()| async move { hub.twin(&name).await },
    );
    let mut twins = Vec::new();
    for (_, twin) in read.await {
        match twin {
            Ok(twin) => twins.push(twin),
            Err(error) if error.status() == Some(404) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(twins)
}

/// Whether an acknowledgement may arrive soon: an offline door reads its desired properties when it
/// reconnects.
fn is_waiting(twin: &Twin, patch: &Object) -> bool {
    let pending = |ack: &PropertyAck| ack.state == AckState::Pending;
    twin.connection_state == ConnectionState::Connected
        && property_acks(twin, Some(patch)).iter().any(pending)
}

/// Progress of a change, and its description.
fn outcome(twin: &Twin, patch: &Object) -> (Progress, String) {
    let acks = property_acks(twin, Some(patch));
    let any = |of: fn(&AckState) -> bool| acks.iter().any(|ack| of(&ack.state));
    let (refused, pending) = (
        any(|state| matches!(state, AckState::Refused(_))),
        any(|state| *state == AckState::Pending),
    );
    let mut parts: Vec<String> = acks.iter().map(PropertyAck::describe).collect();
    let stored = keys_without_ack(patch, twin);
    if !stored.is_empty() {
        let verb = if stored.len() == 1 { "is" } else { "are" };
        parts.push(format!(
            "{} {verb} stored, but this door does not acknowledge it",
            stored.join(", ")
        ));
    }
    let progress = match (refused, pending) {
        (true, _) => Progress::Failed,
        (false, true) => Progress::Accepted,
        (false, false) => Progress::Reached,
    };
    if pending && twin.connection_state == ConnectionState::Disconnected {
        parts.push("the door is offline and reads this when it connects".to_owned());
    }
    (progress, parts.join("; "))
}

//! `doorctl jobs cancel`.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use iothub_protocol::job::{JobAction, JobRequest, JobResponse, JobStatus};
use iothub_protocol::twin::{ConnectionState, Twin};
use iothub_protocol::{DeviceId, ErrorCode, JobId};
use serde::Serialize;
use tokio::time::Instant;

use super::retry::STAGED_CONNECT_TIMEOUT;
use crate::commands::job_draft::MAX_EXECUTION;
use crate::commands::job_follow::{self, GRACE_POLLS, PollIntervals};
use crate::commands::job_group::{JobGroup, lookup};
use crate::commands::job_report::explain_job;
use crate::commands::staged::StagedEntry;
use crate::commands::{acknowledge, many, method_call};
use crate::door::DoorName;
use crate::exit_status::ExitStatus;
use crate::failure::{Failure, next_step, sentence};
use crate::printer::{Format, doors, first_names};
use crate::session::Session;

/// How long connected doors may take to drop a timed entry.
const DISARMED_WITHIN: Duration = Duration::from_secs(30);

/// Start of a job that reserves the id of a call: time enough to cancel it.
const RESERVED_START: Duration = Duration::from_secs(60);

/// Doors that are named in a line; the others are counted.
const MAX_NAMES_SHOWN: usize = 20;

/// A cancelled job that was staged, as `-o json` prints it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StagedCancel<'a> {
    job_id: &'a JobId,
    status: JobStatus,
    disarmed: usize,
    still_armed: &'a [String],
}

/// What became of the entry of a job at its doors.
struct Disarmed {
    /// The doors to which it was sent.
    doors: usize,
    had_entry: bool,
    still_armed: Vec<String>,
}

/// Cancels a job, even while it runs.
pub(super) async fn cancel(id: &JobId, session: &Session) -> anyhow::Result<ExitStatus> {
    let mut group = JobGroup::find(id, session).await?;
    if group.staged.is_none() {
        let cancelled = cancel_parts(&group, session).await;
        if group.leaves_out_entry() {
            // Another terminal may have created the job that stages. If it does so from now on, it
            // finds the call cancelled.
            group = JobGroup::find(&group.id, session).await?;
        }
        if group.staged.is_none() {
            return cancelled;
        }
    }
    let (id, status) = (&group.id, group.status(session.hub.now()));
    let staged = group.staged.as_ref().context("the job is staged")?;
    if staged.is_over(session.hub.now()) {
        return Err(over_error(id, JobStatus::Completed).into());
    }
    let mut failures = Vec::new();
    // The calls first: until its start, one is for all doors without the entry.
    for job in group.calls().filter(|job| !job.status.is_over()) {
        let stopped = stop(&job.job_id, session).await;
        failures.extend(stopped.context("the staged doors keep their entry")?);
    }
    for job in group.stages().filter(|job| !job.status.is_over()) {
        // Azure IoT Hub cannot stop it: its end counts.
        drop(stop(&job.job_id, session).await);
        let ended = job_follow::until_over(&mut job.clone(), None, &session.hub).await;
        failures.extend(ended.err().map(Into::into));
    }
    if group.jobs.iter().all(|job| job.job_id != *id) && group.calls().next().is_none() {
        let reserved = reserve_call_id(id, staged, session).await;
        failures.extend(reserved.unwrap_or_else(Some));
    }
    let disarmed = disarm(&group, staged, session).await;
    let disarmed = disarmed.context("the doors may still have the entry");
    if status == JobStatus::Cancelled && matches!(&disarmed, Ok(disarmed) if !disarmed.had_entry) {
        let error = over_error(id, JobStatus::Cancelled);
        return conclude(id, Err(error.into()), failures);
    }
    let status = match failures.is_empty() {
        true => JobStatus::Cancelled,
        false => group.status(session.hub.now()),
    };
    let reported = disarmed.and_then(|disarmed| report_disarmed(id, status, &disarmed, session));
    conclude(id, reported, failures)
}

/// Cancels each job of a group that is not staged.
async fn cancel_parts(group: &JobGroup, session: &Session) -> anyhow::Result<ExitStatus> {
    let active = group.jobs.iter().filter(|job| !job.status.is_over());
    let active: Vec<&JobResponse> = active.collect();
    let mut reported = Err(over_error(&group.id, group.status(session.hub.now())).into());
    let mut failures = Vec::new();
    for job in active {
        match cancel_one(&job.job_id, session).await {
            Ok((job, status)) => {
                if session.printer.format() != Format::Table {
                    session.printer.document(&job)?;
                }
                reported = match reported {
                    Ok(before) if before != ExitStatus::Success => Ok(before),
                    _ => Ok(status),
                };
            }
            Err(error) => failures.push(error),
        }
    }
    if reported.is_err() && !failures.is_empty() {
        reported = Err(failures.remove(0));
    }
    conclude(&group.id, reported, failures)
}

/// The result of a cancellation of which a part may have failed.
fn conclude(
    id: &JobId,
    reported: anyhow::Result<ExitStatus>,
    mut failures: Vec<anyhow::Error>,
) -> anyhow::Result<ExitStatus> {
    if failures.is_empty() {
        return reported;
    }
    failures.extend(reported.err());
    let next = failures.iter().find_map(next_step);
    let failures: Vec<String> = failures.iter().map(sentence).collect();
    let failures = failures.join("; ");
    let failure = Failure::new(format!("job {id} is not cancelled completely: {failures}"))
        .next(next.unwrap_or_else(|| format!("doorctl jobs show {id}")))
        .status(ExitStatus::Incomplete);
    Err(failure.into())
}

/// Cancels a job that may end meanwhile; returns why, if it runs on.
///
/// # Errors
///
/// When the job may still start.
async fn stop(id: &JobId, session: &Session) -> anyhow::Result<Option<anyhow::Error>> {
    let Err(error) = cancel_one(id, session).await else {
        return Ok(None);
    };
    match session.hub.job(id).await.map(|job| job.status) {
        Ok(JobStatus::Running) => Ok(Some(error)),
        Ok(status) if status.is_over() => Ok(None),
        _ => Err(error),
    }
}

/// Uses the id of the call for a job that matches no door: on Azure IoT Hub another terminal may be
/// about to create the call, as it does so only after the staging.
async fn reserve_call_id(
    id: &JobId,
    staged: &StagedEntry,
    session: &Session,
) -> anyhow::Result<Option<anyhow::Error>> {
    let start = session.hub.now().checked_add(RESERVED_START)?;
    let call = method_call::door_call(&staged.command(start)?, STAGED_CONNECT_TIMEOUT, None)?;
    let with_entry = staged.condition();
    let request = JobRequest {
        job_id: Some(id.clone()),
        action: JobAction::Method(call),
        query_condition: format!("{with_entry} AND NOT {with_entry}"),
        start_time: Some(start),
        max_execution_time: MAX_EXECUTION,
    };
    match session.hub.job_create(id, &request).await {
        // The active job is the call, or the hub does not create the call either.
        Err(error) if error.code() == Some(ErrorCode::ThrottlingMaxActiveJobCountExceeded) => {
            match lookup(id.as_str(), &session.hub).await? {
                Some(_) => stop(id, session).await,
                None => Ok(None),
            }
        }
        Err(error) if error.code() != Some(ErrorCode::JobAlreadyExists) => Err(error.into()),
        _ => stop(id, session).await,
    }
}

/// Takes the entry from all doors, and waits until the connected ones have dropped it.
async fn disarm(
    group: &JobGroup,
    staged: &StagedEntry,
    session: &Session,
) -> anyhow::Result<Disarmed> {
    // Azure's records and queries lag behind each other.
    let query = format!("SELECT deviceId FROM devices WHERE {}", staged.condition());
    let found: Vec<DoorName> = session.hub.query(&query).await?;
    let mut names: BTreeSet<DeviceId> = found.into_iter().map(|door| door.device_id).collect();
    for job in group.stages() {
        let records = session.hub.device_jobs(&job.job_id).await?;
        names.extend(records.into_iter().map(|record| record.device_id));
    }
    let doors = names.len();
    let mut armed: Vec<DeviceId> = names.into_iter().collect();
    let mut had_entry = false;
    let mut ends_at: Option<Instant> = None;
    let offline = loop {
        let twins = acknowledge::read(&armed, &session.hub).await?;
        let armed_twins = twins
            .into_iter()
            .filter(|twin| staged.is_desired(twin) || staged.is_reported(twin));
        let twins: Vec<Twin> = armed_twins.collect();
        had_entry |= !twins.is_empty();
        let desired = twins.iter().filter(|twin| staged.is_desired(twin));
        let patch = staged.patch(false);
        let changes = desired
            .map(|twin| (twin.device_id.clone(), patch.clone()))
            .collect();
        let removed = many::for_each_counted(
            changes,
            "taking the entry",
            session,
            |hub, door, patch| async move { hub.twin_patch(&door, &patch, None).await },
        );
        let mut is_changed = false;
        for (_, removed) in removed.await {
            is_changed = true;
            match removed {
                Err(error) if error.code() == Some(ErrorCode::DeviceNotFound) => {}
                Err(error) if !error.is_transient() => return Err(error.into()),
                _ => {}
            }
        }
        let is_online = |twin: &Twin| twin.connection_state != ConnectionState::Disconnected;
        // Counted from the first changes; what was just changed is read again.
        let ends_at = *ends_at.get_or_insert_with(|| Instant::now() + DISARMED_WITHIN);
        let left = ends_at.checked_duration_since(Instant::now());
        let is_over = match is_changed {
            true => Instant::now() >= ends_at + DISARMED_WITHIN,
            false => left.is_none() || !twins.iter().any(is_online),
        };
        armed = twins.into_iter().map(|twin| twin.device_id).collect();
        if is_over {
            break armed;
        }
        acknowledge::pause(armed.len(), ends_at + DISARMED_WITHIN).await;
    };
    Ok(Disarmed {
        doors,
        had_entry,
        still_armed: offline.iter().map(ToString::to_string).collect(),
    })
}

/// Prints what became of the entry, and names the doors that still have it.
fn report_disarmed(
    id: &JobId,
    status: JobStatus,
    disarmed: &Disarmed,
    session: &Session,
) -> anyhow::Result<ExitStatus> {
    let (printer, still_armed) = (&session.printer, &disarmed.still_armed);
    let disarmed = disarmed.doors - still_armed.len();
    printer.say(format!(
        "job {id} is {status}: {} without its entry now",
        doors(disarmed as u64)
    ));
    if printer.format() != Format::Table {
        printer.document(&StagedCancel {
            job_id: id,
            status,
            disarmed,
            still_armed,
        })?;
    }
    if still_armed.is_empty() {
        return Ok(ExitStatus::Success);
    }
    printer.warn(format!(
        "still armed: {}; offline doors drop the entry when they connect; to look again: doorctl \
         jobs cancel {id}",
        first_names(still_armed, MAX_NAMES_SHOWN)
    ));
    Ok(ExitStatus::Incomplete)
}

async fn cancel_one(id: &JobId, session: &Session) -> anyhow::Result<(JobResponse, ExitStatus)> {
    let refused = ErrorCode::OperationNotAllowedInCurrentState;
    let error = match session.hub.job_cancel(id).await {
        Ok(job) => return cancelled(job, session).await,
        Err(error) if error.code() == Some(refused) => error,
        Err(error) => return Err(explain_job(session, id, error).await),
    };
    let status = session.hub.job(id).await?.status;
    if status.is_over() {
        return Err(over_error(id, status).into());
    }
    // It has started: Azure refuses that, and door-hub has an operation of its own for it.
    if !session.hub.is_door_hub().await? {
        return Err(Failure::new(format!(
            "job {id} is {status}, and Azure IoT Hub cancels a job only before its start: {error}"
        ))
        .next(format!(
            "wait for its end: doorctl jobs wait {id}; then undo it: doorctl jobs method relinquish"
        ))
        .status(ExitStatus::Refused)
        .into());
    }
    match session.hub.door_hub_job_stop(id).await {
        Ok(job) => Ok(report(job, session)),
        // It has ended meanwhile.
        Err(error) if error.code() == Some(refused) => {
            let status = session.hub.job(id).await?.status;
            Err(over_error(id, status).into())
        }
        Err(error) => Err(explain_job(session, id, error).await),
    }
}

/// Waits until the hub shows a cancellation that it accepted; Azure does a moment later.
async fn cancelled(
    mut job: JobResponse,
    session: &Session,
) -> anyhow::Result<(JobResponse, ExitStatus)> {
    let ends_at = Instant::now() + PollIntervals::REMOTE.tick * GRACE_POLLS;
    job_follow::until_over(&mut job, Some(ends_at), &session.hub).await?;
    if job.status.is_over() {
        return Ok(report(job, session));
    }
    let id = &job.job_id;
    session.printer.say(format!(
        "job {id} is {}: the hub accepted the cancellation but does not show it yet; check again: \
         doorctl jobs show {id}",
        job.status
    ));
    Ok((job, ExitStatus::Deadline))
}

/// Prints the result of a cancellation.
fn report(job: JobResponse, session: &Session) -> (JobResponse, ExitStatus) {
    let id = &job.job_id;
    let (text, status) = match job.status {
        JobStatus::Cancelled => (
            "no door will be called by it".to_owned(),
            ExitStatus::Success,
        ),
        JobStatus::Running => (
            format!(
                "it makes no more calls; answers to calls already sent are still recorded: doorctl \
                 jobs watch {id}"
            ),
            ExitStatus::Success,
        ),
        _ => (
            format!("it ended before it was cancelled: doorctl jobs show {id}"),
            ExitStatus::Refused,
        ),
    };
    session
        .printer
        .say(format!("job {id} is {}: {text}", job.status));
    (job, status)
}

fn over_error(id: &JobId, status: JobStatus) -> Failure {
    Failure::new(format!("job {id} is {status}: there is nothing to cancel"))
        .next(format!(
            "doorctl jobs show {id}; to undo a lock that was carried out: doorctl jobs method \
             relinquish"
        ))
        .status(ExitStatus::Refused)
}

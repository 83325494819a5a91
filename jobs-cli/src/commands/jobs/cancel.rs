//! `doorctl jobs cancel`.

use std::collections::BTreeSet;
use std::time::Duration;

use iothub_protocol::job::{JobResponse, JobStatus};
use iothub_protocol::twin::{ConnectionState, Twin};
use iothub_protocol::{DeviceId, ErrorCode, JobId};
use serde::Serialize;
use tokio::time::Instant;

use crate::commands::job_follow::{self, GRACE_POLLS, PollIntervals};
use crate::commands::job_group::JobGroup;
use crate::commands::job_report::explain_job;
use crate::commands::staged::StagedEntry;
use crate::commands::{acknowledge, many};
use crate::door::DoorName;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::printer::{Format, doors, first_names};
use crate::session::Session;

/// How long connected doors may take to drop a timed entry.
const DISARMED_WITHIN: Duration = Duration::from_secs(30);

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

/// Cancels a job, even while it runs.
pub(super) async fn cancel(id: &JobId, session: &Session) -> anyhow::Result<ExitStatus> {
    let group = JobGroup::find(id, session).await?;
    let Some(staged) = &group.staged else {
        let mut status = ExitStatus::Success;
        for job in &group.jobs {
            let (job, cancelled) = cancel_one(&job.job_id, session).await?;
            if session.printer.format() != Format::Table {
                session.printer.document(&job)?;
            }
            status = cancelled;
        }
        return Ok(status);
    };
    let (id, now) = (&group.id, session.hub.now());
    if staged.is_over(now) {
        return Err(over_error(id, JobStatus::Completed).into());
    }
    // The calls first: they are for all doors without the entry.
    for job in group.calls().filter(|job| !job.status.is_over()) {
        stop(&job.job_id, session).await?;
    }
    for job in group.stages().filter(|job| !job.status.is_over()) {
        // Azure IoT Hub cannot stop it.
        if session.hub.is_door_hub().await? {
            stop(&job.job_id, session).await?;
        }
        job_follow::until_over(&mut job.clone(), None, &session.hub).await?;
    }
    let status = disarm(&group, staged, session).await;
    // A call that another terminal was creating meanwhile.
    if let Some(group) = JobGroup::try_find(id, &session.hub).await? {
        for job in group.calls().filter(|job| !job.status.is_over()) {
            stop(&job.job_id, session).await?;
        }
    }
    status
}

/// Cancels a job that may end meanwhile.
async fn stop(id: &JobId, session: &Session) -> anyhow::Result<()> {
    match cancel_one(id, session).await {
        Err(error) if !session.hub.job(id).await?.status.is_over() => Err(error),
        _ => Ok(()),
    }
}

/// Takes the entry from all doors, and names those that still have it.
async fn disarm(
    group: &JobGroup,
    staged: &StagedEntry,
    session: &Session,
) -> anyhow::Result<ExitStatus> {
    let (id, printer) = (&group.id, &session.printer);
    // Azure's records and queries lag behind each other.
    let query = format!("SELECT deviceId FROM devices WHERE {}", staged.condition());
    let found: Vec<DoorName> = session.hub.query(&query).await?;
    let mut names: BTreeSet<DeviceId> = found.into_iter().map(|door| door.device_id).collect();
    for job in group.stages() {
        let records = session.hub.device_jobs(&job.job_id).await?;
        names.extend(records.into_iter().map(|record| record.device_id));
    }
    let count = names.len();
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
    if !had_entry && group.status(session.hub.now()) == JobStatus::Cancelled {
        return Err(over_error(id, JobStatus::Cancelled).into());
    }
    let still_armed: Vec<String> = offline.iter().map(ToString::to_string).collect();
    let disarmed = count - still_armed.len();
    printer.say(format!(
        "job {id} is cancelled: {} without its entry now",
        doors(disarmed as u64)
    ));
    if printer.format() != Format::Table {
        printer.document(&StagedCancel {
            job_id: id,
            status: JobStatus::Cancelled,
            disarmed,
            still_armed: &still_armed,
        })?;
    }
    if still_armed.is_empty() {
        return Ok(ExitStatus::Success);
    }
    printer.warn(format!(
        "still armed: {}; offline doors drop the entry when they connect; to look again: doorctl \
         jobs cancel {id}",
        first_names(&still_armed, MAX_NAMES_SHOWN)
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
    let id = job.job_id.clone();
    for _ in 0..GRACE_POLLS {
        if job.status.is_over() {
            return Ok(report(job, session));
        }
        tokio::time::sleep(PollIntervals::REMOTE.tick).await;
        job = session.hub.job(&id).await?;
    }
    match job.status.is_over() {
        true => Ok(report(job, session)),
        false => {
            session.printer.say(format!(
                "job {id} is {}: the hub accepted the cancellation but does not show it yet; check \
                 again: doorctl jobs show {id}",
                job.status
            ));
            Ok((job, ExitStatus::Deadline))
        }
    }
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

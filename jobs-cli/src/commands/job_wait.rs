//! `doorctl jobs watch` and `doorctl jobs wait`.

use std::time::Duration;

use iothub_client::{ClientError, HubClient};
use iothub_protocol::job::JobStatus;
use iothub_protocol::twin::Twin;
use iothub_protocol::{DeviceId, JobId};
use tokio::time::Instant;

use super::job_follow::{self, FinishedJob, GRACE_POLLS, PollIntervals};
use super::job_group::{JobGroup, drop_called};
use super::job_report::{print_report, print_reports};
use super::job_view::View;
use super::staged::{self, Awaited, StagedEntry};
use super::{acknowledge, reported};
use crate::cli::twin::DEFAULT_ACK_TIMEOUT;
use crate::door::ReportedStatus;
use crate::exit_status::ExitStatus;
use crate::outcome::{self, JobGoal, OutcomeRow, Progress};
use crate::session::Session;
use crate::target;

/// Poll interval for doors that accepted; Azure allows 20 queries a minute.
const POLL_INTERVAL: Duration = Duration::from_secs(4);

/// Names in one query: well below the hub's limit.
const NAMES_IN_QUERY: usize = 50;

/// Follows a job to its end; with a deadline it also waits for the doors that accepted, until all
/// of them have reached the wanted state or the deadline has passed.
pub(super) async fn watch(
    id: &JobId,
    deadline: Option<Duration>,
    accept_unproven: bool,
    session: &Session,
) -> anyhow::Result<ExitStatus> {
    let group = find(id, session).await?;
    let wanted = group.goal(accept_unproven);
    watch_all(&group.ids(), deadline, DEFAULT_ACK_TIMEOUT, wanted, session).await
}

/// Like [`watch`], for jobs that belong together and whose wanted state is known; reports all their
/// doors together. Without a deadline, doors whose twins were changed have `within` to acknowledge
/// the change.
pub(super) async fn watch_all(
    ids: &[JobId],
    deadline: Option<Duration>,
    within: Duration,
    wanted: JobGoal,
    session: &Session,
) -> anyhow::Result<ExitStatus> {
    let ends_at = deadline.map(|deadline| Instant::now() + deadline);
    let printer = &session.printer;
    let mut finished: Vec<FinishedJob> = Vec::new();
    let mut in_time = true;
    let mut is_staged = false;
    for id in ids {
        let mut view = View::new(printer, &session.zone);
        let followed =
            job_follow::follow(&session.hub, id, wanted, PollIntervals::REMOTE, &mut view);
        finished.push(tokio::select! {
            finished = followed => finished?,
            () = sleep_until_deadline(ends_at) => {
                drop(view);
                // It may be over: the wait was for the staged doors.
                let job = session.hub.job(id).await?;
                if !job.status.is_over() {
                    let seconds = deadline.unwrap_or_default().as_secs();
                    printer.warn(format!(
                        "job {id} is not over, and the deadline of {seconds} s has passed"
                    ));
                    return Ok(ExitStatus::Deadline);
                }
                let rows = job_follow::rows(&session.hub, &job, wanted).await?;
                FinishedJob { job, rows }
            }
            _ = tokio::signal::ctrl_c() => {
                drop(view);
                return Ok(interrupted(ids, session));
            }
        });
        // The staged doors first: the calls of the others end soon after the start.
        let FinishedJob { job, rows } = finished.last_mut().expect("it was pushed");
        let Some(staged) = StagedEntry::of(job).filter(|_| wanted != JobGoal::Changed) else {
            continue;
        };
        is_staged = true;
        let (awaited, ends_at) = match ends_at {
            Some(ends_at) => (Awaited::Goal, ends_at),
            None => (Awaited::Result, staged.result_until(job, &session.hub)),
        };
        let judged = staged.judge(rows, wanted, awaited, ends_at, session);
        let twins = tokio::select! {
            twins = judged => twins?,
            _ = tokio::signal::ctrl_c() => return Ok(interrupted(ids, session)),
        };
        staged::tidy(&twins, session).await;
        let waits = |row: &OutcomeRow| {
            let may_change = row.timed != Some("over");
            may_change && matches!(row.progress, Progress::Waiting | Progress::Accepted)
        };
        in_time &= deadline.is_none() || !rows.iter().any(waits);
    }
    if let Some(ends_at) = ends_at {
        let rows = finished.iter().flat_map(|finished| &finished.rows);
        let accepted = rows.filter(|row| is_awaited(row)).count();
        if accepted > 0 {
            printer.say(format!(
                "{accepted} accepted but not done yet: waiting for them"
            ));
        }
        for FinishedJob { rows, .. } in &mut finished {
            in_time &= tokio::select! {
                reached = wait_until_reached(&session.hub, rows, wanted, ends_at) => reached?,
                _ = tokio::signal::ctrl_c() => return Ok(interrupted(ids, session)),
            };
        }
    }
    for FinishedJob { rows, .. } in &finished {
        reported::wait_for_rows(rows, &session.hub).await;
    }
    drop_called(&mut finished);
    if wanted == JobGoal::Changed {
        let ends_at = ends_at.unwrap_or_else(|| Instant::now() + within);
        for FinishedJob { job, rows } in &mut finished {
            tokio::select! {
                answered = acknowledge::wait_for_job(job, rows, wanted, ends_at, session) => answered?,
                _ = tokio::signal::ctrl_c() => return Ok(interrupted(ids, session)),
            }
        }
        let rows = || finished.iter().flat_map(|finished| &finished.rows);
        let any = |progress| rows().any(|row| row.progress == progress);
        in_time = any(Progress::Failed) || !any(Progress::Accepted);
    }
    match &finished[..] {
        [FinishedJob { job, rows }] => print_report(job, rows, wanted, printer)?,
        several => print_reports(several, wanted, printer)?,
    }
    if !in_time {
        return Ok(ExitStatus::Deadline);
    }
    // Doors that were not staged were called: the status of that job counts.
    let completed = |finished: &FinishedJob| {
        finished.job.status == JobStatus::Completed
            || is_staged && StagedEntry::of(&finished.job).is_some()
    };
    if !finished.iter().all(completed) {
        return Ok(ExitStatus::Incomplete);
    }
    let without_doors = finished
        .iter()
        .filter(|finished| finished.rows.is_empty() && !is_staged);
    let ids: Vec<&str> = without_doors
        .map(|finished| finished.job.job_id.as_str())
        .collect();
    if !ids.is_empty() {
        printer.warn(format!(
            "no door matched when {} started: nothing was done",
            ids.join(", ")
        ));
        return Ok(ExitStatus::Incomplete);
    }
    let rows: Vec<OutcomeRow> = finished
        .into_iter()
        .flat_map(|finished| finished.rows)
        .collect();
    Ok(outcome::verdict(&rows))
}

/// Resolves at `ends_at`; pends forever without one.
async fn sleep_until_deadline(ends_at: Option<Instant>) {
    match ends_at {
        Some(ends_at) => tokio::time::sleep_until(ends_at).await,
        None => std::future::pending().await,
    }
}

fn interrupted(ids: &[JobId], session: &Session) -> ExitStatus {
    session.printer.say(match ids {
        [id] => format!(
            "stopped watching; job {id} continues: doorctl jobs watch {id}, or doorctl jobs \
             cancel {id}"
        ),
        ids => {
            let ids: Vec<&str> = ids.iter().map(JobId::as_str).collect();
            format!(
                "stopped watching; jobs {} continue: doorctl jobs watch ID, or doorctl jobs \
                 cancel ID",
                ids.join(", ")
            )
        }
    });
    ExitStatus::Interrupted
}

async fn find(id: &JobId, session: &Session) -> anyhow::Result<JobGroup> {
    // Azure may not show a job that was created a moment ago.
    for _ in 1..GRACE_POLLS {
        if let Some(group) = JobGroup::try_find(id, &session.hub).await? {
            return Ok(group);
        }
        tokio::time::sleep(PollIntervals::REMOTE.tick).await;
    }
    JobGroup::find(id, session).await
}

/// Whether a door that was called accepted; one that was staged is judged by its entry.
fn is_awaited(row: &OutcomeRow) -> bool {
    row.progress == Progress::Accepted && row.timed.is_none()
}

/// Polls the reported state of the doors that accepted, until all have reached the wanted state
/// (`true`) or `ends_at` has passed (`false`).
pub(super) async fn wait_until_reached(
    hub: &HubClient,
    rows: &mut [OutcomeRow],
    wanted: JobGoal,
    ends_at: Instant,
) -> Result<bool, ClientError> {
    loop {
        let waiting: Vec<DeviceId> = rows
            .iter()
            .filter(|row| is_awaited(row))
            .filter_map(|row| row.door.parse().ok())
            .collect();
        if waiting.is_empty() {
            return Ok(true);
        }
        for twin in &twins_of(hub, &waiting).await? {
            mark_reached(rows, twin, wanted);
        }
        if !rows.iter().any(is_awaited) {
            return Ok(true);
        }
        if Instant::now() >= ends_at {
            return Ok(false);
        }
        tokio::time::sleep_until(ends_at.min(Instant::now() + POLL_INTERVAL)).await;
    }
}

/// Reads the twins of the named doors.
pub(super) async fn twins_of(
    hub: &HubClient,
    names: &[DeviceId],
) -> Result<Vec<Twin>, ClientError> {
    let mut twins = Vec::new();
    for names in names.chunks(NAMES_IN_QUERY) {
        let condition = target::names_condition(names);
        let query = format!("SELECT * FROM devices WHERE {condition}");
        twins.extend(hub.query::<Twin>(&query).await?);
    }
    Ok(twins)
}

/// Marks the door of `twin` as reached when it reports the wanted state.
pub(super) fn mark_reached(rows: &mut [OutcomeRow], twin: &Twin, wanted: JobGoal) {
    let state = ReportedStatus::reported(twin);
    if !wanted.is_reached_by(&state) {
        return;
    }
    let row = rows
        .iter_mut()
        .find(|row| row.door == twin.device_id.as_str());
    if let Some(row) = row {
        row.progress = Progress::Reached;
        row.outcome = format!("{}, after it was accepted", wanted.reached());
        row.state = state;
    }
}

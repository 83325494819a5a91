//! `doorctl jobs watch` and `doorctl jobs wait`.

use std::time::Duration;

use doorctl::{ClientError, HubClient};
use iothub_protocol::job::JobStatus;
use iothub_protocol::twin::Twin;
use iothub_protocol::{DeviceId, JobId};
use tokio::time::Instant;

use super::follow::{self, Ended, Pace};
use super::view::View;
use super::{explain_job, print_report, print_reports, verdict};
use crate::door::LockState;
use crate::exit_status::ExitStatus;
use crate::outcome::{self, OutcomeRow, Progress, Wanted};
use crate::session::Session;
use crate::target;

/// How often doors that accepted are looked at again; 20 queries a minute are Azure's limit.
const LOOK_AGAIN: Duration = Duration::from_secs(4);

/// Names in one query: well below what a hub takes.
pub(super) const NAMES_IN_QUERY: usize = 50;

/// Follows a job to its end.
pub(super) async fn watch(
    id: &JobId,
    accept_unproven: bool,
    session: &Session,
) -> anyhow::Result<ExitStatus> {
    let wanted = wanted(id, accept_unproven, session).await?;
    watch_as(id, wanted, session).await
}

/// Follows a job whose aim is known.
pub(in crate::commands) async fn watch_as(
    id: &JobId,
    wanted: Wanted,
    session: &Session,
) -> anyhow::Result<ExitStatus> {
    let mut view = View::new(&session.printer);
    let followed = follow::follow(&session.hub, id, wanted, Pace::REMOTE, &mut view);
    let ended = tokio::select! {
        ended = followed => ended,
        _ = tokio::signal::ctrl_c() => {
            drop(view);
            return Ok(interrupted(id, session));
        }
    };
    let Ended { job, rows } = ended?;
    print_report(&job, &rows, wanted, &session.printer)?;
    Ok(verdict(&job, &rows))
}

/// Follows jobs that belong together to their ends, and tells of all their doors at once.
pub(in crate::commands) async fn watch_all(
    ids: &[JobId],
    wanted: Wanted,
    session: &Session,
) -> anyhow::Result<ExitStatus> {
    if let [id] = ids {
        return watch_as(id, wanted, session).await;
    }
    let mut ended: Vec<Ended> = Vec::new();
    for id in ids {
        let mut view = View::new(&session.printer);
        let followed = follow::follow(&session.hub, id, wanted, Pace::REMOTE, &mut view);
        ended.push(tokio::select! {
            ended = followed => ended?,
            _ = tokio::signal::ctrl_c() => {
                drop(view);
                return Ok(interrupted_of(ids, session));
            }
        });
    }
    print_reports(&ended, wanted, &session.printer)?;
    let rows: Vec<OutcomeRow> = ended.iter().flat_map(|ended| ended.rows.clone()).collect();
    let completed = ended
        .iter()
        .all(|ended| ended.job.status == JobStatus::Completed);
    match completed {
        true => Ok(outcome::verdict(&rows)),
        false => Ok(ExitStatus::Incomplete),
    }
}

/// Follows a job, then the doors that accepted, until all are there or the time is up.
pub(super) async fn wait(
    id: &JobId,
    deadline: Duration,
    accept_unproven: bool,
    session: &Session,
) -> anyhow::Result<ExitStatus> {
    let wanted = wanted(id, accept_unproven, session).await?;
    wait_as(id, deadline, wanted, session).await
}

/// Like [`wait`], for a job whose aim is known.
pub(in crate::commands) async fn wait_as(
    id: &JobId,
    deadline: Duration,
    wanted: Wanted,
    session: &Session,
) -> anyhow::Result<ExitStatus> {
    let ends = Instant::now() + deadline;
    let mut view = View::new(&session.printer);
    let followed = follow::follow(&session.hub, id, wanted, Pace::REMOTE, &mut view);
    let ended = tokio::select! {
        ended = followed => ended,
        () = tokio::time::sleep_until(ends) => {
            drop(view);
            session.printer.warn(format!("job {id} is not over, and the deadline of {} s has passed", deadline.as_secs()));
            return Ok(ExitStatus::Deadline);
        }
        _ = tokio::signal::ctrl_c() => {
            drop(view);
            return Ok(interrupted(id, session));
        }
    };
    drop(view);
    let Ended { job, mut rows } = ended?;
    let accepted = rows
        .iter()
        .filter(|row| row.progress == Progress::Accepted)
        .count();
    if accepted > 0 {
        session.printer.say(format!(
            "{accepted} accepted and not there yet: waiting for them"
        ));
    }
    let all_there = tokio::select! {
        there = until_there(&session.hub, &mut rows, wanted, ends) => there?,
        _ = tokio::signal::ctrl_c() => return Ok(interrupted(id, session)),
    };
    print_report(&job, &rows, wanted, &session.printer)?;
    match all_there {
        true => Ok(verdict(&job, &rows)),
        false => Ok(ExitStatus::Deadline),
    }
}

fn interrupted_of(ids: &[JobId], session: &Session) -> ExitStatus {
    let ids: Vec<&str> = ids.iter().map(JobId::as_str).collect();
    session.printer.say(format!(
        "not watching any more; jobs {} go on without us: doorctl jobs watch ID, or doorctl jobs cancel ID",
        ids.join(", ")
    ));
    ExitStatus::Interrupted
}

fn interrupted(id: &JobId, session: &Session) -> ExitStatus {
    session.printer.say(format!(
        "not watching any more; job {id} goes on without us: doorctl jobs watch {id}, or doorctl jobs cancel {id}"
    ));
    ExitStatus::Interrupted
}

async fn wanted(id: &JobId, accept_unproven: bool, session: &Session) -> anyhow::Result<Wanted> {
    match session.hub.job(id).await {
        Ok(job) => Ok(Wanted::of(&job, accept_unproven)),
        Err(error) => Err(explain_job(session, id, error).await),
    }
}

/// Looks at what the doors that accepted report, until they are there (`true`) or the time is up.
pub(in crate::commands) async fn until_there(
    hub: &HubClient,
    rows: &mut [OutcomeRow],
    wanted: Wanted,
    ends: Instant,
) -> Result<bool, ClientError> {
    loop {
        let waiting: Vec<DeviceId> = rows
            .iter()
            .filter(|row| row.progress == Progress::Accepted)
            .filter_map(|row| row.door.parse().ok())
            .collect();
        if waiting.is_empty() {
            return Ok(true);
        }
        for names in waiting.chunks(NAMES_IN_QUERY) {
            let condition = target::any_of_these(names);
            let twins: Vec<Twin> = hub
                .query(&format!("SELECT * FROM devices WHERE {condition}"))
                .await?;
            for twin in &twins {
                arrive(rows, twin, wanted);
            }
        }
        if rows.iter().all(|row| row.progress != Progress::Accepted) {
            return Ok(true);
        }
        if Instant::now() >= ends {
            return Ok(false);
        }
        tokio::time::sleep_until(ends.min(Instant::now() + LOOK_AGAIN)).await;
    }
}

/// Takes a door that accepted as there when that is what it reports now.
pub(super) fn arrive(rows: &mut [OutcomeRow], twin: &Twin, wanted: Wanted) {
    let state = LockState::reported(twin);
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

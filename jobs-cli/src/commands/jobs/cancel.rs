//! `doorctl jobs cancel`.

use iothub_protocol::job::{JobResponse, JobStatus};
use iothub_protocol::{ErrorCode, JobId};

use crate::commands::job_follow::{GRACE_POLLS, PollIntervals};
use crate::commands::job_report::explain_job;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::printer::Format;
use crate::session::Session;

/// Cancels a job, even while it runs.
pub(super) async fn cancel(id: &JobId, session: &Session) -> anyhow::Result<ExitStatus> {
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
        Ok(job) => report(&job, session),
        // It has ended meanwhile.
        Err(error) if error.code() == Some(refused) => {
            let status = session.hub.job(id).await?.status;
            Err(over_error(id, status).into())
        }
        Err(error) => Err(explain_job(session, id, error).await),
    }
}

/// Waits until the hub shows a cancellation that it accepted; Azure does a moment later.
async fn cancelled(mut job: JobResponse, session: &Session) -> anyhow::Result<ExitStatus> {
    let id = job.job_id.clone();
    for _ in 0..GRACE_POLLS {
        if job.status.is_over() {
            return report(&job, session);
        }
        tokio::time::sleep(PollIntervals::REMOTE.tick).await;
        job = session.hub.job(&id).await?;
    }
    match job.status.is_over() {
        true => report(&job, session),
        false => {
            session.printer.say(format!(
                "job {id} is {}: the hub accepted the cancellation but does not show it yet; check \
                 again: doorctl jobs show {id}",
                job.status
            ));
            print(&job, session)?;
            Ok(ExitStatus::Deadline)
        }
    }
}

/// Prints the result of a cancellation.
fn report(job: &JobResponse, session: &Session) -> anyhow::Result<ExitStatus> {
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
    print(job, session)?;
    Ok(status)
}

fn print(job: &JobResponse, session: &Session) -> anyhow::Result<()> {
    if session.printer.format() != Format::Table {
        session.printer.document(job)?;
    }
    Ok(())
}

fn over_error(id: &JobId, status: JobStatus) -> Failure {
    Failure::new(format!("job {id} is {status}: there is nothing to cancel"))
        .next(format!(
            "doorctl jobs show {id}; to undo a lock that was carried out: doorctl jobs method \
             relinquish"
        ))
        .status(ExitStatus::Refused)
}

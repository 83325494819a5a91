//! `doorctl jobs stop`.

use iothub_protocol::job::JobStatus;
use iothub_protocol::{ErrorCode, JobId};

use crate::commands::job_report::explain_job;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::session::Session;

/// Stops a job, even while it runs.
pub(super) async fn stop(id: &JobId, session: &Session) -> anyhow::Result<ExitStatus> {
    session
        .refuse_unless_door_hub(
            "stop a job that runs",
            format!(
                "before its start: doorctl jobs cancel {id}; later wait for its end (doorctl \
                 jobs wait {id}) and undo it: doorctl jobs method relinquish"
            ),
        )
        .await?;
    let error = match session.hub.door_hub_job_stop(id).await {
        Ok(job) => {
            let text = match job.status {
                JobStatus::Running => format!(
                    "job {id} makes no more calls; answers to calls already sent are still \
                     recorded: doorctl jobs watch {id}"
                ),
                status => format!("job {id} is {status}: no door will be called by it"),
            };
            session.printer.say(text);
            session.printer.document(&job)?;
            return Ok(ExitStatus::Success);
        }
        Err(error) => error,
    };
    if error.code() != Some(ErrorCode::OperationNotAllowedInCurrentState) {
        return Err(explain_job(session, id, error).await);
    }
    let status = session.hub.job(id).await?.status;
    Err(refusal_error(id, status).into())
}

/// The error for a hub that refused to stop the job.
fn refusal_error(id: &JobId, status: JobStatus) -> Failure {
    let failure = match status.is_over() {
        true => {
            Failure::new(format!("job {id} is {status}: there is nothing to stop")).next(format!(
                "doorctl jobs show {id}; to undo a lock that was carried out: doorctl \
                 jobs method relinquish"
            ))
        }
        // Refused although it runs: the hub does not have this operation.
        false => Failure::new(format!(
            "job {id} is {status}, and this hub cannot stop it: only \
             door-hub can, Azure IoT Hub cannot"
        ))
        .next(format!(
            "doorctl jobs wait {id}, then undo it: doorctl jobs method relinquish"
        )),
    };
    failure.status(ExitStatus::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_that_cannot_stop_a_running_job_is_not_door_hub() {
        let id: JobId = "tonight".parse().unwrap();
        for (status, expected) in [
            (
                JobStatus::Running,
                "job tonight is running, and this hub cannot stop it: only door-hub can, Azure \
                 IoT Hub cannot",
            ),
            (
                JobStatus::Completed,
                "job tonight is completed: there is nothing to stop",
            ),
        ] {
            assert_eq!(refusal_error(&id, status).to_string(), expected);
        }
    }
}

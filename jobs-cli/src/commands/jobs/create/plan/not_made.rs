//! Errors for a job that was not created, or may have been: which jobs exist all the same, and how
//! to stop them.

use doorctl::ClientError;
use iothub_protocol::JobId;
use iothub_protocol::job::{JobRequest, JobResponse};

use crate::failure::{Failure, sentence};

/// Appended to an error that occurs before any job is created.
pub(super) const NOTHING_CHANGED: &str = "; nothing was changed";

/// Why a job was not created.
#[derive(Debug)]
pub(super) enum NotMade {
    /// It was certainly not created.
    Surely(anyhow::Error),
    /// The hub did not confirm it: it may exist.
    Perhaps(anyhow::Error),
}

impl NotMade {
    /// The error for job `id`, when the jobs in `made` exist already.
    pub(super) fn told(self, id: &JobId, made: &[JobResponse]) -> anyhow::Error {
        let (error, perhaps) = match self {
            Self::Surely(error) if made.is_empty() => return error,
            Self::Surely(error) => (error, None),
            Self::Perhaps(error) => (error, Some(id)),
        };
        let made: Vec<&str> = made.iter().map(|job| job.job_id.as_str()).collect();
        let why = sentence(&error);
        let mut text = why.trim_end_matches(NOTHING_CHANGED).to_owned();
        if let Some(id) = perhaps {
            text += &format!("; job {id} may have been created");
        }
        if !made.is_empty() {
            text += &format!("; created before it: {}", made.join(", "));
        }
        let all = made.iter().copied().chain(perhaps.map(JobId::as_str));
        let stop: Vec<String> = all.map(|id| format!("doorctl jobs stop {id}")).collect();
        let stop = stop.join("; ");
        let next = match made.is_empty() {
            true => format!("check: doorctl jobs show {id}; to stop it: {stop}"),
            false => format!(
                "stop the created jobs: {stop}; or create the rest with the remaining doors"
            ),
        };
        Failure::new(text).next(next).into()
    }
}

/// Whether the hub may have created the job although the request failed.
pub(super) fn may_have_worked(error: &ClientError) -> bool {
    match error {
        ClientError::TimedOut { .. } | ClientError::UnexpectedBody { .. } => true,
        ClientError::Unreachable { connected, .. } => *connected,
        error => matches!(error.status(), Some(500..=599)),
    }
}

/// Whether `job` is the requested one, as far as the hub shows it.
pub(super) fn is_of(job: &JobResponse, request: &JobRequest) -> bool {
    let shown = job.query_condition.as_ref();
    shown.is_none_or(|condition| *condition == request.query_condition)
        && job.job_type == request.action.job_type()
}

//! Errors for a job that was not created, or may have been: which jobs exist all the same, and how
//! to stop them.

use iothub_client::ClientError;
use iothub_protocol::JobId;
use iothub_protocol::job::{JobRequest, JobResponse};

use crate::failure::{Failure, sentence};

/// Appended to an error that occurs before any job is created.
pub(super) const NOTHING_CHANGED: &str = "; nothing was changed";

/// Why a job was not created.
#[derive(Debug)]
pub(super) enum CreateError {
    /// It was certainly not created.
    NotCreated(anyhow::Error),
    /// The hub did not confirm it: it may exist.
    Unclear(anyhow::Error),
}

impl CreateError {
    /// The error for job `id`, when the jobs in `created` exist already.
    pub(super) fn into_error(self, id: &JobId, created: &[JobResponse]) -> anyhow::Error {
        let (error, unclear_id) = match self {
            Self::NotCreated(error) if created.is_empty() => return error,
            Self::NotCreated(error) => (error, None),
            Self::Unclear(error) => (error, Some(id)),
        };
        let created: Vec<&str> = created.iter().map(|job| job.job_id.as_str()).collect();
        let why = sentence(&error);
        let mut text = why.trim_end_matches(NOTHING_CHANGED).to_owned();
        if let Some(id) = unclear_id {
            text += &format!("; job {id} may have been created");
        }
        if !created.is_empty() {
            text += &format!("; created before it: {}", created.join(", "));
        }
        let all = created.iter().copied().chain(unclear_id.map(JobId::as_str));
        let stop: Vec<String> = all.map(|id| format!("doorctl jobs stop {id}")).collect();
        let stop = stop.join("; ");
        let next = match created.is_empty() {
            true => format!("check: doorctl jobs show {id}; to stop it: {stop}"),
            false => format!(
                "stop the created jobs: {stop}; or create the rest with the remaining doors"
            ),
        };
        Failure::new(text).next(next).into()
    }
}

/// Whether the hub may have created the job although the request failed.
pub(super) fn may_have_been_created(error: &ClientError) -> bool {
    match error {
        ClientError::TimedOut { .. } | ClientError::UnexpectedBody { .. } => true,
        ClientError::Unreachable { connected, .. } => *connected,
        error => matches!(error.status(), Some(500..=599)),
    }
}

/// Whether `job` is the requested one, as far as the hub shows it.
pub(super) fn matches_request(job: &JobResponse, request: &JobRequest) -> bool {
    let shown = job.query_condition.as_ref();
    shown.is_none_or(|condition| *condition == request.query_condition)
        && job.job_type == request.action.job_type()
}

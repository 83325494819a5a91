//! What is said when a job is not made, or when nobody knows: which are there all the same, and how
//! to take them back.

use doorctl::ClientError;
use iothub_protocol::JobId;
use iothub_protocol::job::{JobRequest, JobResponse};

use crate::failure::{Failure, sentence};

/// Behind an error that comes before anything is made.
pub(super) const NOTHING_CHANGED: &str = "; nothing was changed";

/// Why a job was not made.
#[derive(Debug)]
pub(super) enum NotMade {
    /// It was not.
    Surely(anyhow::Error),
    /// Nobody can say whether it was.
    Perhaps(anyhow::Error),
}

impl NotMade {
    /// The error for job `id`, when those of `made` are there already.
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
            text += &format!("; job {id} may have been made");
        }
        if !made.is_empty() {
            text += &format!("; made before it: {}", made.join(", "));
        }
        let all = made.iter().copied().chain(perhaps.map(JobId::as_str));
        let stop: Vec<String> = all.map(|id| format!("doorctl jobs stop {id}")).collect();
        let stop = stop.join("; ");
        let next = match made.is_empty() {
            true => format!("look whether it was: doorctl jobs show {id}; to take it back: {stop}"),
            false => format!(
                "take back what is made: {stop}; or make the rest with the doors that are left"
            ),
        };
        Failure::new(text).next(next).into()
    }
}

/// Whether the hub may have made a job although it did not say so.
pub(super) fn may_have_worked(error: &ClientError) -> bool {
    match error {
        ClientError::TimedOut { .. } | ClientError::UnexpectedBody { .. } => true,
        ClientError::Unreachable { connected, .. } => *connected,
        error => matches!(error.status(), Some(500..=599)),
    }
}

/// Whether a job is the one that was asked for, as far as the hub shows it.
pub(super) fn is_of(job: &JobResponse, request: &JobRequest) -> bool {
    let shown = job.query_condition.as_ref();
    shown.is_none_or(|condition| *condition == request.query_condition)
        && job.job_type == request.action.job_type()
}

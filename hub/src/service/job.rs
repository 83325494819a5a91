//! Jobs: created, read and cancelled here; planned in [`plan`], run by the [`runner`].

mod clock;
mod collector;
mod methods;
mod permit;
mod plan;
mod retry;
mod runner;
mod twins;

use std::sync::Arc;

use iothub_protocol::error::ErrorCode;
use iothub_protocol::id::JobId;
use iothub_protocol::job::{
    DeviceJobStatistics, JobAction, JobRequest, JobResponse, JobStatus, JobType,
};
use iothub_protocol::query;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{ListPage, MethodService, PreparedCall, ServiceError};
use crate::store::{JobCancel, JobCounts, JobInsert, JobRecord, NewJob, Store, log_skipped};
use crate::types::{CancelMode, JobAuthor, JobFilter, Scope};

use clock::Clock;
pub(crate) use runner::Runner;

/// The error of a device's record when the hub stopped between sending the call and receiving the
/// answer. Not one of IoT Hub's codes: Azure has none for this case.
const OUTCOME_UNKNOWN: (&str, &str) = (
    "OutcomeUnknown",
    "The hub stopped after it had sent the call and before it received the answer; \
     whether the device acted is not known.",
);

/// The error when the job's time ended before the device's turn.
const NOT_REACHED: (&str, &str) = (
    "RequestTimedOut",
    "The job's maximum execution time passed before the hub reached this device.",
);

/// The error when the job's time ended before the answer.
const UNANSWERED: (&str, &str) = (
    "RequestTimedOut",
    "The job's maximum execution time passed before the device answered; \
     whether it acted is not known.",
);

/// The error when the hub received the answer but cannot store it.
const NOT_STORED: (&str, &str) = (
    "OutcomeUnknown",
    "The hub had sent the call and could not store the outcome; \
     whether the device acted is not known.",
);

/// The error when the job ended because of [`NOT_STORED`] before the device's turn.
const ENDED_EARLY: (&str, &str) = (
    "ServerError",
    "The hub could not store the job's progress and ended the job before it reached this device.",
);

/// The status message of a job between its stop and its end.
const STOPPING: &str =
    "The job was stopped: no more calls are sent; the hub waits for answers to the calls it sent.";

/// The most paths in the condition of a job of a policy with bounds. The writer evaluates it for
/// each device, and no other write gets its turn meanwhile.
const MAX_BOUNDED_PATHS: usize = 32;

/// The list that the continuation tokens of job pages belong to.
const LIST: &str = "jobs";

#[derive(Clone)]
pub(crate) struct JobService {
    store: Store,
    method: MethodService,
    nudge: Arc<Notify>,
    clock: Clock,
}

impl JobService {
    pub(super) fn new(store: Store, method: MethodService) -> Self {
        Self {
            store,
            method,
            nudge: Arc::default(),
            clock: Clock::default(),
        }
    }

    /// The runner of these jobs, until `stop`. First it settles what an earlier hub process left
    /// unfinished.
    pub(crate) async fn runner(&self, stop: CancellationToken) -> Result<Runner, ServiceError> {
        Runner::recover(&self.store, &self.clock).await?;
        Ok(Runner::new(
            self.store.clone(),
            self.method.clone(),
            self.clock.clone(),
            Arc::clone(&self.nudge),
            stop,
        ))
    }

    /// Creates a job. Its condition is parsed when it starts, as on Azure: an invalid condition
    /// makes the job fail, not this call.
    pub(crate) async fn create(
        &self,
        id: &JobId,
        request: JobRequest,
        author: Option<JobAuthor>,
    ) -> Result<JobResponse, ServiceError> {
        if let Some(given) = request.job_id.as_ref().filter(|given| *given != id) {
            let message = format!("the body's jobId is `{given}`, but the path names `{id}`");
            return Err(ServiceError::argument(message));
        }
        if author
            .as_ref()
            .is_some_and(|author| author.bounds.is_some())
        {
            check_cost(&request.query_condition)?;
        }
        let action = check_action(&request.action)?;
        let kind = request.action.job_type();
        let created = self.clock.wall_time();
        let job = NewJob {
            job_id: id.clone(),
            kind,
            action,
            query_condition: request.query_condition,
            created,
            start: request.start_time.unwrap_or(created),
            max_execution: request.max_execution_time,
            author,
        };
        match self.store.job_insert(job).await? {
            JobInsert::Done => {
                self.nudge.notify_one();
                Ok(JobResponse::short(id.clone(), kind, JobStatus::Queued))
            }
            JobInsert::Exists => Err(ServiceError::new(
                ErrorCode::JobAlreadyExists,
                format!("job `{id}` already exists"),
            )),
            JobInsert::TooMany(limit, of) => Err(ServiceError::new(
                ErrorCode::ThrottlingMaxActiveJobCountExceeded,
                format!(
                    "{limit} jobs {of} wait or run, the maximum; cancel one, or try again when one \
                     has ended"
                ),
            )),
            JobInsert::PolicyRemoved => Err(ServiceError::new(
                ErrorCode::IotHubUnauthorizedAccess,
                "the policy of this call was removed",
            )),
        }
    }

    pub(crate) async fn get(
        &self,
        id: &JobId,
        scope: Option<Arc<Scope>>,
    ) -> Result<JobResponse, ServiceError> {
        let record = self.store.job_get(id, scope).await?;
        response(record.ok_or_else(|| ServiceError::job_not_found(id.as_ref()))?)
    }

    /// Cancels a job that has not started, or stops a running one.
    pub(crate) async fn cancel(
        &self,
        id: &JobId,
        how: CancelMode,
        scope: Option<Arc<Scope>>,
    ) -> Result<JobResponse, ServiceError> {
        match self
            .store
            .job_cancel(id, how, scope, self.clock.wall_time())
            .await?
        {
            JobCancel::Done(record) => {
                // The runner passes the stop on to the job's run.
                self.nudge.notify_one();
                response(*record)
            }
            JobCancel::TooLate(status) => {
                let message = format!(
                    "Job cannot be cancelled in '{}' status.",
                    capitalised(status.as_str())
                );
                Err(ServiceError::new(
                    ErrorCode::OperationNotAllowedInCurrentState,
                    message,
                ))
            }
            JobCancel::NotFound => Err(ServiceError::job_not_found(id.as_ref())),
        }
    }

    /// A page of jobs, newest first.
    pub(crate) async fn list(
        &self,
        filter: JobFilter,
        size: u32,
        continuation: Option<&str>,
    ) -> Result<ListPage<JobResponse>, ServiceError> {
        let before = super::query::list_position(continuation, LIST)?.map(|position| position.0);
        let page = self.store.job_list(filter, before, size).await?;
        let continuation = page.next.map(|last| last.token(LIST));
        let to_response = |record: JobRecord| {
            let name = record.job_id.clone();
            response(record)
                .inspect_err(|error| log_skipped("a job", name.as_ref(), error))
                .ok()
        };
        let rows = page.rows.into_iter().filter_map(to_response).collect();
        Ok(ListPage { rows, continuation })
    }
}

/// Checks the condition of a job of a policy with bounds; an invalid one makes the job fail.
fn check_cost(condition: &str) -> Result<(), ServiceError> {
    let condition = query::parse_condition(condition).ok();
    let count = condition.map_or(0, |condition| condition.paths().len());
    if count <= MAX_BOUNDED_PATHS {
        return Ok(());
    }
    Err(ServiceError::argument(format!(
        "the condition reads {count} properties; expected at most {MAX_BOUNDED_PATHS} in a job of \
         a policy with bounds: list values with IN"
    )))
}

/// Checks what the document's types leave open, and serialises the action for the store.
fn check_action(action: &JobAction) -> Result<String, ServiceError> {
    let written = match action {
        JobAction::Method(request) => {
            PreparedCall::new(request)?;
            serde_json::to_string(request)
        }
        JobAction::UpdateTwin(patch) => {
            if patch.etag.as_deref().is_some_and(|etag| etag != "*") {
                let message = "updateTwin.etag must be `*`: a job updates twins of any version";
                return Err(ServiceError::new(ErrorCode::PreconditionFailed, message));
            }
            super::twin::check(patch)?;
            serde_json::to_string(patch)
        }
    };
    written.map_err(|error| {
        ServiceError::argument(format!("the job's action cannot be stored: {error}"))
    })
}

fn response(record: JobRecord) -> Result<JobResponse, ServiceError> {
    let damaged = |error: serde_json::Error| {
        ServiceError::new(
            ErrorCode::ServerError,
            format!("cannot read the job's stored action: {error}"),
        )
    };
    let (method, twin) = match record.kind {
        JobType::ScheduleUpdateTwin => (
            None,
            Some(serde_json::from_str(&record.action).map_err(damaged)?),
        ),
        _ => (
            Some(serde_json::from_str(&record.action).map_err(damaged)?),
            None,
        ),
    };
    let stopping = record.stopped && record.status == JobStatus::Running;
    Ok(JobResponse {
        status_message: stopping.then(|| STOPPING.to_owned()),
        query_condition: Some(record.query_condition),
        created_time: Some(record.created),
        start_time: Some(record.start),
        end_time: record.ended,
        max_execution_time_in_seconds: Some(record.max_execution.as_secs()),
        cloud_to_device_method: method,
        update_twin: twin,
        failure_reason: record.failure_reason,
        device_job_statistics: Some(statistics(record.counts)),
        ..JobResponse::short(record.job_id, record.kind, record.status)
    })
}

const fn statistics(counts: JobCounts) -> DeviceJobStatistics {
    DeviceJobStatistics {
        device_count: counts.devices,
        failed_count: counts.failed,
        succeeded_count: counts.succeeded,
        running_count: counts.running,
        pending_count: counts.pending,
    }
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters
        .next()
        .map(|first| first.to_ascii_uppercase())
        .into_iter()
        .chain(characters)
        .collect()
}

#[cfg(test)]
mod tests;

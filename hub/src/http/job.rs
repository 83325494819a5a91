//! `/jobs/v2`: jobs.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use iothub_protocol::error::ErrorCode;
use iothub_protocol::id::JobId;
use iothub_protocol::job::JobRequest;

use super::auth::{Caller, CallerScope};
use super::{Document, HttpError, Id, PageRequest, Parameters, json_response, page_response};
use crate::service::Services;
use crate::types::{CancelMode, JobFilter};

pub(super) async fn put(
    State(services): State<Services>,
    caller: Caller,
    Id(job): Id<JobId>,
    Document(request): Document<JobRequest>,
) -> Result<Response, HttpError> {
    let created = services.job.create(&job, request, Some(caller.author()));
    Ok(json_response(&created.await?))
}

/// `PUT /jobs/v2/query`: a job of this name could never be read.
pub(super) async fn put_query() -> HttpError {
    let message =
        "the job id `query` is reserved: /jobs/v2/query is the list of jobs; expected another id";
    HttpError::new(ErrorCode::ArgumentInvalid, message)
}

pub(super) async fn get(
    State(services): State<Services>,
    CallerScope(scope): CallerScope,
    Id(job): Id<JobId>,
) -> Result<Response, HttpError> {
    Ok(json_response(&services.job.get(&job, scope).await?))
}

/// The body, if any, is ignored. `stop=true` is an addition of this hub: it stops a running job.
pub(super) async fn cancel(
    State(services): State<Services>,
    CallerScope(scope): CallerScope,
    Id(job): Id<JobId>,
    parameters: Parameters,
) -> Result<Response, HttpError> {
    let how = match parameters.get("stop") {
        Some(text) if text.eq_ignore_ascii_case("true") => CancelMode::Stop,
        None => CancelMode::BeforeStart,
        Some(text) if text.eq_ignore_ascii_case("false") => CancelMode::BeforeStart,
        Some(text) => {
            let message = format!("stop is `{text}`; expected `true` or `false`");
            return Err(HttpError::new(ErrorCode::ArgumentInvalid, message));
        }
    };
    Ok(json_response(&services.job.cancel(&job, how, scope).await?))
}

pub(super) async fn list(
    State(services): State<Services>,
    CallerScope(scope): CallerScope,
    headers: HeaderMap,
    parameters: Parameters,
) -> Result<Response, HttpError> {
    let page = PageRequest::from_headers(&headers)?.or_parameters(&parameters)?;
    let wanted = JobFilter {
        kind: filter(&parameters, "jobType")?,
        status: filter(&parameters, "jobStatus")?,
        policy: scope.map(|scope| scope.policy.clone()),
    };
    let answer = services
        .job
        .list(wanted, page.size, page.continuation.as_deref())
        .await?;
    Ok(page_response(
        &answer.rows,
        "JobResponse",
        answer.continuation.as_deref(),
    ))
}

/// Ignores case: .NET's client capitalises the names, the others do not.
fn filter<T: std::str::FromStr<Err: std::fmt::Display>>(
    parameters: &Parameters,
    name: &str,
) -> Result<Option<T>, HttpError> {
    let read = |text: &str| {
        text.parse().map_err(|error: T::Err| {
            HttpError::new(ErrorCode::ArgumentInvalid, format!("{name}: {error}"))
        })
    };
    parameters.get(name).map(read).transpose()
}

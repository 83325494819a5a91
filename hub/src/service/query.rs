//! Queries: which of the hub's documents, a page at a time.

use iothub_protocol::error::ErrorCode;
use iothub_protocol::job::{DeviceJob, JobError, JobOutcome};
use iothub_protocol::method::MethodResult;
use iothub_protocol::query::{self, Projection, Query, Source};
use iothub_protocol::time;
use iothub_protocol::twin::Twin;
use serde::Serialize;

use super::ServiceError;
use crate::store::{DeviceJobRecord, Place, Store};

/// Runs queries.
#[derive(Clone)]
pub(crate) struct QueryService {
    store: Store,
}

/// A page of what a query found.
#[derive(Debug)]
pub(crate) struct QueryPage {
    /// The documents.
    pub(crate) rows: QueryRows,
    /// The token with which the next page is asked for; `None` on the last one.
    pub(crate) continuation: Option<String>,
}

/// The documents, all of one kind.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum QueryRows {
    /// Of `devices`.
    Twins(Vec<Twin>),
    /// Of `devices.jobs`.
    DeviceJobs(Vec<DeviceJob>),
    /// Of a source that has none.
    Empty([Twin; 0]),
}

impl QueryRows {
    /// What `x-ms-item-type` calls them. .NET's client compares it with its case.
    pub(crate) const fn item_type(&self) -> &'static str {
        match self {
            Self::Twins(_) | Self::Empty(_) => "Twin",
            Self::DeviceJobs(_) => "DeviceJob",
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Twins(rows) => rows.len(),
            Self::DeviceJobs(rows) => rows.len(),
            Self::Empty(_) => 0,
        }
    }
}

impl QueryService {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// The page of `text` after `continuation`, of at most `size` rows.
    pub(crate) async fn run(
        &self,
        text: &str,
        size: u32,
        continuation: Option<&str>,
    ) -> Result<QueryPage, ServiceError> {
        let query = parse(text)?;
        let start = Start::read(continuation, text)?;
        let size = query.top.map_or(size, |top| {
            let left = top.saturating_sub(start.delivered);
            size.min(u32::try_from(left).unwrap_or(u32::MAX))
        });
        let (rows, next) = self
            .page(query.source, query.condition, start.place, size)
            .await?;
        let delivered = start.delivered.saturating_add(rows.len() as u64);
        let wants_more = query.top.is_none_or(|top| delivered < top);
        let continuation = next
            .filter(|_| wants_more)
            .map(|next| token(next, delivered, text));
        Ok(QueryPage { rows, continuation })
    }

    async fn page(
        &self,
        source: Source,
        condition: Option<query::Condition>,
        after: Place,
        size: u32,
    ) -> Result<(QueryRows, Option<Place>), ServiceError> {
        match source {
            Source::Devices => {
                let page = self.store.query_twins(condition, after, size).await?;
                let twins = page.rows.into_iter().map(Twin::from).collect();
                Ok((QueryRows::Twins(twins), page.next))
            }
            Source::Jobs => {
                let page = self.store.query_device_jobs(condition, after, size).await?;
                let jobs = page
                    .rows
                    .into_iter()
                    .map(document)
                    .collect::<Result<_, _>>()?;
                Ok((QueryRows::DeviceJobs(jobs), page.next))
            }
            // This hub has no modules.
            Source::Modules => Ok((QueryRows::Empty([]), None)),
        }
    }
}

/// Where a page begins, and how many rows came before it.
struct Start {
    place: Place,
    delivered: u64,
}

impl Start {
    fn read(continuation: Option<&str>, query: &str) -> Result<Self, ServiceError> {
        let Some(token) = continuation else {
            return Ok(Self {
                place: Place::START,
                delivered: 0,
            });
        };
        let read = || {
            let (token, delivered) = token.split_once('.')?;
            Some(Self {
                place: Place::from_token(token, query)?,
                delivered: delivered.parse().ok()?,
            })
        };
        read().ok_or_else(bad_continuation)
    }
}

fn token(place: Place, delivered: u64, query: &str) -> String {
    format!("{}.{delivered}", place.token(query))
}

/// The place that a continuation of a list says, if there is one.
pub(super) fn place(continuation: Option<&str>, list: &str) -> Result<Option<Place>, ServiceError> {
    let read = |token| Place::from_token(token, list).ok_or_else(bad_continuation);
    continuation.map(read).transpose()
}

fn bad_continuation() -> ServiceError {
    ServiceError::argument(
        "the continuation token is not one of this query; ask for the first page without one",
    )
}

fn parse(text: &str) -> Result<Query, ServiceError> {
    if text.trim().is_empty() {
        return Err(ServiceError::new(
            ErrorCode::ArgumentNull,
            "the body has no `query`",
        ));
    }
    let query = query::parse(text).map_err(|error| {
        let (line, column) = (error.position.line, error.position.column);
        ServiceError::argument(format!(
            "the query is wrong at line {line}, column {column}: {error}"
        ))
    })?;
    if query.projection != Projection::All || !query.group_by.is_empty() {
        let message = "this hub answers `SELECT *` alone; projections, aggregates and GROUP BY are understood but not done yet";
        return Err(ServiceError::new(ErrorCode::InvalidOperation, message));
    }
    Ok(query)
}

/// A record as clients see it.
fn document(record: DeviceJobRecord) -> Result<DeviceJob, ServiceError> {
    let damaged = |what: &str| {
        ServiceError::new(
            ErrorCode::ServerError,
            format!("the record's {what} cannot be read back"),
        )
    };
    let moment = |text: &str| time::parse(text).map_err(|_| damaged("time"));
    let optional = |text: Option<String>| text.as_deref().map(moment).transpose();
    let completed = record.status == "completed";
    let answer = match record.response {
        Some((status, payload)) => {
            let payload = payload
                .as_deref()
                .map(serde_json::from_str)
                .transpose()
                .map_err(|_| damaged("payload"))?;
            Some(MethodResult { status, payload })
        }
        None => None,
    };
    Ok(DeviceJob {
        device_id: record.device_id,
        job_id: record.job_id.parse().map_err(|_| damaged("job"))?,
        job_type: record.kind.parse().map_err(|_| damaged("type"))?,
        status: record.status.parse().map_err(|_| damaged("status"))?,
        start_time_utc: optional(record.started)?,
        end_time_utc: optional(record.ended)?,
        created_date_time_utc: Some(moment(&record.created)?),
        last_updated_date_time_utc: Some(moment(&record.updated)?),
        outcome: completed.then_some(JobOutcome {
            device_method_response: answer,
        }),
        error: record
            .error
            .map(|(code, description)| JobError { code, description }),
    })
}

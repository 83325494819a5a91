//! Queries over the hub's documents, page by page.

use std::sync::Arc;

use iothub_protocol::error::ErrorCode;
use iothub_protocol::job::{DeviceJob, JobError, JobOutcome};
use iothub_protocol::method::MethodResult;
use iothub_protocol::query::{self, Position, Projection, Query, Source};
use iothub_protocol::time;
use iothub_protocol::twin::Twin;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::ServiceError;
use crate::store::{
    Continuation, DeviceJobRecord, GroupPosition, Page, RowPosition, Sections, Store, TokenPayload,
    log_skipped,
};
use crate::types::{Scope, all_of};

#[derive(Clone)]
pub(crate) struct QueryService {
    store: Store,
}

#[derive(Debug)]
pub(crate) struct QueryPage {
    pub(crate) rows: QueryRows,
    /// The token that requests the next page; `None` on the last one.
    pub(crate) continuation: Option<String>,
}

/// The rows, all of one kind.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum QueryRows {
    /// Rows of `devices`.
    Twins(Vec<Twin<Box<RawValue>, Box<RawValue>>>),
    /// Rows of `devices.jobs`.
    DeviceJobs(Vec<DeviceJob>),
    /// Projections of documents or of groups.
    Raw(Vec<Map<String, Value>>),
}

impl QueryRows {
    /// The value of `x-ms-item-type`. .NET's client compares it case-sensitively.
    pub(crate) const fn item_type(&self) -> &'static str {
        match self {
            Self::Twins(_) => "Twin",
            Self::DeviceJobs(_) => "DeviceJob",
            Self::Raw(_) => "Raw",
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Twins(rows) => rows.len(),
            Self::DeviceJobs(rows) => rows.len(),
            Self::Raw(rows) => rows.len(),
        }
    }
}

impl QueryService {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// The page of `text` after `continuation`, at most `size` rows, within `scope`.
    pub(crate) async fn run(
        &self,
        text: &str,
        size: u32,
        continuation: Option<&str>,
        scope: Option<Arc<Scope>>,
    ) -> Result<QueryPage, ServiceError> {
        let mut query = parse(text)?;
        if let Some(scope) = scope.as_ref().filter(|_| query.source == Source::Devices) {
            query.condition = all_of([query.condition, scope.condition.clone()]);
        }
        if query.source == Source::Modules {
            return match continuation {
                Some(_) => Err(invalid_continuation()),
                None => Ok(no_modules(&query)),
            };
        }
        if query.is_grouped() {
            let run = PageRun::start(text, &query, size, continuation, GroupPosition::default())?;
            let store = &self.store;
            let page = store.query_groups(query, run.after.clone(), run.size);
            let Page { rows, next } = page.await?;
            return Ok(run.end(QueryRows::Raw(rows), next));
        }
        let run = PageRun::start(text, &query, size, continuation, RowPosition::START)?;
        let (rows, next) = self.page(query, scope, run.after, run.size).await?;
        Ok(run.end(rows, next))
    }

    async fn page(
        &self,
        query: Query,
        scope: Option<Arc<Scope>>,
        after: RowPosition,
        size: u32,
    ) -> Result<(QueryRows, Option<RowPosition>), ServiceError> {
        if query.source == Source::Jobs {
            let store = &self.store;
            let page = store.query_device_jobs(query.condition, scope, after, size);
            let Page { rows, next } = page.await?;
            let to_document = |record: DeviceJobRecord| {
                let name = format!("{} in {}", record.device_id, record.job_id);
                document(record)
                    .inspect_err(|error| log_skipped("a device's record of a job", &name, error))
                    .ok()
            };
            let jobs: Vec<DeviceJob> = rows.into_iter().filter_map(to_document).collect();
            let rows = match query.projection {
                Projection::All => QueryRows::DeviceJobs(jobs),
                Projection::Items(items) => raw(&items, jobs.into_iter().map(job_value))?,
            };
            return Ok((rows, next));
        }
        let sections = Sections::of(query.items());
        let page = self
            .store
            .query_twins(query.condition, sections, after, size);
        let page = page.await?;
        let twins = page.rows.into_iter().map(Twin::from);
        let rows = match query.projection {
            Projection::All => QueryRows::Twins(twins.collect()),
            Projection::Items(items) => raw(&items, twins.map(serde_json::to_value))?,
        };
        Ok((rows, page.next))
    }
}

/// The result of a query of `devices.modules`: this hub has no modules.
fn no_modules(query: &Query) -> QueryPage {
    let rows = match query.projection {
        Projection::All => QueryRows::Twins(Vec::new()),
        Projection::Items(_) => {
            let rows = query::answer(query, &[]).into_iter();
            QueryRows::Raw(rows.filter_map(|row| row.as_object().cloned()).collect())
        }
    };
    QueryPage {
        rows,
        continuation: None,
    }
}

/// The projection of each document.
fn raw(
    items: &[query::ProjectionItem],
    documents: impl Iterator<Item = serde_json::Result<Value>>,
) -> Result<QueryRows, ServiceError> {
    let names = query::column_names(items);
    let row = |document| Ok(query::project(items, &names, &document?));
    let rows: serde_json::Result<_> = documents.map(row).collect();
    rows.map(QueryRows::Raw).map_err(|error| {
        ServiceError::new(
            ErrorCode::ServerError,
            format!("cannot serialise a document: {error}"),
        )
    })
}

/// A record as a value. A device's answer is stored byte for byte, at any depth; as a value it
/// becomes null when it is nested too deeply.
fn job_value(mut job: DeviceJob) -> serde_json::Result<Value> {
    serde_json::to_value(&job).or_else(|_| {
        if let Some(answer) = job
            .outcome
            .as_mut()
            .and_then(|outcome| outcome.device_method_response.as_mut())
        {
            answer.payload = None;
        }
        serde_json::to_value(&job)
    })
}

/// One page of a query: where it starts, and the most rows it may have.
struct PageRun<'a, P> {
    text: &'a str,
    top: Option<u64>,
    after: P,
    delivered: u64,
    size: u32,
}

impl<'a, P: TokenPayload> PageRun<'a, P> {
    fn start(
        text: &'a str,
        query: &Query,
        size: u32,
        continuation: Option<&str>,
        first: P,
    ) -> Result<Self, ServiceError> {
        let start = match continuation {
            Some(token) => {
                Continuation::from_token(token, text).ok_or_else(invalid_continuation)?
            }
            None => Continuation {
                after: first,
                delivered: 0,
            },
        };
        let left = query.top.map(|top| top.saturating_sub(start.delivered));
        let left = left.map_or(u32::MAX, |left| u32::try_from(left).unwrap_or(u32::MAX));
        Ok(Self {
            text,
            top: query.top,
            after: start.after,
            delivered: start.delivered,
            size: size.min(left),
        })
    }

    fn end(self, rows: QueryRows, next: Option<P>) -> QueryPage {
        let delivered = self.delivered.saturating_add(rows.len() as u64);
        let wants_more = self.top.is_none_or(|top| delivered < top);
        let next = next
            .filter(|_| wants_more)
            .map(|after| Continuation { after, delivered });
        QueryPage {
            continuation: next.map(|next| next.token(self.text)),
            rows,
        }
    }
}

/// The position in a list from which `continuation` continues.
pub(super) fn list_position(
    continuation: Option<&str>,
    list: &str,
) -> Result<Option<RowPosition>, ServiceError> {
    let read = |token| RowPosition::from_token(token, list).ok_or_else(invalid_continuation);
    continuation.map(read).transpose()
}

fn invalid_continuation() -> ServiceError {
    ServiceError::argument(
        "the continuation token belongs to another query; request the first page without one",
    )
}

fn parse(text: &str) -> Result<Query, ServiceError> {
    if text.trim().is_empty() {
        return Err(ServiceError::new(
            ErrorCode::ArgumentNull,
            "the body has no `query`",
        ));
    }
    query::parse(text).map_err(|error| syntax_error(error.position, &error))
}

fn syntax_error(position: Position, what: &dyn std::fmt::Display) -> ServiceError {
    let (line, column) = (position.line, position.column);
    ServiceError::argument(format!(
        "invalid query at line {line}, column {column}: {what}"
    ))
}

/// A record as clients see it.
fn document(record: DeviceJobRecord) -> Result<DeviceJob, ServiceError> {
    let damaged = |what: &str| {
        ServiceError::new(
            ErrorCode::ServerError,
            format!("cannot read the record's stored {what}"),
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

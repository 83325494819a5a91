//! `/devices/query`: pages of rows, with the continuation and the kind of row in headers.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;

use super::auth::CallerScope;
use super::{Document, HttpError, PageRequest, page_response};
use crate::service::Services;

#[derive(Deserialize)]
#[serde(expecting = "a JSON object")]
pub(super) struct QueryRequest {
    query: Option<String>,
}

pub(super) async fn post(
    State(services): State<Services>,
    CallerScope(scope): CallerScope,
    headers: HeaderMap,
    Document(request): Document<QueryRequest>,
) -> Result<Response, HttpError> {
    let page = PageRequest::from_headers(&headers)?;
    let text = request.query.unwrap_or_default();
    let answer = services
        .query
        .run(&text, page.size, page.continuation.as_deref(), scope)
        .await?;
    Ok(page_response(
        &answer.rows,
        answer.rows.item_type(),
        answer.continuation.as_deref(),
    ))
}

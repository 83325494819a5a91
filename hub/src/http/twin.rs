//! `/twins/{id}`.

use axum::extract::State;
use axum::http::header::ETAG;
use axum::response::Response;
use iothub_protocol::id::DeviceId;
use iothub_protocol::twin::{Twin, TwinPatch};

use super::auth::CallerScope;
use super::{Document, HttpError, Id, json_response};
use crate::service::{IfMatch, Services};

pub(super) async fn get(
    State(services): State<Services>,
    CallerScope(scope): CallerScope,
    Id(device): Id<DeviceId>,
) -> Result<Response, HttpError> {
    Ok(respond(&services.twin.get(&device, scope).await?))
}

pub(super) async fn patch(
    State(services): State<Services>,
    CallerScope(scope): CallerScope,
    Id(device): Id<DeviceId>,
    if_match: IfMatch,
    Document(patch): Document<TwinPatch>,
) -> Result<Response, HttpError> {
    Ok(respond(
        &services.twin.patch(&device, if_match, patch, scope).await?,
    ))
}

pub(super) async fn put(
    State(services): State<Services>,
    CallerScope(scope): CallerScope,
    Id(device): Id<DeviceId>,
    if_match: IfMatch,
    Document(replacement): Document<TwinPatch>,
) -> Result<Response, HttpError> {
    Ok(respond(
        &services
            .twin
            .replace(&device, if_match, replacement, scope)
            .await?,
    ))
}

fn respond(twin: &Twin) -> Response {
    let mut response = json_response(twin);
    if let Some(etag) = super::etag_header(&twin.etag) {
        response.headers_mut().insert(ETAG, etag);
    }
    response
}

//! `/twins/{id}`.

use axum::extract::State;
use axum::http::header::ETAG;
use axum::response::Response;
use iothub_protocol::id::DeviceId;
use iothub_protocol::twin::{Twin, TwinPatch};

use super::{Document, HttpError, Id, json_response};
use crate::service::{IfMatch, Services};

pub(super) async fn get(
    State(services): State<Services>,
    Id(device): Id<DeviceId>,
) -> Result<Response, HttpError> {
    Ok(respond(&services.twin.get(&device).await?))
}

pub(super) async fn patch(
    State(services): State<Services>,
    Id(device): Id<DeviceId>,
    if_match: IfMatch,
    Document(patch): Document<TwinPatch>,
) -> Result<Response, HttpError> {
    Ok(respond(
        &services.twin.patch(&device, if_match, patch).await?,
    ))
}

pub(super) async fn put(
    State(services): State<Services>,
    Id(device): Id<DeviceId>,
    if_match: IfMatch,
    Document(replacement): Document<TwinPatch>,
) -> Result<Response, HttpError> {
    Ok(respond(
        &services
            .twin
            .replace(&device, if_match, replacement)
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

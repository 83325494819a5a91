//! `/devices` and `/statistics`: the identity registry.

use axum::extract::{Request, State};
use axum::http::header::ETAG;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use iothub_protocol::error::ErrorCode;
use iothub_protocol::id::DeviceId;
use iothub_protocol::identity::DeviceIdentity;
use iothub_protocol::rest::ERROR_CODE;
use serde_json::json;

use super::auth::CallerScope;
use super::request::{RawBody, without_bom};
use super::{Document, HttpError, Id, Parameters, json_response};
use crate::service::{BulkRequest, DeviceUpdate, IfMatch, RenewalRequest, Services};

pub(super) async fn put(
    State(services): State<Services>,
    Id(device): Id<DeviceId>,
    if_match: IfMatch,
    Document(update): Document<DeviceUpdate>,
) -> Result<Response, HttpError> {
    // Without `If-Match` it creates a device; an update needs one, be it `*`.
    let stored = match if_match {
        IfMatch::Absent => services.device.create(&device, &update).await?,
        if_match => services.device.update(&device, if_match, update).await?,
    };
    Ok(respond(&stored))
}

pub(super) async fn get(
    State(services): State<Services>,
    CallerScope(scope): CallerScope,
    Id(device): Id<DeviceId>,
) -> Result<Response, HttpError> {
    Ok(respond(&services.device.get(&device, scope).await?))
}

pub(super) async fn delete(
    State(services): State<Services>,
    Id(device): Id<DeviceId>,
    if_match: IfMatch,
) -> Result<Response, HttpError> {
    services.device.delete(&device, if_match).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn list(
    State(services): State<Services>,
    CallerScope(scope): CallerScope,
    parameters: Parameters,
) -> Result<Response, HttpError> {
    let top = parameters.number("top")?;
    Ok(json_response(&services.device.list(top, scope).await?))
}

/// The longest body of a bulk call: 100 identities with keys, and 8 KiB of tags and properties for
/// each.
pub(super) const MAX_BULK_BODY: usize = 1024 * 1024;

pub(super) async fn bulk(
    State(services): State<Services>,
    request: Request,
) -> Result<Response, HttpError> {
    let RawBody(body) = RawBody::read(request, MAX_BULK_BODY).await?;
    let bulk = BulkRequest::read(without_bom(&body)).map_err(HttpError::bulk_refused)?;
    let result = services.device.bulk(bulk).await?;
    if result.is_successful {
        Ok(json_response(&result))
    } else {
        Err(HttpError::bulk_failed(result))
    }
}

/// 200, 207 if some devices kept their keys, or 400 if all did.
pub(super) async fn renew_keys(
    State(services): State<Services>,
    Document(request): Document<RenewalRequest>,
) -> Result<Response, HttpError> {
    let renewal = services.device.renew_keys(request).await?;
    let mut response = json_response(&renewal);
    *response.status_mut() = match (&renewal.rotated_keys[..], &renewal.errors[..]) {
        (_, []) => StatusCode::OK,
        ([], _) => StatusCode::BAD_REQUEST,
        _ => StatusCode::MULTI_STATUS,
    };
    if !renewal.errors.is_empty() {
        let name = ErrorCode::BulkRegistryOperationFailure.name();
        let headers = response.headers_mut();
        headers.insert(ERROR_CODE, HeaderValue::from_static(name));
    }
    Ok(response)
}

pub(super) async fn registry_statistics(
    State(services): State<Services>,
) -> Result<Response, HttpError> {
    let count = services.device.statistics().await?;
    Ok(json_response(&json!({
        "totalDeviceCount": count.total,
        "enabledDeviceCount": count.enabled,
        "disabledDeviceCount": count.total - count.enabled,
    })))
}

pub(super) async fn service_statistics(
    State(services): State<Services>,
) -> Result<Response, HttpError> {
    let connected = services.session.connected_count().await?;
    Ok(json_response(&json!({ "connectedDeviceCount": connected })))
}

fn respond(device: &DeviceIdentity) -> Response {
    let mut response = json_response(device);
    if let Some(etag) = device.etag.as_deref().and_then(super::etag_header) {
        response.headers_mut().insert(ETAG, etag);
    }
    response
}

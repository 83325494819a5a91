//! The parts of Azure's API that this hub lacks. Each answers 404 (no official client retries it),
//! with a text that names the missing feature, so that nobody looks for a mistake in the request.

use axum::Router;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use axum::routing::any;
use iothub_protocol::error::ErrorCode;
use iothub_protocol::id::DeviceId;

use super::auth::CallerScope;
use super::{HttpError, Id, json_response};
use crate::service::Services;

/// An empty list of something that this hub never has: clients that show several lists at once
/// continue with the others.
pub(super) async fn empty_list() -> Response {
    json_response(&[(); 0])
}

/// The modules of a device: always none.
pub(super) async fn no_modules(
    State(services): State<Services>,
    CallerScope(scope): CallerScope,
    Id(device): Id<DeviceId>,
) -> Result<Response, HttpError> {
    services.device.get(&device, scope).await?;
    Ok(empty_list().await)
}

/// The error for a path of Azure's API that this hub lacks; `None` for any other path.
pub(super) fn not_built(path: &str) -> Option<HttpError> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (code, what, instead) = match parts.as_slice() {
        ["devices" | "twins", _, "modules", ..] => (
            ErrorCode::ModuleNotFound,
            "modules are",
            "a device has one identity and one twin",
        ),
        ["configurations", ..] | ["devices", _, "applyConfigurationContent"] => (
            ErrorCode::GenericNotFound,
            "configurations and deployments are",
            "a twin job changes the twins of many devices",
        ),
        ["digitaltwins", ..] => (
            ErrorCode::GenericNotFound,
            "digital twins are",
            "twins and methods are at /twins/{id}",
        ),
        ["jobs", "create"] => (
            ErrorCode::GenericNotFound,
            "import and export jobs are",
            "POST /devices takes up to 100 devices; jobs over twins and methods are at /jobs/v2",
        ),
        ["jobs", id] if *id != "v2" => (
            ErrorCode::JobNotFound,
            "import and export jobs are",
            "jobs over twins and methods are at /jobs/v2",
        ),
        ["twins" | "devices", _, "streams", ..] => (
            ErrorCode::GenericNotFound,
            "device streams are",
            "methods reach a device",
        ),
        ["devices", _, "files", ..] => (
            ErrorCode::GenericNotFound,
            "file upload is",
            "telemetry carries up to 256 KiB a message",
        ),
        ["devices", _, "messages", ..] => (
            ErrorCode::GenericNotFound,
            "the device side of HTTPS is",
            "devices speak MQTT, over WebSockets too",
        ),
        ["messages", ..] => (
            ErrorCode::GenericNotFound,
            "cloud-to-device messages and file notifications are",
            "methods and desired properties reach a device",
        ),
        ["enrollments" | "enrollmentGroups" | "registrations", ..] | [_, "registrations", ..] => (
            ErrorCode::GenericNotFound,
            "the device provisioning service is",
            "devices are created by PUT /devices/{id} or POST /devices",
        ),
        _ => return None,
    };
    let message = format!("{what} not built into this hub; {instead}");
    Some(HttpError::new(code, message))
}

/// Paths that devices call with their own tokens, which are valid nowhere else in this API: the
/// answer is the same for all, and needs no authentication.
pub(super) fn device_router() -> Router {
    let refuse = |uri: Uri| async move {
        not_built(uri.path()).unwrap_or_else(|| super::nothing_at(uri.path()))
    };
    Router::new()
        .route("/devices/{id}/files", any(refuse))
        .route("/devices/{id}/files/{*rest}", any(refuse))
        .route("/devices/{id}/messages/{*rest}", any(refuse))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinguishes_unknown_paths_from_features_that_are_not_built() {
        for path in [
            "/",
            "/devices",
            "/device/a/modules",
            "/jobs/v2",
            "/jobs/v2/a/b",
            "/twins/a/b",
        ] {
            assert!(not_built(path).is_none(), "{path}");
        }
        for path in [
            "/jobs/v3",
            "/devices/modules/modules",
            "/scope/registrations/a/register",
        ] {
            assert!(not_built(path).is_some(), "{path}");
        }
    }
}

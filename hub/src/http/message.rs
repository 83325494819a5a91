//! Cloud-to-device messages: this hub has none, so no message waits for a device and there is no
//! feedback. Requests about them still get correct answers.
//!
//! Why: docs/decisions/0015-no-cloud-to-device-messages.md.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use iothub_protocol::error::ErrorCode;
use iothub_protocol::id::DeviceId;
use serde_json::json;

use super::auth::CallerScope;
use super::{HttpError, Id, json_response};
use crate::service::Services;

/// `DELETE /devices/{id}/commands`: removes the messages that wait for the device.
pub(super) async fn purge(
    State(services): State<Services>,
    CallerScope(scope): CallerScope,
    Id(device): Id<DeviceId>,
) -> Result<Response, HttpError> {
    services.device.get(&device, scope).await?;
    Ok(json_response(&json!({
        "deviceId": device.as_str(),
        "moduleId": null,
        "totalMessagesPurged": 0,
    })))
}

/// `GET /messages/serviceBound/feedback`: IoT Hub answers 204 when there is none.
pub(super) async fn feedback() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// Completing or abandoning feedback: no lock token is valid, because none is ever issued.
pub(super) async fn feedback_settle(Id(lock): Id<String>) -> HttpError {
    let message =
        format!("there is no message with the lock token `{lock}`: this hub has no feedback");
    HttpError::new(ErrorCode::DeviceMessageLockLost, message)
}

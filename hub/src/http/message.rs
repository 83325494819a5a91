//! Cloud-to-device messages, of which there are none: nothing sends them, so nothing waits for a
//! device and nothing is fed back. What services ask about them has a true answer all the same.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use iothub_protocol::error::ErrorCode;
use iothub_protocol::id::DeviceId;
use serde_json::json;

use super::{HttpError, Id, json_response};
use crate::service::Services;

/// `DELETE /devices/{id}/commands`: removes what waits for the device.
pub(super) async fn purge(
    State(services): State<Services>,
    Id(device): Id<DeviceId>,
) -> Result<Response, HttpError> {
    services.device.get(&device).await?;
    Ok(json_response(&json!({
        "deviceId": device.as_str(),
        "moduleId": null,
        "totalMessagesPurged": 0,
    })))
}

/// `GET /messages/serviceBound/feedback`: 204 is how IoT Hub says that there is none now.
pub(super) async fn feedback() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// Completing or abandoning feedback: whoever tries holds a lock that was never given.
pub(super) async fn feedback_settle(Id(lock): Id<String>) -> HttpError {
    let message =
        format!("there is no message with the lock token `{lock}`: this hub has no feedback");
    HttpError::new(ErrorCode::DeviceMessageLockLost, message)
}

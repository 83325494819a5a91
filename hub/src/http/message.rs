//! Cloud-to-device messages, of which there are none: nothing sends them, so nothing waits for a device and nothing is fed back. What
//! services ask about them has a true answer all the same.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use iothub_protocol::error::ErrorCode;
use iothub_protocol::id::DeviceId;
use serde_json::json;

use super::auth::Caller;
use super::{HttpError, Id, json_response};
use crate::identity::Rights;
use crate::service::Services;

/// `DELETE /devices/{id}/commands`: removes what waits for the device.
pub(super) async fn purge(
    State(services): State<Services>,
    caller: Caller,
    Id(device): Id<DeviceId>,
) -> Result<Response, HttpError> {
    caller.require(Rights::SERVICE_CONNECT)?;
    services.device.get(&device).await?;
    Ok(json_response(&json!({
        "deviceId": device.as_str(),
        "moduleId": null,
        "totalMessagesPurged": 0,
    })))
}

/// `GET /messages/serviceBound/feedback`: 204 is how IoT Hub says that there is none now.
pub(super) async fn feedback(caller: Caller) -> Result<StatusCode, HttpError> {
    caller.require(Rights::SERVICE_CONNECT)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Completing or abandoning feedback: whoever tries holds a lock that was never given.
pub(super) async fn feedback_settle(
    caller: Caller,
    Id(lock): Id<String>,
) -> Result<StatusCode, HttpError> {
    caller.require(Rights::SERVICE_CONNECT)?;
    let message =
        format!("there is no message with the lock token `{lock}`: this hub has no feedback");
    Err(HttpError::new(ErrorCode::DeviceMessageLockLost, message))
}

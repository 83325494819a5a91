//! A failed twin request in the format for devices: flat, unlike REST's (IoT Hub sends 400004 so;
//! Node's client reads only `errorCode`).

use iothub_protocol::error::ErrorCode;
use jiff::Timestamp;
use serde_json::json;

use crate::service::ServiceError;

/// Status and body of the response to a failed twin request.
pub(super) fn error_body(error: &ServiceError) -> (u16, Vec<u8>) {
    if let Some(source) = &error.source {
        tracing::error!(
            error = source as &dyn std::error::Error,
            "a twin request failed in the store"
        );
    }
    let now = Timestamp::now();
    let body = json!({
        "errorCode": error.code.number(),
        "trackingId": format!(
            "{:032x}-G:0-TimeStamp:{}",
            rand::random::<u128>(),
            now.strftime("%m/%d/%Y %H:%M:%S")
        ),
        "message": error.message,
        "timestampUtc": format!("{now:.7}"),
    });
    (status(error.code), body.to_string().into_bytes())
}

fn status(code: ErrorCode) -> u16 {
    code.http_status()
}

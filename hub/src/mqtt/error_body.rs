//! A failed twin request as a device reads it: flat, unlike REST's (IoT Hub sends 400004 so; Node
//! looks for `errorCode` alone).

use iothub_protocol::error::ErrorCode;
use jiff::Timestamp;
use serde_json::json;

use crate::service::ServiceError;

/// Status and body of the answer to a twin request that failed.
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
        "trackingId": format!("{:032x}-G:0-TimeStamp:{}", rand::random::<u128>(), now.strftime("%m/%d/%Y %H:%M:%S")),
        "message": error.message,
        "timestampUtc": format!("{now:.7}"),
    });
    (status(error.code), body.to_string().into_bytes())
}

fn status(code: ErrorCode) -> u16 {
    code.http_status()
}

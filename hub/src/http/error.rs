//! Errors in the formats that the official clients parse: IoT Hub's two formats, and the bulk
//! result (Node's client splits the text of the first; .NET's compares it with the header).

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use iothub_protocol::bulk::{BulkError, BulkResult};
use iothub_protocol::error::ErrorCode;
use iothub_protocol::rest::ERROR_CODE;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use crate::service::{ServiceError, bulk_message};

/// A failed request.
#[derive(Debug)]
pub(crate) struct HttpError {
    status: StatusCode,
    name: &'static str,
    number: u32,
    message: String,
    format: ErrorFormat,
}

/// The format of the body.
#[derive(Debug)]
enum ErrorFormat {
    /// `ErrorCode:Name;text`: everything but methods.
    Registry,
    /// A JSON string that holds JSON: methods. With the timeout that expired, if one did.
    Method(Option<Duration>),
    /// The registry's format plus the result of a bulk call: some clients read the one, some the
    /// other.
    Bulk(BulkResult),
}

#[derive(Serialize)]
struct Envelope {
    #[serde(rename = "Message")]
    message: String,
    #[serde(rename = "ExceptionMessage")]
    exception_message: String,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    bulk: Option<BulkResult>,
}

impl HttpError {
    /// An error with one of IoT Hub's codes.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let status =
            StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self {
            status,
            name: code.name(),
            number: code.number(),
            message: message.into(),
            format: ErrorFormat::Registry,
        }
    }

    /// An error of HTTP itself, for which IoT Hub has no code.
    pub(crate) fn plain(
        status: StatusCode,
        name: &'static str,
        message: impl Into<String>,
    ) -> Self {
        let number = u32::from(status.as_u16()) * 1000;
        Self {
            status,
            name,
            number,
            message: message.into(),
            format: ErrorFormat::Registry,
        }
    }

    /// For people: what happened.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The same error, in the format for method callers.
    pub(crate) fn for_method(self) -> Self {
        let timeout = match self.format {
            ErrorFormat::Method(timeout) => timeout,
            ErrorFormat::Registry | ErrorFormat::Bulk(_) => None,
        };
        Self {
            format: ErrorFormat::Method(timeout),
            ..self
        }
    }

    /// The error of a method call.
    pub(crate) fn method(error: ServiceError) -> Self {
        let timeout = error.timeout;
        Self {
            format: ErrorFormat::Method(timeout),
            ..Self::from(error)
        }
    }

    /// A bulk call that was rejected as a whole.
    pub(crate) fn bulk_refused(error: ServiceError) -> Self {
        let result = BulkResult::new(vec![BulkError {
            device_id: None,
            error_code: error.code.name().into(),
            error_status: Some(error.message.clone()),
            module_id: None,
            operation: None,
        }]);
        Self {
            format: ErrorFormat::Bulk(result),
            ..Self::from(error)
        }
    }

    /// A bulk call that failed in part. .NET's client reads the result only with this code.
    pub(crate) fn bulk_failed(result: BulkResult) -> Self {
        let message = bulk_message(&result);
        Self {
            format: ErrorFormat::Bulk(result),
            ..Self::new(ErrorCode::BulkRegistryOperationFailure, message)
        }
    }

    fn envelope(&self) -> Envelope {
        let now = Timestamp::now();
        let tracking = format!(
            "{:032x}-G:0-TimeStamp:{}",
            rand::random::<u128>(),
            now.strftime("%m/%d/%Y %H:%M:%S")
        );
        match &self.format {
            ErrorFormat::Registry | ErrorFormat::Bulk(_) => Envelope {
                message: format!("ErrorCode:{};{}", self.name, self.message),
                exception_message: format!("Tracking ID:{tracking}"),
                bulk: match &self.format {
                    ErrorFormat::Bulk(result) => Some(result.clone()),
                    _ => None,
                },
            },
            ErrorFormat::Method(timeout) => {
                let info = timeout.map_or_else(
                    || json!({}),
                    |timeout| json!({ "timeout": hours_minutes_seconds(timeout) }),
                );
                let inner = json!({
                    "errorCode": self.number,
                    "trackingId": tracking,
                    "message": self.message,
                    "info": info,
                    "timestampUtc": format!("{now:.7}"),
                });
                Envelope {
                    message: inner.to_string(),
                    exception_message: String::new(),
                    bulk: None,
                }
            }
        }
    }
}

impl From<ServiceError> for HttpError {
    fn from(error: ServiceError) -> Self {
        if let Some(source) = &error.source {
            tracing::error!(
                error = source as &dyn std::error::Error,
                "a request failed in the store"
            );
        }
        Self::new(error.code, error.message)
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.envelope())).into_response();
        super::set_json_content_type(response.headers_mut());
        response
            .headers_mut()
            .insert(ERROR_CODE, HeaderValue::from_static(self.name));
        response
    }
}

fn hours_minutes_seconds(duration: Duration) -> String {
    let seconds = duration.as_secs();
    format!(
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn node_can_split_a_registry_error_and_the_header_has_its_name() {
        let error = HttpError::new(ErrorCode::DeviceNotFound, "there is no device `a;b:c`");
        let envelope = error.envelope();
        let tracking = envelope
            .exception_message
            .strip_prefix("Tracking ID:")
            .unwrap();
        let (id, time) = tracking.split_once("-G:0-TimeStamp:").unwrap();
        assert!(id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit()));
        assert_eq!(time.len(), "09/29/2017 15:53:06".len());
        let message = envelope.message;
        assert_eq!(
            message.split(';').next().unwrap().split(':').nth(1),
            Some("DeviceNotFound")
        );
        let response = error.into_response();
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()["iothub-errorcode"], "DeviceNotFound");
        assert_eq!(
            response.headers()["content-type"],
            "application/json; charset=utf-8"
        );
    }

    #[test]
    fn a_method_error_is_json_in_a_string_with_the_timeout_that_expired() {
        let mut error = ServiceError::new(
            ErrorCode::DeviceNotOnline,
            "Timed out waiting for device to connect.",
        );
        error.timeout = Some(Duration::from_secs(3_725));
        let envelope = HttpError::method(error).envelope();
        let inner: Value = serde_json::from_str(&envelope.message).unwrap();
        assert_eq!(inner["errorCode"], 404_103);
        assert_eq!(inner["info"]["timeout"], "01:02:05");
        assert_eq!(envelope.exception_message, "");
    }
}

//! The one error of all services. HTTP and MQTT each map it to what their clients expect.

use std::time::Duration;

use iothub_protocol::error::ErrorCode;

use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ServiceError {
    /// IoT Hub's code; it determines the name and the HTTP status.
    pub code: ErrorCode,
    /// For people: what happened and what to do.
    pub message: String,
    /// The timeout that expired, if one did; method errors show it.
    pub timeout: Option<Duration>,
    /// The cause of an internal error. It is logged, not sent to clients.
    #[source]
    pub source: Option<Box<StoreError>>,
}

impl ServiceError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            timeout: None,
            source: None,
        }
    }

    #[must_use]
    pub fn device_not_found(device: &str) -> Self {
        Self::new(
            ErrorCode::DeviceNotFound,
            format!("there is no device `{device}`"),
        )
    }

    #[must_use]
    pub fn job_not_found(job: &str) -> Self {
        Self::new(ErrorCode::JobNotFound, format!("there is no job `{job}`"))
    }

    pub fn argument(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::ArgumentInvalid, message)
    }

    /// The resource's version is not the one that `If-Match` names.
    #[must_use]
    pub fn precondition_failed() -> Self {
        Self::new(
            ErrorCode::PreconditionFailed,
            "the etag in the request does not match the etag of the existing resource, \
             as per RFC 7232",
        )
    }
}

impl From<StoreError> for ServiceError {
    fn from(source: StoreError) -> Self {
        let (code, message) = match source {
            StoreError::Deadline => (
                ErrorCode::GenericTimeout,
                "the read took too long and was cancelled; narrow it with a condition such as \
                 properties.desired.floor = 3, or ask for a smaller page",
            ),
            StoreError::Busy => (
                ErrorCode::ThrottleBacklogLimitExceeded,
                "too many reads are already waiting; try again in a few seconds",
            ),
            StoreError::Closed => (ErrorCode::ServiceUnavailable, "the hub is shutting down"),
            _ => (
                ErrorCode::ServerError,
                "the hub could not read or write its store; its log says why",
            ),
        };
        // A throttled read is not a failure, and there may be many: it is not logged.
        let is_failure = !matches!(source, StoreError::Busy);
        Self {
            code,
            message: message.into(),
            timeout: None,
            source: is_failure.then(|| Box::new(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_store_asks_for_a_retry_and_a_slow_read_for_a_smaller_request() {
        let busy = ServiceError::from(StoreError::Busy);
        assert_eq!(busy.code.http_status(), 429);
        assert!(busy.message.contains("try again in a few seconds"));
        assert!(busy.source.is_none());
        let slow = ServiceError::from(StoreError::Deadline);
        assert_eq!(slow.code.name(), "GenericTimeout");
        assert!(slow.message.contains("narrow it"));
        assert!(slow.source.is_some());
    }
}

//! The one error of all services. HTTP and MQTT each turn it into what their clients expect.

use std::time::Duration;

use iothub_protocol::error::ErrorCode;

use crate::store::StoreError;

/// Why an operation was not done.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ServiceError {
    /// IoT Hub's code, which carries its name and its HTTP status.
    pub code: ErrorCode,
    /// What happened, for a person.
    pub message: String,
    /// The timeout that passed, when one did (method errors show it).
    pub timeout: Option<Duration>,
    /// What lies beneath an error of the hub's own. It is logged, not shown.
    #[source]
    pub source: Option<Box<StoreError>>,
}

impl ServiceError {
    /// An error that is told to the client.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            timeout: None,
            source: None,
        }
    }

    /// There is no such device.
    #[must_use]
    pub fn device_not_found(device: &str) -> Self {
        Self::new(
            ErrorCode::DeviceNotFound,
            format!("there is no device `{device}`"),
        )
    }

    /// There is no such job.
    #[must_use]
    pub fn job_not_found(job: &str) -> Self {
        Self::new(ErrorCode::JobNotFound, format!("there is no job `{job}`"))
    }

    /// An argument is not what it should be.
    pub fn argument(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::ArgumentInvalid, message)
    }

    /// The resource is not the version that `If-Match` names.
    #[must_use]
    pub fn precondition_failed() -> Self {
        Self::new(
            ErrorCode::PreconditionFailed,
            "the etag in the request does not match the etag of the existing resource, as per RFC 7232",
        )
    }
}

impl From<StoreError> for ServiceError {
    fn from(source: StoreError) -> Self {
        let (code, message) = match source {
            StoreError::Deadline => (
                ErrorCode::GenericTimeout,
                "reading took too long and was stopped; ask for less: a condition such as properties.desired.floor = 3, or a smaller page",
            ),
            StoreError::Busy => (
                ErrorCode::ThrottleBacklogLimitExceeded,
                "the hub is busy with other reads and too many wait; try again in some seconds",
            ),
            StoreError::Closed => (ErrorCode::ServiceUnavailable, "the hub is shutting down"),
            _ => (
                ErrorCode::ServerError,
                "the hub could not read or write its store; its log says why",
            ),
        };
        // Who is told to come again is no failure, and there may be many.
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
        assert!(busy.message.contains("try again in some seconds"));
        assert!(busy.source.is_none());
        let slow = ServiceError::from(StoreError::Deadline);
        assert_eq!(slow.code.name(), "GenericTimeout");
        assert!(slow.message.contains("ask for less"));
        assert!(slow.source.is_some());
    }
}

//! What can go wrong between this machine and the hub's answer.

use std::fmt;
use std::time::Duration;

use iothub_protocol::connection_string::HostName;
use iothub_protocol::{ErrorCode, JobId};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde::Deserialize;

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A certificate in the CA file is not PEM.
    #[error("the CA file is not PEM")]
    CaPem(#[source] rustls_pki_types::pem::Error),
    /// A certificate in the CA file cannot be trusted.
    #[error("the CA file has a certificate that cannot be used")]
    CaCertificate(#[source] rustls::Error),
    /// The CA file has no certificate.
    #[error("the CA file has no certificate; expected PEM with BEGIN CERTIFICATE")]
    CaEmpty,
    /// Nobody is trusted.
    #[error("the system has no CA certificates and none was given (--ca)")]
    NoRoots,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// The HTTP client cannot be set up.
    #[error("the HTTP client cannot be set up")]
    Http(#[source] reqwest::Error),
    /// No address can be made of the host name.
    #[error("`{0}` cannot be a host name in an address")]
    HostName(HostName),
}

/// Why a request did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No connection, or one that broke.
    #[error("{} {host}", if *.connected { "lost the connection to" } else { "cannot reach" })]
    Unreachable {
        /// The hub.
        host: HostName,
        /// Whether there was a connection.
        connected: bool,
        /// What happened.
        source: reqwest::Error,
    },
    /// No answer in time.
    #[error("{host} did not answer within {} s", .after.as_secs())]
    TimedOut {
        /// The hub.
        host: HostName,
        /// How long it had.
        after: Duration,
    },
    /// The hub answered with an error.
    #[error(transparent)]
    Refused(#[from] ErrorResponse),
    /// The hub answered something else than it should.
    #[error("the hub's answer is not {what}")]
    UnexpectedBody {
        /// What was expected.
        what: &'static str,
        /// Where it differs.
        source: serde_json::Error,
    },
    /// A call for many devices failed, and the hub does not say for which.
    #[error("the hub says that a call for many devices failed, and not for which of them")]
    Bulk,
    /// The hub sends more than anything sensible.
    #[error("the hub sends {what} that is too long")]
    TooLong {
        /// What was expected.
        what: &'static str,
    },
    /// The request cannot be written.
    #[error("the request cannot be encoded")]
    Encode(#[source] serde_json::Error),
    /// A header cannot carry its value.
    #[error("the value for the header {0} has characters that no header can carry")]
    Header(&'static str),
    /// An id that no path can carry.
    #[error("`{0}` cannot be addressed over HTTP")]
    Unaddressable(String),
    /// The hub answered 200 for a job that it does not know, as Azure does.
    #[error("the hub knows no job `{0}`")]
    NoSuchJob(JobId),
}

impl ClientError {
    /// The hub's error code, when the hub gave one.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(response) => response.code,
            Self::NoSuchJob(_) => Some(ErrorCode::JobNotFound),
            _ => None,
        }
    }

    /// The HTTP status, when the hub answered with an error.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(response) => Some(response.status),
            _ => None,
        }
    }
}

/// An error as the hub tells it, in either of the two dialects that IoT Hub has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorResponse {
    /// The HTTP status.
    pub status: u16,
    /// The code, when it is one of those known.
    pub code: Option<ErrorCode>,
    /// The code's name, known or not (`iothub-errorcode`, else from the body).
    pub name: Option<String>,
    /// The text for people.
    pub message: String,
    /// What the hub's operator can find it by.
    pub tracking_id: Option<String>,
    /// When to ask again.
    pub retry_after: Option<Duration>,
}

impl std::error::Error for ErrorResponse {}

impl fmt::Display for ErrorResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the hub answers {}", self.status)?;
        if let Some(name) = &self.name {
            write!(f, " {name}")?;
        }
        match self.message.as_str() {
            "" => Ok(()),
            message => write!(f, ": {message}"),
        }
    }
}

/// The body of an error.
#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "Message", alias = "message")]
    message: Option<String>,
    #[serde(rename = "ExceptionMessage", alias = "exceptionMessage")]
    exception_message: Option<String>,
}

/// What `Message` holds in the second dialect.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    error_code: Option<u32>,
    tracking_id: Option<String>,
    message: Option<String>,
}

impl ErrorResponse {
    pub(super) fn read(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let header = |name: &str| Some(headers.get(name)?.to_str().ok()?.trim().to_owned());
        let mut response = Self {
            status: status.as_u16(),
            code: None,
            name: header("iothub-errorcode").filter(|name| !name.is_empty()),
            message: String::new(),
            tracking_id: None,
            retry_after: header(RETRY_AFTER.as_str())
                .and_then(|seconds| seconds.parse().ok().map(Duration::from_secs)),
        };
        match serde_json::from_slice::<Envelope>(body) {
            Ok(envelope) => response.read_envelope(envelope),
            // Something between us and the hub answered, in its own words.
            Err(_) => response.message = status.canonical_reason().unwrap_or("").to_owned(),
        }
        response.code = response
            .code
            .or_else(|| response.name.as_deref().and_then(ErrorCode::from_name));
        response.name = response
            .name
            .or_else(|| response.code.map(|code| code.name().to_owned()));
        response
    }

    fn read_envelope(&mut self, envelope: Envelope) {
        let message = envelope.message.unwrap_or_default();
        if let Ok(details) = serde_json::from_str::<Details>(&message) {
            self.code = details.error_code.and_then(ErrorCode::from_number);
            self.tracking_id = details.tracking_id;
            self.message = details.message.unwrap_or_default();
            return;
        }
        let exception = envelope.exception_message.unwrap_or_default();
        let (tracking, detail) = match exception.strip_prefix("Tracking ID:") {
            Some(id) => (Some(id.trim().to_owned()), ""),
            None => (None, exception.trim()),
        };
        self.tracking_id = tracking.filter(|id| !id.is_empty());
        let text = match message
            .strip_prefix("ErrorCode:")
            .and_then(|rest| rest.split_once(';'))
        {
            Some((name, text)) => {
                self.name.get_or_insert_with(|| name.to_owned());
                text
            }
            None => message.as_str(),
        };
        self.message = match (text.trim(), detail) {
            (text, "") => text.to_owned(),
            ("", detail) => detail.to_owned(),
            (text, detail) => format!("{text} ({detail})"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn read(status: u16, name: Option<&'static str>, body: &str) -> ErrorResponse {
        let mut headers = HeaderMap::new();
        if let Some(name) = name {
            headers.insert("iothub-errorcode", HeaderValue::from_static(name));
        }
        ErrorResponse::read(
            StatusCode::from_u16(status).unwrap(),
            &headers,
            body.as_bytes(),
        )
    }

    #[test]
    fn the_first_dialect_gives_name_and_text() {
        let response = read(
            401,
            None,
            r#"{"Message":"ErrorCode:IotHubUnauthorizedAccess;Unauthorized","ExceptionMessage":"Tracking ID:651347e2-G:11-TimeStamp:09/29/2017 15:53:06"}"#,
        );
        assert_eq!(response.code, Some(ErrorCode::IotHubUnauthorizedAccess));
        assert_eq!(
            response.to_string(),
            "the hub answers 401 IotHubUnauthorizedAccess: Unauthorized"
        );
        assert_eq!(
            response.tracking_id.as_deref(),
            Some("651347e2-G:11-TimeStamp:09/29/2017 15:53:06")
        );
    }

    #[test]
    fn the_second_dialect_gives_number_and_text() {
        let response = read(
            404,
            None,
            r#"{"Message":"{\"errorCode\":404103,\"trackingId\":\"2ce0\",\"message\":\"Timed out waiting for device to connect.\",\"info\":{\"timeout\":\"00:00:00\"},\"timestampUtc\":\"2018-08-24T17:49:33.2Z\"}","ExceptionMessage":""}"#,
        );
        assert_eq!(response.code, Some(ErrorCode::DeviceNotOnline));
        assert_eq!(
            response.to_string(),
            "the hub answers 404 DeviceNotOnline: Timed out waiting for device to connect."
        );
    }

    #[test]
    fn the_header_names_a_code_that_the_body_does_not() {
        let response = read(412, Some("PreconditionFailed"), r#"{"Message":"etag"}"#);
        assert_eq!(response.code, Some(ErrorCode::PreconditionFailed));
        let unknown = read(
            400,
            Some("NeverHeardOf"),
            r#"{"Message":"ErrorCode:NeverHeardOf;x"}"#,
        );
        assert_eq!(
            (unknown.code, unknown.name.as_deref()),
            (None, Some("NeverHeardOf"))
        );
    }

    #[test]
    fn the_body_of_a_proxy_is_not_quoted() {
        let response = read(502, None, "<html>Bad gateway from proxy-7</html>");
        assert_eq!(response.to_string(), "the hub answers 502: Bad Gateway");
    }
}

//! Errors of requests to the hub.

use std::error::Error;
use std::fmt;
use std::io;
use std::iter::successors;
use std::time::Duration;

use iothub_protocol::connection_string::HostName;
use iothub_protocol::rest::ERROR_CODE;
use iothub_protocol::{ErrorCode, JobId};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use rustls::CertificateError;
use serde::Deserialize;

/// Why a client cannot be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The CA certificates are not PEM.
    #[error("the CA file is not PEM")]
    CaPem(#[source] rustls_pki_types::pem::Error),
    /// A CA certificate cannot be used.
    #[error("the CA file has a certificate that cannot be used")]
    CaCertificate(#[source] rustls::Error),
    /// The text of the CA certificates has none.
    #[error("the CA file has no certificate; expected PEM with BEGIN CERTIFICATE")]
    CaEmpty,
    /// Neither the system nor the options have a CA certificate.
    #[error("the system has no CA certificates and none was given")]
    NoRoots,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// The HTTP client cannot be set up.
    #[error("the HTTP client cannot be set up")]
    Http(#[source] reqwest::Error),
    /// The host name makes no valid URL.
    #[error("`{0}` is not a valid host name of a URL")]
    HostName(HostName),
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No connection, or a lost one.
    #[error("{} {host}", if *.connected { "lost the connection to" } else { "cannot reach" })]
    Unreachable {
        /// The hub.
        host: HostName,
        /// Whether a connection was established.
        connected: bool,
        /// Why.
        source: reqwest::Error,
    },
    /// No response in time.
    #[error("{host} did not answer within {} s", .after.as_secs())]
    TimedOut {
        /// The hub.
        host: HostName,
        /// The timeout.
        after: Duration,
    },
    /// The hub answered with an error status.
    #[error(transparent)]
    Refused(#[from] ErrorResponse),
    /// The body has an unexpected form.
    #[error("the hub's answer is not {what}")]
    UnexpectedBody {
        /// What was expected.
        what: &'static str,
        /// Why the body is not that.
        source: serde_json::Error,
    },
    /// A bulk call failed without an error for any device.
    #[error("a bulk call failed, and the hub does not say for which devices")]
    Bulk,
    /// A message exceeds the limit.
    #[error("the hub sends {what} that is too long")]
    TooLong {
        /// What is too long.
        what: &'static str,
    },
    /// A value cannot be encoded as JSON.
    #[error("the request cannot be encoded")]
    Encode(#[source] serde_json::Error),
    /// A value has characters that are invalid in a header.
    #[error("the value for the header {0} has characters that no header can carry")]
    Header(&'static str),
    /// An id that cannot be a path segment.
    #[error("`{0}` cannot be addressed over HTTP")]
    Unaddressable(String),
    /// The runtime ends, or the request panicked.
    #[error("the request was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
    /// The hub answered 200 with type and status `unknown`, as Azure does for a missing job.
    #[error("the hub has no job `{0}`")]
    NoSuchJob(JobId),
}

impl ClientError {
    /// The hub's error code, if the response has one.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(response) => response.code,
            Self::NoSuchJob(_) => Some(ErrorCode::JobNotFound),
            _ => None,
        }
    }

    /// The HTTP status of an error response.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(response) => Some(response.status),
            _ => None,
        }
    }

    /// The rights that the request needs, separated by commas, if the policy lacks one of them, or
    /// [`WIDER_BOUNDS`](crate::WIDER_BOUNDS).
    #[must_use]
    pub fn needed_rights(&self) -> Option<&'static str> {
        match self {
            Self::Refused(response) => response.needed_rights,
            _ => None,
        }
    }

    /// What is wrong with the certificate of the hub, if that is the cause.
    #[must_use]
    pub fn certificate_problem(&self) -> Option<CertificateProblem> {
        let Self::Unreachable { source, .. } = self else {
            return None;
        };
        let first: &(dyn Error + 'static) = source;
        let mut causes = successors(Some(first), |&cause| match cause.downcast_ref() {
            // Its `source` would be that of the error in it.
            Some(io) => io::Error::get_ref(io).map(|inner| inner as _),
            None => cause.source(),
        });
        match causes.find_map(|cause| cause.downcast_ref())? {
            rustls::Error::InvalidCertificate(error) => Some(CertificateProblem::of(error)),
            _ => None,
        }
    }

    /// Whether the error may go away by itself soon.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            _ => matches!(self.status(), Some(429 | 500..=599)),
        }
    }
}

/// What is wrong with the certificate of a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateProblem {
    /// It has expired, or this machine's clock is fast.
    Expired {
        /// Its end, in seconds since 1970.
        not_after: u64,
    },
    /// It is not valid yet, or this machine's clock is slow.
    NotValidYet {
        /// Its start, in seconds since 1970.
        not_before: u64,
    },
    /// It is from a CA that is not trusted.
    UnknownAuthority,
    /// It does not have the host's name.
    OtherNames(
        /// The names and addresses that it has.
        Vec<String>,
    ),
    /// It is the certificate of a CA (`CA:TRUE`).
    IsAuthority,
    /// Its purposes do not include servers.
    NotForServers,
    /// Anything else.
    Other,
}

impl CertificateProblem {
    fn of(error: &CertificateError) -> Self {
        match error {
            CertificateError::ExpiredContext { not_after, .. } => Self::Expired {
                not_after: not_after.as_secs(),
            },
            CertificateError::NotValidYetContext { not_before, .. } => Self::NotValidYet {
                not_before: not_before.as_secs(),
            },
            // A CA with the same name but another key yields a bad signature.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Self::UnknownAuthority
            }
            CertificateError::NotValidForNameContext { presented, .. } => {
                // They look like `DnsName("localhost")` and `IpAddress(127.0.0.1)`.
                let name = |shown: &String| {
                    let inner = shown
                        .split_once('(')
                        .map_or(shown.as_str(), |(_, name)| name);
                    inner.trim_end_matches(')').trim_matches('"').to_owned()
                };
                Self::OtherNames(presented.iter().map(name).collect())
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::NotForServers
            }
            // rustls does not name this one, and the verifier's own type is not public there.
            CertificateError::Other(other) if format!("{:?}", other.0) == "CaUsedAsEndEntity" => {
                Self::IsAuthority
            }
            _ => Self::Other,
        }
    }
}

/// An error response of the hub, in either of IoT Hub's two formats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorResponse {
    /// The HTTP status.
    pub status: u16,
    /// `None`: unknown to this program.
    pub code: Option<ErrorCode>,
    /// Name of the code, known or not (`iothub-errorcode`, else from the body).
    pub name: Option<String>,
    /// What happened, in the hub's words.
    pub message: String,
    /// Id for the hub's operator to find the request.
    pub tracking_id: Option<String>,
    /// How long the hub asks to wait before a retry: `Retry-After`, or `wait 10 seconds` in the
    /// text of a 429.
    pub retry_after: Option<Duration>,
    /// The rights that the request needs, separated by commas, if the policy lacks one of them, or
    /// [`WIDER_BOUNDS`](crate::WIDER_BOUNDS).
    pub needed_rights: Option<&'static str>,
}

impl Error for ErrorResponse {}

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

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "Message", alias = "message")]
    message: Option<String>,
    #[serde(rename = "ExceptionMessage", alias = "exceptionMessage")]
    exception_message: Option<String>,
}

/// Content of `Message` in the second format.
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
            name: header(ERROR_CODE).filter(|name| !name.is_empty()),
            message: String::new(),
            tracking_id: None,
            retry_after: header(RETRY_AFTER.as_str())
                .and_then(|seconds| seconds.parse().ok().map(Duration::from_secs)),
            needed_rights: None,
        };
        match serde_json::from_slice::<Envelope>(body) {
            Ok(envelope) => response.read_envelope(envelope),
            // A proxy answered, with a body of its own.
            Err(_) => response.message = status.canonical_reason().unwrap_or("").to_owned(),
        }
        response.code = response
            .code
            .or_else(|| response.name.as_deref().and_then(ErrorCode::from_name));
        response.name = response
            .name
            .or_else(|| response.code.map(|code| code.name().to_owned()));
        if response.status == 429 {
            let asked = asked_wait(&response.message);
            response.retry_after = response.retry_after.or(asked);
        }
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

/// The time in `... wait 10 seconds ...`: Azure sends no `Retry-After`.
fn asked_wait(text: &str) -> Option<Duration> {
    let text = text.to_ascii_lowercase();
    let (_, after) = text.split_once("wait ")?;
    let mut words = after.split_whitespace();
    let number = words.next()?.parse().ok()?;
    let is_seconds = words.next()?.starts_with("second");
    is_seconds.then_some(Duration::from_secs(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn read(status: u16, name: Option<&'static str>, body: &str) -> ErrorResponse {
        let mut headers = HeaderMap::new();
        if let Some(name) = name {
            headers.insert(ERROR_CODE, HeaderValue::from_static(name));
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
            concat!(
                r#"{"Message":"ErrorCode:IotHubUnauthorizedAccess;Unauthorized","#,
                r#""ExceptionMessage":"Tracking ID:651347e2-G:11-TimeStamp:09/29/2017 15:53:06"}"#
            ),
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
            concat!(
                r#"{"Message":"{\"errorCode\":404103,\"trackingId\":\"2ce0\","#,
                r#"\"message\":\"Timed out waiting for device to connect.\","#,
                r#"\"info\":{\"timeout\":\"00:00:00\"},"#,
                r#"\"timestampUtc\":\"2018-08-24T17:49:33.2Z\"}","ExceptionMessage":""}"#
            ),
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
    fn a_throttled_request_waits_as_long_as_the_text_asks() {
        for (status, text, expected) in [
            (
                429,
                "Throttled. Please wait 10 seconds and try again.",
                Some(10),
            ),
            (429, "Wait 3 seconds", Some(3)),
            (429, "wait a moment", None),
            (429, "Too many requests", None),
            (503, "wait 10 seconds", None),
        ] {
            let body = format!(r#"{{"Message":"ErrorCode:ThrottlingException;{text}"}}"#);
            let asked = read(status, None, &body).retry_after;
            assert_eq!(asked, expected.map(Duration::from_secs), "{status} {text}");
        }
    }

    #[test]
    fn the_body_of_a_proxy_is_not_quoted() {
        let response = read(502, None, "<html>Bad gateway from proxy-7</html>");
        assert_eq!(response.to_string(), "the hub answers 502: Bad Gateway");
    }
}

//! Direct methods: the request of `POST /twins/{id}/methods` (also part of a job) and its result.
//!
//! Payloads are passed on byte for byte, without being parsed: their meaning is between the caller
//! and the device. Source: "Understand and invoke direct methods from IoT Hub".

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::id::MethodName;
use crate::integer::Integer;

/// The longest payload of a request or answer, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 128 * 1024;

/// Limits of the response timeout, in seconds.
pub const RESPONSE_TIMEOUT_S: RangeInclusive<u64> = 5..=300;

/// Limits of the time to wait for a device that is not connected, in seconds.
pub const CONNECT_TIMEOUT_S: RangeInclusive<u64> = 0..=300;

/// Response timeout of a request that has none.
pub const DEFAULT_RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// A method call. Its timeouts are within their limits.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MethodRequest {
    method_name: MethodName,
    response_timeout_in_seconds: u64,
    connect_timeout_in_seconds: u64,
    payload: Option<Box<RawValue>>,
}

/// Why a method call is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MethodRequestError {
    /// A timeout is out of range. The service's wording.
    #[error("{member} must be within [{min}; {max}].")]
    Timeout {
        /// `responseTimeoutInSeconds` or `connectTimeoutInSeconds`.
        member: &'static str,
        /// The minimum, in seconds.
        min: u64,
        /// The maximum, in seconds.
        max: u64,
    },
    /// The connect timeout is longer than the response timeout, which the service refuses.
    #[error(
        "connectTimeoutInSeconds is {connect}; expected at most responseTimeoutInSeconds, which \
         is {response}. \
         Raise responseTimeoutInSeconds, or lower connectTimeoutInSeconds."
    )]
    ConnectBeyondResponse {
        /// `connectTimeoutInSeconds`.
        connect: u64,
        /// `responseTimeoutInSeconds`, or its default.
        response: u64,
    },
}

impl MethodRequest {
    /// A call without payload and with the default timeouts: 30 s for the answer, none to connect
    /// (the device must be connected).
    #[must_use]
    pub const fn new(method_name: MethodName) -> Self {
        Self {
            method_name,
            response_timeout_in_seconds: DEFAULT_RESPONSE_TIMEOUT.as_secs(),
            connect_timeout_in_seconds: 0,
            payload: None,
        }
    }

    /// Sets the payload.
    #[must_use]
    pub fn with_payload(self, payload: Box<RawValue>) -> Self {
        Self {
            payload: Some(payload),
            ..self
        }
    }

    /// Sets the response timeout; fractions of a second are dropped.
    ///
    /// # Errors
    ///
    /// If it is outside of [`RESPONSE_TIMEOUT_S`].
    pub fn with_response_timeout(self, timeout: Duration) -> Result<Self, MethodRequestError> {
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        Ok(Self {
            response_timeout_in_seconds: response_timeout(seconds)?,
            ..self
        })
    }

    /// Sets the connect timeout; fractions of a second are dropped.
    ///
    /// # Errors
    ///
    /// If it is outside of [`CONNECT_TIMEOUT_S`].
    pub fn with_connect_timeout(self, timeout: Duration) -> Result<Self, MethodRequestError> {
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        Ok(Self {
            connect_timeout_in_seconds: connect_timeout(seconds)?,
            ..self
        })
    }

    /// Checks the timeouts against each other, as the service does for a new call. Deserializing
    /// does not check this, so that stored requests stay readable.
    ///
    /// # Errors
    ///
    /// If the connect timeout is longer than the response timeout.
    pub const fn check_timeouts(&self) -> Result<(), MethodRequestError> {
        let (connect, response) = (
            self.connect_timeout_in_seconds,
            self.response_timeout_in_seconds,
        );
        if connect > response {
            return Err(MethodRequestError::ConnectBeyondResponse { connect, response });
        }
        Ok(())
    }

    /// The method's name.
    #[must_use]
    pub const fn method_name(&self) -> &MethodName {
        &self.method_name
    }

    /// The payload; `None` if the request had none or `null`.
    #[must_use]
    pub fn payload(&self) -> Option<&RawValue> {
        self.payload.as_deref()
    }

    /// How long to wait for a device that is not connected.
    #[must_use]
    pub const fn connect_timeout(&self) -> Duration {
        Duration::from_secs(self.connect_timeout_in_seconds)
    }

    /// How long the device may take to answer.
    #[must_use]
    pub const fn response_timeout(&self) -> Duration {
        Duration::from_secs(self.response_timeout_in_seconds)
    }
}

impl PartialEq for MethodRequest {
    fn eq(&self, other: &Self) -> bool {
        let parts = |request: &Self| {
            (
                request.response_timeout_in_seconds,
                request.connect_timeout_in_seconds,
            )
        };
        self.method_name == other.method_name
            && parts(self) == parts(other)
            && self.payload().map(RawValue::get) == other.payload().map(RawValue::get)
    }
}

impl Eq for MethodRequest {}

impl<'de> Deserialize<'de> for MethodRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// As clients send it: each timeout may be absent or null.
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", expecting = "a JSON object")]
        struct Wire {
            method_name: MethodName,
            #[serde(default)]
            response_timeout_in_seconds: Option<Integer>,
            /// The name of `responseTimeoutInSeconds` in 2016.
            #[serde(default)]
            timeout_in_seconds: Option<Integer>,
            #[serde(default)]
            connect_timeout_in_seconds: Option<Integer>,
            #[serde(default)]
            payload: Option<Box<RawValue>>,
        }

        let wire = Wire::deserialize(deserializer)?;
        let mut request = Self::new(wire.method_name);
        if let Some(Integer(seconds)) = wire.response_timeout_in_seconds.or(wire.timeout_in_seconds)
        {
            request.response_timeout_in_seconds =
                response_timeout(seconds).map_err(D::Error::custom)?;
        }
        if let Some(Integer(seconds)) = wire.connect_timeout_in_seconds {
            request.connect_timeout_in_seconds =
                connect_timeout(seconds).map_err(D::Error::custom)?;
        }
        request.payload = wire.payload;
        Ok(request)
    }
}

fn response_timeout(seconds: i64) -> Result<u64, MethodRequestError> {
    within("responseTimeoutInSeconds", seconds, &RESPONSE_TIMEOUT_S)
}

fn connect_timeout(seconds: i64) -> Result<u64, MethodRequestError> {
    within("connectTimeoutInSeconds", seconds, &CONNECT_TIMEOUT_S)
}

fn within(
    member: &'static str,
    seconds: i64,
    limits: &RangeInclusive<u64>,
) -> Result<u64, MethodRequestError> {
    let (min, max) = (*limits.start(), *limits.end());
    u64::try_from(seconds)
        .ok()
        .filter(|seconds| limits.contains(seconds))
        .ok_or(MethodRequestError::Timeout { member, min, max })
}

/// The answer of a device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MethodResult {
    /// The device's own status; any number is an answer.
    pub status: i32,
    /// The payload; `null` if the answer was empty.
    #[serde(default)]
    pub payload: Option<Box<RawValue>>,
}

impl PartialEq for MethodResult {
    fn eq(&self, other: &Self) -> bool {
        let text = |result: &Self| {
            result
                .payload
                .as_ref()
                .map(|payload| payload.get().to_owned())
        };
        self.status == other.status && text(self) == text(other)
    }
}

impl Eq for MethodResult {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<MethodRequest, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// The sample of "Understand and invoke direct methods from IoT Hub".
    #[test]
    fn a_request_is_read_and_written() {
        let text = r#"{"methodName":"reboot","responseTimeoutInSeconds":200,"connectTimeoutInSeconds":5,"payload":{"input1":"someInput","input2":"anotherInput"}}"#;
        let request = read(text).unwrap();
        assert_eq!(request.method_name(), &"reboot");
        assert_eq!(request.response_timeout(), Duration::from_secs(200));
        assert_eq!(request.connect_timeout(), Duration::from_secs(5));
        assert_eq!(serde_json::to_string(&request).unwrap(), text);
    }

    /// What azure-iot-hub 2.7.0 sends in the tutorial: a string that holds JSON text, and no
    /// timeouts.
    #[test]
    fn omitted_timeouts_have_defaults_and_the_payload_keeps_its_bytes() {
        let request =
            read(r#"{"methodName":"lockDoor","payload":"{\"lockTime\":\"10m\"}","other":1}"#)
                .unwrap();
        assert_eq!(request.response_timeout(), DEFAULT_RESPONSE_TIMEOUT);
        assert_eq!(request.connect_timeout(), Duration::ZERO);
        assert_eq!(
            request.payload().map(RawValue::get),
            Some(r#""{\"lockTime\":\"10m\"}""#)
        );
        let spaced = read(r#"{"methodName":"m","payload":{"b": 1.50,  "a":1e2}}"#).unwrap();
        assert_eq!(
            spaced.payload().map(RawValue::get),
            Some(r#"{"b": 1.50,  "a":1e2}"#)
        );
        for text in [
            r#"{"methodName":"m"}"#,
            r#"{"methodName":"m","payload":null,"responseTimeoutInSeconds":null}"#,
        ] {
            assert_eq!(
                read(text).unwrap(),
                MethodRequest::new("m".parse().unwrap())
            );
        }
        let old = read(r#"{"methodName":"m","timeoutInSeconds":60}"#).unwrap();
        assert_eq!(old.response_timeout(), Duration::from_secs(60));
    }

    /// The text is from an error body quoted in an issue thread: `responseTimeoutInSeconds must be
    /// within [5; 300].`
    #[test]
    fn timeouts_have_limits() {
        for (member, value, expected) in [
            (
                "responseTimeoutInSeconds",
                "4",
                "responseTimeoutInSeconds must be within [5; 300].",
            ),
            (
                "responseTimeoutInSeconds",
                "301",
                "responseTimeoutInSeconds must be within [5; 300].",
            ),
            (
                "connectTimeoutInSeconds",
                "301",
                "connectTimeoutInSeconds must be within [0; 300].",
            ),
            (
                "connectTimeoutInSeconds",
                "-1",
                "connectTimeoutInSeconds must be within [0; 300].",
            ),
        ] {
            let error = read(&format!(r#"{{"methodName":"m","{member}":{value}}}"#)).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let request = MethodRequest::new("m".parse().unwrap());
        assert!(
            request
                .clone()
                .with_response_timeout(Duration::from_secs(5))
                .is_ok()
        );
        assert!(
            request
                .clone()
                .with_response_timeout(Duration::MAX)
                .is_err()
        );
        assert!(
            request
                .with_connect_timeout(Duration::from_secs(301))
                .is_err()
        );
    }

    /// (connect timeout, response timeout, accepted); `None` is a member that the request leaves
    /// out.
    #[test]
    fn a_connect_timeout_is_at_most_the_response_timeout() {
        for (connect, response, accepted) in [
            (None, None, true),
            (None, Some(5), true),
            (Some(30), None, true),
            (Some(31), None, false),
            (Some(5), Some(5), true),
            (Some(6), Some(5), false),
            (Some(120), Some(30), false),
            (Some(300), Some(299), false),
            (Some(300), Some(300), true),
        ] {
            for member in ["responseTimeoutInSeconds", "timeoutInSeconds"] {
                let mut text = r#"{"methodName":"m""#.to_owned();
                for (member, value) in [("connectTimeoutInSeconds", connect), (member, response)] {
                    if let Some(value) = value {
                        text += &format!(r#","{member}":{value}"#);
                    }
                }
                let checked = read(&(text.clone() + "}")).unwrap().check_timeouts();
                assert_eq!(checked.is_ok(), accepted, "{text}");
                if let Err(error) = checked {
                    let message = error.to_string();
                    let values = [connect.unwrap_or(0), response.unwrap_or(30)];
                    assert!(
                        values
                            .iter()
                            .all(|value| message.contains(&value.to_string())),
                        "{message}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_request_needs_a_proper_name() {
        assert!(read("{}").unwrap_err().contains("methodName"));
        assert!(
            read(r#"{"methodName":"a/b"}"#)
                .unwrap_err()
                .contains("method name")
        );
    }

    #[test]
    fn a_result_is_read_and_written() {
        for text in [
            r#"{"status":201,"payload":{"result":true}}"#,
            r#"{"status":-1,"payload":null}"#,
        ] {
            let result: MethodResult = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&result).unwrap(), text);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[{}\"a-zA-Z:,0-9. -]{0,60}") {
            let _ = read(&text);
        }

        #[test]
        fn what_is_written_is_read_back(
            name in "[A-Za-z0-9*._-]{1,100}",
            response in RESPONSE_TIMEOUT_S,
            connect in CONNECT_TIMEOUT_S,
            payload in prop::option::of("\\PC{0,30}"),
        ) {
            let mut request = MethodRequest::new(name.parse().unwrap())
                .with_response_timeout(Duration::from_secs(response)).unwrap()
                .with_connect_timeout(Duration::from_secs(connect)).unwrap();
            if let Some(text) = payload {
                request = request.with_payload(serde_json::value::to_raw_value(&text).unwrap());
            }
            prop_assert_eq!(read(&serde_json::to_string(&request).unwrap()), Ok(request));
        }
    }
}

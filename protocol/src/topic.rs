//! MQTT topics of IoT Hub: parts that both directions share, and subscriptions.
//!
//! | direction | topic | type |
//! |---|---|---|
//! | device to hub | `devices/{d}/messages/events/{properties}` | [`Uplink::Telemetry`] |
//! | | `$iothub/twin/GET/?$rid={rid}` | [`Uplink::TwinGet`] |
//! | | `$iothub/twin/PATCH/properties/reported/?$rid={rid}` | [`Uplink::ReportedPatch`] |
//! | | `$iothub/methods/res/{status}/?$rid={rid}` | [`Uplink::MethodResponse`] |
//! | hub to device | `$iothub/methods/POST/{method}/?$rid={rid}` | [`Downlink::MethodRequest`] |
//! | | `$iothub/twin/res/{status}/?$rid={rid}[&$version={n}]` | [`Downlink::TwinResponse`] |
//! | | `$iothub/twin/PATCH/properties/desired/?$version={n}` | [`Downlink::DesiredPatch`] |
//!
//! Source: "Communicate with IoT Hub using the MQTT protocol". Device and request ids are not
//! encoded in topics.
//!
//! [`Uplink::Telemetry`]: crate::uplink::Uplink::Telemetry
//! [`Uplink::TwinGet`]: crate::uplink::Uplink::TwinGet
//! [`Uplink::ReportedPatch`]: crate::uplink::Uplink::ReportedPatch
//! [`Uplink::MethodResponse`]: crate::uplink::Uplink::MethodResponse
//! [`Downlink::MethodRequest`]: crate::downlink::Downlink::MethodRequest
//! [`Downlink::TwinResponse`]: crate::downlink::Downlink::TwinResponse
//! [`Downlink::DesiredPatch`]: crate::downlink::Downlink::DesiredPatch

use std::fmt;

use crate::id::DeviceId;

pub use filter::TopicFilter;
pub use property_bag::PropertyBag;

mod filter;
mod property_bag;

pub(crate) const TWIN_GET: &str = "$iothub/twin/GET";
pub(crate) const REPORTED_PATCH: &str = "$iothub/twin/PATCH/properties/reported";
pub(crate) const DESIRED_PATCH: &str = "$iothub/twin/PATCH/properties/desired";
pub(crate) const TWIN_RESPONSE: &str = "$iothub/twin/res/";
pub(crate) const METHOD_REQUEST: &str = "$iothub/methods/POST/";
pub(crate) const METHOD_RESPONSE: &str = "$iothub/methods/res/";

/// The longest request id accepted from a device, in bytes. The answer repeats it in a topic;
/// official clients send 36 bytes.
pub const MAX_RID_BYTES: usize = 1024;

/// The topics that a device may subscribe to. [`TopicFilter`] parses filters that cover some of
/// these, or lie within one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subscription {
    /// `$iothub/methods/POST/#`: calls of its methods. With this subscription a device counts as
    /// online for methods.
    MethodRequests,
    /// `$iothub/twin/res/#`: answers to its twin requests.
    TwinResponses,
    /// `$iothub/twin/PATCH/properties/desired/#`: changes of its desired properties.
    DesiredPatches,
    /// `devices/{d}/messages/devicebound/#`: cloud-to-device messages.
    CloudToDevice,
}

impl Subscription {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::MethodRequests,
        Self::TwinResponses,
        Self::DesiredPatches,
        Self::CloudToDevice,
    ];

    /// The filter to which `device` subscribes.
    #[must_use]
    pub fn filter(self, device: &DeviceId) -> String {
        match self {
            Self::MethodRequests => "$iothub/methods/POST/#".to_owned(),
            Self::TwinResponses => "$iothub/twin/res/#".to_owned(),
            Self::DesiredPatches => "$iothub/twin/PATCH/properties/desired/#".to_owned(),
            Self::CloudToDevice => format!("devices/{device}/messages/devicebound/#"),
        }
    }
}

/// Why a topic or filter is not one of IoT Hub's. The text is not repeated: it may be long, and the
/// caller has it for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// None of the known topics.
    #[error("it is not an IoT Hub topic")]
    Unknown,
    /// The topic names another device.
    #[error("it is the topic of another device")]
    OtherDevice,
    /// The status of a method or twin response is not a number.
    #[error("its status is not a number")]
    Status,
    /// The request id is missing.
    #[error("it has no `$rid`")]
    NoRid,
    /// The request id is too long.
    #[error("its `$rid` has more than {MAX_RID_BYTES} bytes")]
    LongRid,
    /// The version is missing or not a number.
    #[error("its `$version` is missing or not a number")]
    Version,
    /// A property is not percent-encoded UTF-8.
    #[error("its properties are not percent-encoded UTF-8")]
    Properties,
    /// There are too many properties.
    #[error("it has more than {limit} properties", limit = PropertyBag::MAX_PROPERTIES)]
    TooManyProperties,
}

/// The part of a topic after `devices/{device}/`.
pub(crate) fn split_device<'a>(topic: &'a str, device: &DeviceId) -> Result<&'a str, TopicError> {
    let (name, rest) = topic
        .strip_prefix("devices/")
        .and_then(|rest| rest.split_once('/'))
        .ok_or(TopicError::Unknown)?;
    if *device == *name {
        Ok(rest)
    } else {
        Err(TopicError::OtherDevice)
    }
}

/// The `?$rid=..&$version=..` at the end of a topic.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RequestQuery<'a> {
    rid: Option<&'a str>,
    version: Option<&'a str>,
}

impl<'a> RequestQuery<'a> {
    /// Parses the end of a topic after its fixed part: `/?name=value&..`. Unknown names are
    /// ignored; of duplicates the first counts.
    pub(crate) fn parse(rest: &'a str) -> Result<Self, TopicError> {
        let query = rest.strip_prefix("/?").ok_or(TopicError::Unknown)?;
        let mut parsed = Self::default();
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "$rid" => parsed.rid = parsed.rid.or(Some(value)),
                "$version" => parsed.version = parsed.version.or(Some(value)),
                _ => {}
            }
        }
        Ok(parsed)
    }

    pub(crate) fn rid(&self) -> Result<&'a str, TopicError> {
        match self.rid {
            Some(rid) if rid.len() <= MAX_RID_BYTES => Ok(rid),
            Some(_) => Err(TopicError::LongRid),
            None => Err(TopicError::NoRid),
        }
    }

    pub(crate) fn version(&self) -> Result<Option<u64>, TopicError> {
        self.version
            .map(|text| parse_number(text).ok_or(TopicError::Version))
            .transpose()
    }
}

/// A number without sign: the standard parser also takes `+7`.
pub(crate) fn parse_number(text: &str) -> Option<u64> {
    text.parse()
        .ok()
        .filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Appends `?$rid=..`, `&$version=..` or both.
pub(crate) fn write_query(
    writer: &mut impl fmt::Write,
    rid: &str,
    version: Option<u64>,
) -> fmt::Result {
    write!(writer, "/?$rid={rid}")?;
    version.map_or(Ok(()), |version| write!(writer, "&$version={version}"))
}

//! Topics from hub to device. The hub writes them, the agent reads them.

use std::fmt;

use crate::topic::{
    DESIRED_PATCH, METHOD_REQUEST, RequestQuery, TWIN_RESPONSE, TopicError, parse_number,
    write_query,
};

/// A publication from hub to device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Downlink<'a> {
    /// Calls a method. The body is JSON.
    MethodRequest {
        /// The method's name.
        method: &'a str,
        /// Request id; the answer repeats it.
        rid: &'a str,
    },
    /// Answers a twin request. The body is the twin for a GET (status 200), empty for a patch
    /// (204), an error otherwise.
    TwinResponse {
        /// The status, as in HTTP.
        status: u16,
        /// Id of the request.
        rid: &'a str,
        /// The version of the reported properties after a patch.
        version: Option<u64>,
    },
    /// A change of the desired properties. The body is the patch with the new `$version`.
    DesiredPatch {
        /// The new version.
        version: u64,
    },
}

impl<'a> Downlink<'a> {
    /// Parses the topic of a publication to a device.
    ///
    /// # Errors
    ///
    /// If it is none of these topics, or malformed.
    pub fn parse(topic: &'a str) -> Result<Self, TopicError> {
        if let Some(rest) = topic.strip_prefix(METHOD_REQUEST) {
            let (method, query) = split_segment(rest)?;
            return Ok(Self::MethodRequest {
                method,
                rid: query.rid()?,
            });
        }
        if let Some(rest) = topic.strip_prefix(TWIN_RESPONSE) {
            let (status, query) = split_segment(rest)?;
            let status = parse_number(status).and_then(|status| status.try_into().ok());
            return Ok(Self::TwinResponse {
                status: status.ok_or(TopicError::Status)?,
                rid: query.rid()?,
                version: query.version()?,
            });
        }
        let rest = topic
            .strip_prefix(DESIRED_PATCH)
            .ok_or(TopicError::Unknown)?;
        let version = RequestQuery::parse(rest)?
            .version()?
            .ok_or(TopicError::Version)?;
        Ok(Self::DesiredPatch { version })
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> String {
        self.to_string()
    }

    /// Appends the topic to `writer`.
    ///
    /// # Errors
    ///
    /// If `writer` fails; a `String` never does.
    pub fn write_topic(&self, writer: &mut impl fmt::Write) -> fmt::Result {
        match *self {
            Self::MethodRequest { method, rid } => {
                write!(writer, "{METHOD_REQUEST}{method}")?;
                write_query(writer, rid, None)
            }
            Self::TwinResponse {
                status,
                rid,
                version,
            } => {
                write!(writer, "{TWIN_RESPONSE}{status}")?;
                write_query(writer, rid, version)
            }
            Self::DesiredPatch { version } => write!(writer, "{DESIRED_PATCH}/?$version={version}"),
        }
    }
}

impl fmt::Display for Downlink<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_topic(f)
    }
}

/// The segment up to the next `/`, which is not empty, and the query after it.
fn split_segment(rest: &str) -> Result<(&str, RequestQuery<'_>), TopicError> {
    let end = rest
        .find('/')
        .filter(|&end| end > 0)
        .ok_or(TopicError::Unknown)?;
    Ok((&rest[..end], RequestQuery::parse(&rest[end..])?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Samples of "Communicate with IoT Hub using the MQTT protocol", and the forms that the
    /// clients' patterns require.
    #[test]
    fn topics_are_spelled_as_the_clients_expect_them() {
        for (downlink, topic) in [
            (
                Downlink::MethodRequest {
                    method: "lockDoor",
                    rid: "14bc3a13",
                },
                "$iothub/methods/POST/lockDoor/?$rid=14bc3a13",
            ),
            (
                Downlink::TwinResponse {
                    status: 200,
                    rid: "7",
                    version: None,
                },
                "$iothub/twin/res/200/?$rid=7",
            ),
            (
                Downlink::TwinResponse {
                    status: 204,
                    rid: "7",
                    version: Some(6),
                },
                "$iothub/twin/res/204/?$rid=7&$version=6",
            ),
            (
                Downlink::DesiredPatch { version: 8 },
                "$iothub/twin/PATCH/properties/desired/?$version=8",
            ),
        ] {
            assert_eq!(downlink.topic(), topic);
            assert_eq!(Downlink::parse(topic), Ok(downlink));
        }
    }

    #[test]
    fn other_topics_are_refused() {
        for (topic, error) in [
            ("", TopicError::Unknown),
            ("$iothub/methods/POST/lockDoor", TopicError::Unknown),
            ("$iothub/methods/POST//?$rid=1", TopicError::Unknown),
            ("$iothub/methods/POST/lockDoor/?", TopicError::NoRid),
            ("$iothub/twin/res/ok/?$rid=1", TopicError::Status),
            ("$iothub/twin/res/65536/?$rid=1", TopicError::Status),
            (
                "$iothub/twin/res/200/?$rid=1&$version=x",
                TopicError::Version,
            ),
            (
                "$iothub/twin/PATCH/properties/desired/?$rid=1",
                TopicError::Version,
            ),
            (
                "$iothub/twin/PATCH/properties/reported/?$version=1",
                TopicError::Unknown,
            ),
        ] {
            assert_eq!(Downlink::parse(topic), Err(error), "{topic}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            method in "[A-Za-z0-9*._-]{1,100}",
            rid in "[A-Za-z0-9-]{1,40}",
            status in any::<u16>(),
            version in any::<Option<u64>>(),
        ) {
            for downlink in [
                Downlink::MethodRequest { method: &method, rid: &rid },
                Downlink::TwinResponse { status, rid: &rid, version },
                Downlink::DesiredPatch { version: version.unwrap_or_default() },
            ] {
                let topic = downlink.topic();
                prop_assert_eq!(Downlink::parse(&topic), Ok(downlink));
            }
        }

        #[test]
        fn no_topic_makes_the_parser_panic(
            start in prop::sample::select(vec!["", "$iothub/methods/POST/", "$iothub/twin/res/", "$iothub/twin/PATCH/properties/desired"]),
            rest in "[-/?$a-z0-9=&%]{0,20}\\PC{0,20}",
        ) {
            let _ = Downlink::parse(&format!("{start}{rest}"));
        }
    }
}

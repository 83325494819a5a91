//! Topics from device to hub. The agent writes them, the hub reads them.

use crate::id::DeviceId;
use crate::topic::{
    METHOD_RESPONSE, PropertyBag, REPORTED_PATCH, RequestQuery, TWIN_GET, TopicError, split_device,
    write_query,
};

/// A publication from device to hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uplink<'a> {
    /// Requests the device's twin. The body is ignored; official clients send a space.
    TwinGet {
        /// Request id; the answer repeats it.
        rid: &'a str,
    },
    /// Merges the body, a JSON object, into its reported properties.
    ReportedPatch {
        /// Request id; the answer repeats it.
        rid: &'a str,
        /// Applies only if the reported properties have this version.
        if_version: Option<u64>,
    },
    /// Answers a method request. The body is JSON or empty.
    MethodResponse {
        /// The device's own status, any number.
        status: i32,
        /// Id of the request.
        rid: &'a str,
    },
    /// A device-to-cloud message.
    Telemetry {
        /// Properties of the message.
        properties: PropertyBag,
    },
}

impl<'a> Uplink<'a> {
    /// Parses the topic of a publication by `device`.
    ///
    /// # Errors
    ///
    /// If it is none of these topics, another device's, or malformed. The hub closes the
    /// connection.
    pub fn parse(topic: &'a str, device: &DeviceId) -> Result<Self, TopicError> {
        if let Some(rest) = topic.strip_prefix(TWIN_GET) {
            return Ok(Self::TwinGet {
                rid: RequestQuery::parse(rest)?.rid()?,
            });
        }
        if let Some(rest) = topic.strip_prefix(REPORTED_PATCH) {
            let query = RequestQuery::parse(rest)?;
            return Ok(Self::ReportedPatch {
                rid: query.rid()?,
                if_version: query.version()?,
            });
        }
        if let Some(rest) = topic.strip_prefix(METHOD_RESPONSE) {
            let end = rest.find('/').ok_or(TopicError::Unknown)?;
            let status = rest[..end].parse().map_err(|_| TopicError::Status)?;
            let rid = RequestQuery::parse(&rest[end..])?.rid()?;
            return Ok(Self::MethodResponse { status, rid });
        }
        match split_device(topic, device)?.strip_prefix("messages/events") {
            Some("") => Ok(Self::Telemetry {
                properties: PropertyBag::default(),
            }),
            Some(rest) => {
                let properties = rest.strip_prefix('/').ok_or(TopicError::Unknown)?;
                Ok(Self::Telemetry {
                    properties: PropertyBag::parse(properties)?,
                })
            }
            None => Err(TopicError::Unknown),
        }
    }

    /// The topic on which `device` publishes it.
    #[must_use]
    pub fn topic(&self, device: &DeviceId) -> String {
        let with_query = |mut topic: String, rid: &str, version| {
            write_query(&mut topic, rid, version).expect("writing to a String cannot fail");
            topic
        };
        match self {
            Self::TwinGet { rid } => with_query(TWIN_GET.to_owned(), rid, None),
            Self::ReportedPatch { rid, if_version } => {
                with_query(REPORTED_PATCH.to_owned(), rid, *if_version)
            }
            Self::MethodResponse { status, rid } => {
                with_query(format!("{METHOD_RESPONSE}{status}"), rid, None)
            }
            Self::Telemetry { properties } => {
                format!("devices/{device}/messages/events/{properties}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn device() -> DeviceId {
        "d1".parse().unwrap()
    }

    /// As sent by azure-iot-device 2.14.0 (Python) and azure-iot-device-mqtt 1.16.4 (Node).
    #[test]
    fn what_official_clients_publish_is_read() {
        fn parse(topic: &str) -> Uplink<'_> {
            Uplink::parse(topic, &device()).unwrap()
        }
        assert_eq!(
            parse("$iothub/twin/GET/?$rid=9ce2a1fa-6c5a-4d5c-9a0b-1f1e2d3c4b5a"),
            Uplink::TwinGet {
                rid: "9ce2a1fa-6c5a-4d5c-9a0b-1f1e2d3c4b5a"
            }
        );
        assert_eq!(
            parse("$iothub/twin/PATCH/properties/reported/?$rid=7"),
            Uplink::ReportedPatch {
                rid: "7",
                if_version: None
            }
        );
        assert_eq!(
            parse("$iothub/methods/res/200/?$rid=14bc3a13"),
            Uplink::MethodResponse {
                status: 200,
                rid: "14bc3a13"
            }
        );
        let Uplink::Telemetry { properties } =
            parse("devices/d1/messages/events/%24.mid=1&%24.ct=application%2Fjson")
        else {
            panic!("expected telemetry")
        };
        assert_eq!(properties.get("$.ct"), Some("application/json"));
    }

    #[test]
    fn telemetry_comes_with_and_without_properties() {
        for topic in [
            "devices/d1/messages/events",
            "devices/d1/messages/events/",
            "devices/d1/messages/events/?",
        ] {
            let properties = PropertyBag::default();
            assert_eq!(
                Uplink::parse(topic, &device()),
                Ok(Uplink::Telemetry { properties }),
                "{topic}"
            );
        }
    }

    #[test]
    fn other_topics_are_refused() {
        for (topic, error) in [
            ("", TopicError::Unknown),
            ("lock", TopicError::Unknown),
            ("$iothub/twin/GET", TopicError::Unknown),
            ("$iothub/twin/GETX/?$rid=1", TopicError::Unknown),
            ("$iothub/twin/GET/?rid=1", TopicError::NoRid),
            (
                "$iothub/twin/PATCH/properties/desired/?$rid=1",
                TopicError::Unknown,
            ),
            (
                "$iothub/twin/PATCH/properties/reported/?$rid=1&$version=+2",
                TopicError::Version,
            ),
            ("$iothub/methods/res/ok/?$rid=1", TopicError::Status),
            (
                "$iothub/methods/res/99999999999/?$rid=1",
                TopicError::Status,
            ),
            ("$iothub/methods/res/200?$rid=1", TopicError::Unknown),
            ("$iothub/methods/POST/lockDoor/?$rid=1", TopicError::Unknown),
            ("devices/d2/messages/events/", TopicError::OtherDevice),
            ("devices/d1/messages/eventsX", TopicError::Unknown),
            ("devices/d1/messages/devicebound/", TopicError::Unknown),
            ("devices/d1/modules/m/messages/events/", TopicError::Unknown),
        ] {
            assert_eq!(Uplink::parse(topic, &device()), Err(error), "{topic}");
        }
        let long = format!("$iothub/twin/GET/?$rid={}", "x".repeat(1025));
        assert_eq!(Uplink::parse(&long, &device()), Err(TopicError::LongRid));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            name in "[A-Za-z0-9\\-:.%_*?!(),=@;$']{1,128}",
            rid in "[A-Za-z0-9-]{1,40}",
            status in any::<i32>(),
            if_version in any::<Option<u64>>(),
            key in "\\PC{1,20}",
            value in "\\PC{0,20}",
        ) {
            let device: DeviceId = name.parse().unwrap();
            let mut properties = PropertyBag::default();
            properties.insert(key, value);
            for uplink in [
                Uplink::TwinGet { rid: &rid },
                Uplink::ReportedPatch { rid: &rid, if_version },
                Uplink::MethodResponse { status, rid: &rid },
                Uplink::Telemetry { properties },
            ] {
                let topic = uplink.topic(&device);
                prop_assert_eq!(Uplink::parse(&topic, &device), Ok(uplink));
            }
        }

        #[test]
        fn no_topic_makes_the_parser_panic(
            start in prop::sample::select(vec!["", "$iothub/twin/GET", "$iothub/methods/res/", "$iothub/twin/PATCH/properties/reported", "devices/d1/messages/events"]),
            rest in "[-/?$a-z0-9=&%]{0,20}\\PC{0,20}",
        ) {
            let _ = Uplink::parse(&format!("{start}{rest}"), &device());
        }
    }
}

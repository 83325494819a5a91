//! Topics of both directions and filters: the printed text parses to the same.

use iothub_protocol::downlink::Downlink;
use iothub_protocol::id::DeviceId;
use iothub_protocol::topic::{MAX_RID_BYTES, PropertyBag, Subscription, TopicFilter};
use iothub_protocol::uplink::Uplink;

use crate::{Seeds, texts};

fn device() -> DeviceId {
    "d1".parse().expect("a device id")
}

pub(crate) fn run(data: &[u8]) {
    let Ok(topic) = std::str::from_utf8(data) else {
        return;
    };
    let device = device();
    if let Ok(uplink) = Uplink::parse(topic, &device) {
        match &uplink {
            Uplink::TwinGet { rid }
            | Uplink::ReportedPatch { rid, .. }
            | Uplink::MethodResponse { rid, .. } => assert!(rid.len() <= MAX_RID_BYTES),
            Uplink::Telemetry { properties } => {
                assert!(properties.iter().count() <= PropertyBag::MAX_PROPERTIES);
            }
        }
        let written = uplink.topic(&device);
        assert_eq!(
            Uplink::parse(&written, &device).as_ref(),
            Ok(&uplink),
            "{written:?}"
        );
        assert!(
            Downlink::parse(topic).is_err(),
            "a topic of both directions"
        );
    }
    if let Ok(downlink) = Downlink::parse(topic) {
        let written = downlink.topic();
        assert_eq!(Downlink::parse(&written), Ok(downlink), "{written:?}");
    }
    if let Ok(filter) = TopicFilter::parse(topic, &device) {
        assert_eq!(filter.as_str(), topic);
        let concerned = Subscription::ALL
            .into_iter()
            .filter(|subscription| filter.concerns(*subscription));
        let expected = if filter.is_whole() { 1..=4 } else { 1..=1 };
        assert!(expected.contains(&concerned.count()), "{filter:?}");
    }
}

pub(crate) fn seeds() -> Seeds {
    let device = device();
    let mut properties = PropertyBag::default();
    properties.insert("$.ct", "application/json");
    properties.insert("temperature alert", "1+1=2");
    let uplinks = [
        Uplink::TwinGet { rid: "9ce2a1fa" },
        Uplink::ReportedPatch {
            rid: "7",
            if_version: Some(3),
        },
        Uplink::MethodResponse {
            status: -1,
            rid: "1f",
        },
        Uplink::Telemetry { properties },
        Uplink::Telemetry {
            properties: PropertyBag::default(),
        },
    ];
    let downlinks = [
        Downlink::MethodRequest {
            method: "lockDoor",
            rid: "1f",
        },
        Downlink::TwinResponse {
            status: 204,
            rid: "7",
            version: Some(6),
        },
        Downlink::DesiredPatch { version: 8 },
    ];
    texts(
        uplinks
            .map(|uplink| uplink.topic(&device))
            .into_iter()
            .chain(downlinks.map(|downlink| downlink.topic()))
            .chain(Subscription::ALL.map(|subscription| subscription.filter(&device)))
            .chain(["$iothub/+/POST/#", "$iothub/methods/POST/lock/+"].map(str::to_owned)),
    )
}

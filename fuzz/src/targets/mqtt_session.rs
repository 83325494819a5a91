//! A session and its packets: each is acknowledged by its own id, filters are granted as requested,
//! and their number is bounded.

use bytes::BytesMut;
use door_hub::fuzzing::mqtt_session;
use rumqttc::mqttbytes::{QoS, v4};

use crate::Seeds;

/// Packet limit for the decoder.
const LIMIT: usize = 4096;

/// Maximum of subscriptions per device.
const MAX_SUBSCRIPTIONS: usize = 5;

pub(crate) fn run(data: &[u8]) {
    let mut stream = BytesMut::from(data);
    for handled in mqtt_session(data, LIMIT) {
        // rumqttc accepts whatever the hub accepts: see the target `mqtt-packet`.
        let packet = v4::Packet::read(&mut stream, LIMIT).expect("the hub has accepted it");
        let (acknowledged, asked) = match &packet {
            v4::Packet::Publish(publish) => {
                assert_ne!(publish.qos, QoS::ExactlyOnce, "QoS 2 is not served");
                ((publish.pkid != 0).then_some(publish.pkid), Vec::new())
            }
            v4::Packet::Subscribe(subscribe) => {
                let asked = subscribe.filters.iter().map(|filter| filter.qos as u8);
                (Some(subscribe.pkid), asked.collect())
            }
            v4::Packet::Unsubscribe(unsubscribe) => (Some(unsubscribe.pkid), Vec::new()),
            v4::Packet::PubAck(_) | v4::Packet::PingReq => (None, Vec::new()),
            other => panic!("the session continued after {other:?}"),
        };
        assert_eq!(handled.acknowledged, acknowledged, "{packet:?}");
        let granted: Vec<u8> = asked.into_iter().map(|qos| qos.min(1)).collect();
        assert_eq!(handled.granted, granted, "{packet:?}");
        assert!(handled.subscriptions <= MAX_SUBSCRIPTIONS);
    }
}

pub(crate) fn seeds() -> Seeds {
    let mut subscribe = v4::Subscribe::new_many([
        filter("$iothub/methods/POST/#", QoS::AtMostOnce),
        filter("$iothub/twin/res/#", QoS::ExactlyOnce),
        filter(
            "devices/lobby-east/messages/devicebound/#",
            QoS::AtLeastOnce,
        ),
    ]);
    subscribe.pkid = 1;
    let mut unsubscribe = v4::Unsubscribe::new("$iothub/twin/res/#");
    unsubscribe.pkid = 2;
    let publish = |topic: &str, pkid| {
        let qos = if pkid == 0 {
            QoS::AtMostOnce
        } else {
            QoS::AtLeastOnce
        };
        let mut publish = v4::Publish::new(topic, qos, "{}");
        publish.pkid = pkid;
        v4::Packet::Publish(publish)
    };
    let sequences = [
        (
            "subscriptions",
            vec![
                v4::Packet::Subscribe(subscribe),
                v4::Packet::PingReq,
                v4::Packet::Unsubscribe(unsubscribe),
            ],
        ),
        (
            "publications",
            vec![
                publish("$iothub/twin/GET/?$rid=1", 0),
                publish("$iothub/twin/PATCH/properties/reported/?$rid=2", 3),
                publish("$iothub/methods/res/200/?$rid=1f", 4),
                publish("devices/lobby-east/messages/events/$.ct=text", 5),
                v4::Packet::PubAck(v4::PubAck::new(9)),
                v4::Packet::Disconnect,
            ],
        ),
        (
            "a-topic-of-another",
            vec![
                publish("devices/d2/messages/events/", 1),
                v4::Packet::PingReq,
            ],
        ),
    ];
    let written = sequences.map(|(name, packets)| {
        let mut bytes = BytesMut::new();
        for packet in packets {
            packet
                .write(&mut bytes, usize::MAX)
                .expect("a packet of the standard");
        }
        (name.to_owned(), bytes.to_vec())
    });
    written.into()
}

fn filter(path: &str, qos: QoS) -> v4::SubscribeFilter {
    v4::SubscribeFilter::new(path.to_owned(), qos)
}

//! MQTT packets as the hub decodes them: bounded, lossless, and consistent with rumqttc.

use bytes::{Bytes, BytesMut};
use door_hub::fuzzing::{Decoded, mqtt_packet};
use rumqttc::mqttbytes::{Error, QoS, v4};

use crate::Seeds;

/// Packet limit for the decoder.
const LIMIT: usize = 4096;

/// A filter of one byte takes four bytes in the packet; as a slice with its QoS it takes at most
/// this many times that.
const HELD_FOR_EACH_BYTE: usize = 8;

/// Violations of the standard that rumqttc's codec does not detect.
const LENIENT: [&str; 12] = [
    "PacketType",
    "Flags",
    "Text",
    "ReservedConnectFlag",
    "PasswordWithoutUser",
    "Dup",
    "PacketIdZero",
    "Qos",
    "TopicName",
    "TopicFilter",
    "NoFilters",
    "Trailing",
];

pub(crate) fn run(data: &[u8]) {
    let ours = mqtt_packet(data, LIMIT);
    let mut stream = BytesMut::from(data);
    let theirs = v4::Packet::read(&mut stream, LIMIT);
    match ours {
        Decoded::Packet {
            length,
            rewritten,
            held,
        } => {
            let body = body(&data[..length]);
            assert!(body.len() <= LIMIT, "a packet over the limit was accepted");
            assert!(
                held <= HELD_FOR_EACH_BYTE * body.len(),
                "{held} bytes are held for a packet of {length}"
            );
            let Some(rewritten) = rewritten else {
                return;
            };
            assert_eq!(
                (data[0], body),
                (rewritten[0], self::body(&rewritten)),
                "the decoded packet differs from the input"
            );
            assert_eq!(
                mqtt_packet(&rewritten, LIMIT),
                Decoded::Packet {
                    length: rewritten.len(),
                    rewritten: Some(rewritten.clone()),
                    held
                }
            );
            assert_same_packet(&rewritten, theirs, data.len() - length, stream.len());
        }
        Decoded::Incomplete => assert!(
            matches!(theirs, Err(Error::InsufficientBytes(_))),
            "the hub waits for more bytes, rumqttc has {theirs:?}"
        ),
        Decoded::Malformed(rule) => {
            let name = rule.split([' ', '(', '{']).next().unwrap_or_default();
            assert!(
                theirs.is_err() || LENIENT.contains(&name),
                "the hub refuses it for {rule}, rumqttc accepts {theirs:?}"
            );
        }
    }
}

/// Asserts that both decode the same packet.
fn assert_same_packet(
    ours: &[u8],
    theirs: Result<v4::Packet, Error>,
    left: usize,
    left_by_them: usize,
) {
    let theirs = match theirs {
        Ok(packet) => packet,
        // A password may be any bytes; rumqttc accepts only text.
        Err(Error::TopicNotUtf8) if ours[0] == 0x10 => return,
        Err(error) => panic!("the hub accepts a packet, rumqttc refuses it: {error}"),
    };
    assert_eq!(left, left_by_them, "the packets end at different places");
    if let v4::Packet::Connect(connect) = &theirs {
        // It does not distinguish an empty user name or password from a missing one.
        let whole = |login: &v4::Login| !login.username.is_empty() && !login.password.is_empty();
        let says_login = body(ours)[7] & 0xc0 != 0;
        if says_login && !connect.login.as_ref().is_some_and(whole) {
            return;
        }
    }
    let mut written = BytesMut::new();
    theirs
        .write(&mut written, usize::MAX)
        .expect("rumqttc encodes what it decoded");
    assert_eq!(ours, &written[..], "rumqttc reads {theirs:?}");
}

/// The bytes after the remaining length, which may be encoded longer than necessary.
fn body(packet: &[u8]) -> &[u8] {
    let bytes_of_length = packet[1..].iter().take_while(|byte| **byte & 0x80 != 0);
    &packet[2 + bytes_of_length.count()..]
}

pub(crate) fn seeds() -> Seeds {
    let mut connect = v4::Connect::new("lobby-east");
    connect.set_login(
        "hub.example.net/lobby-east/?api-version=2021-04-12",
        "SharedAccessSignature sr=hub.example.net%2Fdevices%2Flobby-east&sig=c2ln&se=1",
    );
    let mut with_will = connect.clone();
    with_will.clean_session = false;
    with_will.last_will = Some(v4::LastWill::new(
        "devices/lobby-east/messages/events/",
        "gone",
        QoS::AtLeastOnce,
        true,
    ));
    let mut publish = v4::Publish::new("$iothub/twin/GET/?$rid=1", QoS::AtMostOnce, " ");
    let first_publish = publish.clone();
    (publish.qos, publish.pkid, publish.dup, publish.retain) = (QoS::AtLeastOnce, 7, true, true);
    publish.payload = Bytes::from_static(b"{\"a\":1}");
    let filter = |path: &str, qos| v4::SubscribeFilter::new(path.to_owned(), qos);
    let mut subscribe = v4::Subscribe::new_many([
        filter("$iothub/methods/POST/#", QoS::AtMostOnce),
        filter("devices/+/messages/devicebound/#", QoS::ExactlyOnce),
    ]);
    subscribe.pkid = 2;
    let mut unsubscribe = v4::Unsubscribe::new("$iothub/twin/res/#");
    unsubscribe.pkid = 3;
    let packets = [
        ("connect", v4::Packet::Connect(connect)),
        ("connect-with-will", v4::Packet::Connect(with_will)),
        ("disconnect", v4::Packet::Disconnect),
        ("pingreq", v4::Packet::PingReq),
        ("puback", v4::Packet::PubAck(v4::PubAck::new(513))),
        ("publish", v4::Packet::Publish(first_publish)),
        ("publish-qos-1", v4::Packet::Publish(publish)),
        ("subscribe", v4::Packet::Subscribe(subscribe)),
        ("unsubscribe", v4::Packet::Unsubscribe(unsubscribe)),
    ];
    packets
        .into_iter()
        .map(|(name, packet)| {
            let mut bytes = BytesMut::new();
            packet
                .write(&mut bytes, usize::MAX)
                .expect("a packet of the standard");
            (name.to_owned(), bytes.to_vec())
        })
        .collect()
}

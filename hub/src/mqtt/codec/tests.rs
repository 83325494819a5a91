use bytes::BytesMut;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4;

use super::*;

const LIMIT: usize = 300 * 1024;

fn whole(bytes: &[u8]) -> Result<Packet<'_>, Malformed> {
    let (packet, length) = decode(bytes, LIMIT)?.expect("a complete packet");
    assert_eq!(length, bytes.len());
    Ok(packet)
}

fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    write_remaining_length(&mut bytes, body.len());
    bytes.extend_from_slice(body);
    bytes
}

fn text(value: &str) -> Vec<u8> {
    let mut bytes = u16::try_from(value.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(value.as_bytes());
    bytes
}

#[test]
fn rejects_what_the_standard_forbids() {
    let connect = |flags: u8, rest: &[u8]| {
        framed(
            0x10,
            &[&text("MQTT"), &[4, flags, 0, 60][..], rest].concat(),
        )
    };
    let id = text("lobby");
    let cases: Vec<(&str, Vec<u8>, Malformed)> = vec![
        (
            "reserved type 0",
            framed(0x00, &[]),
            Malformed::PacketType(0),
        ),
        (
            "a server's packet",
            framed(0x20, &[0, 0]),
            Malformed::PacketType(2),
        ),
        (
            "SUBSCRIBE without its flag",
            framed(0x80, &[]),
            Malformed::Flags {
                packet_type: 8,
                flags: 0,
            },
        ),
        (
            "PINGREQ with a flag",
            framed(0xc1, &[]),
            Malformed::Flags {
                packet_type: 12,
                flags: 1,
            },
        ),
        ("QoS 3", framed(0x36, &text("t")), Malformed::Qos),
        ("DUP at QoS 0", framed(0x38, &text("t")), Malformed::Dup),
        (
            "DUP and retain at QoS 0",
            framed(0x39, &text("t")),
            Malformed::Dup,
        ),
        (
            "a length of five bytes",
            vec![0xc0, 0x80, 0x80, 0x80, 0x80],
            Malformed::LengthEncoding,
        ),
        (
            "MQIsdp",
            framed(0x10, &[&text("MQIsdp"), &[3, 0, 0, 0][..], &id].concat()),
            Malformed::ProtocolName,
        ),
        (
            "the reserved connect flag",
            connect(0x01, &id),
            Malformed::ReservedConnectFlag,
        ),
        (
            "a will QoS without a will",
            connect(0x08, &id),
            Malformed::WillFlags,
        ),
        (
            "will QoS 3",
            connect(0x1c, &[id.clone(), text("t"), text("")].concat()),
            Malformed::WillFlags,
        ),
        (
            "a password without user",
            connect(0x40, &[id.clone(), text("p")].concat()),
            Malformed::PasswordWithoutUser,
        ),
        (
            "an announced user name that is missing",
            connect(0x80, &id),
            Malformed::Truncated("the user name"),
        ),
        (
            "bytes after CONNECT",
            connect(0x02, &[id.clone(), vec![0]].concat()),
            Malformed::Trailing("CONNECT"),
        ),
        (
            "bytes after PINGREQ",
            framed(0xc0, &[0]),
            Malformed::Trailing("PINGREQ"),
        ),
        (
            "packet id 0",
            framed(0x32, &[text("t"), vec![0, 0]].concat()),
            Malformed::PacketIdZero,
        ),
        (
            "a wildcard in a topic",
            framed(0x30, &text("a/+")),
            Malformed::TopicName,
        ),
        (
            "an empty topic",
            framed(0x30, &text("")),
            Malformed::TopicName,
        ),
        (
            "NUL in a topic",
            framed(0x30, &text("a\0b")),
            Malformed::Text("the topic name"),
        ),
        (
            "a topic that is not UTF-8",
            framed(0x30, &[0, 2, 0xc3, 0x28]),
            Malformed::Text("the topic name"),
        ),
        (
            "a topic longer than its packet",
            framed(0x30, &[0, 9, b'a']),
            Malformed::Truncated("the topic name"),
        ),
        (
            "SUBSCRIBE to nothing",
            framed(0x82, &[0, 1]),
            Malformed::NoFilters,
        ),
        (
            "SUBSCRIBE at QoS 3",
            framed(0x82, &[vec![0, 1], text("a"), vec![3]].concat()),
            Malformed::Qos,
        ),
        (
            "a filter without its QoS",
            framed(0x82, &[vec![0, 1], text("a")].concat()),
            Malformed::Truncated("a requested QoS"),
        ),
        (
            "# before the end",
            framed(0x82, &[vec![0, 1], text("#/a"), vec![0]].concat()),
            Malformed::TopicFilter,
        ),
        (
            "+ inside a level",
            framed(0xa2, &[vec![0, 1], text("a+/b")].concat()),
            Malformed::TopicFilter,
        ),
    ];
    for (what, bytes, expected) in cases {
        assert_eq!(decode(&bytes, LIMIT), Err(expected), "{what}");
    }
}

#[test]
fn a_giant_length_is_rejected_before_the_body_arrives() {
    let announced = [0x30, 0xff, 0xff, 0xff, 0x7f];
    assert_eq!(
        decode(&announced, LIMIT),
        Err(Malformed::TooLong {
            length: 268_435_455,
            limit: LIMIT
        })
    );
}

#[test]
fn distinguishes_a_connect_of_another_level_from_a_malformed_one() {
    let mqtt_5 = [
        &text("MQTT")[..],
        &[5, 2, 0, 60, 5, 0x11, 0, 0, 0, 10],
        &text("lobby"),
    ]
    .concat();
    assert_eq!(whole(&framed(0x10, &mqtt_5)), Ok(Packet::ConnectOfLevel(5)));
    let level_3 = [&text("MQTT")[..], &[3, 2, 0, 60], &text("lobby")].concat();
    assert_eq!(
        whole(&framed(0x10, &level_3)),
        Ok(Packet::ConnectOfLevel(3))
    );
}

/// Packets from rumqttc's encoder, which serves as an oracle: this decoder must read the same.
fn valid_packets() -> impl Strategy<Value = (Vec<u8>, v4::Packet)> {
    let name = "[a-zA-Z0-9 $/._=&%-]{1,40}";
    let qos = prop_oneof![
        Just(QoS::AtMostOnce),
        Just(QoS::AtLeastOnce),
        Just(QoS::ExactlyOnce)
    ];
    let connect = (
        name,
        any::<bool>(),
        any::<u16>(),
        option::of((name, name)),
        option::of((name, vec(any::<u8>(), 0..50), qos.clone(), any::<bool>())),
    )
        .prop_map(|(id, clean, keep_alive, login, will)| {
            let mut connect = v4::Connect::new(id);
            connect.clean_session = clean;
            connect.keep_alive = keep_alive;
            if let Some((user, password)) = login {
                connect.set_login(user, password);
            }
            connect.last_will = will.map(|(topic, message, qos, retain)| {
                v4::LastWill::new(topic, message, qos, retain)
            });
            v4::Packet::Connect(connect)
        });
    let publish = (
        name,
        qos.clone(),
        1..=u16::MAX,
        any::<bool>(),
        vec(any::<u8>(), 0..300),
    )
        .prop_map(|(topic, qos, id, retain, body)| {
            let mut publish = v4::Publish::new(topic, qos, body);
            publish.pkid = if qos == QoS::AtMostOnce { 0 } else { id };
            publish.retain = retain;
            v4::Packet::Publish(publish)
        });
    let subscribe = (1..=u16::MAX, vec((name, qos), 1..6)).prop_map(|(id, filters)| {
        let mut subscribe = v4::Subscribe::new_many(
            filters
                .into_iter()
                .map(|(path, qos)| v4::SubscribeFilter::new(path, qos)),
        );
        subscribe.pkid = id;
        v4::Packet::Subscribe(subscribe)
    });
    let unsubscribe = (1..=u16::MAX, name).prop_map(|(id, topic)| {
        let mut unsubscribe = v4::Unsubscribe::new(topic);
        unsubscribe.pkid = id;
        v4::Packet::Unsubscribe(unsubscribe)
    });
    let ack = (1..=u16::MAX).prop_map(|id| v4::Packet::PubAck(v4::PubAck::new(id)));
    prop_oneof![
        connect,
        publish,
        subscribe,
        unsubscribe,
        ack,
        Just(v4::Packet::PingReq),
        Just(v4::Packet::Disconnect)
    ]
    .prop_map(|packet| {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, LIMIT).unwrap();
        (bytes.to_vec(), packet)
    })
}

fn same(ours: &Packet<'_>, theirs: &v4::Packet) -> bool {
    match (ours, theirs) {
        (Packet::Connect(ours), v4::Packet::Connect(theirs)) => {
            let will = theirs.last_will.as_ref().map(|will| {
                (
                    will.topic.as_str(),
                    &will.message[..],
                    will.qos as u8,
                    will.retain,
                )
            });
            let login = theirs.login.as_ref();
            ours.client_id == theirs.client_id
                && ours.clean_session == theirs.clean_session
                && ours.keep_alive_s == theirs.keep_alive
                && ours.user_name == login.map(|login| login.username.as_str())
                && ours.password == login.map(|login| login.password.as_bytes())
                && ours
                    .will
                    .map(|will| (will.topic, will.payload, will.qos, will.retain))
                    == will
        }
        (Packet::Publish(ours), v4::Packet::Publish(theirs)) => {
            ours.topic == theirs.topic
                && ours.payload == &theirs.payload[..]
                && ours.qos == theirs.qos as u8
                && ours.packet_id.unwrap_or(0) == theirs.pkid
                && ours.retain == theirs.retain
                && ours.dup == theirs.dup
        }
        (Packet::Subscribe { packet_id, filters }, v4::Packet::Subscribe(theirs)) => {
            let wanted: Vec<_> = theirs
                .filters
                .iter()
                .map(|filter| (filter.path.as_str(), filter.qos as u8))
                .collect();
            *packet_id == theirs.pkid && *filters == wanted
        }
        (Packet::Unsubscribe { packet_id, filters }, v4::Packet::Unsubscribe(theirs)) => {
            *packet_id == theirs.pkid && filters.iter().eq(theirs.topics.iter())
        }
        (Packet::PubAck { packet_id }, v4::Packet::PubAck(theirs)) => *packet_id == theirs.pkid,
        (Packet::PingReq, v4::Packet::PingReq) | (Packet::Disconnect, v4::Packet::Disconnect) => {
            true
        }
        _ => false,
    }
}

proptest! {
    #[test]
    fn no_bytes_panic_and_no_packet_is_longer_than_the_input(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(Some((_, length))) = decode(&bytes, LIMIT) {
            prop_assert!(length <= bytes.len());
        }
    }

    #[test]
    fn a_damaged_packet_is_rejected_or_another_whole_packet(
        (bytes, _) in valid_packets(),
        place in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let mut damaged = bytes;
        let place = place.index(damaged.len());
        damaged[place] ^= 1 << bit;
        if let Ok(Some((_, length))) = decode(&damaged, LIMIT) {
            prop_assert!(length <= damaged.len());
        }
    }

    #[test]
    fn decodes_valid_packets_like_rumqttc((bytes, written) in valid_packets()) {
        let ours = whole(&bytes).unwrap();
        prop_assert!(same(&ours, &written), "{:?} was written as {:?}", ours, written);
        let read = v4::Packet::read(&mut BytesMut::from(&bytes[..]), LIMIT).unwrap();
        prop_assert!(same(&ours, &read), "{:?} is read as {:?}", ours, read);
    }

    #[test]
    fn rumqttc_accepts_every_accepted_packet(
        bytes in vec(any::<u8>(), 0..40),
        first in prop::sample::select(vec![0x10, 0x30, 0x32, 0x40, 0x82, 0xa2, 0xc0, 0xe0]),
    ) {
        let bytes = framed(first, &bytes);
        if let Ok(ours) = whole(&bytes) {
            let read = v4::Packet::read(&mut BytesMut::from(&bytes[..]), LIMIT);
            let is_same = matches!(&read, Ok(theirs) if same(&ours, theirs));
            prop_assert!(is_same, "{:?} is read as {:?}", ours, read);
        }
    }

    #[test]
    fn a_stream_cut_anywhere_gives_the_same_packets(
        packets in vec(valid_packets(), 1..5),
        cuts in vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let stream: Vec<u8> = packets.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        ends.sort_unstable();
        ends.push(stream.len());
        let mut taken = 0;
        let mut count = 0;
        for end in ends {
            while let Some((packet, length)) = decode(&stream[taken..end], LIMIT).unwrap() {
                prop_assert!(same(&packet, &packets[count].1));
                taken += length;
                count += 1;
            }
        }
        prop_assert_eq!(count, packets.len());
        prop_assert_eq!(taken, stream.len());
    }

    #[test]
    fn a_client_reads_what_the_encoder_writes(
        topic in "[a-z$/?=0-9]{1,60}",
        body in vec(any::<u8>(), 0..70_000),
        id in option::of(1..=u16::MAX),
        granted in vec(0..2u8, 1..6),
    ) {
        let mut bytes = Vec::new();
        write_connack(&mut bytes, true, ConnectReturn::Accepted);
        write_publish(&mut bytes, &topic, &body, id);
        write_puback(&mut bytes, 7);
        write_suback(&mut bytes, 8, &granted);
        write_unsuback(&mut bytes, 9);
        write_pingresp(&mut bytes);
        let mut stream = BytesMut::from(&bytes[..]);
        let mut next = || v4::Packet::read(&mut stream, LIMIT).unwrap();
        let connack = v4::ConnAck::new(v4::ConnectReturnCode::Success, true);
        prop_assert_eq!(next(), v4::Packet::ConnAck(connack));
        match next() {
            v4::Packet::Publish(publish) => {
                prop_assert_eq!(publish.topic, topic);
                prop_assert_eq!(&publish.payload[..], &body[..]);
                prop_assert_eq!(publish.pkid, id.unwrap_or(0));
            }
            other => prop_assert!(false, "{:?}", other),
        }
        prop_assert_eq!(next(), v4::Packet::PubAck(v4::PubAck::new(7)));
        prop_assert!(matches!(
            next(),
            v4::Packet::SubAck(ack) if ack.pkid == 8 && ack.return_codes.len() == granted.len()
        ));
        prop_assert_eq!(next(), v4::Packet::UnsubAck(v4::UnsubAck::new(9)));
        prop_assert_eq!(next(), v4::Packet::PingResp);
    }
}

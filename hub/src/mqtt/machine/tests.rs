use iothub_protocol::topic::TopicError;

use super::*;
use crate::mqtt::codec::{Connect, Will};

fn session() -> Session {
    Session::new("lobby".parse().unwrap(), Vec::new(), None)
}

fn publish(topic: &str, qos: u8) -> Packet<'_> {
    let packet_id = (qos > 0).then_some(5);
    Packet::Publish(Publish {
        topic,
        payload: b"{}",
        qos,
        packet_id,
        retain: false,
        dup: false,
    })
}

#[test]
fn each_legal_topic_has_its_effect_and_keeps_its_packet_id() {
    let mut session = session();
    assert_eq!(
        session.handle(&publish("$iothub/twin/GET/?$rid=a", 1)),
        Ok(Effect::TwinGet {
            rid: "a",
            ack: Some(5)
        })
    );
    let patch = Effect::ReportedPatch {
        rid: "b",
        if_version: None,
        body: b"{}",
        ack: None,
    };
    assert_eq!(
        session.handle(&publish(
            "$iothub/twin/PATCH/properties/reported/?$rid=b",
            0
        )),
        Ok(patch)
    );
    let response = Effect::MethodResponse {
        rid: "c",
        status: 202,
        body: b"{}",
        ack: None,
    };
    assert_eq!(
        session.handle(&publish("$iothub/methods/res/202/?$rid=c", 0)),
        Ok(response)
    );
    let Ok(Effect::Telemetry {
        properties,
        ack: Some(5),
        ..
    }) = session.handle(&publish("devices/lobby/messages/events/%24.mid=7", 1))
    else {
        panic!("not telemetry");
    };
    assert_eq!(properties.message_id(), Some("7"));
}

#[test]
fn foreign_and_unknown_topics_end_the_connection() {
    let mut session = session();
    let foreign = session.handle(&publish("devices/other/messages/events/", 1));
    assert_eq!(foreign, Err(Violation::Topic(TopicError::OtherDevice)));
    for topic in [
        "hello",
        "$iothub/methods/POST/reboot/?$rid=1",
        "$SYS/broker",
        "$iothub/twin/res/200/?$rid=1",
    ] {
        assert!(
            matches!(session.handle(&publish(topic, 0)), Err(Violation::Topic(_))),
            "{topic}"
        );
    }
    let filter = Packet::Subscribe {
        packet_id: 1,
        filters: vec![("devices/other/messages/devicebound/#", 1)],
    };
    assert_eq!(
        session.handle(&filter),
        Err(Violation::Filter(TopicError::OtherDevice))
    );
    let everything = Packet::Subscribe {
        packet_id: 1,
        filters: vec![("$iothub/+", 0)],
    };
    assert!(matches!(
        session.handle(&everything),
        Err(Violation::Filter(_))
    ));
}

#[test]
fn qos_2_is_rejected_for_publish_and_granted_as_1_for_subscribe() {
    let mut session = session();
    assert_eq!(
        session.handle(&publish("$iothub/twin/GET/?$rid=a", 2)),
        Err(Violation::Qos2)
    );
    let filters = vec![("$iothub/methods/POST/#", 2), ("$iothub/twin/res/#", 0)];
    let granted = session.handle(&Packet::Subscribe {
        packet_id: 9,
        filters,
    });
    assert_eq!(
        granted,
        Ok(Effect::Subscribed {
            packet_id: 9,
            granted: vec![1, 0],
            changed: true,
        })
    );
    assert_eq!(
        held(&session),
        [("$iothub/methods/POST/#", 1), ("$iothub/twin/res/#", 0)]
    );
}

#[test]
fn subscribing_again_replaces_and_unsubscribing_removes() {
    let mut session = session();
    for (qos, changes) in [(1, true), (0, true), (0, false)] {
        let filters = vec![("$iothub/methods/POST/#", qos)];
        let effect = session.handle(&Packet::Subscribe {
            packet_id: 1,
            filters,
        });
        assert_eq!(
            effect,
            Ok(Effect::Subscribed {
                packet_id: 1,
                granted: vec![qos],
                changed: changes,
            })
        );
    }
    assert_eq!(held(&session), [("$iothub/methods/POST/#", 0)]);
    let effect = session.handle(&Packet::Unsubscribe {
        packet_id: 2,
        filters: vec!["$iothub/methods/POST/#"],
    });
    assert_eq!(effect, Ok(Effect::Unsubscribed { packet_id: 2 }));
    assert!(session.subscriptions().is_empty());
}

/// The filters of the session, and the granted QoS.
fn held(session: &Session) -> Vec<(&str, u8)> {
    let subscriptions = session.subscriptions().iter();
    subscriptions
        .map(|(filter, qos)| (filter.as_str(), *qos))
        .collect()
}

#[test]
fn unsubscribing_needs_the_exact_text_of_the_filter() {
    let mut session = session();
    let unsubscribe = |session: &mut Session, filter| {
        let filters = vec![filter];
        let packet_id = 2;
        let effect = session.handle(&Packet::Unsubscribe { packet_id, filters });
        assert_eq!(effect, Ok(Effect::Unsubscribed { packet_id }), "{filter}");
    };
    let wide = ["$iothub/methods/#", "$iothub/twin/res/200/#", "#"];
    for filter in wide {
        let subscribe = Packet::Subscribe {
            packet_id: 1,
            filters: vec![(filter, 1)],
        };
        assert!(session.handle(&subscribe).is_ok(), "{filter}");
    }
    // They cover the same topics, but have other texts.
    for filter in ["$iothub/methods/POST/#", "$iothub/twin/res/#", "+/#"] {
        unsubscribe(&mut session, filter);
    }
    assert_eq!(held(&session), wide.map(|filter| (filter, 1)));
    for (index, filter) in wide.into_iter().enumerate() {
        unsubscribe(&mut session, filter);
        assert_eq!(held(&session).len(), wide.len() - index - 1);
    }
}

/// Each row: the filters, and whether a response with status 200 and 204 is sent.
#[test]
fn a_twin_response_is_sent_unless_only_other_twin_responses_are_subscribed() {
    for (filters, get, patch) in [
        (&[][..], true, true),
        (&["$iothub/methods/POST/#"], true, true),
        (&["$iothub/twin/res/#"], true, true),
        (&["$iothub/twin/#"], true, true),
        (&["$iothub/twin/res/200/#"], true, false),
        (&["$iothub/twin/res/204/+"], false, true),
        (
            &["$iothub/twin/res/200/#", "$iothub/twin/res/204/#"],
            true,
            true,
        ),
        (&["$iothub/twin/res/400/#"], false, false),
    ] {
        let mut session = session();
        let filters: Vec<_> = filters.iter().map(|filter| (*filter, 0)).collect();
        let subscribe = Packet::Subscribe {
            packet_id: 1,
            filters: filters.clone(),
        };
        assert!(session.handle(&subscribe).is_ok());
        for (status, version, expected) in [(200, None, get), (204, Some(3), patch)] {
            let response = Downlink::TwinResponse {
                status,
                rid: "1",
                version,
            };
            let sent = session.wants_twin_response(&response);
            assert_eq!(sent, expected, "{filters:?} {status}");
        }
    }
}

#[test]
fn the_limit_on_subscriptions_counts_all_packets() {
    let mut session = session();
    for number in 0..=MAX_SUBSCRIPTIONS {
        let filter = format!("$iothub/methods/POST/method{number}/#");
        let effect = session.handle(&Packet::Subscribe {
            packet_id: 1,
            filters: vec![(&filter, 0)],
        });
        assert_eq!(effect.is_ok(), number < MAX_SUBSCRIPTIONS, "{number}");
    }
}

#[test]
fn a_flood_of_filters_in_one_packet_ends_the_connection() {
    let filters = vec![("$iothub/methods/POST/#", 0); MAX_SUBSCRIPTIONS + 1];
    assert_eq!(
        session().handle(&Packet::Subscribe {
            packet_id: 1,
            filters
        }),
        Err(Violation::TooManySubscriptions)
    );
}

#[test]
fn a_second_connect_ends_the_connection() {
    let connect = Connect {
        clean_session: true,
        keep_alive_s: 0,
        client_id: "lobby",
        will: None,
        user_name: None,
        password: None,
    };
    assert_eq!(
        session().handle(&Packet::Connect(connect)),
        Err(Violation::SecondConnect)
    );
}

#[test]
fn a_message_longer_than_256_kib_ends_the_connection() {
    let payload = vec![b' '; MAX_MESSAGE + 1];
    let topic = "devices/lobby/messages/events/";
    let packet = Packet::Publish(Publish {
        topic,
        payload: &payload,
        qos: 0,
        packet_id: None,
        retain: false,
        dup: false,
    });
    assert_eq!(
        session().handle(&packet),
        Err(Violation::TooLong(MAX_MESSAGE + 1))
    );
}

#[test]
fn the_properties_of_a_message_count_towards_its_size() {
    let body = vec![b'x'; MAX_MESSAGE - 7];
    for (topic, size) in [
        ("devices/lobby/messages/events/abc=defg", MAX_MESSAGE),
        ("devices/lobby/messages/events/$.ct=abcdefg", MAX_MESSAGE),
        ("devices/lobby/messages/events/abc=defgh", MAX_MESSAGE + 1),
    ] {
        let packet = Packet::Publish(Publish {
            topic,
            payload: &body,
            qos: 0,
            packet_id: None,
            retain: false,
            dup: false,
        });
        match session().handle(&packet) {
            Ok(Effect::Telemetry { .. }) => assert_eq!(size, MAX_MESSAGE, "{topic}"),
            other => assert_eq!(other, Err(Violation::TooLong(size)), "{topic}"),
        }
    }
}

#[test]
fn a_retained_message_is_not_retained_but_gets_a_property() {
    let topic = "devices/lobby/messages/events/";
    let packet = Packet::Publish(Publish {
        topic,
        payload: b"",
        qos: 0,
        packet_id: None,
        retain: true,
        dup: false,
    });
    let Ok(Effect::Telemetry { properties, .. }) = session().handle(&packet) else {
        panic!("not telemetry")
    };
    assert_eq!(properties.get("mqtt-retain"), Some("true"));
}

#[test]
fn a_will_must_be_telemetry_of_its_own_device_and_disconnect_drops_it() {
    let device = "lobby".parse().unwrap();
    let will = |topic| {
        LastWill::new(
            &Will {
                topic,
                payload: b"gone",
                qos: 1,
                retain: true,
            },
            &device,
        )
    };
    let own = will("devices/lobby/messages/events/a=b").unwrap();
    assert_eq!(own.properties.get("iothub-MessageType"), Some("Will"));
    assert_eq!(own.properties.get("mqtt-retain"), Some("true"));
    assert!(matches!(
        will("devices/other/messages/events/"),
        Err(Violation::Will(TopicError::OtherDevice))
    ));
    assert!(matches!(
        will("$iothub/twin/GET/?$rid=1"),
        Err(Violation::Will(TopicError::Unknown))
    ));

    let mut session = Session::new(device, Vec::new(), Some(own));
    assert_eq!(session.handle(&Packet::Disconnect), Ok(Effect::Disconnect));
    assert!(session.take_will().is_none());
}

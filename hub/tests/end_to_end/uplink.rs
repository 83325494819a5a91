//! Messages from devices: in every legal form, wills, and messages to forbidden topics.

use doorfleet_testing::{Peer, TestHub, eventually, in_an_hour, login, wait_for_connected};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Connect, ConnectReturnCode, LastWill, Packet, Publish};
use serde_json::{Value, json};

use crate::event::stored_events;

const EVENTS: &str = "devices/lobby/messages/events/";

fn message(topic: &str, packet_id: u16, retain: bool) -> Packet {
    let mut publish = Publish::new(topic, QoS::AtLeastOnce, "{}");
    publish.pkid = packet_id;
    publish.retain = retain;
    Packet::Publish(publish)
}

#[tokio::test]
async fn a_message_is_accepted_in_each_form_of_its_topic_and_retain_becomes_a_property() {
    let hub = TestHub::start().await;
    let mut peer = Peer::of_new(&hub, "lobby").await;
    let forms = [
        ("devices/lobby/messages/events", false, json!({})),
        (EVENTS, false, json!({})),
        (
            "devices/lobby/messages/events/a=b",
            false,
            json!({ "a": "b" }),
        ),
        (
            "devices/lobby/messages/events/?a=b",
            false,
            json!({ "a": "b" }),
        ),
        (
            "devices/lobby/messages/events/a=1%2b1&b=%2f%2F&c=x=y/",
            false,
            json!({ "a": "1+1", "b": "//", "c": "x=y" }),
        ),
        (
            "devices/lobby/messages/events/a=b",
            true,
            json!({ "a": "b", "mqtt-retain": "true" }),
        ),
    ];
    for (packet_id, (topic, retain, _)) in (1..).zip(&forms) {
        peer.send(&message(topic, packet_id, *retain)).await;
        assert!(
            matches!(peer.next().await, Some(Packet::PubAck(ack)) if ack.pkid == packet_id),
            "{topic}"
        );
    }
    // Retain has no effect: no topic exists on which a later client could receive the message.
    let messages = stored_events(&hub, "telemetry").await;
    let properties: Vec<Value> = messages
        .iter()
        .map(|event| {
            event
                .get("properties")
                .cloned()
                .unwrap_or_else(|| json!({}))
        })
        .collect();
    assert_eq!(properties, forms.map(|(_, _, properties)| properties));
}

#[tokio::test]
async fn messages_in_flight_are_acknowledged_in_order_once_they_are_stored() {
    const MESSAGES: u16 = 100;
    let hub = TestHub::start().await;
    let mut peer = Peer::of_new(&hub, "lobby").await;
    for packet_id in 1..=MESSAGES {
        peer.send(&message(EVENTS, packet_id, false)).await;
    }
    for packet_id in 1..=MESSAGES {
        assert!(matches!(peer.next().await, Some(Packet::PubAck(ack)) if ack.pkid == packet_id));
    }
    let hub = hub.restart_after_kill().await;
    assert_eq!(
        stored_events(&hub, "telemetry").await.len(),
        usize::from(MESSAGES)
    );
}

#[tokio::test]
async fn a_will_is_stored_when_a_device_is_lost_but_not_after_disconnect() {
    let hub = TestHub::start().await;
    let key = hub.add_device("lobby").await;
    let connect = |topic: &str, retain: bool| {
        let mut connect = Connect::new("lobby");
        connect.keep_alive = 60;
        let (user, password) = login("lobby", &key, in_an_hour());
        connect.set_login(user, password);
        connect.last_will = Some(LastWill::new(topic, "gone", QoS::AtLeastOnce, retain));
        Packet::Connect(connect)
    };
    let dial = async |packet: Packet| {
        let mut peer = Peer::dial(&hub).await;
        peer.send(&packet).await;
        match peer.next().await {
            Some(Packet::ConnAck(ack)) => assert_eq!(ack.code, ConnectReturnCode::Success),
            other => panic!("not CONNACK: {other:?}"),
        }
        peer
    };

    let mut leaves = dial(connect(EVENTS, false)).await;
    leaves.send(&Packet::Disconnect).await;
    assert!(leaves.is_closed().await);
    wait_for_connected(&hub, 0).await;
    drop(dial(connect("devices/lobby/messages/events/floor=3", true)).await);
    let messages = eventually("the will is stored", || async {
        let messages = stored_events(&hub, "telemetry").await;
        (!messages.is_empty()).then_some(messages)
    })
    .await;
    assert_eq!(messages.len(), 1, "no will after DISCONNECT: {messages:?}");
    assert_eq!(
        messages[0]["properties"],
        json!({ "floor": "3", "iothub-MessageType": "Will", "mqtt-retain": "true" })
    );

    // A will to a topic that its device may not publish to is rejected.
    for topic in [
        "devices/other/messages/events/",
        "anything",
        "$iothub/twin/GET/?$rid=1",
    ] {
        let mut peer = Peer::dial(&hub).await;
        peer.send(&connect(topic, false)).await;
        assert!(peer.is_closed().await, "{topic}");
    }
}

#[tokio::test]
async fn a_message_and_its_properties_have_at_most_256_kib_together() {
    const LONGEST: usize = 256 * 1024;
    let hub = TestHub::start().await;
    let mut peer = Peer::of_new(&hub, "lobby").await;
    let topic = format!("{EVENTS}level=high");
    let body = |length: usize| "x".repeat(length - "levelhigh".len());
    peer.publish(&topic, QoS::AtLeastOnce, &body(LONGEST)).await;
    assert!(matches!(peer.next().await, Some(Packet::PubAck(_))));
    peer.publish(&topic, QoS::AtLeastOnce, &body(LONGEST + 1))
        .await;
    assert!(peer.is_closed().await);
}

#[tokio::test]
async fn filters_and_topics_that_azure_does_not_have_end_the_connection() {
    let hub = TestHub::start().await;
    let key = hub.add_device("lobby").await;
    for filter in [
        "$iothub/methods/+/lockDoor/#",
        "$iothub/methods/POST/lock#",
        "$iothub/twin/GET/#",
        "$SYS/#",
        "devices/lobby/messages/events/#",
        "devices/lobby/modules/m/inputs/#",
        "devices/other/messages/devicebound/#",
        "devices/+/messages/devicebound",
    ] {
        let (mut peer, _) = Peer::connect(&hub, "lobby", &key, true).await;
        assert_eq!(
            peer.subscribe(filter, QoS::AtMostOnce).await,
            None,
            "{filter}"
        );
    }
    for topic in [
        "devices/lobby/messages/devicebound/",
        "devices/lobby/modules/m/messages/events/",
        "devices/LOBBY/messages/events/",
        "$iothub/twin/GET",
        "$iothub/twin/PATCH/properties/desired/?$rid=1",
        "$iothub/methods/res/ok/?$rid=1",
        "$dps/registrations/PUT/iotdps-register/?$rid=1",
    ] {
        let (mut peer, _) = Peer::connect(&hub, "lobby", &key, true).await;
        peer.publish(topic, QoS::AtMostOnce, "{}").await;
        assert!(peer.is_closed().await, "{topic}");
    }
}

//! Sessions: what survives reconnects and restarts, the granted subscriptions, and how a newer
//! connection ends an older one.

use std::sync::Arc;

use doorfleet_testing::{Peer, TestHub, eventually, wait_for_connected};
use reqwest::StatusCode;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{
    Packet, Subscribe, SubscribeFilter, SubscribeReasonCode, Unsubscribe,
};
use serde_json::{Value, json};

const METHODS: &str = "$iothub/methods/POST/#";
const DESIRED: &str = "$iothub/twin/PATCH/properties/desired/#";

fn floor(floor: u32) -> Value {
    json!({ "properties": { "desired": { "floor": floor } } })
}

/// Answers the next request with its own payload.
async fn answer_one(peer: &mut Peer) {
    let (topic, payload) = peer.next_publish().await;
    let rid = topic.split("$rid=").nth(1).unwrap();
    let response = format!("$iothub/methods/res/200/?$rid={rid}");
    peer.publish(&response, QoS::AtMostOnce, &payload.to_string())
        .await;
}

#[tokio::test]
async fn a_persistent_session_survives_a_restart_of_the_hub() {
    let hub = TestHub::start().await;
    let key = hub.add_device("lobby").await;
    let (mut peer, present) = Peer::connect(&hub, "lobby", &key, false).await;
    assert!(!present);
    for filter in [METHODS, DESIRED] {
        peer.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
    }
    let hub = hub.restart_after_kill().await;
    let (mut peer, present) = Peer::connect(&hub, "lobby", &key, false).await;
    assert!(present, "the session is still there");
    hub.patch("/twins/lobby", floor(3)).await;
    let (topic, body) = peer.next_publish().await;
    assert_eq!(topic, "$iothub/twin/PATCH/properties/desired/?$version=2");
    assert_eq!(body, json!({ "floor": 3, "$version": 2 }));
    unsubscribe(&mut peer, DESIRED).await;
    hub.patch("/twins/lobby", floor(4)).await;
    let (called, ()) = tokio::join!(
        hub.post(
            "/twins/lobby/methods",
            json!({ "methodName": "echo", "payload": 7 })
        ),
        answer_one(&mut peer)
    );
    assert_eq!(called.body, json!({ "status": 200, "payload": 7 }));
}

#[tokio::test]
async fn changes_and_calls_for_an_offline_device_are_not_queued() {
    let hub = TestHub::start().await;
    let key = hub.add_device("lobby").await;
    let (mut peer, _) = Peer::connect(&hub, "lobby", &key, false).await;
    for filter in [METHODS, DESIRED] {
        peer.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
    }
    drop(peer);
    wait_for_connected(&hub, 0).await;
    hub.patch("/twins/lobby", floor(4)).await;
    let called = hub
        .post("/twins/lobby/methods", json!({ "methodName": "lockDoor" }))
        .await;
    assert_eq!(called.headers["iothub-errorcode"], "DeviceNotOnline");

    let (mut peer, present) = Peer::connect(&hub, "lobby", &key, false).await;
    assert!(present);
    peer.ping().await;
    peer.publish("$iothub/twin/GET/?$rid=1", QoS::AtMostOnce, " ")
        .await;
    let (_, twin) = peer.next_publish().await;
    assert_eq!(
        twin["desired"],
        json!({ "floor": 4, "$version": 2 }),
        "it reads the twin instead"
    );
}

#[tokio::test]
async fn a_clean_session_deletes_the_earlier_persistent_one() {
    let hub = TestHub::start().await;
    let key = hub.add_device("lobby").await;
    for (clean, was_there) in [(false, false), (false, true), (true, false), (false, false)] {
        let (peer, present) = Peer::connect(&hub, "lobby", &key, clean).await;
        assert_eq!(present, was_there, "clean: {clean}");
        drop(peer);
        wait_for_connected(&hub, 0).await;
    }
}

#[tokio::test]
async fn subscriptions_are_granted_as_requested_and_qos_2_as_1() {
    let hub = TestHub::start().await;
    let mut peer = Peer::of_new(&hub, "lobby").await;
    let asked = [
        (METHODS, QoS::AtMostOnce),
        (DESIRED, QoS::AtLeastOnce),
        ("$iothub/twin/res/#", QoS::ExactlyOnce),
        ("devices/lobby/messages/devicebound/#", QoS::AtLeastOnce),
        // The same filter again replaces the first.
        (METHODS, QoS::AtLeastOnce),
    ];
    let filters = asked.map(|(filter, qos)| SubscribeFilter::new(filter.to_owned(), qos));
    let mut subscribe = Subscribe::new_many(filters);
    subscribe.pkid = 300;
    peer.send(&Packet::Subscribe(subscribe)).await;
    let Some(Packet::SubAck(granted)) = peer.next().await else {
        panic!("no SUBACK")
    };
    assert_eq!(granted.pkid, 300);
    let granted: Vec<_> = granted
        .return_codes
        .iter()
        .map(|code| match code {
            SubscribeReasonCode::Success(qos) => *qos as u8,
            SubscribeReasonCode::Failure => 0x80,
        })
        .collect();
    assert_eq!(granted, [0, 1, 1, 1, 1]);
}

#[tokio::test]
async fn a_cloud_to_device_subscription_is_granted_although_the_queue_is_always_empty() {
    let hub = TestHub::start().await;
    let key = hub.add_device("lobby").await;
    let (mut peer, _) = Peer::connect(&hub, "lobby", &key, false).await;
    let granted = peer
        .subscribe("devices/lobby/messages/devicebound/#", QoS::AtLeastOnce)
        .await;
    assert_eq!(
        granted,
        Some(SubscribeReasonCode::Success(QoS::AtLeastOnce))
    );
    peer.ping().await;
    let identity = hub.get("/devices/lobby").await.body;
    assert_eq!(identity["cloudToDeviceMessageCount"], 0);
    // It is part of the session like any other.
    drop(peer);
    let (_peer, present) = Peer::connect(&hub, "lobby", &key, false).await;
    assert!(present);
}

#[tokio::test]
async fn requests_and_twins_are_sent_at_qos_0_at_any_granted_qos() {
    let hub = TestHub::start().await;
    let mut peer = Peer::of_new(&hub, "lobby").await;
    for filter in [METHODS, DESIRED, "$iothub/twin/res/#"] {
        peer.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
    }
    peer.publish("$iothub/twin/GET/?$rid=1", QoS::AtMostOnce, "")
        .await;
    let at_qos_0 = |packet: Option<Packet>, start: &str| match packet {
        Some(Packet::Publish(publish)) => {
            assert!(publish.topic.starts_with(start), "{}", publish.topic);
            assert_eq!(
                (publish.qos, publish.retain, publish.dup),
                (QoS::AtMostOnce, false, false)
            );
            publish.topic
        }
        other => panic!("not PUBLISH: {other:?}"),
    };
    at_qos_0(peer.next().await, "$iothub/twin/res/200/");
    hub.patch("/twins/lobby", floor(1)).await;
    at_qos_0(peer.next().await, "$iothub/twin/PATCH/properties/desired/");
    let call = hub.post("/twins/lobby/methods", json!({ "methodName": "lockDoor" }));
    let device = async {
        let topic = at_qos_0(peer.next().await, "$iothub/methods/POST/lockDoor/?$rid=");
        let response = topic.replace("POST/lockDoor", "res/200");
        peer.publish(&response, QoS::AtMostOnce, "").await;
    };
    assert_eq!(tokio::join!(call, device).0.status, 200);
}

#[tokio::test]
async fn a_call_in_flight_fails_when_its_device_disconnects_or_reconnects() {
    let hub = Arc::new(TestHub::start().await);
    let key = hub.add_device("lobby").await;
    let taken_over = "ConnectionForcefullyClosedOnNewConnection";
    for (again, code, name) in [
        (true, "400027", taken_over),
        (false, "404104", "DeviceConnectionClosedRemotely"),
    ] {
        let (mut peer, _) = Peer::connect(&hub, "lobby", &key, true).await;
        peer.subscribe(METHODS, QoS::AtMostOnce).await.unwrap();
        let call = hub.post("/twins/lobby/methods", json!({ "methodName": "lockDoor" }));
        let device = async {
            peer.next_publish().await;
            if again {
                let (newer, _) = Peer::connect(&hub, "lobby", &key, true).await;
                assert!(peer.is_closed().await);
                drop(newer);
            } else {
                drop(peer);
            }
        };
        let (called, ()) = tokio::join!(call, device);
        called.refused(code[..3].parse().unwrap(), name, &[code]);
        eventually("no device is connected", || async {
            (hub.hub.registry().connected_count() == 0).then_some(())
        })
        .await;
    }
}

/// Calls a method; the device answers if it receives the call.
async fn call(hub: &TestHub, peer: &mut Peer, method: &str) -> StatusCode {
    let body = json!({ "methodName": method, "payload": 7 });
    tokio::select! {
        answer = hub.post("/twins/lobby/methods", body) => answer.status,
        () = async { loop { answer_one(peer).await } } => unreachable!(),
    }
}

async fn unsubscribe(peer: &mut Peer, filter: &str) {
    let mut unsubscribe = Unsubscribe::new(filter);
    unsubscribe.pkid = 7;
    peer.send(&Packet::Unsubscribe(unsubscribe)).await;
    assert!(matches!(peer.next().await, Some(Packet::UnsubAck(_))));
}

/// Each row: a filter, and the statuses of calls of `lockDoor` and `unlockDoor` while it is the
/// device's only subscription.
#[tokio::test]
async fn a_device_is_online_for_the_methods_that_match_its_filter() {
    const ONLINE: StatusCode = StatusCode::OK;
    const OFFLINE: StatusCode = StatusCode::NOT_FOUND;
    let mut hub = TestHub::start().await;
    let key = hub.add_device("lobby").await;
    for (filter, lock, unlock) in [
        ("$iothub/methods/#", ONLINE, ONLINE),
        ("$iothub/#", ONLINE, ONLINE),
        ("$iothub/methods/POST/lockDoor/#", ONLINE, OFFLINE),
        ("$iothub/twin/#", OFFLINE, OFFLINE),
        ("#", OFFLINE, OFFLINE),
    ] {
        let (mut peer, _) = Peer::connect(&hub, "lobby", &key, false).await;
        let granted = peer.subscribe(filter, QoS::AtLeastOnce).await;
        assert!(granted.is_some(), "{filter}");
        for _ in 0..2 {
            for (method, expected) in [("lockDoor", lock), ("unlockDoor", unlock)] {
                let status = call(&hub, &mut peer, method).await;
                assert_eq!(status, expected, "{filter} {method}");
            }
            // The hub stores the filter of a persistent session.
            hub = hub.restart_after_kill().await;
            let present;
            (peer, present) = Peer::connect(&hub, "lobby", &key, false).await;
            assert!(present, "{filter}");
        }
        unsubscribe(&mut peer, filter).await;
        assert_eq!(call(&hub, &mut peer, "lockDoor").await, OFFLINE, "{filter}");
    }
}

#[tokio::test]
async fn reads_subscriptions_that_version_0_1_stored() {
    let hub = TestHub::start().await;
    let key = hub.add_device("lobby").await;
    let stored = concat!(
        r#"[{"filter":"$iothub/methods/POST/#","qos":1},"#,
        r#"{"filter":"$iothub/twin/res/#","qos":0},"#,
        r#"{"filter":"$iothub/twin/PATCH/properties/desired/#","qos":1},"#,
        r#"{"filter":"devices/lobby/messages/devicebound/#","qos":1}]"#,
    );
    let database = rusqlite::Connection::open(hub.folder.path().join("hub.db")).unwrap();
    let update = "UPDATE device SET subscriptions = ?1";
    assert_eq!(database.execute(update, [stored]).unwrap(), 1);
    drop(database);
    let (mut peer, present) = Peer::connect(&hub, "lobby", &key, false).await;
    assert!(present);
    hub.patch("/twins/lobby", floor(3)).await;
    let (topic, _) = peer.next_publish().await;
    assert_eq!(topic, "$iothub/twin/PATCH/properties/desired/?$version=2");
    assert_eq!(call(&hub, &mut peer, "lockDoor").await, StatusCode::OK);
}

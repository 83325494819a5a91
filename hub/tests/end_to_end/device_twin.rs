//! Twins as devices see them.

use doorfleet_testing::{Peer, TestHub};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::Packet;
use serde_json::{Value, json};

const REPORTED: &str = "$iothub/twin/PATCH/properties/reported/";

/// Reports `body`; returns the status and the payload of the response.
async fn report(peer: &mut Peer, parameters: &str, body: &str) -> (String, Value) {
    peer.publish(
        &format!("{REPORTED}?$rid=7{parameters}"),
        QoS::AtMostOnce,
        body,
    )
    .await;
    let (topic, answer) = peer.next_publish().await;
    let rest = topic.strip_prefix("$iothub/twin/res/").unwrap();
    let (status, query) = rest.split_once('/').unwrap();
    assert!(query.starts_with("?$rid=7"), "{topic}");
    (
        format!("{status}{}", query.trim_start_matches("?$rid=7")),
        answer,
    )
}

#[tokio::test]
async fn a_device_gets_only_the_properties_of_its_twin() {
    let hub = TestHub::start().await;
    let key = hub.add_device("lobby").await;
    let change =
        json!({ "tags": { "floor": 3 }, "properties": { "desired": { "a": { "b": 1 } } } });
    assert_eq!(hub.patch("/twins/lobby", change).await.status, 200);
    let (mut peer, _) = Peer::connect(&hub, "lobby", &key, true).await;
    // Clients send a space, nothing, or something else.
    for body in [" ", "", "{}", "ignored"] {
        peer.publish("$iothub/twin/GET/?$rid=4-a", QoS::AtLeastOnce, body)
            .await;
        assert!(matches!(peer.next().await, Some(Packet::PubAck(ack)) if ack.pkid == 77));
        let (topic, twin) = peer.next_publish().await;
        assert_eq!(topic, "$iothub/twin/res/200/?$rid=4-a");
        assert_eq!(
            twin,
            json!({ "desired": { "a": { "b": 1 }, "$version": 2 }, "reported": { "$version": 1 } })
        );
    }
}

#[tokio::test]
async fn a_report_is_merged_and_answered_with_its_version() {
    let hub = TestHub::start().await;
    let mut peer = Peer::of_new(&hub, "lobby").await;
    for (body, version, reported) in [
        (
            r#"{"a":{"b":1,"c":[1,"two"]},"d":1.5}"#,
            2,
            json!({ "a": { "b": 1, "c": [1, "two"] }, "d": 1.5 }),
        ),
        (
            r#"{"a":{"b":null}}"#,
            3,
            json!({ "a": { "c": [1, "two"] }, "d": 1.5 }),
        ),
        (r#"{"a":null,"none":null}"#, 4, json!({ "d": 1.5 })),
        ("{}", 5, json!({ "d": 1.5 })),
    ] {
        let (status, answer) = report(&mut peer, "", body).await;
        assert_eq!(
            (status, answer),
            (format!("204&$version={version}"), Value::Null),
            "{body}"
        );
        let mut seen = hub.get("/twins/lobby").await.body["properties"]["reported"].clone();
        seen.as_object_mut().unwrap().remove("$metadata");
        let mut expected = reported;
        expected["$version"] = json!(version);
        assert_eq!(seen, expected, "{body}");
    }
}

#[tokio::test]
async fn an_invalid_report_is_answered_with_an_error_and_changes_nothing() {
    let hub = TestHub::start().await;
    let mut peer = Peer::of_new(&hub, "lobby").await;
    let deep = format!("{}1{}", "{\"a\":".repeat(12), "}".repeat(12));
    let large = format!(
        "{{\"a\":{{{}}}}}",
        (0..9)
            .map(|n| format!("\"p{n}\":\"{}\"", "x".repeat(4000)))
            .collect::<Vec<_>>()
            .join(",")
    );
    for (parameters, body, status, code) in [
        // A patch that contains `$version`; the answer is quoted in a public issue.
        ("", r#"{"$version":3}"#, "400", 400_004),
        ("", r#"{"$metadata":{}}"#, "400", 400_004),
        ("", r#"{"a.b":1}"#, "400", 400_004),
        ("", &deep, "400", 400_004),
        ("", r#"{"n":4503599627370496}"#, "400", 400_004),
        ("", "not json", "400", 400_004),
        ("", "[]", "400", 400_004),
        ("", "null", "400", 400_004),
        ("", "", "400", 400_004),
        ("", &large, "400", 400_004),
        ("&$version=9", r#"{"a":1}"#, "412", 412_001),
    ] {
        let (answered, error) = report(&mut peer, parameters, body).await;
        assert_eq!(answered, status, "{error}");
        assert_eq!(error["errorCode"], code, "{error}");
        for member in ["message", "trackingId", "timestampUtc"] {
            assert!(
                !error[member].as_str().unwrap().is_empty(),
                "{member} of {error}"
            );
        }
        assert!(
            error.get("Message").is_none(),
            "flat, unlike the REST API's: {error}"
        );
    }
    let reported = hub.get("/twins/lobby").await.body["properties"]["reported"].clone();
    assert_eq!(reported["$version"], 1);
    let (status, _) = report(&mut peer, "&$version=1", r#"{"a":1}"#).await;
    assert_eq!(status, "204&$version=2", "the version is unchanged");
}

/// As described by the IoT Hub team in azure-iot-sdk-csharp issue 954.
#[tokio::test]
async fn a_notification_holds_the_members_of_the_patch() {
    let hub = TestHub::start().await;
    let key = hub.add_device("lobby").await;
    let desired = |values: Value| json!({ "properties": { "desired": values } });
    hub.patch("/twins/lobby", desired(json!({ "a": 1, "b": 2 })))
        .await;
    let (mut peer, _) = Peer::connect(&hub, "lobby", &key, true).await;
    peer.subscribe("$iothub/twin/PATCH/properties/desired/#", QoS::AtLeastOnce)
        .await
        .unwrap();
    hub.patch("/twins/lobby", desired(json!({ "a": -1 }))).await;
    hub.patch("/twins/lobby", desired(json!({ "a": 1, "b": 2 })))
        .await;
    hub.patch("/twins/lobby", desired(json!({ "b": null, "x": null })))
        .await;
    hub.patch("/twins/lobby", json!({ "tags": { "quiet": true } }))
        .await;
    hub.patch("/twins/lobby", desired(json!({ "b": 2 }))).await;
    hub.put("/twins/lobby", desired(json!({ "a": 1, "c": 100 })))
        .await;
    for (version, body) in [
        (3, json!({ "a": -1 })),
        (4, json!({ "a": 1, "b": 2 })),
        (5, json!({ "b": null, "x": null })),
        (6, json!({ "b": 2 })),
        (7, json!({ "a": 1, "b": null, "c": 100 })),
    ] {
        let (topic, payload) = peer.next_publish().await;
        assert_eq!(
            topic,
            format!("$iothub/twin/PATCH/properties/desired/?$version={version}")
        );
        let mut expected = body;
        expected["$version"] = json!(version);
        assert_eq!(payload, expected);
    }
}

#[tokio::test]
async fn a_device_without_a_subscription_is_not_notified() {
    let hub = TestHub::start().await;
    let mut peer = Peer::of_new(&hub, "lobby").await;
    hub.set_desired("lobby", json!({ "a": 1 })).await;
    // The next message is the response to its own request.
    let (status, _) = report(&mut peer, "", r#"{"b":1}"#).await;
    assert_eq!(status, "204&$version=2");
}

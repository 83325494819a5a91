//! Direct methods as devices see them: payloads byte for byte, answers in any form and order.

use doorfleet_testing::{Answer, Peer, TestHub, answer};
use reqwest::Method;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::Packet;
use serde_json::{Value, json};

/// Maximum length of a payload, in requests and answers.
const LONGEST: usize = 128 * 1024;

async fn online(hub: &TestHub, id: &str) -> Peer {
    let key = hub.add_device(id).await;
    let (mut peer, _) = Peer::connect(hub, id, &key, true).await;
    peer.subscribe("$iothub/methods/POST/#", QoS::AtLeastOnce)
        .await
        .unwrap();
    peer
}

/// Calls a method with exactly this request body.
async fn call(hub: &TestHub, body: &str) -> Answer {
    let request = hub
        .request(Method::POST, "/twins/lobby/methods?api-version=2021-04-12")
        .header("content-type", "application/json")
        .body(body.to_owned());
    answer(request).await
}

/// The next method request: its id and payload.
async fn request(peer: &mut Peer) -> (String, Vec<u8>) {
    match peer.next().await {
        Some(Packet::Publish(publish)) => {
            let rid = publish.topic.split("$rid=").nth(1).unwrap().to_owned();
            (rid, publish.payload.to_vec())
        }
        other => panic!("not PUBLISH: {other:?}"),
    }
}

async fn respond(peer: &mut Peer, rid: &str, status: i64, body: &str) {
    let topic = format!("$iothub/methods/res/{status}/?$rid={rid}");
    peer.publish(&topic, QoS::AtMostOnce, body).await;
}

#[tokio::test]
async fn a_payload_is_delivered_byte_for_byte_and_a_missing_one_as_null() {
    let hub = TestHub::start().await;
    let mut peer = online(&hub, "lobby").await;
    for (body, sent) in [
        (r#"{"methodName":"m"}"#, "null"),
        (r#"{"methodName":"m","payload":null}"#, "null"),
        (r#"{"methodName":"m","payload":""}"#, r#""""#),
        (r#"{"methodName":"m","payload":"foo"}"#, r#""foo""#),
        // The tutorial sends a string that contains JSON.
        (
            r#"{"methodName":"m","payload":"{\"a\":1}"}"#,
            r#""{\"a\":1}""#,
        ),
        (r#"{"methodName":"m","payload":{}}"#, "{}"),
        (r#"{"methodName":"m","payload":[1, 2]}"#, "[1, 2]"),
        (
            r#"{"methodName":"m","payload": {"b": 1.50,  "a":12345678901234567890} }"#,
            r#"{"b": 1.50,  "a":12345678901234567890}"#,
        ),
    ] {
        let device = async {
            let (rid, payload) = request(&mut peer).await;
            assert_eq!(String::from_utf8(payload).unwrap(), sent);
            respond(&mut peer, &rid, 200, sent).await;
        };
        let (called, ()) = tokio::join!(call(&hub, body), device);
        assert_eq!(called.status, 200, "{}", called.body);
        assert_eq!(
            called.body["payload"],
            serde_json::from_str::<Value>(sent).unwrap()
        );
    }
}

#[tokio::test]
async fn any_status_is_accepted_and_an_empty_payload_is_null() {
    let hub = TestHub::start().await;
    let mut peer = online(&hub, "lobby").await;
    for (status, body, payload) in [
        (200, "", json!(null)),
        (0, "null", json!(null)),
        (-1, "0", json!(0)),
        (
            404,
            r#"{"why":"no such method"}"#,
            json!({ "why": "no such method" }),
        ),
        (i64::from(i32::MAX), " [ ] ", json!([])),
    ] {
        let device = async {
            let (rid, _) = request(&mut peer).await;
            respond(&mut peer, &rid, status, body).await;
        };
        let (called, ()) = tokio::join!(call(&hub, r#"{"methodName":"m"}"#), device);
        assert_eq!(called.status, 200, "{}", called.body);
        assert_eq!(called.body, json!({ "status": status, "payload": payload }));
    }
}

#[tokio::test]
async fn an_answer_that_is_not_json_fails_only_its_call() {
    let hub = TestHub::start().await;
    let mut peer = online(&hub, "lobby").await;
    for bad in ["locked", "{", "{} {}"] {
        let device = async {
            let (rid, _) = request(&mut peer).await;
            respond(&mut peer, &rid, 200, bad).await;
        };
        let (called, ()) = tokio::join!(call(&hub, r#"{"methodName":"m"}"#), device);
        called.refused(
            400,
            "DeserializationError",
            &["the device's answer is not JSON"],
        );
    }
    peer.ping().await;
}

#[tokio::test]
async fn an_unexpected_answer_is_acknowledged_and_ignored() {
    let hub = TestHub::start().await;
    let mut peer = online(&hub, "lobby").await;
    for rid in ["ff", "not-ours", ""] {
        let topic = format!("$iothub/methods/res/200/?$rid={rid}");
        peer.publish(&topic, QoS::AtLeastOnce, "{}").await;
        assert!(
            matches!(peer.next().await, Some(Packet::PubAck(ack)) if ack.pkid == 77),
            "{rid}"
        );
    }
    // The second answer to a request is ignored too.
    let device = async {
        let (rid, _) = request(&mut peer).await;
        respond(&mut peer, &rid, 200, "1").await;
        respond(&mut peer, &rid, 200, "2").await;
    };
    let (called, ()) = tokio::join!(call(&hub, r#"{"methodName":"m"}"#), device);
    assert_eq!(called.body, json!({ "status": 200, "payload": 1 }));
    peer.ping().await;
}

#[tokio::test]
async fn concurrent_calls_may_be_answered_in_any_order() {
    let hub = TestHub::start().await;
    let mut peer = online(&hub, "lobby").await;
    let calls = async {
        tokio::join!(
            call(&hub, r#"{"methodName":"m","payload":1}"#),
            call(&hub, r#"{"methodName":"m","payload":2}"#),
            call(&hub, r#"{"methodName":"m","payload":3}"#),
        )
    };
    let device = async {
        let mut requests = Vec::new();
        for _ in 0..3 {
            requests.push(request(&mut peer).await);
        }
        requests.sort_by_key(|(_, payload)| std::cmp::Reverse(payload.clone()));
        for (rid, payload) in requests {
            let body = String::from_utf8(payload).unwrap();
            respond(&mut peer, &rid, 200, &body).await;
        }
    };
    let ((one, two, three), ()) = tokio::join!(calls, device);
    for (called, payload) in [(one, 1), (two, 2), (three, 3)] {
        assert_eq!(called.body, json!({ "status": 200, "payload": payload }));
    }
}

#[tokio::test]
async fn payloads_may_have_128_kib_in_both_directions() {
    let hub = TestHub::start().await;
    let mut peer = online(&hub, "lobby").await;
    let text = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
    let call_with = |payload: String| format!(r#"{{"methodName":"m","payload":{payload}}}"#);

    let body = call_with(text(LONGEST));
    let device = async {
        let (rid, payload) = request(&mut peer).await;
        assert_eq!(payload.len(), LONGEST);
        respond(&mut peer, &rid, 200, &text(LONGEST)).await;
    };
    let (called, ()) = tokio::join!(call(&hub, &body), device);
    assert_eq!(called.status, 200, "{}", called.body);
    assert_eq!(called.body["payload"].as_str().unwrap().len(), LONGEST - 2);

    let refused = call(&hub, &call_with(text(LONGEST + 1))).await;
    assert_eq!(refused.status, 413, "{}", refused.body);
    let device = async {
        let (rid, _) = request(&mut peer).await;
        respond(&mut peer, &rid, 200, &text(LONGEST + 1)).await;
    };
    let (called, ()) = tokio::join!(call(&hub, r#"{"methodName":"m"}"#), device);
    assert_eq!(called.status, 413, "{}", called.body);
}

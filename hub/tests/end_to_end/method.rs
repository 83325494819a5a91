//! Direct methods over the API.

use doorfleet_testing::{Answer, Device, TestHub};
use serde_json::{Value, json};

use crate::job::lock;

fn inner(body: &Value) -> Value {
    serde_json::from_str(body["Message"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn the_caller_gets_the_devices_answer_with_any_status() {
    let hub = TestHub::start().await;
    let key = hub.add_device("door").await;
    let _device = hub.connect("door", &key, 202).await;
    // The tutorial sends its payload as a string that contains JSON: it passes unchanged.
    for payload in [
        json!({ "lockTime": "10m" }),
        json!("{\"lockTime\":\"10m\"}"),
        json!(null),
        json!(7),
    ] {
        let answer = hub
            .post(
                "/twins/door/methods/?api-version=2021-04-12",
                json!({ "methodName": "lockDoor", "payload": payload }),
            )
            .await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.body, json!({ "status": 202, "payload": payload }));
    }
}

#[tokio::test]
async fn distinguishes_an_unknown_device_from_an_offline_one() {
    let hub = TestHub::start().await;
    let unknown = hub
        .post("/twins/nobody/methods", json!({ "methodName": "lockDoor" }))
        .await;
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.headers["iothub-errorcode"], "DeviceNotFound");
    assert_eq!(inner(&unknown.body)["errorCode"], 404_001);

    hub.add_device("door").await;
    let offline = hub
        .post("/twins/door/methods", json!({ "methodName": "lockDoor" }))
        .await;
    assert_eq!(offline.status, 404);
    assert_eq!(offline.headers["iothub-errorcode"], "DeviceNotOnline");
    let inner = inner(&offline.body);
    assert_eq!(inner["errorCode"], 404_103);
    assert_eq!(inner["message"], "Timed out waiting for device to connect.");
    assert_eq!(inner["info"]["timeout"], "00:00:00");
}

#[tokio::test]
async fn arguments_out_of_range_are_rejected_in_the_format_of_method_errors() {
    let hub = TestHub::start().await;
    hub.add_device("door").await;
    for (body, fragment) in [
        (
            json!({ "methodName": "lockDoor", "responseTimeoutInSeconds": 4 }),
            "responseTimeoutInSeconds",
        ),
        (
            json!({ "methodName": "lockDoor", "connectTimeoutInSeconds": 301 }),
            "connectTimeoutInSeconds",
        ),
        (json!({ "methodName": "lock door" }), "method name"),
        (json!({ "payload": {} }), "methodName"),
    ] {
        let refused = hub.post("/twins/door/methods", body).await;
        assert_eq!(refused.status, 400, "{}", refused.body);
        let message = inner(&refused.body)["message"].as_str().unwrap().to_owned();
        assert!(message.contains(fragment), "{message}");
    }
}

/// (connect timeout, response timeout, rejected), for a call and for a job's; null means the
/// default.
#[tokio::test]
async fn a_connect_timeout_beyond_the_response_timeout_is_rejected_in_calls_and_jobs() {
    let hub = TestHub::start().await;
    for (number, (connect, response, refused)) in [
        (json!(120), json!(30), true),
        (json!(31), json!(null), true),
        (json!(300), json!(299), true),
        (json!(30), json!(null), false),
        (json!(300), json!(300), false),
        (json!(0), json!(5), false),
    ]
    .into_iter()
    .enumerate()
    {
        let call = json!({
            "methodName": "lockDoor",
            "connectTimeoutInSeconds": connect,
            "responseTimeoutInSeconds": response,
        });
        let answer = hub.post("/twins/nobody/methods", call.clone()).await;
        // A call that passes the check fails because the device is unknown.
        let expected = if refused { 400_004 } else { 404_001 };
        let answer = inner(&answer.body);
        assert_eq!(answer["errorCode"], expected, "{call}: {answer}");

        let mut job = lock("*", 3_600_000);
        job["cloudToDeviceMethod"] = call.clone();
        let answer = hub.put(&format!("/jobs/v2/job-{number}"), job).await;
        assert_eq!(
            answer.status == 400,
            refused,
            "{call}: {} {}",
            answer.status,
            answer.body
        );
        if refused {
            let message = answer.body["Message"].as_str().unwrap();
            assert!(
                message.starts_with("ErrorCode:ArgumentInvalid;"),
                "{message}"
            );
            let values = [&connect, &response].map(|value| value.as_u64().unwrap_or(30));
            assert!(
                values
                    .iter()
                    .all(|value| message.contains(&value.to_string())),
                "{message}"
            );
        }
    }
}

/// Calls a device that answers with this body; returns what the device received, and the caller's
/// response.
async fn answered(hub: &TestHub, device: &mut Device, call: Value, body: &str) -> (String, Answer) {
    let mut sent = String::new();
    let respond = async {
        let (topic, payload) = device.received().await;
        sent = String::from_utf8(payload).unwrap();
        let rid = topic.split("$rid=").nth(1).unwrap();
        let topic = format!("$iothub/methods/res/200/?$rid={rid}");
        device.publish(&topic, body).await;
        device.received().await
    };
    let answer = tokio::select! {
        answer = hub.post("/twins/door/methods", call) => answer,
        more = respond => panic!("more than one request: {more:?}"),
    };
    (sent, answer)
}

#[tokio::test]
async fn an_empty_payload_is_null_both_ways_and_an_answer_that_is_not_json_is_an_error() {
    let hub = TestHub::start().await;
    let key = hub.add_device("door").await;
    let mut device = Device::dial(&hub, "door", &key);
    device.subscribe("$iothub/methods/POST/#").await;
    let call = json!({ "methodName": "lockDoor" });
    let (sent, answer) = answered(&hub, &mut device, call.clone(), "").await;
    assert_eq!(sent, "null");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, json!({ "status": 200, "payload": null }));
    let (_, answer) = answered(&hub, &mut device, call, "locked").await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.headers["iothub-errorcode"], "DeserializationError");
    let message = inner(&answer.body)["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("the device's answer is not JSON"),
        "{message}"
    );
}

#[tokio::test]
async fn a_disconnect_before_the_answer_is_reported_at_once() {
    let hub = TestHub::start().await;
    let key = hub.add_device("door").await;
    let mut device = Device::dial(&hub, "door", &key);
    device.subscribe("$iothub/methods/POST/#").await;
    let vanish = async {
        device.received().await;
        drop(device);
    };
    let call = json!({ "methodName": "lockDoor", "responseTimeoutInSeconds": 300 });
    let (answer, ()) = tokio::join!(hub.post("/twins/door/methods", call), vanish);
    assert_eq!(answer.status, 404);
    assert_eq!(
        answer.headers["iothub-errorcode"],
        "DeviceConnectionClosedRemotely"
    );
    assert_eq!(inner(&answer.body)["errorCode"], 404_104);
}

#[tokio::test]
async fn a_method_name_has_at_most_100_characters_and_a_payload_128_kib() {
    let hub = TestHub::start().await;
    hub.add_device("door").await;
    for (call, status) in [
        (json!({ "methodName": "l".repeat(101) }), 400),
        (
            json!({ "methodName": "lockDoor", "payload": "x".repeat(128 * 1024 - 1) }),
            413,
        ),
        // Neither is too long: the device is offline.
        (json!({ "methodName": "l".repeat(100) }), 404),
        (
            json!({ "methodName": "lockDoor", "payload": "x".repeat(128 * 1024 - 2) }),
            404,
        ),
    ] {
        let refused = hub.post("/twins/door/methods", call).await;
        assert_eq!(refused.status, status);
        let code = inner(&refused.body)["errorCode"].as_u64().unwrap();
        assert_eq!(code / 1000, u64::from(refused.status.as_u16()));
    }
}

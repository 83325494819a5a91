//! Direct methods over the API.

use serde_json::{Value, json};

use crate::harness::TestHub;

fn inner(body: &Value) -> Value {
    serde_json::from_str(body["Message"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn the_devices_answer_comes_back_whatever_its_status() {
    let hub = TestHub::start().await;
    let key = hub.add_device("door").await;
    let _device = hub.connect("door", &key, 202).await;
    // The tutorial sends its payload as a text that holds JSON: it goes through as it is.
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
async fn a_device_that_is_not_there_is_told_from_one_that_is_not_online() {
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
async fn arguments_out_of_range_are_refused_in_the_methods_dialect() {
    let hub = TestHub::start().await;
    hub.add_device("door").await;
    for (body, said) in [
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
        assert!(message.contains(said), "{message}");
    }
}

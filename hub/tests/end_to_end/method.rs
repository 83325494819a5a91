//! Direct methods over the API.

use doorfleet_testing::TestHub;
use serde_json::{Value, json};

use crate::job::lock;

fn inner(body: &Value) -> Value {
    serde_json::from_str(body["Message"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn distinguishes_an_unknown_device_from_an_offline_one() {
    let hub = TestHub::start().await;
    let unknown = hub
        .post(
            "/twins/nobody/methods/",
            json!({ "methodName": "lockDoor" }),
        )
        .await;
    unknown.refused(404, "DeviceNotFound", &[]);
    assert_eq!(inner(&unknown.body)["errorCode"], 404_001);

    hub.add_device("door").await;
    let offline = hub
        .post("/twins/door/methods", json!({ "methodName": "lockDoor" }))
        .await;
    offline.refused(404, "DeviceNotOnline", &[]);
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

#[tokio::test]
async fn a_method_name_has_at_most_100_characters() {
    let hub = TestHub::start().await;
    hub.add_device("door").await;
    for (call, status) in [
        (json!({ "methodName": "l".repeat(101) }), 400),
        // It is not too long: the device is offline.
        (json!({ "methodName": "l".repeat(100) }), 404),
    ] {
        let refused = hub.post("/twins/door/methods", call).await;
        assert_eq!(refused.status, status);
        let code = inner(&refused.body)["errorCode"].as_u64().unwrap();
        assert_eq!(code / 1000, u64::from(refused.status.as_u16()));
    }
}

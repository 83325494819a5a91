//! The requests that the Azure CLI sends (extension azure-iot, its models and `az iot hub`
//! commands). Its defaults for timeouts arrive as strings.

use doorfleet_testing::{Answer, TestHub, answer};
use reqwest::Method;
use serde_json::{Value, json};

async fn sent(hub: &TestHub, method: Method, path: &str, body: Option<&Value>) -> Answer {
    let path = format!("{path}?api-version=2021-04-12");
    let request = hub.request(method, &path).header("If-Match", "\"*\"");
    answer(match body {
        Some(body) => request.json(body),
        None => request,
    })
    .await
}

/// `az iot hub invoke-device-method`, without and with `--timeout`.
#[tokio::test]
async fn invoke_device_method() {
    let hub = TestHub::start().await;
    let key = hub.add_device("door").await;
    let _device = hub.connect("door", &key, 200).await;
    for (timeout, payload) in [
        (json!("30"), json!({ "lockTime": "10", "n": "30" })),
        (json!(30), json!(null)),
        (json!("300"), json!("30")),
    ] {
        let body = json!({
            "methodName": "lockDoor",
            "payload": payload,
            "responseTimeoutInSeconds": timeout,
            "connectTimeoutInSeconds": timeout,
        });
        let path = "/twins/door/methods";
        let answer = sent(&hub, Method::POST, path, Some(&body)).await;
        assert_eq!(answer.status, 200, "{body}: {}", answer.body);
        assert_eq!(
            answer.body["payload"], payload,
            "the hub does not convert the payload"
        );
    }
}

/// `az iot hub job create`, `show`, `list` and `cancel`.
#[tokio::test]
async fn jobs() {
    let hub = TestHub::start().await;
    hub.add_device("door").await;
    let later = "2099-01-01T00:00:00Z";
    let method = json!({
        "jobId": "lock",
        "type": "scheduleDeviceMethod",
        "cloudToDeviceMethod": {
            "methodName": "lockDoor",
            "payload": { "lockTime": "10" },
            "responseTimeoutInSeconds": "30",
            "connectTimeoutInSeconds": "30",
        },
        "queryCondition": "*",
        "startTime": later,
        "maxExecutionTimeInSeconds": "3600",
    });
    let twin = json!({
        "jobId": "tag",
        "type": "scheduleUpdateTwin",
        "updateTwin": { "tags": { "floor": "3", "n": 3 }, "etag": "*" },
        "queryCondition": "deviceId in ['door']",
        "maxExecutionTimeInSeconds": 300,
    });
    for (id, body) in [("lock", &method), ("tag", &twin)] {
        let made = sent(&hub, Method::PUT, &format!("/jobs/v2/{id}"), Some(body)).await;
        assert_eq!(made.status, 200, "{}", made.body);
    }
    let shown = hub.get("/jobs/v2/lock").await.body;
    assert_eq!(shown["maxExecutionTimeInSeconds"], 3600);
    let call = &shown["cloudToDeviceMethod"];
    assert_eq!(call["responseTimeoutInSeconds"], 30);
    assert_eq!(call["payload"], json!({ "lockTime": "10" }));
    hub.job("tag", &["completed"]).await;
    let tags = hub.get("/twins/door").await.body["tags"].clone();
    assert_eq!(
        tags,
        json!({ "floor": "3", "n": 3 }),
        "tags are not converted"
    );

    // A list without a type asks for both kinds of jobs.
    let scheduled = hub.get("/jobs/v2/query?api-version=2021-04-12").await;
    assert_eq!(scheduled.body.as_array().unwrap().len(), 2);
    let imports = sent(&hub, Method::GET, "/jobs", None).await;
    assert_eq!((imports.status.as_u16(), imports.body), (200, json!([])));
    let cancelled = sent(&hub, Method::POST, "/jobs/v2/lock/cancel", None).await;
    assert_eq!(cancelled.body["status"], "cancelled");
}

/// `az iot hub device-identity create` and `device-twin update`, `replace`; `query`,
/// `module-identity list`, `configuration list`.
#[tokio::test]
async fn identities_twins_and_lists() {
    let hub = TestHub::start().await;
    let identity = json!({
        "deviceId": "door",
        "authentication": { "symmetricKey": {}, "type": "sas" },
        "capabilities": { "iotEdge": false },
        "status": "enabled",
    });
    let path = "/devices/door?api-version=2021-04-12";
    let made = hub.put(path, identity).await;
    assert_eq!(made.status, 200, "{}", made.body);

    let mut twin = hub.get("/twins/door").await.body;
    twin["tags"] = json!({ "building": "43" });
    twin["properties"]["desired"]["floor"] = json!("3");
    for method in [Method::PATCH, Method::PUT] {
        let answer = sent(&hub, method, "/twins/door", Some(&twin)).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.body["tags"], json!({ "building": "43" }));
        assert_eq!(answer.body["properties"]["desired"]["floor"], "3");
    }
    let query = json!({ "query": "select * from devices" });
    let found = sent(&hub, Method::POST, "/devices/query", Some(&query)).await;
    assert_eq!(found.body[0]["deviceId"], "door");
    for path in ["/devices/door/modules", "/configurations"] {
        let list = sent(&hub, Method::GET, path, None).await;
        assert_eq!(
            (list.status.as_u16(), list.body),
            (200, json!([])),
            "{path}"
        );
    }
}

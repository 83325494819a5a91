//! Device ids that equal parts of paths, cloud-to-device messages, and missing features.

use doorfleet_testing::{TestHub, answer, in_an_hour};
use iothub_protocol::sas;
use reqwest::Method;
use reqwest::header::AUTHORIZATION;
use serde_json::{Value, json};

#[tokio::test]
async fn a_device_id_may_equal_a_part_of_a_path() {
    let hub = TestHub::start().await;
    for id in ["query", "modules", "commands", "registrations"] {
        let path = format!("/devices/{id}");
        assert_eq!(hub.put(&path, json!({ "deviceId": id })).await.status, 200);
        assert_eq!(hub.get(&path).await.body["deviceId"], id);
        let tags = json!({ "tags": { "name": id } });
        assert_eq!(hub.patch(&format!("/twins/{id}"), tags).await.status, 200);
        assert_eq!(hub.find(&format!("tags.name = '{id}'")).await, [id]);
        let updated = hub
            .update_device(id, json!({ "statusReason": "moved" }))
            .await;
        assert_eq!(updated.body["statusReason"], "moved");
        let removed = hub.send(Method::DELETE, &path, None).await;
        assert_eq!(removed.status, 204, "{id}");
        assert_eq!(hub.get(&path).await.status, 404);
    }
    // POST to another device is not a query.
    let posted = hub.post("/devices/door", json!({ "query": "SELECT * FROM devices" }));
    let posted = posted.await;
    posted.refused(405, "GenericMethodNotAllowed", &[]);
    let job = hub.put("/jobs/v2/query", json!({})).await;
    job.refused(400, "ArgumentInvalid", &["the job id `query` is reserved"]);
}

#[tokio::test]
async fn no_cloud_to_device_message_or_feedback_exists() {
    let hub = TestHub::start().await;
    let key = hub.add_device("door").await;
    let mut device = hub.subscriber("door", &key, "$iothub/twin/res/#").await;
    device
        .subscribe("devices/door/messages/devicebound/#")
        .await;
    device.publish("$iothub/twin/GET/?$rid=1", " ").await;
    let (topic, _) = device.received().await;
    assert_eq!(
        topic, "$iothub/twin/res/200/?$rid=1",
        "nothing arrived before it"
    );

    let purged = hub
        .send(Method::DELETE, "/devices/door/commands", None)
        .await;
    assert_eq!(purged.status, 200);
    assert_eq!(
        purged.body,
        json!({ "deviceId": "door", "moduleId": null, "totalMessagesPurged": 0 })
    );
    let unknown = hub
        .send(Method::DELETE, "/devices/none/commands", None)
        .await;
    assert_eq!(unknown.headers["iothub-errorcode"], "DeviceNotFound");
    let rows = hub.get("/audit?operation=message.purge").await.body;
    assert_eq!(rows[1]["target"], "door");
    assert_eq!(rows[1]["status"], 200);
    assert_eq!(rows[0]["error"], "DeviceNotFound");

    let feedback = hub
        .get("/messages/serviceBound/feedback?api-version=2021-04-12")
        .await;
    assert_eq!(
        (feedback.status.as_u16(), feedback.body),
        (204, Value::Null)
    );
    for (method, path) in [
        (Method::DELETE, "/messages/serviceBound/feedback/token"),
        (
            Method::POST,
            "/messages/serviceBound/feedback/token/abandon",
        ),
    ] {
        let lost = hub.send(method, path, None).await;
        lost.refused(412, "DeviceMessageLockLost", &[]);
    }
}

/// Lists of things that this hub never has, as the SDKs and the Azure CLI request them.
#[tokio::test]
async fn lists_of_unsupported_things_are_empty() {
    let hub = TestHub::start().await;
    hub.add_device("door").await;
    for path in [
        "/jobs?api-version=2021-04-12",
        "/jobs/",
        "/configurations?top=20&api-version=2021-04-12",
        "/configurations",
        "/devices/door/modules?api-version=2021-04-12",
    ] {
        let answer = hub.get(path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.body),
            (200, json!([])),
            "{path}"
        );
        let kind = &answer.headers["content-type"];
        assert_eq!(kind, "application/json; charset=utf-8", "{path}");
    }
    for (query, kind, rows) in [
        ("SELECT * FROM devices.modules", "Twin", json!([])),
        (
            "select * from devices.modules where devices.deviceId='door'",
            "Twin",
            json!([]),
        ),
        ("SELECT moduleId FROM devices.modules", "Raw", json!([])),
        (
            "SELECT TOP 3 * FROM devices.modules WHERE moduleId = 'camera'",
            "Twin",
            json!([]),
        ),
        (
            "SELECT COUNT() AS n FROM devices.modules",
            "Raw",
            json!([{ "n": 0 }]),
        ),
        (
            "SELECT status, COUNT() AS n FROM devices.modules GROUP BY status",
            "Raw",
            json!([]),
        ),
    ] {
        let answer = hub.query(query).await;
        assert_eq!(
            (answer.status.as_u16(), answer.body),
            (200, rows),
            "{query}"
        );
        assert_eq!(answer.headers["x-ms-item-type"], kind, "{query}");
        assert!(!answer.headers.contains_key("x-ms-continuation"), "{query}");
    }
    let unknown = hub.get("/devices/nobody/modules").await;
    assert_eq!(unknown.headers["iothub-errorcode"], "DeviceNotFound");
    let mistake = hub.query("SELECT * FROM devices.modules WHERE x = 1").await;
    assert_eq!(mistake.status, 400, "{}", mistake.body);
    let put = hub.put("/configurations", json!({})).await;
    assert_eq!(put.status, 405, "{}", put.body);
}

#[tokio::test]
async fn the_error_for_a_missing_feature_names_it() {
    let hub = TestHub::start().await;
    let key = hub.add_device("door").await;
    let missing =
        |method: Method, path: &'static str, code: &'static str, feature: &'static str| {
            let request = hub.request(method, path).json(&json!({}));
            async move {
                let refused = answer(request).await;
                let expected = format!("ErrorCode:{code};{feature} not built into this hub");
                refused.refused(404, code, &[&expected]);
            }
        };
    let modules = "modules are";
    for (method, path) in [
        (Method::GET, "/devices/door/modules/camera"),
        (Method::PUT, "/devices/door/modules/camera"),
        (Method::GET, "/twins/door/modules/camera"),
        (Method::PATCH, "/twins/door/modules/camera"),
        (Method::POST, "/twins/door/modules/camera/methods"),
        (Method::POST, "/devices/door/modules/camera/methods"),
    ] {
        missing(method, path, "ModuleNotFound", modules).await;
    }
    let import = "import and export jobs are";
    missing(Method::GET, "/jobs/4711", "JobNotFound", import).await;
    let configurations = "configurations and deployments are";
    for (method, path, what) in [
        (Method::POST, "/jobs/create?api-version=2021-04-12", import),
        (Method::GET, "/configurations/doors", configurations),
        (Method::PUT, "/configurations/doors", configurations),
        (
            Method::POST,
            "/devices/door/applyConfigurationContent",
            configurations,
        ),
        (Method::GET, "/digitaltwins/door", "digital twins are"),
        (
            Method::POST,
            "/digitaltwins/door/commands/lock",
            "digital twins are",
        ),
        (
            Method::POST,
            "/twins/door/streams/camera",
            "device streams are",
        ),
        (
            Method::POST,
            "/messages/devicebound",
            "cloud-to-device messages and file notifications are",
        ),
        (
            Method::PUT,
            "/0ne00000000/registrations/door/register",
            "the device provisioning service is",
        ),
        (
            Method::GET,
            "/enrollments/door",
            "the device provisioning service is",
        ),
    ] {
        missing(method, path, "GenericNotFound", what).await;
    }
    // Devices call these, with tokens that are valid nowhere else in this API.
    let token = sas::sign("localhost/devices/door", &key, in_an_hour(), None);
    for (path, what) in [
        ("/devices/door/files", "file upload is"),
        ("/devices/door/files/notifications", "file upload is"),
        (
            "/devices/door/messages/events",
            "the device side of HTTPS is",
        ),
    ] {
        let request = hub.anonymous(Method::POST, path);
        let refused = answer(request.header(AUTHORIZATION, &token).body("{}")).await;
        assert_eq!(refused.status, 404, "{path}");
        let message = refused.body["Message"].as_str().unwrap();
        assert!(message.contains(what), "{path}: {message}");
    }
}

//! Device twins.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Device, TestHub, answer};

#[tokio::test]
async fn a_new_twin_counts_as_azures_do() {
    let hub = TestHub::start().await;
    hub.add_device("door").await;
    let twin = hub.get("/twins/door?api-version=2021-04-12").await;
    assert_eq!(twin.status, 200);
    assert_eq!(twin.headers["etag"], "\"AAAAAAAAAAE=\"");
    let body = twin.body;
    assert_eq!(body["etag"], "AAAAAAAAAAE=");
    assert_eq!(body["version"], 2);
    assert_eq!(body["status"], "enabled");
    assert_eq!(body["connectionState"], "Disconnected");
    assert_eq!(body["properties"]["desired"]["$version"], 1);
    assert_eq!(body["properties"]["reported"]["$version"], 1);
    assert!(body["properties"]["desired"]["$metadata"]["$lastUpdated"].is_string());
}

#[tokio::test]
async fn a_patch_merges_deletes_nulls_and_counts() {
    let hub = TestHub::start().await;
    hub.add_device("door").await;
    let first = json!({ "tags": { "site": "north" }, "properties": { "desired": { "building": 43, "a": { "b": 1, "c": 2 } } } });
    let first = hub.patch("/twins/door", first).await.body;
    assert_eq!(first["etag"], "AAAAAAAAAAI=");
    assert_eq!(first["version"], 3);
    assert_eq!(first["properties"]["desired"]["$version"], 2);
    let second = json!({ "properties": { "desired": { "a": { "b": null, "d": 3 } } } });
    let second = hub.patch("/twins/door", second).await.body;
    let desired = &second["properties"]["desired"];
    assert_eq!(desired["a"], json!({ "c": 2, "d": 3 }));
    assert_eq!(desired["building"], 43);
    assert_eq!(desired["$version"], 3);
    assert_eq!(desired["$metadata"]["a"]["d"]["$lastUpdatedVersion"], 3);
    assert_eq!(desired["$metadata"]["building"]["$lastUpdatedVersion"], 2);
    assert_eq!(desired["$metadata"]["a"].get("b"), None);

    let tags_alone = hub
        .patch("/twins/door", json!({ "tags": { "site": null } }))
        .await
        .body;
    assert_eq!(
        tags_alone["properties"]["desired"]["$version"], 3,
        "tags do not touch desired properties"
    );
    assert_eq!(tags_alone["version"], 5);
}

#[tokio::test]
async fn a_put_replaces_a_section_whole() {
    let hub = TestHub::start().await;
    hub.add_device("door").await;
    hub.patch(
        "/twins/door",
        json!({ "tags": { "a": 1 }, "properties": { "desired": { "a": 1, "b": 2 } } }),
    )
    .await;
    let put = hub
        .put(
            "/twins/door",
            json!({ "properties": { "desired": { "a": 1, "c": 100 } } }),
        )
        .await
        .body;
    assert_eq!(put["properties"]["desired"].get("b"), None);
    assert_eq!(put["properties"]["desired"]["c"], 100);
    assert_eq!(
        put["tags"],
        json!({ "a": 1 }),
        "a section that is not there stays"
    );
    let null = hub
        .put("/twins/door", json!({ "tags": { "my-tag": null } }))
        .await;
    assert_eq!(null.status, 400);
    assert!(
        null.body["Message"].as_str().unwrap().contains("my-tag"),
        "{}",
        null.body
    );
}

#[tokio::test]
async fn a_stale_etag_changes_nothing_and_a_star_always_does() {
    let hub = TestHub::start().await;
    hub.add_device("door").await;
    let patch = |if_match: &'static str| {
        let request = hub
            .request(Method::PATCH, "/twins/door")
            .header("If-Match", if_match);
        answer(request.json(&json!({ "tags": { "by": if_match } })))
    };
    assert_eq!(patch("\"AAAAAAAAAAE=\"").await.status, 200);
    let stale = patch("\"AAAAAAAAAAE=\"").await;
    assert_eq!(stale.status, 412);
    assert_eq!(stale.headers["iothub-errorcode"], "PreconditionFailed");
    assert_eq!(patch("\"*\"").await.body["tags"]["by"], "\"*\"");
}

#[tokio::test]
async fn what_a_twin_may_not_hold_is_refused_with_its_place() {
    let hub = TestHub::start().await;
    hub.add_device("door").await;
    for (desired, said) in [
        (json!({ "a": { "b.c": 1 } }), "b.c"),
        (json!({ "n": 4_503_599_627_370_496_i64 }), "n"),
        (json!({ "text": "x".repeat(4097) }), "text"),
    ] {
        let refused = hub
            .patch(
                "/twins/door",
                json!({ "properties": { "desired": desired } }),
            )
            .await;
        assert_eq!(refused.status, 400, "{said}: {}", refused.body);
        assert!(
            refused.body["Message"].as_str().unwrap().contains(said),
            "{}",
            refused.body
        );
    }
    assert_eq!(hub.get("/twins/door").await.body["version"], 2);
}

#[tokio::test]
async fn a_connected_device_hears_of_each_change_in_order() {
    let hub = TestHub::start().await;
    let key = hub.add_device("door").await;
    let mut device = Device::dial(&hub, "door", &key);
    device
        .subscribe("$iothub/twin/PATCH/properties/desired/#")
        .await;
    for floor in 1..=5 {
        hub.patch(
            "/twins/door",
            json!({ "properties": { "desired": { "floor": floor } } }),
        )
        .await;
    }
    hub.patch("/twins/door", json!({ "tags": { "quiet": true } }))
        .await;
    hub.put(
        "/twins/door",
        json!({ "properties": { "desired": { "building": 43 } } }),
    )
    .await;
    for version in 2..=6 {
        let (topic, body) = device.received().await;
        assert_eq!(
            topic,
            format!("$iothub/twin/PATCH/properties/desired/?$version={version}")
        );
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body, json!({ "floor": version - 1, "$version": version }));
    }
    let (_, body) = device.received().await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        body,
        json!({ "building": 43, "floor": null, "$version": 7 }),
        "removed keys are null"
    );
}

#[tokio::test]
async fn what_a_device_reports_is_in_its_twin_and_in_queries() {
    let hub = TestHub::start().await;
    let key = hub.add_device("door").await;
    let mut device = Device::dial(&hub, "door", &key);
    device.subscribe("$iothub/twin/res/#").await;
    let report = json!({ "floor": { "value": 3, "ac": 200 }, "gone": null }).to_string();
    device
        .publish("$iothub/twin/PATCH/properties/reported/?$rid=7", &report)
        .await;
    let (topic, body) = device.received().await;
    assert_eq!(topic, "$iothub/twin/res/204/?$rid=7&$version=2");
    assert!(body.is_empty());
    let twin = hub.get("/twins/door").await.body;
    assert_eq!(twin["properties"]["reported"]["floor"]["value"], 3);
    assert_eq!(
        twin["etag"], "AAAAAAAAAAE=",
        "a report does not change the etag"
    );
    assert_eq!(
        hub.find("properties.reported.floor.value = 3").await,
        ["door"]
    );

    device.publish("$iothub/twin/GET/?$rid=8", " ").await;
    let (topic, body) = device.received().await;
    assert_eq!(topic, "$iothub/twin/res/200/?$rid=8");
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["reported"]["$version"], 2);
    assert_eq!(body["desired"], json!({ "$version": 1 }));
}

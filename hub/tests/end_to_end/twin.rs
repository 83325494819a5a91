//! Device twins.

use doorfleet_testing::{TestHub, answer};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn a_new_twin_has_azures_initial_versions_and_etag() {
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
    for section in ["desired", "reported"] {
        let metadata = body["properties"][section]["$metadata"].as_object();
        let stamps: Vec<&String> = metadata.unwrap().keys().collect();
        assert_eq!(stamps, ["$lastUpdated"], "{section}");
    }
}

#[tokio::test]
async fn a_patch_merges_removes_nulls_and_increments_the_versions() {
    let hub = TestHub::start().await;
    hub.add_device("door").await;
    let first = json!({
        "tags": { "site": "north" },
        "properties": { "desired": { "building": 43, "a": { "b": 1, "c": 2 } } },
    });
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
    for above in [&desired["$metadata"], &desired["$metadata"]["a"]] {
        assert_eq!(above["$lastUpdatedVersion"], 3);
    }
    assert_eq!(desired["$metadata"]["a"]["c"]["$lastUpdatedVersion"], 2);

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
async fn a_put_replaces_a_whole_section() {
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
        "a missing section stays unchanged"
    );
    let null = hub
        .put("/twins/door", json!({ "tags": { "my-tag": null } }))
        .await;
    null.refused(400, "ArgumentInvalid", &["my-tag"]);
}

#[tokio::test]
async fn an_outdated_etag_changes_nothing_and_a_star_matches_any() {
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
    stale.refused(412, "PreconditionFailed", &[]);
    assert_eq!(patch("\"*\"").await.body["tags"]["by"], "\"*\"");
}

#[tokio::test]
async fn an_invalid_twin_is_rejected_with_the_place() {
    let hub = TestHub::start().await;
    hub.add_device("door").await;
    for (desired, fragment) in [
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
        refused.refused(400, "ArgumentInvalid", &[fragment]);
    }
    assert_eq!(hub.get("/twins/door").await.body["version"], 2);
}

#[tokio::test]
async fn reported_properties_appear_in_the_twin_and_in_queries() {
    let hub = TestHub::start().await;
    let key = hub.add_device("door").await;
    let mut device = hub.subscriber("door", &key, "$iothub/twin/res/#").await;
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
    assert_eq!(twin["version"], 3);
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

#[tokio::test]
async fn a_twin_has_the_shared_members_of_its_identity_and_no_others() {
    let hub = TestHub::start().await;
    hub.add_device("door").await;
    let device = hub
        .update_device(
            "door",
            json!({ "status": "disabled", "statusReason": "painted" }),
        )
        .await
        .body;
    let twin = hub.get("/twins/door").await;
    assert_eq!(
        twin.headers["content-type"],
        "application/json; charset=utf-8"
    );
    let twin = twin.body;
    let names: Vec<&String> = twin.as_object().unwrap().keys().collect();
    assert_eq!(
        names,
        [
            "deviceId",
            "etag",
            "deviceEtag",
            "status",
            "statusReason",
            "statusUpdateTime",
            "connectionState",
            "lastActivityTime",
            "cloudToDeviceMessageCount",
            "authenticationType",
            "x509Thumbprint",
            "modelId",
            "version",
            "tags",
            "properties",
            "capabilities",
        ]
    );
    assert_eq!(twin["deviceEtag"], device["etag"]);
    assert_eq!(twin["status"], "disabled");
    assert_eq!(twin["statusReason"], "painted");
    // The identity's member has another name.
    assert_eq!(twin["statusUpdateTime"], device["statusUpdatedTime"]);
    assert_eq!(twin["authenticationType"], "sas");
    assert_eq!(
        twin["version"], 2,
        "a change of the identity does not change the twin"
    );
}

#[tokio::test]
async fn members_that_a_service_may_not_write_are_ignored() {
    let hub = TestHub::start().await;
    hub.add_device("door").await;
    let whole = json!({
        "deviceId": null,
        "etag": "AAAAAAAAAAc=",
        "version": 70,
        "status": "disabled",
        "connectionState": "Connected",
        "tags": { "site": "north" },
        "properties": {
            "desired": { "floor": 3, "$version": 70, "$metadata": {} },
            "reported": { "floor": 3 },
        },
    });
    for method in [Method::PATCH, Method::PUT] {
        let written = hub.send(method, "/twins/door", Some(whole.clone())).await;
        assert_eq!(written.status, 200, "{}", written.body);
    }
    let twin = hub.get("/twins/door").await.body;
    assert_eq!(twin["deviceId"], "door");
    assert_eq!(twin["status"], "enabled");
    assert_eq!(twin["etag"], "AAAAAAAAAAM=");
    assert_eq!(twin["version"], 4);
    assert_eq!(twin["tags"], json!({ "site": "north" }));
    assert_eq!(twin["properties"]["desired"]["floor"], 3);
    assert_eq!(twin["properties"]["desired"]["$version"], 3);
    assert_eq!(twin["properties"]["reported"].get("floor"), None);
    assert_eq!(twin["properties"]["reported"]["$version"], 1);
}

#[tokio::test]
async fn in_a_patch_null_clears_desired_properties_but_not_tags() {
    let hub = TestHub::start().await;
    let key = hub.add_device("door").await;
    let both = json!({ "tags": { "a": 1 }, "properties": { "desired": { "b": 1, "c": 2 } } });
    hub.patch("/twins/door", both).await;
    let mut device = hub
        .subscriber("door", &key, "$iothub/twin/PATCH/properties/desired/#")
        .await;
    let nulls = json!({ "tags": null, "properties": { "desired": null } });
    let twin = hub.patch("/twins/door", nulls).await.body;
    assert_eq!(twin["tags"], json!({ "a": 1 }));
    assert_eq!(twin["properties"]["desired"].get("b"), None);
    let (_, body) = device.received().await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body, json!({ "b": null, "c": null, "$version": 3 }));
    let twin = hub.put("/twins/door", json!({ "tags": {} })).await.body;
    assert_eq!(twin["tags"], json!({}));
}

#[tokio::test]
async fn arrays_are_stored_and_replaced_as_a_whole() {
    let hub = TestHub::start().await;
    hub.add_device("door").await;
    let desired = |value: Value| json!({ "properties": { "desired": { "rota": value } } });
    for value in [
        json!([1, [true], { "day": "mo" }]),
        json!([{ "day": "tu" }]),
        json!([]),
    ] {
        let twin = hub.patch("/twins/door", desired(value.clone())).await.body;
        assert_eq!(twin["properties"]["desired"]["rota"], value);
    }
    for value in [json!([1, null]), json!([{ "day": null }])] {
        let refused = hub.patch("/twins/door", desired(value)).await;
        assert_eq!(refused.headers["iothub-errorcode"], "ArgumentInvalid");
    }
}

#[tokio::test]
async fn a_section_that_grows_too_large_is_rejected() {
    let hub = TestHub::start().await;
    hub.add_device("door").await;
    let filled = |parts: u32| -> Value {
        let part = |number| (format!("p{number:02}"), Value::from("x".repeat(4093)));
        Value::Object((0..parts).map(part).collect())
    };
    for (body, status) in [
        (json!({ "tags": filled(2) }), 200),
        (json!({ "tags": filled(3) }), 400),
        (json!({ "properties": { "desired": filled(8) } }), 200),
        (json!({ "properties": { "desired": filled(9) } }), 400),
    ] {
        let answer = hub.patch("/twins/door", body).await;
        assert_eq!(answer.status, status, "{}", answer.body);
    }
}

#[tokio::test]
async fn the_twin_of_an_unknown_device_is_not_found() {
    let hub = TestHub::start().await;
    for method in [Method::GET, Method::PATCH, Method::PUT] {
        let body = (method != Method::GET).then(|| json!({ "tags": {} }));
        let missing = hub.send(method, "/twins/nobody", body).await;
        missing.refused(404, "DeviceNotFound", &[]);
    }
}

//! The identity registry.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use doorfleet_testing::{Answer, TestHub, answer, eventually, texts};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn a_device_is_created_once_with_generated_keys() {
    let hub = TestHub::start().await;
    let made = hub
        .put(
            "/devices/lobby-east?api-version=2021-04-12",
            json!({ "deviceId": "lobby-east" }),
        )
        .await;
    assert_eq!(made.status, 200, "{}", made.body);
    assert_eq!(made.body["status"], "enabled");
    assert_eq!(made.body["connectionState"], "Disconnected");
    assert_eq!(made.body["authentication"]["type"], "sas");
    let keys = &made.body["authentication"]["symmetricKey"];
    assert_eq!(keys["primaryKey"].as_str().unwrap().len(), 44);
    assert_ne!(keys["primaryKey"], keys["secondaryKey"]);
    assert_eq!(
        made.headers["etag"],
        format!("\"{}\"", made.body["etag"].as_str().unwrap())
    );

    let again = hub
        .put("/devices/lobby-east", json!({ "deviceId": "lobby-east" }))
        .await;
    again.refused(409, "DeviceAlreadyExists", &[]);
    assert_eq!(hub.get("/devices/lobby-east").await.body, made.body);
}

#[tokio::test]
async fn empty_keys_are_generated_and_given_keys_are_kept() {
    let hub = TestHub::start().await;
    let create = |id: &str, primary: &str, secondary: &str| {
        let keys = json!({ "primaryKey": primary, "secondaryKey": secondary });
        let body =
            json!({ "deviceId": id, "authentication": { "type": "sas", "symmetricKey": keys } });
        let path = format!("/devices/{id}");
        let hub = &hub;
        async move { hub.put(&path, body).await }
    };
    let made = create("made", "", "").await;
    assert_eq!(
        made.body["authentication"]["symmetricKey"]["primaryKey"]
            .as_str()
            .unwrap()
            .len(),
        44
    );
    let one = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let given = create("given", one, one).await;
    assert_eq!(
        given.body["authentication"]["symmetricKey"]["primaryKey"],
        one
    );
    let bad = create("bad", "c2hvcnQ=", one).await;
    bad.refused(400, "ArgumentInvalid", &["primaryKey"]);
    assert!(!bad.body.to_string().contains("c2hvcnQ="), "{}", bad.body);
    for keys in [json!(one), json!({ "primaryKey": [one] })] {
        let body = json!({ "authentication": { "symmetricKey": keys } });
        let misplaced = hub.put("/devices/misplaced", body).await;
        let expected =
            "at `authentication.symmetricKey`: expected an object with the texts `primaryKey`";
        misplaced.refused(400, "ArgumentInvalid", &[expected]);
        assert!(!misplaced.body.to_string().contains(one));
    }
}

#[tokio::test]
async fn an_update_accepts_the_etag_or_a_star_with_or_without_quotes() {
    let hub = TestHub::start().await;
    let made = hub.put("/devices/d", json!({})).await.body;
    let change = |if_match: &str, reason: &str| {
        let request = hub
            .request(Method::PUT, "/devices/d")
            .header("If-Match", if_match);
        answer(
            request.json(&json!({ "deviceId": "d", "status": "disabled", "statusReason": reason })),
        )
    };
    let etag = made["etag"].as_str().unwrap();
    let changed = change(&format!("\"{etag}\""), "first").await;
    assert_eq!(changed.status, 200, "{}", changed.body);
    assert_eq!(changed.body["status"], "disabled");
    assert_ne!(changed.body["statusUpdatedTime"], "0001-01-01T00:00:00Z");
    assert_eq!(
        changed.body["authentication"], made["authentication"],
        "omitted keys stay unchanged"
    );

    let stale = change(etag, "stale").await;
    stale.refused(412, "PreconditionFailed", &[]);
    for star in ["*", "\"*\""] {
        assert_eq!(change(star, star).await.body["statusReason"], star);
    }
    let missing = hub.update_device("none", json!({})).await;
    assert_eq!(missing.status, 404);
}

#[tokio::test]
async fn an_id_is_percent_decoded_once_and_case_sensitive() {
    let hub = TestHub::start().await;
    // The id `a%2Fb` contains a percent sign, not a slash.
    let made = hub
        .put("/devices/a%252Fb", json!({ "deviceId": "a%2Fb" }))
        .await;
    assert_eq!(made.status, 200, "{}", made.body);
    assert_eq!(hub.get("/twins/a%252Fb").await.body["deviceId"], "a%2Fb");
    hub.add_device("Door").await;
    assert_eq!(hub.get("/devices/door").await.status, 404);
    let bad = hub.put("/devices/a%2Fb", json!({})).await;
    bad.refused(400, "ArgumentInvalid", &["'/'"]);
}

#[tokio::test]
async fn devices_are_listed_counted_and_deleted() {
    let hub = TestHub::start().await;
    for id in ["c", "a", "b"] {
        hub.add_device(id).await;
    }
    assert_eq!(
        texts(
            &hub.get("/devices/?top=10&api-version=2021-04-12")
                .await
                .body,
            "deviceId"
        ),
        ["c", "a", "b"]
    );
    assert_eq!(
        texts(&hub.get("/devices?TOP=2").await.body, "deviceId"),
        ["c", "a"]
    );
    assert_eq!(hub.get("/devices?top=x").await.status, 400);

    let deleted = answer(
        hub.request(Method::DELETE, "/devices/a")
            .header("If-Match", "\"*\""),
    )
    .await;
    assert_eq!(deleted.status, 204);
    assert_eq!(hub.get("/devices/a").await.status, 404);
    assert_eq!(hub.get("/twins/a").await.status, 404);
    let count = hub.get("/statistics/devices").await.body;
    assert_eq!(
        count,
        json!({ "totalDeviceCount": 2, "enabledDeviceCount": 2, "disabledDeviceCount": 0 })
    );
}

#[tokio::test]
async fn shows_connections_and_ends_that_of_a_disabled_device() {
    let hub = TestHub::start().await;
    let key = hub.add_device("door").await;
    let _device = hub.subscriber("door", &key, "$iothub/methods/POST/#").await;
    assert_eq!(
        hub.get("/devices/door").await.body["connectionState"],
        "Connected"
    );
    assert_eq!(hub.find("connectionState = 'Connected'").await, ["door"]);
    assert_eq!(
        hub.get("/statistics/service").await.body,
        json!({ "connectedDeviceCount": 1 })
    );

    let disabled = json!({ "status": "disabled" });
    hub.update_device("door", disabled).await.ok();
    eventually("the disabled device is disconnected", || async {
        let state = hub.get("/devices/door").await.body["connectionState"].clone();
        (state == "Disconnected" && hub.hub.registry().connected_count() == 0).then_some(())
    })
    .await;
}

fn names(document: &Value) -> Vec<&str> {
    let members = document.as_object().unwrap();
    members.keys().map(String::as_str).collect()
}

#[tokio::test]
async fn an_identity_has_azures_spelling() {
    let hub = TestHub::start().await;
    let made = hub
        .put("/devices/door?api-version=2021-04-12", json!({}))
        .await;
    let read = hub.get("/devices/door?api-version=2021-04-12").await;
    for answer in [&made, &read] {
        assert_eq!(
            answer.headers["content-type"],
            "application/json; charset=utf-8"
        );
        let etag = answer.body["etag"].as_str().unwrap();
        assert_eq!(answer.headers["etag"], format!("\"{etag}\""));
    }
    let device = read.body;
    assert_eq!(
        names(&device),
        [
            "deviceId",
            "generationId",
            "etag",
            "connectionState",
            "status",
            "statusReason",
            "connectionStateUpdatedTime",
            "statusUpdatedTime",
            "lastActivityTime",
            "cloudToDeviceMessageCount",
            "authentication",
            "capabilities",
        ]
    );
    let keys = &device["authentication"]["symmetricKey"];
    assert_eq!(
        device["authentication"],
        json!({
            "symmetricKey": keys,
            "x509Thumbprint": { "primaryThumbprint": null, "secondaryThumbprint": null },
            "type": "sas",
        })
    );
    assert_eq!(device["capabilities"], json!({ "iotEdge": false }));
    assert_eq!(device["statusReason"], Value::Null);
    assert_eq!(device["cloudToDeviceMessageCount"], 0);
    for time in [
        "connectionStateUpdatedTime",
        "statusUpdatedTime",
        "lastActivityTime",
    ] {
        assert_eq!(device[time], "0001-01-01T00:00:00Z", "{time}");
    }
    let etag = STANDARD.decode(device["etag"].as_str().unwrap()).unwrap();
    let generation = device["generationId"].as_str().unwrap();
    for digits in [etag.as_slice(), generation.as_bytes()] {
        assert!(digits.iter().all(u8::is_ascii_digit), "{device}");
    }
    // A device that is deleted and created again is another one.
    hub.send(Method::DELETE, "/devices/door", None).await;
    let again = hub.put("/devices/door", json!({})).await.body;
    assert_ne!(again["generationId"], device["generationId"]);
    assert_ne!(again["authentication"], device["authentication"]);
}

#[tokio::test]
async fn read_only_members_are_ignored_and_invalid_ones_refused() {
    let hub = TestHub::start().await;
    let made = hub
        .put(
            "/devices/door",
            json!({
                "deviceId": "door",
                "generationId": "1",
                "etag": "MQ==",
                "connectionState": "Connected",
                "lastActivityTime": "2026-01-01T00:00:00Z",
                "cloudToDeviceMessageCount": 7,
                "deviceScope": "ms-azure-iot-edge://gate-1",
                "parentScopes": ["ms-azure-iot-edge://gate-2"],
                "statusReason": "r".repeat(128),
            }),
        )
        .await;
    assert_eq!(made.status, 200, "{}", made.body);
    assert_eq!(made.body["connectionState"], "Disconnected");
    assert_eq!(made.body["cloudToDeviceMessageCount"], 0);
    assert_eq!(made.body["statusReason"], "r".repeat(128));
    assert_ne!(made.body["etag"], "MQ==");
    for (body, expected) in [
        (
            json!({ "deviceId": "gate" }),
            "the body names device `gate`, but the path names `new`",
        ),
        (
            json!({ "status": "open" }),
            "status is `open`; expected `enabled` or `disabled`",
        ),
        (
            json!({ "statusReason": "r".repeat(129) }),
            "statusReason has 129 characters; expected at most 128",
        ),
        (
            json!({ "authentication": {
                "type": "selfSigned",
                "x509Thumbprint": { "PrimaryThumbprint": "a".repeat(40) },
            } }),
            "has `PrimaryThumbprint`; expected `primaryThumbprint`",
        ),
        (
            json!({ "authentication": {
                "x509Thumbprint": { "secondaryThumbprint": null, "SecondaryThumbprint": "" },
            } }),
            "has `SecondaryThumbprint`; expected `primaryThumbprint`",
        ),
        (
            json!({ "authentication": { "type": "password" } }),
            "authentication.type is `password`; expected `sas`",
        ),
    ] {
        let refused = hub.put("/devices/new", body).await;
        refused.refused(400, "ArgumentInvalid", &[expected]);
    }
    assert_eq!(hub.get("/devices/new").await.status, 404);
}

#[tokio::test]
async fn an_update_without_changes_is_a_new_version_and_ends_no_connection() {
    let hub = TestHub::start().await;
    let key = hub.add_device("door").await;
    let _device = hub.connect("door", &key, 200).await;
    let change = async |body: Value| hub.update_device("door", body).await.body;
    let before = hub.get("/devices/door").await.body;
    let same = change(before.clone()).await;
    assert_ne!(same["etag"], before["etag"]);
    let reason = change(json!({ "statusReason": "painted" })).await;
    assert_ne!(reason["etag"], same["etag"]);
    assert_eq!(reason["statusReason"], "painted");
    assert_eq!(reason["statusUpdatedTime"], "0001-01-01T00:00:00Z");
    // The same connection still answers.
    let call = json!({ "methodName": "lockDoor", "payload": 1 });
    assert_eq!(hub.post("/twins/door/methods", call).await.status, 200);

    let disabled = change(json!({ "status": "disabled" })).await;
    assert_ne!(disabled["statusUpdatedTime"], "0001-01-01T00:00:00Z");
    let again = change(json!({ "status": "disabled" })).await;
    assert_eq!(again["statusUpdatedTime"], disabled["statusUpdatedTime"]);
    let enabled = change(json!({ "status": "enabled" })).await;
    assert_ne!(enabled["statusUpdatedTime"], disabled["statusUpdatedTime"]);
}

#[tokio::test]
async fn a_list_has_at_most_1000_devices() {
    let hub = TestHub::start().await;
    for hundred in 0..11 {
        let item = |number| json!({ "id": format!("d{}", hundred * 100 + number) });
        let items: Value = (0..100).map(item).collect();
        assert_eq!(hub.post("/devices", items).await.status, 200);
    }
    for (path, count) in [
        ("/devices?top=5000", 1000),
        ("/devices", 1000),
        ("/devices?top=1001", 1000),
        ("/devices?top=999", 999),
    ] {
        let listed = hub.get(path).await.body;
        assert_eq!(listed.as_array().unwrap().len(), count, "{path}");
    }
    let count = hub.get("/statistics/devices").await.body;
    assert_eq!(count["totalDeviceCount"], 1100);
}

#[tokio::test]
async fn every_api_version_is_served_alike() {
    let hub = TestHub::start().await;
    hub.add_device("door").await;
    let expected = hub.get("/twins/door?api-version=2021-04-12").await.body;
    for query in [
        "?api-version=2016-11-14",
        "?api-version=2018-06-30",
        "?api-version=2020-09-30",
        "?api-version=2024-03-31",
        "?api-version=2099-01-01-preview",
    ] {
        let read = hub.get(&format!("/twins/door{query}")).await;
        assert_eq!(
            (read.status.as_u16(), &read.body),
            (200, &expected),
            "{query}"
        );
    }
}

/// Each path of Azure needs an api-version; those of this hub alone do not.
#[tokio::test]
async fn a_request_without_api_version_is_refused() {
    let hub = TestHub::start().await;
    hub.add_device("door").await;
    let owner = hub.owner_token();
    let host = hub.https_host();
    let client = hub.client();
    for (path, refused) in [
        ("/devices/door", true),
        ("/devices/door?api-version=", true),
        ("/devices/?top=1", true),
        ("/twins/door", true),
        ("/jobs/v2/query", true),
        ("/statistics/devices", true),
        ("/devices/door?API-version=2021-04-12", false),
        ("/audit", false),
        ("/events?follow=false", false),
        ("/metrics", false),
        ("/healthz", false),
    ] {
        let request = client.get(format!("https://{host}{path}"));
        let answer = answer(request.header("authorization", &owner)).await;
        match refused {
            true => answer.refused(400, "InvalidProtocolVersion", &["api-version is missing"]),
            false => assert_eq!(answer.status, 200, "{path}"),
        }
    }
}

/// IoT Edge has no meaning in this hub, but a client reads what it wrote.
#[tokio::test]
async fn capabilities_are_kept_and_queryable() {
    let hub = TestHub::start().await;
    let edge = |is: Value| json!({ "capabilities": { "iotEdge": is } });
    let shown = async |answer: Answer| answer.ok()["capabilities"]["iotEdge"].clone();
    for (number, body, expected) in [
        (1, edge(json!(true)), true),
        (2, edge(json!(false)), false),
        (3, edge(json!(null)), false),
        (4, json!({ "capabilities": null }), false),
        (5, json!({}), false),
    ] {
        let path = format!("/devices/d{number}");
        assert_eq!(shown(hub.put(&path, body).await).await, expected, "{path}");
        assert_eq!(shown(hub.get(&path).await).await, expected, "{path}");
        let twin = hub.get(&format!("/twins/d{number}")).await;
        assert_eq!(shown(twin).await, expected, "{path}");
    }
    assert_eq!(hub.find("capabilities.iotEdge = true").await, ["d1"]);
    // An update without the member leaves it; one with it changes it.
    let kept = hub.update_device("d1", json!({ "statusReason": "kept" }));
    assert_eq!(shown(kept.await).await, true);
    let changed = hub.update_device("d1", edge(json!(false))).await;
    assert_eq!(shown(changed).await, false);
    let bulk = json!([
        { "id": "d2", "importMode": "update", "capabilities": { "iotEdge": true } },
        { "id": "d6", "importMode": "create", "capabilities": { "iotEdge": true } },
    ]);
    hub.post("/devices", bulk).await.ok();
    assert_eq!(hub.find("capabilities.iotEdge = true").await, ["d2", "d6"]);
    hub.put("/devices/d7", edge(json!("yes"))).await.refused(
        400,
        "ArgumentInvalid",
        &["capabilities.iotEdge"],
    );
}

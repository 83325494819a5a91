//! Bulk registry operations.

use doorfleet_testing::{Answer, TestHub, answer, eventually, texts};
use iothub_protocol::sas::SharedAccessKey;
use reqwest::Method;
use serde_json::{Value, json};

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// Sends the operations. The trailing slash is what the .NET client sends.
async fn bulk(hub: &TestHub, items: Value) -> Answer {
    hub.post("/devices/?api-version=2021-04-12", items).await
}

async fn done(hub: &TestHub, items: Value) {
    let result = bulk(hub, items).await;
    assert_eq!(result.status, 200, "{}", result.body);
    assert_eq!(
        result.body,
        json!({ "isSuccessful": true, "errors": [], "warnings": [] })
    );
}

/// Sends one operation that fails; returns the device, code and operation of the error.
async fn refused(hub: &TestHub, item: Value) -> Value {
    let result = bulk(hub, json!([item])).await;
    assert_eq!(result.status, 400, "{}", result.body);
    assert_eq!(result.body["isSuccessful"], false);
    let errors = result.body["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 1, "{}", result.body);
    json!([
        errors[0]["deviceId"],
        errors[0]["errorCode"],
        errors[0]["operation"]
    ])
}

#[tokio::test]
async fn creates_updates_and_deletes_100_devices_in_one_call() {
    let hub = TestHub::start().await;
    let ids: Vec<String> = (0..100).map(|number| format!("door-{number}")).collect();
    let items = |mode: &str, status: &str| {
        let item = |id: &String| json!({ "id": id, "importMode": mode, "status": status });
        Value::from(ids.iter().map(item).collect::<Vec<_>>())
    };
    let count = || async { hub.get("/statistics/devices").await.body };
    done(&hub, items("create", "enabled")).await;
    assert_eq!(
        count().await,
        json!({ "totalDeviceCount": 100, "enabledDeviceCount": 100, "disabledDeviceCount": 0 })
    );
    let made = hub.get("/devices/door-7").await.body;
    let keys = &made["authentication"]["symmetricKey"];
    assert_ne!(keys["primaryKey"], keys["secondaryKey"]);
    done(&hub, items("update", "disabled")).await;
    assert_eq!(count().await["disabledDeviceCount"], 100);
    let changed = hub.get("/devices/door-7").await.body;
    assert_eq!(changed["authentication"], made["authentication"]);
    assert_ne!(changed["etag"], made["etag"]);
    done(&hub, items("Delete", "enabled")).await;
    assert_eq!(count().await["totalDeviceCount"], 0);
}

#[tokio::test]
async fn each_import_mode_behaves_as_documented() {
    let hub = TestHub::start().await;
    let item = |mode: &str| json!({ "id": "door", "importMode": mode });
    let with = |mode: &str, member: &str, etag: &str| {
        let mut item = item(mode);
        item[member] = etag.into();
        item
    };
    for missing in ["update", "delete", "updateTwin"] {
        assert_eq!(
            refused(&hub, item(missing)).await,
            json!(["door", "DeviceNotFound", missing])
        );
    }
    done(&hub, json!([item("create")])).await;
    assert_eq!(
        refused(&hub, item("create")).await,
        json!(["door", "DeviceAlreadyExists", "create"])
    );
    // Etags of the identity: missing, outdated, current (with and without quotes), and any.
    for mode in [
        "updateIfMatchETag",
        "createOrUpdateIfMatchETag",
        "deleteIfMatchETag",
    ] {
        assert_eq!(
            refused(&hub, with(mode, "eTag", "c3RhbGU=")).await,
            json!(["door", "PreconditionFailed", mode])
        );
    }
    assert_eq!(
        refused(&hub, item("createOrUpdateIfMatchETag")).await,
        json!(["door", "PreconditionFailed", "createOrUpdateIfMatchETag"])
    );
    let etag = || async {
        let device = hub.get("/devices/door").await.body;
        device["etag"].as_str().unwrap().to_owned()
    };
    done(
        &hub,
        json!([with("updateIfMatchETag", "eTag", &etag().await)]),
    )
    .await;
    let quoted = format!("\"{}\"", etag().await);
    done(
        &hub,
        json!([with("createOrUpdateIfMatchETag", "eTag", &quoted)]),
    )
    .await;
    done(&hub, json!([with("updateIfMatchETag", "eTag", "*")])).await;
    // Without a mode, or with one that does not check the etag, an outdated etag is ignored.
    let mut disable = with("createOrUpdate", "eTag", "c3RhbGU=");
    disable["status"] = "disabled".into();
    done(&hub, json!([disable])).await;
    assert_eq!(hub.get("/devices/door").await.body["status"], "disabled");
    done(&hub, json!([{ "id": "other" }])).await;
    // Etags of the twin.
    let twin = |mode: &str, etag: &str| {
        let mut item = with(mode, "twinETag", etag);
        item["tags"] = json!({ "floor": etag });
        item
    };
    for mode in ["updateTwinIfMatchETag", "update"] {
        assert_eq!(
            refused(&hub, twin(mode, "AAAAAAAAAAc=")).await,
            json!(["door", "PreconditionFailed", mode])
        );
    }
    done(&hub, json!([twin("updateTwinIfMatchETag", "AAAAAAAAAAE=")])).await;
    done(&hub, json!([twin("updateTwin", "AAAAAAAAAAE=")])).await;
    let changed = hub.get("/twins/door").await.body;
    assert_eq!(changed["tags"], json!({ "floor": "AAAAAAAAAAE=" }));
    assert_eq!(changed["etag"], "AAAAAAAAAAM=");
    done(
        &hub,
        json!([with("deleteIfMatchETag", "eTag", &etag().await)]),
    )
    .await;
    done(&hub, json!([item("createOrUpdateIfMatchETag")])).await;
    done(&hub, json!([item("delete")])).await;
    assert_eq!(hub.get("/devices/door").await.status, 404);
}

#[tokio::test]
async fn creates_a_device_with_its_keys_and_twin() {
    let hub = TestHub::start().await;
    done(
        &hub,
        json!([{
            "id": "door",
            "importMode": "create",
            "status": "disabled",
            "statusReason": "not yet hung",
            "authentication": {
                "type": "sas",
                "symmetricKey": { "primaryKey": KEY, "secondaryKey": KEY },
            },
            "tags": { "site": "north" },
            "properties": { "desired": { "floor": 3 }, "reported": {} },
            "capabilities": { "iotEdge": false },
            "moduleId": null,
        }]),
    )
    .await;
    let device = hub.get("/devices/door").await.body;
    assert_eq!(device["statusReason"], "not yet hung");
    assert_eq!(device["authentication"]["symmetricKey"]["primaryKey"], KEY);
    let twin = hub.get("/twins/door").await.body;
    assert_eq!(twin["status"], "disabled");
    assert_eq!(twin["tags"], json!({ "site": "north" }));
    assert_eq!(twin["properties"]["desired"]["floor"], 3);
    // Serialisers write null for members that are not set.
    done(
        &hub,
        json!([{
            "id": "door",
            "importMode": "updateTwin",
            "tags": null,
            "properties": { "desired": null },
        }]),
    )
    .await;
    assert_eq!(hub.get("/twins/door").await.body, twin);
}

#[tokio::test]
async fn a_failed_item_is_reported_and_does_not_affect_others() {
    let hub = TestHub::start().await;
    hub.add_device("there").await;
    let items = json!([
        { "id": "first", "importMode": "create" },
        { "id": "there", "importMode": "create" },
        { "id": "gone", "importMode": "delete" },
        { "id": "bad key", "importMode": "create" },
        {
            "id": "half",
            "importMode": "create",
            "properties": { "desired": { "many": "x".repeat(5000) } },
        },
        { "id": "there2", "importMode": "create", "status": "open" },
        { "id": "module", "moduleId": "camera", "importMode": "create" },
        { "id": "last", "importMode": "create", "tags": { "floor": 1 } },
    ]);
    let result = bulk(&hub, items).await;
    result.refused(400, "BulkRegistryOperationFailure", &[]);
    let errors = result.body["errors"].as_array().unwrap();
    let named: Vec<Value> = errors
        .iter()
        .map(|error| json!([error["deviceId"], error["moduleId"], error["errorCode"]]))
        .collect();
    assert_eq!(
        Value::from(named),
        json!([
            ["there", null, "DeviceAlreadyExists"],
            ["gone", null, "DeviceNotFound"],
            ["bad key", null, "ArgumentInvalid"],
            ["half", null, "ArgumentInvalid"],
            ["there2", null, "ArgumentInvalid"],
            ["module", "camera", "ModuleNotFound"],
        ])
    );
    assert_eq!(
        errors[4]["errorStatus"],
        "item 5: status is `open`; expected `enabled` or `disabled`"
    );
    assert!(
        result.body["Message"].as_str().unwrap().starts_with(
            "ErrorCode:BulkRegistryOperationFailure;6 of the registry operations failed"
        ),
        "{}",
        result.body
    );
    let mut found = hub.find("deviceId != ''").await;
    found.sort();
    assert_eq!(found, ["first", "last", "there"]);
    assert_eq!(
        hub.get("/twins/last").await.body["tags"],
        json!({ "floor": 1 })
    );
}

#[tokio::test]
async fn an_invalid_bulk_call_changes_nothing() {
    let hub = TestHub::start().await;
    let many: Vec<Value> = (0..101)
        .map(|number| json!({ "id": number.to_string() }))
        .collect();
    let mut named_twice = many[..3].to_vec();
    named_twice.push(json!({ "id": "1", "importMode": "delete" }));
    for (items, code, expected) in [
        (
            json!({}),
            "ArgumentInvalid",
            "expected an array of 1 to 100",
        ),
        (json!([]), "ArgumentInvalid", "expected 1 to 100"),
        (
            many.into(),
            "ArgumentInvalid",
            "expected an array of 1 to 100",
        ),
        (
            named_twice.into(),
            "DeviceDefinedMultipleTimes",
            "items 1 and 3 both have the id `1`",
        ),
    ] {
        let result = bulk(&hub, items).await;
        result.refused(400, code, &[]);
        let message = result.body["Message"].as_str().unwrap();
        assert!(
            message.starts_with(&format!("ErrorCode:{code};")),
            "{message}"
        );
        assert!(message.contains(expected), "{message}");
        // Azure's Python client reads only this.
        assert_eq!(result.body["isSuccessful"], false);
        let status = result.body["errors"][0]["errorStatus"].as_str().unwrap();
        assert!(status.contains(expected), "{status}");
    }
    let long = hub
        .request(Method::POST, "/devices")
        .body(vec![b' '; 1024 * 1024 + 1]);
    assert_eq!(answer(long).await.status, 413);
    assert_eq!(hub.get("/devices").await.body, json!([]));
}

#[tokio::test]
async fn connected_devices_are_notified_or_disconnected() {
    let hub = TestHub::start().await;
    let mut devices = Vec::new();
    for id in ["notified", "disabled", "deleted", "rekeyed", "untouched"] {
        let key = hub.add_device(id).await;
        let device = hub
            .subscriber(id, &key, "$iothub/twin/PATCH/properties/desired/#")
            .await;
        devices.push(device);
    }
    let keys = json!({ "primaryKey": KEY, "secondaryKey": KEY });
    done(
        &hub,
        json!([
            {
                "id": "notified",
                "importMode": "updateTwin",
                "properties": { "desired": { "floor": 3, "wing": null } },
            },
            { "id": "disabled", "importMode": "update", "status": "disabled" },
            { "id": "deleted", "importMode": "delete" },
            {
                "id": "rekeyed",
                "importMode": "update",
                "authentication": { "type": "sas", "symmetricKey": keys },
            },
        ]),
    )
    .await;
    let (topic, body) = devices[0].received().await;
    assert_eq!(topic, "$iothub/twin/PATCH/properties/desired/?$version=2");
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body, json!({ "floor": 3, "wing": null, "$version": 2 }));
    eventually("only devices with valid credentials stay", || async {
        let connected = hub.find("connectionState = 'Connected'").await;
        (connected == ["notified", "untouched"]).then_some(())
    })
    .await;
    let key = SharedAccessKey::from_base64(KEY).unwrap();
    let _again = hub
        .subscriber("rekeyed", &key, "$iothub/methods/POST/#")
        .await;
}

#[tokio::test]
async fn the_audit_record_counts_the_modes_and_names_the_devices() {
    let hub = TestHub::start().await;
    done(
        &hub,
        json!([{ "id": "a", "importMode": "create" }, { "id": "b", "importMode": "create" }]),
    )
    .await;
    refused(&hub, json!({ "id": "nobody", "importMode": "delete" })).await;
    let rows = hub.get("/audit?operation=device.bulk").await.body;
    let details: Vec<Value> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| json!([row["detail"], row["status"], row["error"]]))
        .collect();
    assert_eq!(
        Value::from(details),
        json!([
            [
                "1 operations (delete 1): nobody",
                400,
                "BulkRegistryOperationFailure"
            ],
            ["2 operations (create 2): a b", 200, null],
        ])
    );
}

#[tokio::test]
async fn each_item_causes_its_own_events() {
    let hub = TestHub::start().await;
    done(
        &hub,
        json!([{ "id": "a" }, { "id": "b", "tags": { "floor": 1 } }]),
    )
    .await;
    refused(&hub, json!({ "id": "a", "importMode": "create" })).await;
    done(&hub, json!([{ "id": "a", "importMode": "delete" }])).await;
    let events = hub.get("/events?follow=false&after=0").await.body;
    let events = events.as_str().unwrap();
    for (what, times) in [
        ("createDeviceIdentity", 2),
        ("deleteDeviceIdentity", 1),
        ("updateTwin", 1),
    ] {
        assert_eq!(events.matches(what).count(), times, "{what} in {events}");
    }
}

/// The device's two keys.
async fn keys(hub: &TestHub, id: &str) -> (Value, Value) {
    let device = hub.get(&format!("/devices/{id}")).await.ok();
    let keys = &device["authentication"]["symmetricKey"];
    (keys["primaryKey"].clone(), keys["secondaryKey"].clone())
}

/// As `az iot hub device-identity renew-key` does it.
#[tokio::test]
async fn keys_are_regenerated_and_their_devices_disconnected() {
    let hub = TestHub::start().await;
    let key = hub.add_device("door").await;
    let _device = hub.subscriber("door", &key, "$iothub/twin/res/#").await;
    hub.add_device("keys").await;
    let renew = async |key: &str, devices: Value| {
        let body = json!({ "policyKey": key, "devices": devices });
        hub.post("/devices/keys/regenerate", body).await
    };
    let door = json!([{ "id": "door" }]);
    for (key, changed) in [
        ("primaryKey", (true, false)),
        ("secondaryKey", (false, true)),
        ("both", (true, true)),
    ] {
        let before = keys(&hub, "door").await;
        let result = renew(key, door.clone()).await.ok();
        let after = keys(&hub, "door").await;
        assert_eq!((before.0 != after.0, before.1 != after.1), changed, "{key}");
        assert_eq!(
            (&result["policyKey"], &result["errors"]),
            (&json!(key), &json!([]))
        );
        let renewed = &result["rotatedKeys"][0];
        assert_eq!(renewed["id"], "door");
        for (member, is_new, now) in [
            ("primaryKey", changed.0, after.0),
            ("secondaryKey", changed.1, after.1),
        ] {
            let expected = if is_new { now } else { Value::Null };
            assert_eq!(renewed[member], expected, "{key} {member}");
        }
    }
    eventually("the device is disconnected", || async {
        (hub.hub.registry().connected_count() == 0).then_some(())
    })
    .await;

    // Each device on its own; `keys` is also a part of the path.
    let badge = json!({ "authentication": { "type": "certificateAuthority" } });
    hub.put("/devices/badge", badge).await.ok();
    let mixed = json!([
        { "id": "keys" }, { "id": "none" }, { "id": "badge" }, { "id": "door", "moduleId": "m" },
    ]);
    let result = renew("both", mixed).await;
    assert_eq!(result.status, 207, "{}", result.body);
    assert_eq!(texts(&result.body["rotatedKeys"], "id"), ["keys"]);
    let codes = texts(&result.body["errors"], "errorCode");
    assert_eq!(
        codes,
        ["DeviceNotFound", "ArgumentInvalid", "ModuleNotFound"]
    );
    let none = renew("both", json!([{ "id": "none" }])).await;
    assert_eq!(none.status, 400);
    assert_eq!(texts(&none.body["errors"], "errorCode"), ["DeviceNotFound"]);
    for (key, devices, expected) in [
        ("swap", door.clone(), "policyKey"),
        ("both", json!([]), "devices has 0 items; expected 1 to 100"),
        (
            "both",
            json!([{ "id": "a" }, { "id": "a" }]),
            "devices has `a` twice",
        ),
    ] {
        let refused = renew(key, devices).await;
        assert_eq!(refused.status, 400, "{}", refused.body);
        assert!(
            refused.body.to_string().contains(expected),
            "{}",
            refused.body
        );
    }
    assert_eq!(hub.get("/devices/keys/modules").await.ok(), json!([]));
    let rows = hub
        .get("/audit?operation=device.regenerateKeys&target=keys")
        .await
        .ok();
    let detail = "both of 4 devices: keys none badge door";
    assert_eq!(texts(&rows, "detail"), [detail]);
}

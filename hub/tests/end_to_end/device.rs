//! The identity registry.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Device, TestHub, answer, eventually};

#[tokio::test]
async fn a_device_is_made_once_with_keys_of_its_own() {
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
    assert_eq!(again.status, 409);
    assert_eq!(again.headers["iothub-errorcode"], "DeviceAlreadyExists");
    assert!(
        again.body["Message"]
            .as_str()
            .unwrap()
            .starts_with("ErrorCode:DeviceAlreadyExists;")
    );
    assert_eq!(hub.get("/devices/lobby-east").await.body, made.body);
}

#[tokio::test]
async fn empty_keys_ask_for_new_ones_and_given_keys_are_kept() {
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
    assert_eq!(bad.status, 400);
    assert!(
        bad.body["Message"].as_str().unwrap().contains("primaryKey"),
        "{}",
        bad.body
    );
    assert!(
        !bad.body["Message"].as_str().unwrap().contains("c2hvcnQ="),
        "{}",
        bad.body
    );
}

#[tokio::test]
async fn a_change_takes_the_etag_or_a_star_quoted_or_not() {
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
        "keys that are not given stay"
    );

    let stale = change(etag, "stale").await;
    assert_eq!(stale.status, 412);
    assert_eq!(stale.headers["iothub-errorcode"], "PreconditionFailed");
    for star in ["*", "\"*\""] {
        assert_eq!(change(star, star).await.body["statusReason"], star);
    }
    let missing = answer(
        hub.request(Method::PUT, "/devices/none")
            .header("If-Match", "*")
            .json(&json!({})),
    )
    .await;
    assert_eq!(missing.status, 404);
}

#[tokio::test]
async fn an_id_is_decoded_once_and_kept_in_its_case() {
    let hub = TestHub::start().await;
    // The id `a%2Fb` has a percent sign in it, and no slash.
    let made = hub
        .put("/devices/a%252Fb", json!({ "deviceId": "a%2Fb" }))
        .await;
    assert_eq!(made.status, 200, "{}", made.body);
    assert_eq!(hub.get("/twins/a%252Fb").await.body["deviceId"], "a%2Fb");
    hub.add_device("Door").await;
    assert_eq!(hub.get("/devices/door").await.status, 404);
    let bad = hub.put("/devices/a%2Fb", json!({})).await;
    assert_eq!(bad.status, 400);
    assert!(
        bad.body["Message"].as_str().unwrap().contains("'/'"),
        "{}",
        bad.body
    );
}

#[tokio::test]
async fn devices_are_listed_counted_and_deleted() {
    let hub = TestHub::start().await;
    for id in ["c", "a", "b"] {
        hub.add_device(id).await;
    }
    let ids = |list: &serde_json::Value| -> Vec<String> {
        list.as_array()
            .unwrap()
            .iter()
            .map(|device| device["deviceId"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        ids(&hub
            .get("/devices/?top=10&api-version=2021-04-12")
            .await
            .body),
        ["c", "a", "b"]
    );
    assert_eq!(ids(&hub.get("/devices?TOP=2").await.body), ["c", "a"]);
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
async fn connections_are_seen_and_end_with_the_device() {
    let hub = TestHub::start().await;
    let key = hub.add_device("door").await;
    let mut device = Device::dial(&hub, "door", &key);
    device.subscribe("$iothub/methods/POST/#").await;
    assert_eq!(
        hub.get("/devices/door").await.body["connectionState"],
        "Connected"
    );
    assert_eq!(hub.find("connectionState = 'Connected'").await, ["door"]);
    assert_eq!(
        hub.get("/statistics/service").await.body,
        json!({ "connectedDeviceCount": 1 })
    );

    let disable = hub
        .request(Method::PUT, "/devices/door")
        .header("If-Match", "*");
    assert_eq!(
        answer(disable.json(&json!({ "status": "disabled" })))
            .await
            .status,
        200
    );
    eventually("the disabled device is disconnected", || async {
        let state = hub.get("/devices/door").await.body["connectionState"].clone();
        (state == "Disconnected" && hub.hub.registry().connected_count() == 0).then_some(())
    })
    .await;
}

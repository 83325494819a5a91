//! Policies with bounds: every call by every role, and every way to make a door open.

use std::collections::BTreeSet;

use doorfleet_testing::answer;
use reqwest::Method;
use serde_json::{Value, json};

use crate::bounds::{GUARD, ROLES, VIEWER, add_role, desired, fleet, method_job, twin_job};

/// Each row: route, call, body, and the roles that may do it: `v`iewer, `g`uard, `o`perator.
fn calls() -> Vec<(&'static str, Method, String, Value, &'static str)> {
    let (get, put, post, patch, delete) = (
        Method::GET,
        Method::PUT,
        Method::POST,
        Method::PATCH,
        Method::DELETE,
    );
    let mut calls = vec![
        ("/devices", get.clone(), "/devices", json!({}), "vgo"),
        (
            "/devices",
            post.clone(),
            "/devices",
            json!([{ "id": "inner", "importMode": "updateTwin", "tags": {} }]),
            "",
        ),
        (
            "/devices/{id}",
            get.clone(),
            "/devices/inner",
            json!({}),
            "vgo",
        ),
        (
            "/devices/{id}",
            put.clone(),
            "/devices/new",
            json!({ "deviceId": "new" }),
            "",
        ),
        (
            "/devices/{id}",
            delete.clone(),
            "/devices/gone",
            json!({}),
            "",
        ),
        (
            "/devices/{id}",
            post.clone(),
            "/devices/query",
            json!({ "query": "SELECT * FROM devices" }),
            "vgo",
        ),
        (
            "/devices/{id}/commands",
            delete.clone(),
            "/devices/inner/commands",
            json!({}),
            "",
        ),
        (
            "/devices/{id}/modules",
            get.clone(),
            "/devices/inner/modules",
            json!({}),
            "vgo",
        ),
        (
            "/devices/keys/regenerate",
            post.clone(),
            "/devices/keys/regenerate",
            json!({ "policyKey": "primary", "devices": [{ "id": "inner" }] }),
            "",
        ),
        (
            "/messages/serviceBound/feedback",
            get.clone(),
            "/messages/serviceBound/feedback",
            json!({}),
            "",
        ),
        (
            "/messages/serviceBound/feedback/{lock}",
            delete.clone(),
            "/messages/serviceBound/feedback/1",
            json!({}),
            "",
        ),
        (
            "/messages/serviceBound/feedback/{lock}/abandon",
            post.clone(),
            "/messages/serviceBound/feedback/1/abandon",
            json!({}),
            "",
        ),
        ("/audit", get.clone(), "/audit", json!({}), ""),
        (
            "/events",
            get.clone(),
            "/events?follow=false",
            json!({}),
            "vgo",
        ),
        (
            "/statistics/devices",
            get.clone(),
            "/statistics/devices",
            json!({}),
            "",
        ),
        (
            "/statistics/service",
            get.clone(),
            "/statistics/service",
            json!({}),
            "",
        ),
        ("/metrics", get.clone(), "/metrics", json!({}), ""),
        ("/twins/{id}", get.clone(), "/twins/inner", json!({}), "vgo"),
        (
            "/twins/{id}",
            put.clone(),
            "/twins/inner",
            desired(json!({})),
            "",
        ),
        ("/jobs", get.clone(), "/jobs", json!({}), "vgo"),
        (
            "/configurations",
            get.clone(),
            "/configurations",
            json!({}),
            "vgo",
        ),
        (
            "/jobs/v2/query",
            get.clone(),
            "/jobs/v2/query",
            json!({}),
            "vgo",
        ),
        (
            "/jobs/v2/query",
            put.clone(),
            "/jobs/v2/query",
            method_job("lockDoor"),
            "go",
        ),
        (
            "/jobs/v2/{id}",
            get.clone(),
            "/jobs/v2/none",
            json!({}),
            "vgo",
        ),
        (
            "/jobs/v2/{id}/cancel",
            post.clone(),
            "/jobs/v2/none/cancel",
            json!({}),
            "go",
        ),
        ("/whoami", get.clone(), "/whoami", json!({}), "vgo"),
        ("/plans", get.clone(), "/plans", json!({}), ""),
        ("/plans/{id}", get.clone(), "/plans/none", json!({}), "vgo"),
        ("/plans/{id}", put.clone(), "/plans/none", json!({}), ""),
        ("/plans/{id}", delete.clone(), "/plans/none", json!({}), ""),
        ("/policies", get.clone(), "/policies", json!({}), ""),
        ("/policies/{name}", get, "/policies/guard", json!({}), ""),
        (
            "/policies/{name}",
            put.clone(),
            "/policies/own",
            json!({ "rights": "ServiceConnect" }),
            "",
        ),
        (
            "/policies/{name}",
            delete,
            "/policies/nobody",
            json!({}),
            "",
        ),
        (
            "/policies/{name}/rotate",
            post.clone(),
            "/policies/nobody/rotate",
            json!({ "key": "primary" }),
            "",
        ),
    ];
    // What a call and a job may do, and every way to make a door open.
    for (method, roles) in [
        ("lockDoor", "go"),
        ("lockdown", "go"),
        ("getState", "go"),
        ("unlockDoor", "o"),
        ("setMode", "o"),
        ("relinquish", "o"),
        ("selfTest", "o"),
        ("LockDoor", ""),
        ("reboot", ""),
    ] {
        let call = json!({ "methodName": method, "payload": null });
        let path = "/twins/inner/methods";
        calls.push(("/twins/{id}/methods", post.clone(), path, call, roles));
        calls.push((
            "/jobs/v2/{id}",
            put.clone(),
            "/jobs/v2/",
            method_job(method),
            roles,
        ));
    }
    for (body, roles) in [
        (
            json!({ "tags": { "alarm": { "forced": { "by": "me" } } } }),
            "go",
        ),
        (desired(json!({ "lockdown": { "id": "l1" } })), "go"),
        (desired(json!({ "lockdown": null })), "go"),
        (desired(json!({ "mode": "free" })), "o"),
        (
            desired(json!({ "timed": { "a": { "mode": "release" } } })),
            "o",
        ),
        (desired(json!({ "schedule": { "week": "" } })), "o"),
        (desired(json!({ "settings": { "strike_time": "1h" } })), "o"),
        (
            desired(json!({ "lockdown": { "id": "l2" }, "mode": "free" })),
            "o",
        ),
        (desired(json!({ "other": 1 })), ""),
        (desired(json!({ "lockdown": null, "building": null })), ""),
        (desired(Value::Null), ""),
        (json!({ "tags": null }), ""),
        (json!({ "tags": { "building": "44" } }), ""),
        (json!({ "tags": { "alarm": null, "floor": 1 } }), ""),
    ] {
        calls.push((
            "/twins/{id}",
            patch.clone(),
            "/twins/inner",
            body.clone(),
            roles,
        ));
        calls.push((
            "/jobs/v2/{id}",
            put.clone(),
            "/jobs/v2/",
            twin_job(body),
            roles,
        ));
    }
    // Each job has an id of its own.
    let numbered = calls.into_iter().enumerate();
    let numbered = numbered.map(|(number, (route, method, path, body, roles))| {
        let path = match path {
            "/jobs/v2/" => format!("/jobs/v2/job-{number}"),
            path => path.to_owned(),
        };
        (route, method, path, body, roles)
    });
    numbered.collect()
}

#[tokio::test]
async fn every_call_is_refused_that_a_role_has_no_bounds_for() {
    let hub = fleet().await;
    let known: BTreeSet<_> = door_hub::routes().collect();
    let calls = calls();
    let tried = calls
        .iter()
        .map(|(route, method, ..)| (method.as_str(), *route));
    assert_eq!(
        tried.collect::<BTreeSet<_>>(),
        known,
        "every route has a row"
    );

    for role in ROLES {
        let caller = add_role(&hub, role).await;
        let before = hub.get("/twins/inner").await.body;
        let mut refused = Vec::new();
        for (_, method, path, body, roles) in &calls {
            let path = path.replace("/job-", &format!("/{role}-"));
            let found = caller.send(method.clone(), &path, Some(body.clone())).await;
            let case = format!(
                "{role}: {method} {path} {body}: {} {}",
                found.status, found.body
            );
            if roles.contains(&role[..1]) {
                assert_ne!(found.status, 401, "{case}");
                assert!(!found.status.is_server_error(), "{case}");
            } else {
                assert_eq!(found.status, 401, "{case}");
                assert_eq!(
                    found.headers["iothub-errorcode"],
                    "IotHubUnauthorizedAccess"
                );
                let text = found.body.to_string();
                let rule = format!("Authorization rule '{role}' does not allow access");
                assert!(text.contains(&rule), "{case}");
                refused.push(path);
            }
        }
        // The body that is checked is the body that is used.
        let twice = r#"{"methodName":"lockDoor","methodName":"unlockDoor","payload":null}"#;
        let doubled = caller.request(Method::POST, "/twins/inner/methods");
        let doubled = answer(doubled.body(twice)).await;
        assert!(doubled.status.is_client_error(), "{}", doubled.status);

        let twin = hub.get("/twins/inner").await.body;
        match role {
            VIEWER => assert_eq!(twin, before, "nothing was written"),
            GUARD => {
                let names = |section: &Value| -> Vec<String> {
                    let names = section.as_object().unwrap().keys();
                    names
                        .filter(|name| !name.starts_with('$'))
                        .cloned()
                        .collect()
                };
                assert_eq!(names(&twin["tags"]), ["building", "alarm"]);
                assert_eq!(names(&twin["properties"]["desired"]), [""; 0]);
            }
            _ => assert_eq!(twin["properties"]["desired"]["mode"], "free"),
        }
        let rows = hub
            .get(&format!("/audit?policy={role}&top=1000"))
            .await
            .ok();
        let rows = rows.as_array().unwrap().iter();
        let recorded = rows.filter(|row| row["status"] == 401).count();
        let at_door = usize::from(role == VIEWER);
        assert_eq!(
            recorded,
            refused.len() + at_door,
            "{role}: each refusal is recorded"
        );
    }
    assert_eq!(hub.get("/devices").await.ok().as_array().unwrap().len(), 2);
}

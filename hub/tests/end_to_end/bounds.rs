//! Policies with bounds: every call by every role, devices outside `where`, jobs and event streams
//! when bounds change.

use std::collections::BTreeSet;

use doorfleet_testing::{Answer, Operator, TestHub, answer, texts};
use iothub_protocol::connection_string::ServiceConnectionString;
use iothub_protocol::sas::SharedAccessKey;
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use crate::event::Reader;

pub(crate) const VIEWER: &str = "viewer";
pub(crate) const GUARD: &str = "guard";
const OPERATOR: &str = "operator";
const ROLES: [&str; 3] = [VIEWER, GUARD, OPERATOR];

/// The bounds of a role, as doorctl writes them, for building 43.
pub(crate) fn bounds(role: &str) -> Value {
    let mut bounds = match role {
        VIEWER => json!({ "access": "read" }),
        GUARD => json!({
            "access": "operate",
            "methods": ["lockDoor", "lockdown", "allClear", "getState"],
            "desired": ["lockdown"],
            "tags": ["alarm"],
        }),
        _ => json!({
            "access": "operate",
            "methods": [
                "lockDoor", "unlockDoor", "relinquish", "setMode", "lockdown", "allClear",
                "getState", "selfTest",
            ],
            "desired": ["lockdown", "mode", "timed", "schedule", "settings"],
            "tags": ["alarm"],
        }),
    };
    bounds["where"] = "tags.building = '43'".into();
    bounds
}

/// Creates a policy and returns its caller.
pub(crate) async fn add(
    hub: &TestHub,
    name: &str,
    rights: &str,
    bounds: Option<Value>,
) -> Operator {
    let mut body = json!({ "rights": rights });
    if let Some(bounds) = bounds {
        body["bounds"] = bounds;
    }
    let added = hub.put(&format!("/policies/{name}"), body).await;
    assert_eq!(added.status, 201, "{}", added.body);
    let key = added.body["primaryKey"].as_str().unwrap();
    let string = ServiceConnectionString {
        host_name: hub.hub.service_connection_string().host_name.clone(),
        policy: name.parse().unwrap(),
        key: SharedAccessKey::from_base64(key).unwrap(),
    };
    Operator::new(string, hub.hub.mqtt_address().port(), hub.hub.ca_file())
}

async fn add_role(hub: &TestHub, role: &str) -> Operator {
    add(hub, role, "ServiceConnect,RegistryRead", Some(bounds(role))).await
}

/// Replaces the bounds of a policy.
pub(crate) async fn change(hub: &TestHub, name: &str, bounds: Option<Value>) {
    let body = json!({ "rights": "ServiceConnect", "bounds": bounds });
    let request = hub.request(Method::PUT, &format!("/policies/{name}"));
    answer(request.header("If-Match", "*").json(&body))
        .await
        .ok();
}

/// A hub with the device `inner` in building 43 and `outer` in 44.
pub(crate) async fn fleet() -> TestHub {
    let hub = TestHub::start().await;
    for (id, building) in [("inner", "43"), ("outer", "44")] {
        hub.add_device(id).await;
        let tags = json!({ "tags": { "building": building } });
        hub.patch(&format!("/twins/{id}"), tags).await.ok();
    }
    hub
}

fn method_job(method: &str) -> Value {
    json!({
        "type": "scheduleDeviceMethod",
        "cloudToDeviceMethod": { "methodName": method, "payload": null },
        "queryCondition": "*",
    })
}

fn twin_job(patch: Value) -> Value {
    let mut patch = patch;
    patch["etag"] = "*".into();
    json!({ "type": "scheduleUpdateTwin", "updateTwin": patch, "queryCondition": "*" })
}

fn desired(properties: Value) -> Value {
    let mut body = json!({ "properties": {} });
    body["properties"]["desired"] = properties;
    body
}

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

/// An answer without what differs between any two: date, request ids and times in error texts.
fn comparable(found: &Answer, id: &str) -> (u16, Vec<String>, String) {
    let headers = found.headers.iter().filter(|(name, _)| *name != "date");
    let mut headers: Vec<_> = headers.map(|header| format!("{header:?}")).collect();
    headers.sort();
    let mut body = found.body.clone();
    if let Some(text) = body.get("Message").and_then(Value::as_str) {
        // A method's error is a document in a text.
        if let Ok(mut inner) = serde_json::from_str::<Value>(text) {
            inner["trackingId"].take();
            inner["timestampUtc"].take();
            body["Message"] = inner;
        }
        body["ExceptionMessage"].take();
    }
    let replaced = |text: String| text.replace(id, "DEVICE");
    let headers = headers.into_iter().map(replaced).collect();
    (found.status.as_u16(), headers, replaced(body.to_string()))
}

#[tokio::test]
async fn what_is_outside_answers_like_what_never_was() {
    let hub = fleet().await;
    let method = json!({ "methodName": "lockDoor", "payload": null });
    let patch = desired(json!({ "lockdown": { "id": "l1" } }));
    let too_long = desired(json!({ "lockdown": "x".repeat(9000) }));
    hub.put("/jobs/v2/outer", twin_job(json!({ "tags": { "seen": 1 } })))
        .await
        .ok();
    hub.job("outer", &["completed"]).await;
    for role in ROLES {
        let caller = add_role(&hub, role).await;
        for (verb, path, body, etag) in [
            (Method::GET, "/devices/ID", None, None),
            (Method::GET, "/devices/ID/modules", None, None),
            (Method::GET, "/twins/ID", None, None),
            (Method::PATCH, "/twins/ID", Some(&patch), None),
            (Method::PATCH, "/twins/ID", Some(&patch), Some("*")),
            (
                Method::PATCH,
                "/twins/ID",
                Some(&patch),
                Some("\"c3RhbGU=\""),
            ),
            (Method::PATCH, "/twins/ID", Some(&too_long), None),
            (Method::POST, "/twins/ID/methods", Some(&method), None),
            (
                Method::GET,
                "/events?device=ID&after=0&follow=false",
                None,
                None,
            ),
            (Method::GET, "/jobs/v2/ID", None, None),
            (Method::POST, "/jobs/v2/ID/cancel", None, None),
            (Method::POST, "/jobs/v2/ID/cancel?stop=true", None, None),
        ] {
            let mut found = Vec::new();
            for id in ["outer", "never"] {
                let mut request = caller.request(verb.clone(), &path.replace("ID", id));
                if let Some(body) = body {
                    request = request.json(body);
                }
                if let Some(etag) = etag {
                    request = request.header("If-Match", etag);
                }
                found.push(comparable(&answer(request).await, id));
            }
            assert_eq!(found[0], found[1], "{role}: {verb} {path}");
        }
        assert_eq!(caller.get("/devices/inner").await.status, 200);
    }
}

#[tokio::test]
async fn lists_counts_and_events_hold_nothing_from_outside() {
    let hub = fleet().await;
    for id in ["outer2", "outer3"] {
        hub.add_device(id).await;
    }
    let tags = json!({ "tags": { "floor": 1 } });
    hub.put("/jobs/v2/owners", twin_job(tags)).await.ok();
    hub.job("owners", &["completed"]).await;
    let guard = add_role(&hub, GUARD).await;
    let alarm = json!({ "tags": { "alarm": { "a": 1 } } });
    let mut job = twin_job(alarm.clone());
    job["queryCondition"] = "deviceId = 'outer' OR deviceId = 'inner' OR true".into();
    guard.put("/jobs/v2/own", job).await.ok();
    let done = guard.job("own", &["completed"]).await;
    assert_eq!(done["deviceJobStatistics"]["deviceCount"], 1, "{done}");

    let identities = guard.get("/devices?top=2").await.ok();
    assert_eq!(texts(&identities, "deviceId"), ["inner"]);
    let one = guard.get("/devices/inner").await.ok();
    for identity in [&identities[0], &one] {
        let keys = &identity["authentication"]["symmetricKey"];
        assert_eq!(*keys, json!({ "primaryKey": null, "secondaryKey": null }));
    }
    for (query, expected) in [
        (
            "SELECT deviceId FROM devices WHERE deviceId = 'outer' OR true",
            r#"[{"deviceId":"inner"}]"#,
        ),
        ("SELECT deviceId FROM devices", r#"[{"deviceId":"inner"}]"#),
        ("SELECT COUNT() AS n FROM devices", r#"[{"n":1}]"#),
        (
            "SELECT COUNT() AS n FROM devices WHERE NOT deviceId = 'inner'",
            r#"[{"n":0}]"#,
        ),
        (
            "SELECT tags.building, COUNT() AS n FROM devices GROUP BY tags.building",
            r#"[{"building":"43","n":1}]"#,
        ),
        (
            "SELECT deviceId, jobId FROM devices.jobs",
            r#"[{"deviceId":"inner","jobId":"own"}]"#,
        ),
        (
            "SELECT deviceId FROM devices.jobs WHERE jobId = 'owners' OR deviceId = 'outer'",
            "[]",
        ),
    ] {
        let rows = guard.query(query).await.ok();
        assert_eq!(rows.to_string(), expected, "{query}");
    }
    assert_eq!(
        texts(&guard.get("/jobs/v2/query").await.ok(), "jobId"),
        ["own"]
    );
    let all = Reader::open(&guard, "after=0&follow=false")
        .await
        .rest()
        .await;
    let subject = |event: &Value| {
        let subject = event.get("deviceId").or_else(|| event.get("jobId"));
        subject.unwrap().as_str().unwrap().to_owned()
    };
    let subjects: BTreeSet<_> = all.iter().map(subject).collect();
    assert_eq!(
        subjects,
        BTreeSet::from(["inner".to_owned(), "own".to_owned()])
    );

    // A device is inside when an event is sent, not when it happens.
    let moved = json!({ "tags": { "building": "44" } });
    hub.patch("/twins/inner", moved).await.ok();
    assert_eq!(
        guard.query("SELECT * FROM devices.jobs").await.ok(),
        json!([])
    );
    let left = Reader::open(&guard, "after=0&follow=false")
        .await
        .rest()
        .await;
    assert!(left.iter().all(|event| event["kind"] == "job"), "{left:?}");
    let taken = guard.put("/jobs/v2/owners", twin_job(alarm)).await;
    taken.refused(409, "JobAlreadyExists", &[]);
}

#[tokio::test]
async fn a_job_starts_under_the_bounds_of_its_creation_and_of_its_start() {
    let hub = fleet().await;
    let narrow = json!({ "access": "operate", "methods": ["getState"] });
    let elsewhere = json!({ "access": "operate", "desired": ["lockdown"],
        "where": "tags.building = '45'" });
    let start = Timestamp::now() + SignedDuration::from_secs(8);
    let due = |mut job: Value| {
        job["startTime"] = start.to_string().into();
        job
    };
    let lockdown = twin_job(desired(json!({ "lockdown": { "id": "l1" } })));
    let cases = [
        ("narrowed", Some(bounds(GUARD)), method_job("lockDoor")),
        ("moved", Some(bounds(GUARD)), lockdown.clone()),
        ("widened", Some(bounds(GUARD)), lockdown.clone()),
        ("removed", Some(bounds(GUARD)), lockdown.clone()),
        ("replaced", Some(bounds(GUARD)), lockdown.clone()),
        ("open", None, lockdown.clone()),
        ("robbed", None, lockdown),
    ];
    for (name, bounds, job) in &cases {
        let caller = add(&hub, name, "ServiceConnect", bounds.clone()).await;
        caller
            .put(&format!("/jobs/v2/{name}"), due(job.clone()))
            .await
            .ok();
        let shown = hub.get(&format!("/policies/{name}")).await.ok();
        assert_eq!(shown["jobs"], json!([name]), "{shown}");
    }
    change(&hub, "narrowed", Some(narrow)).await;
    change(&hub, "moved", Some(elsewhere)).await;
    change(&hub, "widened", None).await;
    for name in ["removed", "replaced", "open"] {
        let gone = hub
            .send(Method::DELETE, &format!("/policies/{name}"), None)
            .await;
        assert_eq!(gone.status, 204, "{}", gone.body);
    }
    let replaced = add(&hub, "replaced", "ServiceConnect", Some(bounds(GUARD))).await;
    let ended = hub.job("replaced", &["failed"]).await;
    assert!(ended["endTime"].is_string(), "{ended}");
    assert_eq!(replaced.get("/jobs/v2/replaced").await.status, 404);
    assert_eq!(replaced.get("/jobs/v2/query").await.ok(), json!([]));
    let robbed = hub
        .request(Method::PUT, "/policies/robbed")
        .header("If-Match", "*");
    answer(robbed.json(&json!({ "rights": "RegistryRead", "bounds": null })))
        .await
        .ok();
    // A job keeps both through a kill of the hub.
    let hub = hub.restart_after_kill().await;
    for (name, status, reason, devices) in [
        ("narrowed", "failed", "PolicyNarrowed: ", 0),
        ("moved", "completed", "", 0),
        ("widened", "completed", "", 1),
        ("removed", "failed", "PolicyRemoved: ", 0),
        ("replaced", "failed", "PolicyRemoved: ", 0),
        ("open", "failed", "PolicyRemoved: ", 0),
        ("robbed", "failed", "PolicyNarrowed: ", 0),
    ] {
        let job = hub.job(name, &["completed", "failed"]).await;
        assert_eq!(job["status"], status, "{job}");
        let found = job["failureReason"].as_str().unwrap_or_default();
        assert!(found.starts_with(reason), "{job}");
        assert_eq!(job["deviceJobStatistics"]["deviceCount"], devices, "{job}");
    }
    let outer = hub.get("/twins/outer").await.ok();
    assert!(
        outer["properties"]["desired"].get("lockdown").is_none(),
        "{outer}"
    );
}

#[tokio::test]
async fn an_event_stream_ends_when_bounds_are_narrowed() {
    let hub = fleet().await;
    let viewer = add_role(&hub, VIEWER).await;
    let mut stream = Reader::open(&viewer, "kind=twin").await;
    let seen = json!({ "tags": { "seen": 1 } });
    hub.patch("/twins/inner", seen).await.ok();
    assert_eq!(stream.expect().await["deviceId"], "inner");
    let elsewhere = json!({ "access": "read", "where": "tags.building = '45'" });
    change(&hub, VIEWER, Some(elsewhere)).await;
    // In force with the answer, so nothing of this is seen.
    let late = json!({ "tags": { "seen": 2 } });
    hub.patch("/twins/inner", late).await.ok();
    assert!(stream.next().await.is_none());
    let again = Reader::open(&viewer, "after=0&follow=false").await;
    assert_eq!(again.rest().await, [Value::Null; 0]);
    assert_eq!(viewer.get("/twins/inner").await.status, 404);
}

#[tokio::test]
async fn policies_are_created_changed_rotated_and_removed_over_rest() {
    let hub = fleet().await;
    let guard = add_role(&hub, GUARD).await;
    let me = guard.get("/whoami").await.ok();
    let expected = json!({
        "policy": "guard", "rights": "RegistryRead, ServiceConnect", "bounds": bounds(GUARD),
    });
    assert_eq!(me, expected);
    let owner = hub.get("/whoami").await.ok();
    assert!(owner.get("bounds").is_none(), "{owner}");
    let names = texts(&hub.get("/policies").await.ok(), "name");
    assert_eq!(
        names,
        [
            "device",
            "guard",
            "iothubowner",
            "registryRead",
            "registryReadWrite",
            "service"
        ]
    );
    let shown = hub.get("/policies/guard").await.ok();
    assert_eq!(shown["jobs"], json!([]));
    assert!(!shown.to_string().contains("Key"), "{shown}");

    let rotated = hub
        .post("/policies/guard/rotate", json!({ "key": "secondary" }))
        .await
        .ok();
    assert!(rotated["secondaryKey"].is_string() && rotated.get("primaryKey").is_none());
    assert_eq!(
        guard.get("/whoami").await.status,
        200,
        "the other key stays valid"
    );
    hub.post("/policies/guard/rotate", json!({ "key": "primary" }))
        .await
        .ok();
    assert_eq!(guard.get("/whoami").await.status, 401);

    let read = json!({ "rights": "ServiceConnect", "bounds": { "access": "read" } });
    let own = json!({ "rights": "ServiceConnect",
        "bounds": { "access": "operate", "tags": ["a"], "where": "tags.a = 1" } });
    let wide = json!({ "rights": "RegistryWrite", "bounds": { "access": "read" } });
    let new = json!({ "rights": "Everything" });
    let without = json!({ "rights": "ServiceConnect" });
    let missing = "PolicyNotFound";
    for (method, path, etag, body, status, code, part) in [
        (
            Method::PUT,
            "guard",
            None,
            &read,
            409,
            "PolicyAlreadyExists",
            "already exists",
        ),
        (
            Method::PUT,
            "nobody",
            Some("*"),
            &read,
            404,
            missing,
            "there is no policy `nobody`",
        ),
        (
            Method::GET,
            "nobody",
            None,
            &read,
            404,
            missing,
            "there is no policy `nobody`",
        ),
        (
            Method::DELETE,
            "nobody",
            None,
            &read,
            404,
            missing,
            "there is no policy `nobody`",
        ),
        (
            Method::PUT,
            "guard",
            Some("*"),
            &without,
            400,
            "ArgumentInvalid",
            "`bounds` is missing",
        ),
        (
            Method::PUT,
            "guard",
            Some("\"1\""),
            &read,
            412,
            "PreconditionFailed",
            "have no etags",
        ),
        (
            Method::PUT,
            "new",
            None,
            &own,
            400,
            "ArgumentInvalid",
            "`where` reads `tags.a`",
        ),
        (
            Method::PUT,
            "new",
            None,
            &wide,
            400,
            "ArgumentInvalid",
            "at most RegistryRead and",
        ),
        (
            Method::PUT,
            "new",
            None,
            &new,
            400,
            "ArgumentInvalid",
            "unknown right `Everything`",
        ),
        (
            Method::PUT,
            "iothubowner",
            Some("*"),
            &read,
            400,
            "InvalidOperation",
            "cannot be",
        ),
        (
            Method::DELETE,
            "iothubowner",
            None,
            &read,
            400,
            "InvalidOperation",
            "cannot be",
        ),
    ] {
        let mut request = hub.request(method, &format!("/policies/{path}")).json(body);
        if let Some(etag) = etag {
            request = request.header("If-Match", etag);
        }
        answer(request).await.refused(status, code, &[part]);
    }
    let gone = hub.send(Method::DELETE, "/policies/guard", None).await;
    assert_eq!(gone.status, 204);
    assert_eq!(guard.get("/whoami").await.status, 401);

    let rows = hub.get("/audit?target=guard&top=100").await.ok();
    let operations = texts(&rows, "operation");
    for name in [
        "policy.create",
        "policy.update",
        "policy.rotate",
        "policy.delete",
    ] {
        assert!(
            operations.iter().any(|operation| operation == name),
            "{operations:?}"
        );
    }
    let created = rows.as_array().unwrap().last().unwrap();
    let detail = created["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("ServiceConnect,RegistryRead {\"access\":\"operate\""),
        "{detail}"
    );
}

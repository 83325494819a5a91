//! Policies with bounds: devices outside `where`, jobs and event streams when bounds change, and
//! the REST interface of policies. Every call by every role is in `bounds_calls.rs`.

use std::collections::BTreeSet;

use doorfleet_testing::{Answer, Operator, TestHub, answer, eventually, texts};
use futures_util::future::join_all;
use iothub_protocol::connection_string::ServiceConnectionString;
use iothub_protocol::sas::SharedAccessKey;
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use crate::event::Reader;

pub(crate) const VIEWER: &str = "viewer";
pub(crate) const GUARD: &str = "guard";
const OPERATOR: &str = "operator";
pub(crate) const ROLES: [&str; 3] = [VIEWER, GUARD, OPERATOR];

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

pub(crate) async fn add_role(hub: &TestHub, role: &str) -> Operator {
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

pub(crate) fn method_job(method: &str) -> Value {
    json!({
        "type": "scheduleDeviceMethod",
        "cloudToDeviceMethod": { "methodName": method, "payload": null },
        "queryCondition": "*",
    })
}

pub(crate) fn twin_job(patch: Value) -> Value {
    let mut patch = patch;
    patch["etag"] = "*".into();
    json!({ "type": "scheduleUpdateTwin", "updateTwin": patch, "queryCondition": "*" })
}

pub(crate) fn desired(properties: Value) -> Value {
    let mut body = json!({ "properties": {} });
    body["properties"]["desired"] = properties;
    body
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
async fn a_policy_with_bounds_cannot_use_up_event_streams_and_audit_rows() {
    let hub = fleet().await;
    let viewer = add_role(&hub, VIEWER).await;
    let guard = add_role(&hub, GUARD).await;
    let future = viewer.get("/events?after=1000000").await;
    assert!(
        !future.body.to_string().contains("newest"),
        "{}",
        future.body
    );
    let mut open = Vec::new();
    for _ in 0..32 {
        open.push(Reader::open(&viewer, "").await);
    }
    let full = viewer.get("/events").await;
    full.refused(429, "ThrottlingException", &["32 readers of this policy"]);
    for _ in 0..16 {
        open.push(Reader::open(&guard, "").await);
    }
    let full = guard.get("/events").await;
    full.refused(
        429,
        "ThrottlingException",
        &["48 pages and readers with bounds"],
    );
    for _ in 0..16 {
        open.push(Reader::open(&hub, "").await);
    }
    drop(open);

    for _ in 0..125 {
        assert_eq!(viewer.get("/metrics").await.status, 401);
    }
    assert_eq!(guard.get("/metrics").await.status, 401);
    for (role, expected) in [(VIEWER, 120), (GUARD, 1)] {
        let path = format!("/audit?policy={role}&operation=request.refuse&top=1000");
        let rows = hub.get(&path).await.ok();
        assert_eq!(rows.as_array().unwrap().len(), expected, "{role}");
    }
}

#[tokio::test]
async fn a_call_that_waits_for_its_device_is_withdrawn_when_its_policy_changes() {
    let hub = TestHub::start().await;
    let key = hub.add_device("late").await;
    let tags = json!({ "tags": { "building": "43" } });
    hub.patch("/twins/late", tags).await.ok();
    let names = ["removed", "narrowed", "moved", "rotated", "kept"];
    let mut callers = Vec::new();
    for name in names {
        callers.push(add(&hub, name, "ServiceConnect", Some(bounds(GUARD))).await);
    }
    let waiting = callers.iter().map(|caller| {
        let call = json!({
            "methodName": "lockDoor", "payload": null,
            "connectTimeoutInSeconds": 30, "responseTimeoutInSeconds": 30,
        });
        caller.post("/twins/late/methods", call)
    });
    let change_all = async {
        eventually("every call is recorded", || async {
            let rows = hub.get("/audit?operation=method.invoke").await.ok();
            (rows.as_array().unwrap().len() == names.len()).then_some(())
        })
        .await;
        let removed = hub.send(Method::DELETE, "/policies/removed", None).await;
        assert_eq!(removed.status, 204);
        let mut narrowed = bounds(GUARD);
        narrowed["methods"] = json!(["getState"]);
        change(&hub, "narrowed", Some(narrowed)).await;
        let mut moved = bounds(GUARD);
        moved["where"] = "tags.building = '44'".into();
        change(&hub, "moved", Some(moved)).await;
        let rotate = json!({ "key": "primary" });
        hub.post("/policies/rotated/rotate", rotate).await.ok();
        let device = hub.subscriber("late", &key, "$iothub/methods/POST/#").await;
        device.answer_methods(200)
    };
    let (answers, _device) = tokio::join!(join_all(waiting), change_all);
    for (name, answer) in names.iter().zip(answers) {
        match *name {
            "kept" => drop(answer.ok()),
            _ => answer.refused(
                401,
                "IotHubUnauthorizedAccess",
                &["the policy of this call changed", "nothing was sent"],
            ),
        }
    }
}

#[tokio::test]
async fn the_condition_of_a_job_with_bounds_reads_few_properties() {
    let hub = fleet().await;
    let guard = add_role(&hub, GUARD).await;
    let condition = |count: usize| {
        let parts = (0..count).map(|number| format!("tags.a{number} = 1"));
        parts.collect::<Vec<_>>().join(" OR ")
    };
    let mut job = method_job("lockDoor");
    job["queryCondition"] = condition(33).into();
    let refused = guard.put("/jobs/v2/many", job.clone()).await;
    refused.refused(400, "ArgumentInvalid", &["reads 33 properties", "IN"]);
    hub.put("/jobs/v2/many", job.clone()).await.ok();
    job["queryCondition"] = condition(32).into();
    guard.put("/jobs/v2/few", job).await.ok();
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

    let rotate = hub.post("/policies/iothubowner/rotate", json!({ "key": "primary" }));
    let key = rotate.await.ok()["primaryKey"].clone();
    let hub = eventually(
        "the operator's connection string has the new key",
        || async {
            let owner = Operator::of_folder(hub.folder.path(), hub.mqtt_port);
            (owner.get("/whoami").await.status == 200).then_some(owner)
        },
    )
    .await;

    let rows = hub.get("/audit?top=1000").await.ok();
    assert!(!rows.to_string().contains(key.as_str().unwrap()), "{rows}");
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

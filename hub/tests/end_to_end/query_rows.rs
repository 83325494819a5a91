//! Queries with projections and groups, and queries over the records of jobs.

use std::future::Future;

use doorfleet_testing::{Answer, TestHub, answer, eventually};
use iothub_protocol::query;
use reqwest::Method;
use serde_json::{Value, json};

use crate::job::lock;

/// The rows of a query whose item type is `Raw`.
pub(crate) async fn raw(hub: &TestHub, query: &str) -> Value {
    let answer = hub.query(query).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.body);
    assert_eq!(answer.headers["x-ms-item-type"], "Raw", "{query}");
    answer.body
}

#[tokio::test]
async fn a_projection_has_the_requested_members_that_exist() {
    let hub = TestHub::start().await;
    hub.add_devices(&[json!({ "floor": 1, "x": { "y": [1] } }), json!({})])
        .await;
    for (query, rows) in [
        (
            "SELECT DEVICEID, properties.desired.floor AS f, Properties.Desired.x.y FROM devices",
            json!([{ "deviceId": "d0", "f": 1, "y": [1] }, { "deviceId": "d1" }]),
        ),
        (
            "select top 1 statusReason, tags['no such'], properties.desired['$version'] \
             from devices",
            json!([{ "statusReason": null, "$version": 2 }]),
        ),
        (
            "SELECT tags.nothing\nFROM devices WHERE deviceId = 'd1'",
            json!([{}]),
        ),
        (
            "SELECT deviceId FROM devices WHERE deviceId = 'x'",
            json!([]),
        ),
    ] {
        assert_eq!(raw(&hub, query).await, rows, "{query}");
    }
}

#[tokio::test]
async fn groups_are_counted_and_summed() {
    let hub = TestHub::start().await;
    hub.add_devices(&[
        json!({ "floor": 1, "load": 2 }),
        json!({ "floor": 1, "load": 2.5 }),
        json!({ "floor": "1" }),
        json!({}),
    ])
    .await;
    for (query, rows) in [
        (
            "SELECT COUNT() AS numberOfDevices FROM devices",
            json!([{ "numberOfDevices": 4 }]),
        ),
        (
            "SELECT properties.desired.floor, COUNT() AS n, \
             sum(properties.desired.load), MAX(deviceId) AS last \
             FROM devices GROUP BY properties.desired.floor",
            json!([
                { "n": 1, "$1": 0, "last": "d3" },
                { "floor": 1, "n": 2, "$1": 4.5, "last": "d1" },
                { "floor": "1", "n": 1, "$1": 0, "last": "d2" },
            ]),
        ),
        (
            "SELECT AVG(properties.desired.load) AS mean, MIN(properties.desired.floor) AS least \
             FROM devices",
            json!([{ "mean": 2.25, "least": 1 }]),
        ),
        (
            "SELECT AVG(properties.desired.floor) AS mean FROM devices",
            json!([{}]),
        ),
        (
            "SELECT TOP 1 status, COUNT() AS n FROM devices \
             WHERE deviceId != 'd0' GROUP BY status",
            json!([{ "status": "enabled", "n": 3 }]),
        ),
    ] {
        assert_eq!(raw(&hub, query).await, rows, "{query}");
    }
}

/// A page of two rows after `continuation`, and its own continuation.
pub(crate) async fn page(
    hub: &TestHub,
    query: &str,
    continuation: &str,
) -> (Answer, Option<String>) {
    let request = hub
        .request(Method::POST, "/devices/query")
        .header("x-ms-max-item-count", "2")
        .header("x-ms-continuation", continuation);
    let page = answer(request.json(&json!({ "query": query }))).await;
    let next = page.headers.get("x-ms-continuation");
    let next = next.map(|text| text.to_str().unwrap().to_owned());
    let largest = page
        .headers
        .get("x-largest-page")
        .map(|size| size.to_str().unwrap());
    assert_eq!(largest, next.as_ref().map(|_| "1000"));
    (page, next)
}

/// All pages of a query, two rows each; `between` runs after each page except the last.
pub(crate) async fn pages<F: Future<Output = ()>>(
    hub: &TestHub,
    query: &str,
    item_type: &str,
    between: impl Fn(usize) -> F,
) -> Vec<Vec<Value>> {
    let mut pages: Vec<Vec<Value>> = Vec::new();
    let mut continuation = String::new();
    loop {
        let (found, next) = page(hub, query, &continuation).await;
        assert_eq!(found.headers["x-ms-item-type"], item_type);
        pages.push(found.ok().as_array().unwrap().clone());
        let Some(next) = next else {
            return pages;
        };
        continuation = next;
        between(pages.len()).await;
    }
}

#[tokio::test]
async fn pages_of_groups_stay_consistent_while_devices_are_added_and_removed() {
    let hub = TestHub::start().await;
    let desired: Vec<Value> = (1..=5).map(|floor| json!({ "floor": floor })).collect();
    hub.add_devices(&desired).await;
    let query = "SELECT properties.desired.floor, COUNT() AS n FROM devices \
                 GROUP BY properties.desired.floor";
    let hub = &hub;
    let found = pages(hub, query, "Raw", |page| async move {
        // The groups of the first page disappear, a group appears before them, and the last one
        // grows.
        if page == 1 {
            for gone in ["d0", "d1"] {
                answer(hub.request(Method::DELETE, &format!("/devices/{gone}"))).await;
            }
            for (id, floor) in [("early", 0), ("late", 5)] {
                hub.add_device(id).await;
                let twin = json!({ "properties": { "desired": { "floor": floor } } });
                assert_eq!(hub.patch(&format!("/twins/{id}"), twin).await.status, 200);
            }
        }
    })
    .await;
    let expected = [
        vec![json!({ "floor": 1, "n": 1 }), json!({ "floor": 2, "n": 1 })],
        vec![json!({ "floor": 3, "n": 1 }), json!({ "floor": 4, "n": 1 })],
        vec![json!({ "floor": 5, "n": 2 })],
    ];
    assert_eq!(found, expected);
    let three = query.replace("SELECT", "SELECT TOP 3");
    let found = pages(hub, &three, "Raw", |_| async {}).await;
    let floors: Vec<usize> = found.iter().map(Vec::len).collect();
    assert_eq!(floors, [2, 1]);
}

#[tokio::test]
async fn a_projection_is_paged() {
    let hub = TestHub::start().await;
    for id in ["a", "b", "c"] {
        hub.add_device(id).await;
    }
    let found = pages(&hub, "SELECT deviceId FROM devices", "Raw", |_| async {}).await;
    let ids =
        |page: &[&str]| -> Vec<Value> { page.iter().map(|id| json!({ "deviceId": id })).collect() };
    assert_eq!(found, [ids(&["a", "b"]), ids(&["c"])]);
}

#[tokio::test]
async fn records_of_jobs_are_selected_by_the_devices_answer() {
    let hub = TestHub::start().await;
    for id in ["a", "b"] {
        hub.add_device(id).await;
    }
    let job = json!({
        "jobId": "move", "type": "scheduleUpdateTwin", "queryCondition": "*",
        "maxExecutionTimeInSeconds": 60, "updateTwin": { "etag": "*", "tags": { "x": 1 } },
    });
    let made = hub.put("/jobs/v2/move", job).await;
    assert_eq!(made.status, 200, "{}", made.body);
    hub.job("move", &["completed"]).await;
    for (condition, count) in [
        ("IS_DEFINED(outcome.deviceMethodResponse)", 2),
        ("outcome.deviceMethodResponse = null", 2),
        ("NOT IS_DEFINED(outcome.deviceMethodResponse.status)", 2),
        ("IS_DEFINED(error)", 0),
    ] {
        let query = format!("SELECT * FROM devices.jobs WHERE {condition}");
        let found = hub.query(&query).await;
        assert_eq!(found.status, 200, "{}", found.body);
        assert_eq!(found.body.as_array().unwrap().len(), count, "{condition}");
    }
    let rows = raw(
        &hub,
        "SELECT devices.jobs.DeviceId, status, outcome.deviceMethodResponse AS answer, error \
         FROM devices.jobs WHERE jobId = 'move'",
    )
    .await;
    let row = |id| json!({ "deviceId": id, "status": "completed", "answer": null });
    assert_eq!(rows, json!([row("a"), row("b")]));
}

/// An answered call, an unanswered one and a change of a twin: SQL finds each record under the same
/// conditions as the evaluator does over its document.
#[tokio::test]
async fn sql_finds_records_of_jobs_as_the_evaluator_does() {
    let hub = TestHub::start().await;
    let mut devices = Vec::new();
    for (id, status) in [("a", 200), ("b", 500)] {
        let key = hub.add_device(id).await;
        devices.push(hub.connect(id, &key, status).await);
    }
    hub.add_device("away").await;
    // Nested more deeply than SQLite can parse.
    let deep = (0..1500).fold("null".to_owned(), |inner, _| format!("[{inner}]"));
    let payloads = [
        (
            "plain",
            "*",
            json!({ "lockTime": "10m", "list": [1] }).to_string(),
        ),
        ("empty", "deviceId = 'a'", "null".to_owned()),
        ("deep", "deviceId = 'a'", deep),
    ];
    for (job, condition, payload) in payloads {
        let request = lock(condition, -1000).to_string();
        let request = request.replace(r#"{"lockTime":"10m"}"#, &payload);
        let made = hub.request(Method::PUT, &format!("/jobs/v2/{job}"));
        let made = answer(
            made.header("content-type", "application/json")
                .body(request),
        )
        .await;
        assert_eq!(made.status, 200, "{}", made.body);
        // The job's own document is nested too deeply for this client.
        let ended = format!(
            "SELECT * FROM devices.jobs WHERE jobId = '{job}' AND NOT IS_DEFINED(endTimeUtc)"
        );
        eventually("the job ends", || async {
            let began = raw(
                &hub,
                &format!("SELECT jobId FROM devices.jobs WHERE jobId = '{job}'"),
            )
            .await;
            let unended = hub.query(&ended).await;
            (began != json!([]) && unended.body == json!([])).then_some(())
        })
        .await;
    }
    let move_all = json!({
        "type": "scheduleUpdateTwin", "queryCondition": "*", "maxExecutionTimeInSeconds": 60,
        "updateTwin": { "etag": "*", "tags": { "x": 1 } },
    });
    let made = hub.put("/jobs/v2/move", move_all).await;
    assert_eq!(made.status, 200, "{}", made.body);
    hub.job("move", &["completed"]).await;

    let all = hub
        .query("SELECT * FROM devices.jobs WHERE jobId != 'deep'")
        .await;
    let documents = all.body.as_array().unwrap().clone();
    assert_eq!(documents.len(), 3 + 1 + 3);
    let status = "SELECT deviceId, outcome.deviceMethodResponse.status FROM devices.jobs \
                  WHERE jobId = 'deep'";
    assert_eq!(
        raw(&hub, status).await,
        json!([{ "deviceId": "a", "status": 200 }])
    );
    for path in RECORD_PATHS {
        for condition in [
            format!("IS_DEFINED({path})"),
            format!("{path} = null"),
            format!("NOT {path} = null"),
            format!("{path} > 'a' OR {path} IN ['a', 200, '10m', null]"),
            format!("{path} >= 200"),
            format!("STARTSWITH({path}, 'D')"),
        ] {
            // SQLite also evaluates this for the deep record, which does not match.
            let text =
                format!("SELECT * FROM devices.jobs WHERE ({condition}) AND jobId != 'deep'");
            let found = hub.query(&text).await;
            assert_eq!(found.status, 200, "{text}: {}", found.body);
            let expected = query::answer(&query::parse(&text).unwrap(), &documents);
            assert_eq!(found.body, json!(expected), "{text}");
        }
        let text =
            format!("SELECT deviceId AS id, {path} AS x FROM devices.jobs WHERE jobId != 'deep'");
        let expected = query::answer(&query::parse(&text).unwrap(), &documents);
        assert_eq!(raw(&hub, &text).await, json!(expected), "{text}");
    }
}

const RECORD_PATHS: [&str; 19] = [
    "deviceId",
    "jobId",
    "jobType",
    "status",
    "startTimeUtc",
    "endTimeUtc",
    "createdTimeUtc",
    "lastUpdatedDateTimeUtc",
    "outcome",
    "outcome.deviceMethodResponse",
    "outcome.deviceMethodResponse.status",
    "outcome.deviceMethodResponse.payload",
    "outcome.deviceMethodResponse.payload.lockTime",
    "outcome.deviceMethodResponse.payload.list",
    "error",
    "error.code",
    "error.description",
    "moduleId",
    "outcome.other",
];

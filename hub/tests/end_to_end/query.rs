//! Queries over twins, and their pages.

use std::future::Future;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{TestHub, answer};

#[tokio::test]
async fn conditions_find_what_they_say_and_nothing_else() {
    let hub = TestHub::start().await;
    hub.add_devices(&[
        json!({ "building": 43, "floor": 1 }),
        json!({ "building": 43, "floor": 3, "open": true }),
        json!({ "building": "43", "floor": 3 }),
        json!({ "floor": null }),
    ])
    .await;
    for (condition, found) in [
        ("properties.desired.building = 43", vec!["d0", "d1"]),
        ("properties.desired.building = '43'", vec!["d2"]),
        ("properties.desired.building != 43", vec![]),
        (
            "properties.desired.building IN [43, '43'] AND properties.desired.floor = 3",
            vec!["d1", "d2"],
        ),
        ("properties.desired.floor > 1", vec!["d1", "d2"]),
        ("NOT properties.desired.floor > 1", vec!["d0"]),
        ("properties.desired.open = true", vec!["d1"]),
        ("properties.desired.open = 1", vec![]),
        (
            "is_defined(properties.desired.building)",
            vec!["d0", "d1", "d2"],
        ),
        ("deviceId in ['d0', 'd3', 'nobody']", vec!["d0", "d3"]),
        (
            "STARTSWITH(deviceId, 'd') AND status = 'enabled' OR deviceId = 'x'",
            vec!["d0", "d1", "d2", "d3"],
        ),
    ] {
        assert_eq!(hub.find(condition).await, found, "{condition}");
    }
}

#[tokio::test]
async fn every_page_says_what_it_holds_and_the_last_one_has_no_continuation() {
    let hub = TestHub::start().await;
    let empty = hub.query("SELECT * FROM devices").await;
    assert_eq!(empty.body, json!([]));
    assert_eq!(empty.headers["x-ms-item-type"], "Twin");
    assert!(!empty.headers.contains_key("x-ms-continuation"));
    for id in ["a", "b", "c"] {
        hub.add_device(id).await;
    }
    let whole = hub.query("SELECT * FROM devices").await;
    assert_eq!(whole.body.as_array().unwrap().len(), 3);
    assert!(!whole.headers.contains_key("x-ms-continuation"));
}

async fn page(
    hub: &TestHub,
    query: &str,
    continuation: Option<&str>,
) -> (Vec<String>, Option<String>) {
    let mut request = hub
        .request(Method::POST, "/devices/query")
        .header("x-ms-max-item-count", "2");
    if let Some(continuation) = continuation {
        request = request.header("x-ms-continuation", continuation);
    }
    let page = answer(request.json(&json!({ "query": query }))).await;
    assert_eq!(page.status, 200, "{}", page.body);
    let id = |twin: &Value| twin["deviceId"].as_str().unwrap().to_owned();
    let continuation = page
        .headers
        .get("x-ms-continuation")
        .map(|text| text.to_str().unwrap().to_owned());
    (
        page.body.as_array().unwrap().iter().map(id).collect(),
        continuation,
    )
}

#[tokio::test]
async fn pages_stay_right_while_devices_come_and_go() {
    let hub = TestHub::start().await;
    for id in ["a", "b", "c", "d", "e"] {
        hub.add_device(id).await;
    }
    let query = "SELECT * FROM devices WHERE status = 'enabled'";
    let (first, next) = page(&hub, query, None).await;
    assert_eq!(first, ["a", "b"]);
    for gone in ["a", "c"] {
        answer(hub.request(Method::DELETE, &format!("/devices/{gone}"))).await;
    }
    hub.add_device("new").await;
    let (second, next) = page(&hub, query, next.as_deref()).await;
    assert_eq!(second, ["d", "e"]);
    let (third, next) = page(&hub, query, next.as_deref()).await;
    assert_eq!(third, ["new"]);
    assert_eq!(next, None);
}

#[tokio::test]
async fn a_continuation_belongs_to_its_query() {
    let hub = TestHub::start().await;
    for id in ["a", "b", "c"] {
        hub.add_device(id).await;
    }
    let (_, next) = page(&hub, "SELECT * FROM devices", None).await;
    for (query, continuation) in [
        ("SELECT * FROM devices WHERE deviceId = 'c'", next.unwrap()),
        ("SELECT * FROM devices", "??".into()),
    ] {
        let request = hub
            .request(Method::POST, "/devices/query")
            .header("x-ms-continuation", continuation);
        let refused = answer(request.json(&json!({ "query": query }))).await;
        assert_eq!(refused.status, 400, "{}", refused.body);
    }
}

#[tokio::test]
async fn a_query_that_cannot_be_read_says_where() {
    let hub = TestHub::start().await;
    let refused = hub.query("SELECT * FROM devices WHERE tags.floor ==").await;
    assert_eq!(refused.status, 400);
    let message = refused.body["Message"].as_str().unwrap();
    assert!(
        message.starts_with("ErrorCode:ArgumentInvalid;"),
        "{message}"
    );
    assert!(message.contains("line 1, column 41"), "{message}");
    let missing = hub.post("/devices/query", json!({})).await;
    assert_eq!(missing.status, 400);
    assert_eq!(missing.headers["iothub-errorcode"], "ArgumentNull");
}

#[tokio::test]
async fn top_bounds_all_pages_together() {
    let hub = TestHub::start().await;
    for id in ["a", "b", "c", "d", "e"] {
        hub.add_device(id).await;
    }
    let query = "SELECT TOP 3 * FROM devices";
    let (first, next) = page(&hub, query, None).await;
    assert_eq!(first, ["a", "b"]);
    let (second, next) = page(&hub, query, next.as_deref()).await;
    assert_eq!(second, ["c"]);
    assert_eq!(next, None);
}

/// The rows of a query, which are of no documented shape.
async fn raw(hub: &TestHub, query: &str) -> Value {
    let answer = hub.query(query).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.body);
    assert_eq!(answer.headers["x-ms-item-type"], "Raw", "{query}");
    answer.body
}

#[tokio::test]
async fn a_selection_holds_what_was_asked_for_and_is_there() {
    let hub = TestHub::start().await;
    hub.add_devices(&[json!({ "floor": 1, "x": { "y": [1] } }), json!({})])
        .await;
    for (query, rows) in [
        (
            "SELECT DEVICEID, properties.desired.floor AS f, Properties.Desired.x.y FROM devices",
            json!([{ "deviceId": "d0", "f": 1, "y": [1] }, { "deviceId": "d1" }]),
        ),
        (
            "select top 1 statusReason, tags['no such'], properties.desired['$version'] from devices",
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
            "SELECT properties.desired.floor, COUNT() AS n, sum(properties.desired.load), MAX(deviceId) AS last \
             FROM devices GROUP BY properties.desired.floor",
            json!([
                { "n": 1, "$1": 0, "last": "d3" },
                { "floor": 1, "n": 2, "$1": 4.5, "last": "d1" },
                { "floor": "1", "n": 1, "$1": 0, "last": "d2" },
            ]),
        ),
        (
            "SELECT AVG(properties.desired.load) AS mean, MIN(properties.desired.floor) AS least FROM devices",
            json!([{ "mean": 2.25, "least": 1 }]),
        ),
        (
            "SELECT AVG(properties.desired.floor) AS mean FROM devices",
            json!([{}]),
        ),
        (
            "SELECT TOP 1 status, COUNT() AS n FROM devices WHERE deviceId != 'd0' GROUP BY status",
            json!([{ "status": "enabled", "n": 3 }]),
        ),
    ] {
        assert_eq!(raw(&hub, query).await, rows, "{query}");
    }
}

/// All pages of a query, two rows each; `between` is done after each page but the last.
async fn pages<F: Future<Output = ()>>(
    hub: &TestHub,
    query: &str,
    between: impl Fn(usize) -> F,
) -> Vec<Vec<Value>> {
    let mut pages: Vec<Vec<Value>> = Vec::new();
    let mut continuation: Option<String> = None;
    loop {
        let mut request = hub
            .request(Method::POST, "/devices/query")
            .header("x-ms-max-item-count", "2");
        if let Some(continuation) = &continuation {
            request = request.header("x-ms-continuation", continuation);
        }
        let page = answer(request.json(&json!({ "query": query }))).await;
        assert_eq!(page.status, 200, "{}", page.body);
        assert_eq!(page.headers["x-ms-item-type"], "Raw");
        pages.push(page.body.as_array().unwrap().clone());
        let next = page.headers.get("x-ms-continuation");
        continuation = next.map(|text| text.to_str().unwrap().to_owned());
        if continuation.is_none() {
            return pages;
        }
        between(pages.len()).await;
    }
}

#[tokio::test]
async fn groups_come_in_pages_that_stay_right_while_devices_come_and_go() {
    let hub = TestHub::start().await;
    let desired: Vec<Value> = (1..=5).map(|floor| json!({ "floor": floor })).collect();
    hub.add_devices(&desired).await;
    let query = "SELECT properties.desired.floor, COUNT() AS n FROM devices GROUP BY properties.desired.floor";
    let hub = &hub;
    let found = pages(hub, query, |page| async move {
        // The groups of the first page go, and one comes before them; the last group grows.
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
    let found = pages(hub, &three, |_| async {}).await;
    let floors: Vec<usize> = found.iter().map(Vec::len).collect();
    assert_eq!(floors, [2, 1]);
}

#[tokio::test]
async fn a_selection_comes_in_pages() {
    let hub = TestHub::start().await;
    for id in ["a", "b", "c"] {
        hub.add_device(id).await;
    }
    let found = pages(&hub, "SELECT deviceId FROM devices", |_| async {}).await;
    let ids =
        |page: &[&str]| -> Vec<Value> { page.iter().map(|id| json!({ "deviceId": id })).collect() };
    assert_eq!(found, [ids(&["a", "b"]), ids(&["c"])]);
}

#[tokio::test]
async fn a_continuation_is_good_after_a_restart() {
    let hub = TestHub::start().await;
    for id in ["a", "b", "c"] {
        hub.add_device(id).await;
    }
    let query = "SELECT * FROM devices";
    let (first, next) = page(&hub, query, None).await;
    assert_eq!(first, ["a", "b"]);
    let hub = hub.killed_and_started().await;
    let (second, next) = page(&hub, query, next.as_deref()).await;
    assert_eq!((second, next), (vec!["c".to_owned()], None));
}

#[tokio::test]
async fn a_query_sees_what_was_answered_before_it() {
    let hub = TestHub::start().await;
    hub.add_device("a").await;
    for floor in 0..20 {
        let twin = json!({ "tags": { "floor": floor } });
        assert_eq!(hub.patch("/twins/a", twin).await.status, 200);
        let query = format!("SELECT tags.floor FROM devices WHERE tags.floor = {floor}");
        assert_eq!(raw(&hub, &query).await, json!([{ "floor": floor }]));
        let count = raw(&hub, "SELECT MAX(tags.floor) AS f FROM devices").await;
        assert_eq!(count, json!([{ "f": floor }]));
    }
    answer(hub.request(Method::DELETE, "/devices/a")).await;
    let count = raw(&hub, "SELECT COUNT() AS n FROM devices").await;
    assert_eq!(count, json!([{ "n": 0 }]));
}

#[tokio::test]
async fn case_space_brackets_and_escapes_are_read_as_documented() {
    let hub = TestHub::start().await;
    hub.add_device("a").await;
    let tags = json!({ "my-tag": "it's \"ü\" \\", "Case": 1, "from": { "where": 2 } });
    let patched = hub.patch("/twins/a", json!({ "tags": tags })).await;
    assert_eq!(patched.status, 200, "{}", patched.body);
    for (condition, found) in [
        (r#"tags['my-tag'] = 'it\'s "\u00fc" \\'"#, true),
        (r#"tags["my-tag"] = "it's \"ü\" \\""#, true),
        ("TAGS.Case=1", true),
        ("tags.case = 1", false),
        (
            "Devices.Tags.Case >= 0x1 and\r\n\tNot(DEVICEid\n=\n'A')",
            true,
        ),
        ("tags.from.where = 2", true),
        ("tags['from']['where'] In[2]", true),
        ("endswith(tags['my-tag'],'\\\\')", true),
    ] {
        let expected: &[&str] = if found { &["a"] } else { &[] };
        assert_eq!(hub.find(condition).await, expected, "{condition}");
    }
    let rows = raw(
        &hub,
        "  SELECT\n tags['my-tag'],tags.from.where  AS  w\tFROM\tdevices  ",
    )
    .await;
    assert_eq!(rows, json!([{ "my-tag": tags["my-tag"], "w": 2 }]));
}

#[tokio::test]
async fn every_refused_query_says_where_and_why() {
    let hub = TestHub::start().await;
    let long = format!(
        "SELECT * FROM devices WHERE tags.a = '{}'",
        "x".repeat(8192)
    );
    let deep = format!(
        "SELECT * FROM devices WHERE {}tags.a{}",
        "(".repeat(33),
        ")".repeat(33)
    );
    for (query, place, reason) in [
        (
            "SELECT * FROM devices.modules",
            "line 1, column 15",
            "modules are not built",
        ),
        (
            "SELECT COUNT() AS n\nFROM  devices.modules",
            "line 2, column 7",
            "modules are not built",
        ),
        (
            "SELECT * FROM doors",
            "line 1, column 15",
            "expected `devices`",
        ),
        (
            "SELECT * FROM devices WHERE CONTAINS(tags.a, 'x')",
            "line 1, column 29",
            "unknown function `CONTAINS`",
        ),
        (
            "SELECT LENGTH(tags.a) FROM devices",
            "line 1, column 8",
            "expected COUNT, AVG, SUM, MIN or MAX",
        ),
        (
            "SELECT SUM('x') FROM devices",
            "line 1, column 12",
            "expected a property",
        ),
        (
            "SELECT TOP many * FROM devices",
            "line 1, column 12",
            "expected a number of rows",
        ),
        (
            "SELECT deviceId, COUNT() FROM devices",
            "line 1, column 8",
            "differs within a group",
        ),
        (
            "SELECT * FROM devices\nGROUP BY status",
            "line 2, column 1",
            "`*` has no groups",
        ),
        (
            "SELECT COUNT() FROM devices.jobs",
            "line 1, column 8",
            "COUNT is not for devices.jobs",
        ),
        (
            "SELECT tags.a, tags.b.a FROM devices",
            "line 1, column 16",
            "a second `a`",
        ),
        (&long, "line 1, column 8193", "expected at most 8192"),
        (&deep, "line 1, column 61", "too deep"),
    ] {
        let refused = hub.query(query).await;
        assert_eq!(refused.status, 400, "{query}");
        assert_eq!(refused.headers["iothub-errorcode"], "ArgumentInvalid");
        let message = refused.body["Message"].as_str().unwrap();
        assert!(message.contains(place), "{query}: {message}");
        assert!(message.contains(reason), "{query}: {message}");
    }
}

#[tokio::test]
async fn records_of_jobs_are_selected_by_what_the_device_answered() {
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
        "SELECT devices.jobs.DeviceId, status, outcome.deviceMethodResponse AS answer, error FROM devices.jobs WHERE jobId = 'move'",
    )
    .await;
    let row = |id| json!({ "deviceId": id, "status": "completed", "answer": null });
    assert_eq!(rows, json!([row("a"), row("b")]));
}

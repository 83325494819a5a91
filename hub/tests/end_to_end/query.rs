//! Queries over twins, and their pages.

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

#[tokio::test]
async fn what_is_understood_but_not_done_says_so() {
    let hub = TestHub::start().await;
    for query in [
        "SELECT deviceId FROM devices",
        "SELECT COUNT() AS n FROM devices",
        "SELECT status, COUNT() AS n FROM devices GROUP BY status",
    ] {
        let refused = hub.query(query).await;
        assert_eq!(refused.status, 400, "{query}");
        let message = refused.body["Message"].as_str().unwrap();
        assert!(message.contains("`SELECT *` alone"), "{message}");
    }
}

//! Queries over twins, and their pages.

use doorfleet_testing::{TestHub, texts};
use reqwest::Method;
use serde_json::{Value, json};

use crate::query_rows::{page, pages, raw};

fn ids(pages: Vec<Vec<Value>>) -> Vec<Vec<String>> {
    let pages = pages.into_iter();
    pages.map(|page| texts(&page.into(), "deviceId")).collect()
}

#[tokio::test]
async fn a_condition_selects_exactly_the_matching_devices() {
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
async fn every_page_names_its_item_type_and_the_last_one_has_no_continuation() {
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

#[tokio::test]
async fn pages_stay_consistent_while_devices_are_added_and_removed() {
    let hub = &TestHub::start().await;
    for id in ["a", "b", "c", "d", "e"] {
        hub.add_device(id).await;
    }
    let query = "SELECT * FROM devices WHERE status = 'enabled'";
    let found = pages(hub, query, "Twin", |page| async move {
        if page == 1 {
            for gone in ["/devices/a", "/devices/c"] {
                hub.send(Method::DELETE, gone, None).await;
            }
            hub.add_device("new").await;
        }
    })
    .await;
    assert_eq!(ids(found), [vec!["a", "b"], vec!["d", "e"], vec!["new"]]);
}

#[tokio::test]
async fn a_continuation_belongs_to_its_query() {
    let hub = TestHub::start().await;
    for id in ["a", "b", "c"] {
        hub.add_device(id).await;
    }
    let (_, next) = page(&hub, "SELECT * FROM devices", "").await;
    for (query, continuation) in [
        (
            "SELECT * FROM devices WHERE deviceId = 'c'",
            next.unwrap().as_str(),
        ),
        ("SELECT * FROM devices", "??"),
    ] {
        let (refused, _) = page(&hub, query, continuation).await;
        assert_eq!(refused.status, 400, "{}", refused.body);
    }
}

#[tokio::test]
async fn top_limits_all_pages_together() {
    let hub = TestHub::start().await;
    for id in ["a", "b", "c", "d", "e"] {
        hub.add_device(id).await;
    }
    let found = pages(&hub, "SELECT TOP 3 * FROM devices", "Twin", |_| async {}).await;
    assert_eq!(ids(found), [vec!["a", "b"], vec!["c"]]);
}

#[tokio::test]
async fn a_continuation_is_valid_after_a_restart() {
    let hub = TestHub::start().await;
    for id in ["a", "b", "c"] {
        hub.add_device(id).await;
    }
    let query = "SELECT * FROM devices";
    let (first, next) = page(&hub, query, "").await;
    assert_eq!(texts(&first.body, "deviceId"), ["a", "b"]);
    let hub = hub.restart_after_kill().await;
    let (second, next) = page(&hub, query, &next.unwrap()).await;
    assert_eq!(texts(&second.body, "deviceId"), ["c"]);
    assert_eq!(next, None);
}

#[tokio::test]
async fn a_query_sees_every_acknowledged_write() {
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
    hub.send(Method::DELETE, "/devices/a", None).await;
    let count = raw(&hub, "SELECT COUNT() AS n FROM devices").await;
    assert_eq!(count, json!([{ "n": 0 }]));
}

#[tokio::test]
async fn case_white_space_brackets_and_escapes_are_parsed_as_documented() {
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
async fn every_rejected_query_names_the_position_and_the_reason() {
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
            "`*` cannot be grouped",
        ),
        (
            "SELECT COUNT() FROM devices.jobs",
            "line 1, column 8",
            "COUNT is not supported for devices.jobs",
        ),
        (
            "SELECT tags.a, tags.b.a FROM devices",
            "line 1, column 16",
            "duplicate name `a`",
        ),
        (
            "SELECT * FROM devices WHERE tags.floor ==",
            "line 1, column 41",
            "expected",
        ),
        (&long, "line 1, column 8193", "expected at most 8192"),
        (&deep, "line 1, column 61", "too deep"),
    ] {
        let refused = hub.query(query).await;
        refused.refused(400, "ArgumentInvalid", &[place, reason]);
    }
    let missing = hub.post("/devices/query", json!({})).await;
    missing.refused(400, "ArgumentNull", &[]);
}

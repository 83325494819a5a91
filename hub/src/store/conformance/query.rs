use iothub_protocol::query::{Condition, Query, answer, column_names, matches, parse, project};
use iothub_protocol::twin::Twin;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::json;

use super::*;
use crate::store::device::TwinText;
use crate::store::page::PAGE_BYTES;

pub(crate) mod generate;

/// Databases of random twins that one test compares with the evaluator.
const ROUNDS: usize = 4;

/// Random conditions or statements for each of them.
const TEXTS: usize = 40;

type Document = (Value, Value, Value);

/// Adds a device with these tags, desired and reported properties.
async fn add_twin(test: &TestStore, id: &str, reason: Option<&str>, document: &Document) {
    let mut record = DeviceRecord::new(device(id), "1".into(), "MQ==".into());
    record.status_reason = reason.map(str::to_owned);
    record.iot_edge = reason.is_none();
    assert!(test.store.device_insert(record).await.unwrap());
    let (tags, desired, reported) = document.clone();
    let change = move |twin: &mut TwinRecord| {
        twin.desired.values = object(desired);
        twin.reported.values = object(reported);
        let change = TwinChange {
            desired: Some("{}".into()),
            reported: true,
            ..retag(twin, object(tags))
        };
        ok((change, ()))
    };
    let changed = test.store.twin_update(&device(id), None, change).await;
    assert!(changed.unwrap().is_some());
}

async fn add_tags(test: &TestStore, id: &str, tags: Value) {
    add_twin(test, id, None, &(tags, json!({}), json!({}))).await;
}

/// The twins that match a condition, read in pages of `size`.
async fn twins(test: &TestStore, condition: Option<&Condition>, size: u32) -> Vec<TwinText> {
    let (mut found, mut after) = (Vec::new(), Some(RowPosition::START));
    while let Some(start) = after {
        let page = test
            .store
            .query_twins(condition.cloned(), Sections::ALL, start, size);
        let page = page.await.unwrap();
        assert!(page.rows.len() <= size as usize);
        found.extend(page.rows);
        after = page.next;
    }
    found
}

async fn found(test: &TestStore, condition: &str, size: u32) -> Vec<String> {
    let condition = parse_condition(condition).unwrap();
    let twins = twins(test, Some(&condition), size).await.into_iter();
    twins
        .map(|twin| twin.device.device_id.to_string())
        .collect()
}

fn document(twin: TwinText) -> Value {
    serde_json::to_value(Twin::from(twin)).unwrap()
}

async fn documents(test: &TestStore) -> Vec<Value> {
    let twins = twins(test, None, 1000).await.into_iter();
    twins.map(document).collect()
}

/// The rows of a statement over devices, read in pages of `size`.
async fn rows(test: &TestStore, query: &Query, size: u32) -> Vec<Value> {
    let mut rows = Vec::new();
    if query.is_grouped() {
        let mut after = Some(GroupPosition::default());
        while let Some(start) = after {
            let page = test.store.query_groups(query.clone(), start, size);
            let page = page.await.unwrap();
            assert!(page.rows.len() <= size as usize);
            rows.extend(page.rows.into_iter().map(Value::Object));
            after = page.next;
        }
    } else {
        let names = column_names(query.items());
        for twin in twins(test, query.condition.as_ref(), size).await {
            let document = document(twin);
            rows.push(match query.items() {
                [] => document,
                items => Value::Object(project(items, &names, &document)),
            });
        }
    }
    let top = query.top.and_then(|top| usize::try_from(top).ok());
    rows.truncate(top.unwrap_or(usize::MAX));
    rows
}

/// A value of `strategy`.
fn random<T: std::fmt::Debug>(runner: &mut TestRunner, strategy: impl Strategy<Value = T>) -> T {
    strategy.new_tree(runner).unwrap().current()
}

/// Fills the database with random twins, in the place of those of an earlier call.
async fn add_random_twins(test: &TestStore, runner: &mut TestRunner) -> Vec<Document> {
    for record in test.store.device_list(100, None).await.unwrap() {
        test.remove(record.device_id.as_ref()).await;
    }
    let object = || generate::object_of(generate::value());
    let documents = prop::collection::vec((object(), object(), object()), 1..8);
    let documents = random(runner, documents);
    for (number, document) in documents.iter().enumerate() {
        let reason = (number % 2 == 0).then_some("a");
        add_twin(test, &format!("d{number}"), reason, document).await;
    }
    documents
}

pub(crate) async fn conditions_match_as_the_evaluator_does(database: &TestDatabase) {
    let test = database.open().await;
    let mut runner = TestRunner::default();
    for _ in 0..ROUNDS {
        let twins_of_round = add_random_twins(&test, &mut runner).await;
        let documents = documents(&test).await;
        assert_eq!(documents.len(), twins_of_round.len());
        for _ in 0..TEXTS {
            let text = random(&mut runner, generate::condition());
            let condition = parse_condition(&text).unwrap();
            let expected = documents.iter().filter(|twin| matches(&condition, twin));
            let expected: Vec<&str> = expected
                .map(|twin| twin["deviceId"].as_str().unwrap())
                .collect();
            assert_eq!(
                found(&test, &text, 3).await,
                expected,
                "{text}\n{twins_of_round:?}"
            );
        }
    }
}

pub(crate) async fn groups_are_those_of_the_evaluator(database: &TestDatabase) {
    let test = database.open().await;
    let mut runner = TestRunner::default();
    for _ in 0..ROUNDS {
        let twins_of_round = add_random_twins(&test, &mut runner).await;
        let documents = documents(&test).await;
        for _ in 0..TEXTS {
            let text = random(&mut runner, generate::statement());
            let query = parse(&text).unwrap();
            assert_eq!(
                rows(&test, &query, 2).await,
                answer(&query, &documents),
                "{text}\n{twins_of_round:?}"
            );
        }
    }
}

pub(crate) async fn strings_are_ordered_by_their_bytes(database: &TestDatabase) {
    let test = database.open().await;
    // In the order of their bytes, which is that of no language.
    let texts = [
        "",
        "\u{0}",
        "-",
        "1E2",
        "A",
        "Z",
        "_",
        "a",
        "a\u{0}",
        "aa",
        "é",
        "\u{10ffff}",
    ];
    for (number, text) in texts.iter().rev().enumerate() {
        add_tags(&test, &format!("d{number:02}"), json!({ "x": text })).await;
    }
    for (number, text) in texts.iter().enumerate() {
        let text = serde_json::to_string(text).unwrap().replace('"', "'");
        for (condition, expected) in [
            (format!("tags.x < {text}"), number),
            (format!("tags.x <= {text}"), number + 1),
            (format!("tags.x = {text}"), 1),
            (format!("tags.x > {text}"), texts.len() - number - 1),
        ] {
            let count = found(&test, &condition, 100).await.len();
            assert_eq!(count, expected, "{condition}");
        }
    }
    let query = parse("SELECT tags.x AS x, COUNT() AS n FROM devices GROUP BY tags.x").unwrap();
    for size in [1, 100] {
        let groups = rows(&test, &query, size).await;
        let groups: Vec<&str> = groups
            .iter()
            .map(|row| row["x"].as_str().unwrap())
            .collect();
        assert_eq!(groups, texts);
    }
    let query = parse("SELECT MIN(tags.x) AS a, MAX(tags.x) AS z FROM devices").unwrap();
    let expected = json!({ "a": "", "z": "\u{10ffff}" });
    assert_eq!(rows(&test, &query, 1).await, [expected]);
}

pub(crate) async fn sections_that_nobody_reads_are_empty(database: &TestDatabase) {
    let test = database.open().await;
    let values = (json!({"t": 1}), json!({"d": 2}), json!({"r": 3}));
    add_twin(&test, "a", None, &values).await;
    let [whole] = &documents(&test).await[..] else {
        panic!("expected one twin");
    };
    for (select, kept) in [
        ("deviceId", [false, false, false]),
        ("tags", [true, false, false]),
        ("tags.t, version", [true, false, false]),
        ("properties.desired.d", [false, true, false]),
        ("properties.desired.$metadata", [false, true, false]),
        ("properties.reported", [false, false, true]),
        ("properties", [false, true, true]),
        ("tags.t, properties.reported.r", [true, false, true]),
    ] {
        let query = parse(&format!("SELECT {select} FROM devices")).unwrap();
        let sections = Sections::of(query.items());
        let page = test
            .store
            .query_twins(None, sections, RowPosition::START, 9);
        let [read] = <[TwinText; 1]>::try_from(page.await.unwrap().rows).unwrap();
        let read = document(read);
        for (is_kept, section) in
            kept.into_iter()
                .zip(["/tags", "/properties/desired", "/properties/reported"])
        {
            let (read, whole) = (read.pointer(section), whole.pointer(section));
            assert_eq!(read == whole, is_kept, "{select}: {section}");
        }
        let names = column_names(query.items());
        let project = |document| project(query.items(), &names, document);
        assert_eq!(project(&read), project(whole), "{select}");
    }
}

pub(crate) async fn pages_neither_repeat_nor_omit_a_row(database: &TestDatabase) {
    let test = database.open().await;
    for (id, floor) in [("d", 1), ("c", 2), ("b", 3), ("a", 4)] {
        add_tags(&test, id, json!({ "f": floor })).await;
    }
    let page = async |after| {
        let condition = parse_condition("IS_DEFINED(tags.f)").unwrap();
        let page = test
            .store
            .query_twins(Some(condition), Sections::ALL, after, 2);
        let page = page.await.unwrap();
        let ids = page
            .rows
            .iter()
            .map(|twin| twin.device.device_id.to_string());
        (ids.collect::<Vec<_>>(), page.next)
    };
    let groups = async |after| {
        let query = parse("SELECT tags.f, COUNT() AS n FROM devices GROUP BY tags.f").unwrap();
        let page = test.store.query_groups(query, after, 2).await.unwrap();
        let rows = Value::from_iter(page.rows.into_iter().map(Value::Object));
        (rows, page.next)
    };
    let (first, next) = page(RowPosition::START).await;
    assert_eq!(first, ["d", "c"]);
    let (first, next_group) = groups(GroupPosition::default()).await;
    assert_eq!(first, json!([{ "f": 1, "n": 1 }, { "f": 2, "n": 1 }]));
    // Between the pages rows come and go, the last one that was read among them.
    for id in ["d", "c", "b"] {
        test.remove(id).await;
    }
    for (id, floor) in [("c", 0), ("e", 2), ("f", 5)] {
        add_tags(&test, id, json!({ "f": floor })).await;
    }
    let (second, next) = page(next.unwrap()).await;
    assert_eq!(second, ["a", "c"]);
    let (third, next) = page(next.unwrap()).await;
    assert_eq!((third, next), (vec!["e".to_owned(), "f".to_owned()], None));
    let (second, next_group) = groups(next_group.unwrap()).await;
    assert_eq!(second, json!([{ "f": 4, "n": 1 }, { "f": 5, "n": 1 }]));
    assert_eq!(next_group, None);
    // A page also ends at its size.
    let large = "x".repeat(PAGE_BYTES / 3);
    for id in ["1", "2", "3", "4", "5"] {
        add_tags(&test, id, json!({ "large": large })).await;
    }
    let condition = parse_condition("IS_DEFINED(tags.large)").ok();
    let page = test
        .store
        .query_twins(condition, Sections::ALL, RowPosition::START, 100);
    let page = page.await.unwrap();
    assert_eq!((page.rows.len(), page.next.is_some()), (3, true));
    let all = found(&test, "IS_DEFINED(tags.large)", 100).await;
    assert_eq!(all, ["1", "2", "3", "4", "5"]);
}

pub(crate) async fn records_of_jobs_are_found_within_bounds(database: &TestDatabase) {
    let test = database.open().await;
    test.store
        .policy_list(["guard", "other"].map(policy).into())
        .await
        .unwrap();
    for (id, floor) in [("a", 3), ("b", 4), ("c", 3)] {
        add_tags(&test, id, json!({ "floor": floor })).await;
    }
    for (job, policy) in [("z", "guard"), ("y", "other"), ("x", "guard")] {
        let row = test.insert_job(job_of(job, policy)).await;
        let started = test.store.job_start(row, None, |_| Ok(None), now());
        assert_eq!(started.await.unwrap(), JobStart::Started(3));
        if job != "y" {
            test.claim(row, 0, 2).await;
            test.end(row, 1, true, failed("Timeout")).await;
        }
    }
    let find = async |condition: Option<&str>, scope: Option<Scope>, size: u32| -> String {
        let scope = scope.map(Arc::new);
        let (mut found, mut after) = (Vec::new(), Some(RowPosition::START));
        while let Some(start) = after {
            let condition = condition.and_then(|text| {
                let text = format!("SELECT * FROM devices.jobs WHERE {text}");
                parse(&text).unwrap().condition
            });
            let page = test
                .store
                .query_device_jobs(condition, scope.clone(), start, size);
            let page = page.await.unwrap();
            assert!(page.rows.len() <= size as usize);
            found.extend(
                page.rows
                    .iter()
                    .map(|row| format!("{}{}", row.job_id, row.device_id)),
            );
            after = page.next;
        }
        found.join(" ")
    };
    let inner = || Some(scope("tags.floor = 3"));
    for size in [1, 2, 100] {
        assert_eq!(find(None, None, size).await, "za zb zc ya yb yc xa xb xc");
        assert_eq!(find(Some("jobId = 'y'"), None, size).await, "ya yb yc");
        let found = find(Some("status = 'failed'"), None, size).await;
        assert_eq!(found, "zb xb");
        let running = Some("status = 'running' AND deviceId = 'a'");
        assert_eq!(find(running, None, size).await, "za xa");
        assert_eq!(find(None, inner(), size).await, "za zc xa xc");
        let found = find(Some("status = 'pending'"), inner(), size).await;
        assert_eq!(found, "zc xc");
    }
}

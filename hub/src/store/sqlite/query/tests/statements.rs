//! Whole statements, with rows and groups in pages, return the same as the plain evaluator.

use iothub_protocol::query::{answer, parse};

use super::*;
use crate::store::conformance::query::generate::statement;

/// The rows of a statement by SQL, in pages of `size`.
fn rows_by_sql(connection: &Connection, query: &Query, size: u32) -> Vec<Value> {
    scratch::rows(connection, query, size).unwrap()
}

fn documents(connection: &Connection) -> Vec<Value> {
    let all = parse("SELECT * FROM devices").unwrap();
    rows_by_sql(connection, &all, 1000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn statements_return_the_same_as_the_evaluator(
        twins in prop::collection::vec(
            (object_of(value()), object_of(value()), object_of(value())),
            0..8,
        ),
        statements in prop::collection::vec(statement(), 24),
        size in 1..5u32,
    ) {
        let connection = database();
        add_all(&connection, &twins);
        let documents = documents(&connection);
        prop_assert_eq!(documents.len(), twins.len());
        for text in &statements {
            let query = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let expected = answer(&query, &documents);
            prop_assert_eq!(rows_by_sql(&connection, &query, size), expected, "{}", text);
        }
    }
}

/// Long texts stay distinct although their keys are truncated, and groups stay in order across
/// pages.
#[test]
fn groups_of_long_texts_and_all_types_are_distinguished() {
    let connection = database();
    let long = |end: &str| Value::from("x".repeat(1000) + end);
    let values = [
        long("a"),
        long("b"),
        long("a"),
        json!("x"),
        json!("x\u{0}y"),
        json!(-3.5),
        json!(-0.0),
        json!(0),
        json!(1e300),
        json!(null),
        json!(true),
        json!([1]),
    ];
    for (number, value) in values.iter().enumerate() {
        let tags = json!({ "x": value, "y": number % 2 });
        add_tags(&connection, &format!("d{number:02}"), &tags);
    }
    add_tags(&connection, "none", &json!({}));
    let documents = documents(&connection);
    for text in [
        "SELECT tags.x, COUNT() AS n, MIN(deviceId) AS first FROM devices GROUP BY tags.x",
        "SELECT tags.y, tags.x, COUNT() AS n FROM devices GROUP BY tags.y, tags.x",
    ] {
        let query = parse(text).unwrap();
        let expected = answer(&query, &documents);
        assert_eq!(rows_by_sql(&connection, &query, 100).len(), expected.len());
        for size in [1, 2, 5] {
            let sorted = |mut rows: Vec<Value>| {
                rows.sort_by_key(ToString::to_string);
                rows
            };
            assert_eq!(
                sorted(rows_by_sql(&connection, &query, size)),
                sorted(expected.clone()),
                "{text}"
            );
        }
    }
}

/// A device that is added or removed between two pages does not affect other groups.
#[test]
fn pages_of_groups_are_stable_while_devices_are_added_and_removed() {
    let connection = database();
    let put = |id: &str, floor: i64| {
        let tags = json!({ "f": floor });
        add_tags(&connection, id, &tags);
    };
    for (id, floor) in [("a", 1), ("b", 2), ("c", 3), ("d", 4)] {
        put(id, floor);
    }
    let query = parse("SELECT tags.f, COUNT() AS n FROM devices GROUP BY tags.f").unwrap();
    let first = group::groups(&connection, &query, GroupPosition::default(), 2).unwrap();
    connection
        .execute_batch("DELETE FROM device WHERE device_id IN ('a', 'b', 'c')")
        .unwrap();
    connection
        .execute_batch("DELETE FROM twin WHERE id NOT IN (SELECT id FROM device)")
        .unwrap();
    for (id, floor) in [("e", 0), ("f", 2), ("g", 5)] {
        put(id, floor);
    }
    let second = group::groups(&connection, &query, first.next.unwrap(), 2).unwrap();
    let rows = |rows: Vec<_>| Value::from_iter(rows.into_iter().map(Value::Object));
    assert_eq!(
        rows(first.rows),
        json!([{ "f": 1, "n": 1 }, { "f": 2, "n": 1 }])
    );
    assert_eq!(
        rows(second.rows),
        json!([{ "f": 4, "n": 1 }, { "f": 5, "n": 1 }])
    );
    assert_eq!(second.next, None);
}

#[test]
fn a_page_ends_at_its_size_limit() {
    let connection = database();
    let tags = json!({ "x": "y".repeat(PAGE_BYTES / 3) });
    for id in ["a", "b", "c", "d", "e"] {
        add_tags(&connection, id, &tags);
    }
    let query = parse("SELECT tags.x FROM devices").unwrap();
    let first = twins(&connection, None, Sections::ALL, RowPosition::START, 100).unwrap();
    assert_eq!(first.rows.len(), 3);
    let second = twins(&connection, None, Sections::ALL, first.next.unwrap(), 100).unwrap();
    assert_eq!((second.rows.len(), second.next), (2, None));
    assert_eq!(rows_by_sql(&connection, &query, 100).len(), 5);
}

#[test]
fn sqlite_accepts_the_longest_statements() {
    let connection = database();
    add_tags(&connection, "d", &json!({ "a": 1 }));
    let documents = documents(&connection);
    let sums: Vec<String> = (0..400).map(|n| format!("SUM(tags.a)AS c{n}")).collect();
    let counts: Vec<String> = (0..500).map(|n| format!("COUNT()AS c{n}")).collect();
    let minima: Vec<String> = (0..350).map(|n| format!("MIN(tags.a{n})AS c{n}")).collect();
    let groups: Vec<String> = (0..16)
        .map(|n| format!("tags['{}{n}']", "'\"".repeat(100).replace('\'', "\\'")))
        .collect();
    for text in [
        format!("SELECT {} FROM devices", sums.join(",")),
        format!("SELECT {} FROM devices", counts.join(",")),
        format!("SELECT {} FROM devices", minima.join(",")),
        format!(
            "SELECT COUNT()AS n FROM devices GROUP BY {}",
            groups.join(",")
        ),
        format!(
            "SELECT SUM(tags.{}) FROM devices",
            vec!["a"; 4000].join(".")
        ),
    ] {
        let query = parse(&text).unwrap_or_else(|error| panic!("{text:.60}: {error}"));
        assert_eq!(
            rows_by_sql(&connection, &query, 10),
            answer(&query, &documents),
            "{text:.60}"
        );
    }
}

//! The compiled SQL matches the same twins as the plain evaluator.

use iothub_protocol::query::{matches, parse_condition};
use iothub_protocol::twin::Twin;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::store::conformance::query::generate::{condition, object_of, value};

mod statements;

fn database() -> Connection {
    scratch::database().unwrap()
}

fn add(
    connection: &Connection,
    id: &str,
    reason: Option<&str>,
    tags: &Value,
    desired: &Value,
    reported: &Value,
) {
    scratch::add(connection, id, reason, [tags, desired, reported]).unwrap();
}

/// Adds devices with these tags, desired and reported properties.
fn add_all(connection: &Connection, twins: &[(Value, Value, Value)]) {
    for (number, (tags, desired, reported)) in twins.iter().enumerate() {
        let reason = (number % 2 == 0).then_some("a");
        add(
            connection,
            &format!("d{number}"),
            reason,
            tags,
            desired,
            reported,
        );
    }
}

fn add_tags(connection: &Connection, id: &str, tags: &Value) {
    add(connection, id, None, tags, &json!({}), &json!({}));
}

/// The ids that match a condition: by SQL, and by the evaluator.
fn both(connection: &Connection, text: &str) -> (Vec<String>, Vec<String>) {
    let condition = parse_condition(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let ids = |condition: Option<&Condition>| {
        twins(
            connection,
            condition,
            Sections::ALL,
            RowPosition::START,
            1000,
        )
        .unwrap()
        .rows
    };
    let found = ids(Some(&condition))
        .into_iter()
        .map(|twin| twin.device.device_id.to_string())
        .collect();
    let expected = ids(None).into_iter().filter_map(|record| {
        let id = record.device.device_id.to_string();
        let document = serde_json::to_value(Twin::from(record)).unwrap();
        matches(&condition, &document).then_some(id)
    });
    (found, expected.collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sql_agrees_with_the_evaluator(
        twins in prop::collection::vec(
            (object_of(value()), object_of(value()), object_of(value())),
            1..8,
        ),
        conditions in prop::collection::vec(condition(), 24),
    ) {
        let connection = database();
        add_all(&connection, &twins);
        for text in &conditions {
            let (found, expected) = both(&connection, text);
            prop_assert_eq!(found, expected, "{}", text);
        }
    }
}

/// SQLite itself does not distinguish true from 1, null from missing, or a number from its digits.
#[test]
fn types_are_distinguished() {
    let connection = database();
    for (id, tags) in [
        ("one", json!({ "x": 1 })),
        ("true", json!({ "x": true })),
        ("text", json!({ "x": "1" })),
        ("null", json!({ "x": null })),
        ("none", json!({})),
        ("list", json!({ "x": [1] })),
    ] {
        add_tags(&connection, id, &tags);
    }
    for (condition, found) in [
        ("tags.x = 1", vec!["one"]),
        ("tags.x = true", vec!["true"]),
        ("tags.x = '1'", vec!["text"]),
        ("tags.x = null", vec!["null"]),
        ("tags.x != 2", vec!["one"]),
        ("NOT tags.x = 2", vec!["one"]),
        ("tags.x IN [1, '1', null]", vec!["one", "text", "null"]),
        (
            "IS_DEFINED(tags.x)",
            vec!["one", "true", "text", "null", "list"],
        ),
        ("NOT IS_DEFINED(tags.x)", vec!["none"]),
        ("tags.x", vec!["true"]),
    ] {
        let (by_sql, expected) = both(&connection, condition);
        assert_eq!(by_sql, found, "{condition}");
        assert_eq!(expected, found, "{condition}");
    }
}

fn plan(connection: &Connection, condition: &str) -> String {
    let condition = parse_condition(condition).unwrap();
    let Compiled {
        sql,
        mut parameters,
    } = compile_condition(Some(&condition));
    let sql = format!(
        "EXPLAIN QUERY PLAN {}",
        twins_sql("*", &sql, parameters.len() + 1)
    );
    parameters.extend([0i64.into(), 100i64.into()]);
    let mut statement = connection.prepare(&sql).unwrap();
    let steps = statement
        .query_map(params_from_iter(parameters), |row| {
            row.get::<_, String>("detail")
        })
        .unwrap();
    steps.collect::<Result<Vec<_>, _>>().unwrap().join("; ")
}

#[test]
fn common_fleet_paths_use_an_index() {
    let connection = database();
    for (condition, index) in [
        ("properties.desired.floor = 3", "twin_desired_floor"),
        (
            "properties.desired.building = '43' AND status = 'enabled'",
            "twin_desired_building",
        ),
        (
            "properties.reported.floor.value IN [3, 4]",
            "twin_reported_floor",
        ),
        ("tags.floor = 3", "twin_tags_floor"),
        (
            "(properties.desired.floor = 3 OR properties.desired.floor = '3')",
            "twin_desired_floor",
        ),
        ("deviceId IN ['a', 'b']", "sqlite_autoindex_device_1"),
        ("connectionState = 'Connected'", "device_connection_state"),
    ] {
        let plan = plan(&connection, condition);
        assert!(plan.contains(index), "{condition}: {plan}");
    }
}

#[test]
fn sqlite_accepts_the_longest_conditions_lists_and_paths() {
    let connection = database();
    add_tags(&connection, "d", &json!({ "a": 1 }));
    let parts = vec!["tags.a=1"; 8192 / 13];
    let list = vec!["1"; 4000].join(",");
    for condition in [
        parts.join(" OR "),
        parts.join(" AND "),
        format!("{}tags.a = 1{}", "(".repeat(30), ") = true".repeat(30)),
        format!("tags.a IN [{list}]"),
        format!("tags.a NIN [{list}]"),
        format!("tags.{} = 1", vec!["a"; 4000].join(".")),
        vec!["tags.a != 'x'"; 450].join(" OR "),
    ] {
        let (found, expected) = both(&connection, &condition);
        assert_eq!(found, expected, "{condition:.40}");
    }
}

#[test]
fn sqlite_accepts_the_longest_arithmetic_and_evaluates_left_to_right() {
    let connection = database();
    add_tags(&connection, "d", &json!({ "a": 1 }));
    let ones = vec!["1"; 4000].join("+");
    let mixed = vec!["tags.a"; 500].join(" - ");
    for (condition, count) in [
        (format!("{ones} = 4000"), 1),
        (format!("{ones} = 3999"), 0),
        (format!("{mixed} = -498"), 1),
        (format!("{mixed} + tags.b = -498"), 0),
    ] {
        let (found, expected) = both(&connection, &condition);
        assert_eq!(found, expected, "{condition:.40}");
        assert_eq!(found.len(), count, "{condition:.40}");
    }
}

//! `twin`, `query` and `invoke` against a real hub.

use std::fs;

use serde_json::json;

use super::support::Lab;

#[test]
fn desired_properties_reach_the_door_and_an_old_etag_changes_nothing() {
    let lab = Lab::new();
    let operator = &lab.operator;
    let _east = lab.door("east", &[]);
    let set = operator.json(&[
        "twin",
        "set",
        "east",
        "building=43",
        "floor=3",
        "--tag",
        "wing=east",
    ]);
    assert_eq!(set["properties"]["desired"]["floor"], 3);
    assert_eq!(set["tags"], json!({"wing": "east"}));
    let applied = |twin: &serde_json::Value| twin["properties"]["reported"]["floor"]["value"] == 3;
    operator.until(&["twin", "show", "east"], applied);

    let etag = set["etag"].as_str().unwrap();
    operator
        .run(&["twin", "set", "east", "floor=4", "--etag", etag])
        .expect(0);
    operator
        .run(&["twin", "set", "east", "floor=5", "--etag", etag])
        .expect(1)
        .says(&["412 PreconditionFailed", "next: it was changed meanwhile"]);
    let removed = operator.json(&["twin", "set", "east", "--tag", "wing=null"]);
    assert_eq!(
        (&removed["tags"], &removed["properties"]["desired"]["floor"]),
        (&json!({}), &json!(4))
    );
}

#[test]
fn queries_are_printed_in_every_format() {
    let lab = Lab::new();
    let operator = &lab.operator;
    operator
        .run(&["devices", "add", "a", "b", "c", "--floor", "3"])
        .expect(0);
    operator.run(&["twin", "set", "c", "floor=4"]).expect(0);
    let query = "SELECT * FROM devices WHERE properties.desired.floor = 3";
    let told = operator.run(&["query", query]).expect(0);
    let doors: Vec<&str> = told
        .stdout
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(doors.len(), 2, "{told:?}");
    let lines = operator.run(&["query", query, "-o", "jsonl"]).expect(0);
    assert_eq!(lines.stdout.lines().count(), 2);
    let rows = operator.json(&["query", query]);
    assert_eq!(rows[0]["properties"]["desired"]["floor"], 3);
}

#[test]
fn more_rows_than_a_page_has_all_come() {
    let lab = Lab::new();
    let operator = &lab.operator;
    let names: Vec<String> = (0..130).map(|n| format!("door-{n:03}")).collect();
    let mut arguments = vec!["devices", "add", "-q"];
    arguments.extend(names.iter().map(String::as_str));
    operator.run(&arguments).expect(0);
    assert_eq!(
        operator
            .run(&["devices", "list", "-o", "csv"])
            .expect(0)
            .stdout
            .lines()
            .count(),
        131
    );
    let sorted = operator
        .run(&[
            "devices",
            "list",
            "--sort",
            "door",
            "--reverse",
            "--limit",
            "2",
            "--columns",
            "door",
            "-o",
            "csv",
        ])
        .expect(0);
    assert_eq!(sorted.stdout, "door\ndoor-129\ndoor-128\n");
}

#[test]
fn a_method_is_called_and_its_answer_printed() {
    let lab = Lab::new();
    let operator = &lab.operator;
    let _east = lab.door("east", &[]);
    let locked = operator.json(&[
        "invoke",
        "east",
        "lockDoor",
        "--payload",
        r#"{"lockTime":"10m"}"#,
    ]);
    assert_eq!(
        (&locked["status"], &locked["payload"]["secured"]),
        (&json!(200), &json!("secured"))
    );

    fs::write(
        operator.folder().join("payload.json"),
        r#"{"lockTime":"-10m"}"#,
    )
    .unwrap();
    let refused = operator
        .run(&["invoke", "east", "lockDoor", "--payload", "@payload.json"])
        .expect(2);
    let answer = refused.says(&["east answered with status 400"]).json();
    assert_eq!(answer["payload"]["field"], "lockTime");

    operator.run(&["devices", "add", "absent"]).expect(0);
    operator
        .run(&["invoke", "absent", "getState"])
        .expect(1)
        .says(&[
            "404 DeviceNotOnline",
            "next: wait for the door: --connect-timeout",
        ]);
}

//! Raised alarms, their acknowledgement, and their numbers for Prometheus.

use std::collections::BTreeSet;

use door_agent::gpio::simulated::{Hold, Sensor, SimCommand};
use serde_json::{Value, json};

use super::support::Lab;

fn names(alarms: &Value) -> Vec<String> {
    let alarms = alarms.as_array().unwrap().iter();
    let name = |alarm: &Value| {
        let word = |member: &str| alarm[member].as_str().unwrap_or("-").to_owned();
        format!(
            "{} {} {}",
            word("alarm"),
            word("door"),
            word("acknowledgedBy")
        )
    };
    alarms.map(name).collect()
}

/// What an `-o json` of any exit status prints.
fn listed(lab: &Lab, line: &str, status: i32) -> Value {
    lab.run(format!("{line} -o json")).expect(status).json()
}

#[test]
fn an_alarm_is_acknowledged_once_and_for_one_raising() {
    let lab = Lab::new();
    lab.run("alarms").expect(0).says(&["no alarm is raised"]);
    let east = lab.door("east", "--building 43 --tag group=public");
    let west = lab.door("west", "--building 44");
    let tamper =
        |door: &super::support::Door, hold| door.at(SimCommand::Hold(Sensor::Tamper, hold));
    tamper(&west, Hold::On);
    lab.until("devices list --alarm", |doors| doors[0]["door"] == "west");
    tamper(&east, Hold::On);
    lab.until("devices list --alarm", |doors| {
        doors.as_array().unwrap().len() == 2
    });
    assert_eq!(
        names(&listed(&lab, "alarms", 2)),
        ["tamper west -", "tamper east -"]
    );

    #[rustfmt::skip]
    lab.run_all(&[
        ("alarms ack east heldOpen --note x", 4, "east has no alarm `heldOpen`; nothing was changed"),
        ("alarms ack east tampr --note x", 4, "did you mean `tamper`?"),
        ("alarms ack est --note x", 1, "did you mean `east`?"),
        ("alarms ack east --note ' '", 1, "it is empty; expected 1 to 256 bytes of text"),
        ("alarms ack east", 1, "--note <TEXT>"),
        ("alarms ack east Tamper --note 'I go' --by alice", 0, "alice"),
        ("alarms ack east --note 'me too'", 4, "tamper of east is acknowledged already, by alice at "),
        ("status", 2, ", acknowledged by alice at "),
        ("alarms --building 43 --unacknowledged", 0, "no alarm is unacknowledged"),
        ("alarms list --building 45", 1, "no door is assigned to building `45`"),
        ("alarms list --tag group=public -o csv", 2, "alarm,door,building,floor,since,"),
    ]);
    let tag = lab.json("twin show east")["tags"]["alarm"]["tamper"].clone();
    let since = listed(&lab, "alarms east", 2)[0]["since"].clone();
    assert_eq!(
        [&tag["raised"], &tag["by"], &tag["note"]],
        [&since, &json!("alice"), &json!("I go")]
    );
    assert_eq!(
        names(&listed(&lab, "alarms", 2)),
        ["tamper west -", "tamper east alice"]
    );
    let audit = lab.json("audit --operation twin.update --target east");
    assert_eq!(
        audit.as_array().unwrap().last().unwrap()["policy"],
        "iothubowner"
    );

    // Four people at once: one of them is the first.
    let acknowledged: Vec<i32> = std::thread::scope(|scope| {
        let people = ["a", "b", "c", "d"].map(|name| {
            let line = format!("alarms ack west --note {name} --by {name}");
            let lab = &lab;
            scope.spawn(move || lab.run(line).status)
        });
        people.map(|person| person.join().unwrap()).to_vec()
    });
    let mut statuses = acknowledged;
    statuses.sort_unstable();
    assert_eq!(statuses, [0, 4, 4, 4]);

    // The next raising is another one.
    tamper(&east, Hold::Off);
    lab.until("alarms list --building 43", |alarms| alarms == &json!([]));
    tamper(&east, Hold::On);
    lab.until("devices list --alarm", |doors| {
        doors.as_array().unwrap().len() == 2
    });
    assert_eq!(
        names(&listed(&lab, "alarms --unacknowledged", 2)),
        ["tamper east -"]
    );
}

/// The names of metrics in a text.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let metrics =
        words.filter(|word| word.starts_with("doorfleet_") || word.starts_with("door_hub_"));
    metrics.map(str::to_owned).collect()
}

#[test]
fn status_prints_the_metrics_that_rules_and_dashboard_ask_for() {
    let lab = Lab::new();
    let _east = lab.door("east", "--building 43");
    lab.run("devices add west --building 44").expect(0);
    let printed = lab.run("status -o prometheus").expect(0).stdout;
    for line in [
        "# TYPE doorfleet_doors gauge",
        "doorfleet_doors{building=\"43\",state=\"unsecured\"} 1",
        "doorfleet_doors{building=\"44\",state=\"offline\"} 1",
        "doorfleet_alarms{alarm=\"forcedOpen\",building=\"43\"} 0",
    ] {
        assert!(
            printed.lines().any(|printed| printed == line),
            "{line}: {printed}"
        );
    }
    // The file is replaced, never appended to; nothing else stays beside it.
    std::fs::create_dir(lab.folder().join("metrics")).unwrap();
    for selection in ["", "--building 43"] {
        lab.run(format!(
            "status -o prometheus --out metrics/doors.prom {selection}"
        ))
        .expect(0);
    }
    let files = std::fs::read_dir(lab.folder().join("metrics")).unwrap();
    assert_eq!(files.count(), 1);
    let written = std::fs::read_to_string(lab.folder().join("metrics/doors.prom")).unwrap();
    assert!(written.contains("building=\"43\"") && !written.contains("building=\"44\""));
    #[rustfmt::skip]
    lab.run_all(&[
        ("status --out doors.prom", 1, "--out: expected -o prometheus too"),
        ("status -o prometheus --watch", 1, "cannot be used with --watch"),
        ("status -o prometheus --out none/doors.prom", 1, "cannot create none/doors.prom"),
        ("devices list -o prometheus", 1, "-o prometheus: this verb has no metrics"),
    ]);

    let operator = doorfleet_testing::Operator::of_folder(&lab.data, lab.mqtt_port());
    let hub = lab.runtime.block_on(operator.get("/metrics"));
    let mut known = metrics(&printed);
    known.extend(metrics(hub.body.as_str().unwrap()));
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/grafana");
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let asked = metrics(&std::fs::read_to_string(&path).unwrap());
        assert!(asked.len() > 3, "{path:?} asks for {asked:?}");
        let unknown: Vec<_> = asked.difference(&known).collect();
        assert!(unknown.is_empty(), "{path:?}: {unknown:?}");
    }
}

//! Weeks of doors, with a device that answers as an agent does.

use std::fs;

use doorfleet_testing::{Device, Operator};
use iothub_protocol::connection_string::{
    DeviceConnectionString, DeviceCredential, ServiceConnectionString,
};
use serde_json::{Value, json};

use super::support::Lab;

/// A door that answers as a script tells it.
struct Scripted<'a> {
    lab: &'a Lab,
    name: &'static str,
    device: Device,
}

impl<'a> Scripted<'a> {
    fn new(lab: &'a Lab, name: &'static str, flags: &str) -> Self {
        lab.run(format!("devices add {name} {flags}")).expect(0);
        lab.run(format!("devices connection-string {name} --out {name}.key"))
            .expect(0);
        let key = fs::read_to_string(lab.folder().join(format!("{name}.key"))).unwrap();
        let key: DeviceConnectionString = key.trim().parse().unwrap();
        let DeviceCredential::Key(key) = key.credential else {
            panic!("{name} has no key");
        };
        let owner = fs::read_to_string(lab.data.join("service-connection-string")).unwrap();
        let owner: ServiceConnectionString = owner.trim().parse().unwrap();
        let device = lab.runtime.block_on(async {
            let hub = Operator::new(owner, lab.mqtt_port(), &lab.data.join("ca.pem"));
            let mut device = Device::dial(&hub, name, &key);
            device.subscribe("$iothub/methods/POST/#").await;
            device.answer_methods(200)
        });
        let door = Self { lab, name, device };
        door.reports(&json!({
            "device": {"zoneinfo": "2025b", "features": {"schedule": true, "timed": true}},
        }));
        door
    }

    /// Reports a patch, and waits until the hub has it.
    fn reports(&self, patch: &Value) {
        let topic = "$iothub/twin/PATCH/properties/reported/?$rid=1";
        self.lab
            .runtime
            .block_on(self.device.publish(topic, &patch.to_string()));
        let shown = format!("twin show {}", self.name);
        self.lab.until(shown, |twin| {
            let reported = &twin["properties"]["reported"];
            patch
                .as_object()
                .unwrap()
                .iter()
                .all(|(key, value)| reported[key] == *value)
        });
    }

    fn desired(&self) -> Value {
        self.lab.json(format!("twin show {}", self.name))["properties"]["desired"].clone()
    }
}

/// A week that is always the same, whenever the test runs.
fn week(want: &str) -> String {
    format!(
        "name = \"{want}\"\nzone = \"UTC\"\n[[window]]\ndays = \"mon-sun\"\nfrom = \"00:00\"\n\
         to = \"24:00\"\nwant = \"{want}\"\n[[exception]]\ndates = [\"2020-02-02\"]\n"
    )
}

#[test]
fn a_week_is_planned_assigned_shown_listed_and_cleared() {
    let lab = Lab::new();
    fs::write(lab.folder().join("open.toml"), week("released")).unwrap();
    fs::write(lab.folder().join("shut.toml"), week("locked")).unwrap();
    let east = Scripted::new(&lab, "east", "--floor 3");
    lab.run("devices add west --floor 3").expect(0);

    let planned = lab
        .run("schedule plan open.toml --floor 3 --id first")
        .expect(0)
        .says(&[
            "week released wants: released, without an end in sight",
            "doors begin with the next released window; --now would release 2 doors at once",
            "1 of 2 doors may not follow a week, as they do not report device.features.schedule",
            "this would set the week of 2 doors, 1 of them offline; no job was created",
            "to apply it, with the same arguments: doorctl schedule set --plan ",
        ]);
    assert!(planned.stdout.contains("week none to "), "{planned:?}");
    let (_, digest) = planned.stderr.split_once("schedule set --plan ").unwrap();
    let digest = digest.split(' ').next().unwrap();
    let set = |file: &str, end: &str| lab.run(format!("schedule set {file} --floor 3 {end}"));
    set("shut.toml", &format!("--plan {digest}"))
        .expect(4)
        .says(&["is outdated: "]);
    assert!(east.desired().get("schedule").is_none());
    // It counts as an unlock.
    set("open.toml", "--now --confirm-above 1")
        .expect(4)
        .says(&[
            "warning: this releases 2 doors at once",
            "this would set the week of 2 doors, more than 1",
        ]);
    set("open.toml", &format!("--plan {digest} --id first")).expect(0);
    for name in ["east", "west"] {
        lab.until(format!("twin show {name}"), |twin| {
            !twin["properties"]["desired"]["schedule"].is_null()
        });
    }

    let assigned = east.desired()["schedule"].clone();
    let text = assigned["text"].as_str().unwrap();
    assert!(
        text.starts_with("{\"name\":\"released\",\"zone\":\"UTC\""),
        "{text}"
    );
    assert!(
        assigned["digest"]
            .as_str()
            .unwrap()
            .starts_with(digest_of(&lab, "open.toml").as_str())
    );
    assert_eq!(assigned.get("now"), None);
    lab.run("schedule show east").expect(2);
    let version = &east.desired()["$version"];
    let answer = json!({"schedule": {
        "value": {"digest": assigned["digest"]}, "ac": 200, "av": version
    }});
    east.reports(&answer);
    let shown = lab.run("schedule show east").expect(0);
    for part in ["east: week released (", "applied", "now: released", "2025b"] {
        assert!(shown.stdout.contains(part), "{part}: {shown:?}");
    }
    let forged = "2025b\u{1b}[2J\nnow: locked";
    let features = json!({"schedule": true, "timed": true});
    east.reports(&json!({"device": {"zoneinfo": forged, "features": features}}));
    let escaped = lab.run("schedule show east").expect(0).stdout;
    assert!(!escaped.contains('\u{1b}'), "{escaped:?}");
    assert!(!escaped.contains("\nnow: locked"), "{escaped:?}");
    east.reports(&json!({
        "device": {"zoneinfo": "2025b", "features": {"schedule": true, "timed": true}},
    }));
    let shown = lab.json("schedule show east");
    assert_eq!(
        (
            &shown["state"],
            &shown["want"],
            &shown["week"]["name"],
            &shown["zoneinfo"]
        ),
        (
            &json!("applied"),
            &json!("released"),
            &json!("released"),
            &json!("2025b")
        )
    );
    // The same week again is applied without another acknowledgement.
    set("open.toml", "--id again").expect(0);
    // The other door has never been online.
    lab.run("jobs watch again")
        .expect(3)
        .says(&["1 changed, 1 accepted"]);
    lab.run("schedule show east").expect(0);

    set("shut.toml", "--now --id second").expect(0);
    for name in ["east", "west"] {
        lab.until(format!("twin show {name}"), |twin| {
            twin["properties"]["desired"]["schedule"]["now"] == true
        });
    }
    let refusal = json!({"schedule": {
        "value": {"digest": "x"}, "ac": 400, "av": 99, "ad": "window[0]: too long"
    }});
    east.reports(&refusal);
    let refused = lab.run("schedule show east").expect(2);
    assert!(
        refused.stdout.contains("refused: window[0]: too long"),
        "{refused:?}"
    );
    lab.run("devices add plain").expect(0);
    let listed = lab
        .run("schedule list")
        .expect(0)
        .says(&["the dates of week locked end on 2020-02-02"]);
    assert!(listed.stdout.contains("(none)"), "{listed:?}");
    let rows = lab.json("schedule list");
    let of = |name: &str| {
        let rows = rows.as_array().unwrap().iter();
        rows.clone()
            .find(|row| row["week"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(of("locked")["doors"], json!(["east", "west"]));
    assert_eq!(
        (&of("locked")["refused"], &of("locked")["pending"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(of("(none)")["doors"], json!(["plain"]));
    assert!(
        lab.run("schedule list -o csv")
            .expect(0)
            .stdout
            .starts_with("week,digest,")
    );

    lab.run("schedule clear east --id none").expect(0);
    lab.run("jobs wait none").expect(0);
    lab.run("schedule show east")
        .expect(2)
        .says(&["door east has no week"]);
    // A bad file assigns nothing.
    fs::write(lab.folder().join("bad.toml"), week("open")).unwrap();
    lab.run("schedule set bad.toml east")
        .expect(1)
        .says(&["bad.toml:7: window[0].want: "]);
    assert!(east.desired().get("schedule").is_none());
}

fn digest_of(lab: &Lab, file: &str) -> String {
    let checked = lab.json(format!("schedule check {file}"));
    checked[0]["digest"].as_str().unwrap().to_owned()
}

#[test]
fn overrides_and_weeks_are_in_the_agenda() {
    let lab = Lab::new();
    fs::write(lab.folder().join("shut.toml"), week("locked")).unwrap();
    let east = Scripted::new(&lab, "east", "--building 43");
    let _west = Scripted::new(&lab, "west", "--building 43");
    lab.run("schedule override --building 43 --want released --from +1h --until +3h --id Fair")
        .expect(1)
        .says(&["--id \"Fair\": expected 1 to 52 of a-z, 0-9 and hyphens"]);
    lab.run("schedule override --building 43 --want released --from +1h --until +3h --id fair --reason fair")
        .expect(0);
    lab.until("twin show west", |twin| {
        !twin["properties"]["desired"]["timed"].is_null()
    });
    let entry = &east.desired()["timed"]["fair"];
    assert_eq!(
        (&entry["want"], &entry["slot"], &entry["reason"]),
        (&json!("released"), &json!(16), &json!("fair"))
    );
    let whole = entry["from"].as_str().unwrap();
    assert!(whole.len() == 20 && whole.ends_with('Z'), "{whole}");
    east.reports(&json!({"timed": {"fair": {
        "value": entry, "ac": 200, "av": east.desired()["$version"], "state": "armed",
    }}}));
    lab.run("schedule set shut.toml --building 43").expect(0);
    lab.until("twin show west", |twin| {
        !twin["properties"]["desired"]["schedule"].is_null()
    });
    east.reports(&json!({
        "device": {"clock": "unsynchronized", "zoneinfo": "2025b", "features": {"schedule": true, "timed": true}},
        "door": {"heldBy": {"slot": 8, "since": "2026-12-01T21:00:00Z"}},
    }));
    let agenda = lab.run("schedule next --building 43").expect(0).says(&[
        "1 door without a trusted clock, where only locks of the week hold: east",
        "1 door held by a command without an end, which the week waits for: east (since 2026-12-",
    ]);
    assert!(agenda.stdout.contains("1 of 2"), "{agenda:?}");
    let rows = lab.json("schedule next");
    let row = |at: usize, key: &str| rows[at][key].clone();
    assert_eq!(row(0, "by"), "fair");
    assert_eq!(row(0, "at"), *entry["from"].as_str().unwrap());
    assert_eq!(row(0, "doors"), json!(["east", "west"]));
    assert_eq!(
        (row(0, "armed"), row(0, "note")),
        (json!(1), json!("in place of the week"))
    );
    assert_eq!(
        (row(1, "at"), row(1, "note")),
        (entry["until"].clone(), json!("released ends"))
    );
    let later = lab
        .run("schedule next --within 30m")
        .expect(0)
        .says(&["nothing is planned"]);
    assert!(!later.stdout.contains("fair"), "{later:?}");
}

#[test]
fn a_lock_ends_when_the_week_wants_something_else() {
    let lab = Lab::new();
    let half = |name: &str, from: &str, to: &str| {
        let text = week("released").replace("24:00", to).replace("00:00", from);
        fs::write(lab.folder().join(format!("{name}.toml")), text).unwrap();
    };
    half("am", "00:00", "12:00");
    half("pm", "06:00", "18:00");
    let doors = ["east", "west"].map(|name| Scripted::new(&lab, name, "--building 43"));
    for (door, week) in doors.iter().zip(["am", "pm"]) {
        lab.run(format!("schedule set {week}.toml {}", door.name))
            .expect(0);
        lab.until(format!("twin show {}", door.name), |twin| {
            !twin["properties"]["desired"]["schedule"].is_null()
        });
    }
    lab.run("lock east --until-schedule")
        .expect(1)
        .says(&["--until-schedule: east follows no week that doorctl can read"]);
    for door in &doors {
        let desired = door.desired();
        door.reports(&json!({"schedule": {
            "value": {"digest": desired["schedule"]["digest"]}, "ac": 200,
            "av": desired["$version"],
        }}));
    }
    lab.run("lock east west --until-schedule")
        .expect(1)
        .says(&["--until-schedule: the weeks change at different times: "]);
    lab.run("lock east --until-schedule --for 10m")
        .expect(1)
        .says(&["cannot be used with"]);
    let next = lab.json("schedule next east --within 2d")[0]["at"].clone();
    lab.run("jobs lock east --until-schedule --id week")
        .expect(0);
    let call = lab.json("jobs show week")["job"]["cloudToDeviceMethod"].clone();
    assert_eq!(call["payload"]["until"], next);
    let _north = lab.door("north", "");
    lab.run("schedule set am.toml north --watch").expect(0);
    lab.run("lock north").expect(0);
    let why = lab.run("why north").expect(0).stdout;
    for part in ["slot 8", ", since ", "week released wants ", " from "] {
        assert!(why.contains(part), "{part}: {why}");
    }
}

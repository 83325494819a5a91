//! `door-agent sim`: each verb has the documented effect on a running agent's door.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::{
    CONNECTION, Running, program, run, run_with, shows as is_shown, status_until, write_config,
};

/// Starts an agent with a motor lock, and waits until it is locked.
fn start(home: &Path) -> (Running, String) {
    // Nothing listens on port 1.
    let settings = "mqtt_port = 1\n[door]\nstrike_time = \"2s\"";
    let config = write_config(home, CONNECTION, settings);
    let mut command = program(["--config", &config]);
    // A retraction counts once the pulse has ended.
    command.env("DOOR_AGENT__STRIKE__PULSE", "800ms");
    let agent = Running::spawn(command);
    is_shown(&config, "/door/report/secured", "secured");
    (agent, config)
}

fn sim(config: &str, words: &str) -> Value {
    run_with(config, &format!("sim {words}")).expect(0).json()
}

fn refused(config: &str, words: &str) -> String {
    let refused = run_with(config, &format!("sim {words}")).expect(1);
    assert_eq!(refused.stdout, "", "{words}");
    refused.stderr
}

/// The names of the raised alarms.
fn alarms(status: &Value) -> Vec<&str> {
    let alarms = status["door"]["report"]["alarms"].as_object();
    alarms
        .into_iter()
        .flat_map(|alarms| alarms.keys().map(String::as_str))
        .collect()
}

/// Performs an action and waits until `status --json` shows the value at the pointer.
fn shows(config: &str, words: &str, pointer: &str, value: &str) {
    sim(config, words);
    is_shown(config, pointer, value);
}

#[test]
fn people_at_the_door() {
    let home = tempfile::tempdir().unwrap();
    let (_agent, config) = start(home.path());
    let shows = |words: &str, pointer: &str, value: &str| shows(&config, words, pointer, value);

    let stderr = refused(&config, "open");
    let expected = "the door is locked: its bolt is thrown";
    assert!(stderr.contains(expected), "{stderr}");
    for opened in ["force", "handle"] {
        shows(opened, "/door/report/doorState", "open");
        is_shown(&config, "/door/inputs/bond", "not thrown");
        shows("close", "/door/report/secured", "secured");
    }
    for (words, slot) in [("rex --for 1h", 2), ("grant on", 3)] {
        shows(words, "/door/report/lockState", "unlocked");
        status_until(&config, |status| status["door"]["slots"][0]["slot"] == slot);
        let off = format!("{} off", &words[..words.find(' ').unwrap()]);
        shows(&off, "/door/report/lockState", "locked");
    }
    // Timed: pressed, released, and locked again.
    shows("rex", "/door/report/lockState", "unlocked");
    is_shown(&config, "/door/inputs/rex", "idle");
    is_shown(&config, "/door/report/lockState", "locked");

    shows("fire", "/door/report/lockState", "unlocked");
    shows("open", "/door/report/doorState", "open");
    shows("close", "/door/report/doorState", "closed");
    shows("fire off", "/door/inputs/fire", "idle");
    // It stays until it is reset at the door.
    let status = status_until(&config, |_| true);
    assert_eq!(status["door"]["slots"][0]["slot"], 1);
    shows("fire-reset", "/door/report/secured", "secured");
}

#[test]
fn faults_of_lock_and_wires() {
    let home = tempfile::tempdir().unwrap();
    let (_agent, config) = start(home.path());
    let shows = |words: &str, pointer: &str, value: &str| shows(&config, words, pointer, value);

    for (key, wrong, ends, begins) in [
        ("jammed", true, "jam", "free"),
        ("power", false, "cut-power", "restore-power"),
    ] {
        assert_eq!(sim(&config, ends)[key], wrong);
        // Held, because a short press would end before the bond time has passed.
        shows("rex on", "/door/report/lockState", "jammed");
        assert_eq!(sim(&config, begins)[key], !wrong);
        shows("rex off", "/door/report/secured", "secured");
        shows("rex", "/door/report/lockState", "unlocked");
        is_shown(&config, "/door/report/secured", "secured");
    }

    assert_eq!(sim(&config, "cut-bond")["faults"], json!({"bond": "cut"}));
    is_shown(&config, "/door/report/secured", "unsecured");
    shows("mend-sensor bond", "/door/inputs/bond", "thrown");
    shows("cut-sensor door", "/door/report/doorState", "open");
    shows("mend-sensor all", "/door/report/doorState", "closed");
    shows("invert-sensor grant", "/door/inputs/grant", "active");
    shows("mend-sensor grant", "/door/inputs/grant", "idle");
    sim(&config, "swap-sensors rex grant");
    shows("rex on", "/door/inputs/grant", "active");
    assert_eq!(
        sim(&config, "rex off")["faults"],
        json!({"grant": "swapped", "rex": "swapped"})
    );
    shows("mend-sensor rex", "/door/inputs/grant", "idle");
    assert_eq!(
        sim(&config, "chatter-sensor grant")["faults"],
        json!({"grant": "chatters"})
    );
    status_until(&config, |status| status["door"]["slots"][0]["slot"] == 3);
    sim(&config, "mend-sensor all");
    shows("stick-sensor rex", "/door/report/lockState", "locked");
    sim(&config, "rex on");
    let shown = sim(&config, "show");
    assert_eq!(
        (&shown["active"], &shown["bolt"]),
        (&json!(["rex"]), &json!("thrown"))
    );
}

#[test]
fn invalid_actions_are_reported_with_the_valid_ones() {
    let home = tempfile::tempdir().unwrap();
    let config = write_config(home.path(), CONNECTION, "mqtt_port = 1");
    assert_eq!(
        refused(&config, "slam"),
        format!("error: sim slam: `slam`, expected one of {VERBS}\n")
    );
    assert_eq!(
        refused(&config, "rex --for soon"),
        "error: sim rex for soon: `soon`, expected a time such as 250ms, 5s or 1m30s, above zero\n"
    );
    let stderr = refused(&config, "open");
    let expected = "error: [board] kind must be \"simulated\" and the agent must run: no \
                    running agent answers in ";
    assert!(stderr.starts_with(expected), "{stderr}");
    let mut help = run("sim --help").expect(0);
    for verb in VERBS.split(", ") {
        help = help.prints(&[&format!("\n  {verb} ")]);
    }
}

/// Waits until an opening no longer belongs to the last release: 2 s, see `door::opening`.
fn wait_for_the_end_of_the_release() {
    sleep(Duration::from_millis(2500));
}

#[test]
fn alarms_are_raised_and_cleared_by_what_people_do() {
    let home = tempfile::tempdir().unwrap();
    let (_agent, config) = start(home.path());
    let shows = |words: &str, alarm: Option<&str>| {
        sim(&config, words);
        status_until(&config, |status| alarms(status) == Vec::from_iter(alarm));
    };
    shows("tamper", Some("tamper"));
    shows("tamper off", None);
    wait_for_the_end_of_the_release();
    shows("force", Some("forcedOpen"));
    shows("close", None);
    is_shown(&config, "/door/report/secured", "secured");
}

#[test]
fn an_unjammed_bolt_retracts_and_a_forced_lock_raises_an_alarm() {
    let home = tempfile::tempdir().unwrap();
    let (_agent, config) = start(home.path());
    sim(&config, "jam");
    sim(&config, "fire");
    let fire_decides = |status: &Value, lock_state: &str| {
        status["door"]["report"]["lockState"] == lock_state
            && status["door"]["slots"][0]["slot"] == 1
    };
    status_until(&config, |status| {
        fire_decides(status, "jammed") && alarms(status) == ["jammed"]
    });
    // Without another request.
    sim(&config, "free");
    status_until(&config, |status| {
        fire_decides(status, "unlocked") && alarms(status).is_empty()
    });
    sim(&config, "fire off");
    sim(&config, "fire-reset");
    status_until(&config, |status| {
        let report = &status["door"]["report"];
        report["secured"] == "secured" && report["heldBy"].is_null() && alarms(status).is_empty()
    });
    wait_for_the_end_of_the_release();
    sim(&config, "stick-sensor door");
    sim(&config, "handle");
    status_until(&config, |status| {
        let report = &status["door"]["report"];
        report["doorState"] == "closed"
            && report["secured"] == "unsecured"
            && alarms(status) == ["lockForced"]
    });
}

#[test]
fn a_door_locks_behind_its_visitor() {
    let home = tempfile::tempdir().unwrap();
    let (_agent, config) = start(home.path());
    sim(&config, "rex");
    status_until(&config, |status| {
        status["door"]["report"]["lockState"] == "unlocked"
            && status["door"]["slots"][0]["slot"] == 2
    });
    sim(&config, "open");
    status_until(&config, |status| {
        status["door"]["report"]["doorState"] == "open"
            && status["door"]["report"]["secured"] == "unsecured"
            && status["door"]["outputs"] == "deEnergised"
    });
    sim(&config, "close");
    status_until(&config, |status| {
        let report = &status["door"]["report"];
        report["secured"] == "secured" && report["heldBy"].is_null() && alarms(status).is_empty()
    });
}

const VERBS: &str = "open, close, force, handle, rex, grant, fire, fire-reset, tamper, jam, free, \
    cut-sensor, cut-bond, stick-sensor, \
                     chatter-sensor, invert-sensor, swap-sensors, mend-sensor, cut-power, \
                     restore-power";

//! `door-agent sim`: each verb does to a running agent's door what it says.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::cli::{CONNECTION, Running, run, status_until, write_config};

/// A motor lock, locked.
fn start(home: &Path) -> (Running, String) {
    // Nothing listens on port 1.
    let config = write_config(
        home,
        CONNECTION,
        "mqtt_port = 1\n[door]\nstrike_time = \"2s\"",
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_door-agent"));
    // A retraction counts once the pulse has ended.
    command
        .args(["--config", &config])
        .env("DOOR_AGENT__STRIKE__PULSE", "800ms");
    let agent = Running::spawn(command);
    status_until(&config, |status| {
        status["door"]["report"]["secured"] == "secured"
    });
    (agent, config)
}

fn sim(config: &str, words: &str) -> Value {
    let mut arguments = vec!["sim"];
    arguments.extend(words.split(' '));
    arguments.extend(["--config", config]);
    let (code, stdout, stderr) = run(&arguments);
    assert_eq!((code, stderr.as_str()), (0, ""), "{words}");
    serde_json::from_str(&stdout).unwrap()
}

fn refused(config: &str, words: &str) -> String {
    let mut arguments = vec!["sim"];
    arguments.extend(words.split(' '));
    arguments.extend(["--config", config]);
    let (code, stdout, stderr) = run(&arguments);
    assert_eq!((code, stdout.as_str()), (1, ""), "{words}");
    stderr
}

/// Does something and waits until `status --json` shows the value at the pointer.
fn shows(config: &str, words: &str, pointer: &str, value: &Value) {
    sim(config, words);
    status_until(config, |status| status.pointer(pointer) == Some(value));
}

#[test]
fn people_at_the_door() {
    let home = tempfile::tempdir().unwrap();
    let (_agent, config) = start(home.path());
    let shows =
        |words: &str, pointer: &str, value: &str| shows(&config, words, pointer, &json!(value));

    let stderr = refused(&config, "open");
    assert!(
        stderr.contains("the door is locked: its bolt is thrown"),
        "{stderr}"
    );
    for opened in ["force", "handle"] {
        shows(opened, "/door/report/doorState", "open");
        status_until(&config, |status| {
            status["door"]["inputs"]["bond"] == "not thrown"
        });
        shows("close", "/door/report/secured", "secured");
    }
    for (words, slot) in [("rex --for 1h", 2), ("grant on", 3)] {
        shows(words, "/door/report/lockState", "unlocked");
        status_until(&config, |status| status["door"]["slots"][0]["slot"] == slot);
        let off = format!("{} off", &words[..words.find(' ').unwrap()]);
        shows(&off, "/door/report/lockState", "locked");
    }
    // By itself: pressed, let go, and locked again.
    shows("rex", "/door/report/lockState", "unlocked");
    status_until(&config, |status| status["door"]["inputs"]["rex"] == "idle");
    status_until(&config, |status| {
        status["door"]["report"]["lockState"] == "locked"
    });

    shows("fire", "/door/report/lockState", "unlocked");
    shows("open", "/door/report/doorState", "open");
    shows("close", "/door/report/doorState", "closed");
    shows("fire off", "/door/inputs/fire", "idle");
    let status = status_until(&config, |_| true);
    assert_eq!(
        status["door"]["slots"][0]["slot"], 1,
        "it stays until it is reset at the door"
    );
    shows("fire-reset", "/door/report/secured", "secured");
}

#[test]
fn faults_of_lock_and_wires() {
    let home = tempfile::tempdir().unwrap();
    let (_agent, config) = start(home.path());
    let shows =
        |words: &str, pointer: &str, value: &str| shows(&config, words, pointer, &json!(value));

    for (key, wrong, ends, begins) in [
        ("jammed", true, "jam", "free"),
        ("power", false, "cut-power", "restore-power"),
    ] {
        assert_eq!(sim(&config, ends)[key], wrong);
        // Held, because a button that is let go gives up before the bond time has passed.
        shows("rex on", "/door/report/lockState", "jammed");
        assert_eq!(sim(&config, begins)[key], !wrong);
        shows("rex off", "/door/report/secured", "secured");
        shows("rex", "/door/report/lockState", "unlocked");
        status_until(&config, |status| {
            status["door"]["report"]["secured"] == "secured"
        });
    }

    assert_eq!(sim(&config, "cut-bond")["faults"], json!({"bond": "cut"}));
    status_until(&config, |status| {
        status["door"]["report"]["secured"] == "unsecured"
    });
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
fn what_cannot_be_done_is_said_with_what_can() {
    let home = tempfile::tempdir().unwrap();
    let config = write_config(home.path(), CONNECTION, "mqtt_port = 1");
    assert_eq!(
        refused(&config, "opne"),
        format!("error: sim opne: `opne`, expected one of {VERBS}\n")
    );
    assert_eq!(
        refused(&config, "rex --for soon"),
        "error: sim rex for soon: `soon`, expected a time such as 250ms, 5s or 1m30s, above zero\n"
    );
    let stderr = refused(&config, "open");
    assert!(
        stderr.starts_with("error: [board] kind must be \"simulated\" and the agent must run: no running agent answers in "),
        "{stderr}"
    );
    let (code, help, _) = run(&["sim", "--help"]);
    assert_eq!(code, 0);
    for verb in VERBS.split(", ") {
        assert!(
            help.contains(&format!("\n  {verb} ")),
            "{help}\nlacks {verb}"
        );
    }
}

const VERBS: &str = "open, close, force, handle, rex, grant, fire, fire-reset, jam, free, cut-sensor, cut-bond, stick-sensor, \
                     chatter-sensor, invert-sensor, swap-sensors, mend-sensor, cut-power, restore-power";

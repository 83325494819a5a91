//! `door-agent sim`: each verb has the documented effect on a running agent's door.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::{CONNECTION, Running, fed, run, status_until, write_config};

/// Starts an agent with a motor lock, and waits until it is locked.
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

/// Performs an action and waits until `status --json` shows the value at the pointer.
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
    // Timed: pressed, released, and locked again.
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
        // Held, because a short press would end before the bond time has passed.
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
    assert!(
        stderr.starts_with(
            "error: [board] kind must be \"simulated\" and the agent must run: no \
            running agent answers in "
        ),
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

/// Runs a script from a file; returns exit status, stdout and stderr.
fn script(config: &str, text: &str) -> (i32, String, String) {
    let file = Path::new(config).with_file_name("visit.sim");
    std::fs::write(&file, text).unwrap();
    let (code, stdout, stderr) =
        run(&["sim", "script", file.to_str().unwrap(), "--config", config]);
    let stderr = stderr.replace(&*file.to_string_lossy(), "visit.sim");
    (code, stdout, stderr)
}

#[test]
fn alarms_are_raised_and_cleared_by_what_people_do() {
    let home = tempfile::tempdir().unwrap();
    let (_agent, config) = start(home.path());
    let intrusion = "\
        tamper
        expect alarm=tamper within 10s
        tamper off
        expect alarm=none within 10s
        wait 2500ms
        force
        expect alarm=forcedOpen within 10s
        close
        expect alarm=none secured=secured within 20s
    ";
    let (code, stdout, stderr) = script(&config, intrusion);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
}

#[test]
fn an_unjammed_bolt_retracts_and_a_forced_lock_raises_an_alarm() {
    let home = tempfile::tempdir().unwrap();
    let (_agent, config) = start(home.path());
    let visit = "\
        jam
        fire
        expect lockState=jammed alarm=jammed decides=1 within 20s
        free
        # without another request
        expect lockState=unlocked alarm=none decides=1 within 20s
        fire off
        fire-reset
        expect secured=secured alarm=none heldBy=none within 20s
        wait 2500ms
        stick-sensor door
        handle
        expect doorState=closed alarm=lockForced secured=unsecured within 20s
    ";
    let (code, stdout, stderr) = script(&config, visit);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
}

#[test]
fn a_script_performs_actions_waits_and_checks_expectations() {
    let home = tempfile::tempdir().unwrap();
    let (_agent, config) = start(home.path());
    let visit = "\
        # out through the door, which locks after the visitor
        expect secured=secured alarm=none
        refused open
        rex
        expect lockState=unlocked decides=2 within 10s
        open
        expect doorState=open secured=unsecured outputs=deEnergised within 10s
        at 300ms close
        expect bond!=thrown for 200ms
        expect secured=secured heldBy=none within 20s
        wait 1ms
    ";
    let begin = Instant::now();
    let (code, stdout, stderr) = script(&config, visit);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    assert!(begin.elapsed() > Duration::from_millis(500));
    let steps: Vec<_> = stdout.lines().collect();
    assert_eq!(steps.len(), 10, "{stdout}");
    assert!(
        steps[1].ends_with(
            "refused open: the door is locked: its bolt is thrown (`force` opens it anyway)"
        ),
        "{stdout}"
    );
    assert!(
        steps[8].contains(" s   10  expect secured=secured heldBy=none within 20000ms: after "),
        "{stdout}"
    );

    // From a pipe; the first failed expectation ends the script.
    let mut command = Command::new(env!("CARGO_BIN_EXE_door-agent"));
    command.args(["sim", "script", "-", "--config", &config]);
    let text = "expect lockState=unlocked|jammed doorState=open rex=idle within 50ms\nforce\n";
    let (code, stdout, stderr) = fed(command, text);
    assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
    assert_eq!(
        stderr,
        "standard input:1: expect lockState=unlocked|jammed doorState=open rex=idle within 50ms, \
         but seen: lockState=locked doorState=closed\n"
    );
    let status = status_until(&config, |_| true);
    assert_eq!(
        status["door"]["report"]["doorState"], "closed",
        "later statements are not executed"
    );

    for (text, code, expected) in [
        (
            "force\nexpect doorState=open for 10s",
            2,
            "visit.sim:2: expect doorState=open for 10000ms, but seen: doorState=closed after ",
        ),
        (
            "refused free",
            2,
            "visit.sim:1: refused free, but seen: the action was accepted, {\"door\"",
        ),
        ("open", 1, "error: visit.sim:1: open: the door is locked"),
        (
            "force\nexpect doorState=opn",
            1,
            "error: visit.sim:2:8: invalid doorState `opn`, expected one of `open`, `closed`",
        ),
    ] {
        let closer = text.contains("10s").then(|| {
            let config = config.clone();
            std::thread::spawn(move || {
                status_until(&config, |status| {
                    status["door"]["report"]["doorState"] == "open"
                });
                status_until(&config, |status| {
                    status["door"]["inputs"]["bond"] == "not thrown"
                });
                sim(&config, "close");
            })
        });
        let (seen, stdout, stderr) = script(&config, text);
        assert!(
            seen == code && stderr.starts_with(expected),
            "{text}: {seen} {stdout} {stderr}"
        );
        if let Some(closer) = closer {
            closer.join().unwrap();
            status_until(&config, |status| {
                status["door"]["report"]["secured"] == "secured"
            });
        }
    }
    let status = status_until(&config, |_| true);
    assert_eq!(
        status["door"]["report"]["doorState"], "closed",
        "a script with a mistake executes nothing"
    );
}

#[test]
fn a_script_needs_an_agent_and_a_file() {
    let home = tempfile::tempdir().unwrap();
    let config = write_config(home.path(), CONNECTION, "mqtt_port = 1");
    let (code, stdout, stderr) = script(&config, "wait 10m");
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("no running agent answers in "), "{stderr}");
    let (code, _, stderr) = run(&["sim", "script", "missing.sim", "--config", &config]);
    assert_eq!(code, 1);
    assert!(
        stderr.starts_with("error: cannot read missing.sim: "),
        "{stderr}"
    );
    let (code, help, _) = run(&["sim", "script", "--help"]);
    assert!(
        code == 0 && help.contains("lockState, doorState, secured,"),
        "{help}"
    );
}

const VERBS: &str = "open, close, force, handle, rex, grant, fire, fire-reset, tamper, jam, free, \
    cut-sensor, cut-bond, stick-sensor, \
                     chatter-sensor, invert-sensor, swap-sensors, mend-sensor, cut-power, \
                     restore-power";

//! `events` and `audit` against a real hub with real doors.

use std::fs;
use std::process::Stdio;
use std::time::Instant;

use door_agent::gpio::simulated::{Hold, Sensor, SimCommand};
use door_hub::policies::{Policies, SecretFile};
use doorfleet_testing::{DEADLINE, Process};
use serde_json::{Value, json};

use super::support::{Lab, Operator, start_hub};

/// A lab with door `east`, whose enclosure was opened.
fn tampered() -> (Lab, super::support::Door) {
    let lab = Lab::new();
    let east = lab.door("east", "--building 43 --floor 3");
    east.at(SimCommand::Hold(Sensor::Tamper, Hold::On));
    lab.until("events --alarms", |events| {
        !events.as_array().unwrap().is_empty()
    });
    (lab, east)
}

#[test]
fn events_are_filtered_and_printed_in_every_format() {
    let (lab, _east) = tampered();
    let alarms = lab.json("events --alarms");
    assert_eq!(alarms[0]["deviceId"], "east");
    assert_eq!(alarms[0]["body"]["alarm"], "tamper");
    assert!(alarms[0]["systemProperties"].is_object(), "{alarms}");

    let table = lab.run("events --event tamper").expect(0);
    let lines: Vec<Vec<&str>> = table
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0], ["TIME", "DOOR", "EVENT", "DETAILS"]);
    assert_eq!(lines[1][2..], ["east", "alarmRaised", "tamper"]);

    let csv = lab.run("events --alarms --limit 1 -o csv");
    let lines: Vec<&str> = csv.stdout.lines().collect();
    assert_eq!(
        lines[0],
        "id,time,kind,door,job,event,alarm,details,repeated"
    );
    assert!(
        lines[1].contains(",telemetry,east,,alarmRaised,tamper,tamper,false"),
        "{csv:?}"
    );

    let of = |flags: &str| {
        let events = lab.json(format!("events --limit 1000 {flags}"));
        let events = events.as_array().unwrap().clone();
        let kinds = events.iter().map(|event| event["kind"].to_string());
        kinds.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(of("--kind device,connection").len(), 2);
    assert!(of("--door east").len() >= 4, "{:?}", of(""));
    assert_eq!(of("--building 43 --event deviceConnected").len(), 1);
    // A day is included, also when it is not over.
    assert!(!of("--since today --until today").is_empty());
    assert!(of("--until yesterday").is_empty());
    let newest = lab.json("events --limit 1")[0]["id"].to_string();
    assert!(of(&format!("--after {newest}")).is_empty());
    let lines = lab
        .run("events --limit 2 -o jsonl")
        .expect(0)
        .says(&["the newest 2; more: --limit 20"]);
    assert_eq!(lines.stdout.lines().count(), 2);
}

#[test]
fn invalid_event_requests_are_refused_with_the_next_step() {
    let (lab, _east) = tampered();
    lab.run("events --door eats --event forcedOpne")
        .expect(0)
        .says(&[
            "the hub has no door `eats`; did you mean `east`?; its recorded events are shown",
            "has an event `forcedOpne`; did you mean `forcedOpen`?",
            "further back: doorctl events --since 7d",
        ]);
    lab.run("events --floor 9")
        .expect(1)
        .says(&["no door is assigned to ", "doorctl devices list"]);
    lab.run("events --after 999999").expect(1).says(&[
        "event 999999 does not exist yet",
        "doorctl events --since 1h",
    ]);
    lab.run("events --since soon")
        .expect(1)
        .says(&["--since \"soon\": not a past time"]);
    lab.run("events --since today --until yesterday")
        .expect(1)
        .says(&[
            "--until \"yesterday\" (",
            ") is not after --since \"today\" (",
            "a later end",
        ]);
    lab.run("events -f --until today")
        .expect(1)
        .says(&["cannot be used with"]);
}

#[test]
fn exec_runs_the_command_for_each_event_in_turn() {
    let (lab, _east) = tampered();
    let command = "printf '%s ' \"$DOORCTL_EVENT_KIND\" \"$DOORCTL_EVENT_DOOR\" \
        \"$DOORCTL_EVENT_EVENT\" \"$DOORCTL_EVENT_ALARM\" >> output; cat >> output; echo seen";
    let output = lab
        .run([
            "events", "-f", "--since", "1h", "--alarms", "--limit", "1", "--exec", command,
        ])
        .expect(0)
        .says(&["seen"]);
    assert!(output.stdout.contains("tamper"), "{output:?}");
    let written = std::fs::read_to_string(lab.folder().join("output")).unwrap();
    let (names, document) = written.split_once('{').unwrap();
    assert_eq!(names, "telemetry east alarmRaised tamper ");
    let document: Value = serde_json::from_str(&format!("{{{document}")).unwrap();
    assert_eq!(document["body"]["alarm"], "tamper");

    lab.run("events --alarms -q --exec 'exit 3'")
        .expect(2)
        .says(&[
            "the command ended with exit status: 3",
            "failed for 1 events",
        ]);
    lab.run("events --alarms --exec 'sleep 600; true' --exec-timeout 1s")
        .expect(2)
        .says(&["took longer than 1 s and was killed"]);
}

#[test]
fn an_interrupted_exec_names_the_event_to_continue_after() {
    let lab = Lab::new();
    lab.run("devices add a b").expect(0);
    let first = lab.json("events --kind device")[0]["id"].clone();
    let behind = first.as_i64().unwrap() - 1;
    let following = |more: &str| {
        let mut events = lab.command(format!(
            "events --kind device --exec 'echo begun; sleep 600' {more}"
        ));
        Process::spawn(events.stdout(Stdio::null()).stderr(Stdio::piped()))
    };

    // Ctrl-C during the first command.
    for (more, hint) in [
        (
            "--follow --after 0",
            format!(
                "stopped following; to continue after event {behind}: doorctl events -f \
                 --after {behind}"
            ),
        ),
        (
            "",
            format!(
                "not all commands were run; to continue after event {behind}: doorctl events \
                 --after {behind}"
            ),
        ),
    ] {
        let mut events = following(more);
        let mut stderr = events.stderr();
        assert!(stderr.any(|line| line == "begun"));
        assert_eq!(events.interrupt().code(), Some(130));
        assert_eq!(stderr.last(), Some(hint));
    }

    // An error while events wait for their command.
    let mut policies = Policies::open(&lab.data).unwrap();
    let guard = "guard".parse().unwrap();
    let out = SecretFile {
        path: lab.folder().join("guard"),
        force: false,
    };
    let rights = "ServiceConnect".parse().unwrap();
    policies.add(&guard, rights, None, &out).unwrap();
    lab.run("context add guard --connection-string-file guard --ca hub/ca.pem");
    let begun = Instant::now();
    while lab.run("events --context guard").status != 0 {
        assert!(begun.elapsed() < DEADLINE, "guard is not taken up");
    }
    let mut events = following("--follow --after 0 --context guard");
    let mut stderr = events.stderr();
    assert!(stderr.any(|line| line == "begun"));
    policies.remove(&guard).unwrap();
    let hint = format!("doorctl events -f --after {behind}");
    let hint = stderr.find(|line| line.ends_with(&hint));
    assert!(hint.is_some());
    let error = stderr.next().unwrap();
    assert!(error.starts_with("error: "), "{error}");
    assert!(stderr.all(|line| line.starts_with("  next: ")));
}

#[test]
fn following_continues_after_a_restart_of_the_hub() {
    let operator = Operator::new();
    let hub = start_hub(&operator.folder().join("data"));
    operator.use_hub(&hub.data);
    let mut follow = operator.command("events --follow --kind device -o jsonl --limit 2");
    let mut follow = Process::spawn(follow.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut stderr = follow.stderr();
    assert!(
        stderr
            .next()
            .unwrap()
            .starts_with("following the events of localhost:")
    );
    operator.run("devices add before").expect(0);
    let start = hub.kill();
    let lost = stderr.find(|line| line.contains("retrying until it is reachable again"));
    assert!(lost.is_some());
    let hub = start();
    operator.run("devices add behind").expect(0);
    assert_eq!(stderr.next().as_deref(), Some("the hub is reachable again"));
    let stdout = follow.output().expect(0).stdout;
    let doors: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["deviceId"].clone())
        .collect();
    assert_eq!(doors, ["before", "behind"]);

    // Ctrl-C prints how to continue.
    let mut follow = operator.command("events -f --after 0 --kind device");
    let mut follow = Process::spawn(follow.stdout(Stdio::null()).stderr(Stdio::piped()));
    let mut stderr = follow.stderr();
    assert!(stderr.next().unwrap().starts_with("following"));
    let status = follow.interrupt();
    assert_eq!(status.code(), Some(130));
    let last = stderr.last().unwrap();
    assert!(last.starts_with("stopped following"), "{last}");
    drop(hub);
}

#[test]
fn following_continues_after_a_policy_change_without_a_gap() {
    let lab = Lab::new();
    let mut follow = lab.command("events -f -v --kind device --limit 2");
    let mut follow = Process::spawn(follow.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut stderr = follow.stderr();
    let mut asked = || stderr.find(|line| line.starts_with("> GET ") && line.contains("/events?"));
    let first = asked().unwrap();
    assert!(!first.contains("since="), "{first}");
    // The stream is open: from here on the hub reports new events.
    assert!(stderr.any(|line| line.starts_with("following")));
    let mut asked = || stderr.find(|line| line.starts_with("> GET ") && line.contains("/events?"));
    // A policy change ends every stream. This one has no event yet to continue after.
    let mut policies = Policies::open(&lab.data).unwrap();
    let out = SecretFile {
        path: lab.folder().join("guard"),
        force: false,
    };
    let rights = "ServiceConnect".parse().unwrap();
    policies
        .add(&"guard".parse().unwrap(), rights, None, &out)
        .unwrap();
    let second = asked().unwrap();
    assert!(second.contains("since="), "{second}");
    lab.run("devices add a b").expect(0);
    let stdout = follow.output().expect(0).stdout;
    let lines: Vec<&str> = stdout.lines().collect();
    assert!(
        lines[0].contains("  a  ") && lines[1].contains("  b  "),
        "{stdout}"
    );
}

#[test]
fn deleted_events_are_reported_as_lost() {
    let lab = Lab::with(|config| config.events.max_rows = 3);
    lab.run("devices add a b c d e f").expect(0);
    let kept = lab
        .run("events --after 1 -o jsonl")
        .expect(0)
        .says(&["warning: events 2 to 3 are lost: the hub no longer has them"]);
    assert_eq!(kept.stdout.lines().count(), 3, "{kept:?}");
}

#[test]
fn commands_are_recorded_with_policy_and_reason_for_every_selection() {
    let lab = Lab::new();
    let _east = lab.door("east", "--floor 3");
    lab.run("devices add absent").expect(0);
    let reason = "drill \u{e4}\u{1b}[2J";
    // Selection, recorded operation, and event of the door.
    for (command, operation, method) in [
        ("lock east", "method.invoke", Some("lockDoor")),
        ("unlock east --for 10m", "method.invoke", Some("unlockDoor")),
        ("relinquish east", "method.invoke", Some("relinquish")),
        ("mode normal east", "method.invoke", Some("setMode")),
        ("invoke east getState", "method.invoke", None),
        ("twin set east floor=3", "twin.update", None),
        ("devices tag east wing=east", "twin.update", None),
        (
            "jobs lock --floor 3 --watch",
            "job.create",
            Some("lockDoor"),
        ),
        (
            r#"jobs twin --set floor=3 --where "tags.wing = 'east'" --watch"#,
            "job.create",
            None,
        ),
    ] {
        lab.run(format!("{command} --reason '{reason}'")).expect(0);
        let rows = lab.json("audit --target east --limit 1");
        assert_eq!(
            (&rows[0]["operation"], &rows[0]["reason"]),
            (&json!(operation), &json!(reason)),
            "{command:?}: {rows}"
        );
        if let Some(method) = method {
            let events = || lab.run("events --door east --event command -o json").json();
            let begun = Instant::now();
            loop {
                let events = events();
                let newest = events
                    .as_array()
                    .unwrap()
                    .last()
                    .map(|event| event.to_string());
                let is_it = |newest: &String| {
                    newest.contains(&format!("\"method\":\"{method}\""))
                        && newest.contains("\"reason\":\"drill")
                };
                if newest.as_ref().is_some_and(is_it) {
                    break;
                }
                assert!(begun.elapsed() < DEADLINE, "{command:?}: {events}");
            }
        }
    }
    // The error names the holder of the door; control characters in a reason are escaped.
    let why = lab.run("why east").expect(0);
    assert!(
        why.stdout
            .contains(", policy iothubowner (drill \u{e4}\\u{1b}[2J)"),
        "{why:?}"
    );
    let table = lab.run("audit --target east").expect(0);
    assert!(!table.stdout.contains('\u{1b}'), "{table:?}");
    // A door that no job called has no such events.
    let rows = lab.json("audit --target absent");
    assert!(
        rows.as_array()
            .unwrap()
            .iter()
            .all(|row| row["operation"] == "device.bulk"),
        "{rows}"
    );
    for (text, message) in [("", "it is empty"), (&"x".repeat(257), "it has 257 bytes")] {
        lab.run(["lock", "east", "--reason", text])
            .expect(1)
            .says(&[message]);
    }
}

#[test]
fn the_audit_log_needs_both_rights() {
    let lab = Lab::new();
    lab.run("devices add east").expect(0);
    lab.run("lock east").expect(2);
    let rows = lab.json("audit");
    let operations: Vec<&Value> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["operation"])
        .collect();
    assert_eq!(operations, ["device.bulk", "method.invoke"]);
    let detail = rows[0]["detail"].as_str().unwrap();
    assert!(
        detail.contains("create") && detail.contains("east"),
        "{detail}"
    );
    let table = lab
        .run("audit --operation method.invoke --target east --since 1h")
        .expect(0);
    assert!(
        table.stdout.contains("404 DeviceNotOnline") && table.stdout.contains("lockDoor"),
        "{table:?}"
    );
    let newest = lab
        .run("audit --limit 1 -o csv")
        .expect(0)
        .says(&["the newest 1; more: --limit 10"]);
    let lines: Vec<&str> = newest.stdout.lines().collect();
    assert_eq!(
        lines[0],
        "time,policy,peer,operation,target,result,reason,detail"
    );
    assert!(
        lines[1].contains(",method.invoke,east,404 DeviceNotOnline,,lockDoor"),
        "{lines:?}"
    );
    lab.run("audit --policy nobody")
        .expect(0)
        .says(&["no entry matches these filters"]);

    let mut policies = Policies::open(&lab.data).unwrap();
    for (name, rights) in [("guard", "ServiceConnect"), ("registrar", "RegistryRead")] {
        let out = SecretFile {
            path: lab.folder().join(name),
            force: false,
        };
        policies
            .add(&name.parse().unwrap(), rights.parse().unwrap(), None, &out)
            .unwrap();
        lab.run(format!(
            "context add {name} --connection-string-file {name} --ca hub/ca.pem"
        ))
        .says(&["is stored in"]);
        // The hub takes it up within a moment.
        let begun = Instant::now();
        while lab.run(format!("audit --context {name}")).status != 4 {
            assert!(begun.elapsed() < DEADLINE, "{name} is not taken up");
        }
    }
    lab.run("context use lab").expect(0);
    lab.run("audit --context guard").expect(4).says(&[
        "'guard' does not allow access",
        "a policy with RegistryRead and ServiceConnect is needed",
        "door-hub policy add NAME --rights RegistryRead,ServiceConnect",
    ]);
    lab.run("events --context guard").expect(0);
    let logs = lab.run("logs east --context guard").expect(0);
    logs.says(&["left out: the audit log needs RegistryRead and ServiceConnect"]);
    lab.run("whoami --context guard -o csv").expect(0);
    assert_eq!(
        lab.json("whoami --context guard")[0]["rights"],
        json!(["ServiceConnect"])
    );
    let registrar = lab.json("whoami --context registrar");
    assert_eq!(registrar[0]["rights"], json!(["RegistryRead"]));
    let missing = json!(["RegistryWrite", "ServiceConnect", "DeviceConnect"]);
    assert_eq!(registrar[0]["missing"], missing);

    // The hub's row stays when its agents are not shown.
    let version = lab.run("version -o csv --context registrar").expect(4);
    assert!(version.stdout.contains("\ndoor-hub,"), "{version:?}");
    version.says(&["a policy with ServiceConnect is needed"]);

    lab.run("devices add west").expect(0);
    // Every verb tells which right is missing and how to get it, with the same status.
    fs::write(lab.folder().join("doors.csv"), "door\nx\ny\n").unwrap();
    for (policy, right, lines) in [
        (
            "guard",
            "RegistryRead",
            &[
                "devices add new",
                "devices add --from doors.csv",
                "devices import doors.csv",
                "devices connection-string east --out a.key",
                "devices rotate-key east --out b.key",
                "devices disable east",
                "devices export --with-keys --out doors.jsonl",
            ][..],
        ),
        (
            "guard",
            "RegistryWrite",
            &[
                "devices remove east --yes",
                "devices remove east west --yes",
            ][..],
        ),
        (
            "registrar",
            "RegistryWrite",
            &[
                "devices add new",
                "devices add --from doors.csv",
                "devices import doors.csv",
                "devices rotate-key east --out c.key",
            ][..],
        ),
        (
            "registrar",
            "ServiceConnect",
            &[
                "events",
                "status",
                "why east",
                "devices list",
                "twin set east floor=3",
                "query 'SELECT * FROM devices'",
                "invoke east getState",
                "lock east",
                "lockdown east",
                "jobs list",
                "jobs show night",
                "jobs lock east",
                "jobs cancel night",
            ][..],
        ),
    ] {
        for line in lines {
            let refused = lab.run(format!("{line} --context {policy}")).expect(4);
            refused.says(&[
                &format!("a policy with {right} is needed"),
                &format!("door-hub policy add NAME --rights {right}"),
            ]);
        }
    }
}

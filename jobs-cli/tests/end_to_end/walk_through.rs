//! The README's walk-through, each program a process of its own.

use std::process::{Command, Stdio};

use super::support::{HubProcess, Operator, Process, program};

#[test]
fn a_door_is_locked_on_schedule_by_four_programs() {
    let operator = Operator::new();
    let hub = HubProcess::start(&operator.folder().join("data"));
    operator
        .use_hub(&hub.data)
        .says(&["context lab is kept in", "answers: 0 doors connected"]);

    operator
        .run(&[
            "devices",
            "add",
            "lobby-east",
            "--building",
            "43",
            "--floor",
            "3",
            "--agent-config",
            "lobby-east.toml",
        ])
        .expect(0)
        .says(&["lobby-east.toml", "door-agent --config lobby-east.toml"]);
    let mut agent = Command::new(program("door-agent"));
    agent
        .args(["--config", "lobby-east.toml"])
        .current_dir(operator.folder());
    let agent = Process::spawn(agent.stdin(Stdio::null()).stderr(Stdio::null()));

    let reported = |path: &'static str, value: &'static str| {
        move |twin: &serde_json::Value| twin["properties"]["reported"]["door"][path] == value
    };
    operator.until(
        &["twin", "show", "lobby-east"],
        reported("lockState", "locked"),
    );
    operator
        .run(&["invoke", "lobby-east", "unlockDoor"])
        .expect(0);
    operator.until(
        &["twin", "show", "lobby-east"],
        reported("lockState", "unlocked"),
    );

    let job = operator
        .run(&[
            "jobs", "lock", "--floor", "3", "--at", "+3s", "--for", "10m",
        ])
        .expect(0)
        .says(&["1 door matches now", "follow it: doorctl jobs watch lock-"])
        .says_one_of(&["UTC, in 3 s", "UTC, in 2 s", "UTC, in 1 s"]);
    assert!(
        job.stdout.starts_with("lock-") && job.stdout.lines().count() == 1,
        "{job:?}"
    );

    let watched = operator
        .run(&["jobs", "watch"])
        .expect(0)
        .says(&["the hub counts 1 succeeded, 0 failed of 1", "1 secured"]);
    let line = watched
        .stdout
        .lines()
        .find(|line| line.starts_with("lobby-east"))
        .unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(
        words,
        [
            "lobby-east",
            "locked",
            "closed",
            "secured",
            "bond",
            "secured"
        ]
    );

    let twin = operator.until(
        &["twin", "show", "lobby-east"],
        reported("secured", "secured"),
    );
    let reported = &twin["properties"]["reported"];
    assert_eq!(
        (&reported["building"]["value"], &reported["floor"]["value"]),
        (&43.into(), &3.into())
    );
    assert!(reported["door"]["lockedUntil"].is_string(), "{reported}");

    assert!(agent.terminate().success(), "the agent drains on SIGTERM");
    assert!(hub.terminate().success(), "the hub drains on SIGTERM");
}

//! `doorctl demo`.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use doorfleet_testing::{Process, run, workspace_program};
use serde_json::Value;

use super::support::Operator;

#[test]
fn the_demo_succeeds_and_leaves_nothing_behind() {
    let operator = Operator::new();
    let temporary = operator.folder().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let output = operator
        .command("demo --doors 16")
        .env("TMPDIR", &temporary)
        .output()
        .unwrap();
    let (stdout, stderr) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert_eq!(output.status.code(), Some(0), "{stdout}{stderr}");
    let line = |door: &str| {
        stdout
            .lines()
            .find(|line| line.starts_with(door))
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(
        line("door-0001"),
        "door-0001 43 1 unlocked closed unsecured bond"
    );
    assert_eq!(
        line("door-0007"),
        "door-0007 43 3 unlocked open unsecured bond accepted (202): door open"
    );
    assert_eq!(
        line("door-0011"),
        "door-0011 43 3 locked closed secured bond secured"
    );
    assert!(line("door-0003").contains("DeviceNotOnline"), "{stdout}");
    for part in [
        "16 agents connected",
        "16 of 16 doors applied them",
        "the hub counts 3 succeeded, 1 failed of 4",
        "2 secured, 1 accepted, 1 failed",
        "door-0007 was accepted while open; now closed, it bolts",
        "3 doors of floor 3 relinquished",
        "15 of 15 doors are locked, without a hub",
        "the hub is back and has every result: each door began once",
    ] {
        assert!(stderr.contains(part), "{part:?} is missing:\n{stderr}");
    }
    assert!(
        !operator.folder().join("doorctl.toml").exists(),
        "the person's settings are not touched"
    );
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);
}

#[test]
fn a_kept_demo_can_be_used_from_a_second_terminal() {
    let operator = Operator::new();
    let mut demo = operator.command("demo --doors 16 --keep");
    let mut demo = Process::spawn(demo.stderr(Stdio::piped()).stdout(Stdio::null()));
    let mut stderr = demo.stderr();
    let page = stderr.find_map(|line| line.strip_prefix("page     http://").map(str::to_owned));
    let page = page.unwrap();
    let export = stderr
        .find_map(|line| {
            line.trim()
                .strip_prefix("export DOORCTL_CONFIG=")
                .map(str::to_owned)
        })
        .unwrap();
    let listed = operator
        .command("devices list --floor 3 -o csv")
        .env("DOORCTL_CONFIG", &export)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(listed.stdout).unwrap().lines().count(), 5);
    let placed = operator
        .command("query")
        .arg("SELECT * FROM devices WHERE tags.plan.id = 'demo-floor' AND tags.plan.x < 1")
        .args(["-o", "jsonl"])
        .env("DOORCTL_CONFIG", &export)
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(placed.stdout).unwrap().lines().count(),
        16
    );
    let (host, folder) = page.split_once('/').unwrap();
    let get = |path: &str, token: &str| {
        let mut stream = std::net::TcpStream::connect(host).unwrap();
        let token = format!("x-doorfleet-token: {token}");
        let head = format!("GET /{folder}{path} HTTP/1.0\r\nHost: {host}\r\n{token}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.0 200"), "{path}");
        answer
    };
    assert!(String::from_utf8(get("", "")).unwrap().contains("<title>"));
    let session = String::from_utf8(get("session", "")).unwrap();
    let (_, session) = session.split_once("\r\n\r\n").unwrap();
    let session: Value = serde_json::from_str(session).unwrap();
    let plan = get("api/plans/demo-floor", session["token"].as_str().unwrap());
    assert!(plan.ends_with(include_bytes!("../../src/commands/demo/floor.png")));
    let action = stderr
        .find(|line| line.contains(" sim force --config "))
        .unwrap();
    let (_, settings) = action.split_once("--config ").unwrap();
    let mut sim = Command::new(workspace_program("door-agent"));
    let shown = run(sim.args(["sim", "force", "--config", settings.trim()])).expect(0);
    assert_eq!(shown.json()["door"], "open");
    assert_eq!(demo.interrupt().code(), Some(0));
    assert!(stderr.any(|line| line == "stopping"));
    assert!(!Path::new(&export).exists());
}

#[test]
fn a_jammed_door_is_shown_and_fails_the_demo() {
    let operator = Operator::new();
    let output = operator
        .run("demo --doors 16 --fault jam=door-0007 -o json")
        .expect(2);
    let rows = output.json();
    let jammed = rows
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["door"] == "door-0007")
        .unwrap();
    assert_eq!(
        (&jammed["lockState"], &jammed["secured"]),
        (&"jammed".into(), &"unsecured".into())
    );
    let output = output.says(&[
        "door-0007 has a bolt that does not move",
        "error: some checks failed:\n  door-0007: failed (500): jammed",
    ]);
    let log = output
        .stderr
        .lines()
        .find_map(|line| line.strip_prefix("log of hub and doors: "));
    std::fs::remove_file(log.unwrap()).unwrap();
}

//! `doorctl demo`.

use std::path::Path;
use std::process::Stdio;

use doorfleet_testing::Process;

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

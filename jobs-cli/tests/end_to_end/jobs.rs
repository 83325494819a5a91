//! `jobs ...` against a real hub with real doors.

use std::process::Stdio;

use door_agent::gpio::simulated::SimCommand;
use doorfleet_testing::Process;
use serde_json::{Value, json};

use super::support::Lab;

#[test]
fn a_lock_job_counts_the_answers_of_the_doors() {
    let lab = Lab::new();
    let _closed = lab.door("closed", "--floor 3");
    let open = lab.door("open", "--floor 3");
    open.at(SimCommand::Open);
    lab.reports("open", "doorState", "open");

    let watched = lab
        .run("jobs lock --floor 3 --for 10m --id now --watch")
        .expect(2)
        .says(&[
            "2 doors match now",
            "the hub counts 2 succeeded, 0 failed of 2",
            "1 secured, 1 accepted",
        ]);
    insta::assert_snapshot!(watched.stdout, @r"
    DOOR    LOCK STATE  DOOR STATE  SECURED    PROOF  OUTCOME
    closed  locked      closed      secured    bond   secured
    open    unlocked    open        unsecured  bond   accepted (202): door open
    ");
    let shown = lab.json("jobs show now");
    assert_eq!(
        shown["tally"],
        json!({"doors": 2, "reached": 1, "accepted": 1, "failed": 0, "waiting": 0})
    );
    let payload = &shown["job"]["cloudToDeviceMethod"]["payload"];
    assert_eq!(
        (&payload["lockTime"], &payload["commandId"]),
        (&json!("10m"), &json!("now"))
    );
    assert!(
        payload["until"].is_null() && payload["notAfter"].is_string(),
        "{payload}"
    );

    // First the deadline expires while the door is open; then the door is closed.
    lab.run("jobs wait now --deadline 5s")
        .expect(3)
        .says(&["1 accepted but not done yet"]);
    open.at(SimCommand::Close);
    let waited = lab.run("jobs wait now -o json").expect(0).json();
    let row = waited["doors"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["door"] == "open")
        .unwrap()
        .clone();
    assert_eq!(
        (&row["secured"], &row["outcome"]),
        (&json!("secured"), &json!("secured, after it was accepted"))
    );
}

#[test]
fn an_unlock_job_counts_released_doors() {
    let lab = Lab::new();
    let _east = lab.door("east", "");
    #[rustfmt::skip]
    lab.run_all(&[
        ("jobs lock east --watch", 0, "1 secured"),
        ("jobs unlock east --for 5m --watch", 0, "1 released"),
        ("jobs method relinquish east --watch", 0, "1 done"),
    ]);
}

#[test]
fn a_twin_job_changes_the_doors_that_match() {
    let lab = Lab::new();
    lab.run("devices add a b --tag wing=east").expect(0);
    lab.run("devices add c").expect(0);
    lab.run(r#"jobs twin --set floor=4 --set building=43 --where "tags.wing = 'east'" --watch"#)
        .expect(3)
        .says(&["2 doors match now", "0 changed, 2 accepted"]);
    let floors: Vec<Value> = lab
        .json("devices list")
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["floor"].clone())
        .collect();
    assert_eq!(floors, [json!("4"), json!("4"), json!("")]);
}

#[test]
fn a_job_can_be_cancelled_until_it_starts_and_its_id_is_unique() {
    let lab = Lab::new();
    lab.run("devices add east").expect(0);
    lab.run("jobs lock east --at +1h --id tonight")
        .expect(0)
        .says_one_of(&["UTC, in 1 h", "UTC, in 59 min"]);
    lab.run("jobs lock east --at +2h --id tonight")
        .expect(1)
        .says(&[
            "--id: the hub has a job called tonight already; nothing was changed",
            "next: choose another --id",
        ]);
    let listed = lab.json("jobs list");
    assert_eq!(
        (listed.as_array().unwrap().len(), &listed[0]["jobId"]),
        (1, &json!("tonight"))
    );

    #[rustfmt::skip]
    lab.run_all(&[
        ("jobs cancel tonihgt", 1, "did you mean `tonight`?"),
        ("jobs cancel tonight", 0, "job tonight is cancelled"),
        ("jobs cancel tonight", 4, "job tonight is cancelled: there is nothing to cancel"),
        ("jobs watch tonight", 2, "job tonight cancelled"),
    ]);
    let cancelled = lab.json("jobs list --status cancelled");
    assert_eq!(cancelled.as_array().unwrap().len(), 1);
}

#[test]
fn ctrl_c_ends_watching_but_not_the_job() {
    let lab = Lab::new();
    lab.run("devices add east").expect(0);
    lab.run("jobs lock east --at +1h --id tonight").expect(0);
    let mut watch = lab.command("jobs watch");
    let mut watch = Process::spawn(watch.stderr(Stdio::piped()).stdout(Stdio::null()));
    let mut printed = watch.stderr();
    assert_eq!(printed.next().unwrap(), "tonight  waits for its start");
    assert_eq!(watch.interrupt().code(), Some(130));
    let last = printed.next().unwrap();
    assert!(
        last.contains("job tonight continues: doorctl jobs watch tonight"),
        "{last}"
    );
    lab.shows("jobs show tonight", "/job/status", "scheduled");
}

#[test]
fn a_job_without_doors_is_created_with_a_warning() {
    let lab = Lab::new();
    #[rustfmt::skip]
    lab.run_all(&[
        ("jobs watch", 1, "the hub has no job to watch"),
        ("jobs lock --floor 9 --at +1h --allow-none", 0, "warning: no door matches now"),
    ]);
}

#[test]
fn a_door_that_stays_offline_fails_after_its_timeout() {
    let lab = Lab::new();
    lab.run("devices add absent").expect(0);
    let watched = lab
        .run("jobs lock absent --connect-timeout 1s --watch")
        .expect(2);
    let watched = watched.says(&[
        "the hub counts 0 succeeded, 1 failed of 1",
        "absent: DeviceNotOnline",
    ]);
    assert!(
        watched
            .stdout
            .contains("DeviceNotOnline: Timed out waiting for device to connect."),
        "{watched:?}"
    );
}

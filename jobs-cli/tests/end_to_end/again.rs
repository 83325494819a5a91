//! `jobs cancel` and `jobs retry` against a real hub with real doors.

use door_agent::gpio::simulated::SimCommand;
use serde_json::{Value, json};

use super::support::{Lab, Row};

fn payload(report: &Value) -> &Value {
    &report["job"]["cloudToDeviceMethod"]["payload"]
}

#[test]
fn one_verb_cancels_a_waiting_and_a_running_job() {
    let lab = Lab::new();
    lab.run("devices add absent").expect(0);
    lab.run("jobs lock absent --at +1h --id later").expect(0);
    lab.run("jobs cancel later")
        .expect(0)
        .says(&["job later is cancelled: no door will be called by it"]);
    lab.run("jobs lock absent --id long").expect(0);
    lab.shows("jobs show long", "/job/status", "running");
    lab.run("jobs cancel lonk")
        .expect(1)
        .says(&["did you mean `long`?"]);
    let cancelled = lab.run("jobs cancel long -o json").expect(0);
    assert_eq!(cancelled.json()["jobId"], "long");
    lab.shows("jobs show long", "/job/status", "cancelled");
    let again = lab.run("jobs cancel long").expect(4);
    insta::assert_snapshot!(again.stderr, @r"
    error: job long is cancelled: there is nothing to cancel
      next: doorctl jobs show long; to undo a lock that was carried out: doorctl jobs method relinquish
    ");
    // The verb of version 0.2.
    lab.run("jobs lock absent --id old").expect(0);
    lab.shows("jobs show old", "/job/status", "running");
    lab.run("jobs stop old").expect(0);
}

#[test]
fn a_job_and_its_retry_name_each_other() {
    let lab = Lab::new();
    lab.run("devices add absent").expect(0);
    lab.run("jobs lock absent --id first --connect-timeout 0 --max-execution 7m --watch")
        .expect(2);
    lab.run("jobs retry first --id first-2 --connect-timeout 1m")
        .expect(0);
    let second = lab.json("jobs show first-2");
    let call = &second["job"]["cloudToDeviceMethod"];
    assert_eq!(call["connectTimeoutInSeconds"], 60, "{call}");
    assert_eq!(call["responseTimeoutInSeconds"], 60, "{call}");
    assert_eq!(second["job"]["maxExecutionTimeInSeconds"], 420, "{second}");
    lab.run("jobs show first")
        .says(&["job first was retried by job first-2"]);
    lab.run("jobs show first-2")
        .says(&["job first-2 retries job first"]);
    lab.run("jobs retry first --response-timeout 6s --connect-timeout 1m")
        .expect(1)
        .says(&["--connect-timeout 1m is longer than --response-timeout 6s"]);
}

#[test]
fn a_retry_calls_the_doors_that_are_not_secured_with_the_same_command() {
    let lab = Lab::new();
    let _closed = lab.door("closed", "--floor 3");
    let open = lab.door("open", "--floor 3");
    let stuck = lab.door("stuck", "--floor 3");
    open.at(SimCommand::Open);
    stuck.at(SimCommand::Jam);
    lab.reports("open", "doorState", "open");
    lab.run("jobs lock --floor 3 --for 1h --id first --watch")
        .expect(2)
        .says(&["1 secured, 1 accepted, 1 failed"]);

    // One door reaches the state by itself, the other by the retry.
    open.at(SimCommand::Close);
    lab.reports("open", "secured", "secured");
    stuck.at(SimCommand::Free);
    let retried = lab
        .run("jobs retry first --id second --watch")
        .expect(0)
        .says(&["1 door matches now", "1 secured"]);
    insta::assert_snapshot!(retried.stdout, @r"
    DOOR   LOCK STATE  DOOR STATE  SECURED  PROOF  OUTCOME
    stuck  locked      closed      secured  bond   secured
    ");

    let first = lab.json("jobs show first");
    let second = lab.json("jobs show second");
    assert_eq!(payload(&second)["commandId"], "first");
    assert_eq!(payload(&second)["lockTime"], payload(&first)["lockTime"]);
    assert_ne!(payload(&second)["notAfter"], payload(&first)["notAfter"]);
    assert_eq!(second["tally"]["doors"], json!(1));

    lab.run("jobs retry second")
        .expect(0)
        .says(&["every remaining door of job second is secured: nothing to do"]);
}

#[test]
fn a_job_is_not_retried_while_it_runs_or_after_its_named_end() {
    let lab = Lab::new();
    lab.run("devices add absent").expect(0);
    lab.run("jobs lock absent --at +1h --id later").expect(0);
    lab.shows("jobs show later", "/job/status", "scheduled");
    let early = lab.run("jobs retry later").expect(4);
    insta::assert_snapshot!(early.stderr, @r"
    error: job later is scheduled: only a job that is over can be retried
      next: doorctl jobs wait later
    ");

    lab.run("jobs lock absent --for 1h --connect-timeout 0 --id missed --watch")
        .expect(2);
    lab.run("jobs retry missed --at +2h")
        .expect(4)
        .says(&["the action of job missed ends at", "next: create a new job"]);
    let listed = lab.json("jobs list");
    assert_eq!(listed.as_array().unwrap().len(), 2, "nothing was made");
}

/// Command, exit status and part of the output, in the order of execution.
#[rustfmt::skip]
const RETRIES: &[Row] = &[
    ("jobs twin --set settings.strikeTime=xyz east --id wrong --watch", 2, "settings.strikeTime is refused"),
    ("jobs show wrong", 0, "settings.strikeTime is refused"),
    ("jobs retry wrong --id again --watch", 2, "settings.strikeTime is refused"),
    ("twin set east settings.strikeTime=4s", 0, "settings.strikeTime is applied"),
    // The current desired value is applied: another change followed the job.
    ("jobs retry wrong", 0, "is changed: nothing to do"),
    ("jobs twin --set floor=4 absent --id away --watch", 3, "the door is offline"),
    ("jobs retry away --id away-2", 0, "job away-2 is"),
    // All doors of the job are removed.
    ("jobs lock absent --connect-timeout 0 --id gone --watch", 2, "1 failed"),
    ("devices remove absent --yes", 0, "1 removed"),
    ("jobs retry gone", 2, "none was secured: nothing to do"),
    ("jobs lock absent --at +1h --id nobody --where 'tags.a = 1'", 1, "has no door"),
    ("jobs lock --where 'tags.a = 1' --at +1h --id nobody", 0, "job nobody is"),
    ("jobs cancel nobody", 0, "no door will be called"),
    ("jobs retry nobody", 4, "next: create a new job"),
];

#[test]
fn a_retry_creates_no_job_when_all_doors_reached_the_state() {
    let lab = Lab::new();
    let _east = lab.door("east", "");
    lab.run("devices add absent").expect(0);
    lab.run_all(RETRIES);
}

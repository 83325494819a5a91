//! Locks and unlocks that doors get ahead: doors that report `timed`, and doors that do not.

use std::process::Stdio;

use door_agent::gpio::simulated::SimCommand;
use doorfleet_testing::{CommandLine as _, Operator, Process};
use jiff::{SignedDuration, Timestamp, Unit};
use serde_json::{Value, json};

use super::azure::proxy::Shown::{AsItIs, Status};
use super::azure::proxy::{Azure, Queries};
use super::support::{Door, Lab};

/// A lab with two doors that can keep an entry, one of them offline, and one of an older agent.
fn mixed() -> (Lab, Vec<Door>) {
    let lab = Lab::new();
    let east = lab.door("east", "--floor 3");
    let west = lab.door("west", "--floor 3");
    lab.stop("west", west);
    lab.run("devices add yard --floor 3").expect(0);
    (lab, vec![east])
}

/// Stages a lock sooner than `jobs lock` does, by the same two jobs.
fn stage_soon(lab: &Lab, staged: &str, others: &str, id: &str) {
    let now = Timestamp::now().round(Unit::Second).unwrap();
    let from = now.checked_add(SignedDuration::from_secs(6)).unwrap();
    let until = now.checked_add(SignedDuration::from_mins(10)).unwrap();
    let call = format!(
        "jobs method lockDoor {staged} {others} --at {from} --id {id} --where '(NOT \
         is_defined(properties.desired.timed.[[{id}]]) OR \
         properties.reported.timed.[[{id}]].ac >= 300)' --payload"
    );
    let mut words = call.words();
    words.push(json!({"commandId": id, "until": until}).to_string());
    lab.run(&words).expect(0);
    let entry = json!({"want": "locked", "from": from, "until": until});
    let mut words = format!("jobs twin {staged} --id {id}-stage --set").words();
    words.push(format!("timed.{id}={entry}"));
    lab.run(&words).expect(0);
}

fn state(lab: &Lab, door: &str, id: &str) -> Value {
    lab.json(format!("twin show {door}"))["properties"]["reported"]["timed"][id]["state"].clone()
}

#[test]
fn a_lock_is_staged_at_doors_that_can_and_the_others_are_called() {
    let (lab, _doors) = mixed();
    let created = lab
        .run("jobs lock --floor 3 --at +1h --for 10m --id tonight --reason drill -o json")
        .expect(0)
        .says(&[
            "job tonight: 3 doors match now; 2 staged, 1 called at the start",
            "armed 1 of 2",
            "warning: west: not armed: the door is offline",
        ])
        .json();
    assert_eq!(
        (&created["staged"], &created["called"], &created["armed"]),
        (&json!(2), &json!(1), &json!(1))
    );
    assert_eq!(created["notArmed"][0]["door"], "west");
    assert_eq!(state(&lab, "east", "tonight"), "armed");
    let desired = lab.json("twin show west")["properties"]["desired"]["timed"]["tonight"].clone();
    assert_eq!(
        (&desired["want"], &desired["by"], &desired["reason"]),
        (&json!("locked"), &json!("iothubowner"), &json!("drill"))
    );
    let yard = lab.json("twin show yard");
    assert_eq!(yard["properties"]["desired"]["timed"], Value::Null);

    // One job for the operator.
    let listed = lab.json("jobs list");
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed:#}");
    assert_eq!(
        (&listed[0]["jobId"], &listed[0]["status"]),
        (&json!("tonight"), &json!("scheduled"))
    );
    assert_eq!(listed[0]["jobs"].as_array().unwrap().len(), 2);
    let table = lab.run("jobs list").expect(0);
    assert!(
        table.stdout.lines().all(|line| line.len() <= 80),
        "{table:?}"
    );
    for id in ["tonight", "tonight-stage"] {
        let shown = lab.run(format!("jobs show {id}")).expect(0);
        let shown = shown.says(&["starts "]);
        let rows: Vec<&str> = shown.stdout.lines().skip(1).collect();
        assert!(
            rows[0].starts_with("east") && rows[0].ends_with("armed"),
            "{shown:?}"
        );
        assert!(
            rows[1].ends_with("not armed: the door is offline"),
            "{shown:?}"
        );
    }
    lab.run("jobs export tonight")
        .expect(0)
        .prints(&["tonight-stage,east,", ",armed,"]);

    // The staged doors are fixed.
    lab.run("twin set east floor=4").expect(0);
    lab.run("jobs show tonight")
        .expect(0)
        .says(&["staged, and no longer selected: 1 door: east"]);
    // Another program removes the entry.
    lab.run("twin set east 'timed.tonight=null'").expect(0);
    lab.run("jobs show tonight")
        .expect(0)
        .says(&["warning: disarmed at 1 door: east"]);
    lab.run("jobs retry tonight")
        .expect(4)
        .says(&["job tonight is scheduled"]);
}

#[test]
fn a_staged_lock_is_proven_after_its_start() {
    let lab = Lab::new();
    let _east = lab.door("east", "");
    stage_soon(&lab, "east", "", "soon");
    let watched = lab.run("jobs watch soon").expect(0).says(&[
        " of 1; the doors act in ",
        "by the doors' answers: 1 secured",
    ]);
    insta::assert_snapshot!(watched.stdout, @r"
    DOOR  LOCK STATE  DOOR STATE  SECURED  PROOF  OUTCOME
    east  locked      closed      secured  bond   secured
   ");
    let exported = lab.run("jobs export soon -o json").expect(0).json();
    assert_eq!(exported[0]["timed"], "holding");
    assert!(exported[0]["at"].is_string() && exported[0]["started"] == exported[0]["at"]);
    lab.run("jobs retry soon")
        .expect(0)
        .says(&["nothing to do"]);

    // A person opens the door meanwhile: the retry fills the same slot until the same end.
    lab.run("relinquish east").expect(0);
    lab.until("jobs show soon", |shown| {
        shown["doors"][0]["timed"] == "overruled"
    });
    lab.run("jobs cancel soon")
        .expect(0)
        .says(&["1 door without its entry"]);
    lab.run("jobs cancel soon")
        .expect(4)
        .says(&["there is nothing to cancel"]);
    assert_eq!(lab.json("jobs list")[0]["status"], "cancelled");
}

#[test]
fn a_foreign_device_is_called_beside_staged_doors_and_a_retry_calls_what_is_not_secured() {
    let lab = Lab::new();
    let east = lab.door("east", "");
    let open = lab.door("open", "");
    open.at(SimCommand::Open);
    lab.reports("open", "doorState", "open");
    let hub = Operator::of_folder(&lab.data, lab.mqtt_port());
    let _foreign = lab.runtime.block_on(async {
        let key = hub.add_device("foreign").await;
        hub.connect("foreign", &key, 200).await
    });
    let _full = lab.door("full", "");
    fill(&lab, "full");
    stage_soon(&lab, "east open full", "foreign", "soon");
    assert_eq!(lab.json("jobs list").as_array().unwrap().len(), 1);
    let watched = lab
        .run("jobs watch soon")
        .expect(2)
        .says(&["all of them: 2 secured, 2 accepted"]);
    insta::assert_snapshot!(watched.stdout, @r"
    DOOR     LOCK STATE  DOOR STATE  SECURED    PROOF  OUTCOME
    east     locked      closed      secured    bond   secured
    foreign                                            accepted (200): the answer has no lock state
    full     locked      closed      secured    bond   secured
    open     unlocked    open        unsecured  bond   holding: door open
   ");
    // What was called is called again; the offline door has proven its lock.
    lab.stop("east", east);
    let again = lab.run("jobs retry soon --id again --watch").expect(2);
    again.prints(&["open", "foreign", "accepted (202): door open"]);
    lab.run("jobs show soon")
        .expect(0)
        .says(&["job soon was retried by job again"]);
    // The call fills the slot of the entry, with the same id and end.
    stage_soon(&lab, "open", "", "other");
    lab.run("jobs watch other").expect(2).says(&["1 accepted"]);
    // What is called is over, what is staged is not there: its rows are shown.
    let waited = lab.run("jobs wait other --deadline 2s").expect(3);
    let waited = waited.prints(&["holding: door open"]);
    assert!(!waited.stderr.contains("is not over"), "{waited:?}");
    lab.run("jobs retry other --id third --watch").expect(2);
    let entry = lab.json("twin show open")["properties"]["desired"]["timed"]["other"].clone();
    let call = lab.json("jobs show third")["job"]["cloudToDeviceMethod"].clone();
    assert_eq!(
        (&call["methodName"], &call["payload"]["commandId"]),
        (&json!("lockDoor"), &json!("other"))
    );
    assert_eq!(call["payload"]["until"], entry["until"]);
    open.at(SimCommand::Close);
    lab.until("jobs show other", |shown| shown["tally"]["reached"] == 1);
}

#[test]
fn a_cancelled_job_names_offline_doors_that_are_still_armed() {
    let lab = Lab::new();
    let (_east, west) = (lab.door("east", ""), lab.door("west", ""));
    lab.run("jobs unlock east west --at +1h --for 1h --id morning")
        .expect(0)
        .says(&["2 staged, 0 called", "armed 2 of 2"]);
    assert_eq!(lab.json("jobs list")[0]["jobId"], "morning");
    lab.run("jobs show morning-1").expect(1);
    lab.stop("west", west);
    let cancelled = lab.run("jobs cancel morning -o json").expect(2).says(&[
        "job morning is cancelled: 1 door without its entry",
        "still armed: west",
    ]);
    assert_eq!(cancelled.json()["stillArmed"], json!(["west"]));
    lab.run("jobs cancel morning")
        .expect(2)
        .says(&["still armed: west"]);
    assert_eq!(state(&lab, "east", "morning"), Value::Null);
    assert_eq!(state(&lab, "west", "morning"), "armed");
    let _west = lab.start("west");
    lab.until("twin show west", |twin| {
        twin["properties"]["reported"].get("timed").is_none()
    });
    lab.run("jobs cancel morning")
        .expect(4)
        .says(&["job morning is cancelled: there is nothing to cancel"]);
    assert_eq!(lab.json("jobs list")[0]["status"], "cancelled");
    lab.run("jobs watch morning").expect(2).says(&["2 failed"]);
    // Nor does an unstaged job act before its start.
    lab.run("jobs unlock east --at +1h --for 1h --id plain --no-stage")
        .expect(0);
    lab.run("jobs cancel plain").expect(0);
    for id in ["morning", "plain"] {
        lab.run(format!("jobs retry {id} --id again"))
            .expect(4)
            .says(&["a retry would act before that time"]);
    }
    lab.run("jobs show again").expect(1);
}

#[test]
fn on_azure_a_cancel_takes_the_entry_from_the_doors_while_the_call_runs() {
    let lab = Lab::new();
    let _east = lab.door("east", "");
    lab.run("devices add yard").expect(0);
    stage_soon(&lab, "east", "yard", "soon");
    lab.shows("jobs show soon", "/jobs/1/status", "running");
    let _azure = Azure::before(&lab, Queries::AZURE);
    lab.run("jobs cancel soon -o json").expect(2).says(&[
        "job soon is running: 1 door without its entry now",
        "error: job soon is not cancelled completely: job soon is running, and Azure IoT Hub \
         cancels a job only before its start",
        "next: wait for its end: doorctl jobs wait soon",
    ]);
    assert_eq!(state(&lab, "east", "soon"), Value::Null);
}

#[test]
fn a_cancel_reaches_each_part_of_a_job_although_one_is_over_and_one_cannot_be_cancelled() {
    let lab = Lab::new();
    let _east = lab.door("east", "");
    lab.run("devices add yard").expect(0);
    for (part, door, at) in [(1, "east", "now"), (2, "yard", "now"), (3, "east", "+1h")] {
        let line = format!("jobs method lockDoor {door} --at {at} --id night-{part} --payload");
        let mut words = line.words();
        words.push(json!({"commandId": "night"}).to_string());
        lab.run(&words).expect(0);
    }
    lab.shows("jobs show night-1", "/job/status", "completed");
    lab.shows("jobs show night-2", "/job/status", "running");
    {
        let _azure = Azure::before(&lab, Queries::AZURE);
        lab.run("jobs cancel night").expect(2).says(&[
            "job night-3 is cancelled",
            "error: job night is not cancelled completely: job night-2 is running",
        ]);
    }
    lab.run("context use lab").expect(0);
    lab.run("jobs cancel night")
        .expect(0)
        .says(&["job night-2 is running: it makes no more calls"]);
    lab.shows("jobs show night-2", "/job/status", "cancelled");
    lab.run("jobs cancel night")
        .expect(4)
        .says(&["there is nothing to cancel"]);
}

#[test]
fn on_azure_a_job_that_was_cancelled_while_it_was_staged_calls_no_door() {
    let lab = Lab::new();
    let _east = lab.door("east", "");
    lab.run("devices add yard").expect(0);
    let azure = Azure::before(&lab, Queries::AZURE);
    azure.show("night-stage", &[Status("running")]);
    let mut first = lab.command("jobs lock east yard --at +1h --for 10m --id night");
    first.stdout(Stdio::piped()).stderr(Stdio::piped());
    let first = Process::spawn(&mut first);
    lab.until("jobs list", |jobs| jobs[0]["jobId"] == "night");
    first.signal("STOP");
    azure.show("night-stage", &[AsItIs]);
    azure.new_minute();
    lab.run("jobs cancel night")
        .expect(0)
        .says(&["job night is cancelled: 1 door without its entry now"]);
    first.signal("CONT");
    first
        .output()
        .expect(4)
        .says(&["error: job night was cancelled meanwhile: no door will be called by it"]);
    assert_eq!(
        lab.json("jobs show night")["jobs"][1]["status"],
        "cancelled"
    );
    assert_eq!(lab.json("jobs list")[0]["status"], "cancelled");
    lab.run("jobs cancel night")
        .expect(4)
        .says(&["there is nothing to cancel"]);
    assert_eq!(azure.strays(), [""; 0]);
}

#[test]
fn a_list_counts_the_doors_of_the_newest_staged_jobs_and_names_the_others() {
    let lab = Lab::new();
    let _east = lab.door("east", "");
    let id = |number| format!("night-{}", char::from(b'a' + number));
    for number in 0..12 {
        let id = id(number);
        let mut words = format!("jobs twin east --id {id}-stage --set").words();
        words.push(format!(
            r#"timed.{id}={{"want":"locked","from":"2020-01-01T06:00:00Z"}}"#
        ));
        lab.run(&words).expect(0);
        lab.shows(format!("jobs show {id}"), "/job/status", "completed");
    }
    let azure = Azure::before(&lab, Queries::AZURE);
    azure.new_minute();
    let listed = lab.run("jobs list -o json").expect(0);
    let listed =
        listed.says(&["which takes a query each: night-b, night-a: doorctl jobs show JOB"]);
    assert_eq!(azure.queries(), 10);
    for (job, number) in listed.json().as_array().unwrap().iter().zip((0..12).rev()) {
        assert_eq!(job["jobId"], id(number));
        assert_eq!(job["deviceJobStatistics"]["succeededCount"], 1, "{job:#}");
    }
}

#[test]
fn what_cannot_be_staged_is_called_or_refused() {
    let (lab, _doors) = mixed();
    #[rustfmt::skip]
    lab.run_all(&[
        ("jobs lock east --at +1h --id Tonight", 0, "for a job that is staged: the doors are called at the start"),
        ("jobs unlock east --at +1h --id open", 0, "job open is queued: 1 door matches now"),
        ("jobs lock east --at +30s --id soon", 0, "the start is too soon to stage: the doors are called"),
        ("jobs lock yard --at +1h --id older", 0, "job older is queued"),
        ("jobs lock east --at +1h --id older", 1, "the hub has a job called older already"),
        ("jobs lock east --at +1h --for 1h --id quick --no-wait", 0, "1 staged"),
        ("jobs lock east --at +1h --id plain --no-stage", 0, "job plain is queued: 1 door matches now"),
        ("jobs plan lock --floor 3 --at +90m --for 1h", 0, "job quick (lockDoor) also uses 1"),
    ]);
    for id in ["Tonight", "open", "soon", "older", "plain"] {
        let shown = lab.json(format!("jobs show {id}"));
        assert_eq!(shown["job"]["type"], "scheduleDeviceMethod", "{id}");
    }
}

/// Gives a door as many entries as it keeps.
fn fill(lab: &Lab, door: &str) {
    let mut words = format!("twin set {door}").words();
    words.extend((0..20).map(|number| {
        format!(r#"timed.full-{number}={{"want":"locked","from":"2199-01-01T06:00:00Z"}}"#)
    }));
    lab.run(&words).expect(0);
}

#[test]
fn a_door_that_refuses_its_entry_is_called() {
    let lab = Lab::new();
    let _doors = [lab.door("full", ""), lab.door("east", "")];
    lab.run("devices add yard").expect(0);
    fill(&lab, "full");
    lab.run("jobs lock full east yard --at +1h --for 10m --id tonight")
        .expect(0)
        .says(&[
            "2 staged, 1 called",
            "armed 1 of 2",
            "; called at the start",
        ]);
    let shown = lab.json("jobs show tonight");
    let jobs = shown["jobs"].as_array().unwrap();
    let call = jobs.iter().find(|job| job["jobId"] == "tonight").unwrap();
    let query = format!(
        "SELECT deviceId FROM devices WHERE {}",
        call["queryCondition"].as_str().unwrap()
    );
    let words = vec!["query".to_owned(), query];
    let called = lab.json(&words);
    assert_eq!(
        called,
        json!([{"deviceId": "full"}, {"deviceId": "yard"}]),
        "{shown:#}"
    );
}

#[test]
fn a_plan_covers_which_doors_are_staged() {
    let (lab, _doors) = mixed();
    let planned = lab
        .run("jobs plan lock --floor 3 --at +2h --for 10m")
        .expect(0);
    let planned = planned.says(&["2 staged, 1 called at the start"]);
    for part in [
        "staged: locks\n",
        "staged when it connects: locks\n",
        "fails unless it comes online within 2 min",
    ] {
        assert!(planned.stdout.contains(part), "{planned:?}");
    }
    let digest = |flags: &str| {
        let line = format!("jobs plan lock --floor 3 --at +2h --for 10m {flags} -o json");
        lab.run(line).expect(0).json()["digest"].clone()
    };
    let (ahead, called) = (digest(""), digest("--no-stage"));
    assert_ne!(ahead, called);
    let apply = format!(
        "jobs apply --plan {} lock --floor 3",
        called.as_str().unwrap()
    );
    lab.run(format!("{apply} --at +2h --for 10m"))
        .expect(4)
        .says(&["staged now: east, west; no job was created"]);
    lab.run(format!("{apply} --at +2h --for 10m --no-stage"))
        .expect(0);
}

#[test]
fn entries_that_are_over_are_removed_except_for_the_latest() {
    let lab = Lab::new();
    let _east = lab.door("east", "");
    for day in 1..=9 {
        let entry = format!(
            r#"timed.old-{day}={{"want":"locked","from":"2026-01-0{day}T06:00:00Z","until":"2026-01-0{day}T07:00:00Z"}}"#
        );
        let words: Vec<String> = vec!["twin".into(), "set".into(), "east".into(), entry];
        lab.run(&words);
    }
    lab.until("twin show east", |twin| {
        twin["properties"]["reported"]["timed"]["old-9"]["state"] == "over"
    });
    lab.run("jobs lock east --at +1h --id next")
        .expect(0)
        .says(&["armed 1 of 1"]);
    let desired = lab.json("twin show east")["properties"]["desired"]["timed"].clone();
    let left: Vec<&String> = desired.as_object().unwrap().keys().collect();
    assert_eq!(left, ["old-5", "old-6", "old-7", "old-8", "old-9", "next"]);
}

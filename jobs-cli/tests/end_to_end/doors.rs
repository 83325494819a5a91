//! The door verbs against a real hub with real doors, which are released by default.

use std::process::Stdio;

use door_agent::gpio::simulated::{Hold, Sensor, SimCommand};
use doorfleet_testing::{Device, Operator, Process};
use serde_json::{Value, json};

use super::support::Lab;

fn reported<'a>(twin: &'a Value, name: &str) -> &'a Value {
    &twin["properties"]["reported"]["door"][name]
}

#[test]
fn one_door_is_called_directly_and_its_outcome_is_printed() {
    let lab = Lab::new();
    let _east = lab.door("east", "");
    let locked = lab
        .run("lock east --for 10m")
        .expect(0)
        .says(&["for 10 min from when each door acts", "1 secured"]);
    insta::assert_snapshot!(locked.stdout, @r"
    DOOR  LOCK STATE  DOOR STATE  SECURED  PROOF  OUTCOME
    east  locked      closed      secured  bond   secured
    ");
    lab.run("unlock east --pulse strike")
        .expect(0)
        .says(&["1 released"]);
    let released = lab.json("unlock east --for 5m");
    assert_eq!(released["tally"]["reached"], 1);
    lab.run("relinquish east").expect(0).says(&["1 done"]);
    lab.run("mode passage east").expect(0).says(&["1 released"]);
    lab.run("mode lockdown east").expect(0).says(&["1 secured"]);
    let refused = lab.run("unlock east").expect(4);
    assert!(refused.stdout.contains("refused (409)"), "{refused:?}");
    lab.run("relinquish east --slot 5").expect(0);
    lab.run("mode normal east").expect(0);
    // Its default releases it: no operator unlocked it, but not secured either.
    lab.run("mode secure east")
        .expect(2)
        .says(&["0 secured, 1 accepted"]);
    let jobs = lab.json("jobs list");
    assert_eq!(jobs, json!([]), "no job was needed");
}

#[test]
fn many_doors_are_called_by_a_job_and_awaited_until_the_deadline() {
    let lab = Lab::new();
    let _closed = lab.door("closed", "--floor 3");
    let open = lab.door("open", "--floor 3");
    open.at(SimCommand::Open);
    lab.reports("open", "doorState", "open");
    lab.run("lock --floor 3")
        .expect(2)
        .says(&["calls 2 doors", "1 secured, 1 accepted"]);
    #[rustfmt::skip]
    lab.run_all(&[
        ("lock --floor 3 --deadline 10s", 3, "1 accepted but not done yet"),
        ("lock open --deadline 1s", 3, "0 secured, 1 accepted"),
    ]);
    open.at(SimCommand::Close);
    lab.run("lock --floor 3 --deadline 30s").expect(0);
    lab.run("relinquish --floor 3").expect(0).says(&["2 done"]);
}

#[test]
fn impossible_commands_are_refused_and_change_nothing() {
    let lab = Lab::new();
    #[rustfmt::skip]
    lab.run_all(&[
        ("devices add lobby-east lobby-west", 0, ""),
        ("lock lobby-eats", 1, "the hub has no door `lobby-eats`; did you mean `lobby-east`?"),
        (r#"lock --where "tags.wing = 'east'""#, 1, "no door matches; nothing was changed"),
        ("lockdown", 1, "no doors selected"),
        ("lock lobby-east --until 'tomorow 8:00'", 1, "--until \"tomorow 8:00\": not a time"),
    ]);
    let offline = lab
        .run("lock lobby-east --connect-timeout 0")
        .expect(2)
        .says(&["0 secured, 1 failed"]);
    assert!(offline.stdout.contains("DeviceNotOnline"), "{offline:?}");
    for verb in ["unlock", "relinquish", "mode passage", "all-clear", "lock"] {
        let line = format!("{verb} --all --confirm-above 1");
        lab.run(line).expect(4).says(&[
            "2 doors, more than 1, and there is no terminal to confirm it; nothing was changed",
        ]);
    }
    assert_eq!(lab.json("jobs list"), json!([]));
}

#[test]
fn a_lockdown_reaches_a_door_that_reconnects_later_and_changes_no_mode() {
    let lab = Lab::new();
    let place = "--building 43";
    let _free = lab.door("free", place);
    let _passage = lab.door("passage", place);
    lab.run("twin set passage mode=passage").expect(0);
    lab.reports("passage", "mode", "passage");
    lab.run("devices add away --building 43").expect(0);

    let now = "lockdown --building 43 --connect-timeout 0 --reason drill";
    let output = lab.run(now).expect(2).says(&[
        "-twin changes the desired lockdown of 3 doors",
        " calls 3 doors",
        "warning: offline; each locks down when it reconnects: away",
        "2 secured, 1 failed",
    ]);
    insta::assert_snapshot!(output.stdout, @r"
    DOOR     LOCK STATE  DOOR STATE  SECURED  PROOF  OUTCOME
    away                                             DeviceNotOnline: Timed out waiting for device to connect.
    free     locked      closed      secured  bond   secured
    passage  locked      closed      secured  bond   secured
    ");
    let away = lab.start("away");
    lab.until("twin show away", |twin| {
        reported(twin, "lockdown")["reason"] == "drill" && reported(twin, "secured") == "secured"
    });
    let jobs = lab.json("jobs list");
    let ids = jobs.as_array().unwrap().iter();
    let id = ids
        .map(|job| job["jobId"].as_str().unwrap())
        .find(|id| !id.ends_with("-twin"));
    let lockdown = format!("lockdown: {} by ", id.unwrap());
    let why = lab.run("why passage").expect(0).stdout;
    assert!(why.contains(&lockdown) && why.contains(": drill"), "{why}");
    lab.run("status")
        .expect(0)
        .says(&["lockdown lockdown-", ": drill (3 doors)"]);
    #[rustfmt::skip]
    lab.run_all(&[
        // A mode that is assigned meanwhile applies afterwards.
        ("twin set free mode=secure", 0, ""),
        ("lockdown --building 43 --yes", 0, "3 secured"),
        ("unlock --building 43", 4, "3 failed"),
    ]);
    // One door goes offline under lockdown and applies the all-clear when it reconnects.
    lab.stop("away", away);
    lab.run("all-clear --building 43 --connect-timeout 0")
        .expect(2)
        .says(&[
            "-twin changes the desired lockdown of 3 doors",
            "warning: offline; each is cleared when it reconnects: away",
            "2 done, 1 failed",
        ]);
    let _back = lab.start("away");
    for (door, mode, state) in [
        ("free", "secure", "unlocked"),
        ("passage", "passage", "unlocked"),
        ("away", "normal", "unlocked"),
    ] {
        let twin = lab.until(format!("twin show {door}"), |twin| {
            reported(twin, "mode") == mode && reported(twin, "lockState") == state
        });
        assert_eq!(
            twin["properties"]["desired"].get("lockdown"),
            None,
            "{door}"
        );
        assert_eq!(reported(&twin, "lockdown"), &json!(null), "{door}");
        assert_eq!(twin["tags"], json!({}), "{door}");
    }
}

#[test]
fn a_lockdown_interrupted_after_its_jobs_were_created_reaches_every_door() {
    let lab = Lab::new();
    let _here = lab.door("here", "--floor 3");
    lab.run("devices add away --floor 3").expect(0);
    let mut lockdown = lab.command("lockdown --floor 3 --connect-timeout 2m");
    let mut lockdown = Process::spawn(lockdown.stderr(Stdio::piped()).stdout(Stdio::null()));
    let mut printed = lockdown.stderr();
    assert!(printed.any(|line| line.contains("1 of 2 done; waiting until ")));
    assert_eq!(lockdown.interrupt().code(), Some(130));
    let rest: Vec<String> = printed.collect();
    let stops = |line: &String| line.contains("stopped watching; job ");
    assert!(rest.iter().any(stops), "{rest:?}");

    let back = lab.start("away");
    for door in ["here", "away"] {
        lab.until(format!("twin show {door}"), |twin| {
            reported(twin, "mode") == "lockdown" && reported(twin, "secured") == "secured"
        });
    }
    // A restart keeps it, and a second lockdown acts on a door that was taken out of the first.
    lab.stop("away", back);
    let _back = lab.start("away");
    lab.run("relinquish away --slot 5").expect(0);
    lab.run("lockdown away").expect(0).says(&["1 secured"]);
    lab.run("all-clear --floor 3").expect(0).says(&["2 done"]);
}

#[test]
fn in_a_mixed_fleet_doors_without_the_feature_are_locked_down_by_their_mode() {
    let lab = Lab::new();
    let _new = lab.door("new", "--floor 3");
    // A door of 0.1: it reports no features, and answers every method with the payload.
    let hub = Operator::of_folder(&lab.data, lab.mqtt_port());
    let _older = lab.runtime.block_on(async {
        let key = hub.add_device("older").await;
        let mut device = Device::dial(&hub, "older", &key);
        device.subscribe("$iothub/methods/POST/#").await;
        let topic = "$iothub/twin/PATCH/properties/reported/?$rid=1";
        device.publish(topic, r#"{"door":{"mode":"normal"}}"#).await;
        device.answer_methods(200)
    });
    lab.run("twin set older floor=3 --deadline 0").expect(0);
    lab.reports("older", "mode", "normal");
    let methods = |verb: &str, status, parts: &[&str]| {
        lab.run(format!("{verb} --floor 3"))
            .expect(status)
            .says(parts);
        let jobs = lab.json("jobs list");
        let ids = jobs
            .as_array()
            .unwrap()
            .iter()
            .map(|job| job["jobId"].as_str().unwrap());
        let of = |end: &str| {
            let mut found = ids
                .clone()
                .filter(|id| id.starts_with(&verb.replace('-', "")) && id.ends_with(end));
            let shown = lab.json(format!("jobs show {}", found.next().unwrap()));
            shown["job"]["cloudToDeviceMethod"]["methodName"].clone()
        };
        (of("-known"), of("-older"))
    };
    assert_eq!(
        methods("lockdown", 2, &["1 secured, 1 accepted"]),
        (json!("lockdown"), json!("setMode"))
    );
    assert_eq!(
        methods("all-clear", 0, &["2 done"]),
        (json!("allClear"), json!("relinquish"))
    );
}

#[test]
fn a_condition_too_long_to_find_older_doors_does_not_keep_doors_from_being_called() {
    let lab = Lab::new();
    let _doors = (lab.door("east", ""), lab.door("west", ""));
    let condition = format!("deviceId != '{}'", "x".repeat(8_100));
    lab.run(format!("lockdown --where \"{condition}\""))
        .expect(0)
        .says(&[
            "warning: cannot find doors of 0.1, which refuse lockdown: --where: the text has 82",
            "warning: cannot find the doors that are offline: --where: the text has 81",
            "2 secured",
        ]);
}

#[test]
fn one_door_is_locked_down_and_cleared_without_a_job() {
    let lab = Lab::new();
    let _vault = lab.door("vault", "");
    lab.run("lockdown vault").expect(0).says(&["1 secured"]);
    lab.run("unlock vault").expect(4);
    // Property and method have the same time, and an older all-clear does not end the lockdown.
    let begun = &lab.json("invoke vault getState")["payload"]["lockdown"]["at"];
    let desired = &lab.json("twin show vault")["properties"]["desired"]["lockdown"]["at"];
    assert!(begun.is_string() && begun == desired, "{begun} {desired}");
    let old = r#"invoke vault allClear --payload '{"at":"2026-01-01T00:00:00Z"}'"#;
    let refused = lab.run(old);
    assert!(refused.stdout.contains("before "), "{}", refused.stdout);
    lab.run("unlock vault").expect(4);
    lab.run("all-clear vault").expect(0).says(&["1 done"]);
    lab.run("unlock vault").expect(0);
    assert_eq!(lab.json("jobs list"), json!([]));
}

#[test]
fn why_names_the_deciding_slot_and_shows_the_last_report_of_an_offline_door() {
    let lab = Lab::new();
    let east = lab.door("east", "");
    let idle = lab.run("why east").expect(0);
    insta::assert_snapshot!(idle.stdout, @r"
    east is unlocked, door closed, unsecured (proof: bond), mode normal
    no slot is filled, so the door's default decides: released

    SLOT  NAME     WANTS     EFFECT   UNTIL  BY
          default  released  decides         configuration
    ");
    lab.run("unlock east").expect(0);
    lab.run("lockdown east").expect(0);
    let why = lab.json("why east");
    assert_eq!(
        (&why["decides"], &why["mode"], &why["displacedMode"]),
        (&json!(5), &json!("lockdown"), &json!("normal"))
    );
    assert_eq!(
        why["because"],
        "slot 5 (lockdown) decides: locked; it overrules slot 8 (operator hold: released)"
    );

    lab.until("twin show east", |twin| {
        reported(twin, "heldBy")["slot"] == 5 && reported(twin, "secured") == "secured"
    });
    lab.stop("east", east);
    let last = lab
        .run("why east")
        .expect(2)
        .says(&["east is offline: this is its last report"]);
    assert!(
        last.stdout
            .contains(" ago) it was locked, door closed, secured"),
        "{last:?}"
    );
    assert!(
        last.stdout.contains("slot 5 (lockdown) decided"),
        "{last:?}"
    );

    lab.run("devices add new").expect(0);
    let never = lab
        .run("why new")
        .expect(2)
        .says(&["new is offline: there is no report to show"]);
    insta::assert_snapshot!(never.stdout, @r"
    new is offline
    it has never reported
    ");
    lab.run("why newt").expect(1).says(&["did you mean `new`?"]);
}

#[test]
fn status_counts_doors_by_building_and_floor() {
    let lab = Lab::new();
    lab.run("status").expect(0).says(&["no door"]);
    let _a = lab.door("a", "--building 43 --floor 3");
    let b = lab.door("b", "--building 43 --floor 10");
    lab.run("lock a").expect(0);
    lab.reports("a", "secured", "secured");
    lab.run("status").expect(0);
    lab.run("status --expect-secured").expect(2);
    lab.run("status a --expect-secured").expect(0);

    lab.run("lock b").expect(0);
    b.at(SimCommand::Hold(Sensor::Tamper, Hold::On));
    lab.run("devices add c --building 43 --floor 3").expect(0);
    lab.until("twin show b", |twin| {
        !reported(twin, "alarms")["tamper"].is_null() && reported(twin, "secured") == "secured"
    });
    let output = lab
        .run("status")
        .expect(2)
        .says(&["alarm: tamper at b, building 43, floor 10, since "]);
    insta::assert_snapshot!(output.stdout, @r"
    BUILDING  FLOOR  DOORS  SECURED  UNSECURED  UNKNOWN  OFFLINE  LOCKDOWN  ALARMS
    43        3      2      1        0          0        1        0         0
    43        10     1      1        0          0        0        0         1
    all              3      2        0          0        1        0         1
    ");
    let csv = lab.run("status -o csv").expect(2);
    insta::assert_snapshot!(csv.stdout, @r"
    building,floor,doors,secured,unsecured,unknown,offline,lockdown,alarms
    43,3,2,1,0,0,1,0,0
    43,10,1,1,0,0,0,0,1
    ");
    let output = lab.run("status -o json").expect(2).json();
    assert_eq!(
        (&output["total"]["doors"], &output["alarms"][0]["door"]),
        (&json!(3), &json!("b"))
    );
}

#[test]
fn a_read_after_a_command_shows_its_result() {
    let lab = Lab::new();
    // Two doors: the motor of one has to rest after a number of movements.
    let _east = lab.door("east", "");
    let _west = lab.door("west", "");
    // Its default is released.
    for (command, lock_state) in [
        (&["lock", "east"][..], "locked"),
        (&["unlock", "east"], "unlocked"),
        (&["lock", "east", "--for", "10m"], "locked"),
        (&["relinquish", "east"], "unlocked"),
        (&["mode", "lockdown", "east"], "locked"),
        (&["relinquish", "east", "--slot", "5"], "unlocked"),
        (&["lockdown", "east"], "locked"),
        (&["all-clear", "east"], "unlocked"),
        (&["invoke", "west", "lockDoor"], "locked"),
        (&["invoke", "west", "relinquish"], "unlocked"),
        (&["jobs", "lock", "west", "--watch"], "locked"),
        (
            &["jobs", "method", "relinquish", "west", "--watch"],
            "unlocked",
        ),
    ] {
        lab.run(command).expect(0);
        let door = if command.contains(&"west") {
            "west"
        } else {
            "east"
        };
        let status = lab.json(format!("status {door}"));
        let secured = usize::from(lock_state == "locked");
        assert_eq!(status["total"]["secured"], secured, "{command:?}: {status}");
        let plan = lab.json(format!("jobs plan lock {door}"));
        assert_eq!(plan["doors"][0]["lockState"], lock_state, "{command:?}");
    }
}

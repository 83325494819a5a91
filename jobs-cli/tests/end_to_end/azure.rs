//! Every verb that Azure IoT Hub supports, through a proxy that has only what Azure has.
//!
//! A new verb gets a row in [`SERVED`], or in [`DOOR_HUB_ONLY`] if only door-hub supports it.

pub(crate) mod proxy;
mod rules;

use std::time::Duration;

use super::support::Lab;
use proxy::Shown::{AsItIs, Status, Type, Unknown};
use proxy::{Azure, Queries, Shown};

/// Command, exit status and part of the output, in the order of execution, with the registered
/// doors `lobby` (connected) and `yard` (offline).
pub(super) struct Verb(pub(super) &'static str, pub(super) i32, &'static str);

#[rustfmt::skip]
pub(super) const SERVED: &[Verb] = &[
    Verb("context list", 0, "azure"),
    Verb("devices add shed gate --building 43 --floor 1 --tag wing=east", 0, "gate"),
    Verb("devices add shed", 1, "the hub already has a door shed"),
    Verb("devices list --floor 1", 0, "gate"),
    Verb("devices list -o csv --where 'tags.wing = \"east\"'", 0, "shed"),
    Verb("devices list --sort floor --reverse --limit 1 --columns door,tags.wing,reported.door.mode -o jsonl", 0, "\"reported.door.mode\":"),
    Verb("devices show gate", 0, "\"wing\":\"east\""),
    Verb("devices show gaet", 1, "did you mean `gate`?"),
    Verb("devices connection-string gate --out gate.key", 0, "wrote gate.key"),
    Verb("devices tag gate shed wing=west size=2 --remove old", 0, "2 changed"),
    Verb("devices tag gate wing=west", 0, "1 unchanged"),
    Verb("devices tag gate", 1, "no tag given"),
    Verb("devices enable gaet", 1, "did you mean `gate`?"),
    Verb("devices disable nobody", 1, "the hub has no door `nobody`"),
    Verb("devices disable gate --reason 'stolen'", 0, "1 disabled"),
    Verb("devices disable gate shed", 0, "1 unchanged, 1 disabled"),
    Verb("devices enable --where 'status = \"disabled\"'", 0, "2 enabled"),
    Verb("devices rotate-key gate --out gate.new", 0, "the primary key still works"),
    Verb("devices rotate-key gate --out gate.new", 1, "cannot create gate.new"),
    Verb("devices rotate-key gate --key both --out gate.newest", 0, "both old keys of gate have stopped working"),
    Verb("devices add one two three", 0, "three"),
    Verb("devices remove one", 4, "there is no terminal to confirm it"),
    Verb("devices remove one --yes", 0, "1 removed"),
    Verb("devices remove two three --yes", 0, "2 removed"),
    Verb("devices remove two --yes", 1, "the hub has no door `two`"),
    Verb("devices tag gate shed wing=east", 0, "2 changed"),
    Verb("devices add --from fleet.csv --dry-run", 0, "3 doors would be added; nothing was changed"),
    Verb("devices add --from fleet.csv --keys-folder fleet.keys", 0, "3 doors added"),
    Verb("devices add --from fleet.csv", 1, "the hub already has doors of this file: f1 (line 2)"),
    Verb("devices export --where 'tags.of = \"fleet\"' --with-keys --out fleet.jsonl", 0, "3 doors with their keys"),
    Verb("devices export --out fleet.jsonl", 1, "fleet.jsonl exists and is not overwritten"),
    Verb("devices remove f1 f2 --yes", 0, "2 removed"),
    Verb("devices import fleet.jsonl", 1, "the hub already has doors of this file: f3 (line 3)"),
    Verb("devices import fleet.jsonl --update", 0, "2 created, 1 unchanged"),
    Verb("devices import fleet.jsonl --update --dry-run", 0, "3 to be updated; nothing was changed"),
    Verb("devices remove f1 f2 f3 --yes", 0, "3 removed"),
    Verb("twin show lobby", 0, "\"lockState\": \"unlocked\""),
    Verb("twin set gate floor=2 --tag wing=null", 3, "\"floor\": 2"),
    Verb("twin set gate floor=3 --etag AAAAAAAAAAA=", 1, "412 PreconditionFailed"),
    Verb("twin edit gate", 4, "there is no terminal"),
    Verb("twin edit gate --yes", 0, "+    \"edited\": true"),
    Verb("query 'SELECT deviceId, tags.size FROM devices WHERE tags.edited = true' -o csv", 0, "gate,2"),
    Verb("query 'SELECT COUNT() AS doors FROM devices WHERE STARTSWITH(deviceId, \"ga\")' -o jsonl", 0, "{\"doors\":1}"),
    Verb("invoke lobby getState", 0, "\"lockState\":\"unlocked\""),
    Verb("invoke yard getState", 1, "404 DeviceNotOnline"),
    Verb("status", 2, "all"),
    Verb("status --building 43 --floor 3 -o json", 0, "\"unsecured\": 1"),
    Verb("why lobby", 0, "so the door's default decides: released"),
    Verb("why yard", 2, "it has never reported"),
    Verb("lock lobby --for 10m", 0, "1 secured"),
    Verb("unlock lobby --pulse strike", 0, "1 released"),
    Verb("relinquish lobby", 0, "1 done"),
    Verb("mode passage lobby", 0, "1 released"),
    Verb("lockdown lobby", 0, "1 secured"),
    Verb("unlock lobby", 4, "refused (409)"),
    Verb("all-clear lobby", 0, "1 done"),
    Verb("mode normal lobby", 0, "1 done"),
    Verb("lockdown lobby yard --connect-timeout 0", 2, "calls 2 doors"),
    Verb("all-clear lobby yard --connect-timeout 0", 2, "1 done, 1 failed"),
    Verb("jobs lock yard --at +1h --id tonight", 0, "job tonight is queued: 1 door matches now"),
    // Azure runs one job at a time.
    Verb("jobs lock lobby --id second", 1, "another job is active, and this hub allows no more"),
    Verb("lockdown lobby yard --connect-timeout 0", 2, "calling each door directly"),
    Verb("all-clear lobby yard --connect-timeout 0", 2, "1 done, 1 failed"),
    Verb("jobs list", 0, "tonight"),
    Verb("jobs show tonight", 0, "starts "),
    Verb("jobs cancel tonight", 0, "job tonight is cancelled"),
    Verb("jobs cancel tonight", 4, "job tonight cannot be cancelled"),
    Verb("jobs lock lobby yard --connect-timeout 0 --for 10m --id mixed", 0, "2 doors match now"),
    Verb("jobs wait mixed", 2, "1 secured, 1 failed"),
    // Azure returns the payload as an array of bytes.
    // Without its flag the response timeout follows the connect timeout of 2 minutes.
    Verb("jobs show mixed -o json", 0, "\"lockTime\":\"10m\""),
    Verb("jobs wait mxied", 1, "the hub has no job `mxied`; did you mean `mixed`?"),
    Verb("jobs watch mxied", 1, "did you mean `mixed`?"),
    Verb("jobs show mxied", 1, "did you mean `mixed`?"),
    Verb("jobs export mxied", 1, "did you mean `mixed`?"),
    Verb("jobs cancel mxied", 1, "did you mean `mixed`?"),
    Verb("jobs retry mxied", 1, "did you mean `mixed`?"),
    Verb("jobs retry mixed --watch", 2, "yard"),
    Verb("jobs unlock lobby --for 5m --watch", 0, "1 released"),
    // Without a flag the response timeout follows the connect timeout of 2 minutes.
    Verb("jobs lock lobby --for 10m --watch", 0, "1 secured"),
    Verb("jobs method lockDoor lobby --payload '{\"lockTime\":\"10m\"}' --watch", 0, "1 secured"),
    Verb("invoke lobby lockDoor --payload '{\"lockTime\":\"10m\"}' --connect-timeout 2m", 0, "\"status\": 200"),
    Verb("lock lobby --for 10m --connect-timeout 5m", 0, "1 secured"),
    Verb("lock lobby --connect-timeout 2m --response-timeout 1m", 1, "is longer than --response-timeout 1m"),
    Verb("jobs lock --building 44 --watch", 1, "no door is assigned to building `44`; did you mean `43`?"),
    Verb("jobs lock --building 44 --allow-none --watch", 2, "no door matched when"),
    Verb("jobs method relinquish lobby --watch", 0, "1 done"),
    Verb("jobs twin --set floor=7 --tag wing=west gate shed --id moved", 0, "2 doors match now"),
    Verb("jobs watch moved", 3, "2 accepted"),
    Verb("jobs export moved", 0, "moved,gate,,,,,changed,completed"),
    Verb("jobs plan lock lobby yard --for 10m", 0, "this would lock 2 doors, 1 of them offline; no job was created"),
    Verb("jobs apply --plan 00000000 lock lobby", 4, "plan 00000000 is outdated"),
    Verb("jobs tags --set wing=north --remove old gate --watch", 0, "1 changed"),
    Verb("jobs list --status cancelled -o csv", 0, "tonight"),
];

/// Command and part of the output; the exit status is 4, and no request is sent.
const DOOR_HUB_ONLY: &[(&str, &str)] = &[
    (
        "jobs stop mixed",
        "is not door-hub: only door-hub can stop a job that runs, Azure IoT Hub cannot",
    ),
    (
        "events -f",
        "is not door-hub: only door-hub can record events, Azure IoT Hub cannot",
    ),
    (
        "audit",
        "is not door-hub: only door-hub can record who did what, Azure IoT Hub cannot",
    ),
];

/// Splits a command line into words; quotes keep words together.
pub(super) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        match index % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

fn run(lab: &Lab, line: &str) -> super::support::CommandOutput {
    let words = words(line);
    lab.operator
        .run(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn every_verb_that_azure_supports_works_with_azures_api() {
    let lab = Lab::new();
    let azure = Azure::before(&lab, Queries::AZURE);
    azure.let_deleted_devices_linger();
    let _lobby = lab.door("lobby", &["--building", "43", "--floor", "3"]);
    lab.operator.run(&["devices", "add", "yard"]).expect(0);
    let fleet = "door,floor,tags.of\nf1,1,fleet\nf2,2,fleet\nf3,3,fleet\n";
    std::fs::write(lab.operator.folder().join("fleet.csv"), fleet).unwrap();
    let edit = r#"sed -i 's/"tags": {/"tags": {"edited": true,/' "$1""#;
    std::fs::write(lab.operator.folder().join("edit.sh"), edit).unwrap();
    for Verb(line, status, says) in SERVED {
        azure.new_minute();
        let output = run(&lab, line);
        assert_eq!(azure.strays(), [""; 0], "doorctl {line}: {output:?}");
        assert_eq!(output.status, *status, "doorctl {line}: {output:?}");
        let printed = output.stdout.contains(says) || output.stderr.contains(says);
        assert!(printed, "doorctl {line} does not say {says:?}: {output:?}");
    }
    for (line, says) in DOOR_HUB_ONLY {
        run(&lab, line).expect(4).says(&[says]);
        assert_eq!(azure.strays(), [""; 0], "doorctl {line}");
    }
}

/// How the hub shows the running job `night` in each response; command, exit status and part of the
/// output.
const ENDS: &[(&[Shown], &str, i32, &str)] = &[
    (
        &[Unknown],
        "jobs wait night",
        1,
        "the hub has no job `night`",
    ),
    (
        &[Unknown],
        "jobs watch night",
        1,
        "the hub has no job `night`",
    ),
    (
        &[Unknown],
        "jobs show night",
        1,
        "the hub has no job `night`",
    ),
    (
        &[Unknown],
        "jobs export night",
        1,
        "the hub has no job `night`",
    ),
    (
        &[Unknown],
        "jobs retry night",
        1,
        "the hub has no job `night`",
    ),
    // It was created a moment ago.
    (
        &[Unknown, Unknown, Status("completed")],
        "jobs wait night",
        2,
        "job night completed",
    ),
    // It is deleted while it is watched.
    (
        &[AsItIs, AsItIs, Unknown],
        "jobs watch night",
        1,
        "job night no longer exists on the hub; its last status was running",
    ),
    (
        &[AsItIs, AsItIs, Unknown],
        "jobs wait night",
        1,
        "job night no longer exists on the hub; its last status was running",
    ),
    (
        &[AsItIs, Unknown, Unknown, Status("completed")],
        "jobs watch night",
        2,
        "job night completed",
    ),
    // Words that doorctl does not know, permanently or temporarily.
    (
        &[Status("paused")],
        "jobs wait night",
        1,
        "does not know: the hub reports the unknown status \"paused\"",
    ),
    (
        &[Status("paused")],
        "jobs watch night",
        1,
        "does not know: the hub reports the unknown status \"paused\"",
    ),
    (
        &[Status("unknown")],
        "jobs watch night",
        1,
        "does not know: the hub reports the unknown status \"unknown\"",
    ),
    (
        &[Status("paused")],
        "jobs show night",
        0,
        "job night unknown: the hub reports the unknown status \"paused\"",
    ),
    (
        &[Status("paused")],
        "jobs retry night",
        4,
        "only a job that is over can be retried",
    ),
    (
        &[Status("paused"), Status("paused"), Status("failed")],
        "jobs watch night",
        2,
        "job night failed",
    ),
    (
        &[Type("other"), Type("other"), Status("Completed")],
        "jobs watch night",
        2,
        "job night completed",
    ),
    (
        &[AsItIs, Status("cancelled")],
        "jobs watch night",
        2,
        "job night cancelled",
    ),
    (
        &[AsItIs],
        "jobs wait night --deadline 3s",
        3,
        "0 of 1 done; waiting until ",
    ),
];

#[test]
fn waiting_ends_in_every_state_of_a_job() {
    let lab = Lab::new();
    let azure = Azure::before(&lab, Queries::AZURE);
    lab.operator.run(&["devices", "add", "yard"]).expect(0);
    // A created job is not visible, temporarily or permanently.
    let tag = "jobs tags --set wing=east yard --watch --id";
    azure.show("made", &[Unknown, Unknown, AsItIs]);
    run(&lab, &format!("{tag} made"))
        .expect(0)
        .says(&["1 changed"]);
    azure.show("lost", &[Unknown]);
    run(&lab, &format!("{tag} lost"))
        .expect(1)
        .says(&["the hub has no job `lost`", "next: doorctl jobs list"]);
    run(&lab, "jobs lock yard --connect-timeout 5m --id night").expect(0);
    lab.operator.until(&["jobs", "show", "night"], |report| {
        report["job"]["status"] == "running"
    });
    for (shown, line, status, says) in ENDS {
        azure.new_minute();
        azure.show("night", shown);
        let output = run(&lab, line);
        assert_eq!(
            output.status, *status,
            "{shown:?}, doorctl {line}: {output:?}"
        );
        assert!(
            output.stderr.contains(says),
            "{shown:?}, doorctl {line}: {output:?}"
        );
        assert_eq!(azure.strays(), [""; 0], "doorctl {line}");
    }
}

#[test]
fn requests_that_only_door_hub_accepts_get_azures_error() {
    let lab = Lab::new();
    let _azure = Azure::before(&lab, Queries::AZURE);
    lab.operator.run(&["devices", "add", "yard"]).expect(0);
    for line in [
        "jobs lock yard --id Tonight",
        "jobs lock yard --at 2099-01-01T00:00:00Z",
        "jobs lock --where 'tags.group = 1'",
    ] {
        run(&lab, line).expect(1).says(&["400 ArgumentInvalid"]);
    }
}

#[test]
fn a_keyword_without_brackets_gets_a_warning_on_azure_only() {
    let lab = Lab::new();
    let lines = [
        "query 'SELECT * FROM devices WHERE tags.group = 1'",
        "devices list --where 'tags.group = 1'",
        "jobs lock --where 'tags.group = 1'",
    ];
    let warning = "as in tags.[[group]]";
    for line in &lines[..2] {
        let ours = run(&lab, line);
        assert!(!ours.stderr.contains(warning), "{line}: {}", ours.stderr);
    }
    let _azure = Azure::before(&lab, Queries::AZURE);
    for line in lines {
        let theirs = run(&lab, line);
        assert!(theirs.stderr.contains(warning), "{line}: {}", theirs.stderr);
    }
    let bracketed = "query 'SELECT * FROM devices WHERE tags.[[group]] = 1'";
    let taken = run(&lab, bracketed).expect(0);
    assert!(!taken.stderr.contains("keyword"), "{}", taken.stderr);
}

#[test]
fn a_list_that_needs_several_jobs_is_refused_with_advice_to_tag() {
    let lab = Lab::new();
    let azure = Azure::before(&lab, Queries::AZURE);
    let names = Lab::many_names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for verb in [&["jobs", "lock"][..], &["jobs", "plan", "unlock"]] {
        lab.operator.run(&[verb, &names].concat()).expect(4).says(&[
            "only door-hub can run 3 jobs at the same time, which these 300 names need",
            "doorctl devices tag DOOR.. batch=x, then: --where \"tags.batch = 'x'\"",
        ]);
    }
    // Immediate verbs need no job.
    lab.operator
        .run(&[&["devices", "add"], &names[..]].concat())
        .expect(0);
    azure.new_minute();
    let locked = lab
        .operator
        .run(
            &[
                &["lock"],
                &names[..],
                &["--yes", "--connect-timeout", "0", "-o", "json"],
            ]
            .concat(),
        )
        .expect(2)
        .says(&[
            "too many names for one job, and this hub runs one job at a time: \
             calling each door directly",
        ])
        .json();
    assert_eq!(locked["tally"]["failed"], 300);
    assert_eq!(azure.strays(), [""; 0]);
}

#[test]
fn throttled_queries_are_retried() {
    let lab = Lab::new();
    let limit = Queries {
        most: 2,
        within: Duration::from_secs(3),
    };
    let azure = Azure::before(&lab, limit);
    for _ in 0..limit.most {
        lab.operator.run(&["devices", "list"]).expect(0);
    }
    while azure.throttled() == 0 {
        let output = lab.operator.run(&["devices", "list"]).expect(0);
        if azure.throttled() > 0 {
            output.says(&["429 ThrottlingException", "trying again in "]);
        }
    }
    assert_eq!(azure.strays(), [""; 0]);
}

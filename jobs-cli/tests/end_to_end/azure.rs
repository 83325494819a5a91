//! Every verb that Azure IoT Hub supports, through a proxy that has only what Azure has.
//!
//! A new verb gets a row in [`SERVED`], or in [`DOOR_HUB_ONLY`] if only door-hub supports it.

pub(crate) mod proxy;
mod rules;

use std::time::Duration;

use super::support::{Lab, Row};
use proxy::Shown::{AsItIs, Status, Type, Unknown};
use proxy::{Azure, Queries, Shown};

/// Command, exit status and part of the output, in the order of execution, with the registered
/// doors `lobby` (connected) and `yard` (offline).
#[rustfmt::skip]
pub(super) const SERVED: &[Row] = &[
    ("context list", 0, "azure"),
    ("devices add shed gate --building 43 --floor 1 --tag wing=east", 0, "gate"),
    ("devices add shed", 1, "the hub already has a door shed"),
    ("devices list --floor 1", 0, "gate"),
    ("devices list -o csv --where 'tags.wing = \"east\"'", 0, "shed"),
    ("devices list --sort floor --reverse --limit 1 --columns door,tags.wing,reported.door.mode -o jsonl", 0, "\"reported.door.mode\":"),
    ("devices show gate", 0, "\"wing\":\"east\""),
    ("devices show gaet", 1, "did you mean `gate`?"),
    ("devices connection-string gate --out gate.key", 0, "wrote gate.key"),
    ("devices tag gate shed wing=west size=2 --remove old", 0, "2 changed"),
    ("devices tag gate wing=west", 0, "1 unchanged"),
    ("devices tag gate", 1, "no tag given"),
    ("devices enable gaet", 1, "did you mean `gate`?"),
    ("devices disable nobody", 1, "the hub has no door `nobody`"),
    ("devices disable gate --reason 'stolen'", 0, "1 disabled"),
    ("devices disable gate shed", 0, "1 unchanged, 1 disabled"),
    ("devices enable --where 'status = \"disabled\"'", 0, "2 enabled"),
    ("devices rotate-key gate --out gate.new", 0, "the primary key still works"),
    ("devices rotate-key gate --out gate.new", 1, "cannot create gate.new"),
    ("devices rotate-key gate --key both --out gate.newest", 0, "both old keys of gate have stopped working"),
    ("devices add one two three", 0, "three"),
    ("devices remove one", 4, "there is no terminal to confirm it"),
    ("devices remove one --yes", 0, "1 removed"),
    ("devices remove two three --yes", 0, "2 removed"),
    ("devices remove two --yes", 1, "the hub has no door `two`"),
    ("devices tag gate shed wing=east", 0, "2 changed"),
    ("devices add --from fleet.csv --dry-run", 0, "3 doors would be added; nothing was changed"),
    ("devices add --from fleet.csv --keys-folder fleet.keys", 0, "3 doors added"),
    ("devices add --from fleet.csv", 1, "the hub already has doors of this file: f1 (line 2)"),
    ("devices export --where 'tags.of = \"fleet\"' --with-keys --out fleet.jsonl", 0, "3 doors with their keys"),
    ("devices export --out fleet.jsonl", 1, "fleet.jsonl exists and is not overwritten"),
    ("devices remove f1 f2 --yes", 0, "2 removed"),
    ("devices import fleet.jsonl", 1, "the hub already has doors of this file: f3 (line 3)"),
    ("devices import fleet.jsonl --update", 0, "2 created, 1 unchanged"),
    ("devices import fleet.jsonl --update --dry-run", 0, "3 to be updated; nothing was changed"),
    ("devices remove f1 f2 f3 --yes", 0, "3 removed"),
    ("twin show lobby", 0, "\"lockState\": \"unlocked\""),
    ("devices list --offline --alarm --unsecured --tag wing=east --tag group=1 --allow-none", 0, "no door matches"),
    ("devices list --offline --tag wing=east", 0, "gate"),
    ("twin set gate floor=2 --tag wing=null", 3, "gate: floor=2, tags.wing removed; desired version"),
    ("twin set gate floor=3 --etag AAAAAAAAAAA=", 1, "412 PreconditionFailed"),
    ("twin edit gate", 4, "there is no terminal"),
    ("twin edit gate --yes", 0, "+    \"edited\": true"),
    ("query 'SELECT deviceId, tags.size FROM devices WHERE tags.edited = true' -o csv", 0, "gate,2"),
    ("query 'SELECT COUNT() AS doors FROM devices WHERE STARTSWITH(deviceId, \"ga\")' -o jsonl", 0, "{\"doors\":1}"),
    ("invoke lobby getState", 0, "\"lockState\":\"unlocked\""),
    ("invoke yard getState", 1, "404 DeviceNotOnline"),
    ("status", 2, "all"),
    ("status --building 43 --floor 3 -o json", 0, "\"unsecured\": 1"),
    ("why lobby", 0, "so the door's default decides: released"),
    ("why yard", 2, "it has never reported"),
    ("lock lobby --for 10m", 0, "1 secured"),
    ("unlock lobby --pulse strike", 0, "1 released"),
    ("relinquish lobby", 0, "1 done"),
    ("mode passage lobby", 0, "1 released"),
    ("lockdown lobby", 0, "1 secured"),
    ("unlock lobby", 4, "refused (409): the door is in lockdown (slot 5)"),
    ("all-clear lobby", 0, "1 done"),
    ("mode normal lobby", 0, "1 done"),
    // Whichever job is second is refused.
    ("lockdown lobby yard --connect-timeout 0", 2, "1 secured, 1 failed"),
    ("all-clear lobby yard --connect-timeout 0", 2, "1 done, 1 failed"),
    ("jobs lock yard --at +1h --id tonight", 0, "job tonight is queued: 1 door matches now"),
    // Azure runs one job at a time.
    ("jobs lock lobby --id second", 1, "another job is active, and this hub allows no more: tonight (queued)"),
    ("lockdown lobby yard --connect-timeout 0", 2, "calling each door directly"),
    ("all-clear lobby yard --connect-timeout 0", 2, "1 done, 1 failed"),
    ("jobs list", 0, "tonight"),
    ("jobs show tonight", 0, "starts "),
    ("jobs cancel tonight", 0, "job tonight is cancelled"),
    ("jobs cancel tonight", 4, "job tonight is cancelled: there is nothing to cancel"),
    // Staged by a twin job, which ends before the job for the other door is created.
    ("jobs lock lobby yard --at +1h --for 10m --id ahead", 0, "1 staged, 1 called at the start"),
    ("jobs list", 0, "ahead"),
    ("jobs show ahead-stage", 0, "armed"),
    ("jobs cancel ahead", 0, "job ahead is cancelled: 1 door without its entry"),
    ("jobs show ahead", 0, "job ahead cancelled"),
    ("jobs lock lobby yard --connect-timeout 0 --for 10m --id mixed", 0, "2 doors match now"),
    ("jobs wait mixed", 2, "1 secured, 1 failed"),
    // Azure returns the payload as an array of bytes.
    // Without its flag the response timeout follows the connect timeout of 2 minutes.
    ("jobs show mixed -o json", 0, "\"lockTime\":\"10m\""),
    ("jobs wait mxied", 1, "the hub has no job `mxied`; did you mean `mixed`?"),
    ("jobs watch mxied", 1, "did you mean `mixed`?"),
    ("jobs show mxied", 1, "did you mean `mixed`?"),
    ("jobs export mxied", 1, "did you mean `mixed`?"),
    ("jobs cancel mxied", 1, "did you mean `mixed`?"),
    ("jobs retry mxied", 1, "did you mean `mixed`?"),
    ("jobs retry mixed --watch", 2, "yard"),
    ("jobs unlock lobby --for 5m --watch", 0, "1 released"),
    // Without a flag the response timeout follows the connect timeout of 2 minutes.
    ("jobs lock lobby --for 10m --watch", 0, "1 secured"),
    ("jobs method lockDoor lobby --payload '{\"lockTime\":\"10m\"}' --watch", 0, "1 secured"),
    ("invoke lobby lockDoor --payload '{\"lockTime\":\"10m\"}' --connect-timeout 2m", 0, "\"status\": 200"),
    ("lock lobby --for 10m --connect-timeout 5m", 0, "1 secured"),
    ("lock lobby --connect-timeout 2m --response-timeout 1m", 1, "is longer than --response-timeout 1m"),
    ("jobs lock --building 44 --watch", 1, "no door is assigned to building `44`; did you mean `43`?"),
    ("jobs lock --building 44 --allow-none --watch", 2, "no door matched when"),
    ("jobs method relinquish lobby --watch", 0, "1 done"),
    ("jobs twin --set floor=7 --set-tag wing=west gate shed --id moved", 0, "2 doors match now"),
    ("jobs watch moved", 3, "2 accepted"),
    ("jobs export moved", 0, "moved,gate,,,,,floor is not applied yet; the door is offline"),
    ("jobs plan lock lobby yard --for 10m", 0, "this would lock 2 doors, 1 of them offline; no job was created"),
    ("jobs apply --plan 00000000 lock lobby", 4, "plan 00000000 is outdated"),
    ("jobs tags --set wing=north --remove old gate --watch", 0, "1 changed"),
    ("jobs list --status cancelled -o csv", 0, "tonight"),
    ("schedule check office.toml", 0, "office-hours"),
    ("schedule check fleet.csv", 1, "error: fleet.csv:1: "),
    ("schedule preview office.toml", 0, "now"),
    ("schedule preview office.toml --days 0", 1, "1..=800"),
    ("schedule plan office.toml yard --building 43", 1, "no door matches all given filters"),
    ("schedule plan office.toml yard", 0, "this would set the week of 1 door, 1 of them offline"),
    ("schedule set office.toml yard --plan 00000000", 4, "plan 00000000 is outdated"),
    ("schedule set office.toml yard --watch", 3, "1 of 1 door may not follow a week, as they do not report device.features.schedule: yard"),
    ("schedule show yard", 2, "week office-hours"),
    ("schedule list", 0, "office-hours"),
    ("schedule list --floor 99", 1, "no door is assigned to floor `99`"),
    ("schedule override yard --want released --until now", 1, "expected a time after --from"),
    ("schedule override yard --want released --until +2h --id late --watch", 3, "1 accepted"),
    ("schedule next --within 0", 1, "--within"),
    ("schedule next", 0, "released ends"),
    ("alarms list", 0, "no alarm is raised"),
    ("alarms ack lobby --note x", 4, "lobby has no alarm"),
    ("status -o prometheus", 0, "doorfleet_doors{building=\"43\""),
    ("whoami", 0, "ServiceConnect"),
    ("schedule clear nobody", 1, "the hub has no door `nobody`"),
    ("schedule clear yard --watch", 0, "1 changed"),
];

/// Command and what only door-hub can do; the exit status is 4, and no request is sent.
const DOOR_HUB_ONLY: &[(&str, &str)] = &[
    ("logs lobby", "record what happens at a door"),
    ("events -f", "record events"),
    ("audit", "record who did what"),
    ("policy list", "manage policies and bound what they may do"),
    (
        "policy add anna --role guard --out key",
        "manage policies and bound what they may do",
    ),
];

#[test]
fn every_verb_that_azure_supports_works_with_azures_api() {
    let lab = Lab::new();
    let azure = Azure::before(&lab, Queries::AZURE);
    azure.let_deleted_devices_linger();
    let _lobby = lab.door("lobby", "--building 43 --floor 3");
    lab.run("devices add yard").expect(0);
    let fleet = "door,floor,tags.of\nf1,1,fleet\nf2,2,fleet\nf3,3,fleet\n";
    std::fs::write(lab.folder().join("fleet.csv"), fleet).unwrap();
    let week =
        include_str!("../../../deploy/examples/weeks/shop.toml").replace("shop", "office-hours");
    std::fs::write(lab.folder().join("office.toml"), week).unwrap();
    let edit = r#"sed -i 's/"tags": {/"tags": {"edited": true,/' "$1""#;
    std::fs::write(lab.folder().join("edit.sh"), edit).unwrap();
    for row in SERVED {
        azure.new_minute();
        lab.run_all(&[*row]);
        assert_eq!(azure.strays(), [""; 0], "doorctl {}", row.0);
    }
    for (line, what) in DOOR_HUB_ONLY {
        let says = format!("is not door-hub: only door-hub can {what}, Azure IoT Hub cannot");
        lab.run(line).expect(4).says(&[&says]);
        assert_eq!(azure.strays(), [""; 0], "doorctl {line}");
    }
}

/// How the hub shows the running job `night` in each response; command, exit status and part of the
/// output.
#[rustfmt::skip]
const ENDS: &[(&[Shown], &str, i32, &str)] = &[
    (&[Unknown], "jobs wait night", 1, "the hub has no job `night`"),
    (&[Unknown], "jobs watch night", 1, "the hub has no job `night`"),
    (&[Unknown], "jobs show night", 1, "the hub has no job `night`"),
    (&[Unknown], "jobs export night", 1, "the hub has no job `night`"),
    (&[Unknown], "jobs retry night", 1, "the hub has no job `night`"),
    // It was created a moment ago.
    (&[Unknown, Unknown, Status("completed")], "jobs wait night", 2, "job night completed"),
    // It is deleted while it is watched.
    (&[AsItIs, AsItIs, Unknown], "jobs watch night", 1,
        "job night no longer exists on the hub; its last status was running"),
    (&[AsItIs, AsItIs, Unknown], "jobs wait night", 1,
        "job night no longer exists on the hub; its last status was running"),
    (&[AsItIs, Unknown, Unknown, Status("completed")], "jobs watch night", 2,
        "job night completed"),
    // Words that doorctl does not know, permanently or temporarily.
    (&[Status("paused")], "jobs wait night", 1,
        "does not know: the hub reports the unknown status \"paused\""),
    (&[Status("paused")], "jobs watch night", 1,
        "does not know: the hub reports the unknown status \"paused\""),
    (&[Status("unknown")], "jobs watch night", 1,
        "does not know: the hub reports the unknown status \"unknown\""),
    (&[Status("paused")], "jobs show night", 0,
        "job night unknown: the hub reports the unknown status \"paused\""),
    (&[Status("paused")], "jobs retry night", 4, "only a job that is over can be retried"),
    (&[Status("paused"), Status("paused"), Status("failed")], "jobs watch night", 2,
        "job night failed"),
    (&[Type("other"), Type("other"), Status("Completed")], "jobs watch night", 2,
        "job night completed"),
    (&[AsItIs, Status("cancelled")], "jobs watch night", 2, "job night cancelled"),
    (&[AsItIs], "jobs wait night --deadline 3s", 3, "0 of 1 done; waiting until "),
];

#[test]
fn waiting_ends_in_every_state_of_a_job() {
    let lab = Lab::new();
    let azure = Azure::before(&lab, Queries::AZURE);
    lab.run("devices add yard").expect(0);
    // A created job is not visible, temporarily or permanently.
    let tag = "jobs tags --set wing=east yard --watch --id";
    azure.show("made", &[Unknown, Unknown, AsItIs]);
    lab.run(format!("{tag} made"))
        .expect(0)
        .says(&["1 changed"]);
    azure.show("lost", &[Unknown]);
    lab.run(format!("{tag} lost"))
        .expect(1)
        .says(&["the hub has no job `lost`", "next: doorctl jobs list"]);
    lab.run("jobs lock yard --connect-timeout 5m --id night")
        .expect(0);
    lab.shows("jobs show night", "/job/status", "running");
    for (shown, line, status, says) in ENDS {
        azure.new_minute();
        azure.show("night", shown);
        let output = lab.run(line);
        let what = format!("{shown:?}, doorctl {line}: {output:?}");
        assert_eq!(output.status, *status, "{what}");
        assert!(output.stderr.contains(says), "{what}");
        assert_eq!(azure.strays(), [""; 0], "doorctl {line}");
    }
}

#[test]
fn requests_that_only_door_hub_accepts_get_azures_error() {
    let lab = Lab::new();
    let _azure = Azure::before(&lab, Queries::AZURE);
    lab.run("devices add yard").expect(0);
    for (line, warning) in [
        (
            "jobs lock yard --id Tonight",
            "Azure IoT Hub accepts no capitals in a job's id",
        ),
        (
            "jobs lock yard --at 2099-01-01T00:00:00Z",
            "Azure IoT Hub accepts a start within 168 hours only",
        ),
        ("jobs lock --where 'tags.group = 1'", "keyword"),
    ] {
        lab.run(line)
            .expect(1)
            .says(&["400 ArgumentInvalid", warning]);
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
        let ours = lab.run(line);
        assert!(!ours.stderr.contains(warning), "{line}: {}", ours.stderr);
    }
    let _azure = Azure::before(&lab, Queries::AZURE);
    for line in lines {
        let theirs = lab.run(line);
        assert!(theirs.stderr.contains(warning), "{line}: {}", theirs.stderr);
    }
    let bracketed = "query 'SELECT * FROM devices WHERE tags.[[group]] = 1'";
    let taken = lab.run(bracketed).expect(0);
    assert!(!taken.stderr.contains("keyword"), "{}", taken.stderr);
}

#[test]
fn a_list_that_needs_several_jobs_is_refused_with_advice_to_tag() {
    let lab = Lab::new();
    let azure = Azure::before(&lab, Queries::AZURE);
    let names = Lab::many_names();
    let names = names.join(" ");
    for verb in ["jobs lock", "jobs plan unlock"] {
        let line = format!("{verb} {names}");
        lab.run(line).expect(4).says(&[
            "only door-hub can run 3 jobs at the same time, which these 300 names need",
            "doorctl devices tag DOOR.. batch=x, then: --where \"tags.batch = 'x'\"",
        ]);
    }
    // Immediate verbs need no job.
    lab.run(format!("devices add {names}")).expect(0);
    azure.new_minute();
    let locked = lab
        .run(format!("lock {names} --yes --connect-timeout 0 -o json"))
        .expect(2)
        .says(&[
            "several jobs are needed, and this hub runs one job at a time: \
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
        lab.run("devices list").expect(0);
    }
    while azure.throttled() == 0 {
        let output = lab.run("devices list").expect(0);
        if azure.throttled() > 0 {
            output.says(&["429 ThrottlingException", "trying again in "]);
        }
    }
    assert_eq!(azure.strays(), [""; 0]);
}

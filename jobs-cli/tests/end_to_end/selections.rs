//! Exit status of each verb for each kind of selection, above all the empty one.

use super::support::{Lab, Row};

/// A verb over doors and its other arguments.
const VERBS: &[&str] = &[
    "jobs lock --at +1h",
    "jobs unlock --for 5m --watch",
    "jobs method identify",
    "jobs twin --set floor=3",
    "jobs tags --set wing=x",
    "jobs plan lock",
    "jobs apply --plan 00000000 lock",
    "lock",
    "unlock --for 5m",
    "relinquish",
    "mode secure",
    "lockdown",
    "all-clear",
    "status",
    "devices list",
    "devices tag wing=x",
    "devices enable",
    "devices disable",
    "devices remove --yes",
    "devices export",
];

/// A selection with a place that no door is assigned to, and the error of every verb.
const NOWHERE: &[(&str, &str)] = &[
    (
        "--building nroth",
        "no door is assigned to building `nroth`; did you mean `north`?",
    ),
    (
        "--building 44",
        "no door is assigned to building `44`; doors are assigned to north, south",
    ),
    (
        "--floor 9",
        "no door is assigned to floor `9`; doors are assigned to 3, 4",
    ),
    (
        "--floor 33",
        "no door is assigned to floor `33`; did you mean `3`?",
    ),
    (
        "--building north --floor 9",
        "no door is assigned to floor `9`",
    ),
    (
        "--building south --floor 3",
        "no door is assigned to floor `3` of building `south`; doors are assigned to 4",
    ),
    (
        "--building north --building soth",
        "no door is assigned to building `soth`; did you mean `south`?",
    ),
    (
        "--floor 3 --floor 33",
        "no door is assigned to floor `33`; did you mean `3`?",
    ),
    ("--building north yard", "no door matches all given filters"),
    (
        "--tag group=pubic",
        "no door has tag group `pubic`; did you mean `public`?",
    ),
    (
        "--tag group=public --tag group=staf",
        "no door has tag group `staf`; did you mean `staff`?",
    ),
    (
        "--tag level=9",
        "no door has tag level `9`; doors have 1, 2",
    ),
    ("--tag shift=a", "no door has any tag shift"),
    (
        "--building north --tag group=staff",
        "no door matches all given filters",
    ),
];

/// Command, exit status and part of the output.
#[rustfmt::skip]
const ENDS: &[Row] = &[
    // With --allow-none a job is created that reaches no door.
    ("jobs lock --building nroth --at +1h --allow-none", 0, "warning: no door matches now"),
    ("jobs lock --building nroth --allow-none --id none", 0, "warning: no door matches now"),
    ("jobs wait none", 2, "no door matched when none started"),
    ("jobs watch none", 2, "no door matched when none started"),
    ("jobs retry none", 4, "called no door: there is nothing to retry"),
    ("jobs lock --floor 9 --allow-none --watch", 2, "no door matched when"),
    ("jobs twin --set a=1 --where 'tags.wing = 1' --watch", 2, "no door matched when"),
    ("jobs tags --set a=1 --floor 9 --allow-none --watch", 2, "no door matched when"),
    ("jobs plan lock --floor 9 --allow-none", 0, "this would lock 0 doors"),
    ("lock --floor 9 --allow-none", 2, "no door matches; nothing was changed"),
    ("unlock --for 5m --floor 9 --allow-none", 2, "no door matches; nothing was changed"),
    ("relinquish --floor 9 --allow-none", 2, "no door matches; nothing was changed"),
    ("mode secure --floor 9 --allow-none", 2, "no door matches; nothing was changed"),
    ("lockdown --floor 9 --allow-none", 2, "no door matches; nothing was changed"),
    ("all-clear --floor 9 --allow-none", 2, "no door matches; nothing was changed"),
    ("lockdown --where 'tags.wing = 1'", 2, "no door matches; nothing was changed"),
    ("all-clear --where 'tags.wing = 1'", 2, "no door matches; nothing was changed"),
    ("status --floor 9 --allow-none", 0, "all"),
    ("status --floor 9 --allow-none --expect-secured", 2, "all"),
    ("devices list --floor 9 --allow-none", 0, "no door matches"),
    ("devices tag --floor 9 wing=x --allow-none", 0, "no door matches; nothing was changed"),
    ("devices remove --floor 9 --allow-none", 0, "no door matches; nothing was changed"),
    ("devices export --floor 9 --allow-none", 0, ""),
    // Selections with doors.
    ("jobs tags --set a=1 --building north --floor 3 --watch", 0, "1 changed"),
    ("jobs tags --set a=1 --building north --building south --watch", 0, "2 changed"),
    ("jobs twin --set b=1 --floor 3.0 --watch", 0, "1 changed"),
    ("jobs lock gate --connect-timeout 0 --watch", 2, "1 failed"),
    ("devices list --building south", 0, "yard"),
    ("jobs tags --set a=1 --tag group=public --tag group=staff --watch", 0, "2 changed"),
    ("jobs tags --set a=1 --tag group=public --tag level=1 --watch", 0, "1 changed"),
    ("devices list --tag group=staff", 0, "yard"),
    ("devices list --tag level=1 --tag group=pubic --allow-none", 0, "no door matches"),
    ("events --tag group=staff", 0, "yard"),
    ("events --tag group=pubic", 1, "did you mean `public`?"),
    ("devices list --tag group", 1, "expected NAME=VALUE"),
    ("lockdown --tag =a", 1, "the key is empty"),
    ("lockdown --tag desired.a=1", 1, "is a desired property; expected a tag"),
    ("lock --all --tag group=staff", 1, "cannot be used with"),
];

#[test]
fn an_empty_selection_is_never_a_success() {
    let lab = Lab::new();
    for (line, status) in [("lockdown --all", 2), ("all-clear --all", 2), ("status", 0)] {
        lab.run(line).expect(status);
    }
    lab.run("devices add gate --building north --floor 3 --tag group=public --tag level=1")
        .expect(0);
    lab.run("devices add yard --building south --floor 4 --tag group=staff --tag level=\"2\"")
        .expect(0);
    for (selection, says) in NOWHERE {
        for verb in VERBS {
            let output = lab.run(format!("{verb} {selection}"));
            let line = format!("doorctl {verb} {selection}: {output:?}");
            assert_eq!(output.status, 1, "{line}");
            assert!(output.stderr.contains(says), "{line}");
            assert_eq!(output.stdout, "", "{line}");
        }
    }
    lab.run_all(ENDS);
    // The planned job, without doors.
    let plan = lab.json("jobs plan lock --floor 9 --allow-none");
    let digest = plan["digest"].as_str().unwrap();
    let apply = format!("jobs apply --plan {digest} lock --floor 9 --allow-none --watch");
    lab.run(&apply).expect(2).says(&["no door matched when"]);
}

//! Every verb is tested for success and failure.
//!
//! A new verb gets rows here, or in [`azure::SERVED`] if Azure supports it, or a line in
//! [`ELSEWHERE`].

#[path = "../common/verbs.rs"]
mod listed;

use std::collections::{BTreeMap, BTreeSet};

use super::azure;
use super::support::{Lab, Operator, Row};
use listed::{listed, verbs};

/// Command, exit status and part of the output, in the order of execution, with the doors `lobby`
/// (connected) and `yard` (offline).
#[rustfmt::skip]
const HERE: &[Row] = &[
    ("context add other --connection-string-file hub/service-connection-string --ca hub/ca.pem", 0, "context other is stored in"),
    ("context add other --connection-string-file hub/service-connection-string", 1, "other"),
    ("context use lab", 0, "lab"),
    ("context use nowhere", 1, "nowhere"),
    ("context remove other", 0, "other"),
    ("context remove other", 1, "other"),
    ("completion bash", 0, "complete"),
    ("completion tcsh", 1, "possible values"),
    ("devices list --where 'tags.wing ='", 1, "--where: "),
    ("devices connection-string yard --out yard.key", 0, "yard.key"),
    ("devices connection-string yard --out yard.key", 1, "yard.key"),
    ("twin show yrad", 1, "did you mean `yard`?"),
    ("twin set lobby floor=3", 0, "lobby: floor is applied"),
    ("query 'SELECT'", 1, "QUERY: "),
    ("lock yard --connect-timeout 0", 2, "DeviceNotOnline"),
    ("relinquish nobody", 1, "the hub has no door `nobody`"),
    ("lock nobody lobby nowhere", 1, "the hub has no doors nobody, nowhere"),
    ("jobs lock nobody lobby nowhere", 1, "the hub has no doors nobody, nowhere"),
    ("mode secure yard --connect-timeout 0", 2, "DeviceNotOnline"),
    ("status --floor 99", 1, "no door is assigned to floor `99`; doors are assigned to 3"),
    ("jobs list --status sleeping", 1, "possible values"),
    ("jobs lock yard --connect-timeout 5m --id long", 0, "job long is"),
    ("jobs cancel long", 0, "job long is"),
    ("jobs cancel lnog", 1, "the hub has no job `lnog`; did you mean `long`?"),
    ("jobs show nothing", 1, "the hub has no job `nothing`"),
    ("jobs watch nothing", 1, "doorctl jobs list"),
    ("jobs wait nothing", 1, "doorctl jobs list"),
    ("jobs wait long", 2, "long"),
    ("jobs lock lobby --for 5m --id short", 0, "job short is"),
    ("jobs wait short", 0, "1 secured"),
    ("jobs watch short", 0, "1 secured"),
    ("jobs wait short --deadline 0", 1, "--deadline"),
    ("lock lobby --until now", 1, "expected a future time"),
    ("jobs export nothing", 1, "the hub has no job `nothing`"),
    ("jobs retry nothing", 1, "the hub has no job `nothing`"),
    ("jobs retry short", 0, "every remaining door of job short is secured: nothing to do"),
    ("jobs plan lock nobody", 1, "the hub has no door `nobody`"),
    ("jobs unlock nobody", 1, "the hub has no door `nobody`"),
    ("jobs method reboot", 1, "no doors selected"),
    ("jobs twin --set floor=4 nobody", 1, "the hub has no door `nobody`"),
    ("jobs tags --set wing", 1, "expected KEY=VALUE"),
    ("events --kind device --limit 1", 0, "yard"),
    ("events --floor 99", 1, "no door is assigned to floor `99`; doors are assigned to 3"),
    ("audit --operation job.create", 0, "long"),
    ("audit --limit 0", 1, "1..="),
    ("logs lobby", 0, "twin.update"),
    ("logs lobyb", 1, "the hub has no door `lobyb`; did you mean `lobby`?"),
    ("logs lobby --since tomorrow", 1, "--since"),
    ("doctor", 0, "1 of 2 doors offline"),
    ("doctor --context nowhere", 2, "unknown context `nowhere`"),
    ("whoami", 0, "RegistryWrite"),
    ("whoami --context nowhere", 1, "nowhere"),
    ("alarms list --floor 99", 1, "no door is assigned to floor `99`"),
    ("policy add anna --role guard --floor 3 --out anna", 0, "anna"),
    ("policy add anna --role guards --out other", 1, "a similar value exists: 'guard'"),
    ("policy list", 0, "guard"),
    ("policy list --context nowhere", 1, "nowhere"),
    ("policy show", 0, "viewer"),
    ("policy show nobody", 1, "there is no policy `nobody`"),
    ("policy change anna --role operator", 0, "unlockDoor"),
    ("policy change nobody --role operator", 1, "there is no policy `nobody`"),
    ("policy rotate anna --key primary --out new --yes", 0, "wrote new"),
    ("policy rotate anna --key primary --out new --yes", 1, "choose another file"),
    ("policy remove iothubowner --yes", 1, "cannot be removed"),
    ("policy remove anna", 4, "there is no terminal"),
    ("policy remove anna --yes", 0, "policy anna is removed"),
    ("version", 0, "door-agent"),
    ("version --context nowhere", 1, "nowhere"),
    ("dashboard --context nowhere", 1, "nowhere"),
    ("explain jammed", 0, "jammed (Alarms)"),
    ("explain jamed", 1, "did you mean `jammed`?"),
    ("config view", 0, "(secret)"),
    ("config view --context nowhere", 1, "nowhere"),
    ("context list -o jsonl", 0, "lab"),
];

/// Verbs whose tests need more than a row: the exit statuses tested and the file with the tests.
const ELSEWHERE: &[(&str, bool, &str)] = &[
    ("context list", false, "cli/context.rs"),
    ("alarms ack", true, "end_to_end/alarms.rs"),
    ("devices enroll", true, "end_to_end/enroll.rs"),
    ("devices enroll", false, "cli/enroll.rs"),
    ("jobs apply", true, "end_to_end/plan.rs"),
    ("schedule set", true, "end_to_end/schedule.rs"),
    ("schedule show", true, "end_to_end/schedule.rs"),
    ("schedule override", true, "end_to_end/schedule.rs"),
    ("dashboard", true, "end_to_end/dashboard.rs"),
    ("demo", true, "end_to_end/demo.rs"),
    ("demo", false, "cli/mistakes.rs"),
];

#[test]
fn every_verb_has_a_success_and_a_failure_test() {
    let operator = Operator::new();
    let help = |path: &[String]| {
        let line = format!("{} --help", path.join(" "));
        operator.run(line).expect(0).stdout
    };
    let is_group = |path: &[String]| !listed(&help(path)).is_empty();
    let mut there = BTreeSet::new();
    for path in verbs(help) {
        let path = match path.as_slice() {
            // The argument of `plan` and `apply` is again a verb of `jobs`.
            [jobs, plan, ..] if jobs == "jobs" && ["plan", "apply"].contains(&plan.as_str()) => {
                path[..2].to_vec()
            }
            path if is_group(path) => continue,
            path => path.to_vec(),
        };
        there.insert(path.join(" "));
    }
    let mut tried: BTreeMap<(String, bool), usize> = BTreeMap::new();
    for (line, status, _) in HERE.iter().chain(azure::SERVED) {
        let verb = there
            .iter()
            .find(|verb| line == verb || line.starts_with(&format!("{verb} ")));
        let verb = verb.unwrap_or_else(|| panic!("`{line}` starts with no existing verb"));
        *tried.entry((verb.clone(), *status == 0)).or_default() += 1;
    }
    for (verb, well, file) in ELSEWHERE {
        let path = format!("{}/tests/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap();
        let tries = text.contains(&format!("\"{verb}"));
        assert!(tries, "{file} does not try `{verb}`");
        *tried.entry(((*verb).to_owned(), *well)).or_default() += 1;
    }
    let untried: Vec<String> = there
        .iter()
        .flat_map(|verb| [(verb.clone(), true), (verb.clone(), false)])
        .filter(|verb| !tried.contains_key(verb))
        .map(|(verb, well)| format!("{verb} ({})", if well { "well" } else { "not well" }))
        .collect();
    assert_eq!(untried, [""; 0]);
}

#[test]
fn verbs_have_the_expected_exit_status_at_door_hub() {
    let lab = Lab::new();
    let _lobby = lab.door("lobby", "--building 43 --floor 3");
    lab.run("devices add yard").expect(0);
    lab.run_all(HERE);
}

//! Policies with bounds: from the administrator's laptop to a guard's.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use door_agent::gpio::simulated::{Hold, Sensor, SimCommand};
use serde_json::json;

use super::support::{Lab, Operator};

const PAGE: &str = include_str!("../../../docs/operator/people.md");

const WEEK: &str = "name = \"shut\"\nzone = \"UTC\"\n[[window]]\ndays = \"mon-sun\"\n\
                    from = \"00:00\"\nto = \"24:00\"\nwant = \"locked\"\n";

/// Roles in the columns of the page.
const ROLES: [&str; 4] = ["viewer", "guard", "operator", "admin"];

/// An operator whose context has the connection string `NAME.connection` of the administrator.
fn person(lab: &Lab, name: &str) -> Operator {
    let person = Operator::new();
    let file = lab.folder().join(format!("{name}.connection"));
    let (file, ca) = (file.display(), lab.data.join("ca.pem"));
    let ca = ca.display();
    person
        .run(format!(
            "context add site --connection-string-file {file} --ca {ca}"
        ))
        .expect(0);
    person
}

#[test]
fn a_guard_of_one_building_locks_its_doors_and_knows_no_others() {
    let lab = Lab::new();
    let _east = lab.door("east", "--building 43");
    let _west = lab.door("west", "--building 44");
    #[rustfmt::skip]
    lab.run_all(&[
        ("policy add anna --role guard --building 34 --out x", 1, "no door is assigned to building `34`; did you mean `43`?"),
        ("policy add anna --role guard --where 'properties.reported.a = 1' --out x", 1, "`where` reads `properties.reported.a`"),
        ("policy add anna --role guard --where 'tags.alarm.a = 1' --out x", 1, "`where` reads `tags.alarm.a`"),
        ("policy add anna --role viewer --method lockDoor --out x", 1, "a viewer calls none"),
        ("policy add anna --role admin --building 43 --out x", 1, "--role admin has no bounds"),
        ("policy add anna --role guard", 1, "--out <FILE>|--as-context <NAME>"),
        ("policy add anna --role guard --out none/x", 1, "cannot create none/x"),
        ("policy show anna", 1, "anna"),
    ]);
    // Nothing is half-applied: neither a file nor a policy.
    assert!(!lab.folder().join("x").exists());
    let added = lab.run(
        "policy add anna --role guard --building 43 --out anna.connection -v --reason 'new guard'",
    );
    let file = lab.folder().join("anna.connection");
    let text = fs::read_to_string(&file).unwrap();
    let key = text.trim().split("SharedAccessKey=").nth(1).unwrap();
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let added = added.expect(0);
    assert!(!format!("{added:?}").contains(key));
    added.says(&["wrote anna.connection; keep it secret"]);
    let printed = lab.run("policy add anna --role guard --out again");
    printed.expect(1).says(&["already exists"]);
    assert!(!lab.folder().join("again").exists());
    let shown = lab.run("policy show anna").expect(0);
    insta::assert_snapshot!(shown.stdout, @r"
    policy   anna
    role     guard
    access   operate
    methods  lockDoor lockdown allClear getState
    desired  lockdown
    tags     alarm
    where    properties.desired.building = 43 OR properties.desired.building = '43'
    rights   ServiceConnect
    ");

    let anna = person(&lab, "anna");
    let whoami = anna.json("whoami");
    let condition = "properties.desired.building = 43 OR properties.desired.building = '43'";
    assert_eq!(
        [&whoami[0]["role"], &whoami[0]["where"]],
        [&json!("guard"), &json!(condition)]
    );
    assert!(!format!("{whoami}").contains(key));
    #[rustfmt::skip]
    anna.run_all(&[
        ("lock east", 0, "secured"),
        ("why east", 0, "locked"),
        ("unlock east", 4, "do not list `unlockDoor`"),
        ("unlock east", 4, "what this policy may do: doorctl whoami"),
        ("mode passage east", 4, "do not list `setMode`"),
        ("twin set east mode=passage", 4, "do not list `mode`"),
        ("why west", 1, "the hub has no door `west`"),
        ("lock west", 1, "the hub has no door `west`"),
        ("lockdown --all", 0, "1 secured"),
        ("all-clear --all", 0, ""),
        ("devices add new", 4, "a policy with RegistryRead is needed"),
        ("policy list", 4, "does not allow access"),
        ("logs east", 0, "left out: the audit log needs"),
    ]);
    assert_eq!(anna.json("devices list").as_array().unwrap().len(), 1);
    // A viewer cannot ask the door: what it reported is shown.
    lab.run("policy change anna --role viewer --building 43")
        .expect(0);
    anna.run("why east")
        .expect(0)
        .says(&["this policy may not ask the door"]);
    anna.run("lock east")
        .expect(4)
        .says(&["have access `read`"]);

    // A job that waits is listed before the policy goes.
    lab.run("policy change anna --role operator").expect(0);
    anna.run("jobs lock --all --at +1h --id later").expect(0);
    for verb in [
        "remove anna",
        "rotate anna --key primary --out new.connection",
    ] {
        let refused = lab.run(format!("policy {verb}")).expect(4);
        refused.says(&[
            "later",
            "timed entry later of 2 doors",
            "there is no terminal",
        ]);
    }
    assert!(!lab.folder().join("new.connection").exists());
    lab.run("policy rotate anna --key primary --out new.connection --yes")
        .expect(0);
    anna.run("status").expect(1).says(&["401"]);
    lab.run("policy rotate anna --key secondary --as-context anna --yes")
        .expect(0);
    lab.run("policy rotate anna --key secondary --as-context lab --yes")
        .expect(1)
        .says(&["there is a context called `lab` already"]);
    lab.run("policy rotate anna --key secondary --as-context anna --yes")
        .expect(0);
    lab.run("status --context anna").expect(0);
    lab.run("policy remove anna --yes").expect(0);
    lab.run("status --context anna").expect(1);
    let audit = lab.json("audit --target anna");
    let operations = audit.as_array().unwrap().iter();
    let operations: Vec<_> = operations
        .map(|row| row["operation"].as_str().unwrap())
        .collect();
    assert_eq!(operations.first(), Some(&"policy.create"));
    assert_eq!(operations.last(), Some(&"policy.delete"));
    assert_eq!(audit[0]["reason"], "new guard");
    assert!(!format!("{audit}").contains(key));
}

/// A command for each verb of the page; `DOOR` is a door of its own.
const COMMANDS: &[(&str, &str)] = &[
    ("status", ""),
    ("why", "DOOR"),
    ("devices list", ""),
    ("devices show", "DOOR"),
    ("devices export", ""),
    ("twin show", "DOOR"),
    ("query", "'SELECT deviceId FROM devices'"),
    ("alarms list", ""),
    ("events", ""),
    ("logs", "DOOR"),
    ("jobs list", ""),
    ("jobs plan", "lock DOOR"),
    ("schedule list", "DOOR"),
    ("whoami", ""),
    ("alarms ack", "DOOR --note x"),
    ("lock", "DOOR"),
    ("jobs lock --no-stage", "DOOR --watch"),
    ("lockdown", "DOOR"),
    ("all-clear", "DOOR"),
    ("unlock", "DOOR --for 1m"),
    ("jobs unlock --no-stage", "DOOR --for 1m"),
    ("relinquish", "DOOR"),
    ("mode", "normal DOOR"),
    ("schedule set", "week.toml DOOR"),
    ("schedule clear", "DOOR"),
    (
        "schedule override",
        "DOOR --want locked --from +1h --until +2h --id x",
    ),
    ("twin set", "DOOR mode=normal --deadline 0"),
    ("devices tag", "DOOR a=1"),
    ("devices add", "new-ROLE"),
    ("devices remove", "new-ROLE --yes"),
    ("devices disable", "gone-ROLE"),
    ("devices rotate-key", "DOOR --key secondary --out ROLE.new"),
    ("devices connection-string", "DOOR --out ROLE.key"),
    ("audit", ""),
    ("policy list", ""),
    ("policy add", "p-ROLE --role viewer --out ROLE.out"),
    ("policy change", "p-ROLE --role viewer"),
    (
        "policy rotate",
        "p-ROLE --key primary --out ROLE.out2 --yes",
    ),
    ("policy remove", "p-ROLE --yes"),
];

#[test]
fn each_role_may_do_what_the_page_says() {
    let lab = Lab::new();
    let door = lab.door("east", "");
    door.at(SimCommand::Hold(Sensor::Tamper, Hold::On));
    lab.until("devices list --alarm", |doors| doors[0]["door"] == "east");
    let (_, table) = PAGE.split_once("## Verbs").unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split(" | ").collect()).collect();
    let mut named = BTreeSet::new();
    for (column, role) in ROLES.into_iter().enumerate() {
        lab.run(format!(
            "policy add {role} --role {role} --out {role}.connection"
        ))
        .expect(0);
        lab.run(format!("devices add gone-{role}")).expect(0);
        if role != "admin" {
            lab.run(format!("devices add new-{role}")).expect(0);
        }
        let person = person(&lab, role);
        fs::write(person.folder().join("week.toml"), WEEK).unwrap();
        for row in &rows {
            let is_allowed = row[2 + column].starts_with("yes");
            for verb in row[0].split(", ").map(|verb| verb.trim_matches('`')) {
                named.insert(verb);
                let command = COMMANDS.iter().find(|(known, _)| *known == verb);
                let (_, arguments) = command.unwrap_or_else(|| panic!("no command for {verb}"));
                let arguments = arguments.replace("DOOR", "east").replace("ROLE", role);
                let output = person.run(format!("{verb} {arguments}"));
                let is_refused = output.stderr.contains("does not allow access");
                assert_eq!(
                    is_refused, !is_allowed,
                    "{role}: {verb} {arguments}: {output:?}"
                );
                if is_refused {
                    output.expect(4);
                }
            }
        }
    }
    assert_eq!(named.len(), COMMANDS.len());
}

//! Three days of an operator with 40 doors in two buildings, on 80 columns: no printed line is
//! wider, and each command that a hint names exists.
//!
//! `DOORFLEET_SHOW=FILE` writes everything that was typed and printed to a file, to be read.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use door_agent::gpio::simulated::SimCommand;
use doorfleet_testing::{CommandOutput, DEADLINE, run, workspace_program};

use super::support::{Door, Lab};

const COLUMNS: usize = 80;

/// What the operator typed and saw.
struct Days {
    lab: Lab,
    record: String,
    hinted: BTreeSet<String>,
    /// Everything wrong so far, so that one run shows it all.
    faults: Vec<String>,
}

impl Days {
    /// Types a command. `parts` are in what it prints, in any order.
    fn types(&mut self, line: &str, status: i32, parts: &[&str]) -> CommandOutput {
        let mut command = self.lab.command(line);
        command.env("COLUMNS", COLUMNS.to_string());
        let output = run(&mut command);
        let shown = format!("{}{}", output.stderr, output.stdout);
        writeln!(
            self.record,
            "$ doorctl {line}\n{shown}# {}\n",
            output.status
        )
        .unwrap();
        let mut fault = |fault: String| self.faults.push(format!("doorctl {line}: {fault}"));
        if output.status != status {
            fault(format!("status {}, expected {status}", output.status));
        }
        for part in parts.iter().filter(|part| !shown.contains(**part)) {
            fault(format!("prints no {part:?}"));
        }
        for printed in shown.lines() {
            let width = printed.chars().count();
            if width > COLUMNS {
                fault(format!("{width} columns: {printed}"));
            }
            let hints = printed.split("doorctl ").skip(1);
            self.hinted.extend(hints.filter_map(verb));
        }
        output
    }

    fn day(&mut self, title: &str) {
        writeln!(self.record, "======== {title}\n").unwrap();
    }

    /// Sends each command that a hint named to `--help`.
    fn hints_name_verbs(&self) {
        for verb in &self.hinted {
            self.lab.run(format!("{verb} --help")).expect(0);
        }
    }
}

impl Drop for Days {
    fn drop(&mut self) {
        if let Some(file) = std::env::var_os("DOORFLEET_SHOW") {
            std::fs::write(file, &self.record).unwrap();
        }
    }
}

/// The verb at the start of a hint, with its second word if it has one: `jobs show night` is
/// `jobs show`.
fn verb(hint: &str) -> Option<String> {
    const GROUPS: [&str; 4] = ["context", "devices", "jobs", "twin"];
    let mut words = hint.split([' ', ';', ',', ':', '`', '.', ')']);
    let first = words.next()?;
    let is_word = |word: &&str| {
        !word.is_empty() && word.chars().all(|it| it.is_ascii_lowercase() || it == '-')
    };
    let first = is_word(&first).then_some(first)?;
    if GROUPS.contains(&first) {
        let second = words.next().filter(is_word)?;
        return Some(format!("{first} {second}"));
    }
    Some(first.to_owned())
}

/// 20 doors in each building, on floors -1 to 3.
fn doors() -> Vec<(String, u8, i8)> {
    let places = ["lobby", "stairs-north", "stairs-south", "server-room"];
    let at = |building: u8, floor: i8| {
        let level = if floor < 0 {
            "basement".to_owned()
        } else {
            format!("floor-{floor}")
        };
        places.map(|place| (format!("b{building}-{level}-{place}"), building, floor))
    };
    [43, 44]
        .into_iter()
        .flat_map(|building| (-1..=3).flat_map(move |floor| at(building, floor)))
        .collect()
}

#[test]
fn three_days_of_an_operator_fit_80_columns() {
    let mut days = Days {
        lab: Lab::new(),
        record: String::new(),
        hinted: BTreeSet::new(),
        faults: Vec::new(),
    };
    let names = doors();
    let mut table = "door,building,floor,tags.wing\n".to_owned();
    for (name, building, floor) in &names {
        let wing = if name.ends_with("south") {
            "south"
        } else {
            "north"
        };
        writeln!(table, "{name},{building},{floor},{wing}").unwrap();
    }
    std::fs::write(days.lab.folder().join("doors.csv"), table).unwrap();

    days.day("Monday: forty doors");
    days.types("context list", 0, &["lab"]);
    days.types("doctor", 0, &[]);
    days.types("whoami", 0, &["RegistryWrite"]);
    days.types("devices add --from doors.csv --dry-run", 0, &["40"]);
    days.types("devices add --from doors.csv", 0, &["40"]);
    let offline = "b44-floor-2-server-room";
    let online = names.iter().filter(|(name, ..)| name != offline);
    let mut agents: Vec<(&str, Door)> = online
        .map(|(name, ..)| (name.as_str(), days.lab.start(name)))
        .collect();
    for (name, _) in &agents {
        days.lab.reports(name, "lockState", "unlocked");
    }
    let agent = |agents: &[(&str, Door)], name: &str, command: SimCommand| {
        let (_, door) = agents.iter().find(|(it, _)| *it == name).unwrap();
        door.at(command);
    };
    days.types("version", 0, &["39"]);
    days.types("status", 2, &[offline]);
    days.types(
        "devices list --building 43 --floor -1",
        0,
        &["b43-basement-lobby"],
    );
    days.types("devices list --building 44 --offline", 0, &[offline]);

    let jammed = "b43-floor-3-server-room";
    let propped = "b43-floor-3-lobby";
    agent(&agents, jammed, SimCommand::Jam);
    agent(&agents, propped, SimCommand::Open);
    days.lab.reports(propped, "doorState", "open");
    days.types("jobs plan lock --building 43 --floor 3 --for 2h", 0, &["4"]);
    days.types(
        "jobs lock --building 43 --floor 3 --for 2h --id evening --watch",
        2,
        &["jammed", propped],
    );
    days.types(&format!("why {jammed}"), 0, &["jammed"]);
    days.types(&format!("why {propped}"), 0, &["open"]);
    days.types("explain jammed", 0, &[]);
    days.types("devices list --alarm", 0, &[jammed]);
    days.types(
        "devices list --building 43 --floor 3 --unsecured",
        0,
        &[propped],
    );
    agent(&agents, jammed, SimCommand::Free);
    agent(&agents, propped, SimCommand::Close);
    days.lab.reports(propped, "lockState", "locked");
    days.types(
        "jobs retry evening --id evening-again --watch",
        0,
        &["secured"],
    );
    days.types("status --building 43", 0, &[]);
    days.types("devices list --where 'tags.wing = north'", 1, &["'north'"]);
    days.types("query 'SELECT * FROM devices LIMIT 5'", 1, &["TOP"]);
    days.types(
        "lock b43-floor-3-lobby --for 10",
        1,
        &["10 has no unit: write 10s or"],
    );
    days.types("lock --building 45", 1, &["did you mean"]);
    days.types("lock b43-floor-3-loby", 1, &[propped]);

    days.day("Tuesday: a drill, and a job too many");
    days.types(
        "lockdown --building 44 --reason 'fire drill'",
        2,
        &[offline],
    );
    days.types("status --building 44", 2, &["LOCKDOWN"]);
    days.types("unlock b44-floor-0-lobby", 4, &["lockdown"]);
    days.types("why b44-floor-0-lobby", 0, &["lockdown"]);
    days.types("all-clear --building 44", 2, &[offline]);
    days.types("unlock b44-floor-0-lobby --for 5m", 0, &["unlocked"]);
    days.types("relinquish b44-floor-0-lobby", 0, &[]);
    days.types(
        "jobs lock --all --at +2h --for 8h --id night",
        4,
        &["--yes"],
    );
    days.types(
        "jobs lock --all --at +2h --for 8h --id night --yes",
        0,
        &["night"],
    );
    days.types("jobs list", 0, &["night", "evening"]);
    days.types("jobs cancel night", 0, &["night"]);
    days.types("jobs show night", 0, &["cancelled"]);
    days.types(
        "jobs lock --building 44 --floor 2 --id late --connect-timeout 0 \
         --response-timeout 5s --watch",
        2,
        &[offline],
    );
    agents.push((offline, days.lab.start(offline)));
    days.lab.shows(
        format!("twin show {offline}"),
        "/connectionState",
        "Connected",
    );
    days.types("jobs retry late --id late-again --watch", 0, &["secured"]);
    days.types("jobs show late", 0, &["late-again"]);
    days.types("events --since 1d --alarms", 0, &["jammed"]);
    days.types("events --since 1d --limit 20", 0, &[]);
    days.types("audit --since 1d --limit 20", 0, &["job.create"]);
    days.types(&format!("logs {jammed}"), 0, &["jammed"]);

    days.day("Wednesday: keys, a new Pi, a second operator");
    let rotated = "b44-floor-0-stairs-south";
    days.types(
        &format!("devices rotate-key {rotated} --key both --out rotated.connection-string"),
        0,
        &[],
    );
    days.types(&format!("devices show {rotated}"), 0, &[]);
    let replaced = "b44-floor-1-lobby";
    let index = agents
        .iter()
        .position(|(name, _)| *name == replaced)
        .unwrap();
    let (_, old) = agents.swap_remove(index);
    days.lab.stop(replaced, old);
    days.types(&format!("why {replaced}"), 2, &["offline"]);
    days.types("devices list --building 44 --floor 1", 0, &[replaced]);
    days.types(
        &format!("lock {replaced} --connect-timeout 0 --response-timeout 5s"),
        2,
        &[replaced],
    );
    std::fs::remove_dir_all(days.lab.folder().join(format!("{replaced}.state"))).unwrap();
    agents.push((replaced, days.lab.start(replaced)));
    days.lab.shows(
        format!("twin show {replaced}"),
        "/connectionState",
        "Connected",
    );
    days.types(&format!("lock {replaced} --for 10m"), 0, &["secured"]);

    let data = days.lab.data.to_str().unwrap().to_owned();
    run(Command::new(workspace_program("door-hub"))
        .args([
            "policy",
            "add",
            "bob",
            "--rights",
            "RegistryRead,ServiceConnect",
        ])
        .args(["--data", &data]))
    .expect(0);
    // The hub reads the policy within seconds.
    let bob = days.lab.folder().join("bob.toml");
    let as_bob = |line: &str| run(days.lab.command(line).env("DOORCTL_CONFIG", &bob));
    as_bob(&format!(
        "context add bob --ca {data}/ca.pem \
         --connection-string-file {data}/bob.connection-string"
    ))
    .expect(0);
    let begun = Instant::now();
    while let refused @ CommandOutput { status: 1.., .. } = as_bob("whoami --context bob") {
        assert!(begun.elapsed() < DEADLINE, "{refused:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    days.types(
        &format!(
            "context add bob --ca {data}/ca.pem \
             --connection-string-file {data}/bob.connection-string"
        ),
        0,
        &[],
    );
    days.types("context use bob", 0, &["bob"]);
    days.types("whoami", 0, &["bob", "RegistryRead"]);
    days.types(
        "lock b43-floor-0-lobby --for 10m --reason 'cleaning done'",
        0,
        &["secured"],
    );
    days.types(
        &format!("devices remove {replaced} --yes"),
        4,
        &["RegistryWrite"],
    );
    days.types("context use lab", 0, &[]);
    days.types("audit --policy bob", 0, &["method.invoke"]);
    days.types("devices tag b43-floor-0-lobby wing=east", 0, &[]);
    days.types("devices list --tag wing=east", 0, &["b43-floor-0-lobby"]);
    days.types("twin set b43-floor-0-lobby floor=1", 0, &[]);
    days.types("twin show b43-floor-0-lobby -o json", 0, &[]);
    days.types("devices disable b43-basement-server-room", 0, &[]);
    days.types("devices enable b43-basement-server-room", 0, &[]);
    days.types("devices export --out fleet.jsonl", 0, &[]);
    days.types("config view", 0, &[]);
    days.types("status", 2, &[]);
    days.hints_name_verbs();
    assert!(days.faults.is_empty(), "{}", days.faults.join("\n"));
}

//! The transcript in the README, which is what these commands really print.
//!
//! After a change of what is printed: `DOORFLEET_BLESS=1 cargo test -p doorctl --test end_to_end
//! transcript` writes it anew.

use std::fmt::Write as _;
use std::fs::{self, File};

use super::support::{Lab, Operator};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");

/// Around the transcript.
const BEGIN: &str = "<!-- Written by jobs-cli/tests/end_to_end/transcript.rs, up to the next comment. -->\n```console\n";
const END: &str = "```\n<!-- The end of what is written by it. -->\n";

/// What is typed, before the doors are there.
const BEFORE: [&str; 2] = [
    "doorctl context add site --connection-string-file hub/service-connection-string --ca hub/ca.pem --zone UTC",
    "doorctl devices add lobby-east lobby-west roof --building 43 --floor 3",
];

const PLAN: &str = "doorctl jobs plan lock --floor 3 --for 10m --connect-timeout 0";

/// With the digest that the plan gave.
const APPLY: &str =
    "doorctl jobs apply --plan DIGEST lock --floor 3 --for 10m --connect-timeout 0 --watch";

/// What is typed when both doors report to be secured.
const BEHIND: [&str; 5] = [
    "doorctl status",
    "doorctl why lobby-east",
    "doorctl lockdown lobby-east lobby-west",
    "doorctl all-clear lobby-east lobby-west",
    "doorctl events --door lobby-east --event command",
];

/// What stands in place of what is another each time.
const DIGEST: &str = "5d0f1b3c9a47";
const DAY_AND_TIME: &str = "Mon 2026-11-23 22:00:00";
const IN_TEN_MINUTES: &str = "Mon 2026-11-23 22:10:00";
const ID: &str = "-20261123-220000-x7k2";

/// Runs a command as it is written; gives what a terminal would show of it.
fn shown(operator: &Operator, line: &str) -> String {
    let words: Vec<&str> = line.split(' ').skip(1).collect();
    let path = operator.folder().join("shown");
    let file = File::create(&path).unwrap();
    let status = operator
        .command(&words)
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .status()
        .unwrap();
    let shown = fs::read_to_string(path).unwrap();
    // 2: the roof is offline.
    assert!(
        [Some(0), Some(2)].contains(&status.code()),
        "{line}: {shown}"
    );
    let here = operator.folder().join("doorctl.toml");
    shown.replace(here.to_str().unwrap(), "~/.config/doorctl/config.toml")
}

#[test]
fn the_transcript_in_the_readme_matches_the_output() {
    let lab = Lab::new();
    let operator = &lab.operator;
    let mut typed = String::new();
    let mut run = |line: &str| {
        let shown = shown(operator, line);
        write!(typed, "$ {line}\n{shown}\n").unwrap();
        shown
    };
    for line in BEFORE {
        run(line);
    }
    let doors = ["lobby-east", "lobby-west"];
    let reported = |name: &str, member: &str, wanted: &str| {
        operator.until(&["twin", "show", name], |twin| {
            twin["properties"]["reported"]["door"][member] == wanted
        });
    };
    let _agents = doors.map(|name| {
        let agent = lab.start(name);
        reported(name, "lockState", "unlocked");
        agent
    });
    let planned = run(PLAN);
    let digest = planned.split("--plan ").nth(1).unwrap();
    let digest = digest.split(' ').next().unwrap();
    run(&APPLY.replace("DIGEST", digest));
    for name in doors {
        reported(name, "secured", "secured");
    }
    for line in BEHIND {
        if line.contains("events") {
            // The record of a command is behind its answer.
            let arguments = ["events", "--door", doors[0], "--event", "command"];
            operator.until(&arguments, |events| {
                events.as_array().map(Vec::len) == Some(3)
            });
        }
        run(line);
    }
    let typed = typed.replace(digest, DIGEST);
    compare(&format!("{}\n", steady(&typed).trim_end()));
}

/// Compares with the README, or writes it there.
fn compare(transcript: &str) {
    let readme = fs::read_to_string(README).unwrap();
    let (before, rest) = readme
        .split_once(BEGIN)
        .expect("the README has a place for it");
    let (kept, behind) = rest.split_once(END).expect("and an end of that place");
    // How wide a column is follows from what was another.
    let words = |text: &str| -> Vec<String> {
        let lines = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        lines.collect()
    };
    if words(kept) == words(transcript) {
        return;
    }
    if std::env::var_os("DOORFLEET_BLESS").is_some() {
        fs::write(README, format!("{before}{BEGIN}{transcript}{END}{behind}")).unwrap();
        return;
    }
    panic!(
        "the README shows something else; DOORFLEET_BLESS=1 writes it anew. It is now:\n{transcript}"
    );
}

/// What is another each time, made the same; without the lines that the next one takes the place of
/// on a terminal.
fn steady(typed: &str) -> String {
    let mut steady = String::new();
    for line in typed.lines() {
        let line = replaced(line, "-99999999-999999-xxxx", |_| ID.to_owned());
        let line = replaced(&line, "localhost:99999", |_| "doors.example".to_owned());
        let line = replaced(&line, "Xxx 9999-99-99 99:99:99", |_| {
            DAY_AND_TIME.to_owned()
        });
        let line = replaced(&line, "9999-99-99 99:99:99", |_| {
            DAY_AND_TIME[4..].to_owned()
        });
        let line = replaced(&line, "in 9 min 99 s", |_| "in 9 min 59 s".to_owned());
        let line = replaced(&line, "in 9 min 9 s", |_| "in 9 min 59 s".to_owned())
            .replace("in 10 min", "in 9 min 59 s")
            .replace(
                &format!("{DAY_AND_TIME} UTC, in 9"),
                &format!("{IN_TEN_MINUTES} UTC, in 9"),
            );
        let overwritten = line
            .split_once("  ")
            .is_some_and(|(first, _)| first.ends_with(ID) && !first.contains(' '));
        if !overwritten {
            steady.push_str(line.trim_end());
            steady.push('\n');
        }
    }
    steady
}

/// Every place that has this shape: 9 stands for a digit, x for a lower-case letter or digit, X for
/// a capital, the rest for itself.
fn replaced(line: &str, shape: &str, with: impl Fn(&str) -> String) -> String {
    let fits = |text: &str| {
        text.chars()
            .zip(shape.chars())
            .all(|(found, wanted)| match wanted {
                '9' => found.is_ascii_digit(),
                'x' => found.is_ascii_lowercase() || found.is_ascii_digit(),
                'X' => found.is_ascii_uppercase(),
                wanted => found == wanted,
            })
    };
    let mut done = String::new();
    let mut at = 0;
    while at < line.len() {
        let place = line.get(at..at + shape.len()).filter(|place| fits(place));
        match (place, line[at..].chars().next()) {
            (Some(place), _) => {
                done += &with(place);
                at += shape.len();
            }
            (None, Some(character)) => {
                done.push(character);
                at += character.len_utf8();
            }
            (None, None) => break,
        }
    }
    done
}

#[test]
fn variable_parts_of_a_transcript_are_masked() {
    let typed = "job lock-20271224-014440-ms8z is queued\nlock-20271224-014440-ms8z  waits for its start\n\
        until Fri 2027-12-24 01:54:40 UTC, in 10 min  x\nlocalhost:35137 answers\n2027-12-24 01:44:40  lobby";
    assert_eq!(
        steady(typed),
        "job lock-20261123-220000-x7k2 is queued\nuntil Mon 2026-11-23 22:10:00 UTC, in 9 min 59 s  x\n\
        doors.example answers\n2026-11-23 22:00:00  lobby\n"
    );
}

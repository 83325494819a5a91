//! The doors after the lock: their reported state as read from the hub, and the job's record.

use std::collections::BTreeMap;
use std::io;

use iothub_protocol::twin::Twin;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::doors::{DemoDoor, DemoDoors, Scenario};
use crate::door::{LOCK_TITLES, ReportedStatus, report_age, reported_value};
use crate::outcome::{OutcomeRow, Progress};
use crate::printer::{Cell, Format, Printer, Row, Tone, plain};

/// Up to this many doors are all printed.
const MAX_DOORS_SHOWN: usize = 60;

/// Unremarkable doors that are printed of a large fleet.
const SAMPLES: usize = 8;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DemoRow {
    door: String,
    building: String,
    floor: String,
    #[serde(flatten)]
    state: ReportedStatus,
    outcome: String,
    #[serde(skip)]
    tone: Tone,
    #[serde(skip)]
    age: Option<String>,
}

impl Row for DemoRow {
    const LEAST_IMPORTANT: &'static [&'static str] =
        &["building", "floor", "proof", "doorState", "lockState"];

    fn titles() -> Vec<&'static str> {
        let mut titles = vec!["door", "building", "floor"];
        titles.extend(LOCK_TITLES);
        titles.push("outcome");
        titles
    }

    fn cell(&self, title: &str, member: &Value) -> Cell {
        match title {
            "outcome" => Cell::toned(&self.outcome, self.tone),
            // No command was sent to this door: its state is neither good nor bad.
            _ if self.outcome.is_empty() && self.age.is_none() => Cell::from(plain(member)),
            _ => self.state.cell(title, member, self.age.as_deref()),
        }
    }
}

/// Prints the doors; of a large fleet as a table, only the remarkable ones and some samples.
pub(super) fn print(
    demo: &DemoDoors,
    twins: &BTreeMap<String, Twin>,
    outcomes: &BTreeMap<&str, &OutcomeRow>,
    printer: &Printer,
) -> io::Result<()> {
    let row = |door: &DemoDoor| {
        row(
            door,
            twins.get(door.id.as_str()),
            outcomes.get(door.id.as_str()).copied(),
        )
    };
    if demo.doors.len() <= MAX_DOORS_SHOWN || printer.format() != Format::Table {
        let rows: Vec<DemoRow> = demo.doors.iter().map(row).collect();
        return printer.rows(&rows);
    }
    let mut unremarkable = 0;
    let mut left_out = 0;
    let mut rows = Vec::new();
    for door in demo.of_locked_floor() {
        let reached = outcomes
            .get(door.id.as_str())
            .is_some_and(|outcome| outcome.progress == Progress::Reached);
        if door.scenario == Scenario::Locks && reached {
            unremarkable += 1;
            if unremarkable > SAMPLES {
                left_out += 1;
                continue;
            }
        }
        rows.push(row(door));
    }
    printer.rows(&rows)?;
    printer.say(format!(
        "and {left_out} more of this floor that are secured; {} doors of other floors (all of \
         them: -o csv)",
        demo.doors.len() - demo.of_locked_floor().count()
    ));
    Ok(())
}

fn row(door: &DemoDoor, twin: Option<&Twin>, outcome: Option<&OutcomeRow>) -> DemoRow {
    let reported = |name| {
        let value = twin.and_then(|twin| reported_value(&twin.properties.reported.values, name));
        value.map_or(String::new(), plain)
    };
    DemoRow {
        door: door.id.to_string(),
        building: reported("building"),
        floor: reported("floor"),
        state: twin.map_or(ReportedStatus::default(), ReportedStatus::reported),
        outcome: outcome.map_or(String::new(), |outcome| outcome.outcome.clone()),
        tone: outcome.map_or(Tone::Plain, |outcome| outcome.progress.tone()),
        age: twin.and_then(|twin| report_age(twin, Timestamp::now())),
    }
}

//! `schedule next`: what a fleet is going to do by its weeks and timed entries.

use std::collections::BTreeMap;

use door_core::contract::Want;
use door_core::schedule::Level;
use iothub_protocol::twin::Twin;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::show::selected;
use super::{DoorWeek, describe, next_want, want_word};
use crate::acknowledgement::AckState;
use crate::cli::schedule::NextArgs;
use crate::door::reported_door;
use crate::exit_status::ExitStatus;
use crate::printer::{Cell, Row, Tone, first_names};
use crate::session::Session;
use crate::time;

/// Doors that a line names; the others are counted.
const MAX_NAMES_SHOWN: usize = 5;

/// A moment at which doors begin to want something.
#[derive(Debug, Serialize)]
struct NextRow {
    at: Timestamp,
    want: &'static str,
    /// The week or the timed entry.
    by: String,
    /// How many of the doors have it.
    armed: usize,
    doors: Vec<String>,
    note: String,
    #[serde(skip)]
    zone: TimeZone,
}

impl Row for NextRow {
    fn titles() -> Vec<&'static str> {
        vec!["at", "want", "by", "armed", "doors", "note"]
    }

    fn cell(&self, title: &str, member: &Value) -> Cell {
        match title {
            "at" => Cell::from(self.at.to_string()).shown_as(time::on_clock(
                &self.at.to_zoned_datetime(self.zone.clone()),
            )),
            "armed" => {
                let tone = match self.armed == self.doors.len() {
                    true => Tone::Good,
                    false => Tone::Doubtful,
                };
                let shown = format!("{} of {}", self.armed, self.doors.len());
                Cell::toned(self.armed.to_string(), tone).shown_as(shown)
            }
            "doors" => {
                Cell::from(self.doors.join(" ")).shown_as(first_names(&self.doors, MAX_NAMES_SHOWN))
            }
            _ => crate::printer::plain(member).into(),
        }
    }
}

/// A desired timed entry; read leniently, since another program may have written it.
#[derive(Debug, Deserialize)]
struct Entry {
    want: Want,
    from: Timestamp,
    until: Option<Timestamp>,
    slot: Option<u8>,
}

pub(super) async fn next(args: &NextArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let now = session.now().await?.timestamp();
    let end = now.checked_add(args.within)?;
    let twins = selected(&args.target, session).await?;
    let rows = agenda(&twins, now, end, &session.zone);
    session.printer.rows(&rows)?;
    if rows.is_empty() {
        session.printer.say(format!(
            "nothing is planned {}: doorctl schedule set, doorctl jobs lock --at",
            time::countdown(end, now)
        ));
    }
    for (text, applies) in [
        (
            "without a trusted clock, where only locks of the week hold",
            without_clock as fn(&Twin) -> bool,
        ),
        (
            "held by a command without an end, which the week waits for",
            is_held,
        ),
        (
            "with a week that this doorctl cannot read",
            has_unreadable_week,
        ),
    ] {
        let has_week = |twin: &&Twin| twin.properties.desired.values.contains_key("schedule");
        let names = twins.iter().filter(has_week).filter(|twin| applies(twin));
        let names: Vec<&str> = names.map(|twin| twin.device_id.as_str()).collect();
        if !names.is_empty() {
            let shown = first_names(&names, MAX_NAMES_SHOWN);
            session.printer.warn(format!(
                "{} {text}: {shown}",
                crate::printer::doors(names.len() as u64)
            ));
        }
    }
    Ok(ExitStatus::Success)
}

fn without_clock(twin: &Twin) -> bool {
    let device = twin.properties.reported.values.get("device");
    device
        .and_then(|device| device.get("clock"))
        .is_some_and(|clock| clock == "unsynchronized")
}

fn has_unreadable_week(twin: &Twin) -> bool {
    DoorWeek::of(twin).is_some_and(|week| week.calendar.is_err())
}

fn is_held(twin: &Twin) -> bool {
    let held = reported_door(twin).and_then(|door| door.get("heldBy"));
    let number = |held: &Value| held.get("slot").and_then(Value::as_u64);
    held.is_some_and(|held| {
        number(held).is_some_and(|slot| slot < 16) && held.get("until").is_none_or(Value::is_null)
    })
}

fn agenda(twins: &[Twin], now: Timestamp, end: Timestamp, zone: &TimeZone) -> Vec<NextRow> {
    // One week or entry, and the moments at which it changes what its doors want.
    let mut rows: BTreeMap<(Timestamp, String, &str, String), NextRow> = BTreeMap::new();
    let mut add = |twin: &Twin, at: Timestamp, want, by: &str, armed, note: String| {
        let new = || NextRow {
            at,
            want,
            by: by.to_owned(),
            armed: 0,
            doors: Vec::new(),
            note: note.clone(),
            zone: zone.clone(),
        };
        let row = rows
            .entry((at, by.to_owned(), want, note.clone()))
            .or_insert_with(new);
        row.doors.push(twin.device_id.to_string());
        row.armed += usize::from(armed);
    };
    let mut changes_by_week = BTreeMap::new();
    for twin in twins {
        if let Some(week) = DoorWeek::of(twin) {
            // Not by its digest, which nobody has compared with its text here.
            let value = twin.properties.desired.values["schedule"].to_string();
            let changes: &Vec<_> = changes_by_week
                .entry(value)
                .or_insert_with(|| changes(&week, now, end));
            let by = format!("week {}", week.name());
            for (at, want, note) in changes {
                add(
                    twin,
                    *at,
                    *want,
                    &by,
                    week.state == AckState::Applied,
                    note.clone(),
                );
            }
        }
        let timed = twin
            .properties
            .desired
            .values
            .get("timed")
            .and_then(Value::as_object);
        let reported = twin.properties.reported.values.get("timed");
        for (id, value) in timed.into_iter().flatten() {
            let Ok(entry) = serde_json::from_value::<Entry>(value.clone()) else {
                continue;
            };
            let report = reported.and_then(|reported| reported.get(id));
            let state = report.and_then(|report| report.get("state")?.as_str());
            let armed = matches!(state, Some("armed" | "holding"));
            let place = if entry.slot == Some(16) {
                "in place of the week"
            } else {
                ""
            };
            let word = entry.want.as_str();
            if (now..end).contains(&entry.from) {
                add(twin, entry.from, word, id, armed, place.to_owned());
            }
            if let Some(until) = entry.until.filter(|until| (now..end).contains(until)) {
                add(twin, until, "", id, armed, format!("{word} ends"));
            }
        }
    }
    rows.into_values().collect()
}

/// The moments at which a week changes what it wants.
fn changes(
    week: &DoorWeek,
    now: Timestamp,
    end: Timestamp,
) -> Vec<(Timestamp, &'static str, String)> {
    let Ok(calendar) = &week.calendar else {
        return Vec::new();
    };
    let all = std::iter::successors(next_want(calendar, now), |(at, _)| next_want(calendar, *at));
    let within = all.take_while(|(at, _)| *at < end);
    let row = |(at, level): (Timestamp, Level)| {
        let (text, want) = (describe(&level), want_word(level.want));
        let note = text.strip_prefix(want).unwrap_or_default();
        (at, want, note.trim_start_matches(", ").to_owned())
    };
    within.map(row).collect()
}

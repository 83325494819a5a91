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
#[derive(Debug, PartialEq, Deserialize)]
struct Entry {
    #[serde(skip)]
    id: String,
    #[serde(skip)]
    armed: bool,
    want: Want,
    from: Timestamp,
    until: Option<Timestamp>,
    slot: Option<u8>,
}

impl Entry {
    fn is_over_week(&self) -> bool {
        self.slot == Some(16)
    }
}

/// The timed entries of a door that are not over by its report.
fn entries(twin: &Twin) -> Vec<Entry> {
    let desired = twin.properties.desired.values.get("timed");
    let reported = twin.properties.reported.values.get("timed");
    let entry = |(id, value): (&String, &Value)| {
        let report = reported.and_then(|reported| reported.get(id));
        let state = report.and_then(|report| report.get("state")?.as_str());
        let entry: Entry = serde_json::from_value(value.clone()).ok()?;
        (state != Some("over")).then(|| Entry {
            id: id.clone(),
            armed: matches!(state, Some("armed" | "holding")),
            ..entry
        })
    };
    let desired = desired.and_then(Value::as_object).into_iter().flatten();
    desired.filter_map(entry).collect()
}

/// The entry that decides in place of the week: a lock or release before an override, then the
/// later one, then the lock. A lock has ended the releases before it.
fn deciding(entries: &[Entry], at: Timestamp) -> Option<&Entry> {
    let is_ended = |entry: &Entry| {
        let ends =
            |lock: &Entry| lock.want == Want::Locked && (entry.from < lock.from && lock.from <= at);
        let mut locks = entries.iter().filter(|lock| !lock.is_over_week());
        entry.want == Want::Released && !entry.is_over_week() && locks.any(ends)
    };
    let holds = |entry: &&Entry| {
        entry.from <= at && entry.until.is_none_or(|until| at < until) && !is_ended(entry)
    };
    entries.iter().filter(holds).max_by_key(|entry| {
        let is_lock = entry.want == Want::Locked;
        (!entry.is_over_week(), entry.from, is_lock)
    })
}

fn last_instant(until: Timestamp) -> Option<Timestamp> {
    until.checked_sub(jiff::SignedDuration::from_nanos(1)).ok()
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
        let names: Vec<String> = names.map(|twin| held_since(twin, &session.zone)).collect();
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

/// The door, and since when a command keeps its week from deciding.
fn held_since(twin: &Twin, zone: &TimeZone) -> String {
    let held = reported_door(twin).filter(|_| is_held(twin));
    let since = held
        .and_then(|door| door.get("heldBy"))
        .and_then(|held| held.get("since")?.as_str()?.parse().ok());
    let since = since.map_or(String::new(), |at: Timestamp| {
        format!(
            " (since {})",
            time::on_clock(&at.to_zoned_datetime(zone.clone()))
        )
    });
    format!("{}{since}", twin.device_id)
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
        let week = DoorWeek::of(twin);
        let (armed, unconfirmed): (Vec<Entry>, Vec<Entry>) =
            entries(twin).into_iter().partition(|entry| entry.armed);
        if let Some(week) = &week {
            // Not by its digest, which nobody has compared with its text here.
            let value = twin.properties.desired.values["schedule"].to_string();
            let changes: &Vec<_> = changes_by_week
                .entry(value)
                .or_insert_with(|| changes(week, now, end));
            let by = format!("week {}", week.name());
            let happens = |(at, ..): &&(Timestamp, _, _)| deciding(&armed, *at).is_none();
            for (at, want, note) in changes.iter().filter(happens) {
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
        for entry in armed.iter().chain(&unconfirmed) {
            // The door may refuse an unconfirmed entry, which hides no other and is always listed.
            let rivals = match entry.armed {
                true => &armed[..],
                false => std::slice::from_ref(entry),
            };
            let place = match entry.is_over_week() {
                true => "in place of the week",
                false => "",
            };
            let word = entry.want.as_str();
            let is_first = || deciding(rivals, entry.from) == Some(entry);
            if (now..end).contains(&entry.from) && is_first() {
                let id = &entry.id;
                add(twin, entry.from, word, id, entry.armed, place.to_owned());
            }
            let until = entry.until.filter(|until| (now..end).contains(until));
            let Some((until, before)) = until.and_then(|until| Some((until, last_instant(until)?)))
            else {
                continue;
            };
            let want = match deciding(&armed, until) {
                Some(next) if next.from == until => continue,
                Some(next) => next.want.as_str(),
                None => week
                    .as_ref()
                    .map_or("default", |week| match &week.calendar {
                        Ok(calendar) => want_word(calendar.level(until).want),
                        Err(_) => "unknown",
                    }),
            };
            if deciding(rivals, before) == Some(entry) {
                let note = format!("{word} ends");
                add(twin, until, want, &entry.id, entry.armed, note);
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_changes_what_a_door_wants_is_listed() {
        let week = json!({"name": "w", "zone": "UTC",
            "window": [{"days": "mon-sun", "from": "06:00", "to": "22:00", "want": "released"}]});
        let week = json!({"digest": "d", "text": week.to_string()});
        let entry = |want: &str, from: &str, until: &str, slot: Option<u8>| {
            let at = |clock: &str| format!("2026-12-01T{clock}:00Z");
            json!({"want": want, "from": at(from), "until": at(until), "slot": slot})
        };
        let over_week = Some(16);
        for (state, week, timed, expected) in [
            (
                "armed",
                week.clone(),
                json!({}),
                &["06:00 released", "22:00 locked"][..],
            ),
            (
                "pending",
                week.clone(),
                json!({"o": entry("locked", "05:00", "08:00", over_week)}),
                &[
                    "05:00 locked",
                    "06:00 released",
                    "08:00 released locked ends",
                    "22:00 locked",
                ],
            ),
            (
                "armed",
                week.clone(),
                json!({"o": entry("locked", "05:00", "08:00", over_week)}),
                &["05:00 locked", "08:00 released locked ends", "22:00 locked"],
            ),
            (
                "armed",
                week,
                json!({"o": entry("locked", "05:00", "08:00", over_week),
                    "l": entry("locked", "07:00", "09:00", None)}),
                &[
                    "05:00 locked",
                    "07:00 locked",
                    "09:00 released locked ends",
                    "22:00 locked",
                ],
            ),
            (
                "armed",
                Value::Null,
                json!({"r": entry("released", "05:00", "12:00", None),
                    "l": entry("locked", "07:00", "09:00", None)}),
                &[
                    "05:00 released",
                    "07:00 locked",
                    "09:00 default locked ends",
                ],
            ),
            (
                "armed",
                Value::Null,
                json!({"a": entry("locked", "05:00", "07:00", over_week),
                    "b": entry("released", "07:00", "09:00", over_week)}),
                &[
                    "05:00 locked",
                    "07:00 released",
                    "09:00 default released ends",
                ],
            ),
            (
                "armed",
                Value::Null,
                json!({"o": entry("locked", "06:00", "09:00", over_week),
                    "refused": entry("locked", "05:00", "12:00", None)}),
                &[
                    "05:00 locked",
                    "06:00 locked",
                    "09:00 default locked ends",
                    "12:00 default locked ends",
                ],
            ),
        ] {
            let armed = timed.as_object().unwrap().keys();
            let armed: Value = armed
                .filter(|id| *id != "refused")
                .map(|id| (id.clone(), json!({"state": state})))
                .collect();
            let mut desired = json!({"timed": timed, "$version": 1});
            if !week.is_null() {
                desired["schedule"] = week;
            }
            let twin = json!({"deviceId": "a", "etag": "AA==", "version": 4, "tags": {},
                "connectionState": "Connected",
                "properties": {"desired": desired, "reported": {"timed": armed, "$version": 1}}});
            let twins = [serde_json::from_value(twin).unwrap()];
            let at = |text: &str| text.parse().unwrap();
            let (now, end) = (at("2026-12-01T00:00:00Z"), at("2026-12-02T00:00:00Z"));
            let rows = agenda(&twins, now, end, &TimeZone::UTC);
            let row = |row: &NextRow| {
                let note = row.note.trim_start_matches("in place of the week");
                let clock = row.at.strftime("%H:%M");
                format!("{clock} {} {note}", row.want).trim_end().to_owned()
            };
            let rows: Vec<String> = rows.iter().map(row).collect();
            assert_eq!(rows, expected);
        }
    }
}

//! `schedule show` and `schedule list`.

use std::collections::BTreeMap;

use door_core::contract::duration;
use door_core::schedule::{Exception, Week, Window};
use iothub_protocol::twin::Twin;
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;

use super::{DoorWeek, describe, next_want, short, want_word};
use crate::acknowledgement::AckState;
use crate::cli::target::TargetArgs;
use crate::commands::many;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::printer::{Cell, Row, Tone, first_names, plain, printable};
use crate::session::{Session, door};
use crate::target::Target;
use crate::time;

/// Doors that a table names; the others are counted.
const MAX_NAMES_SHOWN: usize = 5;

/// `list` warns of dates that end within this time.
const ENDS_SOON: SignedDuration = SignedDuration::from_hours(60 * 24);

/// The week of a door.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WeekOfDoor<'a> {
    door: &'a str,
    digest: &'a str,
    #[serde(flatten)]
    state: &'a AckState,
    week: Option<&'a Week>,
    /// Which rules of time zones the door has.
    zoneinfo: Option<&'a str>,
    want: Option<&'static str>,
    next_change: Option<Timestamp>,
    next_want: Option<&'static str>,
}

pub(super) async fn show(name: &str, session: &Session) -> anyhow::Result<ExitStatus> {
    let id = door(name)?;
    let twin = session.of_door(&id, session.hub.twin(&id).await).await?;
    let Some(found) = DoorWeek::of(&twin) else {
        return Err(Failure::new(format!("door {id} has no week"))
            .next(format!("doorctl schedule set FILE {id}"))
            .status(ExitStatus::Incomplete)
            .into());
    };
    let now = session.now().await?.timestamp();
    let calendar = found.calendar.as_ref().ok();
    let level = calendar.map(|calendar| calendar.level(now));
    let change = calendar.and_then(|calendar| next_want(calendar, now));
    let device = twin.properties.reported.values.get("device");
    let zoneinfo = device.and_then(|device| device.get("zoneinfo")?.as_str());
    let state = match &found.state {
        AckState::Applied => "applied".to_owned(),
        AckState::Pending => "not applied yet".to_owned(),
        AckState::Refused(why) => format!("refused: {why}"),
    };
    let name = format!("{} ({})", found.name(), short(&found.digest));
    let mut text = printable(&format!("{id}: week {name}, {state}")) + "\n";
    match (&found.calendar, &level) {
        (Ok(calendar), Some(level)) => {
            let shown =
                |at: Timestamp| time::describe(&at.to_zoned_datetime(calendar.zone().clone()));
            text += &format!("now: {}\n", describe(level));
            if let Some((at, next)) = &change {
                text += &format!("next: {}, {}\n", describe(next), shown(*at));
            }
            let week = calendar.week();
            for (index, window) in week.windows.iter().enumerate() {
                text += &format!("window {}: {}\n", index + 1, window_text(window));
            }
            for (index, exception) in week.exceptions.iter().enumerate() {
                text += &format!("exception {}: {}\n", index + 1, exception_text(exception));
            }
        }
        (Err(why), _) => text += &format!("unreadable: {}\n", printable(why)),
        _ => {}
    }
    if let Some(zoneinfo) = zoneinfo {
        text += &format!("rules of time zones: {}\n", printable(zoneinfo));
    }
    let report = WeekOfDoor {
        door: id.as_str(),
        digest: &found.digest,
        state: &found.state,
        week: calendar.map(door_core::schedule::Calendar::week),
        zoneinfo,
        want: level.map(|level| want_word(level.want)),
        next_change: change.map(|(at, _)| at),
        next_want: change.map(|(_, level)| want_word(level.want)),
    };
    session.printer.text_or(&text, &report)?;
    Ok(match found.state {
        AckState::Applied => ExitStatus::Success,
        _ => ExitStatus::Incomplete,
    })
}

fn window_text(window: &Window) -> String {
    let mut text = window.to_string();
    if let Some(lead) = window.first_person_in {
        text += &format!(", first_person_in {}", duration::to_text(lead));
    }
    if window.takes_over {
        text += ", takes_over";
    }
    text
}

/// Its days, and the windows that hold on them. Holidays of a file are an exception too.
fn exception_text(exception: &Exception) -> String {
    let dates = exception.dates.iter().map(ToString::to_string);
    let yearly = (exception.yearly.iter()).map(|day| format!("every {day}"));
    let days: Vec<String> = dates.chain(yearly).collect();
    let windows: Vec<String> = exception.windows.iter().map(window_text).collect();
    let windows = match windows.is_empty() {
        true => "no window".to_owned(),
        false => windows.join("; "),
    };
    format!("{}: {windows}", first_names(&days, MAX_NAMES_SHOWN))
}

/// The doors with one week; without a digest, those that have none.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct WeekRow {
    week: String,
    digest: String,
    applied: usize,
    pending: usize,
    refused: usize,
    /// The last date of its exceptions.
    dates_end: Option<Date>,
    doors: Vec<String>,
}

impl Row for WeekRow {
    fn titles() -> Vec<&'static str> {
        vec![
            "week", "digest", "applied", "pending", "refused", "datesEnd", "doors",
        ]
    }

    fn cell(&self, title: &str, member: &Value) -> Cell {
        match title {
            "digest" => Cell::from(plain(member)).shown_as(short(&self.digest)),
            "doors" => {
                Cell::from(self.doors.join(" ")).shown_as(first_names(&self.doors, MAX_NAMES_SHOWN))
            }
            "refused" if self.refused > 0 => Cell::toned(plain(member), Tone::Bad),
            "pending" if self.pending > 0 => Cell::toned(plain(member), Tone::Doubtful),
            _ => plain(member).into(),
        }
    }
}

pub(super) async fn list(target: &TargetArgs, session: &Session) -> anyhow::Result<ExitStatus> {
    let today = session.now().await?.date();
    let rows = weeks(&selected(target, session).await?);
    session.printer.rows(&rows)?;
    for row in &rows {
        let Some(end) = row
            .dates_end
            .filter(|end| today.duration_until(*end) < ENDS_SOON)
        else {
            continue;
        };
        session.printer.warn(format!(
            "the dates of week {} end on {end}: renew its holidays, then doorctl schedule set",
            row.week
        ));
    }
    Ok(ExitStatus::Success)
}

/// The selected doors, by default all.
pub(super) async fn selected(target: &TargetArgs, session: &Session) -> anyhow::Result<Vec<Twin>> {
    Ok(match Target::from_args(target)? {
        Some(_) => many::select(target, session).await?.1,
        None => session.hub.query("SELECT * FROM devices").await?,
    })
}

fn weeks(twins: &[Twin]) -> Vec<WeekRow> {
    let mut rows: BTreeMap<(String, String), WeekRow> = BTreeMap::new();
    for twin in twins {
        let found = DoorWeek::of(twin);
        let (name, digest) = match &found {
            Some(week) => (week.name().to_owned(), week.digest.clone()),
            None => ("(none)".to_owned(), String::new()),
        };
        let row = rows.entry((name.clone(), digest.clone())).or_default();
        (row.week, row.digest) = (name, digest);
        row.doors.push(twin.device_id.to_string());
        let Some(found) = found else { continue };
        *match found.state {
            AckState::Applied => &mut row.applied,
            AckState::Pending => &mut row.pending,
            AckState::Refused(_) => &mut row.refused,
        } += 1;
        if let Ok(calendar) = &found.calendar {
            let exceptions = calendar.week().exceptions.iter();
            let dates = exceptions.flat_map(|exception| &exception.dates);
            row.dates_end = dates.map(|dates| dates.last).max();
        }
    }
    rows.into_values().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn windows_and_exceptions_are_shown_with_all_their_keys() {
        let week = json!({"name": "w", "zone": "UTC",
            "window": [{"days": "mon-fri", "from": "06:00", "to": "22:00", "want": "released",
                "first_person_in": "30m"},
                {"days": "fri", "from": "23:00", "to": "23:30", "want": "locked",
                    "takes_over": true}],
            "exception": [{"dates": ["2026-12-24", "2026-12-31/2027-01-02"], "yearly": ["05-01"]},
                {"dates": ["2026-12-23"],
                    "windows": [{"from": "06:00", "to": "12:00", "want": "released"}]}]});
        let week = Week::from_json(&week.to_string()).unwrap();
        let windows: Vec<String> = week.windows.iter().map(window_text).collect();
        assert_eq!(
            windows,
            [
                "mon-fri 06:00-22:00 released, first_person_in 30m",
                "fri 23:00-23:30 locked, takes_over"
            ]
        );
        let exceptions: Vec<String> = week.exceptions.iter().map(exception_text).collect();
        assert_eq!(
            exceptions,
            [
                "2026-12-24, 2026-12-31/2027-01-02, every 05-01: no window",
                "2026-12-23: 06:00-12:00 released"
            ]
        );
    }
}

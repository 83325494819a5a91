//! `schedule preview`: when a week locks and releases, and why it may surprise.

use std::path::Path;

use door_core::schedule::Calendar;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use serde::Serialize;

use super::file::{self, WeekFile};
use super::want_word;
use crate::exit_status::ExitStatus;
use crate::printer::{Printer, Row};

/// A moment at which something changes.
#[derive(Debug, Serialize)]
struct ChangeRow {
    local: String,
    utc: Timestamp,
    /// What the week wants from then on; empty if that stays.
    want: &'static str,
    note: String,
}

impl Row for ChangeRow {
    fn titles() -> Vec<&'static str> {
        vec!["local", "utc", "want", "note"]
    }
}

pub(super) fn preview(path: &Path, days: u16, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let now = Timestamp::now().round(jiff::Unit::Second)?;
    let today = now.to_zoned_datetime(crate::time::system_zone()).date();
    let file = file::read(path, today)?;
    file.warn(printer);
    let end = now.checked_add(SignedDuration::from_hours(24 * i64::from(days)))?;
    printer.rows(&changes(&file, now, end))?;
    printer.say(format!(
        "rules of time zones: {}",
        door_core::schedule::zoneinfo()
    ));
    Ok(ExitStatus::Success)
}

fn changes(file: &WeekFile, now: Timestamp, end: Timestamp) -> Vec<ChangeRow> {
    let calendar = &file.calendar;
    let zone = calendar.zone();
    let row = |utc: Timestamp, want: &'static str, note: String| {
        let local = utc
            .to_zoned_datetime(zone.clone())
            .strftime("%a %F %R %Z")
            .to_string();
        ChangeRow {
            local,
            utc,
            want,
            note,
        }
    };
    let mut level = calendar.level(now);
    let mut rows = vec![row(now, want_word(level.want), "now".to_owned())];
    let mut at = now;
    while let Some((next, changed)) = calendar.next_change(at).filter(|(next, _)| *next < end) {
        let begins = |window| level.window != window && window.is_some();
        let note = match changed.window {
            Some(window) if changed.first_person_in == changed.window && begins(changed.window) => {
                let window = name(calendar, window.window);
                format!("{window}: released once a first person came in")
            }
            Some(_) if changed.takes_over && begins(changed.window) => {
                "ends what somebody left open".to_owned()
            }
            _ if changed.first_person_in.is_some() && level.first_person_in.is_none() => {
                "a grant at the reader counts from here".to_owned()
            }
            _ => String::new(),
        };
        if changed.want != level.want || !note.is_empty() {
            rows.push(row(next, want_word(changed.want), note));
        }
        (at, level) = (next, changed);
    }
    let mut offset = zone.to_offset(now);
    for change in zone
        .following(now)
        .take_while(|change| change.timestamp() < end)
    {
        if change.offset() != offset {
            let note = format!("the clocks change from {offset} to {}", change.offset());
            rows.push(row(change.timestamp(), "", note));
            offset = change.offset();
        }
    }
    for window in calendar.left_out(now, end) {
        let window_name = name(calendar, window.window);
        rows.push(row(
            window.from,
            "",
            format!("{window_name} does not happen"),
        ));
    }
    let first = now.to_zoned_datetime(zone.clone()).date();
    for date in first.series(1.day()) {
        let Ok(midnight) = date.to_zoned_datetime(zone.clone()) else {
            break;
        };
        let midnight = midnight.timestamp();
        if midnight >= end {
            break;
        }
        let holiday = file
            .holidays
            .get(&date)
            .map(|name| format!("holiday: {name}"));
        let exception = || {
            calendar
                .week()
                .exception_on(date)
                .map(|_| "exception".to_owned())
        };
        if let Some(note) = holiday.or_else(exception) {
            rows.push(row(midnight.max(now), "", note));
        }
    }
    rows.sort_by_key(|row| row.utc);
    rows
}

fn name(calendar: &Calendar, id: door_core::schedule::WindowId) -> String {
    calendar
        .week()
        .window(id)
        .map_or(String::new(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn clock_changes_holidays_and_windows_that_do_not_happen_are_marked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("week.toml");
        let week = "name = 'w'\nzone = 'Europe/Berlin'\n[holidays]\nfile = 'h.ics'\n\
            [[window]]\ndays = 'sun'\nfrom = '02:10'\nto = '02:50'\nwant = 'released'\n\
            [[window]]\ndays = 'sat'\nfrom = '22:00'\nto = '02:00'\nwant = 'released'\n\
            [[window]]\ndays = 'sun'\nfrom = '03:00'\nto = '06:00'\nwant = 'locked'\n\
            takes_over = true\n[[window]]\ndays = 'sun'\nfrom = '07:00'\nto = '08:00'\n\
            want = 'released'\nfirst_person_in = '30m'\n\
            [[exception]]\nyearly = ['03-30']\n";
        fs::write(&path, week).unwrap();
        let days = "BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART;VALUE=DATE:20260331\n\
            SUMMARY:Fair\nEND:VEVENT\nEND:VCALENDAR\n";
        fs::write(folder.path().join("h.ics"), days).unwrap();
        let file = file::read(&path, "2026-03-01".parse().unwrap()).unwrap();
        let at = |text: &str| text.parse().unwrap();
        let rows = changes(
            &file,
            at("2026-03-28T12:00:00Z"),
            at("2026-04-01T00:00:00Z"),
        );
        let rows = rows
            .iter()
            .map(|row| format!("{} {} {}", row.local, row.want, row.note));
        insta::assert_snapshot!(rows.collect::<Vec<_>>().join("|\n"), @r"
        Sat 2026-03-28 13:00 CET locked now|
        Sat 2026-03-28 22:00 CET released |
        Sun 2026-03-29 03:00 CEST locked ends what somebody left open|
        Sun 2026-03-29 03:00 CEST  the clocks change from +01 to +02|
        Sun 2026-03-29 03:00 CEST  sun 02:10-02:50 released does not happen|
        Sun 2026-03-29 06:30 CEST locked a grant at the reader counts from here|
        Sun 2026-03-29 07:00 CEST locked sun 07:00-08:00 released: released once a first person came in|
        Mon 2026-03-30 00:00 CEST  exception|
        Tue 2026-03-31 00:00 CEST  holiday: Fair
        ");
    }
}

//! Holidays from a calendar in iCalendar format (RFC 5545): events of whole days.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::ops::RangeInclusive;
use std::path::Path;

use door_core::schedule::Dates;
use icalendar::parser::{Component, Property, read_calendar, unfold};
use jiff::ToSpan as _;
use jiff::civil::Date;
use rrule::RRuleSet;

/// Most days of one event.
const MAX_DAYS: i64 = 366;

/// Largest file, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// Deepest nesting: an alarm in an event in a calendar. The parser recurses.
const MAX_DEPTH: usize = 3;

/// The keys of a repetition by days; others, such as `BYHOUR`, multiply its dates.
const RULE_KEYS: [&str; 12] = [
    "FREQ",
    "UNTIL",
    "COUNT",
    "INTERVAL",
    "BYDAY",
    "BYMONTHDAY",
    "BYYEARDAY",
    "BYWEEKNO",
    "BYMONTH",
    "BYSETPOS",
    "WKST",
    "BYEASTER",
];

/// The days of a file and their names in the year of `today` and the next one: a file has one
/// digest for a year.
///
/// # Errors
/// The file, the line, the value and what was expected.
pub(super) fn read(path: &Path, today: Date) -> Result<BTreeMap<Date, String>, String> {
    let name = path.display();
    let file = fs::File::open(path).map_err(|error| format!("{name}: {error}"))?;
    let mut text = String::new();
    file.take(MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| format!("{name}: {error}"))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(format!("{name}: expected at most {MAX_BYTES} bytes"));
    }
    let text = text.replace("\r\n", "\n");
    // Long lines are folded: what follows begins with white space.
    let begins_line = |(_, line): &(usize, &str)| !line.starts_with([' ', '\t']);
    let lines: Vec<(usize, &str)> = text.lines().enumerate().filter(begins_line).collect();
    let mut depth = 0_usize;
    for (line, text) in &lines {
        match text.get(..6).map(str::to_ascii_uppercase).as_deref() {
            Some("BEGIN:") => depth += 1,
            Some(_) if text.len() > 4 && text[..4].eq_ignore_ascii_case("END:") => {
                depth = depth.saturating_sub(1);
            }
            _ => {}
        }
        if depth > MAX_DEPTH {
            let line = line + 1;
            return Err(format!(
                "{name}:{line}: expected at most {MAX_DEPTH} nested BEGIN"
            ));
        }
    }
    let unfolded = unfold(&text);
    let calendar = read_calendar(&unfolded).map_err(|error| {
        let line = error
            .split("at line ")
            .nth(1)
            .and_then(|rest| rest.split(',').next());
        let line = line.and_then(|line| lines.get(line.parse::<usize>().ok()?.checked_sub(1)?));
        let line = line.map_or(1, |(line, _)| line + 1);
        format!("{name}:{line}: not a calendar: expected BEGIN:VCALENDAR, events, END:VCALENDAR")
    })?;
    let mut rest = lines.iter();
    let range = today.first_of_year()..=today.saturating_add(1.year()).last_of_year();
    let mut days = BTreeMap::new();
    for event in calendar
        .components
        .iter()
        .filter(|event| event.name == "VEVENT")
    {
        rest.find(|(_, line)| line.trim_end() == "BEGIN:VEVENT");
        let event = days_of(event, &range).map_err(|problem| {
            let begin = lines.len() - rest.len() - 1;
            let line = problem.line(&lines[begin..]).unwrap_or(lines[begin].0) + 1;
            format!("{name}:{line}: {}", problem.why)
        })?;
        days.extend(event);
    }
    Ok(days)
}

/// What is wrong with an event.
struct EventError {
    /// The property, and its value where there may be several.
    key: &'static str,
    value: String,
    why: String,
}

impl EventError {
    fn new(key: &'static str, why: impl Into<String>) -> Self {
        let (value, why) = (String::new(), why.into());
        Self { key, value, why }
    }

    /// Its line, counted from zero, in an event that begins with these lines.
    fn line(&self, event: &[(usize, &str)]) -> Option<usize> {
        let mut event = event
            .iter()
            .take_while(|(_, line)| line.trim_end() != "END:VEVENT");
        let is_wrong = |(_, line): &&(usize, &str)| {
            let key = line.split([':', ';']).next().unwrap_or_default();
            key.eq_ignore_ascii_case(self.key) && line.contains(&self.value)
        };
        event.find(is_wrong).map(|(line, _)| *line)
    }
}

fn days_of(
    event: &Component<'_>,
    range: &RangeInclusive<Date>,
) -> Result<BTreeMap<Date, String>, EventError> {
    let value = |key: &str| event.find_prop(key).map(|property| property.val.as_str());
    let mut days = BTreeMap::new();
    if value("STATUS") == Some("CANCELLED") {
        return Ok(days);
    }
    let summary = value("SUMMARY").unwrap_or("holiday").trim().to_owned();
    let starts = event
        .find_prop("DTSTART")
        .ok_or_else(|| EventError::new("BEGIN", "the event has no DTSTART: expected a date"))?;
    let start = date(starts, "DTSTART")?;
    let length = match (event.find_prop("DTEND"), value("DURATION")) {
        (Some(end), _) => start.duration_until(date(end, "DTEND")?).as_hours() / 24,
        (None, None) => 1,
        (None, Some(text)) => whole_days(text).ok_or_else(|| {
            let expected = "expected whole days or weeks, such as P2D or P1W";
            EventError::new("DURATION", format!("DURATION is {text:?}: {expected}"))
        })?,
    };
    if !(1..=MAX_DAYS).contains(&length) {
        let why = format!(
            "\"{summary}\" has {length} days: expected DTEND 1 to {MAX_DAYS} days after DTSTART"
        );
        let key = event.find_prop("DTEND").map_or("DURATION", |_| "DTEND");
        return Err(EventError::new(key, why));
    }
    if let Some(key) = ["RDATE", "EXRULE", "RECURRENCE-ID"]
        .into_iter()
        .find(|key| value(key).is_some())
    {
        let why = format!("\"{summary}\" has {key}: expected RRULE and EXDATE at most");
        return Err(EventError::new(key, why));
    }
    let earliest = range.start().saturating_sub(length.days());
    for first in starts_of(event, &summary, start, earliest..=*range.end())? {
        let each = (0..length).map(|day| first.saturating_add(day.days()));
        let each = each.filter(|day| range.contains(day));
        days.extend(each.map(|day| (day, summary.clone())));
    }
    Ok(days)
}

/// `P2D` or `P1W`.
fn whole_days(text: &str) -> Option<i64> {
    let number = |text: &str| text.parse::<i64>().ok();
    let text = text.strip_prefix('P')?;
    match text.strip_suffix('W') {
        Some(weeks) => number(weeks)?.checked_mul(7),
        None => number(text.strip_suffix('D')?),
    }
}

/// The first days of an event and of its repetitions that lie within `range`.
fn starts_of(
    event: &Component<'_>,
    summary: &str,
    start: Date,
    range: RangeInclusive<Date>,
) -> Result<Vec<Date>, EventError> {
    let Some(rule) = event.find_prop("RRULE").map(|rule| rule.val.as_str()) else {
        return Ok(vec![start]);
    };
    let refuse =
        |why: String| EventError::new("RRULE", format!("\"{summary}\": RRULE:{rule}: {why}"));
    for part in rule.to_ascii_uppercase().split(';') {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let daily = ["DAILY", "WEEKLY", "MONTHLY", "YEARLY"];
        if key == "FREQ" && !daily.contains(&value) {
            let expected = "expected FREQ=DAILY, WEEKLY, MONTHLY or YEARLY";
            return Err(refuse(expected.to_owned()));
        }
        if !RULE_KEYS.contains(&key) {
            let keys = RULE_KEYS.join(", ");
            return Err(refuse(format!("unknown {key}: expected one of {keys}")));
        }
    }
    if start.year() < 1900 {
        let year = start.year();
        let why = format!("\"{summary}\" begins in {year}: expected DTSTART after 1900");
        return Err(EventError::new("DTSTART", why));
    }
    let midnight = |date: Date| date.strftime("%Y%m%dT000000Z").to_string();
    // The rule is expanded in UTC, where a day is a date: an end without a time gets one.
    let parts = rule.split(';').map(|part| match part.split_once('=') {
        Some((key, date)) if key.eq_ignore_ascii_case("UNTIL") && date.len() == 8 => {
            format!("{part}T000000Z")
        }
        _ => part.to_owned(),
    });
    let mut text = format!(
        "DTSTART:{}\nRRULE:{}",
        midnight(start),
        parts.collect::<Vec<_>>().join(";")
    );
    for except in event
        .properties
        .iter()
        .filter(|property| property.name == "EXDATE")
    {
        for each in except.val.as_str().split(',') {
            text += &format!("\nEXDATE:{}", midnight(parse_date(each, "EXDATE")?));
        }
    }
    let rules: RRuleSet = text.parse().map_err(|error| refuse(format!("{error}")))?;
    let date = |text: String| text.get(..10).and_then(|date| date.parse::<Date>().ok());
    // Bounded: a rule that matches no day would be searched to the year 10,000.
    let dates = rules.limit().into_iter();
    let dates = dates.filter_map(|each| date(each.to_rfc3339()));
    let until = dates.take_while(|date| date <= range.end());
    Ok(until.filter(|date| range.contains(date)).collect())
}

fn date(property: &Property<'_>, key: &'static str) -> Result<Date, EventError> {
    parse_date(property.val.as_str(), key)
}

fn parse_date(text: &str, key: &'static str) -> Result<Date, EventError> {
    let date = (text.len() == 8)
        .then(|| Date::strptime("%Y%m%d", text).ok())
        .flatten();
    date.ok_or_else(|| EventError {
        key,
        value: text.to_owned(),
        why: format!("{key} is {text:?}: expected a whole day, YYYYMMDD (with ;VALUE=DATE)"),
    })
}

/// Dates in ranges, which need less space.
pub(super) fn ranges(dates: impl Iterator<Item = Date>) -> Vec<Dates> {
    let mut ranges: Vec<Dates> = Vec::new();
    for date in dates {
        match ranges.last_mut() {
            Some(range) if range.last.tomorrow().is_ok_and(|next| next == date) => {
                range.last = date;
            }
            _ => ranges.push(Dates {
                first: date,
                last: date,
            }),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The days of a calendar with one event, the same on any day of 2026.
    fn days(event: &str) -> Result<Vec<String>, String> {
        let [first, last] = ["2026-01-01", "2026-12-31"].map(|today| days_on(event, today));
        assert_eq!(first, last);
        first
    }

    fn days_on(event: &str, today: &str) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("h.ics");
        let text =
            format!("BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\n{event}\r\nEND:VEVENT\r\nEND:VCALENDAR");
        fs::write(&path, text + "\r\n").unwrap();
        let days = read(&path, today.parse().unwrap());
        let days = days.map_err(|error| error.rsplit_once("h.ics:").unwrap().1.to_owned())?;
        Ok(ranges(days.into_keys())
            .iter()
            .map(ToString::to_string)
            .collect())
    }

    #[test]
    fn events_of_whole_days_are_expanded_for_this_year_and_the_next() {
        for (event, expected) in [
            ("DTSTART;VALUE=DATE:20261224", &["2026-12-24"][..]),
            (
                "DTSTART:20261224\r\nDTEND:20261227",
                &["2026-12-24/2026-12-26"],
            ),
            (
                "DTSTART:20261224\r\nDURATION:P2D",
                &["2026-12-24/2026-12-25"],
            ),
            // What ends before this year, or begins after the next.
            ("DTSTART:20251231", &[]),
            ("DTSTART:20251231\r\nDTEND:20260102", &["2026-01-01"]),
            ("DTSTART:20280101", &[]),
            (
                "DTSTART:20001225\r\nRRULE:FREQ=YEARLY",
                &["2026-12-25", "2027-12-25"],
            ),
            (
                "DTSTART:20001225\r\nRRULE:FREQ=YEARLY;UNTIL=20261225",
                &["2026-12-25"],
            ),
            (
                "DTSTART:20001225\r\nRRULE:FREQ=YEARLY\r\nEXDATE;VALUE=DATE:20261225",
                &["2027-12-25"],
            ),
            // Thanksgiving: the fourth Thursday of November.
            (
                "DTSTART:20201126\r\nRRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=4TH",
                &["2026-11-26", "2027-11-25"],
            ),
            ("DTSTART:20261224\r\nSTATUS:CANCELLED", &[]),
            (
                "DTSTART:20261224\r\nDURATION:P1W",
                &["2026-12-24/2026-12-30"],
            ),
            (
                "DTSTART:20261201\r\nRRULE:FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
                &[],
            ),
            // A long line is folded.
            ("DTSTART;VALUE=DATE\r\n :20261224", &["2026-12-24"]),
        ] {
            assert_eq!(days(event).as_deref().unwrap(), expected, "{event}");
        }
    }

    #[test]
    fn what_is_no_whole_day_is_refused_with_its_line() {
        for (event, problem) in [
            ("SUMMARY:Fair", "2: the event has no DTSTART"),
            (
                "DTSTART:20261224T100000Z",
                "3: DTSTART is \"20261224T100000Z\": expected a whole day",
            ),
            ("DTSTART:20261324", "3: DTSTART is \"20261324\""),
            (
                "DTSTART:20261224\r\nDTEND:20261224",
                "4: \"holiday\" has 0 days: expected DTEND 1 to",
            ),
            (
                "DTSTART:20261224\r\nRRULE:FREQ=HOURLY",
                "4: \"holiday\": RRULE:FREQ=HOURLY: expected FREQ=DAILY, WEEKLY",
            ),
            (
                "DTSTART:20261224\r\nRRULE:FREQ=DAILY;BYHOUR=0,1;BYSECOND=0,1",
                "unknown BYHOUR: expected one of FREQ, UNTIL",
            ),
            (
                "DTSTART:20261224\r\nDURATION:PT36H",
                "4: DURATION is \"PT36H\": expected whole days or weeks",
            ),
            (
                "BEGIN:A\r\nBEGIN:A\r\nBEGIN:A",
                "4: expected at most 3 nested BEGIN",
            ),
            (
                "DTSTART:20261224\r\nRRULE:FREQ=YEARLY;BYMONTH=13",
                "`13` is not a valid BYMONTH",
            ),
            (
                "DTSTART:20261224\r\nRRULE:FREQ=YEARLY\r\nEXDATE:20271224\r\nEXDATE:x",
                "6: EXDATE is \"x\"",
            ),
            (
                "DTSTART:18001224\r\nRRULE:FREQ=YEARLY",
                "3: \"holiday\" begins in 1800: expected DTSTART after 1900",
            ),
            (
                "DTSTART:20261224\r\nRDATE:20261226",
                "4: \"holiday\" has RDATE: expected RRULE",
            ),
            ("END:VCALENDAR", "3: not a calendar"),
        ] {
            let error = days(event).unwrap_err();
            assert!(error.contains(problem), "{event}: {error}");
        }
    }
}

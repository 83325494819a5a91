//! The calendar against a slow reference, minute by minute: another library and its time zones.
//!
//! `PROPTEST_CASES=100000 cargo test -p door-core schedule` runs longer.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike as _, NaiveDate, TimeDelta, Timelike as _};
use chrono_tz::{TZ_VARIANTS, Tz};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Calendar, Week};
use crate::contract::Want;

const DAY: i64 = 24 * 60;

/// A window as drawn: days as bits from Monday on, first minute, minutes, released.
type Drawn = (u8, i64, i64, bool);

#[derive(Debug, Clone)]
struct Case {
    zone: Tz,
    /// The first of the compared days, since 1970-01-01.
    day: i64,
    windows: Vec<Drawn>,
    /// Days from `day`, and their windows.
    exceptions: Vec<(i64, i64, Vec<Drawn>)>,
}

/// How many days are compared.
const DAYS: i64 = 3;

fn window() -> impl Strategy<Value = Drawn> {
    // Half of them near the hours at which clocks change.
    let from = prop_oneof![0..DAY, 0..4 * 60i64];
    let length = prop_oneof![1..DAY, 1..4 * 60i64];
    // Mostly released, or too many weeks contradict themselves.
    (1..128u8, from, length, prop::bool::weighted(0.8))
}

fn case() -> impl Strategy<Value = Case> {
    let windows = |most| prop::collection::vec(window(), 0..most);
    let exception = (-2..4i64, 0..2i64, windows(3));
    let exceptions = prop::collection::vec(exception, 0..3);
    let day = (1975..2037i32, 0..365i64, any::<bool>());
    (
        prop::sample::select(&TZ_VARIANTS[..]),
        day,
        windows(4),
        exceptions,
    )
        .prop_map(
            |(zone, (year, in_year, near_change), windows, exceptions)| {
                let first = days(NaiveDate::from_ymd_opt(year, 1, 1).unwrap()) + in_year;
                let offset = |day: i64| local(zone, day * DAY) - day * DAY;
                // Half of them around the next change of the clocks, if there is one.
                let mut changes =
                    (first..first + 365).filter(|day| offset(*day) != offset(day + 1));
                let day = changes.next().filter(|_| near_change).unwrap_or(first);
                Case {
                    zone,
                    day: day - 1,
                    windows,
                    exceptions,
                }
            },
        )
}

fn days(date: NaiveDate) -> i64 {
    i64::from(date.num_days_from_ce()) - 719_163
}

fn date(day: i64) -> NaiveDate {
    NaiveDate::from_num_days_from_ce_opt(i32::try_from(day + 719_163).unwrap()).unwrap()
}

/// What the wall clock shows at a minute since 1970-01-01 UTC, in minutes since 1970-01-01.
fn local(zone: Tz, minute: i64) -> i64 {
    let utc = DateTime::from_timestamp(minute * 60, 0).unwrap();
    let local = utc.with_timezone(&zone).naive_local();
    days(local.date()) * DAY + i64::from(local.num_seconds_from_midnight() / 60)
}

fn text((_, from, length, released): Drawn) -> Value {
    let clock = |minute: i64| format!("{:02}:{:02}", minute / 60, minute % 60);
    let to = match from + length {
        to if to > DAY => to - DAY,
        to => to,
    };
    let want = if released { "released" } else { "locked" };
    json!({"from": clock(from), "to": clock(to), "want": want})
}

fn week(case: &Case) -> Result<Week, super::WeekError> {
    let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let with_days = |drawn: &Drawn| {
        let days = (0..7).filter(|day| drawn.0 & (1 << day) != 0);
        let days: Vec<_> = days.map(|day: usize| names[day]).collect();
        let mut window = text(*drawn);
        window["days"] = json!(days.join(","));
        window
    };
    let exception = |(from, length, windows): &(i64, i64, Vec<Drawn>)| {
        let (first, last) = (date(case.day + from), date(case.day + from + length));
        let windows: Vec<_> = windows.iter().copied().map(text).collect();
        json!({"dates": [format!("{first}/{last}")], "windows": windows})
    };
    Week::from_json(
        &json!({
            "name": "drawn", "zone": case.zone.name(),
            "window": case.windows.iter().map(with_days).collect::<Vec<_>>(),
            "exception": case.exceptions.iter().map(exception).collect::<Vec<_>>(),
        })
        .to_string(),
    )
}

/// What each minute of the wall clock wants, on these days; `None` if two windows contradict each
/// other.
fn painted(
    case: &Case,
    days: std::ops::Range<i64>,
    exceptions: bool,
) -> Option<BTreeMap<i64, Want>> {
    let mut minutes = BTreeMap::new();
    for day in days {
        let is_on = |(from, length, _): &&(i64, i64, Vec<Drawn>)| {
            exceptions && (case.day + from..=case.day + from + length).contains(&day)
        };
        let weekday = 1 << date(day).weekday().num_days_from_monday();
        let plain = case.windows.iter().filter(|window| window.0 & weekday != 0);
        let windows: Vec<&Drawn> = match case.exceptions.iter().rfind(is_on) {
            Some((_, _, windows)) => windows.iter().collect(),
            None => plain.collect(),
        };
        for &&(_, from, length, released) in &windows {
            let want = if released {
                Want::Released
            } else {
                Want::Locked
            };
            for minute in day * DAY + from..day * DAY + from + length {
                if minutes
                    .insert(minute, want)
                    .is_some_and(|other| other != want)
                {
                    return None;
                }
            }
        }
    }
    Some(minutes)
}

/// What each minute since 1970-01-01 UTC wants.
fn reference(case: &Case, painted: &BTreeMap<i64, Want>) -> BTreeMap<i64, Want> {
    let (from, to) = ((case.day - 3) * DAY, (case.day + DAYS + 3) * DAY);
    let clock: Vec<(i64, i64)> = (from..to).map(|at| (at, local(case.zone, at))).collect();
    let first_not_before = |minute| {
        clock
            .iter()
            .find(|(_, wall)| *wall >= minute)
            .map(|one| one.0)
    };
    let last = |minute| {
        clock
            .iter()
            .rfind(|(_, wall)| *wall == minute)
            .map(|one| one.0)
    };
    let mut wants = BTreeMap::new();
    let mut rest = painted.iter().peekable();
    while let Some((&start, &want)) = rest.next() {
        let mut end = start + 1;
        while rest.next_if(|next| *next == (&end, &want)).is_some() {
            end += 1;
        }
        let early = |minute| first_not_before(minute).unwrap_or(to);
        let late = |minute| last(minute).unwrap_or(early(minute));
        let (start, end) = match want {
            Want::Locked => (early(start), late(end)),
            Want::Released => (late(start), early(end)),
        };
        wants.extend((start..end).map(|minute| (minute, want)));
    }
    wants
}

fn timestamp(minute: i64) -> Timestamp {
    Timestamp::from_second(minute * 60).unwrap()
}

proptest! {
    #[test]
    fn a_calendar_is_what_a_slow_reference_finds_minute_by_minute(case in case()) {
        let around = painted(&case, case.day - 8..case.day + DAYS + 8, true);
        let contradicts = painted(&case, 4..4 + 14, false).is_none() || around.is_none();
        let week = week(&case);
        prop_assert_eq!(week.is_err(), contradicts, "{:?}", week);
        let (Ok(week), Some(around)) = (week, around) else { return Ok(()) };
        let zone = super::zone(case.zone.name());
        prop_assume!(zone.is_ok(), "the system may lack old names");
        let zone = zone.unwrap();
        // Both have the same rules for these days: else there is nothing to compare.
        let range = (case.day - 4) * DAY..(case.day + DAYS + 4) * DAY;
        for at in range.step_by(15) {
            let offset = zone.to_offset(timestamp(at)).seconds();
            prop_assume!(i64::from(offset) == (local(case.zone, at) - at) * 60);
        }
        let wants = reference(&case, &around);
        let calendar = Calendar::new(week, zone);
        let (mut at, end) = (case.day * DAY, (case.day + DAYS) * DAY);
        let mut level = calendar.level(timestamp(at));
        let mut change = calendar.next_change(timestamp(at));
        while at < end {
            if change.is_some_and(|(next, _)| next <= timestamp(at)) {
                let (next, expected) = change.unwrap();
                prop_assert_eq!(next, timestamp(at), "a change within a minute");
                level = calendar.level(next);
                prop_assert_eq!(level, expected);
                change = calendar.next_change(next);
            }
            let expected = wants.get(&at).copied().unwrap_or(Want::Locked);
            prop_assert_eq!(level.want, Some(expected), "at {}", timestamp(at));
            at += 1;
        }
    }

    #[test]
    fn no_text_is_a_week_by_accident_and_what_is_one_keeps_its_meaning(
        case in case(), text in ".{0,40}", cut in 0..400usize
    ) {
        let _ = Week::from_json(&text);
        if let Ok(week) = week(&case) {
            let json = week.to_json();
            prop_assert_eq!(Week::from_json(&json), Ok(week));
            let cut: String = json.chars().take(cut).collect();
            prop_assert_eq!(Week::from_json(&cut).is_ok(), cut == json);
        }
    }
}

#[test]
fn the_reference_counts_days_as_the_calendar_does() {
    assert_eq!(days(NaiveDate::from_ymd_opt(1970, 1, 1).unwrap()), 0);
    assert_eq!(date(365) - date(0), TimeDelta::days(365));
}

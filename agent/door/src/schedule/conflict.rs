//! Windows that overlap, in any week and around each exception.

use std::time::Duration;

use super::span::{Span, blocks, bounds, date_of, day_of, spans};
use super::week::{Week, WeekError, Window, WindowId};
use crate::contract::Want;

/// A Monday, 1970-01-05, as a day.
const MONDAY: i64 = 4;

/// Years in which each day of the year meets each day of the week, in leap years too.
const YEARS: std::ops::Range<i16> = 2072..2100;

/// Refuses windows that want the opposite at the same time.
pub(super) fn check(week: &Week) -> Result<(), WeekError> {
    match neighbourhoods(week).find_map(|spans| opposite(&spans)) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// The longest time that a week wants this without a break, and a window of it.
pub(super) fn longest(week: &Week, want: Want) -> Option<(Duration, WindowId, &Window)> {
    let longest = neighbourhoods(week).filter_map(|spans| {
        let blocks = blocks(&spans).filter(|block| block[0].window.want == want);
        let lengths = blocks.map(|block| {
            let (from, to) = bounds(block);
            (to - from, block[0].id, block[0].window)
        });
        lengths.max_by_key(|(length, ..)| *length)
    });
    let (length, id, window) = longest.max_by_key(|(length, ..)| *length)?;
    let minutes = u64::try_from(length).unwrap_or(0);
    Some((Duration::from_secs(minutes * 60), id, window))
}

/// The windows of any week, then those around each day of an exception. A window has at most 24
/// hours, so only those of neighbouring days can meet.
fn neighbourhoods(week: &Week) -> impl Iterator<Item = Vec<Span<'_>>> {
    let mut days: Vec<i64> = Vec::new();
    for exception in &week.exceptions {
        for dates in &exception.dates {
            days.extend(day_of(dates.first)..=day_of(dates.last));
        }
        let yearly = exception.yearly.iter();
        let in_years = yearly.flat_map(|day| YEARS.filter_map(|year| day.in_year(year)));
        days.extend(in_years.map(day_of));
    }
    days.sort_unstable();
    days.dedup();
    // Two weeks, since the last window of a week may meet the first of the next.
    let plain = std::iter::once(spans(week, MONDAY..MONDAY + 14, false));
    plain.chain((days.into_iter()).map(|day| spans(week, day - 1..=day + 1, true)))
}

fn opposite(spans: &[Span<'_>]) -> Option<WeekError> {
    let (locked, released) =
        spans.split_at(spans.partition_point(|span| span.window.want == Want::Locked));
    for first in locked {
        let mut later = released.iter().take_while(|span| span.from < first.to);
        if let Some(second) = later.find(|span| first.from < span.to) {
            let date = date_of(first.from.max(second.from).div_euclid(24 * 60));
            let date = date.map_or(String::new(), |date| match YEARS.contains(&date.year()) {
                _ if date.year() == 1970 => date.strftime("%A").to_string(),
                true => date.strftime("%m-%d when it is a %A").to_string(),
                false => date.to_string(),
            });
            return Some(WeekError {
                key: Some(first.id.to_string()),
                problem: format!(
                    "\"{}\" and \"{}\" overlap on {date}: expected windows that want the same, \
                     or another from or to",
                    first.window, second.window
                ),
                other: Some(second.id.to_string()),
            });
        }
    }
    None
}

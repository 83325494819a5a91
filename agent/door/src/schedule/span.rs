//! Windows on concrete days, by the wall clock, before any zone.

use jiff::SignedDuration;
use jiff::civil::{Date, DateTime};

use super::week::{Week, Window, WindowId};

const DAY: i64 = 24 * 60;

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// A window on one day; times are minutes of the wall clock since 1970-01-01 00:00.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span<'w> {
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) id: WindowId,
    pub(super) window: &'w Window,
}

/// The number of a day, counted from 1970-01-01.
pub(super) fn day_of(date: Date) -> i64 {
    EPOCH.date().duration_until(date).as_hours() / 24
}

/// The date of a day; `None` outside of the calendar.
pub(super) fn date_of(day: i64) -> Option<Date> {
    wall(day * DAY).map(DateTime::date)
}

/// The reading of the wall clock.
pub(super) fn wall(minute: i64) -> Option<DateTime> {
    EPOCH.checked_add(SignedDuration::from_mins(minute)).ok()
}

/// The windows that begin on days, by want and start.
pub(super) fn spans(
    week: &Week,
    days: impl Iterator<Item = i64>,
    exceptions: bool,
) -> Vec<Span<'_>> {
    let mut spans = Vec::new();
    for (day, date) in days.filter_map(|day| Some((day, date_of(day)?))) {
        let exception = (week.exceptions.iter()).rposition(|other| exceptions && other.is_on(date));
        spans.extend(week.windows_of(exception, date).map(|(id, window)| {
            let next_day = if window.to <= window.from { DAY } else { 0 };
            Span {
                from: day * DAY + window.from.minutes(),
                to: day * DAY + next_day + window.to.minutes(),
                id,
                window,
            }
        }));
    }
    spans.sort_by_key(|span| (span.window.want, span.from));
    spans
}

/// Groups of windows of one want that overlap or touch: from their first minute to their last there
/// is no boundary. `spans` are as [`spans`] returns them.
pub(super) fn blocks<'s, 'w>(spans: &'s [Span<'w>]) -> impl Iterator<Item = &'s [Span<'w>]> {
    let mut last = i64::MIN;
    let mut want = None;
    let mut starts: Vec<usize> = Vec::new();
    for (index, span) in spans.iter().enumerate() {
        if want != Some(span.window.want) || span.from > last {
            starts.push(index);
            last = span.to;
        }
        want = Some(span.window.want);
        last = last.max(span.to);
    }
    starts.push(spans.len());
    let ranges: Vec<_> = starts.windows(2).map(|pair| pair[0]..pair[1]).collect();
    ranges.into_iter().map(|range| &spans[range])
}

/// First and last minute of a block.
pub(super) fn bounds(block: &[Span<'_>]) -> (i64, i64) {
    let from = block.iter().map(|span| span.from).min();
    let to = block.iter().map(|span| span.to).max();
    (from.unwrap_or(0), to.unwrap_or(0))
}

//! The times of `--since` and `--until` of records. They are past, so a clock time is its last
//! occurrence.

use iothub_protocol::time::{LengthError, parse_length};
use jiff::civil::{Date, Time};
use jiff::{Timestamp, ToSpan as _, ZonedDateTime};

use super::{absolute, describe, parse_clock, resolve, roughly, weekday};

/// The accepted forms, for error messages.
pub(crate) const EXPECTED: &str = "how long ago (90m, 24h, 7d), 22:00, yesterday 06:30, friday \
     18:00, 2026-11-23 22:00, a day (2026-11-23, yesterday), or RFC 3339 such as 2026-11-23T22:00:00+01:00";

/// How a day without a time is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// `--since`: from midnight.
    Since,
    /// `--until`: the whole day; of today, until now.
    Until,
}

/// Why a past time is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SinceError {
    /// None of the accepted forms.
    #[error("not a past time; expected {EXPECTED}")]
    Malformed,
    /// A clock time without a known zone.
    #[error(
        "the time zone of this machine is unknown, so a clock time is ambiguous; expected how long \
         ago (90m, 24h, 7d), or RFC 3339"
    )]
    NoZone,
    #[error("{0}, or a clock time such as 22:00")]
    NoUnit(#[from] LengthError),
    #[error("{0} is in the future (in {1}); expected a past time")]
    Future(String, String),
}

/// Parses `text`; `now` is in the operator's time zone.
pub(crate) fn past(text: &str, bound: Bound, now: &ZonedDateTime) -> Result<Timestamp, SinceError> {
    let text = text.trim();
    let parsed = match absolute(text, now) {
        None => ago(text, now)?,
        parsed => parsed,
    };
    let when = match parsed {
        Some(when) => when,
        None => {
            let when = parse_wall_time(text, bound, now)?;
            if now.time_zone().is_unknown() {
                return Err(SinceError::NoZone);
            }
            when
        }
    };
    if when.timestamp() > now.timestamp() {
        let left = roughly(when.duration_since(now));
        return Err(SinceError::Future(describe(&when), left));
    }
    Ok(when.timestamp())
}

/// `90m`, `1d12h`; a day has 24 hours.
fn ago(text: &str, now: &ZonedDateTime) -> Result<Option<ZonedDateTime>, LengthError> {
    match parse_length(text) {
        Ok(ago) => Ok(now.checked_sub(ago).ok()),
        Err(LengthError::Malformed) => Ok(None),
        Err(error) => Err(error),
    }
}

/// `[DAY] TIME`, or `DAY`.
fn parse_wall_time(
    text: &str,
    bound: Bound,
    now: &ZonedDateTime,
) -> Result<ZonedDateTime, SinceError> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let malformed = |_| SinceError::Malformed;
    match words[..] {
        [day] if !day.contains(':') => {
            let date = parse_date(day, now.date()).ok_or(SinceError::Malformed)?;
            let midnight = |date: Date| resolve(date.to_datetime(Time::midnight()), now).when;
            let (begin, end) = (midnight(date), midnight(date.saturating_add(1.day())));
            Ok(match bound {
                Bound::Until if begin <= *now => end.min(now.clone()),
                _ => begin,
            })
        }
        [time] => {
            let time = parse_clock(time).map_err(malformed)?;
            let today = resolve(now.date().to_datetime(time), now).when;
            if today.timestamp() <= now.timestamp() {
                return Ok(today);
            }
            let yesterday = now.date().saturating_sub(1.day());
            Ok(resolve(yesterday.to_datetime(time), now).when)
        }
        [day, time] => {
            let time = parse_clock(time).map_err(malformed)?;
            let date = parse_date(day, now.date()).ok_or(SinceError::Malformed)?;
            Ok(resolve(date.to_datetime(time), now).when)
        }
        _ => Err(SinceError::Malformed),
    }
}

fn parse_date(day: &str, today: Date) -> Option<Date> {
    let day = day.to_ascii_lowercase();
    match (day.as_str(), weekday(&day)) {
        ("today", _) => Some(today),
        ("yesterday", _) => Some(today.saturating_sub(1.day())),
        (_, Some(weekday)) => today.nth_weekday(-1, weekday).ok(),
        (day, None) => day.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str) -> Result<String, String> {
        // A Monday evening in winter.
        let now: ZonedDateTime = "2026-11-23T21:15:00+01:00[Europe/Berlin]".parse().unwrap();
        let since = past(text, Bound::Since, &now).map_err(|error| error.to_string())?;
        Ok(since.to_string())
    }

    #[test]
    fn a_day_is_its_midnight_for_since_and_all_of_it_for_until() {
        let now: ZonedDateTime = "2026-11-23T21:15:00+01:00[Europe/Berlin]".parse().unwrap();
        for (text, since, until) in [
            ("2026-11-20", "2026-11-19T23:00:00Z", "2026-11-20T23:00:00Z"),
            ("yesterday", "2026-11-21T23:00:00Z", "2026-11-22T23:00:00Z"),
            ("today", "2026-11-22T23:00:00Z", "2026-11-23T20:15:00Z"),
            ("monday", "2026-11-15T23:00:00Z", "2026-11-16T23:00:00Z"),
            // 25 hours: clocks go back.
            ("2026-10-25", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
            ("22:00", "2026-11-22T21:00:00Z", "2026-11-22T21:00:00Z"),
        ] {
            let parsed = |bound| past(text, bound, &now).unwrap().to_string();
            assert_eq!(parsed(Bound::Since), since, "{text}");
            assert_eq!(parsed(Bound::Until), until, "{text}");
        }
        for bound in [Bound::Since, Bound::Until] {
            let error = past("2026-11-24", bound, &now).unwrap_err().to_string();
            assert!(error.contains("is in the future"), "{error}");
        }
    }

    #[test]
    fn an_age_is_subtracted_and_a_clock_time_is_the_last_one() {
        for (text, expected) in [
            ("90m", "2026-11-23T18:45:00Z"),
            ("1d12h", "2026-11-22T08:15:00Z"),
            ("30d", "2026-10-24T20:15:00Z"),
            ("0s", "2026-11-23T20:15:00Z"),
            ("21:00", "2026-11-23T20:00:00Z"),
            ("22:00", "2026-11-22T21:00:00Z"),
            ("22:00:00", "2026-11-22T21:00:00Z"),
            ("yesterday 06:30", "2026-11-22T05:30:00Z"),
            ("monday 06:30", "2026-11-16T05:30:00Z"),
            ("2026-11-20 10:00", "2026-11-20T09:00:00Z"),
            ("2026-11-23T20:00:00Z", "2026-11-23T20:00:00Z"),
        ] {
            assert_eq!(from(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn the_lengths_of_time_are_those_of_all_programs() {
        let now: ZonedDateTime = "2026-11-23T21:15:00+01:00[Europe/Berlin]".parse().unwrap();
        for row in include_str!("../../../testing/lengths.tsv").lines() {
            let (text, seconds) = row.split_once('\t').unwrap();
            let expected = seconds.parse().ok();
            let ago = past(text, Bound::Since, &now)
                .map(|then| now.timestamp().duration_since(then).as_secs());
            assert_eq!(ago.ok(), expected, "{text}");
            let period = crate::cli::period(text).map(|length| length.as_secs());
            assert_eq!(period.ok(), expected.map(i64::unsigned_abs), "{text}");
        }
    }

    #[test]
    fn an_invalid_or_future_time_is_an_error() {
        for text in [
            "",
            "soon",
            "-2h",
            "tomorrow 10:00",
            "tomorrow",
            "22:00 Mars",
        ] {
            let error = from(text).unwrap_err();
            assert!(error.starts_with("not a past time"), "{text}: {error}");
        }
        assert_eq!(
            from("2200").unwrap_err(),
            "2200 has no unit: write 2200s or 2200m, or a clock time such as 22:00"
        );
        assert_eq!(
            from("today 22:00").unwrap_err(),
            "Mon 2026-11-23 22:00:00 CET (Europe/Berlin) = 21:00:00 UTC is in the future (in 45 \
             min); expected a past time"
        );
    }
}

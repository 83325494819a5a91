//! Time arguments: `--at`, `--until` and ([`since`]) `--since`, and how times are shown.
//!
//! Pure: the current time and zone are arguments.

pub(crate) mod since;

use door_core::contract::duration;
use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan as _, ZonedDateTime};

/// The accepted forms, for error messages.
pub(crate) const EXPECTED: &str = "now, +10s, 22:00, today 22:00, tomorrow 06:30, friday 18:00, \
     2026-11-23 22:00 (a zone such as Europe/Berlin may follow), or RFC 3339 such as \
     2026-11-23T22:00:00+01:00";

/// The accepted lengths of time, for error messages.
pub(crate) const LENGTH_EXPECTED: &str =
    "a duration such as 10m, 1h30m, '10 min', 7d or PT10M, above zero and at most 7 days";

/// A parsed time argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TimeArg {
    /// The time in the zone of the argument.
    pub(crate) when: ZonedDateTime,
    /// What may surprise: a clock change, or that the time is tomorrow.
    pub(crate) note: Option<String>,
    pub(crate) given: TimeForm,
}

/// Form of a time argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeForm {
    /// `now`.
    Now,
    /// `+10s`: relative to now.
    After,
    /// A clock or calendar time.
    Instant,
}

/// Why a time argument is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TimeArgError {
    /// None of the accepted forms.
    #[error("not a time; expected {EXPECTED}")]
    Malformed,
    /// `+` with an invalid duration.
    #[error("{0}; after `+` expected {LENGTH_EXPECTED}")]
    Duration(duration::DurationError),
    /// Unknown time zone.
    #[error(
        "`{0}` is not a time zone; expected an IANA name such as Europe/Berlin, or POSIX as in \
         CET-1CEST,M3.5.0,M10.5.0/3"
    )]
    Zone(String),
    /// A clock time without a known zone.
    #[error(
        "the time zone of this machine is unknown, so a clock time is ambiguous; expected a zone \
         after it, such as `22:00 Europe/Berlin`, +10s, or RFC 3339 such as \
         2026-11-23T22:00:00+01:00"
    )]
    NoZone,
    /// In the past.
    #[error("{0} is in the past ({1} ago); expected a future time, or `now`")]
    Past(String, String),
}

impl TimeArg {
    /// Parses `text`; `now` is in the operator's time zone.
    pub(crate) fn parse(text: &str, now: &ZonedDateTime) -> Result<Self, TimeArgError> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("now") {
            return Ok(Self {
                given: TimeForm::Now,
                ..Self::plain(now.clone())
            });
        }
        if let Some(after) = text.strip_prefix('+') {
            let after = duration::with_unit(after)
                .and_then(duration::parse)
                .map_err(TimeArgError::Duration)?;
            return Ok(Self {
                given: TimeForm::After,
                ..Self::plain(now.saturating_add(after))
            });
        }
        let at = match absolute(text, now) {
            Some(when) => Self::plain(when),
            None => Self::civil(text, now)?,
        };
        if at.when.timestamp() < now.timestamp() {
            let ago = roughly(now.duration_since(&at.when));
            return Err(TimeArgError::Past(describe(&at.when), ago));
        }
        Ok(at)
    }

    fn plain(when: ZonedDateTime) -> Self {
        Self {
            when,
            note: None,
            given: TimeForm::Instant,
        }
    }

    /// `[DAY] TIME [ZONE]`.
    fn civil(text: &str, now: &ZonedDateTime) -> Result<Self, TimeArgError> {
        let mut words: Vec<&str> = text.split_whitespace().collect();
        if !text.contains(':') || text.contains('[') {
            return Err(TimeArgError::Malformed);
        }
        let zone = match words.last() {
            Some(last)
                if words.len() > 1 && !last.starts_with(|first: char| first.is_ascii_digit()) =>
            {
                let zone = zone(last).ok_or_else(|| TimeArgError::Zone((*last).to_owned()))?;
                words.pop();
                zone
            }
            _ if now.time_zone().is_unknown() => return Err(TimeArgError::NoZone),
            _ => now.time_zone().clone(),
        };
        let now = now.with_time_zone(zone);
        match words[..] {
            [time] if time.contains('T') => {
                let when = time
                    .parse::<DateTime>()
                    .map_err(|_| TimeArgError::Malformed)?;
                Ok(resolve(when, &now))
            }
            [time] => {
                let time = parse_clock(time)?;
                let today = resolve(now.date().to_datetime(time), &now);
                if today.when.timestamp() >= now.timestamp() {
                    return Ok(today);
                }
                let tomorrow = now.date().saturating_add(1.day());
                let mut at = resolve(tomorrow.to_datetime(time), &now);
                at.note
                    .get_or_insert_with(|| format!("{time:.0} has passed today: using tomorrow"));
                Ok(at)
            }
            [day, time] => Ok(resolve(
                parse_date(day, now.date())?.to_datetime(parse_clock(time)?),
                &now,
            )),
            _ => Err(TimeArgError::Malformed),
        }
    }

    /// `Mon 2026-11-23 22:00:00 CET (Europe/Berlin) = 21:00:00 UTC, in 3 h 12 min`.
    pub(crate) fn echo(&self, now: Timestamp) -> String {
        format!(
            "{}, {}",
            describe(&self.when),
            countdown(self.when.timestamp(), now)
        )
    }
}

/// RFC 3339, or RFC 9557 with a zone in brackets that matches the offset.
fn absolute(text: &str, now: &ZonedDateTime) -> Option<ZonedDateTime> {
    (text.parse::<ZonedDateTime>().ok()).or_else(|| {
        // `Timestamp` ignores the brackets.
        let instant = text
            .parse::<Timestamp>()
            .ok()
            .filter(|_| !text.contains('['))?;
        Some(instant.to_zoned_datetime(now.time_zone().clone()))
    })
}

/// A zone by IANA name or POSIX string.
pub(crate) fn zone(name: &str) -> Option<TimeZone> {
    let zone = TimeZone::get(name)
        .or_else(|_| TimeZone::posix(name))
        .ok()?;
    (!is_ambiguous_zone(name, &zone)).then_some(zone)
}

/// Whether a zone is unknown or may not be the intended one: `UTC+2` is two hours behind UTC in
/// POSIX and ahead of it in common use.
fn is_ambiguous_zone(name: &str, zone: &TimeZone) -> bool {
    let name = name.strip_prefix(':').unwrap_or(name).to_ascii_uppercase();
    let of_utc = ["UTC", "GMT"]
        .into_iter()
        .find_map(|utc| name.strip_prefix(utc));
    // `GMT0BST,M3.5.0/1,M10.5.0` (Britain) is fine.
    let shifted = |rest: &str| {
        let mut offset = rest
            .chars()
            .take_while(|letter| "+-:0123456789".contains(*letter));
        offset.any(|letter| matches!(letter, '1'..='9'))
    };
    zone.is_unknown() || zone.iana_name() == Some("Factory") || of_utc.is_some_and(shifted)
}

/// The zone of this machine: [`TimeZone::unknown`] if neither `TZ` nor the system names one.
pub(crate) fn system_zone() -> TimeZone {
    let name = std::env::var("TZ").unwrap_or_default();
    match TimeZone::try_system() {
        Ok(zone) if is_ambiguous_zone(&name, &zone) => TimeZone::unknown(),
        Ok(zone) => zone,
        // A machine without a configured zone runs in UTC, as its `date` shows.
        Err(_) if has_no_zone_set() => TimeZone::UTC,
        Err(_) => TimeZone::unknown(),
    }
}

fn has_no_zone_set() -> bool {
    cfg!(unix)
        && std::env::var_os("TZ").is_none()
        && std::fs::symlink_metadata("/etc/localtime").is_err()
}

/// `in 3 h 12 min`, or `now`.
pub(crate) fn countdown(then: Timestamp, now: Timestamp) -> String {
    match then.duration_since(now) {
        left if left <= SignedDuration::ZERO => "now".to_owned(),
        left => format!("in {}", roughly(left)),
    }
}

/// A time in its zone and in UTC.
pub(crate) fn describe(when: &ZonedDateTime) -> String {
    let utc = when.with_time_zone(TimeZone::UTC);
    if when.offset() == utc.offset() {
        return when.strftime("%a %F %T UTC").to_string();
    }
    let zone = match when.time_zone().iana_name() {
        Some(name) => format!(" ({name})"),
        None => String::new(),
    };
    let utc = match utc.date() == when.date() {
        true => utc.strftime("%T UTC"),
        false => utc.strftime("%F %T UTC"),
    };
    format!("{}{zone} = {utc}", when.strftime("%a %F %T %Z"))
}

/// A time in its zone, for lists.
pub(crate) fn on_clock(when: &ZonedDateTime) -> String {
    when.strftime("%F %T").to_string()
}

/// A duration in two units, rounded up to the second.
pub(crate) fn roughly(length: SignedDuration) -> String {
    let seconds = length.as_secs() + i64::from(length.subsec_nanos() > 0);
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    let two = |large: i64, unit: &str, small: i64, smaller: &str| match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {smaller}"),
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest} s"),
        (0, 0, _) => two(minutes, "min", rest, "s"),
        (0, _, _) => two(hours, "h", minutes, "min"),
        (1, ..) => two(1, "day", hours, "h"),
        _ => two(days, "days", hours, "h"),
    }
}

/// A length in its largest unit, rounded down: `45s`, `12m`, `3h`, `5d`.
pub(crate) fn age(length: SignedDuration) -> String {
    match length.as_secs().max(0) {
        seconds @ ..60 => format!("{seconds}s"),
        seconds @ ..3_600 => format!("{}m", seconds / 60),
        seconds @ ..86_400 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// A time within the next six days by its weekday, for narrow columns: `Mon 22:10:00`.
pub(crate) fn soon(when: &ZonedDateTime, now: Timestamp) -> String {
    match when.timestamp().duration_since(now).as_hours() {
        0..144 => when.strftime("%a %T").to_string(),
        _ => on_clock(when),
    }
}

fn parse_clock(text: &str) -> Result<Time, TimeArgError> {
    // A bare `22` or `2200` may be a typing error. In `22:00+05:00` the offset would be ignored.
    let is_clock = |letter: char| letter.is_ascii_digit() || matches!(letter, ':' | '.');
    match text.contains(':') && text.chars().all(is_clock) {
        true => text.parse().map_err(|_| TimeArgError::Malformed),
        false => Err(TimeArgError::Malformed),
    }
}

fn parse_date(day: &str, today: Date) -> Result<Date, TimeArgError> {
    let day = day.to_ascii_lowercase();
    match (day.as_str(), weekday(&day)) {
        ("today", _) => Ok(today),
        ("tomorrow", _) => Ok(today.saturating_add(1.day())),
        (_, Some(weekday)) => today
            .nth_weekday(1, weekday)
            .map_err(|_| TimeArgError::Malformed),
        (day, None) => day.parse().map_err(|_| TimeArgError::Malformed),
    }
}

fn weekday(name: &str) -> Option<Weekday> {
    Some(match name {
        "monday" | "mon" => Weekday::Monday,
        "tuesday" | "tue" => Weekday::Tuesday,
        "wednesday" | "wed" => Weekday::Wednesday,
        "thursday" | "thu" => Weekday::Thursday,
        "friday" | "fri" => Weekday::Friday,
        "saturday" | "sat" => Weekday::Saturday,
        "sunday" | "sun" => Weekday::Sunday,
        _ => return None,
    })
}

/// Resolves a wall clock time that a clock change may skip or repeat.
fn resolve(wall: DateTime, now: &ZonedDateTime) -> TimeArg {
    let zone = now.time_zone();
    let ambiguous = zone.to_ambiguous_zoned_datetime(wall);
    let offset = ambiguous.offset();
    let clocks = |when: &ZonedDateTime| when.strftime("%T %Z").to_string();
    let resolved = match offset {
        // The earlier of two, unless it has passed and the later has not.
        AmbiguousOffset::Fold { .. } => ambiguous.clone().earlier().and_then(|first| {
            match first.timestamp() < now.timestamp() {
                true => ambiguous.later(),
                false => Ok(first),
            }
        }),
        _ => ambiguous.compatible(),
    };
    let Ok(when) = resolved else {
        // Out of range: treated as past.
        return TimeArg::plain(Timestamp::MIN.to_zoned_datetime(TimeZone::UTC));
    };
    let name = zone.iana_name().unwrap_or("this zone");
    let note = match offset {
        AmbiguousOffset::Unambiguous { .. } => None,
        AmbiguousOffset::Gap { .. } => Some(format!(
            "{:.0} does not exist on {} in {name}: clocks go forward over it; taken as {}",
            wall.time(),
            wall.date(),
            clocks(&when),
        )),
        AmbiguousOffset::Fold { before, after } => Some(format!(
            "{:.0} comes twice on {} in {name}: clocks go back; taken as {} (write {wall}{before} \
             or {wall}{after} to choose)",
            wall.time(),
            wall.date(),
            clocks(&when),
        )),
    };
    TimeArg {
        note,
        ..TimeArg::plain(when)
    }
}

#[cfg(test)]
mod tests;

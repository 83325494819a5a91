//! Durations in payloads, configuration and on the command line: `10m`, `1h 30m`, `10 min`, `7d`,
//! `PT10M`, and in payloads `600`.
//!
//! Agent and `doorctl` share this parser, so both accept the same texts: the friendly form of jiff
//! and ISO 8601, with days of 24 hours. A number without a unit is seconds, on the wire only. Zero,
//! negative and relative (`ago`) durations are refused.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::{Span, SpanRelativeTo};
use thiserror::Error;

/// The longest duration that is accepted: 7 days.
pub const MAX: Duration = Duration::from_secs(7 * DAY_S);

/// The accepted forms, for error messages.
pub const EXPECTED: &str =
    "a duration such as 10m, 1h30m, 7d, PT10M or 600 (seconds), above zero and at most 7 days";

const DAY_S: u64 = 86_400;
const HOUR_S: u64 = 3_600;
const MINUTE_S: u64 = 60;

/// Why a text is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DurationError {
    /// Empty, or white space.
    #[error("the duration is empty")]
    Empty,
    /// None of the accepted forms.
    #[error("not a duration")]
    Malformed,
    /// Only digits, where a person wrote them.
    #[error("{0} has no unit: write {0}s or {0}m")]
    NoUnit(u64),
    /// A fraction of a second.
    #[error("the duration is not in whole seconds")]
    Fraction,
    /// Zero.
    #[error("the duration is zero")]
    Zero,
    /// Negative, or with `ago`.
    #[error("the duration is negative")]
    Negative,
    /// Above [`MAX`].
    #[error("the duration is longer than 7 days")]
    TooLong,
}

/// Parses a duration in whole seconds.
///
/// # Errors
/// If the text has none of the accepted forms, or is zero, negative or longer than [`MAX`].
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    match parse_precise(text)? {
        fine if fine.subsec_nanos() == 0 => Ok(fine),
        _ => Err(DurationError::Fraction),
    }
}

/// The same text for [`parse`], from a command line or a file.
///
/// # Errors
/// If it is only digits: on the wire seconds, but a person may mean any unit.
pub fn with_unit(text: &str) -> Result<&str, DurationError> {
    match text.trim() {
        digits if is_number(digits) => {
            let number = digits.parse().map_err(|_| DurationError::TooLong)?;
            Err(DurationError::NoUnit(number))
        }
        _ => Ok(text),
    }
}

/// Parses a duration that may have a fraction of a second.
pub(crate) fn parse_precise(text: &str) -> Result<Duration, DurationError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    if is_number(text) {
        return from_seconds(text.parse().map_err(|_| DurationError::TooLong)?);
    }
    let malformed = |_| DurationError::Malformed;
    // `10:00:00` is a length of time to jiff and a time of day to people.
    let span: Span = match text.contains(':') {
        true => return Err(DurationError::Malformed),
        false => text.parse().map_err(malformed)?,
    };
    let length = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(malformed)?;
    check(Duration::try_from(length).map_err(|_| DurationError::Negative)?)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Checks a number of seconds against the same limits.
///
/// # Errors
/// If it is zero or above [`MAX`].
pub fn from_seconds(seconds: u64) -> Result<Duration, DurationError> {
    check(Duration::from_secs(seconds))
}

fn check(duration: Duration) -> Result<Duration, DurationError> {
    match duration {
        Duration::ZERO => Err(DurationError::Zero),
        long if long > MAX => Err(DurationError::TooLong),
        fine => Ok(fine),
    }
}

/// Formats a duration as text that [`parse`] accepts; fractions of a second are dropped.
#[must_use]
pub fn to_text(duration: Duration) -> String {
    let mut rest = duration.as_secs();
    let mut text = String::new();
    for (unit, seconds) in [('d', DAY_S), ('h', HOUR_S), ('m', MINUTE_S), ('s', 1)] {
        if rest >= seconds {
            write!(text, "{}{unit}", rest / seconds).expect("writing to a String cannot fail");
            rest %= seconds;
        }
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_accepted_form() {
        for (text, seconds) in [
            ("10m", 600),
            ("1h30m", 5400),
            ("1h 30m", 5400),
            (" 15s ", 15),
            ("7d", 604_800),
            ("1d2h3m4s", 93_784),
            ("90m", 5400),
            ("PT10M", 600),
            ("PT1H30M", 5400),
            ("P1D", 86_400),
            ("P1DT1S", 86_401),
            ("600", 600),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for row in include_str!("../../../../testing/lengths.tsv").lines() {
            let (text, seconds) = row.split_once('\t').unwrap();
            let parsed = with_unit(text).and_then(parse).ok();
            assert_eq!(
                parsed.map(|time| time.as_secs()),
                seconds.parse().ok(),
                "{text}"
            );
        }
    }

    #[test]
    fn every_refused_form() {
        for (text, error) in [
            ("", DurationError::Empty),
            ("  ", DurationError::Empty),
            ("0", DurationError::Zero),
            ("0s", DurationError::Zero),
            ("PT0S", DurationError::Zero),
            ("-5m", DurationError::Negative),
            ("5m ago", DurationError::Negative),
            ("8d", DurationError::TooLong),
            ("604801", DurationError::TooLong),
            ("99999999999999999999", DurationError::TooLong),
            ("1.5s", DurationError::Fraction),
            ("250ms", DurationError::Fraction),
            ("99999999999999999d", DurationError::Malformed),
            ("10x", DurationError::Malformed),
            ("10M", DurationError::Malformed),
            ("30m1h", DurationError::Malformed),
            ("1m1m", DurationError::Malformed),
            ("1h30", DurationError::Malformed),
            ("10:00:00", DurationError::Malformed),
            ("1 month", DurationError::Malformed),
            ("ten minutes", DurationError::Malformed),
            ("P", DurationError::Malformed),
            ("PT", DurationError::Malformed),
            ("P1M", DurationError::Malformed),
            ("P1DT", DurationError::Malformed),
            ("1ö", DurationError::Malformed),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(seconds in 1_u64..=MAX.as_secs()) {
            let duration = Duration::from_secs(seconds);
            prop_assert_eq!(parse(&to_text(duration)), Ok(duration));
            prop_assert_eq!(parse(&seconds.to_string()), Ok(duration));
        }

        #[test]
        fn no_text_panics_and_what_is_accepted_is_within_the_limits(text in "\\PC{0,24}|[0-9PTdhmsDHMS -]{0,16}") {
            if let Ok(duration) = parse(&text) {
                prop_assert!(duration > Duration::ZERO && duration <= MAX);
            }
        }
    }
}

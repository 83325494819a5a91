//! Durations in payloads, configuration and on the command line: `10m`, `1h30m`, `7d`, `PT10M`,
//! `600`.
//!
//! Agent and `doorctl` share this parser, so both accept the same texts. A number without a unit is
//! seconds; a day has 24 hours. Zero, negative and relative (`ago`) durations are refused.

use std::fmt::Write as _;
use std::time::Duration;

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
    /// A number without one of the units d, h, m, s, or units out of order.
    #[error("expected whole numbers with the units d, h, m, s, the largest first, each once")]
    Unit,
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

/// Parses a duration.
///
/// # Errors
/// If the text has none of the accepted forms, or is zero, negative or longer than [`MAX`].
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    if text.starts_with('-') || text.ends_with("ago") {
        return Err(DurationError::Negative);
    }
    let seconds = if text.bytes().all(|byte| byte.is_ascii_digit()) {
        number(text)?
    } else if let Some(rest) = text.strip_prefix('P') {
        iso(rest)?
    } else {
        units(
            text,
            &[('d', DAY_S), ('h', HOUR_S), ('m', MINUTE_S), ('s', 1)],
        )?
    };
    from_seconds(seconds)
}

/// Checks a number of seconds against the same limits.
///
/// # Errors
/// If it is zero or above [`MAX`].
pub fn from_seconds(seconds: u64) -> Result<Duration, DurationError> {
    match Duration::from_secs(seconds) {
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

/// The part of an ISO 8601 duration after `P`: days, then after `T` hours, minutes, seconds.
fn iso(rest: &str) -> Result<u64, DurationError> {
    let (days, time) = match rest.split_once('T') {
        Some((_, "")) => return Err(DurationError::Malformed),
        Some((days, time)) => (days, Some(time)),
        None => (rest, None),
    };
    if days.is_empty() && time.is_none() {
        return Err(DurationError::Malformed);
    }
    let days = match days {
        "" => 0,
        days => units(days, &[('D', DAY_S)])?,
    };
    let time = match time {
        Some(time) => units(time, &[('H', HOUR_S), ('M', MINUTE_S), ('S', 1)])?,
        None => 0,
    };
    days.checked_add(time).ok_or(DurationError::TooLong)
}

/// Numbers with units, the largest unit first, each at most once; white space may separate them.
fn units(mut text: &str, mut allowed: &[(char, u64)]) -> Result<u64, DurationError> {
    let mut total = 0_u64;
    while !text.is_empty() {
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .ok_or(DurationError::Unit)?;
        if digits == 0 {
            return Err(DurationError::Malformed);
        }
        let (amount, rest) = text.split_at(digits);
        let unit = rest.chars().next().ok_or(DurationError::Unit)?;
        let position = allowed
            .iter()
            .position(|(known, _)| *known == unit)
            .ok_or(DurationError::Unit)?;
        let part = number(amount)?.checked_mul(allowed[position].1);
        total = part
            .and_then(|part| total.checked_add(part))
            .ok_or(DurationError::TooLong)?;
        allowed = &allowed[position + 1..];
        text = rest[unit.len_utf8()..].trim_start();
    }
    Ok(total)
}

fn number(digits: &str) -> Result<u64, DurationError> {
    // Only digits get here, so the only possible failure is a number above 64 bits.
    digits.parse().map_err(|_| DurationError::TooLong)
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
            ("99999999999999999d", DurationError::TooLong),
            ("10x", DurationError::Unit),
            ("10M", DurationError::Unit),
            ("30m1h", DurationError::Unit),
            ("1m1m", DurationError::Unit),
            ("1h30", DurationError::Unit),
            ("1.5h", DurationError::Unit),
            ("ten minutes", DurationError::Malformed),
            ("P", DurationError::Malformed),
            ("PT", DurationError::Malformed),
            ("P1M", DurationError::Unit),
            ("P1DT", DurationError::Malformed),
            ("1ö", DurationError::Unit),
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

//! Timestamps as IoT Hub writes them: ISO 8601 in UTC, with up to seven fractional digits
//! (`2020-01-06T21:44:00.8884134Z`).
//!
//! Reading accepts any offset; a time without an offset is UTC, as in the official clients.
//!
//! [`parse_length`] reads how long ago something was, on command lines.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

/// Why a text is not a timestamp.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a time; expected ISO 8601 such as 2026-11-23T22:00:00Z")]
pub struct TimeError {
    text: String,
}

/// Parses a timestamp; one without an offset is UTC.
///
/// # Errors
///
/// If the text is not ISO 8601.
pub fn parse(text: &str) -> Result<Timestamp, TimeError> {
    // Longer texts are not times; they are truncated for the message.
    let error = || TimeError {
        text: text.chars().take(64).collect(),
    };
    if text.len() > 64 {
        return Err(error());
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(timestamp);
    }
    let local: DateTime = text.parse().map_err(|_| error())?;
    let zoned = local
        .to_zoned_datetime(TimeZone::UTC)
        .map_err(|_| error())?;
    Ok(zoned.timestamp())
}

/// Why a text is not a length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LengthError {
    /// Only digits.
    #[error("{0} has no unit: write {0}s or {0}m")]
    NoUnit(String),
    /// Anything else, also a negative length.
    #[error("not a length of time; expected one such as 90m, 24h or 7d")]
    Malformed,
}

/// Parses a length of time as people write it: `90m`, `1h 30m`, `10 min`, `PT10M`; a day has 24
/// hours. Zero is allowed.
///
/// # Errors
///
/// If the text is none, has no unit or is negative.
pub fn parse_length(text: &str) -> Result<SignedDuration, LengthError> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(LengthError::NoUnit(text.to_owned()));
    }
    // `10:00:00` is a length of time to jiff and a time of day to people.
    let span = text.parse::<Span>().ok().filter(|_| !text.contains(':'));
    span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok())
        .filter(|length| !length.is_negative())
        .ok_or(LengthError::Malformed)
}

/// Formats a timestamp, truncated to 100 ns, without trailing zeros.
#[must_use]
pub fn format(timestamp: Timestamp) -> String {
    let beyond = timestamp.subsec_nanosecond().rem_euclid(100);
    let cut = timestamp - SignedDuration::from_nanos(i64::from(beyond));
    cut.to_string()
}

/// For `#[serde(with = ..)]` on a [`Timestamp`].
pub(crate) mod required {
    use jiff::Timestamp;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        timestamp: &Timestamp,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::format(*timestamp))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Timestamp, D::Error> {
        super::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Like [`required`], but null is the time that means "never"; use with `default`.
pub(crate) mod or_never {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer};

    pub(crate) use super::required::serialize;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Timestamp, D::Error> {
        #[derive(Deserialize)]
        struct Required(#[serde(with = "super::required")] Timestamp);
        let time = Option::<Required>::deserialize(deserializer)?;
        Ok(time.map_or_else(crate::twin::never, |Required(time)| time))
    }
}

/// For `#[serde(with = ..)]` on an `Option<Timestamp>`; use with `default`.
pub(crate) mod optional {
    use jiff::Timestamp;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize as _, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        timestamp: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        timestamp.map(super::format).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        // Some serialisers write an empty text for a member that is not set.
        text.filter(|text| !text.is_empty())
            .map(|text| super::parse(&text))
            .transpose()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_written_as_the_service_writes_them() {
        for text in [
            "2020-01-06T21:44:00.8884134Z",
            "0001-01-01T00:00:00Z",
            "2019-05-04T15:53:00.077Z",
        ] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
        assert_eq!(
            format(parse("2020-01-06T21:44:00.888413499Z").unwrap()),
            "2020-01-06T21:44:00.8884134Z"
        );
    }

    #[test]
    fn a_time_without_an_offset_is_utc() {
        let utc = parse("2026-11-23T22:00:00Z").unwrap();
        assert_eq!(parse("2026-11-23T22:00:00").unwrap(), utc);
        assert_eq!(parse("2026-11-23T23:00:00+01:00").unwrap(), utc);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "22:00",
            "tomorrow",
            "2026-13-01T00:00:00Z",
            &"9".repeat(1000),
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(
            parse("soon").unwrap_err().to_string(),
            "\"soon\" is not a time; expected ISO 8601 such as 2026-11-23T22:00:00Z"
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(seconds in -62_135_596_800_i64..253_402_207_200, fraction in 0..10_000_000_i32) {
            let timestamp = Timestamp::new(seconds, 0).unwrap() + jiff::SignedDuration::from_nanos(i64::from(fraction) * 100);
            prop_assert_eq!(parse(&format(timestamp)), Ok(timestamp));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[-0-9T:.Z+ ]{0,40}|\\PC{0,40}") {
            let _ = parse(&text);
        }
    }
}

//! Integers in request bodies. Some clients write them as strings.

use std::fmt;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

/// An integer, or a string with one. Values beyond `i64` are clamped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Integer(pub(crate) i64);

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IntegerVisitor)
    }
}

struct IntegerVisitor;

impl Visitor<'_> for IntegerVisitor {
    type Value = Integer;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer, such as 30 or \"30\"")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Integer, E> {
        Ok(Integer(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Integer, E> {
        Ok(Integer(i64::try_from(number).unwrap_or(i64::MAX)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Integer, E> {
        let trimmed = text.trim();
        let digits = trimmed.strip_prefix(['-', '+']).unwrap_or(trimmed);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(E::invalid_value(Unexpected::Str(text), &self));
        }
        let beyond = if trimmed.starts_with('-') {
            i64::MIN
        } else {
            i64::MAX
        };
        Ok(Integer(trimmed.parse().unwrap_or(beyond)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_that_hold_an_integer_are_integers() {
        for (text, expected) in [
            ("30", Ok(30)),
            ("-1", Ok(-1)),
            ("18446744073709551615", Ok(i64::MAX)),
            (r#""30""#, Ok(30)),
            (r#""-1""#, Ok(-1)),
            (r#""+30""#, Ok(30)),
            (r#"" 030 ""#, Ok(30)),
            (r#""99999999999999999999""#, Ok(i64::MAX)),
            (r#""-99999999999999999999""#, Ok(i64::MIN)),
            (r#""""#, Err(r#"string """#)),
            (r#"" ""#, Err(r#"string " ""#)),
            (r#""-""#, Err(r#"string "-""#)),
            (r#""+-3""#, Err(r#"string "+-3""#)),
            (r#""30s""#, Err(r#"string "30s""#)),
            (r#""30.0""#, Err(r#"string "30.0""#)),
            (r#""3e1""#, Err(r#"string "3e1""#)),
            (r#""0x1e""#, Err(r#"string "0x1e""#)),
            (r#""\u0663""#, Err("string")),
            ("30.5", Err("floating point `30.5`")),
            ("true", Err("boolean `true`")),
            ("null", Err("null")),
            ("[30]", Err("sequence")),
            ("{}", Err("map")),
        ] {
            let read = serde_json::from_str(text).map(|Integer(number)| number);
            match (read, expected) {
                (Ok(number), Ok(expected)) => assert_eq!(number, expected, "{text}"),
                (Err(error), Err(found)) => {
                    let message = error.to_string();
                    assert!(message.contains(found), "{text}: {message}");
                    let expected = r#"expected an integer, such as 30 or "30""#;
                    assert!(message.contains(expected), "{text}: {message}");
                }
                (read, expected) => panic!("{text}: {read:?}, expected {expected:?}"),
            }
        }
    }
}

//! Properties of a message, as in its topic: `name=value` pairs joined by `&`, each part
//! percent-encoded.
//!
//! `+` is a plus and never a space. Names of system properties start with `$.` and are written as
//! `$.` or `%24.`.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::TopicError;

/// Characters that are not encoded in a name or value.
const PROPERTY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Properties in the order received: unique names, each with an optional value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PropertyBag {
    properties: Vec<(String, Option<String>)>,
}

impl PropertyBag {
    /// The most properties accepted in one message. A topic could contain tens of thousands, which
    /// would slow down each look-up.
    pub const MAX_PROPERTIES: usize = 256;

    /// Parses the properties in a topic. A `?` before and a `/` after them are ignored; of
    /// duplicate names the last counts.
    ///
    /// # Errors
    ///
    /// If a part is not percent-encoded UTF-8, or there are too many.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        let text = text.strip_prefix('?').unwrap_or(text);
        let text = text.strip_suffix('/').unwrap_or(text);
        let mut bag = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = match pair.split_once('=') {
                Some((name, value)) => (name, Some(decode(value)?)),
                None => (pair, None),
            };
            bag.put(decode(name)?, value);
            if bag.properties.len() > Self::MAX_PROPERTIES {
                return Err(TopicError::TooManyProperties);
            }
        }
        Ok(bag)
    }

    /// Sets a property.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.put(name.into(), Some(value.into()));
    }

    /// The value of a property; `None` if it is absent or has no value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.properties.iter().find(|(known, _)| known == name)?;
        value.as_deref()
    }

    /// The message id that the device chose (`$.mid`).
    #[must_use]
    pub fn message_id(&self) -> Option<&str> {
        self.get("$.mid")
    }

    /// All properties, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.properties
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()))
    }

    /// The part of a message's size that IoT Hub counts for properties, in bytes: all values, and
    /// the names of properties that are not system properties.
    #[must_use]
    pub fn size(&self) -> usize {
        self.iter()
            .map(|(name, value)| {
                let name = if name.starts_with("$.") { "" } else { name };
                name.len() + value.unwrap_or_default().len()
            })
            .sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.properties.is_empty()
    }

    fn put(&mut self, name: String, value: Option<String>) {
        match self.properties.iter_mut().find(|(known, _)| *known == name) {
            Some((_, present)) => *present = value,
            None => self.properties.push((name, value)),
        }
    }
}

impl fmt::Display for PropertyBag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.iter().enumerate() {
            if index > 0 {
                f.write_str("&")?;
            }
            write!(f, "{}", utf8_percent_encode(name, PROPERTY))?;
            if let Some(value) = value {
                write!(f, "={}", utf8_percent_encode(value, PROPERTY))?;
            }
        }
        Ok(())
    }
}

fn decode(text: &str) -> Result<String, TopicError> {
    let text = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| TopicError::Properties)?;
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The sample of "Communicate with IoT Hub using the MQTT protocol", section on receiving
    /// messages.
    #[test]
    fn null_empty_and_spaced_values_differ() {
        let bag = PropertyBag::parse("?prop1&prop2=&prop3=a%20string").unwrap();
        let all: Vec<_> = bag.iter().collect();
        assert_eq!(
            all,
            [
                ("prop1", None),
                ("prop2", Some("")),
                ("prop3", Some("a string"))
            ]
        );
        assert_eq!(bag.to_string(), "prop1&prop2=&prop3=a%20string");
    }

    #[test]
    fn system_properties_are_found_however_they_are_written() {
        for text in [
            "$.mid=7&$.ct=application%2Fjson",
            "%24.mid=7&%24.ct=application%2fjson/",
        ] {
            let bag = PropertyBag::parse(text).unwrap();
            assert_eq!(
                (bag.message_id(), bag.get("$.ct")),
                (Some("7"), Some("application/json"))
            );
            assert_eq!(bag.to_string(), "%24.mid=7&%24.ct=application%2Fjson");
        }
    }

    #[test]
    fn names_of_the_system_do_not_count_for_the_size() {
        let bag = PropertyBag::parse("$.ct=text&name=value&alone").unwrap();
        assert_eq!(bag.size(), 4 + 9 + 5);
    }

    #[test]
    fn a_plus_is_a_plus_and_the_last_of_equal_names_counts() {
        let bag = PropertyBag::parse("a=1+1&b=2&a=3=3&&").unwrap();
        assert_eq!(
            bag.iter().collect::<Vec<_>>(),
            [("a", Some("3=3")), ("b", Some("2"))]
        );
        assert_eq!(PropertyBag::parse("a=1+1").unwrap().get("a"), Some("1+1"));
    }

    #[test]
    fn bad_bags_are_refused() {
        assert_eq!(PropertyBag::parse("a=%ff"), Err(TopicError::Properties));
        let many = |count: usize| (0..count).map(|n| format!("p{n}=1&")).collect::<String>();
        assert!(PropertyBag::parse(&many(256)).is_ok());
        assert_eq!(
            PropertyBag::parse(&many(257)),
            Err(TopicError::TooManyProperties)
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(pairs in prop::collection::vec((".{1,20}", ".{0,20}"), 0..8)) {
            let mut bag = PropertyBag::default();
            for (name, value) in pairs {
                bag.insert(name, value);
            }
            prop_assert_eq!(PropertyBag::parse(&bag.to_string()), Ok(bag));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "([a-z$.%&=?/]|\\PC){0,60}") {
            let _ = PropertyBag::parse(&text);
        }
    }
}

//! Names on the wire: devices, jobs, methods, policies.
//!
//! A name is validated on entry and cheap to clone afterwards. The allowed characters come from IoT
//! Hub's documents ("Understand the identity registry", "Jobs", "Direct methods") and from the
//! patterns in the official clients.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty.
    #[error("{kind} is empty; expected 1 to {limit} characters")]
    Empty {
        /// The kind of name, such as `device id`.
        kind: &'static str,
        /// Maximum length in characters.
        limit: usize,
    },
    /// The text is too long.
    #[error("{kind} has {length} characters; expected 1 to {limit}")]
    TooLong {
        /// The kind of name.
        kind: &'static str,
        /// Length of the text in characters.
        length: usize,
        /// Maximum length in characters.
        limit: usize,
    },
    /// A character is not allowed.
    #[error("{kind} {text:?} has {found:?} as character {position}; expected {expected}")]
    Character {
        /// The kind of name.
        kind: &'static str,
        /// The whole text.
        text: String,
        /// The invalid character.
        found: char,
        /// Position of the character, from 1.
        position: usize,
        /// The allowed characters.
        expected: &'static str,
    },
}

/// The rule for one kind of name.
struct Rule {
    kind: &'static str,
    limit: usize,
    allows: fn(char) -> bool,
    expected: &'static str,
}

impl Rule {
    fn check(&self, text: &str) -> Result<(), IdError> {
        let Self { kind, limit, .. } = *self;
        if text.is_empty() {
            return Err(IdError::Empty { kind, limit });
        }
        let length = text.chars().count();
        if length > limit {
            return Err(IdError::TooLong {
                kind,
                length,
                limit,
            });
        }
        match text.chars().enumerate().find(|&(_, c)| !(self.allows)(c)) {
            None => Ok(()),
            Some((index, found)) => Err(IdError::Character {
                kind,
                text: text.to_owned(),
                found,
                position: index + 1,
                expected: self.expected,
            }),
        }
    }
}

/// Defines one kind of name; the kinds differ in their rule only.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $rule:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            const RULE: Rule = $rule;

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::RULE.check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                Self::RULE.check(&text)?;
                Ok(Self(text.into()))
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                &*self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                &*self.0 == *other
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.try_into().map_err(D::Error::custom)
            }
        }
    };
}

name! {
    /// The name of a device: 1 to 128 characters, case-sensitive.
    ///
    /// The set is that of the REST reference and the .NET client, which is the widest:
    /// `^[A-Za-z0-9\-:.+%_#*?!(),=@;$']{1,128}$`.
    DeviceId,
    Rule {
        kind: "device id",
        limit: 128,
        allows: |c| c.is_ascii_alphanumeric() || "-:.+%_#*?!(),=@;$'".contains(c),
        expected: "a letter, a digit or one of - : . + % _ # * ? ! ( ) , = @ ; $ '",
    }
}

name! {
    /// The name of a job: 1 to 64 letters, digits and hyphens.
    JobId,
    Rule {
        kind: "job id",
        limit: 64,
        allows: |c| c.is_ascii_alphanumeric() || c == '-',
        expected: "a letter, a digit or -",
    }
}

name! {
    /// The name of a direct method: 1 to 100 printable ASCII characters.
    ///
    /// Excluded are the characters that the direct-methods document excludes (`$ ( ) < > @ , ; : \
    /// " / [ ] ? = { }` and space), `+` and `#`, which no MQTT topic name may contain (MQTT 3.1.1,
    /// 3.3.2-2), and `%`, which some clients decode and others do not.
    MethodName,
    Rule {
        kind: "method name",
        limit: 100,
        allows: |c| c.is_ascii_graphic() && !"$()<>@,;:\\\"/[]?={}+#%".contains(c),
        expected: "a letter, a digit or one of ! & ' * - . ^ _ ` | ~",
    }
}

name! {
    /// The name of a shared access policy: 1 to 64 letters, digits, hyphens, dots and underscores.
    PolicyName,
    Rule {
        kind: "policy name",
        limit: 64,
        allows: |c| c.is_ascii_alphanumeric() || "-._".contains(c),
        expected: "a letter, a digit or one of - . _",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn device_ids_hold_what_azure_allows() {
        for text in [
            "lobby-east",
            "A",
            "a:b;c",
            "-:.+%_#*?!(),=@;$'",
            &"x".repeat(128),
        ] {
            assert_eq!(text.parse::<DeviceId>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn an_invalid_name_is_refused_with_what_was_expected() {
        let say = |result: Result<DeviceId, IdError>| result.unwrap_err().to_string();
        assert_eq!(
            say("".parse()),
            "device id is empty; expected 1 to 128 characters"
        );
        assert_eq!(
            say("x".repeat(129).parse()),
            "device id has 129 characters; expected 1 to 128"
        );
        assert_eq!(
            say("lobby/east".parse()),
            "device id \"lobby/east\" has '/' as character 6; \
             expected a letter, a digit or one of - : . + % _ # * ? ! ( ) , = @ ; $ '"
        );
        assert!("lobby east".parse::<DeviceId>().is_err());
        assert!("türe".parse::<DeviceId>().is_err());
    }

    #[test]
    fn the_other_names_have_their_own_sets() {
        assert!("lock-20261123-220000-x7k2".parse::<JobId>().is_ok());
        assert!("lock_1".parse::<JobId>().is_err());
        assert!("x".repeat(65).parse::<JobId>().is_err());
        assert!("component*command".parse::<MethodName>().is_ok());
        assert!("getState".parse::<MethodName>().is_ok());
        for bad in ["a/b", "a?b", "a b", "a+b", "a#", "50%", "a\tb"] {
            assert!(bad.parse::<MethodName>().is_err(), "{bad}");
        }
        assert!("iothubowner".parse::<PolicyName>().is_ok());
        assert!("alice&skn=x".parse::<PolicyName>().is_err());
    }

    #[test]
    fn names_are_json_strings_and_are_checked_when_read() {
        let id: DeviceId = serde_json::from_str("\"d1\"").unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"d1\"");
        assert!(serde_json::from_str::<DeviceId>("\"a/b\"").is_err());
        assert!(serde_json::from_str::<JobId>("7").is_err());
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_kept(text in ".{0,140}") {
            if let Ok(id) = text.parse::<DeviceId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }

        #[test]
        fn the_documented_pattern_is_accepted(text in "[A-Za-z0-9\\-:.+%_#*?!(),=@;$']{1,128}") {
            prop_assert!(text.parse::<DeviceId>().is_ok());
        }
    }
}

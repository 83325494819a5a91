//! The words of the wire: each enum spells its words once.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Declares an enum whose variants are words on the wire.
macro_rules! words {
    ($(#[$meta:meta])* pub enum $name:ident {
        $($(#[$attribute:meta])* $variant:ident = $word:literal,)+
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$attribute])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// As spelled on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// The one with that spelling.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|word| word.as_str() == text)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl From<String> for $crate::contract::Word<$name> {
            fn from(text: String) -> Self {
                $name::parse(&text).map_or(Self::Foreign(text), Self::Known)
            }
        }
    };
}

pub(crate) use words;

/// A word as another program reports it, which may be of another version or no door at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Word<T> {
    /// A word of this version's contract.
    Known(T),
    /// Any other text; empty without a report.
    Foreign(String),
}

impl<T> Default for Word<T> {
    fn default() -> Self {
        Self::Foreign(String::new())
    }
}

impl<T: PartialEq> PartialEq<T> for Word<T> {
    fn eq(&self, other: &T) -> bool {
        matches!(self, Self::Known(word) if word == other)
    }
}

impl<T: fmt::Display> fmt::Display for Word<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(word) => word.fmt(f),
            Self::Foreign(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Word;
    use crate::contract::Proof;

    #[test]
    fn a_word_is_spelled_the_same_in_text_and_json() {
        for (word, text) in [
            (Proof::Bond, "bond"),
            (Proof::Contact, "contact"),
            (Proof::None, "none"),
        ] {
            assert_eq!((word.as_str(), word.to_string().as_str()), (text, text));
            assert_eq!(serde_json::to_value(word).unwrap(), text);
            assert_eq!((Proof::parse(text), Proof::ALL.len()), (Some(word), 3));
        }
        assert_eq!(Proof::parse("Bond"), None);
    }

    #[test]
    fn a_foreign_word_keeps_its_text() {
        for (text, word) in [
            ("bond", Word::Known(Proof::Bond)),
            ("witness", Word::Foreign("witness".to_owned())),
        ] {
            assert_eq!(Word::<Proof>::from(text.to_owned()), word);
            assert_eq!(word.to_string(), text);
            assert_eq!(serde_json::to_value(&word).unwrap(), text);
            assert_eq!(
                serde_json::from_value::<Word<Proof>>(text.into()).unwrap(),
                word
            );
            assert_eq!(word == Proof::Bond, text == "bond");
        }
    }
}

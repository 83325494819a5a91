//! The words of the wire: each enum spells its words once.

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
    };
}

pub(crate) use words;

#[cfg(test)]
mod tests {
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
}

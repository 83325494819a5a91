//! Quotes of CSV that do not end where their cell ends: readers take such a cell, and all lines up
//! to the next quote, for one.

/// Where the next byte stands.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// At the start of a cell, where alone a quote opens.
    Start,
    /// In a cell without quotes.
    Plain,
    /// Behind a quote that was opened on this line.
    Quoted { since: u64 },
    /// Behind the quote that ends the cell, or the first of two that stand for one.
    Closed { since: u64 },
}

/// The line of the first quote that is not closed, or closed amid a cell: then it was probably
/// meant to be closed before.
pub(super) fn astray(text: &str, delimiter: u8) -> Option<u64> {
    let mut place = Place::Start;
    let mut line = 1;
    for byte in text.bytes() {
        let ends_cell = byte == delimiter || matches!(byte, b'\r' | b'\n');
        place = match (place, byte) {
            (Place::Start, b'"') => Place::Quoted { since: line },
            (Place::Quoted { since }, b'"') => Place::Closed { since },
            (Place::Quoted { since }, _) => Place::Quoted { since },
            (Place::Closed { since }, b'"') => Place::Quoted { since },
            (_, _) if ends_cell => Place::Start,
            (Place::Closed { since }, b' ' | b'\t') => Place::Closed { since },
            (Place::Closed { since }, _) => return Some(since),
            (Place::Start | Place::Plain, _) => Place::Plain,
        };
        line += u64::from(byte == b'\n');
    }
    match place {
        Place::Quoted { since } => Some(since),
        Place::Start | Place::Plain | Place::Closed { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_that_is_not_closed_has_a_line() {
        for (text, expected) in [
            ("door,floor\neast,\"3\nwest,4\n", Some(2)),
            ("door\n\"east\n", Some(2)),
            ("door,floor\neast,\"3\nwest,\"4\"\n", Some(2)),
            ("door,note\neast,\"a\"\"\n", Some(2)),
            (
                "\"door\",floor\r\n\"east\",\"a \"\"b\"\",\r\nc\" \r\n",
                None,
            ),
            ("door,note\neast,5\" pipe\n", None),
            ("door,note\neast,\"\"\nwest,\"x\"", None),
            ("", None),
        ] {
            assert_eq!(astray(text, b','), expected, "{text:?}");
        }
        assert_eq!(astray("a;b\n\"1,\";2\n", b';'), None);
    }
}

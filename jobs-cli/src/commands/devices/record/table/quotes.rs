//! Finds CSV quotes that are not closed at the end of their cell. A reader takes such a cell and
//! all lines up to the next quote for one cell.

/// Position of the next byte.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// At the start of a cell, the only place where a quote opens.
    Start,
    /// In a cell without quotes.
    Plain,
    /// After a quote that was opened on line `since`.
    Quoted { since: u64 },
    /// After the quote that ends the cell, or the first of an escaped pair.
    Closed { since: u64 },
}

/// The line of the first quote that is never closed, or closed inside of a cell: then the closing
/// quote is probably missing before.
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

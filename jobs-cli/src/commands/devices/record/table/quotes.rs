//! Finds CSV quotes that are not closed at the end of their cell. A reader takes such a cell and
//! all lines up to the next quote for one cell.

/// Position of the next byte.
#[derive(Debug, Clone, Copy)]
enum Position {
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
pub(super) fn unclosed_quote_line(text: &str, delimiter: u8) -> Option<u64> {
    let mut position = Position::Start;
    let mut line = 1;
    for byte in text.bytes() {
        let ends_cell = byte == delimiter || matches!(byte, b'\r' | b'\n');
        position = match (position, byte) {
            (Position::Start, b'"') => Position::Quoted { since: line },
            (Position::Quoted { since }, b'"') => Position::Closed { since },
            (Position::Quoted { since }, _) => Position::Quoted { since },
            (Position::Closed { since }, b'"') => Position::Quoted { since },
            (_, _) if ends_cell => Position::Start,
            (Position::Closed { since }, b' ' | b'\t') => Position::Closed { since },
            (Position::Closed { since }, _) => return Some(since),
            (Position::Start | Position::Plain, _) => Position::Plain,
        };
        line += u64::from(byte == b'\n');
    }
    match position {
        Position::Quoted { since } => Some(since),
        Position::Start | Position::Plain | Position::Closed { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unclosed_quote_is_found_with_its_line() {
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
            assert_eq!(unclosed_quote_line(text, b','), expected, "{text:?}");
        }
        assert_eq!(unclosed_quote_line("a;b\n\"1,\";2\n", b';'), None);
    }
}

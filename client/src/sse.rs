//! Parser of server-sent events (WHATWG HTML, section 9.2): bytes in, messages out.
//!
//! Pure: it knows nothing of connections. [`MAX_MESSAGE`] bounds what a peer can make it buffer.

use std::collections::VecDeque;

/// Longest incomplete message in bytes, far above what a hub sends: its largest message is a twin
/// with metadata.
const MAX_MESSAGE: usize = 4 << 20;

/// A complete message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// Field `event`; `message` by default.
    pub(super) name: String,
    /// Lines of field `data`.
    pub(super) data: String,
}

/// A message exceeds [`MAX_MESSAGE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    /// The last line ended with a carriage return: a line feed directly after it belongs to it.
    after_return: bool,
    /// The first line was read: only before it, a byte order mark is skipped.
    started: bool,
    name: String,
    data: String,
}

impl Parser {
    /// Parses the next bytes and appends complete messages to `messages`.
    ///
    /// # Errors
    ///
    /// When a message is too long; the stream cannot be used any further.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        messages: &mut VecDeque<Message>,
    ) -> Result<(), TooLong> {
        for &byte in bytes {
            let completes_crlf = byte == b'\n' && self.after_return;
            self.after_return = byte == b'\r';
            match byte {
                _ if completes_crlf => {}
                b'\r' | b'\n' => messages.extend(self.end_line()),
                _ if self.line.len() + self.data.len() >= MAX_MESSAGE => return Err(TooLong),
                byte => self.line.push(byte),
            }
        }
        Ok(())
    }

    /// Handles a complete line; an empty one ends a message.
    fn end_line(&mut self) -> Option<Message> {
        let bytes = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&bytes);
        let mark = if self.started { "" } else { "\u{feff}" };
        self.started = true;
        let line = line.strip_prefix(mark).unwrap_or(&line);
        if line.is_empty() {
            return self.end_message();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            // `id` and `retry`, comments (which have no name) and unknown fields.
            _ => {}
        }
        None
    }

    fn end_message(&mut self) -> Option<Message> {
        let name = std::mem::take(&mut self.name);
        let mut data = std::mem::take(&mut self.data);
        // The line feed after the last line.
        data.pop()?;
        Some(Message {
            name: match name.is_empty() {
                true => "message".to_owned(),
                false => name,
            },
            data,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(parts: &[&[u8]]) -> Vec<Message> {
        let mut parser = Parser::default();
        let mut messages = VecDeque::new();
        for part in parts {
            parser.push(part, &mut messages).unwrap();
        }
        messages.into()
    }

    fn message(name: &str, data: &str) -> Message {
        Message {
            name: name.to_owned(),
            data: data.to_owned(),
        }
    }

    #[test]
    fn the_forms_of_the_specification_are_parsed() {
        for (text, expected) in [
            (": keep-alive\n\n", vec![]),
            ("data: a\n\n", vec![message("message", "a")]),
            ("\u{feff}data: a\n\n", vec![message("message", "a")]),
            (
                "event: twin\r\nid: 7\r\ndata: {}\r\n\r\ndata:b\n\n",
                vec![message("twin", "{}"), message("message", "b")],
            ),
            ("data: a\rdata:  b\r\r", vec![message("message", "a\n b")]),
            // Without data there is no message.
            ("event: x\nid: 9\n\ndata\n\n", vec![message("message", "")]),
            (
                "retry: 5\nnobody: x\nid: 1\0\ndata: a\n\n",
                vec![message("message", "a")],
            ),
            // The end of the stream does not complete a message.
            ("data: a\n", vec![]),
        ] {
            assert_eq!(read(&[text.as_bytes()]), expected, "{text:?}");
        }
    }

    #[test]
    fn an_endless_message_is_an_error() {
        let mut parser = Parser::default();
        let mut messages = VecDeque::new();
        let line = [b"data: ".as_slice(), &vec![b'x'; 1 << 20], b"\n"].concat();
        let pushed = (0..8).map(|_| parser.push(&line, &mut messages));
        assert_eq!(pushed.filter(Result::is_err).count(), 5);
        assert!(messages.is_empty());
    }

    proptest! {
        #[test]
        fn chunk_borders_do_not_change_the_messages(
            bytes in proptest::collection::vec(
                prop_oneof![
                    Just(b'\n'), Just(b'\r'), Just(b':'), Just(b' '), Just(b'd'), any::<u8>()
                ],
                0..200,
            ),
            at in 0_usize..200,
        ) {
            let (before, after) = bytes.split_at(at.min(bytes.len()));
            prop_assert_eq!(read(&[before, after]), read(&[&bytes]));
        }

        #[test]
        fn written_messages_are_read_back(
            sent in proptest::collection::vec(
                ("[a-z]{1,8}", "[^\r\n\0\u{feff}]{0,40}", 0_u32..1000),
                0..6,
            ),
            piece in 1_usize..50,
        ) {
            let mut text = String::new();
            for (name, data, id) in &sent {
                text += &format!("event: {name}\nid: {id}\ndata: {data}\n\n: comment\n\n");
            }
            let parts: Vec<&[u8]> = text.as_bytes().chunks(piece).collect();
            let expected: Vec<_> = sent
                .iter()
                .map(|(name, data, _)| message(name, data))
                .collect();
            prop_assert_eq!(read(&parts), expected);
        }
    }
}

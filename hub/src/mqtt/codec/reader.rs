//! A cursor over the body of one packet.

use super::Malformed;

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    pub(super) fn byte(&mut self, what: &'static str) -> Result<u8, Malformed> {
        let (&byte, rest) = self.bytes.split_first().ok_or(Malformed::Truncated(what))?;
        self.bytes = rest;
        Ok(byte)
    }

    pub(super) fn number(&mut self, what: &'static str) -> Result<u16, Malformed> {
        let (pair, rest) = self
            .bytes
            .split_first_chunk::<2>()
            .ok_or(Malformed::Truncated(what))?;
        self.bytes = rest;
        Ok(u16::from_be_bytes(*pair))
    }

    pub(super) fn packet_id(&mut self) -> Result<u16, Malformed> {
        match self.number("the packet id")? {
            0 => Err(Malformed::PacketIdZero),
            id => Ok(id),
        }
    }

    /// Section 1.5.3 without the rules for text: a length, then that many bytes.
    pub(super) fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], Malformed> {
        let length = usize::from(self.number(what)?);
        let (bytes, rest) = self
            .bytes
            .split_at_checked(length)
            .ok_or(Malformed::Truncated(what))?;
        self.bytes = rest;
        Ok(bytes)
    }

    /// Section 1.5.3: UTF-8 without NUL (Rust's strings already exclude surrogates).
    pub(super) fn text(&mut self, what: &'static str) -> Result<&'a str, Malformed> {
        let text = std::str::from_utf8(self.bytes(what)?).map_err(|_| Malformed::Text(what))?;
        if text.contains('\0') {
            Err(Malformed::Text(what))
        } else {
            Ok(text)
        }
    }
}

//! WebSocket frames around MQTT's bytes (RFC 6455; MQTT 3.1.1 section 6), without IO.
//!
//! Binary messages form one stream of bytes: packets may be split and joined across frames in any
//! way, so no message is buffered, whatever its announced length. The hub accepts no extensions; a
//! frame that needs one ends the connection.

use std::io::Cursor;

use thiserror::Error;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// The longest payload of a control frame (RFC 6455 section 5.5).
const MAX_CONTROL: u64 = 125;

/// The close code for a protocol error (section 7.4.1).
const PROTOCOL_ERROR: u16 = 1002;

/// The close code for a text message (section 7.4.1).
const UNSUPPORTED_DATA: u16 = 1003;

/// Why a device's bytes are not a WebSocket frame, or not one that carries MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum FrameError {
    #[error("a WebSocket frame without a mask")]
    Unmasked,
    #[error("a WebSocket frame of an extension that was not negotiated")]
    Reserved,
    #[error("a WebSocket control frame that is too long or fragmented")]
    Control,
    #[error("an unexpected fragment of a WebSocket message")]
    Continuation,
    #[error("a WebSocket text message; expected binary messages with MQTT")]
    Text,
}

impl FrameError {
    /// The code for the close frame.
    pub(crate) const fn close_code(self) -> u16 {
        match self {
            Self::Text => UNSUPPORTED_DATA,
            Self::Unmasked | Self::Reserved | Self::Control | Self::Continuation => PROTOCOL_ERROR,
        }
    }
}

/// The parser of a device's frames.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    /// The start of an incomplete header.
    header: Vec<u8>,
    /// The frame whose payload is being read.
    frame: Option<Frame>,
    /// A binary message has begun and not ended.
    in_message: bool,
    /// The device has sent a close frame; everything after it is ignored.
    closed: bool,
}

#[derive(Debug)]
struct Frame {
    kind: FrameKind,
    mask: [u8; 4],
    /// The index of the next byte of the mask.
    mask_index: usize,
    remaining: u64,
}

#[derive(Debug)]
enum FrameKind {
    Data,
    Control(Control, Vec<u8>),
}

impl FrameReader {
    /// Reads frames: appends their payload to `mqtt`, and the frames that answer them to `answers`.
    ///
    /// # Errors
    ///
    /// When the device breaks the protocol; everything before that has been read.
    pub(crate) fn read(
        &mut self,
        mut wire: &[u8],
        mqtt: &mut Vec<u8>,
        answers: &mut Vec<u8>,
    ) -> Result<(), FrameError> {
        while !self.closed {
            if let Some(frame) = &mut self.frame {
                wire = frame.read(wire, mqtt);
                if frame.remaining > 0 {
                    return Ok(());
                }
                if let Some(Frame {
                    kind: FrameKind::Control(control, payload),
                    ..
                }) = self.frame.take()
                {
                    self.control(control, &payload, answers);
                }
            } else {
                let Some((byte, rest)) = wire.split_first() else {
                    return Ok(());
                };
                wire = rest;
                self.header.push(*byte);
                let parsed = FrameHeader::parse(&mut Cursor::new(&self.header))
                    .map_err(|_| FrameError::Reserved)?;
                if let Some((header, length)) = parsed {
                    self.header.clear();
                    self.frame = Some(self.begin(&header, length)?);
                }
            }
        }
        Ok(())
    }

    /// Whether the device has sent a close frame.
    pub(crate) const fn closed(&self) -> bool {
        self.closed
    }

    fn begin(&mut self, header: &FrameHeader, length: u64) -> Result<Frame, FrameError> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(FrameError::Reserved);
        }
        let mask = header.mask.ok_or(FrameError::Unmasked)?;
        let kind = match header.opcode {
            OpCode::Data(Data::Text) => return Err(FrameError::Text),
            OpCode::Data(data) => {
                let begins = matches!(data, Data::Binary);
                if begins == self.in_message {
                    return Err(FrameError::Continuation);
                }
                self.in_message = !header.is_final;
                FrameKind::Data
            }
            OpCode::Control(_) if length > MAX_CONTROL || !header.is_final => {
                return Err(FrameError::Control);
            }
            OpCode::Control(control) => FrameKind::Control(control, Vec::new()),
        };
        Ok(Frame {
            kind,
            mask,
            mask_index: 0,
            remaining: length,
        })
    }

    fn control(&mut self, control: Control, payload: &[u8], answers: &mut Vec<u8>) {
        match control {
            Control::Ping => write_frame(answers, OpCode::Control(Control::Pong), payload),
            Control::Close => {
                // Return its code; the reason that may follow is for people.
                let code = payload.get(..2).unwrap_or_default();
                write_frame(answers, OpCode::Control(Control::Close), code);
                self.closed = true;
            }
            Control::Pong | Control::Reserved(_) => {}
        }
    }
}

impl Frame {
    /// Consumes the part of `wire` that belongs to this frame; returns the rest.
    fn read<'a>(&mut self, wire: &'a [u8], mqtt: &mut Vec<u8>) -> &'a [u8] {
        let remaining = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        let (payload, rest) = wire.split_at(wire.len().min(remaining));
        let target = match &mut self.kind {
            FrameKind::Data => mqtt,
            FrameKind::Control(_, payload) => payload,
        };
        let masked = payload
            .iter()
            .zip(self.mask.iter().cycle().skip(self.mask_index));
        target.extend(masked.map(|(byte, mask)| byte ^ mask));
        self.mask_index = (self.mask_index + payload.len()) % self.mask.len();
        self.remaining -= payload.len() as u64;
        rest
    }
}

/// Writes the header of a binary message of `length` bytes, which follow it unmasked.
pub(crate) fn write_header(wire: &mut Vec<u8>, length: usize) {
    write_header_of(wire, OpCode::Data(Data::Binary), length);
}

/// Writes a close frame.
pub(crate) fn write_close(wire: &mut Vec<u8>, code: u16) {
    write_frame(wire, OpCode::Control(Control::Close), &code.to_be_bytes());
}

fn write_frame(wire: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) {
    write_header_of(wire, opcode, payload.len());
    wire.extend_from_slice(payload);
}

fn write_header_of(wire: &mut Vec<u8>, opcode: OpCode, length: usize) {
    let header = FrameHeader {
        opcode,
        ..FrameHeader::default()
    };
    header
        .format(length as u64, wire)
        .expect("writing to a Vec does not fail");
}

#[cfg(test)]
mod tests;

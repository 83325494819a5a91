//! MQTT 3.1.1 packets from a server's view: a strict decoder over a byte slice and an encoder onto
//! a `Vec`.
//!
//! No IO and no buffers of its own: decoded packets borrow from the received bytes. The decoder
//! rejects what the standard forbids (reserved bits, wrong flags, packet id 0, NUL in a string,
//! wildcards in a topic name, trailing bytes), because a client that sends it is broken or hostile,
//! and a lenient server only hides that. Section numbers are those of the OASIS MQTT 3.1.1
//! standard.

mod reader;

use thiserror::Error;

use reader::Reader;

/// The protocol level of MQTT 3.1.1.
const LEVEL: u8 = 4;

/// Why bytes are not a packet that a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Malformed {
    #[error("packet type {0} is not one that a client sends")]
    PacketType(u8),
    #[error("flags {flags:#06b} are not those of packet type {packet_type}")]
    Flags { packet_type: u8, flags: u8 },
    #[error("the remaining length takes more than four bytes")]
    LengthEncoding,
    #[error("the packet announces {length} bytes; expected at most {limit}")]
    TooLong { length: usize, limit: usize },
    #[error("the packet ends inside {0}")]
    Truncated(&'static str),
    #[error("unexpected bytes after {0}")]
    Trailing(&'static str),
    #[error("{0} is not UTF-8, or contains NUL")]
    Text(&'static str),
    #[error("the protocol name is not MQTT")]
    ProtocolName,
    #[error("the reserved connect flag is set")]
    ReservedConnectFlag,
    #[error("the will flags contradict each other")]
    WillFlags,
    #[error("a password without a user name")]
    PasswordWithoutUser,
    #[error("packet id 0")]
    PacketIdZero,
    #[error("QoS 3")]
    Qos,
    #[error("DUP at QoS 0")]
    Dup,
    #[error("a topic name is empty or contains a wildcard")]
    TopicName,
    #[error("a topic filter is empty or misplaces a wildcard")]
    TopicFilter,
    #[error("a list of topic filters is empty")]
    NoFilters,
}

/// A packet from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Packet<'a> {
    Connect(Connect<'a>),
    /// A CONNECT of another version of MQTT. It is answered, not merely closed (section 3.1.2.2),
    /// but the bytes after the level cannot be parsed.
    ConnectOfLevel(u8),
    Publish(Publish<'a>),
    PubAck {
        packet_id: u16,
    },
    Subscribe {
        packet_id: u16,
        filters: Vec<(&'a str, u8)>,
    },
    Unsubscribe {
        packet_id: u16,
        filters: Vec<&'a str>,
    },
    PingReq,
    Disconnect,
}

/// CONNECT of protocol level 4, section 3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Connect<'a> {
    pub(crate) clean_session: bool,
    pub(crate) keep_alive_s: u16,
    pub(crate) client_id: &'a str,
    pub(crate) will: Option<Will<'a>>,
    pub(crate) user_name: Option<&'a str>,
    pub(crate) password: Option<&'a [u8]>,
}

/// The message to publish when a connection ends without DISCONNECT, section 3.1.2.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Will<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) qos: u8,
    pub(crate) retain: bool,
}

/// PUBLISH, section 3.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Publish<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) qos: u8,
    /// Present if and only if `qos` is above 0.
    pub(crate) packet_id: Option<u16>,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
}

/// The answer to CONNECT, section 3.2.2.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ConnectReturn {
    Accepted = 0,
    UnacceptableProtocol = 1,
    IdentifierRejected = 2,
    ServerUnavailable = 3,
    NotAuthorized = 5,
}

/// Decodes one packet from the start of `bytes`: returns the packet and its length in bytes, or
/// `None` if it is incomplete.
///
/// `limit` bounds the remaining length; a longer packet is rejected as soon as its header has
/// arrived, so that nobody makes the hub wait for it.
pub(crate) fn decode(bytes: &[u8], limit: usize) -> Result<Option<(Packet<'_>, usize)>, Malformed> {
    let Some(&first) = bytes.first() else {
        return Ok(None);
    };
    check_first_byte(first)?;
    let Some((length, header)) = remaining_length(&bytes[1..])? else {
        return Ok(None);
    };
    if length > limit {
        return Err(Malformed::TooLong { length, limit });
    }
    let end = 1 + header + length;
    let Some(body) = bytes.get(1 + header..end) else {
        return Ok(None);
    };
    Ok(Some((decode_body(first, body)?, end)))
}

/// Checks type and flags of the fixed header, section 2.2, which precede the length.
fn check_first_byte(first: u8) -> Result<(), Malformed> {
    let (packet_type, flags) = (first >> 4, first & 0x0f);
    let expected = match packet_type {
        1 | 4 | 12 | 14 => 0,
        8 | 10 => 0b0010,
        3 if flags & 0b0110 == 0b0110 => return Err(Malformed::Qos),
        // MQTT-3.3.1-2.
        3 if flags & 0b1110 == 0b1000 => return Err(Malformed::Dup),
        3 => return Ok(()),
        _ => return Err(Malformed::PacketType(packet_type)),
    };
    if flags == expected {
        Ok(())
    } else {
        Err(Malformed::Flags { packet_type, flags })
    }
}

/// Section 2.2.3: up to four bytes of seven bits; returns the value and the number of bytes.
fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut length = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((length, index + 1)));
        }
    }
    if bytes.len() >= 4 {
        Err(Malformed::LengthEncoding)
    } else {
        Ok(None)
    }
}

fn decode_body(first: u8, body: &[u8]) -> Result<Packet<'_>, Malformed> {
    let mut reader = Reader::new(body);
    let (packet, name) = match first >> 4 {
        1 => (connect(&mut reader)?, "CONNECT"),
        3 => (Packet::Publish(publish(first, &mut reader)?), "PUBLISH"),
        4 => (
            Packet::PubAck {
                packet_id: reader.packet_id()?,
            },
            "PUBACK",
        ),
        8 => (subscribe(&mut reader)?, "SUBSCRIBE"),
        10 => (unsubscribe(&mut reader)?, "UNSUBSCRIBE"),
        12 => (Packet::PingReq, "PINGREQ"),
        14 => (Packet::Disconnect, "DISCONNECT"),
        other => return Err(Malformed::PacketType(other)),
    };
    if reader.is_empty() {
        Ok(packet)
    } else {
        Err(Malformed::Trailing(name))
    }
}

fn connect<'a>(reader: &mut Reader<'a>) -> Result<Packet<'a>, Malformed> {
    if reader.text("the protocol name")? != "MQTT" {
        return Err(Malformed::ProtocolName);
    }
    let level = reader.byte("the protocol level")?;
    if level != LEVEL {
        reader.rest();
        return Ok(Packet::ConnectOfLevel(level));
    }
    let flags = reader.byte("the connect flags")?;
    if flags & 0x01 != 0 {
        return Err(Malformed::ReservedConnectFlag);
    }
    let keep_alive_s = reader.number("the keep alive")?;
    let client_id = reader.text("the client id")?;
    let (has_will, will_qos, will_retain) =
        (flags & 0x04 != 0, flags >> 3 & 0x03, flags & 0x20 != 0);
    if will_qos == 3 || (!has_will && (will_qos != 0 || will_retain)) {
        return Err(Malformed::WillFlags);
    }
    let will = if has_will {
        let topic = topic_name(reader.text("the will topic")?)?;
        let payload = reader.bytes("the will message")?;
        Some(Will {
            topic,
            payload,
            qos: will_qos,
            retain: will_retain,
        })
    } else {
        None
    };
    let (has_user, has_password) = (flags & 0x80 != 0, flags & 0x40 != 0);
    if has_password && !has_user {
        return Err(Malformed::PasswordWithoutUser);
    }
    let user_name = if has_user {
        Some(reader.text("the user name")?)
    } else {
        None
    };
    let password = if has_password {
        Some(reader.bytes("the password")?)
    } else {
        None
    };
    Ok(Packet::Connect(Connect {
        clean_session: flags & 0x02 != 0,
        keep_alive_s,
        client_id,
        will,
        user_name,
        password,
    }))
}

fn publish<'a>(first: u8, reader: &mut Reader<'a>) -> Result<Publish<'a>, Malformed> {
    let qos = first >> 1 & 0x03;
    let topic = topic_name(reader.text("the topic name")?)?;
    let packet_id = if qos > 0 {
        Some(reader.packet_id()?)
    } else {
        None
    };
    Ok(Publish {
        topic,
        payload: reader.rest(),
        qos,
        packet_id,
        retain: first & 0x01 != 0,
        dup: first & 0x08 != 0,
    })
}

fn subscribe<'a>(reader: &mut Reader<'a>) -> Result<Packet<'a>, Malformed> {
    let packet_id = reader.packet_id()?;
    let mut filters = Vec::new();
    while !reader.is_empty() {
        let filter = topic_filter(reader.text("a topic filter")?)?;
        match reader.byte("a requested QoS")? {
            qos @ 0..=2 => filters.push((filter, qos)),
            _ => return Err(Malformed::Qos),
        }
    }
    if filters.is_empty() {
        Err(Malformed::NoFilters)
    } else {
        Ok(Packet::Subscribe { packet_id, filters })
    }
}

fn unsubscribe<'a>(reader: &mut Reader<'a>) -> Result<Packet<'a>, Malformed> {
    let packet_id = reader.packet_id()?;
    let mut filters = Vec::new();
    while !reader.is_empty() {
        filters.push(topic_filter(reader.text("a topic filter")?)?);
    }
    if filters.is_empty() {
        Err(Malformed::NoFilters)
    } else {
        Ok(Packet::Unsubscribe { packet_id, filters })
    }
}

fn topic_name(topic: &str) -> Result<&str, Malformed> {
    if topic.is_empty() || topic.contains(['+', '#']) {
        Err(Malformed::TopicName)
    } else {
        Ok(topic)
    }
}

/// Section 4.7.1: a wildcard takes a whole level, and `#` only the last one.
fn topic_filter(filter: &str) -> Result<&str, Malformed> {
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let wild = level.contains(['+', '#']);
        if (wild && level.len() != 1) || (level == "#" && levels.peek().is_some()) {
            return Err(Malformed::TopicFilter);
        }
    }
    if filter.is_empty() {
        Err(Malformed::TopicFilter)
    } else {
        Ok(filter)
    }
}

pub(crate) fn write_connack(out: &mut Vec<u8>, session_present: bool, code: ConnectReturn) {
    out.extend_from_slice(&[0x20, 2, u8::from(session_present), code as u8]);
}

pub(crate) fn write_puback(out: &mut Vec<u8>, packet_id: u16) {
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[0x40, 2, high, low]);
}

/// Writes SUBACK with the granted QoS of each filter.
pub(crate) fn write_suback(out: &mut Vec<u8>, packet_id: u16, granted: &[u8]) {
    out.push(0x90);
    write_remaining_length(out, 2 + granted.len());
    out.extend_from_slice(&packet_id.to_be_bytes());
    out.extend_from_slice(granted);
}

pub(crate) fn write_unsuback(out: &mut Vec<u8>, packet_id: u16) {
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[0xb0, 2, high, low]);
}

pub(crate) fn write_pingresp(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xd0, 0]);
}

/// Writes PUBLISH at QoS 0, or at QoS 1 with a packet id. The topic must be shorter than 64 KiB,
/// as all of the hub's topics are.
pub(crate) fn write_publish(
    out: &mut Vec<u8>,
    topic: &str,
    payload: &[u8],
    packet_id: Option<u16>,
) {
    debug_assert!(
        topic.len() <= usize::from(u16::MAX),
        "the hub's own topics are short"
    );
    out.push(if packet_id.is_some() { 0x32 } else { 0x30 });
    let id_length = if packet_id.is_some() { 2 } else { 0 };
    write_remaining_length(out, 2 + topic.len() + id_length + payload.len());
    #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
    out.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    out.extend_from_slice(topic.as_bytes());
    if let Some(packet_id) = packet_id {
        out.extend_from_slice(&packet_id.to_be_bytes());
    }
    out.extend_from_slice(payload);
}

/// Writes a remaining length, section 2.2.3.
pub(crate) fn write_remaining_length(out: &mut Vec<u8>, mut length: usize) {
    loop {
        #[expect(clippy::cast_possible_truncation, reason = "masked to seven bits")]
        let byte = (length & 0x7f) as u8;
        length >>= 7;
        if length == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

#[cfg(test)]
mod tests;

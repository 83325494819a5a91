//! The few MQTT 3.1.1 packets of the generator and the floor, written into and read from shared
//! buffers.

use anyhow::{Context as _, ensure};

pub(crate) const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
pub(crate) const SUBACK: [u8; 5] = [0x90, 3, 0, 1, 0];

/// Seconds; longer than any run, so that no door pings.
const KEEP_ALIVE: u16 = 1200;

/// A packet: its first byte, and what follows its length.
#[derive(Debug, PartialEq)]
pub(crate) struct Frame<'a> {
    pub(crate) first: u8,
    pub(crate) body: &'a [u8],
}

/// A publish; `packet_id` at QoS 1 and 2.
#[derive(Debug, PartialEq)]
pub(crate) struct Publish<'a> {
    pub(crate) topic: &'a [u8],
    pub(crate) packet_id: Option<[u8; 2]>,
    pub(crate) payload: &'a [u8],
}

/// The first packet of `bytes` and its length; `None` if it is incomplete.
pub(crate) fn split(bytes: &[u8]) -> anyhow::Result<Option<(Frame<'_>, usize)>> {
    let (mut length, mut at) = (0, 1);
    loop {
        let Some(byte) = bytes.get(at) else {
            return Ok(None);
        };
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
        ensure!(at <= 4, "a packet length of more than 4 bytes");
    }
    let (first, end) = (bytes[0], at + length);
    Ok(bytes.get(at..end).map(|body| (Frame { first, body }, end)))
}

impl<'a> Frame<'a> {
    pub(crate) fn kind(&self) -> u8 {
        self.first >> 4
    }

    /// This packet as a publish.
    pub(crate) fn publish(&self) -> anyhow::Result<Publish<'a>> {
        let (topic, mut payload) = text(self.body).context("a publish without a topic")?;
        let packet_id = match self.first & 0b110 {
            0 => None,
            _ => {
                let (id, rest) = payload.split_first_chunk().context("no packet id")?;
                payload = rest;
                Some(*id)
            }
        };
        Ok(Publish {
            topic,
            packet_id,
            payload,
        })
    }
}

/// The text that `bytes` begin with, after its length, and the rest.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u16::from_be_bytes(*length).into())
}

pub(crate) fn write_connect(out: &mut Vec<u8>, client_id: &str, login: Option<&(String, String)>) {
    let mut body = b"\x00\x04MQTT\x04".to_vec();
    body.push(if login.is_some() { 0xc2 } else { 0x02 });
    body.extend(KEEP_ALIVE.to_be_bytes());
    push_text(&mut body, client_id);
    if let Some((user, password)) = login {
        push_text(&mut body, user);
        push_text(&mut body, password);
    }
    write(out, 0x10, &[&body]);
}

/// At QoS 0, as the agent subscribes.
pub(crate) fn write_subscribe(out: &mut Vec<u8>, filter: &str) {
    let mut body = vec![0, 1];
    push_text(&mut body, filter);
    body.push(0);
    write(out, 0x82, &[&body]);
}

/// At QoS 0. The topic is the parts of `topic` joined.
pub(crate) fn write_publish(out: &mut Vec<u8>, topic: [&[u8]; 2], payload: &[u8]) {
    let length = size(topic[0].len() + topic[1].len());
    write(out, 0x30, &[&length, topic[0], topic[1], payload]);
}

pub(crate) fn write_puback(out: &mut Vec<u8>, packet_id: [u8; 2]) {
    write(out, 0x40, &[&packet_id]);
}

fn write(out: &mut Vec<u8>, first: u8, parts: &[&[u8]]) {
    out.push(first);
    let mut length: usize = parts.iter().map(|part| part.len()).sum();
    while length > 0x7f {
        out.push(0x80 | length.to_le_bytes()[0]);
        length >>= 7;
    }
    out.push(length.to_le_bytes()[0]);
    for part in parts {
        out.extend_from_slice(part);
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    out.extend(size(text.len()));
    out.extend_from_slice(text.as_bytes());
}

fn size(length: usize) -> [u8; 2] {
    u16::try_from(length)
        .expect("a text of at most 65,535 bytes")
        .to_be_bytes()
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use rumqttc::mqttbytes::QoS;
    use rumqttc::mqttbytes::v4::{self, Packet};

    use super::*;

    /// The packet as rumqttc reads it.
    fn read(bytes: &[u8]) -> Packet {
        let mut stream = BytesMut::from(bytes);
        let packet = v4::Packet::read(&mut stream, 1 << 20).unwrap();
        assert!(stream.is_empty(), "{} bytes are left", stream.len());
        packet
    }

    #[test]
    fn writes_what_another_codec_reads() {
        let mut out = Vec::new();
        let login = (
            "localhost/d/?api-version=2021-04-12".to_owned(),
            "s".repeat(200),
        );
        let mut connect = v4::Connect::new("d");
        connect.keep_alive = KEEP_ALIVE;
        write_connect(&mut out, "d", None);
        assert_eq!(
            read(&std::mem::take(&mut out)),
            Packet::Connect(connect.clone())
        );
        connect.set_login(&login.0, &login.1);
        write_connect(&mut out, "d", Some(&login));
        assert_eq!(read(&std::mem::take(&mut out)), Packet::Connect(connect));

        write_subscribe(&mut out, "answer/+");
        let mut subscribe = v4::Subscribe::new("answer/+", QoS::AtMostOnce);
        subscribe.pkid = 1;
        assert_eq!(
            read(&std::mem::take(&mut out)),
            Packet::Subscribe(subscribe)
        );

        for length in [0, 1, 116, 117, 16_372, 16_373] {
            let payload = vec![b'x'; length];
            write_publish(&mut out, [b"answer/", b"d"], &payload);
            let publish = v4::Publish::new("answer/d", QoS::AtMostOnce, payload);
            assert_eq!(read(&std::mem::take(&mut out)), Packet::Publish(publish));
        }
        write_puback(&mut out, [1, 2]);
        assert_eq!(read(&out), Packet::PubAck(v4::PubAck::new(0x0102)));
        assert!(matches!(read(&CONNACK), Packet::ConnAck(_)));
        assert!(matches!(read(&SUBACK), Packet::SubAck(_)));
    }

    #[test]
    fn splits_packets_only_when_they_are_complete() {
        let mut bytes = Vec::new();
        write_publish(&mut bytes, [b"a", b"b"], &[b'x'; 300]);
        let end = bytes.len();
        bytes.extend(CONNACK);
        for length in 0..end {
            assert_eq!(split(&bytes[..length]).unwrap(), None, "of {length} bytes");
        }
        let (frame, length) = split(&bytes).unwrap().unwrap();
        assert_eq!((frame.kind(), length), (3, end));
        let publish = frame.publish().unwrap();
        assert_eq!((publish.topic, publish.payload.len()), (&b"ab"[..], 300));
        let (frame, length) = split(&bytes[end..]).unwrap().unwrap();
        assert_eq!((frame.kind(), frame.body, length), (2, &[0, 0][..], 4));
        assert!(split(&[0x30, 0xff, 0xff, 0xff, 0xff, 1]).is_err());
    }

    #[test]
    fn reads_the_packet_id_of_a_publish_at_qos_1_alone() {
        let publish = |first, body| Frame { first, body }.publish();
        let one = publish(0x32, b"\x00\x01t\x00\x07x").unwrap();
        assert_eq!((one.packet_id, one.payload), (Some([0, 7]), &b"x"[..]));
        let zero = publish(0x30, b"\x00\x01t\x00\x07x").unwrap();
        assert_eq!((zero.packet_id, zero.payload), (None, &b"\x00\x07x"[..]));
        assert!(publish(0x30, b"\x00\x05t").is_err());
        assert!(publish(0x32, b"\x00\x01t\x00").is_err());
    }
}

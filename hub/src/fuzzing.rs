//! Entry points for the fuzz targets in `fuzz/`: not part of the public API, hidden from the docs,
//! free to change.
//!
//! Each function feeds bytes to one of the hub's parsers and returns the result as plain data; the
//! fuzz targets hold the assertions.

use rusqlite::Connection;
use serde::de::DeserializeOwned;
use serde_json::Value;

use iothub_protocol::job::JobRequest;
use iothub_protocol::method::MethodRequest;
use iothub_protocol::query::Query;
use iothub_protocol::twin::TwinPatch;

use crate::auth::DeviceLogin;
use crate::http::{read_document, without_bom};
use crate::mqtt::codec::{self, Connect, Packet, Publish};
use crate::mqtt::frames::FrameReader;
use crate::mqtt::machine::{Effect, Session};
use crate::service::{BulkRequest, DeviceUpdate};
use crate::store::{StoreError, scratch};

/// What the MQTT decoder reads from the start of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// More bytes are needed.
    Incomplete,
    /// The name of the error, that is of the violated rule.
    Malformed(String),
    Packet {
        /// Its length in bytes.
        length: usize,
        /// The packet encoded again as the standard requires; `None` for a CONNECT of another
        /// protocol level, which is not parsed.
        rewritten: Option<Vec<u8>>,
        /// The bytes that the decoder has allocated for the packet.
        held: usize,
    },
}

#[must_use]
pub fn mqtt_packet(bytes: &[u8], limit: usize) -> Decoded {
    match codec::decode(bytes, limit) {
        Ok(None) => Decoded::Incomplete,
        Err(error) => Decoded::Malformed(format!("{error:?}")),
        Ok(Some((packet, length))) => Decoded::Packet {
            length,
            rewritten: rewrite(&packet),
            held: match &packet {
                Packet::Subscribe { filters, .. } => size_of_val(filters.as_slice()),
                Packet::Unsubscribe { filters, .. } => size_of_val(filters.as_slice()),
                _ => 0,
            },
        },
    }
}

/// What a session did with one packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handled {
    /// The packet id that it acknowledged.
    pub acknowledged: Option<u16>,
    /// The QoS granted for each filter of a SUBSCRIBE.
    pub granted: Vec<u8>,
    /// The number of subscriptions after it.
    pub subscriptions: usize,
}

/// Feeds the packets in `bytes` to a new session of the device `lobby-east`, until one ends the
/// session.
#[must_use]
pub fn mqtt_session(mut bytes: &[u8], limit: usize) -> Vec<Handled> {
    let device = "lobby-east".parse().expect("a device id");
    let (mut session, mut handled) = (Session::new(device, Vec::new(), None), Vec::new());
    while let Ok(Some((packet, length))) = codec::decode(bytes, limit) {
        let (acknowledged, granted) = match session.handle(&packet) {
            Err(_) | Ok(Effect::Disconnect) => break,
            Ok(
                Effect::TwinGet { ack, .. }
                | Effect::ReportedPatch { ack, .. }
                | Effect::MethodResponse { ack, .. }
                | Effect::Telemetry { ack, .. },
            ) => (ack, Vec::new()),
            Ok(Effect::Subscribed {
                packet_id, granted, ..
            }) => (Some(packet_id), granted),
            Ok(Effect::Unsubscribed { packet_id }) => (Some(packet_id), Vec::new()),
            Ok(Effect::Pong | Effect::Nothing) => (None, Vec::new()),
        };
        handled.push(Handled {
            acknowledged,
            granted,
            subscriptions: session.subscriptions().len(),
        });
        bytes = &bytes[length..];
    }
    handled
}

/// What the WebSocket frame reader reads from some bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unframed {
    /// The MQTT bytes in the frames.
    pub mqtt: Vec<u8>,
    /// The frames to send in return.
    pub answers: Vec<u8>,
    /// Whether the device sent a close frame.
    pub closed: bool,
    /// The close code for a device that violated the protocol.
    pub error: Option<u16>,
}

/// Reads WebSocket frames that arrive in `pieces`.
pub fn unframe<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Unframed {
    let (mut frames, mut read) = (FrameReader::default(), Unframed::default());
    for piece in pieces {
        if let Err(error) = frames.read(piece, &mut read.mqtt, &mut read.answers) {
            read.error = Some(error.close_code());
            break;
        }
    }
    read.closed = frames.closed();
    read
}

/// The host and the device that a login names.
pub fn user_name(client_id: &str, user_name: &str) -> Result<(String, String), String> {
    let login = DeviceLogin {
        client_id,
        user_name: Some(user_name),
        password: None,
        certificates: &[],
    };
    let claim = login.claim().map_err(|error| error.to_string())?;
    Ok((claim.host.to_owned(), claim.device.to_string()))
}

/// The request body of a REST route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// `PUT /devices/{id}`.
    Device,
    /// `POST /devices`.
    Bulk,
    /// `PATCH` and `PUT /twins/{id}`.
    Twin,
    /// `POST /twins/{id}/methods`.
    Method,
    /// `PUT /jobs/v2/{id}`.
    Job,
}

impl Body {
    pub const ALL: [Self; 5] = [
        Self::Device,
        Self::Bulk,
        Self::Twin,
        Self::Method,
        Self::Job,
    ];
}

/// Parses the body of a request; for an identity it also validates the update. The error is the
/// text of the response.
pub fn rest_body(kind: Body, body: &[u8]) -> Result<(), String> {
    fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
        read_document(body).map_err(|error| error.message().to_owned())
    }
    match kind {
        Body::Device => {
            let update: DeviceUpdate = read(body)?;
            let checked = update
                .check_id("lobby-east")
                .and_then(|()| update.enabled())
                .and_then(|_| update.status_reason())
                .and_then(|_| update.authentication(None));
            checked.map(drop).map_err(|error| error.message)
        }
        Body::Bulk => {
            let read = BulkRequest::read(without_bom(body));
            read.map(drop).map_err(|error| error.message)
        }
        Body::Twin => read::<TwinPatch>(body).map(drop),
        Body::Method => read::<MethodRequest>(body).map(drop),
        Body::Job => read::<JobRequest>(body).map(drop),
    }
}

/// A database of twins to query.
#[derive(Debug)]
pub struct Twins(Connection);

impl Twins {
    /// Creates devices `d0`, `d1`, .. with these tags, desired and reported properties.
    pub fn new(twins: &[[&Value; 3]]) -> Result<Self, StoreError> {
        let connection = scratch::database()?;
        for (number, twin) in twins.iter().enumerate() {
            scratch::add(&connection, &format!("d{number}"), None, *twin)?;
        }
        Ok(Self(connection))
    }

    /// The rows that `query` (a device query) finds, read in pages of `size`.
    pub fn rows(&self, query: &Query, size: u32) -> Result<Vec<Value>, StoreError> {
        scratch::rows(&self.0, query, size)
    }
}

/// Encodes a client's packet as the standard requires; the hub itself only decodes these.
fn rewrite(packet: &Packet<'_>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    let first = match packet {
        Packet::ConnectOfLevel(_) => return None,
        Packet::Connect(connect) => {
            write_connect(&mut body, connect);
            0x10
        }
        Packet::Publish(publish) => write_publish(&mut body, publish),
        Packet::PubAck { packet_id } => {
            body.extend(packet_id.to_be_bytes());
            0x40
        }
        Packet::Subscribe { packet_id, filters } => {
            body.extend(packet_id.to_be_bytes());
            for (filter, qos) in filters {
                write_field(&mut body, filter.as_bytes());
                body.push(*qos);
            }
            0x82
        }
        Packet::Unsubscribe { packet_id, filters } => {
            body.extend(packet_id.to_be_bytes());
            for filter in filters {
                write_field(&mut body, filter.as_bytes());
            }
            0xa2
        }
        Packet::PingReq => 0xc0,
        Packet::Disconnect => 0xe0,
    };
    let mut bytes = vec![first];
    codec::write_remaining_length(&mut bytes, body.len());
    bytes.append(&mut body);
    Some(bytes)
}

fn write_connect(body: &mut Vec<u8>, connect: &Connect<'_>) {
    let mut flags = u8::from(connect.clean_session) << 1;
    if let Some(will) = &connect.will {
        flags |= 0x04 | will.qos << 3 | u8::from(will.retain) << 5;
    }
    flags |= u8::from(connect.password.is_some()) << 6;
    flags |= u8::from(connect.user_name.is_some()) << 7;
    write_field(body, b"MQTT");
    body.extend([4, flags]);
    body.extend(connect.keep_alive_s.to_be_bytes());
    write_field(body, connect.client_id.as_bytes());
    if let Some(will) = &connect.will {
        write_field(body, will.topic.as_bytes());
        write_field(body, will.payload);
    }
    if let Some(user_name) = connect.user_name {
        write_field(body, user_name.as_bytes());
    }
    if let Some(password) = connect.password {
        write_field(body, password);
    }
}

fn write_publish(body: &mut Vec<u8>, publish: &Publish<'_>) -> u8 {
    write_field(body, publish.topic.as_bytes());
    if let Some(packet_id) = publish.packet_id {
        body.extend(packet_id.to_be_bytes());
    }
    body.extend_from_slice(publish.payload);
    0x30 | u8::from(publish.dup) << 3 | publish.qos << 1 | u8::from(publish.retain)
}

fn write_field(body: &mut Vec<u8>, field: &[u8]) {
    let length = u16::try_from(field.len()).expect("a field was read with a length of two bytes");
    body.extend(length.to_be_bytes());
    body.extend_from_slice(field);
}

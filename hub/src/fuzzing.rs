//! What the fuzz targets need of the hub's insides: no part of its interface, hidden from its
//! documentation, free to change.
//!
//! Each function says in plain terms what one of the hub's readers made of bytes; the folder
//! `fuzz/` holds what must be true of that.

use rusqlite::Connection;
use serde::de::DeserializeOwned;
use serde_json::Value;

use iothub_protocol::job::JobRequest;
use iothub_protocol::method::MethodRequest;
use iothub_protocol::query::Query;
use iothub_protocol::twin::TwinPatch;

use crate::auth::DeviceLogin;
use crate::http::{read_document, without_mark};
use crate::mqtt::codec::{self, Connect, Packet, Publish};
use crate::mqtt::frames::Frames;
use crate::mqtt::machine::{Effect, Session};
use crate::service::{BulkRequest, DeviceUpdate};
use crate::store::{StoreError, scratch};

/// What the MQTT decoder makes of the start of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// More bytes are needed.
    Incomplete,
    /// The rule that was broken, as the name of its error.
    Malformed(String),
    /// A packet.
    Packet {
        /// How many bytes it took.
        length: usize,
        /// The bytes by which the standard writes what was understood; none for a CONNECT of
        /// another level, of which nothing is.
        rewritten: Option<Vec<u8>>,
        /// The bytes that the decoder holds besides those it was given.
        held: usize,
    },
}

/// Decodes one MQTT packet.
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

/// What a session did about one packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handled {
    /// The packet id that is acknowledged.
    pub acknowledged: Option<u16>,
    /// The QoS granted for each filter of a SUBSCRIBE.
    pub granted: Vec<u8>,
    /// How many subscriptions the session has now.
    pub subscriptions: usize,
}

/// Hands the packets in `bytes` to a new session of the device `lobby-east`, up to the one that
/// ends it.
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

/// What the reader of WebSocket frames makes of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unframed {
    /// The bytes of MQTT in them.
    pub mqtt: Vec<u8>,
    /// The frames that answer them.
    pub answers: Vec<u8>,
    /// Whether the device said goodbye.
    pub closed: bool,
    /// The code of the close frame for a device that broke the protocol.
    pub error: Option<u16>,
}

/// Reads WebSocket frames that arrive in `pieces`.
pub fn unframe<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Unframed {
    let (mut frames, mut read) = (Frames::default(), Unframed::default());
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
///
/// # Errors
///
/// What is wrong with it.
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

/// A body that a REST route reads.
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
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Device,
        Self::Bulk,
        Self::Twin,
        Self::Method,
        Self::Job,
    ];
}

/// Reads the body of a request, and of an identity also what it asks for.
///
/// # Errors
///
/// The text of the answer.
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
            let read = BulkRequest::read(without_mark(body));
            read.map(drop).map_err(|error| error.message)
        }
        Body::Twin => read::<TwinPatch>(body).map(drop),
        Body::Method => read::<MethodRequest>(body).map(drop),
        Body::Job => read::<JobRequest>(body).map(drop),
    }
}

/// Twins in a database, to be asked.
#[derive(Debug)]
pub struct Twins(Connection);

impl Twins {
    /// Devices `d0`, `d1`, .. with these tags, desired and reported properties.
    ///
    /// # Errors
    ///
    /// What the database says.
    pub fn new(twins: &[[&Value; 3]]) -> Result<Self, StoreError> {
        let connection = scratch::database()?;
        for (number, twin) in twins.iter().enumerate() {
            scratch::add(&connection, &format!("d{number}"), None, *twin)?;
        }
        Ok(Self(connection))
    }

    /// The rows that `query`, which is about devices, finds, read in pages of `size`.
    ///
    /// # Errors
    ///
    /// What the database says.
    pub fn rows(&self, query: &Query, size: u32) -> Result<Vec<Value>, StoreError> {
        scratch::rows(&self.0, query, size)
    }
}

/// A client's packet as the standard writes it; the hub itself only ever reads these.
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

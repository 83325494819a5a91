//! What a packet means for a session, without IO and clock.

use iothub_protocol::downlink::Downlink;
use iothub_protocol::id::DeviceId;
use iothub_protocol::topic::{PropertyBag, Subscription, TopicError, TopicFilter};
use iothub_protocol::uplink::Uplink;
use thiserror::Error;

use super::codec::{Packet, Publish, Will};

/// The most subscriptions of one device (Azure's limit).
const MAX_SUBSCRIPTIONS: usize = 5;

/// The most bytes of a message: its body plus [`PropertyBag::size`].
const MAX_MESSAGE: usize = 256 * 1024;

/// A device's session: its identity and its subscriptions.
pub(crate) struct Session {
    device: DeviceId,
    subscriptions: Vec<(TopicFilter, u8)>,
    /// Sent as telemetry when the connection ends without DISCONNECT.
    will: Option<Box<LastWill>>,
}

/// A will that is valid telemetry.
pub(crate) struct LastWill {
    pub(crate) properties: PropertyBag,
    pub(crate) body: Vec<u8>,
}

/// What to do about a packet. `ack` is the packet id to acknowledge when it is done.
#[derive(Debug, PartialEq)]
pub(crate) enum Effect<'a> {
    TwinGet {
        rid: &'a str,
        ack: Option<u16>,
    },
    ReportedPatch {
        rid: &'a str,
        if_version: Option<u64>,
        body: &'a [u8],
        ack: Option<u16>,
    },
    MethodResponse {
        rid: &'a str,
        status: i32,
        body: &'a [u8],
        ack: Option<u16>,
    },
    Telemetry {
        properties: PropertyBag,
        body: &'a [u8],
        ack: Option<u16>,
    },
    /// The session's subscriptions changed: store them, then answer with the granted QoS of each
    /// filter.
    Subscribed {
        packet_id: u16,
        granted: Vec<u8>,
        /// Whether a subscription is new or has another QoS.
        changed: bool,
    },
    Unsubscribed {
        packet_id: u16,
    },
    Pong,
    Nothing,
    /// The device sent DISCONNECT.
    Disconnect,
}

/// Why a connection is closed: MQTT 3.1.1 has no other way to reject a packet.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Violation {
    #[error("a second CONNECT")]
    SecondConnect,
    #[error("QoS 2, which IoT Hub does not support")]
    Qos2,
    #[error("published to a forbidden topic: {0}")]
    Topic(TopicError),
    #[error("subscribed to a forbidden filter: {0}")]
    Filter(TopicError),
    #[error("more than {MAX_SUBSCRIPTIONS} subscriptions")]
    TooManySubscriptions,
    #[error("a message of {0} bytes; expected at most {MAX_MESSAGE}")]
    TooLong(usize),
    #[error("its will is not telemetry of this device: {0}")]
    Will(TopicError),
}

impl Session {
    /// A session with the stored subscriptions.
    pub(crate) fn new(
        device: DeviceId,
        subscriptions: Vec<(TopicFilter, u8)>,
        will: Option<Box<LastWill>>,
    ) -> Self {
        Self {
            device,
            subscriptions,
            will,
        }
    }

    pub(crate) const fn device(&self) -> &DeviceId {
        &self.device
    }

    pub(crate) fn subscriptions(&self) -> &[(TopicFilter, u8)] {
        &self.subscriptions
    }

    /// Whether a twin response is sent: always if the device has no filter for twin responses.
    pub(crate) fn wants_twin_response(&self, response: &Downlink<'_>) -> bool {
        let answers = Subscription::TwinResponses;
        let filters = self.subscriptions.iter().map(|(filter, _)| filter);
        let mut concerned = filters.filter(|filter| filter.concerns(answers)).peekable();
        concerned.peek().is_none()
            || concerned
                .any(|filter| filter.is_whole() || filter.delivers(answers, &response.topic()))
    }

    /// Takes the will; it can be sent only once.
    pub(crate) fn take_will(&mut self) -> Option<Box<LastWill>> {
        self.will.take()
    }

    pub(crate) fn handle<'a>(&mut self, packet: &Packet<'a>) -> Result<Effect<'a>, Violation> {
        match packet {
            Packet::Connect(_) | Packet::ConnectOfLevel(_) => Err(Violation::SecondConnect),
            Packet::Publish(publish) => self.publish(publish),
            // The hub sends nothing above QoS 0, so there is nothing to acknowledge.
            Packet::PubAck { .. } => Ok(Effect::Nothing),
            Packet::Subscribe { packet_id, filters } => self.subscribe(*packet_id, filters),
            Packet::Unsubscribe { packet_id, filters } => self.unsubscribe(*packet_id, filters),
            Packet::PingReq => Ok(Effect::Pong),
            Packet::Disconnect => {
                // MQTT 3.1.1 section 3.14.4: the will is dropped, not sent.
                self.will = None;
                Ok(Effect::Disconnect)
            }
        }
    }

    fn publish<'a>(&self, publish: &Publish<'a>) -> Result<Effect<'a>, Violation> {
        if publish.qos == 2 {
            return Err(Violation::Qos2);
        }
        let body = publish.payload;
        if body.len() > MAX_MESSAGE {
            return Err(Violation::TooLong(body.len()));
        }
        let ack = publish.packet_id;
        Ok(
            match Uplink::parse(publish.topic, &self.device).map_err(Violation::Topic)? {
                Uplink::TwinGet { rid } => Effect::TwinGet { rid, ack },
                Uplink::ReportedPatch { rid, if_version } => Effect::ReportedPatch {
                    rid,
                    if_version,
                    body,
                    ack,
                },
                Uplink::MethodResponse { status, rid } => Effect::MethodResponse {
                    rid,
                    status,
                    body,
                    ack,
                },
                Uplink::Telemetry { mut properties } => {
                    let size = body.len() + properties.size();
                    if size > MAX_MESSAGE {
                        return Err(Violation::TooLong(size));
                    }
                    if publish.retain {
                        // The hub does not retain messages; readers see that it was requested.
                        properties.insert("mqtt-retain", "true");
                    }
                    Effect::Telemetry {
                        properties,
                        body,
                        ack,
                    }
                }
            },
        )
    }

    fn subscribe<'a>(
        &mut self,
        packet_id: u16,
        filters: &[(&'a str, u8)],
    ) -> Result<Effect<'a>, Violation> {
        let before = self.subscriptions.clone();
        let mut granted = Vec::with_capacity(filters.len());
        for (filter, qos) in filters {
            let asked = TopicFilter::parse(filter, &self.device).map_err(Violation::Filter)?;
            let qos = (*qos).min(1);
            match self
                .subscriptions
                .iter_mut()
                .find(|(held, _)| *held == asked)
            {
                Some((_, held)) => *held = qos,
                None => self.subscriptions.push((asked, qos)),
            }
            granted.push(qos);
        }
        if granted.len().max(self.subscriptions.len()) > MAX_SUBSCRIPTIONS {
            return Err(Violation::TooManySubscriptions);
        }
        Ok(Effect::Subscribed {
            packet_id,
            granted,
            changed: self.subscriptions != before,
        })
    }

    fn unsubscribe<'a>(
        &mut self,
        packet_id: u16,
        filters: &[&'a str],
    ) -> Result<Effect<'a>, Violation> {
        for filter in filters {
            let dropped = TopicFilter::parse(filter, &self.device).map_err(Violation::Filter)?;
            self.subscriptions.retain(|(held, _)| *held != dropped);
        }
        Ok(Effect::Unsubscribed { packet_id })
    }
}

impl LastWill {
    /// Validates the will of a CONNECT (IoT Hub developer guide: it becomes telemetry with
    /// `iothub-MessageType` = `Will`).
    pub(crate) fn new(will: &Will<'_>, device: &DeviceId) -> Result<Box<Self>, Violation> {
        if will.qos == 2 {
            return Err(Violation::Qos2);
        }
        if will.payload.len() > MAX_MESSAGE {
            return Err(Violation::TooLong(will.payload.len()));
        }
        match Uplink::parse(will.topic, device).map_err(Violation::Will)? {
            Uplink::Telemetry { mut properties } => {
                properties.insert("iothub-MessageType", "Will");
                if will.retain {
                    properties.insert("mqtt-retain", "true");
                }
                Ok(Box::new(Self {
                    properties,
                    body: will.payload.to_vec(),
                }))
            }
            _ => Err(Violation::Will(TopicError::Unknown)),
        }
    }
}

#[cfg(test)]
mod tests;

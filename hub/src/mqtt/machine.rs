//! What a packet means in a session: no IO, no clock.

use iothub_protocol::downlink::Downlink;
use iothub_protocol::id::DeviceId;
use iothub_protocol::topic::{PropertyBag, Subscription, TopicError, TopicFilter};
use iothub_protocol::uplink::Uplink;
use thiserror::Error;

use super::codec::{Packet, Publish, Will};

/// Subscriptions of one device at once (Azure's limit).
const MAX_SUBSCRIPTIONS: usize = 5;

/// The longest message: its body with what [`PropertyBag::size`] counts.
const MAX_MESSAGE: usize = 256 * 1024;

/// A device's session: whom it is, and what it is subscribed to.
pub(crate) struct Session {
    device: DeviceId,
    subscriptions: Vec<(TopicFilter, u8)>,
    /// Sent as telemetry when the connection ends without DISCONNECT.
    will: Option<Box<LastWill>>,
}

/// A will that was judged to be telemetry.
pub(crate) struct LastWill {
    pub(crate) properties: PropertyBag,
    pub(crate) body: Vec<u8>,
}

/// What is to be done about a packet. `ack` is the packet id to acknowledge once it is done.
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
    /// The session's subscriptions changed: keep them, then answer with the QoS granted for each
    /// filter.
    Subscribed {
        packet_id: u16,
        granted: Vec<u8>,
        /// Whether it asked for anything that it did not have.
        changed: bool,
    },
    Unsubscribed {
        packet_id: u16,
    },
    Pong,
    Nothing,
    /// The device said goodbye.
    Disconnect,
}

/// Why a connection is ended: MQTT 3.1.1 has no other way to say no.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Violation {
    #[error("a second CONNECT")]
    SecondConnect,
    #[error("QoS 2, which IoT Hub does not serve")]
    Qos2,
    #[error("published to a topic it may not: {0}")]
    Topic(TopicError),
    #[error("asked for a filter it may not have: {0}")]
    Filter(TopicError),
    #[error("more than {MAX_SUBSCRIPTIONS} subscriptions")]
    TooManySubscriptions,
    #[error("a message of {0} bytes; at most {MAX_MESSAGE} are taken")]
    TooLong(usize),
    #[error("its will is not telemetry of its own: {0}")]
    Will(TopicError),
}

impl Session {
    /// A session that begins with the subscriptions that were kept.
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

    /// Whether the answer to a twin request is sent: always to a device that has no filter for any.
    pub(crate) fn takes_twin_response(&self, response: &Downlink<'_>) -> bool {
        let answers = Subscription::TwinResponses;
        let filters = self.subscriptions.iter().map(|(filter, _)| filter);
        let mut concerned = filters.filter(|filter| filter.concerns(answers)).peekable();
        concerned.peek().is_none()
            || concerned
                .any(|filter| filter.is_whole() || filter.delivers(answers, &response.topic()))
    }

    /// The will, once: it is spent by being taken.
    pub(crate) fn take_will(&mut self) -> Option<Box<LastWill>> {
        self.will.take()
    }

    /// Judges a packet.
    pub(crate) fn handle<'a>(&mut self, packet: &Packet<'a>) -> Result<Effect<'a>, Violation> {
        match packet {
            Packet::Connect(_) | Packet::ConnectOfLevel(_) => Err(Violation::SecondConnect),
            Packet::Publish(publish) => self.publish(publish),
            // Nothing is sent above QoS 0, so there is nothing to be acknowledged.
            Packet::PubAck { .. } => Ok(Effect::Nothing),
            Packet::Subscribe { packet_id, filters } => self.subscribe(*packet_id, filters),
            Packet::Unsubscribe { packet_id, filters } => self.unsubscribe(*packet_id, filters),
            Packet::PingReq => Ok(Effect::Pong),
            Packet::Disconnect => {
                // MQTT 3.1.1 section 3.14.4: a will is dropped, not sent.
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
                        // It is not retained; whoever reads the message sees that it was asked for.
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
    /// Judges the will of a CONNECT (IoT Hub developer guide: it becomes telemetry with
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

//! An MQTT peer that works packet by packet and can send arbitrary bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use iothub_protocol::sas::{self, SharedAccessKey};
use rumqttc::mqttbytes::v4::{
    Connect, ConnectReturnCode, Packet, Publish, Subscribe, SubscribeReasonCode,
};
use rumqttc::mqttbytes::{Error, QoS};
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{TestHub, eventually, in_an_hour};

/// Deadline of every wait; it passes only when something is broken.
pub const PEER_DEADLINE: Duration = Duration::from_secs(20);

/// Maximum length of a packet that is read or written.
pub const PACKET_LIMIT: usize = 320 * 1024;

pub struct Peer {
    stream: TlsStream<TcpStream>,
    received: BytesMut,
}

impl Peer {
    pub async fn dial(hub: &TestHub) -> Self {
        let tcp = TcpStream::connect(hub.hub.mqtt_address()).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let connector = TlsConnector::from(Arc::new(hub.tls.clone()));
        let stream = connector
            .connect(ServerName::try_from("localhost").unwrap(), tcp)
            .await
            .unwrap();
        Self {
            stream,
            received: BytesMut::new(),
        }
    }

    /// Connects as a device and expects to be accepted.
    pub async fn connect(
        hub: &TestHub,
        id: &str,
        key: &SharedAccessKey,
        clean: bool,
    ) -> (Self, bool) {
        let mut peer = Self::dial(hub).await;
        match peer.log_in(id, &login(id, key, in_an_hour()), clean).await {
            Some((ConnectReturnCode::Success, present)) => (peer, present),
            other => panic!("{id} was not accepted: {other:?}"),
        }
    }

    /// Connects a new device with a clean session.
    pub async fn of_new(hub: &TestHub, id: &str) -> Self {
        let key = hub.add_device(id).await;
        Self::connect(hub, id, &key, true).await.0
    }

    /// Asserts that the hub answers a ping, and sends nothing before it.
    pub async fn ping(&mut self) {
        self.send(&Packet::PingReq).await;
        let next = self.next().await;
        assert!(matches!(next, Some(Packet::PingResp)), "{next:?}");
    }

    /// Sends CONNECT; returns the return code and the session-present flag, or `None` if the hub
    /// closes the connection without CONNACK.
    pub async fn log_in(
        &mut self,
        id: &str,
        (user, password): &(String, String),
        clean: bool,
    ) -> Option<(ConnectReturnCode, bool)> {
        let mut connect = Connect::new(id);
        connect.clean_session = clean;
        connect.keep_alive = 60;
        connect.set_login(user.as_str(), password.as_str());
        self.send(&Packet::Connect(connect)).await;
        match self.next().await {
            Some(Packet::ConnAck(ack)) => Some((ack.code, ack.session_present)),
            None => None,
            other => panic!("not CONNACK: {other:?}"),
        }
    }

    pub async fn send(&mut self, packet: &Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, PACKET_LIMIT).unwrap();
        self.send_bytes(&bytes).await;
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        // The hub may have closed the connection already; some tests expect that.
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    pub async fn publish(&mut self, topic: &str, qos: QoS, body: &str) {
        let mut publish = Publish::new(topic, qos, body);
        publish.pkid = if qos == QoS::AtMostOnce { 0 } else { 77 };
        self.send(&Packet::Publish(publish)).await;
    }

    pub async fn subscribe(&mut self, filter: &str, qos: QoS) -> Option<SubscribeReasonCode> {
        let mut subscribe = Subscribe::new(filter, qos);
        subscribe.pkid = 3;
        self.send(&Packet::Subscribe(subscribe)).await;
        match self.next().await {
            Some(Packet::SubAck(ack)) => ack.return_codes.first().copied(),
            None => None,
            other => panic!("not SUBACK: {other:?}"),
        }
    }

    /// The next packet; `None` when the hub closes.
    pub async fn next(&mut self) -> Option<Packet> {
        let read = async {
            loop {
                match Packet::read(&mut self.received, PACKET_LIMIT) {
                    Ok(packet) => return Some(packet),
                    Err(Error::InsufficientBytes(_)) => {
                        match self.stream.read_buf(&mut self.received).await {
                            Ok(0) | Err(_) => return None,
                            Ok(_) => {}
                        }
                    }
                    Err(error) => panic!("the hub sent a malformed packet: {error}"),
                }
            }
        };
        tokio::time::timeout(PEER_DEADLINE, read)
            .await
            .expect("the hub neither answers nor closes")
    }

    pub async fn next_publish(&mut self) -> (String, Value) {
        match self.next().await {
            Some(Packet::Publish(publish)) if publish.payload.is_empty() => {
                (publish.topic, Value::Null)
            }
            Some(Packet::Publish(publish)) => (
                publish.topic,
                serde_json::from_slice(&publish.payload).unwrap(),
            ),
            other => panic!("not PUBLISH: {other:?}"),
        }
    }

    pub async fn is_closed(&mut self) -> bool {
        self.next().await.is_none()
    }
}

pub fn login(id: &str, key: &SharedAccessKey, expiry: u64) -> (String, String) {
    let token = sas::sign(&format!("localhost/devices/{id}"), key, expiry, None);
    (format!("localhost/{id}/?api-version=2021-04-12"), token)
}

pub async fn wait_for_connected(hub: &TestHub, count: usize) {
    eventually(&format!("{count} devices are connected"), || async {
        (hub.hub.registry().connected_count() == count).then_some(())
    })
    .await;
}

//! MQTT devices for measurements of latency: one task and one TLS connection each, which answer
//! every request at once, and arm and act on timed entries. Where processor time is measured,
//! `generator` takes their place.
//!
//! The packets go through rumqttc's codec; its event loop would cost more processor time than the
//! hub.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::BytesMut;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{ConnectReturnCode, Packet, Publish, Subscribe, SubscribeFilter};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::staged::{StagedDoor, Tally};

const PACKET_LIMIT: usize = 320 * 1024;
/// More concurrent handshakes would only queue on two cores, and time out there.
pub(crate) const CONNECTING: usize = 64;
/// Notifications of desired properties, and answers to reported ones.
const TWIN: [&str; 2] = [
    "$iothub/twin/PATCH/properties/desired/#",
    "$iothub/twin/res/#",
];

/// Address and trust of a server.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Arc<ClientConfig>,
}

/// Login and subscription of one device.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Device {
    pub(crate) client_id: String,
    pub(crate) login: Option<(String, String)>,
    pub(crate) filter: String,
}

pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    received: BytesMut,
    outgoing: BytesMut,
}

impl Connection {
    /// Connects, logs in and subscribes; returns after SUBACK.
    pub(crate) async fn open(endpoint: &Endpoint, device: &Device) -> anyhow::Result<Self> {
        let tcp = TcpStream::connect(endpoint.address)
            .await
            .with_context(|| format!("connecting to {}", endpoint.address))?;
        Self::log_in(tcp, endpoint, device).await
    }

    /// Like [`Connection::open`], over an open socket.
    pub(crate) async fn log_in(
        tcp: TcpStream,
        endpoint: &Endpoint,
        device: &Device,
    ) -> anyhow::Result<Self> {
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").expect("a valid name");
        let stream = TlsConnector::from(Arc::clone(&endpoint.tls))
            .connect(name, tcp)
            .await
            .context("TLS handshake")?;
        let mut connection = Self {
            stream,
            received: BytesMut::new(),
            outgoing: BytesMut::new(),
        };

        let mut connect = rumqttc::mqttbytes::v4::Connect::new(device.client_id.as_str());
        connect.keep_alive = 1200;
        if let Some((user, password)) = &device.login {
            connect.set_login(user.as_str(), password.as_str());
        }
        connection.send(&Packet::Connect(connect)).await?;
        match connection.next().await? {
            Packet::ConnAck(ack) => ensure!(
                ack.code == ConnectReturnCode::Success,
                "{} was refused: {:?}",
                device.client_id,
                ack.code
            ),
            other => bail!("expected CONNACK, got {other:?}"),
        }
        connection.subscribe(&[&device.filter]).await?;
        Ok(connection)
    }

    /// Returns after SUBACK.
    pub(crate) async fn subscribe(&mut self, filters: &[&str]) -> anyhow::Result<()> {
        let filters = filters.iter().map(|filter| SubscribeFilter {
            path: (*filter).to_owned(),
            qos: QoS::AtMostOnce,
        });
        let mut subscribe = Subscribe::new_many(filters);
        subscribe.pkid = 1;
        self.send(&Packet::Subscribe(subscribe)).await?;
        match self.next().await? {
            Packet::SubAck(_) => Ok(()),
            other => bail!("expected SUBACK, got {other:?}"),
        }
    }

    /// Queues a packet for the next `flush`.
    pub(crate) fn queue(&mut self, packet: &Packet) -> anyhow::Result<()> {
        packet
            .write(&mut self.outgoing, PACKET_LIMIT)
            .map_err(|error| anyhow::anyhow!("encoding {packet:?}: {error}"))?;
        Ok(())
    }

    /// Sends the queued packets.
    pub(crate) async fn flush(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(&self.outgoing).await?;
        self.stream.flush().await?;
        self.outgoing.clear();
        Ok(())
    }

    async fn send(&mut self, packet: &Packet) -> anyhow::Result<()> {
        self.queue(packet)?;
        self.flush().await
    }

    /// The next packet; an error when the server closes.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Packet> {
        loop {
            match Packet::read(&mut self.received, PACKET_LIMIT) {
                Ok(packet) => return Ok(packet),
                Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => {
                    ensure!(
                        self.stream.read_buf(&mut self.received).await? > 0,
                        "the server closed the connection"
                    );
                }
                Err(error) => bail!("malformed packet from the server: {error}"),
            }
        }
    }

    /// Answers each method until the server closes.
    async fn answer(mut self, mut staged: StagedDoor, doors: &Doors) -> anyhow::Result<()> {
        let mut round = 0;
        loop {
            let packet = tokio::select! {
                packet = self.next() => packet?,
                publishes = staged.due() => {
                    for publish in publishes {
                        self.queue(&Packet::Publish(publish))?;
                    }
                    self.flush().await?;
                    continue;
                }
            };
            match packet {
                Packet::Publish(request) if request.topic.starts_with("$iothub/twin/res/") => {
                    ensure!(request.topic.contains("/res/204/"), "{}", request.topic);
                    doors.tally.reports.fetch_add(1, Ordering::Release);
                }
                Packet::PubAck(_) => {
                    doors.tally.events.fetch_add(1, Ordering::Release);
                }
                Packet::Publish(request) => {
                    doors.reached.add(&mut round);
                    let report = staged.desired(&request)?;
                    let answer = answer_topic(&request.topic);
                    let answer = answer.map(|topic| Publish::new(topic, QoS::AtMostOnce, ANSWER));
                    if let Some(publish) = report.or(answer) {
                        self.send(&Packet::Publish(publish)).await?;
                    }
                }
                Packet::PingReq => self.send(&Packet::PingResp).await?,
                other => bail!("unexpected packet {other:?}"),
            }
        }
    }
}

/// What is counted over all doors.
#[derive(Default)]
pub(crate) struct Doors {
    pub(crate) reached: ReachedDoors,
    pub(crate) tally: Tally,
}

/// The doors that a publish has reached in this round.
#[derive(Default)]
pub(crate) struct ReachedDoors {
    round: AtomicU32,
    last: Mutex<(u32, Option<Instant>)>,
}

impl ReachedDoors {
    pub(crate) fn begin_round(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = (0, None);
        self.round.fetch_add(1, Ordering::Release);
    }

    /// `seen`: the round that has reached this door.
    fn add(&self, seen: &mut u32) {
        let round = self.round.load(Ordering::Acquire);
        if std::mem::replace(seen, round) != round {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            *last = (last.0 + 1, Some(Instant::now()));
        }
    }

    /// When the last of `doors` was reached.
    pub(crate) fn last(&self, doors: u32) -> anyhow::Result<Instant> {
        let (reached, last) = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(reached == doors, "{reached} of {doors} doors were reached");
        last.context("no door")
    }
}

/// Answer of a locked door, so that both sides carry the same bytes.
pub(crate) const ANSWER: &[u8] = concat!(
    r#"{"Response":"lockDoor called successfully","lockState":"locked","doorState":"closed","#,
    r#""secured":"secured","proof":"bond","lockedUntil":"2026-11-23T22:10:00Z"}"#
)
.as_bytes();

fn answer_topic(topic: &str) -> Option<String> {
    let method = topic.strip_prefix("$iothub/methods/")?;
    let (_, rid) = method.split_once("/?$rid=")?;
    Some(format!("$iothub/methods/res/200/?$rid={rid}"))
}

/// Connects all devices to the hub with bounded concurrency, for methods and desired properties,
/// and answers methods; dropping the set ends the fleet.
pub(crate) async fn connect_to_hub(
    endpoint: &Endpoint,
    devices: Vec<Device>,
) -> anyhow::Result<(JoinSet<anyhow::Result<()>>, Arc<Doors>)> {
    let gate = Arc::new(tokio::sync::Semaphore::new(CONNECTING));
    let mut opening = JoinSet::new();
    let count = u32::try_from(devices.len())?;
    for (n, device) in (0..count).zip(devices) {
        let (gate, endpoint) = (Arc::clone(&gate), endpoint.clone());
        opening.spawn(async move {
            let _permit = gate.acquire_owned().await?;
            let open = async {
                let mut connection = Connection::open(&endpoint, &device).await?;
                connection.subscribe(&TWIN).await?;
                let share = f64::from(n) / f64::from(count);
                anyhow::Ok((connection, StagedDoor::new(&device.client_id, share)))
            };
            tokio::time::timeout(Duration::from_secs(60), open)
                .await
                .with_context(|| format!("{} did not connect within 60 s", device.client_id))?
        });
    }
    let mut fleet = JoinSet::new();
    let doors = Arc::new(Doors::default());
    while let Some(connection) = opening.join_next().await {
        let (connection, staged) = connection??;
        let doors = Arc::clone(&doors);
        fleet.spawn(async move { connection.answer(staged, &doors).await });
    }
    Ok((fleet, doors))
}

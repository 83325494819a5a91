//! A hostile peer: one address that opens connections by the ten thousand, in every way that costs
//! a server more than it costs the peer.
//!
//! It runs as a child process, so that its descriptors and processor time are not counted with the
//! fleet's. It dials from another address of the loopback device than the fleet: per-address limits
//! of a server apply to it alone, as they would outside.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Packet, Publish, Subscribe};
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::fleet::{Connection, Device, Endpoint};
use crate::hub::client_config;
use crate::process::Process;

/// Source address of the attack.
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 66));

/// Concurrent sockets that send nothing.
const SILENT: usize = 10_000;

/// Concurrent sockets that speak TLS and then send their CONNECT byte by byte.
const SLOW: usize = 500;

/// Concurrent sockets that speak TLS and announce a packet of 256 MiB.
const GIANT: usize = 500;

/// Number of silent sockets opened in a row, and of those with TLS. A handshake costs the attacker
/// as much as the hub: more of them would measure the processor that both share.
const SILENT_AT_ONCE: usize = 10;
const TLS_AT_ONCE: usize = 1;

/// Pause between two rows.
const APART: Duration = Duration::from_millis(10);

/// Requests that a hostile device sends in a row; it never reads an answer.
const BURST: usize = 64;

/// Pause between two bursts of one hostile device.
const BURST_APART: Duration = Duration::from_millis(10);

/// Input of the child on its standard input. Keys must not be arguments.
#[derive(Serialize, Deserialize)]
pub(crate) struct AttackOrders {
    mqtt: SocketAddr,
    ca: PathBuf,
    seconds: u64,
    /// Client id, user name and password of registered devices that misbehave.
    devices: Vec<(String, String, String)>,
}

/// Result of an attack, printed by the child at its end.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) opened: u64,
    /// Sockets that the hub refused or closed.
    pub(crate) closed: u64,
    /// Requests sent by devices that do not read the answers.
    pub(crate) requests: u64,
}

/// A running attack.
pub(crate) struct Attack {
    child: Child,
    pub(crate) process: Process,
}

impl Attack {
    /// Starts an attack for `duration`, by strangers and by `devices`.
    pub(crate) async fn start(
        endpoint: &Endpoint,
        ca: &Path,
        devices: Vec<Device>,
        duration: Duration,
    ) -> anyhow::Result<Self> {
        let orders = AttackOrders {
            mqtt: endpoint.address,
            ca: ca.to_owned(),
            seconds: duration.as_secs(),
            devices: devices
                .into_iter()
                .filter_map(|device| {
                    let (user, password) = device.login?;
                    Some((device.client_id, user, password))
                })
                .collect(),
        };
        let mut child = Command::new(std::env::current_exe()?)
            .arg("attack")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting the attack")?;
        let mut stdin = child.stdin.take().context("the attack's standard input")?;
        stdin.write_all(&serde_json::to_vec(&orders)?).await?;
        drop(stdin);
        let process = Process::of("the attack", &child)?;
        Ok(Self { child, process })
    }

    /// Waits for its end.
    pub(crate) async fn finish(self) -> anyhow::Result<Tally> {
        let output = self.child.wait_with_output().await?;
        ensure!(output.status.success(), "the attack failed");
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// Attacks as described on standard input; prints its [`Tally`].
pub(crate) async fn run() -> anyhow::Result<()> {
    let mut text = Vec::new();
    tokio::io::stdin().read_to_end(&mut text).await?;
    let orders: AttackOrders = serde_json::from_slice(&text)?;
    let attacker = Arc::new(Attacker {
        mqtt: orders.mqtt,
        endpoint: Endpoint {
            address: orders.mqtt,
            tls: client_config(&orders.ca)?,
        },
        until: Instant::now() + Duration::from_secs(orders.seconds),
        opened: AtomicU64::new(0),
        closed: AtomicU64::new(0),
        requests: AtomicU64::new(0),
    });

    let mut kinds = JoinSet::new();
    kinds.spawn(Arc::clone(&attacker).wave(SILENT, SILENT_AT_ONCE, silent));
    kinds.spawn(Arc::clone(&attacker).wave(SLOW, TLS_AT_ONCE, slow_connect));
    kinds.spawn(Arc::clone(&attacker).wave(GIANT, TLS_AT_ONCE, giant_length));
    for (client_id, user, password) in orders.devices {
        let device = Device {
            client_id,
            login: Some((user, password)),
            filter: "$iothub/methods/POST/#".to_owned(),
        };
        kinds.spawn(Arc::clone(&attacker).flood(device));
    }
    while let Some(kind) = kinds.join_next().await {
        kind?;
    }
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let tally = Tally {
        opened: count(&attacker.opened),
        closed: count(&attacker.closed),
        requests: count(&attacker.requests),
    };
    println!("{}", serde_json::to_string(&tally)?);
    Ok(())
}

struct Attacker {
    mqtt: SocketAddr,
    endpoint: Endpoint,
    until: Instant,
    opened: AtomicU64,
    closed: AtomicU64,
    requests: AtomicU64,
}

impl Attacker {
    /// Opens sockets until the attack is over, at most `most` concurrently; each runs `act` until
    /// the hub closes it.
    async fn wave<F>(
        self: Arc<Self>,
        most: usize,
        in_a_row: usize,
        act: impl Fn(Arc<Self>, TcpStream) -> F,
    ) where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let mut sockets = JoinSet::new();
        while Instant::now() < self.until {
            for _ in 0..in_a_row {
                if sockets.len() >= most {
                    break;
                }
                let Ok(socket) = self.dial().await else { break };
                self.opened.fetch_add(1, Ordering::Relaxed);
                let (attacker, acting) = (Arc::clone(&self), act(Arc::clone(&self), socket));
                sockets.spawn(async move {
                    // Misbehaviour that ended before the attack was ended by the hub.
                    if timeout_at(attacker.until, acting).await.is_ok() {
                        attacker.closed.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            while sockets.try_join_next().is_some() {}
            sleep(APART).await;
        }
        while sockets.join_next().await.is_some() {}
    }

    async fn dial(&self) -> anyhow::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(PEER, 0))?;
        Ok(timeout_at(self.until, socket.connect(self.mqtt)).await??)
    }

    async fn handshake(&self, tcp: TcpStream) -> anyhow::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost")?;
        let connector = TlsConnector::from(Arc::clone(&self.endpoint.tls));
        Ok(connector.connect(name, tcp).await?)
    }

    /// A registered device floods the hub with twin requests and subscriptions and reads nothing;
    /// it reconnects when it is disconnected.
    async fn flood(self: Arc<Self>, device: Device) {
        while Instant::now() < self.until {
            let flooding = self.flood_once(&device);
            if !matches!(timeout_at(self.until, flooding).await, Err(_elapsed)) {
                self.closed.fetch_add(1, Ordering::Relaxed);
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn flood_once(&self, device: &Device) -> anyhow::Result<()> {
        let mut connection = Connection::log_in(self.dial().await?, &self.endpoint, device).await?;
        self.opened.fetch_add(1, Ordering::Relaxed);
        let filters = ["$iothub/twin/res/#", "$iothub/methods/POST/#"];
        loop {
            for n in 0..BURST {
                let packet = if n % 8 == 0 {
                    let mut subscribe = Subscribe::new(filters[n / 8 % 2], QoS::AtMostOnce);
                    subscribe.pkid = 1;
                    Packet::Subscribe(subscribe)
                } else {
                    let topic = format!("$iothub/twin/GET/?$rid={n}");
                    Packet::Publish(Publish::new(topic, QoS::AtMostOnce, " "))
                };
                connection.queue(&packet)?;
            }
            connection.flush().await?;
            self.requests.fetch_add(BURST as u64, Ordering::Relaxed);
            sleep(BURST_APART).await;
        }
    }
}

/// Sends nothing.
async fn silent(_: Arc<Attacker>, mut socket: TcpStream) -> anyhow::Result<()> {
    ensure!(socket.read(&mut [0; 1]).await? > 0, "closed");
    Ok(())
}

/// Sends one byte of CONNECT every half second.
async fn slow_connect(attacker: Arc<Attacker>, socket: TcpStream) -> anyhow::Result<()> {
    let mut stream = attacker.handshake(socket).await?;
    let packet = b"\x10\x7f\x00\x04MQTT\x04\xc2\x00\x3c\x00\x07nobody";
    for byte in packet.iter().chain(std::iter::repeat(&b'x')) {
        stream.write_all(&[*byte]).await?;
        stream.flush().await?;
        sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// Announces the largest MQTT packet, and sends it as fast as the hub accepts it.
async fn giant_length(attacker: Arc<Attacker>, socket: TcpStream) -> anyhow::Result<()> {
    let mut stream = attacker.handshake(socket).await?;
    stream.write_all(b"\x10\xff\xff\xff\x7f").await?;
    loop {
        stream.write_all(&[b'x'; 4096]).await?;
    }
}

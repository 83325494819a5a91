//! Attacks: everything that a peer can do from one address at once, and devices that turned against
//! their hub.
//!
//! The hub runs in a process of its own, so that its memory can be measured.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use doorfleet_testing::{HubProcess, in_an_hour};
use iothub_protocol::sas::{self, SharedAccessKey};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Connect, Packet, Publish, Subscribe};
use rustls::pki_types::ServerName;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The address of the attacker, which no other client here uses.
const ATTACKER_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 66));

/// Sockets that send nothing: more than one address may have.
const SILENT_SOCKETS: usize = 3_000;
/// The hub must close this many of them at once: those beyond the queue of one address, less some
/// that came and went.
const MIN_CLOSED: usize = 800;

/// Connections of each kind that complete a TLS handshake.
const TLS_CONNECTIONS: usize = 60;

/// Method calls to a door during the attack.
const CALLS: u32 = 150;

/// The memory that the hub may use for the attack, in bytes: the sum of its limits for one address,
/// with room for the allocator. 256 handshakes of 40 KiB, 2,048 sockets with their tasks, and
/// 512 KiB of responses for each device that does not read them.
const MEMORY_LIMIT: u64 = 40 << 20;

/// The state that all attackers share.
struct Attacker {
    hub: SocketAddr,
    tls: TlsConnector,
    closed: AtomicUsize,
    over: AtomicBool,
}

impl Attacker {
    async fn dial(&self) -> Option<TcpStream> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(ATTACKER_ADDRESS, 0)).unwrap();
        socket.connect(self.hub).await.ok()
    }

    async fn dial_tls(&self) -> Option<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").unwrap();
        self.tls.connect(name, self.dial().await?).await.ok()
    }

    /// Connects and sends nothing until it is disconnected.
    async fn silent(self: Arc<Self>) {
        if let Some(mut socket) = self.dial().await {
            // Returns when the hub closes.
            let _ = socket.read(&mut [0; 1]).await;
        }
        self.closed.fetch_add(1, Ordering::Relaxed);
    }

    /// Sends a CONNECT byte by byte.
    async fn slow(self: Arc<Self>) {
        while !self.over.load(Ordering::Relaxed) {
            let Some(mut stream) = self.dial_tls().await else {
                continue;
            };
            for byte in b"\x10\x7f\x00\x04MQTT\x04\xc2\x00\x3c"
                .iter()
                .chain(&[b'x'; 500])
            {
                if stream.write_all(&[*byte]).await.is_err() || stream.flush().await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// Announces 256 MiB and sends as much as the hub accepts.
    async fn giant(self: Arc<Self>) {
        while !self.over.load(Ordering::Relaxed) {
            let Some(mut stream) = self.dial_tls().await else {
                continue;
            };
            let mut sent = stream.write_all(b"\x10\xff\xff\xff\x7f").await;
            while sent.is_ok() {
                sent = stream.write_all(&[b'x'; 4096]).await;
            }
        }
    }

    /// A registered device sends `packet` in a loop and reads no response.
    async fn flood(self: Arc<Self>, id: &'static str, key: SharedAccessKey, packet: Packet) {
        let mut connect = Connect::new(id);
        let token = sas::sign(&format!("localhost/devices/{id}"), &key, in_an_hour(), None);
        connect.set_login(format!("localhost/{id}/?api-version=2021-04-12"), token);
        let (mut first, mut rest) = (BytesMut::new(), BytesMut::new());
        Packet::Connect(connect).write(&mut first, 1 << 20).unwrap();
        for _ in 0..16 {
            packet.write(&mut rest, 1 << 20).unwrap();
        }
        while !self.over.load(Ordering::Relaxed) {
            let Some(mut stream) = self.dial_tls().await else {
                continue;
            };
            let mut sent = stream.write_all(&first).await;
            while sent.is_ok() {
                sent = stream.write_all(&rest).await;
            }
        }
    }
}

/// The resident memory of a process in bytes.
fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}

fn publish(topic: &str, body: Vec<u8>) -> Packet {
    let mut publish = Publish::new(topic, QoS::AtLeastOnce, body);
    publish.pkid = 9;
    Packet::Publish(publish)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attack_from_one_address_affects_neither_doors_nor_memory() {
    door_hub::raise_descriptor_limit(16_384).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let hub = crate::process::start(&folder);
    let operator = &hub.operator;
    let door = operator.add_device("door").await;
    let _door = operator.connect("door", &door, 200).await;
    let before = resident(hub.process.id());

    let attacker = Arc::new(Attacker {
        hub: SocketAddr::from(([127, 0, 0, 1], operator.mqtt_port)),
        tls: TlsConnector::from(Arc::new(operator.tls.clone())),
        closed: AtomicUsize::new(0),
        over: AtomicBool::new(false),
    });
    let mut attack = JoinSet::new();
    let mut subscribe = Subscribe::new("$iothub/twin/res/#", QoS::AtMostOnce);
    subscribe.pkid = 1;
    let floods = [
        ("asks", publish("$iothub/twin/GET/?$rid=1", b" ".to_vec())),
        ("subscribes", Packet::Subscribe(subscribe)),
        (
            "reports",
            publish(
                "$iothub/twin/PATCH/properties/reported/?$rid=1",
                b"{\"a\":1}".to_vec(),
            ),
        ),
        (
            "tells",
            publish("devices/tells/messages/events/", vec![b'x'; 60_000]),
        ),
    ];
    for (id, packet) in floods {
        let key = operator.add_device(id).await;
        attack.spawn(Arc::clone(&attacker).flood(id, key, packet));
    }
    for _ in 0..SILENT_SOCKETS {
        attack.spawn(Arc::clone(&attacker).silent());
    }
    for _ in 0..TLS_CONNECTIONS {
        attack.spawn(Arc::clone(&attacker).slow());
        attack.spawn(Arc::clone(&attacker).giant());
    }

    let mut most = 0;
    for call in 0..CALLS {
        let body =
            json!({"methodName": "lockDoor", "payload": call, "responseTimeoutInSeconds": 25});
        let called = operator.post("/twins/door/methods", body).await;
        assert_eq!(
            (called.status.as_u16(), &called.body["payload"]),
            (200, &json!(call))
        );
        most = most.max(resident(hub.process.id()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // A regular client can connect during the attack.
    let late = operator.add_device("late").await;
    let _late = operator.connect("late", &late, 200).await;
    let called = operator
        .post("/twins/late/methods", json!({"methodName": "getState"}))
        .await;
    assert_eq!(called.status, 200);

    let closed = attacker.closed.load(Ordering::Relaxed);
    assert!(
        closed >= MIN_CLOSED,
        "only {closed} of {SILENT_SOCKETS} silent sockets were closed"
    );
    let used = most.saturating_sub(before);
    assert!(
        used < MEMORY_LIMIT,
        "the hub uses {used} bytes for its attacker"
    );
    attacker.over.store(true, Ordering::Relaxed);
    attack.shutdown().await;
}

/// What a client sends on the REST port after the TLS handshake, before it goes silent.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Client {
    Silent,
    /// Most of a request head.
    PartialHead,
    /// More of a head than an unauthenticated client may send.
    GiantHead,
    /// A request that is rejected.
    Refused,
    /// A request that needs no token.
    Healthz,
    /// A request that is rejected before its body, which never arrives.
    PartialBody,
    /// A head, one byte per second.
    Slow,
    /// An authenticated request.
    Authenticated,
}

/// The `n`th address of unauthenticated clients.
fn client_address(n: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 7, n], 0))
}

async fn dial_from(from: SocketAddr, hub: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(from)?;
    socket.connect(hub).await
}

impl Client {
    /// How long the hub keeps the connection, up to `patience`.
    async fn kept_for(self, hub: &HubProcess, patience: Duration) -> Duration {
        let socket = dial_from(client_address(1), hub.https()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let tls = TlsConnector::from(Arc::new(hub.operator.tls.clone()));
        let mut stream = tls.connect(name, socket).await.unwrap();
        let head = |line: &str, more: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\n{more}");
        let sent = match self {
            Self::Silent | Self::Slow => String::new(),
            Self::PartialHead => head("GET /devices", &"x".repeat(7_000)),
            Self::GiantHead => head("GET /devices", &"x".repeat(9_000)),
            Self::Refused => head("GET /devices", "\r\n"),
            Self::Healthz => head("GET /healthz", "\r\n"),
            Self::PartialBody => head("PUT /devices/x", "Content-Length: 99999\r\n\r\n{"),
            Self::Authenticated => {
                let token = hub.operator.owner_token();
                let line = "GET /devices?api-version=2021-04-12";
                head(line, &format!("Authorization: {token}\r\n\r\n"))
            }
        };
        let began = Instant::now();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = [0; 4096];
        while began.elapsed() < patience {
            let read = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut answer));
            match read.await {
                Ok(Ok(0) | Err(_)) => break,
                Ok(Ok(_)) => {}
                // It may have been closed in the meantime.
                Err(_) if self == Self::Slow => drop(stream.write_all(b"G").await),
                Err(_) => {}
            }
        }
        began.elapsed()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unauthenticated_rest_client_gets_10_s_and_8_kib() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Arc::new(crate::process::start(&folder));
    let patience = Duration::from_secs(30);
    let mut clients = JoinSet::new();
    // The range of seconds after which the hub closes each connection.
    for (client, from, to) in [
        (Client::Silent, 8, 30),
        (Client::PartialHead, 8, 30),
        (Client::GiantHead, 0, 8),
        (Client::Refused, 8, 30),
        (Client::Healthz, 8, 30),
        (Client::PartialBody, 0, 30),
        (Client::Slow, 8, 30),
        (Client::Authenticated, 30, 40),
    ] {
        let hub = Arc::clone(&hub);
        clients.spawn(async move {
            let stayed = client.kept_for(&hub, patience).await.as_secs();
            assert!((from..to).contains(&stayed), "{client:?} stays {stayed} s");
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
}

/// How long a regular client may take meanwhile: the attackers' work runs on the same machine.
const CLIENT_DEADLINE: Duration = Duration::from_secs(30);

/// Number of connections from one address that are served at once. Each sends nothing and
/// reconnects when it is closed.
const CONNECTIONS_PER_ADDRESS: usize = 256;

fn idle_connections(addresses: u8, hub: SocketAddr) -> JoinSet<()> {
    let mut idle_connections = JoinSet::new();
    for n in 0..addresses {
        for _ in 0..CONNECTIONS_PER_ADDRESS {
            idle_connections.spawn(async move {
                loop {
                    if let Ok(mut socket) = dial_from(client_address(n + 1), hub).await {
                        let _ = socket.read(&mut [0; 1]).await;
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            });
        }
    }
    idle_connections
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_from_many_addresses_do_not_block_operators() {
    door_hub::raise_descriptor_limit(16_384).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let hub = crate::process::start(&folder);
    let _idle = idle_connections(6, hub.https());
    for _ in 0..10 {
        let newcomer = hub.new_operator();
        let asked = tokio::time::timeout(CLIENT_DEADLINE, newcomer.get("/devices"));
        assert_eq!(asked.await.expect("an answer in time").status, 200);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_from_many_addresses_do_not_block_doors() {
    door_hub::raise_descriptor_limit(16_384).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let hub = crate::process::start(&folder);
    let address = SocketAddr::from(([127, 0, 0, 1], hub.operator.mqtt_port));
    let _idle = idle_connections(10, address);
    for number in 0..5 {
        let name = format!("door{number}");
        let key = hub.operator.add_device(&name).await;
        let connected =
            tokio::time::timeout(CLIENT_DEADLINE, hub.operator.connect(&name, &key, 200));
        let _door = connected.await.expect("a door connects in time");
        let call = json!({"methodName": "getState"});
        let path = format!("/twins/{name}/methods");
        assert_eq!(hub.operator.post(&path, call).await.status, 200);
    }
}

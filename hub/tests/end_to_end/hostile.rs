//! A peer that means harm, at full strength: everything it can do from one address at once, and devices that turned against their hub.
//!
//! The program runs as a process of its own, so that its memory is its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
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

use crate::harness::in_an_hour;
use crate::process::Process;

/// Where the harm comes from: not the address of everyone else here.
const HOSTILE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 66));

/// Sockets that say nothing: more than one address is given.
const SILENT: usize = 3_000;

/// Of them, those that the hub must have closed at once: all beyond what waits for one address, less some that came and went.
const TURNED_AWAY: usize = 800;

/// Sockets of each kind that speaks TLS.
const SPEAKING: usize = 60;

/// Calls to a door meanwhile.
const CALLS: u32 = 150;

/// What the hub may hold for all of that, in bytes. The sum of its limits for one address, with room for what its allocator keeps: 256 handshakes
/// of 40 KiB, 2,048 sockets with their tasks, and 512 KiB of answers for each device that does not read them.
const HELD: u64 = 40 << 20;

/// What everyone who means harm knows.
struct Hostile {
    hub: SocketAddr,
    tls: TlsConnector,
    closed: AtomicUsize,
    over: AtomicBool,
}

impl Hostile {
    async fn dial(&self) -> Option<TcpStream> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(HOSTILE, 0)).unwrap();
        socket.connect(self.hub).await.ok()
    }

    async fn speak(&self) -> Option<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").unwrap();
        self.tls.connect(name, self.dial().await?).await.ok()
    }

    /// Says nothing for as long as it is let.
    async fn silent(self: Arc<Self>) {
        if let Some(mut socket) = self.dial().await {
            // It returns when the hub closes.
            let _ = socket.read(&mut [0; 1]).await;
        }
        self.closed.fetch_add(1, Ordering::Relaxed);
    }

    /// A CONNECT, a byte at a time.
    async fn slow(self: Arc<Self>) {
        while !self.over.load(Ordering::Relaxed) {
            let Some(mut stream) = self.speak().await else {
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

    /// Announces 256 MiB and sends what is taken of them.
    async fn giant(self: Arc<Self>) {
        while !self.over.load(Ordering::Relaxed) {
            let Some(mut stream) = self.speak().await else {
                continue;
            };
            let mut sent = stream.write_all(b"\x10\xff\xff\xff\x7f").await;
            while sent.is_ok() {
                sent = stream.write_all(&[b'x'; 4096]).await;
            }
        }
    }

    /// A device that may be there sends `packet` over and over, and reads no answer.
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
            let Some(mut stream) = self.speak().await else {
                continue;
            };
            let mut sent = stream.write_all(&first).await;
            while sent.is_ok() {
                sent = stream.write_all(&rest).await;
            }
        }
    }
}

/// The resident bytes of a process.
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
async fn one_hostile_address_takes_neither_the_doors_nor_the_memory() {
    rlimit::increase_nofile_limit(16_384).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let hub = Process::start(&folder).await;
    let operator = &hub.operator;
    let door = operator.add_device("door").await;
    let _door = operator.connect("door", &door, 200).await;
    let before = resident(hub.child.id());

    let hostile = Arc::new(Hostile {
        hub: SocketAddr::from(([127, 0, 0, 1], operator.mqtt_port)),
        tls: TlsConnector::from(Arc::new(operator.tls.clone())),
        closed: AtomicUsize::new(0),
        over: AtomicBool::new(false),
    });
    let mut harm = JoinSet::new();
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
        harm.spawn(Arc::clone(&hostile).flood(id, key, packet));
    }
    for _ in 0..SILENT {
        harm.spawn(Arc::clone(&hostile).silent());
    }
    for _ in 0..SPEAKING {
        harm.spawn(Arc::clone(&hostile).slow());
        harm.spawn(Arc::clone(&hostile).giant());
    }

    let mut most = 0;
    for call in 0..CALLS {
        let body =
            json!({"methodName": "lockDoor", "payload": call, "responseTimeoutInSeconds": 10});
        let called = operator.post("/twins/door/methods", body).await;
        assert_eq!(
            (called.status.as_u16(), &called.body["payload"]),
            (200, &json!(call))
        );
        most = most.max(resident(hub.child.id()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Who is honest gets in meanwhile.
    let late = operator.add_device("late").await;
    let _late = operator.connect("late", &late, 200).await;
    let called = operator
        .post("/twins/late/methods", json!({"methodName": "getState"}))
        .await;
    assert_eq!(called.status, 200);

    let closed = hostile.closed.load(Ordering::Relaxed);
    assert!(
        closed >= TURNED_AWAY,
        "only {closed} of {SILENT} silent sockets were turned away"
    );
    let held = most.saturating_sub(before);
    assert!(held < HELD, "the hub holds {held} bytes for its attacker");
    hostile.over.store(true, Ordering::Relaxed);
    harm.shutdown().await;
}

//! MQTT over a WebSocket on the REST port, with a WebSocket client from a crate of its own.

use std::io::{self, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use doorfleet_testing::{TestHub, answer, eventually, in_an_hour};
use iothub_protocol::sas::{self, SharedAccessKey};
use reqwest::Method;
use rumqttc::mqttbytes::v4::{Connect, ConnectReturnCode, Packet, Publish, Subscribe};
use rumqttc::mqttbytes::{Error, QoS};
use rustls::{ClientConnection, StreamOwned};
use serde_json::json;
use tungstenite::client::IntoClientRequest as _;
use tungstenite::http::HeaderValue;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

/// Nothing here takes long; a socket without data for this long has failed.
const DEADLINE: Duration = Duration::from_secs(20);

const LIMIT: usize = 320 * 1024;

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A device that sends MQTT in frames, on a thread that may block.
struct Peer {
    socket: WebSocket<Stream>,
    received: BytesMut,
}

/// The hub's address and trusted certificates, without the hub.
struct Target {
    tls: Arc<rustls::ClientConfig>,
    address: std::net::SocketAddr,
}

impl Target {
    fn of(hub: &TestHub) -> Self {
        Self {
            tls: Arc::new(hub.tls.clone()),
            address: hub.hub.https_address(),
        }
    }

    fn dial(&self) -> Peer {
        let tcp = TcpStream::connect(self.address).unwrap();
        tcp.set_read_timeout(Some(DEADLINE)).unwrap();
        let name = "localhost".try_into().unwrap();
        let tls = ClientConnection::new(Arc::clone(&self.tls), name).unwrap();
        // The C family of clients sends this query string.
        let mut request = "wss://localhost/$iothub/websocket?iothub-no-client-cert=true"
            .into_client_request()
            .unwrap();
        request
            .headers_mut()
            .insert("sec-websocket-protocol", HeaderValue::from_static("mqtt"));
        let stream = StreamOwned::new(tls, tcp);
        let (socket, response) = tungstenite::client(request, stream).unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], "mqtt");
        assert!(!response.headers().contains_key("sec-websocket-extensions"));
        Peer {
            socket,
            received: BytesMut::new(),
        }
    }
}

impl Peer {
    /// Sends a packet in frames of at most `piece` bytes.
    fn send(&mut self, packet: &Packet, piece: usize) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, LIMIT).unwrap();
        for piece in bytes.chunks(piece) {
            self.socket.send(Message::binary(piece.to_vec())).unwrap();
        }
    }

    fn next(&mut self) -> Packet {
        loop {
            match Packet::read(&mut self.received, LIMIT) {
                Ok(packet) => return packet,
                Err(Error::InsufficientBytes(_)) => match self.socket.read().unwrap() {
                    Message::Binary(bytes) => self.received.extend_from_slice(&bytes),
                    other => panic!("not MQTT: {other:?}"),
                },
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn connect(&mut self, id: &str, key: &SharedAccessKey, piece: usize) {
        let mut connect = Connect::new(id);
        let token = sas::sign(&format!("localhost/devices/{id}"), key, in_an_hour(), None);
        connect.set_login(format!("localhost/{id}/?api-version=2021-04-12"), token);
        self.send(&Packet::Connect(connect), piece);
        match self.next() {
            Packet::ConnAck(ack) => assert_eq!(ack.code, ConnectReturnCode::Success),
            other => panic!("expected CONNACK, got {other:?}"),
        }
    }

    fn subscribe(&mut self, filter: &str) {
        let mut subscribe = Subscribe::new(filter, QoS::AtMostOnce);
        subscribe.pkid = 7;
        self.send(&Packet::Subscribe(subscribe), LIMIT);
        assert!(matches!(self.next(), Packet::SubAck(ack) if ack.pkid == 7));
    }

    /// Writes directly into TLS, bypassing the WebSocket.
    fn write_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = self.socket.get_mut();
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// The code of the hub's close frame, if it sends one before the connection ends.
    fn close_code(&mut self) -> Option<CloseCode> {
        loop {
            match self.socket.read() {
                Ok(Message::Close(frame)) => return frame.map(|frame| frame.code),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }
}

async fn blocking<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(act).await.unwrap()
}

async fn connection_state(hub: &TestHub, id: &str, wanted: &str) {
    eventually(&format!("{id} is {wanted}"), || async {
        let twin = hub.get(&format!("/twins/{id}")).await.body;
        (twin["connectionState"] == wanted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn mqtt_works_over_a_websocket_with_any_split_of_packets_into_frames() {
    let hub = TestHub::start().await;
    let key = hub.add_device("far-door").await;
    let target = Target::of(&hub);
    let mut peer = blocking(move || {
        let mut peer = target.dial();
        peer.connect("far-door", &key, 5);
        peer.subscribe("$iothub/methods/POST/#");
        // A control frame between packets, and the answer to it.
        peer.socket.send(Message::Ping("there?".into())).unwrap();
        assert!(matches!(peer.socket.read().unwrap(), Message::Pong(text) if text == "there?"));
        let get = Publish::new("$iothub/twin/GET/?$rid=1", QoS::AtMostOnce, " ");
        peer.send(&Packet::Publish(get), 11);
        match peer.next() {
            Packet::Publish(twin) => assert_eq!(twin.topic, "$iothub/twin/res/200/?$rid=1"),
            other => panic!("expected the twin, got {other:?}"),
        }
        peer
    })
    .await;
    connection_state(&hub, "far-door", "Connected").await;

    let device = tokio::task::spawn_blocking(move || {
        let Packet::Publish(request) = peer.next() else {
            panic!("expected a method request");
        };
        let rid = request.topic.split("$rid=").nth(1).unwrap();
        let topic = format!("$iothub/methods/res/200/?$rid={rid}");
        let answer = Publish::new(topic, QoS::AtMostOnce, request.payload.to_vec());
        peer.send(&Packet::Publish(answer), 1000);
        peer
    });
    // Larger than the short length of a frame, in both directions.
    let payload = "x".repeat(100_000);
    let call = json!({"methodName": "lockDoor", "payload": payload});
    let called = hub.post("/twins/far-door/methods", call).await;
    assert_eq!(
        (called.status.as_u16(), &called.body["payload"]),
        (200, &json!(payload))
    );

    let mut peer = device.await.unwrap();
    let code = blocking(move || {
        peer.socket.close(None).unwrap();
        // The hub answers the close frame and closes; that ends the reads.
        while peer.socket.read().is_ok() {}
        peer.socket.can_write()
    })
    .await;
    assert!(!code, "the close handshake did not end");
    connection_state(&hub, "far-door", "Disconnected").await;
}

#[tokio::test]
async fn a_stopping_hub_sends_a_close_frame() {
    let hub = TestHub::start().await;
    let key = hub.add_device("far-door").await;
    let target = Target::of(&hub);
    let mut peer = blocking(move || {
        let mut peer = target.dial();
        peer.connect("far-door", &key, LIMIT);
        peer
    })
    .await;
    let reading = tokio::task::spawn_blocking(move || peer.close_code());
    let folder = hub.stop().await.folder;
    drop(folder);
    assert_eq!(reading.await.unwrap(), Some(CloseCode::Normal));
}

#[tokio::test]
async fn an_invalid_upgrade_is_rejected_with_the_expected_header() {
    let hub = TestHub::start().await;
    let upgrade = |protocol: &str| {
        hub.anonymous(Method::GET, "/$iothub/websocket")
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-protocol", protocol)
    };
    let foreign = answer(upgrade("amqp, AMQPWSB10")).await;
    let message = foreign.body["Message"].as_str().unwrap();
    assert_eq!(foreign.status, 400);
    assert!(
        message.contains("invalid header sec-websocket-protocol; expected mqtt"),
        "{message}"
    );

    let plain = answer(hub.anonymous(Method::GET, "/$iothub/websocket")).await;
    let message = plain.body["Message"].as_str().unwrap();
    assert_eq!(plain.status, 400);
    assert!(
        message.contains("invalid header connection; expected upgrade"),
        "{message}"
    );

    // The key and its answer are the example of RFC 6455 section 1.3.
    let agreed = upgrade("chat, MQTT").send().await.unwrap();
    assert_eq!(agreed.status(), 101);
    assert_eq!(
        agreed.headers()["sec-websocket-accept"],
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
}

#[tokio::test]
async fn invalid_or_giant_frames_end_their_connection_and_no_other() {
    let hub = TestHub::start().await;
    let key = hub.add_device("near-door").await;
    let _near = hub.connect("near-door", &key, 200).await;
    let target = Target::of(&hub);
    blocking(move || {
        let mut text = target.dial();
        text.socket.send(Message::text("{}")).unwrap();
        assert_eq!(text.close_code(), Some(CloseCode::Unsupported));

        let mut unmasked = target.dial();
        unmasked.write_raw(b"\x82\x02\x10\x00").unwrap();
        assert_eq!(unmasked.close_code(), Some(CloseCode::Protocol));

        // A frame of 2^62 bytes, sent until the hub stops reading from the unauthenticated client.
        let mut giant = target.dial();
        giant
            .write_raw(b"\x82\xff\x40\0\0\0\0\0\0\0\0\0\0\0")
            .unwrap();
        giant.write_raw(b"\x10\xff\xff\x7f").unwrap();
        // The hub closes the connection before all of this is written, or soon after.
        let _ = (0..64).try_for_each(|_| giant.write_raw(&[0; 1024]));
        let end = loop {
            if let Err(end) = giant.socket.read() {
                break end;
            }
        };
        let timed_out = matches!(
            &end,
            tungstenite::Error::Io(error) if error.kind() == io::ErrorKind::WouldBlock
        );
        assert!(!timed_out, "an unauthenticated client may send 64 KiB");
    })
    .await;
    let call = json!({"methodName": "getState", "payload": 1});
    assert_eq!(hub.post("/twins/near-door/methods", call).await.status, 200);
}

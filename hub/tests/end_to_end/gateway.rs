//! The MQTT gateway, packet by packet: sessions as in the standard and IoT Hub, and hostile peers.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use doorfleet_testing::{
    PACKET_LIMIT, PEER_DEADLINE, Peer, TestHub, in_an_hour, login, wait_for_connected,
};
use iothub_protocol::sas::SharedAccessKey;
use reqwest::Method;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Connect, ConnectReturnCode, Packet, Publish, Subscribe};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

#[tokio::test]
async fn invalid_logins_are_not_authorized() {
    let hub = TestHub::start().await;
    let key = hub.add_device("lobby").await;
    let other = SharedAccessKey::from_bytes(&[9; 32]).unwrap();
    let good = login("lobby", &key, in_an_hour());
    let of_other = login("lobby2", &key, in_an_hour()).1;
    let elsewhere = "elsewhere/lobby/?api-version=2021-04-12".to_owned();
    for (what, id, login) in [
        ("another key", "lobby", login("lobby", &other, in_an_hour())),
        (
            "an expired token",
            "lobby",
            login("lobby", &key, 1_000_000_000),
        ),
        (
            "an unknown device",
            "nobody",
            login("nobody", &key, in_an_hour()),
        ),
        ("another client id", "lobby2", good.clone()),
        (
            "another device's token",
            "lobby",
            (good.0.clone(), of_other),
        ),
        ("another hub's name", "lobby", (elsewhere, good.1)),
        ("no token at all", "lobby", (good.0, "secret".to_owned())),
    ] {
        let mut peer = Peer::dial(&hub).await;
        assert_eq!(
            peer.log_in(id, &login, true).await,
            Some((ConnectReturnCode::NotAuthorized, false)),
            "{what}"
        );
        assert!(peer.is_closed().await, "{what}");
    }
    assert_eq!(hub.hub.registry().connected_count(), 0);
}

#[tokio::test]
async fn another_protocol_level_is_refused_with_its_code() {
    let hub = TestHub::start().await;
    let mut peer = Peer::dial(&hub).await;
    // An MQTT 5 client: it sends properties where 3.1.1 has the client id.
    peer.send_bytes(b"\x10\x17\x00\x04MQTT\x05\x02\x00\x3c\x05\x11\x00\x00\x00\x0a\x00\x05lobby")
        .await;
    assert!(matches!(
        peer.next().await,
        Some(Packet::ConnAck(ack)) if ack.code == ConnectReturnCode::RefusedProtocolVersion
    ));
    assert!(peer.is_closed().await);
}

#[tokio::test]
async fn a_newer_connection_closes_the_older_one() {
    let hub = TestHub::start().await;
    let key = hub.add_device("lobby").await;
    let (mut old, _) = Peer::connect(&hub, "lobby", &key, true).await;
    let (mut new, _) = Peer::connect(&hub, "lobby", &key, true).await;
    assert!(old.is_closed().await);
    new.ping().await;
    assert_eq!(hub.hub.registry().connected_count(), 1);
    assert_eq!(
        hub.get("/twins/lobby").await.body["connectionState"],
        "Connected"
    );
}

#[tokio::test]
async fn a_disabled_or_deleted_device_is_disconnected_and_cannot_connect_again() {
    let hub = TestHub::start().await;
    for id in ["disabled", "deleted"] {
        let key = hub.add_device(id).await;
        let (mut peer, _) = Peer::connect(&hub, id, &key, true).await;
        let answer = match id {
            "disabled" => hub.update_device(id, json!({ "status": id })).await,
            _ => hub.send(Method::DELETE, "/devices/deleted", None).await,
        };
        assert!(answer.status.is_success(), "{id}: {}", answer.body);
        assert!(peer.is_closed().await, "{id}");
        let mut again = Peer::dial(&hub).await;
        let code = again.log_in(id, &login(id, &key, in_an_hour()), true).await;
        let refused = Some((ConnectReturnCode::NotAuthorized, false));
        assert_eq!(code, refused, "{id}");
    }
}

#[tokio::test]
async fn a_forbidden_malformed_or_giant_packet_ends_only_its_connection() {
    let hub = TestHub::start().await;
    let mut bystander = Peer::of_new(&hub, "bystander").await;
    let key = hub.add_device("rogue").await;
    let publish = |topic: &str, qos| {
        let mut publish = Publish::new(topic, qos, "x");
        publish.pkid = u16::from(qos != QoS::AtMostOnce);
        Packet::Publish(publish)
    };
    let subscribe = |filter: &str| {
        let mut subscribe = Subscribe::new(filter, QoS::AtMostOnce);
        subscribe.pkid = 1;
        Packet::Subscribe(subscribe)
    };
    for packet in [
        publish("devices/bystander/messages/events/", QoS::AtLeastOnce),
        publish("$iothub/methods/POST/lockDoor/?$rid=1", QoS::AtMostOnce),
        publish("anything", QoS::AtMostOnce),
        publish("devices/rogue/messages/events/", QoS::ExactlyOnce),
        subscribe("$iothub/+"),
        subscribe("$iothub/methods/+/lockDoor/#"),
        subscribe("devices/bystander/messages/devicebound/#"),
        Packet::Connect(Connect::new("rogue")),
    ] {
        let (mut rogue, _) = Peer::connect(&hub, "rogue", &key, true).await;
        rogue.send(&packet).await;
        assert!(rogue.is_closed().await, "{packet:?}");
    }
    for (what, bytes) in [
        ("a giant length", &b"\x30\xff\xff\xff\x7f"[..]),
        ("a length that never ends", b"\x30\xff\xff\xff\xff\xff"),
        ("a reserved type", b"\xf0\0"),
        ("packet id 0", b"\x32\x05\0\x01a\0\0"),
        ("NUL in a topic", b"\x30\x05\0\x03a\0b"),
        ("text that is not UTF-8", b"\x30\x04\0\x02\xc3\x28"),
    ] {
        let (mut rogue, _) = Peer::connect(&hub, "rogue", &key, true).await;
        rogue.send_bytes(bytes).await;
        assert!(rogue.is_closed().await, "{what}");
        let mut stranger = Peer::dial(&hub).await;
        stranger.send_bytes(bytes).await;
        assert!(stranger.is_closed().await, "{what}, before CONNECT");
    }
    bystander.ping().await;
    wait_for_connected(&hub, 1).await;
}

#[tokio::test]
async fn a_connect_may_arrive_byte_by_byte() {
    let hub = TestHub::start().await;
    let key = hub.add_device("slow").await;
    let mut peer = Peer::dial(&hub).await;
    let mut connect = Connect::new("slow");
    let (user, password) = login("slow", &key, in_an_hour());
    connect.set_login(user, password);
    let mut bytes = BytesMut::new();
    Packet::Connect(connect)
        .write(&mut bytes, PACKET_LIMIT)
        .unwrap();
    for byte in bytes {
        peer.send_bytes(&[byte]).await;
    }
    assert!(matches!(
        peer.next().await,
        Some(Packet::ConnAck(ack)) if ack.code == ConnectReturnCode::Success
    ));
}

#[tokio::test]
async fn an_unauthenticated_client_may_send_only_8_kib() {
    let hub = TestHub::start().await;
    let mut peer = Peer::dial(&hub).await;
    // A CONNECT that announces 60 KB is rejected by its length, before its content arrives.
    peer.send_bytes(&[0x10, 0xe0, 0xd4, 0x03]).await;
    assert!(peer.is_closed().await);
    let mut peer = Peer::dial(&hub).await;
    let mut connect = Connect::new("x".repeat(8 * 1024));
    connect.keep_alive = 60;
    peer.send(&Packet::Connect(connect)).await;
    assert!(peer.is_closed().await);
}

#[tokio::test]
async fn bytes_that_are_not_tls_are_rejected() {
    let hub = TestHub::start().await;
    let mut noise = TcpStream::connect(hub.hub.mqtt_address()).await.unwrap();
    noise
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    // The hub closes with an alert or a reset.
    let closed = tokio::time::timeout(PEER_DEADLINE, noise.read_to_end(&mut answer)).await;
    assert!(
        closed.is_ok(),
        "the hub keeps a connection that does not speak TLS"
    );
    let key = hub.add_device("lobby").await;
    let (_peer, _) = Peer::connect(&hub, "lobby", &key, true).await;
}

#[tokio::test]
async fn a_device_disabled_during_its_login_is_disconnected() {
    let hub = TestHub::start().await;
    for round in 0..40 {
        let id = format!("d{round}");
        let key = hub.add_device(&id).await;
        let mut peer = Peer::dial(&hub).await;
        let login = login(&id, &key, in_an_hour());
        let disable = hub.update_device(&id, json!({ "status": "disabled" }));
        let (code, answer) = tokio::join!(peer.log_in(&id, &login, true), disable);
        answer.ok();
        assert!(peer.is_closed().await, "{id}: {code:?}");
    }
    wait_for_connected(&hub, 0).await;
}

#[tokio::test]
async fn a_device_gets_all_answers_to_a_burst_of_requests() {
    const REQUESTS: usize = 600;
    let hub = TestHub::start().await;
    let key = hub.add_device("eager").await;
    let long: serde_json::Map<String, Value> = (0..8)
        .map(|part| (format!("part{part}"), json!("x".repeat(3500))))
        .collect();
    let patch = json!({ "properties": { "desired": long } });
    assert_eq!(hub.patch("/twins/eager", patch).await.status, 200);
    let (mut peer, _) = Peer::connect(&hub, "eager", &key, true).await;
    let mut requests = BytesMut::new();
    for _ in 0..REQUESTS {
        Packet::Publish(Publish::new(
            "$iothub/twin/GET/?$rid=1",
            QoS::AtMostOnce,
            "",
        ))
        .write(&mut requests, PACKET_LIMIT)
        .unwrap();
    }
    peer.send_bytes(&requests).await;
    for _ in 0..REQUESTS {
        let (topic, _) = peer.next_publish().await;
        assert_eq!(topic, "$iothub/twin/res/200/?$rid=1");
    }
}

#[tokio::test]
async fn hanging_clients_do_not_delay_the_shutdown() {
    let hub = TestHub::start().await;
    let mut device = Peer::of_new(&hub, "door").await;
    let _stranger = TcpStream::connect(hub.hub.mqtt_address()).await.unwrap();
    let _other = TcpStream::connect(hub.hub.https_address()).await.unwrap();
    let tcp = TcpStream::connect(hub.hub.https_address()).await.unwrap();
    let mut request = TlsConnector::from(Arc::new(hub.tls.clone()))
        .connect(ServerName::try_from("localhost").unwrap(), tcp)
        .await
        .unwrap();
    let head = format!(
        "POST /devices/query?api-version=2021-04-12 HTTP/1.1\r\nHost: localhost\r\n\
         Authorization: {}\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n",
        hub.owner_token()
    );
    request.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    request.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100", "the hub waits for the body");

    let TestHub { hub, .. } = hub;
    let stopped = async {
        let began = std::time::Instant::now();
        hub.shutdown().await;
        began.elapsed()
    };
    let (closed, took) = tokio::join!(device.is_closed(), stopped);
    assert!(closed);
    assert!(took < Duration::from_secs(14), "{took:?}");
}

//! CONNECT: the forms of credentials that clients use, and the deadlines of a connection.

use std::sync::Arc;

use doorfleet_testing::{Peer, TestHub, eventually, in_an_hour, login, roots, wait_for_connected};
use iothub_protocol::sas::{self, SharedAccessKey};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Connect, ConnectReturnCode, Packet, Publish, Subscribe};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

fn token(id: &str, key: &SharedAccessKey) -> String {
    sas::sign(&format!("localhost/devices/{id}"), key, in_an_hour(), None)
}

#[tokio::test]
async fn the_user_name_is_accepted_in_the_form_of_each_client() {
    let hub = TestHub::start().await;
    let plain = hub.add_device("d1").await;
    let odd = hub.add_device_at("what?now", "what%3Fnow").await;
    for (id, query) in [
        // azure-iot-device 2.14 (Python), azure-iot-device-mqtt 1.16 (Node), .NET, C, the
        // documents.
        (
            "d1",
            concat!(
                "/?api-version=2019-10-01",
                "&DeviceClientType=azure-iot-device-iothub-py%2F2.14.0%283.11.2%3BLinux%29",
            ),
        ),
        (
            "d1",
            "/?api-version=2021-04-12&model-id=dtmi:com:example;1&DeviceClientType=node%2F1.18.4",
        ),
        (
            "d1",
            "/?api-version=2020-09-30&DeviceClientType=.NET%2F1.42&auth-chain=",
        ),
        (
            "d1",
            concat!(
                "/?api-version=2020-09-30&DeviceClientType=",
                "iothubclient%2f1.9.0%20(native%3b%20Linux%3b%20aarch64)",
            ),
        ),
        ("d1", "/?api-version=2021-04-12"),
        ("d1", "/api-version=2016-11-14"),
        (
            "d1",
            "/?DeviceClientType=a+b&unknown=x&api-version=1&api-version=2",
        ),
        ("d1", "/"),
        ("d1", ""),
        // A question mark is a legal character of an id.
        ("what?now", "/?api-version=2021-04-12"),
    ] {
        let key = if id == "d1" { &plain } else { &odd };
        let mut peer = Peer::dial(&hub).await;
        let login = (format!("localhost/{id}{query}"), token(id, key));
        let answer = peer.log_in(id, &login, true).await;
        assert_eq!(answer, Some((ConnectReturnCode::Success, false)), "{query}");
    }
}

#[tokio::test]
async fn ids_that_differ_in_case_are_different_devices() {
    let hub = TestHub::start().await;
    let lower = hub.add_device("lobby").await;
    let upper = hub.add_device("LOBBY").await;
    let (_lower, _) = Peer::connect(&hub, "lobby", &lower, true).await;
    let (_upper, _) = Peer::connect(&hub, "LOBBY", &upper, true).await;
    wait_for_connected(&hub, 2).await;
    for (client_id, user, key) in [
        ("lobby", "lobby", &upper),
        ("LOBBY", "LOBBY", &lower),
        ("LOBBY", "lobby", &lower),
    ] {
        let mut peer = Peer::dial(&hub).await;
        let login = (
            format!("localhost/{user}/?api-version=2021-04-12"),
            token(user, key),
        );
        assert_eq!(
            peer.log_in(client_id, &login, true).await,
            Some((ConnectReturnCode::NotAuthorized, false)),
            "{client_id} as {user}"
        );
        assert!(peer.is_closed().await);
    }
}

#[tokio::test]
async fn a_policys_token_is_valid_only_for_its_audience() {
    let hub = TestHub::start().await;
    hub.add_device("lobby").await;
    let policy = hub
        .hub
        .policy("device")
        .expect("one of the default policies");
    for (audience, opens) in [
        ("localhost", true),
        ("LOCALHOST/devices", true),
        ("localhost/devices/lobby", true),
        ("localhost/devices/lob", false),
        ("localhost/devices/other", false),
        ("localhost/twins", false),
        ("elsewhere/devices/lobby", false),
    ] {
        let token = sas::sign(
            audience,
            &policy.keys.primary,
            in_an_hour(),
            Some(&policy.name),
        );
        let mut peer = Peer::dial(&hub).await;
        let login = ("localhost/lobby/?api-version=2021-04-12".to_owned(), token);
        let code = peer
            .log_in("lobby", &login, true)
            .await
            .map(|(code, _)| code);
        let expected = if opens {
            ConnectReturnCode::Success
        } else {
            ConnectReturnCode::NotAuthorized
        };
        assert_eq!(code, Some(expected), "{audience}");
    }
}

#[tokio::test]
async fn an_invalid_device_id_is_rejected_with_its_return_code() {
    let hub = TestHub::start().await;
    let key = SharedAccessKey::from_bytes(&[9; 32]).unwrap();
    let mut peer = Peer::dial(&hub).await;
    let answer = peer
        .log_in("no such id", &login("no such id", &key, in_an_hour()), true)
        .await;
    assert_eq!(answer, Some((ConnectReturnCode::BadClientId, false)));
    assert!(peer.is_closed().await);
}

#[tokio::test]
async fn a_connection_ends_when_its_first_packet_is_not_connect() {
    let hub = TestHub::start().await;
    for packet in [
        Packet::PingReq,
        Packet::Disconnect,
        Packet::Subscribe({
            let mut subscribe = Subscribe::new("$iothub/twin/res/#", QoS::AtMostOnce);
            subscribe.pkid = 1;
            subscribe
        }),
        Packet::Publish(Publish::new(
            "devices/d/messages/events/",
            QoS::AtMostOnce,
            "x",
        )),
    ] {
        let mut peer = Peer::dial(&hub).await;
        peer.send(&packet).await;
        assert!(peer.is_closed().await, "{packet:?}");
    }
}

/// The only test that waits for one of the hub's real deadlines, ten seconds: nothing else shows
/// that it works.
#[tokio::test]
async fn a_client_that_sends_no_connect_is_disconnected() {
    let hub = TestHub::start().await;
    let mut silent = Peer::dial(&hub).await;
    let mut begun = Peer::dial(&hub).await;
    begun.send_bytes(&[0x10, 0x20, 0x00, 0x04, b'M']).await;
    let (silent, begun) = tokio::join!(silent.is_closed(), begun.is_closed());
    assert!(silent && begun);
}

#[tokio::test]
async fn a_connection_idle_for_one_and_a_half_times_its_keep_alive_is_closed() {
    let hub = TestHub::start().await;
    let key = hub.add_device("silent").await;
    let mut peer = Peer::dial(&hub).await;
    let mut connect = Connect::new("silent");
    connect.keep_alive = 1;
    let (user, password) = login("silent", &key, in_an_hour());
    connect.set_login(user, password);
    let began = std::time::Instant::now();
    peer.send(&Packet::Connect(connect)).await;
    assert!(matches!(
        peer.next().await,
        Some(Packet::ConnAck(ack)) if ack.code == ConnectReturnCode::Success
    ));
    assert!(peer.is_closed().await);
    assert!(
        began.elapsed().as_millis() >= 1_500,
        "closed after {:?}",
        began.elapsed()
    );
    eventually("the twin shows it", || async {
        (hub.get("/twins/silent").await.body["connectionState"] == "Disconnected").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_token_is_valid_until_five_minutes_after_its_expiry_and_then_its_connection_ends() {
    let hub = TestHub::start().await;
    let key = hub.add_device("lobby").await;
    let now = in_an_hour() - 3600;
    let mut peer = Peer::dial(&hub).await;
    let answer = peer
        .log_in("lobby", &login("lobby", &key, now - 290), true)
        .await;
    assert_eq!(answer, Some((ConnectReturnCode::Success, false)));
    assert!(peer.is_closed().await);
    let mut late = Peer::dial(&hub).await;
    let answer = late
        .log_in("lobby", &login("lobby", &key, now - 290), true)
        .await;
    assert_eq!(answer, Some((ConnectReturnCode::NotAuthorized, false)));
}

#[tokio::test]
async fn accepts_each_tls_1_2_cipher_suite_that_clients_use() {
    let hub = TestHub::start().await;
    let provider = rustls::crypto::ring::default_provider();
    let suites: Vec<_> = provider
        .cipher_suites
        .iter()
        .filter(|suite| suite.tls13().is_none())
        .filter(|suite| format!("{:?}", suite.suite()).contains("_ECDSA_"))
        .copied()
        .collect();
    assert!(suites.len() >= 3, "{suites:?}");
    for suite in suites {
        let only = rustls::crypto::CryptoProvider {
            cipher_suites: vec![suite],
            ..provider.clone()
        };
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(only))
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(roots(hub.hub.ca_file()))
            .with_no_client_auth();
        let tcp = TcpStream::connect(hub.hub.mqtt_address()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let opened = TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await;
        assert!(opened.is_ok(), "{:?}: {opened:?}", suite.suite());
    }
}

#[tokio::test]
async fn modules_and_provisioning_are_rejected_at_connect() {
    let hub = TestHub::start().await;
    let key = hub.add_device("d1").await;
    for (client_id, user) in [
        ("d1/m1", "localhost/d1/m1/?api-version=2021-04-12"),
        ("d1", "0ne00000000/registrations/d1/api-version=2019-03-31"),
    ] {
        let mut peer = Peer::dial(&hub).await;
        let login = (user.to_owned(), token("d1", &key));
        assert_eq!(
            peer.log_in(client_id, &login, true).await,
            Some((ConnectReturnCode::NotAuthorized, false)),
            "{user}"
        );
        assert!(peer.is_closed().await);
    }
}

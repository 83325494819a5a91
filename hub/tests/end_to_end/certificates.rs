//! Devices that authenticate with certificates, on the same port as those with tokens.

use std::sync::Arc;
use std::time::Duration;

use doorfleet_testing::{TestHub, eventually, in_an_hour, roots};
use iothub_protocol::sas::{self, SharedAccessKey};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, Incoming, MqttOptions,
    Transport,
};
use rustls::SupportedProtocolVersion;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::version::{TLS12, TLS13};
use serde_json::{Value, json};

/// A device certificate and its key.
struct DeviceCertificate {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

impl DeviceCertificate {
    fn new() -> Self {
        Self::self_signed(&named("a"))
    }

    fn self_signed(parameters: &CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        Self {
            chain: vec![certificate.into()],
            key,
        }
    }

    fn signed_by(common_name: &str, issuer: &Authority, between: &[&Authority]) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = named(common_name).signed_by(&key, issuer).unwrap();
        let mut chain = vec![certificate.into()];
        chain.extend(between.iter().map(|certificate| certificate.der().clone()));
        Self { chain, key }
    }

    fn thumbprint(&self, algorithm: &'static ring::digest::Algorithm) -> String {
        let digest = ring::digest::digest(algorithm, &self.chain[0]);
        let hex = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
        hex.collect()
    }

    fn sha256(&self) -> String {
        self.thumbprint(&ring::digest::SHA256)
    }
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn named(common_name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters
        .distinguished_name
        .push(DnType::CommonName, common_name);
    parameters
}

fn authority_parameters(common_name: &str) -> CertificateParams {
    let mut parameters = named(common_name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters
}

fn authority() -> Authority {
    let key = KeyPair::generate().unwrap();
    Authority::self_signed(authority_parameters("builder"), key).unwrap()
}

async fn register(hub: &TestHub, id: &str, authentication: Value) {
    let body = json!({ "deviceId": id, "authentication": authentication });
    let made = hub.put(&format!("/devices/{id}"), body).await;
    assert_eq!(made.status, 200, "{}", made.body);
}

fn thumbprints(primary: Option<&str>, secondary: Option<&str>) -> Value {
    json!({
        "type": "selfSigned",
        "x509Thumbprint": { "primaryThumbprint": primary, "secondaryThumbprint": secondary },
    })
}

/// A TLS configuration that trusts the hub and sends `badge`, if any.
fn client_tls(
    hub: &TestHub,
    badge: Option<&DeviceCertificate>,
    version: &'static SupportedProtocolVersion,
) -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots(hub.hub.ca_file()));
    match badge {
        Some(badge) => {
            let key = PrivatePkcs8KeyDer::from(badge.key.serialize_der());
            tls.with_client_auth_cert(badge.chain.clone(), key.into())
                .unwrap()
        }
        None => tls.with_no_client_auth(),
    }
}

/// Connects as `id` with a certificate, a password, both or neither; returns the code of CONNACK.
async fn connect(
    hub: &TestHub,
    id: &str,
    badge: Option<&DeviceCertificate>,
    password: &str,
    version: &'static SupportedProtocolVersion,
) -> (ConnectReturnCode, EventLoop) {
    let tls = client_tls(hub, badge, version);
    let mut options = MqttOptions::new(id, "localhost", hub.hub.mqtt_address().port());
    options.set_credentials(format!("localhost/{id}/?api-version=2021-04-12"), password);
    options.set_transport(Transport::tls_with_config(tls.into()));
    let (_, mut events) = AsyncClient::new(options, 16);
    let code = match tokio::time::timeout(Duration::from_secs(20), events.poll()).await {
        Ok(Ok(Event::Incoming(Incoming::ConnAck(connack)))) => connack.code,
        Ok(Err(ConnectionError::ConnectionRefused(code))) => code,
        other => panic!("no CONNACK: {other:?}"),
    };
    (code, events)
}

/// The code of CONNACK for a connection with `badge` only.
async fn code(hub: &TestHub, id: &str, badge: &DeviceCertificate) -> ConnectReturnCode {
    connect(hub, id, Some(badge), "", &TLS13).await.0
}

/// Waits until the hub ends the connection.
async fn ended(mut events: EventLoop) {
    let ended = async { while events.poll().await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(20), ended)
        .await
        .unwrap();
}

fn token(id: &str, key: &SharedAccessKey) -> String {
    sas::sign(&format!("localhost/devices/{id}"), key, in_an_hour(), None)
}

#[tokio::test]
async fn accepts_a_registered_thumbprint_over_tls_1_2_and_1_3() {
    let hub = TestHub::start().await;
    let (first, second) = (DeviceCertificate::new(), DeviceCertificate::new());
    let sha1 = second.thumbprint(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    register(
        &hub,
        "lobby",
        thumbprints(Some(&first.sha256()), Some(&sha1)),
    )
    .await;
    for version in [&TLS12, &TLS13] {
        for badge in [&first, &second] {
            let (code, _) = connect(&hub, "lobby", Some(badge), "", version).await;
            assert_eq!(code, ConnectReturnCode::Success, "{version:?}");
        }
    }
    let twin = hub.get("/twins/lobby").await.body;
    assert_eq!(twin["authenticationType"], "selfSigned");
    let shown = &twin["x509Thumbprint"];
    assert_eq!(shown["primaryThumbprint"], first.sha256().to_uppercase());
    assert_eq!(shown["secondaryThumbprint"], sha1.to_uppercase());
    let device = hub.get("/devices/lobby").await.body;
    assert_eq!(device["authentication"]["type"], "selfSigned");
    assert_eq!(&device["authentication"]["x509Thumbprint"], shown);
}

#[tokio::test]
async fn wrong_credentials_are_not_authorized() {
    let hub = TestHub::start().await;
    let (own, other) = (DeviceCertificate::new(), DeviceCertificate::new());
    register(&hub, "badge", thumbprints(Some(&own.sha256()), None)).await;
    register(&hub, "none", json!({ "type": "none" })).await;
    let key = hub.add_device("token").await;
    for (what, id, badge, password) in [
        ("another certificate", "badge", Some(&other), String::new()),
        ("no certificate", "badge", None, String::new()),
        ("a token", "badge", None, token("badge", &key)),
        ("a token beside", "badge", Some(&own), token("badge", &key)),
        ("a certificate", "token", Some(&own), String::new()),
        ("nothing", "token", None, String::new()),
        ("a certificate", "none", Some(&own), String::new()),
        ("a token", "none", None, token("none", &key)),
    ] {
        for version in [&TLS12, &TLS13] {
            let (code, _) = connect(&hub, id, badge, &password, version).await;
            assert_eq!(code, ConnectReturnCode::NotAuthorized, "{what} for {id}");
        }
    }
    // A device with keys may send a certificate as well; it is ignored.
    let password = token("token", &key);
    let (code, _) = connect(&hub, "token", Some(&own), &password, &TLS13).await;
    assert_eq!(code, ConnectReturnCode::Success);
}

#[tokio::test]
async fn a_disabled_device_cannot_connect_with_its_certificate() {
    let hub = TestHub::start().await;
    let own = DeviceCertificate::self_signed(&named("badge"));
    let by_thumbprint = thumbprints(Some(&own.sha256()), None);
    register(&hub, "badge", by_thumbprint.clone()).await;
    let (code, _open) = connect(&hub, "badge", Some(&own), "", &TLS13).await;
    assert_eq!(code, ConnectReturnCode::Success);
    hub.update_device(
        "badge",
        json!({ "deviceId": "badge", "status": "disabled", "authentication": by_thumbprint }),
    )
    .await
    .ok();
    let (code, _) = connect(&hub, "badge", Some(&own), "", &TLS13).await;
    assert_eq!(code, ConnectReturnCode::NotAuthorized);
}

#[tokio::test]
async fn a_chain_to_a_trusted_authority_is_valid_only_for_the_device_it_names() {
    let folder = tempfile::tempdir().unwrap();
    let root = authority();
    let between = {
        let key = KeyPair::generate().unwrap();
        Authority::signed_by(authority_parameters("site"), key, &root).unwrap()
    };
    let file = folder.path().join("builder.pem");
    std::fs::write(&file, root.pem()).unwrap();
    let hub = TestHub::start_with(folder, |config| config.device_ca_files = vec![file]).await;
    register(&hub, "lobby", json!({ "type": "certificateAuthority" })).await;
    let twin = hub.get("/twins/lobby").await.body;
    assert_eq!(twin["authenticationType"], "certificateAuthority");
    assert!(twin["x509Thumbprint"]["primaryThumbprint"].is_null());

    use ConnectReturnCode::{NotAuthorized, Success};
    for (what, common_name, issuer, chain, expected) in [
        ("direct", "lobby", &root, &[][..], Success),
        ("indirect", "lobby", &between, &[&between][..], Success),
        ("torn", "lobby", &between, &[], NotAuthorized),
        ("another device's", "gate", &root, &[], NotAuthorized),
        (
            "another issuer's",
            "lobby",
            &authority(),
            &[],
            NotAuthorized,
        ),
    ] {
        let badge = DeviceCertificate::signed_by(common_name, issuer, chain);
        assert_eq!(code(&hub, "lobby", &badge).await, expected, "{what}");
    }
    let (code, _) = connect(&hub, "lobby", None, "", &TLS13).await;
    assert_eq!(code, NotAuthorized);
}

#[tokio::test]
async fn a_change_of_the_thumbprint_ends_the_connection() {
    let hub = TestHub::start().await;
    let (old, new) = (DeviceCertificate::new(), DeviceCertificate::new());
    register(&hub, "lobby", thumbprints(Some(&old.sha256()), None)).await;
    let (connected, events) = connect(&hub, "lobby", Some(&old), "", &TLS13).await;
    assert_eq!(connected, ConnectReturnCode::Success);
    let changed = json!({ "authentication": thumbprints(Some(&new.sha256()), None) });
    hub.update_device("lobby", changed).await.ok();
    ended(events).await;
    assert_eq!(
        code(&hub, "lobby", &old).await,
        ConnectReturnCode::NotAuthorized
    );
    assert_eq!(code(&hub, "lobby", &new).await, ConnectReturnCode::Success);
}

#[tokio::test]
async fn the_connection_ends_when_the_certificate_expires() {
    let hub = TestHub::start().await;
    let mut parameters = named("a");
    parameters.not_after = std::time::SystemTime::now().into();
    parameters.not_after += Duration::from_secs(10);
    let badge = DeviceCertificate::self_signed(&parameters);
    register(&hub, "lobby", thumbprints(Some(&badge.sha256()), None)).await;
    let (connected, events) = connect(&hub, "lobby", Some(&badge), "", &TLS13).await;
    assert_eq!(connected, ConnectReturnCode::Success);
    ended(events).await;
    eventually("the certificate is rejected", || async {
        let code = code(&hub, "lobby", &badge).await;
        (code == ConnectReturnCode::NotAuthorized).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_invalid_thumbprint_is_refused_with_what_was_expected() {
    let hub = TestHub::start().await;
    for bad in ["12ab", &"g".repeat(40), &"a".repeat(41), &"a".repeat(63)] {
        let body = json!({ "deviceId": "x", "authentication": thumbprints(Some(bad), None) });
        let refused = hub.put("/devices/x", body).await;
        let parts = ["primaryThumbprint", bad, "40 or 64 hexadecimal digits"];
        refused.refused(400, "ArgumentInvalid", &parts);
    }
}

#[tokio::test]
async fn invalid_device_authorities_prevent_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.crt");
    let badge = DeviceCertificate::new();
    let leaf = format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &badge.chain[0])
    );
    let many: String = (0..26).map(|_| authority().pem()).collect();
    for (content, expected) in [
        (String::new(), "holds no certificate"),
        (leaf, "not the certificate of an authority"),
        (many, "26 certificates; expected at most 25"),
    ] {
        std::fs::write(&file, content).unwrap();
        let mut config = door_hub::config::HubConfig::loopback(folder.path().join("data"));
        config.device_ca_files = vec![file.clone()];
        let error = door_hub::Hub::start(config).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// The CONNACK to a CONNECT of `lobby` without a password over a WebSocket.
fn connack_over_websocket(
    tls: rustls::ClientConfig,
    address: std::net::SocketAddr,
) -> tungstenite::Message {
    let socket = std::net::TcpStream::connect(address).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let name = "localhost".try_into().unwrap();
    let tls = rustls::ClientConnection::new(Arc::new(tls), name).unwrap();
    let request = "wss://localhost/$iothub/websocket";
    let mut request = tungstenite::client::IntoClientRequest::into_client_request(request).unwrap();
    let protocol = tungstenite::http::HeaderValue::from_static("mqtt");
    request
        .headers_mut()
        .insert("sec-websocket-protocol", protocol);
    let stream = rustls::StreamOwned::new(tls, socket);
    let (mut socket, _) = tungstenite::client(request, stream).unwrap();
    let mut connect = rumqttc::mqttbytes::v4::Connect::new("lobby");
    connect.set_login("localhost/lobby/?api-version=2021-04-12", "");
    let mut packet = bytes::BytesMut::new();
    connect.write(&mut packet).unwrap();
    let packet = tungstenite::Message::binary(packet.freeze());
    socket.send(packet).unwrap();
    socket.read().unwrap()
}

#[tokio::test]
async fn a_certificate_authenticates_a_websocket_on_the_rest_port() {
    let hub = TestHub::start().await;
    let (own, other) = (DeviceCertificate::new(), DeviceCertificate::new());
    register(&hub, "lobby", thumbprints(Some(&own.sha256()), None)).await;
    let address = hub.hub.https_address();
    for (badge, code) in [(Some(&own), 0), (Some(&other), 5), (None, 5)] {
        for version in [&TLS12, &TLS13] {
            let tls = client_tls(&hub, badge, version);
            let received =
                tokio::task::spawn_blocking(move || connack_over_websocket(tls, address));
            let connack = tungstenite::Message::binary(vec![0x20, 2, 0, code]);
            assert_eq!(received.await.unwrap(), connack);
        }
    }
}

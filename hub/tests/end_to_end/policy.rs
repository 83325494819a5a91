//! Access rights: the rights of every route, tokens for one path, and policies that are added and
//! removed while the hub runs and while it is stopped.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use door_hub::identity::{Policy, Rights};
use doorfleet_testing::{Operator, TestHub, answer, eventually, in_an_hour};
use iothub_protocol::connection_string::ServiceConnectionString;
use iothub_protocol::rest::needed_rights;
use iothub_protocol::sas;
use reqwest::header::AUTHORIZATION;
use reqwest::{Method, StatusCode};
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, QoS, Transport};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::program::run_on;

/// The right that each call needs (azure-docs, "Control access to IoT Hub").
fn routes() -> Vec<(Method, &'static str, Rights)> {
    let (read, write, service) = (
        Rights::REGISTRY_READ,
        Rights::REGISTRY_WRITE,
        Rights::SERVICE_CONNECT,
    );
    vec![
        (Method::GET, "/devices", read),
        (Method::GET, "/devices/lobby", read),
        (Method::GET, "/devices/query", read),
        (Method::GET, "/devices/lobby/modules", read),
        (Method::GET, "/jobs", read),
        (Method::GET, "/configurations", read),
        (Method::GET, "/statistics/devices", read),
        (Method::PUT, "/devices/new", write),
        (Method::POST, "/devices", write),
        (Method::POST, "/devices/keys/regenerate", write),
        (Method::DELETE, "/devices/gone", write),
        (Method::GET, "/statistics/service", service),
        (Method::DELETE, "/devices/lobby/commands", service),
        (Method::GET, "/messages/serviceBound/feedback", service),
        (Method::DELETE, "/messages/serviceBound/feedback/1", service),
        (
            Method::POST,
            "/messages/serviceBound/feedback/1/abandon",
            service,
        ),
        (Method::GET, "/twins/lobby", service),
        (Method::PATCH, "/twins/lobby", service),
        (Method::PUT, "/twins/lobby", service),
        (Method::POST, "/twins/lobby/methods", service),
        (Method::POST, "/devices/query", service),
        (Method::PUT, "/jobs/v2/job", service),
        (Method::PUT, "/jobs/v2/query", service),
        (Method::GET, "/jobs/v2/job", service),
        (Method::POST, "/jobs/v2/job/cancel", service),
        (Method::GET, "/jobs/v2/query", service),
        (Method::GET, "/audit", read.union(service)),
        (Method::GET, "/events?follow=false", service),
        (Method::GET, "/metrics", read),
        (Method::GET, "/whoami", Rights::NONE),
        (Method::GET, "/policies", Rights::ALL),
        (Method::GET, "/policies/nobody", Rights::ALL),
        (Method::PUT, "/policies/nobody", Rights::ALL),
        (Method::DELETE, "/policies/nobody", Rights::ALL),
        (Method::POST, "/policies/nobody/rotate", Rights::ALL),
    ]
}

fn token(policy: &Policy, audience: &str) -> String {
    let key = &policy.keys.secondary;
    sas::sign(audience, key, in_an_hour(), Some(&policy.name))
}

/// A valid body for the route.
fn body(method: &Method, path: &str) -> Value {
    match (method, path) {
        (&Method::PUT, "/devices/new") => json!({ "deviceId": "new" }),
        (&Method::POST, "/twins/lobby/methods") => json!({ "methodName": "lock", "payload": null }),
        (&Method::POST, "/devices/query") => json!({ "query": "SELECT * FROM devices" }),
        (&Method::PUT, "/jobs/v2/job") => json!({
            "jobId": "job",
            "type": "scheduleUpdateTwin",
            "updateTwin": { "tags": { "floor": 3 } },
            "queryCondition": "*",
        }),
        _ => json!({}),
    }
}

/// The status of a call with a token.
async fn status(hub: &TestHub, method: &Method, path: &str, token: &str) -> StatusCode {
    let request = hub
        .anonymous(method.clone(), path)
        .header(AUTHORIZATION, token)
        .json(&body(method, path));
    request.send().await.unwrap().status()
}

#[tokio::test]
async fn every_call_needs_exactly_its_rights() {
    let hub = TestHub::start().await;
    let key = hub.add_device("lobby").await;
    let device = sas::sign("localhost/devices/lobby", &key, in_an_hour(), None);
    for (method, path, needed) in routes() {
        let (route, _) = path.split_once('?').unwrap_or((path, ""));
        // What clients take from a refusal.
        let named = match needed_rights(method.as_str(), route) {
            "" => Rights::NONE,
            named => named.parse().unwrap(),
        };
        assert_eq!(named, needed, "{method} {path}");
        for name in [
            "iothubowner",
            "service",
            "device",
            "registryRead",
            "registryReadWrite",
        ] {
            let policy = hub.hub.policy(name).unwrap();
            let code = status(&hub, &method, path, &token(&policy, "localhost")).await;
            let refused = code == StatusCode::UNAUTHORIZED;
            let allowed = policy.rights.contains(needed);
            assert_eq!(refused, !allowed, "{method} {path} by {name}: {code}");
        }
        let code = status(&hub, &method, path, &device).await;
        assert_eq!(
            code,
            StatusCode::UNAUTHORIZED,
            "{method} {path} by a device"
        );
        let anonymous = hub.anonymous(method.clone(), path);
        assert_eq!(
            anonymous.send().await.unwrap().status(),
            StatusCode::UNAUTHORIZED,
            "{method} {path} by nobody"
        );
    }
}

/// The start of the response to a request whose body is announced but never sent.
async fn first_words(hub: &TestHub, method: &Method, path: &str, head: &str) -> String {
    let socket = TcpStream::connect(hub.hub.https_address()).await.unwrap();
    let mut stream = TlsConnector::from(Arc::new(hub.tls.clone()))
        .connect("localhost".try_into().unwrap(), socket)
        .await
        .unwrap();
    let head = format!(
        "{method} {path}?api-version=2021-04-12 HTTP/1.1\r\nHost: localhost\r\n{head}\
         Expect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut words = [0; "HTTP/1.1 401".len()];
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_exact(&mut words));
    read.await.unwrap().unwrap();
    String::from_utf8_lossy(&words).into_owned()
}

#[tokio::test]
async fn an_unauthorised_request_is_rejected_before_its_body_is_requested() {
    let hub = TestHub::start().await;
    let powerless_policy = hub.hub.policy("device").unwrap();
    let powerless = format!(
        "Authorization: {}\r\n",
        token(&powerless_policy, "localhost")
    );
    let owner = format!("Authorization: {}\r\n", hub.owner_token());
    for (method, path, needed) in routes() {
        if needed == Rights::NONE {
            continue;
        }
        for authorization in [powerless.as_str(), ""] {
            // Each of these heads is also invalid for another reason.
            for length in ["Content-Length: 99999999\r\n", "Content-Length: 5\r\n", ""] {
                let head = format!("{authorization}{length}If-Match: \"\r\n");
                let words = first_words(&hub, &method, path, &head).await;
                assert_eq!(words, "HTTP/1.1 401", "{method} {path} {length}");
            }
        }
    }
    // The hub requests the body from an authorised caller.
    for (method, path) in [(Method::POST, "/devices"), (Method::POST, "/devices/query")] {
        let head = format!("{owner}Content-Length: 5\r\n");
        let words = first_words(&hub, &method, path, &head).await;
        assert_eq!(words, "HTTP/1.1 100", "{path}");
    }
}

#[tokio::test]
async fn a_token_for_a_path_is_valid_only_below_it() {
    let hub = TestHub::start().await;
    hub.add_device("lobby").await;
    let owner = hub.hub.policy("iothubowner").unwrap();
    for (audience, beneath) in [
        ("localhost/twins", "/twins"),
        ("localhost/twins/lobby", "/twins/lobby"),
        ("localhost/devices", "/devices"),
        ("LOCALHOST/jobs/v2", "/jobs/v2"),
        // Only whole segments count as a prefix.
        ("localhost/twin", "/twin/"),
    ] {
        let token = token(&owner, audience);
        for (method, path, _) in routes() {
            let code = status(&hub, &method, path, &token).await;
            let covered = path == beneath || path.starts_with(&format!("{beneath}/"));
            let refused = code == StatusCode::UNAUTHORIZED;
            assert_eq!(refused, !covered, "{audience} at {method} {path}: {code}");
        }
    }
}

/// Runs `door-hub policy`, which must succeed and print no key.
fn policy_ok(data: &Path, line: &str) -> String {
    let text = run_on(data, format!("policy {line}")).expect(0).stdout;
    assert!(!text.contains("SharedAccessKey="), "{text}");
    text
}

fn connection_string(path: &Path) -> ServiceConnectionString {
    let mode = std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    std::fs::read_to_string(path).unwrap().parse().unwrap()
}

/// A client that uses the connection string in a file.
fn person(hub: &TestHub, file: &Path) -> Operator {
    let port = hub.hub.mqtt_address().port();
    Operator::new(connection_string(file), port, hub.hub.ca_file())
}

async fn wait_for(person: &Operator, path: &str, wanted: StatusCode) {
    eventually(&format!("{path} answers {wanted}"), || async {
        (person.get(path).await.status == wanted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_running_hub_applies_added_rotated_and_removed_policies() {
    let hub = TestHub::start().await;
    let data = hub.folder.path();
    hub.add_device("lobby").await;
    let text = policy_ok(data, "add alice --rights ServiceConnect,RegistryRead");
    assert!(
        text.contains("alice may RegistryRead, ServiceConnect"),
        "{text}"
    );
    let file = data.join("alice.connection-string");
    assert_eq!(
        connection_string(&file).host_name.as_str(),
        hub.hub.service_connection_string().host_name.as_str()
    );
    let alice = person(&hub, &file);
    wait_for(&alice, "/twins/lobby", StatusCode::OK).await;
    assert_eq!(alice.get("/devices/lobby").await.status, 200);
    let refused = alice.put("/devices/x", json!({ "deviceId": "x" })).await;
    assert_eq!(refused.status, 401);
    assert!(policy_ok(data, "list").contains("alice"));

    // While one key is rotated, the other stays valid.
    let other: PathBuf = data.join("alice.second");
    let second = other.to_str().unwrap();
    policy_ok(data, &format!("show alice --key secondary --out {second}"));
    let by_other = person(&hub, &other);
    policy_ok(data, "rotate alice --key primary --force");
    wait_for(&alice, "/twins/lobby", StatusCode::UNAUTHORIZED).await;
    assert_eq!(by_other.get("/twins/lobby").await.status, 200);
    wait_for(&person(&hub, &file), "/twins/lobby", StatusCode::OK).await;

    policy_ok(data, "remove alice");
    wait_for(&by_other, "/twins/lobby", StatusCode::UNAUTHORIZED).await;
    assert!(!policy_ok(data, "list").contains("alice"));
}

#[tokio::test]
async fn a_running_hub_applies_bounds_from_a_file() {
    let hub = TestHub::start().await;
    let data = hub.folder.path();
    hub.add_device("lobby").await;
    let bounds = r#"{"access":"read","where":"tags.building = '43'"}"#;
    let file = data.join("bounds");
    std::fs::write(&file, bounds).unwrap();
    let line = format!(
        "add guard --rights ServiceConnect --bounds {}",
        file.display()
    );
    let text = policy_ok(data, &line);
    assert!(
        text.contains(&format!("guard may ServiceConnect within {bounds}")),
        "{text}"
    );
    assert!(policy_ok(data, "show guard").contains(bounds));
    let guard = person(&hub, &data.join("guard.connection-string"));
    wait_for(&guard, "/whoami", StatusCode::OK).await;
    assert_eq!(guard.get("/twins/lobby").await.status, 404);
    policy_ok(data, "rotate guard --key secondary --force");
    assert!(
        policy_ok(data, "list").contains(bounds),
        "a new key keeps the bounds"
    );
}

#[tokio::test]
async fn removing_a_policy_disconnects_the_devices_that_used_it() {
    let hub = TestHub::start().await;
    let data = hub.folder.path();
    hub.add_device("lobby").await;
    policy_ok(data, "add installer --rights DeviceConnect");
    let string = connection_string(&data.join("installer.connection-string"));
    let token = sas::sign(
        "localhost/devices",
        &string.key,
        in_an_hour(),
        Some(&string.policy),
    );
    let events = eventually("the hub knows the policy", || async {
        let mut options = MqttOptions::new("lobby", "localhost", hub.hub.mqtt_address().port());
        options.set_credentials("localhost/lobby/?api-version=2021-04-12", &token);
        options.set_transport(Transport::tls_with_config(hub.tls.clone().into()));
        let (client, mut events) = AsyncClient::new(options, 16);
        let event = events.poll().await;
        let connected = matches!(event, Ok(Event::Incoming(Incoming::ConnAck(_))));
        connected.then_some((client, events))
    })
    .await;
    let (client, mut events) = events;
    client
        .subscribe("$iothub/methods/POST/#", QoS::AtMostOnce)
        .await
        .unwrap();
    policy_ok(data, "remove installer");
    let ended = async { while events.poll().await.is_ok() {} };
    tokio::time::timeout(std::time::Duration::from_secs(20), ended)
        .await
        .unwrap();
    assert!(events.poll().await.is_err(), "and it cannot reconnect");
}

#[tokio::test]
async fn policies_can_be_changed_while_the_hub_is_stopped() {
    let hub = TestHub::start().await;
    let folder = hub.folder;
    hub.hub.shutdown().await;
    policy_ok(folder.path(), "add bob --rights registryread");
    policy_ok(folder.path(), "remove registryRead");
    let owner = folder.path().join("service-connection-string");
    let before = std::fs::read_to_string(&owner).unwrap();
    policy_ok(folder.path(), "rotate iothubowner --key primary");
    assert_ne!(std::fs::read_to_string(&owner).unwrap(), before);

    let hub = TestHub::start_in(folder).await;
    let mut string = connection_string(&hub.folder.path().join("bob.connection-string"));
    // The new hub has another port.
    string.host_name = hub.hub.service_connection_string().host_name.clone();
    let bob = Operator::new(string, hub.hub.mqtt_address().port(), hub.hub.ca_file());
    assert_eq!(bob.get("/devices").await.status, 200);
    assert!(hub.hub.policy("registryRead").is_none());
    let old: ServiceConnectionString = before.parse().unwrap();
    let old = sas::sign("localhost", &old.key, in_an_hour(), Some(&old.policy));
    let request = hub.anonymous(Method::GET, "/devices");
    let refused = answer(request.header(AUTHORIZATION, old)).await;
    assert_eq!(refused.status, 401);
}

#[tokio::test]
async fn invalid_commands_change_nothing_and_name_the_expected_value() {
    let hub = TestHub::start().await;
    let data = hub.folder.path();
    let taken = data.join("taken");
    std::fs::write(&taken, "mine").unwrap();
    let taken = taken.to_str().unwrap();
    let add_x = format!("add x --rights ServiceConnect --out {taken}");
    for (line, expected) in [
        (add_x.as_str(), "use --force to overwrite it"),
        (
            "add service --rights ServiceConnect",
            "policy `service` already exists",
        ),
        ("remove iothubowner", "cannot be removed"),
        ("remove nobody", "there is no policy `nobody`"),
        ("rotate nobody --key primary", "there is no policy `nobody`"),
        (
            "add x --rights RegistryWrite --bounds '{\"access\":\"read\"}'",
            "expected at most RegistryRead and ServiceConnect",
        ),
        (
            "add x --rights ServiceConnect --bounds '{\"access\":\"read\",\"tags\":[\"a\"]}'",
            "the bounds of policy `x` are invalid: access `read`",
        ),
    ] {
        let line = format!("policy {line}");
        run_on(data, line).expect(1).says(&[expected]);
    }
    assert_eq!(std::fs::read_to_string(taken).unwrap(), "mine");
    assert!(!data.join("service.connection-string").exists());
    assert!(!data.join("nobody.connection-string").exists());
    assert!(!policy_ok(data, "list").contains('x'));
    run_on(data, "policy add x --rights Everything").says(&["RegistryRead, RegistryWrite"]);
    for bounds in ["'{\"access\":\"full\"}'", "no-such-file"] {
        let line = format!("policy add x --rights ServiceConnect --bounds {bounds}");
        run_on(data, line).expect(2).says(&["--bounds", "expected"]);
    }
    let empty = tempfile::tempdir().unwrap();
    run_on(empty.path(), "policy list")
        .expect(1)
        .says(&["not the data folder of a hub"]);
}

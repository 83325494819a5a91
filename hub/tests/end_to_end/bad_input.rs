//! Requests that must not be obeyed, and hubs that must not start.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use door_hub::config::HubConfig;
use door_hub::{Hub, StartError};
use iothub_protocol::sas::{self, SharedAccessKey};
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use serde_json::json;

use crate::harness::{TestHub, answer, in_an_hour};

#[tokio::test]
async fn nobody_gets_in_without_a_good_token() {
    let hub = TestHub::start().await;
    let key = hub.add_device("door").await;
    let owner = hub.hub.service_connection_string().clone();
    let host = owner.host_name.as_str();
    let wrong = SharedAccessKey::from_bytes(&[7; 32]).unwrap();
    let signed = |audience: &str, key: &SharedAccessKey, expiry: u64| {
        sas::sign(audience, key, expiry, Some(&owner.policy))
    };
    for (what, token) in [
        ("none", String::new()),
        ("noise", "SharedAccessSignature sr=x".into()),
        ("another scheme", "Bearer abc".into()),
        ("another key", signed(host, &wrong, in_an_hour())),
        ("an expired token", signed(host, &owner.key, 1_000_000_000)),
        (
            "another hub's token",
            signed("elsewhere.example", &owner.key, in_an_hour()),
        ),
        (
            "a device's token",
            sas::sign(&format!("{host}/devices/door"), &key, in_an_hour(), None),
        ),
    ] {
        let mut request = hub.anonymous(Method::GET, "/devices/door");
        if !token.is_empty() {
            request = request.header(AUTHORIZATION, token);
        }
        let refused = answer(request).await;
        assert_eq!(refused.status, 401, "{what}");
        assert!(
            refused.headers["iothub-errorcode"]
                .to_str()
                .unwrap()
                .contains("Unauthorized"),
            "{what}"
        );
        let message = refused.body["Message"].as_str().unwrap();
        assert!(message.starts_with("ErrorCode:"), "{what}: {message}");
    }
    // A token for a part of the hub opens that part and no other.
    let part = signed(&format!("{host}/twins"), &owner.key, in_an_hour());
    assert_eq!(
        answer(
            hub.anonymous(Method::GET, "/twins/door")
                .header(AUTHORIZATION, &part)
        )
        .await
        .status,
        200
    );
    assert_eq!(
        answer(
            hub.anonymous(Method::GET, "/devices/door")
                .header(AUTHORIZATION, &part)
        )
        .await
        .status,
        401
    );
}

#[tokio::test]
async fn health_asks_for_no_token_and_names_the_mqtt_port() {
    let hub = TestHub::start().await;
    let health = answer(hub.anonymous(Method::GET, "/healthz")).await;
    assert_eq!(health.status, 200);
    assert_eq!(health.body["hubName"], "localhost");
    assert_eq!(health.body["mqttPort"], hub.hub.mqtt_address().port());
}

#[tokio::test]
async fn bodies_that_are_malformed_or_too_long_are_refused_and_the_hub_serves_on() {
    let hub = TestHub::start().await;
    hub.add_device("door").await;
    let send = |body: Vec<u8>| answer(hub.request(Method::PATCH, "/twins/door").body(body));
    for body in [" ", "{", "[]", "{\"tags\":7}", "\u{0}"] {
        let refused = send(body.into()).await;
        assert_eq!(refused.status, 400, "{body:?}: {}", refused.body);
        assert!(
            refused.body["Message"]
                .as_str()
                .unwrap()
                .starts_with("ErrorCode:"),
            "{body:?}"
        );
    }
    let deep = format!(
        "{{\"tags\":{}1{}}}",
        "{\"a\":".repeat(5000),
        "}".repeat(5000)
    );
    assert_eq!(send(deep.into_bytes()).await.status, 400);
    let long = send(vec![b' '; 300 * 1024]).await;
    assert_eq!(long.status, 413);
    assert!(long.headers.contains_key("iothub-errorcode"));
    assert_eq!(hub.get("/twins/door").await.body["version"], 2);
}

#[tokio::test]
async fn what_is_not_there_and_what_cannot_be_done_are_errors_like_others() {
    let hub = TestHub::start().await;
    let code = |headers: &HeaderMap| headers["iothub-errorcode"].to_str().unwrap().to_owned();
    let nothing = hub.get("/nothing").await;
    assert_eq!(
        (nothing.status.as_u16(), code(&nothing.headers)),
        (404, "GenericNotFound".into())
    );
    let not_allowed = hub.send(Method::DELETE, "/twins/door", None).await;
    assert_eq!(
        (not_allowed.status.as_u16(), code(&not_allowed.headers)),
        (405, "GenericMethodNotAllowed".into())
    );
    let without_length = answer(hub.request(Method::PUT, "/devices/door")).await;
    assert_eq!(without_length.status, 411);
    assert!(
        without_length.body["Message"]
            .as_str()
            .unwrap()
            .contains("Content-Length")
    );
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_flag() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut config = HubConfig::loopback(folder.path().to_owned());
    config.https_address.set_port(port);
    let error = Hub::start(config).await.err().unwrap();
    assert!(matches!(error, StartError::PortInUse { .. }));
    let said = error.to_string();
    assert!(
        said.contains(&port.to_string()) && said.contains("--https-port"),
        "{said}"
    );
}

#[tokio::test]
async fn a_second_hub_on_the_same_data_does_not_start() {
    let hub = TestHub::start().await;
    let error = Hub::start(HubConfig::loopback(hub.folder.path().to_owned()))
        .await
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("another door-hub is running"),
        "{error}"
    );
    assert_eq!(
        hub.get("/statistics/devices").await.status,
        200,
        "the first one serves on"
    );
}

#[tokio::test]
async fn secrets_are_for_their_owner_alone() {
    let hub = TestHub::start().await;
    for file in [
        "service-connection-string",
        "ca.key",
        "server.key",
        "hub.db",
    ] {
        let mode = std::fs::metadata(hub.folder.path().join(file))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{file} {mode:o}");
    }
}

#[tokio::test]
async fn a_policy_may_do_what_it_says_and_no_more() {
    let hub = TestHub::start().await;
    hub.add_device("door").await;
    let host = hub
        .hub
        .service_connection_string()
        .host_name
        .as_str()
        .to_owned();
    let policy = hub.hub.policy("registryRead").unwrap();
    let token = sas::sign(
        &host,
        &policy.keys.secondary,
        in_an_hour(),
        Some(&policy.name),
    );
    let send =
        |method: Method, path: &str| hub.anonymous(method, path).header(AUTHORIZATION, &token);
    assert_eq!(answer(send(Method::GET, "/devices/door")).await.status, 200);
    for refused in [
        answer(send(Method::PUT, "/devices/new").json(&json!({}))).await,
        answer(send(Method::DELETE, "/devices/door")).await,
        answer(send(Method::GET, "/twins/door")).await,
        answer(
            send(Method::POST, "/devices/query").json(&json!({ "query": "SELECT * FROM devices" })),
        )
        .await,
    ] {
        assert_eq!(refused.status, 401, "{}", refused.body);
        assert_eq!(
            refused.headers["iothub-errorcode"],
            "IotHubUnauthorizedAccess"
        );
    }
    assert_eq!(hub.get("/devices/door").await.status, 200);
}

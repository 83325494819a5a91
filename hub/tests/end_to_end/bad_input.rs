//! Invalid requests are rejected, and a hub does not start with invalid input.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use door_hub::config::HubConfig;
use door_hub::{Hub, StartError};
use doorfleet_testing::{Answer, TestHub, answer, in_an_hour};
use iothub_protocol::sas::{self, SharedAccessKey};
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

#[tokio::test]
async fn rejects_requests_without_a_valid_token() {
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
    // A token for a part of the API grants access to that part only.
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

/// Every integer member of a request body: path and member.
const INTEGERS: [(&str, &str); 6] = [
    ("/twins/nobody/methods", "responseTimeoutInSeconds"),
    ("/twins/nobody/methods", "timeoutInSeconds"),
    ("/twins/nobody/methods", "connectTimeoutInSeconds"),
    ("/jobs/v2/", "cloudToDeviceMethod.responseTimeoutInSeconds"),
    ("/jobs/v2/", "cloudToDeviceMethod.connectTimeoutInSeconds"),
    ("/jobs/v2/", "maxExecutionTimeInSeconds"),
];

/// Sends a request with `value` as the integer member, and returns the response.
async fn with_integer(hub: &TestHub, (path, member): (&str, &str), value: &Value) -> Answer {
    let call = json!({ "methodName": "lockDoor", "payload": "30" });
    if !path.starts_with("/jobs") {
        let mut body = call;
        body[member] = value.clone();
        return hub.post(path, body).await;
    }
    let mut job = json!({
        "type": "scheduleDeviceMethod",
        "cloudToDeviceMethod": call,
        "queryCondition": "*",
        "startTime": "2099-01-01T00:00:00Z",
    });
    match member.split_once('.') {
        Some((outer, inner)) => job[outer][inner] = value.clone(),
        None => job[member] = value.clone(),
    }
    let number = hub
        .get("/jobs/v2/query")
        .await
        .body
        .as_array()
        .unwrap()
        .len();
    hub.put(&format!("{path}job-{number}"), job).await
}

#[tokio::test]
async fn an_integer_in_a_body_may_be_a_string() {
    let hub = TestHub::start().await;
    for pointer in INTEGERS {
        for value in [
            json!(30),
            json!("30"),
            json!(" 30 "),
            json!("+30"),
            json!(null),
        ] {
            let taken = with_integer(&hub, pointer, &value).await;
            // A call that was parsed fails because there is no such device.
            let expected = if pointer.0.starts_with("/jobs") {
                200
            } else {
                404
            };
            assert_eq!(
                taken.status, expected,
                "{pointer:?} {value}: {}",
                taken.body
            );
        }
        for value in [
            json!("30s"),
            json!(""),
            json!("30.0"),
            json!("0x1e"),
            json!(30.5),
            json!(true),
            json!([30]),
            json!({ "seconds": 30 }),
            json!("-1"),
            json!("99999999999999999999"),
        ] {
            let refused = with_integer(&hub, pointer, &value).await;
            let message = refused.body["Message"].as_str().unwrap();
            assert_eq!(refused.status, 400, "{pointer:?} {value}: {message}");
            let member = pointer.1.rsplit('.').next().unwrap().to_lowercase();
            let named = message.to_lowercase().contains(&member);
            assert!(named, "{pointer:?} {value}: {message}");
            assert_no_rust_terms(message);
        }
    }
}

fn assert_no_rust_terms(message: &str) {
    let words = message.split(|c: char| !c.is_alphanumeric());
    for word in words {
        let rust = [
            "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f64", "usize",
        ];
        let names = [
            "struct", "enum", "Wire", "Option", "Vec", "variant", "tuple",
        ];
        let found = rust.iter().chain(&names).any(|name| *name == word);
        assert!(!found, "{word}: {message}");
    }
}

/// Each member of each body is sent with other types.
#[tokio::test]
async fn a_type_error_is_reported_without_rust_terms() {
    let hub = TestHub::start().await;
    hub.add_device("door").await;
    let sas = json!({ "type": "sas", "symmetricKey": {}, "x509Thumbprint": {} });
    let call =
        json!({ "methodName": "m", "responseTimeoutInSeconds": 30, "connectTimeoutInSeconds": 0 });
    let twin = json!({ "tags": {}, "properties": { "desired": {} } });
    let job = json!({
        "jobId": "job",
        "type": "scheduleDeviceMethod",
        "cloudToDeviceMethod": call,
        "updateTwin": twin,
        "queryCondition": "*",
        "startTime": "2099-01-01T00:00:00Z",
        "maxExecutionTimeInSeconds": 60,
    });
    let device =
        json!({ "deviceId": "d", "status": "enabled", "statusReason": "", "authentication": sas });
    let mut item = device.clone();
    for (member, value) in [
        ("id", "d"),
        ("importMode", "create"),
        ("eTag", "*"),
        ("twinETag", "*"),
    ] {
        item[member] = json!(value);
    }
    item["tags"] = json!({});
    item["properties"] = json!({ "desired": {} });
    for (method, path, body) in [
        (Method::POST, "/twins/door/methods", call),
        (Method::PATCH, "/twins/door", twin),
        (Method::PUT, "/jobs/v2/job", job),
        (Method::PUT, "/devices/d", device),
        (Method::POST, "/devices", json!([item])),
        (
            Method::POST,
            "/devices/query",
            json!({ "query": "SELECT * FROM devices" }),
        ),
    ] {
        let mut refused = 0;
        for pointer in pointers(&body) {
            for wrong in [
                json!(7.5),
                json!("x"),
                json!(true),
                json!([1]),
                json!({ "a": 1 }),
            ] {
                let mut body = body.clone();
                *body.pointer_mut(&pointer).unwrap() = wrong;
                let answer = answer(hub.request(method.clone(), path).json(&body)).await;
                assert_no_rust_terms(&answer.body.to_string());
                refused += u32::from(answer.status == 400);
            }
        }
        assert!(refused >= 4, "{path}: {refused} bodies were refused");
    }
}

/// JSON pointers to all members, at any depth, and to the whole value.
fn pointers(value: &Value) -> Vec<String> {
    let members: Vec<(String, &Value)> = match value {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (name.clone(), value))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, value)| (index.to_string(), value))
            .collect(),
        _ => Vec::new(),
    };
    let below = members.into_iter().flat_map(|(name, value)| {
        pointers(value)
            .into_iter()
            .map(move |pointer| format!("/{name}{pointer}"))
    });
    std::iter::once(String::new()).chain(below).collect()
}

#[tokio::test]
async fn rejects_malformed_and_oversized_bodies() {
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
async fn unknown_paths_and_methods_are_azure_errors() {
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
async fn an_error_for_a_port_in_use_names_its_flag() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut config = HubConfig::loopback(folder.path().to_owned());
    config.https_address.set_port(port);
    let error = Hub::start(config).await.err().unwrap();
    assert!(matches!(error, StartError::PortInUse { .. }));
    let message = error.to_string();
    assert!(
        message.contains(&port.to_string()) && message.contains("--https-port"),
        "{message}"
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
        "the first hub keeps serving"
    );
}

#[tokio::test]
async fn secret_files_are_private() {
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

/// Serialisers write 0 or an empty text for a member that is not set.
#[tokio::test]
async fn a_zero_or_empty_member_counts_as_missing() {
    let hub = TestHub::start().await;
    let job = |member: &str, value: Value| {
        let mut job = json!({
            "type": "scheduleUpdateTwin",
            "updateTwin": { "etag": "*", "tags": {} },
            "queryCondition": "*",
        });
        job[member] = value;
        job
    };
    for (number, job) in [
        job("maxExecutionTimeInSeconds", json!(0)),
        job("maxExecutionTimeInSeconds", json!("0")),
        job("startTime", json!("")),
        job("jobId", json!("")),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("job-{number}");
        hub.put(&format!("/jobs/v2/{id}"), job.clone()).await.ok();
        let made = hub.job(&id, &["completed", "failed"]).await;
        assert_eq!(made["status"], "completed", "{job}: {made}");
        assert_eq!(made["maxExecutionTimeInSeconds"], 3600, "{job}");
    }
    for (number, body) in [
        json!({ "deviceId": "" }),
        json!({ "status": "", "statusReason": "" }),
        json!({ "authentication": { "type": "" } }),
        json!({ "authentication": { "symmetricKey": { "primaryKey": "", "secondaryKey": "" } } }),
    ]
    .into_iter()
    .enumerate()
    {
        let made = hub.put(&format!("/devices/d{number}"), body).await.ok();
        let state = json!([made["status"], made["authentication"]["type"]]);
        assert_eq!(state, json!(["enabled", "sas"]));
    }
    let item = json!([{ "id": "bulk", "importMode": "", "eTag": "", "twinETag": "" }]);
    hub.post("/devices", item).await.ok();
}

/// What the hub answers to these bytes on a connection of its own: status line and headers, in
/// lower case.
async fn answer_to(hub: &TestHub, sent: &str) -> String {
    let socket = TcpStream::connect(hub.hub.https_address()).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let tls = TlsConnector::from(Arc::new(hub.tls.clone()));
    let mut stream = tls.connect(name, socket).await.unwrap();
    stream.write_all(sent.as_bytes()).await.unwrap();
    let mut answer = String::new();
    while !answer.contains("\r\n\r\n") {
        let mut bytes = [0; 4096];
        let read = tokio::time::timeout(Duration::from_secs(30), stream.read(&mut bytes));
        let count = read.await.unwrap().unwrap();
        assert!(count > 0, "the hub closes after {answer:?}");
        answer += &String::from_utf8_lossy(&bytes[..count]).to_lowercase();
    }
    answer
}

/// Each row: the request, its status, and whether the response announces that the connection ends.
#[tokio::test]
async fn a_response_before_the_body_announces_the_end_of_the_connection() {
    let hub = TestHub::start().await;
    let token = format!("Authorization: {}\r\n", hub.owner_token());
    let version = "?api-version=2021-04-12";
    for (line, token, length, body, status, closes) in [
        ("PUT /devices/x", "", 200_000, "{", 401, true),
        ("PUT /nothing", token.as_str(), 200_000, "{", 404, true),
        ("PUT /devices/x", &token, 9_999_999, "{", 413, true),
        ("PUT /devices/x", &token, 2, "{}", 200, false),
        ("GET /devices", &token, 0, "", 200, false),
        ("GET /devices", "", 0, "", 401, false),
    ] {
        let headers = format!("Host: localhost\r\n{token}Content-Length: {length}\r\n");
        let head = format!("{line}{version} HTTP/1.1\r\n{headers}\r\n{body}");
        let answer = answer_to(&hub, &head).await;
        let expected = format!("http/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{line}: {answer}");
        let announced = answer.contains("connection: close\r\n");
        assert_eq!(announced, closes, "{line} {status}: {answer}");
    }
}

#[tokio::test]
async fn a_request_has_one_host_and_one_token() {
    let hub = TestHub::start().await;
    let token = format!("Authorization: {}\r\n", hub.owner_token());
    let host = "Host: localhost\r\n";
    for (version, headers, status) in [
        ("1.1", format!("{host}{token}"), 200),
        ("1.1", format!("{host}{token}{token}"), 400),
        (
            "1.1",
            format!("{host}{token}Authorization: Bearer x\r\n"),
            400,
        ),
        ("1.1", token.clone(), 400),
        ("1.1", format!("{host}{host}{token}"), 400),
        ("1.0", token.clone(), 200),
    ] {
        let head = format!("GET /devices?api-version=1 HTTP/{version}\r\n{headers}\r\n");
        let answer = answer_to(&hub, &head).await;
        let found = answer.split(' ').nth(1).unwrap();
        assert_eq!(found, status.to_string(), "{version} {headers}: {answer}");
    }
}

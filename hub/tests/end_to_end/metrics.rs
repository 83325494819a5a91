//! The metrics, and monitoring.

use std::time::Duration;

use doorfleet_testing::{Device, TestHub, answer, eventually};
use reqwest::Method;
use reqwest::header::AUTHORIZATION;
use serde_json::json;

use crate::program::run_on;

/// The value of a line of `/metrics`, read by the owner.
async fn value(hub: &TestHub, line: &str) -> Option<f64> {
    let answer = hub.get("/metrics").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(
        answer.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    let text = answer.body.as_str().unwrap();
    let found = text
        .lines()
        .find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    found.map(|number| number.parse().unwrap())
}

pub(crate) async fn wait_for(hub: &TestHub, line: &str, expected: f64) {
    eventually(&format!("{line} is {expected}"), || async {
        (value(hub, line).await == Some(expected)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn metrics_count_work_and_show_state() {
    let hub = TestHub::start().await;
    let key = hub.add_device("door").await;
    let device = hub.subscriber("door", &key, "$iothub/methods/POST/#").await;
    device
        .publish("devices/door/messages/events/", "12345")
        .await;
    let device = device.answer_methods(200);
    let call = json!({ "methodName": "lock", "payload": null });
    hub.post("/twins/door/methods", call.clone()).await;
    hub.post("/twins/nobody/methods", call).await;
    let job = json!({
        "jobId": "later", "type": "scheduleUpdateTwin", "startTime": "2099-01-01T00:00:00Z",
        "updateTwin": { "tags": { "a": 1 } }, "queryCondition": "*",
    });
    hub.put("/jobs/v2/later", job).await;
    hub.get("/nothing/here").await;
    let anonymous = hub.anonymous(Method::GET, "/devices");
    assert_eq!(answer(anonymous).await.status, 401);
    let mut unknown = Device::dial(&hub, "unknown", &key);
    unknown.refused().await;

    wait_for(
        &hub,
        "door_hub_connections_total{proof=\"device_key\"}",
        1.0,
    )
    .await;
    wait_for(&hub, "door_hub_connected_devices", 1.0).await;
    wait_for(&hub, "door_hub_telemetry_bytes_total", 5.0).await;
    wait_for(&hub, "door_hub_jobs{status=\"scheduled\"}", 1.0).await;
    for line in [
        "door_hub_ready",
        "door_hub_telemetry_messages_total",
        "door_hub_method_calls_total{by=\"api\",outcome=\"answered\"}",
        "door_hub_method_seconds_count",
        "door_hub_tokens_refused_total{reason=\"missing\"}",
        "door_hub_connections_refused_total{reason=\"unknown_device\"}",
        concat!(
            "door_hub_http_requests_total",
            "{method=\"POST\",route=\"/twins/{id}/methods\",status=\"404\"}",
        ),
        "door_hub_http_requests_total{method=\"GET\",route=\"none\",status=\"404\"}",
        "door_hub_http_requests_total{method=\"GET\",route=\"/devices\",status=\"401\"}",
    ] {
        assert_eq!(value(&hub, line).await, Some(1.0), "{line}");
    }
    let expiry = value(&hub, "door_hub_certificate_not_after_seconds").await;
    assert_eq!(expiry, Some(hub.hub.certificate_not_after() as f64));
    assert!(value(&hub, "door_hub_commit_seconds_count").await > Some(3.0));
    assert!(value(&hub, "door_hub_database_bytes").await > Some(4096.0));
    assert!(value(&hub, "door_hub_events").await > Some(2.0));

    drop(device);
    wait_for(&hub, "door_hub_disconnections_total{reason=\"lost\"}", 1.0).await;
    wait_for(&hub, "door_hub_connected_devices", 0.0).await;
}

/// The status of `/healthz`, and its problem.
async fn healthz(hub: &TestHub) -> (u16, String) {
    let response = answer(hub.anonymous(Method::GET, "/healthz")).await;
    let problem = response.body["problem"].as_str().unwrap_or_default();
    (response.status.as_u16(), problem.to_owned())
}

#[tokio::test]
async fn every_counter_starts_at_0() {
    let hub = TestHub::start().await;
    hub.get("/devices").await;
    for line in [
        "door_hub_connections_total{proof=\"certificate\"}",
        "door_hub_connections_refused_total{reason=\"credentials\"}",
        "door_hub_disconnections_total{reason=\"slow_consumer\"}",
        "door_hub_tokens_refused_total{reason=\"signature\"}",
        "door_hub_method_calls_total{by=\"job\",outcome=\"not_online\"}",
        "door_hub_http_requests_total{method=\"GET\",route=\"/devices\",status=\"500\"}",
        "door_hub_jobs{status=\"running\"}",
        "door_hub_telemetry_messages_total",
    ] {
        assert_eq!(value(&hub, line).await, Some(0.0), "{line}");
    }
}

/// Monitoring must work whatever happens to the database of a running hub.
#[tokio::test]
async fn monitoring_does_not_need_the_disk() {
    type Harm = fn(&rusqlite::Connection);
    // The fault, whether writes still succeed, and whether the hub is ready.
    let harms: [(&str, Harm, bool, bool); 4] = [
        ("nothing", |_| {}, true, true),
        (
            "its tables cannot be read",
            |database| {
                database.execute_batch("DROP TABLE event_total").unwrap();
            },
            false,
            true,
        ),
        (
            "a write waits",
            |database| database.execute_batch("BEGIN IMMEDIATE").unwrap(),
            false,
            false,
        ),
        (
            "nothing can be committed",
            |database| {
                let full = "CREATE TRIGGER no BEFORE INSERT ON audit \
                    BEGIN SELECT RAISE(ROLLBACK, 'no'); END";
                database.execute_batch(full).unwrap();
            },
            false,
            false,
        ),
    ];
    for (name, harm, writes, is_ready) in harms {
        let hub = TestHub::start().await;
        hub.add_device("door").await;
        assert_eq!(healthz(&hub).await, (200, String::new()));
        let bytes = value(&hub, "door_hub_database_bytes").await;
        let database = rusqlite::Connection::open(hub.folder.path().join("hub.db")).unwrap();
        database.busy_timeout(Duration::from_secs(5)).unwrap();
        harm(&database);
        let writing = hub.put("/devices/other", json!({ "deviceId": "other" }));
        let watching = async {
            let expected = if is_ready { (200, 1.0) } else { (503, 0.0) };
            eventually(&format!("{name}: {expected:?}"), || async {
                let (status, problem) = healthz(&hub).await;
                let ready = value(&hub, "door_hub_ready").await?;
                assert_eq!(status == 200, problem.is_empty(), "{name}: {problem}");
                ((status, ready) == expected).then_some(())
            })
            .await;
        };
        let (written, ()) = tokio::join!(writing, watching);
        assert_eq!(written.status == 200, writes, "{name}: {}", written.body);
        assert!(
            value(&hub, "door_hub_database_bytes").await >= bytes,
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_token_for_metrics_is_valid_only_there() {
    let hub = TestHub::start().await;
    let data = hub.folder.path();
    let token = |name: &str| std::fs::read_to_string(data.join(name)).unwrap();
    let line = "policy token registryRead --path /metrics --bare --days 365";
    let made = run_on(data, line)
        .expect(0)
        .mentions(&["valid for 365 days"]);
    assert!(!format!("{made:?}").contains("sig="), "{made:?}");
    let bare = token("registryRead.token");
    assert!(bare.starts_with("sr=localhost%2Fmetrics&"), "{bare}");
    let get = |path: &'static str, header: String| {
        let request = hub
            .anonymous(Method::GET, path)
            .header(AUTHORIZATION, header);
        async move { answer(request).await.status }
    };
    let header = format!("SharedAccessSignature {bare}");
    assert_eq!(get("/metrics", header.clone()).await, 200);
    assert_eq!(get("/devices", header).await, 401);
    // The file exists.
    run_on(data, line).expect(1);

    let whole = data.join("whole").display().to_string();
    run_on(data, format!("policy token registryRead --out {whole}")).expect(0);
    assert_eq!(get("/devices", token("whole")).await, 200);
    for (flags, expected) in [
        ("registryRead --path metrics", "begins with `/`"),
        ("registryRead --days 0", "1..=3650"),
        ("nobody --days 1", "there is no policy `nobody`"),
    ] {
        run_on(data, format!("policy token {flags}")).mentions(&[expected]);
    }

    let other = hub.policy_token("service", "localhost");
    assert_eq!(get("/metrics", other).await, 401);
}

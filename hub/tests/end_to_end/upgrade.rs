//! The upgrade of a data folder that door-hub 0.1 wrote.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use door_hub::Hub;
use door_hub::config::HubConfig;
use doorfleet_testing::{TestHub, answer};
use reqwest::Method;
use serde_json::Value;

/// A copy of the folder, with the file modes that the hub had set.
fn copy() -> tempfile::TempDir {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/0.1/hub");
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(kept).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        let to = folder.path().join(&name);
        fs::write(&to, fs::read(entry.path()).unwrap()).unwrap();
        let is_public = Path::new(&name).extension().is_some_and(|end| end == "pem");
        let mode = if is_public { 0o644 } else { 0o600 };
        fs::set_permissions(&to, fs::Permissions::from_mode(mode)).unwrap();
    }
    folder
}

/// Keeps records of any age, so that the test does not depend on the date.
fn keep_all(config: &mut HubConfig) {
    config.events.max_days = 100_000;
    config.audit.max_days = 100_000;
}

async fn lines(hub: &TestHub, path: &str) -> Vec<Value> {
    let response = answer(hub.request(Method::GET, path)).await;
    assert_eq!(response.status, 200, "{}", response.body);
    match response.body {
        Value::Array(rows) => rows,
        Value::String(text) => text
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
        one => vec![one],
    }
}

#[tokio::test]
async fn reads_everything_that_0_1_stored() {
    let folder = copy();
    let string = fs::read_to_string(folder.path().join("service-connection-string")).unwrap();
    let hub = TestHub::start_with(folder, keep_all).await;
    let owner = hub.hub.service_connection_string();
    assert!(
        string.contains(&owner.key.to_base64()),
        "the operator's key is the same"
    );
    assert!(hub.hub.policy("alice").is_some());

    let devices = hub.get("/devices").await.body;
    let ids: Vec<_> = devices
        .as_array()
        .unwrap()
        .iter()
        .map(|device| &device["deviceId"])
        .collect();
    assert_eq!(ids, ["lobby", "stairs", "cellar"]);
    let key = "dGVzdCBrZXkgdGVzdCBrZXkgdGVzdCBrZXkgdGVzdCE=";
    assert_eq!(
        devices[0]["authentication"]["symmetricKey"]["primaryKey"],
        key
    );
    assert_eq!(devices[2]["status"], "disabled");
    assert_eq!(devices[2]["statusReason"], "closed for works");
    let twin = hub.get("/twins/lobby").await.body;
    assert_eq!(twin["tags"]["last"], "written before the kill");
    assert_eq!(twin["tags"]["seen"], true);
    assert_eq!(twin["properties"]["desired"]["mode"], "normal");
    assert_eq!(hub.find("properties.desired.floor = 1").await, ["stairs"]);
    assert_eq!(
        hub.find("tags.floor > 0 AND status = 'disabled'").await,
        ["cellar"]
    );

    let done = hub.get("/jobs/v2/done").await.body;
    assert_eq!(done["status"], "completed");
    assert_eq!(done["deviceJobStatistics"]["succeededCount"], 2);
    let unanswered = hub.device_jobs("unanswered").await;
    assert_eq!(unanswered.len(), 3);
    assert!(
        unanswered.iter().all(|row| row["status"] == "failed"),
        "{unanswered:?}"
    );
    let waiting = hub.get("/jobs/v2/waiting").await.body;
    assert_eq!(waiting["status"], "scheduled");
    assert_eq!(waiting["cloudToDeviceMethod"]["methodName"], "lockDoor");

    let events = lines(&hub, "/events?since=2000-01-01T00:00:00Z&follow=false").await;
    for kind in ["device", "twin", "job"] {
        assert!(
            events.iter().any(|event| event["kind"] == kind),
            "{kind}: {events:?}"
        );
    }
    let calls = lines(&hub, "/audit?operation=job.create").await;
    let targets: Vec<_> = calls.iter().map(|call| &call["target"]).collect();
    assert_eq!(targets, ["waiting", "unanswered", "done"]);

    // The hub works on it, and restarts.
    let _door = hub.connect("lobby", &key_of(key), 200).await;
    hub.add_device("new").await;
    let folder = hub.stop().await.folder;
    let again = TestHub::start_with(folder, keep_all).await;
    assert_eq!(again.get("/twins/new").await.status, 200);
    let folder = again.stop().await.folder;

    // The copy from before the upgrade would be a step back.
    let old = copy();
    for name in ["hub.db", "hub.db-wal"] {
        fs::copy(old.path().join(name), folder.path().join(name)).unwrap();
    }
    let refused = Hub::start(HubConfig::loopback(folder.path().to_owned())).await;
    let message = format!("{:#}", anyhow::Error::from(refused.unwrap_err()));
    assert!(message.contains("has lost data"), "{message}");
}

fn key_of(text: &str) -> iothub_protocol::sas::SharedAccessKey {
    iothub_protocol::sas::SharedAccessKey::from_base64(text).unwrap()
}

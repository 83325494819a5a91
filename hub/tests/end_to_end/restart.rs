//! State that survives a killed hub.

use doorfleet_testing::{TestHub, answer, eventually};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::job::{lock, wait_for_doors};

#[tokio::test]
async fn identities_twins_and_keys_survive() {
    let hub = TestHub::start().await;
    let key = hub.add_device("door").await;
    hub.patch("/twins/door", json!({ "tags": { "site": "north" } }))
        .await;
    let _device = hub.connect("door", &key, 200).await;
    let owner = hub.hub.service_connection_string().key.to_base64();
    let authority = std::fs::read(hub.hub.ca_file()).unwrap();

    let hub = hub.restart_after_kill().await;
    assert_eq!(hub.hub.service_connection_string().key.to_base64(), owner);
    assert_eq!(std::fs::read(hub.hub.ca_file()).unwrap(), authority);
    let twin = hub.get("/twins/door").await.body;
    assert_eq!(twin["tags"]["site"], "north");
    assert_eq!(
        twin["connectionState"], "Disconnected",
        "no device is connected to a hub that has just started"
    );
    let _device = hub.connect("door", &key, 200).await;
}

#[tokio::test]
async fn a_call_that_a_killed_hub_had_sent_ends_with_an_unknown_outcome() {
    let hub = TestHub::start().await;
    let key = hub.add_device("door").await;
    let mut door = hub.subscriber("door", &key, "$iothub/methods/POST/#").await;
    let mut job = lock("*", -1000);
    wait_for_doors(&mut job, 60);
    hub.put("/jobs/v2/sent", job).await;
    door.received().await;

    let hub = hub.restart_after_kill().await;
    let job = hub.job("sent", &["completed"]).await;
    assert_eq!(job["deviceJobStatistics"]["failedCount"], 1);
    let rows = hub.device_jobs("sent").await;
    assert_eq!(rows[0]["status"], "failed");
    assert_eq!(rows[0]["error"]["code"], "OutcomeUnknown");
}

#[tokio::test]
async fn a_call_that_a_killed_hub_had_not_sent_is_sent_when_its_door_connects() {
    let hub = TestHub::start().await;
    let key = hub.add_device("door").await;
    let mut job = lock("*", -1000);
    wait_for_doors(&mut job, 60);
    hub.put("/jobs/v2/waits", job).await;
    hub.job("waits", &["running"]).await;

    let hub = hub.restart_after_kill().await;
    let _door = hub.connect("door", &key, 200).await;
    let job = hub.job("waits", &["completed", "failed"]).await;
    assert_eq!(job["deviceJobStatistics"]["succeededCount"], 1, "{job}");
}

#[tokio::test]
async fn a_job_missed_by_more_than_its_maximum_execution_time_fails() {
    let hub = TestHub::start().await;
    hub.add_device("door").await;
    hub.put("/jobs/v2/missed", lock("*", 3_600_000)).await.ok();
    let folder = hub.stop().await.folder;
    let database = rusqlite::Connection::open(folder.path().join("hub.db")).unwrap();
    let sql = "UPDATE job SET created = '2026-01-01T00:00:00Z', start = '2026-01-01T00:00:00Z'";
    assert_eq!(database.execute(sql, []).unwrap(), 1);
    drop(database);
    let hub = TestHub::start_in(folder).await;
    let job = hub.job("missed", &["failed", "completed"]).await;
    assert_eq!(job["status"], "failed");
    assert!(
        job["failureReason"]
            .as_str()
            .unwrap()
            .contains("execution time of 60 s had passed"),
        "{job}"
    );
}

#[tokio::test]
async fn healthz_reports_a_failing_store_until_it_recovers() {
    let hub = TestHub::start().await;
    let healthz = || async {
        let answer = answer(hub.anonymous(Method::GET, "/healthz")).await;
        (answer.status, answer.body)
    };
    let (status, well) = healthz().await;
    assert_eq!(status, 200, "{well}");
    assert_eq!(well["hubName"], "localhost");
    assert_eq!(well["mqttPort"], hub.hub.mqtt_address().port());
    assert!(well.get("problem").is_none(), "{well}");

    // Another process locks the database for longer than a transaction waits.
    let path = hub.folder.path().join("hub.db");
    let other = rusqlite::Connection::open(path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = hub
        .put("/devices/door", json!({ "deviceId": "door" }))
        .await;
    assert_eq!(refused.status, 500, "{}", refused.body);
    let (status, ill) = healthz().await;
    assert_eq!(status, 503);
    assert_eq!(
        ill["problem"],
        "the database cannot be written; the hub's log says why"
    );

    other.execute_batch("ROLLBACK").unwrap();
    eventually("the hub can write again", || async {
        (healthz().await == (StatusCode::OK, well.clone())).then_some(())
    })
    .await;
    hub.add_device("door").await;
}

#[tokio::test]
async fn healthz_reports_a_database_file_that_cannot_be_reached() {
    let hub = TestHub::start().await;
    let hub = &hub;
    let status = |expected: u16| {
        eventually("healthz has another status", move || async move {
            let answer = answer(hub.anonymous(Method::GET, "/healthz")).await;
            (answer.status == expected).then_some(answer.body)
        })
    };
    status(200).await;
    let path = hub.folder.path().join("hub.db");
    let elsewhere = hub.folder.path().join("elsewhere.db");
    std::fs::rename(&path, &elsewhere).unwrap();
    let ill = status(503).await;
    let problem = ill["problem"].as_str().unwrap();
    assert!(problem.contains("check the data folder"), "{ill}");
    std::fs::rename(&elsewhere, &path).unwrap();
    status(200).await;
}

//! Jobs with devices that answer.

use doorfleet_testing::{TestHub, answer, eventually, texts};
use iothub_protocol::sas::SharedAccessKey;
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

/// A method job that starts in `start_ms` milliseconds.
pub(crate) fn lock(condition: &str, start_ms: i64) -> Value {
    json!({
        "type": "scheduleDeviceMethod",
        "cloudToDeviceMethod": { "methodName": "lockDoor", "payload": { "lockTime": "10m" } },
        "queryCondition": condition,
        "startTime": in_ms(start_ms),
        "maxExecutionTimeInSeconds": 60,
    })
}

/// Lets the calls of a method job wait for doors that are offline.
pub(crate) fn wait_for_doors(job: &mut Value, seconds: u64) {
    for timeout in ["connectTimeoutInSeconds", "responseTimeoutInSeconds"] {
        job["cloudToDeviceMethod"][timeout] = json!(seconds);
    }
}

fn in_ms(milliseconds: i64) -> String {
    (Timestamp::now() + SignedDuration::from_millis(milliseconds)).to_string()
}

async fn door(hub: &TestHub, id: &str, floor: u32) -> SharedAccessKey {
    let key = hub.add_device(id).await;
    hub.set_desired(id, json!({ "floor": floor })).await;
    key
}

#[tokio::test]
async fn a_method_job_reaches_the_doors_of_its_condition_and_counts_them() {
    let hub = TestHub::start().await;
    let (a, b) = (door(&hub, "a", 3).await, door(&hub, "b", 3).await);
    door(&hub, "c", 3).await;
    let other = door(&hub, "other", 4).await;
    let _devices = (
        hub.connect("a", &a, 200).await,
        hub.connect("b", &b, 500).await,
        hub.connect("other", &other, 200).await,
    );

    let created = hub
        .put(
            "/jobs/v2/lock-1?api-version=2021-04-12",
            lock("properties.desired.floor = 3", -1000),
        )
        .await;
    assert_eq!(created.status, 200, "{}", created.body);
    assert_eq!(
        created.body,
        json!({ "jobId": "lock-1", "type": "scheduleDeviceMethod", "status": "queued" })
    );

    let job = hub.job("lock-1", &["completed", "failed"]).await;
    assert_eq!(job["status"], "completed");
    assert_eq!(
        job["deviceJobStatistics"],
        json!({
            "deviceCount": 3, "failedCount": 1, "succeededCount": 2,
            "runningCount": 0, "pendingCount": 0,
        })
    );
    assert_eq!(job["cloudToDeviceMethod"]["methodName"], "lockDoor");
    assert!(job["endTime"].is_string());

    let rows = hub.device_jobs("lock-1").await;
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0]["status"], "completed");
    assert_eq!(
        rows[0]["outcome"],
        json!({ "deviceMethodResponse": { "status": 200, "payload": { "lockTime": "10m" } } })
    );
    assert_eq!(
        rows[1]["status"], "completed",
        "any answer completes the row, whatever its status"
    );
    assert_eq!(rows[1]["outcome"]["deviceMethodResponse"]["status"], 500);
    assert_eq!(rows[2]["status"], "failed");
    assert_eq!(rows[2]["error"]["code"], "DeviceNotOnline");
    for (condition, found) in [
        ("jobId = 'lock-1' AND status = 'failed'", 1),
        ("devices.jobs.outcome.deviceMethodResponse.status = 500", 1),
        (
            "devices.jobs.deviceId = 'a' AND jobType = 'scheduleDeviceMethod'",
            1,
        ),
        ("outcome.deviceMethodResponse.payload.lockTime = '10m'", 2),
        ("error.code = 'DeviceNotOnline'", 1),
        (
            "endTimeUtc > '2020-01-01T00:00:00Z' AND createdTimeUtc < '2020'",
            0,
        ),
    ] {
        let query = format!("SELECT * FROM devices.jobs WHERE {condition}");
        let answer = hub.query(&query).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.body);
        assert_eq!(answer.body.as_array().unwrap().len(), found, "{query}");
    }
    assert_eq!(
        rows[2]["error"]["description"],
        "Timed out waiting for device to connect."
    );
}

#[tokio::test]
async fn a_door_that_connects_within_the_connect_timeout_is_called() {
    let hub = TestHub::start().await;
    let key = door(&hub, "late", 3).await;
    let mut job = lock("*", -1000);
    wait_for_doors(&mut job, 30);
    hub.put("/jobs/v2/patient", job).await;
    hub.job("patient", &["running"]).await;
    let _device = hub.connect("late", &key, 200).await;
    hub.job("patient", &["completed"]).await;
    assert_eq!(hub.device_jobs("patient").await[0]["status"], "completed");
}

#[tokio::test]
async fn a_door_created_again_under_its_id_does_not_get_the_call_for_its_predecessor() {
    let hub = TestHub::start().await;
    door(&hub, "door", 3).await;
    let mut job = lock("*", -1000);
    wait_for_doors(&mut job, 60);
    hub.put("/jobs/v2/patient", job).await;
    eventually("the call waits for its door", || async {
        (hub.device_jobs("patient").await.first()?["status"] == "pending").then_some(())
    })
    .await;
    let deleted = hub.send(Method::DELETE, "/devices/door", None).await;
    assert_eq!(deleted.status, 204);
    let key = hub.add_device("door").await;
    let mut again = hub.subscriber("door", &key, "$iothub/methods/POST/#").await;

    let job = hub.job("patient", &["completed", "failed"]).await;
    assert_eq!(job["deviceJobStatistics"]["failedCount"], 1, "{job}");
    let rows = hub.device_jobs("patient").await;
    assert_eq!(rows[0]["error"]["code"], "DeviceNotFound");
    // The first call that it receives is its own.
    let call = hub.post("/twins/door/methods", json!({ "methodName": "openDoor" }));
    let (topic, _) = tokio::select! {
        received = again.received() => received,
        answer = call => panic!("nobody has answered: {}", answer.body),
    };
    assert!(
        topic.starts_with("$iothub/methods/POST/openDoor/"),
        "{topic}"
    );
}

#[tokio::test]
async fn a_twin_job_changes_every_selected_twin() {
    let hub = TestHub::start().await;
    for id in ["a", "b"] {
        door(&hub, id, 1).await;
    }
    let job = json!({
        "type": "scheduleUpdateTwin",
        "updateTwin": {
            "etag": "*",
            "deviceId": null,
            "properties": { "desired": { "building": 43 }, "reported": {} },
            "tags": { "x": 1 },
        },
        "queryCondition": "deviceId IN ['a', 'b', 'nobody']",
        "startTime": null,
        "maxExecutionTimeInSeconds": 20,
    });
    assert_eq!(hub.put("/jobs/v2/twins", job).await.status, 200);
    let job = hub.job("twins", &["completed", "failed"]).await;
    assert_eq!(job["deviceJobStatistics"]["succeededCount"], 2);
    assert_eq!(
        hub.find("properties.desired.building = 43 AND tags.x = 1")
            .await,
        ["a", "b"]
    );
    let rows = hub.device_jobs("twins").await;
    assert_eq!(rows[0]["outcome"], json!({ "deviceMethodResponse": null }));
}

#[tokio::test]
async fn a_future_job_is_queued_then_scheduled_and_selects_its_devices_at_its_start() {
    let hub = TestHub::start().await;
    door(&hub, "first", 3).await;
    let later = lock("properties.desired.floor = 3", 8_000);
    let created = hub.put("/jobs/v2/later", later).await;
    assert_eq!(created.body["status"], "queued");
    hub.job("later", &["scheduled"]).await;
    door(&hub, "second", 3).await;
    let job = hub.job("later", &["completed"]).await;
    assert_eq!(job["deviceJobStatistics"]["deviceCount"], 2);
}

#[tokio::test]
async fn a_job_can_be_cancelled_before_it_starts_but_not_after() {
    let hub = TestHub::start().await;
    hub.add_device("door").await;
    hub.put("/jobs/v2/later", lock("*", 3_600_000)).await;
    let cancel = |id: &str| answer(hub.request(Method::POST, &format!("/jobs/v2/{id}/cancel")));
    let cancelled = cancel("later").await;
    assert_eq!(cancelled.status, 200, "{}", cancelled.body);
    assert_eq!(cancelled.body["status"], "cancelled");
    assert_eq!(hub.get("/jobs/v2/later").await.body["status"], "cancelled");

    let mut waiting = lock("*", -1000);
    wait_for_doors(&mut waiting, 60);
    hub.put("/jobs/v2/now", waiting).await;
    hub.job("now", &["running"]).await;
    let late = cancel("now").await;
    let reason = "Job cannot be cancelled in 'Running' status.";
    late.refused(405, "OperationNotAllowedInCurrentState", &[reason]);
    let unknown = cancel("nothing").await;
    unknown.refused(404, "JobNotFound", &[]);
}

#[tokio::test]
async fn a_job_with_an_invalid_condition_is_accepted_and_fails_with_the_position() {
    let hub = TestHub::start().await;
    let created = hub
        .put("/jobs/v2/bad", lock("SELECT * FROM devices", 3_600_000))
        .await;
    assert_eq!(created.status, 200);
    let job = hub.job("bad", &["failed"]).await;
    let reason = job["failureReason"].as_str().unwrap();
    assert!(
        reason.starts_with("SQL query parse failed due to following errors: Line 1:1 "),
        "{reason}"
    );
}

#[tokio::test]
async fn an_invalid_job_document_is_rejected_at_once() {
    let hub = TestHub::start().await;
    let method = "cloudToDeviceMethod";
    let timeout = json!({ "methodName": "lockDoor", "responseTimeoutInSeconds": 4 });
    for (member, value, fragment) in [
        ("type", json!("scheduleTwinUpdate"), "scheduleTwinUpdate"),
        (method, timeout, "responseTimeoutInSeconds"),
        (method, Value::Null, "cloudToDeviceMethod"),
        ("startTime", json!("tomorrow"), "tomorrow"),
        ("queryCondition", Value::Null, "queryCondition"),
        ("jobId", json!("another"), "another"),
    ] {
        let mut job = lock("*", 3_600_000);
        job[member] = value;
        let refused = hub.put("/jobs/v2/wrong", job).await;
        assert_eq!(refused.status, 400, "{member}: {}", refused.body);
        let message = refused.body["Message"].as_str().unwrap();
        assert!(message.contains(fragment), "{message}");
    }
    assert_eq!(hub.get("/jobs/v2/wrong").await.status, 404);
}

#[tokio::test]
async fn a_job_id_is_used_once_and_lists_are_filtered_in_any_case_and_paged() {
    let hub = TestHub::start().await;
    for id in ["one", "two", "three"] {
        let job = lock("*", 3_600_000);
        hub.put(&format!("/jobs/v2/{id}"), job).await.ok();
    }
    let again = hub.put("/jobs/v2/one", lock("*", 0)).await;
    again.refused(409, "JobAlreadyExists", &[]);

    let ids = |body: &Value| texts(body, "jobId");
    let filter = "/jobs/v2/query?jobType=ScheduleDeviceMethod&api-version=2021-04-12";
    let listed = hub.get(filter).await;
    assert_eq!(listed.headers["x-ms-item-type"], "JobResponse");
    assert_eq!(ids(&listed.body), ["three", "two", "one"], "newest first");
    assert_eq!(
        hub.get("/jobs/v2/query?jobStatus=completed").await.body,
        json!([])
    );
    assert_eq!(
        hub.get("/jobs/v2/query?jobStatus=Sleeping").await.status,
        400
    );

    let first = answer(
        hub.request(Method::GET, filter)
            .header("x-ms-max-item-count", "2"),
    )
    .await;
    assert_eq!(ids(&first.body), ["three", "two"]);
    let token = first.headers["x-ms-continuation"].to_str().unwrap();
    let second = hub
        .get(&format!("{filter}&pageSize=2&continuationToken={token}"))
        .await;
    assert_eq!(ids(&second.body), ["one"]);
    assert!(!second.headers.contains_key("x-ms-continuation"));
}

#[tokio::test]
async fn a_job_that_the_store_rejects_does_not_delay_other_jobs() {
    let hub = TestHub::start().await;
    let _key = door(&hub, "lobby", 3).await;
    let database = rusqlite::Connection::open(hub.folder.path().join("hub.db")).unwrap();
    database
        .execute_batch(
            "CREATE TRIGGER refuse BEFORE UPDATE ON job WHEN NEW.job_id = 'stuck' \
             BEGIN SELECT RAISE(ABORT, 'refused'); END",
        )
        .unwrap();
    assert_eq!(hub.put("/jobs/v2/stuck", lock("*", 0)).await.status, 200);
    assert_eq!(hub.put("/jobs/v2/next", lock("*", 0)).await.status, 200);
    let job = hub.job("next", &["completed", "failed"]).await;
    assert_eq!(job["status"], "completed", "{job}");
    assert_eq!(
        hub.job("stuck", &["queued", "scheduled"]).await["jobId"],
        "stuck"
    );
}

#[tokio::test]
async fn a_job_ends_at_its_maximum_execution_time_and_unreached_devices_have_failed() {
    let hub = TestHub::start().await;
    let _key = door(&hub, "away", 3).await;
    let mut job = lock("*", 0);
    wait_for_doors(&mut job, 300);
    job["maxExecutionTimeInSeconds"] = json!(5);
    assert_eq!(hub.put("/jobs/v2/short", job).await.status, 200);
    let job = hub.job("short", &["completed", "failed"]).await;
    assert_eq!(job["status"], "completed", "{job}");
    assert_eq!(job["deviceJobStatistics"]["failedCount"], 1);
    let rows = hub.device_jobs("short").await;
    assert_eq!(rows[0]["error"]["code"], "DeviceNotOnline", "{rows:?}");
}

//! Jobs that are stopped while they run, and hubs that stop while jobs run.

use std::sync::Arc;

use doorfleet_testing::{Answer, TestHub, answer, eventually};
use reqwest::Method;
use serde_json::json;

use crate::job::{lock, wait_for_doors};

const METHODS: &str = "$iothub/methods/POST/#";

async fn stop(hub: &TestHub, id: &str) -> Answer {
    answer(hub.request(Method::POST, &format!("/jobs/v2/{id}/cancel?stop=true"))).await
}

/// A job for all devices, which waits a minute for the offline ones.
async fn patient_job(hub: &TestHub, id: &str) {
    let mut job = lock("*", -1000);
    wait_for_doors(&mut job, 60);
    assert_eq!(hub.put(&format!("/jobs/v2/{id}"), job).await.status, 200);
}

async fn rows(hub: &TestHub, id: &str, status: &str) -> usize {
    let rows = hub.device_jobs(id).await;
    rows.iter().filter(|row| row["status"] == status).count()
}

#[tokio::test]
async fn a_stopped_job_sends_no_more_calls_and_stores_the_answers_to_the_sent_ones() {
    let hub = TestHub::start().await;
    let here = hub.add_device("here").await;
    let late = hub.add_device("late").await;
    let mut device = hub.subscriber("here", &here, METHODS).await;
    patient_job(&hub, "lock").await;
    let (topic, _) = device.received().await;

    let stopping = stop(&hub, "lock").await;
    assert_eq!(stopping.status, 200, "{}", stopping.body);
    eventually("the waiting call is cancelled", || async {
        (rows(&hub, "lock", "canceled").await == 1).then_some(())
    })
    .await;
    let job = hub.get("/jobs/v2/lock").await.body;
    assert_eq!(job["status"], "running", "one answer is still missing");
    assert!(
        job["statusMessage"].as_str().unwrap().contains("stopped"),
        "{job}"
    );
    assert_eq!(stop(&hub, "lock").await.status, 200, "stop may be repeated");

    let rid = topic.split("$rid=").nth(1).unwrap();
    let answer_topic = format!("$iothub/methods/res/200/?$rid={rid}");
    device.publish(&answer_topic, "{}").await;
    let _device = device.answer_methods(200);
    let job = hub.job("lock", &["cancelled", "completed", "failed"]).await;
    assert_eq!(job["status"], "cancelled");
    assert!(job["endTime"].is_string() && job.get("statusMessage").is_none());
    assert_eq!(
        job["deviceJobStatistics"],
        json!({
            "deviceCount": 2, "failedCount": 0, "succeededCount": 1,
            "runningCount": 0, "pendingCount": 0,
        })
    );
    let records = hub.device_jobs("lock").await;
    assert_eq!(records[0]["status"], "completed");
    assert_eq!(records[1]["status"], "canceled");
    for absent in ["startTimeUtc", "outcome", "error"] {
        assert!(records[1].get(absent).is_none(), "{}", records[1]);
    }

    // The late device receives another call first: the job's call was never sent.
    let mut late = hub.subscriber("late", &late, METHODS).await;
    let hub = Arc::new(hub);
    let other = tokio::spawn({
        let hub = Arc::clone(&hub);
        async move {
            hub.post("/twins/late/methods", json!({ "methodName": "other" }))
                .await
        }
    });
    let (topic, _) = late.received().await;
    assert!(topic.contains("/other/"), "{topic}");
    other.abort();

    let again = stop(&hub, "lock").await;
    again.refused(405, "OperationNotAllowedInCurrentState", &[]);
}

#[tokio::test]
async fn stop_is_true_or_false_and_cancels_a_job_that_has_not_started() {
    let hub = TestHub::start().await;
    hub.put("/jobs/v2/later", lock("*", 3_600_000)).await;
    let wrong = answer(hub.request(Method::POST, "/jobs/v2/later/cancel?stop=now")).await;
    assert_eq!(wrong.status, 400, "{}", wrong.body);
    let cancelled = stop(&hub, "later").await;
    assert_eq!(cancelled.status, 200);
    assert_eq!(cancelled.body["status"], "cancelled");
    assert_eq!(stop(&hub, "nothing").await.status, 404);
}

#[tokio::test]
async fn a_stop_survives_a_killed_hub() {
    let hub = TestHub::start().await;
    let here = hub.add_device("here").await;
    hub.add_device("late").await;
    let mut device = hub.subscriber("here", &here, METHODS).await;
    patient_job(&hub, "lock").await;
    device.received().await;
    assert_eq!(stop(&hub, "lock").await.status, 200);

    let hub = hub.restart_after_kill().await;
    let job = hub.job("lock", &["cancelled", "completed", "failed"]).await;
    assert_eq!(job["status"], "cancelled");
    let records = hub.device_jobs("lock").await;
    assert_eq!(
        records[0]["error"]["code"], "OutcomeUnknown",
        "{}",
        records[0]
    );
}

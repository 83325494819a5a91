//! A staged job that is cancelled by one terminal while another creates it. door-hub gets the call
//! first, then the job that stages.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use doorfleet_testing::{Received, Reply, Server};
use serde_json::{Value, json};

use super::commands::{HEALTH, doorctl};
use super::refusal;

const TWIN: &str = concat!(
    r#"[{"deviceId":"d","etag":"AAAAAAAAAAE=","version":2,"properties":{"desired":{"$version":1},"#,
    r#""reported":{"$version":1,"device":{"features":{"timed":true}}}}}]"#
);

/// The jobs of a hub.
type Jobs = Arc<Mutex<BTreeMap<String, Value>>>;

/// A hub that keeps jobs as they are created; `cancelled` follows the cancellation of one.
async fn hub(
    jobs: &Jobs,
    mut cancelled: impl FnMut(&str, &mut BTreeMap<String, Value>) + Send + 'static,
) -> Server {
    let jobs = Arc::clone(jobs);
    Server::answering(move |request: &Received| {
        let (method, target) = request.line.split_once(' ').unwrap();
        let path = target.split('?').next().unwrap();
        let mut jobs = jobs.lock().unwrap();
        let Some(job) = path.strip_prefix("/jobs/v2/") else {
            return match path {
                "/healthz" => Reply::ok(HEALTH),
                "/devices/query" if request.body.contains("COUNT()") => {
                    Reply::ok(r#"[{"doors":1}]"#)
                }
                "/devices/query" if request.body.contains("devices.jobs") => Reply::ok("[]"),
                "/devices/query" if request.body.contains("SELECT deviceId ") => Reply::ok("[]"),
                "/devices/query" => Reply::ok(TWIN),
                _ => panic!("unexpected request {request:?}"),
            };
        };
        let (id, is_cancel) = match job.strip_suffix("/cancel") {
            Some(id) => (id, true),
            None => (job, false),
        };
        if method == "PUT" {
            let mut job: Value = serde_json::from_str(&request.body).unwrap();
            job["status"] = json!("scheduled");
            jobs.insert(id.to_owned(), job);
            if id == "night-stage" {
                cancelled("night", &mut jobs);
            }
        }
        if is_cancel {
            jobs.get_mut(id).unwrap()["status"] = json!("cancelled");
            cancelled(id, &mut jobs);
        }
        match jobs.get(id) {
            Some(job) => Reply::ok(&job.to_string()),
            None => Reply::status(404, &refusal("JobNotFound")),
        }
    })
    .await
}

fn status(jobs: &Jobs, id: &str) -> Value {
    jobs.lock().unwrap()[id]["status"].clone()
}

#[tokio::test]
async fn a_call_that_was_cancelled_before_its_staging_takes_that_with_it() {
    let jobs = Jobs::default();
    let server = hub(&jobs, |id, jobs| {
        jobs.get_mut(id).unwrap()["status"] = json!("cancelled");
    })
    .await;
    let lock = ["jobs", "lock", "d", "--id", "night", "--at", "+2h"];
    let output = doorctl(&server, &lock).await;
    let printed = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4), "{printed}");
    assert!(
        printed.contains("job night was cancelled meanwhile"),
        "{printed}"
    );
    assert_eq!(status(&jobs, "night-stage"), "cancelled");
}

#[tokio::test]
async fn a_cancel_finds_the_staging_that_came_after_the_call() {
    let created = Jobs::default();
    let server = hub(&created, |_, _| {}).await;
    let lock = [
        "jobs",
        "lock",
        "d",
        "--id",
        "night",
        "--at",
        "+2h",
        "--no-wait",
    ];
    let output = doorctl(&server, &lock).await;
    assert!(output.status.success(), "{output:?}");
    let call = created.lock().unwrap()["night"].clone();
    let stage = created.lock().unwrap()["night-stage"].clone();

    let jobs = Jobs::default();
    jobs.lock().unwrap().insert("night".to_owned(), call);
    let server = hub(&jobs, move |id, jobs| {
        if id == "night" {
            jobs.insert("night-stage".to_owned(), stage.clone());
        }
    })
    .await;
    let output = doorctl(&server, &["jobs", "cancel", "night"]).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(status(&jobs, "night"), "cancelled");
    assert_eq!(status(&jobs, "night-stage"), "cancelled");
}

//! The audit record: who changed or commanded what.

use doorfleet_testing::{TestHub, answer};
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, IF_MATCH};
use serde_json::{Value, json};

use crate::program::run_on;

/// The rows that match `filter`, oldest first.
async fn rows(hub: &TestHub, filter: &str) -> Vec<Value> {
    let found = hub
        .get(&format!("/audit?api-version=2021-04-12&{filter}"))
        .await;
    assert_eq!(found.status, 200, "{}", found.body);
    let mut rows = found.body.as_array().unwrap().clone();
    rows.reverse();
    rows
}

fn summary(row: &Value) -> Value {
    json!([
        row["operation"],
        row["target"],
        row["detail"],
        row["status"],
        row["error"]
    ])
}

#[tokio::test]
async fn changes_and_commands_are_recorded_even_if_they_fail() {
    let hub = TestHub::start().await;
    let key = hub.add_device("door").await;
    let _device = hub.connect("door", &key, 200).await;
    let call = json!({ "methodName": "lockDoor", "payload": "secret" });
    hub.post("/twins/door/methods", call.clone()).await;
    hub.post("/twins/nobody/methods", call.clone()).await;
    hub.post("/twins/door/methods", json!([])).await;
    hub.patch("/twins/door", json!({ "tags": { "floor": 1 } }))
        .await;
    hub.put("/twins/door", json!({ "tags": {} })).await;
    let stale = hub.request(Method::PATCH, "/twins/door");
    answer(stale.header(IF_MATCH, "\"c3RhbGU=\"").json(&json!({}))).await;
    let job = json!({
        "jobId": "job",
        "type": "scheduleDeviceMethod",
        "cloudToDeviceMethod": call,
        "queryCondition": "deviceId = 'none'",
    });
    hub.put("/jobs/v2/job", job).await;
    hub.post("/jobs/v2/unknown/cancel", json!({})).await;
    hub.send(Method::DELETE, "/devices/door", None).await;
    // Not recorded:
    hub.get("/twins/door").await;
    hub.query("SELECT * FROM devices").await;
    let stranger = hub.anonymous(Method::DELETE, "/devices/door");
    assert_eq!(answer(stranger).await.status, 401);

    let rows = rows(&hub, "").await;
    let found: Vec<Value> = rows.iter().map(summary).collect();
    let expected = json!([
        ["device.create", "door", null, 200, null],
        ["method.invoke", "door", "lockDoor", 200, null],
        ["method.invoke", "nobody", "lockDoor", 404, "DeviceNotFound"],
        ["method.invoke", "door", null, 400, "ArgumentInvalid"],
        ["twin.update", "door", "tags.floor", 200, null],
        ["twin.replace", "door", "tags", 200, null],
        ["twin.update", "door", null, 412, "PreconditionFailed"],
        [
            "job.create",
            "job",
            "scheduleDeviceMethod lockDoor deviceId = 'none'",
            200,
            null
        ],
        ["job.cancel", "unknown", null, 404, "JobNotFound"],
        ["device.delete", "door", null, 204, null],
    ]);
    assert_eq!(Value::from(found), expected);
    for row in &rows {
        assert_eq!(row["policy"], "iothubowner");
        assert!(
            row["peer"].as_str().unwrap().starts_with("127.0.0.1:"),
            "{row}"
        );
        assert!(!row.to_string().contains("secret"), "{row}");
    }
}

#[tokio::test]
async fn a_rejected_policy_is_recorded_and_cannot_read_the_record() {
    let hub = TestHub::start().await;
    hub.add_device("door").await;
    let token = hub.policy_token("service", "localhost");
    let delete = hub
        .anonymous(Method::DELETE, "/devices/door")
        .header(AUTHORIZATION, &token);
    assert_eq!(answer(delete).await.status, 401);
    let read = hub
        .anonymous(Method::GET, "/audit")
        .header(AUTHORIZATION, &token);
    assert_eq!(answer(read).await.status, 401);
    let rows = rows(&hub, "policy=service").await;
    let found: Vec<Value> = rows.iter().map(summary).collect();
    assert_eq!(
        Value::from(found),
        json!([[
            "device.delete",
            "door",
            null,
            401,
            "IotHubUnauthorizedAccess"
        ]])
    );
}

#[tokio::test]
async fn the_record_is_read_newest_first_in_pages_and_by_filters() {
    let hub = TestHub::start().await;
    for id in ["a", "b", "c", "d", "e"] {
        hub.add_device(id).await;
    }
    hub.patch("/twins/c", json!({ "tags": { "floor": 1 } }))
        .await;
    let mut seen = Vec::new();
    let mut continuation = String::new();
    loop {
        let request = hub.request(Method::GET, "/audit?operation=device.create&top=2");
        let page = answer(request.header("x-ms-continuation", &continuation)).await;
        let targets = page.body.as_array().unwrap().iter();
        seen.extend(targets.map(|row| row["target"].as_str().unwrap().to_owned()));
        // A row that is added between two pages is in neither.
        hub.add_device(&format!("later{}", seen.len())).await;
        match page.headers.get("x-ms-continuation") {
            Some(next) => continuation = next.to_str().unwrap().to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, ["e", "d", "c", "b", "a"]);

    let of_c = rows(&hub, "target=c").await;
    let names: Vec<&Value> = of_c.iter().map(|row| &row["operation"]).collect();
    assert_eq!(names, ["device.create", "twin.update"]);
    let since = of_c[1]["time"].as_str().unwrap();
    let later = rows(&hub, &format!("since={since}")).await;
    assert_eq!(later[0], of_c[1]);
    assert_eq!(hub.get("/audit?since=yesterday").await.status, 400);
    let foreign = hub
        .request(Method::GET, "/audit")
        .header("x-ms-continuation", &continuation);
    assert_eq!(answer(foreign).await.status, 400);
}

#[tokio::test]
async fn a_command_is_stored_before_it_is_sent_and_its_result_before_the_response() {
    let hub = TestHub::start().await;
    let key = hub.add_device("door").await;
    let mut device = hub.subscriber("door", &key, "$iothub/methods/POST/#").await;
    let body = json!({ "methodName": "lockDoor", "payload": null });
    let call = hub.request(Method::POST, "/twins/door/methods");
    let call = tokio::spawn(answer(call.json(&body)));
    let (topic, _) = device.received().await;
    let open = "operation=method.invoke";
    // If the hub is killed now, the row stays like this.
    assert_eq!(
        summary(&rows(&hub, open).await[0]),
        json!(["method.invoke", "door", "lockDoor", null, null])
    );
    let (_, rid) = topic.split_once("$rid=").unwrap();
    let answer_topic = format!("$iothub/methods/res/200/?$rid={rid}");
    device.publish(&answer_topic, "{}").await;
    // rumqttc sends only while it is polled.
    let _device = device.answer_methods(200);
    assert_eq!(call.await.unwrap().status, 200);
    let answered = rows(&hub, open).await;
    assert_eq!(answered[0]["status"], 200);
    let hub = hub.restart_after_kill().await;
    assert_eq!(rows(&hub, open).await, answered);
}

#[tokio::test]
async fn keeps_the_newest_audit_rows_within_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let hub = TestHub::start_with(folder, |config| config.audit.max_rows = 3).await;
    for id in ["a", "b", "c", "d", "e"] {
        hub.add_device(id).await;
    }
    let rows = rows(&hub, "").await;
    let targets: Vec<&Value> = rows.iter().map(|row| &row["target"]).collect();
    assert_eq!(targets, ["c", "d", "e"]);
}

#[tokio::test]
async fn the_command_line_reads_the_record_of_a_running_hub() {
    let hub = TestHub::start().await;
    hub.add_device("lobby").await;
    let tags = json!({ "tags": { "floor": 1 } });
    hub.patch("/twins/lobby", tags.clone()).await;
    hub.patch("/twins/nobody", tags).await;
    let audit = |flags: &str| {
        let line = format!("audit {flags}");
        run_on(hub.folder.path(), line).expect(0).stdout
    };
    let all = audit("-o jsonl --since 1h");
    let all: Vec<Value> = all
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let summaries: Vec<Value> = all.iter().map(summary).collect();
    assert_eq!(
        summaries,
        [
            json!(["device.create", "lobby", null, 200, null]),
            json!(["twin.update", "lobby", "tags.floor", 200, null]),
            json!(["twin.update", "nobody", "tags.floor", 404, "DeviceNotFound"]),
        ]
    );
    let table = audit("--target nobody --policy iothubowner --top 5");
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("TIME"), "{table}");
    assert!(
        lines[1].contains("404 DeviceNotFound") && lines.len() == 2,
        "{table}"
    );
    let line = "audit --operation job.create";
    let none = run_on(hub.folder.path(), line.to_owned()).expect(0);
    assert_eq!(none.stdout, "");
    assert!(
        none.stderr.contains("no entry matches these filters"),
        "{}",
        none.stderr
    );
}

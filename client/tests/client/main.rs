//! The REST client against a scripted server: requests, retries, and how responses are parsed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod clock;
mod registry;

use std::time::{Duration, Instant};

use doorfleet_testing::{Reply, Server, eventually};
use iothub_client::{ClientError, ClientOptions, EventStreamItem, HubClient, ItemType, NewDevice};
use iothub_protocol::event::{EventFilter, EventKind, EventRequest};
use iothub_protocol::job::{JobAction, JobRequest, JobStatus};
use iothub_protocol::method::MethodRequest;
use iothub_protocol::twin::TwinPatch;
use iothub_protocol::{DeviceId, ErrorCode, JobId};
use serde_json::{Value, json};

const TWIN: &str = concat!(
    r#"{"deviceId":"d","etag":"AAAAAAAAAAE=","version":2,"#,
    r#""properties":{"desired":{"$version":1},"reported":{"$version":1}}}"#
);
const DEVICE: &str = r#"{"deviceId":"d","connectionState":"Connected","status":"enabled"}"#;
const JOB: &str = r#"{"jobId":"j","type":"scheduleDeviceMethod","status":"queued"}"#;

/// Clients of a scripted server.
trait Clients {
    fn options(&self) -> ClientOptions;
    fn client_with(&self, options: &ClientOptions) -> HubClient;

    fn client(&self) -> HubClient {
        self.client_with(&self.options())
    }
}

impl Clients for Server {
    fn options(&self) -> ClientOptions {
        ClientOptions {
            ca_pem: Some(self.ca_pem.clone().into_bytes()),
            ..ClientOptions::default()
        }
    }

    fn client_with(&self, options: &ClientOptions) -> HubClient {
        HubClient::new(self.connection_string().parse().unwrap(), options).unwrap()
    }
}

fn device() -> DeviceId {
    "d".parse().unwrap()
}

fn job() -> JobId {
    "j".parse().unwrap()
}

fn lock_all() -> JobRequest {
    JobRequest {
        job_id: Some(job()),
        action: JobAction::Method(MethodRequest::new("lockDoor".parse().unwrap())),
        query_condition: "*".to_owned(),
        start_time: None,
        max_execution_time: Duration::from_secs(60),
    }
}

fn refusal(name: &str) -> String {
    json!({"Message": format!("ErrorCode:{name};so it is"), "ExceptionMessage": ""}).to_string()
}

#[tokio::test]
async fn requests_are_signed_versioned_and_spelled_as_azure_documents() {
    let server = Server::play(vec![
        Reply::ok(DEVICE),
        Reply::ok(DEVICE),
        Reply::ok(TWIN),
        Reply::ok(TWIN),
        Reply::ok(r#"{"status":200,"payload":{"a":1}}"#),
        Reply::ok("[]"),
        Reply::ok(JOB),
        Reply::ok(JOB),
        Reply::ok(JOB),
        Reply::ok("[]"),
        Reply::ok(r#"{"connectedDeviceCount":1}"#),
        Reply::status(204, ""),
    ])
    .await;
    let hub = server.client();
    hub.device_create(&NewDevice::with_generated_keys(device()))
        .await
        .unwrap();
    hub.device(&device()).await.unwrap();
    hub.twin(&device()).await.unwrap();
    hub.twin_patch(&device(), &TwinPatch::default(), Some("AAAAAAAAAAE="))
        .await
        .unwrap();
    hub.invoke(&device(), &MethodRequest::new("getState".parse().unwrap()))
        .await
        .unwrap();
    hub.query::<Value>("SELECT * FROM devices").await.unwrap();
    hub.job_create(&job(), &lock_all()).await.unwrap();
    hub.job(&job()).await.unwrap();
    hub.job_cancel(&job()).await.unwrap();
    hub.jobs(Some(JobStatus::Running)).await.unwrap();
    hub.statistics().await.unwrap();
    hub.device_delete(&device()).await.unwrap();

    let requests = server.requests();
    let lines: Vec<&str> = requests
        .iter()
        .map(|request| request.line.as_str())
        .collect();
    assert_eq!(
        lines,
        [
            "PUT /devices/d?api-version=2021-04-12",
            "GET /devices/d?api-version=2021-04-12",
            "GET /twins/d?api-version=2021-04-12",
            "PATCH /twins/d?api-version=2021-04-12",
            "POST /twins/d/methods?api-version=2021-04-12",
            "POST /devices/query?api-version=2021-04-12",
            "PUT /jobs/v2/j?api-version=2021-04-12",
            "GET /jobs/v2/j?api-version=2021-04-12",
            "POST /jobs/v2/j/cancel?api-version=2021-04-12",
            "GET /jobs/v2/query?api-version=2021-04-12&jobStatus=running",
            "GET /statistics/service?api-version=2021-04-12",
            "DELETE /devices/d?api-version=2021-04-12",
        ]
    );
    let signed = format!(
        "SharedAccessSignature sr=localhost%3A{}&sig=",
        server.port()
    );
    assert!(requests.iter().all(|request| {
        request
            .header("authorization")
            .unwrap()
            .starts_with(&signed)
    }));
    let tokens: std::collections::HashSet<_> = requests
        .iter()
        .map(|request| request.header("authorization"))
        .collect();
    assert_eq!(tokens.len(), 1, "a token is made once per lifetime");
    assert_eq!(requests[3].header("if-match"), Some("\"AAAAAAAAAAE=\""));
    assert_eq!(requests[11].header("if-match"), Some("\"*\""));
    // Azure's front end answers 411 to a cancel without a length.
    assert_eq!(
        (
            requests[8].header("content-length"),
            requests[8].header("content-type")
        ),
        (Some("0"), None)
    );
    let created: Value = serde_json::from_str(&requests[6].body).unwrap();
    assert_eq!(
        created,
        json!({
            "jobId": "j", "type": "scheduleDeviceMethod", "queryCondition": "*",
            "maxExecutionTimeInSeconds": 60,
            "cloudToDeviceMethod": {
                "methodName": "lockDoor", "payload": null,
                "responseTimeoutInSeconds": 30, "connectTimeoutInSeconds": 0,
            },
        })
    );
}

#[tokio::test]
async fn pages_are_read_until_the_continuation_is_missing_or_empty() {
    let server = Server::play(vec![
        Reply::ok("[1,2]")
            .with("x-ms-continuation", "next=")
            .with("x-ms-item-type", "Raw"),
        Reply::ok("[3]")
            .with("x-ms-continuation", "last")
            .with("x-ms-item-type", "Twin"),
        Reply::ok("[4]").with("x-ms-continuation", ""),
    ])
    .await;
    let rows: Vec<u8> = server
        .client()
        .query("SELECT * FROM devices")
        .await
        .unwrap();
    assert_eq!(rows, [1, 2, 3, 4]);
    let requests = server.requests();
    assert_eq!(requests[0].header("x-ms-continuation"), None);
    assert_eq!(requests[1].header("x-ms-continuation"), Some("next="));
    assert_eq!(
        requests[0].body, requests[1].body,
        "the query goes with its token"
    );
    assert!(
        requests
            .iter()
            .all(|request| request.header("x-ms-max-item-count") == Some("100"))
    );

    let server = Server::play(vec![Reply::ok("[]").with("x-ms-item-type", "DeviceJob")]).await;
    let mut pages = server.client().query_pages::<Value>("x").unwrap();
    let page = pages.next().await.unwrap().expect("an empty page is one");
    assert_eq!((page.item_type, page.is_last), (ItemType::DeviceJob, true));
    assert!(pages.next().await.unwrap().is_none());
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn pages_grow_to_the_size_that_the_hub_names() {
    let server = Server::play(vec![
        Reply::ok("[1]")
            .with("x-ms-continuation", "a")
            .with("x-largest-page", "1000"),
        Reply::ok("[2]").with("x-ms-continuation", "b"),
        Reply::ok("[3]"),
    ])
    .await;
    let rows: Vec<u8> = server.client().query("x").await.unwrap();
    assert_eq!(rows, [1, 2, 3]);
    let sizes: Vec<_> = server
        .requests()
        .iter()
        .map(|request| request.header("x-ms-max-item-count").map(str::to_owned))
        .collect();
    assert_eq!(
        sizes,
        [Some("100"), Some("1000"), Some("1000")].map(|it| it.map(str::to_owned))
    );
}

#[tokio::test]
async fn pages_are_requested_ahead_from_the_third_on() {
    let server = Server::play(vec![
        Reply::ok("[1]").with("x-ms-continuation", "a"),
        Reply::ok("[2]").with("x-ms-continuation", "b"),
        Reply::status(400, &refusal("ArgumentInvalid")),
    ])
    .await;
    let mut pages = server.client().query_pages::<u8>("x").unwrap();
    for (row, ahead) in [(1, 1), (2, 3)] {
        let page = pages.next().await.unwrap().expect("a page");
        assert_eq!((page.items, page.is_last), (vec![row], false));
        eventually("a request ahead", async || {
            (server.requests().len() == ahead).then_some(())
        })
        .await;
    }
    let error = pages.next().await.map(|_| ()).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::ArgumentInvalid));
    assert!(pages.next().await.unwrap().is_none());

    let server = Server::play(vec![
        Reply::ok("[true]").with("x-ms-continuation", "a"),
        Reply::ok("[2]"),
    ])
    .await;
    let mut pages = server.client().query_pages::<u8>("x").unwrap();
    let error = pages.next().await.map(|_| ()).unwrap_err();
    assert!(
        matches!(error, ClientError::UnexpectedBody { .. }),
        "{error}"
    );
    assert!(pages.next().await.unwrap().is_none(), "a page was left out");
}

#[tokio::test]
async fn reads_are_retried_when_the_hub_is_busy() {
    let server = Server::play(vec![
        Reply::status(503, &refusal("ServiceUnavailable")),
        Reply::hang_up(),
        Reply::status(429, &refusal("ThrottlingException")).with("retry-after", "1"),
        Reply::ok(TWIN),
    ])
    .await;
    let begun = Instant::now();
    server.client().twin(&device()).await.unwrap();
    assert_eq!(server.requests().len(), 4);
    assert!(
        begun.elapsed() >= Duration::from_secs(1),
        "the hub asked for a second"
    );
}

#[tokio::test]
async fn writes_are_retried_only_after_429() {
    let server = Server::play(vec![
        Reply::status(429, &refusal("ThrottlingException")),
        Reply::ok(JOB),
    ])
    .await;
    server
        .client()
        .job_create(&job(), &lock_all())
        .await
        .unwrap();
    assert_eq!(server.requests().len(), 2);

    for (reply, code) in [
        (
            Reply::status(503, &refusal("ServiceUnavailable")),
            Some(ErrorCode::ServiceUnavailable),
        ),
        (
            Reply::status(429, &refusal("ThrottlingMaxActiveJobCountExceeded")),
            Some(ErrorCode::ThrottlingMaxActiveJobCountExceeded),
        ),
        (Reply::hang_up(), None),
    ] {
        let server = Server::play(vec![reply]).await;
        let error = server
            .client()
            .job_create(&job(), &lock_all())
            .await
            .unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn an_error_keeps_the_message_of_the_hub() {
    let server = Server::play(vec![
        Reply::status(
            404,
            concat!(
                r#"{"Message":"{\"errorCode\":404103,"#,
                r#"\"message\":\"Timed out waiting for device to connect."#,
                r#"\"}","ExceptionMessage":""}"#
            ),
        )
        .with("iothub-errorcode", "DeviceNotOnline"),
    ])
    .await;
    let error = server
        .client()
        .invoke(&device(), &MethodRequest::new("m".parse().unwrap()))
        .await
        .unwrap_err();
    assert_eq!(
        (error.status(), error.code()),
        (Some(404), Some(ErrorCode::DeviceNotOnline))
    );
    assert_eq!(
        error.to_string(),
        "the hub answers 404 DeviceNotOnline: Timed out waiting for device to connect."
    );
}

#[tokio::test]
async fn a_silent_hub_times_out() {
    let server = Server::play(vec![Reply::silence()]).await;
    let hub = server.client_with(&ClientOptions {
        timeout: Duration::from_millis(200),
        ..server.options()
    });
    let error = hub
        .twin_patch(&device(), &TwinPatch::default(), None)
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::TimedOut { .. }), "{error:?}");
}

#[tokio::test]
async fn an_unexpected_body_is_an_error() {
    let server = Server::play(vec![Reply::ok("[]")]).await;
    let error = server.client().twin(&device()).await.unwrap_err();
    assert_eq!(error.to_string(), "the hub's answer is not a twin");
}

#[tokio::test]
async fn a_hub_with_an_untrusted_certificate_is_refused() {
    let server = Server::play(vec![Reply::ok(TWIN)]).await;
    let other = Server::play(vec![]).await;
    let hub = server.client_with(&other.options());
    let error = hub.twin(&device()).await.unwrap_err();
    assert!(
        matches!(
            error,
            ClientError::Unreachable {
                connected: false,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn an_id_that_would_change_the_path_is_refused() {
    let server = Server::play(vec![Reply::ok(TWIN)]).await;
    let hub: HubClient = server.client();
    assert!(matches!(
        hub.twin(&"..".parse().unwrap()).await,
        Err(ClientError::Unaddressable(_))
    ));
    hub.twin(&"a%2f?#b".parse().unwrap()).await.unwrap();
    assert_eq!(
        server.requests()[0].line,
        "GET /twins/a%252f%3F%23b?api-version=2021-04-12"
    );
}

#[tokio::test]
async fn events_are_requested_after_the_last_id_and_read_one_by_one() {
    let stream = concat!(
        ": keep-alive\n\n",
        "event: lost\nid: 6\ndata: {\"from\":5,\"to\":6}\n\n",
        "event: telemetry\nid: 7\ndata: \
         {\"id\":7,\"kind\":\"telemetry\",\"time\":\"2026-11-23T21:00:00.5Z\",",
        "\"deviceId\":\"d\",\"systemProperties\":{},\"properties\":{},",
        "\"body\":{\"big\":123456789012345678901234567890}}\n\n",
        "event: end\ndata: {}\n\n",
        "event: later\nid: 8\ndata: torn",
    );
    let server = Server::play(vec![
        Reply::ok(stream).with("date", "Mon, 23 Nov 2026 21:00:01 GMT"),
        Reply::ok("event: job\ndata: {\n\n"),
        Reply::status(429, &refusal("ThrottlingException")),
    ])
    .await;
    let hub = server.client();
    let request = EventRequest {
        filter: EventFilter {
            device: Some(device()),
            kinds: vec![EventKind::Telemetry, EventKind::Job],
            since: None,
        },
        after: Some(4),
        follow: true,
    };
    let mut events = hub.door_hub_events(&request).await.unwrap();
    assert_eq!(events.begun().unwrap().to_string(), "2026-11-23T21:00:01Z");
    let lost = events.next().await.unwrap().unwrap();
    assert!(matches!(lost, EventStreamItem::Lost { from: 5, to: 6 }));
    let Some(EventStreamItem::Event(event)) = events.next().await.unwrap() else {
        panic!("an event was sent");
    };
    assert_eq!((event.id, event.device_id.as_deref()), (7, Some("d")));
    assert!(event.document.contains("123456789012345678901234567890"));
    let end = events.next().await.unwrap().unwrap();
    assert!(matches!(end, EventStreamItem::End));
    assert!(events.next().await.unwrap().is_none());
    let sent = &server.requests()[0];
    assert_eq!(
        sent.line,
        "GET /events?api-version=2021-04-12&device=d&kind=telemetry%2Cjob"
    );
    assert_eq!(sent.header("last-event-id"), Some("4"));
    assert_eq!(sent.header("accept"), Some("text/event-stream"));

    let all = EventRequest::default();
    let mut torn = hub.door_hub_events(&all).await.unwrap();
    let error = torn.next().await.unwrap_err();
    assert_eq!(error.to_string(), "the hub's answer is not an event");
    // No reconnect by itself: that is up to the caller.
    let refused = hub.door_hub_events(&all).await.unwrap_err();
    assert_eq!(refused.status(), Some(429));
}

//! The event stream as its clients see it.

use std::time::Duration;

use door_hub::policies::Policies;
use doorfleet_testing::{
    Device, Operator, Peer, TestHub, answer, eventually, in_an_hour, login, texts,
};
use iothub_protocol::sas::{self, SharedAccessKey};
use reqwest::Method;
use reqwest::header::AUTHORIZATION;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::ConnectReturnCode;
use serde_json::{Value, json};

/// A reader of `/events`.
pub(crate) struct Reader {
    response: reqwest::Response,
    unread: String,
}

/// One event of the stream.
#[derive(Debug)]
pub(crate) struct StreamEvent {
    name: String,
    /// 0 if it has no id.
    id: i64,
    data: Value,
}

impl Reader {
    pub(crate) async fn open(hub: &Operator, query: &str) -> Self {
        Self::with(hub.request(Method::GET, &format!("/events?{query}"))).await
    }

    async fn with(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            response,
            unread: String::new(),
        }
    }

    /// The next event; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<StreamEvent> {
        loop {
            if let Some((block, rest)) = self.unread.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.unread = rest;
                let field = |name: &str| {
                    let line = block.lines().find_map(|line| line.strip_prefix(name));
                    line.map(str::to_owned)
                };
                let Some(data) = field("data: ") else {
                    continue;
                };
                return Some(StreamEvent {
                    name: field("event: ").unwrap(),
                    id: field("id: ").map_or(0, |id| id.parse().unwrap()),
                    data: serde_json::from_str(&data).unwrap(),
                });
            }
            let chunk = self.response.chunk().await.unwrap()?;
            self.unread.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    pub(crate) async fn expect(&mut self) -> Value {
        self.next().await.expect("the stream goes on").data
    }

    /// All events up to the end, which is an event of its own and the last.
    pub(crate) async fn rest(mut self) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let received = self.next().await.expect("an end event is sent");
            if received.name == "end" {
                assert_eq!((received.id, received.data), (0, json!({})));
                assert!(self.next().await.is_none(), "the end event is the last");
                return all;
            }
            all.push(received.data);
        }
    }
}

/// The stored events of `kind`, oldest first.
pub(crate) async fn stored_events(hub: &Operator, kind: &str) -> Vec<Value> {
    Reader::open(hub, &format!("kind={kind}&after=0&follow=false"))
        .await
        .rest()
        .await
}

async fn device(hub: &TestHub, id: &str) -> (SharedAccessKey, Device) {
    let key = hub.add_device(id).await;
    let device = hub.subscriber(id, &key, "$iothub/twin/res/#").await;
    (key, device)
}

#[tokio::test]
async fn a_sender_cannot_set_the_system_properties_of_a_message() {
    let hub = TestHub::start().await;
    let mut reader = Reader::open(&hub, "kind=telemetry").await;
    let (_, mut device) = device(&hub, "door").await;
    let topic = "devices/door/messages/events/$.mid=m%201&%24.ct=application%2Fjson&$.cdid=other&\
        iothub-connection-device-id=other&level=high&empty=&none";
    device
        .publish(topic, "{\"big\": 12345678901234567890,\n \"a\":1.0}")
        .await;
    device
        .publish("devices/door/messages/events/$.mid=m%201", "\u{feff}plain")
        .await;
    device.publish("devices/door/messages/events/", "").await;
    // PUBACK means stored; the twin request makes rumqttc send its queue.
    device.publish("$iothub/twin/GET/?$rid=1", " ").await;
    device.received().await;

    let event = reader.expect().await;
    assert_eq!(event["kind"], "telemetry");
    assert_eq!(event["deviceId"], "door");
    let identity = hub.get("/devices/door").await.body;
    let system = &event["systemProperties"];
    assert_eq!(system["iothub-connection-device-id"], "door");
    assert_eq!(
        system["iothub-connection-auth-generation-id"],
        identity["generationId"]
    );
    let method: Value =
        serde_json::from_str(system["iothub-connection-auth-method"].as_str().unwrap()).unwrap();
    assert_eq!(
        method,
        json!({ "scope": "device", "type": "sas", "issuer": "iothub" })
    );
    assert_eq!(system["iothub-enqueuedtime"], event["time"]);
    assert_eq!(system["iothub-message-source"], "Telemetry");
    assert_eq!(system["message-id"], "m 1");
    assert_eq!(system["content-type"], "application/json");
    let own = json!({
        "iothub-connection-device-id": "other",
        "level": "high",
        "empty": "",
        "none": null,
    });
    assert_eq!(event["properties"], own);
    assert_eq!(event["body"]["big"].to_string(), "12345678901234567890");
    assert!(event.get("repeated").is_none(), "{event}");

    let again = reader.expect().await;
    assert_eq!(again["repeated"], true);
    assert_eq!(again["bodyBase64"], "77u/cGxhaW4=");
    assert!(again.get("body").is_none());
    let empty = reader.expect().await;
    assert_eq!(empty["bodyBase64"], "");
}

#[tokio::test]
async fn connection_events_have_a_reason_and_increasing_numbers() {
    let hub = TestHub::start().await;
    let mut reader = Reader::open(&hub, "kind=connection").await;
    let (key, device) = device(&hub, "door").await;
    let connected = reader.expect().await;
    assert_eq!(connected["properties"]["opType"], "deviceConnected");
    assert_eq!(
        connected["properties"]["iothub-message-schema"],
        "deviceConnectionStateNotification"
    );
    let first = connected["body"]["sequenceNumber"].as_str().unwrap();
    assert_eq!(first.len(), 64);
    drop(device);
    let lost = reader.expect().await;
    assert_eq!(lost["properties"]["opType"], "deviceDisconnected");
    assert!(
        lost["body"]["reason"]
            .as_str()
            .unwrap()
            .contains("without DISCONNECT"),
        "{lost}"
    );
    assert!(lost["body"]["sequenceNumber"].as_str().unwrap() > first);

    // One connection that the hub ends, and one that ends by a kill of the hub.
    let _again = hub.subscriber("door", &key, "$iothub/twin/res/#").await;
    reader.expect().await;
    hub.send(Method::DELETE, "/devices/door", None).await;
    let deleted = reader.expect().await;
    assert_eq!(deleted["body"]["reason"], "the device was deleted");

    let (_, _other) = self::device(&hub, "other").await;
    let last = reader.next().await.unwrap();
    assert_eq!(last.data["properties"]["opType"], "deviceConnected");
    let hub = hub.restart_after_kill().await;
    let resumed = hub
        .request(Method::GET, "/events?kind=connection&follow=false")
        .header("Last-Event-ID", last.id);
    let missed = Reader::with(resumed).await.rest().await;
    assert_eq!(missed.len(), 1, "{missed:?}");
    assert_eq!(missed[0]["deviceId"], "other");
    assert_eq!(missed[0]["properties"]["opType"], "deviceDisconnected");
}

#[tokio::test]
async fn a_twin_event_includes_the_metadata() {
    let hub = TestHub::start().await;
    let mut reader = Reader::open(&hub, "kind=twin&device=door").await;
    let (_, mut device) = device(&hub, "door").await;
    hub.add_device("other").await;
    hub.patch("/twins/other", json!({ "tags": { "a": 1 } }))
        .await;
    hub.patch(
        "/twins/door",
        json!({
            "tags": { "site": "a" },
            "properties": { "desired": { "floor": 3, "x": { "y": 1 } } },
        }),
    )
    .await;
    let twin = hub.get("/twins/door").await.body;
    let event = reader.expect().await;
    assert_eq!(event["properties"]["opType"], "updateTwin");
    assert_eq!(
        event["systemProperties"]["iothub-message-source"],
        "twinChangeEvents"
    );
    assert_eq!(event["body"]["version"], twin["version"]);
    assert_eq!(event["body"]["tags"], json!({ "site": "a" }));
    // Everything is new, so the event holds the whole section.
    assert_eq!(
        event["body"]["properties"]["desired"],
        twin["properties"]["desired"]
    );
    assert!(event["body"]["properties"].get("reported").is_none());

    hub.set_desired("door", json!({ "x": { "y": null, "z": 2 } }))
        .await;
    let event = reader.expect().await;
    let desired = &event["body"]["properties"]["desired"];
    assert_eq!(desired["x"], json!({ "y": null, "z": 2 }));
    assert_eq!(desired["$version"], 3);
    assert_eq!(desired["$metadata"]["x"]["z"]["$lastUpdatedVersion"], 3);
    assert!(desired.get("floor").is_none(), "{desired}");
    assert!(desired["$metadata"].get("floor").is_none(), "{desired}");

    device
        .publish(
            "$iothub/twin/PATCH/properties/reported/?$rid=1",
            r#"{"lock":"locked"}"#,
        )
        .await;
    device.received().await;
    let event = reader.expect().await;
    let twin = hub.get("/twins/door").await.body;
    assert_eq!(
        event["body"]["properties"],
        json!({ "reported": twin["properties"]["reported"] })
    );

    hub.put("/twins/door", json!({ "tags": { "only": true } }))
        .await;
    let event = reader.expect().await;
    let twin = hub.get("/twins/door").await.body;
    assert_eq!(event["properties"]["opType"], "replaceTwin");
    for part in ["version", "tags", "properties"] {
        assert_eq!(event["body"][part], twin[part], "{part}");
    }
    // Rejected changes, and those that change nothing, cause no event.
    hub.patch("/twins/door", json!({ "tags": { "a.b": 1 } }))
        .await;
    hub.patch("/twins/door", json!({})).await;
    hub.patch("/twins/door", json!({ "tags": { "last": 1 } }))
        .await;
    assert_eq!(reader.expect().await["body"]["tags"], json!({ "last": 1 }));
}

#[tokio::test]
async fn identities_and_jobs_cause_events() {
    let hub = TestHub::start().await;
    hub.add_devices(&[json!({ "floor": 1 }), json!({ "floor": 1 })])
        .await;
    let twin = hub.get("/twins/d0").await.body;
    let job = json!({
        "jobId": "job", "type": "scheduleUpdateTwin",
        "updateTwin": { "tags": { "a": 1 } }, "queryCondition": "*",
    });
    hub.put("/jobs/v2/job", job).await;
    let done = hub.job("job", &["completed"]).await;
    hub.send(Method::DELETE, "/devices/d0", None).await;

    let lifecycle = stored_events(&hub, "device").await;
    let operation = |event: &Value| event["properties"]["opType"].as_str().unwrap().to_owned();
    let operations = lifecycle.iter().map(operation).collect::<Vec<_>>();
    let (create, delete) = ("createDeviceIdentity", "deleteDeviceIdentity");
    assert_eq!(operations, [create, create, delete]);
    let devices = texts(&json!(lifecycle), "deviceId");
    assert_eq!(devices, ["d0", "d1", "d0"]);
    let (made, gone) = (&lifecycle[0]["body"], &lifecycle[2]["body"]);
    assert_eq!(made["version"], 2);
    assert_eq!(made["etag"], "AAAAAAAAAAE=");
    assert_eq!(gone["properties"], twin["properties"]);
    assert_eq!(gone["tags"], json!({ "a": 1 }));

    let jobs = stored_events(&hub, "job").await;
    let mut changes: Vec<_> = jobs.iter().map(operation).collect();
    changes.retain(|operation| operation != "jobProgress");
    assert_eq!(changes, ["jobQueued", "jobRunning", "jobCompleted"]);
    let last = jobs.last().unwrap();
    assert_eq!(last["jobId"], "job");
    assert_eq!(
        last["body"]["deviceJobStatistics"],
        done["deviceJobStatistics"]
    );
    let all = stored_events(&hub, "").await;
    let ids = all.iter().map(|event| event["id"].as_i64().unwrap());
    assert!(ids.is_sorted_by(|one, next| one < next), "{all:?}");
}

#[tokio::test]
async fn a_reader_resumes_and_learns_which_events_are_lost() {
    let folder = tempfile::tempdir().unwrap();
    let hub = TestHub::start_with(folder, |config| config.events.max_rows = 5).await;
    hub.add_device("door").await;
    let tag = |number: u32| json!({ "tags": { "number": number } });
    for number in 0..3 {
        hub.patch("/twins/door", tag(number)).await;
    }
    let all = stored_events(&hub, "twin").await;
    let first = all[0]["id"].as_i64().unwrap();
    let path = format!("after={first}&follow=false");
    let after = Reader::open(&hub, &path).await.rest().await;
    assert_eq!(after, all[1..]);
    let since = all[1]["time"].as_str().unwrap();
    let path = format!("kind=twin&since={since}&follow=false");
    assert_eq!(Reader::open(&hub, &path).await.rest().await, all[1..]);

    for number in 3..10 {
        hub.patch("/twins/door", tag(number)).await;
    }
    let request = hub.request(Method::GET, "/events?follow=false");
    let mut reader = Reader::with(request.header("last-event-id", first)).await;
    let lost = reader.next().await.unwrap();
    let left = reader.rest().await;
    assert_eq!(left.len(), 5);
    let oldest = left[0]["id"].as_i64().unwrap();
    assert_eq!((lost.name.as_str(), lost.id), ("lost", oldest - 1));
    assert_eq!(lost.data, json!({ "from": first + 1, "to": oldest - 1 }));
    // A client that reads all stored events gets no `lost`.
    assert_eq!(stored_events(&hub, "").await, left);

    let unknown = hub.get("/events?after=999").await;
    unknown.refused(400, "ArgumentInvalid", &["event 999 does not exist yet"]);
}

#[tokio::test]
async fn a_stream_ends_when_policies_change_its_token_expires_or_the_hub_stops() {
    let hub = TestHub::start().await;
    let data = hub.folder.path();
    let mut before = Reader::open(&hub, "").await;
    let mut policies = Policies::open(data).unwrap();
    let out = door_hub::policies::SecretFile {
        path: data.join("guard"),
        force: false,
    };
    let service = "ServiceConnect".parse().unwrap();
    policies
        .add(&"guard".parse().unwrap(), service, None, &out)
        .unwrap();
    assert!(before.next().await.is_none(), "policies have changed");

    let owner = hub.hub.policy("iothubowner").unwrap();
    // A token is valid for five minutes longer, because clocks differ.
    let soon = in_an_hour() - 3600 - 5 * 60 + 10;
    let token = sas::sign("localhost", &owner.keys.primary, soon, Some(&owner.name));
    let request = hub.anonymous(Method::GET, "/events");
    let mut short = Reader::with(request.header(AUTHORIZATION, token)).await;
    assert!(short.next().await.is_none(), "the token has expired");

    let mut last = Reader::open(&hub, "").await;
    let stopped = tokio::spawn(hub.hub.shutdown());
    assert!(last.next().await.is_none());
    tokio::time::timeout(Duration::from_secs(20), stopped)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn the_number_of_event_streams_is_limited() {
    let hub = TestHub::start().await;
    let mut readers = Vec::new();
    for _ in 0..64 {
        readers.push(Reader::open(&hub, "").await);
    }
    let refused = hub.get("/events").await;
    assert_eq!(refused.status, 429, "{}", refused.body);
    readers.pop();
    eventually("a stream can be opened again", || async {
        let request = hub.request(Method::GET, "/events?follow=false");
        (answer(request).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_announced_model_is_in_the_twin_and_on_messages() {
    let hub = TestHub::start().await;
    let key = hub.add_device("door").await;
    let etag = hub.get("/twins/door").await.ok()["etag"].clone();
    let model = "dtmi:com:example:Door;1";
    let events = "devices/door/messages/events/";
    for (query, expected) in [
        ("?api-version=2021-04-12".to_owned(), ""),
        (format!("?api-version=2021-04-12&model-id={model}"), model),
        // A client that announces none leaves the model.
        ("?api-version=2021-04-12".to_owned(), model),
    ] {
        let mut peer = Peer::dial(&hub).await;
        let (_, password) = login("door", &key, in_an_hour());
        let login = (format!("localhost/door/{query}"), password);
        let code = peer.log_in("door", &login, true).await;
        assert_eq!(code, Some((ConnectReturnCode::Success, false)), "{query}");
        let twin = hub.get("/twins/door").await.ok();
        assert_eq!(twin["modelId"], expected, "{query}");
        assert_eq!((&twin["etag"], &twin["version"]), (&etag, &json!(2)));
        peer.publish(events, QoS::AtLeastOnce, "{}").await;
        peer.next().await.unwrap();
        let stored = stored_events(&hub, "telemetry").await;
        let schema = &stored.last().unwrap()["systemProperties"]["dt-dataschema"];
        let expected_schema = match expected {
            "" => Value::Null,
            model => json!(model),
        };
        assert_eq!(*schema, expected_schema, "{query}");
    }
    assert_eq!(hub.find(&format!("modelId = '{model}'")).await, ["door"]);
}

use iothub_protocol::twin::SectionKind;
use jiff::SignedDuration;
use serde_json::json;

use super::*;
use crate::config::EventLimits;

/// Limits that no test reaches unless it lowers them.
const WIDE: EventLimits = EventLimits {
    max_days: 10,
    max_rows: 100_000,
    max_bytes: 100_000_000,
};

fn message(device: &DeviceId, body: &[u8]) -> TelemetryMessage {
    TelemetryMessage {
        device: device.clone(),
        auth_method: "",
        enqueued: now(),
        properties: String::new(),
        message_id: None,
        body: body.to_vec().into(),
    }
}

fn twin_events() -> EventFilter {
    EventFilter {
        kinds: vec![EventKind::Twin],
        ..EventFilter::default()
    }
}

pub(crate) async fn an_event_and_its_twin_are_visible_together(database: &TestDatabase) {
    const CHANGES: u64 = 200;
    let test = Arc::new(database.open().await);
    let id = test.add("d").await;
    let first = test.twin(&id).await.version;
    let writing = tokio::spawn({
        let (test, id) = (Arc::clone(&test), id.clone());
        async move {
            for number in 0..CHANGES {
                test.set_tags(&id, json!({ "number": number })).await;
            }
        }
    });
    let (mut seen, mut reads) = (0, 0);
    while seen < CHANGES {
        let events = || test.event_page(twin_events(), None, 0);
        let before = events().await.events.len() as u64;
        seen = test.twin(&id).await.version - first;
        let after = events().await.events.len() as u64;
        assert!(before <= seen, "{before} events of {seen} changes");
        assert!(after >= seen, "{after} events of {seen} changes");
        reads += 1;
    }
    writing.await.unwrap();
    assert!(reads > 1);
}

pub(crate) async fn a_reader_with_a_cursor_misses_no_event(database: &TestDatabase) {
    const WRITERS: usize = 20;
    const EACH: usize = 20;
    let test = Arc::new(database.open().await);
    test.store.limit_events(WIDE);
    test.add_devices(WRITERS).await;
    let mut newest = test.store.event_newest();
    let mut cursor = *newest.borrow_and_update();
    assert_eq!(cursor, test.events(&[]).await.last().unwrap().id);
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..WRITERS {
        let test = Arc::clone(&test);
        writers.spawn(async move {
            let id = device(&format!("d{number}"));
            for round in 0..EACH {
                match (number + round) % 2 {
                    0 => test.set_tags(&id, json!({ "round": round })).await,
                    _ => {
                        let sent = test.store.telemetry_insert(message(&id, b"x")).await;
                        assert!(sent.unwrap());
                    }
                }
            }
        });
    }
    let mut read = Vec::new();
    while read.len() < WRITERS * EACH {
        let changed = tokio::time::timeout(Duration::from_secs(30), newest.changed());
        changed.await.expect("a commit wakes readers").unwrap();
        loop {
            let filter = EventFilter::default();
            let page = test.store.event_page(filter, None, cursor, 7, usize::MAX);
            let page = page.await.unwrap();
            assert!(page.events.len() <= 7 && page.seen >= cursor);
            read.extend(page.events.iter().map(|event| event.id));
            cursor = page.seen;
            if page.seen >= page.newest {
                break;
            }
        }
    }
    writers.join_all().await;
    assert!(read.windows(2).all(|pair| pair[0] < pair[1]));
    let all = test.events(&[EventKind::Twin, EventKind::Telemetry]).await;
    let all: Vec<i64> = all.iter().map(|event| event.id).collect();
    assert_eq!(read, all);
    // Ids continue after a restart.
    let test = Arc::into_inner(test).unwrap();
    let test = database.reopen(test).await;
    assert_eq!(*test.store.event_newest().borrow(), cursor);
    test.add("later").await;
    assert!(*test.store.event_newest().borrow() > cursor);
    // What commits without an event wakes nobody.
    let mut newest = test.store.event_newest();
    newest.borrow_and_update();
    test.store.webhook_save("hook", 1).await.unwrap();
    assert!(!newest.has_changed().unwrap());
}

pub(crate) async fn changes_of_identities_and_jobs_are_events(database: &TestDatabase) {
    let test = database.open().await;
    let id = test.add("d").await;
    test.set_tags(&id, json!({ "floor": 3 })).await;
    test.connect(&id, "MQ==", 1, true).await;
    let row = test.start_job("job").await;
    test.complete(row).await;
    let reason = "two clients".to_owned();
    let conflict = test.store.session_conflict(&id, reason, now());
    conflict.await.unwrap();
    test.disconnect(&id, 1).await;
    test.connect(&id, "MQ==", 2, true).await;
    test.remove("d").await;
    // The number of events of a job's progress depends on the time.
    let read = async || {
        let mut events = test.events(&[]).await;
        events.retain(|event| event.operation.as_deref() != Some("jobProgress"));
        events
    };
    let events = read().await;
    let operations = events.iter().map(|event| {
        let operation = event.operation.as_deref().unwrap();
        format!("{} {operation} {}", event.kind.as_str(), event.subject)
    });
    let expected = [
        "device createDeviceIdentity d",
        "twin updateTwin d",
        "connection deviceConnected d",
        "job jobQueued job",
        "job jobRunning job",
        "job jobCompleted job",
        "connection identityConflict d",
        "connection deviceDisconnected d",
        "connection deviceConnected d",
        "connection deviceDisconnected d",
        "device deleteDeviceIdentity d",
    ];
    assert_eq!(operations.collect::<Vec<_>>(), expected);
    let body = |index: usize| -> Value {
        serde_json::from_slice(events[index].body.as_ref().unwrap()).unwrap()
    };
    assert_eq!(body(0)["version"], 2);
    assert_eq!(body(0)["properties"]["desired"]["$version"], 1);
    assert_eq!(body(10)["tags"], json!({ "floor": 3 }));
    assert_eq!(body(10)["version"], 3);
    assert_eq!(body(4)["deviceJobStatistics"]["pendingCount"], 1);
    assert_eq!(body(5)["deviceJobStatistics"]["failedCount"], 1);
    for (index, text) in [
        (6, "two clients"),
        (7, "lost"),
        (9, "the device was deleted"),
    ] {
        assert_eq!(events[index].body.as_deref(), Some(text.as_bytes()));
    }
    // An event is there once its change was answered, and not if the change was refused.
    let refused = test.store.device_delete(&id, |_| ok(())).await;
    assert!(!refused.unwrap());
    assert_eq!(read().await.len(), expected.len());
}

pub(crate) async fn the_newest_events_stay_within_the_limits(database: &TestDatabase) {
    let test = database.open().await;
    let device = test.add("d").await;
    let limits = EventLimits {
        max_days: 10,
        max_rows: 5,
        max_bytes: 64 * 5 + 1010,
    };
    test.store.limit_events(limits);
    let send = |days: i64, length: usize| {
        let enqueued = now() - SignedDuration::from_hours(24 * days);
        test.store.telemetry_insert(TelemetryMessage {
            enqueued,
            ..message(&device, &vec![b'x'; length])
        })
    };
    for length in 1..=8 {
        assert!(send(8 - length as i64, length).await.unwrap());
    }
    let total = || test.store.event_total();
    assert_eq!(total().await.unwrap(), (5, 64 * 5 + 4 + 5 + 6 + 7 + 8));
    send(0, 1190).await.unwrap();
    assert_eq!(total().await.unwrap(), (2, 64 * 2 + 8 + 1190));
    let page = test.event_page(EventFilter::default(), None, 0).await;
    assert_eq!((page.oldest, page.newest), (9, 10), "{page:?}");
    let max_days = 0;
    test.store.limit_events(EventLimits { max_days, ..limits });
    test.store.event_expire().await.unwrap();
    assert_eq!(total().await.unwrap(), (0, 0));
    // Ids are not used again.
    test.store.limit_events(limits);
    send(0, 1).await.unwrap();
    let page = test.event_page(EventFilter::default(), None, 0).await;
    assert_eq!(page.events[0].id, page.newest);
    assert!(page.newest > 10, "{page:?}");
}

pub(crate) async fn a_message_has_the_model_and_generation_of_its_sender(database: &TestDatabase) {
    let test = database.open().await;
    let device = test.add("d").await;
    let model = "m".repeat(100);
    let modelled = test.store.twin_set_model(&device, model.clone());
    modelled.await.unwrap();
    let (rows, bytes) = test.store.event_total().await.unwrap();
    let enqueued: Timestamp = "2126-11-23T10:00:00.1234567Z".parse().unwrap();
    let whole = TelemetryMessage {
        auth_method: "{\"scope\":\"device\"}",
        enqueued,
        properties: "a=%00&b=ü".into(),
        message_id: Some("1".into()),
        ..message(&device, b"\x00\xff")
    };
    let size = 64 + 100 + whole.properties.len() as u64 + 2;
    assert!(test.store.telemetry_insert(whole).await.unwrap());
    let expected = (rows + 1, bytes + size);
    assert_eq!(test.store.event_total().await.unwrap(), expected);
    for message_id in ["1", "2"] {
        let message_id = Some(message_id.into());
        let again = TelemetryMessage {
            message_id,
            ..message(&device, b"")
        };
        assert!(test.store.telemetry_insert(again).await.unwrap());
    }
    let nobody = "nobody".parse().unwrap();
    let lost = test.store.telemetry_insert(message(&nobody, b"")).await;
    assert!(!lost.unwrap());
    let events = test.events(&[EventKind::Telemetry]).await;
    let [event, again, another] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!((event.at, event.subject.as_str()), (enqueued, "d"));
    assert_eq!(event.model_id.as_deref(), Some(&model[..]));
    assert_eq!(event.generation_id.as_deref(), Some("1"));
    assert_eq!(event.auth_method.as_deref(), Some("{\"scope\":\"device\"}"));
    assert_eq!(event.properties.as_deref(), Some("a=%00&b=ü"));
    assert_eq!(event.body.as_deref(), Some(&b"\x00\xff"[..]));
    assert_eq!((event.operation.as_deref(), event.repeated), (None, false));
    assert!(again.repeated && !another.repeated);
    let seen = test.device(&device).await.last_activity;
    assert_ne!(seen, NEVER);
}

pub(crate) async fn bounds_and_filters_limit_what_is_read(database: &TestDatabase) {
    let test = database.open().await;
    test.store.limit_events(WIDE);
    test.store
        .policy_list(["guard", "other"].map(policy).into())
        .await
        .unwrap();
    for id in ["inner", "outer"] {
        let id = test.add(id).await;
        test.set_tags(&id, json!({ "floor": 3 })).await;
        assert!(
            test.store
                .telemetry_insert(message(&id, b"12345"))
                .await
                .unwrap()
        );
    }
    test.insert_job(job_of("mine", "guard")).await;
    test.insert_job(job_of("theirs", "other")).await;
    // A job is a subject of its own, even if a device has its name.
    test.insert_job(job_of("inner", "other")).await;
    let read = async |filter: EventFilter, scope: Option<Scope>| -> Vec<String> {
        let page = test.event_page(filter, scope, 0).await;
        let events = page.events.into_iter();
        events
            .map(|event| format!("{} {}", event.kind.as_str(), event.subject))
            .collect()
    };
    let default = EventFilter::default;
    let inner = || Some(scope("deviceId = 'inner'"));
    let of = |id: &str| EventFilter {
        device: Some(id.parse().unwrap()),
        ..default()
    };
    let own = ["device inner", "twin inner", "telemetry inner"];
    assert_eq!(read(default(), None).await.len(), 9);
    assert_eq!(read(of("inner"), None).await, own);
    assert_eq!(read(of("inner"), inner()).await, own);
    assert!(read(of("outer"), inner()).await.is_empty());
    let with_job = [&own[..], &["job mine"]].concat();
    assert_eq!(read(default(), inner()).await, with_job);
    assert_eq!(
        read(twin_events(), None).await,
        ["twin inner", "twin outer"]
    );
    let since = Some(now() + SignedDuration::from_hours(1));
    let later = EventFilter { since, ..default() };
    assert!(read(later, None).await.is_empty());
    // A page ends at its number of rows or of bytes; the next one continues.
    let page = async |after, rows, bytes| {
        let filter = EventFilter {
            kinds: vec![EventKind::Telemetry],
            ..default()
        };
        let page = test.store.event_page(filter, None, after, rows, bytes);
        let page = page.await.unwrap();
        (page.events.len(), page.seen)
    };
    let (found, seen) = page(0, 1, usize::MAX).await;
    assert_eq!((found, page(0, 9, 5).await), (1, (1, seen)));
    let (found, seen) = page(seen, 9, 100).await;
    let newest = *test.store.event_newest().borrow();
    assert_eq!((found, seen), (1, newest));
    assert_eq!(page(newest, 9, 100).await, (0, newest));
    // Events of devices that are gone are outside of any bounds, and an event of desired properties
    // keeps its body.
    let id = device("outer");
    let body = r#"{"b":1E2,"a":"\u0000"}"#;
    let change = |twin: &mut TwinRecord| {
        let patch = object(json!({ "b": 1 }));
        twin.desired
            .patch(SectionKind::Desired, &patch, now())
            .unwrap();
        let mut change = retag(twin, Object::new());
        change.event.body = body.into();
        ok((change, ()))
    };
    test.store.twin_update(&id, None, change).await.unwrap();
    let page = test.event_page(twin_events(), None, newest).await;
    assert_eq!(page.events[0].body.as_deref(), Some(body.as_bytes()));
    test.remove("inner").await;
    assert_eq!(read(default(), inner()).await, ["job mine"]);
}

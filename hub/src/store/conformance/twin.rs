use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use iothub_protocol::twin::SectionKind;
use serde_json::json;

use super::*;

pub(crate) async fn writes_only_the_modified_parts(database: &TestDatabase) {
    let test = database.open().await;
    let device = test.add("d").await;
    let new = test.twin(&device).await;
    assert_eq!((new.version, new.etag, new.desired.version), (2, 1, 1));
    let change = |record: &mut TwinRecord| {
        let patch = object(json!({ "floor": 3 }));
        record
            .reported
            .patch(SectionKind::Reported, &patch, now())
            .unwrap();
        let change = TwinChange {
            tags: false,
            reported: true,
            ..retag(record, object(json!({ "not written": 1 })))
        };
        ok((change, "output"))
    };
    let changed = test.store.twin_update(&device, None, change).await;
    let (_, output) = changed.unwrap().unwrap();
    assert_eq!(output, "output");
    let model = test.store.twin_set_model(&device, "model".into());
    model.await.unwrap();
    let test = database.reopen(test).await;
    let twin = test.twin(&device).await;
    assert_eq!(twin.reported.values["floor"], 3);
    assert_eq!((twin.version, twin.reported.version), (3, 2));
    // The etag counts as the change says, and the model counts as no change.
    assert_eq!((twin.etag, twin.model_id.as_str()), (2, "model"));
    assert!(twin.tags.is_empty());
    let nobody = "nobody".parse().unwrap();
    let changed = test.store.twin_update(&nobody, None, change).await;
    assert!(changed.unwrap().is_none());
}

pub(crate) async fn documents_come_back_as_they_were_given(database: &TestDatabase) {
    let test = database.open().await;
    let device = test.add("d").await;
    let text = r#"{"z":1e300,"a":"x\u0000y","n":1.0,"i":1,"big":9007199254740993,"E":0.1,"é":[],"":{"b":null,"a":[true,"'\"\\"]}}"#;
    let given: Object = serde_json::from_str(text).unwrap();
    let change = {
        let given = given.clone();
        move |twin: &mut TwinRecord| {
            twin.desired.values = given.clone();
            twin.reported.values = given.clone();
            twin.reported.metadata = given.clone();
            let change = TwinChange {
                desired: Some("{}".into()),
                reported: true,
                ..retag(twin, given)
            };
            ok((change, ()))
        }
    };
    test.store.twin_update(&device, None, change).await.unwrap();
    let test = database.reopen(test).await;
    let twin = test.twin(&device).await;
    let whole = serde_json::to_string(&given).unwrap();
    for stored in [
        &twin.tags,
        &twin.desired.values,
        &twin.reported.values,
        &twin.reported.metadata,
    ] {
        assert_eq!(serde_json::to_string(stored).unwrap(), whole);
    }
}

pub(crate) async fn a_refused_change_leaves_neither_twin_nor_event(database: &TestDatabase) {
    let notified = Arc::<AtomicU64>::default();
    let hook = {
        let notified = Arc::clone(&notified);
        Box::new(move |committed: Committed| {
            notified.fetch_add(committed.changes.len() as u64, Ordering::Relaxed);
        })
    };
    let test = database.open_with(hook).await;
    let device = test.add("d").await;
    // As `If-Match` with an outdated etag does.
    let change = |twin: &mut TwinRecord| {
        let matches = twin.etag == 7;
        let mut change = retag(twin, object(json!({ "floor": 3 })));
        change.desired = Some("{}".into());
        match matches {
            true => Ok((change, ())),
            false => Err(StoreError::Busy),
        }
    };
    let refused = test.store.twin_update(&device, None, change).await;
    assert!(matches!(refused, Err(StoreError::Busy)));
    let twin = test.twin(&device).await;
    assert_eq!((twin.version, twin.etag, twin.tags.len()), (2, 1, 0));
    assert!(test.events(&[EventKind::Twin]).await.is_empty());
    assert_eq!(notified.load(Ordering::Relaxed), 0);
}

pub(crate) async fn no_update_is_lost(database: &TestDatabase) {
    const TASKS: u64 = 50;
    const EACH: u64 = 4;
    let test = Arc::new(database.open().await);
    let id = test.add("d").await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..TASKS {
        let (test, id) = (Arc::clone(&test), id.clone());
        tasks.spawn(async move {
            let increment = |twin: &mut TwinRecord| {
                let number = twin.tags.get("number").and_then(Value::as_u64);
                let number = number.unwrap_or_default() + 1;
                ok((retag(twin, object(json!({ "number": number }))), number))
            };
            let mut numbers = Vec::new();
            for _ in 0..EACH {
                let changed = test.store.twin_update(&id, None, increment).await;
                numbers.push(changed.unwrap().unwrap().1);
            }
            numbers
        });
    }
    let mut numbers: Vec<u64> = tasks.join_all().await.into_iter().flatten().collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=TASKS * EACH).collect::<Vec<_>>());
    let twin = test.twin(&id).await;
    assert_eq!(twin.tags["number"], TASKS * EACH);
    assert_eq!(twin.version, 2 + TASKS * EACH);
}

pub(crate) async fn desired_changes_are_notified_in_commit_order_before_the_reply(
    database: &TestDatabase,
) {
    const TASKS: usize = 50;
    let notified = Arc::<Mutex<Vec<(String, u64)>>>::default();
    let operations = Arc::<AtomicU64>::default();
    let hook = {
        let (notified, operations) = (Arc::clone(&notified), Arc::clone(&operations));
        Box::new(move |committed: Committed| {
            operations.fetch_add(committed.operations as u64, Ordering::Relaxed);
            for change in committed.changes {
                let version = change.version.to_string();
                assert_eq!(change.body, version.as_bytes());
                let change = (change.device.to_string(), change.version);
                notified.lock().unwrap().push(change);
            }
        })
    };
    let test = Arc::new(database.open_with(hook).await);
    test.add_devices(2).await;
    let before = operations.load(Ordering::Relaxed);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..TASKS {
        let (test, notified) = (Arc::clone(&test), Arc::clone(&notified));
        tasks.spawn(async move {
            let id = device(&format!("d{}", number % 2));
            // Every tenth one is refused.
            let change = move |twin: &mut TwinRecord| {
                twin.desired.version += 1;
                let version = twin.desired.version;
                let mut change = retag(twin, Object::new());
                change.desired = Some(version.to_string().into());
                match number % 10 {
                    9 => Err(StoreError::Busy),
                    _ => Ok((change, version)),
                }
            };
            let changed = test.store.twin_update(&id, None, change).await;
            if let Ok(changed) = changed {
                let change = (id.to_string(), changed.unwrap().1);
                let notified = notified.lock().unwrap();
                assert!(notified.contains(&change), "notified before the reply");
            }
        });
    }
    tasks.join_all().await;
    let done = operations.load(Ordering::Relaxed) - before;
    assert_eq!(done, TASKS as u64);
    let notified = std::mem::take(&mut *notified.lock().unwrap());
    assert_eq!(notified.len(), TASKS - TASKS / 10);
    for (id, count) in [("d0", 25), ("d1", 20)] {
        let versions = notified.iter().filter(|(device, _)| device == id);
        let versions: Vec<u64> = versions.map(|(_, version)| *version).collect();
        assert_eq!(versions, (2..2 + count).collect::<Vec<_>>(), "{id}");
    }
    // Of all devices in the order of the commits, as their events are.
    let events = test.events(&[EventKind::Twin]).await;
    let subjects = events.iter().map(|event| event.subject.as_str());
    assert!(subjects.eq(notified.iter().map(|(device, _)| device.as_str())));
}

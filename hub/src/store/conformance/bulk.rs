use std::sync::Mutex;

use serde_json::json;

use super::*;

/// What one item does.
#[derive(Debug, Clone, Copy)]
enum Item {
    Insert(&'static str),
    /// Sets tags and desired properties, and fails after that.
    FailAfterChange(&'static str),
    Change(&'static str),
    /// Writes the identity and fails after that.
    FailAfterUpdate(&'static str),
    Update(&'static str),
    Delete(&'static str),
    FailAfterDelete(&'static str),
}

fn refuse<T>() -> Result<T, StoreError> {
    Err(StoreError::Closed)
}

fn apply(transaction: &mut BulkTransaction<'_, '_>, item: Item) -> Result<bool, StoreError> {
    match item {
        Item::Insert(id) => {
            let record = DeviceRecord::new(device(id), "1".into(), "MQ==".into());
            transaction.insert(&record)
        }
        Item::Change(id) | Item::FailAfterChange(id) => {
            let twin = transaction.twin(&device(id), |twin| {
                let mut change = retag(twin, object(json!({ "floor": 1 })));
                change.desired = Some("{}".into());
                twin.desired.version += 1;
                ok(change)
            });
            let changed = twin?.is_some();
            if matches!(item, Item::FailAfterChange(_)) {
                return refuse();
            }
            Ok(changed)
        }
        Item::Update(id) | Item::FailAfterUpdate(id) => {
            let Some(mut record) = transaction.get(&device(id))? else {
                return Ok(false);
            };
            record.etag = "Mg==".into();
            transaction.update(&record)?;
            if matches!(item, Item::FailAfterUpdate(_)) {
                return refuse();
            }
            Ok(true)
        }
        Item::Delete(id) | Item::FailAfterDelete(id) => {
            let found = transaction.get_to_delete(&device(id))?.is_some();
            transaction.delete(&device(id))?;
            if matches!(item, Item::FailAfterDelete(_)) {
                return refuse();
            }
            Ok(found)
        }
    }
}

pub(crate) async fn a_failed_item_keeps_the_others(database: &TestDatabase) {
    let notified = Arc::new(Mutex::new(Vec::new()));
    let hook = {
        let notified = Arc::clone(&notified);
        Box::new(move |committed: Committed| {
            let changes = committed.changes.into_iter();
            let devices = changes.map(|change| change.device.to_string());
            notified.lock().unwrap().extend(devices);
        })
    };
    let test = database.open_with(hook).await;
    test.add_devices(4).await;
    let items = vec![
        Item::Insert("new"),
        Item::FailAfterChange("d0"),
        Item::Change("d1"),
        Item::Insert("d1"),
        Item::FailAfterUpdate("d0"),
        Item::Update("d2"),
        // An item sees what the ones before it did.
        Item::Change("new"),
        Item::FailAfterDelete("d0"),
        Item::Delete("d3"),
        Item::Change("d3"),
        Item::Update("d3"),
        Item::Delete("d3"),
    ];
    let outcomes = test.store.device_bulk(items, apply).await.unwrap();
    let outcomes: Vec<_> = outcomes.into_iter().map(Result::ok).collect();
    let [yes, no, failed] = [Some(true), Some(false), None];
    let expected = [
        yes, failed, yes, no, failed, yes, yes, failed, yes, no, no, no,
    ];
    assert_eq!(outcomes, expected);
    assert_eq!(*notified.lock().unwrap(), ["d1", "new"]);
    for (id, floor, etag) in [
        ("d0", false, "MQ=="),
        ("d1", true, "MQ=="),
        ("d2", false, "Mg=="),
        ("new", true, "MQ=="),
    ] {
        let twin = test.twin(&device(id)).await;
        assert_eq!(twin.tags.contains_key("floor"), floor, "{id}");
        assert_eq!(twin.device.etag, etag, "{id}");
    }
    let gone = test.store.device_get(&device("d3"), None).await;
    assert!(gone.unwrap().is_none());
    let events = test.events(&[EventKind::Twin]).await;
    let events: Vec<_> = events.iter().map(|event| event.subject.as_str()).collect();
    assert_eq!(events, ["d1", "new"]);
}

use iothub_protocol::identity::Thumbprints;
use serde_json::json;

use super::*;

pub(crate) async fn an_identity_is_stored_whole_and_once(database: &TestDatabase) {
    let test = database.open().await;
    let key = |byte| SharedAccessKey::from_bytes(&[byte; 32]).unwrap();
    let mut record = DeviceRecord::new(device("d"), "638".into(), "MQ==".into());
    record.enabled = false;
    record.status_reason = Some("lost \u{0} ü".into());
    record.status_updated = "2026-11-23T10:00:00.1234567Z".into();
    record.iot_edge = true;
    record.authentication = StoredAuthentication {
        kind: "sas".into(),
        keys: Some(Keys {
            primary: key(1),
            secondary: key(2),
        }),
        thumbprints: Thumbprints {
            primary_thumbprint: Some("AB".into()),
            secondary_thumbprint: None,
        },
    };
    assert!(test.store.device_insert(record.clone()).await.unwrap());
    let other = DeviceRecord::new(device("d"), "639".into(), "Mg==".into());
    assert!(!test.store.device_insert(other).await.unwrap());
    // Ids differ by case.
    test.add("D").await;
    let test = database.reopen(test).await;
    let found = test.device(&record.device_id).await;
    assert_eq!(format!("{found:?}"), format!("{record:?}"));

    let change = |record: &mut DeviceRecord| {
        record.enabled = true;
        record.status_reason = None;
        record.etag = "Mg==".into();
        record.authentication.keys = None;
        record.iot_edge = false;
        // The connection state is not the caller's.
        record.connection_state = ConnectionState::Connected;
        ok("output")
    };
    let changed = test.store.device_update(&record.device_id, change).await;
    let (changed, output) = changed.unwrap().unwrap();
    assert_eq!((changed.etag.as_str(), output), ("Mg==", "output"));
    let found = test.device(&record.device_id).await;
    assert!(found.enabled && !found.iot_edge);
    assert_eq!((found.etag.as_str(), &found.status_reason), ("Mg==", &None));
    assert_eq!(found.authentication.keys, None);
    assert_eq!(found.connection_state, ConnectionState::Disconnected);
    let nobody = test.store.device_update(&device("nobody"), change).await;
    assert!(nobody.unwrap().is_none());

    let statistics = test.store.device_statistics().await.unwrap();
    assert_eq!((statistics.total, statistics.enabled), (2, 2));
}

pub(crate) async fn a_failed_change_or_check_changes_nothing(database: &TestDatabase) {
    let test = database.open().await;
    let id = test.add("d").await;
    // As `If-Match` does.
    let only_if = |etag: &'static str| {
        move |record: &DeviceRecord| match record.etag == etag {
            true => Ok(()),
            false => Err(StoreError::Closed),
        }
    };
    let change = move |record: &mut DeviceRecord| {
        record.iot_edge = true;
        only_if("Mg==")(record)
    };
    assert!(test.store.device_update(&id, change).await.is_err());
    assert!(!test.device(&id).await.iot_edge);
    let refused = test.store.device_delete(&id, only_if("Mg==")).await;
    refused.unwrap_err();
    test.device(&id).await;
    let events = test.events(&[]).await.len();
    assert_eq!(events, 1, "only the creation");
    assert!(
        test.store
            .device_delete(&id, only_if("MQ=="))
            .await
            .unwrap()
    );
    assert!(test.store.device_get(&id, None).await.unwrap().is_none());
    assert!(test.store.twin_get(&id, None).await.unwrap().is_none());
    assert!(
        !test
            .store
            .device_delete(&id, only_if("MQ=="))
            .await
            .unwrap()
    );
}

pub(crate) async fn identities_are_listed_in_the_order_of_their_creation(database: &TestDatabase) {
    let test = database.open().await;
    for id in ["z", "a", "M", "m", "b"] {
        test.add(id).await;
    }
    test.remove("a").await;
    test.add("a").await;
    let test = database.reopen(test).await;
    let list = async |top, scope: Option<Scope>| -> String {
        let listed = test.store.device_list(top, scope.map(Arc::new)).await;
        let listed = listed.unwrap().into_iter();
        listed.map(|record| record.device_id.to_string()).collect()
    };
    assert_eq!(list(100, None).await, "zMmba");
    assert_eq!(list(2, None).await, "zM");
    assert_eq!(list(0, None).await, "");
    let inner = || Some(scope("deviceId IN ['m', 'a', 'A']"));
    assert_eq!(list(100, inner()).await, "ma");
    assert_eq!(list(1, inner()).await, "m");
}

pub(crate) async fn a_device_outside_the_bounds_does_not_exist(database: &TestDatabase) {
    let test = database.open().await;
    let [inner, outer] = [test.add("inner").await, test.add("outer").await];
    test.set_tags(&inner, json!({ "floor": 3 })).await;
    test.set_tags(&outer, json!({ "floor": "3" })).await;
    let bounds = || Some(Arc::new(scope("tags.floor = 3")));
    let unbounded = || {
        let policy = "guard".parse().unwrap();
        Some(Arc::new(Scope {
            policy,
            condition: None,
        }))
    };
    for (id, scope, exists) in [
        (&inner, bounds(), true),
        (&outer, bounds(), false),
        (&outer, unbounded(), true),
        (&device("nobody"), unbounded(), false),
    ] {
        let found = test.store.device_get(id, scope.clone()).await.unwrap();
        assert_eq!(found.is_some(), exists, "{id}");
        let found = test.store.twin_get(id, scope.clone()).await.unwrap();
        assert_eq!(found.is_some(), exists, "{id}");
        let change = |twin: &mut TwinRecord| {
            let tags = twin.tags.clone();
            ok((retag(twin, tags), ()))
        };
        let changed = test.store.twin_update(id, scope, change).await.unwrap();
        assert_eq!(changed.is_some(), exists, "{id}");
    }
    assert_eq!(test.twin(&inner).await.version, 4);
    assert_eq!(test.twin(&outer).await.version, 4);
    // A device that leaves the bounds is outside from then on.
    test.set_tags(&inner, json!({})).await;
    let found = test.store.twin_get(&inner, bounds()).await.unwrap();
    assert!(found.is_none());
}

use super::*;

pub(crate) async fn rejects_a_connection_with_an_outdated_identity_or_before_a_later_one(
    database: &TestDatabase,
) {
    let test = database.open().await;
    let device = test.add("d").await;
    assert!(test.connect(&device, "changed", 1, true).await.is_none());
    assert_eq!(test.state(&device).await, ConnectionState::Disconnected);
    assert!(test.connect(&device, "MQ==", 3, true).await.is_some());
    assert!(test.connect(&device, "MQ==", 2, true).await.is_none());
    // The ends of a rejected connection and of one that was taken over are ignored.
    test.disconnect(&device, 2).await;
    assert!(test.connect(&device, "MQ==", 4, true).await.is_some());
    test.disconnect(&device, 3).await;
    assert_eq!(test.state(&device).await, ConnectionState::Connected);
    assert_eq!(test.store.session_count().await.unwrap(), 1);
    test.disconnect(&device, 4).await;
    assert_eq!(test.state(&device).await, ConnectionState::Disconnected);
    assert_eq!(test.store.session_count().await.unwrap(), 0);
    let disable = |record: &mut DeviceRecord| {
        record.enabled = false;
        ok(())
    };
    let disabled = test.store.device_update(&device, disable).await;
    disabled.unwrap().unwrap();
    assert!(test.connect(&device, "MQ==", 5, true).await.is_none());
}

pub(crate) async fn a_persistent_session_keeps_its_subscriptions_and_a_clean_one_deletes_them(
    database: &TestDatabase,
) {
    let test = database.open().await;
    let device = test.add("d").await;
    let subscriptions = vec![StoredSubscription {
        filter: "$iothub/methods/POST/#".into(),
        qos: 1,
    }];
    let subscribe = async |test: &TestStore, epoch| {
        let epoch = ConnectionEpoch(epoch);
        let storing = test
            .store
            .session_subscriptions(&device, epoch, subscriptions.clone());
        storing.await.unwrap();
    };
    // No session exists yet.
    assert_eq!(test.connect(&device, "MQ==", 1, false).await, Some(None));
    subscribe(&test, 1).await;
    let test = database.reopen(test).await;
    let kept = Some(Some(subscriptions.clone()));
    assert_eq!(test.connect(&device, "MQ==", 2, false).await, kept);
    assert_eq!(test.connect(&device, "MQ==", 3, true).await, Some(None));
    // A clean session does not store its subscriptions.
    subscribe(&test, 3).await;
    assert_eq!(test.connect(&device, "MQ==", 4, false).await, Some(None));
    // What a connection subscribes to that was taken over is not stored.
    subscribe(&test, 3).await;
    let empty = Some(Some(Vec::new()));
    assert_eq!(test.connect(&device, "MQ==", 5, false).await, empty);
    let nobody: DeviceId = "nobody".parse().unwrap();
    assert_eq!(test.connect(&nobody, "MQ==", 5, false).await, None);
}

pub(crate) async fn a_start_disconnects_all(database: &TestDatabase) {
    let test = database.open().await;
    let [first, second] = [test.add("first").await, test.add("second").await];
    let away = test.add("away").await;
    test.connect(&first, "MQ==", 8, true).await;
    test.connect(&second, "MQ==", 9, true).await;
    let test = database.reopen(test).await;
    assert_eq!(test.store.session_count().await.unwrap(), 2);
    let events = async || {
        let events = test.events(&[EventKind::Connection]).await.into_iter();
        events
            .filter(|event| event.operation.as_deref() == Some("deviceDisconnected"))
            .map(|event| event.subject)
            .collect::<Vec<_>>()
    };
    for _ in 0..2 {
        test.store.session_reset(now()).await.unwrap();
        for device in [&first, &second, &away] {
            assert_eq!(test.state(device).await, ConnectionState::Disconnected);
        }
        assert_eq!(events().await, ["first", "second"]);
    }
    // Epochs begin again.
    assert!(test.connect(&first, "MQ==", 1, true).await.is_some());
}

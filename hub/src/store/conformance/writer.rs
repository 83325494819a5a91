use super::*;

pub(crate) async fn an_answer_survives_a_restart(database: &TestDatabase) {
    let test = database.open().await;
    assert!(test.store.size().await.unwrap() > 0);
    test.add("d").await;
    // Housekeeping while nothing is written changes nothing.
    test.store.probe().await.unwrap();
    test.store.checkpoint_if_idle(Duration::ZERO).await;
    while test.store.idle_for().is_none() {
        tokio::task::yield_now().await;
    }
    // Closing finishes what is queued.
    let ids: Vec<_> = (0..50).map(|number| format!("q{number}")).collect();
    let queued = ids.iter().map(|id| test.add(id));
    let queued = futures_util::future::join_all(queued);
    tokio::join!(queued, async { test.store.close().await });
    let test = database.reopen(test).await;
    let statistics = test.store.device_statistics().await.unwrap();
    assert_eq!(statistics.total, 51);
}

pub(crate) async fn a_closed_store_refuses_and_a_healthy_one_is_not_failing(
    database: &TestDatabase,
) {
    let test = database.open().await;
    let device = test.add("d").await;
    assert!(!test.store.is_failing() && !test.store.is_hanging());
    // A refused change is not a failure of the store.
    let refused = test
        .store
        .device_delete(&device, |_| Err(StoreError::Closed));
    refused.await.unwrap_err();
    assert!(!test.store.is_failing());
    // Devices take turns, and the writes of others do not.
    let mut turns = Vec::new();
    loop {
        let turn = test.store.device_turn();
        let Ok(turn) = tokio::time::timeout(Duration::from_millis(20), turn).await else {
            break;
        };
        turns.push(turn.unwrap());
        assert!(turns.len() < 10_000);
    }
    test.store.webhook_save("hook", 1).await.unwrap();
    drop(turns);
    drop(test.store.device_turn().await.unwrap());
    test.store.close().await;
    let closed = test.store.probe().await;
    assert!(matches!(closed, Err(StoreError::Closed)), "{closed:?}");
}

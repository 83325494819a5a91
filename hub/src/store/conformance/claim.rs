use serde_json::json;

use super::*;

pub(crate) async fn a_claim_is_durable_and_gives_no_row_twice(database: &TestDatabase) {
    let test = database.open().await;
    test.add_devices(10).await;
    let row = test.start_job("job").await;
    let first = test.claim(row, 0, 4).await;
    assert_eq!(names(&first.targets), ["d0", "d1", "d2", "d3"]);
    assert_eq!(first.next, Some(4));
    let test = database.reopen(test).await;
    let counted = test.counts("job").await;
    assert_eq!(counted, counts(6, 4, 0, 0));
    let running = test.rows().await;
    let running = running.iter().filter(|row| row.status == "running");
    assert_eq!(running.filter(|row| row.started.is_some()).count(), 4);
    // By position and by ordinal alike.
    let second = test.claim(row, 0, 4).await;
    assert_eq!(ordinals(&second.targets), [4, 5, 6, 7]);
    let third = test.claim_these(row, vec![0, 7, 8, 8, 99], 0).await;
    assert_eq!(ordinals(&third.targets), [8]);
    let last = test.claim(row, 0, 4).await;
    assert_eq!((ordinals(&last.targets), last.next), (vec![9], Some(10)));
    let none = test.claim(row, 0, 4).await;
    assert_eq!((none.targets.len(), none.next), (0, None));
    assert_eq!(test.counts("job").await, counts(0, 10, 0, 0));
}

pub(crate) async fn claims_at_once_share_the_rows(database: &TestDatabase) {
    const DEVICES: u32 = 200;
    const AT_MOST: u32 = 7;
    let test = Arc::new(database.open().await);
    test.add_devices(DEVICES as usize).await;
    let row = test.start_job("job").await;
    let mut claimers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let test = Arc::clone(&test);
        claimers.spawn(async move {
            let mut claimed = Vec::new();
            loop {
                let targets = test.claim(row, 0, AT_MOST).await.targets;
                assert!(targets.len() <= AT_MOST as usize);
                if targets.is_empty() {
                    return claimed;
                }
                claimed.extend(ordinals(&targets));
            }
        });
    }
    let mut claimed: Vec<u32> = claimers.join_all().await.into_iter().flatten().collect();
    claimed.sort_unstable();
    let all: Vec<u32> = (0..DEVICES).collect();
    assert_eq!(claimed, all);
    assert_eq!(test.counts("job").await, counts(0, DEVICES.into(), 0, 0));
}

pub(crate) async fn an_offline_device_stays_pending_and_its_outcome_counts_once(
    database: &TestDatabase,
) {
    let test = database.open().await;
    test.add_devices(3).await;
    let row = test.start_job("job").await;
    let claimed = test
        .claim_online(row, 0, 3, |device| device.as_str() == "d1")
        .await;
    assert_eq!(ordinals(&claimed.targets), [1]);
    assert_eq!(ordinals(&claimed.offline), [0, 2]);
    assert_eq!(claimed.next, Some(3));
    assert_eq!(test.counts("job").await, counts(2, 1, 0, 0));
    for _ in 0..2 {
        test.end(row, 0, false, failed("DeviceNotOnline")).await;
        assert_eq!(test.counts("job").await, counts(1, 1, 0, 1));
    }
    // Claim them again by ordinal: one has ended, one is running, one has connected.
    let claimed = test.claim_these(row, vec![0, 1, 2], 3).await;
    assert_eq!(ordinals(&claimed.targets), [2]);
    assert_eq!(claimed.next, Some(3), "it does not look for others");
    assert_eq!(test.counts("job").await, counts(0, 2, 0, 1));
}

pub(crate) async fn a_recreated_device_is_not_part_of_an_earlier_job(database: &TestDatabase) {
    let test = database.open().await;
    for id in ["stays", "goes", "again"] {
        test.add(id).await;
    }
    let methods = test.start_job("methods").await;
    let twins = test.start_job("twins").await;
    for id in ["goes", "again"] {
        test.remove(id).await;
    }
    test.add("again").await;

    let claim = test.claim(methods, 0, 9).await;
    assert_eq!(claim.next, Some(3));
    assert_eq!(names(&claim.targets), ["stays"]);
    assert_eq!(test.counts("methods").await, counts(0, 1, 0, 2));

    let refuse = |_: &mut TwinRecord| Err(("Refused", "by the test".to_owned()));
    let updated = test
        .store
        .device_job_update_twins(twins, 0, 9, now(), refuse)
        .await;
    assert_eq!(updated.unwrap(), Some(3));
    assert_eq!(test.counts("twins").await, counts(0, 0, 0, 3));
    let error = |row: DeviceJobRecord| Some((row.device_id.to_string(), row.error?.0));
    let mut errors: Vec<_> = test.rows().await.into_iter().filter_map(error).collect();
    errors.sort();
    let expected = [
        ("again", "DeviceNotFound"),
        ("again", "DeviceNotFound"),
        ("goes", "DeviceNotFound"),
        ("goes", "DeviceNotFound"),
        ("stays", "Refused"),
    ];
    assert_eq!(
        errors,
        expected.map(|(id, code)| (id.to_owned(), code.to_owned()))
    );
}

pub(crate) async fn the_first_outcome_counts_and_comes_back_verbatim(database: &TestDatabase) {
    let test = database.open().await;
    test.add_devices(3).await;
    let row = test.start_job("job").await;
    test.claim(row, 0, 3).await;
    let payload = r#"{"z":1E2,"a":"\u0000","n":1.0,"a ":[ ]}"#;
    let outcome = |ordinal, result| DeviceOutcome {
        ordinal,
        claimed: true,
        result,
    };
    // The same row twice in one call, too.
    let outcomes = [
        outcome(0, answered(payload)),
        outcome(0, failed("Late")),
        outcome(1, failed("Timeout")),
    ];
    for _ in 0..2 {
        let ending = test
            .store
            .device_job_end(row, Arc::new(outcomes.clone()), now());
        ending.await.unwrap();
        test.end(row, 1, true, answered("{}")).await;
        test.end(row, 0, true, DeviceResult::NotSent).await;
        assert_eq!(test.counts("job").await, counts(0, 1, 1, 1));
    }
    let test = database.reopen(test).await;
    let rows = test.rows().await;
    let [first, second, third] = &rows[..] else {
        panic!("{rows:?}");
    };
    assert_eq!(first.status, "completed");
    let response = Some((200, Some(payload.to_owned())));
    assert_eq!((&first.response, &first.error), (&response, &None));
    assert!(first.ended.is_some() && first.started <= first.ended);
    assert_eq!(
        (second.status.as_str(), &second.response),
        ("failed", &None)
    );
    let error = ("Timeout".to_owned(), "reason".to_owned());
    assert_eq!(second.error, Some(error));
    assert_eq!((third.status.as_str(), &third.ended), ("running", &None));
    assert_eq!(
        (first.job_id.as_str(), first.device_id.as_str()),
        ("job", "d0")
    );
}

pub(crate) async fn a_call_that_was_not_sent_is_pending_again_unless_the_job_was_stopped(
    database: &TestDatabase,
) {
    let test = database.open().await;
    test.add_devices(3).await;
    let row = test.start_job("job").await;
    test.claim(row, 0, 2).await;
    for _ in 0..2 {
        test.end(row, 0, true, DeviceResult::NotSent).await;
        assert_eq!(test.counts("job").await, counts(2, 1, 0, 0));
    }
    assert_eq!(test.statuses().await, ["pending", "running", "pending"]);
    assert_eq!(test.rows().await[0].started, None);
    let again = test.claim(row, 0, 1).await;
    assert_eq!(names(&again.targets), ["d0"]);

    let stopped = test.cancel("job", CancelMode::Stop).await;
    assert!(matches!(stopped, JobCancel::Done(_)));
    assert_eq!(test.statuses().await, ["running", "running", "canceled"]);
    test.end(row, 0, true, DeviceResult::NotSent).await;
    assert_eq!(test.statuses().await, ["canceled", "running", "canceled"]);
    let counted = test.counts("job").await;
    assert_eq!((counted.pending, counted.running), (0, 1));
    assert!(test.claim(row, 0, 9).await.targets.is_empty());
}

pub(crate) async fn calls_of_a_previous_run_end_unknown(database: &TestDatabase) {
    const UNKNOWN: (&str, &str) = ("OutcomeUnknown", "the hub was restarted");
    let test = database.open().await;
    test.add_devices(4).await;
    let ended = test.start_job("ended").await;
    test.claim(ended, 0, 4).await;
    test.complete(ended).await;
    let jobs = [test.start_job("one").await, test.start_job("two").await];
    test.claim(jobs[0], 0, 3).await;
    test.end(jobs[0], 1, true, answered("{}")).await;
    test.claim(jobs[1], 0, 1).await;
    let test = database.reopen(test).await;
    let recover = || test.store.device_job_recover(UNKNOWN, now());
    assert_eq!(recover().await.unwrap(), 3);
    assert_eq!(recover().await.unwrap(), 0);
    assert_eq!(test.counts("one").await, counts(1, 0, 1, 2));
    assert_eq!(test.counts("two").await, counts(3, 0, 0, 1));
    assert_eq!(test.counts("ended").await, counts(0, 0, 0, 4));
    let is_unknown = |row: &DeviceJobRecord| {
        let code = row.error.as_ref().map(|(code, _)| code.as_str());
        code == Some(UNKNOWN.0)
    };
    let unknown = test.rows().await.into_iter().filter(is_unknown);
    let unknown: Vec<_> = unknown
        .map(|row| format!("{} {}", row.job_id, row.device_id))
        .collect();
    assert_eq!(unknown, ["one d0", "one d2", "two d0"]);
    let left = test.claim(jobs[0], 0, 10).await;
    assert_eq!(ordinals(&left.targets), [3]);
}

pub(crate) async fn a_job_updates_twins_with_their_rows(database: &TestDatabase) {
    let test = database.open().await;
    test.add_devices(5).await;
    let row = test.start_job("job").await;
    let update = |twin: &mut TwinRecord| match twin.device.device_id.as_str() {
        "d1" => Err(("ArgumentInvalid", "too large".to_owned())),
        _ => Ok(retag(twin, object(json!({ "floor": 3 })))),
    };
    let store = &test.store;
    let step = |from, at_most| store.device_job_update_twins(row, from, at_most, now(), update);
    assert_eq!(step(0, 3).await.unwrap(), Some(3));
    assert_eq!(test.counts("job").await, counts(2, 0, 2, 1));
    let test = database.reopen(test).await;
    let store = &test.store;
    let step = |from, at_most| store.device_job_update_twins(row, from, at_most, now(), update);
    // What has ended is not updated again.
    assert_eq!(step(0, 9).await.unwrap(), Some(5));
    assert_eq!(step(0, 9).await.unwrap(), None);
    assert_eq!(test.counts("job").await, counts(0, 0, 4, 1));
    for (id, version) in [("d0", 3), ("d1", 2), ("d2", 3), ("d3", 3), ("d4", 3)] {
        let twin = test.twin(&device(id)).await;
        assert_eq!(twin.version, version, "{id}");
        assert_eq!(twin.tags.contains_key("floor"), version == 3, "{id}");
    }
    assert_eq!(test.events(&[EventKind::Twin]).await.len(), 4);
    let expected = ["completed", "failed", "completed", "completed", "completed"];
    assert_eq!(test.statuses().await, expected);
}

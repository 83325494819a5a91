//! One damaged row: reads of many rows return the others.

use std::fs;
use std::ops::Range;

use iothub_protocol::query;
use iothub_protocol::twin::Object;

use super::*;

/// A text in the tags of `bad`, by which its row is found in the database file.
const MARK: &str = "marked-for-damage";

fn tags(text: &str) -> Object {
    serde_json::from_value(serde_json::json!({ "floor": 3, "wing": text })).unwrap()
}

fn touch(tags: Object) -> impl Fn(&mut TwinRecord) -> Result<TwinChange, (&'static str, String)> {
    move |record| Ok(retag(record, tags.clone()))
}

async fn three() -> FileStore {
    let test = FileStore::open();
    for id in ["first", "bad", "last"] {
        let device = test.add(id).await;
        let change = touch(tags(if id == "bad" { MARK } else { "x" }));
        let change =
            move |record: &mut TwinRecord| Ok::<_, StoreError>((change(record).unwrap(), ()));
        test.store.twin_update(&device, None, change).await.unwrap();
    }
    test
}

/// Damages the closed file with SQL.
fn damage(folder: &TempDir, sql: &str) {
    let connection = Connection::open(folder.path().join("hub.db")).unwrap();
    connection
        .execute_batch("PRAGMA ignore_check_constraints = ON")
        .unwrap();
    connection.execute_batch(sql).unwrap();
}

async fn closed(test: FileStore) -> TempDir {
    test.store.close().await;
    test.folder
}

/// The devices that a query matches, in pages of `size`.
async fn found(store: &Store, text: &str, size: u32) -> Vec<String> {
    let query = query::parse(text).unwrap();
    let mut found = Vec::new();
    let mut after = Some(RowPosition::START);
    while let Some(place) = after {
        let sections = Sections::of(query.items());
        let page = store.query_twins(query.condition.clone(), sections, place, size);
        let page = page
            .await
            .unwrap_or_else(|error| panic!("{text}: {error:?}"));
        found.extend(
            page.rows
                .iter()
                .map(|twin| twin.device.device_id.to_string()),
        );
        after = page.next;
    }
    found
}

async fn counted(store: &Store, text: &str) -> u64 {
    let query = query::parse(text).unwrap();
    let page = store
        .query_groups(query, GroupPosition::default(), 10)
        .await;
    let page = page.unwrap_or_else(|error| panic!("{text}: {error:?}"));
    page.rows.iter().map(|row| row["n"].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn a_query_leaves_out_a_twin_only_if_it_reads_what_is_damaged() {
    let folder = closed(three().await).await;
    damage(&folder, "UPDATE twin SET reported = x'ff' WHERE id = 2");
    let test = FileStore::open_in(folder);
    for select in ["deviceId", "tags.wing", "properties.desired"] {
        let query = format!("SELECT {select} FROM devices");
        let found = found(&test.store, &query, 100).await;
        assert_eq!(found, ["first", "bad", "last"], "{query}");
    }
    for select in ["*", "properties.reported.door", "properties"] {
        let query = format!("SELECT {select} FROM devices");
        let found = found(&test.store, &query, 100).await;
        assert_eq!(found, ["first", "last"], "{query}");
    }
}

/// Each row: what is damaged of `bad`, what exists for the job's policy, and the devices of the job
/// and those that fail.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_device_exists_for_a_scope_only_if_it_is_known_to_be_inside() {
    let permits: [JobPermit; 4] = [
        |_| Ok(None),
        |_| Ok(Some(query::parse_condition("deviceId != 'bad'").unwrap())),
        |_| Ok(Some(query::parse_condition("tags.floor > 2").unwrap())),
        |_| Err("PolicyRemoved".to_owned()),
    ];
    for (column, permit, devices, failed) in [
        ("reported", 0, 3, 1),
        ("reported", 1, 2, 0),
        ("reported", 2, 3, 1),
        ("tags", 0, 3, 1),
        ("tags", 2, 2, 0),
        ("reported", 3, 0, 0),
    ] {
        let case = format!("{column}, {permit}");
        let folder = closed(three().await).await;
        let sql = format!("UPDATE twin SET {column} = x'ff' WHERE id = 2");
        damage(&folder, &sql);
        let test = FileStore::open_in(folder);
        test.store.job_insert(new_job("job")).await.unwrap();
        let row = test.job("job").await.row;
        let condition =
            query::parse_condition("NOT IS_DEFINED(properties.reported.a) AND tags.wing != 'y'");
        let started = test
            .store
            .job_start(row, Some(condition.unwrap()), permits[permit], now());
        let started = started.await.unwrap();
        let is_refused = started == JobStart::Refused("PolicyRemoved".to_owned());
        assert_eq!(is_refused, permit == 3, "{case}: {started:?}");
        let job = test.job("job").await;
        assert_eq!(
            (job.counts.devices, job.counts.failed),
            (devices, failed),
            "{case}"
        );
        let scope = crate::types::Scope {
            policy: "guard".parse().unwrap(),
            condition: Some(query::parse_condition("tags.floor > 2").unwrap()),
        };
        let seen = test
            .store
            .twin_get(&"bad".parse().unwrap(), Some(scope.into()))
            .await;
        assert_eq!(seen.is_err(), column == "reported", "{case}: {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_unreadable_bounds_does_not_start() {
    let test = three().await;
    test.store.job_insert(new_job("job")).await.unwrap();
    let row = test.job("job").await.row;
    let folder = closed(test).await;
    damage(&folder, "UPDATE job SET policy = 'guard', bounds = '{}'");
    let test = FileStore::open_in(folder);
    let started = test.store.job_start(row, None, |_| Ok(None), now()).await;
    assert!(
        matches!(started, Err(StoreError::Corrupt { .. })),
        "{started:?}"
    );
    assert_eq!(test.job("job").await.status, JobStatus::Queued);
}

/// Tests every read of many devices, and every batch over them, with `bad` damaged. `lists` is
/// whether its identity is damaged too.
async fn all_but_bad(case: &str, test: &FileStore, lists: bool) {
    let store = &test.store;
    store.session_reset(now()).await.unwrap();
    let bad = store.twin_get(&"bad".parse().unwrap(), None).await;
    let is_readable = bad.is_ok_and(|twin| twin.is_some());
    for size in [1, 2, 100] {
        for text in [
            "SELECT * FROM devices",
            "SELECT * FROM devices WHERE tags.floor = 3",
            "SELECT * FROM devices WHERE tags.wing != 'y' OR properties.desired.a = 1",
            "SELECT * FROM devices WHERE NOT IS_DEFINED(properties.reported.a)",
        ] {
            let mut found = found(store, text, size).await;
            if is_readable {
                found.retain(|id| id != "bad");
            }
            assert_eq!(found, ["first", "last"], "{case}: {text}, pages of {size}");
        }
        let listed = store.device_list(size, None).await.unwrap();
        let listed: Vec<_> = listed
            .iter()
            .map(|device| device.device_id.to_string())
            .collect();
        let mut expected = vec!["first", "bad", "last"];
        if lists {
            expected.retain(|id| *id != "bad");
        }
        expected.truncate(size as usize);
        assert_eq!(listed, expected, "{case}: a list of {size}");
    }
    for text in [
        "SELECT tags.floor, COUNT() AS n FROM devices GROUP BY tags.floor",
        "SELECT COUNT() AS n, MAX(tags.wing) AS m FROM devices",
    ] {
        let counted = counted(store, text).await;
        assert!((2..=3).contains(&counted), "{case}: {text}: {counted}");
    }
    // Jobs: on all devices, and with a condition that reads the damaged document.
    for (job, condition) in [("all", "*"), ("some", "tags.wing != 'y'")] {
        let new = NewJob {
            kind: JobType::ScheduleUpdateTwin,
            query_condition: condition.into(),
            ..new_job(job)
        };
        store.job_insert(new).await.unwrap();
        let row = test.job(job).await.row;
        let condition = (condition != "*").then(|| query::parse_condition(condition).unwrap());
        store
            .job_start(row, condition, |_| Ok(None), now())
            .await
            .unwrap();
        let update = touch(tags("x"));
        let next = store
            .device_job_update_twins(row, 0, 100, now(), update)
            .await;
        next.unwrap_or_else(|error| panic!("{case}: job {job}: {error:?}"));
        let counts = test.job(job).await.counts;
        assert!(counts.succeeded >= 2, "{case}: job {job}: {counts:?}");
        assert_eq!(
            counts.devices,
            counts.succeeded + counts.failed,
            "{case}: job {job}: {counts:?}"
        );
        let records = store
            .query_device_jobs(None, None, RowPosition(row, -1), 100)
            .await
            .unwrap();
        for record in &records.rows {
            let ended = match record.device_id.as_ref() {
                "bad" => ["failed", "completed"].contains(&record.status.as_str()),
                _ => record.status == "completed",
            };
            assert!(ended, "{case}: job {job}: {record:?}");
        }
    }
}

/// The damaged device can be removed and created again, and bulk operations still work.
async fn is_mended_by_removal(case: &str, test: &FileStore) {
    let bad: DeviceId = "bad".parse().unwrap();
    let removed = test
        .store
        .device_delete(&bad, |_| Ok::<_, StoreError>(()))
        .await;
    let removed = removed.unwrap_or_else(|error| panic!("{case}: {error:?}"));
    assert!(removed, "{case}");
    test.add("bad").await;
    let found = found(&test.store, "SELECT * FROM devices", 100).await;
    assert_eq!(found, ["first", "last", "bad"], "{case}");
    test.store.close().await;
    let path = test.folder.path().join("hub.db");
    let faults = [faults(&path).unwrap(), damaged(&path).unwrap()].concat();
    assert!(faults.is_empty(), "{case}: {faults:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_read_and_batch_skips_a_damaged_device_which_can_be_removed() {
    for (column, value) in [
        ("twin.tags", "x'ff'"),
        ("twin.tags", "x''"),
        ("twin.tags", "x'07'"),
        ("twin.tags", "jsonb('[1]')"),
        ("twin.reported", "jsonb('{\"a\":1e999}')"),
        ("twin.reported", "jsonb('{\"a\":\"\\ud800\"}')"),
        ("twin.desired", "x'cc05'"),
        ("twin.desired_metadata", "x'01'"),
        ("twin.reported", "CAST('{\"a\":' AS BLOB)"),
        ("twin.reported_metadata", "x'ff'"),
        ("twin.version", "-1"),
        ("twin.etag", "-1"),
        ("twin.model_id", "CAST(x'ff' AS TEXT)"),
        ("device.generation_id", "CAST(x'ff' AS TEXT)"),
        ("device.etag", "CAST(x'ff' AS TEXT)"),
        ("device.status", "CAST(x'ff' AS TEXT)"),
        ("device.authentication_type", "CAST(x'ff' AS TEXT)"),
        ("device.primary_key", "x'', secondary_key = x'00'"),
        ("device.last_activity", "CAST(x'ff' AS TEXT)"),
        ("device.device_id", "CAST(x'ff' AS TEXT)"),
    ] {
        let case = format!("{column} = {value}");
        let folder = closed(three().await).await;
        let (table, column) = column.split_once('.').unwrap();
        damage(
            &folder,
            &format!("UPDATE {table} SET {column} = {value} WHERE id = 2"),
        );
        let named = damaged(&folder.path().join("hub.db")).unwrap();
        assert_eq!(named.len(), 1, "{case}: {named:?}");
        let test = FileStore::open_in(folder);
        all_but_bad(&case, &test, table == "device").await;
        if column != "device_id" {
            is_mended_by_removal(&case, &test).await;
        }
    }
}

/// The range of bytes around the marker text: the row.
fn around(bytes: &[u8], before: usize, after: usize) -> Range<usize> {
    let at = bytes
        .windows(MARK.len())
        .rposition(|window| window == MARK.as_bytes())
        .unwrap();
    at - before..at + MARK.len() + after
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_a_twin_does_not_affect_other_twins() {
    let folder = closed(three().await).await;
    let whole = fs::read(folder.path().join("hub.db")).unwrap();
    let marks = whole
        .windows(MARK.len())
        .filter(|window| *window == MARK.as_bytes());
    assert!(marks.count() >= 1);
    for byte in around(&whole, 12, 40) {
        for bit in [0, 7] {
            let folder = tempfile::tempdir().unwrap();
            let mut bytes = whole.clone();
            bytes[byte] ^= 1 << bit;
            fs::write(folder.path().join("hub.db"), bytes).unwrap();
            let test = FileStore::open_in(folder);
            all_but_bad(&format!("bit {bit} of byte {byte}"), &test, false).await;
            test.store.close().await;
        }
    }
}

/// A damaged page costs its own rows only.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_page_of_twins_does_not_affect_other_pages() {
    const DEVICES: usize = 40;
    const PAGE: usize = 4096;
    let test = FileStore::open();
    for number in 0..DEVICES {
        let device = test.add(&format!("d{number:02}")).await;
        let change = touch(tags(&format!("{MARK}{}", "x".repeat(600))));
        let change =
            move |record: &mut TwinRecord| Ok::<_, StoreError>((change(record).unwrap(), ()));
        test.store.twin_update(&device, None, change).await.unwrap();
    }
    let folder = closed(test).await;
    let whole = fs::read(folder.path().join("hub.db")).unwrap();
    // A leaf page of a table with documents: neither of an index nor of events, whose bodies are
    // short here.
    let is_leaf = |page: &&[u8]| {
        let marks = page
            .windows(MARK.len())
            .filter(|window| *window == MARK.as_bytes());
        page[0] == 0x0d && marks.count() >= 2
    };
    let leaves: Vec<usize> = (1..whole.len() / PAGE)
        .filter(|page| is_leaf(&&whole[page * PAGE..(page + 1) * PAGE]))
        .collect();
    assert!(leaves.len() > 4, "{leaves:?}");
    for (page, byte, value) in [
        (leaves[0], 0, 0x00),
        (leaves[1], 0, 0x02),
        (leaves[2], 3, 0xff),
        (leaves[leaves.len() - 1], 0, 0x0a),
    ] {
        let case = format!("byte {byte} of page {page}");
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = whole.clone();
        bytes[page * PAGE + byte] = value;
        fs::write(folder.path().join("hub.db"), bytes).unwrap();
        let test = FileStore::open_in(folder);
        let store = &test.store;
        store.session_reset(now()).await.unwrap();
        for size in [7, 100] {
            for text in [
                "SELECT * FROM devices",
                "SELECT * FROM devices WHERE tags.wing != 'y'",
                "SELECT * FROM devices WHERE tags.floor = 3",
            ] {
                let found = found(store, text, size).await.len();
                assert!(
                    (DEVICES - 10..DEVICES).contains(&found),
                    "{case}: {text}: {found}"
                );
            }
        }
        let text = "SELECT tags.floor, COUNT() AS n FROM devices GROUP BY tags.floor";
        let counted = counted(store, text).await;
        assert!(counted >= DEVICES as u64 - 10, "{case}: {counted}");
        assert_eq!(
            store.device_list(100, None).await.unwrap().len(),
            DEVICES,
            "{case}"
        );
        let row = test.start_job("all").await;
        let mut next = Some(0);
        while let Some(from) = next {
            let update = touch(tags("x"));
            let updated = store.device_job_update_twins(row, from, 100, now(), update);
            next = updated
                .await
                .unwrap_or_else(|error| panic!("{case}: {error:?}"));
        }
        let counts = test.job("all").await.counts;
        assert_eq!(counts.devices, DEVICES as u64, "{case}");
        assert!(
            counts.succeeded >= DEVICES as u64 - 10,
            "{case}: {counts:?}"
        );
        assert_eq!(counts.succeeded + counts.failed, counts.devices, "{case}");
        store.close().await;
        let named = damaged(&test.folder.path().join("hub.db")).unwrap();
        assert!((1..=10).contains(&named.len()), "{case}: {named:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_page_of_identities_does_not_lock_out_other_devices() {
    const PAGE: usize = 4096;
    let test = FileStore::open();
    let mut devices = Vec::new();
    let connect = async |store: &Store, device: &DeviceId| {
        let connected =
            store.session_connect(device, "MQ==".into(), ConnectionEpoch(9), true, now());
        connected.await.is_ok_and(|kept| kept.is_some())
    };
    for number in 0..400 {
        let device = test.add(&format!("d{number:03}")).await;
        assert!(connect(&test.store, &device).await);
        devices.push(device);
    }
    let folder = closed(test).await;
    let mut bytes = fs::read(folder.path().join("hub.db")).unwrap();
    let is_leaf = |page: &[u8]| {
        let etags = page.windows(4).filter(|window| *window == b"MQ==");
        page[0] == 0x0d && etags.count() >= 5
    };
    let leaves: Vec<usize> = (1..bytes.len() / PAGE)
        .filter(|page| is_leaf(&bytes[page * PAGE..(page + 1) * PAGE]))
        .collect();
    assert!(leaves.len() >= 3, "{leaves:?}");
    bytes[leaves[1] * PAGE] = 0;
    fs::write(folder.path().join("hub.db"), bytes).unwrap();
    let test = FileStore::open_in(folder);
    test.store.session_reset(now()).await.unwrap();
    // Devices of the lost page connect at the same time; they do not abort other transactions.
    let tries = devices.iter().map(|device| connect(&test.store, device));
    let connected = futures_util::future::join_all(tries).await;
    let connected = connected.into_iter().filter(|connected| *connected).count();
    // SQLite cannot balance the pages next to the lost one, so their rows must not grow.
    assert!((250..400).contains(&connected), "{connected}");
    let listed = test.store.device_list(1000, None).await.unwrap().len();
    assert!((350..400).contains(&listed), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_jobs_events_calls_and_policies_skip_a_damaged_row() {
    let limits = crate::config::AuditLimits {
        max_days: 100,
        max_rows: 100,
    };
    const INVALID: &str = "CAST(x'ff' AS TEXT)";
    const LATE: &str = "9223372036854775807";
    for (case, table, column, value, row) in [
        ("a job's name", "job", "job_id", INVALID, "id = 2"),
        ("a job's type", "job", "type", "'nonsense'", "id = 2"),
        ("a job's status", "job", "status", "'nonsense'", "id = 2"),
        ("a job's start", "job", "start", "'soon'", "id = 2"),
        ("a job's count", "job", "failed_count", "-1", "id = 2"),
        ("an event's time", "event", "at", LATE, "id = 2"),
        ("an event's kind", "event", "kind", "'nonsense'", "id = 2"),
        ("an event's subject", "event", "subject", INVALID, "id = 2"),
        ("a call's time", "audit", "at", LATE, "id = 2"),
        ("a call's policy", "audit", "policy", INVALID, "id = 2"),
        (
            "a policy's key",
            "policy",
            "primary_key",
            "x''",
            "name = 'second'",
        ),
        (
            "a policy's bounds",
            "policy",
            "bounds",
            "'{}'",
            "name = 'second'",
        ),
        // As if a right that has no bounds were added.
        (
            "a policy's bounds and rights",
            "policy",
            "bounds",
            "'{\"access\":\"read\"}'",
            "name = 'second'",
        ),
        (
            "a policy's name",
            "policy",
            "name",
            "'a b'",
            "name = 'second'",
        ),
        (
            "a device's record",
            "device_job",
            "device_id",
            INVALID,
            "job = 2",
        ),
        ("a session", "device", "subscriptions", "'['", "id = 2"),
    ] {
        let test = three().await;
        let policies = ["first", "second"].map(|name| crate::identity::Policy {
            name: name.parse().unwrap(),
            keys: crate::identity::Keys {
                primary: iothub_protocol::sas::SharedAccessKey::from_bytes(&[7; 32]).unwrap(),
                secondary: iothub_protocol::sas::SharedAccessKey::from_bytes(&[7; 32]).unwrap(),
            },
            rights: crate::identity::Rights::ALL,
            bounds: None,
        });
        test.store.policy_list(policies.into()).await.unwrap();
        for name in ["one", "two", "three"] {
            test.start_job(name).await;
            let attempt = crate::types::AuditAttempt {
                policy: "first".parse().unwrap(),
                peer: "127.0.0.1:1".into(),
                operation: "device.create",
                target: name.into(),
                detail: None,
                reason: None,
            };
            test.store
                .audit_begin(attempt, now(), limits)
                .await
                .unwrap();
        }
        let folder = closed(test).await;
        let sql = format!(
            "DROP TRIGGER audit_is_completed_once; \
             UPDATE {table} SET {column} = {value} WHERE {row}"
        );
        damage(&folder, &sql);
        let test = FileStore::open_in(folder);
        let store = &test.store;
        let damaged = |what: &str| usize::from(case.contains(what));

        for size in [1, 100] {
            let (mut jobs, mut before) = (0, None);
            loop {
                let page = store
                    .job_list(crate::types::JobFilter::default(), before, size)
                    .await
                    .unwrap();
                jobs += page.rows.len();
                match page.next {
                    Some(next) => before = Some(next.0),
                    None => break,
                }
            }
            assert_eq!(jobs, 3 - damaged("a job's"), "{case}: pages of {size}");
            let (mut records, mut after) = (0, Some(RowPosition::START));
            while let Some(place) = after {
                let page = store
                    .query_device_jobs(None, None, place, size)
                    .await
                    .unwrap();
                records += page.rows.len();
                after = page.next;
            }
            let lost = ["a device's record", "a job's name"].contains(&case);
            let expected = if lost { 6 } else { 9 };
            assert_eq!(records, expected, "{case}: pages of {size}");
        }
        let active = store.job_active().await.unwrap().len();
        assert_eq!(active, 3 - damaged("a job's"), "{case}");
        let page = store
            .event_page(EventFilter::default(), None, 0, 1000, usize::MAX)
            .await
            .unwrap();
        let total = store.event_total().await.unwrap().0;
        assert_eq!(
            page.events.len() as u64,
            total - damaged("an event's") as u64,
            "{case}"
        );
        let calls = store
            .audit_list(iothub_protocol::audit::AuditFilter::default(), None, 100)
            .await
            .unwrap();
        assert_eq!(calls.len(), 3 - damaged("a call's"), "{case}");
        // No defaults are inserted, so nobody is locked out.
        let policies = store.policy_list(Vec::new()).await.unwrap();
        assert_eq!(policies.len(), 2 - damaged("a policy's"), "{case}");
        let bad = "bad".parse().unwrap();
        let kept = store
            .session_connect(&bad, "MQ==".into(), ConnectionEpoch(1), false, now())
            .await;
        assert!(kept.unwrap().is_some(), "{case}: the device connects");
        store.write(1, |_| Ok::<_, StoreError>(())).await.unwrap();
    }
}

use iothub_protocol::audit::{AuditEntry, AuditFilter};
use jiff::SignedDuration;

use super::*;
use crate::config::AuditLimits;
use crate::types::AuditAttempt;

const DAY: SignedDuration = SignedDuration::from_hours(24);
const LIMITS: AuditLimits = AuditLimits {
    max_days: 10,
    max_rows: 100,
};

fn attempt(operation: &'static str, target: &str, detail: Option<&str>) -> AuditAttempt {
    AuditAttempt {
        policy: "owner".parse().unwrap(),
        peer: "127.0.0.1:1".into(),
        operation,
        target: target.into(),
        detail: detail.map(str::to_owned),
        reason: None,
    }
}

async fn list(test: &TestStore, filter: AuditFilter) -> Vec<AuditEntry> {
    test.store.audit_list(filter, None, 100).await.unwrap()
}

pub(crate) async fn a_filter_matches_all_that_it_names(database: &TestDatabase) {
    let test = database.open().await;
    for (operation, target, detail) in [
        ("device.create", "east", None),
        (
            "device.bulk",
            "",
            Some("3 operations (create 3): east east-2 north"),
        ),
        ("method.invoke", "north", Some("reboot for: east")),
    ] {
        let attempt = attempt(operation, target, detail);
        let begun = test.store.audit_begin(attempt, now(), LIMITS);
        begun.await.unwrap();
    }
    for (target, expected) in [
        ("east", &["device.bulk", "device.create"][..]),
        ("east-2", &["device.bulk"]),
        ("north", &["method.invoke", "device.bulk"]),
        ("operations", &[]),
        ("eas", &[]),
    ] {
        let filter = AuditFilter {
            target: Some(target.into()),
            ..AuditFilter::default()
        };
        let rows = list(&test, filter).await;
        let found: Vec<&str> = rows.iter().map(|row| row.operation.as_str()).collect();
        assert_eq!(found, expected, "{target}");
    }
    // A job is found by its devices.
    test.add("west").await;
    test.start_job("job").await;
    let begun = test
        .store
        .audit_begin(attempt("job.create", "job", None), now(), LIMITS);
    let job = begun.await.unwrap();
    let default = AuditFilter::default;
    for (filter, expected) in [
        (
            AuditFilter {
                target: Some("west".into()),
                ..default()
            },
            1,
        ),
        (
            AuditFilter {
                operation: Some("device.create".into()),
                ..default()
            },
            1,
        ),
        (
            AuditFilter {
                policy: Some("owner".into()),
                ..default()
            },
            4,
        ),
        (
            AuditFilter {
                policy: Some("guard".into()),
                ..default()
            },
            0,
        ),
        (
            AuditFilter {
                since: Some(now() + DAY),
                ..default()
            },
            0,
        ),
    ] {
        let found = list(&test, filter.clone()).await.len();
        assert_eq!(found, expected, "{filter:?}");
    }
    let older = test.store.audit_list(default(), Some(job), 2).await;
    let older = older.unwrap();
    let older: Vec<_> = older.iter().map(|row| row.operation.as_str()).collect();
    assert_eq!(older, ["method.invoke", "device.bulk"]);
}

pub(crate) async fn a_row_is_completed_once_and_old_rows_are_evicted(database: &TestDatabase) {
    let test = database.open().await;
    let now = now();
    let mut ids = Vec::new();
    for days in [30, 20, 5] {
        let attempt = attempt("twin.update", "door", None);
        let begun = test.store.audit_begin(attempt, now - DAY * days, LIMITS);
        ids.push(begun.await.unwrap());
    }
    let rows = || list(&test, AuditFilter::default());
    let left: Vec<i64> = rows().await.iter().map(|row| row.id).collect();
    assert_eq!(left, ids[2..]);

    test.store.audit_end(ids[2], 200, None).await.unwrap();
    test.store.audit_end(ids[2], 500, None).await.unwrap_err();
    // A row that has been evicted is not an error.
    test.store.audit_end(ids[0], 200, None).await.unwrap();
    assert_eq!(rows().await[0].status, Some(200));

    // Rows also expire while no new ones arrive.
    test.store.audit_expire(LIMITS).await.unwrap();
    assert_eq!(rows().await.len(), 1);
    let max_days = 4;
    let expired = test.store.audit_expire(AuditLimits { max_days, ..LIMITS });
    expired.await.unwrap();
    assert!(rows().await.is_empty());
    // The newest rows stay.
    let limits = AuditLimits {
        max_days: 10,
        max_rows: 3,
    };
    for number in 0..5 {
        let attempt = attempt("twin.update", &number.to_string(), None);
        test.store.audit_begin(attempt, now, limits).await.unwrap();
    }
    let targets: Vec<_> = rows().await.into_iter().map(|row| row.target).collect();
    assert_eq!(targets, ["4", "3", "2"]);
}

pub(crate) async fn an_attempt_is_on_record_before_its_end(database: &TestDatabase) {
    let test = database.open().await;
    let whole = AuditAttempt {
        reason: Some("drill \u{0} ü".into()),
        ..attempt("method.invoke", "door", Some("reboot"))
    };
    let at: Timestamp = "2026-11-23T10:00:00.123456Z".parse().unwrap();
    let limits = AuditLimits {
        max_days: 100_000,
        max_rows: 100,
    };
    let begun = test.store.audit_begin(whole, at, limits);
    let id = begun.await.unwrap();
    let test = database.reopen(test).await;
    let row = list(&test, AuditFilter::default()).await.remove(0);
    assert_eq!((row.id, row.time), (id, at));
    assert_eq!(
        (row.policy.as_str(), row.peer.as_str(), row.target.as_str()),
        ("owner", "127.0.0.1:1", "door")
    );
    assert_eq!(row.detail.as_deref(), Some("reboot"));
    assert_eq!(row.reason.as_deref(), Some("drill \u{0} ü"));
    assert_eq!((row.status, row.error), (None, None));
    let ended = test.store.audit_end(id, 504, Some("Timeout".into()));
    ended.await.unwrap();
    let row = list(&test, AuditFilter::default()).await.remove(0);
    assert_eq!((row.status, row.error), (Some(504), Some("Timeout".into())));
}

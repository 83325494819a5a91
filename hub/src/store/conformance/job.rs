use iothub_protocol::job::JobStatus;
use iothub_protocol::policy::Bounds;
use jiff::SignedDuration;
use serde_json::json;

use super::*;
use crate::store::job::JobPermit;
use crate::types::JobFilter;

fn operate() -> Option<Bounds> {
    Some(serde_json::from_str(r#"{"access":"operate"}"#).unwrap())
}

/// A job of a policy with bounds.
fn bounded_job(id: &str, policy: &str) -> NewJob {
    let author = Some(JobAuthor {
        policy: policy.parse().unwrap(),
        bounds: operate(),
    });
    NewJob {
        author,
        ..new_job(id)
    }
}

pub(crate) async fn the_end_of_a_job_that_is_gone_changes_nothing(database: &TestDatabase) {
    let test = database.open().await;
    test.complete(7).await;
}

pub(crate) async fn a_jobs_counts_match_its_rows(database: &TestDatabase) {
    let test = database.open().await;
    test.add_devices(5).await;
    let row = test.start_job("job").await;
    assert_eq!(test.counts("job").await, counts(5, 0, 0, 0));
    let claimed = test.claim(row, 0, 3).await;
    assert_eq!(names(&claimed.targets), ["d0", "d1", "d2"]);
    assert_eq!(test.counts("job").await, counts(2, 3, 0, 0));
    test.end(row, 0, true, answered("{}")).await;
    test.end(row, 1, true, failed("Code")).await;
    assert_eq!(test.counts("job").await, counts(2, 1, 1, 1));
    assert_eq!(test.claim(row, 3, 3).await.targets.len(), 2);
    test.complete(row).await;
    let job = test.job("job").await;
    assert_eq!(
        (job.status, job.counts),
        (JobStatus::Completed, counts(0, 0, 1, 4))
    );
    assert!(job.ended.is_some());
}

pub(crate) async fn a_cancelled_job_neither_starts_nor_fails(database: &TestDatabase) {
    let test = database.open().await;
    let row = test.insert_job(new_job("job")).await;
    let again = test.store.job_insert(new_job("job")).await;
    assert_eq!(again.unwrap(), JobInsert::Exists);
    let cancelled = test.cancel("job", CancelMode::BeforeStart).await;
    assert!(matches!(cancelled, JobCancel::Done(_)));
    let again = test.cancel("job", CancelMode::BeforeStart).await;
    assert!(matches!(again, JobCancel::TooLate(JobStatus::Cancelled)));
    let started = test.store.job_start(row, None, |_| Ok(None), now());
    assert_eq!(started.await.unwrap(), JobStart::Cancelled);
    let failing = test.store.job_fail(row, "late".into(), now());
    failing.await.unwrap();
    test.store.job_schedule(row).await.unwrap();
    assert_eq!(test.job("job").await.status, JobStatus::Cancelled);
    assert!(test.store.job_active().await.unwrap().is_empty());
    let nothing = test.cancel("nothing", CancelMode::Stop).await;
    assert!(matches!(nothing, JobCancel::NotFound));
}

pub(crate) async fn a_stopped_job_ends_when_its_calls_have_ended(database: &TestDatabase) {
    let test = database.open().await;
    test.add_devices(4).await;
    let row = test.start_job("job").await;
    test.claim(row, 0, 2).await;
    let late = test.cancel("job", CancelMode::BeforeStart).await;
    assert!(matches!(late, JobCancel::TooLate(JobStatus::Running)));
    let JobCancel::Done(job) = test.cancel("job", CancelMode::Stop).await else {
        panic!("a running job can be stopped")
    };
    assert!(job.stopped);
    assert_eq!((job.status, job.counts.pending), (JobStatus::Running, 0));
    assert_eq!(test.job("job").await.counts, job.counts);
    let statuses = ["running", "running", "canceled", "canceled"];
    assert_eq!(test.statuses().await, statuses);
    let test = database.reopen(test).await;
    assert!(test.claim(row, 0, 4).await.targets.is_empty());
    test.end(row, 0, true, answered("{}")).await;
    let recovered = test.store.device_job_recover(CODE, now()).await;
    assert_eq!(recovered.unwrap(), 1);
    // The outcome of a device that was not called any more comes too late.
    test.end(row, 2, false, failed("Late")).await;
    let statuses = ["completed", "failed", "canceled", "canceled"];
    assert_eq!(test.statuses().await, statuses);
    test.complete(row).await;
    let job = test.job("job").await;
    let devices = JobCounts {
        devices: 4,
        ..counts(0, 0, 1, 1)
    };
    assert_eq!((job.status, job.counts), (JobStatus::Cancelled, devices));
    let again = test.cancel("job", CancelMode::Stop).await;
    assert!(matches!(again, JobCancel::TooLate(JobStatus::Cancelled)));
}

pub(crate) async fn expired_jobs_are_deleted_with_their_rows(database: &TestDatabase) {
    let test = database.open().await;
    test.add("d").await;
    let row = test.start_job("old").await;
    test.complete(row).await;
    test.start_job("running").await;
    let past = now() - SignedDuration::from_hours(1);
    assert_eq!(test.store.job_expire(past).await.unwrap(), 0);
    let later = now() + SignedDuration::from_hours(1);
    assert_eq!(test.store.job_expire(later).await.unwrap(), 1);
    let jobs = test.store.job_list(JobFilter::default(), None, 10);
    let [left] = &jobs.await.unwrap().rows[..] else {
        panic!("one job is left")
    };
    assert_eq!(left.job_id.as_str(), "running");
    assert_eq!(test.rows().await.len(), 1);
}

pub(crate) async fn an_abandoned_job_records_what_was_sent(database: &TestDatabase) {
    let test = database.open().await;
    test.add_devices(3).await;
    let row = test.start_job("job").await;
    test.claim(row, 0, 2).await;
    let (not_started, unknown) = (("NotBegun", "a"), ("Unknown", "b"));
    let abandoned = test
        .store
        .job_abandon(row, "the disk".into(), not_started, unknown, now());
    abandoned.await.unwrap();
    let job = test.job("job").await;
    assert_eq!(
        (job.status, job.counts),
        (JobStatus::Failed, counts(0, 0, 0, 3))
    );
    assert_eq!(job.failure_reason.unwrap(), "the disk");
    let code = |row: DeviceJobRecord| row.error.unwrap().0;
    let codes: Vec<_> = test.rows().await.into_iter().map(code).collect();
    assert_eq!(codes, ["Unknown", "Unknown", "NotBegun"]);
}

pub(crate) async fn a_start_fixes_the_devices_that_condition_and_permit_match(
    database: &TestDatabase,
) {
    let test = database.open().await;
    test.store.policy_list(vec![policy("guard")]).await.unwrap();
    for (id, tags) in [
        ("a", json!({ "floor": 3 })),
        ("b", json!({ "floor": 4 })),
        ("c", json!({ "floor": 3, "wing": "west" })),
    ] {
        let id = test.add(id).await;
        test.set_tags(&id, tags).await;
    }
    let action = r#"{"z":1E2,"a":"\u0000"}"#;
    let job = NewJob {
        action: action.into(),
        query_condition: "tags.floor = 3 -- \u{0}".into(),
        kind: JobType::ScheduleUpdateTwin,
        max_execution: Duration::from_secs(7),
        start: "2026-11-23T10:00:00.1234567Z".parse().unwrap(),
        ..bounded_job("job", "guard")
    };
    let row = test.insert_job(job.clone()).await;
    test.store.job_schedule(row).await.unwrap();
    let test = database.reopen(test).await;
    let stored = test.job("job").await;
    assert_eq!(stored.status, JobStatus::Scheduled);
    assert_eq!(
        (stored.kind, stored.max_execution),
        (job.kind, job.max_execution)
    );
    assert_eq!((stored.action.as_str(), stored.start), (action, job.start));
    assert_eq!(stored.query_condition, job.query_condition);
    assert_eq!(test.store.job_action(row).await.unwrap(), action);
    assert_eq!(test.store.job_action(row + 1).await.unwrap(), "");

    let condition = parse_condition("tags.floor = 3").unwrap();
    let start = |permit: JobPermit| {
        let condition = Some(condition.clone());
        test.store.job_start(row, condition, permit, now())
    };
    let permit = |job: &WaitingJob| {
        assert_eq!(job.kind, JobType::ScheduleUpdateTwin);
        assert_eq!(job.action, r#"{"z":1E2,"a":"\u0000"}"#);
        assert_eq!(job.author.as_ref().unwrap().bounds, operate());
        assert_eq!(job.policy, Some(policy("guard")));
        Ok(Some(parse_condition("NOT IS_DEFINED(tags.wing)").unwrap()))
    };
    assert_eq!(start(permit).await.unwrap(), JobStart::Started(1));
    assert_eq!(test.counts("job").await, counts(1, 0, 0, 0));
    assert_eq!(start(permit).await.unwrap(), JobStart::Cancelled);
    // A later change of the device is too late.
    test.set_tags(&device("a"), json!({})).await;
    assert_eq!(names(&test.claim(row, 0, 9).await.targets), ["a"]);

    let refused = test.insert_job(new_job("refused")).await;
    let refuse = |_: &WaitingJob| Err("no longer".to_owned());
    let start = test.store.job_start(refused, None, refuse, now());
    assert_eq!(start.await.unwrap(), JobStart::Refused("no longer".into()));
    let stored = test.job("refused").await;
    assert_eq!(stored.status, JobStatus::Failed);
    assert_eq!(stored.failure_reason.as_deref(), Some("no longer"));
}

pub(crate) async fn lists_are_newest_first_and_filtered(database: &TestDatabase) {
    let test = database.open().await;
    test.store
        .policy_list(["guard", "other"].map(policy).into())
        .await
        .unwrap();
    for (id, policy) in [
        ("c", "guard"),
        ("a", "other"),
        ("b", "guard"),
        ("d", "other"),
    ] {
        test.insert_job(job_of(id, policy)).await;
    }
    test.store
        .job_schedule(test.job("a").await.row)
        .await
        .unwrap();
    let running = test.start_job("run").await;
    let row = test.job("d").await.row;
    test.store
        .job_fail(row, "late".into(), now())
        .await
        .unwrap();
    let list = async |filter: &JobFilter, size| -> String {
        let (mut found, mut before) = (String::new(), None);
        loop {
            let page = test.store.job_list(filter.clone(), before, size);
            let page = page.await.unwrap();
            assert!(page.rows.len() <= size as usize);
            found.extend(page.rows.iter().map(|job| job.job_id.to_string()));
            match page.next {
                Some(next) => before = Some(next.0),
                None => return found,
            }
        }
    };
    let default = JobFilter::default;
    let guard = JobFilter {
        policy: Some("guard".parse().unwrap()),
        ..default()
    };
    let failed = JobFilter {
        status: Some(JobStatus::Failed),
        ..default()
    };
    let twins = JobFilter {
        kind: Some(JobType::ScheduleUpdateTwin),
        ..default()
    };
    for size in [1, 2, 100] {
        assert_eq!(list(&default(), size).await, "rundbac");
        assert_eq!(list(&guard, size).await, "bc");
        assert_eq!(list(&failed, size).await, "d");
        assert_eq!(list(&twins, size).await, "");
    }
    let active = test.store.job_active().await.unwrap();
    let active: String = active.iter().map(|job| job.job_id.to_string()).collect();
    assert_eq!(active, "cabrun");
    let own = test.store.job_active_of("guard".parse().unwrap()).await;
    let own: String = own.unwrap().iter().map(JobId::to_string).collect();
    assert_eq!(own, "cb");
    let statistics = test.store.job_statistics().await.unwrap();
    let expected = [("queued", 2), ("scheduled", 1), ("running", 1)];
    assert_eq!(statistics, expected);
    test.complete(running).await;
    // A policy sees its own jobs, and can cancel no other.
    let bounds = || Some(Arc::new(scope("deviceId = 'nobody'")));
    for (id, is_own) in [("b", true), ("a", false)] {
        let id: JobId = id.parse().unwrap();
        let seen = test.store.job_get(&id, bounds()).await.unwrap();
        assert_eq!(seen.is_some(), is_own, "{id}");
        let mode = CancelMode::BeforeStart;
        let cancelled = test.store.job_cancel(&id, mode, bounds(), now()).await;
        let is_done = matches!(cancelled.unwrap(), JobCancel::Done(_));
        assert_eq!(is_done, is_own, "{id}");
    }
}

pub(crate) async fn policies_with_bounds_leave_room_for_the_jobs_of_the_others(
    database: &TestDatabase,
) {
    let test = database.open().await;
    let policies = ["a", "b", "c", "d", "e", "open"].map(policy);
    test.store.policy_list(policies.into()).await.unwrap();
    let insert = async |name: &str, number: usize, bounds: Option<Bounds>| {
        let mut job = job_of(&format!("{name}-{number}"), name);
        job.author.as_mut().unwrap().bounds = bounds;
        test.store.job_insert(job).await.unwrap()
    };
    for name in ["a", "b", "c", "d"] {
        for number in 0..50 {
            let inserted = insert(name, number, operate()).await;
            assert_eq!(inserted, JobInsert::Done, "{name} {number}");
        }
    }
    let own = insert("a", 50, operate()).await;
    assert_eq!(own, JobInsert::TooMany(50, "of this policy with bounds"));
    let all = insert("e", 0, operate()).await;
    assert_eq!(all, JobInsert::TooMany(200, "of all policies with bounds"));
    for name in ["a", "open"] {
        assert_eq!(insert(name, 50, None).await, JobInsert::Done);
    }
    let gone = insert("gone", 0, operate()).await;
    assert_eq!(gone, JobInsert::PolicyRemoved);
}

pub(crate) async fn jobs_of_a_removed_policy_are_not_those_of_a_later_one_of_its_name(
    database: &TestDatabase,
) {
    let test = database.open().await;
    let policies = ["guard", "other"].map(policy);
    test.store.policy_list(policies.into()).await.unwrap();
    for (id, name) in [("over", "guard"), ("wait", "guard"), ("others", "other")] {
        test.insert_job(job_of(id, name)).await;
    }
    let row = test.job("over").await.row;
    test.store
        .job_schedule(test.job("wait").await.row)
        .await
        .unwrap();
    let started = test.store.job_start(row, None, |_| Ok(None), now());
    started.await.unwrap();
    test.complete(row).await;
    let change = |policies: &mut Vec<Policy>| {
        policies.retain(|policy| policy.name.as_str() != "guard");
        ok(())
    };
    test.store.policy_change(change).await.unwrap();
    let add = |policies: &mut Vec<Policy>| {
        policies.push(policy("guard"));
        ok(())
    };
    test.store.policy_change(add).await.unwrap();
    let scope = Arc::new(Scope {
        policy: "guard".parse().unwrap(),
        condition: None,
    });
    for (id, status) in [("over", JobStatus::Completed), ("wait", JobStatus::Failed)] {
        let job = test.job(id).await;
        assert_eq!(job.status, status);
        let id = job.job_id;
        let seen = test.store.job_get(&id, Some(Arc::clone(&scope))).await;
        assert!(seen.unwrap().is_none(), "{id}");
    }
    let failed = test.job("wait").await;
    assert!(
        failed
            .failure_reason
            .unwrap()
            .starts_with("PolicyRemoved: ")
    );
    assert!(failed.ended.is_some());
    assert_eq!(test.job("others").await.status, JobStatus::Queued);
}

pub(crate) async fn ended_jobs_of_a_policy_with_bounds_give_way_to_newer_ones(
    database: &TestDatabase,
) {
    const KEPT: u32 = 1000;
    let test = database.open().await;
    let policies = ["guard", "other"].map(policy);
    test.store.policy_list(policies.into()).await.unwrap();
    let insert = async |id: &str, policy: &str| -> i64 {
        let row = test.insert_job(bounded_job(id, policy)).await;
        test.store
            .job_fail(row, "ended".into(), now())
            .await
            .unwrap();
        row
    };
    insert("others", "other").await;
    test.insert_job(bounded_job("waits", "guard")).await;
    let numbers: Vec<u32> = (0..=KEPT).collect();
    for some in numbers.chunks(40) {
        let ended = some.iter().map(async |number| {
            insert(&format!("j{number}"), "guard").await;
        });
        futures_util::future::join_all(ended).await;
    }
    insert("last", "guard").await;
    let list = test.store.job_list(JobFilter::default(), None, 2 * KEPT);
    let mut kept = 0;
    let mut page = list.await.unwrap();
    let mut names = Vec::new();
    loop {
        kept += page.rows.len();
        names.extend(page.rows.iter().map(|job| job.job_id.to_string()));
        let Some(next) = page.next else { break };
        let list = test
            .store
            .job_list(JobFilter::default(), Some(next.0), 2 * KEPT);
        page = list.await.unwrap();
    }
    // The one that waits, the other policy's, the newest one and those before it.
    assert_eq!(kept, KEPT as usize + 3);
    for name in ["waits", "others", "last", "j1000"] {
        assert!(names.iter().any(|kept| kept == name), "{name}");
    }
}

//! The tables, each through its own methods.

use iothub_protocol::event::EventFilter;
use iothub_protocol::id::{DeviceId, JobId};
use iothub_protocol::identity::Thumbprints;
use iothub_protocol::job::{JobStatus, JobType};
use iothub_protocol::twin::{ConnectionState, SectionKind};
use tempfile::TempDir;

use super::*;
use crate::config::EventLimits;
use crate::types::{CancelMode, ConnectionEpoch};

mod damage;

const CODE: (&str, &str) = ("Code", "description");

struct TestStore {
    store: Store,
    folder: TempDir,
}

impl TestStore {
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("hub.db"), Box::new(|_| {}), ()).unwrap();
        Self { store, folder }
    }

    /// Reopens the store, as after a kill of the process.
    async fn reopened(self) -> Self {
        let Self { store, folder } = self;
        store.close().await;
        let store = Store::open(&folder.path().join("hub.db"), Box::new(|_| {}), ()).unwrap();
        Self { store, folder }
    }

    async fn add(&self, id: &str) -> DeviceId {
        let device: DeviceId = id.parse().unwrap();
        let record = DeviceRecord {
            device_id: device.clone(),
            generation_id: "1".into(),
            etag: "MQ==".into(),
            enabled: true,
            status_reason: None,
            status_updated: NEVER.into(),
            authentication: StoredAuthentication {
                kind: "none".into(),
                keys: None,
                thumbprints: Thumbprints::default(),
            },
            connection_state: ConnectionState::Disconnected,
            connection_state_updated: NEVER.into(),
            last_activity: NEVER.into(),
        };
        assert!(self.store.device_insert(record).await.unwrap());
        device
    }

    async fn state(&self, device: &DeviceId) -> ConnectionState {
        self.store
            .device_get(device)
            .await
            .unwrap()
            .unwrap()
            .connection_state
    }

    async fn job(&self, id: &str) -> JobRecord {
        let id: JobId = id.parse().unwrap();
        self.store.job_get(&id).await.unwrap().unwrap()
    }

    /// Claims the next devices of a job, all of them online.
    async fn claim(&self, job: i64, from: u32, at_most: u32) -> ClaimedDevices {
        self.claim_online(job, from, at_most, |_| true).await
    }

    async fn claim_online(
        &self,
        job: i64,
        from: u32,
        at_most: u32,
        is_online: impl Fn(&DeviceId) -> bool + Send + 'static,
    ) -> ClaimedDevices {
        let claim = ClaimRequest {
            ordinals: Vec::new(),
            from,
            at_most,
        };
        let claimed = self.store.device_job_claim(job, claim, is_online, now());
        claimed.await.unwrap()
    }

    /// Starts a job on all devices.
    async fn start_job(&self, id: &str) -> i64 {
        let job = NewJob {
            job_id: id.parse().unwrap(),
            kind: JobType::ScheduleDeviceMethod,
            action: "{}".into(),
            query_condition: "*".into(),
            created: now(),
            start: now(),
            max_execution: Duration::from_secs(60),
        };
        assert_eq!(self.store.job_insert(job).await.unwrap(), JobInsert::Done);
        let row = self.job(id).await.row;
        self.store
            .job_start(row, None, now())
            .await
            .unwrap()
            .unwrap();
        row
    }
}

fn now() -> Timestamp {
    Timestamp::now()
}

fn counts(pending: u64, running: u64, succeeded: u64, failed: u64) -> JobCounts {
    let devices = pending + running + succeeded + failed;
    JobCounts {
        devices,
        pending,
        running,
        succeeded,
        failed,
    }
}

#[tokio::test]
async fn keeps_the_newest_events_within_the_limits() {
    let test = TestStore::open();
    let device = test.add("d").await;
    let limits = EventLimits {
        max_days: 10,
        max_rows: 5,
        max_bytes: 64 * 5 + 1010,
    };
    test.store.limit_events(limits);
    let send = |days: i64, length: usize| {
        let message = TelemetryMessage {
            device: device.clone(),
            auth_method: "",
            enqueued: now() - jiff::SignedDuration::from_hours(24 * days),
            properties: String::new(),
            message_id: None,
            body: vec![b'x'; length].into(),
        };
        test.store.telemetry_insert(message)
    };
    for length in 1..=8 {
        assert!(send(8 - length as i64, length).await.unwrap());
    }
    let total = || test.store.event_total();
    assert_eq!(total().await.unwrap(), (5, 64 * 5 + 4 + 5 + 6 + 7 + 8));
    send(0, 1190).await.unwrap();
    assert_eq!(total().await.unwrap(), (2, 64 * 2 + 8 + 1190));
    // An event that is too old on arrival is not stored.
    send(11, 1).await.unwrap();
    assert_eq!(
        total().await.unwrap().0,
        2,
        "it is older than the stored ones"
    );
    let max_days = 0;
    test.store.limit_events(EventLimits { max_days, ..limits });
    test.store.event_expire().await.unwrap();
    assert_eq!(total().await.unwrap(), (0, 0));
}

#[tokio::test]
async fn the_end_of_a_taken_over_connection_is_ignored() {
    let test = TestStore::open();
    let device = test.add("d").await;
    let connect = |epoch, clean| {
        test.store
            .session_connect(&device, "MQ==".into(), ConnectionEpoch(epoch), clean, now())
    };
    connect(1, false).await.unwrap();
    connect(2, false).await.unwrap();
    test.store
        .session_disconnect(&device, ConnectionEpoch(1), "lost".into(), now())
        .await
        .unwrap();
    assert_eq!(test.state(&device).await, ConnectionState::Connected);
    test.store
        .session_disconnect(&device, ConnectionEpoch(2), "lost".into(), now())
        .await
        .unwrap();
    assert_eq!(test.state(&device).await, ConnectionState::Disconnected);
}

#[tokio::test]
async fn rejects_a_connection_with_an_outdated_identity_or_before_a_later_one() {
    let test = TestStore::open();
    let device = test.add("d").await;
    let connect = |etag: &str, epoch| {
        let connecting = test.store.session_connect(
            &device,
            etag.to_owned(),
            ConnectionEpoch(epoch),
            true,
            now(),
        );
        async { connecting.await.unwrap().is_some() }
    };
    assert!(!connect("changed", 1).await);
    assert_eq!(test.state(&device).await, ConnectionState::Disconnected);
    assert!(connect("MQ==", 3).await);
    assert!(!connect("MQ==", 2).await);
    test.store
        .session_disconnect(&device, ConnectionEpoch(2), "lost".into(), now())
        .await
        .unwrap();
    assert_eq!(test.state(&device).await, ConnectionState::Connected);
}

#[tokio::test]
async fn a_persistent_session_keeps_its_subscriptions_and_a_clean_one_deletes_them() {
    let test = TestStore::open();
    let device = test.add("d").await;
    let subscriptions = vec![StoredSubscription {
        filter: "$iothub/methods/POST/#".into(),
        qos: 1,
    }];
    let connect = |epoch, clean| {
        test.store
            .session_connect(&device, "MQ==".into(), ConnectionEpoch(epoch), clean, now())
    };
    let subscribe = |epoch| {
        test.store
            .session_subscriptions(&device, ConnectionEpoch(epoch), subscriptions.clone())
    };
    assert_eq!(
        connect(1, false).await.unwrap(),
        Some(None),
        "no session exists yet"
    );
    subscribe(1).await.unwrap();
    assert_eq!(
        connect(2, false).await.unwrap(),
        Some(Some(subscriptions.clone()))
    );
    assert_eq!(connect(3, true).await.unwrap(), Some(None));
    subscribe(3).await.unwrap();
    assert_eq!(
        connect(4, false).await.unwrap(),
        Some(None),
        "a clean session does not store its subscriptions"
    );
    let nobody: DeviceId = "nobody".parse().unwrap();
    assert_eq!(
        test.store
            .session_connect(&nobody, "MQ==".into(), ConnectionEpoch(5), false, now())
            .await
            .unwrap(),
        None
    );
}

#[tokio::test]
async fn writes_only_the_modified_parts_of_a_twin() {
    let test = TestStore::open();
    let device = test.add("d").await;
    let patch = serde_json::from_str(r#"{"floor":3}"#).unwrap();
    let change = move |record: &mut TwinRecord| {
        record
            .reported
            .patch(SectionKind::Reported, &patch, Timestamp::now())
            .unwrap();
        record.tags.insert("not written".into(), 1.into());
        record.version += 1;
        Ok::<_, StoreError>((
            TwinChange {
                tags: false,
                desired: None,
                reported: true,
                event: TwinEvent {
                    operation: "updateTwin",
                    at: now(),
                    body: bytes::Bytes::new(),
                },
            },
            (),
        ))
    };
    test.store
        .twin_update(&device, change)
        .await
        .unwrap()
        .unwrap();
    let twin = test.store.twin_get(&device).await.unwrap().unwrap();
    assert_eq!(twin.reported.values["floor"], 3);
    assert_eq!((twin.version, twin.reported.version), (3, 2));
    assert!(twin.tags.is_empty());
}

#[tokio::test]
async fn a_jobs_counts_match_its_rows() {
    let test = TestStore::open();
    for number in 0..5 {
        test.add(&format!("d{number}")).await;
    }
    let row = test.start_job("job").await;
    assert_eq!(test.job("job").await.counts, counts(5, 0, 0, 0));
    let claimed = test.claim(row, 0, 3).await;
    assert_eq!(
        claimed
            .targets
            .iter()
            .map(|target| target.device.as_str())
            .collect::<Vec<_>>(),
        ["d0", "d1", "d2"]
    );
    assert_eq!(test.job("job").await.counts, counts(2, 3, 0, 0));
    let outcome = |ordinal, result| DeviceOutcome {
        ordinal,
        claimed: true,
        result,
    };
    let outcomes = vec![
        outcome(
            0,
            DeviceResult::Answered {
                status: 200,
                payload: Some("{}".into()),
            },
        ),
        outcome(
            1,
            DeviceResult::Failed {
                code: "Code",
                description: "reason".into(),
            },
        ),
    ];
    test.store
        .device_job_end(row, outcomes.clone().into(), now())
        .await
        .unwrap();
    test.store
        .device_job_end(row, outcomes.into(), now())
        .await
        .unwrap();
    assert_eq!(
        test.job("job").await.counts,
        counts(2, 1, 1, 1),
        "an outcome counts once"
    );
    assert_eq!(test.claim(row, 3, 3).await.targets.len(), 2);
    test.store
        .job_complete(row, CODE, CODE, now())
        .await
        .unwrap();
    let job = test.job("job").await;
    assert_eq!(
        (job.status, job.counts),
        (JobStatus::Completed, counts(0, 0, 1, 4))
    );
}

#[tokio::test]
async fn an_offline_device_stays_pending_and_its_outcome_counts_once() {
    let test = TestStore::open();
    for number in 0..3 {
        test.add(&format!("d{number}")).await;
    }
    let row = test.start_job("job").await;
    let claimed = test
        .claim_online(row, 0, 3, |device| device.as_str() == "d1")
        .await;
    let ordinals =
        |targets: &[JobTarget]| -> Vec<_> { targets.iter().map(|target| target.ordinal).collect() };
    assert_eq!(ordinals(&claimed.targets), [1]);
    assert_eq!(ordinals(&claimed.offline), [0, 2]);
    assert_eq!(claimed.next, Some(3));
    assert_eq!(test.job("job").await.counts, counts(2, 1, 0, 0));
    let outcomes: Arc<[_]> = vec![DeviceOutcome {
        ordinal: 0,
        claimed: false,
        result: DeviceResult::Failed {
            code: "DeviceNotOnline",
            description: "reason".into(),
        },
    }]
    .into();
    for _ in 0..2 {
        let outcomes = Arc::clone(&outcomes);
        let end = test.store.device_job_end(row, outcomes, now());
        end.await.unwrap();
        assert_eq!(test.job("job").await.counts, counts(1, 1, 0, 1));
    }
    // Claim them again by ordinal: one has ended, one is running, one has connected.
    let claim = ClaimRequest {
        ordinals: vec![0, 1, 2],
        from: 3,
        at_most: 0,
    };
    let claimed = test.store.device_job_claim(row, claim, |_| true, now());
    let claimed = claimed.await.unwrap();
    assert_eq!(ordinals(&claimed.targets), [2]);
    assert_eq!(claimed.next, Some(3), "it does not look for others");
    assert_eq!(test.job("job").await.counts, counts(0, 2, 0, 1));
}

#[tokio::test]
async fn after_a_kill_running_devices_fail_and_others_stay_pending() {
    let test = TestStore::open();
    for number in 0..3 {
        test.add(&format!("d{number}")).await;
    }
    let row = test.start_job("job").await;
    test.claim(row, 0, 2).await;
    let test = test.reopened().await;
    assert_eq!(test.store.device_job_recover(CODE, now()).await.unwrap(), 2);
    assert_eq!(test.job("job").await.counts, counts(1, 0, 0, 2));
    let left = test.claim(row, 0, 10).await;
    assert_eq!(
        left.targets
            .iter()
            .map(|target| target.ordinal)
            .collect::<Vec<_>>(),
        [2]
    );
}

#[tokio::test]
async fn a_cancelled_job_neither_starts_nor_fails() {
    let test = TestStore::open();
    let job = NewJob {
        job_id: "job".parse().unwrap(),
        kind: JobType::ScheduleDeviceMethod,
        action: "{}".into(),
        query_condition: "*".into(),
        created: now(),
        start: now(),
        max_execution: Duration::from_secs(60),
    };
    test.store.job_insert(job.clone()).await.unwrap();
    assert_eq!(test.store.job_insert(job).await.unwrap(), JobInsert::Exists);
    let row = test.job("job").await.row;
    let id: JobId = "job".parse().unwrap();
    assert!(matches!(
        test.store
            .job_cancel(&id, CancelMode::BeforeStart, now())
            .await
            .unwrap(),
        JobCancel::Done(_)
    ));
    assert!(matches!(
        test.store
            .job_cancel(&id, CancelMode::BeforeStart, now())
            .await
            .unwrap(),
        JobCancel::TooLate(JobStatus::Cancelled)
    ));
    assert_eq!(test.store.job_start(row, None, now()).await.unwrap(), None);
    test.store
        .job_fail(row, "late".into(), now())
        .await
        .unwrap();
    test.store.job_schedule(row).await.unwrap();
    assert_eq!(test.job("job").await.status, JobStatus::Cancelled);
    assert!(test.store.job_active().await.unwrap().is_empty());
}

#[tokio::test]
async fn stopping_a_job_cancels_its_unsent_devices() {
    let test = TestStore::open();
    for number in 0..6 {
        test.add(&format!("d{number}")).await;
    }
    let row = test.start_job("job").await;
    let id: JobId = "job".parse().unwrap();
    test.claim(row, 0, 4).await;
    let end = |ordinal, result| {
        let outcomes = vec![DeviceOutcome {
            ordinal,
            claimed: true,
            result,
        }];
        test.store.device_job_end(row, outcomes.into(), now())
    };
    end(3, DeviceResult::NotSent).await.unwrap();
    assert_eq!(
        test.job("job").await.counts,
        counts(3, 3, 0, 0),
        "it is pending again"
    );
    test.store
        .job_cancel(&id, CancelMode::Stop, now())
        .await
        .unwrap();
    end(2, DeviceResult::NotSent).await.unwrap();
    end(0, DeviceResult::Updated).await.unwrap();
    let claimed = test.claim(row, 0, 9).await;
    assert!(claimed.targets.is_empty(), "{claimed:?}");
    let devices = JobCounts {
        devices: 6,
        ..counts(0, 1, 1, 0)
    };
    assert_eq!(test.job("job").await.counts, devices);
    test.store.device_job_recover(CODE, now()).await.unwrap();
    test.store
        .job_complete(row, CODE, CODE, now())
        .await
        .unwrap();
    let job = test.job("job").await;
    let devices = JobCounts {
        devices: 6,
        ..counts(0, 0, 1, 1)
    };
    assert_eq!((job.status, job.counts), (JobStatus::Cancelled, devices));
    assert!(matches!(
        test.store.job_cancel(&id, CancelMode::Stop, now()).await,
        Ok(JobCancel::TooLate(JobStatus::Cancelled))
    ));
}

#[tokio::test]
async fn expired_jobs_are_deleted_with_their_rows() {
    let test = TestStore::open();
    test.add("d").await;
    let row = test.start_job("old").await;
    test.store
        .job_complete(row, CODE, CODE, now())
        .await
        .unwrap();
    test.start_job("running").await;
    let later = now() + jiff::SignedDuration::from_hours(1);
    assert_eq!(test.store.job_expire(later).await.unwrap(), 1);
    let jobs = test
        .store
        .job_list(JobFilter::default(), None, 10)
        .await
        .unwrap();
    assert_eq!(
        jobs.rows
            .iter()
            .map(|job| job.job_id.as_str())
            .collect::<Vec<_>>(),
        ["running"]
    );
    let rows = test
        .store
        .query_device_jobs(None, RowPosition::START, 10)
        .await
        .unwrap()
        .rows;
    assert_eq!(rows.len(), 1);
}

#[tokio::test]
async fn a_recreated_device_is_not_part_of_an_earlier_job() {
    let test = TestStore::open();
    for id in ["stays", "goes", "again"] {
        test.add(id).await;
    }
    let (methods, twins) = (
        test.start_job("methods").await,
        test.start_job("twins").await,
    );
    let any = |_: &DeviceRecord| Ok::<_, StoreError>(());
    for id in ["goes", "again"] {
        let device: DeviceId = id.parse().unwrap();
        assert!(test.store.device_delete(&device, any).await.unwrap());
    }
    test.add("again").await;

    let claim = test.claim(methods, 0, 9).await;
    assert_eq!(claim.next, Some(3));
    let called: Vec<_> = claim
        .targets
        .iter()
        .map(|target| target.device.as_str())
        .collect();
    assert_eq!(called, ["stays"]);
    assert_eq!(test.job("methods").await.counts, counts(0, 1, 0, 2));

    let refuse = |_: &mut TwinRecord| Err(("Refused", "by the test".to_owned()));
    let updated = test
        .store
        .device_job_update_twins(twins, 0, 9, now(), refuse)
        .await;
    assert_eq!(updated.unwrap(), Some(3));
    assert_eq!(test.job("twins").await.counts, counts(0, 0, 0, 3));
    let rows = test
        .store
        .query_device_jobs(None, RowPosition::START, 10)
        .await;
    let mut errors: Vec<_> = rows
        .unwrap()
        .rows
        .into_iter()
        .filter_map(|row| Some((row.device_id.to_string(), row.error?.0)))
        .collect();
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

#[tokio::test]
async fn an_abandoned_job_records_what_was_sent() {
    let test = TestStore::open();
    for number in 0..3 {
        test.add(&format!("d{number}")).await;
    }
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
    let rows = test
        .store
        .query_device_jobs(None, RowPosition::START, 10)
        .await;
    let codes: Vec<_> = rows
        .unwrap()
        .rows
        .into_iter()
        .map(|row| row.error.unwrap().0)
        .collect();
    assert_eq!(codes, ["Unknown", "Unknown", "NotBegun"]);
}

//! The tables, each through its own methods.

use std::sync::atomic::AtomicU64;

use iothub_protocol::event::{EventFilter, EventKind};
use iothub_protocol::id::{DeviceId, JobId};
use iothub_protocol::job::{JobStatus, JobType};
use iothub_protocol::policy::Bounds;
use iothub_protocol::query::parse_condition;
use iothub_protocol::sas::SharedAccessKey;
use iothub_protocol::twin::{ConnectionState, SectionKind};
use jiff::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::config::EventLimits;
use crate::identity::{Keys, Policy, Rights};
use crate::store::TelemetryMessage;
use crate::types::{CancelMode, ConnectionEpoch, JobAuthor, Scope};

mod damage;

/// The locks that this process has on a file, by the kernel.
fn locks_of(file: &Path) -> usize {
    let (inode, process) = (file.metadata().unwrap().ino(), std::process::id());
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    let is_ours = |line: &&str| {
        line.contains(&format!(" {process} ")) && line.contains(&format!(":{inode} "))
    };
    locks.lines().filter(is_ours).count()
}

#[tokio::test]
async fn the_end_of_a_job_that_is_gone_changes_nothing() {
    let test = TestStore::open();
    test.complete(7).await;
}

#[tokio::test]
async fn looking_for_the_database_file_leaves_its_locks() {
    let test = TestStore::open();
    let path = test.folder.path().join("hub.db");
    let locks = locks_of(&path);
    assert!(locks > 0);
    test.store.look_for_file().await;
    assert_eq!((locks_of(&path), test.store.is_file_lost()), (locks, false));
    let moved = test.folder.path().join("moved.db");
    std::fs::rename(&path, &moved).unwrap();
    test.store.look_for_file().await;
    assert_eq!((locks_of(&moved), test.store.is_file_lost()), (locks, true));
    std::fs::write(&path, "another").unwrap();
    test.store.look_for_file().await;
    assert!(test.store.is_file_lost());
}

#[tokio::test]
async fn a_call_is_recorded_before_most_of_what_a_thousand_devices_send_at_once() {
    let store = TestStore::open().store;
    let (go, held) = std::sync::mpsc::channel::<()>();
    let busy = store.write(1, move |_| {
        // Fails once the sender is dropped.
        let _ = held.recv();
        Ok::<_, StoreError>(())
    });
    let written = Arc::new(AtomicU64::new(0));
    let started = Arc::new(AtomicU64::new(0));
    let mut devices = tokio::task::JoinSet::new();
    let queue_devices = async {
        for _ in 0..1000 {
            let (store, written) = (store.clone(), Arc::clone(&written));
            let started = Arc::clone(&started);
            devices.spawn(async move {
                started.fetch_add(1, Ordering::Relaxed);
                let write = move |_: &mut Write<'_>| {
                    written.fetch_add(1, Ordering::Relaxed);
                    Ok::<_, StoreError>(())
                };
                store.write_for_device(1, write).await
            });
        }
        while started.load(Ordering::Relaxed) < 1000 {
            tokio::task::yield_now().await;
        }
    };
    let call = async {
        queue_devices.await;
        let before = Arc::clone(&written);
        let call = store.write(1, move |_| {
            Ok::<_, StoreError>(before.load(Ordering::Relaxed))
        });
        // The call is polled first, and so queued.
        tokio::join!(call, async { drop(go) }).0
    };
    let (busy, before) = tokio::join!(busy, call);
    busy.unwrap();
    let before = before.unwrap();
    assert!(
        before <= DEVICE_WRITES as u64,
        "{before} writes of devices came first"
    );
    for written in devices.join_all().await {
        written.unwrap();
    }
    assert_eq!(written.load(Ordering::Relaxed), 1000);
}

#[tokio::test]
async fn the_model_of_a_device_counts_towards_the_size_of_its_events() {
    let test = TestStore::open();
    let device = test.add("d").await;
    let model = "m".repeat(100);
    test.store.twin_set_model(&device, model).await.unwrap();
    let message = TelemetryMessage {
        device,
        auth_method: "",
        enqueued: now(),
        properties: String::new(),
        message_id: None,
        body: vec![b'x'].into(),
    };
    let (rows, bytes) = test.store.event_total().await.unwrap();
    assert!(test.store.telemetry_insert(message).await.unwrap());
    let expected = (rows + 1, bytes + 64 + 100 + 1);
    assert_eq!(test.store.event_total().await.unwrap(), expected);
}

const CODE: (&str, &str) = ("Code", "description");

struct TestStore {
    store: Store,
    folder: TempDir,
}

impl TestStore {
    fn open() -> Self {
        Self::open_in(tempfile::tempdir().unwrap())
    }

    fn open_in(folder: TempDir) -> Self {
        let store = Store::open(&folder.path().join("hub.db"), Box::new(|_| {}), ()).unwrap();
        Self { store, folder }
    }

    /// Reopens the store, as after a kill of the process.
    async fn reopened(self) -> Self {
        self.store.close().await;
        Self::open_in(self.folder)
    }

    async fn add(&self, id: &str) -> DeviceId {
        let device: DeviceId = id.parse().unwrap();
        let record = DeviceRecord::new(device.clone(), "1".into(), "MQ==".into());
        assert!(self.store.device_insert(record).await.unwrap());
        device
    }

    /// Adds `d0`, `d1`, ..
    async fn add_devices(&self, count: usize) {
        for number in 0..count {
            self.add(&format!("d{number}")).await;
        }
    }

    /// Connects a device; returns the stored subscriptions of its session.
    async fn connect(
        &self,
        device: &DeviceId,
        etag: &str,
        epoch: u64,
        clean: bool,
    ) -> Option<Option<Vec<StoredSubscription>>> {
        let epoch = ConnectionEpoch(epoch);
        let connecting = self
            .store
            .session_connect(device, etag.into(), epoch, clean, now());
        connecting.await.unwrap()
    }

    async fn disconnect(&self, device: &DeviceId, epoch: u64) {
        let epoch = ConnectionEpoch(epoch);
        let ending = self
            .store
            .session_disconnect(device, epoch, "lost".into(), now());
        ending.await.unwrap();
    }

    /// Stores the end of one device's call.
    async fn end(&self, job: i64, ordinal: u32, claimed: bool, result: DeviceResult) {
        let outcome = DeviceOutcome {
            ordinal,
            claimed,
            result,
        };
        let ending = self.store.device_job_end(job, Arc::new([outcome]), now());
        ending.await.unwrap();
    }

    async fn complete(&self, job: i64) {
        let completing = self.store.job_complete(job, CODE, CODE, now());
        completing.await.unwrap();
    }

    async fn cancel(&self, mode: CancelMode) -> JobCancel {
        let id: JobId = "job".parse().unwrap();
        self.store.job_cancel(&id, mode, None, now()).await.unwrap()
    }

    /// The first records of jobs.
    async fn rows(&self) -> Vec<DeviceJobRecord> {
        let page = self
            .store
            .query_device_jobs(None, None, RowPosition::START, 10);
        page.await.unwrap().rows
    }

    async fn counts(&self, job: &str) -> JobCounts {
        self.job(job).await.counts
    }

    async fn state(&self, device: &DeviceId) -> ConnectionState {
        let device = self.store.device_get(device, None).await.unwrap();
        device.unwrap().connection_state
    }

    async fn job(&self, id: &str) -> JobRecord {
        let id: JobId = id.parse().unwrap();
        self.store.job_get(&id, None).await.unwrap().unwrap()
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
        let inserted = self.store.job_insert(new_job(id)).await.unwrap();
        assert_eq!(inserted, JobInsert::Done);
        let row = self.job(id).await.row;
        self.store
            .job_start(row, None, |_| Ok(None), now())
            .await
            .unwrap();
        row
    }
}

fn new_job(id: &str) -> NewJob {
    NewJob {
        job_id: id.parse().unwrap(),
        kind: JobType::ScheduleDeviceMethod,
        action: "{}".into(),
        query_condition: "*".into(),
        created: now(),
        start: now(),
        max_execution: Duration::from_secs(60),
        author: None,
    }
}

/// A policy with ServiceConnect and no bounds.
fn policy(name: &str) -> Policy {
    let key = || SharedAccessKey::from_base64("c2VjcmV0").unwrap();
    Policy {
        name: name.parse().unwrap(),
        keys: Keys {
            primary: key(),
            secondary: key(),
        },
        rights: Rights::SERVICE_CONNECT,
        bounds: None,
    }
}

fn failed(code: &'static str) -> DeviceResult {
    DeviceResult::Failed {
        code,
        description: "reason".into(),
    }
}

fn ordinals(targets: &[JobTarget]) -> Vec<u32> {
    targets.iter().map(|target| target.ordinal).collect()
}

fn names(targets: &[JobTarget]) -> Vec<&str> {
    let names = targets.iter().map(|target| target.device.as_str());
    names.collect()
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
async fn rejects_a_connection_with_an_outdated_identity_or_before_a_later_one() {
    let test = TestStore::open();
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
    test.disconnect(&device, 4).await;
    assert_eq!(test.state(&device).await, ConnectionState::Disconnected);
}

#[tokio::test]
async fn a_persistent_session_keeps_its_subscriptions_and_a_clean_one_deletes_them() {
    let test = TestStore::open();
    let device = test.add("d").await;
    let subscriptions = vec![StoredSubscription {
        filter: "$iothub/methods/POST/#".into(),
        qos: 1,
    }];
    let subscribe = async |epoch| {
        let epoch = ConnectionEpoch(epoch);
        let storing = test
            .store
            .session_subscriptions(&device, epoch, subscriptions.clone());
        storing.await.unwrap();
    };
    // No session exists yet.
    assert_eq!(test.connect(&device, "MQ==", 1, false).await, Some(None));
    subscribe(1).await;
    let kept = Some(Some(subscriptions.clone()));
    assert_eq!(test.connect(&device, "MQ==", 2, false).await, kept);
    assert_eq!(test.connect(&device, "MQ==", 3, true).await, Some(None));
    // A clean session does not store its subscriptions.
    subscribe(3).await;
    assert_eq!(test.connect(&device, "MQ==", 4, false).await, Some(None));
    let nobody: DeviceId = "nobody".parse().unwrap();
    assert_eq!(test.connect(&nobody, "MQ==", 5, false).await, None);
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
        .twin_update(&device, None, change)
        .await
        .unwrap()
        .unwrap();
    let twin = test.store.twin_get(&device, None).await.unwrap().unwrap();
    assert_eq!(twin.reported.values["floor"], 3);
    assert_eq!((twin.version, twin.reported.version), (3, 2));
    assert!(twin.tags.is_empty());
}

#[tokio::test]
async fn a_jobs_counts_match_its_rows() {
    let test = TestStore::open();
    test.add_devices(5).await;
    let row = test.start_job("job").await;
    assert_eq!(test.counts("job").await, counts(5, 0, 0, 0));
    let claimed = test.claim(row, 0, 3).await;
    assert_eq!(names(&claimed.targets), ["d0", "d1", "d2"]);
    assert_eq!(test.counts("job").await, counts(2, 3, 0, 0));
    // An outcome counts once.
    for _ in 0..2 {
        let answered = DeviceResult::Answered {
            status: 200,
            payload: Some("{}".into()),
        };
        test.end(row, 0, true, answered).await;
        test.end(row, 1, true, failed("Code")).await;
        assert_eq!(test.counts("job").await, counts(2, 1, 1, 1));
    }
    assert_eq!(test.claim(row, 3, 3).await.targets.len(), 2);
    test.complete(row).await;
    let job = test.job("job").await;
    assert_eq!(
        (job.status, job.counts),
        (JobStatus::Completed, counts(0, 0, 1, 4))
    );
}

#[tokio::test]
async fn an_offline_device_stays_pending_and_its_outcome_counts_once() {
    let test = TestStore::open();
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
    let claim = ClaimRequest {
        ordinals: vec![0, 1, 2],
        from: 3,
        at_most: 0,
    };
    let claimed = test.store.device_job_claim(row, claim, |_| true, now());
    let claimed = claimed.await.unwrap();
    assert_eq!(ordinals(&claimed.targets), [2]);
    assert_eq!(claimed.next, Some(3), "it does not look for others");
    assert_eq!(test.counts("job").await, counts(0, 2, 0, 1));
}

#[tokio::test]
async fn after_a_kill_running_devices_fail_and_others_stay_pending() {
    let test = TestStore::open();
    test.add_devices(3).await;
    let row = test.start_job("job").await;
    test.claim(row, 0, 2).await;
    let test = test.reopened().await;
    assert_eq!(test.store.device_job_recover(CODE, now()).await.unwrap(), 2);
    assert_eq!(test.counts("job").await, counts(1, 0, 0, 2));
    let left = test.claim(row, 0, 10).await;
    assert_eq!(ordinals(&left.targets), [2]);
}

#[tokio::test]
async fn a_cancelled_job_neither_starts_nor_fails() {
    let test = TestStore::open();
    let job = new_job("job");
    test.store.job_insert(job.clone()).await.unwrap();
    assert_eq!(test.store.job_insert(job).await.unwrap(), JobInsert::Exists);
    let row = test.job("job").await.row;
    let cancelled = test.cancel(CancelMode::BeforeStart).await;
    assert!(matches!(cancelled, JobCancel::Done(_)));
    let again = test.cancel(CancelMode::BeforeStart).await;
    assert!(matches!(again, JobCancel::TooLate(JobStatus::Cancelled)));
    assert_eq!(
        test.store
            .job_start(row, None, |_| Ok(None), now())
            .await
            .unwrap(),
        JobStart::Cancelled
    );
    let failing = test.store.job_fail(row, "late".into(), now());
    failing.await.unwrap();
    test.store.job_schedule(row).await.unwrap();
    assert_eq!(test.job("job").await.status, JobStatus::Cancelled);
    assert!(test.store.job_active().await.unwrap().is_empty());
}

#[tokio::test]
async fn policies_with_bounds_leave_room_for_the_jobs_of_the_others() {
    let test = TestStore::open();
    let policies = ["a", "b", "c", "d", "e", "open"].map(policy);
    test.store.policy_list(policies.into()).await.unwrap();
    let bounds: Bounds = serde_json::from_str(r#"{"access":"operate"}"#).unwrap();
    let insert = async |name: &str, number: usize, bounds: Option<Bounds>| {
        let mut job = new_job(&format!("{name}-{number}"));
        let policy = name.parse().unwrap();
        job.author = Some(JobAuthor { policy, bounds });
        test.store.job_insert(job).await.unwrap()
    };
    for name in ["a", "b", "c", "d"] {
        for number in 0..50 {
            let inserted = insert(name, number, Some(bounds.clone())).await;
            assert_eq!(inserted, JobInsert::Done, "{name} {number}");
        }
    }
    let own = insert("a", 50, Some(bounds.clone())).await;
    assert_eq!(own, JobInsert::TooMany(50, "of this policy with bounds"));
    let all = insert("e", 0, Some(bounds.clone())).await;
    assert_eq!(all, JobInsert::TooMany(200, "of all policies with bounds"));
    for name in ["a", "open"] {
        assert_eq!(insert(name, 50, None).await, JobInsert::Done);
    }
    let gone = insert("gone", 0, Some(bounds)).await;
    assert_eq!(gone, JobInsert::PolicyRemoved);
}

#[tokio::test]
async fn jobs_of_a_removed_policy_are_not_those_of_a_later_one_of_its_name() {
    let test = TestStore::open();
    let policies = ["guard", "other"].map(policy);
    test.store.policy_list(policies.into()).await.unwrap();
    for (id, name) in [("over", "guard"), ("wait", "guard"), ("others", "other")] {
        let mut job = new_job(id);
        let policy = name.parse().unwrap();
        job.author = Some(JobAuthor {
            policy,
            bounds: None,
        });
        test.store.job_insert(job).await.unwrap();
    }
    let row = test.job("over").await.row;
    test.store
        .job_schedule(test.job("wait").await.row)
        .await
        .unwrap();
    let started = test.store.job_start(row, None, |_| Ok(None), now());
    started.await.unwrap();
    test.complete(row).await;
    // As another process does.
    let mut file = PolicyFile::open(&test.folder.path().join("hub.db")).unwrap();
    let change = |policies: &mut Vec<Policy>| {
        policies.retain(|policy| policy.name.as_str() != "guard");
        Ok::<_, StoreError>(())
    };
    file.change(change).unwrap();
    let add = |policies: &mut Vec<Policy>| {
        policies.push(policy("guard"));
        Ok::<_, StoreError>(())
    };
    file.change(add).unwrap();
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

#[tokio::test]
async fn ended_jobs_of_a_policy_with_bounds_give_way_to_newer_ones() {
    let test = TestStore::open();
    let policies = ["guard", "other"].map(policy);
    test.store.policy_list(policies.into()).await.unwrap();
    let bounds: Bounds = serde_json::from_str(r#"{"access":"operate"}"#).unwrap();
    let insert = async |id: &str, name: &str| {
        let mut job = new_job(id);
        job.author = Some(JobAuthor {
            policy: name.parse().unwrap(),
            bounds: Some(bounds.clone()),
        });
        let inserted = test.store.job_insert(job).await.unwrap();
        assert_eq!(inserted, JobInsert::Done);
        test.job(id).await.row
    };
    insert("waits", "guard").await;
    let others = insert("others", "other").await;
    test.store
        .job_fail(others, "ended".into(), now())
        .await
        .unwrap();
    let write = async |sql: &'static str| {
        let written = test.store.write(1, move |write| {
            write.connection.execute(sql, [])?;
            Ok::<_, StoreError>(())
        });
        written.await.unwrap();
    };
    write(
        "INSERT INTO job (job_id, type, status, action, query_condition, created, start, ended, \
         max_execution_s, policy) WITH RECURSIVE number (n) AS (SELECT 0 UNION ALL SELECT n + 1 \
         FROM number WHERE n < 1000) SELECT 'j' || n, type, 'failed', action, query_condition, \
         created, start, created, max_execution_s, policy FROM number, job WHERE job_id = 'waits'",
    )
    .await;
    let exists = async |id: &str| {
        let id: JobId = id.parse().unwrap();
        test.store.job_get(&id, None).await.unwrap().is_some()
    };
    insert("first", "guard").await;
    assert!(!exists("j0").await && exists("j1").await && exists("j2").await);
    write("UPDATE job SET device_count = 262144 WHERE job_id = 'j1000'").await;
    insert("second", "guard").await;
    assert!(!exists("j1").await && !exists("j2").await && exists("j3").await);
    assert!(exists("j1000").await && exists("waits").await && exists("others").await);
}

#[tokio::test]
async fn a_read_of_events_within_bounds_scans_at_most_1000_rows() {
    let test = TestStore::open();
    let [inner, outer] = [test.add("inner").await, test.add("outer").await];
    let limits = EventLimits {
        max_days: 10,
        max_rows: 10_000,
        max_bytes: 10_000_000,
    };
    test.store.limit_events(limits);
    let append = |device: DeviceId, count: usize| {
        test.store.write(count, move |write| {
            for _ in 0..count {
                let kind = (EventKind::Twin, "updateTwin");
                event::append(write.connection, kind, &device, now(), Some(b"{}"))?;
            }
            Ok::<_, StoreError>(())
        })
    };
    append(outer, 2500).await.unwrap();
    append(inner, 1).await.unwrap();
    let condition = parse_condition("deviceId = 'inner'").unwrap();
    let scope = Arc::new(Scope {
        policy: "guard".parse().unwrap(),
        condition: Some(condition),
    });
    for device in [None, Some("inner"), Some("outer")] {
        let filter = EventFilter {
            device: device.map(|id| id.parse().unwrap()),
            kinds: vec![EventKind::Twin],
            since: None,
        };
        let (mut seen, mut found, mut reads) = (0, 0, 0);
        loop {
            let scope = Some(Arc::clone(&scope));
            let page = test
                .store
                .event_page(filter.clone(), scope, seen, 100, 1 << 20);
            let page = page.await.unwrap();
            assert!(page.seen - seen <= 1000, "{device:?}: {page:?}");
            (seen, found, reads) = (page.seen, found + page.events.len(), reads + 1);
            if page.seen >= page.newest {
                break;
            }
        }
        let expected = usize::from(device != Some("outer"));
        assert_eq!((found, reads), (expected, 3), "{device:?}");
    }
}

#[tokio::test]
async fn stopping_a_job_cancels_its_unsent_devices() {
    let test = TestStore::open();
    test.add_devices(6).await;
    let row = test.start_job("job").await;
    test.claim(row, 0, 4).await;
    test.end(row, 3, true, DeviceResult::NotSent).await;
    // It is pending again.
    assert_eq!(test.counts("job").await, counts(3, 3, 0, 0));
    test.cancel(CancelMode::Stop).await;
    test.end(row, 2, true, DeviceResult::NotSent).await;
    test.end(row, 0, true, DeviceResult::Updated).await;
    let claimed = test.claim(row, 0, 9).await;
    assert!(claimed.targets.is_empty(), "{claimed:?}");
    let devices = JobCounts {
        devices: 6,
        ..counts(0, 1, 1, 0)
    };
    assert_eq!(test.counts("job").await, devices);
    test.store.device_job_recover(CODE, now()).await.unwrap();
    test.complete(row).await;
    let job = test.job("job").await;
    let devices = JobCounts {
        devices: 6,
        ..counts(0, 0, 1, 1)
    };
    assert_eq!((job.status, job.counts), (JobStatus::Cancelled, devices));
    let again = test.cancel(CancelMode::Stop).await;
    assert!(matches!(again, JobCancel::TooLate(JobStatus::Cancelled)));
}

#[tokio::test]
async fn expired_jobs_are_deleted_with_their_rows() {
    let test = TestStore::open();
    test.add("d").await;
    let row = test.start_job("old").await;
    test.complete(row).await;
    test.start_job("running").await;
    let later = now() + jiff::SignedDuration::from_hours(1);
    assert_eq!(test.store.job_expire(later).await.unwrap(), 1);
    let jobs = test
        .store
        .job_list(crate::types::JobFilter::default(), None, 10);
    let [left] = &jobs.await.unwrap().rows[..] else {
        panic!("one job is left")
    };
    assert_eq!(left.job_id.as_str(), "running");
    assert_eq!(test.rows().await.len(), 1);
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

#[tokio::test]
async fn an_abandoned_job_records_what_was_sent() {
    let test = TestStore::open();
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

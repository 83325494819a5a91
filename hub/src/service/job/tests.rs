//! Jobs over devices whose links are in this process, with a store and a wall's clock that do as they are told.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use iothub_protocol::downlink::Downlink;
use iothub_protocol::id::DeviceId;
use iothub_protocol::topic::Subscription;
use iothub_protocol::twin::ConnectionState;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::identity::Proof;
use crate::metrics::Metrics;
use crate::session::{DisconnectReason, Entry, Link, Registry};
use crate::store::{DeviceJobRecord, DeviceRecord, StoredAuthentication};

/// Half of them are online.
const DEVICES: usize = 1000;

/// It is reached only when something is broken.
const DEADLINE: Duration = Duration::from_secs(30);

/// The topics of what a device was sent.
#[derive(Default)]
struct Recorder(Mutex<Vec<String>>);

impl Link for Recorder {
    fn publish(&self, topic: &Downlink<'_>, _payload: &[u8]) {
        self.0.lock().unwrap().push(topic.topic());
    }

    fn close(&self, _reason: DisconnectReason) {}
}

impl Recorder {
    fn sent(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

struct Fleet {
    store: Store,
    registry: Registry,
    service: JobService,
    stop: CancellationToken,
    runner: JoinHandle<()>,
    /// While it is set, SQLite takes back every transaction.
    full: Arc<AtomicBool>,
    /// By so many seconds the wall's clock is set.
    set_by: Arc<AtomicI64>,
    folder: TempDir,
}

impl Fleet {
    async fn start(devices: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let full = Arc::<AtomicBool>::default();
        let store = Store::open_full(&folder.path().join("hub.db"), Arc::clone(&full)).unwrap();
        let mut made = tokio::task::JoinSet::new();
        for number in 0..devices {
            let store = store.clone();
            made.spawn(async move { store.device_insert(record(&device(number))).await });
        }
        while let Some(inserted) = made.join_next().await {
            assert!(inserted.unwrap().unwrap());
        }
        let registry = Registry::new();
        let method = MethodService::new(store.clone(), registry.clone(), Metrics::new());
        let set_by = Arc::<AtomicI64>::default();
        let clock = Clock::set_by({
            let set_by = Arc::clone(&set_by);
            move || Timestamp::now() + SignedDuration::from_secs(set_by.load(Ordering::Relaxed))
        });
        let service = JobService {
            clock,
            ..JobService::new(store.clone(), method)
        };
        let stop = CancellationToken::new();
        let runner = service.runner(stop.clone()).await.unwrap();
        let runner = tokio::spawn(runner.run());
        Self {
            store,
            registry,
            service,
            stop,
            runner,
            full,
            set_by,
            folder,
        }
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("hub.db")
    }

    /// Makes a method job on all devices.
    async fn lock(&self, change: impl FnOnce(&mut Value)) -> JobId {
        let id: JobId = "lock".parse().unwrap();
        let mut request = json!({
            "type": "scheduleDeviceMethod",
            "cloudToDeviceMethod": { "methodName": "lockDoor", "connectTimeoutInSeconds": 300, "responseTimeoutInSeconds": 300 },
            "queryCondition": "*",
            "maxExecutionTimeInSeconds": 600,
        });
        change(&mut request);
        let request = serde_json::from_value(request).unwrap();
        self.service.create(&id, request).await.unwrap();
        id
    }

    /// The records of the devices.
    async fn rows(&self) -> Vec<DeviceJobRecord> {
        let page = self.store.query_device_jobs(None, Place::START, 1000).await;
        page.unwrap().rows
    }

    async fn end(self) {
        self.stop.cancel();
        within(self.runner).await.unwrap();
        within(self.store.close()).await;
    }

    fn connect(&self, device: DeviceId) -> (Arc<Recorder>, Arc<Entry>) {
        let link = Arc::new(Recorder::default());
        let now = Instant::now();
        let hour = Duration::from_secs(3600);
        let entry = Arc::new(Entry::new(
            device,
            Proof::DeviceKey,
            Arc::clone(&link) as _,
            1,
            now,
            hour,
            Some(now + hour),
        ));
        self.registry.insert(&entry);
        self.registry
            .subscribed(&entry, &[(Subscription::MethodRequests, 0)]);
        (link, entry)
    }

    /// The job, once `check` holds of it.
    async fn job(&self, id: &JobId, check: impl Fn(&JobRecord) -> bool) -> JobRecord {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let job = self.store.job_get(id).await.unwrap().unwrap();
            if check(&job) {
                return job;
            }
            assert!(Instant::now() < deadline, "not in time: {job:?}");
            tokio::task::yield_now().await;
        }
    }
}

/// What must come soon.
async fn within<T>(future: impl Future<Output = T>) -> T {
    let come = tokio::time::timeout(DEADLINE, future).await;
    come.expect("it comes in time")
}

async fn until(what: &str, check: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !check() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::task::yield_now().await;
    }
}

fn device(number: usize) -> DeviceId {
    format!("d{number}").parse().unwrap()
}

fn record(device: &DeviceId) -> DeviceRecord {
    DeviceRecord {
        device_id: device.clone(),
        generation_id: "1".into(),
        etag: "MQ==".into(),
        enabled: true,
        status_reason: None,
        status_updated: "0001-01-01T00:00:00Z".into(),
        authentication: StoredAuthentication {
            kind: "none".into(),
            keys: None,
            thumbprints: (None, None),
        },
        connection_state: ConnectionState::Disconnected,
        connection_state_updated: "0001-01-01T00:00:00Z".into(),
        last_activity: "0001-01-01T00:00:00Z".into(),
    }
}

type Device = (Arc<Recorder>, Arc<Entry>);

fn connect_all(fleet: &Fleet, devices: usize) -> Vec<Device> {
    (0..devices)
        .map(|number| fleet.connect(device(number)))
        .collect()
}

/// Calls are claimed before they are sent.
async fn all_are_sent(online: &[Device]) {
    let sent = || online.iter().all(|(link, _)| link.sent() == 1);
    until("everyone is sent the call", sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_over_a_thousand_devices_stops_and_hears_those_it_reached() {
    let fleet = within(Fleet::start(DEVICES)).await;
    let online = connect_all(&fleet, DEVICES / 2);
    let id = within(fleet.lock(|_| {})).await;
    let half = DEVICES as u64 / 2;
    within(fleet.job(&id, |job| job.counts.running == 2 * half)).await;
    all_are_sent(&online).await;

    let stopped = fleet.service.cancel(&id, Cancel::Stop);
    within(stopped).await.unwrap();
    let stopping = within(fleet.job(&id, |job| job.counts.running == half)).await;
    assert_eq!(stopping.status, JobStatus::Running);
    for (_, entry) in &online {
        entry.answered("1", 200, b"{}");
    }
    let ended = within(fleet.job(&id, |job| job.status.is_over())).await;
    assert_eq!(ended.status, JobStatus::Cancelled);
    let counts = JobCounts {
        devices: 2 * half,
        succeeded: half,
        ..JobCounts::default()
    };
    assert_eq!(ended.counts, counts);
    assert!(online.iter().all(|(link, _)| link.sent() == 1));
    for number in DEVICES / 2..DEVICES {
        let (link, _entry) = fleet.connect(device(number));
        assert_eq!(link.sent(), 0, "d{number} came after the stop");
    }
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_a_full_disk_refuses_are_stored_when_there_is_room() {
    let fleet = within(Fleet::start(20)).await;
    let online = connect_all(&fleet, 20);
    let id = within(fleet.lock(|_| {})).await;
    all_are_sent(&online).await;

    fleet.full.store(true, Ordering::Relaxed);
    for (_, entry) in &online[..10] {
        entry.answered("1", 200, b"{}");
    }
    until("the store has refused them", || fleet.store.is_failing()).await;
    // These come while it fails.
    for (_, entry) in &online[10..] {
        entry.answered("1", 500, b"{}");
    }
    let job = fleet.store.job_get(&id).await.unwrap().unwrap();
    assert_eq!((job.status, job.counts.running), (JobStatus::Running, 20));

    fleet.full.store(false, Ordering::Relaxed);
    let ended = within(fleet.job(&id, |job| job.status.is_over())).await;
    assert_eq!(ended.status, JobStatus::Completed);
    assert_eq!(ended.counts.succeeded, 20, "{:?}", ended.counts);
    let rows = within(fleet.rows()).await;
    let failed = rows.iter().filter(|row| {
        let (status, _) = row.response.as_ref().unwrap();
        *status == 500
    });
    assert_eq!(failed.count(), 10, "each has the answer that it gave");
    assert!(online.iter().all(|(link, _)| link.sent() == 1));
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_answers_are_never_taken_fails_with_the_reason_and_says_what_was_sent() {
    let fleet = within(Fleet::start(10)).await;
    let online = connect_all(&fleet, 10);
    let refuse = "CREATE TRIGGER refuse BEFORE UPDATE ON device_job WHEN NEW.status = 'completed' \
        BEGIN SELECT RAISE(ABORT, 'refused by the test'); END";
    let database = rusqlite::Connection::open(fleet.database()).unwrap();
    database.execute_batch(refuse).unwrap();
    let id = within(fleet.lock(|_| {})).await;
    all_are_sent(&online).await;
    for (_, entry) in &online {
        entry.answered("1", 200, b"{}");
    }
    let ended = within(fleet.job(&id, |job| job.status.is_over())).await;
    assert_eq!(ended.status, JobStatus::Failed);
    let reason = ended.failure_reason.unwrap();
    assert!(
        reason.starts_with("What the job did cannot be stored: ")
            && reason.contains("refused by the test"),
        "{reason}"
    );
    assert_eq!(ended.counts.failed, 10);
    for row in within(fleet.rows()).await {
        let (code, description) = row.error.unwrap();
        assert_eq!(code, "OutcomeUnknown", "it was sent the call");
        assert!(description.contains("had sent the call"), "{description}");
    }
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_can_never_start_fails_with_the_reason() {
    let fleet = within(Fleet::start(1)).await;
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON device_job \
        BEGIN SELECT RAISE(ABORT, 'refused by the test'); END";
    let database = rusqlite::Connection::open(fleet.database()).unwrap();
    database.execute_batch(refuse).unwrap();
    let id = within(fleet.lock(|_| {})).await;
    let ended = within(fleet.job(&id, |job| job.status.is_over())).await;
    assert_eq!(ended.status, JobStatus::Failed);
    let reason = ended.failure_reason.unwrap();
    assert!(reason.contains("refused by the test"), "{reason}");
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_cannot_be_read_back_fails_with_the_reason() {
    let fleet = within(Fleet::start(1)).await;
    let id: JobId = "old".parse().unwrap();
    let now = Timestamp::now();
    let job = NewJob {
        job_id: id.clone(),
        kind: JobType::ScheduleDeviceMethod,
        action: "{}".into(),
        query_condition: "*".into(),
        created: now,
        start: now,
        max_execution: Duration::from_secs(600),
    };
    within(fleet.store.job_insert(job)).await.unwrap();
    fleet.service.nudge.notify_one();
    let ended = within(fleet.job(&id, |job| job.status.is_over())).await;
    let reason = ended.failure_reason.unwrap();
    assert!(reason.contains("cannot be read back"), "{reason}");
    assert_eq!(ended.counts.failed, 1);
    fleet.end().await;
}

/// Stored by version 0.1: a connect timeout beyond the response timeout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stored_job_runs_whatever_its_pair_of_timeouts() {
    let fleet = within(Fleet::start(1)).await;
    let online = connect_all(&fleet, 1);
    let id: JobId = "old".parse().unwrap();
    let now = Timestamp::now();
    let job = NewJob {
        job_id: id.clone(),
        kind: JobType::ScheduleDeviceMethod,
        action: r#"{"methodName":"lockDoor","responseTimeoutInSeconds":30,"connectTimeoutInSeconds":120}"#
            .into(),
        query_condition: "*".into(),
        created: now,
        start: now,
        max_execution: Duration::from_secs(600),
    };
    within(fleet.store.job_insert(job)).await.unwrap();
    fleet.service.nudge.notify_one();
    all_are_sent(&online).await;
    online[0].1.answered("1", 200, b"{}");
    let ended = within(fleet.job(&id, |job| job.status.is_over())).await;
    assert_eq!(ended.counts.succeeded, 1, "{ended:?}");
    let shown = fleet.service.get(&id).await.unwrap();
    let method = shown.cloud_to_device_method.unwrap();
    assert_eq!(method.connect_timeout(), Duration::from_secs(120));
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_forward_ends_no_job() {
    let fleet = within(Fleet::start(2)).await;
    let online = connect_all(&fleet, 2);
    let id = within(fleet.lock(|_| {})).await;
    all_are_sent(&online).await;
    fleet.set_by.store(86_400, Ordering::Relaxed);
    online[0].1.answered("1", 200, b"{}");
    let job = within(fleet.job(&id, |job| job.counts.succeeded == 1)).await;
    assert_eq!((job.status, job.counts.running), (JobStatus::Running, 1));
    online[1].1.answered("1", 200, b"{}");
    let ended = within(fleet.job(&id, |job| job.status.is_over())).await;
    assert_eq!(ended.counts.succeeded, 2, "{:?}", ended.counts);
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_back_makes_no_job_longer() {
    let fleet = within(Fleet::start(1)).await;
    let online = connect_all(&fleet, 1);
    let short = |job: &mut Value| job["maxExecutionTimeInSeconds"] = json!(5);
    let id = within(fleet.lock(short)).await;
    all_are_sent(&online).await;
    fleet.set_by.store(-86_400, Ordering::Relaxed);
    let ended = within(fleet.job(&id, |job| job.status.is_over())).await;
    assert_eq!(ended.counts.failed, 1);
    let row = within(fleet.rows()).await.remove(0);
    assert_eq!(row.error.unwrap().0, "RequestTimedOut");
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_follows_the_walls_clock_when_that_is_set() {
    let fleet = within(Fleet::start(1)).await;
    let online = connect_all(&fleet, 1);
    let hour = Timestamp::now() + SignedDuration::from_hours(1);
    let later = |job: &mut Value| job["startTime"] = json!(hour.to_string());
    let id = within(fleet.lock(later)).await;
    within(fleet.job(&id, |job| job.status == JobStatus::Scheduled)).await;
    assert_eq!(online[0].0.sent(), 0);
    fleet.set_by.store(3600, Ordering::Relaxed);
    all_are_sent(&online).await;
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_stops_does_not_wait_for_a_store_that_fails() {
    let fleet = within(Fleet::start(1)).await;
    let online = connect_all(&fleet, 1);
    within(fleet.lock(|_| {})).await;
    all_are_sent(&online).await;
    fleet.full.store(true, Ordering::Relaxed);
    online[0].1.answered("1", 200, b"{}");
    fleet.end().await;
}

#[tokio::test]
async fn a_thousand_jobs_may_wait_and_no_more() {
    let fleet = within(Fleet::start(0)).await;
    let later = Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let create = |number: usize| {
        let request = json!({
            "type": "scheduleUpdateTwin",
            "updateTwin": { "etag": "*", "tags": { "a": 1 } },
            "queryCondition": "*",
            "startTime": iothub_protocol::time::format(later),
        });
        let service = fleet.service.clone();
        let id: JobId = format!("job-{number}").parse().unwrap();
        async move {
            service
                .create(&id, serde_json::from_value(request).unwrap())
                .await
        }
    };
    let mut made = tokio::task::JoinSet::new();
    for number in 0..1000 {
        made.spawn(create(number));
    }
    while let Some(made) = made.join_next().await {
        made.unwrap().unwrap();
    }
    let refused = create(1000).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::ThrottlingMaxActiveJobCountExceeded);
    let first: JobId = "job-0".parse().unwrap();
    fleet
        .service
        .cancel(&first, Cancel::BeforeStart)
        .await
        .unwrap();
    create(1000).await.unwrap();
    fleet.end().await;
}

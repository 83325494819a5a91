//! Jobs over devices whose links are in this process, a thousand of them or a few, with a store that works or does not.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use iothub_protocol::downlink::Downlink;
use iothub_protocol::id::DeviceId;
use iothub_protocol::topic::Subscription;
use iothub_protocol::twin::ConnectionState;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::identity::Proof;
use crate::metrics::Metrics;
use crate::session::{DisconnectReason, Entry, Link, Registry};
use crate::store::{DeviceRecord, StoredAuthentication};

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
    folder: TempDir,
}

impl Fleet {
    async fn start(devices: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("hub.db"), Box::new(|_| {}), ()).unwrap();
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
        let service = JobService::new(store.clone(), method);
        let stop = CancellationToken::new();
        let runner = service.runner(stop.clone()).await.unwrap();
        let runner = tokio::spawn(runner.run());
        Self {
            store,
            registry,
            service,
            stop,
            runner,
            folder,
        }
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

    /// What somebody does to the database beside the hub.
    fn beside(&self, sql: &str) {
        let path = self.folder.path().join("hub.db");
        let other = rusqlite::Connection::open(path).unwrap();
        other.execute_batch(sql).unwrap();
    }

    /// Makes a method job over all devices.
    async fn lock(&self, start: Option<Timestamp>) -> JobId {
        let id: JobId = "lock".parse().unwrap();
        let request = json!({
            "type": "scheduleDeviceMethod",
            "cloudToDeviceMethod": { "methodName": "lockDoor", "connectTimeoutInSeconds": 300 },
            "queryCondition": "*",
            "startTime": start.map(iothub_protocol::time::format),
            "maxExecutionTimeInSeconds": 600,
        });
        let request = serde_json::from_value(request).unwrap();
        self.service.create(&id, request).await.unwrap();
        id
    }

    /// Ends as a hub does.
    async fn end(self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(DEADLINE, self.runner).await;
        ended.expect("the runner ends").unwrap();
        self.store.close().await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_over_a_thousand_devices_stops_and_hears_those_it_reached() {
    let fleet = Fleet::start(DEVICES).await;
    let online: Vec<_> = (0..DEVICES / 2)
        .map(|number| fleet.connect(device(number)))
        .collect();
    let id = fleet.lock(None).await;
    let half = DEVICES as u64 / 2;
    fleet.job(&id, |job| job.counts.running == 2 * half).await;
    // They are claimed before they are sent.
    let deadline = Instant::now() + DEADLINE;
    while online.iter().any(|(link, _)| link.sent() == 0) {
        assert!(Instant::now() < deadline, "not everyone was sent the call");
        tokio::task::yield_now().await;
    }

    fleet.service.cancel(&id, Cancel::Stop).await.unwrap();
    let stopping = fleet.job(&id, |job| job.counts.running == half).await;
    assert_eq!(stopping.status, JobStatus::Running);
    for (_, entry) in &online {
        entry.answered("1", 200, b"{}");
    }
    let ended = fleet.job(&id, |job| job.status.is_over()).await;
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

/// Waits until the link has been sent a call.
async fn sent(link: &Recorder) {
    let deadline = Instant::now() + DEADLINE;
    while link.sent() == 0 {
        assert!(Instant::now() < deadline, "nothing was sent");
        tokio::task::yield_now().await;
    }
}

/// What a full disk does: nothing can be written of how it ended.
const FULL: &str = "CREATE TRIGGER full BEFORE UPDATE ON device_job WHEN NEW.status IN ('completed', 'failed') \
    BEGIN SELECT RAISE(ABORT, 'full'); END";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_devices_answered_while_nothing_could_be_stored_is_stored_later() {
    let fleet = Fleet::start(3).await;
    let doors: Vec<_> = (0..3).map(|number| fleet.connect(device(number))).collect();
    let id = fleet.lock(None).await;
    for (link, _) in &doors {
        sent(link).await;
    }
    fleet.job(&id, |job| job.counts.running == 3).await;
    // Somebody holds the database for longer than a transaction waits.
    let other = rusqlite::Connection::open(fleet.folder.path().join("hub.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    doors[0].1.answered("1", 200, br#"{"a":1}"#);
    // It has been tried in vain, and more is heard meanwhile.
    let deadline = Instant::now() + DEADLINE;
    while !fleet.store.is_failing() {
        assert!(Instant::now() < deadline, "the store does not fail");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    doors[1].1.answered("1", 202, br#"{"b":2}"#);
    let job = fleet.job(&id, |_| true).await;
    assert_eq!((job.status, job.counts.running), (JobStatus::Running, 3));

    other.execute_batch("ROLLBACK").unwrap();
    doors[2].1.answered("1", 200, b"");
    let ended = fleet.job(&id, |job| job.status.is_over()).await;
    assert_eq!(ended.status, JobStatus::Completed);
    assert_eq!(ended.counts.succeeded, 3, "{ended:?}");
    assert!(
        doors.iter().all(|(link, _)| link.sent() == 1),
        "nobody is called twice"
    );
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_stops_does_not_wait_for_a_store_that_fails() {
    let fleet = Fleet::start(1).await;
    let (link, entry) = fleet.connect(device(0));
    fleet.beside(FULL);
    fleet.lock(None).await;
    sent(&link).await;
    entry.answered("1", 200, b"{}");
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_cannot_be_read_back_ends_and_says_so() {
    let fleet = Fleet::start(2).await;
    let (link, _entry) = fleet.connect(device(0));
    let start = Timestamp::now() + jiff::SignedDuration::from_millis(1500);
    let id = fleet.lock(Some(start)).await;
    fleet.beside("UPDATE job SET action = '{'");
    let ended = fleet.job(&id, |job| job.status.is_over()).await;
    assert_eq!(ended.status, JobStatus::Failed);
    let reason = ended.failure_reason.unwrap();
    assert!(
        reason.contains("the job's method cannot be read back"),
        "{reason}"
    );
    assert_eq!((ended.counts.failed, link.sent()), (2, 0));
    fleet.end().await;
}

#[tokio::test]
async fn a_thousand_jobs_may_wait_and_no_more() {
    let fleet = Fleet::start(0).await;
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

//! Jobs over a thousand devices, whose links are in this process.

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
    _folder: TempDir,
}

impl Fleet {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("hub.db"), Box::new(|_| {}), ()).unwrap();
        let mut made = tokio::task::JoinSet::new();
        for number in 0..DEVICES {
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
            _folder: folder,
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
    let fleet = Fleet::start().await;
    let online: Vec<_> = (0..DEVICES / 2)
        .map(|number| fleet.connect(device(number)))
        .collect();
    let id: JobId = "lock".parse().unwrap();
    let request = json!({
        "type": "scheduleDeviceMethod",
        "cloudToDeviceMethod": { "methodName": "lockDoor", "connectTimeoutInSeconds": 300 },
        "queryCondition": "*",
        "maxExecutionTimeInSeconds": 600,
    });
    let request = serde_json::from_value(request).unwrap();
    fleet.service.create(&id, request).await.unwrap();
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

    fleet.stop.cancel();
    fleet.runner.await.unwrap();
    fleet.store.close().await;
}

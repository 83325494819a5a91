//! Jobs over devices whose links are in this process, with a store that can fail and a wall clock
//! that can be set.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use iothub_protocol::downlink::Downlink;
use iothub_protocol::id::DeviceId;
use iothub_protocol::topic::TopicFilter;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::identity::Proof;
use crate::metrics::Metrics;
use crate::session::{DisconnectReason, Entry, Link, Registry};
use crate::store::{DeviceJobRecord, DeviceRecord};

/// In the large test; half of them are online.
const DEVICES: usize = 1000;

/// Reached only when something is broken.
const DEADLINE: Duration = Duration::from_secs(30);

/// The topics of the calls that a device received.
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
    /// While true, SQLite rolls back every transaction.
    full: Arc<AtomicBool>,
    /// The number of rollbacks.
    refusals: Arc<AtomicI64>,
    /// This connection ends just before the commit that makes a row `running`.
    leaving: Arc<Mutex<Option<Arc<Entry>>>>,
    /// Seconds by which the wall clock was set.
    clock_offset_s: Arc<AtomicI64>,
    folder: TempDir,
}

impl Fleet {
    /// A fleet whose devices have received the calls of its job.
    async fn called(devices: usize, change: impl FnOnce(&mut Value)) -> (Self, Vec<Device>, JobId) {
        let fleet = within(Self::start(devices)).await;
        let online = connect_all(&fleet, devices);
        let id = within(fleet.lock(change)).await;
        all_are_sent(&online).await;
        (fleet, online, id)
    }

    async fn start(devices: usize) -> Self {
        let fleet = Self::start_in(tempfile::tempdir().unwrap()).await;
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..devices {
            let store = fleet.store.clone();
            tasks.spawn(async move { store.device_insert(record(&device(number))).await });
        }
        while let Some(inserted) = tasks.join_next().await {
            assert!(inserted.unwrap().unwrap());
        }
        fleet
    }

    async fn start_in(folder: TempDir) -> Self {
        let registry = Registry::new();
        let full = Arc::<AtomicBool>::default();
        let refusals = Arc::<AtomicI64>::default();
        let leaving = Arc::<Mutex<Option<Arc<Entry>>>>::default();
        let is_full = {
            let (full, leaving, registry) =
                (Arc::clone(&full), Arc::clone(&leaving), registry.clone());
            let refusals = Arc::clone(&refusals);
            move |connection: &rusqlite::Connection| {
                let claimed = "SELECT EXISTS (SELECT 1 FROM device_job WHERE status = 'running')";
                let mut leaving = leaving.lock().unwrap();
                if leaving.is_some() && connection.query_row(claimed, [], |row| row.get(0)).unwrap()
                {
                    registry.remove(&leaving.take().unwrap());
                }
                let is_full = full.load(Ordering::Relaxed);
                refusals.fetch_add(is_full.into(), Ordering::Relaxed);
                is_full
            }
        };
        let store = Store::open_full(&folder.path().join("hub.db"), is_full).unwrap();
        let method = MethodService::new(store.clone(), registry.clone(), Metrics::new());
        let clock_offset_s = Arc::<AtomicI64>::default();
        let clock = Clock::with_wall_clock({
            let clock_offset_s = Arc::clone(&clock_offset_s);
            move || {
                Timestamp::now() + SignedDuration::from_secs(clock_offset_s.load(Ordering::Relaxed))
            }
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
            refusals,
            leaving,
            clock_offset_s,
            folder,
        }
    }

    /// Starts a hub on what a SIGKILL leaves on disk.
    async fn restart_after_kill(self) -> Self {
        self.runner.abort();
        assert!(within(self.runner).await.unwrap_err().is_cancelled());
        let folder = tempfile::tempdir().unwrap();
        for name in ["hub.db", "hub.db-wal"] {
            std::fs::copy(self.folder.path().join(name), folder.path().join(name)).unwrap();
        }
        self.store.close().await;
        Self::start_in(folder).await
    }

    /// Stops the hub, and starts another one on its folder.
    async fn stopped_and_started(self) -> Self {
        self.stop.cancel();
        within(self.runner).await.unwrap();
        within(self.store.close()).await;
        Self::start_in(self.folder).await
    }

    /// Creates a method job for all devices.
    async fn lock(&self, change: impl FnOnce(&mut Value)) -> JobId {
        let id: JobId = "lock".parse().unwrap();
        let mut request = json!({
            "type": "scheduleDeviceMethod",
            "cloudToDeviceMethod": {
                "methodName": "lockDoor",
                "connectTimeoutInSeconds": 300,
                "responseTimeoutInSeconds": 300,
            },
            "queryCondition": "*",
            "maxExecutionTimeInSeconds": 600,
        });
        change(&mut request);
        let request = serde_json::from_value(request).unwrap();
        self.service.create(&id, request, None).await.unwrap();
        id
    }

    /// The device records of all jobs.
    async fn rows(&self) -> Vec<DeviceJobRecord> {
        let page = self
            .store
            .query_device_jobs(None, None, crate::store::RowPosition::START, 1000)
            .await;
        page.unwrap().rows
    }

    async fn end(self) {
        self.stop.cancel();
        within(self.runner).await.unwrap();
        within(self.store.close()).await;
    }

    fn connect(&self, device: DeviceId) -> (Arc<Recorder>, Arc<Entry>) {
        let (link, entry) = self.entry(device);
        self.subscribe(&entry);
        (link, entry)
    }

    fn subscribe(&self, entry: &Entry) {
        let methods = TopicFilter::parse("$iothub/methods/POST/#", entry.device()).unwrap();
        self.registry.subscribed(entry, &[(methods, 0)]);
    }

    /// A device that has connected without subscribing.
    fn entry(&self, device: DeviceId) -> (Arc<Recorder>, Arc<Entry>) {
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
        (link, entry)
    }

    async fn ended(&self, id: &JobId) -> JobRecord {
        within(self.job(id, |job| job.status.is_over())).await
    }

    /// The status of a job that failed, and its reason.
    async fn failure(&self, id: &JobId) -> (JobRecord, String) {
        let job = self.ended(id).await;
        assert_eq!(job.status, JobStatus::Failed);
        let reason = job.failure_reason.clone().unwrap();
        (job, reason)
    }

    /// Makes SQLite refuse these changes of the records of jobs.
    fn refuse(&self, changes: &str) {
        let database = rusqlite::Connection::open(self.folder.path().join("hub.db")).unwrap();
        let trigger = format!(
            "CREATE TRIGGER refuse BEFORE {changes} BEGIN SELECT RAISE(ABORT, 'by the test'); END"
        );
        database.execute_batch(&trigger).unwrap();
    }

    /// Stores a job with this method, without any check, and wakes the runner.
    async fn store_job(&self, method: Value) -> JobId {
        let id: JobId = "old".parse().unwrap();
        let now = Timestamp::now();
        let job = NewJob {
            job_id: id.clone(),
            kind: JobType::ScheduleDeviceMethod,
            action: method.to_string(),
            query_condition: "*".into(),
            created: now,
            start: now,
            max_execution: Duration::from_secs(600),
            author: None,
        };
        within(self.store.job_insert(job)).await.unwrap();
        self.service.nudge.notify_one();
        id
    }

    /// The job, once `check` holds.
    async fn job(&self, id: &JobId, check: impl Fn(&JobRecord) -> bool) -> JobRecord {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let job = self.store.job_get(id, None).await.unwrap().unwrap();
            if check(&job) {
                return job;
            }
            assert!(Instant::now() < deadline, "not in time: {job:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(DEADLINE, future).await;
    result.expect("completes in time")
}

async fn until(what: &str, check: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !check() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn device(number: usize) -> DeviceId {
    format!("d{number}").parse().unwrap()
}

fn record(device: &DeviceId) -> DeviceRecord {
    DeviceRecord::new(device.clone(), "1".into(), "MQ==".into())
}

type Device = (Arc<Recorder>, Arc<Entry>);

fn connect_all(fleet: &Fleet, devices: usize) -> Vec<Device> {
    (0..devices)
        .map(|number| fleet.connect(device(number)))
        .collect()
}

/// Waits until the calls are sent: they are claimed first.
async fn all_are_sent(online: &[Device]) {
    let sent = || online.iter().all(|(link, _)| link.sent() == 1);
    until("every device got its call", sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_job_of_1000_devices_stores_the_answers_of_the_devices_it_called() {
    let fleet = within(Fleet::start(DEVICES)).await;
    let online = connect_all(&fleet, DEVICES / 2);
    let id = within(fleet.lock(|_| {})).await;
    let half = DEVICES as u64 / 2;
    let started = |job: &JobRecord| (job.counts.running, job.counts.pending) == (half, half);
    within(fleet.job(&id, started)).await;
    all_are_sent(&online).await;

    let stopped = fleet.service.cancel(&id, CancelMode::Stop, None);
    within(stopped).await.unwrap();
    let stopping = within(fleet.job(&id, |job| job.counts.pending == 0)).await;
    assert_eq!(stopping.status, JobStatus::Running);
    for (_, entry) in &online {
        entry.answered("1", 200, b"{}");
    }
    let ended = fleet.ended(&id).await;
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
        assert_eq!(link.sent(), 0, "d{number} connected after the stop");
    }
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_answers_that_a_full_disk_rejected_once_there_is_room() {
    let (fleet, online, id) = Fleet::called(20, |_| {}).await;

    fleet.full.store(true, Ordering::Relaxed);
    for (_, entry) in &online[..10] {
        entry.answered("1", 200, b"{}");
    }
    until("the store has rejected them", || fleet.store.is_failing()).await;
    // These arrive while it fails.
    for (_, entry) in &online[10..] {
        entry.answered("1", 500, b"{}");
    }
    let job = fleet.store.job_get(&id, None).await.unwrap().unwrap();
    assert_eq!((job.status, job.counts.running), (JobStatus::Running, 20));

    fleet.full.store(false, Ordering::Relaxed);
    let ended = fleet.ended(&id).await;
    assert_eq!(ended.status, JobStatus::Completed);
    assert_eq!(ended.counts.succeeded, 20, "{:?}", ended.counts);
    let rows = within(fleet.rows()).await;
    let failed = rows.iter().filter(|row| {
        let (status, _) = row.response.as_ref().unwrap();
        *status == 500
    });
    assert_eq!(
        failed.count(),
        10,
        "each record has the answer of its device"
    );
    assert!(online.iter().all(|(link, _)| link.sent() == 1));
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_answers_are_always_rejected_fails_with_the_reason_and_names_the_sent_calls() {
    let fleet = within(Fleet::start(10)).await;
    let online = connect_all(&fleet, 10);
    fleet.refuse("UPDATE ON device_job WHEN NEW.status = 'completed'");
    let id = within(fleet.lock(|_| {})).await;
    all_are_sent(&online).await;
    for (_, entry) in &online {
        entry.answered("1", 200, b"{}");
    }
    let (ended, reason) = fleet.failure(&id).await;
    assert!(
        reason.starts_with("The job's progress cannot be stored: ")
            && reason.contains("by the test"),
        "{reason}"
    );
    assert_eq!(ended.counts.failed, 10);
    for row in within(fleet.rows()).await {
        let (code, description) = row.error.unwrap();
        assert_eq!(code, "OutcomeUnknown", "the call was sent");
        assert!(description.contains("had sent the call"), "{description}");
    }
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_can_never_start_fails_with_the_reason() {
    let fleet = within(Fleet::start(1)).await;
    fleet.refuse("INSERT ON device_job");
    let id = within(fleet.lock(|_| {})).await;
    let (_, reason) = fleet.failure(&id).await;
    assert!(reason.contains("by the test"), "{reason}");
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_with_an_unreadable_stored_method_fails_with_the_reason() {
    let fleet = within(Fleet::start(1)).await;
    let id = fleet.store_job(json!({})).await;
    let (ended, reason) = fleet.failure(&id).await;
    assert!(
        reason.contains("cannot read the job's stored method"),
        "{reason}"
    );
    assert_eq!(ended.counts.failed, 1);
    fleet.end().await;
}

/// Version 0.1 stored such jobs: a connect timeout beyond the response timeout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stored_job_runs_with_any_pair_of_timeouts() {
    let fleet = within(Fleet::start(1)).await;
    let online = connect_all(&fleet, 1);
    let method = json!({
        "methodName": "lockDoor",
        "responseTimeoutInSeconds": 30,
        "connectTimeoutInSeconds": 120,
    });
    let id = fleet.store_job(method).await;
    all_are_sent(&online).await;
    online[0].1.answered("1", 200, b"{}");
    let ended = fleet.ended(&id).await;
    assert_eq!(ended.counts.succeeded, 1, "{ended:?}");
    let response = fleet.service.get(&id, None).await.unwrap();
    let method = response.cloud_to_device_method.unwrap();
    assert_eq!(method.connect_timeout(), Duration::from_secs(120));
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn setting_the_clock_forward_ends_no_job() {
    let (fleet, online, id) = Fleet::called(2, |_| {}).await;
    fleet.clock_offset_s.store(86_400, Ordering::Relaxed);
    online[0].1.answered("1", 200, b"{}");
    let job = within(fleet.job(&id, |job| job.counts.succeeded == 1)).await;
    assert_eq!((job.status, job.counts.running), (JobStatus::Running, 1));
    online[1].1.answered("1", 200, b"{}");
    let ended = fleet.ended(&id).await;
    assert_eq!(ended.counts.succeeded, 2, "{:?}", ended.counts);
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn setting_the_clock_back_extends_no_job() {
    let short = |job: &mut Value| job["maxExecutionTimeInSeconds"] = json!(5);
    let (fleet, _online, id) = Fleet::called(1, short).await;
    fleet.clock_offset_s.store(-86_400, Ordering::Relaxed);
    let ended = fleet.ended(&id).await;
    assert_eq!(ended.counts.failed, 1);
    let row = within(fleet.rows()).await.remove(0);
    assert_eq!(row.error.unwrap().0, "RequestTimedOut");
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_starts_by_the_wall_clock_even_after_it_was_set() {
    let fleet = within(Fleet::start(1)).await;
    let online = connect_all(&fleet, 1);
    let hour = Timestamp::now() + SignedDuration::from_hours(1);
    let later = |job: &mut Value| job["startTime"] = json!(hour.to_string());
    let id = within(fleet.lock(later)).await;
    within(fleet.job(&id, |job| job.status == JobStatus::Scheduled)).await;
    assert_eq!(online[0].0.sent(), 0);
    fleet.clock_offset_s.store(3600, Ordering::Relaxed);
    all_are_sent(&online).await;
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_hub_does_not_wait_for_a_failing_store() {
    let (fleet, online, _) = Fleet::called(1, |_| {}).await;
    fleet.full.store(true, Ordering::Relaxed);
    online[0].1.answered("1", 200, b"{}");
    fleet.end().await;
}

#[tokio::test]
async fn a_twin_job_lets_direct_calls_pass_but_does_not_wait_for_one_that_waits_for_its_door() {
    // More than one slice.
    let fleet = within(Fleet::start(60)).await;
    let method = fleet.service.method.clone();
    within(method.no_direct_calls(DEADLINE * 2)).await;
    let call = method.begin_direct_call();
    let update = |request: &mut Value| {
        *request = json!({
            "type": "scheduleUpdateTwin",
            "updateTwin": { "tags": { "floor": 3 }, "etag": "*" },
            "queryCondition": "*",
            "maxExecutionTimeInSeconds": 600,
        });
    };
    let id = within(fleet.lock(update)).await;
    let job = fleet.ended(&id).await;
    assert_eq!(
        (job.status, job.counts.succeeded),
        (JobStatus::Completed, 60)
    );
    let waiting = tokio::spawn({
        let method = method.clone();
        async move { method.no_direct_calls(DEADLINE * 2).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished());
    drop(call);
    within(waiting).await.unwrap();
    fleet.end().await;
}

#[tokio::test]
async fn at_most_1000_jobs_may_wait() {
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
                .create(&id, serde_json::from_value(request).unwrap(), None)
                .await
        }
    };
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..1000 {
        tasks.spawn(create(number));
    }
    while let Some(created) = tasks.join_next().await {
        created.unwrap().unwrap();
    }
    let refused = create(1000).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::ThrottlingMaxActiveJobCountExceeded);
    let first: JobId = "job-0".parse().unwrap();
    fleet
        .service
        .cancel(&first, CancelMode::BeforeStart, None)
        .await
        .unwrap();
    create(1000).await.unwrap();
    fleet.end().await;
}

/// What happens to a door and its job until the hub ends.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// The job starts; its calls wait five minutes for their doors.
    Job,
    /// The job starts; its calls do not wait for doors to connect.
    ImpatientJob,
    JobIsStopped,
    Connects,
    Disconnects,
    /// The door connects, and disconnects in the commit that makes its row `running`, before its
    /// call is sent.
    ConnectsAndLeaves,
    /// From now on, the commit that makes the door's row `running` disconnects it.
    WillLeave,
    /// The door has disconnected so, and its row is `pending` again.
    IsPendingAgain,
    Answers,
    IsDeleted,
    DiskFills,
    /// The disk has rejected a write that began after the previous events.
    DiskRejects,
    DiskHasRoom,
    /// The door's row has this status on disk.
    Row(&'static str),
    /// The door has received its call.
    Receives,
}

#[derive(Debug, Clone, Copy)]
enum End {
    Kill,
    Stop,
}

/// One door, `d0`, under a hub that ends and starts again.
struct Door {
    fleet: Fleet,
    entry: Option<Arc<Entry>>,
    /// All connections so far.
    links: Vec<Arc<Recorder>>,
}

impl Door {
    fn received(&self) -> usize {
        self.links.iter().map(|link| link.sent()).sum()
    }

    fn connect(&mut self) {
        let (link, entry) = self.fleet.connect(device(0));
        self.links.push(link);
        self.entry = Some(entry);
    }

    async fn row(&self) -> DeviceJobRecord {
        within(self.fleet.rows()).await.remove(0)
    }

    async fn row_where(&self, what: &str, check: impl Fn(&DeviceJobRecord) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let row = self.row().await;
            if check(&row) {
                return;
            }
            assert!(Instant::now() < deadline, "never {what}: {row:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn is_pending_again(&self) {
        let leaving = || self.fleet.leaving.lock().unwrap().is_none();
        until("the door disconnects", leaving).await;
        let pending_again =
            |row: &DeviceJobRecord| row.status == "pending" && row.updated != row.created;
        self.row_where("pending again", pending_again).await;
    }

    async fn start_job(&self, change: impl FnOnce(&mut Value)) {
        let id = within(self.fleet.lock(change)).await;
        within(self.fleet.job(&id, |job| job.counts.devices == 1)).await;
    }

    async fn happens(&mut self, event: Event) {
        let fleet = &self.fleet;
        match event {
            Event::Job => self.start_job(|_| {}).await,
            Event::ImpatientJob => {
                let now = |job: &mut Value| {
                    job["cloudToDeviceMethod"]["connectTimeoutInSeconds"] = json!(0);
                };
                self.start_job(now).await;
            }
            Event::JobIsStopped => {
                let id = "lock".parse().unwrap();
                let stopped = fleet.service.cancel(&id, CancelMode::Stop, None);
                within(stopped).await.unwrap();
            }
            Event::Connects => self.connect(),
            Event::Disconnects => {
                fleet.registry.remove(&self.entry.take().unwrap());
            }
            Event::ConnectsAndLeaves => {
                let (link, entry) = fleet.entry(device(0));
                *fleet.leaving.lock().unwrap() = Some(Arc::clone(&entry));
                fleet.subscribe(&entry);
                self.links.push(link);
                self.is_pending_again().await;
            }
            Event::WillLeave => *fleet.leaving.lock().unwrap() = self.entry.take(),
            Event::IsPendingAgain => self.is_pending_again().await,
            Event::Answers => self.entry.as_ref().unwrap().answered("1", 200, b"{}"),
            Event::IsDeleted => {
                let any = |_: &DeviceRecord| Ok::<_, ServiceError>(());
                let device = device(0);
                let deleted = fleet.store.device_delete(&device, any);
                assert!(within(deleted).await.unwrap());
                let reason = DisconnectReason::Deleted;
                fleet.registry.disconnect(&device, reason);
            }
            Event::DiskFills => fleet.full.store(true, Ordering::Relaxed),
            Event::DiskRejects => {
                let refusals = || fleet.refusals.load(Ordering::Relaxed);
                // A write that is running now may have begun before the previous events.
                let enough = refusals() + 2;
                until("a rejected write", || refusals() >= enough).await;
            }
            Event::DiskHasRoom => fleet.full.store(false, Ordering::Relaxed),
            Event::Row(status) => self.row_where(status, |row| row.status == status).await,
            Event::Receives => until("the door's call", || self.received() == 1).await,
        }
    }
}

/// Each row: the events, how the hub ends, the final status or error code of the door's record
/// after the door connects to the next hub and answers any call, and the number of calls that the
/// door received from both hubs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_not_sent_before_the_hub_ends_is_sent_once_by_the_next_hub() {
    use End::{Kill, Stop};
    use Event::{
        Answers, Connects, ConnectsAndLeaves, Disconnects, DiskFills, DiskHasRoom, DiskRejects,
        ImpatientJob, IsDeleted, IsPendingAgain, Job, JobIsStopped, Receives, Row, WillLeave,
    };
    type Scenario<'a> = (&'a [&'a [Event]], &'a [End], &'static str, usize);
    const LOCKED: &str = "completed";
    const UNKNOWN: &str = "OutcomeUnknown";
    let waits = [Job, Row("pending")];
    let refused = [DiskFills, Connects, DiskRejects];
    let gone = [Disconnects, DiskRejects, DiskHasRoom, Row("pending")];
    let called = [Connects, Receives, Row("running")];
    let answered = [Answers, Row("completed")];
    let both: &[End] = &[Kill, Stop];
    let leaves = [Connects, WillLeave, Job, IsPendingAgain];
    let rows: [Scenario<'_>; 14] = [
        // It waits for its door.
        (&[&waits], both, LOCKED, 1),
        // The door is connected, but the disk accepts no writes.
        (&[&waits, &refused], both, LOCKED, 1),
        // The door connects, and disconnects before its call is sent.
        (&[&waits, &refused, &gone], both, LOCKED, 1),
        (&[&waits, &[ConnectsAndLeaves]], both, LOCKED, 1),
        (
            &[&waits, &[ConnectsAndLeaves], &called, &answered],
            &[Kill],
            LOCKED,
            1,
        ),
        // The door was connected when the job began, and disconnects before its call is sent.
        (&[&leaves, &called, &answered], &[Kill], LOCKED, 1),
        // The call was sent, at once or after a wait.
        (
            &[&[Connects, Job, Receives, Row("running")]],
            both,
            UNKNOWN,
            1,
        ),
        (&[&waits, &called], both, UNKNOWN, 1),
        // The answer has arrived, and may be on disk.
        (&[&waits, &called, &answered], both, LOCKED, 1),
        (&[&waits, &called, &[Answers]], &[Stop], LOCKED, 1),
        (
            &[&waits, &called, &[DiskFills, Answers, DiskRejects]],
            &[Kill],
            UNKNOWN,
            1,
        ),
        // The call must never be sent.
        (&[&waits, &[JobIsStopped]], both, "canceled", 0),
        (&[&waits, &[IsDeleted]], both, "DeviceNotFound", 0),
        (
            &[&[ImpatientJob, Row("failed")]],
            both,
            "DeviceNotOnline",
            0,
        ),
    ];
    let mut cases = tokio::task::JoinSet::new();
    for (events, ends, expected, calls) in rows {
        for end in ends {
            cases.spawn(life(events.concat(), *end, expected, calls));
        }
    }
    while let Some(case) = cases.join_next().await {
        case.unwrap();
    }
}

async fn life(events: Vec<Event>, end: End, expected: &'static str, calls: usize) {
    let case = format!("{events:?} {end:?}");
    let mut door = Door {
        fleet: within(Fleet::start(1)).await,
        entry: None,
        links: Vec::new(),
    };
    for event in events {
        door.happens(event).await;
    }
    door.fleet = match end {
        End::Kill => door.fleet.restart_after_kill().await,
        End::Stop => door.fleet.stopped_and_started().await,
    };
    let before = door.received();
    door.connect();
    if before < calls {
        until(&case, || door.received() == calls).await;
        door.happens(Event::Answers).await;
    }
    let id = "lock".parse().unwrap();
    let job = door.fleet.ended(&id).await;
    let row = door.row().await;
    let code = row.error.as_ref().map_or(&row.status, |(code, _)| code);
    assert_eq!(code, expected, "{case}: {row:?}");
    assert_eq!(door.received(), calls, "{case}");
    let open = (job.counts.pending, job.counts.running);
    assert_eq!(open, (0, 0), "{case}: {job:?}");
    door.fleet.end().await;
}

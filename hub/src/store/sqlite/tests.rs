//! The tables, each through its own methods.

use std::ops::Deref;
use std::sync::atomic::AtomicU64;

use iothub_protocol::event::{EventFilter, EventKind};
use iothub_protocol::id::{DeviceId, JobId};
use iothub_protocol::job::{JobStatus, JobType};
use iothub_protocol::policy::Bounds;
use iothub_protocol::query::parse_condition;
use tempfile::TempDir;

use super::*;
use crate::config::EventLimits;
use crate::store::conformance::{
    TestDatabase, TestStore, conformance_suite, new_job, now, policy, retag,
};
use crate::types::{ConnectionEpoch, JobAuthor, Scope};

mod damage;

/// The number of locks that this process has on a file. The kernel lists those of one descriptor at
/// once; in `/proc/locks` a line may be missing while other tests lock their files.
fn locks_of(file: &Path) -> usize {
    let file = file.canonicalize().unwrap();
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    let locks = descriptors.flatten().filter_map(|descriptor| {
        let is_of_file = std::fs::read_link(descriptor.path()).is_ok_and(|path| path == file);
        let info = Path::new("/proc/self/fdinfo").join(descriptor.file_name());
        let info = std::fs::read_to_string(info).ok().filter(|_| is_of_file)?;
        Some(
            info.lines()
                .filter(|line| line.starts_with("lock:"))
                .count(),
        )
    });
    locks.sum()
}

#[tokio::test]
async fn looking_for_the_database_file_leaves_its_locks() {
    let test = FileStore::open();
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
async fn a_call_is_recorded_in_turns_with_what_a_thousand_devices_send_at_once() {
    let test = FileStore::open();
    let store = &test.store;
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
    assert!(before <= 1, "{before} writes of devices came first");
    for written in devices.join_all().await {
        written.unwrap();
    }
    assert_eq!(written.load(Ordering::Relaxed), 1000);
}

/// A store in a folder of its own, with the helpers of the conformance suite.
struct FileStore {
    test: TestStore,
    folder: TempDir,
}

impl FileStore {
    fn open() -> Self {
        Self::open_in(tempfile::tempdir().unwrap())
    }

    fn open_in(folder: TempDir) -> Self {
        let store = Store::open(&folder.path().join("hub.db"), Box::new(|_| {}), ()).unwrap();
        let test = TestStore { store };
        Self { test, folder }
    }
}

impl Deref for FileStore {
    type Target = TestStore;

    fn deref(&self) -> &TestStore {
        &self.test
    }
}

mod conformance {
    use super::*;

    fn create() -> TestDatabase {
        let folder = tempfile::tempdir().unwrap();
        TestDatabase::new(move |after_commit| {
            let store = Store::open(&folder.path().join("hub.db"), after_commit, ());
            std::future::ready(store.unwrap())
        })
    }

    conformance_suite!(super::create);
}

#[tokio::test]
async fn ended_jobs_of_a_policy_with_bounds_give_way_to_newer_ones() {
    let test = FileStore::open();
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
    let test = FileStore::open();
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

//! What every store keeps, tested through the methods of [`Store`] alone: no SQL and no file.
//!
//! Each test is a function of a [`TestDatabase`]; [`conformance_suite`] lists them and instantiates
//! them for one kind of store.

use std::fs;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use iothub_protocol::event::{EventFilter, EventKind};
use iothub_protocol::id::{DeviceId, JobId};
use iothub_protocol::job::JobType;
use iothub_protocol::query::parse_condition;
use iothub_protocol::sas::SharedAccessKey;
use iothub_protocol::twin::{ConnectionState, Object};
use serde_json::Value;

use super::event::EventPage;
use super::job::JobTarget;
use super::*;
use crate::identity::{Keys, Policy, Rights};
use crate::types::{CancelMode, ConnectionEpoch, JobAuthor, Scope};

pub(super) mod audit;
pub(super) mod bulk;
pub(super) mod claim;
pub(super) mod device;
pub(super) mod event;
pub(super) mod job;
pub(super) mod page;
pub(super) mod policy;
pub(super) mod query;
pub(super) mod session;
pub(super) mod twin;
pub(super) mod writer;

/// Instantiates the suite for the databases that `$create` returns: functions of no arguments that
/// return a new, empty [`TestDatabase`].
macro_rules! conformance_suite {
    ($create:path) => {
        conformance_suite! {
            $create,
            audit: a_row_is_completed_once_and_old_rows_are_evicted,
                a_filter_matches_all_that_it_names,
                an_attempt_is_on_record_before_its_end;
            bulk: a_failed_item_keeps_the_others;
            claim: a_claim_is_durable_and_gives_no_row_twice,
                claims_at_once_share_the_rows,
                an_offline_device_stays_pending_and_its_outcome_counts_once,
                a_recreated_device_is_not_part_of_an_earlier_job,
                the_first_outcome_counts_and_comes_back_verbatim,
                a_call_that_was_not_sent_is_pending_again_unless_the_job_was_stopped,
                calls_of_a_previous_run_end_unknown,
                a_job_updates_twins_with_their_rows;
            device: an_identity_is_stored_whole_and_once,
                a_failed_change_or_check_changes_nothing,
                identities_are_listed_in_the_order_of_their_creation,
                a_device_outside_the_bounds_does_not_exist;
            event: an_event_and_its_twin_are_visible_together,
                a_reader_with_a_cursor_misses_no_event,
                changes_of_identities_and_jobs_are_events,
                the_newest_events_stay_within_the_limits,
                a_message_has_the_model_and_generation_of_its_sender,
                bounds_and_filters_limit_what_is_read;
            job: a_jobs_counts_match_its_rows,
                a_cancelled_job_neither_starts_nor_fails,
                a_stopped_job_ends_when_its_calls_have_ended,
                an_abandoned_job_records_what_was_sent,
                the_end_of_a_job_that_is_gone_changes_nothing,
                expired_jobs_are_deleted_with_their_rows,
                a_start_fixes_the_devices_that_condition_and_permit_match,
                lists_are_newest_first_and_filtered,
                policies_with_bounds_leave_room_for_the_jobs_of_the_others,
                jobs_of_a_removed_policy_are_not_those_of_a_later_one_of_its_name,
                ended_jobs_of_a_policy_with_bounds_give_way_to_newer_ones;
            page: sessions_of_the_page_are_kept_until_their_end,
                plans_are_bounded_and_replaced,
                a_webhook_continues_after_its_cursor;
            policy: defaults_are_stored_once,
                a_failed_change_of_policies_changes_nothing;
            query: conditions_match_as_the_evaluator_does,
                groups_are_those_of_the_evaluator,
                strings_are_ordered_by_their_bytes,
                sections_that_nobody_reads_are_empty,
                pages_neither_repeat_nor_omit_a_row,
                records_of_jobs_are_found_within_bounds;
            session: rejects_a_connection_with_an_outdated_identity_or_before_a_later_one,
                a_persistent_session_keeps_its_subscriptions_and_a_clean_one_deletes_them,
                a_start_disconnects_all;
            twin: writes_only_the_modified_parts,
                documents_come_back_as_they_were_given,
                a_refused_change_leaves_neither_twin_nor_event,
                no_update_is_lost,
                desired_changes_are_notified_in_commit_order_before_the_reply;
            writer: an_answer_survives_a_restart,
                a_closed_store_refuses_and_a_healthy_one_is_not_failing;
        }
    };
    ($create:path, $($area:ident: $($test:ident),+;)+) => {$(
        mod $area {
            $(
                #[tokio::test]
                async fn $test() {
                    let database = $create();
                    $crate::store::conformance::$area::$test(&database).await;
                }
            )+
        }
    )+};
}
pub(super) use conformance_suite;

/// A database of its own for one test.
pub(super) struct TestDatabase(Box<dyn Fn(AfterCommit) -> Opening>);

type Opening = Pin<Box<dyn Future<Output = Store>>>;

impl TestDatabase {
    /// `open` creates the database when it is called first, and opens the same one again after
    /// that.
    pub(super) fn new<F: Future<Output = Store> + 'static>(
        open: impl Fn(AfterCommit) -> F + 'static,
    ) -> Self {
        Self(Box::new(move |after_commit| Box::pin(open(after_commit))))
    }

    async fn open(&self) -> TestStore {
        self.open_with(Box::new(|_| {})).await
    }

    async fn open_with(&self, after_commit: AfterCommit) -> TestStore {
        let store = (self.0)(after_commit).await;
        TestStore { store }
    }

    /// Opens the database again, as after a restart.
    async fn reopen(&self, test: TestStore) -> TestStore {
        test.store.close().await;
        self.open().await
    }
}

/// An open store with what tests do often.
pub(super) struct TestStore {
    pub(super) store: Store,
}

impl TestStore {
    pub(super) async fn add(&self, id: &str) -> DeviceId {
        let record = DeviceRecord::new(device(id), "1".into(), "MQ==".into());
        assert!(self.store.device_insert(record).await.unwrap());
        device(id)
    }

    /// Adds `d0`, `d1`, ..
    async fn add_devices(&self, count: usize) {
        let added = (0..count).map(|number| {
            let id = device(&format!("d{number}"));
            let record = DeviceRecord::new(id, "1".into(), "MQ==".into());
            self.store.device_insert(record)
        });
        for added in futures_util::future::join_all(added).await {
            assert!(added.unwrap());
        }
    }

    async fn remove(&self, id: &str) {
        let removed = self.store.device_delete(&device(id), |_| ok(())).await;
        assert!(removed.unwrap());
    }

    async fn device(&self, id: &DeviceId) -> DeviceRecord {
        self.store.device_get(id, None).await.unwrap().unwrap()
    }

    async fn twin(&self, id: &DeviceId) -> TwinRecord {
        self.store.twin_get(id, None).await.unwrap().unwrap()
    }

    /// Replaces the tags of a twin.
    async fn set_tags(&self, id: &DeviceId, tags: Value) {
        let change = move |twin: &mut TwinRecord| ok((retag(twin, object(tags)), ()));
        let changed = self.store.twin_update(id, None, change).await;
        assert!(changed.unwrap().is_some());
    }

    /// Connects a device; returns the stored subscriptions of its session.
    pub(super) async fn connect(
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

    async fn state(&self, device: &DeviceId) -> ConnectionState {
        self.device(device).await.connection_state
    }

    /// Stores the outcome of one device.
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

    async fn cancel(&self, id: &str, mode: CancelMode) -> JobCancel {
        let id: JobId = id.parse().unwrap();
        self.store.job_cancel(&id, mode, None, now()).await.unwrap()
    }

    /// The first records of jobs.
    async fn rows(&self) -> Vec<DeviceJobRecord> {
        let page = self
            .store
            .query_device_jobs(None, None, RowPosition::START, 1000);
        page.await.unwrap().rows
    }

    /// The statuses of all records of jobs.
    async fn statuses(&self) -> Vec<String> {
        let rows = self.rows().await.into_iter();
        rows.map(|row| row.status).collect()
    }

    pub(super) async fn job(&self, id: &str) -> JobRecord {
        let id: JobId = id.parse().unwrap();
        self.store.job_get(&id, None).await.unwrap().unwrap()
    }

    async fn counts(&self, job: &str) -> JobCounts {
        self.job(job).await.counts
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

    /// Claims devices of a job by their ordinals.
    async fn claim_these(&self, job: i64, ordinals: Vec<u32>, next: u32) -> ClaimedDevices {
        let claim = ClaimRequest {
            ordinals,
            from: next,
            at_most: 0,
        };
        let claimed = self.store.device_job_claim(job, claim, |_| true, now());
        claimed.await.unwrap()
    }

    /// Inserts a job; returns its row.
    pub(super) async fn insert_job(&self, job: NewJob) -> i64 {
        let id = job.job_id.clone();
        let inserted = self.store.job_insert(job).await.unwrap();
        assert_eq!(inserted, JobInsert::Done);
        self.job(id.as_ref()).await.row
    }

    /// Starts a job on all devices.
    pub(super) async fn start_job(&self, id: &str) -> i64 {
        let row = self.insert_job(new_job(id)).await;
        let started = self.store.job_start(row, None, |_| Ok(None), now());
        assert!(matches!(started.await.unwrap(), JobStart::Started(_)));
        row
    }

    /// All events of these kinds, or of all kinds.
    async fn events(&self, kinds: &[EventKind]) -> Vec<EventRecord> {
        let kinds = kinds.to_vec();
        let filter = EventFilter {
            kinds,
            ..EventFilter::default()
        };
        self.event_page(filter, None, 0).await.events
    }

    async fn event_page(&self, filter: EventFilter, scope: Option<Scope>, after: i64) -> EventPage {
        let scope = scope.map(Arc::new);
        let page = self
            .store
            .event_page(filter, scope, after, 10_000, usize::MAX);
        page.await.unwrap()
    }
}

pub(super) const CODE: (&str, &str) = ("Code", "description");

fn ok<T>(value: T) -> Result<T, StoreError> {
    Ok(value)
}

pub(super) fn now() -> Timestamp {
    Timestamp::now()
}

fn device(id: &str) -> DeviceId {
    id.parse().unwrap()
}

fn object(value: Value) -> Object {
    serde_json::from_value(value).unwrap()
}

/// Sets the tags of a twin as the service of twins does.
pub(super) fn retag(twin: &mut TwinRecord, tags: Object) -> TwinChange {
    twin.tags = tags;
    twin.version += 1;
    twin.etag += 1;
    TwinChange {
        tags: true,
        desired: None,
        reported: false,
        event: TwinEvent {
            operation: "updateTwin",
            at: now(),
            body: "{}".into(),
        },
    }
}

pub(super) fn new_job(id: &str) -> NewJob {
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

/// A job of a policy.
fn job_of(id: &str, policy: &str) -> NewJob {
    let author = Some(JobAuthor {
        policy: policy.parse().unwrap(),
        bounds: None,
    });
    NewJob {
        author,
        ..new_job(id)
    }
}

/// A policy with ServiceConnect and no bounds.
pub(super) fn policy(name: &str) -> Policy {
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

/// What exists for the policy `guard`: devices that match `condition`.
fn scope(condition: &str) -> Scope {
    Scope {
        policy: "guard".parse().unwrap(),
        condition: Some(parse_condition(condition).unwrap()),
    }
}

fn failed(code: &'static str) -> DeviceResult {
    DeviceResult::Failed {
        code,
        description: "reason".into(),
    }
}

fn answered(payload: &str) -> DeviceResult {
    DeviceResult::Answered {
        status: 200,
        payload: Some(payload.into()),
    }
}

fn ordinals(targets: &[JobTarget]) -> Vec<u32> {
    targets.iter().map(|target| target.ordinal).collect()
}

fn names(targets: &[JobTarget]) -> Vec<&str> {
    let names = targets.iter().map(|target| target.device.as_str());
    names.collect()
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

/// Methods that concern the file of SQLite, and those by which tests open it.
const OF_FILES: [&str; 5] = [
    "open",
    "open_full",
    "look_for_file",
    "is_file_lost",
    "inspect",
];

#[test]
fn every_method_of_the_store_is_called() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let text = |folder: PathBuf| -> String {
        let files = fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().path());
        let files = files.filter(|file| file.is_file());
        files
            .map(|file| fs::read_to_string(file).unwrap())
            .collect()
    };
    let suite = text(folder.join("conformance")) + include_str!("conformance.rs");
    let sqlite = text(folder.join("sqlite")) + include_str!("sqlite.rs");
    let mut methods = 0;
    for block in sqlite.split("\nimpl Store {").skip(1) {
        let block = block.split("\n}").next().unwrap();
        for method in block.split("    pub(crate) ").skip(1) {
            let method = method.strip_prefix("async ").unwrap_or(method);
            let method = method.strip_prefix("fn ").unwrap();
            let name = method.split(['(', '<']).next().unwrap();
            methods += 1;
            assert!(
                OF_FILES.contains(&name) || suite.contains(&format!(".{name}(")),
                "no test of the suite calls `{name}`"
            );
        }
    }
    assert!(methods > 50, "only {methods} methods were found");
}

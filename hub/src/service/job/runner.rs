//! Runs jobs as [`plan`](super::plan) says, while the hub runs. The store holds the state; the
//! runner reads it at the start, on a nudge, and at the nearest deadline.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use iothub_protocol::id::JobId;
use iothub_protocol::job::{JobStatus, JobType};
use iothub_protocol::query;

use super::clock::Clock;
use super::methods::MethodRun;
use super::permit::permit;
use super::plan::{JobSchedule, StartStep, plan};
use super::retry::{Retry, reason};
use super::twins::TwinRun;
use super::{ENDED_EARLY, NOT_STORED, OUTCOME_UNKNOWN};
use crate::service::MethodService;
use crate::store::{JobRecord, JobStart, Store, StoreError};

/// The runner reads the store at least this often.
const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// How often it checks the wall clock while a job waits for its start: the clock may be set.
const CLOCK_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How long an ended job is kept, as on Azure.
const RETENTION_DAYS: i64 = 30;

/// Runs all jobs.
pub(crate) struct Runner {
    context: RunContext,
    nudge: Arc<Notify>,
    /// The running jobs, by task: row and stop token.
    running: HashMap<Id, (i64, CancellationToken)>,
    runs: JoinSet<()>,
    /// The jobs with a failed step, by row, until they end.
    failures: HashMap<i64, Failure>,
}

/// A job with a failed step.
struct Failure {
    retry: Retry,
    /// When to retry.
    retry_at: Instant,
}

/// The times of the next work.
#[derive(Clone, Copy, Default)]
struct Wakeup {
    /// On the wall clock: a job starts.
    wall_time: Option<Timestamp>,
    /// On the monotonic clock: a retry is due.
    monotonic: Option<Instant>,
}

impl Wakeup {
    fn wall_time(&mut self, time: Timestamp) {
        self.wall_time = Some(self.wall_time.map_or(time, |next| next.min(time)));
    }

    fn monotonic(&mut self, time: Instant) {
        self.monotonic = Some(self.monotonic.map_or(time, |next| next.min(time)));
    }
}

/// What the run of one job needs.
#[derive(Clone)]
pub(super) struct RunContext {
    pub(super) store: Store,
    pub(super) method: MethodService,
    pub(super) clock: Clock,
    /// Cancelled when the hub stops.
    pub(super) stop: CancellationToken,
    /// Cancelled when this job is stopped.
    pub(super) job_stop: CancellationToken,
}

impl RunContext {
    /// Handles a failed write of a running job: waits for the retry, or ends the job. Returns
    /// whether the job has ended.
    pub(super) async fn failed(&self, retry: &mut Retry, row: i64, error: &StoreError) -> bool {
        let attempt = retry.failed(error.is_permanent(), self.clock.monotonic());
        if attempt.give_up && self.abandon(row, reason(error)).await {
            return true;
        }
        tracing::error!(
            job = row,
            error = error as &dyn std::error::Error,
            again_ms = attempt.after.as_millis(),
            "cannot store a job's progress; retrying"
        );
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(attempt.after) => {}
        }
        false
    }

    /// Ends a job that can never run. `false` when the hub stops before the store accepts that.
    async fn fail_unrunnable(&self, row: i64, reason: String) -> bool {
        let mut retry = Retry::default();
        while !self.abandon(row, reason.clone()).await {
            let wait = retry.failed(false, self.clock.monotonic()).after;
            tokio::select! {
                () = self.stop.cancelled() => return false,
                () = tokio::time::sleep(wait) => {}
            }
        }
        true
    }

    /// Ends a running job as failed. `false` when the store rejects that.
    async fn abandon(&self, row: i64, reason: String) -> bool {
        tracing::error!(job = row, reason, "giving up a job");
        let now = self.clock.wall_time();
        let abandoned = self
            .store
            .job_abandon(row, reason, ENDED_EARLY, NOT_STORED, now)
            .await;
        if let Err(error) = &abandoned {
            let error = error as &dyn std::error::Error;
            tracing::error!(job = row, error, "cannot store the end of a job");
        }
        abandoned.is_ok()
    }
}

impl Runner {
    pub(super) fn new(
        store: Store,
        method: MethodService,
        clock: Clock,
        nudge: Arc<Notify>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            context: RunContext {
                store,
                method,
                clock,
                stop,
                job_stop: CancellationToken::new(),
            },
            nudge,
            running: HashMap::new(),
            runs: JoinSet::new(),
            failures: HashMap::new(),
        }
    }

    /// Runs until the hub stops. Then the running jobs store the outcomes that arrive; the rest
    /// resumes at the next start.
    pub(crate) async fn run(mut self) {
        let stop = self.context.stop.clone();
        let clock = self.context.clock.clone();
        let mut retry = Retry::default();
        while !stop.is_cancelled() {
            let next = match self.step().await {
                Ok(next) => {
                    retry.succeeded();
                    next
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "cannot process the jobs; retrying");
                    let mut next = Wakeup::default();
                    next.monotonic(
                        clock.monotonic() + retry.failed(false, clock.monotonic()).after,
                    );
                    next
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.nudge.notified() => {}
                () = due(&clock, next) => {}
                Some(ended) = self.runs.join_next_with_id() => self.run_ended(ended).await,
            }
        }
        while self.runs.join_next().await.is_some() {}
    }

    /// Fails the calls that an earlier hub process sent without storing an outcome. Called before
    /// any job runs.
    pub(super) async fn recover(store: &Store, clock: &Clock) -> Result<(), StoreError> {
        let failed = store
            .device_job_recover(OUTCOME_UNKNOWN, clock.wall_time())
            .await?;
        if failed > 0 {
            tracing::warn!(
                devices = failed,
                "the hub stopped before it stored these devices' answers to their jobs"
            );
        }
        Ok(())
    }

    async fn run_ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let (id, failure) = match ended {
            Ok((id, ())) => (id, None),
            Err(error) => (error.id(), Some(error)),
        };
        let Some((row, _)) = self.running.remove(&id) else {
            return;
        };
        if let Some(error) = failure {
            tracing::error!(job = row, %error, "the run of a job failed; retrying");
            let give_up = self.record_failure(row, true).give_up;
            if give_up {
                let reason = "The hub failed repeatedly while it ran this job; see its log.";
                self.context.abandon(row, reason.into()).await;
            }
        }
    }

    /// Records a failed step of the job in `row`, and when to retry it.
    fn record_failure(&mut self, row: i64, permanent: bool) -> super::retry::NextAttempt {
        let now = self.context.clock.monotonic();
        let failure = self.failures.entry(row).or_insert_with(|| Failure {
            retry: Retry::default(),
            retry_at: now,
        });
        let attempt = failure.retry.failed(permanent, now);
        failure.retry_at = now + attempt.after;
        attempt
    }

    /// Does the work that is due, and returns when the next is due.
    async fn step(&mut self) -> Result<Wakeup, StoreError> {
        let mut next = Wakeup::default();
        let jobs = self.context.store.job_active().await?;
        self.failures
            .retain(|row, _| jobs.iter().any(|job| job.row == *row));
        for job in jobs {
            let (name, row) = (job.job_id.clone(), job.row);
            let retry_at = self.failures.get(&row).map(|failure| failure.retry_at);
            if let Some(retry_at) = retry_at.filter(|time| *time > self.context.clock.monotonic()) {
                next.monotonic(retry_at);
                continue;
            }
            match self.step_job(job).await {
                Ok(Some(time)) => next.wall_time(time),
                Ok(None) => {}
                Err(error) => {
                    // The other jobs do not wait for this one.
                    log(&error, &name);
                    let attempt = self.record_failure(row, error.is_permanent());
                    if attempt.give_up {
                        self.give_up(row, &error).await;
                    }
                    next.monotonic(self.context.clock.monotonic() + attempt.after);
                }
            }
        }
        let expired = self
            .context
            .clock
            .wall_time()
            .saturating_sub(jiff::SignedDuration::from_hours(24 * RETENTION_DAYS))
            .unwrap_or(Timestamp::MIN);
        self.context.store.job_expire(expired).await?;
        Ok(next)
    }

    /// Fails a job that cannot be started.
    async fn give_up(&self, row: i64, error: &StoreError) {
        let (store, now) = (&self.context.store, self.context.clock.wall_time());
        if let Err(error) = store.job_fail(row, reason(error), now).await {
            let error = &error as &dyn std::error::Error;
            tracing::error!(job = row, error, "cannot store the end of a job");
        }
    }

    async fn step_job(&mut self, job: JobRecord) -> Result<Option<Timestamp>, StoreError> {
        let store = self.context.store.clone();
        let clock = self.context.clock.clone();
        let row = job.row;
        if job.status == JobStatus::Running {
            self.resume(job).await?;
            return Ok(None);
        }
        let condition = match parse_condition(&job.query_condition) {
            Ok(condition) => condition,
            Err(reason) => {
                store.job_fail(row, reason, clock.wall_time()).await?;
                return Ok(None);
            }
        };
        let mut schedule = job_schedule(&job);
        loop {
            match plan(clock.wall_time(), &schedule) {
                StartStep::Wait(until) => return Ok(Some(until)),
                StartStep::Schedule => {
                    store.job_schedule(row).await?;
                    schedule.status = JobStatus::Scheduled;
                }
                StartStep::Miss => {
                    let reason = format!(
                        "The job was due at {}, and its maximum execution time of {} s had passed \
                         before this hub could start it.",
                        iothub_protocol::time::format(schedule.start_time()),
                        schedule.max_execution.as_secs()
                    );
                    store.job_fail(row, reason, clock.wall_time()).await?;
                    return Ok(None);
                }
                StartStep::Start => {
                    let now = clock.wall_time();
                    match store.job_start(row, condition, permit, now).await? {
                        JobStart::Started(devices) => {
                            tracing::info!(job = %job.job_id, devices, "a job has started");
                            let status = JobStatus::Running;
                            self.resume(JobRecord { status, ..job }).await?;
                        }
                        JobStart::Refused(reason) => {
                            tracing::warn!(job = %job.job_id, reason, "a job was not started");
                        }
                        JobStart::Cancelled => {}
                    }
                    return Ok(None);
                }
                StartStep::Nothing => return Ok(None),
            }
        }
    }

    /// Spawns the run of a started job; if it already runs, cancels it when the job was stopped.
    async fn resume(&mut self, job: JobRecord) -> Result<(), StoreError> {
        let row = job.row;
        if let Some((_, job_stop)) = self.running.values().find(|(running, _)| *running == row) {
            if job.stopped {
                job_stop.cancel();
            }
            return Ok(());
        }
        let clock = &self.context.clock;
        let deadline = job_schedule(&job).deadline(clock.wall_time(), clock.monotonic());
        let action = self.context.store.job_action(row).await?;
        let job_stop = CancellationToken::new();
        if job.stopped {
            job_stop.cancel();
        }
        let context = RunContext {
            job_stop: job_stop.clone(),
            ..self.context.clone()
        };
        let run = self.runs.spawn(run_job(context, job, action, deadline));
        self.running.insert(run.id(), (row, job_stop));
        Ok(())
    }
}

fn log(error: &StoreError, job: &JobId) {
    let error = error as &dyn std::error::Error;
    tracing::error!(%job, error, "cannot process a job; retrying");
}

async fn run_job(context: RunContext, job: JobRecord, action: String, deadline: Instant) {
    let row = job.row;
    let run = context.clone();
    let finished = match job.kind {
        JobType::ScheduleUpdateTwin => match TwinRun::new(run, row, &action, deadline) {
            Ok(run) => run.run().await,
            Err(reason) => context.fail_unrunnable(row, reason).await,
        },
        _ => match MethodRun::new(run, row, &action, deadline) {
            Ok(run) => run.run().await,
            Err(reason) => context.fail_unrunnable(row, reason).await,
        },
    };
    if finished {
        tracing::info!(job = %job.job_id, row, "a job has ended");
    }
}

/// Waits until something is due, at most [`POLL_INTERVAL`].
async fn due(clock: &Clock, next: Wakeup) {
    let latest = clock.monotonic() + POLL_INTERVAL;
    let latest = next.monotonic.map_or(latest, |time| time.min(latest));
    loop {
        let mut left = latest.saturating_duration_since(clock.monotonic());
        if let Some(time) = next.wall_time {
            let due =
                Duration::try_from(time.duration_since(clock.wall_time())).unwrap_or_default();
            left = left.min(due).min(CLOCK_POLL_INTERVAL);
        }
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left).await;
    }
}

/// The condition; `None` for `*`, all devices. The error is the job's failure reason.
fn parse_condition(text: &str) -> Result<Option<query::Condition>, String> {
    if text.trim() == "*" {
        return Ok(None);
    }
    query::parse_condition(text).map(Some).map_err(|error| {
        format!(
            "SQL query parse failed due to following errors: Line {}:{} {error}",
            error.position.line, error.position.column
        )
    })
}

/// The part of a stored job that its plan depends on.
fn job_schedule(job: &JobRecord) -> JobSchedule {
    JobSchedule {
        status: job.status,
        created: job.created,
        start: job.start,
        max_execution: job.max_execution,
    }
}

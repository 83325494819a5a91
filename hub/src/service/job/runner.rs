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
use super::plan::{Job, Step, plan};
use super::retry::{Retry, reason};
use super::twins::TwinRun;
use super::{GIVEN_UP, NOT_STORED, OUTCOME_UNKNOWN};
use crate::service::MethodService;
use crate::store::{JobRecord, Store, StoreError};

/// The runner reads the store at least this often.
const TICK: Duration = Duration::from_secs(10);

/// How often it checks the wall clock while a job waits for its start: the clock may be set.
const LOOK: Duration = Duration::from_secs(1);

/// How long an ended job is kept, as on Azure.
const KEPT_DAYS: i64 = 30;

/// Runs all jobs.
pub(crate) struct Runner {
    context: Context,
    nudge: Arc<Notify>,
    /// The running jobs, by task: row and stop token.
    running: HashMap<Id, (i64, CancellationToken)>,
    runs: JoinSet<()>,
    /// The jobs with a failed step, by row, until they end.
    troubles: HashMap<i64, Trouble>,
}

/// A job with a failed step.
struct Trouble {
    retry: Retry,
    /// When to retry.
    again: Instant,
}

/// The times of the next work.
#[derive(Clone, Copy, Default)]
struct Next {
    /// On the wall clock: a job starts.
    wall: Option<Timestamp>,
    /// On the monotonic clock: a retry is due.
    steady: Option<Instant>,
}

impl Next {
    fn wall(&mut self, time: Timestamp) {
        self.wall = Some(self.wall.map_or(time, |next| next.min(time)));
    }

    fn steady(&mut self, time: Instant) {
        self.steady = Some(self.steady.map_or(time, |next| next.min(time)));
    }
}

/// What the run of one job needs.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) store: Store,
    pub(super) method: MethodService,
    pub(super) clock: Clock,
    /// Cancelled when the hub stops.
    pub(super) stop: CancellationToken,
    /// Cancelled when this job is stopped.
    pub(super) stopped: CancellationToken,
}

impl Context {
    /// Handles a failed write of a running job: waits for the retry, or ends the job. Returns
    /// whether the job has ended.
    pub(super) async fn failed(&self, retry: &mut Retry, row: i64, error: &StoreError) -> bool {
        let again = retry.failed(error.is_permanent(), self.clock.steady());
        tracing::error!(
            job = row,
            error = error as &dyn std::error::Error,
            again_ms = again.after.as_millis(),
            "cannot store a job's progress; retrying"
        );
        if again.give_up && self.abandon(row, reason(error)).await {
            return true;
        }
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(again.after) => {}
        }
        false
    }

    /// Ends a job that can never run. `false` when the hub stops before the store accepts that.
    async fn never_runs(&self, row: i64, reason: String) -> bool {
        let mut retry = Retry::default();
        while !self.abandon(row, reason.clone()).await {
            let wait = retry.failed(false, self.clock.steady()).after;
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
        let now = self.clock.wall();
        let abandoned = self
            .store
            .job_abandon(row, reason, GIVEN_UP, NOT_STORED, now)
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
            context: Context {
                store,
                method,
                clock,
                stop,
                stopped: CancellationToken::new(),
            },
            nudge,
            running: HashMap::new(),
            runs: JoinSet::new(),
            troubles: HashMap::new(),
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
                    retry.worked();
                    next
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "cannot process the jobs; retrying");
                    let mut next = Next::default();
                    next.steady(clock.steady() + retry.failed(false, clock.steady()).after);
                    next
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.nudge.notified() => {}
                () = due(&clock, next) => {}
                Some(ended) = self.runs.join_next_with_id() => self.ended(ended).await,
            }
        }
        while self.runs.join_next().await.is_some() {}
    }

    /// Fails the calls that an earlier hub process sent without storing an outcome. Called before
    /// any job runs.
    pub(super) async fn recover(store: &Store, clock: &Clock) -> Result<(), StoreError> {
        let failed = store
            .device_job_recover(OUTCOME_UNKNOWN, clock.wall())
            .await?;
        if failed > 0 {
            tracing::warn!(
                devices = failed,
                "the hub stopped before it stored these devices' answers to their jobs"
            );
        }
        Ok(())
    }

    async fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let (id, failure) = match ended {
            Ok((id, ())) => (id, None),
            Err(error) => (error.id(), Some(error)),
        };
        let Some((row, _)) = self.running.remove(&id) else {
            return;
        };
        if let Some(error) = failure {
            tracing::error!(job = row, %error, "the run of a job failed; retrying");
            let give_up = self.trouble(row, true).give_up;
            if give_up {
                let reason = "The hub failed repeatedly while it ran this job; see its log.";
                self.context.abandon(row, reason.into()).await;
            }
        }
    }

    /// Records a failed step of the job in `row`, and when to retry it.
    fn trouble(&mut self, row: i64, lasting: bool) -> super::retry::Again {
        let now = self.context.clock.steady();
        let trouble = self.troubles.entry(row).or_insert_with(|| Trouble {
            retry: Retry::default(),
            again: now,
        });
        let again = trouble.retry.failed(lasting, now);
        trouble.again = now + again.after;
        again
    }

    /// Does the work that is due, and returns when the next is due.
    async fn step(&mut self) -> Result<Next, StoreError> {
        let mut next = Next::default();
        let jobs = self.context.store.job_active().await?;
        self.troubles
            .retain(|row, _| jobs.iter().any(|job| job.row == *row));
        for job in jobs {
            let (name, row) = (job.job_id.clone(), job.row);
            let again = self.troubles.get(&row).map(|trouble| trouble.again);
            if let Some(again) = again.filter(|again| *again > self.context.clock.steady()) {
                next.steady(again);
                continue;
            }
            match self.step_job(job).await {
                Ok(Some(time)) => next.wall(time),
                Ok(None) => {}
                Err(error) => {
                    // The other jobs do not wait for this one.
                    log(&error, &name);
                    let again = self.trouble(row, error.is_permanent());
                    if again.give_up {
                        self.give_up(row, &error).await;
                    }
                    next.steady(self.context.clock.steady() + again.after);
                }
            }
        }
        let expired = self
            .context
            .clock
            .wall()
            .saturating_sub(jiff::SignedDuration::from_hours(24 * KEPT_DAYS))
            .unwrap_or(Timestamp::MIN);
        self.context.store.job_expire(expired).await?;
        Ok(next)
    }

    /// Fails a job that cannot be started.
    async fn give_up(&self, row: i64, error: &StoreError) {
        let (store, now) = (&self.context.store, self.context.clock.wall());
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
                store.job_fail(row, reason, clock.wall()).await?;
                return Ok(None);
            }
        };
        let mut view = view(&job);
        loop {
            match plan(clock.wall(), &view) {
                Step::Wait(until) => return Ok(Some(until)),
                Step::Schedule => {
                    store.job_schedule(row).await?;
                    view.status = JobStatus::Scheduled;
                }
                Step::Miss => {
                    let reason = "The hub was not running at the job's start time, \
                         or its clock was set past it; \
                         the job's maximum execution time has passed since.";
                    store.job_fail(row, reason.into(), clock.wall()).await?;
                    return Ok(None);
                }
                Step::Start => {
                    if let Some(devices) = store.job_start(row, condition, clock.wall()).await? {
                        tracing::info!(job = %job.job_id, devices, "a job has started");
                        let status = JobStatus::Running;
                        self.resume(JobRecord { status, ..job }).await?;
                    }
                    return Ok(None);
                }
                Step::Nothing => return Ok(None),
            }
        }
    }

    /// Spawns the run of a started job; if it already runs, cancels it when the job was stopped.
    async fn resume(&mut self, job: JobRecord) -> Result<(), StoreError> {
        let row = job.row;
        if let Some((_, stopped)) = self.running.values().find(|(running, _)| *running == row) {
            if job.stopped {
                stopped.cancel();
            }
            return Ok(());
        }
        let clock = &self.context.clock;
        let ends = view(&job).deadline(clock.wall(), clock.steady());
        let action = self.context.store.job_action(row).await?;
        let stopped = CancellationToken::new();
        if job.stopped {
            stopped.cancel();
        }
        let context = Context {
            stopped: stopped.clone(),
            ..self.context.clone()
        };
        let run = self.runs.spawn(run_job(context, job, action, ends));
        self.running.insert(run.id(), (row, stopped));
        Ok(())
    }
}

fn log(error: &StoreError, job: &JobId) {
    let error = error as &dyn std::error::Error;
    tracing::error!(%job, error, "cannot process a job; retrying");
}

async fn run_job(context: Context, job: JobRecord, action: String, ends: Instant) {
    let row = job.row;
    let run = context.clone();
    let finished = match job.kind {
        JobType::ScheduleUpdateTwin => match TwinRun::new(run, row, &action, ends) {
            Ok(run) => run.run().await,
            Err(reason) => context.never_runs(row, reason).await,
        },
        _ => match MethodRun::new(run, row, &action, ends) {
            Ok(run) => run.run().await,
            Err(reason) => context.never_runs(row, reason).await,
        },
    };
    if finished {
        tracing::info!(job = %job.job_id, row, "a job has ended");
    }
}

/// Waits until something is due, at most [`TICK`].
async fn due(clock: &Clock, next: Next) {
    let latest = clock.steady() + TICK;
    let latest = next.steady.map_or(latest, |time| time.min(latest));
    loop {
        let mut left = latest.saturating_duration_since(clock.steady());
        if let Some(time) = next.wall {
            let due = Duration::try_from(time.duration_since(clock.wall())).unwrap_or_default();
            left = left.min(due).min(LOOK);
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
fn view(job: &JobRecord) -> Job {
    Job {
        status: job.status,
        created: job.created,
        start: job.start,
        max_execution: job.max_execution,
    }
}

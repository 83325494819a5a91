//! Runs jobs: does what the plan says when it is time, for as long as the hub runs. What it knows is in the store; it looks there when it
//! starts, when it is nudged, and when the nearest deadline comes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use iothub_protocol::job::{JobStatus, JobType};
use iothub_protocol::query;

use super::OUTCOME_UNKNOWN;
use super::methods::MethodRun;
use super::plan::{Devices, Job, Step, plan};
use super::retry::Retry;
use super::twins;
use crate::service::{MethodService, ServiceError};
use crate::store::{JobRecord, Store, StoreError};

/// The runner looks at the store at least this often: the clock may have been set.
const TICK: Duration = Duration::from_secs(10);

/// How long to wait before trying again when the store fails.
const RETRY: Duration = Duration::from_secs(1);

/// How long a job that is over is remembered, as on Azure.
const KEPT_DAYS: i64 = 30;

/// The runner of all jobs.
pub(crate) struct Runner {
    context: Context,
    nudge: Arc<Notify>,
    /// The jobs that are being run, by task.
    running: HashMap<Id, (i64, CancellationToken)>,
    runs: JoinSet<()>,
}

/// What a run of one job works with.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) store: Store,
    pub(super) method: MethodService,
    /// The hub stops.
    pub(super) stop: CancellationToken,
    /// This job does.
    pub(super) stopped: CancellationToken,
}

impl Runner {
    pub(crate) fn new(
        store: Store,
        method: MethodService,
        nudge: Arc<Notify>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            context: Context {
                store,
                method,
                stop,
                stopped: CancellationToken::new(),
            },
            nudge,
            running: HashMap::new(),
            runs: JoinSet::new(),
        }
    }

    /// Runs until the hub stops. Runs that are on their way then store what they have heard; the rest goes on at the next start.
    pub(crate) async fn run(mut self) {
        let stop = self.context.stop.clone();
        let mut retry = Retry::default();
        while !stop.is_cancelled() {
            let pause = match self.step().await {
                Ok(next) => {
                    retry.worked();
                    next.map_or(TICK, |next| until(next).min(TICK))
                }
                Err(error) => {
                    log(&error, "jobs cannot go on; they are taken up again");
                    retry.next()
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.nudge.notified() => {}
                () = tokio::time::sleep(pause) => {}
                Some(ended) = self.runs.join_next_with_id() => self.ended(ended).await,
            }
        }
        while self.runs.join_next().await.is_some() {}
    }

    /// Fails the calls that a hub which is gone had sent and not heard of. Called before anything runs.
    pub(crate) async fn recover(store: &Store) -> Result<(), StoreError> {
        let failed = store
            .device_job_recover(OUTCOME_UNKNOWN, Timestamp::now())
            .await?;
        if failed > 0 {
            tracing::warn!(
                devices = failed,
                "the hub had stopped before these devices answered their jobs"
            );
        }
        Ok(())
    }

    async fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                tracing::error!(%error, "a job's run has failed; it is taken up again");
                tokio::time::sleep(RETRY).await;
                error.id()
            }
        };
        self.running.remove(&id);
    }

    /// Does what is due, and returns when something will be.
    async fn step(&mut self) -> Result<Option<Timestamp>, StoreError> {
        let mut next: Option<Timestamp> = None;
        for job in self.context.store.job_active().await? {
            let (name, row) = (job.job_id.clone(), job.row);
            let time = self.step_job(job).await.unwrap_or_else(|error| {
                // The others do not wait for it.
                tracing::error!(job = %name, row, error = &error as &dyn std::error::Error, "a job cannot go on; it is taken up again");
                Timestamp::now().checked_add(RETRY).ok()
            });
            if let Some(time) = time {
                next = Some(next.map_or(time, |next| next.min(time)));
            }
        }
        let expired = Timestamp::now()
            .saturating_sub(jiff::SignedDuration::from_hours(24 * KEPT_DAYS))
            .unwrap_or(Timestamp::MIN);
        self.context.store.job_expire(expired).await?;
        Ok(next)
    }

    async fn step_job(&mut self, job: JobRecord) -> Result<Option<Timestamp>, StoreError> {
        let store = self.context.store.clone();
        let row = job.row;
        let condition = match parse_condition(&job.query_condition) {
            Ok(condition) => condition,
            Err(reason) if job.status != JobStatus::Running => {
                store.job_fail(row, reason, Timestamp::now()).await?;
                return Ok(None);
            }
            // It has been parsed before it ran; the set is stored.
            Err(_) => None,
        };
        if job.status == JobStatus::Running {
            self.resume(job);
            return Ok(None);
        }
        let mut view = view(&job);
        loop {
            match plan(Timestamp::now(), &view, Devices::default()) {
                Step::Wait(until) => return Ok(Some(until)),
                Step::Schedule => {
                    store.job_schedule(row).await?;
                    view.status = JobStatus::Scheduled;
                }
                Step::Miss => {
                    let reason = "The hub was not running when the job was to start, and its maximum execution time has passed since.";
                    store.job_fail(row, reason.into(), Timestamp::now()).await?;
                    return Ok(None);
                }
                Step::Start => {
                    if let Some(devices) = store.job_start(row, condition, Timestamp::now()).await?
                    {
                        tracing::info!(job = %job.job_id, devices, "a job has started");
                        self.resume(JobRecord {
                            status: JobStatus::Running,
                            ..job
                        });
                    }
                    return Ok(None);
                }
                Step::Send { .. } | Step::Complete | Step::Nothing => return Ok(None),
            }
        }
    }

    /// Runs a job whose devices are stored, unless it is being run; then its run is told when the job has been stopped.
    fn resume(&mut self, job: JobRecord) {
        let row = job.row;
        if let Some((_, stopped)) = self.running.values().find(|(running, _)| *running == row) {
            if job.stopped {
                stopped.cancel();
            }
            return;
        }
        let stopped = CancellationToken::new();
        if job.stopped {
            stopped.cancel();
        }
        let context = Context {
            stopped: stopped.clone(),
            ..self.context.clone()
        };
        let run = self.runs.spawn(async move {
            let (store, row) = (context.store.clone(), job.row);
            let stop = context.stop.clone();
            let Err(error) = run_job(context, job).await else {
                return;
            };
            log(&error, "a job cannot go on, and ends as failed");
            let mut retry = Retry::default();
            let reason = format!("The hub could not go on with it: {error}");
            while let Err(error) = store.job_break(row, reason.clone(), Timestamp::now()).await {
                // Tried again at the next start, when the hub stops before it works.
                if stop.is_cancelled() || retry.after(error.into(), &stop).await.is_err() {
                    return;
                }
            }
        });
        self.running.insert(run.id(), (row, stopped));
    }
}

fn log(error: &(dyn std::error::Error + 'static), message: &str) {
    tracing::error!(error, "{message}");
}

async fn run_job(context: Context, mut job: JobRecord) -> Result<(), ServiceError> {
    let row = job.row;
    let name = job.job_id.clone();
    let mut retry = Retry::default();
    job.action = loop {
        match context.store.job_action(row).await {
            Ok(action) => break action,
            Err(error) => retry.after(error.into(), &context.stop).await?,
        }
        if context.stop.is_cancelled() {
            return Ok(());
        }
    };
    let finished = match job.kind {
        JobType::ScheduleUpdateTwin => twins::run(&context, &job).await?,
        _ => MethodRun::new(context.clone(), &job)?.run().await?,
    };
    if finished {
        tracing::info!(job = %name, row, "a job has ended");
    }
    Ok(())
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

fn until(time: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(Timestamp::now())).unwrap_or_default()
}

/// How a stored job looks to the plan.
pub(super) fn view(job: &JobRecord) -> Job {
    Job {
        status: job.status,
        created: job.created,
        start: job.start,
        max_execution: job.max_execution,
    }
}

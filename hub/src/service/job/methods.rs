//! One run of a method job: claim devices durably, send them their calls in slices, store what they answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use iothub_protocol::error::ErrorCode;
use iothub_protocol::job::JobStatus;
use iothub_protocol::method::MethodRequest;
use jiff::Timestamp;
use tokio::sync::Notify;

use super::plan::{Devices, Job, Step, plan};
use super::runner::{Context, view};
use super::{NOT_BEGUN, OUTCOME_UNKNOWN, UNANSWERED};
use crate::service::method::answer;
use crate::service::{PreparedCall, ServiceError};
use crate::session::{CallObserver, CallOutcome};
use crate::store::{DeviceOutcome, DeviceResult, JobRecord, JobTarget};

/// Devices that become `running` in one transaction.
const CLAIM: u64 = 1000;

/// Calls that are sent before other tasks get their turn.
const SLICE: usize = 64;

/// Outcomes that one operation stores.
const OUTCOMES: usize = 500;

/// How long a hub that stops waits for the answers that are on their way.
const DRAIN: Duration = Duration::from_secs(2);

pub(super) struct MethodRun {
    context: Context,
    row: i64,
    job: Job,
    call: PreparedCall,
    collector: Arc<Collector>,
    devices: Devices,
    next: u32,
}

impl MethodRun {
    pub(super) fn new(context: Context, job: &JobRecord) -> Result<Self, ServiceError> {
        let request: MethodRequest = serde_json::from_str(&job.action).map_err(|error| {
            ServiceError::new(
                ErrorCode::ServerError,
                format!("the job's method cannot be read back: {error}"),
            )
        })?;
        Ok(Self {
            context,
            row: job.row,
            job: Job {
                status: JobStatus::Running,
                ..view(job)
            },
            call: PreparedCall::new(&request)?,
            collector: Arc::default(),
            devices: Devices {
                pending: u64::MAX,
                in_flight: 0,
            },
            next: 0,
        })
    }

    /// Runs the job to its end. `false` when the hub stops before that.
    pub(super) async fn run(mut self) -> Result<bool, ServiceError> {
        loop {
            if self.context.stop.is_cancelled() {
                // What has not left is `pending` again, and goes on at the next start.
                self.withdraw();
                self.drain().await?;
                return Ok(false);
            }
            if self.context.stopped.is_cancelled() {
                self.devices.pending = 0;
                self.withdraw();
            }
            let outcomes = self.collector.take(OUTCOMES);
            match plan(Timestamp::now(), &self.job, self.devices) {
                Step::Send { at_most, within } => {
                    // Both in one commit, when both have something to say.
                    let (sent, ()) = tokio::try_join!(self.claim(at_most), self.store(&outcomes))?;
                    self.heard(outcomes.len());
                    self.send(sent, within).await;
                }
                Step::Complete => {
                    self.store(&outcomes).await?;
                    self.complete().await?;
                    return Ok(true);
                }
                Step::Wait(until) if outcomes.is_empty() => self.wait(until).await,
                _ => {
                    self.store(&outcomes).await?;
                    self.heard(outcomes.len());
                }
            }
        }
    }

    async fn complete(&self) -> Result<(), ServiceError> {
        let now = Timestamp::now();
        // Before the time is up, only a run that broke off has left devices unanswered.
        let unanswered = if now < self.job.ends() {
            OUTCOME_UNKNOWN
        } else {
            UNANSWERED
        };
        let store = &self.context.store;
        Ok(store
            .job_complete(self.row, NOT_BEGUN, unanswered, now)
            .await?)
    }

    async fn claim(&self, at_most: u64) -> Result<Vec<JobTarget>, ServiceError> {
        let at_most = u32::try_from(at_most.min(CLAIM)).unwrap_or(u32::MAX);
        Ok(self
            .context
            .store
            .device_job_claim(self.row, self.next, at_most, Timestamp::now())
            .await?)
    }

    async fn send(&mut self, targets: Vec<JobTarget>, within: Duration) {
        match targets.last() {
            Some(last) => self.next = last.ordinal + 1,
            None => self.devices.pending = 0,
        }
        self.devices.in_flight += targets.len() as u64;
        let mut targets = targets.into_iter().peekable();
        while targets.peek().is_some() {
            if self.context.stop.is_cancelled() || self.context.stopped.is_cancelled() {
                for target in targets {
                    self.collector.done(target.ordinal, CallOutcome::Withdrawn);
                }
                return;
            }
            for target in targets.by_ref().take(SLICE) {
                let observer: Arc<dyn CallObserver> = self.collector.clone();
                self.context.method.send(
                    self.call.to(target.device, within),
                    observer,
                    target.ordinal,
                );
            }
            tokio::task::yield_now().await;
        }
    }

    /// Takes back the calls that have not left; they end as such.
    fn withdraw(&self) {
        if !self.collector.withdrawn.swap(true, Ordering::Relaxed) {
            self.context.method.withdraw();
        }
    }

    fn heard(&mut self, outcomes: usize) {
        self.devices.in_flight = self.devices.in_flight.saturating_sub(outcomes as u64);
    }

    async fn store(&self, outcomes: &[(u32, CallOutcome)]) -> Result<(), ServiceError> {
        if outcomes.is_empty() {
            return Ok(());
        }
        let outcomes = outcomes
            .iter()
            .map(|(ordinal, outcome)| self.outcome(*ordinal, outcome.clone()))
            .collect();
        Ok(self
            .context
            .store
            .device_job_end(self.row, outcomes, Timestamp::now())
            .await?)
    }

    fn outcome(&self, ordinal: u32, outcome: CallOutcome) -> DeviceOutcome {
        self.context.method.count("job", &outcome);
        if outcome == CallOutcome::Withdrawn {
            return DeviceOutcome {
                ordinal,
                result: DeviceResult::NotSent,
            };
        }
        let result = match answer(outcome, &self.call) {
            Ok(result) => DeviceResult::Answered {
                status: result.status,
                payload: Some(
                    result
                        .payload
                        .map_or_else(|| "null".to_owned(), |payload| payload.get().to_owned()),
                ),
            },
            Err(error) => DeviceResult::Failed {
                code: error.code.name(),
                description: error.message,
            },
        };
        DeviceOutcome { ordinal, result }
    }

    /// Waits for an outcome, the time `until`, the end of the hub, or the stop of the job.
    async fn wait(&self, until: Timestamp) {
        let left = Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default();
        tokio::select! {
            () = self.collector.arrived.notified() => {}
            () = tokio::time::sleep(left) => {}
            () = self.context.stop.cancelled() => {}
            () = self.context.stopped.cancelled(), if !self.collector.withdrawn.load(Ordering::Relaxed) => {}
        }
    }

    /// Stores what still arrives. What was sent and does not answer is found `running` at the next start.
    async fn drain(&mut self) -> Result<(), ServiceError> {
        let deadline = tokio::time::Instant::now() + DRAIN;
        while self.devices.in_flight > 0 {
            let outcomes = self.collector.take(OUTCOMES);
            if outcomes.is_empty() {
                if tokio::time::timeout_at(deadline, self.collector.arrived.notified())
                    .await
                    .is_err()
                {
                    break;
                }
                continue;
            }
            self.store(&outcomes).await?;
            self.heard(outcomes.len());
        }
        Ok(())
    }
}

/// Hears of the job's calls, on whatever thread they end. Never more than the calls in flight.
#[derive(Default)]
struct Collector {
    outcomes: Mutex<Vec<(u32, CallOutcome)>>,
    arrived: Notify,
    /// Calls that have not left are not to.
    withdrawn: AtomicBool,
}

impl Collector {
    fn take(&self, at_most: usize) -> Vec<(u32, CallOutcome)> {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        let keep = outcomes.len().saturating_sub(at_most);
        outcomes.split_off(keep)
    }
}

impl CallObserver for Collector {
    fn done(&self, token: u32, outcome: CallOutcome) {
        self.outcomes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((token, outcome));
        self.arrived.notify_one();
    }

    fn is_waiting(&self) -> bool {
        !self.withdrawn.load(Ordering::Relaxed)
    }
}

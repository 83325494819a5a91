//! One run of a method job: claim devices durably, send them their calls in slices, store what they answer. While the store fails it
//! keeps what it has heard and tries again; nothing that a device said is lost to a full disk that is emptied again.

use std::sync::Arc;
use std::time::Duration;

use iothub_protocol::error::ErrorCode;
use iothub_protocol::job::JobStatus;
use iothub_protocol::method::MethodRequest;
use jiff::Timestamp;

use super::collector::{Collector, Heard};
use super::plan::{Devices, Job, Step, plan};
use super::retry::{Retry, RunClock};
use super::runner::{Context, view};
use super::{NOT_BEGUN, OUTCOME_UNKNOWN, UNANSWERED};
use crate::service::method::answer;
use crate::service::{PreparedCall, ServiceError};
use crate::session::{CallObserver, CallOutcome};
use crate::store::{Claimed, DeviceOutcome, DeviceResult, JobRecord};

/// Devices that become `running` in one transaction.
const CLAIM: u64 = 1000;

/// Calls that are sent before other tasks get their turn.
const SLICE: usize = 64;

/// Outcomes that one operation stores.
const OUTCOMES: usize = 500;

/// How long a hub that stops waits for the answers that are on their way.
const DRAIN: Duration = Duration::from_secs(2);

/// What the record of a device says whose answer could not be held until it was stored. Not one of IoT Hub's codes.
const ANSWER_DROPPED: &str = "AnswerNotKept";

pub(super) struct MethodRun {
    context: Context,
    row: i64,
    job: Job,
    clock: RunClock,
    call: PreparedCall,
    collector: Arc<Collector>,
    devices: Devices,
    next: u32,
    /// What has been heard and not been stored yet.
    unsaved: Arc<Vec<DeviceOutcome>>,
    retry: Retry,
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
            clock: RunClock::begin(Timestamp::now()),
            call: PreparedCall::new(&request)?,
            collector: Arc::default(),
            devices: Devices {
                pending: u64::MAX,
                in_flight: 0,
            },
            next: 0,
            unsaved: Arc::default(),
            retry: Retry::default(),
        })
    }

    /// Runs the job to its end. `false` when the hub stops before that. While the store fails it waits; an error is one that will not pass.
    pub(super) async fn run(mut self) -> Result<bool, ServiceError> {
        loop {
            if self.context.stop.is_cancelled() {
                // What has not left is `pending` again, and goes on at the next start.
                self.withdraw();
                self.drain().await;
                return Ok(false);
            }
            if self.context.stopped.is_cancelled() {
                self.devices.pending = 0;
                self.withdraw();
            }
            self.hear();
            match plan(self.clock.now(), &self.job, self.devices) {
                Step::Send { at_most, within } if !self.collector.is_behind() => {
                    // Both in one commit, when both have something to say.
                    let (claimed, stored) = tokio::join!(self.claim(at_most), self.store());
                    let stored = stored.map(|()| self.saved());
                    match claimed {
                        Ok(claimed) => self.send(claimed, within).await,
                        Err(error) => self.failed(error).await?,
                    }
                    if let Err(error) = stored {
                        self.failed(error).await?;
                    }
                }
                Step::Complete => match self.finish().await {
                    Ok(()) => return Ok(true),
                    Err(error) => self.failed(error).await?,
                },
                Step::Wait(until) if self.unsaved.is_empty() => self.wait(until).await,
                // Behind, and all of it taken: there is room again.
                _ if self.unsaved.is_empty() => tokio::task::yield_now().await,
                _ => match self.store().await {
                    Ok(()) => self.saved(),
                    Err(error) => self.failed(error).await?,
                },
            }
        }
    }

    /// Takes what has been heard, when what was taken before is stored.
    fn hear(&mut self) {
        if self.unsaved.is_empty() {
            let heard = self.collector.take(OUTCOMES);
            let outcomes = heard.into_iter();
            let outcomes = outcomes.map(|(ordinal, heard)| self.outcome(ordinal, heard));
            self.unsaved = Arc::new(outcomes.collect());
        }
    }

    /// Stores what has been heard. It is kept until that has succeeded.
    async fn store(&self) -> Result<(), ServiceError> {
        if self.unsaved.is_empty() {
            return Ok(());
        }
        let store = &self.context.store;
        let outcomes = Arc::clone(&self.unsaved);
        Ok(store
            .device_job_end(self.row, outcomes, Timestamp::now())
            .await?)
    }

    fn saved(&mut self) {
        let stored = std::mem::take(&mut self.unsaved).len() as u64;
        self.devices.in_flight = self.devices.in_flight.saturating_sub(stored);
        self.retry.worked();
    }

    async fn failed(&mut self, error: ServiceError) -> Result<(), ServiceError> {
        self.retry.after(error, &self.context.stop).await
    }

    async fn finish(&mut self) -> Result<(), ServiceError> {
        loop {
            self.store().await?;
            self.saved();
            self.hear();
            if self.unsaved.is_empty() {
                break;
            }
        }
        let now = self.clock.now();
        // Before the time is up, only a run that broke off has left devices unanswered.
        let unanswered = if now < self.job.ends() {
            OUTCOME_UNKNOWN
        } else {
            UNANSWERED
        };
        let store = &self.context.store;
        Ok(store
            .job_complete(self.row, NOT_BEGUN, unanswered, Timestamp::now())
            .await?)
    }

    async fn claim(&self, at_most: u64) -> Result<Claimed, ServiceError> {
        let at_most = u32::try_from(at_most.min(CLAIM)).unwrap_or(u32::MAX);
        let store = &self.context.store;
        Ok(store
            .device_job_claim(self.row, self.next, at_most, Timestamp::now())
            .await?)
    }

    async fn send(&mut self, claimed: Claimed, within: Duration) {
        match claimed.next {
            Some(next) => self.next = next,
            None => self.devices.pending = 0,
        }
        let targets = claimed.targets;
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
        if self.collector.withdraw() {
            self.context.method.withdraw();
        }
    }

    fn outcome(&self, ordinal: u32, heard: Heard) -> DeviceOutcome {
        let result = match heard {
            Heard::Dropped { status, bytes } => DeviceResult::Failed {
                code: ANSWER_DROPPED,
                description: format!(
                    "The device answered with status {status} and {bytes} bytes, which could not be kept: answers came faster than they could be stored."
                ),
            },
            Heard::Outcome(outcome) => {
                self.context.method.count("job", &outcome);
                self.result(outcome)
            }
        };
        DeviceOutcome { ordinal, result }
    }

    fn result(&self, outcome: CallOutcome) -> DeviceResult {
        if outcome == CallOutcome::Withdrawn {
            return DeviceResult::NotSent;
        }
        match answer(outcome, &self.call) {
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
        }
    }

    /// Waits for an outcome, the time `until`, the end of the hub, or the stop of the job.
    async fn wait(&self, until: Timestamp) {
        tokio::select! {
            () = self.collector.arrived() => {}
            () = tokio::time::sleep(self.clock.until(until)) => {}
            () = self.context.stop.cancelled() => {}
            () = self.context.stopped.cancelled(), if !self.collector.is_withdrawn() => {}
        }
    }

    /// Stores what still arrives. What was sent and does not answer is found `running` at the next start, and so is what cannot be stored now.
    async fn drain(&mut self) {
        let deadline = tokio::time::Instant::now() + DRAIN;
        while self.devices.in_flight > 0 {
            self.hear();
            if self.unsaved.is_empty() {
                let arrived = tokio::time::timeout_at(deadline, self.collector.arrived());
                if arrived.await.is_err() {
                    return;
                }
                continue;
            }
            if let Err(error) = self.store().await {
                let error = &error as &dyn std::error::Error;
                tracing::error!(
                    error,
                    "what devices answered at the last could not be stored"
                );
                return;
            }
            self.saved();
        }
    }
}

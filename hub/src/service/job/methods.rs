//! One run of a method job: claim devices durably, send them their calls in slices, store what they answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use iothub_protocol::method::MethodRequest;

use super::collector::{Collector, Heard};
use super::plan::{Devices, RunStep, plan_run};
use super::retry::Retry;
use super::runner::Context;
use super::{NOT_BEGUN, OUTCOME_UNKNOWN, UNANSWERED};
use crate::service::PreparedCall;
use crate::service::method::answer;
use crate::session::{CallObserver, CallOutcome};
use crate::store::{Claimed, DeviceOutcome, DeviceResult, StoreError};

/// Devices that become `running` in one transaction.
const CLAIM: u64 = 1000;

/// Calls that are sent before other tasks get their turn.
const SLICE: usize = 64;

/// Outcomes that one operation stores.
const OUTCOMES: usize = 500;

/// How long a hub that stops waits for the answers that are on their way, and for the store to take them.
const DRAIN: Duration = Duration::from_secs(2);

pub(super) struct MethodRun {
    context: Context,
    row: i64,
    ends: Instant,
    call: PreparedCall,
    collector: Arc<Collector>,
    devices: Devices,
    next: u32,
    /// Taken from the collector, and not on disk yet.
    unstored: Arc<[DeviceOutcome]>,
    retry: Retry,
}

impl MethodRun {
    /// A run of the job in `row`, which ends at `ends`. The error is why it can never run.
    pub(super) fn new(
        context: Context,
        row: i64,
        action: &str,
        ends: Instant,
    ) -> Result<Self, String> {
        let request: MethodRequest = serde_json::from_str(action)
            .map_err(|error| format!("the job's method cannot be read back: {error}"))?;
        Ok(Self {
            context,
            row,
            ends,
            call: PreparedCall::stored(&request).map_err(|error| error.to_string())?,
            collector: Arc::default(),
            devices: Devices {
                pending: u64::MAX,
                ..Devices::default()
            },
            next: 0,
            unstored: Arc::new([]),
            retry: Retry::default(),
        })
    }

    /// Runs the job to its end. `false` when the hub stops before that.
    pub(super) async fn run(mut self) -> bool {
        loop {
            if self.context.stop.is_cancelled() {
                // What has not left is `pending` again, and goes on at the next start.
                self.withdraw();
                self.drain().await;
                return false;
            }
            if self.context.stopped.is_cancelled() {
                self.devices.pending = 0;
                self.withdraw();
            }
            match self.step().await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) => {
                    if self.context.failed(&mut self.retry, self.row, &error).await {
                        self.withdraw();
                        return true;
                    }
                }
            }
        }
    }

    /// Does what is next. Whether the job has ended.
    async fn step(&mut self) -> Result<bool, StoreError> {
        self.collect();
        match plan_run(self.context.clock.steady(), self.ends, self.devices) {
            // As long as the store refuses what has happened, nothing more is to happen.
            RunStep::Send { .. } if self.retry.is_failing() && self.devices.held > 0 => {
                self.store().await?;
            }
            RunStep::Send { at_most, within } => self.send_next(at_most, within).await?,
            RunStep::Store => self.store().await?,
            RunStep::Wait(until) => self.wait(until).await,
            RunStep::Complete => {
                self.complete().await?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes what has arrived to where it is stored from.
    fn collect(&mut self) {
        if self.unstored.is_empty() {
            let heard = self.collector.take(OUTCOMES);
            self.unstored = heard
                .into_iter()
                .map(|(ordinal, heard)| self.outcome(ordinal, heard))
                .collect();
        }
        let (waiting, bytes) = self.collector.held();
        self.devices.held = (self.unstored.len() + waiting) as u64;
        self.devices.held_bytes = bytes;
    }

    async fn complete(&self) -> Result<(), StoreError> {
        let clock = &self.context.clock;
        // Before the time is up, only a run that broke off has left devices unanswered.
        let unanswered = if clock.steady() < self.ends {
            OUTCOME_UNKNOWN
        } else {
            UNANSWERED
        };
        let store = &self.context.store;
        store
            .job_complete(self.row, NOT_BEGUN, unanswered, clock.wall())
            .await
    }

    /// Claims and sends, and stores what has been heard: both in one commit, when both have something to say.
    async fn send_next(&mut self, at_most: u64, within: Duration) -> Result<(), StoreError> {
        let (claimed, stored) = tokio::join!(self.claim(at_most), self.write_outcomes());
        if stored.is_ok() {
            self.stored();
        }
        // What is claimed is sent, also when the other failed: it says `running` on disk.
        let claimed = match claimed {
            Ok(claim) => {
                self.send(claim, within).await;
                Ok(())
            }
            Err(error) => Err(error),
        };
        stored.and(claimed)?;
        self.retry.worked();
        Ok(())
    }

    async fn claim(&self, at_most: u64) -> Result<Claimed, StoreError> {
        let at_most = u32::try_from(at_most.min(CLAIM)).unwrap_or(u32::MAX);
        self.context
            .store
            .device_job_claim(self.row, self.next, at_most, self.context.clock.wall())
            .await
    }

    async fn send(&mut self, claim: Claimed, within: Duration) {
        match claim.next {
            Some(next) => self.next = next,
            None => self.devices.pending = 0,
        }
        let targets = claim.targets;
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

    /// What was not stored is.
    fn stored(&mut self) {
        let count = self.unstored.len() as u64;
        self.devices.in_flight = self.devices.in_flight.saturating_sub(count);
        self.unstored = Arc::new([]);
    }

    async fn store(&mut self) -> Result<(), StoreError> {
        self.write_outcomes().await?;
        self.stored();
        self.retry.worked();
        Ok(())
    }

    async fn write_outcomes(&self) -> Result<(), StoreError> {
        if self.unstored.is_empty() {
            return Ok(());
        }
        let outcomes = Arc::clone(&self.unstored);
        self.context
            .store
            .device_job_end(self.row, outcomes, self.context.clock.wall())
            .await
    }

    fn outcome(&self, ordinal: u32, heard: Heard) -> DeviceOutcome {
        let outcome = match heard {
            Heard::Whole(outcome) => outcome,
            Heard::Cut(result) => return DeviceOutcome { ordinal, result },
        };
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
    async fn wait(&self, until: Instant) {
        tokio::select! {
            () = self.collector.arrived.notified() => {}
            () = tokio::time::sleep_until(until.into()) => {}
            () = self.context.stop.cancelled() => {}
            () = self.context.stopped.cancelled(), if !self.collector.withdrawn.load(Ordering::Relaxed) => {}
        }
    }

    /// Stores what still arrives. What was sent and does not answer is found `running` at the next start.
    async fn drain(&mut self) {
        let deadline = tokio::time::Instant::now() + DRAIN;
        while self.devices.in_flight > 0 {
            self.collect();
            let progress = async {
                if self.unstored.is_empty() {
                    self.collector.arrived.notified().await;
                } else if let Err(error) = self.store().await {
                    let again = self.retry.failed(error.is_lasting(), Instant::now());
                    tokio::time::sleep(again.after).await;
                }
            };
            if tokio::time::timeout_at(deadline, progress).await.is_err() {
                break;
            }
        }
        self.collect();
        if self.devices.held > 0 {
            tracing::error!(
                job = self.row,
                answers = self.devices.held,
                "the hub stops before it could store these answers; their outcome will be unknown"
            );
        }
    }
}

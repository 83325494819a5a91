//! One run of a method job: claim connected devices durably, send them their calls in slices, store
//! their answers. An offline device stays `pending` until it connects: its row becomes `running`
//! only just before its call is sent.
//!
//! Why: docs/decisions/0010-at-most-once.md.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use iothub_protocol::id::DeviceId;
use iothub_protocol::method::MethodRequest;

use super::collector::{CollectedOutcome, Collector, OfflineObserver};
use super::plan::{Progress, RunStep, plan_run};
use super::retry::Retry;
use super::runner::RunContext;
use super::{NOT_REACHED, OUTCOME_UNKNOWN, UNANSWERED};
use crate::service::PreparedCall;
use crate::service::method::answer;
use crate::session::{CallObserver, CallOutcome};
use crate::store::{ClaimRequest, ClaimedDevices, DeviceOutcome, DeviceResult, StoreError};

/// Rows that become `running` in one transaction.
const CLAIM_SIZE: usize = 1000;

/// Calls that are sent before the task yields.
const SEND_SLICE: usize = 64;

/// Outcomes stored by one operation.
const STORE_BATCH: usize = 500;

/// How long a stopping hub waits for the answers in flight and for the store to write them.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct MethodRun {
    context: RunContext,
    row: i64,
    deadline: Instant,
    call: PreparedCall,
    collector: Arc<Collector>,
    devices: Progress,
    next: u32,
    /// Devices that have connected after a wait; they are claimed next.
    online: Vec<u32>,
    /// The connect deadlines of devices that were offline.
    connect_by: HashMap<u32, Instant>,
    /// Outcomes taken from the collector that are not on disk yet.
    unstored: Arc<[DeviceOutcome]>,
    retry: Retry,
}

impl MethodRun {
    /// A run of the job in `row`, which ends at `deadline`. The error says why it can never run.
    pub(super) fn new(
        context: RunContext,
        row: i64,
        action: &str,
        deadline: Instant,
    ) -> Result<Self, String> {
        let request: MethodRequest = serde_json::from_str(action)
            .map_err(|error| format!("cannot read the job's stored method: {error}"))?;
        Ok(Self {
            context,
            row,
            deadline,
            call: PreparedCall::from_stored(&request).map_err(|error| error.to_string())?,
            collector: Arc::default(),
            devices: Progress {
                pending: u64::MAX,
                ..Progress::default()
            },
            next: 0,
            online: Vec::new(),
            connect_by: HashMap::new(),
            unstored: Arc::new([]),
            retry: Retry::default(),
        })
    }

    /// Runs the job to its end. `false` when the hub stops first.
    pub(super) async fn run(mut self) -> bool {
        loop {
            if self.context.stop.is_cancelled() {
                // Calls that are not sent yet become `pending` again and resume at the next start.
                self.withdraw();
                self.drain().await;
                return false;
            }
            if self.context.job_stop.is_cancelled() {
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

    /// Runs the next step. Returns whether the job has ended.
    async fn step(&mut self) -> Result<bool, StoreError> {
        self.collect();
        match plan_run(self.context.clock.monotonic(), self.deadline, self.devices) {
            // While the store rejects outcomes, nothing more is sent.
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

    /// Moves outcomes from the collector to `unstored`.
    fn collect(&mut self) {
        if self.unstored.is_empty() {
            let outcomes = self.collector.take(STORE_BATCH);
            self.unstored = outcomes
                .into_iter()
                .map(|(ordinal, outcome)| self.outcome(ordinal, outcome))
                .collect();
        }
        let (waiting, bytes) = self.collector.held();
        self.devices.held = (self.unstored.len() + waiting) as u64;
        self.devices.held_bytes = bytes;
        let online = self.collector.take_online();
        self.devices.waiting = self.devices.waiting.saturating_sub(online.len() as u64);
        self.online.extend(online);
        if self.is_withdrawn() {
            self.online.clear();
            self.devices.waiting = 0;
            self.devices.pending = 0;
        }
        self.devices.online = self.online.len() as u64;
    }

    fn is_withdrawn(&self) -> bool {
        self.collector.withdrawn.load(Ordering::Relaxed)
    }

    async fn complete(&self) -> Result<(), StoreError> {
        let clock = &self.context.clock;
        // Before the deadline, only an interrupted run leaves devices unanswered.
        let unanswered = if clock.monotonic() < self.deadline {
            OUTCOME_UNKNOWN
        } else {
            UNANSWERED
        };
        let store = &self.context.store;
        store
            .job_complete(self.row, NOT_REACHED, unanswered, clock.wall_time())
            .await
    }

    /// Claims and sends, and stores outcomes; if there is work for both, they share a commit.
    async fn send_next(&mut self, at_most: u64, within: Duration) -> Result<(), StoreError> {
        let count = CLAIM_SIZE.min(self.online.len());
        let (claimed, stored) = tokio::join!(self.claim(at_most), self.write_outcomes());
        if claimed.is_ok() {
            // Before more devices connect, which are claimed next.
            self.online.drain(..count);
        }
        if stored.is_ok() {
            self.mark_stored();
        }
        // Send every claimed call, even if storing failed: its row is `running` on disk.
        let claimed = match claimed {
            Ok(claim) => {
                self.send(claim, within).await;
                Ok(())
            }
            Err(error) => Err(error),
        };
        stored.and(claimed)?;
        self.retry.succeeded();
        Ok(())
    }

    async fn claim(&self, at_most: u64) -> Result<ClaimedDevices, StoreError> {
        let ordinals: Vec<u32> = self.online.iter().take(CLAIM_SIZE).copied().collect();
        let room = at_most.min((CLAIM_SIZE - ordinals.len()) as u64);
        let claim = ClaimRequest {
            ordinals,
            from: self.next,
            at_most: u32::try_from(room).unwrap_or(u32::MAX),
        };
        let (method, name) = (self.context.method.clone(), self.call.method().clone());
        let is_online = move |device: &DeviceId| method.is_online_for(device, &name);
        let RunContext { store, clock, .. } = &self.context;
        store
            .device_job_claim(self.row, claim, is_online, clock.wall_time())
            .await
    }

    async fn send(&mut self, claim: ClaimedDevices, within: Duration) {
        match claim.next {
            Some(next) => self.next = next,
            None => self.devices.pending = 0,
        }
        self.devices.in_flight += claim.targets.len() as u64;
        let mut targets = claim.targets.into_iter().peekable();
        while targets.peek().is_some() {
            if self.is_stopping() {
                for target in targets {
                    self.collector.done(target.ordinal, CallOutcome::Withdrawn);
                }
                return;
            }
            for target in targets.by_ref().take(SEND_SLICE) {
                let observer: Arc<dyn CallObserver> = self.collector.clone();
                // A claimed call is sent at once; if its device has just disconnected, it waits
                // again.
                let call = self.call.to(target.device, Duration::ZERO);
                self.context.method.send(call, observer, target.ordinal);
            }
            tokio::task::yield_now().await;
        }
        let mut offline = claim.offline.into_iter().peekable();
        while offline.peek().is_some() && !self.is_stopping() {
            for target in offline.by_ref().take(SEND_SLICE) {
                let now = Instant::now();
                let latest = now + self.call.connect_timeout().min(within);
                let connect_by = *self.connect_by.entry(target.ordinal).or_insert(latest);
                let left = connect_by.saturating_duration_since(now);
                let observer = Arc::new(OfflineObserver(Arc::clone(&self.collector)));
                let call = self.call.to(target.device, left);
                self.devices.waiting += 1;
                self.context.method.wait(call, observer, target.ordinal);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Whether sending has stopped.
    fn is_stopping(&self) -> bool {
        self.context.stop.is_cancelled() || self.context.job_stop.is_cancelled()
    }

    /// Withdraws the calls that are not sent yet; they end as `Withdrawn`.
    fn withdraw(&self) {
        if !self.collector.withdrawn.swap(true, Ordering::Relaxed) {
            self.context.method.withdraw();
        }
    }

    /// Accounts for `unstored`, which is on disk now.
    fn mark_stored(&mut self) {
        for outcome in std::mem::replace(&mut self.unstored, Arc::new([])).iter() {
            let count = if outcome.claimed {
                &mut self.devices.in_flight
            } else {
                &mut self.devices.waiting
            };
            *count = count.saturating_sub(1);
            if matches!(outcome.result, DeviceResult::NotSent) {
                // The device disconnected between claim and call: it is `pending` and waits again.
                self.online.push(outcome.ordinal);
            } else {
                self.connect_by.remove(&outcome.ordinal);
            }
        }
    }

    async fn store(&mut self) -> Result<(), StoreError> {
        self.write_outcomes().await?;
        self.mark_stored();
        self.retry.succeeded();
        Ok(())
    }

    async fn write_outcomes(&self) -> Result<(), StoreError> {
        if self.unstored.is_empty() {
            return Ok(());
        }
        let outcomes = Arc::clone(&self.unstored);
        self.context
            .store
            .device_job_end(self.row, outcomes, self.context.clock.wall_time())
            .await
    }

    fn outcome(&self, ordinal: u32, outcome: CollectedOutcome) -> DeviceOutcome {
        let (outcome, claimed) = match outcome {
            CollectedOutcome::Complete(outcome) => (outcome, true),
            CollectedOutcome::NeverOnline(outcome) => (outcome, false),
            CollectedOutcome::Truncated(result) => {
                return DeviceOutcome {
                    ordinal,
                    claimed: true,
                    result,
                };
            }
        };
        let not_sent = matches!(
            outcome,
            CallOutcome::Withdrawn | CallOutcome::NotOnline { .. }
        );
        if claimed && not_sent {
            return DeviceOutcome {
                ordinal,
                claimed,
                result: DeviceResult::NotSent,
            };
        }
        self.context.method.count("job", &outcome);
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
        DeviceOutcome {
            ordinal,
            claimed,
            result,
        }
    }

    /// Waits for an outcome, the time `until`, the hub's stop or the job's stop.
    async fn wait(&self, until: Instant) {
        tokio::select! {
            () = self.collector.arrived.notified() => {}
            () = tokio::time::sleep_until(until.into()) => {}
            () = self.context.stop.cancelled() => {}
            () = self.context.job_stop.cancelled(), if !self.is_withdrawn() => {}
        }
    }

    /// Stores the outcomes that still arrive. The row of a call without an answer stays `running`;
    /// the next start finds it.
    async fn drain(&mut self) {
        let deadline = tokio::time::Instant::now() + DRAIN_TIMEOUT;
        self.collect();
        while self.devices.in_flight + self.devices.held > 0 {
            let progress = async {
                if self.unstored.is_empty() {
                    self.collector.arrived.notified().await;
                } else if let Err(error) = self.store().await {
                    let attempt = self.retry.failed(error.is_permanent(), Instant::now());
                    tokio::time::sleep(attempt.after).await;
                }
            };
            if tokio::time::timeout_at(deadline, progress).await.is_err() {
                break;
            }
            self.collect();
        }
        if self.devices.held > 0 {
            tracing::error!(
                job = self.row,
                answers = self.devices.held,
                "the hub stopped before it could store these answers; \
                 their outcome will be unknown"
            );
        }
    }
}

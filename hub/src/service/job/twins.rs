//! One run of a twin job. Each twin changes in the transaction that ends its row, so a crash loses
//! nothing in between.

use std::sync::Arc;
use std::time::{Duration, Instant};

use iothub_protocol::twin::TwinPatch;

use super::NOT_REACHED;
use super::plan::{Progress, RunStep, plan_run};
use super::retry::Retry;
use super::runner::RunContext;
use crate::service::{ServiceError, twin};
use crate::store::StoreError;

/// Twins in one transaction; few enough that the writer is free for others after a few
/// milliseconds.
const UPDATE_SLICE: u32 = 25;

/// How long a slice waits for direct calls to end. Notifications and their acknowledgements keep
/// the processor busy, and somebody waits for each of those calls.
const PATIENCE: Duration = Duration::from_millis(20);

pub(super) struct TwinRun {
    context: RunContext,
    row: i64,
    deadline: Instant,
    patch: Arc<TwinPatch>,
    devices: Progress,
    next: u32,
    retry: Retry,
}

impl TwinRun {
    /// A run of the job in `row`, which ends at `deadline`. The error says why it can never run.
    pub(super) fn new(
        context: RunContext,
        row: i64,
        action: &str,
        deadline: Instant,
    ) -> Result<Self, String> {
        let patch = serde_json::from_str(action)
            .map_err(|error| format!("cannot read the job's stored update: {error}"))?;
        Ok(Self {
            context,
            row,
            deadline,
            patch: Arc::new(patch),
            devices: Progress {
                pending: u64::MAX,
                ..Progress::default()
            },
            next: 0,
            retry: Retry::default(),
        })
    }

    /// Runs the job to its end. `false` when the hub stops first.
    pub(super) async fn run(mut self) -> bool {
        while !self.context.stop.is_cancelled() {
            match self.step().await {
                Ok(true) => return true,
                Ok(false) => self.retry.succeeded(),
                Err(error) => {
                    if self.context.failed(&mut self.retry, self.row, &error).await {
                        return true;
                    }
                }
            }
        }
        false
    }

    /// Runs the next step. Returns whether the job has ended.
    async fn step(&mut self) -> Result<bool, StoreError> {
        let RunContext { clock, store, .. } = &self.context;
        let now = clock.wall_time();
        let RunStep::Send { .. } = plan_run(clock.monotonic(), self.deadline, self.devices) else {
            store
                .job_complete(self.row, NOT_REACHED, NOT_REACHED, now)
                .await?;
            return Ok(true);
        };
        let patch = Arc::clone(&self.patch);
        let update = move |record: &mut _| {
            twin::merge(record, &patch, now)
                .map_err(|error: ServiceError| (error.code.name(), error.message))
        };
        match store
            .device_job_update_twins(self.row, self.next, UPDATE_SLICE, now, update)
            .await?
        {
            Some(after) => {
                self.next = after;
                self.context.method.no_direct_calls(PATIENCE).await;
            }
            None => self.devices.pending = 0,
        }
        Ok(false)
    }
}
